"""A node with more files than it may open, in a process of its own. Run by test_descriptors.py.

    python crowded_process.py FOLDER TORRENTS FILES LIMIT

Shares TORRENTS folders of FILES small files each in FOLDER, with LIMIT descriptors, and takes
commands in FOLDER/state. Prints, as JSON, the port and the magnet links when all are shared, and
runs until told to stop; then how many files were open, at the most, and how many torrents failed.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import trio

from dht_torrent import Config, Node, open_node
from dht_torrent.daemon.server import serve


def make(folder: Path, torrents: int, files: int) -> list[Path]:
    made = [folder / f"share-{number}" for number in range(torrents)]
    for number, root in enumerate(made):
        root.mkdir()
        for index in range(files):
            (root / f"{index}.txt").write_text(f"file {index} of torrent {number}\n" * 3)
    return made


async def main(folder: Path, torrents: int, files: int) -> None:
    shared = make(folder, torrents, files)
    config = Config(bootstrap=[], listen="127.0.0.1:0", state_dir=folder / "state")
    most = failed = 0

    async def watch(node: Node) -> None:
        nonlocal most, failed
        while True:
            failed = max(failed, sum(t.error is not None for t in node.torrents.values()))
            most = max(most, descriptors_open())
            await trio.sleep(0.05)

    async with open_node(config) as node, trio.open_nursery() as nursery:
        nursery.start_soon(watch, node)
        started = time.perf_counter()
        magnets = [str((await node.share(path)).magnet) for path in shared]
        with trio.move_on_after(10):
            while (seeding := count(node, "seeding")) < torrents:
                await trio.sleep(0.01)
        await nursery.start(serve_until_told, nursery, node, folder)
        say(
            port=node.address.port,
            magnets=magnets,
            seeding=seeding,
            warnings=node.warnings,
            seconds=time.perf_counter() - started,
        )
        await trio.sleep_forever()
    states = sorted({torrent.state for torrent in node.torrents.values()})
    say(most=most, failed=failed, states=states)


def count(node: Node, state: str) -> int:
    return sum(torrent.state == state for torrent in node.torrents.values())


def descriptors_open() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def say(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def serve_until_told(
    nursery: trio.Nursery, node: Node, folder: Path, *, task_status: trio.TaskStatus[object]
) -> None:
    await serve(node, None, folder / "state", task_status=task_status)
    nursery.cancel_scope.cancel()


if __name__ == "__main__":
    limit = int(sys.argv[4])
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    trio.run(main, Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
