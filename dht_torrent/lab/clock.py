"""The clock of a simulation. The rule: time stands still while any task can go on, and then it is
at once the moment at which something happens next.

Trio's own MockClock does the same for deadlines. This one can also be asked to call a function at
some moment, which costs a tenth of a task that waits with a deadline: datagrams arrive that way.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Final

import trio

_NOTHING_TO_COME: Final = 86_400.0
"""Seconds, of real time, to wait for the outside world when no moment is left to jump to."""


class VirtualClock(trio.abc.Clock):
    """Begins at 0. Threads and real sockets do not hold it up, and while it runs
    `trio.testing.wait_all_tasks_blocked` does not return: it is for `lab.run` alone."""

    def __init__(self) -> None:
        self._now = 0.0
        self._moments: list[float] = []  # a heap; each is in it once
        self._calls: dict[float, list[Callable[[float], None]]] = {}  # by moment

    def call_at(self, when: float, call: Callable[[float], None]) -> None:
        """Call `call(when)` then: in order of asking for one moment, and before the tasks whose
        deadline it is. It must neither block nor raise. Nothing takes it back."""
        calls = self._calls.get(when)
        if calls is None:
            self._calls[when] = [call]
            heapq.heappush(self._moments, when)
        else:
            calls.append(call)

    async def sleep_until(self, when: float) -> None:
        """As Trio's, at a third of its cost: tasks that wait for one moment wake up together."""
        task, waits = trio.lowlevel.current_task(), True

        def wake(now: float) -> None:
            if waits:
                trio.lowlevel.reschedule(task)

        def abort(raise_cancel: object) -> trio.lowlevel.Abort:
            nonlocal waits
            waits = False
            return trio.lowlevel.Abort.SUCCEEDED

        self.call_at(when, wake)
        await trio.lowlevel.wait_task_rescheduled(abort)

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Jump. Trio asks this exactly when no task can go on before `deadline`."""
        moments = self._moments
        moment = min(deadline, moments[0]) if moments else deadline
        if moment == math.inf:
            return _NOTHING_TO_COME
        if moment > self._now:
            self._now = moment
        now = self._now
        due: list[Callable[[float], None]] = []
        while moments and moments[0] <= now:
            due += self._calls.pop(heapq.heappop(moments))
        for call in due:  # what these ask for now waits until the tasks they woke have gone on
            call(now)
        return 0.0


class Alarm:
    """Lets one task wait for a moment that others may bring forward."""

    __slots__ = ("_clock", "_scope", "_task", "_when")

    def __init__(self) -> None:
        self._task: trio.lowlevel.Task | None = None
        self._when = math.inf
        self._clock: VirtualClock | None = None
        self._scope: trio.CancelScope | None = None

    async def wait_until(self, when: float) -> None:
        """Returns at `when`, or earlier. Raises `trio.BusyResourceError` if a task waits here."""
        if self._task is not None:
            raise trio.BusyResourceError("another task is waiting for the same thing")
        clock = trio.lowlevel.current_clock()
        self._task = trio.lowlevel.current_task()
        self._when = math.inf
        if isinstance(clock, VirtualClock):
            self._clock = clock
            self.bring_forward(when)
            await trio.lowlevel.wait_task_rescheduled(self._give_up)
            return
        with trio.CancelScope(deadline=when) as self._scope:
            await trio.lowlevel.wait_task_rescheduled(self._give_up)
        self._scope = None

    def bring_forward(self, when: float) -> None:
        if self._task is None or when >= self._when:
            return
        self._when = when
        if self._clock is not None:
            self._clock.call_at(when, self._due)
        elif self._scope is not None and when < self._scope.deadline:
            self._scope.deadline = when

    def ring(self) -> None:
        if self._task is not None:
            task, self._task = self._task, None
            trio.lowlevel.reschedule(task)

    def _due(self, now: float) -> None:
        if self._when <= now:  # else this call is of an earlier wait
            self.ring()

    def _give_up(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED
