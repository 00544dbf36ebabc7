"""Requests in a row are served as runs, and nobody can tell: a seed sends byte for byte what it
sends when each request is taken by itself."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from dht_torrent.config import PeerConfig
from dht_torrent.engine.net.encrypted import Mse
from dht_torrent.engine.net.protocols import Encryption
from dht_torrent.engine.torrent.torrent import behind
from dht_torrent.engine.torrent.uploads import Uploads
from dht_torrent.geometry import BLOCK
from dht_torrent.lab.run import run
from dht_torrent.peer import runs as peer_runs
from tests.helpers.engine import (
    CANCEL,
    HAVE_NONE,
    INTERESTED,
    KIB,
    NOT_INTERESTED,
    PIECE,
    REJECT,
    REQUEST,
    SEED,
    Hand,
    World,
    dial,
    drop_reasons,
    greeted,
    sample,
    unchoked,
)
from tests.helpers.examples import examples

FILM = sample(600 * KIB + 5, 128 * KIB)
"""Five pieces, of which the last is short and not of whole blocks."""
CONFIG = replace(PeerConfig(), max_asked=30, max_invalid_requests=20, allowed_fast=2)

requests = st.tuples(
    st.sampled_from([0, 1, 2, 3, 4]),  # piece
    st.integers(0, 9),  # first block
    st.integers(1, 12),  # how many
    st.sampled_from([BLOCK, BLOCK, BLOCK, 100]),  # bytes of each
)
says = st.one_of(
    st.tuples(st.just(REQUEST), requests),
    st.tuples(st.just(REQUEST), requests),
    st.tuples(st.just(CANCEL), requests),
    st.tuples(st.sampled_from([INTERESTED, NOT_INTERESTED]), st.just((0, 0, 1, 0))),
)


@dataclass(frozen=True)
class Talk:
    """What a peer says, and how it comes."""

    said: list[tuple[int, tuple[int, int, int, int]]]
    places: list[int]
    """Where the bytes are cut."""
    pause: float
    """Seconds between the parts."""
    fast: bool = True
    limit: int | None = None
    rate: int | None = None
    """Bytes a second of the network."""
    hides: bool = False
    unchoked: bool = True

    def parts(self) -> list[bytes]:
        stream = b""
        for kind, (piece, first, count, length) in self.said:
            if kind in (INTERESTED, NOT_INTERESTED):
                stream += struct.pack(">IB", 1, kind)
                continue
            for number in range(first, first + count):
                stream += struct.pack(">IBIII", 13, kind, piece, number * BLOCK, length)
        edges = sorted({0, len(stream), *(place % (len(stream) + 1) for place in self.places)})
        return [stream[start:stop] for start, stop in pairwise(edges)]


talks = st.builds(
    Talk,
    st.lists(says, min_size=1, max_size=12),
    st.lists(st.integers(0, 3000), max_size=4),
    st.sampled_from([0.0, 0.01, 1.0]),
    fast=st.booleans(),
    limit=st.none() | st.just(200 * KIB),
    rate=st.none() | st.just(300 * KIB),
    hides=st.booleans(),
    unchoked=st.sampled_from([True, True, False]),
)


@contextmanager
def by_runs(on: bool) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if not on:
            patch.setattr(peer_runs, "SPAN", 1)  # then no run is longer
        yield


def heard(talk: Talk, *, runs: bool) -> tuple[bytes, list[str], int]:
    """All bytes that the peer gets, why it was closed, and what it is said to have got."""

    async def main(rng: random.Random) -> tuple[bytes, list[str], int]:
        world = World(rate=talk.rate)
        async with world.seed(FILM, peer=CONFIG, limit_up=talk.limit) as torrent:
            if talk.hides:
                await torrent.set_super_seed(True)
                await trio.sleep(0.1)
            hand = await greeted(world, torrent, fast=talk.fast)
            if talk.unchoked and talk.fast:
                await unchoked(hand)
            elif talk.unchoked:
                await hand.send(INTERESTED)
            else:
                await hand.send(HAVE_NONE)
            got = bytearray()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read, hand, got)
                try:
                    for part in talk.parts():
                        await hand.raw(part)
                        await trio.sleep(talk.pause)
                except OSError:
                    pass  # it was closed
                await trio.sleep(30)
                nursery.cancel_scope.cancel()
            closed = not behind(torrent).core.connections.peers
            why = await drop_reasons(world) if closed else []
            return bytes(got), why, torrent.uploaded

    async def read(hand: Hand, got: bytearray) -> None:
        buffer = memoryview(bytearray(64 * KIB))
        try:
            while size := await hand.stream.receive_into(buffer):
                got += buffer[:size]
        except OSError:
            pass

    with by_runs(runs):
        return run(main)


@settings(max_examples=examples(60), deadline=None)
@given(talks)
@example(Talk([(REQUEST, (0, 0, 8, BLOCK)), (REQUEST, (1, 0, 8, BLOCK))], [], 0.0))
@example(Talk([(REQUEST, (0, 0, 8, BLOCK)), (CANCEL, (0, 3, 1, BLOCK))], [], 0.0, rate=KIB))
@example(Talk([(REQUEST, (piece, 0, 12, BLOCK)) for piece in range(5)], [40], 0.0))
@example(Talk([(REQUEST, (0, 0, 8, BLOCK))] * 9, [], 0.0, unchoked=False))
@example(Talk([(REQUEST, (0, 0, 8, BLOCK))] * 9, [], 1.0, hides=True))
@example(Talk([(REQUEST, (4, 0, 6, BLOCK))] * 9, [], 1.0, limit=100 * KIB))
def test_what_a_seed_sends_is_the_same_for_runs_and_for_single_requests(talk: Talk) -> None:
    assert heard(talk, runs=True) == heard(talk, runs=False)


async def served(hand: Hand, count: int) -> list[tuple[int, bytes]]:
    """So many blocks or rejects."""
    got: list[tuple[int, bytes]] = []
    with trio.fail_after(60):
        while len(got) < count:
            kind, payload = await hand.receive()
            if kind in (PIECE, REJECT):
                got.append((kind, payload))
    return got


def in_a_row(piece: int, first: int, count: int) -> bytes:
    return b"".join(
        struct.pack(">IBIII", 13, REQUEST, piece, number * BLOCK, BLOCK)
        for number in range(first, first + count)
    )


def answers(piece: int, first: int, count: int) -> list[tuple[int, bytes]]:
    return [
        (PIECE, struct.pack(">II", piece, n * BLOCK) + FILM.block(piece, n * BLOCK))
        for n in range(first, first + count)
    ]


@pytest.mark.parametrize("encrypted", [False, True])
async def test_runs_are_served_in_order_over_and_over(
    encrypted: bool, autojump_clock: MockClock
) -> None:
    """A stream that encrypts does so in the buffer of the batch, which serves the next one too."""
    world = World()
    async with world.seed(FILM) as torrent:
        hand = await dial(world, SEED)
        if encrypted:
            mse = Mse("require", random.Random(1))
            hand = Hand(await mse.initiate(hand.stream, torrent.info_hash, b"", 5))
            assert hand.stream.encryption is Encryption.RC4
        await hand.hello(torrent.info_hash)
        await unchoked(hand)
        for _ in range(3):
            await hand.raw(in_a_row(0, 0, 8) + in_a_row(1, 0, 8) + in_a_row(3, 2, 5))
            expected = answers(0, 0, 8) + answers(1, 0, 8) + answers(3, 2, 5)
            assert await served(hand, len(expected)) == expected
        assert torrent.uploaded == 3 * len(expected) * BLOCK


async def test_of_a_run_that_reaches_beyond_its_piece_only_the_beginning_is_served(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with world.seed(FILM) as torrent:
        hand = await greeted(world, torrent)
        await unchoked(hand)
        (peer,) = behind(torrent).core.connections.peers.values()
        await hand.raw(in_a_row(0, 6, 4) + in_a_row(4, 0, 6))
        got = await served(hand, 10)
        assert [answer for answer in got if answer[0] == PIECE] == answers(0, 6, 2) + answers(
            4, 0, 5
        )
        refused = [payload for kind, payload in got if kind == REJECT]
        assert refused == [
            struct.pack(">III", *block, BLOCK)
            for block in ((0, 8 * BLOCK), (0, 9 * BLOCK), (4, 5 * BLOCK))
        ]
        assert peer.invalid_requests == 3


@pytest.mark.parametrize("most", [10, 15])
async def test_of_a_run_longer_than_the_queue_only_the_beginning_is_taken(
    most: int, autojump_clock: MockClock
) -> None:
    world = World()
    async with world.seed(FILM, peer=replace(CONFIG, max_asked=most)) as torrent:
        hand = await greeted(world, torrent)
        await unchoked(hand)
        await hand.raw(in_a_row(0, 0, 8) + in_a_row(1, 0, 8))
        got = await served(hand, 16)
        assert [a for a in got if a[0] == PIECE] == answers(0, 0, 8) + answers(1, 0, most - 8)


async def test_whole_pieces_are_taken_at_once_and_not_block_by_block(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise AssertionError("a single request")

    monkeypatch.setattr(Uploads, "request", fails)
    world = World()
    async with world.seed(FILM, peer=replace(CONFIG, max_asked=16)) as torrent:
        hand = await greeted(world, torrent)
        await unchoked(hand)
        await hand.raw(in_a_row(0, 0, 8) + in_a_row(3, 0, 8))
        assert await served(hand, 16) == answers(0, 0, 8) + answers(3, 0, 8)


async def test_a_queue_is_filled_by_a_run_to_the_last_block(autojump_clock: MockClock) -> None:
    world = World()
    async with world.seed(FILM, peer=replace(CONFIG, max_asked=16)) as torrent:
        hand = await greeted(world, torrent)
        await unchoked(hand)
        await hand.raw(in_a_row(0, 0, 8) + in_a_row(1, 0, 8))
        assert await served(hand, 16) == answers(0, 0, 8) + answers(1, 0, 8)


async def test_a_run_counts_as_all_the_messages_it_is(autojump_clock: MockClock) -> None:
    """Towards the rate at which a peer may talk: it is heard no faster than with single ones."""
    config = replace(PeerConfig(), message_burst=1000, message_rate=100.0, max_asked=10)
    took = []
    for on in (True, False):
        world = World()
        with by_runs(on):
            async with world.seed(FILM, peer=config) as torrent:
                hand = await greeted(world, torrent)
                await unchoked(hand)
                since = trio.current_time()
                await hand.raw(in_a_row(0, 0, 8) * 500)
                await served(hand, 4000)
                took.append(trio.current_time() - since)
    assert took[0] == pytest.approx(took[1])
    assert took[0] > 5
