"""Many datagrams with one system call: Linux's recvmmsg and sendmmsg, which Python does not have.
The rule: what comes and goes is what `recvfrom` and `sendto` would have brought and taken, also
where a sandbox or an old kernel refuses the calls.

A busy DHT node spends a third of its time on sockets. Here the interpreter is left once for a
batch, and an address seen before is not made again.
"""

from __future__ import annotations

import ctypes
import os
import socket
import sys
from collections.abc import Sequence
from typing import Any, Final

from dht_torrent.ids import Address
from dht_torrent.syscalls import UNSUPPORTED

BATCH: Final = 64
"""Datagrams in a batch, at most."""
REMEMBERED: Final = 4096
"""Addresses known by their socket names; then all are forgotten, and learnt again."""


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Msghdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("parts", ctypes.c_void_p),
        ("parts_length", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Mmsghdr(ctypes.Structure):
    _fields_ = (("header", _Msghdr), ("length", ctypes.c_uint))


_HEADER: Final = ctypes.sizeof(_Mmsghdr) // ctypes.sizeof(ctypes.c_uint)
_HEADER_LENGTH: Final = _Mmsghdr.length.offset // ctypes.sizeof(ctypes.c_uint)
_PART: Final = ctypes.sizeof(_Iovec) // ctypes.sizeof(ctypes.c_size_t)
_PART_LENGTH: Final = _Iovec.length.offset // ctypes.sizeof(ctypes.c_size_t)


def _libc(name: str) -> Any:
    """A function of the C library; None if that does not have it, or is not for us to look into."""
    if sys.platform != "linux":  # the structures above are Linux's
        return None
    try:
        return getattr(ctypes.CDLL(None, use_errno=True), name, None)
    except OSError:
        return None


_recvmmsg: Any = _libc("recvmmsg")
_sendmmsg: Any = _libc("sendmmsg")
ARE_POSSIBLE: Final = _recvmmsg is not None and _sendmmsg is not None
"""Whether this system has them. Whether it lets us use them, the first call tells."""


class Batches:
    """Room for `BATCH` datagrams of `most` bytes each, and what the addresses of a `family` look
    like to the system. Any number of sockets may share it, since it holds nothing between calls."""

    def __init__(self, family: socket.AddressFamily, most: int) -> None:
        self.refused: OSError | None = None
        """Why this system does not let us, once it has said so: of no more use then."""
        self._has_received = self._has_sent = False
        self._family = family
        self._most = most
        self._is_ipv6 = family == socket.AF_INET6
        # A sockaddr_in is 16 bytes, a sockaddr_in6 28.
        width = self._width = 28 if self._is_ipv6 else 16
        data = (ctypes.c_char * (BATCH * most))()
        names = (ctypes.c_char * (BATCH * width))()
        parts = (_Iovec * BATCH)()
        headers = (_Mmsghdr * BATCH)()
        for n in range(BATCH):
            parts[n].base = ctypes.addressof(data) + n * most
            header = headers[n].header
            header.name = ctypes.addressof(names) + n * width
            header.name_length = width
            header.parts = ctypes.addressof(parts) + n * ctypes.sizeof(_Iovec)
            header.parts_length = 1
        self._headers = headers
        # Through views a field costs a fifth of what it costs through ctypes. They also keep what
        # they look at alive, as long as this object lives.
        self._data = memoryview(data).cast("B")
        self._names = memoryview(names).cast("B")
        self._rooms = memoryview(parts).cast("B").cast("L")[_PART_LENGTH::_PART]
        self._sizes = memoryview(headers).cast("B").cast("I")[_HEADER_LENGTH::_HEADER]
        self._all_free = memoryview((ctypes.c_size_t * BATCH)(*[most] * BATCH)).cast("B").cast("L")
        self._by_name: dict[bytes, Address] = {}
        self._by_address: dict[Address, bytes] = {}

    def receive(self, sock: socket.socket) -> list[tuple[bytes, Address]]:
        """What has come, `BATCH` datagrams at most. Raises OSError as `recvfrom` does, or because
        the call is `refused`."""
        self._rooms[:] = self._all_free
        count = _recvmmsg(sock.fileno(), self._headers, BATCH, 0, None)
        if count < 0:
            error = _error()
            if error.errno in UNSUPPORTED and not self._has_received:
                self.refused = error
            raise error
        self._has_received = True
        data, names, width, most = self._data, self._names, self._width, self._most
        known = self._by_name
        got: list[tuple[bytes, Address]] = []
        start = at = 0
        for size in self._sizes[:count].tolist():
            name = names[at : at + width].tobytes()
            address = known.get(name) or self._learn(name)
            got.append((data[start : start + size].tobytes(), address))
            start += most
            at += width
        return got

    def send(self, sock: socket.socket, datagrams: Sequence[tuple[bytes, Address]]) -> int:
        """Send what can be sent now; how many of them certainly did not leave."""
        failed = 0
        for first in range(0, len(datagrams), BATCH):
            failed += self._send(sock, datagrams[first : first + BATCH])
        return failed

    def _send(self, sock: socket.socket, datagrams: Sequence[tuple[bytes, Address]]) -> int:
        view, names, rooms = self._data, self._names, self._rooms
        width, most = self._width, self._most
        known = self._by_address
        start = at = count = 0
        for data, to in datagrams:
            name = known.get(to) or self._name(to)
            size = len(data)
            if name is None or size > most:
                continue
            view[start : start + size] = data
            names[at : at + width] = name
            rooms[count] = size
            start += most
            at += width
            count += 1
        failed = len(datagrams) - count
        fd, step, done = sock.fileno(), ctypes.sizeof(_Mmsghdr), 0
        while done < count:
            rest = ctypes.byref(self._headers, done * step)
            sent = _sendmmsg(fd, rest, count - done, 0)
            if sent > 0:
                self._has_sent = True
                done += sent
                continue
            error = _error()
            # The first of them is to blame, not those behind it. EPERM may be a firewall's, and
            # EINVAL an address's: the call is to blame if the plain one does what it would not.
            if error.errno in UNSUPPORTED and not self._has_sent and self._send_one(sock, done):
                self.refused = error
                plainly = [self._send_one(sock, n) for n in range(done + 1, count)]
                return failed + plainly.count(False)
            failed += 1
            done += 1
        return failed

    def _send_one(self, sock: socket.socket, n: int) -> bool:
        """Send what lies ready as the `n`th with `sendto`; whether it left."""
        name = self._names[n * self._width :][: self._width].tobytes()
        try:
            sock.sendto(self._data[n * self._most :][: self._rooms[n]], self._learn(name))
        except OSError:
            return False
        return True

    def _learn(self, name: bytes) -> Address:
        """The address for a socket name."""
        if len(self._by_name) >= REMEMBERED:
            self._by_name.clear()
        port = int.from_bytes(name[2:4], "big")
        if self._is_ipv6:
            host = socket.inet_ntop(socket.AF_INET6, name[8:24])
        else:
            host = socket.inet_ntoa(name[4:8])
        address = self._by_name[name] = Address(host, port)
        return address

    def _name(self, address: Address) -> bytes | None:
        """The socket name for an address; None for one of the other family."""
        if address.is_ipv6 != self._is_ipv6:
            return None
        if len(self._by_address) >= REMEMBERED:
            self._by_address.clear()
        compact = address.compact()
        host, port = compact[:-2], compact[-2:]
        family = self._family.to_bytes(2, sys.byteorder)
        name = family + port + (bytes(4) + host + bytes(4) if self._is_ipv6 else host + bytes(8))
        self._by_address[address] = name
        return name


def _error() -> OSError:
    """What went wrong, as the class of error that Python has for it."""
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
