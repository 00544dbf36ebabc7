"""The bytes of PCP and NAT-PMP, by hand from RFC 6887 and RFC 6886."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.errors import PortMapError
from dht_torrent.ids import Address
from dht_torrent.portmap import natpmp, pcp
from dht_torrent.portmap.natpmp import NatPmpAnswer, NatPmpMapping
from dht_torrent.portmap.pcp import PcpAnswer, PcpMapping
from dht_torrent.portmap.ports import IpProtocol, LocalPort, is_public

NONCE = bytes(range(12))
TCP, UDP = LocalPort(IpProtocol.TCP, 6881), LocalPort(IpProtocol.UDP, 6881)


def test_a_pcp_map_request_is_as_in_rfc_6887() -> None:
    made = pcp.encode_map("192.168.1.2", NONCE, TCP, 7200, Address("203.0.113.5", 6882))
    assert made == bytes.fromhex(
        "02 01 0000 00001c20"
        "0000000000000000 0000ffff c0a80102"
        "000102030405060708090a0b"
        "06 000000 1ae1 1ae2"
        "0000000000000000 0000ffff cb007105"
    )


def test_a_pcp_deletion_has_no_lifetime_and_suggests_nothing() -> None:
    made = pcp.encode_map("10.0.0.2", NONCE, UDP, 0, Address("0.0.0.0", 0))
    assert made[:8] == bytes.fromhex("0201 0000 00000000")
    assert made[36:] == bytes.fromhex("11 000000 1ae1 0000 00000000000000000000ffff 00000000")


def test_a_pcp_announce_is_a_header_alone() -> None:
    assert pcp.encode_announce("fd00::1") == bytes.fromhex(
        "0200 0000 00000000 fd000000000000000000000000000001"
    )


RESPONSE = bytes.fromhex(
    "02 81 00 00 00000e10 0001e240 000000000000000000000000"
    "000102030405060708090a0b 06 000000 1ae1 d431 00000000000000000000ffff cb007105"
)


def test_a_pcp_map_response_is_read() -> None:
    mapping = PcpMapping(NONCE, 6, 6881, Address("203.0.113.5", 54321))
    assert pcp.decode(RESPONSE) == PcpAnswer(pcp.MAP, 0, 3600, 123456, mapping)


def test_options_of_a_pcp_response_are_not_looked_at() -> None:
    assert pcp.decode(RESPONSE + bytes.fromhex("01000004 deadbeef")) == pcp.decode(RESPONSE)


def test_a_pcp_announce_response_is_read() -> None:
    data = bytes.fromhex("0280 0000 00000000 0000002a 000000000000000000000000")
    assert pcp.decode(data) == PcpAnswer(pcp.ANNOUNCE, 0, 0, 42, None)


def test_a_pcp_error_may_come_with_another_version_and_without_a_mapping() -> None:
    data = bytes.fromhex("0181 0001 00000708 0000002a 000000000000000000000000")
    assert pcp.decode(data) == PcpAnswer(pcp.MAP, 1, 1800, 42, None)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        RESPONSE[:20],
        RESPONSE[:-1],
        RESPONSE[:-4],  # a mapping that is cut short
        b"\x02\x01" + RESPONSE[2:],  # a request
        b"\x03" + RESPONSE[1:],
        RESPONSE + bytes(1044),  # longer than 1100 bytes
    ],
    ids=["empty", "short", "odd", "cut", "request", "version", "long"],
)
def test_what_is_not_a_pcp_response_is_refused(data: bytes) -> None:
    with pytest.raises(PortMapError):
        pcp.decode(data)


def test_natpmp_requests_are_as_in_rfc_6886() -> None:
    assert natpmp.encode_address() == b"\0\0"
    assert natpmp.encode_map(UDP, 7200, 6882) == bytes.fromhex("0001 0000 1ae1 1ae2 00001c20")
    assert natpmp.encode_map(TCP, 0, 0) == bytes.fromhex("0002 0000 1ae1 0000 00000000")


def test_natpmp_responses_are_read() -> None:
    address = natpmp.decode(bytes.fromhex("0080 0000 0001e240 cb007105"))
    assert address == NatPmpAnswer(natpmp.ADDRESS, 0, 123456, "203.0.113.5", None)
    mapped = natpmp.decode(bytes.fromhex("0082 0000 00000001 1ae1 d431 00000e10"))
    assert mapped == NatPmpAnswer(2, 0, 1, None, NatPmpMapping(TCP, 54321, 3600))
    mapped = natpmp.decode(bytes.fromhex("0081 0003 00000001 1ae1 0000 00000000"))
    assert mapped == NatPmpAnswer(1, 3, 1, None, NatPmpMapping(UDP, 0, 0))


def test_natpmp_errors_may_be_cut_short() -> None:
    assert natpmp.decode(bytes.fromhex("0081 0001 00000001")) == NatPmpAnswer(1, 1, 1, None, None)
    no_address = natpmp.decode(bytes.fromhex("0080 0003 00000001 cb007105"))
    assert no_address == NatPmpAnswer(0, 3, 1, None, None)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0080 0000 000000",
        "0080 0000 00000001",
        "0082 0000 00000001 1ae1 d431",
        "0002 0000 00000001 1ae1 d431 00000e10",
        "0182 0000 00000001 1ae1 d431 00000e10",
        "0085 0000 00000001",
        "0082 0000 00000001 1ae1 d431 00000e10 00",
    ],
)
def test_what_is_not_a_natpmp_response_is_refused(text: str) -> None:
    with pytest.raises(PortMapError):
        natpmp.decode(bytes.fromhex(text))


@given(st.binary(max_size=80))
def test_any_bytes_raise_nothing_but_the_codecs_own_error(data: bytes) -> None:
    for decode in (pcp.decode, natpmp.decode):
        try:
            decode(data)
        except PortMapError:
            continue


@given(
    st.integers(0, 255),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.binary(min_size=12, max_size=12),
    st.integers(0, 255),
    st.integers(0, 65535),
    st.integers(0, 65535),
    st.ip_addresses(),
)
def test_a_pcp_response_says_what_was_put_into_it(
    result: int,
    lifetime: int,
    epoch: int,
    nonce: bytes,
    protocol: int,
    internal: int,
    external: int,
    ip: object,
) -> None:
    made = (
        bytes((2, 0x81, 0, result))
        + lifetime.to_bytes(4, "big")
        + epoch.to_bytes(4, "big")
        + bytes(12)
        + nonce
        + bytes((protocol, 0, 0, 0))
        + internal.to_bytes(2, "big")
        + external.to_bytes(2, "big")
        + pcp._pack(str(ip))
    )
    answer = pcp.decode(made)
    assert (answer.result, answer.lifetime, answer.epoch) == (result, lifetime, epoch)
    said = answer.mapping
    assert said is not None
    assert (said.nonce, said.protocol, said.internal_port) == (nonce, protocol, internal)
    assert said.external.port == external
    assert pcp._pack(said.external.host) == pcp._pack(str(ip))


def test_results_are_told_in_words_where_there_are_any() -> None:
    assert pcp.meaning(8) == "it has no room for more mappings"
    assert pcp.meaning(3) == "error MALFORMED_REQUEST"
    assert pcp.meaning(77) == "error 77"
    assert natpmp.meaning(3) == "it is not connected itself"
    assert natpmp.meaning(5) == "error UNSUPPORTED_OPCODE"
    assert natpmp.meaning(9) == "error 9"


@pytest.mark.parametrize(
    ("host", "public"),
    [
        ("8.8.8.8", True),
        ("10.0.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),  # of carriers (RFC 6598)
        ("169.254.1.1", False),
        ("224.0.0.1", False),
        ("239.1.2.3", False),
    ],
)
def test_which_addresses_of_a_gateway_the_world_can_reach(host: str, public: bool) -> None:
    assert is_public(host) == public
