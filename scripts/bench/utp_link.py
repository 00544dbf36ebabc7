"""How fast does uTP move bytes over a line, and what does it cost each side?

    python scripts/bench/utp_link.py --rounds 3                        # loopback itself
    python scripts/bench/utp_link.py --rate 20 --trip 50 --loss 0.01 --only 'libtorrent->libtorrent'

One seed, one leech, uTP alone. With --rate there is a relay between them (`relay.py`) that carries
so many Mbit/s each way, with a round trip of --trip ms, a queue of --queue ms of that rate, and
loses and reorders a share of what it carries; else they meet on loopback. Either way libtorrent's
pair is what the others are compared with. `ours` is a node of this package from a magnet link, and
`plain` is this package's uTP without its engine (`utp_peer.py`). Every copy is compared byte for
byte.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import relay
import utp_peer
from machine import load, machine
from peers import (
    NAME,
    Line,
    Worker,
    differences,
    empty,
    libtorrent_create,
    make_content,
    parse_size,
    settle,
    worker,
)
from transfer import magnet_of

CONTESTANTS = {
    "libtorrent->libtorrent": ("lt-seed", "lt-leech"),
    "ours->ours": ("our-seed", "our-leech"),
    "ours->libtorrent": ("our-seed", "lt-leech"),
    "libtorrent->ours": ("lt-seed", "our-leech"),
    "plain->plain": ("utp-seed", "utp-leech"),
    "plain->libtorrent": ("utp-seed", "lt-leech"),
    "libtorrent->plain": ("lt-seed", "utp-leech"),
}
BASELINE = "libtorrent->libtorrent"
PIECE = 1 << 18


@dataclass(frozen=True)
class Run:
    """One copy."""

    contestant: str
    seconds: float
    seed_cpu: float
    leech_cpu: float
    line: Line | None
    """What the relay tells of the way from the leech (`there`) and to it (`back`)."""


@dataclass(frozen=True)
class Bench:
    """What all copies share."""

    content: Path
    torrent: Path
    download: Path
    line: dict[str, Any] | None
    direct: Path
    """An IP filter of the addresses by which nodes would find each other without the relay."""

    def run(self, contestant: str) -> Run:
        seed_role, leech_role = CONTESTANTS[contestant]
        empty(self.download)
        settle()
        with contextlib.ExitStack() as stack:
            seed = stack.enter_context(self._side(seed_role))
            leech = stack.enter_context(self._side(leech_role))
            at = ("127.0.0.1", int(seed.expect("ready")["port"]))
            leech.expect("ready")
            between = None
            if self.line is not None:
                between = stack.enter_context(worker("relay", script=relay.__file__, **self.line))
                port = int(between.expect("ready")["port"])
                between.go([at])
                at = (relay.HOST, port)
            seed.go()
            leech.go([at])
            done = leech.expect("done")
            told = between.stop() if between is not None else None
            leech.stop()
            seeded = seed.stop()
        if wrong := differences(self.content, self.download / NAME):
            raise SystemExit(f"{contestant}: the copy is wrong: {wrong[:5]}")
        if told is not None and told["back"]["carried"] < self.content.stat().st_size:
            raise SystemExit(f"{contestant}: they met without the relay")
        return Run(contestant, done["seconds"], seeded["cpu"], done["cpu"], told)

    def _side(self, role: str) -> contextlib.AbstractContextManager[Worker]:
        folder = self.content.parent if role.endswith("seed") else self.download
        if role.startswith("lt-"):
            options = {"folder": str(folder), "preset": "default", "transport": "utp"}
            return worker(role, torrent=str(self.torrent), **options)
        if role.startswith("our-"):
            return worker(
                role,
                path=str(self.content),
                piece_length=PIECE,
                folder=str(folder),
                magnet=magnet_of(self.torrent),
                transport="utp",
                ip_filter=str(self.direct) if self.line is not None else None,
            )
        options = {"path": str(self.content)} if role.endswith("seed") else {"folder": str(folder)}
        return worker(role, script=utp_peer.__file__, torrent=str(self.torrent), **options)


def table(runs: list[Run], size: int) -> str:
    names = list(dict.fromkeys(run.contestant for run in runs))
    rate = {
        name: size / statistics.median(r.seconds for r in runs if r.contestant == name) / 1e6
        for name in names
    }
    head = (
        f"{'contestant':24} {'MB/s':>7} {'min..max':>13} {'ratio':>6} {'seed CPU s/GiB':>14}"
        f" {'leech CPU s/GiB':>15} {'queue ms':>8} {'most':>5}"
    )
    lines = [head, "-" * len(head)]
    for name in names:
        mine = [run for run in runs if run.contestant == name]
        rates = sorted(size / run.seconds / 1e6 for run in mine)
        ratio = f"{rate[name] / rate[BASELINE]:.2f}" if BASELINE in rate else "-"
        waits = [run.line["back"] for run in mine if run.line is not None]
        lines.append(
            f"{name:24} {rate[name]:7.2f} {f'{rates[0]:.2f}..{rates[-1]:.2f}':>13} {ratio:>6}"
            f" {statistics.median(r.seed_cpu for r in mine) * (1 << 30) / size:14.2f}"
            f" {statistics.median(r.leech_cpu for r in mine) * (1 << 30) / size:15.2f}"
            + (
                f" {statistics.median(w['median wait'] for w in waits) * 1e3:8.0f}"
                f" {max(w['longest wait'] for w in waits) * 1e3:5.0f}"
                if waits
                else ""
            )
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=parse_size, default=parse_size("256MiB"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", help="contestants with this text; repeatable")
    parser.add_argument("--rate", type=float, help="Mbit/s of a relay between them; without, none")
    parser.add_argument("--trip", type=float, default=50.0, help="round trip through it, ms")
    parser.add_argument("--queue", type=float, default=250.0, help="ms of the rate that wait in it")
    parser.add_argument("--loss", type=float, default=0.0, help="share of datagrams, each way")
    parser.add_argument("--reorder", type=float, default=0.0, help="share that is late ...")
    parser.add_argument("--late", type=float, default=20.0, help="... by up to so many ms")
    parser.add_argument("--dir", type=Path, help="where to put the data, as /dev/shm")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    args = parser.parse_args()
    names = [n for n in CONTESTANTS if not args.only or any(part in n for part in args.only)]
    if not names:
        parser.error(f"--only must match one of: {', '.join(CONTESTANTS)}")
    line = None
    if args.rate is not None:
        line = {
            "rate": args.rate * 125e3,
            "delay": args.trip / 2e3,
            "queue": round(args.rate * 125 * args.queue),
            "loss": args.loss,
            "reordered": args.reorder,
            "late": args.late / 1e3,
        }
    before = load()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=args.dir) as folder:
        (Path(folder) / "seed").mkdir()
        content = make_content(Path(folder) / "seed", args.size, 1)
        torrent = Path(folder) / "content.torrent"
        torrent.write_bytes(libtorrent_create(content, PIECE))
        direct = Path(folder) / "direct.txt"
        direct.write_text("127.0.0.1/32\n")
        bench = Bench(content, torrent, Path(folder) / "download", line, direct)
        runs = [bench.run(name) for _ in range(args.rounds) for name in names]
    if args.json:
        asked = {key: str(value) for key, value in vars(args).items()}
        told = {"asked": asked, "machine": machine(before), "runs": [asdict(run) for run in runs]}
        print(json.dumps(told))
    else:
        print(f"{args.size / 1e6:.0f} MB by uTP, median of {args.rounds} rounds")
        print(machine(before))
        print(table(runs, args.size))


if __name__ == "__main__":
    main()
