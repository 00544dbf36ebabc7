"""Whole transfers from aria2, by an infohash alone.

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
    own_network,
    running,
)
from tests.helpers.content import MIB, make_file
from tests.helpers.libtorrent_peer import create, magnet_of
from tests.helpers.nodes import announced, local_nodes

SIZE = 200_000_000
PIECE = MIB
NODES = 6

pytestmark = pytest.mark.xdist_group("whole clients")  # two at once would only wait for each other


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


async def test_we_fetch_from_aria2(network: None, content: Path, tmp_path: Path) -> None:
    torrent = tmp_path / "film.torrent"
    torrent.write_bytes(create(content, PIECE))
    async with our_nodes(tmp_path / "nodes") as nodes:
        command = aria2(content.parent, str(torrent), nodes[0].address, seed=True)
        async with running(command, tmp_path / "aria2"):
            with trio.fail_after(60):
                await announced(nodes)
                got = await nodes[2].get(magnet_of(torrent.read_bytes()))
                path = await got.completed()
        assert filecmp.cmp(content, path, shallow=False)
        assert got.summary().wasted < SIZE / 100
