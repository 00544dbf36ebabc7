"""The stream through which Hypercorn answers."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from dht_torrent.daemon.sending import Sending, _Stream


async def test_what_is_sent_while_the_connection_is_being_closed_meets_a_closed_one() -> None:
    class Closing:
        """Its end is just being said."""

        async def send_all(self, data: bytes) -> None:
            raise trio.BusyResourceError("another task is currently sending data")

    stream: Any = _Stream(Closing(), Sending())  # type: ignore[arg-type]
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_all(b"answer")
