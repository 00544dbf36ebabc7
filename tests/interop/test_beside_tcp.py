"""uTP beside TCP of the system, on a line whose buffer TCP fills: it gives way, and comes back."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tests.helpers.clients import program
from tests.interop.namespaces import spaces

pytestmark = pytest.mark.xdist_group("network namespaces")
BENCH = Path(__file__).parents[2] / "scripts" / "bench"
RATE = 2.5e6
"""Bytes per second."""


def test_tcp_has_the_line_and_what_it_leaves_is_taken_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """20 Mbit/s with 400 ms of buffer. Three flows, as they fill it sooner; the benchmark takes
    more time, and compares one with what it has alone."""
    program("tc")
    monkeypatch.syspath_prepend(str(BENCH))
    bench = importlib.import_module("beside_tcp")
    with spaces(1), bench.line(20, 400) as (at_source, at_sink):
        plan = bench.Plan.of(tcp=0.0, utp=3.0, both=7.0, after=1.5)
        found = bench.measure(plan, at_source, at_sink, flows=3)
    assert found["uTP alone, MB/s"] >= 0.8 * RATE / 1e6
    assert found["delay of uTP alone, ms: median"] <= 110
    assert found["TCP beside uTP, MB/s"] >= 0.9 * 0.96 * RATE / 1e6
    assert found["uTP has 80% again after, s"] is not None
