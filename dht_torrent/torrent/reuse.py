"""Which bytes of this disk may be those of a torrent: an older version of it, or another torrent
that has a file in common.

Nothing is known but names and sizes, so these are guesses, and only a piece's hash tells. What
decides here is where to look first, and when to stop. A file's bytes are looked for at the same
place of a file of the same path, of the same size and name, of the same size; where a file has
another size, also as far from its end, as something may have been put in or taken out in its
middle. A piece of several files needs all of its ranges at once.

The pieces that may be here are *held*: not asked of peers until they were looked for. A file in
which one piece after another is not as it was (`PATIENCE` of them) is not held any longer. It is
still looked at, and what peers have not begun by then may be found.

Where something was put in or taken out in several places of a file, what lies between them is as
far from neither of its ends. But each piece of it that comes from peers is a sample: where the same
bytes lie nearby in the local file, its neighbours are likely to be as far off (`probes`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dht_torrent.geometry import PAD, Geometry, Span

PATIENCE = 16
"""Pieces of a file, one after the other, that were looked for in vain until peers may be asked for
the rest of it. Doubles each time, so that a file which is now as it was and now is not costs no
more than a few looks at all its pieces."""
_WEAK_PATIENCE = 4
"""Pieces looked for in vain in a file that has only its size in common with the one wanted, until
it is not looked at any more."""
_FILES = 4
"""Files of this disk that are looked at for one file of the torrent."""

SAMPLE = 64
"""Bytes that are looked for to learn how far off a part of a file is: enough for chance to play no
role, where they are not all alike."""
_WINDOW = 4 << 20
"""They are looked for so far before and behind where they would be: 8 MiB take 5 ms."""
_PROBES = 32
"""Samples of one file, and ..."""
_ALL_PROBES = 512
"""... of one torrent."""
_MOST_PLACES = 8
"""Places that are remembered for one file."""

Attempt = tuple[Span, ...]
"""Where a piece may lie: ranges of local files, by their number, end to end; `PAD` is zeros."""


class Local(NamedTuple):
    """A file of this disk."""

    path: tuple[str, ...]
    """Below its source."""
    length: int
    near: bool
    """Its source was named, by the user or by the torrent, so that the same path alone says
    something. Else the size must be the same too."""


class _Place(NamedTuple):
    """Where the bytes of a torrent's file may lie: in a local file, so many bytes further on."""

    local: int
    shift: int
    weak: bool


class Probe(NamedTuple):
    """Where to look for a sample of what came from peers."""

    at: int
    """Where the `SAMPLE` bytes lie in the content."""
    file: int
    offset: int
    """The same, as a file of the torrent and the place in it."""
    local: int
    """A local file ..."""
    start: int
    length: int
    """... and the bytes of it that may hold them."""


class Reuse:
    """What to look for, piece by piece. All its methods are for one thread at a time."""

    def __init__(
        self,
        geometry: Geometry,
        name: str,
        local: Sequence[Local],
        missing: Iterable[int],
        *,
        attempts: int = 4,
    ) -> None:
        """`name` is the torrent's, `missing` are the pieces to look for. No piece is looked for in
        more than `attempts` places. O(files + pieces)."""
        self._geometry = geometry
        self._lengths = [file.length for file in local]
        self._attempts = attempts
        self._places = _places(geometry, name, local)
        self._misses = [0] * len(geometry.files)
        """Of each file of the torrent, pieces in a row that were not found."""
        self._patience: dict[int, int] = {}
        """How many there may be the next time, where that is not `PATIENCE`."""
        self._doubtful: set[int] = set()
        """Files of which there were too many of these."""
        self._weak_misses: dict[tuple[int, int], int] = {}
        self._waiting = deque(index for index in missing if self.places(index))
        self._left: dict[int, None] = dict.fromkeys(self._waiting)
        self._second: set[int] = set()
        """Those of them that were not where they were looked for first."""
        self._taken: set[int] = set()
        """Pieces that are being looked for now."""
        self._probed: dict[int, int] = {}
        """How many samples of each file were looked for."""
        self._probes_left = _ALL_PROBES

    def __len__(self) -> int:
        """Pieces that are still to be looked for."""
        return len(self._left)

    @property
    def left(self) -> list[int]:
        """These pieces, in the order in which they were given."""
        return list(self._left)

    def held(self) -> list[int]:
        """The pieces that peers are not to be asked for now: those that are being looked for, and
        those that wait for it and are not in doubt."""
        if not self._doubtful:
            return self.left
        taken = self._taken
        return [one for one in self._left if one in taken or not self._is_doubtful(one)]

    def take(self, budget: int) -> list[int]:
        """The next pieces to look for, together no more than `budget` bytes unless it is one. Say
        `found`, `missed` or `drop` of each."""
        taken: list[int] = []
        while self._waiting:
            if self._waiting[0] not in self._left:  # given up meanwhile
                self._waiting.popleft()
                continue
            budget -= self._geometry.piece_size(self._waiting[0])
            if taken and budget < 0:
                break
            taken.append(self._waiting.popleft())
        self._taken.update(taken)
        return taken

    def _done_with(self, index: int) -> None:
        self._taken.discard(index)
        self._second.discard(index)
        self._left.pop(index, None)

    def drop(self, index: int) -> None:
        """It need not be looked for any more."""
        self._done_with(index)

    def places(self, index: int) -> list[Attempt]:
        """Where this piece may be, the likeliest first."""
        geometry = self._geometry
        start = index * geometry.piece_length
        ways: list[list[Span]] = []
        for span in geometry.spans(start, geometry.piece_size(index)):
            if geometry.files[span.file].pad:
                ways.append([Span(PAD, 0, span.length)])
                continue
            fits = []
            for local, shift, _ in self._places[span.file]:
                at = span.offset + shift
                if at >= 0 and at + span.length <= self._lengths[local]:
                    fits.append(Span(local, at, span.length))
            if not fits:
                return []
            ways.append(fits)
        first = tuple(way[0] for way in ways)
        attempts = [first]
        # Most pieces have one file, or are found at once: then the second best of one file each.
        for rank in range(1, max(map(len, ways))):
            for number, way in enumerate(ways):
                if rank < len(way):
                    if len(attempts) == self._attempts:
                        return attempts
                    attempts.append((*first[:number], way[rank], *first[number + 1 :]))
        return attempts

    def found(self, index: int, attempt: Attempt) -> list[int]:
        """The piece was there. Returns pieces to be held again, if they still can be: what was in
        doubt is not any more."""
        self._done_with(index)
        hopeful = set()
        for span, local in zip(self._spans(index), attempt, strict=True):
            if local.file == PAD:
                continue
            if span.file in self._doubtful:
                self._doubtful.remove(span.file)
                hopeful.add(span.file)
            self._misses[span.file] = 0
            # Its neighbours are likely there as well.
            places = self._places[span.file]
            for at, place in enumerate(places):
                if (place.local, place.shift) == (local.file, local.offset - span.offset):
                    places.insert(0, places.pop(at)._replace(weak=False))
                    break
        return [one for one in self._pieces_of(hopeful) if not self._is_doubtful(one)]

    def missed(self, index: int, attempts: Sequence[Attempt]) -> list[int]:
        """It was in none of these places. Returns pieces that are not to be held any more: this
        one, and others that are now in doubt."""
        self._done_with(index)
        doubted = set()
        for number, span in enumerate(self._spans(index)):
            self._misses[span.file] += 1
            patience = self._patience.get(span.file, PATIENCE)
            if self._misses[span.file] >= patience and span.file not in self._doubtful:
                doubted.add(span.file)
                self._patience[span.file] = 2 * patience
            tried = {
                (attempt[number].file, attempt[number].offset - span.offset) for attempt in attempts
            }
            self._tried_in_vain(span.file, tried)
        self._doubtful |= doubted
        gone = [index, *self._pieces_of(doubted)]
        for other in self._second.intersection(gone):
            self._left.pop(other)
        self._second.difference_update(gone)
        return gone

    def probes(self, index: int) -> list[Probe]:
        """What to look for, now that this piece came from peers: it is not where it was looked for,
        but may be elsewhere."""
        found = []
        for span in self._spans(index):
            place = next((one for one in self._places[span.file] if not one.weak), None)
            probed = self._probed.get(span.file, 0)
            if place is None or probed == _PROBES or not self._probes_left:
                continue
            if span.length < SAMPLE:
                continue
            # What was put in comes first: the end of a piece is more likely an old part.
            offset = span.offset + span.length - SAMPLE
            start = max(0, offset + place.shift - _WINDOW)
            stop = min(self._lengths[place.local], offset + place.shift + SAMPLE + _WINDOW)
            if stop - start < SAMPLE:
                continue
            self._probed[span.file] = probed + 1
            self._probes_left -= 1
            at = self._geometry.files[span.file].offset + offset
            found.append(Probe(at, span.file, offset, place.local, start, stop - start))
        return found

    def located(self, probe: Probe, at: int) -> list[int]:
        """The sample of a probe lies at this place of the local file. Returns the pieces that may
        be as far off, its neighbours first: say `again` of those that nobody was asked for."""
        place = _Place(probe.local, at - probe.offset, weak=False)
        others = [
            one
            for one in self._places[probe.file]
            if (one.local, one.shift) != (place.local, place.shift)
        ]
        self._places[probe.file] = [place, *others][:_MOST_PLACES]
        self._misses[probe.file] = 0
        self._doubtful.discard(probe.file)
        here = probe.at // self._geometry.piece_length
        pieces = (
            index
            for index in self._geometry.file_pieces(probe.file)
            if index not in self._left and not self._is_doubtful(index)
        )
        return sorted(pieces, key=lambda index: abs(index - here))

    def again(self, pieces: Iterable[int]) -> None:
        """These are held, to be looked for once more. When too many of them are not there either,
        the rest is given up."""
        for index in pieces:
            self._left[index] = None
            self._second.add(index)
            self._waiting.append(index)

    def _tried_in_vain(self, file: int, tried: set[tuple[int, int]]) -> None:
        places = []
        for place in self._places[file]:
            if place.weak and (place.local, place.shift) in tried:
                key = (file, place.local)
                self._weak_misses[key] = self._weak_misses.get(key, 0) + 1
                if self._weak_misses[key] >= _WEAK_PATIENCE:
                    continue
            places.append(place)
        if len(places) > self._attempts:  # those there was no room for have their turn
            places.sort(key=lambda place: (place.local, place.shift) in tried)
        self._places[file] = places

    def _spans(self, index: int) -> list[Span]:
        start = index * self._geometry.piece_length
        return self._geometry.spans(start, self._geometry.piece_size(index))

    def _pieces_of(self, files: Iterable[int]) -> list[int]:
        """Those of these files that are still to be looked for, save for what is looked for now."""
        pieces = {index for file in files for index in self._geometry.file_pieces(file)}
        return sorted((pieces & self._left.keys()) - self._taken)

    def _is_doubtful(self, index: int) -> bool:
        return not self._doubtful.isdisjoint(self._geometry.piece_files(index))


def _places(geometry: Geometry, name: str, local: Sequence[Local]) -> list[list[_Place]]:
    """For each file of the torrent where its bytes may lie, the likeliest first."""
    by_path: dict[tuple[str, ...], list[int]] = {}
    by_name: dict[str, list[int]] = {}
    by_size: dict[int, list[int]] = {}
    by_both: dict[tuple[str, int], list[int]] = {}
    for number, file in enumerate(local):
        by_path.setdefault(file.path, []).append(number)
        # The folder of another version, below a folder of many.
        by_path.setdefault(("", *file.path[1:]), []).append(number)
        by_name.setdefault(file.path[-1], []).append(number)
        by_size.setdefault(file.length, []).append(number)
        by_both.setdefault((file.path[-1], file.length), []).append(number)
    places: list[list[_Place]] = []
    for wanted in geometry.files:
        found: list[_Place] = []
        places.append(found)
        if wanted.pad or not wanted.length:
            continue
        size, path = wanted.length, wanted.path
        same_path = [
            number
            for key in (path, (name, *path), ("", *path))
            for number in by_path.get(key, ())[:_FILES]
        ]
        ranked = [
            *(number for number in same_path if local[number].length == size),
            *(number for number in same_path if local[number].near),
            *by_both.get((path[-1], size), ())[:_FILES],
        ]
        strong = len(dict.fromkeys(ranked))
        ranked += [
            number
            for number in by_size.get(size, ())[:_FILES]
            if local[number].near or size >= geometry.piece_length
        ]
        ranked += [n for n in by_name.get(path[-1], ())[:_FILES] if local[n].near]
        for rank, number in enumerate(list(dict.fromkeys(ranked))[:_FILES]):
            shift = local[number].length - size
            found += [_Place(number, by, rank >= strong) for by in dict.fromkeys((0, shift))]
    return places
