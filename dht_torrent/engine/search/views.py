"""What users see of search: a query, its results, and how publishing is getting on. Frozen values,
ready for `dataclasses.asdict` and JSON, as those of `engine.views`.

The rule: a text in here that came from a stranger was made fit to be shown (`filenames.printable`),
and a name counts as its publisher's only where `trust` says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

from dht_torrent.errors import InputError
from dht_torrent.ids import InfoHash, parse_info_hash
from dht_torrent.magnet import Magnet
from dht_torrent.metainfo import Metainfo

MAX_TEXT = 1000
"""Characters of a query."""
MAX_RESULTS = 1000
"""Results one search may ask for."""
_FAR = 1e15
"""Seconds that no calendar holds."""
MAX_PATIENCE = 600.0
"""Seconds a search may take."""

ResultTrust = Literal["unverified", "verified", "strong"]
"""What stands behind a result's name. `unverified`: nothing but an entry that anybody may write.
`verified`: its publisher signed a record of this infohash and name. `strong`: the torrent's own
info dict, which the infohash is the hash of, agrees."""
ResultSource = Literal["local", "network"]
"""Where a result is from: our own catalogue, or the index in the DHT."""

Kinship = Literal["same file", "near duplicate", "related", "similar name"]
"""What two torrents are to each other, see `SimilarResult`."""
Compared = Literal["content", "names"]
"""What of a torrent was compared, see `SimilarFound`."""
Verdict = Literal["trusted", "blocked"]
"""What the user thinks of a publisher."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchQuery:
    """What is searched for. Raises InputError when made with something that cannot be."""

    text: str = ""
    """Words that all must be in the title. Without any, `since` or a size must be given."""
    prefix: bool = False
    """The last word may be the beginning of one."""
    min_size: int | None = None
    """Bytes ..."""
    max_size: int | None = None
    """... both included."""
    since: float | None = None
    """Only what was published at this Unix time or later."""
    limit: int = 50
    """Results at most."""
    patience: float = 3.0
    """Seconds that the network gets. Results of our own catalogue are there at once."""
    network: bool = True
    """Ask the DHT as well, not our own catalogue alone."""

    def __post_init__(self) -> None:
        if len(self.text) > MAX_TEXT:
            raise InputError(f"a query has at most {MAX_TEXT} characters")
        for size in (self.min_size, self.max_size):
            if size is not None and size < 0:
                raise InputError("a size is not negative")
        if (
            self.min_size is not None
            and self.max_size is not None
            and self.min_size > self.max_size
        ):
            raise InputError("the least size is above the largest")
        if self.since is not None and not abs(self.since) < _FAR:  # NaN is not, either
            raise InputError("`since` is a Unix time")
        if not 1 <= self.limit <= MAX_RESULTS:
            raise InputError(f"a search has from 1 to {MAX_RESULTS} results")
        if not 0 < self.patience <= MAX_PATIENCE:
            raise InputError(f"the network gets more than 0 and at most {MAX_PATIENCE:.0f} s")


class SearchOptions(TypedDict, total=False):
    """The fields of `SearchQuery` besides its text, as `Node.search` takes them."""

    prefix: bool
    min_size: int | None
    max_size: int | None
    since: float | None
    limit: int
    patience: float
    network: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """One torrent that was found."""

    id: str
    """The infohash, 40 hex digits (as `Summary.id`)."""
    name: str
    """Fit to be shown: no control or direction characters. Ends in an ellipsis if `name_is_cut`."""
    size: int | None
    """Bytes; about, while `trust` is `unverified`. None: not known."""
    files: int | None
    """How many; None while `trust` is `unverified`."""
    published: float | None
    """Unix time at which it was last published, as its publisher says."""
    trust: ResultTrust
    publisher: str | None
    """The public key that signed its record, 64 hex digits; the first, where there are several."""
    publishers: int
    """How many keys have signed a record of it, or are said to have while it is unverified."""
    peers: int | None
    """Who shares it, seeds included, as seen by us; None: nobody looked."""
    seeds: int | None
    """Of these, who has all of it; None: not known."""
    peers_how: str | None
    """How they were seen: `joined` (we are connected to them), `bep33` (an estimate that nodes of
    the DHT gave) or `get_peers` (the addresses they named) ..."""
    peers_at: float | None
    """... and when, in Unix time."""
    source: ResultSource
    magnet: str
    trusted: bool = False
    """Its publisher is one that the user trusts (`Node.trust`)."""
    name_is_cut: bool = False
    """Only the beginning of a title is known, a dozen characters, from an entry whose publisher's
    record could not be read. The magnet link has no name then."""
    score: float = 0.0
    """How well it fits, 0 to 1: results come as they are found, and this is to sort them by."""

    @property
    def info_hash(self) -> InfoHash:
        """`id` as bytes."""
        return parse_info_hash(bytes.fromhex(self.id))

    @property
    def verified(self) -> bool:
        """Its publisher signed this name, or the torrent itself bears it."""
        return self.trust != "unverified"


@dataclass(frozen=True, slots=True, kw_only=True)
class CrawlStatus:
    """How looking through the DHT is getting on, since the start unless it says otherwise."""

    nodes: int
    """Nodes asked for a sample ..."""
    nodes_told: int
    """... and those that had torrents."""
    nodes_known: int
    """Further ones that wait to be asked."""
    named: int
    """Infohashes in their answers, of which many come again and again ..."""
    waiting: int
    """... and those that wait to be looked at."""
    found: int
    """Torrents put into the catalogue ..."""
    found_hour: int
    """... within the last hour."""
    outcomes: dict[str, int]
    """How many infohashes came to what: found, known, denied, private, too_large, malformed,
    no_peers, unreachable or no_metadata."""
    queries_hour: int
    """Queries within the last hour ..."""
    queries_hour_most: int
    """... and how many there may be ..."""
    fetches_hour: int
    """... torrents whose metadata was asked for ..."""
    fetches_hour_most: int
    bytes_hour: int
    """... and bytes that came of it."""
    bytes_hour_most: int
    why: str | None
    """Why nothing was found within the last hour, in a line; None: something was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarResult:
    """A torrent that is similar to one that was asked about. What is said of its content is what
    its publisher says, until its pieces were verified."""

    id: str
    """The infohash, 40 hex digits (as `Summary.id`)."""
    name: str
    """Fit to be shown: no control or direction characters."""
    size: int | None
    """Bytes. None: not known."""
    files: int | None
    """How many."""
    published: float | None
    """Unix time."""
    kinship: Kinship
    """What it is to the other: `same file` (both have one with the same bytes, as far as its id
    tells), `near duplicate` (at least four fifths of both contents are the same), `related` (three
    tenths are) or `similar name` (content that is not known, or differs)."""
    score: float
    """How similar in all, 0 to 1."""
    content: float | None
    """The share of both contents that is the same (Jaccard), as estimated from the parts that are
    looked at, give or take 0.04. None: not known of both."""
    title: float | None
    """The same of words and letters of the title ..."""
    listed: float | None
    """... and of the names and large sizes of files."""
    same_files: int
    """How many of the six largest files of both are the same."""
    trust: ResultTrust
    publisher: str | None
    """The public key that signed its record, 64 hex digits."""
    source: ResultSource
    magnet: str

    @property
    def info_hash(self) -> InfoHash:
        """`id` as bytes."""
        return parse_info_hash(bytes.fromhex(self.id))


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarQuery:
    """What is asked about. Raises InputError when made with something that cannot be."""

    source: str | Path | Magnet | Metainfo
    """A file or folder of this disk, a .torrent file, a magnet link, an infohash, or the first
    digits of a torrent's that is here."""
    limit: int = 20
    """Results at most."""
    patience: float = 10.0
    """Seconds that the network gets."""
    network: bool = True
    """Ask the DHT as well, not our own catalogue alone."""

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= MAX_RESULTS:
            raise InputError(f"a search has from 1 to {MAX_RESULTS} results")
        if not 0 < self.patience <= MAX_PATIENCE:
            raise InputError(f"the network gets up to {MAX_PATIENCE:.0f} s")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarFound:
    """What is similar to something."""

    asked: str
    """What it is called, fit to be shown."""
    compared: Compared
    """`names`: nothing is known of its content, so that only titles, names of files and ids of
    files were compared."""
    warning: str | None
    """Why that is so, in a line, if it can be changed."""
    results: tuple[SimilarResult, ...]
    """The most similar first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchStatus:
    """How publishing and searching are getting on."""

    publisher: str | None
    """The public key we publish under, 64 hex digits; None as long as nothing was published."""
    published: int
    """Torrents that we publish ..."""
    entries: int
    """... in so many places of the index ..."""
    due: int
    """... of which so many are to be written, or written again, by now."""
    gets_hour: int
    """Lookups for slots and records within the last hour ..."""
    puts_hour: int
    """... rounds of puts (of up to eight datagrams) ..."""
    puts_hour_most: int
    """... and how many of these there may be."""
    refused: int
    """Slots found since the start that held something malformed, or from the future: vandalism, as
    far as it was seen."""
    trouble: str | None
    """Why publishing does not go well, in a line; None when all is well."""
    crawl: CrawlStatus | None = None
    """How the crawl is getting on; None where it is off."""
    denied: int = 0
    """Entries of the deny-list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublisherView:
    """A publisher whom the user trusts or has blocked."""

    key: str
    """64 hex digits."""
    trust: Verdict
    since: float
    """Unix time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionView:
    """A publisher's catalogue that the user subscribes to."""

    id: str
    """Its place in the DHT, 40 hex digits."""
    link: str
    title: str
    publisher: str
    """The key it is signed with, 64 hex digits."""
    torrents: int
    """Of it, in our catalogue ..."""
    torrents_most: int
    """... and how many there may be."""
    skipped: int
    """Rows that made no sense, or for which there was no room."""
    refused: int
    """Rows that the user has denied, or has blocked the publisher of."""
    version: str | None
    """The torrent of the version that is in our catalogue; None until there is one."""
    state: str
    """Of the link, as `FollowView.state`."""
    error: str | None
    """What is wrong, in a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueStatus:
    """The local catalogue."""

    torrents: int
    """All that it knows of ..."""
    own: int
    """... and those that this node shares, which are never forgotten."""
    bytes: int
    """Of its database ..."""
    bytes_most: int
    """... and how many there may be, before what nobody has seen for longest is forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueImport:
    """What became of JSON lines that were imported."""

    lines: int
    added: int
    known: int
    """Were there already; what the lines have besides was added to them."""
    refused: int
    """Named only publishers whom the user has blocked."""
    skipped: dict[str, int]
    """How many could not be used, by the reason ..."""
    first_skipped: dict[str, int]
    """... and the number of the first such line, from 1."""
