"""Sets of pieces, and the memory pieces are assembled in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.errors import PeerProtocolError
from dht_torrent.geometry import BLOCK
from dht_torrent.torrent.pieces import Bitfield, BufferPool, OpenPiece

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
