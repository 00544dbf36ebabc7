"""Blocks, metadata and discovery between our nodes and libtorrent, on loopback.

Nobody is told an address, save where a test says so: every peer is found through the DHT.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import trio

from dht_torrent import open_node
from dht_torrent.ids import Address, parse_info_hash
from tests.helpers.content import KIB, MIB, differences, make_file, make_tree
from tests.helpers.libtorrent_peer import create, info_hash_of, magnet_of, open_libtorrent
from tests.helpers.nodes import all_completed, announced, local_config, local_nodes

FOLDER = {
    "readme.txt": 11,
    "empty": 0,
    "a/first.bin": 300_000,
    "a/b/second.bin": 1_048_576,
    "z.bin": 777_777,  # the last piece is a short one
}


# 1,024 pieces have 20 KiB of hashes: an info dict of two metadata blocks.
@pytest.mark.parametrize(("size", "piece_length"), [(3_000_001, 64 * KIB), (16 * MIB, 16 * KIB)])
async def test_we_fetch_from_libtorrent_by_an_infohash_alone(
    tmp_path: Path, size: int, piece_length: int
) -> None:
    content = make_file(tmp_path / "seed" / "film.bin", size)
    torrent = create(content, piece_length)
    with trio.fail_after(20):
        async with (
            local_nodes(3, tmp_path / "nodes") as nodes,
            open_libtorrent([nodes[0].address]) as seed,
        ):
            await seed.seed(torrent, content.parent)
            await announced(nodes)
            got = await nodes[2].get(magnet_of(torrent))
            path = await got.completed()
            assert differences(content, path) == []
            assert got.summary().wasted == 0


@pytest.mark.parametrize(("size", "piece_length"), [(3_000_001, 64 * KIB), (16 * MIB, 16 * KIB)])
async def test_libtorrent_fetches_from_us_by_an_infohash_alone(
    tmp_path: Path, size: int, piece_length: int
) -> None:
    content = make_file(tmp_path / "seed" / "film.bin", size)
    with trio.fail_after(20):
        async with local_nodes(3, tmp_path / "nodes") as nodes:
            shared = await nodes[1].share(content, piece_length=piece_length)
            await announced(nodes)
            async with open_libtorrent([nodes[0].address]) as leech:
                handle = leech.add_magnet(f"magnet:?xt=urn:btih:{shared.id}", tmp_path / "got")
                await leech.completed(handle)
            assert differences(content, tmp_path / "got" / "film.bin") == []
            assert shared.summary().uploaded >= size


@pytest.mark.parametrize("seed_is_ours", [True, False], ids=["our seed", "libtorrent seed"])
async def test_a_mixed_swarm_completes_from_one_seed(tmp_path: Path, seed_is_ours: bool) -> None:
    content = make_tree(tmp_path / "seed" / "album", FOLDER)
    torrent = create(content, 32 * KIB)
    with trio.fail_after(30):
        async with (
            local_nodes(4, tmp_path / "nodes") as ours,
            open_libtorrent([ours[0].address]) as one,
            open_libtorrent([ours[0].address]) as two,
        ):
            crowd = list(ours)
            if seed_is_ours:
                assert (await crowd.pop().share(content, piece_length=32 * KIB)).name == "album"
                theirs = [one, two]
            else:
                await two.seed(torrent, content.parent)
                theirs = [one]
            await announced(ours)
            handles = [
                (peer, peer.add_magnet(magnet_of(torrent), tmp_path / f"lt{i}"))
                for i, peer in enumerate(theirs)
            ]
            torrents = [await node.get(magnet_of(torrent)) for node in crowd]
            await all_completed(torrents)
            for peer, handle in handles:
                await peer.completed(handle)
            for got in torrents:
                assert got.path is not None
                assert differences(content, got.path) == []
            for i in range(len(handles)):
                assert differences(content, tmp_path / f"lt{i}" / "album") == []


async def test_libtorrents_announce_is_found_by_us(tmp_path: Path) -> None:
    content = make_file(tmp_path / "seed" / "a.bin", 100_000)
    torrent = create(content)
    with trio.fail_after(20):
        async with (
            local_nodes(3, tmp_path / "nodes") as nodes,
            open_libtorrent([nodes[0].address]) as theirs,
        ):
            await theirs.seed(torrent, content.parent)
            await announced(nodes)
            seen: list[Address] = []
            info_hash = parse_info_hash(info_hash_of(torrent))
            found = await nodes[2].dht.find_peers(info_hash, on_peers=seen.extend)
            assert theirs.address in found.peers
            assert theirs.address in seen


async def test_our_announce_is_found_by_libtorrent(tmp_path: Path) -> None:
    content = make_file(tmp_path / "seed" / "a.bin", 100_000)
    with trio.fail_after(20):
        async with local_nodes(3, tmp_path / "nodes") as nodes:
            shared = await nodes[1].share(content)
            await announced(nodes)
            async with open_libtorrent([nodes[0].address]) as theirs:
                assert nodes[1].address in await theirs.peers_of(shared.info_hash)


async def test_we_find_a_torrent_through_a_dht_that_is_all_libtorrent(tmp_path: Path) -> None:
    content = make_file(tmp_path / "seed" / "a.bin", 100_000)
    torrent = create(content)
    with trio.fail_after(20):
        async with open_libtorrent() as router, open_libtorrent([router.address]) as seed:
            await seed.seed(torrent, content.parent)
            assert set(await seed.peers_of(info_hash_of(torrent))) == {seed.address}
            config = replace(local_config(tmp_path / "got"), bootstrap=[str(router.address)])
            async with open_node(config) as node:
                got = await node.get(magnet_of(torrent))
                assert differences(content, await got.completed()) == []


async def test_libtorrent_completes_a_half_finished_download_from_us(tmp_path: Path) -> None:
    content = make_file(tmp_path / "seed" / "film.bin", 4 * MIB)
    torrent = create(content, 64 * KIB)
    half = tmp_path / "got" / "film.bin"
    half.parent.mkdir()
    half.write_bytes(content.read_bytes()[: 2 * MIB])
    with trio.fail_after(20):
        async with local_nodes(2, tmp_path / "nodes") as nodes:
            shared = await nodes[1].share(content, piece_length=64 * KIB)
            await announced(nodes)
            async with open_libtorrent([nodes[0].address]) as leech:
                handle = leech.add(torrent, half.parent)
                await leech.completed(handle)
            assert differences(content, half) == []
            assert 2 * MIB <= shared.summary().uploaded < 2.5 * MIB


async def test_we_complete_a_half_finished_download_from_libtorrent(tmp_path: Path) -> None:
    content = make_file(tmp_path / "seed" / "film.bin", 4 * MIB)
    torrent = create(content, 64 * KIB)
    with trio.fail_after(20):
        async with (
            local_nodes(2, tmp_path / "nodes") as nodes,
            open_libtorrent([nodes[0].address]) as seed,
        ):
            await seed.seed(torrent, content.parent)
            await announced(nodes)
            half = tmp_path / "nodes" / "node1" / "film.bin"
            half.write_bytes(content.read_bytes()[: 2 * MIB])
            got = await nodes[1].get(magnet_of(torrent))
            assert await got.completed() == half
            assert differences(content, half) == []
            assert got.summary().downloaded == 2 * MIB


async def test_libtorrent_fetches_from_our_super_seed(tmp_path: Path) -> None:
    content = make_file(tmp_path / "seed" / "film.bin", 2 * MIB)
    with trio.fail_after(60):
        async with (
            local_nodes(2, tmp_path / "nodes") as nodes,
            open_libtorrent([nodes[0].address]) as one,
            open_libtorrent([nodes[0].address]) as two,
        ):
            shared = await nodes[1].share(content, piece_length=64 * KIB, super_seed=True)
            await announced(nodes)
            magnet = f"magnet:?xt=urn:btih:{shared.id}"
            handles = [
                (peer, peer.add_magnet(magnet, tmp_path / name))
                for peer, name in ((one, "one"), (two, "two"))
            ]
            for peer, handle in handles:
                await peer.completed(handle, 50)
            for name in ("one", "two"):
                assert differences(content, tmp_path / name / "film.bin") == []
