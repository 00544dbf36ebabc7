"""The queue of blocks that a peer asked us for and did not get yet, as runs.

The rule: it is what a list of single requests would be, in the order of asking; that they are kept
as runs shows in nothing but the cost. A cancel takes back a request that was made before it, and
never one made later.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

LEAST_BATCH: Final = 32 * 1024
"""Bytes read and sent at once to a peer that takes little."""
OFTEN: Final = 200
"""A peer that takes so many batches a second gets them twice as large."""

Asked = tuple[int, int, int]
"""A request: index, begin and length."""


class Run(NamedTuple):
    """Requests for `blocks` adjacent blocks of piece `index`, each of `length` bytes, the first of
    which begins at `begin`. (The word `index` hides tuple.index, hence the type comment.)"""

    index: int  # type: ignore[assignment]
    begin: int
    length: int
    blocks: int


def single_requests(runs: Iterable[Run]) -> Iterator[Asked]:
    """The requests that the runs are made of, in their order."""
    for index, begin, length, blocks in runs:
        for at in range(begin, begin + length * blocks, length):
            yield index, at, length


def batch_size(rate: float, most: int) -> int:
    """Bytes of blocks to read and send at once to a peer that takes `rate` a second, where `most`
    is usual: about a second's worth, so that a slow peer neither holds much memory nor is late."""
    size = min(most, max(LEAST_BATCH, int(rate)))
    return 2 * size if rate > OFTEN * most else size


def side_by_side(
    runs: Iterable[Run], piece_length: int, into: Sequence[memoryview], most: int
) -> list[tuple[int, Sequence[memoryview]]]:
    """Offset in the content, and buffers, of what one call can read: what lies side by side, in
    `most` buffers at most. `into` has a buffer for each block of the runs, in their order."""
    parts: list[tuple[int, Sequence[memoryview]]] = []
    start = stop = -1
    first = last = 0  # of the buffers: those for what lies side by side so far
    for index, begin, length, blocks in runs:
        offset = index * piece_length + begin
        if offset != stop:
            parts += _in_calls(start, into[first:last], most)
            start, first = offset, last
        stop, last = offset + length * blocks, last + blocks
    parts += _in_calls(start, into[first:last], most)
    return parts


def _in_calls(
    offset: int, buffers: Sequence[memoryview], most: int
) -> Iterator[tuple[int, Sequence[memoryview]]]:
    while buffers:
        part, buffers = buffers[:most], buffers[most:]
        yield offset, part
        if buffers:
            offset += sum(map(len, part))


class RequestQueue:
    """Of one peer."""

    __slots__ = ("_count", "_runs")

    def __init__(self) -> None:
        self._runs: deque[Run] = deque()
        self._count = 0

    def __len__(self) -> int:
        """Blocks."""
        return self._count

    def __iter__(self) -> Iterator[Asked]:
        """The single requests, the oldest first."""
        return single_requests(self._runs)

    def size(self, header: int) -> int:
        """Bytes of all the blocks, with a header of `header` bytes each."""
        return sum([(header + length) * blocks for _, _, length, blocks in self._runs])

    @property
    def first_length(self) -> int:
        """Bytes of the oldest block. The queue must not be empty."""
        return self._runs[0].length

    def add(self, index: int, begin: int, length: int, blocks: int = 1) -> None:
        """Append requests for adjacent blocks of `length` bytes (at least 1) each."""
        runs = self._runs
        self._count += blocks
        if runs:
            last = runs[-1]
            if (
                last.index == index
                and last.length == length
                and last.begin + length * last.blocks == begin
            ):
                runs[-1] = Run(index, last.begin, length, last.blocks + blocks)
                return
        runs.append(Run(index, begin, length, blocks))

    def take(self, room: int) -> list[Run]:
        """Take out the oldest requests for `room` bytes of blocks; the last block may reach beyond
        that."""
        taken = []
        while room > 0 and self._runs:
            run = self._take_first(-(-room // self._runs[0].length))
            room -= run.length * run.blocks
            taken.append(run)
        return taken

    def take_within(self, room: int, header: int) -> list[Run]:
        """Take out the oldest requests whose blocks, with a header of `header` bytes each, fit into
        `room` bytes."""
        taken = []
        while self._runs and (fit := room // (header + self._runs[0].length)) > 0:
            run = self._take_first(fit)
            room -= (header + run.length) * run.blocks
            taken.append(run)
        return taken

    def _take_first(self, most: int) -> Run:
        """Up to `most` blocks of the first run."""
        run = self._runs[0]
        index, begin, length, blocks = run
        if blocks > most:
            self._runs[0] = Run(index, begin + most * length, length, blocks - most)
            run = Run(index, begin, length, most)
        else:
            self._runs.popleft()
        self._count -= run.blocks
        return run

    def keep(self, pieces: Container[int]) -> list[Asked]:
        """Drop the requests for blocks of other pieces. Returns them, in order."""
        dropped = [run for run in self._runs if run.index not in pieces]
        if dropped:
            self._replace([run for run in self._runs if run.index in pieces])
        return list(single_requests(dropped))

    def take_back(self, cancels: Sequence[tuple[Asked, int]]) -> list[Asked]:
        """Take out what is cancelled, all of it in one pass. Each cancel comes with the length the
        queue had then. Returns what was taken, in the order of the queue."""
        if len(cancels) == 1:  # as in an endgame: no need to look at what comes behind
            return self._take_one(*cancels[0])
        left, taken = _without(self, cancels)
        if taken:
            self._replace([])
            for block in left:
                self.add(*block)
        return taken

    def _take_one(self, block: Asked, before: int) -> list[Asked]:
        index, begin, length = block
        passed = 0
        for place, run in enumerate(self._runs):
            if run.index == index and run.length == length:
                number, rest = divmod(begin - run.begin, length)
                if not rest and 0 <= number < run.blocks:
                    if passed + number >= before:
                        return []
                    self._take_out(place, number)
                    return [block]
            passed += run.blocks
        return []

    def _take_out(self, place: int, number: int) -> None:
        """The block of that number in the run at that place."""
        index, begin, length, blocks = self._runs[place]
        behind = Run(index, begin + (number + 1) * length, length, blocks - number - 1)
        del self._runs[place]
        if behind.blocks:
            self._runs.insert(place, behind)
        if number:
            self._runs.insert(place, Run(index, begin, length, number))
        self._count -= 1

    def _replace(self, runs: Iterable[Run]) -> None:
        self._runs = deque(runs)
        self._count = sum([run.blocks for run in self._runs])


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
