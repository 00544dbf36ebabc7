"""The numbers that clients know torrents by: stable while the node runs, never used twice."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from dht_torrent.daemon.rpc.calls import INVALID_PARAMS, RpcError
from dht_torrent.daemon.rpc.rows import RECENT
from dht_torrent.ids import InfoHash

if TYPE_CHECKING:
    from dht_torrent.engine.torrent.torrent import Torrent

MAX_REMOVED: Final = 10_000
"""Numbers of removed torrents that are remembered meanwhile."""
MAX_IDS: Final = 100_000
"""Torrents named in one call."""


class Ids:
    """Of the torrents of one node."""

    def __init__(self, torrents: Mapping[InfoHash, Torrent], clock: Callable[[], float]) -> None:
        """`clock` counts seconds."""
        self._torrents = torrents
        self._clock = clock
        self._number: dict[InfoHash, int] = {}
        self._named: dict[int, InfoHash] = {}
        self._last = 0
        self._removed: deque[tuple[float, int]] = deque(maxlen=MAX_REMOVED)

    def look(self) -> None:
        """Number the torrents that are new, and note those that have gone. O(torrents)."""
        for info_hash in self._torrents:
            if info_hash not in self._number:
                self._last += 1
                self._number[info_hash] = self._last
                self._named[self._last] = info_hash
        if len(self._number) > len(self._torrents):
            now = self._clock()
            for info_hash in [one for one in self._number if one not in self._torrents]:
                number = self._number.pop(info_hash)
                del self._named[number]
                self._removed.append((now, number))

    def of(self, info_hash: InfoHash) -> int:
        """The number of a torrent that is here."""
        number = self._number.get(info_hash)
        if number is None:
            self.look()
            number = self._number[info_hash]
        return number

    def removed(self) -> list[int]:
        """Numbers of torrents that were removed in the last `RECENT` seconds."""
        self.look()
        oldest = self._clock() - RECENT
        return [number for at, number in self._removed if at >= oldest]

    def find(self, params: Mapping[str, Any]) -> dict[InfoHash, Torrent]:
        """Those that `ids` names: a number, a hash, or a list of these. All of them only if there
        is no `ids` at all: an empty list, or null, is none (getTorrents in rpcimpl.cc), as of a
        client with nothing selected that asks to remove. Unknown ones are passed over. Raises
        RpcError for what can be no name."""
        self.look()
        if "ids" not in params:
            return dict(self._torrents)
        ids = params["ids"]
        if ids is None:
            return {}
        wanted = ids if isinstance(ids, list) else [ids]
        if len(wanted) > MAX_IDS:
            raise RpcError(INVALID_PARAMS, f"at most {MAX_IDS} ids")
        found: dict[InfoHash, Torrent] = {}
        for one in wanted:
            info_hash = self._info_hash(one)
            if info_hash is not None and info_hash in self._torrents:
                found[info_hash] = self._torrents[info_hash]
        return found

    def _info_hash(self, one: Any) -> InfoHash | None:
        if type(one) is int or (isinstance(one, float) and one.is_integer()):
            return self._named.get(int(one))
        if isinstance(one, str):
            try:
                return InfoHash(bytes.fromhex(one))
            except ValueError:
                return None
        raise RpcError(INVALID_PARAMS, "ids are numbers and hashes")
