"""How results of a search are shown: as blocks on a terminal, a line each elsewhere, and as JSON. A
name comes last in its line: letters that are written from right to left, as some are, then pull
nothing along that comes after them.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import Any

import click

from dht_torrent.cli import view

Json = Mapping[str, Any]

SHORT_KEY = 16
"""Hex digits of a publisher's key that are shown: 64 bits, which nobody makes a second key for."""
_HOW = {
    "joined": "connected to us",
    "bep33": "as DHT nodes estimate",
    "get_peers": "named by DHT nodes",
}
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def json_line(result: Json) -> str:
    return json.dumps(result, ensure_ascii=True)


def plain_line(result: Json) -> str:
    """Tabs between what is known, and `-` for what is not; the magnet link and the name are the
    last two."""
    cells = (
        result["id"],
        "-" if result["size"] is None else view.size(result["size"]),
        "-" if result["files"] is None else view.counted(result["files"], "file"),
        age(result["published"]) or "-",
        "-" if result["peers"] is None else view.counted(result["peers"], "peer"),
        result["trust"],
        result["publisher"][:SHORT_KEY] if result["publisher"] else "-",
        result["magnet"],
        result["name"],
    )
    return "\t".join(map(view.clean, cells))


def block(result: Json, *, number: int | None = None) -> str:
    """For people, on a terminal: the name, what is known of it, and how to fetch it."""
    known = [
        view.size(result["size"]) if result["size"] is not None else "size not known",
        view.counted(result["files"], "file") if result["files"] is not None else None,
        age(result["published"]),
        peers(result),
        vouched(result),
    ]
    details = view.clean(", ".join(filter(None, known)))
    mark = "" if number is None else f"{number:>2}  "
    lines = [mark + bold(view.clean(result["name"])), f"    {details}"]
    if number is None:
        lines.append(f"    {view.clean(result['magnet'])}")
    return "\n".join(lines)


def age(at: float | None) -> str | None:
    """How long ago that was, in its largest unit."""
    if at is None:
        return None
    seconds = int(time.time() - at)
    for width, unit in _UNITS:
        if seconds >= width:
            return f"{seconds // width} {unit} ago"
    return "now"


def peers(result: Json) -> str:
    """How many have it, how that was seen, and when."""
    if result["peers"] is None:
        return "peers not looked for"
    told = view.counted(result["peers"], "peer")
    if result["seeds"] is not None:
        told += f" ({view.counted(result['seeds'], 'seed')})"
    seen = [_HOW.get(str(result["peers_how"])), age(result["peers_at"])]
    return " ".join([told, *filter(None, seen)])


def vouched(result: Json) -> str:
    """Who stands behind the name."""
    if result["trust"] == "unverified":
        cut = ", of which only the beginning is known" if result.get("name_is_cut") else ""
        return f"UNVERIFIED: anybody may have written this name{cut}"
    told = "the torrent's own name" if result["trust"] == "strong" else "verified"
    if result["publisher"]:
        told += f", published by {result['publisher'][:SHORT_KEY]}"
        if result.get("trusted"):
            told += " (trusted)"
        if (more := result["publishers"] - 1) > 0:
            told += f" and {more} more"
    return told


def bold(text: str) -> str:
    """Unless the user wants no colours."""
    return text if "NO_COLOR" in os.environ else click.style(text, bold=True)
