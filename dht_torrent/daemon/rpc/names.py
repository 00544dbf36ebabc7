"""How things are called. Here as in Transmission 4.1's JSON-RPC, in snake_case; in the dialect of
all older versions `peer-limit`, `rateDownload` or `isUTP`, by no rule that has no exception.

Source: libtransmission/api-compat.cc.
"""

from __future__ import annotations

import re
from typing import Final

_KEBAB: Final = frozenset(
    [
        "alt_speed_down",
        "alt_speed_enabled",
        "alt_speed_time_begin",
        "alt_speed_time_day",
        "alt_speed_time_enabled",
        "alt_speed_time_end",
        "alt_speed_up",
        "anti_brute_force_enabled",
        "anti_brute_force_threshold",
        "blocklist_enabled",
        "blocklist_size",
        "blocklist_url",
        "config_dir",
        "cumulative_stats",
        "current_stats",
        "default_trackers",
        "delete_local_data",
        "dht_enabled",
        "download_dir_free_space",
        "download_queue_enabled",
        "download_queue_size",
        "file_count",
        "files_unwanted",
        "files_wanted",
        "idle_seeding_limit",
        "idle_seeding_limit_enabled",
        "incomplete_dir",
        "incomplete_dir_enabled",
        "lpd_enabled",
        "memory_bytes",
        "memory_units",
        "peer_limit",
        "peer_limit_global",
        "peer_limit_per_torrent",
        "peer_port",
        "peer_port_random_on_start",
        "pex_enabled",
        "port_forwarding_enabled",
        "port_is_open",
        "primary_mime_type",
        "priority_high",
        "priority_low",
        "priority_normal",
        "queue_stalled_enabled",
        "queue_stalled_minutes",
        "recently_active",
        "rename_partial_files",
        "rpc_host_whitelist",
        "rpc_host_whitelist_enabled",
        "rpc_version",
        "rpc_version_minimum",
        "rpc_version_semver",
        "script_torrent_added_enabled",
        "script_torrent_added_filename",
        "script_torrent_done_enabled",
        "script_torrent_done_filename",
        "script_torrent_done_seeding_enabled",
        "script_torrent_done_seeding_filename",
        "seed_queue_enabled",
        "seed_queue_size",
        "session_id",
        "size_bytes",
        "size_units",
        "speed_bytes",
        "speed_limit_down",
        "speed_limit_down_enabled",
        "speed_limit_up",
        "speed_limit_up_enabled",
        "speed_units",
        "start_added_torrents",
        "tcp_enabled",
        "torrent_added",
        "torrent_duplicate",
        "trash_original_torrent_files",
        "utp_enabled",
    ]
)
_THE_SAME: Final = frozenset(
    [
        "begin_piece",
        "end_piece",
        "downloader_count",
        "ip_protocol",
        "preferred_transports",
        "sequential_download",
        "sequential_download_from_piece",
        "webseeds_ex",
    ]
)
_ODD: Final = {"is_utp": "isUTP", "cache_size_mib": "cache-size-mb"}
_SNAKE_OF_ODD: Final = {odd: snake for snake, odd in _ODD.items()}
_UPPER: Final = re.compile("[A-Z]")
_AFTER: Final = re.compile("_([a-z])")

IN_TORRENTS: Final = {"download_dir": "downloadDir"}
"""What a torrent's field is called otherwise than the same thing elsewhere."""
NOT_IN_TORRENTS: Final = {"download_dir": "download-dir", "total_size": "total_size"}


def to_snake(name: str) -> str:
    """From either dialect; what is no name at all stays what it is."""
    if name in _SNAKE_OF_ODD:
        return _SNAKE_OF_ODD[name]
    return _UPPER.sub(lambda letter: "_" + letter[0].lower(), name.replace("-", "_"))


def to_legacy(name: str) -> str:
    """Of a name in snake_case, as the older dialect has it."""
    if "_" not in name or name in _THE_SAME:
        return name
    if name in _ODD:
        return _ODD[name]
    if name in _KEBAB:
        return name.replace("_", "-")
    return _AFTER.sub(lambda letter: letter[1].upper(), name)


class Names(dict[str, str]):
    """How a dialect calls a thing, by its name here: filled as it is asked."""

    def __init__(self, *, legacy: bool, odd: dict[str, str] | None = None) -> None:
        super().__init__((odd or {}) if legacy else {})
        self.legacy = legacy

    def __missing__(self, name: str) -> str:
        found = to_legacy(name) if self.legacy else name
        if len(self) < 1000:
            self[name] = found
        return found
