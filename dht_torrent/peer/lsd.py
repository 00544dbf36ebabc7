"""Peers of the same local network (BEP 14): what an announce says, what to announce when, and whom
to believe how much.

An announce is a datagram to a multicast group, which names torrents and the port their peers are
to connect to. Anybody in the network can send one: it is parsed strictly, counted per host, and
names the address it came from and no other.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from dht_torrent.config import LsdConfig
from dht_torrent.errors import PeerProtocolError
from dht_torrent.ids import Address, InfoHash, parse_info_hash

GROUPS: Final = (Address("239.192.152.143", 6771), Address("ff15::efc0:988f", 6771))
"""Where announces of IPv4 and of IPv6 go."""
MAX_SIZE: Final = 1400
"""Bytes of an announce: one datagram in any network."""
MAX_HASHES: Final = 25
"""Torrents that one announce of ours names; it then has 1,393 bytes at most."""
MAX_COOKIE: Final = 16
"""Bytes of a cookie of ours."""

_START: Final = b"BT-SEARCH * HTTP/1.1"
_HEX: Final = re.compile(rb"[0-9A-Fa-f]{40}")
_PORT: Final = re.compile(rb"[0-9]{1,5}")
_NAME: Final = re.compile(rb"[0-9A-Za-z!#$%&'*+.^_`|~-]+")  # RFC 9110's token
_ONCE: Final = (b"host", b"port", b"cookie")


@dataclass(frozen=True, slots=True)
class Announce:
    """Who listens at `port` has these torrents, or wants them."""

    port: int
    info_hashes: tuple[InfoHash, ...]
    """At least one; none twice."""
    cookie: bytes | None = None
    """By which its sender knows it again."""


def encode(announce: Announce, group: Address) -> bytes:
    """The datagram for this group. Raises ValueError for more than fits."""
    cookie = announce.cookie or b""
    if not 0 < len(announce.info_hashes) <= MAX_HASHES or len(cookie) > MAX_COOKIE:
        raise ValueError("too much for one announce, or nothing")
    lines = [_START, b"Host: %b" % str(group).encode(), b"Port: %d" % announce.port]
    lines += [b"Infohash: %b" % info_hash.hex().encode() for info_hash in announce.info_hashes]
    if announce.cookie is not None:
        lines.append(b"cookie: %b" % announce.cookie)
    return b"\r\n".join([*lines, b"", b"", b""])


def decode(data: bytes) -> Announce:
    """Raises PeerProtocolError for anything that is not an announce."""
    if len(data) > MAX_SIZE:
        raise PeerProtocolError(f"an announce of {len(data)} bytes")
    head, end, rest = data.partition(b"\r\n\r\n")
    start, *lines = head.split(b"\r\n")
    if not end or rest.replace(b"\r\n", b"") or start != _START:
        raise PeerProtocolError("not an announce")
    once: dict[bytes, bytes] = {}
    info_hashes: dict[InfoHash, None] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        if not colon or not _NAME.fullmatch(name):
            raise PeerProtocolError("a line of an announce that is not a header")
        if name == b"infohash":
            if not _HEX.fullmatch(value):
                raise PeerProtocolError("an infohash that is not 40 hex digits")
            info_hashes[parse_info_hash(bytes.fromhex(value.decode()))] = None
        elif name in _ONCE:
            if name in once:
                raise PeerProtocolError(f"two headers {name.decode()}")
            once[name] = value
    port = once.get(b"port", b"")
    if not _PORT.fullmatch(port) or not 0 < int(port) < 65536:
        raise PeerProtocolError("no port, or not the number of one")
    if not info_hashes:
        raise PeerProtocolError("an announce of nothing")
    return Announce(int(port), tuple(info_hashes), once.get(b"cookie"))


class Schedule:
    """What is announced through one interface, in one family, and when: new torrents soon, and all
    of them again every `interval`, but never two datagrams within `least`. Where more torrents
    are due than fit, the others wait, those longest that were announced last."""

    def __init__(
        self,
        config: LsdConfig,
        info_hashes: Iterable[InfoHash],
        now: float,
        free_at: float = float("-inf"),
    ) -> None:
        """`free_at`: that of an earlier schedule of the interface."""
        self._config = config
        self.free_at = free_at
        """When the next datagram may be sent."""
        self._due: dict[InfoHash, tuple[bool, float]] = {}  # announced before?, and when (again)
        for info_hash in info_hashes:
            self.add(info_hash, now)

    def add(self, info_hash: InfoHash, now: float) -> None:
        """Announce it too. Not at once: others may come with it, and a datagram has room."""
        self._due.setdefault(info_hash, (False, now + self._config.gather))

    def begin_again(self, now: float) -> None:
        """Announce all as if they were new: nobody who is there now may have heard of them."""
        self._due = dict.fromkeys(self._due, (False, now + self._config.gather))

    def remove(self, info_hash: InfoHash) -> None:
        """Announce it no more."""
        self._due.pop(info_hash, None)

    def next_time(self) -> float | None:
        """When `take` has something; None: not before something is added."""
        if not self._due:
            return None
        return max(self.free_at, min(when for _, when in self._due.values()))

    def take(self, now: float) -> list[InfoHash]:
        """What to announce now, in one datagram; the new first. Empty if it is not time."""
        if now < self.free_at:
            return []
        due = [one for one, (_, when) in self._due.items() if when <= now]
        due.sort(key=self._due.__getitem__)
        del due[MAX_HASHES:]
        for info_hash in due:
            # The first announce may be lost, and nobody would know of us for minutes.
            again = self._config.interval if self._due[info_hash][0] else self._config.least
            self._due[info_hash] = True, now + again
        if due:
            self.free_at = now + self._config.least
        return due

    def unsent(self, info_hashes: Iterable[InfoHash], now: float) -> None:
        """What was taken last did not leave: an interface that came up just now may refuse it."""
        self.free_at = now + self._config.retry
        for info_hash in info_hashes:
            if info_hash in self._due:
                self._due[info_hash] = False, now


class Hearing:
    """What is heard of others. Each host may send so much, all together so much, and some of it is
    remembered for torrents that are added here a little later."""

    def __init__(self, config: LsdConfig, cookie: bytes) -> None:
        """`cookie`: ours."""
        self._config = config
        self._cookie = cookie
        self._all = _Allowance()
        self._hosts: dict[str, _Allowance] = {}  # in order of their last datagram
        self._heard: dict[tuple[InfoHash, Address], float] = {}  # by time
        self._kept: Counter[str] = Counter()  # of these, of each host

    def datagram(
        self, data: bytes, source: Address, now: float
    ) -> tuple[Address, Sequence[InfoHash]] | None:
        """A peer, and which torrents it has that it did not name just before; None for what is
        ours, and for one datagram too many. Raises PeerProtocolError. Call it with what comes from
        the interface's own networks."""
        config = self._config
        host = self._hosts.pop(source.host, None) or _Allowance()
        self._hosts[source.host] = host
        if len(self._hosts) > config.max_hosts:
            del self._hosts[next(iter(self._hosts))]
        if not host.spend(config.host_rate, config.host_burst, now):
            return None
        if not self._all.spend(config.rate, config.burst, now):
            return None
        announce = decode(data)
        if announce.cookie == self._cookie:
            return None
        peer = source._replace(port=announce.port)
        if not peer.is_usable or peer.is_loopback:
            raise PeerProtocolError("an announce from where nobody can be")
        self._expire(now)
        fresh = [one for one in announce.info_hashes if self._is_fresh(one, peer, now)]
        for info_hash in fresh:
            self._remember(info_hash, peer, now)
        return peer, fresh

    def peers(self, info_hash: InfoHash, now: float) -> list[Address]:
        """Those that announced this torrent lately."""
        self._expire(now)
        return [peer for one, peer in self._heard if one == info_hash]

    def _is_fresh(self, info_hash: InfoHash, peer: Address, now: float) -> bool:
        """No repetition: libtorrent sends each announce three times, within seconds."""
        when = self._heard.get((info_hash, peer))
        return when is None or now - when >= self._config.least / 2

    def _remember(self, info_hash: InfoHash, peer: Address, now: float) -> None:
        key = info_hash, peer
        if self._heard.pop(key, None) is not None:
            self._heard[key] = now
            return
        if self._kept[peer.host] >= self._config.max_heard_of_host:
            return
        if len(self._heard) >= self._config.max_heard:
            self._forget(next(iter(self._heard)))
        self._heard[key] = now
        self._kept[peer.host] += 1

    def _expire(self, now: float) -> None:
        while self._heard:
            key, when = next(iter(self._heard.items()))
            if now - when < self._config.heard_for:
                return
            self._forget(key)

    def _forget(self, key: tuple[InfoHash, Address]) -> None:
        del self._heard[key]
        host = key[1].host
        self._kept[host] -= 1
        if not self._kept[host]:
            del self._kept[host]


class _Allowance:
    """A token bucket, full at first."""

    __slots__ = ("_saved", "_seen")

    def __init__(self) -> None:
        self._saved = float("inf")
        self._seen = float("-inf")

    def spend(self, rate: float, burst: int, now: float) -> bool:
        """Take one, if there is one."""
        saved = min(float(burst), self._saved + rate * max(0.0, now - self._seen))
        self._seen = now
        self._saved = saved - 1 if saved >= 1 else saved
        return saved >= 1
