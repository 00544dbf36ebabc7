"""A shorter way for most queries, from their parts to a datagram. The rule: what goes out and what
is remembered is to the byte what `Answerer.answer` and `krpc.encode` make of the same query; all
that is not plain is left to them.

No Query, no Reply and no dictionary is built on the way, which saves half of the work.
"""

from __future__ import annotations

import random
from typing import Final

from dht_torrent.config import DhtConfig
from dht_torrent.dht import krpc
from dht_torrent.dht.answer import REPLY_OVERHEAD, Answerer
from dht_torrent.dht.krpc import UsualQuery
from dht_torrent.dht.sources import facts
from dht_torrent.ids import Address, InfoHash

_END: Final = b"1:v%d:%b1:y1:re" % (len(krpc.VERSION), krpc.VERSION)


class Shortcut:
    """Answers usual queries for `answerer`, from its table, store and tokens. `rng` is its dice."""

    def __init__(self, answerer: Answerer, config: DhtConfig, rng: random.Random) -> None:
        self._table = answerer.table
        self._store = answerer.store
        self._tokens = answerer.tokens
        self._config = config
        self._k = config.k
        self._rng = rng
        self._nodes_key = b"6:nodes6" if answerer.table.ipv6 else b"5:nodes"

    def answer(self, query: UsualQuery, source: Address, now: float) -> bytes | None:
        """The datagram for `source`, which is usable; None, and nothing has been done, where the
        longer way must be gone. May store a peer."""
        _, target, info_hash, port, token, size, tid, _ = query
        body = b""
        if info_hash is not None:
            if port is None:
                body = self._peers(info_hash, source, now, len(tid))
            elif not (
                self._tokens.accepts(token, source, info_hash, now)
                and self._store.add(info_hash, Address(source.host, int(port)), now)
            ):
                return None
        elif target is not None:
            nodes = self._table.told(target, source, self._k)
            body = b"%b%d:%b" % (self._nodes_key, len(nodes), nodes)
        ip = facts(source)[2]
        return b"d2:ip%d:%b1:rd2:id20:%b%be1:t%b:%b%b" % (
            *(len(ip), ip, self._table.own_id, body),
            *(size, tid, _END),
        )

    def _peers(self, info_hash: InfoHash, source: Address, now: float, tid_size: int) -> bytes:
        config, store = self._config, self._store
        nodes = self._table.told(info_hash, source, self._k)
        room = config.max_reply - REPLY_OVERHEAD - tid_size - len(nodes)
        token = b""
        if store.accepts(info_hash, source, now):
            token = self._tokens.make(source, info_hash, now)
            room -= len(token)
            token = b"5:token%d:%b" % (len(token), token)
        _, is_local, _, _ = facts(source)
        proven = is_local or self._table.at(source) is not None
        count = config.values_per_reply if proven else config.values_to_strangers
        values = store.encoded_peers(info_hash, now, self._rng, count, room, source)
        if values is None:
            return b"%b%d:%b%b" % (self._nodes_key, len(nodes), nodes, token)
        return b"%b%d:%b%b6:valuesl%be" % (self._nodes_key, len(nodes), nodes, token, values)
