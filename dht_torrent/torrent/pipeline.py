"""As many requests are in flight as cover `queue_seconds` of the peer's rate, and not many more.

Too few leave the link idle between answers; too many make a choke or a lost peer expensive. The
rate is not known at first, so the window grows with every block until more brings no more. Beyond
`near_window` it grows only as far as `reach` finds that it pays, or the peer sends in a moment.
"""

from __future__ import annotations

from dht_torrent.config import PeerConfig
from dht_torrent.geometry import BLOCK
from dht_torrent.torrent.reach import Reach

LOOK_INTERVAL = 1.0
"""Seconds over which slow start judges whether the rate still grows."""
BATCH = 32
"""Requests worth a write of their own, however large the window is."""
GROWTH = 1.1
"""Slow start goes on while the rate is this many times what it was."""


OUT_OF_TURN = 0.02
"""Seconds that either end may wait for a processor, or for its disk, while the other goes on: what
comes in them is worth asking for, however near a peer is. From 100 MB/s on it is more than what the
default `near_window` holds."""


GATHER = 0.002
"""Seconds in which answers may gather before they are taken: a few thousand turns a second would
take the processor that the bytes need."""
GATHER_LEAST = 128 * 1024
"""Bytes, below which turns are few enough."""


class SpeedMeter:
    """Bytes per second, averaged over the last five seconds at most.

    Call `add` once a batch, not once a block. Before five seconds are over the average is over the
    time since the first byte (but not less than `MIN_SPAN`), so that a fast start shows at once.
    """

    __slots__ = ("_buckets", "_first", "_started", "total")

    BUCKETS = 5
    """Of a second each: the current one, which is not over, and four before it."""
    MIN_SPAN = 0.1

    def __init__(self) -> None:
        self.total = 0
        """All bytes ever added."""
        self._buckets = [0] * self.BUCKETS  # the current one first
        self._first = float("-inf")  # when the current bucket began
        self._started = 0.0

    def add(self, size: int, now: float) -> None:
        if now - self._first >= 1.0:
            self._turn(now)
        self._buckets[0] += size
        self.total += size

    def value(self, now: float) -> float:
        """Bytes per second at `now`; 0.0 after four seconds of silence."""
        if now - self._first >= 1.0:
            self._turn(now)
        span = min(now - self._started, self.BUCKETS - 1 + now - self._first)
        return sum(self._buckets) / max(span, self.MIN_SPAN)

    def _turn(self, now: float) -> None:
        silence = now - self._first
        if silence >= self.BUCKETS:
            # All empty: this is a fresh start, and nothing before it counts as time.
            self._buckets = [0] * self.BUCKETS
            self._first = self._started = now
            return
        steps = int(silence)
        self._buckets = ([0] * steps + self._buckets)[: self.BUCKETS]
        self._first += steps


class Pipeline:
    """How many requests one peer should have in flight."""

    __slots__ = (
        "_before",
        "_config",
        "_limit",
        "_look_at",
        "_rate",
        "_reach",
        "_slow_start",
        "_snubbed",
        "_window",
    )

    def __init__(self, config: PeerConfig) -> None:
        self._config = config
        self._limit = config.max_outstanding
        self._reach = Reach(config.near_window / BLOCK, config.queue_seconds)
        self.restart()

    def restart(self) -> None:
        """The rate is unknown, as after a long choke: begin with a small window."""
        self._window: float = min(self._config.min_outstanding, self._limit)
        self._slow_start = True
        self._snubbed = False
        self._before = 0.0
        self._rate = 0.0
        self._look_at: float | None = None
        self._reach.pause()

    def peer_limit(self, reqq: int) -> None:
        """The peer's own bound, from its extension handshake (BEP 10's `reqq`)."""
        self._limit = max(1, min(reqq, self._config.max_outstanding))
        self._window = min(self._window, self._limit)

    def asked(self, outstanding: int, now: float) -> None:
        """So many requests are in flight now, those just made included."""
        self._reach.asked(outstanding, now)

    def update(self, rate: float, now: float, size: int) -> None:
        """A batch of `size` payload bytes came in, and makes the peer's rate `rate`. Ends snubbing.

        In slow start the window grows by a block for each block received, which doubles it every
        round trip, as TCP's does. It ends when a second brought less than a tenth more rate.
        """
        self._snubbed = False
        self._rate = rate
        if self._look_at is None:
            self._look_at = now + LOOK_INTERVAL
        config, reach = self._config, self._reach
        was_enough = reach.blocks
        reach.came(size, now, self._limit)
        fluent = max(rate, reach.rate) * OUT_OF_TURN / BLOCK
        most = max(min(max(reach.blocks, fluent), self._limit), 1)
        if self._slow_start:
            grown = most if self._window >= was_enough else self._window + size / BLOCK
            self._window = min(grown, most)
            if now < self._look_at:
                return
            self._slow_start = rate > GROWTH * self._before
            self._before = rate
            self._look_at = now + LOOK_INTERVAL
        else:
            # The average lags behind a window that doubles; what the last round brought does not.
            wanted = max(rate, reach.rate) * config.queue_seconds / BLOCK
            self._window = min(max(wanted, config.min_outstanding), most)

    def snubbed(self) -> None:
        """No block for `snub_timeout`: one request at a time until a block comes, then anew."""
        self._reach = Reach(self._reach.least, self._config.queue_seconds)
        self.restart()
        self._snubbed = True

    @property
    def target(self) -> int:
        """Requests wanted in flight."""
        return 1 if self._snubbed else int(self._window)

    def gather(self, outstanding: int) -> int:
        """Bytes that may come before the next of them are taken, while so many requests are in
        flight; 0: take what there is. A power of two, so that it seldom changes."""
        most = min(self._config.turn_in_place // 2, outstanding * BLOCK // 4)
        size = min(int(self._rate * GATHER), most)
        return 1 << size.bit_length() - 1 if size >= GATHER_LEAST else 0

    def room(self, outstanding: int, ceiling: int | None = None) -> int:
        """How many more requests to send now. 0 until a quarter of the window, or BATCH, is
        answered, so that requests go out in batches rather than one for each block. `ceiling`: at
        most so many in flight, whatever the peer could send."""
        target = self.target if ceiling is None else min(self.target, ceiling)
        room = target - outstanding
        return room if room >= min(-(-target // 4), BATCH) else 0
