"""Tests of `torrent.requests`: a queue of runs is what a list of single blocks would be."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dht_torrent.geometry import BLOCK
from dht_torrent.torrent.requests import Asked, RequestQueue, Run, batch_size, single_requests
from tests.helpers.examples import examples

BLOCKS = [(0, 0, BLOCK), (0, BLOCK, BLOCK), (0, 2 * BLOCK, BLOCK), (0, BLOCK, 100), (1, 0, BLOCK)]
HEADER = 13
FULL = HEADER + BLOCK


def queue_of(blocks: list[Asked]) -> RequestQueue:
    queue = RequestQueue()
    for block in blocks:
        queue.add(*block)
    return queue


runs = st.builds(
    Run,
    st.integers(0, 2),
    st.integers(0, 4).map(lambda number: number * BLOCK) | st.integers(0, 3 * BLOCK),
    st.sampled_from([BLOCK, BLOCK, BLOCK, BLOCK // 2, 100, 1]),
    st.integers(1, 6),
)
rooms = st.builds(lambda blocks, more: blocks * BLOCK + more, st.integers(0, 8), st.integers(-1, 1))
rooms_with_headers = st.builds(
    lambda room, blocks: room + blocks * HEADER, rooms, st.integers(0, 8)
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), runs),
        st.tuples(st.just("add"), runs),
        st.tuples(st.just("take"), rooms),
        st.tuples(st.just("within"), rooms_with_headers),
        st.tuples(st.just("cancel"), st.lists(st.integers(0, 40), min_size=1, max_size=3)),
        st.tuples(st.just("keep"), st.sets(st.integers(0, 2))),
    ),
    max_size=12,
)


@settings(max_examples=examples(300))
@given(steps)
def test_a_queue_of_runs_is_what_a_list_of_single_blocks_would_be(
    said: list[tuple[str, object]],
) -> None:
    queue, plain = RequestQueue(), list[Asked]()
    for what, value in said:
        if isinstance(value, Run):
            queue.add(*value)
            plain += single_requests([value])
        elif what == "take" and isinstance(value, int):
            left, count = value, 0
            while left > 0 and count < len(plain):
                left -= plain[count][2]
                count += 1
            assert list(single_requests(queue.take(value))) == plain[:count]
            del plain[:count]
        elif what == "within" and isinstance(value, int):
            left, count = value, 0
            while count < len(plain) and HEADER + plain[count][2] <= left:
                left -= HEADER + plain[count][2]
                count += 1
            assert list(single_requests(queue.take_within(value, HEADER))) == plain[:count]
            del plain[:count]
        elif what == "cancel" and isinstance(value, list):
            # Some that are there, and one that may not be; each of a different time.
            seen = len(plain)
            cancels = [
                (plain[n] if n < seen else (0, n * BLOCK, BLOCK), max(0, seen - n)) for n in value
            ]
            cancels.sort(key=lambda cancel: cancel[1])
            used = set[int]()
            for block, before in cancels:
                places = [n for n in range(before) if plain[n] == block and n not in used]
                if places:
                    used.add(places[0])
            assert queue.take_back(cancels) == [plain[n] for n in sorted(used)]
            plain = [block for n, block in enumerate(plain) if n not in used]
        elif isinstance(value, set):
            assert queue.keep(value) == [block for block in plain if block[0] not in value]
            plain = [block for block in plain if block[0] in value]
        assert list(queue) == plain
        assert len(queue) == len(plain)
        assert bool(queue) == bool(plain)
        assert queue.size(HEADER) == sum(HEADER + length for _, _, length in plain)
        if plain:
            assert queue.first_length == plain[0][2]


def test_blocks_side_by_side_become_one_run_however_they_came() -> None:
    queue = RequestQueue()
    queue.add(3, 0, BLOCK)
    queue.add(3, BLOCK, BLOCK, 2)
    queue.add(3, 3 * BLOCK, BLOCK)
    queue.add(3, 5 * BLOCK, BLOCK)
    queue.add(4, 6 * BLOCK, BLOCK)
    queue.add(4, 7 * BLOCK, 100)
    assert queue.take(100 * BLOCK) == [
        (3, 0, BLOCK, 4),
        (3, 5 * BLOCK, BLOCK, 1),
        (4, 6 * BLOCK, BLOCK, 1),
        (4, 7 * BLOCK, 100, 1),
    ]


@pytest.mark.parametrize(
    ("room", "blocks"), [(0, 0), (1, 1), (BLOCK, 1), (BLOCK + 1, 2), (2 * BLOCK, 2), (9 * BLOCK, 5)]
)
def test_the_last_block_may_reach_beyond_the_room(room: int, blocks: int) -> None:
    queue = RequestQueue()
    queue.add(3, 0, BLOCK, 2)
    queue.add(4, 0, BLOCK, 3)
    assert len(list(single_requests(queue.take(room)))) == blocks
    assert len(queue) == 5 - blocks


@pytest.mark.parametrize(
    ("room", "blocks"), [(0, 0), (FULL - 1, 0), (FULL, 1), (3 * FULL - 1, 2), (3 * FULL, 3)]
)
def test_what_must_fit_fits_with_its_headers(room: int, blocks: int) -> None:
    queue = RequestQueue()
    queue.add(3, 0, BLOCK, 2)
    queue.add(4, 0, BLOCK, 3)
    assert len(list(single_requests(queue.take_within(room, HEADER)))) == blocks
    assert len(queue) == 5 - blocks


def test_a_cancel_splits_a_run() -> None:
    queue = RequestQueue()
    queue.add(3, 0, BLOCK, 5)
    assert queue.take_back([((3, 2 * BLOCK, BLOCK), 5)]) == [(3, 2 * BLOCK, BLOCK)]
    assert queue.take_back([((3, 0, BLOCK), 4)]) == [(3, 0, BLOCK)]
    assert queue.take_back([((3, 4 * BLOCK, BLOCK), 3)]) == [(3, 4 * BLOCK, BLOCK)]
    assert queue.take(100 * BLOCK) == [(3, BLOCK, BLOCK, 1), (3, 3 * BLOCK, BLOCK, 1)]


@pytest.mark.parametrize(
    "block",
    [
        *((3, 1, BLOCK), (3, 2 * BLOCK + 1, BLOCK), (3, BLOCK, 100), (3, 5 * BLOCK, BLOCK)),
        *((3, 0, 0), (2, BLOCK, BLOCK)),
    ],
)
def test_a_cancel_of_what_was_not_asked_for_takes_nothing(block: Asked) -> None:
    queue = RequestQueue()
    queue.add(3, BLOCK, BLOCK, 4)
    for cancels in ([(block, 9)], [(block, 9), (block, 9)]):
        assert queue.take_back(cancels) == []
    assert queue.take(100 * BLOCK) == [(3, BLOCK, BLOCK, 4)]


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(BLOCKS)), max_size=40))
@example([(True, BLOCKS[0]), (False, BLOCKS[0])])
@example([(False, BLOCKS[0]), (False, BLOCKS[1]), (True, BLOCKS[1]), (False, BLOCKS[1])])
def test_cancels_of_a_turn_take_together_what_each_would_take_alone(
    said: list[tuple[bool, Asked]],
) -> None:
    at_once: list[Asked] = []
    asked = RequestQueue()
    cancels = []
    for is_cancel, block in said:
        if not is_cancel:
            at_once.append(block)
            asked.add(*block)
        else:
            cancels.append((block, len(asked)))
            if block in at_once:
                at_once.remove(block)
    before = list(asked)
    taken = asked.take_back(cancels)
    assert list(asked) == at_once
    assert len(asked) == len(at_once)
    assert sorted([*asked, *taken]) == sorted(before)


def test_a_cancel_does_not_take_a_request_made_after_it() -> None:
    block, other = BLOCKS[:2]
    asked = queue_of([other, block])
    assert asked.take_back([(block, 1)]) == []
    assert asked.take_back([(block, 1), (other, 0)]) == []
    assert list(asked) == [other, block]
    run = queue_of([block, other])
    assert run.take_back([(other, 1)]) == []
    assert run.take_back([(other, 2)]) == [other]


KIB = 1024


@pytest.mark.parametrize(
    ("rate", "size"),
    [
        (0.0, 32 * KIB),
        (100e3, 100_000),
        (1e6, 512 * KIB),
        (200 * 512 * KIB, 512 * KIB),
        (110e6, KIB * KIB),
        (9e9, KIB * KIB),
    ],
)
def test_a_batch_is_a_second_of_what_a_peer_takes_and_large_only_where_there_are_many(
    rate: float, size: int
) -> None:
    assert batch_size(rate, 512 * KIB) == size
