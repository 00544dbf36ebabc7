"""The page's own server: where it says that it is, and what it does to those who only use it up."""

from __future__ import annotations

import contextlib
import re
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
import trio

from dht_torrent import Node
from dht_torrent.daemon import answering, web_server
from dht_torrent.daemon.control import read_page_link, said_in
from dht_torrent.daemon.web_app import WebOptions
from dht_torrent.daemon.web_server import serve_web
from dht_torrent.ids import Address
from tests.helpers.nodes import local_nodes


@asynccontextmanager
async def serving(
    folder: Path, told: list[str] | None = None, **changes: object
) -> AsyncIterator[tuple[Node, Address]]:
    hears = told.append if told is not None else lambda line: None
    options = WebOptions(address=Address("127.0.0.1", 0), told=hears, **changes)  # type: ignore[arg-type]
    async with local_nodes(1, folder) as (node,), trio.open_nursery() as nursery:
        state = folder / "state"
        state.mkdir()
        with trio.fail_after(30):
            where = await nursery.start(partial(serve_web, node, options, state))
            yield node, where
        nursery.cancel_scope.cancel()


async def test_the_link_is_told_once_and_noted_for_its_owner_alone(tmp_path: Path) -> None:
    told: list[str] = []
    async with serving(tmp_path, told) as (_, where):
        links = [m[1] for line in told if (m := re.search(r"page is at (\S+)", line))]
        (link,) = links
        assert link.startswith(f"http://{where}/enter?key=")
        noted = tmp_path / "state" / "web"
        assert stat.S_IMODE(noted.stat().st_mode) == 0o600
        assert read_page_link(tmp_path / "state") == link
        async with httpx.AsyncClient(follow_redirects=True) as client:
            page = await client.get(link)
            assert page.status_code == 200
            assert str(page.url) == f"http://{where}/"  # and the secret is in no address any more
            (cookie,) = [f"{name}={value}" for name, value in client.cookies.items()]
        async with await trio.open_tcp_stream(*where) as stream:
            ask = f"GET /events HTTP/1.1\r\nHost: {where}\r\nCookie: {cookie}\r\n\r\n"
            await stream.send_all(ask.encode())
            came = b""
            while b"event: hello\n" not in came:
                came += await stream.receive_some()
    assert not noted.exists()


async def test_a_link_that_another_node_has_noted_since_stays(tmp_path: Path) -> None:
    with said_in(tmp_path, "http://one"):
        (tmp_path / "web").write_text("http://two\n")
    assert read_page_link(tmp_path) == "http://two"


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"hosts": ("box.local",)}, "box.local"),
        ({"address": Address("0.0.0.0", 0), "insecure": True}, "localhost"),
    ],
)
def test_the_link_names_a_host_that_can_be_reached(options: dict[str, object], name: str) -> None:
    made = WebOptions(**{"address": Address("127.0.0.1", 0), **options})  # type: ignore[arg-type]
    assert web_server._name(made, made.address._replace(port=80)) == f"{name}:80"


async def test_connections_beyond_what_there_is_room_for_are_closed_and_cost_nothing_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_server, "MAX_CONNECTIONS", 3)
    monkeypatch.setattr(answering, "KEEP_ALIVE", 0.1)
    ask = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with serving(tmp_path) as (_, where):
        held = [await trio.open_tcp_stream(*where) for _ in range(3)]
        await held[-1].send_all(ask)
        assert b"200" in await held[-1].receive_some()
        surplus = await trio.open_tcp_stream(*where)
        with pytest.raises((trio.BrokenResourceError, AssertionError)):  # noqa: PT012
            await surplus.send_all(ask)
            assert await surplus.receive_some()
        await surplus.aclose()
        for stream in held:
            await stream.aclose()
        for _ in range(100):
            async with await trio.open_tcp_stream(*where) as later:
                try:
                    await later.send_all(ask)
                    if b"200" in await later.receive_some():
                        return
                except trio.BrokenResourceError:
                    pass
            await trio.sleep(0.05)
        pytest.fail("no room was made")


async def test_who_has_closed_a_connection_takes_no_room_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_server, "MAX_CONNECTIONS", 2)
    monkeypatch.setattr(answering, "KEEP_ALIVE", 60)
    ask = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    served = 0
    async with serving(tmp_path) as (_, where):
        while served < 8:
            with contextlib.suppress(trio.BrokenResourceError):  # as it has not seen the end yet
                async with await trio.open_tcp_stream(*where) as client:
                    await client.send_all(ask)
                    came = b""
                    while not came.endswith(b"}") and (more := await client.receive_some()):
                        came += more
                    await trio.sleep(0.01)  # the server is waiting for the next request
                    served += b" 200 " in came
            await trio.sleep(0.01)


async def test_a_body_that_nobody_may_send_is_not_waited_for(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, where):
        slow = await trio.open_tcp_stream(*where)
        await slow.send_all(
            b"POST /api/v1/torrents HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{"
        )
        assert b" 401 " in await slow.receive_some()
        await slow.aclose()


async def test_requests_that_never_end_keep_nobody_waiting_and_are_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answering, "KEEP_ALIVE", 1.0)
    async with serving(tmp_path) as (_, where), httpx.AsyncClient() as client:
        slow = [await trio.open_tcp_stream(*where) for _ in range(100)]
        for number, stream in enumerate(slow):
            await stream.send_all(b"GET / HTTP/1.1\r\nX: "[: number % 20])
        with trio.fail_after(20):
            assert (await client.get(f"http://{where}/healthz")).status_code == 200
            for stream in slow:
                with contextlib.suppress(trio.BrokenResourceError):
                    assert await stream.receive_some() == b""
                await stream.aclose()


async def test_headers_without_end_are_not_collected(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, where), await trio.open_tcp_stream(*where) as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        sent = 0
        with contextlib.suppress(trio.BrokenResourceError):
            while sent < 50_000_000:
                await stream.send_all(b"X: " + b"a" * 65_000 + b"\r\n")
                sent += 65_000
        assert sent < 20_000_000  # of which most fills the buffers between the two
