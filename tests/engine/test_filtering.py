"""The user's IP filter at work: nothing comes from a forbidden address, and nothing goes there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.config import DiskConfig, UtpConfig
from dht_torrent.dht.buckets import Contact
from dht_torrent.engine.filtering import FilteredNetwork, FilterFile, Filtering, ForbiddenError
from dht_torrent.engine.torrent.disk import Disk
from dht_torrent.engine.torrent.torrent import behind
from dht_torrent.errors import InputError, NoReply
from dht_torrent.ids import Address, HostPort, NodeId
from dht_torrent.ip_filter import parse_ip_filter
from tests.helpers.engine import (
    HAND,
    HAVE_ALL,
    LEECH,
    PORT,
    SEED,
    HandSeed,
    World,
    dial,
    greeted,
    listening,
    sample,
)
from tests.helpers.waiting import until

FRIEND = "10.0.0.4"


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """A filter that forbids HAND alone."""
    path = tmp_path / "filter.p2p"
    path.write_text(f"hand:{HAND}-{HAND}\n")
    return path


def rewrite(path: Path, text: str) -> None:
    """As a program does that replaces the file: what is read is always whole."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


async def test_a_forbidden_peer_gets_not_a_word(rules: Path, autojump_clock: MockClock) -> None:
    world = World()
    async with world.seed(sample(), ip_filter=rules) as torrent:
        hand = await dial(world, SEED, HAND)
        with pytest.raises((EOFError, OSError)):
            await hand.hello(torrent.info_hash)
        friend = await greeted(world, torrent, FRIEND)
        await friend.expect(HAVE_ALL)
        status = behind(torrent).core.context.node.filtering.status()
        assert status is not None
        assert (status.ranges, status.blocked) == (1, {"incoming": 1})


@pytest.mark.parametrize("tcp", [True, False])
async def test_a_forbidden_peer_is_not_dialled_and_the_user_is_told_why(
    tcp: bool, rules: Path, autojump_clock: MockClock
) -> None:
    world = World()
    async with (
        listening(world, HAND, HandSeed(sample())) as met,
        world.node(LEECH, ip_filter=rules, tcp=tcp, utp=UtpConfig()) as node,
    ):
        torrent = await node.get(sample().magnet(HAND))
        await trio.sleep(300)
        assert met == []
        assert (world.net.stats.connections, world.net.stats.datagrams) == (0, 0)
        why = torrent.summary().why
        assert why is not None
        assert "the IP filter forbids its address" in why
        status = node.status().ip_filter
        assert status is not None
        assert status.blocked["dials"] >= 1
        assert "datagrams" not in status.blocked


@pytest.mark.parametrize("source", ["dht", "pex x", "lsd", "incoming"])
async def test_a_forbidden_address_that_others_name_is_no_candidate(
    source: str, rules: Path, autojump_clock: MockClock
) -> None:
    world = World()
    async with world.node(LEECH, ip_filter=rules) as node:
        connections = behind(await node.get(sample().magnet())).core.connections
        connections.found([Address(HAND, PORT), Address(FRIEND, PORT)], source)
        assert connections.candidates.source(Address(HAND, PORT)) is None
        assert connections.candidates.source(Address(FRIEND, PORT)) == source


async def test_those_whom_a_changed_filter_forbids_are_disconnected(
    rules: Path, autojump_clock: MockClock
) -> None:
    world = World()
    rewrite(rules, "9.9.9.9\n")
    async with (
        listening(world, FRIEND, HandSeed(sample(), answer=lambda piece, begin, data: None)) as met,
        world.node(LEECH, ip_filter=rules) as node,
    ):
        torrent = await node.get(sample().magnet(FRIEND))
        came = await greeted(world, torrent, HAND, to=LEECH)
        await until(lambda: node.status().connections == 2, "both are connected")
        rewrite(rules, f"{HAND}\n{FRIEND}/32\n")
        began = trio.current_time()
        assert await came.closed() - began <= node.config.ip_filter_check_interval + 1
        await until(lambda: node.status().connections == 0, "nobody is connected")
        status = node.status().ip_filter
        assert status is not None
        assert (status.ranges, status.blocked["closed"]) == (1, 2)  # they touch
        await trio.sleep(600)
        assert len(met) == 1
        rewrite(rules, "9.9.9.9\n")
        await until(lambda: node.status().connections == 1, "it is dialled again", seconds=1200)


async def test_a_connection_that_is_forbidden_before_its_handshake_is_not_taken_in(
    rules: Path, autojump_clock: MockClock
) -> None:
    world = World()
    rewrite(rules, "9.9.9.9\n")
    async with world.seed(sample(), ip_filter=rules, ip_filter_check_interval=1.0) as torrent:
        hand = await dial(world, SEED, HAND)
        rewrite(rules, f"{HAND}\n")
        await trio.sleep(2)
        with contextlib.suppress(EOFError, OSError):
            await hand.hello(torrent.info_hash)
        await trio.sleep(1)
        assert torrent.peers() == []
        assert await hand.closed() < trio.current_time() + 1


async def test_a_broken_file_leaves_the_rules_as_they_were(
    rules: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    async with world.seed(sample(), ip_filter=rules) as torrent:
        node = behind(torrent).core.context.node
        for broken in ("<html>503</html>\n", ""):
            rewrite(rules, broken)
            await trio.sleep(15)
            assert node.filtering.forbids(Address(HAND, 1))
            assert node.filtering.trouble is not None
            assert node.filtering.trouble.startswith(f"the IP filter stays as it was: {rules}: ")
        await trio.Path(rules).unlink()
        await trio.sleep(15)
        assert node.filtering.forbids(Address(HAND, 1))
        assert str(node.filtering.trouble).endswith("No such file or directory")
        assert caplog.text.count("stays as it was") == 1
        rewrite(rules, f"{FRIEND}\n")
        await trio.sleep(15)
        assert node.filtering.trouble is None
        assert node.filtering.forbids(Address(FRIEND, 1))
        assert not node.filtering.forbids(Address(HAND, 1))


async def test_trouble_with_the_file_is_a_warning_of_the_status(
    rules: Path, autojump_clock: MockClock
) -> None:
    async with World().node(SEED, ip_filter=rules) as node:
        assert node.status().warnings == ()
        rewrite(rules, "nonsense\n")
        await trio.sleep(15)
        (warning,) = node.status().warnings
        assert "line 1: 'nonsense'" in warning


@pytest.mark.parametrize("text", [None, "", "nonsense"])
async def test_a_node_whose_filter_cannot_be_read_does_not_start(
    text: str | None, tmp_path: Path, autojump_clock: MockClock
) -> None:
    path = tmp_path / "filter"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=str(path)):
        async with World().node(SEED, ip_filter=path):
            pass


async def test_lines_that_mean_nothing_are_told_in_the_status(
    rules: Path, autojump_clock: MockClock
) -> None:
    rewrite(rules, f"{HAND}\nwhat?\n1.2.3.4-1.2.3\n")
    async with World().node(SEED, ip_filter=rules) as node:
        status = node.status().ip_filter
        assert status is not None
        assert (status.ranges, status.bad_lines) == (1, 2)
        assert status.first_bad == "line 2: 'what?'"


async def test_without_a_filter_the_status_has_none(autojump_clock: MockClock) -> None:
    async with World().node(SEED) as node:
        assert node.status().ip_filter is None


async def test_a_file_being_written_is_read_when_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "filter"
    rewrite(path, "1.2.3.4\n")
    file = FilterFile(path, Disk(DiskConfig(inline=True)), 10.0)
    await file.load()
    rewrite(path, "1.2.3.4\n5.6.7.8")
    facts, sizes = os.fstat, iter([5, 20])

    def growing(descriptor: int) -> os.stat_result:
        found = list(facts(descriptor))
        found[6] = next(sizes)
        return os.stat_result(found)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fstat", growing)
        with pytest.raises(InputError, match="being written"):
            await file.load()
    assert not file.forbids(Address("5.6.7.8", 1))
    assert await file.load()
    assert file.forbids(Address("5.6.7.8", 1))
    assert not await file.load()


# -- the DHT -----------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def three(world: World, rules: Path) -> AsyncIterator[list[list[tuple[str, str]]]]:
    """Nodes of the DHT at SEED, HAND and LEECH, of which the last has a filter. Yields who sent
    datagrams to whom."""
    sent: list[list[tuple[str, str]]] = [[]]
    world.net.tap = lambda source, to, data: sent[0].append((source.host, to.host))
    async with (
        world.node(SEED),
        world.node(HAND, bootstrap=[SEED]),
        world.node(LEECH, bootstrap=[SEED, HAND], ip_filter=rules) as node,
    ):
        await until(lambda: bool(node.dht.contacts()), "there is a contact")
        await trio.sleep(60)
        for _ in range(5):
            for dht in node.dht:
                await dht.find_node(dht.random_id())
        yield sent
        assert HAND not in {contact.address.host for contact in node.dht.contacts()}
        status = node.status().ip_filter
        assert status is not None
        assert status.blocked["datagrams"] > 0


async def test_nothing_is_said_to_a_forbidden_node_of_the_dht(
    rules: Path, autojump_clock: MockClock
) -> None:
    world = World()
    async with three(world, rules) as sent:
        assert (LEECH, HAND) not in sent[0]
        assert (LEECH, SEED) in sent[0]
        assert (HAND, LEECH) in sent[0]  # which was told of it


async def test_contacts_that_a_changed_filter_forbids_are_forgotten(
    rules: Path, autojump_clock: MockClock
) -> None:
    world = World()
    rewrite(rules, "# nothing\n")
    async with (
        world.node(SEED),
        world.node(HAND, bootstrap=[SEED]),
        world.node(LEECH, bootstrap=[SEED, HAND], ip_filter=rules) as node,
    ):

        def known() -> set[str]:
            return {contact.address.host for contact in node.dht.contacts()}

        await until(lambda: known() == {SEED, HAND}, "both are contacts", seconds=600)
        rewrite(rules, f"{HAND}\n")
        await trio.sleep(11)
        assert known() == {SEED}
        sent: list[str] = []
        world.net.tap = lambda source, to, data: (
            sent.append(to.host) if (source.host == LEECH) else None
        )
        await trio.sleep(1800)
        assert HAND not in sent


async def test_a_query_to_a_forbidden_node_ends_at_once(
    rules: Path, autojump_clock: MockClock
) -> None:
    async with World().node(LEECH, ip_filter=rules) as node:
        (dht,) = node.dht
        began = trio.current_time()
        with pytest.raises(NoReply):
            await dht.ping(Address(HAND, PORT))
        assert trio.current_time() == began


async def test_a_contact_that_is_allowed_again_is_pinged_again(
    rules: Path, autojump_clock: MockClock
) -> None:
    """Nothing of the time when it was forbidden is left."""
    world = World()
    async with (
        world.node(SEED),
        world.node(HAND, bootstrap=[SEED]),
        world.node(LEECH, bootstrap=[SEED], ip_filter=rules) as node,
    ):
        (dht,) = node.dht
        await trio.sleep(60)
        contact = Contact(NodeId(b"h" * 20), Address(HAND, PORT), trio.current_time())
        dht._maintenance.probe(contact, trio.current_time())
        rewrite(rules, "9.9.9.9\n")
        await trio.sleep(20)
        heard: list[str] = []
        world.net.tap = lambda source, to, data: heard.append(to.host)
        dht._maintenance.probe(contact, trio.current_time())
        assert HAND in heard


# -- the network ---------------------------------------------------------------------------------


@pytest.fixture
def filtering() -> Filtering:
    found = Filtering()
    found.rules = parse_ip_filter(HAND.encode()).filter
    return found


async def test_datagrams_from_and_to_forbidden_addresses_are_lost(
    filtering: Filtering, autojump_clock: MockClock
) -> None:
    net = World().net
    one = await FilteredNetwork(net.host(LEECH), filtering).open_udp(Address(LEECH, 1))
    hand = await net.host(HAND).open_udp(Address(HAND, 1))
    friend = await net.host(FRIEND).open_udp(Address(FRIEND, 1))
    sockets = {HAND: hand, FRIEND: friend}
    assert not one.send(b"a", hand.address)
    assert one.send(b"b", friend.address)
    assert one.send_all([(b"c", hand.address), (b"d", friend.address)]) == 1
    assert one.send_whole(b"e", hand.address)
    assert one.send_whole(b"f", friend.address)
    assert [data for data, _ in await friend.receive()] == [b"b", b"d", b"f"]
    for name, socket in sockets.items():
        assert socket.send(name.encode(), one.address)
    assert await one.receive() == [(FRIEND.encode(), friend.address)]
    hand.send(b"late", one.address)
    with trio.move_on_after(1) as waited:
        await one.receive()
    assert waited.cancelled_caught
    taken: list[bytes] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.serve, lambda got: taken.extend(data for data, _ in got))
        for name, socket in sockets.items():
            socket.send(name.encode(), one.address)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert taken == [FRIEND.encode()]
    assert filtering.blocked == {"datagrams": 6}
    one.close()
    with pytest.raises(trio.ClosedResourceError):
        await one.receive()


async def test_nobody_comes_from_a_forbidden_address_and_none_is_dialled(
    filtering: Filtering, autojump_clock: MockClock
) -> None:
    net = World().net
    host = FilteredNetwork(net.host(LEECH), filtering)
    listener = await host.listen(Address(LEECH, PORT))
    await net.host(HAND).connect(listener.address)
    await net.host(FRIEND).connect(listener.address)
    assert (await listener.accept()).remote.host == FRIEND
    there = await net.host(HAND).listen(Address(HAND, PORT))
    with pytest.raises(ForbiddenError, match=f"forbids {HAND}"):
        await host.connect(there.address)
    assert filtering.blocked == {"incoming": 1, "dials": 1}
    friend = await net.host(FRIEND).listen(Address(FRIEND, PORT))
    stream = await host.connect(friend.address)
    assert stream.remote == friend.address
    assert await host.resolve(HostPort(HAND, 1)) == [Address(HAND, 1)]
    listener.close()
    with pytest.raises(trio.ClosedResourceError):
        await listener.accept()


async def test_the_group_of_a_multicast_is_nobodys_address(
    filtering: Filtering, autojump_clock: MockClock
) -> None:
    filtering.rules = parse_ip_filter(f"224.0.0.0/3\n{HAND}".encode()).filter
    net = World().net
    lan = net.lan("home", LEECH, FRIEND)
    group = Address("239.192.152.143", 6771)
    here = FilteredNetwork(net.host(LEECH), filtering)
    ours = await here.open_multicast(group, *here.interfaces())
    other = await net.host(FRIEND).open_multicast(group, lan.interface(FRIEND))
    assert ours.send(b"one", group)
    assert ours.send_all([(b"two", group)]) == 0
    assert [data for data, _ in await other.receive()] == [b"one", b"two"]
    assert filtering.blocked == {}


async def test_the_multicast_of_a_forbidden_host_is_not_heard(
    filtering: Filtering, autojump_clock: MockClock
) -> None:
    net = World().net
    lan = net.lan("home", LEECH, HAND, FRIEND)
    group = Address("239.192.152.143", 6771)
    here = FilteredNetwork(net.host(LEECH), filtering)
    ours = await here.open_multicast(group, *here.interfaces())
    for ip in (HAND, FRIEND):
        socket = await net.host(ip).open_multicast(group, lan.interface(ip))
        socket.send(ip.encode(), group)
    heard = await ours.receive()
    assert [data for data, _ in heard] == [FRIEND.encode()]
