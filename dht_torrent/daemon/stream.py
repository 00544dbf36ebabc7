"""Films and music, played while they load: `/stream/ID/FILE` as any player asks for it, in parts,
and `/stream/ID.m3u8`, a playlist of what can be played in a torrent.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import quote

import trio
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from dht_torrent.daemon.lines import HeldResponse
from dht_torrent.daemon.media import is_played, media_type, playing_order
from dht_torrent.engine.views import counted
from dht_torrent.errors import DhtTorrentError, InputError
from dht_torrent.filenames import printable

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Message, Receive, Scope, Send

    from dht_torrent.engine.node import Node
    from dht_torrent.engine.torrent.readers import Reader
    from dht_torrent.engine.torrent.torrent import Torrent

PATH: Final = "/stream"
CHUNK: Final = 256 * 1024
"""Bytes sent at a time."""
PATIENCE: Final = 600.0
"""Seconds a player waits at most for something that is missing: most give up before."""
POLICY: Final = (
    "sandbox allow-same-origin; default-src 'none'; media-src 'self'; img-src 'self';"
    " style-src 'unsafe-inline'"
)
"""No script runs in it, whatever it is. A browser that shows it in a page of its own loads it once
more from there: from this origin, with its cookie."""
MAX_STREAMS: Final = 64
"""At a time."""
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII | re.IGNORECASE)


class Streams:
    """Those of one node."""

    def __init__(
        self,
        node: Node,
        admits: Callable[[Request], bool],
        stopping: trio.Event,
        *,
        read_only: bool = False,
    ) -> None:
        """`admits` says who may see and hear. All end when `stopping` is set. `read_only`: what is
        not wanted is not fetched by being played."""
        self._node = node
        self._admits = admits
        self._stopping = stopping
        self._read_only = read_only
        self._room = MAX_STREAMS

    def routes(self) -> list[Route]:
        return [
            *(
                Route(f"{PATH}/{{id}}.{suffix}", self.playlist, methods=["GET", "HEAD"])
                for suffix in ("m3u8", "m3u")  # which many players know alone
            ),
            Route(f"{PATH}/{{id}}/{{file:int}}", self.play, methods=["GET", "HEAD"]),
        ]

    async def playlist(self, request: Request) -> Response:
        """What can be played, in the order of names as people count."""
        torrent = self._asked(request)
        token = request.query_params.get("token")
        played = [file for file in torrent.files() if is_played(file.path)]
        files = sorted(played, key=lambda file: playing_order(file.path))
        if not files:
            raise HTTPException(404, "nothing in it can be played, as far as is known by now")
        lines = ["#EXTM3U"]
        for file in files:
            lines.append(f"#EXTINF:-1,{printable(file.path)}")
            url = f"{request.url.scheme}://{request.url.netloc}{PATH}/{torrent.id}/{file.index}"
            lines.append(f"{url}?token={quote(token)}" if token else url)
        return Response("\n".join(lines) + "\n", media_type="application/vnd.apple.mpegurl")

    async def play(self, request: Request) -> Response:
        """A file, or the part of it that is asked for."""
        torrent, index = self._asked(request), int(request.path_params["file"])
        file = next((file for file in torrent.files() if file.index == index), None)
        if file is None:
            raise HTTPException(404, "there is no such file, as far as is known by now")
        # What is sent is verified: it is the same as long as it has this name.
        tag = f'"{torrent.id}-{index}"'
        asked = byte_range(_range(request, tag), file.size)
        start, stop = asked or (0, file.size)
        name = file.path.rpartition("/")[2]
        headers = {
            "ETag": tag,
            "Accept-Ranges": "bytes",
            "Content-Length": str(stop - start),
            "Content-Type": media_type(file.path),
            "Content-Disposition": f"inline; filename*=UTF-8''{quote(name)}",
            "Content-Security-Policy": POLICY,
        }
        status = 200
        if asked is not None:  # all of it as well: Safari plays nothing that says 200 to that
            status = 206
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{file.size}"
        if request.method == "HEAD" or start == stop:
            return Response(status_code=status, headers=headers)
        if not self._room:
            raise HTTPException(503, f"{counted(MAX_STREAMS, 'file')} are being played already")
        if self._read_only and not file.selected:
            raise HTTPException(403, "it is not wanted, and this is for looking only")
        reader = await torrent.open(index)
        parts = _Parts(reader, start, stop, self._stopping)
        return _PartsResponse(parts, self._going_on(reader), status, headers)

    def _asked(self, request: Request) -> Torrent:
        if not self._admits(request):
            raise HTTPException(401, "a token is needed: `dhtnode web --tokens` shows it")
        try:
            return self._node.find(request.path_params["id"])
        except InputError as error:
            raise HTTPException(404, str(error)) from None

    @asynccontextmanager
    async def _going_on(self, reader: Reader) -> AsyncIterator[None]:
        self._room -= 1
        try:
            with reader:
                yield
        finally:
            self._room += 1


class _Parts:
    """The bytes between, as they come. They end early when the node does, or when what is next will
    not come: the length was told, so that a player sees that something is wrong."""

    def __init__(self, reader: Reader, start: int, stop: int, stopping: trio.Event) -> None:
        self._reader = reader
        self._at, self._stop = start, stop
        self._stopping = stopping

    @property
    def complete(self) -> bool:
        """All of it was sent."""
        return self._at == self._stop

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        data = b""
        if self._at < self._stop:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_cancel_when, self._stopping, nursery.cancel_scope)
                with trio.move_on_after(PATIENCE), contextlib.suppress(DhtTorrentError):
                    data = await self._reader.read(self._at, min(CHUNK, self._stop - self._at))
                nursery.cancel_scope.cancel()
        if not data:
            raise StopAsyncIteration
        self._at += len(data)
        return data


class _PartsResponse(HeldResponse):
    """One of parts. Of one that ends early no end is said, so that its connection is closed: over
    HTTP/1.1 nothing else tells a player that some of it is missing."""

    def __init__(
        self,
        parts: _Parts,
        needs: AbstractAsyncContextManager[object],
        status_code: int,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(parts, needs, status_code=status_code, headers=headers)
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_on(message: Message) -> None:
            ends = message["type"] == "http.response.body" and not message.get("more_body", False)
            # In HTTP/2 the connection has other streams, and the length says that it is cut off.
            if not ends or self._parts.complete or scope["http_version"] == "2":
                await send(message)

        await super().__call__(scope, receive, send_on)


async def _cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


def _range(request: Request, tag: str) -> str | None:
    """The range that is asked for, unless only of another version than what this tag names (RFC
    9110, 13.1.5)."""
    condition = request.headers.get("if-range")
    return request.headers.get("range") if condition is None or condition == tag else None


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte, and the one after the last, of a `Range` (RFC 9110); None for all. One that makes
    no sense, or of several parts, counts for none. Raises HTTPException(416) for what the file does
    not have."""
    match = _RANGE.fullmatch(header.strip()) if header is not None else None
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        start, stop = max(0, size - int(match[2])), size
    else:
        start, stop = int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
        if match[2] and int(match[2]) < start:
            return None
    if start >= stop:
        raise HTTPException(416, headers={"Content-Range": f"bytes */{size}"})
    return start, stop
