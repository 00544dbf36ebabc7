"""Where a torrent's pieces may lie on this disk, and when it is no use to look on."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.geometry import PAD, File, Geometry, Span
from dht_torrent.torrent.reuse import PATIENCE, Attempt, Local, Reuse

PIECE = 1000


def geometry(*files: tuple[str, int]) -> Geometry:
    return Geometry.of(PIECE, [(tuple(path.split("/")), length) for path, length in files])


def local(path: str, length: int, *, near: bool = True) -> Local:
    return Local(tuple(path.split("/")), length, near)


def reuse(
    wanted: Geometry,
    *files: Local,
    missing: Sequence[int] | None = None,
    name: str = "album",
    **options: int,
) -> Reuse:
    pieces = range(wanted.piece_count) if missing is None else missing
    return Reuse(wanted, name, files, pieces, **options)


def files_of(subject: Reuse, index: int) -> list[tuple[int, ...]]:
    return [tuple(span.file for span in attempt) for attempt in subject.places(index)]


# -- where to look ------------------------------------------------------------------------------


def test_the_same_path_comes_first_whatever_else_has_the_size() -> None:
    wanted = geometry(("sub/a", 3000))
    found = reuse(
        wanted,
        local("x", 3000),
        local("other/a", 3000),
        local("sub/a", 2500),
        local("sub/a", 3000),
    )
    # Of another size: as far from its beginning, and as far from its end.
    assert found.places(1) == [
        (Span(3, 1000, 1000),),
        (Span(2, 1000, 1000),),
        (Span(2, 500, 1000),),
        (Span(1, 1000, 1000),),
    ]
    assert (Span(0, 1000, 1000),) in reuse(wanted, local("x", 3000)).places(1)


@pytest.mark.parametrize("path", ["a/b", "album/a/b", "album-1.0/a/b", "elsewhere/b"])
def test_a_file_is_known_by_its_path_below_the_source_the_torrent_or_another_version(
    path: str,
) -> None:
    wanted = geometry(("a/b", 3000))
    assert files_of(reuse(wanted, local(path, 2999)), 0) == [(0,)]
    assert files_of(reuse(wanted, local(path, 3000, near=False)), 0) == [(0,)]
    assert reuse(wanted, local(path, 2999, near=False)).places(0) == []


def test_a_file_of_another_torrent_needs_the_size_and_more_than_that_if_it_is_small() -> None:
    small, large = geometry(("a", 900)), geometry(("a", 1000))
    assert reuse(small, local("x", 900, near=False)).places(0) == []
    assert files_of(reuse(small, local("x/a", 900, near=False)), 0) == [(0,)]
    assert files_of(reuse(large, local("x", 1000, near=False)), 0) == [(0,)]
    assert files_of(reuse(small, local("x", 900)), 0) == [(0,)]


def test_what_lies_beyond_the_end_of_a_file_cannot_be_there() -> None:
    wanted = geometry(("a", 4500))
    found = reuse(wanted, local("a", 2200))
    assert [bool(found.places(index)) for index in range(5)] == [True, True, False, True, True]
    assert found.places(3) == [(Span(0, 700, 1000),)]
    assert found.left == [0, 1, 3, 4]


def test_a_piece_of_several_files_needs_all_of_them() -> None:
    wanted = geometry(("a", 1500), ("b", 1000), ("c", 500))
    found = reuse(wanted, local("a", 1500), local("c", 500))
    assert found.left == [0]
    found = reuse(wanted, local("a", 1500), local("c", 500), local("b", 1000))
    assert found.places(1) == [(Span(0, 1000, 500), Span(2, 0, 500))]
    assert found.places(2) == [(Span(2, 500, 500), Span(1, 0, 500))]


def test_pads_are_zeros_wherever_one_looks() -> None:
    files = (
        File(("a",), 600, 0),
        File((".pad", "400"), 400, 600, pad=True),
        File(("b",), 10, 1000),
    )
    found = reuse(Geometry(PIECE, files), local("a", 600), local(".pad/400", 400))
    assert found.places(0) == [(Span(0, 0, 600), Span(PAD, 0, 400))]
    assert found.left == [0]


def test_no_piece_is_looked_for_in_more_places_than_allowed() -> None:
    wanted = geometry(*((f"{number}", 100) for number in range(10)))
    copies = [local(f"{copy}/{number}", 100) for number in range(10) for copy in "abcdef"]
    for most in (1, 4, 7):
        attempts = reuse(wanted, *copies, attempts=most).places(0)
        assert len(attempts) == len(set(attempts)) == most


def test_only_what_is_missing_is_looked_for_and_in_its_order() -> None:
    found = reuse(geometry(("a", 5000)), local("a", 5000), missing=[3, 1])
    assert found.held() == found.left == [3, 1]
    assert (found.take(10), found.take(10_000), found.take(10_000)) == ([3], [1], [])
    assert len(found) == 2
    found.drop(3)
    assert found.left == [1]


def test_pieces_are_taken_up_to_a_number_of_bytes() -> None:
    found = reuse(geometry(("a", 5000)), local("a", 5000))
    assert (found.take(2000), found.take(2999), found.take(2000)) == ([0, 1], [2, 3], [4])


# -- what was found, and what not ---------------------------------------------------------------


def test_where_one_piece_was_the_next_is_looked_for_first() -> None:
    found = reuse(geometry(("a", 9000)), local("a", 9100), local("y/x/a", 9000))
    at, from_end, other = found.places(4)
    assert (at[0].offset, from_end[0].offset, other[0].file) == (4000, 4100, 1)
    assert found.found(4, from_end) == []
    assert found.places(5)[0] == (Span(0, 5100, 1000),)
    found.found(5, found.places(5)[2])
    assert found.places(6)[0] == (Span(1, 6000, 1000),)


def test_a_file_with_nothing_but_its_size_is_given_up_soon() -> None:
    found = reuse(geometry(("a", 9000)), local("x", 9000, near=False))
    for index in range(4):
        assert found.missed(index, found.places(index)) == [index]
    assert found.places(4) == []
    kept = reuse(geometry(("a", 9000)), local("x", 9000, near=False))
    kept.found(0, kept.places(0)[0])  # it is the same, if not in all places
    for index in range(1, 8):
        kept.missed(index, kept.places(index))
    assert kept.places(8)
    named = reuse(geometry(("a", 9000)), local("a", 9000))
    for index in range(8):
        named.missed(index, named.places(index))
    assert named.places(8)


def test_places_there_was_no_room_for_have_their_turn() -> None:
    found = reuse(geometry(("a", 3000)), *(local(f"{n}/a", 3000) for n in range(4)), attempts=3)
    first = found.places(0)
    found.missed(0, first)
    assert files_of(found, 1)[0] == (3,)
    assert len(found.places(1)) == 3


def test_a_file_that_disappoints_is_held_no_longer_and_again_when_it_does_not() -> None:
    count = PATIENCE + 10
    wanted = geometry(("a", count * PIECE), ("b", 2 * PIECE))
    found = reuse(wanted, local("a", count * PIECE), local("b", 2 * PIECE))
    for index in range(PATIENCE - 1):
        assert found.missed(index, found.places(index)) == [index]
    rest = list(range(PATIENCE, count))
    assert found.missed(PATIENCE - 1, found.places(PATIENCE - 1)) == [PATIENCE - 1, *rest]
    assert found.held() == [count, count + 1]
    assert found.missed(PATIENCE, found.places(PATIENCE)) == [PATIENCE]
    again = found.found(PATIENCE + 1, found.places(PATIENCE + 1)[0])
    assert again == rest[2:]
    assert found.held() == [*rest[2:], count, count + 1]
    assert found.found(PATIENCE + 2, found.places(PATIENCE + 2)[0]) == []
    assert len(found) == 9


def test_a_file_that_disappoints_now_and_then_costs_ever_less() -> None:
    count = 40 * PATIENCE
    found = reuse(geometry(("a", count * PIECE)), local("a", count * PIECE))
    changes = []
    while taken := found.take(PIECE):
        (index,) = taken
        places = found.places(index)
        if index % (PATIENCE + 2) == PATIENCE + 1:
            assert found.found(index, places[0]) in ([], found.left)
        elif len(found.missed(index, places)) > 1:
            changes.append(index)
    assert changes == [PATIENCE - 1]  # the second time it may be twice as many


# -- samples of what came from peers ------------------------------------------------------------


def test_a_sample_tells_how_far_off_its_neighbours_are() -> None:
    found = reuse(geometry(("a", 20_000)), local("a", 20_500))
    while taken := found.take(PIECE):
        found.missed(taken[0], found.places(taken[0]))
    (probe,) = found.probes(10)
    assert (probe.at, probe.file, probe.offset) == (10_936, 0, 10_936)
    assert (probe.local, probe.start, probe.length) == (0, 0, 20_500)
    pieces = found.located(probe, 11_136)
    assert pieces[:5] == [10, 9, 11, 8, 12]
    assert sorted(pieces) == list(range(20))
    assert len(found) == 0
    found.again([11, 12, 3])
    assert (found.take(10 * PIECE), found.held()) == ([11, 12, 3], [11, 12, 3])
    assert found.places(11)[0] == (Span(0, 11_200, 1000),)
    assert found.places(3)[0] == (Span(0, 3_200, 1000),)


def test_a_sample_is_looked_for_near_where_it_would_be() -> None:
    size = 40 << 20
    found = Reuse(Geometry.of(1 << 20, [(("a",), size)]), "a", [local("a", size + 100)], [0])
    (probe,) = found.probes(20)
    assert probe.start == probe.offset - (4 << 20)
    assert probe.length == (8 << 20) + 64
    found.located(probe, probe.offset + 100)
    (probe,) = found.probes(39)
    assert probe.start == probe.offset + 100 - (4 << 20)
    assert probe.start + probe.length == size + 100


def test_files_that_are_not_here_or_small_or_only_alike_in_size_give_no_samples() -> None:
    wanted = geometry(("a", 900), ("tiny", 63), ("b", 2037))
    found = reuse(wanted, local("tiny", 63), local("x", 2037, near=False))
    assert [found.probes(index) for index in range(3)] == [[], [], []]
    found = reuse(wanted, local("a", 900), local("tiny", 63))
    assert [probe.file for probe in found.probes(0)] == [0]


def test_samples_are_counted() -> None:
    found = reuse(geometry(("a", 40_000), ("b", 1_000)), local("a", 40_001), local("b", 1_000))
    assert sum(len(found.probes(index)) for index in range(40)) == 32
    assert len(found.probes(40)) == 1
    many = [(f"{number}", 100) for number in range(600)]
    found = reuse(geometry(*many), *(local(*one) for one in many))
    assert sum(len(found.probes(index)) for index in range(60)) == 512


def test_what_a_sample_promises_is_given_up_when_it_is_not_kept() -> None:
    count = 4 * PATIENCE
    found = reuse(geometry(("a", count * PIECE)), local("a", count * PIECE + 500), missing=[0])
    assert found.take(1) == [0]
    found.missed(0, found.places(0))
    (probe,) = found.probes(0)
    pieces = found.located(probe, probe.offset + 7)
    found.again(pieces)
    for index in pieces[: PATIENCE - 1]:
        assert found.take(1) == [index]
        assert found.missed(index, found.places(index)) == [index]
    last = pieces[PATIENCE - 1]
    assert found.take(1) == [last]
    assert sorted(found.missed(last, found.places(last))) == sorted(pieces[PATIENCE - 1 :])
    assert (len(found), found.take(1), found.held()) == (0, [], [])
    again = found.located(found.probes(30)[0], 30_936 + 7)  # a later one is listened to
    assert sorted(again) == list(range(count))


# -- whatever lies there ------------------------------------------------------------------------

sizes = st.lists(st.integers(0, 2500), min_size=1, max_size=6).filter(any)
paths = st.sampled_from(["a", "b", "x/a", "album/b", "x/y/c"])
locals_ = st.lists(st.builds(local, paths, st.integers(1, 3000), near=st.booleans()), max_size=8)


@given(sizes, locals_, st.integers(1, 5), st.randoms(use_true_random=False))
def test_every_place_is_inside_its_file_and_every_piece_comes_to_an_end(
    lengths: list[int], files: list[Local], most: int, rng: random.Random
) -> None:
    names = ["a", "b", "x/a", "x/y/c", "d", "e"]
    wanted = geometry(*zip(names, lengths, strict=False))
    found = reuse(wanted, *files, attempts=most)
    held = set(found.held())
    assert held == {i for i in range(wanted.piece_count) if found.places(i)}
    here: set[int] = set()
    while pieces := found.take(2500):
        for index in pieces:
            attempts = found.places(index)
            check(attempts, wanted, index, files, most)
            if attempts and rng.random() < 0.5:
                held |= set(found.found(index, rng.choice(attempts)))
                held.discard(index)
                here.add(index)
            else:
                held -= set(found.missed(index, attempts))
            assert held == set(found.held())
        for probe in found.probes(rng.randrange(wanted.piece_count)):
            assert 0 <= probe.start <= probe.start + probe.length <= files[probe.local].length
            assert probe.at == wanted.files[probe.file].offset + probe.offset
            again = set(found.located(probe, rng.randrange(probe.start, probe.start + 9))) - here
            found.again(sorted(again))
            held |= again
    assert len(found) == 0
    assert held == set()


def check(
    attempts: list[Attempt], wanted: Geometry, index: int, files: list[Local], most: int
) -> None:
    assert len(attempts) <= most
    assert len(attempts) == len(set(attempts))
    for attempt in attempts:
        assert sum(span.length for span in attempt) == wanted.piece_size(index)
        for span in attempt:
            assert 0 <= span.offset <= span.offset + span.length <= files[span.file].length
