"""The least useful connection yields, and nobody that is of use."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.config import TorrentConfig
from dht_torrent.ids import PeerKey
from dht_torrent.torrent.connection_slots import NEVER, ConnectionSlots, ConnectionView, Use

P1, P2, P3, P4, P5, P6, P8 = map(PeerKey, (1, 2, 3, 4, 5, 6, 8))

CONFIG = TorrentConfig(dialled_share=0.2, place_share=0.5)
NOW = 1000.0
OLD = NOW - 500


def view(key: PeerKey, **facts: Any) -> ConnectionView:
    known: dict[str, Any] = {"place": f"9.0.0.{key}", "connected_at": OLD + key / 100}
    return ConnectionView(key=key, **(known | facts))


def keys(
    views: list[ConnectionView], *, needy: bool = True, now: float = NOW, **how: Any
) -> list[int]:
    how.setdefault("most", len(views))
    return [key for _, key in ConnectionSlots(CONFIG).yielding(views, now, needy=needy, **how)]


GIVER = view(PeerKey(90), gave_at=NOW - 1)
TAKER = view(PeerKey(91), took_at=NOW - 1)


def test_the_least_useful_yields_first() -> None:
    kinds = [
        view(P6, gave_at=OLD),
        view(P5, interesting=True),
        view(P4, wants=True),
        view(P3),
        view(P2, stalls=True, interesting=True),
        view(P1, parting=True, took_at=NOW),
    ]
    useful = [view(PeerKey(50 + number), took_at=NOW - 50) for number in range(6)]
    assert keys([*useful, *kinds]) == [1, 2, 3, 4, 5, 6]


def test_a_peer_that_gives_or_takes_never_yields() -> None:
    assert keys([GIVER, TAKER]) == []
    assert keys([GIVER, TAKER], needy=False, pressed=True) == []
    late = NOW + CONFIG.use_window
    assert keys([view(P1, gave_at=NOW - 1), view(P2, gave_at=NOW + 1)], now=late) == [1]
    assert keys([view(P1, gave_at=NOW - 1), view(P2, gave_at=NOW + 1)], now=late, patience=5) == []


def test_a_newcomer_has_time_to_show_what_it_is_good_for() -> None:
    new = NOW - CONFIG.newcomer_grace
    assert keys([GIVER, view(P1, connected_at=new + 1)]) == []
    assert keys([GIVER, view(P1, connected_at=new)]) == [1]
    assert keys([GIVER, view(P1, connected_at=new)], patience=1) == []


@pytest.mark.parametrize("facts", [{}, {"interesting": True}, {"wants": True}])
def test_the_better_half_stays_and_of_equals_the_older(facts: dict[str, bool]) -> None:
    views = [view(number, **facts) for number in map(PeerKey, range(10))]
    assert keys(views) == [9, 8, 7, 6, 5]
    assert keys(views[:1]) == [0]


def test_while_others_give_peers_that_may_be_useful_yet_yield_one_at_a_time() -> None:
    slots = ConnectionSlots(CONFIG)
    busy = [view(number, interesting=True) for number in map(PeerKey, range(5))]
    views = [GIVER, *busy]

    def yielding(now: float) -> list[tuple[Use, PeerKey]]:
        giving = view(PeerKey(90), gave_at=now - 1)
        return slots.yielding([giving, *busy], now, most=6, needy=True)

    assert slots.yielding(views, NOW, most=6, needy=True) == [(Use.WAITS, 4)]
    slots.yielded(Use.WAITS, NOW)
    assert yielding(NOW + CONFIG.yield_interval - 1) == []
    assert yielding(NOW + CONFIG.yield_interval) == [(Use.WAITS, 4)]
    # When nobody gives any more there is nothing to lose.
    slots.yielded(Use.WAITS, NOW + 100)
    assert len(slots.yielding(views, NOW + 101, most=6, needy=True)) == 3


def test_the_silent_need_no_pause_between_them() -> None:
    slots = ConnectionSlots(CONFIG)
    views = [GIVER, *(view(number) for number in map(PeerKey, range(5)))]
    slots.yielded(Use.SILENT, NOW)
    slots.yielded(Use.WAITS, NOW)
    assert len(slots.yielding(views, NOW, most=6, needy=True)) == 3


def test_at_a_seed_only_a_peer_that_wants_nothing_or_takes_nothing_yields() -> None:
    lets_it_go_by = view(P1, wants=True, served_since=NOW - 61)
    served = view(P2, wants=True, served_since=NOW - 59)
    waiting = view(P3, wants=True)
    views = [waiting, served, lets_it_go_by, view(P4), TAKER, view(P5, wants=True)]
    assert keys(views, needy=False) == [1, 4]
    assert keys(views, needy=False, pressed=True) == [1, 4, 5]


def test_places_for_those_we_dial_are_kept_until_they_are_taken() -> None:
    slots = ConnectionSlots(CONFIG)
    incoming = [view(number) for number in map(PeerKey, range(30))]
    dialled = [view(number, dialled=True) for number in map(PeerKey, range(7))]
    assert slots.kept(incoming, 50) == 10
    assert slots.kept(incoming + dialled, 50) == 3
    assert slots.kept(dialled * 2, 50) == 0
    assert slots.kept(incoming, 4) == 0


def test_a_crowded_place_yields_beyond_its_share_to_other_places_only() -> None:
    here = [view(n, place="10.0.0.1", crowded=True, wants=True) for n in map(PeerKey, range(8))]
    other = [view(P8, place="10.0.0.2", crowded=True, wants=True), TAKER]
    how: dict[str, Any] = {"needy": False, "most": 10}
    assert keys([*here, *other], place="10.0.0.3", **how)[0] == 7
    assert keys([*here, *other], place="10.0.0.1", **how) == []
    assert keys([*here, *other], **how) == []
    assert keys([*here[:5], *other], place="10.0.0.3", **how) == []
    trading = [view(n, place="10.0.0.1", crowded=True, took_at=NOW) for n in map(PeerKey, range(8))]
    assert keys(trading, place="10.0.0.3", **how) == []


facts = st.fixed_dictionaries(
    {
        "connected_at": st.floats(0, NOW),
        "gave_at": st.one_of(st.just(NEVER), st.floats(0, NOW)),
        "took_at": st.one_of(st.just(NEVER), st.floats(0, NOW)),
        "interesting": st.booleans(),
        "stalls": st.booleans(),
        "wants": st.booleans(),
        "served_since": st.one_of(st.none(), st.floats(0, NOW)),
    }
)


@given(st.lists(facts, max_size=30), st.booleans(), st.booleans())
def test_never_more_than_half_yield_nor_any_peer_that_is_new_or_of_use(
    drawn: list[dict[str, Any]], needy: bool, pressed: bool
) -> None:
    views = {number: view(PeerKey(number), **one) for number, one in enumerate(drawn)}
    found = ConnectionSlots(CONFIG).yielding(
        list(views.values()), NOW, most=50, needy=needy, pressed=pressed
    )
    assert len(found) <= (len(views) + 1) // 2
    assert found == sorted(found, key=lambda one: one[0])
    for use, key in found:
        one = views[key]
        assert use < Use.TRADES
        assert NOW - max(one.gave_at, one.took_at) > CONFIG.use_window
        assert NOW - one.connected_at >= CONFIG.newcomer_grace
        assert use != Use.QUEUES or pressed


def test_only_a_peer_that_may_be_of_use_yet_paces_those_that_yield_after_it() -> None:
    slots = ConnectionSlots(CONFIG)
    views = [GIVER, *(view(number, interesting=True) for number in map(PeerKey, range(5)))]
    slots.yielded(Use.SILENT, NOW)
    assert slots.yielding(views, NOW, most=6, needy=True) == [(Use.WAITS, 4)]
    slots.yielded(Use.WANTS, NOW)
    assert slots.yielding(views, NOW, most=6, needy=True) == []


def test_a_peer_that_gave_is_waited_for_longer_under_a_rate_limit() -> None:
    gave = view(PeerKey(90), gave_at=NOW - CONFIG.newcomer_grace - 20)
    views = [gave, *(view(number, interesting=True) for number in map(PeerKey, range(5)))]
    assert len(keys(views)) == 3  # nobody gives any more: there is nothing to lose
    assert len(keys(views, patience=25)) == 1


def test_every_crowded_place_may_have_one_connection() -> None:
    one = [
        view(n, place=f"10.0.0.{n}", crowded=True, wants=True) for n in map(PeerKey, range(1, 3))
    ]
    two = [view(n, place="10.0.0.9", crowded=True, wants=True) for n in map(PeerKey, range(3, 5))]
    how: dict[str, Any] = {"needy": False, "most": 1}
    assert keys(one, place="10.0.0.3", **how) == []
    assert keys([*one, *two], place="10.0.0.3", **how) == [4, 3]
