"""The DHT node (BEP 5) on the network. The rule: no datagram waits for anything; every response,
match and table change happens at once, and the task that waits for a reply is woken.

What to say, whom to trust and whom to query is decided in `dht_torrent.dht`; here it is done.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

import trio
from trio import TaskStatus

from dht_torrent.bencode import Value
from dht_torrent.config import DhtConfig
from dht_torrent.dht import krpc
from dht_torrent.dht.answer import Answerer
from dht_torrent.dht.identity import SeenPorts, Votes, is_compliant, make_id
from dht_torrent.dht.krpc import BadQuery, ErrorReply, NodeInfo, Query, Reply
from dht_torrent.dht.origins import Origin, facts
from dht_torrent.dht.saved import SavedState, decode_state, encode_state
from dht_torrent.engine.dht.announces import Announces
from dht_torrent.engine.dht.bootstrap import Bootstrap
from dht_torrent.engine.dht.core import Core
from dht_torrent.engine.dht.items import Items
from dht_torrent.engine.dht.maintenance import TICK, Maintenance
from dht_torrent.engine.dht.responder import Responder
from dht_torrent.engine.dht.samples import Samples
from dht_torrent.engine.dht.transactions import SendToName
from dht_torrent.engine.dht.views import ContactView, DhtStatus, LookupView
from dht_torrent.engine.faults import Faults
from dht_torrent.engine.net.protocols import DatagramSocket, Network
from dht_torrent.errors import KrpcError
from dht_torrent.ids import (
    Address,
    HostPort,
    NodeId,
)
from dht_torrent.trace import Trace, nothing

logger = logging.getLogger(__name__)

MAX_NAMED: Final = 8
"""Entry points that are heard from one torrent: bounds what a .torrent makes us send and resolve.
"""
MIN_DATAGRAM: Final = 20
"""Shorter datagrams are not KRPC messages (libtorrent)."""


_QUERIES: Final = (Query, BadQuery)


def _nobody(address: Address) -> bool:
    """There is no IP filter."""
    return False


class Dht:
    """A node of the DHT, for one address family: that of `bind`.

    `bind` may be a socket that is open already; `run` closes it. `state` is what `state()` gave
    in an earlier run; what is wrong with it is ignored. `node_id` wins over the saved one. A fault
    of ours ends one datagram's handling, or one service for a moment, and goes to `faults`; without
    them it ends `run`. Nothing is asked of nodes that the user's IP filter `forbids`.
    `send_to_name` is there where names of hosts are resolved by others, on the way. `trouble` tells
    in a line why nothing can be sent.
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
        forbids: Callable[[Address], bool] = _nobody,
        send_to_name: SendToName | None = None,
        trouble: Callable[[], str | None] | None = None,
    ) -> None:
        before = decode_state(state) if state is not None else SavedState(None, [])
        if before.damaged:
            logger.warning("part of the saved DHT state is unusable and was ignored")
        self._bind = bind
        self._faults = faults if faults is not None else Faults(fail_fast=True)
        self._core = core = Core(
            network,
            bind if isinstance(bind, Address) else bind.address,
            node_id or before.node_id or NodeId(rng.randbytes(20)),
            config,
            rng=rng,
            trace=trace,
            send=self._send,
            forbids=forbids,
            send_to_name=send_to_name,
        )
        self._forbids = forbids
        self._trouble = trouble
        self.announces = Announces(core)
        """Lookups for peers, and our announces (BEP 5)."""
        self.items = Items(core)
        """Gets and puts (BEP 44)."""
        self.samples = Samples(core)
        """What other nodes store (BEP 51)."""
        self._socket: DatagramSocket | None = None
        # Waiting for the end of a batch of datagrams: an answer to each and a few pings at most.
        self._outbox: list[tuple[bytes, Address]] = []
        self._is_gathering = False
        self._answerer = Answerer(
            core.table, core.peers, core.tokens, config, core.rng, items=core.items
        )
        self._votes = Votes(config)
        self._ports = SeenPorts()
        self._maintenance = Maintenance(core)
        self._responder = Responder(
            core, self._answerer, send=self._outbox.append, on_announce=self.announces.heard
        )
        self._bootstrap = Bootstrap(core, bootstrap, [*saved, *before.contacts])
        self._other: Dht | None = None

    @property
    def node_id(self) -> NodeId:
        """Our id, which may change to fit our address (BEP 42)."""
        return self._core.table.own_id

    @property
    def address(self) -> Address:
        """Where it is bound; the real port once `run` has started."""
        return self._core.address

    @property
    def seen_at(self) -> Address | None:
        """Where others reach us, as far as we know: at the IP they voted for, or that we are bound
        to, and the port we listen on, or that a router maps to it (without one, that of a NAT may
        be another)."""
        bound = self.address
        if self._votes.elected is not None:
            return Address(self._votes.elected, self._core.mapped_port() or bound.port)
        return bound if bound.is_usable else None

    def has_router(self, mapped_port: Callable[[], int | None]) -> None:
        """A router may let the world in to us: at this port, or not, at a time."""
        self._core.mapped_port = mapped_port

    async def run(self, *, task_status: TaskStatus[Address] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Started means bound and answering. Raises OSError if the
        address cannot be bound."""
        bind, core = self._bind, self._core
        socket = await core.network.open_udp(bind) if isinstance(bind, Address) else bind
        try:
            self._socket = socket
            core.address = socket.address
            core.table.begin(trio.current_time())
            async with trio.open_nursery() as nursery:
                for what, service in (
                    ("receiving", partial(socket.serve, self._take)),
                    ("timeouts", core.transactions.expire),
                    ("maintenance", self._tick),
                    ("refresh", self._maintenance.refresh),
                    ("bootstrap", self._bootstrap.run),
                    ("entry points named by others", self._bootstrap.follow_hints),
                    ("a change of id", self._bootstrap.follow_id),
                    ("announcing again", self.announces.run),
                    ("putting items again", self.items.run),
                ):
                    nursery.start_soon(self._faults.keep, f"the DHT's {what}", service)
                task_status.started(core.address)
        finally:
            self._socket = None
            socket.close()
            core.transactions.close()

    # -- what others call ---------------------------------------------------------------------

    async def bootstrapped(self) -> None:
        """Return once a node has responded and our own neighbourhood was looked up; at once for a
        node with no node to ask."""
        await self._bootstrap.done.wait()

    @property
    def is_bootstrapped(self) -> bool:
        """Whether `bootstrapped` returns at once."""
        return self._bootstrap.done.is_set()

    async def find_node(self, target: bytes) -> list[NodeInfo]:
        """The k nodes closest to `target` that respond, nearest first. Raises InputError for a
        target that is not 20 bytes long."""
        return (await self._core.lookups.find_node(target)).closest()

    async def ping(self, address: Address) -> NodeId:
        """Its id. Raises NoReply."""
        return (await self.query(address, krpc.PING)).id

    async def query(
        self, address: Address, method: bytes, args: Mapping[bytes, Value] | None = None
    ) -> Reply:
        """Send any query to one node; `id` is added. Raises NoReply for a timeout and for an error
        response."""
        return await self._core.transactions.query(address, method, args or {})

    def maybe_contact(self, address: Address) -> None:
        """A peer says a node listens there (a PORT message): ping it some time. While we know no
        good contact, it is an entry point, which is asked until one responds."""
        core = self._core
        known = core.table.at(address) is not None
        if address.is_usable and address.is_ipv6 == core.ipv6 and not known:
            core.ping_queue.add(address, trio.current_time(), at_once=True)
            if self._bootstrap.is_alone():
                self._bootstrap.hint([HostPort(*address)], at_once=False)

    def maybe_enter(self, points: Sequence[HostPort]) -> None:
        """A torrent says that the network can be entered there (`nodes`, BEP 5): ask these, should
        we know no good contact. Names are resolved only then."""
        self._bootstrap.hint(points[:MAX_NAMED], at_once=True)

    def enforce(self) -> None:
        """The IP filter has changed: contacts that it forbids now are forgotten."""
        self._core.table.forget(self._forbids, trio.current_time())

    @property
    def replied_at(self) -> float | None:
        """When a node last responded to us; None: never."""
        at = self._core.table.last_reply
        return at if at > float("-inf") else None

    @property
    def timeouts(self) -> int:
        """Queries so far that no node responded to in time."""
        return self._core.transactions.timeouts

    def probe(self, count: int) -> None:
        """Ping some of the contacts that were heard from most recently: does any respond?"""
        now = trio.current_time()
        latest = sorted(self._core.table, key=lambda contact: -contact.last_heard)[: 4 * count]
        for contact in self._core.rng.sample(latest, min(count, len(latest))):
            self._maintenance.probe(contact, now)

    def renew(self, *, moved: bool) -> None:
        """The network is back, or another one: enter it now. `moved`: our address is another."""
        if moved:
            self._votes.begin_again()
            self._ports.begin_again()
        self._bootstrap.renew()

    def tell_of(self, other: Dht) -> None:
        """Name nodes of `other`, our DHT node in the other address family, to those who want them
        (BEP 32), and tell it of nodes there as long as it knows few. Call it on both."""
        self._other = other
        self._answerer.other_table = self._core.lookups.other_table = other._core.table
        self._bootstrap.other_lookups = other._core.lookups

    def random_id(self) -> bytes:
        """A target for a lookup that is about the network and not about the target."""
        return self._core.rng.randbytes(20)

    def contacts(self) -> list[ContactView]:
        """The live contacts, those nearest to our own id last."""
        now = trio.current_time()
        own = int.from_bytes(self.node_id, "big")
        return [
            ContactView(
                contact.id,
                contact.address,
                self._core.table.is_good(contact, now),
                contact.fails,
                now - contact.last_heard,
                contact.is_compliant,
            )
            for contact in sorted(self._core.table, key=lambda c: -(c.long_id ^ own))
        ]

    def lookups(self) -> list[LookupView]:
        """Those under way, the latest first; and for those who ask again and again, within 15
        seconds, also the dozen that ended last."""
        return self._core.lookups.walks.views()

    def state(self) -> bytes:
        """Our id and the good contacts, most recently heard from first, for the next start."""
        now = trio.current_time()
        good = [contact for contact in self._core.table if self._core.table.is_good(contact, now)]
        good.sort(key=lambda contact: -contact.last_heard)
        addresses = [contact.address for contact in good]
        if len(addresses) < self._core.config.k:
            # A run too short, or offline, must not forget those it was given.
            addresses = list(dict.fromkeys([*addresses, *self._bootstrap.saved]))
        del addresses[self._core.config.saved_contacts :]
        return encode_state(self.node_id, addresses)

    def status(self) -> DhtStatus:
        """A snapshot of the table, the traffic and what is stored here."""
        now = trio.current_time()
        good, questionable, bad = self._core.table.counts(now)
        traffic = self._core.traffic
        return DhtStatus(
            node_id=self.node_id.hex(),
            address=self._core.address,
            good=good,
            questionable=questionable,
            bad=bad,
            buckets=len(self._core.table.buckets),
            queries_in=traffic.queries,
            queries_out=self._core.transactions.queries,
            replies_in=traffic.replies,
            replies_per_minute=traffic.replies_per_minute(now),
            dropped=dict(traffic.dropped),
            bootstrap_answered=len(self._bootstrap.answered),
            bootstrap_total=len(self._bootstrap.points),
            stored_torrents=self._core.peers.torrents,
            stored_peers=len(self._core.peers),
            stored_items=len(self._core.items),
            external_ip=self._votes.elected,
            symmetric_nat=self._ports.are_many,
            network_size=self._core.lookups.density.size,
            eclipses_suspected=self._core.lookups.eclipses_suspected,
            down=self._trouble() if self._trouble is not None else None,
        )

    # -- datagrams in -------------------------------------------------------------------------

    def _take(self, datagrams: Sequence[tuple[bytes, Address]]) -> None:
        core, now = self._core, trio.current_time()
        additions = core.table.additions
        try_shortcut = self._responder.try_shortcut
        # All that came is read, then answered, then sent: the interpreter runs faster when the
        # kernel does not take its caches away after each datagram.
        self._is_gathering = True
        for data, source in datagrams:
            try:
                if not (data.endswith(krpc.QUERY_TAIL) and try_shortcut(data, source, now)):
                    self._datagram(data, source, now)
            except Exception as error:  # noqa: BLE001 - the boundary of a bug in one datagram
                self._faults.take(error, f"a datagram from {source}")
        try:
            self._maintenance.verify(now)
        except Exception as error:  # noqa: BLE001 - the same
            self._faults.take(error, "the DHT's pings of unverified addresses")
        self._is_gathering = False
        if self._outbox:
            if self._socket is not None:
                core.traffic.drop("not sent", self._socket.send_all(self._outbox))
            self._outbox.clear()
        if core.table.additions != additions:
            self._bootstrap.grown.set()
            self.announces.grown()
            self.items.grown()

    def _datagram(self, data: bytes, source: Address, now: float) -> None:
        core = self._core
        if not MIN_DATAGRAM <= len(data) <= core.config.max_datagram or data[:1] != b"d":
            core.traffic.drop("size")
            return
        origin = facts(source)
        if not origin.is_usable:
            core.traffic.drop("source")
            return
        try:
            message = krpc.decode_any(data)
        except KrpcError:
            core.traffic.drop("malformed")
            return
        if isinstance(message, _QUERIES):
            self._responder.respond(message, source, now)
        else:
            self._reply(message, source, now, origin)

    def _reply(
        self, message: Reply | ErrorReply, source: Address, now: float, origin: Origin
    ) -> None:
        core = self._core
        transaction = core.transactions.match(message, source)
        if transaction is None:
            core.traffic.drop("unasked")
            return
        if message.ip is not None and not origin.is_local:  # who is inside sees us inside
            self._seen_at(message.ip, source, now)
        if isinstance(message, ErrorReply):
            transaction.done(message)
            return
        responder = message.id
        if responder == self.node_id:
            core.traffic.drop("own id")
            transaction.done(None)
            return
        core.traffic.reply(now)
        if self._other is not None:
            self._other.referred(message.nodes(ipv6=not core.ipv6), source, now)
        for contact in core.table.replied(responder, source, now, origin):
            self._maintenance.probe(contact, now)
        # A responder with another id than the one it was named with is another node.
        is_other = transaction.expected is not None and transaction.expected != responder
        transaction.done(None if is_other else message)

    def referred(self, nodes: Sequence[NodeInfo], referrer: Address, now: float) -> None:
        """`referrer`, in the other family, names these nodes in ours: ping some, while we know
        few. Later our own lookups find better ones, and a liar there has no say here."""
        if self._core.table.knows_few:
            self._maintenance.referred(nodes, referrer, now)

    def _seen_at(self, ours: Address, source: Address, now: float) -> None:
        """`source`, which we queried, says that it sees us there (BEP 42)."""
        core = self._core
        if ours.is_ipv6 != core.ipv6:
            return
        self._ports.saw(ours.port, source)
        elected = self._votes.vote(ours.host, source, now)
        if elected is None:
            return
        logger.info("others see us at %s", elected)
        if core.config.secure_ids and not is_compliant(self.node_id, Address(elected, 1)):
            core.table.rename(make_id(elected, core.rng), now)
            logger.info("our id is now %s, to fit our address", self.node_id.hex())
            self._bootstrap.renamed.set()

    def _send(self, data: bytes, to: Address) -> None:
        if self._is_gathering:
            self._outbox.append((data, to))
        elif self._socket is not None and not self._socket.send(data, to):
            self._core.traffic.drop("not sent")

    async def _tick(self) -> None:
        while True:
            await trio.sleep(TICK)
            now = trio.current_time()
            self._maintenance.tick(now)
            self._core.peers.expire(now)
            self._core.items.expire(now)
