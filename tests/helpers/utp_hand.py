"""One connection of ours; the other end writes its packets by hand."""

from __future__ import annotations

from dht_torrent.config import UtpConfig
from dht_torrent.ids import Address
from dht_torrent.utp.connection import UtpConnection
from dht_torrent.utp.inbound import ReceiveBudget
from dht_torrent.utp.packets import STATE, Packet, decode, encode

PEER = Address("10.0.0.2", 6881)
CONFIG = UtpConfig()
WINDOW = 1 << 20


class Hand:
    """A connection of ours, and the other end by hand."""

    def __init__(
        self, config: UtpConfig = CONFIG, *, number: int = 0xFFFE, theirs: int = 9
    ) -> None:
        self.now = 50.0
        self.config = config
        self.budget = ReceiveBudget(config.total_receive_buffer)
        self.ours = UtpConnection(config, self.budget, PEER, (100, 101), number, self.now)
        self.number = number
        self.theirs = theirs

    def sent(self, *, after: float = 0.0) -> list[Packet]:
        self.now += after
        datagrams = self.ours.packets_to_send(self.now)
        packets = [decode(data) for data in self.ours.probes + datagrams]
        self.ours.probes.clear()
        return sorted(packets, key=lambda packet: packet.kind == STATE)

    def say(
        self,
        kind: int,
        sequence: int,
        ack: int,
        payload: bytes = b"",
        *,
        sack: int = 0,
        window: int = WINDOW,
        after: float = 0.05,
    ) -> list[Packet]:
        self.now += after
        packet = Packet(kind, 100, 1, 1000, window, sequence & 0xFFFF, ack & 0xFFFF, sack, payload)
        self.ours.receive_packet(self.now, encode(packet))
        return self.sent()

    def read(self) -> bytes:
        buffer = bytearray(1 << 20)
        return bytes(buffer[: self.ours.read_into(memoryview(buffer))])


def connected(config: UtpConfig = CONFIG) -> Hand:
    """The first packet of data of ours is 0xFFFF, of theirs 9."""
    hand = Hand(config)
    hand.sent()
    hand.say(STATE, 9, 0xFFFE)
    return hand
