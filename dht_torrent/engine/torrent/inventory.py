"""What of a torrent is here, is missing, and could be had of those who are connected."""

from __future__ import annotations

from collections.abc import Mapping

from dht_torrent.engine.torrent.core import TorrentCore
from dht_torrent.engine.torrent.stages import Active, Checking, Moving
from dht_torrent.engine.views import FileInfo, PieceState
from dht_torrent.geometry import Geometry
from dht_torrent.metainfo import Metainfo
from dht_torrent.torrent.piece_states import State
from dht_torrent.torrent.pieces import Bitfield
from dht_torrent.torrent.selection import Selection, is_selected, wanted_pieces

_SHOWN = bytes.maketrans(
    bytes(state.value for state in State),
    bytes(
        {State.MISSING: PieceState.MISSING, State.HAVE: PieceState.HERE}.get(
            state, PieceState.BEGUN
        )
        for state in State
    ),
)
_VERIFIED = bytes.maketrans(b"\x00\x01", bytes((PieceState.MISSING, PieceState.HERE)))


def have_of(core: TorrentCore) -> Bitfield | None:
    """The verified pieces; None while they are not known."""
    return core.content.have if core.content is not None else None


def verified_bytes(metainfo: Metainfo | None, have: Bitfield | None) -> int:
    """Bytes of the verified pieces, wanted or not."""
    if have is None or metainfo is None or not have.count:
        return 0
    return _bytes_between(metainfo.geometry, have, 0, metainfo.geometry.total)


def unchecked_bytes(core: TorrentCore) -> int:
    """While it is checked: bytes believed to be here that are not looked at yet."""
    stage, content = core.stage, core.content
    if not isinstance(stage, Checking) or content is None or content.have is not None:
        return 0
    share = stage.done / stage.total if stage.total else 1.0
    return (
        round(core.metainfo.geometry.total * content.expected * (1 - share))
        if (core.metainfo is not None)
        else 0
    )


def looked_at(core: TorrentCore) -> float:
    """While it is checked or moved: the share (0..1) of it that this is done for."""
    stage = core.stage
    if not isinstance(stage, Checking | Moving):
        return 0.0
    return stage.done / stage.total if stage.total else 1.0


def bytes_left(core: TorrentCore, size: int) -> int:
    """Wanted bytes that are not verified, of `size`."""
    known, believed = counted_left(core), believed_here(core)
    return bytes_missing(core.metainfo, have_of(core), core.select, size, known, believed)


def counted_left(core: TorrentCore) -> int | None:
    """`bytes_left`, while they are counted as they come."""
    stage = core.stage
    if isinstance(stage, Active) and not core.superseded and have_of(core) is not None:
        return stage.swarm.picker.holdings.bytes_left
    return None


def believed_here(core: TorrentCore) -> float:
    """The share that was here when it was last seen, while that was not looked at yet."""
    content = core.content
    return content.remembered if content is not None and content.have is None else 0.0


def bytes_missing(
    metainfo: Metainfo | None,
    have: Bitfield | None,
    select: Selection | None,
    size: int,
    counted: int | None,
    believed: float,
) -> int:
    """`bytes_left`, of what is known of a torrent. O(pieces) unless they are counted."""
    if metainfo is None:
        return size
    if have is None:
        return round(size * (1 - believed))
    if counted is not None:
        return counted
    if have.count == have.size:
        return 0
    wanted, geometry = wanted_pieces(select, metainfo.geometry), metainfo.geometry
    return geometry.size_of({index for index in wanted if index not in have})


def piece_states(core: TorrentCore) -> bytes:
    """One of `PieceState` for each piece. O(pieces)."""
    have = have_of(core)
    if core.metainfo is None or have is None:
        return b""
    if isinstance(core.stage, Active):
        picker = core.stage.swarm.picker
        states = bytearray(picker.states().translate(_SHOWN))
        wanted = picker.holdings.wanted.flags
    else:
        states = bytearray(have.flags.translate(_VERIFIED))
        wanted = bytearray(have.size)
        for index in wanted_pieces(core.select, core.metainfo.geometry):
            wanted[index] = 1
    if wanted.count(1) < len(states):
        for index, is_wanted in enumerate(wanted):
            if not is_wanted and states[index] == PieceState.MISSING:
                states[index] = PieceState.UNWANTED
    return bytes(states)


def availability(core: TorrentCore) -> list[int]:
    """For each piece, how many of those who are connected have it. O(pieces)."""
    if core.metainfo is None:
        return []
    if not isinstance(core.stage, Active):
        return [0] * core.metainfo.geometry.piece_count
    rarity = core.stage.swarm.picker.holdings.rarity
    return [count + rarity.seeds for count in rarity.available]


def obtainable_bytes(core: TorrentCore, left: int) -> int:
    """Of the `left` bytes that are wanted and missing, those that somebody who is connected has.
    O(pieces) while anything is missing."""
    if not left or core.metainfo is None or not isinstance(core.stage, Active):
        return 0
    holdings = core.stage.swarm.picker.holdings
    if holdings.rarity.seeds:
        return left
    have, geometry = have_of(core), core.metainfo.geometry
    return sum(
        geometry.piece_size(index)
        for index in holdings.wanted
        if have is not None and index not in have and holdings.rarity.available[index]
    )


def files(
    named: Metainfo | None,
    have: Bitfield | None,
    select: Selection | None,
    priorities: Mapping[int, int],
) -> list[FileInfo]:
    """The files by their names here, pad files left out; empty while the metadata is not known."""
    if named is None:
        return []
    geometry = named.geometry
    shown = []
    for number, file in enumerate(geometry.files):
        if file.pad:
            continue
        pieces = geometry.file_pieces(number)
        got = have.flags.count(1, pieces.start, pieces.stop) if have is not None else 0
        end = file.offset + file.length
        shown.append(
            FileInfo(
                index=number,
                path="/".join(file.path),
                size=file.length,
                progress=got / len(pieces) if len(pieces) else 1.0,
                selected=is_selected(select, number),
                here=_bytes_between(geometry, have, file.offset, end) if have is not None else 0,
                pieces=(pieces.start, pieces.stop),
                priority=priorities.get(number, 0),
            )
        )
    return shown


def _bytes_between(geometry: Geometry, have: Bitfield, start: int, end: int) -> int:
    """Bytes of [start, end) that lie in verified pieces."""
    if have.count == have.size:
        return end - start
    if start == end or not have.count:
        return 0
    length = geometry.piece_length
    first, last = start // length, (end - 1) // length
    flags = have.flags
    if first == last:
        return end - start if flags[first] else 0
    whole = flags.count(1, first + 1, last) * length
    head = (first + 1) * length - start if flags[first] else 0
    tail = end - last * length if flags[last] else 0
    return head + whole + tail
