"""What a player is sent, on a fake network, and over real sockets."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from trio.testing import MockClock

from dht_torrent import Node, Torrent
from dht_torrent.daemon.media import is_played, media_type, playing_order
from dht_torrent.daemon.stream import MAX_STREAMS, Streams, byte_range
from dht_torrent.daemon.tokens import WebTokens
from dht_torrent.daemon.web_app import WebOptions
from dht_torrent.daemon.web_server import serve_web
from dht_torrent.ids import Address, HostPort
from dht_torrent.metainfo import from_info
from tests.daemon.web.web_page import browser
from tests.helpers.engine import KIB, LEECH, PORT, SEED, World, sample
from tests.helpers.nodes import local_nodes
from tests.helpers.storages import hashed

ONE = sample(256 * KIB)


@asynccontextmanager
async def player(
    node: Node,
    *,
    admits: Callable[[Any], bool] = lambda request: True,
    read_only: bool = False,
    stopping: trio.Event | None = None,
) -> AsyncIterator[httpx.AsyncClient]:
    stopping = trio.Event() if stopping is None else stopping
    streams = Streams(node, admits, stopping, read_only=read_only)
    app = Starlette(routes=streams.routes())

    async def ends(scope: Any, receive: Any, send: Any) -> None:
        """As in HTTP/2, where also what is cut off has an end: httpx needs one."""
        await app({**scope, "http_version": "2"}, receive, send)

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=ends),
        base_url="http://node",
    ) as client:
        yield client


@pytest.fixture
async def seed(autojump_clock: MockClock) -> AsyncIterator[tuple[Node, Torrent]]:
    world = World()
    world.storage(SEED, ONE.metainfo).write(0, ONE.data)
    async with world.node(SEED) as node:
        torrent = await node.get(ONE.metainfo)
        await torrent.completed()
        yield node, torrent


async def test_a_file_is_sent_in_full(
    seed: tuple[Node, Torrent], autojump_clock: MockClock
) -> None:
    node, torrent = seed
    async with player(node) as client:
        answer = await client.get(f"/stream/{torrent.id[:8]}/0")
    assert answer.status_code == 200
    assert answer.content == ONE.data
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == "inline; filename*=UTF-8''film.bin"


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-", 0, 256 * KIB - 1),
        ("Bytes=0-0", 0, 0),
        ("bytes=1000-40000", 1000, 40_000),
        ("bytes=200000-", 200_000, 256 * KIB - 1),
        ("bytes=200000-99999999", 200_000, 256 * KIB - 1),
        ("bytes=-500", 256 * KIB - 500, 256 * KIB - 1),
    ],
)
async def test_a_part_is_sent_as_asked_for(
    asked: str, first: int, last: int, seed: tuple[Node, Torrent], autojump_clock: MockClock
) -> None:
    node, torrent = seed
    async with player(node) as client:
        answer = await client.get(f"/stream/{torrent.id}/0", headers={"Range": asked})
        head = await client.head(f"/stream/{torrent.id}/0", headers={"Range": asked})
    assert answer.status_code == head.status_code == 206
    assert answer.content == ONE.data[first : last + 1]
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{256 * KIB}"
    assert head.headers["content-length"] == str(last + 1 - first)
    assert head.content == b""


@pytest.mark.parametrize("asked", ["bytes=999999-", "bytes=-0", f"bytes={256 * KIB}-"])
async def test_what_the_file_does_not_have_is_refused(
    asked: str, seed: tuple[Node, Torrent], autojump_clock: MockClock
) -> None:
    node, torrent = seed
    async with browser(node) as client:
        answer = await client.get(f"/stream/{torrent.id}/0", headers={"Range": asked})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{256 * KIB}"


@pytest.mark.parametrize("asked", ["bytes=0-1,5-8", "bytes=9-3", "items=0-5", "bytes=-", ""])
async def test_what_is_no_range_or_several_gets_all(
    asked: str, seed: tuple[Node, Torrent], autojump_clock: MockClock
) -> None:
    node, torrent = seed
    async with player(node) as client:
        answer = await client.get(f"/stream/{torrent.id}/0", headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, ONE.data)
    assert "content-range" not in answer.headers


async def test_a_range_of_another_version_gets_all_of_this_one(
    seed: tuple[Node, Torrent], autojump_clock: MockClock
) -> None:
    node, torrent = seed
    async with player(node) as client:
        tag = (await client.head(f"/stream/{torrent.id[:8]}/0")).headers["etag"]
        for condition, size in (
            (tag, 10),
            ('"another"', 256 * KIB),
            ("Wed, 21 Oct 2015 07:28:00 GMT", 256 * KIB),
        ):
            headers = {"Range": "bytes=0-9", "If-Range": condition}
            answer = await client.get(f"/stream/{torrent.id}/0", headers=headers)
            assert len(answer.content) == size


@given(st.text(max_size=40) | st.from_regex(r"bytes=\d{0,20}-\d{0,20}"), st.integers(0, 1 << 50))
def test_any_range_is_within_the_file_or_refused(header: str, size: int) -> None:
    with contextlib.suppress(HTTPException):
        asked = byte_range(header, size)
        assert asked is None or 0 <= asked[0] < asked[1] <= size


@pytest.mark.parametrize("path", ["/stream/ffffffff/0", "/stream/{id}/1", "/stream/ff.m3u8"])
async def test_what_is_not_here_is_not_found(
    path: str, seed: tuple[Node, Torrent], autojump_clock: MockClock
) -> None:
    node, torrent = seed
    async with player(node) as client:
        assert (await client.get(path.format(id=torrent.id))).status_code == 404


@pytest.mark.parametrize("path", ["/stream/{id}/0", "/stream/{id}.m3u8", "/stream/ffffffff/0"])
async def test_who_may_not_see_it_is_told_nothing(
    path: str, seed: tuple[Node, Torrent], autojump_clock: MockClock
) -> None:
    node, torrent = seed
    async with player(node, admits=lambda request: False) as client:
        answer = await client.get(path.format(id=torrent.id))
    assert answer.status_code == 401


async def test_a_file_is_sent_while_it_loads(autojump_clock: MockClock) -> None:
    world = World(rate=64 * KIB, latency=0.02)
    async with world.seed(ONE), world.node(LEECH) as node:
        torrent = await node.get(ONE.magnet(SEED))
        while torrent.metainfo is None:
            await trio.sleep(0.1)
        async with player(node) as client:
            answer = await client.get(f"/stream/{torrent.id}/0", headers={"Range": "bytes=-70000"})
            assert answer.content == ONE.data[-70_000:]
            assert torrent.progress < 0.9


async def test_only_so_many_are_played_at_a_time(autojump_clock: MockClock) -> None:
    async with World().node(LEECH) as node:
        torrent = await node.get(ONE.metainfo)  # of which nothing comes
        stopping = trio.Event()
        async with player(node, stopping=stopping) as client, trio.open_nursery() as nursery:
            for _ in range(MAX_STREAMS):
                nursery.start_soon(partial(client.get, f"/stream/{torrent.id}/0"))
            await trio.sleep(1)
            assert (await client.get(f"/stream/{torrent.id}/0")).status_code == 503
            assert (await client.head(f"/stream/{torrent.id}/0")).status_code == 200
            stopping.set()
        assert (await node.remove(torrent)).deleted == 0


async def test_a_stream_that_will_not_go_on_ends(autojump_clock: MockClock) -> None:
    async with World().node(LEECH) as node:
        torrent = await node.get(ONE.metainfo)
        async with player(node) as client, trio.open_nursery() as nursery:

            async def pause() -> None:
                await trio.sleep(5)
                await torrent.pause()

            nursery.start_soon(pause)
            assert (await client.get(f"/stream/{torrent.id}/0")).content == b""


STOPS: dict[str, Callable[[Node, Torrent], Awaitable[object]]] = {
    "paused": lambda node, torrent: torrent.pause(),
    "removed": lambda node, torrent: node.remove(torrent),
    "lost": lambda node, torrent: trio.to_thread.run_sync(os.truncate, str(torrent.path), 0),
}


@pytest.mark.parametrize("why", STOPS)
async def test_a_player_sees_that_what_it_plays_is_cut_off(why: str, tmp_path: Path) -> None:
    """Over real sockets: and that is no bug of ours, whatever the server's library says of it."""
    size = 8 << 20
    path = tmp_path / "film.mkv"
    path.write_bytes(os.urandom(size))
    options = WebOptions(address=Address("127.0.0.1", 0))
    async with local_nodes(1, tmp_path) as (node,), trio.open_nursery() as nursery:
        torrent = await node.share(path)
        metainfo = torrent.metainfo
        assert metainfo is not None
        if why != "lost":  # only the first piece is here
            await node.remove(torrent)
            os.truncate(path, metainfo.geometry.piece_length)
            torrent = await node.get(metainfo, output=path, overwrite=True)
        where = await nursery.start(partial(serve_web, node, options, tmp_path))
        token = WebTokens.of(tmp_path).token("stream")
        with trio.fail_after(60):
            async with await trio.open_tcp_stream(*where) as stream:
                ask = f"GET /stream/{torrent.id}/0?token={token} HTTP/1.1\r\nHost: {where}\r\n\r\n"
                await stream.send_all(ask.encode())
                head = await stream.receive_some()
                assert b"content-length: %d" % size in head
                await STOPS[why](node, torrent)
                came = len(head)
                while chunk := await stream.receive_some():
                    came += len(chunk)
                assert came < size
        assert node.status().faults == 0
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("read_only", [False, True])
async def test_who_may_only_look_does_not_make_us_fetch_what_is_not_wanted(
    read_only: bool, autojump_clock: MockClock
) -> None:
    data = bytes(range(256)) * 512
    metainfo = from_info(hashed(data, [64 * KIB] * 2, 32 * KIB).info)
    world = World()
    world.storage(SEED, metainfo).write(0, data)
    async with world.node(SEED) as seed, world.node(LEECH) as node:
        await (await seed.get(metainfo)).completed()
        torrent = await node.get(metainfo, select=[(0, 0)])
        torrent.add_peers([HostPort(SEED, PORT)])
        await torrent.completed()
        async with player(node, read_only=read_only) as client:
            assert (await client.get(f"/stream/{torrent.id}/0")).content == data[: 64 * KIB]
            answer = await client.get(f"/stream/{torrent.id}/1")
        assert answer.status_code == (403 if read_only else 200)
        assert [file.selected for file in torrent.files()] == [True, not read_only]


# -- playlists ------------------------------------------------------------------------------------


async def test_a_playlist_has_what_can_be_played_in_the_order_of_names(
    autojump_clock: MockClock,
) -> None:
    names = ["b 10.mkv", "b 2.mp3", "readme.txt", "B 1\n#EXT.ogg"]
    pieces = hashlib.sha1(bytes(4 * KIB)).digest()
    files = b"".join(
        b"d6:lengthi1024e4:pathl%d:%beee"[:-1] % (len(name), name.encode()) for name in names
    )
    info = b"d5:filesl%be4:name4:show12:piece lengthi16384e6:pieces20:%be" % (files, pieces)
    async with World().node(LEECH) as node:
        torrent = await node.get(from_info(info))
        async with player(node) as client:
            answer = await client.get(f"/stream/{torrent.id}.m3u8?token=abc")
            other = await client.get(f"/stream/{torrent.id}.m3u?token=abc")
    assert answer.text == other.text
    lines = answer.text.splitlines()
    assert lines[0] == "#EXTM3U"
    assert len(lines) == 1 + 2 * 3
    assert [line.rpartition("/")[2] for line in lines[2::2]] == [
        "3?token=abc",
        "1?token=abc",
        "0?token=abc",
    ]
    assert all(line.startswith("http://node/stream/") for line in lines[2::2])
    assert all(line.startswith("#EXTINF:-1,") for line in lines[1::2])


async def test_without_anything_to_play_there_is_no_playlist(
    seed: tuple[Node, Torrent], autojump_clock: MockClock
) -> None:
    node, torrent = seed
    async with player(node) as client:
        assert (await client.get(f"/stream/{torrent.id}.m3u8")).status_code == 404


NAMES = st.text("aZ1ß09/ .\u0663", max_size=8)


@given(NAMES, NAMES)
def test_any_two_names_have_an_order(one: str, other: str) -> None:
    first, second = playing_order(one), playing_order(other)
    assert (first < second) + (second < first) + (first == second) == 1


def test_names_are_played_as_people_count() -> None:
    told = ["Show/10/e 01.mkv", "Show 2/a", "Show/2/e 1.mkv", "Show/1/E 10.mkv", "Show/1/e 2.mkv"]
    played = ["Show/1/e 2.mkv", "Show/1/E 10.mkv", "Show/2/e 1.mkv", "Show/10/e 01.mkv", "Show 2/a"]
    assert sorted(told, key=playing_order) == played


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.mkv", "video/x-matroska"),
        ("a.webm", "video/webm"),
        ("a.ts", "video/mp2t"),
        ("a.flac", "audio/flac"),
        ("a.m4b", "audio/mp4"),
        ("a.srt", "application/x-subrip"),
        ("a.vtt", "text/vtt"),
        ("A.MP4", "video/mp4"),
        ("a.mp3", "audio/mpeg"),
        ("a.txt", "text/plain"),
        ("a.html", "application/octet-stream"),
        ("a.svg", "application/octet-stream"),
        ("a.js", "application/octet-stream"),
        ("a", "application/octet-stream"),
        ("a.mp4/index.html", "application/octet-stream"),
    ],
)
def test_no_file_is_of_a_type_that_a_browser_would_run(name: str, kind: str) -> None:
    assert media_type(name) == kind
    assert is_played(name) == kind.startswith(("video/", "audio/"))
