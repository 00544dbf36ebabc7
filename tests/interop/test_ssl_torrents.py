"""SSL torrents with libtorrent as the other end, whose builds for Python have OpenSSL in them. It
takes such a torrent by its .torrent only; we do so by its infohash, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import libtorrent as lt
import pytest
import trio

from dht_torrent import open_node
from dht_torrent.engine.net.tls import Identity
from dht_torrent.ids import Address
from tests.helpers.content import KIB, differences, make_file
from tests.helpers.libtorrent_peer import LibtorrentPeer, open_libtorrent, state
from tests.helpers.members import Swarm, stranger, swarm
from tests.helpers.nodes import announced, local_config, local_nodes

if "ssl_listen" not in lt.default_settings():
    pytest.skip("this libtorrent was built without SSL", allow_module_level=True)

SECURE: dict[str, Any] = {"listen_interfaces": "127.0.0.1:0s,127.0.0.1:0"}


@pytest.fixture
def one(tmp_path: Path) -> Swarm:
    folder = tmp_path / "certificates"
    folder.mkdir()
    return swarm(folder)


def create(content: Path, one: Swarm) -> bytes:
    made = lt.create_torrent(lt.list_files(str(content)), 32 * KIB, lt.create_torrent.v1_only)
    made.set_root_cert(one.authority.certificate.decode())
    lt.set_piece_hashes(made, str(content.parent))
    return bytes(lt.bencode(made.generate()))


def join(peer: LibtorrentPeer, torrent: bytes, folder: Path, identity: Identity) -> Any:
    handle = peer.add(torrent, folder)
    handle.set_ssl_certificate_buffer(
        identity.certificate.read_text(), identity.key.read_text(), ""
    )
    return handle


async def ssl_port(peer: LibtorrentPeer) -> int:
    await peer.until(lambda: peer.session.ssl_listen_port(), "it listens for TLS")
    return int(peer.session.ssl_listen_port())


def ours(identity: Identity) -> dict[str, Any]:
    return {"tls_cert": identity.certificate, "tls_key": identity.key}


async def test_we_fetch_from_libtorrent_by_a_magnet_link(tmp_path: Path, one: Swarm) -> None:
    content = make_file(tmp_path / "seed" / "film.bin", 3_000_001)
    torrent = create(content, one)
    info_hash = lt.load_torrent_buffer(torrent).info_hashes.v1
    with trio.fail_after(20):
        async with (
            open_libtorrent(dht=False, **SECURE) as seed,
            open_node(local_config(tmp_path / "node")) as node,
        ):
            handle = join(seed, torrent, content.parent, one.member("theirs"))
            await seed.until(lambda: state(handle) == "seeding", "it seeds")
            magnet = f"magnet:?xt=urn:btih:{info_hash}&x.pe=127.0.0.1:{await ssl_port(seed)}"
            got = await node.get(magnet, **ours(one.member("ours")))
            path = await got.completed()
            assert differences(content, path) == []
            assert {peer.encryption for peer in got.peers()} <= {"tls"}


@pytest.mark.parametrize("torrent_name", ["*", "film.bin"])
async def test_libtorrent_fetches_from_us(tmp_path: Path, one: Swarm, torrent_name: str) -> None:
    content = make_file(tmp_path / "seed" / "film.bin", 3_000_001)
    mine, theirs = (
        one.member("ours", torrent=torrent_name),
        one.member("theirs", torrent=torrent_name),
    )
    with trio.fail_after(20):
        async with (
            open_node(local_config(tmp_path / "node")) as node,
            open_libtorrent(dht=False, **SECURE) as leech,
        ):
            shared = await node.share(content, tls_ca=one.ca, **ours(mine))
            assert shared.metainfo is not None
            params = lt.load_torrent_buffer(shared.metainfo.to_torrent())
            assert params.ti is not None
            assert params.ti.ssl_cert().encode() == one.authority.certificate
            handle = join(leech, shared.metainfo.to_torrent(), tmp_path / "got", theirs)
            handle.connect_peer(tuple(node.tls_addresses[0]))
            await leech.completed(handle)
            assert differences(content, tmp_path / "got" / "film.bin") == []
            assert shared.uploaded >= 3_000_001


async def test_both_find_each_other_in_the_dht_at_their_ports_for_tls(
    tmp_path: Path, one: Swarm
) -> None:
    content = make_file(tmp_path / "seed" / "film.bin", 300_001)
    torrent = create(content, one)
    with trio.fail_after(30):
        async with (
            local_nodes(3, tmp_path / "nodes") as nodes,
            open_libtorrent([nodes[0].address], **SECURE) as peer,
        ):
            handle = join(peer, torrent, content.parent, one.member("theirs"))
            await peer.until(lambda: state(handle) == "seeding", "it seeds")
            await announced(nodes)
            got = await nodes[1].get(
                f"magnet:?xt=urn:btih:{lt.load_torrent_buffer(torrent).info_hashes.v1}",
                **ours(one.member("ours")),
            )
            await got.completed()
            plain = {*nodes[1].addresses, peer.address}
            await announced(nodes)
            async with open_libtorrent([nodes[0].address]) as third:
                found = await third.peers_of(got.info_hash)
            assert plain.isdisjoint(found)
            assert {Address("127.0.0.1", await ssl_port(peer)), *nodes[1].tls_addresses} >= set(
                found
            )


async def test_a_libtorrent_of_another_authority_gets_nothing(tmp_path: Path, one: Swarm) -> None:
    content = make_file(tmp_path / "seed" / "film.bin", 300_001)
    with trio.fail_after(20):
        async with (
            open_node(local_config(tmp_path / "node")) as node,
            open_libtorrent(dht=False, **SECURE) as leech,
        ):
            shared = await node.share(content, tls_ca=one.ca, **ours(one.member("ours")))
            assert shared.metainfo is not None
            torrent = shared.metainfo.to_torrent()
            handle = join(leech, torrent, tmp_path / "got", stranger(one.folder))
            handle.connect_peer(tuple(node.tls_addresses[0]))
            handle.connect_peer(tuple(node.address))
            await leech.until(
                lambda: leech.seen.count(lt.peer_disconnected_alert) >= 2,
                "it was turned away twice",
            )
            assert handle.status().total_done == 0
            assert shared.uploaded == 0
            assert shared.peers() == []
