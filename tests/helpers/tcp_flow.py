"""A greedy TCP flow on the lines of `utp_link`, as coarse as its neighbours on a line may see it:
slow start, Reno or CUBIC (RFC 9438), and losses found by what arrives after them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

from tests.helpers.utp_link import Line, World

SEGMENT = 1448
HEADERS = 24
"""Beside what a `Line` adds: TCP's with timestamps, in place of UDP's."""
Kind = Literal["reno", "cubic"]
CUBIC_C, CUBIC_BETA = 0.4, 0.7


class TcpFlow:
    """Sends from `start` on until it is told to stop."""

    def __init__(self, world: World, there: Line, back: Line, kind: Kind) -> None:
        self.world = world
        self.there = there
        self.back = back
        self.kind = kind
        self.is_running = False
        self.delivered = 0
        """Bytes."""
        self.window = 10.0
        self._threshold = float("inf")
        self._flying: OrderedDict[int, float] = OrderedDict()
        self._next = 0
        self._recovery = 0
        self._most = 0.0
        self._reduced_at = 0.0
        self._rtt = 0.1
        self._checked = 0

    def start(self) -> None:
        self.is_running = True
        self._send()

    def stop(self) -> None:
        self.is_running = False

    def _send(self) -> None:
        while self.is_running and len(self._flying) < int(self.window):
            number, self._next = self._next, self._next + 1
            self._flying[number] = self.world.now
            for when in self.there.arrivals(SEGMENT + HEADERS, self.world.now, self.world.rng):
                self.world.at(when, lambda number=number: self._arrived(number))  # type: ignore[misc]
        if self._flying and not self._checked:
            self._checked = 1
            self.world.at(self.world.now + 1.0, self._check)

    def _arrived(self, number: int) -> None:
        self.delivered += SEGMENT
        for when in self.back.arrivals(HEADERS, self.world.now, self.world.rng):
            self.world.at(when, lambda: self._acked(number))

    def _acked(self, number: int) -> None:
        sent_at = self._flying.pop(number, None)
        if sent_at is None:
            return
        self._rtt += (self.world.now - sent_at - self._rtt) / 8
        for other in list(self._flying):
            if other > number - 3:
                break
            del self._flying[other]
            self._lost(other)
        if self.window < self._threshold:
            self.window += 1
        elif self.kind == "reno":
            self.window += 1 / self.window
        else:
            self._grow()
        self._send()

    def _grow(self) -> None:
        elapsed = self.world.now - self._reduced_at + self._rtt
        wait = (self._most * (1 - CUBIC_BETA) / CUBIC_C) ** (1 / 3)
        cubic = CUBIC_C * (elapsed - wait) ** 3 + self._most
        share = 3 * (1 - CUBIC_BETA) / (1 + CUBIC_BETA)
        friendly = self._most * CUBIC_BETA + share * elapsed / self._rtt
        wanted = min(max(cubic, friendly), 1.5 * self.window)
        self.window += max(0.0, wanted - self.window) / self.window

    def _lost(self, number: int) -> None:
        if number < self._recovery:
            return
        self._recovery = self._next
        self._most = self.window
        self._reduced_at = self.world.now
        self.window = max(2.0, self.window * (0.5 if self.kind == "reno" else CUBIC_BETA))
        self._threshold = self.window

    def _check(self) -> None:
        """Everything that flew may be lost."""
        self._checked = 0
        oldest = next(iter(self._flying.values()), self.world.now)
        if self.world.now - oldest > max(1.0, 2 * self._rtt):
            self._flying.clear()
            self._threshold, self.window = max(2.0, self.window / 2), 1.0
            self._recovery = self._next
        self._send()
