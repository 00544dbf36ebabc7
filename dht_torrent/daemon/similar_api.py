"""Similar torrents in the control API. The rule: only `path` names a file of the node's machine,
and it is a whole path."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dht_torrent.daemon.body import absolute_path, check_types
from dht_torrent.errors import InputError
from dht_torrent.given import is_info_hash, read_link
from dht_torrent.magnet import Magnet

if TYPE_CHECKING:
    from dht_torrent.engine.node import Node
    from dht_torrent.engine.search.views import SimilarFound

Json = dict[str, Any]

SIMILAR: Mapping[str, type] = {
    "source": str,
    "path": str,
    "limit": int,
    "patience": float,
    "network": bool,
}
"""The body of `POST similar`."""


async def ask(node: Node, body: Json) -> SimilarFound:
    """The answer to `POST similar`: to `source`, a magnet link, an infohash or the first digits of
    a torrent's, or to `path`; `limit`, `patience` and `network` are as in `Node.similar`. Raises
    InputError."""
    given = check_types(body, SIMILAR)
    if ("source" in given) == ("path" in given):
        raise InputError("give either source or path")
    options = {name: given[name] for name in ("limit", "patience", "network") if name in given}
    return await node.similar(_source(node, given), **options)


def _source(node: Node, given: Json) -> Magnet | Path:
    if "path" in given:
        absolute_path(given["path"], "path")
        return Path(given["path"])
    text = given["source"].strip()
    if text[:7].lower() == "magnet:" or is_info_hash(text):
        return read_link(text)
    return Magnet(node.find(text).info_hash)
