from __future__ import annotations

import errno
import importlib
import logging
import os
import socket
import stat
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import hypercorn.config
import pytest
import trio
import trio.testing

from dht_torrent.daemon.client import Client, connect
from dht_torrent.daemon.control import Control, make_token, read_token
from dht_torrent.daemon.presence import NoNode
from dht_torrent.daemon.server import serve
from dht_torrent.errors import ControlError, InputError

ID = "1234" * 10
MAGNET = f"magnet:?xt=urn:btih:{ID}&dn=thing"


@asynccontextmanager
async def serving(node: Any, control: str | None, state_dir: Path) -> AsyncIterator[Control]:
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            where = await nursery.start(partial(serve, node, control, state_dir))
            yield where
            nursery.cancel_scope.cancel()


async def ask(method: str, state_dir: Path, *args: Any, **options: Any) -> Any:
    """One command, as the command line gives it: blocking, on another thread."""

    def in_thread() -> Any:
        with connect(state_dir) as client:
            return getattr(client, method)(*args, **options)

    return await trio.to_thread.run_sync(in_thread)


async def exchange(where: Control, text: bytes, *, wait: bool = True) -> bytes:
    """Bytes written by hand to the socket, and all that comes back if we `wait` for it."""
    if where.path is not None:
        stream = await trio.open_unix_socket(str(where.path))
    else:
        assert where.address is not None
        stream = await trio.open_tcp_stream(*where.address)
    async with stream:
        await stream.send_all(text)
        if not wait:
            return b""
        await stream.send_eof()
        return b"".join([chunk async for chunk in stream])


@pytest.mark.parametrize("control", [None, "127.0.0.1:0", "[::1]:0"])
async def test_a_client_finds_and_steers_the_node_of_a_state_dir(
    node: Any, tmp_path: Path, control: str | None
) -> None:
    async with serving(node, control, tmp_path):
        torrent = await ask("get", tmp_path, MAGNET, output=tmp_path, select="0,2-3")
        assert torrent["id"] == ID
        assert await ask("torrents", tmp_path) == [torrent]
        assert (await ask("pause", tmp_path, ID[:6]))["state"] == "paused"
        assert (await ask("status", tmp_path))["torrents"] == 1
        assert (await ask("peers", tmp_path, ID))[0]["client"] == "x"
        assert (await ask("files", tmp_path, ID))[0]["path"] == "thing"
        removal = await ask("remove", tmp_path, ID, data=True)
        assert (removal["removed"], removal["deleted"]) == (ID, 1)
        with pytest.raises(InputError, match="no such torrent"):
            await ask("torrent", tmp_path, ID)
        with pytest.raises(InputError, match="no such torrent"):
            await ask("torrent", tmp_path, "../status")
        with pytest.raises(ControlError, match="no space"):
            await ask("get", tmp_path, MAGNET, output=Path("/full"))


async def test_a_file_name_that_is_not_utf8_comes_through(node: Any, tmp_path: Path) -> None:
    odd = Path(os.fsdecode(b"/\xff\xfe"))
    async with serving(node, None, tmp_path):
        await ask("share", tmp_path, odd)
    assert node.calls[0][1] == odd


async def test_the_socket_is_the_owners_alone_and_goes_with_the_node(
    node: Any, tmp_path: Path
) -> None:
    before = os.umask(0)
    os.umask(before)
    state = tmp_path / "state"
    async with serving(node, None, state) as where:
        assert where.path == state / "control.sock"
        assert stat.S_IMODE(where.path.stat().st_mode) == 0o600
        assert stat.S_IMODE(state.stat().st_mode) == 0o700
        assert (state / "control").read_text() == f"unix:{where.path}\n"
    assert list(state.iterdir()) == []
    after = os.umask(before)
    assert after == before


async def test_a_state_dir_with_a_long_path_works(node: Any, tmp_path: Path) -> None:
    state = tmp_path / ("d" * 100) / ("e" * 100)
    async with serving(node, None, state) as where:
        assert where.path is not None
        assert not where.path.is_relative_to(tmp_path)
        assert stat.S_IMODE(where.path.parent.stat().st_mode) == 0o700
        assert await ask("torrents", state) == []
    assert not where.path.parent.exists()
    with pytest.raises(NoNode):
        await ask("torrents", state)


@pytest.mark.parametrize("control", [None, "127.0.0.1:0"])
async def test_a_client_loads_no_certificate_authorities(
    node: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, control: str | None
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing"))  # what loads them fails
    async with serving(node, control, tmp_path):
        assert await ask("torrents", tmp_path) == []


async def test_tcp_is_for_holders_of_the_token(node: Any, tmp_path: Path) -> None:
    def guess(where: Control, token: str | None) -> None:
        with Client(where, token=token) as client, pytest.raises(ControlError, match="token"):
            client.status()

    async with serving(node, "127.0.0.1:0", tmp_path) as where:
        assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600
        await trio.to_thread.run_sync(guess, where, None)
        await trio.to_thread.run_sync(guess, where, "0" * 64)
        assert read_token(tmp_path) is not None
        assert await ask("torrents", tmp_path) == []


async def test_the_token_goes_with_the_socket(node: Any, tmp_path: Path) -> None:
    async with serving(node, "127.0.0.1:0", tmp_path):
        assert read_token(tmp_path) is not None
    assert read_token(tmp_path) is None


async def test_the_token_of_a_later_node_is_left(node: Any, tmp_path: Path) -> None:
    async with serving(node, "127.0.0.1:0", tmp_path):
        later = make_token(tmp_path)
    assert read_token(tmp_path) == later


async def crowd_answers(node: Any, state_dir: Path, control: str | None, clients: int) -> list[Any]:
    """What so many clients get that all come in one moment."""
    start = threading.Barrier(clients)
    answers: list[Any] = []

    def in_thread() -> None:
        start.wait()
        try:
            with connect(state_dir) as client:
                answers.append(client.torrents())
        except (InputError, ControlError) as error:
            answers.append(error)

    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve, node, control, state_dir))
            async with trio.open_nursery() as crowd:
                enough = trio.CapacityLimiter(clients)
                for _ in range(clients):
                    crowd.start_soon(partial(trio.to_thread.run_sync, in_thread, limiter=enough))
            nursery.cancel_scope.cancel()
    return answers


@pytest.mark.parametrize("control", [None, "127.0.0.1:0"])
async def test_many_clients_at_once_are_all_answered(
    node: Any, tmp_path: Path, control: str | None
) -> None:
    assert await crowd_answers(node, tmp_path, control, 200) == [[]] * 200


async def test_a_node_whose_queue_is_full_is_waited_for(
    node: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dht_torrent.daemon.server.BACKLOG", 2)  # as net.core.somaxconn may have it
    assert await crowd_answers(node, tmp_path, None, 40) == [[]] * 40


@pytest.mark.parametrize("control", [None, "127.0.0.1:0"])
async def test_clients_wait_while_descriptors_are_lacking_and_one_line_says_so(
    node: Any,
    tmp_path: Path,
    control: str | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    accept, failures = trio.SocketListener.accept, [errno.EMFILE, errno.ENFILE, errno.EMFILE]

    async def lacking(self: trio.SocketListener) -> trio.SocketStream:
        if failures:
            raise OSError(failures[-1], os.strerror(failures.pop()))
        return await accept(self)

    monkeypatch.setattr(trio.SocketListener, "accept", lacking)
    assert await crowd_answers(node, tmp_path, control, 1) == [[]]
    assert failures == []
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("new connections have to wait: too many open files;")
    assert record.exc_info is None
    assert logging.getLogger("trio.serve_listeners").filters == []


async def test_a_control_server_that_cannot_start_for_lack_of_descriptors_tries_again(
    node: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dup, failures = os.dup, [errno.EMFILE, errno.EMFILE]

    def lacking(descriptor: int) -> int:
        if failures:
            raise OSError(failures[-1], os.strerror(failures.pop()))
        return dup(descriptor)

    monkeypatch.setattr("dht_torrent.daemon.server.RESTART_PAUSE", 0.01)
    monkeypatch.setattr(os, "dup", lacking)
    async with serving(node, None, tmp_path):
        assert await ask("torrents", tmp_path) == []
    assert failures == []
    (record,) = caplog.records
    assert record.getMessage().startswith("new connections have to wait: too many open files;")
    assert record.exc_info is None


async def test_what_answers_is_loaded_for_the_first_client_once_there_are_descriptors(
    node: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    load, failures, asked = importlib.import_module, [errno.ENFILE, errno.EMFILE], []

    def lacking(name: str) -> ModuleType:
        asked.append(name)
        if failures:
            raise OSError(failures[-1], os.strerror(failures.pop()))
        return load(name)

    monkeypatch.setattr("dht_torrent.daemon.server.RESTART_PAUSE", 0.01)
    monkeypatch.setattr(importlib, "import_module", lacking)
    async with serving(node, None, tmp_path):
        await trio.testing.wait_all_tasks_blocked()
        assert asked == []
        assert await ask("torrents", tmp_path) == []
    assert asked == ["dht_torrent.daemon.answering"] * 3
    (record,) = caplog.records
    assert record.getMessage().startswith("new connections have to wait: too many open files;")


async def test_stop_is_answered_and_then_the_server_returns(node: Any, tmp_path: Path) -> None:
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve, node, None, tmp_path))
            await ask("stop", tmp_path)
    assert sorted(tmp_path.iterdir()) == []  # noqa: ASYNC240 - a test may look


async def test_no_node_is_told_from_a_stale_control_file(node: Any, tmp_path: Path) -> None:
    with pytest.raises(NoNode, match="no node is running"):
        connect(tmp_path)
    (tmp_path / "control").write_text(f"unix:{tmp_path}/control.sock\n")
    with pytest.raises(NoNode, match="no node is running"):
        connect(tmp_path)
    with socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(str(tmp_path / "control.sock"))
    with pytest.raises(NoNode, match="no node is running"):
        connect(tmp_path)
    async with serving(node, None, tmp_path):
        assert await ask("torrents", tmp_path) == []


async def test_a_live_socket_is_never_taken_over(node: Any, tmp_path: Path) -> None:
    control = f"unix:{tmp_path}/sock"
    async with serving(node, control, tmp_path / "one"):
        with pytest.raises(InputError, match="another node answers"):
            await serve(node, control, tmp_path / "two")
        assert await ask("torrents", tmp_path / "one") == []


async def test_a_file_in_the_sockets_place_is_left_alone(node: Any, tmp_path: Path) -> None:
    (tmp_path / "sock").write_text("precious")
    with pytest.raises(InputError, match="a file is there"):
        await serve(node, f"unix:{tmp_path}/sock", tmp_path)
    assert (tmp_path / "sock").read_text() == "precious"


async def test_an_address_that_cannot_be_had_is_one_clear_line(node: Any, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=f"cannot take control address 127.0.0.1:{port}: addr"):
            await serve(node, f"127.0.0.1:{port}", tmp_path)
    with pytest.raises(InputError, match="no such file"):
        await serve(node, "unix:/no/such/folder/sock", tmp_path)
    with pytest.raises(InputError, match="too long"):
        await serve(node, "unix:/" + "x" * 200, tmp_path)
    with pytest.raises(InputError, match="loopback"):
        await serve(node, "0.0.0.0:0", tmp_path)


def request(line: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join((line, *headers, b"", body))


POST = b"POST /api/v1/torrents HTTP/1.1"
STATUS = b"GET /api/v1/status HTTP/1.1"
NO_ANSWER = [
    b"",
    request(
        STATUS,
        b"Host: a",
        b"Connection: Upgrade, HTTP2-Settings",
        b"Upgrade: h2c",
        b"HTTP2-Settings: AAMAAABkAAQAAP__",
    ),
]
HOSTILE = [
    b"\0" * 100,
    b"GET\r\n\r\n",
    request(b"GET / HTTP/1.1"),
    request(STATUS, b"Host: a", b"Host: b"),
    request(b"GET http://evil.com/api/v1/status HTTP/1.1", b"Host: a"),
    request(b"GET /api/v1/torrents/%ff%00 HTTP/1.1", b"Host: a"),
    request(b"GET /api/v1/torrents/\xff HTTP/1.1", b"Host: a"),
    request(b"GET /api/v1/status?\xff HTTP/1.0"),
    request(STATUS, b"Host: a", b"X: " + b"x" * 100_000),
    request(POST, b"Host: a", b"x-dhtnode: 1", b"Content-Length: 10", body=b"short"),
    request(POST, b"Host: a", b"x-dhtnode: 1", b"Content-Length: -1"),
    request(POST, b"Host: a", b"x-dhtnode: 1", b"Transfer-Encoding: chunked", body=b"f" * 20),
    request(
        POST,
        b"Host: a",
        b"x-dhtnode: 1",
        b"Content-Length: 2",
        b"Transfer-Encoding: chunked",
        body=b"0\r\n\r\n",
    ),
    request(
        b"POST /nothing HTTP/1.1", b"Host: a", b"Content-Length: 10000000", body=b"x" * 300_000
    ),
    request(
        STATUS,
        b"Host: a",
        b"Connection: upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        b"Sec-WebSocket-Version: 13",
    ),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
]


async def test_how_long_a_connection_is_kept_is_what_we_say_and_not_what_the_library_thinks(
    node: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients go by it. Here the library would close every one at once."""
    monkeypatch.setattr(hypercorn.config.Config, "keep_alive_timeout", 0.0)
    async with serving(node, None, tmp_path) as where:
        assert b" 200 " in await exchange(where, request(STATUS, b"Host: a"))


@pytest.mark.parametrize("control", [None, "127.0.0.1:0"])
async def test_the_server_survives_whatever_is_written_to_it(
    node: Any, tmp_path: Path, control: str | None
) -> None:
    async with serving(node, control, tmp_path) as where:
        for text in HOSTILE:
            with suppress(trio.BrokenResourceError):
                await exchange(where, text)
        for text in HOSTILE + NO_ANSWER:
            with suppress(trio.BrokenResourceError):
                await exchange(where, text, wait=False)
        assert await ask("torrents", tmp_path) == []
