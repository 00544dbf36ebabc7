"""How far the word of a peer that names others goes."""

from __future__ import annotations

from dht_torrent.torrent.referrers import (
    CREDIT,
    LONGEST_REST,
    MAX_REFERRERS,
    REWARD,
    UNPROVEN,
    Referrers,
)

ANY_TIME = float("-inf")


def test_a_few_are_tried_at_once_on_credit() -> None:
    subject = Referrers()
    subject.dialled("one")
    subject.settled("one", 0.0, True, 60.0)
    for number in range(CREDIT + REWARD):
        assert subject.not_before("one") == ANY_TIME
        subject.dialled("one")
        assert subject.under_way == subject.debt("one") + REWARD == number + 1
    assert subject.not_before("one") is None
    assert subject.not_before("other") == ANY_TIME
    subject.settled("one", 0.0, None, 60.0)
    assert subject.not_before("one") == ANY_TIME


def test_one_at_a_time_is_tried_until_one_has_worked() -> None:
    subject = Referrers()
    for number in range(UNPROVEN):
        assert subject.not_before("one") == ANY_TIME
        subject.dialled("one")
        assert subject.under_way == subject.debt("one") == number + 1
    assert subject.not_before("one") is None
    assert subject.not_before("other") == ANY_TIME
    subject.settled("one", 0.0, False, 60.0)
    assert subject.not_before("one") == ANY_TIME
    subject.dialled("one")
    assert subject.not_before("one") is None
    subject.settled("one", 0.0, True, 60.0)
    for _ in range(3):
        assert subject.not_before("one") == ANY_TIME
        subject.dialled("one")


def test_each_that_worked_makes_up_for_two_in_vain() -> None:
    subject = Referrers()
    for worked in [True, False, False] * 100:
        assert subject.not_before("one") == ANY_TIME
        subject.dialled("one")
        subject.settled("one", 0.0, worked, 60.0)
    assert subject.debt("one") == 0


def test_the_rest_grows_until_one_works() -> None:
    subject = Referrers()
    for _ in range(CREDIT):
        subject.dialled("one")
        subject.settled("one", 0.0, False, 60.0)
    now, rests = 0.0, []
    for _ in range(7):
        due = subject.not_before("one")
        assert due is not None
        rests.append(due - now)
        now = due
        subject.dialled("one")
        assert subject.not_before("one") is None  # one at a time
        subject.settled("one", now, False, 60.0)
    assert rests == [60.0, 120.0, 240.0, 480.0, LONGEST_REST, LONGEST_REST, LONGEST_REST]
    subject.dialled("one")
    subject.settled("one", now, True, 60.0)
    assert subject.not_before("one") == ANY_TIME  # it is worth another try at once
    for pause in (60.0, 120.0):
        subject.dialled("one")
        subject.settled("one", now, False, 60.0)
        assert subject.not_before("one") == now + pause


def test_the_one_that_was_heard_of_longest_ago_is_forgotten() -> None:
    subject = Referrers()
    for number in range(MAX_REFERRERS + 1):
        subject.dialled(str(number))
        subject.dialled("0")
    assert len(subject) == MAX_REFERRERS
    assert subject.under_way == 2 * (MAX_REFERRERS + 1)
    subject.settled("1", 0.0, False, 60.0)  # forgotten, and its dial is over all the same
    assert subject.debt("1") == 0
    assert subject.under_way == 2 * MAX_REFERRERS + 1
    assert subject.debt("0") == MAX_REFERRERS + 2
