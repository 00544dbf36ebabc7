"""What a catalogue can do. Every method may be called from any thread, blocks for milliseconds (a
`put` for as many rows as it is given), and raises StorageError when the database cannot do it:
the caller goes on without. `now` is seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from dht_torrent.catalogue.entries import (
    CatalogueQuery,
    CatalogueSummary,
    Entry,
    KnownPublisher,
    OutboxEntry,
    PublisherTrust,
    PutResult,
    SketchEntry,
    Source,
    SwarmHealth,
)


class Catalogue(Protocol):
    """Torrents, who vouches for them, and what we publish of our own."""

    def close(self) -> None:
        """Idempotent. What is called afterwards raises StorageError."""
        ...

    def warnings(self) -> list[str]:
        """What happened that the user should know, a line each; a line is given once."""
        ...

    @property
    def trouble(self) -> str | None:
        """Why it cannot be used just now, in a line; it may come back by itself."""
        ...

    def keep_up(self) -> None:
        """Call it now and then: who shares it with others says that this node is still there, and
        whether it is back is noticed."""
        ...

    # -- torrents -------------------------------------------------------------------------------

    def put(self, entries: Iterable[Entry], now: int) -> PutResult:
        """Store all or, if this raises, none of them; what is here already is completed.

        Title, size and the like are replaced by a better proof, or by ours; sources and claims are
        added; of equal proof the first stays. Claims of blocked publishers are left out, and so is
        an entry that has no others, unless it is our own. Batches of some thousands are quickest.
        """
        ...

    def get(self, infohash: bytes) -> Entry | None:
        """All that is known of a torrent."""
        ...

    def search(self, query: CatalogueQuery) -> list[Entry]:
        """At most `query.limit` torrents, the best matches first. Of very many matches only the
        newest here are ranked."""
        ...

    def page(
        self, after: int = 0, limit: int = 1000, source: Source = Source.NONE
    ) -> tuple[list[Entry], int]:
        """Some entries as `get` has them, in the order they came, and what `after` is for those
        that follow: begin with 0, end when none came. With `source`, only those that have it."""
        ...

    def forget(self, infohashes: Iterable[bytes], source: Source) -> int:
        """These do not come from `source` any more: remove those that now come from nowhere.
        Returns how many that were. What is in the outbox stays there."""
        ...

    def withdraw(self, infohashes: Iterable[bytes], publisher: bytes) -> None:
        """This publisher vouches for these no more. They stay, whoever else knows of them."""
        ...

    def set_health(self, health: Mapping[bytes, SwarmHealth]) -> None:
        """By infohash. Torrents that are not here are passed over."""
        ...

    def summary(self) -> CatalogueSummary: ...

    # -- publishers -----------------------------------------------------------------------------

    def set_trust(self, key: bytes, trust: PublisherTrust, now: int, name: str = "") -> int:
        """Whom the user trusts, or blocks. Returns how many torrents were removed: those of others
        that only blocked publishers vouch for."""
        ...

    def publishers(self) -> list[KnownPublisher]:
        """Those trusted or blocked."""
        ...

    def trust(self, keys: Collection[bytes]) -> dict[bytes, PublisherTrust]:
        """Of those of them that are not neutral."""
        ...

    def claimed(self, keys: Collection[bytes], since: int) -> dict[bytes, int]:
        """How many torrents each of them vouched for since then, as far as we saw."""
        ...

    # -- the outbox: what we publish ------------------------------------------------------------

    def put_outbox(self, entries: Iterable[OutboxEntry]) -> None:
        """Add or replace, by infohash, tree and root."""
        ...

    def renew_outbox(self, entries: Iterable[OutboxEntry]) -> None:
        """Replace those that are there. What was removed meanwhile does not come back."""
        ...

    def due(self, now: int, limit: int = 100) -> list[OutboxEntry]:
        """What is to be renewed by now, longest overdue first."""
        ...

    def outbox(self, infohash: bytes) -> list[OutboxEntry]:
        """What is published of one torrent."""
        ...

    def remove_outbox(self, infohash: bytes, keep: Sequence[tuple[str, bytes]] = ()) -> None:
        """Publish no more of this torrent, save some, by tree and root."""
        ...

    # -- what torrents are like -----------------------------------------------------------------

    def put_sketches(self, sketches: Iterable[SketchEntry]) -> None:
        """Add or replace. Torrents that are not here are passed over, and a sketch goes with its
        torrent."""
        ...

    def sketches(self, infohashes: Collection[bytes]) -> dict[bytes, bytes]:
        """Of those of them that have one."""
        ...

    def alike(self, keys: Collection[tuple[str, bytes]], each: int = 16) -> list[bytes]:
        """Torrents that have keys near to one of these in its tree: of each those with the same
        key, and those with the next ones, up to `each` on either side."""
        ...

    # -- how common words are -------------------------------------------------------------------

    def remember_counts(self, counts: Mapping[bytes, int], now: int) -> None:
        """How many torrents the network has for some words."""
        ...

    def counts(self, words: Collection[bytes], since: int) -> dict[bytes, int]:
        """What was remembered of them since then."""
        ...
