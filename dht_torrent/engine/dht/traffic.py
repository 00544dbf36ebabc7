"""Counts of the datagrams that came in, for people."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Traffic:
    """What came in since the start."""

    queries: int = 0
    replies: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    _minute: float = 0.0
    _this_minute: int = 0
    _last_minute: int = 0

    def drop(self, why: str, count: int = 1) -> None:
        if count:
            self.dropped[why] = self.dropped.get(why, 0) + count

    def reply(self, now: float) -> None:
        self.replies += 1
        self._turn(now)
        self._this_minute += 1

    def replies_per_minute(self, now: float) -> float:
        """In the last 60 seconds, the minute before interpolated."""
        self._turn(now)
        return self._this_minute + self._last_minute * (1 - (now - self._minute) / 60)

    def _turn(self, now: float) -> None:
        if now - self._minute >= 60:
            self._last_minute = self._this_minute if now - self._minute < 120 else 0
            self._this_minute = 0
            self._minute = now
