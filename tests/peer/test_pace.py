"""A peer that talks much is heard later; one that exchanges blocks never waits."""

from __future__ import annotations

import pytest

from dht_torrent.config import PeerConfig
from dht_torrent.peer.pace import MAX_WAIT, Pace

CONFIG = PeerConfig(turn_least=4096, turn_most=65536, message_rate=1000, message_burst=5000)


def test_a_flood_comes_in_at_the_rate_once_the_savings_are_spent() -> None:
    pace, now, heard = Pace(CONFIG, 0.0, 1 << 20), 0.0, 0
    while now < 100:
        assert pace.room == 4096
        heard += 800
        now += pace.took(4000, 800, 0, now) or 0.001
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
def test_who_exchanges_blocks_never_waits(messages: int) -> None:
    pace = Pace(CONFIG, 0.0, 1 << 20)
    for turn in range(10_000):  # 64 blocks a turn, 25,000 a second
        blocks = 64
        assert pace.took(1 << 20, messages * blocks, blocks, turn * 64 / 25_000) == 0


def test_turns_grow_with_payload_and_shrink_with_talk() -> None:
    pace = Pace(CONFIG, 0.0, 1 << 20)
    rooms = []
    for _ in range(6):
        rooms.append(pace.room)
        pace.took(pace.room, pace.room // 16_000, 1, 0.0)
    assert rooms == [4096, 8192, 16384, 32768, 65536, 65536]
    pace.took(1000, 0, 0, 0.0)  # there was no more: no reason for less
    assert pace.room == 65536
    pace.took(65536, 5000, 0, 0.0)
    assert pace.room == 4096
    assert Pace(CONFIG, 0.0, 1000).room == 1000


def test_savings_of_less_than_a_message_are_no_reason_to_wait() -> None:
    pace = Pace(CONFIG, 0.0, 1 << 20)
    assert pace.took(1, 5000, 0, 0.0) == 0
    assert pace.took(1, 1, 0, 0.0015) == 0
    assert pace.took(1, 1, 0, 0.0015) == pytest.approx(0.0005)
