"""Which piece a super seed reveals to whom: the decider by itself."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.config import TorrentConfig
from dht_torrent.geometry import BLOCK, Geometry
from dht_torrent.torrent.super_seed import AT_ONCE, Offer, SuperSeed

CONFIG = TorrentConfig()
PATIENCE = CONFIG.super_seed_patience


class World:
    """Peers, and what they say that they have."""

    def __init__(self, pieces: int, seed: int = 0, *, blocks: int = 2) -> None:
        self.geometry = Geometry.of(blocks * BLOCK, [(("a",), pieces * blocks * BLOCK)])
        self.has: dict[int, set[int]] = {}
        self.now = 0.0
        self.subject = SuperSeed(self.geometry, self, CONFIG, random.Random(seed))

    def peer_has_piece(self, peer: int, index: int) -> bool:
        return index in self.has[peer]

    def availability(self, index: int) -> int:
        return sum(index in pieces for pieces in self.has.values())

    def join(self, peer: int, host: str | None = None) -> list[int]:
        """Returns what it is offered, having said that it has nothing."""
        self.has[peer] = set()
        self.subject.joined(peer, host or f"10.0.0.{peer}", self.now)
        return of(peer, self.subject.told(peer, self.now))

    def send(self, peer: int, index: int) -> list[Offer]:
        """All of a piece."""
        size = self.geometry.piece_size(index)
        blocks = [(index, begin, min(BLOCK, size - begin)) for begin in range(0, size, BLOCK)]
        return self.subject.sent(peer, blocks, self.now)

    def show(self, peer: int, index: int) -> list[Offer]:
        self.has[peer].add(index)
        return self.subject.shows(peer, index, self.now)


def of(peer: int, offers: list[Offer]) -> list[int]:
    assert all(one == peer for one, _ in offers)
    return [index for _, index in offers]


def test_each_peer_is_offered_pieces_that_no_other_was() -> None:
    world = World(20)
    offered = [index for peer in range(10) for index in world.join(peer)]
    assert len(offered) == 10 * AT_ONCE
    assert len(set(offered)) == len(offered)
    assert all(world.subject.revealed(peer).count == AT_ONCE for peer in range(10))


def test_the_rarest_piece_comes_first() -> None:
    world = World(8)
    offered = world.join(1)
    rare = next(index for index in range(8) if index not in offered)
    world.has[1] = set(range(8)) - {rare}
    assert rare in world.join(2)


def test_a_witness_at_another_host_earns_the_next_piece_and_no_one_else_does() -> None:
    world = World(20)
    mine = world.join(1, "10.0.0.1")[0]
    world.join(2, "10.0.0.1")  # another port of the same host
    world.join(3, "10.0.0.3")
    world.join(4, "10.0.0.4")
    assert world.show(3, mine) == []  # it was not sent yet, so it came from elsewhere
    assert world.send(1, mine) == []
    assert world.show(1, mine) == []
    assert world.show(2, mine) == []
    assert world.subject.spread == 0
    (offer,) = world.show(4, mine)
    assert offer[0] == 1
    assert world.subject.spread == 1 / 20


def test_half_a_piece_is_no_piece() -> None:
    world = World(20)
    mine = world.join(1)[0]
    world.join(2)
    world.subject.sent(1, [(mine, 0, BLOCK)], 0.0)
    world.subject.sent(1, [(mine, 0, BLOCK)], 0.0)  # the same block again
    assert world.show(2, mine) == []
    assert world.subject.spread == 0


def test_without_witnesses_it_is_enough_that_it_was_sent() -> None:
    world = World(6)
    waiting, sent = world.join(1), set[int]()
    while waiting:
        index = waiting.pop(0)
        sent.add(index)
        waiting += of(1, world.send(1, index))
    assert sent == set(range(6))
    assert world.subject.done


def test_two_peers_of_one_host_that_share_what_they_get_end_it() -> None:
    """Neither can be the other's witness, and neither gets all of it from us."""
    world = World(6)
    waiting = [(peer, index) for peer in (1, 2) for index in world.join(peer, "10.0.0.1")]
    sent: dict[int, set[int]] = {1: set(), 2: set()}
    while waiting:
        peer, index = waiting.pop(0)
        sent[peer].add(index)
        waiting += world.send(peer, index)
        for one in (1, 2):
            waiting += [offer for offer in world.show(one, index) if offer not in waiting]
    assert sent[1]
    assert sent[2]
    assert sent[1] | sent[2] == set(range(6))
    assert world.subject.done


def test_where_witnesses_say_nothing_patience_ends() -> None:
    world = World(20)
    first = world.join(1)
    world.join(2)
    for index in first:
        world.send(1, index)
    world.now = PATIENCE - 1
    assert of(1, [o for o in world.subject.tick(world.now, ()) if o[0] == 1]) == []
    world.now = PATIENCE + 1
    assert len([o for o in world.subject.tick(world.now, ()) if o[0] == 1]) == AT_ONCE


def test_what_a_peer_leaves_undone_is_offered_to_others() -> None:
    world = World(AT_ONCE)
    assert sorted(world.join(1)) == list(range(AT_ONCE))
    world.subject.left(1)
    del world.has[1]
    assert sorted(world.join(2)) == list(range(AT_ONCE))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["join", "left", "send", "show", "tick", "told"]),
        st.integers(0, 5),
        st.integers(0, 11),
    ),
    max_size=120,
)


@given(STEPS, st.integers(0, 5))
def test_in_any_order_only_what_was_revealed_is_known_and_nothing_is_revealed_twice(
    steps: list[tuple[str, int, int]], seed: int
) -> None:
    world, known = World(12, seed), dict[int, set[int]]()

    def note(offers: list[Offer]) -> None:
        for peer, index in offers:
            assert index not in known[peer], "told twice"
            assert index not in world.has[peer], "it has it"
            known[peer].add(index)

    for what, peer, index in steps:
        if what == "join" and peer not in known:
            known[peer] = set()
            world.has[peer] = set()
            world.subject.joined(peer, f"10.0.0.{peer // 2}", world.now)
            note(world.subject.told(peer, world.now))
        elif peer not in known:
            continue
        elif what == "left":
            del known[peer]
            world.subject.left(peer)
            del world.has[peer]
        elif what == "send" and index in known[peer]:
            note(world.send(peer, index))
        elif what == "show" and index not in world.has[peer]:
            note(world.show(peer, index))
        elif what == "told":
            note(world.subject.told(peer, world.now))
        elif what == "tick":
            world.now += index * PATIENCE / 8
            note(world.subject.tick(world.now, ()))
        for one, pieces in known.items():
            assert set(world.subject.revealed(one)) == pieces
        assert 0 <= world.subject.spread <= 1


@given(st.integers(0, 1000), st.integers(1, 4))
def test_honest_peers_complete_whatever_their_number(seed: int, peers: int) -> None:
    rng, world = random.Random(seed), World(10, seed)
    for peer in range(peers):
        world.join(peer)
    for _ in range(1000):
        if world.subject.done:
            break
        world.now += 1
        for peer in range(peers):
            lacks = [i for i in world.subject.revealed(peer) if i not in world.has[peer]]
            if lacks:
                index = rng.choice(lacks)
                world.send(peer, index)
                world.show(peer, index)
            others = [i for i in range(10) if world.availability(i) and i not in world.has[peer]]
            if others:  # from a neighbour
                world.show(peer, rng.choice(others))
        world.subject.tick(world.now, ())
    assert world.subject.done
