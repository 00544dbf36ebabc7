"""What clients can set of a node and its torrents, and what it is now.

Transmission has a number and a switch for each limit: the number stays while the switch is off. The
node knows only the limit in force, so the numbers are remembered here, until it ends.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from dht_torrent.daemon.rpc.calls import INVALID_PARAMS, PATH_NOT_ABSOLUTE, SYSTEM_ERROR, RpcError
from dht_torrent.daemon.rpc.ids import Ids
from dht_torrent.daemon.rpc.rows import Kept, Plan, Rows

if TYPE_CHECKING:
    from dht_torrent.engine.node import Node
    from dht_torrent.engine.torrent.torrent import Torrent
    from dht_torrent.ids import InfoHash

_NOTHING: Final[Mapping[str, float]] = {}


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
        self.rows: Rows = Rows(node.torrents, clock, node.config.max_connections)
        self._own: dict[InfoHash, Mapping[str, float]] = {}
        self._positions: dict[InfoHash, int] | None = None
        """In the queue, once somebody wants to know."""

    def begin(self) -> None:
        """An answer is about to be made."""
        self.ids.look()
        self._positions = None
        if len(self._own) > 2 * len(self.node.torrents) + 100:
            self._own = {one: own for one, own in self._own.items() if one in self.node.torrents}
        self.rows.begin()

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
        """Of a limit of the torrent, whether it is in force or not."""
        own = self.own(torrent)
        if own.get(name) != number:
            self._own[torrent.info_hash] = {**own, name: number}

    def own(self, torrent: Torrent) -> Mapping[str, float]:
        """The numbers that were remembered of it; another object after each change."""
        return self._own.get(torrent.info_hash, _NOTHING)

    # -- rows -----------------------------------------------------------------------------------

    def look(self, info_hash: InfoHash, torrent: Torrent) -> Kept:
        """What is kept of its rows."""
        return self.rows.look(torrent, self._own.get(info_hash, _NOTHING), self.ids.of(info_hash))

    def row(self, plan: Plan, kept: Kept) -> tuple[str, bool]:
        """See `Rows.row`."""
        position = 0
        if plan.needs_position:
            if self._positions is None:
                self._positions = self.node.queue_positions()
            position = self._positions.get(kept.look.facts.info_hash, len(self._positions))
        return self.rows.row(plan, kept, position)
