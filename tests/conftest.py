"""For all tests: `tests.helpers` can be imported, a busy machine fails no property, and the first
fault of ours ends the run."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

ROOT = str(Path(__file__).parent.parent)
if ROOT not in sys.path:  # --import-mode=importlib leaves it out
    sys.path.insert(0, ROOT)

from dht_torrent.config import Config  # noqa: E402
from tests.helpers.examples import examples  # noqa: E402

if TYPE_CHECKING:
    from tests.helpers.databases import Database, Door


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A PostgreSQL database of this worker. It is not empty."""
    from tests.helpers.databases import databases

    yield from databases(tmp_path_factory)


@pytest.fixture
def database(postgresql: Database) -> Database:
    """An empty one, with the tables of a catalogue or without."""
    postgresql.empty()
    return postgresql


@pytest.fixture
def door(database: Database) -> Iterator[Door]:
    """To the empty database; it can be shut."""
    from tests.helpers.databases import Door

    with tempfile.TemporaryDirectory(prefix="door-") as folder:  # a socket's path is short
        yield Door(database, Path(folder) / "d")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A clock runs only for a test that asks for it itself: asked for by a fixture alone, the test
    would sleep in real time."""
    clocks = {"autojump_clock", "mock_clock"}
    wrong = [
        item.nodeid
        for item in items
        if isinstance(item, pytest.Function)
        and clocks & (set(item.fixturenames) - set(item._fixtureinfo.argnames))
    ]
    if wrong:
        raise pytest.UsageError(f"these must have their clock as a parameter: {' '.join(wrong)}")


# A test that makes a Config of its own must not pass over a bug because it forgot to say so.
defaults = Config.__init__.__kwdefaults__
assert defaults is not None
defaults["fail_fast"] = True

os.environ["DHTNODE_CONFIG"] = os.devnull  # not the configuration of whoever runs the tests

# An example's time says how busy the machine is; tests that bound time do it themselves. Where CI
# is set Hypothesis would try the same examples in every run: it looks for new ones there as well,
# and a failure prints what repeats it (`@reproduce_failure`).
settings.register_profile(
    "tests", deadline=None, derandomize=False, print_blob=True, max_examples=examples(100)
)
settings.load_profile("tests")
