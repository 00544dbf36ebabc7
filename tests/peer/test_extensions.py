"""Extension messages are BEP 9's and BEP 10's, and junk in them does no harm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent import bencode
from dht_torrent.errors import PeerProtocolError
from dht_torrent.peer.extension import ExtensionMessage
from dht_torrent.peer.extensions import (
    ExtensionHandshake,
    MetadataData,
    MetadataReject,
    MetadataRequest,
    UploadOnly,
    decode_handshake,
    decode_message,
    encode_handshake,
    printable,
)

MAX = 4 * 1024 * 1024


def handshake(raw: bytes) -> ExtensionHandshake:
    return decode_handshake(raw)


def metadata(raw: bytes) -> ExtensionMessage | None:
    return decode_message(2, raw, max_metadata=MAX)


def on_wire(message: ExtensionMessage) -> tuple[str, bytes]:
    return message.extension, message.payload()


# -- the extension handshake ------------------------------------------------------------------


def test_a_handshake_comes_back_as_it_was() -> None:
    said = ExtensionHandshake(
        client="dht_torrent 0.1",
        port=6881,
        request_queue=500,
        metadata_size=31235,
        upload_only=True,
        your_ip="10.0.0.1",
        prefers_encryption=True,
    )
    assert handshake(encode_handshake(said)) == said


def test_what_is_not_so_is_not_said() -> None:
    raw = encode_handshake(ExtensionHandshake(extensions={}, prefers_encryption=False))
    assert raw == b"d1:mde4:reqqi250ee"


def test_the_example_of_bep_10() -> None:
    # The BEP counts its first micro sign as one byte and spells out the second as two.
    raw = b"d1:md11:LT_metadatai1e6:\xb5T_PEXi2ee1:pi6881e1:v13:\xc2\xb5Torrent 1.2e"
    assert handshake(raw) == ExtensionHandshake(extensions={}, client="\xb5Torrent 1.2", port=6881)


def test_the_example_of_bep_9() -> None:
    said = handshake(b"d1:md11:ut_metadatai3ee13:metadata_sizei31235ee")
    assert said == ExtensionHandshake(extensions={"ut_metadata": 3}, metadata_size=31235)


def test_an_empty_handshake_says_nothing() -> None:
    assert handshake(b"de") == ExtensionHandshake(extensions={})
    assert handshake(b"de").request_queue == 250


def test_keys_may_come_unsorted() -> None:
    assert handshake(b"d1:v1:x1:pi1ee") == ExtensionHandshake(extensions={}, client="x", port=1)


NOTHING = ExtensionHandshake(extensions={})
JUNK: list[tuple[str, bencode.Value, ExtensionHandshake]] = [
    ("reqq", -1, ExtensionHandshake(extensions={}, request_queue=1)),
    ("reqq", 0, ExtensionHandshake(extensions={}, request_queue=1)),
    ("reqq", 1_000_000_000, ExtensionHandshake(extensions={}, request_queue=2000)),
    ("reqq", b"many", NOTHING),
    ("p", 0, NOTHING),
    ("p", -1, NOTHING),
    ("p", 65536, NOTHING),
    ("p", b"6881", NOTHING),
    ("v", b"x" * 60_000, ExtensionHandshake(extensions={}, client="x" * 100)),
    ("v", b"a\x1b[2J\r\nb\xff", ExtensionHandshake(extensions={}, client="a[2Jb")),
    ("v", b"\x00", NOTHING),
    ("v", 5, NOTHING),
    ("metadata_size", 0, NOTHING),
    ("metadata_size", -1, NOTHING),
    ("metadata_size", 2**40, NOTHING),
    ("metadata_size", 2**31, NOTHING),
    ("metadata_size", MAX, ExtensionHandshake(extensions={}, metadata_size=MAX)),
    ("metadata_size", 2**31 - 1, ExtensionHandshake(extensions={}, metadata_size=2**31 - 1)),
    ("yourip", b"\x7f\0\0\x01", ExtensionHandshake(extensions={}, your_ip="127.0.0.1")),
    ("yourip", bytes(15) + b"\x01", ExtensionHandshake(extensions={}, your_ip="::1")),
    ("yourip", b"12345", NOTHING),
    ("upload_only", 0, ExtensionHandshake(extensions={}, upload_only=False)),
    ("upload_only", [], NOTHING),
    ("e", 1, ExtensionHandshake(extensions={}, prefers_encryption=True)),
    ("e", 0, NOTHING),
    ("e", b"1", NOTHING),
    ("m", 3, NOTHING),
    ("m", {b"ut_metadata": 256}, NOTHING),
    ("m", {b"ut_metadata": -1}, NOTHING),
    ("m", {b"ut_metadata": b"2"}, NOTHING),
    ("m", {b"ut_metadata": 255}, ExtensionHandshake(extensions={"ut_metadata": 255})),
    (
        "m",
        {b"\xff": 1, b"ut_pix": 1, b"upload_only": 0},
        ExtensionHandshake(extensions={"upload_only": 0}),
    ),
]


@pytest.mark.parametrize(("key", "value", "expected"), JUNK, ids=lambda value: str(value)[:20])
def test_a_senseless_field_is_taken_as_unsaid(
    key: str, value: bencode.Value, expected: ExtensionHandshake
) -> None:
    assert handshake(bencode.encode({key.encode(): value})) == expected


@pytest.mark.parametrize("raw", [b"", b"le", b"i1e", b"d", b"dede", b"l" * 50_000, b"d1:pi01ee"])
def test_a_handshake_that_is_not_a_dict_is_the_peers_fault(raw: bytes) -> None:
    with pytest.raises(PeerProtocolError):
        handshake(raw)


@given(st.binary(max_size=300))
def test_any_text_becomes_short_and_printable(raw: bytes) -> None:
    text = printable(raw)
    assert text is None or (text.isprintable() and 0 < len(text) <= 100)


# -- metadata ---------------------------------------------------------------------------------


def test_the_messages_of_bep_9() -> None:
    assert on_wire(MetadataRequest(0)) == ("ut_metadata", b"d8:msg_typei0e5:piecei0ee")
    assert on_wire(MetadataReject(0)) == ("ut_metadata", b"d8:msg_typei2e5:piecei0ee")
    # BEP 9 prints this with 3425, and only x's for the bytes behind it.
    head = b"d8:msg_typei1e5:piecei0e10:total_sizei3425ee"
    data = b"x" * 3425
    assert on_wire(MetadataData(0, 3425, data)) == ("ut_metadata", head + data)
    assert metadata(head + data) == MetadataData(0, 3425, data)
    assert metadata(b"d8:msg_typei0e5:piecei0ee") == MetadataRequest(0)
    assert metadata(b"d8:msg_typei2e5:piecei0ee") == MetadataReject(0)


def test_the_end_of_the_dict_is_not_searched_for() -> None:
    data = b"eeee" + b"d8:msg_typei0eee"
    message = MetadataData(0, len(data), data)
    assert metadata(message.payload()) == message


@given(st.integers(1, 3 * 16384), st.integers(0, 2))
def test_a_piece_of_metadata_has_16_kib_or_is_the_last(total: int, piece: int) -> None:
    length = min(16384, total - 16384 * piece)
    if length > 0:
        message = MetadataData(piece, total, b"e" * length)
        assert metadata(message.payload()) == message
    for wrong in {max(0, length - 1), length + 1, 0} - {length}:
        with pytest.raises(PeerProtocolError):
            metadata(MetadataData(piece, total, b"e" * wrong).payload())


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"i1e",
        b"de",
        b"d8:msg_type1:0e",
        b"d8:msg_typei0ee",
        b"d8:msg_typei0e5:piecei-1ee",
        b"d8:msg_typei0e5:piecei4294967296ee",
        b"d8:msg_typei1e5:piecei0ee" + b"x",
        b"d8:msg_typei1e5:piecei0e10:total_sizei0ee",
        b"d8:msg_typei1e5:piecei0e10:total_sizei-1ee",
        b"d8:msg_typei1e5:piecei1e10:total_sizei16384ee",
        b"d8:msg_typei1e5:piecei0e10:total_sizei1099511627776ee" + b"x" * 16384,
        b"d8:msg_typei1e5:piecei0e10:total_size" + b"l" * 100 + b"e" * 101,
    ],
)
def test_a_broken_metadata_message_is_the_peers_fault(raw: bytes) -> None:
    with pytest.raises(PeerProtocolError):
        metadata(raw)


def test_unknown_keys_are_ignored() -> None:
    assert metadata(b"d8:msg_typei3ee") is None
    assert decode_message(9, b"anything", max_metadata=MAX) is None


def test_upload_only_is_one_byte() -> None:
    assert on_wire(UploadOnly(True)) == ("upload_only", b"\x01")
    assert decode_message(3, b"\x01", max_metadata=MAX) == UploadOnly(True)
    assert decode_message(3, b"\x00", max_metadata=MAX) == UploadOnly(False)
    with pytest.raises(PeerProtocolError):
        decode_message(3, b"", max_metadata=MAX)
