"""Whether a gateway has forgotten its mappings: it counts the seconds since it began to remember
them, and tells the count in every response.
"""

from __future__ import annotations

from typing import Final

_SLACK: Final = 2.0
"""Seconds by which two clocks of whole seconds, and the way between them, may differ."""


class Epoch:
    """What one gateway counts."""

    def __init__(self) -> None:
        self._last: tuple[int, float] | None = None

    def is_lost(self, count: int, now: float, *, both_ways: bool) -> bool:
        """Note what it says now. True: it began anew since the last time, since it counts less than
        it should by now. `both_ways`: or more, as PCP wants it (RFC 6887 section 8.5), where that
        tells of another gateway. NAT-PMP does not (RFC 6886 section 3.6)."""
        before, self._last = self._last, (count, now)
        if before is None:
            return False
        ours, theirs = now - before[1], count - before[0]
        if both_ways:
            return (
                theirs < -1
                or ours + _SLACK < theirs - theirs / 16
                or theirs + _SLACK < ours - ours / 16
            )
        return theirs < 7 / 8 * ours - _SLACK
