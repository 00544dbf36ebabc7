"""The loop that reads one connection: turns its bytes into events, for as long as they keep coming
and are within the limits.

The rule: what the events mean is decided at once, while the payloads still lie in the buffer, which
all connections share.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from dht_torrent.config import PeerConfig
from dht_torrent.engine.torrent.peer import Peer
from dht_torrent.engine.torrent.rate_limits import Line
from dht_torrent.errors import PeerProtocolError
from dht_torrent.peer.answers import Answers
from dht_torrent.peer.connection import Event
from dht_torrent.peer.pace import Pace

OnEvents = Callable[[Peer, list[Event], float], None]
"""Takes a batch of messages. Raises PeerProtocolError when the peer broke a rule."""


WENT_SILENT: Final = "went silent"
"""Why a connection ends whose other end is not heard any more."""


async def read(
    peer: Peer, config: PeerConfig, limit: Line, buffer: memoryview, on_events: OnEvents
) -> None:
    """Until the peer closes the connection. Raises PeerProtocolError if it breaks a rule or goes
    silent."""
    connection, liveness = peer.connection, peer.liveness
    answers = Answers(connection, buffer)
    heard = progressed = trio.current_time()
    pace = Pace(config, heard, len(buffer))
    unheard = 0
    room, in_place = pace.room, pace.room_in_place
    with liveness.patience as patience:
        while True:
            # A message that has begun must end: silence and drip-feeding have different clocks.
            deadline = heard + config.idle_timeout
            if connection.mid_message:
                deadline = min(deadline, progressed + config.message_timeout)
            patience.deadline = deadline
            was_mid_message, downloaded = connection.mid_message, peer.downloaded
            size, events = await _receive(peer, answers, buffer, room, in_place)
            if size == 0:
                return
            heard = trio.current_time()
            liveness.heard(heard)
            if events or not (was_mid_message and connection.mid_message):
                progressed = heard  # a message ended, or one has only just begun
            on_events(peer, events, heard)
            messages = len(events) + connection.unheard - unheard
            unheard = connection.unheard
            wait = pace.took(size, messages, peer.downloaded + peer.uploaded, heard)
            events.clear()  # while we wait they would keep the memory they look into
            if wait:
                patience.deadline = float("inf")
                await trio.sleep(wait)
                heard, progressed = heard + wait, progressed + wait
            if not limit.limited:
                room, in_place = pace.room, pace.room_in_place
                continue
            holds_payload = peer.downloaded != downloaded or connection.mid_message
            if holds_payload or not limit.charge(size):
                patience.deadline = float("inf")
                await limit.pay(peer.key, size)
                # It is we who were silent: the peer's clocks stood still.
                waited = trio.current_time() - heard
                heard, progressed = heard + waited, progressed + waited
            room = in_place = min(pace.room, limit.ahead(size))
    raise PeerProtocolError(WENT_SILENT)


async def _receive(
    peer: Peer, answers: Answers, buffer: memoryview, room: int, in_place: int
) -> tuple[int, list[Event]]:
    """What comes next, in one turn: bytes, and what they mean. 0 bytes are the end."""
    if answers.left:
        await trio.lowlevel.checkpoint()
        return answers.rest(room)
    scattered, expect = peer.stream.scattered, peer.expect
    if scattered is None or expect is None:
        size = await peer.stream.receive_into(buffer[:room])
        return size, peer.connection.receive(buffer[:size])
    gather = min(peer.gather, in_place)
    while True:
        await scattered.readable(gather)
        # From here on nothing else runs until all is in its place and accounted for.
        came = scattered.receive_now(answers.plan(expect, room, in_place))
        if came is not None:
            return answers.took(came, room)
