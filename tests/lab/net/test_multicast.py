"""Local networks in the network in memory."""

from __future__ import annotations

import random

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.engine.net.protocols import DatagramSocket
from dht_torrent.ids import Address
from dht_torrent.lab.net.link import Link
from dht_torrent.lab.net.network import FakeNetwork

GROUP = Address("239.1.2.3", 1000)
ONE, TWO, FAR = "10.0.0.1", "10.0.0.2", "10.0.1.1"


async def joined(net: FakeNetwork, ip: str, lan: str = "home") -> DatagramSocket:
    return await net.host(ip).open_multicast(GROUP, net.lan(lan).interface(ip))


async def heard(socket: DatagramSocket, seconds: float = 1.0) -> list[tuple[bytes, Address]]:
    got: list[tuple[bytes, Address]] = []
    with trio.move_on_after(seconds):
        while True:
            got += await socket.receive()
    return got


async def test_all_in_the_group_hear_it_also_who_sent_it(autojump_clock: MockClock) -> None:
    net = FakeNetwork(random.Random(1), latency=0.1)
    net.lan("home", ONE, TWO)
    net.lan("elsewhere", FAR, TWO)
    one, two, again = await joined(net, ONE), await joined(net, TWO), await joined(net, TWO)
    far, other = await joined(net, FAR, "elsewhere"), await joined(net, TWO, "elsewhere")
    assert one.send(b"hello", GROUP)
    for socket in (one, two, again):
        assert await heard(socket) == [(b"hello", Address(ONE, 1000))]
    for socket in (far, other):
        assert await heard(socket) == []
    assert not one.send(b"hello", GROUP._replace(port=1))
    two.close()
    assert one.send(b"once more", GROUP)
    assert len(await heard(again)) == 1
    with pytest.raises(trio.ClosedResourceError):
        await two.receive()


async def test_a_host_is_in_no_local_network_by_itself() -> None:
    net = FakeNetwork(random.Random(1))
    host = net.host(ONE)
    assert host.interfaces() == []
    with pytest.raises(OSError, match="no interface"):
        await joined(net, ONE)
    lan = net.lan("home", ONE)
    (interface,) = host.interfaces()
    assert (interface.name, interface.ipv6, interface.has(ONE)) == ("home", False, True)
    assert interface.reaches(TWO)
    assert not interface.reaches(FAR)
    host.go_down()
    assert host.interfaces() == []
    host.come_up()
    lan.unplug(ONE)
    assert host.interfaces() == []


async def test_a_node_that_is_unplugged_down_or_cut_off_hears_and_says_nothing(
    autojump_clock: MockClock,
) -> None:
    net = FakeNetwork(random.Random(1))
    lan = net.lan("home", ONE, TWO)
    one, two = await joined(net, ONE), await joined(net, TWO)
    lan.unplug(TWO)
    assert one.send(b"1", GROUP)
    assert not two.send(b"2", GROUP)
    lan.plug_in(TWO)
    net.partition([TWO])
    assert one.send(b"3", GROUP)
    net.heal()
    net.host(TWO).go_down()
    assert one.send(b"4", GROUP)
    assert not two.send(b"5", GROUP)
    net.host(TWO).come_up()
    net.set_link(ONE, TWO, Link(loss=1.0))
    assert one.send(b"6", GROUP)
    net.set_link(ONE, TWO, Link())
    net.host(TWO).behind_nat = True  # of no matter on its own side
    assert one.send(b"7", GROUP)
    assert await heard(two) == [(b"7", Address(ONE, 1000))]
    assert [data for data, _ in await heard(one)] == [b"1", b"3", b"4", b"6", b"7"]
