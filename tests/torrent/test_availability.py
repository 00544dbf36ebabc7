"""Who has what is counted, and the rarest come first, whatever comes and goes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.torrent.availability import Rarity

COUNT = 6


def test_copies_are_those_of_seeds_and_of_others() -> None:
    rarity = Rarity(3)
    assert rarity.copies(0) == 0
    rarity.seeds = 2
    rarity.peer_came(b"\1\0\1")
    rarity.one_more(2)
    assert [rarity.copies(index) for index in range(3)] == [3, 2, 4]
    rarity.peer_went(b"\1\0\1")
    assert [rarity.copies(index) for index in range(3)] == [2, 2, 3]


@pytest.mark.parametrize(
    ("seeds", "others", "copies"),
    [(0, [], 0.0), (3, [], 3.0), (0, [0, 1, 1, 1], 0.75), (2, [1, 1, 1, 1], 3.0), (1, [0, 2], 1.5)],
)
def test_distributed_copies_are_whole_ones_and_the_share_with_one_more(
    seeds: int, others: list[int], copies: float
) -> None:
    rarity = Rarity(len(others))
    rarity.seeds = seeds
    for index, count in enumerate(others):
        for _ in range(count):
            rarity.one_more(index)
    assert rarity.distributed_copies() == copies


steps = st.lists(
    st.tuples(
        st.sampled_from(["more", "remove", "insert", "came", "went", "sort"]),
        st.integers(0, COUNT - 1),
    ),
    max_size=40,
)


@given(steps, st.sets(st.integers(0, COUNT - 1)), st.booleans())
def test_the_order_is_of_what_is_listed_in_buckets_the_rarest_first(
    taken: list[tuple[str, int]], listed: set[int], later: bool
) -> None:
    rarity, model = Rarity(COUNT), [0] * COUNT
    peers: list[bytes] = []
    rarity.sort(listed)
    for what, index in taken:
        if what == "more":
            rarity.one_more(index)
            model[index] += 1
        elif what == "remove" and index in listed:
            listed = listed - {index}
            rarity.remove(index)
        elif what == "insert" and index not in listed:
            listed = listed | {index}
            rarity.insert(index)
        elif what == "came":
            peers.append(random.Random(index).randbytes(COUNT).translate(bytes([0, 1] * 128)))
            rarity.peer_came(peers[-1])
            model = [a + b for a, b in zip(model, peers[-1], strict=True)]
            assert rarity.stale
        elif what == "went" and peers:
            had = peers.pop()
            rarity.peer_went(had)
            model = [a - b for a, b in zip(model, had, strict=True)]
            assert rarity.stale
        elif what == "sort":
            rarity.sort(listed)
            assert not rarity.stale
        assert rarity.available == model
        if rarity.stale and later:
            continue  # what is removed and inserted meanwhile is looked at when it is sorted
        if rarity.stale:
            rarity.sort(listed)
        assert not rarity.stale
        [one] = rarity.orders
        assert sorted(one.order) == sorted(listed)
        begin = 0
        for level, end in enumerate(one.ends):
            assert {model[index] for index in one.order[begin:end]} <= {level}
            assert begin <= end
            begin = end
        assert begin == len(listed)
