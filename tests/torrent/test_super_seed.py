"""What a super seed shows to whom, and what peers cannot gain by lying (BEP 16)."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.config import TorrentConfig
from dht_torrent.geometry import BLOCK, File, Geometry
from dht_torrent.ids import PeerKey
from dht_torrent.torrent.super_seed import AT_ONCE, MAX_WIDTH, STALLED, SuperSeed

P1, P2, P3, P9 = map(PeerKey, (1, 2, 3, 9))

PATIENCE = TorrentConfig().super_seed_patience
BLOCKS = 2
"""In a piece."""


class World:
    """A super seed, and peers that do as they are told."""

    def __init__(self, pieces: int = 8, seed: int = 1) -> None:
        self.has: dict[PeerKey, set[int]] = {}
        self.shown: dict[PeerKey, set[int]] = {}
        """What each was shown so far."""
        geometry = Geometry(BLOCKS * BLOCK, (File(("a",), pieces * BLOCKS * BLOCK - 7, 0),))
        self.pieces = pieces
        self.geometry = geometry
        self.now = 0.0
        self.seed = SuperSeed(geometry, self, TorrentConfig(), random.Random(seed))

    def peer_has_piece(self, peer: PeerKey, index: int) -> bool:
        return index in self.has[peer]

    def availability(self, index: int) -> int:
        return sum(index in has for has in self.has.values())

    def join(self, peer: PeerKey, *has: int, host: str | None = None) -> list[int]:
        """What it is shown at once."""
        self.has[peer] = set(has)
        self.shown[peer] = set()
        self.seed.joined(peer, host or f"10.0.0.{peer}", self.now)
        return self.take(self.seed.told(peer, self.now)).get(peer, [])

    def leave(self, peer: PeerKey) -> None:
        del self.has[peer]
        self.seed.left(peer)

    def take(self, offers: list[tuple[PeerKey, int]]) -> dict[PeerKey, list[int]]:
        told: dict[PeerKey, list[int]] = {}
        for peer, index in offers:
            assert index not in self.shown[peer], "shown twice"
            self.shown[peer].add(index)
            told.setdefault(peer, []).append(index)
        for peer in self.has:
            assert set(self.seed.revealed(peer)) == self.shown[peer]
        return told

    def send(
        self, peer: PeerKey, index: int, blocks: range = range(BLOCKS)
    ) -> dict[PeerKey, list[int]]:
        asked = [(index, n * BLOCK, self.geometry.block_size(index, n * BLOCK)) for n in blocks]
        return self.take(self.seed.sent(peer, asked, self.now))

    def say(self, peer: PeerKey, index: int) -> dict[PeerKey, list[int]]:
        """It says that it has a piece."""
        self.has[peer].add(index)
        return self.take(self.seed.shows(peer, index, self.now))

    def wait(self, seconds: float, *queued: PeerKey) -> dict[PeerKey, list[int]]:
        """What is shown to whom meanwhile."""
        told: dict[PeerKey, list[int]] = {}
        until = self.now + seconds
        while self.now < until:
            self.now += 1
            for peer, indices in self.take(self.seed.tick(self.now, set(queued))).items():
                told.setdefault(peer, []).extend(indices)
        return told


def test_every_peer_is_shown_other_pieces_and_no_more_than_a_few() -> None:
    world = World()
    shown = [world.join(peer) for peer in map(PeerKey, range(4))]
    assert [len(pieces) for pieces in shown] == [AT_ONCE] * 4
    assert len({index for pieces in shown for index in pieces}) == 4 * AT_ONCE


def test_the_rarest_of_what_was_never_sent_comes_first() -> None:
    world = World(40)
    for peer in map(PeerKey, range(10, 13)):
        world.has[peer] = set(range(38))
        world.shown[peer] = set()
        world.seed.joined(peer, f"10.0.1.{peer}", 0.0)
    assert sorted(world.join(P1)) == [38, 39]


def test_a_peer_is_not_shown_what_it_has() -> None:
    world = World(4)
    assert sorted(world.join(P1, 0, 2)) == [1, 3]


def test_the_next_piece_is_earned_when_another_peer_shows_one() -> None:
    world = World(20)
    first, _ = world.join(P1)
    world.join(P2)
    assert world.send(P1, first) == {}
    assert world.say(P1, first) == {}, "its own word is worth nothing"
    earned = world.say(P2, first)
    assert list(earned) == [1]
    assert len(earned[P1]) == 1
    assert world.seed.spread == 1 / 20


def test_what_is_said_before_all_of_a_piece_was_sent_earns_nothing() -> None:
    world = World(20)
    first, _ = world.join(P1)
    world.join(P2)
    world.join(P3)
    world.send(P1, first, range(1))
    assert world.say(P2, first) == {}
    assert world.send(P1, first) == {}, "the third could still show it"
    assert world.seed.spread == 0


def test_a_bitfield_does_not_count_as_a_witness() -> None:
    world = World(20)
    first, _ = world.join(P1)
    world.join(P3)
    world.send(P1, first)
    world.join(P2, *range(19))
    assert world.seed.spread == 0


def test_a_second_connection_of_the_same_host_is_not_a_witness() -> None:
    world = World(20)
    first, _ = world.join(P1, host="10.9.9.9")
    world.join(P2, host="10.9.9.9")
    world.join(P3)
    world.send(P1, first)
    assert world.say(P2, first) == {}
    assert world.say(P3, first) != {}


def test_one_that_was_shown_the_piece_itself_is_not_a_witness() -> None:
    world = World(4)
    first, _ = world.join(P1)
    world.join(P2)
    world.wait(2 * PATIENCE + 2)  # nobody took anything: all is shown to both
    assert first in world.shown[P2]
    world.send(P1, first)
    world.say(P2, first)
    assert world.seed.spread == 0


@pytest.mark.parametrize("claims", [range(40), range(39)])
def test_liars_neither_end_it_nor_get_more_than_others(claims: range) -> None:
    world = World(40)
    honest, _ = world.join(P1)
    world.join(P2)
    for liar in map(PeerKey, range(10, 20)):
        world.join(liar)
        for index in claims:
            world.say(liar, index)
    world.send(P1, honest)
    assert world.seed.spread == 0
    assert not world.seed.done
    assert all(
        len(world.shown[liar]) <= AT_ONCE + len(claims) for liar in map(PeerKey, range(10, 20))
    )
    assert not any(set(world.shown[liar]) - set(range(40)) for liar in map(PeerKey, range(10, 20)))


def test_a_lone_peer_gets_everything_without_waiting() -> None:
    world = World()
    due = world.join(P1)
    while due:
        index = due.pop(0)
        due += world.send(P1, index).get(P1, [])
    assert world.now == 0
    assert world.shown[P1] == set(range(world.pieces))
    assert world.seed.done


def test_a_peer_beside_a_seed_is_as_good_as_alone() -> None:
    world = World()
    first, _ = world.join(P1)
    world.join(P2, *range(world.pieces))
    assert len(world.send(P1, first)[P1]) == 1


def test_a_lone_peer_gets_what_others_took_away_with_them() -> None:
    world = World(6)
    given, _ = world.join(P1)
    world.join(P2)
    world.send(P1, given)
    world.say(P2, given)
    world.leave(P1)
    world.leave(P2)
    due = world.join(P3)
    while due:
        index = due.pop(0)
        due += world.send(P3, index).get(P3, [])
    assert world.shown[P3] == set(range(6))


def test_two_peers_of_one_host_that_share_what_they_get_end_it() -> None:
    """Neither can be the other's witness, and neither has all of it from us."""
    world = World()
    waiting = [(peer, index) for peer in (P1, P2) for index in world.join(peer, host="10.0.0.1")]
    sent: dict[PeerKey, set[int]] = {P1: set(), P2: set()}
    while waiting:
        peer, index = waiting.pop(0)
        if index in world.has[peer]:
            continue  # from the other
        sent[peer].add(index)
        told = [
            world.send(peer, index),
            world.say(peer, index),
            world.say(PeerKey(3 - peer), index),
        ]
        waiting += [(one, i) for offers in told for one, more in offers.items() for i in more]
    assert sent[P1]
    assert sent[P2]
    assert sent[P1] | sent[P2] == set(range(world.pieces))
    assert world.seed.done


def test_patience_with_witnesses_ends() -> None:
    world = World(20)
    first, _ = world.join(P1)
    second, _ = world.join(P2)
    world.send(P1, first)
    world.send(P2, second)
    assert world.wait(PATIENCE - 1) == {}
    told = world.wait(2)
    assert len(told[P1]) >= 1
    assert len(told[P2]) >= 1


def test_a_slow_transfer_is_given_as_much_time_to_be_passed_on() -> None:
    world = World(20)
    first, other = world.join(P1)
    taken = world.join(P2)
    world.send(P1, first, range(1))

    def meanwhile(times: int) -> None:
        """Something comes all the while, of all but the first."""
        for _ in range(times):
            for index in taken:
                world.send(P2, index, range(1))
            world.send(P1, other, range(1))
            world.wait(PATIENCE / 2)

    for _ in range(5):
        world.send(P1, first, range(1))
        meanwhile(1)
    world.send(P1, first)
    meanwhile(4)
    assert len(world.shown[P1]) == AT_ONCE
    meanwhile(2)
    assert len(world.shown[P1]) == AT_ONCE + 1


def test_where_peers_never_reach_each_other_they_do_not_wait_for_witnesses() -> None:
    world = World(100)
    due = {peer: world.join(peer) for peer in (P1, P2)}
    world.send(P1, due[P1].pop(0))
    while world.now < STALLED * PATIENCE:
        for peer, more in world.wait(1).items():
            due[peer] += more
        if world.now % 20 == 0:  # too soon to be given up on
            for peer in due:
                world.send(peer, due[peer][0], range(1))
    for peer in due:
        assert list(world.send(peer, due[peer].pop(0))) == [peer], "at once"
    # Until somebody shows something after all: then it is worth waiting again.
    sent = world.shown[P1] - set(due[P1]) - world.shown[P2]
    world.say(P2, min(sent))
    assert world.seed.spread > 0
    assert world.send(P1, due[P1].pop(0)) == {}


def test_a_piece_no_peer_takes_is_offered_to_others_and_its_peer_more() -> None:
    world = World(64)
    world.join(P1)
    world.wait(PATIENCE)
    assert len(world.shown[P1]) == AT_ONCE + 2 * AT_ONCE
    world.wait(PATIENCE)
    assert len(world.shown[P1]) == (1 + 2 + 4) * AT_ONCE
    world.wait(2 * PATIENCE)
    assert len(world.shown[P1]) == (1 + 2 + 4) * AT_ONCE + 2 * MAX_WIDTH
    first, *_ = world.join(P2)
    assert world.availability(first) == 0


def test_the_patience_with_a_peer_that_waits_for_its_turn_does_not_end() -> None:
    world = World(64)
    world.join(P1)
    assert world.wait(3 * PATIENCE, P1) == {}


def test_the_pieces_of_one_who_leaves_are_offered_again() -> None:
    world = World(4)
    gone = world.join(P1)
    assert len(world.join(P2)) == 2
    assert world.join(P3) == []
    world.leave(P1)
    assert sorted(world.wait(1)[P3]) == sorted(gone)


def test_it_ends_when_every_piece_was_seen_elsewhere() -> None:
    world = World(6)
    due = {P1: world.join(P1), P2: world.join(P2)}
    rounds = 0
    while any(due.values()):
        rounds += 1
        for peer, other in ((P1, P2), (P2, P1)):
            if due[peer]:
                index = due[peer].pop(0)
                for one, more in (
                    *world.send(peer, index).items(),
                    *world.say(other, index).items(),
                ):
                    due[one] += more
    assert world.seed.spread == 1
    assert world.seed.done
    assert not world.shown[P1] & world.shown[P2]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(0, 7)), max_size=200))
def test_whatever_peers_do_all_is_shown_in_the_end(steps: list[tuple[int, int, int]]) -> None:
    world = World(8)
    world.join(P9)
    for action, number, index in steps:
        peer = PeerKey(number)
        if action == 0 and peer not in world.has:
            world.join(peer, *range(index))
        elif peer in world.has:
            match action:
                case 1:
                    world.leave(peer)
                case 2 if index not in world.has[peer]:
                    world.say(peer, index)
                case 3 | 4 if index in world.shown[peer]:
                    world.send(peer, index, range(action - 2))
                case 5:
                    world.wait(index)
    for _ in range(40):
        world.wait(PATIENCE)
        for index in sorted(world.shown[P9]):
            world.send(P9, index)
    assert world.seed.done or world.shown[P9] | world.has[P9] == set(range(8))
