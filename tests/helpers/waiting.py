"""Waiting for something outside this event loop's reach, with a deadline that names it."""

from __future__ import annotations

from collections.abc import Callable

import trio


async def until(condition: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    """Return as soon as `condition()` is true. Raises AssertionError naming `what` when it is late.

    It looks every 10 ms: what is waited for happens in a thread, a library or a process of others.
    """
    deadline = trio.current_time() + seconds
    while not condition():
        if trio.current_time() > deadline:
            raise AssertionError(f"not in {seconds:g} s: {what}")
        await trio.sleep(0.01)
