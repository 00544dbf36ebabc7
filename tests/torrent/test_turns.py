"""What all torrents share is shared fairly, and never asked too often."""

from __future__ import annotations

from dht_torrent.torrent.turns import Turns


def test_a_few_turns_are_saved_up_and_then_they_come_evenly() -> None:
    turns = Turns(30.0, saved=2)
    at = []
    for _ in range(6):
        turns.join(0)
        now = max(100.0, turns.due())
        turns.take(now)
        at.append(now)
    assert at == [100.0, 100.0, 100.0, 102.0, 104.0, 106.0]


def test_the_fewest_turns_come_first_and_then_the_longest_wait() -> None:
    turns = Turns(30.0)
    often, first, second = turns.join(5), turns.join(1), turns.join(1)
    assert turns.first() == first
    turns.take(0.0)
    assert turns.first() == second
    turns.leave(second)
    turns.leave(second)
    assert turns.first() == often
    assert len(turns) == 1
    turns.take(0.0)
    assert turns.first() is None
