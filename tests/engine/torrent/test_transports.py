"""Nodes that connect over TCP, uTP or both."""

from __future__ import annotations

import contextlib
import gc
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dht_torrent import Config, open_node
from dht_torrent.config import HolepunchConfig, UtpConfig
from dht_torrent.engine.torrent.dialling import DialError, dial
from dht_torrent.engine.torrent.torrent import Torrent, behind
from dht_torrent.errors import InputError
from dht_torrent.ids import Address, PeerId, Transport
from dht_torrent.peer.pex import PexFlags
from dht_torrent.torrent.ways import Ways
from dht_torrent.trace import PeerConnected
from tests.helpers.engine import HAND, LEECH, PORT, SEED, World, content, sample

ME = PeerId(b"-HW0001-over-utp-now")
OPTIONS: dict[str, dict[str, Any]] = {
    "tcp": {"utp": UtpConfig(enabled=False)},
    "utp": {"tcp": False, "utp": UtpConfig()},
    "both": {"utp": UtpConfig()},
}
RESULT = {
    ("tcp", "utp"): None,
    ("utp", "tcp"): None,
    ("utp", "both"): "utp",
    ("both", "utp"): "utp",
    ("utp", "utp"): "utp",
}
"""TCP in all other cases."""


def candidates(torrent: Torrent) -> Any:
    return behind(torrent).core.connections.candidates


@pytest.mark.parametrize("theirs", OPTIONS)
@pytest.mark.parametrize("ours", OPTIONS)
async def test_two_nodes_connect_over_what_both_have(
    ours: str, theirs: str, autojump_clock: MockClock
) -> None:
    world, one = World(latency=0.02), sample()
    async with (
        world.seed(one, **OPTIONS[theirs]) as seed,
        world.node(LEECH, **OPTIONS[ours]) as node,
    ):
        torrent = await node.get(one.magnet(SEED))
        expected = RESULT.get((ours, theirs), "tcp")
        if expected is None:
            await trio.sleep(60)
            assert torrent.peers() == seed.peers() == []
            assert torrent.state == "metadata"
            return
        with trio.fail_after(30):
            await torrent.completed()
        (info,), (their_info,) = torrent.peers(), seed.peers()
        assert info.transport == their_info.transport == expected
        assert node.status().peers_by_transport == {expected: 1}
        assert content(world.storages[LEECH], len(one.data)) == one.data
        address = Address(SEED, PORT)
        ways = Ways(False, Transport(expected), speaks_utp=expected == "utp")
        assert candidates(torrent).ways(address) == ways


@pytest.mark.parametrize("encryption", ["prefer", "require"])
@pytest.mark.parametrize(
    "network", [{"latency": 0.02, "loss": 0.02}, {"latency": (0.01, 0.03), "reordering": 0.1}]
)
async def test_encrypted_payload_in_both_directions_over_a_network_that_loses(
    network: dict[str, Any], encryption: Any, autojump_clock: MockClock
) -> None:
    """Each of the two has what the other lacks."""
    world, one = World(**network), sample(2 << 20)
    half = len(one.data) // 2
    for ip, start in ((SEED, 0), (LEECH, half)):
        world.storage(ip, one.metainfo).write(start, one.data[start : start + half])
    options = {**OPTIONS["utp"], "encryption": encryption}
    async with world.node(SEED, **options) as there, world.node(LEECH, **options) as here:
        other = await there.get(one.metainfo)
        torrent = await here.get(one.metainfo)
        behind(torrent).core.connections.found([Address(SEED, PORT)], "magnet")
        with trio.fail_after(120):
            await torrent.completed()
            await other.completed()
        assert content(world.storages[LEECH], len(one.data)) == one.data
        assert content(world.storages[SEED], len(one.data)) == one.data
        (info,) = torrent.peers()
        assert info.encryption == {"prefer": "mse", "require": "rc4"}[encryption]


async def test_nodes_find_each_other_and_share_without_any_tcp(autojump_clock: MockClock) -> None:
    world, one = World(latency=0.01), sample()
    async with (
        world.node(HAND, **OPTIONS["utp"]),
        world.seed(one, bootstrap=[HAND], **OPTIONS["utp"]),
        world.node(LEECH, bootstrap=[HAND], **OPTIONS["utp"]) as node,
    ):
        torrent = await node.get(one.magnet())
        with trio.fail_after(300):
            await torrent.completed()
        (info,) = torrent.peers()
        assert (info.transport, info.source) == ("utp", "dht")
    assert world.net.stats.connections == world.net.stats.refused == 0


@pytest.mark.parametrize(("up", "down"), [(100_000, None), (None, 100_000)])
async def test_limits_count_utp_too(
    up: int | None, down: int | None, autojump_clock: MockClock
) -> None:
    world, one = World(latency=0.01), sample(2 << 20)
    async with (
        world.seed(one, **{**OPTIONS["utp"], "limit_up": up}),
        world.node(LEECH, **{**OPTIONS["utp"], "limit_down": down}) as node,
    ):
        torrent = await node.get(one.magnet(SEED))
        await trio.sleep(2)
        before = torrent.summary().downloaded
        await trio.sleep(10)
        assert torrent.summary().downloaded - before == pytest.approx(1_000_000, rel=0.05)


async def test_peers_tell_each_other_who_speaks_utp(autojump_clock: MockClock) -> None:
    """And use it: whoever is known to is dialled over uTP sooner."""
    world, one = World(latency=0.01), sample()
    async with (
        # Or it would tell of those who came to it, too.
        world.seed(one, **OPTIONS["utp"], holepunch=HolepunchConfig(enabled=False)),
        world.node(HAND, **OPTIONS["both"]) as middle,
        world.node(LEECH, **OPTIONS["both"]) as node,
    ):
        known = await middle.get(one.magnet(SEED))
        with trio.fail_after(30):
            await known.completed()
        flags = behind(known).core.connections.peers
        assert [peer.stream.transport for peer in flags.values()] == ["utp"]
        torrent = await node.get(one.magnet(HAND))
        with trio.fail_after(120):
            while len(torrent.peers()) < 2:
                await trio.sleep(0.1)
        assert candidates(torrent).ways(Address(SEED, PORT)).speaks_utp
        assert not candidates(torrent).ways(Address(HAND, PORT)).speaks_utp
        assert {info.address: info.transport for info in torrent.peers()} == {
            f"{SEED}:{PORT}": "utp",
            f"{HAND}:{PORT}": "tcp",
        }


def test_the_flag_is_the_one_of_all_clients() -> None:
    assert PexFlags(4) is PexFlags.UTP


async def test_a_peer_that_came_by_utp_is_known_to_speak_it(autojump_clock: MockClock) -> None:
    world, one = World(latency=0.01), sample()
    async with (
        world.seed(one, **OPTIONS["both"]) as seed,
        world.node(LEECH, **OPTIONS["utp"]) as node,
    ):
        torrent = await node.get(one.magnet(SEED))
        with trio.fail_after(30):
            await torrent.completed()
        assert candidates(seed).ways(Address(LEECH, PORT)).speaks_utp


async def test_a_peer_that_hangs_up_on_tcp_is_tried_over_utp_the_next_time(
    autojump_clock: MockClock,
) -> None:
    """As where something between us answers in its place."""
    world, one = World(latency=0.01), sample()
    listener = await world.net.host(SEED).listen(Address(SEED, PORT))
    hung_up = 0

    async def hang_up() -> None:
        nonlocal hung_up
        while True:
            (await listener.accept()).close()
            hung_up += 1

    async with (
        trio.open_nursery() as nursery,
        world.seed(one, **OPTIONS["utp"]),
        world.node(LEECH, **OPTIONS["both"]) as node,
    ):
        nursery.start_soon(hang_up)
        torrent = await node.get(one.magnet(SEED))
        with trio.fail_after(30):
            await torrent.completed()
        assert hung_up == 1
        nursery.cancel_scope.cancel()
    listener.close()


async def test_a_peer_may_be_dialled_over_utp_alone_and_at_once(
    autojump_clock: MockClock,
) -> None:
    """Whatever is known of it: a hole in a NAT is there for a moment, and for UDP."""
    world, one = World(latency=0.01), sample()
    async with (
        world.seed(one, **OPTIONS["both"]) as seed,
        world.node(LEECH, **OPTIONS["both"]) as node,
    ):
        torrent = behind(await node.get(one.magnet())).core.context
        began, known = trio.current_time(), Ways(transport=Transport.TCP)
        for over in Transport:
            dialled = await dial(torrent, Address(SEED, PORT), ME, known, only=over)
            assert dialled.new.stream.transport is over
            assert dialled.new.stream.remote == Address(SEED, PORT)
            dialled.new.stream.close()
        assert trio.current_time() - began < 0.2
        with pytest.raises(DialError) as error:
            await dial(torrent, Address(HAND, PORT), ME, known, only=Transport.UTP)
        assert error.value.over is None
    assert seed.id == one.metainfo.info_hash.hex()


async def test_when_a_node_ends_its_peers_know_at_once(autojump_clock: MockClock) -> None:
    world, one = World(latency=0.01), sample()
    async with world.seed(one, **OPTIONS["utp"]) as seed:
        async with world.node(LEECH, **OPTIONS["utp"]) as node:
            torrent = await node.get(one.magnet(SEED))
            with trio.fail_after(30):
                await torrent.completed()
            assert len(seed.peers()) == 1
        await trio.sleep(0.1)
        assert seed.peers() == []


async def test_a_paused_torrent_leaves_no_connection_behind(autojump_clock: MockClock) -> None:
    world, one = World(latency=0.01), sample()
    world.storage(SEED, one.metainfo).write(0, one.data)
    async with (
        world.node(SEED, **OPTIONS["utp"]) as seeding,
        world.node(LEECH, **OPTIONS["utp"]) as node,
    ):
        seed = await seeding.get(one.metainfo)
        torrent = await node.get(one.magnet(SEED))
        with trio.fail_after(30):
            await torrent.completed()
        await torrent.pause()
        await trio.sleep(30)
        assert seed.peers() == torrent.peers() == []
        assert [sum(map(len, each._context.utp)) for each in (node, seeding)] == [0, 0]


@contextlib.contextmanager
def no_descriptor_leaks() -> Iterator[None]:
    gc.collect()
    before = len(list(Path("/proc/self/fd").iterdir()))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        yield
        gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc")
async def test_real_nodes_share_over_utp_and_leave_nothing_open(tmp_path: Path) -> None:
    data = os.urandom(5_000_000)
    (tmp_path / "film.bin").write_bytes(data)
    plain = {"bootstrap": (), "listen": "127.0.0.1:0", "tcp": False, "fail_fast": True}
    with no_descriptor_leaks():
        async with open_node(Config(**plain)) as one, open_node(Config(**plain)) as other:  # type: ignore[arg-type]
            shared = await one.share(tmp_path / "film.bin")
            link = f"{shared.summary().magnet}&x.pe={one.address}"
            torrent = await other.get(link, output=tmp_path / "got")
            with trio.fail_after(30):
                await torrent.completed()
            assert (tmp_path / "got" / "film.bin").read_bytes() == data
            assert other.status().peers_by_transport == {"utp": 1}
            with pytest.raises(OSError):
                await trio.open_tcp_stream(one.address.host, one.address.port)


@pytest.mark.parametrize(("host", "reachable"), [(SEED, None), (HAND, True)])
async def test_who_comes_from_this_machine_does_not_show_that_others_can(
    host: str, reachable: bool | None, autojump_clock: MockClock
) -> None:
    """A socket that is bound to no address in particular does not tell at which one it was
    reached."""
    world, one = World(latency=0.01), sample()
    world.net.lan("ours", SEED, HAND)
    world.storage(SEED, one.metainfo).write(0, one.data)
    async with world.node(SEED, listen=f"0.0.0.0:{PORT}", **OPTIONS["utp"]) as seeding:
        await seeding.get(one.metainfo)
        world._seed += 1  # or two nodes of one host would be the same
        async with world.node(host, listen=f"{host}:{PORT + 1}", **OPTIONS["utp"]) as node:
            await node.get(one.magnet(SEED))
            await trio.sleep(5)
        assert any(record.incoming for record in world.records.of(PeerConnected))
        assert seeding.status().reachable is reachable


# -- what cannot be ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (Config(tcp=False, utp=UtpConfig(enabled=False)), "TCP and uTP are both off"),
        (Config(tcp=False, tls_listen="127.0.0.1:0"), "TLS when TCP is off"),
    ],
)
async def test_a_node_that_could_reach_nobody_says_so(config: Config, words: str) -> None:
    with pytest.raises(InputError, match=words):
        async with open_node(config):
            pass
