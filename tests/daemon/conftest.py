from __future__ import annotations

import pytest

from tests.helpers.fake_node import FakeNode


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()
