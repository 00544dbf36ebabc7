"""One node in both DHTs (BEP 32): two networks, one set of torrents."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dht_torrent import Config, Node, open_node
from dht_torrent.cli.view import status_text
from dht_torrent.config import DhtConfig, DiskConfig
from dht_torrent.dht.identity import is_compliant
from dht_torrent.dht.items import SigningKey
from dht_torrent.dht.krpc import NodeInfo
from dht_torrent.engine.dht.dual_stack import DualStack
from dht_torrent.engine.dht.node import Dht
from dht_torrent.engine.torrent.admission import MAX_SECOND_LOOKS, SECOND_LOOK
from dht_torrent.engine.torrent.torrent import behind
from dht_torrent.errors import InputError, NoReply
from dht_torrent.ids import Address, HostPort, NodeId
from dht_torrent.lab.net.network import FakeNetwork
from dht_torrent.lab.population.dual_stack import DualHost
from dht_torrent.metainfo import Metainfo
from dht_torrent.storage import Storage
from tests.helpers.content import differences, make_file
from tests.helpers.dht_lab import Lab, saved
from tests.helpers.engine import KIB, PORT, World, content, dial, greeted, sample
from tests.helpers.libtorrent_peer import create, magnet_of, open_libtorrent

FOUR, SIX = HostPort("10.0.0.1", PORT), HostPort("fd00::1", PORT)
BOTH = ("127.0.0.1:0", "[::1]:0")
CONFIG = DhtConfig()


@contextlib.asynccontextmanager
async def dual(
    world: World, number: int, *bootstrap: HostPort, public: bool = False, **changes: Any
) -> AsyncIterator[Node]:
    """Node `number`: 10.0.0.N and fd00::N, or 11.0.N.1 and 2600:N::1."""
    ipv4 = f"11.0.{number}.1" if public else f"10.0.0.{number}"
    ipv6 = f"2600:{number}::1" if public else f"fd00::{number}"

    def in_memory(metainfo: Metainfo, path: Path, shared: bool) -> Storage:
        return world.storage(ipv4, metainfo)

    config = Config(
        bootstrap=bootstrap,
        listen=(f"{ipv4}:{PORT}", f"[{ipv6}]:{PORT}"),
        disk=DiskConfig(inline=True),
    )
    async with open_node(
        dataclasses.replace(config, **changes),
        network=DualHost(world.net, ipv4, ipv6),
        open_storage=in_memory,
        rng=random.Random(number),
        trace=world.records,
    ) as node:
        yield node


async def in_both(*nodes: Node) -> None:
    """Returns when each node has a good contact of each family."""
    with trio.fail_after(120):
        while not all(status.good for node in nodes for status in node.dht.status()):
            await trio.sleep(0.1)


# -- listening ------------------------------------------------------------------------------------


async def test_a_node_listens_on_both_and_shows_both(autojump_clock: MockClock) -> None:
    world = World()
    async with dual(world, 1) as one, dual(world, 2, FOUR, SIX) as two:
        await in_both(one, two)
        assert [str(address) for address in two.addresses] == ["10.0.0.2:6881", "[fd00::2]:6881"]
        status = two.status()
        assert (status.listen, status.listen6) == ("10.0.0.2:6881", "[fd00::2]:6881")
        assert status.dht6 is not None
        assert (status.dht.good, status.dht6.good) == (1, 1)
        assert status.dht.node_id != status.dht6.node_id
        text = status_text(dataclasses.asdict(status), [])
        assert "listening: 10.0.0.2:6881 and [fd00::2]:6881\n" in text
        assert "dht:       1 good" in text
        assert "dht IPv6:  1 good" in text


async def test_any_port_is_the_same_in_both_families_if_it_is_free(
    autojump_clock: MockClock,
) -> None:
    world = World()
    anywhere = ("10.0.0.1:0", "[fd00::1]:0")
    async with dual(world, 1, listen=anywhere) as node:
        four, six = node.addresses
        assert four.port == six.port
    taken = await world.net.host("fd00::1").open_udp(six)
    world.net.host("10.0.0.1")._next_port = 0  # whose next free port is the same again
    async with dual(world, 1, listen=anywhere) as node:
        assert node.addresses[0] == four
        assert node.addresses[1].port not in (0, six.port)
    taken.close()


async def test_a_node_of_one_family_shows_one(autojump_clock: MockClock) -> None:
    async with World().node("fd00::1", listen="[fd00::1]:6881") as node:
        status = node.status()
        assert (status.listen, status.listen6, status.dht6) == ("[fd00::1]:6881", None, None)
        with pytest.raises(InputError, match="no IPv4 socket"):
            await node.dht.ping(Address("10.0.0.1", 1))


# -- finding each other ---------------------------------------------------------------------------


async def test_the_other_family_is_found_through_the_one_that_is_known(
    autojump_clock: MockClock,
) -> None:
    """Their only entry point has an IPv4 address; nodes6 lead them into the other DHT."""
    world = World()
    async with (
        dual(world, 1) as one,
        dual(world, 2, SIX, FOUR) as two,
        dual(world, 3, FOUR) as three,
        dual(world, 4, FOUR) as four,
    ):
        await in_both(one, two, three, four)
        (_, six) = three.dht
        assert {view.address.is_ipv6 for view in six.contacts()} == {True}


async def test_one_name_leads_into_both_networks(autojump_clock: MockClock) -> None:
    world = World(latency=0.01)
    world.net.names["router.example"] = ["fd00::1", "10.0.0.1"]
    async with dual(world, 1) as one, dual(world, 2, HostPort("router.example", PORT)) as two:
        await in_both(one, two)
        status = two.status()
        assert status.dht6 is not None
        for dht in (status.dht, status.dht6):
            assert (dht.bootstrap_answered, dht.bootstrap_total) == (1, 1)


async def test_many_tips_from_the_other_family_are_taken_only_by_a_node_that_knows_few(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    lab = Lab(nursery)
    poor = await lab.node("fd00::1")
    rich = await lab.node("fd00::2")
    for number in range(3, 21):
        await lab.node(f"fd00::{number:x}", rich)
    await trio.sleep(60)
    assert rich.status().good >= 16
    invented = [NodeInfo(NodeId(bytes([n]) * 20), Address("fd00::bad", n)) for n in range(1, 200)]
    asked = (poor.status().queries_out, rich.status().queries_out)
    for dht in (poor, rich):
        dht.referred(invented, Address("10.0.0.9", 1), trio.current_time())
    # A handful, whatever was told; and by the other one nobody at all.
    assert poor.status().queries_out - asked[0] == CONFIG.k
    assert rich.status().queries_out == asked[1]
    before = poor.status().queries_out
    # A node outside cannot know our network.
    poor.referred(invented, Address("11.0.0.9", 1), trio.current_time())
    assert poor.status().queries_out == before


async def test_a_family_out_of_reach_is_left_in_peace(autojump_clock: MockClock) -> None:
    """No IPv6 node answers, ever: what that costs the others does not add up."""
    world = World()
    async with dual(world, 1) as one, dual(world, 2, FOUR) as two:
        world.net.host("fd00::1").go_down()
        world.net.host("fd00::2").go_down()
        with trio.fail_after(30):
            await two.dht.bootstrapped()
        await trio.sleep(600)
        before = one.status().dht.queries_in
        await trio.sleep(3600)
        assert one.status().dht.queries_in - before < 60
        assert two.status().dht.good == 1


async def test_public_nodes_have_an_id_for_each_address(autojump_clock: MockClock) -> None:
    world = World(latency=0.01)
    config = DhtConfig(votes_needed=2, votes_wait=1.0)
    async with contextlib.AsyncExitStack() as stack:
        points = (HostPort("11.0.1.1", PORT), HostPort("2600:1::1", PORT))
        nodes = [
            await stack.enter_async_context(
                dual(world, n, *(points if n > 1 else ()), public=True, dht=config)
            )
            for n in range(1, 7)
        ]
        await trio.sleep(900)
        for node in nodes:
            four, six = node.dht
            assert four.node_id != six.node_id
            for dht in (four, six):
                elected = dht.status().external_ip
                assert elected is not None
                assert (":" in elected) == dht.address.is_ipv6
                assert is_compliant(dht.node_id, Address(elected, 1))
            seen = [Address(str(dht.status().external_ip), PORT) for dht in (four, six)]
            assert node.dht.seen_at == seen


async def test_before_others_say_so_we_are_where_we_are_bound() -> None:
    net = FakeNetwork(random.Random(1))
    for bound, seen in (("10.0.0.1", [Address("10.0.0.1", PORT)]), ("0.0.0.0", [])):
        dht = Dht(net.host("10.0.0.1"), Address(bound, PORT), DhtConfig(), rng=random.Random(1))
        assert DualStack([dht]).seen_at == seen


# -- torrents -------------------------------------------------------------------------------------


async def test_one_seed_serves_both_families_which_find_it_through_their_dhts(
    autojump_clock: MockClock,
) -> None:
    world, one = World(latency=0.01), sample()
    world.storage("10.0.0.1", one.metainfo).write(0, one.data)
    async with (
        dual(world, 1) as seed,
        world.node("10.0.0.2", bootstrap=["10.0.0.1"]) as four,
        world.node("fd00::3", bootstrap=["fd00::1"], listen=f"[fd00::3]:{PORT}") as six,
    ):
        await (await seed.get(one.metainfo)).completed()
        for node in (four, six):
            torrent = await node.get(one.magnet())
            with trio.fail_after(60):
                await torrent.completed()
    for ip in ("10.0.0.2", "fd00::3"):
        assert content(world.storage(ip, one.metainfo), len(one.data)) == one.data


@pytest.mark.parametrize("through", ["dht", "magnet"])
async def test_one_leech_is_fed_by_peers_of_both_families(
    through: str, autojump_clock: MockClock
) -> None:
    world, one = World(latency=0.01, rate=50_000.0), sample()
    async with (
        world.seed(one, "10.0.0.1"),
        world.seed(one, "fd00::1", listen=f"[fd00::1]:{PORT}"),
        dual(world, 2, *((FOUR, SIX) if through == "dht" else ())) as leech,
    ):
        if through == "dht":
            await in_both(leech)
        named = () if through == "dht" else ("10.0.0.1", "[fd00::1]")
        torrent = await leech.get(one.magnet(*named))
        with trio.fail_after(60):
            while len(torrent.peers()) < 2:
                await trio.sleep(0.1)
            hosts = {peer.address.rpartition(":")[0] for peer in torrent.peers()}
            assert hosts == {"10.0.0.1", "[fd00::1]"}
            await torrent.completed()
        if through == "dht":
            found = await leech.dht.find_peers(one.metainfo.info_hash, on_peers=lambda peers: None)
            assert {Address(*FOUR), Address(*SIX)} <= set(found.peers)


async def test_two_nodes_that_reach_each_other_twice_keep_one_connection(
    autojump_clock: MockClock,
) -> None:
    world, one = World(latency=0.01), sample()
    world.storage("10.0.0.1", one.metainfo).write(0, one.data)
    async with dual(world, 1) as seed, dual(world, 2, FOUR, SIX) as leech:
        await in_both(leech)
        sharing = await seed.get(one.metainfo)
        torrent = await leech.get(one.magnet())
        with trio.fail_after(5):
            await torrent.completed()
        for _ in range(120):
            await trio.sleep(1)
            assert len(torrent.peers()) <= 1
            assert len(sharing.peers()) <= 1


async def test_a_claim_to_a_peers_id_in_the_other_family_waits_and_is_turned_away(
    autojump_clock: MockClock,
) -> None:
    world, one = World(latency=0.01), sample()
    async with dual(world, 1) as node:
        torrent = await node.get(one.metainfo)
        first = await greeted(world, torrent, "10.0.0.2", to="10.0.0.1", peer_id=b"the peer")
        await trio.sleep(1)
        (peer,) = behind(torrent).core.connections.peers.values()
        waits: list[float] = []

        async def claim(ip: str) -> None:
            thief = await dial(world, "fd00::1", ip)
            began = trio.current_time()
            await thief.hello(torrent.info_hash, b"the peer")
            waits.append(await thief.closed() - began)

        async with trio.open_nursery() as nursery:
            for number in range(100, 112):
                nursery.start_soon(claim, f"fd00::{number}")
        assert sum(wait > SECOND_LOOK[0] for wait in waits) == MAX_SECOND_LOOKS
        assert max(waits) < SECOND_LOOK[1] + 0.1
        assert list(behind(torrent).core.connections.peers.values()) == [peer]
        # But one that waits when the first one leaves has its place.
        heir = await dial(world, "fd00::1", "fd00::99")
        await heir.hello(torrent.info_hash, b"the peer")
        first.stream.close()
        await trio.sleep(SECOND_LOOK[1])
        (peer,) = behind(torrent).core.connections.peers.values()
        assert peer.address == heir.stream.local


async def test_a_peer_turned_away_for_an_impostor_in_the_other_family_gets_in_next_time(
    autojump_clock: MockClock,
) -> None:
    world, one = World(latency=0.01), sample()
    async with dual(world, 1) as node:
        torrent = await node.get(one.metainfo)
        await greeted(world, torrent, "10.0.0.66", to="10.0.0.1", peer_id=b"the peer")
        true = await dial(world, "fd00::1", "fd00::99")
        await true.hello(torrent.info_hash, b"the peer")
        await true.closed()
        true = await dial(world, "fd00::1", "fd00::99")
        await true.hello(torrent.info_hash, b"the peer")
        await trio.sleep(SECOND_LOOK[1])
        assert true.stream.local in [
            peer.address for peer in behind(torrent).core.connections.peers.values()
        ]


async def test_an_item_is_put_and_got_in_both_networks(autojump_clock: MockClock) -> None:
    world, key = World(latency=0.01), SigningKey(b"\x01" * 32)
    async with (
        dual(world, 1) as both,
        world.node("10.0.0.2", bootstrap=["10.0.0.1"]) as four,
        world.node("fd00::3", bootstrap=["fd00::1"], listen=f"[fd00::3]:{PORT}") as six,
    ):
        await in_both(both, four, six)
        stored = await both.dht.put_immutable(b"hello")
        assert {info.address.is_ipv6 for info in stored.stored} == {False, True}
        for node in (four, six, both):
            item = await node.dht.get(stored.target)
            assert item is not None
            assert item.value == b"hello"
        # Whoever goes on in one network is followed in both.
        await six.dht.put_mutable(key, b"", b"one", seq=7)
        newer = await both.dht.put_mutable(key, b"", b"two")
        for node in (four, six):
            survey = await node.dht.get_all(newer.target)
            assert survey.newest is not None
            assert survey.newest.value == b"two"
        survey = await both.dht.get_all(newer.target)
        again = await both.dht.put_to(survey.targets(), survey.variants()[0])
        assert len(again.stored) == 2
        both.dht.forget(newer.target)


@pytest.mark.parametrize("swapped", [False, True])
async def test_two_values_with_one_number_are_settled_the_same_way_in_both_networks(
    swapped: bool, autojump_clock: MockClock
) -> None:
    world, key = World(latency=0.01), SigningKey(b"\x01" * 32)
    async with (
        dual(world, 1) as both,
        world.node("10.0.0.2", bootstrap=["10.0.0.1"]) as four,
        world.node("fd00::3", bootstrap=["fd00::1"], listen=f"[fd00::3]:{PORT}") as six,
    ):
        await in_both(both, four, six)
        smaller, larger = (six, four) if swapped else (four, six)
        await larger.dht.put_mutable(key, b"", b"larger", seq=7)
        target = (await smaller.dht.put_mutable(key, b"", b"few", seq=7)).target
        for _ in range(5):  # whichever network answers first
            item = await both.dht.get(target)
            assert item is not None
            assert item.value == b"few"
        survey = await both.dht.get_all(target)
        assert survey.own is not None
        assert survey.own.value == b"few"


async def test_a_fault_of_one_family_comes_out_as_it_is(autojump_clock: MockClock) -> None:
    world = World()
    async with dual(world, 1) as node:
        with pytest.raises(InputError, match="at most 1000"):
            await node.dht.put_immutable(b"x" * 1000)
        with pytest.raises(NoReply):
            await node.dht.ping(Address("fd00::9", 1))


# -- state ----------------------------------------------------------------------------------------


async def test_both_ids_and_both_sets_of_contacts_survive_a_restart(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World()
    state: dict[str, Any] = {"state_dir": tmp_path / "state", "download_dir": tmp_path}
    async with dual(world, 1) as one:
        async with dual(world, 2, FOUR, SIX, **state) as two:
            await in_both(one, two)
            ids = [dht.node_id for dht in two.dht]
            kept = [saved(dht) for dht in two.dht]
        async with dual(world, 2, **state) as two:  # no entry point now
            await in_both(two)
            assert [dht.node_id for dht in two.dht] == ids
            assert [saved(dht) for dht in two.dht] == kept
            assert two.status().warnings == ()


async def test_a_broken_state_of_one_family_does_not_affect_the_other_family(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World()
    state: dict[str, Any] = {"state_dir": tmp_path / "state", "download_dir": tmp_path}
    async with dual(world, 1, **state) as one:
        ids = [dht.node_id for dht in one.dht]
    (tmp_path / "state" / "dht6.state").write_bytes(b"?")
    async with dual(world, 1, **state) as one:
        four, six = one.dht
        assert four.node_id == ids[0]
        assert six.node_id != ids[1]
        assert len(one.status().warnings) == 1


# -- the real network -----------------------------------------------------------------------------


def local(folder: Path, bootstrap: Sequence[Address] = (), **changes: Any) -> Config:
    folder.mkdir(parents=True, exist_ok=True)
    points = [HostPort(*address) for address in bootstrap]
    return dataclasses.replace(
        Config(bootstrap=points, listen=BOTH, download_dir=folder), **changes
    )


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:0"])
async def test_on_loopback_a_leech_of_either_family_is_fed(listen: str, tmp_path: Path) -> None:
    film = make_file(tmp_path / "film.bin", 600 * KIB)
    tasks = trio.lowlevel.current_statistics().tasks_living
    with trio.fail_after(20):
        async with open_node(local(tmp_path / "a")) as seed:
            shared = await seed.share(film)
            one = local(tmp_path / "b", seed.addresses, listen=listen)
            async with open_node(one) as leech:
                torrent = await leech.get(str(shared.magnet))
                path = await torrent.completed()
                assert differences(film, path) == []
    gc.collect()
    assert trio.lowlevel.current_statistics().tasks_living == tasks


async def test_with_libtorrent_on_ipv6_both_find_and_feed_each_other(tmp_path: Path) -> None:
    mine = make_file(tmp_path / "seed" / "mine.bin", 300 * KIB)
    theirs = make_file(tmp_path / "theirs" / "theirs.bin", 300 * KIB)
    with trio.fail_after(30):
        async with open_node(local(tmp_path / "a")) as seed:
            (_, six) = seed.addresses
            shared = await seed.share(mine)
            async with open_libtorrent(
                [(f"[{six.host}]", six.port)], listen_interfaces="[::1]:0"
            ) as peer:
                handle = peer.add_magnet(str(shared.magnet), tmp_path / "lt")
                await peer.completed(handle)
                assert seed.status().dht6 is not None
                assert differences(mine, tmp_path / "lt" / "mine.bin") == []
                torrent = create(theirs)
                await peer.seed(torrent, theirs.parent)
                fetched = await seed.get(magnet_of(torrent))
                path = await fetched.completed()
                assert differences(theirs, path) == []


def test_there_is_one_dht_of_a_family_and_at_least_one() -> None:
    net = FakeNetwork(random.Random(1))

    def of(ip: str) -> Dht:
        return Dht(net.host(ip), Address(ip, 1), CONFIG, rng=random.Random(1))

    for wrong in ([], [of("10.0.0.1"), of("10.0.0.2")]):
        with pytest.raises(ValueError, match="of each address family"):
            DualStack(wrong)
    families = DualStack([of("fd00::1"), of("10.0.0.1")])
    assert [dht.address.host for dht in families] == ["10.0.0.1", "fd00::1"]
