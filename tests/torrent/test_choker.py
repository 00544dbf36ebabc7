"""Who gives gets."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.config import TorrentConfig
from dht_torrent.ids import PeerKey
from dht_torrent.torrent.choker import MAX_OPTIMISTIC, Choices, Choker, PeerView
from tests.helpers.times import seconds

P4, P5 = map(PeerKey, (4, 5))

CONFIG = TorrentConfig()


def peers(*rates: float, interested: bool = True) -> list[PeerView]:
    """Old acquaintances, keyed 0, 1, ..., by what they send us."""
    return [
        PeerView(key=PeerKey(key), interested=interested, rate_down=rate, connected_at=-1000.0)
        for key, rate in enumerate(rates)
    ]


def regular(choices: Choices) -> set[PeerKey]:
    return {key for key in choices.unchoke if key != choices.optimistic}


def rng() -> random.Random:
    return random.Random(7)


def test_four_slots_go_to_those_we_get_most_from_and_one_to_chance() -> None:
    choices = Choker(CONFIG).round(peers(1, 9, 8, 2, 7, 6), 0.0, rng(), seeding=False)
    assert choices.unchoke[:4] == (1, 2, 4, 5)
    assert choices.optimistic in {0, 3}
    assert len(choices.unchoke) == 5


def test_a_better_peer_without_interest_is_unchoked_as_well() -> None:
    views = peers(5, 4, 3, 2, 1)
    views.append(PeerView(key=PeerKey(10), interested=False, rate_down=6))
    views.append(PeerView(key=PeerKey(11), interested=False, rate_down=1.5))
    choices = Choker(CONFIG).round(views, 0.0, rng(), seeding=False)
    assert 10 in choices.unchoke
    assert 11 not in choices.unchoke
    assert {0, 1, 2, 3} <= set(choices.unchoke)


def test_without_interested_peers_no_peer_is_unchoked() -> None:
    choices = Choker(CONFIG).round(peers(0, 0, interested=False), 0.0, rng(), seeding=False)
    assert choices == Choices((), None)


def test_the_optimistic_slot_moves_every_thirty_seconds_and_reaches_every_peer() -> None:
    choker, chance = Choker(CONFIG), rng()
    views = peers(*[9] * 4, *[0] * 4)
    rounds = [choker.round(views, turn * 10.0, chance, seeding=False) for turn in range(60)]
    seen = [choices.optimistic for choices in rounds]
    assert all(seen[i] == seen[i + 1] == seen[i + 2] for i in range(0, 60, 3))
    assert all(seen[i] != seen[i + 3] for i in range(0, 57, 3))
    assert set(seen) == {4, 5, 6, 7}


def test_a_newcomer_is_three_times_as_likely() -> None:
    views = peers(*[9] * 4, 0, 0)
    views[5] = replace(views[5], connected_at=0.0)
    luck = Counter(
        Choker(CONFIG).round(views, 5.0, random.Random(seed), seeding=False).optimistic
        for seed in range(2000)
    )
    assert 0.70 < luck[P5] / 2000 < 0.80
    assert luck[P4] + luck[P5] == 2000


def test_without_other_slots_chance_alone_decides() -> None:
    blind = replace(CONFIG, unchoke_slots=0, optimistic_slots=5)
    views = peers(9, 8, 7, 6, 0, 0, 0, 0, 0, 0)
    choker, chance = Choker(blind), rng()
    rounds = [choker.round(views, turn * 30.0, chance, seeding=False) for turn in range(100)]
    assert all(len(choices.unchoke) == 5 for choices in rounds)
    got = Counter(key for choices in rounds for key in choices.unchoke)
    assert min(got.values()) > 35  # of 50 on average, whatever they give


def test_without_any_slots_we_only_take() -> None:
    taker = replace(CONFIG, unchoke_slots=0, optimistic_slots=0)
    views = [replace(view, snubs_us=view.key > 2) for view in peers(9, 8, 7, 0, 0, 0)]
    for seeding in (False, True):
        choices = Choker(taker).round(views, 0.0, rng(), seeding=seeding)
        assert choices == Choices((), None)


def test_a_snubbing_peer_loses_its_slot_and_chance_gets_more() -> None:
    views = peers(9, 8, 7, 6, 5, 0, 0, 0)
    views[0] = replace(views[0], snubs_us=True)
    views[1] = replace(views[1], snubs_us=True)
    choices = Choker(CONFIG).round(views, 0.0, rng(), seeding=False)
    assert choices.unchoke[:3] == (2, 3, 4)
    assert len(choices.unchoke) == 4 + 3


def test_a_free_slot_goes_to_a_newcomer_at_once_and_takes_none_away() -> None:
    choker, chance = Choker(CONFIG), rng()
    assert choker.round(peers(3, 2), 0.0, chance, seeding=False).unchoke[:2] == (0, 1)
    more = choker.round(peers(3, 2, 0), 1.0, chance, seeding=False, only_free_slots=True)
    assert set(more.unchoke) == {0, 1, 2}
    crowd = peers(3, 2, 0, 1, 99, 98)
    kept = choker.round(crowd, 2.0, chance, seeding=False, only_free_slots=True)
    assert {0, 1, 2} <= set(kept.unchoke)
    assert 4 in kept.unchoke
    ranked = choker.round(crowd, 10.0, chance, seeding=False)
    assert ranked.unchoke[:4] == (4, 5, 0, 1)


def test_toggling_interest_does_not_move_the_optimistic_slot() -> None:
    choker, chance = Choker(CONFIG), rng()
    views = peers(9, 9, 9, 9, 0, 0, 0)
    first = choker.round(views, 0.0, chance, seeding=False).optimistic
    for turn in range(100):
        now = 31 + turn / 100
        choices = choker.round(views, now, chance, seeding=False, only_free_slots=True)
        assert choices.optimistic == first


def test_a_seed_serves_in_turns() -> None:
    """Three who discard what they get, as fast as they like, and nine honest ones: equal shares."""
    choker, chance = Choker(CONFIG), rng()
    views = {
        key: PeerView(key=key, interested=True, connected_at=-1000.0, choked_since=key / 100)
        for key in map(PeerKey, range(12))
    }
    served: Counter[int] = Counter()
    for turn in range(720):
        now = turn * 10.0
        choices = choker.round(list(views.values()), now, chance, seeding=True)
        for key, view in views.items():
            rate = 1000.0 if key < 3 else 10.0  # pieces' worth per round: 100 times the honest
            if key in choices.unchoke:
                fresh = not view.unchoked
                sent = (0 if fresh else view.pieces_sent) + rate
                since = now if fresh else view.unchoked_since
                views[key] = replace(
                    view, unchoked=True, rate_up=rate, pieces_sent=sent, unchoked_since=since
                )
                served[key] += 1
            elif view.unchoked:
                views[key] = replace(view, unchoked=False, rate_up=0.0, choked_since=now)
    fair = sum(served.values()) / 12
    assert min(served[key] for key in map(PeerKey, range(3, 12))) >= 0.7 * fair


def test_a_seed_keeps_a_peer_until_it_had_its_quota_and_a_minute() -> None:
    choker, chance = Choker(CONFIG), rng()
    views = peers(*[0] * 8)
    first = regular(choker.round(views, 0.0, chance, seeding=True))
    for sent, now, stays in [(19, 100.0, True), (500, 50.0, True), (20, 60.0, False)]:
        trial = Choker(CONFIG)
        trial.round(views, 0.0, rng(), seeding=True)
        later = [
            replace(view, unchoked=view.key in first, pieces_sent=sent, choked_since=1.0)
            for view in views
        ]
        again = trial.round(later, now, chance, seeding=True)
        assert (set(again.unchoke[:4]) == first) is stays


def served(views: list[PeerView], choices: Choices, *, pieces_sent: float = 0.0) -> list[PeerView]:
    """The same peers after the choices were carried out."""
    return [
        replace(
            view,
            unchoked=view.key in choices.unchoke,
            choked_since=1.0,
            pieces_sent=pieces_sent,
        )
        for view in views
    ]


def test_a_free_slot_at_a_seed_takes_no_slot_from_a_peer_that_had_its_quota() -> None:
    """Whoever comes and goes as often as it likes does not make the round come sooner."""
    choker, chance = Choker(CONFIG), rng()
    first = choker.round(peers(*[0] * 8), 0.0, chance, seeding=True)
    views = served(peers(*[0] * 8), first, pieces_sent=500.0)
    kept = choker.round(views, 100.0, chance, seeding=True, only_free_slots=True)
    assert set(kept.unchoke[:4]) == regular(first)
    moved = choker.round(views, 100.0, chance, seeding=True)
    assert not set(moved.unchoke[:4]) & regular(first)


def test_of_those_who_wait_for_a_free_slot_the_best_gets_it() -> None:
    choker, chance = Choker(CONFIG), rng()
    choker.round(peers(3, 2, 1), 0.0, chance, seeding=False)
    more = choker.round(peers(3, 2, 1, 5, 9, 7), 1.0, chance, seeding=False, only_free_slots=True)
    assert more.unchoke[:4] == (0, 1, 2, 4)


def test_a_peer_that_is_served_by_chance_takes_no_turn_of_others() -> None:
    """However fast it is: its turn at a seed comes when it has waited longest."""
    choker, chance = Choker(CONFIG), rng()
    first = choker.round(peers(*[0] * 6), 0.0, chance, seeding=True)
    lucky = first.optimistic
    views = [
        replace(view, rate_up=1000.0 if view.key == lucky else 1.0)
        for view in served(peers(*[0] * 6), first)
    ]
    again = choker.round(views, 10.0, chance, seeding=True)
    assert set(again.unchoke[:4]) == regular(first)


def test_a_peer_that_lost_its_slot_meanwhile_waits_with_the_others() -> None:
    choker, chance = Choker(CONFIG), rng()
    first = choker.round(peers(*[0] * 6), 0.0, chance, seeding=True)
    gone = first.unchoke[0]
    views = [
        replace(view, unchoked=False, rate_up=1000.0, choked_since=9.0)
        if view.key == gone
        else view
        for view in served(peers(*[0] * 6), first)
    ]
    again = choker.round(views, 10.0, chance, seeding=True)
    assert gone not in again.unchoke[:4]
    assert set(first.unchoke[1:4]) < set(again.unchoke[:4])


@given(
    st.lists(
        st.builds(
            PeerView,
            key=st.integers(0, 30),
            interested=st.booleans(),
            unchoked=st.booleans(),
            rate_down=st.floats(0, 1e9),
            rate_up=st.floats(0, 1e9),
            pieces_sent=st.floats(0, 100),
            snubs_us=st.booleans(),
        ),
        max_size=20,
        unique_by=lambda view: view.key,
    ),
    st.lists(st.tuples(st.booleans(), st.booleans(), seconds(0, 40)), min_size=1, max_size=5),
)
def test_slots_are_bounded_and_no_peer_is_named_twice(
    views: list[PeerView], rounds: list[tuple[bool, bool, float]]
) -> None:
    choker, chance, now = Choker(CONFIG), rng(), 0.0
    for seeding, free_only, passed in rounds:
        now += passed
        choices = choker.round(views, now, chance, seeding=seeding, only_free_slots=free_only)
        unchoke = choices.unchoke
        assert len(set(unchoke)) == len(unchoke)
        wanting = {view.key for view in views if view.interested}
        slots = CONFIG.unchoke_slots
        assert len(wanting & set(unchoke)) <= slots + (1 if seeding else MAX_OPTIMISTIC)
        assert len(set(unchoke) - wanting) <= slots
        assert choices.optimistic is None or choices.optimistic in unchoke
        # While anybody waits no slot is empty.
        assert len(wanting & set(unchoke)) >= min(len(wanting), 1)


def simulate(gives: Callable[[int], bool], count: int, rounds: int) -> list[float]:
    """A swarm without a seed in which everybody always wants everything. Returns what each got."""
    chance = random.Random(11)
    chokers = [Choker(CONFIG) for _ in range(count)]
    flow = [[0.0] * count for _ in range(count)]  # flow[a][b]: what a sent b in the last round
    rate = [[0.0] * count for _ in range(count)]  # the same over some rounds
    got = [0.0] * count
    for turn in range(rounds):
        unchoked: list[tuple[int, ...]] = []
        for me in range(count):
            views = [
                PeerView(
                    key=other,
                    interested=True,
                    rate_down=rate[other][me],
                    unchoked=flow[me][other] > 0,
                    connected_at=-1000.0,
                )
                for other in map(PeerKey, range(count))
                if other != me
            ]
            choices = chokers[me].round(views, turn * 10.0, chance, seeding=False)
            unchoked.append(choices.unchoke if gives(me) else ())
        for me in range(count):
            for other in map(PeerKey, range(count)):
                flow[me][other] = 1 / len(unchoked[me]) if other in unchoked[me] else 0.0
                rate[me][other] = (rate[me][other] + flow[me][other]) / 2
                got[other] += flow[me][other]
    return got


def test_free_riders_get_at_most_a_third_of_what_honest_peers_get() -> None:
    count, riders = 20, 6
    got = simulate(lambda peer: peer >= riders, count, rounds=60)
    rider = sum(got[:riders]) / riders
    honest = sum(got[riders:]) / (count - riders)
    assert rider <= honest / 3


def test_without_interest_it_is_enough_to_send_more_than_the_last_regular_one() -> None:
    views = peers(9, 8, 7, 6)
    views.append(PeerView(key=PeerKey(10), interested=False, rate_down=6.5))
    views.append(PeerView(key=PeerKey(11), interested=False, rate_down=6))
    choices = Choker(CONFIG).round(views, 0.0, rng(), seeding=False)
    assert choices.unchoke == (0, 1, 2, 3, 10)


def test_among_equals_a_peer_that_is_served_stays_served() -> None:
    views = [replace(view, unchoked=view.key > 3) for view in peers(*[5] * 8)]
    choices = Choker(CONFIG).round(views, 0.0, rng(), seeding=False)
    assert choices.unchoke[:4] == (4, 5, 6, 7)


def test_a_minute_at_a_seed_counts_from_when_the_peer_was_unchoked() -> None:
    choker, chance = Choker(CONFIG), rng()
    first = choker.round(peers(*[0] * 8), 50.0, chance, seeding=True)
    views = [
        replace(view, pieces_sent=500.0, unchoked_since=50.0)
        for view in served(peers(*[0] * 8), first)
    ]
    kept = choker.round(views, 109.0, chance, seeding=True)
    assert set(kept.unchoke[:4]) == regular(first)
    moved = choker.round(views, 110.0, chance, seeding=True)
    assert not set(moved.unchoke[:4]) & regular(first)


def test_a_peer_at_a_seed_keeps_its_slot_though_it_took_nothing_yet() -> None:
    choker, chance = Choker(CONFIG), rng()
    first = choker.round(peers(*[0] * 8), 5.0, chance, seeding=True)
    views = [
        replace(view, rate_up=0.0, unchoked_since=5.0) for view in served(peers(*[0] * 8), first)
    ]
    again = choker.round(views, 15.0, chance, seeding=True)
    assert set(again.unchoke[:4]) == regular(first)


def test_a_peer_at_a_seed_that_asks_for_nothing_loses_its_slot_to_those_who_wait() -> None:
    choker, chance = Choker(CONFIG), rng()
    first = choker.round(peers(*[0] * 8), 5.0, chance, seeding=True)
    lazy = min(regular(first))
    views = [
        replace(view, unchoked_since=5.0, rate_up=0.0, idle=view.key == lazy)
        for view in served(peers(*[0] * 8), first)
    ]
    kept = choker.round(views, 24.0, chance, seeding=True)
    assert set(kept.unchoke[:4]) == regular(first), "time enough to ask for something"
    moved = choker.round(views, 25.0, chance, seeding=True)
    assert set(moved.unchoke[:4]) & regular(first) == regular(first) - {lazy}
    assert len(moved.unchoke[:4]) == 4


def test_an_idle_peer_at_a_seed_keeps_its_slot_while_no_other_waits() -> None:
    choker, chance = Choker(CONFIG), rng()
    first = choker.round(peers(*[0] * 4), 0.0, chance, seeding=True)
    views = [
        replace(view, unchoked_since=0.0, idle=True) for view in served(peers(*[0] * 4), first)
    ]
    again = choker.round(views, 600.0, chance, seeding=True)
    assert set(again.unchoke) == {0, 1, 2, 3}
