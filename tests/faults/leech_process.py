"""A download in a process of its own, to be killed. Run by test_kill.py.

    python leech_process.py STATE_DIR DOWNLOAD_DIR BOOTSTRAP INFOHASH LOG

Appends the index of every piece that is verified and on disk to LOG, one per line, and exits 0 when
all is complete.
"""

from __future__ import annotations

import os
import sys

import trio

from dht_torrent import Config, open_node
from dht_torrent.config import DhtConfig
from dht_torrent.trace import PieceDone, Record


async def main(state_dir: str, download_dir: str, bootstrap: str, infohash: str, log: str) -> None:
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def note(record: Record) -> None:
        if isinstance(record, PieceDone):
            os.write(fd, b"%d\n" % record.index)  # one write: whole, or not there

    config = Config(
        bootstrap=[bootstrap],
        listen="127.0.0.1:0",
        state_dir=state_dir,
        download_dir=download_dir,
        dht=DhtConfig(soft_timeout=0.1),
    )
    async with open_node(config, trace=note) as node:
        torrent = await node.get(infohash)
        await torrent.completed()


if __name__ == "__main__":
    state_dir, download_dir, bootstrap, infohash, log = sys.argv[1:]
    trio.run(main, state_dir, download_dir, bootstrap, infohash, log)
