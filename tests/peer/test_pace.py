"""A peer that talks much is heard later; one that exchanges blocks never waits."""

from __future__ import annotations

import pytest

from dht_torrent.config import PeerConfig
from dht_torrent.geometry import BLOCK
from dht_torrent.peer.pace import EARNED, MAX_WAIT, Pace

CONFIG = PeerConfig(turn_least=4096, turn_most=65536, message_rate=1000, message_burst=5000)


def test_a_flood_comes_in_at_the_rate_once_the_savings_are_spent() -> None:
    pace, now, heard = Pace(CONFIG, 0.0, 1 << 20), 0.0, 0
    while now < 100:
        assert pace.room == 4096
        heard += 800
        now += max(0.001, pace.took(4000, 800, 0, now))
    assert 100_000 <= heard <= 100_000 + 5000 + 2 * 800


def test_no_wait_is_longer_than_a_few_seconds_and_the_debt_stays() -> None:
    pace = Pace(CONFIG, 0.0, 1 << 20)
    assert pace.took(1 << 20, 200_000, 0, 0.0) == MAX_WAIT
    assert pace.took(1, 1, 0, MAX_WAIT) == MAX_WAIT


def test_savings_are_bounded() -> None:
    pace = Pace(CONFIG, 0.0, 1 << 20)
    assert pace.took(1, 1, 0, 1e9) == 0
    assert pace.took(1, 5000, 0, 1e9) == pytest.approx(0.001)


@pytest.mark.parametrize("messages", [1, 2, 4])
def test_a_peer_that_exchanges_blocks_never_waits(messages: int) -> None:
    pace = Pace(CONFIG, 0.0, 1 << 20)
    for turn in range(10_000):  # 64 blocks a turn, 25,000 a second
        moved = (turn + 1) * 64 * BLOCK
        assert pace.took(1 << 20, messages * 64, moved, turn * 64 / 25_000) == 0


def test_parts_of_blocks_earn_messages_once_they_are_whole() -> None:
    pace = Pace(CONFIG, 0.0, 1 << 20)
    assert pace.took(1, 5000, BLOCK - 1, 0.0) == 0
    assert pace.took(1, 1, BLOCK - 1, 0.0) == pytest.approx(0.001)
    assert pace.took(1, EARNED - 1, BLOCK, 0.0) == 0
    assert pace.took(1, 1, 2 * BLOCK - 1, 0.0) == pytest.approx(0.001)


def test_turns_grow_with_payload_and_shrink_with_talk() -> None:
    pace = Pace(CONFIG, 0.0, 1 << 20)
    rooms = []
    for _ in range(6):
        rooms.append(pace.room)
        pace.took(pace.room, pace.room // 16_000, 0, 0.0)
    assert rooms == [4096, 8192, 16384, 32768, 65536, 65536]
    pace.took(1000, 0, 0, 0.0)  # there was no more: no reason for less
    assert pace.room == 65536
    pace.took(65536, 5000, 0, 0.0)
    assert pace.room == 4096
    assert Pace(CONFIG, 0.0, 1000).room == 1000


def test_savings_of_less_than_a_message_do_not_make_it_wait() -> None:
    pace = Pace(CONFIG, 0.0, 1 << 20)
    assert pace.took(1, 5000, 0, 0.0) == 0
    assert pace.took(1, 1, 0, 0.0015) == 0
    assert pace.took(1, 1, 0, 0.0015) == pytest.approx(0.0005)


def test_blocks_that_come_one_at_a_time_are_soon_taken_in_one_turn_each() -> None:
    pace = Pace(CONFIG, 0.0, 1 << 20)
    turns = 0
    for number in range(1000):
        for message in (BLOCK + 13, 9):  # a block, and a Have by itself
            left = message
            while left:
                size = min(left, pace.room)
                left -= size
                turns += 1
                pace.took(size, int(not left), number * BLOCK, 0.0)
    assert turns <= 2000 + 3


def test_a_short_turn_of_talk_leaves_room_and_a_longer_one_takes_it() -> None:
    pace = Pace(CONFIG, 0.0, 1 << 20)
    pace.took(4096, 0, 0, 0.0)
    pace.took(4096, 800, 0, 0.0)
    assert pace.room == 8192
    pace.took(4097, 9, 0, 0.0)
    assert pace.room == 4096


def test_a_peer_that_owes_messages_gets_no_longer_turns() -> None:
    """Bulk and floods in turn: a second long turn of talk only when the first is paid for."""
    pace, now = Pace(CONFIG, 0.0, 1 << 20), 0.0
    long_turns = []
    while now < 100:
        talks = pace.room == CONFIG.turn_most
        if talks:
            long_turns.append(now)
        messages = pace.room // 5 if talks else 0
        now += max(0.001, pace.took(pace.room, messages, 0, now))
    assert len(long_turns) >= 2
    owed = CONFIG.turn_most / 5 - CONFIG.message_burst
    first_pause = long_turns[1] - long_turns[0]
    assert first_pause >= owed / CONFIG.message_rate


def test_a_debt_that_blocks_have_paid_is_forgotten() -> None:
    pace = Pace(CONFIG, 0.0, 1 << 20)
    assert pace.took(4096, 5010, 0, 0.0) > 0
    rooms = [pace.room]
    for number in range(1, 20):
        pace.took(pace.room, 1, number * BLOCK, 0.0)
        rooms.append(pace.room)
    assert rooms[:4] == [4096] * 4  # ten are owed, a block earns four and is one itself
    assert rooms[-1] == CONFIG.turn_most
