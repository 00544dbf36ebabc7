"""Pieces of all torrents stay within the node's memory, and no torrent is left without a piece."""

from __future__ import annotations

import random

import pytest

from dht_torrent.config import TorrentConfig
from dht_torrent.geometry import BLOCK
from dht_torrent.torrent.memory import SLOTS, PieceMemory, TorrentMemory
from dht_torrent.torrent.pieces import OpenPiece

BATCH = 4 * BLOCK


def torrents(count: int, limit: int, **config: int) -> tuple[PieceMemory, list[TorrentMemory]]:
    node = PieceMemory(limit, spare=limit)
    bounds = TorrentConfig(**{"spill_batch": BATCH, "max_piece_in_memory": 16 * BLOCK, **config})
    return node, [TorrentMemory(node, bounds) for _ in range(count)]


def test_a_piece_is_in_memory_while_there_is_room_and_then_on_the_disk() -> None:
    node, (first, second, third) = torrents(3, limit=16 * BLOCK)
    assert first.open(0, 16 * BLOCK).spill is None
    assert not first.fits(8 * BLOCK)  # it has one
    piece = second.open(0, 16 * BLOCK)
    assert piece.spill is not None
    assert len(piece.buffer) == 0
    assert not second.fits(16 * BLOCK)
    assert third.open(0, BATCH).spill is None  # no more than what the disk would take
    assert node.used == 16 * BLOCK + 2 * BATCH


def test_a_large_piece_is_on_the_disk_however_much_memory_there_is() -> None:
    _, (subject,) = torrents(1, limit=1 << 40)
    pieces = [subject.open(index, 17 * BLOCK) for index in range(SLOTS)]
    assert [piece.spill is not None for piece in pieces] == [True] * SLOTS
    assert not subject.fits(17 * BLOCK)
    assert len({piece.spill.slot for piece in pieces if piece.spill}) == SLOTS
    subject.close(pieces[0])
    assert subject.fits(17 * BLOCK)


def test_the_largest_piece_in_memory_is_just_that() -> None:
    _, (subject,) = torrents(1, limit=1 << 40)
    assert subject.open(0, 16 * BLOCK).spill is None
    assert subject.open(1, 16 * BLOCK + 1).spill is not None


def test_a_second_piece_is_opened_though_it_is_more_than_the_torrent_s_part() -> None:
    _, (subject,) = torrents(1, limit=1 << 40, max_open_bytes=1)
    assert subject.open(0, 16 * BLOCK).spill is None
    assert subject.open(1, 16 * BLOCK).spill is None
    assert not subject.fits(1)


def test_a_spilled_piece_has_its_batch_and_more_while_there_is_room() -> None:
    node, (subject, other) = torrents(2, limit=10 * BLOCK)
    spill = subject.open(0, 100 * BLOCK).spill
    assert spill is not None
    assert subject.grant(spill, 3) == 3
    assert node.used == BATCH
    assert subject.grant(spill, 100) == 7
    assert (node.used, subject.grant(spill, 1)) == (10 * BLOCK, 0)
    there = other.open(0, 100 * BLOCK).spill
    assert there is not None
    assert other.grant(there, 100) == 4
    for _ in range(8):
        subject.waive(spill)
    assert node.used == 2 * BATCH
    assert other.grant(there, 100) == 2


def test_blocks_go_to_the_disk_by_the_batch_and_are_free_when_they_are_there() -> None:
    node, (subject,) = torrents(1, limit=1 << 40)
    piece = subject.open(0, 100 * BLOCK)
    spill = piece.spill
    assert spill is not None
    assert subject.grant(spill, 9) == 9
    full = [subject.put(spill, number * BLOCK, b"x" * BLOCK) for number in (7, 8, 2, 3)]
    assert full[:3] == [None] * 3
    chunk = full[3]
    assert chunk is not None
    assert [(at, len(data)) for at, data in chunk.parts()] == [
        (7 * BLOCK, 2 * BLOCK),
        (2 * BLOCK, 2 * BLOCK),
    ]
    assert node.used == 9 * BLOCK
    subject.landed(spill, chunk)
    assert node.used == 5 * BLOCK
    assert node.spare.held == BATCH
    subject.put(spill, 0, b"x" * 100)  # the last block of a piece may be short
    rest = subject.flush(spill)
    assert rest is not None
    assert (rest.filled, rest.blocks) == (100, 1)
    assert subject.flush(spill) is None


def test_a_closed_piece_keeps_its_slot_until_the_disk_has_done_with_it() -> None:
    node, (subject,) = torrents(1, limit=1 << 40)
    piece = subject.open(0, 100 * BLOCK)
    spill = piece.spill
    assert spill is not None
    subject.grant(spill, 6)
    chunks = [subject.put(spill, number * BLOCK, bytes(BLOCK)) for number in range(6)]
    chunk = chunks[3]
    assert chunk is not None
    subject.close(piece)
    assert node.used == BATCH
    assert subject.spills
    assert subject.settling
    others = [subject.open(1, 100 * BLOCK)]
    assert not subject.fits(100 * BLOCK)
    subject.landed(spill, chunk)
    assert not subject.settling
    others.append(subject.open(2, 100 * BLOCK))
    assert {one.spill.slot for one in others if one.spill} == {0, 1}
    for one in others:
        subject.close(one)
    assert (node.used, subject.used, subject.spills) == (0, 0, False)


def test_buffers_kept_for_later_make_way_for_pieces() -> None:
    node, (subject,) = torrents(1, limit=16 * BLOCK)
    for _ in range(2):
        subject.close(subject.open(0, 16 * BLOCK))
    assert node.spare.held == 16 * BLOCK
    subject.open(0, 8 * BLOCK)
    assert node.used + node.spare.held <= node.limit


def test_a_torrent_that_ends_leaves_nothing_behind() -> None:
    node, (subject, other) = torrents(2, limit=1 << 40)
    other.open(0, BLOCK)
    subject.open(0, BLOCK)
    spill = subject.open(1, 100 * BLOCK).spill
    assert spill is not None
    subject.grant(spill, 50)
    subject.release()
    assert node.used == BLOCK


@pytest.mark.parametrize("seed", range(20))
def test_whatever_many_torrents_do_the_node_is_bounded_and_each_gets_on(seed: int) -> None:
    rng = random.Random(seed)
    limit = rng.choice([1, 20 * BLOCK, 100 * BLOCK])
    node, them = torrents(8, limit=limit, max_open_bytes=40 * BLOCK)
    pieces: list[list[OpenPiece]] = [[] for _ in them]
    for _ in range(2000):
        number = rng.randrange(len(them))
        subject, mine = them[number], pieces[number]
        size = BLOCK * rng.choice([1, 4, 5, 16, 17, 500])
        assert mine or subject.fits(size)
        if subject.fits(size) and rng.random() < 0.5:
            mine.append(subject.open(0, size))
        elif mine:
            piece = rng.choice(mine)
            if piece.spill is None or rng.random() < 0.1:
                mine.remove(piece)
                subject.close(piece)
            elif rng.random() < 0.6:
                count = rng.randrange(1, 50)
                granted = subject.grant(piece.spill, count)
                assert granted == count or piece.spill.held * BLOCK >= BATCH
            elif piece.spill.held:
                subject.waive(piece.spill)
        assert node.used == sum(one.used for one in them)
        # One piece of each torrent may be beyond the bound, and by no more than a batch.
        assert node.used <= limit + BATCH * len(them)
        assert node.used + node.spare.held <= max(node.used, limit)


def test_no_piece_is_opened_beyond_the_bound_while_chunks_of_another_are_written() -> None:
    node, (subject,) = torrents(1, limit=BLOCK)
    piece = subject.open(0, 100 * BLOCK)
    spill = piece.spill
    assert spill is not None
    assert subject.grant(spill, 4) == 4
    for number in range(4):
        chunk = subject.put(spill, number * BLOCK, bytes(BLOCK))
    assert chunk is not None
    subject.close(piece)
    assert node.used == BATCH
    for size in (BLOCK, BATCH, 100 * BLOCK):
        assert not subject.fits(size)
    subject.landed(spill, chunk)
    assert node.used == 0
    for size in (BLOCK, BATCH, 100 * BLOCK):
        assert subject.fits(size)


def test_what_was_made_for_receiving_into_a_buffer_serves_the_next_piece_in_it() -> None:
    _, (subject,) = torrents(1, limit=16 * BLOCK)
    piece = subject.open(1, 2 * BLOCK + 5)
    landing, storage = piece.landing, piece.storage
    subject.close(piece)
    assert not any(piece.landing[1][1::2])  # it does not reach the next one's
    other, one_more = subject.open(7, 2 * BLOCK + 5), subject.open(8, 2 * BLOCK + 5)
    assert other.storage is storage
    assert other.landing is landing
    assert one_more.landing is not landing
    headers, buffers = other.landing
    assert len(headers) == 2 * 13
    for place in (1, 3):
        buffers[place][:] = bytes([place]) * BLOCK
    assert other.buffer == b"\1" * BLOCK + b"\3" * BLOCK + bytes(5)
    subject.close(other)
    assert subject.open(9, 2 * BLOCK).landing is not landing
