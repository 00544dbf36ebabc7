"""A piece being assembled lives in one buffer, and each payload byte is copied into it once; or
else it is spilled: its blocks go to the disk in the order in which they come, a chunk at a time.

The sets of pieces peers talk about (`Bitfield`), the request unit (`Block`), and what pieces are
assembled in (`OpenPiece`, `Spill`, `BufferPool`). Which of the two a piece is `memory` decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import compress, count, repeat
from typing import NamedTuple

from dht_torrent.geometry import BLOCK, check_bitfield
from dht_torrent.ids import PeerKey
from dht_torrent.torrent.limits import HEADER

_BIT_TO_FLAG = bytes.maketrans(b"01", b"\x00\x01")
_FLAG_TO_BIT = bytes.maketrans(b"\x00\x01", b"01")
_INVERT = bytes.maketrans(b"\x00\x01", b"\x01\x00")

_ROOM_FOR_CHANGES = 1 << 48
_versions = count(0, _ROOM_FOR_CHANGES)

NOBODY = PeerKey(-1)
"""In `OpenPiece.senders`: no block came yet. Peer keys are never negative."""
RECEIVED = 255
"""In `OpenPiece.blocks`: the block is here. Smaller values count the peers it was asked from."""


class Block(NamedTuple):
    """The unit of a request (BEP 3): `length` bytes from `begin` in piece `index`."""

    index: int  # type: ignore[assignment] # hides tuple.index, which is not wanted here
    begin: int
    length: int


Place = tuple[int, int, int]
"""A block as a plain tuple: piece, offset, length."""
Requests = list[tuple[PeerKey, Block]]
"""Blocks, and who was asked for each."""


class Bitfield:
    """A set of piece indices below `size`.

    One byte a piece, so that looking up and iterating are plain indexing in C: 32 KiB instead of 4
    at 32,768 pieces, where conversion to or from the wire takes 0.1 ms. Indices must be in range:
    the reader of the network checks.
    """

    __slots__ = ("count", "flags", "version")

    def __init__(self, size: int, indices: Iterable[int] = ()) -> None:
        self.flags = bytearray(size)
        """1 for each member: for tight loops that only read."""
        self.count = 0
        self.version = next(_versions)
        """Another one after each change; no two bitfields ever have the same."""
        for index in indices:
            self.add(index)

    @classmethod
    def full(cls, size: int) -> Bitfield:
        """Every piece."""
        return cls._of(bytearray(b"\x01" * size))

    @classmethod
    def from_wire(cls, bits: bytes | bytearray | memoryview, size: int) -> Bitfield:
        """Reads a bitfield message's payload, high bit first (BEP 3).

        Raises PeerProtocolError unless it has exactly ceil(size / 8) bytes and zero spare bits.
        """
        check_bitfield(bits, size)
        if not size:
            return cls(0)
        # A leading 1 keeps the zeros in front when the number is written in binary.
        number = int.from_bytes(bits, "big") | 1 << 8 * len(bits)
        flags = bytearray(bin(number)[3:], "ascii").translate(_BIT_TO_FLAG)
        del flags[size:]
        return cls._of(flags)

    @classmethod
    def _of(cls, flags: bytearray) -> Bitfield:
        new = cls.__new__(cls)
        new.flags = flags
        new.count = flags.count(1)
        new.version = next(_versions)
        return new

    def to_wire(self) -> bytes:
        """The payload of a bitfield message: ceil(size / 8) bytes, spare bits zero."""
        size = len(self.flags)
        if not size:
            return b""
        spare = -size % 8
        number = int(self.flags.translate(_FLAG_TO_BIT), 2) << spare
        return number.to_bytes((size + spare) // 8, "big")

    def __contains__(self, index: int) -> bool:
        return self.flags[index] == 1

    def add(self, index: int) -> bool:
        """True if it is new."""
        if self.flags[index]:
            return False
        self.flags[index] = 1
        self.count += 1
        self.version += 1
        return True

    def discard(self, index: int) -> bool:
        """True if it was there."""
        if not self.flags[index]:
            return False
        self.flags[index] = 0
        self.count -= 1
        self.version += 1
        return True

    @property
    def size(self) -> int:
        """How many pieces there are altogether; `count` says how many are members."""
        return len(self.flags)

    @property
    def complete(self) -> bool:
        return self.count == len(self.flags)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        """The members, ascending."""
        return compress(range(len(self.flags)), self.flags)

    def missing(self) -> Iterator[int]:
        """The indices that are not members, ascending."""
        return compress(range(len(self.flags)), self.flags.translate(_INVERT))

    def __and__(self, other: Bitfield) -> Bitfield:
        return self._combined(self._number() & other._number())

    def __or__(self, other: Bitfield) -> Bitfield:
        return self._combined(self._number() | other._number())

    def __sub__(self, other: Bitfield) -> Bitfield:
        return self._combined(self._number() & ~other._number())

    def _number(self) -> int:
        return int.from_bytes(self.flags, "big")

    def _combined(self, number: int) -> Bitfield:
        return self._of(bytearray(number.to_bytes(len(self.flags), "big")))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bitfield) and self.flags == other.flags

    __hash__ = None  # type: ignore[assignment] # it changes

    def __repr__(self) -> str:
        return f"<Bitfield {self.count}/{len(self.flags)}>"


class Chunk:
    """Blocks of a spilled piece that are on their way to the disk, in the order they came."""

    __slots__ = ("blocks", "buffer", "filled", "runs")

    def __init__(self, buffer: bytearray) -> None:
        """`buffer` has room for at least one block."""
        self.buffer = buffer
        self.filled = 0
        """Bytes of it in use."""
        self.blocks = 0
        self.runs: list[tuple[int, int]] = []
        """Where in the piece each run begins, and its length; one after the other in the buffer."""

    @property
    def full(self) -> bool:
        """Might there be no room for another block?"""
        return self.filled + BLOCK > len(self.buffer)

    def put(self, begin: int, data: bytes | memoryview) -> None:
        """Add a block."""
        size = len(data)
        self.buffer[self.filled : self.filled + size] = data
        self.filled += size
        self.blocks += 1
        if self.runs and sum(self.runs[-1]) == begin:
            self.runs[-1] = (self.runs[-1][0], self.runs[-1][1] + size)
        else:
            self.runs.append((begin, size))

    def parts(self) -> Iterator[tuple[int, memoryview]]:
        """Each run: where it begins in the piece, and its bytes."""
        at, view = 0, memoryview(self.buffer)
        for begin, size in self.runs:
            yield begin, view[at : at + size]
            at += size


class Spill:
    """How a spilled piece comes to lie on the disk: unverified, and apart from the content."""

    __slots__ = ("away", "chunk", "chunks_away", "closed", "held", "slot")

    def __init__(self, slot: int) -> None:
        self.slot = slot
        """Its place in the torrent's scratch space, which is its own until it is closed and no
        chunk is away any more."""
        self.chunk: Chunk | None = None
        """What came since the last chunk was full."""
        self.held = 0
        """Blocks that were asked for, or are here and not on the disk yet."""
        self.away = 0
        """Of these, blocks in chunks that were given to the disk ..."""
        self.chunks_away = 0
        """... and how many chunks these are."""
        self.closed = False


Landing = tuple[bytearray, list[memoryview]]
"""Room for the headers of all blocks of full length; and where these go, one header and one block
after the other."""


class OpenPiece:
    """A piece being assembled, or assembled and waiting for the disk."""

    __slots__ = (
        "_landing",
        "_requests",
        "avoid",
        "blocks",
        "buffer",
        "free",
        "index",
        "left",
        "opened_at",
        "owner",
        "senders",
        "size",
        "solo",
        "spill",
        "storage",
    )

    def __init__(
        self,
        index: int,
        size: int,
        storage: bytearray,
        spill: Spill | None = None,
        landing: Landing | None = None,
    ) -> None:
        """`storage` has at least `size` bytes, of which the piece uses the first; or none, if the
        piece is to `spill`. `landing` is that of an earlier piece of this size in there."""
        count = -(-size // BLOCK)
        self.index = index
        self.size = size
        self.spill = spill
        self.storage = storage
        self.buffer = memoryview(storage)[:size]
        """Exactly the piece's bytes; none if it is spilled."""
        self.blocks = bytearray(count)
        """Each block: 0 unrequested, 1-254 peers asked, RECEIVED."""
        self.senders = [NOBODY] * count
        """Who sent the copy of each block that is here."""
        self.left = count
        """Blocks not received."""
        self.free = count
        """Blocks neither received nor requested."""
        self.owner: PeerKey | None = None
        """The peer that takes this piece's free blocks, in order, before others do."""
        self.avoid: frozenset[PeerKey] | None = None
        """Suspects of an earlier broken attempt; None if there was none."""
        self.solo: PeerKey | None = None
        """The only peer that may send any of it, so that its hash judges that peer alone."""
        self.opened_at = 0.0
        self._requests: list[Block] = []
        self._landing = landing

    def requests(self, first: int, count: int) -> list[Block]:
        """How `count` blocks are asked for, or as many as there are from `first` on."""
        if self.spill is not None:  # may have very many
            return _requests(self.index, self.size, first, first + count)
        if not self._requests:
            self._requests = _requests(self.index, self.size, 0, len(self.blocks))
        return self._requests[first : first + count]

    @property
    def landing(self) -> Landing:
        """For blocks that are received where they belong."""
        if self._landing is None:
            full = self.size // BLOCK
            headers, buffers = bytearray(full * HEADER), [memoryview(b"")] * (2 * full)
            room, place = memoryview(headers), self.buffer
            buffers[::2] = [room[at : at + HEADER] for at in range(0, full * HEADER, HEADER)]
            buffers[1::2] = [place[at : at + BLOCK] for at in range(0, full * BLOCK, BLOCK)]
            self._landing = headers, buffers
        return self._landing

    def leave_storage(self) -> tuple[bytearray, Landing | None]:
        """It is another's from now on, with what was made for receiving into it: a task that still
        holds the piece must not reach the next one's bytes through it."""
        left = self.storage, self._landing
        self.storage = bytearray()
        self.buffer = memoryview(self.storage)
        self._landing = None
        return left

    def __repr__(self) -> str:
        return f"<OpenPiece {self.index}: {self.left} of {len(self.blocks)} blocks left>"


def _requests(index: int, size: int, first: int, end: int) -> list[Block]:
    """The blocks of a piece of `size` bytes, from one number to another."""
    begins = range(first * BLOCK, min(end * BLOCK, size), BLOCK)
    # A NamedTuple's own constructor takes three times as long.
    blocks = list(map(tuple.__new__, repeat(Block), zip(repeat(index), begins, repeat(BLOCK))))
    if begins and begins[-1] + BLOCK > size:
        blocks[-1] = Block(index, begins[-1], size - begins[-1])
    return blocks


class BufferPool:
    """Keeps used buffers for the next piece of that size: a fresh one costs a page fault per 4 KiB.

    Holds at most `limit` bytes, for all who share it; of buffers beyond that, the sizes that were
    not asked for longest are given up first. `trim` gives up what is not needed any more.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._spare: dict[int, list[tuple[bytearray, Landing | None]]] = {}
        """By size; the size asked for longest ago comes first."""
        self._idle: dict[int, int] = {}
        """Of each size, the fewest that were spare at once since the last `trim`."""

    @property
    def held(self) -> int:
        """Bytes of buffers waiting for reuse."""
        return self._held

    def take(self, size: int) -> bytearray:
        """A buffer of exactly `size` bytes with unspecified content."""
        return self.take_landing(size)[0]

    def take_landing(self, size: int) -> tuple[bytearray, Landing | None]:
        """As `take`, with what was given with it."""
        spare = self._spare.pop(size, None)
        if spare is None:
            return bytearray(size), None
        taken = spare.pop()
        self._held -= size
        if spare:
            self._spare[size] = spare  # now the size asked for last
        if self._idle.get(size, 0) > len(spare):
            self._idle[size] = len(spare)
        return taken

    def give(self, buffer: bytearray, landing: Landing | None = None) -> None:
        """The caller must not touch `buffer` again, nor any view into it. `landing`, of a piece
        that filled it, serves the next one too: to make it costs some microseconds a piece, and
        two objects a block for the garbage collector to look at."""
        size = len(buffer)
        if not 0 < size <= self._limit:
            return
        self._spare.setdefault(size, []).append((buffer, landing))
        self._held += size
        self.shrink(self._limit)

    def trim(self) -> None:
        """Give up the buffers that were not needed since the last call."""
        for size, unneeded in self._idle.items():
            self._drop(size, unneeded)
        self._idle = {size: len(spare) for size, spare in self._spare.items()}

    def shrink(self, limit: int) -> None:
        """Give up what is held beyond `limit` bytes."""
        while self._held > max(0, limit):
            self._drop(next(iter(self._spare)), 1)

    def _drop(self, size: int, count: int) -> None:
        spare = self._spare.get(size, [])
        count = min(count, len(spare))
        del spare[:count]
        self._held -= size * count
        if not spare:
            self._spare.pop(size, None)
