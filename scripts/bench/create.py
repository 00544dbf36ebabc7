"""How fast is a torrent made, and how fast is content that is there already checked again?

    python scripts/bench/create.py --size 1GiB --piece 256KiB --piece 1MiB --rounds 5

Everybody reads the same warm file, in turns (A B C A B C ...), and all hashes that can be had are
compared. The floor is a thread per core that does nothing but preadv and SHA-1. A check is timed
from a client that runs and knows the torrent. A contestant that is not installed is left out and
named.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from peers import libtorrent_create, libtorrent_settings, list_files, make_content, parse_size
from table import table

from dht_torrent.config import DiskConfig
from dht_torrent.engine.torrent.disk import Disk, TorrentDisk
from dht_torrent.metainfo import parse_torrent
from dht_torrent.storage import FileStorage
from dht_torrent.storage.making import make

SLICE = 2 << 20
"""Bytes the floor reads at once: with 1 MiB the fastest of 64 KiB to 16 MiB."""
CORES = os.cpu_count() or 1


@dataclass(frozen=True)
class Task:
    """What a contestant is given."""

    content: Path
    torrent: Path
    """A .torrent file of it."""
    piece_length: int
    scratch: Path
    """An empty folder to write to."""


Timed = Callable[[], None]
"""The part of the work that counts; it takes as long as it takes."""
Prepared = tuple[Timed, Callable[[], bytes | None]]
"""The second of the pair gives, after the work, the .torrent that was made, or None."""
Contestant = Callable[[Task], Prepared]


@dataclass(frozen=True)
class Run:
    """One contestant's turn."""

    work: str
    who: str
    piece_length: int
    seconds: float
    cpu: float
    """CPU seconds, of programs started as well."""


def nothing() -> None:
    """What a check makes."""


def make_ours(task: Task) -> Prepared:
    made: list[bytes] = []

    def run() -> None:
        made.append(make(task.content, piece_length=task.piece_length).to_torrent())

    return run, made.pop


def make_sketched(task: Task) -> Prepared:
    """With the sketch by which similar torrents are found."""
    from dht_torrent.engine.search.sketching import Sketching

    made: list[bytes] = []

    def run() -> None:
        sketching = Sketching()
        metainfo = make(task.content, piece_length=task.piece_length, sampler=sketching)
        made.append(metainfo.to_torrent())
        sketching.content()

    return run, made.pop


def make_libtorrent(task: Task) -> Prepared:
    made: list[bytes] = []

    def run() -> None:
        made.append(libtorrent_create(task.content, task.piece_length))

    return run, made.pop


def make_torf(task: Task) -> Prepared:
    import torf  # optional: measured if there

    torrent = torf.Torrent(path=task.content, piece_size=task.piece_length)

    def run() -> None:
        torrent.generate()

    return run, lambda: bytes(torrent.dump())


def make_mktorrent(task: Task) -> Prepared:
    made = task.scratch / "mk.torrent"
    power = str(task.piece_length.bit_length() - 1)
    command = ["mktorrent", "-l", power, "-t", str(CORES), "-o", str(made), str(task.content)]

    def run() -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    return run, made.read_bytes


def check_ours(task: Task) -> Prepared:
    import trio

    metainfo = parse_torrent(task.torrent.read_bytes())
    config = DiskConfig()
    storage = FileStorage(
        task.content.parent, metainfo, config, content=task.content, writable=False
    )
    content = TorrentDisk(Disk(config), storage, metainfo.geometry, metainfo.pieces)

    def run() -> None:
        if len(trio.run(content.check)) != metainfo.geometry.piece_count:
            raise SystemExit("ours: not all pieces are right")

    return run, nothing


def check_libtorrent(task: Task, threads: int | None = None) -> Prepared:
    import libtorrent as lt

    settings = libtorrent_settings("default")
    if threads is not None:
        settings["hashing_threads"] = threads
    session = lt.session(settings)
    params = lt.load_torrent_file(str(task.torrent))
    params.save_path = str(task.content.parent)
    params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    params.flags |= lt.torrent_flags.seed_mode  # believed until it is told to look again
    torrent = session.add_torrent(params)

    def wait_for(alert_type: type) -> None:
        while True:
            session.wait_for_alert(1000)
            if any(isinstance(alert, alert_type) for alert in session.pop_alerts()):
                return

    wait_for(lt.torrent_checked_alert)

    def run() -> None:
        torrent.force_recheck()
        wait_for(lt.torrent_checked_alert)
        if torrent.status().progress < 1:
            raise SystemExit("libtorrent: not all pieces are right")

    return run, nothing


def check_libtorrent_all(task: Task) -> Prepared:
    return check_libtorrent(task, CORES)


def check_torf(task: Task) -> Prepared:
    import torf

    torrent = torf.Torrent.read(task.torrent)

    def run() -> None:
        torrent.verify(task.content)

    return run, nothing


def floor(task: Task) -> Prepared:
    # A piece does not go on in the next file: it is the bytes that cost, and those are the same.
    slices: list[tuple[Path, int, int]] = []
    step = max(task.piece_length, SLICE // task.piece_length * task.piece_length)
    for path in list_files(task.content):
        size = path.stat().st_size
        slices += [(path, at, min(step, size - at)) for at in range(0, size, step)]
    digests: list[bytes] = []

    def work(share: list[tuple[Path, int, int]]) -> None:
        buffer = memoryview(bytearray(step))
        fd, opened = -1, None
        for path, offset, length in share:
            if path != opened:
                if opened is not None:
                    os.close(fd)
                fd, opened = os.open(path, os.O_RDONLY), path
            if os.preadv(fd, [buffer[:length]], offset) != length:
                raise SystemExit("the floor read too little")
            for at in range(0, length, task.piece_length):
                piece = buffer[at : min(at + task.piece_length, length)]
                digests.append(hashlib.sha1(piece).digest())
        if opened is not None:
            os.close(fd)

    def run() -> None:
        threads = [
            threading.Thread(target=work, args=(slices[i::CORES],), daemon=True)
            for i in range(CORES)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return run, nothing


CONTESTANTS: dict[str, dict[str, Contestant]] = {
    "make": {
        "ours": make_ours,
        "ours, sketched": make_sketched,
        "libtorrent": make_libtorrent,
        "mktorrent": make_mktorrent,
        "torf": make_torf,
        "floor": floor,
    },
    "check": {
        "ours": check_ours,
        "libtorrent": check_libtorrent,
        "libtorrent, a thread a core": check_libtorrent_all,
        "torf": check_torf,
        "floor": floor,
    },
}


def is_missing(who: str) -> bool:
    if who == "mktorrent":
        return shutil.which("mktorrent") is None
    return who == "torf" and importlib.util.find_spec("torf") is None


def cpu_of_all() -> float:
    """CPU seconds of this process and of the programs it has started."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def warm(content: Path) -> None:
    """Have all of it in memory: the disk is not what is compared."""
    for path in list_files(content):
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 20):
                pass


def take_turn(work: str, who: str, task: Task, compare: bool) -> Run:
    warm(task.content)
    timed, result = CONTESTANTS[work][who](task)
    cpu, began = cpu_of_all(), time.monotonic()
    timed()
    seconds, cpu = time.monotonic() - began, cpu_of_all() - cpu
    made = result()
    if made is not None and compare:
        expected = parse_torrent(task.torrent.read_bytes()).pieces
        if parse_torrent(made).pieces != expected:
            raise SystemExit(f"{who} made other hashes")
    return Run(work, who, task.piece_length, seconds, cpu)


def result_table(runs: list[Run], work: str, piece_length: int, size: int) -> str:
    mine = [run for run in runs if run.work == work and run.piece_length == piece_length]
    names = list(dict.fromkeys(run.who for run in mine))
    seconds = {who: statistics.median(r.seconds for r in mine if r.who == who) for who in names}

    def row(who: str) -> list[str]:
        rates = sorted(size / run.seconds / 1e6 for run in mine if run.who == who)
        ratios = [
            f"{seconds[other] / seconds[who]:.2f}" if other in seconds else "-"
            for other in ("libtorrent", "floor")
        ]
        return [
            who,
            f"{seconds[who]:.3f}",
            f"{size / seconds[who] / 1e6:.0f}",
            f"{rates[0]:.0f}..{rates[-1]:.0f}",
            *ratios,
            f"{statistics.median(run.cpu for run in mine if run.who == who):.2f}",
        ]

    head = [f"{work}, {piece_length >> 10} KiB pieces", "s", "MB/s", "min..max"]
    return table([*head, "/libtorrent", "/floor", "CPU s"], [row(who) for who in names])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=parse_size, default=parse_size("1GiB"))
    parser.add_argument(
        "--piece", type=parse_size, action="append", help="may be repeated; 256KiB and 1MiB"
    )
    parser.add_argument("--files", type=int, default=1, help="1 makes a single-file torrent")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help="contestants containing this text, as `check ours`")
    parser.add_argument("--dir", type=Path, help="where to put the data, as /dev/shm")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    args = parser.parse_args()
    pieces = args.piece or [parse_size("256KiB"), parse_size("1MiB")]
    turns = [
        (work, who)
        for work, contestants in CONTESTANTS.items()
        for who in contestants
        if not is_missing(who) and (not args.only or args.only in f"{work} {who}")
    ]
    if not turns:
        parser.error("--only matches nobody who is installed")

    runs = []
    with tempfile.TemporaryDirectory(prefix="bench-", dir=args.dir) as name:
        folder = Path(name)
        content = make_content(folder, args.size, args.files)
        for piece_length in pieces:
            torrent = folder / f"{piece_length}.torrent"
            torrent.write_bytes(libtorrent_create(content, piece_length))
            for _ in range(args.rounds):
                for work, who in turns:
                    with tempfile.TemporaryDirectory(dir=folder) as scratch:
                        task = Task(content, torrent, piece_length, Path(scratch))
                        # Each has its own idea of how files of a folder should be ordered.
                        runs.append(take_turn(work, who, task, compare=args.files == 1))
    if args.json:
        asked = {key: str(value) for key, value in vars(args).items()}
        print(json.dumps({"asked": asked, "runs": [asdict(run) for run in runs]}))
        return
    print(f"{args.size / 1e6:.0f} MB in {args.files} file(s), median of {args.rounds} rounds;")
    print("the ratios are how many times as fast as that contestant")
    for piece_length in pieces:
        for work in dict.fromkeys(work for work, _ in turns):
            print()
            print(result_table(runs, work, piece_length, args.size))
    if absent := [who for who in CONTESTANTS["make"] if is_missing(who)]:
        print(f"not installed, so not measured: {', '.join(absent)}", file=sys.stderr)


if __name__ == "__main__":
    main()
