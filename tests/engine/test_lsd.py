"""Local service discovery (BEP 14) on the fake network: hosts of one LAN, and no DHT."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dht_torrent import Node
from dht_torrent.config import LsdConfig
from dht_torrent.engine.faults import Faults
from dht_torrent.engine.lsd import MAX_SCHEDULES, LocalDiscovery
from dht_torrent.engine.net.interfaces import Interface
from dht_torrent.engine.torrent.torrent import behind
from dht_torrent.ids import Address, HostPort, InfoHash
from dht_torrent.lab.net.multicast import MulticastSocket
from dht_torrent.lab.net.network import FakeNetwork
from dht_torrent.lab.population.dual_stack import DualHost
from dht_torrent.metainfo import Metainfo
from dht_torrent.peer.lsd import GROUPS, Announce, Hearing, decode, encode
from tests.helpers.engine import LEECH, PORT, SEED, World, entered, sample
from tests.helpers.members import swarm

HOME = "home"
THIRD = "10.0.0.9"


class Told:
    """What was announced: when, from where, and what."""

    def __init__(self, world: World) -> None:
        self.all: list[tuple[float, str, Announce]] = []
        world.net.tap = self._tap

    def _tap(self, source: Address, to: Address, data: bytes) -> None:
        if to in GROUPS:
            self.all.append((trio.current_time(), source.host, decode(data)))

    def times(self, host: str) -> list[float]:
        return [when for when, source, _ in self.all if source == host]


def known(node: Node, info_hash: InfoHash) -> dict[Address, str | None]:
    candidates = behind(node.torrents[info_hash]).core.connections.candidates
    return {one: candidates.source(one) for one in candidates.dump(trio.current_time())[0]}


async def in_group(world: World, ip: str, lan: str = HOME) -> MulticastSocket:
    """A stranger's socket."""
    net = world.net.lan(lan, ip)
    return await world.net.host(ip).open_multicast(GROUPS[":" in ip], net.interface(ip))


@pytest.mark.parametrize("first", [SEED, LEECH])
async def test_two_nodes_of_a_lan_find_each_other_in_less_than_ten_seconds_without_a_dht(
    first: str, autojump_clock: MockClock
) -> None:
    world = World(latency=0.001)
    world.net.lan(HOME, SEED, LEECH)
    one = sample()
    world.storage(SEED, one.metainfo).write(0, one.data)
    async with world.node(SEED, lsd=True) as seed, world.node(LEECH, lsd=True) as leech:
        began = trio.current_time()
        sources: dict[str, Metainfo | str] = {SEED: one.metainfo, LEECH: one.magnet()}
        nodes = {SEED: seed, LEECH: leech}
        second = SEED if first == LEECH else LEECH
        await nodes[first].get(sources[first])
        await trio.sleep(5)
        began = trio.current_time()
        await nodes[second].get(sources[second])
        await leech.torrents[one.metainfo.info_hash].completed()
        assert trio.current_time() - began < 10
        assert "lsd" in {*leech.status().peers_by_source, *seed.status().peers_by_source}


async def test_what_was_announced_before_is_known_to_a_peer_that_comes_later(
    autojump_clock: MockClock,
) -> None:
    """Without waiting for its own turn to announce, which may be a minute away."""
    world, told_at = World(), 0.0
    world.net.lan(HOME, SEED, LEECH)
    one, other = sample(seed=1), sample(seed=2)
    async with world.node(LEECH, lsd=True) as leech, world.seed(one, lsd=True):
        await trio.sleep(100)
        await leech.get(other.magnet())
        await trio.sleep(5)  # its one datagram of this minute is spent
        told_at = trio.current_time()
        torrent = await leech.get(one.magnet())
        await torrent.completed()
        assert trio.current_time() - told_at < 2


async def test_both_families_are_announced_each_with_its_port(autojump_clock: MockClock) -> None:
    world, one = World(), sample()
    told = Told(world)
    world.net.lan(HOME, SEED, "fd00::1")
    host = DualHost(world.net, SEED, "fd00::1")
    world.net.host = lambda ip: host  # type: ignore[method-assign, assignment, return-value]
    async with world.node(SEED, lsd=True, listen=(f"{SEED}:1000", "[fd00::1]:2000")) as node:
        await node.get(one.magnet())
        await trio.sleep(2)
    cookies = {announce.cookie for _, _, announce in told.all}
    assert len(cookies) == 1
    cookie = cookies.pop()
    assert cookie
    assert {(host, announce) for _, host, announce in told.all} == {
        (SEED, Announce(1000, (one.metainfo.info_hash,), cookie)),
        ("fd00::1", Announce(2000, (one.metainfo.info_hash,), cookie)),
    }


async def test_announces_come_every_five_minutes_until_the_torrent_is_gone(
    autojump_clock: MockClock,
) -> None:
    world = World()
    told = Told(world)
    world.net.lan(HOME, SEED)
    async with world.node(SEED, lsd=True) as node:
        torrent = await node.get(sample().magnet())
        began = trio.current_time()
        await trio.sleep(1000)
        assert [round(when - began) for when in told.times(SEED)] == [1, 61, 361, 661, 961]
        await torrent.pause()
        await trio.sleep(1000)
        assert len(told.all) == 5
        await torrent.resume()
        await trio.sleep(2)
        assert len(told.all) == 6
        await node.remove(torrent)
        await trio.sleep(1000)
        assert len(told.all) == 6


async def test_many_torrents_share_a_datagram_of_1400_bytes_a_minute(
    autojump_clock: MockClock,
) -> None:
    world = World()
    told = Told(world)
    world.net.lan(HOME, SEED)
    async with world.node(SEED, lsd=True) as node:
        for number in range(40):
            await node.get(sample(seed=number).magnet())
        await trio.sleep(301)
    times = told.times(SEED)
    assert min(later - before for before, later in itertools.pairwise(times)) >= 60
    assert [len(announce.info_hashes) for _, _, announce in told.all[:2]] == [25, 15 + 10]
    assert len({one for _, _, announce in told.all[:2] for one in announce.info_hashes}) == 40


async def test_a_private_torrent_is_never_announced(autojump_clock: MockClock) -> None:
    world, one = World(), sample(private=True)
    told = Told(world)
    world.net.lan(HOME, SEED, LEECH)
    async with world.seed(one, lsd=True), world.node(LEECH, lsd=True) as leech:
        stranger = await in_group(world, THIRD)
        await leech.get(one.metainfo)
        await trio.sleep(600)
        assert told.all == []
        announce = Announce(1234, (one.metainfo.info_hash,))
        assert stranger.send(encode(announce, GROUPS[0]), GROUPS[0])
        await trio.sleep(10)
        assert known(leech, one.metainfo.info_hash) == {}


async def test_that_a_torrent_is_private_may_be_learnt_late(autojump_clock: MockClock) -> None:
    world, one = World(), sample(private=True)
    told = Told(world)
    world.net.lan(HOME, LEECH)
    async with world.seed(one), world.node(LEECH, lsd=True) as leech:
        torrent = await leech.get(one.magnet())
        await trio.sleep(30)
        assert len(told.all) == 1  # nothing but its infohash is known
        behind(torrent).core.add_peers([HostPort(SEED, PORT)])
        await torrent.completed()
        await trio.sleep(1000)
        assert len(told.all) == 1


async def test_an_ssl_torrent_is_not_announced_since_the_port_is_the_plain_one(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world, one = World(), swarm(tmp_path)
    told = Told(world)
    world.net.lan(HOME, SEED, LEECH)
    ours = one.member("seed")
    async with (
        world.node(SEED, lsd=True, tls_listen=f"{SEED}:6882") as node,
        world.node(LEECH, lsd=True) as other,
    ):
        await node.get(one.metainfo, tls_cert=ours.certificate, tls_key=ours.key)
        await trio.sleep(400)
        assert told.all == []
        torrent = await other.get(f"magnet:?xt=urn:btih:{one.metainfo.info_hash.hex()}")
        await trio.sleep(10)
        assert len(told.all) == 1  # nothing but its infohash is known
        behind(torrent).core.learn(one.metainfo)
        await trio.sleep(400)
        assert len(told.all) == 1


async def test_off_means_that_nothing_is_opened(autojump_clock: MockClock) -> None:
    world = World()
    told = Told(world)
    lan = world.net.lan(HOME, SEED)
    async with world.node(SEED) as node:  # as the library has it
        await node.get(sample().magnet())
        await trio.sleep(600)
        assert lan.members(GROUPS[0]) == []
    assert told.all == []


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "127.3.2.1:5", ("127.0.0.1:0", "[::1]:0")])
async def test_a_node_on_loopback_only_does_not_even_look_at_interfaces(
    listen: str, autojump_clock: MockClock
) -> None:
    world = World()
    host = DualHost(world.net, "127.3.2.1" if "3" in listen else "127.0.0.1", "::1")

    def asked() -> list[Interface]:
        raise AssertionError

    host.interfaces = asked  # type: ignore[method-assign]
    world.net.host = lambda ip: host  # type: ignore[method-assign, assignment, return-value]
    async with world.node("127.0.0.1", lsd=True, listen=listen) as node:
        assert node._context.lsd is None
        await node.get(sample().magnet())
        await trio.sleep(600)


async def test_a_node_that_listens_on_one_address_uses_the_interface_that_has_it(
    autojump_clock: MockClock,
) -> None:
    world = World()
    here, elsewhere = world.net.lan(HOME, SEED), world.net.lan("elsewhere", "10.5.5.5")
    host = world.net.host(SEED)
    host.interfaces = lambda: [  # type: ignore[method-assign]
        elsewhere.interface("10.5.5.5"),
        here.interface("fd00::1"),
        here.interface(SEED),
    ]
    elsewhere.plug_in(SEED)
    async with world.node(SEED, lsd=True):
        await trio.sleep(1)
        assert len(here.members(GROUPS[0])) == 1
        assert elsewhere.members(GROUPS[0]) == []
    async with world.node(SEED, lsd=True, listen=f"0.0.0.0:{PORT}"):
        await trio.sleep(1)
        assert len(here.members(GROUPS[0])) == 1
        assert len(elsewhere.members(GROUPS[0])) == 1


async def test_interfaces_come_and_go(autojump_clock: MockClock) -> None:
    world, one = World(), sample()
    told = Told(world)
    lan = world.net.lan(HOME)
    async with world.node(SEED, lsd=True) as node:
        await node.get(one.magnet())
        await trio.sleep(20)
        assert told.all == []
        lan.plug_in(SEED)
        began = trio.current_time()
        await trio.sleep(10)
        assert len(told.all) == 1
        assert told.all[0][0] - began <= LsdConfig().look_interval + LsdConfig().gather
        lan.unplug(SEED)
        await trio.sleep(10)
        assert lan._members[GROUPS[0]] == {}  # the socket is closed
        lan.plug_in(SEED)
        world.net.lan("cable", SEED)
        await trio.sleep(10)
        assert len(told.all) == 2  # on the new one at once, and on the other within its rate
        await trio.sleep(60)
        times = told.times(SEED)
        assert len(times) == 4
        assert times[2] - times[0] >= 60


async def test_only_so_many_interfaces_are_used(autojump_clock: MockClock) -> None:
    world = World()
    lans = [world.net.lan(f"container{number}", SEED) for number in range(30)]
    async with world.node(SEED, lsd=True):
        await trio.sleep(1)
        used = [bool(lan.members(GROUPS[0])) for lan in lans]
        assert used == [True] * 16 + [False] * 14


async def test_a_failure_to_join_or_to_send_is_tried_again(autojump_clock: MockClock) -> None:
    world = World()
    told = Told(world)
    lan = world.net.lan(HOME, SEED)
    host = world.net.host(SEED)
    open_multicast, failures = host.open_multicast, [0]

    async def unlucky(group: Address, on: Interface) -> MulticastSocket:
        failures[0] += 1
        if failures[0] < 3:
            raise OSError("not ready")
        return await open_multicast(group, on)

    host.open_multicast = unlucky  # type: ignore[method-assign]
    async with world.node(SEED, lsd=True) as node:
        await node.get(sample().magnet())
        await trio.sleep(10.5)
        (socket,) = lan.members(GROUPS[0])
        send, refused = socket.send, [0]

        def not_yet(data: bytes, to: Address) -> bool:
            refused[0] += 1
            return refused[0] > 2 and send(data, to)

        socket.send = not_yet  # type: ignore[method-assign]
        await trio.sleep(15)
        assert len(told.all) == 1
        assert refused[0] == 3


async def heard(
    announce: Callable[[InfoHash], bytes], source: str = THIRD
) -> dict[Address, str | None]:
    """What a node makes of a stranger's datagram."""
    world, one = World(), sample()
    world.net.lan(HOME, LEECH)
    async with world.node(LEECH, lsd=True) as node:
        torrent = await node.get(one.magnet())
        await trio.sleep(5)
        stranger = await in_group(world, source)
        assert stranger.send(announce(torrent.info_hash), GROUPS[0])
        await trio.sleep(0.01)
        return known(node, torrent.info_hash)


async def test_a_peer_is_known_by_the_address_it_sent_from(autojump_clock: MockClock) -> None:
    found = await heard(lambda one: encode(Announce(1234, (one,)), GROUPS[0]))
    assert found == {Address(THIRD, 1234): "lsd"}


@pytest.mark.parametrize("source", ["8.8.8.8", "10.0.1.9", "192.168.1.1"])
async def test_a_sender_outside_the_interfaces_own_network_is_not_heard(
    source: str, autojump_clock: MockClock
) -> None:
    assert await heard(lambda one: encode(Announce(1234, (one,)), GROUPS[0]), source) == {}


async def test_what_is_malformed_or_about_other_torrents_changes_nothing(
    autojump_clock: MockClock,
) -> None:
    other = InfoHash(bytes(20))
    assert await heard(lambda one: b"BT-SEARCH * HTTP/1.1\r\n\r\n") == {}
    assert await heard(lambda one: encode(Announce(1234, (other,)), GROUPS[0])) == {}


async def test_our_own_announce_names_no_peer(autojump_clock: MockClock) -> None:
    world, one = World(), sample()
    lan = world.net.lan(HOME, SEED)
    async with world.node(SEED, lsd=True) as node:
        torrent = await node.get(one.magnet())
        await trio.sleep(400)
        assert known(node, torrent.info_hash) == {}
        # Nor does one whose cookie was lost.
        (socket,) = lan.members(GROUPS[0])
        assert socket.send(encode(Announce(PORT, (torrent.info_hash,)), GROUPS[0]), GROUPS[0])
        await trio.sleep(1)
        assert known(node, torrent.info_hash) == {}


async def test_a_liar_of_the_lan_cannot_crowd_out_what_the_dht_found(
    autojump_clock: MockClock,
) -> None:
    world, one, rng = World(), sample(), random.Random(1)
    world.net.lan(HOME, LEECH)
    found = [Address(f"9.{number >> 8}.{number & 255}.1", 6881) for number in range(500)]
    async with world.node(LEECH, lsd=True) as node:
        torrent = await node.get(one.magnet())
        behind(torrent).core.connections.found(found, "dht")
        stranger = await in_group(world, THIRD)
        for _ in range(2000):
            announce = Announce(rng.randrange(1024, 65536), (torrent.info_hash,))
            stranger.send(encode(announce, GROUPS[0]), GROUPS[0])
        await trio.sleep(1)
        sources = list(known(node, torrent.info_hash).values())
        assert sources.count("dht") == 500
        assert 0 < sources.count("lsd") <= 100
        await entered(torrent, "metadata")


async def test_a_bug_of_ours_in_a_datagram_ends_the_hearing_for_a_moment(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, one, real = World(), sample(), Hearing.datagram
    world.net.lan(HOME, LEECH)
    bugs = [ZeroDivisionError("a bug")]

    def buggy(self: Hearing, data: bytes, source: Address, now: float) -> Any:
        if source.host == THIRD and bugs:
            raise bugs.pop()
        return real(self, data, source, now)

    monkeypatch.setattr(Hearing, "datagram", buggy)
    async with world.node(LEECH, lsd=True, fail_fast=False) as node:
        torrent = await node.get(one.magnet())
        await trio.sleep(3)
        stranger = await in_group(world, THIRD)
        announce = encode(Announce(1234, (torrent.info_hash,)), GROUPS[0])
        assert stranger.send(announce, GROUPS[0])
        await trio.sleep(10)
        assert node.status().faults == 1
        assert known(node, torrent.info_hash) == {}
        assert stranger.send(announce, GROUPS[0])
        await trio.sleep(0.01)
        assert known(node, torrent.info_hash) == {Address(THIRD, 1234): "lsd"}


async def test_what_is_remembered_of_interfaces_that_went_is_bounded() -> None:
    net = FakeNetwork(random.Random(1))
    listens = [Address(SEED, PORT)]
    lsd = LocalDiscovery(
        net.host(SEED), LsdConfig(), listens, rng=random.Random(1), faults=Faults(fail_fast=True)
    )
    schedules = [
        lsd._schedule(net.lan(f"container{number}").interface(SEED)) for number in range(200)
    ]
    assert len(lsd._schedules) == MAX_SCHEDULES
    assert schedules[-1] in lsd._schedules.values()
