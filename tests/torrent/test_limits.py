"""Never more than the rate and a burst, nothing left unused, and an even share for who waits."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dht_torrent.ids import PeerKey
from dht_torrent.torrent.limits import AHEAD, BURST, MESSAGE, MIN_READ, TICK, Limiter, Share
from tests.helpers.examples import examples

P0, P1, P2 = map(PeerKey, (0, 1, 2))

rates = st.integers(500, 20_000_000)


@dataclass
class Client:
    """A connection that always wants more, and needs `pause` seconds to move what it was given."""

    share: Share
    key: PeerKey
    least: int = MESSAGE
    most: int = MESSAGE
    pause: float = 0.0


@dataclass
class Run:
    """Clients of a limiter on a clock of their own."""

    limiter: Limiter
    clients: list[Client]
    moved: list[tuple[float, Client, int]] = field(default_factory=list)

    def until(self, end: float, start: float = 0.0) -> None:
        limiter, by_key = self.limiter, {client.key: client for client in self.clients}
        asks = [(start, client.key) for client in self.clients]
        now = start

        def give(client: Client, size: int) -> None:
            assert 0 < size <= client.most
            self.moved.append((now, client, size))
            heapq.heappush(asks, (now + client.pause, client.key))

        while True:
            due = limiter.next_turn(now)
            now = max(now, min(due, asks[0][0] if asks else due))
            if now >= end:
                return
            if asks and asks[0][0] <= now:
                client = by_key[heapq.heappop(asks)[1]]
                size = limiter.ask(client.share, client.key, client.least, client.most, now)
                if size:
                    give(client, size)
            else:
                for key, size in limiter.turns(now):
                    give(by_key[key], size)

    def total(self, share: Share | None = None, since: float = 0.0) -> int:
        return sum(
            size
            for when, client, size in self.moved
            if when >= since and (share is None or client.share is share)
        )

    def most_over(self, rate: float, share: Share | None = None) -> float:
        """By how many bytes any stretch of time had more than `rate`."""
        worst = ahead = last = 0.0
        for when, client, size in self.moved:
            if share is None or client.share is share:
                ahead = max(0.0, ahead - (when - last) * rate) + size
                worst, last = max(worst, ahead), when
        return worst


@st.composite
def clients(draw: st.DrawFn, shares: list[Share]) -> list[Client]:
    found = []
    for key in range(draw(st.integers(1, 12))):
        least = draw(st.integers(1, MESSAGE))
        most = draw(st.integers(least, 500_000))
        pause = draw(st.sampled_from([1e-4, 0.01, 0.3]))
        found.append(Client(draw(st.sampled_from(shares)), PeerKey(key), least, most, pause))
    return found


def burst(rate: int) -> float:
    return max(rate * BURST, MESSAGE + rate * TICK)


@settings(max_examples=examples(40))
@given(rates, rates, st.data())
def test_no_stretch_of_time_has_more_than_rate_and_burst(
    node: int, own: int, data: st.DataObject
) -> None:
    limiter, shares = Limiter(), [Share(), Share(), Share()]
    limiter.set_rate(node, 0.0)
    limiter.set_rate(own, 0.0, shares[0])
    run = Run(limiter, data.draw(clients(shares)))
    run.until(1.5)
    assert run.most_over(node) <= burst(node) + 1
    assert run.most_over(own, shares[0]) <= burst(own) + 1


@settings(max_examples=examples(40))
@given(rates, rates, st.data())
def test_nothing_is_left_unused_while_a_peer_waits(
    node: int, own: int, data: st.DataObject
) -> None:
    limiter, shares = Limiter(), [Share(), Share()]
    limiter.set_rate(node, 0.0)
    limiter.set_rate(own, 0.0, shares[0])
    busy = [Client(shares[1], key, MESSAGE, 500_000, 1e-4) for key in map(PeerKey, (100, 101))]
    run = Run(limiter, [*data.draw(clients(shares)), *busy])
    run.until(2.0)
    assert run.total() >= node * (2.0 - 3 * TICK) - MESSAGE


@settings(max_examples=examples(40))
@given(st.integers(100_000, 20_000_000), st.floats(0.01, 0.9), st.integers(1, 4))
def test_fifty_connections_get_no_more_than_one(rate: int, part: float, scale: int) -> None:
    # The one comes back before a block's worth is there: it is the limit that holds it.
    pause = part * MESSAGE / rate
    limiter, one, many = Limiter(), Share(), Share()
    limiter.set_rate(rate, 0.0)
    alone = Client(one, P0, most=scale * 128 * 1024, pause=pause)
    crowd = [Client(many, key, most=128 * 1024, pause=pause) for key in map(PeerKey, range(1, 51))]
    run = Run(limiter, [alone, *crowd])
    run.until(20.0)
    assert run.total(one) == pytest.approx(run.total(many), rel=0.1)


def test_connections_of_one_torrent_take_turns() -> None:
    limiter, share = Limiter(), Share()
    limiter.set_rate(1_000_000, 0.0)
    run = Run(limiter, [Client(share, key, pause=1e-4) for key in map(PeerKey, range(10))])
    run.until(10.0)
    moved = Counter(client.key for _, client, _ in run.moved)
    assert max(moved.values()) - min(moved.values()) <= 1


def test_a_torrent_that_was_idle_does_not_catch_up() -> None:
    limiter, old, new = Limiter(), Share(), Share()
    limiter.set_rate(1_000_000, 0.0)
    run = Run(limiter, [Client(old, P0, pause=1e-4)])
    run.until(10.0)
    limiter.withdraw(old, P0)
    run.clients.append(Client(new, P1, pause=1e-4))
    run.until(20.0, start=10.0)
    assert run.total(new) == pytest.approx(run.total(old, since=10.0), rel=0.05)


def test_a_torrents_own_limit_holds_no_other_peer_up() -> None:
    limiter, slow, fast = Limiter(), Share(), Share()
    limiter.set_rate(10_000_000, 0.0)
    limiter.set_rate(20_000, 0.0, slow)
    run = Run(limiter, [Client(slow, P0), Client(fast, P1, most=500_000, pause=1e-3)])
    run.until(10.0)
    assert run.total(slow) == pytest.approx(200_000, abs=MESSAGE)
    assert run.total() == pytest.approx(100_000_000, rel=0.01)


def test_a_torrent_with_no_limit_above_it_never_waits() -> None:
    limiter, limited, free = Limiter(), Share(), Share()
    limiter.set_rate(1000, 0.0, limited)
    assert limiter.ask(limited, P1, MESSAGE, MESSAGE, 0.0) == 0
    assert limiter.ask(free, P2, MESSAGE, 500_000, 0.0) == 500_000


def test_the_slowest_rate_still_lets_a_block_go() -> None:
    limiter, share = Limiter(), Share()
    limiter.set_rate(1, 0.0)
    assert limiter.ask(share, P1, MESSAGE, MESSAGE, 0.0) == 0
    assert limiter.next_turn(0.0) == pytest.approx(MESSAGE)
    assert limiter.turns(MESSAGE - 1.0) == []
    assert limiter.turns(limiter.next_turn(0.0)) == [(1, MESSAGE)]
    assert limiter.next_turn(MESSAGE + 1.0) == float("inf")


def test_a_new_rate_holds_at_once_for_those_who_wait() -> None:
    limiter, share = Limiter(), Share()
    limiter.set_rate(1, 0.0)
    assert limiter.ask(share, P1, MESSAGE, MESSAGE, 0.0) == 0
    limiter.set_rate(MESSAGE, 0.0)
    assert limiter.next_turn(0.0) == pytest.approx(1.0)
    limiter.set_rate(None, 0.5)
    assert limiter.next_turn(0.5) <= 0.5 + TICK
    assert limiter.turns(0.5) == [(1, MESSAGE)]


def test_a_lower_rate_forgets_what_was_saved_up_before() -> None:
    limiter, share = Limiter(), Share()
    limiter.set_rate(10_000_000, 0.0)
    limiter.set_rate(1000, 5.0)
    assert limiter.ask(share, P1, 1, 1 << 30, 5.0) <= burst(1000)
    assert limiter.ask(share, P1, 1000, 1 << 30, 5.0) == 0
    assert limiter.turns(6.001)[0][1] == pytest.approx(1000, abs=2)


def test_what_was_not_moved_can_be_moved_by_others() -> None:
    limiter, share = Limiter(), Share()
    limiter.set_rate(100_000, 0.0)
    granted = limiter.ask(share, P1, 1, 1 << 30, 1.0)
    assert granted == 20_000
    assert limiter.ask(share, P2, 5000, 5000, 1.0) == 0
    limiter.give_back(share, 6000)
    assert limiter.turns(limiter.next_turn(1.0)) == [(2, 5000)]


def test_a_peer_that_withdraws_gets_no_turn() -> None:
    limiter, share = Limiter(), Share()
    limiter.set_rate(1000, 0.0)
    for key in map(PeerKey, (1, 2)):
        assert limiter.ask(share, key, 500, 500, 0.0) == 0
    limiter.withdraw(share, P1)
    assert limiter.turns(100.0) == [(2, 500)]
    limiter.withdraw(share, P2)
    assert limiter.next_turn(100.0) == float("inf")


def test_what_is_only_counted_makes_others_wait_but_not_for_ever() -> None:
    limiter, share = Limiter(), Share()
    limiter.set_rate(1_000_000, 0.0)
    limiter.set_rate(500_000, 0.0, share)
    assert limiter.charge(share, 60_000, 0.0)
    assert limiter.ask(share, P1, 1000, 1000, 0.0) == 0
    assert limiter.next_turn(0.0) == pytest.approx(0.122, abs=1e-3)
    while limiter.charge(share, 1000, 0.0):
        pass
    assert limiter.next_turn(0.0) <= 0.2 + 0.002


@given(rates, st.integers(1, 40), st.integers(1, 40))
def test_all_who_read_ahead_owe_no_more_than_a_moment(rate: int, ours: int, theirs: int) -> None:
    limiter, share, other = Limiter(), Share(), Share()
    limiter.set_rate(rate, 0.0)
    for key in map(PeerKey, range(ours + theirs)):
        limiter.ask(share if key < ours else other, key, 1, 1, 0.0)
    debt = limiter.ahead(share) * ours + limiter.ahead(other) * theirs
    assert debt <= rate * AHEAD + MIN_READ * (ours + theirs)
    assert MIN_READ <= limiter.ahead(share) <= limiter.most_ahead(share) <= burst(rate)


def test_a_torrent_may_hope_for_its_part() -> None:
    limiter, share, other = Limiter(), Share(), Share()
    limiter.set_rate(1000, 0.0)
    assert limiter.expected(share) == 1000
    limiter.ask(other, P1, 500, 500, 0.0)
    assert limiter.expected(share) == 500
    assert limiter.expected(other) == 1000
    limiter.set_rate(200, 0.0, share)
    assert limiter.expected(share) == 200
