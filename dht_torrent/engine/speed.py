"""How fast a node may be: its usual limits, or the alternative ones."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from types import EllipsisType

from dht_torrent.config import Config
from dht_torrent.config.alternative import AlternativeLimits
from dht_torrent.engine.torrent.rate_limits import NewRate, Rate, checked_rate
from dht_torrent.torrent.alternation import Alternation

logger = logging.getLogger(__name__)


class SpeedLimits:
    """The limits of all torrents together, of which one pair is in force."""

    def __init__(
        self,
        force: Callable[[int | None, int | None], None],
        config: Config,
        clock: Callable[[], float],
    ) -> None:
        """`force` is told the limits that hold, up and down; `clock` gives Unix time. Raises
        InputError."""
        self.up: Rate = checked_rate(config.limit_up)
        """The usual one, in force or not."""
        self.down: Rate = checked_rate(config.limit_down)
        self._force = force
        self._alternation = Alternation(_checked(config.alternative_limits))
        self._clock = clock
        self._alternation.look(self._now())
        self._apply()

    @property
    def alternative(self) -> AlternativeLimits:
        """What holds instead, when it is `on`."""
        return self._alternation.limits

    def set(self, up: NewRate = ..., down: NewRate = ...) -> None:
        """The usual limits. Raises InputError; then nothing has changed."""
        new_up = self.up if isinstance(up, EllipsisType) else checked_rate(up)
        self.down = self.down if isinstance(down, EllipsisType) else checked_rate(down)
        self.up = new_up
        self._apply()

    def set_alternative(self, limits: AlternativeLimits) -> None:
        """Raises InputError; then nothing has changed."""
        self._alternation.set(_checked(limits))
        self._alternation.look(self._now())
        self._apply()

    def look(self) -> None:
        """Switch, if it is time."""
        if self._alternation.look(self._now()):
            logger.info("the alternative limits are %s", "on" if self.alternative.on else "off")
            self._apply()

    def _now(self) -> datetime:
        """The clock on the wall."""
        return datetime.fromtimestamp(self._clock())  # noqa: DTZ006 - local time is what is meant

    def _apply(self) -> None:
        other = self.alternative
        up, down = (other.up, other.down) if other.on else (self.up, self.down)
        self._force(checked_rate(up), checked_rate(down))


def _checked(limits: AlternativeLimits) -> AlternativeLimits:
    checked_rate(limits.up)
    checked_rate(limits.down)
    return limits
