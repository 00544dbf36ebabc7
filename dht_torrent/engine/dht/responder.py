"""Others' queries. The rule: what anybody may make us do is bounded before it is done, and a flood
is shed before it is parsed.

Most queries go a short way, from datagram to datagram, without an object in between.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from dht_torrent.config import DhtConfig
from dht_torrent.dht import krpc
from dht_torrent.dht.answer import Answerer, announced
from dht_torrent.dht.krpc import BadQuery, Query, Reply
from dht_torrent.dht.origins import facts
from dht_torrent.dht.ping_queue import Strangers
from dht_torrent.dht.rate_limits import QueryLimit, SendBudget
from dht_torrent.dht.shortcut import Shortcut
from dht_torrent.ids import Address, InfoHash

QUERY_TAIL: Final = b"1:y1:qe"
"""How every canonical query ends: `y` sorts last."""


@dataclass(slots=True)
class Traffic:
    """What came in."""

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


class Queries:
    """Answers them by `say`. `heard` learns of each peer that announced itself, `strangers` of
    those worth a ping."""

    def __init__(
        self,
        answerer: Answerer,
        strangers: Strangers,
        traffic: Traffic,
        config: DhtConfig,
        rng: random.Random,
        now: float,
        *,
        say: Callable[[tuple[bytes, Address]], None],
        heard: Callable[[InfoHash, Address], None],
    ) -> None:
        self._answerer = answerer
        self._table = answerer.table
        self._shortcut = Shortcut(answerer, config, rng)
        self._strangers = strangers
        self._traffic = traffic
        self._read_only = config.read_only
        self._unlimited = config.unlimited
        self._limit = QueryLimit(config)
        self._budget = SendBudget(config, now)
        self._say = say
        self._heard = heard

    def took(self, data: bytes, source: Address, now: float) -> bool:
        """Whether a datagram that ends as a query does is done with: shed, or answered as most
        are. Otherwise it has to be parsed."""
        if not self._unlimited and self._sheds(source, now):
            return True
        parts = krpc.usual(data)
        if parts is None or not facts(source)[0]:
            return False
        node_id, _, info_hash, port, _, _, _, _ = parts
        if not self._admits(node_id, source, now):
            return True
        answer = self._shortcut.answer(parts, source, now)
        if answer is None:
            self._answer(krpc.query_of(parts), source, now)
            return True
        if self._unlimited or self._affords(len(answer), source, now):
            self._say((answer, source))
        if port is not None and info_hash is not None:
            self._heard(info_hash, Address(source.host, int(port)))
        if self._table.queried(node_id, source, now):
            self._strangers.add(source, now)
        return True

    def take(self, query: Query | BadQuery, source: Address, now: float) -> None:
        """Answer it, if that is due."""
        if self._admits(None if isinstance(query, BadQuery) else query.id, source, now):
            self._answer(query, source, now)

    def _sheds(self, source: Address, now: float) -> bool:
        if self._budget.is_spent(source, now):
            self._traffic.drop("send rate")
            return True
        if self._limit.blocks(source, now) and self._table.at(source) is None:
            self._traffic.drop("flood")
            return True
        return False

    def _admits(self, node_id: bytes | None, source: Address, now: float) -> bool:
        """Whether a query by whoever calls itself `node_id` is answered; if so, it is counted."""
        if self._read_only:
            self._traffic.drop("read only")  # BEP 43: whoever asks will see that we do not answer
            return False
        if not self._unlimited:
            known = self._table.at(source) is not None
            if not self._limit.allows(source, now, known=known):
                self._traffic.drop("flood")
                return False
        if node_id == self._table.own_id:
            self._traffic.drop("own id")  # an echo, or somebody posing as us
            return False
        self._traffic.queries += 1
        return True

    def _answer(self, query: Query | BadQuery, source: Address, now: float) -> None:
        answer = self._answerer.answer(query, source, now)
        encoded = krpc.encode(answer)
        if self._affords(len(encoded), source, now):
            self._say((encoded, source))
        if isinstance(query, BadQuery):
            return
        if query.method == krpc.ANNOUNCE_PEER and isinstance(answer, Reply):
            assert query.target is not None  # decode saw to it
            self._heard(InfoHash(query.target), announced(query, source))
        if not query.read_only and self._table.queried(query.id, source, now):
            self._strangers.add(source, now)

    def _affords(self, size: int, to: Address, now: float) -> bool:
        """Whether so many bytes may go there; if so, they are spent."""
        if self._budget.allows(size, to, now):
            return True
        self._traffic.drop("send rate")
        return False
