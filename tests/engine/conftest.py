"""What the tests of the engine share."""

from __future__ import annotations

import pytest
import trio

from tests.helpers.dht_lab import Lab


@pytest.fixture
def lab(nursery: trio.Nursery) -> Lab:
    return Lab(nursery)
