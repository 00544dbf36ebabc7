"""The answers, in XML: what the index can do, results as RSS items, and errors."""

from __future__ import annotations

import re
from collections.abc import Iterable
from email.utils import formatdate
from typing import Final
from xml.etree import ElementTree

from dht_torrent.daemon.torznab.asking import MAX_LISTED, SEARCHES
from dht_torrent.daemon.torznab.categories import NAMES
from dht_torrent.engine.search.views import SearchResult

Element = ElementTree.Element

TITLE: Final = "dht_torrent"
TORZNAB: Final = "http://torznab.com/schemas/2015/feed"
_SHOWN: Final = {
    "search": "search",
    "tvsearch": "tv-search",
    "movie": "movie-search",
    "music": "music-search",
    "book": "book-search",
}
_FORBIDDEN: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no XML may hold, however written."""
ElementTree.register_namespace("torznab", TORZNAB)


def capabilities() -> bytes:
    """Of `t=caps`."""
    caps = Element("caps")
    _add(caps, "server", title=TITLE)
    _add(caps, "limits", max=str(MAX_LISTED), default=str(MAX_LISTED))
    searching = _add(caps, "searching")
    for kind, params in SEARCHES.items():
        _add(searching, _SHOWN[kind], available="yes", supportedParams=",".join(params))
    _add(searching, "audio-search", available="no", supportedParams="")
    categories = _add(caps, "categories")
    for number, name in NAMES.items():
        _add(categories, "category", id=str(number), name=name)
    _add(caps, "tags")
    return _written(caps)


def error(code: int, text: str) -> bytes:
    """Numbers as Newznab's."""
    return _written(Element("error", code=str(code), description=text))


def listing(
    results: Iterable[tuple[SearchResult, int]], *, offset: int, total: int, link: str
) -> bytes:
    """Results with their categories; `total` were found."""
    rss = Element("rss", version="2.0")
    channel = _add(rss, "channel")
    _add_text(channel, "title", TITLE)
    _add_text(channel, "description", "Search in the Mainline DHT, without a server")
    _add_text(channel, "link", link)
    _add(channel, f"{{{TORZNAB}}}response", offset=str(offset), total=str(total))
    for result, category in results:
        _add_item(channel, result, category)
    return _written(rss)


def _add_item(channel: Element, result: SearchResult, category: int) -> None:
    item = _add(channel, "item")
    size = str(result.size or 0)
    _add_text(item, "title", result.name)
    _add_text(item, "guid", result.id).set("isPermaLink", "false")
    if result.published is not None:
        _add_text(item, "pubDate", formatdate(result.published, usegmt=True))
    _add_text(item, "category", str(category))
    _add_text(item, "link", result.magnet)
    _add_text(item, "size", size)
    _add(item, "enclosure", url=result.magnet, length=size, type="application/x-bittorrent")
    known: dict[str, int | str | None] = {
        "category": category,
        "infohash": result.id,
        "magneturl": result.magnet,
        "size": size,
        "files": result.files,
        "seeders": result.seeds,
        "peers": result.peers,
        "leechers": None,
        "downloadvolumefactor": 0,
        "uploadvolumefactor": 1,
    }
    if result.peers is not None:
        known["leechers"] = result.peers - (result.seeds or 0)
        if result.seeds is None:  # those who ask take a torrent without seeds for a dead one
            known["seeders"] = result.peers
            known["leechers"] = 0
    for name, value in known.items():
        if value is not None:
            _add(item, f"{{{TORZNAB}}}attr", name=name, value=str(value))


def _add(parent: Element, tag: str, **attributes: str) -> Element:
    return ElementTree.SubElement(parent, tag, attributes)


def _add_text(parent: Element, tag: str, text: str) -> Element:
    child = _add(parent, tag)
    child.text = _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
    return child


def _written(root: Element) -> bytes:
    data: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return data
