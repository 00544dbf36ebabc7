"""SSL torrents on the fake network: who is let in, and what strangers learn."""

from __future__ import annotations

import contextlib
import ssl
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.config import EncryptionPolicy, UtpConfig
from dht_torrent.engine.net.tls import Identity, TlsStream
from dht_torrent.engine.torrent.torrent import Torrent, behind
from dht_torrent.errors import InputError, MetainfoError
from dht_torrent.ids import Address, HostPort
from dht_torrent.trace import PeerConnected
from tests.helpers.engine import (
    EXTENDED,
    HAND,
    LEECH,
    PORT,
    SEED,
    Hand,
    HandSeed,
    World,
    content,
    dial,
    entered,
    sample,
)
from tests.helpers.members import Swarm, stranger, swarm
from tests.helpers.raw_mse import RC4, Dialler, Sealed

TLS_PORT = 6882
ROUTER = "10.0.0.9"


@pytest.fixture
def one(tmp_path: Path) -> Swarm:
    return swarm(tmp_path)


def member(one: Swarm, name: str, **changes: Any) -> dict[str, Any]:
    identity = one.member(name, **changes)
    return {"tls_cert": identity.certificate, "tls_key": identity.key}


@contextlib.asynccontextmanager
async def seeding(
    world: World, one: Swarm, ip: str = SEED, **changes: Any
) -> AsyncIterator[Torrent]:
    world.storage(ip, one.metainfo).write(0, one.sample.data)
    async with world.node(ip, tls_listen=f"{ip}:{TLS_PORT}", **changes) as node:
        torrent = await node.get(one.metainfo, **member(one, "seed"))
        with trio.fail_after(5):
            await torrent.completed()
        yield torrent


def magnet(one: Swarm, *hosts: str, port: int = TLS_PORT) -> str:
    peers = "".join(f"&x.pe={host}:{port}" for host in hosts)
    return f"magnet:?xt=urn:btih:{one.metainfo.info_hash.hex()}{peers}"


async def test_a_bare_magnet_becomes_a_seed_by_tls_alone(
    one: Swarm, autojump_clock: MockClock
) -> None:
    world = World()
    async with seeding(world, one) as seed, world.node(LEECH) as node:
        torrent = await node.get(magnet(one, SEED), **member(one, "leech"))
        with trio.fail_after(10):
            await torrent.completed()
        assert content(world.storages[LEECH], len(one.sample.data)) == one.sample.data
        assert [peer.encryption for peer in seed.peers()] == ["tls"]
        assert [peer.encryption for peer in torrent.peers()] == ["tls"]


async def test_its_members_are_not_introduced_to_each_other_over_utp(
    one: Swarm, autojump_clock: MockClock
) -> None:
    """uTP has no TLS here (BEP 55 is for uTP alone)."""
    utp: dict[str, Any] = {"utp": UtpConfig()}
    world = World()
    async with seeding(world, one, **utp) as seed, world.node(LEECH, **utp) as node:
        torrent = await node.get(magnet(one, SEED), **member(one, "leech"))
        with trio.fail_after(10):
            await torrent.completed()
        for either in (seed, torrent):
            (peer,) = behind(either).core.connections.peers.values()
            assert peer.connection.supports("ut_metadata")
            assert not peer.connection.supports("ut_holepunch")
            assert not behind(either).core.context.relays


# -- strangers ------------------------------------------------------------------------------------


def context(identity: Identity | None, *, server: bool = False) -> ssl.SSLContext:
    """Somebody who verifies nobody."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    if identity is not None:
        made.load_cert_chain(identity.certificate, identity.key)
    return made


async def knock(
    world: World, name: str | None, made: ssl.SSLContext, *, port: int = TLS_PORT
) -> Hand:
    """A TLS connection to the seed, as far as it goes. Raises OSError."""
    stream = await world.net.host(HAND).connect(Address(SEED, port))
    try:
        tls = TlsStream(stream, made, server_name=name or "none")
        if name is None:
            tls._tls = made.wrap_bio(tls._incoming, tls._outgoing)  # no server name at all
        await tls.handshake()
        return Hand(tls)
    except BaseException:
        stream.close()
        raise


async def hears(hand: Hand, info_hash: bytes) -> bytes:
    """What is said to this handshake until the other side hangs up, or for a minute."""
    heard = b""
    buffer = memoryview(bytearray(4096))
    with contextlib.suppress(OSError), trio.move_on_after(60):
        await hand.raw(b"\x13BitTorrent protocol" + bytes(8) + info_hash + b"-HW0001-by-hand-----")
        while size := await hand.stream.receive_into(buffer):
            heard += buffer[:size]
    hand.stream.close()
    return heard


Strange = Callable[[Swarm], Identity | None]
STRANGERS: dict[str, Strange] = {
    "without a certificate": lambda one: None,
    "of another authority": lambda one: stranger(one.folder),
    "expired": lambda one: one.member("late", days=1, age=3),
    "not valid yet": lambda one: one.member("early", age=-3),
    "of another torrent": lambda one: one.member("other", torrent="other.bin"),
    "of a torrent whose name begins alike": lambda one: one.member("alike", torrent="film"),
}


@pytest.mark.parametrize("who", STRANGERS)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_strangers_hear_not_a_byte_of_the_torrent(
    one: Swarm, who: str, version: ssl.TLSVersion, autojump_clock: MockClock
) -> None:
    world = World()
    made = context(STRANGERS[who](one))
    made.minimum_version = made.maximum_version = version
    async with seeding(world, one) as seed:
        with contextlib.suppress(OSError):  # with TLS 1.3 a client learns it later
            hand = await knock(world, seed.id, made)
            assert await hears(hand, seed.info_hash) == b""
        await trio.sleep(1)
        assert seed.peers() == []
        assert world.records.of(PeerConnected) == []


async def test_a_member_by_hand_is_served(one: Swarm, autojump_clock: MockClock) -> None:
    """The same as strangers do, so that they are not refused for another reason."""
    world = World()
    async with seeding(world, one, encryption="prefer") as seed:
        hand = await knock(world, seed.id, context(one.member("by hand")))
        await hand.hello(seed.info_hash, extended=True)
        said = await hand.expect(EXTENDED)
        assert b"1:ei1e" not in said  # that would be MSE
        assert b"1:pi%de" % TLS_PORT in said
        assert b"%d" % PORT not in said
        assert b"13:metadata_sizei%de" % len(one.sample.info) in said


@pytest.mark.parametrize("name", [None, "example.org", "00" * 20])
async def test_a_server_name_that_is_not_an_ssl_torrent_here_gets_no_answer(
    one: Swarm, name: str | None, autojump_clock: MockClock
) -> None:
    world = World()
    async with seeding(world, one):
        with pytest.raises(ConnectionResetError, match="closed during the TLS handshake"):
            await knock(world, name, context(one.member("hand")))


async def test_a_plain_torrent_is_not_served_at_the_port_for_tls(
    one: Swarm, autojump_clock: MockClock
) -> None:
    world, plain = World(), sample(seed=3)
    async with world.node(SEED, tls_listen=f"{SEED}:{TLS_PORT}") as node:
        await node.get(plain.metainfo)
        with pytest.raises(ConnectionResetError):
            await knock(world, plain.metainfo.info_hash.hex(), context(one.member("hand")))


async def test_a_member_may_not_ask_for_another_torrent_than_its_own(
    one: Swarm, autojump_clock: MockClock
) -> None:
    world, plain = World(), sample(seed=3)
    world.storage(SEED, plain.metainfo).write(0, plain.data)
    async with world.node(SEED, tls_listen=f"{SEED}:{TLS_PORT}") as node:
        mine = await node.get(one.metainfo, **member(one, "seed"))
        await (await node.get(plain.metainfo)).completed()
        hand = await knock(world, mine.id, context(one.member("hand")))
        assert await hears(hand, plain.metainfo.info_hash) == b""
        hand = await dial(world, SEED)  # where it is served
        heard = await hears(hand, plain.metainfo.info_hash)
        assert heard[28:48] == plain.metainfo.info_hash


async def test_without_tls_an_ssl_torrent_looks_like_one_that_is_not_here(
    one: Swarm, autojump_clock: MockClock
) -> None:
    world = World()
    async with seeding(world, one) as seed:
        took = []
        for info_hash in (seed.info_hash, bytes(20)):
            began = trio.current_time()
            assert await hears(await dial(world, SEED), info_hash) == b""
            took.append(trio.current_time() - began)
        assert took[0] == took[1] < 1
        stream = await world.net.host(HAND).connect(Address(SEED, TLS_PORT))
        assert await hears(Hand(stream), seed.info_hash) == b""
        with pytest.raises(OSError):
            await knock(world, seed.id, context(one.member("hand")), port=PORT)


async def test_mse_names_no_ssl_torrent(one: Swarm, autojump_clock: MockClock) -> None:
    world = World()
    async with seeding(world, one) as seed:
        for port, info_hash in ((PORT, seed.info_hash), (PORT, bytes(20)), (TLS_PORT, bytes(20))):
            stream = await world.net.host(HAND).connect(Address(SEED, port))
            with pytest.raises((EOFError, OSError, trio.TooSlowError)), trio.fail_after(60):
                await Sealed(stream).shake_hands(Dialler(info_hash, offers=RC4))
            stream.close()
        assert seed.peers() == []


async def test_a_peer_that_names_it_in_an_mse_handshake_waits_as_for_any_other(
    one: Swarm, autojump_clock: MockClock
) -> None:
    world = World()
    async with seeding(world, one, encryption="prefer") as seed:
        took = []
        for info_hash in (seed.info_hash, bytes(20)):
            hand, side = await dial(world, SEED), Dialler(info_hash)
            began = trio.current_time()
            await hand.raw(side.first())
            await hand.raw(side.second(await hand._exactly(96)))
            await trio.sleep(1)
            before = len(hand._buffer)  # padding
            with pytest.raises(EOFError):
                await hand._exactly(1 << 16)
            assert len(hand._buffer) - before <= 512
            took.append(trio.current_time() - began)
        assert took[0] == pytest.approx(took[1])


@pytest.mark.parametrize("policy", ["prefer", "require", "allow", "off"])
async def test_tls_does_not_depend_on_the_policy_for_other_torrents(
    one: Swarm, policy: EncryptionPolicy, autojump_clock: MockClock
) -> None:
    world = World()
    async with (
        seeding(world, one, encryption=policy),
        world.node(LEECH, encryption=policy) as node,
    ):
        torrent = await node.get(magnet(one, SEED), **member(one, "leech"))
        with trio.fail_after(10):
            await torrent.completed()
        assert {peer.encryption for peer in torrent.peers()} == {"tls"}


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01", b"\x16\x03\x01\x40\0"])
async def test_a_peer_that_does_not_finish_is_hung_up_on(
    one: Swarm, said: bytes, autojump_clock: MockClock
) -> None:
    world = World()
    async with seeding(world, one):
        stream = await world.net.host(HAND).connect(Address(SEED, TLS_PORT))
        began = trio.current_time()
        if said:
            await stream.send(said)
        assert await stream.receive_into(memoryview(bytearray(9))) == 0
        assert trio.current_time() - began == pytest.approx(10, abs=0.1)


async def test_half_open_connections_are_bounded_together_with_plain_ones(
    one: Swarm, autojump_clock: MockClock
) -> None:
    world = World()
    async with seeding(world, one, max_pending_per_host=2) as seed:
        streams = [
            await world.net.host(HAND).connect(Address(SEED, port))
            for port in (TLS_PORT, PORT, TLS_PORT)
        ]
        await trio.lowlevel.checkpoint()
        with trio.fail_after(1):
            assert await streams[0].receive_into(memoryview(bytearray(9))) == 0
        hand = await knock(world, seed.id, context(one.member("hand")))
        with trio.fail_after(1):
            await hand.hello(seed.info_hash)


# -- those we dial --------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def answering(
    world: World, made: ssl.SSLContext, handle: Callable[[Hand], Awaitable[None]]
) -> AsyncIterator[list[str]]:
    """A TLS server at HAND. Yields what became of each connection."""
    listener = await world.net.host(HAND).listen(Address(HAND, TLS_PORT))
    ended: list[str] = []

    async def one(stream: Any) -> None:
        tls = TlsStream(stream, made)
        try:
            await tls.handshake()
            await handle(Hand(tls))
        except (EOFError, OSError) as error:
            ended.append(repr(error))
        finally:
            tls.close()

    async def accept(nursery: trio.Nursery) -> None:
        while True:
            nursery.start_soon(one, await listener.accept())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept, nursery)
        yield ended
        nursery.cancel_scope.cancel()
    listener.close()


@pytest.mark.parametrize("who", [who for who in STRANGERS if who != "without a certificate"])
async def test_a_stranger_whom_we_dial_hears_no_handshake(
    one: Swarm, who: str, autojump_clock: MockClock
) -> None:
    world, heard = World(), []

    async def listen(hand: Hand) -> None:
        heard.append(await hand.stream.receive_into(memoryview(bytearray(100))))

    identity = STRANGERS[who](one)
    async with (
        answering(world, context(identity, server=True), listen),
        world.node(LEECH) as node,
    ):
        torrent = await node.get(one.metainfo, **member(one, "leech"))
        torrent.add_peers([HostPort(HAND, TLS_PORT)])
        await trio.sleep(10)
        assert torrent.peers() == []
        assert not any(heard)
        assert "1 did not prove to be a member of this SSL torrent" in (torrent.why or "")


async def test_a_peer_that_gave_us_the_metadata_is_verified_before_it_gets_any(
    one: Swarm, autojump_clock: MockClock
) -> None:
    """A stranger may have the info dict from anywhere, and serve it: we cannot verify anybody until
    we have it. From then on it is a stranger like others."""
    world, seed = World(), HandSeed(one.sample)
    strange = context(stranger(one.folder), server=True)
    async with answering(world, strange, seed) as ended, world.node(LEECH) as node:
        torrent = await node.get(magnet(one, HAND), **member(one, "leech"))
        await entered(torrent, "downloading")
        await trio.sleep(30)
        assert torrent.metainfo == one.metainfo
        assert torrent.peers() == []
        assert torrent.progress == 0
        assert seed.requests == []
        assert len(ended) >= 2
        assert any("UNKNOWN_CA" in why for why in ended[1:])
        assert world.storage(LEECH, one.metainfo) is not None


async def test_no_peer_is_told_of_others_before_it_is_verified(
    one: Swarm, autojump_clock: MockClock
) -> None:
    world, said = World(), []

    async def listen(hand: Hand) -> None:
        await hand.hello(one.metainfo.info_hash, extended=True)
        said.append(await hand.expect(EXTENDED))
        await hand.closed()

    served = context(one.member("hand"), server=True)
    async with answering(world, served, listen), world.node(LEECH) as node:
        torrent = await node.get(magnet(one, HAND), **member(one, "leech"))
        await trio.sleep(1)
        await node.get(one.metainfo)
        await trio.sleep(10)
        assert len(torrent.peers()) == 1
    before, after = said
    assert b"6:ut_pex" not in before
    assert b"1:p" not in before
    assert b"6:ut_pex" in after
    assert b"1:pi" in after


async def test_until_the_metadata_is_known_no_peer_is_answered(
    one: Swarm, autojump_clock: MockClock
) -> None:
    world = World()
    async with world.node(SEED, tls_listen=f"{SEED}:{TLS_PORT}") as node:
        torrent = await node.get(magnet(one), **member(one, "leech"))
        with pytest.raises(OSError):
            await knock(world, torrent.id, context(one.member("hand")))


async def test_the_dht_is_told_the_port_for_tls_and_no_other(
    one: Swarm, autojump_clock: MockClock
) -> None:
    world = World()
    async with (
        world.node(ROUTER) as router,
        seeding(world, one, bootstrap=[ROUTER]),
        world.node(LEECH, bootstrap=[ROUTER]) as node,
    ):
        await trio.sleep(60)
        found = await router.dht.find_peers(one.metainfo.info_hash, on_peers=lambda peers: None)
        assert set(found.peers) == {Address(SEED, TLS_PORT)}
        torrent = await node.get(torrent_id(one), **member(one, "leech"))
        with trio.fail_after(60):
            await torrent.completed()


async def test_no_peers_are_sent_to_us_before_we_could_verify_them(
    one: Swarm, autojump_clock: MockClock
) -> None:
    world = World()
    async with (
        world.node(ROUTER) as router,
        world.node(LEECH, bootstrap=[ROUTER], tls_listen=f"{LEECH}:{TLS_PORT}") as node,
    ):
        await node.get(torrent_id(one), **member(one, "leech"))
        await trio.sleep(60)
        found = await router.dht.find_peers(one.metainfo.info_hash, on_peers=lambda peers: None)
        assert found.peers == ()


async def test_a_peer_that_listens_nowhere_is_not_announced_and_takes_part(
    one: Swarm, autojump_clock: MockClock
) -> None:
    world = World()
    async with (
        world.node(ROUTER) as router,
        seeding(world, one, bootstrap=[ROUTER]),
        world.node(LEECH, bootstrap=[ROUTER], tls_listen=()) as node,
    ):
        torrent = await node.get(torrent_id(one), **member(one, "leech"))
        with trio.fail_after(60):
            await torrent.completed()
        await trio.sleep(60)
        found = await router.dht.find_peers(one.metainfo.info_hash, on_peers=lambda peers: None)
        assert set(found.peers) == {Address(SEED, TLS_PORT)}
        assert node.tls_addresses == ()
        assert node.status().tls_listen == ()


def torrent_id(one: Swarm) -> str:
    return one.metainfo.info_hash.hex()


# -- our own certificate --------------------------------------------------------------------------


async def test_a_port_is_opened_with_the_first_ssl_torrent(
    one: Swarm, autojump_clock: MockClock
) -> None:
    async with World().node(LEECH) as node:
        assert not node.tls_addresses
        await node.get(sample(seed=3).metainfo)
        assert not node.tls_addresses
        await node.get(one.metainfo, **member(one, "leech"))
        (address,) = node.tls_addresses
        assert address.host == LEECH
        assert address.port not in (0, PORT)
        assert node.status().tls_listen == (str(address),)


async def test_what_does_not_belong_together_is_refused(
    one: Swarm, autojump_clock: MockClock
) -> None:
    mine = member(one, "leech")
    async with World().node(LEECH) as node:
        refused = partial(pytest.raises, InputError)
        with refused(match="is an SSL torrent, for members only"):
            await node.get(one.metainfo)
        with refused(match="is not an SSL torrent"):
            await node.get(sample(seed=3).metainfo, **mine)
        with refused(match="go together"):
            await node.get(one.metainfo, tls_cert=mine["tls_cert"])
        with refused(match="was not signed by the torrent's root"):
            other = stranger(one.folder)
            await node.get(one.metainfo, tls_cert=other.certificate, tls_key=other.key)
        with refused(match="all three"):
            await node.share(one.ca, **mine)
        assert node.torrents == {}


async def test_a_magnet_without_a_certificate_learns_at_last_that_it_needs_one(
    one: Swarm, autojump_clock: MockClock
) -> None:
    """Some client served the metadata without TLS; with the certificate the download goes on."""
    world = World()
    listener = await world.net.host(HAND).listen(Address(HAND, PORT))

    async def leak() -> None:
        while True:
            with contextlib.suppress(EOFError, OSError):
                await HandSeed(one.sample)(Hand(await listener.accept()))

    async with seeding(world, one), world.node(LEECH) as node, trio.open_nursery() as nursery:
        nursery.start_soon(leak)
        torrent = await node.get(magnet(one, HAND, port=PORT))
        await entered(torrent, "error")
        assert isinstance(torrent._core.stage.error, MetainfoError)  # type: ignore[union-attr]
        assert "is an SSL torrent, for members only" in (torrent.error or "")
        assert await node.get(magnet(one, SEED), **member(one, "leech")) is torrent
        with trio.fail_after(20):
            await torrent.completed()
        nursery.cancel_scope.cancel()


async def test_a_certificate_for_a_plain_torrent_stops_it_once_that_is_known(
    one: Swarm, autojump_clock: MockClock
) -> None:
    world, plain = World(), sample(seed=3)
    async with (
        answering(world, context(stranger(one.folder), server=True), HandSeed(plain)),
        world.node(LEECH) as node,
    ):
        link = f"magnet:?xt=urn:btih:{plain.metainfo.info_hash.hex()}&x.pe={HAND}:{TLS_PORT}"
        torrent = await node.get(link, **member(one, "leech"))
        await entered(torrent, "error")
        assert "is not an SSL torrent" in (torrent.error or "")


async def test_files_that_are_gone_stop_the_torrent_until_they_are_back(
    one: Swarm, autojump_clock: MockClock
) -> None:
    world = World()
    async with seeding(world, one) as seed:
        key = one.folder / "seed.key"
        saved = key.read_bytes()
        key.unlink()
        await seed.pause()
        await seed.resume()
        await entered(seed, "error")
        assert f"cannot read {key}" in (seed.error or "")
        with pytest.raises(OSError):
            await knock(world, seed.id, context(one.member("hand")))
        key.write_bytes(saved)
        await seed.resume()
        await entered(seed, "seeding")


async def test_a_renewed_certificate_is_used_when_it_is_given_again(
    one: Swarm, autojump_clock: MockClock
) -> None:
    world = World()
    async with seeding(world, one) as seed, world.node(LEECH) as node:
        torrent = await node.get(one.metainfo, **member(one, "leech"))
        membership = torrent._core.context.membership
        await node.get(one.metainfo, **member(one, "renewed"))
        torrent.add_peers([HostPort(SEED, TLS_PORT)])
        with trio.fail_after(20):
            await torrent.completed()
        assert torrent._core.context.membership is not membership
        assert len(seed.peers()) == 1


async def test_tls_1_1_is_refused(one: Swarm, autojump_clock: MockClock) -> None:
    world = World()
    made = context(one.member("hand"))
    made.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        made.minimum_version, made.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    async with seeding(world, one) as seed:
        with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
            await knock(world, seed.id, made)


async def test_a_restart_remembers_where_the_certificate_is_and_not_what(
    one: Swarm, tmp_path: Path, autojump_clock: MockClock
) -> None:
    world, state = World(), tmp_path / "state"
    async with seeding(world, one, state_dir=state):
        pass
    for file in state.rglob("*"):
        assert not file.is_file() or b"PRIVATE" not in file.read_bytes()
    async with (
        world.node(SEED, state_dir=state, tls_listen=f"{SEED}:{TLS_PORT}") as again,
        world.node(LEECH) as node,
    ):
        assert again.warnings == []
        torrent = await node.get(magnet(one, SEED), **member(one, "leech"))
        with trio.fail_after(20):
            await torrent.completed()


async def test_a_restart_without_the_files_says_so_and_serves_no_peer(
    one: Swarm, tmp_path: Path, autojump_clock: MockClock
) -> None:
    world, state = World(), tmp_path / "state"
    async with seeding(world, one, state_dir=state):
        pass
    (one.folder / "seed.pem").unlink()
    async with world.node(SEED, state_dir=state, tls_listen=f"{SEED}:{TLS_PORT}") as again:
        torrent = again.find(torrent_id(one))
        await entered(torrent, "error")
        assert f"cannot read {one.folder}/seed.pem" in (torrent.error or "")
        assert await hears(await dial(world, SEED), torrent.info_hash) == b""
        with pytest.raises(OSError):
            await knock(world, torrent.id, context(one.member("hand")))


async def test_a_port_for_tls_that_is_taken_is_one_clear_line(autojump_clock: MockClock) -> None:
    world = World()
    taken = await world.net.host(SEED).listen(Address(SEED, TLS_PORT))
    with pytest.raises(InputError, match=f"cannot listen on {SEED}:{TLS_PORT}"):
        async with world.node(SEED, tls_listen=f"{SEED}:{TLS_PORT}"):
            pass
    taken.close()
    async with world.node(SEED, tls_listen=f"{SEED}:{TLS_PORT}") as node:
        assert node.tls_addresses == (Address(SEED, TLS_PORT),)


async def test_members_find_each_other_by_exchange_and_meet_by_tls(
    one: Swarm, autojump_clock: MockClock
) -> None:
    world = World()
    hosts = ("10.0.0.2", "10.0.0.3")
    async with contextlib.AsyncExitStack() as stack:
        seed = await stack.enter_async_context(seeding(world, one, limit_up=2000))
        torrents = []
        for ip in hosts:
            node = await stack.enter_async_context(world.node(ip, tls_listen=f"{ip}:{TLS_PORT}"))
            torrents.append(await node.get(one.metainfo, **member(one, ip)))
            torrents[-1].add_peers([HostPort(SEED, TLS_PORT)])
        await trio.sleep(60)
        for torrent in torrents:
            assert len(torrent.peers()) == 2
            assert {peer.encryption for peer in torrent.peers()} == {"tls"}
        # Those that came to the seed were found to listen for TLS.
        listening = {peer.listens_at for peer in behind(seed).core.connections.peers.values()}
        assert listening == {Address(ip, TLS_PORT) for ip in hosts}
