"""A cancel takes back a request that was made before it, and never one made later.

The queue of blocks that a peer asked us for and did not get yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

Asked = tuple[int, int, int]
"""A request: index, begin and length."""


def take_back(asked: deque[Asked], cancels: Sequence[tuple[Asked, int]]) -> list[Asked]:
    """Takes out of the queue `asked` what is cancelled, all of it in one pass. Each cancel comes
    with the length the queue had then. Returns what was taken, in the order of the queue."""
    if len(cancels) == 1:  # as in an endgame: no need to look at what comes behind
        return _take_one(asked, *cancels[0])
    left, taken = _without(asked, cancels)
    asked.clear()
    asked.extend(left)
    return taken


def _without(
    asked: Iterable[Asked], cancels: Iterable[tuple[Asked, int]]
) -> tuple[list[Asked], list[Asked]]:
    """What is left of a queue, and what was taken from it. A cancel takes the first of its requests
    before it."""
    wanted: dict[Asked, deque[int]] = {}
    for block, before in cancels:
        wanted.setdefault(block, deque()).append(before)
    left: list[Asked] = []
    taken: list[Asked] = []
    for at, block in enumerate(asked):
        found = wanted.get(block)
        while found and found[0] <= at:
            found.popleft()  # there was nothing for it to take
        if found:
            found.popleft()
            taken.append(block)
        else:
            left.append(block)
    return left, taken


def _take_one(asked: deque[Asked], block: Asked, before: int) -> list[Asked]:
    try:
        del asked[asked.index(block, 0, before)]
    except ValueError:
        return []
    return [block]
