"""How peers are dialled: encrypted or not, and the other way at once where that fails."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from dht_torrent import Node
from dht_torrent.config import EncryptionPolicy, PeerConfig
from dht_torrent.engine.torrent.torrent import Torrent, behind
from dht_torrent.ids import Address
from tests.helpers.engine import (
    HAND,
    LEECH,
    PORT,
    SEED,
    Hand,
    HandSeed,
    World,
    content,
    listening,
    sample,
)
from tests.helpers.raw_mse import PLAIN, RC4, Answerer, Sealed

POLICIES: tuple[EncryptionPolicy, ...] = ("prefer", "require", "allow", "off")
NEVER = "no connection"
CLOSED = "1 closed the connection before the handshake"
PROTOCOL = b"\x13BitTorrent protocol"

# By what the dialler wants, and then what the other side wants.
RESULT: dict[EncryptionPolicy, dict[EncryptionPolicy, str | None]] = {
    "prefer": {"prefer": "mse", "require": "rc4", "allow": "mse", "off": None},
    "require": {"prefer": "rc4", "require": "rc4", "allow": "rc4", "off": NEVER},
    "allow": {"prefer": None, "require": NEVER, "allow": None, "off": None},
    "off": {"prefer": None, "require": NEVER, "allow": None, "off": None},
}


@pytest.mark.parametrize("theirs", POLICIES)
@pytest.mark.parametrize("ours", POLICIES)
async def test_two_nodes_agree_as_their_policies_allow(
    ours: EncryptionPolicy, theirs: EncryptionPolicy, autojump_clock: MockClock
) -> None:
    world, one = World(latency=(0.001, 0.05)), sample()
    async with (
        world.seed(one, encryption=theirs) as seed,
        world.node(LEECH, encryption=ours) as node,
    ):
        torrent = await node.get(one.magnet(SEED))
        expected = RESULT[ours][theirs]
        if expected == NEVER:
            await trio.sleep(60)
            assert torrent.peers() == seed.peers() == []
            assert torrent.state == "metadata"
            return
        with trio.fail_after(60):
            await torrent.completed()
        (info,), (their_info,) = torrent.peers(), seed.peers()
        assert info.encryption == their_info.encryption == expected
        letter = {"mse": "e", "rc4": "E"}.get(expected or "", "")
        for flags in (info.flags, their_info.flags):
            assert "".join(c for c in flags if c in "eE") == letter
        status = node.status()
        assert status.encryption == ours
        assert status.peers_by_encryption == ({expected: 1} if expected else {})
        assert content(world.storages[LEECH], len(one.data)) == one.data


async def test_encrypted_payload_in_both_directions_over_a_slow_link(
    autojump_clock: MockClock,
) -> None:
    """Each of the two has what the other lacks."""
    world, one = World(latency=0.02, rate=2e6, window=40_000), sample(4 << 20)
    half = len(one.data) // 2
    for ip, start in ((SEED, 0), (LEECH, half)):
        world.storage(ip, one.metainfo).write(start, one.data[start : start + half])
    async with (
        world.node(SEED, encryption="require") as there,
        world.node(LEECH, encryption="require") as here,
    ):
        other = await there.get(one.metainfo)
        torrent = await here.get(one.metainfo)
        behind(torrent).core.connections.found([Address(SEED, PORT)], "magnet")
        with trio.fail_after(120):
            await torrent.completed()
            await other.completed()
        assert content(world.storages[LEECH], len(one.data)) == one.data
        assert content(world.storages[SEED], len(one.data)) == one.data
        assert torrent.summary().downloaded >= half
        assert other.summary().downloaded >= half


class Host:
    """A host that knows MSE or does not, and remembers how each connection began."""

    def __init__(self, *, mse: bool = True, plain: bool = True, selects: int = PLAIN) -> None:
        self.mse = mse
        self.plain = plain
        self.selects = selects
        self.silent = False
        """Says nothing to what it does not accept, instead of hanging up."""
        self.began: list[tuple[float, bool]] = []
        """When, and whether encrypted."""
        self.offered: list[int] = []
        self.seed = HandSeed(sample())

    async def __call__(self, hand: Hand) -> None:
        first = await hand._exactly(20)
        encrypted = first != PROTOCOL
        self.began.append((trio.current_time(), encrypted))
        hand._buffer[:0] = first
        if not (self.mse if encrypted else self.plain):
            if self.silent:
                await trio.sleep_forever()
            return
        if encrypted:
            sealed = Sealed(hand.stream)
            sealed._left += hand._buffer
            hand._buffer.clear()
            side = Answerer(sample().metainfo.info_hash, selects=self.selects, pad_b=b"b" * 7)
            await sealed.shake_hands(side)
            self.offered.append(side.offered)
            assert side.initial.startswith(PROTOCOL)
            hand.stream = sealed
        await self.seed(hand)

    def ways(self) -> list[bool]:
        return [encrypted for _, encrypted in self.began]


@contextlib.asynccontextmanager
async def dialled(
    host: Host, encryption: EncryptionPolicy, world: World | None = None
) -> AsyncIterator[tuple[Node, Torrent]]:
    """A node that was told of it."""
    world = world or World(latency=0.01)
    async with (
        listening(world, HAND, host),
        world.node(LEECH, encryption=encryption) as node,
    ):
        yield node, await node.get(sample().magnet(HAND))


def drop_all(torrent: Torrent) -> None:
    """So that they are dialled again."""
    for peer in list(behind(torrent).core.connections.peers.values()):
        peer.drop("by the test")


@pytest.mark.parametrize(
    ("encryption", "selects", "offered"),
    [("prefer", PLAIN, PLAIN | RC4), ("prefer", RC4, PLAIN | RC4), ("require", RC4, RC4)],
)
async def test_a_peer_written_by_hand_serves_us_encrypted(
    encryption: EncryptionPolicy, selects: int, offered: int, autojump_clock: MockClock
) -> None:
    host = Host(selects=selects)
    async with dialled(host, encryption) as (_, torrent):
        with trio.fail_after(60):
            await torrent.completed()
        assert host.ways() == [True]
        assert host.offered == [offered]
        (info,) = torrent.peers()
        assert info.encryption == ("rc4" if selects == RC4 else "mse")


async def test_where_rc4_is_required_plain_payload_is_refused(autojump_clock: MockClock) -> None:
    host = Host(selects=PLAIN)
    async with dialled(host, "require") as (_, torrent):
        await trio.sleep(1)
        assert host.ways() == [True]
        assert torrent.peers() == []


async def test_a_peer_that_does_not_know_mse_is_dialled_plainly_at_once_and_remembered(
    autojump_clock: MockClock,
) -> None:
    host = Host(mse=False)
    host.seed.pause = 20.0
    async with dialled(host, "prefer") as (_, torrent):
        await trio.sleep(1)
        assert host.ways() == [True, False]
        (first, _), (second, _) = host.began
        assert second - first < 0.1
        (info,) = torrent.peers()
        assert info.encryption is None
        drop_all(torrent)
        await trio.sleep(30)
        assert host.ways() == [True, False, False]


async def test_a_peer_that_says_nothing_is_dialled_plainly_after_a_while(
    autojump_clock: MockClock,
) -> None:
    host = Host(mse=False)
    host.silent = True
    async with dialled(host, "prefer") as (_, torrent):
        with trio.fail_after(60):
            await torrent.completed()
        assert host.ways() == [True, False]
        (first, _), (second, _) = host.began
        assert PeerConfig().mse_timeout - 0.1 < second - first < PeerConfig().mse_timeout + 0.1


async def test_a_peer_that_begins_to_insist_is_dialled_encrypted_again(
    autojump_clock: MockClock,
) -> None:
    host = Host(mse=False)
    host.seed.pause = 20.0
    async with dialled(host, "prefer") as (_, torrent):
        await trio.sleep(1)
        host.mse, host.plain = True, False
        drop_all(torrent)
        await trio.sleep(30)
        assert host.ways() == [True, False, False, True]
        (info,) = torrent.peers()
        assert info.encryption == "mse"


async def leaves(hand: Hand) -> None:
    """Knows MSE, and closes the connection after its handshake."""
    sealed = Sealed(hand.stream)
    await sealed.shake_hands(Answerer(sample().metainfo.info_hash, selects=RC4))


async def other_torrent(hand: Hand) -> None:
    sealed = Sealed(hand.stream)
    await sealed.shake_hands(Answerer(sample().metainfo.info_hash, selects=RC4))
    await sealed.send(PROTOCOL + bytes(8) + b"x" * 20 + b"y" * 20)
    await trio.sleep_forever()


@pytest.mark.parametrize("behave", [leaves, other_torrent])
async def test_a_peer_that_knows_mse_is_not_dialled_plainly_for_another_reason(
    behave: Callable[[Hand], object], autojump_clock: MockClock
) -> None:
    world = World()
    async with listening(world, HAND, behave) as dials, world.node(LEECH, encryption="prefer") as n:  # type: ignore[arg-type]
        await n.get(sample().magnet(HAND))
        await trio.sleep(1)
        assert len(dials) == 1


@pytest.mark.parametrize(
    ("encryption", "way"), [("require", True), ("allow", False), ("off", False)]
)
async def test_there_is_one_way_only_where_the_policy_says_so(
    encryption: EncryptionPolicy, way: bool, autojump_clock: MockClock
) -> None:
    host = Host(mse=False, plain=False)
    async with dialled(host, encryption):
        await trio.sleep(300)
        assert len(host.began) > 2
        assert set(host.ways()) == {way}
        times = [when for when, _ in host.began]
        assert all(b - a >= 1 for a, b in pairwise(times))


@pytest.mark.parametrize(
    ("encryption", "silent", "reason"),
    [
        ("off", False, f"{CLOSED} and may require encryption, which is off here"),
        ("allow", False, f"{CLOSED} and may require encryption"),
        ("prefer", False, CLOSED),
        ("require", False, "1 did not accept the encryption that is required here"),
        ("require", True, "1 did not accept the encryption that is required here"),
        ("prefer", True, "1 accepted the connection and sent nothing"),
    ],
)
async def test_users_are_told_why_there_is_no_connection(
    encryption: EncryptionPolicy, silent: bool, reason: str, autojump_clock: MockClock
) -> None:
    host = Host(mse=False, plain=False)
    host.silent = silent
    async with dialled(host, encryption) as (_, torrent):
        await trio.sleep(17)
        assert f"1 peer known, none connected: {reason};" in (torrent.summary().why or "")


async def test_a_peer_that_closes_both_ways_is_dialled_twice_and_then_rests(
    autojump_clock: MockClock,
) -> None:
    host = Host(mse=False, plain=False)
    async with dialled(host, "prefer"):
        await trio.sleep(1)
        assert host.ways() == [True, False]
        await trio.sleep(3600)
        assert len(host.began) <= 26  # as seldom as any other (test_redial), twice each time


async def test_a_node_that_ends_while_it_shakes_hands_leaves_no_connection(
    autojump_clock: MockClock,
) -> None:
    world, host = World(), Host(mse=False)
    host.silent = True
    async with dialled(host, "prefer", world) as (node, torrent):
        await trio.sleep(0.1)
        await node.remove(torrent)
        assert len(host.began) == 1
        await trio.sleep(0.1)
        assert list(world.net.host(LEECH).streams) == []


async def test_our_own_address_is_recognized_through_encryption(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with world.node(LEECH, encryption="require") as node:
        torrent = await node.get(sample().magnet(LEECH))
        await trio.sleep(600)
        assert behind(torrent).core.connections.peers == {}
        assert world.net.stats.connections == 1


async def test_a_peer_config_may_be_impatient(autojump_clock: MockClock) -> None:
    host = Host(mse=False)
    host.silent = True
    world = World()
    peer = replace(PeerConfig(), mse_timeout=1.0)
    async with (
        listening(world, HAND, host),
        world.node(LEECH, encryption="prefer", peer=peer) as node,
    ):
        torrent = await node.get(sample().magnet(HAND))
        with trio.fail_after(3):
            await torrent.completed()
