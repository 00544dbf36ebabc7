"""Many datagrams with one system call: Linux's recvmmsg and sendmmsg, which Python does not have.
The rule: what comes and goes is what `recvfrom` and `sendto` would have brought and taken, also
where a sandbox or an old kernel refuses the calls.

A busy DHT node spends a third of its time on sockets. Here the interpreter is left once for a
batch, and an address seen before is not made again. Datagrams of one size to one address, as those
who ask without a pause get them, go through the network stack as one where the kernel can cut them
apart behind it (UDP_SEGMENT, Linux 4.18): 0.4 us each instead of 2.5. And what comes of one sender
comes as one where the kernel can join it (UDP_GRO, Linux 5.0).
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import sys
from array import array
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

from dht_torrent.ids import Address
from dht_torrent.syscalls import UNSUPPORTED

BATCH: Final = 64
"""Datagrams in a batch, at most."""
REMEMBERED: Final = 4096
"""Addresses known by their socket names; then all are forgotten, and learnt again."""

_SOL_UDP: Final = 17  # linux/udp.h, as the next
_UDP_SEGMENT: Final = 103
_UDP_GRO: Final = 104
JOINS: Final = (_SOL_UDP, _UDP_GRO)
"""The socket option."""
JOINED: Final = 16
"""Messages in a batch of what the kernel has joined, at most ..."""
_LONGEST_JOINED: Final = 1 << 16
"""... and the bytes of each, at most: of up to 64 datagrams."""
_LONGEST_SEGMENT: Final = 1472
"""Bytes: fits Ethernet's MTU, as uTP's packets do. Where they would have to be fragmented, which
excludes cutting, the system refuses them; from then on those of up to ..."""
_SHORT_SEGMENT: Final = 1200
"""... so many bytes, which fit IPv6's least MTU, are cut."""
_MOST_TOGETHER: Final = 60_000
"""Bytes of datagrams that are sent as one, which is bound as one datagram is. They are at most
`BATCH`, as many as Linux cuts."""
_FULL: Final = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM})


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


class _Segment(ctypes.Structure):
    """A cmsghdr of UDP_SEGMENT."""

    _fields_ = (
        ("length", ctypes.c_size_t),
        ("level", ctypes.c_int),
        ("type", ctypes.c_int),
        ("size", ctypes.c_uint16),
        ("padding", ctypes.c_char * 6),
    )


class _JoinedSize(ctypes.Structure):
    """A cmsghdr of UDP_GRO."""

    _fields_ = (
        ("length", ctypes.c_size_t),
        ("level", ctypes.c_int),
        ("type", ctypes.c_int),
        ("size", ctypes.c_int),
        ("padding", ctypes.c_int),
    )


_WORD: Final = ctypes.sizeof(ctypes.c_size_t)
_HEADER: Final = ctypes.sizeof(_Mmsghdr) // ctypes.sizeof(ctypes.c_uint)
_HEADER_LENGTH: Final = _Mmsghdr.length.offset // ctypes.sizeof(ctypes.c_uint)
_HEADER_WORDS: Final = ctypes.sizeof(_Mmsghdr) // _WORD
_CONTROL: Final = _Msghdr.control_length.offset // _WORD
_CUT: Final = (_SOL_UDP, _UDP_SEGMENT)


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


class _Remote:
    """An address, and which message of which turn went there last."""

    __slots__ = ("name", "place", "turn")

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.turn = 0
        self.place = 0


def _headers(names: Any, width: int, count: int = BATCH) -> tuple[Any, Any]:
    """The headers of `count` messages, each with a name of `width` bytes and one part."""
    parts, headers = (_Iovec * count)(), (_Mmsghdr * count)()
    for n in range(count):
        header = headers[n].header
        header.name = ctypes.addressof(names) + n * width
        header.name_length = width
        header.parts = ctypes.addressof(parts) + n * ctypes.sizeof(_Iovec)
        header.parts_length = 1
    return headers, parts


class _Joined:
    """Room for `JOINED` messages, each of datagrams of one sender that the kernel has joined."""

    def __init__(self, width: int) -> None:
        self.width = width
        data = (ctypes.c_char * (JOINED * _LONGEST_JOINED))()
        names = (ctypes.c_char * (JOINED * width))()
        sizes = (_JoinedSize * JOINED)()
        self.headers, self._parts = _headers(names, width, JOINED)
        for n in range(JOINED):
            self._parts[n].base = ctypes.addressof(data) + n * _LONGEST_JOINED
            self._parts[n].length = _LONGEST_JOINED
            self.headers[n].header.control = ctypes.addressof(sizes) + n * ctypes.sizeof(
                _JoinedSize
            )
        self.data = memoryview(data).cast("B")
        self.names = memoryview(names).cast("B")
        self.lengths = memoryview(self.headers).cast("B").cast("I")[_HEADER_LENGTH::_HEADER]
        words = memoryview(self.headers).cast("B").cast("L")
        self.controls = words[_CONTROL::_HEADER_WORDS]
        numbers = memoryview(sizes).cast("B").cast("i")
        step = ctypes.sizeof(_JoinedSize) // ctypes.sizeof(ctypes.c_int)
        self.each = numbers[_JoinedSize.size.offset // ctypes.sizeof(ctypes.c_int) :: step]
        self.room = array("L", [ctypes.sizeof(_JoinedSize)] * JOINED)


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
        # Room for what is received and for what is sent, never at the same time.
        data = (ctypes.c_char * (BATCH * most))()
        names = (ctypes.c_char * (BATCH * width))()
        self._start = ctypes.addressof(data)
        self._in_headers, in_parts = _headers(names, width)
        self._out_headers, out_parts = _headers(names, width)
        self._segments = (_Segment * BATCH)()
        for n in range(BATCH):
            in_parts[n].base = self._start + n * most
            in_parts[n].length = most
            segment = self._segments[n]
            segment.length, segment.level, segment.type = _Segment.padding.offset, *_CUT
            self._out_headers[n].header.control = ctypes.addressof(segment)
        # Through views a field costs a fifth of what it costs through ctypes. They also keep what
        # they look at alive, as long as this object lives.
        self._data = memoryview(data).cast("B")
        self._names = memoryview(names).cast("B")
        self._sizes = memoryview(self._in_headers).cast("B").cast("I")[_HEADER_LENGTH::_HEADER]
        parts = memoryview(out_parts).cast("B").cast("L")
        self._bases, self._rooms = parts[0::2], parts[1::2]
        self._controls = memoryview(self._out_headers).cast("B").cast("L")[_CONTROL::_HEADER_WORDS]
        self._can_cut: bool | None = None
        self._longest = _LONGEST_SEGMENT
        self._in_parts = in_parts
        self._by_name: dict[bytes, Address] = {}
        self._by_address: dict[Address, _Remote] = {}
        self._turn = 0  # batches sent
        self._joined: _Joined | None = None

    def receive(self, sock: socket.socket) -> list[tuple[bytes, Address]]:
        """What has come, `BATCH` datagrams at most. Raises OSError as `recvfrom` does, or because
        the call is `refused`."""
        count = _recvmmsg(sock.fileno(), self._in_headers, BATCH, 0, None)
        if count < 0:
            error = _error()
            if error.errno in UNSUPPORTED and not self._has_received:
                self.refused = error
            raise error
        self._has_received = True
        data, width, most = self._data, self._width, self._most
        names = self._names[: count * width].tobytes()
        known = self._by_name
        got: list[tuple[bytes, Address]] = []
        start = at = 0
        sizes = self._sizes[:count].tolist()
        first = names[:width]
        if count > 1 and names == first * count:
            # All from one sender, as in a transfer by uTP.
            address = known.get(first) or self._learn(first)
            for size in sizes:
                got.append((data[start : start + size].tobytes(), address))
                start += most
            return got
        for size in sizes:
            name = names[at : at + width]
            address = known.get(name) or self._learn(name)
            got.append((data[start : start + size].tobytes(), address))
            start += most
            at += width
        return got

    def join(self, sock: socket.socket) -> bool:
        """Have the kernel join what comes of one sender, if it knows how. From then on nothing but
        `receive_joined` brings it whole."""
        try:
            sock.setsockopt(*JOINS, 1)
        except OSError:
            return False
        return True

    def receive_joined(self, sock: socket.socket) -> tuple[list[tuple[bytes, Address]], bool]:
        """As `receive`, of a socket for which `join` was True; and whether there may be more."""
        joined = self._joined
        if joined is None:
            joined = self._joined = _Joined(self._width)
        joined.controls[:] = joined.room
        count = _recvmmsg(sock.fileno(), joined.headers, JOINED, 0, None)
        if count < 0:
            raise _error()
        got: list[tuple[bytes, Address]] = []
        known, width, most = self._by_name, self._width, self._most
        lengths, controls, sizes = (
            one[:count].tolist() for one in (joined.lengths, joined.controls, joined.each)
        )
        for n in range(count):
            name = joined.names[n * width : (n + 1) * width].tobytes()
            address = known.get(name) or self._learn(name)
            start, size = n * _LONGEST_JOINED, lengths[n]
            data = joined.data[start : start + size].tobytes()
            each = sizes[n] if controls[n] else size
            if not 0 < each < size:
                got.append((data[:most], address))
            else:
                kept = min(each, most)
                got += [(data[at : at + kept], address) for at in range(0, size, each)]
        return got, count == JOINED

    def send(self, sock: socket.socket, datagrams: Sequence[tuple[bytes, Address]]) -> int:
        """Send what can be sent now; how many of them certainly did not leave."""
        failed = 0
        for first in range(0, len(datagrams), BATCH):
            failed += self._send(sock, datagrams[first : first + BATCH])
        return failed

    def _send(self, sock: socket.socket, datagrams: Sequence[tuple[bytes, Address]]) -> int:
        most, known = self._most, self._by_address
        # The first time let us see that the call itself is allowed.
        longest = self._longest if self._has_sent and self._cuts(sock) else 0
        self._turn = turn = self._turn + 1
        names: list[bytes] = []
        messages: list[bytes] = []
        # Of datagrams, by their place among the messages: those are cut apart by the kernel.
        runs: dict[int, list[bytes]] = {}
        failed = 0
        for data, to in datagrams:
            remote = known.get(to) or self._remote(to)
            size = len(data)
            if remote is None or size > most:
                failed += 1
                continue
            if remote.turn == turn and 0 < size <= longest:
                # What is sent to one address is never overtaken: only its last message grows.
                place = remote.place
                run = runs.get(place) or [messages[place]]
                if size == len(run[0]) and size * (len(run) + 1) <= _MOST_TOGETHER:
                    run.append(data)
                    runs[place] = run
                    continue
            remote.turn, remote.place = turn, len(messages)
            names.append(remote.name)
            messages.append(data)
        if not messages:
            return failed
        self._lay_out(names, messages, runs)
        counts = [1] * len(messages)
        for place, run in runs.items():
            counts[place] = len(run)
        fd, step, done, count = sock.fileno(), ctypes.sizeof(_Mmsghdr), 0, len(names)
        while done < count:
            rest = ctypes.byref(self._out_headers, done * step)
            sent = _sendmmsg(fd, rest, count - done, 0)
            if sent > 0:
                self._has_sent = True
                done += sent
                continue
            error = _error()
            # The first of them is to blame, not those behind it. EPERM may be a firewall's, and
            # EINVAL an address's: the call is to blame if the plain one does what it would not.
            is_first = error.errno in UNSUPPORTED and not self._has_sent
            lost = counts[done]
            if lost > 1 or is_first:
                lost = self._send_plainly(sock, done, counts[done])
            failed += lost
            if lost < counts[done] and is_first:
                self.refused = error
                rest_of_them = range(done + 1, count)
                return failed + sum(self._send_plainly(sock, n, counts[n]) for n in rest_of_them)
            if lost < counts[done] and error.errno not in _FULL:
                if self._segments[done].size > _SHORT_SEGMENT:
                    self._longest = _SHORT_SEGMENT
                else:
                    self._can_cut = False
            done += 1
        return failed

    def _lay_out(
        self, names: Sequence[bytes], messages: list[bytes], runs: Mapping[int, Sequence[bytes]]
    ) -> None:
        """Put the messages where the system finds them: one behind the other, since then one step
        does for all what would cost more for each than its copy."""
        for place, run in runs.items():
            messages[place] = b"".join(run)
        joined = b"".join(messages)
        self._data[: len(joined)] = joined
        self._names[: len(names) * self._width] = b"".join(names)
        count, sizes = len(names), array("L", map(len, messages))
        self._rooms[:count] = sizes
        self._bases[:count] = array("L", accumulate(sizes[:-1], initial=self._start))
        self._controls[:count] = array("L", bytes(count * _WORD))
        for place, run in runs.items():
            self._segments[place].size = len(run[0])
            self._controls[place] = ctypes.sizeof(_Segment)

    def _send_plainly(self, sock: socket.socket, n: int, count: int) -> int:
        """Send what lies ready as the `n`th message, which is `count` datagrams, with `sendto`. How
        many did not leave."""
        to = self._learn(self._names[n * self._width :][: self._width].tobytes())
        size = self._rooms[n] // count
        failed, first = 0, self._bases[n] - self._start
        for start in range(first, first + count * size, size) if size else [first]:
            try:
                sock.sendto(self._data[start : start + size], to)
            except OSError:
                failed += 1
        return failed

    def _cuts(self, sock: socket.socket) -> bool:
        """Whether this kernel cuts datagrams apart. An old one would send them as a single one."""
        if self._can_cut is None:
            try:
                self._can_cut = sock.getsockopt(_SOL_UDP, _UDP_SEGMENT) == 0
            except OSError:
                self._can_cut = False
        return self._can_cut

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

    def _remote(self, address: Address) -> _Remote | None:
        """What is known of an address; None for one of the other family."""
        if address.is_ipv6 != self._is_ipv6:
            return None
        if len(self._by_address) >= REMEMBERED:
            self._by_address.clear()
        compact = address.compact()
        host, port = compact[:-2], compact[-2:]
        family = self._family.to_bytes(2, sys.byteorder)
        name = family + port + (bytes(4) + host + bytes(4) if self._is_ipv6 else host + bytes(8))
        remote = self._by_address[address] = _Remote(name)
        return remote


def _error() -> OSError:
    """What went wrong, as the class of error that Python has for it."""
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
