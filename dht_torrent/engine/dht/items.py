"""Gets and puts items (BEP 44). The rule: what is returned was verified here, whichever node sent
it; and what we have put is put again before its holders are gone, for as long as we want it there.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import trio

from dht_torrent.bencode import Value
from dht_torrent.dht import krpc
from dht_torrent.dht.items import (
    MAX_SEQ,
    ImmutableItem,
    Item,
    MutableItem,
    Put,
    SigningKey,
    check_seq,
    immutable,
    mutable_target,
    parse_reply,
    sign,
)
from dht_torrent.dht.krpc import ErrorReply, NodeInfo, Reply
from dht_torrent.dht.lifetimes import Lifetimes
from dht_torrent.engine.dht.core import Core
from dht_torrent.engine.dht.surveys import Holder, ItemSurvey, Stored, mismatches, seq_of
from dht_torrent.engine.dht.transactions import Answer
from dht_torrent.engine.wakeup import AutoResetEvent
from dht_torrent.errors import InputError, KrpcError
from dht_torrent.ids import Address, NodeId

__all__ = [
    "ImmutableItem",
    "Item",
    "Items",
    "MutableItem",
    "SigningKey",
    "immutable",
    "mutable_target",
    "sign",
]

logger = logging.getLogger(__name__)

PUT_PATIENCE = 2.0
"""Seconds to wait for answers to puts. Those asked have answered a moment ago."""
REPUBLISH_PAUSE = 2.0
"""Seconds at least between two rounds of putting items again."""
REPUBLISH_AT_ONCE = 8
"""Items put again side by side in such a round: one alone may wait seconds for those who have just
left, and there are thousands."""
_NEVER = float("inf")
_SELF = Address("127.0.0.1", 1)  # who puts our own items into our own store


@dataclass(slots=True, eq=False)
class _Own:
    """An item we keep alive."""

    item: Item
    spread: float
    """Of the interval until it is put again: not all nodes at the same time."""
    before: _Own | None = None
    """What we kept alive here until this is accepted; it goes on if `cas` forbids this."""
    put_at: float | None = None
    """None while it is being put."""
    holders: tuple[NodeId, ...] = ()
    """Who confirmed the last put."""
    additions: int = 0  # the table's, when it was put
    size: int = 0


class Items:
    """Gets and puts items, and keeps our own alive."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._table = core.table
        self._store = core.items
        self._config = core.config
        self._own: dict[bytes, _Own] = {}
        self._lifetimes = Lifetimes(core.config)
        self._wakeup = AutoResetEvent()

    async def get(
        self, target: bytes, *, salt: bytes = b"", seq: int | None = None, first: bool = False
    ) -> Item | None:
        """The item under `target`, verified (BEP 44): of a mutable one the newest that the closest
        nodes have. None when no node has it. The target of a mutable item is
        `mutable_target(key, salt)`; its salt must be given, as no node tells it.

        `seq`: only a mutable item newer than that. `first`: be content with the first valid
        response, which may not be the newest. Raises InputError for a `seq` out of bounds or a
        target that is not 20 bytes long."""
        if seq is not None:
            check_seq(seq)
        enough = _any if first else _immutable_one
        survey = await self._survey(target, salt, seq, enough=enough)
        known = seq is not None and survey.is_known(seq)
        if survey.newest is None and not known and self._config.paths > 1:
            # It may not exist, or liars were on the path: they would have to be on all of these.
            paths = self._config.retry_paths * self._config.paths
            survey = await self._survey(target, salt, seq, enough=enough, paths=paths)
        return survey.newest

    async def get_all(
        self, target: bytes, *, salt: bytes = b"", enough: Callable[[Item], bool] | None = None
    ) -> ItemSurvey:
        """All that the closest nodes have under `target`: which node has which item, at which
        `seq`, and with which token something could be put there.

        With `enough`, only what they have until one of them names an item of which it is true, to
        be read and not to be written: it takes one path, and no second try when nothing is found.
        What we hold ourselves is not enough, as anybody may have put it here. Raises InputError
        for a target that is not 20 bytes long."""
        if enough is not None:
            return await self._survey(target, salt, None, enough=enough, own_is_enough=False)
        return await self._survey(target, salt, None, stores=True)

    async def put(self, item: Item, *, cas: int | None = None, keep: bool = True) -> Stored:
        """Put an item on the closest nodes, and with `keep` put it again every `item_republish`
        seconds, or more often where its holders leave sooner, until `forget` or until a newer one
        turns up. Another owner's item may be kept alive. `cas`: only if that is the newest sequence
        number there, or nothing is; else what was kept before is kept on. Raises InputError when
        too many are kept already, or for a `cas` out of bounds."""
        most = self._config.max_own_items
        if keep and item.target not in self._own and len(self._own) >= most:
            raise InputError(f"this node keeps {most} items alive at most")
        if cas is not None:
            check_seq(cas)
        own = None
        if keep:
            before = self._own.get(item.target) if cas is not None else None
            own = _Own(item, self._core.rng.uniform(0.9, 1.0), before)
            self._own[item.target] = own
        return await self._publish(item, cas, own)

    async def put_immutable(self, value: Value) -> Stored:
        """Put a value under its hash, and keep it there. Raises InputError when it is too long."""
        return await self.put(immutable(value))

    async def put_mutable(
        self,
        key: SigningKey,
        salt: bytes,
        value: Value,
        seq: int | None = None,
        cas: int | None = None,
    ) -> Stored:
        """Sign and put a value, and keep it there. `seq` None: one more than the newest found.
        `cas`: only where that sequence number is stored now. Raises InputError when it is too
        long, or the highest `seq` there is has been used."""
        return await self.put(await sign_next(self.get, key, salt, value, seq), cas=cas)

    def forget(self, target: bytes) -> None:
        """Keep our item alive no more. What others have stored expires by itself."""
        self._own.pop(target, None)

    def grown(self) -> None:
        """The table has new contacts."""
        if self._own:
            self._wakeup.set()

    async def run(self) -> None:
        """A service: puts our items again, before their holders are gone and where the network has
        outgrown them."""
        while True:
            with trio.move_on_at(min(map(self._due, self._own.values()), default=_NEVER)):
                await self._wakeup.wait()
            slots = trio.Semaphore(REPUBLISH_AT_ONCE)
            now = trio.current_time()
            async with trio.open_nursery() as nursery:
                for own in list(self._own.values()):
                    if self._due(own) <= now or self._is_outgrown(own):
                        nursery.start_soon(self._republish, own, slots)
            await trio.sleep(REPUBLISH_PAUSE)

    async def _republish(self, own: _Own, slots: trio.Semaphore) -> None:
        async with slots:
            if self._own.get(own.item.target) is own and own.put_at is not None:
                await self._publish(own.item, None, own)

    def _due(self, own: _Own) -> float:
        """When to put it again. May change, with what is seen of other items."""
        if own.put_at is None:
            return _NEVER
        return own.put_at + own.spread * self._lifetimes.interval()

    def _is_outgrown(self, own: _Own) -> bool:
        if own.put_at is None or self._table.additions == own.additions:
            return False  # being put just now; or there is no new contact
        return len(own.holders) < self._config.k or len(self._table) >= 2 * own.size

    async def _publish(self, item: Item, cas: int | None, own: _Own | None) -> Stored:
        target = item.target
        if own is not None:
            put_at, own.put_at = own.put_at, None
            own.additions, own.size = self._table.additions, len(self._table)
        stored = Stored(target, ())
        lost = False
        try:
            salt = item.salt if isinstance(item, MutableItem) else b""
            survey = await self._survey(target, salt, None, stores=True)
            if own is not None and put_at is not None:
                have = {holder.contact.id for holder in survey.holders if holder.item is not None}
                kept = sum(holder in have for holder in own.holders)
                elapsed = trio.current_time() - put_at
                self._lifetimes.note(kept, len(own.holders) - kept, elapsed)
            newest = survey.newest
            if cas is not None and newest is not None and seq_of(newest) != cas:
                # A node that has nothing yet would accept it, and hide what others have.
                lost, stored = True, Stored(target, (), mismatches(survey, cas))
            else:
                self._keep_here(item)
                holders = survey.targets()
                ids = [holder.contact.id for holder in holders]
                wanted = dict.fromkeys(ids, cas) if cas is not None else {}
                stored = await self.put_to(holders, item, cas=wanted)
                refusals = list(stored.refused.values()).count(krpc.CAS_MISMATCH)
                lost = cas is not None and refusals > len(stored.stored)
        finally:
            if own is not None:
                own.holders = tuple(info.id for info in stored.stored)
                own.put_at = trio.current_time()
                self._wakeup.set()
        if own is None:
            return stored
        before, own.before = own.before, None
        if lost:
            if self._own.get(target) is own:
                del self._own[target]
                if before is not None:
                    self._own[target] = before
        elif newest is not None and seq_of(newest) > seq_of(item):
            logger.info("item %s was replaced by a newer one", target.hex()[:8])
            if self._own.get(target) is own:
                del self._own[target]  # another holder of the key has gone on
        return stored

    def _keep_here(self, item: Item) -> None:
        """We are a node of the DHT as well, and the only one at first."""
        now = trio.current_time()
        self._store.put(Put(item, None), _SELF, self._table.own_id, now, trusted=True)

    async def _survey(
        self,
        target: bytes,
        salt: bytes,
        seq: int | None,
        *,
        enough: Callable[[Item], bool] | None = None,
        own_is_enough: bool = True,
        stores: bool = False,
        paths: int = 1,
    ) -> ItemSurvey:
        """Ends with the first item that is `enough`; None: when all were asked."""
        holders: dict[NodeInfo, Holder] = {}
        own = self._held_here(target, salt, seq)
        found = own_is_enough and enough is not None and own is not None and enough(own)

        def on_reply(contact: NodeInfo, reply: Reply) -> None:
            nonlocal found
            try:
                item = parse_reply(reply.body, target, salt)
            except KrpcError:
                item = None
            said = reply.body.get(b"seq")
            if isinstance(item, MutableItem) and seq is not None and item.seq <= seq:
                item = None
            holders[contact] = Holder(
                contact, reply.token, item, said if isinstance(said, int) else None
            )
            found = found or (enough is not None and item is not None and enough(item))

        args: dict[bytes, Value] = {b"target": target}
        if seq is not None:
            args[b"seq"] = seq
        paths = self._config.paths if stores else paths
        lookup = await self._core.lookups.run(
            target,
            krpc.GET,
            args,
            on_reply,
            stores=stores,
            paths=paths,
            enough=(lambda: found) if enough is not None else None,
        )
        number = int.from_bytes(target, "big")
        ordered = sorted(
            holders.values(),
            key=lambda holder: int.from_bytes(holder.contact.id, "big") ^ number,
        )
        return ItemSurvey(target, tuple(ordered), tuple(lookup.closest()), own)

    def _held_here(self, target: bytes, salt: bytes, seq: int | None) -> Item | None:
        item = self._store.get(target, trio.current_time())
        if isinstance(item, MutableItem) and (
            item.salt != salt or (seq is not None and item.seq <= seq)
        ):
            return None
        return item

    async def put_to(
        self, holders: Sequence[Holder], item: Item, *, cas: Mapping[NodeId, int] | None = None
    ) -> Stored:
        """Put an item on the nodes a survey (`get_all`) found, each with the `cas` given for it. It
        is not put again."""
        wanted = cas or {}
        stored: list[NodeInfo] = []
        refused: dict[NodeInfo, int] = {}
        asked = [holder for holder in holders if holder.token is not None]
        silent = len(asked)
        news = AutoResetEvent()

        def heard_from(contact: NodeInfo) -> Callable[[Answer], None]:
            def came(answer: Answer) -> None:
                nonlocal silent
                if isinstance(answer, Reply):
                    stored.append(contact)
                elif isinstance(answer, ErrorReply):
                    refused[contact] = answer.code
                silent -= answer is not None
                news.set()

            return came

        fields = item.fields()
        if isinstance(item, MutableItem) and item.salt:
            fields[b"salt"] = item.salt
        for holder in asked:
            assert holder.token is not None
            contact = holder.contact
            args: dict[bytes, Value] = {**fields, b"token": holder.token}
            if contact.id in wanted:
                args[b"cas"] = wanted[contact.id]
            await self._core.transactions.send(
                contact.address, krpc.PUT, args, heard_from(contact), contact.id
            )
        with trio.move_on_after(PUT_PATIENCE):
            while silent:
                await news.wait()
        return Stored(item.target, tuple(stored), refused, silent)


def _any(item: Item) -> bool:
    return True


def _immutable_one(item: Item) -> bool:
    """One who has the value under its hash needs no second opinion."""
    return isinstance(item, ImmutableItem)


async def sign_next(
    get: Callable[..., Awaitable[Item | None]],
    key: SigningKey,
    salt: bytes,
    value: Value,
    seq: int | None,
) -> MutableItem:
    """A value signed as the item that follows the newest one which `get` finds, or with `seq`.
    Raises InputError when it cannot be put at all."""
    if seq is None:
        probe = sign(key, value, 0, salt)  # finds out, before any query, whether it is too long
        newest = await get(probe.target, salt=salt)
        seq = seq_of(newest) + 1 if newest is not None else 1
        if seq > MAX_SEQ:
            raise InputError("the item here has the highest sequence number there is")
    return sign(key, value, seq, salt)
