"""Whose turn it is, where only so many torrents may be at work."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.ids import InfoHash
from dht_torrent.torrent.queueing import Waiting, Work, turns


def name(number: int) -> InfoHash:
    return InfoHash(number.to_bytes(20, "big"))


def waiting(number: int, work: Work = "download", *, stalled: bool = False) -> Waiting:
    return Waiting(name(number), work, runs=stalled, stalled=stalled)


kinds: list[Work] = ["download", "seed"]
queues = st.lists(st.tuples(st.sampled_from(kinds), st.booleans(), st.booleans()), max_size=20).map(
    lambda rows: [Waiting(name(at), *row) for at, row in enumerate(rows)]
)
bounds = st.none() | st.integers(0, 6)


def test_the_first_of_the_queue_have_their_turns_and_the_two_kinds_do_not_wait_for_each_other() -> (
    None
):
    queue = [waiting(1), waiting(2, "seed"), waiting(3), waiting(4, "seed"), waiting(5)]
    assert turns(queue, 2, 1) == {name(1), name(2), name(3)}
    assert turns(queue, None, None) == {name(number) for number in range(1, 6)}
    assert turns(queue, 0, None) == {name(2), name(4)}


def test_one_in_which_nothing_moves_goes_on_and_takes_no_turn() -> None:
    queue = [waiting(1, stalled=True), waiting(2), waiting(3)]
    assert turns(queue, 1, None) == {name(1), name(2)}


@given(queues, bounds, bounds)
def test_no_more_than_wanted_are_at_work_and_none_is_passed_over(
    queue: list[Waiting], downloads: int | None, seeds: int | None
) -> None:
    admitted = turns(queue, downloads, seeds)
    for work, most in (("download", downloads), ("seed", seeds)):
        moving = [one for one in queue if one.work == work and not (one.runs and one.stalled)]
        counted = [one.info_hash in admitted for one in moving]
        assert sum(counted) == (len(moving) if most is None else min(most, len(moving)))
        assert counted == sorted(counted, reverse=True)  # the first of the queue
    assert all(one.info_hash in admitted for one in queue if one.runs and one.stalled)
