"""Local service discovery (BEP 14): tells the local networks what we share and want, and hears what
others there do. What to say when, and whom to believe, is decided in `peer.lsd`.

Each interface, in each family, is served by a task of its own, from when it appears until it goes.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial

import trio

from dht_torrent.config import LsdConfig
from dht_torrent.engine.faults import Faults
from dht_torrent.engine.net.interfaces import Interface
from dht_torrent.engine.net.protocols import DatagramSocket, Network
from dht_torrent.engine.wakeup import AutoResetEvent
from dht_torrent.errors import PeerProtocolError
from dht_torrent.ids import Address, InfoHash
from dht_torrent.peer.lsd import GROUPS, MAX_COOKIE, Announce, Hearing, Schedule, encode

logger = logging.getLogger(__name__)

OnPeers = Callable[[Sequence[Address]], None]
MAX_SCHEDULES = 64
"""Interfaces, also those that went, of which is remembered when we last announced there."""
WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - values to compare with


@dataclass(frozen=True, slots=True)
class _Served:
    """An interface where we are in the group."""

    socket: DatagramSocket
    schedule: Schedule
    port: int


class LocalDiscovery:
    """One for all torrents of a node. Private ones must be kept out of it."""

    def __init__(
        self,
        network: Network,
        config: LsdConfig,
        listens: Sequence[Address],
        *,
        rng: random.Random,
        faults: Faults,
    ) -> None:
        """`listens`: where peers are to connect to, one of each family at most. Only interfaces
        through which they can be reached there are used."""
        self._network = network
        self._config = config
        self._listens = {address.is_ipv6: address for address in listens}
        self._faults = faults
        self._cookie = rng.randbytes(MAX_COOKIE // 2).hex().encode()
        self._hearing = Hearing(config, self._cookie)
        self._torrents: dict[InfoHash, OnPeers] = {}
        self._interfaces: dict[Interface, trio.CancelScope] = {}
        self._served: dict[Interface, _Served] = {}
        self._schedules: dict[tuple[str, bool], Schedule] = {}
        self._changed = AutoResetEvent()

    @contextmanager
    def taking_part(self, info_hash: InfoHash, on_peers: OnPeers) -> Iterator[None]:
        """Announce the torrent meanwhile, and hand over its peers as they are heard of."""
        now = trio.current_time()
        self._torrents[info_hash] = on_peers
        for served in self._served.values():
            served.schedule.add(info_hash, now)
        self._changed.set()
        try:
            if known := self._hearing.peers(info_hash, now):
                on_peers(known)
            yield
        finally:
            del self._torrents[info_hash]
            for served in self._served.values():
                served.schedule.remove(info_hash)

    def renew(self) -> None:
        """The network is back, or another one: announce all of it again, as soon as it may be."""
        now = trio.current_time()
        for served in self._served.values():
            served.schedule.begin_again(now)
        self._changed.set()

    async def run(self) -> None:
        """A service."""
        self._interfaces.clear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._announce)
            while True:
                here = self._usable()
                for gone in [one for one in self._interfaces if one not in here]:
                    self._interfaces.pop(gone).cancel()
                for new in here:
                    if new not in self._interfaces:
                        scope = self._interfaces[new] = trio.CancelScope()
                        nursery.start_soon(self._serve, new, scope)
                await trio.sleep(self._config.look_interval)

    def _usable(self) -> list[Interface]:
        """Interfaces behind which others can reach us; each with the networks in which they can."""
        usable: list[Interface] = []
        for one in self._network.interfaces():
            bound = self._listens.get(one.ipv6)
            if bound is None:
                continue
            if bound.host not in WILDCARDS:
                networks = tuple(each for each in one.networks if str(each.ip) == bound.host)
                if not networks:
                    continue
                one = replace(one, networks=networks)
            usable.append(one)
        return usable[: self._config.max_interfaces]

    async def _serve(self, on: Interface, scope: trio.CancelScope) -> None:
        """Be in the group until the interface goes, or is another."""
        try:
            with scope, self._faults.confined(f"local discovery on {on.name}"):
                try:
                    socket = await self._network.open_multicast(GROUPS[on.ipv6], on)
                except OSError as error:  # it has just gone, or is not for us: we look again
                    logger.debug("no local discovery on %s: %s", on.name, error)
                    return
                with closing(socket):
                    port = self._listens[on.ipv6].port
                    self._served[on] = _Served(socket, self._schedule(on), port)
                    self._changed.set()
                    logger.debug("announcing to the local network of %s", on.name)
                    await socket.serve(partial(self._take, on))
        finally:
            self._served.pop(on, None)
            if self._interfaces.get(on) is scope:
                del self._interfaces[on]

    def _schedule(self, on: Interface) -> Schedule:
        """An interface that went and came back has the one it had: or who unplugs a cable again and
        again would have us announce each time."""
        key = on.name, on.ipv6
        before = self._schedules.pop(key, None)
        now = trio.current_time()
        free_at = before.free_at if before is not None else now
        schedule = self._schedules[key] = Schedule(self._config, self._torrents, now, free_at)
        if len(self._schedules) > MAX_SCHEDULES:
            del self._schedules[next(iter(self._schedules))]
        return schedule

    async def _announce(self) -> None:
        while True:
            now, due = trio.current_time(), float("inf")
            for on, served in self._served.items():
                if taken := served.schedule.take(now):
                    announce = Announce(served.port, tuple(taken), self._cookie)
                    group = GROUPS[on.ipv6]
                    if not served.socket.send(encode(announce, group), group):
                        served.schedule.unsent(taken, now)
                again = served.schedule.next_time()
                if again is not None:
                    due = min(due, again)
            with trio.CancelScope(deadline=due):
                await self._changed.wait()

    def _take(self, on: Interface, datagrams: Sequence[tuple[bytes, Address]]) -> None:
        now = trio.current_time()
        for data, source in datagrams:
            # An address from elsewhere is invented: multicast comes no further than one network.
            if not on.reaches(source.host):
                continue
            try:
                heard = self._hearing.datagram(data, source, now)
            except PeerProtocolError:
                continue
            if heard is None:
                continue
            peer, info_hashes = heard
            if on.has(peer.host) and peer.port == self._listens[on.ipv6].port:
                continue  # ourselves, by a cookie that somebody changed
            for info_hash in info_hashes:
                on_peers = self._torrents.get(info_hash)
                if on_peers is not None:
                    on_peers([peer])
