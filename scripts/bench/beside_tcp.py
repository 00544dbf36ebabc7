"""Does uTP give way to TCP, keep its queue short, and take the line again? Needs root, on Linux.

    python scripts/bench/beside_tcp.py --rate 20 --buffer 400

Three network namespaces in a row: a source, a router that sends on so many Mbit/s each way from a
queue of so many milliseconds (`tc` tbf), and a sink. TCP of the system alone, then this package's
uTP alone (without its engine, `utp_peer.py`), TCP beside it, and uTP alone again. All the while a
small datagram every 10 ms measures how long the queue is.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from machine import load, machine
from peers import Line, say, wait_for_go, worker
from utp_peer import End, over

from dht_torrent.ids import Address

SOURCE, ROUTER_SOURCE, ROUTER_SINK, SINK = "10.9.1.1", "10.9.1.2", "10.9.2.2", "10.9.2.1"
TIMESTAMP = 35
"""SO_TIMESTAMPNS, of Linux."""
BIN = 0.1
"""Seconds for which bytes are counted together."""
PROBE_EVERY = 0.01
CHUNK = bytes(1 << 16)
DRAIN = 1.5
"""Seconds after TCP alone until its queue is surely gone."""
SETTLES = 0.7
"""Share of the time of both, after which TCP has filled the queue: it needs some seconds."""
TAKEN = 0.8
"""Share of what uTP has alone, with which it has taken the line again."""


@dataclass(frozen=True)
class Plan:
    """Seconds since the beginning."""

    tcp_ends: float
    utp_begins: float
    tcp_again: float
    tcp_ends_again: float
    ends: float

    @classmethod
    def of(cls, tcp: float, utp: float, both: float, after: float) -> Plan:
        begins = tcp + DRAIN if tcp else 0.0
        return cls(tcp, begins, begins + utp, begins + utp + both, begins + utp + both + after)

    def is_tcp(self, at: float) -> bool:
        return at < self.tcp_ends or self.tcp_again <= at < self.tcp_ends_again


# --- the two ends ----------------------------------------------------------------------------


def source(began: float, plan: Sequence[float], control: str, flows: int) -> None:
    """Send, each way when its time is."""
    when = Plan(*plan)
    end = End(SOURCE)
    probes = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    say({"event": "ready", "port": 0})
    (utp, tcp, probe) = wait_for_go()
    running: list[socket.socket] = []
    next_probe = began
    while (at := time.monotonic() - began) < when.ends and not over():
        if not running and when.is_tcp(at):
            for _ in range(flows):
                flow = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                flow.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, control.encode())
                flow.connect((tcp[0], tcp[1]))
                flow.setblocking(False)
                running.append(flow)
        elif running and not when.is_tcp(at):
            for flow in running:
                # Or what is in its buffer would go on for a while.
                flow.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                flow.close()
            running.clear()
        for flow in running:
            with contextlib.suppress(BlockingIOError):
                while True:
                    flow.send(CHUNK)
        if at >= when.utp_begins:
            if end.connection is None:
                end.dial(Address(utp[0], utp[1]))
            assert end.connection is not None
            while end.connection.writable:
                end.connection.send(CHUNK)
            end.send()
        if (now := time.monotonic()) >= next_probe:
            probes.sendto(struct.pack("d", time.time()), (probe[0], probe[1]))
            next_probe = max(next_probe + PROBE_EVERY, now)
        end.turn(0.002)
        end.send()
    say({"event": "stopped"})


def sink(began: float) -> None:
    """Count what comes."""
    end = End(SINK)
    listener = socket.create_server((SINK, 0))
    probes = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    probes.bind((SINK, 0))
    # When they came, and not when this busy process looks.
    probes.setsockopt(socket.SOL_SOCKET, TIMESTAMP, 1)
    for sock in (listener, probes):
        sock.setblocking(False)
    ports = [sock.getsockname()[1] for sock in (end.socket, listener, probes)]
    say({"event": "ready", "ports": ports})
    wait_for_go()
    bytes_of: dict[str, dict[int, int]] = {"tcp": defaultdict(int), "utp": defaultdict(int)}
    delays: list[tuple[float, float]] = []
    flows: list[socket.socket] = []
    buffer = memoryview(bytearray(1 << 20))
    while not over():
        watched = [end.socket, listener, probes, *flows]
        wait = 0.05
        if (due := end.table.next_time()) is not None:
            wait = max(0.0, min(wait, due - time.monotonic()))
        select.select([sys.stdin, *watched], [], [], wait)
        with contextlib.suppress(BlockingIOError):
            while True:
                data, [(_, _, stamp)], _, _ = probes.recvmsg(64, 64)
                seconds, nanoseconds = struct.unpack("ll", stamp)
                (sent,) = struct.unpack("d", data)
                delays.append((time.monotonic() - began, seconds + nanoseconds / 1e9 - sent))
        bin_now = int((time.monotonic() - began) / BIN)
        with contextlib.suppress(BlockingIOError):
            while True:
                flow, _ = listener.accept()
                flow.setblocking(False)
                flows.append(flow)
        for flow in list(flows):
            try:
                while size := flow.recv_into(buffer):
                    bytes_of["tcp"][bin_now] += size
                flows.remove(flow)
            except BlockingIOError:
                pass
            except OSError:
                flows.remove(flow)
        end.turn(0.0)
        if end.connection is not None:
            while size := end.connection.read_into(buffer):
                bytes_of["utp"][bin_now] += size
        end.send()
    say({"event": "stopped", "delays": delays, **bytes_of})


# --- the line --------------------------------------------------------------------------------


def _run(*words: str) -> None:
    subprocess.run(words, check=True)


@contextlib.contextmanager
def line(rate: float, buffer: float) -> Iterator[tuple[list[str], list[str]]]:
    """Commands that run others at the source and at the sink. `rate` in Mbit/s, `buffer` in ms."""
    names = [f"bench-{os.getpid()}-{name}" for name in ("source", "router", "sink")]
    with contextlib.ExitStack() as stack:
        for name in names:
            _run("ip", "netns", "add", name)
            stack.callback(_run, "ip", "netns", "del", name)
        begin, router, end = names
        for name, near, far, mine, its in (
            (begin, "to-source", "out", SOURCE, ROUTER_SOURCE),
            (end, "to-sink", "out", SINK, ROUTER_SINK),
        ):
            _run(*f"ip -n {router} link add {near} type veth peer {far} netns {name}".split())
            for space, device, address in ((router, near, its), (name, far, mine)):
                _run(*f"ip -n {space} address add {address}/24 dev {device}".split())
                # Segments, as a line has them, and not what the system joins of them.
                segments = "gso_max_segs 1"
                _run(*f"ip -n {space} link set {device} up {segments}".split())
            _run(*f"ip -n {name} route add default via {its}".split())
            shape = f"root tbf rate {rate}mbit burst 10kb latency {buffer}ms"
            _run(*f"ip netns exec {router} tc qdisc add dev {near} {shape}".split())
        _run(*f"ip netns exec {router} sysctl -qw net.ipv4.ip_forward=1".split())
        yield (["ip", "netns", "exec", begin], ["ip", "netns", "exec", end])


# --- the figures -----------------------------------------------------------------------------


def rate_of(bins: Line, begin: float, end: float) -> float:
    """Bytes per second."""
    first, last = round(begin / BIN), round(end / BIN)
    size: int = sum(bins.get(str(number), 0) for number in range(first, last))
    return size / (end - begin)


def measure(
    plan: Plan,
    at_source: Sequence[str],
    at_sink: Sequence[str],
    *,
    control: str = "cubic",
    flows: int = 1,
) -> Line:
    began = time.monotonic() + 1.0
    times = list(vars(plan).values())
    with (
        worker("sink", script=__file__, inside=at_sink, began=began) as receiver,
        worker(
            "source",
            script=__file__,
            inside=at_source,
            began=began,
            plan=times,
            control=control,
            flows=flows,
        ) as sender,
    ):
        ports = receiver.expect("ready")["ports"]
        sender.expect("ready")
        receiver.go()
        sender.go([(SINK, port) for port in ports])
        sender.expect("stopped", plan.ends + 30)
        told = receiver.stop()
    return figures(plan, told)


def figures(plan: Plan, told: Line) -> Line:
    tcp, utp = told["tcp"], told["utp"]

    def waits(begin: float, end: float) -> list[float]:
        return sorted(delay for at, delay in told["delays"] if begin <= at < end)

    # The first seconds of each part are not its own: the queue is filling, or somebody leaves.
    tcp_alone = rate_of(tcp, plan.tcp_ends / 2, plan.tcp_ends) if plan.tcp_ends else None
    settled = (plan.utp_begins + plan.tcp_again) / 2
    utp_alone = rate_of(utp, settled, plan.tcp_again)
    shared = plan.tcp_again + (plan.tcp_ends_again - plan.tcp_again) * SETTLES
    tcp_beside = rate_of(tcp, shared, plan.tcp_ends_again)
    alone, beside = waits(settled, plan.tcp_again), waits(shared, plan.tcp_ends_again)
    again = next(
        (
            number * BIN + 1.0 - plan.tcp_ends_again
            for number in range(round(plan.tcp_ends_again / BIN), round(plan.ends / BIN) - 9)
            if rate_of(utp, number * BIN, number * BIN + 1.0) >= TAKEN * utp_alone
        ),
        None,
    )
    return {
        "TCP alone, MB/s": tcp_alone / 1e6 if tcp_alone else None,
        "uTP alone, MB/s": utp_alone / 1e6,
        "delay of uTP alone, ms: median": statistics.median(alone) * 1e3,
        "... 99 of 100": alone[len(alone) * 99 // 100] * 1e3,
        "... longest": alone[-1] * 1e3,
        "TCP beside uTP, MB/s": tcp_beside / 1e6,
        "... over TCP alone": tcp_beside / tcp_alone if tcp_alone else None,
        "uTP beside TCP, MB/s": rate_of(utp, shared, plan.tcp_ends_again) / 1e6,
        "delay of both, ms: median": statistics.median(beside) * 1e3,
        f"uTP has {TAKEN:.0%} again after, s": again,
    }


def main() -> None:
    if sys.argv[1:2] in (["source"], ["sink"]):
        role = source if sys.argv[1] == "source" else sink
        role(**json.loads(sys.argv[2]))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=float, default=20.0, help="Mbit/s")
    parser.add_argument("--buffer", type=float, default=400.0, help="ms that wait in the router")
    parser.add_argument("--tcp", default="cubic", help="its congestion control")
    parser.add_argument("--flows", type=int, default=1, help="of TCP")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", default="8,16,16,12", help="TCP, uTP, both, uTP again")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    args = parser.parse_args()
    plan = Plan.of(*(float(part) for part in args.seconds.split(",")))
    before = load()
    found = []
    for _ in range(args.rounds):
        with line(args.rate, args.buffer) as (at_source, at_sink):
            at = (at_source, at_sink)
            found.append(measure(plan, *at, control=args.tcp, flows=args.flows))
    if args.json:
        print(json.dumps({"machine": machine(before), "rounds": found}))
        return
    print(f"{args.rate:g} Mbit/s, {args.buffer:g} ms of buffer")
    print(machine(before))
    for name in found[0]:
        print(
            f"{name:34}",
            *(f"{x:8.2f}" if (x := one[name]) is not None else "       -" for one in found),
        )


if __name__ == "__main__":
    main()
