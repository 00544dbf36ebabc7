"""Whole transfers between our nodes and aria2 and Transmission, by an infohash alone.

Each in a network namespace of its own, found through a DHT of our nodes; 200 MB, compared.
"""

from __future__ import annotations

import filecmp
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from dht_torrent import Node
from tests.helpers.clients import (
    OURS,
    aria2,
    open_transmission,
    own_network,
    running,
    transmission,
)
from tests.helpers.content import MIB, make_file
from tests.helpers.libtorrent_peer import create, magnet_of
from tests.helpers.nodes import announced, local_nodes

SIZE = 200_000_000
PIECE = MIB
NODES = 12
"""Transmission looks for nobody before it knows nine of them, and four have answered."""

# With --dist loadgroup: two at once would only wait for each other.
pytestmark = pytest.mark.xdist_group("whole clients")


@pytest.fixture
def network() -> Iterator[None]:
    with own_network():
        yield


@asynccontextmanager
async def our_nodes(folder: Path) -> AsyncIterator[list[Node]]:
    async with local_nodes(NODES, folder, listen=f"{OURS}:0") as nodes:
        yield nodes


@pytest.fixture
def content(tmp_path: Path) -> Path:
    return make_file(tmp_path / "seed" / "film.bin", SIZE)


async def test_aria2_fetches_from_us(network: None, content: Path, tmp_path: Path) -> None:
    async with our_nodes(tmp_path / "nodes") as nodes:
        shared = await nodes[1].share(content, piece_length=PIECE)
        await announced(nodes)
        magnet = f"magnet:?xt=urn:btih:{shared.id}"
        command = aria2(tmp_path / "got", magnet, nodes[0].address, seed=False)
        async with running(command, tmp_path / "aria2") as process:
            with trio.fail_after(90):
                assert await process.wait() == 0
        assert filecmp.cmp(content, tmp_path / "got" / "film.bin", shallow=False)


async def test_we_fetch_from_aria2(network: None, content: Path, tmp_path: Path) -> None:
    torrent = tmp_path / "film.torrent"
    torrent.write_bytes(create(content, PIECE))
    async with our_nodes(tmp_path / "nodes") as nodes:
        command = aria2(content.parent, str(torrent), nodes[0].address, seed=True)
        async with running(command, tmp_path / "aria2"):
            with trio.fail_after(90):
                await announced(nodes)
                got = await nodes[2].get(magnet_of(torrent.read_bytes()))
                path = await got.completed()
        assert filecmp.cmp(content, path, shallow=False)
        assert got.summary().wasted < SIZE / 100


async def test_transmission_fetches_from_us(network: None, content: Path, tmp_path: Path) -> None:
    async with our_nodes(tmp_path / "nodes") as nodes:
        shared = await nodes[1].share(content, piece_length=PIECE)
        await announced(nodes)
        command = transmission(tmp_path / "state", [node.address for node in nodes])
        async with open_transmission(command, tmp_path / "transmission") as daemon:
            with trio.fail_after(90):
                await daemon.add(f"magnet:?xt=urn:btih:{shared.id}", tmp_path / "got")
                await daemon.until(1.0)
        assert filecmp.cmp(content, tmp_path / "got" / "film.bin", shallow=False)


async def test_we_fetch_from_transmission(network: None, content: Path, tmp_path: Path) -> None:
    torrent = tmp_path / "film.torrent"
    torrent.write_bytes(create(content, PIECE))
    async with our_nodes(tmp_path / "nodes") as nodes:
        command = transmission(tmp_path / "state", [node.address for node in nodes])
        async with open_transmission(command, tmp_path / "transmission") as daemon:
            with trio.fail_after(90):
                got = await nodes[2].get(magnet_of(torrent.read_bytes()))
                await announced(nodes)  # its own announce comes 5 to 15 s after it has found ours
                await daemon.add(torrent, content.parent)
                path = await got.completed()
        assert filecmp.cmp(content, path, shallow=False)
        assert got.summary().wasted < SIZE / 100
