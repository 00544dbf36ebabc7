"""How long does an IP filter take to load, and to look up an address?

    python scripts/bench/ip_filter.py [--ranges 300000] [--rounds 5] [--json]

Files of random ranges in each of the formats are parsed from memory; addresses are looked up one by
one, half of them in a range. Prints medians, and the memory of what is kept.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import random
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Final

from dht_torrent.ip_filter import parse_ip_filter

LOOKUPS: Final = 100_000
SEED: Final = 7


def _padded(number: int) -> str:
    return ".".join(f"{byte:03}" for byte in number.to_bytes(4, "big"))


def _ipv4(number: int) -> str:
    return str(ipaddress.IPv4Address(number))


def _ipv6(number: int) -> str:
    return str(ipaddress.IPv6Address(number))


LINES: Final[dict[str, Callable[[int, int, int], str]]] = {
    "P2P": lambda one, other, bits: f"Some organisation, {bits}:{_ipv4(one)}-{_ipv4(other)}",
    "DAT": lambda one, other, bits: f"{_padded(one)} - {_padded(other)} , 000 , Some, {bits}",
    "plain": lambda one, other, bits: f"{_ipv4(one)} - {_ipv4(other)}",
    "CIDR": lambda one, other, bits: f"{_ipv4(one)}/{bits}",
    "IPv6": lambda one, other, bits: f"{_ipv6(one << 96)}/{32 + bits}",
}
"""How each format writes a range; the number is that of a prefix of about its size."""


def measured(kind: str, ranges: int, rounds: int) -> dict[str, float]:
    """Medians for one format."""
    rng = random.Random(SEED)
    firsts = [rng.randrange(1 << 32) for _ in range(ranges)]
    write = LINES[kind]
    data = "\n".join(
        write(one, min(one + 255, (1 << 32) - 1), 24 + number % 9)
        for number, one in enumerate(firsts)
    ).encode()
    ipv6 = kind == "IPv6"
    asked = [rng.choice(firsts) if n % 2 else rng.randrange(1 << 32) for n in range(LOOKUPS)]
    hosts = [_ipv6(one << 96) if ipv6 else _ipv4(one) for one in asked]
    loads, lookups = [], []
    for _ in range(rounds):
        began = time.perf_counter()
        parsed = parse_ip_filter(data)
        loads.append(time.perf_counter() - began)
        forbids = parsed.filter.forbids
        began = time.perf_counter()
        for host in hosts:
            forbids(host)
        lookups.append((time.perf_counter() - began) / LOOKUPS)
    assert parsed.bad_lines == 0
    assert sum(map(parsed.filter.forbids, hosts)) >= LOOKUPS // 2
    tracemalloc.start()
    kept = parse_ip_filter(data)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(kept.filter) == len(parsed.filter)
    return {
        "load_seconds": statistics.median(loads),
        "lookup_us": 1e6 * statistics.median(lookups),
        "kept_mb": held / 1e6,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ranges", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    if options.ranges < 1 or options.rounds < 1:
        parser.error("at least one range, and one round")
    found = {kind: measured(kind, options.ranges, options.rounds) for kind in LINES}
    if options.json:
        print(json.dumps(found))
        return 0
    print(f"{options.ranges:,} ranges     load   a look-up      kept")
    for kind, figures in found.items():
        print(
            f"{kind:12} {figures['load_seconds']:8.2f} s {figures['lookup_us']:7.2f} us"
            f" {figures['kept_mb']:7.1f} MB"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
