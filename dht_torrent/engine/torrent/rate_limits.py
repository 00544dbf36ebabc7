"""How fast connections may send and receive: for the whole node, and for each torrent.

What counts is every byte on a peer connection after its handshake, the messages' headers included;
the DHT and what TCP/IP adds are not counted. Blocks wait for their turn. Other messages never wait
behind them: they are counted, and blocks wait longer for it. A limit holds within 5 % or one block
over ten seconds, whichever is more.

Sending asks first. Receiving pays afterwards, since nobody knows what a peer will send: we read a
little, and read on only when that was within the limit. TCP then slows the peer.
"""

from __future__ import annotations

from collections.abc import Callable
from types import EllipsisType

import trio

from dht_torrent.errors import InputError
from dht_torrent.ids import PeerKey
from dht_torrent.torrent.limits import Limiter, Share

MAX_RATE = 10**12
"""Bytes per second. More is a mistake; no limit is said by None."""

Rate = int | None
"""Bytes per second; None is no limit."""
NewRate = Rate | EllipsisType
"""`...` leaves it as it is."""


def checked_rate(rate: Rate) -> Rate:
    """The rate, None for 0. Raises InputError for what is none."""
    if rate is not None and not 0 <= rate <= MAX_RATE:
        raise InputError(f"a limit is 0 (none) to {MAX_RATE} bytes per second, not {rate}")
    return rate or None


class Direction:
    """All that goes out of a node, or all that comes in."""

    def __init__(self) -> None:
        self.limiter = Limiter()
        self._wake: dict[int, Callable[[int], None]] = {}
        self._pause: trio.CancelScope | None = None

    @property
    def rate(self) -> Rate:
        """Of all torrents together."""
        bucket = self.limiter.bucket
        return None if bucket is None else bucket.rate

    def set_rate(self, rate: Rate, share: Share | None = None) -> None:
        self.limiter.set_rate(rate, trio.current_time(), share)
        self._look_again()

    def ask(
        self, share: Share, key: PeerKey, least: int, most: int, wake: Callable[[int], None]
    ) -> int:
        """As `Limiter.ask`; if it must wait, `wake` is called with the bytes later."""
        granted = self.limiter.ask(share, key, least, most, trio.current_time())
        if not granted:
            self._wake[key] = wake
            self._look_again()
        return granted

    def withdraw(self, share: Share, key: PeerKey) -> None:
        """Connection `key` waits no longer."""
        if self._wake.pop(key, None) is not None:
            self.limiter.withdraw(share, key)
            self._look_again()

    def give_back(self, share: Share, size: int) -> None:
        self.limiter.give_back(share, size)
        self._look_again()

    async def run(self) -> None:
        """Wake those whose turn it is, until cancelled."""
        while True:
            due = self.limiter.next_turn(trio.current_time())
            with trio.CancelScope(deadline=due) as self._pause:
                await trio.sleep_forever()
            for key, size in self.limiter.turns(trio.current_time()):
                self._wake.pop(key)(size)

    def _look_again(self) -> None:
        if self._pause is not None and self._wake:
            self._pause.deadline = self.limiter.next_turn(trio.current_time())


class Line:
    """One direction of one torrent."""

    def __init__(self, direction: Direction) -> None:
        self._direction = direction
        self._limiter = direction.limiter
        self._share = Share()

    @property
    def limited(self) -> bool:
        """Whether any limit applies. While it is False, nothing else here need be called."""
        return self._share.bucket is not None or self._limiter.bucket is not None

    @property
    def rate(self) -> Rate:
        """The torrent's own limit."""
        bucket = self._share.bucket
        return None if bucket is None else bucket.rate

    def set_rate(self, rate: Rate) -> None:
        self._direction.set_rate(rate, self._share)

    def ask(self, key: PeerKey, least: int, most: int, wake: Callable[[int], None]) -> int:
        """Bytes connection `key` may send now, `least` to `most`. 0: `wake` will be called with
        them when it is its turn; until then, or `withdraw`, it must not ask again."""
        return self._direction.ask(self._share, key, least, most, wake)

    def withdraw(self, key: PeerKey) -> None:
        """Connection `key` waits no longer."""
        self._direction.withdraw(self._share, key)

    def give_back(self, size: int) -> None:
        """These granted bytes were not sent after all."""
        self._direction.give_back(self._share, size)

    def charge(self, size: int) -> bool:
        """Count bytes that need not wait. False when they alone are more than the limit, and were
        not counted."""
        return self._limiter.charge(self._share, size, trio.current_time())

    async def pay(self, key: PeerKey, size: int) -> None:
        """Wait until `size` bytes that were received are within the limit."""
        size = min(size, self._limiter.most_ahead(self._share))  # the rest came before the limit
        paid = trio.Event()
        if self._direction.ask(self._share, key, size, size, lambda _: paid.set()):
            return
        try:
            await paid.wait()
        finally:
            self.withdraw(key)

    def ahead(self, last: int) -> int:
        """Bytes a connection that has just received `last` may read next. Grows with what it
        brings, so that many who begin at once bring little."""
        return min(self._limiter.ahead(self._share), max(2 * last, 4096))

    def within(self, seconds: float) -> float:
        """Bytes the torrent can hope for in this time."""
        return self._limiter.expected(self._share) * seconds

    def takes(self, size: int) -> float:
        """Seconds for which the limit alone makes one wait for `size` bytes."""
        return size / self._limiter.expected(self._share) if self.limited else 0.0


class TorrentLimits:
    """Both directions of one torrent."""

    __slots__ = ("down", "rates", "up")

    def __init__(self, up: Direction, down: Direction) -> None:
        self.up = Line(up)
        self.down = Line(down)
        self.rates: tuple[Rate, Rate] = (None, None)
        """Up and down, as these two have them: changed here only."""

    def set(self, up: NewRate = ..., down: NewRate = ...) -> None:
        """The torrent's own limits. Raises InputError."""
        _set(self.up, up, self.down, down)
        self.rates = self.up.rate, self.down.rate

    def restore(self, up: Rate, down: Rate) -> None:
        """Limits as they were remembered: nothing is raised for strange ones."""
        self.up.set_rate(min(up, MAX_RATE) if up else None)
        self.down.set_rate(min(down, MAX_RATE) if down else None)
        self.rates = self.up.rate, self.down.rate

    def leave(self, key: PeerKey) -> None:
        """Connection `key` has ended."""
        self.up.withdraw(key)
        self.down.withdraw(key)


class Limits:
    """Both directions of a node. `run` must run for anything to pass once there is a limit."""

    def __init__(self) -> None:
        self.up = Direction()
        self.down = Direction()

    def set(self, up: NewRate = ..., down: NewRate = ...) -> None:
        """Limits for all torrents together. Raises InputError."""
        _set(self.up, up, self.down, down)

    def torrent(self) -> TorrentLimits:
        """For a new torrent, which has no limit of its own yet."""
        return TorrentLimits(self.up, self.down)

    async def run(self) -> None:
        """Give out turns until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.up.run)
            nursery.start_soon(self.down.run)


def _set(ups: Direction | Line, up: NewRate, downs: Direction | Line, down: NewRate) -> None:
    # Both are checked before either changes.
    new_up = up if isinstance(up, EllipsisType) else checked_rate(up)
    new_down = down if isinstance(down, EllipsisType) else checked_rate(down)
    if not isinstance(new_up, EllipsisType):
        ups.set_rate(new_up)
    if not isinstance(new_down, EllipsisType):
        downs.set_rate(new_down)
