"""Who is connected: one connection per peer, none to ourselves, none too many, none lost."""

from __future__ import annotations

import contextlib

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from dht_torrent.config import PeerConfig, TorrentConfig
from dht_torrent.engine.torrent.liveness import PROBE_PAUSE
from dht_torrent.engine.torrent.torrent import Torrent, behind
from dht_torrent.ids import Address
from dht_torrent.torrent.priority import priority
from dht_torrent.trace import PeerConnected
from tests.helpers.engine import (
    EXTENDED,
    HAND,
    HAVE_NONE,
    INTERESTED,
    LEECH,
    PORT,
    SEED,
    Hand,
    HandSeed,
    World,
    dial,
    entered,
    greeted,
    listening,
    sample,
    unchoked,
)


async def test_we_dial_ourselves_once_and_never_again(autojump_clock: MockClock) -> None:
    world = World()
    async with world.node(LEECH) as node:
        torrent = await node.get(sample().magnet(LEECH))
        await trio.sleep(600)
        assert behind(torrent).core.connections.peers == {}
        # Candidates named by a magnet are otherwise tried for ever.
        assert world.net.stats.connections == 1
        behind(torrent).core.connections.found([Address(LEECH, PORT)], "dht")
        await trio.sleep(600)
        assert world.net.stats.connections == 1


@pytest.mark.parametrize("seed", range(5))
async def test_of_crossed_connections_exactly_one_stays(
    seed: int, autojump_clock: MockClock
) -> None:
    world = World(seed, latency=0.05)
    async with world.node(SEED) as one, world.node(LEECH) as other:
        ours = await one.get(sample().magnet(LEECH))
        theirs = await other.get(sample().magnet(SEED))
        await trio.sleep(10)
        assert world.net.stats.connections == 2
        assert (
            len(behind(ours).core.connections.peers)
            == len(behind(theirs).core.connections.peers)
            == 1
        )
        (here,), (there,) = (
            behind(ours).core.connections.peers.values(),
            behind(theirs).core.connections.peers.values(),
        )
        assert here.incoming is not there.incoming
        await trio.sleep(600)
        assert list(behind(ours).core.connections.peers.values()) == [here]


async def test_no_peer_loses_its_connection_to_one_that_claims_its_id(
    autojump_clock: MockClock,
) -> None:
    world = World()
    honest = HandSeed(sample(), answer=lambda piece, begin, data: None)
    async with listening(world, HAND, honest), world.node(LEECH) as node:
        torrent = await node.get(sample().magnet(HAND))
        await entered(torrent, "downloading")
        (peer,) = behind(torrent).core.connections.peers.values()
        for claimed in (peer.peer_id, b"\xff" * 20):
            thief = await dial(world, LEECH, "10.0.0.66")
            await thief.hello(torrent.info_hash, claimed)
            await trio.sleep(1)
        assert peer in behind(torrent).core.connections.peers.values()
        assert not peer.is_dropped


async def test_of_equals_the_one_with_the_highest_priority_is_dialled_first(
    autojump_clock: MockClock,
) -> None:
    world = World()
    others = [Address(f"10.{number}.0.1", PORT) for number in range(1, 13)]

    async def silent(hand: Hand) -> None:
        await trio.sleep_forever()

    async with contextlib.AsyncExitStack() as stack:
        hands = [
            await stack.enter_async_context(listening(world, other.host, silent))
            for other in others
        ]
        limits = TorrentConfig(max_dialing=1)
        node = await stack.enter_async_context(world.node(LEECH, torrent=limits))
        torrent = await node.get(sample().magnet())
        behind(torrent).core.connections.found(others, "dht")
        await trio.sleep(1)
        dialled = [other for other, came in zip(others, hands, strict=True) if came]
        assert dialled == [max(others, key=lambda other: priority(node.address, other))]


def hosts(torrent: Torrent) -> list[str]:
    return [peer.address.host for peer in behind(torrent).core.connections.peers.values()]


async def test_no_peer_is_locked_out_by_one_that_claimed_its_id_first(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with world.seed(sample()) as torrent:
        thief = await greeted(world, torrent, "10.0.0.66", peer_id=b"the true one")
        await thief.send(HAVE_NONE)
        true = await greeted(world, torrent, peer_id=b"the true one")
        await unchoked(true)
        assert hosts(torrent) == ["10.0.0.66", HAND]


async def test_a_thief_that_has_gone_silent_loses_its_place(autojump_clock: MockClock) -> None:
    """Or the peer has moved: the connection from its old address is dead, and nobody says so."""
    world = World()
    async with world.seed(sample()) as torrent:
        await greeted(world, torrent, "10.0.0.66", peer_id=b"the true one")
        await trio.sleep(PeerConfig().silence)
        await greeted(world, torrent, peer_id=b"the true one")
        await trio.sleep(PeerConfig().probe_timeout + 1)
        assert hosts(torrent) == [HAND]


@pytest.mark.parametrize("ip", [HAND, "5.5.5.5"])
async def test_a_peer_that_lost_its_connection_comes_back_at_once(
    ip: str, autojump_clock: MockClock
) -> None:
    world = World()
    async with world.seed(sample()) as torrent:
        for _ in range(5):
            await trio.sleep(1)
            hand = await greeted(world, torrent, ip, peer_id=b"back again")
            await unchoked(hand)
            assert hosts(torrent) == [ip]


@pytest.mark.parametrize("answers", [True, False])
async def test_an_older_connection_stays_if_it_answers(
    answers: bool, autojump_clock: MockClock
) -> None:
    """We dialled it, and it dials us later: one of the two is dead, or it does not know."""
    world, one = World(), sample()
    low = bytes(20)

    async def seed(hand: Hand) -> None:
        await hand.hello(one.metainfo.info_hash, low, extended=True)
        await hand.send(HAVE_NONE)
        await hand.send(EXTENDED, data=b"\0d1:md11:ut_metadatai3eee")
        while answers:
            _, payload = await hand.receive()
            if payload[1:].startswith(b"d8:msg_typei0e"):
                await hand.send(EXTENDED, data=b"\1d8:msg_typei2e5:piecei0ee")
        await trio.sleep_forever()

    async with listening(world, HAND, seed), world.seed(one) as torrent:
        behind(torrent).core.connections.found([Address(HAND, PORT)], "dht")
        await trio.sleep(35)
        (older,) = behind(torrent).core.connections.peers.values()
        newer = await dial(world, SEED)
        await newer.hello(torrent.info_hash, low)
        await trio.sleep(10)
        (left,) = behind(torrent).core.connections.peers.values()
        assert (left is older) is answers


async def test_a_transfer_is_not_disturbed_when_its_peer_is_dialled_again(
    autojump_clock: MockClock,
) -> None:
    """A leech came to the seed, which then hears of its address from others."""
    world, one = World(latency=0.01), sample(4096 * 1024, 64 * 1024)
    async with (
        world.seed(one) as seeding,
        world.node(LEECH, limit_down=100_000) as node,
    ):
        torrent = await node.get(one.magnet(SEED))
        await entered(torrent, "downloading")
        await trio.sleep(5)
        (older,) = behind(seeding).core.connections.peers.values()
        for port in (PORT, PORT + 1):
            behind(seeding).core.connections.found([Address(LEECH, port)], "dht")
        await trio.sleep(20)
        assert list(behind(seeding).core.connections.peers.values()) == [older]
        assert len(behind(torrent).core.connections.peers) == 1
        assert world.net.stats.connections == 2


async def test_a_program_that_was_started_again_has_the_place_of_its_public_host(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with world.seed(sample(), "5.5.5.1") as torrent:
        await greeted(world, torrent, "5.5.5.2", to="5.5.5.1", peer_id=b"before")
        await trio.sleep(50)
        early = await dial(world, "5.5.5.1", "5.5.5.2")
        await early.hello(torrent.info_hash, b"after")
        assert await early.closed() < 51
        await trio.sleep(PROBE_PAUSE)
        later = await greeted(world, torrent, "5.5.5.2", to="5.5.5.1", peer_id=b"after")
        await unchoked(later)
        assert [peer.peer_id[:5] for peer in behind(torrent).core.connections.peers.values()] == [
            b"after"
        ]


async def test_a_peer_that_claims_an_id_does_not_have_us_pester_its_owner(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with world.seed(sample()) as torrent:
        hand = await greeted(world, torrent, peer_id=b"the true one", extended=True)
        await hand.send(HAVE_NONE)
        await hand.send(EXTENDED, data=b"\0d1:md11:ut_metadatai3eee")
        await hand.heard(1)
        for number in range(20):
            await greeted(world, torrent, f"10.0.1.{number}", peer_id=b"the true one")
            await hand.raw(bytes(4))
            await trio.sleep(0.5)
        asked = [payload for _, payload in await hand.heard(1) if b"msg_typei0e" in payload]
        assert len(asked) == 1
        assert HAND in hosts(torrent)


async def test_our_ids_differ_from_torrent_to_torrent(autojump_clock: MockClock) -> None:
    world = World()
    async with world.node(SEED) as node:
        seen = []
        for number in range(2):
            torrent = await node.get(sample(seed=number).metainfo)
            await trio.sleep(1)
            for _ in range(2):
                hand = await greeted(world, torrent)
                seen.append(hand.peer_id)
        assert seen[0] == seen[1] != seen[2] == seen[3]
        assert all(name.startswith(b"-DT0100-") for name in seen)


async def test_a_banned_address_is_refused_and_a_claim_of_it_means_nothing(
    autojump_clock: MockClock,
) -> None:
    world, now = World(), trio.current_time()
    async with world.seed(sample()) as torrent:
        behind(torrent).core.connections.candidates.ban(Address(HAND, PORT), now)
        host = world.net.host(HAND)
        for local, stays in ((PORT, False), (0, True)):
            hand = Hand(await host.connect(Address(SEED, PORT), local=Address(HAND, local)))
            with contextlib.suppress(OSError):
                await hand.hello(torrent.info_hash, b"port %d" % local, extended=True)
                await hand.send(HAVE_NONE)
                await hand.send(EXTENDED, data=b"\0d1:mde1:pi%dee" % PORT)
            await wait_all_tasks_blocked()
            assert len(behind(torrent).core.connections.peers) == stays


@pytest.mark.parametrize("claimed_first", [True, False])
async def test_a_claimed_port_neither_stops_nor_delays_dialling_its_owner(
    claimed_first: bool, autojump_clock: MockClock
) -> None:
    world, one = World(), sample()
    claim = b"\0d1:mde1:pi%dee" % PORT
    async with world.node(LEECH) as node, listening(world, HAND, HandSeed(one)) as victim:
        torrent = await node.get(one.metainfo)
        await trio.sleep(1)
        liar = await greeted(world, torrent, to=LEECH, peer_id=b"liar", extended=True)
        if claimed_first:
            await liar.send(EXTENDED, data=claim)
            await trio.sleep(1)
            behind(torrent).core.connections.found([Address(HAND, PORT)], "dht")
        else:
            behind(torrent).core.connections.found([Address(HAND, PORT)], "dht")
            await liar.send(EXTENDED, data=claim)
        await trio.sleep(1)
        assert len(victim) == 1
        liar.stream.close()
        with trio.fail_after(60):
            await torrent.completed()
        assert len(victim) == 1


async def test_a_peer_that_leaves_is_dialled_where_it_claimed_to_listen(
    autojump_clock: MockClock,
) -> None:
    world, one = World(), sample()
    async with (
        world.node(LEECH) as node,
        listening(world, HAND, HandSeed(one)) as there,
    ):
        torrent = await node.get(one.metainfo)
        await trio.sleep(1)
        hand = await greeted(world, torrent, to=LEECH, peer_id=b"came in", extended=True)
        await hand.send(EXTENDED, data=b"\0d1:mde1:pi%dee" % PORT)
        await trio.sleep(60)
        assert not there  # it is here already, as far as it says
        hand.stream.close()
        await trio.sleep(5)
        assert len(there) == 1


async def test_a_peer_that_came_in_and_is_named_besides_is_not_dialled_for_ever(
    autojump_clock: MockClock,
) -> None:
    world, one = World(), sample()
    async with world.node(SEED) as came, world.node(LEECH) as node:
        torrent = await node.get(one.metainfo)
        await trio.sleep(1)
        await came.get(one.magnet(LEECH))
        await trio.sleep(20)
        for _ in range(100):
            behind(torrent).core.connections.found([Address(SEED, PORT)], "dht")
            await trio.sleep(3)
        assert len(behind(torrent).core.connections.peers) == 1
        # Dialled across each other once, and perhaps the side whose connection went tried again.
        assert world.net.stats.connections <= 4


async def test_a_public_host_gets_one_connection(autojump_clock: MockClock) -> None:
    world = World()
    async with world.seed(sample(), "5.5.5.1") as torrent:
        first = await greeted(world, torrent, "5.5.5.2", to="5.5.5.1", peer_id=b"first")
        await wait_all_tasks_blocked()
        second = await dial(world, "5.5.5.1", "5.5.5.2")
        await second.hello(torrent.info_hash, b"second")
        assert await second.closed() < 1
        await first.send(HAVE_NONE)
        assert len(behind(torrent).core.connections.peers) == 1


async def test_no_more_connections_than_allowed_and_a_place_that_is_free_is_taken(
    autojump_clock: MockClock,
) -> None:
    world = World()
    few = TorrentConfig(max_connections=3)
    async with world.seed(sample(), torrent=few) as torrent:
        hands = [await greeted(world, torrent, f"10.0.1.{i}") for i in range(3)]
        for hand in hands:
            await hand.send(HAVE_NONE)
            await hand.send(INTERESTED)
        late = await greeted(world, torrent)
        assert await late.closed() < 1
        assert len(behind(torrent).core.connections.peers) == 3
        hands[0].stream.close()
        await wait_all_tasks_blocked()
        await greeted(world, torrent, peer_id=b"again")
        await wait_all_tasks_blocked()
        assert len(behind(torrent).core.connections.peers) == 3


async def test_a_newcomer_gets_the_place_of_one_who_is_of_no_use(
    autojump_clock: MockClock,
) -> None:
    world = World()
    few = TorrentConfig(max_connections=3)
    async with world.seed(sample(), torrent=few) as torrent:
        hands = [await greeted(world, torrent, f"10.0.1.{i}") for i in range(3)]
        for hand in hands:
            await hand.send(HAVE_NONE)
        await hands[0].send(INTERESTED)
        await hands[2].send(INTERESTED)
        await trio.sleep(few.newcomer_grace - 5)
        early = await greeted(world, torrent, "10.0.0.7")
        assert await early.closed() < few.newcomer_grace
        await trio.sleep(10)
        await greeted(world, torrent)
        await wait_all_tasks_blocked()
        connected = [peer.address.host for peer in behind(torrent).core.connections.peers.values()]
        assert connected == ["10.0.1.0", "10.0.1.2", HAND]


async def test_all_torrents_together_keep_to_the_limit_of_the_node(
    autojump_clock: MockClock,
) -> None:
    world = World(latency=0.05)  # so that many are shaking hands at the same time
    async with world.node(SEED, max_connections=4) as node:
        samples = [sample(seed=number) for number in range(2)]
        torrents = [await node.get(one.magnet()) for one in samples]
        await trio.sleep(1)

        async def visit(number: int) -> None:
            with contextlib.suppress(EOFError, OSError):
                hand = await dial(world, SEED, f"10.0.1.{number}")
                await hand.hello(torrents[number % 2].info_hash, b"visitor %d" % number)
                await hand.send(HAVE_NONE)
                await hand.closed()

        async with trio.open_nursery() as nursery:
            for number in range(12):
                nursery.start_soon(visit, number)
            await trio.sleep(10)
            assert sum(len(behind(torrent).core.connections.peers) for torrent in torrents) == 4
            assert node.status().connections == 4
            nursery.cancel_scope.cancel()


async def test_room_that_another_torrent_leaves_is_found(autojump_clock: MockClock) -> None:
    world, one = World(), sample()
    async with (
        listening(world, HAND, HandSeed(one)),
        world.node(LEECH, max_connections=1) as node,
    ):
        busy = await node.get(sample(seed=2).magnet())
        await trio.sleep(1)
        hand = await dial(world, LEECH, "10.0.0.9")
        await hand.hello(busy.info_hash)
        await hand.send(HAVE_NONE)
        torrent = await node.get(one.magnet(HAND))
        await trio.sleep(5)
        assert behind(torrent).core.connections.peers == {}
        hand.stream.close()
        with trio.fail_after(30):
            await torrent.completed()


@pytest.mark.parametrize("ip", ["127.0.0.1", "10.0.0.66", "5.5.5.5"])
@pytest.mark.parametrize("honest", ["the same host", HAND])
async def test_half_open_connections_do_not_keep_others_out(
    ip: str, honest: str, autojump_clock: MockClock
) -> None:
    world = World()
    async with world.seed(sample()) as torrent:
        silent = [await dial(world, SEED, ip) for _ in range(300)]
        await silent[-2].raw(b"\x13BitTorrent")
        await wait_all_tasks_blocked()
        with trio.fail_after(0.5):
            await greeted(world, torrent, ip if honest == "the same host" else honest)
        # And whoever is quick enough is not closed, though it came first.
        assert await silent[-1].closed() == PeerConfig().handshake_timeout


async def test_a_hundred_nodes_of_one_machine_may_come_at_once(autojump_clock: MockClock) -> None:
    world = World(latency=0.001)
    many = TorrentConfig(max_connections=120)
    async with world.seed(sample(), torrent=many) as torrent, trio.open_nursery() as nursery:

        async def visit(number: int) -> None:
            await trio.sleep(number / 50_000)
            hand = await greeted(world, torrent, "127.0.0.1", peer_id=b"%020d" % number)
            await hand.closed()

        for number in range(100):
            nursery.start_soon(visit, number)
        await trio.sleep(1)
        assert len(behind(torrent).core.connections.peers) == 100
        nursery.cancel_scope.cancel()


async def test_pausing_while_dialling_loses_no_candidate(autojump_clock: MockClock) -> None:
    """The only address known is being dialled when the user pauses: on going on it is dialled."""
    world, one = World(latency=2.0), sample()
    public = "5.5.5.5"
    async with listening(world, public, HandSeed(one)), world.node("5.5.5.1") as node:
        torrent = await node.get(one.magnet(public))
        await trio.sleep(1)
        assert behind(torrent).core.connections.peers == {}
        await torrent.pause()
        await entered(torrent, "paused")
        await torrent.resume()
        with trio.fail_after(50):  # less than the pause before dialling an address again
            await torrent.completed()


async def test_a_peer_that_was_connected_before_a_pause_is_dialled_at_once_after_it(
    autojump_clock: MockClock,
) -> None:
    world, one = World(), sample()
    seed = HandSeed(one, pause=1.0)
    async with listening(world, "5.5.5.5", seed), world.node("5.5.5.1") as node:
        torrent = await node.get(one.magnet("5.5.5.5"))
        await entered(torrent, "downloading")
        await trio.sleep(3)
        await torrent.pause()
        await entered(torrent, "paused")
        assert behind(torrent).core.connections.peers == {}
        await trio.sleep(5)
        assert node.status().connections == 0
        await torrent.resume()
        since = trio.current_time()
        with trio.fail_after(60):
            await torrent.completed()
        assert trio.current_time() - since < 30


async def test_a_paused_torrent_answers_like_an_unknown_one(autojump_clock: MockClock) -> None:
    world, one = World(), sample()
    async with world.seed(one) as torrent:
        await torrent.pause()
        await entered(torrent, "paused")
        for info_hash in (torrent.info_hash, b"?" * 20):
            hand = await dial(world, SEED)
            with pytest.raises(EOFError):
                await hand.hello(info_hash)


async def test_an_address_that_cannot_be_reached_does_not_hold_up_the_others(
    autojump_clock: MockClock,
) -> None:
    world, one = World(), sample()
    dead = [f"10.0.9.{number}" for number in range(40)]
    async with listening(world, HAND, HandSeed(one)), world.node(LEECH) as node:
        torrent = await node.get(one.magnet(*dead, HAND))
        with trio.fail_after(50):
            await torrent.completed()
        connected = [record.address.host for record in world.records.of(PeerConnected)]
        assert connected == [HAND]
