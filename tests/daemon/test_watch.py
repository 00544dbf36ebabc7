"""A download watched over the control API: nobody polls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from dht_torrent.daemon.app import REPEAT_AFTER, make_app
from dht_torrent.daemon.client import connect
from dht_torrent.daemon.control import HEADER
from dht_torrent.daemon.http_client import TIMEOUT
from dht_torrent.daemon.lines import LINES
from dht_torrent.daemon.presence import NoNode
from dht_torrent.errors import ControlError, InputError
from tests.daemon.test_server import ID, MAGNET, serving


class Watching:
    """A request to `watch` on virtual time: what the application sends, a message at a time."""

    def __init__(self, app: Any, path: str, method: str = "GET") -> None:
        self.scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(b"host", b"localhost"), (HEADER.encode(), b"1")],
        }
        self.app = app
        self.sent: list[tuple[float, Any]] = []
        self.may_send = trio.Event()
        self.may_send.set()
        self.hung_up = trio.Event()

    async def run(self) -> None:
        await self.app(self.scope, self._receive, self._send)

    async def _receive(self) -> Any:
        await self.hung_up.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        await self.may_send.wait()
        self.sent.append((trio.current_time(), message))

    @property
    def lines(self) -> list[Any]:
        bodies = [message.get("body", b"") for _, message in self.sent]
        return [json.loads(body) for body in bodies if body]


def watch(node: Any, nursery: trio.Nursery, method: str = "GET") -> Watching:
    app = make_app(node, stop=lambda: None)
    watching = Watching(app, f"/api/v1/torrents/{ID[:8]}/watch", method)
    nursery.start_soon(watching.run)
    return watching


async def test_a_line_comes_at_once_and_with_each_change(
    node: Any, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    torrent = node.add(MAGNET)
    watching = watch(node, nursery)
    await trio.sleep(1)
    await torrent.pause()
    await trio.sleep(1)
    assert [line["state"] for line in watching.lines] == ["downloading", "paused"]
    assert watching.lines[0] == (await summary_of(node))[0] | {"state": "downloading"}
    head = dict(watching.sent[0][1]["headers"])
    assert head[b"content-type"].startswith(LINES.encode())
    assert head[b"cache-control"] == b"no-store"
    await node.remove(torrent)
    await trio.sleep(1)
    assert watching.sent[-1][1]["more_body"] is False


async def summary_of(node: Any) -> Any:
    transport = httpx.ASGITransport(app=make_app(node, stop=lambda: None))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return (await client.get("/api/v1/torrents")).json()


async def test_the_same_line_comes_again_before_a_client_loses_patience(
    node: Any, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    node.add(MAGNET)
    watching = watch(node, nursery)
    await trio.sleep(3.5 * REPEAT_AFTER)
    assert REPEAT_AFTER < TIMEOUT / 2
    assert len(watching.lines) == 4
    assert watching.lines[1:] == watching.lines[:-1]
    nursery.cancel_scope.cancel()


async def test_a_slow_client_gets_the_newest_and_nothing_queues(
    node: Any, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    torrent = node.add(MAGNET)
    watching = watch(node, nursery)
    await trio.sleep(1)
    watching.may_send = trio.Event()
    for rate in range(100):
        torrent.set_limits(up=rate)
        await trio.sleep(1)
    watching.may_send.set()
    await trio.sleep(2)
    assert [line["limit_up"] for line in watching.lines] == [None, 0, 99]
    nursery.cancel_scope.cancel()


async def test_a_client_that_hangs_up_leaves_nothing_behind(
    node: Any, autojump_clock: MockClock
) -> None:
    node.add(MAGNET)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            watching = watch(node, nursery)
            await trio.sleep(1)
            watching.hung_up.set()


async def test_a_node_told_to_stop_ends_all_that_watch(
    node: Any, autojump_clock: MockClock
) -> None:
    node.add(MAGNET)
    app = make_app(node, stop=lambda: None)
    with trio.fail_after(1):
        async with trio.open_nursery() as nursery:
            watching = [Watching(app, f"/api/v1/torrents/{ID}/watch") for _ in range(3)]
            for one in watching:
                nursery.start_soon(one.run)
            await wait_all_tasks_blocked()
            transport = httpx.ASGITransport(app=app)
            headers = {HEADER: "1"}
            async with httpx.AsyncClient(
                transport=transport, base_url="http://localhost", headers=headers
            ) as client:
                assert (await client.post("/api/v1/stop", json={})).status_code == 200
    assert all(one.sent[-1][1]["more_body"] is False for one in watching)
    late = Watching(app, f"/api/v1/torrents/{ID}/watch")
    with trio.fail_after(1):
        await late.run()
    assert late.lines == []


async def test_head_tells_of_the_lines_and_sends_none(node: Any, autojump_clock: MockClock) -> None:
    node.add(MAGNET)
    with trio.fail_after(1):
        async with trio.open_nursery() as nursery:
            watching = watch(node, nursery, "HEAD")
    assert watching.lines == []
    assert dict(watching.sent[0][1]["headers"])[b"content-type"].startswith(LINES.encode())


async def test_a_torrent_that_is_not_here_is_404(node: Any, nursery: trio.Nursery) -> None:
    watching = watch(node, nursery)
    await wait_all_tasks_blocked()
    assert watching.sent[0][1]["status"] == 404


# --- the client -----------------------------------------------------------------------------------


async def test_the_client_yields_each_summary_until_the_torrent_is_gone(
    node: Any, tmp_path: Path
) -> None:
    torrent = node.add(MAGNET)
    seen: list[Any] = []

    def read() -> None:
        with connect(tmp_path) as client:
            for summary in client.watch(ID[:6]):
                seen.append(summary)
                # The node's own thread goes on only after this one has seen it.
                trio.from_thread.run(torrent.pause if len(seen) == 1 else remove)

    async def remove() -> None:
        await node.remove(torrent)

    async with serving(node, None, tmp_path):
        await trio.to_thread.run_sync(read)
    assert [summary["state"] for summary in seen] == ["downloading", "paused"]


async def test_a_watch_of_nothing_raises_what_other_requests_do(node: Any, tmp_path: Path) -> None:
    def read(torrent_id: str) -> None:
        with connect(tmp_path) as client:
            for _ in client.watch(torrent_id):
                pass

    async with serving(node, None, tmp_path):
        for torrent_id in ID, "../status":
            with pytest.raises(InputError, match="no such torrent"):
                await trio.to_thread.run_sync(read, torrent_id)


async def test_a_watch_that_is_left_early_frees_its_connection(node: Any, tmp_path: Path) -> None:
    node.add(MAGNET)

    def read() -> None:
        with connect(tmp_path) as client:
            for _ in range(150):  # more than a client keeps
                with closing(client.watch(ID)) as summaries:
                    assert next(summaries)["id"] == ID
            assert client.torrent(ID)["id"] == ID

    async with serving(node, None, tmp_path):
        await trio.to_thread.run_sync(read)


async def test_a_node_that_dies_in_the_middle_counts_as_not_running(tmp_path: Path) -> None:
    listener = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener[0].socket.getsockname()[1]
    (tmp_path / "control").write_text(f"127.0.0.1:{port}\n")
    line = json.dumps({"id": ID}).encode() + b"\n"
    answers = iter([b'{"id": 1}', b"%x\r\n%s\r\n" % (len(line), line), b"5\r\nhallo\r\n0\r\n\r\n"])
    heads: Iterator[bytes] = iter([b"content-length: 9", *[b"transfer-encoding: chunked"] * 2])

    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            if await stream.receive_some(10_000):
                await stream.send_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n" + next(heads))
                await stream.send_all(b"\r\n\r\n" + next(answers))

    def read() -> None:
        with connect(tmp_path) as client:
            summaries = client.watch(ID)
            assert next(summaries) == {"id": ID}
            with pytest.raises(NoNode, match="has gone"):
                next(summaries)
            with pytest.raises(ControlError, match="is not a node"):
                next(client.watch(ID))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, answer, listener)
        with trio.fail_after(20):
            await trio.to_thread.run_sync(read)
        nursery.cancel_scope.cancel()
