"""A DHT of real nodes on this machine, to point any client at.

    python scripts/testnet.py --nodes 1000
    dhtnode --bootstrap 127.0.0.1:PORT ...

Prints the addresses to bootstrap from, one a line (`--json`: one object with `bootstrap` and
`nodes`), once all nodes have found their neighbours, and runs until Ctrl-C. All listen on one host;
`--spread` gives each a host of its own in 127.0.0.0/8, for clients that allow one node per IP.
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import signal
import sys
import time

import trio
from rich.console import Console
from rich.progress import Progress

from dht_torrent.errors import InputError
from dht_torrent.lab.population.testnet import open_testnet
from dht_torrent.lab.studies.study import positive, show

SHOWN = 8
"""Addresses printed: any will do, but a client need not depend on one."""


async def until_stopped(args: argparse.Namespace) -> None:
    """Ends well on Ctrl-C, also while the nodes are still starting."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, args)
            async for _ in signals:
                nursery.cancel_scope.cancel()


async def serve(args: argparse.Namespace) -> None:
    began = time.monotonic()
    console = Console(stderr=True)
    bar = Progress(console=console, transient=True, disable=not console.is_terminal)
    task = bar.add_task("starting", total=args.nodes)
    with bar:
        async with open_testnet(
            args.nodes,
            rng=random.Random(args.seed),
            host=args.host,
            port_base=args.port_base,
            spread=args.spread,
            progress=lambda started: bar.update(task, completed=started),
        ) as nodes:
            bar.stop()
            entry_points = [str(node.address) for node in nodes[:SHOWN]]
            show(
                [json.dumps({"nodes": len(nodes), "bootstrap": entry_points})]
                if args.json
                else entry_points
            )
            seconds = time.monotonic() - began
            print(f"{len(nodes)} nodes in {seconds:.1f} s; Ctrl-C ends them", file=sys.stderr)
            await trio.sleep_forever()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=positive, default=100, help="default 100")
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address, default 127.0.0.1")
    parser.add_argument(
        "--port-base", type=int, default=0, help="node n listens on this port + n; 0 (default): any"
    )
    parser.add_argument("--spread", action="store_true", help="a host in 127/8 for each node")
    parser.add_argument("--seed", type=int, help="for ids and acquaintances; default: drawn")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    args = parser.parse_args()
    if args.seed is None:
        args.seed = secrets.randbits(64)
    try:
        trio.run(until_stopped, args)
    except* InputError as group:
        print(group.exceptions[0], file=sys.stderr)
        sys.exit(2)
    except* SystemExit:  # nobody wants to know where they are
        sys.exit(1)


if __name__ == "__main__":
    main()
