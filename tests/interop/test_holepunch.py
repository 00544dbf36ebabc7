"""Holepunching through real NAT: two peers behind two routers, and a relay outside that gives them
nothing of the content.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from dht_torrent import Config, HostPort, Node, PeerInfo, Torrent, open_node
from dht_torrent.ids import parse_host_port
from tests.helpers.clients import running
from tests.helpers.content import KIB, make_file
from tests.helpers.raw_peer import single_file_info
from tests.helpers.waiting import until
from tests.interop.namespaces import Space
from tests.interop.two_homes import CONE, RELAY, SYMMETRIC, THEIRS, two_homes

SWARM = Path(__file__).with_name("swarm_process.py")
LIBTORRENT = Path(__file__).with_name("libtorrent_process.py")
SIZE = 600_001
NOTHING = 1000
"""Bytes a second: so little that nothing is passed on."""

pytestmark = pytest.mark.xdist_group("network namespaces")


def make_torrent(folder: Path) -> tuple[Path, Path]:
    """A .torrent file, and its content."""
    content = make_file(folder / "seed" / "film.bin", SIZE)
    info = single_file_info("film.bin", content.read_bytes(), 64 * KIB)
    torrent = folder / "film.torrent"
    torrent.write_bytes(b"d4:info" + info + b"e")
    return torrent, content


@contextlib.asynccontextmanager
async def elsewhere(
    where: Space, folder: Path, torrent: Path, limit: int, *peers: str, tcp: bool = True
) -> AsyncIterator[Path]:
    """A node of the swarm in another namespace. Yields the file in which it says what it does."""
    await trio.Path(folder).mkdir()
    command = [sys.executable, str(SWARM), str(folder), str(torrent), str(limit)]
    command += ["yes" if tcp else "no", *peers]
    log = folder.with_suffix(".log")
    async with running(where.command(command), log):
        await until(lambda: "ready" in log.read_text(), "it runs")
        yield log


@contextlib.asynccontextmanager
async def a_libtorrent(where: Space, folder: Path, torrent: Path) -> AsyncIterator[None]:
    """One that passes nothing on, in another namespace."""
    await trio.Path(folder).mkdir()
    command = [sys.executable, str(LIBTORRENT), str(folder), str(torrent), str(NOTHING)]
    log = folder.with_suffix(".log")
    async with running(where.command(command), log):
        await until(lambda: "ready" in log.read_text(), "it runs")
        yield


@contextlib.asynccontextmanager
async def our_seed(
    torrent: Path, content: Path, *, tcp: bool = True
) -> AsyncIterator[tuple[Node, Torrent]]:
    config = Config(
        bootstrap=(),
        listen="0.0.0.0:6881",
        download_dir=content.parent,
        tcp=tcp,
        fail_fast=True,
    )
    async with open_node(config) as node:
        seeding = await node.get(torrent)
        await seeding.completed()
        yield node, seeding


def met(seeding: Torrent) -> list[PeerInfo]:
    """Connections with the other home."""
    return [one for one in seeding.peers() if parse_host_port(one.address).host == THEIRS]


async def test_two_behind_port_restricted_cones_meet_and_exchange(tmp_path: Path) -> None:
    torrent, content = make_torrent(tmp_path)
    with two_homes() as homes, trio.fail_after(30):
        async with (
            elsewhere(homes.relay, tmp_path / "relay", torrent, NOTHING) as relay,
            our_seed(torrent, content) as (node, seeding),
        ):
            seeding.add_peers([HostPort(RELAY, 6881)])
            await until(lambda: len(seeding.peers()) == 1, "we know the relay")
            async with elsewhere(homes.theirs, tmp_path / "got", torrent, 0, RELAY) as log:
                await until(lambda: met(seeding), "the two are connected")
                info, *_ = met(seeding)  # both dial, so there may be two for a moment
                assert info.transport == "utp"
                assert info.punched
                await until(lambda: "fetched" in log.read_text(), "they have the file")
                told = node.status().holepunch
                assert told is not None
                assert (told.reached, told.trouble) == (1, None)
            assert "fetched" not in relay.read_text()
    assert (tmp_path / "got" / "film.bin").read_bytes() == content.read_bytes()


async def test_a_libtorrent_introduces_two_who_came_to_it_by_utp(tmp_path: Path) -> None:
    """It looks for who is asked for, and tells of who asks, by where their connections come from:
    of those that came by TCP that is a port where nobody answers a SYN of uTP."""
    torrent, content = make_torrent(tmp_path)
    with two_homes() as homes, trio.fail_after(60):
        async with (
            a_libtorrent(homes.relay, tmp_path / "relay", torrent),
            our_seed(torrent, content, tcp=False) as (node, seeding),
        ):
            # It listens on each interface by itself, and is met at the one that leads to a home.
            seeding.add_peers([HostPort("11.1.0.2", 6881)])
            await until(lambda: len(seeding.peers()) == 1, "we know the relay")
            async with elsewhere(
                homes.theirs, tmp_path / "got", torrent, 0, "11.2.0.2", tcp=False
            ) as log:
                await until(lambda: met(seeding), "the two are connected", 45)
                await until(lambda: "fetched" in log.read_text(), "they have the file")
                told = node.status().holepunch
                assert told is not None
                assert told.reached == 1
    assert (tmp_path / "got" / "film.bin").read_bytes() == content.read_bytes()


async def test_who_is_behind_a_symmetric_nat_is_not_met(tmp_path: Path) -> None:
    torrent, content = make_torrent(tmp_path)
    with two_homes(SYMMETRIC, CONE) as homes, trio.fail_after(30):
        async with (
            elsewhere(homes.relay, tmp_path / "relay", torrent, NOTHING),
            our_seed(torrent, content) as (node, seeding),
        ):
            seeding.add_peers([HostPort(RELAY, 6881)])
            await until(lambda: len(seeding.peers()) == 1, "we know the relay")
            async with elsewhere(homes.theirs, tmp_path / "got", torrent, 0, RELAY):
                await until(lambda: tried(node) == 1, "it was tried")
                await trio.sleep(1)
                assert met(seeding) == []


def tried(node: Node) -> int:
    told = node.status().holepunch
    assert told is not None
    return told.tried
