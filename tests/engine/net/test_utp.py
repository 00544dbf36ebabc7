"""uTP on one UDP socket beside the DHT, on the lab's network and virtual time. That its streams
keep the promises of all streams is in tests/lab/test_contract.py."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from dht_torrent.config import UtpConfig
from dht_torrent.engine.faults import Faults
from dht_torrent.engine.net.protocols import Stream
from dht_torrent.engine.net.sockets import MAX_DRAIN
from dht_torrent.engine.net.utp import BACKLOG, SECRET, UtpPort, UtpPorts
from dht_torrent.ids import Address
from dht_torrent.lab.net.network import FakeNetwork
from dht_torrent.utp.packets import RESET, STATE, SYN, Packet, decode, encode, is_utp
from dht_torrent.utp.table import UtpTable
from tests.helpers.utp_ports import running, utp_port

HERE, THERE = Address("10.0.0.1", 6881), Address("10.0.0.2", 6881)
HERE6, THERE6 = Address("fd00::1", 6881), Address("fd00::2", 6881)
QUERY = b"d1:ad2:id20:aaaaaaaaaaaaaaaaaaaae1:q4:ping1:t2:aa1:y1:qe"


def make(**options: Any) -> FakeNetwork:
    return FakeNetwork(random.Random(7), **options)


@asynccontextmanager
async def two(
    net: FakeNetwork, here: Address = HERE, there: Address = THERE, **config: Any
) -> AsyncIterator[tuple[UtpPort, UtpPort]]:
    async with (
        running(net.host(here.host), here, **config) as one,
        running(net.host(there.host), there, **config) as other,
    ):
        yield one, other


async def joined(one: UtpPort, other: UtpPort) -> tuple[Stream, Stream]:
    ours = await one.connect(other.address)
    return ours, await other.accept()


async def receive(stream: Stream, size: int) -> bytes:
    buffer, got = memoryview(bytearray(1 << 16)), bytearray()
    while len(got) < size:
        taken = await stream.receive_into(buffer)
        if not taken:
            break
        got += buffer[:taken]
    return bytes(got)


# -- what is whose ----------------------------------------------------------------------------


async def test_the_dht_gets_all_datagrams_that_are_not_utp(autojump_clock: MockClock) -> None:
    net = make()
    heard: list[tuple[bytes, Address]] = []
    async with two(net) as (one, other), trio.open_nursery() as nursery:
        nursery.start_soon(other.dht.serve, heard.extend)
        ours, theirs = await joined(one, other)
        odd = [QUERY, b"", b"x" * 30, b"\x01" * 19, b"\x51" + bytes(30)]
        assert not any(map(is_utp, odd))
        await ours.send(b"over uTP")
        for datagram in odd:
            assert one.dht.send(datagram, other.address)
        assert await receive(theirs, 8) == b"over uTP"
        await wait_all_tasks_blocked()
        assert heard == [(datagram, HERE) for datagram in odd]
        nursery.cancel_scope.cancel()


async def test_datagrams_for_the_dht_wait_for_it_and_not_without_end(
    autojump_clock: MockClock,
) -> None:
    net = make()
    async with two(net) as (one, other):
        for number in range(MAX_DRAIN + 10):
            one.dht.send(b"%d" % number, other.address)
        await wait_all_tasks_blocked()
        got = await other.dht.receive()
        assert [data for data, _ in got] == [b"%d" % n for n in range(10, MAX_DRAIN + 10)]
        one.dht.send(b"more", other.address)
        heard: list[tuple[bytes, Address]] = []
        await wait_all_tasks_blocked()
        with trio.move_on_after(1):
            await other.dht.serve(heard.extend)
        assert heard == [(b"more", HERE)]


async def test_what_the_dht_does_wrong_ends_its_serving_and_nothing_else(
    autojump_clock: MockClock,
) -> None:
    def wrong(datagrams: Sequence[tuple[bytes, Address]]) -> None:
        raise ZeroDivisionError

    async with two(make()) as (one, other):
        ours, theirs = await joined(one, other)
        one.dht.send(QUERY, other.address)
        with pytest.raises(ZeroDivisionError):
            await other.dht.serve(wrong)
        await ours.send(b"goes on")
        assert await receive(theirs, 7) == b"goes on"
        one.dht.send(b"and so does it", other.address)
        assert await other.dht.receive() == [(b"and so does it", HERE)]


async def test_a_bug_in_utp_does_not_cost_the_dht_its_datagrams(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    net = make()
    heard: list[tuple[bytes, Address]] = []
    socket = await net.host(THERE.host).open_udp(THERE)
    faults = Faults(fail_fast=False)
    port = UtpPort(socket, UtpConfig(), bytes(SECRET), random.Random(1), faults)
    raw = await net.host(HERE.host).open_udp(HERE)

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(UtpTable, "receive", broken)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(port.run)
        nursery.start_soon(port.dht.serve, heard.extend)
        await wait_all_tasks_blocked()
        raw.send_all([(syn(1, 1), THERE), (QUERY, THERE)])
        await wait_all_tasks_blocked()
        assert heard == [(QUERY, HERE)]
        assert faults.count == 1
        nursery.cancel_scope.cancel()
    port.close()
    raw.close()


async def test_closing_the_socket_that_the_dht_has_leaves_utp_alone(
    autojump_clock: MockClock,
) -> None:
    async with two(make()) as (one, other):
        ours, theirs = await joined(one, other)
        other.dht.close()
        with pytest.raises(trio.ClosedResourceError):
            await other.dht.receive()
        with pytest.raises(trio.ClosedResourceError):
            await other.dht.serve(print)
        await ours.send(b"goes on")
        assert await receive(theirs, 7) == b"goes on"


# -- bytes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("here", "there"), [(HERE, THERE), (HERE6, THERE6)], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"latency": 0.05},
        {"latency": 0.01, "loss": 0.05},
        {"latency": (0.01, 0.03), "duplication": 0.1},
        {"latency": 0.02, "reordering": 0.1, "loss": 0.01},
    ],
)
async def test_both_directions_arrive_whole_whatever_the_network_does(
    options: dict[str, Any], here: Address, there: Address, autojump_clock: MockClock
) -> None:
    content = random.Random(1).randbytes(1_000_003)
    async with two(make(**options), here, there) as (one, other):
        ours, theirs = await joined(one, other)
        got: list[bytes] = []

        async def take(stream: Stream) -> None:
            got.append(await receive(stream, len(content)))

        with trio.fail_after(120):
            async with trio.open_nursery() as nursery:
                for stream in (ours, theirs):
                    nursery.start_soon(stream.send, content)
                    nursery.start_soon(take, stream)
        assert got == [content, content]


@pytest.mark.parametrize(("here", "there", "largest"), [(HERE, THERE, 1472), (HERE6, THERE6, 1452)])
async def test_packets_grow_to_what_ethernet_carries(
    here: Address, there: Address, largest: int, autojump_clock: MockClock
) -> None:
    net, sizes = make(latency=0.01), []
    net.tap = lambda source, to, data: sizes.append(len(data))
    async with two(net, here, there) as (one, other):
        ours, theirs = await joined(one, other)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.send, bytes(500_000))
            await receive(theirs, 500_000)
    assert max(sizes) == largest
    assert sizes.count(largest) > 100


async def test_a_probe_that_the_system_refuses_is_not_tried_again(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, sizes, refused = make(latency=0.01), [], []
    net.tap = lambda source, to, data: sizes.append(len(data))
    async with two(net) as (one, other):

        def whole(data: bytes, to: Address) -> bool:
            if len(data) > 1300:
                refused.append(len(data))
                return False
            return one._socket.send(data, to) or True

        monkeypatch.setattr(one._socket, "send_whole", whole)
        ours, theirs = await joined(one, other)
        content = random.Random(2).randbytes(1_000_000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.send, content)
            assert await receive(theirs, len(content)) == content
    assert len(refused) == len(set(refused)) < 10
    usual = [size for size in sizes if size not in refused]
    assert 1280 < max(usual) <= 1300  # as near as it gets
    assert len(sizes) - len(usual) == len(refused)  # what they carried was sent otherwise


async def test_a_reader_that_goes_on_is_sent_more(autojump_clock: MockClock) -> None:
    async with two(make(latency=0.01), receive_buffer=100_000) as (one, other):
        ours, theirs = await joined(one, other)
        content = random.Random(3).randbytes(400_000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.send, content)
            await trio.sleep(60)
            assert other._table.buffered <= 110_000
            began = trio.current_time()
            assert await receive(theirs, len(content)) == content
            assert trio.current_time() - began < 0.4  # sooner than any timer of the sender's


async def test_what_is_not_acknowledged_is_bounded_for_all_connections_together(
    autojump_clock: MockClock,
) -> None:
    """Peers that take much and then stop: each has room for a little, and no more."""
    bounds: dict[str, Any] = {"total_send_buffer": 300_000, "min_send_buffer": 32_768}
    net = make(latency=0.05)
    async with two(net, **bounds) as (one, other), trio.open_nursery() as nursery:
        pairs = [await joined(one, other) for _ in range(8)]
        for ours, theirs in pairs:
            nursery.start_soon(ours.send, bytes(600_000))
            await receive(theirs, 300_000)
        net.partition([HERE.host], [THERE.host])
        for ours, _ in pairs:
            nursery.start_soon(send_some, ours)
        await trio.sleep(1)
        held = [ours.held for ours, _ in pairs]  # type: ignore[attr-defined]
        assert sum(held) == one._held <= 300_000 + 8 * 32_768
        nursery.cancel_scope.cancel()


async def send_some(stream: Stream) -> None:
    with pytest.raises((OSError, trio.BusyResourceError)):
        await stream.send(bytes(1_000_000))


# -- beginnings -------------------------------------------------------------------------------


async def test_nobody_there_is_found_out_after_the_last_syn(autojump_clock: MockClock) -> None:
    async with running(make().host(HERE.host), HERE, syn_resends=2, first_timeout=1) as port:
        began = trio.current_time()
        with pytest.raises(TimeoutError):
            await port.connect(THERE)
        assert trio.current_time() - began == pytest.approx(7)
        assert len(port) == 0


async def test_who_takes_nobody_refuses_at_once(autojump_clock: MockClock) -> None:
    net = make(latency=0.01)
    async with (
        running(net.host(HERE.host), HERE) as one,
        running(net.host(THERE.host), THERE, max_connections=0) as full,
    ):
        with trio.fail_after(0.1), pytest.raises(ConnectionRefusedError):
            await one.connect(THERE)
        with pytest.raises(OSError, match="too many"):
            await full.connect(HERE)
        assert len(one) == len(full) == 0


async def test_a_cancelled_connect_leaves_nothing_on_either_side(
    autojump_clock: MockClock,
) -> None:
    async with two(make(latency=1)) as (one, other):
        for patience in (0.5, 1.5, 1.99):
            with trio.move_on_after(patience):
                await one.connect(other.address)
        await trio.sleep(10)
        assert len(one) == len(other) == 0
        assert one._streams == other._streams == {}


async def test_no_task_belongs_to_a_connection(autojump_clock: MockClock) -> None:
    async with two(make()) as (one, other):
        await wait_all_tasks_blocked()
        before = trio.lowlevel.current_statistics().tasks_living
        pairs = [await joined(one, other) for _ in range(50)]
        assert trio.lowlevel.current_statistics().tasks_living == before
        assert len(one) == len(other) == len(pairs)


def syn(connection_id: int, number: int) -> bytes:
    return encode(Packet(SYN, connection_id, 1, 0, 1 << 20, number, 0))


async def test_a_flood_of_syns_costs_nothing_that_lasts(autojump_clock: MockClock) -> None:
    """Nor is more sent to those in whose name it comes than came."""
    net = make(latency=0.01)
    forged = [Address(f"10.1.{n >> 8}.{n & 255}", 1000 + n) for n in range(5000)]
    out: list[bytes] = []
    async with two(net) as (one, other):
        net.tap = lambda source, to, data: out.append(data) if source == THERE else None
        for n, source in enumerate(forged):
            assert net.host(THERE.host).heard_at(THERE.port) is not None
            other._take([(syn(n, n), source)])
        assert len(other) == 0
        assert other._streams == {}
        assert sum(map(len, out)) <= 20 * len(forged)
        assert all(decode(one).kind in (STATE, RESET) for one in out)
        await trio.sleep(1)  # replies are so many a second
        ours, theirs = await joined(one, other)
        await ours.send(b"still here")
        assert await receive(theirs, 10) == b"still here"


async def test_what_nobody_accepts_is_bounded(autojump_clock: MockClock) -> None:
    async with two(make()) as (one, other):
        streams = [await one.connect(other.address) for _ in range(BACKLOG + 20)]
        await trio.sleep(1)
        assert len(other) == BACKLOG
        alive = 0
        for stream in streams:
            try:
                await stream.send(b"x")
                alive += 1
            except ConnectionResetError:
                pass
        assert alive == BACKLOG
        accepted = [await other.accept() for _ in range(BACKLOG)]
        assert await receive(accepted[-1], 1) == b"x"


# -- ends -------------------------------------------------------------------------------------


async def test_a_reset_reaches_reader_and_writer(autojump_clock: MockClock) -> None:
    async with two(make(latency=0.01)) as (one, other):
        ours, theirs = await joined(one, other)
        ended: list[str] = []

        async def read() -> None:
            with pytest.raises(ConnectionResetError):
                await ours.receive_into(memoryview(bytearray(10)))
            ended.append("reader")

        async def write() -> None:
            with pytest.raises(ConnectionResetError):
                await ours.send(bytes(50_000_000))
            ended.append("writer")

        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                nursery.start_soon(write)
                await trio.sleep(1)
                theirs.give_up()  # type: ignore[attr-defined]
        assert sorted(ended) == ["reader", "writer"]
        assert len(one) == len(other) == 0
        assert one._held == other._held == 0


async def test_nothing_can_be_sent_to_who_has_closed(autojump_clock: MockClock) -> None:
    async with two(make(latency=0.01)) as (one, other):
        ours, theirs = await joined(one, other)
        await theirs.send(b"last words")
        theirs.close()
        await trio.sleep(1)
        with pytest.raises(BrokenPipeError):
            await ours.send(b"x")
        assert await receive(ours, 11) == b"last words"
        ours.close()
        await trio.sleep(10)
        assert len(one) == len(other) == 0


async def test_a_peer_that_vanishes_is_noticed_by_who_sends_to_it(
    autojump_clock: MockClock,
) -> None:
    net = make(latency=0.01)
    async with two(net) as (one, other):
        ours, _ = await joined(one, other)
        net.host(THERE.host).go_down()
        await ours.send(b"is anybody there?")
        with trio.fail_after(40), pytest.raises(TimeoutError):
            await ours.receive_into(memoryview(bytearray(10)))
        await trio.sleep(1)
        assert len(one) == 0


async def test_an_idle_connection_stays_and_costs_a_packet_in_half_a_minute(
    autojump_clock: MockClock,
) -> None:
    net, sent = make(latency=0.01), []
    async with two(net) as (one, other):
        ours, theirs = await joined(one, other)
        await trio.sleep(1)
        net.tap = lambda source, to, data: sent.append(data)
        await trio.sleep(3600)
        assert len(sent) <= 2 * 3600 / 29 + 2
        await ours.send(b"still here")
        assert await receive(theirs, 10) == b"still here"


async def test_closing_a_port_tells_all_its_peers_and_wakes_all_who_wait(
    autojump_clock: MockClock,
) -> None:
    net = make(latency=0.01)
    async with two(net) as (one, other):
        pairs = [await joined(one, other) for _ in range(3)]
        woken: list[int] = []

        async def read(stream: Stream, number: int) -> None:
            with pytest.raises(trio.ClosedResourceError):
                await stream.receive_into(memoryview(bytearray(10)))
            woken.append(number)

        async def accept() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await one.accept()
            woken.append(-1)

        async def write() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await pairs[2][0].send(bytes(100_000_000))
            woken.append(-2)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            for number, (ours, _) in enumerate(pairs[:2]):
                nursery.start_soon(read, ours, number)
            nursery.start_soon(accept)
            await trio.sleep(1)
            one.close()
            one.close()
            await trio.sleep(0.1)
            assert sorted(woken) == [-2, -1, 0, 1]
        # Two were told that it is over; the one that had more to come, that it is broken.
        for _, theirs in pairs[:2]:
            assert await theirs.receive_into(memoryview(bytearray(10))) == 0
        with pytest.raises(ConnectionResetError):
            await receive(pairs[2][1], 100_000_000)
        with pytest.raises(OSError, match="closed"):
            await one.connect(other.address)
        (await net.host(HERE.host).open_udp(HERE)).close()  # the port is free


async def test_a_port_that_was_cancelled_is_served_again(autojump_clock: MockClock) -> None:
    """As after a fault: nothing is lost but time."""
    net = make()
    port = utp_port(await net.host(HERE.host).open_udp(HERE))
    async with running(net.host(THERE.host), THERE) as other:
        for _ in range(2):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(port.run)
                ours = await port.connect(other.address)
                theirs = await other.accept()
                await ours.send(b"hello")
                assert await receive(theirs, 5) == b"hello"
                nursery.cancel_scope.cancel()
        port.close()


# -- both families ----------------------------------------------------------------------------


async def test_each_address_is_reached_from_the_port_of_its_family(
    autojump_clock: MockClock,
) -> None:
    net = make()
    async with two(net) as (one, other), two(net, HERE6, THERE6) as (one6, other6):
        both, four, none = UtpPorts([one, one6]), UtpPorts([one]), UtpPorts()
        for port in (other, other6):
            assert both.reach(port.address)
            stream = await both.connect(port.address)
            assert stream.remote == port.address
            assert stream.local == (one6 if port is other6 else one).address
        assert four.reach(THERE)
        assert not four.reach(THERE6)
        assert not none.reach(THERE)
        for ports, address in ((four, THERE6), (none, THERE)):
            with pytest.raises(OSError, match="no uTP"):
                await ports.connect(address)
