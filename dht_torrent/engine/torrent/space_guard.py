"""Downloads stand still before their disk is full, and go on when there is room again.

The rule: what stays free is `NodeRules.min_free`; who stands still goes on only when there is a
quarter more, so that nothing flutters.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from dht_torrent.engine.torrent.context import NodeContext
from dht_torrent.engine.torrent.core import TorrentCore
from dht_torrent.engine.torrent.supervisor import Supervisor
from dht_torrent.ids import InfoHash
from dht_torrent.syscalls import free_space

logger = logging.getLogger(__name__)

AGAIN: Final = 1.25
"""So much of what is to stay free must be free for those who stand still."""


class SpaceGuard:
    """Of all torrents of a node."""

    def __init__(self, context: NodeContext, supervisors: Mapping[InfoHash, Supervisor]) -> None:
        self._context = context
        self._supervisors = supervisors

    async def look(self, least: int) -> None:
        """`least` bytes are to stay free."""
        cores = [one.core for one in self._supervisors.values() if _is_download(one.core)]
        free: Mapping[Path, int | None] = {}
        if least and cores:
            folders = {core.place.root for core in cores}
            free = await self._context.disk.run(_free_in, folders)
        for core in cores:
            room = free.get(core.place.root)
            enough = least if core.no_room is None else least * AGAIN
            short = room is not None and room < enough
            if short == (core.no_room is not None) or core.gone:
                continue
            core.no_room = None
            if short:
                core.no_room = (
                    f"{core.place.root}: {room} bytes are free, and {least} are to stay so; goes "
                    "on by itself when there is room"
                )
            logger.info("%s: %s", core.name, core.no_room or "there is room again")
            core.attempt.cancel()


def _is_download(core: TorrentCore) -> bool:
    """Does it write, or would it if it could?"""
    if core.no_room is not None:
        return True
    if core.is_all_here or core.paused or core.place.shared:
        return False
    return core.content is not None and core.content.in_files


def _free_in(folders: Iterable[Path]) -> dict[Path, int | None]:
    """Bytes that are free there; None where nobody knows. Blocking."""
    found = {}
    for folder in folders:
        there = folder
        while not there.exists() and there != there.parent:
            there = there.parent
        try:
            found[folder] = free_space(there)
        except OSError:
            found[folder] = None
    return found
