"""Seeds that deliver as real ones do: in pulses, behind a limiter, far away. Bytes written by hand.

All content is the same byte, so that gigabytes need no memory: `Nothing` is the storage for it.
"""

from __future__ import annotations

import random
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha1
from pathlib import Path

import trio

from dht_torrent.errors import StorageError
from dht_torrent.geometry import BLOCK
from dht_torrent.metainfo import Metainfo, from_info
from dht_torrent.storage.protocol import ContentSurvey, Data, FileStamp, Scratch
from tests.helpers.engine import EXTENDED, HAVE_ALL, PIECE, REJECT, REQUEST, UNCHOKE, Hand
from tests.helpers.raw_peer import CANCEL

PIECE_LENGTH = 1 << 20
_BLOCK = struct.Struct(">III")
_HEADER = struct.pack(">IB", 9 + BLOCK, PIECE)
_ONES = b"\x01" * BLOCK
BATCH = 16
"""Blocks in a write."""


def ones(size: int) -> Metainfo:
    """A torrent of `size` bytes, all 1, in whole pieces. (Zeros would be found in the holes.)"""
    count = size // PIECE_LENGTH
    digest = sha1(b"\x01" * PIECE_LENGTH).digest()
    return from_info(
        b"d6:lengthi%de4:name4:ones12:piece lengthi%de6:pieces%d:%be"
        % (count * PIECE_LENGTH, PIECE_LENGTH, 20 * count, digest * count)
    )


class Nothing:
    """A storage that keeps nothing and has nothing."""

    path = Path("nothing")

    def __init__(self) -> None:
        self.access = bytearray(1)

    @property
    def layout(self) -> None:
        return None

    def read(self, offset: int, length: int) -> bytes:
        return bytes(length)

    def read_into(self, offset: int, *buffers: memoryview) -> None:
        for buffer in buffers:
            buffer[:] = bytes(len(buffer))

    def try_read_into(self, offset: int, *buffers: memoryview) -> bool:
        return False

    def write(self, offset: int, data: Data) -> None:
        """Gone."""

    def write_many(self, parts: Sequence[tuple[int, Data]]) -> tuple[int, StorageError | None]:
        return len(parts), None

    def note_unflushed(self, files: Collection[int]) -> None:
        """Nothing to note."""

    def sync(self, files: Collection[int] | None = None) -> None:
        """Nothing to do."""

    def stamps(self) -> tuple[FileStamp | None, ...]:
        return (None,)

    def survey(self) -> ContentSurvey:
        return ContentSurvey(self.stamps())

    def place(self) -> None:
        """Nowhere."""

    def present(self, numbers: Sequence[int]) -> bool:
        return True

    def mounted_at(self) -> None:
        """Nowhere."""

    def blank(self, number: int, start: int, stop: int) -> bool:
        return True

    def next_data(self, offset: int, end: int) -> tuple[int, int]:
        return end, end

    def create(self, needed: int | None = None) -> None:
        """Nothing to do."""

    def scratch(self) -> Scratch:
        raise NotImplementedError

    def delete(self, numbers: Iterable[int]) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""


Pace = Callable[["PacedSeed", Hand], Awaitable[None]]
"""Answers what is in `asked` for as long as the connection lives."""


@dataclass
class PacedSeed:
    """Has everything, unchokes everybody, and answers at the pace it was given."""

    metainfo: Metainfo
    pace: Pace
    reqq: int = 2000
    rejects: Callable[[tuple[int, int, int]], bool] = lambda block: False
    """Blocks it says no to (BEP 6)."""
    asked: deque[tuple[int, int, int]] = field(default_factory=deque)
    most: int = 0
    """Requests that ever waited here."""
    times: list[tuple[float, tuple[int, int, int]]] = field(default_factory=list)
    """When which request came."""
    news: trio.Event = field(default_factory=trio.Event)
    writing: trio.Lock = field(default_factory=trio.Lock)

    async def __call__(self, hand: Hand) -> None:
        name = b"-PS0001-" + hand.stream.local.host.encode()
        await hand.hello(self.metainfo.info_hash, name, extended=True)
        await hand.send(HAVE_ALL)
        await hand.send(EXTENDED, data=b"\0d1:mde4:reqqi%dee" % self.reqq)
        await hand.send(UNCHOKE)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.pace, self, hand)
                await self._listen(hand)
        except* (EOFError, OSError):
            pass  # the other side hung up

    async def _listen(self, hand: Hand) -> None:
        """Reads many messages at a time: there are thousands a second."""
        buffer = memoryview(bytearray(256 * 1024))
        while True:
            for kind, payload in await hand.receive_all(buffer):
                if kind == REQUEST:
                    block = _BLOCK.unpack(payload)
                    self.times.append((trio.current_time(), block))
                    if self.rejects(block):
                        async with self.writing:
                            await hand.send(REJECT, *block)
                    else:
                        self.asked.append(block)
                elif kind == CANCEL and (block := _BLOCK.unpack(payload)) in self.asked:
                    self.asked.remove(block)
            self.most = max(self.most, len(self.asked))
            if self.asked:
                self.news.set()

    async def wait(self) -> None:
        """Returns when something is asked."""
        if not self.asked:
            self.news = trio.Event()
            await self.news.wait()

    async def answer(self, hand: Hand, count: int) -> None:
        """The first `count` of what is asked, in a few writes."""
        while count > 0:
            batch = [self.asked.popleft() for _ in range(min(BATCH, count, len(self.asked)))]
            if not batch:
                return
            count -= len(batch)
            data = b"".join(_HEADER + struct.pack(">II", *block[:2]) + _ONES for block in batch)
            async with self.writing:
                await hand.raw(data)


async def at_once(seed: PacedSeed, hand: Hand) -> None:
    """As fast as the link takes it."""
    while True:
        await seed.wait()
        await seed.answer(hand, len(seed.asked))


def pulses(period: float, *, jitter: float = 0.0, seed: int = 1) -> Pace:
    """Each `period` seconds all that was asked by then; what is asked meanwhile waits, save for the
    first request of all, which is answered at once. `jitter`: each pulse is late by up to this
    share of the period."""

    async def pace(seed_: PacedSeed, hand: Hand) -> None:
        await seed_.wait()
        await seed_.answer(hand, 1)
        rng, start, number = random.Random(seed), trio.current_time(), 0
        while True:
            number += 1
            when = start + (number + jitter * rng.random()) * period
            await trio.sleep_until(max(when, trio.current_time()))
            number = max(number, int((trio.current_time() - start) / period))
            await seed_.answer(hand, len(seed_.asked))

    return pace


def chained_pulses(period: float) -> Pace:
    """As Transmission 3 does: goes on while there is something asked, and once there is not, looks
    again at the next pulse."""

    async def pace(seed: PacedSeed, hand: Hand) -> None:
        await seed.wait()
        await seed.answer(hand, 1)
        start = trio.current_time()
        while True:
            passed = trio.current_time() - start
            await trio.sleep_until(start + (int(passed / period + 1e-9) + 1) * period)
            while seed.asked:
                await seed.answer(hand, BATCH)

    return pace


def bucket(rate: float, *, depth: float = 0.1, tick: float = 0.0) -> Pace:
    """A token bucket of `rate` bytes per second, which holds `depth` seconds of it. `tick`: it is
    looked at so often only."""

    async def pace(seed: PacedSeed, hand: Hand) -> None:
        most = max(rate * depth, BLOCK)
        tokens, last = most, trio.current_time()
        while True:
            await seed.wait()
            now = trio.current_time()
            tokens, last = min(most, tokens + rate * (now - last)), now
            count = min(len(seed.asked), int(tokens / BLOCK + 1e-6))
            if count:
                tokens -= count * BLOCK
                await seed.answer(hand, count)
                continue
            await trio.sleep(max(tick, (BLOCK - tokens) / rate))

    return pace
