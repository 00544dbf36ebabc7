"""A client that does not read is given up. Hypercorn itself would wait for it for ever, shielded
from cancellation: a client that was suspended in the middle of an answer would keep its search, its
descriptor and, worst, the node that is told to end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import hypercorn.trio.run
import trio
from hypercorn.trio.tcp_server import TCPServer

READING_TIME = 30.0
"""Seconds a client may take to read what was sent ..."""
LAST_READING_TIME = 1.0
"""... and those that it gets once the node ends."""


class Sending:
    """What is being sent to the clients of one server."""

    def __init__(self, most: int | None = None) -> None:
        """At most so many connections at a time; None: as many as there are."""
        self._limits: set[trio.CancelScope] = set()
        self._ending = False
        self._most = most
        self._connections = 0

    @contextlib.contextmanager
    def room(self) -> Iterator[bool]:
        """For one connection: whether there is any."""
        self._connections += 1
        try:
            yield self._most is None or self._connections <= self._most
        finally:
            self._connections -= 1

    @contextlib.contextmanager
    def limited(self) -> Iterator[trio.CancelScope]:
        """For sending one thing."""
        with trio.move_on_after(LAST_READING_TIME if self._ending else READING_TIME) as limit:
            self._limits.add(limit)
            try:
                yield limit
            finally:
                self._limits.discard(limit)

    def end(self) -> None:
        """From now on clients must be quick."""
        self._ending = True
        for limit in self._limits:
            limit.deadline = min(limit.deadline, trio.current_time() + LAST_READING_TIME)

    async def end_when_cancelled(self) -> None:
        """For the nursery around a server, whose sending is shielded and hears of nothing."""
        try:
            await trio.sleep_forever()
        finally:
            self.end()


sending_of_server: ContextVar[Sending | None] = ContextVar("sending_of_server", default=None)
"""Set before Hypercorn serves, and inherited by the tasks of its connections."""


class _Stream:
    """Hypercorn's stream to a client."""

    def __init__(self, stream: trio.SocketStream, sending: Sending) -> None:
        self._stream = stream
        self._sending = sending

    async def send_all(self, data: bytes) -> None:
        with self._sending.limited() as limit:
            try:
                await self._stream.send_all(data)
            except trio.BusyResourceError:  # another task is just closing it
                raise trio.BrokenResourceError("the connection is being closed") from None
        if limit.cancelled_caught:
            await trio.aclose_forcefully(self._stream)
            raise trio.BrokenResourceError("the client does not read")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Connection(TCPServer):
    """Hypercorn's, with such a stream, where a server of ours asks for it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sending = sending_of_server.get()
        if self._sending is not None:
            self.stream: Any = _Stream(self.stream, self._sending)

    async def run(self) -> None:
        if self._sending is None:
            await super().run()
            return
        with self._sending.room() as is_room:
            if is_room:
                await super().run()
            else:
                await trio.aclose_forcefully(self.stream)

    async def _read_data(self) -> None:
        await super()._read_data()
        # Nobody will ask for more: Hypercorn would hold the connection, and its room, for as long
        # as it waits for the next request.
        await self.idle_task.stop()


# Hypercorn has no other door for this. Other servers in the process are served as before.
vars(hypercorn.trio.run)["TCPServer"] = _Connection
