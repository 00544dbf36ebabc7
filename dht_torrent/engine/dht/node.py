"""The DHT node (BEP 5) on the network. The rule: no datagram waits for anything; every
answer, match and table change happens at once, and whoever waits for a reply is woken.

What to say, whom to trust and whom to ask is decided in `dht_torrent.dht`; here it is done.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio
from trio import TaskStatus

from dht_torrent import bencode
from dht_torrent.bencode import Value
from dht_torrent.config import DhtConfig
from dht_torrent.dht import krpc
from dht_torrent.dht.answer import Answerer
from dht_torrent.dht.identity import Votes, is_compliant, make_id
from dht_torrent.dht.items import Item, ItemStore, SigningKey
from dht_torrent.dht.krpc import BadQuery, ErrorReply, NodeInfo, Query, Reply
from dht_torrent.dht.origins import facts
from dht_torrent.dht.ping_queue import Strangers
from dht_torrent.dht.store import PeerStore
from dht_torrent.dht.table import Table
from dht_torrent.dht.tokens import Tokens
from dht_torrent.engine.dht.announces import Announces, OnPeers, PeerLookup, Scrape
from dht_torrent.engine.dht.bootstrap import Joining
from dht_torrent.engine.dht.items import Holder, Items, Stored, Survey
from dht_torrent.engine.dht.lookups import Walks
from dht_torrent.engine.dht.maintenance import TEND_INTERVAL, Upkeep
from dht_torrent.engine.dht.responder import QUERY_TAIL, Queries, Traffic
from dht_torrent.engine.dht.samples import Sample, Samples
from dht_torrent.engine.dht.transactions import Questions
from dht_torrent.engine.faults import Faults
from dht_torrent.engine.net.protocols import DatagramSocket, Network
from dht_torrent.errors import BencodeError, KrpcError
from dht_torrent.ids import (
    Address,
    HostPort,
    InfoHash,
    NodeId,
    address_from_compact,
    parse_node_id,
)
from dht_torrent.trace import Trace, nothing

__all__ = [
    "ContactView",
    "Dht",
    "DhtStatus",
    "Holder",
    "NodeInfo",
    "OnPeers",
    "PeerLookup",
    "Sample",
    "Scrape",
    "Stored",
    "Survey",
]

logger = logging.getLogger(__name__)

MIN_DATAGRAM: Final = 20
"""Shorter datagrams are no KRPC message (libtorrent)."""
MAX_STATE: Final = 64 * 1024
"""Bytes of saved state we care to read; 300 contacts take 8 KB."""


@dataclass(frozen=True, slots=True)
class DhtStatus:
    """The DHT at a glance. Counts are since the start unless the name says otherwise."""

    node_id: str
    address: Address
    good: int
    questionable: int
    bad: int
    buckets: int
    queries_in: int
    queries_out: int
    replies_in: int
    replies_per_minute: float
    dropped: Mapping[str, int]
    """Datagrams ignored, by reason."""
    bootstrap_answered: int
    bootstrap_total: int
    stored_torrents: int
    stored_peers: int
    stored_items: int = 0
    external_ip: str | None = None
    """Our IP as most others see it; None before enough have said (BEP 42)."""
    network_size: float | None = None
    """About how many nodes the DHT has; None before the first lookup."""
    besieged: int = 0
    """Lookups that found their target's surroundings too dense."""


@dataclass(frozen=True, slots=True)
class ContactView:
    """A contact in the table, as it is now."""

    id: NodeId
    address: Address
    good: bool
    fails: int
    """Questions unanswered since its last reply."""
    seconds: float
    """Since we last heard from it."""
    compliant: bool
    """Whether its id fits its IP (BEP 42)."""


class Dht:
    """A node of the DHT, for one address family: that of `bind`.

    `bind` may be a socket that is open already; `run` closes it. `state` is what `state()` gave
    in an earlier life; what is wrong with it is ignored. `node_id` wins over the saved one. A fault
    of ours ends one datagram's handling, or one service for a moment, and goes to `faults`; without
    them it ends `run`.
    """

    def __init__(
        self,
        network: Network,
        bind: Address | DatagramSocket,
        config: DhtConfig,
        *,
        rng: random.Random,
        bootstrap: Sequence[HostPort] = (),
        node_id: NodeId | None = None,
        saved: Sequence[Address] = (),
        state: bytes | None = None,
        trace: Trace = nothing,
        faults: Faults | None = None,
    ) -> None:
        saved_id, contacts = _restore(state) if state is not None else (None, [])
        self.node_id = node_id or saved_id or NodeId(rng.randbytes(20))
        self._network = network
        self._bind = bind
        self._config = config
        self._trace = trace
        self._faults = faults if faults is not None else Faults(fail_fast=True)
        # Strangers see numbers drawn here; enough of them would tell the generator's state. So
        # transaction ids and token secrets come from sources of their own.
        self._rng = random.Random(rng.getrandbits(128))
        address = bind if isinstance(bind, Address) else bind.address
        self._address = address
        self._ipv6 = address.is_ipv6
        self._socket: DatagramSocket | None = None
        # Waiting for the end of a batch of datagrams: an answer to each and a few pings at most.
        self._outbox: list[tuple[bytes, Address]] = []
        self._is_gathering = False
        now = 0.0  # nothing has happened yet; `run` sets the clock before anything does
        self._table = Table(self.node_id, config, now, ipv6=self._ipv6)
        self._store = PeerStore(config)
        self._item_store = ItemStore(config)
        tokens = Tokens(random.Random(rng.getrandbits(256)), config.token_rotation, now)
        self._answerer = Answerer(
            self._table, self._store, tokens, config, self._rng, items=self._item_store
        )
        self._strangers = Strangers(config)
        self._votes = Votes(config)
        self._questions = Questions(
            self.node_id,
            config,
            rng.randbytes(20),
            send=self._send,
            asked=self._table.asked,
            silent=lambda question, now: self._upkeep.silent(question, now),
            proven=lambda address: self._table.at(address) is not None,
        )
        self._walks = Walks(self._table, self._questions, config, trace)
        self._walks.want = self._want
        self._upkeep = Upkeep(
            self._table, self._strangers, self._questions, self._walks, config, self._rng
        )
        self._sibling: Dht | None = None
        self._announces = Announces(
            self._walks,
            self._questions,
            self._table,
            self._store,
            config,
            self._rng,
            port=lambda: self._address.port,
        )
        self._items = Items(
            self._walks, self._questions, self._table, self._item_store, config, self._rng
        )
        self._samples = Samples(self._questions, config)
        self._traffic = Traffic()
        self._queries = Queries(
            self._answerer,
            self._strangers,
            self._traffic,
            config,
            self._rng,
            now,
            say=self._outbox.append,
            heard=self._announces.heard,
        )
        self._joining = Joining(
            network,
            self._table,
            self._questions,
            self._walks,
            config,
            self._rng,
            points=bootstrap,
            saved=[*saved, *contacts],
            own_address=lambda: self._address,
        )

    @property
    def address(self) -> Address:
        """Where it is bound; the real port once `run` has started."""
        return self._address

    async def run(self, *, task_status: TaskStatus[Address] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Started means bound and answering. Raises OSError if the
        address cannot be bound."""
        bind = self._bind
        socket = await self._network.open_udp(bind) if isinstance(bind, Address) else bind
        try:
            self._socket = socket
            self._address = socket.address
            self._table.begin(trio.current_time())
            async with trio.open_nursery() as nursery:
                for what, service in (
                    ("receiving", partial(socket.serve, self._take)),
                    ("timeouts", self._questions.expire),
                    ("upkeep", self._tend),
                    ("refresh", self._upkeep.refresh),
                    ("bootstrap", self._joining.run),
                    ("a change of id", self._joining.follow_id),
                    ("announcing again", self._announces.run),
                    ("putting items again", self._items.run),
                ):
                    nursery.start_soon(self._faults.keep, f"the DHT's {what}", service)
                task_status.started(self._address)
        finally:
            self._socket = None
            socket.close()
            self._questions.close()

    # -- what others call ---------------------------------------------------------------------

    async def bootstrapped(self) -> None:
        """Returns once somebody has answered and our own neighbourhood was looked up; at once
        for a node with nobody to ask."""
        await self._joining.done.wait()

    @property
    def is_bootstrapped(self) -> bool:
        """Whether `bootstrapped` returns at once."""
        return self._joining.done.is_set()

    async def find_peers(
        self,
        info_hash: InfoHash,
        *,
        announce_port: int | None = None,
        seed: bool = False,
        on_peers: OnPeers,
    ) -> PeerLookup:
        """Look for peers, and with `announce_port` tell the closest nodes that we are one, or even
        a `seed` (BEP 33).

        `on_peers` is called with each new batch as it comes in. With `announce_port` the torrent
        stays known until `withdraw`: it is announced again when the node meets new contacts in a
        network too small to hold it, and `on_peers` hears of peers that turn up meanwhile, also
        after this has returned. Repeat every quarter of an hour. We may be among the peers.
        """
        return await self._announces.find_peers(info_hash, announce_port, on_peers, seed)

    @property
    def last_announce(self) -> float | None:
        """When a node last confirmed an announce of ours, on Trio's clock."""
        return self._announces.last_at

    def withdraw(self, info_hash: InfoHash) -> None:
        """Announce it no more. What others have stored expires by itself."""
        self._announces.withdraw(info_hash)

    async def scrape(self, info_hash: InfoHash) -> Scrape:
        """How large its swarm is, about (BEP 33)."""
        return await self._announces.scrape(info_hash)

    async def find_node(self, target: bytes) -> list[NodeInfo]:
        """The k nodes closest to `target` that answer, nearest first."""
        return (await self._walks.find_node(target)).closest()

    async def get(
        self, target: bytes, *, salt: bytes = b"", seq: int | None = None, first: bool = False
    ) -> Item | None:
        """The item under `target`, verified (BEP 44): of a mutable one the newest that the closest
        nodes have. None when nobody has it. The target of a mutable item is
        `mutable_target(key, salt)`; its salt must be told, for nobody else tells it.

        `seq`: only a mutable item newer than that. `first`: be content with the first valid answer,
        which may not be the newest. Raises InputError for a `seq` out of bounds."""
        return await self._items.get(target, salt=salt, seq=seq, first=first)

    async def get_all(self, target: bytes, *, salt: bytes = b"") -> Survey:
        """All that the closest nodes have under `target`: who has which item, at which `seq`, and
        with which token something could be put there."""
        return await self._items.get_all(target, salt=salt)

    async def put(self, item: Item, *, cas: int | None = None, keep: bool = True) -> Stored:
        """Put an item on the closest nodes, and with `keep` put it again every `item_republish`
        seconds, or more often where its holders leave sooner, until `forget` or until a newer one
        turns up. Anybody's item may be kept alive. `cas`: only if that is the newest sequence
        number there, or nothing is; else what was kept before is kept on.
        Raises InputError when too many are kept already, or for a `cas` out of bounds."""
        return await self._items.put(item, cas=cas, keep=keep)

    async def put_immutable(self, value: Value) -> Stored:
        """Put a value under its hash, and keep it there. Raises InputError when it is too long."""
        return await self._items.put_immutable(value)

    async def put_mutable(
        self,
        key: SigningKey,
        salt: bytes,
        value: Value,
        seq: int | None = None,
        cas: int | None = None,
    ) -> Stored:
        """Sign and put a value, and keep it there. `seq` None: one more than the newest found.
        `cas`: only where that sequence number is stored now. Raises InputError when it is too long.
        """
        return await self._items.put_mutable(key, salt, value, seq, cas)

    async def put_to(
        self, holders: Sequence[Holder], item: Item, *, cas: Mapping[NodeId, int] | None = None
    ) -> Stored:
        """Put an item on the nodes a survey (`get_all`) found, each with the `cas` given for it. It
        is not put again."""
        return await self._items.put_to(holders, item, cas=cas)

    def forget(self, target: bytes) -> None:
        """Keep our item alive no more. What others have stored expires by itself."""
        self._items.forget(target)

    async def sample(self, address: Address, target: bytes | None = None) -> Sample:
        """Infohashes that a node stores (BEP 51), and nodes near `target`. Asked again before the
        interval it named is over, the earlier answer is given. Raises NoReply."""
        where = target if target is not None else self._rng.randbytes(20)
        return await self._samples.ask(address, where)

    async def ping(self, address: Address) -> NodeId:
        """Its id. Raises NoReply."""
        return (await self.ask(address, krpc.PING)).id

    async def ask(
        self, address: Address, method: bytes, args: Mapping[bytes, Value] | None = None
    ) -> Reply:
        """Ask one node anything; `id` is added. Raises NoReply for silence and for refusals."""
        return await self._questions.ask(address, method, args or {})

    def maybe_contact(self, address: Address) -> None:
        """Somebody says a node listens there (a PORT message): ping it some time."""
        known = self._table.at(address) is not None
        if address.is_usable and address.is_ipv6 == self._ipv6 and not known:
            self._strangers.add(address, trio.current_time(), at_once=True)

    def tell_of(self, other: Dht) -> None:
        """Name nodes of `other`, a DHT node of ours in the other address family, to those who want
        them (BEP 32), and tell it of nodes there as long as it knows few. Call it on both."""
        self._answerer.sibling = other._table
        self._sibling = other
        self._joining.sibling = other._walks

    def heard_of(self, nodes: Sequence[NodeInfo], source: Address) -> None:
        """`source`, in the other family, tells of these nodes in ours: ping some, while we know
        few. Later our own lookups find better ones, and a liar there has no say here."""
        if self._knows_few():
            self._upkeep.told_of(nodes, source, trio.current_time())

    def contacts(self) -> list[ContactView]:
        """The live contacts, those nearest to our own id last."""
        now = trio.current_time()
        own = int.from_bytes(self.node_id, "big")
        return [
            ContactView(
                contact.id,
                contact.address,
                self._table.is_good(contact, now),
                contact.fails,
                now - contact.last_heard,
                contact.is_compliant,
            )
            for contact in sorted(self._table, key=lambda c: -(c.long_id ^ own))
        ]

    def random_id(self) -> bytes:
        """A target for a lookup that is about the network and not about the target."""
        return self._rng.randbytes(20)

    def state(self) -> bytes:
        """Our id and the good contacts, most recently heard from first, for the next start."""
        now = trio.current_time()
        good = [contact for contact in self._table if self._table.is_good(contact, now)]
        good.sort(key=lambda contact: -contact.last_heard)
        addresses = [contact.address for contact in good]
        if len(addresses) < self._config.k:
            # A run too short, or offline, must not forget those it was given.
            addresses = list(dict.fromkeys([*addresses, *self._joining.saved]))
        del addresses[self._config.saved_contacts :]
        compact: list[Value] = [address.compact() for address in addresses]
        return bencode.encode({b"id": self.node_id, b"nodes": compact})

    def status(self) -> DhtStatus:
        now = trio.current_time()
        good, questionable, bad = self._table.counts(now)
        traffic = self._traffic
        return DhtStatus(
            node_id=self.node_id.hex(),
            address=self._address,
            good=good,
            questionable=questionable,
            bad=bad,
            buckets=len(self._table.buckets),
            queries_in=traffic.queries,
            queries_out=self._questions.asked,
            replies_in=traffic.replies,
            replies_per_minute=traffic.replies_per_minute(now),
            dropped=dict(traffic.dropped),
            bootstrap_answered=len(self._joining.answered),
            bootstrap_total=len(self._joining.points),
            stored_torrents=self._store.torrents,
            stored_peers=len(self._store),
            stored_items=len(self._item_store),
            external_ip=self._votes.elected,
            network_size=self._walks.density.size,
            besieged=self._walks.crowds,
        )

    # -- datagrams in -------------------------------------------------------------------------

    def _take(self, datagrams: Sequence[tuple[bytes, Address]]) -> None:
        now = trio.current_time()
        additions = self._table.additions
        took = self._queries.took
        # All that came is read, then answered, then sent: the interpreter runs faster when the
        # kernel does not take its caches away after each datagram.
        self._is_gathering = True
        for data, source in datagrams:
            try:
                if not (data.endswith(QUERY_TAIL) and took(data, source, now)):
                    self._datagram(data, source, now)
            except Exception as error:  # noqa: BLE001 - the boundary of a bug in one datagram
                self._faults.take(error, f"a datagram from {source}")
        try:
            self._upkeep.verify(now)
        except Exception as error:  # noqa: BLE001 - the same
            self._faults.take(error, "the DHT's pings of strangers")
        self._is_gathering = False
        if self._outbox:
            if self._socket is not None:
                self._traffic.drop("not sent", self._socket.send_all(self._outbox))
            self._outbox.clear()
        if self._table.additions != additions:
            self._joining.grown.ring()
            self._announces.grown()
            self._items.grown()

    def _datagram(self, data: bytes, source: Address, now: float) -> None:
        if not MIN_DATAGRAM <= len(data) <= self._config.max_datagram or data[:1] != b"d":
            self._traffic.drop("size")
            return
        if not facts(source)[0]:
            self._traffic.drop("source")
            return
        try:
            message = krpc.decode_any(data)
        except KrpcError:
            self._traffic.drop("malformed")
            return
        if isinstance(message, Query | BadQuery):
            self._queries.take(message, source, now)
        else:
            self._reply(message, source, now)

    def _reply(self, message: Reply | ErrorReply, source: Address, now: float) -> None:
        question = self._questions.match(message, source)
        if question is None:
            self._traffic.drop("unasked")
            return
        if message.ip is not None:
            self._seen_at(message.ip, source, now)
        if isinstance(message, ErrorReply):
            question.done(message)
            return
        if message.id == self.node_id:
            self._traffic.drop("own id")
            question.done(None)
            return
        self._traffic.reply(now)
        if self._sibling is not None:
            self._sibling.heard_of(message.nodes(ipv6=not self._ipv6), source)
        for contact in self._table.replied(message.id, source, now):
            self._upkeep.probe(contact, now)
        # Whoever answers under another id than the one we were told of is somebody else.
        stranger = question.expected is not None and question.expected != message.id
        question.done(None if stranger else message)

    def _seen_at(self, ours: Address, source: Address, now: float) -> None:
        """`source`, whom we asked, says that it sees us there (BEP 42)."""
        if ours.is_ipv6 != self._ipv6:
            return
        elected = self._votes.vote(ours.host, source, now)
        if elected is None:
            return
        logger.info("others see us at %s", elected)
        if self._config.secure_ids and not is_compliant(self.node_id, Address(elected, 1)):
            self.node_id = make_id(elected, self._rng)
            self._questions.node_id = self.node_id
            self._table.rename(self.node_id, now)
            logger.info("our id is now %s, to fit our address", self.node_id.hex())
            self._joining.renamed.ring()

    def _send(self, data: bytes, to: Address) -> None:
        if self._is_gathering:
            self._outbox.append((data, to))
        elif self._socket is not None and not self._socket.send(data, to):
            self._traffic.drop("not sent")

    async def _tend(self) -> None:
        while True:
            await trio.sleep(TEND_INTERVAL)
            now = trio.current_time()
            self._upkeep.tend(now)
            self._store.expire(now)
            self._item_store.expire(now)

    def _knows_few(self) -> bool:
        return len(self._table) < 2 * self._config.k

    def _want(self) -> Mapping[bytes, Value]:
        """For a find_node: nodes of both families, while our DHT of the other one knows few."""
        if self._sibling is None or not self._sibling._knows_few():
            return {}
        return {b"want": [b"n4", b"n6"]}


def _restore(state: bytes) -> tuple[NodeId | None, list[Address]]:
    """What can be used of a saved state: anything may be in it."""
    try:
        saved = bencode.decode(state, max_depth=3, max_tokens=2000, max_size=MAX_STATE)
    except BencodeError:
        return None, []
    if not isinstance(saved, dict):
        return None, []
    node_id: NodeId | None = None
    contacts: list[Address] = []
    try:
        node_id = parse_node_id(saved.get(b"id"))
        nodes = saved.get(b"nodes")
        raws = nodes if isinstance(nodes, list) else []
        contacts = [address_from_compact(raw) for raw in raws if isinstance(raw, bytes)]
    except ValueError:
        logger.warning("part of the saved DHT state is unusable and was ignored")
    return node_id, [address for address in contacts if address.is_usable]
