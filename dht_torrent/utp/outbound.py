"""What one end of a connection sends: bytes that wait, and packets until they are acknowledged.

A packet is in flight, acknowledged or lost, and a lost one is sent again under its number, with the
same bytes. Transmissions have numbers of their own: a packet is lost when others sent after it came
and it did not (`loss`), and that also holds for one that was sent again. When nothing is heard at
all, the first of them is sent once more, long before all are given up (the tail loss probe of RFC
8985). Sequence numbers here do not wrap.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from dht_torrent.config import UtpConfig
from dht_torrent.utp.congestion import Congestion
from dht_torrent.utp.loss import OVERTAKEN, Losses
from dht_torrent.utp.mtu import PacketSize
from dht_torrent.utp.packets import (
    DATA,
    FIN,
    FIRST_PACKETS,
    HEADER,
    HEADER_SIZE,
    MASK_16,
    VERSION,
)
from dht_torrent.utp.sending import ARRIVED, FLYING, LOST, SendQueue, Sent

MAX_PACKETS: Final = 16_384
"""Unacknowledged at most: half of what would make 16 bits ambiguous."""


class Outbound:
    """One direction. `number` is that of the first packet of data."""

    def __init__(
        self, config: UtpConfig, congestion: Congestion, size: PacketSize, number: int
    ) -> None:
        self._config = config
        self.congestion = congestion
        self.size = size
        self.next = number
        self.acked = number - 1
        self._most_packets = FIRST_PACKETS
        """All up to this one have arrived."""
        self.window = 0
        """Bytes the other end can take."""
        self.held = 0
        """Bytes accepted and not yet acknowledged."""
        self.in_flight = 0
        # The same when something was sent last, and the window then: acknowledgements come in
        # batches, and each of them is of a window that was used.
        self._flown, self._flown_of = 0, 0.0
        self.waiting_since = 0.0
        """When the first of the packets that wait for an acknowledgement was sent."""
        self.resent = 0
        self.finishing = False
        self._waiting = SendQueue()
        self._sent: dict[int, Sent] = {}  # in order of their numbers
        self._flight: deque[tuple[int, Sent]] = deque()  # in order of transmission; some are stale
        self._flying = 0
        self._lost: deque[Sent] = deque()
        self._sacked = 0  # bit n: `acked + 2 + n` has arrived
        self._turn = 0
        self._resend_one = False  # whatever the window is: a smaller one must not delay it
        self._recovery = 0  # losses up to this transmission have been answered for
        self.losses = Losses()
        self._late_at: float | None = None  # when the first that was overtaken is lost
        self._armed_at: float | None = None  # since when nothing was heard of what is under way
        self._sent_at = 0.0
        self._tail: Sent | None = None  # sent once more as nothing was heard
        self._tail_probed = False
        self._repeats = 0
        self._arrived = 0
        self._rate = 0.0
        self._probing: Sent | None = None
        self._window_probe: Sent | None = None
        self._try_window = False
        self._finish_queued = False

    @property
    def room(self) -> int:
        """Bytes that `write` takes now."""
        if self.finishing:
            return 0
        config = self._config
        most = min(max(config.min_send_buffer, int(2 * self.congestion.window)), config.send_buffer)
        return max(0, most - self.held)

    @property
    def is_done(self) -> bool:
        """All bytes and the end have arrived."""
        return self._finish_queued and not self._sent

    @property
    def waits(self) -> bool:
        """Packets wait for an acknowledgement."""
        return bool(self._sent)

    @property
    def deadline(self) -> float | None:
        """When to call `expired`."""
        armed, late = self._armed_at, self._late_at
        if armed is None:
            return None
        congestion = self.congestion
        when = armed + congestion.timeout
        if self._may_probe:
            when = min(when, max(armed, self._sent_at) + congestion.probe_timeout(self._flying))
        return when if late is None else min(when, late)

    @property
    def _may_probe(self) -> bool:
        """Whether one packet may be sent again before all are given up: once, until something is
        heard. Not into a closed window, which is no loss."""
        return bool(
            self._flying
            and not self._tail_probed
            and self.window
            and self._window_probe is None
            and self.congestion.rtt
            and not self.congestion.backoff
        )

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Take what there is room for; how many bytes. `bytes` are kept as they are, anything else
        is copied."""
        taken = min(len(data), self.room)
        if taken:
            self._waiting.add(data, taken)
            self.held += taken
        return taken

    def acknowledged(
        self, ack: int, sack: int, window: int, sample: int, now: float, *, bare: bool
    ) -> bool:
        """What a packet says of ours. `bare`: it does nothing else. False if it acknowledges what
        was never sent."""
        steps = (ack - self.acked) & MASK_16
        outstanding = self.next - 1 - self.acked
        if steps > outstanding:
            return steps > 0x8000  # an old packet, late
        grew = window != self.window
        self.window = window
        known = self._sacked >> steps
        fresh = 0
        if sack:
            left = outstanding - steps
            sack &= ((1 << left - 1) - 1) if left > 1 else 0
            fresh = sack & ~known
            self.losses.named(sack)
        if not steps and not fresh:
            if outstanding and bare:
                self._said_again(sack, grew=grew)
            return True
        self._repeats = 0
        arrived = []
        sent = self._sent
        for number in range(self.acked + 1, self.acked + steps + 1):
            packet = sent.pop(number)
            if packet.state != ARRIVED:
                arrived.append(packet)
        self.acked += steps
        self._most_packets = MAX_PACKETS
        self._sacked = known | fresh
        first = self.acked + 2
        while fresh:
            lowest = fresh & -fresh
            fresh ^= lowest
            packet = sent[first + lowest.bit_length() - 1]
            if packet.state != ARRIVED:
                arrived.append(packet)
        if arrived:
            self._take_arrived(arrived, sample, now)
        if self._sent:
            self._armed_at = now
            self._find_lost(now)
        else:
            self._armed_at = self._late_at = None
            self._flight.clear()
        return True

    def _take_arrived(self, packets: list[Sent], sample: int, now: float) -> None:
        congestion = self.congestion
        newest = packets[0]
        size = landed = flew = 0
        tail, losses = self._tail, self.losses
        self._tail_probed = False
        for packet in packets:
            if packet.state == FLYING:
                landed += packet.size
                flew += 1
            if packet.sends > 1 or packet.state == LOST:
                early = now - packet.sent_at < congestion.least_rtt / 2
                if packet.state == LOST or early:
                    # The first transmission arrived after all.
                    if packet is not tail:
                        congestion.was_not_lost()
                        losses.false_alarm(packet.turn, self._turn)
                elif packet is tail:
                    self._answer_for(packet)  # that it was lost nothing else has shown
            elif packet.turn < losses.newest:
                losses.overtaken()
            if packet.turn > newest.turn:
                newest = packet
            size += packet.size
            packet.state = ARRIVED
            packet.payload = b""
        self.in_flight -= landed
        self._flying -= flew
        self.held -= size
        self._arrived += size
        elapsed = now - newest.sent_at
        if newest.sends == 1:
            congestion.measured(elapsed, now)
            self._rate = (self._arrived - newest.arrived) / max(elapsed, 1e-6)
        losses.arrived(newest, elapsed, congestion.least_rtt)
        probing = self._probing
        if probing is not None and probing.state == ARRIVED:
            self._probing = None
            if self.size.passed(probing.size + HEADER_SIZE):
                congestion.packet_size(self.size.size)
        grown = max(0, int(congestion.window - self._flown_of))
        congestion.acknowledged(size, self._flown + grown, sample, self._rate, now)

    def _said_again(self, sack: int, *, grew: bool) -> None:
        """A packet that only repeats what was known."""
        probe = self._window_probe
        if grew and probe is not None and self.window:
            # It was dropped, as there was no room for it; now there is.
            self._window_probe = None
            if probe.state == FLYING:
                self._lose(probe)
                self.congestion.backoff = 0
                self._armed_at = None
        elif not sack and not grew:
            self._repeats += 1
            packet = self._sent.get(self.acked + 1)
            # This is all that an end without SACK says.
            is_third = self._repeats == OVERTAKEN and packet is not None and packet.sends == 1
            if is_third and packet is not None and packet.state == FLYING:
                self._lose(packet)
                self._answer_for(packet)

    def _find_lost(self, now: float) -> None:
        """Those that later ones have overtaken, and that are too late now."""
        flight, newest, lost_at = self._flight, self.losses.newest, self.losses.lost_at
        self._late_at = None
        while flight:
            turn, packet = flight[0]
            if packet.state == FLYING and packet.turn == turn:
                if turn >= newest:
                    break
                when = lost_at(packet, self.acked, self.congestion)
                if when is not None and now < when:
                    self._late_at = when
                    break
                self._lose(packet)
                self._answer_for(packet)
            flight.popleft()

    def _lose(self, packet: Sent) -> None:
        if packet is self._tail:
            self._tail = None
        packet.state = LOST
        self.in_flight -= packet.size
        self._flying -= 1
        self._lost.append(packet)

    def _answer_for(self, packet: Sent) -> None:
        """The window shrinks for it, unless it has shrunk since it was sent."""
        if packet is self._probing:
            self._probing = None
            self.size.failed(packet.size + HEADER_SIZE)
        elif packet.turn > self._recovery:
            self._recovery = self._turn
            self._resend_one = True
            self.losses.were_real()
            self.congestion.lost(self._rate)

    def probe_refused(self) -> None:
        """The system says that the last probe is larger than what can be sent."""
        packet = self._probing
        if packet is not None and packet.state == FLYING:
            self._probing = None
            self._lose(packet)
            self.size.failed(packet.size + HEADER_SIZE, certainly=True)
            self.congestion.packet_size(self.size.size)

    def expired(self, now: float) -> bool:
        """The deadline has passed. False if there is no use in trying again."""
        congestion = self.congestion
        late, armed = self._late_at, self._armed_at
        if late is not None and now >= late:
            self._find_lost(now)
        if armed is not None and now < armed + congestion.timeout:
            if self._may_probe and now >= max(armed, self._sent_at) + congestion.probe_timeout(
                self._flying
            ):
                self._probe_tail(now)
            return True
        self._armed_at = self._late_at = self._tail = None
        self._tail_probed = False
        if self._flying:
            for packet in self._sent.values():
                if packet.state == FLYING:
                    packet.state = LOST
            self._flight.clear()
            self.in_flight = self._flying = 0
            self._lost = deque(p for p in self._sent.values() if p.state == LOST)
            self._recovery = self._turn
            if self._probing is not None and self._probing.state == LOST:
                self.size.failed(self._probing.size + HEADER_SIZE)
                self._probing = None
            if self.window:
                congestion.timed_out()
                if congestion.backoff > self._config.max_resends:
                    return False
                if congestion.backoff == 2:
                    self.size.nothing_passes()
                    congestion.packet_size(self.size.size)
            else:
                congestion.backoff += 1
        elif self._waiting.size and not self._lost:
            self._try_window = True
        return True

    def _probe_tail(self, now: float) -> None:
        """Nothing was heard for long: send the first packet again, whatever the window is. What is
        said of it shows what else is lost."""
        packet = next(packet for packet in self._sent.values() if packet.state != ARRIVED)
        if packet.state == FLYING:
            self._lose(packet)
            self._lost.appendleft(self._lost.pop())
            if packet is self._probing:
                self._answer_for(packet)  # it may be fragmented now: nothing follows from it
        self._tail = packet
        self._tail_probed = True
        self._armed_at = now
        self._resend_one = True

    def packets(
        self,
        into: list[bytes],
        probes: list[bytes],
        head: tuple[int, int, int, int, int],
        now: float,
    ) -> None:
        """Append what may be sent now. `head`: connection id, timestamp, difference, window and
        acknowledgement of all of them."""
        sent = len(into)
        limit = min(int(self.congestion.window), self.window)
        lost = self._lost
        while lost:
            packet = lost[0]
            if packet.state == LOST:
                is_over = self._flying and self.in_flight + packet.size > limit
                if is_over and not self._resend_one:
                    break
                self._resend_one = False
                into.append(self._send_again(packet, head, now))
                if self.window < packet.size:
                    self._window_probe = packet
            lost.popleft()
        if not lost:
            if self._waiting.size:
                self._send_new(into, probes if len(into) == sent else None, head, limit, now)
            if self.finishing and not self._waiting.size and not self._finish_queued:
                self._finish_queued = True
                into.append(self._send(FIN, b"", head, now))
        self._flown, self._flown_of = self.in_flight, self.congestion.window
        if len(into) > sent:
            self._sent_at = now
            if self._flying == len(into) - sent:
                self._armed_at = now
        if self._armed_at is None and (self._sent or self._waiting.size):
            self._armed_at = now

    def _send_new(
        self,
        into: list[bytes],
        probes: list[bytes] | None,
        head: tuple[int, int, int, int, int],
        limit: int,
        now: float,
    ) -> None:
        most = self.size.size - HEADER_SIZE
        # A probe waits until there is room for it, with enough behind it that would show its loss.
        probe = self.size.probe() if self._arrived and self._probing is None else None
        if (
            probes is not None
            and probe
            and min(self._waiting.size, limit) >= probe + OVERTAKEN * most
        ):
            if self.in_flight + probe > limit:
                return
            probes.append(self._send(DATA, self._waiting.take(probe - HEADER_SIZE), head, now))
            self._probing = self._sent[self.next - 1]
        self._send_full(into, head, most, limit, now)
        while self._waiting.size and len(self._sent) < self._most_packets:
            size = min(most, self._waiting.size)
            if self.in_flight + size > limit:
                if self._flying:
                    return
                size = min(size, self.window)
                if self._try_window:
                    size = max(size, 1)
            if not size:
                return
            into.append(self._send(DATA, self._waiting.take(size), head, now))
            if self.window < most:
                self._window_probe = self._sent[self.next - 1]

    def _send_full(
        self,
        into: list[bytes],
        head: tuple[int, int, int, int, int],
        most: int,
        limit: int,
        now: float,
    ) -> None:
        """Packets of `most` bytes, as many as may be sent: the same as `_send` of each of them.
        On a fast line a sender spends most of its time here."""
        count = min(
            (limit - self.in_flight) // most,
            self._waiting.size // most,
            self._most_packets - len(self._sent),
        )
        if count <= 0:
            return
        if not self._sent:
            self.waiting_since = now
        connection, stamp, difference, window, ack = head
        sent, flight, arrived = self._sent, self._flight, self._arrived
        pack, join, first = HEADER.pack, b"".join, DATA << 4 | VERSION
        turn, number = self._turn, self.next
        for payload in self._waiting.take_many(most, count):
            turn += 1
            packet = sent[number] = Sent(number, DATA, payload, most, turn, now, arrived)
            flight.append((turn, packet))
            header = pack(first, 0, connection, stamp, difference, window, number & MASK_16, ack)
            into.append(join((header, payload)))
            number += 1
        self.next = number
        self._turn = turn
        self.in_flight += count * most
        self._flying += count
        self._try_window = False

    def _send(
        self,
        kind: int,
        payload: memoryview | bytes,
        head: tuple[int, int, int, int, int],
        now: float,
    ) -> bytes:
        """A packet with the next number."""
        if not self._sent:
            self.waiting_since = now
        self._turn += 1
        packet = Sent(self.next, kind, payload, len(payload), self._turn, now, self._arrived)
        self._sent[self.next] = packet
        self.next += 1
        return self._fly(packet, head)

    def _send_again(self, packet: Sent, head: tuple[int, int, int, int, int], now: float) -> bytes:
        self._turn += 1
        packet.turn = self._turn
        packet.sends += 1
        packet.sent_at = now
        packet.arrived = self._arrived
        packet.state = FLYING
        self.resent += 1
        return self._fly(packet, head)

    def _fly(self, packet: Sent, head: tuple[int, int, int, int, int]) -> bytes:
        self._try_window = False
        self.in_flight += packet.size
        self._flying += 1
        self._flight.append((packet.turn, packet))
        connection, stamp, difference, window, ack = head
        return b"".join(
            (
                HEADER.pack(
                    packet.kind << 4 | VERSION,
                    0,
                    connection,
                    stamp,
                    difference,
                    window,
                    packet.number & MASK_16,
                    ack,
                ),
                packet.payload,
            )
        )
