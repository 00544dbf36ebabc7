"""Each test of what a catalogue can do runs on every kind of catalogue. A further kind is added
here, and passes them all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dht_torrent.catalogue import Catalogue
from dht_torrent.catalogue.sqlite import SqliteCatalogue
from dht_torrent.config import CatalogueConfig
from tests.helpers.databases import Database

Opener = Callable[[CatalogueConfig], Catalogue]


def in_a_file(request: pytest.FixtureRequest) -> Opener:
    folder: Path = request.getfixturevalue("tmp_path")
    return lambda config: SqliteCatalogue(folder / "catalogue.sqlite", config)


def in_memory(request: pytest.FixtureRequest) -> Opener:
    return lambda config: SqliteCatalogue(None, config)


def in_postgresql(request: pytest.FixtureRequest) -> Opener:
    database: Database = request.getfixturevalue("database")
    return database.open


POSTGRESQL = pytest.param(in_postgresql, marks=pytest.mark.postgresql)


@pytest.fixture(params=[in_a_file, in_memory, POSTGRESQL])
def opener(request: pytest.FixtureRequest) -> Iterator[Opener]:
    """Opens catalogues, and closes them when the test is over."""
    opened: list[Catalogue] = []
    make = request.param(request)

    def open_one(config: CatalogueConfig) -> Catalogue:
        opened.append(make(config))
        return opened[-1]

    yield open_one
    for catalogue in opened:
        catalogue.close()


@pytest.fixture
def catalogue(opener: Opener) -> Catalogue:
    return opener(CatalogueConfig())
