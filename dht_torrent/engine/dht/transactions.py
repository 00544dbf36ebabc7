"""Our KRPC queries in flight. The rule: each transaction ends exactly once, by the response that
bears its id from the very address the query went to, or by a timeout; and there is a bound on how
many there are, and on how fast they go to one place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import trio

from dht_torrent.bencode import Value
from dht_torrent.config import DhtConfig
from dht_torrent.dht import krpc
from dht_torrent.dht.krpc import ErrorReply, Query, Reply
from dht_torrent.dht.origins import Home, home
from dht_torrent.dht.rate_limits import QueryPace
from dht_torrent.dht.table import Table
from dht_torrent.engine.wakeup import AutoResetEvent
from dht_torrent.errors import NoReply
from dht_torrent.ids import Address, HostPort, NodeId

Answer = Reply | ErrorReply | None
"""What came back for a query; None is a timeout."""
Done = Callable[[Answer], None]
SendToName = Callable[[bytes, HostPort], bool]
"""Sends a datagram to a host whose name others resolve, on the way; False when it did not leave."""
MAX_NAMED: Final = 64
"""Queries to names in flight; further ones are not sent."""


@dataclass(slots=True, eq=False)
class Transaction:
    """One query that waits for its response. `done` is called exactly once."""

    to: Address | HostPort
    """A name, where only the answer tells the address."""
    expected: NodeId | None
    """The responder's id, if it is known."""
    sent_at: float
    done: Done
    unproven: Home | None
    """Where it went, if no node there had answered us when it was sent."""


class Transactions:
    """Sends queries, waits for the responses, gives up."""

    def __init__(
        self,
        table: Table,
        config: DhtConfig,
        key: bytes,
        *,
        send: Callable[[bytes, Address], None],
        forbids: Callable[[Address], bool],
        send_to_name: SendToName | None = None,
    ) -> None:
        """`key` makes the transaction ids unpredictable. `send` sends one datagram, or loses it.
        What is `forbids`-bidden is not queried: that ends as if it had timed out, at once."""
        self.queries = 0
        """How many were ever sent,"""
        self.timeouts = 0
        """and how many of them no node responded to in time."""
        self.on_timeout: Callable[[Transaction, float], None] = _ignore_timeout
        """Hears of each query that was not answered."""
        self._table = table
        self._config = config
        self._key = key
        self._send = send
        self._forbids = forbids
        self._send_to_name = send_to_name
        # Which of those in flight went to a name, by transaction id.
        self._named: dict[bytes, HostPort] = {}
        self._pace = QueryPace(config)
        # In order of sending; all live equally long, so the first is always the first to expire.
        self._pending: dict[tuple[Address | HostPort, bytes], Transaction] = {}
        self._unproven: dict[Home, int] = {}  # how many of them went to an unproven address
        self._first = AutoResetEvent()
        self._room = AutoResetEvent()
        self._closed = False
        self._tids: list[bytes] = []
        self._digests = 0

    def __len__(self) -> int:
        """Transactions in flight."""
        return len(self._pending)

    def is_querying(self, unproven: Address) -> bool:
        """Whether a query to a node there that has not answered us before is in flight."""
        return home(unproven) in self._unproven

    async def query(self, to: Address, method: bytes, args: Mapping[bytes, Value]) -> Reply:
        """Query one node and wait. Raises NoReply for a timeout and for an error response."""
        got: list[Answer] = []
        answered = AutoResetEvent()

        def done(answer: Answer) -> None:
            got.append(answer)
            answered.set()

        await self.send(to, method, args, done)
        while not got:
            await answered.wait()
        answer = got[0]
        if isinstance(answer, Reply):
            return answer
        if isinstance(answer, ErrorReply):
            raise NoReply(f"{to} refused: {answer.code} {answer.text}", code=answer.code)
        raise NoReply(f"no answer from {to}")

    async def send(
        self,
        to: Address,
        method: bytes,
        args: Mapping[bytes, Value],
        done: Done,
        expected: NodeId | None = None,
    ) -> None:
        """Send a query, once there is room among those in flight and another one may go to `to`."""
        now = trio.current_time()
        when = self._pace.book(to, now)
        if when > now:
            await trio.sleep_until(when)
        while not self._has_room(to) and not self._closed:
            await self._room.wait()
        self._begin(to, method, args, done, expected, trio.current_time())

    def try_send(
        self,
        to: Address,
        method: bytes,
        args: Mapping[bytes, Value],
        done: Done,
        expected: NodeId | None,
        now: float,
    ) -> bool:
        """Send a query if that needs no waiting; else False, and nothing was done."""
        if self._forbids(to) or not self._has_room(to) or not self._pace.is_free(to, now):
            return False
        self._pace.book(to, now)
        self._begin(to, method, args, done, expected, now)
        return True

    def try_send_to_name(
        self, point: HostPort, method: bytes, args: Mapping[bytes, Value], done: Done, now: float
    ) -> bool:
        """Send a query to a host that is resolved on the way there: who answers is known by its
        transaction id alone, which is too long to be guessed. False when it could not be sent, and
        nothing was done."""
        room = len(self._named) < MAX_NAMED and len(self._pending) < self._config.max_pending
        if self._closed or self._send_to_name is None or not room:
            return False
        tid = self._tid() + self._tid()
        if not self._send_to_name(krpc.encode(self._query(tid, method, args)), point):
            return False
        self.queries += 1
        if not self._pending:
            self._first.set()
        self._named[tid] = point
        self._pending[point, tid] = Transaction(point, None, now, done, None)
        return True

    def match(self, message: Reply | ErrorReply, source: Address) -> Transaction | None:
        """The transaction this ends, which is in flight no more; the caller calls its `done`.
        None for a response that no transaction waits for."""
        point = self._named.get(message.tid, source) if self._named else source
        transaction = self._pending.pop((point, message.tid), None)
        if transaction is not None:
            self._named.pop(message.tid, None)
            self._ended(transaction)
            self._room.set()
        return transaction

    async def expire(self) -> None:
        """A service: ends the transactions that get no response within `hard_timeout`."""
        timeout = self._config.hard_timeout
        while True:
            if not self._pending:
                await self._first.wait()
                continue
            await trio.sleep_until(next(iter(self._pending.values())).sent_at + timeout)
            now = trio.current_time()
            while self._pending:
                key, transaction = next(iter(self._pending.items()))
                if transaction.sent_at + timeout > now:
                    break
                del self._pending[key]
                self._named.pop(key[1], None)
                self._ended(transaction)
                self.timeouts += 1
                self.on_timeout(transaction, now)
                transaction.done(None)
            self._room.set()

    def close(self) -> None:
        """End all transactions, and those to come, as timed out."""
        self._closed = True
        while self._pending:
            _, transaction = self._pending.popitem()
            transaction.done(None)
        self._named.clear()
        self._room.set()

    def _begin(
        self,
        to: Address,
        method: bytes,
        args: Mapping[bytes, Value],
        done: Done,
        expected: NodeId | None,
        now: float,
    ) -> None:
        if self._closed or self._forbids(to):
            done(None)
            return
        self.queries += 1
        tid = self._tid()
        earlier = self._pending.pop((to, tid), None)
        if earlier is not None:  # once in four thousand million
            self._ended(earlier)
            earlier.done(None)
        query = self._query(tid, method, args)
        if not self._pending:
            self._first.set()
        place = None if self._table.asked(to, now) else home(to)
        if place is not None:
            self._unproven[place] = self._unproven.get(place, 0) + 1
        self._pending[to, tid] = Transaction(to, expected, now, done, place)
        # A datagram that cannot leave is like one that is lost: it times out.
        self._send(krpc.encode(query), to)

    def _query(self, tid: bytes, method: bytes, args: Mapping[bytes, Value]) -> Query:
        named: dict[bytes, Value] = {b"id": self._table.own_id, **args}
        return Query(tid, method, named, krpc.VERSION, self._config.read_only)

    def _has_room(self, to: Address) -> bool:
        config = self._config
        if len(self._pending) >= config.max_pending:
            return False
        if config.unlimited or self._unproven.get(home(to), 0) < config.max_unproven:
            return True
        return self._table.at(to) is not None

    def _ended(self, transaction: Transaction) -> None:
        place = transaction.unproven
        if place is None:
            return
        left = self._unproven[place] - 1
        if left:
            self._unproven[place] = left
        else:
            del self._unproven[place]

    def _tid(self) -> bytes:
        """The next transaction id. It must not be predictable, since knowing it is what a reply is
        believed for: so it is part of a keyed hash of a counter."""
        if not self._tids:
            self._digests += 1
            counter = self._digests.to_bytes(8, "big")
            digest = hashlib.blake2b(counter, key=self._key).digest()
            self._tids = [digest[at : at + 4] for at in range(0, len(digest), 4)]
        return self._tids.pop()


def ignore(answer: Answer) -> None:
    """For queries whose response matters to the table alone."""


def _ignore_timeout(transaction: Transaction, now: float) -> None:
    """Until the node says what to do."""
