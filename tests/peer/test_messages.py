"""Each message has its bytes, and only lengths that fit its id are read."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dht_torrent.errors import LocalProtocolError, PeerProtocolError
from dht_torrent.geometry import BLOCK
from dht_torrent.peer.messages import (
    EXACT_LENGTH,
    AllowedFast,
    BitfieldMessage,
    Cancel,
    Choke,
    Extended,
    Have,
    HaveAll,
    HaveNone,
    Interested,
    KeepAlive,
    Message,
    NotInterested,
    Piece,
    Port,
    Reject,
    Request,
    Suggest,
    Unchoke,
    check_length,
    decode,
    encode,
    encode_requests,
    id_of,
    put_piece_headers,
)
from tests.helpers.examples import examples

BY_HAND: list[tuple[Message, str]] = [
    (KeepAlive(), "00000000"),
    (Choke(), "00000001 00"),
    (Unchoke(), "00000001 01"),
    (Interested(), "00000001 02"),
    (NotInterested(), "00000001 03"),
    (Have(0x01020304), "00000005 04 01020304"),
    (BitfieldMessage(b"\xff\x80"), "00000003 05 ff80"),
    (Request(1, 0x4000, 0x4000), "0000000d 06 00000001 00004000 00004000"),
    (Piece(7, 0x8000, b"abc"), "0000000c 07 00000007 00008000 616263"),
    (Cancel(1, 0x4000, 0x4000), "0000000d 08 00000001 00004000 00004000"),
    (Port(6881), "00000003 09 1ae1"),
    (Suggest(5), "00000005 0d 00000005"),
    (HaveAll(), "00000001 0e"),
    (HaveNone(), "00000001 0f"),
    (Reject(1, 0, 0x4000), "0000000d 10 00000001 00000000 00004000"),
    (AllowedFast(1059), "00000005 11 00000423"),
    (Extended(2, b"de"), "00000004 14 02 6465"),
]


@pytest.mark.parametrize(("message", "wire"), BY_HAND, ids=lambda value: str(value)[:20])
def test_a_message_is_written_and_read_as_by_hand(message: Message, wire: str) -> None:
    raw = bytes.fromhex(wire)
    assert encode(message) == raw
    back = decode(raw[4:])
    assert back == message
    assert type(back) is type(message)
    assert id_of(message) == (raw[4] if len(raw) > 4 else -1)


FITTING: dict[int, range] = {
    **{kind: range(length, length + 1) for kind, length in EXACT_LENGTH.items()},
    5: range(2, 21),
    7: range(9, 21),
    20: range(2, 21),
}


def test_each_id_with_each_length_is_read_or_refused() -> None:
    for kind in range(256):
        for length in range(1, 21):
            body = bytes([kind]) + bytes(length - 1)
            if length in FITTING.get(kind, ()):
                assert id_of(decode(body)) == kind
            else:
                with pytest.raises(PeerProtocolError):
                    decode(body)


def test_variable_lengths_end_at_their_bounds() -> None:
    check_length(7, 9 + 16384)
    check_length(5, 1 + 256 * 1024)
    check_length(20, 100, max_extended=100)
    for kind, length in ((7, 10 + 16384), (5, 2 + 256 * 1024), (20, 101)):
        with pytest.raises(PeerProtocolError):
            check_length(kind, length, max_extended=100)


@settings(max_examples=examples(50))
@given(st.lists(st.tuples(*[st.integers(0, 2**32 - 1)] * 3)))
def test_many_requests_are_the_same_bytes_as_one_by_one(asked: list[tuple[int, int, int]]) -> None:
    assert encode_requests(asked) == b"".join(encode(Request(*block)) for block in asked)


@given(
    index=st.integers(0, 2**32 - 1),
    begin=st.integers(0, 2**30),
    length=st.sampled_from([1, 5, 100, BLOCK]),
    blocks=st.integers(1, 40),
    offset=st.integers(0, 3),
)
def test_pieces_are_their_headers_and_their_data(
    index: int, begin: int, length: int, blocks: int, offset: int
) -> None:
    buffer = bytearray(b"x" * (offset + blocks * (13 + length) + 7))
    put_piece_headers(buffer, offset, index, begin, length, blocks)
    pieces = [Piece(index, begin + n * length, b"x" * length) for n in range(blocks)]
    assert buffer == b"x" * offset + b"".join(map(encode, pieces)) + b"xxxxxxx"


@pytest.mark.parametrize(
    "message", [Have(-1), Request(0, 2**32, 1), Port(65536), Extended(256, b""), Piece(-1, 0, b"")]
)
def test_a_number_that_does_not_fit_is_our_own_bug(message: Message) -> None:
    with pytest.raises(LocalProtocolError):
        encode(message)


@given(st.binary(max_size=40))
def test_any_body_is_a_message_or_the_peers_fault(body: bytes) -> None:
    try:
        message = decode(body)
    except PeerProtocolError:
        return
    assert encode(message)[4:] == body
