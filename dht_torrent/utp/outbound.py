"""What one end of a connection sends: bytes that wait, and packets until they are acknowledged.

A packet is in flight, acknowledged or lost, and a lost one is sent again under its number, with the
same bytes. Transmissions have numbers of their own: a packet is lost when some sent well after it
arrived, and that also holds for one that was sent again. Sequence numbers here do not wrap.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from dht_torrent.config import UtpConfig
from dht_torrent.utp.congestion import Congestion
from dht_torrent.utp.mtu import PacketSize
from dht_torrent.utp.packets import DATA, FIN, FIRST_PACKETS, HEADER, HEADER_SIZE, MASK_16, VERSION

OVERTAKEN: Final = 3
"""Transmissions later than a lost packet's that arrive first (BEP 29) ..."""
MOST_OVERTAKEN: Final = 192
"""... or as many as this on a line that was seen to reorder."""
MAX_PACKETS: Final = 16_384
"""Unacknowledged at most: half of what would make 16 bits ambiguous."""

FLYING, ARRIVED, LOST = range(3)


class Sent:
    """A packet that was sent."""

    __slots__ = (
        "arrived",
        "kind",
        "number",
        "payload",
        "sends",
        "sent_at",
        "size",
        "state",
        "turn",
    )

    def __init__(
        self,
        number: int,
        kind: int,
        payload: memoryview | bytes,
        size: int,
        turn: int,
        now: float,
        arrived: int,
    ) -> None:
        """One that is sent for the first time, now."""
        self.number = number
        self.kind = kind
        self.payload = payload
        self.size = size
        self.sends = 1
        self.sent_at = now
        self.state = FLYING
        self.turn = turn
        """Number of its last transmission."""
        self.arrived = arrived
        """Bytes that had arrived by then."""


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
        self.deadline: float | None = None
        """When to call `expired`."""
        self.waiting_since = 0.0
        """When the first of the packets that wait for an acknowledgement was sent."""
        self.resent = 0
        self.finishing = False
        self._queue: deque[memoryview] = deque()
        self._offset = 0  # in the first of the queue
        self._queued = 0
        self._sent: dict[int, Sent] = {}  # in order of their numbers
        self._flight: deque[tuple[int, Sent]] = deque()  # in order of transmission; some are stale
        self._flying = 0
        self._lost: deque[Sent] = deque()
        self._sacked = 0  # bit n: `acked + 2 + n` has arrived
        self._turn = 0
        self._newest = 0  # transmission that arrived
        self._resend_one = False  # whatever the window is: a smaller one must not delay it
        self._recovery = 0  # losses up to this transmission have been answered for
        self._overtaken = OVERTAKEN
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

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Take what there is room for; how many bytes. `bytes` are kept as they are, anything else
        is copied."""
        taken = min(len(data), self.room)
        if taken:
            whole = data if isinstance(data, bytes) else bytes(memoryview(data)[:taken])
            self._queue.append(memoryview(whole)[:taken])
            self._queued += taken
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
        if not steps and not fresh:
            if outstanding and bare:
                self._said_again(sack, grew=grew)
            return True
        self._repeats = 0
        before = self.in_flight
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
            self._take_arrived(arrived, before, sample, now)
        if self._sent:
            self.deadline = now + self.congestion.timeout
            self._find_lost()
        else:
            self.deadline = None
            self._flight.clear()
        return True

    def _take_arrived(self, packets: list[Sent], before: int, sample: int, now: float) -> None:
        congestion = self.congestion
        newest = packets[0]
        size = landed = flew = 0
        for packet in packets:
            if packet.state == FLYING:
                landed += packet.size
                flew += 1
            if packet.sends > 1 or packet.state == LOST:
                early = now - packet.sent_at < congestion.least_rtt / 2
                if packet.state == LOST or early:
                    # The first transmission arrived after all.
                    self._overtaken = min(self._overtaken * 2, MOST_OVERTAKEN)
                    congestion.was_not_lost()
            if packet.turn > newest.turn:
                newest = packet
            size += packet.size
            packet.state = ARRIVED
            packet.payload = b""
        self.in_flight -= landed
        self._flying -= flew
        self.held -= size
        self._arrived += size
        if newest.sends == 1:
            elapsed = now - newest.sent_at
            congestion.measured(elapsed, now)
            self._rate = (self._arrived - newest.arrived) / max(elapsed, 1e-6)
        if newest.turn > self._newest:
            self._newest = newest.turn
        probing = self._probing
        if probing is not None and probing.state == ARRIVED:
            self._probing = None
            if self.size.passed(probing.size + HEADER_SIZE):
                congestion.packet_size(self.size.size)
        congestion.acknowledged(size, before, sample, self._rate, now)

    def _said_again(self, sack: int, *, grew: bool) -> None:
        """A packet that only repeats what was known."""
        probe = self._window_probe
        if grew and probe is not None and self.window:
            # It was dropped, as there was no room for it; now there is.
            self._window_probe = None
            if probe.state == FLYING:
                self._lose(probe)
                self.congestion.backoff = 0
                self.deadline = None
        elif not sack and not grew:
            self._repeats += 1
            packet = self._sent.get(self.acked + 1)
            # This is all that an end without SACK says.
            is_third = self._repeats == OVERTAKEN and packet is not None and packet.sends == 1
            if is_third and packet is not None and packet.state == FLYING:
                self._lose(packet)
                self._answer_for(packet)

    def _find_lost(self) -> None:
        flight = self._flight
        while flight:
            turn, packet = flight[0]
            if packet.state == FLYING and packet.turn == turn:
                if turn + self._overtaken > self._newest:
                    break
                self._lose(packet)
                self._answer_for(packet)
            flight.popleft()

    def _lose(self, packet: Sent) -> None:
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
            self.congestion.lost(self._rate)

    def probe_refused(self) -> None:
        """The system says that the last probe is larger than what can be sent."""
        packet = self._probing
        if packet is not None and packet.state == FLYING:
            self._probing = None
            self._lose(packet)
            self.size.failed(packet.size + HEADER_SIZE, certainly=True)
            self.congestion.packet_size(self.size.size)

    def expired(self) -> bool:
        """The deadline has passed. False if there is no use in trying again."""
        self.deadline = None
        congestion = self.congestion
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
        elif self._queued and not self._lost:
            self._try_window = True
        return True

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
            if self._queued:
                self._send_new(into, probes if len(into) == sent else None, head, limit, now)
            if self.finishing and not self._queued and not self._finish_queued:
                self._finish_queued = True
                into.append(self._send(FIN, b"", head, now))
        if (self.deadline is None and (self._sent or self._queued)) or (
            len(into) > sent and self._flying == len(into) - sent
        ):
            self.deadline = now + self.congestion.timeout

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
        if probes is not None and probe and min(self._queued, limit) >= probe + OVERTAKEN * most:
            if self.in_flight + probe > limit:
                return
            probes.append(self._send(DATA, self._take(probe - HEADER_SIZE), head, now))
            self._probing = self._sent[self.next - 1]
        self._send_full(into, head, most, limit, now)
        while self._queued and len(self._sent) < self._most_packets:
            size = min(most, self._queued)
            if self.in_flight + size > limit:
                if self._flying:
                    return
                size = min(size, self.window)
                if self._try_window:
                    size = max(size, 1)
            if not size:
                return
            into.append(self._send(DATA, self._take(size), head, now))
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
            self._queued // most,
            self._most_packets - len(self._sent),
        )
        if count <= 0:
            return
        if not self._sent:
            self.waiting_since = now
        connection, stamp, difference, window, ack = head
        sent, flight, queue, arrived = self._sent, self._flight, self._queue, self._arrived
        pack, join, first = HEADER.pack, b"".join, DATA << 4 | VERSION
        begin, turn = self._offset, self._turn
        data = queue[0]
        for number in range(self.next, self.next + count):
            end = begin + most
            payload: memoryview | bytes
            if end < len(data):
                payload = data[begin:end]
                begin = end
            else:
                self._offset = begin
                payload = self._cut(most)
                begin = self._offset
                if queue:
                    data = queue[0]
            turn += 1
            packet = sent[number] = Sent(number, DATA, payload, most, turn, now, arrived)
            flight.append((turn, packet))
            header = pack(first, 0, connection, stamp, difference, window, number & MASK_16, ack)
            into.append(join((header, payload)))
        self.next += count
        self._offset, self._turn = begin, turn
        self._queued -= count * most
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

    def _take(self, size: int) -> memoryview | bytes:
        """The next bytes of the queue; copied only where they come from two writes."""
        self._queued -= size
        return self._cut(size)

    def _cut(self, size: int) -> memoryview | bytes:
        queue, begin = self._queue, self._offset
        head = queue[0]
        end = begin + size
        if end < len(head):
            self._offset = end
            return head[begin:end]
        parts = []
        while end >= len(head):
            parts.append(head[begin:])
            end -= len(head)
            begin = 0
            queue.popleft()
            if not end:
                break
            head = queue[0]
        if end:
            parts.append(head[:end])
        self._offset = end
        return parts[0] if len(parts) == 1 else b"".join(parts)

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
