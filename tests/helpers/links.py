"""A DHT of a few nodes that hold items by the rules of BEP 44, without a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import trio

from dht_torrent.dht.items import Item, MutableItem
from dht_torrent.dht.krpc import NodeInfo
from dht_torrent.engine.dht.surveys import Holder, ItemSurvey, Stored
from dht_torrent.ids import Address, NodeId

TARGET = bytes(20)


class FewNodes:
    """Has what `engine.following` needs of the DHT."""

    def __init__(self, count: int = 8) -> None:
        self.held: list[MutableItem | None] = [None] * count
        self.asked: list[tuple[float, int | None]] = []
        """Each `get`: when, and which sequence number was known."""
        self.surveys: list[float] = []
        self.puts: list[tuple[MutableItem, int | None]] = []
        self.refreshed: list[list[int]] = []
        """Each `put_to`: the nodes it went to."""
        self.kept: MutableItem | None = None
        self.before_put: Callable[[], None] = lambda: None
        """Called before each put takes effect, as if somebody had been quicker."""
        self.answers = True

    def info(self, number: int) -> NodeInfo:
        return NodeInfo(NodeId(bytes([number]) * 20), Address(f"10.0.0.{number + 1}", 1))

    async def get(
        self, target: bytes, *, salt: bytes = b"", seq: int | None = None, first: bool = False
    ) -> Item | None:
        self.asked.append((trio.current_time(), seq))
        newest = (await self._survey()).newest
        if isinstance(newest, MutableItem) and seq is not None and newest.seq <= seq:
            return None
        return newest

    async def get_all(
        self, target: bytes, *, salt: bytes = b"", enough: Callable[[Item], bool] | None = None
    ) -> ItemSurvey:
        self.surveys.append(trio.current_time())
        return await self._survey()

    async def _survey(self) -> ItemSurvey:
        await trio.sleep(1)
        if not self.answers:
            return ItemSurvey(TARGET, (), ())
        infos = [self.info(number) for number in range(len(self.held))]
        holders = [
            Holder(info, b"token", item, item.seq if item is not None else None)
            for info, item in zip(infos, self.held, strict=True)
        ]
        return ItemSurvey(TARGET, tuple(holders), tuple(infos))

    async def put(self, item: Item, *, cas: int | None = None, keep: bool = True) -> Stored:
        assert isinstance(item, MutableItem)
        await trio.sleep(1)
        self.before_put()
        self.puts.append((item, cas))
        self.kept = item if keep else self.kept
        return self._put(range(len(self.held)), item, cas)

    async def put_to(
        self, holders: Sequence[Holder], item: Item, *, cas: Mapping[NodeId, int] | None = None
    ) -> Stored:
        assert isinstance(item, MutableItem)
        await trio.sleep(1)
        numbers = [holder.contact.id[0] for holder in holders]
        self.refreshed.append(numbers)
        return self._put(numbers, item, None)

    def forget(self, target: bytes) -> None:
        self.kept = None

    def _put(self, numbers: Sequence[int], item: MutableItem, cas: int | None) -> Stored:
        stored, refused = [], {}
        for number in numbers:
            held = self.held[number]
            if held is not None and cas is not None and cas != held.seq:
                refused[self.info(number)] = 301
            elif held is not None and held != item and held.seq >= item.seq:
                refused[self.info(number)] = 302
            else:
                self.held[number] = item
                stored.append(self.info(number))
        return Stored(TARGET, tuple(stored), refused)
