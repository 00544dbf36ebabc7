"""A move in a process of its own that kills itself at a given point. Run by test_kill.py.

    python moving_process.py STATE_DIR DOWNLOAD_DIR TORRENT TARGET CALL

Adds TORRENT, whose content lies in DOWNLOAD_DIR, unless it is here already, and moves it to TARGET
as if that were another file system. At the CALL-th call from there on that changes something on the
disk it dies by SIGKILL; otherwise it exits 0 when all of it is there.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from pathlib import Path
from typing import Any

import trio

from dht_torrent import Config, open_node
from dht_torrent.storage.moving import Carrying

CHANGES = ["fsync", "mkdir", "open", "pwrite", "rename", "rmdir", "unlink", "utime"]


def die_at(call: int) -> None:
    count = 0

    def counted(plain: Any) -> Any:
        def change(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return plain(*args, **kwargs)

        return change

    for name in CHANGES:
        setattr(os, name, counted(getattr(os, name)))


def refuse(*args: object, **kwargs: object) -> None:
    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))


def never(self: Carrying) -> bool:
    return False


async def main(state_dir: str, got: str, torrent: str, target: str, call: str) -> None:
    os.link = refuse
    Carrying.at_once = never  # type: ignore[method-assign]
    config = Config(
        bootstrap=[], listen="127.0.0.1:0", state_dir=state_dir, download_dir=got, fail_fast=True
    )
    async with open_node(config) as node:
        if not node.torrents:
            await node.get(Path(torrent))
        (one,) = node.torrents.values()
        with trio.fail_after(20):
            if one.state != "moving":
                await one.completed()
        die_at(int(call))
        await one.move(target)
        with trio.fail_after(20):
            await one.completed()


if __name__ == "__main__":
    state_dir, got, torrent, target, call = sys.argv[1:]
    trio.run(main, state_dir, got, torrent, target, call)
