"""Bencoding (BEP 3): any bytes give a value or BencodeError, never anything else, and nothing is
built from bytes that exceed a bound.

The fast way is `bencode2`, a strict C++ codec. It knows no bounds on tokens or integers, so bytes
that could exceed ours are measured first by `_skip`, a scanner that builds nothing; whether they
could is a matter of counting letters, which costs a quarter of a microsecond for a KRPC message.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeAlias, Union

import bencode2

from dht_torrent.errors import BencodeError

Value: TypeAlias = Union[bytes, int, "list[Value]", "dict[bytes, Value]"]
"""What bencode can say. Integers are within int64."""

MAX_DEPTH = 100
"""Lists and dicts inside each other, libtorrent's bound for .torrent files."""
MAX_TOKENS = 2_500_000
"""Strings, integers, lists and dicts altogether (libtorrent)."""
MAX_SIZE = 10_000_000
"""Bytes (libtorrent's bound for .torrent files)."""

_SMALL = 4096
"""Bytes of a message that may be scanned for its depth at little cost."""
_INT64 = range(-(2**63), 2**63)
# Only a number of 19 digits or more can be outside int64. In a string it may mean nothing: then
# the scan it causes is wasted, and harmless.
_long_integer = re.compile(rb"i-?[0-9]{19}").search
# Kept here and not written in place: making a set or a union of types costs more than the test.
_KEYS = frozenset({bytes})
_LEAVES = frozenset({bytes, int})
_SCALARS = (bytes, int)
_SEQUENCES = (list, tuple)
_CONTAINERS = (list, dict)


def decode(
    data: bytes | bytearray | memoryview,
    *,
    max_depth: int = MAX_DEPTH,
    max_tokens: int = MAX_TOKENS,
    max_size: int = MAX_SIZE,
) -> Value:
    """The value of canonical bencode: sorted unique keys, no leading zeros, nothing after the end.

    Raises BencodeError.
    """
    raw = data if type(data) is bytes and len(data) <= max_size else _bounded(data, max_size)
    # A token has two bytes at least (`0:`), so short messages cannot have too many.
    if (
        (_long_integer(raw) or len(raw) > 2 * max_tokens)
        and _needs_scan(raw, max_tokens)
        and _skip(raw, 0, max_depth, max_tokens) != len(raw)
    ):
        raise BencodeError("data follows the value")
    return _decode_strictly(raw, max_depth)


def decode_prefix(
    data: bytes | bytearray | memoryview,
    *,
    max_depth: int = MAX_DEPTH,
    max_tokens: int = MAX_TOKENS,
    max_size: int = MAX_SIZE,
) -> tuple[Value, int]:
    """The canonical value that `data` begins with, and how many bytes it took.

    For ut_metadata data messages (BEP 9), where a block follows the dict. `max_size` bounds `data`
    as a whole. Raises BencodeError.
    """
    raw = _bounded(data, max_size)
    end = _skip(raw, 0, max_depth, max_tokens)
    return _decode_strictly(raw[:end], max_depth), end


def decode_tolerant(
    data: bytes | bytearray | memoryview,
    *,
    max_depth: int = MAX_DEPTH,
    max_tokens: int = MAX_TOKENS,
    max_size: int = MAX_SIZE,
) -> Value:
    """As `decode`, but the keys of a dict may come in any order (never twice).

    For .torrent files, some of which were written so. Code that hashes such a dict must hash its
    `raw_slice`, since encoding the value again gives other bytes. Raises BencodeError.
    """
    raw = _bounded(data, max_size)
    try:
        return decode(raw, max_depth=max_depth, max_tokens=max_tokens, max_size=max_size)
    except BencodeError:
        if _skip(raw, 0, max_depth, max_tokens) != len(raw):
            raise
    return _build(raw, 0)[0]  # the grammar and the bounds are known to hold here


def decode_lenient(
    data: bytes | bytearray | memoryview,
    *,
    max_depth: int = MAX_DEPTH,
    max_tokens: int = MAX_TOKENS,
    max_size: int = MAX_SIZE,
) -> Value:
    """The value that `data` begins with, as libtorrent reads .torrent files: whatever follows it is
    ignored, keys may come in any order, of a key that comes twice the first counts, and numbers may
    have leading zeros.

    An integer outside int64 is given as 2**63 or -(2**63) - 1: it is there, and it is out of any
    range. Only for files, and for what they hold: never for what is signed or sent. Raises
    BencodeError.
    """
    raw = _bounded(data, max_size)
    try:
        return decode(raw, max_depth=max_depth, max_tokens=max_tokens, max_size=max_size)
    except BencodeError:
        _skip(raw, 0, max_depth, max_tokens, lenient=True)
    return _build(raw, 0, lenient=True)[0]


def raw_slice(
    data: bytes | bytearray | memoryview, key: bytes, *, max_size: int = MAX_SIZE
) -> bytes:
    """The very bytes of the value under `key`, the first if it comes twice, in the dict that `data`
    begins with, as they were written. As lenient as `decode_lenient`.

    Raises BencodeError, also when there is no such key.
    """
    raw = _bounded(data, max_size)
    if raw[:1] != b"d":
        raise BencodeError("not a dict")
    at = 1
    while raw[at : at + 1] != b"e":
        start = _skip_string(raw, at, lenient=True)
        end = _skip(raw, start, MAX_DEPTH, MAX_TOKENS, lenient=True)
        if raw[raw.index(b":", at) + 1 : start] == key:
            return raw[start:end]
        at = end
    raise BencodeError(f"missing key {key[:40]!r}")


def encode(value: Value) -> bytes:
    """Canonical bencode.

    Raises TypeError for anything but bytes, int, list (or tuple) and dict with bytes keys: text,
    None, floats and bools never reach the wire by accident.
    """
    _check_types(value)
    return bencode2.bencode(value)


def _bounded(data: bytes | bytearray | memoryview, max_size: int) -> bytes:
    if isinstance(data, bytes):
        size = len(data)
    else:
        data = memoryview(data)  # raises TypeError for what holds no bytes, such as str
        size = data.nbytes
    if size > max_size:
        raise BencodeError(f"{size} bytes, more than {max_size}")
    return data if isinstance(data, bytes) else bytes(data)


def _needs_scan(raw: bytes, max_tokens: int) -> bool:
    """Whether `raw` could hold too many tokens, each of which has one of four letters, or an
    integer outside int64. Never wrongly False."""
    if _long_integer(raw):
        return True
    return sum(map(raw.count, (b":", b"i", b"l", b"d"))) > max_tokens


def _decode_strictly(raw: bytes, max_depth: int) -> Value:
    # Each level takes a letter, so few letters prove the depth. bencode2 stops at 4096 by itself,
    # but takes two microseconds for each level it has to leave again: a datagram of nothing but
    # `l` would cost as much as five hundred honest ones.
    may_be_deep = raw.count(b"l") + raw.count(b"d") > max_depth
    if may_be_deep and len(raw) <= _SMALL:
        _skip(raw, 0, max_depth, MAX_TOKENS)
    try:
        value: Value = bencode2.bdecode(raw)
    except (ValueError, RecursionError) as exc:  # its BencodeDecodeError is a ValueError
        raise BencodeError(str(exc)[:200]) from None
    if may_be_deep:
        _check_depth(value, max_depth)
    return value


def _check_depth(value: Value, max_depth: int) -> None:
    level: list[Value] = [value] if isinstance(value, _CONTAINERS) else []
    for _ in range(max_depth):
        deeper: list[Value] = []
        for item in level:
            inside = item.values() if isinstance(item, dict) else item
            assert not isinstance(inside, _SCALARS)
            deeper.extend(child for child in inside if isinstance(child, _CONTAINERS))
        level = deeper
        if not level:
            return
    if level:
        raise BencodeError(f"nested deeper than {max_depth}")


_ZERO, _NINE, _I, _L, _D, _E = b"09ilde"


def _skip(raw: bytes, at: int, max_depth: int, max_tokens: int, *, lenient: bool = False) -> int:
    """Where the value that begins at `at` ends. Checks all of the grammar but the order and
    uniqueness of keys; `lenient`, not the form of numbers either. Raises BencodeError, also beyond
    the bounds."""
    size = len(raw)
    tokens = 0
    open_dicts: list[bool] = []  # for each container around `at`: is it a dict?
    key_next = False
    while at < size:
        letter = raw[at]
        if letter == _E:
            if not open_dicts or (open_dicts[-1] and not key_next):
                raise BencodeError(f"unexpected end of a container at {at}")
            open_dicts.pop()
            key_next = False  # a value ended, as any leaf does
            at += 1
        else:
            tokens += 1
            if tokens > max_tokens:
                raise BencodeError(f"more than {max_tokens} tokens")
            if _ZERO <= letter <= _NINE:
                at = _skip_string(raw, at, lenient=lenient)
            elif key_next:
                raise BencodeError(f"a key that is not a string at {at}")
            elif letter == _I:
                at = (_skip_any_integer if lenient else _skip_integer)(raw, at)
            elif letter in (_L, _D):
                if len(open_dicts) >= max_depth:
                    raise BencodeError(f"nested deeper than {max_depth}")
                open_dicts.append(letter == _D)
                key_next = letter == _D
                at += 1
                continue
            else:
                raise BencodeError(f"unexpected byte {bytes([letter])!r} at {at}")
        if not open_dicts:
            return at
        key_next = open_dicts[-1] and not key_next
    raise BencodeError("truncated")


def _skip_string(raw: bytes, at: int, *, lenient: bool = False) -> int:
    colon = raw.find(b":", at, at + 21 if lenient else at + 11)
    digits = raw[at:colon]
    padded = digits[:1] == b"0" and len(digits) > 1
    if colon < 0 or not digits.isdigit() or (padded and not lenient):
        raise BencodeError(f"malformed string length at {at}")
    end = colon + 1 + int(digits)
    if end > len(raw):
        raise BencodeError(f"the string at {at} is longer than the data")
    return end


def _skip_integer(raw: bytes, at: int) -> int:
    end = raw.find(b"e", at, at + 22)
    digits = raw[at + 1 : end]
    unsigned = digits.removeprefix(b"-")
    if end < 0 or not unsigned.isdigit() or (unsigned[0] == _ZERO and digits != b"0"):
        raise BencodeError(f"malformed or overlong integer at {at}")
    if int(digits) not in _INT64:
        raise BencodeError(f"an integer outside int64 at {at}")
    return end + 1


def _skip_any_integer(raw: bytes, at: int) -> int:
    end = raw.find(b"e", at)
    if end < 0 or not raw[at + 1 : end].removeprefix(b"-").isdigit():
        raise BencodeError(f"malformed integer at {at}")
    return end + 1


def _integer(text: bytes) -> int:
    """Outside int64 it is the next number beyond: int() would be slow, or refuse."""
    digits = text.removeprefix(b"-").lstrip(b"0")
    number = int(digits or b"0") if len(digits) < 20 else 2**64
    return max(-(2**63) - 1, -number) if text[:1] == b"-" else min(2**63, number)


def _build(raw: bytes, at: int, *, lenient: bool = False) -> tuple[Value, int]:
    """The value at `at` and its end, in bytes that `_skip` approved (so the recursion is bounded).

    Of a key that comes twice the first counts if `lenient`; else BencodeError is raised.
    """
    letter = raw[at]
    if letter == _I:
        end = raw.index(b"e", at)
        return _integer(raw[at + 1 : end]), end + 1
    if letter == _L:
        items: list[Value] = []
        at += 1
        while raw[at] != _E:
            item, at = _build(raw, at, lenient=lenient)
            items.append(item)
        return items, at + 1
    if letter == _D:
        entries: dict[bytes, Value] = {}
        at += 1
        while raw[at] != _E:
            key, at = _build(raw, at)
            assert isinstance(key, bytes)
            if key in entries and not lenient:
                raise BencodeError(f"duplicate key {key[:40]!r}")
            value, at = _build(raw, at, lenient=lenient)
            entries.setdefault(key, value)
        return entries, at + 1
    start = raw.index(b":", at) + 1
    end = start + int(raw[at : start - 1])
    return raw[start:end], end


def _check_types(value: object) -> None:
    children: Iterable[object]
    if isinstance(value, dict):
        if not _KEYS.issuperset(map(type, value)):
            raise TypeError("the keys of a bencoded dict are bytes")
        children = value.values()
    elif isinstance(value, _SEQUENCES):
        children = value
    elif isinstance(value, _SCALARS) and not isinstance(value, bool):
        return
    else:
        raise TypeError(f"bencode cannot hold a {type(value).__name__}")
    if not _LEAVES.issuperset(map(type, children)):  # at C speed: mostly there are only leaves
        for child in children:
            if type(child) not in _LEAVES:
                _check_types(child)
