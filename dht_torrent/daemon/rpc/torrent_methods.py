"""What clients do with torrents."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

import trio

from dht_torrent import given
from dht_torrent.config.seeding import SeedingLimit, SeedingLimits
from dht_torrent.daemon.rpc import params as read
from dht_torrent.daemon.rpc.calls import (
    CORRUPT_TORRENT,
    HTTP_ERROR,
    INVALID_PARAMS,
    NO_SUCH_FILE,
    PATH_NOT_ABSOLUTE,
    SYSTEM_ERROR,
    UNRECOGNIZED_INFO,
    Encoded,
    RpcError,
)
from dht_torrent.daemon.rpc.limits import (
    NODE,
    NONE,
    OWN,
    down_limit,
    idle_limit,
    ratio_limit,
    up_limit,
)
from dht_torrent.daemon.rpc.names import IN_TORRENTS, Names, to_snake
from dht_torrent.daemon.rpc.rows import encode
from dht_torrent.daemon.rpc.settings import Settings
from dht_torrent.daemon.rpc.torrent_fields import known
from dht_torrent.errors import DhtTorrentError, InputError, MetainfoError
from dht_torrent.metainfo import Magnet, Metainfo, parse_torrent

if TYPE_CHECKING:
    from dht_torrent.engine.node import Node
    from dht_torrent.engine.torrent.torrent import Torrent

Params = dict[str, Any]
Result = Mapping[str, Any]
Method = Callable[[Settings, Params, Names], Awaitable[Result]]

RECENTLY_ACTIVE: Final[tuple[object, ...]] = (
    *("recently-active", "recently_active"),
    *(["recently-active"], ["recently_active"]),
)
ROWS_AT_ONCE: Final = 20
"""Rows made before others have a turn: a list of thousands takes a tenth of a second ..."""
KEPT_AT_ONCE: Final = 10
"""... but so many that were there already, or only looked at, count as one."""
_LEGACY: Final = Names(legacy=True, odd=dict(IN_TORRENTS))
_SNAKE: Final = Names(legacy=False)


def of_torrents(names: Names) -> Names:
    """What things are called in a torrent."""
    return _LEGACY if names.legacy else _SNAKE


# --- looking -------------------------------------------------------------------------------------


async def torrent_get(settings: Settings, params: Params, names: Names) -> Result:
    fields = read.texts(params, "fields")
    if not fields:
        raise RpcError(INVALID_PARAMS, "no fields specified")
    wanted = known(map(to_snake, fields))
    settings.begin()
    result: dict[str, Any] = {}
    only_recent = params.get("ids") in RECENTLY_ACTIVE
    torrents = settings.ids.find({} if only_recent else params)
    if only_recent:
        result["removed"] = settings.ids.removed()
    plan = settings.rows.plan(
        wanted, of_torrents(names), as_objects=params.get("format") != "table"
    )
    told = Encoded()
    if params.get("format") == "table":
        told.add(encode([plan.names[name] for name in wanted]))
    work, now = 0, trio.current_time()
    here = settings.node.torrents
    for info_hash, torrent in torrents.items():
        if work >= ROWS_AT_ONCE * KEPT_AT_ONCE:
            await trio.lowlevel.checkpoint()
            work, now = 0, trio.current_time()
        work += 1
        if here.get(info_hash) is not torrent:
            continue  # it was removed meanwhile
        kept = settings.look(info_hash, torrent)
        if only_recent and not kept.is_recent(now):
            continue
        row, was_there = settings.row(plan, kept)
        work += 0 if was_there else KEPT_AT_ONCE
        told.add(row)
    result["torrents"] = told
    return result


# --- adding and removing -------------------------------------------------------------------------


async def torrent_add(settings: Settings, params: Params, names: Names) -> Result:
    folder = settings.download_dir
    if params.get("download_dir"):
        folder = settings.folder(params["download_dir"], "download directory path")
    labels = read.texts(params, "labels") or []
    paused = read.boolean(params, "paused")
    source = await _source(settings.node, params)
    info_hash = source.info_hash
    duplicate = info_hash in settings.node.torrents
    if duplicate:
        torrent = settings.node.torrents[info_hash]
    else:
        torrent = await settings.node.get(
            source,
            output=folder,
            select=_selection(params, source),
            sequential=read.boolean(params, "sequential_download") or False,
            paused=not settings.starts_added if paused is None else paused,
        )
        if labels:
            await torrent.set_labels(labels)
    settings.ids.look()
    inside = of_torrents(names)
    told = {
        inside["id"]: settings.ids.of(torrent.info_hash),
        inside["name"]: torrent.name,
        inside["hash_string"]: torrent.id,
    }
    return {names["torrent_duplicate" if duplicate else "torrent_added"]: told}


async def _source(node: Node, params: Params) -> Magnet | Metainfo:
    """What is to be added. Raises RpcError."""
    data = read.text(params, "metainfo")
    name = read.text(params, "filename")
    if data:
        try:
            raw = base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError):
            raise RpcError(INVALID_PARAMS, "metainfo is not base64") from None
        try:
            return await trio.to_thread.run_sync(parse_torrent, raw)
        except MetainfoError as error:
            raise RpcError(CORRUPT_TORRENT, f"invalid or corrupt torrent file: {error}") from None
    if not name:
        raise RpcError(INVALID_PARAMS, "no filename or metainfo specified")
    if name.lower().startswith(("http:", "https:", "ftp:")):
        raise RpcError(HTTP_ERROR, "this node fetches from no web server: give the file itself")
    if name.startswith("/"):
        raise RpcError(
            PATH_NOT_ABSOLUTE, "files of this machine are not read: give the file itself"
        )
    try:
        return given.read_link(name)
    except InputError as error:
        raise RpcError(UNRECOGNIZED_INFO, f"unrecognized info: {error}") from None


def _selection(params: Params, source: Magnet | Metainfo) -> list[tuple[int, int]] | None:
    """The files wanted of a torrent that is added: all but the unwanted ones."""
    unwanted = read.integers(params, "files_unwanted")
    if not unwanted or isinstance(source, Magnet):
        return None
    count = len(source.files)
    if max(unwanted) >= count:
        raise RpcError(NO_SUCH_FILE, "file index out of range")
    return [(index, index) for index in range(count) if index not in set(unwanted)]


async def torrent_remove(settings: Settings, params: Params, names: Names) -> Result:
    delete = read.boolean(params, "delete_local_data") or False
    return await each(
        settings, params, lambda torrent: settings.node.remove(torrent, delete_data=delete)
    )


# --- steering ------------------------------------------------------------------------------------


def chosen(settings: Settings, params: Params) -> list[Torrent]:
    return list(settings.ids.find(params).values())


async def each(
    settings: Settings, params: Params, act: Callable[[Torrent], Awaitable[object]]
) -> Result:
    """Do it to each of them; those that fail do not keep it from the others. Raises RpcError with
    the first failure."""
    failed: DhtTorrentError | None = None
    for torrent in chosen(settings, params):
        if settings.node.torrents.get(torrent.info_hash) is not torrent:
            continue  # it was removed meanwhile
        try:
            await act(torrent)
        except DhtTorrentError as error:
            failed = failed or error
    if failed is not None:
        raise RpcError(SYSTEM_ERROR, str(failed))
    return {}


async def torrent_start(settings: Settings, params: Params, names: Names) -> Result:
    return await each(settings, params, _resume)


async def _resume(torrent: Torrent) -> None:
    if torrent.paused or torrent.state == "error":
        await torrent.resume()


async def torrent_start_now(settings: Settings, params: Params, names: Names) -> Result:
    """Before all others of the queue."""

    async def now(torrent: Torrent) -> None:
        await settings.node.move_in_queue(torrent, 0)
        await _resume(torrent)

    return await each(settings, params, now)


async def torrent_stop(settings: Settings, params: Params, names: Names) -> Result:
    async def stop(torrent: Torrent) -> None:
        if not torrent.paused:
            await torrent.pause()

    return await each(settings, params, stop)


async def torrent_verify(settings: Settings, params: Params, names: Names) -> Result:
    async def verify(torrent: Torrent) -> None:
        if torrent.metainfo is not None:
            await torrent.recheck()

    return await each(settings, params, verify)


async def torrent_reannounce(settings: Settings, params: Params, names: Names) -> Result:
    for torrent in chosen(settings, params):
        torrent.announce()
    return {}


def queue_move(where: Literal["top", "up", "down", "bottom"]) -> Method:
    """Several keep the order that they have among themselves."""

    async def move(settings: Settings, params: Params, names: Names) -> Result:
        before = settings.node.queue_positions()
        moved = sorted(
            chosen(settings, params), key=lambda torrent: before.get(torrent.info_hash, 0)
        )
        if where in ("top", "down"):
            moved.reverse()
        for torrent in moved:
            positions = settings.node.queue_positions()
            now = positions.get(torrent.info_hash)
            if now is not None:
                last = len(positions) - 1
                place = {"top": 0, "up": max(0, now - 1), "down": now + 1, "bottom": last}[where]
                await settings.node.move_in_queue(torrent, place)
        return {}

    return move


# --- settings of torrents ------------------------------------------------------------------------


async def torrent_set(settings: Settings, params: Params, names: Names) -> Result:
    if params.keys() & {"tracker_add", "tracker_remove", "tracker_replace", "tracker_list"}:
        raise RpcError(2, "there are no trackers here: peers are found in the DHT")
    change = _Change(params)
    positions = read.integer(params, "queue_position")

    async def apply(torrent: Torrent) -> None:
        await change.apply(settings, torrent)
        if positions is not None:
            await settings.node.move_in_queue(torrent, positions)

    try:
        return await each(settings, params, apply)
    finally:
        await settings.save()


class _Change:
    """What is to be different, read and checked before anything is."""

    def __init__(self, params: Params) -> None:
        self._labels = read.texts(params, "labels")
        self._rates = {
            way: (
                read.integer(params, f"{name}_limit"),
                read.boolean(params, f"{name}_limited"),
            )
            for way, name in (("up", "upload"), ("down", "download"))
        }
        self._ratio = read.number(params, "seed_ratio_limit")
        self._ratio_mode = _mode(params, "seed_ratio_mode")
        self._idle = read.integer(params, "seed_idle_limit")
        self._idle_mode = _mode(params, "seed_idle_mode")
        self._wanted = {
            name: read.integers(params, f"files_{name}") for name in ("wanted", "unwanted")
        }
        self._priorities = {
            value: read.integers(params, f"priority_{name}")
            for value, name in ((1, "high"), (0, "normal"), (-1, "low"))
        }
        self._sequential = read.boolean(params, "sequential_download")

    async def apply(self, settings: Settings, torrent: Torrent) -> None:
        """Raises RpcError, InputError."""
        await self._apply_files(torrent)
        if self._labels is not None:
            await torrent.set_labels(self._labels)
        limits: dict[str, int | None] = {}
        for way, (rate, on) in self._rates.items():
            name = "upload_limit" if way == "up" else "download_limit"
            now = torrent.limits[("up", "down").index(way)]
            limit_of = up_limit if way == "up" else down_limit
            if rate is not None:
                settings.remember(torrent, name, rate)
            elif now is not None:  # also if it was set elsewhere: it comes back with the switch
                settings.remember(torrent, name, limit_of(now, {}))
            if on is False:
                limits[way] = None
            elif on or (rate is not None and now is not None):
                kilo = limit_of(now, settings.own(torrent)) if rate is None else rate
                limits[way] = max(1, kilo) * 1000
        if limits:
            torrent.set_limits(**limits)
            await torrent.save()
        limits_now = torrent.seeding_limits
        ratio = self._limit(
            settings,
            torrent,
            "seed_ratio_limit",
            self._ratio,
            self._ratio_mode,
            limits_now.ratio,
            ratio_limit(limits_now.ratio, settings.own(torrent)),
        )
        idle = self._limit(
            settings,
            torrent,
            "seed_idle_limit",
            self._idle * 60.0 if self._idle is not None else None,
            self._idle_mode,
            limits_now.idle,
            idle_limit(limits_now.idle, settings.own(torrent)) * 60.0,
        )
        wanted = SeedingLimits(ratio, idle)
        if wanted != limits_now:
            await torrent.set_seeding_limits(wanted)

    def _limit(
        self,
        settings: Settings,
        torrent: Torrent,
        name: str,
        given_number: float | None,
        mode: int | None,
        now: SeedingLimit,
        remembered: float,
    ) -> SeedingLimit:
        if given_number is not None:
            scale = 60.0 if name == "seed_idle_limit" else 1.0
            settings.remember(torrent, name, given_number / scale)
        if mode == NODE:
            return "node"
        if mode == NONE:
            return "none"
        if mode == OWN or not isinstance(now, str):
            return given_number if given_number is not None else remembered
        return now

    async def _apply_files(self, torrent: Torrent) -> None:
        named = [
            indices
            for indices in (*self._wanted.values(), *self._priorities.values())
            if indices is not None
        ]
        if self._sequential is not None:
            torrent.set_sequential(self._sequential)
        if not named:
            return
        if torrent.metainfo is None:
            raise RpcError(INVALID_PARAMS, "the files of this torrent are not known yet")
        files = {file.index: file for file in torrent.files()}
        count = max(files) + 1
        if any(index >= count for indices in named for index in indices):
            raise RpcError(NO_SUCH_FILE, "file index out of range")
        wanted = {index for index, file in files.items() if file.selected}
        if (more := self._wanted["wanted"]) is not None:
            wanted |= set(more or files)  # an empty list is all
        if (less := self._wanted["unwanted"]) is not None:
            wanted -= set(less or files)
        priorities = {index: file.priority for index, file in files.items()}
        for value, indices in self._priorities.items():
            if indices is not None:
                priorities.update(dict.fromkeys(indices or files, value))
        await torrent.set_files(ranges(wanted), priorities)


def _mode(params: Params, name: str) -> int | None:
    mode = read.integer(params, name)
    if mode is not None and mode > NONE:
        raise RpcError(INVALID_PARAMS, f"{name} is 0, 1 or 2")
    return mode


def ranges(indices: Iterable[int]) -> list[tuple[int, int]]:
    """Inclusive ranges of them."""
    found: list[tuple[int, int]] = []
    for index in sorted(indices):
        if found and found[-1][1] == index - 1:
            found[-1] = (found[-1][0], index)
        else:
            found.append((index, index))
    return found
