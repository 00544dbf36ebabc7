"""A gateway that began anew counts less than it should."""

from __future__ import annotations

import pytest

from dht_torrent.portmap.epoch import Epoch


@pytest.mark.parametrize(
    ("seconds", "counted", "pcp", "natpmp"),
    [
        (100, 100, False, False),
        (100, 101, False, False),
        (0, -1, False, False),  # two that overtook each other
        (0, -2, True, False),
        (0, -3, True, True),
        (100, 92, False, False),
        (1000, 935, True, False),  # (1000 - 1000/16) - 2 = 935.5
        (1000, 936, False, False),
        (1000, 874, True, False),
        (1000, 872, True, True),  # 7/8 of 1000, and 2 s
        (1000, 1080, True, False),  # it counts more than it should: another gateway
        (1000, 1060, False, False),
    ],
)
def test_when_a_gateway_has_forgotten(seconds: int, counted: int, pcp: bool, natpmp: bool) -> None:
    for both_ways, expected in ((True, pcp), (False, natpmp)):
        epoch = Epoch()
        assert not epoch.is_lost(5000, 10.0, both_ways=both_ways)
        assert epoch.is_lost(5000 + counted, 10.0 + seconds, both_ways=both_ways) == expected


def test_what_it_counts_after_that_is_the_new_beginning() -> None:
    epoch = Epoch()
    epoch.is_lost(5000, 0.0, both_ways=True)
    assert epoch.is_lost(3, 10.0, both_ways=True)
    assert not epoch.is_lost(13, 20.0, both_ways=True)
