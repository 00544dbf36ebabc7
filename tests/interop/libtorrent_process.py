"""A libtorrent somewhere else: `libtorrent_process.py FOLDER TORRENT LIMIT`. It fetches the torrent
at LIMIT bytes a second, over TCP and uTP, from those who come to it."""

from __future__ import annotations

import signal
import sys

import libtorrent as lt


def main(folder: str, torrent_file: str, limit: int) -> None:
    session = lt.session(
        {
            "listen_interfaces": "0.0.0.0:6881",
            "enable_dht": False,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "download_rate_limit": limit,
        }
    )
    wanted = lt.add_torrent_params()
    wanted.ti = lt.torrent_info(torrent_file)
    wanted.save_path = folder
    wanted.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    session.add_torrent(wanted)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        signal.pause()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
