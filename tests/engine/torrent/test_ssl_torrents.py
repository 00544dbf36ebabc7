"""SSL torrents on the fake network: who is let in, and what strangers learn."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.engine.torrent.torrent import Torrent
from tests.helpers.engine import LEECH, SEED, World, content
from tests.helpers.members import Swarm, swarm

TLS_PORT = 6882
ROUTER = "10.0.0.9"


@pytest.fixture
def one(tmp_path: Path) -> Swarm:
    return swarm(tmp_path)


def member(one: Swarm, name: str, **changes: Any) -> dict[str, Any]:
    identity = one.member(name, **changes)
    return {"tls_cert": identity.certificate, "tls_key": identity.key}


@contextlib.asynccontextmanager
async def seeding(
    world: World, one: Swarm, ip: str = SEED, **changes: Any
) -> AsyncIterator[Torrent]:
    world.storage(ip, one.metainfo).write(0, one.sample.data)
    async with world.node(ip, tls_listen=f"{ip}:{TLS_PORT}", **changes) as node:
        torrent = await node.get(one.metainfo, **member(one, "seed"))
        with trio.fail_after(5):
            await torrent.completed()
        yield torrent


def magnet(one: Swarm, *hosts: str, port: int = TLS_PORT) -> str:
    peers = "".join(f"&x.pe={host}:{port}" for host in hosts)
    return f"magnet:?xt=urn:btih:{one.metainfo.info_hash.hex()}{peers}"


async def test_a_bare_magnet_becomes_a_seed_by_tls_alone(
    one: Swarm, autojump_clock: MockClock
) -> None:
    world = World()
    async with seeding(world, one) as seed, world.node(LEECH) as node:
        torrent = await node.get(magnet(one, SEED), **member(one, "leech"))
        with trio.fail_after(10):
            await torrent.completed()
        assert content(world.storages[LEECH], len(one.sample.data)) == one.sample.data
        assert [peer.encryption for peer in seed.peers()] == ["tls"]
        assert [peer.encryption for peer in torrent.peers()] == ["tls"]
