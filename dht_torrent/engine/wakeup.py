"""The one way in which a task of the engine waits for news from another: an event that resets
itself.

The rule: a wake-up is never lost and never counted. A waiter looks at what it waits for when it
goes on, and waits again if that is not there yet.
"""

from __future__ import annotations

import trio


class AutoResetEvent:
    """Wakes all tasks that wait; set while none does, it lets the next one pass at once."""

    __slots__ = ("_event", "_is_set")

    def __init__(self) -> None:
        self._event: trio.Event | None = None  # as long as somebody waits: there are many of us
        self._is_set = False

    def set(self) -> None:
        """Wake those who wait, or the next one that comes. Several calls before that are one."""
        self._is_set = True
        if self._event is not None:
            self._event.set()
            self._event = None

    def clear(self) -> None:
        """Forget that it was set. Those who wait already are not affected."""
        self._is_set = False

    async def wait(self) -> None:
        """Return once the event is set, and reset it. Cancelled, it leaves the event as it is."""
        if self._is_set:
            await trio.lowlevel.checkpoint()
        else:
            if self._event is None:
                self._event = trio.Event()
            await self._event.wait()
        self._is_set = False
