"""Blocks that we asked for are received where they belong, not looked at one by one and not copied.

A peer answers in the order it was asked, so the headers to come are known bytes: the stream
scatters what comes, each header to one place and each payload to another, and then all headers are
compared with those expected at once. Some answer in another order, as their disks do: from the
first block on that comes out of turn, each is looked up, and moved if it is in another's place.

The rule: what comes is what `Connection.receive` would have made of it. Only blocks that came whole
are taken here. One that has begun is kept by the connection, as any message is, and never in the
piece alone, which may be given up before the rest comes. From the first header on that is none of
those expected, everything is put together again and parsed: blocks that come behind a small message
are a run in there (`PieceRun`), to be copied to where it belongs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final, NamedTuple, Protocol

from dht_torrent.geometry import BLOCK
from dht_torrent.peer.connection import Connection, Event
from dht_torrent.peer.messages import FULL_PIECE as MESSAGE
from dht_torrent.peer.messages import MAX_PIECE_LENGTH, PIECE, BlocksInPlace
from dht_torrent.peer.messages import PIECE_HEADER as HEADER
from dht_torrent.peer.permuting import put_in_place

FEW: Final = 128
"""Blocks that may be taken in one turn even though others parsed them: their data is copied, twice,
and not looked at."""

_PIECE_ID = bytes((PIECE,))
_length = Struct(">I").unpack_from
_header = Struct(">IBII")
_pack_header = _header.pack
_template = bytearray()  # headers of adjacent blocks of piece 0, as many as were ever needed


class Expected(Protocol):
    """Blocks of full length that a peer was asked for, and where they can be received."""

    @property
    def index(self) -> int:
        """The piece."""

    @property
    def first(self) -> int:
        """The first block's number in it ..."""

    @property
    def blocks(self) -> int:
        """... and how many follow one another."""

    @property
    def headers(self) -> bytearray:
        """Room for headers, that of block n at n times HEADER."""

    @property
    def buffers(self) -> list[memoryview]:
        """By turns, for each of these blocks: its header's place in there, its payload's place."""


class _Part(NamedTuple):
    """Some of the blocks that are expected."""

    index: int  # type: ignore[assignment] # hides tuple.index
    first: int
    blocks: int
    headers: bytearray
    buffers: list[memoryview]


class Answers:
    """What one connection receives next."""

    __slots__ = ("_buffer", "_buffers", "_connection", "_left", "_runs", "_tail")

    def __init__(self, connection: Connection, buffer: memoryview) -> None:
        """`buffer` is for what is not expected, and may be shared by all connections: nothing stays
        in it from one turn to the next."""
        self._connection = connection
        self._buffer = buffer
        self._left = memoryview(b"")
        self._forget()

    def _forget(self) -> None:
        self._runs: Sequence[Expected] = ()
        self._buffers: list[memoryview] = []
        self._tail = 0  # where in them the buffer for anything comes

    @property
    def left(self) -> bool:
        """Is there something that came and was not taken yet? It is `rest`, and comes first."""
        return bool(self._left)

    def rest(self, most: int) -> tuple[int, list[Event]]:
        """Take at most so many bytes of it, blocks not counted. Returns how many, and what they
        mean."""
        size = self._turn(self._left, most)
        part, self._left = self._left[:size], self._left[size:]
        return size, self._connection.receive(part)

    def plan(
        self, expect: Callable[[int], Sequence[Expected]], room: int, room_in_place: int
    ) -> list[memoryview]:
        """Where the next `room` bytes go, or as many as `room_in_place` if they are blocks that we
        `expect`, given how many at most. When they have come: `took`. In between nothing else may
        happen, as the places are not ours for longer than that."""
        begun = self._connection.begun
        skip = len(begun)
        most = (skip + min(max(room, room_in_place), len(self._buffer))) // MESSAGE
        runs = expect(most) if most else ()
        if skip and runs:
            runs = _led_by(bytes(begun[:HEADER]), runs)
        buffers: list[memoryview] = []
        for run in runs:
            buffers += run.buffers
        if skip and runs:
            buffers[0][:] = begun[:HEADER]
            buffers[:2] = [buffers[1][skip - HEADER :]]
        self._runs = runs
        self._tail = len(buffers)
        placed = sum([run.blocks for run in runs]) * MESSAGE - skip if runs else 0
        if placed < room:
            # Behind the room that what came before it takes when it is put together again.
            buffers.append(self._buffer[placed:room])
        self._buffers = buffers
        return buffers

    def took(self, size: int, most: int) -> tuple[int, list[Event]]:
        """So many bytes came, and went where `plan` said. Takes the blocks, and of what else there
        is at most so many bytes now, blocks not counted. Returns how many were taken in all, and
        what they mean."""
        connection, skip = self._connection, len(self._connection.begun)
        whole = (skip + size) // MESSAGE
        done = 0
        events: list[Event] = []
        slots: list[int] = []
        for run in self._runs:
            due = min(run.blocks, whole - done)
            blocks = _alike(run, due)
            if blocks:
                events.append(BlocksInPlace(run.index, run.first, blocks))
                done += blocks
            if blocks < due:
                slots = self._out_of_turn(done, whole)
                break
        self._tell(slots, events)
        taken = at = 0
        if all_done := done + len(slots):
            taken, at = all_done * MESSAGE, 2 * all_done
            if skip:
                self._runs[0].buffers[1][: skip - HEADER] = memoryview(connection.begun)[HEADER:]
                taken, at = taken - skip, at - 1
            connection.took_elsewhere(all_done, len(events))
        rest = self._gathered(at, taken, size) if taken < size else memoryview(b"")
        if slots:
            put_in_place(self._payloads(), done, slots)
        if rest:
            now = self._turn(rest, most)
            taken += now
            self._left = memoryview(bytes(rest[now:]))
            events += connection.receive(rest[:now])
        self._forget()
        return taken, events

    def _out_of_turn(self, done: int, whole: int) -> list[int]:
        """Which of the blocks expected have come in place of those from number `done` on, up to the
        first message that is none of them, or comes again."""
        due = b"".join([_headers(run.index, run.first, run.blocks) for run in self._runs])
        came = b"".join(
            [run.headers[HEADER * run.first :][: HEADER * run.blocks] for run in self._runs]
        )
        start, step = done * HEADER, HEADER
        slots = {due[at : at + step]: at // step for at in range(start, len(due), step)}
        found: list[int] = []
        for at in range(start, min(whole * step, len(came)), step):
            slot = slots.pop(came[at : at + step], None)
            if slot is None:
                break
            found.append(slot)
        return found

    def _tell(self, slots: Sequence[int], events: list[Event]) -> None:
        """Add events for these of the blocks expected, as they came."""
        if not slots:
            return
        names = [(run.index, run.first + n) for run in self._runs for n in range(run.blocks)]
        index = first = blocks = -1
        for slot in slots:
            name = names[slot]
            if name == (index, first + blocks):
                blocks += 1
                continue
            if blocks > 0:
                events.append(BlocksInPlace(index, first, blocks))
            (index, first), blocks = name, 1
        events.append(BlocksInPlace(index, first, blocks))

    def _payloads(self) -> list[memoryview]:
        """The places of the blocks expected."""
        return [place for run in self._runs for place in run.buffers[1::2]]

    def _turn(self, data: memoryview, most: int) -> int:
        """How much of `data` is taken in this turn: so many bytes, and a few blocks besides."""
        size = len(data)
        if size <= most:
            return size
        at = other = 0  # bytes looked at, and those of them that are no blocks
        if begun := self._connection.begun:
            if len(begun) < 4:
                return most
            at = 4 + _length(begun)[0] - len(begun)
            other = 0 if begun[4:5] == _PIECE_ID else at
            if other > most:
                return most
        for _ in range(FEW):
            if at + 4 >= size:
                return size
            length = 4 + _length(data, at)[0]
            if data[at + 4] != PIECE:
                other += length
            if other > most:
                break
            at += length
        return min(size, max(at, most))

    def _gathered(self, at: int, start: int, end: int) -> memoryview:
        """What came from `start` to `end`, of which the first lies in the buffer that is `at` this
        place."""
        if self._tail == len(self._buffers):  # none of it lies in ours, of which we use the front
            start, end = 0, end - start
        together, position = self._buffer, start
        for buffer in self._buffers[at : self._tail]:
            part = buffer[: end - position]
            together[position : position + len(part)] = part
            position += len(part)
            if position == end:
                break
        return together[start:end]


def _led_by(header: bytes, runs: Sequence[Expected]) -> Sequence[Expected]:
    """These blocks, with the one that has begun before all others. None if it is not among them, or
    has shown too little of itself."""
    if header == _headers(runs[0].index, runs[0].first, 1):
        return runs
    if len(header) < HEADER:
        return ()
    _, _, index, begin = _header.unpack(header)
    number = begin // BLOCK
    for at, run in enumerate(runs):
        ahead = number - run.first
        if run.index == index and 0 <= ahead < run.blocks and header == _headers(index, number, 1):
            sides = [_part(run, 0, ahead), _part(run, ahead + 1, run.blocks)]
            others = [part for part in sides if part.blocks]
            return [_part(run, ahead, 1), *runs[:at], *others, *runs[at + 1 :]]
    return ()


def _part(run: Expected, skipped: int, blocks: int) -> _Part:
    """So many blocks of a run at most, behind those that are skipped."""
    first, blocks = run.first + skipped, min(blocks, run.blocks - skipped)
    buffers = run.buffers[2 * skipped : 2 * (skipped + blocks)]
    return _Part(run.index, first, blocks, run.headers, buffers)


def _alike(run: Expected, blocks: int) -> int:
    """How many of the run's first blocks came behind the headers expected."""
    start = run.first * HEADER
    expected = _headers(run.index, run.first, blocks)
    came = run.headers[start : start + len(expected)]
    if came == expected:
        return blocks
    return next(
        n for n in range(blocks) if came[n * HEADER :][:HEADER] != expected[n * HEADER :][:HEADER]
    )


def _headers(index: int, first: int, blocks: int) -> bytes:
    """The headers in front of adjacent blocks of a piece."""
    end = first + blocks
    while len(_template) < end * HEADER:
        begin = len(_template) // HEADER * BLOCK
        _template.extend(_pack_header(MAX_PIECE_LENGTH, PIECE, 0, begin))
    stamped = _template[first * HEADER : end * HEADER]
    for place, byte in enumerate(index.to_bytes(4, "big"), start=5):
        stamped[place::HEADER] = bytes((byte,)) * blocks
    return bytes(stamped)
