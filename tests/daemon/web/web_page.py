"""A browser's requests to the page of a node on a fake network, over the whole application."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import trio

from dht_torrent import Node
from dht_torrent.daemon.tokens import WebTokens
from dht_torrent.daemon.web.door import Door
from dht_torrent.daemon.web_app import WebOptions, make_web_app
from dht_torrent.ids import Address

PORT = 9091
JSON = {"x-dhtnode": "1"}


@contextlib.asynccontextmanager
async def browser(
    node: Node, *, door: Door | None = None, enters: bool = True, **changes: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """One that has opened the secret link, if it `enters`."""
    door = door or Door(trio.current_time, port=PORT)
    options = WebOptions(**{"address": Address("127.0.0.1", PORT), **changes})
    app = make_web_app(
        node,
        options,
        state_dir=Path("/state"),
        stop=lambda: None,
        door=door,
        tokens=WebTokens(b"t" * 32),
        stopping=trio.Event(),
    )
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app, raise_app_exceptions=False),
        base_url=f"http://127.0.0.1:{PORT}",
    ) as client:
        if enters:
            answer = await client.get("/enter", params={"key": door.secret})
            assert (answer.status_code, answer.headers["location"]) == (303, "/")
        yield client
