"""uTP connections (BEP 29)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class UtpConfig:
    """All uTP connections of one UDP socket. Windows and packets count bytes as BEP 29 does."""

    enabled: bool = True
    """Whether there are any, incoming or dialled."""
    target_delay: float = 0.1
    """Seconds of queueing that LEDBAT aims at (BEP 29) ..."""
    gain: int = 3000
    """... and bytes by which the window grows in a round trip without any queue (libtorrent)."""
    initial_window: int = 6000
    """Bytes in flight at the start; four packets (RFC 3390)."""
    max_window: int = 8 << 20
    """Bytes in flight at most: 100 Mbit/s at half a second, with the queue LEDBAT aims at."""
    slow_start_exit: float = 0.75
    """Slow start ends when the queue has reached this part of the target (LEDBAT++, RFC draft)."""
    drain_interval: float = 10.0
    """If the queue was never seen nearly empty for this long, send less for two round trips, to
    measure the delay without it. Otherwise a flow that came later takes our queue for the path's
    own delay, and starves us (BBR has the same ten seconds)."""
    base_delay_age: float = 120.0
    """The least delay of this many seconds is that of the path without a queue (BEP 29)."""
    min_timeout: float = 0.5
    """Of a packet without an acknowledgement (BEP 29) ..."""
    first_timeout: float = 1.0
    """... and before a round trip was measured, of a SYN too (BEP 29). It doubles each time ..."""
    max_timeout: float = 15.0
    """... up to this."""
    least_probe_timeout: float = 0.01
    """Silence after which one packet is sent again, before a timeout gives up all: two round trips,
    and this at least (Linux: two ticks of its clock) ..."""
    peer_ack_delay: float = 0.1
    """... and so much more if there is one alone, as the peer may wait for a second (libutp)."""
    syn_resends: int = 2
    """SYNs sent after the first (libtorrent): a dial fails after 7 s."""
    max_resends: int = 8
    """A packet sent again this often ends the connection, unless the window is closed ..."""
    silence_timeout: float = 30.0
    """... and so does a peer of whom nothing is heard while packets wait for it. Longer than
    libtorrent's 7 s: a laptop changes its network in less."""
    linger_timeout: float = 30.0
    """After both sides, or ours, have closed: time for what is under way to be acknowledged."""
    time_wait: float = 3.0
    """A connection that ended well still acknowledges a repeated FIN for this long."""
    ack_delay: float = 0.02
    """One packet alone is acknowledged after this; two or more, or one out of order, at once.
    libutp's 0.1 would look like a round trip five times as long on a fast line."""
    keepalive_interval: float = 29.0
    """Silence of ours after which an empty packet keeps a router's mapping open (libutp)."""
    receive_buffer: int = 4 << 20
    """Bytes received in order and not yet read, and as many at most with those behind a gap; the
    window we advertise."""
    send_buffer: int = 8 << 20
    """Bytes accepted and not yet acknowledged at most ..."""
    min_send_buffer: int = 64 << 10
    """... and at least; in between it is twice the congestion window."""
    total_send_buffer: int = 64 << 20
    """`send_buffer` of all connections together. When full, each takes `min_send_buffer`."""
    total_receive_buffer: int = 64 << 20
    """`receive_buffer` of all connections together. When full, windows close."""
    reorder_span: int = 8192
    """Packets beyond a gap that are kept. SACK can name 2016 of them."""
    max_connections: int = 1000
    """Connections at most; more are refused."""
    min_packet: int = 548
    """Bytes of a datagram that passes everywhere (IPv4's 576 less its headers) ..."""
    start_packet: int = 1232
    """... that is tried at once (IPv6's 1280 less its headers) ..."""
    max_packet: int = 1472
    """... and that is searched for (Ethernet's 1500 less IPv4's headers)."""
    reset_rate: float = 20.0
    """RESETs a second for packets that belong to no connection; more are dropped silently."""
    syn_reply_rate: float = 1000.0
    """Replies to SYNs a second. Each is as long as the SYN, and nothing is kept of it."""
    cookie_age: float = 30.0
    """What a reply to a SYN carries is valid for once to twice this long."""
