"""What is told of a torrent, field by field; only what was asked for is found out.

Fields and meanings: Transmission's docs/rpc-spec.md and libtransmission/rpcimpl.cc. What a client
without trackers and web seeds has not, is empty here, as there.
"""

from __future__ import annotations

import base64
import mimetypes
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dht_torrent.daemon.rpc.limits import down_limit, idle_limit, mode_of, ratio_limit, up_limit
from dht_torrent.daemon.rpc.names import Names
from dht_torrent.ids import parse_address

if TYPE_CHECKING:
    from dht_torrent.engine.torrent.facts import Clock, Facts
    from dht_torrent.engine.torrent.torrent import Torrent
    from dht_torrent.engine.views import FileInfo, PeerInfo

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
Still = Callable[["StillRow"], object]
Live = Callable[["Row"], object]
_FROM: Final = tuple(sorted({*_SOURCES.values(), "from_tracker"}))


class Sight(NamedTuple):
    """At one torrent."""

    torrent: Torrent
    facts: Facts
    own: Mapping[str, float]
    """The numbers of its limits, in force or not."""
    number: int
    """What clients know it by."""


class StillRow:
    """A torrent while one answer about it is made, but for what its connections and the clock
    change: what was told of equal facts and of the same `own` may be told again."""

    def __init__(self, look: Sight, max_connections: int, names: Names) -> None:
        self.facts = look.facts
        self.own = look.own
        self.number = look.number
        self.max_connections = max_connections
        self.names = names

    @cached_property
    def files(self) -> list[FileInfo]:
        return self.facts.files()

    @cached_property
    def size(self) -> int:
        return self.facts.size

    @cached_property
    def left(self) -> int:
        return self.facts.left

    @cached_property
    def status(self) -> int:
        facts = self.facts
        if facts.paused:
            return STOPPED
        match facts.state:
            case "checking" | "moving":
                return CHECKING
            case "metadata" | "downloading":
                return DOWNLOADING
            case "seeding":
                return SEEDING
            case "queued":
                return DOWNLOAD_WAITS if self.left or not self.size else SEED_WAITS
            case _:
                return STOPPED

    def row(self, **values: object) -> dict[str, object]:
        """An object with these names, as the dialect has them."""
        names = self.names
        return {names[name]: value for name, value in values.items()}


class Row(StillRow):
    """All of it: what several fields need is found out once."""

    def __init__(
        self, look: Sight, max_connections: int, names: Names, clock: Clock, position: int
    ) -> None:
        super().__init__(look, max_connections, names)
        self.torrent = look.torrent
        self.clock = clock
        self.position = position
        """In the queue."""

    @cached_property
    def rates(self) -> tuple[float, float]:
        return self.torrent.rates

    @cached_property
    def peers(self) -> list[PeerInfo]:
        return self.torrent.peers()


def _error(seen: StillRow) -> object:
    if seen.facts.error is not None:
        return LOCAL_ERROR
    return WARNING if seen.facts.warning is not None else 0


def _unix(time: float | None) -> int:
    return int(time) if time is not None else 0


def _file_name(seen: StillRow, file: FileInfo) -> str:
    metainfo = seen.facts.metainfo
    assert metainfo is not None
    return file.path if metainfo.single else f"{seen.facts.name}/{file.path}"


def _files(seen: StillRow) -> object:
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


def _file_stats(seen: StillRow) -> object:
    return [
        seen.row(bytes_completed=file.here, wanted=file.selected, priority=file.priority)
        for file in seen.files
    ]


def _wanted(seen: StillRow) -> object:
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


def _peers(row: Row) -> object:
    rows = []
    for peer in row.peers:
        host, port = parse_address(peer.address)
        rows.append(
            row.row(
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


def _peers_from(row: Row) -> object:
    counts = Counter(_SOURCES.get(peer.source, "from_ltep") for peer in row.peers)
    return row.row(**{name: counts[name] for name in _FROM})


def _eta(row: Row) -> int:
    if row.status != DOWNLOADING:
        return NO_ETA
    eta = row.torrent.summary().eta if row.rates[1] else None
    return UNKNOWN_ETA if eta is None else int(eta)


def _mime_type(seen: StillRow) -> str:
    """Of the kind of file with the most bytes."""
    sizes: Counter[str] = Counter()
    for file in seen.files:
        kind, _ = mimetypes.guess_type(file.path)
        sizes[kind or "application/octet-stream"] += file.size
    return max(sizes, key=sizes.__getitem__, default="application/octet-stream")


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _total(seen: StillRow) -> int:
    metainfo = seen.facts.metainfo
    return metainfo.geometry.total if metainfo is not None else 0


def _percent_done(seen: StillRow) -> float:
    return 1 - seen.left / seen.size if seen.size else 0.0


def _of_metainfo(read: Callable[[Any], object], otherwise: object) -> Still:
    def field(seen: StillRow) -> object:
        metainfo = seen.facts.metainfo
        value = read(metainfo) if metainfo is not None else None
        return otherwise if value is None else value

    return field


def _pieces(seen: StillRow) -> str:
    have = seen.facts.have
    return base64.b64encode(have.to_wire()).decode() if have is not None else ""


STILL: Final[dict[str, Still]] = {
    "activity_date": lambda seen: _unix(seen.facts.active_at),
    "added_date": lambda seen: _unix(seen.facts.added_at),
    "bandwidth_priority": lambda seen: 0,
    "bytes_completed": lambda seen: [file.here for file in seen.files],
    "comment": _of_metainfo(lambda metainfo: metainfo.comment, ""),
    "corrupt_ever": lambda seen: seen.facts.wasted,
    "creator": _of_metainfo(lambda metainfo: metainfo.created_by, ""),
    "date_created": _of_metainfo(lambda metainfo: metainfo.creation_date, 0),
    "done_date": lambda seen: _unix(seen.facts.completed_at),
    "download_dir": lambda seen: str(seen.facts.folder),
    "download_limit": lambda seen: down_limit(seen.facts.limit_down, seen.own),
    "download_limited": lambda seen: seen.facts.limit_down is not None,
    "downloaded_ever": lambda seen: seen.facts.downloaded,
    "edit_date": lambda seen: 0,
    "error": _error,
    "error_string": lambda seen: seen.facts.error or seen.facts.warning or "",
    "eta_idle": lambda seen: NO_ETA,
    "file_count": lambda seen: len(seen.files),
    "file_stats": _file_stats,
    "files": _files,
    "group": lambda seen: "",
    "hash_string": lambda seen: seen.facts.info_hash.hex(),
    "have_valid": lambda seen: seen.facts.verified,
    "honors_session_limits": lambda seen: True,
    "id": lambda seen: seen.number,
    "is_finished": lambda seen: seen.facts.shared_enough is not None,
    "is_private": _of_metainfo(lambda metainfo: metainfo.private, False),
    "labels": lambda seen: list(seen.facts.labels),
    "left_until_done": lambda seen: seen.left,
    "magnet_link": lambda seen: str(seen.facts.magnet),
    "manual_announce_time": lambda seen: NO_ETA,
    "max_connected_peers": lambda seen: seen.max_connections,
    "metadata_percent_complete": lambda seen: float(seen.facts.metainfo is not None),
    "name": lambda seen: seen.facts.name,
    "peer_limit": lambda seen: seen.max_connections,
    "percent_complete": lambda seen: _share(seen.facts.verified, _total(seen)),
    "percent_done": _percent_done,
    "piece_count": _of_metainfo(lambda metainfo: metainfo.geometry.piece_count, 0),
    "piece_size": _of_metainfo(lambda metainfo: metainfo.geometry.piece_length, 0),
    "pieces": _pieces,
    "primary_mime_type": _mime_type,
    "priorities": lambda seen: [file.priority for file in seen.files],
    "seed_idle_limit": lambda seen: idle_limit(seen.facts.seeding_limits.idle, seen.own),
    "seed_idle_mode": lambda seen: mode_of(seen.facts.seeding_limits.idle),
    "seed_ratio_limit": lambda seen: ratio_limit(seen.facts.seeding_limits.ratio, seen.own),
    "seed_ratio_mode": lambda seen: mode_of(seen.facts.seeding_limits.ratio),
    "sequential_download": lambda seen: seen.facts.sequential,
    "sequential_download_from_piece": lambda seen: 0,
    "size_when_done": lambda seen: seen.size,
    "source": lambda seen: "",
    "start_date": lambda seen: _unix(seen.facts.started_at),
    "status": lambda seen: seen.status,
    "torrent_file": lambda seen: "",
    "total_size": _total,
    "tracker_list": lambda seen: "",
    "tracker_stats": lambda seen: [],
    "trackers": lambda seen: [],
    "upload_limit": lambda seen: up_limit(seen.facts.limit_up, seen.own),
    "upload_limited": lambda seen: seen.facts.limit_up is not None,
    "upload_ratio": lambda seen: seen.facts.ratio,
    "uploaded_ever": lambda seen: seen.facts.uploaded,
    "wanted": _wanted,
    "webseeds": lambda seen: [],
    "webseeds_ex": lambda seen: [],
    "webseeds_sending_to_us": lambda seen: 0,
}
"""What changes with the facts only. By their names in snake_case, as those that follow."""

OF_PEERS: Final[dict[str, Live]] = {
    "availability": lambda row: row.torrent.availability(),
    "desired_available": lambda row: row.torrent.obtainable,
    "eta": _eta,
    "peers": _peers,
    "peers_connected": lambda row: len(row.peers),
    "peers_from": _peers_from,
    "peers_getting_from_us": lambda row: sum(peer.wants and not peer.choked for peer in row.peers),
    "peers_sending_to_us": lambda row: sum(
        peer.wanted and not peer.chokes_us for peer in row.peers
    ),
    "rate_download": lambda row: int(row.rates[1]),
    "rate_upload": lambda row: int(row.rates[0]),
}
"""What changes all the time while anybody is connected, and then only."""

OF_TIME: Final[dict[str, Live]] = {
    "have_unchecked": lambda row: row.clock.unchecked,
    "is_stalled": lambda row: row.clock.stalled,
    "queue_position": lambda row: row.position,
    "recheck_progress": lambda row: row.clock.looked_at,
    "seconds_downloading": lambda row: row.clock.seconds_downloading,
    "seconds_seeding": lambda row: row.clock.seconds_seeding,
}
"""What changes with the clock and the position only."""

FIELDS: Final = tuple(sorted([*STILL, *OF_PEERS, *OF_TIME]))


_KNOWN: Final = frozenset(FIELDS)


def known(fields: Iterable[str]) -> list[str]:
    """Those there are, each once; others are passed over in silence, as Transmission does."""
    return [name for name in dict.fromkeys(fields) if name in _KNOWN]
