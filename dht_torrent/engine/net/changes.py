"""Tells when the network is another than before, or is back. The rule: it compares what it is told
with what it was told last, and touches nothing.

Three things are signs of it: our addresses, a machine that was suspended, and nodes that respond
again after none did. The last is all there is to see when a router lost its line. An idle node
hears little as well, so after a while without a response it asks some nodes, to be sure.
"""

from __future__ import annotations

from dataclasses import dataclass

from dht_torrent.config import WatchConfig
from dht_torrent.engine.net.surroundings import Surroundings


@dataclass(frozen=True, slots=True)
class Heard:
    """What a node hears of others."""

    replied_at: float | None
    """When one last responded to a query; None: none ever did."""
    timeouts: int
    """Queries so far that got no response in time."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something to act on."""

    gone: frozenset[str] = frozenset()
    """Addresses that are ours no more: what was connected from there is lost."""
    moved: bool = False
    """We have other addresses than before."""
    renew: str | None = None
    """Why the network is to be entered anew; None while there is none to enter."""
    probe: bool = False
    """Ask a few nodes: is there one that responds?"""


class Changes:
    """What was seen last, and what that means for what is seen now."""

    def __init__(self, config: WatchConfig, seen: Surroundings, heard: Heard, now: float) -> None:
        self.deaf_since: float | None = None
        """Since when no node responds, as far as that is certain."""
        self._config = config
        self._seen = seen
        self._heard = heard
        self._looked_at = now
        self._probed_at: float | None = None  # since the last response
        self._timeouts = 0  # when we first probed

    def look(self, seen: Surroundings, heard: Heard, now: float) -> Change | None:
        """What has changed since the last time."""
        before, self._seen = self._seen, seen
        slept = max(seen.slept - before.slept, now - self._looked_at - self._config.look_interval)
        self._looked_at = now
        gone = before.addresses - seen.addresses
        if seen.generation != before.generation:
            gone = before.addresses
        moved = bool(gone) or seen.addresses != before.addresses
        renew = None
        is_back, probe = self._listen(heard, now)
        if moved:
            if seen.addresses:
                renew = f"our addresses are now {', '.join(sorted(seen.addresses))}"
        elif slept >= self._config.least_sleep:
            renew = f"the machine stood still for {slept:.0f} s"
        elif is_back:
            renew = "nodes respond again"
        if renew is None and not moved and not probe:
            return None
        return Change(gone, moved, renew, probe)

    def _listen(self, heard: Heard, now: float) -> tuple[bool, bool]:
        """Whether nodes respond after a time when none did, and whether to ask some."""
        config, before = self._config, self._heard
        if heard.replied_at != before.replied_at:
            was_deaf = self.deaf_since is not None
            self._heard, self._probed_at, self.deaf_since = heard, None, None
            return was_deaf, False
        if before.replied_at is None or now - before.replied_at < config.silence:
            return False, False
        if self._probed_at is None:
            if heard.timeouts == before.timeouts:
                return False, False  # nobody was asked
            self._timeouts = heard.timeouts
        elif self.deaf_since is None:
            if now - self._probed_at < config.silence:
                return False, False
            if heard.timeouts > self._timeouts:
                self.deaf_since = before.replied_at
        if self._probed_at is not None and now - self._probed_at < config.probe_interval:
            return False, False
        self._probed_at = now
        return False, True
