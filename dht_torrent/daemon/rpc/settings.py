"""What clients can set of a node and its torrents, and what it is now.

Transmission has a number and a switch for each limit: the number stays while the switch is off. The
node knows only the limit in force, so the numbers are remembered here, until it ends.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from dht_torrent.config.seeding import SeedingLimit
from dht_torrent.daemon.rpc.calls import INVALID_PARAMS, PATH_NOT_ABSOLUTE, SYSTEM_ERROR, RpcError
from dht_torrent.daemon.rpc.ids import RECENT, Ids

if TYPE_CHECKING:
    from dht_torrent.engine.node import Node
    from dht_torrent.engine.torrent.torrent import Torrent
    from dht_torrent.ids import InfoHash

NODE, OWN, NONE = range(3)
"""Modes of a limit: the node's, one of its own, none."""
_DEFAULT_RATE: Final = 100
"""kB/s, of a limit that was never set (Transmission)."""
_DEFAULT_RATIO: Final = 2.0
_DEFAULT_IDLE: Final = 30
"""Minutes."""


class Settings:
    """Of one node."""

    def __init__(
        self,
        node: Node,
        roots: Sequence[Path],
        state_dir: Path,
        stop: Callable[[], None],
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        """`roots` are the folders that clients may have content in; `stop` ends the node."""
        self.node: Node = node
        self.ids: Ids = Ids(node.torrents, clock)
        self.state_dir = state_dir
        self.stop = stop
        self.download_dir = Path(node.config.download_dir)
        """Where what is added goes."""
        self.starts_added = True
        self.numbers: dict[str, float] = {}
        """Of the node, by the names of the limits."""
        self._roots = [Path(os.path.realpath(root)) for root in roots]
        self._clock = clock
        self._own: dict[InfoHash, dict[str, float]] = {}
        self._told: dict[InfoHash, tuple[object, float]] = {}
        self._positions: dict[InfoHash, int] = {}

    def begin(self) -> None:
        """An answer is about to be made."""
        self.ids.look()
        self._positions = self.node.queue_positions()
        if len(self._own) > 2 * len(self.node.torrents) + 100:
            self._own = {one: own for one, own in self._own.items() if one in self.node.torrents}
        if len(self._told) > 2 * len(self.node.torrents) + 100:
            self._told = {one: was for one, was in self._told.items() if one in self.node.torrents}

    # -- places ---------------------------------------------------------------------------------

    def folder(self, text: object) -> Path:
        """A folder below one of the roots, not necessarily there. Raises RpcError."""
        if not isinstance(text, str) or not text.startswith("/") or "\0" in text:
            raise RpcError(PATH_NOT_ABSOLUTE, "path is not absolute")
        try:
            real = Path(os.path.realpath(text))
        except (OSError, ValueError, UnicodeError):
            raise RpcError(SYSTEM_ERROR, "this path cannot be used") from None
        if not any(real.is_relative_to(root) for root in self._roots):
            raise RpcError(
                INVALID_PARAMS, "not below a folder that clients may use (see --web-dir)"
            )
        return Path(text)

    # -- numbers and switches -------------------------------------------------------------------

    def remember(self, torrent: Torrent, name: str, number: float) -> None:
        self._own.setdefault(torrent.info_hash, {})[name] = number

    def remembered(self, torrent: Torrent, name: str, default: float) -> float:
        return self._own.get(torrent.info_hash, {}).get(name, default)

    def position(self, torrent: Torrent) -> int:
        return self._positions.get(torrent.info_hash, len(self._positions))

    def up_limit(self, torrent: Torrent) -> int:
        """kB/s."""
        rate, _ = torrent.limits
        return kilobytes(rate) or int(self.remembered(torrent, "upload_limit", _DEFAULT_RATE))

    def down_limit(self, torrent: Torrent) -> int:
        """kB/s."""
        _, rate = torrent.limits
        return kilobytes(rate) or int(self.remembered(torrent, "download_limit", _DEFAULT_RATE))

    def ratio_mode(self, torrent: Torrent) -> int:
        return mode_of(torrent.seeding_limits.ratio)

    def ratio_limit(self, torrent: Torrent) -> float:
        own = torrent.seeding_limits.ratio
        if isinstance(own, str):
            return self.remembered(torrent, "seed_ratio_limit", _DEFAULT_RATIO)
        return own

    def idle_mode(self, torrent: Torrent) -> int:
        return mode_of(torrent.seeding_limits.idle)

    def idle_limit(self, torrent: Torrent) -> int:
        """Minutes."""
        own = torrent.seeding_limits.idle
        if isinstance(own, str):
            return int(self.remembered(torrent, "seed_idle_limit", _DEFAULT_IDLE))
        return max(1, round(own / 60))

    # -- over time ------------------------------------------------------------------------------

    def is_recent(self, torrent: Torrent) -> bool:
        """Did anything of it change in the last minute, for all that clients were told?"""
        told = torrent.state, torrent.left, torrent.uploaded, torrent.downloaded, torrent.error
        now = self._clock()
        seen = self._told.get(torrent.info_hash)
        if seen is None or seen[0] != told:
            self._told[torrent.info_hash] = (told, now)
            return True
        return now - seen[1] < RECENT


def kilobytes(rate: int | None) -> int:
    """Of a limit in bytes per second; never 0 for what is one."""
    return 0 if rate is None else max(1, rate // 1000)


def mode_of(limit: SeedingLimit) -> int:
    return {"node": NODE, "none": NONE}.get(limit, OWN) if isinstance(limit, str) else OWN
