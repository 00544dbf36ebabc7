"""What is seen of the network tells when it is another, or back."""

from __future__ import annotations

import itertools
import sys
import time

import pytest

from dht_torrent.config import WatchConfig
from dht_torrent.engine.net import interfaces, surroundings
from dht_torrent.engine.net.changes import Change, Changes, Heard
from dht_torrent.engine.net.surroundings import Surroundings

CONFIG = WatchConfig()
LOOK = CONFIG.look_interval
HOME, CAFE = frozenset({"192.168.1.5", "2001:db8::5"}), frozenset({"10.1.2.3"})
NOBODY = Heard(None, 0)


class Node:
    """Something that looks at its network regularly."""

    def __init__(self, addresses: frozenset[str] = HOME) -> None:
        self.addresses = addresses
        self.slept = 0.0
        self.generation = 0
        self.heard = NOBODY
        self.now = 1000.0
        self.changes = Changes(CONFIG, self._seen(), self.heard, self.now)

    def _seen(self) -> Surroundings:
        return Surroundings(self.addresses, self.slept, self.generation)

    def look(self, after: float = LOOK) -> Change | None:
        self.now += after
        return self.changes.look(self._seen(), self.heard, self.now)

    def looks(self, seconds: float) -> list[tuple[float, Change]]:
        """Those looks that told something, with the seconds until then."""
        found, began = [], self.now
        while self.now < began + seconds:
            change = self.look()
            if change is not None:
                found.append((self.now - began, change))
        return found

    def replied(self) -> None:
        self.heard = Heard(self.now, self.heard.timeouts)

    def timed_out(self, count: int = 1) -> None:
        self.heard = Heard(self.heard.replied_at, self.heard.timeouts + count)


def renewed(change: Change | None) -> str:
    assert change is not None
    assert change.renew is not None
    return change.renew


def test_where_nothing_changes_there_is_nothing_to_do() -> None:
    node = Node()
    assert node.looks(7200) == []


def test_other_addresses_are_another_network() -> None:
    node = Node()
    node.addresses = CAFE
    change = node.look()
    assert renewed(change) == "our addresses are now 10.1.2.3"
    assert change == Change(gone=HOME, moved=True, renew=change.renew if change else None)
    assert node.look() is None


def test_an_address_more_is_a_change_that_loses_nothing() -> None:
    node = Node()
    node.addresses = HOME | CAFE
    change = node.look()
    assert renewed(change)
    assert change is not None
    assert change.gone == frozenset()
    node.addresses = CAFE
    change = node.look()
    assert change is not None
    assert change.gone == HOME


def test_without_addresses_there_is_nothing_to_enter_until_they_are_back() -> None:
    node = Node()
    node.addresses = frozenset()
    assert node.look() == Change(gone=HOME, moved=True)
    assert node.looks(600) == []
    node.addresses = HOME
    change = node.look()
    assert renewed(change)
    assert change is not None
    assert change.gone == frozenset()


def test_sockets_that_are_lost_are_a_change_also_at_the_same_addresses() -> None:
    node = Node()
    node.generation += 1
    change = node.look()
    assert renewed(change)
    assert change is not None
    assert change.gone == HOME
    assert node.look() is None


@pytest.mark.parametrize(("seconds", "told"), [(9.0, False), (11.0, True), (3600.0, True)])
def test_a_suspend_is_a_change_unless_it_is_short(seconds: float, told: bool) -> None:
    node = Node()
    node.slept += seconds
    change = node.look()
    assert (change is not None) is told
    if told:
        assert renewed(change) == f"the machine stood still for {seconds:.0f} s"
    assert node.look() is None


@pytest.mark.parametrize(("seconds", "told"), [(9.0, False), (11.0, True)])
def test_a_process_that_stood_still_is_as_good_as_suspended(seconds: float, told: bool) -> None:
    node = Node()
    assert (node.look(LOOK + seconds) is not None) is told
    assert node.look() is None


def test_an_idle_node_asks_nobody_and_is_not_deaf() -> None:
    node = Node()
    node.replied()
    assert node.looks(3600) == []
    assert node.changes.deaf_since is None


def test_a_node_that_no_node_ever_answered_is_not_deaf() -> None:
    node = Node()
    node.timed_out(100)
    assert node.looks(600) == []


def test_after_a_silence_some_are_asked_and_one_response_is_enough() -> None:
    node = Node()
    node.look()
    node.replied()
    assert node.look() is None
    node.timed_out()
    told = node.looks(CONFIG.silence + LOOK)
    assert [change for _, change in told] == [Change(probe=True)]
    assert told[0][0] >= CONFIG.silence - 2 * LOOK
    node.replied()
    assert node.look() is None
    assert node.looks(CONFIG.silence - LOOK) == []


def deaf() -> Node:
    """A node that knows that none responds."""
    node = Node()
    node.look()
    node.replied()
    node.look()
    node.timed_out()
    assert node.looks(CONFIG.silence + LOOK)
    assert node.changes.deaf_since is None
    node.timed_out(CONFIG.probes)
    node.looks(CONFIG.silence + LOOK)
    assert node.changes.deaf_since == node.heard.replied_at
    return node


def test_a_deaf_node_asks_some_again_and_again() -> None:
    told = deaf().looks(60)
    assert all(change == Change(probe=True) for _, change in told)
    pauses = [later - sooner for (sooner, _), (later, _) in itertools.pairwise(told)]
    assert all(CONFIG.probe_interval <= pause < CONFIG.probe_interval + LOOK for pause in pauses)
    assert len(pauses) >= 8


def test_the_first_response_to_a_deaf_node_means_that_the_network_is_back() -> None:
    node = deaf()
    node.looks(3600)
    node.replied()
    change = node.look()
    assert renewed(change) == "nodes respond again"
    assert change is not None
    assert not change.moved
    assert node.changes.deaf_since is None
    node.replied()
    assert node.look() is None


def test_what_was_asked_is_waited_for_before_a_node_is_deaf() -> None:
    node = Node()
    node.look()
    node.replied()
    node.look()
    node.timed_out()
    node.looks(CONFIG.silence + LOOK)
    told = node.looks(3 * CONFIG.silence)  # and no timeout comes
    assert all(change == Change(probe=True) for _, change in told)
    assert node.changes.deaf_since is None


# -- of this machine -------------------------------------------------------------------------------


def test_our_addresses_are_those_that_lead_to_others() -> None:
    found = surroundings.surroundings().addresses
    assert not found & {"127.0.0.1", "::1"}
    assert not any(host.startswith("fe80") for host in found)
    known = {str(net.ip) for one in interfaces.all_interfaces() for net in one.networks}
    assert found <= known
    lans = {str(net.ip) for one in interfaces.interfaces() for net in one.networks}
    assert {host for host in lans if not host.startswith("fe80")} <= found


def test_how_long_a_machine_slept_is_told_by_two_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform != "linux":
        pytest.skip("other systems have other clocks")
    clocks = {time.CLOCK_BOOTTIME: 5000.0, time.CLOCK_MONOTONIC: 1400.0}
    monkeypatch.setattr(time, "clock_gettime", clocks.__getitem__)
    assert surroundings.slept() == 3600.0
    assert surroundings.surroundings().slept == 3600.0
