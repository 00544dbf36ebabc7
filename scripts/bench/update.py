"""What does the next version of a folder cost whoever has the last one?

    python scripts/bench/update.py --size 1GiB --rounds 5
    python scripts/bench/update.py --link 119MiB        # as if over 1 Gbit/s

A folder of files is released, and then again with 5 % of it changed: bytes in the middle of some
files, others grown at their end, others renamed, and one put before all the others, so that every
piece begins elsewhere. Our seed has the new version; ours fetches it from a magnet link

- in full, with nothing on its disk;
- with the old version in a folder that `get --from` names;
- with the old version as another torrent that it shares, and nothing said.

They take turns (A B C A B C ...), every copy is compared byte for byte, and time runs from the
link until all is verified and written. The floor is what any verified copy must do: two threads
that read what is the same, hash it and write it, and know beforehand where it is.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import statistics
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from peers import NAME, Line, cpu_seconds, differences, empty, parse_size, settle, warm, worker

CONTESTANTS = ("full", "from", "shared", "floor")
FULL = "full"
PLACES = 10
"""Changes in place, and files renamed; half as many files grow."""


@dataclass(frozen=True)
class Run:
    """One copy of the new version."""

    contestant: str
    seconds: float
    cpu: float
    """Seconds of the processor, of the one who fetches."""
    fetched: int
    """Payload bytes that came over the network."""


@dataclass(frozen=True)
class Versions:
    """The two versions, and where copies go."""

    old: Path
    new: Path
    piece_length: int
    folder: Path
    link: int | None = None
    """Bytes per second that the seed may send."""

    @property
    def size(self) -> int:
        return sum(file.stat().st_size for file in self.new.rglob("*") if file.is_file())

    def run(self, contestant: str) -> Run:
        target = self.folder / "download"
        empty(target)
        settle()
        if contestant == "floor":
            with warm(self.folder, self.size):
                return self._floor(target)
        options: dict[str, Any] = {"piece_length": self.piece_length, "folder": str(target)}
        with worker(
            "our-seed", path=str(self.new), magnet="", limit_up=self.link, **options
        ) as seed:
            ready = seed.expect("ready")
            magnet = f"magnet:?xt=urn:btih:{ready['id']}"
            if contestant == "from":
                options["sources"] = [str(self.old)]
            elif contestant == "shared":
                options["shared"] = str(self.old)
            with worker("our-leech", path="", magnet=magnet, **options) as leech:
                leech.expect("ready")
                with warm(self.folder, self.size):
                    seed.go()
                    leech.go([("127.0.0.1", ready["port"])])
                    done: Line = leech.expect("done")
                stopped = leech.stop()
            seed.stop()
        if wrong := differences(self.new, target / NAME):
            raise SystemExit(f"{contestant}: the copy is wrong: {wrong[:5]}")
        return Run(contestant, done["seconds"], done["cpu"], stopped["downloaded"])

    def _floor(self, target: Path) -> Run:
        """What is in both versions, read, hashed and written by two threads."""
        files = [file for file in self.old.rglob("*") if file.is_file()]
        lock = threading.Lock()

        def copy() -> None:
            buffer = memoryview(bytearray(self.piece_length))
            while True:
                with lock:
                    if not files:
                        return
                    file = files.pop()
                with file.open("rb", 0) as source, (target / str(id(file))).open("wb", 0) as made:
                    while count := source.readinto(buffer):
                        hashlib.sha1(buffer[:count]).digest()
                        made.write(buffer[:count])

        began, cpu = time.monotonic(), cpu_seconds()
        threads = [threading.Thread(target=copy) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return Run("floor", time.monotonic() - began, cpu_seconds() - cpu, 0)


def release(root: Path, size: int, files: int, rng: random.Random) -> Path:
    """A folder of files of one to ten shares each, together about `size` bytes."""
    shares = [rng.uniform(1, 10) for _ in range(files)]
    for number, share in enumerate(shares):
        folder = root / NAME / f"part-{number // 20:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / f"{number:04d}.bin", int(size * share / sum(shares)), rng)
    return root / NAME


def release_next(old: Path, root: Path, changed: int, rng: random.Random) -> Path:
    """The same with so many bytes of news: half of them in place, 30 % in a file before all others,
    and 20 % at the end of some."""
    new = root / NAME
    shutil.copytree(old, new)
    files = sorted(file for file in new.rglob("*") if file.is_file())
    rng.shuffle(files)
    inside, grown, renamed = (
        files[:PLACES],
        files[PLACES : PLACES + PLACES // 2],
        files[PLACES + PLACES // 2 : 2 * PLACES + PLACES // 2],
    )
    for file in inside:
        length = min(changed // 2 // PLACES, file.stat().st_size)
        with file.open("r+b") as opened:
            opened.seek(rng.randrange(file.stat().st_size - length + 1))
            opened.write(rng.randbytes(length))
    for file in grown:
        with file.open("ab") as opened:
            opened.write(rng.randbytes(changed // 5 // len(grown)))
    for file in renamed:
        file.rename(file.with_name(f"renamed-{file.name}"))
    _write(new / "0-first.bin", changed * 3 // 10, rng)
    return new


def _write(path: Path, size: int, rng: random.Random) -> None:
    with path.open("wb") as file:
        while size:
            chunk = rng.randbytes(min(size, 1 << 20))
            file.write(chunk)
            size -= len(chunk)


def table(runs: list[Run], size: int) -> str:
    """Medians per contestant, and the ratio to the full fetch of the same round."""
    names = list(dict.fromkeys(run.contestant for run in runs))
    full = [run.seconds for run in runs if run.contestant == FULL]
    head = (
        f"{'contestant':12} {'seconds':>8} {'min..max':>12} {'of full':>8} {'fetched':>8}"
        f" {'CPU s':>6}"
    )
    lines = [head, "-" * len(head)]
    for name in names:
        mine = [run for run in runs if run.contestant == name]
        seconds = sorted(run.seconds for run in mine)
        ratios = [run.seconds / whole for run, whole in zip(mine, full, strict=False)]
        lines.append(
            f"{name:12} {statistics.median(seconds):8.2f}"
            f" {f'{seconds[0]:.2f}..{seconds[-1]:.2f}':>12}"
            f" {f'{statistics.median(ratios):.2f}' if ratios else '-':>8}"
            f" {statistics.median(run.fetched for run in mine) / size:8.1%}"
            f" {statistics.median(run.cpu for run in mine):6.2f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=parse_size, default=parse_size("1GiB"))
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--piece", type=parse_size, default=parse_size("1MiB"))
    parser.add_argument("--link", type=parse_size, help="bytes per second that the seed may send")
    parser.add_argument("--changed", type=float, default=0.05, help="share of the bytes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", action="append", choices=CONTESTANTS, help="may be repeated")
    parser.add_argument("--dir", type=Path, help="where to put the data, as /dev/shm")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    args = parser.parse_args()
    if args.files < 3 * PLACES:
        parser.error(f"at least {3 * PLACES} files")
    names = [name for name in CONTESTANTS if not args.only or name in args.only]
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=args.dir) as folder:
        root = Path(folder)
        old = release(root / "old", args.size, args.files, rng)
        new = release_next(old, root / "new", int(args.size * args.changed), rng)
        versions = Versions(old, new, args.piece, root, args.link)
        runs = [versions.run(name) for _ in range(args.rounds) for name in names]
        size = versions.size
    if args.json:
        asked = {key: str(value) for key, value in vars(args).items()}
        print(json.dumps({"asked": asked, "size": size, "runs": [asdict(run) for run in runs]}))
    else:
        print(
            f"{size / 1e6:.0f} MB in {args.files + 1} files, pieces of {args.piece >> 10} KiB,"
            f" {args.changed:.0%} changed; load {os.getloadavg()[0]:.1f}"
        )
        print(f"median of {args.rounds} rounds, every copy compared byte for byte")
        print(table(runs, size))


if __name__ == "__main__":
    main()
