"""Which pieces are wanted when only some files are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.errors import MetainfoError
from dht_torrent.torrent.selection import (
    check_selection,
    is_selected,
    wanted_empty,
    wanted_pieces,
    wanted_size,
)
from tests.helpers.storages import PIECE, torrent

ALBUM = torrent(("a", PIECE + 1), ("b", PIECE), ("empty", 0), ("c", 5 * PIECE), ("d", 7))
ranges = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 4)).map(lambda pair: (min(pair), max(pair)))
)


@given(ranges)
def test_a_piece_is_wanted_if_a_byte_of_it_is_in_a_wanted_file(
    select: list[tuple[int, int]],
) -> None:
    wanted = {
        at // PIECE
        for number, file in enumerate(ALBUM.files)
        if any(first <= number <= last for first, last in select)
        for at in range(file.offset, file.offset + file.length)
    }
    assert wanted_pieces(select, ALBUM.geometry) == wanted
    assert wanted_size(select, ALBUM.geometry) == sum(map(ALBUM.geometry.piece_size, wanted))


def test_without_a_choice_all_is_wanted() -> None:
    assert all(is_selected(None, number) for number in range(5))
    assert wanted_pieces(None, ALBUM.geometry) == set(range(ALBUM.geometry.piece_count))
    assert wanted_size(None, ALBUM.geometry) == ALBUM.geometry.total
    check_selection(None, ALBUM)


def test_a_file_that_is_not_there_cannot_be_wanted() -> None:
    check_selection([(0, 4)], ALBUM)
    with pytest.raises(MetainfoError, match="no file 5: album has 5, numbered from 0"):
        check_selection([(0, 1), (4, 5)], ALBUM)


def test_wanted_files_without_a_byte_are_told_apart_from_padding() -> None:
    meta = torrent(("a", 5), ("empty", 0), ("pad", 0), ("other", 0), pads=[2])
    assert wanted_empty(None, meta.geometry) == {1, 3}
    assert wanted_empty([(0, 1)], meta.geometry) == {1}
    assert wanted_empty([(0, 0)], meta.geometry) == set()
