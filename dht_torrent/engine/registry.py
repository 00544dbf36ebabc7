"""The torrents of a node: each runs in a task and a cancel scope of its own, until it is removed.

What a torrent's end does to others is nothing: its task is confined, its announces are withdrawn,
and its name is free again when `remove` returns.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import trio

from dht_torrent.engine.resume import Resume
from dht_torrent.engine.torrent.context import LocalContent, NodeContext
from dht_torrent.engine.torrent.supervisor import Supervisor
from dht_torrent.engine.torrent.torrent import Torrent
from dht_torrent.engine.views import Removal, counted
from dht_torrent.errors import InputError
from dht_torrent.ids import InfoHash
from dht_torrent.magnet import Magnet
from dht_torrent.metainfo import Metainfo, from_info
from dht_torrent.peer.mse import request_hash

RECORD_PATIENCE = 5.0
"""Seconds that adding a torrent waits for its record to be written, to say so if it cannot be."""


class Registry:
    """All torrents of a node, by infohash, in the order they were added."""

    def __init__(self, context: NodeContext, nursery: trio.Nursery) -> None:
        """The torrents run in `nursery`."""
        self.torrents: Mapping[InfoHash, Torrent]
        self._torrents: dict[InfoHash, Torrent] = {}
        self.torrents = MappingProxyType(self._torrents)
        self.supervisors: dict[InfoHash, Supervisor] = {}
        """What runs them."""
        self._requested: dict[bytes, InfoHash] = {}  # how an MSE handshake names them
        self.warnings: list[str] = []
        """Of records that could not be restored, a line each."""
        self._context = context
        self._nursery = nursery
        self._scopes: dict[InfoHash, tuple[trio.CancelScope, trio.Event]] = {}
        context.remove = self.remove
        context.contents = self._contents

    def find(self, prefix: str) -> Torrent:
        """The torrent whose hex id begins with `prefix`. Raises InputError if none or many do."""
        wanted = prefix.lower()
        if len(wanted) < 4:
            raise InputError(f"give at least 4 characters of the id, not {prefix!r}")
        found = [t for t in self._torrents.values() if t.id.startswith(wanted)]
        if not found:
            raise InputError(f"no such torrent: {prefix}")
        if len(found) > 1:
            raise InputError(f"{prefix} could mean {len(found)} torrents; give more of the id")
        return found[0]

    def _contents(self) -> list[LocalContent]:
        """What all torrents have on this disk."""
        found = []
        for supervisor in self.supervisors.values():
            core = supervisor.core
            path = core.place.path(core.metainfo)
            if core.metainfo is not None and path is not None:
                have = core.content.have if core.content is not None else None
                found.append(LocalContent(core.place.named(core.metainfo), path, have))
        return found

    def requested(self, request: bytes) -> InfoHash | None:
        """The torrent that an MSE handshake names so, if connections are made for it now."""
        info_hash = self._requested.get(request)
        if info_hash is None:
            return None
        core = self.supervisors[info_hash].core
        return info_hash if core.connections.admits and not core.context.is_ssl else None

    async def add(self, supervisor: Supervisor) -> Torrent:
        """Run a torrent, which must not be here yet. Returns when its record was written, or
        `RECORD_PATIENCE` has passed. Raises InputError if an SSL torrent has nowhere to listen."""
        if supervisor.core.context.identity is not None:
            await self._context.open_tls()
        torrent = Torrent(supervisor)
        scope, ended = trio.CancelScope(), trio.Event()

        async def own() -> None:
            faults = self._context.faults
            try:
                with scope, faults.confined(f"the end of torrent {torrent.id[:8]}"):
                    try:
                        await supervisor.run()
                    finally:
                        self._context.dht.withdraw(torrent.info_hash)
            finally:
                self._torrents.pop(torrent.info_hash, None)
                self.supervisors.pop(torrent.info_hash, None)
                self._scopes.pop(torrent.info_hash, None)
                self._requested.pop(request_hash(torrent.info_hash), None)
                ended.set()

        self._torrents[torrent.info_hash] = torrent
        self.supervisors[torrent.info_hash] = supervisor
        self._scopes[torrent.info_hash] = (scope, ended)
        self._requested[request_hash(torrent.info_hash)] = torrent.info_hash
        self._nursery.start_soon(own, name=f"torrent {torrent.id[:8]}")
        await trio.lowlevel.checkpoint()
        if torrent.warning is None and self._context.state is not None:
            with trio.move_on_after(RECORD_PATIENCE):
                await supervisor.record.tried.wait()
        return torrent

    async def remove(self, info_hash: InfoHash, delete_data: bool) -> Removal:
        """Stop and forget a torrent; see `Node.remove`."""
        supervisor = self.supervisors.get(info_hash)
        if supervisor is None:
            raise InputError(f"no such torrent: {info_hash.hex()}")
        scope, ended = self._scopes[info_hash]
        await supervisor.record.forget()
        scope.cancel()
        await ended.wait()
        if self._context.removed is not None:
            await self._context.removed(info_hash)
        return await supervisor.delete(data=delete_data)

    async def refuse_unfinished(self, path: Path, info_hash: InfoHash) -> None:
        """Raises InputError if a download of something else is still writing at `path`."""

        def real(paths: Sequence[Path]) -> list[Path]:
            return [Path(os.path.realpath(one)) for one in paths]

        busy = [
            torrent
            for torrent in self._torrents.values()
            if torrent.state == "downloading" and torrent.info_hash != info_hash
        ]
        here, *theirs = await self._context.disk.run(
            real, [path, *(t.path for t in busy if t.path)]
        )
        for torrent, there in zip(busy, theirs, strict=True):
            if here.is_relative_to(there) or there.is_relative_to(here):
                raise InputError(
                    f"{path} is being downloaded, as {torrent.name} ({torrent.id[:8]}); share it "
                    "when that is complete"
                )

    def unsaved(self) -> list[str]:
        """Whose record cannot be written, and would be lost at a restart, in a line or two."""
        lost = [one for one in self.supervisors.values() if one.record.warning]
        told = [f"{one.core.name}: {one.record.warning}" for one in lost[:1]]
        if len(lost) > 1:
            told.append(f"the same is true of {counted(len(lost) - 1, 'more torrent')}")
        return told

    async def restore(self, records: Sequence[Resume]) -> None:
        """Run the torrents of an earlier run again. A record that cannot be used is a warning."""
        restored: list[Supervisor] = []
        for record in records:
            with self._context.faults.confined(
                f"restoring torrent {record.info_hash.hex()[:8]}", ends=self.warnings.append
            ):
                restored += await self._restored(record)

        def locate() -> None:
            for one in restored:
                one.core.place.locate(one.core.metainfo)

        # Before any of them runs: whose a file is does not depend on who comes first.
        await self._context.disk.run(locate)
        for one in restored:
            one.core.place.hold()
        for one in restored:
            try:
                await self.add(one)
            except InputError as error:
                self.warnings.append(f"{one.core.name}: {error}")

    async def _restored(self, record: Resume) -> list[Supervisor]:
        """The torrent of this record, or nothing but a warning."""
        try:
            magnet = Magnet.parse(record.magnet)
            metainfo = await self._remembered(record)
        except InputError as error:
            self.warnings.append(f"resume record {record.info_hash.hex()}: {error}")
            return []
        return [
            Supervisor(
                self._context,
                magnet,
                record.content,
                metainfo=metainfo,
                shared=record.shared,
                resume=record,
                select=record.select,
                sequential=record.sequential,
            )
        ]

    async def _remembered(self, record: Resume) -> Metainfo | None:
        if record.info is None:
            return None
        # What the user shares lies on disk under its own names, however awkward.
        return await self._context.disk.run(
            from_info, record.info, info_hash=record.info_hash, as_written=record.shared
        )
