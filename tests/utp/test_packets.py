"""Packets of uTP as bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.errors import UtpError
from dht_torrent.utp.packets import (
    MAX_SACK,
    STATE,
    SYN,
    Packet,
    decode,
    encode,
    is_utp,
    sack_extension,
)

SHORT, LONG = st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
PACKETS = st.builds(
    Packet,
    kind=st.integers(0, SYN),
    connection_id=SHORT,
    timestamp=LONG,
    difference=LONG,
    window=LONG,
    sequence=SHORT,
    acknowledged=SHORT,
    sack=st.integers(0, (1 << MAX_SACK * 8) - 1),
    payload=st.binary(max_size=100),
)
# By hand, after the figure of BEP 29: a STATE with a selective acknowledgement.
BY_HAND = bytes.fromhex("21 01 1234 00000001 00000002 00100000 0007 0005 0004 05000080")


@given(PACKETS)
def test_a_packet_survives_the_way_to_bytes_and_back(packet: Packet) -> None:
    assert decode(encode(packet)) == packet


def test_bytes_are_as_the_bep_has_them() -> None:
    packet = Packet(STATE, 0x1234, 1, 2, 1 << 20, 7, 5, sack=1 | 1 << 2 | 1 << 31)
    assert encode(packet) == BY_HAND
    assert decode(BY_HAND) == packet


def test_bits_of_a_mask_begin_with_the_lowest_of_the_first_byte() -> None:
    # BEP 29: the first byte's least significant bit is `ack_nr + 2`, the next byte's is +10.
    assert sack_extension(1 << 8) == bytes((0, 4, 0, 1, 0, 0))


def test_a_mask_too_long_for_its_length_is_cut() -> None:
    assert sack_extension(1 << 5000 | 1) == bytes((0, MAX_SACK, 1)) + bytes(MAX_SACK - 1)


def test_extensions_that_are_not_known_are_skipped() -> None:
    close_reason = bytes((1, 4, 0, 0, 0, 9))  # libtorrent's 3
    mask = bytes((77, 4, 6, 0, 0, 0))
    other = bytes((0, 0))
    head = bytes((BY_HAND[0], 3)) + BY_HAND[2:20]
    packet = decode(head + close_reason + mask + other + b"bytes")
    assert (packet.sack, bytes(packet.payload)) == (6, b"bytes")


def test_a_mask_of_any_length_is_read() -> None:
    # libtorrent 2.1.1 sends 30 bytes.
    packet = decode(BY_HAND[:21] + bytes((30,)) + bytes(29) + b"\x80" + b"data")
    assert (packet.sack, bytes(packet.payload)) == (1 << 239, b"data")
    assert decode(BY_HAND[:21] + b"\x00").sack == 0


def test_a_payload_is_not_copied() -> None:
    datagram = bytearray(encode(Packet(0, 1, 2, 3, 4, 5, 6, payload=b"before")))
    view = decode(memoryview(datagram)).payload
    datagram[-6:] = b"behind"
    assert bytes(view) == b"behind"


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        BY_HAND[:19],
        b"d" + bytes(30),  # of the DHT
        b"\x22" + BY_HAND[1:],  # version 2
        b"\x51" + BY_HAND[1:],  # type 5
        BY_HAND[:20],  # no extension where one is announced
        BY_HAND[:21],
        BY_HAND[:-1],
        BY_HAND[:20] + b"\x01" + BY_HAND[21:],  # and another is announced
    ],
)
def test_what_is_malformed_is_one_error(datagram: bytes) -> None:
    with pytest.raises(UtpError):
        decode(datagram)


@given(st.binary(max_size=80), st.integers(0, 4), st.integers(0, 255))
def test_no_bytes_are_anything_but_a_packet_or_that_error(rest: bytes, kind: int, ext: int) -> None:
    datagram = bytes((kind << 4 | 1, ext)) + rest
    try:
        packet = decode(datagram)
    except UtpError:
        return
    assert is_utp(datagram)
    assert packet.kind == kind
    assert packet.sack.bit_length() <= 255 * 8
