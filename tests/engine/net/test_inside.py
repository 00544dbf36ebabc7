"""A node that keeps to one interface: nothing without it, and all again when it is back. Here it is
loopback; that no packet goes another way is tests/interop's."""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
import trio
import trio.testing

from dht_torrent.engine.net import binding as binding_module
from dht_torrent.engine.net import inside as inside_module
from dht_torrent.engine.net import names
from dht_torrent.engine.net.binding import Binding, bind_address, find
from dht_torrent.engine.net.inside import InsideNetwork
from dht_torrent.engine.net.interfaces import Interface, all_interfaces
from dht_torrent.engine.net.tcp import RealStream
from dht_torrent.ids import Address, HostPort

ANY = Address("0.0.0.0", 0)
LO = next(one.name for one in all_interfaces() if one.has("127.0.0.1"))


def interface(name: str, index: int, *networks: str) -> Interface:
    found = tuple(map(ipaddress.ip_interface, networks))
    return Interface(name, index, found[0].version == 6, found)


class Looks:
    """What a look at the interfaces finds."""

    def __init__(self, *found: Interface) -> None:
        self.found: Sequence[Interface] = found

    def __call__(self) -> Sequence[Interface]:
        return self.found


HERE = interface(LO, 1, "127.0.0.1/8", "127.0.0.5/8")
ANEW = interface(LO, 2, "127.0.0.1/8")


MADE: list[InsideNetwork] = []


@pytest.fixture(autouse=True)
def closing_all() -> Iterator[None]:
    yield
    while MADE:
        MADE.pop().close()


def inside(looks: Callable[[], Sequence[Interface]], wanted: str = LO) -> InsideNetwork:
    MADE.append(InsideNetwork(wanted, 1.0, look=looks))
    return MADE[-1]


# -- which interface -------------------------------------------------------------------------------

ALL = [
    interface("lo", 1, "127.0.0.1/8"),
    interface("eth0", 2, "192.0.2.5/24", "192.0.2.6/24"),
    interface("eth0:1", 2, "192.0.2.7/24"),
    interface("tun0", 3, "10.8.0.2/24"),
    interface("eth0", 2, "fe80::5/64", "2001:db8::5/64"),
]


def test_an_interface_is_found_by_its_name_with_all_its_addresses() -> None:
    hosts = ("192.0.2.5", "192.0.2.6", "192.0.2.7", "fe80::5", "2001:db8::5")
    assert find("eth0", ALL) == Binding("eth0", 2, hosts)
    assert find("eth", ALL) is None


def test_an_interface_is_found_by_an_address_and_used_with_that_one_only() -> None:
    assert find("192.0.2.6", ALL) == Binding("eth0", 2, ("192.0.2.6",))
    assert find("192.0.2.7", ALL) == Binding("eth0", 2, ("192.0.2.7",))
    assert find("2001:db8::5", ALL) == Binding("eth0", 2, ("2001:db8::5",))
    assert find("192.0.2.9", ALL) is None


def test_addresses_that_were_used_stay_the_first() -> None:
    before = Binding("eth0", 2, ("192.0.2.6", "2001:db8::5"))
    found = find("eth0", ALL, before)
    assert found is not None
    assert found.source(ipv6=False) == "192.0.2.6"
    assert found.hosts[:2] == ("192.0.2.6", "2001:db8::5")


def test_a_link_local_address_is_not_bound_to_by_itself() -> None:
    assert Binding("eth0", 2, ("fe80::5", "2001:db8::5")).source(ipv6=True) == "2001:db8::5"
    assert Binding("eth0", 2, ("fe80::5",)).source(ipv6=True) is None


TUN = Binding("tun0", 3, ("10.8.0.2", "fd00::2"))


@pytest.mark.parametrize(
    ("where", "ipv6", "to_address", "bound"),
    [
        (None, False, False, None),
        (Address("0.0.0.0", 7), False, False, Address("0.0.0.0", 7)),
        (Address("10.8.0.2", 7), False, False, Address("10.8.0.2", 7)),
        (None, False, True, Address("10.8.0.2", 0)),
        (Address("0.0.0.0", 7), False, True, Address("10.8.0.2", 7)),
        (Address("::", 7), True, True, Address("fd00::2", 7)),
        (Address("10.8.0.2", 7), False, True, Address("10.8.0.2", 7)),
    ],
)
def test_where_a_socket_is_bound(
    where: Address | None, ipv6: bool, to_address: bool, bound: Address | None
) -> None:
    assert bind_address(TUN, where, ipv6=ipv6, to_address=to_address) == bound


@pytest.mark.parametrize(
    ("hosts", "where", "to_address"),
    [
        (TUN.hosts, Address("192.0.2.5", 0), False),
        (TUN.hosts, Address("192.0.2.5", 0), True),
        (("fd00::2",), None, True),
        (("fd00::2",), Address("0.0.0.0", 7), True),
    ],
)
def test_a_socket_is_not_bound_to_what_is_not_an_address_there(
    hosts: tuple[str, ...], where: Address | None, to_address: bool
) -> None:
    with pytest.raises(OSError, match="tun0") as caught:
        bind_address(Binding("tun0", 3, hosts), where, ipv6=False, to_address=to_address)
    assert caught.value.errno == errno.EADDRNOTAVAIL


# -- its sockets -----------------------------------------------------------------------------------


@pytest.fixture
def tied(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The kinds of sockets that were tied to the interface."""
    kinds: list[int] = []

    def noting(sock: socket.socket, binding: Binding) -> None:
        binding_module.tie(sock, binding)
        kinds.append(sock.type)

    monkeypatch.setattr(inside_module, "tie", noting)
    return kinds


async def test_every_kind_of_socket_is_tied_to_the_interface(tied: list[int]) -> None:
    network = inside(Looks(HERE))
    udp = await network.open_udp(ANY)
    listener = await network.listen(ANY)
    stream = await network.connect(Address("127.0.0.1", listener.address.port))
    assert tied == [socket.SOCK_DGRAM, socket.SOCK_STREAM, socket.SOCK_STREAM]
    for one in (udp, listener, stream):
        one.close()


async def test_multicast_goes_through_the_interface_only(tied: list[int]) -> None:
    here = next(one for one in all_interfaces() if one.name == LO and not one.ipv6)
    network = inside(Looks(here))
    group = Address("239.192.152.143", 6771)
    (await network.open_multicast(group, here)).close()
    assert tied == [socket.SOCK_DGRAM]
    with pytest.raises(OSError, match="is not"):
        await network.open_multicast(group, interface("other", here.index + 1, "10.0.0.1/8"))


def test_local_discovery_sees_no_other_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside_module, "interfaces", lambda: ALL[1:])
    names = [(one.name, one.ipv6) for one in inside(Looks(*ALL), "eth0").interfaces()]
    assert names == [("eth0", False), ("eth0:1", False), ("eth0", True)]
    (one,) = inside(Looks(*ALL), "192.0.2.6").interfaces()
    assert [str(net.ip) for net in one.networks] == ["192.0.2.6"]
    assert inside(Looks(*ALL), "tun9").interfaces() == []


async def test_a_socket_that_cannot_be_tied_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(sock: socket.socket, binding: Binding) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(inside_module, "tie", refuse)
    network = inside(Looks(HERE))
    for open_one in (network.open_udp, network.listen, network.connect):
        with pytest.raises(OSError, match="Invalid"):
            await open_one(Address("127.0.0.1", 0))


async def test_where_the_system_refuses_to_tie_addresses_are_bound_to_and_that_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(sock: socket.socket, binding: Binding) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(inside_module, "tie", refuse)
    looks = Looks(interface(LO, 1, "127.0.0.5/8", "127.0.0.1/8"))
    network = inside(looks)
    listener = await network.listen(ANY)
    port = listener.address.port
    with pytest.raises(OSError, match="refused"):
        await network.connect(Address("127.0.0.1", port))
    stream = await network.connect(Address("127.0.0.5", port))
    assert stream.local.host == "127.0.0.5"
    (warning,) = network.warnings()
    assert "bound to its addresses" in warning
    assert caplog.messages == [warning]
    looks.found = [HERE]  # which has the address as well: nothing changes
    await network.look_again()
    await stream.send(b"it is open")
    looks.found = [interface(LO, 1, "127.0.0.1/8")]
    await network.look_again()
    (await network.connect(Address("127.0.0.1", port))).close()
    with pytest.raises(trio.ClosedResourceError):
        await stream.send(b"it is not")
    listener.close()


async def test_with_an_address_all_sockets_are_bound_to_it() -> None:
    network = inside(Looks(HERE), "127.0.0.5")
    udp = await network.open_udp(ANY)
    listener = await network.listen(ANY)
    assert listener.address.host == ANY.host  # what was asked for
    with pytest.raises(OSError, match="refused"):
        await network.connect(Address("127.0.0.1", listener.address.port))
    stream = await network.connect(Address("127.0.0.5", listener.address.port))
    assert stream.local.host == "127.0.0.5"
    for one in (udp, listener, stream):
        one.close()


# -- it goes and comes back ------------------------------------------------------------------------


async def test_nothing_leaves_while_it_is_away_and_sockets_go_on_when_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    looks = Looks(HERE)
    network = inside(looks)
    udp = await network.open_udp(ANY)
    to = Address("127.0.0.1", udp.address.port)
    got: list[bytes] = []
    received = trio.Event()

    def take(datagrams: Sequence[tuple[bytes, Address]]) -> None:
        got.extend(data for data, _ in datagrams)
        received.set()

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(udp.serve, take)
            assert udp.send(b"one", to)
            await received.wait()
            received = trio.Event()
            looks.found = []
            await network.look_again()
            assert network.binding is None
            assert not udp.send(b"lost", to)
            assert udp.send_all([(b"lost", to)] * 3) == 3
            assert udp.send_whole(b"lost", to)  # which is not to say that it left
            assert udp.errors == 5
            assert udp.address.port == to.port
            (warning,) = network.warnings()
            assert "nothing is sent or received" in warning
            assert "is not here" in network.text()
            with pytest.raises(OSError, match="not here"):
                await network.connect(to)
            looks.found = [ANEW]
            await network.look_again()
            assert udp.send(b"two", to)
            await received.wait()
            nursery.cancel_scope.cancel()
    assert got == [b"one", b"two"]
    assert udp.errors == 5
    assert network.warnings() == []
    assert network.text() == f"{LO} (127.0.0.1)"
    assert [("gone" in text, "is here" in text) for text in caplog.messages] == [
        (True, False),
        (False, True),
    ]
    udp.close()


@pytest.mark.parametrize("then", [[], [ANEW]])
async def test_connections_end_with_their_interface(then: list[Interface]) -> None:
    looks = Looks(HERE)
    network = inside(looks)
    listener = await network.listen(ANY)
    ours = await network.connect(Address("127.0.0.1", listener.address.port))
    theirs = await listener.accept()
    ended: list[str] = []

    async def reads(stream: RealStream) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_into(memoryview(bytearray(10)))
        ended.append("read")

    assert isinstance(theirs, RealStream)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reads, ours)
            nursery.start_soon(reads, theirs)
            await trio.testing.wait_all_tasks_blocked()
            looks.found = then
            await network.look_again()
    assert ended == ["read", "read"]
    listener.close()


async def test_a_listener_waits_for_its_interface_and_keeps_its_port() -> None:
    looks = Looks()
    network = inside(looks)
    listener = await network.listen(ANY)
    port = listener.address.port
    assert port
    accepted: list[Address] = []

    async def accepts() -> None:
        with closing(await listener.accept()) as stream:
            accepted.append(stream.local)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accepts)
            await trio.testing.wait_all_tasks_blocked()
            looks.found = [HERE]
            await network.look_again()
            stream = await network.connect(Address("127.0.0.1", port))
    assert accepted == [Address("127.0.0.1", port)]
    stream.close()
    listener.close()


async def test_a_port_that_is_taken_meanwhile_is_told_of_and_used_when_it_is_free() -> None:
    looks = Looks()
    network = inside(looks)
    udp = await network.open_udp(ANY)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(udp.address)
        looks.found = [HERE]
        await network.look_again()
        (warning,) = network.warnings()
        assert f"cannot use {udp.address}" in warning
        assert not udp.send(b"", Address("127.0.0.1", 9))
    await network.look_again()
    assert network.warnings() == []
    assert udp.send(b"", Address("127.0.0.1", 9))
    udp.close()


async def test_what_is_wrong_while_the_interface_is_here_is_refused_at_once() -> None:
    network = inside(Looks(HERE))
    with pytest.raises(OSError, match=r"192\.0\.2\.1 is not an address of"):
        await network.listen(Address("192.0.2.1", 0))
    udp = await network.open_udp(ANY)
    with pytest.raises(OSError, match="in use"):
        await network.open_udp(udp.address)
    udp.close()


async def test_a_closed_socket_stays_closed_when_the_interface_is_back() -> None:
    looks = Looks()
    network = inside(looks)
    udp, listener = await network.open_udp(ANY), await network.listen(ANY)
    failed: list[str] = []

    async def receives() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await udp.receive()
        failed.append("receive")

    async def accepts() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await listener.accept()
        failed.append("accept")

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receives)
            nursery.start_soon(accepts)
            await trio.testing.wait_all_tasks_blocked()
            for one in (udp, listener, udp):
                one.close()
    assert sorted(failed) == ["accept", "receive"]
    looks.found = [HERE]
    await network.look_again()
    assert not udp.send(b"", Address("127.0.0.1", 9))
    with pytest.raises(trio.ClosedResourceError):
        await udp.serve(lambda _: None)


async def test_a_closed_socket_says_so_while_the_interface_is_here() -> None:
    network = inside(Looks(HERE))
    udp, listener = await network.open_udp(ANY), await network.listen(ANY)
    udp.close()
    listener.close()
    for wait in (udp.receive, listener.accept):
        with pytest.raises(trio.ClosedResourceError):
            await wait()


async def test_the_service_looks_again_and_again(autojump_clock: trio.testing.MockClock) -> None:
    looks = Looks(HERE)
    network = inside(looks)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(network.run)
        looks.found = []
        await trio.sleep(1.5)
        assert network.binding is None
        looks.found = [HERE]
        await trio.sleep(1.5)
        assert network.binding is not None
        nursery.cancel_scope.cancel()


async def test_a_connection_that_is_closed_here_is_ended_in_order() -> None:
    network = inside(Looks(HERE))
    with socket.create_server(("127.0.0.1", 0)) as server:
        stream = await network.connect(Address(*server.getsockname()))
        theirs, _ = server.accept()
        with theirs:
            theirs.sendall(b"not read")  # or the system would reset it
            stream.close()
            theirs.settimeout(5)
            assert theirs.recv(10) == b""
            for _ in range(3):
                theirs.sendall(b"said too late")
                await network.look_again()


async def test_without_a_name_server_outside_this_machine_names_are_not_resolved(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    conf = tmp_path / "resolv.conf"
    conf.write_text("nameserver 127.0.0.53\n")
    monkeypatch.setattr(names, "RESOLV_CONF", conf)
    network = inside(Looks(HERE))
    point = HostPort("entry.example", 6881)
    for _ in range(3):
        assert await network.resolve(point) == []
    assert caplog.messages == [inside_module.NAMELESS]
    assert network.warnings() == [inside_module.NAMELESS]
    assert await network.resolve(HostPort("192.0.2.1", 1)) == [Address("192.0.2.1", 1)]
    monkeypatch.setattr(names, "PATIENCE", 0.0)
    monkeypatch.setattr(names, "RESOLV_CONF", tmp_path / "another.conf")
    (tmp_path / "another.conf").write_text("nameserver 192.0.2.53\n")
    assert await network.resolve(point) == []  # it was asked, from loopback, in vain
    assert network.warnings() == []
