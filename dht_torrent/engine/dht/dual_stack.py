"""Our DHT nodes of IPv4 and IPv6 (BEP 32), used as if they were one. The rule: a query to an
address goes through the DHT of its family, a lookup through both at once, and the results are
merged.

They stay two networks: each has its own table, id (BEP 42 binds it to the IP), tokens (BEP 45),
store and limits, responds from the socket that was queried, and announces the port it listens on
there. One only tells the other of nodes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import trio

from dht_torrent.bencode import Value
from dht_torrent.dht.items import Item, MutableItem, SigningKey, immutable
from dht_torrent.dht.krpc import NodeInfo, Reply
from dht_torrent.engine.dht.announces import OnPeers, PeerLookup, Scrape
from dht_torrent.engine.dht.items import sign_next
from dht_torrent.engine.dht.node import Dht
from dht_torrent.engine.dht.samples import Sample
from dht_torrent.engine.dht.surveys import Holder, ItemSurvey, Stored, order
from dht_torrent.engine.dht.views import ContactView, DhtStatus
from dht_torrent.errors import DhtTorrentError, InputError
from dht_torrent.ids import Address, HostPort, InfoHash, NodeId

__all__ = ["DualStack", "NodeInfo", "PeerLookup"]

Result = TypeVar("Result")


class DualStack:
    """One DHT node or two, IPv4 first. The owner calls their `run`."""

    def __init__(self, dhts: Sequence[Dht]) -> None:
        if not dhts or len({dht.address.is_ipv6 for dht in dhts}) < len(dhts):
            raise ValueError("one DHT node of each address family, at least one in all")
        self._dhts = tuple(sorted(dhts, key=lambda dht: dht.address.is_ipv6))
        for dht in self._dhts:
            for other in self._dhts:
                if other is not dht:
                    dht.tell_of(other)

    def __iter__(self) -> Iterator[Dht]:
        return iter(self._dhts)

    def __len__(self) -> int:
        return len(self._dhts)

    def of(self, address: Address) -> Dht | None:
        """The one that can talk to `address`."""
        for dht in self._dhts:
            if dht.address.is_ipv6 == address.is_ipv6:
                return dht
        return None

    @property
    def node_id(self) -> NodeId:
        """The first one's id."""
        return self._dhts[0].node_id

    @property
    def address(self) -> Address:
        """Where the first one is bound."""
        return self._dhts[0].address

    @property
    def seen_at(self) -> list[Address]:
        """Where others reach us, of each family in which that is known."""
        return [address for dht in self._dhts if (address := dht.seen_at) is not None]

    def port(self, family_of: Address) -> int:
        """Where we listen for those in the family of this address."""
        dht = self.of(family_of)
        return (dht if dht is not None else self._dhts[0]).address.port

    @property
    def replied_at(self) -> float | None:
        """When a node last responded to us, in either network; None: never."""
        times = [at for dht in self._dhts if (at := dht.replied_at) is not None]
        return max(times, default=None)

    @property
    def timeouts(self) -> int:
        """Queries so far that no node responded to in time, in both."""
        return sum(dht.timeouts for dht in self._dhts)

    def probe(self, count: int) -> None:
        """As `Dht.probe`, in each network."""
        for dht in self._dhts:
            dht.probe(count)

    def renew(self, *, moved: bool) -> None:
        """As `Dht.renew`."""
        for dht in self._dhts:
            dht.renew(moved=moved)

    def renew_at(self, bound: Address) -> None:
        """The socket that is bound there can send again: enter its network now."""
        for dht in self._dhts:
            if dht.address == bound:
                dht.renew(moved=False)

    def status(self) -> tuple[DhtStatus, ...]:
        """Of each."""
        return tuple(dht.status() for dht in self._dhts)

    def contacts(self) -> list[ContactView]:
        """Those of each, as `Dht.contacts` has them."""
        return [view for dht in self._dhts for view in dht.contacts()]

    async def bootstrapped(self) -> None:
        """Returns once one of them is in its network: the other's may be out of reach for good."""
        async with trio.open_nursery() as nursery:

            async def one(dht: Dht) -> None:
                await dht.bootstrapped()
                nursery.cancel_scope.cancel()

            for dht in self._dhts:
                nursery.start_soon(one, dht)

    # -- peers ----------------------------------------------------------------------------------

    async def find_peers(
        self,
        info_hash: InfoHash,
        *,
        announce: bool = False,
        port_of: Callable[[Address], int | None] | None = None,
        seed: bool = False,
        on_peers: OnPeers,
    ) -> PeerLookup:
        """As `Announces.find_peers`, of both families; `announce` tells each network the port we
        listen on there, or what `port_of` says of our address there: None is not announced."""

        async def one(dht: Dht) -> PeerLookup:
            port = None
            if announce:
                port = port_of(dht.address) if port_of is not None else dht.address.port
            return await dht.announces.find_peers(
                info_hash, announce_port=port, seed=seed, on_peers=on_peers
            )

        found = await self._all(one)
        return PeerLookup(
            tuple(dict.fromkeys(peer for lookup in found for peer in lookup.peers)),
            sum(lookup.asked for lookup in found),
            sum(lookup.answered for lookup in found),
            sum(lookup.announced_to for lookup in found),
        )

    @property
    def last_announce(self) -> float | None:
        """When a node last confirmed an announce of ours, on Trio's clock."""
        times = [dht.announces.last_at for dht in self._dhts]
        return max((time for time in times if time is not None), default=None)

    def withdraw(self, info_hash: InfoHash) -> None:
        """Announce it no more. What others have stored expires by itself."""
        for dht in self._dhts:
            dht.announces.withdraw(info_hash)

    async def scrape(self, info_hash: InfoHash) -> Scrape:
        """How large its swarm is, about (BEP 33). Who takes part under both families counts as
        two: nothing in an announce says that they are one."""
        found = await self._all(lambda dht: dht.announces.scrape(info_hash))
        return Scrape(
            sum(scrape.seeds for scrape in found),
            sum(scrape.downloaders for scrape in found),
            sum(scrape.answered for scrape in found),
        )

    # -- nodes ----------------------------------------------------------------------------------

    async def find_node(self, target: bytes) -> list[NodeInfo]:
        """The k closest nodes of each family that answer, nearest first within each."""
        found = await self._all(lambda dht: dht.find_node(target))
        return [info for nodes in found for info in nodes]

    async def ping(self, address: Address) -> NodeId:
        """Its id. Raises NoReply, and InputError if we have no socket of its family."""
        return await self._of(address).ping(address)

    async def query(
        self, address: Address, method: bytes, args: Mapping[bytes, Value] | None = None
    ) -> Reply:
        """Send any query to one node. Raises NoReply, and InputError as `ping`."""
        return await self._of(address).query(address, method, args)

    async def sample(self, address: Address, target: bytes | None = None) -> Sample:
        """Infohashes that a node stores (BEP 51), and nodes near `target`, which is random unless
        given. Asked again before the interval it named is over, its earlier answer is given. Raises
        NoReply, and InputError as `ping`."""
        dht = self._of(address)
        return await dht.samples.get(address, target if target is not None else dht.random_id())

    def maybe_enter(self, points: Sequence[HostPort]) -> None:
        """As `Dht.maybe_enter`, into both networks: which one a name is in shows when it is
        resolved."""
        for dht in self._dhts:
            dht.maybe_enter(points)

    def maybe_contact(self, address: Address) -> None:
        """A peer says a node listens there (a PORT message): ping it some time."""
        dht = self.of(address)
        if dht is not None:
            dht.maybe_contact(address)

    # -- items (BEP 44) -------------------------------------------------------------------------

    async def get(
        self, target: bytes, *, salt: bytes = b"", seq: int | None = None, first: bool = False
    ) -> Item | None:
        """As `Items.get`: of a mutable item the newest of either network."""
        items: list[Item] = []
        with trio.CancelScope() as scope:

            async def one(dht: Dht) -> None:
                item = await dht.items.get(target, salt=salt, seq=seq, first=first)
                if item is not None:
                    items.append(item)
                    if first or not isinstance(item, MutableItem):
                        scope.cancel()  # what the other network has cannot be better

            await self._all(one)
        return min(items, key=order) if items else None

    async def get_all(
        self, target: bytes, *, salt: bytes = b"", enough: Callable[[Item], bool] | None = None
    ) -> ItemSurvey:
        """As `Items.get_all`: of both networks, one after the other. With `enough`, each network is
        looked through until it is: they hold different copies."""
        found = await self._all(lambda dht: dht.items.get_all(target, salt=salt, enough=enough))
        own = [survey.own for survey in found if survey.own is not None]
        return ItemSurvey(
            target,
            tuple(holder for survey in found for holder in survey.holders),
            tuple(info for survey in found for info in survey.closest),
            min(own, key=order) if own else None,
        )

    async def put(self, item: Item, *, cas: int | None = None, keep: bool = True) -> Stored:
        """As `Items.put`, in both networks. Raises InputError."""
        return _together(await self._all(lambda dht: dht.items.put(item, cas=cas, keep=keep)))

    async def put_immutable(self, value: Value) -> Stored:
        """As `Items.put_immutable`, in both networks. Raises InputError."""
        return await self.put(immutable(value))

    async def put_mutable(
        self,
        key: SigningKey,
        salt: bytes,
        value: Value,
        seq: int | None = None,
        cas: int | None = None,
    ) -> Stored:
        """As `Items.put_mutable`, the same item in both networks. Raises InputError."""
        return await self.put(await sign_next(self.get, key, salt, value, seq), cas=cas)

    async def put_to(
        self, holders: Sequence[Holder], item: Item, *, cas: Mapping[NodeId, int] | None = None
    ) -> Stored:
        """As `Items.put_to`: each holder by the DHT of its family."""

        async def one(dht: Dht) -> Stored:
            theirs = [holder for holder in holders if self.of(holder.contact.address) is dht]
            return await dht.items.put_to(theirs, item, cas=cas)

        return _together(await self._all(one))

    def forget(self, target: bytes) -> None:
        """Keep our item alive no more."""
        for dht in self._dhts:
            dht.items.forget(target)

    # -- within ---------------------------------------------------------------------------------

    def _of(self, address: Address) -> Dht:
        dht = self.of(address)
        if dht is None:
            family = "IPv6" if address.is_ipv6 else "IPv4"
            raise InputError(f"this node has no {family} socket to reach {address} from")
        return dht

    async def _all(self, ask: Callable[[Dht], Awaitable[Result]]) -> list[Result]:
        """Ask each at the same time; the answers in their order. Raises what the first one of them
        raised that did, as it was."""
        answers: dict[int, Result | DhtTorrentError] = {}

        async def one(number: int, dht: Dht) -> None:
            try:
                answers[number] = await ask(dht)
            except DhtTorrentError as error:
                answers[number] = error  # raised outside, or the nursery would wrap it in a group

        if len(self._dhts) == 1:
            return [await ask(self._dhts[0])]
        async with trio.open_nursery() as nursery:
            for number, dht in enumerate(self._dhts):
                nursery.start_soon(one, number, dht)
        found: list[Result] = []
        for number in range(len(self._dhts)):
            answer = answers[number]
            if isinstance(answer, DhtTorrentError):
                raise answer
            found.append(answer)
        return found


def _together(found: Sequence[Stored]) -> Stored:
    refused = {info: code for stored in found for info, code in stored.refused.items()}
    return Stored(
        found[0].target,
        tuple(info for stored in found for info in stored.stored),
        refused,
        sum(stored.silent for stored in found),
    )
