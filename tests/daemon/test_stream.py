"""What a player is sent, on a fake network, and over real sockets."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
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
from dht_torrent.daemon.stream import MAX_STREAMS, Streams, byte_range, is_played, media_type
from dht_torrent.ids import HostPort
from dht_torrent.metainfo import from_info
from tests.helpers.engine import KIB, LEECH, PORT, SEED, World, sample
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
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=Starlette(routes=streams.routes())),
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
        ("bytes=0-0", 0, 0),
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


async def test_what_the_file_does_not_have_is_refused(
    seed: tuple[Node, Torrent], autojump_clock: MockClock
) -> None:
    node, torrent = seed
    async with player(node) as client:
        answer = await client.get(f"/stream/{torrent.id}/0", headers={"Range": "bytes=999999-"})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{256 * KIB}"


@given(st.text(max_size=40) | st.from_regex(r"bytes=\d{0,20}-\d{0,20}"), st.integers(0, 1 << 50))
def test_any_range_is_within_the_file_or_refused(header: str, size: int) -> None:
    with contextlib.suppress(HTTPException):
        start, stop = byte_range(header, size)
        assert 0 <= start <= stop <= size
        assert (start, stop) == (0, size) or start < stop


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
    names = ["b.mkv", "a.mp3", "readme.txt", "a\n#EXT.ogg"]
    pieces = hashlib.sha1(bytes(4 * KIB)).digest()
    files = b"".join(
        b"d6:lengthi1024e4:pathl%d:%beee"[:-1] % (len(name), name.encode()) for name in names
    )
    info = b"d5:filesl%be4:name4:show12:piece lengthi16384e6:pieces20:%be" % (files, pieces)
    async with World().node(LEECH) as node:
        torrent = await node.get(from_info(info))
        async with player(node) as client:
            answer = await client.get(f"/stream/{torrent.id}.m3u8?token=abc")
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


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.mkv", "video/x-matroska"),
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
