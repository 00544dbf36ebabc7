"""Runs an experiment on virtual time, the same way every time.

Same seed, same run: the dice are handed in, the clock jumps whenever all tasks wait, and Trio's
scheduler, which shuffles tasks on purpose, is seeded too. It stays true only while the experiment
uses no threads, no other dice, and never iterates a set of bytes or str.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar, TypeVarTuple

import trio

from dht_torrent.lab.clock import VirtualClock

Result = TypeVar("Result")
Args = TypeVarTuple("Args")

# The two private names of Trio this package touches, both only in `run`.
_SHUFFLES_SORTED: Final = "_ALLOW_DETERMINISTIC_SCHEDULING"
_DICE: Final = "_r"


@contextmanager
def collecting_rarely(*, is_last: bool = False) -> Iterator[None]:
    """For blocks that hold thousands of nodes: Python's garbage collector would look at all of
    their objects again and again, though nearly none is garbage. What the block leaves is looked
    through after it; unless `is_last`, for the process ends soon and its memory with it: then only
    after the next such block, should there be one."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(2_000_000, 50, 100)
    try:
        yield
    finally:
        if is_last:
            gc.freeze()
        else:
            gc.unfreeze()
        gc.set_threshold(*before)


def run(
    main: Callable[[random.Random, *Args], Awaitable[Result]],
    *args: *Args,
    seed: int = 0,
    is_last: bool = False,
) -> Result:
    """Run `main(rng, *args)` to its end and return its result. Restores Trio's own dice after, and
    the garbage collector's ways (`is_last`: see `collecting_rarely`)."""
    core: Any = trio._core._run
    sorts, dice = getattr(core, _SHUFFLES_SORTED), getattr(core, _DICE)
    setattr(core, _SHUFFLES_SORTED, True)
    setattr(core, _DICE, random.Random(f"scheduler {seed}"))
    try:
        with collecting_rarely(is_last=is_last):
            return trio.run(main, random.Random(seed), *args, clock=VirtualClock())
    except BaseExceptionGroup as group:
        if group.split(KeyboardInterrupt)[1] is None:
            raise KeyboardInterrupt from None  # whichever tasks it hit on its way
        raise
    finally:
        setattr(core, _SHUFFLES_SORTED, sorts)
        setattr(core, _DICE, dice)
