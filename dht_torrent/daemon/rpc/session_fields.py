"""What is told of the node as a whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from dht_torrent import __version__
from dht_torrent.daemon.rpc.limits import kilobytes
from dht_torrent.daemon.rpc.settings import Settings

if TYPE_CHECKING:
    from dht_torrent.daemon.rpc.names import Names

VERSION: Final = "4.1.0"
"""Of Transmission, whose behaviour clients may expect."""
SEMVER: Final = "6.0.0"
RPC_VERSION: Final = 18
RPC_MINIMUM: Final = 14
DEFAULTS: Final = {
    "speed_limit_up": 100.0,
    "speed_limit_down": 100.0,
    "seed_ratio_limit": 2.0,
    "idle_seeding_limit": 30.0,
    "download_queue_size": 5.0,
    "seed_queue_size": 10.0,
}
"""Numbers of limits that were never set, as Transmission has them: kB/s, minutes, torrents."""

Field = Callable[[Settings, "Names"], object]


def _rate(name: str) -> Field:
    def field(settings: Settings, _: Names) -> object:
        up, down = settings.node.limits
        return _number(settings, name, kilobytes(up if name.endswith("up") else down) or None)

    return field


def _queue(name: str, attribute: str) -> Field:
    return lambda settings, _: _number(settings, name, getattr(settings.node.rules, attribute))


def _idle(settings: Settings, _: Names) -> object:
    idle = settings.node.rules.seed_idle
    minutes = max(1, round(idle / 60)) if idle is not None else None
    return _number(settings, "idle_seeding_limit", minutes)


def _number(settings: Settings, name: str, now: float | None) -> int:
    """The number in force, or what it was or would be."""
    return int(now if now is not None else settings.numbers.get(name, DEFAULTS[name]))


def _ratio(settings: Settings, _: Names) -> object:
    now = settings.node.rules.seed_ratio
    return now if now is not None else settings.numbers.get("seed_ratio_limit", 2.0)


def _units(settings: Settings, names: Names) -> object:
    return {
        names["speed_units"]: ["B/s", "kB/s", "MB/s", "GB/s", "TB/s"],
        names["speed_bytes"]: 1000,
        names["size_units"]: ["B", "kB", "MB", "GB", "TB"],
        names["size_bytes"]: 1000,
        names["memory_units"]: ["B", "KiB", "MiB", "GiB", "TiB"],
        names["memory_bytes"]: 1024,
    }


def _encryption(settings: Settings, names: Names) -> object:
    match settings.node.config.encryption:
        case "require":
            return "required"
        case "prefer":
            return "preferred"
        case _:
            return "tolerated" if names.legacy else "allowed"


def _free(settings: Settings, _: Names) -> object:
    try:
        return shutil.disk_usage(settings.download_dir).free
    except OSError:
        return -1


def _transports(settings: Settings, _: Names) -> list[str]:
    config = settings.node.config
    return [name for name in ("utp", "tcp") if getattr(config, name, name == "tcp")]


FIELDS: Final[dict[str, Field]] = {
    "alt_speed_down": lambda settings, _: kilobytes(settings.node.speed.alternative.down),
    "alt_speed_enabled": lambda settings, _: settings.node.speed.alternative.on,
    "alt_speed_time_begin": lambda settings, _: settings.node.speed.alternative.hours.begin,
    "alt_speed_time_day": lambda settings, _: settings.node.speed.alternative.hours.days,
    "alt_speed_time_enabled": lambda settings, _: settings.node.speed.alternative.by_clock,
    "alt_speed_time_end": lambda settings, _: settings.node.speed.alternative.hours.end,
    "alt_speed_up": lambda settings, _: kilobytes(settings.node.speed.alternative.up),
    "anti_brute_force_enabled": lambda settings, _: True,
    "blocklist_enabled": lambda settings, _: False,
    "blocklist_size": lambda settings, _: 0,
    "blocklist_url": lambda settings, _: "",
    "cache_size_mib": lambda settings, _: settings.node.config.piece_memory >> 20,
    "config_dir": lambda settings, _: str(settings.state_dir),
    "default_trackers": lambda settings, _: "",
    "dht_enabled": lambda settings, _: True,
    "download_dir": lambda settings, _: str(settings.download_dir),
    "download_dir_free_space": _free,
    "download_queue_enabled": lambda settings, _: settings.node.rules.active_downloads is not None,
    "download_queue_size": _queue("download_queue_size", "active_downloads"),
    "encryption": _encryption,
    "idle_seeding_limit": _idle,
    "idle_seeding_limit_enabled": lambda settings, _: settings.node.rules.seed_idle is not None,
    "incomplete_dir": lambda settings, _: str(settings.download_dir),
    "incomplete_dir_enabled": lambda settings, _: False,
    "lpd_enabled": lambda settings, _: settings.node.config.lsd,
    "peer_limit_global": lambda settings, _: settings.node.config.max_connections,
    "peer_limit_per_torrent": lambda settings, _: settings.node.config.max_connections,
    "peer_port": lambda settings, _: settings.node.address.port,
    "peer_port_random_on_start": lambda settings, _: False,
    "pex_enabled": lambda settings, _: settings.node.config.pex,
    "port_forwarding_enabled": lambda settings, _: getattr(
        settings.node.config, "port_mapping", False
    ),
    "preferred_transports": _transports,
    "queue_stalled_enabled": lambda settings, _: True,
    "queue_stalled_minutes": lambda settings, _: int(settings.node.config.stalled_after // 60),
    "rename_partial_files": lambda settings, _: False,
    "rpc_version": lambda settings, _: RPC_VERSION,
    "rpc_version_minimum": lambda settings, _: RPC_MINIMUM,
    "rpc_version_semver": lambda settings, _: SEMVER,
    "script_torrent_added_enabled": lambda settings, _: False,
    "script_torrent_added_filename": lambda settings, _: "",
    "script_torrent_done_enabled": lambda settings, _: False,
    "script_torrent_done_filename": lambda settings, _: "",
    "script_torrent_done_seeding_enabled": lambda settings, _: False,
    "script_torrent_done_seeding_filename": lambda settings, _: "",
    "seed_queue_enabled": lambda settings, _: settings.node.rules.active_seeds is not None,
    "seed_queue_size": _queue("seed_queue_size", "active_seeds"),
    "seed_ratio_limit": _ratio,
    "seed_ratio_limited": lambda settings, _: settings.node.rules.seed_ratio is not None,
    "sequential_download": lambda settings, _: False,
    "speed_limit_down": _rate("speed_limit_down"),
    "speed_limit_down_enabled": lambda settings, _: settings.node.limits[1] is not None,
    "speed_limit_up": _rate("speed_limit_up"),
    "speed_limit_up_enabled": lambda settings, _: settings.node.limits[0] is not None,
    "start_added_torrents": lambda settings, _: settings.starts_added,
    "tcp_enabled": lambda settings, _: "tcp" in _transports(settings, _),
    "trash_original_torrent_files": lambda settings, _: False,
    "units": _units,
    "utp_enabled": lambda settings, _: "utp" in _transports(settings, _),
    "version": lambda settings, _: f"{VERSION} (dht_torrent {__version__})",
}
"""By their names in snake_case, but for `session_id`, which HTTP knows."""
