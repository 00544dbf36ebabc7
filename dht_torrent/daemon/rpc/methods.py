"""All 24 methods, by name; those of the node as a whole are here.

What cannot be had without trackers, block lists by URL and groups of bandwidth is refused in a
line, or is empty; scripts can be neither set nor run.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Final

import trio

from dht_torrent.daemon.rpc import params as read
from dht_torrent.daemon.rpc import place_methods as places
from dht_torrent.daemon.rpc import torrent_methods as torrents
from dht_torrent.daemon.rpc.calls import (
    HTTP_ERROR,
    INTERNAL,
    INVALID_PARAMS,
    NO_METHOD,
    SYSTEM_ERROR,
    Call,
    RpcError,
    answer,
    failure,
)
from dht_torrent.daemon.rpc.names import NOT_IN_TORRENTS, Names, to_snake
from dht_torrent.daemon.rpc.session_fields import DEFAULTS, FIELDS
from dht_torrent.engine.torrent.rate_limits import checked_rate
from dht_torrent.errors import DhtTorrentError, InputError

if TYPE_CHECKING:
    from dht_torrent.config.alternative import AlternativeLimits
    from dht_torrent.daemon.rpc.settings import Settings
    from dht_torrent.daemon.rpc.torrent_methods import Method, Params, Result
    from dht_torrent.engine.torrent.statistics import Statistics

_LEGACY: Final = Names(legacy=True, odd=dict(NOT_IN_TORRENTS))
_SNAKE: Final = Names(legacy=False)
_UNTOUCHABLE: Final = (
    "blocklist_size",
    "config_dir",
    "rpc_version",
    "rpc_version_minimum",
    "rpc_version_semver",
    "session_id",
    "tcp_enabled",
    "units",
    "version",
)


async def session_get(settings: Settings, params: Params, names: Names) -> Result:
    fields = read.texts(params, "fields")
    wanted = FIELDS if not fields else [one for one in map(to_snake, fields) if one in FIELDS]
    return {names[name]: FIELDS[name](settings, names) for name in wanted}


async def session_set(settings: Settings, params: Params, names: Names) -> Result:
    """What a running node can change is changed; the rest is accepted in silence, as Transmission
    does with what it does not know."""
    refused = [
        name for name in params if name in _UNTOUCHABLE or name.startswith("script_torrent_")
    ]
    if refused:
        raise RpcError(INVALID_PARAMS, f"{refused[0]} cannot be set")
    folder = None
    if params.get("download_dir") is not None:
        folder = settings.folder(params["download_dir"], "download directory path")
    rules, (up, down) = settings.node.rules, settings.node.limits
    ratio = _switch(settings, params, "seed_ratio_limit", "seed_ratio_limited", rules.seed_ratio)
    idle = _switch(
        settings, params, "idle_seeding_limit", "idle_seeding_limit_enabled", rules.seed_idle
    )
    downloads = _switch(
        settings, params, "download_queue_size", "download_queue_enabled", rules.active_downloads
    )
    seeds = _switch(settings, params, "seed_queue_size", "seed_queue_enabled", rules.active_seeds)
    rate_up = _switch(settings, params, "speed_limit_up", "speed_limit_up_enabled", up)
    rate_down = _switch(settings, params, "speed_limit_down", "speed_limit_down_enabled", down)
    alternative = _alternative(settings, params)
    starts = read.boolean(params, "start_added_torrents")
    # All of it could be read: from here on it holds.
    async with settings.changing():
        if ratio is not ...:
            rules.seed_ratio = ratio
        if idle is not ...:
            rules.seed_idle = idle * 60 if idle is not None else None
        if downloads is not ...:
            rules.active_downloads = int(downloads) if downloads is not None else None
        if seeds is not ...:
            rules.active_seeds = int(seeds) if seeds is not None else None
        settings.node.speed.set_alternative(alternative)
        settings.node.set_limits(up=_rate(rate_up), down=_rate(rate_down))
        settings.start_added(settings.starts_added if starts is None else starts)
        settings.download_dir = folder or settings.download_dir
    return {}


def _alternative(settings: Settings, params: Params) -> AlternativeLimits:
    """Raises RpcError."""
    now = settings.node.speed.alternative
    times = {
        name: value
        for name, key in (("begin", "begin"), ("end", "end"), ("days", "day"))
        if (value := read.integer(params, f"alt_speed_time_{key}")) is not None
    }
    rates: dict[str, Any] = {
        way: max(1, rate) * 1000
        for way in ("up", "down")
        if (rate := read.integer(params, f"alt_speed_{way}")) is not None
    }
    switches = {
        name: value
        for name, key in (("on", "alt_speed_enabled"), ("by_clock", "alt_speed_time_enabled"))
        if (value := read.boolean(params, key)) is not None
    }
    try:
        for rate in rates.values():
            checked_rate(rate)
        return replace(now, hours=replace(now.hours, **times), **rates, **switches)
    except InputError as error:
        raise RpcError(INVALID_PARAMS, str(error)) from None


def _switch(
    settings: Settings, params: Params, number: str, switch: str, now: float | None
) -> float | EllipsisType | None:
    """A limit that has a number and a switch, in the client's unit: None is no limit, `...` that it
    stays what it is (`now`)."""
    wanted, on = read.number(params, number), read.boolean(params, switch)
    if wanted is not None:
        settings.numbers[number] = wanted
    if on is False:
        return None
    if on or (wanted is not None and now is not None):
        if wanted is None and now is not None:
            return ...
        return settings.numbers.get(number, DEFAULTS[number])
    return ...


def _rate(kilobytes: float | EllipsisType | None) -> int | EllipsisType | None:
    if kilobytes is None or isinstance(kilobytes, EllipsisType):
        return kilobytes
    return max(1, int(kilobytes)) * 1000


async def session_stats(settings: Settings, params: Params, names: Names) -> Result:
    node, status = settings.node, settings.node.status()
    paused = sum(torrent.paused or torrent.state == "error" for torrent in node.torrents.values())
    now, ever = node.statistics()

    def stats(of: Statistics) -> dict[str, Any]:
        return {
            names["uploaded_bytes"]: of.uploaded,
            names["downloaded_bytes"]: of.downloaded,
            names["files_added"]: of.torrents_added,
            names["session_count"]: of.runs,
            names["seconds_active"]: of.seconds,
        }

    return {
        names["active_torrent_count"]: len(node.torrents) - paused,
        names["paused_torrent_count"]: paused,
        names["torrent_count"]: len(node.torrents),
        names["download_speed"]: int(status.down_rate),
        names["upload_speed"]: int(status.up_rate),
        names["current_stats"]: stats(now),
        names["cumulative_stats"]: stats(ever),
    }


async def session_close(settings: Settings, params: Params, names: Names) -> Result:
    settings.stop()
    return {}


async def free_space(settings: Settings, params: Params, names: Names) -> Result:
    if params.get("path") is None:
        raise RpcError(INVALID_PARAMS, "directory path argument is missing")
    folder = settings.folder(params["path"], "directory path")
    try:
        usage = await trio.to_thread.run_sync(shutil.disk_usage, folder)
    except OSError as error:
        raise RpcError(SYSTEM_ERROR, error.strerror or str(error)) from None
    return {
        names["path"]: str(folder),
        names["size_bytes"]: usage.free,
        names["total_size"]: usage.total,
    }


async def port_test(settings: Settings, params: Params, names: Names) -> Result:
    """Nobody outside is asked: it is what was seen of peers."""
    return {names["port_is_open"]: settings.node.status().reachable is True}


async def blocklist_update(settings: Settings, params: Params, names: Names) -> Result:
    raise RpcError(HTTP_ERROR, "this node fetches no block list: give it one with --ip-filter")


async def group_get(settings: Settings, params: Params, names: Names) -> Result:
    return {"group": []}


async def group_set(settings: Settings, params: Params, names: Names) -> Result:
    raise RpcError(INVALID_PARAMS, "there are no groups of bandwidth here")


async def _unknown(settings: Settings, params: Params, names: Names) -> Result:
    raise RpcError(NO_METHOD, "Method not found")


METHODS: Final[dict[str, Method]] = {
    "torrent_start": torrents.torrent_start,
    "torrent_start_now": torrents.torrent_start_now,
    "torrent_stop": torrents.torrent_stop,
    "torrent_verify": torrents.torrent_verify,
    "torrent_reannounce": torrents.torrent_reannounce,
    "torrent_set": torrents.torrent_set,
    "torrent_get": torrents.torrent_get,
    "torrent_add": torrents.torrent_add,
    "torrent_remove": torrents.torrent_remove,
    "torrent_set_location": places.torrent_set_location,
    "torrent_rename_path": places.torrent_rename_path,
    "queue_move_top": torrents.queue_move("top"),
    "queue_move_up": torrents.queue_move("up"),
    "queue_move_down": torrents.queue_move("down"),
    "queue_move_bottom": torrents.queue_move("bottom"),
    "session_get": session_get,
    "session_set": session_set,
    "session_stats": session_stats,
    "session_close": session_close,
    "free_space": free_space,
    "port_test": port_test,
    "blocklist_update": blocklist_update,
    "group_get": group_get,
    "group_set": group_set,
}


async def carry_out(
    settings: Settings, call: Call, on_bug: Callable[[Exception, str], None]
) -> dict[str, Any] | None:
    """Do it, and say how that went; None: nothing is to be said. A bug of ours ends the call, and
    is told to `on_bug`."""
    names = _LEGACY if call.legacy else _SNAKE
    method = METHODS.get(call.method, _unknown)
    try:
        told = answer(call, await method(settings, call.params, names))
    except RpcError as error:
        told = failure(call, error)
    except DhtTorrentError as error:
        told = failure(call, RpcError(SYSTEM_ERROR, str(error)))
    except Exception as error:  # noqa: BLE001 - the boundary of a bug in one call
        on_bug(error, f"the RPC call {call.method[:40]}")
        told = failure(call, RpcError(INTERNAL, "internal error; the node's log has the details"))
    return told if call.answered else None
