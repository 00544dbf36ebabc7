"""Results of a search as they come. The rule: whoever iterates may leave at any time, and nothing
is left behind: the task that searches ends when its results are closed, or dropped.

It needs a task, unlike `engine.torrent.watch`, because lookups must go on while the user of a
result is busy with it. The task belongs to the node and never outlives the search's patience; the
iterator owns only a cancel scope around it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Self

import trio

from dht_torrent.engine.faults import Faults
from dht_torrent.engine.search.views import SearchResult
from dht_torrent.engine.wakeup import AutoResetEvent
from dht_torrent.errors import DhtTorrentError, OurFault

Emit = Callable[[SearchResult], None]
"""Hands over a result. Those beyond the search's limit are left out."""
Spawn = Callable[[Callable[[], Awaitable[None]]], None]
"""Runs something in a task of the node."""


class _Inbox:
    """What the task and the iterator share. It holds neither, so that the iterator is gone as soon
    as nobody has it any more."""

    def __init__(self, limit: int) -> None:
        self.results: deque[SearchResult] = deque()
        # At most `limit` are ever put in, so it cannot grow beyond that, however slow the reader.
        self.room = limit
        self.ended = False
        self.error: DhtTorrentError | None = None
        self.news = AutoResetEvent()

    def put(self, result: SearchResult) -> None:
        if self.room:
            self.room -= 1
            self.results.append(result)
            self.news.set()


class SearchResults:
    """An asynchronous iterator over what a search finds, each torrent once, as it comes. Made by
    `Node.search`.

    The search begins with the first result that is asked for and ends by itself, when all was
    asked or its patience is up. A loop over it may be left at any time: the search ends when this
    object is dropped, or at once with `aclose` or at the end of `async with`. One task at a time
    may iterate.
    """

    def __init__(
        self, search: Callable[[Emit], Awaitable[None]], spawn: Spawn, faults: Faults, *, limit: int
    ) -> None:
        self._inbox = inbox = _Inbox(limit)
        self._scope = trio.CancelScope()
        self._token: trio.lowlevel.TrioToken | None = None  # of the run it has begun in
        self._begin = partial(spawn, partial(_run, search, inbox, self._scope, faults))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SearchResult:
        """The next result. Raises what kept the search from going on, a StorageError of the
        catalogue say. Cancelled, it has taken nothing."""
        inbox = self._inbox
        if self._token is None:
            self._token = trio.lowlevel.current_trio_token()
            if not inbox.ended:
                self._begin()
        while not inbox.results:
            if inbox.ended:
                await trio.lowlevel.checkpoint()
                error, inbox.error = inbox.error, None
                raise error if error is not None else StopAsyncIteration
            await inbox.news.wait()
        await trio.lowlevel.checkpoint()
        return inbox.results.popleft()

    async def aclose(self) -> None:
        """End the search now; there are no results any more. Idempotent."""
        self._inbox.results.clear()
        self._inbox.ended = True
        self._inbox.news.set()
        self._scope.cancel()
        await trio.lowlevel.checkpoint()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._scope.cancel()

    def __del__(self) -> None:
        # The garbage collector may run in any thread, between any two instructions.
        token = getattr(self, "_token", None)
        if token is not None and not self._inbox.ended:
            with suppress(trio.RunFinishedError):  # then the task has ended, too
                token.run_sync_soon(self._scope.cancel)


async def _run(
    search: Callable[[Emit], Awaitable[None]],
    inbox: _Inbox,
    scope: trio.CancelScope,
    faults: Faults,
) -> None:
    def fault(text: str) -> None:
        inbox.error = OurFault(f"the search was ended by a bug in dht_torrent: {text}")

    try:
        with scope, faults.confined("a search", ends=fault):
            try:
                await search(inbox.put)
            except DhtTorrentError as error:
                inbox.error = error
    finally:
        inbox.ended = True
        inbox.news.set()
