"""What a megabyte of each kind of message costs the node that hears it. The rule: the bytes go
straight to the connection and to the torrent behind it, without the pace at which a real peer is
heard, and only the processor time of these two counts.

The node lives on a fake network and holds a torrent that is complete, one that is being fetched and
one whose metadata is missing, each with a group of others that want and offer something, for what
is dear about a message is most often what it does to them.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from struct import pack
from typing import Final

import trio

from dht_torrent.bencode import Value, encode
from dht_torrent.config import Config, DiskConfig
from dht_torrent.engine.net.protocols import Stream
from dht_torrent.engine.opening import open_node
from dht_torrent.engine.torrent.connections import PeerHandler
from dht_torrent.engine.torrent.peer import Peer
from dht_torrent.engine.torrent.torrent import Torrent, behind
from dht_torrent.errors import PeerProtocolError
from dht_torrent.geometry import BLOCK
from dht_torrent.ids import Address
from dht_torrent.lab.net.network import FakeNetwork
from dht_torrent.metainfo import Metainfo, from_info
from dht_torrent.storage import MemoryStorage, Storage

PIECES: Final = 512
MANY: Final = 16_384
"""Pieces of the torrent that is being fetched: some messages cost more the more there are."""
PIECE: Final = BLOCK
OTHERS: Final = 39
"""Others in each torrent."""
SIZE: Final = 100_000
"""Bytes of a flood that are measured ..."""
TURNS: Final = 1000
"""... in so many turns at most."""
DEAR: Final = 200e-6
"""Seconds of processor time a message may cost on average. A peer is heard on a thousand a second;
most cost a few microseconds."""
HOST: Final = Address("10.0.0.1", 6881)

HAVE_ALL: Final = pack(">IB", 1, 14)
HAVE_NONE: Final = pack(">IB", 1, 15)
INTERESTED: Final = pack(">IB", 1, 2)
UNCHOKE: Final = pack(">IB", 1, 1)
CHOKE: Final = pack(">IB", 1, 0)
_HELLO_EXTENDED: Final = b"d1:md11:ut_metadatai3ee13:metadata_sizei1000ee"


def _framed(number: int, payload: bytes = b"") -> bytes:
    return pack(">IB", 1 + len(payload), number) + payload


def _extended(number: int, payload: bytes) -> bytes:
    return _framed(20, bytes([number]) + payload)


def _about(number: int, piece: int) -> bytes:
    return _framed(number, pack(">III", piece, 0, PIECE))


@dataclass(frozen=True, slots=True)
class Flood:
    """Messages that a peer sends without end."""

    name: str
    torrent: str
    """Its state: seeding, downloading or metadata."""
    first: bytes
    """What the peer says before, once."""
    turn: Callable[[int], bytes]
    """What is heard in its n-th turn."""
    unchoked: bool = False
    """Only once the peer may have blocks."""


def _bitfield(turn: int) -> bytes:
    return _framed(5, (1 << (turn % MANY)).to_bytes(MANY // 8, "big"))


def _filled(message: bytes) -> Callable[[int], bytes]:
    """A turn of 4 KiB of the same."""
    return lambda turn: message * (4096 // len(message))


def _pieces(number: int) -> Callable[[int], bytes]:
    """A turn about all pieces, one after the other."""
    whole = b"".join(_framed(number, pack(">I", piece)) for piece in range(PIECES))
    return lambda turn: whole[: 4096 // 9 * 9]


def _rejects(turn: int) -> bytes:
    return b"".join(_about(16, (turn * 240 + n) % PIECES) for n in range(240))


_QUEUE: Final = b"".join(_about(6, piece % PIECES) for piece in range(1000))
_CANCELS: Final = b"".join(_about(8, piece % PIECES) for piece in range(999, 759, -1))

FLOODS: Final = (
    Flood("Interested/NotInterested", "seeding", HAVE_NONE, _filled(INTERESTED + _framed(3))),
    Flood(
        "Interested/NotInterested, one a turn",
        "seeding",
        HAVE_NONE,
        lambda turn: _framed(2 + turn % 2),
    ),
    Flood("Choke/Unchoke", "downloading", HAVE_ALL, _filled(UNCHOKE + CHOKE)),
    Flood("Choke/Unchoke, one a turn", "downloading", HAVE_ALL, lambda turn: _framed(turn % 2)),
    Flood("Interest in nothing", "downloading", HAVE_NONE, _filled(INTERESTED + _framed(3))),
    Flood(
        "Have, one a turn",
        "downloading",
        HAVE_NONE + UNCHOKE,
        lambda turn: _framed(4, pack(">I", turn % MANY)),
    ),
    Flood(
        "Suggest, one a turn",
        "downloading",
        HAVE_NONE + UNCHOKE + _framed(4, bytes(4)),
        lambda turn: _framed(13, pack(">I", turn % MANY)),
    ),
    Flood("KeepAlive, one a turn", "downloading", HAVE_ALL + UNCHOKE, lambda turn: bytes(4)),
    Flood(
        "Cancel, one a turn, 1000 queued",
        "seeding",
        HAVE_NONE + INTERESTED,
        lambda turn: _about(8, 511),
        True,
    ),
    Flood(
        "Port",
        "seeding",
        HAVE_NONE,
        lambda turn: b"".join(
            _framed(9, pack(">H", 1 + (turn * 585 + n) % 65535)) for n in range(585)
        ),
    ),
    Flood("unknown extension", "seeding", HAVE_NONE, _filled(_extended(200, b"x"))),
    Flood("unknown message", "seeding", HAVE_NONE, _filled(_framed(99, b"x"))),
    Flood("Cancel of nothing", "seeding", HAVE_NONE, _filled(_about(8, 1))),
    Flood(
        "Cancel, 1000 queued",
        "seeding",
        HAVE_NONE + INTERESTED,
        lambda turn: _about(8, 1) * 240,
        True,
    ),
    Flood(
        "Request and Cancel",
        "seeding",
        HAVE_NONE + INTERESTED,
        lambda turn: (_about(6, 2) + _about(8, 2)) * 120,
        True,
    ),
    Flood("Request, unchoked", "seeding", HAVE_NONE + INTERESTED, _filled(_about(6, 3)), True),
    Flood("Request, choked", "seeding", HAVE_NONE, _filled(_about(6, 3))),
    Flood("Have", "downloading", HAVE_NONE, _pieces(4)),
    Flood("Have, of a seed", "downloading", HAVE_ALL, _pieces(4)),
    Flood("Suggest", "downloading", HAVE_ALL, _pieces(13)),
    Flood("AllowedFast", "downloading", HAVE_ALL, _pieces(17)),
    Flood(
        "AllowedFast, one a turn",
        "downloading",
        HAVE_ALL,
        lambda turn: _framed(17, pack(">I", turn % PIECES)),
    ),
    Flood("Reject", "downloading", HAVE_ALL + UNCHOKE, _rejects),
    Flood(
        "Reject, one a turn",
        "downloading",
        HAVE_ALL + UNCHOKE,
        lambda turn: _about(16, turn % PIECES),
    ),
    Flood("KeepAlive", "seeding", HAVE_NONE, _filled(bytes(4))),
    Flood("bitfields", "downloading", HAVE_NONE, _bitfield),
    Flood("extension handshakes", "metadata", HAVE_NONE, _filled(_extended(0, _HELLO_EXTENDED))),
    Flood(
        "metadata requests",
        "seeding",
        HAVE_NONE + _extended(0, _HELLO_EXTENDED),
        _filled(_extended(2, b"d8:msg_typei0e5:piecei0ee")),
    ),
    Flood(
        "metadata rejects",
        "metadata",
        HAVE_NONE + _extended(0, _HELLO_EXTENDED),
        _filled(_extended(2, b"d8:msg_typei2e5:piecei0ee")),
    ),
    Flood(
        "metadata of nobody",
        "metadata",
        HAVE_NONE + _extended(0, _HELLO_EXTENDED),
        _filled(_extended(2, b"d8:msg_typei1e5:piecei0e10:total_sizei30ee" + bytes(30))),
    ),
    Flood("Have, too early", "metadata", HAVE_NONE, _filled(_framed(4, pack(">I", 7)))),
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What came of a flood."""

    name: str
    heard: int
    """Bytes, until all were heard or the connection was closed."""
    messages: int
    """As they are counted when a peer is heard at a rate."""
    seconds: float
    """Of processor time."""
    ended: str
    """Why the connection was closed; empty if it was not."""


async def cost(rng: random.Random, flood: Flood) -> Cost:
    """Hear so much of it as is worth measuring. Run it in the lab's virtual time."""
    net = FakeNetwork(rng)
    metainfo = _metainfo(rng, MANY if flood.torrent == "downloading" else PIECES)
    storage = MemoryStorage(metainfo.geometry)
    if flood.torrent == "seeding":
        storage.write(0, bytes(PIECES * PIECE))

    def in_memory(metainfo: Metainfo, path: Path, shared: bool) -> Storage:
        return storage

    config = Config(bootstrap=[], listen=str(HOST), disk=DiskConfig(inline=True), fail_fast=True)
    async with (
        open_node(config, network=net.host(HOST.host), open_storage=in_memory, rng=rng) as node,
        trio.open_nursery() as nursery,
    ):
        wanted = f"magnet:?xt=urn:btih:{metainfo.info_hash.hex()}"
        torrent = await node.get(wanted if flood.torrent == "metadata" else metainfo)
        while torrent.state != flood.torrent:  # noqa: ASYNC110 - seen from outside
            await trio.sleep(0.1)
        for number in range(OTHERS):
            said = HAVE_NONE + INTERESTED if flood.torrent == "seeding" else HAVE_ALL + UNCHOKE
            await _come(net, f"10.0.{1 + number}.2", torrent, said, nursery)
            await trio.sleep(0.2)
        await trio.sleep(15)
        await _come(net, "10.0.200.2", torrent, flood.first, nursery)
        await trio.sleep(5)
        peer = next(
            p
            for p in behind(torrent).core.connections.peers.values()
            if p.address.host == "10.0.200.2"
        )
        if flood.unchoked:
            peer.am_choking = False
        found = await _hear(peer, torrent, flood)
        nursery.cancel_scope.cancel()
    return found


async def _hear(peer: Peer, torrent: Torrent, flood: Flood) -> Cost:
    """Only what is done at once is measured: what waits for a tick has its bound by that."""
    heard, messages, turns, spent, ended = 0, 0, 0, 0.0, ""
    while heard < SIZE and turns < TURNS and not ended:
        if "1000 queued" in flood.name:
            _queue(peer, torrent)
        data = flood.turn(turns)
        before = peer.connection.unheard
        began = time.process_time()
        try:
            events = peer.connection.receive(data)
            messages += len(events)
            _stage(torrent).on_events(peer, events, trio.current_time())
        except PeerProtocolError as error:
            ended = str(error)
        spent += time.process_time() - began
        heard += len(data)
        messages += peer.connection.unheard - before
        turns += 1
        if peer.is_dropped:
            ended = peer.why
        await trio.sleep(0.001)  # what was told goes out
    return Cost(flood.name, heard, messages, spent, ended)


def _stage(torrent: Torrent) -> PeerHandler:
    handler = behind(torrent).core.connections.handler
    assert handler is not None
    return handler


def _queue(peer: Peer, torrent: Torrent) -> None:
    missing = 1000 - len(peer.asked)
    if missing > 0:
        _stage(torrent).on_events(
            peer, peer.connection.receive(_about(6, 0) * missing), trio.current_time()
        )


async def _come(
    net: FakeNetwork, host: str, torrent: Torrent, first: bytes, nursery: trio.Nursery
) -> None:
    stream = await net.host(host).connect(HOST)
    reserved = bytes(5) + b"\x10\0\x05"
    name = b"-CO0001-" + host.encode().rjust(12, b".")
    await stream.send(b"\x13BitTorrent protocol" + reserved + torrent.info_hash + name + first)
    nursery.start_soon(_drain, stream)


async def _drain(stream: Stream) -> None:
    into = memoryview(bytearray(1 << 16))
    try:
        while await stream.receive_into(into):
            pass
    except OSError:
        pass
    finally:
        stream.close()


def _metainfo(rng: random.Random, pieces: int) -> Metainfo:
    """Of zeros, if it is complete; of what nobody has, if it is being fetched."""
    zeros = hashlib.sha1(bytes(PIECE)).digest() * PIECES
    info: dict[bytes, Value] = {
        b"length": pieces * PIECE,
        b"name": b"flooded",
        b"piece length": PIECE,
        b"pieces": zeros if pieces == PIECES else rng.randbytes(20 * pieces),
    }
    return from_info(encode(info))
