"""The Kademlia node and what it keeps for others."""

from __future__ import annotations

from dataclasses import dataclass

from dht_torrent.ids import HostPort

PUBLIC_BOOTSTRAP: tuple[HostPort, ...] = (
    HostPort("dht.libtorrent.org", 25401),
    HostPort("dht.transmissionbt.com", 6881),
    HostPort("router.bt.ouinet.work", 6881),
)
"""Well-known entry points that answered in 2026. Saved contacts are tried first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DhtConfig:
    """The Kademlia node (BEP 5)."""

    k: int = 8
    """Contacts in a bucket, and the size of a closest set. BEP 5's eight."""
    alpha: int = 5
    """Queries in flight per lookup. libtorrent's search branching."""
    soft_timeout: float = 1.0
    """Silence after which a lookup asks the next contact as well, without giving up on this one."""
    hard_timeout: float = 15.0
    """Silence after which a query has failed. libtorrent's rpc_manager."""
    lookup_timeout: float = 60.0
    """A lookup ends with what it has after this long, whatever hostile contacts promise."""
    lookup_queries: int = 200
    """Most queries one lookup sends: ends the chase after ever closer invented ids."""
    lookup_candidates: int = 100
    """Closest candidates one lookup remembers (libtorrent's result list)."""
    lookup_widest: int = 64
    """Nodes that a widened lookup counts as close, at most: the size of the network, from which the
    radius comes, is only an estimate."""
    lookup_credit: int = 3
    """Unresponsive nodes one responder may name before its referrals are ignored, but never less
    than `alpha`; and one more for each referral that responds. Half of the nodes that honest ones
    name may be dead, but many of them name each node."""
    paths: int = 8
    """Disjoint paths of a lookup that stores an item (S/Kademlia has 4 to 8); one that found
    nothing tries again on twice as many. Where three nodes in ten collude, half of most tables is
    theirs, and one path in five comes through. 1: one path only, and once."""
    announce_paths: int = 8
    """The same for a lookup that announces a torrent. With fewer, one that finds nothing goes on
    along `paths` paths before it stores; but liars see to it that something is found."""
    retry_paths: int = 2
    """A lookup that found nothing is made again along so many times `paths` paths: it costs a
    hundred queries at most, and only then."""
    max_searches: int = 32
    """Lookups for peers at the same time; further ones wait. More would only slow each other down:
    small networks bear few queries, and in large ones a lookup takes seconds."""
    max_found: int = 2000
    """Peers one lookup reports ..."""
    max_told: int = 50
    """... and of one reply: as many as we would tell. A datagram could hold 250 inventions, and a
    few liars would leave no room for what honest nodes tell."""
    good_for: float = 15 * 60.0
    """A contact heard from within this time is good (BEP 5)."""
    max_fails: int = 5
    """Unanswered queries after which a contact is bad and is replaced when a spare is at hand."""
    max_fails_alone: int = 20
    """The same when no other could take its place: a dead link must not empty the table."""
    max_buckets: int = 50
    """Hard bound on splitting, against ids crafted to share a long prefix with ours."""
    verify_delay: float = 90.0
    """Wait before pinging a *public* node that queried us: lets NAT mappings lapse (mldht)."""
    verify_queue: int = 200
    """PingQueue waiting for that ping. When full, the newest is forgotten."""
    verify_at_once: int = 32
    """Such pings in flight."""
    refresh_interval: float = 15 * 60.0
    """A bucket unchanged for this long gets a find_node for a random id in its range (BEP 5)."""
    token_rotation: float = 5 * 60.0
    """A token secret lives this long; the current and the previous one are accepted (BEP 5)."""
    peer_ttl: float = 45 * 60.0
    """A stored announce is dropped after this: three missed 15-minute announces."""
    max_torrents: int = 2000
    """Infohashes in the peer store (libtorrent's dht_max_torrents)."""
    max_peers_per_torrent: int = 500
    """Peers under one infohash (libtorrent's dht_max_peers)."""
    max_peers_total: int = 20_000
    """Peers in the store altogether."""
    max_torrents_per_host: int = 20
    """Infohashes one public IP may announce here."""
    values_per_reply: int = 50
    """Peers in a get_peers reply to a contact that has answered us."""
    values_to_strangers: int = 8
    """The same to a source that never proved its address: keeps reflection unattractive."""
    stranger_bytes: float = 6000.0
    """Bytes of items, samples and filters one /24 of sources that never proved their address may
    get within `query_window`. Beyond it, they get nodes and a token only."""
    max_reply: int = 1400
    """Largest datagram sent, bytes: below any common MTU."""
    max_datagram: int = 2048
    """Larger datagrams are dropped unread (libtorrent)."""
    query_burst: int = 50
    """Queries one public source may send within `query_window` ..."""
    query_window: float = 10.0
    """... before it is ignored ..."""
    query_penalty: float = 300.0
    """... for this long. Replies to our own queries always pass (libtorrent's dos_blocker)."""
    tracked_sources: int = 10_000
    """Sources whose query rate is remembered; the oldest is forgotten when full."""
    send_rate: float = 8000.0
    """Bytes per second of *answers* to public addresses, all together (libtorrent)."""
    send_burst: float = 3.0
    """Seconds of `send_rate` that may be saved up."""
    max_items: int = 700
    """Items stored for others (BEP 44), mutable and immutable each (libtorrent)."""
    max_own_items: int = 10_000
    """Items we keep alive. Further puts are refused."""
    item_ttl: float = 2 * 3600.0
    """A stored item is dropped after this unless it is put again (BEP 44)."""
    item_republish: float = 3600.0
    """Between two puts of an item of our own, where nodes stay (BEP 44) ..."""
    item_republish_least: float = 300.0
    """... and where they leave quickly. In between, it follows how fast the holders go."""
    item_quota: int = 10
    """New items one public IP may have stored here ..."""
    item_quota_window: float = 600.0
    """... in this time."""
    item_verify_rate: float = 20.0
    """Signatures of puts verified per second. Further puts are refused."""
    unlimited: bool = False
    """Lift every cap on rates, for labs: queries in and out, bytes sent, new items, signatures."""
    secure_ids: bool = True
    """Bind ids to IPs (BEP 42): ours follows our external address, public contacts whose id does
    not fit theirs are stored on by no node and make room for those whose does."""
    votes_needed: int = 50
    """Votes of distinct networks that make an election of our external IP (libtorrent) ..."""
    votes_wait: float = 300.0
    """... or so many seconds, whichever comes first."""
    votes_candidates: int = 40
    """Addresses one may vote for; further ones are ignored (libtorrent)."""
    read_only: bool = False
    """Ask only and answer nothing (BEP 43): for nodes behind a firewall, or short-lived."""
    samples: int = 20
    """Infohashes told to who asks for a sample (BEP 51; libtorrent)."""
    samples_interval: float = 21_600.0
    """The same sample is told for this long, and we ask no node more often (BEP 51's maximum)."""
    samples_kept: int = 1000
    """Answers of others that are remembered for that; the oldest is forgotten."""
    max_pending: int = 1024
    """Our own queries in flight. Further ones wait."""
    max_unproven: int = 4
    """Queries in flight to one IP that is not that of a contact: however many contacts a liar
    invents there, it gets no more than these in each `hard_timeout`."""
    saved_contacts: int = 300
    """Contacts kept over a restart (Transmission)."""
    bootstrap_retry: float = 5.0
    """First pause before another bootstrap when no node answered; doubles up to a minute."""
