"""What is known of other torrents: the catalogue, the index in the DHT, links, the crawl."""

from __future__ import annotations

from dataclasses import dataclass, field


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
    """Lookups for slots that one search makes at most, roots included: `search.choice` has 24. A
    slot takes two while it moves from one day's place to the next (`search.label.OVERLAP`)."""
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
    read_copies: int = 3
    """Valid copies of a slot that a search waits for, if so many are there: one may be older than
    the last write, as not all writers find the same eight nodes."""
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
class SubscribeConfig:
    """Publishers' catalogues: those the user subscribes to, and our own."""

    max_subscriptions: int = 100
    max_rows: int = 100_000
    """Torrents of one of them that are taken into our catalogue; further ones are left out ..."""
    max_rows_of_all: int = 500_000
    """... and of all of them: a sixth of what a full catalogue holds (`CatalogueConfig.max_bytes`),
    so that they leave room for what the user finds himself."""
    max_bytes: int = 64 * 1024 * 1024
    """Of a version, packed; a larger one is not fetched."""
    publish_interval: float = 300.0
    """Between two looks whether a catalogue of ours has changed."""
