"""What a connection makes of a line: its rate, its delay, its losses, and others on it."""

from __future__ import annotations

import pytest

from dht_torrent.config import UtpConfig
from tests.helpers.tcp_flow import Kind, TcpFlow
from tests.helpers.utp_link import Line, World, two_ends

GREEDY = 1 << 40


def rate(world: World, seconds: float, *, settled: float) -> float:
    """Bytes per second that the second end receives, after so many seconds."""
    one, other = list(world.ends.values())[:2]
    one.dial(other, GREEDY)
    world.run(settled)
    before = sum(other.received.values())
    world.run(seconds)
    return (sum(other.received.values()) - before) / seconds


@pytest.mark.parametrize(
    ("mbit", "round_trip", "settled", "seconds"),
    [
        (1, 0.01, 10, 60),
        (1, 0.2, 10, 60),
        (10, 0.05, 8, 20),
        (10, 0.1, 4, 10),
        (10, 0.2, 10, 20),
        (100, 0.01, 1, 2),
        (100, 0.1, 3, 3),
        (100, 0.2, 5, 4),
    ],
)
def test_nine_tenths_of_a_line_are_filled(
    mbit: int, round_trip: float, settled: float, seconds: float
) -> None:
    lines = [Line(rate=mbit * 125e3, delay=round_trip / 2) for _ in range(2)]
    world, _, _ = two_ends(*lines)
    assert rate(world, seconds, settled=settled) >= 0.9 * mbit * 125e3
    assert lines[0].longest_queue < 0.26


def test_the_queue_is_no_longer_than_the_target_once_it_is_settled() -> None:
    line = Line(rate=1.25e6, delay=0.02, queue=0.5, watched=True)
    world, one, other = two_ends(line, Line())
    one.dial(other, GREEDY)
    world.run(40)
    late = [wait for now, wait in line.queued if now > 1020]
    assert max(late) <= 0.11
    assert min(late) <= 0.005  # it is drained now and then


@pytest.mark.parametrize(("loss", "least"), [(0.001, 0.9), (0.01, 0.5)])
def test_losses_do_not_make_it_collapse(loss: float, least: float) -> None:
    """As much as the square root of the losses allows, less by 0.3 for each and two packets a
    round."""
    world, _, _ = two_ends(
        Line(rate=1.25e6, delay=0.025, loss=loss), Line(rate=1.25e6, delay=0.025, loss=loss)
    )
    assert rate(world, 40, settled=5) >= least * 1.25e6


@pytest.mark.parametrize("kind", ["reno", "cubic"])
def test_tcp_keeps_its_share_and_what_it_leaves_is_taken_again(kind: Kind) -> None:
    """20 Mbit/s with 0.4 s of buffer, which TCP fills."""

    lines = [Line(rate=2.5e6, delay=0.025, queue=0.4) for _ in range(2)]
    world, one, other = two_ends(*lines)
    one.dial(other, GREEDY)
    flow = TcpFlow(world, lines[0], lines[1], kind)

    def received() -> int:
        return sum(other.received.values())

    world.run(10)
    flow.start()
    world.run(10)  # until the queue is TCP's
    before = flow.delivered
    world.run(20)
    assert (flow.delivered - before) / 20 >= 0.9 * 0.96 * 2.5e6  # which it has alone
    flow.stop()
    world.run(5)
    had = received()
    world.run(5)
    assert (received() - had) / 5 >= 0.9 * 2.5e6


@pytest.mark.parametrize("kind", ["reno", "cubic"])
def test_a_tcp_flow_alone_fills_the_line(kind: Kind) -> None:
    """So that the test above means something."""
    lines = [Line(rate=2.5e6, delay=0.025, queue=0.4) for _ in range(2)]
    world, _, _ = two_ends(*lines)
    flow = TcpFlow(world, lines[0], lines[1], kind)
    flow.start()
    world.run(10)
    before = flow.delivered
    world.run(10)
    assert (flow.delivered - before) / 10 == pytest.approx(0.965 * 2.5e6, rel=0.01)
    assert lines[0].longest_queue > 0.35


def test_reordering_is_not_taken_for_loss_for_long() -> None:
    there = Line(rate=1.25e6, delay=0.025, reordered=0.05, late=0.02)
    world, one, other = two_ends(there, Line(delay=0.025))
    connection = one.dial(other, GREEDY)
    world.run(10)
    before, again = other.received[other.connections[0]], connection.outbound.resent
    world.run(20)
    assert (other.received[other.connections[0]] - before) / 20 > 0.8 * 1.25e6
    assert connection.outbound.resent - again < 100


@pytest.mark.parametrize("second", [0.0, 20.0])
def test_two_flows_share_a_line_also_if_one_came_late(second: float) -> None:
    line = Line(rate=1.25e6, delay=0.02, queue=0.4)
    world = World()
    one, other = world.end("10.0.0.1"), world.end("10.0.0.2")
    world.join(one, other, line, Line(rate=1.25e6, delay=0.02))
    first = one.dial(other, GREEDY)
    world.run(second)
    late = one.dial(other, GREEDY)
    world.run(60)
    counts = {c.receive_id: other.received[c] for c in other.connections}
    world.run(60)
    shares = {c.receive_id: other.received[c] - counts[c.receive_id] for c in other.connections}
    assert sum(shares.values()) / 60 > 0.85 * 1.25e6
    assert min(shares.values()) > 0.2 * sum(shares.values())
    assert first.failure is late.failure is None


def test_a_line_that_was_down_is_used_again() -> None:
    lines = [Line(rate=1.25e6, delay=0.02) for _ in range(2)]
    world, one, other = two_ends(*lines)
    connection = one.dial(other, GREEDY)
    world.run(5)
    for line in lines:
        line.is_down = True
    world.run(20)
    before = other.received[other.connections[0]]
    for line in lines:
        line.is_down = False
    world.run(15)
    assert connection.failure is None
    assert other.received[other.connections[0]] - before > 3e6


def test_a_line_that_stays_down_ends_it_after_thirty_seconds_and_frees_everything() -> None:
    lines = [Line(), Line()]
    world, one, other = two_ends(*lines)
    other.reads = False
    connection = one.dial(other, GREEDY)
    world.run(5)
    assert other.table.buffered > 1_000_000
    for line in lines:
        line.is_down = True
    config = UtpConfig()
    world.run(config.silence_timeout + 1)
    assert one.ended == [connection]
    assert len(one.table) == 0
    # The other end has nothing to send, and so nothing to miss; whoever reads there has a limit.
    other.connections[0].abort()
    other.act()
    assert (len(other.table), other.table.buffered) == (0, 0)


def test_a_reader_that_stops_bounds_what_is_held_and_may_go_on() -> None:
    config = UtpConfig(receive_buffer=200_000)
    world, one, other = two_ends(config=config)
    other.reads = False
    connection = one.dial(other, 2_000_000)
    world.run(60)
    assert 100_000 < other.table.buffered <= 200_000 + 1500
    assert connection.failure is None
    other.reads = True
    other.act()
    world.run(20)
    assert other.received[other.connections[0]] == 2_000_000


def test_all_readers_that_stop_share_one_bound() -> None:
    config = UtpConfig(total_receive_buffer=1_000_000)
    world, one, other = two_ends(config=config)
    other.reads = False
    for _ in range(10):
        one.dial(other, 2_000_000)
    world.run(30)
    assert other.table.buffered <= 1_000_000 + 1600
    other.reads = True
    other.act()
    world.run(60)
    assert sorted(other.received.values()) == [2_000_000] * 10
