"""TCP of this machine."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import trio

from dht_torrent.engine.net.bare import address_of, close_socket, raise_if_closed, try_to_set
from dht_torrent.engine.net.exhaustion import LOST_BEFORE_ACCEPT, OUT_OF_RESOURCES, say_exhausted
from dht_torrent.engine.net.protocols import Encryption
from dht_torrent.ids import Address, Transport
from dht_torrent.relief import Relief, no_relief, relieved

_MAX_BUFFERS: Final = 1024  # IOV_MAX on Linux and macOS; sendmsg refuses more at once
_PATIENCE: Final = 0.01  # seconds in which what was to be gathered may come
_PAUSE: Final = 0.1  # seconds to let others close something when descriptors or memory ran out


class RealStream:
    """A `Stream` of this machine."""

    transport = Transport.TCP
    encryption: Encryption | None = None
    keep_rest: Callable[[socket.socket], None] | None = None
    """Takes what is left of it once it is closed."""

    def __init__(self, sock: socket.socket, remote: Address) -> None:
        self._socket = sock
        self._remote = remote
        self._local = address_of(sock.getsockname())
        self._gathers = 0
        # Messages are gathered here already; Nagle would only hold the last request back.
        try_to_set(sock, socket.IPPROTO_TCP, socket.TCP_NODELAY)

    @property
    def local(self) -> Address:
        return self._local

    @property
    def remote(self) -> Address:
        return self._remote

    @property
    def scattered(self) -> RealStream:
        return self

    async def readable(self, gather: int = 0) -> None:
        sock = self._socket
        if sock.fileno() < 0:
            await trio.lowlevel.checkpoint()
            raise trio.ClosedResourceError("closed here")
        if gather != self._gathers:
            self._gather(gather)
        if gather:
            # Until so much is there, or the end; or what there is, if no more comes.
            with trio.move_on_after(_PATIENCE):
                await trio.lowlevel.wait_readable(sock)
                return
            self._gather(0)
        await trio.lowlevel.wait_readable(sock)

    def _gather(self, size: int) -> None:
        self._gathers = size
        try_to_set(self._socket, socket.SOL_SOCKET, socket.SO_RCVLOWAT, max(1, size))

    def receive_now(self, buffers: Sequence[memoryview]) -> int | None:
        try:
            return self._socket.recvmsg_into(buffers[:_MAX_BUFFERS])[0]
        except BlockingIOError:
            return None
        except OSError as error:
            raise_if_closed(self._socket, error)
            raise

    async def receive_into(self, buffer: memoryview) -> int:
        if not buffer:
            raise ValueError("an empty buffer would look like the end of the stream")
        await trio.lowlevel.checkpoint()
        if self._gathers:
            self._gather(0)
        while True:
            try:
                return self._socket.recv_into(buffer)
            except BlockingIOError:
                pass
            except OSError as error:
                raise_if_closed(self._socket, error)
                raise
            await trio.lowlevel.wait_readable(self._socket)

    async def send(self, *buffers: bytes | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        left: Sequence[bytes | memoryview] = buffers
        while left:
            try:
                sent = self._socket.sendmsg(left[:_MAX_BUFFERS])
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._socket)
            except OSError as error:
                raise_if_closed(self._socket, error)
                raise
            else:
                left = _unsent(left, sent)

    def close(self) -> None:
        if self.keep_rest is not None and self._socket.fileno() >= 0:
            with suppress(OSError):
                self.keep_rest(self._socket.dup())
        close_socket(self._socket)


class RealListener:
    """A `Listener` of this machine."""

    def __init__(self, sock: socket.socket, relief: Relief = no_relief) -> None:
        self._socket = sock
        self._relief = relief
        self._address = address_of(sock.getsockname())

    @property
    def address(self) -> Address:
        return self._address

    async def accept(self) -> RealStream:
        while True:
            await trio.lowlevel.checkpoint()
            try:
                sock, source = relieved(self._relief, self._socket.accept)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._socket)
            except OSError as error:
                raise_if_closed(self._socket, error)
                if error.errno in OUT_OF_RESOURCES:
                    say_exhausted(error)
                    await trio.sleep(_PAUSE)
                elif error.errno not in LOST_BEFORE_ACCEPT:
                    raise
            else:
                try:
                    sock.setblocking(False)
                    return RealStream(sock, address_of(source))
                except OSError:  # macOS: EINVAL for a connection that was reset meanwhile
                    sock.close()

    def close(self) -> None:
        close_socket(self._socket)


async def established(sock: socket.socket, to: Address) -> RealStream:
    code = sock.connect_ex(to)
    if code in (errno.EINPROGRESS, errno.EINTR, errno.EWOULDBLOCK):
        await trio.lowlevel.wait_writable(sock)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, f"cannot connect to {to}: {os.strerror(code)}")
    stream = RealStream(sock, address_of(sock.getpeername()))
    if stream.local == stream.remote:
        # TCP's simultaneous open: an ephemeral port that dialled itself. Nobody is there.
        raise ConnectionRefusedError(errno.ECONNREFUSED, f"cannot connect to {to}: itself")
    return stream


def _unsent(buffers: Sequence[bytes | memoryview], sent: int) -> Sequence[bytes | memoryview]:
    """What is left of `buffers` after their first `sent` bytes. Copies no payload."""
    for index, buffer in enumerate(buffers):
        if sent < len(buffer):
            return (memoryview(buffer)[sent:], *buffers[index + 1 :])
        sent -= len(buffer)
    return ()
