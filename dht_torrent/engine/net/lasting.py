"""Sockets that outlast their interface. The rule: to who uses one it is a socket that does not fail
while its interface is away; it hears nothing then, and what it is given to send does not leave.

Behind it is one socket of the system after another, each opened at the same port.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

import trio

from dht_torrent.engine.net.protocols import DatagramSocket, Listener, OnDatagrams, Stream
from dht_torrent.ids import Address

logger = logging.getLogger(__name__)


class _Closable(Protocol):
    def close(self) -> None: ...


Inner = TypeVar("Inner", bound=_Closable)


class Lasting(Generic[Inner]):
    """What both kinds have in common."""

    def __init__(
        self,
        address: Address,
        inner: Inner | None,
        open_one: Callable[[Address], Awaitable[Inner]],
        closed: Callable[[Lasting[Inner]], None],
    ) -> None:
        """`inner` is bound at `address`, or None while there is no interface. `open_one` opens
        another; `closed` is told when the user closes this one."""
        self._address = address
        self._inner = inner
        self._asleep: Inner | None = None
        self._open = open_one
        self._told_closed = closed
        self._closed = False
        self._opened = trio.Event()
        self.trouble: str | None = None
        """Why there is no socket although the interface is here."""

    @property
    def address(self) -> Address:
        """Where it is bound, or will be again."""
        return self._address

    @property
    def is_open(self) -> bool:
        """Whether there is a socket behind it."""
        return self._inner is not None

    def sleep(self) -> None:
        """The interface is down. The socket is not used, but is kept: else what came for it as soon
        as the interface is up would be answered by the system, whichever way its routes lead."""
        if self._inner is not None:
            self._opened = trio.Event()
            self._asleep, self._inner = self._inner, None

    def lose(self) -> None:
        """The interface has gone."""
        self.sleep()
        inner, self._asleep = self._asleep, None
        if inner is not None:
            self._lost(inner)
            inner.close()  # wakes who waits for it, who then waits for the next one

    async def reopen(self) -> None:
        """The interface is here: open a socket, or use the one that was kept. What is in the way is
        told in `trouble`."""
        if self._asleep is not None:
            self._inner, self._asleep = self._asleep, None
            self._opened.set()
        if self._inner is not None:
            return
        try:
            inner = await self._open(self._address)
        except OSError as error:
            why = f"cannot use {self._address}: {error.strerror or error}"
            if why != self.trouble:
                logger.warning("%s; trying again", why)
            self.trouble = why
            return
        self.trouble = None
        if self._closed or self._inner is not None:
            inner.close()
            return
        self._inner = inner
        self._opened.set()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self.lose()
        self._opened.set()
        self._told_closed(self)

    def _lost(self, inner: Inner) -> None:
        """This one is about to be closed."""

    async def _current(self) -> Inner:
        """The socket there is, as soon as there is one."""
        while self._inner is None:
            if self._closed:
                await trio.lowlevel.checkpoint()
                raise trio.ClosedResourceError("closed here")
            await self._opened.wait()
        return self._inner

    def _was_lost(self, inner: Inner) -> bool:
        """Whether it was closed since its interface went, and not by the user."""
        return not self._closed and inner is not self._inner and inner is not self._asleep


class LastingDatagrams(Lasting[DatagramSocket]):
    """A `DatagramSocket`."""

    _errors = 0

    @property
    def errors(self) -> int:
        inner = self._inner if self._inner is not None else self._asleep
        return self._errors + (inner.errors if inner is not None else 0)

    async def receive(self) -> Sequence[tuple[bytes, Address]]:
        while True:
            inner = await self._current()
            try:
                return await inner.receive()
            except trio.ClosedResourceError:
                if not self._was_lost(inner):
                    raise

    async def serve(self, take: OnDatagrams) -> None:
        while True:
            inner = await self._current()
            try:
                await inner.serve(take)
            except trio.ClosedResourceError:
                if not self._was_lost(inner):
                    raise

    def send(self, data: bytes, to: Address) -> bool:
        if self._inner is not None:
            return self._inner.send(data, to)
        self._errors += 1
        return False

    def send_whole(self, data: bytes, to: Address) -> bool:
        if self._inner is not None:
            return self._inner.send_whole(data, to)
        self._errors += 1
        return True  # it is not too large

    def send_all(self, datagrams: Sequence[tuple[bytes, Address]]) -> int:
        if self._inner is not None:
            return self._inner.send_all(datagrams)
        self._errors += len(datagrams)
        return len(datagrams)

    def _lost(self, inner: DatagramSocket) -> None:
        self._errors += inner.errors


class LastingListener(Lasting[Listener]):
    """A `Listener`."""

    async def accept(self) -> Stream:
        while True:
            inner = await self._current()
            try:
                return await inner.accept()
            except trio.ClosedResourceError:
                if not self._was_lost(inner):
                    raise
