from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from dht_torrent.daemon import http_client
from dht_torrent.daemon.control import KEEP_ALIVE, Control
from dht_torrent.daemon.http_client import KEPT_FOR, HttpAnswer, HttpClient
from dht_torrent.daemon.presence import NoNode
from dht_torrent.errors import ControlError
from dht_torrent.ids import Address

HELLO = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@contextmanager
def answering(*conversations: Callable[[socket.socket], None]) -> Iterator[HttpClient]:
    """A client of a node that has these conversations, one on each connection in their order. All
    of them are had."""
    failures: list[BaseException] = []

    def converse(conversation: Callable[[socket.socket], None], stream: socket.socket) -> None:
        try:
            with stream:
                conversation(stream)
        except BaseException as error:  # noqa: BLE001 - raised in the test
            failures.append(error)

    def serve() -> None:
        threads = []
        try:
            for conversation in conversations:
                stream, _ = listener.accept()
                stream.settimeout(10)
                threads.append(threading.Thread(target=converse, args=(conversation, stream)))
                threads[-1].start()
        except OSError as error:
            failures.append(error)
        for thread in threads:
            thread.join()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        server = threading.Thread(target=serve)
        server.start()
        client = HttpClient(Control(address=Address(*listener.getsockname())), token="secret")
        try:
            yield client
        finally:
            client.close()
            server.join()
    assert failures == []


def says(*answers: bytes) -> Callable[[socket.socket], None]:
    """Reads a request for each answer, and hangs up after the last."""

    def converse(stream: socket.socket) -> None:
        for answer in answers:
            request = read_head(stream)
            assert b"authorization: Bearer secret\r\n" in request
            assert b"x-dhtnode: 1\r\n" in request
            stream.sendall(answer)

    return converse


def read_head(stream: socket.socket) -> bytes:
    read = b""
    while not read.endswith(b"\r\n\r\n"):
        part = stream.recv(1)
        assert part
        read += part
    return read


def test_a_connection_serves_one_request_after_another() -> None:
    with answering(says(HELLO, HELLO, HELLO)) as client:
        for _ in range(3):
            assert client.request("GET", "status") == HttpAnswer(200, b"hello")


def test_a_connection_that_the_node_has_closed_is_not_used_again() -> None:
    closed = threading.Event()

    def once(stream: socket.socket) -> None:
        says(HELLO)(stream)
        stream.close()
        closed.set()

    with answering(once, says(HELLO)) as client:
        client.request("GET", "status")
        assert closed.wait(10)
        assert client.request("GET", "status").content == b"hello"


def test_a_connection_that_the_node_may_be_about_to_close_is_not_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with answering(says(HELLO, HELLO), says(HELLO)) as client:
        client.request("POST", "stop")
        now += KEPT_FOR
        client.request("POST", "stop")
        now += KEPT_FOR + 0.001
        client.request("POST", "stop")
    assert KEPT_FOR <= KEEP_ALIVE / 2  # who is late, by a busy machine, is still in time


@pytest.mark.parametrize("streamed", [False, True])
def test_a_question_that_the_node_hangs_up_on_is_asked_again_where_the_connection_was_kept(
    streamed: bool,
) -> None:
    def hangs_up(stream: socket.socket) -> None:
        says(HELLO)(stream)
        read_head(stream)  # too late

    with answering(hangs_up, says(HELLO)) as client:
        client.request("GET", "status")
        if streamed:
            assert b"".join(client.stream("status")) == b"hello"
        else:
            assert client.request("GET", "status").content == b"hello"


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_what_may_have_been_done_is_not_asked_for_again(method: str) -> None:
    def hangs_up(stream: socket.socket) -> None:
        says(HELLO)(stream)
        read_head(stream)

    with answering(hangs_up) as client:
        client.request("GET", "status")
        with pytest.raises(NoNode, match="has gone"):
            client.request(method, "status")


def test_a_question_is_asked_twice_at_most() -> None:
    def hangs_up(stream: socket.socket) -> None:
        read_head(stream)

    with answering(says(HELLO), hangs_up) as client:
        client.request("GET", "status")
        with pytest.raises(NoNode, match="has gone"):
            client.request("GET", "status")


def test_an_answer_that_says_close_is_the_last_on_its_connection() -> None:
    last = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nall"
    with answering(says(last), says(HELLO)) as client:
        assert client.request("GET", "status").content == b"all"
        assert client.request("GET", "status").content == b"hello"


def test_an_answer_is_streamed_as_it_comes_and_its_connection_kept() -> None:
    go = threading.Event()

    def slowly(stream: socket.socket) -> None:
        read_head(stream)
        stream.sendall(CHUNKED + b"3\r\none\r\n")
        assert go.wait(10)
        stream.sendall(b"3\r\ntwo\r\n0\r\n\r\n")
        says(HELLO)(stream)

    with answering(slowly) as client:
        parts = client.stream("watch")
        assert next(parts) == b"one"
        go.set()
        assert list(parts) == [b"two"]
        assert client.request("GET", "status").content == b"hello"


def test_a_stream_that_is_left_early_hangs_up() -> None:
    def listen(stream: socket.socket) -> None:
        read_head(stream)
        stream.sendall(CHUNKED + b"3\r\none\r\n")
        assert stream.recv(1) == b""

    with answering(listen) as client:
        parts = client.stream("watch")
        assert next(parts) == b"one"
        parts.close()


def test_a_refusal_of_a_stream_is_returned() -> None:
    refusal = b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno"
    with answering(says(refusal)) as client:
        parts = client.stream("watch")
        with pytest.raises(StopIteration) as ended:
            next(parts)
        assert ended.value.value == HttpAnswer(404, b"no")


def test_a_refusal_of_what_is_still_being_sent_is_heard() -> None:
    def refuse(stream: socket.socket) -> None:
        read_head(stream)
        stream.sendall(
            b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 3\r\n\r\nbig"
        )
        stream.shutdown(socket.SHUT_RD)
        while True:  # what was sent before it was refused is read, or the answer would be reset
            try:
                if not stream.recv(1 << 20):
                    break
            except OSError:
                break

    with answering(refuse) as client:
        assert client.request("POST", "torrents", bytes(32 << 20)) == HttpAnswer(413, b"big")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello",
        CHUNKED + b"5\r\nhell",
        CHUNKED + b"zzz\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\na: " + b"b" * 70_000 + b"\r\n\r\n",
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_an_answer_that_breaks_off_or_is_no_answer_is_a_node_that_has_gone(
    answer: bytes, streamed: bool
) -> None:
    with answering(says(answer)) as client:

        def ask() -> object:
            return list(client.stream("a")) if streamed else client.request("GET", "a")

        with pytest.raises(NoNode, match="has gone"):
            ask()


def test_a_silent_node_is_told_from_one_that_has_gone() -> None:
    done = threading.Event()

    def silent(stream: socket.socket) -> None:
        read_head(stream)
        assert done.wait(10)

    with answering(silent) as client:
        with pytest.raises(ControlError, match="does not answer") as raised:
            client.request("GET", "status", patience=0.05)
        assert not isinstance(raised.value, NoNode)
        done.set()


def test_where_nobody_listens_there_is_no_node() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        where = Control(address=Address(*listener.getsockname()))
    client = HttpClient(where)
    with pytest.raises(NoNode, match="no node answers"):
        client.request("GET", "status")


def test_only_a_few_connections_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "_KEPT", 1)
    closed = threading.Event()

    def kept(stream: socket.socket) -> None:
        says(HELLO, HELLO)(stream)

    def superfluous(stream: socket.socket) -> None:
        says(CHUNKED + b"3\r\none\r\n0\r\n\r\n")(stream)
        assert stream.recv(1) == b""
        closed.set()

    with answering(superfluous, kept) as client:
        parts = client.stream("watch")
        assert next(parts) == b"one"
        assert client.request("GET", "status").content == b"hello"
        assert list(parts) == []  # done later, and there is one by now
        assert closed.wait(10)
        assert client.request("GET", "status").content == b"hello"
