"""What to say to a query (BEP 5). The rule: only queries are answered, each with one datagram of
at most `max_reply` bytes, and everything stored or told is bound to the address it came from.
"""

from __future__ import annotations

import random

from dht_torrent.bencode import Value
from dht_torrent.config import DhtConfig
from dht_torrent.dht import krpc
from dht_torrent.dht.krpc import BadQuery, ErrorReply, Query, Reply
from dht_torrent.dht.store import PeerStore
from dht_torrent.dht.table import Table
from dht_torrent.dht.tokens import Tokens
from dht_torrent.ids import Address, InfoHash


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
    ) -> None:
        self.table = table
        self.store = store
        self.tokens = tokens
        self._config = config
        self._rng = rng

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
        if query.target is not None:
            # Forward compatibility, as libtorrent has it: a search we know nothing of can still
            # be told who is closer.
            return self._reply(query, self._nodes(query, source), source)
        return self._refuse(query.tid, krpc.METHOD_UNKNOWN, "Method Unknown", source)

    def _get_peers(self, query: Query, source: Address, now: float) -> Reply:
        assert query.target is not None  # decode saw to it
        info_hash = InfoHash(query.target)
        # BEP 5 says peers *or* nodes; everybody sends nodes always, and peers if there are any.
        body = self._nodes(query, source)
        if self.store.accepts(info_hash, source, now):
            body[b"token"] = self.tokens.make(source, info_hash, now)
        # A source that has never proved its address may be somebody's victim.
        proven = source.is_local or self.table.at(source) is not None
        count = self._config.values_per_reply if proven else self._config.values_to_strangers
        peers = self.store.peers(info_hash, now, self._rng, count, asker=source)
        if peers:
            entry = len(peers[0].compact()) + 3
            # What a reply weighs besides its values: keys, token, ids, and the tid we echo.
            rest = 150 + len(query.tid) + sum(len(v) for v in body.values() if isinstance(v, bytes))
            room = max(0, (self._config.max_reply - rest) // entry)
            values: list[Value] = [peer.compact() for peer in peers[:room]]
            body[b"values"] = values
        return self._reply(query, body, source)

    def _announce_peer(self, query: Query, source: Address, now: float) -> Reply | ErrorReply:
        assert query.target is not None  # decode saw to it
        info_hash = InfoHash(query.target)
        if not self.tokens.accepts(query.token, source, info_hash, now):
            return self._refuse(query.tid, krpc.PROTOCOL_ERROR, "bad token", source)
        if not self.store.add(info_hash, announced(query, source), now):
            return self._refuse(query.tid, krpc.SERVER_ERROR, "no room", source)
        return self._reply(query, {}, source)

    def _nodes(self, query: Query, source: Address) -> dict[bytes, Value]:
        contacts = self.table.healthy(query.target or b"", self._config.k + 1)
        nodes = [
            contact.info
            for contact in contacts
            # Not itself, and nothing of our own network to those outside.
            if contact.address != source and (source.is_local or not contact.address.is_local)
        ]
        key = b"nodes6" if self.table.ipv6 else b"nodes"
        return {key: krpc.compact_nodes(nodes[: self._config.k])}

    def _reply(self, query: Query, body: dict[bytes, Value], source: Address) -> Reply:
        return Reply(query.tid, {b"id": self.table.own_id, **body}, source, krpc.VERSION)

    def _refuse(self, tid: bytes, code: int, text: str, source: Address) -> ErrorReply:
        return ErrorReply(tid, code, text, source, krpc.VERSION)
