"""A node somewhere else: `swarm_process.py FOLDER TORRENT LIMIT TCP [PEER]`. It fetches the
torrent, at LIMIT bytes a second if that is not 0, from PEER and whom it hears of, and says so;
without TCP if that says "no"."""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from dht_torrent import Config, HostPort, open_node


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def main(folder: Path, torrent_file: Path, limit: int, *more: str) -> None:
    tcp, *peers = more
    config = Config(
        bootstrap=(),
        listen="0.0.0.0:6881",
        download_dir=folder,
        limit_down=limit or None,
        tcp=tcp != "no",
        fail_fast=True,
    )
    async with open_node(config) as node:
        torrent = await node.get(torrent_file)
        torrent.add_peers([HostPort(peer, 6881) for peer in peers])
        say("ready")
        await torrent.completed()
        say("fetched")
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
