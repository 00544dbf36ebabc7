"""The way in through a router, on the network in memory."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dht_torrent import Config, Node, NodeStatus, open_node
from dht_torrent.dht import krpc
from dht_torrent.dht.krpc import Query
from dht_torrent.engine.portmap.service import PortMapping
from dht_torrent.engine.portmap.upnp import UpnpGateway
from dht_torrent.ids import Address, InfoHash
from dht_torrent.lab.net.network import FakeNetwork
from dht_torrent.portmap.ports import IpProtocol, LocalPort
from tests.helpers.fake_gateway import PUBLIC, FakeGateway, FakeUpnp

ROUTER, OURS, OTHER = "192.168.1.1", "192.168.1.2", "192.168.1.3"
TCP, UDP = IpProtocol.TCP, IpProtocol.UDP
OUTSIDE = Address(PUBLIC, 6881)


def home() -> FakeNetwork:
    net = FakeNetwork(random.Random(1), latency=0.001)
    net.lan("home", ROUTER, OURS, OTHER)
    for ip in (OURS, OTHER):
        net.host(ip).router = ROUTER
    return net


@asynccontextmanager
async def mapping(
    net: FakeNetwork, upnp: UpnpGateway | None = None, *ports: tuple[IpProtocol, Address]
) -> AsyncIterator[PortMapping]:
    listening = list(ports) or [(one, Address("0.0.0.0", 6881)) for one in (TCP, UDP)]
    config = Config().port_map_limits
    service = PortMapping(
        net.host(OURS), config, lambda: listening, rng=random.Random(2), upnp=upnp
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.run)
        yield service
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("pcp", [True, False])
async def test_the_router_maps_both_ports_and_they_are_taken_away_at_the_end(
    autojump_clock: MockClock, nursery: trio.Nursery, pcp: bool
) -> None:
    net, gateway = home(), FakeGateway(speaks_pcp=pcp)
    await nursery.start(gateway.run, net, ROUTER)
    async with mapping(net) as service:
        await trio.sleep(1)
        assert service.external(TCP, 6881) == service.external(UDP, 6881) == OUTSIDE
        status = service.status()
        assert status.gateway == ROUTER
        assert [(one.protocol, one.port, one.external) for one in status.mapped] == [
            ("tcp", 6881, str(OUTSIDE)),
            ("udp", 6881, str(OUTSIDE)),
        ]
        assert {one.by for one in status.mapped} == {"PCP" if pcp else "NAT-PMP"}
        assert all(7190 < (one.expires_in or 0) < 7200 for one in status.mapped)
        assert status.trouble is None
        await trio.sleep(80_000)
        assert service.external(TCP, 6881) == OUTSIDE
        assert len(gateway.mappings) == 2
        ended = trio.current_time()
    assert gateway.mappings == {}
    assert trio.current_time() - ended < 0.1


async def test_a_router_that_says_nothing_at_the_end_is_not_waited_for_long(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    net, gateway = home(), FakeGateway()
    await nursery.start(gateway.run, net, ROUTER)
    async with mapping(net):
        await trio.sleep(1)
        gateway.spoil = lambda answer: None
        ended = trio.current_time()
    assert 1.9 < trio.current_time() - ended < 2.1


async def test_a_router_that_restarts_gets_its_mappings_again(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    net, gateway = home(), FakeGateway()
    await nursery.start(gateway.run, net, ROUTER)
    async with mapping(net) as service:
        await trio.sleep(100)
        gateway.restart(trio.current_time())
        await trio.sleep(70)
        assert len(gateway.mappings) == 2
        assert service.external(TCP, 6881) == OUTSIDE


async def test_a_router_that_tells_everybody_that_it_restarts_is_heard(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    net, gateway = home(), FakeGateway()
    await nursery.start(gateway.run, net, ROUTER)
    group = Address("224.0.0.1", 5350)
    async with mapping(net) as service:
        await trio.sleep(100)
        gateway.restart(trio.current_time())
        router = net.host(ROUTER)
        voice = await router.open_multicast(group, router.interfaces()[0])
        voice.send(gateway.announce(trio.current_time()), group)
        liar = net.host(OTHER)
        voice = await liar.open_multicast(group, liar.interfaces()[0])
        voice.send(gateway.announce(trio.current_time()), group)
        await trio.sleep(6)
        assert len(gateway.mappings) == 2
        assert service.external(TCP, 6881) == OUTSIDE


async def test_answers_of_another_machine_are_not_believed(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    net, liar = home(), FakeGateway(public="8.8.8.8")
    heard: list[Address] = []

    def lie(source: Address, to: Address, data: bytes) -> None:
        if source.host == OURS and to.port == 5351:
            heard.append(source)

    net.tap = lie
    async with mapping(net) as service:
        await trio.sleep(0.1)
        socket = await net.host(OTHER).open_udp(Address(OTHER, 5351))
        (first, *_) = heard
        for nonce in (bytes(12),):
            request = bytes((2, 1, 0, 0)) + bytes(20) + nonce + bytes((6, 0, 0, 0, 0x1A, 0xE1)) * 4
            socket.send(liar.answer(request[:60], 1.0) or b"", first)
        for _ in range(1000):
            socket.send(b"\x00\x80" + bytes(10), first)
        await trio.sleep(1)
        assert service.external(TCP, 6881) is None


async def test_a_silent_router_is_asked_again_and_again_but_rarely(
    autojump_clock: MockClock,
) -> None:
    net, asked = home(), 0

    def count(source: Address, to: Address, data: bytes) -> None:
        nonlocal asked
        asked += to == Address(ROUTER, 5351)

    net.tap = count
    net.host(ROUTER)
    async with mapping(net) as service:
        await trio.sleep(30)
        assert service.status().trouble == (
            "the router 192.168.1.1 maps no port: PCP: no answer; NAT-PMP: no answer; "
            "UPnP is not used here"
        )
        first = asked
        await trio.sleep(24 * 3600)
        assert 24 <= asked / first <= 32


async def test_a_router_that_comes_late_is_found(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    net, gateway = home(), FakeGateway()
    host = net.host(OURS)
    host.router = None
    async with mapping(net) as service:
        await trio.sleep(60)
        assert "no default route" in str(service.status().trouble)
        assert service.status().gateway is None
        host.router = ROUTER
        await nursery.start(gateway.run, net, ROUTER)
        await trio.sleep(6)
        assert service.external(TCP, 6881) == OUTSIDE


async def test_when_the_network_is_back_the_router_is_asked_at_once(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    net, gateway = home(), FakeGateway()
    net.host(ROUTER)
    async with mapping(net) as service:
        await trio.sleep(24 * 3600)  # by now it is asked rarely
        await nursery.start(gateway.run, net, ROUTER)
        service.renew()
        await trio.sleep(6)
        assert service.external(TCP, 6881) == OUTSIDE
        gateway.mappings.clear()
        service.renew()
        await trio.sleep(6)
        assert service.external(TCP, 6881) == OUTSIDE
        assert len(gateway.mappings) == 2


async def test_another_router_is_asked_at_once(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    net, gateway, other = home(), FakeGateway(), FakeGateway(public="9.8.7.6", offset=1)
    await nursery.start(gateway.run, net, ROUTER)
    await nursery.start(other.run, net, OTHER)
    async with mapping(net) as service:
        await trio.sleep(60)
        net.host(OURS).router = OTHER
        await trio.sleep(6)
        assert service.external(TCP, 6881) == Address("9.8.7.6", 6882)
        assert gateway.mappings == {}


async def test_only_ports_that_can_be_reached_from_the_router_are_mapped(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    net, gateway = home(), FakeGateway()
    await nursery.start(gateway.run, net, ROUTER)
    ports = [(TCP, Address(OURS, 1)), (TCP, Address("192.168.7.7", 2)), (UDP, Address(OURS, 3))]
    async with mapping(net, None, *ports):
        await trio.sleep(1)
        assert set(gateway.mappings) == {(6, 1), (17, 3)}
    async with mapping(net, None, (TCP, Address("192.168.7.7", 2))) as service:
        await trio.sleep(1)
        assert gateway.mappings == {}
        assert service.status().gateway is None


# -- UPnP ------------------------------------------------------------------------------------------


async def test_a_router_that_knows_upnp_alone_is_asked_by_it(autojump_clock: MockClock) -> None:
    net, upnp = home(), FakeUpnp()
    async with mapping(net, upnp) as service:
        await trio.sleep(15)
        assert service.external(TCP, 6881) == service.external(UDP, 6881) == OUTSIDE
        assert {one.by for one in service.status().mapped} == {"UPnP"}
        assert upnp.mappings == {
            (name, 6881): (Address(OURS, 6881), 7200) for name in ("TCP", "UDP")
        }
        await trio.sleep(20_000)
        assert service.external(TCP, 6881) == OUTSIDE
        assert upnp.found == 1
    assert upnp.mappings == {}


async def test_a_upnp_router_that_forgot_or_was_started_again_is_asked_again(
    autojump_clock: MockClock,
) -> None:
    net, upnp = home(), FakeUpnp()
    async with mapping(net, upnp) as service:
        await trio.sleep(15)
        upnp.mappings.clear()
        await trio.sleep(70)
        assert len(upnp.mappings) == 2
        upnp.mappings.clear()
        upnp.is_lost, upnp.public = True, "9.9.9.9"
        await trio.sleep(70)
        assert len(upnp.mappings) == 2
        assert service.external(UDP, 6881) == Address("9.9.9.9", 6881)
        assert upnp.found == 2


async def test_a_upnp_router_without_lifetimes_maps_for_good(autojump_clock: MockClock) -> None:
    net, upnp = home(), FakeUpnp(knows_lifetimes=False)
    async with mapping(net, upnp) as service:
        await trio.sleep(15)
        assert [one.expires_in for one in service.status().mapped] == [None, None]
        assert [lifetime for _, lifetime in upnp.mappings.values()] == [0, 0]
    assert upnp.mappings == {}


async def test_ports_of_other_machines_are_left_to_them(autojump_clock: MockClock) -> None:
    net, upnp = home(), FakeUpnp()
    theirs = Address(OTHER, 6881)
    upnp.mappings["TCP", 6881] = theirs, 0
    upnp.conflicts = {6881}
    async with mapping(net, upnp) as service:
        await trio.sleep(15)
        tcp, udp = service.external(TCP, 6881), service.external(UDP, 6881)
        assert tcp is not None
        assert tcp.port != 6881
        assert tcp == udp  # the same for both, where it can be had
    assert upnp.mappings == {("TCP", 6881): (theirs, 0)}


async def test_a_upnp_router_that_refuses_is_told_of_and_asked_later(
    autojump_clock: MockClock,
) -> None:
    net, upnp = home(), FakeUpnp(trouble="Action Failed")
    async with mapping(net, upnp) as service:
        await trio.sleep(30)
        assert "UPnP: Action Failed" in str(service.status().trouble)
        upnp.trouble = None
        await trio.sleep(120)
        assert service.external(TCP, 6881) == OUTSIDE
        upnp.trouble = "Action Failed"
        await trio.sleep(70)
        assert service.external(TCP, 6881) is None
        upnp.trouble = None


async def test_a_hanging_upnp_router_does_not_delay_the_end(autojump_clock: MockClock) -> None:
    net, upnp = home(), FakeUpnp()
    async with mapping(net, upnp):
        await trio.sleep(15)
        upnp.hangs = True
        ended = trio.current_time()
    assert trio.current_time() - ended < 2.1


# -- the node --------------------------------------------------------------------------------------


@asynccontextmanager
async def node(
    net: FakeNetwork, listen: str = "0.0.0.0:6881", **options: Any
) -> AsyncIterator[Node]:
    config = Config(**{"bootstrap": (), "listen": listen, "fail_fast": True, **options})
    ip = "127.0.0.1" if listen.startswith("127.") else OURS
    async with open_node(config, network=net.host(ip), rng=random.Random(3)) as one:
        yield one


async def status_of(net: FakeNetwork, listen: str = "0.0.0.0:6881", **options: bool) -> NodeStatus:
    async with node(net, listen, **options) as one:
        await trio.sleep(40)
        return one.status()


async def test_a_node_maps_its_ports_and_says_so(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    net, gateway = home(), FakeGateway(offset=5)
    await nursery.start(gateway.run, net, ROUTER)
    status = await status_of(net, port_mapping=True)
    assert status.port_mapping is not None
    assert [one.external for one in status.port_mapping.mapped] == [f"{PUBLIC}:6886"] * 2
    assert status.reachable is None
    assert f"which the router lets in at {PUBLIC}:6886" in str(status.reachable_why)
    assert gateway.mappings == {}  # it has ended


@pytest.mark.parametrize(
    ("offset", "port"), [(None, None), (0, 6881), (5, 6886)], ids=["unmapped", "same", "another"]
)
async def test_the_port_that_the_router_lets_in_is_announced(
    offset: int | None,
    port: int | None,
    autojump_clock: MockClock,
    nursery: trio.Nursery,
) -> None:
    net = home()
    if offset is not None:
        await nursery.start(FakeGateway(offset=offset).run, net, ROUTER)
    announced: list[Query] = []

    def tap(source: Address, to: Address, data: bytes) -> None:
        if source.host == OURS and b"announce_peer" in data:
            query = krpc.decode(data)
            assert isinstance(query, Query)
            announced.append(query)

    net.tap = tap
    there = Config(bootstrap=(), listen=f"{OTHER}:6881", fail_fast=True)
    async with (
        open_node(there, network=net.host(OTHER), rng=random.Random(4)),
        node(net, port_mapping=offset is not None, bootstrap=(f"{OTHER}:6881",)) as one,
    ):
        await trio.sleep(30)
        await one.get(InfoHash(bytes(range(20))).hex())
        with trio.fail_after(600):
            while not announced:
                await trio.sleep(1)
    args = announced[-1].args
    if port is None:  # let them see for themselves what the router made of it
        assert (args[b"port"], args[b"implied_port"]) == (6881, 1)
    else:
        assert args[b"port"] == port
        assert b"implied_port" not in args


async def test_a_router_behind_a_router_is_told_of(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    net, gateway = home(), FakeGateway(public="100.64.3.2")
    await nursery.start(gateway.run, net, ROUTER)
    status = await status_of(net, port_mapping=True)
    assert status.reachable is False
    assert "100.64.3.2" in str(status.reachable_why)


async def test_port_mapping_is_off_unless_it_is_wanted(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    net, gateway = home(), FakeGateway()
    await nursery.start(gateway.run, net, ROUTER)
    status = await status_of(net)
    assert status.port_mapping is None
    assert status.reachable is None
    assert "port mapping is off" in str(status.reachable_why)
    assert gateway.heard == []


async def test_a_node_for_this_machine_only_asks_no_router(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    net, gateway = home(), FakeGateway()
    await nursery.start(gateway.run, net, ROUTER)
    net.host("127.0.0.1").router = ROUTER
    net.lan("home", "127.0.0.1")
    status = await status_of(net, "127.0.0.1:6881", port_mapping=True)
    assert status.port_mapping is None
    assert status.reachable is False
    assert gateway.heard == []


async def test_a_failing_router_is_told_of(autojump_clock: MockClock) -> None:
    status = await status_of(home(), port_mapping=True)
    assert status.reachable is None
    assert "PCP: no answer" in str(status.reachable_why)
    assert status.port_mapping is not None
    assert status.port_mapping.mapped == ()


def test_local_ports_are_told_in_words() -> None:
    assert str(LocalPort(TCP, 6881)) == "TCP 6881"
