"""Which files are wanted: inclusive ranges of their numbers, as magnet links have them (BEP 53), in
any order and perhaps overlapping. None is all.

A piece is wanted if any byte of it lies in a wanted file.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    return sum(map(geometry.piece_size, wanted_pieces(select, geometry)))
