"""kill -9, again and again: what was verified and saved is never fetched a second time."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import trio

from dht_torrent.config import DhtConfig
from dht_torrent.storage.making import make
from tests.helpers.content import KIB, MIB, differences, make_file, make_tree, read_tree
from tests.helpers.nodes import announce_by_hand, local_nodes
from tests.helpers.raw_peer import BLOCK, RawSeed, single_file_info

SCRIPT = Path(__file__).with_name("leech_process.py")
PIECE = 64 * KIB
KILLS = 20
IMPATIENT = DhtConfig(soft_timeout=0.1)
"""The killed ones stay behind as contacts that never answer."""


class Pauses:
    """Stops answering after `limit` blocks, so that a run can be killed at a known point."""

    def __init__(self) -> None:
        self.left: float = 0
        self.reached = trio.Event()

    def __call__(self, piece: int, begin: int, data: bytes) -> bytes | None:
        if self.left <= 0:
            self.reached.set()
            return None
        self.left -= 1
        return data

    def allow(self, blocks: float) -> None:
        self.left = blocks
        self.reached = trio.Event()


async def test_a_download_survives_being_killed_twenty_times(tmp_path: Path) -> None:
    content = make_file(tmp_path / "film.bin", 8 * MIB)
    data = content.read_bytes()
    rng = random.Random(7)
    pauses = Pauses()
    seed = RawSeed(single_file_info("film.bin", data, PIECE), data, PIECE, pauses)
    log = tmp_path / "done.log"
    fetched_again: list[tuple[int, int]] = []

    with trio.fail_after(90):
        async with (
            trio.open_nursery() as nursery,
            local_nodes(2, tmp_path / "nodes", dht=IMPATIENT) as nodes,
        ):
            address = await nursery.start(seed.run)
            await announce_by_hand(nodes, seed.info_hash, address)

            def start() -> subprocess.Popen[bytes]:
                bootstrap = str(nodes[0].address)
                folders = [str(tmp_path / "state"), str(tmp_path / "got")]
                arguments = [*folders, bootstrap, seed.info_hash.hex(), str(log)]
                return subprocess.Popen(
                    [sys.executable, str(SCRIPT), *arguments],
                    env={**os.environ, "PYTHONPATH": str(SCRIPT.parents[2])},
                )

            blocks = len(data) // BLOCK
            for run in range(KILLS + 1):
                done = read_log(log)
                seen = len(seed.requests)
                # Each run gets a random share, so small that twenty of them never finish it.
                pauses.allow(rng.randint(1, blocks // KILLS - 1) if run < KILLS else float("inf"))
                leech = start()
                try:
                    if run < KILLS:
                        await pauses.reached.wait()
                        leech.send_signal(signal.SIGKILL)
                        await wait_for_exit(leech)
                    else:
                        assert await wait_for_exit(leech) == 0
                finally:
                    leech.kill()
                    leech.wait()
                fetched_again += [
                    (run, piece) for _, piece, _ in seed.requests[seen:] if piece in done
                ]
            nursery.cancel_scope.cancel()
    assert differences(content, tmp_path / "got" / "film.bin") == []
    assert fetched_again == []
    # A piece is done once in all those lives (or not at all, if killed between disk and log).
    done_pieces = [int(line) for line in log.read_text().split()]
    assert len(done_pieces) == len(set(done_pieces))
    assert not list((tmp_path / "state").rglob("*.tmp"))


MOVING = Path(__file__).with_name("moving_process.py")
FILES = {"a.bin": 300 * KIB, "cd1/b.bin": 200 * KIB, "cd1/c.bin": 100, "cd2/d.bin": 70 * KIB}
MOVES = 4


async def test_a_move_survives_being_killed_at_any_point(tmp_path: Path) -> None:
    content = make_tree(tmp_path / "mine" / "album", FILES)
    before = read_tree(content)
    torrent = tmp_path / "album.torrent"
    torrent.write_bytes(make(content, piece_length=PIECE).to_torrent())
    homes = [tmp_path / "got", tmp_path / "new"]
    shutil.copytree(content, homes[0] / "album")
    rng, killed = random.Random(5), 0

    def start(target: Path, call: int) -> subprocess.Popen[bytes]:
        arguments = [str(tmp_path / "state"), str(homes[0]), str(torrent), str(target), str(call)]
        return subprocess.Popen(
            [sys.executable, str(MOVING), *arguments],
            env={**os.environ, "PYTHONPATH": str(MOVING.parents[2])},
        )

    async def run(target: Path, call: int) -> int:
        process = start(target, call)
        try:
            return await wait_for_exit(process)
        finally:
            process.kill()
            process.wait()

    with trio.fail_after(90):
        for _ in range(MOVES):
            if await run(rng.choice(homes), rng.randint(1, 40)) != 0:
                killed += 1
                whole = [home for home in homes if (home / "album").exists()]
                # One of the places has all of it; the other one may still have some.
                assert any(read_tree(home / "album") == before for home in whole)
        assert await run(homes[1], 0) == 0
    assert killed >= 2
    assert read_tree(homes[1]) == {f"album/{name}": data for name, data in before.items()}
    assert list(homes[0].iterdir()) == []


def read_log(log: Path) -> set[int]:
    return set(map(int, log.read_text().split())) if log.exists() else set()


async def wait_for_exit(process: subprocess.Popen[bytes]) -> int:
    wait: Callable[[], int] = process.wait
    return await trio.to_thread.run_sync(wait, abandon_on_cancel=True)
