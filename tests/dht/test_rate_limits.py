"""Floods are shed, answers to the world are rationed, and we keep below others' limits."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from dht_torrent.config import DhtConfig
from dht_torrent.dht.origins import home, neighbourhood
from dht_torrent.dht.ping_queue import PingQueue
from dht_torrent.dht.rate_limits import QueryLimit, QueryPace, RateLimit, SendBudget
from dht_torrent.ids import Address
from tests.helpers.examples import examples

CONFIG = DhtConfig()
PUBLIC = Address("11.22.33.44", 6881)
LOCAL = Address("127.0.0.1", 6881)


def test_a_public_home_is_an_ip_and_a_local_one_has_a_port() -> None:
    assert home(PUBLIC) == home(PUBLIC._replace(port=1))
    assert home(LOCAL) != home(LOCAL._replace(port=1))
    assert home(Address("2a00:1:2:3::1", 1)) == home(Address("2a00:1:2:3:4::9", 2))
    assert neighbourhood(PUBLIC) == neighbourhood(Address("11.22.33.99", 1))
    assert neighbourhood(PUBLIC) != neighbourhood(Address("11.22.34.44", 1))
    assert neighbourhood(LOCAL) != neighbourhood(Address("127.0.0.2", 6881))


def test_fifty_queries_in_ten_seconds_pass_and_then_silence_for_five_minutes() -> None:
    limit = QueryLimit(CONFIG)
    assert all(limit.allows(PUBLIC, 1.0) for _ in range(50))
    assert not limit.allows(PUBLIC._replace(port=99), 2.0)  # another port is the same IP
    assert limit.blocks(PUBLIC, 301.0)
    assert not limit.allows(PUBLIC, 301.0)
    assert limit.allows(PUBLIC, 302.5)


def test_floods_are_shed_however_long_we_run() -> None:
    limit = QueryLimit(CONFIG)
    assert all(limit.allows(PUBLIC, 1e6) for _ in range(50))
    assert not limit.allows(PUBLIC, 1e6 + 1)


def test_a_steady_asker_is_never_ignored() -> None:
    limit = QueryLimit(CONFIG)
    assert all(limit.allows(PUBLIC, 0.21 * n) for n in range(1000))


def test_one_local_port_does_not_speak_for_another() -> None:
    limit = QueryLimit(CONFIG)
    for _ in range(100):
        limit.allows(LOCAL, 0)
    assert limit.blocks(LOCAL, 0)
    assert limit.allows(LOCAL._replace(port=7000), 0)


def test_the_limiter_remembers_a_bounded_number_of_sources() -> None:
    limit = QueryLimit(replace(CONFIG, tracked_sources=100))
    for port in range(1, 1000):
        limit.allows(LOCAL._replace(port=port), 0)
    assert len(limit) == 100


def test_answers_to_the_public_share_a_budget_that_refills() -> None:
    budget = SendBudget(CONFIG, 0)
    sent = sum(budget.allows(1000, PUBLIC, 0) for _ in range(100))
    assert sent == 24  # 8000 B/s for three seconds
    assert budget.allows(1000, LOCAL, 0)
    assert not budget.allows(1000, PUBLIC, 0.1)
    assert sum(budget.allows(1000, PUBLIC, 1.0) for _ in range(100)) == 8


@settings(max_examples=examples(50))
@given(st.lists(st.floats(0, 3), min_size=100, max_size=400), st.floats(1, 40))
def test_keeping_our_pace_never_offends_the_limit_of_a_node_like_us(
    waits: list[float], haste: float
) -> None:
    pace, limit = QueryPace(CONFIG), QueryLimit(CONFIG)
    now = 0.0
    arrivals = []
    for wait in waits:
        now += wait / haste
        free = pace.is_free(PUBLIC, now)
        when = pace.book(PUBLIC, now)
        assert (when == now) == free
        arrivals.append(when + wait / 4)  # up to 0.75 s on the way, so some overtake others
    assert all(limit.allows(PUBLIC, when) for when in sorted(arrivals))


def test_two_hundred_questions_to_one_node_take_three_quarters_of_a_minute() -> None:
    pace = QueryPace(CONFIG)
    times = [pace.book(PUBLIC, 0) for _ in range(200)]
    assert times == sorted(times)
    assert (times[44], times[45], times[-1]) == (0, 11, 44)
    assert pace.book(Address("11.22.33.45", 1), 0) == 0  # somebody else


def test_a_public_stranger_waits_ninety_seconds_and_a_local_one_not_at_all() -> None:
    strangers = PingQueue(CONFIG)
    strangers.add(PUBLIC, 0)
    strangers.add(LOCAL, 0)
    assert strangers.take(0, 10) == [LOCAL]
    assert strangers.take(89, 10) == []
    assert strangers.take(90, 10) == [PUBLIC]
    assert strangers.take(1000, 10) == []


def test_strangers_are_few_and_the_first_come_stays() -> None:
    strangers = PingQueue(CONFIG)
    for number in range(10_000):
        strangers.add(Address(f"11.0.{number >> 8}.{number & 255}", 1), number / 1000)
    assert len(strangers) == CONFIG.verify_queue
    assert strangers.take(1000, 3) == [Address(f"11.0.0.{n}", 1) for n in range(3)]


def test_a_rate_is_so_much_in_a_window_that_its_first_event_begins() -> None:
    rate = RateLimit(CONFIG, most=10, window=60)
    assert [rate.allows("a", 0, 4) for _ in range(3)] == [True, True, False]
    assert rate.allows("a", 1, 2)  # what was too much did not count
    assert rate.allows("b", 1, 10)
    assert not rate.allows("a", 59)
    assert rate.allows("a", 60, 10)


def test_a_rate_remembers_a_bounded_number_of_places() -> None:
    rate = RateLimit(replace(CONFIG, tracked_sources=5), most=1, window=60)
    for number in range(100):
        assert rate.allows(f"place {number}", 0)
    assert len(rate) == 5


def test_a_known_contact_is_counted_by_itself_and_never_punished() -> None:
    limit = QueryLimit(CONFIG)
    known, other = Address("11.1.1.1", 6881), Address("11.1.1.1", 9999)
    assert [limit.allows(other, 0) for _ in range(60)].count(True) == 50
    assert limit.allows(known, 1, known=True)
    assert [limit.allows(known, 1, known=True) for _ in range(60)].count(True) == 49
    assert limit.allows(known, 11.1, known=True)
    assert not limit.allows(other, 11.1)


def test_without_limits_everything_is_allowed() -> None:
    free = replace(CONFIG, unlimited=True)
    source = Address("11.1.1.1", 1)
    assert all(QueryLimit(free).allows(source, 0) for _ in range(200))
    assert all(SendBudget(free, 0).allows(10**6, source, 0) for _ in range(10))
    assert all(QueryPace(free).book(source, 5) == 5 for _ in range(200))
    assert all(RateLimit(free, most=1, window=1).allows("a", 0) for _ in range(9))


def test_the_source_not_seen_for_longest_is_forgotten_first() -> None:
    few = replace(CONFIG, tracked_sources=3)
    rate, limit, pace = RateLimit(few, most=2, window=60), QueryLimit(few), QueryPace(few)
    places = [LOCAL._replace(port=port) for port in range(1, 6)]
    for _ in range(50):
        limit.allows(places[0], 0)
        limit.allows(places[1], 0)
    for _ in range(45):
        pace.book(places[0], 0)
        pace.book(places[1], 0)
    for place in (*places[:2], *places[:2]):
        rate.allows(place, 0)
    for place in (places[2], places[0], places[3], places[0]):
        rate.allows(place, 0, 0)
        limit.allows(place, 0)
        pace.book(place, 0)
    assert [rate.allows(place, 0) for place in places[:2]] == [False, True]
    assert [limit.blocks(place, 0) for place in places[:2]] == [True, False]
    assert [pace.is_free(place, 0) for place in places[:2]] == [False, True]


def test_our_pace_is_remembered_for_a_bounded_number_of_places() -> None:
    pace = QueryPace(replace(CONFIG, tracked_sources=5))
    for port in range(1, 100):
        pace.book(LOCAL._replace(port=port), 0)
    assert len(pace._booked) == 5


def test_whose_time_came_may_wait_again_and_leaves_room_for_others() -> None:
    strangers = PingQueue(replace(CONFIG, verify_queue=2))
    for turn in range(5):
        for port in (1, 2, 3):
            strangers.add(LOCAL._replace(port=port), turn)
        assert strangers.take(turn, 10) == [LOCAL._replace(port=port) for port in (1, 2)]
        assert len(strangers) == 0


def test_after_a_refusal_nothing_is_answered_before_a_whole_reply_is_saved_up() -> None:
    budget = SendBudget(CONFIG, 0)
    assert not budget.is_spent(PUBLIC, 0)
    assert budget.allows(23_900, PUBLIC, 0)
    assert not budget.is_spent(PUBLIC, 0)  # little is left, and nobody was refused
    assert not budget.allows(1000, PUBLIC, 0)
    assert budget.is_spent(PUBLIC, 0)
    assert not budget.is_spent(LOCAL, 0)
    saved = (CONFIG.max_reply - 100) / CONFIG.send_rate
    assert budget.is_spent(PUBLIC, saved - 0.01)
    assert not budget.is_spent(PUBLIC, saved + 0.01)


def test_a_rate_is_kept_however_long_we_run() -> None:
    rate = RateLimit(CONFIG, most=10, window=60)
    assert [rate.allows("a", 1e6 + n) for n in range(12)] == [True] * 10 + [False] * 2
    assert not rate.allows("a", 1e6 + 59)
    assert rate.allows("a", 1e6 + 60)


def test_an_ipv6_network_of_64_bits_is_one_place_and_the_next_is_another() -> None:
    one = Address("2a00:1:2:3::1", 1)
    for where in (home, neighbourhood):
        assert where(one) == where(Address("2a00:1:2:3:ffff:ffff:ffff:ffff", 2))
        assert where(one) != where(Address("2a00:1:2:4::1", 1))


def test_without_limits_a_query_may_always_go_out() -> None:
    pace = QueryPace(replace(CONFIG, unlimited=True))
    for _ in range(100):
        pace.book(PUBLIC, 0)
    assert pace.is_free(PUBLIC, 0)


def test_each_window_has_its_whole_burst() -> None:
    limit = QueryLimit(CONFIG)
    for start in (0.0, CONFIG.query_window, 2 * CONFIG.query_window):
        assert all(limit.allows(PUBLIC, start) for _ in range(CONFIG.query_burst))
    assert not limit.allows(PUBLIC, 2 * CONFIG.query_window)
