"""Writes batches into a catalogue until it is killed, and says which ones are stored."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

ROOT = str(Path(__file__).parents[2])
sys.path.insert(0, ROOT)

from dht_torrent.catalogue import OutboxEntry, Source  # noqa: E402
from dht_torrent.catalogue.sqlite import SqliteCatalogue  # noqa: E402
from dht_torrent.config import CatalogueConfig  # noqa: E402
from tests.helpers.catalogues import ALICE, claim, entry, infohash  # noqa: E402

BATCH = 50

if __name__ == "__main__":
    catalogue = SqliteCatalogue(sys.argv[1], CatalogueConfig(max_bytes=512 * 1024))
    for number in itertools.count(int(sys.argv[2])):
        rows = range(number * BATCH, (number + 1) * BATCH)
        catalogue.put(
            [
                entry(
                    *(row, f"Batch {number} row {row}"),
                    sources=Source.OWN if row % BATCH == 0 else Source.NETWORK,
                    claims=(claim(ALICE),),
                )
                for row in rows
            ],
            now=number,
        )
        catalogue.put_outbox([OutboxEntry(infohash(rows[0]), "w", b"batch", due=number)])
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
