"""How long until a whole swarm has it: one seed, N leeches, a process each, all connected.

    python scripts/bench/swarm.py --size 256MiB --leeches 8 --rounds 3

A leech serves while it fetches, and goes on until everybody is done. Every copy is compared.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from peers import (
    NAME,
    Worker,
    differences,
    empty,
    libtorrent_create,
    make_content,
    parse_size,
    settle,
    warm,
    worker,
)
from transfer import magnet_of

CONTESTANTS = {"libtorrent": "lt", "ours": "our"}


@dataclass(frozen=True)
class Run:
    """One swarm."""

    contestant: str
    first: float
    """Seconds until the first leech was done."""
    last: float
    """Seconds until all were done."""
    cpu: float
    """CPU seconds of all processes."""
    rss: int
    """Peak of the largest leech, bytes."""
    seed_share: float
    """The seed's uploads over what all leeches needed; 1 / leeches at best, 1 at worst."""


def run(
    contestant: str, content: Path, torrent: Path, folder: Path, leeches: int, piece_length: int
) -> Run:
    empty(folder)
    settle()
    kind = CONTESTANTS[contestant]
    magnet = magnet_of(torrent)

    def start(role: str, where: Path) -> Worker:
        where.mkdir(exist_ok=True)
        name = f"{kind}-{role}"
        if kind == "lt":
            made = worker(name, torrent=str(torrent), folder=str(where), preset="default")
        else:
            made = worker(
                name,
                path=str(content),
                piece_length=piece_length,
                folder=str(where),
                magnet=magnet,
            )
        return stack.enter_context(made)

    with contextlib.ExitStack() as stack:
        seed = start("seed", content.parent)
        crowd = [start("leech", folder / f"{i:03d}") for i in range(leeches)]
        points = [("127.0.0.1", member.expect("ready")["port"]) for member in (seed, *crowd)]
        with warm(folder.parent, leeches * torrent_size(content)):
            seed.go()
            for i, leech in enumerate(crowd):
                # Each dials the seed and those before it: every pair has exactly one connection.
                leech.go(points[: i + 1])
            done = [leech.expect("done") for leech in crowd]
        lines = [leech.stop() for leech in crowd]
        seeded = seed.stop()
    for i in range(leeches):
        if wrong := differences(content, folder / f"{i:03d}" / NAME):
            raise SystemExit(f"{contestant}: copy {i} is wrong: {wrong[:5]}")
    size = torrent_size(content)
    return Run(
        contestant,
        min(line["seconds"] for line in done),
        max(line["seconds"] for line in done),
        seeded["cpu"] + sum(line["cpu"] for line in lines),
        max(line["rss"] for line in lines),
        seeded["uploaded"] / (size * leeches),
    )


def torrent_size(content: Path) -> int:
    return content.stat().st_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=parse_size, default=parse_size("256MiB"))
    parser.add_argument("--piece", type=parse_size, default=parse_size("256KiB"))
    parser.add_argument("--leeches", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=list(CONTESTANTS))
    parser.add_argument("--dir", type=Path, help="where to put the data, as /dev/shm")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    names = [args.only] if args.only else list(CONTESTANTS)

    with tempfile.TemporaryDirectory(prefix="bench-", dir=args.dir) as folder:
        content = make_content(Path(folder), args.size, 1)
        torrent = Path(folder) / "content.torrent"
        torrent.write_bytes(libtorrent_create(content, args.piece))
        runs = [
            run(name, content, torrent, Path(folder) / "download", args.leeches, args.piece)
            for _ in range(args.rounds)
            for name in names
        ]
    if args.json:
        asked = {key: str(value) for key, value in vars(args).items()}
        print(json.dumps({"asked": asked, "runs": [asdict(one) for one in runs]}))
        return
    print(f"{args.size / 1e6:.0f} MB, one seed to {args.leeches} leeches, a process each,")
    print(f"median of {args.rounds} rounds, every copy compared byte for byte")
    head = (
        f"{'contestant':12} {'first s':>8} {'all s':>8} {'CPU s':>8} {'leech MB':>9} {'seed %':>7}"
    )
    print(head)
    print("-" * len(head))
    for name in names:
        mine = [one for one in runs if one.contestant == name]
        print(
            f"{name:12} {statistics.median(r.first for r in mine):8.2f}"
            f" {statistics.median(r.last for r in mine):8.2f}"
            f" {statistics.median(r.cpu for r in mine):8.2f}"
            f" {max(r.rss for r in mine) / 1e6:9.0f}"
            f" {statistics.median(r.seed_share for r in mine) * 100:7.0f}"
        )


if __name__ == "__main__":
    main()
