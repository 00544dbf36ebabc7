from __future__ import annotations

import pytest

from dht_torrent.remembering import remembering


def test_what_was_worked_out_is_not_worked_out_again() -> None:
    worked_out: list[int] = []

    @remembering(3)
    def double(number: int) -> int:
        worked_out.append(number)
        return 2 * number

    assert [double(number) for number in (1, 2, 1, 2, 1)] == [2, 4, 2, 4, 2]
    assert worked_out == [1, 2]


def test_what_was_raised_is_not_remembered() -> None:
    tries: list[int] = []

    @remembering(3)
    def refuse(number: int) -> int:
        tries.append(number)
        raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            refuse(1)
    assert tries == [1, 1]


def test_the_one_remembered_for_longest_is_forgotten_and_no_other() -> None:
    worked_out: list[int] = []

    @remembering(10)
    def double(number: int) -> int:
        worked_out.append(number)
        return 2 * number

    for number in range(100):
        double(number)
    assert [double(number) for number in range(90, 100)] == list(range(180, 200, 2))
    assert worked_out == list(range(100))
    assert double(89) == 178
    assert worked_out == [*range(100), 89]


def test_never_more_than_so_many_are_remembered() -> None:
    class Given:
        held = 0

        def __init__(self) -> None:
            Given.held += 1

        def __del__(self) -> None:
            Given.held -= 1

    @remembering(10)
    def make(number: int) -> Given:
        return Given()

    for number in range(1000):
        make(number)
        assert Given.held <= 10
