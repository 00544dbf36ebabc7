"""Versions of what a link names (BEP 46): which item is newer, when to look for one, and who keeps
it alive. The rule: a version is believed only when its owner signed it, and never one that is older
than any that was seen, be it in an earlier run.

Where the owner's key has signed two values with one sequence number, as two writers do that know
nothing of each other, everybody takes the same one: whose encoded value is the smaller.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Final

from dht_torrent.bencode import Value
from dht_torrent.bounds import in_calendar
from dht_torrent.config import FollowConfig
from dht_torrent.dht.items import MAX_SEQ, MutableItem, is_genuine
from dht_torrent.errors import InputError
from dht_torrent.ids import InfoHash, parse_info_hash

_NAME: Final = b"ih"
_SIZE: Final = 20


def version_value(info_hash: InfoHash) -> Value:
    """What an item says of the version that it names (BEP 46)."""
    return {_NAME: info_hash}


def named_by(item: MutableItem) -> InfoHash | None:
    """The torrent that an item names; None for one that does not have the form of BEP 46: exactly
    one key, and 20 bytes."""
    value = item.value
    if not isinstance(value, dict) or set(value) != {_NAME}:
        return None
    info_hash = value[_NAME]
    if not isinstance(info_hash, bytes) or len(info_hash) != _SIZE:
        return None
    return parse_info_hash(info_hash)


def next_seq(seen: Iterable[int], unix_time: float) -> int:
    """The sequence number of a new version, after all that were `seen`: in the DHT, and in our own
    records. Raises InputError when there is none.

    It is no less than the time, so that who has lost the records and finds nothing in the DHT does
    not use one again that followers remember; and a clock that is wrong does no harm, as what was
    seen counts too."""
    newest = max(seen, default=0)
    if newest >= MAX_SEQ:
        raise InputError("this link has the highest sequence number there is: it cannot change")
    return max(newest + 1, int(unix_time) if in_calendar(unix_time) else 0)


class Versions:
    """What is known of the versions of one link."""

    def __init__(
        self, key: bytes, salt: bytes, newest: MutableItem | None = None, seq: int = 0
    ) -> None:
        """`newest` and `seq` are those of an earlier run."""
        self.newest: MutableItem | None = None
        """The item that names the version of today; None while none is known."""
        self.seq = seq
        """The highest sequence number that the owner was seen to have used."""
        self.malformed = 0
        """Items the owner signed that name no torrent: dropped."""
        self.stale = 0
        """Items older than what was seen, as replayed by whoever kept them: dropped."""
        self.foreign = 0
        """Items that are another link's, or nobody's: dropped."""
        self._key = key
        self._salt = salt
        self._refused: bytes | None = None
        if newest is not None and self._is_ours(newest) and named_by(newest) is not None:
            self.newest = newest
            self.seq = max(seq, newest.seq)

    @property
    def info_hash(self) -> InfoHash | None:
        """The torrent of today."""
        return named_by(self.newest) if self.newest is not None else None

    def consider(self, item: MutableItem) -> bool:
        """Whether this is a version to go over to: from then on it is `newest`."""
        if item == self.newest:
            return False
        if not self._is_ours(item):
            self.foreign += 1
            return False
        if item.seq < self.seq:
            self.stale += 1
            return False
        if named_by(item) is None:
            # Still nothing older is believed: its owner has gone on.
            if item.encoded != self._refused:
                self.malformed += 1
            self.seq, self._refused = item.seq, item.encoded
            return False
        current = self.newest
        if current is not None and current.seq == item.seq and current.encoded <= item.encoded:
            return False
        self.seq, self.newest = item.seq, item
        return True

    def _is_ours(self, item: MutableItem) -> bool:
        return item.key == self._key and item.salt == self._salt and is_genuine(item)


class PollSchedule:
    """When to look for a new version: often after a start or a change, then ever less often. Times
    are on any clock that does not go back."""

    def __init__(self, config: FollowConfig, now: float, *, first: float = 0.0) -> None:
        """The first look is `first` seconds after `now`."""
        self.due = now + first
        """When to look next."""
        self._config = config
        self._eager_until = now + first + config.eager_for
        self._pause = config.poll_interval

    def is_eager(self, now: float) -> bool:
        """It is the time after a start or a change."""
        return now < self._eager_until

    def looked(self, now: float) -> None:
        """It was looked, and nothing was new."""
        if now >= self._eager_until:
            grown = self._pause * self._config.poll_growth
            self._pause = min(grown, self._config.poll_interval_most)
        self.due = now + self._pause

    def changed(self, now: float) -> None:
        """It was looked, and there is a new version: another may follow soon."""
        self._eager_until = now + self._config.eager_for
        self._pause = self._config.poll_interval
        self.due = now + self._pause


def lacking(held: Sequence[MutableItem | None], item: MutableItem) -> list[int]:
    """Which of the nodes that hold these do not have `item`, and would take it."""
    return [
        number
        for number, other in enumerate(held)
        if other != item and (other is None or other.seq < item.seq)
    ]


def puts_again(config: FollowConfig, peers: int, rng: random.Random) -> bool:
    """Whether a follower puts an item again this time, though the nodes have it: the more `peers`
    do the same, the less often."""
    return rng.random() * (1 + peers) < config.refresh_share


def refresh_pause(config: FollowConfig, rng: random.Random) -> float:
    """Seconds until an item is looked after again."""
    spread = config.refresh_spread
    return config.refresh_interval * rng.uniform(1 - spread, 1 + spread)
