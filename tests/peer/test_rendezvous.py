"""Who is asked for an introduction, who is introduced, and how often we send for a relay's word."""

from __future__ import annotations

import pytest

from dht_torrent.config import HolepunchConfig
from dht_torrent.ids import Address, PeerKey
from dht_torrent.peer.holepunch import HolepunchFailure
from dht_torrent.peer.rendezvous import (
    Allowances,
    Introducers,
    Party,
    Relaying,
    TrustInRelays,
    refusal,
)

CONFIG = HolepunchConfig()
ONE, OTHER, THIRD = PeerKey(1), PeerKey(2), PeerKey(3)
HERE, THERE, RELAY = Address("20.0.0.1", 1), Address("20.0.0.2", 2), Address("20.0.0.3", 3)
LAN = Address("192.168.1.9", 6881)


def times(sending: TrustInRelays, relay: PeerKey, hosts: list[str], now: float = 0.0) -> int:
    return sum(sending.allows(relay, RELAY, Address(host, 6881), now) for host in hosts)


def many(count: int) -> list[str]:
    return [f"20.1.{number // 200}.{number % 200 + 1}" for number in range(count)]


def test_an_allowance_is_a_burst_and_then_one_each_interval() -> None:
    allowances = Allowances[str](3, 10.0, 100)
    assert [allowances.take("a", 0.0) for _ in range(5)] == [True] * 3 + [False] * 2
    assert allowances.take("b", 0.0)
    assert not allowances.take("a", 9.9)
    assert allowances.take("a", 10.0)
    assert not allowances.take("a", 10.1)
    assert [allowances.take("a", 1000.0) for _ in range(5)] == [True] * 3 + [False] * 2


def test_allowances_remember_so_many_names() -> None:
    allowances = Allowances[int](1, 10.0, 5)
    for name in range(50):
        assert allowances.take(name, 0.0)
    assert len(allowances) == 5
    assert not allowances.take(49, 0.0)
    assert allowances.take(0, 0.0)


def test_a_relay_is_one_that_named_the_target_and_speaks_it() -> None:
    known = Introducers(CONFIG)
    known.named(ONE, [THERE])
    assert known.of(THERE) == []
    for peer in (ONE, OTHER, THIRD):
        known.speaks(peer)
    known.named(ONE, [THERE])
    known.named(OTHER, [HERE])
    known.named(THIRD, [HERE, THERE])
    assert known.of(THERE) == [ONE, THIRD]
    known.speaks(ONE)  # again, in another handshake
    known.withdrew(THIRD, [THERE, RELAY])
    assert known.of(THERE) == [ONE]
    known.gone(ONE)
    assert known.of(THERE) == []
    assert known.of(HERE) == [OTHER, THIRD]
    known.gone(ONE)


def test_what_one_peer_names_is_bounded() -> None:
    known = Introducers(HolepunchConfig(remembered=10))
    known.speaks(ONE)
    known.speaks(OTHER)
    known.named(OTHER, [THERE])
    known.named(ONE, [Address(host, 1) for host in many(100)])
    assert sum(bool(known.of(Address(host, 1))) for host in many(100)) == 10
    assert known.of(Address(many(100)[-1], 1)) == [ONE]
    assert known.of(THERE) == [OTHER]


def party(key: PeerKey, address: Address | None, *, speaks: bool = True) -> Party:
    return Party(key, address, speaks)


@pytest.mark.parametrize(
    ("asker", "wanted", "target", "is_ours", "expected"),
    [
        (party(ONE, HERE), THERE, party(OTHER, THERE), False, "NONE"),
        (party(ONE, HERE), THERE, None, False, "NOT_CONNECTED"),
        (party(ONE, HERE), THERE, None, True, "NO_SELF"),
        (party(ONE, HERE), HERE, party(ONE, HERE), False, "NO_SELF"),
        (party(ONE, HERE), Address("20.0.0.2", 0), None, False, "NO_SUCH_PEER"),
        (party(ONE, HERE), Address("224.0.0.1", 5), None, True, "NO_SUCH_PEER"),
        (party(ONE, HERE), THERE, party(OTHER, THERE, speaks=False), False, "NO_SUPPORT"),
        (party(ONE, HERE, speaks=False), THERE, party(OTHER, THERE), False, "NO_SUPPORT"),
        (party(ONE, HERE), THERE, party(OTHER, None), False, "NO_SUPPORT"),
        (party(ONE, None), THERE, party(OTHER, THERE), False, "NO_SUPPORT"),
        (party(ONE, HERE), LAN, party(OTHER, LAN), False, "NOT_CONNECTED"),
        (party(ONE, LAN), THERE, party(OTHER, THERE), False, "NOT_CONNECTED"),
        (party(ONE, LAN), LAN, party(OTHER, LAN._replace(port=7)), False, "NONE"),
        (party(ONE, HERE), THERE, party(OTHER, Address("2001:db8::1", 1)), False, "NOT_CONNECTED"),
    ],
)
def test_a_relay_introduces_two_of_its_peers_or_says_why_not(
    asker: Party, wanted: Address, target: Party | None, is_ours: bool, expected: str
) -> None:
    assert refusal(asker, wanted, target, is_ours=is_ours) is HolepunchFailure[expected]


def test_a_peer_that_asks_for_introductions_without_end_is_not_heard() -> None:
    relaying = Relaying(CONFIG)
    assert sum(relaying.hears(ONE, 0.0) for _ in range(100)) == CONFIG.relay_burst
    assert relaying.hears(OTHER, 0.0)
    assert not relaying.hears(ONE, CONFIG.relay_interval - 0.1)
    assert relaying.hears(ONE, CONFIG.relay_interval)


def test_two_peers_are_introduced_once_in_a_while_whoever_asks() -> None:
    relaying = Relaying(CONFIG)
    assert relaying.introduces(ONE, OTHER, 0.0)
    assert not relaying.introduces(ONE, OTHER, 0.0)
    assert not relaying.introduces(OTHER, ONE, 0.0)
    assert relaying.introduces(ONE, THIRD, 0.0)
    assert relaying.introduces(OTHER, ONE, CONFIG.pair_interval)


def test_a_peer_is_told_of_so_many_others() -> None:
    relaying = Relaying(CONFIG)
    told = [relaying.introduces(PeerKey(number), ONE, 0.0) for number in range(10, 60)]
    assert sum(told) == CONFIG.target_burst
    assert relaying.introduces(PeerKey(100), OTHER, 0.0)


def test_one_relay_has_us_send_to_few_and_the_next_one_to_few_more() -> None:
    sending = TrustInRelays(CONFIG)
    assert times(sending, ONE, many(100)) == CONFIG.relay_burst
    assert times(sending, OTHER, many(200)[100:]) == CONFIG.relay_burst
    later = CONFIG.relay_interval
    assert times(sending, ONE, many(100)[50:], later) == 1


def test_one_host_is_sent_to_seldom_whoever_names_it_at_whatever_port() -> None:
    sending = TrustInRelays(CONFIG)
    sent = sum(
        sending.allows(PeerKey(key), RELAY, Address("20.5.5.5", 1000 + key), 0.0)
        for key in range(50)
    )
    assert sent == CONFIG.host_burst
    assert not sending.allows(PeerKey(90), RELAY, Address("20.5.5.5", 1), CONFIG.host_interval / 2)
    assert sending.allows(PeerKey(91), RELAY, Address("20.5.5.5", 1), CONFIG.host_interval)


def test_all_relays_together_have_us_send_so_much() -> None:
    sending = TrustInRelays(CONFIG)
    hosts = many(2000)
    sent = sum(times(sending, PeerKey(key), hosts[key * 10 : key * 10 + 10]) for key in range(200))
    assert sent == CONFIG.node_burst


@pytest.mark.parametrize(
    ("speaker", "target", "allowed"),
    [
        (RELAY, Address("20.9.9.9", 80), True),
        (RELAY, LAN, False),
        (RELAY, Address("127.0.0.1", 80), False),
        (RELAY, Address("169.254.169.254", 80), False),
        (RELAY, Address("0.0.0.0", 80), False),
        (RELAY, Address("20.9.9.9", 0), False),
        (RELAY, Address("239.1.2.3", 80), False),
        (LAN, Address("192.168.1.2", 80), True),
        (LAN, Address("127.0.0.1", 80), False),
    ],
)
def test_a_stranger_does_not_have_us_send_into_our_own_network(
    speaker: Address, target: Address, allowed: bool
) -> None:
    assert TrustInRelays(CONFIG).allows(ONE, speaker, target, 0.0) is allowed
