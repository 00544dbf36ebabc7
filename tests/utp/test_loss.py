"""When a packet is taken for lost, and that nothing waits for a timeout which need not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dht_torrent.config import UtpConfig
from dht_torrent.ids import Address
from dht_torrent.utp.loss import MEMORY, Losses
from dht_torrent.utp.packets import SACK, STATE, decode, encode
from tests.helpers.utp_hand import Hand, connected
from tests.helpers.utp_link import HEADERS, Line, two_ends

CONFIG = UtpConfig()
RTT = 0.05
"""Of a `Hand`."""
FIRST = 0xFFFF
"""Number of the first packet of data of ours."""


def flying(packets: int = 4) -> Hand:
    """So many packets are under way; the window is large, and the line quiet."""
    hand = connected()
    hand.ours.send(b"first")
    hand.sent()
    hand.say(STATE, 9, FIRST)
    hand.ours.congestion.slow_start = False
    hand.ours.congestion.window = 200_000
    hand.ours.send(bytes(1212 * packets))
    assert len(hand.sent()) == packets
    return hand


def numbers(hand: Hand, *, after: float = 0.0) -> list[int]:
    """Of what is sent then; the first of `flying` is 0."""
    return [packet.sequence for packet in hand.sent(after=after) if packet.kind != STATE]


# -- silence ----------------------------------------------------------------------------------


def test_after_two_round_trips_of_silence_the_first_is_sent_again_once() -> None:
    hand = flying()
    window = hand.ours.congestion.window
    assert numbers(hand, after=2 * RTT - 0.001) == []
    assert hand.ours.next_time() == pytest.approx(hand.now + 0.001)
    assert numbers(hand, after=0.002) == [0]
    assert numbers(hand, after=0.4) == []
    assert hand.ours.congestion.window == window
    assert numbers(hand, after=0.2) == [0]  # the timeout
    assert hand.ours.congestion.window < window


def test_what_is_said_of_it_shows_what_else_was_lost() -> None:
    hand = flying()
    assert numbers(hand, after=2 * RTT + 0.001) == [0]
    again = hand.say(STATE, 9, 0, after=RTT)
    assert [packet.sequence for packet in again] == [1, 2, 3]
    assert hand.ours.congestion.window == pytest.approx(140_000, rel=0.1)  # once, for all


def test_a_loss_that_only_it_made_good_shrinks_the_window_and_one_that_was_none_does_not() -> None:
    lost, late = flying(1), flying(1)
    window = lost.ours.congestion.window
    for hand in (lost, late):
        assert numbers(hand, after=2 * RTT + CONFIG.peer_ack_delay + 0.001) == [0]
    lost.say(STATE, 9, 0, after=RTT)
    late.say(STATE, 9, 0, after=RTT / 3)
    assert lost.ours.congestion.window < 0.75 * window
    assert late.ours.congestion.window >= window


def test_one_packet_alone_may_wait_for_the_peers_delayed_acknowledgement() -> None:
    hand = flying(1)
    assert numbers(hand, after=2 * RTT + CONFIG.peer_ack_delay - 0.001) == []
    assert numbers(hand, after=0.002) == [0]


def test_each_acknowledgement_puts_it_off_and_allows_another() -> None:
    hand = flying(10)
    for number in range(3):
        assert hand.say(STATE, 9, number, after=0.09) == []
    assert numbers(hand, after=0.3) == [3]
    assert hand.say(STATE, 9, 3, sack=0b11_1110, after=RTT)[0].sequence == 4
    assert numbers(hand, after=0.3) == [4]


def test_what_was_sent_last_counts_also_where_others_are_under_way() -> None:
    hand = flying(1)
    hand.now += 0.19
    hand.ours.send(bytes(1212))
    assert numbers(hand) == [1]
    assert numbers(hand, after=2 * RTT - 0.01) == []
    assert numbers(hand, after=0.011) == [0]


def test_a_closed_window_is_no_reason() -> None:
    hand = flying(4)
    hand.say(STATE, 9, 1, window=0, after=0.01)
    assert numbers(hand, after=0.3) == []


def test_a_probe_for_larger_packets_that_came_so_has_not_passed() -> None:
    hand = connected()
    hand.ours.send(b"first")
    hand.sent()
    hand.ours.send(bytes(4 * CONFIG.max_packet))
    hand.ours.congestion.window = 100_000
    hand.say(STATE, 9, FIRST)
    size = hand.ours.size.size
    assert size < CONFIG.max_packet
    (again,) = hand.sent(after=0.2)  # the probe was the first, and may be fragmented now
    assert len(again.payload) > size
    hand.say(STATE, 9, 0)
    assert hand.ours.size.size == size


# -- order ------------------------------------------------------------------------------------


def test_a_packet_that_was_sent_again_and_lost_again_is_found_by_what_came_after_it() -> None:
    hand = flying(4)
    (again,) = hand.say(STATE, 9, FIRST, sack=0b111, after=RTT)
    assert again.sequence == 0
    hand.ours.send(bytes(4 * 1212))
    assert numbers(hand) == [4, 5, 6, 7]
    (again,) = hand.say(STATE, 9, FIRST, sack=0b111_1111, after=RTT)
    assert again.sequence == 0


def test_one_or_two_that_came_first_mean_a_loss_a_moment_later() -> None:
    hand = flying(3)
    assert hand.say(STATE, 9, FIRST, sack=0b10, after=RTT) == []
    assert hand.ours.next_time() == pytest.approx(hand.now + RTT / 4)
    assert numbers(hand, after=RTT / 4 + 0.001) == [0, 1]


def test_on_a_line_that_reorders_three_are_not_enough() -> None:
    hand = flying(8)
    assert hand.say(STATE, 9, FIRST, sack=0b11, after=RTT) == []
    assert hand.say(STATE, 9, 2, after=0.001) == []  # 0 was late
    assert hand.say(STATE, 9, 2, sack=0b1111, after=0.001) == []
    assert numbers(hand, after=RTT / 4) == [3]


def test_what_an_end_cannot_name_yet_has_perhaps_arrived() -> None:
    """libutp names 32 packets behind a gap."""
    hand = flying(60)
    hand.say(STATE, 9, FIRST, sack=(1 << 32) - 1 & ~(1 << 20), after=RTT)
    assert hand.ours.outbound.resent == 2  # 0 and 21
    hand.say(STATE, 9, 20, sack=(1 << 32) - 1, after=RTT)
    hand.say(STATE, 9, 59, after=RTT / 2)
    assert hand.ours.outbound.resent == 2
    assert not hand.ours.outbound.waits


def test_what_is_not_named_is_lost_a_round_trip_later() -> None:
    hand = flying(100)
    hand.say(STATE, 9, FIRST, sack=(1 << 32) - 1, after=RTT)
    assert hand.ours.outbound.resent == 1
    again = hand.say(STATE, 9, 32, after=RTT)
    assert [packet.sequence for packet in again] == list(range(33, 66))  # it would name these
    assert numbers(hand, after=RTT / 2) == list(range(66, 100))


def test_lateness_grows_with_false_alarms_up_to_a_round_trip_and_is_forgotten() -> None:
    losses = Losses()
    assert not losses.reorders
    assert losses.allowed(0.08, 0.1) == pytest.approx(0.02)
    losses.overtaken()
    assert losses.reorders
    assert losses.allowed(0.08, 0.1) == pytest.approx(0.02)
    losses.false_alarm(5, 9)
    losses.false_alarm(9, 12)  # of the same round trip
    assert losses.allowed(0.08, 0.1) == pytest.approx(0.04)
    for turn in range(10, 20):
        losses.false_alarm(turn, turn)
    assert losses.allowed(0.08, 0.1) == 0.1
    for _ in range(MEMORY - 1):
        losses.were_real()
    assert losses.allowed(0.08, 0.1) == 0.1
    losses.were_real()
    assert not losses.reorders
    assert losses.allowed(0.08, 0.1) == pytest.approx(0.02)


def test_false_alarms_of_one_round_trip_count_once() -> None:
    hand = flying(12)
    hand.say(STATE, 9, FIRST, sack=0b1111_1000, after=RTT)
    assert hand.ours.outbound.resent == 4
    window = hand.ours.congestion.window
    allowed = 2 * RTT / 4
    for number in range(3):
        hand.say(STATE, 9, number, sack=0b1111_1000 >> number + 1, after=0.001)
    assert hand.ours.congestion.window > window  # given back
    assert hand.ours.outbound.losses.allowed(RTT, 1.0) == pytest.approx(allowed)


# -- lines ------------------------------------------------------------------------------------


@pytest.mark.parametrize("queue", [0.001, 0.005, 0.02])
def test_a_socket_buffer_that_overflows_costs_no_pause(queue: float) -> None:
    """As on loopback: hundreds of packets are lost at once, also some of those sent again, and the
    last ones."""
    line = Line(rate=80e6, delay=0.0001, queue=queue)
    world, one, other = two_ends(line, Line(rate=80e6, delay=0.0001))
    connection = one.dial(other, 40_000_000)
    world.run(0.01)
    before, pause = 0, 0.0
    for _ in range(200):
        world.run(0.005)
        received = sum(other.received.values())
        if received == 40_000_000:
            break
        pause = 0.005 + pause if received == before else 0.0
        assert pause < 0.05
        before = received
    assert received == 40_000_000
    assert connection.outbound.resent > 100


@pytest.mark.parametrize(("loss", "least"), [(0.001, 0.6), (0.01, 0.25)])
def test_an_end_that_names_few_packets_is_not_sent_everything_twice(
    loss: float, least: float
) -> None:
    there, back = (Line(rate=2.5e6, delay=0.025, loss=loss) for _ in range(2))
    world, one, other = two_ends(there, back)

    def as_libutp(datagram: bytes, source: Address, _: Address) -> bytes:
        if source != other.address or datagram[1] != SACK:
            return datagram
        packet = decode(datagram)
        return encode(replace(packet, sack=packet.sack & 0xFFFF_FFFF))

    world.before = as_libutp
    connection = one.dial(other, 1 << 40)
    world.run(20)
    assert sum(other.received.values()) / 20 > least * 2.5e6
    lost = loss * there.carried / (CONFIG.max_packet + HEADERS)
    assert connection.outbound.resent < 2 * lost + 200
