"""One uTP connection, as a state machine that is given packets and the time (BEP 29).

The rule: after every call of a method, ask `packets_to_send` for what goes out and `next_time` for
when to ask again. SYN, DATA and FIN alone consume a sequence number; STATE carries the next.
"""

from __future__ import annotations

from enum import StrEnum

from dht_torrent.config import UtpConfig
from dht_torrent.errors import LocalProtocolError, UtpError
from dht_torrent.ids import Address
from dht_torrent.utp.congestion import Congestion
from dht_torrent.utp.delays import OneWayDelays
from dht_torrent.utp.inbound import Inbound, ReceiveBudget
from dht_torrent.utp.mtu import PacketSize
from dht_torrent.utp.outbound import Outbound
from dht_torrent.utp.packets import (
    DATA,
    FIN,
    HEADER,
    HEADER_SIZE,
    MASK_16,
    MASK_32,
    RESET,
    SACK,
    STATE,
    SYN,
    VERSION,
    extensions,
    is_utp,
    sack_extension,
)

Fields = tuple[int, int, int, int, int, int, int, int]
"""What `HEADER` unpacks."""
STRAY = 4096
"""Packets before the oldest unacknowledged that a RESET may still be about."""


class UtpFailure(StrEnum):
    """Why a connection ended before its time."""

    REFUSED = "refused"
    RESET = "reset by the peer"
    TIMED_OUT = "timed out"
    ABORTED = "aborted here"


class UtpConnection:
    """Both directions. `receive_id` is what packets to us carry, `send_id` what ours carry."""

    __slots__ = (
        *("_ack_at", "_ack_now", "_advertised", "_closing", "_config", "_gone_at", "_heard"),
        *("_other_delays", "_reply", "_reset_due", "_sent_at", "_stamped", "_syn_at"),
        *("_syn_sent_at", "_syns", "_unacked", "accepted_syn", "address", "congestion", "failure"),
        *(
            "first_number",
            "inbound",
            "is_connected",
            "is_gone",
            "outbound",
            "probes",
            "receive_id",
        ),
        *("scheduled", "send_id", "size"),
    )

    def __init__(
        self,
        config: UtpConfig,
        budget: ReceiveBudget,
        address: Address,
        ids: tuple[int, int],
        number: int,
        now: float,
        *,
        accepted_syn: int | None = None,
    ) -> None:
        """`ids`: ours and theirs. `number`: of our SYN; of an accepted connection, which came with
        the SYN `accepted_syn`, that of our first packet of data."""
        self._config = config
        self.address = address
        self.receive_id, self.send_id = ids
        self.first_number = number
        self.accepted_syn = accepted_syn
        self.is_connected = accepted_syn is not None
        self.failure: UtpFailure | None = None
        self.is_gone = False
        """Nothing more is sent or wanted: forget it."""
        self.size = PacketSize(config.min_packet, config.start_packet, config.max_packet)
        self.congestion = Congestion(config)
        first = number if self.is_connected else number + 1
        self.outbound = Outbound(config, self.congestion, self.size, first)
        self.inbound = Inbound(config, budget, accepted_syn or 0)
        self.probes: list[bytes] = []
        """Packets of the last `packets_to_send` that must not be fragmented: take them away."""
        self.scheduled: float | None = None
        """For whoever keeps the timers."""
        self._syns = 0
        self._syn_at: float | None = None if self.is_connected else now
        self._syn_sent_at = now
        self._heard = now
        self._sent_at = now
        self._ack_now = False
        self._ack_at: float | None = None
        self._unacked = 0
        self._advertised = config.receive_buffer
        self._reply = 0
        self._stamped = False
        self._other_delays = OneWayDelays(config.base_delay_age)
        self._closing = False
        self._reset_due = False
        self._gone_at: float | None = None

    # -- the user's side

    @property
    def readable(self) -> int:
        """Bytes that can be read now."""
        return self.inbound.readable

    @property
    def at_end(self) -> bool:
        """The peer sends no more, and everything was read."""
        return self.inbound.ended and not self.inbound.readable

    @property
    def writable(self) -> int:
        """Bytes that `send` takes now."""
        return self.outbound.room if self.is_connected and self.failure is None else 0

    def send(self, data: bytes | bytearray | memoryview) -> int:
        """Take what there is room for. Raises LocalProtocolError after `finish`."""
        if self.outbound.finishing:
            raise LocalProtocolError("nothing can be sent after the end")
        if self.failure is not None or not self.is_connected:
            return 0
        return self.outbound.write(data)

    def read_into(self, buffer: memoryview) -> int:
        """Copy what has come, in order; how many bytes."""
        return self.inbound.read_into(buffer)

    def finish(self) -> None:
        """Send no more: a FIN follows what was taken. What comes is still received."""
        self.outbound.finishing = True

    def close(self, now: float) -> None:
        """The same, and nobody reads any more. May be called twice."""
        if self._closing or self.is_gone:
            return
        self._closing = True
        self.inbound.discard()
        if self.is_connected:
            self.outbound.finishing = True
            self._gone_at = now + self._config.linger_timeout
        else:
            self.is_gone = True

    def abort(self) -> None:
        """End it at once, with a RESET."""
        if not self.is_gone and self.failure is None:
            self.failure = UtpFailure.ABORTED
            self.inbound.discard()
            self._reset_due = True

    def _fail(self, failure: UtpFailure) -> None:
        if self.failure is None:
            self.failure = failure
        self.is_gone = True
        self.inbound.discard()

    # -- packets

    def receive_packet(self, now: float, packet: bytes) -> None:
        """One datagram of this connection. Raises UtpError if it is not a uTP packet."""
        if not is_utp(packet):
            raise UtpError("not a uTP packet")
        self.receive(now, int(now * 1e6) & MASK_32, HEADER.unpack_from(packet), packet)

    def receive(self, now: float, micros: int, fields: Fields, packet: bytes) -> None:
        """The same, of a header already unpacked; `micros` is the time in microseconds."""
        first, extension, _, stamp, difference, window, number, ack = fields
        kind = first >> 4
        sack, begin = extensions(packet, extension) if extension else (0, HEADER_SIZE)
        if not self.is_connected:
            self._while_connecting(now, micros, kind, fields)
            return
        if kind >= RESET:
            if kind == RESET and self._is_about_us(ack):
                self._fail(UtpFailure.RESET)
            elif kind == SYN and number == self.accepted_syn:
                self._ack_now = True
            return
        outbound = self.outbound
        # Most packets of a stream say nothing new of the other direction.
        says_more = sack or kind or window != outbound.window or ack != outbound.acked & MASK_16
        if says_more and not outbound.acknowledged(
            ack, sack, window, difference, now, bare=kind == STATE
        ):
            return
        self._heard = now
        if stamp:
            self._reply = (micros - stamp) & MASK_32
            self._stamped = True
        if kind == DATA:
            if self.inbound.data(number, packet, begin):
                self._unacked += 1
                if self._ack_at is None:
                    self._ack_at = now + self._config.ack_delay
            else:
                self._ack_now = True
        elif kind == FIN:
            self.inbound.end(number)
            self._ack_now = True

    def _while_connecting(self, now: float, micros: int, kind: int, fields: Fields) -> None:
        _, _, _, stamp, _, window, number, ack = fields
        if ack != self.first_number & MASK_16:
            return
        if kind == RESET:
            self._fail(UtpFailure.REFUSED)
        elif kind == STATE:
            # Data that overtook this is dropped: nothing says which packet it is.
            self.is_connected = True
            self._syn_at = None
            self.inbound.last = number - 1 & MASK_16
            self.outbound.window = window
            self._heard = now
            self._reply = (micros - stamp) & MASK_32
            self._stamped = True
            # Whoever keeps nothing of our SYN learns by this that we are here.
            self._ack_now = True
            if self._syns == 1:
                self.congestion.measured(now - self._syn_sent_at, now)

    def _is_about_us(self, ack: int) -> bool:
        """A RESET names what it received last. Others cannot know that."""
        outbound = self.outbound
        return (outbound.next - ack) & MASK_16 <= outbound.next - outbound.acked + STRAY

    def _is_time(self, now: float) -> None:
        config, outbound = self._config, self.outbound
        if self._gone_at is not None and now >= self._gone_at:
            self.is_gone = True
            if not (outbound.is_done and self.at_end) and self.failure is None:
                self.failure = UtpFailure.TIMED_OUT
            return
        deadline = outbound.deadline
        if deadline is not None and now >= deadline and not outbound.expired(now):
            self._fail(UtpFailure.TIMED_OUT)
        if outbound.waits and now >= self._silence_ends:
            self._fail(UtpFailure.TIMED_OUT)
        if outbound.is_done and self.at_end:
            limit = now + config.time_wait
            if self._gone_at is None or self._gone_at > limit:
                self._gone_at = limit

    @property
    def _silence_ends(self) -> float:
        return max(self._heard, self.outbound.waiting_since) + self._config.silence_timeout

    def packets_to_send(self, now: float) -> list[bytes]:
        """What goes out now, in order; each call gives each packet once. See `probes`, too."""
        if self._reset_due:
            self._reset_due = False
            self.is_gone = True
            return [self._packet(RESET, now)]
        if self.is_gone:
            return []
        if not self.is_connected:
            return self._syn(now)
        self._is_time(now)
        if self.is_gone:
            return []
        inbound, outbound = self.inbound, self.outbound
        out: list[bytes] = []
        window = inbound.window
        if self._stamped:
            self._stamped = False
            before = self._other_delays.base
            self._other_delays.add(self._reply, now)
            after = self._other_delays.base
            if before is not None and after is not None and after < before:
                self.congestion.delays.other_way(before - after)
        stamp = int(now * 1e6) & MASK_32
        outbound.packets(
            out, self.probes, (self.send_id, stamp, self._reply, window, inbound.last), now
        )
        ack_at, limit = self._ack_at, self._config.receive_buffer
        due = (
            self._ack_now
            or self._unacked > 1
            or (ack_at is not None and now >= ack_at)
            or (self._advertised < limit // 2 and window - self._advertised >= limit // 4)
            or now >= self._sent_at + self._config.keepalive_interval  # as `next_time` has it
        )
        if due and (inbound.has_gap or not out):
            out.append(self._packet(STATE, now))
        if out or self.probes:
            self._sent_at = now
            self._advertised = window
            self._ack_now = False
            self._ack_at = None
            self._unacked = 0
        return out

    def _syn(self, now: float) -> list[bytes]:
        if self._syn_at is None or now < self._syn_at:
            return []
        if self._syns > self._config.syn_resends:
            self._fail(UtpFailure.TIMED_OUT)
            return []
        self._syn_at = now + self._config.first_timeout * 2.0**self._syns
        self._syns += 1
        self._syn_sent_at = self._sent_at = now
        return [self._packet(SYN, now)]

    def _packet(self, kind: int, now: float) -> bytes:
        """One without payload, that consumes no number of the stream."""
        is_syn = kind == SYN
        mask = b"" if is_syn or not self.inbound.mask else sack_extension(self.inbound.mask)
        head = HEADER.pack(
            kind << 4 | VERSION,
            SACK if mask else 0,
            self.receive_id if is_syn else self.send_id,
            int(now * 1e6) & MASK_32,
            self._reply,
            self.inbound.window,
            (self.first_number if is_syn else self.outbound.next) & MASK_16,
            0 if is_syn else self.inbound.last,
        )
        return head + mask

    def next_time(self) -> float | None:
        """When to call `packets_to_send` even if nothing happens. None: it is gone."""
        if self.is_gone:
            return None
        if self._reset_due or self._ack_now:
            return self._sent_at
        if not self.is_connected:
            return self._syn_at
        outbound = self.outbound
        when = self._sent_at + self._config.keepalive_interval
        if self._ack_at is not None:
            when = min(when, self._ack_at)
        deadline = outbound.deadline
        if deadline is not None:
            when = min(when, deadline)
        if outbound.waits:
            when = min(when, self._silence_ends)
        if self._gone_at is not None:
            when = min(when, self._gone_at)
        return when
