"""Whatever liars do: no honest peer is banned, and one honest seed completes the download."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dht_torrent.config import TorrentConfig
from dht_torrent.engine.torrent.banning import Banning
from dht_torrent.geometry import BLOCK, Geometry
from dht_torrent.ids import Address, PeerKey
from dht_torrent.torrent.candidates import Candidates
from dht_torrent.torrent.parole import Standing
from dht_torrent.torrent.picker import Picker
from dht_torrent.torrent.pieces import NOBODY, Bitfield, Block, OpenPiece
from dht_torrent.torrent.smart_ban import digests_of
from dht_torrent.trace import PeerBanned, Record
from tests.helpers.examples import examples
from tests.helpers.times import seconds

PIECES, BLOCKS = 6, 3
HOSTS = ("127.0.0.1", "8.8.8.8", "2001:db8::1")
PATIENCE = 20.0
"""Seconds after which a request expires."""
GOOD, BAD = bytes(BLOCK), b"\x01" + bytes(BLOCK - 1)


@dataclass(eq=False)
class Other:
    """As much of a peer as banning looks at, and what it is like."""

    key: PeerKey
    address: Address
    liar: str = ""
    """Empty for the honest; else "spoils", "company" (spoils where others take part), "stalls" or
    "drips"."""
    am_interested: bool = True
    chokes_us: bool = False
    snubs_us: bool = False
    is_dropped: bool = False
    asked: list[Block] = field(default_factory=list)

    def drop(self, why: str) -> None:
        self.is_dropped = True


class Poisoning:
    """Picker, smart ban, parole and bans, put together as the swarm does."""

    def __init__(self, seed: int, *, open_pieces: int = 3) -> None:
        config = TorrentConfig(max_open_bytes=open_pieces * BLOCKS * BLOCK, random_first_pieces=2)
        rng = random.Random(seed)
        size = PIECES * BLOCKS * BLOCK
        self.picker = Picker(
            Geometry.of(BLOCKS * BLOCK, [(("content",), size)]), Bitfield(PIECES), config, rng
        )
        self.candidates = Candidates(config, rng)
        self.peers: dict[int, Other] = {}
        connections = SimpleNamespace(peers=self.peers, candidates=self.candidates)
        metainfo = SimpleNamespace(info_hash=bytes(20), name="content")
        self.banning = Banning(
            cast(Any, metainfo), cast(Any, connections), self.picker, self.on_record
        )
        self.banned: set[Address] = set()
        self.pending: list[OpenPiece] = []
        self.now = 0.0
        self.key = 0
        self.failed = 0

    def on_record(self, record: Record) -> None:
        if isinstance(record, PeerBanned):
            self.banned.add(record.address)

    def join(self, host: str, liar: str = "", pieces: set[int] | None = None) -> Other:
        self.key += 1
        other = Other(PeerKey(self.key), Address(host, 1000 + self.key), liar)
        self.peers[self.key] = other
        self.picker.peer_joined(other.key)
        if pieces is None:
            self.picker.holdings.peer_has_all(other.key)
        else:
            self.picker.holdings.peer_bitfield(other.key, Bitfield(PIECES, pieces))
        self.banning.joined(cast(Any, other), self.now)
        return other

    def leave(self, other: Other) -> None:
        del self.peers[other.key]
        self.picker.peer_left(other.key)
        self.banning.left(cast(Any, other))

    def ask(self, other: Other, room: int = 4) -> None:
        if other.chokes_us:
            return
        standing = self.banning.standing(cast(Any, other), self.now)
        if standing is not Standing.WAITING:
            room -= self.picker.outstanding(other.key)
            other.asked += self.picker.next_requests(
                other.key, room, self.now, alone=standing is not None
            )

    def answer(self, other: Other, block: Block, *, spoil: bool) -> None:
        other.asked.remove(block)
        data = BAD if spoil else GOOD
        outcome = self.picker.received(other.key, block.index, block.begin, data[: block.length])
        if outcome is None:
            return
        for key, cancelled in outcome.cancels:
            self.peers[key].asked.remove(cancelled)
        if outcome.piece is not None:
            self.pending.append(outcome.piece)

    def settle(self, *, disk_fails: bool = False) -> None:
        piece = self.pending.pop(0)
        if disk_fails:
            self.picker.failed(piece.index)
        elif any(piece.buffer[begin] for begin in range(0, piece.size, BLOCK)):
            self.failed += 1
            self.picker.failed(
                piece.index, self.banning.failed(piece, digests_of(piece.buffer), self.now)
            )
        else:
            self.banning.passed(piece, digests_of(piece.buffer), self.now)
            self.picker.verified(piece.index)
        for other in list(self.peers.values()):
            if other.is_dropped:
                self.leave(other)

    def tick(self, seconds: float) -> None:
        self.now += seconds
        late = self.picker.expire(self.now - PATIENCE)
        late += self.banning.take_away(self.now)
        for key, block in late:
            self.peers[key].asked.remove(block)

    def in_company(self, other: Other, block: Block) -> bool:
        piece = self.picker._assembly.open.get(block.index)
        return piece is not None and bool(set(piece.senders) - {NOBODY, other.key})

    def turn(self, other: Other) -> None:
        """It does what it is like."""
        self.ask(other)
        if other.liar == "stalls" or (other.liar == "drips" and self.now % 15):
            return
        for block in list(other.asked):
            spoil = other.liar == "spoils" or (
                other.liar == "company" and self.in_company(other, block)
            )
            if block in other.asked:
                self.answer(other, block, spoil=spoil)
            if other.liar == "drips":
                break

    def finish(self, rng: random.Random, *, comebacks: int = 30, seconds: int = 20_000) -> None:
        """Everybody acts as it is, and who is banned comes back by another port."""
        for _ in range(seconds):
            if self.picker.done:
                return
            before = list(self.peers.values())
            for other in rng.sample(before, len(before)):
                if other.key in self.peers:
                    self.turn(other)
                while self.pending:
                    self.settle()
            for other in before:
                if other.key not in self.peers and comebacks:
                    comebacks -= 1
                    self.join(other.address.host, other.liar)
            self.tick(1.0)


kinds = st.sampled_from(["", "", "spoils", "company", "stalls", "drips"])


class AnyPoisoning(RuleBasedStateMachine):
    """One honest seed stays; all else is as bad as it can be."""

    @initialize(seed=st.integers(0, 1000), host=st.sampled_from(HOSTS), size=st.integers(1, 7))
    def begin(self, seed: int, host: str, size: int) -> None:
        self.poisoning = Poisoning(seed, open_pieces=size)
        self.rng = random.Random(seed)
        self.seed = self.poisoning.join(host)
        self.honest = {self.seed.address}

    def other(self, number: int) -> Other:
        return list(self.poisoning.peers.values())[number % len(self.poisoning.peers)]

    @rule(
        host=st.sampled_from(HOSTS),
        liar=kinds,
        pieces=st.one_of(st.none(), st.sets(st.integers(0, PIECES - 1))),
    )
    def join(self, host: str, liar: str, pieces: set[int] | None) -> None:
        if len(self.poisoning.peers) < 7:
            joined = self.poisoning.join(host, liar, pieces)
            if not liar:
                self.honest.add(joined.address)

    @rule(number=st.integers(0, 6))
    def leave(self, number: int) -> None:
        if self.other(number) is not self.seed:
            self.poisoning.leave(self.other(number))

    @rule(number=st.integers(0, 6), room=st.integers(1, 9))
    def ask(self, number: int, room: int) -> None:
        self.poisoning.ask(self.other(number), room)

    @rule(number=st.integers(0, 6), count=st.integers(1, 5), spoil=st.booleans())
    def answer(self, number: int, count: int, spoil: bool) -> None:
        other = self.other(number)
        for _ in range(count):
            if other.asked:
                block = self.rng.choice(other.asked)
                self.poisoning.answer(other, block, spoil=spoil and other.liar != "")

    @rule(number=st.integers(0, 6))
    def reject(self, number: int) -> None:
        other = self.other(number)
        if other.asked:
            self.poisoning.picker.rejected(other.key, other.asked.pop())

    @rule(number=st.integers(0, 6), choke=st.booleans())
    def choke(self, number: int, choke: bool) -> None:
        other = self.other(number)
        other.chokes_us = choke
        if choke:
            self.poisoning.picker.choked(other.key)
            other.asked.clear()

    @rule(number=st.integers(0, 6))
    def snub(self, number: int) -> None:
        other = self.other(number)
        self.poisoning.picker.give_back(other.key)
        other.asked.clear()

    @precondition(lambda self: self.poisoning.pending)
    @rule(disk_fails=st.booleans())
    def settle(self, disk_fails: bool) -> None:
        self.poisoning.settle(disk_fails=disk_fails)

    @rule(seconds=seconds(0.1, 30.0))
    def wait(self, seconds: float) -> None:
        self.poisoning.tick(seconds)

    @invariant()
    def no_honest_peer_is_banned(self) -> None:
        if hasattr(self, "poisoning"):
            assert not self.poisoning.banned & self.honest

    @invariant()
    def a_solo_piece_has_one_sender_and_nobody_else_is_asked(self) -> None:
        if not hasattr(self, "poisoning"):
            return
        books = self.poisoning.picker._assembly
        for index, piece in books.open.items():
            assert (piece.solo is not None) == (index in books.solo)
            if piece.solo is not None:
                assert set(piece.senders) <= {NOBODY, piece.solo}
                asked = {
                    o.key for o in self.poisoning.peers.values() for b in o.asked if b[0] == index
                }
                assert asked <= {piece.solo}
        assert set(books.solo) <= set(books.open)

    def teardown(self) -> None:
        if not hasattr(self, "poisoning"):
            return
        self.seed.chokes_us = False
        while self.poisoning.pending:
            self.poisoning.settle()
        self.poisoning.finish(self.rng)
        assert self.poisoning.picker.done
        self.no_honest_peer_is_banned()


TestAnyPoisoning = AnyPoisoning.TestCase
TestAnyPoisoning.settings = settings(
    max_examples=examples(60), stateful_step_count=40, deadline=None
)


@pytest.mark.parametrize("liar", ["spoils", "company", "stalls", "drips"])
@pytest.mark.parametrize("open_pieces", [1, 3, 7])
@pytest.mark.parametrize("host", HOSTS)
def test_one_honest_seed_among_ten_liars_of_its_own_host_completes(
    liar: str, open_pieces: int, host: str
) -> None:
    for seed in range(5):
        poisoning = Poisoning(seed, open_pieces=open_pieces)
        rng = random.Random(seed)
        honest = rng.randrange(11)
        seeds = [poisoning.join(host, "" if number == honest else liar) for number in range(11)]
        poisoning.finish(rng)
        assert poisoning.picker.done
        assert seeds[honest].address not in poisoning.banned


def test_liars_are_convicted_one_wasted_piece_each() -> None:
    for seed in range(20):
        poisoning = Poisoning(seed, open_pieces=2)
        rng = random.Random(seed)
        for number in range(11):
            poisoning.join(f"9.9.9.{number}", "company" if number else "")
        poisoning.finish(rng, comebacks=0)
        assert poisoning.picker.done
        assert poisoning.failed <= 10 + 2  # and what was shared when the first was found


def test_a_peer_that_shared_a_piece_that_failed_is_asked_alone_until_it_passes() -> None:
    poisoning = Poisoning(1, open_pieces=1)
    one, two, three = (
        poisoning.join(HOSTS[0], "spoils"),
        poisoning.join(HOSTS[0]),
        poisoning.join(HOSTS[0]),
    )
    poisoning.ask(one, 1)
    (first,) = one.asked
    poisoning.answer(one, first, spoil=True)
    poisoning.picker.choked(one.key)
    poisoning.ask(two, 2)
    for block in list(two.asked):
        poisoning.answer(two, block, spoil=False)
    poisoning.settle()
    standings = [poisoning.banning.standing(cast(Any, peer), 0.0) for peer in (one, two, three)]
    assert standings == [Standing.ALONE, Standing.ALONE, None]
    while not poisoning.banned:
        poisoning.ask(three, 3)
        for block in list(three.asked):
            poisoning.answer(three, block, spoil=False)
        poisoning.settle()
    assert poisoning.banned == {one.address}
    assert poisoning.banning.standing(cast(Any, two), 0.0) is not Standing.WAITING


def test_a_piece_held_up_by_one_peer_goes_to_one_that_proved_itself() -> None:
    poisoning = Poisoning(1, open_pieces=PIECES)
    slow = [poisoning.join(f"9.9.9.{number}", "stalls") for number in range(5)]
    honest = poisoning.join("9.9.9.9")
    poisoning.turn(honest)
    while poisoning.pending:
        poisoning.settle()
    for other in slow:
        poisoning.banning._parole.suspect([other.key], 99)
        poisoning.turn(other)
    seconds = 0
    while not poisoning.picker.done:
        poisoning.turn(honest)
        while poisoning.pending:
            poisoning.settle()
        poisoning.tick(1.0)
        seconds += 1
        for other in slow:
            poisoning.turn(other)
    assert seconds <= 18  # requests expire after 20
