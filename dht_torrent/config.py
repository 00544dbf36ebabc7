"""Every number one may change, with its unit, its default and where the default comes from.

Times are float seconds, sizes int bytes, unless the name says otherwise. `Config` holds the parts;
each decider is handed only its own part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from dht_torrent.bounds import MAX_INFO
from dht_torrent.errors import InputError
from dht_torrent.ids import Address, HostPort, parse_address, parse_host_port

EncryptionPolicy = Literal["prefer", "require", "allow", "off"]
"""What of MSE, the encryption of peer connections, is used; see `Config.encryption`."""

CLIENT = b"DT"
"""Two letters for peer ids (BEP 20, `-DT0100-`) and the DHT's `v` key."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerConfig:
    """One connection of the peer wire."""

    connect_timeout: float = 15.0
    """To establish TCP (libtorrent's peer_connect_timeout)."""
    handshake_timeout: float = 10.0
    """From TCP established to both handshakes done (libtorrent)."""
    mse_timeout: float = 6.0
    """Of this, for the encryption before them: a peer that does not know it may say nothing at all,
    and is then dialled without. Two round trips and four exponentiations."""
    idle_timeout: float = 120.0
    """Close a peer that sent no byte for this long (libtorrent's peer_timeout)."""
    parting_timeout: float = 10.0
    """Two seeds that have told each other so wait this long for the other side to leave."""
    silence: float = 60.0
    """A peer that sent no byte for this long must answer when another one claims its place ..."""
    probe_timeout: float = 5.0
    """... within this time, as must at any time who speaks BEP 9: it can always answer."""
    keepalive_interval: float = 100.0
    """Send a keep-alive after this much silence of ours (Transmission)."""
    message_timeout: float = 60.0
    """A message that began must end within this time: no drip-feeding."""
    send_timeout: float = 60.0
    """A write that makes no progress for this long closes the connection ..."""
    backlog_timeout: float = 25.0
    """... or for this long, if much waits behind it: the peer asks on and reads nothing."""
    request_timeout: float = 60.0
    """An unanswered request is given to others after this (libtorrent) ..."""
    snub_timeout: float = 20.0
    """... and a peer that sent no block for this long while unchoking us is snubbed."""
    max_outstanding: int = 1000
    """Requests in flight to one peer at most. libtorrent has 500; 1 Gbit/s at 100 ms needs 763."""
    min_outstanding: int = 8
    """Requests in flight to a peer whose rate is not known yet."""
    queue_seconds: float = 3.0
    """Requests in flight cover this many seconds of a slow peer's rate (libtorrent)."""
    near_window: int = 2 << 20
    """Bytes in flight that are enough for any peer but a fast one that is distant, or serves in
    pulses. More are tried, and kept while they bring more."""
    max_asked: int = 2000
    """Requests a peer may queue with us, advertised as `reqq` (libtorrent); more are rejected.
    Transmission asks for as much as that once a second, so it bounds what it gets."""
    max_message: int = 1 << 20
    """No message is longer (libtorrent); exact lengths are checked where they are known."""
    max_extension_message: int = 64 * 1024
    """Longest BEP 10 message."""
    max_extension_handshakes: int = 10
    """Handshakes repeated more often close the connection."""
    max_metadata: int = MAX_INFO
    """Bytes of the largest info dict fetched from peers, 30 MiB (libtorrent's default)."""
    max_metadata_held: int = 4 * MAX_INFO
    """Bytes of info dicts that all torrents together hold before they are verified. Memory grows
    only with what came; when full, the fetch that gets nothing, or began last, begins again."""
    max_metadata_requests: int = 64
    """Metadata blocks a peer may ask before we have sent them; more are rejected."""
    max_unwanted_blocks: int = 50
    """Unrequested blocks that close the connection. Cancelled ones in flight do not count."""
    max_invalid_requests: int = 300
    """Invalid or choked requests that close the connection (libtorrent)."""
    choked_grace: float = 2.0
    """Requests arriving this soon after our choke are only late, not wrong (libtorrent)."""
    allowed_fast: int = 10
    """Pieces a choked newcomer may have (BEP 6's k) ..."""
    allowed_fast_bytes: int = 32 << 20
    """... as long as they are not more than this together: of pieces of 1 GiB it would draw ten."""
    receive_buffer: int = 1 << 20
    """The one buffer all connections of a node receive into."""
    turn_least: int = 4096
    """Bytes received in one turn from a peer that sends small messages: at 5 us for each, a turn
    takes 4 ms, and everybody else gets theirs ..."""
    turn_most: int = 256 * 1024
    """... and from one that sends mostly blocks."""
    message_rate: float = 1000.0
    """Messages a second a peer may send that go with no block, either way ..."""
    message_burst: int = 5000
    """... and how many may be saved up. A peer that sends more is read later."""
    max_idle_bitfields: int = 10
    """Bitfields, HaveAlls and HaveNones that tell nothing new; more close the connection. aria2
    sends a bitfield in place of twenty Haves, WebTorrent a second one after the metadata."""
    send_batch: int = 512 * 1024
    """Payload bytes read and sent to a peer in one go (libtorrent's send_buffer_watermark)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TorrentConfig:
    """One torrent: which piece, which peer, whom to unchoke."""

    random_first_pieces: int = 4
    """Pieces chosen at random before rarest-first begins (BEP 3; libtorrent)."""
    max_open_bytes: int = 24 * 1024 * 1024
    """Bytes of pieces of one torrent being assembled or waiting for the disk. When full, no piece
    is opened but a second one."""
    max_piece_in_memory: int = 16 * 1024 * 1024
    """Bytes of the largest piece that is assembled in memory; a larger one is assembled on the
    disk, which costs a second write of it. Clients that choose the length of pieces by themselves
    choose no greater one."""
    spill_batch: int = 256 * 1024
    """Bytes written there at once. What a spilled piece may take of the memory, however full it
    is; and then the only piece a torrent has open."""
    endgame_copies: int = 3
    """Peers one block may be asked from in the endgame."""
    unchoke_interval: float = 10.0
    """Seconds between two choking rounds. BEP 3's ten: long enough for TCP to reach its rate."""
    unchoke_slots: int = 4
    """Peers unchoked for what they give us (BEP 3). 0: chance alone decides."""
    optimistic_slots: int = 1
    """Peers unchoked by chance (BEP 3). 0, and no slots above either: we only take."""
    optimistic_interval: float = 30.0
    """The optimistic slots move this often (BEP 3)."""
    newcomer_weight: int = 3
    """A peer's odds of the optimistic slot in its first three rounds (BEP 3)."""
    seed_quota: int = 20
    """Pieces a peer gets from a seed before others take its slot (libtorrent)."""
    super_seed_patience: float = 30.0
    """Seconds a super seed waits for what a peer can do at once if it will: begin with a piece that
    it is offered, or show one that another was given, which took as long. Three choking rounds."""
    max_connections: int = 50
    """Connections of one torrent (Transmission)."""
    dialled_share: float = 0.2
    """Of these, and of the node's, so much is kept for those we dial while something is missing:
    whoever comes in may be an attacker, and must not keep us from looking elsewhere."""
    place_share: float = 0.5
    """Of these, so much for one host of this machine or network before it yields to other hosts. A
    public host, or a /64, has one connection."""
    newcomer_grace: float = 30.0
    """Seconds in which a new connection does not yield to others: time for three choking rounds."""
    use_window: float = 60.0
    """A connection that gave or took a block within this time does not yield. As the timeout of a
    request."""
    yield_interval: float = 30.0
    """While others give, a peer that may give or take one day yields this seldom (libtorrent's
    turnover: 4 % in 300 s, which is one of 50 in 150 s)."""
    dial_rate: float = 30.0
    """Outgoing connections started per second, all torrents together (libtorrent)."""
    max_dialing: int = 16
    """Outgoing connections of one torrent being established at once."""
    max_dial_fails: int = 3
    """Failed attempts after which an address is forgotten (libtorrent)."""
    reconnect_delay: float = 60.0
    """Before dialling the same public address again (libtorrent); doubles with each attempt that
    led to nothing."""
    local_reconnect_delay: float = 2.0
    """The same for loopback and private addresses."""
    max_candidates: int = 1000
    """Addresses remembered; the one tried longest ago is forgotten."""
    find_peers_interval: float = 15 * 60.0
    """Between two lookups of a torrent that is doing well; it announces at the same time."""
    hungry_interval: float = 4.0
    """Between two lookups of a download with no peer; doubles ..."""
    hungry_most: float = 60.0
    """... up to this, for as long as it has none."""
    hungry_lookups: float = 30.0
    """Such lookups, and those after the loss of the last peer, of all torrents together, per
    minute: each asks some thirty nodes. Those who had fewest in a row come first."""
    lonely_interval: float = 5.0
    """Between the loss of the last peer and the lookup that follows."""
    bootstrap_patience: float = 20.0
    """A torrent's first lookup waits this long at most for the DHT to have contacts."""
    ban_time: float = 24 * 3600.0
    """How long the address of a poisoner stays out, and its host is met with suspicion."""
    parole_delay: float = 5.0
    """Seconds after a peer was proved to have sent bad data until the next one of its public host
    may be tried; doubles with each that sends bad data again."""
    local_parole_delay: float = 0.1
    """The same for loopback and private addresses."""
    max_parole_delay: float = 600.0
    """It does not grow beyond that: an honest peer behind the same address has its turn."""
    reuse_look: float = 20.0
    """Seconds that a download waits at most for the folders to be looked through in which some of
    it may be: 100,000 files take one to two on a disk that has to seek."""
    reuse_files: int = 200_000
    """Entries looked at in one such folder: two torrents of as many files as there may be."""
    reuse_patience: float = 30.0
    """Seconds without an answer of such a disk until peers are asked for what may be there: a disk
    that spins up takes ten, as does a network's that comes back."""
    resume_interval: float = 30.0
    """Between two saves of the resume record while it changes."""
    file_check_interval: float = 60.0
    """Between two looks at the files of an active torrent for changes behind its back."""
    missing_check_interval: float = 10.0
    """Between two looks for the files of a torrent that stopped because they are gone. Costs a few
    calls of `stat`: a disk that is plugged in again should be noticed while its owner waits."""
    disk_retry: float = 60.0
    """A torrent stopped by a full disk, or by other trouble of the system's with its files, tries
    again after this long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LsdConfig:
    """Peers of the local network (BEP 14)."""

    interval: float = 5 * 60.0
    """Between two announces of a torrent through one interface (BEP 14) ..."""
    least: float = 60.0
    """... and between any two datagrams there (BEP 14's one a minute, against storms). So much,
    too, between the first announce of a torrent and the second: multicast gets lost."""
    gather: float = 1.0
    """A new torrent waits so long for others, to be announced with them."""
    retry: float = 5.0
    """After an announce that could not be sent."""
    look_interval: float = 5.0
    """Between two looks at which interfaces there are."""
    max_interfaces: int = 16
    """Interfaces announced through; a machine of containers has more, of no use here."""
    host_rate: float = 10.0
    """Announces a second that one host may send: libtorrent sends one for each torrent ..."""
    host_burst: int = 300
    """... and so many at once, when it starts. Further ones are dropped unread."""
    rate: float = 100.0
    """The same for all hosts together: at 20 us each, 0.2 % of a core ..."""
    burst: int = 1000
    """... and at once."""
    max_hosts: int = 1000
    """Hosts whose rate is remembered; the one silent longest is forgotten."""
    heard_for: float = 15 * 60.0
    """What was heard is remembered for torrents added later: for three announces ..."""
    max_heard: int = 2000
    """... so many torrents of hosts, of which the oldest is forgotten ..."""
    max_heard_of_host: int = 200
    """... and of one host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskConfig:
    """Reading, hashing and writing content."""

    threads: int | None = None
    """Worker threads; None means one a core."""
    open_files: int = 500
    """Files kept open, those of all torrents together; fewer where RLIMIT_NOFILE leaves fewer.
    Opening one takes 20 us, so it matters little: libtorrent has 40 (file_pool_size)."""
    idle_file_time: float = 60.0
    """A file that nobody used for this long is closed, within twice that time."""
    inline: bool = False
    """Do the work in the calling task instead of a thread: for virtual time, where threads lie."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueConfig:
    """The local catalogue of torrents."""

    url: str | None = field(default=None, repr=False)
    """A PostgreSQL database that has it, `postgresql://...`, instead of a file in the state
    directory. Several nodes may share one. It may hold a password."""
    server_bytes: int = 64 * 1024 * 1024 * 1024
    """The same as `max_bytes` for a PostgreSQL database, about: what its rows and indexes take, in
    which free space does not count. Of nodes that share one, the smallest counts."""
    connect_time: float = 5.0
    """Seconds that a connection to the server may take ..."""
    retry_time: float = 10.0
    """... and, where it failed, before the next attempt; what is asked meanwhile fails at once."""
    statement_time: float = 30.0
    """Seconds that one statement may take in the server (its `statement_timeout`): a batch takes
    half of one, an eviction some."""
    max_bytes: int = 1024 * 1024 * 1024
    """Bytes of its database, indexes included: some three million titles. When it is full, what
    strangers published and nobody has seen for longest is forgotten."""
    readers: int = 4
    """Searches at a time, each with a connection of its own."""
    cache_bytes: int = 32 * 1024 * 1024
    """Bytes of pages the writing connection keeps; a reading one keeps a quarter. They are taken
    only as they are needed."""
    busy_time: float = 5.0
    """Wait for another process that writes to the same database, then give up (SQLite's
    `busy_timeout`)."""
    max_ranked: int = 10_000
    """Matches that are ranked, the newest: a word in a seventh of a million titles takes 11 ms so,
    and 120 ms with all of them."""
    max_looked_at: int = 100_000
    """Matches whose size and date are looked at when they are limited: 0.5 us each."""
    inline: bool = False
    """Do the work in the calling task instead of a thread: for virtual time, where threads lie."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchConfig:
    """The index in the DHT: publishing into it, and asking it."""

    publish_rate: float = 2.0
    """Operations (a lookup, or a round of puts) a second that publishing takes: some fifty
    datagrams, as long as there is something to do ..."""
    publish_burst: float = 10.0
    """... and so many at once."""
    max_puts_per_hour: int = 3600
    """Rounds of puts, of up to eight datagrams; publishing waits when they are used up. A hundred
    torrents with seventeen entries each, put once an hour, are half of that."""
    search_rate: float = 20.0
    """Operations a second that searches take, all together; a search is some ten ..."""
    search_burst: float = 200.0
    """... and so many at once: those of two searches that enumerate as much as they may."""
    max_searches: int = 16
    """Searches at the same time; further ones wait."""
    max_gets: int = 24
    """Slots that one search reads at most, roots included: `search.choice` has 24."""
    gets_at_once: int = 8
    """Of these, so many at a time."""
    prefix_gets: int = 9
    """Slots of the dictionary that one search reads, for words that begin with a text ..."""
    prefix_words: int = 5
    """... and of how many of them it then reads the trees."""
    record_patience: float = 2.0
    """Seconds a result waits for its publisher's record, at most: a lookup takes one or two."""
    similar_gets: int = 12
    """Slots of one tree of sketches that a search for similar torrents reads: the way down, and the
    leaves beside the one it leads to."""
    similar_records: int = 60
    """Torrents whose records such a search looks up, those that most trees have near first."""
    similar_enough: int = 10
    """Entries near it in a tree, below which the leaves beside are read as well."""
    records_at_once: int = 16
    """Records looked up at a time by one search."""
    peers_looked_up: int = 3
    """Results of one search whose swarms are looked at, while their records are looked up; each
    costs a lookup ..."""
    peers_patience: float = 0.5
    """... for which a result that was checked waits so long, in seconds."""
    lookups_at_once: int = 4
    """Entries that are published or checked at a time."""
    check_interval: float = 3600.0
    """Between two looks at an entry of ours: nodes forget what was not put for two hours."""
    check_spread: float = 0.15
    """It is drawn from so much less to so much more, so that not all come at once."""
    fresh_time: float = 45 * 60.0
    """A slot put within this time, by anybody, is not put again."""
    renew_interval: float = 8 * 3600.0
    """Between two renewals of an entry's time: readers drop one that is a day old."""
    parent_share: float = 0.25
    """The share of writes of which the slot above is told, for each level: its hints and its newest
    entries need not be exact. It is always told of a new child."""
    parent_checks: float = 3.0
    """How often the slot above a leaf is looked at while all entries of the leaf are renewed once;
    from there on up each slot as often as its share of the entries. So every one is looked at about
    as often, by publishers who know nothing of each other: else those who hold the upper ones would
    forget them (BEP 44: after two hours)."""
    tree_attempts: int = 6
    """Writes of one slot that others fill, or split, at the same time, before a writer gives way;
    the next check tries again."""
    hints: int = 20_000
    """Slots of which it is remembered whether they were leaves, so that a lookup begins where it
    will probably end; some 200 bytes each."""
    retry_interval: float = 5 * 60.0
    """Before an entry that could not be written is tried again; doubles with each failure, up to
    `check_interval`."""
    day_entries: int = 30
    """Days for which a torrent is in the index of its day."""
    max_published: int = 10_000
    """Torrents one node publishes."""
    slot_cache_time: float = 600.0
    """A publisher who wants to know how common a word is does not read its root again for this long
    ..."""
    slot_search_time: float = 30.0
    """... nor a search, which is to find what was just published, any slot for this long ..."""
    slot_repeat_time: float = 5.0
    """... and one that repeats another, because its user wants to see what is new, for this long:
    a script that asks in a loop costs strangers no more than one search in so many seconds ..."""
    slot_cache: int = 4000
    """... of so many slots; the one read longest ago is forgotten. Some 3 kB each."""
    clock_skew: float = 600.0
    """A slot signed further in the future than this is vandalism, and ignored."""
    enough_copies: int = 5
    """Of eight: a write that reached fewer nodes did not succeed, and a slot that fewer have is
    repaired by publishers who read it."""
    write_retries: int = 6
    """After somebody else wrote at the same time ..."""
    retry_least: float = 0.2
    """... each after a random pause, from so many seconds ..."""
    retry_most: float = 2.0
    """... to so many, and twice as many after each ..."""
    retry_longest: float = 30.0
    """... but no more than these: twenty who write one slot at once, a second and a half each, take
    their turns within."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowConfig:
    """Links that stay while their content changes (BEP 46): publishing them, and following."""

    poll_interval: float = 60.0
    """Between two looks for a new version ..."""
    eager_for: float = 30 * 60.0
    """... for so long after a start or a change. Then each pause is ..."""
    poll_growth: float = 1.5
    """... so many times the one before ..."""
    poll_interval_most: float = 600.0
    """... up to this. A look is one lookup, some twenty datagrams."""
    start_spread: float = 60.0
    """Links of an earlier run are looked at for the first time within so many seconds."""
    refresh_interval: float = 3600.0
    """Between two puts of a followed link's item: nodes forget it after two hours (BEP 44)."""
    refresh_spread: float = 0.15
    """It is drawn from so much less to so much more, so that followers do not come at once."""
    refresh_share: float = 2.0
    """Followers that put an item again within an interval, on average, however many there are:
    with two it happens once in fifty times that none does before the item expires."""
    retry_interval: float = 60.0
    """Before what nobody stored, or could not be read, is tried again."""
    write_retries: int = 5
    """After somebody else with the same key wrote at the same time."""
    at_once: int = 8
    """Lookups for links at a time; further ones wait."""
    max_links: int = 1000
    """Links one node follows; and as many that it publishes."""
    kept: int = 1
    """Old versions a follower keeps, unless told otherwise: who reads one is not disturbed ..."""
    max_kept: int = 100
    """... and how many it can be told."""
    published_kept: int = 1
    """Old versions a publisher goes on to seed: who is in the middle of one can complete it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CrawlConfig:
    """Looking through the DHT for torrents (BEP 51), to know of them: nothing of them is fetched
    but their metadata."""

    enabled: bool = False
    """Off, unless the user asks for it: it costs strangers some work."""
    rate: float = 10.0
    """Queries a second, evenly spaced: samples, and lookups for peers ..."""
    max_rate: float = 20.0
    """... and what a user may set it to."""
    max_queries_per_hour: int = 36_000
    """When they are used up, the crawl waits."""
    max_fetches_per_hour: int = 3600
    """Torrents whose metadata is asked for ..."""
    max_bytes_per_hour: int = 1024 * 1024 * 1024
    """... and bytes that their peers may send meanwhile."""
    asks_at_once: int = 64
    """Nodes asked at a time; further ones wait."""
    least_interval: float = 600.0
    """A node that would have us ask at once is asked again after so many seconds ..."""
    most_interval: float = 21_600.0
    """... and none is left alone for longer (BEP 51's maximum). So long, too, is left alone who
    does not answer."""
    regions: int = 4096
    """Equal parts of the keyspace, at most 65,536, gone through in turn, so that those who name
    many nodes at one place get no more attention than others ..."""
    nodes_in_region: int = 16
    """... and nodes that wait in each; further ones are left to be heard of again. All of them take
    5 MB."""
    nodes_named: int = 8
    """Nodes heard of one answer: BEP 5's number."""
    samples_heard: int = 100
    """Infohashes heard of one answer: more do not fit a datagram."""
    revisits: int = 200_000
    """Nodes that had torrents, to be asked again when their interval is over: 9 bytes each, 21 of
    IPv6."""
    resting_bytes: int = 12 * 1024 * 1024
    """To know for a million nodes until when each is left alone: 20 queries a second for six hours
    ask 432,000."""
    seen_bytes: int = 32 * 1024 * 1024
    """To know what was seen before: the last four to eight million infohashes."""
    max_waiting: int = 5000
    """Infohashes that wait to be looked at; when half of that is reached, no more nodes are asked.
    """
    max_misses: int = 8
    """Infohashes in a row of one node that nobody has: the rest of its answer is not looked at."""
    fetches_at_once: int = 16
    """Infohashes looked at a time."""
    lookup_nodes: int = 8
    """Nodes asked for the peers of an infohash that failed once, the closest first; before, only
    the one that named it."""
    peers_at_once: int = 2
    """Peers of one torrent asked for its metadata at a time ..."""
    max_peers: int = 8
    """... of so many at most ..."""
    fetch_patience: float = 20.0
    """... within so many seconds."""
    peer_patience: float = 6.0
    """A peer that sends nothing for so many seconds is given up."""
    max_metadata: int = 4 * 1024 * 1024
    """Bytes of an info dict: that of 200,000 pieces ..."""
    max_metadata_held: int = 16 * 1024 * 1024
    """... and of all that are on their way. Not those of the user's own torrents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One node. Every path, port and socket belongs to one node; many nodes live in one process."""

    bootstrap: Sequence[str | HostPort] = PUBLIC_BOOTSTRAP
    """`host:port` entry points to the DHT. Empty: an isolated first node."""
    listen: str | Sequence[str] = ("0.0.0.0:6881", "[::]:6881")
    """IP and port for both TCP and UDP; port 0 means any. Two of them, one IPv4 and one IPv6, make
    a node of both DHTs (BEP 32); where the machine has no IPv6, `[::]` is left out."""
    tls_listen: str | Sequence[str] | None = None
    """IP and TCP port for the peers of SSL torrents, as for `listen`. None: any port, on the hosts
    of `listen`, as soon as there is an SSL torrent. Empty: such torrents only dial."""
    state_dir: Path | str | None = None
    """Where contacts and resume records live; None keeps nothing on disk but content."""
    download_dir: Path | str = "."
    """Where `get` puts content."""
    max_connections: int = 200
    """Connections of all torrents together (libtorrent); fewer, with a warning, where the process
    may not open so many descriptors (RLIMIT_NOFILE)."""
    piece_memory: int = 96 * 1024 * 1024
    """Bytes of pieces being assembled or waiting for the disk, all torrents together: four torrents
    at full speed (`max_open_bytes`). When full, each torrent has one piece open, on the disk if it
    is larger than `spill_batch`."""
    limit_up: int | None = None
    """Bytes per second all torrents together may send, headers of messages included; None is no
    limit."""
    limit_down: int | None = None
    """The same for what is received."""
    pex: bool = True
    """Tell peers of others that share the same torrent, and hear of them (BEP 11). Never in private
    torrents (BEP 27)."""
    max_pending_handshakes: int = 256
    """Incoming connections that have not said what they want (rqbit). When there are more, the
    oldest of the host with most is closed ..."""
    max_pending_per_host: int = 128
    """... and so is the oldest of one host beyond this many. A machine of a hundred nodes has fewer
    at a time, as a handshake takes no longer than a round trip."""
    max_pending_dials: int = 450
    """Outgoing connections being established, all torrents together: what `dial_rate` can start
    within `connect_timeout`."""
    lsd: bool = False
    """Announce to the local network what we share and want, and listen to others (BEP 14). Never
    of private torrents, and never on a node that listens on loopback only. `dhtnode` has it on."""
    encryption: EncryptionPolicy = "prefer"
    """MSE, which hides from onlookers that this is BitTorrent (not from who knows the infohash).
    `prefer`: dial with it, and without at once where that fails; peers may come either way; the
    payload is encrypted too where the peer insists. `allow`: the same, but dial without. `require`:
    never without, and the payload always encrypted. `off`: never with it."""
    fail_fast: bool = False
    """End the run at the first fault of ours (an unexpected exception), as tests and labs do.
    Otherwise it ends only its smallest owner, a connection, a torrent or a request, is logged with
    its traceback, and counted in the node's status."""
    dht: DhtConfig = field(default_factory=DhtConfig)
    peer: PeerConfig = field(default_factory=PeerConfig)
    torrent: TorrentConfig = field(default_factory=TorrentConfig)
    disk: DiskConfig = field(default_factory=DiskConfig)
    lsd_limits: LsdConfig = field(default_factory=LsdConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    catalogue: CatalogueConfig = field(default_factory=CatalogueConfig)
    follow: FollowConfig = field(default_factory=FollowConfig)
    crawl: CrawlConfig = field(default_factory=CrawlConfig)
    deny_list: Path | str | None = None
    """A file of words and infohashes (`search.denied`) that this node neither stores in its
    catalogue nor publishes nor shows. It is read again when it changes."""
    deny_check_interval: float = 10.0
    """Seconds between two looks whether it has."""

    def bootstrap_points(self) -> list[HostPort]:
        """`bootstrap`, parsed. Raises InputError naming the entry that is wrong."""
        return [parse_host_port(p) if isinstance(p, str) else p for p in self.bootstrap]

    def encryption_policy(self) -> EncryptionPolicy:
        """`encryption`. Raises InputError if it is not one."""
        if self.encryption not in get_args(EncryptionPolicy):
            choices = ", ".join(get_args(EncryptionPolicy))
            raise InputError(f"encryption must be one of {choices}, not {self.encryption!r}")
        return self.encryption

    def listen_addresses(self) -> list[Address]:
        """`listen`, parsed, IPv4 first. Raises InputError unless it is one address, or one of each
        family."""
        found = _addresses(self.listen)
        if not found:
            raise InputError("at least one address to listen on is needed")
        return found

    def tls_addresses(self) -> list[Address]:
        """`tls_listen`, parsed, IPv4 first. Raises InputError unless it is one address of each
        family at most."""
        if self.tls_listen is None:
            return [address._replace(port=0) for address in self.listen_addresses()]
        return _addresses(self.tls_listen)


def _addresses(given: str | Sequence[str]) -> list[Address]:
    texts = [given] if isinstance(given, str) else given
    found = sorted(map(parse_address, texts), key=lambda address: address.is_ipv6)
    if len({address.is_ipv6 for address in found}) < len(found):
        raise InputError("listen on one IPv4 and one IPv6 address at most")
    return found
