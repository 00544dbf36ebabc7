from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.peer.permuting import put_in_place


@st.composite
def moves(draw: st.DrawFn) -> tuple[int, int, list[int]]:
    """How many places there are, the first that something lies in, and where it belongs."""
    count = draw(st.integers(1, 12))
    first = draw(st.integers(0, count - 1))
    slots = draw(st.permutations(range(first, count)))
    return count, first, slots[: draw(st.integers(0, len(slots)))]


@given(moves())
def test_everything_gets_to_its_place(case: tuple[int, int, list[int]]) -> None:
    count, first, belongs = case
    whole = bytearray(range(2 * count))
    places = [memoryview(whole)[at : at + 2] for at in range(0, 2 * count, 2)]
    before = [bytes(place) for place in places]
    put_in_place(places, first, belongs)
    assert [bytes(places[to]) for to in belongs] == before[first : first + len(belongs)]
    assert [bytes(place) for place in places[:first]] == before[:first]
    untouched = set(range(first + len(belongs), count)) - set(belongs)
    assert all(bytes(places[at]) == before[at] for at in untouched)


class Counted:
    """A place that counts what is put into it."""

    def __init__(self) -> None:
        self.count = 0

    def __setitem__(self, part: slice, data: object) -> None:
        self.count += 1

    def __bytes__(self) -> bytes:
        self.count += 1
        return b"x"


def test_nothing_is_copied_more_often_than_it_must_be() -> None:
    def copies(first: int, belongs: list[int], count: int = 9) -> int:
        places = [Counted() for _ in range(count)]
        put_in_place(places, first, belongs)  # type: ignore[arg-type]
        return sum(place.count for place in places)

    assert copies(0, list(range(9))) == 0
    assert copies(2, [2, 4, 3, 5]) == 3
    assert copies(0, [1, 2, 3, 0]) == 5
    assert copies(0, [1, 2, 3, 4]) == 4  # each into the next, of which the last was free
