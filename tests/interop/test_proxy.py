"""Behind a proxy no packet goes beside it: seen by a look at every packet of our only interface, in
front of microsocks (TCP only) and of Dante (UDP too). On cables between network namespaces.
"""

from __future__ import annotations

import contextlib
import shlex
import socket
import struct
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest
import trio

from dht_torrent import Config, Node, open_node
from dht_torrent.engine.views import ProxyStatus
from tests.helpers.clients import program, running
from tests.helpers.content import differences, make_file
from tests.helpers.waiting import until
from tests.interop.namespaces import Space, Tap, cable, is_of_programs, spaces, text_of

CABLE = "cable"
OURS, PROXY = "10.93.0.1", "10.93.0.2"
EXIT = "10.94.0.1"
FRIEND, ENTRY = "10.94.0.2", "10.94.0.3"
NAME = "entry.example"
PORT, SOCKS = 6881, 1080
SIZE = 700_001
FRIEND_PROCESS = Path(__file__).with_name("friend_process.py")
DANTE = f"""
logoutput: stderr
internal: {PROXY} port = {SOCKS}
external: {EXIT}
clientmethod: none
socksmethod: none
user.privileged: root
user.unprivileged: root
client pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}
socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 protocol: tcp udp }}
"""

pytestmark = pytest.mark.xdist_group("network namespaces")


@pytest.fixture
def world() -> Iterator[tuple[Space, Space]]:
    """The namespaces of the proxy and of others. Ours has one way out, to the proxy's machine,
    which forwards nothing."""
    with spaces(3) as (ours, middle, outside):
        cable(
            [
                (ours, CABLE, [f"{OURS}/24", "fd93::1/64"]),
                (middle, "in", [f"{PROXY}/24", "fd93::2/64"]),
            ]
        )
        cable(
            [
                (middle, "out", [f"{EXIT}/24"]),
                (outside, CABLE, [f"{FRIEND}/24", f"{ENTRY}/24"]),
            ]
        )
        ours.ip("route", "add", "default", "via", PROXY, "dev", CABLE)
        ours.ip("route", "add", "default", "via", "fd93::2", "dev", CABLE)
        yield middle, outside


@contextlib.asynccontextmanager
async def our_node(
    folder: Path,
    proxy: str | None = f"socks5://{PROXY}:{SOCKS}",
    bootstrap: Sequence[str] = (),
    *,
    tcp: bool = True,
) -> AsyncIterator[Node]:
    config = Config(
        bootstrap=bootstrap,
        listen=("0.0.0.0:6881", "[::]:6881"),
        proxy=proxy,
        tcp=tcp,
        download_dir=folder / "got",
        lsd=True,
        fail_fast=True,
    )
    async with open_node(config) as node:
        yield node


@contextlib.asynccontextmanager
async def node_at(
    outside: Space, folder: Path, host: str, bootstrap: str = "none", *, shares: bool = False
) -> AsyncIterator[str]:
    """A node there, and the magnet of what it shares."""
    (folder / "share").mkdir(parents=True)
    if shares:
        make_file(folder / "share" / "film.bin", SIZE)
    command = [sys.executable, str(FRIEND_PROCESS), str(folder), f"{host}:{PORT}", "no", bootstrap]
    log = folder / "log"
    async with running(outside.command(command), log):
        await until(lambda: "ready" in log.read_text(), f"the node at {host} runs")
        yield log.read_text().split()[0]


@contextlib.asynccontextmanager
async def dante(middle: Space, folder: Path) -> AsyncIterator[None]:
    """Which knows what NAME means, and is the only one."""
    (folder / "danted.conf").write_text(DANTE)
    (folder / "hosts").write_text(f"127.0.0.1 localhost\n{ENTRY} {NAME}\n")
    serve = shlex.join([program("danted"), "-f", str(folder / "danted.conf")])
    mount = shlex.join(["mount", "--bind", str(folder / "hosts"), "/etc/hosts"])
    # In a space of its own for processes: those that it makes end with it.
    alone = [program("unshare"), "--mount", "--pid", "--fork", "--kill-child"]
    command = [*alone, "sh", "-c", f"{mount} && exec {serve}"]
    async with serving(middle, command, folder / "danted.log"):
        yield


@contextlib.asynccontextmanager
async def microsocks(middle: Space, folder: Path, *more: str) -> AsyncIterator[None]:
    command = [program("microsocks"), "-i", PROXY, "-p", str(SOCKS), *more]
    async with serving(middle, command, folder / "microsocks.log"):
        yield


@contextlib.asynccontextmanager
async def serving(middle: Space, command: Sequence[str], log: Path) -> AsyncIterator[None]:
    """The proxy takes connections meanwhile."""

    def listens() -> bool:
        with middle.inside(), socket.socket() as probe:
            return probe.connect_ex((PROXY, SOCKS)) == 0

    async with running(middle.command(command), log):
        await until(listens, "the proxy listens")
        yield


def beside(packets: Sequence[bytes]) -> list[str]:
    """Those that are not between us and the proxy."""
    return [text_of(one) for one in packets if is_of_programs(one) and not _is_ours(one)]


def _is_ours(packet: bytes) -> bool:
    (kind,) = struct.unpack_from("!H", packet, 12)
    if kind == 0x0806:  # ARP: who is asked for
        hosts = {socket.inet_ntoa(packet[at : at + 4]) for at in (28, 38)}
        return hosts == {OURS, PROXY}
    if kind != 0x0800:
        return False
    hosts = {socket.inet_ntoa(packet[at : at + 4]) for at in (26, 30)}
    is_tcp = packet[23] == socket.IPPROTO_TCP
    ports = struct.unpack_from("!HH", packet, 14 + 4 * (packet[14] & 15))
    return hosts == {OURS, PROXY} and (not is_tcp or SOCKS in ports)


def state(node: Node) -> ProxyStatus:
    found = node.status().proxy
    assert found is not None
    return found


async def test_the_dht_and_a_transfer_go_through_dante(
    world: tuple[Space, Space], tmp_path: Path
) -> None:
    """The entry point of the DHT is a name that only the proxy knows; the peer is found there."""
    middle, outside = world
    with trio.fail_after(40), Tap(CABLE) as tap:
        async with (
            node_at(outside, tmp_path / "entry", ENTRY),
            node_at(outside, tmp_path / "friend", FRIEND, f"{ENTRY}:{PORT}", shares=True) as magnet,
            dante(middle, tmp_path),
            our_node(tmp_path, bootstrap=[f"{NAME}:{PORT}"]) as node,
        ):
            torrent = await node.get(magnet)
            path = await torrent.completed()
            assert differences(path, tmp_path / "friend" / "share" / "film.bin") == []
            status = node.status()
            assert status.dht.bootstrap_answered == 1
            assert {contact.address.host for contact in node.dht.contacts()} == {FRIEND, ENTRY}
            assert {peer.address for peer in torrent.peers()} <= {f"{FRIEND}:{PORT}"}
            assert status.reachable is False
            assert (state(node).trouble, state(node).udp_trouble) == (None, None)
            packets = tap.packets()
        assert beside(packets + tap.packets()) == []
        assert any(b"find_node" in packet and NAME.encode() in packet for packet in packets)
        assert sum(map(len, packets)) > SIZE


async def test_utp_goes_through_dante(world: tuple[Space, Space], tmp_path: Path) -> None:
    middle, outside = world
    with trio.fail_after(40), Tap(CABLE) as tap:
        async with (
            node_at(outside, tmp_path / "friend", FRIEND, shares=True) as magnet,
            dante(middle, tmp_path),
            our_node(tmp_path, tcp=False) as node,
        ):
            torrent = await node.get(f"{magnet}&x.pe={FRIEND}:{PORT}")
            path = await torrent.completed()
            assert differences(path, tmp_path / "friend" / "share" / "film.bin") == []
            assert {peer.transport for peer in torrent.peers()} <= {"utp"}
            packets = tap.packets()
        assert beside(packets + tap.packets()) == []
        assert sum(map(len, packets)) > SIZE


async def test_microsocks_has_no_udp_and_tcp_goes_on(
    world: tuple[Space, Space], tmp_path: Path
) -> None:
    """With a password; the peer is named by the magnet."""
    middle, outside = world
    url = f"socks5://me:s%40crt@{PROXY}:{SOCKS}"
    with trio.fail_after(30), Tap(CABLE) as tap:
        async with (
            node_at(outside, tmp_path / "friend", FRIEND, shares=True) as magnet,
            microsocks(middle, tmp_path, "-u", "me", "-P", "s@crt"),
            our_node(tmp_path, url, [f"{ENTRY}:{PORT}", f"{NAME}:{PORT}"]) as node,
        ):
            path = await (await node.get(f"{magnet}&x.pe={FRIEND}:{PORT}")).completed()
            assert differences(path, tmp_path / "friend" / "share" / "film.bin") == []
            told = "the proxy refuses UDP: command not supported"
            await until(lambda: state(node).udp_trouble == told, "it is told")
            assert state(node).trouble is None
            assert node.status().dht.good == 0
            packets = tap.packets()
        assert beside(packets + tap.packets()) == []
        assert sum(map(len, packets)) > SIZE


async def test_a_wrong_password_is_told_and_nothing_goes_anywhere(
    world: tuple[Space, Space], tmp_path: Path
) -> None:
    middle, _ = world
    url = f"socks5://me:wrong@{PROXY}:{SOCKS}"
    with trio.fail_after(30), Tap(CABLE) as tap:
        async with (
            microsocks(middle, tmp_path, "-u", "me", "-P", "secret"),
            our_node(tmp_path, url) as node,
        ):
            await node.get(f"magnet:?xt=urn:btih:{'ab' * 20}&x.pe={FRIEND}:{PORT}")
            told = "the proxy refuses our user name and password"
            await until(lambda: state(node).udp_trouble == told, "it is told")
            await until(lambda: state(node).trouble is not None, "it is told of TCP too")
            assert "wrong" not in str(node.status())
        assert beside(tap.packets()) == []


async def test_while_the_proxy_is_away_nothing_goes_and_then_all_does(
    world: tuple[Space, Space], tmp_path: Path
) -> None:
    middle, outside = world
    with trio.fail_after(60), Tap(CABLE) as tap:
        async with (
            node_at(outside, tmp_path / "friend", FRIEND, shares=True) as magnet,
            our_node(tmp_path, bootstrap=[f"{FRIEND}:{PORT}"]) as node,
        ):
            async with dante(middle, tmp_path):
                await until(lambda: node.status().dht.good == 1, "it is a contact")
            torrent = await node.get(f"{magnet}&x.pe={FRIEND}:{PORT}")
            told = "the proxy cannot be reached: Connection refused"
            await until(lambda: state(node).trouble == told, "it is told")
            await until(lambda: state(node).udp_trouble == told, "it is told of UDP too")
            assert torrent.progress == 0
            (tmp_path / "again").mkdir()
            async with dante(middle, tmp_path / "again"):
                await torrent.completed()
                await until(lambda: state(node).udp_trouble is None, "UDP works again")
                assert state(node).trouble is None
        assert beside(tap.packets()) == []


async def test_without_a_proxy_packets_go_past_it(
    world: tuple[Space, Space], tmp_path: Path
) -> None:
    with Tap(CABLE) as tap:
        async with our_node(tmp_path, None, [f"{ENTRY}:{PORT}", f"{NAME}:{PORT}"]) as node:
            await node.get(f"magnet:?xt=urn:btih:{'ab' * 20}&x.pe={FRIEND}:{PORT}")
            await trio.sleep(1)
        assert len(beside(tap.packets())) > 3
