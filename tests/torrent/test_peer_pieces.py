"""What one peer may be asked for."""

from __future__ import annotations

from dht_torrent.ids import PeerKey
from dht_torrent.torrent.peer_pieces import (
    FIRST_PAUSE,
    MAX_LATE,
    MAX_REFUSALS,
    REFUSAL_PAUSE,
    PeerPieces,
)
from dht_torrent.torrent.pieces import Bitfield

P1 = PeerKey(1)


def peer(*pieces: int) -> PeerPieces:
    return PeerPieces(P1, Bitfield(5000, pieces))


def test_a_peer_may_be_asked_for_what_it_has() -> None:
    subject = peer(3)
    assert [subject.can(index, 0.0) for index in (2, 3)] == [False, True]
    subject.all = True
    assert [subject.can(index, 0.0) for index in (2, 3)] == [True, True]


def test_a_piece_it_rejected_is_asked_for_after_a_pause_that_doubles() -> None:
    subject, now, pauses = peer(3, 4), 0.0, []
    for _ in range(20):
        subject.refuse(3)
        subject.refuse(3)  # of the same question
        assert subject.can(3, now)  # until the next question
        subject.pause_refused(now)
        assert subject.can(4, now)
        until = subject.paused[3]
        assert not subject.can(3, until - 0.01)
        assert subject.can(3, until)
        assert not subject.paused
        pauses.append(until - now)
        now = until
    assert pauses == [min(FIRST_PAUSE * 2**n, REFUSAL_PAUSE) for n in range(20)]


def test_what_it_rejected_and_what_may_come_late_is_bounded() -> None:
    subject = peer()
    for number in range(MAX_REFUSALS + 10):
        subject.refuse(number)
        subject.refused.clear()
    assert list(subject.refusals) == list(range(10, MAX_REFUSALS + 10))
    for number in range(MAX_LATE + 10):
        subject.remember_late((number, 0, 1))
    assert [block[0] for block in subject.late] == list(range(10, MAX_LATE + 10))


def test_of_what_it_rejected_the_last_is_remembered() -> None:
    subject = peer()
    for number in (0, *range(1, MAX_REFUSALS), 0, MAX_REFUSALS):
        subject.refuse(number)
        subject.pause_refused(0.0)
    assert subject.refusals[0] == min(2 * FIRST_PAUSE, REFUSAL_PAUSE)
    assert 1 not in subject.refusals
