"""Versions of what a link names (BEP 46)."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.bencode import Value
from dht_torrent.config import FollowConfig
from dht_torrent.dht.items import MAX_SEQ, MutableItem, SigningKey, mutable_target, sign
from dht_torrent.dht.versions import (
    PollSchedule,
    Versions,
    lacking,
    named_by,
    next_seq,
    puts_again,
    refresh_pause,
    version_value,
)
from dht_torrent.errors import InputError
from dht_torrent.ids import InfoHash

KEY, OTHER = SigningKey(bytes(32)), SigningKey(b"\1" * 32)
SALT = b"news"
HOUR = 3600.0
CONFIG = FollowConfig()


def ih(number: int) -> InfoHash:
    return InfoHash(bytes([number]) * 20)


def version(seq: int, number: int = 0, *, key: SigningKey = KEY, salt: bytes = SALT) -> MutableItem:
    return sign(key, version_value(ih(number or seq)), seq, salt)


def known(*items: MutableItem) -> Versions:
    versions = Versions(KEY.public, SALT)
    for item in items:
        versions.consider(item)
    return versions


def test_the_vectors_of_bep_46_lead_to_the_targets_it_says() -> None:
    key = bytes.fromhex("8543d3e6115f0f98c944077a4493dcd543e49c739fd998550a1f614ab36ed63e")
    assert mutable_target(key).hex() == "cc3f9d90b572172053626f9980ce261a850d050b"
    assert mutable_target(key, b"n").hex() == "59ee7c2cb9b4f7eb1986ee2d18fd2fdb8a56554f"


def test_an_item_names_a_torrent_by_twenty_bytes_under_ih() -> None:
    item = version(1, 7)
    assert item.encoded == b"d2:ih20:" + bytes([7]) * 20 + b"e"
    assert named_by(item) == ih(7)


HOSTILE: list[Value] = [
    b"ih",
    7,
    [b"ih", bytes(20)],
    {},
    {b"ih": bytes(19)},
    {b"ih": bytes(21)},
    {b"ih": bytes(32)},
    {b"ih": b"00" * 20},
    {b"ih": 5},
    {b"ih": [bytes(20)]},
    {b"ih": {b"ih": bytes(20)}},
    {b"IH": bytes(20)},
    {b"ih": bytes(20), b"x": b""},
    {b"ih": bytes(20), b"pad": bytes(900)},
    bytes(990),
]


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: str(value)[:20])
def test_a_value_of_another_form_is_dropped_and_counted_once(value: Value) -> None:
    versions = known(version(1))
    item = sign(KEY, value, 5, SALT)
    assert named_by(item) is None
    for _ in range(3):
        assert not versions.consider(item)
    assert versions.malformed == 1
    assert versions.info_hash == ih(1)
    # Its owner has gone on: what is older than that is not believed any more.
    assert not versions.consider(version(4))
    assert versions.stale == 1
    assert versions.consider(version(5))  # and what is as new and can be read, is
    assert versions.info_hash == ih(5)


@pytest.mark.parametrize(
    "item",
    [
        replace(version(9), signature=bytes(64)),
        replace(version(9), seq=10),
        replace(version(9), encoded=version(8).encoded),
        replace(version(9), key=OTHER.public),
        version(9, key=OTHER),
        version(9, salt=b"olds"),
        version(9, salt=b""),
        replace(version(9, salt=b""), salt=SALT),
    ],
)
def test_what_is_not_its_owners_is_dropped_and_counted(item: MutableItem) -> None:
    versions = known(version(1))
    assert not versions.consider(item)
    assert versions.foreign == 1
    assert (versions.seq, versions.info_hash) == (1, ih(1))


def test_an_old_item_that_is_replayed_is_dropped_and_counted() -> None:
    versions = known(version(1), version(3))
    assert versions.info_hash == ih(3)
    assert not versions.consider(version(1))
    assert not versions.consider(version(2))  # which was never seen
    assert versions.stale == 2
    assert not versions.consider(version(3))
    assert versions.stale == 2
    assert versions.info_hash == ih(3)


def test_what_was_seen_in_an_earlier_run_counts() -> None:
    again = Versions(KEY.public, SALT, version(3), 7)
    assert (again.seq, again.info_hash) == (7, ih(3))
    assert not again.consider(version(6))
    assert again.consider(version(7))
    assert Versions(KEY.public, SALT, version(3)).seq == 3
    # A record that somebody altered is worth nothing; the number in it can only make us careful.
    for item in (replace(version(3), seq=4), version(3, key=OTHER), sign(KEY, b"x", 3, SALT)):
        versions = Versions(KEY.public, SALT, item, 2)
        assert (versions.newest, versions.seq) == (None, 2)


def test_of_two_values_with_one_number_everybody_takes_the_same() -> None:
    for order in itertools.permutations([version(5, 9), version(5, 3), version(5, 6)]):
        assert known(version(4), *order).info_hash == ih(3)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12), st.randoms())
def test_the_order_in_which_versions_are_seen_does_not_matter_and_none_goes_back(
    pairs: list[tuple[int, int]], dice: random.Random
) -> None:
    items = [version(seq, 1 + number) for seq, number in pairs]
    versions = Versions(KEY.public, SALT)
    seen = []
    for item in items:
        before = versions.newest
        assert versions.consider(item) is (versions.newest is not before)
        seen.append(versions.seq)
        assert versions.newest is not None
        assert versions.seq == versions.newest.seq
    assert seen == sorted(seen)
    shuffled = list(items)
    dice.shuffle(shuffled)
    assert known(*shuffled).newest == versions.newest


# --- publishing ----------------------------------------------------------------------------------


def test_a_new_number_comes_after_all_that_were_seen_and_is_no_less_than_the_time() -> None:
    assert next_seq([], 0) == 1
    assert next_seq([5, 9, 7], 0) == 10
    assert next_seq([5], 1_800_000_000.9) == 1_800_000_000
    assert next_seq([1_800_000_000], 1_800_000_000) == 1_800_000_001
    assert next_seq([], 1_800_000_000) == 1_800_000_000


@pytest.mark.parametrize("clock", [float("nan"), -1e18, 1e18, float("inf"), -float("inf")])
def test_a_clock_that_is_lost_does_no_harm(clock: float) -> None:
    assert next_seq([41], clock) == 42


def test_after_the_highest_number_there_is_none() -> None:
    assert next_seq([MAX_SEQ - 1], 0) == MAX_SEQ
    with pytest.raises(InputError, match="highest"):
        next_seq([MAX_SEQ], 0)


# --- when to look --------------------------------------------------------------------------------


def looks(schedule: PollSchedule, until: float) -> list[float]:
    times = []
    while schedule.due <= until:
        times.append(schedule.due)
        schedule.looked(schedule.due)
    return times


def test_each_minute_for_half_an_hour_and_then_ever_less_often() -> None:
    times = looks(PollSchedule(CONFIG, 1000.0), 1000.0 + 4 * HOUR)
    minutes = [(time - 1000.0) / 60 for time in times]
    assert minutes[:31] == list(range(31))
    pauses = [b - a for a, b in itertools.pairwise(minutes)]
    assert pauses[:30] == [1.0] * 30
    assert pauses[30:36] == [1.5, 2.25, 3.375, 5.0625, 7.59375, 10.0]
    assert set(pauses[35:]) == {10.0}


def test_a_change_makes_it_eager_again() -> None:
    schedule = PollSchedule(CONFIG, 0.0)
    looks(schedule, 5 * HOUR)
    schedule.changed(5 * HOUR)
    times = looks(schedule, 5 * HOUR + 1900)
    assert times[0] == 5 * HOUR + 60
    assert {b - a for a, b in itertools.pairwise(times[:29])} == {60.0}


def test_the_first_look_may_be_later() -> None:
    schedule = PollSchedule(CONFIG, 100.0, first=20.0)
    assert schedule.due == 120.0
    assert len(looks(schedule, 120.0 + 1800)) == 31


# --- keeping it alive ----------------------------------------------------------------------------


def test_nodes_with_nothing_or_something_older_lack_it() -> None:
    held = [None, version(1), version(2), version(3), version(2, 9), None]
    assert lacking(held, version(2)) == [0, 1, 5]


def test_many_followers_put_it_again_as_often_as_two() -> None:
    rng = random.Random(5)
    assert all(puts_again(CONFIG, peers, rng) for peers in (0, 1) for _ in range(100))
    for peers in (9, 99):
        followers = 20_000
        puts = sum(puts_again(CONFIG, peers, rng) for _ in range(followers))
        assert puts / followers * (1 + peers) == pytest.approx(2, rel=0.15)


def test_an_item_is_looked_after_each_hour_or_so() -> None:
    rng = random.Random(5)
    pauses = [refresh_pause(CONFIG, rng) for _ in range(1000)]
    assert 0.85 * HOUR <= min(pauses) < 0.87 * HOUR
    assert 1.13 * HOUR < max(pauses) <= 1.15 * HOUR
