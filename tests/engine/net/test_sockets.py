"""What is particular to real sockets. The promises both networks share: tests/lab/test_contract."""

from __future__ import annotations

import errno
import gc
import logging
import os
import random
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from dht_torrent.engine.net.exhaustion import AcceptFilter
from dht_torrent.engine.net.ports import bind_pair
from dht_torrent.engine.net.sockets import MAX_DRAIN, RealDatagramSocket, RealNetwork
from dht_torrent.engine.net.tcp import RealListener, RealStream
from dht_torrent.errors import InputError
from dht_torrent.ids import Address, HostPort

ANY = Address("127.0.0.1", 0)


class Failing:
    """A socket whose named call fails a few times before it reaches the real one."""

    def __init__(self, sock: socket.socket, call: str, codes: list[int]) -> None:
        self._sock = sock
        self._call = call
        self._codes = codes

    def __getattr__(self, name: str) -> Any:
        if name == self._call:
            return self._fail_first
        return getattr(self._sock, name)

    def _fail_first(self, *args: object) -> object:
        if self._codes:
            code = self._codes.pop(0)
            raise OSError(code, os.strerror(code))
        call: Callable[..., object] = getattr(self._sock, self._call)
        return call(*args)


@pytest.fixture
def no_descriptor_leaks() -> Iterator[None]:
    folder = Path("/dev/fd")
    before = len(list(folder.iterdir()))
    yield
    gc.collect()
    assert len(list(folder.iterdir())) <= before


async def stream_pair() -> tuple[RealStream, RealStream]:
    network = RealNetwork()
    listener = await network.listen(ANY)
    ours = await network.connect(listener.address)
    theirs = await listener.accept()
    listener.close()
    return ours, theirs


async def test_a_batch_of_blocks_leaves_in_one_system_call() -> None:
    ours, theirs = await stream_pair()
    calls: list[int] = []

    class Counting(Failing):
        def _fail_first(self, *args: object) -> object:
            calls.append(1)
            return super()._fail_first(*args)

    ours._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    ours._socket = Counting(ours._socket, "sendmsg", [])  # type: ignore[assignment]
    await ours.send(*[bytes(13), bytes(16384)] * 4)
    assert len(calls) == 1
    ours.close()
    theirs.close()


async def test_nagle_is_off() -> None:
    ours, theirs = await stream_pair()
    for stream in (ours, theirs):
        assert stream._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        stream.close()


async def test_a_receiver_is_woken_when_enough_has_gathered_or_no_more_comes(
    mock_clock: MockClock,
) -> None:
    ours, theirs = await stream_pair()
    room = memoryview(bytearray(1 << 20))
    woken = trio.Event()

    async def wait(gather: int) -> None:
        await theirs.readable(gather)
        woken.set()

    async with trio.open_nursery() as nursery:
        await ours.send(bytes(40_000))
        nursery.start_soon(wait, 60_000)
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert not woken.is_set()
        await ours.send(bytes(40_000))
        await woken.wait()
        assert theirs.receive_now([room]) in range(60_000, 80_001)
        while theirs.receive_now([room]):
            pass
        woken = trio.Event()
        await ours.send(bytes(10))
        nursery.start_soon(wait, 60_000)
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert not woken.is_set()
        mock_clock.jump(0.01)
        await woken.wait()
        assert theirs.receive_now([room]) == 10
        # From here on whatever comes is told at once.
        await ours.send(b"x")
        assert await theirs.receive_into(room) == 1
    ours.close()
    theirs.close()


@pytest.mark.parametrize("waits", ["readable", "receive_into"])
async def test_a_little_is_told_at_once_after_much_has_gathered(waits: str) -> None:
    ours, theirs = await stream_pair()
    room = memoryview(bytearray(1 << 20))
    told = trio.Event()

    async def wait() -> None:
        if waits == "readable":
            await theirs.readable()
        else:
            assert await theirs.receive_into(room) == 1
        told.set()

    with trio.fail_after(20):
        await ours.send(bytes(80_000))
        await theirs.readable(60_000)
        while theirs.receive_now([room]):
            pass
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked(0.02)
            await ours.send(b"x")
            await told.wait()
    ours.close()
    theirs.close()


async def test_a_sender_survives_any_partial_writes() -> None:
    """The smallest buffers the system grants make every write a partial one."""
    ours, theirs = await stream_pair()
    ours._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    rng = random.Random(4)
    parts = [rng.randbytes(rng.choice([0, 1, 13, 16384])) for _ in range(300)]
    got = bytearray()

    async def receive() -> None:
        buffer = memoryview(bytearray(5003))
        while taken := await theirs.receive_into(buffer):
            got.extend(buffer[:taken])

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await ours.send(*parts)
            ours.close()
    assert bytes(got) == b"".join(parts)
    theirs.close()


async def test_a_reset_connection_raises_os_error() -> None:
    ours, theirs = await stream_pair()
    linger = (1).to_bytes(4, "little") + bytes(4)  # on, zero seconds: close sends RST
    theirs._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    theirs.close()
    with trio.fail_after(20), pytest.raises(ConnectionResetError):
        await ours.receive_into(memoryview(bytearray(1)))
    ours.close()


async def test_a_cancelled_connect_leaves_no_descriptor(no_descriptor_leaks: None) -> None:
    network = RealNetwork()
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    address = Address(*full.getsockname())
    first: list[RealStream] = []
    with trio.move_on_after(0.05):
        while True:  # the backlog fills up; then a connect waits
            first.append(await network.connect(address))
    for stream in first:
        stream.close()
    full.close()


async def test_a_failed_call_leaves_no_descriptor(no_descriptor_leaks: None) -> None:
    network = RealNetwork()
    listener = await network.listen(ANY)
    taken = listener.address
    with pytest.raises(OSError):
        await network.listen(taken)
    with pytest.raises(InputError):
        await bind_pair(network, taken)
    with pytest.raises(OSError):
        await network.open_udp(Address("192.0.2.1", 0))
    with pytest.raises(OSError):
        await network.connect(taken, local=Address("192.0.2.1", 0))
    listener.close()
    with pytest.raises(ConnectionRefusedError, match=r"cannot connect to 127\.0\.0\.1"):
        await network.connect(taken)


async def test_running_out_of_descriptors_only_delays_accepting(
    autojump_clock: trio.testing.MockClock,
) -> None:
    network = RealNetwork()
    listener = await network.listen(ANY)
    codes = [errno.EMFILE, errno.ENFILE, errno.ECONNABORTED, errno.ENOMEM]
    listener._socket = Failing(listener._socket, "accept", codes)  # type: ignore[assignment]
    client = socket.create_connection(listener.address)  # done once the kernel has queued it
    theirs = await listener.accept()
    assert theirs.remote == Address(*client.getsockname())
    assert trio.current_time() == pytest.approx(0.3)  # three pauses, none for the aborted one
    for thing in (client, theirs, listener):
        thing.close()


async def test_running_out_of_descriptors_is_one_line_a_minute(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    listeners = [await RealNetwork().listen(ANY) for _ in range(2)]
    for listener in listeners:
        codes = [errno.EMFILE] * 10_000
        listener._socket = Failing(listener._socket, "accept", codes)  # type: ignore[assignment]
    with trio.move_on_after(170):
        async with trio.open_nursery() as nursery:
            for listener in listeners:
                nursery.start_soon(listener.accept)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3
    assert {record.exc_info for record in caplog.records} == {None}
    assert "too many open files" in caplog.text
    for listener in listeners:
        listener.close()


def test_what_else_trio_says_of_accepting_is_logged_as_it_is() -> None:
    made = logging.getLogger("x").makeRecord
    other = OSError(errno.EINVAL, "odd")
    odd = made("x", logging.ERROR, "f", 1, "odd", (), (OSError, other, None))
    assert AcceptFilter().filter(odd)
    assert AcceptFilter().filter(made("x", logging.ERROR, "f", 1, "plain", (), None))


async def test_a_listener_that_is_broken_says_so() -> None:
    listener = await RealNetwork().listen(ANY)
    listener._socket = Failing(listener._socket, "accept", [errno.EINVAL])  # type: ignore[assignment]
    with pytest.raises(OSError) as error:
        await listener.accept()
    assert error.value.errno == errno.EINVAL
    listener.close()


async def test_what_waits_in_the_kernel_is_drained_at_once() -> None:
    network = RealNetwork()
    ours, theirs = await network.open_udp(ANY), await network.open_udp(ANY)
    for _ in range(MAX_DRAIN + 5):
        assert ours.send(b"x", theirs.address)
    assert len(await theirs.receive()) == MAX_DRAIN
    assert len(await theirs.receive()) == 5
    ours.close()
    theirs.close()


@pytest.mark.parametrize(
    "code", [errno.ECONNREFUSED, errno.EPERM, errno.EHOSTUNREACH, errno.ENETDOWN]
)
async def test_errors_of_remotes_never_reach_the_receiver(code: int) -> None:
    network = RealNetwork()
    ours, theirs = await network.open_udp(ANY), await network.open_udp(ANY)
    assert theirs.send(b"after the storm", ours.address)
    ours._socket = Failing(ours._socket, "recvfrom", [code] * 7)  # type: ignore[assignment]
    assert await ours.receive() == [(b"after the storm", theirs.address)]
    assert ours.errors == 7
    ours.close()
    theirs.close()


async def test_errors_without_end_do_not_make_a_busy_loop(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ours = await RealNetwork().open_udp(ANY)
    codes = [errno.ENOBUFS] * 1_000_000
    ours._socket = Failing(ours._socket, "recvfrom", codes)  # type: ignore[assignment]
    with trio.move_on_after(1.05) as scope:
        await ours.receive()
    assert scope.cancelled_caught
    assert ours.errors == 11 * MAX_DRAIN  # a round each 0.1 s
    ours.close()


async def test_a_full_send_buffer_is_counted_and_does_not_block() -> None:
    ours = await RealNetwork().open_udp(ANY)
    ours._socket = Failing(ours._socket, "sendto", [errno.EAGAIN, errno.ENOBUFS])  # type: ignore[assignment]
    assert not ours.send(b"x", ours.address)
    assert not ours.send(b"x", ours.address)
    assert ours.send(b"x", ours.address)
    assert ours.errors == 2
    ours.close()


async def test_a_pair_finds_another_port_when_udp_has_taken_the_first() -> None:
    class Unlucky(RealNetwork):
        failures = 3

        async def open_udp(self, bind: Address) -> RealDatagramSocket:
            if self.failures:
                self.failures -= 1
                raise OSError(errno.EADDRINUSE, "taken")
            return await super().open_udp(bind)

    listener, datagrams = await bind_pair(Unlucky(), ANY)
    assert listener.address == datagrams.address
    listener.close()
    datagrams.close()


async def test_a_pair_gives_up_when_no_port_is_free() -> None:
    class Hopeless(RealNetwork):
        tries = 0

        async def listen(self, bind: Address) -> RealListener:
            self.tries += 1
            raise OSError(errno.EADDRINUSE, "taken")

    network = Hopeless()
    with pytest.raises(InputError, match=r"cannot listen on 127.0.0.1:0: taken"):
        await bind_pair(network, ANY)
    assert network.tries == 100


async def test_a_restart_does_not_wait_for_old_connections() -> None:
    """The side that closes first stays in TIME_WAIT and would hold the port for a minute."""
    network = RealNetwork()
    listener = await network.listen(ANY)
    ours = await network.connect(listener.address)
    theirs = await listener.accept()
    theirs.close()
    assert await ours.receive_into(memoryview(bytearray(1))) == 0
    ours.close()
    listener.close()
    again = await network.listen(listener.address)
    again.close()


async def test_a_system_without_the_options_that_only_help_is_good_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("SO_REUSEADDR", "SO_RCVBUF", "SO_SNDBUF", "TCP_NODELAY"):
        monkeypatch.setattr(socket, name, 9999)  # which no kernel knows
    net = RealNetwork()
    listener = await net.listen(Address("127.0.0.1", 0))
    with trio.fail_after(20):
        ours = await net.connect(listener.address, local=Address("127.0.0.1", unused_port()))
        theirs = await listener.accept()
        await theirs.send(b"hello")
        assert await ours.receive_into(memoryview(bytearray(5))) == 5
    udp = await net.open_udp(Address("127.0.0.1", 0))
    for opened in (udp, ours, theirs, listener):
        opened.close()


def unused_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


async def test_a_port_that_dials_itself_is_refused() -> None:
    """Linux connects a socket to itself when source and target port are the same."""
    network = RealNetwork()
    listener = await network.listen(ANY)
    address = listener.address
    listener.close()
    with pytest.raises(ConnectionRefusedError):
        await network.connect(address, local=address)


async def test_names_are_resolved_once_each() -> None:
    found = await RealNetwork().resolve(HostPort("localhost", 6881))
    assert Address("127.0.0.1", 6881) in found or Address("::1", 6881) in found
    assert len(found) == len(set(found))


async def test_an_unknown_name_resolves_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*args: object, **options: object) -> object:
        await trio.lowlevel.checkpoint()
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(trio.socket, "getaddrinfo", unknown)
    assert await RealNetwork().resolve(HostPort("nobody.invalid", 1)) == []


async def test_zones_and_flow_labels_are_dropped() -> None:
    assert await RealNetwork().resolve(HostPort("fe80::1%lo", 1)) == [Address("fe80::1", 1)]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere probes may be fragmented")
@pytest.mark.parametrize(
    ("host", "other", "too_large"), [("127.0.0.1", "::1", 65_508), ("::1", "127.0.0.1", 65_489)]
)
async def test_a_datagram_that_must_stay_whole_is_refused_where_it_would_not(
    host: str, other: str, too_large: int
) -> None:
    """Loopback carries 65536 bytes; IPv6 would send more in fragments."""
    network = RealNetwork()
    ours = await network.open_udp(Address(host, 0))
    theirs = await network.open_udp(Address(host, 0))
    try:
        assert ours.send_whole(b"whole", theirs.address)
        assert await theirs.receive() == [(b"whole", ours.address)]
        assert not ours.send_whole(bytes(too_large), theirs.address)
        assert ours.send(bytes(too_large), theirs.address) is (host == "::1")
        assert ours.send_whole(b"whole", Address(other, 1))  # nothing that smaller ones would mend
        assert ours.errors == (2 if host == "::1" else 3)
    finally:
        ours.close()
        theirs.close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere probes may be fragmented")
async def test_asking_for_no_fragments_changes_nothing_for_what_follows() -> None:
    ours = await RealNetwork().open_udp(Address("127.0.0.1", 0))
    try:
        option = (socket.IPPROTO_IP, 10)  # IP_MTU_DISCOVER
        before = ours._socket.getsockopt(*option)
        assert ours.send_whole(b"whole", ours.address)
        assert ours._socket.getsockopt(*option) == before
    finally:
        ours.close()


async def test_what_is_left_of_a_connection_that_did_not_come_about_can_be_kept() -> None:
    kept: list[socket.socket] = []
    network = RealNetwork(keep=kept.append)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            await network.connect(Address(*closed.getsockname()))
    (sock,) = kept
    assert sock.fileno() >= 0
    sock.close()
