"""With `--interface` no packet goes any other way: seen by a look at every packet of the interface
that the routes prefer. On cables between network namespaces.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio

from dht_torrent import Config, Node, open_node
from dht_torrent.engine.net import names
from tests.helpers.content import KIB, differences, make_file
from tests.helpers.waiting import until
from tests.interop.friends import PORT, friend
from tests.interop.namespaces import Space, Tap, cable, is_of_programs, spaces, text_of

INNER, OUTER = "inner", "outer"
FRIEND, FRIEND6 = "10.91.0.2", "fd91::2"
OUTSIDE = "10.92.0.2"
FAR = "198.51.100.7"

pytestmark = pytest.mark.xdist_group("network namespaces")


def plug_in(ours: Space, friends: Space, host: str, host6: str) -> None:
    cable(
        [
            (ours, INNER, [f"{host}/24", f"{host6}/64"]),
            (friends, "cable", [f"{FRIEND}/24", f"{FRIEND6}/64"]),
        ]
    )
    # What is not tied to the interface goes the other way, also to friends.
    ours.ip("route", "replace", f"{FRIEND}/32", "via", OUTSIDE, "dev", OUTER)
    ours.ip("route", "replace", f"{FRIEND6}/128", "via", "fd92::2", "dev", OUTER)


@pytest.fixture
def world() -> Iterator[tuple[Space, Space]]:
    """Our namespace and that of friends, which can be reached through `INNER`. All routes lead
    through `OUTER`."""
    with spaces(3) as (ours, friends, outside):
        cable(
            [
                (ours, OUTER, ["10.92.0.1/24", "fd92::1/64"]),
                (outside, "cable", [f"{OUTSIDE}/24", "fd92::2/64"]),
            ]
        )
        ours.ip("route", "add", "default", "via", OUTSIDE, "dev", OUTER)
        ours.ip("route", "add", "default", "via", "fd92::2", "dev", OUTER)
        plug_in(ours, friends, "10.91.0.1", "fd91::1")
        yield ours, friends


@pytest.fixture(autouse=True)
def name_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The one of this machine is outside."""
    file = tmp_path / "resolv.conf"
    file.write_text(f"nameserver {OUTSIDE}\n")
    monkeypatch.setattr(names, "RESOLV_CONF", file)
    monkeypatch.setattr(names, "PATIENCE", 0.5)


@contextlib.asynccontextmanager
async def our_node(
    folder: Path, interface: str | None = INNER, **more: object
) -> AsyncIterator[Node]:
    config = Config(
        bootstrap=(f"{FRIEND}:{PORT}", f"{FAR}:{PORT}", "entry.example:6881"),
        listen=("0.0.0.0:6881", "[::]:6881"),
        interface=interface,
        download_dir=folder / "got",
        lsd=True,
        fail_fast=True,
        **more,  # type: ignore[arg-type]
    )
    async with open_node(config) as node:
        yield node


def leaks(tap: Tap) -> list[str]:
    """Ask while the node runs: what comes for one that has ended is answered by Linux, with a reset
    that goes as the routes lead."""
    return [text_of(packet) for packet in tap.packets() if is_of_programs(packet)]


@pytest.mark.parametrize(
    ("group", "is_ours"),
    [
        ("ff15::efc0:988f", True),
        ("ff05::c", True),
        ("ff02::1:ff15:d4cf", False),
        ("ff02::fb", False),
    ],
)
def test_what_linux_says_of_its_own_groups_is_not_taken_for_ours(group: str, is_ours: bool) -> None:
    packed = socket.inet_pton(socket.AF_INET6, group)
    record = struct.pack("!BBH", 4, 0, 1) + packed + bytes(16)
    other = struct.pack("!BBH", 4, 0, 0) + socket.inet_pton(socket.AF_INET6, "ff02::2")
    report = struct.pack("!BBHHH", 143, 0, 0, 0, 2) + other + record
    hop_by_hop = struct.pack("!BB6x", 58, 0)
    header = struct.pack("!IHBB", 6 << 28, len(hop_by_hop + report), 0, 1) + bytes(32)
    ethernet = bytes(12) + struct.pack("!H", 0x86DD)
    assert is_of_programs(ethernet + header + hop_by_hop + report) == is_ours
    old = struct.pack("!BBHHH", 131, 0, 0, 0, 0) + packed
    assert is_of_programs(ethernet + header + hop_by_hop + old) == is_ours


async def test_all_goes_through_the_interface(world: tuple[Space, Space], tmp_path: Path) -> None:
    _, friends = world
    content = make_file(tmp_path / "ours.bin", 300 * KIB, seed=9)
    with trio.fail_after(30), Tap(OUTER) as outer, Tap(INNER) as inner:
        async with our_node(tmp_path) as node:
            shared = await node.share(content, piece_length=16 * KIB)
            folder = tmp_path / "friend"
            async with friend(friends, folder, [300_001], str(shared.magnet)) as (magnets, log):
                got = await node.get(magnets[0])
                path = await got.completed()
                await until(lambda: "fetched" in log.read_text(), "the friend has it")
                assert differences(path, folder / "share" / "file0") == []
                await until(lambda: node.status().dht.good >= 1, "it is a contact")
                status = node.status()
                assert leaks(outer) == []
        packets = inner.packets()
        # LSD, the DHT, and who looks for the name server that is not there.
        for what in (b"BT-SEARCH", b"find_node", socket.inet_aton(OUTSIDE)):
            assert any(what in packet for packet in packets), what
        assert status.interface is not None
        assert status.interface.startswith("inner (10.91.0.1")
        assert status.warnings == ()


async def test_without_it_packets_go_the_other_way(
    world: tuple[Space, Space], tmp_path: Path
) -> None:
    with Tap(OUTER) as outer:
        async with our_node(tmp_path, None) as node:
            await node.share(make_file(tmp_path / "ours.bin", 100 * KIB))
            await trio.sleep(0.5)
        assert len(leaks(outer)) > 3


@pytest.mark.parametrize("wanted", [INNER, "10.91.0.1"])
async def test_an_interface_that_went_down_stops_all_until_it_is_up(
    wanted: str, world: tuple[Space, Space], tmp_path: Path
) -> None:
    ours, friends = world
    folder = tmp_path / "friend"
    with trio.fail_after(40), Tap(OUTER) as outer:
        async with (
            friend(friends, folder, [4_000_000, 200_001], lsd=False) as (magnets, _),
            our_node(tmp_path, wanted) as node,
        ):
            first = await node.get(magnets[0])
            first.set_limits(down=400_000)
            await until(lambda: first.progress > 0.05, "it comes")
            ours.ip("link", "set", INNER, "down")
            await until(lambda: "not here" in str(node.status().interface), "it is noticed", 3)
            status = node.status()
            assert "nothing is sent" in status.warnings[0]
            assert (status.reachable, status.reachable_why) == (False, "the interface is not here")
            second = await node.get(magnets[1])
            await until(lambda: not first.peers(), "the connection is closed", 3)
            await trio.sleep(2)
            before = first.downloaded
            ours.ip("link", "set", INNER, "up")
            ours.ip("address", "replace", "fd91::1/64", "dev", INNER, "nodad")
            began = trio.current_time()
            await until(lambda: first.downloaded > before, "it goes on", 20)
            assert trio.current_time() - began < 10
            await second.completed()
            assert node.status().warnings == ()
            assert leaks(outer) == []


async def test_an_interface_made_anew_with_another_address_is_used(
    world: tuple[Space, Space], tmp_path: Path
) -> None:
    ours, friends = world
    folder = tmp_path / "friend"
    content = make_file(tmp_path / "ours.bin", 300 * KIB, seed=9)
    with trio.fail_after(40), Tap(OUTER) as outer:
        ours.ip("link", "delete", INNER)
        async with our_node(tmp_path) as node:  # before the VPN is up
            assert "not here" in str(node.status().interface)
            shared = await node.share(content, piece_length=16 * KIB)
            await trio.sleep(1.5)
            plug_in(ours, friends, "10.91.0.1", "fd91::1")
            async with friend(friends, folder, [200_001], lsd=False) as (magnets, _):
                await (await node.get(magnets[0])).completed()
            ours.ip("link", "delete", INNER)
            plug_in(ours, friends, "10.91.0.7", "fd91::7")
            await until(lambda: "10.91.0.7" in str(node.status().interface), "it is noticed", 5)
            more = tmp_path / "another"
            magnet = f"{shared.magnet}&x.pe=10.91.0.7:{PORT}"
            async with friend(friends, more, [], magnet, lsd=False) as (_, log):
                await until(lambda: "fetched" in log.read_text(), "we are reached there")
                assert leaks(outer) == []
