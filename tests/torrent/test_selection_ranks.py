"""How the priorities of files become those of pieces, and in which order these are asked for."""

from __future__ import annotations

import random
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.config import TorrentConfig
from dht_torrent.geometry import Geometry
from dht_torrent.ids import PeerKey
from dht_torrent.torrent.availability import Rarity
from dht_torrent.torrent.missing import Missing
from dht_torrent.torrent.peer_pieces import PeerPieces
from dht_torrent.torrent.pieces import Bitfield
from dht_torrent.torrent.selection import Selection, is_selected, piece_ranks

HIGH, NORMAL, LOW = range(3)


def geometry(*sizes: int) -> Geometry:
    """In pieces of ten bytes."""
    return Geometry.of(10, [((f"{at}",), size) for at, size in enumerate(sizes)])


def test_a_piece_is_as_important_as_the_most_important_wanted_file_in_it() -> None:
    one = geometry(15, 10, 25)
    assert piece_ranks(None, {1: 1}, one) == bytes([NORMAL, HIGH, HIGH, NORMAL, NORMAL])
    assert piece_ranks(None, {0: -1, 2: -1}, one) == bytes([LOW, NORMAL, NORMAL, LOW, LOW])
    assert piece_ranks([(0, 0), (2, 2)], {1: 1, 2: -1}, one) == bytes(
        [NORMAL, NORMAL, LOW, LOW, LOW]
    )


def test_where_all_are_alike_there_are_no_ranks() -> None:
    one = geometry(15, 0, 25)
    assert piece_ranks(None, {}, one) is None
    assert piece_ranks(None, {0: 1, 2: 1}, one) is None
    assert piece_ranks([(2, 2)], {0: 1}, one) is None
    assert piece_ranks([], {0: 1}, one) is None
    assert piece_ranks(None, {1: 1}, one) is None  # which lies in no piece


@given(
    st.lists(st.integers(0, 35), min_size=1, max_size=8).filter(any),
    st.dictionaries(st.integers(0, 7), st.sampled_from([-1, 1])),
    st.none() | st.lists(st.integers(0, 7).map(lambda at: (at, at))),
)
def test_ranks_are_what_a_look_at_every_byte_gives(
    sizes: list[int], priorities: Mapping[int, int], select: Selection | None
) -> None:
    one = geometry(*sizes)
    owners = [number for number, size in enumerate(sizes) for _ in range(size)]
    expected = [
        min(
            (
                1 - priorities.get(number, 0)
                for number in owners[10 * index : 10 * index + 10]
                if is_selected(select, number)
            ),
            default=LOW,
        )
        for index in range(one.piece_count)
    ]
    found = piece_ranks(select, priorities, one)
    if found is not None:
        assert list(found) == expected
    else:
        assert len({rank for rank, number in _of_wanted(expected, owners, select)}) <= 1


def _of_wanted(
    ranks: list[int], owners: list[int], select: Selection | None
) -> list[tuple[int, int]]:
    return [
        (ranks[at // 10], number) for at, number in enumerate(owners) if is_selected(select, number)
    ]


# -- the order of asking --------------------------------------------------------------------------

COUNT = 12
PEER = PeerKey(1)


def missing(ranks: bytes | None, *, first: int = 0) -> tuple[Missing, Rarity]:
    rarity = Rarity(COUNT)
    one = Missing(
        rarity, Bitfield(COUNT), TorrentConfig(random_first_pieces=first), random.Random(3)
    )
    one.rank(ranks)
    one.reset(b"\x01" * COUNT)
    return one, rarity


def seed() -> PeerPieces:
    source = PeerPieces(PEER, Bitfield(COUNT))
    source.all = True
    return source


def drained(one: Missing, source: PeerPieces, *, sequential: bool = False) -> list[int]:
    order = []
    one.sequential = sequential
    while (index := one.choose(source, 0.0)) is not None:
        one.remove(index)
        order.append(index)
    return order


def test_the_highest_come_first_and_among_them_the_rarest() -> None:
    ranks = bytes([NORMAL] * 4 + [HIGH] * 4 + [LOW] * 4)
    one, rarity = missing(ranks)
    rarity.seeds = 1
    rarity.peer_came(Bitfield(COUNT, [1, 2, 3, 5, 6, 7, 9, 10, 11]).flags)
    order = drained(one, seed())
    assert [ranks[index] for index in order] == [HIGH] * 4 + [NORMAL] * 4 + [LOW] * 4
    assert [order[0], order[4], order[8]] == [4, 0, 8]


def test_in_sequence_too_the_highest_come_first() -> None:
    ranks = bytes([LOW, HIGH] * 6)
    one, _ = missing(ranks)
    assert drained(one, seed(), sequential=True) == [1, 3, 5, 7, 9, 11, 0, 2, 4, 6, 8, 10]
    one.add(3)
    one.add(0)
    assert drained(one, seed(), sequential=True) == [3, 0]


def test_a_peer_that_has_nothing_important_is_asked_for_the_rest() -> None:
    one, rarity = missing(bytes([HIGH] * 6 + [LOW] * 6), first=4)
    source = PeerPieces(PEER, Bitfield(COUNT, [8]))
    rarity.one_more(8)
    assert drained(one, source) == [8]
    assert not one.out_of_reach() or rarity.copies(0) == 0


@given(
    st.lists(st.sampled_from([HIGH, NORMAL, LOW]), min_size=COUNT, max_size=COUNT),
    st.lists(st.tuples(st.sampled_from(["more", "less", "out", "in"]), st.integers(0, COUNT - 1))),
)
def test_orders_stay_what_sorting_afresh_gives(
    ranks: list[int], steps: list[tuple[str, int]]
) -> None:
    rarity = Rarity(COUNT)
    rarity.rank(bytes(ranks))
    listed = set(range(COUNT))
    rarity.sort(sorted(listed))
    for what, index in steps:
        match what:
            case "more":
                rarity.one_more(index)
            case "less" if rarity.available[index]:
                rarity.one_less(index)
            case "out" if index in listed:
                listed.remove(index)
                rarity.remove(index)
            case "in" if index not in listed:
                listed.add(index)
                rarity.insert(index)
    for rank, order in enumerate(rarity.orders):
        assert sorted(order.order) == [one for one in sorted(listed) if ranks[one] == rank]
        levels = [rarity.available[one] for one in order.order]
        assert levels == sorted(levels)
        assert order.ends[-1] == len(order.order)
        for level, end in enumerate(order.ends):
            assert end == sum(one <= level for one in levels)
