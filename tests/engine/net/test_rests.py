"""A connection that was closed here is known to the system until the other end has closed it."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest

from dht_torrent.engine.net import rests as rests_module
from dht_torrent.engine.net.rests import PATIENCE, Rests


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


Pair = tuple[socket.socket, socket.socket]


def test_the_other_end_reads_the_end_and_may_still_send(pair: Pair) -> None:
    ours, theirs = pair
    rests = Rests()
    rests.add(ours)
    assert theirs.recv(10) == b""
    for now in range(5):
        theirs.sendall(bytes(100_000))  # nobody resets it
        rests.look(float(now))
    assert len(rests) == 1
    theirs.close()
    rests.look(5.0)
    rests.look(6.0)
    assert len(rests) == 0
    assert ours.fileno() < 0


def test_it_is_closed_when_the_other_end_takes_too_long(pair: Pair) -> None:
    ours, _ = pair
    rests = Rests()
    rests.add(ours)
    rests.look(1000.0)
    rests.look(1000.0 + PATIENCE - 0.1)
    assert len(rests) == 1
    rests.look(1000.0 + PATIENCE)
    assert len(rests) == 0
    assert ours.fileno() < 0


def test_one_that_broke_is_closed(pair: Pair) -> None:
    ours, theirs = pair
    rests = Rests()
    rests.add(ours)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    theirs.close()  # a reset
    rests.look(0.0)
    assert ours.fileno() < 0


def test_there_are_so_many_at_most_and_the_oldest_goes(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rests_module, "MOST", 2)
    ours, _ = pair
    rests = Rests()
    rests.add(ours)
    others = [socket.socket() for _ in range(2)]
    for other in others:  # not connected: what cannot be ended in order is kept all the same
        rests.add(other)
    assert ours.fileno() < 0
    assert len(rests) == 2
    rests.close()
    assert len(rests) == 0
    assert all(other.fileno() < 0 for other in others)


def test_a_look_takes_no_longer_than_it_may() -> None:
    class Endless:
        received = 0

        def getpeername(self) -> None:
            raise OSError(errno.ENOTCONN, "not connected")

        def recv(self, size: int) -> bytes:
            self.received += size
            return bytes(size)

        def close(self) -> None:
            pass

    endless = Endless()
    rests = Rests()
    rests.add(endless)  # type: ignore[arg-type]
    rests.look(0.0)
    assert endless.received == 4 << 20
    assert len(rests) == 1


def test_a_connection_given_up_while_it_comes_about_is_ended_when_it_has() -> None:
    class Dialling:
        """Ending it at once would make the system forget it."""

        connected = False
        ended = 0

        def getpeername(self) -> None:
            if not self.connected:
                raise OSError(errno.ENOTCONN, "not connected")

        def shutdown(self, how: int) -> None:
            assert self.connected
            assert how == socket.SHUT_WR
            self.ended += 1

        def recv(self, size: int) -> bytes:
            raise BlockingIOError

    sock, rests = Dialling(), Rests()
    rests.add(sock)  # type: ignore[arg-type]
    rests.look(0.0)
    assert sock.ended == 0
    sock.connected = True
    rests.look(1.0)
    rests.look(2.0)
    assert sock.ended == 1
    assert len(rests) == 1


def test_a_connection_that_did_not_come_about_is_closed() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(closed.getsockname())
        rests = Rests()
        rests.add(sock)
        rests.look(0.0)
        rests.look(0.1)
        assert sock.fileno() < 0
