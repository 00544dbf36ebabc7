from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.search.rank import (
    MAX_VOUCHING,
    WINDOW,
    Hit,
    SeenEntries,
    combined,
    freshness,
    health,
    merge_hits,
    ranked,
    title_rank,
    title_trust,
)
from dht_torrent.search.record import TitleTrust
from dht_torrent.search.words import query_words, title_runs

NOW = 1_700_000_000.0
DAY = 86400.0
KEYS = [bytes([n]) * 32 for n in range(4)]


def ih(number: int) -> bytes:
    return number.to_bytes(20, "big")


def rank_of(query: str, title: str) -> float:
    return title_rank(query_words(query), title_runs(title))


def names(query: str, *hits: Hit, points: float = 10.0, **options: frozenset[bytes]) -> list[str]:
    found = ranked(query, hits, now=NOW, points=lambda key: points, **options)
    return [result.hit.title for result in found]


def titled(*titles: str) -> list[Hit]:
    return [Hit(ih(number), title) for number, title in enumerate(titles)]


def test_a_title_of_nothing_but_the_query_is_the_best() -> None:
    assert rank_of("ubuntu server", "Ubuntu_Server") == 1.0
    assert rank_of("", "anything") == 1.0
    assert rank_of("ubuntu", "") == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("query", "better", "worse"),
    [
        ("big buck bunny", "Big Buck Bunny", "Bunny Buck Big"),
        ("big buck bunny", "Big Buck Bunny 1080p", "1080p Big Buck Bunny"),
        ("big buck bunny", "Big Buck Bunny 1080p", "Big Buck Bunny 1080p x264 aac"),
        ("big buck bunny", "The Big Buck Bunny Movie", "Big Movie Buck The Bunny"),
        ("big buck", "some other words around Big Buck", "Big"),
        ("one two three", "one two x three", "one x two three"),
        ("libre office", "LibreOffice", "Libre and Office"),
        ("ubuntu 2204", "ubuntu2204", "ubuntu server 2204"),
        ("日本語", "日本語", "日本 新 本語"),
    ],
)
def test_titles_rank_by_the_order_of_the_query(query: str, better: str, worse: str) -> None:
    assert rank_of(query, better) > rank_of(query, worse)


def test_the_rank_of_a_title_in_figures() -> None:
    assert rank_of("a1 b1", "x1 a1 b1") == pytest.approx(10 / (10 + 1 + 1 / 12))
    assert rank_of("a1 b1", "a1 x1 b1") == pytest.approx(10 / (10 + 5 / 6 + 1 / 12))
    assert rank_of("a1 b1", "b1 a1") == pytest.approx(10 / (10 + 1))
    assert rank_of("a1 b1", "a1") == pytest.approx(10 / (10 + 50 / 6))
    # Behind the first match the title goes round: c1 is skipped on the way back to b1.
    assert rank_of("a1 b1", "b1 a1 c1") == pytest.approx(10 / (10 + 1 + 5 / 6 + 1 / 12))


@given(st.text(max_size=30), st.text(max_size=30))
def test_a_rank_is_from_zero_to_one(query: str, title: str) -> None:
    assert 0 < rank_of(query, title) <= 1


def test_a_hostile_title_costs_no_more_than_a_long_one() -> None:
    assert rank_of("a b " * 1000, "a b " * 100_000) > 0


@given(*[st.floats(0, 1)] * 4)
def test_the_score_grows_with_each_part(text: float, well: float, trust: float, new: float) -> None:
    score = combined(text=text, health=well, trust=trust, fresh=new)
    assert 0 <= score <= 1
    for more in [
        combined(text=1, health=well, trust=trust, fresh=new),
        combined(text=text, health=1, trust=trust, fresh=new),
        combined(text=text, health=well, trust=1, fresh=new),
        combined(text=text, health=well, trust=trust, fresh=1),
    ]:
        assert more >= score


def test_the_weights_of_the_score() -> None:
    assert combined(text=1, health=1, trust=1, fresh=1) == pytest.approx(1)
    assert combined(text=0.5, health=1, trust=1, fresh=1) == pytest.approx(0.5)
    assert combined(text=1, health=0, trust=1, fresh=1) == pytest.approx(0.7)
    assert combined(text=1, health=1, trust=0, fresh=1) == pytest.approx(0.85)
    assert combined(text=1, health=1, trust=1, fresh=0) == pytest.approx(0.95)


def test_health_is_what_was_counted() -> None:
    assert health(0) == 0
    assert health(10) == 0.5
    assert health(90) == 0.9
    assert health(0) < health(None) == health(1) < health(2)


def test_freshness_halves_in_a_month_and_a_date_ahead_does_not_pay() -> None:
    assert freshness(NOW, NOW) == 1
    assert freshness(NOW - 30 * DAY, NOW) == 0.5
    assert freshness(NOW + DAY, NOW) == 1  # a clock that is fast
    assert freshness(NOW + DAY + 1, NOW) == 0
    assert freshness(None, NOW) == 0


def test_who_vouches_counts() -> None:
    order = [
        title_trust(TitleTrust.UNVERIFIED, 1.0, is_trusted=False),
        title_trust(TitleTrust.VERIFIED, 0.5, is_trusted=False),
        title_trust(TitleTrust.VERIFIED, 1.0, is_trusted=False),
        title_trust(TitleTrust.STRONG, 1.0, is_trusted=False),
        title_trust(TitleTrust.VERIFIED, 0.1, is_trusted=True),
    ]
    assert order == sorted(set(order))
    assert order[0] == 0
    assert order[-1] == 1
    assert title_trust(TitleTrust.STRONG, 9.0, is_trusted=False) == order[3]
    assert title_trust(TitleTrust.DIFFERS, 1.0, is_trusted=True) == 0
    assert title_trust(TitleTrust.UNVERIFIED, 1.0, is_trusted=True) == 0


def test_results_come_best_first() -> None:
    assert names("big bunny", *titled("bunny big", "big bunny", "a big fat bunny")) == [
        *("big bunny", "bunny big", "a big fat bunny"),
    ]


def test_a_healthy_torrent_comes_before_one_that_nobody_has() -> None:
    dead, unknown, alive = (
        Hit(ih(n), f"bunny {n}", networks=networks) for n, networks in enumerate([0, None, 50])
    )
    assert names("bunny", dead, unknown, alive) == ["bunny 2", "bunny 1", "bunny 0"]


def test_a_title_that_is_not_the_torrents_own_comes_last() -> None:
    lure = Hit(ih(1), "bunny", trust=TitleTrust.DIFFERS, networks=1000)
    assert names("bunny", lure, Hit(ih(2), "some other bunny of these")) == [
        *("some other bunny of these", "bunny"),
    ]


def test_a_key_with_more_than_ten_entries_comes_last() -> None:
    spam = [
        Hit(ih(n), "bunny", size=n, trust=TitleTrust.STRONG, publisher=KEYS[0], networks=99)
        for n in range(11)
    ]
    honest = Hit(ih(50), "bunny and more", trust=TitleTrust.VERIFIED, publisher=KEYS[1])
    seen = SeenEntries()

    def first() -> str:
        found = ranked("bunny", [*spam, honest], now=NOW, points=lambda key: seen.points(key, NOW))
        return found[0].hit.title

    for hit in spam[:10]:
        seen.note(KEYS[0], hit.infohash, NOW)
    assert first() == "bunny"
    seen.note(KEYS[0], spam[10].infohash, NOW)
    assert first() == "bunny and more"


def test_a_key_the_user_trusts_is_not_held_to_its_points() -> None:
    hits = [
        Hit(ih(n), "bunny", trust=TitleTrust.VERIFIED, publisher=key)
        for n, key in enumerate(KEYS[:2])
    ]
    found = ranked("bunny", hits, now=NOW, points=lambda key: 0.1, trusted=frozenset({KEYS[1]}))
    assert [result.hit.publisher for result in found] == [KEYS[1], KEYS[0]]
    assert [result.last for result in found] == [False, True]


def test_a_key_the_user_blocked_is_not_shown() -> None:
    hits = [Hit(ih(1), "bunny", publisher=KEYS[0]), Hit(ih(2), "rabbit bunny", publisher=KEYS[1])]
    assert names("bunny", *hits, blocked=frozenset({KEYS[0]})) == ["rabbit bunny"]


def test_the_same_title_and_size_under_one_key_is_one_line() -> None:
    hits = [
        Hit(ih(n), title, size=5, trust=TitleTrust.VERIFIED, publisher=KEYS[0], networks=n)
        for n, title in enumerate(["Big Bunny", "big-bunny", "BIG bunny!"])
    ]
    for order in itertools.permutations(hits):
        (line,) = ranked("bunny", order, now=NOW, points=lambda key: 10.0)
        assert line.hit == hits[2]
        assert line.alike == (ih(0), ih(1))


@pytest.mark.parametrize(
    "other",
    [
        Hit(ih(2), "big bunny", size=6, publisher=KEYS[0]),
        Hit(ih(2), "big bunny", size=5, publisher=KEYS[1]),
        Hit(ih(2), "bunny big", size=5, publisher=KEYS[0]),
        Hit(ih(2), "big bunny", size=None, publisher=KEYS[0]),
        Hit(ih(2), "big bunny", size=5, publisher=None),
    ],
)
def test_what_is_not_the_same_has_a_line_of_its_own(other: Hit) -> None:
    one = Hit(ih(1), "big bunny", size=5, publisher=KEYS[0])
    assert len(names("bunny", one, other)) == 2


def test_a_title_without_a_size_is_a_line_of_its_own() -> None:
    hits = [Hit(ih(n), "bunny", publisher=KEYS[0]) for n in range(2)]
    assert len(names("bunny", *hits)) == 2


def test_nobody_can_push_away_the_entry_of_another_by_a_copy() -> None:
    # Unchecked entries with the same title and size are as many lines.
    hits = [Hit(ih(n), "bunny", size=5) for n in range(3)]
    assert len(names("bunny", *hits)) == 3


HITS = st.builds(
    Hit,
    infohash=st.just(ih(1)),
    title=st.sampled_from(["a", "b"]),
    size=st.none() | st.integers(0, 2),
    published=st.none() | st.integers(0, 2),
    trust=st.sampled_from(TitleTrust),
    publisher=st.none() | st.sampled_from(KEYS),
    publishers=st.frozensets(st.sampled_from(KEYS)),
    networks=st.none() | st.integers(0, 3),
)


@given(HITS, HITS, HITS)
def test_what_is_known_is_merged_in_any_order(one: Hit, other: Hit, third: Hit) -> None:
    assert merge_hits(one, other) == merge_hits(other, one)
    assert merge_hits(one, one) == one
    assert merge_hits(merge_hits(one, other), third) == merge_hits(one, merge_hits(other, third))


def test_the_best_title_and_all_who_vouch_are_kept() -> None:
    claimed = Hit(ih(1), "lure", publishers=frozenset({KEYS[0]}), networks=3)
    signed = Hit(
        ih(1),
        "bunny",
        trust=TitleTrust.VERIFIED,
        publisher=KEYS[1],
        publishers=frozenset({KEYS[1]}),
    )
    assert merge_hits(claimed, signed) == Hit(
        ih(1),
        "bunny",
        trust=TitleTrust.VERIFIED,
        publisher=KEYS[1],
        publishers=frozenset(KEYS[:2]),
        networks=3,
    )
    with pytest.raises(ValueError):
        merge_hits(claimed, Hit(ih(2), "bunny"))


def test_a_torrent_with_many_keys_stays_small() -> None:
    hits = [Hit(ih(1), "bunny", publishers=frozenset({n.to_bytes(32, "big")})) for n in range(500)]
    for order in (hits, hits[::-1]):
        merged = order[0]
        for hit in order[1:]:
            merged = merge_hits(merged, hit)
        assert sorted(merged.publishers) == [n.to_bytes(32, "big") for n in range(MAX_VOUCHING)]


@given(st.permutations(range(6)))
def test_the_order_does_not_depend_on_what_came_first(order: list[int]) -> None:
    hits = [Hit(ih(n), f"bunny {'x ' * (n // 2)}") for n in order]
    found = ranked("bunny", hits, now=NOW, points=lambda key: 10.0)
    assert [result.hit.infohash for result in found] == [ih(n) for n in range(6)]


def test_ten_points_are_shared_by_the_entries_of_a_key() -> None:
    seen = SeenEntries()
    assert seen.points(KEYS[0], NOW) == 10
    for n in range(20):
        seen.note(KEYS[0], ih(n), NOW)
        seen.note(KEYS[0], ih(n), NOW)  # the same again does not count
    assert seen.points(KEYS[0], NOW) == 0.5
    assert seen.points(KEYS[1], NOW) == 10


def test_points_come_back_after_a_day() -> None:
    seen = SeenEntries()
    seen.note(KEYS[0], ih(1), NOW)
    seen.note(KEYS[0], ih(2), NOW + 10)
    seen.note(KEYS[0], ih(1), NOW + 20)
    assert seen.points(KEYS[0], NOW + WINDOW + 9) == 5
    assert seen.points(KEYS[0], NOW + WINDOW + 10) == 10
    assert seen.points(KEYS[0], NOW + WINDOW + 20) == 10


def test_a_flood_of_keys_and_entries_stays_small() -> None:
    seen = SeenEntries()
    for n in range(3000):
        seen.note(n.to_bytes(32, "big"), ih(n), NOW)
        seen.note(KEYS[1], ih(n), NOW)
    assert len(seen) == SeenEntries.MAX_KEYS
    assert seen.points(KEYS[1], NOW) == 10 / SeenEntries.MAX_ENTRIES


def test_the_key_that_was_seen_longest_ago_is_forgotten() -> None:
    seen = SeenEntries()
    for n in range(SeenEntries.MAX_KEYS + 1):
        for infohash in map(ih, range(20)):
            seen.note(n.to_bytes(32, "big"), infohash, NOW)
        if n < 2:
            assert len(seen) == n + 1
        if n == SeenEntries.MAX_KEYS - 1:
            seen.note(bytes(32), ih(0), NOW)  # the first again
    assert seen.points(bytes(32), NOW) == 0.5
    assert seen.points((1).to_bytes(32, "big"), NOW) == 10
