"""Work that is done when there is some. A task that waits for work costs as much memory as one that
works, and a node may have a thousand torrents at rest: what they would wait for is a chore, which
has a task only while it is under way.

The rule: a call is never lost and never counted, as with `AutoResetEvent`. What is called for while
it is under way is done once more; what is called for while nobody is there to do it is not done,
as its owner begins with what is due.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVarTuple

import trio

Chore = Callable[[], Awaitable[None]]
"""Ends when there is nothing to do. A method of its owner: two are the same if they compare equal,
and nothing holds on to the owner while it is not under way."""
_Ts = TypeVarTuple("_Ts")


class Chores:
    """The work of one owner, which runs `run`."""

    __slots__ = ("_again", "_nursery")

    def __init__(self) -> None:
        self._nursery: trio.Nursery | None = None
        """That of `run`, while it takes more."""
        self._again: dict[Chore, bool] = {}
        """What is under way, and whether it has been called for meanwhile."""

    def call(self, chore: Chore) -> None:
        """Have it done, at once or once more."""
        if self._nursery is None:
            return
        if chore in self._again:
            self._again[chore] = True
        else:
            self._again[chore] = False
            self._nursery.start_soon(self._do, chore)

    def begin(self, work: Callable[[*_Ts], Awaitable[object]], *args: *_Ts) -> bool:
        """Have this done beside all that is under way. False: nobody is there to do it."""
        if self._nursery is None:
            return False
        self._nursery.start_soon(work, *args)
        return True

    async def run(
        self, *first: Chore, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """A service: does what is due at `first`, and what is called for; all ends with it."""
        async with trio.open_nursery() as self._nursery:
            try:
                for chore in first:
                    self.call(chore)
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._nursery = None  # nothing new, while what is under way ends

    async def _do(self, chore: Chore) -> None:
        try:
            while True:
                await chore()
                if not self._again[chore]:  # from here to its end nobody else has a turn
                    return
                self._again[chore] = False
        finally:
            del self._again[chore]
