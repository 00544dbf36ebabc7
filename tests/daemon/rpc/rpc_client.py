"""A client of the RPC of a node on a fake network, over the whole application and no socket."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from dht_torrent import Node
from dht_torrent.daemon.credentials import Credentials
from dht_torrent.daemon.rpc.endpoint import SESSION_ID
from dht_torrent.daemon.rpc.remembered import Remembered
from dht_torrent.daemon.web_app import RPC_PATH, WebOptions, make_web_app
from dht_torrent.ids import Address

USER, PASSWORD = "owner", "secret"


def web_options(**changes: Any) -> WebOptions:
    told: dict[str, Any] = {
        "address": Address("127.0.0.1", 9091),
        "credentials": Credentials.parse(f"{USER}:{PASSWORD}"),
    }
    return WebOptions(**{**told, **changes})


@contextlib.asynccontextmanager
async def web_client(
    node: Node, *, remembered: Remembered | None = None, **changes: Any
) -> AsyncIterator[httpx.AsyncClient]:
    app = make_web_app(
        node,
        web_options(**changes),
        state_dir=Path("/state"),
        stop=node_stops(node),
        remembered=remembered,
    )
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://127.0.0.1:9091", auth=(USER, PASSWORD)
    ) as client:
        yield client


STOPPED: list[Node] = []
"""Nodes that a client has asked to end."""


def node_stops(node: Node) -> Any:
    return lambda: STOPPED.append(node)


class Rpc:
    """Calls in one of the two dialects."""

    def __init__(self, client: httpx.AsyncClient, *, legacy: bool = True) -> None:
        self.client = client
        self.legacy = legacy
        self._session = ""

    async def post(self, body: Any) -> httpx.Response:
        return await self.raw(json.dumps(body).encode())

    async def raw(self, body: bytes) -> httpx.Response:
        """With this body."""
        for _ in range(2):
            headers = {SESSION_ID: self._session, "Content-Type": "application/json"}
            answer = await self.client.post(RPC_PATH, content=body, headers=headers)
            if answer.status_code != 409:
                break
            self._session = answer.headers[SESSION_ID]
        return answer

    async def __call__(self, method: str, **params: Any) -> Any:
        """The result, or the text of the error."""
        if self.legacy:
            body = {"method": method, "arguments": params, "tag": 3}
            told = (await self.post(body)).json()
            assert told["tag"] == 3
            return told["arguments"] if told["result"] == "success" else told["result"]
        body = {"jsonrpc": "2.0", "method": method.replace("-", "_"), "params": params, "id": 3}
        told = (await self.post(body)).json()
        assert told["id"] == 3
        return told["result"] if "result" in told else told["error"]["data"]["error_string"]

    async def torrents(self, *fields: str, **params: Any) -> list[dict[str, Any]]:
        told = await self("torrent-get", fields=list(fields), **params)
        return list(told["torrents"])
