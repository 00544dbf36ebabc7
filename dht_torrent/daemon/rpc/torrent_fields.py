"""What is told of a torrent, field by field; only what was asked for is found out.

Fields and meanings: Transmission's docs/rpc-spec.md and libtransmission/rpcimpl.cc. What a client
without trackers and web seeds has not, is empty here, as there.
"""

from __future__ import annotations

import base64
import mimetypes
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from dht_torrent.daemon.rpc.names import Names
from dht_torrent.daemon.rpc.settings import Settings
from dht_torrent.ids import parse_address

if TYPE_CHECKING:
    from dht_torrent.engine.torrent.torrent import Torrent
    from dht_torrent.engine.views import FileInfo, History, PeerInfo

STOPPED, CHECK_WAITS, CHECKING, DOWNLOAD_WAITS, DOWNLOADING, SEED_WAITS, SEEDING = range(7)
WARNING, LOCAL_ERROR = 1, 3
NO_ETA, UNKNOWN_ETA = -1, -2
_SOURCES: Final = {
    "incoming": "from_incoming",
    "dht": "from_dht",
    "pex": "from_pex",
    "lsd": "from_lpd",
    "resume": "from_cache",
    "magnet": "from_ltep",
}
_FROM: Final = tuple(sorted({*_SOURCES.values(), "from_tracker"}))


class Row:
    """A torrent while one answer about it is made: what several fields need is found out once."""

    def __init__(self, torrent: Torrent, settings: Settings, names: Names) -> None:
        self.torrent = torrent
        self.settings = settings
        self.names = names

    @cached_property
    def rates(self) -> tuple[float, float]:
        return self.torrent.rates

    @cached_property
    def peers(self) -> list[PeerInfo]:
        return self.torrent.peers()

    @cached_property
    def files(self) -> list[FileInfo]:
        return self.torrent.files()

    @cached_property
    def history(self) -> History:
        return self.torrent.history

    @cached_property
    def left(self) -> int:
        return self.torrent.left

    @property
    def status(self) -> int:
        if self.torrent.paused:
            return STOPPED
        match self.torrent.state:
            case "checking" | "moving":
                return CHECKING
            case "metadata" | "downloading":
                return DOWNLOADING
            case "seeding":
                return SEEDING
            case "queued":
                return DOWNLOAD_WAITS if self.left or not self.torrent.size else SEED_WAITS
            case _:
                return STOPPED

    def row(self, **values: object) -> dict[str, object]:
        """An object with these names, as the dialect has them."""
        names = self.names
        return {names[name]: value for name, value in values.items()}


def _error(seen: Row) -> object:
    if seen.torrent.error is not None:
        return LOCAL_ERROR
    return WARNING if seen.torrent.warning is not None else 0


def _unix(time: float | None) -> int:
    return int(time) if time is not None else 0


def _file_name(seen: Row, file: FileInfo) -> str:
    metainfo = seen.torrent.metainfo
    assert metainfo is not None
    return file.path if metainfo.single else f"{seen.torrent.name}/{file.path}"


def _files(seen: Row) -> object:
    return [
        seen.row(
            bytes_completed=file.here,
            length=file.size,
            name=_file_name(seen, file),
            begin_piece=file.pieces[0],
            end_piece=file.pieces[1],
        )
        for file in seen.files
    ]


def _file_stats(seen: Row) -> object:
    return [
        seen.row(bytes_completed=file.here, wanted=file.selected, priority=file.priority)
        for file in seen.files
    ]


def _wanted(seen: Row) -> object:
    if seen.names.legacy:
        return [int(file.selected) for file in seen.files]
    return [file.selected for file in seen.files]


def _flags(peer: PeerInfo) -> str:
    """As Transmission draws them."""
    flags = "O" if "O" in peer.flags else ""
    if peer.wanted:
        flags += "d" if peer.chokes_us else "D"
    elif not peer.chokes_us:
        flags += "K"
    if peer.wants:
        flags += "u" if peer.choked else "U"
    elif not peer.choked:
        flags += "?"
    flags += "E" if peer.encryption else ""
    flags += "H" if peer.source == "dht" else ""
    flags += "X" if peer.source == "pex" else ""
    flags += "I" if peer.incoming else ""
    flags += "T" if peer.transport == "utp" else ""
    return flags


def _peers(seen: Row) -> object:
    rows = []
    for peer in seen.peers:
        host, port = parse_address(peer.address)
        rows.append(
            seen.row(
                address=host,
                bytes_to_client=peer.downloaded,
                bytes_to_peer=peer.uploaded,
                client_is_choked=peer.chokes_us,
                client_is_interested=peer.wanted,
                client_name=peer.client,
                flag_str=_flags(peer),
                is_downloading_from=peer.wanted and not peer.chokes_us,
                is_encrypted=peer.encryption is not None,
                is_incoming=peer.incoming,
                is_uploading_to=peer.wants and not peer.choked,
                is_utp=peer.transport == "utp",
                peer_id=base64.b64encode(bytes.fromhex(peer.peer_id)).decode(),
                peer_is_choked=peer.choked,
                peer_is_interested=peer.wants,
                port=port,
                progress=peer.progress,
                rate_to_client=int(peer.down_rate),
                rate_to_peer=int(peer.up_rate),
            )
        )
    return rows


def _peers_from(seen: Row) -> object:
    counts = Counter(_SOURCES.get(peer.source, "from_ltep") for peer in seen.peers)
    return seen.row(**{name: counts[name] for name in _FROM})


def _eta(seen: Row) -> int:
    if seen.status != DOWNLOADING:
        return NO_ETA
    eta = seen.torrent.summary().eta if seen.rates[1] else None
    return UNKNOWN_ETA if eta is None else int(eta)


def _download_dir(seen: Row) -> str:
    return str(seen.torrent.folder)


def _mime_type(seen: Row) -> str:
    """Of the kind of file with the most bytes."""
    sizes: Counter[str] = Counter()
    for file in seen.files:
        kind, _ = mimetypes.guess_type(file.path)
        sizes[kind or "application/octet-stream"] += file.size
    return max(sizes, key=sizes.__getitem__, default="application/octet-stream")


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _total(seen: Row) -> int:
    metainfo = seen.torrent.metainfo
    return metainfo.geometry.total if metainfo is not None else 0


def _percent_done(seen: Row) -> float:
    size = seen.torrent.size
    return 1 - seen.left / size if size else 0.0


def _of_metainfo(read: Callable[[Any], object], otherwise: object) -> Callable[[Row], object]:
    def field(seen: Row) -> object:
        metainfo = seen.torrent.metainfo
        value = read(metainfo) if metainfo is not None else None
        return otherwise if value is None else value

    return field


FIELDS: Final[dict[str, Callable[[Row], object]]] = {
    "activity_date": lambda seen: _unix(seen.history.active_at),
    "added_date": lambda seen: _unix(seen.history.added_at),
    "availability": lambda seen: seen.torrent.availability(),
    "bandwidth_priority": lambda seen: 0,
    "bytes_completed": lambda seen: [file.here for file in seen.files],
    "comment": _of_metainfo(lambda metainfo: metainfo.comment, ""),
    "corrupt_ever": lambda seen: seen.torrent.wasted,
    "creator": _of_metainfo(lambda metainfo: metainfo.created_by, ""),
    "date_created": _of_metainfo(lambda metainfo: metainfo.creation_date, 0),
    "desired_available": lambda seen: seen.torrent.obtainable,
    "done_date": lambda seen: _unix(seen.history.completed_at),
    "download_dir": _download_dir,
    "download_limit": lambda seen: seen.settings.down_limit(seen.torrent),
    "download_limited": lambda seen: seen.torrent.limits[1] is not None,
    "downloaded_ever": lambda seen: seen.torrent.downloaded,
    "edit_date": lambda seen: 0,
    "error": _error,
    "error_string": lambda seen: seen.torrent.error or seen.torrent.warning or "",
    "eta": _eta,
    "eta_idle": lambda seen: NO_ETA,
    "file_count": lambda seen: len(seen.files),
    "file_stats": _file_stats,
    "files": _files,
    "group": lambda seen: "",
    "hash_string": lambda seen: seen.torrent.id,
    "have_unchecked": lambda seen: seen.torrent.unchecked,
    "have_valid": lambda seen: seen.torrent.verified,
    "honors_session_limits": lambda seen: True,
    "id": lambda seen: seen.settings.ids.of(seen.torrent),
    "is_finished": lambda seen: seen.history.shared_enough is not None,
    "is_private": _of_metainfo(lambda metainfo: metainfo.private, False),
    "is_stalled": lambda seen: seen.torrent.stalled,
    "labels": lambda seen: list(seen.torrent.labels),
    "left_until_done": lambda seen: seen.left,
    "magnet_link": lambda seen: str(seen.torrent.magnet),
    "manual_announce_time": lambda seen: NO_ETA,
    "max_connected_peers": lambda seen: seen.settings.node.config.max_connections,
    "metadata_percent_complete": lambda seen: float(seen.torrent.metainfo is not None),
    "name": lambda seen: seen.torrent.name,
    "peer_limit": lambda seen: seen.settings.node.config.max_connections,
    "peers": _peers,
    "peers_connected": lambda seen: len(seen.peers),
    "peers_from": _peers_from,
    "peers_getting_from_us": lambda seen: sum(
        peer.wants and not peer.choked for peer in seen.peers
    ),
    "peers_sending_to_us": lambda seen: sum(
        peer.wanted and not peer.chokes_us for peer in seen.peers
    ),
    "percent_complete": lambda seen: _share(seen.torrent.verified, _total(seen)),
    "percent_done": _percent_done,
    "piece_count": _of_metainfo(lambda metainfo: metainfo.geometry.piece_count, 0),
    "piece_size": _of_metainfo(lambda metainfo: metainfo.geometry.piece_length, 0),
    "pieces": lambda seen: base64.b64encode(seen.torrent.pieces()).decode(),
    "primary_mime_type": _mime_type,
    "priorities": lambda seen: [file.priority for file in seen.files],
    "queue_position": lambda seen: seen.settings.position(seen.torrent),
    "rate_download": lambda seen: int(seen.rates[1]),
    "rate_upload": lambda seen: int(seen.rates[0]),
    "recheck_progress": lambda seen: (
        seen.torrent.progress if seen.torrent.state in ("checking", "moving") else 0.0
    ),
    "seconds_downloading": lambda seen: int(seen.history.seconds_downloading),
    "seconds_seeding": lambda seen: int(seen.history.seconds_seeding),
    "seed_idle_limit": lambda seen: seen.settings.idle_limit(seen.torrent),
    "seed_idle_mode": lambda seen: seen.settings.idle_mode(seen.torrent),
    "seed_ratio_limit": lambda seen: seen.settings.ratio_limit(seen.torrent),
    "seed_ratio_mode": lambda seen: seen.settings.ratio_mode(seen.torrent),
    "sequential_download": lambda seen: seen.torrent.sequential,
    "sequential_download_from_piece": lambda seen: 0,
    "size_when_done": lambda seen: seen.torrent.size,
    "source": lambda seen: "",
    "start_date": lambda seen: _unix(seen.history.started_at),
    "status": lambda seen: seen.status,
    "torrent_file": lambda seen: "",
    "total_size": _total,
    "tracker_list": lambda seen: "",
    "tracker_stats": lambda seen: [],
    "trackers": lambda seen: [],
    "upload_limit": lambda seen: seen.settings.up_limit(seen.torrent),
    "upload_limited": lambda seen: seen.torrent.limits[0] is not None,
    "upload_ratio": lambda seen: seen.torrent.ratio,
    "uploaded_ever": lambda seen: seen.torrent.uploaded,
    "wanted": _wanted,
    "webseeds": lambda seen: [],
    "webseeds_ex": lambda seen: [],
    "webseeds_sending_to_us": lambda seen: 0,
}
"""By their names in snake_case."""


def known(fields: Iterable[str]) -> list[str]:
    """Those there are, each once; others are passed over in silence, as Transmission does."""
    return [name for name in dict.fromkeys(fields) if name in FIELDS]
