"""One honest seed among poisoners, on virtual time: who is banned, what is wasted, and how long it
takes. The rule: the leech is the node people run; the others are bytes written by hand, so that
they may lie about anything.

Every poisoner says it has everything, unchokes at once, and serves each block it is asked for after
a pause, some of them spoiled. The torrent is private and the leech is told of its peers, so that
the DHT plays no part.
"""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Final

import trio

from dht_torrent import bencode
from dht_torrent.config import Config, DiskConfig, TorrentConfig
from dht_torrent.engine.net.protocols import Stream
from dht_torrent.engine.opening import open_node
from dht_torrent.engine.torrent.torrent import Torrent
from dht_torrent.geometry import BLOCK
from dht_torrent.ids import Address, HostPort
from dht_torrent.lab.net.network import FakeHost, FakeNetwork
from dht_torrent.metainfo import Metainfo, from_info
from dht_torrent.storage import MemoryStorage, Storage
from dht_torrent.trace import PeerBanned, PieceFailed, Record

_LOOPBACK: Final = "127.0.0.1"
_PORT: Final = 6881
"""Its port, and that of each peer with a host of its own."""
_FIRST_PORT: Final = 7000
"""Of the peers, where they share a host."""
_BACK_AFTER: Final = 0.5
"""Seconds after which a poisoner that was thrown out comes back."""
_UNCHOKE, _REQUEST, _PIECE, _HAVE_ALL = 1, 6, 7, 14
_RESERVED: Final = bytes([0, 0, 0, 0, 0, 0, 0, 0x04])
"""The fast extension (BEP 6) and nothing else."""

_Serve = Callable[[Stream], Awaitable[None]]
"""Serves one connection to its end."""


Figures = dict[str, int | float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoisoningPlan:
    """Who takes part, and what the poisoners do."""

    poisoners: int = 10
    pieces: int = 100
    blocks: int = 32
    """Of a piece."""
    pause: float = 0.01
    """Seconds the honest seed takes for a block ..."""
    poisoner_pause: float = 0.01
    """... and each poisoner."""
    spoil: float | None = None
    """Share of the blocks a poisoner spoils, drawn for each; None: one block of each piece."""
    loopback: bool = False
    """All, the leech included, are ports of 127.0.0.1; else each has a public address."""
    shared: bool = False
    """The seed and the poisoners are ports of one public address, the leech is elsewhere."""
    returning: bool = False
    """A poisoner whose connection ends comes back by a new port of its host, as often as it can."""
    late: float = 0.0
    """Seconds after which the leech is told of the honest seed."""
    patience: float = 6 * 3600.0
    """Seconds after which the run is given up."""
    open_bytes: int = 4 << 20
    """Bytes of open pieces the leech may have: less than a piece for each peer, so that they share
    pieces, as they would share large ones with the usual bound."""

    @property
    def size(self) -> int:
        return self.pieces * self.blocks * BLOCK


@dataclass(slots=True)
class Outcome:
    """What became of it."""

    seconds: float | None = None
    """Until the leech was complete; None: never."""
    wasted: int = 0
    """Payload bytes received for nothing."""
    failed: int = 0
    """Pieces that did not match their hash."""
    honest_bans: int = 0
    bans: int = 0
    """Bans of poisoners, by whatever port."""


ROWS: Final[dict[str, PoisoningPlan]] = {
    "loopback": PoisoningPlan(loopback=True),
    "public": PoisoningPlan(),
    "returning_loopback": PoisoningPlan(loopback=True, returning=True),
    "returning_public": PoisoningPlan(returning=True),
    "shared_address": PoisoningPlan(shared=True),
    "tenth": PoisoningPlan(spoil=0.1),
    "hundredth": PoisoningPlan(spoil=0.01),
    "fastest": PoisoningPlan(poisoner_pause=0.002),
    "endgame": PoisoningPlan(pieces=12),
    "whole_pieces": PoisoningPlan(open_bytes=64 << 20),
    "late_seed": PoisoningPlan(loopback=True, late=10.0),
    "thirty": PoisoningPlan(poisoners=30),
}
"""What is compared; each differs from `public` in what gives it its name."""


def alone(plan: PoisoningPlan) -> PoisoningPlan:
    """The same without poisoners."""
    return replace(plan, poisoners=0)


def figures(
    row: str, plan: PoisoningPlan, runs: Sequence[Outcome], base: Sequence[Outcome]
) -> Figures:
    """What the runs of a row say; `base` are the same runs without poisoners."""
    waste = [run.wasted / plan.size for run in runs]
    times = [
        run.seconds / quiet.seconds
        for run, quiet in zip(runs, base, strict=True)
        if run.seconds is not None and quiet.seconds is not None
    ]
    return {
        f"{row}_completed": sum(run.seconds is not None for run in runs),
        f"{row}_honest_bans": sum(run.honest_bans for run in runs),
        f"{row}_bans": median([run.bans for run in runs]),
        f"{row}_waste": median(waste),
        f"{row}_waste_most": max(waste),
        f"{row}_time": median(times) if times else None,
        f"{row}_time_most": max(times) if times else None,
    }


async def poisoning(rng: random.Random, plan: PoisoningPlan) -> Outcome:
    """Run it until the leech is complete. For `lab.run`. Raises RuntimeError if the complete copy
    differs from the content."""
    return await _Run(rng, plan).run()


class _Run:
    def __init__(self, rng: random.Random, plan: PoisoningPlan) -> None:
        self._rng = rng
        self._plan = plan
        self._net = FakeNetwork(rng, latency=0.0001 if plan.loopback else 0.01)
        self._piece = rng.randbytes(plan.blocks * BLOCK)
        self._metainfo = _metainfo(self._piece, plan.pieces)
        self._peers = [self._address(number) for number in range(plan.poisoners + 1)]
        rng.shuffle(self._peers)
        self._seed = self._peers[-1]
        self._outcome = Outcome()
        self._leech = Address(_LOOPBACK, _PORT) if plan.loopback else _public(plan.poisoners + 1)

    def _address(self, number: int) -> Address:
        if self._plan.loopback:
            return Address(_LOOPBACK, _FIRST_PORT + number)
        if self._plan.shared:
            return _public(0)._replace(port=_FIRST_PORT + number)
        return _public(number)

    async def run(self) -> Outcome:
        plan = self._plan
        async with trio.open_nursery() as nursery:
            torrent: Torrent = await nursery.start(self._fetch)
            for address in self._peers:
                await nursery.start(self._live, address)
            began = trio.current_time()
            known = self._peers[:-1] if plan.late else self._peers
            torrent.add_peers(
                [HostPort(*address) for address in self._rng.sample(known, len(known))]
            )
            if plan.late:
                nursery.start_soon(self._tell_later, torrent)
            with trio.move_on_after(plan.patience):
                await torrent.completed()
                self._outcome.seconds = trio.current_time() - began
            self._outcome.wasted = torrent.wasted
            nursery.cancel_scope.cancel()
        return self._outcome

    async def _tell_later(self, torrent: Torrent) -> None:
        await trio.sleep(self._plan.late)
        torrent.add_peers([HostPort(*self._seed)])

    async def _fetch(self, task_status: trio.TaskStatus[Torrent]) -> None:
        storage = MemoryStorage(self._metainfo.geometry)

        def open_storage(metainfo: Metainfo, path: Path, shared: bool) -> Storage:
            return storage

        async with open_node(
            Config(
                bootstrap=(),
                listen=str(self._leech),
                torrent=TorrentConfig(max_open_bytes=self._plan.open_bytes),
                disk=DiskConfig(inline=True),
            ),
            network=self._net.host(self._leech.host),
            open_storage=open_storage,
            rng=random.Random(self._rng.getrandbits(64)),
            trace=self._on_record,
        ) as node:
            torrent = await node.get(self._metainfo)
            task_status.started(torrent)
            await torrent.completed()
            whole = storage.read(0, self._plan.size)
            if whole != self._piece * self._plan.pieces:
                raise RuntimeError("the leech's copy differs")
            await trio.sleep_forever()

    def _on_record(self, record: Record) -> None:
        match record:
            case PeerBanned() if record.address == self._seed:
                self._outcome.honest_bans += 1
            case PeerBanned():
                self._outcome.bans += 1
            case PieceFailed():
                self._outcome.failed += 1
            case _:
                pass

    # -- the others -----------------------------------------------------------------------------

    async def _live(self, address: Address, task_status: trio.TaskStatus[None]) -> None:
        host = self._net.host(address.host)
        serve = self._honest if address == self._seed else self._poisoner()
        listener = await host.listen(address)
        task_status.started()
        async with trio.open_nursery() as nursery:
            while True:
                stream = await listener.accept()
                nursery.start_soon(self._serve, host, stream, serve)

    async def _serve(self, host: FakeHost, stream: Stream, serve: _Serve) -> None:
        await serve(stream)
        while self._plan.returning and serve != self._honest:
            await trio.sleep(_BACK_AFTER)
            try:
                again = await host.connect(self._leech)
            except OSError:
                continue
            await serve(again)

    async def _honest(self, stream: Stream) -> None:
        await self._answer(stream, self._plan.pause, lambda index, number: False)

    def _poisoner(self) -> _Serve:
        plan, rng = self._plan, random.Random(self._rng.getrandbits(64))
        chosen: dict[int, int] = {}

        def spoils(index: int, number: int) -> bool:
            if plan.spoil is not None:
                return rng.random() < plan.spoil
            if index not in chosen:
                chosen[index] = rng.randrange(plan.blocks)
            return number == chosen[index]

        async def serve(stream: Stream) -> None:
            await self._answer(stream, plan.poisoner_pause, spoils)

        return serve

    async def _answer(
        self, stream: Stream, pause: float, spoils: Callable[[int, int], bool]
    ) -> None:
        """Says it has everything, and serves until the other side hangs up."""
        buffer, data = memoryview(bytearray(64 * 1024)), bytearray()
        try:
            name = b"-LB0001-%012d" % self._rng.randrange(10**12)
            hello = b"\x13BitTorrent protocol" + _RESERVED + self._metainfo.info_hash + name
            await stream.send(hello, _message(_HAVE_ALL), _message(_UNCHOKE))
            greeted, free_at = False, trio.current_time()
            while size := await stream.receive_into(buffer):
                data += buffer[:size]
                if not greeted:
                    if len(data) < 68:
                        continue
                    greeted = True
                    del data[:68]
                at = 0
                while len(data) - at >= 4:
                    (length,) = struct.unpack_from(">I", data, at)
                    if len(data) - at - 4 < length:
                        break
                    if length == 13 and data[at + 4] == _REQUEST:
                        index, begin, wanted = struct.unpack_from(">III", data, at + 5)
                        free_at = max(free_at, trio.current_time()) + pause
                        await trio.sleep_until(free_at)
                        block = bytearray(self._piece[begin : begin + wanted])
                        if spoils(index, begin // BLOCK):
                            block[0] ^= 1
                        await stream.send(_message(_PIECE, struct.pack(">II", index, begin), block))
                    at += 4 + length
                del data[:at]
        except OSError:
            pass
        finally:
            stream.close()


def _public(number: int) -> Address:
    """A public address each: private ones are treated as neighbours."""
    return Address(f"45.{number >> 8}.{number & 255}.1", _PORT)


def _message(kind: int, *parts: bytes | bytearray) -> bytes:
    body = b"".join(parts)
    return struct.pack(">IB", 1 + len(body), kind) + body


def _metainfo(piece: bytes, count: int) -> Metainfo:
    return from_info(
        bencode.encode(
            {
                b"length": len(piece) * count,
                b"name": b"content",
                b"piece length": len(piece),
                b"pieces": hashlib.sha1(piece).digest() * count,
                b"private": 1,
            }
        )
    )
