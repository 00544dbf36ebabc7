"""A catalogue on a disk of one MiB, which fills up, gets room again, and becomes read-only. Runs in
a mount namespace of its own (`unshare --mount`), and prints what happened, a line each.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = str(Path(__file__).parents[2])
sys.path.insert(0, ROOT)

from dht_torrent.catalogue import CatalogueQuery  # noqa: E402
from dht_torrent.catalogue.sqlite import SqliteCatalogue  # noqa: E402
from dht_torrent.errors import StorageError  # noqa: E402
from tests.helpers.catalogues import entry  # noqa: E402

TITLE = CatalogueQuery(words=("title",), limit=1000)


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def main(folder: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], check=True)
    path = folder / "catalogue.sqlite"
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(512 * 1024))
    catalogue = SqliteCatalogue(path)
    stored = 0
    try:
        while True:
            catalogue.put([entry(stored + number) for number in range(100)], now=1)
            stored += 100
    except StorageError as error:
        say(error.disk_full, error)
    say(stored > 0, len(catalogue.search(TITLE)) == min(1000, stored))
    ballast.unlink()
    say(catalogue.put([entry(stored)], now=1).added)
    catalogue.close()
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    try:
        SqliteCatalogue(path).put([entry(0)], now=1)
    except StorageError as error:
        say(error.disk_full, error)
    subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)
    catalogue = SqliteCatalogue(path)
    say(catalogue.summary().torrents == stored + 1, catalogue.warnings())
    catalogue.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
