"""Lengths of time whose sums and differences are exact, so that "not before" can be asserted."""

from __future__ import annotations

from hypothesis import strategies as st

_FRACTION = 1024


def seconds(least: float, most: float) -> st.SearchStrategy[float]:
    """Multiples of 1/1024 s: of any other floats, a + 60 - a may be less than 60."""
    return st.integers(round(least * _FRACTION), round(most * _FRACTION)).map(
        lambda number: number / _FRACTION
    )
