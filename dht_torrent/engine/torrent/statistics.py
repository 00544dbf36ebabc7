"""What a node has sent and received since it was started, and in all its runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Final

from dht_torrent import bencode
from dht_torrent.errors import BencodeError, StorageError
from dht_torrent.ids import InfoHash

_LONG: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of one run, or of several."""

    uploaded: int = 0
    """Payload bytes, as in `Summary`."""
    downloaded: int = 0
    torrents_added: int = 0
    runs: int = 0
    seconds: int = 0
    """In which the node was running."""

    def plus(self, other: Statistics) -> Statistics:
        """Of both together."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Statistics(*(min(one + more, _LONG) for one, more in pairs))

    def encode(self) -> bytes:
        """`decode_statistics` is the inverse."""
        return bencode.encode(list(astuple(self)))


def decode_statistics(payload: bytes) -> Statistics:
    """Raises StorageError."""
    try:
        row = bencode.decode(payload, max_depth=1, max_size=1000)
    except BencodeError as exc:
        raise StorageError(f"not statistics: {exc}") from exc
    match row:
        case [int(), int(), int(), int(), int()] if all(
            isinstance(one, int) and 0 <= one <= _LONG for one in row
        ):
            return Statistics(*(one for one in row if isinstance(one, int)))
    raise StorageError("not statistics: not five numbers")


class Counting:
    """Counts what the torrents of a node do."""

    def __init__(self) -> None:
        self.before = Statistics()
        """In earlier runs."""
        self.now = Statistics(runs=1)
        """In this one, at the last look."""
        self._seen: dict[InfoHash, tuple[int, int]] = {}

    @property
    def ever(self) -> Statistics:
        """In all runs."""
        return self.before.plus(self.now)

    def known(self, totals: Mapping[InfoHash, tuple[int, int]]) -> None:
        """These torrents are of earlier runs, in which they have sent and received so much."""
        self._seen = dict(totals)

    def look(self, totals: Mapping[InfoHash, tuple[int, int]], uptime: float) -> None:
        """So much each torrent has sent and received in its life."""
        up, down, added = self.now.uploaded, self.now.downloaded, self.now.torrents_added
        for info_hash, (sent, received) in totals.items():
            before = self._seen.get(info_hash)
            added += before is None
            up += max(0, sent - (before[0] if before else 0))
            down += max(0, received - (before[1] if before else 0))
        self._seen = dict(totals)
        self.now = Statistics(up, down, added, 1, int(uptime))
