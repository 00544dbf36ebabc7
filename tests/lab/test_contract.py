"""One suite over both networks, so that the lab's cannot drift from the real one."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trio
import trio.testing

from dht_torrent.engine.net.encrypted import Mse
from dht_torrent.engine.net.ports import bind_pair
from dht_torrent.engine.net.protocols import DatagramSocket, Encryption, Network, Scattered, Stream
from dht_torrent.engine.net.sockets import MAX_DATAGRAM, MAX_DRAIN, RealNetwork
from dht_torrent.engine.net.tls import join, receive_hello
from dht_torrent.engine.net.utp import UtpPort
from dht_torrent.errors import InputError
from dht_torrent.ids import Address, HostPort
from dht_torrent.lab.net.network import FakeNetwork
from dht_torrent.peer.mse import request_hash
from tests.helpers.members import Swarm, swarm
from tests.helpers.utp_ports import running

SKEY = b"\xaa" * 20


@dataclass(frozen=True)
class Two:
    """Two hosts that reach each other."""

    here: Network
    there: Network
    here_ip: str
    there_ip: str
    swarm: Swarm | None = None
    """Whose members they are, if they speak TLS."""
    encryption: Encryption | None = None
    """Of the pairs of streams."""
    ports: tuple[UtpPort, UtpPort] | None = None
    """Over which they go, if not by TCP."""

    async def stream_pair(self) -> tuple[Stream, Stream]:
        """Our end and their end of one connection."""
        ours, theirs = await self._plain_pair()
        if self.swarm is not None:
            return await self._secured(ours, theirs)
        if self.encryption is not None:
            ours, theirs = await encrypted(ours, theirs, self.encryption)
        assert ours.encryption == theirs.encryption == self.encryption
        return ours, theirs

    async def _plain_pair(self) -> tuple[Stream, Stream]:
        if self.ports is None:
            listener = await self.there.listen(Address(self.there_ip, 0))
            ours = await self.here.connect(listener.address)
            theirs = await listener.accept()
            listener.close()
            return ours, theirs
        here, there = self.ports
        over = await here.connect(there.address)
        return over, await there.accept()

    async def _secured(self, ours: Stream, theirs: Stream) -> tuple[Stream, Stream]:
        assert self.swarm is not None
        metainfo = self.swarm.metainfo
        one, other = (
            join(self.swarm.member(name), metainfo.info_hash, metainfo.ssl_cert, metainfo.name)
            for name in ("one", "other")
        )
        done: dict[bool, Stream] = {}

        async def dial() -> None:
            done[True] = await one.dial(ours)

        async def answer() -> None:
            named, hello = await receive_hello(theirs)
            assert named == metainfo.info_hash
            done[False] = await other.answer(theirs, hello)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(dial)
            nursery.start_soon(answer)
        return done[True], done[False]

    async def datagram_pair(self) -> tuple[DatagramSocket, DatagramSocket]:
        ours = await self.here.open_udp(Address(self.here_ip, 0))
        return ours, await self.there.open_udp(Address(self.there_ip, 0))


NETWORKS = ["real v4", "real v6", "fake", "fake v6", "fake with latency", "fake slow"]
SECURED = ["real TLS", "fake TLS"]
ENCRYPTED = [
    *("real RC4", "real MSE", "fake RC4", "fake with latency RC4", "fake slow RC4", "fake MSE"),
]


OVER_UTP = [
    *("real v4 uTP", "real v6 uTP", "fake uTP", "fake v6 uTP", "fake with latency uTP"),
    *("real RC4 uTP", "fake TLS uTP", "fake MSE uTP"),
]


async def encrypted(ours: Stream, theirs: Stream, encryption: Encryption) -> tuple[Stream, Stream]:
    """Both ends after an MSE handshake."""
    dialler, answerer = Mse("prefer", random.Random(1)), Mse("prefer", random.Random(2))
    if encryption is Encryption.RC4:
        dialler = Mse("require", random.Random(1))
    ends: list[Stream] = []

    async def dial() -> None:
        ends.append(await dialler.initiate(ours, SKEY, b"", 5))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        find = {request_hash(SKEY): SKEY}.get
        answered, _ = await answerer.respond(theirs, b"", find)
    return ends[0], answered


@pytest.fixture(params=[*NETWORKS, *SECURED, *ENCRYPTED, *OVER_UTP])
async def two(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Two]:
    name, is_utp = request.param.removesuffix(" uTP"), request.param.endswith(" uTP")
    made = _named(name, tmp_path)
    if not is_utp:
        yield made
        return
    async with (
        running(made.here, Address(made.here_ip, 0)) as here,
        running(made.there, Address(made.there_ip, 0)) as there,
    ):
        yield replace(made, ports=(here, there))


def _named(name: str, folder: Path) -> Two:
    if name in NETWORKS:
        return _two(name)
    name, _, how = name.rpartition(" ")
    if how == "TLS":
        return replace(_two(name), swarm=swarm(folder))
    return replace(_two(name), encryption=Encryption[how])


def _two(name: str) -> Two:
    if name.startswith("real"):
        network = RealNetwork()
        ip = "::1" if name == "real v6" else "127.0.0.1"
        return Two(network, network, ip, ip)
    options = {
        "fake": FakeNetwork(random.Random(1)),
        "fake v6": FakeNetwork(random.Random(1)),
        "fake with tls": FakeNetwork(random.Random(1)),
        "fake with latency": FakeNetwork(random.Random(1), latency=(0.0, 0.002)),
        "fake slow": FakeNetwork(random.Random(1), latency=0.001, rate=1e8, window=100_000),
    }
    fake = options[name]
    ips = ("fd00::1", "fd00::2") if name == "fake v6" else ("10.0.0.1", "10.0.0.2")
    return Two(fake.host(ips[0]), fake.host(ips[1]), *ips)


async def read_exactly(stream: Stream, size: int) -> bytes:
    buffer, got = memoryview(bytearray(65536)), bytearray()
    with trio.fail_after(10):
        while len(got) < size:
            taken = await stream.receive_into(buffer)
            if not taken:
                break
            got += buffer[:taken]
    return bytes(got)


async def gather(socket: DatagramSocket, count: int) -> list[tuple[bytes, Address]]:
    got: list[tuple[bytes, Address]] = []
    with trio.fail_after(10):
        while len(got) < count:
            got += await socket.receive()
    return got


async def send_forever(stream: Stream, size: int) -> None:
    while True:
        await stream.send(bytes(size))


async def test_the_two_ends_agree_on_their_addresses(two: Two) -> None:
    ours, theirs = await two.stream_pair()
    assert ours.local == theirs.remote
    assert ours.remote == theirs.local
    assert ours.local.host == two.here_ip
    assert ours.remote.host == two.there_ip
    ours.close()
    theirs.close()


async def test_buffers_arrive_gathered_and_in_order(two: Two) -> None:
    ours, theirs = await two.stream_pair()
    await ours.send(b"one", b"", memoryview(b"-two-")[1:4], b"three")
    await ours.send()
    await ours.send(b"")
    assert await read_exactly(theirs, 11) == b"onetwothree"
    ours.close()
    theirs.close()


async def test_more_than_any_buffer_holds_is_sent_piece_by_piece(two: Two) -> None:
    ours, theirs = await two.stream_pair()
    content = random.Random(2).randbytes(5_000_003)
    view = memoryview(content)
    parts = [view[start : start + 1999] for start in range(0, len(content), 1999)]
    assert len(parts) > 1024  # more than sendmsg takes at once

    async def send_all() -> None:
        await ours.send(*parts)
        ours.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send_all)
        assert await read_exactly(theirs, len(content) + 1) == content
    theirs.close()


async def test_a_buffer_may_be_used_again_once_sent(two: Two) -> None:
    ours, theirs = await two.stream_pair()
    block = bytearray(b"first")
    await ours.send(memoryview(block))
    block[:] = b"XXXXX"
    assert await read_exactly(theirs, 5) == b"first"
    ours.close()
    theirs.close()


async def test_a_reader_that_stops_makes_the_sender_wait(two: Two) -> None:
    ours, theirs = await two.stream_pair()
    sent = 0

    async def send() -> None:
        nonlocal sent
        while True:
            await ours.send(bytes(65536))
            sent += 65536

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked(0.02)
        before = sent
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert sent == before < 50_000_000
        nursery.cancel_scope.cancel()
    ours.close()
    theirs.close()


async def test_both_directions_flow_at_once(two: Two) -> None:
    ours, theirs = await two.stream_pair()
    content = random.Random(3).randbytes(1_000_000)
    got: list[bytes] = []

    async def receive(stream: Stream) -> None:
        got.append(await read_exactly(stream, len(content)))

    async with trio.open_nursery() as nursery:
        for stream in (ours, theirs):
            nursery.start_soon(stream.send, content)
            nursery.start_soon(receive, stream)
    assert got == [content, content]
    ours.close()
    theirs.close()


async def test_all_streams_may_share_one_buffer(two: Two) -> None:
    """No checkpoint between the bytes landing and `receive_into` returning."""
    pairs = [await two.stream_pair() for _ in range(4)]
    shared = memoryview(bytearray(4096))

    async def receive(stream: Stream, mark: int) -> None:
        left = 100_000
        while left:
            taken = await stream.receive_into(shared)
            assert bytes(shared[:taken]) == bytes([mark]) * taken
            left -= taken

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for mark, (ours, theirs) in enumerate(pairs):
                nursery.start_soon(receive, theirs, mark)
                nursery.start_soon(ours.send, bytes([mark]) * 100_000)
    for pair in pairs:
        for stream in pair:
            stream.close()


async def test_what_comes_may_be_scattered(two: Two) -> None:
    ours, theirs = await two.stream_pair()
    if two.swarm is not None:  # a record is decrypted at once
        assert theirs.scattered is None
    else:
        content = random.Random(1).randbytes(300_000)
        got = bytearray()
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ours.send, content[:200_000])
                nursery.start_soon(_receive_scattered, theirs, got, 200_000)
            # The other way of receiving goes on where that one ended.
            await ours.send(content[200_000:250_000])
            got += await read_exactly(theirs, 50_000)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ours.send, content[250_000:])
                nursery.start_soon(_receive_scattered, theirs, got, 50_000)
        assert got == content
    ours.close()
    theirs.close()


async def _receive_scattered(stream: Stream, got: bytearray, size: int) -> None:
    scattered = stream.scattered
    assert scattered is not None
    left = size
    while left:
        await scattered.readable()
        lengths = [13, 1000, 13, 7000, 40_000]
        buffers = [memoryview(bytearray(length)) for length in lengths]
        taken = scattered.receive_now(buffers)
        if taken is None:
            continue
        assert taken
        whole = b"".join(buffers)
        assert not any(whole[taken:])
        got += whole[:taken]
        left -= taken


async def test_who_scatters_is_told_when_there_is_nothing_and_when_it_is_over(two: Two) -> None:
    ours, theirs = await two.stream_pair()
    scattered = theirs.scattered
    buffers = [memoryview(bytearray(3)), memoryview(bytearray(5))]
    if scattered is not None:
        assert scattered.receive_now(buffers) is None
        await ours.send(b"there is something")
        with trio.fail_after(20):
            with trio.testing.assert_checkpoints():
                await scattered.readable()
            assert scattered.receive_now(buffers) == 8
            await read_exactly(theirs, 10)
            ours.close()
            await scattered.readable()
            assert scattered.receive_now(buffers) == 0
            assert scattered.receive_now(buffers) == 0
    ours.close()
    theirs.close()
    if scattered is not None:
        with pytest.raises(trio.ClosedResourceError):
            await scattered.readable()
        with pytest.raises(trio.ClosedResourceError):
            scattered.receive_now(buffers)


async def test_who_waits_for_more_than_comes_gets_what_there_is(two: Two) -> None:
    ours, theirs = await two.stream_pair()
    scattered = theirs.scattered
    room = memoryview(bytearray(1000))
    if scattered is not None:
        with trio.fail_after(20):
            for size in (1, 400, 1000):
                await ours.send(bytes(size))
                left = size
                while left:
                    await scattered.readable(100_000)
                    left -= scattered.receive_now([room]) or 0
            # Nor does what is received otherwise wait for more.
            await ours.send(b"xx")
            await scattered.readable()
            assert scattered.receive_now([room[:1]]) == 1
            await scattered.readable(100_000)
            assert await theirs.receive_into(room) == 1
            await ours.send(b"x")
            assert await theirs.receive_into(room) == 1
            ours.close()
            await scattered.readable(100_000)
            assert scattered.receive_now([room]) == 0
    ours.close()
    theirs.close()


async def test_closing_wakes_who_waits_to_scatter(two: Two) -> None:
    ours, theirs = await two.stream_pair()
    scattered = theirs.scattered

    async def wait(scattered: Scattered) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await scattered.readable()

    if scattered is not None:
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait, scattered)
                await trio.testing.wait_all_tasks_blocked(0.02)
                theirs.close()
    ours.close()
    theirs.close()


async def test_every_call_passes_a_checkpoint(two: Two) -> None:
    ours, theirs = await two.stream_pair()
    near, far = await two.datagram_pair()
    await theirs.send(b"there is something")
    assert far.send(b"there is something", near.address)
    await trio.testing.wait_all_tasks_blocked(0.02)
    with trio.testing.assert_checkpoints():
        await ours.receive_into(memoryview(bytearray(1)))
    with trio.testing.assert_checkpoints():
        await ours.send(b"")
    with trio.testing.assert_checkpoints():
        await near.receive()
    for thing in (ours, theirs, near, far):
        thing.close()


async def test_a_receive_that_is_cancelled_takes_nothing(two: Two) -> None:
    ours, theirs = await two.stream_pair()
    await theirs.send(b"still here")
    with trio.CancelScope() as scope:
        scope.cancel()
        await ours.receive_into(memoryview(bytearray(100)))
    assert await read_exactly(ours, 10) == b"still here"
    ours.close()
    theirs.close()


async def test_what_was_sent_before_closing_still_arrives(two: Two) -> None:
    ours, theirs = await two.stream_pair()
    await ours.send(b"last words")
    ours.close()
    assert await read_exactly(theirs, 11) == b"last words"
    with trio.fail_after(20):
        assert await theirs.receive_into(memoryview(bytearray(1))) == 0
        assert await theirs.receive_into(memoryview(bytearray(1))) == 0  # and stays the end
    theirs.close()


async def test_sending_to_a_peer_that_closed_fails_in_the_end(two: Two) -> None:
    ours, theirs = await two.stream_pair()
    theirs.close()
    with trio.fail_after(20), pytest.raises(OSError):
        await send_forever(ours, 10_000)
    ours.close()


async def test_a_blocked_sender_learns_that_its_peer_closed(two: Two) -> None:
    ours, theirs = await two.stream_pair()

    async def send() -> None:
        with pytest.raises(OSError):
            await send_forever(ours, 1_000_000)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked(0.02)
            theirs.close()
    ours.close()


async def test_closing_wakes_the_waiters(two: Two) -> None:
    ours, theirs = await two.stream_pair()
    near, far = await two.datagram_pair()
    listener = await two.here.listen(Address(two.here_ip, 0))
    woken: list[str] = []

    async def receive() -> None:
        with pytest.raises((OSError, trio.ClosedResourceError)):
            await ours.receive_into(memoryview(bytearray(1)))
        woken.append("receive_into")

    async def send() -> None:
        with pytest.raises((OSError, trio.ClosedResourceError)):
            await send_forever(ours, 1_000_000)
        woken.append("send")

    async def datagrams() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await near.receive()
        woken.append("receive")

    async def accept() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await listener.accept()
        woken.append("accept")

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for task in (receive, send, datagrams, accept):
                nursery.start_soon(task)
            await trio.testing.wait_all_tasks_blocked(0.02)
            for thing in (ours, near, listener):
                thing.close()
                thing.close()  # twice is as good as once
    assert sorted(woken) == ["accept", "receive", "receive_into", "send"]
    theirs.close()
    far.close()


async def test_nothing_works_after_close(two: Two) -> None:
    ours, theirs = await two.stream_pair()
    near, far = await two.datagram_pair()
    listener = await two.here.listen(Address(two.here_ip, 0))
    for thing in (ours, near, listener):
        thing.close()
    with pytest.raises(trio.ClosedResourceError):
        await ours.receive_into(memoryview(bytearray(1)))
    with pytest.raises(trio.ClosedResourceError):
        await ours.send(b"x")
    with pytest.raises(trio.ClosedResourceError):
        await near.receive()
    with pytest.raises(trio.ClosedResourceError):
        await listener.accept()
    assert not near.send(b"x", far.address)
    theirs.close()
    far.close()


async def test_an_empty_buffer_is_refused(two: Two) -> None:
    ours, theirs = await two.stream_pair()
    with pytest.raises(ValueError, match="empty buffer"):
        await ours.receive_into(memoryview(b""))
    ours.close()
    theirs.close()


async def test_a_port_without_a_listener_refuses(two: Two) -> None:
    listener = await two.there.listen(Address(two.there_ip, 0))
    address = listener.address
    listener.close()
    with trio.fail_after(20), pytest.raises(ConnectionRefusedError):
        await two.here.connect(address)


async def test_a_connection_may_leave_from_a_port_of_choice(two: Two) -> None:
    listener = await two.there.listen(Address(two.there_ip, 0))
    probe = await two.here.listen(Address(two.here_ip, 0))  # a port that is free for TCP
    port = probe.address.port
    probe.close()
    ours = await two.here.connect(listener.address, local=Address(two.here_ip, port))
    theirs = await listener.accept()
    assert theirs.remote == ours.local == Address(two.here_ip, port)
    for thing in (ours, theirs, listener):
        thing.close()


async def test_a_foreign_address_cannot_be_bound(two: Two) -> None:
    foreign = Address("2001:db8::1" if ":" in two.here_ip else "192.0.2.1", 0)
    with pytest.raises(OSError):
        await two.here.open_udp(foreign)
    with pytest.raises(OSError):
        await two.here.listen(foreign)


async def test_datagrams_come_with_their_source(two: Two) -> None:
    ours, theirs = await two.datagram_pair()
    assert ours.send(b"hello", theirs.address)
    assert await gather(theirs, 1) == [(b"hello", ours.address)]
    assert theirs.send(b"", ours.address)
    assert await gather(ours, 1) == [(b"", theirs.address)]
    ours.close()
    theirs.close()


async def test_one_receive_drains_what_is_there_up_to_a_bound(two: Two) -> None:
    ours, theirs = await two.datagram_pair()
    count = MAX_DRAIN + 10
    for number in range(count):
        assert ours.send(b"%d" % number, theirs.address)
    batches: list[Sequence[tuple[bytes, Address]]] = []
    with trio.fail_after(20):
        while sum(len(batch) for batch in batches) < count:
            batches.append(await theirs.receive())
    assert len(batches) < count // 2
    assert max(len(batch) for batch in batches) <= MAX_DRAIN
    assert sorted(int(data) for batch in batches for data, _ in batch) == list(range(count))
    ours.close()
    theirs.close()


async def test_long_datagrams_arrive_cut(two: Two) -> None:
    ours, theirs = await two.datagram_pair()
    assert ours.send(bytes(MAX_DATAGRAM + 1000), theirs.address)
    [(data, _)] = await gather(theirs, 1)
    assert data == bytes(MAX_DATAGRAM)
    ours.close()
    theirs.close()


async def test_what_cannot_be_sent_is_counted_and_harms_nothing(two: Two) -> None:
    ours, theirs = await two.datagram_pair()
    other_family = Address("127.0.0.1" if ":" in two.here_ip else "::1", 9)
    assert not ours.send(b"x", other_family)
    assert not ours.send(b"x", Address(two.there_ip, 0))
    assert not ours.send(bytes(70_000), theirs.address)
    assert ours.errors == 3
    assert ours.send(b"x", theirs.address)
    assert await gather(theirs, 1) == [(b"x", ours.address)]
    ours.close()
    theirs.close()


async def test_an_unreachable_port_does_not_end_the_receiver(two: Two) -> None:
    ours, theirs = await two.datagram_pair()
    gone = await two.there.open_udp(Address(two.there_ip, 0))
    gone.close()
    for _ in range(20):
        ours.send(b"anybody?", gone.address)
    assert theirs.send(b"I am here", ours.address)
    assert await gather(ours, 1) == [(b"I am here", theirs.address)]
    ours.close()
    theirs.close()


async def test_a_port_is_taken_once(two: Two) -> None:
    socket = await two.here.open_udp(Address(two.here_ip, 0))
    listener = await two.here.listen(Address(two.here_ip, 0))
    with pytest.raises(OSError):
        await two.here.open_udp(socket.address)
    with pytest.raises(OSError):
        await two.here.listen(listener.address)
    socket.close()
    listener.close()
    again = await two.here.open_udp(socket.address)
    again.close()


async def test_a_pair_is_bound_to_one_port(two: Two) -> None:
    listener, socket = await bind_pair(two.here, Address(two.here_ip, 0))
    assert listener.address == socket.address
    assert socket.address.port > 0
    listener.close()
    socket.close()


async def test_a_pair_on_a_taken_port_fails_with_one_clear_line(two: Two) -> None:
    # Now and then another process has the TCP port of that number, so one chance is not enough.
    for _ in range(20):
        with closing(await two.here.open_udp(Address(two.here_ip, 0))) as socket:
            port = socket.address.port
            with pytest.raises(InputError, match=f"cannot listen on .*{port}: ") as error:
                await bind_pair(two.here, socket.address)
            assert "\n" not in str(error.value)
            with suppress(OSError):
                (await two.here.listen(socket.address)).close()  # nothing was left behind
                return
    pytest.fail("the TCP port of a pair that failed stays taken")


async def test_a_literal_resolves_to_itself(two: Two) -> None:
    assert await two.here.resolve(HostPort(two.there_ip, 6881)) == [Address(two.there_ip, 6881)]


async def test_a_name_that_cannot_be_resolves_to_nothing(two: Two) -> None:
    assert await two.here.resolve(HostPort("x" * 64 + ".invalid", 1)) == []


async def test_the_receiver_gets_all_that_arrives_until_the_socket_is_closed(two: Two) -> None:
    ours, theirs = await two.datagram_pair()
    got: list[tuple[bytes, Address]] = []

    def take(datagrams: Sequence[tuple[bytes, Address]]) -> None:
        got.extend(datagrams)
        if len(got) == 3:
            theirs.close()

    for data in (b"one", b"two", b"three"):
        ours.send(data, theirs.address)
    with trio.fail_after(20), pytest.raises(trio.ClosedResourceError):
        await theirs.serve(take)
    assert sorted(got) == [(data, ours.address) for data in (b"one", b"three", b"two")]
    ours.close()


def fail(datagrams: Sequence[tuple[bytes, Address]]) -> None:
    raise ZeroDivisionError


async def test_what_the_taker_raises_ends_the_service(two: Two) -> None:
    ours, theirs = await two.datagram_pair()
    ours.send(b"bad news", theirs.address)
    with trio.fail_after(20), pytest.raises(ZeroDivisionError):
        await theirs.serve(fail)
    ours.close()
    theirs.close()
