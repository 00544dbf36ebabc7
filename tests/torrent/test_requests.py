"""Tests of `torrent.requests`."""

from __future__ import annotations

from collections import deque

from hypothesis import example, given
from hypothesis import strategies as st

from dht_torrent.geometry import BLOCK
from dht_torrent.torrent.requests import Asked, take_back

BLOCKS = [(0, 0, BLOCK), (0, BLOCK, BLOCK), (1, 0, BLOCK)]


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(BLOCKS)), max_size=40))
@example([(True, BLOCKS[0]), (False, BLOCKS[0])])
@example([(False, BLOCKS[0]), (False, BLOCKS[1]), (True, BLOCKS[1]), (False, BLOCKS[1])])
def test_cancels_of_a_turn_take_together_what_each_would_take_alone(
    said: list[tuple[bool, Asked]],
) -> None:
    at_once: list[Asked] = []
    asked: deque[Asked] = deque()
    cancels = []
    for is_cancel, block in said:
        if not is_cancel:
            at_once.append(block)
            asked.append(block)
        else:
            cancels.append((block, len(asked)))
            if block in at_once:
                at_once.remove(block)
    before = list(asked)
    taken = take_back(asked, cancels)
    assert list(asked) == at_once
    assert sorted([*asked, *taken]) == sorted(before)


def test_a_cancel_does_not_take_a_request_made_after_it() -> None:
    block, other = BLOCKS[:2]
    asked = deque([other, block])
    assert take_back(asked, [(block, 1)]) == []
    assert take_back(asked, [(block, 1), (other, 0)]) == []
    assert list(asked) == [other, block]
