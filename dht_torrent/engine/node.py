"""A running node: a DHT and a listening port for each address family, any number of torrents, one
nursery over all.

A peer's, a contact's or a disk's fault never gets here, nor a bug of ours that has a smaller owner
(see `faults`); what does get here ends the nursery as a whole.
"""

from __future__ import annotations

import logging
import os
import random
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType

import trio

import dht_torrent
from dht_torrent import given
from dht_torrent.config import Config
from dht_torrent.engine.budget import divide
from dht_torrent.engine.dht.dual_stack import DualStack
from dht_torrent.engine.dht.node import Dht
from dht_torrent.engine.faults import Faults
from dht_torrent.engine.net.ports import listen
from dht_torrent.engine.net.protocols import Listener, Network
from dht_torrent.engine.net.protocols import Stream as NetStream
from dht_torrent.engine.net.sockets import RealNetwork
from dht_torrent.engine.resume import Resume
from dht_torrent.engine.state import StateDir
from dht_torrent.engine.torrent.content import hash_content
from dht_torrent.engine.torrent.context import NodeContext, OpenStorage
from dht_torrent.engine.torrent.disk import Disk
from dht_torrent.engine.torrent.handshake import receive_handshake
from dht_torrent.engine.torrent.rate_limits import Limits, NewRate
from dht_torrent.engine.torrent.torrent import Torrent
from dht_torrent.engine.views import NodeStatus, Removal
from dht_torrent.errors import InputError, PeerProtocolError, StorageError
from dht_torrent.given import TorrentFile
from dht_torrent.ids import Address, InfoHash, NodeId
from dht_torrent.metainfo import Magnet, Metainfo, from_info
from dht_torrent.peer.half_open import HalfOpen
from dht_torrent.relief import descriptors_left
from dht_torrent.storage import Descriptors, FileStorage, Storage
from dht_torrent.torrent.metadata import MetadataMemory
from dht_torrent.torrent.pieces import BufferPool
from dht_torrent.torrent.selection import check_selection
from dht_torrent.trace import Trace, nothing

logger = logging.getLogger(__name__)

SPARE_SEND_BUFFERS = 4 << 20
"""Bytes of send buffers kept for the next batch."""
SPARE_DESCRIPTORS = 8
"""Descriptors kept free, by closing files of torrents, however many others use ..."""
SPARE_INTERVAL = 1.0
"""... as of a look each so many seconds."""
TRIM_INTERVAL = 20.0
"""Seconds in which a spare buffer must be of use, or it is given up."""
RECORD_PATIENCE = 5.0
"""Seconds that adding a torrent waits for its record to be written, to say so if it cannot be."""
DHT_SAVE_INTERVAL = 15 * 60.0
"""Seconds between two saves of the DHT's contacts."""


class Node:
    """A DHT node and peer-wire engine. Made by `open_node`."""

    def __init__(self, context: NodeContext, nursery: trio.Nursery) -> None:
        self.config = context.config
        self.addresses = tuple(dht.address for dht in context.dht)
        """Where the node listens, TCP and UDP alike: one address, or one of IPv4 and one of IPv6.
        """
        self.warnings: list[str] = []
        self.faults = context.faults
        """Bugs of ours so far."""
        self._dht_unsaved: StorageError | None = None
        self._context = context
        self._dht = context.dht
        self._nursery = nursery
        self._torrents: dict[InfoHash, Torrent] = {}
        self._scopes: dict[InfoHash, tuple[trio.CancelScope, trio.Event]] = {}
        self._half_open = HalfOpen(context.config)
        self._handshakes: dict[int, trio.CancelScope] = {}
        self._heard_from_outside = False
        self._started = trio.current_time()
        context.remove = self._remove

    @property
    def address(self) -> Address:
        """The first of `addresses`."""
        return self.addresses[0]

    @property
    def node_id(self) -> NodeId:
        """Our id in the DHT of `address`."""
        return self._dht.node_id

    @property
    def dht(self) -> DualStack:
        """The DHT nodes, for lookups of one's own; those of both families answer as one."""
        return self._dht

    @property
    def torrents(self) -> Mapping[InfoHash, Torrent]:
        """All torrents, by infohash, in the order they were added."""
        return MappingProxyType(self._torrents)

    # -- torrents -------------------------------------------------------------------------------

    async def share(
        self,
        path: Path | str,
        *,
        piece_length: int | None = None,
        private: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Torrent:
        """Hash a file or folder and seed it where it is. `progress(bytes_done, bytes_total)` may be
        called from a worker thread. Raises InputError when it cannot be read or is empty."""
        content = _absolute(path)
        metainfo, hashed = await hash_content(
            self._context.disk,
            self._context.open_storage,
            content,
            piece_length=piece_length,
            private=private,
            progress=progress,
            relief=self._context.descriptors.relieve,
        )
        await self._refuse_unfinished(content, metainfo.info_hash)
        present = self._torrents.get(metainfo.info_hash)
        if present is not None:
            await present.share_from(content, metainfo, hashed)
            return present
        return await self._add(
            Torrent(
                self._context,
                metainfo.magnet(),
                content,
                metainfo=metainfo,
                shared=True,
                hashed=hashed,
            )
        )

    async def get(
        self,
        source: str | Magnet | Metainfo | Path,
        *,
        output: Path | str | None = None,
        select: Sequence[tuple[int, int]] | None = None,
        sequential: bool = False,
        paused: bool = False,
        overwrite: bool = False,
    ) -> Torrent:
        """Fetch a torrent, given a magnet link, an infohash, or a .torrent file (see `given`).

        `select` are inclusive ranges of file indices; None takes the magnet's own choice, or all.
        A file that lies where the download belongs is adopted if its pieces verify, and continued
        if the rest of it is holes or zeros; anything else stops the torrent with an error, unless
        `overwrite` insists. Of a torrent that is here already, whatever is new takes effect, or is
        refused.

        Returns at once; `await torrent.completed()` waits. Raises InputError (MagnetError,
        MetainfoError) when `source` cannot be used."""
        magnet, metainfo = await self._understand(source)
        select = select if select is not None else magnet.select
        folder = _absolute(output if output is not None else self.config.download_dir)
        if metainfo is not None:
            check_selection(select, metainfo)
        present = self._torrents.get(magnet.info_hash)
        if present is not None:
            await present.renew(
                magnet,
                metainfo,
                folder if output is not None else None,
                select,
                sequential=sequential,
                paused=paused,
                overwrite=overwrite,
            )
            return present
        torrent = Torrent(
            self._context,
            magnet,
            folder,
            metainfo=metainfo,
            select=select,
            sequential=sequential,
            paused=paused,
            overwrite=overwrite,
        )
        return await self._add(torrent)

    async def _refuse_unfinished(self, path: Path, info_hash: InfoHash) -> None:
        """Raises InputError if a download of something else is still writing there."""

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

    async def _understand(
        self, source: str | Magnet | Metainfo | Path
    ) -> tuple[Magnet, Metainfo | None]:
        if isinstance(source, (str, Path)):
            found = await self._context.disk.run(given.read, source)
            source = found.metainfo if isinstance(found, TorrentFile) else found
        if isinstance(source, Magnet):
            return source, None
        return source.magnet(), source

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

    async def remove(self, torrent: Torrent, *, delete_data: bool = False) -> Removal:
        """Stop and forget a torrent; with `delete_data` the files it made go too.

        What was there before, was changed since, or is another torrent's as well is never deleted;
        what was left is told. Raises InputError for a torrent that is not here any more, and
        StorageError when its record cannot be removed: then it stays, and goes on."""
        if self._torrents.get(torrent.info_hash) is not torrent:
            raise InputError(f"no such torrent: {torrent.id}")
        scope, ended = self._scopes[torrent.info_hash]
        await torrent.forget()
        scope.cancel()
        await ended.wait()
        return await torrent.forget_content(delete=delete_data)

    async def _remove(self, info_hash: InfoHash, delete_data: bool) -> Removal:
        if info_hash not in self._torrents:
            raise InputError(f"no such torrent: {info_hash.hex()}")
        return await self.remove(self._torrents[info_hash], delete_data=delete_data)

    async def _add(self, torrent: Torrent) -> Torrent:
        scope, ended = trio.CancelScope(), trio.Event()

        async def own() -> None:
            try:
                with scope, self.faults.confined(f"the end of torrent {torrent.id[:8]}"):
                    try:
                        await torrent.run()
                    finally:
                        self._dht.withdraw(torrent.info_hash)
            finally:
                self._torrents.pop(torrent.info_hash, None)
                self._scopes.pop(torrent.info_hash, None)
                ended.set()

        self._torrents[torrent.info_hash] = torrent
        self._scopes[torrent.info_hash] = (scope, ended)
        self._nursery.start_soon(own, name=f"torrent {torrent.id[:8]}")
        await trio.lowlevel.checkpoint()
        if torrent.warning is None and self._context.state is not None:
            with trio.move_on_after(RECORD_PATIENCE):
                await torrent.recorded.wait()
        return torrent

    def set_limits(self, *, up: NewRate = ..., down: NewRate = ...) -> None:
        """Bytes per second all torrents together may send and receive from now on: None is no
        limit, `...` leaves it as it is. What counts is payload and headers of messages. A restart
        begins with the configuration's again. Raises InputError."""
        self._context.limits.set(up, down)

    # -- what users see -------------------------------------------------------------------------

    def status(self) -> NodeStatus:
        """A snapshot for people."""
        now = trio.current_time()
        torrents = self._torrents.values()
        peers = [peer for torrent in torrents for peer in torrent.connections.peers.values()]
        by_source: dict[str, int] = {}
        for peer in peers:
            by_source[peer.source] = by_source.get(peer.source, 0) + 1
        last = self._dht.last_announce
        dht, *more = self._dht.status()
        return NodeStatus(
            id=self.node_id.hex(),
            listen=str(self.address),
            version=dht_torrent.__version__,
            uptime=now - self._started,
            dht=dht,
            torrents=len(self._torrents),
            connections=len(peers),
            peers_by_source=by_source,
            reachable=True if self._heard_from_outside else None,
            down_rate=sum(peer.down.value(now) for peer in peers),
            up_rate=sum(peer.up.value(now) for peer in peers),
            last_announce=now - last if last is not None else None,
            warnings=(*self.warnings, *self._unsaved()),
            limit_up=self._context.limits.up.rate,
            limit_down=self._context.limits.down.rate,
            listen6=str(self.addresses[1]) if more else None,
            dht6=more[0] if more else None,
            faults=self.faults.count,
            last_fault=self.faults.last,
        )

    def _unsaved(self) -> list[str]:
        """What would be lost at a restart, in a line or two."""
        lost = [torrent for torrent in self._torrents.values() if torrent.warning]
        told = [f"{torrent.name}: {torrent.warning}" for torrent in lost[:1]]
        if len(lost) > 1:
            told.append(f"and so it is with {len(lost) - 1} more of the torrents")
        if self._dht_unsaved is not None:
            told.append(f"the DHT's contacts cannot be saved: {self._dht_unsaved}")
        return told

    # -- services -------------------------------------------------------------------------------

    async def _accept(self, listener: Listener) -> None:
        """Take in connections. When too many are shaking hands, the oldest yields."""
        while True:
            stream = await listener.accept()
            key = self._context.peer_key()
            yields = self._half_open.came(key, stream.remote.place)
            if yields is not None:
                self._handshakes.pop(yields).cancel()
            self._handshakes[key] = patience = trio.CancelScope()
            self._nursery.start_soon(self._receive, stream, key, patience)

    async def _receive(self, stream: NetStream, key: int, patience: trio.CancelScope) -> None:
        """Find out which torrent an incoming connection wants; close it silently if none."""
        taken = False
        with self.faults.confined(f"the incoming handshake of {stream.remote}"):
            try:
                with patience:
                    patience.deadline = trio.current_time() + self.config.peer.handshake_timeout
                    new = await receive_handshake(stream, self.config.peer, dht=True)
                    torrent = self._torrents.get(new.handshake.info_hash)
                    theirs = new.handshake.peer_id
                    is_us = torrent is not None and theirs == torrent.connections.peer_id
                    is_here = stream.remote.is_loopback or stream.remote.host == stream.local.host
                    self._heard_from_outside = self._heard_from_outside or not (is_here or is_us)
                    if torrent is not None:
                        taken = torrent.welcome(new)
            except (PeerProtocolError, OSError, trio.ClosedResourceError) as error:
                logger.debug("incoming %s: %s", stream.remote, error)
            finally:
                self._half_open.ended(key)
                self._handshakes.pop(key, None)
                if not taken:
                    stream.close()

    async def _keep_descriptors(self) -> None:
        """Close files nobody uses any more, and keep a few descriptors free for the control socket
        and the program around us, which cannot ask for them."""
        pool, config = self._context.descriptors, self.config.disk
        swept = trio.current_time()
        while not config.inline:  # then there is no time to speak of, and mostly there are no files
            await trio.sleep(SPARE_INTERVAL)
            pool.keep_spare(SPARE_DESCRIPTORS)
            if trio.current_time() - swept >= config.idle_file_time:
                swept = trio.current_time()
                pool.sweep()

    async def _trim_buffers(self) -> None:
        """Memory that no download and no upload needs any more is given back."""
        while True:
            await trio.sleep(TRIM_INTERVAL)
            self._context.piece_buffers.trim()
            self._context.send_buffers.trim()

    async def _save_dht(self) -> None:
        state = self._context.state
        while state is not None:
            await trio.sleep(DHT_SAVE_INTERVAL)
            await self._save_dht_now(state)

    async def _save_dht_now(self, state: StateDir) -> None:
        contacts = [(dht.state(), dht.address.is_ipv6) for dht in self._dht]

        def save() -> None:
            for known, ipv6 in contacts:
                state.save_dht(known, ipv6)

        try:
            await self._context.disk.run(save)
            self._dht_unsaved = None
        except StorageError as error:
            self._dht_unsaved = error
            logger.warning("could not save the DHT's contacts: %s", error)

    async def _restore(self, records: Sequence[Resume]) -> None:
        restored: list[Torrent] = []
        for record in records:
            with self.faults.confined(
                f"restoring torrent {record.info_hash.hex()[:8]}", ends=self.warnings.append
            ):
                restored += await self._restored(record)

        def locate() -> None:
            for torrent in restored:
                torrent.locate()

        # Before any of them runs: whose a file is does not depend on who comes first.
        await self._context.disk.run(locate)
        for torrent in restored:
            torrent.hold()
        for torrent in restored:
            await self._add(torrent)

    async def _restored(self, record: Resume) -> list[Torrent]:
        """The torrent of this record, or nothing but a warning."""
        try:
            magnet = Magnet.parse(record.magnet)
            metainfo = await self._remembered(record)
        except InputError as error:
            self.warnings.append(f"resume record {record.info_hash.hex()}: {error}")
            return []
        return [
            Torrent(
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


def _absolute(path: Path | str) -> Path:
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError as error:  # "~" of somebody who has no home
        raise InputError(f"{path}: {error}") from None


@asynccontextmanager
async def open_node(
    config: Config | None = None,
    *,
    network: Network | None = None,
    open_storage: OpenStorage | None = None,
    rng: random.Random | None = None,
    trace: Trace = nothing,
) -> AsyncIterator[Node]:
    """Run a node for the length of the block.

    `network`, `open_storage` and `rng` are the seams for virtual networks and repeatable runs.
    What the process may open (RLIMIT_NOFILE) bounds connections and open files. The limit itself is
    left alone: it belongs to the program around us, whose children inherit it, and which may still
    use select(); `relief.raise_descriptor_limit` raises it, as `dhtnode` does. Raises InputError
    when the configuration, the address or the state dir cannot be used."""
    config = config if config is not None else Config()
    rng = rng if rng is not None else random.Random(secrets.randbits(128))
    bootstrap = config.bootstrap_points()
    limits = Limits()
    limits.set(config.limit_up, config.limit_down)
    wanted = config.listen_addresses()
    disk = Disk(config.disk)
    faults = Faults(fail_fast=config.fail_fast)
    state: StateDir | None = None
    records: list[Resume] = []
    warnings: list[str] = []
    if network is None:  # others need no descriptors, or have a bound of their own
        left = descriptors_left()
        budget = divide(left, config, disk.threads)
        warnings += filter(None, [budget.warning(config, left)])
        config = budget.applied(config)
    descriptors = Descriptors(config.disk.open_files)
    network = network if network is not None else RealNetwork(descriptors.relieve)
    saved: dict[bool, bytes | None] = {}
    body: Exception | None = None
    with ExitStack() as opened:
        if config.state_dir is not None:
            state = await disk.run(StateDir, _absolute(config.state_dir), descriptors.relieve)
            opened.callback(state.close)
            records, more = await disk.run(state.load_all)
            warnings += more
            for bind in wanted:
                saved[bind.is_ipv6], more = await disk.run(state.load_dht, bind.is_ipv6)
                warnings += more
        pairs = await listen(network, wanted, opened)
        dhts = [
            Dht(
                network,
                socket,
                config.dht,
                rng=rng,
                bootstrap=bootstrap,
                state=saved.get(socket.address.is_ipv6),
                trace=trace,
                faults=faults,
            )
            for _, socket in pairs
        ]
        context = NodeContext(
            config=config,
            network=network,
            dht=DualStack(dhts),
            disk=disk,
            state=state,
            rng=rng,
            trace=trace,
            client=f"dht_torrent {dht_torrent.__version__}",
            open_storage=open_storage or _file_storage(config, descriptors),
            buffer=memoryview(bytearray(config.peer.receive_buffer)),
            piece_buffers=BufferPool(config.torrent.max_open_bytes),
            send_buffers=BufferPool(SPARE_SEND_BUFFERS),
            descriptors=descriptors,
            metadata=MetadataMemory(config.peer.max_metadata_held),
            limits=limits,
            faults=faults,
        )
        async with trio.open_nursery() as nursery:
            node = Node(context, nursery)
            node.warnings += warnings
            if config.dht.unlimited:
                logger.warning("the DHT's limits on rates are lifted: fit for a lab only")
            for dht in dhts:
                await nursery.start(dht.run)
            for listener, _ in pairs:
                nursery.start_soon(faults.keep, "listening", partial(node._accept, listener))
            nursery.start_soon(faults.keep, "saving the DHT's contacts", node._save_dht)
            nursery.start_soon(faults.keep, "the pool of open files", node._keep_descriptors)
            nursery.start_soon(faults.keep, "trimming buffers", node._trim_buffers)
            nursery.start_soon(faults.keep, "the limits", limits.run)
            nursery.start_soon(faults.watch)
            await node._restore(records)
            try:
                yield node
            except Exception as error:  # noqa: BLE001 - raised again below, outside the nursery
                body = error
            finally:
                if state is not None:
                    with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
                        await node._save_dht_now(state)
                nursery.cancel_scope.cancel()
        if body is not None:
            raise body  # as it was: a nursery would have wrapped it in a group


def _file_storage(config: Config, descriptors: Descriptors) -> OpenStorage:
    def open_one(metainfo: Metainfo, path: Path, shared: bool) -> Storage:
        return FileStorage(
            path.parent if shared else path,
            metainfo,
            config.disk,
            content=path if shared else None,
            writable=not shared,
            descriptors=descriptors,
        )

    return open_one
