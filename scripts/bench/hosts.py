"""Nodes that host any number of torrents they have already, as processes of their own.

    python scripts/bench/hosts.py ROLE '{"json": "options"}'

Workers as those of peers.py that also answer an empty line on stdin with what they have used, and
what they hold in memory now. Both roles, ours and libtorrent, check the content of every .torrent
in a folder first, and are `ready` when all of it is served.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from peers import Usage, allow_many_files, libtorrent_settings, resident, say, wait_for_go

ROOM = 50
"""Connections allowed beyond those that are meant to come."""


def answer_until_end() -> None:
    """One line for each line, until stdin closes."""
    usage = Usage()
    while sys.stdin.readline():
        say(usage.line("usage", **resident()))
    say(usage.line("stopped"))


def run_ours(torrents: str, folder: str, slots: int, connections: int) -> None:
    import trio

    paths = sorted(Path(torrents).iterdir())
    trio.run(_ours, paths, Path(folder), slots, connections)


async def _ours(paths: Sequence[Path], folder: Path, slots: int, connections: int) -> None:
    import trio

    from dht_torrent import Config, open_node
    from dht_torrent.config import TorrentConfig

    config = Config(
        bootstrap=[],
        listen="127.0.0.1:0",
        state_dir=None,
        download_dir=folder,
        max_connections=connections + ROOM,
        torrent=TorrentConfig(unchoke_slots=slots, max_connections=connections + ROOM),
    )
    async with open_node(config) as node:
        hosted = [await node.get(path) for path in paths]
        for torrent in hosted:
            await torrent.completed()
        say({"event": "ready", "port": node.address.port})
        await trio.to_thread.run_sync(wait_for_go)
        await trio.to_thread.run_sync(answer_until_end)


def run_libtorrent(
    torrents: str, folder: str, slots: int, connections: int, preset: str = "default"
) -> None:
    import libtorrent as lt

    settings = libtorrent_settings(preset)
    # It begins to refuse incoming connections at two thirds of the limit, as measured with 2.1.
    settings.update(unchoke_slots_limit=slots, connections_limit=2 * connections + ROOM)
    session = lt.session(settings)
    hosted = []
    for path in sorted(Path(torrents).iterdir()):
        params = lt.load_torrent_file(str(path))
        params.save_path = folder
        params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
        hosted.append(session.add_torrent(params))
    while any(str(torrent.status().state) != "seeding" for torrent in hosted):
        session.wait_for_alert(50)
        session.pop_alerts()
    say({"event": "ready", "port": session.listen_port()})
    wait_for_go()
    answer_until_end()


ROLES: dict[str, Callable[..., None]] = {"ours": run_ours, "libtorrent": run_libtorrent}


if __name__ == "__main__":
    allow_many_files()
    ROLES[sys.argv[1]](**json.loads(sys.argv[2]))
