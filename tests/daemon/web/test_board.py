"""What changed since somebody looked last."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.daemon.web.board import MAX_GONE, Board


def looked(board: Board, rows: dict[str, dict[str, object]]) -> None:
    board.look()
    for name, facts in rows.items():
        board.note(name, facts)
    board.keep(rows)


def test_at_first_all_is_told_and_then_only_what_changed() -> None:
    board = Board()
    looked(board, {"a": {"x": 1, "y": 2}, "b": {"x": 3}})
    first = board.since(0)
    assert (first.all, first.rows) == (True, {"a": {"x": 1, "y": 2}, "b": {"x": 3}})
    looked(board, {"a": {"x": 1, "y": 5}, "b": {"x": 3}})
    news = board.since(first.number)
    assert (news.all, news.rows, news.gone) == (False, {"a": {"y": 5}}, [])
    assert not board.since(news.number)
    assert board.value("a", "y") == 5
    assert "a" in board
    assert "c" not in board


def test_what_went_is_told_and_what_came_back_is_told_whole() -> None:
    board = Board()
    looked(board, {"a": {"x": 1}, "b": {"x": 3}})
    number = board.since(0).number
    looked(board, {"a": {"x": 1}})
    assert board.since(number).gone == ["b"]
    looked(board, {"a": {"x": 1}, "b": {"x": 3}})
    news = board.since(number)
    assert (news.rows, news.gone) == ({"b": {"x": 3}}, [])


def test_a_value_may_become_none_and_a_key_may_come_later() -> None:
    board = Board()
    looked(board, {"a": {"x": None}})
    number = board.since(0).number
    looked(board, {"a": {"x": None, "z": None}})
    assert board.since(number).rows == {"a": {"z": None}}


def test_who_was_away_while_too_much_went_is_told_all() -> None:
    board = Board()
    looked(board, {str(n): {} for n in range(MAX_GONE)})
    early = board.since(0).number
    looked(board, {"new": {}})
    assert len(board.since(early).gone) == MAX_GONE
    late = board.since(early).number
    looked(board, {"newer": {}})
    assert board.since(early).all
    news = board.since(late)
    assert (news.all, news.gone) == (False, ["new"])


FACTS = st.fixed_dictionaries({name: st.integers(0, 2) for name in "xyz"})
ROWS = st.dictionaries(st.sampled_from("abcd"), FACTS)


@given(st.lists(st.tuples(ROWS, st.booleans()), max_size=12))
def test_whoever_looks_now_and_then_knows_what_there_is(
    looks: list[tuple[dict[str, dict[str, object]], bool]],
) -> None:
    board, known, number = Board(), dict[str, dict[str, object]](), 0
    for rows, sees in looks:
        looked(board, rows)
        if sees:
            news = board.since(number)
            if news.all:
                known = {}
            for name in news.gone:
                known.pop(name, None)
            for name, facts in news.rows.items():
                known[name] = known.get(name, {}) | facts
            number = news.number
            assert known == rows
