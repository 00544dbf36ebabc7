"""The network as the engine sees it: one of its two seams to the outside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Protocol

from dht_torrent.engine.net.gateways import Gateway
from dht_torrent.engine.net.interfaces import Interface
from dht_torrent.engine.net.surroundings import Surroundings
from dht_torrent.ids import Address, HostPort, Transport

OnDatagrams = Callable[[Sequence[tuple[bytes, Address]]], None]
"""Takes datagrams, and says where each came from."""


class Encryption(StrEnum):
    """What hides a stream from those between its ends."""

    MSE = "mse"
    """The handshake only: the payload is plain."""
    RC4 = "rc4"
    """Message stream encryption, payload too."""
    TLS = "tls"
    """With certificates, as members of an SSL torrent."""


class DatagramSocket(Protocol):
    """An unconnected UDP socket."""

    @property
    def errors(self) -> int:
        """Socket errors swallowed so far: some remote was unreachable, or our buffer full."""

    @property
    def address(self) -> Address:
        """Where it is bound; the port is the real one."""

    async def receive(self) -> Sequence[tuple[bytes, Address]]:
        """Wait for at least one datagram, then take all that are there, `MAX_DRAIN` at most.

        A remote's errors never surface. Raises `trio.ClosedResourceError` once closed.
        """

    async def serve(self, take: OnDatagrams) -> None:
        """Call `take` with all that `receive` would return, whenever it would. What `take` raises
        ends this, as cancelling does. Not while another task receives."""

    def send(self, data: bytes, to: Address) -> bool:
        """Send now or not at all; never waits. False when it certainly did not leave."""

    def send_all(self, datagrams: Sequence[tuple[bytes, Address]]) -> int:
        """Send them all, as `send` does. How many of them certainly did not leave."""

    def send_whole(self, data: bytes, to: Address) -> bool:
        """As `send`, and the network is asked not to cut it into fragments, where that can be
        asked for. False only when the system knows that it is too large for the way there."""

    def close(self) -> None:
        """Idempotent. Wakes the receiver."""


class Scattered(Protocol):
    """A stream as seen by who knows where what comes belongs."""

    async def readable(self, gather: int = 0) -> None:
        """Wait until there is something to receive, or the end; it is a checkpoint. The stream may
        wait for `gather` bytes, but not for long. Raises as `Stream.receive_into`."""

    def receive_now(self, buffers: Sequence[memoryview]) -> int | None:
        """Bytes received into `buffers`, one after the other; 0 at the end of the stream, None if
        nothing is there. May leave the last of many buffers aside. Raises as
        `Stream.receive_into`."""


class Stream(Protocol):
    """A connection, mostly TCP. One task may receive while another sends; not two of a kind."""

    @property
    def local(self) -> Address:
        """Our end."""

    @property
    def remote(self) -> Address:
        """The other end, as this host sees it."""

    @property
    def transport(self) -> Transport:
        """What carries it."""

    @property
    def encryption(self) -> Encryption | None:
        """None: what goes over it is plain."""

    @property
    def scattered(self) -> Scattered | None:
        """The same stream, to receive into many buffers at once; None: it cannot do that, or not
        now. Use one of the two at a time."""

    async def receive_into(self, buffer: memoryview) -> int:
        """Bytes received into `buffer` (not empty), 0 at the end of the stream.

        There is always a checkpoint before, and **none between the bytes landing and the return**:
        all connections of a node may share one buffer. Raises OSError when the connection broke,
        `trio.ClosedResourceError` when it was closed here.
        """

    async def send(self, *buffers: bytes | memoryview) -> None:
        """Send all of them, in order, gathered into as few segments as they fit.

        What can be written to belongs to the stream until this returns, and is of no use then: a
        stream that encrypts does so in place. Give it `bytes`, or a buffer you fill anew.

        Nothing has been sent if cancelled at the first checkpoint; later, an unknown part has, and
        the stream can only be closed. Raises as `receive_into`.
        """

    def close(self) -> None:
        """Idempotent. Wakes the tasks that wait here with `trio.ClosedResourceError`."""


class Listener(Protocol):
    """Where connections come in: mostly a listening TCP socket."""

    @property
    def address(self) -> Address:
        """Where it is bound; the port is the real one."""

    async def accept(self) -> Stream:
        """The next connection. Survives running out of descriptors, by pausing.

        Raises `trio.ClosedResourceError` once closed.
        """

    def close(self) -> None:
        """Idempotent. Wakes the accepting task."""


class Network(Protocol):
    """One host's access to the network."""

    async def open_udp(self, bind: Address) -> DatagramSocket:
        """Port 0 means any. Raises OSError."""

    async def listen(self, bind: Address) -> Listener:
        """Port 0 means any. Raises OSError."""

    async def connect(self, to: Address, *, local: Address | None = None) -> Stream:
        """Open a TCP connection, from the IP (and unless 0, the port) of `local`.

        Raises OSError. The caller sets the time limit; nothing leaks when cancelled.
        """

    async def resolve(self, point: HostPort) -> list[Address]:
        """Its addresses, the system's favourite first; empty when there are none."""

    def surroundings(self) -> Surroundings:
        """Our addresses, and what else tells that the network changed."""

    def interfaces(self) -> list[Interface]:
        """Those through which others can be reached by multicast; each family by itself."""

    def gateways(self) -> list[Gateway]:
        """The default routers of IPv4, the one that is used first; empty where the system does not
        tell."""

    async def open_multicast(self, group: Address, on: Interface) -> DatagramSocket:
        """A socket that receives what is sent to the group in the network behind the interface, and
        sends to the group there and no further. Programs of this machine that are in the group
        hear it too; its own datagrams come back. Raises OSError."""
