"""The peer store: caps hold, entries expire, and those who are in stay in."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from dht_torrent.config import DhtConfig
from dht_torrent.dht.origins import facts
from dht_torrent.dht.store import PeerStore
from dht_torrent.ids import Address, InfoHash
from tests.helpers.examples import examples
from tests.helpers.times import seconds

CONFIG = DhtConfig()
RNG = random.Random(3)
HASH = InfoHash(b"h" * 20)
TTL = CONFIG.peer_ttl


def public(number: int, port: int = 6881) -> Address:
    return Address(f"11.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", port)


def info_hash(number: int) -> InfoHash:
    return InfoHash(number.to_bytes(20, "big"))


def test_a_stored_peer_is_told_until_forty_five_minutes_have_passed() -> None:
    store = PeerStore(CONFIG)
    assert store.add(HASH, public(1), 0)
    assert store.peers(HASH, TTL - 1, RNG, 50) == [public(1)]
    assert store.peers(HASH, TTL, RNG, 50) == []
    assert (len(store), store.torrents) == (0, 0)


def test_an_announce_again_keeps_it() -> None:
    store = PeerStore(CONFIG)
    store.add(HASH, public(1), 0)
    store.add(HASH, public(2), 10)
    store.add(HASH, public(1), TTL - 1)
    assert store.peers(HASH, TTL + 100, RNG, 50) == [public(1)]


def test_one_public_ip_is_one_peer_and_its_last_port_counts() -> None:
    store = PeerStore(CONFIG)
    for port in range(1, 100):
        store.add(HASH, public(1, port), 0)
    assert store.peers(HASH, 0, RNG, 50) == [public(1, 99)]


def test_one_ipv6_network_is_one_peer() -> None:
    store = PeerStore(CONFIG)
    hosts = ["2a00:1:2:3::1", "2a00:1:2:3:ff00::1", "2a00:1:2:3:8000::"]
    for host in hosts:
        assert store.add(HASH, Address(host, 6881), 0)
    assert store.peers(HASH, 1, RNG, 50) == [Address(hosts[-1], 6881)]
    assert store.add(HASH, Address("2a00:1:2:4::1", 6881), 0)
    assert len(store.peers(HASH, 1, RNG, 50)) == 2


def test_a_newcomer_is_told_to_those_who_ask_again() -> None:
    store = PeerStore(CONFIG)
    asker = public(99)
    for number in range(3):
        store.add(HASH, public(number), 0)
        found = store.peers(HASH, 1, RNG, 50, asker=asker)
        assert sorted(found) == [public(n) for n in range(number + 1)]
    store.add(HASH, public(1, port=7), 1)
    assert public(1, port=7) in store.peers(HASH, 2, RNG, 50, asker=asker)
    store.add(HASH, public(2), 2, seed=True)
    assert public(2) not in store.peers(HASH, 3, RNG, 50, asker=asker, seeds=False)


def test_local_hosts_are_told_apart_by_port() -> None:
    store = PeerStore(CONFIG)
    peers = [Address("127.0.0.1", port) for port in range(1, 31)]
    for peer in peers:
        assert store.add(HASH, peer, 0)
    assert store.peers(HASH, 0, RNG, 50) == peers


def test_what_is_known_of_the_announcer_tells_all_but_the_port() -> None:
    for host in ("8.8.4.4", "10.0.0.7", "2001:db8::7", "fe80::7"):
        store, dice = PeerStore(CONFIG), random.Random(1)
        for port in (7000, 8000):
            peer = Address(host, port)
            assert store.add(HASH, peer, 0, origin=facts(Address(host, 6881)))
            assert peer in store.peers(HASH, 0, dice, 10)
        assert len(store) == (2 if peer.is_local else 1)
        assert store.add(HASH, peer, 0)
        assert len(store) == (2 if peer.is_local else 1)


def test_a_full_torrent_accepts_only_those_it_has() -> None:
    store = PeerStore(replace(CONFIG, max_peers_per_torrent=10))
    for number in range(10):
        assert store.add(HASH, public(number), 0)
    assert not store.accepts(HASH, public(10), 0)
    assert not store.add(HASH, public(10), 0)
    assert store.accepts(HASH, public(3, 1), 0)
    assert store.add(HASH, public(3, 1), 0)
    assert len(store) == 10


def test_a_full_torrent_knows_local_announcers_by_their_ip() -> None:
    store = PeerStore(replace(CONFIG, max_peers_per_torrent=1))
    store.add(HASH, Address("127.0.0.1", 1000), 0)
    assert store.accepts(HASH, Address("127.0.0.1", 2000), 0)
    assert not store.accepts(HASH, Address("127.0.0.2", 2000), 0)


def test_the_number_of_torrents_and_of_all_peers_is_bounded() -> None:
    store = PeerStore(replace(CONFIG, max_torrents=5, max_peers_total=7))
    for number in range(20):
        store.add(info_hash(number), public(number), 0)
    assert store.torrents == 5
    for number in range(20):
        store.add(info_hash(1), public(100 + number), 0)
    assert len(store) == 7
    assert store.peers(info_hash(0), 0, RNG, 50) == [public(0)]  # the early ones survive
    store.expire(TTL)
    assert (len(store), store.torrents) == (0, 0)
    assert store.add(info_hash(9), public(9), TTL)


def test_one_public_ip_may_announce_twenty_torrents_and_again_when_they_have_expired() -> None:
    store = PeerStore(CONFIG)
    stored = [store.add(info_hash(number), public(1), 0) for number in range(25)]
    assert stored == [True] * 20 + [False] * 5
    assert not store.accepts(info_hash(30), public(1), 0)
    assert store.accepts(info_hash(30), public(2), 0)
    store.expire(TTL)
    assert store.add(info_hash(24), public(1), TTL)


def test_a_host_may_announce_many_torrents_to_its_own_network() -> None:
    store = PeerStore(CONFIG)
    assert all(store.add(info_hash(n), Address("10.0.0.1", 6881), 0) for n in range(100))


def test_a_sample_is_fair() -> None:
    store = PeerStore(CONFIG)
    for number in range(100):
        store.add(HASH, public(number), 0)
    seen: set[Address] = set()
    for _ in range(40):
        sample = store.peers(HASH, 0, RNG, 20)
        assert len(set(sample)) == 20
        seen.update(sample)
    assert len(seen) > 95


def test_an_asker_is_told_of_peers_it_can_use() -> None:
    store = PeerStore(CONFIG)
    inside, outside, six = Address("10.0.0.1", 1), public(1), Address("2a00::1", 1)
    for peer in (inside, outside, six):
        store.add(HASH, peer, 0)
    assert store.peers(HASH, 0, RNG, 50, asker=public(9)) == [outside]
    assert store.peers(HASH, 0, RNG, 50, asker=Address("10.0.0.9", 1)) == [inside, outside]
    assert store.peers(HASH, 0, RNG, 50, asker=Address("2a00:1::1", 1)) == [six]


_steps = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9), seconds(0, 1000)), max_size=40)


@settings(max_examples=examples(60))
@given(_steps)
def test_caps_and_counts_hold_whatever_is_announced(steps: list[tuple[int, int, float]]) -> None:
    config = replace(
        CONFIG,
        max_torrents=4,
        max_peers_per_torrent=5,
        max_peers_total=12,
        max_torrents_per_host=3,
    )
    store = PeerStore(config)
    now = 0.0
    for torrent, host, wait in steps:
        now += wait
        accepted = store.accepts(info_hash(torrent), public(host), now)
        assert store.add(info_hash(torrent), public(host), now) == accepted
        told = [store.peers(info_hash(n), now, RNG, 50) for n in range(6)]
        assert all(len(peers) <= 5 for peers in told)
        assert len(store) == sum(map(len, told)) <= 12
        assert store.torrents == sum(map(bool, told)) <= 4
        for number in range(10):
            assert sum(public(number) in peers for peers in told) <= 3


def test_a_scrape_tells_seeds_from_others() -> None:
    it = PeerStore(CONFIG)
    assert it.scrape(HASH, 0) is None
    for number in range(30):
        it.add(HASH, Address(f"14.0.{number}.1", 1), 0, seed=number < 10)
    filters = it.scrape(HASH, 1)
    assert filters is not None
    assert [round(filled.estimate()) for filled in filters] == [10, 20]
    it.add(HASH, Address("14.0.20.1", 1), 2, seed=True)  # it has completed
    filters = it.scrape(HASH, 3)
    assert filters is not None
    assert [round(filled.estimate()) for filled in filters] == [11, 19]
    assert it.scrape(HASH, CONFIG.peer_ttl + 3) is None


def test_a_querier_that_wants_no_seeds_gets_none() -> None:
    it = PeerStore(CONFIG)
    for number in range(10):
        it.add(HASH, Address(f"14.0.{number}.1", 1), 0, seed=number < 7)
    assert len(it.peers(HASH, 1, random.Random(1), 50)) == 10
    assert len(it.peers(HASH, 1, random.Random(1), 50, seeds=False)) == 3


def test_a_sample_is_the_same_until_its_interval_has_passed() -> None:
    it = PeerStore(CONFIG)
    rng = random.Random(1)
    assert it.sample(0, rng) == []
    for number in range(200):
        it.add(InfoHash(number.to_bytes(20, "big")), Address(f"14.0.{number}.1", 1), 0)
    first = list(it.sample(1, rng))
    assert len(set(first)) == 20
    for number in range(200, 400):
        it.add(InfoHash(number.to_bytes(20, "big")), Address(f"14.1.{number - 200}.1", 1), 0)
    assert [it.sample(now, rng) for now in (2, 20_000, 21_600)] == [first] * 3
    assert it.sample(21_601, rng) != first


def test_a_sample_of_everything_grows_with_the_store() -> None:
    it = PeerStore(CONFIG)
    for number in range(25):
        assert len(it.sample(number, random.Random(1))) == min(number, 20)
        it.add(InfoHash(number.to_bytes(20, "big")), Address(f"14.0.{number}.1", 1), 0)


def test_a_querier_that_wants_no_seeds_gets_leeches_only() -> None:
    store = PeerStore(CONFIG)
    store.add(HASH, public(1), 0, seed=True)
    store.add(HASH, public(2), 0)
    asker = public(9)
    assert store.peers(HASH, 0, RNG, 50, asker=asker, seeds=False) == [public(2)]
    assert set(store.peers(HASH, 0, RNG, 50, asker=asker)) == {public(1), public(2)}


def test_a_peer_that_has_become_a_seed_is_told_as_one_at_once() -> None:
    store = PeerStore(CONFIG)
    store.add(HASH, public(1), 0)
    asker = public(9)
    assert store.peers(HASH, 0, RNG, 50, asker=asker, seeds=False) == [public(1)]
    store.add(HASH, public(1), 1, seed=True)
    assert store.peers(HASH, 1, RNG, 50, asker=asker, seeds=False) == []


def test_a_peer_that_has_expired_is_told_to_no_asker() -> None:
    store = PeerStore(CONFIG)
    store.add(HASH, public(1), 0)
    store.add(HASH, public(2), 100)
    asker = public(9)
    assert len(store.peers(HASH, TTL - 1, RNG, 50, asker=asker)) == 2
    assert store.peers(HASH, TTL, RNG, 50, asker=asker) == [public(2)]
    assert store.peers(HASH, TTL + 99, RNG, 50, asker=asker) == [public(2)]
    assert store.peers(HASH, TTL + 100, RNG, 50, asker=asker) == []


def test_peers_as_they_are_sent_are_those_told_and_as_many_as_fit() -> None:
    store = PeerStore(CONFIG)
    for number in range(20):
        store.add(HASH, public(number), 0)
    asker, torrent = public(99), store.torrent(HASH, 0)
    assert torrent is not None
    origin, other = facts(asker), facts(Address("2a00::1", 6881))
    assert store.encoded_peers(torrent, RNG, 50, 1000, other) is None  # nobody of its family
    whole = store.encoded_peers(torrent, RNG, 50, 1000, origin)
    told = store.compact_peers(HASH, 0, RNG, 50, asker=asker)
    assert whole == b"".join(b"6:" + peer for peer in told)
    assert len(told) == 20
    assert whole is not None
    # Nine bytes are counted for each, though one of IPv4 takes eight.
    for room, fit in ((180, 20), (179, 19), (9, 1), (8, 0), (0, 0), (-5, 0)):
        assert store.encoded_peers(torrent, RNG, 50, room, origin) == whole[: 8 * fit]
    some = store.encoded_peers(torrent, random.Random(4), 5, 1000, origin)
    sample = store.compact_peers(HASH, 0, random.Random(4), 5, asker=asker)
    assert some == b"".join(b"6:" + peer for peer in sample)
    assert len(sample) == 5
