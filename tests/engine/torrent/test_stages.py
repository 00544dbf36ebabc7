"""People are told what stands in the way of a torrent, and it is true."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.engine.torrent.stages import Failed, Paused, why_stuck
from dht_torrent.engine.torrent.torrent import Torrent, behind
from dht_torrent.errors import StorageError
from dht_torrent.ids import Address
from tests.helpers.engine import (
    EXTENDED,
    HAND,
    HAVE_ALL,
    HAVE_NONE,
    LEECH,
    PORT,
    SEED,
    UNCHOKE,
    Hand,
    HandSeed,
    World,
    dial,
    entered,
    listening,
    sample,
)

ROUTER = "10.0.0.100"
ALONE = "DHT: no contacts yet, and no bootstrap nodes are configured"


def why(torrent: Torrent) -> str:
    text = torrent.why
    assert text is not None
    assert torrent.summary().why == text
    return text


async def test_without_a_dht_it_says_so(autojump_clock: MockClock) -> None:
    world, one = World(), sample()
    async with world.node(LEECH, bootstrap=["10.9.9.9"]) as node:
        torrent = await node.get(one.magnet())
        await trio.sleep(60)
        assert why(torrent) == "DHT: 0 of 1 bootstrap nodes answered"
    async with world.node(LEECH) as node:
        torrent = await node.get(one.magnet())
        await trio.sleep(60)
        assert why(torrent) == ALONE


async def test_with_a_dht_it_says_how_the_search_went(autojump_clock: MockClock) -> None:
    world, one = World(), sample()
    async with world.node(ROUTER), world.node(LEECH, bootstrap=[ROUTER]) as node:
        torrent = await node.get(one.magnet())
        await trio.sleep(0.01)
        await node.dht.bootstrapped()
        # The DHT soon tells us of ourselves, which is not a peer.
        for _ in range(200):
            await trio.sleep(1)
            assert "1 peer" not in why(torrent)
        assert why(torrent).startswith(
            "DHT: 1 of 1 contacts answered, 0 peers found, looking again"
        )


async def hangs_up(hand: Hand) -> None:
    pass


async def never_answers(hand: Hand) -> None:
    await trio.sleep_forever()


async def another_protocol(hand: Hand) -> None:
    await hand.raw(b"SSH-2.0-OpenSSH_9.2\r\n".ljust(68))


async def leaves(hand: Hand) -> None:
    await hand.hello(sample().metainfo.info_hash)


@contextlib.asynccontextmanager
async def stuck(
    world: World,
    *peers: tuple[str, Callable[[Hand], Awaitable[None]] | None],
    metainfo: bool = False,
) -> AsyncIterator[Torrent]:
    """A download that knows these peers. One without a behaviour has nobody listening."""
    async with contextlib.AsyncExitStack() as stack:
        for ip, behave in peers:
            if behave is None:
                world.net.host(ip)
            else:
                await stack.enter_async_context(listening(world, ip, behave))
        node = await stack.enter_async_context(world.node(LEECH))
        source = sample().metainfo if metainfo else sample().magnet()
        torrent = await node.get(source)
        await trio.sleep(0.1)
        behind(torrent).core.connections.found([Address(ip, PORT) for ip, _ in peers], "magnet")
        yield torrent


@pytest.mark.parametrize(
    ("behave", "reason"),
    [
        (None, "1 refused the connection"),
        (hangs_up, "1 closed the connection before the handshake and may require encryption"),
        (never_answers, "1 accepted the connection and sent nothing"),
        (another_protocol, "1 answered with something other than this torrent"),
        (leaves, "1 left after being connected"),
    ],
)
async def test_reasons_of_failed_dials_are_told_apart(
    behave: Callable[[Hand], Awaitable[None]] | None, reason: str, autojump_clock: MockClock
) -> None:
    async with stuck(World(), (HAND, behave)) as torrent:
        await trio.sleep(11)
        assert why(torrent) == f"1 peer known, none connected: {reason}; {ALONE}"


async def test_reasons_are_counted(autojump_clock: MockClock) -> None:
    refusing = [(f"10.0.1.{number}", None) for number in range(3)]
    closing = [(f"10.0.2.{number}", hangs_up) for number in range(2)]
    async with stuck(World(), *refusing, *closing) as torrent:
        await trio.sleep(1)
        assert why(torrent) == (
            "5 peers known, none connected: 3 refused the connection, 2 closed the connection "
            f"before the handshake and may require encryption; {ALONE}"
        )


async def test_the_first_dial_is_under_way_until_it_ends(autojump_clock: MockClock) -> None:
    world = World()
    async with stuck(world, (HAND, hangs_up)) as torrent:
        await trio.sleep(1)
        dead = [Address(f"10.0.9.{number}", PORT) for number in range(2)]
        behind(torrent).core.connections.found(dead, "magnet")
        await trio.sleep(0.2)
        assert why(torrent) == (
            "3 peers known, none connected: 2 are being dialled for the first time, 1 closed the "
            f"connection before the handshake and may require encryption; {ALONE}"
        )
        await trio.sleep(20)
        assert "2 did not answer in time" in why(torrent)
    async with stuck(World(), ("10.0.9.9", never_answers)) as torrent:
        await trio.sleep(0.2)
        assert why(torrent) == f"1 peer known, the first dial is under way; {ALONE}"


async def test_an_unreachable_network_is_said(autojump_clock: MockClock) -> None:
    world = World()
    async with stuck(world) as torrent:
        behind(torrent).core.connections.found([Address("2001:db8::1", PORT)], "magnet")
        await trio.sleep(1)
        assert why(torrent) == f"1 peer known, none connected: 1 could not be reached; {ALONE}"


async def test_metadata_that_does_not_match_is_said(autojump_clock: MockClock) -> None:
    liar = HandSeed(sample(), info=b"d4:name4:lies12:piece lengthi16384ee")
    async with stuck(World(), (HAND, liar)) as torrent:
        await trio.sleep(1)
        assert why(torrent) == (
            "1 peer known, none connected: 1 left after being connected; "
            f"1 peer sent metadata that does not match; {ALONE}"
        )


async def silent(hand: Hand) -> None:
    await hand.hello(sample().metainfo.info_hash, hand.stream.local.host.encode())
    await hand.send(HAVE_NONE)
    await hand.closed()


async def some_seed(hand: Hand, *, unchokes: bool = False) -> None:
    await hand.hello(sample().metainfo.info_hash, hand.stream.local.host.encode())
    await hand.send(HAVE_ALL)
    if unchokes:
        await hand.send(UNCHOKE)
    await hand.closed()


async def stalling(hand: Hand) -> None:
    await some_seed(hand, unchokes=True)


async def keeps_it(hand: Hand) -> None:
    await hand.hello(sample().metainfo.info_hash, hand.stream.local.host.encode(), extended=True)
    await hand.send(HAVE_NONE)
    await hand.send(EXTENDED, data=b"\0d1:md11:ut_metadatai3ee13:metadata_sizei100ee")
    await hand.closed()


Behaviour = Callable[[Hand], Awaitable[None]]
PRIVATE = "if the torrent is private, add its .torrent"


@pytest.mark.parametrize(
    ("metainfo", "kinds", "expected"),
    [
        (False, [silent], f"1 peer connected; it does not offer the metadata; {PRIVATE}"),
        (
            False,
            [silent, some_seed],
            f"2 peers connected; none offers the metadata; {PRIVATE}",
        ),
        (False, [keeps_it], "1 peer connected; it has not sent the metadata yet"),
        (False, [silent, keeps_it], "2 peers connected; none has sent the metadata yet"),
        (True, [silent], "1 peer connected; it has no piece that is missing"),
        (True, [silent, silent], "2 peers connected; none has a piece that is missing"),
        (True, [some_seed], "1 peer connected; it is choking us: waiting for a turn"),
        (
            True,
            [some_seed, some_seed],
            "2 peers connected; all are choking us: waiting for a turn",
        ),
        (
            True,
            [silent, some_seed],
            "2 peers connected; 1 has what is missing and is choking us: waiting for a turn",
        ),
        (
            True,
            [silent, some_seed, some_seed],
            "3 peers connected; 2 have what is missing and are choking us: waiting for a turn",
        ),
        (True, [stalling], "1 peer connected; it does not send what we asked for"),
        (
            True,
            [silent, stalling, some_seed],
            "3 peers connected; 2 have what is missing and do not send it",
        ),
        (True, [stalling, stalling], "2 peers connected; none sends what we asked for"),
    ],
)
async def test_what_connected_peers_lack_is_said(
    metainfo: bool, kinds: list[Behaviour], expected: str, autojump_clock: MockClock
) -> None:
    peers = [(f"10.0.1.{number}", kind) for number, kind in enumerate(kinds)]
    async with stuck(World(), *peers, metainfo=metainfo) as torrent:
        await trio.sleep(25)
        assert why(torrent) == expected


async def test_metadata_that_does_not_match_is_said_beside_those_connected(
    autojump_clock: MockClock,
) -> None:
    liar = HandSeed(sample(), info=b"d4:name4:lies12:piece lengthi16384ee")
    async with stuck(World(), (HAND, liar), ("10.0.1.1", silent)) as torrent:
        await trio.sleep(1)
        assert why(torrent) == (
            f"1 peer connected; it does not offer the metadata; {PRIVATE}; "
            "1 peer sent metadata that does not match"
        )


async def test_when_all_is_well_nothing_is_said(autojump_clock: MockClock) -> None:
    async with stuck(World(), (HAND, HandSeed(sample(), pause=1.0)), metainfo=True) as torrent:
        await trio.sleep(3)
        assert torrent.state == "downloading"
        assert torrent.why is None
        await torrent.pause()
        await entered(torrent, "paused")
        assert torrent.why is None
        await torrent.resume()
        await torrent.completed()
        assert torrent.why is None


async def test_a_private_torrent_without_peers_says_so(autojump_clock: MockClock) -> None:
    world = World()
    async with world.node(LEECH) as node:
        torrent = await node.get(sample(private=True).metainfo)
        await trio.sleep(1)
        assert why(torrent) == "a private torrent is not looked up in the DHT, and no peer is known"
        world.net.host(HAND)
        behind(torrent).core.connections.found([Address(HAND, PORT)], "magnet")
        await trio.sleep(1)
        assert why(torrent) == "1 peer known, none connected: 1 refused the connection"
        assert why_stuck(Paused(), behind(torrent).core.connections, None, "") is None
        full = StorageError("the disk is full")
        assert why_stuck(Failed(full, 5.0), behind(torrent).core.connections, None, "") == (
            "the disk is full; trying again by itself"
        )
        assert (
            why_stuck(Failed(full), behind(torrent).core.connections, None, "")
            == "the disk is full"
        )


@pytest.mark.parametrize(
    ("visitor", "expected"),
    [("192.168.1.7", True), ("9.9.9.9", True), ("127.0.0.1", None), (SEED, None)],
)
async def test_a_node_is_reachable_once_another_machine_came_in(
    visitor: str, expected: bool | None, autojump_clock: MockClock
) -> None:
    world = World()
    async with world.node(SEED) as node:
        torrent = await node.get(sample().metainfo)
        await trio.sleep(1)
        assert node.status().reachable is None
        hand = await dial(world, SEED, visitor)
        await hand.hello(torrent.info_hash)
        assert node.status().reachable is expected


async def test_reaching_ourselves_from_outside_proves_nothing(autojump_clock: MockClock) -> None:
    world = World()
    async with world.node(SEED) as node:
        torrent = await node.get(sample().metainfo)
        await trio.sleep(1)
        hand = await dial(world, SEED, "192.168.1.1")
        with contextlib.suppress(EOFError):
            await hand.hello(torrent.info_hash, behind(torrent).core.connections.peer_id)
        assert node.status().reachable is None
