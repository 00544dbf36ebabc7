"""Connections and files share what the process may open, each within a part of its own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.config import Config, DiskConfig
from dht_torrent.engine.budget import RESERVE, divide


def test_where_there_is_plenty_each_gets_what_was_asked() -> None:
    config = Config()
    budget = divide(1 << 20, config, threads=4)
    assert budget.applied(config) == config
    assert budget.warning(config, 1 << 20) is None


def test_the_usual_limit_leaves_all_connections_and_says_nothing() -> None:
    config = Config()
    budget = divide(1010, config, threads=4)
    assert budget.connections == config.max_connections
    assert budget.files >= 400
    assert budget.warning(config, 1010) is None


def test_a_low_limit_leaves_fewer_connections_and_says_so() -> None:
    config = Config()
    budget = divide(240, config, threads=2)
    assert 90 <= budget.connections < config.max_connections
    warning = budget.warning(config, 240)
    assert warning is not None
    assert f"{budget.connections} connections instead of 200" in warning
    assert "ulimit -n" in warning
    applied = budget.applied(config)
    assert applied.max_connections == budget.connections
    assert applied.max_pending_handshakes == budget.handshakes
    assert applied.max_pending_dials == budget.dials
    assert applied.disk.open_files == budget.files


@given(
    left=st.integers(0, 5000),
    threads=st.integers(1, 16),
    connections=st.integers(1, 3000),
    files=st.integers(1, 3000),
)
def test_the_parts_together_stay_below_the_limit(
    left: int, threads: int, connections: int, files: int
) -> None:
    config = Config(max_connections=connections, disk=DiskConfig(open_files=files))
    budget = divide(left, config, threads)
    assert min(budget) >= 1
    assert budget.connections <= connections
    assert budget.files <= files
    if left >= RESERVE + 3 * threads + 4 + 32:
        assert sum(budget) + RESERVE + 3 * threads + 4 <= left
