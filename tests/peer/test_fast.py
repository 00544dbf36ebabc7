"""The allowed-fast set is BEP 6's."""

from __future__ import annotations

import pytest

from dht_torrent.ids import parse_info_hash
from dht_torrent.peer.fast import allowed_fast_set

INFO_HASH = parse_info_hash(b"\xaa" * 20)


def test_the_example_of_bep_6() -> None:
    seven = [1059, 431, 808, 1217, 287, 376, 1188]
    assert allowed_fast_set("80.4.4.200", INFO_HASH, 1313, 7) == seven
    assert allowed_fast_set("80.4.4.200", INFO_HASH, 1313, 9) == [*seven, 353, 508]


def test_neighbours_get_the_same_set_and_others_another() -> None:
    mine = allowed_fast_set("80.4.4.200", INFO_HASH, 1313, 7)
    assert allowed_fast_set("80.4.4.1", INFO_HASH, 1313, 7) == mine
    assert allowed_fast_set("80.4.5.200", INFO_HASH, 1313, 7) != mine


@pytest.mark.parametrize("pieces", [0, 1, 2, 9])
def test_a_small_torrent_is_allowed_whole(pieces: int) -> None:
    assert sorted(allowed_fast_set("10.0.0.1", INFO_HASH, pieces, 10)) == list(range(pieces))


def test_ipv6_has_no_allowed_fast_set() -> None:
    assert allowed_fast_set("::1", INFO_HASH, 1313, 7) == []
