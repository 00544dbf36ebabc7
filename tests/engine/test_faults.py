"""A bug of ours ends its smallest owner: the connection, else the torrent, else the request. It is
counted, shown, and logged once; and with `fail_fast` it ends the run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio

from dht_torrent import Config, Node
from dht_torrent.dht.answer import Answerer
from dht_torrent.dht.shortcut import Shortcut
from dht_torrent.dht.table import Table
from dht_torrent.engine import incoming as incoming_module
from dht_torrent.engine.dht.announces import Announces
from dht_torrent.engine.dht.bootstrap import Bootstrap
from dht_torrent.engine.dht.dual_stack import DualStack
from dht_torrent.engine.dht.items import Items
from dht_torrent.engine.dht.lookups import Lookups
from dht_torrent.engine.dht.maintenance import Maintenance
from dht_torrent.engine.dht.node import Dht
from dht_torrent.engine.dht.transactions import Transactions
from dht_torrent.engine.faults import MAX_PAUSE, Faults
from dht_torrent.engine.incoming import Incoming
from dht_torrent.engine.net.protocols import DatagramSocket
from dht_torrent.engine.registry import Registry
from dht_torrent.engine.torrent import connections as connections_module
from dht_torrent.engine.torrent import dialling as dialling_module
from dht_torrent.engine.torrent import peer_loops
from dht_torrent.engine.torrent.admission import Admission
from dht_torrent.engine.torrent.choking import Choking
from dht_torrent.engine.torrent.connections import Connections
from dht_torrent.engine.torrent.content import Content
from dht_torrent.engine.torrent.core import TorrentCore
from dht_torrent.engine.torrent.discovery import Discovery
from dht_torrent.engine.torrent.downloads import Downloads
from dht_torrent.engine.torrent.extensions import Extensions
from dht_torrent.engine.torrent.metadata import MetadataFetch
from dht_torrent.engine.torrent.rate_limits import Direction
from dht_torrent.engine.torrent.record import ResumeRecord
from dht_torrent.engine.torrent.session import Session
from dht_torrent.engine.torrent.stages import Active
from dht_torrent.engine.torrent.swarm import Swarm
from dht_torrent.engine.torrent.torrent import Torrent, behind
from dht_torrent.engine.torrent.writer import Writer
from dht_torrent.engine.upkeep import DhtSaving
from dht_torrent.errors import OurFault
from dht_torrent.ids import Address, HostPort
from dht_torrent.lab.net.datagrams import FakeDatagramSocket
from dht_torrent.metainfo import Metainfo
from dht_torrent.peer.connection import Connection
from dht_torrent.storage import MemoryStorage, Storage
from tests.helpers.engine import (
    HAND,
    HAVE_ALL,
    INTERESTED,
    LEECH,
    PORT,
    SEED,
    UNCHOKE,
    Hand,
    HandSeed,
    World,
    content,
    dial,
    entered,
    listening,
    sample,
)

FILM, OTHER = sample(seed=1), sample(seed=2)
ODD = HAND[:-1] + "7"
OTHER_SEED = "10.0.0.8"


# -- the log of faults ------------------------------------------------------------------------


def boom(text: str = "") -> None:
    raise ZeroDivisionError(text)


def test_a_fault_is_counted_told_and_logged_once_for_its_place(
    caplog: pytest.LogCaptureFixture,
) -> None:
    faults, ended = Faults(fail_fast=False), list[str]()
    for number in range(3):
        with faults.confined(f"part {number}", ends=ended.append):
            boom(f"number\n{number}")
    with faults.confined("part 3"):
        raise KeyError("x")
    assert faults.count == 4
    assert len(ended) == 3
    assert ended[1].startswith("ZeroDivisionError: number 1 (test_faults.py:")
    assert faults.last is not None
    assert faults.last.startswith("part 3: KeyError: 'x' (test_faults.py:")
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [str(record.exc_info[1]) for record in errors if record.exc_info] == [
        "number\n0",
        "'x'",
    ]


def test_a_long_text_of_an_error_is_cut() -> None:
    faults = Faults(fail_fast=False)
    with faults.confined("it"):
        boom("x" * 10_000)
    assert faults.last is not None
    assert len(faults.last) < 300


@pytest.mark.parametrize(
    "error", [MemoryError(), KeyboardInterrupt(), SystemExit(), GeneratorExit()], ids=repr
)
def test_what_is_about_the_whole_process_is_not_confined(error: BaseException) -> None:
    faults, ended = Faults(fail_fast=False), list[str]()
    with pytest.raises(type(error)), faults.confined("it", ends=ended.append):
        raise error
    bugs = ExceptionGroup("more", [ZeroDivisionError(), ValueError()])
    with pytest.raises(BaseExceptionGroup) as raised, faults.confined("it", ends=ended.append):
        raise BaseExceptionGroup("all", [bugs, BaseExceptionGroup("rest", [error])])
    left = raised.value
    assert left.split(type(error))[1] is None
    assert faults.count == 2
    assert len(ended) == 1
    if isinstance(error, MemoryError):
        with pytest.raises(MemoryError):
            faults.take(error, "it")
    assert faults.count == 2


async def test_a_cancelled_block_with_a_bug_is_cancelled_and_the_bug_counted() -> None:
    faults = Faults(fail_fast=False)

    async def breaks_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            boom()

    with trio.CancelScope() as scope:
        with faults.confined("it"):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                nursery.start_soon(breaks_when_cancelled)
                scope.cancel()
        raise AssertionError("it was cancelled, and went on")
    assert scope.cancelled_caught
    assert faults.count == 1


def test_with_fail_fast_nothing_is_confined() -> None:
    faults = Faults(fail_fast=True)
    with pytest.raises(ZeroDivisionError), faults.confined("it"):
        boom()
    with pytest.raises(ExceptionGroup), faults.confined("it"):
        raise ExceptionGroup("some", [ZeroDivisionError()])
    with pytest.raises(ZeroDivisionError):
        faults.take(ZeroDivisionError(), "it")


async def test_a_fault_a_library_would_swallow_ends_a_run_that_fails_fast() -> None:
    calm, strict = Faults(fail_fast=False), Faults(fail_fast=True)
    calm.report(ValueError(), "a request")
    assert calm.count == 1
    strict.report(ValueError("what"), "a request")
    with trio.fail_after(20), pytest.raises(ValueError, match="what"):
        await strict.watch()
    with trio.move_on_after(0.01) as waited:
        await calm.watch()
    assert waited.cancelled_caught


async def test_a_service_begins_anew_ever_more_slowly(
    autojump_clock: trio.testing.MockClock,
) -> None:
    faults, times, runs = Faults(fail_fast=False), [], iter([0.0] * 9 + [100.0, 0.0])

    async def service() -> None:
        times.append(trio.current_time())
        run = next(runs, None)
        if run is not None:
            await trio.sleep(run)
            boom()

    began = trio.current_time()
    with trio.fail_after(10_000):
        await faults.keep("it", service)
    pauses = [round(b - a) for a, b in pairwise(times)]
    assert times[0] == began
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60, 101, 2]
    assert faults.count == 11
    assert MAX_PAUSE == 60


def test_a_node_goes_on_by_default() -> None:
    [field] = [field for field in dataclasses.fields(Config) if field.name == "fail_fast"]
    assert field.default is False
    assert Config().fail_fast, "the tests end at the first fault"


# -- a node with two downloads ----------------------------------------------------------------


def breaks(
    patch: pytest.MonkeyPatch,
    owner: Any,
    name: str,
    *,
    when: Callable[..., bool] = lambda *_: True,
    times: int = 10**9,
    after: bool = False,
) -> list[None]:
    """Let `owner.name` raise a ZeroDivisionError, `after` it has done its work, each time `when`
    says so of its arguments, but no more than so many `times`. Returns a list that grows with
    them."""
    whole, broken = getattr(owner, name), list[None]()
    is_async = hasattr(whole, "__code__") and whole.__code__.co_flags & 0x80

    def due(*args: Any) -> bool:
        if len(broken) >= times or not when(*args):
            return False
        broken.append(None)
        return True

    if is_async:

        async def slow(*args: Any, **options: Any) -> Any:
            if due(*args):
                if after:
                    await whole(*args, **options)
                await trio.lowlevel.checkpoint()
                boom(f"in {name}")
            return await whole(*args, **options)

        patch.setattr(owner, name, slow)
    else:

        def quick(*args: Any, **options: Any) -> Any:
            if due(*args):
                if after:
                    whole(*args, **options)
                boom(f"in {name}")
            return whole(*args, **options)

        patch.setattr(owner, name, quick)
    return broken


def odd_peer(*args: Any) -> bool:
    """Is one of them, or what they are of, the connection to the odd peer?"""
    for arg in args:
        arg = getattr(arg, "peer", arg)
        address = getattr(arg, "remote", None) or getattr(arg, "address", None)
        stream = getattr(arg, "stream", None)
        if stream is not None:
            address = stream.remote
        if isinstance(arg, Address):
            address = arg
        if isinstance(address, Address) and address.host == ODD:
            return True
    return False


def odd_key(world: Two) -> Callable[..., bool]:
    return lambda swarm, key, *_: any(
        peer.key == key and peer.address.host == ODD
        for torrent in world.node.torrents.values()
        for peer in behind(torrent).core.connections.peers.values()
    )


@dataclasses.dataclass
class Two:
    """A node that fetches FILM and OTHER, each from a seed of its own; and an odd peer, which says
    it has all of FILM and gives nothing, for it to dial."""

    world: World
    node: Node
    film: Torrent
    other: Torrent
    stores: dict[str, MemoryStorage]
    odd: list[Hand]

    async def is_well(self, *torrents: Torrent) -> None:
        with trio.fail_after(300):
            for torrent in torrents:
                await torrent.completed()
        await trio.sleep(1)  # until the seeds have parted
        for torrent, what in ((self.film, FILM), (self.other, OTHER)):
            if torrent in torrents:
                assert content(self.stores[torrent.id], len(what.data)) == what.data
        live = sum(
            len(behind(torrent).core.connections.peers) for torrent in self.node.torrents.values()
        )
        assert self.node._context.room.connections == live
        for torrent in self.node.torrents.values():
            for peer in behind(torrent).core.connections.peers.values():
                assert not peer.is_dropped

    def shows(self, text: str, least: int = 1) -> None:
        status = self.node.status()
        assert status.faults >= least
        assert status.last_fault is not None
        assert text in status.last_fault


async def sits(hand: Hand) -> None:
    await hand.hello(FILM.metainfo.info_hash, b"-HW0002-odd")
    await hand.send(HAVE_ALL)
    await hand.send(UNCHOKE)
    await hand.closed()


@contextlib.asynccontextmanager
async def two(*, magnet: bool = False, **changes: Any) -> AsyncIterator[Two]:
    world, stores = World(), dict[str, MemoryStorage]()

    def open_storage(metainfo: Metainfo, path: Path, shared: bool) -> Storage:
        key = metainfo.info_hash.hex()
        if key not in stores:
            stores[key] = MemoryStorage(metainfo.geometry)
        return stores[key]

    async with (
        listening(world, SEED, HandSeed(FILM)),
        listening(world, OTHER_SEED, HandSeed(OTHER)),
        listening(world, ODD, sits) as odd,
        world.node(LEECH, open_storage=open_storage, **{"fail_fast": False, **changes}) as node,
    ):
        film = await node.get(FILM.magnet() if magnet else FILM.metainfo)
        other = await node.get(OTHER.metainfo)
        film.add_peers([HostPort(ODD, PORT)])
        await trio.sleep(20)  # the odd one is there first
        film.add_peers([HostPort(SEED, PORT)])
        other.add_peers([HostPort(OTHER_SEED, PORT)])
        yield Two(world, node, film, other, stores, odd)


CONNECTION: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "opened": (Extensions, "opened", {}),
    "opened, when told": (Extensions, "opened", {"after": True}),
    "joining": (Swarm, "join", {}),
    "taking part": (Swarm, "_take_part", {}),
    "taken part": (Swarm, "_take_part", {"after": True}),
    "events": (Connections, "_on_events", {}),
    "events, when taken": (Connections, "_on_events", {"after": True}),
    "refill": (Downloads, "refill", {"after": True, "times": 1}),
    "reading": (peer_loops, "read", {}),
    "writing": (Writer, "run", {}),
    "running": (connections_module, "run_peer", {}),
    "refusing": (Admission, "_unwanted", {}),
    "dialling": (dialling_module, "shake_hands", {}),
}


@pytest.mark.parametrize(("owner", "name", "how"), CONNECTION.values(), ids=CONNECTION)
@pytest.mark.parametrize("magnet", [False, True], ids=["metadata", "magnet"])
async def test_a_bug_with_one_peer_ends_only_its_connection(
    owner: Any,
    name: str,
    how: dict[str, Any],
    magnet: bool,
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if magnet and name in ("join", "_take_part"):
        pytest.skip("the other peers come first")
    broken = breaks(monkeypatch, owner, name, **{"when": odd_peer, **how})
    async with two(magnet=magnet) as both:
        await both.is_well(both.film, both.other)
        assert broken
        both.shows(f"ZeroDivisionError: in {name}")
        assert magnet or len(both.odd) > 1, "it was dialled again"


INCOMING: dict[str, tuple[Any, str]] = {
    "its handshake": (incoming_module, "receive_handshake"),
    "the answer": (Connection, "send_handshake"),
    "its start": (Extensions, "opened"),
    "its end": (Admission, "_unwanted"),
}


@pytest.mark.parametrize(("owner", "name"), INCOMING.values(), ids=INCOMING)
async def test_a_bug_with_an_incoming_peer_ends_only_its_connection(
    owner: Any, name: str, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    async with world.seed(FILM, fail_fast=False) as torrent:
        with monkeypatch.context() as patch:
            when = odd_peer if owner is not Connection else (lambda *_: True)
            broken = breaks(patch, owner, name, when=when, times=1)
            hand = await dial(world, SEED, ODD)
            await hand.raw(b"\x13BitTorrent protocol" + bytes(8) + FILM.metainfo.info_hash)
            await hand.raw(b"-HW0001-odd".ljust(20, b"-"))
            with trio.fail_after(10):
                await hand.closed()
            assert broken
        assert torrent.state == "seeding"
        hand = await dial(world, SEED, HAND)
        await hand.hello(FILM.metainfo.info_hash)
        await hand.send(INTERESTED)
        with trio.fail_after(10):
            await hand.expect(UNCHOKE)
        assert len(behind(torrent).core.connections.peers) == 1


async def test_a_bug_at_the_end_of_a_connection_stops_the_torrent_with_true_counts(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows what the rest of the torrent would be like after that."""
    broken = breaks(monkeypatch, Active, "closed", when=odd_peer, times=1)
    async with two() as both:
        await both.odd[0].raw(b"\xff" * 4)
        await entered(both.film, "error")
        assert broken
        assert not behind(both.film).core.connections.peers
        await both.is_well(both.other)
        both.shows("ZeroDivisionError: in closed")
        await both.film.resume()
        await both.is_well(both.film, both.other)


async def test_the_blocks_of_a_peer_that_met_a_bug_are_asked_of_others(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two() as both:
        [odd] = [
            p for p in behind(both.film).core.connections.peers.values() if p.address.host == ODD
        ]
        picker = behind(both.film).core.stage.swarm.picker  # type: ignore[union-attr]
        assert picker.outstanding(odd.key)
        broken = breaks(monkeypatch, Swarm, "on_events", when=odd_peer, times=1)
        await both.odd[0].send(UNCHOKE)
        await trio.sleep(0.5)
        assert broken  # running connections look it up anew each time
        assert not picker.holdings.knows(odd.key)
        assert odd.key not in behind(both.film).core.connections.peers
        assert both.node._context.room.connections == len(
            behind(both.film).core.connections.peers
        ) + len(behind(both.other).core.connections.peers)
        await both.is_well(both.film, both.other)


TORRENT: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "beginning": (Session, "_open", {}),
    "checking": (Content, "establish", {}),
    "preparing": (Content, "prepare", {"after": True}),
    "the metadata": (MetadataFetch, "run", {}),
    "the session": (Session, "run", {}),
    "saving pieces": (Swarm, "_announce", {}),
    "choosing whom to unchoke": (Choking, "_run_rounds", {}),
    "the clock": (Downloads, "_watch_the_clock", {}),
    "finding peers": (Discovery, "run", {}),
    "its connections": (Connections, "run", {}),
    "dialling": (Connections, "_dial_all", {}),
    "what is due": (Session, "_by_the_clock", {}),
    "its files": (TorrentCore, "look", {}),
    "completion": (Session, "_on_saved", {}),
}


def is_film(*args: Any) -> bool:
    """Is the first of them of FILM?"""
    mine = FILM.metainfo.info_hash
    owner = args[0]._banning if isinstance(args[0], Downloads) else args[0]
    core = owner if isinstance(owner, TorrentCore) else getattr(owner, "_core", None)
    owner = core.context if core is not None else getattr(owner, "_torrent", owner)
    found = getattr(owner, "info_hash", None) or getattr(owner, "_info_hash", None)
    metainfo = getattr(owner, "_metainfo", None)
    return bool(mine == (metainfo.info_hash if metainfo is not None else found))


@pytest.mark.parametrize(("owner", "name", "how"), TORRENT.values(), ids=TORRENT)
async def test_a_bug_of_a_torrent_stops_only_it_and_it_can_be_resumed(
    owner: Any,
    name: str,
    how: dict[str, Any],
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with monkeypatch.context() as patch:
        broken = breaks(patch, owner, name, **{"when": is_film, **how})
        async with two(magnet=owner is MetadataFetch) as both:
            await entered(both.film, "error", 600)
            assert broken
            with pytest.raises(OurFault, match="stopped by a bug in dht_torrent"):
                await both.film.completed()
            assert both.film.error is not None
            assert f"ZeroDivisionError: in {name}" in both.film.error
            assert both.film.summary().why == both.film.error
            await both.is_well(both.other)
            both.shows(f"ZeroDivisionError: in {name}")
            await both.film.resume()  # and it happens again: each time for its user to see
            await trio.sleep(60)
            await entered(both.film, "error", 600)
            patch.undo()
            await both.film.resume()
            await both.is_well(both.film, both.other)
    errors = [record for record in caplog.records if record.exc_info]
    assert len(errors) == 1, "logged once, with its traceback"


@pytest.mark.parametrize(
    ("owner", "name"), [(ResumeRecord, "write"), (Content, "close"), (Content, "rest")]
)
async def test_a_bug_while_a_torrent_rests_or_ends_is_not_the_nodes(
    owner: Any, name: str, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two() as both:
        await both.is_well(both.film, both.other)
        broken = breaks(monkeypatch, owner, name, when=is_film)
        await both.film.pause()
        await trio.sleep(100)
        assert both.film.state == "paused"
        assert len(broken) < 3
        await both.node.remove(both.film)
        assert broken
        assert list(both.node.torrents.values()) == [both.other]
        both.shows(f"ZeroDivisionError: in {name}")
        await both.is_well(both.other)


# -- the DHT ----------------------------------------------------------------------------------


class Asker:
    """Pings the node at LEECH from a port of its own."""

    def __init__(self, socket: DatagramSocket) -> None:
        self._socket = socket

    def ask(self, tid: bytes, *, odd: bool = False) -> None:
        """An `odd` query goes the long way: its keys are more than the usual ones."""
        query = b"d1:ad2:id20:%se1:q4:ping1:t2:%s1:y1:qe" % (b"q" * 20, tid)
        if odd:
            query = query.replace(b"1:q4:ping", b"1:q4:ping1:s3:odd")
        self._socket.send(query, Address(LEECH, PORT))

    async def heard(self, seconds: float = 2.0) -> list[bytes]:
        """Transaction ids of the answers in this time."""
        tids = []
        with trio.move_on_after(seconds):
            while True:
                for data, _ in await self._socket.receive():
                    if data.endswith(b"1:y1:re"):
                        tids.append(data.partition(b"1:t2:")[2][:2])
        return sorted(tids)


@contextlib.asynccontextmanager
async def alone(**changes: Any) -> AsyncIterator[tuple[Node, Asker]]:
    world = World()
    socket = await world.net.host(HAND).open_udp(Address(HAND, PORT))
    async with world.node(LEECH, **{"fail_fast": False, **changes}) as node:
        yield node, Asker(socket)
    socket.close()


@pytest.mark.parametrize("odd", [False, True], ids=["usual", "odd"])
async def test_a_bug_in_a_datagram_costs_only_its_answer(
    odd: bool,
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with alone() as (node, asker):
        broken = breaks(monkeypatch, Answerer if odd else Shortcut, "answer", times=2)
        for tid in (b"a1", b"a2", b"a3", b"a4"):
            asker.ask(tid, odd=odd)
        assert await asker.heard() == [b"a3", b"a4"]
        assert len(broken) == 2
        status = node.status()
        assert status.faults == 2
        assert f"a datagram from {HAND}:{PORT}: ZeroDivisionError" in str(status.last_fault)
        assert len([record for record in caplog.records if record.exc_info]) == 1


DATAGRAM: dict[str, tuple[Any, str]] = {
    "reading": (Dht, "_datagram"),
    "an answer to us": (Dht, "_reply"),
    "knowing the sender": (Table, "queried"),
    "knowing who answered": (Table, "replied"),
    "pinging unverified addresses": (Maintenance, "verify"),
}


@pytest.mark.parametrize(("owner", "name"), DATAGRAM.values(), ids=DATAGRAM)
async def test_the_dht_goes_on_however_often_a_datagram_meets_a_bug(
    owner: Any, name: str, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    async with (
        world.node(SEED, fail_fast=False) as seed,
        world.node(LEECH, bootstrap=[SEED], fail_fast=False) as node,
    ):
        with monkeypatch.context() as patch:
            broken = breaks(patch, owner, name)
            await trio.sleep(300)
            assert broken
        assert node.status().faults or seed.status().faults
        await trio.sleep(100)
        assert node.status().dht.good == 1


SERVICES: dict[str, tuple[Any, str]] = {
    "receiving": (FakeDatagramSocket, "serve"),
    "timeouts": (Transactions, "expire"),
    "maintenance": (Maintenance, "tick"),
    "refreshing": (Maintenance, "refresh"),
    "bootstrap": (Bootstrap, "_run"),
    "asking an entry point": (Bootstrap, "_ask_point"),
    "a new id": (Bootstrap, "follow_id"),
    "announcing": (Announces, "run"),
    "items": (Items, "run"),
    "listening": (Incoming, "accept"),
    "saving contacts": (DhtSaving, "run"),
    "limits": (Direction, "run"),
}


@pytest.mark.parametrize(("owner", "name"), SERVICES.values(), ids=SERVICES)
async def test_a_service_that_met_a_bug_begins_anew(
    owner: Any, name: str, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And does its work: the node finds its way into the DHT, is found, and gives and takes."""
    broken = breaks(monkeypatch, owner, name, times=3)
    world = World()
    async with (
        world.node(SEED, fail_fast=False) as first,
        world.node(LEECH, bootstrap=[SEED], fail_fast=False, limit_up=100_000) as seed,
        world.node(HAND, bootstrap=[SEED], fail_fast=False, limit_down=100_000) as leech,
    ):
        await trio.sleep(100)
        assert len(broken) == 3
        world.storage(LEECH, FILM.metainfo).write(0, FILM.data)
        await seed.get(FILM.metainfo)
        torrent = await leech.get(FILM.magnet())
        with trio.fail_after(600):
            await torrent.completed()
        faults = sum(node.status().faults for node in (first, seed, leech))
        assert 1 <= faults <= 3  # of two that broke side by side one was cancelled first


@pytest.mark.parametrize(
    ("owner", "name"),
    [(Announces, "find_peers"), (Announces, "_look_up"), (DualStack, "find_peers")],
)
async def test_a_bug_in_a_search_is_not_the_torrents_that_wanted_it(
    owner: Any, name: str, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    async with (
        world.seed(FILM, fail_fast=False),
        world.node(LEECH, bootstrap=[SEED], fail_fast=False) as node,
    ):
        with monkeypatch.context() as patch:
            broken = breaks(patch, owner, name)
            torrent = await node.get(FILM.magnet())
            await trio.sleep(100)
            assert len(broken) > 1
            assert torrent.state == "metadata"
            assert torrent.why is not None
            assert "bug" in torrent.why
            assert "a search for peers" in str(node.status().last_fault)
        with trio.fail_after(2000):
            await torrent.completed()


async def test_a_bug_in_a_dht_request_is_reported_to_its_caller(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with alone() as (node, asker):
        breaks(monkeypatch, Lookups, "run")
        with pytest.raises(ZeroDivisionError):
            await node.dht.find_node(b"t" * 20)
        asker.ask(b"aa")
        assert await asker.heard() == [b"aa"]


# -- and all that with fail_fast ---------------------------------------------------------------

FAST: dict[str, tuple[Any, str]] = {
    "connection": (Connections, "_on_events"),
    "dialling": (dialling_module, "shake_hands"),
    "torrent": (Session, "_begin"),
    "its end": (Content, "close"),
    "search": (DualStack, "find_peers"),
    "datagram": (Shortcut, "answer"),
    "service": (Maintenance, "tick"),
    "limits": (Direction, "run"),
}


@pytest.mark.parametrize(("owner", "name"), FAST.values(), ids=FAST)
async def test_with_fail_fast_a_bug_ends_the_run(
    owner: Any, name: str, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = breaks(monkeypatch, owner, name)

    async def run() -> None:
        async with two(fail_fast=True) as both:
            asker = Asker(await both.world.net.host(HAND).open_udp(Address(HAND, PORT)))
            asker.ask(b"aa")
            await trio.sleep(60)
            await both.node.remove(both.other)
            await trio.sleep(60)

    with pytest.raises(ExceptionGroup) as raised:
        await run()
    assert broken
    assert raised.value.split(ZeroDivisionError)[0] is not None


async def test_a_record_that_meets_a_bug_is_left_out_with_a_warning(
    tmp_path: Path, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    async with world.node(LEECH, state_dir=tmp_path) as node:
        await node.get(FILM.metainfo)
        await node.get(OTHER.magnet())
        await trio.sleep(1)
    broken = breaks(monkeypatch, Registry, "_remembered", times=1)
    async with world.node(LEECH, state_dir=tmp_path, fail_fast=False) as node:
        assert broken
        assert len(node.torrents) == 1
        assert "ZeroDivisionError" in " ".join(node.warnings)
        assert node.status().faults == 1
