from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.errors import InputError
from dht_torrent.ids import (
    Address,
    HostPort,
    address_from_compact,
    distance,
    parse_address,
    parse_host_port,
    parse_info_hash,
    parse_node_id,
    parse_peer_id,
    place_of,
)

IDS = st.binary(min_size=20, max_size=20)
# Without IPv4 addresses in IPv6 clothes (::/64), which have two spellings and are never used.
ADDRESSES = st.builds(
    Address,
    (st.ip_addresses(v=4) | st.ip_addresses(v=6).filter(lambda ip: int(ip) >> 64)).map(str),
    st.integers(0, 65535),
)


@pytest.mark.parametrize("parse", [parse_node_id, parse_info_hash, parse_peer_id])
def test_an_id_is_20_bytes_and_nothing_else(parse: object) -> None:
    assert callable(parse)
    assert parse(bytes(20)) == bytes(20)
    wrong: list[object] = [b"", bytes(19), bytes(21), "a" * 20, bytearray(20), 20, None, [0] * 20]
    for raw in wrong:
        with pytest.raises(ValueError, match="must be 20 bytes"):
            parse(raw)


@given(IDS, IDS, IDS)
def test_distance_is_a_metric_where_each_point_has_one_neighbour_at_each_distance(
    a: bytes, b: bytes, c: bytes
) -> None:
    assert distance(a, a) == 0
    assert distance(a, b) == distance(b, a)
    assert (distance(a, b) == 0) == (a == b)
    assert distance(a, c) <= distance(a, b) + distance(b, c)
    assert distance(a, b) ^ distance(b, c) == distance(a, c)


@given(ADDRESSES)
def test_a_compact_address_reads_back_the_same(address: Address) -> None:
    assert address_from_compact(address.compact()) == address
    assert len(address.compact()) == (18 if address.is_ipv6 else 6)


def test_compact_is_network_order() -> None:
    assert Address("1.2.3.4", 0x1AE1).compact() == b"\x01\x02\x03\x04\x1a\xe1"
    assert Address("::1", 80).compact() == bytes(15) + b"\x01\x00\x50"


@pytest.mark.parametrize("size", [0, 5, 7, 17, 19, 26])
def test_other_sizes_are_not_a_compact_address(size: int) -> None:
    with pytest.raises(ValueError, match="6 or 18"):
        address_from_compact(bytes(size))


@given(ADDRESSES)
def test_a_printed_address_reads_back_the_same(address: Address) -> None:
    assert parse_address(str(address)) == address
    assert parse_host_port(str(address)) == HostPort(*address)


def test_a_name_is_a_host_but_no_address() -> None:
    assert parse_host_port("seed.example:6881") == HostPort("seed.example", 6881)
    with pytest.raises(InputError, match="not a name"):
        parse_address("seed.example:6881")


def test_addresses_are_canonical() -> None:
    assert parse_address("[2001:DB8:0::1]:1") == Address("2001:db8::1", 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "host",
        ":80",
        "host:",
        "host:x",
        "host:-1",
        "host:65536",
        "host:99999999999999999999",
        "host: 80",
        "host:٨",
        "::1:80",
        "[::1]",
        "[::1:80",
        "[host]:80",
        "[]:80",
        "[fe80::1%eth0]:80",
        "h" * 300 + ":80",
    ],
)
def test_what_is_not_a_host_and_port_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_host_port(text)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_gives_a_host_and_port_or_an_input_error(text: str) -> None:
    try:
        point = parse_host_port(text)
    except InputError:
        return
    assert 0 <= point.port < 65536
    assert point.host


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.255.0.9",
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.1.1",
        "::1",
        "fe80::1",
        "fd00::1",
        "fec0::1",
        "::ffff:10.0.0.1",
        "64:ff9b::10.0.0.1",
        "2002:a00:1::1",
    ],
)
def test_local_addresses(host: str) -> None:
    assert Address(host, 1).is_local


@pytest.mark.parametrize(
    "host",
    [
        *("1.1.1.1", "172.32.0.1", "172.15.0.1", "100.64.0.1", "2001:db8::1", "::ffff:8.8.8.8"),
        *("64:ff9b::8.8.8.8", "2002:808:808::1"),
    ],
)
def test_public_addresses(host: str) -> None:
    assert not Address(host, 1).is_local


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "0.1.2.3", "224.0.0.1", "255.255.255.255", "240.0.0.1", "::", "ff02::1"]
)
def test_no_program_listens_on_these(host: str) -> None:
    assert not Address(host, 6881).is_usable


def test_a_mapped_or_malformed_host_and_a_port_out_of_range_are_unusable() -> None:
    assert not Address("::ffff:1.2.3.4", 6881).is_usable
    assert not Address("seed.example", 6881).is_usable
    assert not Address("1.2.3.4", 0).is_usable
    assert not Address("1.2.3.4", 65536).is_usable
    assert Address("1.2.3.4", 65535).is_usable
    assert Address("2001:db8::1", 1).is_usable


def test_hosts_name_others_as_near_as_they_are_themselves() -> None:
    near = {"9.9.9.9": 0, "2a00::1": 0, "10.0.0.1": 1, "fd00::1": 1, "127.0.0.1": 2, "::1": 2}
    for one in near:
        for other in near:
            named = Address(other, 6881)
            assert Address(one, 1).may_name(named) == (near[one] >= near[other])
            assert not Address(one, 1).may_name(Address(other, 0))


@given(st.ip_addresses(v=4))
def test_private_means_what_the_standard_library_means(ip: ipaddress.IPv4Address) -> None:
    nets = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "169.254.0.0/16")
    assert Address(str(ip), 1).is_local == any(ip in ipaddress.ip_network(net) for net in nets)


@given(st.ip_addresses())
def test_usable_is_what_the_standard_library_calls_neither_multicast_nor_reserved(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    wrong = ip.is_multicast or ip.is_unspecified or (ip.version == 4 and ip.is_reserved)
    nowhere = ip.version == 4 and ip in ipaddress.ip_network("0.0.0.0/8")
    mapped = ip.version == 6 and getattr(ip, "ipv4_mapped", None) is not None
    assert Address(str(ip), 1).is_usable == (not (wrong or nowhere or mapped))


@pytest.mark.parametrize(
    ("host", "place"),
    [
        ("8.8.4.4", "8.8.4.4"),
        ("127.0.0.1", "127.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::", "2001:db8:1:2::"),
        ("::ffff:9.8.7.6", "9.8.7.6"),
        ("not an ip", "not an ip"),
    ],
)
def test_a_place_is_an_ipv4_address_or_a_64(host: str, place: str) -> None:
    assert place_of(host) == place
    assert place_of(place) == place
    assert Address(host, 1).place == place
