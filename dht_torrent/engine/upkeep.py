"""What a node does from time to time: saves the DHT's contacts, closes files and gives back memory
that are not in use any more. Each function runs until cancelled."""

from __future__ import annotations

import logging

import trio

from dht_torrent.engine.torrent.context import NodeContext
from dht_torrent.errors import StorageError

logger = logging.getLogger(__name__)

SPARE_DESCRIPTORS = 8
"""Descriptors kept free, by closing files of torrents, however many others use ..."""
SPARE_INTERVAL = 1.0
"""... as of a look each so many seconds."""
TRIM_INTERVAL = 20.0
"""Seconds in which a spare buffer must be of use, or it is given up."""
DHT_SAVE_INTERVAL = 15 * 60.0
"""Seconds between two saves of the DHT's contacts."""


class DhtSaving:
    """Keeps the DHT's contacts in the state directory, for the next start."""

    def __init__(self, context: NodeContext) -> None:
        self.failed: StorageError | None = None
        """Why the last save did not succeed."""
        self._context = context

    async def run(self) -> None:
        """Save each `DHT_SAVE_INTERVAL`; returns at once where nothing is kept."""
        while self._context.state is not None:
            await trio.sleep(DHT_SAVE_INTERVAL)
            await self.save()

    def unsaved(self) -> list[str]:
        """What would be lost at a restart, in a line at most."""
        if self.failed is None:
            return []
        return [f"the DHT's contacts cannot be saved: {self.failed}"]

    async def save(self) -> None:
        """Save now, if there is a state directory. A failure is told in `failed`."""
        state = self._context.state
        if state is None:
            return
        contacts = [(dht.state(), dht.address.is_ipv6) for dht in self._context.dht]

        def write() -> None:
            for known, ipv6 in contacts:
                state.save_dht(known, ipv6)

        try:
            await self._context.disk.run(write)
            self.failed = None
        except StorageError as error:
            self.failed = error
            logger.warning("could not save the DHT's contacts: %s", error)


async def keep_descriptors(context: NodeContext) -> None:
    """Close unused files, and keep a few descriptors free for the control socket
    and the program around us, which cannot ask for them."""
    pool, config = context.descriptors, context.config.disk
    swept = trio.current_time()
    while not config.inline:  # then there is no time to speak of, and mostly there are no files
        await trio.sleep(SPARE_INTERVAL)
        pool.keep_spare(SPARE_DESCRIPTORS)
        if trio.current_time() - swept >= config.idle_file_time:
            swept = trio.current_time()
            pool.sweep()


async def trim_buffers(context: NodeContext) -> None:
    """Give back memory that no download and no upload needs any more."""
    while True:
        await trio.sleep(TRIM_INTERVAL)
        context.piece_memory.spare.trim()
        context.send_buffers.trim()
