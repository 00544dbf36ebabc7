"""One connection, packet by packet; the other end writes its bytes by hand, or is ours too."""

from __future__ import annotations

import pytest

from dht_torrent.config import UtpConfig
from dht_torrent.errors import LocalProtocolError, UtpError
from dht_torrent.utp.connection import UtpFailure
from dht_torrent.utp.packets import DATA, FIN, RESET, STATE, SYN, Packet, decode, encode
from tests.helpers.utp_hand import CONFIG, WINDOW, Hand, connected
from tests.helpers.utp_link import Line, pattern, two_ends


def test_a_syn_carries_the_id_that_the_answer_will_and_all_else_the_next_one() -> None:
    hand = Hand()
    (syn,) = hand.sent()
    assert (syn.kind, syn.connection_id, syn.sequence) == (SYN, 100, 0xFFFE)
    (state,) = hand.say(STATE, 9, 0xFFFE)
    # TRAP: the reply to a SYN names the next packet; it does not consume a number itself.
    assert (state.kind, state.connection_id, state.acknowledged) == (STATE, 101, 8)
    assert state.sequence == 0xFFFF
    assert hand.ours.is_connected


def test_a_dial_is_given_up_after_seven_seconds_and_three_syns() -> None:
    hand = Hand()
    began, times = hand.now, []
    while not hand.ours.is_gone:
        when = hand.ours.next_time()
        assert when is not None
        hand.now = max(hand.now, when)
        if hand.sent():
            times.append(hand.now - began)
    assert times == pytest.approx([0, 1, 3])
    assert hand.now - began == pytest.approx(7)
    assert hand.ours.failure == UtpFailure.TIMED_OUT


def test_a_reset_refuses_a_dial_only_if_it_names_the_syn() -> None:
    hand = Hand()
    hand.sent()
    hand.say(RESET, 0, 5)
    assert hand.ours.failure is None
    hand.say(RESET, 0, 0xFFFE)
    assert hand.ours.failure == UtpFailure.REFUSED


def test_data_before_the_reply_to_the_syn_is_dropped() -> None:
    hand = Hand()
    hand.sent()
    hand.say(DATA, 9, 0xFFFE, b"early")
    assert not hand.ours.is_connected
    hand.say(STATE, 9, 0xFFFE)
    hand.say(DATA, 9, 0xFFFE, b"early")
    assert hand.read() == b"early"


def test_numbers_of_packets_wrap() -> None:
    hand = connected()
    hand.ours.send(bytes(4000))
    assert [packet.sequence for packet in hand.sent()] == [0xFFFF, 0, 1, 2]
    hand.say(STATE, 9, 1)
    assert hand.ours.outbound.held == 4000 - 3 * 1212
    hand.say(STATE, 9, 2)
    assert not hand.ours.outbound.waits


def test_one_packet_is_acknowledged_after_a_moment_and_two_at_once() -> None:
    hand = connected()
    assert hand.say(DATA, 9, 0xFFFE, b"one") == []
    assert hand.ours.next_time() == pytest.approx(hand.now + CONFIG.ack_delay)
    (ack,) = hand.sent(after=CONFIG.ack_delay)
    assert ack.acknowledged == 9
    assert hand.say(DATA, 10, 0xFFFE, b"two") == []
    (ack,) = hand.say(DATA, 11, 0xFFFE, b"three", after=0.001)
    assert ack.acknowledged == 11
    assert hand.read() == b"onetwothree"


def test_an_acknowledgement_rides_on_data() -> None:
    hand = connected()
    hand.say(DATA, 9, 0xFFFE, b"question")
    hand.ours.send(b"answer")
    (packet,) = hand.sent()
    assert (packet.kind, packet.acknowledged) == (DATA, 9)
    assert hand.sent(after=0.1) == []


def test_packets_behind_a_gap_are_named_and_read_in_order() -> None:
    hand = connected()
    (ack,) = hand.say(DATA, 11, 0xFFFE, b"c")
    assert (ack.acknowledged, ack.sack) == (8, 0b10)
    (ack,) = hand.say(DATA, 13, 0xFFFE, b"e")
    assert (ack.acknowledged, ack.sack) == (8, 0b1010)
    (ack,) = hand.say(DATA, 13, 0xFFFE, b"e")  # again
    assert (hand.ours.readable, ack.sack) == (0, 0b1010)
    hand.say(DATA, 9, 0xFFFE, b"a")
    hand.say(DATA, 10, 0xFFFE, b"b")
    assert hand.read() == b"abc"
    hand.say(DATA, 12, 0xFFFE, b"d")
    assert hand.read() == b"de"
    (ack,) = hand.say(DATA, 12, 0xFFFE, b"d")  # came already: its sender missed the answer
    assert (ack.acknowledged, ack.sack) == (13, 0)
    assert hand.budget.used == 0


def test_a_packet_is_sent_again_when_three_later_ones_have_arrived() -> None:
    hand = connected()
    hand.ours.send(bytes(6000))
    first = hand.sent()
    assert len(first) == 4  # as many as the other end knows us by
    assert hand.say(STATE, 9, 0xFFFE, sack=0b11)[0].sequence == 3
    (again,) = hand.say(STATE, 9, 0xFFFE, sack=0b111, after=0.001)
    assert again.sequence == 0xFFFF
    assert again.payload == first[0].payload
    window = hand.ours.congestion.window
    # It shrinks once for all that was under way.
    for packet in range(3):
        hand.say(STATE, 9, 0xFFFE, sack=0b111 << packet & 0b1111, after=0.001)
    assert hand.ours.congestion.window >= window


def test_three_repeated_acknowledgements_mean_a_loss_to_an_end_without_sack() -> None:
    hand = connected()
    hand.ours.send(bytes(6000))
    hand.sent()
    hand.say(STATE, 9, 0xFFFE, after=0.001)
    hand.say(STATE, 9, 0xFFFE, after=0.001)
    (again,) = hand.say(STATE, 9, 0xFFFE, after=0.001)
    assert again.sequence == 0xFFFF


def test_a_packet_sent_again_is_not_lost_because_of_what_went_before_it() -> None:
    hand = connected()
    hand.ours.send(bytes(4 * 1212))
    hand.sent()
    for _ in range(3):
        hand.say(STATE, 9, 0xFFFE, after=0.001)
    assert hand.ours.outbound.resent == 1
    for mask in (0b1, 0b11, 0b111):
        assert hand.say(STATE, 9, 0xFFFE, sack=mask, after=0.001) == []


def test_all_that_one_round_trip_lost_shrinks_the_window_once() -> None:
    hand = connected()
    hand.ours.send(b"first")
    hand.sent()
    hand.say(STATE, 9, 0xFFFF)
    hand.ours.congestion.slow_start = False
    hand.ours.congestion.window = 50_000
    hand.ours.send(bytes(20_000))
    count = len(hand.sent())
    assert count > 12
    hand.say(STATE, 9, 0xFFFF, sack=0b1111_1111_0111 & ~0b100_0000)
    assert hand.ours.outbound.resent == 3
    assert 34_000 < hand.ours.congestion.window < 38_000  # by 0.3 for all of them


def test_acknowledgements_that_come_at_once_count_like_those_that_come_one_by_one() -> None:
    one_by_one, at_once = connected(), connected()
    for hand in (one_by_one, at_once):
        hand.ours.send(bytes(60_000))
        assert len(hand.sent()) == 4
        hand.now += 0.05
        for number in range(4):
            ack = Packet(STATE, 100, 1, 1000, WINDOW, 9, 0xFFFF + number & 0xFFFF)
            hand.ours.receive_packet(hand.now, encode(ack))
            if hand is one_by_one:
                hand.sent()
    assert at_once.ours.congestion.window == one_by_one.ours.congestion.window > 10_000


def test_an_acknowledgement_of_what_was_never_sent_is_ignored() -> None:
    hand = connected()
    hand.ours.send(b"x")
    hand.sent()
    hand.say(DATA, 9, 500, b"forged")
    assert (hand.ours.readable, hand.ours.outbound.waits) == (0, True)
    hand.say(STATE, 9, 0xFFFF, sack=(1 << 2000) - 1)
    assert not hand.ours.outbound.waits


def test_nobody_is_waited_for_longer_than_thirty_seconds() -> None:
    hand = connected()
    hand.now += 1000  # nothing was due until now
    hand.ours.send(b"anybody?")
    began, sends = hand.now, 0
    while not hand.ours.is_gone:
        sends += len([packet for packet in hand.sent() if packet.kind == DATA])
        when = hand.ours.next_time()
        hand.now = max(hand.now, when or 0)
    assert hand.now - began == pytest.approx(CONFIG.silence_timeout)
    assert hand.ours.failure == UtpFailure.TIMED_OUT
    assert sends == 7  # at once, after 0.2, and 0.5, 1.5, 3.5, 7.5 and 15.5 s later


def test_a_peer_that_never_acknowledges_is_given_up_however_much_it_talks() -> None:
    hand = connected()
    hand.ours.send(b"x")
    began = hand.now
    while not hand.ours.is_gone and hand.now < began + 200:
        hand.say(STATE, 9, 0xFFFE, window=WINDOW + int(hand.now), after=1)
    assert hand.ours.failure == UtpFailure.TIMED_OUT
    assert 60 < hand.now - began < 100


def test_a_closed_window_is_probed_and_its_opening_is_noticed() -> None:
    hand = connected()
    hand.say(STATE, 9, 0xFFFE, window=0)
    hand.ours.send(b"waiting")
    assert hand.sent() == []
    (probe,) = hand.sent(after=1)
    assert bytes(probe.payload) == b"w"
    for _ in range(20):  # it says so all the time: this is no reason to leave
        hand.say(STATE, 9, 0xFFFE, window=0, after=10)
    assert hand.ours.failure is None
    again = hand.say(STATE, 9, 0xFFFE)
    assert b"".join(packet.payload for packet in again) == b"waiting"


def test_a_window_is_never_overrun() -> None:
    hand = connected()
    hand.say(STATE, 9, 0xFFFE, window=2000)
    hand.ours.send(bytes(10_000))
    assert sum(len(packet.payload) for packet in hand.sent()) <= 2000


def test_what_has_no_room_is_not_taken_and_the_reader_opens_the_window() -> None:
    hand = connected(UtpConfig(receive_buffer=4000))
    hand.say(DATA, 9, 0xFFFE, bytes(1400))
    hand.say(DATA, 10, 0xFFFE, bytes(1400))
    (ack,) = hand.say(DATA, 11, 0xFFFE, bytes(1400))
    assert (ack.acknowledged, ack.window) == (10, 4000 - 2 * (1420 + 128))
    assert len(hand.read()) == 2800
    (ack,) = hand.sent()
    assert (ack.acknowledged, ack.window) == (10, 4000)


def test_a_fin_ends_one_direction_and_the_other_goes_on() -> None:
    hand = connected()
    hand.say(FIN, 10, 0xFFFE)
    assert not hand.ours.at_end  # something before it is missing
    hand.say(DATA, 9, 0xFFFE, b"last")
    assert hand.read() == b"last"
    assert hand.ours.at_end
    assert hand.ours.send(b"still here") == 10
    (packet,) = hand.sent()
    assert packet.acknowledged == 10
    hand.ours.finish()
    (fin,) = hand.sent()
    assert (fin.kind, fin.sequence) == (FIN, 0)
    with pytest.raises(LocalProtocolError):
        hand.ours.send(b"more")
    hand.say(STATE, 11, 0)
    assert not hand.ours.is_gone
    (ack,) = hand.say(FIN, 10, 0, after=1)  # it did not hear that we know
    assert ack.acknowledged == 10
    hand.sent(after=CONFIG.time_wait)
    assert hand.ours.is_gone
    assert hand.ours.failure is None


def test_what_has_come_can_be_read_long_after_both_ends_have_finished() -> None:
    hand = connected()
    hand.ours.finish()
    hand.sent()
    hand.say(DATA, 9, 0xFFFF, b"last")
    hand.say(FIN, 10, 0xFFFF)
    hand.sent(after=500)
    assert hand.read() == b"last"
    hand.sent()
    assert not hand.ours.is_gone
    hand.sent(after=CONFIG.time_wait)
    assert hand.ours.is_gone


def test_data_after_a_fin_is_not_read() -> None:
    hand = connected()
    hand.say(FIN, 10, 0xFFFE)
    hand.say(DATA, 11, 0xFFFE, b"beyond")
    hand.say(DATA, 9, 0xFFFE, b"last")
    hand.say(DATA, 11, 0xFFFE, b"beyond")
    assert hand.read() == b"last"
    assert hand.ours.at_end


def test_closing_sends_what_was_taken_and_drops_what_comes() -> None:
    hand = connected()
    hand.say(DATA, 9, 0xFFFE, b"unread")
    hand.ours.send(b"bye")
    hand.ours.close(hand.now)
    data, fin = hand.sent()
    assert (bytes(data.payload), fin.kind) == (b"bye", FIN)
    assert hand.budget.used == 0
    hand.say(DATA, 10, 0, b"more")
    assert (hand.ours.readable, hand.budget.used) == (0, 0)
    hand.sent(after=CONFIG.linger_timeout)
    assert hand.ours.is_gone


def test_aborting_sends_one_reset_and_no_more() -> None:
    hand = connected()
    hand.ours.abort()
    (reset,) = hand.sent()
    assert (reset.kind, reset.connection_id, reset.acknowledged) == (RESET, 101, 8)
    assert hand.ours.is_gone
    assert hand.sent() == []
    assert hand.ours.failure == UtpFailure.ABORTED


def test_a_reset_ends_it_unless_it_names_what_we_never_sent() -> None:
    hand = connected()
    hand.say(RESET, 0, 0x4000)
    assert hand.ours.failure is None
    hand.say(RESET, 0, 0xFFFE)
    assert hand.ours.failure == UtpFailure.RESET


def test_silence_is_broken_to_keep_a_mapping_open() -> None:
    hand = connected()
    assert hand.sent(after=CONFIG.keepalive_interval - 0.01) == []
    (state,) = hand.sent(after=0.01)
    assert state.kind == STATE


def test_memory_of_packets_behind_a_gap_is_bounded() -> None:
    hand = connected(UtpConfig(receive_buffer=100_000))
    for number in range(11, 2011):
        hand.say(DATA, number, 0xFFFE, bytes(1000), after=0)
    assert hand.budget.used <= 100_000
    tiny = connected(UtpConfig(receive_buffer=100_000))
    for number in range(11, 2011):
        tiny.say(DATA, number, 0xFFFE, b"x", after=0)
    assert tiny.budget.used <= 100_000


def test_packets_behind_a_gap_never_keep_out_what_closes_it() -> None:
    hand = connected(UtpConfig(receive_buffer=20_000, total_receive_buffer=40_000))
    for number in range(10, 100):
        hand.say(DATA, number, 0xFFFE, bytes(1400), after=0)
    hand.budget.used += 40_000  # others hold much, too
    hand.say(DATA, 9, 0xFFFE, bytes(1400))
    assert hand.ours.readable > 10_000


def test_what_is_behind_gaps_takes_half_of_the_memory_of_all() -> None:
    hand = connected(UtpConfig(total_receive_buffer=40_000))
    for number in range(11, 100):
        hand.say(DATA, number, 0xFFFE, bytes(1400), after=0)
    assert 18_000 < hand.budget.used < 22_000


def test_a_send_buffer_takes_no_more_than_it_may() -> None:
    hand = connected()
    assert hand.ours.send(bytes(1 << 20)) == CONFIG.min_send_buffer
    assert hand.ours.send(b"x") == 0
    assert hand.ours.writable == 0


def test_what_can_be_written_to_is_copied() -> None:
    hand = connected()
    data = bytearray(b"before")
    hand.ours.send(data)
    data[:] = b"behind"
    (packet,) = hand.sent()
    assert bytes(packet.payload) == b"before"


def test_bytes_of_several_writes_share_a_packet() -> None:
    hand = connected()
    for _ in range(300):
        hand.ours.send(b"0123456789")
    packets = hand.sent()
    assert [len(packet.payload) for packet in packets] == [1212, 1212, 576]
    assert b"".join(packet.payload for packet in packets) == b"0123456789" * 300


def test_what_is_not_a_packet_is_one_error() -> None:
    with pytest.raises(UtpError):
        connected().ours.receive_packet(60, b"d1:ad2:id20:")


@pytest.mark.parametrize("path", [1472, 1400, 1300])
def test_the_largest_packet_that_passes_is_found(path: int) -> None:
    world, one, other = two_ends(Line(largest=path), Line())
    connection = one.dial(other, 3_000_000)
    world.run(30)
    assert path - 16 <= connection.size.size <= path
    assert other.received[other.connections[0]] == 3_000_000
    assert connection.congestion.backoff == 0


def test_a_probe_that_the_system_refuses_is_not_tried_again() -> None:
    hand = connected()
    hand.ours.send(b"first")
    hand.sent()
    hand.say(STATE, 9, 0xFFFF)
    hand.ours.send(bytes(6000))
    hand.now += 1
    hand.ours.packets_to_send(hand.now)
    (probe,) = hand.ours.probes
    assert len(probe) == 1472
    hand.ours.probes.clear()
    window = hand.ours.congestion.window
    hand.ours.outbound.probe_refused()
    again = hand.ours.packets_to_send(hand.now)
    assert decode(again[0]).payload == decode(probe).payload
    assert hand.ours.congestion.window == window
    assert hand.ours.size.probe() == 1352


def test_a_peer_whose_clock_runs_faster_is_not_starved() -> None:
    world, one, other = two_ends(Line(rate=1.25e6), Line(rate=1.25e6))
    other.drift = 200e-6
    connection = one.dial(other, 1 << 40)
    world.run(30)
    before = other.received[other.connections[0]]
    world.run(20)
    assert (other.received[other.connections[0]] - before) / 20 > 0.9 * 1.25e6
    assert connection.failure is None
    assert pattern(1 << 18, 4) == pattern(0, 4)
