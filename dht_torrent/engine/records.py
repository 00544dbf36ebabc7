"""Small records of those above the engine, in the state directory of their node: replaced as a
whole, so that a crash leaves the one before or the new one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from dht_torrent.engine.state import StateDir
from dht_torrent.engine.torrent.disk import Disk

_T = TypeVar("_T")


class StateRecords:
    """Of one node; one that keeps nothing on disk has none."""

    def __init__(self, state: StateDir | None, disk: Disk) -> None:
        self._state = state
        self._disk = disk

    async def load(
        self, folder: str, name: str, suffix: str, decode: Callable[[bytes], _T]
    ) -> tuple[_T | None, list[str]]:
        """What was saved last, None if there is nothing; and a line if it was set aside. `decode`
        raises StorageError."""
        if self._state is None:
            return None, []
        found, warnings = await self._disk.run(self._state.load_folder, folder, suffix, decode)
        return found.get(name), warnings

    async def save(self, folder: str, name: str, suffix: str, payload: bytes) -> None:
        """Raises StorageError; what was saved before then stays."""
        if self._state is not None:
            await self._disk.run(self._state.save_in, folder, name + suffix, payload)
