"""What connections cost that have nothing to do."""

from __future__ import annotations

import gc
import tracemalloc

from dht_torrent.config import UtpConfig
from tests.helpers.utp_link import two_ends

MANY = 30


def test_an_idle_connection_holds_little_and_wakes_seldom() -> None:
    """Also if it has carried something: a thousand of them fit in 20 MB, and in 3 % of a core."""
    world, one, other = two_ends(config=UtpConfig(max_connections=MANY))
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(MANY):
            one.dial(other, 20_000)
        world.run(20)
        assert list(other.received.values()) == [20_000] * MANY
        gc.collect()
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert held / (2 * MANY) < 12_000
    line = world.lines[one.address, other.address]
    carried = line.carried
    calls = 0
    due = one.table.due

    def counted(now: float) -> object:
        nonlocal calls
        calls += 1
        return due(now)

    one.table.due = counted  # type: ignore[method-assign, assignment]
    world.run(290)
    assert len(one.table) == len(other.table) == MANY
    # One small packet in each 29 s, and what the other end sends.
    assert line.carried - carried <= MANY * 21 * 48
    assert calls <= MANY * 32
