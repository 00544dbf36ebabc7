"""Guilt is a hash tied to a sender."""

from __future__ import annotations

import random

import pytest

from dht_torrent.config import TorrentConfig
from dht_torrent.geometry import BLOCK, Geometry
from dht_torrent.ids import Address, PeerKey
from dht_torrent.torrent import smart_ban as smart_ban_module
from dht_torrent.torrent.bans import Bans
from dht_torrent.torrent.parole import Parole, Standing
from dht_torrent.torrent.picker import Picker
from dht_torrent.torrent.pieces import NOBODY, Bitfield, Block, OpenPiece
from dht_torrent.torrent.smart_ban import (
    MAX_BLOCKS,
    MAX_GONE,
    Passed,
    SmartBan,
    digests_of,
    senders_of,
)

P1, P2, P3, P9 = map(PeerKey, (1, 2, 3, 9))

CONFIG = TorrentConfig()


def where(peer: PeerKey) -> Address:
    return Address("127.0.0.1", 1000 + peer)


def smart_ban(*peers: PeerKey) -> SmartBan:
    subject = SmartBan()
    for peer in peers or map(PeerKey, range(1, 10)):
        subject.joined(peer, where(peer))
    return subject


def failed(subject: SmartBan, piece: OpenPiece) -> list[PeerKey]:
    return subject.failed(piece, digests_of(piece.buffer))


def passed(subject: SmartBan, piece: OpenPiece) -> Passed | None:
    return subject.passed(piece, digests_of(piece.buffer) if subject.doubts(piece.index) else None)


def liars(subject: SmartBan, piece: OpenPiece) -> list[PeerKey]:
    found = passed(subject, piece)
    assert found is not None
    assert all(address == where(peer) for peer, address in found.liars.items())
    return sorted(found.liars)


def piece(senders: list[int], *, bad: tuple[int, ...] = (), index: int = 0) -> OpenPiece:
    """An assembled piece; the blocks numbered in `bad` are not what they should be."""
    size = len(senders) * BLOCK
    made = OpenPiece(index, size, bytearray(size))
    made.senders[:] = map(PeerKey, senders)
    for number in bad:
        made.buffer[number * BLOCK] = 1
    return made


def test_the_only_sender_of_a_broken_piece_is_guilty_at_once() -> None:
    subject = smart_ban()
    assert failed(subject, piece([3, 3], bad=(1,))) == [3]
    assert passed(subject, piece([4, 4])) is None  # and nothing needs to be remembered


def test_of_several_no_peer_is_guilty_until_the_piece_passes_and_then_only_the_liar() -> None:
    subject = smart_ban()
    assert failed(subject, piece([1, 2, 3, 2], bad=(1,))) == []
    assert subject.suspects(0) == {1, 2, 3}
    found = passed(subject, piece([4, 4, 4, 4]))
    assert found is not None
    assert found.liars == {2: where(P2)}
    assert found.cleared == [1, 3]
    assert subject.suspects(0) == frozenset()
    assert passed(subject, piece([4, 4, 4, 4])) is None


def test_no_peer_is_guilty_for_having_taken_part_however_often() -> None:
    subject = smart_ban()
    for index in range(100):
        assert failed(subject, piece([1, 9], bad=(0,), index=index)) == []


def test_liars_of_every_failed_attempt_are_found() -> None:
    subject = smart_ban()
    failed(subject, piece([1, 2, 3], bad=(0,)))
    failed(subject, piece([3, 3, 2], bad=(2,)))
    assert liars(subject, piece([3, 3, 3])) == [1, 2]


def test_a_liar_that_sends_the_right_block_the_second_time_is_found_all_the_same() -> None:
    subject = smart_ban()
    failed(subject, piece([1, 2], bad=(0,)))
    assert liars(subject, piece([1, 2])) == [1]


def test_a_liar_is_found_after_it_left_and_thousands_after_it() -> None:
    subject = smart_ban()
    failed(subject, piece([1, 2], bad=(0,)))
    for peer in map(PeerKey, range(1, 9)):
        subject.left(peer)
    for peer in map(PeerKey, range(100, 100 + 2 * MAX_GONE)):
        subject.joined(peer, where(P1))
        subject.left(peer)
    assert subject.address(P1) is None
    assert subject.address(P9) == where(P9)
    assert len(subject._gone) == MAX_GONE
    assert liars(subject, piece([9, 9])) == [1]


def test_a_peer_that_left_before_its_piece_was_hashed_is_still_known() -> None:
    subject = smart_ban()
    subject.left(P3)
    assert failed(subject, piece([3, 3], bad=(1,))) == [3]
    assert subject.address(P3) == where(P3)
    failed(subject, piece([3, 4], bad=(0,)))
    assert liars(subject, piece([5, 5])) == [3]


def test_an_unknown_peer_has_no_address() -> None:
    assert SmartBan().address(P1) is None


def test_a_piece_without_senders_blames_no_peer() -> None:
    subject = smart_ban()
    assert senders_of(piece([NOBODY, 7, 7, 2])) == [2, 7]
    assert failed(subject, piece([NOBODY, NOBODY])) == []
    assert passed(subject, piece([NOBODY, NOBODY])) is None


def test_evidence_is_bounded_and_cannot_be_pushed_out_by_failing_more() -> None:
    subject = smart_ban()
    blocks = 256
    made = piece([1, 2] * (blocks // 2), bad=(0,))
    for index in range(MAX_BLOCKS // blocks + 10):
        made.index = index
        failed(subject, made)
    assert subject._blocks == MAX_BLOCKS
    assert sum(len(a.digests) for many in subject._attempts.values() for a in many) <= 20 << 16
    assert subject.suspects(MAX_BLOCKS // blocks) == frozenset()
    assert subject.suspects(0) == {1, 2}
    assert liars(subject, piece([3] * blocks)) == [1]
    failed(subject, made)  # there is room again
    assert subject.suspects(made.index) == {1, 2}
    assert subject._blocks == MAX_BLOCKS


def test_one_attempt_is_kept_however_large_its_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smart_ban_module, "MAX_BLOCKS", 2)
    subject = smart_ban()
    failed(subject, piece([1, 2, 3], bad=(2,)))
    failed(subject, piece([1, 2, 3], bad=(0,), index=1))
    assert liars(subject, piece([4, 4, 4])) == [3]
    assert subject.suspects(1) == frozenset()


def poisoned_run(seed: int, *, pieces: int, blocks: int, honest: int) -> tuple[set[int], int]:
    """Honest peers and one liar (number 0) that spoils one block in ten, all answering in random
    order. Returns who was banned, and how many pieces failed."""
    rng = random.Random(seed)
    config = TorrentConfig(max_open_bytes=1)  # two pieces at a time: everybody shares
    picker = Picker(
        Geometry.of(blocks * BLOCK, [(("content",), pieces * blocks * BLOCK)]),
        Bitfield(pieces),
        config,
        rng,
    )
    smart_ban, parole = SmartBan(), Parole(Bans(config))
    alive = [PeerKey(number) for number in range(honest + 1)]
    for peer in alive:
        picker.peer_joined(peer)
        picker.holdings.peer_has_all(peer)
        smart_ban.joined(peer, where(peer))
        parole.joined(peer, where(peer), 0.0)
    banned: set[int] = set()
    failures = 0
    queues: dict[PeerKey, list[Block]] = {peer: [] for peer in alive}
    good, bad = bytes(BLOCK), b"\x01" + bytes(BLOCK - 1)
    while not picker.done:
        peer = rng.choice(alive)
        standing = parole.standing(peer, 0.0)
        queues[peer] += picker.next_requests(
            peer,
            2 - picker.outstanding(peer),
            0.0,
            alone=standing is Standing.ALONE,
        )
        if not queues[peer]:
            continue
        block = queues[peer].pop(0)
        data = bad if peer == 0 and rng.random() < 0.1 else good
        outcome = picker.received(peer, block.index, block.begin, data)
        if outcome is None:
            continue
        for other, cancelled in outcome.cancels:
            queues[other].remove(cancelled)
        done = outcome.piece
        if done is None:
            continue
        if any(done.buffer[begin] for begin in range(0, done.size, BLOCK)):
            failures += 1
            guilty = smart_ban.failed(done, digests_of(done.buffer))
            if not guilty:
                parole.suspect(senders_of(done), done.index)
            picker.failed(done.index, senders_of(done))
        else:
            found = smart_ban.passed(done, digests_of(done.buffer))
            guilty = sorted(found.liars) if found else []
            parole.cleared(found.cleared if found else [], done.index)
            if len(senders_of(done)) == 1 and parole.proved(senders_of(done)[0]):
                picker.proved(senders_of(done)[0])
            picker.verified(done.index)
        for one in guilty:
            if one in alive:
                banned.add(one)
                alive.remove(one)
                picker.peer_left(one)
    return banned, failures


def test_no_honest_peer_is_ever_banned_and_a_liar_that_did_harm_is() -> None:
    failed_runs = failed_pieces = 0
    for seed in range(1000):
        banned, failures = poisoned_run(seed, pieces=5, blocks=4, honest=5)
        assert banned <= {0}, seed
        assert (banned == {0}) == (failures > 0), seed
        failed_runs += failures > 0
        failed_pieces += failures
    assert failed_runs > 100
    assert failed_pieces / failed_runs < 2
