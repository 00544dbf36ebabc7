"""A local network of this test's own: a cable between two network namespaces of Linux, with real
multicast, and nothing else. That needs the right to make one; without, tests are skipped, but fail
where CI=true.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from typing import Final

from tests.helpers.clients import enter, new_network, own_network, program

OURS: Final = "10.88.0.1"
THEIRS: Final = "10.88.0.2"
OURS6: Final = "fd88::1"
THEIRS6: Final = "fd88::2"
CABLE: Final = "cable"
"""The name of the interface, at both ends."""


class Cable:
    """Our end is where this thread is. Made by `cable`."""

    def __init__(self, here: int, there: int) -> None:
        self._here = here
        self._there = there

    @contextlib.contextmanager
    def there(self) -> Iterator[None]:
        """This thread, and threads made meanwhile, at the other end. No waiting meanwhile."""
        enter(self._there)
        try:
            yield
        finally:
            enter(self._here)

    def command(self, command: Sequence[str]) -> list[str]:
        """The same program, at the other end."""
        return [program("nsenter"), f"--net=/proc/{os.getpid()}/fd/{self._there}", *command]


def run(*words: str) -> None:
    subprocess.run([program("ip"), *words], check=True)


def set_up(ipv4: str, ipv6: str) -> None:
    run("link", "set", "lo", "up")
    run("address", "add", f"{ipv4}/24", "dev", CABLE)
    run("address", "add", f"{ipv6}/64", "dev", CABLE, "nodad")
    run("link", "set", CABLE, "up")
    # As from a router: libtorrent and Transmission leave it to the routes where multicast goes.
    run("route", "add", "239.192.0.0/16", "dev", CABLE)
    run("-6", "route", "add", "ff15::/16", "dev", CABLE)


@contextlib.contextmanager
def cable() -> Iterator[Cable]:
    """This thread, and what it starts, at one end of a cable."""
    with own_network():
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        new_network()
        there = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            enter(here)
            other = f"/proc/{os.getpid()}/fd/{there}"
            run("link", "add", CABLE, "type", "veth", "peer", "name", CABLE, "netns", other)
            set_up(OURS, OURS6)
            both = Cable(here, there)
            with both.there():
                set_up(THEIRS, THEIRS6)
            yield both
        finally:
            enter(here)
            os.close(here)
            os.close(there)
