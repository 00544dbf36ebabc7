"""What the tests of the engine share, and what of them is for some systems only."""

from __future__ import annotations

import pytest
import trio

from dht_torrent.engine.net.mmsg import ARE_POSSIBLE
from tests.helpers.dht_lab import Lab

collect_ignore = [] if ARE_POSSIBLE else ["test_batches.py"]


@pytest.fixture
def lab(nursery: trio.Nursery) -> Lab:
    return Lab(nursery)
