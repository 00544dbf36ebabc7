"""How fast do bytes move from one seed to one leech, and what does it cost each side?

    python scripts/bench/transfer.py --size 1GiB --piece 256KiB --files 1 --rounds 5
    python scripts/bench/transfer.py --encryption rc4
    python scripts/bench/transfer.py --cache warm cold --only ours --only libtorrent-
    python scripts/bench/transfer.py --size 8GiB --piece 1MiB --sparse --cache cold --only 'ours->o'

Contestants take turns (A B C A B C ...), so that a slow minute of the machine hits all of them.
Every copy is compared byte for byte. Loopback TCP, connected by address; libtorrent starts from the
.torrent, ours from a magnet link, so fetching the metadata is in our time only.

The payload goes in the clear; with --encryption rc4 every side accepts nothing but MSE with all of
it encrypted, save the floor, which knows no protocol. aria2 and Transmission, where they are
installed, seed to libtorrent and fetch from it: the same roles in which ours is measured.

A warm leech writes into page cache that was just in use, and the seed's content is in the cache.
A cold run (--cache cold) has no such reserve, and the content's pages are dropped before it: on a
disk, that is, for what lies in /dev/shm is always in memory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from machine import load, machine
from peers import (
    NAME,
    Line,
    Worker,
    differences,
    drop_pages,
    empty,
    libtorrent_create,
    list_files,
    make_content,
    make_sparse,
    parse_size,
    settle,
    warm,
    worker,
)
from programs import CLIENTS, PROGRAMS, Driven, Place, is_installed

CONTESTANTS = {
    # name: (seed, leech, libtorrent's preset)
    "libtorrent->libtorrent": ("lt-seed", "lt-leech", "default"),
    "libtorrent hps->hps": ("lt-seed", "lt-leech", "high_performance_seed"),
    "ours->ours": ("our-seed", "our-leech", "default"),
    "libtorrent->ours": ("lt-seed", "our-leech", "default"),
    "ours->libtorrent": ("our-seed", "lt-leech", "default"),
    "aria2->libtorrent": ("aria2-seed", "lt-leech", "default"),
    "libtorrent->aria2": ("lt-seed", "aria2-leech", "default"),
    "transmission->libtorrent": ("transmission-seed", "lt-leech", "default"),
    "libtorrent->transmission": ("lt-seed", "transmission-leech", "default"),
    "floor (no protocol)": ("floor-seed", "floor-leech", "default"),
}
ROLES = {"a seed": "{}->libtorrent", "a leech": "libtorrent->{}"}
"""What ours and other programs do alike, with libtorrent at the other end."""
CACHES = ("warm", "cold")
BASELINE = "libtorrent->libtorrent"
MODES = {"none": "payload in the clear", "rc4": "MSE with all payload encrypted by RC4"}


@dataclass(frozen=True)
class Run:
    """One copy of the content."""

    contestant: str
    seconds: float
    """From the go until the leech has verified and written everything."""
    seed_cpu: float
    leech_cpu: float
    seed_rss: int
    leech_rss: int
    cache: str = "warm"

    @property
    def name(self) -> str:
        return self.contestant if self.cache == "warm" else f"{self.contestant}, cold"


@dataclass(frozen=True)
class Bench:
    """What all the copies of one invocation share."""

    content: Path
    torrent: Path
    magnet: str
    size: int
    piece_length: int
    download: Path
    encryption: str = "none"

    def run(self, contestant: str, cache: str = "warm") -> Run:
        seed_role, leech_role, preset = CONTESTANTS[contestant]
        empty(self.download)
        settle()
        with (
            self._side(seed_role, preset) as seed,
            self._side(leech_role, preset) as leech,
        ):
            seed_at = ("127.0.0.1", int(seed.expect("ready")["port"]))
            leech_at = ("127.0.0.1", int(leech.expect("ready")["port"]))
            with self._cache(cache):
                if isinstance(leech, Worker):
                    seed.go()
                    leech.go([seed_at])
                else:  # a program cannot be told of a peer, and is dialled
                    leech.go()
                    seed.go([leech_at])
                done: Line = leech.expect("done")
            leech.stop()
            seeded = seed.stop()
        if wrong := differences(self.content, self.download / NAME):
            raise SystemExit(f"{contestant}: the copy is wrong: {wrong[:5]}")
        return Run(
            contestant,
            done["seconds"],
            seeded["cpu"],
            done["cpu"],
            seeded["rss"],
            done["rss"],
            cache,
        )

    @contextlib.contextmanager
    def _side(self, role: str, preset: str) -> Iterator[Worker | Driven]:
        client, _, what = role.partition("-")
        if client not in PROGRAMS:
            with worker(role, **self._options(role, preset)) as made:
                yield made
            return
        state = self.download.parent / "state"
        empty(state)
        folder = self.content.parent if what == "seed" else self.download
        place = Place(self.torrent, folder, state, self.size)
        with CLIENTS[client](place, what == "seed", self.encryption == "rc4") as started:
            yield Driven(started)

    @contextlib.contextmanager
    def _cache(self, cache: str) -> Iterator[None]:
        """Once both sides are ready, for they have just read the content."""
        if cache == "warm":
            with warm(self.download.parent, self.size):
                yield
        else:
            drop_pages(self.content)
            yield

    def _options(self, role: str, preset: str) -> dict[str, Any]:
        match role:
            case "lt-seed" | "lt-leech":
                folder = self.content.parent if role == "lt-seed" else self.download
                return {
                    "torrent": str(self.torrent),
                    "folder": str(folder),
                    "preset": preset,
                    "encryption": self.encryption,
                }
            case "our-seed" | "our-leech":
                return {
                    "path": str(self.content),
                    "piece_length": self.piece_length,
                    "folder": str(self.download),
                    "magnet": self.magnet,
                    "encryption": self.encryption,
                }
            case "floor-seed":
                return {"path": str(self.content)}
            case _:
                root = self.content.parent
                files = list_files(self.content)
                layout = [(str(f.relative_to(root)), f.stat().st_size) for f in files]
                return {
                    "folder": str(self.download),
                    "layout": layout,
                    "piece_length": self.piece_length,
                }


def table(runs: list[Run], size: int) -> str:
    """Medians per contestant and cache, and the ratio to libtorrent's pair with the same cache."""
    names = {run.name: run.cache for run in runs}
    rate = {
        name: size / statistics.median(r.seconds for r in runs if r.name == name) / 1e6
        for name in names
    }
    baseline = {run.cache: rate[run.name] for run in runs if run.contestant == BASELINE}
    head = (
        f"{'contestant':30} {'MB/s':>7} {'min..max':>13} {'ratio':>6}"
        f" {'seed CPU s':>10} {'leech CPU s':>11} {'seed MB':>8} {'leech MB':>8}"
    )
    lines = [head, "-" * len(head)]
    for name, cache in names.items():
        mine = [run for run in runs if run.name == name]
        rates = sorted(size / run.seconds / 1e6 for run in mine)
        ratio = f"{rate[name] / baseline[cache]:.2f}" if cache in baseline else "-"
        lines.append(
            f"{name:30} {rate[name]:7.0f} {f'{rates[0]:.0f}..{rates[-1]:.0f}':>13} {ratio:>6}"
            f" {statistics.median(r.seed_cpu for r in mine):10.2f}"
            f" {statistics.median(r.leech_cpu for r in mine):11.2f}"
            f" {max(r.seed_rss for r in mine) / 1e6:8.0f}"
            f" {max(r.leech_rss for r in mine) / 1e6:8.0f}"
        )
    return "\n".join(lines)


def duels(runs: list[Run]) -> list[str]:
    """A line for each program and role that ours was measured in as well: our rate over theirs."""
    lines = []
    for cache in dict.fromkeys(run.cache for run in runs):
        seconds = {
            name: statistics.median(
                r.seconds for r in runs if (r.contestant, r.cache) == (name, cache)
            )
            for name in {run.contestant for run in runs if run.cache == cache}
        }
        for program in PROGRAMS:
            for role, pair in ROLES.items():
                theirs, ours = seconds.get(pair.format(program)), seconds.get(pair.format("ours"))
                if theirs is not None and ours is not None:
                    where = "" if cache == "warm" else f", {cache}"
                    lines.append(f"ours over {program} as {role}{where}: {theirs / ours:.2f}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=parse_size, default=parse_size("1GiB"))
    parser.add_argument("--piece", type=parse_size, default=parse_size("256KiB"))
    parser.add_argument("--files", type=int, default=1, help="1 makes a single-file torrent")
    parser.add_argument(
        "--sparse", action="store_true", help="one file of zeros, which takes the seed no place"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--only", action="append", help="contestants containing this text; may be repeated"
    )
    parser.add_argument(
        "--encryption", choices=MODES, default="none", help="of the payload, on both sides"
    )
    parser.add_argument(
        "--cache", nargs="+", choices=CACHES, default=["warm"], help="page cache; both take turns"
    )
    parser.add_argument("--dir", type=Path, help="where to put the data, as /dev/shm")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    args = parser.parse_args()
    names = [
        name
        for name, (*roles, _) in CONTESTANTS.items()
        if (not args.only or any(part in name for part in args.only))
        and all(is_installed(role.partition("-")[0]) for role in roles)
    ]
    if args.sparse and args.files > 1:
        parser.error("--sparse is one file, and --files another number of them")
    if not names:
        parser.error(f"--only must match one of: {', '.join(CONTESTANTS)}")

    before = load()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=args.dir) as folder:
        (Path(folder) / "seed").mkdir()
        seeded = Path(folder) / "seed"
        content = (
            make_sparse(seeded, args.size)
            if args.sparse
            else make_content(seeded, args.size, args.files)
        )
        torrent = Path(folder) / "content.torrent"
        torrent.write_bytes(libtorrent_create(content, args.piece))
        bench = Bench(
            content,
            torrent,
            magnet_of(torrent),
            args.size,
            args.piece,
            Path(folder) / "download",
            args.encryption,
        )
        runs = [
            bench.run(name, cache)
            for _ in range(args.rounds)
            for cache in args.cache
            for name in names
        ]
    if args.json:
        asked = {key: str(value) for key, value in vars(args).items()}
        told = {"asked": asked, "machine": machine(before), "runs": [asdict(run) for run in runs]}
        print(json.dumps(told))
    else:
        print(
            f"{args.size / 1e6:.0f} MB in {args.files} file(s), pieces of {args.piece >> 10} KiB,"
            f" {MODES[args.encryption]},"
        )
        print(f"median of {args.rounds} rounds, every copy compared byte for byte")
        print(machine(before))
        print(table(runs, args.size))
        print(*duels(runs), sep="\n")


def magnet_of(torrent: Path) -> str:
    """The bare magnet link of a .torrent file, worked out by libtorrent."""
    import libtorrent as lt

    return f"magnet:?xt=urn:btih:{lt.load_torrent_file(str(torrent)).info_hashes.v1}"


if __name__ == "__main__":
    main()
