"""When a torrent has been shared enough."""

from __future__ import annotations

import pytest

from dht_torrent.config.seeding import MAX_IDLE, MAX_RATIO, SeedingLimit, SeedingLimits
from dht_torrent.errors import InputError
from dht_torrent.torrent.seeding_limits import enough


@pytest.mark.parametrize(
    ("own", "node", "ratio", "reached"),
    [
        ("node", None, 1000.0, False),
        ("node", 2.0, 1.99, False),
        ("node", 2.0, 2.0, True),
        ("none", 2.0, 1000.0, False),
        (0.5, None, 0.5, True),
        (3.0, 1.0, 2.0, False),
        (0.0, None, 0.0, True),
    ],
)
def test_a_limit_of_its_own_goes_before_that_of_the_node(
    own: SeedingLimit, node: float | None, ratio: float, reached: bool
) -> None:
    by_ratio = enough(SeedingLimits(ratio=own), node, None, ratio=ratio, idle=1e9)
    assert by_ratio == ("ratio" if reached else None)
    by_idle = enough(SeedingLimits(idle=own), None, node, ratio=1e9, idle=ratio)
    assert by_idle == ("idle" if reached else None)


@pytest.mark.parametrize("wrong", [-0.1, float("nan"), float("inf"), MAX_RATIO + 1, "never"])
def test_what_is_no_limit_is_refused(wrong: SeedingLimit) -> None:
    with pytest.raises(InputError, match="ratio must be"):
        SeedingLimits(ratio=wrong)
    with pytest.raises(InputError, match="idle must be"):
        SeedingLimits(idle=wrong if wrong != MAX_RATIO + 1 else MAX_IDLE + 1)
