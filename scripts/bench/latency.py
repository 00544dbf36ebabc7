"""How long does a busy node let others wait?

    python scripts/bench/latency.py --size 1GiB --rounds 5

This process is a leech of a seed in another process. Meanwhile a timer here notes how late it
fires, and a third process sends DHT pings, 50 a second, and notes how long the answer takes. Each
round first measures the node idle, then over one whole download from a magnet link. A fourth
process, the bystander, has a timer and answers the pinger's datagrams too, and does nothing else:
what it shows is the machine's share.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import trio
from peers import (
    NAME,
    Peer,
    Worker,
    differences,
    libtorrent_create,
    make_content,
    parse_size,
    settle,
    worker,
)
from table import percentile, table
from transfer import magnet_of

from dht_torrent import Config, open_node

LIGHT = str(Path(__file__).with_name("light.py"))
TIMER = 0.01
"""Seconds between two times a timer should fire."""
PING = 0.02
"""Seconds between two pings."""


@dataclass
class Samples:
    """Seconds of waiting, of all rounds."""

    late: list[float] = field(default_factory=list)
    """Between the time our timer should have fired and the time it did."""
    ping: list[float] = field(default_factory=list)
    """From the pinger to our DHT and back."""
    other_late: list[float] = field(default_factory=list)
    """The same two of the bystander."""
    other_ping: list[float] = field(default_factory=list)
    lost: int = 0
    """Pings not answered a second after the end."""
    rates: list[float] = field(default_factory=list)
    """Bytes per second of each download."""


class Watchers:
    """The two other processes."""

    def __init__(self, pinger: Worker, bystander: Worker) -> None:
        self._pinger = pinger
        self._bystander = bystander

    async def over(self, samples: Samples, work: Callable[[], Awaitable[None]]) -> None:
        """Watch this process and the others while `work` runs."""
        await trio.to_thread.run_sync(self._restart)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_watch_timer, samples.late)
            await work()
            nursery.cancel_scope.cancel()
        await trio.to_thread.run_sync(self._collect, samples)

    def _restart(self) -> None:
        self._pinger.ask()
        self._bystander.ask()

    def _collect(self, samples: Samples) -> None:
        samples.other_late += self._bystander.ask()["late"]
        pings = self._pinger.ask()
        ours, others = pings["took"]
        samples.ping += ours
        samples.other_ping += others
        samples.lost += pings["lost"]


async def _watch_timer(late: list[float]) -> None:
    while True:
        due = trio.current_time() + TIMER
        await trio.sleep_until(due)
        late.append(trio.current_time() - due)


@contextlib.contextmanager
def watching(node: Peer) -> Iterator[Watchers]:
    with (
        worker("bystander", script=LIGHT, interval=TIMER) as bystander,
        worker("pinger", script=LIGHT, interval=PING) as pinger,
    ):
        port = bystander.expect("ready")["port"]
        pinger.expect("ready")
        bystander.go()
        pinger.go([node, ("127.0.0.1", port)])
        yield Watchers(pinger, bystander)


async def measure(
    content: Path, torrent: Path, download: Path, seed_role: str, args: argparse.Namespace
) -> tuple[Samples, Samples]:
    """Idle, and downloading."""
    idle, busy = Samples(), Samples()
    magnet = magnet_of(torrent)
    options = {"folder": str(content.parent)}
    if seed_role == "lt-seed":
        options |= {"torrent": str(torrent), "preset": "default"}
    else:
        options |= {"path": str(content), "piece_length": args.piece, "magnet": magnet}
    config = Config(bootstrap=[], listen="127.0.0.1:0", state_dir=None, download_dir=download)
    async with open_node(config) as node:
        with (
            worker(seed_role, **options) as seed,
            watching((str(node.address.host), node.address.port)) as watchers,
        ):
            port = (await trio.to_thread.run_sync(seed.expect, "ready"))["port"]
            seed.go()
            source = f"{magnet}&x.pe=127.0.0.1:{port}"

            async def rest() -> None:
                await trio.sleep(args.idle)

            async def fetch() -> None:
                began = time.monotonic()
                await (await node.get(source)).completed()
                busy.rates.append(args.size / (time.monotonic() - began))

            for _ in range(args.rounds):
                await trio.to_thread.run_sync(settle)
                await watchers.over(idle, rest)
                await watchers.over(busy, fetch)
                await trio.to_thread.run_sync(compare, content, download / NAME)
                (torrent_here,) = node.torrents.values()
                await node.remove(torrent_here, delete_data=True)
    return idle, busy


def compare(content: Path, copy: Path) -> None:
    if wrong := differences(content, copy):
        raise SystemExit(f"the copy is wrong: {wrong[:5]}")


def summary(samples: Samples) -> dict[str, dict[str, float]]:
    """Milliseconds, by what waited."""
    waits = {
        "our timer late": samples.late,
        "bystander's timer late": samples.other_late,
        "our DHT's answer": samples.ping,
        "bystander's answer": samples.other_ping,
    }
    return {
        what: {
            "count": len(values),
            "p50": percentile(values, 0.5) * 1e3,
            "p99": percentile(values, 0.99) * 1e3,
            "max": max(values) * 1e3,
        }
        for what, values in waits.items()
        if values
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=parse_size, default=parse_size("1GiB"))
    parser.add_argument("--piece", type=parse_size, default=parse_size("256KiB"))
    parser.add_argument("--idle", type=float, default=5.0, help="seconds of idling each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", choices=["lt-seed", "our-seed"], default="lt-seed")
    parser.add_argument("--dir", type=Path, help="where to put the data, as /dev/shm")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="bench-", dir=args.dir) as name:
        folder = Path(name)
        content = make_content(folder, args.size, 1)
        torrent = folder / "content.torrent"
        torrent.write_bytes(libtorrent_create(content, args.piece))
        idle, busy = trio.run(measure, content, torrent, folder / "download", args.seed, args)
    states = {"idle": summary(idle), "downloading": summary(busy)}
    lost = idle.lost + busy.lost
    if args.json:
        asked = {key: str(value) for key, value in vars(args).items()}
        print(json.dumps({"asked": asked, "lost": lost, "rates": busy.rates, **states}))
        return
    rows = [
        [f"{what}, {state}", f"{found['count']:.0f}"]
        + [f"{found[key]:.2f}" for key in ("p50", "p99", "max")]
        for state, waits in states.items()
        for what, found in waits.items()
    ]
    rate = statistics.median(busy.rates) / 1e6
    print(f"{args.rounds} rounds: {args.idle:.0f} s idle, then {args.size / 1e6:.0f} MB at")
    print(f"{rate:.0f} MB/s (median) from {args.seed}; pings lost: {lost}")
    print(table(["milliseconds", "count", "p50", "p99", "max"], rows))


if __name__ == "__main__":
    main()
