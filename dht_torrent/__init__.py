"""A trackerless BitTorrent node: a Kademlia DHT finds peers, a peer-wire engine moves blocks.

    async with open_node(Config(download_dir="downloads")) as node:
        torrent = await node.get("magnet:?xt=urn:btih:...")
        await torrent.completed()

Words ----- *peer*: the other end of a connection in a torrent. *contact*: a DHT node we know.
*node*: our running program. *piece*: has a hash; *block*: 16 KiB of it. *query*: one KRPC question;
*transaction*: a query that waits for its response; *responder*: the node that gives it, or ours.
*lookup*: an iterative search in the DHT, along one or several disjoint *paths*; *referrer*: a node
that named another to us. *announce*: tell the DHT that we hold a torrent. *item*: a BEP 44 value.
*record*: a trace entry. *entry point*: a bootstrap node, or a contact saved by an earlier run.
*dual stack*: our DHT nodes of IPv4 and IPv6.

Floors
------
Imports go only downward (tests/test_layers.py).

- edges: `cli`, `daemon` (HTTP control), `lab` (virtual networks)
- engine: the only place that waits. `engine.node` owns it all; `engine.net` is the network,
  `engine.dht` a DHT node on it, `engine.torrent` a torrent at work. The last two meet in
  `engine.dht.dual_stack` alone.
- deciders: `dht`, `peer`, `torrent`, `storage`: plain code that returns what to do
- values: `errors`, `ids`, `bencode`, `metainfo`, `config`, `trace` and the like
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from dht_torrent.config import Config
    from dht_torrent.dht.items import SigningKey
    from dht_torrent.engine.node import Node, open_node
    from dht_torrent.engine.torrent.torrent import Torrent
    from dht_torrent.errors import (
        DhtTorrentError,
        InputError,
        MagnetError,
        MetainfoError,
        NoReply,
        ProtocolError,
        StorageError,
    )
    from dht_torrent.metainfo import Magnet, Metainfo

__all__ = [
    "Config",
    "DhtTorrentError",
    "InputError",
    "Magnet",
    "MagnetError",
    "Metainfo",
    "MetainfoError",
    "NoReply",
    "Node",
    "ProtocolError",
    "SigningKey",
    "StorageError",
    "Torrent",
    "open_node",
]

_HOME = {
    "Config": "config",
    "Magnet": "metainfo",
    "Metainfo": "metainfo",
    "Node": "engine.node",
    "SigningKey": "dht.items",
    "Torrent": "engine.torrent.torrent",
    "open_node": "engine.node",
}


def __getattr__(name: str) -> Any:
    # Names load on first use, so that `dhtnode --help` does not pay for Trio and the engine.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"dht_torrent.{_HOME.get(name, 'errors')}")
    value = getattr(module, name)
    globals()[name] = value
    return value
