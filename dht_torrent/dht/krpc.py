"""KRPC, the message form of BEP 5. The rule: any bytes go in, and either a message whose fields
have been checked comes out or KrpcError is raised. What is past this door is not checked again.

Unknown keys stay reachable (`Query.args`, `Reply.body`), so that later BEPs need no change here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, cast

from dht_torrent import bencode
from dht_torrent.bencode import Value
from dht_torrent.config import CLIENT
from dht_torrent.errors import BencodeError, KrpcError
from dht_torrent.ids import Address, InfoHash, NodeId, address_from_compact
from dht_torrent.remembering import remembering

PING = b"ping"
FIND_NODE = b"find_node"
GET_PEERS = b"get_peers"
ANNOUNCE_PEER = b"announce_peer"
GET = b"get"
PUT = b"put"
SAMPLE_INFOHASHES = b"sample_infohashes"

GENERIC_ERROR = 201
SERVER_ERROR = 202
PROTOCOL_ERROR = 203
METHOD_UNKNOWN = 204
VALUE_TOO_BIG = 205
BAD_SIGNATURE = 206
SALT_TOO_BIG = 207
CAS_MISMATCH = 301
SEQUENCE_TOO_LOW = 302

VERSION = CLIENT + b"\x00\x01"
"""Our `v` key: two letters and two bytes of version (BEP 5)."""

MAX_DATAGRAM = 2048
MAX_DEPTH = 10
MAX_TOKENS = 500
"""libtorrent's bounds for KRPC: bdecode(..., 10, 500)."""

MAX_TID = 64
"""Longest transaction id we echo. BEP 5 expects two bytes; no client needs more than a few."""

_TARGET_KEY = {
    FIND_NODE: b"target",
    GET_PEERS: b"info_hash",
    ANNOUNCE_PEER: b"info_hash",
    GET: b"target",
    SAMPLE_INFOHASHES: b"target",
}


class NodeInfo(NamedTuple):
    """A node as others name it: BEP 5's compact node info. It may not exist."""

    id: NodeId
    address: Address

    def compact(self) -> bytes:
        """26 bytes for IPv4 (BEP 5), 38 for IPv6 (BEP 32)."""
        return self.id + self.address.compact()


class Query(NamedTuple):
    """A query (`y` = `q`). `args` is the whole `a` dictionary, `id` included.

    The properties read what `decode` has checked: `id` and `target` always, the others for the
    methods they belong to.
    """

    tid: bytes
    method: bytes
    args: Mapping[bytes, Value]
    version: bytes | None = None
    read_only: bool = False
    """BEP 43: the sender answers no queries; do not add it to the table."""

    @property
    def id(self) -> NodeId:
        return NodeId(cast(bytes, self.args[b"id"]))

    @property
    def target(self) -> bytes | None:
        """`info_hash` or `target`, 20 bytes; None when there is neither."""
        key = _TARGET_KEY.get(self.method)
        if key is not None:
            return cast(bytes, self.args[key])
        for name in (b"target", b"info_hash"):
            value = self.args.get(name)
            if isinstance(value, bytes) and len(value) == 20:
                return value
        return None

    @property
    def token(self) -> bytes:
        return cast(bytes, self.args[b"token"])

    @property
    def seq(self) -> int | None:
        """A get's: the sequence number the asker has already (BEP 44)."""
        seq = self.args.get(b"seq")
        return seq if isinstance(seq, int) else None

    @property
    def want(self) -> tuple[bool, bool] | None:
        """Whether nodes of IPv4 and of IPv6 are wanted (BEP 32); None when it was not said."""
        want = self.args.get(b"want")
        if not isinstance(want, list) or not want:
            return None
        return b"n4" in want, b"n6" in want

    def flag(self, name: bytes) -> bool:
        """Whether a yes-or-no argument (BEP 33's scrape, noseed and seed) is 1."""
        return self.args.get(name) == 1

    @property
    def port(self) -> int | None:
        """The port announced; None when the UDP source port is meant (BEP 5's implied_port)."""
        if self.args.get(b"implied_port", 0):
            return None
        return cast(int, self.args[b"port"])


class BadQuery(NamedTuple):
    """A query that can only be refused, with the code and text to refuse it."""

    tid: bytes
    code: int
    text: str


class Reply(NamedTuple):
    """An answer (`y` = `r`). `body` is the whole `r` dictionary, `id` included."""

    tid: bytes
    body: Mapping[bytes, Value]
    ip: Address | None = None
    """BEP 42: the address the answerer sees the asker at."""
    version: bytes | None = None

    @property
    def id(self) -> NodeId:
        """The responder's id, as it claims."""
        return NodeId(cast(bytes, self.body[b"id"]))

    @property
    def token(self) -> bytes | None:
        """Shows in an announce or a put that our address is ours (BEP 5); None if not given."""
        value = self.body.get(b"token")
        return value if isinstance(value, bytes) else None

    def nodes(self, *, ipv6: bool = False) -> list[NodeInfo]:
        """The contacts named, from `nodes` or (BEP 32) `nodes6`. They may not exist."""
        raw = cast(bytes, self.body.get(b"nodes6" if ipv6 else b"nodes", b""))
        size = 38 if ipv6 else 26
        return [_node_info(raw[at : at + size]) for at in range(0, len(raw), size)]

    def values(self) -> list[Address]:
        """The peers named, of both families (BEP 32 says to expect a mixture)."""
        entries = cast(list[Value], self.body.get(b"values", []))
        # Entries of other sizes are some other extension's: skipped, not held against the sender.
        return [
            address_from_compact(entry)
            for entry in entries
            if isinstance(entry, bytes) and len(entry) in (6, 18)
        ]


@remembering(16_384)  # all nodes of a large lab; of hostile ones, 8 MB at most
def _node_info(compact: bytes) -> NodeInfo:
    """The node that 26 or 38 bytes name. A lookup meets the same ones again and again."""
    return NodeInfo(NodeId(compact[:20]), address_from_compact(compact[20:]))


class ErrorReply(NamedTuple):
    """A refusal (`y` = `e`)."""

    tid: bytes
    code: int
    text: str
    ip: Address | None = None
    version: bytes | None = None


Message = Query | BadQuery | Reply | ErrorReply


QUERY_TAIL: Final = b"1:y1:qe"
"""How every canonical query ends: `y` sorts last."""

# Most queries look like this: canonical, no argument but those the method must have, a short
# transaction id, and perhaps a version of four bytes. What comes most often is tried first.
_USUAL_QUERY = re.compile(
    rb"d1:ad2:id20:(.{20})"
    rb"(?:9:info_hash20:(.{20})(?:e1:q9:get_peers"
    rb"|4:porti([1-9]\d{0,4})e5:token8:(.{8})e1:q13:announce_peer)"
    rb"|6:target20:(.{20})e1:q9:find_node"
    rb"|e1:q4:ping)"
    rb"1:t(2:..|4:.{4}|%b)(?:1:v4:(.{4}))?%b"
    % (b"|".join(b"%d:.{%d}" % (size, size) for size in (1, 3, 5, 6, 7, 8, 9)), QUERY_TAIL),
    re.DOTALL,
).fullmatch


def decode(data: bytes) -> Message:
    """Reads one datagram. Raises KrpcError, and nothing else, for whatever it cannot use.

    A query that names a transaction but is malformed comes out as `BadQuery`: it deserves an
    answer. A malformed error is still an error: the task that waits for it need not wait on.
    """
    if data.endswith(QUERY_TAIL) and (parts := usual(data)) is not None:
        return query_of(parts)
    return decode_any(data)


UsualQuery = tuple[NodeId, InfoHash | None, bytes | None, bytes, bytes | None, bytes, bytes | None]
"""Id, infohash, digits of the port, token, find_node's target, tid as a bencoded string, version:
what there is tells the method, and what is not there is None."""


def usual(data: bytes) -> UsualQuery | None:
    """The parts of a ping, find_node, get_peers or announce_peer as most nodes send it; None for
    any other datagram, of which nothing is said."""
    match = _USUAL_QUERY(data)
    if match is None:
        return None
    parts: UsualQuery = match.groups()  # type: ignore[assignment] # a cast would cost a tenth
    port = parts[2]
    if port is not None and int(port) > 65535:  # it has to be one, and the pattern cannot count
        return None
    return parts


def query_of(parts: UsualQuery) -> Query:
    """What `decode_any` makes of the same datagram, three times as fast."""
    node_id, info_hash, port, token, target, tid, version = parts
    tid = tid[2:]
    if target is not None:
        return Query(tid, FIND_NODE, {b"id": node_id, b"target": target}, version)
    if info_hash is None:
        return Query(tid, PING, {b"id": node_id}, version)
    if port is None:
        return Query(tid, GET_PEERS, {b"id": node_id, b"info_hash": info_hash}, version)
    args: dict[bytes, Value] = {b"id": node_id, b"info_hash": info_hash}
    args[b"port"] = int(port)
    args[b"token"] = token
    return Query(tid, ANNOUNCE_PEER, args, version)


def decode_any(data: bytes) -> Message:
    """`decode`, without the shortcut for usual messages."""
    try:
        message = bencode.decode(
            data, max_depth=MAX_DEPTH, max_tokens=MAX_TOKENS, max_size=MAX_DATAGRAM
        )
    except BencodeError as error:
        broken = _tid_of_a_broken_query(data)
        if broken is not None:
            return BadQuery(broken, PROTOCOL_ERROR, "not canonical bencode")
        raise KrpcError(f"not bencode: {error}") from None
    if not isinstance(message, dict):
        raise KrpcError("not a dictionary")
    tid = message.get(b"t")
    if not isinstance(tid, bytes) or len(tid) > MAX_TID:
        raise KrpcError("no transaction id")
    kind = message.get(b"y")
    if kind == b"q":
        return _query(tid, message)
    if kind == b"r":
        return _reply(tid, message)
    if kind == b"e":
        return _error(tid, message)
    raise KrpcError("neither query, reply nor error")


def encode(message: Query | Reply | ErrorReply) -> bytes:
    """The datagram for a message. Its `version` goes out only when it is set."""
    out: dict[bytes, Value] = {b"t": message.tid}
    if message.version is not None:
        out[b"v"] = message.version
    match message:
        case Query():
            out[b"y"] = b"q"
            out[b"q"] = message.method
            out[b"a"] = dict(message.args)
            if message.read_only:
                out[b"ro"] = 1
            return bencode.encode(out)
        case Reply():
            out[b"y"] = b"r"
            out[b"r"] = dict(message.body)
        case ErrorReply():
            out[b"y"] = b"e"
            out[b"e"] = [message.code, message.text.encode()]
    if message.ip is not None:
        out[b"ip"] = message.ip.compact()
    return bencode.encode(out)


def compact_nodes(nodes: Iterable[NodeInfo]) -> bytes:
    """The `nodes` (or `nodes6`) string for contacts of one family."""
    return b"".join([node.compact() for node in nodes])


# How a query ends whose keys are in order: transaction id, perhaps a version, and `y`.
_QUERY_END = re.compile(
    rb"1:t(?P<size>\d{1,2}):(?P<tid>.{0,64}?)(?:1:v\d{1,2}:.{1,20})?" + QUERY_TAIL + rb"\Z",
    re.DOTALL,
)


def _tid_of_a_broken_query(data: bytes) -> bytes | None:
    """Its transaction id, when what is wrong lies before it: a key that comes twice, say, in what
    a client wants stored. One that made it by mistake should hear of it (203)."""
    match = _QUERY_END.search(data[-120:]) if data[:1] == b"d" else None
    if match is None or int(match["size"]) != len(match["tid"]):
        return None
    return match["tid"]


def _query(tid: bytes, message: dict[bytes, Value]) -> Query | BadQuery:
    method, args = message.get(b"q"), message.get(b"a")
    if not isinstance(method, bytes) or not isinstance(args, dict):
        return BadQuery(tid, PROTOCOL_ERROR, "a query needs q and a")
    if not _is_twenty(args.get(b"id")):
        return BadQuery(tid, PROTOCOL_ERROR, "id must be 20 bytes")
    key = _TARGET_KEY.get(method)
    if key is not None and not _is_twenty(args.get(key)):
        return BadQuery(tid, PROTOCOL_ERROR, f"{key.decode()} must be 20 bytes")
    if method == ANNOUNCE_PEER:
        implied = args.get(b"implied_port", 0)
        if not isinstance(implied, int):
            return BadQuery(tid, PROTOCOL_ERROR, "implied_port must be a number")
        port = args.get(b"port")
        if not implied and not (isinstance(port, int) and 0 < port < 65536):
            return BadQuery(tid, PROTOCOL_ERROR, "port must be from 1 to 65535")
    if method in (ANNOUNCE_PEER, PUT) and not isinstance(args.get(b"token"), bytes):
        return BadQuery(tid, PROTOCOL_ERROR, "token must be a string")
    # BEP 43 puts `ro` at the top level, beside `a`.
    return Query(tid, method, args, _version(message), message.get(b"ro") == 1)


def _reply(tid: bytes, message: dict[bytes, Value]) -> Reply:
    body = message.get(b"r")
    if not isinstance(body, dict) or not _is_twenty(body.get(b"id")):
        raise KrpcError("a reply needs r with a 20-byte id")
    for key, size in ((b"nodes", 26), (b"nodes6", 38)):
        nodes = body.get(key, b"")
        if not isinstance(nodes, bytes) or len(nodes) % size:
            raise KrpcError(f"{key.decode()} must be a multiple of {size} bytes")
    if not isinstance(body.get(b"values", []), list):
        raise KrpcError("values must be a list")
    return Reply(tid, body, _ip(message), _version(message))


def _error(tid: bytes, message: dict[bytes, Value]) -> ErrorReply:
    error = message.get(b"e")
    code, text = GENERIC_ERROR, "malformed error"
    if (
        isinstance(error, list)
        and len(error) >= 2
        and isinstance(error[0], int)
        and isinstance(error[1], bytes)
    ):
        code, text = error[0], error[1][:200].decode("utf-8", "backslashreplace")
    return ErrorReply(tid, code, text, _ip(message), _version(message))


def _is_twenty(value: Value | None) -> bool:
    return isinstance(value, bytes) and len(value) == 20


def _version(message: dict[bytes, Value]) -> bytes | None:
    version = message.get(b"v")
    return version if isinstance(version, bytes) else None


def _ip(message: dict[bytes, Value]) -> Address | None:
    raw = message.get(b"ip")
    if isinstance(raw, bytes) and len(raw) in (6, 18):
        return address_from_compact(raw)
    return None
