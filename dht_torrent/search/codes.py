"""Keys of the search index as digits. The rule: the order of codes is the order of what they stand
for, so that a range of words or sizes is a range of keys, and all words that begin with a text lie
under one node.

A key is `bytes`, one digit for each level of its tree. All trees of words and sizes have two bits a
digit: 0 to 3.

A word has six bits a symbol, three digits. 0: the end; 1: `-`; 2 to 11: digits; 12 to 37: letters;
63: any other character, whose code point follows in four symbols.
"""

from __future__ import annotations

from typing import Final

WIDTH: Final = 2
"""Bits of a digit."""
SYMBOL: Final = 3
"""Digits of a symbol."""
WORD_LEVELS: Final = 48
"""Levels of the dictionary: sixteen symbols."""
SIZE_BITS: Final = 16
SIZE_LEVELS: Final = SIZE_BITS // WIDTH
MAX_SIZE_CODE: Final = 2**SIZE_BITS - 1
_MANTISSA: Final = 10

_PLAIN: Final = "-0123456789abcdefghijklmnopqrstuvwxyz"
_ESCAPE: Final = 63
_ESCAPED: Final = 4
"""Symbols after an escape."""


def _digits(number: int, bits: int, width: int = WIDTH) -> bytes:
    mask = (1 << width) - 1
    return bytes(number >> shift & mask for shift in range(bits - width, -1, -width))


_CODES: Final = {char: _digits(code, 6) for code, char in enumerate(_PLAIN, 1)}
_CHARS: Final = {code: char for char, code in _CODES.items()}
_OF_BYTES: Final = {
    width: [_digits(byte, 8, width) for byte in range(256)] for width in (1, 2, 4, 8)
}
_END: Final = _digits(0, 6)
_OTHER: Final = _digits(_ESCAPE, 6)


def word_digits(word: str) -> bytes:
    """The digits of a word, or of a text that words begin with: as many as it needs, so that the
    code of a prefix is a prefix of the code.

    Raises ValueError for ASCII characters that no word has, and for surrogates.
    """
    return b"".join([_CODES.get(char) or _escaped(char) for char in word])


def word_key(word: str) -> bytes:
    """Where the dictionary has the word: all `WORD_LEVELS` digits. Words which share the first
    sixteen symbols share the key."""
    return word_digits(word)[:WORD_LEVELS].ljust(WORD_LEVELS, b"\0")


def word_of(digits: bytes) -> str:
    """The word, or the text that all words under these digits begin with: whole characters only.

    Raises ValueError for what no word has as its code.
    """
    chars: list[str] = []
    at = 0
    while at + SYMBOL <= len(digits):
        symbol = digits[at : at + SYMBOL]
        if symbol == _END:
            if any(digits[at:]):
                raise ValueError("digits follow the end of a word")
            break
        at += SYMBOL
        if symbol == _OTHER:
            code = digits[at : at + SYMBOL * _ESCAPED]
            if len(code) < SYMBOL * _ESCAPED:
                break
            chars.append(_unescaped(code))
            at += len(code)
        elif symbol in _CHARS:
            chars.append(_CHARS[symbol])
        else:
            raise ValueError("not a symbol of a word")
    return "".join(chars)


def _escaped(char: str) -> bytes:
    point = ord(char)
    if point < 0x80 or 0xD800 <= point < 0xE000:
        raise ValueError(f"no word has {char!r}")
    return _OTHER + _digits(point, 24)


def _unescaped(code: bytes) -> str:
    point = 0
    for digit in code:
        point = point << WIDTH | digit
    if not 0x80 <= point < 0x110000 or 0xD800 <= point < 0xE000:
        raise ValueError("not a character")
    return chr(point)


def hash_digits(raw: bytes, width: int = WIDTH) -> bytes:
    """Big-endian digits of a hash, such as an infohash. `width` divides eight."""
    table = _OF_BYTES.get(width)
    if table is None:
        raise ValueError("the width of a digit must divide a byte")
    return b"".join([table[byte] for byte in raw])


def size_code(size: int) -> int:
    """A size in 16 bits, never smaller for a larger size: six bits of exponent, ten of mantissa.

    Exact below 2048, and within a thousandth above. Raises ValueError below zero.
    """
    if size < 0:
        raise ValueError("a size is not negative")
    exponent = size.bit_length() - 1 - _MANTISSA
    if exponent < 0:
        return size
    # The leading bit is not stored: it adds one to the exponent, where zero is for small numbers.
    return min((exponent << _MANTISSA) + (size >> exponent), MAX_SIZE_CODE)


def least_size(code: int) -> int:
    """The smallest size that has this code. Raises ValueError for what is not a code."""
    if not 0 <= code <= MAX_SIZE_CODE:
        raise ValueError("a size code has 16 bits")
    exponent = max((code >> _MANTISSA) - 1, 0)
    return code - (exponent << _MANTISSA) << exponent


def size_codes(smallest: int | None, largest: int | None) -> range:
    """The codes of all sizes from `smallest` to `largest`, both included; None leaves an end open.

    A size at the edge of the range may have the code of one outside: only the record tells them
    apart.
    """
    first = size_code(max(smallest or 0, 0))
    last = MAX_SIZE_CODE if largest is None else size_code(largest) if largest >= 0 else -1
    return range(first, last + 1)


def size_digits(code: int) -> bytes:
    """A size code as the `SIZE_LEVELS` digits that a key of the index of sizes begins with."""
    if not 0 <= code <= MAX_SIZE_CODE:
        raise ValueError("a size code has 16 bits")
    return _digits(code, SIZE_BITS)
