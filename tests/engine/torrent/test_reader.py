"""How the loop waits that reads a connection."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from trio.testing import MockClock

from dht_torrent.config import PeerConfig
from dht_torrent.engine.torrent.liveness import Liveness
from dht_torrent.engine.torrent.rate_limits import Limits
from dht_torrent.engine.torrent.reader import read
from dht_torrent.peer.connection import Connection


class Ended:
    """A stream at whose end nothing came."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    @property
    def scattered(self) -> Ended:
        return self

    async def readable(self, gather: int = 0) -> None:
        self.asked.append(gather)

    def receive_now(self, buffers: Sequence[memoryview]) -> int | None:
        return 0


@pytest.mark.parametrize(("worth", "asked"), [(0, 0), (1000, 1000), (1 << 20, 4096)])
async def test_no_more_gathers_than_is_taken_in_a_turn(
    worth: int, asked: int, autojump_clock: MockClock
) -> None:
    config, stream = PeerConfig(turn_least=4096), Ended()
    peer: Any = SimpleNamespace(
        connection=Connection(config, dht=False),
        liveness=Liveness(config, 0.0),
        stream=stream,
        expect=lambda most: [],
        gather=worth,
        downloaded=0,
        uploaded=0,
    )
    down = Limits().torrent().down
    await read(peer, config, down, memoryview(bytearray(1 << 20)), lambda *_: None)
    assert stream.asked == [asked]
