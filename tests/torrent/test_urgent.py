"""What a reader waits for comes before all else."""

from __future__ import annotations

from collections.abc import Sequence

from dht_torrent.torrent.piece_states import State
from tests.torrent.test_picker import P1, P2, P3, ask, give, picker, seeds


def pieces_of(blocks: Sequence[tuple[int, int, int]]) -> list[int]:
    """In order, each once."""
    return list(dict.fromkeys(block[0] for block in blocks))


def test_urgent_pieces_come_first_and_in_their_order() -> None:
    subject = picker(12, random_first_pieces=0)
    subject.urgent = (9, 3, 10)
    seeds(subject, P1)
    assert pieces_of(ask(subject, P1))[:3] == [9, 3, 10]


def test_a_peer_leaves_its_piece_for_one_that_is_urgent() -> None:
    subject = picker(4)
    seeds(subject, P1)
    (first,) = ask(subject, P1, room=1)
    urgent = (first.index + 1) % 4
    subject.urgent = (urgent,)
    assert pieces_of(ask(subject, P1, room=4)) == [urgent]
    assert pieces_of(ask(subject, P1, room=3)) == [first.index], "and comes back to it"


def test_all_peers_share_the_blocks_of_an_urgent_piece() -> None:
    subject = picker(4, 8)
    subject.urgent = (2, 1)
    subject.helpers = 3
    seeds(subject, P1, P2, P3)
    asked = [ask(subject, peer, room=6) for peer in (P1, P2, P3)]
    assert [[block.index for block in blocks] for blocks in asked[:2]] == [[2] * 3 + [1] * 3] * 2
    blocks = [block for blocks in asked for block in blocks if block.index == 2]
    assert len(blocks) == len(set(blocks)) == 8


def test_a_hurried_piece_is_asked_of_one_more() -> None:
    subject = picker(4, 2, endgame_copies=2)
    subject.urgent = (1, 2)
    seeds(subject, P1, P2, P3)
    slow = ask(subject, P1, room=2)
    subject.hurried = (1,)
    again = ask(subject, P2, room=4)
    assert again[:2] == slow
    assert pieces_of(again[2:]) == [2], "and others are not asked for twice"
    assert 1 not in pieces_of(ask(subject, P3)), "two are enough"
    outcome = give(subject, P2, again[0])
    assert outcome is not None
    assert outcome.cancels == ((P1, slow[0]),)


def test_who_lacks_an_urgent_piece_works_on_others() -> None:
    subject = picker(4)
    subject.urgent = (1,)
    subject.peer_joined(P1)
    subject.holdings.peer_has(P1, 3)
    assert pieces_of(ask(subject, P1)) == [3]


def test_what_is_not_wanted_is_not_asked_for_however_urgent() -> None:
    subject = picker(4)
    subject.select({0, 3})
    subject.urgent = (1, 3)
    seeds(subject, P1)
    assert pieces_of(ask(subject, P1)) == [3, 0]


def test_a_broken_piece_is_not_shared_although_it_is_urgent() -> None:
    subject = picker(2, 2)
    seeds(subject, P1, P2)
    for block in ask(subject, P1, room=2):
        give(subject, P1, block)
    broken = next(index for index in range(2) if subject.state(index) is State.PENDING)
    subject.failed(broken, [P1])
    subject.urgent = (broken,)
    subject.hurried = (broken,)
    subject.proved(P2)
    mine = ask(subject, P2, room=1)
    assert pieces_of(mine) == [broken]
    assert broken not in pieces_of(ask(subject, P1))


def test_a_reader_who_goes_elsewhere_is_not_kept_waiting_by_what_was_asked_before() -> None:
    subject = picker(4)
    seeds(subject, P1)
    before = ask(subject, P1, room=8)
    subject.urgent = tuple({0, 1, 2, 3} - set(pieces_of(before)))[:1]
    cancels = subject.make_way()
    assert {block for _, block in cancels} == set(before)
    assert pieces_of(ask(subject, P1, room=4)) == list(subject.urgent)
    outcome = give(subject, P1, before[0])
    assert outcome is None, "what was on its way is welcome"
