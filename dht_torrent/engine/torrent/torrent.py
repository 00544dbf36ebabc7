"""One torrent from magnet link to seed: find peers, fetch the info dict, check the disk, exchange.

`run` is its only owner. A *session* is one uninterrupted attempt: pausing, an error or a recheck
ends the session's scope, with every task and connection in it, and `run` decides what comes next.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from dht_torrent.engine.resume import Resume
from dht_torrent.engine.state import StateDir
from dht_torrent.engine.torrent.connections import Connections, their_fault
from dht_torrent.engine.torrent.content import Content, Hashed, Vouched
from dht_torrent.engine.torrent.context import NodeContext, TorrentContext
from dht_torrent.engine.torrent.discovery import Discovery
from dht_torrent.engine.torrent.extensions import Extensions
from dht_torrent.engine.torrent.handshake import NewConnection
from dht_torrent.engine.torrent.metadata import MetadataFetch
from dht_torrent.engine.torrent.rate_limits import NewRate
from dht_torrent.engine.torrent.stages import (
    Active,
    Checking,
    Failed,
    FetchingInfo,
    Paused,
    Stage,
    state_of,
    why_stuck,
)
from dht_torrent.engine.torrent.swarm import Swarm
from dht_torrent.engine.torrent.watch import Watch
from dht_torrent.engine.views import FileInfo, PeerInfo, Removal, State, Summary
from dht_torrent.errors import InputError, MetainfoError, OurFault, StorageError
from dht_torrent.ids import Address, HostPort, InfoHash
from dht_torrent.metainfo import Magnet, Metainfo
from dht_torrent.torrent.selection import (
    Selection,
    check_selection,
    is_selected,
    wanted_empty,
    wanted_pieces,
    wanted_size,
)

logger = logging.getLogger(__name__)

MAX_PORTS = 3
"""Times a peer is heard on where its DHT node listens: BEP 5 has it told once."""
SHUTDOWN_PATIENCE = 10.0
"""Seconds the last save of the resume record gets when the node ends."""


@dataclass(frozen=True, slots=True)
class _Move:
    """To another place, between two sessions."""

    root: Path
    shared: bool
    hashed: Hashed | None = None
    done: trio.Event = field(default_factory=trio.Event)


class Torrent:
    """A torrent of a running node. Made by `Node.share` and `Node.get`."""

    def __init__(
        self,
        node: NodeContext,
        magnet: Magnet,
        root: Path,
        *,
        metainfo: Metainfo | None = None,
        shared: bool = False,
        hashed: Hashed | None = None,
        resume: Resume | None = None,
        select: Selection | None = None,
        sequential: bool = False,
        paused: bool = False,
        overwrite: bool = False,
    ) -> None:
        """`root` is the folder the download goes into or, when `shared`, the user's own file or
        folder itself, which is never written. With `overwrite`, files that lie where the download
        belongs and hold something else are replaced."""
        self._context = TorrentContext(node, magnet, metainfo)
        self.info_hash: InfoHash = magnet.info_hash
        self.select = tuple(select) if select else None
        """Inclusive ranges of wanted files; None is all."""
        self.sequential = sequential
        self.connections = Connections(self._context)
        self._extensions = Extensions(self._context, self.connections)
        self._discovery = Discovery(self._context, self.connections)
        self._node = node
        self._root = root
        self._shared = shared
        self._hashed = hashed
        self._resume = resume
        self._content: Content | None = None
        self._stage: Stage = self._fetching()
        self._paused = resume.paused if resume else paused
        self._overwrite = resume.overwrite if resume else overwrite
        self._move: _Move | None = None
        self._learning = trio.CancelScope()
        """Ends the wait for metadata from peers."""
        self._gone = False
        self._fault: Failed | None = None
        self._session = trio.CancelScope()
        self._changed = trio.Event()
        self._finished = trio.Event()
        self._dirty = resume is None
        self._bans = list(resume.banned) if resume else []  # as they were recorded
        self._saving = trio.Lock()
        self._forgotten = False
        self.warning: str | None = None
        """What is wrong although the torrent works: its record cannot be written, say."""
        self.recorded = trio.Event()
        """Writing the record was tried once; `warning` says how that went."""
        self._before = (resume.downloaded, resume.uploaded, resume.wasted) if resume else (0, 0, 0)
        self._wasted_before = 0
        self._added_at = resume.added_at if resume else time.time()
        self._completed_at = resume.completed_at if resume else None
        self.know(magnet.peers)
        if resume:
            self.connections.limits.restore(resume.limit_up, resume.limit_down)
            self.connections.found(resume.peers, "resume")
            for address in resume.banned:
                self.connections.candidates.ban(address, trio.current_time())

    # -- what users see -------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The infohash in hex."""
        return self.info_hash.hex()

    @property
    def magnet(self) -> Magnet:
        return self._context.magnet

    @property
    def metainfo(self) -> Metainfo | None:
        """None until it is known."""
        return self._context.metainfo

    @property
    def name(self) -> str:
        return self._context.name

    @property
    def path(self) -> Path | None:
        """Where the content is, or None while its name is not known."""
        if self._shared:
            return self._root
        return self._root / self.metainfo.name if self.metainfo else None

    @property
    def state(self) -> State:
        return state_of(self._stage)

    @property
    def error(self) -> str | None:
        return str(self._stage.error) if isinstance(self._stage, Failed) else None

    @property
    def progress(self) -> float:
        """Verified share (0..1) of the wanted bytes; while checking, the share looked at."""
        if isinstance(self._stage, Checking):
            return self._stage.done / self._stage.total if self._stage.total else 1.0
        size = self.size
        if not size or self.metainfo is None:
            return 0.0
        if self._content is None:
            return 0.0
        if self._content.have is None:  # not looked at yet: what it was when it was last seen
            return self._content.remembered
        have = self._content.have
        if isinstance(self._stage, Active):
            return 1 - self._stage.swarm.picker.bytes_left / size
        geometry = self.metainfo.geometry
        wanted = wanted_pieces(self.select, geometry)
        return sum(geometry.piece_size(index) for index in wanted if index in have) / size

    @property
    def size(self) -> int:
        """Bytes wanted; 0 while the metadata is not known."""
        if self.metainfo is None:
            return 0
        return wanted_size(self.select, self.metainfo.geometry)

    @property
    def downloaded(self) -> int:
        """Payload bytes received, good or not, also in earlier runs."""
        live = sum(peer.downloaded for peer in self.connections.peers.values())
        return self._before[0] + self.connections.downloaded + live

    @property
    def uploaded(self) -> int:
        """Payload bytes sent, also in earlier runs."""
        live = sum(peer.uploaded for peer in self.connections.peers.values())
        return self._before[1] + self.connections.uploaded + live

    @property
    def wasted(self) -> int:
        """Payload bytes that were of no use, also in earlier runs."""
        live = self._stage.swarm.wasted if isinstance(self._stage, Active) else 0
        return self._before[2] + self._wasted_before + live

    @property
    def why(self) -> str | None:
        """Why nothing moves, in one line; None when all is well."""
        dht = None if self._context.is_private else self._node.dht
        return why_stuck(self._stage, self.connections, dht, self._discovery.note)

    async def completed(self) -> Path:
        """Wait until all wanted pieces are verified on disk; returns where they are.

        Raises StorageError or MetainfoError if the torrent stops with an error first, or is
        removed."""
        while not self._finished.is_set():
            if isinstance(self._stage, Failed):
                raise self._stage.raised()
            if self._gone:
                raise StorageError(f"{self.name} was removed before it was complete")
            await self._changed.wait()
        path = self.path
        assert path is not None
        return path

    def summary(self) -> Summary:
        """The torrent in one line."""
        now = trio.current_time()
        peers = self.connections.peers.values()
        down = sum(peer.down.value(now) for peer in peers)
        left = self._stage.swarm.picker.bytes_left if isinstance(self._stage, Active) else 0
        return Summary(
            id=self.id,
            name=self.name,
            state=self.state,
            progress=self.progress,
            size=self.size,
            downloaded=self.downloaded,
            uploaded=self.uploaded,
            wasted=self.wasted,
            down_rate=down,
            up_rate=sum(peer.up.value(now) for peer in peers),
            peers=len(peers),
            error=self.error,
            why=self.why,
            magnet=str(self.magnet),
            path=str(self.path) if self.path else None,
            eta=left / down if left and down > 1 else None,
            limit_up=self.connections.limits.up.rate,
            limit_down=self.connections.limits.down.rate,
            warning=self.warning,
        )

    def watch(self, *, per_second: float = 2.0, repeat_after: float | None = None) -> Watch:
        """Summaries as they change, for `async for`: one at once, then one whenever something is
        different, at most `per_second` of them; and the same one again when nothing has changed for
        `repeat_after` seconds, unless that is None. Ends when the torrent is gone: removed, or its
        node closed.

        Nothing is queued: a slow reader gets the newest summary, not those it missed. The loop may
        be left or cancelled at any time, with nothing to close. Raises ValueError unless both
        numbers are positive."""
        for number in (per_second, repeat_after):
            if number is not None and not number > 0:
                raise ValueError(f"expected a positive number, got {number}")
        return Watch(
            self.summary,
            lambda: self._changed,
            lambda: self._gone,
            interval=1 / per_second,
            repeat_after=repeat_after,
        )

    def peers(self) -> list[PeerInfo]:
        """The connections of this torrent."""
        now = trio.current_time()
        pieces = self.metainfo.geometry.piece_count if self.metainfo else 0
        return [peer.info(pieces, now) for peer in self.connections.peers.values()]

    def files(self) -> list[FileInfo]:
        """The files of this torrent, pad files left out; empty while the metadata is not known."""
        if self.metainfo is None:
            return []
        geometry = self.metainfo.geometry
        have = self._content.have if self._content else None
        shown = []
        for number, file in enumerate(geometry.files):
            if file.pad:
                continue
            pieces = geometry.file_pieces(number)
            got = sum(1 for index in pieces if have is not None and index in have)
            shown.append(
                FileInfo(
                    index=number,
                    path="/".join(file.path),
                    size=file.length,
                    progress=got / len(pieces) if len(pieces) else 1.0,
                    selected=is_selected(self.select, number),
                )
            )
        return shown

    # -- what users ask -------------------------------------------------------------------------

    async def pause(self) -> None:
        """Close all connections and stop; survives a restart."""
        self._paused = True
        await self._interrupt()

    async def resume(self) -> None:
        """Go on after a pause or an error."""
        self._paused = False
        self._forgive()
        await self._interrupt()

    async def remove(self, *, delete_data: bool = False) -> Removal:
        """Stop and be forgotten; see `Node.remove`."""
        return await self._node.remove(self.info_hash, delete_data)

    async def recheck(self) -> None:
        """Hash everything on disk again, whatever was believed of it; what is gone is fetched
        again.

        Raises InputError while the metadata is not known."""
        if self.metainfo is None:
            raise InputError("nothing to recheck: the metadata is not known yet")
        self._forgive()
        self._finished = trio.Event()  # until we know better
        self._open_content(self.metainfo).insist()
        await self._interrupt()

    def _forgive(self) -> None:
        """The error is history from now on, not only when `run` comes to it."""
        self._fault = None
        if isinstance(self._stage, Failed):
            self._enter(Checking(self._extensions))

    def know(self, peers: Sequence[HostPort]) -> None:
        """Peers named in a magnet link. Names are not resolved: a link must not make us ask
        somebody's DNS."""
        self.connections.found([Address(*p) for p in peers if Address(*p).is_usable], "magnet")

    # -- what is new about it -------------------------------------------------------------------

    async def renew(
        self,
        magnet: Magnet,
        metainfo: Metainfo | None,
        folder: Path | None,
        select: Selection | None,
        *,
        sequential: bool,
        paused: bool,
        overwrite: bool,
    ) -> None:
        """It was given once more, as to `Node.get`. Whatever is new takes effect; InputError, or
        StorageError where a file that is wanted now is somebody else's, says what cannot, and then
        nothing has changed."""
        known = self.metainfo or metainfo
        if known is not None:
            check_selection(select, known)
        moves = folder is not None and await self._can_move(folder)
        if overwrite and self._shared:
            raise InputError(f"{self.name} is shared as it is, and never written to")
        await self._want(select, known, overwrite=overwrite)
        self.know(magnet.peers)
        self._context.magnet = self.magnet.with_hints(magnet)
        if sequential:
            self.sequential = True
            if isinstance(self._stage, Active):
                self._stage.swarm.picker.sequential = True
        if folder is not None and moves and self._content is None and self.metainfo is None:
            self._root = folder  # nothing has begun there: nobody need be interrupted
        elif folder is not None and moves:
            await self._move_to(_Move(folder, shared=False))
        if metainfo is not None:
            self._learn(metainfo)
        self._dirty = True
        if paused:
            await self.pause()
        elif self.state in ("paused", "error"):
            await self.resume()
        await self.look()  # "it is here" is not said of files that have gone meanwhile
        await self.save()

    async def share_from(self, path: Path, metainfo: Metainfo, hashed: Hashed) -> None:
        """All of it lies at `path`, and was just hashed: serve it from there. Raises InputError
        when it is served from elsewhere already."""
        if self.path is not None and await self._node.disk.run(_same, self.path, path):
            if self._is_complete() and self.error is None:
                return
        elif self._finished.is_set() and self.error is None:
            raise InputError(f"{self.name} is here already, at {self.path}")
        self._learn(metainfo)
        self.select = None
        await self._move_to(_Move(path, shared=True, hashed=hashed))
        await self.resume()
        await self.save()

    async def _can_move(self, folder: Path) -> bool:
        """Is that another place than it has? Raises InputError when it cannot go there any more."""
        if self.metainfo is None and not self._shared:
            return folder != self._root
        path = self.path
        assert path is not None
        if await self._node.disk.run(_same, path, folder / path.name):
            return False
        if self._shared or not (self._content is None or self._content.untouched):
            raise InputError(
                f"{self.name} is here already, at {path}; remove it to put it elsewhere"
            )
        return True

    async def _move_to(self, move: _Move) -> None:
        if self._move is not None:
            self._move.done.set()
        self._move = move
        await self._interrupt()
        await move.done.wait()

    async def _settle(self, move: _Move) -> None:
        """Between two sessions."""
        async with self._saving:  # a record is of one place
            content, self._content = self._content, None
            try:
                if content is not None:
                    if not (move.shared or content.untouched):
                        await content.delete()  # written while we were asked to go elsewhere
                    content.let_go()
                    await content.close()
            except StorageError as error:
                logger.warning("%s: %s", self.name, error)
            self._overwrite = self._overwrite or (content is not None and content.overwrite)
            self._root, self._shared, self._hashed = move.root, move.shared, move.hashed
        self._resume = None
        self._forgive()
        self._finished = trio.Event()
        self._move = None
        self._dirty = True
        move.done.set()

    def _learn(self, metainfo: Metainfo) -> None:
        """The metadata is known, from elsewhere than peers."""
        if self.metainfo is not None:
            return
        self._context.metainfo = metainfo
        if isinstance(self._stage, FetchingInfo):
            self._learning.cancel()

    async def _want(
        self, select: Selection | None, metainfo: Metainfo | None, *, overwrite: bool
    ) -> None:
        """Want these files too; None wants all (BEP 53: a second magnet only adds). A selection
        that names files which do not exist makes room for one that does not."""
        wanted = None if self.select is None or select is None else (*self.select, *select)
        if metainfo is not None and wanted is not None and not _exists(wanted, metainfo):
            wanted = None if select is None else tuple(select)
        content = self._content
        if isinstance(self._stage, Active) and self.metainfo is not None and content is not None:
            geometry = self.metainfo.geometry
            pieces = wanted_pieces(wanted, geometry)
            if wanted != self.select:
                await self._extend(content, pieces, wanted_empty(wanted, geometry), overwrite)
            if isinstance(self._stage, Active):
                self._stage.swarm.select(pieces, trio.current_time())
                if not self._stage.swarm.picker.done:
                    self._finished = trio.Event()
                    self.connections.candidates.need_seeds(trio.current_time())
                    self.connections.wake()
        elif overwrite:
            self._overwrite = True
            if content is not None:
                content.overwrite = True
        self.select = wanted

    async def _extend(
        self, content: Content, pieces: set[int], empty: set[int], overwrite: bool
    ) -> None:
        """Take hold of more files while others are exchanged. Raises StorageError."""
        content.overwrite = overwrite
        try:
            if await content.claim(pieces, empty):
                self._dirty = True
                await self._save_resume()
            have = content.have
            missing = [index for index in pieces if have is None or index not in have]
            assert self.metainfo is not None
            await content.prepare(sum(map(self.metainfo.geometry.piece_size, missing)))
        finally:
            content.overwrite = False

    def set_limits(self, *, up: NewRate = ..., down: NewRate = ...) -> None:
        """Bytes per second all connections of this torrent may send and receive from now on, and
        after a restart: None is no limit, `...` leaves it as it is. The node's limits hold as well.
        Raises InputError."""
        self.connections.limits.set(up, down)
        self._dirty = True

    def welcome(self, new: NewConnection) -> bool:
        """An incoming connection for this torrent. False when it cannot be taken in."""
        return self.connections.admits and self.connections.welcome(new)

    # -- the owner of everything ----------------------------------------------------------------

    async def run(self) -> None:
        """Serve this torrent until cancelled."""
        try:
            while True:
                if self._content is not None:
                    self._content.conclude()
                if self._move is not None:
                    await self._settle(self._move)
                elif self._paused:
                    await self._rest(Paused())
                elif self._fault is not None:
                    await self._rest(self._fault)
                else:
                    with trio.CancelScope() as self._session, self._confined(ends=self._on_bug):
                        await self._run_session()
                    self._end_session()
        finally:
            self._end_session()
            self._gone = True
            self._changed.set()
            if self._move is not None:
                self._move.done.set()
            if self._content is not None:
                self._content.conclude()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + SHUTDOWN_PATIENCE):
                with self._confined(ends=None):
                    await self._save_resume()
                if self._content is not None:
                    await self._content.close()

    async def _rest(self, stage: Paused | Failed) -> None:
        """Do nothing until told otherwise, or until it is time to try again."""
        self._node.dht.withdraw(self.info_hash)
        with trio.CancelScope() as self._session:
            with self._confined(ends=None):
                if self._content is not None and self._content.have is not None:
                    try:
                        await self._content.rest()
                    except StorageError as error:  # then all is hashed again on going on
                        logger.warning("%s: could not look at its files: %s", self.name, error)
            self._enter(stage)
            self._dirty = True
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_recorded)
                if isinstance(stage, Failed) and is_missing(stage.error):
                    with self._confined(ends=None):
                        await self._until_back()
                else:
                    retry_at = stage.retry_at if isinstance(stage, Failed) else None
                    await trio.sleep_until(retry_at if retry_at is not None else float("inf"))
                nursery.cancel_scope.cancel()
        if self._fault is stage:
            self._fault = None

    async def _keep_recorded(self) -> None:
        """As `_keep_resume`, for a torrent at rest: a bug there does not end its rest."""
        with self._confined(ends=None):
            await self._keep_resume()

    async def _until_back(self) -> None:
        """Returns when what is missing has come back."""
        while True:
            await trio.sleep(self._node.config.torrent.missing_check_interval)
            if self._content is None or await self._content.back():
                return

    def _confined(self, *, ends: Callable[[str], None] | None) -> AbstractContextManager[None]:
        """Around what is this torrent's and no single connection's: a bug of ours there stops it,
        for its user to see and to resume, and the others go on."""
        return self._node.faults.confined(f"torrent {self.id[:8]} {self.name!r}", ends=ends)

    def _on_bug(self, text: str) -> None:
        self._on_fault(
            OurFault(
                f"stopped by a bug in dht_torrent, please report it: {text}; resume tries again"
            )
        )

    async def _interrupt(self) -> None:
        self._dirty = True
        self._session.cancel()
        await self.save()  # now: whoever asked for this hears of it if it cannot be kept
        await trio.lowlevel.checkpoint()

    def _fetching(self) -> FetchingInfo:
        return FetchingInfo(MetadataFetch(self._context, self.connections), self._extensions)

    def _enter(self, stage: Stage) -> None:
        self._stage = stage
        if isinstance(stage, FetchingInfo | Checking | Active):
            self.connections.handler = stage
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    def _on_fault(self, error: StorageError | MetainfoError | OurFault) -> None:
        """Stop with `error`. What may pass by itself, as a full disk, is tried again after a
        while."""
        retry_at = None
        if isinstance(error, StorageError) and error.passing:
            retry_at = trio.current_time() + self._node.config.torrent.disk_retry
        self._fault = Failed(error, retry_at)
        self._finished = trio.Event()
        logger.info("%s: stopped: %s", self.name, error)
        self._session.cancel()

    def _is_complete(self) -> bool:
        return isinstance(self._stage, Active) and self._stage.complete

    def _end_session(self) -> None:
        if isinstance(self._stage, Active):
            self._wasted_before += self._stage.swarm.wasted
            self._stage = Checking(self._extensions)

    async def _run_session(self) -> None:
        swarm: Swarm | None = None
        try:
            async with trio.open_nursery() as nursery:
                # Peers first: who is connected while the info is fetched stays for the exchange.
                nursery.start_soon(self.connections.run)
                nursery.start_soon(self._extensions.run)
                nursery.start_soon(self._discovery.run)
                nursery.start_soon(self._keep_resume)
                try:
                    if self.metainfo is None:
                        self._enter(fetching := self._fetching())
                        self.connections.wake()
                        with trio.CancelScope() as self._learning:
                            self._context.metainfo = await fetching.fetch.run()
                        assert self.metainfo is not None
                        self._dirty = True
                        await self._save_resume()
                    swarm = await self._begin(self.metainfo)
                except (StorageError, MetainfoError) as error:
                    self._on_fault(error)
                    return
                nursery.start_soon(swarm.run)
                nursery.start_soon(self._watch_files)
        finally:
            self._extensions.exchange(None)
            if swarm is not None:
                swarm.release()

    async def _begin(self, metainfo: Metainfo) -> Swarm:
        """Open the content, find out what is there, and let all connected peers take part."""
        node, stage = self._node, Checking(self._extensions)
        self._enter(stage)
        if self._context.is_private:
            self._discovery.end()  # BEP 27, learned late

        def note(done: int, total: int) -> None:
            stage.done, stage.total = done, total

        check_selection(self.select, metainfo)
        content = self._open_content(metainfo)
        have = await content.establish(note)
        while True:
            select = self.select
            check_selection(select, metainfo)
            wanted = wanted_pieces(select, metainfo.geometry)
            if await content.claim(wanted, wanted_empty(select, metainfo.geometry)):
                self._dirty = True
                await self._save_resume()  # what is ours must be known after a crash, too
            missing = (index for index in wanted if index not in have)
            await content.prepare(sum(map(metainfo.geometry.piece_size, missing)))
            if select == self.select:  # else more was wanted meanwhile
                break
        swarm = Swarm(
            node,
            metainfo,
            content,
            have,
            self.connections,
            on_event=self._extensions.on_event,
            on_saved=self._on_saved,
            on_fault=self._on_fault,
        )
        swarm.picker.sequential = self.sequential
        now = trio.current_time()
        swarm.picker.select(wanted)
        if not swarm.picker.done:
            self._finished = trio.Event()  # it may have been complete before a recheck
        self._extensions.exchange(swarm)
        self._enter(Active(swarm, self._extensions))
        self._dirty = True
        for peer in list(self.connections.peers.values()):
            with (
                node.faults.confined(f"the connection to {peer.address}", ends=peer.drop),
                their_fault(peer),
            ):
                swarm.join_late(peer, now)
                # Again, now with the size of the metadata, for who lacks it too.
                self._extensions.introduce_again(peer)
        swarm.rechoke(now)
        if not swarm.picker.done:
            self.connections.candidates.need_seeds(now)
        self._note_completion(swarm)
        self.connections.wake()
        return swarm

    def _open_content(self, metainfo: Metainfo) -> Content:
        if self._content is None:
            self._content = Content(
                self._node.disk,
                self._node.open_storage(metainfo, self._root, self._shared),
                metainfo,
                self._node.owners,
                shared=self._shared,
                resume=self._resume,
                hashed=self._hashed,
                max_piece_in_memory=self._node.config.torrent.max_piece_in_memory,
            )
            self._resume = self._hashed = None
        self._content.overwrite = self._content.overwrite or self._overwrite
        self._overwrite = False
        return self._content

    def locate(self) -> None:
        """Blocking; for `hold`, when the node starts."""
        if self.metainfo is not None:
            with contextlib.suppress(StorageError):  # it stops with that when it runs
                self._open_content(self.metainfo).locate()

    def hold(self) -> None:
        """Take hold of the files that are this torrent's, before it runs. Call after `locate`."""
        if self._content is not None:
            self._content.hold()

    # -- disk -----------------------------------------------------------------------------------

    def _on_saved(self) -> None:
        """These pieces are verified and on disk."""
        self._dirty = True
        if isinstance(self._stage, Active):
            self._note_completion(self._stage.swarm)

    def _note_completion(self, swarm: Swarm) -> None:
        if not swarm.picker.done or self._finished.is_set():
            return
        self._finished.set()
        if self._completed_at is None:
            self._completed_at = time.time()
            logger.info("%s: complete", self.name)
        now = trio.current_time()
        self._extensions.completed(now)
        for peer in list(self.connections.peers.values()):
            if peer.is_seed:
                peer.part_for_good(now)
        self._enter(self._stage)

    async def _watch_files(self) -> None:
        """Find out when files change or vanish behind our back: nothing of them is served then."""
        while True:
            complete = self._finished.is_set()
            with trio.move_on_after(self._node.config.torrent.file_check_interval):
                if not complete:
                    await self._finished.wait()  # a look right after the last write of ours
                else:
                    await trio.sleep_forever()
            await self.look()

    async def look(self) -> None:
        """Compare the files with what they were when last looked at. Stops with an error if any
        changed or vanished."""
        content = self._content
        if content is None or not isinstance(self._stage, Active):
            return
        try:
            error = await content.look()
        except StorageError as trouble:
            self._on_fault(trouble)
            return
        if error is not None and isinstance(self._stage, Active):
            self._on_fault(error)
            self._end_session()  # at once: whoever waits for completion must not be told of it
            assert self._fault is not None
            self._enter(self._fault)

    async def _keep_resume(self) -> None:
        while True:
            await self._save_resume()  # at once, too: what was just added must survive a crash
            await trio.sleep(self._node.config.torrent.resume_interval)

    async def _save_resume(self) -> None:
        """Write the record if anything changed. One that could not be written is reported and tried
        again: the one before still holds."""
        state = self._node.state
        async with self._saving:  # or an older record could come after a newer one
            if state is not None and self._is_changed() and not self._forgotten:
                await self._save_resume_to(state)
        self.recorded.set()

    def _is_changed(self) -> bool:
        return self._dirty or self._bans != self.connections.candidates.bans.dump(
            trio.current_time()
        )

    async def _save_resume_to(self, state: StateDir) -> None:
        self._dirty = False
        vouched, saved = Vouched(), False
        try:
            if self._content is not None:
                vouched = await self._vouch(self._content)
            bans = self.connections.candidates.bans.dump(trio.current_time())
            await self._node.disk.run(state.save, self._record(vouched))
            self._bans, saved = bans, True
            self.warning = None
        except StorageError as error:
            if self.warning is None:  # said once, not every half minute
                logger.warning("%s: could not save its resume record: %s", self.name, error)
            self.warning = f"cannot be remembered over a restart: {error}"
        finally:
            # Also when cancelled: the last save, at the end, must not think this one was it.
            self._dirty = self._dirty or not (saved and vouched.final)

    async def _vouch(self, content: Content) -> Vouched:
        """See `Content.vouch`. A disk that cannot keep what it took stops the exchange."""
        try:
            return await content.vouch()
        except StorageError as error:
            if isinstance(self._stage, Active):
                self._on_fault(error)
            raise

    async def save(self) -> None:
        """Write down what changed, now. `warning` says how that went."""
        with self._confined(ends=None):
            await self._save_resume()

    async def forget(self) -> None:
        """Remove the record; none is written from now on. Raises StorageError when it cannot be
        removed: then nothing has changed."""
        state = self._node.state
        if state is None:
            return
        self._forgotten = True
        try:
            async with self._saving:
                await self._node.disk.run(state.remove, self.info_hash)
        except BaseException:
            self._forgotten = False
            raise

    def _record(self, vouched: Vouched) -> Resume:
        known, banned = self.connections.candidates.dump(trio.current_time())
        return Resume(
            info_hash=self.info_hash,
            magnet=str(self.magnet),
            added_at=self._added_at,
            content=self._root,
            shared=self._shared,
            info=self.metainfo.info if self.metainfo else None,
            have=vouched.have,
            stamps=vouched.stamps,
            stamped_at=vouched.stamped_at,
            made=vouched.made,
            begun=vouched.begun,
            filled=vouched.filled,
            mount=vouched.mount,
            overwrite=self._overwrite or vouched.overwrite,
            select=self.select,
            sequential=self.sequential,
            paused=self._paused,
            downloaded=self.downloaded,
            uploaded=self.uploaded,
            wasted=self.wasted,
            completed_at=self._completed_at,
            peers=tuple(known),
            banned=tuple(banned),
            limit_up=self.connections.limits.up.rate,
            limit_down=self.connections.limits.down.rate,
        )

    async def forget_content(self, *, delete: bool) -> Removal:
        """With `delete`, remove the files this torrent made; then nothing is held for it any more.
        Call when `run` has ended. Raises StorageError."""
        if self.metainfo is None:
            return Removal()
        content = self._open_content(self.metainfo)
        try:
            return await content.delete() if delete else Removal()
        finally:
            content.let_go()


def is_missing(error: Exception) -> bool:
    """Did something that was verified go away, which may come back?"""
    return isinstance(error, StorageError) and error.missing


def _exists(select: Selection, metainfo: Metainfo) -> bool:
    return all(last < len(metainfo.files) for _, last in select)


def _same(one: Path, other: Path) -> bool:
    """Is that one place? Blocking."""
    return os.path.realpath(one) == os.path.realpath(other)
