"""A token is good for one IP, one target, and no longer than ten minutes."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from dht_torrent.dht.tokens import TOKEN_SIZE, Tokens
from dht_torrent.ids import Address
from tests.helpers.examples import examples
from tests.helpers.times import seconds

ALICE = Address("192.0.2.1", 6881)
TARGET = b"t" * 20
MINUTE = 60.0


def tokens(now: float = 0.0) -> Tokens:
    return Tokens(random.Random(1), 5 * MINUTE, now)


def test_a_token_is_accepted_at_once_from_any_port_of_that_ip() -> None:
    made = tokens()
    token = made.make(ALICE, TARGET, 0)
    assert len(token) == TOKEN_SIZE == 8
    assert made.accepts(token, ALICE, TARGET, 0)
    assert made.accepts(token, Address(ALICE.host, 1), TARGET, 0)


def test_a_token_lives_at_least_five_minutes_and_at_most_ten() -> None:
    made = tokens()
    early = made.make(ALICE, TARGET, 0)
    late = made.make(ALICE, TARGET, 5 * MINUTE - 1)
    assert late == early  # one secret
    assert made.accepts(early, ALICE, TARGET, 5 * MINUTE + 1)
    assert made.accepts(late, ALICE, TARGET, 10 * MINUTE - 1)
    assert not made.accepts(early, ALICE, TARGET, 10 * MINUTE + 1)


def test_a_node_that_slept_accepts_nothing_from_before() -> None:
    made = tokens()
    token = made.make(ALICE, TARGET, 0)
    assert not made.accepts(token, ALICE, TARGET, 1000 * MINUTE)
    fresh = made.make(ALICE, TARGET, 1000 * MINUTE)
    assert made.accepts(fresh, ALICE, TARGET, 1005 * MINUTE)


def test_a_token_is_bound_to_ip_and_target_and_every_bit() -> None:
    made = tokens()
    token = made.make(ALICE, TARGET, 0)
    assert not made.accepts(token, Address("192.0.2.2", 6881), TARGET, 0)
    assert not made.accepts(token, ALICE, b"u" * 20, 0)
    assert not made.accepts(b"", ALICE, TARGET, 0)
    assert not made.accepts(token + b"\0", ALICE, TARGET, 0)
    for bit in range(8 * len(token)):
        flipped = bytearray(token)
        flipped[bit // 8] ^= 1 << bit % 8
        assert not made.accepts(bytes(flipped), ALICE, TARGET, 0)


def test_two_nodes_do_not_share_secrets() -> None:
    token = Tokens(random.Random(1), 300, 0).make(ALICE, TARGET, 0)
    assert not Tokens(random.Random(2), 300, 0).accepts(token, ALICE, TARGET, 0)


@settings(max_examples=examples(100))
@given(st.lists(seconds(0, 1000), max_size=8), seconds(0, 1000))
def test_age_alone_decides(turns: list[float], age: float) -> None:
    """Whoever else asks meanwhile, and when, makes no difference to the bounds."""
    made = tokens()
    token = made.make(ALICE, TARGET, 0.0)
    for now in sorted(turn for turn in turns if turn <= age):
        made.make(Address("198.51.100.7", 1), TARGET, now)
    accepted = made.accepts(token, ALICE, TARGET, age)
    if age < 300:
        assert accepted
    if age > 600:
        assert not accepted


def test_a_secret_turns_exactly_when_its_time_is_up() -> None:
    made = tokens(100.0)
    first = made.make(ALICE, TARGET, 100.0)
    assert made.make(ALICE, TARGET, 100.0 + 5 * MINUTE - 1) == first
    second = made.make(ALICE, TARGET, 100.0 + 5 * MINUTE)
    assert second != first
    # A check turns it as well, and a node that comes back late takes no secret for a fresh one.
    assert made.accepts(first, ALICE, TARGET, 100.0 + 10 * MINUTE - 1)
    assert not made.accepts(first, ALICE, TARGET, 100.0 + 10 * MINUTE)
    assert made.accepts(second, ALICE, TARGET, 100.0 + 10 * MINUTE)
    assert not made.accepts(second, ALICE, TARGET, 100.0 + 20 * MINUTE)
