"""How a node divides the descriptors its process may open among connections and files.

The rule: each kind has a bound, and the bounds together stay below RLIMIT_NOFILE, so that no
stranger's connection is paid for with a file of ours, nor the other way round.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NamedTuple

from dht_torrent.config import Config

RESERVE: Final = 32
"""For what is not counted: control clients, state files, folders on the way to a file."""
_EACH_THREAD: Final = 3
"""A thread holds a folder, the one below it, and a file."""
_EACH_LISTENER: Final = 2
_LEAST: Final = 4
"""Of each kind: a node that may open next to nothing still moves."""


class Budget(NamedTuple):
    """Descriptors at most, by what they are for."""

    connections: int
    handshakes: int
    dials: int
    files: int

    def warning(self, config: Config, limit: int) -> str | None:
        """For people: what the limit costs them. None when it costs nothing that matters."""
        if self.connections >= config.max_connections:
            return None
        return (
            f"only {limit} more files may be open, so there is room for {self.connections} "
            f"connections instead of {config.max_connections}; raise the limit (ulimit -n)"
        )

    def applied(self, config: Config) -> Config:
        """`config` with the bounds that this budget allows."""
        return replace(
            config,
            max_connections=self.connections,
            max_pending_handshakes=self.handshakes,
            max_pending_dials=self.dials,
            disk=replace(config.disk, open_files=self.files),
        )


def divide(left: int, config: Config, threads: int) -> Budget:
    """What `config` asks for, or as much of it as `left` descriptors allow. Half of them is for
    connections, an eighth for each side's unfinished ones, and the rest for files, which can do
    with few: opening one takes some twenty microseconds."""
    listeners = _EACH_LISTENER * len(config.listen_addresses())
    room = max(0, left - RESERVE - _EACH_THREAD * threads - listeners)
    connections = min(config.max_connections, max(_LEAST, room // 2))
    handshakes = min(config.max_pending_handshakes, max(_LEAST, room // 8))
    dials = min(config.max_pending_dials, max(_LEAST, room // 8))
    files = min(config.disk.open_files, max(_LEAST, room - connections - handshakes - dials))
    return Budget(connections, handshakes, dials, files)
