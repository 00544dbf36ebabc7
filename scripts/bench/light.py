"""Peers that cost next to nothing, so that what is measured is the other side.

    python scripts/bench/light.py ROLE '{"json": "options"}'

Workers as those of peers.py that also answer an empty line on stdin: with what they have used and
seen so far. One thread, one selector, no classes per message.

Roles: crowd (leeches that ask, count and throw away), idlers (connections that do nothing), floor
(a seed that decides nothing: what the crowd can take at least), pinger (DHT pings at fixed times)
and bystander (echoes datagrams and watches its timer: what lateness the machine itself makes).
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import mmap
import os
import random
import selectors
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from peers import Peer, Usage, allow_many_files, resident, say, wait_for_go

from dht_torrent.bencode import decode
from dht_torrent.errors import BencodeError
from dht_torrent.metainfo import BLOCK, Metainfo, parse_torrent

CHOKE, UNCHOKE, INTERESTED, PIECE = 0, 1, 2, 7
REQUEST = struct.Struct(">IBIII")
PIECE_HEAD = struct.Struct(">IBII")
BUFFER = 1 << 20
"""Read at once from one connection."""
KEEP_ALIVE = 30.0
"""Seconds between two signs of life of an idler: every client closes after 120 without."""
PATIENCE = 30.0
"""Seconds a seed may take to answer a handshake."""
QUERY_WINDOW, QUERY_BURST = 10.0, 40
"""A pinger sends fewer pings from one port in so many seconds: DhtConfig has 50 for the limit."""
LAST_REPLIES = 1.0
"""Seconds a pinger waits for what is still out before it counts it as lost."""


class WrongError(Exception):
    """The other side broke the protocol or sent wrong data: there is nothing to measure."""


def asked(usage: Usage, **more: Any) -> bool:
    """Answer what stdin asks. False when the parent has closed it. Call when it is readable."""
    data = os.read(sys.stdin.fileno(), 4096)
    for _ in range(data.count(b"\n")):
        say(usage.line("usage", **resident(), **more))
    return bool(data)


def watch() -> selectors.BaseSelector:
    """A selector that knows stdin, with no data."""
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ)
    return selector


def greet(info_hash: bytes, number: int) -> bytes:
    """The handshake of the `number`-th light peer: no extensions, so that there is least to do."""
    return b"\x13BitTorrent protocol" + bytes(8) + info_hash + f"-LI0000-{number:012d}".encode()


def dial(peer: Peer, info_hash: bytes, number: int) -> socket.socket:
    """Connect from an address of its own, and shake hands. One at a time fits any backlog."""
    home = (f"127.0.{number // 250}.{2 + number % 250}", 0)
    connection = socket.create_connection(peer, timeout=PATIENCE, source_address=home)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(greet(info_hash, number))
    answer = b""
    while len(answer) < 68:
        if not (part := connection.recv(68 - len(answer))):
            raise WrongError(f"the seed did not want connection {number}")
        answer += part
    if answer[28:48] != info_hash:
        raise WrongError("the seed answers for another torrent")
    connection.setblocking(False)
    return connection


# --- leeches ---------------------------------------------------------------------------------


class Leech:
    """Keeps `depth` requests out, in whole pieces of random order, over and over. Now and then it
    keeps a piece and compares its SHA-1; all other payload is only counted."""

    def __init__(self, connection: socket.socket, metainfo: Metainfo, depth: int, seed: int):
        self.socket = connection
        self.taken = 0
        """Payload bytes."""
        self.proved = 0
        """Pieces whose SHA-1 was right."""
        self._metainfo = metainfo
        self._depth = depth
        self._requests = self._all_requests(random.Random(seed))
        self._unchoked = False
        self._outstanding = 0
        self._unsent = b""
        self._carry = b""  # the beginning of a message whose head is not all there
        self._need = 0  # payload of the present block that is still to come
        self._index = self._at = 0  # where that belongs
        self._kept: tuple[int, bytearray] | None = None
        self._kept_bytes = 0

    def ask(self) -> None:
        """Say that we want something. The rest follows from what comes."""
        self.socket.sendall(struct.pack(">IB", 1, INTERESTED))

    def receive(self, view: memoryview) -> None:
        """Take what has come, in one read into `view`, which all leeches share."""
        carried = len(self._carry)
        view[:carried] = self._carry
        try:
            count = self.socket.recv_into(view[carried:])
        except BlockingIOError:
            return
        if not count:
            raise WrongError("the seed hung up")
        self._take(view, carried + count)
        self._refill()

    def _take(self, view: memoryview, end: int) -> None:
        at = self._take_payload(view, 0, end) if self._need else 0
        while end - at >= 5 or (end - at == 4 and view[at:end] == bytes(4)):
            length = int.from_bytes(view[at : at + 4], "big")
            if not length:
                at += 4
            elif view[at + 4] != PIECE:
                if end - at < 4 + length:
                    break
                self._control(view[at + 4])
                at += 4 + length
            elif end - at < 13:
                break
            else:
                _, _, self._index, self._at = PIECE_HEAD.unpack_from(view, at)
                self._need = length - 9
                at = self._take_payload(view, at + 13, end)
        self._carry = bytes(view[at:end])

    def _take_payload(self, view: memoryview, at: int, end: int) -> int:
        part = min(self._need, end - at)
        if self._kept is not None and self._kept[0] == self._index:
            self._keep(view[at : at + part])
        self._at += part
        self._need -= part
        self.taken += part
        if not self._need:
            self._outstanding -= 1
        return at + part

    def _keep(self, part: memoryview) -> None:
        assert self._kept is not None
        index, piece = self._kept
        piece[self._at : self._at + len(part)] = part
        self._kept_bytes += len(part)
        if self._kept_bytes == len(piece):
            if hashlib.sha1(piece).digest() != self._metainfo.piece_hash(index):
                raise WrongError(f"piece {index} is wrong")
            self._kept = None
            self.proved += 1

    def _control(self, kind: int) -> None:
        if kind == UNCHOKE:
            self._unchoked = True
        elif kind == CHOKE:
            # What was asked and has not come will not (BEP 3), nor will the kept piece be whole.
            self._unchoked, self._outstanding, self._kept, self._unsent = False, 0, None, b""

    def _refill(self) -> None:
        room = self._depth - self._outstanding
        if self._unchoked and room >= self._depth // 4:  # seldom and many, to save calls
            self._unsent += b"".join(itertools.islice(self._requests, room))
            self._outstanding = self._depth
        if self._unsent:
            with contextlib.suppress(BlockingIOError):
                self._unsent = self._unsent[self.socket.send(self._unsent) :]

    def _all_requests(self, rng: random.Random) -> Iterator[bytes]:
        geometry = self._metainfo.geometry
        pieces = list(range(geometry.piece_count))
        while True:
            rng.shuffle(pieces)
            for index in pieces:
                size = geometry.piece_size(index)
                if self._kept is None and rng.random() < 1 / 64:
                    self._kept, self._kept_bytes = (index, bytearray(size)), 0
                for begin in range(0, size, BLOCK):
                    yield REQUEST.pack(13, 6, index, begin, min(BLOCK, size - begin))


def run_crowd(torrent: str, leeches: int, first: int, depth: int) -> None:
    """`leeches` from the number `first` on. Says `running` when each of them is being served."""
    metainfo = parse_torrent(Path(torrent).read_bytes())
    say({"event": "ready"})
    (peer,) = wait_for_go()
    usage = Usage()
    crowd = [
        Leech(dial(peer, metainfo.info_hash, number), metainfo, depth, number)
        for number in range(first, first + leeches)
    ]
    selector = watch()
    for leech in crowd:
        selector.register(leech.socket, selectors.EVENT_READ, leech)
        leech.ask()
    view = memoryview(bytearray(BUFFER))
    running = False
    while True:
        for key, _ in selector.select():
            if key.data is not None:
                key.data.receive(view)
            elif not asked(usage, taken=[one.taken for one in crowd]):
                say(usage.line("stopped", proved=sum(one.proved for one in crowd)))
                return
        if not running and all(one.taken for one in crowd):
            running = True
            say({"event": "running"})


def run_idlers(torrents: str, count: int) -> None:
    """`count` connections spread over all the .torrent files of a folder. `alive` tells how many
    are left."""
    hashes = [parse_torrent(p.read_bytes()).info_hash for p in sorted(Path(torrents).iterdir())]
    say({"event": "ready"})
    (peer,) = wait_for_go()
    usage = Usage()
    selector = watch()
    idle = [dial(peer, hashes[number % len(hashes)], number) for number in range(count)]
    for connection in idle:
        selector.register(connection, selectors.EVENT_READ, connection)
    say({"event": "running"})
    due = time.monotonic() + KEEP_ALIVE
    while True:
        for key, _ in selector.select(max(0.0, due - time.monotonic())):
            if key.data is None:
                if not asked(usage, alive=len(idle)):
                    say(usage.line("stopped"))
                    return
            elif not _drain(key.data):
                selector.unregister(key.data)
                idle.remove(key.data)
        if time.monotonic() >= due:
            due += KEEP_ALIVE
            for connection in idle:
                with contextlib.suppress(OSError):  # whoever has hung up is found by reading
                    connection.send(bytes(4))


def _drain(connection: socket.socket) -> bool:
    try:
        return bool(connection.recv(BUFFER))
    except BlockingIOError:
        return True
    except OSError:
        return False


# --- a seed that decides nothing -------------------------------------------------------------


class Giver:
    """Answers every request at once from mapped content. Checks nothing, remembers nothing."""

    def __init__(self, connection: socket.socket, content: memoryview, metainfo: Metainfo) -> None:
        self.socket = connection
        self._content = content
        self._metainfo = metainfo
        self._carry = b""
        self._greeted = False
        self._out: deque[memoryview | bytes] = deque()  # bounded by the crowd's depth

    def receive(self) -> bool:
        """False when the other side is gone."""
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        if not data:
            return False
        data = self._carry + data
        at = 0
        if not self._greeted and len(data) >= 68:
            self._greeted, at = True, 68
            self._out += [greet(self._metainfo.info_hash, 0), self._bitfield()]
        while self._greeted and len(data) - at >= 5:
            length = int.from_bytes(data[at : at + 4], "big")
            if len(data) - at < 4 + length:
                break
            if data[at + 4] == INTERESTED:
                self._out.append(struct.pack(">IB", 1, UNCHOKE))
            else:
                _, _, index, begin, size = REQUEST.unpack_from(data, at)
                start = index * self._metainfo.geometry.piece_length + begin
                self._out += [
                    PIECE_HEAD.pack(9 + size, PIECE, index, begin),
                    self._content[start : start + size],
                ]
            at += 4 + length
        self._carry = data[at:]
        return True

    def _bitfield(self) -> bytes:
        count = self._metainfo.geometry.piece_count
        spare = -count % 8
        field = ((1 << count) - 1 << spare).to_bytes((count + spare) // 8, "big")
        return struct.pack(">IB", 1 + len(field), 5) + field

    def send(self) -> bool:
        """As much as the socket takes. True when there is more."""
        while self._out:
            try:
                sent = self.socket.sendmsg(itertools.islice(self._out, 128))
            except BlockingIOError:
                return True
            while self._out and sent >= len(self._out[0]):
                sent -= len(self._out.popleft())
            if sent:
                self._out[0] = memoryview(self._out[0])[sent:]
        return False


def run_floor(torrents: str, folder: str) -> None:
    """Serve the one torrent of a folder, whose content is a single file."""
    (torrent,) = Path(torrents).iterdir()
    metainfo = parse_torrent(torrent.read_bytes())
    with (
        (Path(folder) / metainfo.name).open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as content,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        say({"event": "ready", "port": server.getsockname()[1]})
        wait_for_go()
        usage = Usage()
        selector = watch()
        selector.register(server, selectors.EVENT_READ, server)
        while True:
            for key, _ in selector.select():
                if key.data is None:
                    if not asked(usage):
                        say(usage.line("stopped"))
                        os._exit(0)  # the slices still queued would keep the mapping from closing
                elif key.data is server:
                    connection, _ = server.accept()
                    connection.setblocking(False)
                    giver = Giver(connection, content, metainfo)
                    selector.register(connection, selectors.EVENT_READ, giver)
                else:
                    _serve(selector, key)


def _serve(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    giver: Giver = key.data
    try:
        if not giver.receive():
            selector.unregister(giver.socket)
            return
        more = giver.send()
    except ConnectionError:
        selector.unregister(giver.socket)
        return
    events = selectors.EVENT_READ | (selectors.EVENT_WRITE if more else 0)
    if events != key.events:
        selector.modify(giver.socket, events, giver)


# --- lateness --------------------------------------------------------------------------------


def run_pinger(interval: float) -> None:
    """DHT pings to every address of the go, each `interval` seconds, whatever comes back. `usage`
    has, per address, the seconds each answer took since the last time, and how many are `lost`."""
    say({"event": "ready"})
    pinger = Pinger(wait_for_go(), math.ceil(QUERY_WINDOW / interval / QUERY_BURST))
    usage = Usage()
    due = time.monotonic()
    while True:
        if pinger.hear(max(0.0, due - time.monotonic())):
            until = time.monotonic() + LAST_REPLIES
            while pinger.out and time.monotonic() < until:
                pinger.hear(0.001)
            if not asked(usage, took=pinger.took, lost=len(pinger.out)):
                say(usage.line("stopped"))
                return
            pinger.forget()
            due = time.monotonic()
        if time.monotonic() >= due:
            due += interval
            pinger.send()


class Pinger:
    """Sends from many ports in turn: a node ignores a single one that asks so much."""

    def __init__(self, targets: list[Peer], channels: int) -> None:
        self.out: dict[bytes, tuple[int, float]] = {}
        """Transactions not answered: which target, and when they were sent."""
        self.took: list[list[float]] = [[] for _ in targets]
        self._targets = targets
        self._numbers = itertools.count()
        self._selector = watch()
        self._channels = []
        for _ in range(channels):
            channel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            channel.bind(("127.0.0.3", 0))
            channel.setblocking(False)
            self._selector.register(channel, selectors.EVENT_READ, channel)
            self._channels.append(channel)

    def send(self) -> None:
        """One ping to each target."""
        number = next(self._numbers)
        for i, target in enumerate(self._targets):
            tid = struct.pack(">HI", i, number)
            self.out[tid] = (i, time.monotonic())
            self._channels[number % len(self._channels)].sendto(_ping(tid), target)

    def hear(self, patience: float) -> bool:
        """Take what comes within `patience` seconds, if anything. True when stdin has a word."""
        called = False
        for key, _ in self._selector.select(patience):
            if key.data is None:
                called = True
                continue
            now = time.monotonic()
            with contextlib.suppress(BlockingIOError):
                while True:
                    sent = self.out.pop(_transaction(key.data.recv(2048)), None)
                    if sent is not None:
                        self.took[sent[0]].append(now - sent[1])
        return called

    def forget(self) -> None:
        """Begin anew."""
        self.out.clear()
        self.took = [[] for _ in self._targets]


def _ping(tid: bytes) -> bytes:
    # Read-only (BEP 43): we answer nothing, so no table should want us.
    return b"d1:ad2:id20:lightweightlightweige1:q4:ping2:roi1e1:t6:" + tid + b"1:y1:qe"


def _transaction(data: bytes) -> bytes:
    with contextlib.suppress(BencodeError):
        message = decode(data)
        if isinstance(message, dict) and isinstance(tid := message.get(b"t"), bytes):
            return tid
    return b""


def run_bystander(interval: float) -> None:
    """Sends datagrams back, and notes how `late` it wakes from waits of `interval` seconds."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        channel.bind(("127.0.0.1", 0))
        say({"event": "ready", "port": channel.getsockname()[1]})
        wait_for_go()
        usage = Usage()
        late: list[float] = []
        selector = watch()
        selector.register(channel, selectors.EVENT_READ, channel)
        due = time.monotonic() + interval
        while True:
            ready = [key.data for key, _ in selector.select(max(0.0, due - time.monotonic()))]
            if (now := time.monotonic()) >= due:
                late.append(now - due)
                due = now + interval
            if channel in ready:
                data, source = channel.recvfrom(2048)
                channel.sendto(data, source)
            if None in ready:
                if not asked(usage, late=late):
                    say(usage.line("stopped"))
                    return
                late = []


ROLES: dict[str, Callable[..., None]] = {
    "crowd": run_crowd,
    "idlers": run_idlers,
    "floor": run_floor,
    "pinger": run_pinger,
    "bystander": run_bystander,
}


if __name__ == "__main__":
    allow_many_files()
    ROLES[sys.argv[1]](**json.loads(sys.argv[2]))
