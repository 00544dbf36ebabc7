"""How long does a whole command take, from its start to its exit, to fetch a torrent?

    python scripts/bench/command.py --size 1GiB --piece 1MiB --rounds 5 [--seed ours]

`dhtnode get` of a magnet link against a Python script that does the same with libtorrent, from the
.torrent. They take turns, and fetch from one seed on 127.0.0.1 each, which is ready before; the
clock runs from the start of the interpreter until the process is gone. Every copy is compared byte
for byte.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from machine import load, machine
from peers import (
    DEADLINE,
    NAME,
    Peer,
    differences,
    empty,
    libtorrent_create,
    libtorrent_settings,
    libtorrent_until,
    make_content,
    parse_size,
    settle,
    warm,
    worker,
)
from table import table
from transfer import magnet_of

COMMANDS: Final = ("dhtnode get", "libtorrent script")
SEEDS: Final = {"libtorrent": "lt-seed", "ours": "our-seed"}
FETCH: Final = "fetch-with-libtorrent"
"""The first argument of the script that is the other contestant: this one."""
ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Run:
    """One command."""

    command: str
    seconds: float
    """From its start until its exit."""
    cpu: float
    """Seconds of its process and those it started."""


@dataclass(frozen=True)
class Bench:
    """What all the commands of one invocation share."""

    content: Path
    torrent: Path
    size: int
    piece_length: int
    folder: Path
    seed: str
    environment: Mapping[str, str]

    def run(self, command: str) -> Run:
        """Raises SystemExit when it fails, or its copy is wrong."""
        download, state = self.folder / "download", self.folder / "state"
        empty(download)
        empty(state)
        settle()
        with worker(SEEDS[self.seed], **self._options()) as seed:
            peer = ("127.0.0.1", int(seed.expect("ready")["port"]))
            seed.go()
            line = (
                get(magnet_of(self.torrent), download, state, peer)
                if command == COMMANDS[0]
                else fetch(self.torrent, download, peer)
            )
            with warm(self.folder, self.size):
                seconds, cpu = timed(line, self.environment)
            seed.stop()
        if wrong := differences(self.content, download / NAME):
            raise SystemExit(f"{command}: the copy is wrong: {wrong[:5]}")
        return Run(command, seconds, cpu)

    def _options(self) -> dict[str, Any]:
        if self.seed == "libtorrent":
            folder = str(self.content.parent)
            return {"torrent": str(self.torrent), "folder": folder, "preset": "default"}
        return {
            "path": str(self.content),
            "piece_length": self.piece_length,
            "folder": str(self.folder / "download"),
            "magnet": "",
        }


def get(magnet: str, download: Path, state: Path, peer: Peer) -> list[str]:
    """Our command line."""
    return [
        *(sys.executable, "-m", "dht_torrent", "get", f"{magnet}&x.pe={peer[0]}:{peer[1]}"),
        *("--output", str(download), "--state-dir", str(state), "--listen", "127.0.0.1:0"),
        *("--bootstrap", "none", "--no-lsd"),
    ]


def fetch(torrent: Path, download: Path, peer: Peer) -> list[str]:
    """That of the script with libtorrent."""
    told = [str(torrent), str(download), peer[0], str(peer[1])]
    return [sys.executable, str(Path(__file__).resolve()), FETCH, *told]


def compiling(bytecode: Path) -> dict[str, str]:
    """The environment of a command that keeps in that folder what it has compiled, the libraries it
    imports included, and finds it there the next time, as an installed one does."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": str(bytecode)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


def timed(command: Sequence[str], environment: Mapping[str, str]) -> tuple[float, float]:
    """Wall time and CPU seconds of a command. Raises SystemExit when it fails."""
    before, began = os.times(), time.monotonic()
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    seconds, after = time.monotonic() - began, os.times()
    if done.returncode != 0:
        raise SystemExit(f"{command[1:4]} failed: {done.stderr.strip()[-500:]}")
    cpu = after.children_user + after.children_system
    return seconds, cpu - before.children_user - before.children_system


def fetch_with_libtorrent(torrent: str, folder: str, host: str, port: str) -> None:
    """The script: as few lines as do it."""
    import libtorrent as lt

    session = lt.session(libtorrent_settings("default"))
    params = lt.load_torrent_file(torrent)
    params.save_path = folder
    params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    fetched = session.add_torrent(params)
    fetched.connect_peer((host, int(port)))
    libtorrent_until(session, fetched, {"finished", "seeding"})
    del fetched, session  # the destructor flushes what is still in memory


def report(runs: Sequence[Run], size: int) -> str:
    """The medians, and ours over libtorrent's."""
    rates: dict[str, float] = {}
    rows = []
    for command in dict.fromkeys(run.command for run in runs):
        mine = [run for run in runs if run.command == command]
        times = sorted(run.seconds for run in mine)
        middle = statistics.median(times)
        rates[command] = size / middle / 1e6
        spread, cpu = f"{times[0]:.2f}..{times[-1]:.2f}", statistics.median(r.cpu for r in mine)
        rows.append([command, f"{middle:.2f}", spread, f"{rates[command]:.0f}", f"{cpu:.2f}"])
    told = table(["", "seconds", "min..max", "MB/s", "CPU s"], rows)
    if all(command in rates for command in COMMANDS):
        ratio = rates[COMMANDS[0]] / rates[COMMANDS[1]]
        told += f"\n{COMMANDS[0]} over {COMMANDS[1]}: {ratio:.2f}"
    return told


def main() -> None:
    if sys.argv[1:2] == [FETCH]:
        fetch_with_libtorrent(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=parse_size, default=parse_size("1GiB"))
    parser.add_argument("--piece", type=parse_size, default=parse_size("1MiB"))
    parser.add_argument("--files", type=int, default=1, help="1 makes a single-file torrent")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", choices=SEEDS, default="libtorrent", help="default libtorrent")
    parser.add_argument("--dir", type=Path, help="where to put the data, as /dev/shm")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    args = parser.parse_args()
    before = load()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=args.dir) as name:
        folder = Path(name)
        (folder / "seed").mkdir()
        content = make_content(folder / "seed", args.size, args.files)
        torrent = folder / "content.torrent"
        torrent.write_bytes(libtorrent_create(content, args.piece))
        environment = compiling(folder / "bytecode")
        bench = Bench(content, torrent, args.size, args.piece, folder, args.seed, environment)
        for command in COMMANDS:
            bench.run(command)  # which compiles what it imports: that is not measured
        runs = [bench.run(command) for _ in range(args.rounds) for command in COMMANDS]
    if args.json:
        asked = {key: str(value) for key, value in vars(args).items()}
        told = {"asked": asked, "machine": machine(before), "runs": [asdict(run) for run in runs]}
        print(json.dumps(told))
        return
    print(
        f"{args.size / 1e6:.0f} MB in {args.files} file(s), pieces of {args.piece >> 10} KiB, from"
        f" a seed of {args.seed}, median of {args.rounds} rounds,"
    )
    print(f"from start to exit, every copy compared byte for byte\n{machine(before)}")
    print(report(runs, args.size))


if __name__ == "__main__":
    main()
