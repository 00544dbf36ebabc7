"""The header of datagrams that go through a proxy."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dht_torrent.errors import SocksError
from dht_torrent.ids import Address, HostPort, address_from_compact
from dht_torrent.socks.datagrams import OVERHEAD, unwrap, wrap

addresses = st.one_of(st.binary(min_size=6, max_size=6), st.binary(min_size=18, max_size=18)).map(
    address_from_compact
)


def test_the_header_is_that_of_rfc_1928() -> None:
    # +----+------+------+----------+----------+----------+
    # |RSV | FRAG | ATYP | DST.ADDR | DST.PORT |   DATA   |
    # +----+------+------+----------+----------+----------+
    four = bytes.fromhex("0000 00 01 01020304 1ae1") + b"data"
    assert wrap(b"data", Address("1.2.3.4", 6881)) == four
    assert unwrap(four) == (b"data", Address("1.2.3.4", 6881))
    six = bytes.fromhex("0000 00 04 20010db8000000000000000000000007 0050") + b"data"
    assert wrap(b"data", Address("2001:db8::7", 80)) == six
    assert unwrap(six) == (b"data", Address("2001:db8::7", 80))
    name = bytes.fromhex("0000 00 03 0b") + b"example.com" + bytes.fromhex("1ae1") + b"data"
    assert wrap(b"data", HostPort("example.com", 6881)) == name


def test_a_name_beyond_ascii_is_sent_as_its_punycode() -> None:
    assert wrap(b"", HostPort("bücher.example", 1))[4:-2] == b"\x15xn--bcher-kva.example"


@pytest.mark.parametrize("name", ["", "a" * 64, "a..b", ".".join(["a" * 63] * 5), "\ud800"])
def test_what_is_no_domain_name_is_not_sent(name: str) -> None:
    with pytest.raises(SocksError, match="no domain name"):
        wrap(b"", HostPort(name, 1))


@given(st.binary(max_size=30), addresses)
def test_what_is_wrapped_is_unwrapped(data: bytes, address: Address) -> None:
    wrapped = wrap(data, address)
    assert len(wrapped) <= OVERHEAD + len(data)
    assert unwrap(wrapped) == (data, address)


@pytest.mark.parametrize("fragment", [1, 2, 0x7F, 0x80, 0xFF])
def test_fragments_are_refused(fragment: int) -> None:
    datagram = bytes([0, 0, fragment]) + wrap(b"data", Address("1.2.3.4", 1))[3:]
    with pytest.raises(SocksError, match="fragment"):
        unwrap(datagram)


@pytest.mark.parametrize("head", ["0100", "0001", "ffff"])
def test_reserved_bytes_are_none(head: str) -> None:
    datagram = bytes.fromhex(head) + wrap(b"data", Address("1.2.3.4", 1))[2:]
    with pytest.raises(SocksError, match="no header"):
        unwrap(datagram)


@pytest.mark.parametrize("host", ["1.2.3.4", "2001:db8::7"])
def test_a_header_that_is_cut_is_refused(host: str) -> None:
    whole = wrap(b"", Address(host, 6881))
    assert unwrap(whole) == (b"", Address(host, 6881))
    for end in range(len(whole)):
        with pytest.raises(SocksError):
            unwrap(whole[:end])


@pytest.mark.parametrize("length", [0, 1, 200, 255])
def test_a_datagram_from_a_name_is_from_nobody(length: int) -> None:
    datagram = b"\0\0\0\x03" + bytes([length]) + b"a" * length + b"\0\x01data"
    with pytest.raises(SocksError):
        unwrap(datagram)


@pytest.mark.parametrize("kind", [0, 2, 5, 255])
def test_other_types_of_addresses_are_refused(kind: int) -> None:
    with pytest.raises(SocksError, match="type"):
        unwrap(bytes([0, 0, 0, kind]) + bytes(40))


@given(st.binary(max_size=40))
@example(b"\0\0\0\x03")
def test_any_bytes_are_unwrapped_or_refused(datagram: bytes) -> None:
    try:
        data, source = unwrap(datagram)
    except SocksError:
        return
    assert wrap(data, source) == datagram
