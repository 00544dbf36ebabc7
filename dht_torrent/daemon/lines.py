"""Bodies that go on: JSON values, each on a line of its own, as they come. The rule: a value is
asked for when the line before it has been sent, so a client that reads slowly makes nothing queue
here.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import trio
from starlette.responses import StreamingResponse

from dht_torrent.errors import DhtTorrentError, InputError
from dht_torrent.ids import Address, HostPort

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

LINES: Final = "application/x-ndjson"
"""The media type of JSON values, each on a line of its own."""


class Lines:
    """A line for each value, until there are no more or the node is told to stop."""

    def __init__(self, values: AsyncIterator[object], stopping: trio.Event) -> None:
        self._values = values
        self._stopping = stopping

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._stopping.is_set():
            raise StopAsyncIteration
        line: bytes | None = None
        async with trio.open_nursery() as nursery:

            async def cut() -> None:
                await self._stopping.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(cut)
            async for value in self._values:
                line = line_of(value)
                break
            nursery.cancel_scope.cancel()
        if line is None:
            raise StopAsyncIteration
        return line


class HeldResponse(StreamingResponse):
    """A response that goes on. What it needs, it holds from when it begins until it ends, however
    that comes."""

    def __init__(
        self,
        body: AsyncIterator[bytes],
        needs: AbstractAsyncContextManager[object],
        *,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
    ) -> None:
        super().__init__(body, status_code=status_code, headers=headers, media_type=media_type)
        self._needs = needs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._needs:
            await super().__call__(scope, receive, send)


class LinesResponse(HeldResponse):
    """One of lines."""

    def __init__(
        self, body: AsyncIterator[bytes], needs: AbstractAsyncContextManager[object]
    ) -> None:
        super().__init__(body, needs, media_type=LINES)


def failure_of(error: DhtTorrentError) -> dict[str, object]:
    """The last line of a body that cannot go on."""
    return {"error": str(error), "status": 400 if isinstance(error, InputError) else 409}


def line_of(value: object) -> bytes:
    """In ASCII: names may hold anything, even bytes of a file name that are not UTF-8."""
    return json.dumps(plain(value), ensure_ascii=True).encode("ascii") + b"\n"


def plain(value: object) -> object:
    """What JSON can say: dataclasses become objects, addresses and paths text, bytes hex."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, (Address, HostPort, Path)):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if dataclasses.is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no place in JSON")
