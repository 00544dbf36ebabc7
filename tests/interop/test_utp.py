"""uTP with libtorrent and Transmission, which have no TCP then: theirs is off, or dropped by the
packet filter of a network of the test's own. Also through a relay that loses one datagram in a
hundred, and lets others overtake.
"""

from __future__ import annotations

import filecmp
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from dht_torrent import Node, open_node
from dht_torrent.engine.torrent.torrent import Torrent, behind
from dht_torrent.engine.views import PeerInfo
from dht_torrent.ids import Address
from tests.helpers.clients import (
    OURS,
    PEER_PORT,
    THEIRS,
    Transmission,
    open_transmission,
    own_network,
    program,
    transmission,
)
from tests.helpers.content import KIB, make_file
from tests.helpers.libtorrent_peer import create, magnet_of, open_libtorrent
from tests.helpers.nodes import announced, local_config, local_nodes
from tests.helpers.udp_relay import open_relay

SIZE = 4_000_001
PIECE = 64 * KIB
NO_TCP: dict[str, Any] = {
    "enable_outgoing_tcp": False,
    "enable_incoming_tcp": False,
    "enable_outgoing_utp": True,
    "enable_incoming_utp": True,
}
"""Of a libtorrent."""


@pytest.fixture
def content(tmp_path: Path) -> Path:
    return make_file(tmp_path / "seed" / "film.bin", SIZE)


@asynccontextmanager
async def our_node(folder: Path, **changes: Any) -> AsyncIterator[Node]:
    async with open_node(local_config(folder, **{"tcp": False, **changes})) as node:
        yield node


async def peers_of(torrent: Torrent) -> list[PeerInfo]:
    """As soon as there are any: two that are complete leave each other."""
    while not (peers := torrent.peers()):
        await trio.sleep(0.002)
    return peers


@asynccontextmanager
async def maybe_relayed(address: Address, *, is_bad: bool) -> AsyncIterator[Address]:
    """The address itself, or that of a relay to it."""
    if not is_bad:
        yield address
        return
    async with open_relay(address, host=address.host) as relay:
        yield relay.address
        assert relay.carried > SIZE / 1500
        assert relay.lost
        assert relay.late


def meet(torrent: Torrent, address: Address) -> None:
    """Dial it."""
    behind(torrent).core.connections.found([address], "magnet")


PATHS = pytest.mark.parametrize("is_bad", [False, True], ids=["plain", "lossy"])


# -- among us ---------------------------------------------------------------------------------


async def test_over_ipv6_a_download_and_the_dht_share_a_port_and_neither_starves(
    tmp_path: Path,
) -> None:
    """Each node answers pings on the port over which it sends, or receives, all the content."""
    content = make_file(tmp_path / "seed" / "large.bin", 48_000_001)
    ping = b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe"
    answered: dict[Address, int] = {}

    async def ask(to: Address) -> None:
        with trio.socket.socket(trio.socket.AF_INET6, trio.socket.SOCK_DGRAM) as asking:
            await asking.bind(("::1", 0))
            while True:
                await asking.sendto(ping, tuple(to))
                with trio.fail_after(20):
                    while b"1:y1:r" not in await asking.recv(1500):
                        pass  # it asks whether we are one of them
                answered[to] = answered.get(to, 0) + 1
                await trio.sleep(0.02)

    with trio.fail_after(60):
        async with (
            our_node(tmp_path / "one", listen="[::1]:0") as one,
            our_node(tmp_path / "two", listen="[::1]:0") as two,
            trio.open_nursery() as nursery,
        ):
            shared = await one.share(content, piece_length=1024 * KIB)
            await shared.completed()
            for node in (one, two):
                nursery.start_soon(ask, node.address)
            got = await two.get(f"{shared.magnet}&x.pe=[::1]:{one.address.port}")
            (peer,) = await peers_of(got)
            path = await got.completed()
            assert (peer.transport, "::1" in peer.address) == ("utp", True)
            nursery.cancel_scope.cancel()
    assert filecmp.cmp(content, path, shallow=False)
    assert set(answered) == {one.address, two.address}
    assert min(answered.values()) >= 3


# -- libtorrent -------------------------------------------------------------------------------


@PATHS
async def test_we_fetch_from_libtorrent(is_bad: bool, content: Path, tmp_path: Path) -> None:
    torrent = create(content, PIECE)
    with trio.fail_after(60):
        async with (
            open_libtorrent(dht=False, **NO_TCP) as seed,
            our_node(tmp_path / "ours") as node,
        ):
            await seed.seed(torrent, content.parent)
            async with maybe_relayed(seed.address, is_bad=is_bad) as address:
                got = await node.get(f"{magnet_of(torrent)}&x.pe={address}")
                (peer,) = await peers_of(got)
                path = await got.completed()
                assert (peer.transport, peer.incoming) == ("utp", False)
        assert filecmp.cmp(content, path, shallow=False)
        assert got.summary().wasted == 0


@PATHS
async def test_libtorrent_fetches_from_us(is_bad: bool, content: Path, tmp_path: Path) -> None:
    torrent = create(content, PIECE)
    with trio.fail_after(60):
        async with (
            open_libtorrent(dht=False, **NO_TCP) as leech,
            our_node(tmp_path / "ours") as node,
        ):
            shared = await node.share(content, piece_length=PIECE)
            async with maybe_relayed(node.address, is_bad=is_bad) as address:
                handle = leech.add(torrent, tmp_path / "got")
                handle.connect_peer(tuple(address))
                (peer,) = await peers_of(shared)
                await leech.completed(handle)
                assert (peer.transport, peer.incoming) == ("utp", True)
        assert filecmp.cmp(content, tmp_path / "got" / "film.bin", shallow=False)


async def test_a_libtorrent_without_tcp_is_found_and_reached_by_who_dials_tcp_first(
    content: Path, tmp_path: Path
) -> None:
    torrent = create(content, PIECE)
    with trio.fail_after(30):
        async with (
            local_nodes(3, tmp_path / "nodes") as nodes,
            open_libtorrent([nodes[0].address], **NO_TCP) as seed,
        ):
            await seed.seed(torrent, content.parent)
            await announced(nodes)
            got = await nodes[2].get(magnet_of(torrent))
            (peer,) = await peers_of(got)
            path = await got.completed()
            assert peer.transport == "utp"
        assert filecmp.cmp(content, path, shallow=False)


async def test_encrypted_payload_goes_over_utp_both_ways(content: Path, tmp_path: Path) -> None:
    import libtorrent as lt

    torrent = create(content, PIECE)
    forced = int(lt.enc_policy.pe_forced)
    settings = {
        **NO_TCP,
        "out_enc_policy": forced,
        "in_enc_policy": forced,
        "allowed_enc_level": int(lt.enc_level.pe_rc4),
    }
    with trio.fail_after(30):
        async with (
            open_libtorrent(dht=False, **settings) as seed,
            open_libtorrent(dht=False, **settings) as leech,
            our_node(tmp_path / "ours", encryption="require") as node,
        ):
            await seed.seed(torrent, content.parent)
            got = await node.get(f"{magnet_of(torrent)}&x.pe={seed.address}")
            (peer,) = await peers_of(got)
            assert (peer.encryption, peer.transport) == ("rc4", "utp")
            path = await got.completed()
            assert filecmp.cmp(content, path, shallow=False)
            handle = leech.add(torrent, tmp_path / "got")
            handle.connect_peer(tuple(node.address))
            await leech.completed(handle)
            assert {peer.encryption for peer in got.peers()} <= {"rc4"}
            assert {peer.transport for peer in got.peers()} <= {"utp"}
        assert filecmp.cmp(content, tmp_path / "got" / "film.bin", shallow=False)


# -- Transmission -----------------------------------------------------------------------------


@pytest.fixture
def network_without_tcp() -> Iterator[None]:
    """Two hosts between which every packet of TCP is dropped. Loopback's own addresses have it: the
    daemon is told there what to do."""
    nft = program("nft")
    with own_network():
        for rule in (
            "add table ip utp",
            "add chain ip utp input { type filter hook input priority 0; }",
            f"add rule ip utp input ip daddr {{ {OURS}, {THEIRS} }} ip protocol tcp drop",
        ):
            subprocess.run([nft, rule], check=True)
        yield


@asynccontextmanager
async def a_transmission(folder: Path, *nodes: Address) -> AsyncIterator[Transmission]:
    command = transmission(folder / "state", nodes, **{"utp-enabled": True})
    async with open_transmission(command, folder / "transmission") as daemon:
        yield daemon


group = pytest.mark.xdist_group("whole clients")


@group
@PATHS
async def test_we_fetch_from_transmission(
    is_bad: bool, network_without_tcp: None, content: Path, tmp_path: Path
) -> None:
    torrent = tmp_path / "film.torrent"
    torrent.write_bytes(create(content, PIECE))
    theirs = Address(THEIRS, PEER_PORT)
    with trio.fail_after(60):
        async with (
            our_node(tmp_path / "ours", listen=f"{OURS}:0", tcp=True) as node,
            a_transmission(tmp_path) as daemon,
            maybe_relayed(theirs, is_bad=is_bad) as address,
        ):
            await daemon.add(torrent, content.parent)
            await daemon.until(1.0)
            got = await node.get(f"{magnet_of(torrent.read_bytes())}&x.pe={address}")
            (peer,) = await peers_of(got)
            path = await got.completed()
            assert (peer.transport, peer.incoming) == ("utp", False)
        assert filecmp.cmp(content, path, shallow=False)


@group
async def test_transmission_fetches_from_us_through_what_loses(
    network_without_tcp: None, content: Path, tmp_path: Path
) -> None:
    torrent = tmp_path / "film.torrent"
    torrent.write_bytes(create(content, PIECE))
    with trio.fail_after(60):
        async with (
            our_node(tmp_path / "ours", listen=f"{OURS}:0") as node,
            a_transmission(tmp_path) as daemon,
            maybe_relayed(Address(THEIRS, PEER_PORT), is_bad=True) as address,
        ):
            shared = await node.share(content, piece_length=PIECE)
            await daemon.add(torrent, tmp_path / "got")
            meet(shared, address)
            (peer,) = await peers_of(shared)
            await daemon.until(1.0)
            assert peer.transport == "utp"
        assert filecmp.cmp(content, tmp_path / "got" / "film.bin", shallow=False)


@group
async def test_transmission_finds_us_and_dials_over_utp(
    network_without_tcp: None, content: Path, tmp_path: Path
) -> None:
    with trio.fail_after(60):
        async with local_nodes(12, tmp_path / "nodes", listen=f"{OURS}:0") as nodes:
            shared = await nodes[1].share(content, piece_length=PIECE)
            await announced(nodes)
            async with a_transmission(tmp_path, *[node.address for node in nodes]) as daemon:
                await daemon.add(f"magnet:?xt=urn:btih:{shared.id}", tmp_path / "got")
                peers = await peers_of(shared)
                await daemon.until(1.0)
                assert "utp" in {peer.transport for peer in (*peers, *shared.peers())}
        assert filecmp.cmp(content, tmp_path / "got" / "film.bin", shallow=False)
