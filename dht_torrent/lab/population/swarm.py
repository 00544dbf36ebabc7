"""A swarm of real nodes on loopback, all in one process. The rule: a leech is given a bare magnet
link, so the peers it finds, it found in the DHT; and every copy is compared with the content.

Some leeches vanish before they are complete, some never give anything, and some seeds send wrong
bytes. Times and counts are real ones: they differ from run to run.
"""

from __future__ import annotations

import filecmp
import random
import resource
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

import trio

from dht_torrent.config import Config, DiskConfig, TorrentConfig
from dht_torrent.engine.node import Node
from dht_torrent.engine.opening import open_node
from dht_torrent.engine.torrent.torrent import Torrent, behind
from dht_torrent.errors import DhtTorrentError, InputError
from dht_torrent.ids import Address, HostPort, PeerId
from dht_torrent.lab.population.roles import free_rider, poisoned
from dht_torrent.trace import PeerBanned, PeerConnected, PieceDone, Record

MAX_NODES: Final = 2000
LOOK_AGAIN: Final = 5.0
"""Seconds between two lookups of a leech. Those who begin together do not find each other at the
first one: no peer has announced yet."""
CONNECTIONS: Final = 30
"""Of one node, if there are descriptors enough."""
_FEWEST: Final = 8
"""Connections below which a swarm is none."""
_SPARE: Final = 12
"""Descriptors a node needs besides its connections: sockets, content, handshakes."""
_START: Final = 60.0
"""Seconds until all nodes are in the DHT and the seeds are announced."""
_CHUNK: Final = 1 << 20
_LEAST: Final = 0.1
_MOST: Final = 0.8
"""A leech that is to vanish does so when its share of the pieces is between these."""


class Kind(StrEnum):
    """The role of a node."""

    SEED = "seed"
    POISONER = "poisoner"
    """Says it is a seed, and sends wrong bytes."""
    LEECH = "leech"
    KILLED = "killed"
    """A leech that vanishes before it is complete."""
    FREE_RIDER = "free rider"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """Who takes part."""

    nodes: int
    """All of them together."""
    size: int
    """Bytes of the content."""
    seeds: int = 1
    poisoners: int = 0
    kill: float = 0.0
    """Share of the leeches that vanish."""
    free_riders: float = 0.0
    """Share of the leeches that give nothing."""
    up: int | None = None
    """Bytes per second each node may send; None: as fast as the machine can."""

    @property
    def leeches(self) -> int:
        return self.nodes - self.seeds - self.poisoners

    def kinds(self, rng: random.Random) -> list[Kind]:
        """The role of each node: seeds, then poisoners, then leeches in an order drawn at random.
        Raises InputError if no honest leech would be left, or there are too many nodes."""
        if self.nodes > MAX_NODES:
            raise InputError(f"{self.nodes} nodes are more than the {MAX_NODES} of one process")
        killed, riders = round(self.kill * self.leeches), round(self.free_riders * self.leeches)
        honest = self.leeches - killed - riders
        if self.seeds < 1 or self.poisoners < 0 or honest < 1:
            raise InputError("there must be a seed, and a leech that gives and lives to the end")
        leeches = [Kind.KILLED] * killed + [Kind.FREE_RIDER] * riders + [Kind.LEECH] * honest
        rng.shuffle(leeches)
        return [Kind.SEED] * self.seeds + [Kind.POISONER] * self.poisoners + leeches


@dataclass(slots=True, eq=False)
class Member:
    """One node of the swarm, and what became of it."""

    number: int
    kind: Kind
    folder: Path
    node: Node | None = None
    torrent: Torrent | None = None
    seconds: float | None = None
    """From the magnet link to the last piece; None for seeds, and for who did not get there."""
    error: str | None = None
    """Why its torrent stopped by itself."""
    identical: bool | None = None
    """Whether its copy is the content; None if it has none, or did not say it had."""
    pieces: int = 0
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    @property
    def counts(self) -> tuple[int, int, int]:
        """Payload bytes downloaded, uploaded and wasted."""
        if self.torrent is None:
            return 0, 0, 0
        return self.torrent.downloaded, self.torrent.uploaded, self.torrent.wasted

    @property
    def alive(self) -> bool:
        """Not so while it vanishes, which takes a moment."""
        return self.node is not None and not self.vanished

    @property
    def vanished(self) -> bool:
        """It was ended before its time."""
        return self.scope.cancel_called

    @property
    def trouble(self) -> str:
        """Why it has no perfect copy."""
        if self.error is not None:
            return self.error
        if self.identical is False:
            return "its copy differs from the content"
        return f"not complete in time: {self.torrent.why or 'busy' if self.torrent else 'idle'}"


@dataclass(frozen=True, slots=True)
class Second:
    """The swarm at one moment."""

    seconds: float
    """Since the leeches began."""
    complete: int
    """Leeches of any kind with all pieces."""
    alive: int
    connections: int
    """Counted once each, though both ends are ours."""
    received: int
    """Payload bytes, of all of them together."""
    rate: float
    """The same per second since the moment before."""


class LabSwarm:
    """`run` it once; look at `members` and `history` at any time."""

    def __init__(self, cast: Cast, folder: Path, rng: random.Random) -> None:
        """`folder` is for the content and all copies. Raises InputError if the cast cannot be, or
        if there is not room enough on the disk or in the table of descriptors."""
        self.cast = cast
        self.members = [
            Member(number, kind, folder / f"{number:04d}")
            for number, kind in enumerate(cast.kinds(rng))
        ]
        self.history: list[Second] = []
        self.bans = 0
        """Times a leech banned a peer for bad data: a liar that comes back from another port before
        the download is complete is banned again ..."""
        self.unjust_bans = 0
        """... and how many of them hit a member that sends good data."""
        self._known: dict[tuple[int, Address], PeerId] = {}
        self._rng = rng
        self._content = folder / "content" / "content.bin"
        self._connections = _connections_for(cast.nodes)
        self._vanish: dict[Member, float] = {
            member: rng.uniform(_LEAST, _MOST) for member in self.of(Kind.KILLED)
        }
        self._magnet = ""
        self._go = trio.Event()
        self._ended = trio.Event()
        self._began = 0.0
        needed = cast.size * (cast.leeches + 1)
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise InputError(f"{folder}: {needed} bytes are needed and {free} are free")

    def of(self, *kinds: Kind) -> list[Member]:
        """The members of these kinds."""
        return [member for member in self.members if member.kind in kinds]

    @property
    def wrong(self) -> list[Member]:
        """Honest leeches that live and have no perfect copy: at the end there must be none."""
        return [member for member in self.of(Kind.LEECH) if not member.identical]

    async def run(self, patience: float, on_second: Callable[[Second], None]) -> None:
        """Until it is over, or for `patience` seconds; then compare all copies. May be
        cancelled. Raises DhtTorrentError if it cannot even begin."""
        await trio.to_thread.run_sync(_make, self._content, self.cast.size, self._rng)
        fault: DhtTorrentError | None = None
        async with trio.open_nursery() as nursery:
            try:
                await self._start(nursery)
                nursery.start_soon(self._watch, on_second)
                with trio.move_on_after(patience):
                    await self._ended.wait()
                self.history.append(self._now())
            except DhtTorrentError as error:
                fault = error  # raised below, or the nursery would wrap it in a group
            nursery.cancel_scope.cancel()
        if fault is not None:
            raise fault
        for member in self.members:
            if member.seconds is not None and member.torrent is not None:
                path = member.torrent.path
                assert path is not None
                member.identical = await trio.to_thread.run_sync(_same, self._content, path)

    # -- beginning ------------------------------------------------------------------------------

    async def _start(self, nursery: trio.Nursery) -> None:
        """All nodes into one DHT, then the seeds' announces, then all leeches at once."""
        try:
            with trio.fail_after(_START + self.cast.nodes):
                for member in self.members:
                    await nursery.start(self._live, member)
                for member in self.members[1:]:
                    assert member.node is not None
                    await member.node.dht.bootstrapped()
                sharing = self.of(Kind.SEED, Kind.POISONER)
                while not all(map(_is_announced, sharing)):  # noqa: ASYNC110 - no event for that
                    await trio.sleep(0.05)
        except trio.TooSlowError:
            raise InputError("the nodes did not find into a DHT in time") from None
        torrent = self.members[0].torrent
        assert torrent is not None
        self._magnet = str(torrent.magnet)
        self._began = trio.current_time()
        self._go.set()

    async def _live(self, member: Member, task_status: trio.TaskStatus[None]) -> None:
        config = self._config(member)
        with member.scope:
            try:
                async with open_node(
                    config,
                    open_storage=poisoned(config) if member.kind == Kind.POISONER else None,
                    rng=random.Random(self._rng.getrandbits(64)),
                    trace=lambda record: self._on_record(member, record),
                ) as node:
                    member.node = node
                    if member.kind in (Kind.SEED, Kind.POISONER):
                        member.torrent = await node.share(self._content)
                        task_status.started()
                    else:
                        task_status.started()
                        await self._fetch(member, node)
                    await trio.sleep_forever()
            finally:
                member.node = None

    async def _fetch(self, member: Member, node: Node) -> None:
        await self._go.wait()
        member.torrent = await node.get(self._magnet)
        try:
            await member.torrent.completed()
            member.seconds = trio.current_time() - self._began
        except DhtTorrentError as error:
            member.error = str(error)
        self._maybe_end()

    def _config(self, member: Member) -> Config:
        entry = self.members[0].node
        config = Config(
            bootstrap=[HostPort(*entry.address)] if entry is not None else (),
            listen="127.0.0.1:0",
            download_dir=member.folder,
            limit_up=self.cast.up,
            torrent=TorrentConfig(
                find_peers_interval=LOOK_AGAIN, max_connections=self._connections
            ),
            disk=DiskConfig(threads=1),
            fail_fast=True,
        )
        return free_rider(config) if member.kind == Kind.FREE_RIDER else config

    # -- meanwhile ------------------------------------------------------------------------------

    def _on_record(self, member: Member, record: Record) -> None:
        match record:
            case PeerConnected(address=address):
                self._known[member.number, address] = _id_at(member, address)
            case PeerBanned(address=address):
                self.bans += 1
                liars = {
                    behind(liar.torrent).core.connections.peer_id
                    for liar in self.of(Kind.POISONER)
                    if liar.torrent is not None
                }
                self.unjust_bans += self._known[member.number, address] not in liars
            case PieceDone() if not member.vanished:  # several may be done at the same moment
                member.pieces += 1
                self._maybe_vanish(member)
            case _:
                pass

    def _maybe_vanish(self, member: Member) -> None:
        share = self._vanish.get(member)
        if share is None or member.torrent is None or member.torrent.metainfo is None:
            return
        count = member.torrent.metainfo.geometry.piece_count
        if member.pieces >= min(share * count, count - 1):
            member.scope.cancel()  # no goodbye: the sockets close, and that is all
            self._maybe_end()

    def _maybe_end(self) -> None:
        """It is over when honest leeches have what they want and the others have vanished."""
        fetched = all(m.seconds is not None or m.error is not None for m in self.of(Kind.LEECH))
        if fetched and all(m.vanished or m.error is not None for m in self.of(Kind.KILLED)):
            self._ended.set()

    async def _watch(self, on_second: Callable[[Second], None]) -> None:
        while True:
            await trio.sleep(1.0)
            self.history.append(self._now())
            on_second(self.history[-1])

    def _now(self) -> Second:
        before = self.history[-1] if self.history else None
        seconds = trio.current_time() - self._began
        received = sum(member.counts[0] for member in self.members)
        since = seconds - (before.seconds if before else 0.0)
        alive = [member for member in self.members if member.alive]
        peers = sum(
            len(behind(m.torrent).core.connections.peers) for m in alive if m.torrent is not None
        )
        return Second(
            seconds=seconds,
            complete=sum(member.seconds is not None for member in self.members),
            alive=len(alive),
            connections=peers // 2,
            received=received,
            rate=(received - (before.received if before else 0)) / max(since, 0.001),
        )


def _id_at(member: Member, address: Address) -> PeerId:
    """What the peer calls itself that the member has just connected to."""
    assert member.node is not None
    return next(
        peer.peer_id
        for torrent in member.node.torrents.values()
        for peer in behind(torrent).core.connections.peers.values()
        if peer.address == address
    )


def _is_announced(member: Member) -> bool:
    return member.node is not None and member.node.status().last_announce is not None


def _connections_for(nodes: int) -> int:
    """Connections each node may have. Both ends of each are ours. Raises InputError if there are
    too few descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    room = CONNECTIONS if hard == resource.RLIM_INFINITY else hard // nodes - _SPARE
    if room < _FEWEST:
        raise InputError(f"{hard} open files are not enough for {nodes} nodes: see `ulimit -n`")
    return min(CONNECTIONS, room)


def _make(path: Path, size: int, rng: random.Random) -> None:
    try:
        path.parent.mkdir()
        with path.open("wb") as file:
            for at in range(0, size, _CHUNK):
                file.write(rng.randbytes(min(_CHUNK, size - at)))
    except OSError as error:
        raise InputError(f"cannot make {path}: {error.strerror}") from None


def _same(one: Path, other: Path) -> bool:
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:  # gone, or not to be read: no copy at all
        return False
