"""The network seam, and the real network behind it. The rule: everything the engine knows of the
outside is the four Protocols below, and both this module and `lab.net` keep every word of them.

Plain non-blocking sockets of the standard library, waited for with `trio.lowlevel`: a datagram
loop that drains, and streams that gather, cost several times less than one task switch per packet.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import trio

from dht_torrent.engine.net.bare import (
    address_of,
    close_socket,
    new_socket,
    raise_if_closed,
    try_to_set,
)
from dht_torrent.engine.net.fragments import unfragmented
from dht_torrent.engine.net.gateways import Gateway, gateways
from dht_torrent.engine.net.groups import join4, join6
from dht_torrent.engine.net.interfaces import Interface, interfaces
from dht_torrent.engine.net.mmsg import ARE_POSSIBLE, BATCH, JOINED, JOINS, Batches
from dht_torrent.engine.net.protocols import OnDatagrams
from dht_torrent.engine.net.surroundings import Surroundings, surroundings
from dht_torrent.engine.net.tcp import RealListener, RealStream, established
from dht_torrent.ids import Address, HostPort
from dht_torrent.relief import NO_DESCRIPTORS, Relief, no_relief, relieved

logger = logging.getLogger(__name__)

MAX_DRAIN: Final = 256
"""Datagrams one `receive` returns at most, so that a flood cannot starve the other tasks."""
MAX_DATAGRAM: Final = 4096
"""Longer datagrams arrive cut to this. No protocol here sends more than an MTU; a decoder that
refuses lengths above its own, smaller bound refuses these too."""

_BUSY: Final = 8  # datagrams at once from which a batch costs less
_UNJOINED: Final = 256  # full batches without joining, once it has joined nothing
_BACKLOG: Final = 256
_UDP_BUFFERS: Final = (4 << 20, 2 << 20, 1 << 20)  # macOS refuses what Linux silently clamps
_PAUSE: Final = 0.1  # seconds to let others close something when descriptors or memory ran out

Pin = Callable[[socket.socket, Address | None], Address | None]
"""Keeps a new socket on an interface. Takes where it is to be bound (None: nowhere), and returns
where it must be. Raises OSError where it cannot be kept there: it is not used then."""

# One for all IPv4 sockets and one for all others: a quarter of a MiB for each of a thousand nodes
# would be dear.
_Shared = trio.lowlevel.RunVar[Batches | None]
_batches: tuple[_Shared, _Shared] = (_Shared("batches", None), _Shared("batches6", None))
_does_without = trio.lowlevel.RunVar("does without batches", False)
"""Set for good once the system refused them."""


class RealNetwork:
    """The `Network` of this machine."""

    def __init__(
        self,
        relief: Relief = no_relief,
        pin: Pin | None = None,
        keep: Callable[[socket.socket], None] | None = None,
    ) -> None:
        """`relief` is called when there is no descriptor for a connection; `pin` keeps all sockets
        on one interface; `keep` takes what is left of a connection that did not come about."""
        self._relief = relief
        self._pin = pin
        self._keep = keep

    def _bind(self, sock: socket.socket, where: Address | None) -> None:
        """None: the system chooses. Raises OSError."""
        if self._pin is not None:
            where = self._pin(sock, where)
        if where is not None:
            sock.bind(where)

    async def open_udp(self, bind: Address) -> RealDatagramSocket:
        await trio.lowlevel.checkpoint()
        sock = new_socket(bind, socket.SOCK_DGRAM)
        try:
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                _enlarge(sock, option)
            self._bind(sock, bind)
            return RealDatagramSocket(sock)
        except BaseException:
            sock.close()
            raise

    async def listen(self, bind: Address) -> RealListener:
        await trio.lowlevel.checkpoint()
        sock = new_socket(bind, socket.SOCK_STREAM)
        try:
            # Or a restart would wait a minute for old connections to leave TIME_WAIT.
            try_to_set(sock, socket.SOL_SOCKET, socket.SO_REUSEADDR)
            self._bind(sock, bind)
            sock.listen(_BACKLOG)
            return RealListener(sock, self._relief)
        except BaseException:
            sock.close()
            raise

    async def connect(self, to: Address, *, local: Address | None = None) -> RealStream:
        await trio.lowlevel.checkpoint()
        while True:
            try:
                sock = relieved(self._relief, new_socket, to, socket.SOCK_STREAM)
                break
            except OSError as error:
                if error.errno not in NO_DESCRIPTORS:
                    raise
                await trio.sleep(_PAUSE)  # it is not the remote's fault
        try:
            if local is not None and local.port:
                try_to_set(sock, socket.SOL_SOCKET, socket.SO_REUSEADDR)
            self._bind(sock, local)
            return await established(sock, to)
        except BaseException:
            if self._keep is not None:
                self._keep(sock)
            else:
                sock.close()
            raise

    async def resolve(self, point: HostPort) -> list[Address]:
        with suppress(ValueError):
            literal = ipaddress.ip_address(point.host)
            await trio.lowlevel.checkpoint()
            return [Address(str(literal).partition("%")[0], point.port)]
        try:
            found = await trio.socket.getaddrinfo(*point, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError):  # UnicodeError: no IDNA form, such as a label of 64
            return []
        families = (socket.AF_INET, socket.AF_INET6)
        addresses = [address_of(row[4]) for row in found if row[0] in families]
        return list(dict.fromkeys(addresses))

    def surroundings(self) -> Surroundings:
        return surroundings()

    def interfaces(self) -> list[Interface]:
        return interfaces()

    def gateways(self) -> list[Gateway]:
        return gateways()

    async def open_multicast(self, group: Address, on: Interface) -> RealDatagramSocket:
        await trio.lowlevel.checkpoint()
        sock = new_socket(group, socket.SOCK_DGRAM)
        try:
            # Other programs listen there too. On Linux either will do; others differ.
            for option in ("SO_REUSEADDR", "SO_REUSEPORT"):
                if (number := getattr(socket, option, None)) is not None:
                    try_to_set(sock, socket.SOL_SOCKET, number)
            if self._pin is not None:
                self._pin(sock, None)
            # Or Linux's IPv6 hands over what came through any interface that is in the group.
            if (number := getattr(socket, "SO_BINDTODEVICE", None)) is not None:
                with suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, number, os.fsencode(on.name))
            if group.is_ipv6:
                join6(sock, group, on)
            else:
                join4(sock, group, on)
            sock.bind(group)  # not to the wildcard: nothing but what is sent to the group comes in
            return RealDatagramSocket(sock)
        except BaseException:
            sock.close()
            raise


class RealDatagramSocket:
    """A `DatagramSocket` of this machine."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._is_ipv6 = sock.family == socket.AF_INET6
        self._address = address_of(sock.getsockname())
        self._is_drained = False
        self._is_busy = False
        self._joins: bool | None = None  # the kernel joins what comes of one sender; None: unasked
        self._has_begun = False  # all that came before it did has been taken
        self._unjoined = 0  # full batches until it may be asked
        self._kept: list[tuple[bytes, Address]] = []  # what was too much for one `receive`
        self.errors = 0

    @property
    def address(self) -> Address:
        return self._address

    async def receive(self) -> list[tuple[bytes, Address]]:
        if self._is_drained and self._socket.fileno() >= 0:
            # Nothing was left the last time: a look now would mostly be for nothing.
            self._is_drained = False
            await trio.lowlevel.wait_readable(self._socket)
        else:
            await trio.lowlevel.checkpoint()
        while True:
            got = self._drain()
            if got:
                self._is_busy = len(got) >= _BUSY
                return got
            if self._is_drained:
                await trio.lowlevel.wait_readable(self._socket)
            else:  # nothing but errors, and they do not end: do not spin on them
                await trio.sleep(_PAUSE)

    def _drain(self) -> list[tuple[bytes, Address]]:
        """All that is there, `MAX_DRAIN` datagrams and errors at most."""
        got, self._kept = self._kept, []
        self._is_drained = False
        batches = self._many() if self._is_busy or self._joins else None
        if self._joins and batches is None:
            self._joins = False
            try_to_set(self._socket, *JOINS, 0)
        receive = self._socket.recvfrom
        # IPv4's socket names are a host and a port already. That is worth a quarter of this loop.
        address = address_of if self._is_ipv6 else _address4
        errors, is_apart = 0, False
        while len(got) + errors < MAX_DRAIN:
            try:
                if batches is None:
                    data, source = receive(MAX_DATAGRAM)
                    got.append((data, address(source)))
                    continue
                if self._joins:
                    batch, more = batches.receive_joined(self._socket)
                    if more:
                        is_apart = len(batch) == JOINED
                else:
                    batch = batches.receive(self._socket)
                    more = len(batch) == BATCH
                    if self._joins is None and more and self._is_of_one(batch):
                        self._joins, self._has_begun = batches.join(self._socket), False
            except BlockingIOError:
                self._is_drained = True
                break
            except OSError as error:
                raise_if_closed(self._socket, error)
                if batches is not None and batches.refused is not None:
                    _do_without(batches.refused)
                    batches = None
                    continue
                self.errors += 1
                errors += 1
            else:
                got += batch
                if not more:
                    self._is_drained = True
                    break
        if self._joins and self._is_drained:
            if is_apart and self._has_begun:  # now there is nothing joined left to be taken
                self._joins, self._unjoined = None, _UNJOINED
                try_to_set(self._socket, *JOINS, 0)
            self._has_begun = True
        self._kept = got[MAX_DRAIN:]
        self._is_drained &= not self._kept
        return got[:MAX_DRAIN]

    def _is_of_one(self, batch: Sequence[tuple[bytes, Address]]) -> bool:
        """Whether a full batch is of one sender, and joining has not just been for nothing."""
        if self._unjoined:
            self._unjoined -= 1
            return False
        first = batch[0][1]
        return all(source is first for _, source in batch)

    def _many(self) -> Batches | None:
        """The faster way, where there is much to do."""
        shared = _batches[self._is_ipv6]
        batches = shared.get()
        if batches is None and ARE_POSSIBLE and not _does_without.get():
            batches = Batches(self._socket.family, MAX_DATAGRAM)
            shared.set(batches)
        return batches

    async def serve(self, take: OnDatagrams) -> None:
        while True:
            take(await self.receive())

    def send(self, data: bytes, to: Address) -> bool:
        try:
            # The family is checked here, since Python would ask the resolver about the other's.
            if (":" in to.host) == self._is_ipv6:
                self._socket.sendto(data, to)
                return True
        except OSError:
            pass  # full, unreachable, or too long: counted below, and the same to the caller
        self.errors += 1
        return False

    def send_whole(self, data: bytes, to: Address) -> bool:
        if (":" in to.host) != self._is_ipv6:
            return self.send(data, to) or True
        try:
            with unfragmented(self._socket):
                self._socket.sendto(data, to)
        except OSError as error:
            self.errors += 1
            return error.errno != errno.EMSGSIZE
        return True

    def send_all(self, datagrams: Sequence[tuple[bytes, Address]]) -> int:
        batches = self._many() if len(datagrams) >= _BUSY else None
        if batches is None:
            return sum(not self.send(data, to) for data, to in datagrams)
        failed = batches.send(self._socket, datagrams)
        if batches.refused is not None:
            _do_without(batches.refused)
        self.errors += failed
        return failed

    def close(self) -> None:
        close_socket(self._socket)


_address4 = Address._make
"""`address_of` of an IPv4 socket."""


def _do_without(why: OSError) -> None:
    """From now on all sockets take and send datagrams one by one."""
    for shared in _batches:
        shared.set(None)
    if not _does_without.get():
        _does_without.set(True)
        logger.info("no recvmmsg and sendmmsg here (%s): the DHT makes do without", why.strerror)


def _enlarge(sock: socket.socket, option: int) -> None:
    """The largest buffer the system grants, so that a burst of replies is not dropped."""
    for size in _UDP_BUFFERS:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, option, size)
            return
