"""Which pieces readers need next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.geometry import Geometry
from dht_torrent.torrent.pieces import Bitfield
from dht_torrent.torrent.reading import MAX_URGENT, ReadingPlace, urgent, window

LENGTH = 100
GEOMETRY = Geometry.of(LENGTH, [(("a",), 450), (("b",), 2550)])


def test_a_window_is_what_comes_next_and_two_pieces_at_least() -> None:
    assert window(ReadingPlace(0, 450), 250, GEOMETRY) == range(3)
    assert window(ReadingPlace(199, 450), 1, GEOMETRY) == range(1, 3)
    assert window(ReadingPlace(150, 450), 101, GEOMETRY) == range(1, 3)
    assert window(ReadingPlace(150, 450), 151, GEOMETRY) == range(1, 4)


def test_a_window_ends_with_the_file() -> None:
    assert window(ReadingPlace(300, 450), 10_000, GEOMETRY) == range(3, 5)
    assert window(ReadingPlace(440, 450), 10_000, GEOMETRY) == range(4, 5)
    assert window(ReadingPlace(450, 450), 10_000, GEOMETRY) == range(0)


def test_readers_take_turns() -> None:
    have = Bitfield(GEOMETRY.piece_count, [1])
    places = [ReadingPlace(0, 450), ReadingPlace(1000, 3000), ReadingPlace(0, 450)]
    assert urgent(places, 300, GEOMETRY, have) == (0, 10, 2, 11, 12)


def test_nobody_needs_what_is_here() -> None:
    have = Bitfield(GEOMETRY.piece_count, range(GEOMETRY.piece_count))
    assert urgent([ReadingPlace(0, 3000)], 3000, GEOMETRY, have) == ()


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), max_size=8),
    st.integers(1, 10**6),
)
def test_what_is_urgent_is_bounded_and_there(places: list[tuple[int, int]], ahead: int) -> None:
    geometry = Geometry.of(LENGTH, [(("a",), 10**6)])
    readers = [ReadingPlace(min(place), max(place)) for place in places]
    pieces = urgent(readers, ahead, geometry, Bitfield(geometry.piece_count))
    assert len(pieces) == len(set(pieces)) <= MAX_URGENT
    assert all(0 <= index < geometry.piece_count for index in pieces)
    firsts = {place.at // LENGTH for place in readers if place.at < place.end}
    assert firsts <= set(pieces)
