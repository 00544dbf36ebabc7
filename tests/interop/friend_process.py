"""A node somewhere else: `friend_process.py FOLDER LISTEN LSD BOOTSTRAP [MAGNET]`. It shares each
file of FOLDER/share, prints their magnets, and fetches MAGNET into FOLDER/got."""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from dht_torrent import Config, open_node


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def main(folder: Path, *more: str) -> None:
    listen, lsd, bootstrap, *magnets = more
    config = Config(
        bootstrap=() if bootstrap == "none" else (bootstrap,),
        listen=listen.split(","),
        lsd=lsd == "lsd",
        download_dir=folder / "got",
        fail_fast=True,
    )
    async with open_node(config) as node:
        for path in sorted((folder / "share").iterdir()):
            say(str((await node.share(path)).magnet))
        say("ready")
        for magnet in magnets:
            await (await node.get(magnet)).completed()
            say("fetched")
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), *sys.argv[2:])
