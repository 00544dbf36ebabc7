"""What a user says of a torrent that is here: which files, labels, limits of seeding, its place in
the queue, and where its content lies. Each is one call of `Torrent` or `Node`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from dht_torrent.config.alternative import parse_hours
from dht_torrent.config.seeding import SeedingLimit, SeedingLimits
from dht_torrent.daemon.body import absolute_path, check_types
from dht_torrent.engine.torrent.rate_limits import checked_rate
from dht_torrent.errors import InputError
from dht_torrent.magnet import parse_ranges

if TYPE_CHECKING:
    from dht_torrent.engine.node import Node
    from dht_torrent.engine.torrent.torrent import Torrent

ACTIONS: Final = ("files", "labels", "seeding", "queue", "announce", "move", "rename")
FILES: Final[Mapping[str, type]] = dict.fromkeys(("want", "skip", "high", "normal", "low"), str)
LABELS: Final[Mapping[str, type]] = {"labels": list}
MOVE: Final[Mapping[str, type]] = {"folder": str, "data": bool, "wait": bool}
RENAME: Final[Mapping[str, type]] = {"path": str, "name": str}


async def act(node: Node, torrent: Torrent, action: str, body: dict[str, Any]) -> None:
    """Carry out one of `ACTIONS`. Raises InputError."""
    match action:
        case "files":
            await _files(torrent, body)
        case "labels":
            await torrent.set_labels(_labels(body))
        case "seeding":
            await torrent.set_seeding_limits(_limits(torrent.seeding_limits, body))
        case "queue":
            await node.move_in_queue(torrent, _position(node, torrent, body))
        case "announce":
            check_types(body, {})
            torrent.announce()
        case "move":
            await _move(torrent, body)
        case "rename":
            given = check_types(body, RENAME)
            if given.keys() != {"path", "name"}:
                raise InputError("give a path and a name")
            await torrent.rename(given["path"], given["name"])


async def _move(torrent: Torrent, body: dict[str, Any]) -> None:
    """`folder` is where it is to be; with `data` false its content is there already. Without `wait`
    it is enough that the move has begun."""
    given = check_types(body, MOVE)
    if "folder" not in given:
        raise InputError("give a folder")
    absolute_path(given["folder"], "folder")
    if given.get("data", True):
        await torrent.move(given["folder"], wait=given.get("wait", True))
    else:
        await torrent.look_in(given["folder"])


def set_node_limits(node: Node, body: dict[str, Any]) -> None:
    """`up` and `down` in bytes per second, null for no limit; `alternative`: whether those that are
    `alternative_up` and `alternative_down` hold instead; `hours`: when they do by the clock, as
    `mon-fri 09:00-17:00`, or null for never. What is left out stays. Raises InputError."""
    rates, others = ("up", "down"), ("alternative_up", "alternative_down")
    if unknown := sorted(body.keys() - {*rates, *others, "alternative", "hours"}):
        raise InputError(f"unknown option {unknown[0][:40]!r}")
    for key in (*rates, *others):
        if body.get(key) is not None and type(body[key]) is not int:
            raise InputError(f"{key} must be a whole number of bytes per second, or null")
    now = node.speed.alternative
    if "alternative" in body:
        if type(body["alternative"]) is not bool:
            raise InputError("alternative must be true or false")
        now = replace(now, on=body["alternative"])
    if "hours" in body:
        hours = body["hours"]
        if not isinstance(hours, str | None):
            raise InputError("hours must be a string, or null")
        if hours is None:
            now = replace(now, by_clock=False)
        else:
            now = replace(now, by_clock=True, hours=parse_hours(hours))
    changed = {way: body[key] for way, key in zip(rates, others, strict=True) if key in body}
    now = replace(now, **changed)
    usual = {key: body[key] for key in rates if key in body}
    for rate in usual.values():
        checked_rate(rate)
    node.speed.set_alternative(now)
    node.set_limits(**usual)


async def _files(torrent: Torrent, body: dict[str, Any]) -> None:
    """`want`, `skip`, `high`, `normal` and `low` are ranges of indices as in magnet links; `want`
    and `skip` change what is wanted now."""
    given = check_types(body, FILES)
    named = {key: _indices(text) for key, text in given.items()}
    files = torrent.files()
    if not files:
        raise InputError("the files of this torrent are not known yet")
    last = max(file.index for file in files)
    for index in sorted(set().union(*named.values())):
        if index > last:
            raise InputError(f"there is no file {index}: the last one is {last}")
    wanted = {file.index for file in files if file.selected}
    wanted = (wanted | named.get("want", set())) - named.get("skip", set())
    priorities = {file.index: file.priority for file in files}
    for key, priority in (("high", 1), ("normal", 0), ("low", -1)):
        priorities.update(dict.fromkeys(named.get(key, ()), priority))
    await torrent.set_files([(index, index) for index in sorted(wanted)], priorities)


def _indices(text: str) -> set[int]:
    return {index for first, last in parse_ranges(text) for index in range(first, last + 1)}


def _labels(body: dict[str, Any]) -> list[str]:
    labels: list[str] | None = check_types(body, LABELS).get("labels")
    if labels is None or not all(isinstance(label, str) for label in labels):
        raise InputError("labels must be a list of strings")
    return labels


def _limits(now: SeedingLimits, body: dict[str, Any]) -> SeedingLimits:
    """`ratio` and `idle`: a number (of seconds), `"node"` or `"none"`; what is left out stays."""
    if unknown := sorted(body.keys() - {"ratio", "idle"}):
        raise InputError(f"unknown option {unknown[0][:40]!r}")
    return SeedingLimits(
        _limit("ratio", body.get("ratio", now.ratio)), _limit("idle", body.get("idle", now.idle))
    )


def _limit(name: str, value: object) -> SeedingLimit:
    if value == "node":
        return "node"
    if value == "none":
        return "none"
    if type(value) is int or type(value) is float:
        return float(value)
    raise InputError(f"{name} must be a number, 'node' or 'none'")


def _position(node: Node, torrent: Torrent, body: dict[str, Any]) -> int:
    """`to`: a place from 0, or top, up, down or bottom."""
    to = body.get("to")
    if body.keys() - {"to"} or not (isinstance(to, str) or type(to) is int):
        raise InputError("to must be a place from 0, or top, up, down or bottom")
    positions = node.queue_positions()
    now, last = positions[torrent.info_hash], len(positions) - 1
    places = {"top": 0, "up": max(0, now - 1), "down": min(last, now + 1), "bottom": last}
    if isinstance(to, str):
        if to not in places:
            raise InputError("to must be a place from 0, or top, up, down or bottom")
        return places[to]
    return to
