from __future__ import annotations

import contextlib
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.errors import HandshakeError
from dht_torrent.peer.tls import MAX_HELLO, torrent_named

INFO_HASH = bytes(range(20))


def hello(name: str | None, **changes: object) -> bytes:
    """What OpenSSL says first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for key, value in changes.items():
        setattr(context, key, value)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def by_hand(name: bytes, *, before: bytes = b"") -> bytes:
    """A ClientHello with one cipher suite, written out (RFC 8446, 4.1.2; RFC 6066, 3)."""
    entry = b"\0" + len(name).to_bytes(2, "big") + name
    names = len(entry).to_bytes(2, "big") + entry
    extension = b"\0\0" + len(names).to_bytes(2, "big") + names
    extensions = before + extension
    body = b"\x03\x03" + bytes(32) + b"\0" + b"\0\x02\x13\x01" + b"\x01\0"
    body += len(extensions).to_bytes(2, "big") + extensions
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + len(message).to_bytes(2, "big") + message


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_openssl_names_the_torrent_by_its_infohash(version: ssl.TLSVersion) -> None:
    said = hello(INFO_HASH.hex(), maximum_version=version)
    assert torrent_named(said) == INFO_HASH
    assert torrent_named(hello(INFO_HASH.hex().upper(), maximum_version=version)) == INFO_HASH


def test_a_hello_by_hand_is_read_wherever_the_name_stands() -> None:
    assert torrent_named(by_hand(INFO_HASH.hex().encode())) == INFO_HASH
    before = b"\0\x17\0\0" + b"\0\x0a\0\x04\0\x02\0\x1d"
    assert torrent_named(by_hand(INFO_HASH.hex().encode(), before=before)) == INFO_HASH


def test_more_is_awaited_until_the_hello_is_whole() -> None:
    said = by_hand(INFO_HASH.hex().encode())
    assert [torrent_named(said[:size]) for size in range(len(said))] == [None] * len(said)
    assert torrent_named(said + b"and more") == INFO_HASH


@pytest.mark.parametrize(
    "data",
    [
        b"\x13BitTorrent protocol",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x02\x00\x00\x05",  # SSL 2
        b"\x16\x03\x01\0\0",  # an empty record
        b"\x16\x03\x01\x40\x01",  # one byte above 16 KiB
        b"\x16\x03\x01\0\x04\x02\0\0\0",  # a ServerHello
        by_hand(b""),
        by_hand(b"example.org"),
        by_hand(b"zz" * 20),
        by_hand(b"0 " * 20),  # blanks are not digits
        by_hand(INFO_HASH.hex().encode() + b"."),
        hello(None),
    ],
)
def test_anything_else_is_refused_as_soon_as_it_is_seen(data: bytes) -> None:
    with pytest.raises(HandshakeError):
        torrent_named(data)


def test_no_more_is_awaited_than_one_record() -> None:
    assert torrent_named(b"\x16\x03\x01\x40\0" + bytes(MAX_HELLO - 6)) is None
    with pytest.raises(HandshakeError):
        torrent_named(b"\x16\x03\x01\x40\0" + bytes(MAX_HELLO - 5))


@given(st.binary(max_size=300))
def test_no_bytes_do_harm(data: bytes) -> None:
    for whole in (data, b"\x16\x03\x01" + len(data).to_bytes(2, "big") + b"\x01" + data):
        with contextlib.suppress(HandshakeError):
            assert torrent_named(whole) is None or len(whole) >= 45


@given(st.data())
def test_a_damaged_hello_names_a_torrent_or_is_refused(data: st.DataObject) -> None:
    said = bytearray(by_hand(INFO_HASH.hex().encode()))
    for _ in range(data.draw(st.integers(1, 4))):
        said[data.draw(st.integers(0, len(said) - 1))] = data.draw(st.integers(0, 255))
    try:
        named = torrent_named(said)
    except HandshakeError:
        return
    assert named is None or len(named) == 20
