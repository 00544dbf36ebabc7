"""What clients can set of a node and its torrents, and what it is now.

Transmission has a number and a switch for each limit: the number stays while the switch is off. The
node knows only the limit in force, so the numbers are remembered here. What clients set is there
after a restart, see `remembered`.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from dht_torrent.daemon.rpc.calls import INVALID_PARAMS, PATH_NOT_ABSOLUTE, SYSTEM_ERROR, RpcError
from dht_torrent.daemon.rpc.ids import Ids
from dht_torrent.daemon.rpc.remembered import (
    FOLDER,
    NAME,
    SUFFIX,
    Remembered,
    alternative,
    plain,
)
from dht_torrent.daemon.rpc.rows import Kept, Plan, Rows
from dht_torrent.errors import InputError, StorageError

if TYPE_CHECKING:
    from dht_torrent.engine.node import Node
    from dht_torrent.engine.torrent.torrent import Torrent
    from dht_torrent.ids import InfoHash

logger = logging.getLogger(__name__)

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
        remembered: Remembered | None = None,
        fixed: Collection[str] = (),
    ) -> None:
        """`roots` are the folders that clients may have content in; `stop` ends the node. What is
        `remembered` holds from now on, but for the fields that are `fixed` in this run."""
        self.node: Node = node
        self.ids: Ids = Ids(node.torrents, clock)
        self.state_dir = state_dir
        self.stop = stop
        self.download_dir = Path(node.config.download_dir)
        """Where what is added goes."""
        self._remembered = remembered if remembered is not None else Remembered()
        self._saved = self._remembered.encode()
        self._saving = trio.Lock()
        self._roots = [Path(os.path.realpath(root)) for root in roots]
        self.rows: Rows = Rows(node.torrents, clock, node.config.max_connections)
        self._restore(fixed)
        self._positions: dict[InfoHash, int] | None = None
        """In the queue, once somebody wants to know."""

    def begin(self) -> None:
        """An answer is about to be made."""
        self.ids.look()
        self._positions = None
        self.rows.begin()

    # -- places ---------------------------------------------------------------------------------

    def folder(self, text: object, what: str = "path") -> Path:
        """A folder below one of the roots, not necessarily there; `what` it is for. Raises
        RpcError."""
        if not isinstance(text, str) or not text.startswith("/") or "\0" in text:
            raise RpcError(PATH_NOT_ABSOLUTE, f"{what} is not absolute")
        try:
            real = Path(os.path.realpath(text))
        except (OSError, ValueError, UnicodeError):
            raise RpcError(SYSTEM_ERROR, "this path cannot be used") from None
        if not any(real.is_relative_to(root) for root in self._roots):
            raise RpcError(
                INVALID_PARAMS, "not below a folder that clients may use (see --web-dir)"
            )
        return Path(text)

    # -- what outlasts the node -----------------------------------------------------------------

    @property
    def starts_added(self) -> bool:
        """What is added is to begin at once."""
        return self._remembered.starts_added

    @property
    def numbers(self) -> dict[str, float]:
        """Of the node's limits, by their names."""
        return self._remembered.numbers

    @contextlib.asynccontextmanager
    async def changing(self) -> AsyncIterator[None]:
        """Around what a client changes of the node, and at once: it is remembered. Raises RpcError
        if it cannot be; then it holds until a restart."""
        before = self._now()
        try:
            yield
        finally:
            for name, value in self._now().items():
                if value != before[name]:
                    self._remembered.note(name, self.node.config, value)
        await self.save()

    async def save(self) -> None:
        """What is to be remembered, and is not yet. Raises RpcError as `changing`."""
        async with self._saving:
            await self._save()

    async def _save(self) -> None:
        remembered, torrents = self._remembered, self.node.torrents
        remembered.own = {one: own for one, own in remembered.own.items() if one in torrents}
        payload = remembered.encode()
        if payload == self._saved:
            return
        try:
            await self.node.records.save(FOLDER, NAME, SUFFIX, payload)
        except StorageError as error:
            raise RpcError(
                SYSTEM_ERROR, f"it is set, but will not be after a restart: {error}"
            ) from None
        self._saved = payload

    def start_added(self, on: bool) -> None:
        self._remembered.starts_added = on

    def _now(self) -> dict[str, object]:
        """What holds, by the names of the configuration."""
        speed, rules = self.node.speed, self.node.rules
        return {
            "limit_up": speed.up,
            "limit_down": speed.down,
            "alternative_limits": plain(speed.alternative),
            "active_downloads": rules.active_downloads,
            "active_seeds": rules.active_seeds,
            "seed_ratio": rules.seed_ratio,
            "seed_idle": rules.seed_idle,
            "download_dir": str(self.download_dir),
        }

    def _restore(self, fixed: Collection[str]) -> None:
        speed, rules = self.node.speed, self.node.rules
        for name, (_, value) in self._remembered.fields.items():
            if name in fixed or not self._remembered.holds(name, self.node.config):
                continue
            try:
                match name:
                    case "limit_up":
                        speed.set(up=value)
                    case "limit_down":
                        speed.set(down=value)
                    case "alternative_limits":
                        speed.set_alternative(alternative(value))
                    case "download_dir":
                        self.download_dir = self.folder(value)
                    case _:
                        setattr(rules, name, value)
            except (InputError, RpcError) as error:
                logger.warning("%s is not what a client has set: %s", name, error)

    # -- numbers and switches -------------------------------------------------------------------

    def remember(self, torrent: Torrent, name: str, number: float) -> None:
        """Of a limit of the torrent, whether it is in force or not."""
        own = self.own(torrent)
        if own.get(name) != number:
            self._remembered.own[torrent.info_hash] = {**own, name: number}

    def own(self, torrent: Torrent) -> Mapping[str, float]:
        """The numbers that were remembered of it; another object after each change."""
        return self._remembered.own.get(torrent.info_hash, _NOTHING)

    # -- rows -----------------------------------------------------------------------------------

    def look(self, info_hash: InfoHash, torrent: Torrent) -> Kept:
        """What is kept of its rows."""
        return self.rows.look(
            torrent, self._remembered.own.get(info_hash, _NOTHING), self.ids.of(info_hash)
        )

    def row(self, plan: Plan, kept: Kept) -> tuple[str, bool]:
        """See `Rows.row`."""
        position = 0
        if plan.needs_position:
            if self._positions is None:
                self._positions = self.node.queue_positions()
            position = self._positions.get(kept.look.facts.info_hash, len(self._positions))
        return self.rows.row(plan, kept, position)
