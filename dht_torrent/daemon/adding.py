"""What `POST torrents` asks for: one more torrent."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from dht_torrent import given
from dht_torrent.daemon import search_api
from dht_torrent.daemon.body import absolute_path, check_types
from dht_torrent.errors import InputError
from dht_torrent.metainfo import Magnet, Metainfo, parse_ranges, parse_torrent

if TYPE_CHECKING:
    from dht_torrent.engine.node import Node
    from dht_torrent.engine.torrent.torrent import Torrent


class Addition:
    """The body of `POST torrents`, checked: one of source, torrent and share, and options."""

    def __init__(self, body: dict[str, Any]) -> None:
        body = check_types(body, self.KEYS)
        if sum(key in body for key in ("source", "torrent", "share")) != 1:
            raise InputError("give exactly one of source, torrent and share")
        for key in ("share", "output", *self._TLS):
            if key in body:
                absolute_path(body[key], key)
        self._body = body
        self._select = parse_ranges(body["select"]) if "select" in body else None
        search_api.tags_of(body)
        for source in body.get("sources", ()):
            if not isinstance(source, str):
                raise InputError("sources must be a list of absolute paths")
            absolute_path(source, "each of sources")
        if "share" in body and "sources" in body:
            raise InputError("sources go with source or torrent: what is shared lacks nothing")
        if "share" not in body and body.keys() & {"publish", "tags"}:
            raise InputError(
                "publish and tags go with share only: what was fetched is not published"
            )

    _TLS = ("tls_ca", "tls_cert", "tls_key")
    KEYS: Mapping[str, type] = {
        "source": str,
        "torrent": str,
        "share": str,
        "output": str,
        "select": str,
        "sequential": bool,
        "paused": bool,
        "overwrite": bool,
        "sources": list,
        "piece_length": int,
        "private": bool,
        "super_seed": bool,
        "publish": bool,
        "tags": list,
        **dict.fromkeys(_TLS, str),
    }

    async def carry_out(self, node: Node) -> Torrent:
        body = self._body
        tls = {key: body[key] for key in self._TLS if key in body}
        if "share" in body:
            return await node.share(
                Path(body["share"]),
                piece_length=body.get("piece_length"),
                private=body.get("private", False),
                **{key: body[key] for key in ("super_seed", "publish", "tags") if key in body},
                **tls,
            )
        if "tls_ca" in tls:
            raise InputError("tls_ca goes with share only: a torrent has its root certificate")
        return await node.get(
            await self._source(),
            output=body.get("output"),
            select=self._select,
            sequential=body.get("sequential", False),
            paused=body.get("paused", False),
            overwrite=body.get("overwrite", False),
            sources=body.get("sources", ()),
            **tls,
        )

    async def _source(self) -> Magnet | Metainfo:
        # Never a str: Node.get would also take the path of a file, which is the client's to read.
        if "source" in self._body:
            return given.read_link(self._body["source"])
        try:
            data = base64.b64decode(self._body["torrent"], validate=True)
        except (binascii.Error, ValueError):
            raise InputError("torrent is not base64") from None
        return await trio.to_thread.run_sync(parse_torrent, data)
