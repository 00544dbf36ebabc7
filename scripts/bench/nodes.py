"""What does a node cost where there are many? 1,000 DHT nodes in one process, on loopback UDP.

    python scripts/bench/nodes.py [--nodes 1000] [--lookups 200] [--npm FOLDER]

Ours and, where Node.js and the package are, bittorrent-dht, one after the other: each starts its
nodes twenty at a time, each of which knows three that were there before, and waits until all have
found their neighbours. Then, for every lookup, a random node announces a torrent and another one
looks for it. The memory is what the process grew by while the nodes started.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from dht import JS, NODES, find_package, node_program
from peers import Line, Worker, worker
from table import percentile, table

PATIENCE = 600.0


def start(
    name: str, nodes: int, lookups: int, npm: Path | None
) -> contextlib.AbstractContextManager[Worker]:
    if name == JS:
        return node_program(npm, {"nodes": nodes, "lookups": lookups})
    return worker("net", script=NODES, nodes=nodes, lookups=lookups)


def summary(line: Line) -> dict[str, float | None]:
    first: Sequence[float] = line["first"]
    return {
        "start_ms": line["started"] / line["nodes"] * 1e3,
        "start_cpu_ms": line["start_cpu"] / line["nodes"] * 1e3,
        "kilobytes": line["bytes"] / line["nodes"] / 1e3,
        "found": line["found"],
        "first_p50_ms": statistics.median(first) * 1e3 if first else None,
        "first_p95_ms": percentile(first, 0.95) * 1e3 if first else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--lookups", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=1, help="medians of so many")
    parser.add_argument("--npm", type=Path, metavar="FOLDER", help="where bittorrent-dht is")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    args = parser.parse_args()
    if args.nodes < 2 or args.lookups < 1 or args.rounds < 1:
        parser.error("at least two nodes, one lookup and one round")
    npm = find_package(args.npm)
    contestants = ["ours"] if npm is None else ["ours", JS]
    if npm is None:
        print("no bittorrent-dht: name a folder that has it with --npm", file=sys.stderr)
    found: dict[str, list[dict[str, float | None]]] = {name: [] for name in contestants}
    for _ in range(args.rounds):
        for name in contestants:
            with start(name, args.nodes, args.lookups, npm) as one:
                found[name].append(summary(one.expect("ready", PATIENCE)))
    figures = {name: _medians(rounds) for name, rounds in found.items()}
    if args.json:
        print(json.dumps({"nodes": args.nodes, "lookups": args.lookups, "figures": figures}))
        return
    head = ["a node", "start ms", "CPU ms", "KB", f"found of {args.lookups}", "first ms", "p95 ms"]
    print(table(head, [[name, *map(_shown, figures[name].values())] for name in contestants]))


def _medians(rounds: Sequence[dict[str, float | None]]) -> dict[str, float | None]:
    made: dict[str, float | None] = {}
    for key in rounds[0]:
        values = [value for one in rounds if (value := one[key]) is not None]
        made[key] = statistics.median(values) if values else None
    return made


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


if __name__ == "__main__":
    main()
