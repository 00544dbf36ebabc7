"""Answers the queries of other nodes. The rule: what a query may make us do is bounded before it is
done, and a flood is shed before it is parsed.

Most queries take a shortcut, from datagram to datagram, without an object in between.
"""

from __future__ import annotations

from collections.abc import Callable

from dht_torrent.dht import krpc
from dht_torrent.dht.answer import Answerer, announced
from dht_torrent.dht.krpc import BadQuery, Query, Reply
from dht_torrent.dht.origins import facts
from dht_torrent.dht.rate_limits import QueryLimit, SendBudget
from dht_torrent.dht.shortcut import Shortcut
from dht_torrent.engine.dht.core import Core
from dht_torrent.ids import Address, InfoHash


class Responder:
    """Responds by `send`. `on_announce` hears of each peer that announced itself, the ping queue of
    nodes that may be worth a place in the table."""

    def __init__(
        self,
        core: Core,
        answerer: Answerer,
        *,
        send: Callable[[tuple[bytes, Address]], None],
        on_announce: Callable[[InfoHash, Address], None],
    ) -> None:
        config, now = core.config, 0.0
        self._answerer = answerer
        self._table = core.table
        self._shortcut = Shortcut(answerer, config, core.rng)
        self._ping_queue = core.ping_queue
        self._traffic = core.traffic
        self._read_only = config.read_only
        self._unlimited = config.unlimited
        self._limit = QueryLimit(config)
        self._budget = SendBudget(config, now)
        self._send = send
        self._on_announce = on_announce

    def try_shortcut(self, data: bytes, source: Address, now: float) -> bool:
        """Whether a datagram that ends as a query does needs no parsing: it was shed, or answered
        as most are."""
        if not self._unlimited and self._sheds(source, now):
            return True
        parts = krpc.usual(data)
        if parts is None:
            return False
        origin = facts(source)
        if not origin.is_usable:
            return False
        node_id, info_hash, port, _, _, _, _ = parts
        if not self._admits(node_id, source, now):
            return True
        answer = self._shortcut.answer(parts, source, now, origin)
        if answer is None:
            self._answer(krpc.query_of(parts), source, now)
            return True
        if self._unlimited or self._affords(len(answer), source, now):
            self._send((answer, source))
        if port is not None and info_hash is not None:
            self._on_announce(info_hash, Address(source.host, int(port)))
        if self._table.queried(node_id, source, now, origin):
            self._ping_queue.add(source, now)
        return True

    def respond(self, query: Query | BadQuery, source: Address, now: float) -> None:
        """Answer it, if that is allowed."""
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
        """Whether a query from a node that says its id is `node_id` is answered; if so, it
        counts."""
        if self._read_only:
            self._traffic.drop("read only")  # BEP 43: the node will notice that we do not answer
            return False
        if not self._unlimited:
            known = self._table.at(source) is not None
            if not self._limit.allows(source, now, known=known):
                self._traffic.drop("flood")
                return False
        if node_id == self._table.own_id:
            self._traffic.drop("own id")  # an echo, or a node posing as us
            return False
        self._traffic.queries += 1
        return True

    def _answer(self, query: Query | BadQuery, source: Address, now: float) -> None:
        answer = self._answerer.answer(query, source, now)
        encoded = krpc.encode(answer)
        if self._affords(len(encoded), source, now):
            self._send((encoded, source))
        if isinstance(query, BadQuery):
            return
        if query.method == krpc.ANNOUNCE_PEER and isinstance(answer, Reply):
            assert query.target is not None  # decode saw to it
            self._on_announce(InfoHash(query.target), announced(query, source))
        if not query.read_only and self._table.queried(query.id, source, now):
            self._ping_queue.add(source, now)

    def _affords(self, size: int, to: Address, now: float) -> bool:
        """Whether so many bytes may go there; if so, they are spent."""
        if self._budget.allows(size, to, now):
            return True
        self._traffic.drop("send rate")
        return False
