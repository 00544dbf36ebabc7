"""The fake network's own promises, on virtual time."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Sequence

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from dht_torrent.engine.net.ports import bind_pair
from dht_torrent.engine.net.protocols import DatagramSocket, Stream
from dht_torrent.engine.net.sockets import MAX_DRAIN
from dht_torrent.ids import Address, HostPort
from dht_torrent.lab.net.link import Link
from dht_torrent.lab.net.network import FakeNetwork
from dht_torrent.lab.run import run
from tests.helpers.examples import examples

HERE, THERE = "10.0.0.1", "10.0.0.2"


def make(**options: float) -> FakeNetwork:
    return FakeNetwork(random.Random(7), **options)  # type: ignore[arg-type]


async def datagram_pair(net: FakeNetwork) -> tuple[DatagramSocket, DatagramSocket]:
    here = await net.host(HERE).open_udp(Address(HERE, 0))
    return here, await net.host(THERE).open_udp(Address(THERE, 0))


async def stream_pair(
    net: FakeNetwork, here: str = HERE, there: str = THERE
) -> tuple[Stream, Stream]:
    listener = await net.host(there).listen(Address(there, 0))
    ours = await net.host(here).connect(listener.address)
    theirs = await listener.accept()
    listener.close()
    return ours, theirs


async def arrivals(socket: DatagramSocket, seconds: float) -> list[bytes]:
    """What comes in this time, in order."""
    got: list[bytes] = []
    with trio.move_on_after(seconds):
        while True:
            got += [data for data, _ in await socket.receive()]
    return got


async def drain(stream: Stream, size: int) -> None:
    buffer = memoryview(bytearray(1 << 18))
    while size > 0:
        taken = await stream.receive_into(buffer)
        assert taken
        size -= taken


async def transfer(ours: Stream, theirs: Stream, size: int) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.send, bytes(size))
        await drain(theirs, size)


def numbers(count: int) -> list[bytes]:
    return [b"%d" % number for number in range(count)]


async def test_a_datagram_takes_its_latency(autojump_clock: MockClock) -> None:
    here, there = await datagram_pair(make(latency=0.25))
    start = trio.current_time()
    assert here.send(b"x", there.address)
    await there.receive()
    assert trio.current_time() - start == pytest.approx(0.25)


async def test_a_later_but_faster_datagram_wakes_the_receiver_in_time(
    autojump_clock: MockClock,
) -> None:
    net = make(latency=1.0)
    here, there = await datagram_pair(net)
    neighbour = await net.host("10.0.0.3").open_udp(Address("10.0.0.3", 0))
    net.set_link(THERE, "10.0.0.3", Link(latency=0.1))
    start = trio.current_time()
    here.send(b"slow", there.address)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(arrivals, here, 0.01)
        neighbour.send(b"fast", there.address)
        assert [data for data, _ in await there.receive()] == [b"fast"]
        assert trio.current_time() - start == pytest.approx(0.1)
    assert [data for data, _ in await there.receive()] == [b"slow"]


async def test_with_a_fixed_latency_order_is_kept(autojump_clock: MockClock) -> None:
    here, there = await datagram_pair(make(latency=0.05))
    for data in numbers(50):
        here.send(data, there.address)
    assert await arrivals(there, 1) == numbers(50)


@pytest.mark.parametrize("options", [{"latency": (0.01, 0.2)}, {"reordering": 0.3}])
async def test_datagrams_may_overtake_each_other(
    options: dict[str, float], autojump_clock: MockClock
) -> None:
    here, there = await datagram_pair(make(**options))
    for data in numbers(50):
        here.send(data, there.address)
    got = await arrivals(there, 1)
    assert got != numbers(50)
    assert sorted(got) == sorted(numbers(50))


async def test_a_share_of_datagrams_is_lost(autojump_clock: MockClock) -> None:
    net = make(loss=0.3)
    here, there = await datagram_pair(net)
    for data in numbers(1000):
        assert here.send(data, there.address)
    got = await arrivals(there, 1)
    assert 600 < len(got) < 800
    assert net.stats.lost == 1000 - len(got)
    assert net.stats.datagrams == 1000


async def test_a_share_of_datagrams_arrives_twice(autojump_clock: MockClock) -> None:
    net = make(duplication=0.2)
    here, there = await datagram_pair(net)
    for data in numbers(1000):
        here.send(data, there.address)
    got = await arrivals(there, 1)
    assert len(got) == 1000 + net.stats.duplicated
    assert 100 < net.stats.duplicated < 300
    assert len(set(got)) == 1000


async def test_a_flood_fills_the_queue_and_no_more(autojump_clock: MockClock) -> None:
    net = make(latency=0.1)
    here, there = await datagram_pair(net)
    for _ in range(20_000):
        here.send(b"x", there.address)
    assert len(await arrivals(there, 1)) == 20_000 - net.stats.lost == 8192


async def test_a_partition_stops_datagrams_and_healing_lets_them_pass(
    autojump_clock: MockClock,
) -> None:
    net = make()
    here, there = await datagram_pair(net)
    net.partition([HERE])
    here.send(b"lost", there.address)
    net.heal()
    here.send(b"found", there.address)
    assert await arrivals(there, 1) == [b"found"]


async def test_one_side_of_a_partition_reaches_itself(autojump_clock: MockClock) -> None:
    net = make()
    here, there = await datagram_pair(net)
    third = await net.host("10.0.0.3").open_udp(Address("10.0.0.3", 0))
    net.partition([HERE, "10.0.0.3"], [THERE])
    assert here.send(b"x", third.address)
    assert await arrivals(third, 1) == [b"x"]
    here.send(b"x", there.address)
    assert await arrivals(there, 1) == []


async def test_a_host_that_is_down_neither_sends_nor_receives(autojump_clock: MockClock) -> None:
    net = make(latency=0.1)
    here, there = await datagram_pair(net)
    here.send(b"in flight", there.address)
    net.host(THERE).go_down()
    here.send(b"lost", there.address)
    assert not there.send(b"nothing", here.address)
    assert await arrivals(there, 1) == []
    net.host(THERE).come_up()
    here.send(b"back", there.address)
    assert await arrivals(there, 1) == [b"back"]


async def test_behind_a_nat_only_answers_come_in(autojump_clock: MockClock) -> None:
    net = make()
    here, there = await datagram_pair(net)
    stranger = await net.host("10.0.0.3").open_udp(Address("10.0.0.3", 0))
    net.host(THERE).behind_nat = True
    here.send(b"unasked", there.address)
    there.send(b"question", here.address)
    here.send(b"answer", there.address)
    stranger.send(b"unasked", there.address)
    assert await arrivals(there, 61) == [b"answer"]
    here.send(b"too late", there.address)
    assert await arrivals(there, 1) == []


async def test_behind_a_nat_connections_go_out_but_not_in(autojump_clock: MockClock) -> None:
    net = make()
    net.host(THERE).behind_nat = True
    inside = await net.host(THERE).listen(Address(THERE, 80))
    with pytest.raises(TimeoutError):
        await net.host(HERE).connect(inside.address)
    ours, theirs = await stream_pair(net, THERE, HERE)
    await ours.send(b"x")
    await drain(theirs, 1)


async def test_connecting_takes_a_round_trip_and_data_half_of_one(
    autojump_clock: MockClock,
) -> None:
    net = make(latency=0.1)
    listener = await net.host(THERE).listen(Address(THERE, 0))
    start = trio.current_time()
    ours = await net.host(HERE).connect(listener.address)
    assert trio.current_time() - start == pytest.approx(0.2)
    theirs = await listener.accept()
    start = trio.current_time()
    await ours.send(b"x")
    await drain(theirs, 1)
    assert trio.current_time() - start == pytest.approx(0.1)


async def test_being_refused_takes_a_round_trip(autojump_clock: MockClock) -> None:
    net = make(latency=0.1)
    net.host(THERE)
    start = trio.current_time()
    with pytest.raises(ConnectionRefusedError):
        await net.host(HERE).connect(Address(THERE, 1))
    assert trio.current_time() - start == pytest.approx(0.2)
    assert net.stats.refused == 1


async def test_connecting_to_an_empty_address_times_out_as_tcp_does(
    autojump_clock: MockClock,
) -> None:
    start = trio.current_time()
    with pytest.raises(TimeoutError):
        await make().host(HERE).connect(Address("10.9.9.9", 1))
    assert trio.current_time() - start == pytest.approx(127)


async def test_a_connection_comes_about_when_the_partition_heals(autojump_clock: MockClock) -> None:
    net = make()
    listener = await net.host(THERE).listen(Address(THERE, 0))
    net.partition([HERE])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(net.host(HERE).connect, listener.address)
        await trio.sleep(10)
        net.heal()
        await listener.accept()


async def test_a_cancelled_connect_leaves_an_ended_stream(autojump_clock: MockClock) -> None:
    net = make(latency=1.0)
    listener = await net.host(THERE).listen(Address(THERE, 0))
    with trio.move_on_after(1.5):
        await net.host(HERE).connect(listener.address)
    theirs = await listener.accept()
    assert await theirs.receive_into(memoryview(bytearray(1))) == 0
    assert not net.host(HERE).streams


async def test_connections_not_accepted_are_bounded_and_reset_on_close(
    autojump_clock: MockClock,
) -> None:
    net = make()
    listener = await net.host(THERE).listen(Address(THERE, 0))
    streams = [await net.host(HERE).connect(listener.address) for _ in range(256)]
    with pytest.raises(ConnectionRefusedError):
        await net.host(HERE).connect(listener.address)
    listener.close()
    with pytest.raises(ConnectionResetError):
        await streams[0].send(b"x")


async def test_a_link_carries_its_rate_however_many_streams_share_it(
    autojump_clock: MockClock,
) -> None:
    net = make(rate=1_000_000)
    pairs = [await stream_pair(net) for _ in range(4)]
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        for ours, theirs in pairs:
            nursery.start_soon(transfer, ours, theirs, 1_000_000)
    assert trio.current_time() - start == pytest.approx(4.0, rel=0.01)


async def test_a_shared_uplink_is_divided_about_evenly(autojump_clock: MockClock) -> None:
    net = make(latency=0.02)
    net.host(HERE).uplink.rate = 1_000_000
    pairs = [await stream_pair(net, HERE, f"10.0.1.{n}") for n in range(5)]
    got = [0] * len(pairs)

    async def count(index: int, stream: Stream) -> None:
        buffer = memoryview(bytearray(1 << 18))
        while True:
            got[index] += await stream.receive_into(buffer)

    with trio.move_on_after(10):
        async with trio.open_nursery() as nursery:
            for index, (ours, theirs) in enumerate(pairs):
                nursery.start_soon(ours.send, bytes(20_000_000))
                nursery.start_soon(count, index, theirs)
    assert sum(got) == pytest.approx(10_000_000, rel=0.02)
    assert min(got) > 1_500_000


async def test_a_downlink_slows_many_senders(autojump_clock: MockClock) -> None:
    net = make()
    net.host(THERE).downlink.rate = 500_000
    pairs = [await stream_pair(net, f"10.0.1.{n}", THERE) for n in range(3)]
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        for ours, theirs in pairs:
            nursery.start_soon(transfer, ours, theirs, 1_000_000)
    assert trio.current_time() - start == pytest.approx(6.0, rel=0.01)


async def test_a_slow_sender_may_still_send_large_things(autojump_clock: MockClock) -> None:
    net = make(rate=100)
    ours, theirs = await stream_pair(net)
    start = trio.current_time()
    await transfer(ours, theirs, 10_000)
    assert trio.current_time() - start == pytest.approx(100, rel=0.01)


@pytest.mark.parametrize("window", [1, 2, 1000])
async def test_no_more_than_the_window_is_in_flight(window: int, autojump_clock: MockClock) -> None:
    net = make(window=window, latency=0.1)
    ours, theirs = await stream_pair(net)
    with trio.move_on_after(10):
        await ours.send(bytes(5000))
    assert net.stats.stream_bytes == window
    await drain(theirs, window)


async def test_a_window_per_latency_bounds_the_rate(autojump_clock: MockClock) -> None:
    ours, theirs = await stream_pair(make(window=1000, latency=0.1))
    start = trio.current_time()
    await transfer(ours, theirs, 10_000)
    assert trio.current_time() - start == pytest.approx(1.0)


async def test_streams_stand_still_in_a_partition_and_then_go_on(autojump_clock: MockClock) -> None:
    net = make(latency=0.1)
    ours, theirs = await stream_pair(net)
    await ours.send(b"before")
    net.partition([HERE])
    await ours.send(b"during")
    with trio.move_on_after(100) as scope:
        await drain(theirs, 1)
    assert scope.cancelled_caught
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drain, theirs, 12)
        await wait_all_tasks_blocked()
        net.heal()


@pytest.mark.parametrize("victim", [HERE, THERE])
async def test_a_host_going_down_breaks_its_streams(victim: str, autojump_clock: MockClock) -> None:
    net = make(latency=0.1)
    ours, theirs = await stream_pair(net)
    uses: list[Callable[[], Awaitable[object]]] = [
        lambda: ours.receive_into(memoryview(bytearray(1))),
        lambda: theirs.receive_into(memoryview(bytearray(1))),
        lambda: ours.send(b"x"),
        lambda: theirs.send(bytes(10_000_000)),
    ]

    async def expect_reset(use: Callable[[], Awaitable[object]]) -> None:
        with pytest.raises(ConnectionResetError):
            await use()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect_reset, uses[0])  # waits when it happens
        await wait_all_tasks_blocked()
        net.host(victim).go_down()
    for use in uses[1:]:
        await expect_reset(use)
    with pytest.raises((OSError, TimeoutError)):
        await net.host(HERE).connect(Address(THERE, 1))


async def test_what_is_sent_after_the_peer_left_is_lost_until_we_know(
    autojump_clock: MockClock,
) -> None:
    ours, theirs = await stream_pair(make(latency=1.0))
    theirs.close()
    await ours.send(b"it cannot know yet")
    await trio.sleep(1.0)
    with pytest.raises(BrokenPipeError):
        await ours.send(b"now it knows")


async def test_sending_on_while_the_end_is_on_its_way_does_not_stop_the_clock(
    autojump_clock: MockClock,
) -> None:
    ours, theirs = await stream_pair(make(latency=1.0))
    theirs.close()
    start = trio.current_time()
    with pytest.raises(BrokenPipeError):
        await ours.send(bytes(10_000_000))
    assert trio.current_time() - start == pytest.approx(1.0)


async def test_two_tasks_cannot_receive_at_once(autojump_clock: MockClock) -> None:
    ours, _theirs = await stream_pair(make())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drain, ours, 1)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await ours.receive_into(memoryview(bytearray(1)))
        nursery.cancel_scope.cancel()


async def test_names_resolve_as_the_experiment_says(autojump_clock: MockClock) -> None:
    net = make()
    net.names["router.example"] = [HERE, THERE]
    host = net.host("10.0.0.3")
    found = await host.resolve(HostPort("router.example", 6881))
    assert found == [Address(HERE, 6881), Address(THERE, 6881)]
    assert await host.resolve(HostPort("unknown.example", 1)) == []


async def test_the_wildcard_binds_the_host(autojump_clock: MockClock) -> None:
    net = make()
    listener, socket = await bind_pair(net.host(THERE), Address("0.0.0.0", 0))
    here = await net.host(HERE).open_udp(Address(HERE, 0))
    here.send(b"x", Address(THERE, socket.address.port))
    assert await arrivals(socket, 1) == [b"x"]
    await net.host(HERE).connect(Address(THERE, listener.address.port))
    assert (await listener.accept()).local.host == THERE


async def test_hosts_have_ports_of_their_own(autojump_clock: MockClock) -> None:
    net = make()
    sockets = [await net.host(ip).open_udp(Address(ip, 6881)) for ip in (HERE, THERE)]
    assert {socket.address.port for socket in sockets} == {6881}


async def test_hundreds_of_megabytes_pass_in_no_time(autojump_clock: MockClock) -> None:
    ours, theirs = await stream_pair(make())
    batch = [bytes(13), bytes(16384)] * 16
    size = sum(map(len, batch))
    start = time.process_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drain, theirs, size * 400)
        for _ in range(400):
            await ours.send(*batch)
    assert time.process_time() - start < 2.0  # 105 MB; takes 0.1 s where this was written


@settings(max_examples=examples(30), deadline=None)
@given(
    parts=st.lists(st.binary(max_size=300), max_size=30),
    reads=st.lists(st.integers(1, 400), min_size=1, max_size=10),
    window=st.integers(1, 500),
    latency=st.sampled_from([0.0, 0.1, (0.0, 0.2)]),
    rate=st.sampled_from([None, 1000.0]),
    seed=st.integers(0, 9),
)
def test_whatever_the_slices_a_stream_delivers_what_was_sent(
    parts: list[bytes],
    reads: list[int],
    window: int,
    latency: float | tuple[float, float],
    rate: float | None,
    seed: int,
) -> None:
    async def main(rng: random.Random) -> bytes:
        net = FakeNetwork(rng, latency=latency, rate=rate, window=window)
        ours, theirs = await stream_pair(net)
        got = bytearray()

        async def send() -> None:
            for part in parts:
                await ours.send(part)
            ours.close()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            while True:
                buffer = memoryview(bytearray(reads[len(got) % len(reads)]))
                taken = await theirs.receive_into(buffer)
                if not taken:
                    return bytes(got)
                got += buffer[:taken]

    assert run(main, seed=seed) == b"".join(parts)


def test_on_the_labs_clock_datagrams_are_handed_over_when_they_arrive() -> None:
    async def main(rng: random.Random) -> list[tuple[float, list[bytes]]]:
        net = FakeNetwork(rng, latency=0.5)
        near, far = Address("10.0.0.1", 1), Address("10.0.0.2", 1)
        here = await net.host(near.host).open_udp(near)
        there = await net.host(far.host).open_udp(far)
        heard: list[tuple[float, list[bytes]]] = []

        def take(datagrams: Sequence[tuple[bytes, Address]]) -> None:
            heard.append((trio.current_time(), [data for data, _ in datagrams]))
            for data, source in datagrams:
                there.send(data.upper(), source)

        here.send(b"early", far)  # nobody is served yet
        await trio.sleep(1)
        with trio.move_on_after(2):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(there.serve, take)
                await trio.sleep(0.5)
                here.send(b"a", far)
                here.send(b"b", far)
        here.send(b"late", far)  # nobody is served any more
        await trio.sleep(1)
        back = sorted(data for data, _ in await here.receive())
        return [*heard, (trio.current_time(), back)]

    assert run(main) == [
        (1.0, [b"early"]),
        (2.0, [b"a", b"b"]),
        (4.0, [b"A", b"B", b"EARLY"]),
    ]


def fail(datagrams: Sequence[tuple[bytes, Address]]) -> None:
    raise ZeroDivisionError


def test_what_a_taker_raises_comes_out_of_its_own_task_on_the_labs_clock() -> None:
    async def main(rng: random.Random) -> float:
        net = FakeNetwork(rng, latency=0.5)
        address = Address("10.0.0.1", 1)
        socket = await net.host(address.host).open_udp(address)
        socket.send(b"bad news", address)
        with pytest.raises(ZeroDivisionError):
            await socket.serve(fail)
        return trio.current_time()

    assert run(main) == 0.5


def test_one_who_serves_hears_a_moment_s_datagrams_in_order_and_some_at_a_time() -> None:
    async def main(rng: random.Random) -> None:
        net = FakeNetwork(rng, latency=0.5)
        here, there = await datagram_pair(net)
        sent = [b"%d" % number for number in range(2 * MAX_DRAIN + 1)]
        for data in sent[:3]:  # before anybody serves
            here.send(data, there.address)
        batches: list[list[bytes]] = []
        with trio.move_on_after(1):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(
                    there.serve, lambda got: batches.append([data for data, _ in got])
                )
                await wait_until_served()
                for data in sent[3:]:
                    here.send(data, there.address)
        assert [len(batch) for batch in batches] == [MAX_DRAIN, MAX_DRAIN, 1]
        assert [data for batch in batches for data in batch] == sent

    run(main)


async def wait_until_served() -> None:
    """A task that was just started has begun to wait."""
    for _ in range(3):
        await trio.lowlevel.checkpoint()


def test_what_is_on_its_way_when_serving_ends_is_received_later() -> None:
    async def main(rng: random.Random) -> None:
        net = FakeNetwork(rng, latency=0.5)
        here, there = await datagram_pair(net)
        with trio.move_on_after(0.25):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(there.serve, fail)
                await wait_until_served()
                for data in (b"a", b"b"):
                    here.send(data, there.address)
        assert [data for data, _ in await there.receive()] == [b"a", b"b"]
        assert trio.current_time() == 0.5

    run(main)


def test_what_a_failing_taker_had_not_seen_is_for_who_serves_next() -> None:
    async def main(rng: random.Random) -> None:
        net = FakeNetwork(rng, latency=0.5)
        here, there = await datagram_pair(net)
        for number in range(MAX_DRAIN + 2):
            here.send(b"%d" % number, there.address)
        with pytest.raises(ZeroDivisionError):
            await there.serve(fail)
        heard: list[bytes] = []
        with trio.move_on_after(1):
            await there.serve(lambda got: heard.extend(data for data, _ in got))
        assert heard == [b"%d" % number for number in range(MAX_DRAIN, MAX_DRAIN + 2)]

    run(main)


def test_one_who_serves_has_a_queue_as_long_as_any_and_loses_it_with_the_cable() -> None:
    async def main(rng: random.Random) -> None:
        net = FakeNetwork(rng, latency=0.5)
        here, there = await datagram_pair(net)
        heard: list[bytes] = []
        with trio.move_on_after(2):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(there.serve, lambda got: heard.extend(data for data, _ in got))
                await wait_until_served()
                for _ in range(9000):
                    here.send(b"x", there.address)
                assert net.stats.lost == 9000 - 8192
                net.host(THERE).go_down()
                assert net.stats.lost == 9000
                net.host(THERE).come_up()
                for _ in range(9000):  # there is room again
                    here.send(b"y", there.address)
        assert heard == [b"y"] * 8192

    run(main)


async def test_a_host_that_moves_is_found_at_its_new_address_only(
    autojump_clock: MockClock,
) -> None:
    net = make(latency=0.1)
    net.lan("lan", "10.0.0.1")
    wildcard = Address("0.0.0.0", 7)
    mover, other = net.host("10.0.0.1"), net.host("10.0.0.2")
    udp, listener = await mover.open_udp(wildcard), await mover.listen(wildcard)
    there = await other.open_udp(wildcard)
    stream = await other.connect(Address("10.0.0.1", 7))
    accepted = await listener.accept()
    there.send(b"on its way", Address("10.0.0.1", 7))
    mover.move("10.0.0.9")
    assert net.host("10.0.0.9") is mover
    assert mover.surroundings().addresses == {"10.0.0.9"}
    assert [lan.has("10.0.0.9") for lan in net.lans("10.0.0.9")] == [True]
    assert net.lans("10.0.0.1") == []
    there.send(b"too late", Address("10.0.0.1", 7))
    there.send(b"right", Address("10.0.0.9", 7))
    assert await arrivals(udp, 1) == [b"right"]
    udp.send(b"from there", Address("10.0.0.2", 7))
    ((data, source),) = await there.receive()
    assert (data, source) == (b"from there", Address("10.0.0.9", 7))
    again = await other.connect(Address("10.0.0.9", 7))
    assert again.remote.host == "10.0.0.9"
    assert await still(stream)
    assert await still(accepted)
    with pytest.raises(ValueError, match=r"10\.0\.0\.2"):
        mover.move("10.0.0.2")


async def still(stream: Stream) -> bool:
    """Whether nothing is heard, not even of an end, and what is sent is lost without a word."""
    with trio.move_on_after(1000) as scope:
        await stream.receive_into(memoryview(bytearray(10)))
    await stream.send(b"hello")
    return scope.cancelled_caught


async def test_neither_end_hears_that_a_connection_is_lost(autojump_clock: MockClock) -> None:
    net = make(latency=0.1)
    ours, theirs = await stream_pair(net)
    await ours.send(b"on its way")
    net.host("10.0.0.1").lose_streams()
    theirs.close()
    assert await still(ours)
    ours.close()


def test_a_host_says_how_long_it_was_suspended_and_whether_it_has_an_address() -> None:
    host = make().host("10.0.0.1")
    assert host.surroundings().slept == 0
    host.slept += 60
    assert host.surroundings().slept == 60
    host.go_down()
    assert host.surroundings().addresses == frozenset()
