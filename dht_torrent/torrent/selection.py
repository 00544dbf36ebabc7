"""Which files are wanted: inclusive ranges of their numbers, as magnet links have them (BEP 53), in
any order and perhaps overlapping. None is all.

A piece is wanted if any byte of it lies in a wanted file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from dht_torrent.errors import MetainfoError
from dht_torrent.geometry import Geometry
from dht_torrent.metainfo import Metainfo

Selection = Sequence[tuple[int, int]]


def check_selection(select: Selection | None, metainfo: Metainfo) -> None:
    """Raises MetainfoError if `select` names a file the torrent does not have."""
    count = len(metainfo.files)
    for _, last in select or ():
        if last >= count:
            raise MetainfoError(
                f"there is no file {last}: {metainfo.name} has {count}, numbered from 0"
            )


def is_selected(select: Selection | None, number: int) -> bool:
    return select is None or any(first <= number <= last for first, last in select)


def wanted_pieces(select: Selection | None, geometry: Geometry) -> set[int]:
    if select is None:
        return set(range(geometry.piece_count))
    wanted: set[int] = set()
    for number in range(len(geometry.files)):
        if is_selected(select, number):
            wanted.update(geometry.file_pieces(number))
    return wanted


def piece_ranks(
    select: Selection | None, priorities: Mapping[int, int], geometry: Geometry
) -> bytes | None:
    """For each piece, by the files that are wanted in it: 0 where one has the priority 1 (high), 2
    where all have -1 (low), else 1. None if all wanted files have the same."""
    if len({priorities.get(number, 0) for number, _ in _wanted(select, geometry)}) <= 1:
        return None
    ranks = bytearray(b"\x02" * geometry.piece_count)
    for number, pieces in _wanted(select, geometry):
        rank = 1 - priorities.get(number, 0)
        for index in (pieces.start, pieces.stop - 1):  # these it may share with others
            ranks[index] = min(ranks[index], rank)
        if len(pieces) > 2:
            inside = len(pieces) - 2
            ranks[pieces.start + 1 : pieces.stop - 1] = bytes((rank,)) * inside
    return bytes(ranks)


def _wanted(select: Selection | None, geometry: Geometry) -> Iterator[tuple[int, range]]:
    """Wanted files that have any bytes, and the pieces they lie in."""
    for number, file in enumerate(geometry.files):
        if file.length and not file.pad and is_selected(select, number):
            yield number, geometry.file_pieces(number)


def wanted_empty(select: Selection | None, geometry: Geometry) -> set[int]:
    """Wanted files without a byte, which lie in no piece."""
    return {
        number
        for number, file in enumerate(geometry.files)
        if not file.length and not file.pad and is_selected(select, number)
    }


def wanted_size(select: Selection | None, geometry: Geometry) -> int:
    """Bytes of the wanted pieces."""
    if select is None:
        return geometry.total
    return geometry.size_of(wanted_pieces(select, geometry))
