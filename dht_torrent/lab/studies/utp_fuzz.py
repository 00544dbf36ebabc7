"""Mutated uTP: a table of connections among honest ends, whose packets are spoilt on their way to
it, and strangers. The rule: its connections keep their bounds, and nobody who has not shown that it
hears us is sent more than came from it.
"""

from __future__ import annotations

import random
from collections import deque
from typing import Final

from dht_torrent.config import UtpConfig
from dht_torrent.errors import LocalProtocolError
from dht_torrent.ids import Address
from dht_torrent.lab.studies.codec_fuzz import Findings, Input
from dht_torrent.utp.connection import UtpConnection
from dht_torrent.utp.packets import HEADER, HEADER_SIZE
from dht_torrent.utp.table import UtpTable

CONFIG: Final = UtpConfig(
    receive_buffer=40_000,
    send_buffer=40_000,
    min_send_buffer=8_000,
    total_receive_buffer=300_000,
    max_connections=60,
)
_OURS: Final = Address("10.0.0.1", 6881)
_HONEST: Final = tuple(Address(f"10.0.1.{n}", 6881) for n in range(6))
_STRANGERS: Final = 2000
_UNDER_WAY: Final = 200
_STEP: Final = 0.002
"""Seconds between two inputs."""
_OLD: Final = 12
"""Connections of one honest end: then the oldest is ended, one way or another."""
_NUMBERS: Final = (0, 1, 2, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_MASKS: Final = (0xFF, 0xFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFF, 0xFFFF)
"""Of the fields of a header."""
_BYTES: Final = bytes(20_000)


class UtpCodec:
    """One table that is attacked."""

    flat = 20_000
    """The connections, and what they hold, are bounded."""

    def __init__(self, seed: int) -> None:
        dice = random.Random(seed)
        self._ours = UtpTable(CONFIG, dice.randbytes(16), dice)
        self._honest = {host: UtpTable(CONFIG, dice.randbytes(16), dice) for host in _HONEST}
        self._ends: dict[Address, deque[UtpConnection]] = {host: deque() for host in _HONEST}
        self._under_way: deque[tuple[bytes, Address]] = deque(maxlen=_UNDER_WAY)
        self._mine: deque[UtpConnection] = deque()
        self._buffer = memoryview(bytearray(4096))
        self._fed = 0

    def input(self, number: int, rng: random.Random) -> Input:
        """A datagram, and from where."""
        now = 1000 + _STEP * number
        if not self._under_way or rng.random() < 0.02:
            self._go_on(now, rng)
        data, source = self._under_way.popleft() if self._under_way else (rng.randbytes(40), _OURS)
        if rng.random() < 0.05:
            self._under_way.append((data, source))  # once more, and late
        if rng.random() < 0.6:
            data = _spoilt(data, rng)
        if rng.random() < 0.1:
            place = rng.randrange(_STRANGERS)
            source = Address(f"203.0.{place >> 8}.{place & 255}", 6881)
        return Input(data, lambda found: self._hear(data, source, now, found))

    def _go_on(self, now: float, rng: random.Random) -> None:
        """One honest end dials, sends, reads and parts."""
        host = rng.choice(_HONEST)
        table, ends = self._honest[host], self._ends[host]
        if rng.random() < 0.3 and (dialled := table.connect(_OURS, now)) is not None:
            ends.append(dialled)
        for connection in list(ends):
            if connection.is_gone:
                ends.remove(connection)
            elif connection.is_connected and not connection.outbound.finishing:
                connection.send(_BYTES[: rng.randrange(6000)])
            while connection.read_into(self._buffer):
                pass
            table.changed(connection)
        while len(ends) > _OLD:
            _end(ends.popleft(), table, now, rng.randrange(3))
        if rng.random() < 0.1 and (mine := self._ours.connect(host, now)) is not None:
            self._mine.append(mine)
        self._take(host, now)

    def _take(self, host: Address, now: float) -> None:
        due = self._honest[host].due(now)
        self._under_way += [(packet, host) for packet, _ in due.probes + due.datagrams]

    def _hear(self, data: bytes, source: Address, now: float, found: Findings) -> None:
        table = self._ours
        self._fed += 1
        touched, new = table.receive([(data, source)], now)
        self._mine += new
        found.decoded += bool(touched)
        for connection in touched:
            if self._fed % 3:
                connection.read_into(self._buffer)
            if connection.is_connected and not connection.outbound.finishing:
                connection.send(_BYTES[: self._fed % 3000])
            table.changed(connection)
        if len(self._mine) > CONFIG.max_connections // 2:
            _end(self._mine.popleft(), table, now, self._fed % 3)
        sent = self._send(now)
        found.answered += bool(sent)
        if not touched and sent.get(source, 0) > len(data) and source not in self._honest:
            found.faults.append(f"{sent[source]} bytes to a stranger for {data!r}")
        self._check(touched, now, data, found)

    def _send(self, now: float) -> dict[Address, int]:
        """What is due. Bytes to each address."""
        due = self._ours.due(now)
        sent: dict[Address, int] = {}
        for packet, to in due.probes + due.datagrams:
            sent[to] = sent.get(to, 0) + len(packet)
            honest = self._honest.get(to)
            if honest is not None:
                _, new = honest.receive([(packet, _OURS)], now)
                self._ends[to] += new
        for to in sent.keys() & self._honest.keys():
            self._take(to, now)
        return sent

    def _check(
        self, touched: list[UtpConnection], now: float, data: bytes, found: Findings
    ) -> None:
        table = self._ours
        wrong = []
        if len(table) > CONFIG.max_connections:
            wrong.append(f"{len(table)} connections")
        most = CONFIG.total_receive_buffer + CONFIG.max_connections * 20_000
        if not 0 <= table.buffered <= most:
            wrong.append(f"{table.buffered} bytes received")
        for connection in touched:
            out = connection.outbound
            if not 0 <= out.in_flight <= out.held <= CONFIG.send_buffer:
                wrong.append(f"{out.in_flight} bytes in flight, {out.held} held")
            if not CONFIG.min_packet <= connection.congestion.window <= CONFIG.max_window:
                wrong.append(f"a window of {connection.congestion.window}")
        when = table.next_time()
        if when is not None and when <= now:
            self._send(now)
            when = table.next_time()
            if when is not None and when <= now:
                wrong.append("its timer does not rest")
        found.faults += [f"{what} after {data!r}" for what in wrong]


def _end(connection: UtpConnection, table: UtpTable, now: float, how: int) -> None:
    """Half, in good order, or at once."""
    if how == 0:
        connection.finish()
    elif how == 1:
        connection.close(now)
    else:
        connection.abort()
    if how == 0:
        try:
            connection.send(b"more")
        except LocalProtocolError:
            connection.close(now)
    table.changed(connection)


def _spoilt(data: bytes, rng: random.Random) -> bytes:
    """With other numbers in its header, extensions, or another length; mostly still a packet."""
    if len(data) < HEADER_SIZE:
        return data + rng.randbytes(rng.randrange(40))
    fields = list(HEADER.unpack_from(data))
    rest = data[HEADER_SIZE:]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        what = rng.randrange(12)
        if what < len(fields):
            old = fields[what]
            new = rng.choice(
                (old + rng.randrange(-6, 7), old ^ 1 << rng.randrange(16), rng.choice(_NUMBERS))
            )
            fields[what] = new & _MASKS[what]
            if what == 0 and rng.random() < 0.7:
                fields[0] = rng.randrange(5) << 4 | 1
        elif what == 8:
            rest = rest[: rng.randrange(len(rest) + 1)]
        elif what == 9:
            rest += rng.randbytes(rng.randrange(60))
        else:  # extensions, that may lie about their length
            size = rng.choice((0, 1, 3, 4, 4, 8, 64, 252, 255))
            lie = rng.choice((size, size, size, 255, 0))
            following = rng.choice((0, 0, 0, fields[1], 1, 2))
            fields[1], rest = (
                rng.choice((1, 1, 2, 3)),
                bytes((following, lie))
                + (rng.choice((rng.randbytes(size), b"\xff" * size, bytes(size))) + rest),
            )
    return HEADER.pack(*fields) + rest[:1600]
