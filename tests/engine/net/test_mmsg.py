"""A batch of datagrams is what as many `recvfrom` and `sendto` would have been."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import logging
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import trio

from dht_torrent.engine.net import mmsg as batches_module
from dht_torrent.engine.net import sockets as net_module
from dht_torrent.engine.net.mmsg import BATCH, REMEMBERED, Batches
from dht_torrent.engine.net.protocols import DatagramSocket
from dht_torrent.engine.net.sockets import MAX_DATAGRAM, MAX_DRAIN, RealDatagramSocket, RealNetwork
from dht_torrent.ids import Address
from dht_torrent.syscalls import UNSUPPORTED

FAMILIES = pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
MOST = 512


@pytest.fixture
def sockets(host: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with (
        socket.socket(family, socket.SOCK_DGRAM) as one,
        socket.socket(family, socket.SOCK_DGRAM) as two,
    ):
        for sock in (one, two):
            sock.bind((host, 0))
            sock.setblocking(False)
        yield one, two


def open_descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def address(sock: socket.socket) -> Address:
    return Address(*sock.getsockname()[:2])


@FAMILIES
def test_what_is_sent_arrives_in_order_with_its_sender(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    one, two = sockets
    batches = Batches(one.family, MOST)
    datagrams = [(bytes([n]) * (n + 1), address(two)) for n in range(100)]
    assert batches.send(one, datagrams) == 0
    first = batches.receive(two)
    assert len(first) == BATCH
    assert first + batches.receive(two) == [(data, address(one)) for data, _ in datagrams]
    # Room that was used for sending is as good for receiving.
    two.sendto(b"x" * MOST, one.getsockname())
    assert batches.receive(one) == [(b"x" * MOST, address(two))]


@FAMILIES
def test_an_empty_socket_would_block(sockets: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(BlockingIOError):
        Batches(sockets[0].family, MOST).receive(sockets[0])


@FAMILIES
def test_what_is_too_long_arrives_cut(sockets: tuple[socket.socket, socket.socket]) -> None:
    one, two = sockets
    one.sendto(b"a" * (MOST + 100), two.getsockname())
    one.sendto(b"", two.getsockname())
    one.sendto(b"c", two.getsockname())
    assert [data for data, _ in Batches(two.family, MOST).receive(two)] == [b"a" * MOST, b"", b"c"]


@FAMILIES
def test_what_cannot_leave_is_counted_and_does_not_hold_up_the_rest(
    host: str, sockets: tuple[socket.socket, socket.socket]
) -> None:
    one, two = sockets
    other = "127.0.0.1" if ":" in host else "::1"
    datagrams = [
        (b"first", address(two)),
        (b"other family", Address(other, 4000)),
        (b"no port", Address(host, 0)),
        (b"x" * (MOST + 1), address(two)),
        (b"last", address(two)),
    ]
    assert Batches(one.family, MOST).send(one, datagrams) == 3
    assert [data for data, _ in Batches(two.family, MOST).receive(two)] == [b"first", b"last"]
    assert Batches(one.family, MOST).send(one, 20 * datagrams[1:2]) == 20


def test_a_closed_socket_says_so() -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    batches = Batches(sock.family, MOST)
    sock.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        batches.receive(sock)
    assert batches.send(sock, [(b"x", Address("127.0.0.1", 4000))]) == 1


@pytest.mark.parametrize("host", ["127.0.0.1"])
def test_only_so_many_addresses_are_remembered(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    batches = Batches(sockets[0].family, MOST)
    for number in range(3 * REMEMBERED):
        name = b"\x02\x00" + number.to_bytes(2, "big") + bytes([127, 0, 0, 1]) + bytes(8)
        assert batches._learn(name) == Address("127.0.0.1", number)
        remote = batches._remote(Address("127.0.0.1", number))
        assert remote is not None
        assert remote.name == name
        assert len(batches._by_name) <= REMEMBERED
        assert len(batches._by_address) <= REMEMBERED


@FAMILIES
async def test_a_busy_node_s_socket_uses_them_and_is_drained(host: str) -> None:
    net = RealNetwork()
    one, two = [await net.open_udp(Address(host, 0)) for _ in range(2)]
    try:
        for count in (1, 20, 150, MAX_DRAIN + 20):
            datagrams = [(b"%d" % n, two.address) for n in range(count)]
            assert one.send_all(datagrams) == 0
            got: list[tuple[bytes, Address]] = []
            while len(got) < count:
                batch = await two.receive()
                assert len(batch) <= MAX_DRAIN
                got += batch
            assert got == [(data, one.address) for data, _ in datagrams]
        used = [shared.get() is not None for shared in net_module._batches]
        assert used == [not one.address.is_ipv6, one.address.is_ipv6]
    finally:
        one.close()
        two.close()


async def test_a_socket_with_little_to_do_needs_no_room_for_batches() -> None:
    one, two = [await RealNetwork().open_udp(Address("127.0.0.1", 0)) for _ in range(2)]
    try:
        for _ in range(20):
            assert one.send_all([(b"x", two.address)] * 3) == 0
            assert len(await two.receive()) <= 3
        assert net_module._batches[False].get() is None
    finally:
        one.close()
        two.close()


async def test_nothing_is_kept_of_a_closed_socket() -> None:
    before = open_descriptors()
    one = await RealNetwork().open_udp(Address("127.0.0.1", 0))
    assert isinstance(one, RealDatagramSocket)
    assert one.send_all([(b"x" * MAX_DATAGRAM, one.address)] * 20) == 0
    one.close()
    assert one.send_all([(b"x", Address("127.0.0.1", 4000))] * 20) == 20
    assert one.errors == 20
    gc.collect()
    assert open_descriptors() <= before


# -- many of one sender ------------------------------------------------------------------------


@FAMILIES
def test_what_the_kernel_has_joined_comes_as_it_was_sent(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    one, two = sockets
    batches = Batches(one.family, MOST)
    if not batches.join(two):
        pytest.skip("this kernel does not join datagrams")
    assert batches.send(one, [(b"first", address(two))]) == 0  # the call itself is allowed
    sizes = [500] * 100 + [499, 1, 0, 0, 500, 7, 7, 7, 6, 500]
    datagrams = [(bytes([n]) * size, address(two)) for n, size in enumerate(sizes)]
    assert batches.send(one, datagrams) == 0
    one.sendto(b"x" * 9000, two.getsockname())
    got: list[tuple[bytes, Address]] = []
    calls, more = 0, True
    with contextlib.suppress(BlockingIOError):
        while more:
            some, more = batches.receive_joined(two)
            got += some
            calls += 1
    wanted = [b"first", *(data for data, _ in datagrams), b"x" * MOST]
    assert got == [(data, address(one)) for data in wanted]
    assert calls <= 2


@FAMILIES
@pytest.mark.parametrize("knows", [True, False])
async def test_a_socket_hears_one_who_does_not_pause_and_then_others(
    host: str, knows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not knows:
        monkeypatch.setattr(batches_module, "JOINS", (socket.SOL_UDP, 0x7FFF))
    net = RealNetwork()
    one, two, three = [await net.open_udp(Address(host, 0)) for _ in range(3)]
    assert isinstance(two, RealDatagramSocket)
    try:
        for _ in range(3):
            sent = [(bytes([n % 256]) * 1400, two.address) for n in range(500)]
            sent.append((b"last", two.address))
            assert one.send_all(sent) == three.send_all(sent[:3]) == 0
            got: list[tuple[bytes, Address]] = []
            with trio.fail_after(20):
                while len(got) < 504:
                    some = await two.receive()
                    assert len(some) <= MAX_DRAIN
                    got += some
            for sender, count in ((one, 501), (three, 3)):
                heard = [data for data, source in got if source == sender.address]
                assert heard == [data for data, _ in sent[:count]]
        assert two._joins is not None
        assert knows or not two._joins
        # Should the system refuse us later on, what comes is still whole.
        net_module._do_without(OSError(errno.ENOSYS, "no"))
        assert one.send_all([(b"y", two.address)] * 3) == 0
        assert one.send_all([(b"y", two.address)] * 3) == 0
        with trio.fail_after(20):
            assert await two.receive() == [(b"y", one.address)] * 6
    finally:
        for socket_ in (one, two, three):
            socket_.close()


@FAMILIES
async def test_what_comes_of_many_is_not_joined(host: str) -> None:
    net = RealNetwork()
    one, two, three = [await net.open_udp(Address(host, 0)) for _ in range(3)]
    assert isinstance(two, RealDatagramSocket)

    async def hear(sent: Sequence[tuple[DatagramSocket, bytes]]) -> None:
        for sender, data in sent:
            assert sender.send(data, two.address)
        got: list[tuple[bytes, Address]] = []
        with trio.fail_after(20):
            while len(got) < len(sent):
                got += await two.receive()
        assert got == [(data, sender.address) for sender, data in sent]

    try:
        turns = [one, *[three] * (BATCH - 2), one]
        many = [(sender, bytes([n])) for n, sender in enumerate(turns)]
        for _ in range(3):
            await hear(many)
            assert two._joins is None  # though the first and the last are of one sender
        for _ in range(3):
            assert one.send_all([(b"x" * 500, two.address)] * BATCH) == 0
            with trio.fail_after(20):
                got = await two.receive()
                while len(got) < BATCH:
                    got += await two.receive()
            assert got == [(b"x" * 500, one.address)] * BATCH
        if not two._joins:
            pytest.skip("this kernel does not join datagrams")
        await hear(many)
        assert two._joins is None  # as there was nothing to be joined
        await hear(many)
    finally:
        for socket_ in (one, two, three):
            socket_.close()


# -- many to one address -------------------------------------------------------------------------


def drained(batches: Batches, sock: socket.socket) -> list[tuple[bytes, Address]]:
    got: list[tuple[bytes, Address]] = []
    with contextlib.suppress(BlockingIOError):
        while True:
            got += batches.receive(sock)
    return got


@FAMILIES
def test_what_goes_to_few_addresses_goes_in_few_messages_and_in_order(
    monkeypatch: pytest.MonkeyPatch, host: str, sockets: tuple[socket.socket, socket.socket]
) -> None:
    one, two = sockets
    with socket.socket(one.family, socket.SOCK_DGRAM) as three:
        three.bind((host, 0))
        three.setblocking(False)
        batches = Batches(one.family, 4096)
        assert batches.send(one, [(b"first", address(two))]) == 0  # the call itself is allowed
        calls: list[int] = []
        send = batches_module._sendmmsg

        def counting(fd: int, headers: object, count: int, flags: int) -> int:
            calls.append(count)
            sent: int = send(fd, headers, count, flags)
            return sent

        monkeypatch.setattr(batches_module, "_sendmmsg", counting)
        sizes = [100, 100, 100, 90, 100, 100, 0, 0, 1473, 1473, 100]
        datagrams = [
            (bytes([n]) * size, address(target))
            for n, size in enumerate(sizes)
            for target in (two, three)
        ]
        assert batches.send(one, datagrams) == 0
        if not batches._can_cut:
            pytest.skip("this kernel does not cut datagrams apart")
        # Three of 100, one of 90, two of 100; what is empty or long goes by itself, then one more.
        assert calls == [2 * (1 + 1 + 1 + 2 + 2 + 1)]
        wanted = [(bytes([n]) * size, address(one)) for n, size in enumerate(sizes)]
        assert drained(batches, two) == [(b"first", address(one)), *wanted]
        assert drained(batches, three) == wanted
        # As plain as ever where nothing can be put together.
        assert batches.send(one, [(b"x" * n, address(two)) for n in range(20)]) == 0
        assert [data for data, _ in drained(batches, two)] == [b"x" * n for n in range(20)]


@FAMILIES
def test_a_message_is_never_longer_than_a_datagram_may_be(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    one, two = sockets
    two.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    batches = Batches(one.family, 4096)
    assert batches.send(one, [(b"first", address(two))]) == 0
    datagrams = [(bytes([n]) * 1200, address(two)) for n in range(BATCH)]  # 76,800 bytes
    assert batches.send(one, datagrams) == 0
    assert [data for data, _ in drained(batches, two)[1:]] == [data for data, _ in datagrams]


@FAMILIES
def test_where_the_kernel_cannot_cut_each_datagram_is_a_message(
    monkeypatch: pytest.MonkeyPatch, sockets: tuple[socket.socket, socket.socket]
) -> None:
    """An old one would take no notice, and send all of them as one."""
    one, two = sockets
    monkeypatch.setattr(batches_module, "_UDP_SEGMENT", 9999)
    batches = Batches(one.family, MOST)
    for _ in range(2):
        datagrams = [(bytes([n]) * 10, address(two)) for n in range(20)]
        assert batches.send(one, datagrams) == 0
        assert [data for data, _ in drained(batches, two)] == [data for data, _ in datagrams]
    assert batches._can_cut is False


@FAMILIES
@pytest.mark.parametrize("code", [errno.EIO, errno.EINVAL, errno.EPERM])
def test_a_network_card_that_cannot_cut_is_found_out_once_and_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch, sockets: tuple[socket.socket, socket.socket], code: int
) -> None:
    one, two = sockets
    batches = Batches(one.family, MOST)
    assert batches.send(one, [(b"first", address(two))]) == 0
    if not batches._cuts(one):
        pytest.skip("this kernel does not cut datagrams apart")
    send, refused = batches_module._sendmmsg, Refused(code)

    def only_plain(fd: int, headers: object, count: int, flags: int) -> int:
        if any(batches._controls[:count]):
            return refused()
        sent: int = send(fd, headers, count, flags)
        return sent

    monkeypatch.setattr(batches_module, "_sendmmsg", only_plain)
    datagrams = [(bytes([n]) * 10, address(two)) for n in range(20)]
    for _ in range(3):
        assert batches.send(one, datagrams) == 0
    assert refused.calls == 1
    assert batches.refused is None
    assert [data for data, _ in drained(batches, two)[1:]] == 3 * [data for data, _ in datagrams]


@FAMILIES
def test_a_path_too_narrow_for_long_ones_still_has_the_short_ones_cut(
    monkeypatch: pytest.MonkeyPatch, sockets: tuple[socket.socket, socket.socket]
) -> None:
    one, two = sockets
    two.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    batches = Batches(one.family, 4096)
    assert batches.send(one, [(b"first", address(two))]) == 0
    if not batches._cuts(one):
        pytest.skip("this kernel does not cut datagrams apart")
    send, refused, counts = batches_module._sendmmsg, Refused(errno.EINVAL), []

    def narrow(fd: int, headers: object, count: int, flags: int) -> int:
        if batches._controls[0] and batches._segments[0].size > 1280 - 28:
            return refused()
        counts.append(count)
        sent: int = send(fd, headers, count, flags)
        return sent

    monkeypatch.setattr(batches_module, "_sendmmsg", narrow)
    for size in (1472, 1472, 1200):
        datagrams = [(bytes([n]) * size, address(two)) for n in range(20)]
        assert batches.send(one, datagrams) == 0
        got = drained(batches, two)
        assert [data for data, _ in got][-20:] == [data for data, _ in datagrams]
    assert refused.calls == 1
    assert counts == [20, 1]  # the first went one by one, by the plain call


@FAMILIES
def test_a_full_buffer_is_no_reason_to_send_each_by_itself(
    monkeypatch: pytest.MonkeyPatch, sockets: tuple[socket.socket, socket.socket]
) -> None:
    one, two = sockets
    batches = Batches(one.family, MOST)
    assert batches.send(one, [(b"first", address(two))]) == 0
    could = batches._cuts(one)
    with monkeypatch.context() as patch:
        patch.setattr(batches_module, "_sendmmsg", Refused(errno.EAGAIN))
        failed = batches.send(one, [(bytes([n]) * 10, address(two)) for n in range(20)])
    # What is put together has a second chance, one by one.
    assert failed == (0 if could else 20)
    assert batches._can_cut is could


def test_what_was_sent_is_not_held() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as two,
    ):
        two.bind(("127.0.0.1", 0))
        batches = Batches(one.family, MOST)
        data = bytes(bytearray(300))
        before = sys.getrefcount(data)
        for _ in range(3):
            assert batches.send(one, [(data, address(two))] * 20) == 0
        assert sys.getrefcount(data) == before


# -- a system that refuses them ------------------------------------------------------------------


class Refused:
    """A system call that fails with `code`, and counts how often."""

    def __init__(self, code: int) -> None:
        self.code = code
        self.calls = 0

    def __call__(self, *_: object) -> int:
        self.calls += 1
        ctypes.set_errno(self.code)
        return -1


async def burst(one: DatagramSocket, two: DatagramSocket, count: int) -> None:
    """Sends so many at once, and sees them arrive in order."""
    datagrams = [(b"%d" % n, two.address) for n in range(count)]
    assert one.send_all(datagrams) == 0
    got: list[tuple[bytes, Address]] = []
    with trio.fail_after(5):
        while len(got) < count:
            got += await two.receive()
    assert got == [(data, one.address) for data, _ in datagrams]


@pytest.mark.parametrize("code", sorted(UNSUPPORTED))
@pytest.mark.parametrize("missing", [("_recvmmsg",), ("_sendmmsg",), ("_recvmmsg", "_sendmmsg")])
async def test_a_system_that_refuses_them_is_asked_once_and_told_of_once(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    missing: tuple[str, ...],
    code: int,
) -> None:
    caplog.set_level(logging.INFO)
    calls = [Refused(code) for _ in missing]
    for name, call in zip(missing, calls, strict=True):
        monkeypatch.setattr(batches_module, name, call)
    for host in ("127.0.0.1", "::1"):
        one, two = [await RealNetwork().open_udp(Address(host, 0)) for _ in range(2)]
        for count in (20, 150, 20):
            await burst(one, two, count)
        assert one.errors == two.errors == 0
        one.close()
        two.close()
    # Whichever came first: after it neither is tried.
    assert sum(call.calls for call in calls) == 1
    assert [record.getMessage() for record in caplog.records] == [
        f"no recvmmsg and sendmmsg here ({os.strerror(code)}): the DHT makes do without"
    ]
    assert [shared.get() for shared in net_module._batches] == [None, None]


async def test_a_c_library_without_them_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net_module, "ARE_POSSIBLE", False)
    monkeypatch.setattr(batches_module, "_recvmmsg", None)
    monkeypatch.setattr(batches_module, "_sendmmsg", None)
    one, two = [await RealNetwork().open_udp(Address("127.0.0.1", 0)) for _ in range(2)]
    for count in (20, 150):
        await burst(one, two, count)
    one.close()
    two.close()


def test_a_c_library_that_cannot_be_looked_into_has_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert batches_module._libc("recvmmsg") is not None
    assert batches_module._libc("no_such_function") is None

    def fails(*_: object, **__: object) -> None:
        raise OSError("dynamic loading is not supported")

    monkeypatch.setattr(ctypes, "CDLL", fails)
    assert batches_module._libc("recvmmsg") is None


@FAMILIES
def test_a_datagram_that_cannot_leave_does_not_turn_batches_off(
    sockets: tuple[socket.socket, socket.socket], host: str
) -> None:
    one, two = sockets
    batches = Batches(one.family, MOST)
    # The kernel says EINVAL to a port 0, whichever call it is.
    assert batches.send(one, [(b"nowhere", Address(host, 0)), (b"here", address(two))]) == 1
    assert batches.refused is None
    assert batches.receive(two) == [(b"here", address(one))]


@FAMILIES
def test_calls_that_once_went_well_are_not_given_up(
    monkeypatch: pytest.MonkeyPatch, sockets: tuple[socket.socket, socket.socket]
) -> None:
    one, two = sockets
    batches = Batches(one.family, MOST)
    assert batches.send(one, [(b"x", address(two))]) == 0
    assert batches.receive(two) == [(b"x", address(one))]
    # A firewall whose table is full says EPERM to some.
    with monkeypatch.context() as patch:
        patch.setattr(batches_module, "_sendmmsg", Refused(errno.EPERM))
        patch.setattr(batches_module, "_recvmmsg", Refused(errno.EPERM))
        assert batches.send(one, [(b"y", address(two))]) == 1
        with pytest.raises(PermissionError):
            batches.receive(two)
    assert batches.refused is None


@FAMILIES
def test_a_batch_that_is_refused_leaves_whole_and_is_counted_right(
    monkeypatch: pytest.MonkeyPatch, sockets: tuple[socket.socket, socket.socket], host: str
) -> None:
    one, two = sockets
    monkeypatch.setattr(batches_module, "_sendmmsg", Refused(errno.ENOSYS))
    batches = Batches(one.family, MOST)
    datagrams = [
        (b"too long" * MOST, address(two)),
        (b"first", address(two)),
        (b"nowhere", Address(host, 0)),
        (b"", address(two)),
        (b"x" * MOST, address(two)),
    ]
    assert batches.send(one, datagrams) == 2
    assert batches.refused is not None
    got = [two.recvfrom(MOST + 1) for _ in range(3)]
    assert [data for data, _ in got] == [b"first", b"", b"x" * MOST]
