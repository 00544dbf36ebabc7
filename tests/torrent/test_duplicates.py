"""Of two connections that may be of one peer the right one stays."""

from __future__ import annotations

import pytest

from dht_torrent.config import PeerConfig
from dht_torrent.ids import Address, PeerId
from dht_torrent.torrent.duplicates import (
    CROSSING,
    REMEMBERED,
    REMEMBERED_FOR,
    Claim,
    Duplicates,
    Verdict,
)

OURS, LOW, HIGH = (PeerId(byte * 20) for byte in (b"m", b"a", b"z"))
HERE, ALSO_HERE, THERE = (Address(h, 1) for h in ("9.0.0.1", "9.0.0.1", "9.0.0.2"))
SIX = Address("2001:db8::1", 1)
LOCAL = Address("127.0.0.1", 1)


def settle(older: Claim, newer: Claim, *, age: float = 100.0, silence: float = 0.0) -> Verdict:
    return Duplicates(OURS, PeerConfig()).settle(older, newer, 0.0, age=age, silence=silence)


@pytest.mark.parametrize("address", [HERE, LOCAL])
@pytest.mark.parametrize(
    ("older_came", "newer_came", "theirs", "age", "expected"),
    [
        (True, True, LOW, 0.0, Verdict.REPLACE),
        (True, True, HIGH, 1e6, Verdict.REPLACE),
        (False, False, LOW, 0.0, Verdict.REFUSE),
        # Crossed: the connection that the higher id dialled stays.
        (True, False, LOW, 0.0, Verdict.REPLACE),
        (True, False, HIGH, 0.0, Verdict.REFUSE),
        (False, True, HIGH, 0.0, Verdict.REPLACE),
        (False, True, LOW, 0.0, Verdict.REFUSE),
        (False, True, LOW, CROSSING - 1, Verdict.REFUSE),
        # Too late to have crossed: only who dialled us may know that the older one is dead.
        (False, True, LOW, CROSSING, Verdict.ASK),
        (False, True, HIGH, CROSSING, Verdict.ASK),
        (True, False, HIGH, CROSSING, Verdict.REFUSE),
        (True, False, LOW, CROSSING, Verdict.REFUSE),
    ],
)
def test_a_peer_that_comes_back_from_its_host_has_its_place_again(
    older_came: bool,
    newer_came: bool,
    theirs: PeerId,
    age: float,
    expected: Verdict,
    address: Address,
) -> None:
    older = Claim(theirs, address, older_came)
    newer = Claim(theirs, address._replace(port=2), newer_came)
    assert settle(older, newer, age=age) is expected


@pytest.mark.parametrize("older_came", [True, False])
def test_when_we_dial_a_peer_again_the_older_must_answer_if_it_was_silent(
    older_came: bool,
) -> None:
    older, newer = Claim(LOW, HERE, older_came), Claim(LOW, HERE, False)
    assert settle(older, newer, silence=59.0) is Verdict.REFUSE
    assert settle(older, newer, silence=60.0) is Verdict.ASK


@pytest.mark.parametrize("incoming", [True, False])
def test_an_id_claimed_from_elsewhere_costs_no_peer_its_place(incoming: bool) -> None:
    older = Claim(LOW, HERE, True)
    newer = Claim(LOW, THERE, incoming)
    assert settle(older, newer, age=0.0) is Verdict.BESIDE
    assert settle(older, newer, silence=1e6) is Verdict.BESIDE


def test_a_public_host_has_one_connection_and_a_local_one_many() -> None:
    older, newer = Claim(LOW, HERE, True), Claim(HIGH, ALSO_HERE, True)
    assert settle(older, newer) is Verdict.REFUSE
    assert settle(older, newer, silence=60.0) is Verdict.ASK
    assert settle(older, Claim(HIGH, THERE, True)) is Verdict.BESIDE
    assert settle(Claim(LOW, LOCAL, True), Claim(HIGH, LOCAL, True)) is Verdict.BESIDE
    six = Claim(LOW, Address("2001:db8::2", 1), True)
    assert settle(six, Claim(HIGH, SIX, True)) is Verdict.REFUSE


def test_in_the_other_family_a_claim_is_turned_away_once() -> None:
    subject = Duplicates(OURS, PeerConfig())
    older, newer = Claim(LOW, HERE, True), Claim(LOW, SIX, True)

    def verdict(claim: Claim, now: float) -> Verdict:
        return subject.settle(older, claim, now, age=1.0, silence=0.0)

    assert verdict(newer, 0.0) is Verdict.LOOK_AGAIN
    subject.turned_away(newer, 0.0)
    assert verdict(newer, 1.0) is Verdict.BESIDE
    assert verdict(Claim(LOW, SIX, False), 1.0) is Verdict.LOOK_AGAIN
    assert verdict(newer, REMEMBERED_FOR) is Verdict.LOOK_AGAIN
    subject.turned_away(newer, 0.0)
    for number in range(REMEMBERED):
        subject.turned_away(Claim(LOW, Address(f"2001:db8::1:{number}", 1), True), 0.0)
    assert verdict(newer, 1.0) is Verdict.LOOK_AGAIN


def test_a_claim_turned_away_again_is_not_the_next_to_be_forgotten() -> None:
    subject = Duplicates(OURS, PeerConfig())
    older, newer = Claim(LOW, HERE, True), Claim(LOW, SIX, True)
    subject.turned_away(newer, 0.0)
    for number in range(REMEMBERED - 1):
        subject.turned_away(Claim(LOW, Address(f"2001:db8::1:{number}", 1), True), 0.0)
    subject.turned_away(newer, 0.0)
    subject.turned_away(Claim(LOW, Address("2001:db8::2", 1), True), 0.0)
    assert subject.settle(older, newer, 1.0, age=1.0, silence=0.0) is Verdict.BESIDE
