"""Two that connect to each other at the same moment, as through routers that let in only who was
sent to (BEP 55)."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from dht_torrent.config import UtpConfig
from dht_torrent.ids import Address
from dht_torrent.utp.connection import UtpConnection, UtpFailure
from dht_torrent.utp.table import UtpTable

HERE, THERE = Address("20.1.0.1", 6881), Address("20.2.0.1", 6881)
STEP = 0.01
DELAY = 5
"""Steps that a datagram takes."""


class Ids(random.Random):
    """Draws what it is told, one after the other."""

    def __init__(self, *numbers: int) -> None:
        super().__init__(1)
        self._numbers = list(numbers)

    def randrange(self, *given: int) -> int:  # type: ignore[override]
        return self._numbers.pop(0) if self._numbers else super().randrange(*given)


@dataclass
class End:
    """A table behind a router."""

    address: Address
    table: UtpTable
    dialled: UtpConnection | None = None
    accepted: list[UtpConnection] = field(default_factory=list)
    is_open: bool = False
    """It has sent something, so its router lets in what comes back."""

    @property
    def connected(self) -> list[UtpConnection]:
        mine = [] if self.dialled is None else [self.dialled]
        return [one for one in (*mine, *self.accepted) if one.is_connected and not one.failure]


def meet(
    here: UtpTable, there: UtpTable, *, late: int = 0, steps: int = 800
) -> tuple[End, End, list[int]]:
    """Both connect, the second one `late` steps later. Also the kinds of what was let in."""
    ends = (End(HERE, here), End(THERE, there))
    under_way: list[tuple[int, End, bytes, Address]] = []
    kinds: list[int] = []
    for step in range(steps):
        now = 100 + step * STEP
        for number, end in enumerate(ends):
            other = ends[1 - number]
            if step == number * late:
                end.dialled = end.table.connect(other.address, now)
            come = [one for one in under_way if one[0] == step and one[1] is end and end.is_open]
            _, new = end.table.receive([(data, source) for _, _, data, source in come], now)
            kinds += [data[0] >> 4 for _, _, data, _ in come]
            end.accepted += new
            for data, to in end.table.due(now).datagrams:
                assert to == other.address
                end.is_open = True
                under_way.append((step + DELAY, other, data, end.address))
    return *ends, kinds


def table(rng: random.Random) -> UtpTable:
    return UtpTable(UtpConfig(), rng.randbytes(16), rng)


@pytest.mark.parametrize("late", [0, 1, 4, 5, 6, 20, 90, 150, 400])
def test_whoever_is_first_both_have_a_connection_that_works(late: int) -> None:
    here, there, kinds = meet(table(random.Random(1)), table(random.Random(2)), late=late)
    assert here.connected
    assert there.connected
    ids = {(one.receive_id, one.send_id) for one in here.connected}
    twins = {(one.send_id, one.receive_id) for one in there.connected}
    assert ids & twins
    assert 3 not in kinds  # RESET
    for one in here.connected:
        one.send(b"hello")
        here.table.changed(one)
    sent = [data for data, _ in here.table.due(200).datagrams]
    there.table.receive([(data, HERE) for data in sent], 200)
    assert any(one.readable == 5 for one in there.connected)


@pytest.mark.parametrize("apart", [-1, 0, 1])
def test_ids_that_are_alike_by_chance_leave_one_connection(apart: int) -> None:
    here, there, _ = meet(table(Ids(500, 7)), table(Ids(500 + apart, 9)))
    ids = {(one.receive_id, one.send_id) for one in here.connected}
    twins = {(one.send_id, one.receive_id) for one in there.connected}
    assert ids & twins
    for end in (here, there):
        assert end.dialled is not None
        assert end.dialled.failure in (None, UtpFailure.REFUSED)
