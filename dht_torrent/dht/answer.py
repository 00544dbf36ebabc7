"""What to say to a query (BEP 5, 32, 33, 44, 51). The rule: only queries are answered, each with
one datagram of at most `max_reply` bytes, and everything stored or told is bound to the address it
came from.
"""

from __future__ import annotations

import random
from typing import Final, cast

from dht_torrent import bencode
from dht_torrent.bencode import Value
from dht_torrent.config import DhtConfig
from dht_torrent.dht import bloom, krpc
from dht_torrent.dht.items import ItemStore, MutableItem, Refusal, parse_put
from dht_torrent.dht.krpc import BadQuery, ErrorReply, Query, Reply
from dht_torrent.dht.origins import facts, neighbourhood
from dht_torrent.dht.rate_limits import RateLimit
from dht_torrent.dht.store import PeerStore
from dht_torrent.dht.table import Table
from dht_torrent.dht.tokens import Tokens
from dht_torrent.ids import Address, InfoHash

REPLY_OVERHEAD = 150
"""Bytes of a reply at most, beside what its strings say and the tid we echo."""

_NODES: Final = (b"nodes", b"nodes6")


def announced(query: Query, source: Address) -> Address:
    """The peer an announce_peer is about: always at the IP it came from (BEP 5)."""
    return source if query.port is None else Address(source.host, query.port)


class Answerer:
    """Answers for one node. It needs no task and no socket: a query in, an answer out."""

    def __init__(
        self,
        table: Table,
        store: PeerStore,
        tokens: Tokens,
        config: DhtConfig,
        rng: random.Random,
        *,
        items: ItemStore | None = None,
    ) -> None:
        self.table = table
        self.store = store
        self.items = items if items is not None else ItemStore(config)
        self.tokens = tokens
        self.other_table: Table | None = None
        """Our table of the other address family, for askers that want it (BEP 32)."""
        self._config = config
        self._rng = rng
        # What a source that never proved its address gets beyond the usual: a forger of many
        # queries in a victim's name has that victim sent no more than this.
        self._generosity = RateLimit(config, most=config.stranger_bytes, window=config.query_window)

    def answer(self, query: Query | BadQuery, source: Address, now: float) -> Reply | ErrorReply:
        """The answer to send to `source`. May store a peer."""
        if isinstance(query, BadQuery):
            return self._refuse(query.tid, query.code, query.text, source)
        match query.method:
            case krpc.PING:
                return self._reply(query, {}, source)
            case krpc.FIND_NODE:
                return self._reply(query, self._nodes(query, source), source)
            case krpc.GET_PEERS:
                return self._get_peers(query, source, now)
            case krpc.ANNOUNCE_PEER:
                return self._announce_peer(query, source, now)
            case krpc.GET:
                return self._get(query, source, now)
            case krpc.PUT:
                return self._put(query, source, now)
            case krpc.SAMPLE_INFOHASHES:
                return self._sample(query, source, now)
        if query.target is not None:
            # Forward compatibility, as libtorrent has it: a search we know nothing of can still
            # be told who is closer.
            return self._reply(query, self._nodes(query, source), source)
        return self._refuse(query.tid, krpc.METHOD_UNKNOWN, "Method Unknown", source)

    def _get_peers(self, query: Query, source: Address, now: float) -> Reply:
        assert query.target is not None  # decode saw to it
        info_hash = InfoHash(query.target)
        # BEP 5 says peers *or* nodes; all clients send nodes always, and peers if there are any.
        body = self._nodes(query, source)
        if self.store.accepts(info_hash, source, now):
            body[b"token"] = self.tokens.make(source, info_hash, now)
        if query.flag(b"scrape"):
            filters = self.store.scrape(info_hash, now)
            if filters is not None and self._may_get(source, 2 * bloom.SIZE, now):
                body[b"BFsd"], body[b"BFpe"] = map(bytes, filters)
                return self._reply(query, body, source)
        config = self._config
        count = config.values_per_reply if self._is_proven(source) else config.values_to_strangers
        seeds = not query.flag(b"noseed")
        peers = self.store.compact_peers(
            info_hash, now, self._rng, count, asker=source, seeds=seeds
        )
        if peers:
            room = self._room(query, body) // (len(peers[0]) + 3)
            body[b"values"] = cast(list[Value], peers[:room])
        return self._reply(query, body, source)

    def _announce_peer(self, query: Query, source: Address, now: float) -> Reply | ErrorReply:
        assert query.target is not None  # decode saw to it
        info_hash = InfoHash(query.target)
        if not self.tokens.accepts(query.token, source, info_hash, now):
            return self._refuse(query.tid, krpc.PROTOCOL_ERROR, "bad token", source)
        seed = query.flag(b"seed")
        peer = announced(query, source)
        if not self.store.add(info_hash, peer, now, seed=seed, origin=facts(source)):
            return self._refuse(query.tid, krpc.SERVER_ERROR, "no room", source)
        return self._reply(query, {}, source)

    def _get(self, query: Query, source: Address, now: float) -> Reply:
        assert query.target is not None  # decode saw to it
        body = self._nodes(query, source)
        body[b"token"] = self.tokens.make(source, query.target, now)
        item = self.items.get(query.target, now)
        if isinstance(item, MutableItem):
            body[b"seq"] = item.seq
            if query.seq is not None and item.seq <= query.seq:
                return self._reply(query, body, source)  # BEP 44: the asker has it already
        if item is not None and self._may_get(source, len(item.encoded), now):
            fields = item.fields()
            self._make_room(query, body, source, len(bencode.encode(fields)))
            body |= fields
        return self._reply(query, body, source)

    def _put(self, query: Query, source: Address, now: float) -> Reply | ErrorReply:
        put = parse_put(query.args)
        if isinstance(put, Refusal):
            return self._refuse(query.tid, put.code, put.text, source)
        if not self.tokens.accepts(query.token, source, put.target, now):
            return self._refuse(query.tid, krpc.PROTOCOL_ERROR, "bad token", source)
        refusal = self.items.put(put, source, self.table.own_id, now)
        if refusal is not None:
            return self._refuse(query.tid, refusal.code, refusal.text, source)
        return self._reply(query, {}, source)

    def _sample(self, query: Query, source: Address, now: float) -> Reply:
        body = self._nodes(query, source)
        sample = self.store.sample(now, self._rng)
        if not self._may_get(source, 20 * len(sample), now):
            sample = []
        body[b"interval"] = int(self._config.samples_interval)
        body[b"num"] = self.store.torrents
        body[b"samples"] = b"".join(sample[: self._room(query, body) // 20])
        return self._reply(query, body, source)

    def _nodes(self, query: Query, source: Address) -> dict[bytes, Value]:
        body: dict[bytes, Value] = {}
        want = query.want
        for table in self._tables():
            # BEP 32: what was asked for, and otherwise the family the query came by.
            if (table is self.table) if want is None else want[table.ipv6]:
                nodes = table.told(query.target or b"", source, self._config.k)
                body[_NODES[table.ipv6]] = nodes
        return body

    def _tables(self) -> list[Table]:
        return [self.table] if self.other_table is None else [self.table, self.other_table]

    def _make_room(
        self, query: Query, body: dict[bytes, Value], source: Address, size: int
    ) -> None:
        """Leave out the farthest nodes, so that `size` bytes more fit. Half of them, at worst."""
        for table in sorted(self._tables(), key=lambda table: not table.ipv6):  # they are longer
            missing = size - self._room(query, body)
            nodes = body.get(_NODES[table.ipv6])
            if missing > 0 and isinstance(nodes, bytes):
                keep = max(0, len(nodes) - missing) // (38 if table.ipv6 else 26)
                body[_NODES[table.ipv6]] = table.told(query.target or b"", source, keep)

    def _is_proven(self, source: Address) -> bool:
        """Whether a node there has answered us: else it may be a forger's victim."""
        return source.is_local or self.table.at(source) is not None

    def _may_get(self, source: Address, size: int, now: float) -> bool:
        """Whether so many bytes more may go to `source`."""
        if self._is_proven(source):
            return True
        return self._generosity.allows(neighbourhood(source), now, size)

    def _room(self, query: Query, body: dict[bytes, Value]) -> int:
        """Bytes left in the reply, beside its keys, token, ids, and the tid we echo."""
        said = sum(len(value) for value in body.values() if isinstance(value, bytes))
        return max(0, self._config.max_reply - REPLY_OVERHEAD - len(query.tid) - said)

    def _reply(self, query: Query, body: dict[bytes, Value], source: Address) -> Reply:
        return Reply(query.tid, {b"id": self.table.own_id, **body}, source, krpc.VERSION)

    def _refuse(self, tid: bytes, code: int, text: str, source: Address) -> ErrorReply:
        return ErrorReply(tid, code, text, source, krpc.VERSION)
