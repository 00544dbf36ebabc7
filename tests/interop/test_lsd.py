"""Peers found by the multicast of the local network alone (BEP 14): no DHT, no exchange of peers,
nobody is told an address. On a cable between two network namespaces.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio

from dht_torrent import Config, Node, open_node
from dht_torrent.engine.net.sockets import RealNetwork
from dht_torrent.ids import Address
from dht_torrent.peer.lsd import GROUPS
from tests.helpers.clients import aria2, open_transmission, running, transmission
from tests.helpers.content import KIB, MIB, differences, make_file
from tests.helpers.lan import CABLE, OURS, OURS6, THEIRS, THEIRS6, Cable, cable, run
from tests.helpers.libtorrent_peer import create, magnet_of, open_libtorrent

SIZE = 3_000_001
WITHIN = 90.0
"""Seconds a whole client may take, its start included. What it does not hear it may say later."""
SCRIPTS = Path(__file__).parents[2] / "scripts"
_DEV = Path("/proc/thread-self/net/dev")
_TRY = """
import runpy, sys
script = runpy.run_path(sys.argv[1])
sys.exit(script["demonstrate"](None, int(sys.argv[2])))
"""
WHERE = {"v4": ("0.0.0.0:0", f"{THEIRS}:6881"), "v6": ("[::]:0", f"[{THEIRS6}]:6881")}

pytestmark = pytest.mark.xdist_group("network namespaces")


@pytest.fixture
def ends() -> Iterator[Cable]:
    with cable() as both:
        yield both


@contextlib.asynccontextmanager
async def our_node(
    folder: Path, listen: str | tuple[str, ...] = "0.0.0.0:0"
) -> AsyncIterator[Node]:
    config = Config(bootstrap=(), listen=listen, download_dir=folder, lsd=True, fail_fast=True)
    async with open_node(config) as node:
        yield node


@pytest.mark.parametrize("family", WHERE)
async def test_libtorrent_fetches_from_us(ends: Cable, family: str, tmp_path: Path) -> None:
    content = make_file(tmp_path / "seed" / "film.bin", SIZE)
    ours, theirs = WHERE[family]
    with trio.fail_after(30):
        async with (
            our_node(tmp_path / "node", ours) as node,
            open_libtorrent(
                dht=False, where=ends.there(), enable_lsd=True, listen_interfaces=theirs
            ) as leech,
        ):
            shared = await node.share(content, piece_length=64 * KIB)
            await trio.sleep(2)  # our announce comes too early for it
            began = trio.current_time()
            handle = leech.add_magnet(f"magnet:?xt=urn:btih:{shared.id}", tmp_path / "got")
            await leech.completed(handle)
            assert trio.current_time() - began < 10
            assert differences(content, tmp_path / "got" / "film.bin") == []


@pytest.mark.parametrize("family", WHERE)
async def test_we_fetch_from_libtorrent(ends: Cable, family: str, tmp_path: Path) -> None:
    content = make_file(tmp_path / "seed" / "film.bin", SIZE)
    torrent = create(content, 64 * KIB)
    ours, theirs = WHERE[family]
    with trio.fail_after(30):
        async with (
            our_node(tmp_path / "node", ours) as node,
            open_libtorrent(
                dht=False, where=ends.there(), enable_lsd=True, listen_interfaces=theirs
            ) as seed,
        ):
            await seed.seed(torrent, content.parent)
            await trio.sleep(7)  # its announce, and the repetitions, come too early for us
            began = trio.current_time()
            got = await node.get(magnet_of(torrent))
            with trio.CancelScope() as scope, contextlib.suppress(AssertionError):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(seed.until, lambda: False, "", 20)
                    path = await got.completed()
                    scope.cancel()
            assert trio.current_time() - began < 10
            assert differences(content, path) == []


# -- whole clients, which know IPv4 only -----------------------------------------------------------


def aria2_there(ends: Cable, folder: Path, what: str, *, seed: bool) -> list[str]:
    """The command of an aria2 that finds peers by multicast only."""
    more = [
        f"--interface={THEIRS}",
        f"--bt-lpd-interface={CABLE}",
        "--enable-dht=false",
        "--bt-enable-lpd=true",
    ]
    return ends.command(aria2(folder, what, Address(OURS, 1), seed=seed, more=more))


def transmission_there(ends: Cable, folder: Path) -> list[str]:
    """The command of a Transmission that finds peers by multicast only."""
    changes = {
        "bind-address-ipv4": THEIRS,
        "dht-enabled": False,
        "lpd-enabled": True,
        "rpc-bind-address": THEIRS,
    }
    return ends.command(transmission(folder, (), **changes))


async def test_aria2_fetches_from_us(ends: Cable, tmp_path: Path) -> None:
    content = make_file(tmp_path / "seed" / "film.bin", SIZE)
    async with our_node(tmp_path / "node") as node:
        shared = await node.share(content, piece_length=64 * KIB)
        await trio.sleep(2)  # our announce comes too early for it
        magnet = f"magnet:?xt=urn:btih:{shared.id}"
        command = aria2_there(ends, tmp_path / "got", magnet, seed=False)
        async with running(command, tmp_path / "aria2") as process:
            with trio.fail_after(WITHIN):
                assert await process.wait() == 0
        assert differences(content, tmp_path / "got" / "film.bin") == []


async def test_we_fetch_from_aria2(ends: Cable, tmp_path: Path) -> None:
    content = make_file(tmp_path / "seed" / "film.bin", SIZE)
    torrent = tmp_path / "film.torrent"
    torrent.write_bytes(create(content, 64 * KIB))
    async with our_node(tmp_path / "node") as node:
        command = aria2_there(ends, content.parent, str(torrent), seed=True)
        async with running(command, tmp_path / "aria2"):
            await trio.sleep(5)  # its announce comes too early for us
            with trio.fail_after(WITHIN):
                path = await (await node.get(magnet_of(torrent.read_bytes()))).completed()
        assert differences(content, path) == []


async def test_transmission_fetches_from_us(ends: Cable, tmp_path: Path) -> None:
    content = make_file(tmp_path / "seed" / "film.bin", SIZE)
    async with our_node(tmp_path / "node") as node:
        shared = await node.share(content, piece_length=64 * KIB)
        await trio.sleep(2)  # our announce comes too early for it
        command = transmission_there(ends, tmp_path / "state")
        async with open_transmission(command, tmp_path / "transmission", THEIRS) as daemon:
            with trio.fail_after(WITHIN):
                await daemon.add(f"magnet:?xt=urn:btih:{shared.id}", tmp_path / "got")
                await daemon.until(1.0)
        assert differences(content, tmp_path / "got" / "film.bin") == []


async def test_we_fetch_from_transmission(ends: Cable, tmp_path: Path) -> None:
    content = make_file(tmp_path / "seed" / "film.bin", SIZE)
    torrent = tmp_path / "film.torrent"
    torrent.write_bytes(create(content, 64 * KIB))
    async with our_node(tmp_path / "node") as node:
        command = transmission_there(ends, tmp_path / "state")
        async with open_transmission(command, tmp_path / "transmission", THEIRS) as daemon:
            await daemon.add(torrent, content.parent)
            await trio.sleep(5)  # its announce comes too early for us
            with trio.fail_after(WITHIN):
                path = await (await node.get(magnet_of(torrent.read_bytes()))).completed()
        assert differences(content, path) == []


# -- ours, and the system's part -------------------------------------------------------------------


async def test_two_of_our_nodes_on_one_machine(ends: Cable, tmp_path: Path) -> None:
    content = make_file(tmp_path / "seed" / "film.bin", SIZE)
    both = ("0.0.0.0:0", "[::]:0")
    with trio.fail_after(30):
        async with our_node(tmp_path / "one", both) as one, our_node(tmp_path / "two", both) as two:
            shared = await one.share(content, piece_length=64 * KIB)
            await trio.sleep(2)
            began = trio.current_time()
            got = await two.get(f"magnet:?xt=urn:btih:{shared.id}")
            path = await got.completed()
            assert trio.current_time() - began < 10
            assert differences(content, path) == []
            assert {peer.source for peer in (*got.peers(), *shared.peers())} & {"lsd"}


async def test_a_cable_that_is_plugged_in_later(ends: Cable, tmp_path: Path) -> None:
    content = make_file(tmp_path / "seed" / "film.bin", SIZE)
    torrent = create(content, 64 * KIB)
    run("link", "set", CABLE, "down")
    with trio.fail_after(45):
        async with (
            our_node(tmp_path / "node") as node,
            open_libtorrent(
                dht=False,
                where=ends.there(),
                enable_lsd=True,
                listen_interfaces=f"{THEIRS}:6881",
            ) as seed,
        ):
            await seed.seed(torrent, content.parent)
            got = await node.get(magnet_of(torrent))
            await trio.sleep(7)
            assert not got.peers()
            run("link", "set", CABLE, "up")
            await seed.until(lambda: got.state == "seeding", "we have it", 20)


async def test_the_interfaces_and_their_networks(ends: Cable) -> None:
    run("link", "add", "other", "type", "veth", "peer", "name", "its-end")
    run("link", "set", "its-end", "up")
    run("address", "add", "10.99.0.1/30", "dev", "other")
    run("address", "add", "fd99::1/128", "dev", "other", "nodad")
    found = RealNetwork().interfaces()
    assert "other" not in {one.name for one in found}  # it is down
    run("link", "set", "other", "up")
    found = RealNetwork().interfaces()
    networks = {(one.name, str(network)) for one in found for network in one.networks}
    assert networks >= {
        (CABLE, f"{OURS}/24"),
        (CABLE, f"{OURS6}/64"),
        ("other", "10.99.0.1/30"),
        ("other", "fd99::1/64"),  # as DHCPv6 gives an address
    }
    assert all(one.ipv6 == (network.version == 6) for one in found for network in one.networks)
    by_key = {(one.name, one.ipv6): one for one in found}
    four, six = by_key[CABLE, False], by_key[CABLE, True]
    assert four.reaches(THEIRS)
    assert not four.reaches("10.99.0.2")
    assert not four.reaches(THEIRS6)
    assert not four.reaches("a name")
    assert six.reaches(THEIRS6)
    assert not six.reaches("fe80::1")  # nobody could dial it without naming the interface
    assert four.has(OURS)
    assert not four.has(THEIRS)


@pytest.mark.parametrize("ipv6", [False, True], ids=["v4", "v6"])
async def test_what_is_sent_to_the_group_goes_through_one_interface_alone(
    ends: Cable, ipv6: bool
) -> None:
    run("link", "add", "other", "type", "veth", "peer", "name", "its-end")
    run("link", "set", "its-end", "up")
    run("link", "set", "other", "up")
    run("address", "add", "10.99.0.1/24", "dev", "other")
    run("address", "add", "fd99::1/64", "dev", "other", "nodad")
    network, group = RealNetwork(), GROUPS[ipv6]
    here = {one.name: one for one in network.interfaces() if one.ipv6 == ipv6}
    with trio.fail_after(20):
        first = await network.open_multicast(group, here[CABLE])
        second = await network.open_multicast(group, here[CABLE])  # another program
        elsewhere = await network.open_multicast(group, here["other"])
        assert first.send(b"hello", group)
        hosts = (OURS6, "fd99::1") if ipv6 else (OURS, "10.99.0.1")
        for socket in (first, second):
            ((data, source),) = await socket.receive()
            assert (data, source) == (b"hello", Address(hosts[0], group.port))
        # What is for the group alone comes in: no unicast, and nothing of the other interface.
        plain = await network.open_udp(Address(hosts[0], 0))
        plain.send(b"to you", Address(hosts[0], group.port))
        assert elsewhere.send(b"over there", group)
        ((data, source),) = await elsewhere.receive()
        assert (data, source.host) == (b"over there", hosts[1])
        with trio.move_on_after(0.2):
            await first.receive()
            raise AssertionError
        for one in (first, second, elsewhere, plain):
            one.close()


async def test_an_interface_that_went_cannot_be_joined(ends: Cable) -> None:
    (gone,) = [one for one in RealNetwork().interfaces() if not one.ipv6]
    run("link", "delete", CABLE)
    with pytest.raises(OSError):
        await RealNetwork().open_multicast(GROUPS[0], gone)


async def test_the_demonstration_sends_nothing_off_the_machine(ends: Cable, tmp_path: Path) -> None:
    # Without IPv6, or the system itself would say something, and say it again.
    run("link", "set", CABLE, "down")
    run("link", "set", CABLE, "addrgenmode", "none")
    run("link", "set", CABLE, "up")
    run("route", "add", "default", "dev", CABLE)

    def sent() -> int:
        (line,) = [
            line for line in _DEV.read_text().splitlines() if line.strip().startswith(f"{CABLE}:")
        ]
        return int(line.partition(":")[2].split()[9])

    before = sent()
    command = [sys.executable, "-c", _TRY, str(SCRIPTS / "try"), str(MIB)]
    with trio.fail_after(60):
        done = await trio.run_process(command, capture_stdout=True, capture_stderr=True)
    assert b"identical" in done.stdout, done
    assert sent() == before
    # Where something does go out, it is counted.
    async with our_node(tmp_path / "node") as node:
        await node.get("magnet:?xt=urn:btih:" + "ab" * 20)
        await trio.sleep(2)
        assert sent() > before


@pytest.mark.parametrize("off", [(), ("--no-lsd",)], ids=["on", "off"])
async def test_the_command_line_has_it_on_unless_no_lsd_is_given(
    ends: Cable, off: tuple[str, ...], tmp_path: Path
) -> None:
    content = make_file(tmp_path / "seed" / "film.bin", SIZE)
    async with our_node(tmp_path / "node") as node:
        shared = await node.share(content, piece_length=64 * KIB)
        command = [
            *(sys.executable, "-m", "dht_torrent", "--bootstrap", "none"),
            *("--state-dir", str(tmp_path / "state"), "--listen", "0.0.0.0:0", *off),
            *("get", f"magnet:?xt=urn:btih:{shared.id}", "--output", str(tmp_path / "got")),
        ]
        with trio.move_on_after(6 if off else 30) as patience:
            await trio.run_process(command, capture_stdout=True, capture_stderr=True)
        assert patience.cancelled_caught == bool(off)
        if not off:
            assert differences(content, tmp_path / "got" / "film.bin") == []
