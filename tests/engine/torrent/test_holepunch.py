"""Holepunching (BEP 55): two peers behind routers, and a relay outside."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dht_torrent import Node, PeerInfo
from dht_torrent.config import UtpConfig
from dht_torrent.engine.torrent.torrent import Torrent
from dht_torrent.ids import HostPort
from dht_torrent.lab.net.nat import Nat
from tests.helpers.engine import PORT, World, sample

RELAY, HOME, OTHER = "20.0.0.1", "20.1.0.1", "20.2.0.1"
FILM = sample()
CONE, SHIFTING, SYMMETRIC = Nat, lambda: Nat(shift=100), lambda: Nat(symmetric=True)
OPEN: Callable[[], None] = lambda: None  # noqa: E731 - as the others
TCP_TOO: dict[str, Any] = {"utp": UtpConfig()}
UTP: dict[str, Any] = {"utp": UtpConfig(), "tcp": False}


@dataclass
class Meeting:
    """Two that are to meet, and the third one, which knows both."""

    world: World
    relay: Node
    one: Node
    other: Node
    here: Torrent
    there: Torrent

    def met(self) -> PeerInfo | None:
        """The connection between the two, as the first one sees it."""
        for info in self.here.peers():
            if info.address.startswith(OTHER):
                return info
        return None

    async def meets(self, seconds: float = 120.0) -> PeerInfo:
        with trio.fail_after(seconds):
            while (found := self.met()) is None:
                await trio.sleep(0.25)
        return found


@contextlib.asynccontextmanager
async def meeting(
    one: Callable[[], Nat | None],
    other: Callable[[], Nat | None],
    seed: int = 1,
    *,
    options: dict[str, Any] = TCP_TOO,
    network: dict[str, Any] | None = None,
    relay_options: dict[str, Any] | None = None,
) -> AsyncIterator[Meeting]:
    world = World(seed=seed, **(network or {"latency": (0.02, 0.08)}))
    for ip, nat in ((HOME, one()), (OTHER, other())):
        world.net.host(ip).nat = nat
    async with (
        world.node(RELAY, **{**options, **(relay_options or {})}) as relay,
        world.node(HOME, **options) as home,
        world.node(OTHER, **options) as away,
    ):
        await relay.get(FILM.metainfo)
        torrents = []
        for node in (home, away):
            torrent = await node.get(FILM.metainfo)
            torrent.add_peers([HostPort(RELAY, PORT)])
            torrents.append(torrent)
        yield Meeting(world, relay, home, away, *torrents)


@pytest.mark.parametrize("options", [TCP_TOO, UTP], ids=["both", "utp"])
async def test_two_behind_cones_meet_with_the_help_of_a_third(
    options: dict[str, Any], autojump_clock: MockClock
) -> None:
    async with meeting(CONE, CONE, options=options) as them:
        info = await them.meets()
        assert info.transport == "utp"
        assert info.punched
        assert "H" in info.flags
        (theirs,) = [peer for peer in them.there.peers() if peer.address.startswith(HOME)]
        assert theirs.punched
        await trio.sleep(60)
        assert them.met() is not None
