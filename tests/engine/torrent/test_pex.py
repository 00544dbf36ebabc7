"""Peer exchange: who is told of whom, and what becomes of what is heard."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dht_torrent import bencode
from dht_torrent.engine.torrent.torrent import Torrent, behind
from dht_torrent.ids import Address, HostPort
from dht_torrent.trace import PeerConnected
from tests.helpers.engine import (
    EXTENDED,
    HAVE_ALL,
    HAVE_NONE,
    LEECH,
    PORT,
    SEED,
    Hand,
    World,
    drop_reasons,
    entered,
    greeted,
    listening,
    sample,
)

FILM = sample()
PRIVATE = sample(private=True)
OTHER, THIRD = "10.0.0.7", "10.0.0.8"
PUBLIC, PUBLIC_HAND = "20.0.0.1", "20.1.0.1"
OUR_PEX = 1
"""The number that our node takes ut_pex messages under."""
SPEAKS = b"d1:md6:ut_pexi9eee"
"""An extension handshake of a peer that wants to hear them under number nine."""

Told = tuple[dict[Address, int], list[Address]]


def speaks(port: int = 0) -> bytes:
    """The same, of a peer that says where it listens."""
    return b"d1:md6:ut_pexi9ee1:pi%dee" % port if port else SPEAKS


async def exchange(hand: Hand, *added: Address, dropped: Sequence[Address] = ()) -> None:
    """Tell our node of these."""
    entries: dict[bytes, bencode.Value] = {
        b"added": b"".join(one.compact() for one in added),
        b"added.f": bytes(len(added)),
        b"dropped": b"".join(one.compact() for one in dropped),
    }
    await hand.send(EXTENDED, data=bytes([OUR_PEX]) + bencode.encode(entries))


def told_in(payload: bytes) -> Told:
    """Peers added, each with its flags, and dropped."""
    entries = bencode.decode(payload)
    assert isinstance(entries, dict)

    def addresses(key: bytes, size: int) -> list[Address]:
        raw = entries.get(key, b"")
        assert isinstance(raw, bytes)
        assert size == 6
        return [
            Address(
                ".".join(map(str, raw[at : at + 4])), int.from_bytes(raw[at + 4 : at + 6], "big")
            )
            for at in range(0, len(raw), size)
        ]

    added, flags = addresses(b"added", 6), entries.get(b"added.f")
    assert isinstance(flags, bytes)
    return dict(zip(added, flags, strict=True)), addresses(b"dropped", 6)


async def told(hand: Hand, seconds: float) -> list[Told]:
    """All we are told within this time."""
    return [
        told_in(payload[1:])
        for kind, payload in await hand.heard(seconds)
        if kind == EXTENDED and payload[0] == 9
    ]


async def next_told(hand: Hand, seconds: float = 300) -> Told:
    with trio.fail_after(seconds):
        while (payload := await hand.expect(EXTENDED))[0] != 9:
            pass
    return told_in(payload[1:])


async def partner(world: World, torrent: Torrent, ip: str, *, to: str, port: int = 0) -> Hand:
    """A peer that came to our node and speaks ut_pex."""
    hand = await greeted(world, torrent, ip, to=to, extended=True)
    await hand.send(HAVE_NONE)
    await hand.send(EXTENDED, data=b"\0" + speaks(port))
    return hand


async def stay(hand: Hand) -> None:
    """A seed that unchokes nobody."""
    await hand.hello(FILM.metainfo.info_hash, b"-HW0003-" + hand.stream.local.host.encode())
    await hand.send(HAVE_ALL)
    with contextlib.suppress(trio.ClosedResourceError):
        await hand.closed()


@contextlib.asynccontextmanager
async def leech(
    world: World, *peers: str, ip: str = LEECH, **changes: Any
) -> AsyncIterator[Torrent]:
    """A node that knows the metadata, and dials these hosts."""
    async with world.node(ip, **changes) as node:
        torrent = await node.get(FILM.metainfo)
        torrent.add_peers([HostPort(host, PORT) for host in peers])
        await trio.sleep(1)
        assert len(behind(torrent).core.connections.peers) == len(peers)
        yield torrent


# -- telling --------------------------------------------------------------------------------------


async def test_a_newcomer_is_told_at_once_of_the_peers_we_dialled(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with listening(world, OTHER, stay), leech(world, OTHER) as torrent:
        hand = await partner(world, torrent, THIRD, to=LEECH)
        # A seed, and one we reached.
        assert await next_told(hand, 1) == ({Address(OTHER, PORT): 0x12}, [])


async def test_it_is_told_who_is_connected_by_mse(autojump_clock: MockClock) -> None:
    world = World()
    async with world.seed(FILM, limit_up=5000), leech(world, SEED, encryption="prefer") as torrent:
        hand = await partner(world, torrent, THIRD, to=LEECH)
        assert await next_told(hand, 1) == ({Address(SEED, PORT): 0x13}, [])


async def test_it_is_told_who_says_that_it_prefers_encryption(autojump_clock: MockClock) -> None:
    async def prefers(hand: Hand) -> None:
        await hand.hello(FILM.metainfo.info_hash, b"-HW0003-", extended=True)
        await hand.send(HAVE_NONE)
        await hand.send(EXTENDED, data=b"\0d1:ei1e1:mdee")
        await hand.send(EXTENDED, data=b"\0d1:mdee")  # adds to the former
        await hand.closed()

    world = World()
    async with listening(world, OTHER, prefers), leech(world, OTHER) as torrent:
        hand = await partner(world, torrent, THIRD, to=LEECH)
        assert await next_told(hand, 1) == ({Address(OTHER, PORT): 0x11}, [])


async def test_what_is_new_is_told_a_minute_later_and_what_is_gone(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with listening(world, OTHER, stay) as hands, leech(world, OTHER) as torrent:
        hand = await partner(world, torrent, THIRD, to=LEECH)
        assert await next_told(hand, 1) == ({Address(OTHER, PORT): 0x12}, [])
        began = trio.current_time()
        async with listening(world, "10.0.0.9", stay):
            torrent.add_peers([HostPort("10.0.0.9", PORT)])
            assert await next_told(hand) == ({Address("10.0.0.9", PORT): 0x12}, [])
            assert 59 <= trio.current_time() - began <= 70
            world.net.host(OTHER).is_down = True
            await hand.raw(bytes(4))  # alive
            hands[0].stream.close()
            assert await next_told(hand) == ({}, [Address(OTHER, PORT)])
            await hand.raw(bytes(4))
            assert await told(hand, 100) == []  # an empty message is never sent


async def test_a_peer_that_does_not_speak_it_is_told_nothing(autojump_clock: MockClock) -> None:
    world = World()
    async with listening(world, OTHER, stay), leech(world, OTHER) as torrent:
        hand = await greeted(world, torrent, THIRD, to=LEECH, extended=True)
        await hand.send(HAVE_NONE)
        await hand.send(EXTENDED, data=b"\0d1:mdee")
        said = [payload[0] for kind, payload in await hand.heard(100) if kind == EXTENDED]
        assert said == [0]


@pytest.mark.parametrize("port", [0, 7000])
async def test_an_incoming_peer_is_not_named_where_it_does_not_listen(
    port: int, autojump_clock: MockClock
) -> None:
    world = World()
    async with world.seed(FILM) as torrent:
        await partner(world, torrent, OTHER, to=SEED, port=port)
        hand = await partner(world, torrent, THIRD, to=SEED)
        assert await told(hand, 300) == []


async def test_a_peer_that_came_to_us_is_told_of_when_it_answered_where_it_says_it_listens(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with world.seed(FILM) as torrent, listening(world, OTHER, stay) as hands:
        first = await partner(world, torrent, OTHER, to=SEED, port=PORT)
        hand = await partner(world, torrent, THIRD, to=SEED)
        assert await next_told(hand, 30) == ({Address(OTHER, PORT): 0x10}, [])
        assert len(hands) == 1
        await trio.sleep(5)
        assert await told(first, 60) == []  # nobody is told of itself
        assert len(behind(torrent).core.connections.peers) == 2
        assert len(hands) == 1  # once is enough
        first.stream.close()
        assert await next_told(hand) == ({}, [Address(OTHER, PORT)])


async def test_a_peer_is_not_named_if_another_answers_where_it_says_it_listens(
    autojump_clock: MockClock,
) -> None:
    async def web_server(hand: Hand) -> None:
        await hand.raw(b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(100))

    world = World()
    async with world.seed(FILM) as torrent, listening(world, OTHER, web_server) as hands:
        await partner(world, torrent, OTHER, to=SEED, port=PORT)
        hand = await partner(world, torrent, THIRD, to=SEED)
        assert await told(hand, 200) == []
        assert len(hands) == 1


async def test_a_lone_peer_is_not_dialled_since_there_is_nobody_to_tell(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with world.seed(FILM) as torrent, listening(world, OTHER, stay) as hands:
        hand = await partner(world, torrent, OTHER, to=SEED, port=PORT)
        await hand.heard(100)
        assert hands == []


async def test_when_its_side_keeps_the_second_connection_we_go_on_with_that(
    autojump_clock: MockClock,
) -> None:
    """As libtorrent does, for half of all pairs of ports."""
    world = World()
    firsts: list[Hand] = []

    async def keeps_this_one(hand: Hand) -> None:
        await hand.hello(FILM.metainfo.info_hash, b"-HW0001-" + OTHER.encode())
        await hand.send(HAVE_NONE)
        firsts[0].stream.close()
        await hand.closed()

    async with world.seed(FILM) as torrent, listening(world, OTHER, keeps_this_one):
        firsts.append(await partner(world, torrent, OTHER, to=SEED, port=PORT))
        hand = await partner(world, torrent, THIRD, to=SEED)
        assert await next_told(hand, 30) == ({Address(OTHER, PORT): 0x10}, [])
        await hand.heard(60)
        peers = behind(torrent).core.connections.peers.values()
        assert {peer.address: peer.incoming for peer in peers}[Address(OTHER, PORT)] is False
        assert len(peers) == 2


async def test_what_a_peer_only_named_is_not_passed_on(autojump_clock: MockClock) -> None:
    world = World()
    async with leech(world) as torrent:
        liar = await partner(world, torrent, OTHER, to=LEECH)
        await exchange(liar, Address("10.9.9.9", PORT))
        hand = await partner(world, torrent, THIRD, to=LEECH)
        assert await told(hand, 200) == []
        assert behind(torrent).core.connections.candidates.source(Address("10.9.9.9", PORT))


async def test_a_stranger_is_not_told_of_our_network(autojump_clock: MockClock) -> None:
    world = World()
    async with listening(world, OTHER, stay), leech(world, OTHER, ip=PUBLIC) as torrent:
        hand = await partner(world, torrent, PUBLIC_HAND, to=PUBLIC)
        assert await told(hand, 100) == []


async def test_seeds_are_not_told_of_seeds(autojump_clock: MockClock) -> None:
    world = World()
    async with listening(world, OTHER, stay), leech(world, OTHER) as torrent:
        hand = await greeted(world, torrent, THIRD, to=LEECH, extended=True)
        await hand.send(HAVE_ALL)
        await hand.send(EXTENDED, data=b"\0" + SPEAKS)
        assert await told(hand, 100) == []


# -- hearing --------------------------------------------------------------------------------------


async def test_a_peer_that_is_named_is_dialled(autojump_clock: MockClock) -> None:
    world = World()
    async with leech(world) as torrent, listening(world, THIRD, stay):
        hand = await partner(world, torrent, OTHER, to=LEECH)
        await exchange(hand, Address(THIRD, PORT))
        with trio.fail_after(1):
            while len(world.records.of(PeerConnected)) < 2:
                await trio.sleep(0.1)
        peers = behind(torrent).core.connections.peers.values()
        (named,) = [peer for peer in peers if peer.address == Address(THIRD, PORT)]
        assert named.source == f"pex {hand.stream.local}"


async def test_a_seed_does_not_dial_seeds(autojump_clock: MockClock) -> None:
    world = World()
    async with (
        world.seed(FILM) as torrent,
        listening(world, OTHER, stay) as seeds,
        listening(world, "10.0.0.9", stay) as leeches,
    ):
        hand = await partner(world, torrent, THIRD, to=SEED)
        entries: dict[bytes, bencode.Value] = {
            b"added": Address(OTHER, PORT).compact() + Address("10.0.0.9", PORT).compact(),
            b"added.f": b"\x02\x00",
        }
        await hand.send(EXTENDED, data=bytes([OUR_PEX]) + bencode.encode(entries))
        await trio.sleep(5)
        assert (len(seeds), len(leeches)) == (0, 1)


async def test_a_peer_that_is_taken_back_before_it_was_dialled_is_not_dialled(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with leech(world) as torrent:
        hand = await partner(world, torrent, OTHER, to=LEECH)
        nobody = [Address(f"10.9.0.{number}", PORT) for number in range(20)]
        await exchange(hand, *nobody)
        await trio.sleep(60)
        await exchange(hand, dropped=nobody)
        await trio.sleep(20)
        candidates = behind(torrent).core.connections.candidates
        assert sum(candidates.source(one) is not None for one in nobody) <= 5


@pytest.mark.parametrize("named", ["127.0.0.1", "10.0.0.7", "192.168.1.1", "169.254.169.254"])
async def test_a_stranger_cannot_have_us_dial_into_our_network(
    named: str, autojump_clock: MockClock
) -> None:
    world = World()
    async with listening(world, named, stay) as hands, leech(world, ip=PUBLIC) as torrent:
        hand = await partner(world, torrent, PUBLIC_HAND, to=PUBLIC)
        await exchange(hand, Address(named, PORT))
        await trio.sleep(100)
        assert hands == []
        assert behind(torrent).core.connections.candidates.source(Address(named, PORT)) is None


async def test_a_peer_that_exchanges_peers_all_the_time_is_closed(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with leech(world) as torrent:
        hand = await partner(world, torrent, OTHER, to=LEECH)
        for second in range(5):
            with contextlib.suppress(OSError):
                await exchange(hand, Address(f"10.9.9.{second + 1}", PORT))
            await trio.sleep(1)
        assert await drop_reasons(world) == ["exchanges peers too often"]
        candidates = behind(torrent).core.connections.candidates
        heard = [candidates.source(Address(f"10.9.9.{n + 1}", PORT)) is not None for n in range(5)]
        assert heard == [True, False, False, False, False]


async def test_a_malformed_message_ends_the_connection(autojump_clock: MockClock) -> None:
    world = World()
    async with leech(world) as torrent:
        hand = await partner(world, torrent, OTHER, to=LEECH)
        await hand.send(EXTENDED, data=bytes([OUR_PEX]) + b"d5:added5:12345e")
        assert await drop_reasons(world) == ["added of a ut_pex message does not hold addresses"]


async def test_a_peer_that_does_not_want_to_hear_it_is_not_heard(autojump_clock: MockClock) -> None:
    world = World()
    async with leech(world) as torrent:
        hand = await greeted(world, torrent, OTHER, to=LEECH, extended=True)
        await hand.send(HAVE_NONE)
        await hand.send(EXTENDED, data=b"\0d1:mdee")
        await exchange(hand, Address(THIRD, PORT))
        await trio.sleep(1)
        assert behind(torrent).core.connections.candidates.source(Address(THIRD, PORT)) is None


async def test_fifty_of_each_peer_are_kept(autojump_clock: MockClock) -> None:
    world = World()
    async with leech(world) as torrent:
        hand = await partner(world, torrent, OTHER, to=LEECH)
        for minute in range(3):
            await exchange(hand, *(Address(f"10.{9 + minute}.0.{n}", PORT) for n in range(200)))
            await trio.sleep(60)
        assert len(behind(torrent).core.connections.candidates) <= 50


# -- where it is not spoken -----------------------------------------------------------------------


async def offered(hand: Hand) -> bool:
    """Does our node say that it speaks it?"""
    with trio.fail_after(5):
        payload = await hand.expect(EXTENDED)
    assert payload[0] == 0
    return b"6:ut_pexi1e" in payload


async def test_a_private_torrent_tells_no_peer_and_hears_no_peer(autojump_clock: MockClock) -> None:
    world = World()
    async with world.node(LEECH) as node, listening(world, OTHER, stay) as hands:
        torrent = await node.get(PRIVATE.metainfo)
        await entered(torrent, "downloading")
        hand = await greeted(world, torrent, THIRD, to=LEECH, extended=True)
        assert not await offered(hand)
        await hand.send(HAVE_NONE)
        await hand.send(EXTENDED, data=b"\0" + speaks(PORT))
        other = await partner(world, torrent, "10.0.0.9", to=LEECH)
        await exchange(hand, Address(OTHER, PORT))
        assert await told(hand, 200) == []
        assert await told(other, 10) == []
        assert hands == []


async def test_no_peer_is_told_before_we_know_that_the_torrent_is_not_private(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with listening(world, OTHER, stay), world.node(LEECH) as node:
        torrent = await node.get(FILM.magnet(OTHER))
        await trio.sleep(1)
        hand = await partner(world, torrent, THIRD, to=LEECH)
        assert await offered(hand)
        assert await told(hand, 100) == []
        assert torrent.state == "metadata"
        async with world.seed(FILM):
            await exchange(hand, Address(SEED, PORT))  # which is heard
            await entered(torrent, "seeding")


async def test_it_can_be_turned_off(autojump_clock: MockClock) -> None:
    world = World()
    async with listening(world, OTHER, stay), leech(world, OTHER, pex=False) as torrent:
        hand = await greeted(world, torrent, THIRD, to=LEECH, extended=True)
        assert not await offered(hand)
        await hand.send(HAVE_NONE)
        await hand.send(EXTENDED, data=b"\0" + SPEAKS)
        await exchange(hand, Address("10.0.0.9", PORT))
        assert await told(hand, 100) == []
        assert not behind(torrent).core.connections.candidates.source(Address("10.0.0.9", PORT))
