"""Snapshots of a torrent as they change, for those who show them. The rule: nothing is queued. A
reader gets the newest state when it comes for one, so a slow reader costs nothing and misses only
what is out of date.

Nothing on the data path reports to a watch: a change of stage wakes it, and counts and rates, which
change with every block and with time itself, are compared once an interval while somebody watches.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Self

import trio

from dht_torrent.engine.views import Summary


class Watch:
    """An asynchronous iterator over the summaries of one torrent. Made by `Torrent.watch`.

    It holds no task and no resource, so there is nothing to close: a loop over it may be left at
    any time. One task at a time may iterate; every watcher takes a watch of its own.
    """

    def __init__(
        self,
        summary: Callable[[], Summary],
        changed: Callable[[], Awaitable[None]],
        gone: Callable[[], bool],
        *,
        interval: float,
        repeat_after: float | None = None,
    ) -> None:
        """`changed` waits for the next change of stage, or the end."""
        self._summary = summary
        self._changed = changed
        self._gone = gone
        self._interval = interval
        self._repeat_after = repeat_after if repeat_after is not None else float("inf")
        self._next = float("-inf")
        self._repeat_at = float("inf")
        self._shown: Summary | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Summary:
        """The next summary that differs from the last one given, at the earliest an interval after
        it; or the same one, if it is to be repeated. Ends the iteration when the torrent is gone.
        Cancelled, it has taken nothing: the next call gives what this one would have given."""
        await trio.sleep_until(self._next)
        while not self._gone():
            now = trio.current_time()
            summary = self._summary()
            if (visible := _visible(summary)) != self._shown or now >= self._repeat_at:
                self._shown = visible
                self._next = now + self._interval
                self._repeat_at = now + self._repeat_after
                return summary
            with trio.move_on_at(min(now + self._interval, self._repeat_at)):
                await self._changed()
        raise StopAsyncIteration


def _visible(summary: Summary) -> Summary:
    """The summary without the fractions of bytes and seconds that nobody reads."""
    return replace(
        summary,
        down_rate=round(summary.down_rate),
        up_rate=round(summary.up_rate),
        eta=None if summary.eta is None else round(summary.eta),
    )
