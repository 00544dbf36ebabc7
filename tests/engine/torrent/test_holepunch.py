"""Holepunching (BEP 55): two peers behind routers, and a relay outside."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dht_torrent import Node, PeerInfo, bencode
from dht_torrent.config import DhtConfig, HolepunchConfig, UtpConfig
from dht_torrent.engine.torrent.torrent import Torrent, behind
from dht_torrent.ids import Address, HostPort
from dht_torrent.lab.net.nat import Nat
from dht_torrent.peer.holepunch import Holepunch, HolepunchFailure, HolepunchKind, decode_holepunch
from dht_torrent.peer.pex import PexFlags
from dht_torrent.utp.packets import SYN, is_utp
from tests.helpers.engine import EXTENDED, HAVE_NONE, PORT, Hand, World, greeted, listening, sample

RELAY, HOME, OTHER = "20.0.0.1", "20.1.0.1", "20.2.0.1"
FILM = sample()
CONE, SHIFTING, SYMMETRIC = Nat, partial(Nat, shift=100), partial(Nat, symmetric=True)
TCP_TOO: dict[str, Any] = {"utp": UtpConfig()}
UTP: dict[str, Any] = {"utp": UtpConfig(), "tcp": False}


@dataclass
class Meeting:
    """Two that are to meet, and the third one, which knows both."""

    world: World
    relay: Node
    one: Node
    other: Node
    here: Torrent
    there: Torrent

    def met(self) -> PeerInfo | None:
        """The connection between the two, as the first one sees it."""
        for info in self.here.peers():
            if info.address.startswith(OTHER):
                return info
        return None

    async def meets(self, seconds: float = 120.0) -> PeerInfo:
        with trio.fail_after(seconds):
            while (found := self.met()) is None:
                await trio.sleep(0.25)
        return found


@contextlib.asynccontextmanager
async def meeting(
    one: Callable[[], Nat | None],
    other: Callable[[], Nat | None],
    seed: int = 1,
    *,
    options: dict[str, Any] = TCP_TOO,
    network: dict[str, Any] | None = None,
    relay_options: dict[str, Any] | None = None,
) -> AsyncIterator[Meeting]:
    world = World(seed=seed, **(network or {"latency": (0.02, 0.08)}))
    for ip, nat in ((HOME, one()), (OTHER, other())):
        world.net.host(ip).nat = nat
    async with (
        world.node(RELAY, **{**options, **(relay_options or {})}) as relay,
        world.node(HOME, **options) as home,
        world.node(OTHER, **options) as away,
    ):
        await relay.get(FILM.metainfo)
        torrents = []
        for node in (home, away):
            torrent = await node.get(FILM.metainfo)
            torrent.add_peers([HostPort(RELAY, PORT)])
            torrents.append(torrent)
        yield Meeting(world, relay, home, away, *torrents)


FAST = {"latency": 0.01}
SLOW = {"latency": (0.05, 0.4)}
LOSSY = {"latency": (0.02, 0.1), "loss": 0.03, "reordering": 0.1}
TRIES = 25


@pytest.mark.parametrize(
    ("one", "other", "options", "network"),
    [
        (CONE, CONE, TCP_TOO, FAST),
        (CONE, CONE, TCP_TOO, SLOW),
        (CONE, CONE, UTP, LOSSY),
        (SHIFTING, SHIFTING, UTP, SLOW),
    ],
    ids=["near", "far", "losses", "other ports"],
)
def test_two_behind_cones_meet_in_95_of_100_tries(
    one: Callable[[], Nat],
    other: Callable[[], Nat],
    options: dict[str, Any],
    network: dict[str, Any],
) -> None:
    async def meets(seed: int) -> bool:
        async with meeting(one, other, seed, options=options, network=network) as them:
            with trio.move_on_after(30):
                await them.meets()
                return True
        return False

    met = [trio.run(meets, seed, clock=MockClock(autojump_threshold=0)) for seed in range(TRIES)]
    assert sum(met) >= 0.95 * TRIES


@pytest.mark.parametrize("options", [TCP_TOO, UTP], ids=["both", "utp"])
async def test_two_behind_cones_meet_with_the_help_of_a_third(
    options: dict[str, Any], autojump_clock: MockClock
) -> None:
    async with meeting(CONE, CONE, options=options) as them:
        info = await them.meets()
        assert info.transport == "utp"
        assert info.punched
        assert "H" in info.flags
        (theirs,) = [peer for peer in them.there.peers() if peer.address.startswith(HOME)]
        assert theirs.punched
        await trio.sleep(60)
        assert them.met() is not None
        for node in (them.one, them.other):
            told = node.status().holepunch
            assert told is not None
            assert (told.tried, told.reached) == (1, 1)


async def test_who_is_behind_a_symmetric_nat_is_told_why_nobody_is_met(
    autojump_clock: MockClock,
) -> None:
    async with meeting(SYMMETRIC, CONE) as them:
        await trio.sleep(600)
        assert them.met() is None
        for node in (them.one, them.other):
            told = node.status().holepunch
            assert told is not None
            assert told.tried >= 3
            assert told.reached == 0
            assert told.trouble is not None
            assert "symmetric NATs" in told.trouble
        told = them.relay.status().holepunch
        assert told is not None
        assert told.introduced >= 3
        assert told.trouble is None


async def test_a_symmetric_nat_is_known_by_the_ports_that_the_dht_sees(
    autojump_clock: MockClock,
) -> None:
    hosts = [f"20.{number}.0.1" for number in range(10, 16)]
    world = World(latency=0.01)
    world.net.host(HOME).nat = SYMMETRIC()
    world.net.host(OTHER).nat = CONE()
    async with contextlib.AsyncExitStack() as stack:
        for host in hosts:
            await stack.enter_async_context(world.node(host, bootstrap=hosts[:1]))
        here = await stack.enter_async_context(world.node(HOME, bootstrap=hosts, **TCP_TOO))
        there = await stack.enter_async_context(world.node(OTHER, bootstrap=hosts, **TCP_TOO))
        await trio.sleep(120)
        assert here.status().dht.symmetric_nat is True
        assert there.status().dht.symmetric_nat is False
        told, theirs = here.status().holepunch, there.status().holepunch
        assert told is not None
        assert told.trouble is not None
        assert "(a symmetric NAT)" in told.trouble
        assert theirs is not None
        assert theirs.trouble is None


async def test_without_a_relay_that_speaks_it_nobody_behind_a_router_is_met(
    autojump_clock: MockClock,
) -> None:
    """Nor told by the DHT when the other dials, or two datagrams may meet by chance."""
    off = {"holepunch": HolepunchConfig(enabled=False), "dht": DhtConfig(read_only=True)}
    async with meeting(CONE, CONE, relay_options=off) as them:
        await trio.sleep(300)
        assert them.met() is None
        assert them.relay.status().holepunch is None


# -- by hand: a node at RELAY, and what its peers hear ------------------------------------------

OURS = 4
"""The number that our node takes ut_holepunch messages under."""
THEIRS = 9
PUBLIC = ("20.3.0.1", "20.4.0.1", "20.5.0.1")
RENDEZVOUS, CONNECT, ERROR = HolepunchKind


async def speaker(
    world: World, torrent: Torrent, ip: str, *, port: int | None = PORT, speaks: bool = True
) -> Hand:
    """A peer that came to the node at RELAY, and says that it listens."""
    hand = await greeted(world, torrent, ip, to=RELAY, extended=True)
    await hand.send(HAVE_NONE)
    names = {b"ut_holepunch": THEIRS, b"ut_pex": 8} if speaks else {b"ut_pex": 8}
    said: dict[bytes, bencode.Value] = {b"m": dict[bytes, bencode.Value](names)}
    if port is not None:
        said[b"p"] = port
    await hand.send(EXTENDED, data=b"\0" + bencode.encode(said))
    return hand


async def say(hand: Hand, kind: HolepunchKind, host: str, port: int = PORT) -> None:
    payload = Holepunch(kind, Address(host, port)).payload()
    await hand.send(EXTENDED, data=bytes([OURS]) + payload)


async def told(hand: Hand, seconds: float = 1.0) -> list[tuple[HolepunchKind, str, int, int]]:
    """All that it is told by ut_holepunch."""
    found = []
    for kind, payload in await hand.heard(seconds):
        if kind == EXTENDED and payload[0] == THEIRS:
            message = decode_holepunch(payload[1:], 0)
            assert message is not None
            assert len(payload) == 13
            found.append((message.kind, *message.address, message.failure))
    return found


@contextlib.asynccontextmanager
async def relay(world: World, **changes: Any) -> AsyncIterator[Torrent]:
    async with world.node(RELAY, **{**TCP_TOO, **changes}) as node:
        yield await node.get(FILM.metainfo)


async def test_a_relay_tells_both_where_the_other_is(autojump_clock: MockClock) -> None:
    world = World(latency=0.01)
    async with relay(world) as torrent:
        one, other = [await speaker(world, torrent, ip) for ip in PUBLIC[:2]]
        await trio.sleep(1)
        await say(one, RENDEZVOUS, PUBLIC[1])
        assert await told(one) == [(CONNECT, PUBLIC[1], PORT, 0)]
        assert await told(other) == [(CONNECT, PUBLIC[0], PORT, 0)]


@pytest.mark.parametrize(
    ("host", "port", "failure"),
    [
        (PUBLIC[2], PORT, HolepunchFailure.NOT_CONNECTED),
        (PUBLIC[1], 7, HolepunchFailure.NOT_CONNECTED),
        (PUBLIC[1], 0, HolepunchFailure.NO_SUCH_PEER),
        ("239.0.0.1", PORT, HolepunchFailure.NO_SUCH_PEER),
        (PUBLIC[1], PORT, HolepunchFailure.NO_SUPPORT),
        (RELAY, PORT, HolepunchFailure.NO_SELF),
        (PUBLIC[0], PORT, HolepunchFailure.NO_SELF),
    ],
)
async def test_a_relay_says_why_it_does_not_introduce_somebody(
    host: str, port: int, failure: HolepunchFailure, autojump_clock: MockClock
) -> None:
    world = World(latency=0.01)
    async with relay(world) as torrent:
        one = await speaker(world, torrent, PUBLIC[0])
        other = await speaker(world, torrent, PUBLIC[1], speaks=False)
        await trio.sleep(1)
        await say(one, RENDEZVOUS, host, port)
        assert await told(one) == [(ERROR, host, port, failure)]
        assert await told(other) == []


async def test_a_relay_does_not_hear_who_asks_without_end(autojump_clock: MockClock) -> None:
    world, config = World(latency=0.01), HolepunchConfig()
    async with relay(world) as torrent:
        one, other = [await speaker(world, torrent, ip) for ip in PUBLIC[:2]]
        await trio.sleep(1)
        for _ in range(50):
            await say(one, RENDEZVOUS, PUBLIC[1])
            await say(one, RENDEZVOUS, PUBLIC[2])
        assert len(await told(one)) <= config.relay_burst
        assert len(await told(other)) == 1


async def test_who_does_not_speak_it_is_not_heard(autojump_clock: MockClock) -> None:
    world = World(latency=0.01)
    async with relay(world) as torrent:
        one = await speaker(world, torrent, PUBLIC[0], speaks=False)
        other = await speaker(world, torrent, PUBLIC[1])
        sent = syns(world)
        await trio.sleep(1)
        await say(one, RENDEZVOUS, PUBLIC[1])
        await say(one, CONNECT, PUBLIC[2])
        assert await told(other, 10) == []
        assert sent == []


@pytest.mark.parametrize("config", [{"holepunch": HolepunchConfig(enabled=False)}, {"utp": None}])
async def test_it_is_not_offered_where_it_is_off(
    config: dict[str, Any], autojump_clock: MockClock
) -> None:
    if "utp" in config:
        config = {"utp": UtpConfig(enabled=False)}
    world = World(latency=0.01)
    async with relay(world, **config) as torrent:
        hand = await greeted(world, torrent, PUBLIC[0], to=RELAY, extended=True)
        assert b"ut_holepunch" not in await hand.expect(EXTENDED)


@pytest.mark.parametrize("private", [False, True])
async def test_it_is_offered_in_public_torrents_alone(
    private: bool, autojump_clock: MockClock
) -> None:
    world, one = World(latency=0.01), sample(private=private)
    async with world.node(RELAY, **TCP_TOO) as node:
        torrent = await node.get(one.metainfo)
        hand = await greeted(world, torrent, PUBLIC[0], to=RELAY, extended=True)
        assert (b"12:ut_holepunchi4e" in await hand.expect(EXTENDED)) is not private


# -- by hand: whom a relay makes us send to -----------------------------------------------------


def syns(world: World) -> list[Address]:
    """Where the node at RELAY sends SYNs of uTP, from now on; and nothing else of uTP goes there
    without an answer."""
    found: list[Address] = []

    def tap(source: Address, to: Address, data: bytes) -> None:
        if source.host == RELAY and is_utp(data):
            assert data[0] >> 4 == SYN
            assert len(data) == 20
            found.append(to)

    world.net.tap = tap
    return found


async def test_a_target_sends_three_small_packets_where_the_relay_says(
    autojump_clock: MockClock,
) -> None:
    world = World(latency=0.01)
    async with relay(world) as torrent:
        hand = await speaker(world, torrent, PUBLIC[0])
        sent = syns(world)
        await say(hand, CONNECT, PUBLIC[1], 4000)
        assert await told(hand, 30) == []
        assert sent == [Address(PUBLIC[1], 4000)] * 3
        assert world.net.stats.connections == 1  # no TCP
        assert torrent.peers()  # and the relay is none the worse


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("10.0.0.9", PORT),
        ("127.0.0.1", 80),
        ("169.254.169.254", 80),
        ("192.168.1.1", 80),
        (PUBLIC[1], 0),
        ("239.1.1.1", PORT),
        ("0.0.0.0", PORT),
        (RELAY, PORT),
        (PUBLIC[0], PORT + 1),
    ],
)
async def test_a_relay_cannot_have_us_send_to_what_is_not_a_peer_elsewhere(
    host: str, port: int, autojump_clock: MockClock
) -> None:
    world = World(latency=0.01)
    async with relay(world) as torrent:
        hand = await speaker(world, torrent, PUBLIC[0])
        await trio.sleep(1)
        if host == PUBLIC[0]:  # where it is connected from
            port = (await at_relay(torrent, host)).port
        sent = syns(world)
        await say(hand, CONNECT, host, port)
        await trio.sleep(30)
        assert sent == []


async def test_a_relay_cannot_have_us_send_where_the_ip_filter_forbids_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world, rules = World(latency=0.01), tmp_path / "rules"
    rules.write_text(f"{PUBLIC[1]}/32\n")
    async with relay(world, ip_filter=rules) as torrent:
        hand = await speaker(world, torrent, PUBLIC[0])
        sent = syns(world)
        await say(hand, CONNECT, PUBLIC[1])
        await trio.sleep(30)
        assert sent == []


async def test_a_torrent_that_is_paused_sends_to_nobody(autojump_clock: MockClock) -> None:
    world = World(latency=0.01)
    async with relay(world) as torrent:
        hand = await speaker(world, torrent, PUBLIC[0])
        sent = syns(world)
        await say(hand, CONNECT, PUBLIC[1])
        await trio.sleep(0.5)
        assert len(sent) == 1
        await torrent.pause()
        await trio.sleep(30)
        assert len(sent) == 1
        await torrent.resume()
        await trio.sleep(1)
        again = await speaker(world, torrent, PUBLIC[2])
        await say(again, CONNECT, PUBLIC[1])
        await trio.sleep(30)
        assert sent.count(Address(PUBLIC[1], PORT)) == 4


async def at_relay(torrent: Torrent, host: str) -> Address:
    (found,) = [
        peer.address
        for peer in behind(torrent).core.connections.peers.values()
        if peer.address.host == host
    ]
    return found


async def test_relays_together_have_us_send_to_a_stranger_seldom(
    autojump_clock: MockClock,
) -> None:
    world, config = World(latency=0.01), HolepunchConfig()
    async with relay(world) as torrent:
        hands = [await speaker(world, torrent, f"20.6.{number}.1") for number in range(20)]
        every = syns(world)
        for minute in range(3):
            for hand in hands:
                for port in range(1000, 1010):
                    await say(hand, CONNECT, PUBLIC[1], port)
            await trio.sleep(60)
            sent = [address for address in every if address.host == PUBLIC[1]]
            assert len(sent) <= 3 * (config.host_burst + minute)
        assert len(sent) >= 3 * config.host_burst


async def test_one_relay_has_us_send_to_few_strangers(autojump_clock: MockClock) -> None:
    world, config = World(latency=0.01), HolepunchConfig()
    async with relay(world) as torrent:
        hand = await speaker(world, torrent, PUBLIC[0])
        sent = syns(world)
        for number in range(200):
            await say(hand, CONNECT, f"20.7.{number}.1")
        await trio.sleep(30)
        assert len(set(sent)) == config.relay_burst
        assert len(sent) == 3 * config.relay_burst


async def test_connections_for_relays_are_bounded_at_once(autojump_clock: MockClock) -> None:
    world, config = World(latency=0.01), HolepunchConfig(max_at_once=2)
    async with relay(world, holepunch=config) as torrent:
        hand = await speaker(world, torrent, PUBLIC[0])
        sent = syns(world)
        for number in range(5):
            await say(hand, CONNECT, f"20.7.{number}.1")
        await trio.sleep(5)
        assert len(set(sent)) == 2
        await trio.sleep(15)
        await say(hand, CONNECT, "20.7.9.1")
        await trio.sleep(15)
        assert len(set(sent)) == 3


# -- by hand: relays that we ask ----------------------------------------------------------------


async def name(hand: Hand, *hosts: str, flags: int = 0x0C) -> None:
    """Say by PEX that it is connected with these, which speak uTP and ut_holepunch."""
    entries: dict[bytes, bencode.Value] = {
        b"added": b"".join(Address(host, PORT).compact() for host in hosts),
        b"added.f": bytes([flags]) * len(hosts),
    }
    await hand.send(EXTENDED, data=b"\1" + bencode.encode(entries))


async def test_a_peer_that_answers_a_dial_needs_no_relay(autojump_clock: MockClock) -> None:
    world = World(latency=0.01)
    async with relay(world) as torrent, world.node(OTHER, **TCP_TOO) as other:
        await other.get(FILM.metainfo)
        hand = await speaker(world, torrent, PUBLIC[0])
        await name(hand, OTHER)
        assert RENDEZVOUS not in [kind for kind, *_ in await told(hand, 30)]
        assert [info.punched for info in torrent.peers() if info.address.startswith(OTHER)] == [
            False
        ]


async def test_a_peer_that_nobody_relays_for_is_only_dialled(autojump_clock: MockClock) -> None:
    world = World(latency=0.01)
    async with relay(world) as torrent:
        hand = await speaker(world, torrent, PUBLIC[0])
        await name(hand, OTHER, flags=0x04)
        assert await told(hand, 60) == []


async def test_the_relay_is_asked_two_seconds_after_the_dial_began(
    autojump_clock: MockClock,
) -> None:
    world = World(latency=0.01)
    world.net.host(OTHER).behind_nat = True
    async with relay(world) as torrent:
        hand = await speaker(world, torrent, PUBLIC[0])
        await name(hand, OTHER)
        began = trio.current_time()
        with trio.fail_after(10):
            while (await hand.expect(EXTENDED))[0] != THEIRS:
                pass
        assert 1.9 < trio.current_time() - began < 2.5


@pytest.mark.parametrize("how", ["refuses", "is silent", "leaves"])
async def test_when_one_relay_does_not_help_another_one_is_asked(
    how: str, autojump_clock: MockClock
) -> None:
    world = World(latency=0.01)
    world.net.host(OTHER).behind_nat = True
    async with relay(world) as torrent:
        hands = [await speaker(world, torrent, ip) for ip in PUBLIC]
        for hand in hands:
            await name(hand, OTHER)
        asked = [await told(hand, 2.5) for hand in hands[:1]]
        assert asked == [[(RENDEZVOUS, OTHER, PORT, 0)]]
        if how == "refuses":
            payload = Holepunch(ERROR, Address(OTHER, PORT), 2).payload()
            await hands[0].send(EXTENDED, data=bytes([OURS]) + payload)
        elif how == "leaves":
            hands[0].stream.close()
        seconds = 5.5 if how == "is silent" else 0.5
        assert await told(hands[1], seconds) == [(RENDEZVOUS, OTHER, PORT, 0)]
        assert await told(hands[2], 4) == []
        sent = syns(world)
        await say(hands[1], CONNECT, OTHER, 5555)  # the relay knows better at which port
        await trio.sleep(10)
        assert Address(OTHER, 5555) in sent


async def test_a_relay_that_was_asked_cannot_send_us_elsewhere(autojump_clock: MockClock) -> None:
    world = World(latency=0.01)
    world.net.host(OTHER).behind_nat = True
    async with relay(world) as torrent:
        hand = await speaker(world, torrent, PUBLIC[0])
        await name(hand, OTHER)
        assert await told(hand, 2.5) == [(RENDEZVOUS, OTHER, PORT, 0)]
        sent = syns(world)
        await say(hand, CONNECT, "192.168.1.1", PORT)
        await say(hand, CONNECT, OTHER, 0)
        await trio.sleep(2)
        assert {address.host for address in sent} <= {OTHER}
        assert all(address.port == PORT for address in sent)


async def test_what_a_relay_names_no_more_it_is_not_asked_for(autojump_clock: MockClock) -> None:
    world = World(latency=0.01)
    world.net.host(OTHER).behind_nat = True
    async with relay(world) as torrent:
        hand = await speaker(world, torrent, PUBLIC[0])
        await name(hand, OTHER)
        assert await told(hand, 2.5) == [(RENDEZVOUS, OTHER, PORT, 0)]
        gone = bencode.encode({b"added": b"", b"dropped": Address(OTHER, PORT).compact()})
        await trio.sleep(60)
        await hand.send(EXTENDED, data=b"\1" + gone)
        behind(torrent).core.connections.found([Address(OTHER, PORT)], "user")
        assert await told(hand, 200) == []


# -- whom peers are told of ---------------------------------------------------------------------


async def test_only_who_speaks_it_is_told_of_those_who_can_be_introduced(
    autojump_clock: MockClock,
) -> None:
    world = World(latency=0.01)
    world.net.host(PUBLIC[0]).behind_nat = True
    async with relay(world) as torrent:
        hidden = await speaker(world, torrent, PUBLIC[0])
        deaf = await speaker(world, torrent, PUBLIC[1], speaks=False)
        hears = await speaker(world, torrent, PUBLIC[2])
        assert [*named(await hears.heard(1))] == [(Address(PUBLIC[0], PORT), 0x08)]
        assert [*named(await deaf.heard(70))] == []
        assert dict(named(await hidden.heard(1))) == {Address(PUBLIC[2], PORT): 0x08}


@pytest.mark.parametrize("speaks", [False, True])
async def test_who_was_met_with_a_relay_s_help_is_named_to_those_alone_who_speak_it(
    speaks: bool, autojump_clock: MockClock
) -> None:
    """Both sides of the connection: who dialled across the routers, and who was dialled."""
    names = {b"ut_pex": 8, **({b"ut_holepunch": THEIRS} if speaks else {})}
    told_by: dict[str, dict[Address, int]] = {}

    async def listens(hand: Hand) -> None:
        await hand.hello(FILM.metainfo.info_hash, b"-HW0004-" + bytes(12), extended=True)
        await hand.send(HAVE_NONE)
        said = {b"m": dict[bytes, bencode.Value](names)}
        await hand.send(EXTENDED, data=b"\0" + bencode.encode(dict[bytes, bencode.Value](said)))
        host = hand.stream.remote.host
        told_by.setdefault(host, {}).update(named(await hand.heard(150)))

    async with meeting(CONE, CONE) as them, listening(them.world, PUBLIC[0], listens):
        await them.meets()
        await trio.sleep(70)  # what may be found out of the other is found out
        for torrent in (them.here, them.there):
            torrent.add_peers([HostPort(PUBLIC[0], PORT)])
        await trio.sleep(160)
        for teller, other in ((HOME, OTHER), (OTHER, HOME)):
            flags = {one.host: flag for one, flag in told_by[teller].items()}
            assert flags[RELAY] & PexFlags.REACHABLE, "it hears of the one that anybody can dial"
            if speaks:
                assert flags[other] & PexFlags.HOLEPUNCH
                assert flags[other] & PexFlags.UTP
                assert not flags[other] & PexFlags.REACHABLE
            else:
                assert other not in flags


def named(heard: list[tuple[int, bytes]]) -> Iterator[tuple[Address, int]]:
    """Who was added by PEX, and with which flags."""
    for kind, payload in heard:
        if kind == EXTENDED and payload[0] == 8:
            entries = bencode.decode(payload[1:])
            assert isinstance(entries, dict)
            added, flags = entries[b"added"], entries[b"added.f"]
            assert isinstance(added, bytes)
            assert isinstance(flags, bytes)
            for at, flag in enumerate(flags):
                raw = added[6 * at : 6 * at + 6]
                host = ".".join(map(str, raw[:4]))
                yield Address(host, int.from_bytes(raw[4:], "big")), flag
