"""Items of the DHT (BEP 44). The rule: whatever is stored or believed hashes to its target, and a
mutable one bears its owner's signature over exactly these bytes; nothing else gets in or out.

`krpc.decode` is strict, so a value has one encoding only and encoding it again gives the very bytes
that were signed.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from dht_torrent import bencode
from dht_torrent.bencode import Value
from dht_torrent.config import DhtConfig
from dht_torrent.dht import krpc
from dht_torrent.dht.origins import Home, home
from dht_torrent.dht.rate_limits import RateLimit
from dht_torrent.errors import BencodeError, InputError, KrpcError
from dht_torrent.ids import Address, NodeId

MAX_VALUE = 1000
"""Bytes of a bencoded value (BEP 44)."""
MAX_SALT = 64
"""Bytes (BEP 44)."""
MAX_SEQ = 2**63 - 1
KEY_SIZE = 32
SIGNATURE_SIZE = 64
ANNOUNCERS_PER_BIT = 5
"""So many distinct hosts that put an item are worth one bit of nearness (libtorrent)."""

# RFC 8032: the order of the base point, and the prime of the field.
_L = 2**252 + 27742317777372353535851937790883648493
_P = 2**255 - 19
# The y of the eight points of small order: under such a key one signature fits many messages.
_SMALL_ORDER = frozenset(
    {
        0,
        1,
        _P - 1,
        int.from_bytes(
            bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
            "little",
        ),
        int.from_bytes(
            bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
            "little",
        ),
    }
)


@dataclass(frozen=True, slots=True)
class ImmutableItem:
    """A value found under its own hash. Made by `immutable`, or read by a `parse_*` function."""

    encoded: bytes
    """The value, bencoded."""

    @property
    def target(self) -> bytes:
        """Where the DHT has it: the SHA-1 of the bencoded value, 20 bytes."""
        return hashlib.sha1(self.encoded).digest()

    @property
    def value(self) -> Value:
        """What was put, decoded."""
        return bencode.decode(self.encoded)

    def fields(self) -> dict[bytes, Value]:
        """Its fields in a put and in a get reply."""
        return {b"v": self.value}


@dataclass(frozen=True, slots=True)
class MutableItem:
    """A signed value, found under the hash of its owner's public key and a salt. Made by `sign`, or
    read by a `parse_*` function. A higher `seq` replaces a lower."""

    encoded: bytes
    """The value, bencoded."""
    key: bytes
    """The Ed25519 public key, 32 bytes."""
    salt: bytes
    seq: int
    signature: bytes

    @property
    def target(self) -> bytes:
        """Where the DHT has it: the SHA-1 of key and salt, 20 bytes."""
        return mutable_target(self.key, self.salt)

    @property
    def value(self) -> Value:
        """What was put, decoded."""
        return bencode.decode(self.encoded)

    def fields(self) -> dict[bytes, Value]:
        """What a get reply tells of it. A put adds the salt, which nobody could guess from it."""
        return {b"v": self.value, b"k": self.key, b"sig": self.signature, b"seq": self.seq}


Item: TypeAlias = ImmutableItem | MutableItem


class Refusal(NamedTuple):
    """Why something is not stored: a KRPC error code and its text."""

    code: int
    text: str


class SigningKey:
    """An Ed25519 private key, made of a 32-byte seed that must be secret and random."""

    def __init__(self, seed: bytes) -> None:
        # Imported only by those who sign or verify: it takes 30 ms.
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        if len(seed) != KEY_SIZE:
            raise InputError("an Ed25519 seed has 32 bytes")
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public: bytes = self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """The Ed25519 signature of `message`, 64 bytes."""
        return self._key.sign(message)


def mutable_target(key: bytes, salt: bytes = b"") -> bytes:
    """Where the items of this public key and salt are."""
    return hashlib.sha1(key + salt).digest()


def immutable(value: Value) -> ImmutableItem:
    """Raises InputError for a value longer than a thousand bytes."""
    return ImmutableItem(_encode_own(value))


def sign(key: SigningKey, value: Value, seq: int, salt: bytes = b"") -> MutableItem:
    """Raises InputError for a value or salt too long or a `seq` out of bounds.

    With `seq` at its upper bound the item can never be replaced.
    """
    encoded = _encode_own(value)
    if len(salt) > MAX_SALT:
        raise InputError(f"a salt has at most {MAX_SALT} bytes, not {len(salt)}")
    check_seq(seq)
    signature = key.sign(signed_buffer(encoded, seq, salt))
    return MutableItem(encoded, key.public, salt, seq, signature)


def check_seq(seq: int) -> None:
    """Raises InputError for what is not a sequence number."""
    if not 0 <= seq <= MAX_SEQ:
        raise InputError("a sequence number is from 0 to 2^63-1")


def signed_buffer(encoded: bytes, seq: int, salt: bytes = b"") -> bytes:
    """What a mutable item's signature is over (BEP 44)."""
    start = b"4:salt%d:%s" % (len(salt), salt) if salt else b""
    return start + b"3:seqi%de1:v" % seq + encoded


def verify(key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether it is an Ed25519 signature, strictly: one that no third party could have altered,
    by a key under which it fits no other message."""
    if len(key) != KEY_SIZE or len(signature) != SIGNATURE_SIZE:
        return False
    y = int.from_bytes(key, "little") & (2**255 - 1)
    if y >= _P or y in _SMALL_ORDER or int.from_bytes(signature[32:], "little") >= _L:
        return False
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def is_genuine(item: MutableItem) -> bool:
    """Whether its owner signed it."""
    return verify(item.key, item.signature, signed_buffer(item.encoded, item.seq, item.salt))


def parse_reply(body: Mapping[bytes, Value], target: bytes, salt: bytes = b"") -> Item | None:
    """The item a get reply holds, verified; None when it holds none. Raises KrpcError for one that
    is not what was asked for."""
    if b"v" not in body:
        return None
    encoded = _encoded(body[b"v"])
    if hashlib.sha1(encoded).digest() == target:
        item: Item = ImmutableItem(encoded)
    else:
        key, signature, seq = body.get(b"k"), body.get(b"sig"), body.get(b"seq")
        if not isinstance(key, bytes) or not isinstance(signature, bytes):
            raise KrpcError("an item that is neither the value asked for nor signed")
        if type(seq) is not int or not 0 <= seq <= MAX_SEQ:
            raise KrpcError("a mutable item needs a sequence number")
        item = MutableItem(encoded, key, salt, seq, signature)
        if item.target != target:
            raise KrpcError("an item of another target")
    if len(encoded) > MAX_VALUE:
        raise KrpcError("an item longer than a thousand bytes")
    if isinstance(item, MutableItem) and not is_genuine(item):
        raise KrpcError("an item with a bad signature")
    return item


@dataclass(frozen=True, slots=True)
class Put:
    """A put query as it came: nothing in it is verified but its types."""

    item: Item
    cas: int | None

    @property
    def target(self) -> bytes:
        return self.item.target


def parse_put(args: Mapping[bytes, Value]) -> Put | Refusal:
    """Reads the arguments of a put. Sizes and the signature are `ItemStore.put`'s to judge, since
    the token comes before them."""
    if b"v" not in args:
        return Refusal(krpc.PROTOCOL_ERROR, "a put needs v")
    encoded = _encoded(args[b"v"])
    names = (b"k", b"sig", b"seq")
    if not any(name in args for name in names):
        return Put(ImmutableItem(encoded), None)
    key, signature, seq = (args.get(name) for name in names)
    salt, cas = args.get(b"salt", b""), args.get(b"cas")
    if not isinstance(key, bytes) or len(key) != KEY_SIZE:
        return Refusal(krpc.PROTOCOL_ERROR, "k must be 32 bytes")
    if not isinstance(signature, bytes) or len(signature) != SIGNATURE_SIZE:
        return Refusal(krpc.PROTOCOL_ERROR, "sig must be 64 bytes")
    if not isinstance(seq, int) or not 0 <= seq <= MAX_SEQ:
        return Refusal(krpc.PROTOCOL_ERROR, "seq must be from 0 to 2^63-1")
    if not isinstance(salt, bytes):
        return Refusal(krpc.PROTOCOL_ERROR, "salt must be a string")
    if cas is not None and not isinstance(cas, int):
        return Refusal(krpc.PROTOCOL_ERROR, "cas must be a number")
    return Put(MutableItem(encoded, key, salt, seq, signature), cas)


class ItemStore:
    """What others put here, each for `item_ttl` seconds after it was last put.

    Immutable and mutable items have `max_items` places each. In a full table what is far from our
    id and put by few hosts gives way; an item no better than the worst does not get in.
    """

    def __init__(self, config: DhtConfig) -> None:
        self._config = config
        # Each ordered by when its items were last put, so the first is the first to expire.
        self._immutable: OrderedDict[bytes, _Entry] = OrderedDict()
        self._mutable: OrderedDict[bytes, _Entry] = OrderedDict()
        self._newcomers = RateLimit(config, most=config.item_quota, window=config.item_quota_window)
        self._verifying = config.item_verify_rate
        self._verified_at = 0.0

    def __len__(self) -> int:
        return len(self._immutable) + len(self._mutable)

    def get(self, target: bytes, now: float) -> Item | None:
        """The immutable item, else the mutable one (BEP 44)."""
        for table in (self._immutable, self._mutable):
            entry = table.get(target)
            if entry is not None and entry.expires > now:
                return entry.item
        return None

    def put(
        self, put: Put, source: Address, own_id: NodeId, now: float, *, trusted: bool = False
    ) -> Refusal | None:
        """Store or refresh an item whose token was right; None when that was done. A `trusted` one
        was verified by the caller."""
        self.expire(now)
        item = put.item
        if len(item.encoded) > MAX_VALUE:
            return Refusal(krpc.VALUE_TOO_BIG, "v is longer than 1000 bytes")
        if isinstance(item, MutableItem):
            if len(item.salt) > MAX_SALT:
                return Refusal(krpc.SALT_TOO_BIG, "salt is longer than 64 bytes")
            if not trusted and (refusal := self._unverified(item, now)) is not None:
                return refusal
            return self._put_mutable(item, put.cas, source, own_id, now)
        return self._keep(self._immutable, item, source, own_id, now)

    def _unverified(self, item: MutableItem, now: float) -> Refusal | None:
        entry = self._mutable.get(item.target)
        if entry is not None and entry.item == item:
            return None  # what is here already was verified when it came
        if not self._may_verify(now):
            return Refusal(krpc.SERVER_ERROR, "too many signatures to verify")
        if not is_genuine(item):
            return Refusal(krpc.BAD_SIGNATURE, "invalid signature")
        return None

    def _put_mutable(
        self, item: MutableItem, cas: int | None, source: Address, own_id: NodeId, now: float
    ) -> Refusal | None:
        entry = self._mutable.get(item.target)
        if entry is not None:
            stored = entry.item
            assert isinstance(stored, MutableItem)  # it is in that table
            if cas is not None and cas != stored.seq:
                return Refusal(krpc.CAS_MISMATCH, "the sequence number here is not cas")
            same = item.seq == stored.seq and item.encoded == stored.encoded
            if item.seq <= stored.seq and not same:
                return Refusal(krpc.SEQUENCE_TOO_LOW, "the sequence number here is not lower")
        return self._keep(self._mutable, item, source, own_id, now)

    def expire(self, now: float) -> None:
        """Forget what was not put again in time. Cheap; call it whenever."""
        for table in (self._immutable, self._mutable):
            while table:
                target, entry = next(iter(table.items()))
                if entry.expires > now:
                    break
                del table[target]

    def _keep(
        self,
        table: OrderedDict[bytes, _Entry],
        item: Item,
        source: Address,
        own_id: NodeId,
        now: float,
    ) -> Refusal | None:
        target = item.target
        entry = table.get(target)
        if entry is None:
            entry = _Entry(item, target)
            if len(table) >= self._config.max_items:
                worst = min(table.values(), key=lambda other: other.score(own_id))
                if worst.score(own_id) > entry.score(own_id):
                    return Refusal(krpc.SERVER_ERROR, "no room")
            if not source.is_local and not self._newcomers.allows(home(source), now):
                return Refusal(krpc.SERVER_ERROR, "too many new targets from this address")
            if len(table) >= self._config.max_items:
                del table[worst.target]
            table[target] = entry
        else:
            entry.item = item
            table.move_to_end(target)
        entry.expires = now + self._config.item_ttl
        entry.put_by(home(source))
        return None

    def _may_verify(self, now: float) -> bool:
        """At most `item_verify_rate` signatures a second: what is left of the CPU stays ours."""
        rate = self._config.item_verify_rate
        self._verifying = min(rate, self._verifying + (now - self._verified_at) * rate)
        self._verified_at = now
        if self._config.unlimited:
            return True
        if self._verifying < 1:
            return False
        self._verifying -= 1
        return True


class _Entry:
    """An item, and how many hosts put it. They are told apart by a Bloom filter of 128 bytes
    (libtorrent's), so that a popular item costs no more than another."""

    __slots__ = ("_announcers", "_filter", "expires", "item", "target")

    def __init__(self, item: Item, target: bytes) -> None:
        self.item = item
        self.target = target
        self.expires = 0.0
        self._announcers = 0
        self._filter = 0

    def put_by(self, place: Home) -> None:
        digest = hashlib.sha1(repr(place).encode()).digest()
        bits = 1 << (int.from_bytes(digest[:2], "little") & 1023)
        bits |= 1 << (int.from_bytes(digest[2:4], "little") & 1023)
        if self._filter & bits != bits:
            self._announcers += 1
            self._filter |= bits

    def score(self, own_id: NodeId) -> float:
        """What it is worth: more when near our id and when put by many."""
        distance = int.from_bytes(self.target, "big") ^ int.from_bytes(own_id, "big")
        return self._announcers // ANNOUNCERS_PER_BIT - distance.bit_length()


def _encoded(value: Value) -> bytes:
    return bencode.encode(value)


def _encode_own(value: Value) -> bytes:
    encoded = bencode.encode(value)
    if len(encoded) > MAX_VALUE:
        raise InputError(f"a value has at most {MAX_VALUE} bytes bencoded, not {len(encoded)}")
    try:
        # Deeper, it would fit no KRPC message: `r` and `v` are two levels of its ten.
        bencode.decode(encoded, max_depth=krpc.MAX_DEPTH - 2, max_tokens=krpc.MAX_TOKENS - 40)
    except BencodeError as error:
        raise InputError(f"not a value for the DHT: {error}") from None
    return encoded
