"""A host of both families is two hosts that share a program."""

from __future__ import annotations

import random

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.ids import Address, HostPort
from dht_torrent.lab.net.network import FakeNetwork
from dht_torrent.lab.population.dual_stack import DualHost

FOUR, SIX = "10.0.0.1", "fd00::1"


@pytest.fixture
def net() -> FakeNetwork:
    return FakeNetwork(random.Random(1), latency=0.01)


@pytest.mark.parametrize(("own", "other"), [(FOUR, "10.0.0.2"), (SIX, "fd00::2")])
async def test_each_family_is_reached_and_reaches_by_its_own_address(
    net: FakeNetwork, own: str, other: str, autojump_clock: MockClock
) -> None:
    host, there = DualHost(net, FOUR, SIX), net.host(other)
    socket = await host.open_udp(Address(own, 5))
    far = await there.open_udp(Address(other, 6))
    assert socket.send(b"x", far.address)
    assert await far.receive() == [(b"x", Address(own, 5))]
    listener = await there.listen(Address(other, 7))
    stream = await host.connect(listener.address)
    with trio.fail_after(1):
        assert (await listener.accept()).remote == stream.local
    assert stream.local.host == own
    assert (await host.listen(Address(own, 8))).address == Address(own, 8)
    with pytest.raises(OSError, match="assign"):
        await host.listen(Address("10.9.9.9", 8))


async def test_a_cable_may_be_pulled_for_one_family_alone(
    net: FakeNetwork, autojump_clock: MockClock
) -> None:
    host = DualHost(net, FOUR, SIX)
    host.ipv6.go_down()
    with pytest.raises(OSError, match="unreachable"):
        await host.connect(Address("fd00::2", 1))
    assert (await host.open_udp(Address(FOUR, 5))).send(b"x", Address("10.0.0.2", 1))


async def test_a_name_has_addresses_of_both(net: FakeNetwork, autojump_clock: MockClock) -> None:
    net.names["router"] = ["10.0.0.9", "fd00::9"]
    found = await DualHost(net, FOUR, SIX).resolve(HostPort("router", 1))
    assert found == [Address("10.0.0.9", 1), Address("fd00::9", 1)]
