"""All arithmetic on pieces, blocks and files. A torrent's content is one line of `total` bytes:
the files one after the other, cut into pieces without regard to where a file ends (BEP 3).

Values given here by our own code must lie inside the content: a ValueError is our bug. What a peer
says is compared with `piece_count` and `piece_size` before it comes here.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from dht_torrent.errors import PeerProtocolError

BLOCK = 16 * 1024
"""Bytes asked for in one request; only a piece's last block may be shorter (BEP 3)."""


PAD = -1
"""In place of a file's index, in a `Span` of what is to be read: zeros, of no file (BEP 47)."""


def bitfield_size(pieces: int) -> int:
    """Bytes of a bitfield of so many pieces."""
    return (pieces + 7) // 8


def check_bitfield(bits: bytes | bytearray | memoryview, pieces: int) -> None:
    """Raises PeerProtocolError unless `bits` have the size for so many pieces, and the spare bits
    of the last byte are zero (BEP 3)."""
    if len(bits) != bitfield_size(pieces):
        raise PeerProtocolError(f"a bitfield of {len(bits)} bytes for {pieces} pieces")
    if bits and bits[-1] & ((1 << (-pieces % 8)) - 1):
        raise PeerProtocolError("a bitfield with spare bits set")


@dataclass(frozen=True, slots=True)
class File:
    """One file of a torrent, and where its bytes lie in the content."""

    path: tuple[str, ...]
    """Sanitised components: inside the torrent's folder, or just the name of a single file."""
    length: int
    offset: int
    """Of its first byte in the content."""
    pad: bool = False
    """Never on disk (BEP 47): zeros that only the hashes see, or a symbolic link, of length 0."""
    attributes: str = ""
    """BEP 47's letters: `h` hidden, `l` link, `p` pad, `x` executable."""


class Span(NamedTuple):
    """A run of bytes inside one file."""

    file: int
    """Index into the torrent's files."""
    offset: int
    """Within that file."""
    length: int


@dataclass(frozen=True, slots=True)
class Geometry:
    """How content is cut. `files` must lie end to end, from offset 0, and hold at least a byte."""

    piece_length: int
    files: tuple[File, ...]
    total: int = field(init=False)
    """Bytes of all files."""
    piece_count: int = field(init=False)
    _starts: tuple[int, ...] = field(init=False, repr=False, compare=False)
    """Offsets of the files that have any bytes ..."""
    _solid: tuple[int, ...] = field(init=False, repr=False, compare=False)
    """... and the indexes of these files."""

    def __post_init__(self) -> None:
        end = 0
        for item in self.files:
            if item.offset != end or item.length < 0:
                raise ValueError("files must lie end to end")
            end += item.length
        if end == 0 or self.piece_length <= 0:
            raise ValueError("content must have at least a byte, and pieces too")
        solid = tuple(i for i, item in enumerate(self.files) if item.length)
        put = object.__setattr__
        put(self, "total", end)
        put(self, "piece_count", -(-end // self.piece_length))
        put(self, "_solid", solid)
        put(self, "_starts", tuple(self.files[i].offset for i in solid))

    @classmethod
    def of(cls, piece_length: int, files: Iterable[tuple[tuple[str, ...], int]]) -> Geometry:
        """From paths and lengths alone, laid end to end in this order."""
        laid = []
        offset = 0
        for path, length in files:
            laid.append(File(path, length, offset))
            offset += length
        return cls(piece_length, tuple(laid))

    def piece_size(self, index: int) -> int:
        """Bytes in piece `index`: `piece_length`, save for the last one."""
        if not 0 <= index < self.piece_count:
            raise ValueError(f"no piece {index}")
        return min(self.piece_length, self.total - index * self.piece_length)

    def size_of(self, pieces: Collection[int]) -> int:
        """Bytes in all of these pieces, which must be in the content, and each but once."""
        size = len(pieces) * self.piece_length
        last = self.piece_count - 1
        return size - self.piece_length + self.piece_size(last) if last in pieces else size

    def block_count(self, index: int) -> int:
        """Blocks in piece `index`."""
        return -(-self.piece_size(index) // BLOCK)

    def block_size(self, index: int, begin: int) -> int:
        """Bytes in the block that starts `begin` bytes into piece `index`."""
        size = self.piece_size(index)
        if not 0 <= begin < size or begin % BLOCK:
            raise ValueError(f"no block at {begin} in piece {index}")
        return min(BLOCK, size - begin)

    def spans(self, offset: int, length: int) -> list[Span]:
        """Where `length` bytes of the content from `offset` lie, in order. Pads are included."""
        end = offset + length
        if offset < 0 or length < 0 or end > self.total:
            raise ValueError(f"{length} bytes at {offset} are not all inside the content")
        if length == 0:
            return []
        starts, solid = self._starts, self._solid
        if len(solid) == 1:
            return [Span(solid[0], offset, length)]
        spans = []
        at = bisect_right(starts, offset) - 1
        while offset < end:
            index = solid[at]
            within = offset - starts[at]
            take = min(end - offset, self.files[index].length - within)
            spans.append(Span(index, within, take))
            offset += take
            at += 1
        return spans

    def file_pieces(self, file: int) -> range:
        """Pieces with any byte of the file of that index; none for an empty file."""
        item = self.files[file]
        if item.length == 0:
            return range(0)
        last = (item.offset + item.length - 1) // self.piece_length
        return range(item.offset // self.piece_length, last + 1)

    def piece_files(self, index: int) -> range:
        """Indexes of the files with any byte in piece `index`; an empty file between two of them
        is in the range too."""
        start = index * self.piece_length
        end = start + self.piece_size(index)
        first = bisect_right(self._starts, start) - 1
        last = bisect_left(self._starts, end) - 1
        return range(self._solid[first], self._solid[last] + 1)
