"""Peers that lie, stall, take without giving, or die: the download ends well all the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import trio

from dht_torrent import open_node
from dht_torrent.config import TorrentConfig
from dht_torrent.trace import PeerBanned, PieceDone, PieceFailed
from tests.helpers.content import KIB, MIB, differences, make_file
from tests.helpers.nodes import Records, all_completed, announced, local_config, local_nodes
from tests.helpers.raw_peer import (
    BLOCK,
    Answer,
    RawSeed,
    honest,
    poison,
    ride_free,
    single_file_info,
    stall,
)
from tests.helpers.waiting import until

PIECE = 64 * KIB


def raw_seeds(content: Path, answers: Sequence[Answer]) -> list[RawSeed]:
    """One hand-written seed for each way to answer."""
    data = content.read_bytes()
    info = single_file_info(content.name, data, PIECE)
    return [RawSeed(info, data, PIECE, answer, b"-RW%04d-" % i) for i, answer in enumerate(answers)]


def magnet_to(seed: RawSeed, addresses: Sequence[tuple[str, int]]) -> str:
    peers = "".join(f"&x.pe={host}:{port}" for host, port in addresses)
    return f"magnet:?xt=urn:btih:{seed.info_hash.hex()}{peers}"


async def test_three_poisoners_are_banned_and_no_bad_byte_reaches_the_disk(tmp_path: Path) -> None:
    content = make_file(tmp_path / "film.bin", 8 * MIB)
    seeds = raw_seeds(content, [honest, poison, poison, poison])
    records = Records()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            addresses = [await nursery.start(seed.run) for seed in seeds]
            async with open_node(local_config(tmp_path / "got"), trace=records) as node:
                got = await node.get(magnet_to(seeds[0], addresses))
                path = await got.completed()
                assert differences(content, path) == []
            nursery.cancel_scope.cancel()
    # The honest one is neither banned nor blamed to death; every liar that got to lie is out.
    banned = {tuple(record.address) for record in records.of(PeerBanned)}
    assert banned == set(addresses[1:])
    assert records.of(PieceFailed)
    done = [record.index for record in records.of(PieceDone)]
    assert sorted(done) == list(range(8 * MIB // PIECE))


async def test_peers_that_never_send_do_not_hold_the_download_up(tmp_path: Path) -> None:
    content = make_file(tmp_path / "film.bin", 4 * MIB)
    seeds = raw_seeds(content, [honest, stall, stall])
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            addresses = [await nursery.start(seed.run) for seed in seeds]
            async with open_node(local_config(tmp_path / "got")) as node:
                got = await node.get(magnet_to(seeds[0], addresses))
                assert differences(content, await got.completed()) == []
            nursery.cancel_scope.cancel()


async def test_a_free_rider_does_not_keep_honest_leeches_from_completing(tmp_path: Path) -> None:
    content = make_file(tmp_path / "seed" / "film.bin", 4 * MIB)
    with trio.fail_after(20):
        # Six greedy strangers and five slots: the optimistic one must move while we watch.
        brisk = TorrentConfig(unchoke_interval=0.1, optimistic_interval=0.3)
        async with local_nodes(3, tmp_path / "nodes", torrent=brisk) as nodes:
            shared = await nodes[0].share(content, piece_length=PIECE)
            await shared.completed()  # while it is checked, whoever dials is hung up on
            await announced(nodes)
            async with trio.open_nursery() as nursery:
                for i in range(6):
                    nursery.start_soon(
                        ride_free,
                        nodes[0].address,
                        shared.info_hash,
                        b"-FREE%d-" % i,
                        4 * MIB // PIECE,
                        PIECE,
                    )
                await until(lambda: len(shared.peers()) == 6, "the free riders are connected")
                torrents = [await node.get(str(shared.magnet)) for node in nodes[1:]]
                await all_completed(torrents)
                nursery.cancel_scope.cancel()
            for got in torrents:
                assert got.path is not None
                assert differences(content, got.path) == []


async def test_another_peer_completes_what_a_dying_seed_began(tmp_path: Path) -> None:
    content = make_file(tmp_path / "film.bin", 8 * MIB)
    first, second = raw_seeds(content, [honest, honest])
    blocks = 8 * MIB // BLOCK
    first.quota = blocks // 2
    second.gate = first.exhausted
    second.metadata = False  # it would not answer before the gate opens
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            addresses = [await nursery.start(seed.run) for seed in (first, second)]
            async with open_node(local_config(tmp_path / "got")) as node:
                got = await node.get(magnet_to(first, addresses))
                assert differences(content, await got.completed()) == []
            nursery.cancel_scope.cancel()
    assert first.served == blocks // 2
    # What was on its way when the first one died may be asked for again; what arrived may not.
    assert blocks // 2 <= second.served < blocks * 3 // 4
