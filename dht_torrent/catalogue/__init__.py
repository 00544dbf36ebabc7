"""The torrents this node knows of, to be searched in milliseconds. Everything here blocks, on
purpose: `engine.search.catalogue` calls it in threads.

The rule: who puts something in says how well it was checked, and less never replaces more; what is
ours stays until we remove it. Text arrives *normalised* (words between spaces, as `search.words`
makes them), for what is stored and for what is asked: a catalogue knows nothing of languages.

- `entries`: what is stored, and the bounds that everything from strangers is brought into
- `protocol`: what a catalogue can do; there is no SQL in it
- `sqlite`: one that is a file, with SQLite's full-text index (FTS5). Its tables are in `schema`,
  its connections, and what is done about damage, in `database`, its size in `room`
- `postgres`: one that is a PostgreSQL database, which several nodes share. Its tables, and what in
  them is a node's own, are in `postgres_schema`; the server, and what is done when it goes away, in
  `postgres_server`; how it stores in `postgres_put`, how it finds and ranks in `postgres_search`;
  its rows in `postgres_rows`
- `lines`: export and import as JSON lines, for any catalogue

The two are not imported here: a node has one, and one that runs for a download alone has none.
"""

from dht_torrent.catalogue.entries import (
    CatalogueQuery,
    CatalogueSummary,
    Entry,
    KnownPublisher,
    ListedFile,
    OutboxEntry,
    Proof,
    PublisherTrust,
    PutResult,
    SketchEntry,
    Source,
    SwarmHealth,
    TitleClaim,
)
from dht_torrent.catalogue.protocol import Catalogue

__all__ = [
    "Catalogue",
    "CatalogueQuery",
    "CatalogueSummary",
    "Entry",
    "KnownPublisher",
    "ListedFile",
    "OutboxEntry",
    "Proof",
    "PublisherTrust",
    "PutResult",
    "SketchEntry",
    "Source",
    "SwarmHealth",
    "TitleClaim",
]
