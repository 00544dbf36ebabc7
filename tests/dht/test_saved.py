"""Anything may be in a saved state of the DHT; what can be used of it is used."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent import bencode
from dht_torrent.dht.saved import MAX_STATE, SavedState, decode_state, encode_state
from dht_torrent.ids import Address, NodeId

ME = NodeId(b"m" * 20)
FOUR = Address("192.0.2.1", 6881)
SIX = Address("2001:db8::1", 6881)
NOTHING = SavedState(None, [], damaged=True)


def test_what_was_saved_comes_back_in_order() -> None:
    assert decode_state(encode_state(ME, [SIX, FOUR])) == SavedState(ME, [SIX, FOUR])


def test_a_node_that_knew_no_contact_keeps_its_id() -> None:
    assert decode_state(encode_state(ME, [])) == SavedState(ME, [])


def test_addresses_that_no_node_can_be_reached_at_are_left_out() -> None:
    bad = [Address("192.0.2.2", 0), Address("224.0.0.1", 6881)]
    assert decode_state(encode_state(ME, [bad[0], FOUR, bad[1]])) == SavedState(ME, [FOUR])


@pytest.mark.parametrize("state", [b"", b"de ", b"le", b"i1e", b"l" * 100_000])
def test_of_what_is_not_a_dict_nothing_is_used(state: bytes) -> None:
    assert decode_state(state) == NOTHING


def test_an_id_that_is_not_one_costs_the_contacts_as_well() -> None:
    state = bencode.encode({b"id": b"short", b"nodes": [FOUR.compact()]})
    assert decode_state(state) == NOTHING


def test_a_contact_that_cannot_be_read_costs_the_contacts_and_not_the_id() -> None:
    state = bencode.encode({b"id": ME, b"nodes": [FOUR.compact(), b"abc"]})
    assert decode_state(state) == SavedState(ME, [], damaged=True)


def test_what_is_not_a_string_among_the_contacts_is_passed_over() -> None:
    state = bencode.encode({b"id": ME, b"nodes": [5, FOUR.compact()]})
    assert decode_state(state) == SavedState(ME, [FOUR])
    assert decode_state(bencode.encode({b"id": ME, b"nodes": 5})) == SavedState(ME, [])


def test_a_state_is_read_up_to_its_bound_and_not_beyond() -> None:
    def padded(size: int) -> bytes:
        begin = b"d2:id20:" + ME + b"5:nodesle3:pad"
        filling = size - len(begin) - len(b"65000:e")
        return begin + b"%d:" % filling + bytes(filling) + b"e"

    assert len(padded(MAX_STATE)) == MAX_STATE
    assert decode_state(padded(MAX_STATE)) == SavedState(ME, [])
    assert decode_state(padded(MAX_STATE + 1)) == NOTHING


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything(state: bytes) -> None:
    decode_state(state)
    decode_state(b"d2:id20:" + ME + b"5:nodesl" + state + b"ee")
