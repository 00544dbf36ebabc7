from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.geometry import BLOCK, File, Geometry, Span

LENGTHS = st.lists(st.integers(0, 90), min_size=1, max_size=12).filter(any)
GEOMETRIES = st.builds(
    lambda piece_length, lengths: Geometry.of(
        piece_length, [((str(i),), length) for i, length in enumerate(lengths)]
    ),
    st.integers(1, 60),
    LENGTHS,
)


def file_of_each_byte(geometry: Geometry) -> list[int]:
    """The slow and obvious way: for every byte of the content, whose it is."""
    return [i for i, item in enumerate(geometry.files) for _ in range(item.length)]


@given(GEOMETRIES)
def test_pieces_cover_the_content_exactly_once(geometry: Geometry) -> None:
    sizes = [geometry.piece_size(i) for i in range(geometry.piece_count)]
    assert sum(sizes) == geometry.total == sum(item.length for item in geometry.files)
    assert all(size == geometry.piece_length for size in sizes[:-1])
    assert 0 < sizes[-1] <= geometry.piece_length


@given(GEOMETRIES, st.data())
def test_the_bytes_of_some_pieces_are_those_of_each(
    geometry: Geometry, data: st.DataObject
) -> None:
    pieces = data.draw(st.sets(st.integers(0, geometry.piece_count - 1)))
    assert geometry.size_of(pieces) == sum(map(geometry.piece_size, pieces))
    assert geometry.size_of(range(geometry.piece_count)) == geometry.total


@given(GEOMETRIES, st.data())
def test_spans_are_the_bytes_asked_for(geometry: Geometry, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, geometry.total))
    length = data.draw(st.integers(0, geometry.total - start))
    spans = geometry.spans(start, length)
    owners = [span.file for span in spans for _ in range(span.length)]
    assert owners == file_of_each_byte(geometry)[start : start + length]
    at = start
    for span in spans:
        assert span.length > 0
        assert geometry.files[span.file].offset + span.offset == at
        at += span.length
    assert len({span.file for span in spans}) == len(spans)


@given(GEOMETRIES)
def test_file_pieces_and_piece_files_agree_with_counting_bytes(geometry: Geometry) -> None:
    owners = file_of_each_byte(geometry)
    size = geometry.piece_length
    for i, item in enumerate(geometry.files):
        expected = sorted({at // size for at, owner in enumerate(owners) if owner == i})
        assert list(geometry.file_pieces(i)) == expected
        assert bool(expected) == bool(item.length)
    for index in range(geometry.piece_count):
        inside = owners[index * size : (index + 1) * size]
        assert geometry.piece_files(index) == range(inside[0], inside[-1] + 1)


@given(st.integers(1, 5 * BLOCK), st.integers(1, 20 * BLOCK))
def test_blocks_cover_each_piece_exactly_once(piece_length: int, total: int) -> None:
    geometry = Geometry.of(piece_length, [(("x",), total)])
    for index in {0, geometry.piece_count - 1}:
        count = geometry.block_count(index)
        sizes = [geometry.block_size(index, i * BLOCK) for i in range(count)]
        assert sum(sizes) == geometry.piece_size(index)
        assert all(size == BLOCK for size in sizes[:-1])


def test_a_piece_over_three_files_one_of_them_empty() -> None:
    geometry = Geometry.of(10, [(("a",), 4), (("b",), 0), (("c", "d"), 3), (("e",), 20)])
    assert geometry.files[2] == File(("c", "d"), 3, 4)
    assert geometry.spans(2, 9) == [Span(0, 2, 2), Span(2, 0, 3), Span(3, 0, 4)]
    assert geometry.piece_files(0) == range(4)
    assert geometry.piece_files(1) == range(3, 4)
    assert geometry.file_pieces(1) == range(0)
    assert geometry.file_pieces(3) == range(3)
    assert (geometry.total, geometry.piece_count, geometry.piece_size(2)) == (27, 3, 7)


def test_empty_files_at_both_ends_are_passed_over() -> None:
    geometry = Geometry.of(4, [(("a",), 0), (("b",), 6), (("c",), 0)])
    assert geometry.spans(0, 6) == [Span(1, 0, 6)]
    assert geometry.piece_files(0) == geometry.piece_files(1) == range(1, 2)


@given(GEOMETRIES)
def test_what_is_outside_is_our_bug(geometry: Geometry) -> None:
    total, count = geometry.total, geometry.piece_count
    for offset, length in [(-1, 1), (0, -1), (0, total + 1), (total, 1), (total + 1, 0)]:
        with pytest.raises(ValueError, match="inside the content"):
            geometry.spans(offset, length)
    for index in (-1, count):
        with pytest.raises(ValueError, match="no piece"):
            geometry.piece_size(index)
        with pytest.raises(ValueError, match="no piece"):
            geometry.piece_files(index)
    for begin in (-BLOCK, 1, geometry.piece_size(0), BLOCK):
        with pytest.raises(ValueError, match="no block"):
            geometry.block_size(0, begin)


def test_a_geometry_has_bytes_and_files_end_to_end() -> None:
    for files in [(), (File(("a",), 0, 0),), (File(("a",), 1, 1),), (File(("a",), -1, 0),)]:
        with pytest.raises(ValueError, match="must"):
            Geometry(16, files)
    with pytest.raises(ValueError, match="must"):
        Geometry(0, (File(("a",), 1, 0),))
    with pytest.raises(ValueError, match="must"):
        Geometry(16, (File(("a",), 1, 0), File(("b",), 1, 2)))
