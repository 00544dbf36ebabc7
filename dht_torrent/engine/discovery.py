"""Peers of one torrent from the DHT: looked up and announced every quarter hour, more often while a
download is alone.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from dht_torrent.engine.crowd import Crowd
from dht_torrent.engine.dht import PeerLookup
from dht_torrent.engine.host import Host
from dht_torrent.ids import InfoHash


class Discovery:
    """Looks for peers while `allowed`, which a private torrent is not (BEP 27)."""

    def __init__(
        self,
        host: Host,
        info_hash: InfoHash,
        crowd: Crowd,
        *,
        allowed: Callable[[], bool],
        complete: Callable[[], bool],
    ) -> None:
        """`complete`: we have all that is wanted, and announce ourselves as a seed (BEP 33)."""
        self.note = "looking for peers in the DHT"
        """How the last lookup went, for people."""
        self._dht = host.dht
        self._faults = host.faults
        self._search_name = f"a search for peers of {info_hash.hex()[:8]}"
        self._config = host.config.torrent
        self._info_hash = info_hash
        self._crowd = crowd
        self._allowed = allowed
        self._complete = complete
        self._lookup = trio.CancelScope()

    async def run(self) -> None:
        """Until cancelled, or not allowed any more."""
        config, crowd = self._config, self._crowd
        pause = config.hungry_interval
        with trio.move_on_after(config.bootstrap_patience):
            await self._dht.bootstrapped()
        while self._allowed():
            crowd.lonely = trio.Event()
            found: PeerLookup | None = None
            with trio.CancelScope() as self._lookup, self._faults.confined(self._search_name):
                found = await self._dht.find_peers(
                    self._info_hash,
                    announce=True,
                    seed=self._complete(),
                    on_peers=lambda addresses: crowd.found(addresses, "dht"),
                )
            if self._lookup.cancelled_caught:
                return
            hungry = not self._complete() and not crowd.peers
            pause = min(pause * 2, config.find_peers_interval) if hungry else config.hungry_interval
            self.note = self._note(found, pause)
            if hungry:
                await trio.sleep(pause)
            else:
                with trio.move_on_after(config.find_peers_interval):
                    await crowd.lonely.wait()
                    await trio.sleep(config.lonely_interval)

    def _note(self, found: PeerLookup | None, pause: float) -> str:
        if found is None:
            return f"DHT: the search failed by a bug in dht_torrent, looking again in {pause:.0f} s"
        return (
            f"DHT: {found.answered} of {found.asked} contacts answered, "
            f"{len(found.peers)} peers found, looking again in {pause:.0f} s"
        )

    def end(self) -> None:
        """At once: a lookup under way would end in an announce. Nothing stays announced."""
        self._lookup.cancel()
        self._dht.withdraw(self._info_hash)
