"""What does it cost to serve many, and what does it cost to wait for them?

    python scripts/bench/seed.py --size 256MiB --leeches 50 --seconds 20 --rounds 5
    python scripts/bench/seed.py --idle --torrents 500 --connections 1000 --seconds 60

Serving: one seed, a process of its own, unchokes all of its leeches, which keep asking for pieces
in random order until the time is up and throw them away (light.py; each from an address of its own,
and some pieces are compared with their SHA-1). `crowd busy` is the CPU share of the leeches'
busiest process: well under 100 %, the leeches are waiting for the seed. The floor is a loop that
sends what is asked and decides nothing: the crowd takes at least that much. `slow/median` is the
bytes of the worst served leech over those of the one in the middle: 1 is fair.

Idle: torrents with no downloads and connections that send a keep-alive each 30 seconds. CPU is that
of one core. Memory is what is not mapped from files (libtorrent maps content). Our DHT runs, with
nobody to talk to; libtorrent's is off.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from peers import Line, Worker, libtorrent_create, make_content, parse_size, settle, worker
from table import table

HOSTS = str(Path(__file__).with_name("hosts.py"))
LIGHT = str(Path(__file__).with_name("light.py"))
SEEDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    # name: (script, role, what else it is told)
    "ours": (HOSTS, "ours", {}),
    "libtorrent": (HOSTS, "libtorrent", {}),
    "libtorrent hps": (HOSTS, "libtorrent", {"preset": "high_performance_seed"}),
    "floor (no protocol)": (LIGHT, "floor", {}),
}
IDLE = ("ours", "libtorrent")


@dataclass(frozen=True)
class Served:
    """One seed for a fixed time."""

    seed: str
    sent: int
    """Payload bytes that reached the leeches."""
    seconds: float
    cpu: float
    """CPU seconds of the seed."""
    slowest: float
    """The worst served leech over the median one."""
    busy: float
    """CPU share of the busiest crowd process."""
    rss: int
    """Bytes of the seed at the end, all of them."""
    each: float
    """Bytes per connection it has more, at the end, than before the leeches came."""
    proved: int
    """Pieces whose SHA-1 was compared."""


@dataclass(frozen=True)
class Idled:
    """One node with nothing to do."""

    node: str
    cpu: float
    """CPU seconds per second."""
    torrents: int
    """Bytes of memory with all torrents, before anybody connects."""
    each: float
    """Bytes more per connection."""
    rss: int
    """Bytes at the end, all of them."""


def start_seed(
    stack: contextlib.ExitStack, name: str, torrents: Path, folder: Path, slots: int, room: int
) -> tuple[Worker, Line]:
    """A seed, and what it said when it was ready."""
    script, role, more = SEEDS[name]
    options: dict[str, Any] = {"torrents": str(torrents), "folder": str(folder), **more}
    if role != "floor":
        options |= {"slots": slots, "connections": room}
    seed = stack.enter_context(worker(role, script=script, **options))
    return seed, seed.expect("ready")


def serve(name: str, torrents: Path, folder: Path, args: argparse.Namespace) -> Served:
    """Let `args.leeches` take what they can for `args.seconds`."""
    settle()
    (torrent,) = torrents.iterdir()
    with contextlib.ExitStack() as stack:
        seed, ready = start_seed(stack, name, torrents, folder, args.leeches, args.leeches)
        seed.go()
        alone = seed.ask()
        crowds = []
        for i in range(args.processes):
            first, end = (args.leeches * part // args.processes for part in (i, i + 1))
            options = {"torrent": str(torrent), "leeches": end - first, "first": first}
            crowds.append(worker("crowd", script=LIGHT, depth=args.depth, **options))
        members = [stack.enter_context(crowd) for crowd in crowds]
        for member in members:
            member.expect("ready")
            member.go([("127.0.0.1", ready["port"])])
        for member in members:
            member.expect("running")
        time.sleep(args.warm_up)
        before, crowd_before = seed.ask(), [member.ask() for member in members]
        time.sleep(args.seconds)
        after, crowd_after = seed.ask(), [member.ask() for member in members]
        proved = sum(member.stop()["proved"] for member in members)
        seed.stop()
    pairs = list(zip(crowd_before, crowd_after, strict=True))
    taken = [
        late - early
        for one, other in pairs
        for early, late in zip(one["taken"], other["taken"], strict=True)
    ]
    return Served(
        seed=name,
        sent=sum(taken),
        seconds=after["seconds"] - before["seconds"],
        cpu=after["cpu"] - before["cpu"],
        slowest=min(taken) / (statistics.median(taken) or 1),
        busy=max(
            (other["cpu"] - one["cpu"]) / (other["seconds"] - one["seconds"])
            for one, other in pairs
        ),
        rss=after["now"],
        each=(after["anonymous"] - alone["anonymous"]) / args.leeches,
        proved=proved,
    )


def idle(name: str, torrents: Path, folder: Path, args: argparse.Namespace) -> Idled:
    """Leave a node alone with its torrents and connections for `args.seconds`."""
    with contextlib.ExitStack() as stack:
        node, ready = start_seed(stack, name, torrents, folder, 4, args.connections)
        idlers = stack.enter_context(
            worker("idlers", script=LIGHT, torrents=str(torrents), count=args.connections)
        )
        idlers.expect("ready")
        node.go()
        alone = node.ask()
        idlers.go([("127.0.0.1", ready["port"])])
        idlers.expect("running")
        time.sleep(args.warm_up)
        before = node.ask()
        time.sleep(args.seconds)
        after = node.ask()
        if (alive := idlers.ask()["alive"]) != args.connections:
            raise SystemExit(f"{name}: only {alive} of {args.connections} connections are left")
        idlers.stop()
        node.stop()
    return Idled(
        node=name,
        cpu=(after["cpu"] - before["cpu"]) / (after["seconds"] - before["seconds"]),
        torrents=alone["anonymous"],
        each=(after["anonymous"] - alone["anonymous"]) / args.connections,
        rss=after["now"],
    )


def served_table(runs: Sequence[Served]) -> str:
    def row(name: str) -> list[str]:
        mine = [run for run in runs if run.seed == name]

        def median(values: Sequence[float]) -> float:
            return statistics.median(values)

        return [
            name,
            f"{median([r.sent / r.seconds for r in mine]) / 1e6:.0f}",
            f"{median([r.cpu / r.sent * 1e9 for r in mine]):.2f}",
            f"{median([r.cpu / r.seconds for r in mine]) * 100:.0f}",
            f"{median([r.slowest for r in mine]):.2f}",
            f"{max(r.rss for r in mine) / 1e6:.0f}",
            f"{median([r.each for r in mine]) / 1e3:.0f}",
            f"{max(r.busy for r in mine) * 100:.0f}",
        ]

    head = ["seed", "MB/s", "CPU s/GB", "CPU %", "slow/median", "MB RSS", "KB/conn", "crowd busy %"]
    return table(head, [row(name) for name in dict.fromkeys(run.seed for run in runs)])


def idled_table(runs: Sequence[Idled]) -> str:
    def row(name: str) -> list[str]:
        mine = [run for run in runs if run.node == name]
        return [
            name,
            f"{statistics.median(r.cpu for r in mine) * 100:.2f}",
            f"{statistics.median(r.torrents for r in mine) / 1e6:.0f}",
            f"{statistics.median(r.each for r in mine) / 1e3:.1f}",
            f"{max(r.rss for r in mine) / 1e6:.0f}",
        ]

    head = ["node", "CPU %", "MB unconnected", "KB/conn", "MB RSS"]
    return table(head, [row(name) for name in dict.fromkeys(run.node for run in runs)])


def make_torrents(root: Path, count: int, size: int, piece_length: int) -> tuple[Path, Path]:
    """`count` torrents of one file of `size` bytes each: the .torrent files, and the content."""
    torrents, folder = root / "torrents", root / "content"
    torrents.mkdir()
    folder.mkdir()
    for number in range(count):
        content = make_content(folder, size, 1, seed=number)
        content = content.rename(folder / f"{number:04d}.bin")
        (torrents / f"{number:04d}.torrent").write_bytes(libtorrent_create(content, piece_length))
    return torrents, folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=parse_size, default=parse_size("256MiB"))
    parser.add_argument("--piece", type=parse_size, default=parse_size("256KiB"))
    parser.add_argument("--leeches", type=int, default=50)
    parser.add_argument("--processes", type=int, default=2, help="that the leeches share")
    parser.add_argument("--depth", type=int, default=64, help="requests each leech keeps out")
    parser.add_argument("--idle", action="store_true", help="measure waiting instead of serving")
    parser.add_argument("--torrents", type=int, default=500, help="when idle, of 64 KiB each")
    parser.add_argument("--connections", type=int, default=1000, help="when idle")
    parser.add_argument("--seconds", type=float, help="of measuring; 20, or 60 when idle")
    parser.add_argument(
        "--warm-up", type=float, help="seconds before the clock runs; 2, or 30 when idle"
    )
    parser.add_argument("--rounds", type=int, help="5, or 1 when idle")
    parser.add_argument("--only", help="contestants containing this text")
    parser.add_argument("--dir", type=Path, help="where to put the data, as /dev/shm")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    args = parser.parse_args()
    args.seconds = args.seconds or (60.0 if args.idle else 20.0)
    if args.warm_up is None:
        # Our torrents wait 20 s for the DHT before their first lookup: that is not yet idling.
        args.warm_up = 30.0 if args.idle else 2.0
    args.rounds = args.rounds or (1 if args.idle else 5)
    names = [n for n in (IDLE if args.idle else SEEDS) if not args.only or args.only in n]
    if not names:
        parser.error(f"--only must match one of: {', '.join(SEEDS)}")

    with tempfile.TemporaryDirectory(prefix="bench-", dir=args.dir) as name:
        if args.idle:
            small = parse_size("64KiB")
            torrents, folder = make_torrents(Path(name), args.torrents, small, args.piece)
        else:
            torrents, folder = make_torrents(Path(name), 1, args.size, args.piece)
        turns = [one for _ in range(args.rounds) for one in names]
        idled = [idle(one, torrents, folder, args) for one in turns if args.idle]
        served = [serve(one, torrents, folder, args) for one in turns if not args.idle]
    if args.json:
        asked = {key: str(value) for key, value in vars(args).items()}
        runs = [*map(asdict, idled), *map(asdict, served)]
        print(json.dumps({"asked": asked, "runs": runs}))
        return
    if args.idle:
        print(f"{args.torrents} torrents, {args.connections} connections, nothing to do,")
        print(f"median of {args.rounds} rounds of {args.seconds:.0f} s")
        print(idled_table(idled))
        return
    proved = sum(run.proved for run in served)
    print(f"one seed to {args.leeches} leeches that keep {args.depth} requests out,")
    print(f"median of {args.rounds} rounds of {args.seconds:.0f} s; SHA-1 of {proved} pieces right")
    print(served_table(served))


if __name__ == "__main__":
    main()
