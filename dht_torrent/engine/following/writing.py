"""Writes the versions of one link into the DHT. The rule: what is there is read first, and what is
signed is written down before anybody sees it; so no sequence number is used twice, whatever became
of our clock and of our records.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import trio

from dht_torrent.config import FollowConfig
from dht_torrent.dht.items import Item, MutableItem, SigningKey, mutable_target, sign
from dht_torrent.dht.krpc import CAS_MISMATCH, SEQUENCE_TOO_LOW
from dht_torrent.dht.versions import next_seq, version_value
from dht_torrent.engine.dht.surveys import ItemSurvey, Stored, order
from dht_torrent.errors import NoReply
from dht_torrent.ids import InfoHash
from dht_torrent.magnet import MutableLink

logger = logging.getLogger(__name__)

_TAKEN: Final = frozenset({CAS_MISMATCH, SEQUENCE_TOO_LOW})
"""How nodes refuse what does not come next."""
_PAUSE: Final = (0.5, 3.0)
"""Seconds before another try, when somebody with the same key writes too."""


class WrittenItems(Protocol):
    """What is needed of the DHT: `DualStack` has it, and so have the `items` of a node."""

    async def get_all(
        self, target: bytes, *, salt: bytes = b"", enough: Callable[[Item], bool] | None = None
    ) -> ItemSurvey: ...

    async def put(self, item: Item, *, cas: int | None = None, keep: bool = True) -> Stored: ...

    def forget(self, target: bytes) -> None: ...


class LinkWriter:
    """The one that publishes a link."""

    def __init__(
        self,
        items: WrittenItems,
        link: MutableLink,
        config: FollowConfig,
        *,
        rng: random.Random,
        clock: Callable[[], float],
    ) -> None:
        """`clock` gives Unix time."""
        self.target = mutable_target(link.key, link.salt)
        self._items = items
        self._salt = link.salt
        self._config = config
        self._rng = rng
        self._clock = clock

    async def write(
        self,
        key: SigningKey,
        info_hash: InfoHash,
        seq: int,
        note: Callable[[MutableItem], Awaitable[None]],
    ) -> Stored:
        """Name this torrent from now on, and keep that alive. `key` is the link's; `seq` is the
        highest number that our records know, 0 for none; `note` writes down what is about to be
        put. Raises NoReply when nobody could be asked what is there, InputError when there is no
        number left."""
        mine: MutableItem | None = None
        contested = False
        for turn in range(self._config.write_retries + 1):
            survey = await self._items.get_all(self.target, salt=self._salt)
            if not survey.holders and not seq:
                # What followers know may have a number that we do not: nothing is safe to use.
                raise NoReply("no node of the DHT has said which version is there")
            there = [one for one in survey.variants() if isinstance(one, MutableItem)]
            newest = there[0] if there else None
            cas = None
            if mine is None or newest != mine or contested:
                seq = next_seq([seq, *(one.seq for one in there)], self._clock())
                mine = sign(key, version_value(info_hash), seq, self._salt)
                await note(mine)
                if newest is not None and turn < self._config.write_retries:
                    cas = newest.seq
            stored = await self._items.put(mine, cas=cas)
            refusals = sum(code in _TAKEN for code in stored.refused.values())
            if refusals < len(stored.stored) or not refusals:
                if cas is not None and refusals:
                    # Nobody came before us, but some nodes have something older still.
                    stored = await self._items.put(mine)
                break
            # Most have another value under this number, or a higher one; or, if they were asked to
            # replace what we had seen, something older.
            contested = cas is None
            await trio.sleep(self._rng.uniform(*_PAUSE))
        logger.info("version %d of a link is on %d nodes", seq, len(stored.stored))
        return stored

    async def keep(self, item: MutableItem) -> Stored:
        """Put again what was written in an earlier run, and keep it alive, unless there is a newer
        one."""
        return await self._items.put(item)

    async def is_newest(self, item: MutableItem) -> bool:
        """Whether the DHT has nothing that comes before it."""
        survey = await self._items.get_all(self.target, salt=self._salt)
        others = [one for one in survey.variants() if isinstance(one, MutableItem)]
        return not others or order(item) <= order(others[0])

    def stop(self) -> None:
        """Keep it alive no more. What nodes have of it expires by itself."""
        self._items.forget(self.target)
