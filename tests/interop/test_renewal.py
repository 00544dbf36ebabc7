"""A node whose network goes, comes back or is another one, with real sockets: on a cable between
two network namespaces.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio

from dht_torrent import Config, Torrent, open_node
from tests.helpers.waiting import until
from tests.interop.friends import PORT, friend
from tests.interop.namespaces import Space, cable, spaces

FRIEND = "10.91.0.2"

pytestmark = pytest.mark.xdist_group("network namespaces")


@pytest.fixture
def world() -> Iterator[tuple[Space, Space]]:
    with spaces(2) as (ours, friends):
        cable([(ours, "cable", ["10.91.0.1/24"]), (friends, "cable", [f"{FRIEND}/24"])])
        yield ours, friends


@contextlib.asynccontextmanager
async def downloading(friends: Space, folder: Path) -> AsyncIterator[Torrent]:
    """In the middle of it."""
    async with friend(friends, folder / "friend", [4_000_000], lsd=False) as (magnets, _):
        config = Config(
            bootstrap=(f"{FRIEND}:{PORT}",),
            listen=f"0.0.0.0:{PORT}",
            download_dir=folder,
            fail_fast=True,
        )
        async with open_node(config) as node:
            torrent = await node.get(magnets[0])
            torrent.set_limits(down=200_000)
            await until(lambda: torrent.progress > 0.05, "it comes")
            yield torrent


async def seconds_until_bytes_flow(torrent: Torrent) -> float:
    began, before = trio.current_time(), torrent.downloaded
    await until(lambda: torrent.downloaded > before, "bytes flow", 30)
    return trio.current_time() - began


async def test_with_another_address_bytes_flow_within_seconds(
    world: tuple[Space, Space], tmp_path: Path
) -> None:
    ours, friends = world
    with trio.fail_after(60):
        async with downloading(friends, tmp_path) as torrent:
            ours.ip("address", "delete", "10.91.0.1/24", "dev", "cable")
            await until(lambda: not torrent.peers(), "the connection is closed", 5)
            ours.ip("address", "add", "10.91.0.7/24", "dev", "cable")
            assert await seconds_until_bytes_flow(torrent) < 10


async def test_when_the_line_was_away_bytes_flow_within_seconds(
    world: tuple[Space, Space], tmp_path: Path
) -> None:
    ours, friends = world
    with trio.fail_after(60):
        async with downloading(friends, tmp_path) as torrent:
            ours.ip("link", "set", "cable", "down")
            await until(lambda: not torrent.peers(), "the connection is closed", 5)
            ours.ip("link", "set", "cable", "up")
            assert await seconds_until_bytes_flow(torrent) < 10
