"""A trackerless BitTorrent node: a Kademlia DHT finds peers, a peer-wire engine moves blocks.

    async with open_node(Config(download_dir="downloads")) as node:
        torrent = await node.get("magnet:?xt=urn:btih:...")
        async for snapshot in torrent.watch():
            print(snapshot.state, snapshot.progress)

`open_node` is where to begin: it runs a `Node` for the length of the block and closes everything at
its end. The node makes `Torrent` objects and has a `DualStack` of DHT nodes. All three are for the
Trio run, and the thread, that opened them. `connect` is for other processes: it gives a blocking
`Client` of a node that runs already.

- *Units*: sizes are bytes, times seconds, rates bytes per second, progress is 0 to 1.
- *Errors*: what this package raises on purpose is a `DhtTorrentError`: `InputError` for what the
  caller gave, `NoReply` for a DHT query without an answer, `StorageError` for a disk, `OurFault`
  for a torrent that a bug of ours stopped, `ControlError` for a node that cannot be steered. A
  ValueError or TypeError is a bug of the caller.
- *Cancellation*: every async method may be cancelled at any time. It then leaves the node in order;
  what it had already asked for (a torrent added, an item put at some nodes) stays.
- *Closing*: `open_node` closes what it opened. Nothing else here needs to be closed but a `Client`.

Words
-----
*peer*: the other end of a connection in a torrent. *contact*: a DHT node we know. *node*: our
running program. *piece*: has a hash; *block*: 16 KiB of it. *query*: one KRPC question;
*transaction*: a query that waits for its response; *responder*: the node that gives it, or ours.
*lookup*: an iterative search in the DHT, along one or several disjoint *paths*; *referrer*: a node
that named another to us. *announce*: tell the DHT that we hold a torrent. *item*: a BEP 44 value.
*record*: a trace entry. *entry point*: a bootstrap node, or a contact saved by an earlier run.
*dual stack*: our DHT nodes of IPv4 and IPv6. *index*: what can be searched, trees whose nodes are
items of the DHT; *slot*: the place of one of these nodes; *publisher's record*: the signed item
that says what a torrent is called; *catalogue*: the torrents that this node knows of. *link*: a
public key and a salt under which an item names a torrent, its *version* of the day (BEP 46).

Floors
------
Imports go only downward (tests/test_layers.py).

- edges: `cli`, `daemon` (HTTP control), `lab` (virtual networks)
- engine: the only place that waits. `engine.opening` starts a node and `engine.node` is what
  users have of it; `engine.net` is the network, `engine.dht` a DHT node on it, `engine.torrent` a
  torrent at work. The last two meet in `engine.dht.dual_stack` alone.
- deciders: `dht`, `peer`, `torrent`, `search`, `storage`, `catalogue`, `utp`, `socks`,
  `portmap`: plain code that returns what to do
- values: `errors`, `ids`, `bencode`, `metainfo`, `config`, `trace` and the like

`dht_torrent.engine` has the task tree and how things flow through it.

To change something
-------------------
| to change | look here |
|---|---|
| a number: a limit, an interval, a timeout | `config`: every tunable with its unit and source |
| what a magnet link or a .torrent may hold | `magnet`, `metainfo`, `bounds`, `filenames` |
| a DHT message, or what is accepted of one | `dht.krpc`, `dht.shortcut` |
| how our node responds to a query | `dht.answer`; what it stores `dht.store`, `dht.tokens` |
| which contacts are kept | `dht.table`, `dht.buckets` |
| which nodes a lookup asks, and whom it trusts | `dht.lookup`, `dht.paths`, `dht.density` |
| what strangers may cost a DHT node | `dht.rate_limits`; tests/dht/README.md lists the attacks |
| a link whose content changes (BEP 46) | `magnet`; which version is newer `dht.versions` |
| what publishing and following a link do | `engine.following`: `publication`, `follower` |
| what a user finds of a link that is followed | `engine.following.place` |
| how items are stored and kept alive | `dht.items`, `dht.lifetimes`, `engine.dht.items` |
| a message between peers | `peer.messages`, `peer.connection` |
| an extension of BEP 10 | `peer.extensions` for its codec; `engine.torrent.extensions` runs it |
| which block is asked for next, and of whom | `torrent.picker`, `.solo`, `torrent.pipeline` |
| when a peer is asked for more, or for less | `engine.torrent.downloads` |
| which peer has what, and is of interest | `torrent.holdings`, `torrent.availability` |
| a packet of uTP, its window, who may connect by it | `utp`: its docstring lists the modules |
| uTP's streams, and what of a socket is the DHT's | `engine.net.utp` |
| whether a peer is dialled over TCP or uTP first | `torrent.ways`, `engine.torrent.racing` |
| whom we upload to | `torrent.choker`, `engine.torrent.uploads` |
| how we get into the DHT | `engine.dht.bootstrap` |
| how peers of the local network are found | `peer.lsd`, `engine.lsd` |
| how the router is asked to let peers in | `portmap.client`, `engine.portmap` |
| how peers behind routers meet (BEP 55) | `peer.rendezvous`, `engine.torrent.punching` |
| which peers are dialled, and which give way | `torrent.candidates`, `torrent.connection_slots` |
| who is banned for bad data | `torrent.smart_ban`, `torrent.parole`, `torrent.bans` |
| what users are told of a download | `engine.views`, `engine.torrent.stages` |
| what `status` tells of the node | `engine.status`, shown by `cli.view` |
| what a word is, and how texts are compared | `search.words`, `search.titles`, `search.rank` |
| how the index lies in the DHT | `search.label`, `search.node`, `search.trie` |
| what makes torrents similar | `search.chunks`, `search.sketch`, `search.similar` |
| whom a search believes | `engine.search.checking`, `search.record` |
| what a search does, and what it shows | `engine.search.searching`, `engine.search.views` |
| which torrents are similar to one | `engine.search.similar`; sketches `engine.search.sketching` |
| what is published, when, and how often | `engine.search.publisher`, `search.choice` |
| publishers' catalogues | `catalogue.segments`, `engine.search.subscriptions`, `.feeds` |
| whom a crawl asks, and what it looks at | `search.crawl`; its tasks `engine.search.crawl` |
| which IP addresses the node has nothing to do with | `ip_filter`, `engine.filtering` |
| what is neither stored, published nor shown | `search.denied`, `engine.search.denying` |
| rate limits | `torrent.limits`, `engine.torrent.rate_limits` |
| what is looked for on this disk before peers are asked | `torrent.reuse`, `storage.local` |
| how files are written, found and protected | `storage.files`, `storage.owners`, `storage.folder` |
| what is added from a folder, what is run on completion | `engine.watch_folder`, `.on_complete` |
| which limits hold when | `torrent.alternation`, `engine.speed` |
| when downloads wait for room on the disk | `engine.torrent.space_guard` |
| how content goes to another folder or name | `engine.torrent.moving`, `storage.moving` |
| what things of a torrent are called here | `torrent.naming` |
| what survives a restart | `engine.resume`, `engine.trust`, `engine.state`, `dht.saved` |
| sockets | `engine.net.sockets`, `engine.net.mmsg` |
| of what a node's network is made, and in which order | `engine.access` |
| what happens when the network is back | `engine.net.changes`, `engine.renewal` |
| keeping to one interface | `engine.net.inside`, `.binding`, `.lasting`, `.names` |
| what goes through a proxy, and how | `engine.net.proxy`, `engine.net.relayed`, `socks` |
| encryption with MSE | `peer.mse`, `engine.net.encrypted`, `engine.torrent.dialling` |
| who belongs to an SSL torrent | `peer.certificates`, `engine.authority`; TLS `engine.net.tls` |
| a command, what it shows; an option | `cli.main`, `cli.running`, `cli.view`; `cli.declared` |
| the local catalogue | `catalogue.protocol`, `catalogue.sqlite`, `catalogue.postgres` |
| what commands of search ask and show | `cli.search`, `cli.similar`, `cli.publishing` |
| the control API | `daemon.app`, `daemon.client`; who may use it `daemon.control` |
| the web page, and what it is told | `daemon.web`; its files are in `daemon/page` |
| an experiment | `lab.studies`, and its script in scripts/ |
| which exceptions there are | `errors` |
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from dht_torrent.bencode import Value as Value
    from dht_torrent.config.alternative import (
        AlternativeLimits as AlternativeLimits,
        WeeklyHours as WeeklyHours,
    )
    from dht_torrent.config.dht import DhtConfig as DhtConfig
    from dht_torrent.config.holepunch import HolepunchConfig as HolepunchConfig
    from dht_torrent.config.index import (
        CatalogueConfig as CatalogueConfig,
        CrawlConfig as CrawlConfig,
        FollowConfig as FollowConfig,
        SearchConfig as SearchConfig,
        SubscribeConfig as SubscribeConfig,
    )
    from dht_torrent.config.net import WatchConfig as WatchConfig
    from dht_torrent.config.node import (
        AfterSeeding as AfterSeeding,
        Config as Config,
        EncryptionPolicy as EncryptionPolicy,
    )
    from dht_torrent.config.portmap import PortMapConfig as PortMapConfig
    from dht_torrent.config.proxy import ProxyConfig as ProxyConfig, ProxyServer as ProxyServer
    from dht_torrent.config.seeding import (
        SeedingLimit as SeedingLimit,
        SeedingLimits as SeedingLimits,
        SharedEnough as SharedEnough,
    )
    from dht_torrent.config.torrent import (
        DiskConfig as DiskConfig,
        LsdConfig as LsdConfig,
        PeerConfig as PeerConfig,
        TorrentConfig as TorrentConfig,
    )
    from dht_torrent.config.utp import UtpConfig as UtpConfig
    from dht_torrent.daemon.client import Client as Client, Json as Json, connect as connect
    from dht_torrent.daemon.control import Control as Control
    from dht_torrent.daemon.link_calls import LinkCalls as LinkCalls
    from dht_torrent.daemon.presence import NoNode as NoNode, NotRunning as NotRunning
    from dht_torrent.dht.items import (
        ImmutableItem as ImmutableItem,
        Item as Item,
        MutableItem as MutableItem,
        SigningKey as SigningKey,
    )
    from dht_torrent.dht.krpc import NodeInfo as NodeInfo, Reply as Reply
    from dht_torrent.engine.dht.announces import (
        OnPeers as OnPeers,
        PeerLookup as PeerLookup,
        Scrape as Scrape,
    )
    from dht_torrent.engine.dht.dual_stack import DualStack as DualStack
    from dht_torrent.engine.dht.node import Dht as Dht
    from dht_torrent.engine.dht.samples import Sample as Sample
    from dht_torrent.engine.dht.surveys import (
        Holder as Holder,
        ItemSurvey as ItemSurvey,
        Stored as Stored,
    )
    from dht_torrent.engine.dht.views import (
        ContactView as ContactView,
        DhtStatus as DhtStatus,
        LookupStep as LookupStep,
        LookupView as LookupView,
    )
    from dht_torrent.engine.following.followed import Followed as Followed
    from dht_torrent.engine.following.records import SeenVersion as SeenVersion
    from dht_torrent.engine.following.views import (
        FollowState as FollowState,
        FollowView as FollowView,
        PublishedView as PublishedView,
        VersionView as VersionView,
    )
    from dht_torrent.engine.net.gateways import Gateway as Gateway
    from dht_torrent.engine.net.interfaces import Interface as Interface
    from dht_torrent.engine.net.protocols import (
        DatagramSocket as DatagramSocket,
        Encryption as Encryption,
        Listener as Listener,
        Network as Network,
        OnDatagrams as OnDatagrams,
        Scattered as Scattered,
        Stream as Stream,
    )
    from dht_torrent.engine.net.surroundings import Surroundings as Surroundings
    from dht_torrent.engine.node import Node as Node
    from dht_torrent.engine.opening import open_node as open_node
    from dht_torrent.engine.search.results import SearchResults as SearchResults
    from dht_torrent.engine.search.views import (
        CatalogueImport as CatalogueImport,
        CatalogueStatus as CatalogueStatus,
        Compared as Compared,
        CrawlStatus as CrawlStatus,
        Kinship as Kinship,
        PublisherView as PublisherView,
        ResultSource as ResultSource,
        ResultTrust as ResultTrust,
        SearchOptions as SearchOptions,
        SearchQuery as SearchQuery,
        SearchResult as SearchResult,
        SearchStatus as SearchStatus,
        SimilarFound as SimilarFound,
        SimilarQuery as SimilarQuery,
        SimilarResult as SimilarResult,
        SubscriptionView as SubscriptionView,
        Verdict as Verdict,
    )
    from dht_torrent.engine.speed import SpeedLimits as SpeedLimits
    from dht_torrent.engine.torrent.context import OpenStorage as OpenStorage
    from dht_torrent.engine.torrent.housekeeping import NodeRules as NodeRules
    from dht_torrent.engine.torrent.rate_limits import NewRate as NewRate
    from dht_torrent.engine.torrent.readers import Reader as Reader
    from dht_torrent.engine.torrent.statistics import Statistics as Statistics
    from dht_torrent.engine.torrent.torrent import Torrent as Torrent
    from dht_torrent.engine.torrent.watch import Watch as Watch
    from dht_torrent.engine.views import (
        FileInfo as FileInfo,
        FilterStatus as FilterStatus,
        History as History,
        HolepunchStatus as HolepunchStatus,
        Left as Left,
        MappedPort as MappedPort,
        NodeStatus as NodeStatus,
        PeerInfo as PeerInfo,
        PieceState as PieceState,
        PortMappingStatus as PortMappingStatus,
        ProxyStatus as ProxyStatus,
        Removal as Removal,
        State as State,
        Summary as Summary,
    )
    from dht_torrent.errors import (
        BencodeError as BencodeError,
        ControlError as ControlError,
        DhtTorrentError as DhtTorrentError,
        HandshakeError as HandshakeError,
        InputError as InputError,
        KrpcError as KrpcError,
        MagnetError as MagnetError,
        MetainfoError as MetainfoError,
        NoReply as NoReply,
        OurFault as OurFault,
        PeerProtocolError as PeerProtocolError,
        PortMapError as PortMapError,
        ProtocolError as ProtocolError,
        SearchFormatError as SearchFormatError,
        SocksError as SocksError,
        StorageError as StorageError,
        UtpError as UtpError,
    )
    from dht_torrent.geometry import File as File, Geometry as Geometry, Span as Span
    from dht_torrent.ids import (
        Address as Address,
        HostPort as HostPort,
        InfoHash as InfoHash,
        NodeId as NodeId,
        Transport as Transport,
    )
    from dht_torrent.magnet import Magnet as Magnet, MutableLink as MutableLink
    from dht_torrent.metainfo import LocalHints as LocalHints, Metainfo as Metainfo
    from dht_torrent.relief import raise_descriptor_limit as raise_descriptor_limit
    from dht_torrent.storage.moving import Layout as Layout
    from dht_torrent.storage.owners import Place as Place
    from dht_torrent.storage.protocol import (
        ContentSurvey as ContentSurvey,
        FileStamp as FileStamp,
        Scratch as Scratch,
        Storage as Storage,
    )
    from dht_torrent.torrent.selection import Selection as Selection
    from dht_torrent.trace import (
        LookupDone as LookupDone,
        PeerBanned as PeerBanned,
        PeerConnected as PeerConnected,
        PeerDropped as PeerDropped,
        PieceDone as PieceDone,
        PieceFailed as PieceFailed,
        Record as Record,
        Trace as Trace,
    )

_HOME = {
    "bencode": "Value",
    "config.dht": "DhtConfig",
    "config.holepunch": "HolepunchConfig",
    "config.index": "CatalogueConfig CrawlConfig FollowConfig SearchConfig SubscribeConfig",
    "config.node": "AfterSeeding Config EncryptionPolicy",
    "config.portmap": "PortMapConfig",
    "config.proxy": "ProxyConfig ProxyServer",
    "config.torrent": "DiskConfig LsdConfig PeerConfig TorrentConfig",
    "config.net": "WatchConfig",
    "config.utp": "UtpConfig",
    "daemon.client": "Client Json connect",
    "daemon.control": "Control",
    "daemon.link_calls": "LinkCalls",
    "daemon.presence": "NoNode NotRunning",
    "dht.items": "ImmutableItem Item MutableItem SigningKey",
    "dht.krpc": "NodeInfo Reply",
    "engine.dht.announces": "OnPeers PeerLookup Scrape",
    "engine.dht.dual_stack": "DualStack",
    "engine.dht.node": "Dht",
    "engine.dht.samples": "Sample",
    "engine.dht.surveys": "Holder ItemSurvey Stored",
    "engine.dht.views": "ContactView DhtStatus LookupStep LookupView",
    "engine.following.followed": "Followed",
    "engine.following.records": "SeenVersion",
    "engine.following.views": "FollowState FollowView PublishedView VersionView",
    "engine.net.gateways": "Gateway",
    "engine.net.interfaces": "Interface",
    "engine.net.protocols": (
        "DatagramSocket Encryption Listener Network OnDatagrams Scattered Stream"
    ),
    "engine.net.surroundings": "Surroundings",
    "engine.node": "Node",
    "engine.opening": "open_node",
    "engine.search.results": "SearchResults",
    "engine.search.views": (
        "CatalogueImport CatalogueStatus Compared CrawlStatus Kinship PublisherView ResultSource "
        "ResultTrust SearchOptions SearchQuery SearchResult SearchStatus SimilarFound "
        "SimilarQuery SimilarResult SubscriptionView Verdict"
    ),
    "engine.torrent.context": "OpenStorage",
    "engine.torrent.housekeeping": "NodeRules",
    "engine.speed": "SpeedLimits",
    "engine.torrent.statistics": "Statistics",
    "engine.torrent.rate_limits": "NewRate",
    "engine.torrent.readers": "Reader",
    "engine.torrent.torrent": "Torrent",
    "engine.torrent.watch": "Watch",
    "engine.views": (
        "FileInfo FilterStatus History HolepunchStatus Left MappedPort NodeStatus PeerInfo "
        "PieceState PortMappingStatus ProxyStatus Removal State Summary"
    ),
    "errors": (
        "BencodeError ControlError DhtTorrentError HandshakeError InputError KrpcError "
        "MagnetError MetainfoError NoReply OurFault PeerProtocolError PortMapError ProtocolError "
        "SearchFormatError SocksError StorageError UtpError"
    ),
    "geometry": "File Geometry Span",
    "ids": "Address HostPort InfoHash NodeId Transport",
    "magnet": "Magnet MutableLink",
    "metainfo": "LocalHints Metainfo",
    "relief": "raise_descriptor_limit",
    "storage.moving": "Layout",
    "storage.owners": "Place",
    "storage.protocol": "ContentSurvey FileStamp Scratch Storage",
    "config.alternative": "AlternativeLimits WeeklyHours",
    "config.seeding": "SeedingLimit SeedingLimits SharedEnough",
    "torrent.selection": "Selection",
    "trace": ("LookupDone PeerBanned PeerConnected PeerDropped PieceDone PieceFailed Record Trace"),
}
"""The modules of the names, loaded on first use: `dhtnode --help` does not pay for Trio."""
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names.split()}
__all__ = sorted(_MODULE_OF)
"""To type checkers the imports say it: `X as X`."""


if not TYPE_CHECKING:  # to whom it would say that there is any name

    def __getattr__(name: str) -> Any:
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"dht_torrent.{_MODULE_OF[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
