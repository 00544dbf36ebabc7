"""Each test of what a catalogue can do runs on every kind of catalogue. A further kind is added
here, and passes them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dht_torrent.catalogue import Catalogue, SqliteCatalogue
from dht_torrent.config import CatalogueConfig

Opener = Callable[[CatalogueConfig], Catalogue]


def in_a_file(folder: Path) -> Opener:
    return lambda config: SqliteCatalogue(folder / "catalogue.sqlite", config)


def in_memory(folder: Path) -> Opener:
    return lambda config: SqliteCatalogue(None, config)


@pytest.fixture(params=[in_a_file, in_memory])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens catalogues, and closes them when the test is over."""
    opened: list[Catalogue] = []
    make = request.param(tmp_path)

    def open_one(config: CatalogueConfig) -> Catalogue:
        opened.append(make(config))
        return opened[-1]

    yield open_one
    for catalogue in opened:
        catalogue.close()


@pytest.fixture
def catalogue(opener: Opener) -> Catalogue:
    return opener(CatalogueConfig())
