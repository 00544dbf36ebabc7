"""What of a file's bytes is compared with other files: short pieces that begin where the bytes
themselves say so, so that they are the same wherever the content lies. The rule: the same bytes at
about the same place give the same elements, in whatever torrent, with whatever piece length, and
whatever was inserted before.

- Not everything is looked at, but *regions* of a file: its first 32 KiB, and of what comes from 128
  KiB on a sixteenth, in regions that grow with their distance from the start, up to a MiB. So a
  change of length moves less content out of its region than the region has.
- A *mark* is where three bytes have a certain sum; an *anchor* is a mark with no other in the 64
  bytes before it. Beyond the first region only one in eight counts, which the next eight bytes
  decide.
- An *element* is a 64-bit hash of the 64 bytes from an anchor on, if they lie in its region.

This is not a gear hash over every byte, with cuts and chunks between them, because that takes ten
times as long as SHA-1. Here each pass over the bytes is one of NumPy's, on blocks that stay in the
processor's cache. The chunks between cuts would be needed to store content, not to compare it.

All numbers in here are part of the protocol, and held by vectors in the tests. NumPy is optional
(`dht_torrent[similar]`); without it nothing can be compared by content.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from dht_torrent.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Words = NDArray[np.uint64]
    Places = NDArray[np.intp]

WHOLE: Final = 32 * 1024
"""Bytes at the start of a file that are all looked at: all of most sources and documents."""
SECOND: Final = 128 * 1024
"""Where the second region begins. Small files must not have many: each costs as much as 20 kB."""
SHARE: Final = 16
"""From there on, one byte in so many is looked at."""
WIDEST: Final = 1024 * 1024
"""Bytes of the largest region."""
WINDOW: Final = 64
"""Bytes of an element, and at least so many from one anchor to the next."""
MARK: Final = 0x5D
"""What `2 * (a + b) ^ c` of three bytes is at a mark. Of runs of one byte, that of 0xB9 has it."""
SPARSE: Final = 3
"""Bits that are zero at anchors beyond the first region."""
BINS: Final = 128
"""Elements are dealt out to so many bins by their upper bits, and the smallest of each is kept."""
EMPTY: Final = 2**64 - 1
"""The smallest element of a bin that has none."""

_BLOCK: Final = 256 * 1024
"""Bytes that are looked at together: with the results of the passes they fit into a second-level
cache, and NumPy's own time for each call is small beside that for them."""
_BATCH: Final = 768
"""Anchors whose elements are made together."""
_FACTORS: Final = (
    *(0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93),
    *(0xA0761D6478BD642F, 0xE7037ED1A0B428DB, 0x8EBC6AF09C88C6E3, 0x589965CC75374CC3),
)
"""Odd, of 64 bits, from xxHash and wyhash."""


NEEDS_NUMPY: Final = "content can be compared only with NumPy: pip install 'dht-torrent[similar]'"


def is_available() -> bool:
    """Whether there is a NumPy."""
    try:
        import numpy  # noqa: F401
    except ImportError:
        return False
    return True


def regions(first: int, end: int) -> Iterable[tuple[int, int]]:
    """Place and length of the regions that begin from `first` to before `end`, in their order. The
    last one of a file may reach beyond its end, which cuts it."""
    if end <= SECOND:
        return ((0, WHOLE),) if first <= 0 < end else ()
    return _regions(first, end)


def _regions(first: int, end: int) -> Iterator[tuple[int, int]]:
    if first <= 0 < end:
        yield 0, WHOLE
    at = max(first, SECOND)
    while at < end:
        stride = _stride(at)
        start = -(-at // stride) * stride
        if start < end and _stride(start) == stride:
            yield start, stride // SHARE
            start += stride
        at = start  # where longer ones may begin


def _stride(at: int) -> int:
    """From one region to the next, at this place or after it: one to each power of two at first,
    then two, and more when they are as wide as may be."""
    power = 1 << at.bit_length() - 1
    return min(power if power < WIDEST else power // 2, WIDEST * SHARE)


class Chunker:
    """Takes regions of files, and keeps the smallest elements of them. For one thread at a time;
    what several have found is joined by `joined`.

    Raises InputError when there is no NumPy."""

    def __init__(self) -> None:
        try:
            import numpy as np
        except ImportError:
            raise InputError(NEEDS_NUMPY) from None
        self._np = np
        size = _BLOCK + WINDOW
        self._view = memoryview(bytearray(size))
        self._buffer = np.frombuffer(self._view, np.uint8)
        self._sums = np.empty(size, np.uint8)
        self._marks = np.zeros(size, np.bool_)
        self._windows = np.lib.stride_tricks.sliding_window_view(self._buffer, WINDOW)
        self._heads = np.lib.stride_tricks.sliding_window_view(self._buffer, 8)
        self._filled = 0
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._dense: list[bool] = []
        self._factors = np.array(_FACTORS, np.uint64)
        self._back = np.array(_FACTORS[::-1], np.uint64)
        self._edges = np.arange(BINS, dtype=np.uint64) << np.uint64(57)
        self._minima = np.full(BINS, EMPTY, np.uint64)
        self._waiting: list[Bytes] = []
        self._count = 0
        """Of the anchors that wait to become elements."""

    def take(self, place: int, content: bytes | bytearray | memoryview) -> None:
        """A region at this place of its file: all of it, or up to the end of the file."""
        is_dense = place == 0
        if len(content) <= _BLOCK:
            self._add(content, is_dense)
            return
        view = memoryview(content)
        for start in range(0, len(view), _BLOCK):
            # What begins in the last bytes of a block ends in the next one.
            self._add(view[start : start + _BLOCK + WINDOW - 1], is_dense)

    def minima(self) -> list[int]:
        """The smallest element of each bin; `EMPTY` where there is none."""
        self._look()
        self._fold()
        return [int(one) for one in self._minima]

    def _add(self, part: bytes | bytearray | memoryview, is_dense: bool) -> None:
        size = len(part)
        if size < WINDOW:
            return
        if self._filled + size > _BLOCK + WINDOW:
            self._look()
        end = self._filled + size
        self._starts.append(self._filled)
        self._ends.append(end)
        self._dense.append(is_dense)
        self._view[self._filled : end] = part
        self._filled = end

    def _look(self) -> None:
        """Find the anchors in the buffer, which then is free for more."""
        if not self._starts:
            return
        np, data = self._np, self._buffer
        size = self._filled - WINDOW + 1
        sums, marks = self._sums[:size], self._marks[:size]
        np.add(data[:size], data[1 : size + 1], out=sums)
        np.add(sums, sums, out=sums)
        np.bitwise_xor(sums, data[2 : size + 2], out=sums)
        np.equal(sums, MARK, out=marks)
        places = marks.nonzero()[0]
        if len(places):
            self._take_anchors(places)
        self._filled = 0
        self._starts, self._ends, self._dense = [], [], []

    def _take_anchors(self, places: Places) -> None:
        """Of the places of marks."""
        np = self._np
        far = np.empty(len(places), np.bool_)
        far[0] = True
        np.greater_equal(places[1:] - places[:-1], WINDOW, out=far[1:])
        if len(self._starts) > 1:
            region = np.searchsorted(self._starts, places, side="right") - 1
            far[1:] |= region[1:] != region[:-1]
            far &= places + WINDOW <= np.array(self._ends, np.intp)[region]
            dense = np.array(self._dense, np.bool_)[region][far]
        else:
            dense = np.array(self._dense, np.bool_)
        places = places[far]
        if not all(self._dense):
            drawn = self._heads[places].view("<u8")[:, 0] * self._factors[7]
            drawn >>= np.uint64(64 - SPARSE)
            places = places[dense | (drawn == 0)]
        windows = self._windows[places]
        self._waiting.append(windows)
        self._count += len(windows)
        if self._count >= _BATCH:
            self._fold()

    def _fold(self) -> None:
        """Make elements of the anchors that wait, and keep the smallest."""
        np = self._np
        if not self._count:
            return
        found = self._elements(np.concatenate(self._waiting))
        self._waiting, self._count = [], 0
        found.sort()
        at = np.searchsorted(found, self._edges)
        # Where a bin has none, this is the smallest of one further up, or the last one below.
        least = found[np.minimum(at, len(found) - 1)]
        has = least >> np.uint64(57) == np.arange(BINS, dtype=np.uint64)
        np.minimum(self._minima, least, out=self._minima, where=has)

    def _elements(self, windows: Bytes) -> Words:
        """A hash of each window."""
        np = self._np
        mixed = windows.view("<u8") * self._factors
        mixed ^= mixed >> np.uint64(32)
        mixed *= self._back
        found: Words = mixed.sum(axis=1, dtype=np.uint64)
        for shift, factor in ((29, 1), (32, 3)):
            found ^= found >> np.uint64(shift)
            found *= self._factors[factor]
        found ^= found >> np.uint64(29)
        return found


def joined(many: Sequence[Sequence[int]]) -> list[int]:
    """The smallest element of each bin, of all of these."""
    return [min(ones) for ones in zip(*many, strict=True)] if many else [EMPTY] * BINS
