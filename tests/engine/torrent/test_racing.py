"""Two ways to a peer side by side."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.engine.filtering import Filtering
from dht_torrent.engine.net.protocols import Stream
from dht_torrent.engine.torrent.context import NodeContext
from dht_torrent.engine.torrent.racing import connect, first_of
from dht_torrent.ids import Address, Transport
from dht_torrent.torrent.ways import Race

TCP, UTP = Transport.TCP, Transport.UTP
TO = Address("10.0.0.1", 6881)
NEVER = float("inf")


class Opened:
    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Way:
    """A network where connecting takes so long, and may fail then."""

    def __init__(self, transport: Transport, seconds: float, error: OSError | None = None) -> None:
        self._transport = transport
        self._seconds = seconds
        self._error = error
        self.began: list[float] = []
        self.cancelled = False
        self.opened: list[Opened] = []

    async def connect(self, to: Address) -> Opened:
        assert to == TO
        self.began.append(trio.current_time())
        try:
            await trio.sleep(self._seconds)
        except trio.Cancelled:
            self.cancelled = True
            raise
        if self._error is not None:
            raise self._error
        self.opened.append(Opened(self._transport))
        return self.opened[-1]


async def raced(tcp: Way, utp: Way, plan: Race) -> Stream:
    node = SimpleNamespace(network=tcp, utp=utp, filtering=Filtering(), proxy=None)
    return await connect(cast(NodeContext, node), TO, plan)


def ways(tcp: tuple[Any, ...], utp: tuple[Any, ...]) -> tuple[Way, Way]:
    return Way(TCP, *tcp), Way(UTP, *utp)


def still_open(*tried: Way) -> list[Any]:
    return [one for way in tried for one in way.opened if not one.closed]


PLAN = Race((TCP, UTP), 1.0, 2.0)


async def test_who_answers_in_time_is_not_dialled_twice(autojump_clock: MockClock) -> None:
    tcp, utp = ways((0.9,), (0.1,))
    stream = await raced(tcp, utp, PLAN)
    assert stream.transport is TCP
    assert utp.began == []


async def test_the_second_way_follows_after_the_head_start_and_may_win(
    autojump_clock: MockClock,
) -> None:
    tcp, utp = ways((NEVER,), (0.1,))
    began = trio.current_time()
    stream = await raced(tcp, utp, PLAN)
    assert stream.transport is UTP
    assert trio.current_time() - began == pytest.approx(1.1)
    assert tcp.cancelled


async def test_the_first_way_may_still_win(autojump_clock: MockClock) -> None:
    tcp, utp = ways((1.2,), (1.0,))
    stream = await raced(tcp, utp, PLAN)
    assert stream.transport is TCP
    assert utp.cancelled


async def test_when_the_first_fails_the_second_begins_at_once(autojump_clock: MockClock) -> None:
    tcp, utp = ways((0.1, ConnectionRefusedError()), (0.1,))
    began = trio.current_time()
    stream = await raced(tcp, utp, PLAN)
    assert stream.transport is UTP
    assert trio.current_time() - began == pytest.approx(0.2)


async def test_the_order_may_be_the_other(autojump_clock: MockClock) -> None:
    tcp, utp = ways((0.1,), (0.1,))
    stream = await raced(tcp, utp, Race((UTP, TCP), 0.25, 15))
    assert stream.transport is UTP
    assert tcp.began == []


async def test_of_two_that_connect_at_one_moment_one_is_closed(autojump_clock: MockClock) -> None:
    tcp, utp = ways((2,), (1,))
    stream = await raced(tcp, utp, PLAN)
    assert still_open(tcp, utp) == [stream]


@pytest.mark.parametrize("order", [(TCP, UTP), (UTP, TCP)])
async def test_when_all_fail_tcp_says_why(
    order: tuple[Transport, ...], autojump_clock: MockClock
) -> None:
    tcp, utp = ways((0.1, ConnectionRefusedError()), (0.1, ConnectionResetError()))
    with pytest.raises(ConnectionRefusedError):
        await raced(tcp, utp, Race(order, 1.0, 2.0))


async def test_utp_has_only_so_much_time(autojump_clock: MockClock) -> None:
    for order in ((TCP, UTP), (UTP,)):
        tcp, utp = ways((0.0, ConnectionRefusedError()), (NEVER,))
        began = trio.current_time()
        with pytest.raises(TimeoutError if order == (UTP,) else ConnectionRefusedError):
            await raced(tcp, utp, Race(order, 1.0, 2.0))
        assert trio.current_time() - began == pytest.approx(2)
        assert utp.cancelled


@pytest.mark.parametrize("seconds", [0.5, 1.0, 1.5, 2.0])
async def test_cancelled_it_leaves_nothing_open(seconds: float, autojump_clock: MockClock) -> None:
    """Also at the very moment at which there is a winner."""
    tcp, utp = ways((2,), (1,))
    with trio.move_on_after(seconds) as scope:
        stream = await raced(tcp, utp, PLAN)
    if scope.cancelled_caught:
        assert still_open(tcp, utp) == []
    else:
        assert still_open(tcp, utp) == [stream]


async def test_a_bug_in_one_way_is_not_taken_for_a_failure(autojump_clock: MockClock) -> None:
    tcp, utp = ways((2,), (0.1, cast(OSError, ZeroDivisionError())))
    with pytest.raises(ExceptionGroup) as group:
        await raced(tcp, utp, PLAN)
    assert group.group_contains(ZeroDivisionError)


async def gives(opened: Opened, at: float) -> Opened:
    """Too late to be cancelled once it has begun to end."""
    with trio.CancelScope(shield=True):
        await trio.sleep(at)
    return opened


async def test_what_comes_too_late_to_be_cancelled_is_closed(autojump_clock: MockClock) -> None:
    one, other = Opened(TCP), Opened(UTP)
    found = await first_of(
        [lambda: gives(one, 2.0), lambda: gives(other, 0.5)], 1.0, Opened.close, OSError
    )
    assert found is other
    assert (one.closed, other.closed) == (True, False)


async def test_what_was_won_is_closed_when_another_way_has_a_fault_of_ours(
    autojump_clock: MockClock,
) -> None:
    async def breaks() -> Opened:
        await gives(Opened(UTP), 2.0)
        raise ValueError("oops")

    one = Opened(TCP)
    with pytest.raises(ExceptionGroup) as group:
        await first_of([lambda: gives(one, 1.2), breaks], 0.1, Opened.close, OSError)
    assert group.group_contains(ValueError)
    assert one.closed


async def test_why_all_failed_is_told_in_their_order(autojump_clock: MockClock) -> None:
    async def fails(number: int, at: float) -> Opened:
        await trio.sleep(at)
        raise OSError(number, "no")

    found = await first_of(
        [lambda: fails(1, 3.0), lambda: fails(2, 0.1)], 1.0, Opened.close, OSError
    )
    assert isinstance(found, list)
    assert [error.errno for error in found] == [1, 2]
