"""Whatever the line does, all bytes arrive once and in order, or both ends are told."""

from __future__ import annotations

import random

import hypothesis.strategies as st
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dht_torrent.config import UtpConfig
from dht_torrent.ids import Address
from dht_torrent.utp.connection import UtpConnection
from dht_torrent.utp.packets import is_utp
from tests.helpers.examples import examples
from tests.helpers.utp_link import End, Line, World, two_ends

CONFIG = UtpConfig(receive_buffer=40_000, send_buffer=60_000, min_send_buffer=20_000)
SHARES = st.sampled_from([0.0, 0.0, 0.01, 0.1, 0.3])


class TwoEnds(RuleBasedStateMachine):
    """Both write and read a pattern (which `End` checks) over a line that changes under them."""

    world: World
    one: End
    other: End

    @initialize(seed=st.integers(0, 1 << 20), rate=st.sampled_from([2e4, 1e6]))
    def dial(self, seed: int, rate: float) -> None:
        self.there, self.back = Line(rate=rate), Line(rate=rate)
        self.world, self.one, self.other = two_ends(self.there, self.back, seed=seed, config=CONFIG)
        self.connection = self.one.dial(self.other)
        self.closed: set[End] = set()
        self.is_hopeless = False
        self.world.run(0.5)

    def sides(self) -> list[End]:
        return [self.one, self.other]

    @rule(loss=SHARES, duplicates=SHARES, reordered=SHARES, late=st.sampled_from([0.01, 1.0]))
    def change(self, loss: float, duplicates: float, reordered: float, late: float) -> None:
        for line in (self.there, self.back):
            line.loss, line.duplicates, line.reordered = loss, duplicates, reordered
            line.late = late
        self.is_hopeless |= loss > 0.1

    @rule(is_down=st.booleans(), back=st.booleans())
    def cut(self, is_down: bool, back: bool) -> None:
        (self.back if back else self.there).is_down = is_down
        self.is_hopeless |= is_down

    @rule(second=st.booleans(), size=st.sampled_from([1, 100, 5_000, 100_000]))
    def write(self, second: bool, size: int) -> None:
        end = self.sides()[second]
        if end.connections and end not in self.closed:
            end.to_send[end.connections[0]] += size
            end.act()

    @rule(second=st.booleans(), reads=st.booleans())
    def read(self, second: bool, reads: bool) -> None:
        end = self.sides()[second]
        end.reads = reads
        end.act()

    @rule(second=st.booleans())
    def finish(self, second: bool) -> None:
        end = self.sides()[second]
        self.closed.add(end)
        end.finish_when_sent = True
        end.act()

    @rule(seconds=st.sampled_from([0.001, 0.05, 1.0, 7.0]))
    def wait(self, seconds: float) -> None:
        self.world.run(seconds)

    @invariant()
    def memory_is_bounded(self) -> None:
        for end in self.sides():
            assert end.table.buffered <= 2 * CONFIG.receive_buffer
            for connection in end.connections:
                assert connection.outbound.held <= CONFIG.send_buffer
                assert 0 <= connection.outbound.in_flight <= connection.outbound.held

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        for line in (self.there, self.back):
            line.loss = line.duplicates = line.reordered = 0.0
            line.is_down = False
        for end in self.sides():
            end.reads = True
            end.act()
        self.world.run(120)
        failed = [c.failure for end in self.sides() for c in end.ended if c.failure]
        if failed and self.is_hopeless:  # the other end knows, too, if it waits for anything
            assert all(not c.outbound.waits for end in self.sides() for c in end.connections)
            return
        assert failed == []
        pairs = [(self.one, self.other), (self.other, self.one)]
        for sender, receiver in pairs:
            wanted = sum(sender.to_send.values())
            assert sum(sender.sent.values()) == wanted
            assert sum(receiver.received.values()) == wanted
        if len(self.closed) == 2:
            assert len(self.one.table) == len(self.other.table) == 0
            assert len(self.one.ended) == len(self.other.ended) == 1


TestTwoEnds = TwoEnds.TestCase
TestTwoEnds.settings = settings(max_examples=examples(40), stateful_step_count=20, deadline=None)


@settings(max_examples=examples(25), deadline=None)
@given(seed=st.integers(0, 1 << 30))
def test_lost_and_late_packets_are_made_good_both_ways(seed: int) -> None:
    lines = Line(), Line()
    world, one, other = two_ends(*lines, seed=seed)
    other.on_accept = lambda connection: other.to_send.update({connection: 60_000})
    one.dial(other, 60_000)
    # Its few SYNs are given up after seven seconds: of a thousand dials over such lines one fails.
    world.run(10, until=lambda: bool(other.connections))
    for line in lines:
        line.loss = line.duplicates = 0.05
        line.reordered, line.late = 0.1, 0.05
    one.finish_when_sent = other.finish_when_sent = True
    world.run(120, until=lambda: len(one.ended) + len(other.ended) == 2)
    assert list(one.received.values()) == list(other.received.values()) == [60_000]
    assert [c.failure for c in one.ended + other.ended] == [None, None]
    assert one.table.buffered == other.table.buffered == 0


@settings(max_examples=examples(40), deadline=None)
@given(seed=st.integers(0, 1 << 30))
def test_mutated_packets_raise_nothing_and_hold_no_memory(seed: int) -> None:
    dice = random.Random(seed)

    def mutate(datagram: bytes, _source: Address, _to: Address) -> bytes:
        if dice.random() < 0.2:
            changed = bytearray(datagram)
            for _times in range(dice.randrange(1, 4)):
                at = dice.randrange(min(len(changed), 40))
                changed[at] = dice.randrange(256)
            datagram = bytes(changed)[: dice.choice([len(changed), dice.randrange(60)])]
        return datagram

    world, one, other = two_ends(seed=seed, config=CONFIG)
    world.before = mutate
    one.reads = other.reads = False  # their bytes are not what was sent
    connection: UtpConnection = one.dial(other, 50_000)
    world.run(20)
    for end in (one, other):
        assert end.table.buffered <= 2 * CONFIG.receive_buffer
        for each in end.connections:
            each.abort()
        end.act()
        assert end.table.buffered == 0
    assert connection.is_gone
    assert not is_utp(b"d1:rd2:id20:abcdefghij0123456789e1:t2:aa1:y1:re")
