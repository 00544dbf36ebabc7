"""Routers that hide hosts of the network in memory."""

from __future__ import annotations

import random

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.ids import Address
from dht_torrent.lab.net.nat import Nat
from dht_torrent.lab.net.network import FakeNetwork

HOME, ONE, OTHER = "20.0.0.1", "20.0.0.2", "20.0.0.3"
PORT = 6881


async def heard(socket: object, seconds: float = 1.0) -> list[tuple[bytes, Address]]:
    with trio.move_on_after(seconds):
        return await socket.receive()  # type: ignore[attr-defined, no-any-return]
    return []


@pytest.mark.parametrize(("shift", "outside"), [(0, 6881), (100, 6981)])
async def test_a_cone_is_seen_at_one_port_and_lets_in_who_was_sent_to(
    shift: int, outside: int, autojump_clock: MockClock
) -> None:
    net = FakeNetwork(random.Random(1))
    net.host(HOME).nat = Nat(shift=shift)
    ours = await net.host(HOME).open_udp(Address(HOME, PORT))
    one = await net.host(ONE).open_udp(Address(ONE, PORT))
    other = await net.host(OTHER).open_udp(Address(OTHER, PORT))
    for socket in (one, other):
        socket.send(b"early", Address(HOME, outside))
    assert await heard(ours) == []
    ours.send(b"out", Address(ONE, PORT))
    assert await heard(one) == [(b"out", Address(HOME, outside))]
    one.send(b"back", Address(HOME, outside))
    other.send(b"too", Address(HOME, outside))
    assert await heard(ours) == [(b"back", Address(ONE, PORT))]
    assert await heard(ours) == []
    ours.send(b"out", Address(OTHER, PORT))
    assert await heard(other) == [(b"out", Address(HOME, outside))]


async def test_a_symmetric_one_is_seen_at_another_port_by_everybody(
    autojump_clock: MockClock,
) -> None:
    net = FakeNetwork(random.Random(1))
    net.host(HOME).nat = Nat(symmetric=True)
    ours = await net.host(HOME).open_udp(Address(HOME, PORT))
    one = await net.host(ONE).open_udp(Address(ONE, PORT))
    other = await net.host(OTHER).open_udp(Address(OTHER, PORT))
    for socket in (one, other):
        ours.send(b"out", socket.address)
    ((_, as_one),) = await heard(one)
    ((_, as_other),) = await heard(other)
    assert len({as_one, as_other, Address(HOME, PORT)}) == 3
    ours.send(b"again", Address(ONE, PORT))
    assert await heard(one) == [(b"again", as_one)]
    one.send(b"wrong", as_other)
    one.send(b"wrong", Address(HOME, PORT))
    one.send(b"right", as_one)
    assert await heard(ours) == [(b"right", Address(ONE, PORT))]
    assert await heard(ours) == []


async def test_two_behind_cones_that_send_to_each_other_hear_each_other(
    autojump_clock: MockClock,
) -> None:
    net = FakeNetwork(random.Random(1), latency=0.1)
    sockets = []
    for ip in (ONE, OTHER):
        net.host(ip).behind_nat = True
        sockets.append(await net.host(ip).open_udp(Address(ip, PORT)))
    for _ in range(2):
        sockets[0].send(b"there", sockets[1].address)
        sockets[1].send(b"here", sockets[0].address)
    assert len(await heard(sockets[0])) == 2
    assert len(await heard(sockets[1])) == 2
    assert net.host(ONE).behind_nat
    net.host(ONE).behind_nat = False
    assert net.host(ONE).nat is None
