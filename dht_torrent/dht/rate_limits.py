"""How much of others' traffic we bear. The rule: sources are remembered only in structures
of fixed size, and rules about public addresses never bind local ones, where one host is many nodes.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from dht_torrent.config import DhtConfig
from dht_torrent.dht.origins import Home, home
from dht_torrent.ids import Address


class RateLimit:
    """At most `most` events of one place in any `window`, the first of which begins it. Knows
    `tracked_sources` places; the one that did nothing for longest is forgotten."""

    def __init__(self, config: DhtConfig, *, most: float, window: float) -> None:
        self._unlimited = config.unlimited
        self._size = config.tracked_sources
        self._most = most
        self._window = window
        self._seen: OrderedDict[Home, tuple[float, float]] = OrderedDict()  # start, amount

    def allows(self, place: Home, now: float, amount: float = 1) -> bool:
        """Count `amount` for `place`; False, and nothing is counted, when it is too much."""
        if self._unlimited:
            return True
        start, spent = self._seen.get(place, (now, 0.0))
        if now - start >= self._window:
            start, spent = now, 0.0
        if spent + amount > self._most:
            return False
        self._seen[place] = start, spent + amount
        self._seen.move_to_end(place)
        if len(self._seen) > self._size:
            self._seen.popitem(last=False)
        return True

    def __len__(self) -> int:
        return len(self._seen)


class QueryLimit:
    """Ignores sources that query too much: `query_burst` in `query_window`, then `query_penalty`
    of silence. Ask it about queries only: a reply we waited for always passes, or else a forged
    flood in a node's name would cut that node off.

    For the same reason a contact that has answered us is counted by itself, apart from what
    else sends from its IP, and is never ignored beyond the window."""

    def __init__(self, config: DhtConfig) -> None:
        self._config = config
        self._seen: OrderedDict[Home, _Window] = OrderedDict()

    def allows(self, source: Address, now: float, *, known: bool = False) -> bool:
        """Count one query from `source`; False when it is to be ignored. `known`: it has answered
        a query of ours."""
        if self._config.unlimited:
            return True
        place = source if known else home(source)
        window = self._seen.get(place)
        if window is None:
            window = self._seen[place] = _Window(now)
            if len(self._seen) > self._config.tracked_sources:
                self._seen.popitem(last=False)
        else:
            self._seen.move_to_end(place)
        if now < window.blocked_until:
            return False
        if now - window.start >= self._config.query_window:
            window.start, window.count = now, 0
        window.count += 1
        if window.count > self._config.query_burst:
            if not known:
                window.blocked_until = now + self._config.query_penalty
            return False
        return True

    def blocks(self, source: Address, now: float) -> bool:
        """Whether `source`, if unknown, is being ignored. Cheap, to shed a flood before parsing."""
        window = self._seen.get(home(source)) if self._seen else None
        return window is not None and now < window.blocked_until

    def __len__(self) -> int:
        return len(self._seen)


class _Window:
    __slots__ = ("blocked_until", "count", "start")

    def __init__(self, now: float) -> None:
        self.start = now
        self.count = 0
        self.blocked_until = float("-inf")


class SendBudget:
    """The bytes all answers to public addresses may take together: a reflector worth nothing."""

    def __init__(self, config: DhtConfig, now: float) -> None:
        self._unlimited = config.unlimited
        self._rate = config.send_rate
        self._most = config.send_rate * config.send_burst
        self._enough = min(self._most, config.max_reply)
        self._saved = self._most
        self._counted_at = now
        self._refusing = False

    def allows(self, size: int, to: Address, now: float) -> bool:
        """Spend `size` bytes; False when they are not there. Local addresses cost nothing."""
        if self._unlimited or to.is_local:
            return True
        self._earn(now)
        if size > self._saved:
            self._refusing = True
            return False
        self._saved -= size
        return True

    def is_spent(self, to: Address, now: float) -> bool:
        """Whether nothing is to be answered now, since an answer was refused and not even one of
        `max_reply` bytes has been saved up after that. Cheap, to shed a flood before parsing."""
        if not self._refusing or to.is_local:
            return False
        self._earn(now)
        self._refusing = self._saved < self._enough
        return self._refusing

    def _earn(self, now: float) -> None:
        self._saved = min(self._most, self._saved + (now - self._counted_at) * self._rate)
        self._counted_at = now


class QueryPace:
    """Keeps our own queries to one destination below what its `QueryLimit` bears: nine tenths
    of `query_burst` in any `query_window` and a tenth, first come, first served. The margin is for
    datagrams that overtake each other: what we send in two windows must not arrive in one."""

    def __init__(self, config: DhtConfig) -> None:
        self._unlimited = config.unlimited
        self._burst = max(1, config.query_burst * 9 // 10)
        self._window = 1.1 * config.query_window
        self._size = config.tracked_sources
        self._booked: OrderedDict[Home, deque[float]] = OrderedDict()

    def is_free(self, to: Address, now: float) -> bool:
        """Whether a query may go to `to` at once."""
        if self._unlimited:
            return True
        times = self._booked.get(home(to))
        return times is None or len(times) < self._burst or times[0] + self._window <= now

    def book(self, to: Address, now: float) -> float:
        """When the next query may go to `to`: now or later. It is counted as sent then."""
        if self._unlimited:
            return now
        place = home(to)
        times = self._booked.get(place)
        if times is None:
            times = self._booked[place] = deque(maxlen=self._burst)
            if len(self._booked) > self._size:
                self._booked.popitem(last=False)
        else:
            self._booked.move_to_end(place)
        when = max(now, times[0] + self._window) if len(times) == self._burst else now
        times.append(when)
        return when
