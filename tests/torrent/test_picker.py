"""A piece is in exactly one of five states, whatever peers do."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dht_torrent.config import TorrentConfig
from dht_torrent.errors import PeerProtocolError
from dht_torrent.geometry import BLOCK, Geometry
from dht_torrent.ids import PeerKey
from dht_torrent.torrent.availability import Rarity
from dht_torrent.torrent.endgame import ENDGAME_DEPTH
from dht_torrent.torrent.memory import PieceMemory
from dht_torrent.torrent.peer_pieces import REFUSAL_PAUSE, SOLO_PATIENCE
from dht_torrent.torrent.picker import Picker
from dht_torrent.torrent.piece_states import Received, State
from dht_torrent.torrent.pieces import NOBODY, RECEIVED, Bitfield, Block, Chunk, OpenPiece
from tests.helpers.examples import examples
from tests.helpers.times import seconds

P1, P2, P3, P4 = map(PeerKey, (1, 2, 3, 4))

ROOM = 10_000


def picker(
    pieces: int = 4,
    blocks: int = 4,
    *,
    short: int = 0,
    seed: int = 1,
    memory: PieceMemory | None = None,
    **config: int,
) -> Picker:
    """Of `pieces` pieces of `blocks` blocks; the last one is `short` bytes shorter."""
    length = blocks * BLOCK
    geometry = Geometry.of(length, [(("content",), pieces * length - short)])
    return Picker(
        geometry,
        Bitfield(pieces),
        TorrentConfig(**config),
        random.Random(seed),
        memory=memory,
    )


def seeds(subject: Picker, *peers: int) -> None:
    for peer in map(PeerKey, peers):
        subject.peer_joined(peer)
        subject.holdings.peer_has_all(peer)


def partial(subject: Picker, peer: PeerKey, *pieces: int) -> None:
    subject.peer_joined(peer)
    subject.holdings.peer_bitfield(peer, Bitfield(len(subject.have.flags), pieces))


def payload(block: Block) -> bytes:
    return bytes([block.index % 251, block.begin // BLOCK % 251]) + bytes(block.length - 2)


def give(subject: Picker, peer: PeerKey, block: Block) -> Received | None:
    return subject.received(peer, block.index, block.begin, memoryview(payload(block)))


def deliver(subject: Picker, peer: PeerKey, blocks: list[Block]) -> list[OpenPiece]:
    outcomes = [give(subject, peer, block) for block in blocks]
    return [outcome.piece for outcome in outcomes if outcome is not None and outcome.piece]


def ask(subject: Picker, peer: PeerKey, room: int = ROOM, now: float = 0.0) -> list[Block]:
    return subject.next_requests(peer, room, now)


def pieces_of(blocks: list[Block]) -> list[int]:
    return list(dict.fromkeys(block.index for block in blocks))


# -- the ordinary course ------------------------------------------------------------------------


def test_every_block_is_asked_once_and_has_the_right_length() -> None:
    subject = picker(3, 2, short=BLOCK + 5)
    seeds(subject, 1)
    blocks = ask(subject, P1)
    assert sorted(blocks) == [
        (0, 0, BLOCK),
        (0, BLOCK, BLOCK),
        (1, 0, BLOCK),
        (1, BLOCK, BLOCK),
        (2, 0, BLOCK - 5),
    ]
    assert subject.outstanding(P1) == 5
    assert ask(subject, P1) == []


def test_a_piece_goes_from_missing_to_open_to_pending_to_have() -> None:
    subject = picker(1, 2)
    seeds(subject, 1)
    assert subject.state(0) is State.MISSING
    first, second = ask(subject, P1)
    assert subject.state(0) is State.OPEN
    assert give(subject, P1, first) is None
    outcome = give(subject, P1, second)
    assert outcome is not None
    assert outcome.piece is not None
    assert bytes(outcome.piece.buffer) == payload(first) + payload(second)
    assert outcome.piece.senders == [1, 1]
    assert subject.state(0) is State.PENDING
    assert not subject.done
    subject.verified(0)
    assert subject.state(0) is State.HAVE
    assert subject.done
    assert (subject.holdings.wanted_left, subject.holdings.bytes_left, subject.open_bytes) == (
        0,
        0,
        0,
    )
    assert not subject.holdings.interesting(1)


def test_a_released_picker_has_given_back_every_buffer() -> None:
    memory = PieceMemory(1 << 20, spare=1 << 20)
    subject = Picker(
        Geometry.of(2 * BLOCK, [(("content",), 8 * BLOCK)]),
        Bitfield(4),
        TorrentConfig(),
        random.Random(1),
        memory=memory,
    )
    seeds(subject, 1)
    blocks = ask(subject, P1)
    assert deliver(subject, P1, blocks[:3])  # one piece is at the disk, the others are open
    assert memory.spare.held == 0
    subject.release()
    assert memory.spare.held == 8 * BLOCK
    assert subject.open_bytes == memory.used == 0


def test_a_failed_piece_is_asked_for_again() -> None:
    subject = picker(1, 2)
    seeds(subject, 1)
    (piece,) = deliver(subject, P1, ask(subject, P1))
    subject.failed(piece.index)
    assert subject.state(0) is State.MISSING
    assert subject.open_bytes == 0
    assert len(ask(subject, P1)) == 2


def test_the_buffer_of_a_piece_is_used_again_when_the_piece_is_done_with() -> None:
    """And whoever still holds the piece cannot reach the next one's bytes through it."""
    subject = picker(3, 2)
    seeds(subject, 1)
    buffers: list[bytearray] = []
    for settle in (subject.verified, subject.failed, subject.verified):
        (piece,) = deliver(subject, P1, ask(subject, P1, 2))
        buffers.append(piece.storage)
        settle(piece.index)
        assert not piece.buffer
        assert piece.storage is not buffers[-1]
        assert subject._assembly.memory._node.spare.held == 2 * BLOCK
    assert buffers[0] is buffers[1] is buffers[2]
    first, _ = ask(subject, P1, 2)
    open_piece = subject._assembly.open[first.index]
    subject.choked(P1)  # given up with nothing in it
    assert not open_piece.buffer
    assert subject._assembly.memory._node.spare.held == 2 * BLOCK


def test_a_peer_that_rejects_a_block_is_not_asked_for_that_piece_and_others_are_first() -> None:
    subject = picker(4, 4)
    seeds(subject, 1, 2)
    first = ask(subject, P1, 2)
    subject.rejected(P1, first[0])
    assert pieces_of(ask(subject, P1, 2)) != pieces_of(first)
    rest = ask(subject, P2, 3)
    assert pieces_of(rest) == pieces_of(first)
    assert first[0] in rest


def test_a_lost_piece_is_asked_for_again() -> None:
    subject = picker(2, 1)
    seeds(subject, 1)
    partial(subject, P2, 0)
    for piece in deliver(subject, P1, ask(subject, P1)):
        subject.verified(piece.index)
    assert not subject.holdings.interesting(P2)
    subject.lost(0)
    assert subject.holdings.bytes_left == BLOCK
    assert subject.holdings.interesting(P1)
    assert subject.holdings.interesting(P2)
    assert pieces_of(ask(subject, P1)) == [0]


def test_nothing_is_asked_of_a_peer_for_a_piece_it_lacks() -> None:
    subject = picker(4, 1)
    partial(subject, P1, 2)
    assert pieces_of(ask(subject, P1)) == [2]
    subject.holdings.peer_has(P1, 3)
    assert pieces_of(ask(subject, P1)) == [3]


def test_the_room_given_is_never_exceeded() -> None:
    subject = picker(4, 4)
    seeds(subject, 1, 2)
    assert len(ask(subject, P1, 3)) == 3
    assert ask(subject, P1, 0) == []
    assert len(ask(subject, P2, 6)) == 6


# -- which piece --------------------------------------------------------------------------------


def test_the_rarest_piece_comes_first_once_a_few_are_here() -> None:
    subject = picker(6, 1, random_first_pieces=0)
    seeds(subject, 1)
    partial(subject, P2, 0, 1, 2, 4, 5)
    partial(subject, P3, 0, 2, 4, 5)
    partial(subject, P4, 0, 2, 5)
    assert pieces_of(ask(subject, P1, 3)) == [3, 1, 4]


def test_a_have_moves_a_piece_in_the_order_of_rarity() -> None:
    subject = picker(3, 1, random_first_pieces=0)
    seeds(subject, 1)
    subject.peer_joined(P2)
    ask(subject, P2)  # sorts the order, so that what follows changes it in place
    for index in (0, 2):
        subject.holdings.peer_has(P2, index)
    assert pieces_of(ask(subject, P1, 1)) == [1]


def test_a_sequential_torrent_opens_the_first_piece_missing() -> None:
    subject = picker(8, 2)
    subject.sequential = True
    seeds(subject, 1)
    partial(subject, P2, 5, 1)
    assert pieces_of(ask(subject, P1, 2)) == [0]
    assert pieces_of(ask(subject, P2, 2)) == [1]
    assert pieces_of(ask(subject, P1, 4)) == [2, 3]


def test_two_peers_work_on_a_piece_each() -> None:
    subject = picker(4, 4)
    seeds(subject, 1, 2)
    one, two = ask(subject, P1, 2), ask(subject, P2, 2)
    assert pieces_of(one) != pieces_of(two)
    assert pieces_of(one + ask(subject, P1, 2)) == pieces_of(one)


def test_a_piece_is_shared_when_no_other_may_be_opened() -> None:
    subject = picker(4, 4, max_open_bytes=8 * BLOCK)
    seeds(subject, 1, 2, 3)
    one, two, three = ask(subject, P1, 2), ask(subject, P2, 3), ask(subject, P3)
    assert set(pieces_of(three)) == {one[0].index, two[0].index}
    assert len(set(one + two + three)) == 8


def test_a_released_piece_is_finished_before_a_new_piece_is_opened() -> None:
    subject = picker(4, 4)
    seeds(subject, 1, 2)
    first = ask(subject, P1, 2)
    give(subject, P1, first[0])
    subject.peer_left(P1)
    rest = ask(subject, P2, 3)
    assert pieces_of(rest) == pieces_of(first)
    assert first[0] not in rest


def test_a_piece_nothing_came_of_is_closed_when_its_peer_leaves() -> None:
    subject = picker(4, 4)
    seeds(subject, 1)
    (index,) = pieces_of(ask(subject, P1, 3))
    subject.peer_left(P1)
    assert subject.state(index) is State.MISSING
    assert subject.open_bytes == 0


def test_open_and_pending_pieces_stay_below_the_memory_bound() -> None:
    subject = picker(10, 2, max_open_bytes=7 * BLOCK)
    seeds(subject, 1)
    blocks = ask(subject, P1)
    assert len(pieces_of(blocks)) == 3
    done = deliver(subject, P1, blocks)
    assert ask(subject, P1) == []  # a slow disk slows the asking
    subject.verified(done[0].index)
    assert len(pieces_of(ask(subject, P1))) == 1


def test_two_pieces_may_be_open_however_large_they_are() -> None:
    subject = picker(3, 4, max_open_bytes=1)
    seeds(subject, 1)
    assert len(pieces_of(ask(subject, P1))) == 2


def test_released_pieces_that_no_peer_can_finish_make_way() -> None:
    subject = picker(4, 4, max_open_bytes=1)
    partial(subject, P1, 0, 1)
    for piece in (0, 1):
        block = ask(subject, P1, 4)[0]
        give(subject, P1, block)
        assert subject.open_bytes == (piece + 1) * 4 * BLOCK
    subject.peer_left(P1)
    partial(subject, P2, 2, 3)
    assert len(pieces_of(ask(subject, P2))) == 1
    assert subject.open_bytes == 8 * BLOCK


# -- blocks that come late, twice, or never -------------------------------------------------------


def test_a_block_no_peer_asked_for_is_not_taken() -> None:
    subject = picker(2, 2)
    seeds(subject, 1, 2)
    (asked,) = ask(subject, P1, 1)
    lies = [
        (P2, asked),  # asked of another peer
        (P1, Block(1 - asked.index, 0, BLOCK)),
        (P1, Block(99, 0, BLOCK)),
        (P1, Block(-1, 0, BLOCK)),
        (P1, Block(asked.index, 2 * BLOCK, BLOCK)),  # would be the next piece's first
        (P1, Block(asked.index, -BLOCK, BLOCK)),
        (P1, Block(asked.index, 1, BLOCK)),
    ]
    for peer, block in lies:
        assert give(subject, peer, block) == Received("unwanted")
    assert give(subject, P1, asked) is None


@pytest.mark.parametrize("wrong", [-1, 1, -BLOCK + 2])
def test_a_block_of_a_wrong_length_is_not_taken_and_is_asked_for_again(wrong: int) -> None:
    subject = picker(1, 2)
    seeds(subject, 1, 2)
    (asked,) = ask(subject, P1, 1)
    assert give(subject, P1, asked._replace(length=BLOCK + wrong)) == Received("unwanted")
    assert subject.outstanding(P1) == 0
    assert asked in ask(subject, P2)


def test_a_block_that_came_already_is_a_duplicate_only_if_it_was_asked_for() -> None:
    subject = picker(1, 2)
    seeds(subject, 1)
    first, _ = ask(subject, P1)
    give(subject, P1, first)
    assert give(subject, P1, first) == Received("unwanted")


def test_a_late_block_is_welcome_while_it_is_missing_and_cancels_the_other_request() -> None:
    subject = picker(1, 4)
    seeds(subject, 1, 2)
    late, kept = ask(subject, P1, 2)
    give(subject, P1, kept)
    assert subject.expire(before=1.0) == [(1, late)]
    other = ask(subject, P2, 1)
    assert other == [late]
    assert give(subject, P1, late) == Received("accepted", None, ((P2, late),))
    assert subject.outstanding(P2) == 0
    assert give(subject, P2, late) == Received("duplicate")  # it was under way already
    assert give(subject, P2, late) == Received("unwanted")  # and only once
    assert len(ask(subject, P2)) == 2  # what nobody was asked for is still free


def test_a_late_block_that_no_other_peer_was_asked_for_counts_as_taken() -> None:
    subject = picker(1, 3)
    seeds(subject, 1, 2, 3)
    late, kept = ask(subject, P1, 2)
    give(subject, P1, kept)
    subject.expire(before=1.0)
    assert give(subject, P1, late) is None  # nothing to do about it
    last = ask(subject, P2)
    assert len(last) == 1
    assert last[0] not in (late, kept)
    assert ask(subject, P3) == last  # all is requested, so the endgame has begun


def test_only_requests_made_before_expire() -> None:
    subject = picker(4, 1)
    seeds(subject, 1)
    old, new = ask(subject, P1, 1, now=1.0), ask(subject, P1, 1, now=2.0)
    assert subject.oldest_request(P1) == 1.0
    assert subject.expire(before=2.0) == [(1, old[0])]
    assert subject.oldest_request(P1) == 2.0
    assert subject.outstanding(P1) == len(new) == 1


def test_a_peer_that_let_a_block_expire_is_not_asked_for_that_piece_for_a_while() -> None:
    subject = picker(1, 2)
    seeds(subject, 1)
    ask(subject, P1)
    subject.expire(before=60.0)
    assert ask(subject, P1, now=60.0) == []
    assert len(ask(subject, P1, now=60.0 + REFUSAL_PAUSE)) == 2


def test_a_peer_that_rejects_all_it_is_asked_for_costs_one_round_each_pause() -> None:
    subject = picker(4, 4)
    seeds(subject, 1)
    for _ in range(10):
        for block in ask(subject, P1):
            subject.rejected(P1, block)
    assert ask(subject, P1) == []
    assert subject.open_bytes == 0
    assert len(ask(subject, P1, now=REFUSAL_PAUSE)) == 16


def test_a_reject_of_what_was_never_asked_changes_nothing() -> None:
    subject = picker(2, 2)
    seeds(subject, 1)
    subject.rejected(P1, Block(0, 0, BLOCK))
    subject.rejected(P1, Block(99, -5, 7))
    assert len(ask(subject, P1)) == 4


def test_a_choke_gives_everything_back_at_once_and_later_rejects_change_nothing() -> None:
    subject = picker(2, 2)
    seeds(subject, 1, 2)
    blocks = ask(subject, P1)
    give(subject, P1, blocks[0])
    assert subject.choked(P1) == 3
    for block in blocks[1:]:
        subject.rejected(P1, block)
    assert subject.outstanding(P1) == 0
    assert sorted([*ask(subject, P2), blocks[0]]) == sorted(blocks)


def test_a_choke_keeps_requests_for_allowed_fast_pieces() -> None:
    subject = picker(2, 2)
    seeds(subject, 1)
    ask(subject, P1)
    assert subject.choked(P1, keep={1}) == 2
    assert subject.outstanding(P1) == 2


def test_a_snubbing_peer_keeps_only_its_oldest_request() -> None:
    subject = picker(2, 4)
    seeds(subject, 1, 2)
    blocks = ask(subject, P1, 6)
    assert subject.give_back(P1, keep=1) == 5
    assert subject.outstanding(P1) == 1
    assert set(blocks[1:]) <= set(ask(subject, P2))
    assert give(subject, P1, blocks[3]) == Received("accepted", None, ((P2, blocks[3]),))


def test_a_choked_peer_is_asked_only_for_allowed_pieces() -> None:
    subject = picker(6, 2)
    partial(subject, P1, 0, 1, 2)
    allowed = subject.next_requests(P1, ROOM, 0.0, allowed=(1, 5, 99, -1))
    assert pieces_of(allowed) == [1]
    assert len(allowed) == 2


# -- the endgame --------------------------------------------------------------------------------


def test_the_endgame_begins_only_when_every_block_is_requested() -> None:
    subject = picker(2, 2)
    seeds(subject, 1, 2)
    one = ask(subject, P1, 2)
    two = ask(subject, P2, 1)
    assert pieces_of(one) != pieces_of(two)
    assert len(ask(subject, P2)) == 1 + 2  # the rest of its own, then the other's


def test_the_endgame_too_asks_for_no_more_than_there_is_room_for() -> None:
    subject = picker(2, 2)
    seeds(subject, 1, 2)
    ask(subject, P1, 3)
    assert len(ask(subject, P2, 2)) == 2  # what nobody was asked for yet, and one copy


def test_the_endgame_asks_for_what_was_requested_longest_ago() -> None:
    subject = picker(3, 1)
    seeds(subject, 1, 2)
    blocks = [ask(subject, P1, 1, now)[0] for now in (1.0, 2.0, 3.0)]
    assert ask(subject, P2, 2, now=4.0) == blocks[:2]


def test_a_block_is_asked_in_few_places_and_never_twice_of_one_peer() -> None:
    subject = picker(1, 1, endgame_copies=3)
    seeds(subject, *range(6))
    asked = [ask(subject, peer) for peer in map(PeerKey, range(6))] + [
        ask(subject, peer) for peer in map(PeerKey, range(6))
    ]
    assert [len(blocks) for blocks in asked] == [1, 1, 1, 0, 0, 0] + [0] * 6


def test_a_peer_takes_part_in_the_endgame_with_few_requests() -> None:
    subject = picker(4, 100)
    seeds(subject, 1, 2)
    assert len(ask(subject, P1)) == 400
    assert len(ask(subject, P2)) == ENDGAME_DEPTH
    assert ask(subject, P2) == []


def test_what_is_left_of_the_room_goes_to_the_endgame() -> None:
    subject = picker(1, 4)
    seeds(subject, 1, 2)
    asked = ask(subject, P1, 3)
    blocks = ask(subject, P2, 2)
    assert len(blocks) == 2
    assert len(set(blocks) - set(asked)) == 1


def test_the_first_copy_that_comes_cancels_the_others() -> None:
    subject = picker(1, 1)
    seeds(subject, 1, 2, 3)
    ((block,), _, _) = (ask(subject, peer) for peer in map(PeerKey, (1, 2, 3)))
    outcome = give(subject, P2, block)
    assert outcome is not None
    assert outcome.cancels == ((1, block), (3, block))
    assert outcome.piece is not None
    assert outcome.piece.senders == [2]
    assert give(subject, P1, block) == Received("duplicate")


def test_pieces_no_peer_has_do_not_hold_up_the_endgame() -> None:
    subject = picker(3, 1)
    partial(subject, P1, 0)
    partial(subject, P2, 0)
    assert ask(subject, P1) == ask(subject, P2) != []


def test_a_staller_with_the_last_block_does_not_stop_the_download() -> None:
    subject = picker(2, 8)
    seeds(subject, 1, 2)
    ask(subject, P1, 3)  # and never answers
    for _ in range(20):
        for piece in deliver(subject, P2, ask(subject, P2)):
            subject.verified(piece.index)
    assert subject.done
    assert subject.outstanding(P1) == 0


# -- suspects, selection, availability ------------------------------------------------------------


def broken(subject: Picker, *suspects: PeerKey) -> int:
    """A piece of which two suspects sent a part each, and that failed."""
    one, two = suspects
    (index,) = pieces_of(first := ask(subject, one, 1))
    give(subject, one, first[0])
    subject.choked(one)
    blocks = ask(subject, two, ROOM)
    rest = [block for block in blocks if block.index == index]
    subject.choked(two, keep=(index,))
    deliver(subject, two, rest)
    subject.failed(index, suspects)
    return index


def test_a_broken_piece_goes_first_to_a_peer_that_has_proved_itself() -> None:
    subject = picker(4, 2)
    seeds(subject, 1, 2, 3)
    index = broken(subject, P1, P2)
    assert index not in pieces_of(ask(subject, P3, 2))
    subject.proved(P1)  # though it was suspected before that
    assert pieces_of(ask(subject, P1, 1)) == [index]


def test_without_proof_a_broken_piece_goes_to_a_peer_that_is_not_suspected() -> None:
    subject = picker(2, 2)
    seeds(subject, 1, 2, 3)
    index = broken(subject, P1, P2)
    assert index not in pieces_of(ask(subject, P1, 2))
    assert pieces_of(ask(subject, P3, 2)) == [index]


def test_a_suspect_gets_the_broken_piece_when_no_other_peer_takes_it() -> None:
    subject = picker(1, 2)
    seeds(subject, 1)
    deliver(subject, P1, ask(subject, P1))
    subject.failed(0, suspects={P1})
    assert pieces_of(ask(subject, P1)) == [0]


def test_only_selected_pieces_are_asked_for() -> None:
    subject = picker(6, 1)
    seeds(subject, 1)
    partial(subject, P2, 0, 1)
    subject.select({2, 4})
    assert (subject.holdings.wanted_left, subject.holdings.bytes_left) == (2, 2 * BLOCK)
    assert not subject.holdings.interesting(P2)
    for piece in deliver(subject, P1, ask(subject, P1)):
        subject.verified(piece.index)
    assert list(subject.have) == [2, 4]
    assert subject.done
    subject.select(range(6))
    assert not subject.done
    assert len(ask(subject, P1)) == 4


def test_what_is_deselected_is_cancelled_and_its_memory_free() -> None:
    subject = picker(4, 2)
    seeds(subject, 1)
    subject.select({0})
    blocks = ask(subject, P1)
    give(subject, P1, blocks[0])
    assert subject.select({1}) == [(1, blocks[1])]
    assert subject.open_bytes == 0
    assert give(subject, P1, blocks[1]) == Received("duplicate")
    assert pieces_of(ask(subject, P1)) == [1]


def test_availability_returns_to_its_start_when_a_peer_leaves() -> None:
    subject = picker(9, 1)
    seeds(subject, 1)
    partial(subject, P2, 1, 2)
    assert subject.holdings.peer_bitfield(P2, Bitfield(9, [2, 3])) == 1  # said again: adds
    assert [subject.holdings.availability(i) for i in range(5)] == [1, 2, 2, 2, 1]
    assert subject.holdings.distributed_copies() == pytest.approx(1 + 3 / 9)
    subject.peer_left(P2)
    assert [subject.holdings.availability(i) for i in range(9)] == [1] * 9
    subject.peer_left(P1)
    assert subject.holdings.distributed_copies() == 0


def test_a_flood_of_haves_counts_once() -> None:
    subject = picker(2, 1)
    subject.peer_joined(P1)
    answers = [subject.holdings.peer_has(P1, 1) for _ in range(1000)]
    assert answers == [True] + [False] * 999
    assert subject.holdings.availability(1) == 1
    assert subject.holdings.peer_count(P1) == 1
    assert subject.holdings.peer_has_piece(P1, 1)


@pytest.mark.parametrize("index", [-1, 2, 2**31 - 1])
def test_a_have_for_no_piece_is_a_protocol_error(index: int) -> None:
    subject = picker(2, 1)
    subject.peer_joined(P1)
    with pytest.raises(PeerProtocolError):
        subject.holdings.peer_has(P1, index)


def test_a_bitfield_of_another_size_is_a_protocol_error() -> None:
    subject = picker(2, 1)
    subject.peer_joined(P1)
    with pytest.raises(PeerProtocolError):
        subject.holdings.peer_bitfield(P1, Bitfield(3))


def test_bitfields_with_little_news_sort_nothing_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    subject, sorts = picker(1000, 1), 0
    whole = Rarity.sort

    def counted(rarity: Rarity, listed: Iterable[int]) -> None:
        nonlocal sorts
        sorts += 1
        whole(rarity, listed)

    monkeypatch.setattr(Rarity, "sort", counted)
    partial(subject, P1, *range(500))
    partial(subject, P2, 999)
    subject.next_requests(P1, 1, 0.0)
    before = sorts
    for index in range(100):
        assert subject.holdings.peer_bitfield(P2, Bitfield(1000, [index, 999])) == 1
        assert len(subject.next_requests(P1, 1, 0.0)) == 1
    assert (before, sorts) == (1, 1)
    assert [subject.holdings.availability(index) for index in (0, 99, 100, 500, 999)] == [
        2,
        2,
        1,
        0,
        1,
    ]


# -- suspicion -----------------------------------------------------------------------------------


def alone(subject: Picker, peer: PeerKey, room: int = ROOM, now: float = 0.0) -> list[Block]:
    return subject.next_requests(peer, room, now, alone=True)


def test_a_peer_on_parole_gets_one_whole_piece_and_the_next_when_that_is_settled() -> None:
    subject = picker(4, 4)
    seeds(subject, 1)
    first, rest = alone(subject, P1, 1), alone(subject, P1)
    assert len(first + rest) == 4
    assert len(pieces_of(first + rest)) == 1
    assert alone(subject, P1) == []
    (piece,) = deliver(subject, P1, first + rest)
    assert alone(subject, P1) == []  # it is not known yet whether it lied
    subject.verified(piece.index)
    assert len(alone(subject, P1)) == 4


def test_a_peer_on_parole_is_asked_for_nothing_while_it_chokes_us() -> None:
    subject = picker(4, 4)
    seeds(subject, 1)
    assert subject.next_requests(P1, ROOM, 0.0, allowed={0, 1}, alone=True) == []


def test_no_peer_takes_part_in_the_piece_of_a_peer_on_parole() -> None:
    subject = picker(2, 4, max_open_bytes=1)
    seeds(subject, 1, 2, 3)
    mine = alone(subject, P1, 2)
    others = ask(subject, P2) + ask(subject, P3)
    assert not set(pieces_of(mine)) & set(pieces_of(others))
    assert subject.next_requests(P3, ROOM, 0.0, allowed=set(pieces_of(mine))) == []


def test_a_peer_that_comes_on_parole_keeps_the_piece_that_is_all_its_own() -> None:
    subject = picker(4, 4)
    seeds(subject, 1)
    first = ask(subject, P1, 2)
    give(subject, P1, first[0])
    rest = alone(subject, P1, 1)
    assert pieces_of(rest) == pieces_of(first)
    subject.sequential = True
    seeds(subject, 2)
    assert first[0].index not in pieces_of(ask(subject, P2))
    rest += alone(subject, P1)
    assert len(rest) == 2
    deliver(subject, P1, [first[1], *rest])
    assert subject.state(first[0].index) is State.PENDING
    assert alone(subject, P1) == []


@pytest.mark.parametrize("came", [True, False])
def test_a_peer_that_comes_on_parole_begins_anew_if_others_have_a_part_in_its_piece(
    came: bool,
) -> None:
    subject = picker(2, 8, max_open_bytes=1)
    seeds(subject, 1, 2, 3)
    one, two, three = ask(subject, P1, 2), ask(subject, P2, 8), ask(subject, P3, 2)
    (index,) = pieces_of(one)
    assert pieces_of(three) == [index]
    assert len(two) == 8
    if came:
        deliver(subject, P3, three)
    assert alone(subject, P1) == []
    deliver(subject, P1, one)
    if not came:
        assert alone(subject, P1) == []  # that of others is still under way
        deliver(subject, P3, three)
    assert alone(subject, P1) == [Block(index, number * BLOCK, BLOCK) for number in range(8)]


def test_a_broken_piece_comes_from_one_peer_alone_and_of_another_from_its_beginning() -> None:
    subject = picker(2, 4, max_open_bytes=1)
    seeds(subject, 1, 2, 3, 4)
    index = broken(subject, P1, P2)
    for key in map(PeerKey, (1, 2)):
        subject.peer_left(key)
    subject.proved(P3)
    (first, *_) = part = ask(subject, P3, 2)
    assert pieces_of(part) == [index]
    give(subject, P3, first)
    assert index not in pieces_of(ask(subject, P4))
    deliver(subject, P4, [Block(1 - index, begin * BLOCK, BLOCK) for begin in range(4)])
    subject.verified(1 - index)
    assert ask(subject, P4) == []  # not for the endgame either
    subject.give_back(P3)
    assert ask(subject, P4) == [Block(index, begin * BLOCK, BLOCK) for begin in range(4)]
    assert give(subject, P3, part[1]) == Received("duplicate")  # late, and not wanted in there
    assert subject._assembly.open[index].senders == [NOBODY] * 4


def test_a_solo_piece_does_not_hold_up_the_endgame_of_others() -> None:
    subject = picker(2, 4)
    seeds(subject, 1, 2, 3)
    mine = alone(subject, P1, 2)  # and two blocks of it nobody is asked for
    theirs = ask(subject, P2)
    assert len(theirs) == 4
    assert ask(subject, P3) == theirs
    assert mine[0].index not in pieces_of(theirs)


def test_a_peer_that_was_interrupted_in_a_solo_piece_goes_on_with_it() -> None:
    subject = picker(1, 4)
    seeds(subject, 1)
    first = alone(subject, P1, 2)
    give(subject, P1, first[0])
    subject.choked(P1)
    assert alone(subject, P1) == [Block(0, begin * BLOCK, BLOCK) for begin in range(1, 4)]


def test_a_disk_that_fails_takes_no_suspicion_away() -> None:
    subject = picker(2, 2)
    seeds(subject, 1, 2, 3)
    index = broken(subject, P1, P2)
    subject.proved(P3)
    (piece,) = deliver(subject, P3, [b for b in ask(subject, P3, 2) if b.index == index])
    subject.failed(index)
    ask(subject, P3, 1)
    assert subject._assembly.open[piece.index].solo == 3


def test_a_solo_piece_is_taken_away_for_an_idle_peer_and_each_time_later() -> None:
    subject = picker(1, 2)
    seeds(subject, *range(5))
    now = 0.0
    for holder in map(PeerKey, range(4)):
        idle = PeerKey(holder + 1)
        blocks = alone(subject, holder, now=now)
        assert len(blocks) == 2
        patience = SOLO_PATIENCE * 2**holder
        assert subject.take_away([(idle, False)], now + patience - 0.1) == []
        assert subject.take_away([(holder, False)], now + patience) == []
        assert subject.take_away([(idle, False)], now + patience) == [(holder, b) for b in blocks]
        now += patience
        assert alone(subject, holder, now=now) == []
        assert subject.outstanding(holder) == 0
        assert subject._assembly.open[0].solo == idle  # nobody else gets it first


def test_a_peer_that_held_up_a_piece_takes_none_from_others_before_it_proves_itself() -> None:
    subject = picker(1, 2)
    seeds(subject, 1, 2)
    alone(subject, P1)
    subject.take_away([(P2, True)], SOLO_PATIENCE)
    assert len(alone(subject, P2, now=SOLO_PATIENCE)) == 2
    assert subject.take_away([(P1, True)], 1000.0) == []
    subject.proved(P1)
    assert len(subject.take_away([(P1, True)], 1000.0)) == 2


def test_a_peer_whose_piece_was_taken_away_gets_it_last() -> None:
    """Also who is asked for none of it at the moment, and who was suspected before."""
    subject = picker(2, 4, max_open_bytes=1)
    seeds(subject, 1, 2, 3)
    index = broken(subject, P1, P2)
    subject.proved(P3)
    blocks = [block for block in ask(subject, P3, 2) if block.index == index]
    give(subject, P3, blocks[0])
    subject.give_back(P3)
    subject.give_back(P1)
    assert subject.take_away([(P1, True)], SOLO_PATIENCE) == []
    assert subject._assembly.open[index].avoid == frozenset({1, 2, 3})
    assert subject._assembly.open[index].solo == 1
    assert index not in pieces_of(ask(subject, P3, now=SOLO_PATIENCE))


def test_a_solo_piece_is_not_begun_anew_while_its_peer_is_asked_for_the_rest() -> None:
    subject = picker(1, 4)
    seeds(subject, 1, 2)
    blocks = alone(subject, P1)
    subject.rejected(P1, blocks[0])
    assert ask(subject, P2) == []
    assert alone(subject, P2) == []
    assert deliver(subject, P1, blocks[1:]) == []
    assert len(ask(subject, P2)) == 4


def test_a_shared_piece_is_taken_away_only_for_a_peer_that_may_not_help_with_it() -> None:
    subject = picker(1, 2)
    seeds(subject, 1, 2)
    blocks = ask(subject, P1)
    assert subject.take_away([(P2, False)], 1000.0) == []
    assert subject.take_away([(P2, True)], 1000.0) == [(P1, block) for block in blocks]
    assert len(alone(subject, P2, now=1000.0)) == 2


def test_what_a_peer_on_parole_left_is_missing_again() -> None:
    subject = picker(1, 2)
    seeds(subject, 1)
    first, _ = alone(subject, P1)
    give(subject, P1, first)
    subject.peer_left(P1)
    assert subject.state(0) is State.MISSING
    assert (subject.open_bytes, subject._assembly.solo) == (0, {})


def orphan(subject: Picker, peer: PeerKey, piece: int, came: int) -> None:
    """Has a peer leave when so many blocks of a piece have come from it."""
    partial(subject, peer, piece)
    for block in ask(subject, peer)[:came]:
        give(subject, peer, block)
    subject.peer_left(peer)


def test_of_released_pieces_that_make_way_the_one_with_the_least_in_it_goes() -> None:
    for most in (0, 1):
        subject = picker(3, 4, max_open_bytes=1)
        orphan(subject, P1, 0, came=3 if most == 0 else 1)
        orphan(subject, P2, 1, came=3 if most == 1 else 1)
        partial(subject, P3, 2)
        assert pieces_of(ask(subject, P3)) == [2]
        assert sorted(subject._assembly.open) == [most, 2]


def test_a_released_piece_that_no_peer_has_makes_way_before_one_that_can_be_finished() -> None:
    subject = picker(3, 4, max_open_bytes=1)
    orphan(subject, P1, 0, came=1)
    orphan(subject, P2, 1, came=3)
    partial(subject, P4, 0)
    partial(subject, P3, 2)
    assert pieces_of(ask(subject, P3)) == [2]
    assert sorted(subject._assembly.open) == [0, 2]


def test_no_released_piece_makes_way_while_the_disk_is_about_to_make_room() -> None:
    subject = picker(3, 4, max_open_bytes=1)
    partial(subject, P1, 0)
    (done,) = deliver(subject, P1, ask(subject, P1))
    orphan(subject, P2, 1, came=1)
    partial(subject, P3, 2)
    assert ask(subject, P3) == []
    assert subject.state(1) is State.OPEN
    subject.verified(done.index)
    assert pieces_of(ask(subject, P3)) == [2]
    assert subject.state(1) is State.OPEN


def test_a_peer_on_parole_begins_the_idle_piece_anew_that_has_the_least_in_it() -> None:
    for least in (0, 1):
        subject = picker(2, 4)
        orphan(subject, P1, 0, came=1 if least == 0 else 3)
        orphan(subject, P2, 1, came=1 if least == 1 else 3)
        seeds(subject, 3)
        assert alone(subject, P3) == [Block(least, begin * BLOCK, BLOCK) for begin in range(4)]


def test_no_peer_takes_a_solo_piece_whose_peer_went_on_with_it() -> None:
    subject = picker(1, 4)
    seeds(subject, 1, 2)
    give(subject, P1, alone(subject, P1, 1)[0])
    subject.choked(P1)
    give(subject, P1, alone(subject, P1, 1)[0])  # nothing is outstanding now
    assert alone(subject, P2) == []
    assert ask(subject, P2) == []
    assert len(alone(subject, P1)) == 2


# -- what may be on this disk already -----------------------------------------------------------


def test_what_is_held_is_asked_of_nobody_until_it_is_let_go() -> None:
    subject = picker(4, 2)
    seeds(subject, P1, P2)
    assert subject.hold([0, 2, 3]) == [0, 2, 3]
    assert {block.index for block in subject.next_requests(P1, ROOM, 0.0)} == {1}
    assert subject.next_requests(P2, ROOM, 0.0) == []  # nor what the other was asked for
    assert subject.next_requests(P2, ROOM, 0.0, allowed=[0, 2]) == []
    subject.let_go([2])
    assert {block.index for block in subject.next_requests(P2, ROOM, 0.0)} == {2}
    subject.found(0)
    assert subject.have.count == 1
    assert subject.holdings.wanted_left == 3
    subject.let_go([0, 1, 3])  # of those that are not held, nothing changes
    assert subject.state(0) is State.HAVE
    assert subject.state(1) is State.OPEN
    subject.peer_left(P1)
    assert {block.index for block in subject.next_requests(P2, ROOM, 0.0)} == {1, 3}


def test_only_what_is_wanted_and_missing_can_be_held() -> None:
    subject = picker(4, 1)
    seeds(subject, P1)
    subject.select([0, 1, 2])
    (asked,) = subject.next_requests(P1, 1, 0.0)
    rest = [index for index in range(3) if index != asked.index]
    assert subject.hold(range(4)) == rest
    assert subject.hold(range(4)) == []
    subject.select([])
    subject.let_go(rest)
    assert subject.next_requests(P1, ROOM, 0.0) == []
    subject.select(range(4))
    assert {block.index for block in subject.next_requests(P1, ROOM, 0.0)} == {0, 1, 2, 3}


# -- anything at all -----------------------------------------------------------------------------

PIECES, BLOCKS = 7, 3
peer_numbers = st.integers(0, 4)
some_pieces = st.sets(st.integers(0, PIECES - 1))
fractions = st.floats(0, 1, exclude_max=True)


class AnySwarm(RuleBasedStateMachine):
    """Peers come, go, lie about nothing, and answer, reject, choke or stall as they like. So does
    the disk."""

    config: ClassVar[dict[str, int]] = {}
    memory: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self.bounds = {"max_open_bytes": 4 * BLOCKS * BLOCK, **self.config}
        self.subject = picker(
            PIECES,
            BLOCKS,
            short=BLOCK + 7,
            memory=None if self.memory is None else PieceMemory(self.memory, spare=self.memory),
            random_first_pieces=2,
            **self.bounds,
        )
        self.chunks: list[tuple[OpenPiece, Chunk]] = []  # on their way to the disk
        self.storing: dict[int, OpenPiece] = {}  # complete but for that
        self.scratch: dict[tuple[int, int], bytes] = {}  # slot and block number -> its head
        self.on_disk: dict[OpenPiece, int] = {}  # blocks
        self.now = 0.0
        self.key = 0
        self.has: dict[PeerKey, set[int]] = {}  # peer -> pieces
        self.asked: dict[PeerKey, list[Block]] = {}  # outstanding, as the peers see it
        self.pending: dict[int, OpenPiece] = {}
        self.wanted = set(range(PIECES))
        self.held: set[int] = set()

    def peer(self, number: int) -> PeerKey:
        return list(self.has)[number % len(self.has)]

    def note_cancels(self, cancels: tuple[tuple[PeerKey, Block], ...]) -> None:
        for peer, block in cancels:
            self.asked[peer].remove(block)

    @rule(pieces=st.one_of(st.none(), some_pieces))
    def join(self, pieces: set[int] | None) -> None:
        if len(self.has) == 5:
            return
        self.key += 1
        key = PeerKey(self.key)
        self.subject.peer_joined(key)
        if pieces is None:
            self.subject.holdings.peer_has_all(key)
        else:
            self.subject.holdings.peer_bitfield(key, Bitfield(PIECES, pieces))
        self.has[key] = set(range(PIECES)) if pieces is None else set(pieces)
        self.asked[key] = []

    @precondition(lambda self: self.has)
    @rule(number=peer_numbers)
    def leave(self, number: int) -> None:
        peer = self.peer(number)
        self.subject.peer_left(peer)
        del self.has[peer], self.asked[peer]

    @precondition(lambda self: self.has)
    @rule(number=peer_numbers, index=st.integers(0, PIECES - 1))
    def have(self, number: int, index: int) -> None:
        peer = self.peer(number)
        before = self.subject.holdings.interesting(peer)
        made = self.subject.holdings.peer_has(peer, index)
        self.has[peer].add(index)
        assert made == (not before and self.subject.holdings.interesting(peer))

    @rule(urgent=st.lists(st.integers(0, PIECES - 1), unique=True), hurried=st.integers(0, PIECES))
    def read(self, urgent: list[int], hurried: int) -> None:
        self.subject.urgent = urgent
        self.subject.hurried = urgent[:hurried]

    @rule()
    def seek(self) -> None:
        cancels = self.subject.make_way()
        assert all(block.index not in self.subject.urgent for _, block in cancels)
        self.note_cancels(tuple(cancels))
        assert all(
            block.index in self.subject.urgent for blocks in self.asked.values() for block in blocks
        )

    @precondition(lambda self: self.has)
    @rule(
        number=peer_numbers,
        room=st.integers(0, 12),
        allowed=st.one_of(st.none(), some_pieces),
        alone=st.booleans(),
    )
    def request(self, number: int, room: int, allowed: set[int] | None, alone: bool) -> None:
        peer = self.peer(number)
        elsewhere = {block for blocks in self.asked.values() for block in blocks}
        blocks = self.subject.next_requests(peer, room, self.now, allowed=allowed, alone=alone)
        assert len(blocks) <= room
        assert len(set(blocks)) == len(blocks)
        for block in blocks:
            assert block.index in self.has[peer]
            assert block.index in self.wanted
            assert block.index not in self.held
            assert block not in self.asked[peer]
            assert allowed is None or block.index in allowed
        copies = elsewhere & set(blocks)
        if any(block.index not in self.subject.hurried for block in copies):
            self.check_endgame(elsewhere | set(blocks))
        self.asked[peer] += blocks

    def check_endgame(self, asked: set[Block]) -> None:
        """Copies of what nobody waits for are asked only when all that anybody has is asked, here,
        or at the disk."""
        got = {index for index in range(PIECES) if self.subject.state(index) is State.HAVE}
        open_pieces = {block.index for block in asked}
        for index in self.wanted - got - set(self.pending) - open_pieces:
            is_open = self.subject.state(index) is State.OPEN
            assert not any(index in has for has in self.has.values()) or (
                is_open
                and (
                    not self.subject._assembly.open[index].free
                    or index in self.subject._assembly.solo
                )
            )

    @precondition(lambda self: any(self.asked.values()))
    @rule(number=peer_numbers, which=fractions, count=st.integers(1, 8))
    def answer(self, number: int, which: float, count: int) -> None:
        peer = self.peer(number)
        for _ in range(count):
            if not self.asked[peer]:
                return
            block = self.asked[peer].pop(int(which * len(self.asked[peer])))
            outcome = give(self.subject, peer, block)
            if outcome is None:
                continue
            assert outcome.kind == "accepted"
            self.note_cancels(outcome.cancels)
            if outcome.chunk is not None:
                assert outcome.piece is not None
                self.chunks.append((outcome.piece, outcome.chunk))
                if not outcome.piece.left:
                    self.storing[outcome.piece.index] = outcome.piece
            elif outcome.piece is not None:
                index = outcome.piece.index
                self.pending[index] = outcome.piece
                blocks = range(0, len(outcome.piece.buffer), BLOCK)
                for begin in blocks:
                    head = bytes(outcome.piece.buffer[begin : begin + 2])
                    assert head == bytes([index, begin // BLOCK])

    @precondition(lambda self: self.chunks)
    @rule(which=fractions, good=st.booleans())
    def store(self, which: float, good: bool) -> None:
        piece, chunk = self.chunks.pop(int(which * len(self.chunks)))
        index, spill = piece.index, piece.spill
        assert spill is not None
        for begin, data in chunk.parts():
            for at in range(0, len(data), BLOCK):
                self.scratch[spill.slot, (begin + at) // BLOCK] = bytes(data[at : at + 2])
        waits = self.storing.get(index) is piece
        if not good:
            self.note_cancels(tuple(self.subject.not_stored(piece, chunk)))
            self.on_disk.pop(piece, None)
            if waits:
                del self.storing[index]
            return
        self.on_disk[piece] = self.on_disk.get(piece, 0) + chunk.blocks
        complete = self.subject.stored(piece, chunk)
        assert complete == (waits and not any(one is piece for one, _ in self.chunks))
        if complete:
            self.pending[index] = self.storing.pop(index)
            for number in range(len(piece.blocks)):
                assert self.scratch[spill.slot, number] == bytes([index, number])

    @precondition(lambda self: any(self.asked.values()))
    @rule(number=peer_numbers, which=fractions)
    def reject(self, number: int, which: float) -> None:
        peer = self.peer(number)
        if self.asked[peer]:
            block = self.asked[peer].pop(int(which * len(self.asked[peer])))
            self.subject.rejected(peer, block)

    @precondition(lambda self: self.has)
    @rule(number=peer_numbers, keep=some_pieces)
    def choke(self, number: int, keep: set[int]) -> None:
        peer = self.peer(number)
        kept = [block for block in self.asked[peer] if block.index in keep]
        assert self.subject.choked(peer, keep=keep) == len(self.asked[peer]) - len(kept)
        self.asked[peer] = kept

    @precondition(lambda self: self.has)
    @rule(number=peer_numbers, keep=st.integers(0, 2))
    def snub(self, number: int, keep: int) -> None:
        peer = self.peer(number)
        self.subject.give_back(peer, keep=keep)
        del self.asked[peer][keep:]

    @rule(passed=seconds(0, 30))
    def wait(self, passed: float) -> None:
        self.now += passed
        for peer, block in self.subject.expire(self.now - 20.0):
            self.asked[peer].remove(block)

    @precondition(lambda self: self.has)
    @rule(number=peer_numbers, proved=st.booleans())
    def proof(self, number: int, proved: bool) -> None:
        self.subject.proved(self.peer(number), proved=proved)

    @precondition(lambda self: self.has)
    @rule(number=peer_numbers, alone=st.booleans())
    def take_away(self, number: int, alone: bool) -> None:
        peer = self.peer(number)
        if not self.asked[peer]:
            for other, block in self.subject.take_away([(peer, alone)], self.now):
                self.asked[other].remove(block)

    @precondition(lambda self: self.pending)
    @rule(good=st.booleans(), blame=st.booleans())
    def settle(self, good: bool, blame: bool) -> None:
        index, piece = self.pending.popitem()
        if good:
            self.subject.verified(index)
        else:
            self.subject.failed(index, set(piece.senders) if blame else None)

    @precondition(lambda self: self.has)
    @rule(number=peer_numbers, index=st.integers(0, PIECES - 1))
    def peer_loses(self, number: int, index: int) -> None:
        peer = self.peer(number)
        assert self.subject.peer_lost(peer, index) == (index in self.has[peer])
        self.has[peer].discard(index)
        self.asked[peer] = [block for block in self.asked[peer] if block.index != index]

    @rule(pieces=some_pieces)
    def hold(self, pieces: set[int]) -> None:
        """They may be on this disk already."""
        able = {
            index
            for index in pieces & self.wanted
            if self.subject.state(index) is State.MISSING
            and index not in self.subject._assembly.missing.broken
        }
        assert set(self.subject.hold(pieces)) == able
        self.held |= able

    @rule(pieces=some_pieces)
    def let_go(self, pieces: set[int]) -> None:
        self.subject.let_go(pieces)
        self.held -= pieces

    @precondition(lambda self: self.held)
    @rule()
    def find(self) -> None:
        self.subject.found(self.held.pop())

    @rule(index=st.integers(0, PIECES - 1))
    def lose(self, index: int) -> None:
        self.subject.lost(index)

    @rule(wanted=some_pieces)
    def select(self, wanted: set[int]) -> None:
        self.wanted = set(wanted)
        self.note_cancels(tuple(self.subject.select(wanted)))

    @rule(sequential=st.booleans())
    def watch(self, sequential: bool) -> None:
        self.subject.sequential = sequential

    @invariant()
    def the_states_agree_with_the_books(self) -> None:
        subject, books = self.subject, self.subject._assembly
        states = [subject.state(index) for index in range(PIECES)]
        for index, state in enumerate(states):
            assert (state is State.HAVE) == (index in subject.have)
            assert (state is State.OPEN) == (index in books.open)
            assert (state is State.HELD) == (index in self.held)
            assert (
                (state is State.PENDING)
                == (index in books.pending)
                == (index in self.pending or index in self.storing)
            )
        sizes = [books.geometry.piece_size(index) for index in range(PIECES)]
        left = [i for i in self.wanted if states[i] is not State.HAVE]
        assert subject.holdings.wanted_left == len(left)
        assert subject.holdings.bytes_left == sum(sizes[i] for i in left)
        assert subject.done == (not left)

    @invariant()
    def memory_is_what_is_held_and_bounded(self) -> None:
        subject, books = self.subject, self.subject._assembly
        batch = self.bounds.get("spill_batch", TorrentConfig().spill_batch)
        held, spilled = 0, 0
        live = [*books.open.values(), *books.pending.values()]
        for piece in live:
            if piece.spill is None:
                held += piece.size
                continue
            busy = len(piece.blocks) - piece.free - self.on_disk.get(piece, 0)
            held += max(batch, busy * BLOCK)
            spilled += 1
        held += sum(chunk.blocks * BLOCK for piece, chunk in self.chunks if piece not in live)
        assert subject.open_bytes == books.memory._node.used == held
        if self.memory is None:
            assert held <= self.bounds["max_open_bytes"] + spilled * batch
        else:
            assert held <= self.memory + batch
        slots = [piece.spill.slot for piece in live if piece.spill is not None]
        gone = {piece.spill.slot for piece, _ in self.chunks if piece not in live and piece.spill}
        assert len(slots) == len(set(slots))
        assert not gone & set(slots)
        assert live or gone or books.memory.fits(BLOCKS * BLOCK)

    @invariant()
    def requests_agree_with_the_blocks_of_open_pieces(self) -> None:
        subject, books = self.subject, self.subject._assembly
        copies = Counter(block for blocks in self.asked.values() for block in blocks)
        for peer, blocks in self.asked.items():
            assert subject.outstanding(peer) == len(blocks)
        for piece in books.open.values():
            for number, state in enumerate(piece.blocks):
                begin = number * BLOCK
                block = Block(piece.index, begin, min(BLOCK, piece.size - begin))
                assert copies.pop(block, 0) == (0 if state == RECEIVED else state)
            assert piece.free == piece.blocks.count(0)
            assert piece.left == len(piece.blocks) - piece.blocks.count(RECEIVED)
            assert (piece.index in books.partial) == (piece.free > 0)
            assert (piece.index in books.released) == (piece.free > 0 and piece.owner is None)
        assert not copies

    @invariant()
    def a_solo_piece_is_of_one_peer(self) -> None:
        books = self.subject._assembly
        assert {i for i, piece in books.open.items() if piece.solo is not None} == set(books.solo)
        for index, piece in books.solo.items():
            assert set(piece.senders) <= {NOBODY, piece.solo}
            asked = {peer for peer, blocks in self.asked.items() for b in blocks if b[0] == index}
            assert asked <= {piece.solo}

    @invariant()
    def availability_is_what_counting_gives(self) -> None:
        subject, books = self.subject, self.subject._assembly
        counted = [sum(index in has for has in self.has.values()) for index in range(PIECES)]
        assert [subject.holdings.availability(index) for index in range(PIECES)] == counted
        for peer, has in self.has.items():
            assert subject.holdings.interesting(peer) == bool(
                (has & self.wanted) - set(subject.have)
            )
            assert subject.holdings.peer_count(peer) == len(has)
        rarity = subject.holdings.rarity
        if not rarity.stale:
            [one] = rarity.orders
            order = one.order
            assert sorted(order) == [
                index
                for index in sorted(self.wanted)
                if subject.state(index) is State.MISSING and index not in books.missing.broken
            ]
            levels = [rarity.available[index] for index in order]
            assert levels == sorted(levels)
            for level, end in enumerate(one.ends):
                assert end == sum(other <= level for other in levels)
            assert one.ends[-1] == len(order)

    def teardown(self) -> None:
        """Whatever happened before, one honest seed finishes it."""
        for peer in list(self.has):
            self.subject.peer_left(peer)
        for index in self.pending:
            self.subject.verified(index)
        for piece, chunk in self.chunks:
            if self.subject.stored(piece, chunk):
                self.subject.verified(piece.index)
        self.subject.let_go(self.held)
        seeds(self.subject, 1000)
        for _ in range(PIECES * BLOCKS):
            for block in ask(self.subject, PeerKey(1000), now=self.now):
                outcome = give(self.subject, PeerKey(1000), block)
                if outcome is None or outcome.piece is None:
                    continue
                if outcome.chunk is None or self.subject.stored(outcome.piece, outcome.chunk):
                    self.subject.verified(outcome.piece.index)
        assert self.subject.done
        assert self.subject.open_bytes == 0
        assert not self.subject.spills()


class AnySwarmOfLargePieces(AnySwarm):
    """No piece is assembled in memory."""

    config: ClassVar[dict[str, int]] = {
        "max_open_bytes": 5 * BLOCK,
        "max_piece_in_memory": BLOCK,
        "spill_batch": 2 * BLOCK,
    }


class AnySwarmShortOfMemory(AnySwarm):
    """There is room for one piece in memory and a part of another."""

    config: ClassVar[dict[str, int]] = {"spill_batch": 2 * BLOCK}
    memory = BLOCKS * BLOCK + 3 * BLOCK


class AnySwarmWithHardlyAnyMemory(AnySwarm):
    """Each piece is larger than what there is."""

    config: ClassVar[dict[str, int]] = {"spill_batch": 2 * BLOCK}
    memory = BLOCK


TestAnySwarm = AnySwarm.TestCase
TestAnySwarmOfLargePieces = AnySwarmOfLargePieces.TestCase
TestAnySwarmShortOfMemory = AnySwarmShortOfMemory.TestCase
TestAnySwarmWithHardlyAnyMemory = AnySwarmWithHardlyAnyMemory.TestCase
TestAnySwarm.settings = settings(max_examples=examples(60), stateful_step_count=40, deadline=None)
for case in (
    TestAnySwarmOfLargePieces,
    TestAnySwarmShortOfMemory,
    TestAnySwarmWithHardlyAnyMemory,
):
    case.settings = settings(max_examples=examples(40), stateful_step_count=60, deadline=None)


told = st.one_of(
    st.integers(0, 11).map(lambda index: {index}),
    st.sets(st.integers(0, 11)),
    st.just(set(range(12))),
)


@given(
    st.lists(st.tuples(st.sampled_from([P1, P2, P3]), st.booleans(), told), max_size=30), st.data()
)
def test_however_peers_tell_what_they_have_it_adds_up(
    news: list[tuple[PeerKey, bool, set[int]]], data: st.DataObject
) -> None:
    """Have, bitfields and have-all in any order, again and late: counts, availability and interest
    are those of the union, and no piece vanishes."""
    subject = picker(12, 1)
    has: dict[PeerKey, set[int]] = {P1: set(), P2: set(), P3: set()}
    for peer in has:
        subject.peer_joined(peer)
    for peer, as_bitfield, indices in news:
        fresh = len(indices - has[peer])
        if len(indices) == 12 and not as_bitfield:
            assert subject.holdings.peer_has_all(peer) == fresh
        elif as_bitfield or not indices:
            assert subject.holdings.peer_bitfield(peer, Bitfield(12, indices)) == fresh
        else:
            for index in indices:
                subject.holdings.peer_has(peer, index)
        has[peer] |= indices
        for other, owned in has.items():
            assert subject.holdings.peer_count(other) == len(owned)
            assert subject.holdings.interesting(other) == bool(owned)
            assert {i for i in range(12) if subject.holdings.peer_has_piece(other, i)} == owned
        for index in range(12):
            assert subject.holdings.availability(index) == sum(
                index in owned for owned in has.values()
            )
    for peer in data.draw(st.permutations([P1, P2, P3])):
        subject.peer_left(peer)
        del has[peer]
        for index in range(12):
            assert subject.holdings.availability(index) == sum(
                index in owned for owned in has.values()
            )
