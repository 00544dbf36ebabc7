"""Clients have names people can read."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.ids import parse_peer_id
from dht_torrent.peer.identity import client_name, make_peer_id


def test_our_peer_id_says_who_we_are_and_is_different_each_time() -> None:
    rng = random.Random(1)
    first, second = make_peer_id(rng), make_peer_id(rng)
    assert first[:8] == second[:8] == b"-DT0100-"
    assert len(first) == len(second) == 20
    assert first != second
    assert client_name(first) == "dht_torrent 0.1"


@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        (b"-qB4620-", "qBittorrent 4.6.2"),
        (b"-LT20B0-", "libtorrent 2.0.11"),
        (b"-TR4000-", "Transmission 4.0"),
        (b"-ZZ1234-", "ZZ 1.2.3.4"),
        (b"-\x1b[1234-", "unknown"),
        (b"-LT20 0-", "unknown"),
        (b"M7-9-2--", "unknown"),
        (bytes(8), "unknown"),
    ],
)
def test_a_peer_id_gives_its_client_away(prefix: bytes, name: str) -> None:
    assert client_name(parse_peer_id(prefix + bytes(12))) == name


def test_what_a_client_says_of_itself_goes_first() -> None:
    assert client_name(parse_peer_id(b"-qB4620-" + bytes(12)), "qBittorrent/5.0") == (
        "qBittorrent/5.0"
    )


@given(st.binary(min_size=20, max_size=20))
def test_any_peer_id_has_a_name_that_can_be_printed(raw: bytes) -> None:
    assert client_name(parse_peer_id(raw)).isprintable()
