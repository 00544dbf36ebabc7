"""What the parts of one DHT node share: its table and stores, how it asks, and how it looks up.

The rule: what the node knows is in one place. Its id is the table's, its address is here.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from dht_torrent.config import DhtConfig
from dht_torrent.dht.items import ItemStore
from dht_torrent.dht.ping_queue import PingQueue
from dht_torrent.dht.store import PeerStore
from dht_torrent.dht.table import Table
from dht_torrent.dht.tokens import Tokens
from dht_torrent.engine.dht.lookups import Lookups
from dht_torrent.engine.dht.traffic import Traffic
from dht_torrent.engine.dht.transactions import SendToName, Transactions
from dht_torrent.engine.net.protocols import Network
from dht_torrent.ids import Address, NodeId
from dht_torrent.trace import Trace


def _nothing() -> None:
    return None


class Core:
    """The state of a DHT node, and the two ways in which its parts ask others: one query, or a
    lookup."""

    def __init__(
        self,
        network: Network,
        address: Address,
        node_id: NodeId,
        config: DhtConfig,
        *,
        rng: random.Random,
        trace: Trace,
        send: Callable[[bytes, Address], None],
        forbids: Callable[[Address], bool],
        send_to_name: SendToName | None,
    ) -> None:
        """`send` sends one datagram, or loses it. No query goes to whom the IP filter `forbids`."""
        self.network = network
        self.send_to_name = send_to_name
        self.address = address
        """Where the node is bound; the real port once its socket is open."""
        self.mapped_port: Callable[[], int | None] = _nothing
        """Where a router lets the world in to `address`; None: no router does."""
        self.config = config
        # Others see numbers drawn here; enough of them would tell the generator's state. So
        # transaction ids and token secrets come from sources of their own.
        self.rng = random.Random(rng.getrandbits(128))
        now = 0.0  # nothing has happened yet; the node sets the clock before anything does
        self.table = Table(node_id, config, now, ipv6=address.is_ipv6)
        self.peers = PeerStore(config)
        self.items = ItemStore(config)
        self.tokens = Tokens(random.Random(rng.getrandbits(256)), config.token_rotation, now)
        self.ping_queue = PingQueue(config)
        self.traffic = Traffic()
        self.transactions = Transactions(
            self.table,
            config,
            rng.randbytes(20),
            send=send,
            forbids=forbids,
            send_to_name=send_to_name,
        )
        self.lookups = Lookups(self.table, self.transactions, config, trace)

    @property
    def ipv6(self) -> bool:
        """Whether it is a node of the IPv6 DHT."""
        return self.table.ipv6
