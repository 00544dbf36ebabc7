"""A seed and a leech that are nothing but the uTP of this package: one peer, one UDP socket, a
plain loop, and as much of BitTorrent as a transfer needs. What the engine adds is not in it.

    python scripts/bench/utp_peer.py utp-seed '{"torrent": "...", "path": "..."}'

Workers as `peers.py` has them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import select
import socket
import struct
import sys
import time
from collections import deque
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from peers import Usage, say, wait_for_go

from dht_torrent.config import UtpConfig
from dht_torrent.engine.net.mmsg import BATCH, Batches
from dht_torrent.ids import Address
from dht_torrent.utp.connection import UtpConnection
from dht_torrent.utp.table import UtpTable

BLOCK = 1 << 14
AHEAD = 512
"""Blocks asked for and not here yet; libtorrent takes 2,000."""
UNCHOKE, INTERESTED, REQUEST, PIECE, HAVE_ALL, HAVE_NONE = 1, 2, 6, 7, 14, 15
DONT_FRAGMENT, MAY_FRAGMENT, MTU_DISCOVER = 2, 0, 10  # linux/in.h


class End:
    """A table on a socket, and the one connection of it that matters."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            self.socket.setsockopt(socket.SOL_SOCKET, option, 4 << 20)
        self.socket.bind((host, 0))
        self.socket.setblocking(False)
        self.batches = Batches(socket.AF_INET, 4096)
        self.joins = self.batches.join(self.socket)
        self.table = UtpTable(UtpConfig(), os.urandom(16), random.Random())
        self.connection: UtpConnection | None = None

    def dial(self, to: Address) -> None:
        self.connection = self.table.connect(to, time.monotonic())
        self.send()

    def turn(self, timeout: float) -> None:
        """Wait for datagrams or the time, and take what has come."""
        when = self.table.next_time()
        now = time.monotonic()
        wait = timeout if when is None else max(0.0, min(timeout, when - now))
        select.select([self.socket], [], [], wait)
        for _ in range(4):
            try:
                if self.joins:
                    got, more = self.batches.receive_joined(self.socket)
                else:
                    got = self.batches.receive(self.socket)
                    more = len(got) == BATCH
            except OSError:
                break
            _, new = self.table.receive(got, time.monotonic())
            if new and self.connection is None:
                self.connection = new[0]
            if not more:
                break

    def send(self) -> None:
        if self.connection is not None:
            self.table.changed(self.connection)
        due = self.table.due(time.monotonic())
        for probe, to in due.probes:
            self.socket.setsockopt(socket.IPPROTO_IP, MTU_DISCOVER, DONT_FRAGMENT)
            try:
                self.socket.sendto(probe, to)
            except OSError:
                self.table.probe_refused(probe, to)
            self.socket.setsockopt(socket.IPPROTO_IP, MTU_DISCOVER, MAY_FRAGMENT)
        self.batches.send(self.socket, due.datagrams)


def handshake(info_hash: bytes) -> bytes:
    return b"\x13BitTorrent protocol" + bytes(7) + b"\x04" + info_hash + b"-XX0000-" + bytes(12)


def message(kind: int, body: bytes = b"") -> bytes:
    return struct.pack(">IB", len(body) + 1, kind) + body


class Reader:
    """Messages out of what a connection reads."""

    def __init__(self) -> None:
        self.buffer = bytearray(1 << 20)
        self.view = memoryview(self.buffer)
        self.begin = self.end = 0
        self.shaken = False

    def read(self, connection: UtpConnection) -> int:
        if self.begin:
            self.view[: self.end - self.begin] = self.view[self.begin : self.end]
            self.begin, self.end = 0, self.end - self.begin
        size = connection.read_into(self.view[self.end :])
        self.end += size
        return size

    def messages(self) -> list[tuple[int, memoryview]]:
        """Kind and body of what is there as a whole; good until the next `read`."""
        found = []
        if not self.shaken and self.end - self.begin >= 68:
            self.shaken = True
            self.begin += 68
        while self.shaken and self.end - self.begin >= 4:
            (size,) = struct.unpack_from(">I", self.buffer, self.begin)
            if self.end - self.begin < 4 + size:
                break
            start = self.begin + 4
            if size:
                found.append((self.buffer[start], self.view[start + 1 : start + size]))
            self.begin = start + size
        return found


def seed(torrent: str, path: str) -> None:
    info_hash, piece_length, _ = of(torrent)
    end, reader = End(), Reader()
    say({"event": "ready", "port": end.socket.getsockname()[1]})
    wait_for_go()
    usage = Usage()
    out: deque[bytes] = deque()
    greeted = False
    with Path(path).open("rb") as file:
        while not over():
            end.turn(0.05)
            connection = end.connection
            if connection is None:
                end.send()
                continue
            while reader.read(connection):
                for kind, body in reader.messages():
                    if kind == REQUEST:
                        piece, begin, length = struct.unpack(">III", body)
                        block = os.pread(file.fileno(), length, piece * piece_length + begin)
                        out.append(message(PIECE, struct.pack(">II", piece, begin) + block))
            if reader.shaken and not greeted:
                greeted = True
                out.append(handshake(info_hash) + message(HAVE_ALL) + message(UNCHOKE))
            write(connection, out)
            end.send()
    say(usage.line("stopped"))


def write(connection: UtpConnection, out: deque[bytes]) -> None:
    while out and connection.writable:
        head = out.popleft()
        taken = connection.send(head)
        if taken < len(head):
            out.appendleft(head[taken:])


def leech(torrent: str, folder: str) -> None:
    info_hash, piece_length, size = of(torrent)
    end, reader = End(), Reader()
    say({"event": "ready", "port": end.socket.getsockname()[1]})
    ((host, port),) = wait_for_go()
    usage = Usage()
    end.dial(Address(host, port))
    out: deque[bytes] = deque([handshake(info_hash) + message(HAVE_NONE) + message(INTERESTED)])
    asked = got = 0
    unchoked = False
    with (Path(folder) / "content").open("wb") as file:
        while got < size:
            end.turn(0.05)
            connection = end.connection
            assert connection is not None
            if connection.is_gone:
                raise SystemExit(f"the connection ended: {connection.failure}")
            while reader.read(connection):
                for kind, body in reader.messages():
                    if kind == UNCHOKE:
                        unchoked = True
                    elif kind == PIECE:
                        index, begin = struct.unpack_from(">II", body)
                        hashlib.sha1(body[8:]).digest()  # what verifying costs
                        os.pwrite(file.fileno(), body[8:], index * piece_length + begin)
                        got += len(body) - 8
            requests = []
            while unchoked and asked < size and asked - got < AHEAD * BLOCK:
                length = min(BLOCK, size - asked)
                index, begin = divmod(asked, piece_length)
                requests.append(message(REQUEST, struct.pack(">III", index, begin, length)))
                asked += length
            if requests:
                out.append(b"".join(requests))
            write(connection, out)
            end.send()
    say(usage.line("done"))
    while not over():
        end.turn(0.05)
        end.send()
    say(usage.line("stopped"))


def over() -> bool:
    """Whether stdin was closed."""
    return bool(select.select([sys.stdin], [], [], 0)[0]) and not os.read(0, 100)


def of(torrent: str) -> tuple[bytes, int, int]:
    """Infohash, piece length and size of a torrent of one file."""
    import libtorrent as lt

    info = lt.torrent_info(torrent)
    return info.info_hashes().v1.to_bytes(), info.piece_length(), info.total_size()


def main() -> None:
    role, options = sys.argv[1], json.loads(sys.argv[2])
    with contextlib.suppress(KeyboardInterrupt):
        seed(**options) if role == "utp-seed" else leech(**options)


if __name__ == "__main__":
    main()
