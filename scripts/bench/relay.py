"""A line between two ends that speak UDP, on 127.0.0.2 and in real time: what is sent to it is sent
on, at a rate, after a delay, from a queue that overflows, and not all of it, nor all in order.

    python scripts/bench/relay.py relay '{"rate": 2.5e6, "delay": 0.025, "loss": 0.01}'

It is a worker as `peers.py` has them: `ready` tells the port that the dialling end is to dial; the
go names the end that is dialled; `stopped` tells what was carried, dropped, and how long the queue
was. For one dialling end at a time: the first whose datagrams come.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import random
import select
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from peers import Line, say, wait_for_go

HOST = "127.0.0.2"
"""Not that of the ends: whatever comes from there came this way."""
HEADERS = 28
"""Bytes of IPv4 and UDP around a datagram."""
BUFFER = 4 << 20


@dataclass(kw_only=True)
class Way:
    """One direction, by which datagrams leave through `out`."""

    out: socket.socket
    rate: float
    """Bytes per second, headers included."""
    delay: float
    """Seconds."""
    queue: int
    """Bytes; more is dropped."""
    loss: float
    reordered: float
    """Share of datagrams that are late by up to `late` seconds."""
    late: float
    mtu: int
    """Bytes, headers included; what is longer vanishes."""
    rng: random.Random
    to: tuple[str, int] | None = None
    free_at: float = 0.0
    offered: int = 0
    carried: int = 0
    lost: int = 0
    overflowed: int = 0
    waits: list[float] = field(default_factory=list)
    """Seconds in the queue, one of each sixteen datagrams."""

    def leaves_at(self, size: int, now: float) -> float | None:
        """When a datagram that came now arrives at the other end."""
        size += HEADERS
        self.offered += 1
        if size > self.mtu or (self.loss and self.rng.random() < self.loss):
            self.lost += 1
            return None
        wait = max(0.0, self.free_at - now)
        if wait * self.rate + size > self.queue:
            self.overflowed += 1
            return None
        if not self.offered % 16:
            self.waits.append(wait)
        self.carried += size
        self.free_at = now + wait + size / self.rate
        late = self.late * self.rng.random() if self.rng.random() < self.reordered else 0.0
        return self.free_at + self.delay + late

    def told(self) -> Line:
        waits = sorted(self.waits) or [0.0]
        return {
            "offered": self.offered,
            "lost": self.lost,
            "overflowed": self.overflowed,
            "carried": self.carried,
            "median wait": waits[len(waits) // 2],
            "longest wait": waits[-1],
        }


def relay(
    rate: float,
    delay: float,
    queue: int = 1 << 18,
    loss: float = 0.0,
    reordered: float = 0.0,
    late: float = 0.02,
    mtu: int = 1500,
    seed: int = 1,
) -> None:
    """Carry until stdin closes. `delay` is of each direction, as everything is."""
    with contextlib.ExitStack() as stack:
        dialled, dialling = (stack.enter_context(_socket()) for _ in range(2))
        rng = random.Random(seed)
        there, back = (
            Way(
                out=out,
                rate=rate,
                delay=delay,
                queue=queue,
                loss=loss,
                reordered=reordered,
                late=late,
                mtu=mtu,
                rng=rng,
            )
            for out in (dialling, dialled)
        )
        say({"event": "ready", "port": dialled.getsockname()[1]})
        there.to = wait_for_go()[0]
        _carry({dialled: (there, back), dialling: (back, there)})
    say({"event": "stopped", "there": there.told(), "back": back.told()})


def _socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, BUFFER)
    sock.bind((HOST, 0))
    sock.setblocking(False)
    return sock


def _carry(ways: dict[socket.socket, tuple[Way, Way]]) -> None:
    """`ways`: that of what a socket receives, and that of what is sent to whoever sent it."""
    under_way: list[tuple[float, int, bytes, Way]] = []
    order = 0
    while True:
        pause = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
        ready, _, _ = select.select([sys.stdin, *ways], [], [], pause)
        if sys.stdin in ready:
            return
        now = time.monotonic()
        for sock in ways.keys() & ready:
            way, other = ways[sock]
            for _ in range(64):
                try:
                    datagram, source = sock.recvfrom(1 << 16)
                except OSError:
                    break
                if other.to is None:
                    other.to = source
                when = way.leaves_at(len(datagram), now) if source == other.to else None
                if when is not None:
                    order += 1
                    heapq.heappush(under_way, (when, order, datagram, way))
        while under_way and under_way[0][0] <= now:
            _, _, datagram, way = heapq.heappop(under_way)
            with contextlib.suppress(OSError):
                way.out.sendto(datagram, way.to or ("", 0))


if __name__ == "__main__":
    relay(**json.loads(sys.argv[2]))
