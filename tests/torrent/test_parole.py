"""Under suspicion a peer is asked for one whole piece, alone."""

from __future__ import annotations

from itertools import pairwise

import pytest

from dht_torrent.config import TorrentConfig
from dht_torrent.ids import Address, PeerKey
from dht_torrent.torrent import parole as parole_module
from dht_torrent.torrent.bans import MAX_TRUSTED, Bans
from dht_torrent.torrent.parole import STILL_THERE, TURN, Parole, Standing

P1, P2, P3, P4, P5, P6 = map(PeerKey, (1, 2, 3, 4, 5, 6))

CONFIG = TorrentConfig(parole_delay=10.0, local_parole_delay=1.0)
HOST = "127.0.0.1"


def at(port: int, host: str = HOST) -> Address:
    return Address(host, port)


def parole(*peers: int) -> Parole:
    """Each peer at the port of its number."""
    subject = Parole(Bans(CONFIG))
    for peer in map(PeerKey, peers):
        subject.joined(peer, at(peer), 0.0)
    return subject


def test_no_peer_is_on_parole_until_something_failed() -> None:
    subject = parole(1, 2)
    assert subject.standing(P1, 0.0) is None
    assert subject.proved(P1)
    assert not subject.proved(P1)
    assert subject.is_proved(P1)
    assert not subject.is_proved(P2)


def test_a_peer_that_took_part_in_a_failure_is_on_parole_until_cleared() -> None:
    subject = parole(1, 2, 3)
    subject.proved(P1)
    subject.suspect([P1, P2], 7)
    subject.suspect([P2], 8)
    assert not subject.is_proved(P1)
    assert [subject.standing(peer, 0.0) for peer in map(PeerKey, (1, 2, 3))] == [
        Standing.ALONE,
        Standing.ALONE,
        None,
    ]
    subject.cleared([P1, P2], 7)
    assert subject.standing(P1, 0.0) is None
    assert subject.standing(P2, 0.0) is Standing.ALONE
    subject.cleared([P2], 8)
    assert subject.standing(P2, 0.0) is None


def test_a_whole_piece_alone_ends_it() -> None:
    subject = parole(1)
    subject.suspect([P1], 7)
    assert subject.proved(P1)
    assert subject.standing(P1, 0.0) is None


def test_a_peer_that_leaves_uncleared_finds_its_host_on_parole() -> None:
    subject = parole(1, 2)
    subject.suspect([P1], 7)
    subject.left(P1)
    subject.left(P2)
    subject.joined(P3, at(3), 0.0)
    assert subject.standing(P3, 0.0) is Standing.ALONE
    subject.joined(P4, at(4, "8.8.8.8"), 0.0)
    assert subject.standing(P4, 0.0) is None


def test_a_peer_that_proved_itself_is_known_when_it_comes_back() -> None:
    subject = parole(1, 2)
    subject.proved(P1)
    subject.left(P1)
    subject.convicted(P2, at(2), 0.0)
    assert subject.joined(P5, at(1), 0.0)
    assert subject.standing(P5, 0.0) is None
    subject.suspect([P5], 7)
    subject.left(P5)
    assert not subject.joined(P6, at(1), 0.0)
    assert subject.standing(P6, 0.0) is not None


def test_a_conviction_puts_the_unproved_of_its_host_on_parole_at_once() -> None:
    subject = parole(1, 2, 3)
    subject.joined(P4, at(4, "8.8.8.8"), 0.0)
    subject.proved(P3)
    subject.convicted(P1, at(1), 0.0)
    subject.left(P1)
    # Those who were there need not take turns: there are only so many of them.
    assert [subject.standing(peer, 0.0) for peer in map(PeerKey, (2, 3, 4))] == [
        Standing.ALONE,
        None,
        None,
    ]


def test_what_is_held_against_the_host_is_not_cleared_by_a_piece() -> None:
    subject = parole(1, 2, 3)
    subject.convicted(P1, at(1), 0.0)
    subject.suspect([P3], 7)
    subject.cleared([P2, P3], 8)
    assert subject.standing(P2, 0.0) is Standing.ALONE
    assert subject.standing(P3, 0.0) is Standing.ALONE


def test_a_peer_that_is_convicted_after_it_left_has_the_next_one_wait_longer() -> None:
    """Or to leave in time would be the way to come back as often as one likes."""
    bans = Bans(CONFIG)
    subject = Parole(bans)
    for peer in map(PeerKey, (1, 2)):
        subject.joined(peer, at(peer), 0.0)
    subject.convicted(P1, at(1), 0.0)
    assert bans.resumes(at(9)) == 1.0
    subject.left(P2)
    subject.convicted(P2, at(2), 0.0)
    assert bans.resumes(at(9)) == 2.0


def test_those_who_come_later_are_tried_one_at_a_time_and_ever_later() -> None:
    subject = parole(1)
    subject.convicted(P1, at(1), 0.0)
    subject.left(P1)
    now, times = 0.0, []
    for peer in map(PeerKey, range(2, 6)):
        subject.joined(peer, at(peer), now)
    for peer in map(PeerKey, range(2, 6)):
        while subject.standing(peer, now) is not Standing.ALONE:
            others = map(PeerKey, range(peer + 1, 6))
            assert all(subject.standing(other, now) is Standing.WAITING for other in others)
            now += 0.5
        times.append(now)
        assert subject.standing(P5, now) is (Standing.ALONE if peer == 5 else Standing.WAITING)
        subject.convicted(peer, at(peer), now)
        subject.left(peer)
    assert times == [1.0, 3.0, 7.0, 15.0]
    assert not subject._turns


def test_an_honest_peer_among_those_who_come_back_has_its_turn() -> None:
    """Liars come back at once; the honest one waits in line and is not overtaken."""
    subject = parole(1)
    subject.convicted(P1, at(1), 0.0)
    subject.left(P1)
    liars, honest = [PeerKey(number) for number in (10, 11, 12)], PeerKey(13)
    now, last = 0.0, honest
    for peer in (*liars, honest):
        subject.joined(peer, at(peer), now)
    for peer in (*liars, honest):
        assert subject.standing(peer, now) is Standing.WAITING
    lies = 0
    while subject.standing(honest, now) is not Standing.ALONE:
        for peer in list(liars):
            if subject.standing(peer, now) is Standing.ALONE:
                lies += 1
                subject.convicted(peer, at(peer), now)
                subject.left(peer)
                liars.remove(peer)
                last = PeerKey(last + 1)
                liars.append(last)
                subject.joined(last, at(last), now)
        now += 1.0
    assert lies == 3
    assert now == 15.0
    subject.proved(honest)
    assert subject.standing(honest, now) is None


def test_a_turn_passes_on_when_nothing_comes_of_it_and_lasts_longer_the_next_time() -> None:
    subject = parole(1)
    subject.convicted(P1, at(1), 0.0)
    subject.left(P1)
    for peer in map(PeerKey, (2, 3)):
        subject.joined(peer, at(peer), 0.0)
    begun: list[tuple[int, int]] = []
    for second in range(1, 300):
        turn = [
            peer
            for peer in map(PeerKey, (2, 3))
            if subject.standing(peer, second) is Standing.ALONE
        ]
        assert len(turn) <= 1
        if turn and (not begun or begun[-1][0] != turn[0]):
            begun.append((turn[0], second))
    assert [peer for peer, _ in begun[:4]] == [2, 3, 2, 3]
    lengths = [after[1] - before[1] for before, after in pairwise(begun)]
    assert all(
        abs(got - want) <= 2 for got, want in zip(lengths, [TURN, TURN, 2 * TURN], strict=False)
    )


def test_no_peer_loses_a_turn_to_one_that_is_not_there() -> None:
    subject = parole(1)
    subject.convicted(P1, at(1), 0.0)
    for peer in map(PeerKey, (2, 3)):
        subject.joined(peer, at(peer), 0.0)
    assert subject.standing(P2, 0.5) is Standing.WAITING  # then it chokes us, say
    assert subject.standing(P3, 1.0) is Standing.WAITING
    assert subject.standing(P3, 0.6 + STILL_THERE) is Standing.ALONE
    assert subject.standing(P3, 1000.0) is Standing.ALONE  # and alone it may take its time


def test_what_is_remembered_is_bounded() -> None:
    subject = parole()
    for number in map(PeerKey, range(3000)):
        address = Address(f"9.{number >> 16}.{number >> 8 & 255}.{number & 255}", 5)
        subject.joined(number, address, 0.0)
        if number % 2:
            subject.suspect([number], 0)
        else:
            subject.proved(number)
        subject.left(number)
    assert len(subject._left) == parole_module.MAX_REMEMBERED
    assert len(subject._bans._trusted) == MAX_TRUSTED
    for held in (subject._addresses, subject._proved, subject._pieces, subject._by_turns):
        assert not held


def test_turns_go_round_and_a_peer_that_had_one_comes_last() -> None:
    subject = parole(1)
    subject.convicted(P1, at(1), 0.0)
    for peer in map(PeerKey, (2, 3, 4)):
        subject.joined(peer, at(peer), 0.0)
    had: list[int] = []
    for second in range(1, 300):
        for peer in map(PeerKey, (2, 3, 4)):
            turn = subject.standing(peer, second) is Standing.ALONE
            if turn and had[-1:] != [peer]:
                had.append(peer)
    assert had[:6] == [2, 3, 4, 2, 3, 4]


@pytest.mark.parametrize("ended", ["proved", "left"])
def test_when_a_turn_has_ended_the_next_one_begins_at_once(ended: str) -> None:
    subject = parole(1)
    subject.convicted(P1, at(1), 0.0)
    for peer in map(PeerKey, (2, 3, 4)):
        subject.joined(peer, at(peer), 0.0)
    assert subject.standing(P2, 1.0) is Standing.ALONE
    for peer in map(PeerKey, (3, 4)):
        assert subject.standing(peer, 1.0) is Standing.WAITING
    getattr(subject, ended)(2)
    subject.left(P3)  # while it waited
    assert subject.standing(P4, 1.0) is Standing.ALONE


def test_a_peer_that_proved_itself_is_proved_when_it_comes_back_until_it_is_convicted() -> None:
    subject = parole(1)
    subject.proved(P1)
    subject.left(P1)
    assert subject.joined(P2, at(1), 0.0)
    assert subject.is_proved(P2)
    subject.convicted(P2, at(1), 0.0)
    subject.left(P2)
    assert not subject.joined(P3, at(1), 0.0)
    assert not subject.is_proved(P3)


def test_a_place_that_was_left_uncleared_again_is_not_the_next_to_be_forgotten() -> None:
    subject = parole()
    again = at(1, "8.8.8.8")
    others = [at(1, f"9.0.{n >> 8}.{n & 255}") for n in range(parole_module.MAX_REMEMBERED)]
    for number, address in enumerate([again, *others[1:], again, others[0]]):
        peer = PeerKey(number)
        subject.joined(peer, address, 0.0)
        subject.suspect([peer], 0)
        subject.left(peer)
    subject.joined(PeerKey(-1), again, 0.0)
    subject.joined(PeerKey(-2), others[1], 0.0)
    assert subject.standing(PeerKey(-1), 0.0) is Standing.ALONE
    assert subject.standing(PeerKey(-2), 0.0) is None


def test_a_peer_that_leaves_with_nothing_held_against_it_leaves_no_parole_behind() -> None:
    subject = parole(1, 2)
    subject.suspect([P2], 7)
    subject.cleared([P2], 7)
    subject.left(P1)
    subject.left(P2)
    subject.joined(P3, at(3), 0.0)
    assert subject.standing(P3, 0.0) is None
