"""All uTP connections of one UDP socket: whose a packet is, who may come in, and when to do what.

The rule: nothing is kept of a SYN. The number in our reply is computed from who sent it and a
secret, so whoever names it later has received it (as TCP's SYN cookies do); only then is there a
connection. What goes to an address that was not verified so is never more than came from it.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import count
from typing import Final

from dht_torrent.config import UtpConfig
from dht_torrent.errors import UtpError
from dht_torrent.ids import Address
from dht_torrent.utp.connection import Fields, UtpConnection
from dht_torrent.utp.inbound import ReceiveBudget
from dht_torrent.utp.packets import (
    FIRST_PACKETS,
    HEADER,
    MASK_16,
    MASK_32,
    RESET,
    STATE,
    SYN,
    VERSION,
    is_utp,
)

TRIES: Final = 64
"""Ids looked at for a new connection."""


@dataclass(slots=True)
class UtpDue:
    """What is to be done after `UtpTable.due`."""

    datagrams: list[tuple[bytes, Address]] = field(default_factory=list)
    probes: list[tuple[bytes, Address]] = field(default_factory=list)
    """Datagrams that must not be fragmented, to be sent before the others. If the system refuses
    one as too large, tell `UtpTable.probe_refused`."""
    ended: list[UtpConnection] = field(default_factory=list)
    """Connections that are gone: those who wait for them must hear of it."""


class _Allowance:
    """So many a second, and a second's worth at once."""

    __slots__ = ("_at", "_left", "_rate")

    def __init__(self, rate: float) -> None:
        self._rate = self._left = rate
        self._at = 0.0

    def take(self, now: float) -> bool:
        self._left = min(self._rate, self._left + max(0.0, now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class UtpTable:
    """Connections by where they come from and the id that their packets carry."""

    def __init__(self, config: UtpConfig, secret: bytes, rng: random.Random) -> None:
        """`secret`: 16 random bytes or more, that nobody else knows."""
        self._config = config
        self._secret = secret
        self._rng = rng
        self._budget = ReceiveBudget(config.total_receive_buffer)
        self._connections: dict[tuple[Address, int], UtpConnection] = {}
        self._changed: dict[UtpConnection, None] = {}
        self._timers: list[tuple[float, int, UtpConnection]] = []
        self._order = count()
        self._replies: list[tuple[bytes, Address]] = []
        self._resets = _Allowance(config.reset_rate)
        self._syn_replies = _Allowance(config.syn_reply_rate)
        self.accepts = True
        """Whether others may connect."""
        self.malformed = 0
        """Datagrams that were not well-formed."""
        self.strays = 0
        """Packets that belong to no connection."""

    def __len__(self) -> int:
        return len(self._connections)

    @property
    def buffered(self) -> int:
        """Bytes received that nobody has read yet."""
        return self._budget.used

    def connect(self, to: Address, now: float) -> UtpConnection | None:
        """A new connection, whose SYN is `due` at once. None if there are too many."""
        if len(self._connections) >= self._config.max_connections:
            return None
        for _ in range(TRIES):
            ours = self._rng.randrange(1 << 16)
            theirs = ours + 1 & MASK_16
            # An accepted connection of the same peer may use the same two ids the other way round.
            if not any((to, one) in self._connections for one in (ours, theirs)):
                number = self._rng.randrange(1 << 16)
                return self._add(
                    UtpConnection(self._config, self._budget, to, (ours, theirs), number, now)
                )
        return None

    def _add(self, connection: UtpConnection) -> UtpConnection:
        self._connections[connection.address, connection.receive_id] = connection
        self._changed[connection] = None
        return connection

    def changed(self, connection: UtpConnection) -> None:
        """Call after `send`, `read_into`, `finish`, `close` or `abort` of a connection."""
        if self._connections.get((connection.address, connection.receive_id)) is connection:
            self._changed[connection] = None

    def receive(
        self, datagrams: Iterable[tuple[bytes, Address]], now: float
    ) -> tuple[list[UtpConnection], list[UtpConnection]]:
        """Connections that packets came for, and those among them that are new. Never raises for
        what is in a datagram. Call `due` afterwards."""
        micros = int(now * 1e6) & MASK_32
        connections, unpack = self._connections, HEADER.unpack_from
        touched: dict[UtpConnection, None] = {}
        new: list[UtpConnection] = []
        connection: UtpConnection | None = None
        before: Address | None = None
        before_id = 0
        for datagram, source in datagrams:
            if not is_utp(datagram):
                self.malformed += 1
                continue
            fields: Fields = unpack(datagram)
            # Most of them are of the same connection as the one before.
            if source is not before or fields[2] != before_id or connection is None:
                before, before_id = source, fields[2]
                connection = connections.get((source, before_id))
            if connection is None or fields[0] >> 4 >= RESET:
                before = None  # a RESET finds its connection by other ids as well
                connection = self._unusual(source, fields, now)
                if connection is None:
                    continue
                if (source, connection.receive_id) not in connections:
                    new.append(self._add(connection))
            try:
                connection.receive(now, micros, fields, datagram)
            except UtpError:
                self.malformed += 1
            touched[connection] = None
        self._changed.update(touched)
        return list(touched), new

    def _unusual(self, source: Address, fields: Fields, now: float) -> UtpConnection | None:
        """Whose a packet is that is a SYN or a RESET, or belongs to no connection yet."""
        first, _, number_id, stamp, _, _, number, ack = fields
        kind = first >> 4
        if kind == SYN:
            self._answer_syn(source, number_id, number, stamp, now)
            return None
        if kind == RESET:
            # Some answer with the id that they received, others with the one we expect.
            for one in (number_id, number_id - 1 & MASK_16, number_id + 1 & MASK_16):
                connection = self._connections.get((source, one))
                if connection is not None and number_id in (one, connection.send_id):
                    return connection
            return None
        theirs = number_id - 1 & MASK_16
        syn = self._syn_of(source, theirs, number, ack + 1 & MASK_16, now)
        if syn is not None and self._has_room:
            return UtpConnection(
                self._config,
                self._budget,
                source,
                (number_id, theirs),
                ack + 1 & MASK_16,
                now,
                accepted_syn=syn,
            )
        self.strays += 1
        if self._resets.take(now):
            self._reply(RESET, source, number_id, 0, number, stamp, now)
        return None

    @property
    def _has_room(self) -> bool:
        return self.accepts and len(self._connections) < self._config.max_connections

    def _answer_syn(
        self, source: Address, theirs: int, number: int, stamp: int, now: float
    ) -> None:
        known = self._connections.get((source, theirs + 1 & MASK_16))
        if known is not None and known.accepted_syn == number:
            cookie = known.first_number  # it did not hear our first reply
        elif known is not None or not self._has_room:
            if self._resets.take(now):
                self._reply(RESET, source, theirs, 0, number, stamp, now)
            return
        else:
            cookie = self._cookie(source, theirs, number, int(now / self._config.cookie_age))
        if self._syn_replies.take(now):
            self._reply(STATE, source, theirs, cookie & MASK_16, number, stamp, now)

    def _cookie(self, source: Address, theirs: int, syn: int, age: int) -> int:
        text = b"%b %d %d %d %d" % (source.host.encode(), source.port, theirs, syn, age)
        return int.from_bytes(blake2b(text, key=self._secret[:64], digest_size=2).digest(), "big")

    def _syn_of(
        self, source: Address, theirs: int, number: int, cookie: int, now: float
    ) -> int | None:
        """The SYN that a packet follows whose sender names our reply to it."""
        age = int(now / self._config.cookie_age)
        for before in range(1, FIRST_PACKETS + 2):
            syn = number - before & MASK_16
            for one in (age, age - 1):
                if self._cookie(source, theirs, syn, one) == cookie:
                    return syn
        return None

    def _reply(
        self,
        kind: int,
        to: Address,
        connection_id: int,
        number: int,
        ack: int,
        stamp: int,
        now: float,
    ) -> None:
        micros = int(now * 1e6) & MASK_32
        window = min(self._config.receive_buffer, max(0, self._budget.limit - self._budget.used))
        packet = HEADER.pack(
            kind << 4 | VERSION,
            0,
            connection_id,
            micros,
            (micros - stamp) & MASK_32,
            window,
            number,
            ack,
        )
        self._replies.append((packet, to))

    def probe_refused(self, probe: bytes, to: Address) -> None:
        """The system said that this datagram is too large (EMSGSIZE)."""
        connection_id = HEADER.unpack_from(probe)[2]
        for one in (connection_id - 1 & MASK_16, connection_id + 1 & MASK_16):
            connection = self._connections.get((to, one))
            if connection is not None and connection.send_id == connection_id:
                connection.outbound.probe_refused()
                self._changed[connection] = None

    def due(self, now: float) -> UtpDue:
        """What is to be sent now. Call it after each batch of packets, each batch of `changed` and
        at `next_time`."""
        box = UtpDue()
        if self._replies:
            box.datagrams, self._replies = self._replies, []
        timers, changed = self._timers, self._changed
        while timers and timers[0][0] <= now:
            when, _, connection = heapq.heappop(timers)
            if connection.scheduled == when:
                connection.scheduled = None
                changed[connection] = None
        if changed:
            self._changed = {}
        for connection in changed:
            to = connection.address
            box.datagrams += [(packet, to) for packet in connection.packets_to_send(now)]
            if connection.probes:
                box.probes += [(packet, to) for packet in connection.probes]
                connection.probes.clear()
            self._schedule(connection, now, box)
        return box

    def _schedule(self, connection: UtpConnection, now: float, box: UtpDue) -> None:
        when = connection.next_time()
        if when is None:
            if self._connections.pop((connection.address, connection.receive_id), None) is not None:
                connection.inbound.discard()
                box.ended.append(connection)
            connection.scheduled = None
        elif connection.scheduled is None or when < connection.scheduled:
            connection.scheduled = max(when, now)
            heapq.heappush(self._timers, (connection.scheduled, next(self._order), connection))

    def next_time(self) -> float | None:
        """When to call `due` even if nothing happens."""
        while self._timers and self._timers[0][2].scheduled != self._timers[0][0]:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None
