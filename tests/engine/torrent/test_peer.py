"""One connection: patience, bounds and manners, against peers whose bytes are written by hand."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.config import PeerConfig
from dht_torrent.engine.torrent.outbox import OUTBOX_LIMIT
from dht_torrent.engine.torrent.torrent import behind
from dht_torrent.geometry import BLOCK
from dht_torrent.ids import Address
from dht_torrent.peer.messages import Have as HaveMessage
from dht_torrent.torrent.requests import Run
from tests.helpers.engine import (
    EXTENDED,
    HAND,
    HAVE_ALL,
    HAVE_NONE,
    INTERESTED,
    KIB,
    LEECH,
    PIECE,
    PORT,
    REQUEST,
    SEED,
    UNCHOKE,
    Hand,
    World,
    dial,
    drop_reasons,
    greeted,
    listening,
    sample,
    unchoked,
)

CONFIG = PeerConfig()


# -- patience -------------------------------------------------------------------------------------


async def test_a_silent_peer_is_kept_alive_and_then_closed(autojump_clock: MockClock) -> None:
    world = World()
    async with world.seed(sample()) as torrent:
        hand = await greeted(world, torrent)
        await hand.send(HAVE_NONE)
        since = trio.current_time()
        await hand.expect(-1)
        assert trio.current_time() - since == pytest.approx(CONFIG.keepalive_interval, abs=0.1)
        assert await hand.closed() - since == pytest.approx(CONFIG.idle_timeout, abs=0.1)


async def test_a_peer_that_only_sends_keep_alives_stays(autojump_clock: MockClock) -> None:
    world = World()
    async with world.seed(sample()) as torrent:
        hand = await greeted(world, torrent)
        for _ in range(5):
            await trio.sleep(CONFIG.idle_timeout - 10)
            await hand.raw(bytes(4))
        assert len(behind(torrent).core.connections.peers) == 1


async def test_a_message_fed_in_drips_must_end_in_time(autojump_clock: MockClock) -> None:
    world = World()
    async with world.seed(sample()) as torrent:
        hand = await greeted(world, torrent)
        await hand.send(HAVE_NONE)
        since = trio.current_time()
        async with trio.open_nursery() as nursery:

            async def drip() -> None:
                await hand.raw(struct.pack(">IBII", 9 + BLOCK, PIECE, 0, 0))
                with contextlib.suppress(OSError):  # it hangs up
                    while True:
                        await trio.sleep(10)
                        await hand.raw(b"x")

            nursery.start_soon(drip)
            assert await hand.closed() - since == pytest.approx(CONFIG.message_timeout, abs=0.1)
            nursery.cancel_scope.cancel()


async def test_a_message_may_come_in_two_parts_after_a_long_silence(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with world.seed(sample()) as torrent:
        hand = await greeted(world, torrent)
        await hand.send(HAVE_NONE)
        await trio.sleep(CONFIG.idle_timeout - 10)
        await hand.raw(b"\0\0")
        await trio.sleep(5)
        await hand.raw(b"\0\1" + bytes([INTERESTED]))
        with trio.fail_after(60):
            await hand.expect(UNCHOKE)


async def test_a_handshake_fed_in_drips_must_end_in_time(autojump_clock: MockClock) -> None:
    world = World()
    async with world.seed(sample()) as torrent:
        slow = await dial(world, SEED)
        since = trio.current_time()
        async with trio.open_nursery() as nursery:

            async def drip() -> None:
                with contextlib.suppress(OSError):  # it hangs up
                    for byte in b"\x13BitTorrent protocol":
                        await slow.raw(bytes([byte]))
                        await trio.sleep(0.7)

            nursery.start_soon(drip)
            # An honest peer is not held up by it.
            hand = await greeted(world, torrent)
            assert trio.current_time() - since < 1
            hand.stream.close()
            assert await slow.closed() - since == pytest.approx(CONFIG.handshake_timeout, abs=0.1)
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\n\r\n", b"\x13BitTorrent protocol" + bytes(48)]
)
async def test_a_peer_that_wants_nothing_we_have_is_closed_without_a_word(
    first: bytes, autojump_clock: MockClock
) -> None:
    world = World()
    async with world.seed(sample()):
        hand = await dial(world, SEED)
        await hand.raw(first)
        assert await hand.heard(30) == []
        assert trio.current_time() < 30


# -- uploads --------------------------------------------------------------------------------------


async def test_an_unchoked_peer_gets_the_blocks_it_asks_for_in_its_order(
    autojump_clock: MockClock,
) -> None:
    world, torrent_sample = World(), sample()
    async with world.seed(torrent_sample) as torrent:
        hand = await greeted(world, torrent)
        await unchoked(hand)
        wanted = [(3, 0, BLOCK), (0, BLOCK, BLOCK), (7, 5, 100)]
        for request in wanted:
            await hand.send(REQUEST, *request)
        for piece, begin, length in wanted:
            got = await hand.expect(PIECE)
            assert got[:8] == struct.pack(">II", piece, begin)
            assert got[8:] == torrent_sample.block(piece, begin, length)
        assert torrent.uploaded == 2 * BLOCK + 100


async def test_a_quiet_peer_is_kept_alive_again_and_again(autojump_clock: MockClock) -> None:
    """Whatever was sent before, a keep-alive follows the last of it after an interval."""
    world = World()
    async with world.seed(sample()) as torrent:
        hand = await greeted(world, torrent)
        await unchoked(hand)
        await trio.sleep(CONFIG.send_timeout - 20)
        await hand.raw(bytes(4))
        await trio.sleep(15)
        await hand.send(REQUEST, 0, 0, 100)
        await hand.expect(PIECE)
        sent = trio.current_time()
        for times in range(1, 5):
            await hand.raw(bytes(4))
            await hand.expect(-1)
            due = sent + times * CONFIG.keepalive_interval
            assert trio.current_time() == pytest.approx(due, abs=0.2)


async def test_a_peer_that_waits_in_line_for_long_is_kept_alive(autojump_clock: MockClock) -> None:
    world = World()
    async with world.seed(sample(), limit_up=20) as torrent:
        hand = await greeted(world, torrent)
        await unchoked(hand)
        for number in range(4):
            await hand.send(REQUEST, number, 0, BLOCK)
        since = trio.current_time()
        for _ in range(3):
            await hand.raw(bytes(4))
            await hand.expect(-1)
        passed = trio.current_time() - since
        assert passed <= 3.1 * CONFIG.keepalive_interval


async def test_a_block_is_sent_however_long_it_took_to_read(autojump_clock: MockClock) -> None:
    world, torrent_sample = World(), sample()
    async with world.seed(torrent_sample) as torrent:
        hand = await greeted(world, torrent)
        await unchoked(hand)
        (peer,) = behind(torrent).core.connections.peers.values()
        serve = peer.serve
        assert serve is not None

        async def slowly(runs: Sequence[Run], into: Sequence[memoryview]) -> None:
            await trio.sleep(CONFIG.send_timeout + 10)
            await serve(runs, into)

        peer.serve_with(slowly)
        for piece in range(3):
            await hand.send(REQUEST, piece, 0, 100)
            assert (await hand.expect(PIECE))[8:] == torrent_sample.block(piece, 0, 100)


async def test_a_peer_that_does_not_read_is_closed(autojump_clock: MockClock) -> None:
    world, torrent_sample = World(), sample(1024 * KIB)
    async with world.seed(torrent_sample) as torrent:
        hand = await greeted(world, torrent)
        await unchoked(hand)
        since = trio.current_time()
        for piece in range(torrent_sample.count):
            for begin in (0, BLOCK):
                await hand.send(REQUEST, piece, begin, BLOCK)
        assert await drop_reasons(world) == ["does not read what it is sent"]
        # The last write that could begin plus the patience for it.
        assert trio.current_time() - since < 2 * CONFIG.send_timeout


async def test_a_flood_of_requests_that_reads_nothing_takes_bounded_memory(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with world.seed(sample(1024 * KIB)) as torrent:
        hand = await greeted(world, torrent)
        await unchoked(hand)
        (peer,) = behind(torrent).core.connections.peers.values()
        thousand = struct.pack(">IBIII", 13, REQUEST, 0, 0, BLOCK) * 1000
        most = 0
        with contextlib.suppress(OSError):  # in the end it hangs up
            for _ in range(100):
                await hand.raw(thousand)
                await trio.sleep(0.01)
                assert len(peer.asked) <= CONFIG.max_asked
                most = max(most, peer.backlog)
        assert 0 < most <= 2 << 20
        assert most <= OUTBOX_LIMIT


async def test_messages_for_a_peer_that_reads_nothing_do_not_pile_up(
    autojump_clock: MockClock,
) -> None:
    """Rejects for ever, at the rate at which requests are heard: it is closed long before the
    outbox overflows, and before the time a peer gets that only reads slowly."""
    world = World()
    async with world.seed(sample(1024 * KIB)) as torrent:
        hand = await greeted(world, torrent)
        await unchoked(hand)
        (peer,) = behind(torrent).core.connections.peers.values()
        thousand = struct.pack(">IBIII", 13, REQUEST, 0, 0, BLOCK) * 1000
        with trio.fail_after(30), contextlib.suppress(OSError):  # it hangs up
            while True:
                await hand.raw(thousand)
                await trio.sleep(0.01)
                assert peer.backlog <= OUTBOX_LIMIT + 17_000
        assert await drop_reasons(world) == ["does not read what it is sent"]


async def test_a_full_outbox_closes_the_connection_at_once(autojump_clock: MockClock) -> None:
    world = World()
    async with world.seed(sample()) as torrent:
        hand = await greeted(world, torrent)
        await hand.send(HAVE_NONE)
        await trio.sleep(1)
        (peer,) = behind(torrent).core.connections.peers.values()
        while peer.backlog <= OUTBOX_LIMIT:
            assert not peer.is_dropped
            peer.tell(HaveMessage(1))
        assert peer.is_dropped
        with trio.fail_after(1):
            assert await drop_reasons(world) == ["does not read what it is sent"]


async def test_a_peer_that_reads_slowly_and_asks_little_gets_its_time(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with world.seed(sample(1024 * KIB)) as torrent:
        hand = await greeted(world, torrent)
        await unchoked(hand)
        for piece in range(32):
            await hand.send(REQUEST, piece, 0, BLOCK)
        await trio.sleep(CONFIG.send_timeout - 10)
        assert behind(torrent).core.connections.peers
        await hand.expect(PIECE)
        await trio.sleep(CONFIG.send_timeout - 10)
        assert behind(torrent).core.connections.peers


async def test_ten_thousand_metadata_requests_are_answered_within_bounds(
    autojump_clock: MockClock,
) -> None:
    world, torrent_sample = World(), sample(32 * 1024 * KIB, 16 * KIB)
    async with world.seed(torrent_sample) as torrent:
        hand = await greeted(world, torrent, extended=True)
        await hand.send(HAVE_NONE)
        await hand.send(EXTENDED, data=b"\0d1:md11:ut_metadatai3eee")
        ours = await hand.expect(EXTENDED)
        number = int(ours.partition(b"11:ut_metadatai")[2].partition(b"e")[0])
        body = bytes([EXTENDED, number]) + b"d8:msg_typei0e5:piecei0ee"
        flood = (struct.pack(">I", len(body)) + body) * 1000
        (peer,) = behind(torrent).core.connections.peers.values()
        for _ in range(10):
            await hand.raw(flood)
            await trio.sleep(0.01)
        await trio.sleep(10)  # until all are heard: none of the answers has been read
        assert peer.backlog <= 3 << 20
        answers = [data[1:] for kind, data in await hand.heard(10) if kind == EXTENDED]
        assert len(answers) == 10_000
        given = [data for data in answers if data.startswith(b"d8:msg_typei1e")]
        assert given[0].endswith(torrent_sample.info[:BLOCK])
        # As many as may wait, and those that the first write took.
        assert CONFIG.max_metadata_requests < len(given) <= 2 * CONFIG.max_metadata_requests


# -- downloads ------------------------------------------------------------------------------------


async def test_unrequested_blocks_are_waste_and_too_many_end_it(
    autojump_clock: MockClock,
) -> None:
    world, torrent_sample = World(), sample()

    async def pushy(hand: Hand) -> None:
        await hand.hello(torrent_sample.metainfo.info_hash)
        await hand.send(HAVE_ALL)  # and it never unchokes us
        for number in range(1000):
            await hand.send(PIECE, number % 8, 0, data=torrent_sample.block(number % 8, 0))

    async with listening(world, HAND, pushy), world.node(LEECH) as node:
        torrent = await node.get(torrent_sample.metainfo)
        behind(torrent).core.connections.found([Address(HAND, PORT)], "user")
        assert (await drop_reasons(world))[0] == "sends blocks that were not requested"
        assert torrent.downloaded == 0 or torrent.wasted > 0
        assert torrent.progress == 0
        assert world.storages[LEECH].stamps() == (None,)


@pytest.mark.parametrize(
    "message",
    [
        struct.pack(">IBI", 5, 4, 8),  # have: no such piece
        struct.pack(">IBI", 5, 4, 0xFFFFFFFF),
        struct.pack(">I", 0xFFFFFFFF),
        struct.pack(">I", (1 << 20) + 1),
        struct.pack(">IBIII", 13, 6, 8, 0, BLOCK),
        struct.pack(">IB", 1, 99),
        struct.pack(">IB", 2, 0) + b"x",
    ],
)
async def test_a_broken_rule_ends_that_connection_and_no_other(
    message: bytes, autojump_clock: MockClock
) -> None:
    world = World()
    async with world.seed(sample()) as torrent:
        honest = await greeted(world, torrent, "10.0.0.9")
        hand = await greeted(world, torrent)
        await hand.send(HAVE_NONE)
        await hand.raw(message)
        assert await hand.closed() < 1
        await unchoked(honest)
        assert torrent.state == "seeding"
