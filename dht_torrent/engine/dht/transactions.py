"""Our KRPC queries in flight. The rule: each question ends exactly once, by the answer that bears
its transaction id from the very address it went to, or by silence; and there is a bound on how
many there are, and on how fast they go to one place.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import trio

from dht_torrent.bencode import Value
from dht_torrent.config import DhtConfig
from dht_torrent.dht import krpc
from dht_torrent.dht.krpc import ErrorReply, Query, Reply
from dht_torrent.dht.origins import Home, home
from dht_torrent.dht.rate_limits import Pace
from dht_torrent.errors import NoReply
from dht_torrent.ids import Address, NodeId

Answer = Reply | ErrorReply | None
"""What came to a question; None is silence."""
Done = Callable[[Answer], None]


class Bell:
    """Wakes its one waiter; rung while nobody waits, it wakes the next at once."""

    __slots__ = ("_rung", "_waiter")

    # A lookup waits for each reply, and many lookups for thousands: an Event for each is dear.
    def __init__(self) -> None:
        self._rung = False
        self._waiter: trio.lowlevel.Task | None = None

    def ring(self) -> None:
        self._rung = True
        if self._waiter is not None:
            waiter, self._waiter = self._waiter, None
            trio.lowlevel.reschedule(waiter)

    async def wait(self) -> None:
        if self._rung:
            await trio.lowlevel.checkpoint()
        else:
            self._waiter = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._give_up)
        self._rung = False

    def _give_up(self, _: object) -> trio.lowlevel.Abort:
        self._waiter = None
        return trio.lowlevel.Abort.SUCCEEDED


@dataclass(slots=True, eq=False)
class Question:
    """One query in flight. `done` is called exactly once."""

    to: Address
    expected: NodeId | None
    """Who should answer, if that is known."""
    asked_at: float
    done: Done
    unproven: Home | None
    """Where it went, if nobody there had answered us when it was asked."""


class Questions:
    """Asks, waits, gives up. `send` sends; `asked` hears where each question goes, and says as
    `proven` does whether somebody there has answered us before; `silent` hears of each question
    nobody answered."""

    def __init__(
        self,
        node_id: NodeId,
        config: DhtConfig,
        key: bytes,
        *,
        send: Callable[[bytes, Address], None],
        asked: Callable[[Address, float], bool],
        silent: Callable[[Question, float], None],
        proven: Callable[[Address], bool],
    ) -> None:
        self.asked = 0
        self.node_id = node_id
        """Ours, in every question."""
        self._config = config
        self._key = key
        self._send = send
        self._asked = asked
        self._silent = silent
        self._proven = proven
        self._pace = Pace(config)
        # In order of asking; all live equally long, so the first is always the first to expire.
        self._pending: OrderedDict[tuple[Address, bytes], Question] = OrderedDict()
        self._unproven: dict[Home, int] = {}  # how many of them went to an unproven address
        self._first = Bell()
        self._room = trio.Event()
        self._waiting = 0  # tasks that wait for it
        self._closed = False
        self._tids: list[bytes] = []
        self._digests = 0

    def __len__(self) -> int:
        """Questions in flight."""
        return len(self._pending)

    def is_asking(self, stranger: Address) -> bool:
        """Whether somebody there, who has not answered us before, is being asked something."""
        return home(stranger) in self._unproven

    async def ask(self, to: Address, method: bytes, args: Mapping[bytes, Value]) -> Reply:
        """Raises NoReply for silence and for refusals."""
        got: list[Answer] = []
        bell = Bell()

        def done(answer: Answer) -> None:
            got.append(answer)
            bell.ring()

        await self.ask_when_possible(to, method, args, done)
        await bell.wait()
        answer = got[0]
        if isinstance(answer, Reply):
            return answer
        if isinstance(answer, ErrorReply):
            raise NoReply(f"{to} refused: {answer.code} {answer.text}", code=answer.code)
        raise NoReply(f"no answer from {to}")

    async def ask_when_possible(
        self,
        to: Address,
        method: bytes,
        args: Mapping[bytes, Value],
        done: Done,
        expected: NodeId | None = None,
    ) -> None:
        """Wait for room among the questions in flight, and until another one may go to `to`."""
        now = trio.current_time()
        when = self._pace.book(to, now)
        if when > now:
            await trio.sleep_until(when)
        while not self._has_room(to) and not self._closed:
            self._waiting += 1
            try:
                await self._room.wait()
            finally:
                self._waiting -= 1
        self._ask(to, method, args, done, expected, trio.current_time())

    def ask_now(
        self,
        to: Address,
        method: bytes,
        args: Mapping[bytes, Value],
        done: Done,
        expected: NodeId | None,
        now: float,
    ) -> bool:
        """Ask if that is possible without waiting; False if it is not, and nothing was done."""
        if not self._has_room(to) or not self._pace.is_free(to, now):
            return False
        self._pace.book(to, now)
        self._ask(to, method, args, done, expected, now)
        return True

    def match(self, message: Reply | ErrorReply, source: Address) -> Question | None:
        """The question this answers, which is in flight no more; the caller calls its `done`.
        None when nothing was asked there."""
        question = self._pending.pop((source, message.tid), None)
        if question is not None:
            self._ended(question)
            self._make_room()
        return question

    async def expire(self) -> None:
        """A service: ends the questions nobody answers within `hard_timeout`."""
        timeout = self._config.hard_timeout
        while True:
            if not self._pending:
                await self._first.wait()
                continue
            await trio.sleep_until(next(iter(self._pending.values())).asked_at + timeout)
            now = trio.current_time()
            while self._pending:
                key, question = next(iter(self._pending.items()))
                if question.asked_at + timeout > now:
                    break
                del self._pending[key]
                self._ended(question)
                self._silent(question, now)
                question.done(None)
            self._make_room()

    def close(self) -> None:
        """Ends all questions, and those to come, with silence."""
        self._closed = True
        while self._pending:
            _, question = self._pending.popitem()
            question.done(None)
        self._room.set()

    def _ask(
        self,
        to: Address,
        method: bytes,
        args: Mapping[bytes, Value],
        done: Done,
        expected: NodeId | None,
        now: float,
    ) -> None:
        if self._closed:
            done(None)
            return
        self.asked += 1
        tid = self._tid()
        earlier = self._pending.pop((to, tid), None)
        if earlier is not None:  # once in four thousand million
            self._ended(earlier)
            earlier.done(None)
        named: dict[bytes, Value] = {b"id": self.node_id, **args}
        query = Query(tid, method, named, krpc.VERSION, self._config.read_only)
        if not self._pending:
            self._first.ring()
        place = None if self._asked(to, now) else home(to)
        if place is not None:
            self._unproven[place] = self._unproven.get(place, 0) + 1
        self._pending[to, tid] = Question(to, expected, now, done, place)
        # A datagram that cannot leave is like one that is lost: the silence will tell.
        self._send(krpc.encode(query), to)

    def _has_room(self, to: Address) -> bool:
        config = self._config
        if len(self._pending) >= config.max_pending:
            return False
        if config.unlimited or self._unproven.get(home(to), 0) < config.max_unproven:
            return True
        return self._proven(to)

    def _ended(self, question: Question) -> None:
        place = question.unproven
        if place is None:
            return
        left = self._unproven[place] - 1
        if left:
            self._unproven[place] = left
        else:
            del self._unproven[place]

    def _tid(self) -> bytes:
        """The next transaction id. Nobody must foresee it, since knowing it is what a reply is
        believed for: so it is part of a keyed hash of a counter."""
        if not self._tids:
            self._digests += 1
            counter = self._digests.to_bytes(8, "big")
            digest = hashlib.blake2b(counter, key=self._key).digest()
            self._tids = [digest[at : at + 4] for at in range(0, len(digest), 4)]
        return self._tids.pop()

    def _make_room(self) -> None:
        if self._waiting:
            self._room.set()
            self._room = trio.Event()


def ignore(answer: Answer) -> None:
    """For questions whose answer matters to the table alone."""


__all__ = ["Answer", "Bell", "Done", "Question", "Questions", "ignore"]
