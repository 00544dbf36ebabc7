"""Peers that tell late, often or far too much: heard, but not at anybody else's cost."""

from __future__ import annotations

import contextlib
import struct

import pytest
import trio

from dht_torrent.config import PeerConfig, TorrentConfig
from dht_torrent.engine.dht.node import Dht
from dht_torrent.engine.torrent.choking import Choking
from dht_torrent.engine.torrent.downloads import Downloads
from dht_torrent.engine.torrent.torrent import behind
from dht_torrent.ids import Address
from dht_torrent.peer.connection import Connection, Event
from tests.helpers.engine import (
    BITFIELD,
    CANCEL,
    CHOKE,
    HAND,
    HAVE,
    HAVE_ALL,
    HAVE_NONE,
    INTERESTED,
    LEECH,
    NOT_INTERESTED,
    PIECE,
    PORT,
    REJECT,
    REQUEST,
    SEED,
    UNCHOKE,
    Hand,
    World,
    content,
    entered,
    greeted,
    listening,
    sample,
    unchoked,
)

FILM = sample()
CONFIG = PeerConfig()


@pytest.mark.parametrize("fast", [False, True])
async def test_a_bitfield_in_mid_stream_is_news(
    fast: bool, autojump_clock: trio.testing.MockClock
) -> None:
    """As aria2 sends one in place of many Haves: what it adds is asked for."""
    world = World()

    async def grows(hand: Hand) -> None:
        await hand.hello(FILM.metainfo.info_hash, fast=fast)
        if fast:
            await hand.send(HAVE_NONE)
        await hand.send(UNCHOKE)
        await hand.send(HAVE, 1)
        known = {1}
        while True:
            kind, payload = await hand.receive()
            if kind == REQUEST:
                piece, begin, length = struct.unpack(">III", payload)
                assert piece in known
                await hand.send(PIECE, piece, begin, data=FILM.block(piece, begin, length))
                if begin:  # the second block of two: it gets another piece
                    known |= {(max(known) + 1) % FILM.count, 0}
                    # Without the first: no piece vanishes by that.
                    bits = sum(0x80 >> index for index in known - {1})
                    await hand.send(BITFIELD, data=bytes([bits]))

    async with listening(world, HAND, grows), world.node(LEECH) as node:
        torrent = await node.get(FILM.metainfo)
        behind(torrent).core.connections.found([Address(HAND, PORT)], "magnet")
        with trio.fail_after(100):
            await torrent.completed()
    assert content(world.storages[LEECH], len(FILM.data)) == FILM.data


async def test_late_have_all_makes_a_seed_and_late_have_none_takes_nothing_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world = World()
    async with world.node(LEECH) as node:
        torrent = await node.get(FILM.metainfo)
        await entered(torrent, "downloading")
        hand = await greeted(world, torrent, to=LEECH)
        await hand.send(HAVE_NONE)
        await hand.send(HAVE, 2)
        await hand.send(HAVE_NONE)
        await trio.sleep(1)
        [peer] = behind(torrent).core.connections.peers.values()
        assert (peer.piece_total, peer.is_seed, peer.am_interested) == (1, False, True)
        await hand.send(HAVE_ALL)
        await hand.send(BITFIELD, data=b"\0")
        await hand.send(HAVE_NONE)
        await trio.sleep(1)
        assert (peer.piece_total, peer.is_seed) == (FILM.count, True)


async def test_a_peer_that_repeats_without_end_what_it_has_is_closed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world = World()
    async with world.node(LEECH) as node:
        torrent = await node.get(FILM.metainfo)
        await entered(torrent, "downloading")
        hand = await greeted(world, torrent, to=LEECH)
        for _ in range(11):  # the first is news
            await hand.send(BITFIELD, data=b"\xc0")
        await trio.sleep(1)
        assert behind(torrent).core.connections.peers
        await hand.send(BITFIELD, data=b"\xc0")
        with trio.fail_after(5):
            await hand.closed()


async def test_peers_that_change_their_mind_all_the_time_cost_few_rounds(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, rounds = World(), list[float]()
    whole = Choking.rechoke

    def counted(choking: Choking, now: float, *, only_free_slots: bool = False) -> None:
        rounds.append(now)
        whole(choking, now, only_free_slots=only_free_slots)

    async with world.seed(FILM) as torrent:
        hand = await greeted(world, torrent)
        await hand.send(HAVE_NONE)
        await trio.sleep(5)
        monkeypatch.setattr(Choking, "rechoke", counted)
        flood = (struct.pack(">IB", 1, INTERESTED) + struct.pack(">IB", 1, NOT_INTERESTED)) * 2000
        await hand.raw(flood)
        await trio.sleep(10)
        assert 1 <= len(rounds) <= 10
        # And a newcomer with a slot free has it at once.
        other = await greeted(world, torrent, "10.0.0.9")
        await trio.sleep(5)
        await other.send(HAVE_NONE)
        await other.send(INTERESTED)
        with trio.fail_after(0.2):
            await other.expect(UNCHOKE)


async def test_a_peer_that_chokes_and_unchokes_all_the_time_is_asked_ever_less(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what it was asked for is not offered to everybody else each time."""
    world, looks = World(), list[float]()
    whole = Downloads.refill_idle

    def counted(downloads: Downloads, now: float) -> None:
        looks.append(now)
        whole(downloads, now)

    monkeypatch.setattr(Downloads, "refill_idle", counted)
    async with world.node(LEECH) as node:
        torrent = await node.get(FILM.metainfo)
        await entered(torrent, "downloading")
        hand = await greeted(world, torrent, to=LEECH)
        await hand.send(HAVE_ALL)
        began = trio.current_time()
        for _ in range(1000):
            await hand.send(UNCHOKE)
            await trio.sleep(0.005)
            await hand.send(CHOKE)
            await trio.sleep(0.005)
        seconds = trio.current_time() - began
        # One a tick of the clock, and one after each choke that gave something back.
        assert len(looks) <= seconds + 12
        asked = [kind for kind, _ in await hand.heard(0.1)].count(REQUEST)
        assert 0 < asked <= 12 * 8


async def test_what_a_peer_that_chokes_was_asked_for_goes_to_another_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world = World()
    async with world.node(LEECH) as node:
        torrent = await node.get(FILM.metainfo)
        await entered(torrent, "downloading")
        first = await greeted(world, torrent, to=LEECH)
        other = await greeted(world, torrent, "10.0.0.9", to=LEECH)
        await first.send(HAVE_NONE)
        await first.send(HAVE, 1)
        await first.send(UNCHOKE)
        await first.expect(REQUEST)
        # It has all it may be asked for, and some is left: nobody is asked for what others are.
        busy = await greeted(world, torrent, "10.0.0.10", to=LEECH)
        await busy.send(HAVE_ALL)
        await busy.send(UNCHOKE)
        await busy.expect(REQUEST)
        await other.send(HAVE_NONE)
        await other.send(UNCHOKE)
        await other.send(HAVE, 1)
        assert REQUEST not in [kind for kind, _ in await other.heard(3.5)]
        await first.send(CHOKE)
        with trio.fail_after(0.2):
            assert (await other.expect(REQUEST))[:4] == struct.pack(">I", 1)


async def test_where_its_dht_listens_is_heard_from_a_peer_three_times(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, told = World(), list[Address]()
    monkeypatch.setattr(Dht, "maybe_contact", lambda dht, address: told.append(address))
    async with world.seed(FILM) as torrent:
        hand = await greeted(world, torrent, dht=True)
        await hand.send(HAVE_NONE)
        for port in range(1, 100):
            await hand.send(9, data=struct.pack(">H", port))
        await trio.sleep(1)
        assert told == [Address(HAND, port) for port in (1, 2, 3)]


async def test_a_request_made_anew_after_its_cancel_is_served(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world = World()
    one = struct.pack(">IBIII", 13, REQUEST, 2, 0, 16384)
    other = struct.pack(">IBIII", 13, REQUEST, 3, 0, 16384)
    back = struct.pack(">IBIII", 13, CANCEL, 2, 0, 16384)
    async with world.seed(FILM) as torrent:
        hand = await greeted(world, torrent)
        await unchoked(hand)
        await hand.raw(one + other + back + one + back + back + one)
        heard = [(kind, payload[:4]) for kind, payload in await hand.heard(2)]
        assert heard == [
            (REJECT, struct.pack(">I", 2)),
            (REJECT, struct.pack(">I", 2)),
            (PIECE, struct.pack(">I", 3)),
            (PIECE, struct.pack(">I", 2)),
        ]
        await hand.raw(back + one)  # of the old one nothing is left to take back
        assert [kind for kind, _ in await hand.heard(2)] == [PIECE]


class Work(trio.abc.Instrument):
    """Counts the messages that all connections together are heard on, and the most of them in one
    round of Trio's tasks: so much may come before anybody else has a turn."""

    def __init__(self) -> None:
        self.heard = self.most = self._before = 0

    def before_io_wait(self, timeout: float) -> None:
        self.most = max(self.most, self.heard - self._before)
        self._before = self.heard


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    parse, made = Connection.receive, Work()

    def counted(connection: Connection, data: bytes | bytearray | memoryview) -> list[Event]:
        before = connection.unheard
        events = parse(connection, data)
        made.heard += len(events) + connection.unheard - before
        return events

    monkeypatch.setattr(Connection, "receive", counted)
    return made


TURN = 4096
"""Bytes that one connection may say before everybody else has a turn."""


async def test_fifty_peers_that_ask_and_do_not_read_leave_others_their_turn(
    work: Work, autojump_clock: trio.testing.MockClock
) -> None:
    world = World()
    world.storage(SEED, FILM.metainfo).write(0, FILM.data)
    ask = struct.pack(">IBIII", 13, REQUEST, 1, 0, 16384)
    config = TorrentConfig(unchoke_slots=50)
    async with world.node(SEED, torrent=config) as node, trio.open_nursery() as nursery:
        trio.lowlevel.add_instrument(work)
        torrent = await node.get(FILM.metainfo)
        await entered(torrent, "seeding")

        async def ask_on(hand: Hand) -> None:
            with contextlib.suppress(OSError):  # it hangs up
                while True:
                    await hand.raw(ask * 500)

        hands = [await greeted(world, torrent, f"10.0.{n}.7") for n in range(1, 51)]
        for hand in hands:
            await hand.send(HAVE_NONE)
            await hand.send(INTERESTED)
        await trio.sleep(20)
        peers = list(behind(torrent).core.connections.peers.values())
        assert len(peers) == 50
        so_far = work.heard
        for hand in hands:
            nursery.start_soon(ask_on, hand)
        for _ in range(50):
            await trio.sleep(0.1)
            assert node.status().connections == 50
        # Nobody has more than one turn before `status` is answered ...
        assert 0 < work.most <= 50 * (TURN // len(ask) + 1)
        # ... and each has its rate, so that in the long run they leave time for the others as well.
        assert work.heard - so_far <= 50 * (CONFIG.message_burst + 1000 * 10)
        await trio.sleep(25)
        assert not behind(torrent).core.connections.peers, "who never reads is closed"
        nursery.cancel_scope.cancel()


async def test_two_hundred_kilobytes_of_changed_minds_do_not_hold_up_the_dht(
    work: Work, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, rounds = World(), list[float]()
    whole = Choking.rechoke

    def counted(choking: Choking, now: float, *, only_free_slots: bool = False) -> None:
        rounds.append(now)
        whole(choking, now, only_free_slots=only_free_slots)

    async with world.seed(FILM) as torrent, world.node("10.0.0.8") as asker:
        trio.lowlevel.add_instrument(work)
        hands = [await greeted(world, torrent, f"10.0.{n}.7") for n in range(1, 11)]
        for hand in hands:
            await hand.send(HAVE_NONE)
        await trio.sleep(5)
        monkeypatch.setattr(Choking, "rechoke", counted)
        flood = FLOODS["interest"] * 2000  # 20 KB
        end = work.heard + 10 * 4000
        async with trio.open_nursery() as nursery:
            for hand in hands:
                nursery.start_soon(hand.raw, flood)
            with trio.fail_after(0.5):
                await asker.dht.ping(Address(SEED, PORT))
        with trio.fail_after(0.5):
            while work.heard < end:
                await trio.sleep(0.01)
        # So much is done at most before a datagram has its turn: some ten milliseconds.
        assert 0 < work.most <= 10 * (TURN // 5 + 1)
        assert 1 <= len(rounds) <= 10


FLOODS = {
    "interest": struct.pack(">IB", 1, INTERESTED) + struct.pack(">IB", 1, NOT_INTERESTED),
    "keep-alives": bytes(4),
    "haves": struct.pack(">IBI", 5, HAVE, 1),
    "ports": struct.pack(">IBH", 3, 9, 7),
    "unknown extensions": struct.pack(">IBB", 3, 20, 200) + b"x",
    "cancels": struct.pack(">IBIII", 13, CANCEL, 0, 0, 16384),
    "suggestions": struct.pack(">IBI", 5, 13, 1),
}


@pytest.mark.parametrize("message", FLOODS.values(), ids=FLOODS)
async def test_a_flood_of_small_messages_is_read_at_a_bounded_rate(
    message: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    world = World()
    async with world.seed(FILM) as torrent:
        hand = await greeted(world, torrent, extended=True)
        await hand.send(HAVE_NONE)
        await trio.sleep(1)
        [peer] = behind(torrent).core.connections.peers.values()
        parse, heard = peer.connection.receive, 0

        def counted(data: memoryview) -> list:  # type: ignore[type-arg]
            nonlocal heard
            assert len(data) <= 4096, "a turn is short"
            before = peer.connection.unheard
            events = parse(data)
            heard += len(events) + peer.connection.unheard - before
            return events

        async def flood() -> None:
            while True:
                await hand.raw(message * 5000)

        async with trio.open_nursery() as nursery:
            nursery.cancel_scope.shield = False
            peer.connection.receive = counted  # type: ignore[method-assign, assignment]
            nursery.start_soon(flood)
            await trio.sleep(30)
            # A peer beside it is served as ever.
            other = await greeted(world, torrent, "10.0.0.9")
            await unchoked(other)
            await other.send(REQUEST, 1, 0, 16384)
            with trio.fail_after(2):
                await other.expect(PIECE)
            nursery.cancel_scope.cancel()
    assert heard <= 5000 + 1000 * 45 + 2000
