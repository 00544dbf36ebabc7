"""How many bytes of a connection may be in flight: LEDBAT (BEP 29, RFC 6817).

The rule: the window grows while the queue that we see is shorter than the target, and shrinks while
it is longer, so that everything else on the line goes first.

Added to BEP 29, as libtorrent and LEDBAT++ (draft-irtf-iccrg-ledbat-plus-plus) have it: slow start;
a decrease in proportion to the window, as a fixed one takes minutes on a fast line; and at times a
short drain, which shows each flow the path's delay without the queue of the others.
"""

from __future__ import annotations

from dht_torrent.config import UtpConfig
from dht_torrent.utp.delays import Minimum, OneWayDelays

RTT_AGE = 60.0
"""Seconds for which the least round trip is believed."""
MAX_DECREASE = 0.5
"""Of the window, in a round trip of queueing alone."""

CLEAR_ROUNDS = 8
"""Round trips without a queue or a loss after which the window grows in proportion: what shared the
line is gone, and equal steps would take a minute on a long and fast one ..."""
CLEAR_GROWTH = 0.2
"""... by up to this part of it in a round trip, a little more each time ..."""
CLEAR_STEP = 0.0125
"""... by so much."""
CLEAR = 0.25
"""Of the target: less is no queue."""
AFTER_LOSS = 0.5
"""Of the window before, when a queue overflowed (BEP 29) ..."""
AFTER_CLEAR_LOSS = 0.7
"""... and when there was none: then the line itself loses packets, and halving at each would leave
it empty. TCP keeps as much at any loss (CUBIC, RFC 9438)."""
AFTER_DRAIN = 0.75
"""Of the window before. Flows that share a line become equal by shrinking in proportion and growing
by equal amounts; the queue that LEDBAT aims at is what this costs, so the line stays full where the
round trip is below 0.3 s."""


class Congestion:
    """The window of one direction of one connection."""

    __slots__ = (
        *(
            "_backup",
            "_clear_since",
            "_config",
            "_drain_until",
            "_hold_until",
            "_low_at",
            "_now",
            "_packet",
            "_restore",
            "_rtt_least",
            "_settle_at",
        ),
        *(
            "backoff",
            "delay",
            "delays",
            "rtt",
            "rtt_deviation",
            "slow_start",
            "threshold",
            "window",
        ),
    )

    def __init__(self, config: UtpConfig) -> None:
        self._config = config
        self._packet = config.start_packet
        self.window: float = config.initial_window
        """Bytes that may be in flight."""
        self.slow_start = True
        self.threshold: float = config.max_window
        """Slow start ends here."""
        self.rtt = 0.0
        """Seconds, smoothed; 0 before the first sample."""
        self.rtt_deviation = 0.0
        self.delay = 0.0
        """Seconds of queueing, as last seen."""
        self.delays = OneWayDelays(config.base_delay_age)
        self.backoff = 0
        """Timeouts since something was acknowledged."""
        self._rtt_least: Minimum | None = None
        self._low_at: float | None = None
        """When the queue was last nearly empty."""
        self._drain_until: float | None = None
        self._restore = 0.0
        self._settle_at: float | None = None
        self._backup: tuple[float, float, bool] | None = None
        self._now = 0.0
        self._hold_until = 0.0
        """Until then what is acknowledged was sent before the window shrank, and the queue it saw
        is no reason to shrink again."""
        self._clear_since: float | None = None
        """Since when there is neither a queue nor a loss."""

    @property
    def least_rtt(self) -> float:
        return self._rtt_least.value if self._rtt_least is not None else self.rtt

    @property
    def timeout(self) -> float:
        """Seconds after which what was sent last is lost."""
        config = self._config
        if self.rtt:
            seconds = max(config.min_timeout, self.rtt + 4 * self.rtt_deviation)
        else:
            seconds = config.first_timeout
        return min(seconds * 2.0 ** min(self.backoff, 16), config.max_timeout)

    def probe_timeout(self, flying: int) -> float:
        """Seconds of silence after which one packet is sent again: two round trips, and of one
        alone the acknowledgement may be delayed (RFC 8985, section 7.2)."""
        config = self._config
        seconds = max(2 * self.rtt, config.least_probe_timeout)
        return seconds + config.peer_ack_delay if flying == 1 else seconds

    def packet_size(self, size: int) -> None:
        """The window never gets smaller than one packet of this size."""
        self._packet = size
        self.window = max(self.window, size)

    def measured(self, rtt: float, now: float) -> None:
        """A round trip of a packet that was sent once."""
        rtt = max(rtt, 1e-6)
        if self._rtt_least is None:
            self._rtt_least = Minimum(RTT_AGE, rtt, now)
            self.rtt = rtt
            self.rtt_deviation = rtt / 2
            return
        self._rtt_least.add(rtt, now)
        difference = rtt - self.rtt
        self.rtt_deviation += (abs(difference) - self.rtt_deviation) / 4
        self.rtt += difference / 8

    def acknowledged(self, size: int, in_flight: int, sample: int, rate: float, now: float) -> None:
        """`size` bytes arrived, of `in_flight` when something was sent last. `sample` is the other
        end's one-way delay in microseconds, 0 if it has none; `rate` the bytes per second that
        arrived."""
        config = self._config
        self._now = now
        self.backoff = 0
        if sample:
            # A queue cannot be longer than the round trip through it; a clock that was set can.
            self.delay = min(self.delays.add(sample, now), self.rtt or config.target_delay)
        delay, target = self.delay, config.target_delay
        if delay < target * CLEAR:
            self._low_at = now
            if self._clear_since is None:
                self._clear_since = now
        else:
            self._clear_since = None
            if self._low_at is None:
                self._low_at = now
        if self._drain_until is not None:
            if now < self._drain_until:
                return
            self._end_drain(now)
        elif not self.slow_start and now - self._low_at > config.drain_interval and rate:
            self._begin_drain(rate, now)
            return
        saturated = in_flight + self._packet > self.window
        if self._settle_at is not None:
            if now >= self._settle_at:
                self._settle(rate)
        elif self.slow_start:
            if delay >= target * config.slow_start_exit:
                # What was sent in the round trip until we saw this is too much already. How much
                # the line carries is known after one with a queue.
                self.slow_start = False
                self._settle_at = now + self.rtt
            elif saturated:
                self.window += size
                if self.window >= self.threshold:
                    self.slow_start = False
        else:
            share = min(1.0, size / max(in_flight, 1))
            if delay <= target:
                if saturated:
                    self.window += self._step(now) * (1 - delay / target) * share
            elif now >= self._hold_until:
                excess = min(MAX_DECREASE, (delay / target - 1) / 2)
                self.window -= max(config.gain * (delay / target - 1), self.window * excess) * share
        self.window = min(max(self.window, self._packet), config.max_window)

    def _step(self, now: float) -> float:
        """Bytes by which the window grows in a round trip without any queue."""
        if self._clear_since is None or not self.rtt:
            return self._config.gain
        rounds = (now - self._clear_since) / self.rtt - CLEAR_ROUNDS
        return max(self._config.gain, self.window * min(CLEAR_GROWTH, rounds * CLEAR_STEP))

    def _settle(self, rate: float) -> None:
        """Keep what fills the line and the queue we aim at."""
        self._settle_at = None
        self._hold_until = self._now + self.rtt
        if rate:
            fitting = rate * (self.least_rtt + self._config.target_delay * 0.9)
            self.window = min(self.window, max(fitting, self.window / 2))
        else:
            self.window /= 2
        self.threshold = self.window

    def _begin_drain(self, rate: float, now: float) -> None:
        self._restore = self.window
        self.window = max(min(self.window / 2, rate * self.least_rtt / 2), 2.0 * self._packet)
        self._drain_until = now + self.delay + 2 * self.least_rtt

    def _end_drain(self, now: float) -> None:
        self._drain_until = None
        self._low_at = now
        self.threshold = max(AFTER_DRAIN * self._restore, 2.0 * self._packet)
        self.slow_start = True

    def lost(self, rate: float) -> None:
        """Packets were lost. Call it at most once for what was sent in one round trip."""
        if self._drain_until is not None:
            self._restore /= 2
            return
        if self._now < self._hold_until:
            return  # they were sent into the queue for which the window has shrunk already
        self._backup = (self.window, self.threshold, self.slow_start)
        self._clear_since = None
        self._hold_until = self._now + self.rtt
        if self.slow_start or self._settle_at is not None:
            self._settle(rate)
        else:
            is_clear = self.delay < self._config.target_delay * CLEAR
            self.window *= AFTER_CLEAR_LOSS if is_clear else AFTER_LOSS
        self.window = max(self.window, self._packet)
        self.slow_start = False
        self.threshold = self.window

    def was_not_lost(self) -> None:
        """What was last taken for lost had only been overtaken."""
        if self._backup is not None:
            window, threshold, slow_start = self._backup
            self._backup = None
            if window > self.window:
                self.window, self.threshold, self.slow_start = window, threshold, slow_start

    def timed_out(self) -> None:
        """Nothing was acknowledged for `timeout`."""
        if self.backoff == 0:
            self.threshold = max(self.window / 2, 2.0 * self._packet)
        self.backoff += 1
        self.window = self._packet
        self.slow_start = True
        self._drain_until = self._settle_at = self._clear_since = None
        self._backup = None
