"""No more than the rate and a small burst, and torrents that wait share it evenly.

One `Limiter` is one direction of a node: a token bucket for the node, one for each torrent that has
a limit of its own, and a line of connections that wait. When the node's bucket is what they wait
for, the torrent that was given least goes first (start-time fair queueing, Goyal, Vin and Cheng
1996), however many connections it has; within a torrent it is first come, first served.
"""

from __future__ import annotations

from dht_torrent.geometry import BLOCK
from dht_torrent.ids import PeerKey

BURST = 0.2
"""Seconds of a rate that may be saved up: 2 % of ten seconds."""
HEADER = 4 + 1 + 8
"""Bytes of a `piece` message before its block (BEP 3)."""
MESSAGE = HEADER + BLOCK
"""Bytes of a full `piece` message. Any bucket holds one, so that the slowest rate still moves."""
TICK = 0.01
"""Seconds between two looks at the line: fewer and larger grants cost less."""
AHEAD = 0.1
"""Seconds of the rate that all who read and pay afterwards may owe together ..."""
MIN_READ = 1024
"""... or this many bytes each, if that is more: smaller reads cost more than they are worth."""
_ROUNDING = 1e-6  # seconds later, the bucket surely holds what it was to hold


class TokenBucket:
    """Bytes that may pass now, growing at `rate` bytes per second up to `capacity`."""

    __slots__ = ("_at", "level", "rate")

    def __init__(self, rate: int, now: float) -> None:
        self.rate = rate
        self.level = 0.0
        """Below zero after traffic that was only counted; never below minus `capacity`."""
        self._at = now

    @property
    def capacity(self) -> float:
        # A look that comes late must find what came in meanwhile.
        return max(self.rate * BURST, MESSAGE + self.rate * TICK)

    def fill(self, now: float) -> None:
        """Let time pass."""
        self.level = min(self.level + self.rate * (now - self._at), self.capacity)
        self._at = now

    def change(self, rate: int, now: float) -> None:
        self.fill(now)
        self.rate = rate
        self.level = max(min(self.level, self.capacity), -self.capacity)

    def put(self, size: int) -> None:
        """Add `size` bytes (negative: take them away) within the bounds."""
        self.level = max(min(self.level + size, self.capacity), -self.capacity)

    def ready_at(self, size: int) -> float:
        """When there will be `size` bytes."""
        return self._at + max(0.0, size - self.level) / self.rate + _ROUNDING


class Share:
    """One torrent's part in a direction."""

    __slots__ = ("bucket", "served", "waiting")

    def __init__(self) -> None:
        self.bucket: TokenBucket | None = None
        """None: no limit of its own."""
        self.waiting: dict[PeerKey, tuple[int, int]] = {}
        """Connections in line, in order: at least and at most how many bytes each wants."""
        self.served = 0.0
        """What it was given, and would have been given had it always asked."""

    @property
    def least(self) -> int:
        """Bytes the first in line needs."""
        return next(iter(self.waiting.values()))[0]

    def is_free(self, now: float) -> bool:
        """Whether its own limit lets the first in line go."""
        if self.bucket is None:
            return True
        self.bucket.fill(now)
        return self.bucket.level >= self.least


class Limiter:
    """One direction of a node. Times must not go backwards."""

    def __init__(self) -> None:
        self.bucket: TokenBucket | None = None
        """The node's; None: no limit for all together."""
        self._line: dict[Share, None] = {}  # those with a connection waiting, in order of arrival
        self._served = 0.0  # what the share served last had been given before
        self._looked_at = float("-inf")

    def set_rate(self, rate: int | None, now: float, share: Share | None = None) -> None:
        """Bytes per second from now on, of the share or of all together; None: unlimited."""
        whose = self if share is None else share
        if rate is None:
            whose.bucket = None
        elif whose.bucket is None:
            whose.bucket = TokenBucket(rate, now)
        else:
            whose.bucket.change(rate, now)
        for other in self._line:
            other.waiting = {key: self._possible(other, *ask) for key, ask in other.waiting.items()}

    def ask(self, share: Share, key: PeerKey, least: int, most: int, now: float) -> int:
        """What connection `key` may move at once, `least` to `most` bytes (1 <= least <= most).

        0: it waits in line, and `turns` names it later. One ask per connection at a time. If
        `least` is more than a bucket holds, a bucketful must do.
        """
        least, most = self._possible(share, least, most)
        none_before = not share.waiting and not any(other.is_free(now) for other in self._line)
        if not share.waiting:
            share.served = max(share.served, self._served)
            self._line[share] = None
        share.waiting[key] = (least, most)
        if none_before and share.is_free(now) and self._has(least, now):
            return self._grant(share)[1]
        return 0

    def turns(self, now: float) -> list[tuple[PeerKey, int]]:
        """Connections whose turn it is, and how many bytes each may move. Call at `next_turn`."""
        self._looked_at = now
        granted: list[tuple[PeerKey, int]] = []
        while True:
            free = [share for share in self._line if share.is_free(now)]
            if not free:
                return granted
            first = min(free, key=_served)
            if not self._has(first.least, now):
                return granted  # no other overtakes it: all that comes in is kept for it
            granted.append(self._grant(first))

    def next_turn(self, now: float) -> float:
        """When `turns` may have something to give; infinity while none waits."""
        due = float("inf")
        free = []
        for share in self._line:
            if share.is_free(now):
                free.append(share)
            elif share.bucket is not None:
                due = min(due, share.bucket.ready_at(share.least))
        if free:
            first = min(free, key=_served)
            enough = self._has(first.least, now)
            ready = now if self.bucket is None or enough else self.bucket.ready_at(first.least)
            due = min(due, ready)
        return max(due, self._looked_at + TICK)

    def withdraw(self, share: Share, key: PeerKey) -> None:
        """Connection `key` waits no longer."""
        if share.waiting.pop(key, None) is not None and not share.waiting:
            del self._line[share]

    def give_back(self, share: Share, size: int) -> None:
        """These granted bytes were not moved after all."""
        share.served -= size
        for bucket in (self.bucket, share.bucket):
            if bucket is not None:
                bucket.put(size)

    def charge(self, share: Share, size: int, now: float) -> bool:
        """Count bytes that moved without asking, for others to wait longer.

        False when so many did that the debt is full: then even they should wait.
        """
        within = True
        for bucket in (self.bucket, share.bucket):
            if bucket is not None:
                bucket.fill(now)
                within = within and bucket.level - size > -bucket.capacity
        if within:
            for bucket in (self.bucket, share.bucket):
                if bucket is not None:
                    bucket.put(-size)
        return within

    def expected(self, share: Share) -> float:
        """Bytes per second the share can hope for."""
        rate = float("inf") if share.bucket is None else float(share.bucket.rate)
        if self.bucket is not None:
            others = len(self._line) - (share in self._line)
            rate = min(rate, self.bucket.rate / (others + 1))
        return rate

    def ahead(self, share: Share) -> int:
        """Bytes one connection may read now and pay for afterwards."""
        part = self.expected(share) * AHEAD / (len(share.waiting) + 1)
        return int(min(max(part, MIN_READ), 1 << 30))  # the limit may just have been lifted

    def most_ahead(self, share: Share) -> int:
        """What `ahead` is to the only reader: none need pay for more."""
        rates = [bucket.rate for bucket in (self.bucket, share.bucket) if bucket is not None]
        return max(int(min(rates, default=0) * AHEAD), MIN_READ)

    def _possible(self, share: Share, least: int, most: int) -> tuple[int, int]:
        room = min(
            (bucket.capacity for bucket in (self.bucket, share.bucket) if bucket is not None),
            default=most,
        )
        least = min(least, int(room))
        return least, max(least, most)

    def _has(self, size: int, now: float) -> bool:
        if self.bucket is None:
            return True
        self.bucket.fill(now)
        return self.bucket.level >= size

    def _grant(self, share: Share) -> tuple[PeerKey, int]:
        """Let the first of `share` go. Both buckets are filled, and hold what it needs."""
        key, (_, size) = next(iter(share.waiting.items()))
        for bucket in (self.bucket, share.bucket):
            if bucket is not None:
                size = min(size, int(bucket.level))
        for bucket in (self.bucket, share.bucket):
            if bucket is not None:
                bucket.put(-size)
        self._served = share.served
        share.served += size
        self.withdraw(share, key)
        return key, size


def _served(share: Share) -> float:
    return share.served
