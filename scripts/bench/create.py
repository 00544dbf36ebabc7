"""How fast is a torrent made, and how fast is content that is there already checked again?

    python scripts/bench/create.py --size 1GiB --piece 256KiB --rounds 5

Everybody reads the same warm file. A contestant that is not installed is left out and named.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from peers import libtorrent_create, libtorrent_settings, list_files, make_content, parse_size

Contestant = Callable[[Path, int, Path], None]
"""(content, piece length, an empty folder to write to). Timed from call to return."""


def make_ours(content: Path, piece_length: int, _folder: Path) -> None:
    from dht_torrent.metainfo import make

    make(content, piece_length=piece_length).to_torrent()


def make_libtorrent(content: Path, piece_length: int, _folder: Path) -> None:
    libtorrent_create(content, piece_length)


def make_torf(content: Path, piece_length: int, folder: Path) -> None:
    import torf  # type: ignore[import-not-found,unused-ignore]  # optional: measured if there

    torrent = torf.Torrent(path=content, piece_size=piece_length)
    torrent.generate()
    torrent.write(folder / "torf.torrent")


def make_mktorrent(content: Path, piece_length: int, folder: Path) -> None:
    command = [
        "mktorrent",
        "-l",
        str(piece_length.bit_length() - 1),
        "-t",
        str(os.cpu_count() or 1),
    ]
    command += ["-o", str(folder / "mk.torrent"), str(content)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def check_libtorrent(content: Path, piece_length: int, folder: Path) -> None:
    import libtorrent as lt

    torrent = folder.parent / "content.torrent"
    session = lt.session(libtorrent_settings("default"))
    params = lt.load_torrent_file(str(torrent))
    params.save_path = str(content.parent)
    params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    handle = session.add_torrent(params)
    while str(handle.status().state) != "seeding":
        session.wait_for_alert(5)
        session.pop_alerts()


def check_ours(content: Path, piece_length: int, folder: Path) -> None:
    import trio

    trio.run(_check_ours, content, folder.parent / "content.torrent")


async def _check_ours(content: Path, torrent: Path) -> None:
    from dht_torrent import Config, open_node

    config = Config(bootstrap=[], listen="127.0.0.1:0", state_dir=None, download_dir=content.parent)
    async with open_node(config) as node:
        got = await node.get(torrent, output=content.parent)
        await got.completed()


MAKE: dict[str, Contestant] = {
    "ours": make_ours,
    "libtorrent": make_libtorrent,
    "torf": make_torf,
    "mktorrent": make_mktorrent,
}
CHECK: dict[str, Contestant] = {"ours": check_ours, "libtorrent": check_libtorrent}


def missing(name: str) -> bool:
    if name == "mktorrent":
        return shutil.which("mktorrent") is None
    if name == "torf":
        try:
            import torf  # type: ignore[import-not-found,unused-ignore]  # noqa: F401
        except ImportError:
            return True
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=parse_size, default=parse_size("1GiB"))
    parser.add_argument("--piece", type=parse_size, default=parse_size("256KiB"))
    parser.add_argument("--files", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help="contestants containing this text")
    parser.add_argument("--dir", type=Path)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-", dir=args.dir) as name:
        folder = Path(name)
        content = make_content(folder, args.size, args.files)
        (folder / "content.torrent").write_bytes(libtorrent_create(content, args.piece))
        for _ in range(args.rounds):
            for work, contestants in (("make", MAKE), ("check", CHECK)):
                for who, contestant in contestants.items():
                    label = f"{work} {who}"
                    if missing(who) or (args.only and args.only not in label):
                        continue
                    for file in list_files(content):
                        file.read_bytes()  # warm: the disk is not what is compared
                    with tempfile.TemporaryDirectory(dir=folder) as scratch:
                        began = time.monotonic()
                        contestant(content, args.piece, Path(scratch))
                        seconds.setdefault(label, []).append(time.monotonic() - began)
    if args.json:
        print(json.dumps(seconds))
        return
    print(f"{args.size / 1e6:.0f} MB in {args.files} file(s), pieces of {args.piece >> 10} KiB,")
    print(f"median of {args.rounds} rounds")
    for label, all_seconds in seconds.items():
        median = statistics.median(all_seconds)
        print(f"{label:18} {median:7.3f} s  {args.size / median / 1e6:6.0f} MB/s")
    if absent := [who for who in MAKE if missing(who)]:
        print(f"not installed, so not measured: {', '.join(absent)}", file=sys.stderr)


if __name__ == "__main__":
    main()
