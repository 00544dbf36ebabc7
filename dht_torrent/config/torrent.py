"""Peers, torrents, the local network and the disk."""

from __future__ import annotations

from dataclasses import dataclass

from dht_torrent.bounds import MAX_INFO

CLIENT = b"DT"
"""Two letters for peer ids (BEP 20, `-DT0100-`) and the DHT's `v` key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerConfig:
    """One connection of the peer wire."""

    connect_timeout: float = 15.0
    """To establish TCP or uTP (libtorrent's peer_connect_timeout)."""
    race_delay: float = 0.25
    """A peer that has not answered over TCP after this is dialled over uTP too, or the other way
    round (RFC 8305) ..."""
    blind_race_delay: float = 1.0
    """... or after this, where nothing says that it speaks uTP ..."""
    blind_utp_timeout: float = 2.0
    """... and then for this long: a SYN and its repetition. Most who refuse TCP are not there."""
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
    """Bytes in flight that are enough for any peer but a fast one, which has `OUT_OF_TURN` seconds
    of its rate (`torrent.pipeline`). With one that is distant too, or serves in pulses, more are
    tried, and kept while they bring more."""
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
    receive_buffer: int = 2 << 20
    """The one buffer all connections of a node receive into."""
    turn_least: int = 4096
    """Bytes received in one turn from a peer that sends small messages: at 5 us for each, a turn
    takes 4 ms, and everybody else gets theirs ..."""
    turn_most: int = 256 * 1024
    """... from one that sends mostly blocks ..."""
    turn_in_place: int = 2 << 20
    """... and of blocks that are received where they belong: the memory is copied in 0.4 ms."""
    message_rate: float = 1000.0
    """Messages a second a peer may send that go with no block, either way ..."""
    message_burst: int = 5000
    """... and how many may be saved up. A peer that sends more is read later."""
    max_idle_bitfields: int = 10
    """Bitfields, HaveAlls and HaveNones that tell nothing new; more close the connection. aria2
    sends a bitfield in place of twenty Haves, WebTorrent a second one after the metadata."""
    send_batch: int = 512 * 1024
    """Payload bytes read and sent to a peer in one go (libtorrent's send_buffer_watermark); twice
    as many to one that takes `OFTEN` of these a second (`torrent.requests`)."""


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
    save_batch: int = 2 * 1024 * 1024
    """Bytes of complete pieces worth a visit to the disk at any time; see `save_pause`. Never more
    than a quarter of `max_open_bytes`."""
    save_pause: float = 0.02
    """Seconds from one visit to the next with less than that, unless nothing is in flight any more:
    2 MiB come in 20 ms at 100 MB/s, below which the cost of a visit does not matter."""
    read_ahead: int = 16 * 1024 * 1024
    """Bytes before somebody who reads a file while it loads that come before all others: 20 s of a
    film at 6 Mbit/s."""
    read_patience: float = 1.5
    """Seconds somebody waits for a piece until it is asked of a second peer. Players begin to show
    that they wait at about that."""
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
    first_reconnect_delay: float = 10.0
    """The same after a first failure, where a client closed at once: it may be starting
    (Transmission)."""
    missed_reconnect_delay: float = 5.0
    """The same for one that was giving us what we still lack, and left: a client that is started
    anew, or was paused (Transmission)."""
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
