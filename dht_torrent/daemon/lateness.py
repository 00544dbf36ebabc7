"""How late the event loop is: what waits for a moment goes on that much after it. Whatever keeps
the one thread busy shows here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

PERIOD: Final = 1.0
"""Seconds from one look to the next."""


async def watch(observe: Callable[[float], None]) -> None:
    """Tell the lateness of each look, in seconds, until cancelled."""
    while True:
        due = trio.current_time() + PERIOD
        await trio.sleep_until(due)
        observe(max(0.0, trio.current_time() - due))
