"""What peers may have of us, and what becomes of those who ask for more."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.config import PeerConfig
from dht_torrent.engine.torrent import uploads
from dht_torrent.engine.torrent.torrent import behind
from dht_torrent.geometry import BLOCK
from dht_torrent.torrent.requests import Run
from tests.helpers.engine import (
    ALLOWED_FAST,
    BITFIELD,
    CANCEL,
    CHOKE,
    HAVE_NONE,
    INTERESTED,
    KIB,
    LEECH,
    NOT_INTERESTED,
    PIECE,
    REJECT,
    REQUEST,
    UNCHOKE,
    Hand,
    World,
    drop_reasons,
    entered,
    greeted,
    sample,
    unchoked,
)

CONFIG = PeerConfig()


@pytest.mark.parametrize(
    ("piece", "begin", "length"),
    [
        (0, 0, 0),
        (0, 0, BLOCK + 1),
        (0, 0, 32 * KIB),
        (0, 32 * KIB - 1, 2),
        (7, 32 * KIB, 1),
        (0, 0xFFFFFFFF, BLOCK),
        (0, 0, 0xFFFFFFFF),
    ],
)
async def test_impossible_requests_are_rejected_and_too_many_end_it(
    piece: int, begin: int, length: int, autojump_clock: MockClock
) -> None:
    world = World()
    async with world.seed(sample()) as torrent:
        hand = await greeted(world, torrent)
        await unchoked(hand)
        request = struct.pack(">III", piece, begin, length)
        for _ in range(CONFIG.max_invalid_requests):
            await hand.send(REQUEST, data=request)
            assert await hand.expect(REJECT) == request
        await hand.send(REQUEST, data=request)
        await hand.closed()
        assert await drop_reasons(world) == ["asks for what it cannot have"]


async def test_a_request_for_a_piece_we_lack_is_rejected(autojump_clock: MockClock) -> None:
    world, torrent_sample = World(), sample()
    async with world.node(LEECH) as node:
        torrent = await node.get(torrent_sample.metainfo)
        await entered(torrent, "downloading")
        hand = await greeted(world, torrent, to=LEECH)
        await unchoked(hand)
        await hand.send(REQUEST, 0, 0, BLOCK)
        assert await hand.expect(REJECT) == struct.pack(">III", 0, 0, BLOCK)


async def test_requests_while_choked_are_rejected_and_too_many_end_it(
    autojump_clock: MockClock,
) -> None:
    world, torrent_sample = World(), sample(512 * KIB)
    async with world.seed(torrent_sample) as torrent:
        hand = await greeted(world, torrent)
        await hand.send(BITFIELD, data=b"\xff\xe0")  # eleven pieces: too many for allowed-fast
        await trio.sleep(CONFIG.choked_grace + 1)
        for _ in range(CONFIG.max_invalid_requests):
            await hand.send(REQUEST, 15, 0, BLOCK)
            assert await hand.expect(REJECT) == struct.pack(">III", 15, 0, BLOCK)
        await hand.send(REQUEST, 15, 0, BLOCK)
        await hand.closed()
        assert await drop_reasons(world) == ["asks for what it cannot have"]


async def test_requests_that_crossed_our_choke_are_only_late(autojump_clock: MockClock) -> None:
    world, torrent_sample = World(), sample(512 * KIB)
    async with world.seed(torrent_sample) as torrent:
        hand = await greeted(world, torrent)
        await hand.send(BITFIELD, data=b"\xff\xe0")
        (peer,) = behind(torrent).core.connections.peers.values()
        for _ in range(CONFIG.max_invalid_requests + 100):
            await hand.send(REQUEST, 15, 0, BLOCK)  # choked since it connected, just now
            await hand.expect(REJECT)
        assert peer.invalid_requests == 0


async def test_a_choke_comes_before_the_rejects_of_what_was_asked(
    autojump_clock: MockClock,
) -> None:
    world = World(rate=64 * KIB)
    async with world.seed(sample(512 * KIB)) as torrent:
        hand = await greeted(world, torrent)
        await unchoked(hand)
        for begin in range(0, 32 * KIB, BLOCK):
            for piece in range(16):
                await hand.send(REQUEST, piece, begin, BLOCK)
        await hand.expect(PIECE)
        (peer,) = behind(torrent).core.connections.peers.values()
        asked = list(peer.asked)
        kept = [request for request in asked if request[0] in peer.allowed_by_us]
        peer.choke(trio.current_time())
        await hand.expect(CHOKE)
        rejected = [payload for kind, payload in await hand.heard(20) if kind == REJECT]
        assert asked
        assert len(rejected) == len(asked) - len(kept)


@pytest.mark.parametrize("fast", [False, True])
async def test_without_bep_6_a_choke_takes_back_what_is_being_read(
    fast: bool, autojump_clock: MockClock
) -> None:
    """With it the block still comes, behind the choke."""
    world = World()
    async with world.seed(sample()) as torrent:
        hand = await greeted(world, torrent, fast=fast)
        if fast:
            await hand.send(HAVE_NONE)
        await hand.send(INTERESTED)
        await hand.expect(UNCHOKE)
        (peer,) = behind(torrent).core.connections.peers.values()
        serve = peer.serve
        assert serve is not None

        async def slowly(runs: Sequence[Run], into: Sequence[memoryview]) -> None:
            await serve(runs, into)
            peer.choke(trio.current_time())

        peer.serve_with(slowly)
        await hand.send(REQUEST, 0, 0, BLOCK)
        kinds = [kind for kind, _ in await hand.heard(20)]
        assert [kind for kind in kinds if kind in (CHOKE, PIECE)] == [CHOKE, PIECE][: 1 + fast]


async def test_a_cancelled_request_is_not_served(autojump_clock: MockClock) -> None:
    world = World(rate=16 * KIB)
    async with world.seed(sample()) as torrent:
        hand = await greeted(world, torrent)
        await unchoked(hand)
        for piece in range(8):
            await hand.send(REQUEST, piece, 0, BLOCK)
        await hand.send(CANCEL, 7, 0, BLOCK)
        assert await hand.expect(REJECT) == struct.pack(">III", 7, 0, BLOCK)
        served = [payload[:4] for kind, payload in await hand.heard(30) if kind == PIECE]
        assert struct.pack(">I", 7) not in served
        assert struct.pack(">I", 6) in served


@pytest.mark.parametrize("pieces", [0, 1, 3])
async def test_a_choked_newcomer_may_have_fewer_of_the_pieces_if_they_are_large(
    pieces: int, autojump_clock: MockClock
) -> None:
    world, torrent_sample = World(), sample(1024 * KIB)
    length = torrent_sample.metainfo.geometry.piece_length
    config = replace(CONFIG, allowed_fast_bytes=(pieces + 1) * length - 1)
    async with world.seed(torrent_sample, peer=config) as torrent:
        hand = await greeted(world, torrent)
        await hand.send(HAVE_NONE)
        await hand.send(INTERESTED)
        kinds = [kind for kind, _ in await hand.heard(1)]
        assert kinds.count(ALLOWED_FAST) == pieces


async def test_a_choked_newcomer_may_have_a_few_pieces_but_not_for_ever(
    autojump_clock: MockClock,
) -> None:
    world, torrent_sample = World(), sample(1024 * KIB)
    async with world.seed(torrent_sample) as torrent:
        others = [await greeted(world, torrent, f"10.0.1.{i}") for i in range(5)]
        for other in others:
            await unchoked(other)  # every slot is taken
        hand = await greeted(world, torrent)
        await hand.send(HAVE_NONE)
        await hand.send(INTERESTED)
        messages = await hand.heard(1)
        allowed = [struct.unpack(">I", data)[0] for kind, data in messages if kind == ALLOWED_FAST]
        assert UNCHOKE not in [kind for kind, _ in messages]
        assert len(set(allowed)) == CONFIG.allowed_fast
        for _ in range(3):
            for begin in (0, BLOCK):
                await hand.send(REQUEST, allowed[0], begin, BLOCK)
                got = await hand.expect(PIECE)
                assert got[8:] == torrent_sample.block(allowed[0], begin)
        await hand.send(REQUEST, allowed[0], 0, BLOCK)
        await hand.closed()
        assert await drop_reasons(world) == ["drains an allowed-fast piece"]


async def test_interest_that_comes_and_goes_has_its_allowed_fast_pieces_computed_once(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counted(*args: Any) -> list[int]:
        calls.append(args)
        return [0]

    monkeypatch.setattr(uploads, "allowed_fast_set", counted)
    world = World()
    async with world.node(LEECH) as node:
        torrent = await node.get(sample().metainfo)
        await entered(torrent, "downloading")
        hand = await greeted(world, torrent, to=LEECH)
        await hand.send(HAVE_NONE)
        for _ in range(50):
            await hand.send(INTERESTED)
            await hand.send(NOT_INTERESTED)
        await trio.sleep(1)
    assert len(calls) == 1


async def test_a_peer_that_asks_for_two_thousand_blocks_a_second_gets_all_of_them(
    autojump_clock: MockClock,
) -> None:
    """As Transmission does, in one go: a shorter queue would bound what it gets from us."""
    world, film, rounds, blocks = World(window=1 << 20), sample(), 3, 2000
    got: list[bytes] = []
    async with world.seed(film) as torrent:
        hand = await greeted(world, torrent)
        await unchoked(hand)

        async def read() -> None:
            buffer = memoryview(bytearray(1 << 20))
            while len(got) < rounds * blocks:
                for kind, payload in await hand.receive_all(buffer):
                    assert kind != REJECT
                    if kind == PIECE:
                        got.append(payload[:8])

        places = [(at // 2 % film.count, at % 2 * BLOCK) for at in range(blocks)]
        requests = b"".join(
            struct.pack(">IBIII", 13, REQUEST, piece, begin, BLOCK) for piece, begin in places
        )
        with trio.fail_after(rounds):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                for asked in range(rounds):
                    await hand.raw(requests)
                    await trio.sleep(0.99)
                    assert len(got) == (asked + 1) * blocks
    assert got == [struct.pack(">II", *place) for place in places] * rounds


async def test_peers_that_ask_for_nothing_do_not_keep_the_slots_of_a_seed(
    autojump_clock: MockClock,
) -> None:
    """Else four of them would leave all others the one optimistic slot."""
    world, torrent_sample = World(), sample(1024 * KIB)
    async with world.seed(torrent_sample) as torrent, trio.open_nursery() as nursery:
        for number in range(4):
            await unchoked(await greeted(world, torrent, f"10.0.1.{number}"))
        honest = [await greeted(world, torrent, f"10.0.2.{number}") for number in range(2)]
        heard: list[list[int]] = [[], []]

        async def ask(hand: Hand, kinds: list[int]) -> None:
            await hand.send(HAVE_NONE)
            await hand.send(INTERESTED)
            for second in range(180):
                kinds += [kind for kind, _ in await hand.heard(1)]
                if second == 60:
                    kinds.clear()
                await hand.send(REQUEST, second % 32, 0, BLOCK)

        for hand, kinds in zip(honest, heard, strict=True):
            nursery.start_soon(ask, hand, kinds)
        await trio.sleep(190)
        for kinds in heard:
            assert CHOKE not in kinds
            assert kinds.count(PIECE) >= 118
