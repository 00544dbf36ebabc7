"""When a packet is lost, on a line that may reorder (RACK, RFC 8985).

The rule: a packet is lost when one that was sent later has arrived, and it has not within a round
trip and a little more. As long as a line was not seen to reorder, three later ones are enough; once
it was, the little more grows with each false alarm, and is forgotten when there were none for long.
"""

from __future__ import annotations

from typing import Final

from dht_torrent.utp.congestion import Congestion
from dht_torrent.utp.packets import MAX_SACK
from dht_torrent.utp.sending import Sent

OVERTAKEN: Final = 3
"""Transmissions later than a lost packet's that arrive first (BEP 29), where nothing reorders."""
PART: Final = 4
"""The little more is the least round trip over this at first (RFC 8985, section 6.2) ..."""
MEMORY: Final = 16
"""... and again after so many losses in turn that were real (the same)."""
LEAST_REACH: Final = 32
"""Packets behind a gap that every SACK can name, and libutp's no more ..."""
REACH: Final = 8 * MAX_SACK
"""... while those that ever named more name so many at least."""


class Losses:
    """What one end knows of a line, and of how the other end tells what has arrived."""

    __slots__ = ("_alarmed", "_left", "_newest_rtt", "_reach", "_steps", "newest", "reorders")

    def __init__(self) -> None:
        self.newest = 0
        """The latest transmission that arrived."""
        self.reorders = False
        """Whether packets overtake each other."""
        self._newest_rtt = 0.0
        self._reach = LEAST_REACH
        self._steps = 1
        self._left = 0
        self._alarmed = 0  # transmissions up to this have had their false alarm

    def named(self, sack: int) -> None:
        """The other end told what it has behind a gap."""
        if sack >> LEAST_REACH:
            self._reach = REACH

    def arrived(self, packet: Sent, elapsed: float, least_rtt: float) -> None:
        """The latest of those that one acknowledgement names."""
        # Of one that was sent again it may be an earlier transmission that arrived.
        if packet.turn > self.newest and (packet.sends == 1 or elapsed >= least_rtt):
            self.newest = packet.turn
            self._newest_rtt = elapsed

    def overtaken(self) -> None:
        """A packet arrived after one that was sent later."""
        self.reorders = True
        self._left = max(self._left, MEMORY)

    def false_alarm(self, turn: int, last: int) -> None:
        """One that was taken for lost arrived; `last` is the last transmission so far. What one
        round trip sent counts once."""
        if turn > self._alarmed:
            self._alarmed = last
            self.reorders = True
            self._left = MEMORY
            self._steps += 1

    def were_real(self) -> None:
        """Losses of a round trip were answered for."""
        if self._left:
            self._left -= 1
            if not self._left:
                self._steps, self.reorders = 1, False

    def allowed(self, least_rtt: float, rtt: float) -> float:
        """Seconds beyond the round trip of what overtook it."""
        return min(self._steps * least_rtt / PART, rtt)

    def lost_at(self, packet: Sent, acked: int, congestion: Congestion) -> float | None:
        """When a packet is lost that was sent before the newest. None: now. `acked`: the number
        up to which all have arrived."""
        is_unnamed = packet.number > acked + 1 + self._reach
        if not (is_unnamed or self.reorders or packet.turn + OVERTAKEN > self.newest):
            return None
        when = packet.sent_at + self._newest_rtt
        when += self.allowed(congestion.least_rtt, congestion.rtt)
        # What could not be named has perhaps arrived: wait for the gap to close.
        return when + congestion.rtt if is_unnamed else when
