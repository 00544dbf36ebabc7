"""ut_holepunch's messages (BEP 55)."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.errors import PeerProtocolError
from dht_torrent.ids import Address
from dht_torrent.peer.extension import ExtensionMessage
from dht_torrent.peer.extensions import OUR_IDS, decode_message
from dht_torrent.peer.holepunch import Holepunch, HolepunchFailure, HolepunchKind

FOUR, SIX = Address("93.184.216.34", 6881), Address("2001:db8::7", 65535)
RENDEZVOUS, CONNECT, ERROR = HolepunchKind


def decode(payload: bytes) -> ExtensionMessage | None:
    return decode_message(OUR_IDS["ut_holepunch"], payload, max_metadata=1)


@pytest.mark.parametrize(
    ("message", "payload"),
    [
        (Holepunch(RENDEZVOUS, FOUR), "00 00 5db8d822 1ae1 00000000"),
        (Holepunch(CONNECT, FOUR), "01 00 5db8d822 1ae1 00000000"),
        (Holepunch(ERROR, FOUR, HolepunchFailure.NO_SUCH_PEER), "02 00 5db8d822 1ae1 00000001"),
        (Holepunch(ERROR, FOUR, HolepunchFailure.NOT_CONNECTED), "02 00 5db8d822 1ae1 00000002"),
        (Holepunch(ERROR, FOUR, HolepunchFailure.NO_SUPPORT), "02 00 5db8d822 1ae1 00000003"),
        (Holepunch(ERROR, FOUR, HolepunchFailure.NO_SELF), "02 00 5db8d822 1ae1 00000004"),
        (
            Holepunch(CONNECT, SIX),
            "01 01 20010db8000000000000000000000007 ffff 00000000",
        ),
    ],
)
def test_messages_are_as_the_bep_has_them(message: Holepunch, payload: str) -> None:
    assert message.payload() == bytes.fromhex(payload)
    assert decode(bytes.fromhex(payload)) == message
    assert message.extension == "ut_holepunch"


@given(
    st.sampled_from(HolepunchKind),
    st.ip_addresses(),
    st.integers(0, 65535),
    st.integers(0, (1 << 32) - 1),
)
def test_what_is_encoded_is_decoded(
    kind: HolepunchKind,
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address,
    port: int,
    code: int,
) -> None:
    said = decode(Holepunch(kind, Address(str(ip), port), code).payload())
    assert isinstance(said, Holepunch)
    assert ipaddress.ip_address(said.address.host) == ip
    assert (said.kind, said.address.port) == (kind, port)
    assert said.failure == (code if kind is ERROR else 0)


@pytest.mark.parametrize("address", [FOUR, SIX])
def test_an_error_code_may_be_absent_where_it_says_nothing(address: Address) -> None:
    # Transmission's pull request 8884 found clients that leave it out.
    for kind in (RENDEZVOUS, CONNECT):
        assert decode(Holepunch(kind, address).payload()[:-4]) == Holepunch(kind, address)
    with pytest.raises(PeerProtocolError, match="ut_holepunch has"):
        decode(Holepunch(ERROR, address, 1).payload()[:-4])


@pytest.mark.parametrize("payload", ["", "00", "0000", "00005db8d8221a", "00005db8d8221ae100"])
def test_a_message_that_is_cut_short_or_too_long_is_a_fault(payload: str) -> None:
    with pytest.raises(PeerProtocolError, match="ut_holepunch has"):
        decode(bytes.fromhex(payload))
    with pytest.raises(PeerProtocolError, match="ut_holepunch has"):
        decode(Holepunch(CONNECT, FOUR).payload() + b"\0")
    with pytest.raises(PeerProtocolError, match="ut_holepunch has"):
        decode(b"\0\1" + Holepunch(CONNECT, FOUR).payload()[2:])


@pytest.mark.parametrize("head", ["0300", "ff00", "0002", "00ff"])
def test_kinds_and_families_from_the_future_are_ignored(head: str) -> None:
    assert decode(bytes.fromhex(head) + bytes(10)) is None
    assert decode(bytes.fromhex(head)) is None


@given(st.binary(max_size=40))
def test_any_bytes_are_a_message_or_nothing_or_a_fault(payload: bytes) -> None:
    try:
        said = decode(payload)
    except PeerProtocolError:
        return
    assert said is None or isinstance(said, Holepunch)
