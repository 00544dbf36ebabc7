"""How the network of the machine is watched."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchConfig:
    """Of one node."""

    look_interval: float = 2.0
    """Seconds between two looks at the interfaces of the machine: a call that takes 0.1 ms."""
    least_sleep: float = 10.0
    """Seconds that the machine, or this process, stood still to be taken for a suspend. Mappings of
    NATs live 30 s and more, other peers wait for two minutes."""
    silence: float = 20.0
    """Seconds without a response of any node to a query, after which some are asked, to be sure;
    and as long again after which it is sure that none responds. A query waits for fifteen."""
    probe_interval: float = 5.0
    """Seconds between two such questions ..."""
    probes: int = 4
    """... each to so many nodes."""
    retries: tuple[float, ...] = (10.0, 30.0)
    """Seconds after the network is back at which peers that were connected before are dialled once
    more: they may have refused us, taking us for the connection that we lost."""
