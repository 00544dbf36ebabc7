"""How large a packet may be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.utp.mtu import CLOSE, PacketSize


def search(size: PacketSize, path: int) -> int:
    """Probes until it is content; how many."""
    for n in range(100):
        probe = size.probe()
        if probe is None:
            return n
        if probe <= path:
            size.passed(probe)
        else:
            size.failed(probe)
    raise AssertionError("it never ends")


def test_ethernet_is_found_with_the_first_probe() -> None:
    size = PacketSize(548, 1232, 1472)
    assert search(size, 1472) == 1
    assert size.size == 1472


@given(st.integers(1232, 1472))
def test_any_path_is_found_in_a_few_probes(path: int) -> None:
    size = PacketSize(548, 1232, 1472)
    assert search(size, path) <= 12
    assert path - CLOSE <= size.size <= path


def test_one_lost_probe_says_nothing() -> None:
    size = PacketSize(548, 1232, 1472)
    size.failed(1472)
    assert size.probe() == 1472
    size.failed(1472, certainly=True)
    assert size.probe() == 1352


def test_after_timeouts_it_begins_small() -> None:
    size = PacketSize(548, 1232, 1472)
    search(size, 1400)
    size.nothing_passes()
    assert size.size == 548
    search(size, 800)
    assert 800 - CLOSE <= size.size <= 800


def test_what_passes_shows_that_the_path_has_changed() -> None:
    size = PacketSize(548, 1232, 1472)
    size.failed(1472, certainly=True)
    assert size.passed(1472)
    assert not size.passed(1300)
    assert (size.size, size.probe()) == (1472, None)
