"""Banned is an address, and its host has ever fewer chances."""

from __future__ import annotations

import pytest

from dht_torrent.config import TorrentConfig
from dht_torrent.ids import Address
from dht_torrent.torrent.bans import MAX_BANS, MAX_PLACES, MAX_PORTS, MAX_TRUSTED, Bans

CONFIG = TorrentConfig(
    parole_delay=10.0, local_parole_delay=1.0, max_parole_delay=600.0, ban_time=10_000.0
)
FAR = Address("8.8.4.4", 1)
NEAR = Address("127.0.0.1", 1)


def far(number: int) -> Address:
    return Address(f"9.{number >> 16}.{number >> 8 & 255}.{number & 255}", 6881)


@pytest.mark.parametrize(("address", "base"), [(FAR, 10.0), (NEAR, 1.0)])
def test_the_pause_doubles_with_each_liar_that_came_on_parole(
    address: Address, base: float
) -> None:
    subject, now = Bans(CONFIG), 0.0
    assert not subject.on_parole(address, now)
    assert subject.resumes(address) <= now
    delays = []
    for port in range(12):
        subject.convict(address._replace(port=port), now)
        assert subject.on_parole(address, now)
        delays.append(subject.resumes(address) - now)
        now += 1000.0
    assert delays == [min(base * 2**number, 600.0) for number in range(12)]


def test_liars_that_were_there_before_the_first_was_found_do_not_add_up() -> None:
    subject = Bans(CONFIG)
    for port in range(10):
        subject.convict(NEAR._replace(port=port), 0.0, on_parole=False)
    assert subject.resumes(NEAR) == 1.0
    subject.convict(NEAR._replace(port=11), 0.0, on_parole=True)
    assert subject.resumes(NEAR) == 2.0


def test_an_innocent_place_waits_for_nothing() -> None:
    subject = Bans(CONFIG)
    subject.convict(FAR, 0.0)
    assert (subject.delay(FAR), subject.delay(NEAR)) == (10.0, 0.0)
    assert (subject.resumes(FAR), subject.resumes(NEAR)) == (10.0, float("-inf"))


def test_a_peer_that_is_banned_again_is_the_latest_to_be_lifted() -> None:
    subject = Bans(CONFIG)
    for port in range(MAX_PORTS):
        subject.ban(NEAR._replace(port=port), 0.0)
    subject.ban(NEAR._replace(port=0), 5_000.0)
    subject.ban(NEAR._replace(port=MAX_PORTS), 5_000.0)
    assert subject.is_banned(NEAR._replace(port=0), 12_000.0)
    assert not subject.is_banned(NEAR._replace(port=1), 5_000.0)


def test_bans_outlive_the_parole_of_their_place() -> None:
    subject = Bans(CONFIG)
    subject.convict(FAR, 0.0)
    other = FAR._replace(port=2)
    subject.ban(other, 5_000.0)
    subject.convict(FAR._replace(port=3), 10_020.0)  # begins anew
    assert subject.is_banned(other, 10_020.0)
    for port in range(10, 10 + MAX_PORTS):
        subject.ban(FAR._replace(port=port), 10_020.0)
    assert not subject.is_banned(other, 10_020.0)
    assert len(subject._until) == MAX_PORTS


def test_a_place_is_forgiven_when_no_peer_of_it_lied_for_long() -> None:
    subject = Bans(CONFIG)
    subject.convict(FAR, 0.0)
    subject.convict(FAR, 1.0)
    assert subject.on_parole(FAR, 10_000.9)
    assert not subject.on_parole(FAR, 10_001.0)
    subject.convict(FAR, 20_000.0)
    assert subject.resumes(FAR) == 20_010.0  # as if it were the first time


def test_a_network_of_ipv6_is_one_place() -> None:
    subject = Bans(CONFIG)
    subject.convict(Address("2001:db8:1:2::3", 5), 0.0)
    assert subject.on_parole(Address("2001:db8:1:2:ffff::1", 9), 0.0)
    assert not subject.on_parole(Address("2001:db8:1:3::3", 5), 0.0)
    assert not subject.is_banned(Address("2001:db8:1:2:ffff::1", 5), 0.0)


def test_bans_are_bounded_and_the_oldest_is_lifted() -> None:
    subject = Bans(CONFIG)
    for number in range(MAX_BANS + 1):
        subject.convict(far(number), 0.0)
    assert not subject.is_banned(far(0), 0.0)
    assert subject.is_banned(far(1), 0.0)
    assert subject.is_banned(far(MAX_BANS), 0.0)
    assert len(subject._until) <= MAX_BANS
    assert len(subject._places) <= MAX_PLACES


def test_a_host_of_many_ports_lifts_only_its_own_bans() -> None:
    subject = Bans(CONFIG)
    subject.convict(FAR, 0.0)
    for port in range(1, 3000):
        subject.convict(NEAR._replace(port=port), 0.0)
    assert subject.is_banned(FAR, 0.0)
    assert [
        port for port in range(1, 3000) if subject.is_banned(NEAR._replace(port=port), 0.0)
    ] == [*range(3000 - MAX_PORTS, 3000)]


def test_public_bans_are_remembered_the_latest_first() -> None:
    subject = Bans(CONFIG)
    for address in (FAR, NEAR, far(1)):
        subject.convict(address, 0.0)
    assert subject.dump(1.0) == [far(1), FAR]
    assert subject.dump(10_000.0) == []


def test_a_ban_without_a_conviction_puts_no_other_peer_on_parole() -> None:
    subject = Bans(CONFIG)
    subject.ban(FAR, 0.0)
    assert subject.is_banned(FAR, 1.0)
    assert not subject.on_parole(FAR, 1.0)
    assert subject.resumes(FAR) == float("-inf")
    assert subject.delay(FAR) == 0.0


def test_a_liar_soon_after_the_parole_of_its_place_still_doubles_the_pause() -> None:
    subject = Bans(CONFIG)
    subject.convict(FAR, 0.0)
    subject.convict(FAR, 10_009.0)  # ten seconds' pause more than `ban_time` begin anew
    assert subject.resumes(FAR) == 10_029.0


def test_a_peer_that_is_banned_again_counts_as_the_latest() -> None:
    subject = Bans(CONFIG)
    for address in (far(1), far(2), far(1)):
        subject.ban(address, 0.0)
    assert subject.dump(1.0) == [far(1), far(2)]


def test_few_hosts_of_many_ports_have_their_oldest_ban_lifted() -> None:
    subject = Bans(CONFIG)
    banned = [
        far(host)._replace(port=1 + port)
        for host in range(MAX_BANS // 50 + 1)
        for port in range(50)
    ]
    for address in banned:
        subject.ban(address, 0.0)
    assert [subject.is_banned(address, 1.0) for address in banned] == [
        *[False] * (len(banned) - MAX_BANS),
        *[True] * MAX_BANS,
    ]


def test_trusted_addresses_are_bounded_and_the_oldest_is_forgotten() -> None:
    subject = Bans(CONFIG)
    for number in (*range(MAX_TRUSTED), 0, MAX_TRUSTED):
        subject.trust(far(number))
    assert [subject.trusts(far(number)) for number in (0, 1, 2, MAX_TRUSTED)] == [
        True,
        False,
        True,
        True,
    ]


def test_a_peer_that_is_trusted_does_not_share_the_parole_of_its_place_until_it_lied() -> None:
    subject = Bans(CONFIG)
    honest, liar = FAR, FAR._replace(port=2)
    subject.trust(honest)
    subject.convict(liar, 0.0)
    assert (subject.on_parole(honest, 0.0), subject.on_parole(liar, 0.0)) == (False, True)
    assert subject.resumes(honest) == float("-inf")
    subject.convict(honest, 1.0)
    assert not subject.trusts(honest)
    assert subject.on_parole(honest, 1.0)
