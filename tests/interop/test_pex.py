"""Peer exchange between our nodes and libtorrent: no DHT, and one known peer tells of the other.

Whoever seeds sends slowly, so that nobody is done before all have met: two that are complete leave
each other at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import libtorrent as lt
import pytest
import trio

from dht_torrent import open_node
from dht_torrent.ids import Address, HostPort
from dht_torrent.metainfo import parse_torrent
from tests.helpers.content import KIB, differences, make_file
from tests.helpers.libtorrent_peer import LibtorrentPeer, create, open_libtorrent
from tests.helpers.nodes import local_config

SIZE = 600_001
SLOW = 30 * KIB
WHICH = pytest.mark.parametrize("private", [False, True], ids=["public", "private"])


def made(content: Path, *, private: bool) -> bytes:
    torrent: Any = lt.bdecode(create(content, 16 * KIB))
    if private:
        torrent[b"info"][b"private"] = 1
    return bytes(lt.bencode(torrent))


def limit_up(peer: LibtorrentPeer, rate: int) -> None:
    """Limit what it sends; 0 ends it. (Its plain limit is not for peers on the same host.)"""
    session: Any = peer.session
    limits = session.get_peer_class(session.local_peer_class_id)
    session.set_peer_class(session.local_peer_class_id, {**limits, "upload_limit": rate})


def sources(handle: Any) -> dict[Address, int]:
    """The peers libtorrent is connected with, and where it heard of each."""
    return {Address(*peer.ip): int(peer.source) for peer in handle.get_peer_info()}


async def meets(peer: LibtorrentPeer, handle: Any, address: Address, seconds: float = 10) -> int:
    """Where it heard of that one. It may have left again when this returns."""
    heard: list[int] = []

    def met() -> bool:
        heard.extend(source for peer, source in sources(handle).items() if peer == address)
        return bool(heard)

    await peer.until(met, f"it meets {address}", seconds)
    return heard[0]


@WHICH
async def test_we_tell_libtorrent_of_the_peers_we_reached(tmp_path: Path, private: bool) -> None:
    content = make_file(tmp_path / "seed" / "film.bin", SIZE)
    torrent = made(content, private=private)
    with trio.fail_after(60):
        async with (
            open_libtorrent(dht=False) as seed,
            open_libtorrent(dht=False) as leech,
            open_node(local_config(tmp_path / "ours")) as ours,
        ):
            await seed.seed(torrent, content.parent)
            limit_up(seed, SLOW)
            got = await ours.get(parse_torrent(torrent))
            got.add_peers([HostPort(*seed.address)])
            while not got.peers():
                await trio.sleep(0.05)
            handle = leech.add(torrent, tmp_path / "got")
            handle.connect_peer(tuple(ours.address))
            await meets(leech, handle, ours.address)
            if private:
                with pytest.raises(AssertionError, match="it meets"):
                    await meets(leech, handle, seed.address, 4)
                return
            assert await meets(leech, handle, seed.address) & lt.peer_info.pex
            limit_up(seed, 0)
            await leech.completed(handle)
            assert differences(content, tmp_path / "got" / "film.bin") == []


@WHICH
async def test_libtorrent_tells_us_of_the_peers_it_reached(tmp_path: Path, private: bool) -> None:
    content = make_file(tmp_path / "seed" / "film.bin", SIZE)
    torrent = made(content, private=private)
    with trio.fail_after(60):
        async with (
            open_node(local_config(tmp_path / "seed", limit_up=SLOW)) as seed,
            open_libtorrent(dht=False) as hub,
            open_node(local_config(tmp_path / "ours")) as ours,
        ):
            shared = await seed.get(parse_torrent(torrent))
            await shared.completed()
            handle = hub.add(torrent, tmp_path / "hub")
            handle.connect_peer(tuple(seed.address))
            await meets(hub, handle, seed.address)
            got = await ours.get(parse_torrent(torrent))
            got.add_peers([HostPort(*hub.address)])
            if private:
                with trio.move_on_after(5):
                    while True:
                        assert str(seed.address) not in [peer.address for peer in got.peers()]
                        await trio.sleep(0.05)
                assert str(hub.address) in [peer.address for peer in got.peers()]
                return
            # Whoever of the two is told first dials.
            with trio.fail_after(20):
                while not any(
                    met.source.startswith("pex ") for met in got.peers() + shared.peers()
                ):
                    await trio.sleep(0.02)
            seed.set_limits(up=None)
            assert differences(content, await got.completed()) == []
