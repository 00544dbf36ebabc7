"""Connections to a running node whose bytes are a valid handshake and then any messages in any
order, well-formed or not, cut anywhere; some of them behind an MSE handshake. The rule: whatever
comes, no fault of ours, no torrent stopped, memory flat, and all others are answered meanwhile.

Real sockets on 127.0.0.1, for the node is to be met as the world meets it. Three torrents are there
to be talked about: one that is shared, one that is being fetched and one whose metadata is missing.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from struct import pack
from typing import Final, NamedTuple

import trio

from dht_torrent.bencode import Value, encode
from dht_torrent.config import Config
from dht_torrent.engine.node import Node
from dht_torrent.engine.opening import open_node
from dht_torrent.engine.torrent.torrent import Torrent
from dht_torrent.errors import HandshakeError
from dht_torrent.ids import Address
from dht_torrent.metainfo import from_info
from dht_torrent.peer.mse import Method, MseInitiator

PIECE: Final = 32 * 1024
AT_ONCE: Final = 20
"""Connections at the same time."""
LATE: Final = 1.0
"""Seconds the event loop, and an answer of the DHT, may be late, while there was a processor for
them."""
PAUSE: Final = 0.5
"""Seconds between two questions to the DHT: a node bears five a second of one source."""
FLAT: Final = 24 << 20
"""Bytes of memory there may be more at the end than after the first third."""
CALM: Final = 30.0
"""Seconds the node gets at the end to part with all peers."""
ENCRYPTED: Final = 0.4
"""Share of the connections that begin with a valid MSE handshake."""
_OFFERS: Final = (Method.PLAIN, Method.RC4, Method.PLAIN | Method.RC4)
_PATIENCE: Final = 3.0
_STATES: Final = ["seeding", "downloading", "metadata"]


class Target(NamedTuple):
    """A torrent to talk about."""

    info: bytes
    pieces: int

    @property
    def info_hash(self) -> bytes:
        return hashlib.sha1(self.info).digest()


@dataclass(slots=True)
class WireFindings:
    """What a run has shown."""

    connections: int = 0
    refused: int = 0
    """Connections that could not be made at all."""
    encrypted: int = 0
    """Connections that began with an MSE handshake which succeeded."""
    sent: int = 0
    """Bytes behind the handshakes."""
    latest: float = 0.0
    """Seconds the event loop, or an answer of the DHT, was late at most."""
    memory: tuple[int, int] = (0, 0)
    """Bytes in use after the first third, and at the end; 0 where the system does not tell."""
    faults: list[str] = field(default_factory=list)

    def fault(self, text: str) -> None:
        """Note what must not happen, the first twenty times."""
        if len(self.faults) < 20:
            self.faults.append(text)


async def wire(
    folder: Path,
    seconds: float,
    seed: int,
    progress: Callable[[WireFindings], None] = lambda found: None,
) -> WireFindings:
    """Talk nonsense to a node of its own, which lives in `folder`, for so long."""
    rng = random.Random(seed)
    found = WireFindings()
    errors = _Errors(found)
    logging.getLogger("dht_torrent").addHandler(errors)
    try:
        shared, fetched, named = (_target(rng, pieces) for pieces in (40, 37, 13))
        (folder / "shared").write_bytes(shared[1])
        config = Config(bootstrap=[], listen="127.0.0.1:0", download_dir=folder / "got")
        async with open_node(config) as node, open_node(config) as asker:
            torrents = [
                await node.share(folder / "shared", piece_length=PIECE),
                await node.get(from_info(fetched[0].info)),
                await node.get(f"magnet:?xt=urn:btih:{named[0].info_hash.hex()}"),
            ]
            assert torrents[0].metainfo is not None
            targets = [Target(torrents[0].metainfo.info, 40), fetched[0], named[0]]
            await _reach(torrents)
            await _talk(node, asker, targets, seconds, seed, found, progress)
            await _look_at_the_end(node, torrents, found)
    finally:
        logging.getLogger("dht_torrent").removeHandler(errors)
    return found


class _Errors(logging.Handler):
    """Whatever is logged as an error, or with a traceback, is a fault."""

    def __init__(self, found: WireFindings) -> None:
        super().__init__(logging.WARNING)
        self._found = found

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or record.levelno >= logging.ERROR:
            self._found.fault(f"logged: {record.getMessage()}")


def _target(rng: random.Random, pieces: int) -> tuple[Target, bytes]:
    """A torrent, and its content."""
    content = rng.randbytes(pieces * PIECE)
    hashes = b"".join(
        hashlib.sha1(content[at : at + PIECE]).digest() for at in range(0, len(content), PIECE)
    )
    info: dict[bytes, Value] = {
        b"length": len(content),
        b"name": b"of %d pieces" % pieces,
        b"piece length": PIECE,
        b"pieces": hashes,
    }
    return Target(encode(info), pieces), content


async def _reach(torrents: list[Torrent]) -> None:
    """Wait until each is in its state."""
    with trio.fail_after(CALM):
        while [torrent.state for torrent in torrents] != _STATES:  # noqa: ASYNC110 - seen from outside
            await trio.sleep(0.01)


async def _talk(
    node: Node,
    asker: Node,
    targets: list[Target],
    seconds: float,
    seed: int,
    found: WireFindings,
    progress: Callable[[WireFindings], None],
) -> None:
    end = trio.current_time() + seconds
    settled = trio.current_time() + seconds / 3

    async def speaker(number: int) -> None:
        while trio.current_time() < end:
            number += AT_ONCE
            rng = random.Random(f"{seed} {number}")
            await _connect(node.address, rng.choice(targets), rng, found)

    async def watcher() -> None:
        while trio.current_time() < end:
            before, starved = trio.current_time(), starvation()
            await trio.sleep(PAUSE)
            await asker.dht.ping(node.address)
            status = node.status()
            late = trio.current_time() - before - PAUSE - (starvation() - starved)
            found.latest = max(found.latest, late)
            if late > LATE:
                found.fault(f"the DHT answered {late:.1f} s late")
            if status.faults:
                found.fault(f"a fault of ours: {status.last_fault}")
            if not found.memory[0] and before > settled:
                found.memory = (_memory(), 0)
            progress(found)

    async with trio.open_nursery() as nursery:
        for number in range(AT_ONCE):
            nursery.start_soon(speaker, number)
        nursery.start_soon(watcher)


def starvation() -> float:
    """Seconds for which this thread could have run, and others had the processors; 0 where the
    system does not tell. It is the machine that is late then, and not we. What of it was before
    the watcher was to wake delayed nobody, so that up to `PAUSE` of lateness may be missed."""
    try:
        _, waited, _ = Path("/proc/thread-self/schedstat").read_text().split()
    except (OSError, ValueError):
        return 0.0
    return int(waited) / 1e9


async def _connect(to: Address, target: Target, rng: random.Random, found: WireFindings) -> None:
    """One connection: all its bytes, in pieces, and a moment to hear what comes back."""
    found.connections += 1
    talk = b"".join(message(target, rng) for _ in range(rng.randrange(1, 40)))
    if rng.random() < 0.3:
        talk = _flipped(talk, rng)
    hello = _handshake(target, rng)
    offered = rng.choice(_OFFERS) if rng.random() < ENCRYPTED else None
    with trio.move_on_after(_PATIENCE):
        try:
            stream = await trio.open_tcp_stream(to.host, to.port)
        except OSError:
            found.refused += 1
            return
        async with stream:
            try:
                rest = hello + talk
                if offered is not None:
                    rest = await _hidden(stream, target, hello, talk, offered, rng)
                    found.encrypted += 1
                while rest:
                    size = rng.choice(
                        [len(rest), 68, rng.randint(1, len(rest)), rng.randint(1, 99)]
                    )
                    await stream.send_all(rest[:size])
                    rest = rest[size:]
                    if rng.random() < 0.3:
                        await trio.sleep(rng.uniform(0, 0.05))
                found.sent += len(talk)
                with trio.move_on_after(rng.uniform(0, 0.3)):
                    while await stream.receive_some(65536):
                        pass
            except (OSError, trio.BrokenResourceError):
                pass  # it has had enough of us
            except HandshakeError as error:
                found.fault(f"a valid MSE handshake failed: {error}")


async def _hidden(
    stream: trio.SocketStream,
    target: Target,
    hello: bytes,
    talk: bytes,
    offered: Method,
    rng: random.Random,
) -> bytes:
    """Do a valid MSE handshake. Returns what is still to be sent, encrypted if that was agreed on;
    the peer wire's handshake may have gone with it."""
    initial = hello if rng.random() < 0.5 else b""
    side = MseInitiator(target.info_hash, initial, rng, offered=offered)
    await stream.send_all(side.begin())
    while side.secured is None:
        if not (data := await stream.receive_some(4096)):
            raise trio.BrokenResourceError
        if answer := side.receive(data):
            await stream.send_all(answer)
    rest = talk if initial else hello + talk
    ciphers = side.secured.ciphers
    return rest if ciphers is None else ciphers.outgoing.update(rest)


async def _look_at_the_end(node: Node, torrents: list[Torrent], found: WireFindings) -> None:
    with trio.move_on_after(CALM):
        while node.status().connections:  # noqa: ASYNC110 - seen from outside
            await trio.sleep(0.1)
    status = node.status()
    if status.connections:
        found.fault(f"{status.connections} connections left")
    if status.faults:
        found.fault(f"a fault of ours: {status.last_fault}")
    states: list[str] = [torrent.state for torrent in torrents]
    if states != _STATES:
        found.fault(f"the torrents are {', '.join(states)}, not {', '.join(_STATES)}")
    middle = found.memory[0]
    found.memory = (middle, _memory())
    if middle and found.memory[1] - middle > FLAT:
        found.fault(f"memory grew from {middle >> 20} to {found.memory[1] >> 20} MB")


def _memory() -> int:
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096
    except OSError:
        return 0


# -- what is said --------------------------------------------------------------------------------


def _handshake(target: Target, rng: random.Random) -> bytes:
    reserved = bytes(5) + bytes([rng.choice((0, 0x10)), 0, rng.choice((0, 1, 4, 5))])
    return b"\x13BitTorrent protocol" + reserved + target.info_hash + rng.randbytes(20)


def _flipped(talk: bytes, rng: random.Random) -> bytes:
    changed = bytearray(talk)
    for _ in range(rng.randint(1, 3)):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def message(target: Target, rng: random.Random) -> bytes:
    """Any message, or a few; its numbers are near where they begin to be wrong."""
    kind = rng.choice(_KINDS)
    return kind(target, rng)


def _framed(number: int, payload: bytes = b"") -> bytes:
    return pack(">IB", 1 + len(payload), number) + payload


def _index(target: Target, rng: random.Random) -> int:
    odd = (0, target.pieces - 1, target.pieces, target.pieces + 1, 1 << 31, (1 << 32) - 1)
    return rng.choice((rng.randrange(target.pieces), rng.randrange(target.pieces), *odd))


def _block(target: Target, rng: random.Random) -> bytes:
    begin = rng.choice((0, 16384, 16384 * rng.randrange(4), 1, (1 << 32) - 1))
    length = rng.choice((16384, 16384, 1, 0, 16385, (1 << 32) - 1))
    return pack(">III", _index(target, rng), begin, length)


def _plain(target: Target, rng: random.Random) -> bytes:
    return rng.choice((bytes(4), _framed(rng.randrange(4)), _framed(14), _framed(15)))


def _toggling(target: Target, rng: random.Random) -> bytes:
    return (_framed(2) + _framed(3)) * rng.choice((1, 50, 1000))


def _about_a_piece(target: Target, rng: random.Random) -> bytes:
    return _framed(rng.choice((4, 13, 17)), pack(">I", _index(target, rng)))


def _bitfield(target: Target, rng: random.Random) -> bytes:
    bits = rng.getrandbits(target.pieces) << (-target.pieces % 8)
    right = bits.to_bytes((target.pieces + 7) // 8, "big")
    return _framed(5, right if rng.random() < 0.9 else rng.randbytes(rng.randint(1, 9)))


def _about_a_block(target: Target, rng: random.Random) -> bytes:
    return _framed(rng.choice((6, 6, 8, 16)), _block(target, rng)) * rng.choice((1, 1, 5, 300))


def _piece(target: Target, rng: random.Random) -> bytes:
    data = rng.randbytes(rng.choice((0, 1, 100, 16384)))
    return _framed(7, _block(target, rng)[:8] + data)


def _port(target: Target, rng: random.Random) -> bytes:
    return _framed(9, rng.randbytes(2))


def _extension_handshake(target: Target, rng: random.Random) -> bytes:
    said: dict[bytes, Value] = {
        b"m": {b"ut_metadata": rng.randrange(6), b"upload_only": 3},
        b"metadata_size": rng.choice((len(target.info), 0, 1, 16384, 1 << 40)),
        b"p": rng.randrange(70_000),
        b"reqq": rng.randrange(3000),
        b"v": rng.randbytes(9),
    }
    return _framed(20, b"\0" + encode(said))


def _metadata(target: Target, rng: random.Random) -> bytes:
    kind = rng.randrange(4)
    said: dict[bytes, Value] = {b"msg_type": kind, b"piece": rng.choice((0, 0, 1, 1000))}
    data = b""
    if kind == 1:
        said[b"total_size"] = len(target.info)
        # The right info would end the stage that it is about.
        data = rng.choice((target.info[:-1], rng.randbytes(100), b""))
    return _framed(20, b"\2" + encode(said) + data)


def _noise(target: Target, rng: random.Random) -> bytes:
    extension = _framed(20, bytes([rng.randrange(5)]) + rng.randbytes(rng.randrange(30)))
    return rng.choice((extension, _framed(rng.randrange(256), rng.randbytes(rng.randrange(20)))))


_KINDS: Final = (
    *(_plain, _toggling, _about_a_piece, _about_a_piece, _bitfield, _about_a_block, _about_a_block),
    *(_piece, _port, _extension_handshake, _metadata, _noise),
)
