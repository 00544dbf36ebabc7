"""A shortcut for most queries, from their parts to a datagram. The rule: what goes out and what
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
from dht_torrent.dht.origins import Origin, facts
from dht_torrent.dht.tokens import TOKEN_SIZE
from dht_torrent.ids import Address

_HEAD: Final = {size: b"d2:ip%d:" % size for size in (6, 18)}
_ID: Final = b"1:rd2:id20:"
_TID_PREFIX: Final = len(b"2:")
_TOKEN: Final = b"5:token%d:" % TOKEN_SIZE
_VALUES: Final = b"6:valuesl"
_END: Final = b"1:v%d:%b1:y1:re" % (len(krpc.VERSION), krpc.VERSION)


class Shortcut:
    """Answers usual queries for `answerer`, from its table, store and tokens. `rng` is its dice."""

    def __init__(self, answerer: Answerer, config: DhtConfig, rng: random.Random) -> None:
        self._table = answerer.table
        self._store = answerer.store
        self._tokens = answerer.tokens
        self._rng = rng
        self._k = config.k
        key, size = (b"6:nodes6", 38) if answerer.table.ipv6 else (b"5:nodes", 26)
        # What stands before so many bytes of nodes.
        self._nodes = {size * n: b"%b%d:" % (key, size * n) for n in range(config.k + 1)}
        self._room = config.max_reply - REPLY_OVERHEAD
        self._values = config.values_per_reply
        self._values_to_strangers = config.values_to_strangers

    def answer(
        self, query: UsualQuery, source: Address, now: float, origin: Origin | None = None
    ) -> bytes | None:
        """The datagram for `source`, which is usable; None, and nothing has been done, where the
        longer way must be gone. May store a peer. `origin`: the `facts` about the source, where
        they are known."""
        _, info_hash, port, token, target, tid, _ = query
        if origin is None:
            origin = facts(source)
        ip, table = origin.compact, self._table
        head, own_id = _HEAD[len(ip)], table.own_id
        if info_hash is None:
            if target is None:
                return b"".join((head, ip, _ID, own_id, b"e1:t", tid, _END))
            nodes = table.told(target, source, self._k, origin)
            key = self._nodes[len(nodes)]
            return b"".join((head, ip, _ID, own_id, key, nodes, b"e1:t", tid, _END))
        store = self._store
        if port is not None:
            if not (
                self._tokens.accepts_from(token, origin.host, info_hash, now)
                and store.add(info_hash, Address(source.host, int(port)), now, origin=origin)
            ):
                return None
            return b"".join((head, ip, _ID, own_id, b"e1:t", tid, _END))
        nodes = table.told(info_hash, source, self._k, origin)
        torrent = store.torrent(info_hash, now)
        key, token_key, mac = self._nodes[len(nodes)], b"", b""
        if store.has_room(torrent, origin):
            token_key, mac = _TOKEN, self._tokens.make_for(origin.host, info_hash, now)
        values = None
        if torrent is not None:
            room = self._room - (len(tid) - _TID_PREFIX) - len(nodes) - len(mac)
            proven = origin.is_local or table.at(source) is not None
            count = self._values if proven else self._values_to_strangers
            values = store.encoded_peers(torrent, self._rng, count, room, origin)
        start = (head, ip, _ID, own_id, key, nodes, token_key, mac)
        if values is None:
            return b"".join((*start, b"e1:t", tid, _END))
        return b"".join((*start, _VALUES, values, b"ee1:t", tid, _END))
