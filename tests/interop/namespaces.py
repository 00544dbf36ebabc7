"""Networks of this test's own: namespaces of Linux, cables between them, and a look at every packet
that goes over one. That needs the right to make namespaces; without, tests are skipped, but fail
where CI=true. Mark such tests with `xdist_group("network namespaces")`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Final

from tests.helpers.clients import enter, new_network, own_network, program
from tests.helpers.lan import run

_ETH_P_ALL: Final = 3
_ARP, _IPV4, _IPV6 = 0x0806, 0x0800, 0x86DD
_ICMPV6: Final = 58
_HOP_BY_HOP: Final = 0
_NEIGHBOURS: Final = range(133, 138)  # router and neighbour discovery
_MLD_REPORT: Final = 143
_MLD: Final = (131, _MLD_REPORT)
ROOM: Final = 8 << 20
"""Bytes of packets that a `Tap` holds."""


class Space:
    """A network namespace. Made by `spaces`."""

    def __init__(self, number: int, first: int) -> None:
        self.number = number
        """An open descriptor."""
        self._first = first

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """This thread, and threads made meanwhile, there. No waiting meanwhile."""
        enter(self.number)
        try:
            yield
        finally:
            enter(self._first)

    def command(self, command: Sequence[str]) -> list[str]:
        """The same program, there."""
        return [program("nsenter"), f"--net={self.path}", *command]

    @property
    def path(self) -> str:
        return f"/proc/{os.getpid()}/fd/{self.number}"

    def ip(self, *words: str) -> None:
        """`ip`, there."""
        with self.inside():
            run(*words)


@contextlib.contextmanager
def spaces(count: int) -> Iterator[list[Space]]:
    """So many, none with a way to another. This thread, and what it starts, is in the first."""
    with own_network(), contextlib.ExitStack() as opened:
        first = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        opened.callback(os.close, first)
        opened.callback(enter, first)
        made = [Space(first, first)]
        for _ in range(count - 1):
            new_network()
            number = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            opened.callback(os.close, number)
            made.append(Space(number, first))
            run("link", "set", "lo", "up")
            enter(first)
        yield made


def cable(ends: Sequence[tuple[Space, str, Sequence[str]]]) -> None:
    """Join two namespaces. Each end is a namespace, the name of the interface and its addresses,
    with their networks."""
    (one, one_name, _), (other, other_name, _) = ends
    one.ip(*f"link add {one_name} type veth peer name {other_name} netns {other.path}".split())
    for space, name, addresses in ends:
        for address in addresses:
            nodad = ["nodad"] if ":" in address else []
            space.ip("address", "add", address, "dev", name, *nodad)
        space.ip("link", "set", name, "up")


class Tap:
    """Every packet that an interface of this namespace sends or receives."""

    def __init__(self, interface: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
        self._socket.bind((interface, _ETH_P_ALL))
        self._socket.setblocking(False)

    def __enter__(self) -> Tap:
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()

    def packets(self) -> list[bytes]:
        """Those since the last time, with their Ethernet headers."""
        taken: list[bytes] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                taken.append(self._socket.recv(1 << 16))
        return taken


def is_of_programs(packet: bytes) -> bool:
    """Whether a program caused it. Linux itself looks for routers of IPv6, and says in which groups
    an interface is: those that come with its addresses."""
    (kind,) = struct.unpack_from("!H", packet, 12)
    if kind != _IPV6:
        return True  # also ARP: somebody was to be sent something
    following, at = packet[14 + 6], 14 + 40
    if following == _HOP_BY_HOP:
        following, at = packet[at], at + 8 + 8 * packet[at + 1]
    if following != _ICMPV6:
        return True
    if packet[at] in _MLD:
        return any(group[:2] in (b"\xff\x15", b"\xff\x05") for group in _groups(packet[at:]))
    return packet[at] not in _NEIGHBOURS


def _groups(report: bytes) -> list[bytes]:
    """The groups that a report is about; those of a site are LSD's. RFC 3810, section 5.2."""
    if report[0] != _MLD_REPORT:
        return [report[8:24]]
    groups, at = [], 8
    for _ in range(struct.unpack_from("!H", report, 6)[0]):
        extra, sources = struct.unpack_from("!xBH", report, at)
        groups.append(report[at + 4 : at + 20])
        at += 20 + 16 * sources + 4 * extra
    return groups


def text_of(packet: bytes) -> str:
    """In a word or two, for who reads a failed test."""
    (kind,) = struct.unpack_from("!H", packet, 12)
    if kind == _IPV4:
        ends = [socket.inet_ntop(socket.AF_INET, packet[at : at + 4]) for at in (26, 30)]
        return f"IPv4, protocol {packet[23]}, {' to '.join(ends)}"
    if kind == _IPV6:
        ends = [socket.inet_ntop(socket.AF_INET6, packet[at : at + 16]) for at in (22, 38)]
        return f"IPv6, next header {packet[20]}, {' to '.join(ends)}"
    return "ARP" if kind == _ARP else f"0x{kind:04x}"
