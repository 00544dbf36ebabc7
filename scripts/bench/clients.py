"""How fast do we exchange with aria2 and Transmission, and how fast does libtorrent?

    python scripts/bench/clients.py --size 200000000 --piece 1MiB --rounds 5
    python scripts/bench/clients.py --encryption required

One seed, one leech; one of them is the client, the other ours or libtorrent, which take turns. A
run lasts from the go, when ours or libtorrent is told the client's address and dials it, until the
leech has everything, choking and all. Loopback TCP, no DHT, no encryption; libtorrent and the
clients start from the .torrent, ours fetches from a magnet link. Every copy is compared byte for
byte. Needs aria2c and transmission-daemon; one that is not there is left out.

With --encryption required it asks how much time encryption costs us, with each of them and with
libtorrent: ours is always at one end, and transfers in which both sides require RC4 take turns with
the same without MSE.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from peers import (
    NAME,
    differences,
    empty,
    libtorrent_create,
    make_content,
    parse_size,
    settle,
    worker,
)
from programs import CLIENTS, PROGRAMS, Place, is_installed
from table import table
from transfer import magnet_of

SIDES = ("ours", "libtorrent")
MODES = ("rc4", "off")
"""What ours is told of encryption, where that is the question."""


@dataclass(frozen=True)
class Run:
    """One copy of the content."""

    client: str
    side: str
    """Who was at the other end: ours, or libtorrent."""
    client_seeds: bool
    encryption: str
    """Of both: `none` as ours likes it, `off` without MSE, `rc4` with all payload encrypted."""
    seconds: float


@dataclass(frozen=True)
class Bench:
    """What all the copies of one invocation share."""

    content: Path
    torrent: Path
    magnet: str
    size: int
    piece_length: int
    folder: Path

    def run(self, client: str, side: str, client_seeds: bool, encryption: str = "none") -> Run:
        """Raises SystemExit when the copy is wrong."""
        download, state = self.folder / "download", self.folder / "state"
        empty(download)
        empty(state)
        settle()
        folder = self.content.parent if client_seeds else download
        role = ("our" if side == "ours" else "lt") + ("-leech" if client_seeds else "-seed")
        with (
            CLIENTS[client](
                Place(self.torrent, folder, state, self.size), client_seeds, encryption == "rc4"
            ) as started,
            worker(role, **self._options(side, client_seeds, download, encryption)) as other,
        ):
            other.expect("ready")
            began = time.monotonic()
            other.go([started.address])
            if client_seeds:
                seconds = float(other.expect("done")["seconds"])
            else:
                started.complete()
                seconds = time.monotonic() - began
            other.stop()
        if wrong := differences(self.content, download / NAME):
            raise SystemExit(f"{client} and {side}: the copy is wrong: {wrong[:5]}")
        return Run(client, side, client_seeds, encryption, seconds)

    def _options(
        self, side: str, client_seeds: bool, download: Path, encryption: str
    ) -> dict[str, Any]:
        if side == "ours":
            return {
                "path": str(self.content),
                "piece_length": self.piece_length,
                "folder": str(download),
                "magnet": self.magnet,
                "encryption": encryption,
            }
        folder = download if client_seeds else self.content.parent
        return {"torrent": str(self.torrent), "folder": str(folder), "preset": "default"}


# --- what came out ---------------------------------------------------------------------------


def report(runs: list[Run], size: int) -> str:
    """The medians, and ours over libtorrent's."""
    rows = []
    for name, mine in grouped(runs):
        rates = {
            side: sorted(size / run.seconds / 1e6 for run in mine if run.side == side)
            for side in SIDES
        }
        ours, theirs = (statistics.median(rates[side]) for side in SIDES)
        spread = [f"{rate[0]:.0f}..{rate[-1]:.0f}" for rate in rates.values()]
        rows.append(
            [name, f"{ours:.1f}", spread[0], f"{theirs:.1f}", spread[1], f"{ours / theirs:.2f}"]
        )
    head = ["", "ours MB/s", "min..max", "libtorrent MB/s", "min..max", "ratio"]
    return table(head, rows)


def report_encryption(runs: list[Run]) -> str:
    """The medians, and the time with RC4 over that without."""
    rows = []
    for name, mine in grouped(runs):
        times = {
            mode: sorted(run.seconds for run in mine if run.encryption == mode) for mode in MODES
        }
        rc4, plain = (statistics.median(times[mode]) for mode in MODES)
        spread = [f"{one[0]:.2f}..{one[-1]:.2f}" for one in times.values()]
        rows.append(
            [name, f"{rc4:.2f}", spread[0], f"{plain:.2f}", spread[1], f"{rc4 / plain:.2f}"]
        )
    return table(["", "RC4 s", "min..max", "plain s", "min..max", "ratio"], rows)


def grouped(runs: list[Run]) -> Iterator[tuple[str, list[Run]]]:
    """Those of each client in each direction."""
    for client, client_seeds in dict.fromkeys((run.client, run.client_seeds) for run in runs):
        mine = [run for run in runs if (run.client, run.client_seeds) == (client, client_seeds)]
        yield f"from {client}" if client_seeds else f"to {client}", mine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=parse_size, default=200_000_000)
    parser.add_argument("--piece", type=parse_size, default=parse_size("1MiB"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help="`from` or `to` a client, as: from aria2")
    parser.add_argument(
        "--encryption", choices=("any", "required"), default="any", help="what to ask; default any"
    )
    parser.add_argument("--dir", type=Path, help="where to put the data, as /dev/shm")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    args = parser.parse_args()
    encrypts = args.encryption == "required"
    turns = [
        (client, client_seeds)
        for client in CLIENTS
        for client_seeds in (True, False)
        if (args.only or "") in f"{'from' if client_seeds else 'to'} {client}"
        and (is_installed(client) if client in PROGRAMS else encrypts)
    ]
    if not turns:
        parser.error("nothing to measure: no client is installed, or --only matches none")

    with tempfile.TemporaryDirectory(prefix="bench-", dir=args.dir) as name:
        folder = Path(name)
        (folder / "seed").mkdir()
        content = make_content(folder / "seed", args.size, 1)
        torrent = folder / "content.torrent"
        torrent.write_bytes(libtorrent_create(content, args.piece))
        bench = Bench(content, torrent, magnet_of(torrent), args.size, args.piece, folder)
        runs = [
            bench.run(client, side, client_seeds, encryption)
            for client, client_seeds in turns
            for _ in range(args.rounds)
            for side, encryption in (
                [("ours", mode) for mode in MODES]
                if encrypts
                else [(side, "none") for side in SIDES]
            )
        ]
    if args.json:
        asked = {key: str(value) for key, value in vars(args).items()}
        print(json.dumps({"asked": asked, "runs": [asdict(run) for run in runs]}))
    else:
        print(f"{args.size / 1e6:.0f} MB in one file, pieces of {args.piece >> 10} KiB,")
        print(f"median of {args.rounds} rounds, every copy compared byte for byte")
        print(report_encryption(runs) if encrypts else report(runs, args.size))


if __name__ == "__main__":
    main()
