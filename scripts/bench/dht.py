"""How many DHT queries does a node answer per second, and per second of its CPU time?

    python scripts/bench/dht.py [--rounds 5] [--seconds 2] [--tables warm cold]
        [--sources 1 8 1000] [--mix 15:30:45:10] [--npm FOLDER]

Each contestant is a process of its own on 127.0.0.1: ours (a whole node), libtorrent,
bittorrent-dht where Node.js and the package are (`npm install bittorrent-dht` in FOLDER), all with
their limits lifted, and a bare echo. They take turns (A B C A B C ...). A generator asks
`--outstanding` questions at once and checks what comes back. That it is not the bottleneck shows in
its idle share, and in the rate of the echo.

A *warm* node has a table warmed among 300 light nodes and 20,000 stored peers of 2,000 torrents,
and is asked a mix of ping, find_node, get_peers and announce_peer with valid tokens. A *cold* one
is fresh, knows nobody but those who ask, stores nothing, and is asked get_peers only. Each is
measured with every number of `--sources`, addresses that ask in turn.

Then the memory of a fresh process before and after 100,000 announces of 10,000 torrents.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from peers import Line, Worker, WorkerError, worker
from table import table

HERE: Final = Path(__file__).resolve().parent
NODES: Final = str(HERE / "dht_nodes.py")
JS: Final = "js"
"""bittorrent-dht."""
PROCESSES: Final = 2
"""Of the generator, without a compiler."""
PER_TORRENT: Final = 10
"""Peers of one torrent."""
SOURCES: Final = 1_000
"""Addresses of those who announced what is stored, and that ask where nothing else is said."""
TABLES: Final = ("warm", "cold")
COLD_MIX: Final = [0, 0, 1, 0]
"""get_peers alone."""

Load = Callable[..., Line]
"""A run of the generator."""


class Case(NamedTuple):
    """What one table of figures is about."""

    table: str
    sources: int

    def __str__(self) -> str:
        return f"{self.table}, {self.sources:,} source{'s' if self.sources > 1 else ''}"


class Program(Worker):
    """A worker that is not a Python script."""

    def __init__(self, role: str, command: Sequence[str]) -> None:
        self.role = role
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self._buffer = b""


@contextlib.contextmanager
def program(role: str, command: Sequence[str]) -> Iterator[Worker]:
    """A worker that is surely gone at the end of the block."""
    made = Program(role, command)
    try:
        yield made
    finally:
        made.kill()


def compile_generator(folder: Path) -> Path | None:
    """The compiled generator; None where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    made = folder / "dht_load"
    source = str(HERE / "dht_load.c")
    done = subprocess.run([compiler, "-O2", "-o", str(made), source], capture_output=True)
    return made if done.returncode == 0 else None


def compiled_load(generator: Path) -> Load:
    def load(
        port: int,
        *,
        filling: bool,
        amount: int,
        outstanding: int,
        pairs: int,
        hashes: int,
        seed: int,
        mix: Sequence[int],
        sources: int = SOURCES,
    ) -> Line:
        numbers = [amount, outstanding, pairs, hashes, sources, seed, *mix]
        mode = "fill" if filling else "load"
        command = [str(generator), "127.0.0.1", str(port), mode, *map(str, numbers)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=180)
        line: Line = json.loads(done.stdout)
        return line

    return load


def python_load(
    port: int,
    *,
    filling: bool,
    amount: int,
    outstanding: int,
    pairs: int,
    hashes: int,
    seed: int,
    mix: Sequence[int],
    sources: int = SOURCES,
) -> Line:
    """Several processes of Python, for want of a compiler."""
    share = PROCESSES
    with contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(
                worker(
                    "load",
                    script=NODES,
                    port=port,
                    filling=filling,
                    amount=amount // share if filling else amount,
                    outstanding=max(1, outstanding // share),
                    pairs=pairs,
                    hashes=hashes,
                    sources=sources,
                    seed=seed * share + number,
                    weights=list(mix),
                )
            )
            for number in range(share)
        ]
        lines = [one.expect("done") for one in workers]
    latencies = Counter[int]()
    for line in lines:
        latencies.update(dict(line.pop("latencies")))
    counts = Counter[str]()
    for line in lines:
        counts.update({key: value for key, value in line.items() if isinstance(value, int)})
    seconds = max(line["seconds"] for line in lines)
    return {
        **dict.fromkeys(("answered", "refused", "lost", "strange", "with_values", "get_peers"), 0),
        **counts,
        "seconds": seconds,
        "cpu": sum(line["cpu"] for line in lines) / share,  # of one of them, for the idle share
        "p50": _quantile(latencies, 0.5),
        "p99": _quantile(latencies, 0.99),
    }


def _quantile(seen: Counter[int], share: float) -> float:
    wanted, passed = share * seen.total(), 0
    for value in sorted(seen):
        passed += seen[value]
        if passed >= wanted:
            return value * 1e-6
    return 0.0


def find_package(folder: Path | None) -> Path | None:
    """Where Node.js finds bittorrent-dht, if it does."""
    if shutil.which("node") is None:
        return None
    for place in [folder] if folder else [Path.cwd(), *Path.cwd().parents]:
        if (place / "node_modules" / "bittorrent-dht" / "index.js").is_file():
            return place
    return None


def node_program(
    npm: Path | None, options: dict[str, Any]
) -> contextlib.AbstractContextManager[Worker]:
    """bittorrent-dht from `npm`."""
    return program(JS, ["node", str(HERE / "dht_js.mjs"), str(npm), json.dumps(options)])


def start(
    name: str, entry: str, generator: Path | None, npm: Path | None
) -> contextlib.AbstractContextManager[Worker]:
    """A contestant that enters the network at `entry`; with an empty one it knows nobody."""
    if name == "echo":
        if generator is None:
            raise WorkerError("the echo needs a C compiler")
        command = [str(generator), "127.0.0.1", "0", "echo", *["0"] * 10]
        return program(name, command)
    if name == JS:
        return node_program(
            npm, {"bootstrap": [entry] if entry else [], "warm": 40 if entry else 0}
        )
    return worker(name, script=NODES, bootstrap=entry)


def speed(
    table: str,
    contestants: Sequence[str],
    entry: str,
    load: Load,
    generator: Path | None,
    args: Any,
) -> dict[Case, dict[str, list[Line]]]:
    """The rounds of each contestant. A warm one serves all cases; who was asked by somebody is not
    cold any more, so those are fresh for each."""
    cases = [Case(table, sources) for sources in args.sources]
    if table == "warm":
        return _rounds(cases, contestants, entry, load, generator, args)
    found: dict[Case, dict[str, list[Line]]] = {}
    for case in cases:
        found |= _rounds([case], contestants, "", load, generator, args)
    return found


def _rounds(
    cases: Sequence[Case],
    contestants: Sequence[str],
    entry: str,
    load: Load,
    generator: Path | None,
    args: Any,
) -> dict[Case, dict[str, list[Line]]]:
    """The same contestants in all `cases`, in turn."""
    rounds: dict[Case, dict[str, list[Line]]] = {
        case: {name: [] for name in contestants} for case in cases
    }
    with contextlib.ExitStack() as stack:
        ports: dict[str, int] = {}
        workers: dict[str, Worker] = {}
        for name in contestants:
            one = stack.enter_context(start(name, entry, generator, args.npm))
            ready = one.expect("ready", 60.0)
            ports[name], workers[name] = ready["port"], one
            if "contacts" in ready:
                note(f"{name}: {ready['contacts']} contacts")
        common = {
            "outstanding": args.outstanding,
            "pairs": args.stored,
            "hashes": max(1, args.stored // PER_TORRENT),
        }
        for name in contestants:
            if name != "echo" and entry:
                load(ports[name], filling=True, amount=args.stored, seed=1, mix=args.mix, **common)
        for turn in range(args.rounds):
            for case, name in itertools.product(cases, contestants):
                before = workers[name].ask()
                line = load(
                    ports[name],
                    filling=False,
                    amount=round(args.seconds * 1000),
                    seed=turn + 2,
                    mix=COLD_MIX if case.table == "cold" else args.mix,
                    sources=case.sources,
                    **common,
                )
                used = workers[name].ask()["cpu"] - before["cpu"]
                rounds[case][name].append({**line, "used": used})
                rate, efficiency = (
                    line["answered"] / max(of, 1e-9) for of in (line["seconds"], used)
                )
                note(f"{case}, round {turn + 1}, {name}: {rate:,.0f}/s, {efficiency:,.0f}/CPU s")
    return rounds


def memory(
    contestants: Sequence[str], entry: str, load: Load, generator: Path | None, args: Any
) -> dict[str, Line]:
    """Of fresh processes, before and after the announces."""
    found = {}
    for name in contestants:
        if name == "echo":
            continue
        with start(name, entry, generator, args.npm) as one:
            port = one.expect("ready", 60.0)["port"]
            before = one.ask()["now"]
            line = load(
                port,
                filling=True,
                amount=args.announces,
                outstanding=args.outstanding,
                pairs=args.announces,
                hashes=max(1, args.announces // PER_TORRENT),
                seed=1,
                mix=args.mix,
            )
            after = one.ask()["now"]
        found[name] = {"before": before, "after": after, "stored": line["announce_peer"]}
        note(f"memory, {name}: {before / 1e6:.0f} -> {after / 1e6:.0f} MB")
    return found


def summary(lines: Sequence[Line]) -> dict[str, float]:
    """Medians over the rounds; sums for what should not happen."""
    middle = statistics.median
    return {
        "per_second": middle(line["answered"] / line["seconds"] for line in lines),
        "per_cpu_second": middle(line["answered"] / max(line["used"], 1e-9) for line in lines),
        "p50_ms": middle(line["p50"] for line in lines) * 1e3,
        "p99_ms": middle(line["p99"] for line in lines) * 1e3,
        "generator_idle": middle(1 - line["cpu"] / line["seconds"] for line in lines),
        "with_values": sum(line["with_values"] for line in lines)
        / max(1, sum(line["get_peers"] for line in lines)),
        "refused": sum(line["refused"] for line in lines),
        "lost": sum(line["lost"] for line in lines),
    }


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def parse_mix(text: str) -> list[int]:
    """`15:30:45:10`: the weights of ping, find_node, get_peers and announce_peer."""
    parts = [int(part) for part in text.split(":")]
    if len(parts) != 4 or min(parts) < 0 or not sum(parts) or max(parts) > 1000:
        raise argparse.ArgumentTypeError("four weights, as 15:30:45:10")
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="a round's length")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument(
        "--sources", nargs="+", type=int, default=[1, 8, SOURCES], help="addresses that ask"
    )
    parser.add_argument(
        "--mix", type=parse_mix, default=[15, 30, 45, 10], help="default 15:30:45:10"
    )
    parser.add_argument(
        "--outstanding", type=int, default=64, help="questions at once, 256 at most"
    )
    parser.add_argument("--stored", type=int, default=20_000, help="peers, ten for each torrent")
    parser.add_argument("--village", type=int, default=300, help="light nodes around")
    parser.add_argument("--announces", type=int, default=100_000, help="0: leave memory out")
    parser.add_argument("--only", nargs="+", choices=["ours", "lt", JS, "echo"])
    parser.add_argument("--npm", type=Path, metavar="FOLDER", help="where bittorrent-dht is")
    parser.add_argument("--no-compiler", action="store_true", help="generate with Python")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the tables")
    args = parser.parse_args()
    if not 1 <= args.outstanding <= 256 or args.rounds < 1 or args.seconds <= 0:
        parser.error("rounds and seconds must be positive, outstanding from 1 to 256")
    if not all(1 <= sources <= 60_000 for sources in args.sources):
        parser.error("from 1 to 60,000 sources")
    if args.announces < 0 or args.stored < 1 or not 8 <= args.village <= 1000:
        parser.error("something stored, no negative announces, from 8 to 1000 light nodes")

    args.npm = find_package(args.npm)
    contestants = args.only or ["ours", "lt", JS, "echo"]
    if JS in contestants and args.npm is None:
        note("no bittorrent-dht: `npm install bittorrent-dht` somewhere and name it with --npm")
        contestants = [name for name in contestants if name != JS]
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        generator = None if args.no_compiler else compile_generator(Path(name))
        if generator is None:
            note(f"no C compiler: {PROCESSES} Python processes ask, and there is no echo")
            contestants = [name for name in contestants if name != "echo"]
        load = python_load if generator is None else compiled_load(generator)
        with worker("village", script=NODES, nodes=args.village) as village:
            entry = f"127.0.0.1:{village.expect('ready')['port']}"
            rounds: dict[Case, dict[str, list[Line]]] = {}
            for chosen in args.tables:
                rounds |= speed(chosen, contestants, entry, load, generator, args)
            held = memory(contestants, entry, load, generator, args) if args.announces else {}
    figures = {
        str(case): {name: summary(lines) for name, lines in of_case.items()}
        for case, of_case in rounds.items()
    }
    if args.json:
        print(json.dumps({"speed": figures, "memory": held}))
        return
    print(
        f"{args.rounds} rounds of {args.seconds:g} s, medians; {args.outstanding} questions at once"
    )
    head = ["per s", "per CPU s", "p50 ms", "p99 ms", "generator idle", "values", "refused", "lost"]
    for title, of_case in figures.items():
        rows = [_speed_row(name, figure) for name, figure in of_case.items()]
        print(f"\n{table([title, *head], rows)}")
        if "ours" in of_case and "lt" in of_case:
            for what in ("per_second", "per_cpu_second"):
                ratio = of_case["ours"][what] / of_case["lt"][what]
                print(f"ours / lt, {what.replace('_', ' ')}: {ratio:.2f}")
    if held:
        print(f"\nMB before and after {args.announces:,} announces")
        rows = [
            [
                name,
                f"{line['before'] / 1e6:.1f}",
                f"{line['after'] / 1e6:.1f}",
                f"{line['stored']:,}",
            ]
            for name, line in held.items()
        ]
        print(table(["", "before", "after", "stored"], rows))


def _speed_row(name: str, figure: dict[str, float]) -> list[str]:
    return [
        name,
        *(f"{figure[key]:,.0f}" for key in ("per_second", "per_cpu_second")),
        *(f"{figure[key]:.2f}" for key in ("p50_ms", "p99_ms")),
        *(f"{figure[key]:.0%}" for key in ("generator_idle", "with_values")),
        *(f"{figure[key]:.0f}" for key in ("refused", "lost")),
    ]


if __name__ == "__main__":
    main()
