"""A node of a prefix hash tree: what one item of the DHT holds. The rule: any two versions of a
node have a join, the same in whatever order and however often they are joined, so that writers who
know nothing of each other lose nothing.

One format serves leaves and interior nodes. An interior node has children, each with a hint how
many entries are below it; and it keeps the newest entries that fit, so that the first page of a
common word costs one get. A leaf has entries alone, and never drops one: what does not fit must be
split, save where there are no more digits. What is too old is dropped by every reader and writer.

Entries are kept as they are on the wire, a key and a rest that begins with the time, so that a join
is a comparison of bytes: the later wins. They were checked when they were decoded or packed.

    node      "P1" | children u16, a bit for each digit | a nibble for each child | entries
    posting   infohash 20 | record 20 || minutes u24 | size code u16 | flags u8 | n u8 | m u8 |
              preview, n bytes | hidden words, m times u16
    word      n u8 | word, n bytes || minutes u24 | frequency u8

In trees of sketches an entry has its key, 4 bytes, in the place of hidden words.

The nibbles are the bit lengths of the counts, two in a byte and the lower digit first; an odd one
has a zero after it. Entries are in the order of their keys, and `||` ends the key.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Final, NamedTuple, TypeAlias

from dht_torrent import bencode
from dht_torrent.errors import BencodeError, SearchFormatError
from dht_torrent.search.codes import hash_digits, size_digits, word_key
from dht_torrent.search.label import Index, Label
from dht_torrent.search.sketch import KEY_SIZE
from dht_torrent.search.titles import MAX_PREVIEW
from dht_torrent.search.words import MAX_WORD

MAX_ITEM: Final = 1000
"""Bytes of a node, bencoded (BEP 44)."""
MAX_NODE: Final = 996
"""Bytes of a node."""
MAX_HIDDEN: Final = 24
"""Words of a title, besides its preview, that a posting has hashes of."""
LIFETIME: Final = 24 * 60
"""Minutes for which an entry is believed; its publisher renews it every eight hours."""
SKEW: Final = 15
"""Minutes by which another's clock may be ahead of ours."""
MAX_COUNT: Final = 15
"""The largest hint: 2^14 entries or more."""
EPOCH_2026: Final = 1_767_225_600
"""Unix time of 2026-01-01 00:00 UTC, from which minutes are counted; they last until 2057."""

_MAGIC: Final = b"P1"
_HEADER: Final = 4
_HASH: Final = 20
_KEY: Final = 2 * _HASH
_POSTING: Final = struct.Struct("!HBBB")  # after the three bytes of the time
_FIXED: Final = 3 + _POSTING.size
_WORD_REST: Final = 4
_is_word = re.compile(rb"[-0-9a-z\x80-\xff]{1,%d}" % MAX_WORD).fullmatch
_rest = itemgetter(1)


class Posting(NamedTuple):
    """A torrent, where it can be found: under a word, a pair of words, a day or a size."""

    infohash: bytes
    record: bytes
    """The target of the publisher's signed record, 20 bytes."""
    minutes: int
    """When it was last renewed, see `minutes_at`."""
    size_code: int
    """See `codes.size_code`."""
    flags: int
    preview: str
    """The beginning of the title, at most `MAX_PREVIEW` bytes."""
    hidden: tuple[int, ...] = ()
    """Hashes (`hidden_word`) of words of the title that the preview does not show."""


class WordEntry(NamedTuple):
    """A word that titles were published under, in the dictionary."""

    word: str
    frequency: int
    """How common it is: the bit length of the number of titles, by a publisher's word."""
    minutes: int


Entry: TypeAlias = Posting | WordEntry
Packed: TypeAlias = tuple[bytes, bytes]
"""An entry as bytes: what it is about, and what is said of that, which begins with the time."""


@dataclass(frozen=True, slots=True)
class TrieNode:
    """What is at a label. A leaf when it has no children. Treat both mappings as frozen."""

    children: Mapping[int, int] = field(default_factory=dict)
    """The digits under which there is more, each with the bit length of how many entries."""
    packed: Mapping[bytes, bytes] = field(default_factory=dict)
    """The entries, see `Packed`."""

    @property
    def is_leaf(self) -> bool:
        return not self.children

    @property
    def entries(self) -> list[Entry]:
        return [unpack(key, rest) for key, rest in self.packed.items()]

    @property
    def count(self) -> int:
        """How many entries there are below: exact for a leaf, else an estimate from hints that
        anybody can write."""
        if not self.children:
            return len(self.packed)
        return max(len(self.packed), sum((3 << length) // 4 for length in self.children.values()))


def minutes_at(now: float) -> int:
    """Unix time as entries have it."""
    return min(max(int(now - EPOCH_2026) // 60, 0), 0xFFFFFF)


def hidden_word(word: str) -> int:
    """A word of a title as `Posting.hidden` has it: one in 65,536 words is taken for another."""
    return int.from_bytes(hashlib.sha256(word.encode()).digest()[:2], "big")


def made_of(entries: Iterable[Entry]) -> TrieNode:
    """A leaf with these entries; of two for the same thing the later. Raises ValueError for an
    entry that has no encoding."""
    leaf: dict[bytes, bytes] = {}
    for key, rest in map(pack, entries):
        if leaf.get(key, b"") < rest:
            leaf[key] = rest
    return TrieNode(packed=leaf)


def pack(entry: Entry) -> Packed:
    """Raises ValueError for an entry that has no encoding: it is ours."""
    if not 0 <= entry.minutes <= 0xFFFFFF:
        raise ValueError("minutes have 24 bits")
    time = entry.minutes.to_bytes(3, "big")
    if isinstance(entry, WordEntry):
        word = entry.word.encode()
        if not _is_word(word) or not 0 <= entry.frequency <= 255:
            raise ValueError(f"not an entry of the dictionary: {entry}")
        return word, time + bytes((entry.frequency,))
    preview = entry.preview.encode()
    if not len(entry.infohash) == len(entry.record) == _HASH:
        raise ValueError("an infohash and a target have 20 bytes")
    if len(preview) > MAX_PREVIEW or len(entry.hidden) > MAX_HIDDEN:
        raise ValueError("too long for a posting")
    try:
        fixed = _POSTING.pack(entry.size_code, entry.flags, len(preview), len(entry.hidden))
        hidden = struct.pack(f"!{len(entry.hidden)}H", *entry.hidden)
    except struct.error as error:
        raise ValueError(f"not a posting: {error}") from None
    return entry.infohash + entry.record, b"".join((time, fixed, preview, hidden))


def with_key(posting: Posting, key: bytes) -> Posting:
    """A posting as it is in a tree of sketches, with its key there: without hidden words."""
    return posting._replace(hidden=struct.unpack(f"!{KEY_SIZE // 2}H", key))


def key_in(posting: Posting) -> bytes:
    """The key of an entry of a tree of sketches."""
    return struct.pack(f"!{KEY_SIZE // 2}H", *posting.hidden)


def unpack(key: bytes, rest: bytes) -> Entry:
    """The entry; of bytes that have been checked."""
    minutes = minutes_of(rest)
    if len(key) != _KEY:
        return WordEntry(key.decode(), rest[3], minutes)
    size_code, flags, length, hidden = _POSTING.unpack_from(rest, 3)
    end = _FIXED + length
    words = struct.unpack_from(f"!{hidden}H", rest, end) if hidden else ()
    preview = rest[_FIXED:end].decode()
    return Posting(key[:_HASH], key[_HASH:], minutes, size_code, flags, preview, words)


def minutes_of(rest: bytes) -> int:
    """When a packed entry was last renewed."""
    return int.from_bytes(rest[:3], "big")


def digits_of(index: Index, key: bytes, rest: bytes) -> bytes:
    """All digits of a packed entry's key in trees of this index."""
    if index is Index.DICTIONARY:
        return word_key(key.decode())
    if index is Index.SIZES:
        return size_digits(int.from_bytes(rest[3:5], "big")) + hash_digits(key[:6])
    if index.has_sketches:
        return hash_digits(rest[-KEY_SIZE:], index.width)
    return hash_digits(key[: index.levels * index.width // 8], index.width)


def join(one: TrieNode, other: TrieNode) -> TrieNode:
    """What both say: all children and all entries, of each the larger hint and the later word.
    It may not fit."""
    if one is other:
        return one
    children, entries = dict(one.children), dict(one.packed)
    for digit, length in other.children.items():
        if children.get(digit, -1) < length:
            children[digit] = length
    for key, rest in other.packed.items():
        if entries.get(key, b"") < rest:
            entries[key] = rest
    return TrieNode(children, entries)


def fresh(node: TrieNode, minutes: int) -> TrieNode:
    """The node without the entries that are too old, or from the future."""
    first = max(minutes - LIFETIME, 0).to_bytes(3, "big")
    last = min(minutes + SKEW, 0xFFFFFF).to_bytes(3, "big")
    kept = {key: rest for key, rest in node.packed.items() if first <= rest[:3] <= last}
    return node if len(kept) == len(node.packed) else TrieNode(node.children, kept)


def length_of(node: TrieNode) -> int:
    """Bytes of the node, before bencoding."""
    entries = node.packed
    length = _HEADER + (len(node.children) + 1) // 2 + sum(map(len, entries.values()))
    return length + sum([_KEY if len(key) == _KEY else 1 + len(key) for key in entries])


def fits(node: TrieNode) -> bool:
    """Whether it can be stored as it is."""
    return length_of(node) <= MAX_NODE


def fit(node: TrieNode) -> TrieNode:
    """The node with the newest entries for which there is room."""
    if fits(node):
        return node
    room = MAX_NODE - length_of(TrieNode(node.children))
    kept: dict[bytes, bytes] = {}
    # Of the same minute, the keys decide: all writers keep the same.
    for key, rest in sorted(
        sorted(node.packed.items()), key=lambda item: item[1][:3], reverse=True
    ):
        length = len(rest) + (_KEY if len(key) == _KEY else 1 + len(key))
        if length <= room:
            kept[key] = rest
            room -= length
    return TrieNode(node.children, kept)


def storable(label: Label, node: TrieNode) -> TrieNode:
    """The node as it may be stored at the label: what may drop entries has dropped what does not
    fit. A leaf that could be split is left as it is, and may not fit."""
    return node if not node.children and not label.is_deepest else fit(node)


def encode(node: TrieNode) -> bytes:
    """The node, bencoded: at most `MAX_ITEM` bytes. Raises ValueError for one that does not fit."""
    bits, nibbles = 0, []
    for digit in sorted(node.children):
        bits |= 1 << digit
        nibbles.append(node.children[digit])
    if len(nibbles) % 2:
        nibbles.append(0)
    parts = [_MAGIC, bits.to_bytes(2, "big")]
    parts.append(bytes([a << 4 | b for a, b in zip(nibbles[::2], nibbles[1::2], strict=True)]))
    for key, rest in sorted(node.packed.items()):
        if len(key) != _KEY:
            parts.append(bytes((len(key),)))
        parts += (key, rest)
    payload = b"".join(parts)
    if len(payload) > MAX_NODE:
        raise ValueError("a node that does not fit: it must be split")
    return b"%d:%b" % (len(payload), payload)


def decode(item: bytes, label: Label) -> TrieNode:
    """The node that was found at the label, of its bencoded item. Nothing in it is foreign to the
    label, and encoding it again gives the same bytes.

    Raises SearchFormatError."""
    if len(item) > MAX_ITEM:
        raise SearchFormatError("a node longer than a thousand bytes")
    try:
        payload = bencode.decode(item)
    except BencodeError as error:
        raise SearchFormatError(f"a node that is not bencoded: {error}") from None
    if not isinstance(payload, bytes) or payload[:2] != _MAGIC or len(payload) < _HEADER:
        raise SearchFormatError("not a node")
    children, at = _decode_children(payload, label)
    if label.index is Index.DICTIONARY:
        entries = _decode_words(payload, at)
    else:
        entries = _decode_postings(payload, at)
        if label.index.has_sketches:
            _check_keys(entries)
    if label.digits and entries:
        _check_digits(entries, label)
    return TrieNode(children, entries)


def _decode_children(payload: bytes, label: Label) -> tuple[dict[int, int], int]:
    bits = int.from_bytes(payload[2:_HEADER], "big")
    if not bits:
        return {}, _HEADER
    if bits >> label.index.arity or label.is_deepest:
        raise SearchFormatError("a node with children that cannot be")
    digits = [digit for digit in range(label.index.arity) if bits >> digit & 1]
    end = _HEADER + (len(digits) + 1) // 2
    nibbles = [nibble for byte in payload[_HEADER:end] for nibble in (byte >> 4, byte & 15)]
    if len(nibbles) < len(digits) or any(nibbles[len(digits) :]):
        raise SearchFormatError("a node whose hints are not those of its children")
    return dict(zip(digits, nibbles, strict=False)), end


def _decode_postings(payload: bytes, at: int) -> dict[bytes, bytes]:
    entries: dict[bytes, bytes] = {}
    size, last = len(payload), b""
    while at < size:
        start = at + _KEY + _FIXED
        if start > size:
            raise SearchFormatError("a posting that is cut")
        key, length, hidden = payload[at : at + _KEY], payload[start - 2], payload[start - 1]
        end = start + length + 2 * hidden
        if end > size or length > MAX_PREVIEW or hidden > MAX_HIDDEN:
            raise SearchFormatError("a posting that is cut, or too long")
        if key <= last:
            raise SearchFormatError("postings that are not in order")
        preview = payload[start : start + length]
        if not preview.isascii():
            _check_text(preview)
        entries[key] = payload[at + _KEY : end]
        at, last = end, key
    return entries


def _decode_words(payload: bytes, at: int) -> dict[bytes, bytes]:
    entries: dict[bytes, bytes] = {}
    size, last = len(payload), b""
    while at < size:
        middle = at + 1 + payload[at]
        end = middle + _WORD_REST
        if end > size:
            raise SearchFormatError("a word that is cut")
        word = payload[at + 1 : middle]
        if word <= last:
            raise SearchFormatError("words that are not in order")
        if not _is_word(word):
            raise SearchFormatError("not a word")
        if not word.isascii():
            _check_text(word)
        entries[word] = payload[middle:end]
        at, last = end, word
    return entries


def _check_keys(entries: dict[bytes, bytes]) -> None:
    """Raises SearchFormatError unless all entries have the key of a sketch with them."""
    if any(rest[_FIXED - 1] != KEY_SIZE // 2 for rest in entries.values()):
        raise SearchFormatError("an entry without the key of its sketch")


def _check_text(text: bytes) -> None:
    try:
        text.decode()
    except UnicodeDecodeError:
        raise SearchFormatError("a text that is not UTF-8") from None


def _check_digits(entries: dict[bytes, bytes], label: Label) -> None:
    """Raises SearchFormatError unless all entries have their place below the label."""
    index, digits = label.index, label.digits
    keys = list(entries)
    if index is not Index.SIZES and not index.has_sketches and len(keys) > 2:
        # They are in the order of their digits: what is between two is below the label as well.
        keys = [keys[0], keys[-1]]
    for key in keys:
        if not digits_of(index, key, entries[key]).startswith(digits):
            raise SearchFormatError("a node with entries that belong elsewhere")
