"""Where a node of a prefix hash tree is: which tree, and which digits all keys below it begin with.
The rule: everybody who knows a word knows the slots of its tree, and nobody else can tell what a
slot is for.

A slot is a mutable item (BEP 44) under a key pair that is derived from the label and the day, so
whoever knows the label may write there. One key pair for each slot: no single public key can be
blocked, and what a vandal has burned (with the highest sequence number) is forgotten with the
epoch. Labels have different offsets, so that a day does not end for all of them at once.

The bytes that are hashed here are part of the protocol, and held by vectors in the tests.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import Enum
from typing import Final

EPOCH: Final = 86_400
"""Seconds for which a label keeps its slot."""
OVERLAP: Final = 7_200
"""Seconds at the start of an epoch in which the slot of the one before is read as well: by then
publishers, who look every hour, have written to the new one."""
_PROTOCOL: Final = b"dht_torrent index 1"


class Index(Enum):
    """A kind of tree: its code, how many digits a key has, whether keys are hashes, and how many
    bits a digit has. Trees of hashes are shallow, one of words has long chains."""

    WORDS = (b"w", 32, True)
    """A tree for each word. Keys: 64 bits of the infohash."""
    PAIRS = (b"p", 32, True)
    """A tree for each two words (`choice.root_of`) of which one is common. Keys: as for words."""
    DICTIONARY = (b"d", 48, False)
    """The one tree of all words, in their order: 16 symbols of six bits (`codes.word_key`)."""
    DAYS = (b"y", 32, True)
    """A tree for each day (`day_root`): what was published on it. Keys: as for words."""
    SIZES = (b"z", 32, False)
    """One tree in the order of size: a size code (`codes.size_digits`), then 48 bits of the
    infohash."""
    FILES = (b"r", 32, True)
    """A tree for each file id: the torrents that have the file. Keys: as for words."""
    CONTENT = (b"c", 8, True, 4)
    """Trees (`tree_root`) of what torrents are like. Keys: digits of a sketch of the content, which
    the entry has (`sketch.content_key`)."""
    NAMES = (b"n", 8, True, 4)
    """The same of sketches of titles and of lists of files (`sketch.name_key`)."""

    def __init__(self, code: bytes, levels: int, is_hashed: bool, width: int = 2) -> None:
        self.code = code
        self.levels = levels
        self.is_hashed = is_hashed
        self.width = width
        self.arity = 1 << width
        self.has_sketches = width == 4
        """Entries have the digits of their keys with them, and say nothing of words."""

    # Enum's own is written in Python, and labels are hashed a lot.
    __hash__ = object.__hash__


@dataclass(frozen=True, slots=True)
class Label:
    """A node's place. Its digits, from 0 to `index.arity - 1`, are what all keys below begin
    with."""

    index: Index
    root: bytes
    """Which tree of the index: a word, for instance. At most 255 bytes."""
    digits: bytes = b""

    @property
    def depth(self) -> int:
        return len(self.digits)

    @property
    def is_deepest(self) -> bool:
        """Nothing can be below: a leaf here cannot be split."""
        return len(self.digits) >= self.index.levels

    @property
    def top(self) -> Label:
        """The root of its tree."""
        return Label(self.index, self.root)

    @property
    def parent(self) -> Label:
        """Of all but the root, which is its own."""
        return Label(self.index, self.root, self.digits[:-1])

    def child(self, digit: int) -> Label:
        return Label(self.index, self.root, self.digits + bytes((digit,)))

    def at(self, digits: bytes) -> Label:
        """Another node of the same tree."""
        return Label(self.index, self.root, digits)


def day_root(now: float) -> bytes:
    """The root of the tree of the day, in UTC, at Unix time `now`."""
    return (int(now) // 86_400).to_bytes(2, "big")


def tree_root(number: int) -> bytes:
    """The root of a tree of sketches."""
    return bytes((number,))


def _name(label: Label) -> bytes:
    """A hash of the label. Lengths are in it, so that no two labels have the same bytes."""
    root, digits = label.root, label.digits
    parts = (_PROTOCOL, label.index.code, bytes((len(root),)), root, bytes((len(digits),)), digits)
    return hashlib.sha256(b"\0".join(parts)).digest()


def _epoch(name: bytes, now: float) -> int:
    return (int(now) + int.from_bytes(name[:4], "big") % EPOCH) // EPOCH


def epoch_of(label: Label, now: float) -> int:
    """The epoch of this label at Unix time `now`: the one to write to."""
    return _epoch(_name(label), now)


def epochs_of(label: Label, now: float) -> tuple[int, ...]:
    """The epochs to read at Unix time `now`, the current one first."""
    name = _name(label)
    epoch = _epoch(name, now)
    return (epoch, epoch - 1) if _epoch(name, now - OVERLAP) < epoch else (epoch,)


def seed_of(label: Label, epoch: int) -> bytes:
    """The 32-byte seed of the Ed25519 key under which the label has its slot in that epoch."""
    return hashlib.sha256(_name(label) + epoch.to_bytes(4, "big")).digest()


def salt_of(label: Label) -> bytes:
    """The salt of the item in the slot."""
    return label.index.code
