"""Guilt is a hash tied to a sender."""

from __future__ import annotations

import random

from dht_torrent.config import TorrentConfig
from dht_torrent.geometry import BLOCK, Geometry
from dht_torrent.ids import Address
from dht_torrent.torrent import ledger as ledger_module
from dht_torrent.torrent.ledger import MAX_BLOCKS, MAX_TRUST, Ledger
from dht_torrent.torrent.picker import Picker
from dht_torrent.torrent.pieces import NOBODY, Bitfield, Block, OpenPiece

CONFIG = TorrentConfig()


def piece(senders: list[int], *, bad: tuple[int, ...] = (), index: int = 0) -> OpenPiece:
    """An assembled piece; the blocks numbered in `bad` are not what they should be."""
    size = len(senders) * BLOCK
    made = OpenPiece(index, size, bytearray(size))
    made.senders[:] = senders
    for number in bad:
        made.buffer[number * BLOCK] = 1
    return made


def test_the_only_sender_of_a_broken_piece_is_guilty_at_once() -> None:
    assert Ledger(CONFIG).failed(piece([3, 3], bad=(1,))) == [3]


def test_of_several_nobody_is_guilty_until_the_piece_passes_and_then_exactly_the_liar() -> None:
    subject = Ledger(CONFIG)
    assert subject.failed(piece([1, 2, 3, 2], bad=(1,))) == []
    assert subject.suspects(0) == {1, 2, 3}
    assert subject.passed(piece([4, 4, 4, 4])) == [2]
    assert subject.suspects(0) == frozenset()


def test_liars_of_every_failed_attempt_are_found() -> None:
    subject = Ledger(CONFIG)
    subject.failed(piece([1, 2, 3], bad=(0,)))
    subject.failed(piece([3, 3, 2], bad=(2,)))
    assert subject.passed(piece([3, 3, 3])) == [1, 2]


def test_a_liar_that_sends_the_right_block_the_second_time_is_found_all_the_same() -> None:
    subject = Ledger(CONFIG)
    subject.failed(piece([1, 2], bad=(0,)))
    assert subject.passed(piece([1, 2])) == [1]


def test_who_is_cleared_gets_its_trust_back() -> None:
    subject = Ledger(CONFIG)
    subject.failed(piece([1, 2], bad=(0,)))
    assert (subject.trust(1), subject.trust(2)) == (-2, -2)
    subject.passed(piece([3, 3]))
    assert (subject.trust(1), subject.trust(2), subject.trust(3)) == (-2, 0, 1)


def test_trust_grows_to_eight_at_most() -> None:
    subject = Ledger(CONFIG)
    for _ in range(20):
        subject.passed(piece([1]))
    assert subject.trust(1) == MAX_TRUST


def test_who_has_less_trust_than_all_the_others_is_banned_at_the_floor() -> None:
    subject = Ledger(CONFIG)
    verdicts = [subject.failed(piece([9, honest], bad=(0,), index=honest)) for honest in range(4)]
    assert verdicts == [[], [], [], [9]]


def test_a_tie_bans_nobody() -> None:
    subject = Ledger(CONFIG)
    for index in range(20):
        assert subject.failed(piece([1, 2], bad=(0,), index=index)) == []


def test_reputation_survives_a_reconnection() -> None:
    subject = Ledger(CONFIG)
    subject.joined(1, Address("8.8.8.8", 1000))
    subject.failed(piece([1, 5], bad=(0,)))
    subject.joined(2, Address("8.8.8.8", 2000))
    assert subject.trust(2) == -2
    assert subject.address(1) == Address("8.8.8.8", 1000)
    subject.joined(3, Address("127.0.0.1", 1000))
    subject.failed(piece([3, 5], bad=(0,)))
    subject.joined(4, Address("127.0.0.1", 2000))
    assert subject.trust(4) == 0


def test_an_unknown_peer_has_no_address() -> None:
    assert Ledger(CONFIG).address(1) is None


def test_a_piece_without_senders_blames_nobody() -> None:
    subject = Ledger(CONFIG)
    assert subject.failed(piece([NOBODY, NOBODY])) == []
    assert subject.passed(piece([NOBODY, NOBODY])) == []


def test_memory_is_bounded() -> None:
    subject = Ledger(CONFIG)
    blocks = 256
    made = piece([1, 2] * (blocks // 2))
    for index in range(MAX_BLOCKS // blocks + 10):
        made.index = index
        subject.failed(made)
    assert subject._blocks == MAX_BLOCKS
    assert subject.suspects(9) == frozenset()
    assert subject.suspects(10) == {1, 2}
    for peer in range(ledger_module.MAX_PEERS + 5):
        subject.joined(peer, Address("8.8.8.8", 1))
    assert subject.address(4) is None
    assert subject.address(5) is not None


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
    ledger = Ledger(config)
    alive = list(range(honest + 1))
    for peer in alive:
        picker.peer_joined(peer)
        picker.peer_has_all(peer)
        ledger.joined(peer, Address("127.0.0.1", 1000 + peer))
    banned: set[int] = set()
    failures = 0
    queues: dict[int, list[Block]] = {peer: [] for peer in alive}
    good, bad = bytes(BLOCK), b"\x01" + bytes(BLOCK - 1)
    while not picker.done:
        peer = rng.choice(alive)
        queues[peer] += picker.next_requests(peer, 2 - picker.outstanding(peer), 0.0)
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
            guilty = ledger.failed(done)
            picker.failed(done.index, ledger.suspects(done.index))
        else:
            guilty = ledger.passed(done)
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
    assert failed_pieces / failed_runs < 1.5
