"""No strangers can hold all the places: room is made for whoever may be of more use."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.config import TorrentConfig
from dht_torrent.engine.torrent.torrent import Torrent, behind
from dht_torrent.ids import Address
from dht_torrent.trace import PeerConnected, PeerDropped
from tests.helpers.engine import (
    EXTENDED,
    HAND,
    HAVE_ALL,
    HAVE_NONE,
    INTERESTED,
    LEECH,
    PORT,
    SEED,
    Hand,
    HandSeed,
    World,
    dial,
    greeted,
    listening,
    sample,
    unchoked,
)

Behaviour = Callable[[Hand], Awaitable[None]]


async def silent(hand: Hand) -> None:
    """Says nothing at all."""


async def never_unchokes(hand: Hand) -> None:
    await hand.send(HAVE_ALL)


async def wants(hand: Hand) -> None:
    """Wants everything and gives nothing."""
    await hand.send(HAVE_NONE)
    await hand.send(INTERESTED)


async def offers_metadata(hand: Hand) -> None:
    await hand.send(HAVE_ALL)
    await hand.send(EXTENDED, data=b"\0d1:md11:ut_metadatai3ee13:metadata_sizei150ee")


BEHAVIOURS: list[Behaviour] = [silent, never_unchokes, wants]


def made_room(world: World) -> int:
    """How many have been closed for others."""
    return [drop.why for drop in world.records.of(PeerDropped)].count("made room for another")


async def stay(hand: Hand) -> None:
    """Alive, and reading all that comes, until the other side hangs up."""
    async with trio.open_nursery() as nursery:

        async def tick() -> None:
            while True:
                await trio.sleep(50)
                await hand.raw(bytes(4))

        nursery.start_soon(tick)
        await hand.closed()
        nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def flooded(
    world: World,
    torrent: Torrent,
    behave: Callable[[int], Behaviour],
    *,
    count: int = 50,
    to: str = LEECH,
    host: Callable[[int], str] = lambda number: f"10.0.1.{number}",
    again: float | None = None,
) -> AsyncIterator[None]:
    """`count` useless peers connect, and with `again` come back after so many seconds."""

    async def one(number: int) -> None:
        await trio.sleep(0.01 * (number + 1))
        while True:
            with contextlib.suppress(EOFError, OSError, BaseExceptionGroup):
                hand = await dial(world, to, host(number))
                try:
                    name = b"%020d" % number
                    await hand.hello(torrent.info_hash, name, extended=True)
                    await behave(number)(hand)
                    await stay(hand)
                finally:
                    hand.stream.close()
            if again is None:
                return
            await trio.sleep(again)

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(one, number)
        await trio.sleep(1)
        yield
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("again", [None, 1.0])
@pytest.mark.parametrize(
    "kind", [*BEHAVIOURS, None], ids=lambda kind: getattr(kind, "__name__", "all")
)
async def test_useless_visitors_do_not_keep_us_from_dialling(
    kind: Behaviour | None, again: float | None, autojump_clock: MockClock
) -> None:
    world, one = World(), sample()
    async with listening(world, HAND, HandSeed(one)) as dials, world.node(LEECH) as node:
        torrent = await node.get(one.metainfo)
        async with flooded(
            world, torrent, lambda number: kind or BEHAVIOURS[number % 3], again=again
        ):
            behind(torrent).core.connections.found([Address(HAND, PORT)], "dht")
            with trio.fail_after(60):
                await torrent.completed()
            assert len(dials) == 1


@pytest.mark.parametrize("kind", BEHAVIOURS, ids=lambda kind: kind.__name__)
async def test_useless_peers_that_hold_all_places_make_room_for_dialling(
    kind: Behaviour, autojump_clock: MockClock
) -> None:
    world, one = World(), sample()
    nothing_kept = TorrentConfig(dialled_share=0.0)
    async with (
        listening(world, HAND, HandSeed(one)) as dials,
        world.node(LEECH, torrent=nothing_kept) as node,
    ):
        torrent = await node.get(one.metainfo)
        async with flooded(world, torrent, lambda number: kind):
            assert len(behind(torrent).core.connections.peers) == 50
            behind(torrent).core.connections.found([Address(HAND, PORT)], "dht")
            with trio.fail_after(60):
                await torrent.completed()
            assert len(dials) == 1
            # Only as many left as were needed.
            assert made_room(world) == 1


async def test_a_peer_that_offers_metadata_and_does_not_send_it_makes_room(
    autojump_clock: MockClock,
) -> None:
    world, one = World(), sample()
    nothing_kept = TorrentConfig(dialled_share=0.0)
    async with (
        listening(world, HAND, HandSeed(one)),
        world.node(LEECH, torrent=nothing_kept) as node,
    ):
        torrent = await node.get(one.magnet())
        async with flooded(world, torrent, lambda number: offers_metadata):
            behind(torrent).core.connections.found([Address(HAND, PORT)], "dht")
            with trio.fail_after(60):
                await torrent.completed()


async def test_one_who_gives_little_does_not_keep_the_others_in_their_places(
    autojump_clock: MockClock,
) -> None:
    """With blocks coming in we are patient, but not for ever."""
    world, one = World(), sample(4096 * 1024, 256 * 1024)
    nothing_kept = TorrentConfig(dialled_share=0.0)
    slow, fast = HandSeed(one, pause=10.0), HandSeed(one)
    async with (
        listening(world, "10.0.2.1", slow),
        listening(world, HAND, fast),
        world.node(LEECH, torrent=nothing_kept) as node,
    ):
        torrent = await node.get(one.metainfo)
        behind(torrent).core.connections.found([Address("10.0.2.1", PORT)], "dht")
        async with flooded(world, torrent, lambda number: never_unchokes, count=49):
            behind(torrent).core.connections.found([Address(HAND, PORT)], "dht")
            with trio.fail_after(70):
                await torrent.completed()
            assert slow.requests
            assert fast.requests
            assert made_room(world) == 1


@pytest.mark.parametrize("kind", BEHAVIOURS, ids=lambda kind: kind.__name__)
async def test_room_is_made_also_at_the_limit_of_the_node(
    kind: Behaviour, autojump_clock: MockClock
) -> None:
    """The useless ones hold all places of the node, at other torrents, one of which seeds."""
    world, one = World(), sample()
    complete, lacking = sample(seed=2), sample(seed=3)
    world.storage(LEECH, complete.metainfo).write(0, complete.data)
    async with (
        listening(world, HAND, HandSeed(one)) as dials,
        world.node(LEECH, max_connections=20) as node,
    ):
        seeding = await node.get(complete.metainfo)
        await seeding.completed()
        # Who has everything and meets a seed parts with it.
        busy = await node.get(lacking.metainfo) if kind is never_unchokes else seeding
        async with flooded(world, busy, lambda number: kind, count=20):
            assert node.status().connections == (16 if kind is never_unchokes else 20)
            other = await node.get(lacking.metainfo)
            torrent = await node.get(one.metainfo)
            behind(torrent).core.connections.found([Address(HAND, PORT)], "dht")
            with trio.fail_after(60):
                await torrent.completed()
            assert len(dials) == 1
            assert node.status().connections <= 20
            assert other.state == "downloading"


async def test_what_makes_room_is_not_dialled_again_at_once(autojump_clock: MockClock) -> None:
    world, one = World(), sample()
    two = TorrentConfig(max_connections=2)

    async def useless(hand: Hand) -> None:
        await hand.hello(one.metainfo.info_hash, hand.stream.local.host.encode())
        await never_unchokes(hand)
        await stay(hand)

    hosts = [f"10.0.1.{number}" for number in range(6)]
    async with contextlib.AsyncExitStack() as stack:
        listeners = [await stack.enter_async_context(listening(world, h, useless)) for h in hosts]
        node = await stack.enter_async_context(world.node(LEECH, torrent=two))
        torrent = await node.get(one.metainfo)
        behind(torrent).core.connections.found([Address(host, PORT) for host in hosts], "dht")
        await trio.sleep(600)
        assert all(len(dials) == 1 for dials in listeners)
        assert len(behind(torrent).core.connections.peers) == 2


async def test_a_large_swarm_of_busy_seeds_is_not_churned(autojump_clock: MockClock) -> None:
    """One gives, the others let us wait: places in their lines are not thrown away."""
    world, one = World(), sample(16 << 20, 256 * 1024)
    few = TorrentConfig(max_connections=10)
    giver = HandSeed(one, pause=5.0)

    async def busy(hand: Hand) -> None:
        await hand.hello(one.metainfo.info_hash, hand.stream.local.host.encode())
        await never_unchokes(hand)
        await stay(hand)

    hosts = [f"10.0.1.{number}" for number in range(40)]
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(listening(world, HAND, giver))
        for host in hosts:
            await stack.enter_async_context(listening(world, host, busy))
        node = await stack.enter_async_context(world.node(LEECH, torrent=few))
        torrent = await node.get(one.metainfo)
        behind(torrent).core.connections.found([Address(HAND, PORT)], "dht")
        await trio.sleep(1)
        behind(torrent).core.connections.found([Address(host, PORT) for host in hosts], "dht")
        await trio.sleep(10)
        first = list(behind(torrent).core.connections.peers.values())
        assert len(first) == 10
        await trio.sleep(600)
        still = [peer for peer in behind(torrent).core.connections.peers.values() if peer in first]
        assert first[0] in still
        assert len(still) >= 5
        assert len(world.records.of(PeerConnected)) <= 10 + 600 / TorrentConfig().yield_interval


async def test_those_who_wait_for_a_turn_are_not_dropped_for_strangers(
    autojump_clock: MockClock,
) -> None:
    world, one = World(), sample()
    few = TorrentConfig(max_connections=12)
    async with (
        world.seed(one, torrent=few) as torrent,
        flooded(world, torrent, lambda number: wants, count=12, to=SEED),
    ):
        waiting = [p for p in behind(torrent).core.connections.peers.values() if p.am_choking]
        assert len(waiting) == 7
        async with flooded(
            world,
            torrent,
            lambda number: BEHAVIOURS[number % 3],
            to=SEED,
            host=lambda number: f"10.0.3.{number}",
            again=5.0,
        ):
            await trio.sleep(50)
            assert all(peer in behind(torrent).core.connections.peers.values() for peer in waiting)


async def test_silent_visitors_do_not_keep_a_seed_from_those_who_want_something(
    autojump_clock: MockClock,
) -> None:
    world, one = World(), sample()
    async with (
        world.seed(one) as torrent,
        flooded(world, torrent, lambda number: silent, to=SEED, again=1.0),
    ):
        await trio.sleep(35)
        hand = await greeted(world, torrent)
        await unchoked(hand)


async def test_a_peer_that_lets_its_turns_go_by_makes_room_at_a_seed(
    autojump_clock: MockClock,
) -> None:
    world, one = World(), sample()
    few = TorrentConfig(max_connections=4)
    async with (
        world.seed(one, torrent=few) as torrent,
        flooded(world, torrent, lambda number: wants, count=4, to=SEED),
    ):
        hand = await greeted(world, torrent)
        assert await hand.closed() < 5
        await trio.sleep(70)
        hand = await greeted(world, torrent)
        await unchoked(hand)


async def test_one_machine_cannot_hold_all_places_of_a_neighbour(
    autojump_clock: MockClock,
) -> None:
    """Many peers of a local host are allowed, until another host wants a place."""
    world, one = World(), sample()
    few = TorrentConfig(max_connections=10)
    async with (
        world.seed(one, torrent=few) as torrent,
        flooded(world, torrent, lambda number: wants, count=10, to=SEED, host=lambda _: "10.0.1.1"),
    ):
        assert len(behind(torrent).core.connections.peers) == 10
        others = [await greeted(world, torrent, f"10.0.2.{number}") for number in range(8)]
        await trio.sleep(1)
        hosts = [peer.address.host for peer in behind(torrent).core.connections.peers.values()]
        assert hosts.count("10.0.1.1") == 5
        assert len(hosts) == 10
        assert len(others) == 8


async def test_a_public_64_gets_one_connection(autojump_clock: MockClock) -> None:
    world, one = World(), sample()
    world.storage("2001:db8::1", one.metainfo).write(0, one.data)
    async with world.node("2001:db8::1", listen="[2001:db8::1]:6881") as node:
        torrent = await node.get(one.metainfo)
        await torrent.completed()
        hand = await greeted(world, torrent, "2001:db8:1::2", to="2001:db8::1", peer_id=b"one")
        await hand.send(HAVE_NONE)
        await trio.sleep(1)
        other = await dial(world, "2001:db8::1", "2001:db8:1::3")
        await other.hello(torrent.info_hash, b"two")
        assert await other.closed() < 10
        far = await greeted(world, torrent, "2001:db8:1:1::2", to="2001:db8::1", peer_id=b"three")
        await far.send(HAVE_NONE)
        await trio.sleep(1)
        assert len(behind(torrent).core.connections.peers) == 2
