"""The extension handshake: what we say of ourselves, and to whom. And that an extension is a class
and a line in a table.
"""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from dht_torrent import bencode
from dht_torrent.engine.torrent import extensions
from dht_torrent.engine.torrent.extension import Extension
from dht_torrent.engine.torrent.metadata import MetadataSharing
from dht_torrent.engine.torrent.peer import Peer
from dht_torrent.engine.torrent.torrent import behind
from dht_torrent.errors import PeerProtocolError
from dht_torrent.ids import HostPort
from dht_torrent.peer.extension import ExtensionMessage
from dht_torrent.peer.extensions import UPLOAD_ONLY, UploadOnly
from tests.helpers.engine import (
    EXTENDED,
    HAND,
    LEECH,
    PORT,
    SEED,
    Hand,
    World,
    drop_reasons,
    greeted,
    listening,
    sample,
)

FILM = sample()
PRIVATE = sample(private=True)
SPEAKS = b"\0d1:md11:upload_onlyi7eee"
"""An extension handshake: its sender takes such messages under number 7."""
MESSAGE = b"\x03\x01"
"""One of that extension, under our number."""


class Noting(Extension):
    """Takes the place of an extension whose messages exist, and notes what it is called for."""

    name = UPLOAD_ONLY
    public_only = True
    ticks = True
    noted: list[tuple[str, str]]

    def _note(self, what: str, peer: Peer | None = None) -> None:
        self.noted.append((what, peer.address.host if peer else ""))

    def on_open(self, peer: Peer, now: float) -> None:
        self._note("open", peer)
        peer.tell(UploadOnly(False))

    def on_message(self, peer: Peer, message: ExtensionMessage, now: float) -> None:
        self._note("message", peer)
        if message == UploadOnly(False):
            raise PeerProtocolError("must not say that")

    def on_close(self, peer: Peer, now: float) -> None:
        self._note("close", peer)

    def on_complete(self, now: float) -> None:
        self._note("complete")
        assert self.swarm is not None
        assert self.swarm.picker.done

    def tick(self, now: float) -> None:
        self._note(f"tick {len(self.connections.peers)}")


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """With `Noting` among the extensions we speak."""
    noted: list[tuple[str, str]] = []
    monkeypatch.setattr(Noting, "noted", noted, raising=False)
    monkeypatch.setattr(extensions, "EXTENSIONS", (MetadataSharing, Noting))
    return noted


async def offer(hand: Hand) -> dict[bytes, object]:
    """The next extension handshake, its `m`."""
    while True:
        payload = await hand.expect(EXTENDED)
        if payload[0] == 0:
            said = bencode.decode(payload[1:])
            assert isinstance(said, dict)
            names = said[b"m"]
            assert isinstance(names, dict)
            return dict(names)


async def test_extensions_are_offered_only_to_peers_that_speak_them(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with world.seed(FILM) as torrent:
        plain = await greeted(world, torrent, "10.0.0.8")
        assert EXTENDED not in [kind for kind, _ in await plain.heard(1)]
        hand = await greeted(world, torrent, extended=True)
        said = await hand.expect(EXTENDED)
        assert b"13:metadata_sizei%de" % len(FILM.info) in said


@pytest.mark.parametrize(("policy", "says"), [("prefer", True), ("allow", False), ("off", False)])
async def test_peers_hear_whether_we_prefer_encryption(
    policy: str, says: bool, autojump_clock: MockClock
) -> None:
    world = World()
    async with world.seed(FILM, encryption=policy) as torrent:
        hand = await greeted(world, torrent, extended=True)
        assert (b"1:ei1e" in await hand.expect(EXTENDED)) == says


async def test_an_extension_hears_of_its_peers_from_beginning_to_end(
    noted: list[tuple[str, str]], autojump_clock: MockClock
) -> None:
    world = World()
    async with world.seed(FILM) as torrent:
        assert noted == [("complete", "")]
        del noted[:]
        other = await greeted(world, torrent, "10.0.0.8", extended=True)
        await other.send(EXTENDED, data=b"\0d1:mdee")
        hand = await greeted(world, torrent, extended=True)
        assert await offer(hand) == {b"ut_metadata": 2, b"upload_only": 3}
        await hand.send(EXTENDED, data=SPEAKS)
        assert await hand.expect(EXTENDED) == b"\x07\0"
        await hand.send(EXTENDED, data=SPEAKS)  # again: it is known
        await hand.send(EXTENDED, data=MESSAGE)
        await other.send(EXTENDED, data=MESSAGE)
        await trio.sleep(1)
        hand.stream.close()
        await trio.sleep(1)
        other.stream.close()
        await trio.sleep(1)
    assert noted == [
        ("open", HAND),
        ("message", HAND),
        ("message", "10.0.0.8"),
        ("close", HAND),
    ]


async def test_an_extension_that_a_peer_abuses_ends_the_connection(
    noted: list[tuple[str, str]], autojump_clock: MockClock
) -> None:
    world = World()
    async with world.seed(FILM) as torrent:
        hand = await greeted(world, torrent, extended=True)
        await hand.send(EXTENDED, data=SPEAKS)
        await hand.send(EXTENDED, data=b"\x03\0")
        assert await drop_reasons(world) == ["must not say that"]
    assert noted[1:] == [("open", HAND), ("message", HAND), ("close", HAND)]


async def test_an_extension_ticks_while_there_are_connections(
    noted: list[tuple[str, str]], autojump_clock: MockClock
) -> None:
    world = World()
    async with world.seed(FILM) as torrent:
        del noted[:]
        await trio.sleep(200)
        assert noted == []
        hand = await greeted(world, torrent)
        await trio.sleep(100)
        assert set(noted) == {("tick 1", "")}
        assert len(noted) in (9, 10)
        hand.stream.close()
        await trio.sleep(1)
        del noted[:]
        await trio.sleep(200)
        assert noted == []
        hand = await greeted(world, torrent)
        await torrent.pause()
        await trio.sleep(200)
        assert noted == []


async def test_what_is_not_for_private_torrents_is_neither_offered_nor_heard_in_one(
    noted: list[tuple[str, str]], autojump_clock: MockClock
) -> None:
    world = World()
    async with world.seed(PRIVATE) as torrent:
        hand = await greeted(world, torrent, extended=True)
        assert await offer(hand) == {b"ut_metadata": 2}
        await hand.send(EXTENDED, data=SPEAKS)
        await hand.send(EXTENDED, data=MESSAGE)
        await trio.sleep(100)
        assert len(behind(torrent).core.connections.peers) == 1
    assert noted == []


async def test_what_is_not_for_private_torrents_is_taken_back_when_one_turns_out_to_be(
    noted: list[tuple[str, str]], autojump_clock: MockClock
) -> None:
    world = World()
    offers: list[dict[bytes, object]] = []

    async def early(hand: Hand) -> None:
        await hand.hello(PRIVATE.metainfo.info_hash, extended=True)
        await hand.send(EXTENDED, data=SPEAKS)
        offers.append(await offer(hand))
        offers.append(await offer(hand))
        await hand.send(EXTENDED, data=MESSAGE)
        await hand.closed()

    async with (
        world.seed(PRIVATE),
        listening(world, HAND, early),
        world.node(LEECH) as node,
    ):
        torrent = await node.get(PRIVATE.magnet(HAND))
        await trio.sleep(5)
        assert offers == [{b"ut_metadata": 2, b"upload_only": 3}]
        assert ("open", HAND) in noted
        torrent.add_peers([HostPort(SEED, PORT)])
        with trio.fail_after(60):
            await torrent.completed()
        await trio.sleep(1)
    assert offers[1:] == [{b"ut_metadata": 2, b"upload_only": 0}]
    assert ("message", HAND) not in noted
    assert ("close", HAND) in noted
