"""No host can keep others from shaking hands with us."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.config import Config
from dht_torrent.ids import PeerKey
from dht_torrent.peer.half_open import HalfOpen

P1, P3, P4, P5, P6, P8, P9 = map(PeerKey, (1, 3, 4, 5, 6, 8, 9))

CONFIG = Config(max_pending_handshakes=8, max_pending_per_host=3)


def test_beyond_what_one_host_may_have_its_oldest_yields() -> None:
    subject = HalfOpen(CONFIG)
    assert [subject.came(key, "a") for key in map(PeerKey, range(3))] == [None] * 3
    assert subject.came(P3, "b") is None
    assert subject.came(P4, "a") == 0
    subject.ended(P1)
    assert subject.came(P5, "a") is None
    assert subject.came(P6, "a") == 2


def test_when_all_is_full_the_oldest_of_the_host_with_most_yields() -> None:
    subject = HalfOpen(CONFIG)
    for key, place in enumerate("abbaccbd"):
        assert subject.came(PeerKey(key), place) is None
    assert subject.came(P8, "e") == 1
    assert subject.came(P9, "f") == 0
    assert subject.came(PeerKey(10), "g") == 2
    assert len(subject) == 8


def test_many_hosts_of_one_each_take_turns() -> None:
    subject = HalfOpen(CONFIG)
    gone = [subject.came(key, f"host {key}") for key in map(PeerKey, range(20))]
    assert gone == [None] * 8 + list(range(12))


@given(st.lists(st.tuples(st.sampled_from("abcdefghijkl"), st.booleans()), max_size=60))
def test_never_too_many_and_each_newcomer_gets_in(events: list[tuple[str, bool]]) -> None:
    subject = HalfOpen(CONFIG)
    pending: dict[int, str] = {}
    for key, (place, ends) in enumerate(events):
        before = dict(pending)
        pending[key] = place
        yields = subject.came(PeerKey(key), place)
        if yields is not None:
            assert yields in before
            full = len(before) == 8 or list(before.values()).count(place) == 3
            assert full
            del pending[yields]
        if ends:
            subject.ended(PeerKey(key))
            subject.ended(PeerKey(key))
            del pending[key]
        assert len(subject) == len(pending) <= 8
        assert all(list(pending.values()).count(one) <= 3 for one in pending.values())


def test_of_a_host_whose_handshakes_are_done_nothing_is_kept() -> None:
    subject = HalfOpen(CONFIG)
    for key in map(PeerKey, range(1000)):
        subject.came(key, f"9.0.0.{key}")
        subject.ended(key)
    assert not subject._places
    assert not len(subject)
