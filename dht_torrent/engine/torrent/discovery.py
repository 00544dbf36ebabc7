"""Peers of one torrent from the DHT: looked up and announced every quarter hour, more often while a
download is alone. And from the local networks, all the time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import trio

from dht_torrent.engine.dht.dual_stack import PeerLookup
from dht_torrent.engine.torrent.connections import Connections
from dht_torrent.engine.torrent.context import TorrentContext
from dht_torrent.engine.views import counted
from dht_torrent.ids import Address

HURRY = 10.0
"""Seconds between two lookups that a user may ask for: more often nothing new is known."""


class Discovery:
    """Looks for peers, and announces us, as long as the torrent is not known to be private (BEP
    27)."""

    def __init__(self, torrent: TorrentContext, connections: Connections) -> None:
        node = torrent.node
        self._torrent = torrent
        self._node = node
        self._connections = connections
        self._found: PeerLookup | None = None
        self._searched = False
        self._again_at = 0.0
        self._dht = node.dht
        self._faults = node.faults
        self._search_name = f"a search for peers of {torrent.info_hash.hex()[:8]}"
        self._config = node.config.torrent
        self._info_hash = torrent.info_hash
        self._is_new = True
        """The network is, to us."""
        self._lookup = trio.CancelScope()
        self._looked_at = float("-inf")
        self._pause = trio.CancelScope()
        """Around the wait for the next lookup."""
        self._is_hurried = False
        self._local = ExitStack()

    @property
    def note(self) -> str:
        """How the last lookup went, for people."""
        if not self._searched:
            return "looking for peers in the DHT"
        found = self._found
        pause = self._again_at - trio.current_time()
        when = f"in {pause:.0f} s" if pause >= 1 else "soon"
        if found is None:
            return f"DHT: the lookup failed because of a bug in dht_torrent, looking again {when}"
        # Where it leads to may turn out to be ourselves only later.
        others = sum(address not in self._node.own_addresses for address in found.peers)
        return (
            f"DHT: {found.answered} of {found.asked} contacts answered, "
            f"{counted(others, 'peer')} found, looking again {when}"
        )

    async def run(self) -> None:
        """Until cancelled, or until the torrent turns out to be private."""
        if not self._torrent.is_private:
            self.enter()
            with self._local_too():
                await self._run()

    def renew(self) -> None:
        """The network is back, or another one: look for peers, and announce us, as soon as the DHT
        has been entered."""
        self._is_new = True
        self._pause.cancel()

    def enter(self) -> None:
        """Try the entry points to the DHT that the torrent names, if it does and we need any."""
        metainfo = self._torrent.metainfo
        if metainfo is not None and metainfo.nodes and not metainfo.private:
            self._dht.maybe_enter(metainfo.nodes)

    @contextmanager
    def _local_too(self) -> Iterator[None]:
        """Meanwhile, or until `end`, we take part in the discovery of the local networks.
        Not for an SSL torrent: an announce there names one port for all torrents, the plain one."""
        lsd = self._node.lsd
        with ExitStack() as self._local:
            if lsd is not None and not self._torrent.is_ssl:
                self._local.enter_context(lsd.taking_part(self._info_hash, self._found_nearby))
            yield

    def _found_nearby(self, peers: Sequence[Address]) -> None:
        self._connections.found(peers, "lsd")

    async def _run(self) -> None:
        config, connections = self._config, self._connections
        hungry = 0  # lookups in a row after which there was no peer
        while not self._torrent.is_private:
            if self._is_new:
                hungry = 0
                with trio.move_on_after(config.bootstrap_patience):
                    await self._dht.bootstrapped()
                self._is_new = False
            connections.lonely.clear()
            self._is_hurried = False
            found: PeerLookup | None = None
            with trio.CancelScope() as self._lookup, self._faults.confined(self._search_name):
                found = await self._dht.find_peers(
                    self._info_hash,
                    announce=True,
                    port_of=self._torrent.announced_port,
                    seed=self._connections.complete,
                    on_peers=lambda addresses: connections.found(addresses, "dht"),
                )
            if self._lookup.cancelled_caught:
                return
            self._found, self._searched = found, True
            self._looked_at = trio.current_time()
            if self._is_new:  # what was asked may not have left
                continue
            if not self._connections.complete and not connections.peers:
                pause = min(config.hungry_interval * 2.0 ** min(hungry, 30), config.hungry_most)
                pause = min(pause, HURRY) if self._is_hurried else pause
                hungry += 1
                self._again_at = self._looked_at + pause
                with trio.CancelScope() as self._pause:
                    await trio.sleep(pause)
                    await self._node.lookups.wait(hungry)
            else:
                hungry = 0
                pause = HURRY if self._is_hurried else config.find_peers_interval
                self._again_at = self._looked_at + pause
                with trio.CancelScope(deadline=self._again_at) as self._pause:
                    await connections.lonely.wait()
                    await trio.sleep(config.lonely_interval)
                    await self._node.lookups.wait(hungry)

    def hurry(self) -> None:
        """Look again, and be announced, now; `HURRY` after the last time at the earliest."""
        self._is_hurried = True
        self._pause.deadline = min(self._pause.deadline, self._looked_at + HURRY)

    def end(self) -> None:
        """At once: a lookup under way would end in an announce. Nothing stays announced."""
        self._local.close()
        self._lookup.cancel()
        self._dht.withdraw(self._info_hash)
