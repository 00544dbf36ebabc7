"""Sets of pieces, and the memory pieces are assembled in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.errors import PeerProtocolError
from dht_torrent.geometry import BLOCK
from dht_torrent.torrent.pieces import Bitfield, BufferPool, Chunk, OpenPiece, Spill

sizes = st.integers(0, 70)


@st.composite
def bitfields(draw: st.DrawFn, size: int | None = None) -> Bitfield:
    size = draw(sizes) if size is None else size
    return Bitfield(size, draw(st.sets(st.integers(0, size - 1))) if size else ())


def test_the_high_bit_of_the_first_byte_is_piece_zero() -> None:
    assert Bitfield(10, [0, 9]).to_wire() == b"\x80\x40"
    assert list(Bitfield.from_wire(b"\x41\x80", 9)) == [1, 7, 8]


@given(bitfields())
def test_what_goes_over_the_wire_comes_back(bits: Bitfield) -> None:
    again = Bitfield.from_wire(memoryview(bits.to_wire()), bits.size)
    assert again == bits
    assert again.count == bits.count == len(list(bits))


@given(st.binary(max_size=12), sizes)
def test_any_payload_is_a_bitfield_or_a_protocol_error(payload: bytes, size: int) -> None:
    try:
        bits = Bitfield.from_wire(payload, size)
    except PeerProtocolError:
        value = int.from_bytes(payload, "big")
        assert len(payload) != (size + 7) // 8 or value & ((1 << -size % 8) - 1)
    else:
        assert bits.to_wire() == payload


@pytest.mark.parametrize("payload", [b"", b"\xff", b"\xff\x80\x00", b"\xff\xc0", b"\xff\x01"])
def test_a_wrong_length_or_a_spare_bit_is_refused(payload: bytes) -> None:
    with pytest.raises(PeerProtocolError):
        Bitfield.from_wire(payload, 9)


@given(st.data(), sizes)
def test_it_behaves_as_a_set(data: st.DataObject, size: int) -> None:
    a, b = data.draw(bitfields(size)), data.draw(bitfields(size))
    left, right = set(a), set(b)
    assert set(a & b) == left & right
    assert set(a | b) == left | right
    assert set(a - b) == left - right
    assert (a - b).count == len(left - right)
    assert set(a.missing()) == set(range(size)) - left
    assert a.complete == (len(left) == size)
    assert list(a) == sorted(left)
    assert set(Bitfield.full(size)) == set(range(size))


def test_adding_and_discarding_twice_changes_nothing() -> None:
    bits = Bitfield(3)
    assert bits.add(1)
    assert not bits.add(1)
    assert (1 in bits, 0 in bits, bits.count) == (True, False, 1)
    assert bits.discard(1)
    assert not bits.discard(1)
    assert bits.count == 0


def test_an_open_piece_has_exactly_the_pieces_bytes() -> None:
    piece = OpenPiece(7, BLOCK + 1, bytearray(2 * BLOCK))
    assert len(piece.buffer) == piece.size == BLOCK + 1
    assert len(piece.blocks) == len(piece.senders) == piece.left == piece.free == 2


def test_a_buffer_is_used_again_for_its_own_size_only() -> None:
    pool = BufferPool(limit=100)
    buffer = pool.take(40)
    pool.give(buffer)
    assert pool.held == 40
    assert pool.take(30) is not buffer
    assert pool.take(40) is buffer
    assert pool.held == 0


def test_the_pool_never_holds_more_than_its_limit() -> None:
    pool = BufferPool(limit=100)
    for _ in range(5):
        pool.give(bytearray(40))
    assert pool.held == 80


def test_spare_buffers_are_kept_within_the_limit_the_size_unused_longest_goes_first() -> None:
    pool = BufferPool(1000)
    for size in (300, 400):
        pool.give(bytearray(size))
    assert pool.held == 700
    pool.give(pool.take(300))  # used more recently than the one of 400
    pool.give(bytearray(500))
    assert pool.held == 800
    assert len(pool.take(300)) == 300
    assert pool.held == 500  # so that of 400 had gone
    pool.give(bytearray(2000))  # more than all there may be
    assert pool.held == 500


def test_spare_buffers_not_needed_between_two_trims_are_given_up() -> None:
    pool = BufferPool(10_000)
    for _ in range(5):
        pool.give(bytearray(100))
    pool.trim()
    assert pool.held == 500  # they may be needed yet
    taken = [pool.take(100), pool.take(100)]
    for buffer in taken:
        pool.give(buffer)
    pool.trim()
    assert pool.held == 200
    pool.trim()
    assert pool.held == 0
    pool.give(bytearray(100))
    pool.trim()
    assert pool.held == 100  # it came after the last trim


def test_a_buffer_is_handed_out_once() -> None:
    pool = BufferPool(10_000)
    buffer = bytearray(100)
    pool.give(buffer)
    assert pool.take(100) is buffer
    assert pool.take(100) is not buffer
    assert pool.held == 0


def test_a_chunk_keeps_runs_apart_and_in_the_order_they_came() -> None:
    chunk = Chunk(bytearray(3 * BLOCK))
    assert not chunk.full
    chunk.put(0, b"a" * BLOCK)
    chunk.put(BLOCK, b"b" * BLOCK)  # goes on where the first ends
    assert not chunk.full
    chunk.put(5 * BLOCK, b"c" * 100)
    assert chunk.full
    assert chunk.blocks == 3
    assert chunk.filled == 2 * BLOCK + 100
    assert [(begin, bytes(data)) for begin, data in chunk.parts()] == [
        (0, b"a" * BLOCK + b"b" * BLOCK),
        (5 * BLOCK, b"c" * 100),
    ]
    other = Chunk(bytearray(2 * BLOCK))
    other.put(BLOCK, b"b" * BLOCK)
    other.put(0, b"a" * BLOCK)
    assert [begin for begin, _ in other.parts()] == [BLOCK, 0]
    assert other.full


def test_a_spill_begins_with_nothing_on_its_way() -> None:
    spill = Spill(3)
    assert (spill.slot, spill.chunk, spill.held, spill.away) == (3, None, 0, 0)
    assert (spill.chunks_away, spill.closed) == (0, False)
    piece = OpenPiece(7, 2 * BLOCK, bytearray(), spill)
    assert piece.spill is spill
    assert (piece.index, len(piece.buffer), piece.left) == (7, 0, 2)


def test_bitfields_are_equal_by_their_bits_alone() -> None:
    assert Bitfield(9, [1]) == Bitfield(9, [1])
    assert Bitfield(9, [1]) != Bitfield(9, [2])
    assert Bitfield(9, [1]) != [1]


def test_a_pool_keeps_buffers_up_to_its_limit_and_none_that_is_longer() -> None:
    pool = BufferPool(100)
    pool.give(bytearray(101))
    pool.give(bytearray(0))
    assert pool.held == 0
    pool.give(bytearray(100))
    assert pool.held == 100
    assert len(pool.take(100)) == 100
    assert pool.held == 0


def test_a_pool_gives_up_what_was_not_needed_between_two_trims() -> None:
    pool = BufferPool(1000)
    for _ in range(3):
        pool.give(bytearray(10))
    pool.trim()
    assert pool.held == 30
    taken = pool.take(10)
    pool.give(taken)
    pool.trim()  # two of the three lay idle all the time
    assert pool.held == 10
    pool.trim()
    assert pool.held == 0
    pool.trim()
    assert pool.held == 0
