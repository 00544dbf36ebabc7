"""Hostile nodes do what they are said to, and what honest ones make of it."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import pytest
import trio

from dht_torrent.dht import krpc
from dht_torrent.dht.identity import is_compliant
from dht_torrent.dht.krpc import NodeInfo, Query, Reply
from dht_torrent.ids import Address, NodeId, distance
from dht_torrent.lab.net.datagrams import FakeDatagramSocket
from dht_torrent.lab.net.network import FakeNetwork
from dht_torrent.lab.population.adversaries import (
    FALSE_PEERS,
    TOLD,
    Behaviour,
    BlackHole,
    Coalition,
    Colluding,
    Late,
    Liar,
    Reflector,
    beside,
    coalition,
    mined,
    mined_beside,
    random_id,
)
from dht_torrent.lab.run import run
from dht_torrent.lab.studies.attacks import eclipse_figures, eclipses, mixed, mixed_figures
from dht_torrent.lab.studies.hostile import KINDS, Look, Scene, World, world

TARGET = b"\x33" * 20
ME = NodeId(b"\x99" * 20)
NOBODY = Address("192.168.0.1", 1)


class Meeting:
    """A few members, and an honest socket that asks one of them."""

    def __init__(self, us: Coalition, socket: FakeDatagramSocket) -> None:
        self.us = us
        self.socket = socket

    async def ask(
        self, method: bytes = krpc.FIND_NODE, member: NodeInfo | None = None
    ) -> tuple[Reply | None, float]:
        """The reply of a member within 20 s, and how long it took."""
        key = b"info_hash" if method == krpc.GET_PEERS else b"target"
        query = Query(b"tt", method, {b"id": ME, key: TARGET})
        to = member or next(iter(self.us.members.values()))
        self.socket.send(krpc.encode(query), to.address)
        began = trio.current_time()
        with trio.move_on_after(20):
            while True:
                for data, source in await self.socket.receive():
                    message = krpc.decode(data)
                    if isinstance(message, Reply) and source == to.address:
                        return message, trio.current_time() - began
        return None, trio.current_time() - began


def meet(behaviour: Behaviour, talk: Callable[[Meeting], Awaitable[None]], count: int = 30) -> None:
    async def main(rng: random.Random) -> None:
        net = FakeNetwork(rng, latency=0.01)
        async with coalition(net, rng, behaviour, dead=lambda: NOBODY) as us:
            for number in range(count):
                address = Address(f"172.16.0.{number}", 6881)
                await us.join(NodeInfo(random_id(address, rng), address), [])
            await talk(Meeting(us, await net.host("10.0.0.1").open_udp(Address("10.0.0.1", 1))))

    run(main)


@pytest.mark.parametrize(
    "behaviour", [Colluding(), BlackHole(), Liar(), Late(), Reflector([NOBODY])]
)
def test_all_kinds_answer_pings_under_their_own_id(behaviour: Behaviour) -> None:
    async def talk(meeting: Meeting) -> None:
        for member in list(meeting.us.members.values())[:4]:
            reply, seconds = await meeting.ask(krpc.PING, member)
            assert reply is not None
            assert reply.id == member.id
            assert seconds < 0.1

    meet(behaviour, talk)


def test_colluders_name_each_other_and_deny_every_value() -> None:
    async def talk(meeting: Meeting) -> None:
        for method in (krpc.FIND_NODE, krpc.GET_PEERS, krpc.GET):
            reply, _ = await meeting.ask(method)
            assert reply is not None
            nodes = reply.nodes()
            assert nodes == meeting.us.closest(TARGET, TOLD)
            assert nodes == sorted(nodes, key=lambda node: distance(node.id, TARGET))
            assert not reply.values()
            assert b"v" not in reply.body
            assert (reply.token is None) == (method == krpc.FIND_NODE)

    meet(Colluding(), talk)


def test_a_black_hole_is_silent() -> None:
    async def talk(meeting: Meeting) -> None:
        assert (await meeting.ask())[0] is None

    meet(BlackHole(), talk)


def test_a_liar_invents_contacts_peers_and_values_in_a_datagram_that_is_read() -> None:
    async def talk(meeting: Meeting) -> None:
        reply, _ = await meeting.ask(krpc.GET_PEERS)
        assert reply is not None
        assert len(reply.values()) == FALSE_PEERS
        real = set(meeting.us.members.values())
        invented = [node for node in reply.nodes() if node not in real]
        assert len(invented) == TOLD * 3 // 4
        honest_could_be = distance(meeting.us.closest(TARGET, 1)[0].id, TARGET)
        assert all(distance(node.id, TARGET) < honest_could_be for node in invented)
        assert len(krpc.encode(reply)) <= krpc.MAX_DATAGRAM
        item, _ = await meeting.ask(krpc.GET)
        assert item is not None
        assert b"v" in item.body

    meet(Liar(), talk)


def test_the_late_answer_after_the_soft_or_after_the_hard_timeout() -> None:
    async def talk(meeting: Meeting) -> None:
        times = [(await meeting.ask(member=m))[1] for m in meeting.us.members.values()]
        soft = [seconds for seconds in times if 1 < seconds < 15]
        hard = [seconds for seconds in times if 15 < seconds < 17]
        assert len(soft) + len(hard) == len(times)
        assert soft
        assert hard

    meet(Late(), talk)


def test_a_reflector_names_the_victim() -> None:
    victim = Address("203.0.113.7", 53)

    async def talk(meeting: Meeting) -> None:
        reply, _ = await meeting.ask()
        assert reply is not None
        assert sum(node.address == victim for node in reply.nodes()) == TOLD - 1

    meet(Reflector([victim]), talk)


def test_garbage_is_not_answered_and_at_the_end_no_socket_is_left() -> None:
    async def main(rng: random.Random) -> None:
        net = FakeNetwork(rng)
        address = Address("172.16.0.1", 6881)
        socket = await net.host("10.0.0.1").open_udp(Address("10.0.0.1", 1))
        async with coalition(net, rng, Colluding(), dead=lambda: NOBODY) as us:
            await us.join(NodeInfo(random_id(address, rng), address), [])
            for data in (b"", b"x" * 100, b"d1:t2:tt1:y1:qe"):
                socket.send(data, address)
            with trio.move_on_after(1) as scope:
                await socket.receive()
            assert scope.cancelled_caught
            assert net.host(address.host).heard_at(6881) is not None
        assert net.host(address.host).heard_at(6881) is None

    run(main)


def test_ids_are_made_to_be_near_and_to_fit() -> None:
    rng = random.Random(1)
    for _ in range(20):
        target = rng.randbytes(20)
        assert distance(beside(target, rng), target) < 1 << 80
        assert 0 < distance(mined(target, 1000, rng), target) < 1000
        hosts = [f"12.3.4.{number}" for number in range(1, 255)]
        host, node_id = mined_beside(target, hosts, rng)
        assert host in hosts
        assert is_compliant(node_id, Address(host, 1))
        assert distance(node_id, target) < 1 << 153  # the best of 2,032 beginnings
    assert is_compliant(random_id(Address("12.3.4.5", 1), rng), Address("12.3.4.5", 1))


@pytest.fixture(scope="module", params=[kind for kind in KINDS if kind != "colluding"])
def looks(request: pytest.FixtureRequest) -> tuple[str, list[Look], World]:
    async def main(rng: random.Random) -> tuple[list[Look], World]:
        async with world(rng, Scene(44, 0.15, request.param)) as there:
            there.forget_traffic()
            return await mixed(there, 4, lambda done: None), there

    found, there = run(main, seed=3)
    return request.param, found, there


def test_among_some_of_any_kind_most_is_found(looks: tuple[str, list[Look], World]) -> None:
    _, found, _ = looks
    assert len(found) == 8
    assert sum(look.found for look in found) >= 0.9 * len(found)
    assert any(look.hostile_asked > 0 for look in found)
    assert all(0 <= look.hostile_closest <= 1 and look.asked <= 200 for look in found)


def test_a_victim_of_reflectors_gets_little(looks: tuple[str, list[Look], World]) -> None:
    kind, found, there = looks
    traffic = there.reflected(len(found))
    if kind == "reflector":
        assert 0 < traffic["victim_datagrams_per_lookup"] <= 4
        assert traffic["victim_bytes_per_byte"] < 0.5
    else:
        assert traffic["victim_datagrams_per_lookup"] == 0


def test_eight_paths_find_what_one_does_not() -> None:
    def found(paths: int) -> int:
        async def main(rng: random.Random) -> list[Look]:
            async with world(rng, Scene(60, 0.4, paths=paths)) as there:
                return await mixed(there, 8, lambda done: None)

        return sum(look.found for look in run(main, seed=1))

    assert found(1) < found(8)
    assert found(8) >= 0.9 * 16


def test_with_public_addresses_adversaries_share_their_subnets() -> None:
    async def main(rng: random.Random) -> tuple[list[Look], list[Address]]:
        async with world(rng, Scene(50, 0.2, public=True, subnets=3)) as there:
            return await mixed(there, 3, lambda done: None), list(there.hostile)

    found, hostile = run(main)
    assert len(hostile) == 10
    assert len({address.host.rpartition(".")[0] for address in hostile}) == 3
    assert all(look.found for look in found)
    whole = [look for look in found if look.method == "get_peers"]  # gets end when they have it
    assert all(look.hostile_closest <= 3 / 8 for look in whole), "one of each /24"


def test_an_eclipsed_key_is_noticed_and_its_value_found() -> None:
    async def main(rng: random.Random) -> dict[str, object]:
        async with world(rng, Scene(60)) as there:
            found = await eclipses(there, [16], 2, 3, lambda done: None)
            assert len(found) == 2 * (2 * 2 + 3)
            return dict(eclipse_figures(found))

    figures = run(main, seed=1)
    assert figures["eclipsed_16_late"] == 1
    assert figures["detected_of_eclipsed"] == 1
    assert figures["peers_found_16_early"] == figures["items_found_16_late"] == 1
    assert figures["false_alarms"] == 0, "by good luck: it is so for 129 keys of 130"
    assert figures["found_in_peace"] == 1


def test_figures_tell_methods_apart() -> None:
    look = Look("get", True, 10, 0, 0.5, 0.25, False, False, 1.0)
    other = Look("get_peers", False, 20, 0, 0.0, 0.0, True, False, 3.0)
    figures = mixed_figures([look, other])
    assert figures["items_found"] == 1
    assert figures["peers_found"] == 0
    assert figures["peers_asked_mean"] == 20
    assert figures["hostile_asked"] == 0.25
    assert figures["alarms"] == 0.5
    assert mixed_figures([])["items_found"] == 0
