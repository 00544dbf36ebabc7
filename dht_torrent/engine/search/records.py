"""Publishers' records on items of the DHT. The rule: what `get` returns was signed by the key it
names, over exactly these bytes; whether it is about the right torrent is for `search.record` to
say.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from dht_torrent.bencode import Value
from dht_torrent.config import SearchConfig
from dht_torrent.dht.items import KEY_SIZE, Item, MutableItem, SigningKey, mutable_target, sign
from dht_torrent.engine.dht.surveys import seq_of
from dht_torrent.engine.search.meter import Meter
from dht_torrent.engine.search.slots import SlotItems
from dht_torrent.errors import InputError


class Records(Protocol):
    """Where publishers' records are stored."""

    async def get(self, target: bytes, salt: bytes) -> MutableItem | None:
        """The record there, its signature verified; None when nobody has it."""
        ...

    async def put(self, key: SigningKey, salt: bytes, value: Value) -> bool:
        """Store a record under this key, or keep it alive where it is; call every hour. Whether
        enough nodes have it."""
        ...


class RecordItems(SlotItems, Protocol):
    """The items, as `DualStack` has them."""

    async def get(
        self, target: bytes, *, salt: bytes = b"", seq: int | None = None, first: bool = False
    ) -> Item | None: ...


class DhtRecords:
    """`Records` on the DHT."""

    def __init__(
        self,
        items: RecordItems,
        config: SearchConfig,
        meter: Meter,
        *,
        clock: Callable[[], float],
    ) -> None:
        """`clock` gives Unix time."""
        self._items = items
        self._config = config
        self._meter = meter
        self._clock = clock

    async def get(self, target: bytes, salt: bytes) -> MutableItem | None:
        """See `Records.get`."""
        await self._meter.get(searching=True)
        item = await self._items.get(target, salt=salt, first=True)
        return item if isinstance(item, MutableItem) else None

    async def put(self, key: SigningKey, salt: bytes, value: Value) -> bool:
        """See `Records.put`."""
        now = int(self._clock() * 1000)
        item = sign(key, value, now, salt)
        await self._meter.get(searching=False)
        survey = await self._items.get_all(mutable_target(key.public, salt), salt=salt)
        targets = survey.targets()
        enough = min(self._config.enough_copies, len(targets))
        newest = survey.newest
        if isinstance(newest, MutableItem):
            copies = sum(one.item == newest for one in targets)
            age = (now - newest.seq) / 1000
            same = newest.encoded == item.encoded
            if same and copies >= enough > 0 and age < self._config.fresh_time:
                return True
            # Only the owner of the key can have put it: a node that runs elsewhere with the same.
            item = sign(key, value, max(now, seq_of(newest) + 1), salt)
        if not targets:
            return False
        await self._meter.put()
        stored = await self._items.put_to(targets, item)
        return 0 < len(stored.stored) >= enough


def parse_key(text: str) -> bytes:
    """A publisher's key. Raises InputError."""
    with suppress(ValueError):
        key = bytes.fromhex(text)
        if len(key) == KEY_SIZE and len(text) == 2 * KEY_SIZE:
            return key
    raise InputError(f"a publisher's key has {2 * KEY_SIZE} hex digits, not {text[:80]!r}")
