"""A super seed (BEP 16) and libtorrent's leeches, one alone and two that know each other."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from dht_torrent import open_node
from tests.helpers.content import KIB, differences, make_file
from tests.helpers.libtorrent_peer import open_libtorrent
from tests.helpers.nodes import local_config

SIZE = 900_001


@pytest.mark.parametrize("leeches", [1, 2])
async def test_libtorrent_fetches_from_a_super_seed(tmp_path: Path, leeches: int) -> None:
    content = make_file(tmp_path / "seed" / "film.bin", SIZE)
    with trio.fail_after(90):
        async with (
            open_node(local_config(tmp_path / "ours", limit_up=200 * KIB)) as ours,
            open_libtorrent(dht=False) as first,
            open_libtorrent(dht=False) as second,
        ):
            shared = await ours.share(content, piece_length=16 * KIB, super_seed=True)
            assert shared.summary().super_seed
            assert shared.metainfo is not None
            torrent = shared.metainfo.to_torrent()
            handles = []
            for number, leech in enumerate([first, second][:leeches]):
                handle = leech.add(torrent, tmp_path / f"got{number}")
                handle.connect_peer(tuple(ours.address))
                handles.append((leech, handle))
            if leeches == 2:
                handles[0][1].connect_peer(tuple(second.address))
            for number, (leech, handle) in enumerate(handles):
                await leech.completed(handle, 60)
                assert differences(content, tmp_path / f"got{number}" / "film.bin") == []
            # With both it would be twice the size if each piece left us for each of them.
            assert shared.uploaded < 1.4 * SIZE
            while shared.summary().super_seed:
                await trio.sleep(0.1)
