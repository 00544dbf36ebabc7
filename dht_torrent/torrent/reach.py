"""More requests in flight are worth their memory only while more bytes come of them.

What is in flight divided by the rate is the time a request takes (Little's law). While requests
wait for a distant peer, or for one that looks at them twice a second, that time stays the same and
the rate grows with their number. Once they queue at a link, the rate stays and the time grows. One
number does not tell which of the two it is, so it is tried out: a few more, and what came of it;
now and then a few less. Neither a single quick answer nor how it was a minute ago counts.

Measured in *rounds*: what is in flight at one moment is answered by the end of the round.
"""

from __future__ import annotations

import math
from typing import Final

from dht_torrent.geometry import BLOCK

SPAN: Final = 0.1
"""Seconds over which whole rounds are measured together, at least."""
LONGEST: Final = 3.0
"""Seconds after which a round is over, whatever is still to come of it."""
NEARBY: Final = 0.02
"""Seconds of a round that leave nothing to gain: fifty times a second the window is sent."""
STEP: Final = 1.25
"""A trial asks for this many times as much; if that pays, for twice as much, and again."""
PAUSE: Final = 5.0
"""Seconds between two trials, by turns with more and with less."""
PAYS: Final = 1.04
"""A rate this many times as high is more than noise."""
FELL: Final = 0.75
"""A rate below this share of the last one: the path is another now, and is tried anew."""


class Reach:
    """The most requests one peer should have in flight. `least` are never too many."""

    __slots__ = (
        "_asked",
        "_before",
        "_came",
        "_elapsed",
        "_first",
        "_left",
        "_next",
        "_queue_seconds",
        "_rounds",
        "_started",
        "_trial",
        "_turn",
        "blocks",
        "least",
        "rate",
    )

    def __init__(self, least: float, queue_seconds: float) -> None:
        """More than `queue_seconds` of the rate are never worth it."""
        self.least = least
        self.blocks = least
        """What is worth asking for, as far as is known."""
        self.rate = 0.0
        """Bytes per second of the last rounds."""
        self._queue_seconds = queue_seconds
        self._turn = 1  # what the next trial is: more, or less
        self._next = -math.inf
        self._trial = 0.0  # times the requests that are being tried; 0: none
        self._first = 0.0  # the rate of its first rounds
        self._before = (0.0, 0.0, math.inf)  # requests, rate and seconds of a round, before that
        self.pause()

    def pause(self) -> None:
        """What was in flight will not be answered: forget the round, keep what was learnt."""
        self._left = -1.0
        self._came = self._elapsed = 0.0
        self._rounds = 0
        self._started = 0.0
        self._asked = 0.0

    def asked(self, outstanding: int, now: float) -> None:
        """So many requests are in flight now, those just made included."""
        if self._left < 0:
            self._left = self._asked = float(outstanding * BLOCK)
            self._started = now

    def came(self, size: int, now: float, limit: int) -> None:
        """A batch of `size` payload bytes. The peer takes `limit` requests."""
        if self._left < 0:
            return
        self._left -= size
        if self._left > 0 and now - self._started < LONGEST:
            return
        asked = self._asked
        self._came += asked - self._left
        self._elapsed += now - self._started
        self._rounds += 1
        self._left = -1.0
        careful = self._trial and self._trial < 1
        if self._elapsed < SPAN or (careful and self._elapsed < 1.0 and self._rounds < 8):
            return
        rate, seconds = self._came / self._elapsed, self._elapsed / self._rounds
        self._came = self._elapsed = 0.0
        self._rounds = 0
        self.rate = rate
        most = min(limit, rate * self._queue_seconds / BLOCK)
        self._judge(asked / BLOCK, rate, seconds, now, most)

    def _judge(self, asked: float, rate: float, seconds: float, now: float, most: float) -> None:
        before, rate_before, seconds_before = self._before
        trial, first = self._trial, self._first
        paid = 1 + (trial - 1) / 2
        if trial and not first and rate < paid * rate_before:
            # These rounds began in the old way, and may tell too little, or too much.
            self._first = rate
            return
        self._trial = self._first = 0.0
        if trial > 1:
            rate = max(rate, first)
            gain = rate / rate_before
            if gain >= paid:
                self._try(2.0, rate, seconds, now, most)
                return
            if gain > PAYS:  # in part: the last bit of the way
                self.blocks = before * min(trial, STEP * gain)
                self._turn, self._next = 1, now
            else:
                self.blocks = before
                # Far less is another link than before, and says nothing about the trial.
                self._next = now + (PAUSE if gain > FELL else 0.0)
        elif trial:
            if min(rate, first or rate) * PAYS < rate_before:
                self.blocks = before
            self._next = now + PAUSE
        elif asked < 0.7 * self.blocks:
            pass  # the window is on its way, or it is not this that bounds it
        elif asked >= 1.5 * before and seconds < STEP * seconds_before and rate_before:
            self._try(2.0, rate, seconds, now, most)
            return
        elif rate < FELL * rate_before:
            self._turn, self._next = 1, now  # these rounds were under way when it changed
        elif now >= self._next:
            turn, self._turn = self._turn, -self._turn
            self._try(STEP if turn > 0 else 1 / STEP, rate, seconds, now, most)
            return
        else:
            # A link that changes slowly is followed slowly.
            rate = rate_before + (rate - rate_before) / 4
        self._before = (asked, rate, seconds)

    def _try(self, times: float, rate: float, seconds: float, now: float, most: float) -> None:
        self._before = (self.blocks, rate, seconds)
        wanted = max(self.least, min(self.blocks * times, most))
        if times > 1 and seconds < NEARBY:
            wanted = self.blocks
        if wanted == self.blocks:
            self._next = now + PAUSE
            return
        self._trial = wanted / self.blocks
        self.blocks = wanted
