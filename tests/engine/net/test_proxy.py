"""A node behind a SOCKS5 proxy: all goes through it, or nowhere."""

from __future__ import annotations

import contextlib
import itertools
import logging
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dht_torrent import Config, Node, open_node
from dht_torrent.config import DhtConfig, DiskConfig, ProxyConfig, UtpConfig
from dht_torrent.config.proxy import parse_proxy
from dht_torrent.dht import krpc
from dht_torrent.engine.dht.node import Dht
from dht_torrent.engine.dht.transactions import MAX_NAMED, ignore
from dht_torrent.engine.net.protocols import DatagramSocket, Stream
from dht_torrent.engine.net.proxy import ProxiedNetwork
from dht_torrent.engine.net.relayed import MAX_EARLY, ProxyDownError, RelayedDatagrams
from dht_torrent.engine.torrent.torrent import behind
from dht_torrent.errors import InputError
from dht_torrent.ids import Address, HostPort
from dht_torrent.storage import MemoryStorage
from tests.helpers.engine import (
    EXTENDED,
    HAND,
    LEECH,
    PORT_MESSAGE,
    SEED,
    Hand,
    HandSeed,
    World,
    content,
    listening,
    sample,
)
from tests.helpers.engine import PORT as PEER
from tests.helpers.fake_proxy import PORT, PROXY, FakeProxy, OnlyTo
from tests.helpers.waiting import until

URL = f"socks5://{PROXY}:{PORT}"
SECRET = "pass word/@:é"
CONFIG = ProxyConfig()


@contextlib.asynccontextmanager
async def proxied(
    world: World, *, only: OnlyTo | None = None, url: str = URL, **changes: Any
) -> AsyncIterator[Node]:
    """A node at LEECH that can reach the proxy alone."""
    only = only or OnlyTo(world.net.host(LEECH))
    config = Config(
        bootstrap=(),
        listen=f"{LEECH}:{PEER}",
        disk=DiskConfig(inline=True),
        encryption="allow",
        lsd=True,
        proxy=url,
    )

    def in_memory(metainfo: Any, path: Any, shared: bool) -> MemoryStorage:
        return world.storage(LEECH, metainfo)

    async with open_node(
        replace(config, **changes),
        network=only,
        open_storage=in_memory,
        rng=random.Random(3),
        trace=world.records,
    ) as node:
        yield node
    assert only.breaches == []


@contextlib.asynccontextmanager
async def network(
    world: World, url: str = URL, host: str = LEECH, **changes: Any
) -> AsyncIterator[tuple[ProxiedNetwork, OnlyTo]]:
    only = OnlyTo(world.net.host(host))
    subject = ProxiedNetwork(
        only, parse_proxy(url), replace(CONFIG, **changes), rng=random.Random(5)
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(subject.run)
        yield subject, only
        nursery.cancel_scope.cancel()
    assert only.breaches == []


async def received(stream: Stream, most: int = 100) -> bytes:
    buffer = memoryview(bytearray(most))
    return bytes(buffer[: await stream.receive_into(buffer)])


async def works(socket: RelayedDatagrams, seconds: float = 300) -> None:
    await until(lambda: socket.trouble is None, "there is an association", seconds=seconds)


# -- a whole node ----------------------------------------------------------------------------------


async def test_a_torrent_comes_through_the_proxy_from_a_peer_of_the_magnet(
    autojump_clock: MockClock,
) -> None:
    world = World()
    proxy = FakeProxy(world.net)
    async with proxy.running(), world.seed(sample()), proxied(world) as node:
        torrent = await node.get(sample().magnet(SEED))
        with trio.fail_after(60):
            await torrent.completed()
        assert content(world.storages[LEECH], len(sample().data)) == sample().data
        assert proxy.connects == [HostPort(SEED, PEER)]
        (peer,) = torrent.peers()
        assert peer.address == f"{SEED}:{PEER}"
        assert node.status().proxy is not None


async def test_a_torrent_comes_through_the_proxy_over_utp(autojump_clock: MockClock) -> None:
    world = World()
    proxy = FakeProxy(world.net)
    async with (
        proxy.running(),
        world.seed(sample(), utp=UtpConfig()),
        proxied(world, tcp=False) as node,
    ):
        torrent = await node.get(sample().magnet(SEED))
        with trio.fail_after(60):
            await torrent.completed()
        assert proxy.connects == []
        (peer,) = torrent.peers()
        assert (peer.address, peer.transport) == (f"{SEED}:{PEER}", "utp")


async def test_where_the_proxy_has_no_udp_no_peer_is_blamed_for_utp(
    autojump_clock: MockClock,
) -> None:
    world = World()
    proxy = FakeProxy(world.net, udp_refusal=7)
    async with (
        proxy.running(),
        world.seed(sample(), utp=UtpConfig()),
        proxied(world, tcp=False) as node,
    ):
        torrent = await node.get(sample().magnet(SEED))
        await trio.sleep(600)
        assert "the proxy does not work" in str(torrent.summary().why)
        proxy.udp_refusal = 0
        with trio.fail_after(2 * CONFIG.max_retry):
            await torrent.completed()


async def test_peers_are_found_in_the_dht_whose_entry_point_is_a_name(
    autojump_clock: MockClock,
) -> None:
    world = World()
    world.net.names["router.example"] = [HAND]
    proxy = FakeProxy(world.net)
    only = OnlyTo(world.net.host(LEECH))
    entry = HostPort("router.example", PEER)
    async with (
        proxy.running(),
        world.node(HAND),
        world.seed(sample(), bootstrap=[HAND]),
        proxied(world, only=only, bootstrap=[entry]) as node,
    ):
        torrent = await node.get(sample().magnet())
        with trio.fail_after(600):
            await torrent.completed()
        assert entry in proxy.names
        status = node.status()
        assert (status.dht.bootstrap_answered, status.dht.bootstrap_total) == (1, 1)
        assert {contact.address.host for contact in node.dht.contacts()} == {HAND, SEED}
        # Not even by its own resolver: the name that it may look up is the proxy's.
        assert {point.host for point in only.resolved} <= {PROXY}
        assert proxy.clients[0].host == LEECH


async def test_nobody_is_told_where_we_would_listen(autojump_clock: MockClock) -> None:
    world = World()
    proxy = FakeProxy(world.net)
    seed = HandSeed(sample(), answer=lambda piece, begin, data: None)
    async with (
        proxy.running(),
        world.node(SEED) as other,
        listening(world, HAND, seed) as hands,
        proxied(world, bootstrap=[HostPort(SEED, PEER)]) as node,
    ):
        torrent = await node.get(sample().magnet(HAND))
        await until(lambda: len(torrent.peers()) == 1, "it is connected")
        await trio.sleep(1200)
        assert other.status().dht.stored_peers == 0
        assert behind(torrent).core.context.port(Address(HAND, 1)) is None
        status = node.status()
        assert status.reachable is False
        assert status.last_announce is None
        assert hands


@pytest.mark.parametrize("hidden", [True, False])
async def test_a_peer_is_told_no_port_of_ours(hidden: bool, autojump_clock: MockClock) -> None:
    world = World()
    told: list[tuple[int, bytes]] = []

    async def listen(hand: Hand) -> None:
        info_hash = sample().metainfo.info_hash
        await hand.hello(info_hash, b"-HW0003-", extended=True, dht=True)
        told.extend(await hand.heard(5))

    async with (
        FakeProxy(world.net).running(),
        listening(world, HAND, listen),
        proxied(world) if hidden else world.node(LEECH) as node,
    ):
        await node.get(sample().magnet(HAND))
        await until(lambda: bool(told), "the peer heard us")
    said = b"".join(payload for kind, payload in told if kind == EXTENDED)
    assert b"11:ut_metadata" in said
    assert (b"1:pi" in said) is not hidden
    assert (PORT_MESSAGE in {kind for kind, _ in told}) is not hidden


async def test_nobody_can_connect_to_us_and_the_local_network_hears_nothing(
    autojump_clock: MockClock,
) -> None:
    world = World()
    world.net.lan("home", LEECH, HAND)
    proxy = FakeProxy(world.net)
    async with proxy.running(), proxied(world) as node:
        assert behind(await node.get(sample().magnet())).core.context.node.lsd is None
        with pytest.raises(ConnectionRefusedError):
            await world.net.host(HAND).connect(Address(LEECH, PEER))


async def test_a_proxy_without_udp_is_told_while_tcp_goes_on(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    proxy = FakeProxy(world.net, udp_refusal=7)
    async with proxy.running(), world.seed(sample()), proxied(world) as node:
        torrent = await node.get(sample().magnet(SEED))
        with trio.fail_after(60):
            await torrent.completed()
        await trio.sleep(600)
        status = node.status().proxy
        assert status is not None
        assert status.server == URL
        assert status.trouble is None
        assert status.udp_trouble == "the proxy refuses UDP: command not supported"
        assert node.status().dht.down == status.udp_trouble
        other = await node.get(f"magnet:?xt=urn:btih:{'cd' * 20}")
        assert other.summary().why == f"DHT: down: {status.udp_trouble}"
        assert caplog.text.count("no UDP, so no DHT") == 1
        proxy.udp_refusal = 0
        await trio.sleep(2 * CONFIG.max_retry)
        again = node.status().proxy
        assert again is not None
        assert again.udp_trouble is None
        assert node.status().dht.down is None


async def test_a_wrong_password_is_one_clear_line(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    proxy = FakeProxy(world.net, password=(b"me", b"right"))
    url = f"socks5://me:wrong@{PROXY}:{PORT}"
    async with proxy.running(), world.seed(sample()), proxied(world, url=url) as node:
        torrent = await node.get(sample().magnet(SEED))
        await trio.sleep(300)
        status = node.status().proxy
        assert status is not None
        assert status.server == URL
        assert status.udp_trouble == "the proxy refuses our user name and password"
        assert status.trouble is not None
        assert "authentication failure" in status.trouble
        assert torrent.summary().why is not None
        assert "the proxy does not work" in str(torrent.summary().why)
        assert proxy.connects == []
        assert "wrong" not in caplog.text + repr(node.status()) + repr(node.config)
        assert len([one for one in caplog.records if one.levelno >= logging.WARNING]) == 2
        proxy.password = (b"me", b"wrong")
        with trio.fail_after(30):
            await torrent.completed()


async def test_a_password_is_said_as_it_was_meant(autojump_clock: MockClock) -> None:
    world = World()
    proxy = FakeProxy(world.net, password=(b"m e", b"p:@/%"))
    url = f"socks5://m%20e:p:%40%2F%25@{PROXY}:{PORT}"
    async with proxy.running(), world.seed(sample()), proxied(world, url=url) as node:
        torrent = await node.get(sample().magnet(SEED))
        with trio.fail_after(60):
            await torrent.completed()
        await until(lambda: bool(proxy.controls), "there is an association")


async def test_a_proxy_that_goes_and_comes_back_is_told_and_all_goes_on(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    world = World()
    proxy = FakeProxy(world.net)
    async with (
        world.node(HAND),
        world.seed(sample(4 << 20), bootstrap=[HAND], limit_up=100_000),
        proxied(world, bootstrap=[HostPort(HAND, PEER)]) as node,
    ):
        torrent = await node.get(sample(4 << 20).magnet(SEED))
        async with proxy.running():
            await until(lambda: bool(node.dht.contacts()), "there is a DHT")
            await until(lambda: len(torrent.peers()) == 1, "it is connected")
        began = trio.current_time()
        await until(lambda: torrent.peers() == [], "it is disconnected")
        await trio.sleep(1800)
        assert torrent.peers() == []
        status = node.status().proxy
        assert status is not None
        assert status.trouble == "the proxy cannot be reached: Connection refused"
        assert status.udp_trouble == status.trouble
        assert caplog.text.count("the proxy cannot be reached") == 2  # TCP, and UDP
        async with proxy.running():
            await until(lambda: len(torrent.peers()) == 1, "it is connected again", seconds=15)
            await until(lambda: bool(proxy.controls), "UDP works again", seconds=80)
            now = node.status().proxy
            assert now is not None
            assert (now.trouble, now.udp_trouble) == (None, None)
            replies = node.status().dht.replies_in
            await until(lambda: node.status().dht.replies_in > replies, "the DHT", seconds=80)
            with trio.fail_after(600):
                await torrent.completed()
        assert "the proxy answers again" in caplog.text
        assert "UDP works again" in caplog.text
        assert trio.current_time() > began


async def test_no_peer_is_given_up_for_the_proxys_sake(autojump_clock: MockClock) -> None:
    """What others name is dialled three times in vain, and then forgotten."""
    world = World()
    async with world.seed(sample()), proxied(world) as node:
        torrent = await node.get(sample().magnet())
        behind(torrent).core.connections.found([Address(SEED, PEER)], "dht")
        await trio.sleep(3600)
        async with FakeProxy(world.net).running():
            with trio.fail_after(20):
                await torrent.completed()


async def test_what_of_the_proxys_url_is_wrong_is_told_before_anything_opens() -> None:
    with pytest.raises(InputError, match="expected socks5://"):
        async with open_node(Config(proxy="http://127.0.0.1:1", bootstrap=())):
            pass


# -- TCP -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mute", [True, False])
async def test_a_proxy_that_does_not_answer_is_the_one_that_is_blamed(
    mute: bool, autojump_clock: MockClock
) -> None:
    """Not the peer, whom one more try would cost."""
    world = World()
    proxy = FakeProxy(world.net, mute=mute)
    async with world.seed(sample()), proxied(world) as node:
        torrent = await node.get(sample().magnet(SEED))
        if not mute:
            world.net.host(PROXY).is_down = True
        async with proxy.running() if mute else contextlib.AsyncExitStack():
            await trio.sleep(300)
            why = str(torrent.summary().why)
            status = node.status().proxy
            assert status is not None
            assert status.udp_trouble is not None
            if not mute:
                assert "the proxy does not work" in why
                assert status.trouble == "the proxy cannot be reached: no answer in 10 seconds"


async def test_a_proxy_that_failed_is_left_alone_for_a_moment(autojump_clock: MockClock) -> None:
    """Or all the peers of all torrents would be dialled in vain, each with a connection to it."""
    world = World()
    world.net.host(PROXY)
    tries = 0
    async with network(world) as (subject, only):
        whole = only.connect

        async def counted(to: Address, *, local: Address | None = None) -> Stream:
            nonlocal tries
            tries += 1
            return await whole(to, local=local)

        only.connect = counted  # type: ignore[method-assign]
        for expected in range(1, 4):
            for _ in range(100):
                with pytest.raises(ProxyDownError, match="Connection refused"):
                    await subject.connect(Address(SEED, PEER))
            assert tries == expected
            await trio.sleep(CONFIG.first_retry)
        listener = await world.net.host(SEED).listen(Address(SEED, PEER))
        async with FakeProxy(world.net).running():
            for _ in range(3):
                await subject.connect(Address(SEED, PEER))
                await listener.accept()
        assert tries == 6


@pytest.mark.parametrize(
    ("to", "error"),
    [(Address(HAND, 9), ConnectionRefusedError), (Address("10.77.0.1", 9), OSError)],
)
async def test_a_peer_that_cannot_be_reached_is_not_the_proxys_trouble(
    to: Address, error: type[OSError], autojump_clock: MockClock
) -> None:
    world = World()
    world.net.host(HAND)
    async with FakeProxy(world.net).running(), network(world) as (subject, _):
        with pytest.raises(error, match="said the proxy") as caught:
            await subject.connect(to)
        assert not isinstance(caught.value, ProxyDownError)
        assert subject.status().trouble is None


@pytest.mark.parametrize(
    "answers",
    [
        b"",
        b"\x04\0",
        b"\x05\xff",
        b"\x05\x02",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x05\0\x05\0\0\x02" + bytes(6),
        b"\x05\0\x04\0\0\x01" + bytes(6),
        b"\x05\0\x05\x99\0\x01" + bytes(6),
    ],
)
async def test_a_liar_gets_no_further(answers: bytes, autojump_clock: MockClock) -> None:
    world = World()
    listener = await world.net.host(PROXY).listen(Address(PROXY, PORT))

    async def lie(nursery: trio.Nursery) -> None:
        while True:
            stream = await listener.accept()
            if answers:
                await stream.send(answers)
            nursery.start_soon(_hang_up_soon, stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lie, nursery)
        async with network(world) as (subject, _):
            socket = await subject.open_udp(Address(LEECH, 1))
            with pytest.raises(ProxyDownError):
                await subject.connect(Address(SEED, PEER))
            assert subject.status().trouble is not None
            await trio.sleep(30)
            assert socket.trouble is not None
            assert not socket.send(b"data", Address(HAND, 1))
        assert not world.net.host(LEECH).streams
        nursery.cancel_scope.cancel()


async def _hang_up_soon(stream: Stream) -> None:
    await trio.sleep(1)
    stream.close()


async def test_a_proxied_stream_is_a_stream(autojump_clock: MockClock) -> None:
    world = World()
    listener = await world.net.host(SEED).listen(Address(SEED, PEER))
    async with FakeProxy(world.net).running(), network(world) as (subject, _):
        stream = await subject.connect(Address(SEED, PEER))
        other = await listener.accept()
        assert stream.remote == Address(SEED, PEER)
        assert stream.local.host == LEECH
        assert other.remote.host == PROXY
        assert (stream.encryption, stream.transport) == (None, "tcp")
        await stream.send(b"to ", b"them")
        await trio.sleep(1)
        assert await received(other) == b"to them"
        await other.send(b"to us")
        assert await received(stream) == b"to us"
        stream.close()
        assert await received(other) == b""


async def test_a_cancelled_connection_leaves_nothing_open(autojump_clock: MockClock) -> None:
    world = World()
    async with FakeProxy(world.net, mute=True).running(), network(world) as (subject, _):
        with trio.move_on_after(5) as scope:
            await subject.connect(Address(SEED, PEER))
        assert scope.cancelled_caught
        await trio.sleep(1)
        assert not world.net.host(LEECH).streams


async def test_the_proxys_own_name_is_looked_up_again_when_it_does_not_answer(
    autojump_clock: MockClock,
) -> None:
    world = World()
    world.net.names["proxy.example"] = ["10.9.0.9"]
    listener = await world.net.host(SEED).listen(Address(SEED, PEER))
    only = OnlyTo(world.net.host(LEECH))
    subject = ProxiedNetwork(
        only, parse_proxy("socks5://proxy.example"), CONFIG, rng=random.Random(1)
    )
    world.net.host("10.9.0.9")
    async with FakeProxy(world.net).running():
        with pytest.raises(ProxyDownError):
            await subject.connect(Address(SEED, PEER))
        world.net.names["proxy.example"] = [PROXY]
        await trio.sleep(CONFIG.first_retry)
        for _ in range(2):
            await subject.connect(Address(SEED, PEER))
            await listener.accept()
        assert only.resolved == 2 * [HostPort("proxy.example", PORT)]
        assert await subject.resolve(HostPort("router.example", 1)) == []
        assert await subject.resolve(HostPort("1.2.3.4", 1)) == [Address("1.2.3.4", 1)]
        assert await subject.resolve(HostPort("2001:db8::1", 1)) == [Address("2001:db8::1", 1)]
        assert "router.example" not in {point.host for point in only.resolved}
    with pytest.raises(ProxyDownError, match="Connection refused"):
        await subject.connect(Address(SEED, PEER))
    world.net.names["proxy.example"] = []
    await trio.sleep(CONFIG.first_retry)
    with pytest.raises(ProxyDownError, match="its name has no address"):
        await subject.connect(Address(SEED, PEER))


async def test_nothing_else_of_the_network_is_there(autojump_clock: MockClock) -> None:
    world = World()
    world.net.lan("home", LEECH)
    (home,) = world.net.host(LEECH).interfaces()
    async with network(world) as (subject, _):
        assert subject.interfaces() == []
        with pytest.raises(OSError, match="no multicast"):
            await subject.open_multicast(Address("239.192.152.143", 6771), home)
        listener = await subject.listen(Address(LEECH, 77))
        assert listener.address == Address(LEECH, 77)
        with trio.move_on_after(3600) as scope:
            await listener.accept()
        assert scope.cancelled_caught
        listener.close()
        with pytest.raises(trio.ClosedResourceError):
            await listener.accept()


# -- UDP -------------------------------------------------------------------------------------------


async def pair(world: World, subject: ProxiedNetwork) -> tuple[RelayedDatagrams, DatagramSocket]:
    """Ours, which works, and one of another host."""
    socket = await subject.open_udp(Address(LEECH, 1))
    await works(socket)
    return socket, await world.net.host(HAND).open_udp(Address(HAND, 1))


async def test_datagrams_go_through_the_proxy_and_back(autojump_clock: MockClock) -> None:
    world = World()
    async with FakeProxy(world.net).running(), network(world) as (subject, _):
        socket, other = await pair(world, subject)
        assert socket.address == Address(LEECH, 1)
        assert socket.send(b"one", other.address)
        assert socket.send_all([(b"two", other.address), (b"three", other.address)]) == 0
        assert socket.send_whole(b"four", other.address)
        got = await other.receive()
        assert [data for data, _ in got] == [b"one", b"two", b"three", b"four"]
        (source,) = {source for _, source in got}
        assert source.host == PROXY
        other.send(b"back", source)
        assert await socket.receive() == [(b"back", other.address)]
        taken: list[tuple[bytes, Address]] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(socket.serve, taken.extend)
            other.send(b"again", source)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
        assert taken == [(b"again", other.address)]
        assert (socket.errors, socket.dropped) == (0, 0)


async def test_what_is_sent_before_the_proxy_answers_waits_for_it(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with FakeProxy(world.net).running(), network(world) as (subject, _):
        socket = await subject.open_udp(Address(LEECH, 1))
        other = await world.net.host(HAND).open_udp(Address(HAND, 1))
        sent = [str(number).encode() for number in range(MAX_EARLY + 2)]
        assert socket.send(sent[0], other.address)
        rest = [(data, other.address) for data in sent[1:]]
        assert socket.send_all(rest) == socket.errors == 2
        await works(socket)
        assert [data for data, _ in await other.receive()] == sent[:MAX_EARLY]


async def test_what_waited_for_a_proxy_that_refuses_is_lost(autojump_clock: MockClock) -> None:
    world = World()
    proxy = FakeProxy(world.net, udp_refusal=7)
    async with proxy.running(), network(world) as (subject, _):
        socket = await subject.open_udp(Address(LEECH, 1))
        other = await world.net.host(HAND).open_udp(Address(HAND, 1))
        assert socket.send(b"early", other.address)
        await socket.tried.wait()
        assert socket.errors == 1
        proxy.udp_refusal = 0
        await works(socket)
        socket.send(b"now", other.address)
        assert [data for data, _ in await other.receive()] == [b"now"]


async def test_the_dht_is_entered_at_once(autojump_clock: MockClock) -> None:
    world = World()
    world.net.names["router.example"] = [HAND]
    entry = [HostPort("router.example", PEER)]
    async with (
        FakeProxy(world.net).running(),
        world.node(HAND),
        proxied(world, bootstrap=entry) as node,
    ):
        with trio.fail_after(1):
            await node.dht.bootstrapped()


async def test_the_dht_is_entered_as_soon_as_the_proxy_is_back(autojump_clock: MockClock) -> None:
    """Also when it was away for so long that no contact is good any more."""
    world = World()
    world.net.names["router.example"] = [HAND]
    entry = [HostPort("router.example", PEER)]
    proxy = FakeProxy(world.net)
    async with world.node(HAND), proxied(world, bootstrap=entry) as node:
        for away in (100, 3600):
            await trio.sleep(away)
            replies = node.status().dht.replies_in
            async with proxy.running():
                await until(lambda: bool(proxy.controls), "UDP works", seconds=90)
                await trio.sleep(1)
                assert node.status().dht.replies_in > replies


async def test_without_an_association_nothing_leaves(autojump_clock: MockClock) -> None:
    world = World()
    async with network(world) as (subject, _):
        socket = await subject.open_udp(Address(LEECH, 1))
        await socket.tried.wait()
        to = Address(HAND, 1)
        assert not socket.send(b"x", to)
        assert not socket.send_to_name(b"x", HostPort("router.example", 1))
        assert socket.send_all([(b"x", to), (b"y", to)]) == 2
        assert socket.send_whole(b"x", to)
        assert socket.errors == 5
        assert world.net.stats.datagrams == 0


@pytest.mark.parametrize("to", [Address("2001:db8::1", 1), Address(HAND, 0), Address(HAND, 65536)])
async def test_what_no_socket_could_send_is_not_sent(
    to: Address, autojump_clock: MockClock
) -> None:
    world = World()
    async with FakeProxy(world.net).running(), network(world) as (subject, _):
        socket, other = await pair(world, subject)
        assert not socket.send(b"x", to)
        assert socket.send_all([(b"x", to), (b"y", other.address)]) == 1
        assert socket.send_whole(b"x", to)
        assert not socket.send_to_name(b"x", HostPort("a..b", 1))
        assert not socket.send_to_name(b"x", HostPort("router.example", 0))
        assert socket.errors == 5
        assert [data for data, _ in await other.receive()] == [b"y"]


async def test_only_the_proxys_relay_is_heard(autojump_clock: MockClock) -> None:
    world = World()
    proxy = FakeProxy(world.net)
    async with proxy.running(), network(world) as (subject, _):
        socket, other = await pair(world, subject)
        socket.send(b"x", other.address)
        ((_, source),) = await other.receive()
        (ours,) = proxy.clients
        (relay,) = proxy.controls.values()
        header = b"\0\0\0\x01" + other.address.compact()
        elsewhere = await world.net.host(PROXY).open_udp(Address(PROXY, 0))
        elsewhere.send(header + b"another port of the proxy", ours)
        other.send(header + b"another host", ours)
        for bad in (
            b"",
            b"\0\0\x01\x01" + other.address.compact() + b"a fragment",
            b"\0\x01\0\x01" + other.address.compact() + b"reserved",
            b"\0\0\0\x03\x01a\0\x01from a name",
            b"\0\0\0\x04" + bytes(16) + b"\0\x01of the other family",
            b"\0\0\0\x01\x01\x02",
        ):
            relay.send(bad, ours)
        await trio.sleep(1)
        other.send(b"right", source)
        assert await socket.receive() == [(b"right", other.address)]
        assert socket.dropped == 8


async def test_a_relay_beside_the_proxy_is_not_used(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    world = World()
    for said in ("0.0.0.0", "10.77.0.1", "::", "2001:db8::1"):
        proxy = FakeProxy(world.net, relay_host=said)
        async with proxy.running(), network(world) as (subject, _):
            socket = await subject.open_udp(Address(LEECH, 1))
            await works(socket)
            other = await world.net.host(HAND).open_udp(Address(HAND, 1))
            socket.send(b"x", other.address)
            assert await other.receive()
            other.close()
    assert caplog.text.count("is said to be at") == 2


async def test_an_association_is_renewed_when_the_proxy_ends_it(autojump_clock: MockClock) -> None:
    world = World()
    proxy = FakeProxy(world.net)
    async with proxy.running(), network(world) as (subject, _):
        socket, other = await pair(world, subject)
        for _ in range(3):
            await trio.sleep(CONFIG.max_retry)
            proxy.end_associations()
            await until(lambda: socket.trouble is not None, "it is noticed", seconds=1)
            assert socket.trouble == "the proxy ended the UDP association"
            await works(socket, 2)
            socket.send(b"x", other.address)
            ((_, source),) = await other.receive()
            other.send(b"y", source)
            assert await socket.receive() == [(b"y", other.address)]


async def test_the_pause_before_the_next_try_doubles_up_to_a_minute(
    autojump_clock: MockClock,
) -> None:
    world = World()
    tries: list[float] = []
    world.net.host(PROXY)
    async with network(world) as (subject, only):
        whole = only.connect

        async def counted(to: Address, *, local: Address | None = None) -> Stream:
            tries.append(trio.current_time())
            return await whole(to, local=local)

        only.connect = counted  # type: ignore[method-assign]
        await subject.open_udp(Address(LEECH, 1))
        await trio.sleep(3600)
    pauses = [after - before for before, after in itertools.pairwise(tries)]
    for number, pause in enumerate(pauses):
        expected = min(2.0**number, 60.0)
        assert 0.75 * expected <= pause <= 1.25 * expected
    assert 60 <= len(tries) <= 90


async def test_a_proxy_that_ends_each_association_at_once_is_asked_ever_less(
    autojump_clock: MockClock,
) -> None:
    world = World()
    proxy = FakeProxy(world.net)
    begun = 0
    async with proxy.running(), network(world) as (subject, _):
        await subject.open_udp(Address(LEECH, 1))
        with trio.move_on_after(3600):
            while True:
                if proxy.controls:
                    begun += 1
                    proxy.end_associations()
                await trio.sleep(0.1)
    assert 50 <= begun <= 90


async def test_an_association_through_which_nothing_comes_is_renewed(
    autojump_clock: MockClock,
) -> None:
    world = World()
    proxy = FakeProxy(world.net)
    async with proxy.running(), network(world) as (subject, _):
        socket, other = await pair(world, subject)
        first = set(proxy.controls)
        proxy.deaf = True
        for _ in range(CONFIG.silent_sends):
            socket.send(b"x", other.address)
        await trio.sleep(CONFIG.silence - 1)
        assert set(proxy.controls) == first
        await trio.sleep(CONFIG.silence / 3 + 4)
        assert set(proxy.controls) != first
        assert len(proxy.controls) == 1


async def test_an_association_that_is_not_used_is_left_alone(autojump_clock: MockClock) -> None:
    world = World()
    proxy = FakeProxy(world.net)
    async with proxy.running(), network(world) as (subject, _):
        socket, other = await pair(world, subject)
        first = set(proxy.controls)
        for _ in range(CONFIG.silent_sends - 1):
            socket.send(b"x", other.address)
        await trio.sleep(10 * CONFIG.silence)
        assert set(proxy.controls) == first


async def test_an_association_that_answers_is_left_alone(autojump_clock: MockClock) -> None:
    world = World()
    proxy = FakeProxy(world.net)
    async with proxy.running(), network(world) as (subject, _):
        socket, other = await pair(world, subject)
        first = set(proxy.controls)
        for _ in range(30):
            for _ in range(CONFIG.silent_sends):
                socket.send(b"x", other.address)
            _, source = (await other.receive())[0]
            other.send(b"y", source)
            await socket.receive()
            await trio.sleep(CONFIG.silence / 2)
        assert set(proxy.controls) == first


async def test_closing_ends_the_association_and_wakes_the_receiver(
    autojump_clock: MockClock,
) -> None:
    world = World()
    proxy = FakeProxy(world.net)
    async with proxy.running(), network(world) as (subject, _):
        socket, _ = await pair(world, subject)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def waits() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await socket.receive()

            await trio.sleep(1)
            socket.close()
            socket.close()
        await trio.sleep(1)
        assert proxy.controls == {}
        assert not world.net.host(LEECH).streams
        unused = await subject.open_udp(Address(LEECH, 2))
        unused.close()
        with pytest.raises(trio.ClosedResourceError):
            await unused.receive()


async def test_a_receiver_waits_through_associations_that_end(autojump_clock: MockClock) -> None:
    world = World()
    proxy = FakeProxy(world.net)
    async with network(world) as (subject, _):
        socket = await subject.open_udp(Address(LEECH, 1))
        other = await world.net.host(HAND).open_udp(Address(HAND, 1))
        got: list[bytes] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(socket.serve, lambda some: got.extend(data for data, _ in some))
            for number in range(2):
                async with proxy.running():
                    await works(socket)
                    socket.send(b"x", other.address)
                    ((_, source),) = await other.receive()
                    other.send(str(number).encode(), source)
                    await until(lambda: len(got) > number, "it came")  # noqa: B023
                await until(lambda: socket.trouble is not None, "the proxy is gone")
            nursery.cancel_scope.cancel()
        assert got == [b"0", b"1"]


# -- a name is asked -------------------------------------------------------------------------------


async def test_only_so_many_names_are_asked_at_once(autojump_clock: MockClock) -> None:
    """And each for as long as any query."""
    world = World()
    sent: list[bytes] = []

    def send(data: bytes, to: HostPort) -> bool:
        sent.append(data)
        return True

    dht = Dht(
        world.net.host(LEECH),
        Address(LEECH, 1),
        DhtConfig(),
        rng=random.Random(1),
        send_to_name=send,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(dht.run)
        transactions = dht._core.transactions
        point = HostPort("router.example", 1)

        def ask() -> bool:
            now = trio.current_time()
            return transactions.try_send_to_name(point, b"ping", {}, ignore, now)

        assert [ask() for _ in range(MAX_NAMED + 1)] == [True] * MAX_NAMED + [False]
        assert len(set(sent)) == len(sent) == MAX_NAMED
        for one in sent:  # only its transaction id proves an answer: eight bytes that none guesses
            message = krpc.decode(one)
            assert isinstance(message, krpc.Query)
            assert len(message.tid) == 8
        await trio.sleep(DhtConfig().hard_timeout + 1)
        assert len(transactions) == 0
        assert ask()
        nursery.cancel_scope.cancel()
    assert not ask()
