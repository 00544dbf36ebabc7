"""How things are called in the two dialects, from the list of Transmission's own table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.daemon.rpc.names import IN_TORRENTS, NOT_IN_TORRENTS, Names, to_legacy, to_snake
from dht_torrent.daemon.rpc.session_fields import FIELDS as SESSION
from dht_torrent.daemon.rpc.torrent_fields import FIELDS as TORRENT

TABLE = [
    "activity_date",
    "activityDate",
    "added_date",
    "addedDate",
    "alt_speed_down",
    "alt-speed-down",
    "alt_speed_time_enabled",
    "alt-speed-time-enabled",
    "anti_brute_force_enabled",
    "anti-brute-force-enabled",
    "bandwidth_priority",
    "bandwidthPriority",
    "begin_piece",
    "begin_piece",
    "blocklist_size",
    "blocklist-size",
    "bytes_completed",
    "bytesCompleted",
    "cache_size_mib",
    "cache-size-mb",
    "client_is_choked",
    "clientIsChoked",
    "config_dir",
    "config-dir",
    "corrupt_ever",
    "corruptEver",
    "cumulative_stats",
    "cumulative-stats",
    "delete_local_data",
    "delete-local-data",
    "dht_enabled",
    "dht-enabled",
    "download_dir_free_space",
    "download-dir-free-space",
    "download_limited",
    "downloadLimited",
    "downloaded_ever",
    "downloadedEver",
    "error_string",
    "errorString",
    "eta_idle",
    "etaIdle",
    "file_count",
    "file-count",
    "file_stats",
    "fileStats",
    "files_unwanted",
    "files-unwanted",
    "flag_str",
    "flagStr",
    "from_lpd",
    "fromLpd",
    "hash_string",
    "hashString",
    "have_unchecked",
    "haveUnchecked",
    "honors_session_limits",
    "honorsSessionLimits",
    "idle_seeding_limit_enabled",
    "idle-seeding-limit-enabled",
    "is_utp",
    "isUTP",
    "left_until_done",
    "leftUntilDone",
    "lpd_enabled",
    "lpd-enabled",
    "max_connected_peers",
    "maxConnectedPeers",
    "memory_bytes",
    "memory-bytes",
    "metadata_percent_complete",
    "metadataPercentComplete",
    "name",
    "name",
    "peer_limit",
    "peer-limit",
    "peer_limit_global",
    "peer-limit-global",
    "peers_getting_from_us",
    "peersGettingFromUs",
    "port_is_open",
    "port-is-open",
    "primary_mime_type",
    "primary-mime-type",
    "priority_high",
    "priority-high",
    "queue_position",
    "queuePosition",
    "rate_to_client",
    "rateToClient",
    "recently_active",
    "recently-active",
    "rpc_version_semver",
    "rpc-version-semver",
    "seed_idle_limit",
    "seedIdleLimit",
    "seed_queue_enabled",
    "seed-queue-enabled",
    "seed_ratio_limit",
    "seedRatioLimit",
    "seed_ratio_limited",
    "seedRatioLimited",
    "sequential_download",
    "sequential_download",
    "sequential_download_from_piece",
    "sequential_download_from_piece",
    "size_bytes",
    "size-bytes",
    "size_when_done",
    "sizeWhenDone",
    "speed_limit_down_enabled",
    "speed-limit-down-enabled",
    "torrent_added",
    "torrent-added",
    "torrent_file",
    "torrentFile",
    "torrent_get",
    "torrent-get",
    "tracker_stats",
    "trackerStats",
    "upload_ratio",
    "uploadRatio",
    "utp_enabled",
    "utp-enabled",
    "webseeds_sending_to_us",
    "webseedsSendingToUs",
]
PAIRS = list(zip(TABLE[::2], TABLE[1::2], strict=True))


@pytest.mark.parametrize(("snake", "legacy"), [pair for pair in PAIRS if pair[0] != "torrent_get"])
def test_a_name_is_called_so_in_the_older_dialect(snake: str, legacy: str) -> None:
    assert to_legacy(snake) == legacy


@pytest.mark.parametrize(("snake", "legacy"), PAIRS)
def test_both_dialects_are_understood(snake: str, legacy: str) -> None:
    assert to_snake(legacy) == snake == to_snake(snake)


def test_every_field_is_told_under_a_name_that_is_understood() -> None:
    for name in (*SESSION, *TORRENT):
        assert to_snake(to_legacy(name)) == name


def test_what_has_two_names_in_the_older_dialect_has_the_right_one_in_each_place() -> None:
    torrents = Names(legacy=True, odd=dict(IN_TORRENTS))
    others = Names(legacy=True, odd=dict(NOT_IN_TORRENTS))
    assert (torrents["download_dir"], others["download_dir"]) == ("downloadDir", "download-dir")
    assert (torrents["total_size"], others["total_size"]) == ("totalSize", "total_size")
    new = Names(legacy=False, odd=dict(IN_TORRENTS))
    assert new["download_dir"] == "download_dir"


@given(st.text(max_size=30))
def test_whatever_a_client_sends_is_a_name(text: str) -> None:
    assert isinstance(to_snake(text), str)
