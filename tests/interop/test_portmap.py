"""Through a real router: miniupnpd, over nftables, between network namespaces. Whoever is outside
comes in through a mapping or not at all.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from dht_torrent import Config, Node, PortMapConfig, open_node
from dht_torrent.engine.views import MappedPort
from dht_torrent.portmap.ports import IpProtocol, LocalPort
from tests.helpers.clients import running
from tests.helpers.content import KIB, differences, make_file
from tests.helpers.waiting import until
from tests.interop.routers import HOME, OUTER, OUTSIDE, Router, home

FRIEND = Path(__file__).with_name("friend_process.py")
WAYS = ["PCP", "NAT-PMP", "UPnP"]
SIZE = 300_001
QUICK = PortMapConfig(
    pcp_patience=1.0, natpmp_patience=1.0, look_interval=0.2, check_interval=1.0, upnp_discovery=1.0
)

pytestmark = pytest.mark.xdist_group("network namespaces")


@pytest.fixture
def router(tmp_path: Path) -> Iterator[Router]:
    with home(tmp_path) as made:
        yield made


@contextlib.asynccontextmanager
async def our_node(folder: Path, limits: PortMapConfig = QUICK) -> AsyncIterator[Node]:
    config = Config(
        bootstrap=(),
        listen="0.0.0.0:6881",
        download_dir=folder,
        port_mapping=True,
        port_map_limits=limits,
        fail_fast=True,
    )
    async with open_node(config) as node:
        yield node


def mapped(node: Node) -> Sequence[MappedPort]:
    told = node.status().port_mapping
    assert told is not None
    return told.mapped


async def is_mapped(node: Node, seconds: float = 15.0) -> Sequence[MappedPort]:
    await until(lambda: len(mapped(node)) == 2, "both ports are mapped", seconds)
    return mapped(node)


def ways(of: str) -> list[str]:
    """What a router speaks of which `of` is to be used."""
    return {"PCP": WAYS, "NAT-PMP": ["NAT-PMP", "UPnP"], "UPnP": ["UPnP"]}[of]


@pytest.mark.parametrize("way", WAYS)
async def test_a_peer_outside_fetches_from_us_through_the_mapping(
    router: Router, way: str, tmp_path: Path
) -> None:
    content = make_file(tmp_path / "seed" / "film.bin", SIZE)
    friend = tmp_path / "friend"
    (friend / "share").mkdir(parents=True)
    with trio.fail_after(30):
        async with router.on(speaks=ways(way)):
            if way == "PCP":  # so that we get another port than ours
                await until(lambda: router.occupies(LocalPort(IpProtocol.TCP, 6881)), "it answers")
            async with our_node(tmp_path / "node") as node:
                shared = await node.share(content, piece_length=64 * KIB)
                outside = {one.protocol: one for one in await is_mapped(node)}
                assert {one.by for one in outside.values()} == {way}
                assert outside["tcp"].external.startswith(f"{OUTER}:")
                assert (outside["tcp"].external == f"{OUTER}:6881") == (way != "PCP")
                assert node.status().reachable is None
                await nobody_comes_in(router, 6999)
                command = [
                    *(sys.executable, str(FRIEND), str(friend), f"{OUTSIDE}:7000", "nolsd"),
                    *(outside["udp"].external, f"{shared.magnet}&x.pe={outside['tcp'].external}"),
                ]
                async with running(router.outside.command(command), tmp_path / "friend.log"):
                    got = friend / "got" / "film.bin"
                    await until(lambda: node.status().reachable, "somebody came in")
                    await until(
                        lambda: got.is_file() and not differences(content, got), "it has the file"
                    )
                assert router.lets_in()
            assert router.lets_in() == []


async def nobody_comes_in(router: Router, port: int) -> None:
    with router.dial() as sock, trio.move_on_after(0.3) as patience:
        ours = trio.socket.from_stdlib_socket(sock)
        await ours.connect((OUTER, port))
    assert patience.cancelled_caught


async def comes_in(router: Router, external: str) -> bool:
    host, _, port = external.rpartition(":")
    with router.dial() as sock, trio.move_on_after(1.0):
        ours = trio.socket.from_stdlib_socket(sock)
        await ours.connect((host, int(port)))
        return True
    return False


@pytest.mark.parametrize("way", WAYS)
async def test_mappings_are_renewed_and_taken_away_at_the_end(
    router: Router, way: str, tmp_path: Path
) -> None:
    # miniupnpd takes away what was not renewed.
    limits = replace(QUICK, lifetime=4, min_renewal=1.0)
    with trio.fail_after(30):
        async with router.on(speaks=ways(way)):
            async with our_node(tmp_path / "node", limits) as node:
                (tcp, _) = await is_mapped(node)
                assert 0 < (tcp.expires_in or 0) <= 4
                ends = trio.current_time() + 6
                while trio.current_time() < ends:
                    await trio.sleep(0.5)
                    # A rule that is renewed is taken away and made anew: for a moment it is absent.
                    await until(lambda: len(router.lets_in()) == 2, "both rules are there", 1.0)
                    assert len(mapped(node)) == 2
                assert await comes_in(router, tcp.external)
            assert router.lets_in() == []
            assert not await comes_in(router, tcp.external)


@pytest.mark.parametrize("way", WAYS)
async def test_a_router_that_restarts_lets_us_in_again(
    router: Router, way: str, tmp_path: Path
) -> None:
    with trio.fail_after(30):
        async with our_node(tmp_path / "node", replace(QUICK, retry=1.0)) as node:
            async with router.on(speaks=ways(way)):
                await is_mapped(node)
                await trio.sleep(3)  # or nobody could tell by what it counts
            async with router.on(speaks=ways(way)):
                assert router.lets_in() == []
                await until(lambda: len(router.lets_in()) == 2, "both are mapped again")
                (tcp, _) = await is_mapped(node)
                # One that speaks PCP speaks NAT-PMP, which may be tried just when it is back.
                assert tcp.by in {way, "NAT-PMP" if way == "PCP" else way}
                assert await comes_in(router, tcp.external)


async def test_a_router_that_vanishes_delays_nothing(router: Router, tmp_path: Path) -> None:
    with trio.fail_after(20):
        async with our_node(tmp_path / "node") as node:
            async with router.on():
                await is_mapped(node)
            ended = trio.current_time()
        assert trio.current_time() - ended < 4


async def test_without_a_router_that_maps_it_is_said_why(router: Router, tmp_path: Path) -> None:
    with trio.fail_after(20):
        async with our_node(tmp_path / "node") as node:
            await until(
                lambda: "maps no port" in str(node.status().reachable_why), "it is given up"
            )
            told = node.status()
            assert told.reachable is None
            assert told.reachable_why is not None
            assert "PCP: no answer; NAT-PMP: no answer; UPnP: " in told.reachable_why
            assert HOME not in told.reachable_why


async def test_dhtnode_tells_where_the_router_lets_peers_in(router: Router, tmp_path: Path) -> None:
    dhtnode = [sys.executable, "-m", "dht_torrent", "--state-dir", str(tmp_path / "state")]
    options = ["--listen", "0.0.0.0:6881", "--bootstrap", "none", "--no-lsd"]
    # This thread is at home, and so is what it starts.
    with trio.fail_after(30):
        async with (
            router.on(),
            running([*dhtnode, *options, "--download-dir", str(tmp_path)], tmp_path / "node.log"),
        ):
            shown = ""
            while shown.count("mapped:") < 2:
                done = await trio.run_process(
                    [*dhtnode, "status"], capture_stdout=True, capture_stderr=True, check=False
                )
                shown = done.stdout.decode()
            lines = shown.splitlines()
            assert any(
                line.startswith(f"mapped:    TCP {OUTER}:6881 by PCP, for ") for line in lines
            )
            assert any(
                line.startswith(f"mapped:    UDP {OUTER}:6881 by PCP, for ") for line in lines
            )
            (reachable,) = [line for line in lines if line.startswith("reachable:")]
            assert f"which the router lets in at {OUTER}:6881" in reachable
