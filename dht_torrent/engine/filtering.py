"""The user's IP filter as the node has it: read at the start, and again whenever its file changes;
and a `Network` in which what it forbids does not exist.

The rule: what was forbidden stays so while its file cannot be read; a node whose filter cannot be
read at the start does not start.
"""

from __future__ import annotations

import errno
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import trio

from dht_torrent.engine.net.gateways import Gateway
from dht_torrent.engine.net.interfaces import Interface
from dht_torrent.engine.net.protocols import (
    DatagramSocket,
    Listener,
    Network,
    OnDatagrams,
    Stream,
)
from dht_torrent.engine.net.surroundings import Surroundings
from dht_torrent.engine.torrent.disk import Disk
from dht_torrent.engine.views import FilterStatus
from dht_torrent.engine.watched_file import WatchedFile
from dht_torrent.ids import Address, HostPort
from dht_torrent.ip_filter import MAX_BYTES, IpFilter, ParsedFilter, parse_ip_filter

logger = logging.getLogger(__name__)

INCOMING: Final = "incoming"
"""What was blocked, in `Filtering.blocked`: connections from forbidden addresses, ..."""
DIALS: Final = "dials"
"""... connections to them, ..."""
DATAGRAMS: Final = "datagrams"
"""... datagrams from and to them, ..."""
CLOSED: Final = "closed"
"""... and connections that there were when the filter began to forbid them."""


class ForbiddenError(OSError):
    """The IP filter forbids to connect there."""


class Filtering:
    """What is forbidden now: nothing, unless there is a file."""

    def __init__(self) -> None:
        self.rules: IpFilter | None = None
        self.blocked: Counter[str] = Counter()
        """So far, by kind."""

    @property
    def trouble(self) -> str | None:
        """Why the present rules are not those of the file, in a line."""
        return None

    def forbids(self, address: Address) -> bool:
        """Whether nothing may come from there or go there."""
        return self.rules is not None and self.rules.forbids(address.host)

    def check_dial(self, to: Address) -> None:
        """Raises ForbiddenError, if nobody there may be connected to."""
        if self.forbids(to):
            self.blocked[DIALS] += 1
            raise ForbiddenError(errno.EACCES, f"the IP filter forbids {to.host}")

    def status(self) -> FilterStatus | None:
        """For people; None without a filter."""
        return None


class FilterFile(Filtering):
    """An IP filter in a file. `watch` is its task."""

    def __init__(self, path: Path, disk: Disk, interval: float) -> None:
        super().__init__()
        self.file = WatchedFile(
            path, disk, interval, what="the IP filter", parse=parse_ip_filter, most=MAX_BYTES
        )
        self._parsed = ParsedFilter(IpFilter())

    @property
    def trouble(self) -> str | None:
        return self.file.trouble

    async def load(self) -> bool:
        """Read it, if it has changed since. False: it had not. Raises InputError."""
        found = await self.file.load()
        if found is not None:
            self._take(found)
        return found is not None

    async def watch(self, changed: Callable[[], None]) -> None:
        """A service: follows the file, and calls `changed` after each change."""

        async def take(found: ParsedFilter) -> None:
            self._take(found)
            changed()

        await self.file.watch(take)

    def _take(self, found: ParsedFilter) -> None:
        self._parsed, self.rules = found, found.filter
        logger.info("the IP filter has %d ranges", len(found.filter))
        if found.bad_lines:
            logger.warning(
                "the IP filter %s: lines that are not understood: %d, the first is %s",
                self.file.path,
                found.bad_lines,
                found.first_bad,
            )

    def status(self) -> FilterStatus:
        return FilterStatus(
            ranges=len(self._parsed.filter),
            bad_lines=self._parsed.bad_lines,
            first_bad=self._parsed.first_bad,
            blocked=dict(self.blocked),
        )


class FilteredNetwork:
    """Another `Network`, without the hosts that are forbidden."""

    def __init__(self, network: Network, filtering: Filtering) -> None:
        self._network = network
        self._filtering = filtering

    async def open_udp(self, bind: Address) -> DatagramSocket:
        return _FilteredDatagrams(await self._network.open_udp(bind), self._filtering)

    async def listen(self, bind: Address) -> Listener:
        return _FilteredListener(await self._network.listen(bind), self._filtering)

    async def connect(self, to: Address, *, local: Address | None = None) -> Stream:
        if self._filtering.forbids(to):
            await trio.lowlevel.checkpoint()
        self._filtering.check_dial(to)
        return await self._network.connect(to, local=local)

    async def resolve(self, point: HostPort) -> list[Address]:
        return await self._network.resolve(point)

    def surroundings(self) -> Surroundings:
        return self._network.surroundings()

    def interfaces(self) -> list[Interface]:
        return self._network.interfaces()

    def gateways(self) -> list[Gateway]:
        return self._network.gateways()

    async def open_multicast(self, group: Address, on: Interface) -> DatagramSocket:
        # A group is nobody's address, although lists of reserved ones have it.
        socket = await self._network.open_multicast(group, on)
        return _FilteredDatagrams(socket, self._filtering, sends_anywhere=True)


class _FilteredListener:
    """Closes connections from forbidden addresses before anything is said."""

    def __init__(self, listener: Listener, filtering: Filtering) -> None:
        self._listener = listener
        self._filtering = filtering

    @property
    def address(self) -> Address:
        return self._listener.address

    async def accept(self) -> Stream:
        while True:
            stream = await self._listener.accept()
            if not self._filtering.forbids(stream.remote):
                return stream
            stream.close()
            self._filtering.blocked[INCOMING] += 1

    def close(self) -> None:
        self._listener.close()


class _FilteredDatagrams:
    """Loses datagrams from and to forbidden addresses."""

    def __init__(
        self, socket: DatagramSocket, filtering: Filtering, *, sends_anywhere: bool = False
    ) -> None:
        self._socket = socket
        self._filtering = filtering
        self._sends_anywhere = sends_anywhere

    @property
    def errors(self) -> int:
        return self._socket.errors

    @property
    def address(self) -> Address:
        return self._socket.address

    async def receive(self) -> Sequence[tuple[bytes, Address]]:
        while True:
            if allowed := self._allowed(await self._socket.receive()):
                return allowed

    async def serve(self, take: OnDatagrams) -> None:
        def take_allowed(datagrams: Sequence[tuple[bytes, Address]]) -> None:
            if allowed := self._allowed(datagrams):
                take(allowed)

        await self._socket.serve(take_allowed)

    def send(self, data: bytes, to: Address) -> bool:
        return not self._is_blocked(to) and self._socket.send(data, to)

    def send_all(self, datagrams: Sequence[tuple[bytes, Address]]) -> int:
        allowed = datagrams if self._sends_anywhere else self._allowed(datagrams)
        return len(datagrams) - len(allowed) + self._socket.send_all(allowed)

    def send_whole(self, data: bytes, to: Address) -> bool:
        # What is lost on the way is not too large for it.
        return self._is_blocked(to) or self._socket.send_whole(data, to)

    def close(self) -> None:
        self._socket.close()

    def _is_blocked(self, address: Address) -> bool:
        forbidden = not self._sends_anywhere and self._filtering.forbids(address)
        if forbidden:
            self._filtering.blocked[DATAGRAMS] += 1
        return forbidden

    def _allowed(
        self, datagrams: Sequence[tuple[bytes, Address]]
    ) -> Sequence[tuple[bytes, Address]]:
        rules = self._filtering.rules
        if rules is None:
            return datagrams
        allowed = [one for one in datagrams if not rules.forbids(one[1].host)]
        if len(allowed) < len(datagrams):
            self._filtering.blocked[DATAGRAMS] += len(datagrams) - len(allowed)
        return allowed
