"""What pages are shown of a node: its torrents in lines, one torrent closely, the DHT. Numbers lose
the digits that nobody reads, so that what did not visibly change is not told again.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

from dht_torrent.daemon.media import is_played
from dht_torrent.daemon.web.board import Facts
from dht_torrent.engine.views import PieceState

if TYPE_CHECKING:
    from dht_torrent.engine.dht.node import Dht
    from dht_torrent.engine.node import Node
    from dht_torrent.engine.torrent.torrent import Torrent

Json = dict[str, Any]

MAX_CELLS: Final = 4096
"""Of the map of pieces: where there are more pieces, a cell stands for several."""
MAX_FILES: Final = 5000
"""Files of a torrent that are shown ..."""
MAX_PEERS: Final = 500
"""... and peers."""
MAX_STEPS: Final = 120
"""Nodes on the way of a lookup that are shown."""


def torrent_facts(torrent: Torrent) -> Facts:
    """A torrent in a line."""
    summary = torrent.summary()
    return {
        "name": summary.name,
        "state": summary.state,
        "progress": round(summary.progress, 4),
        "size": summary.size,
        "downloaded": summary.downloaded,
        "uploaded": summary.uploaded,
        "down": round(summary.down_rate),
        "up": round(summary.up_rate),
        "peers": summary.peers,
        "error": summary.error,
        "why": summary.why,
        "eta": _brief(summary.eta),
        "limit_down": summary.limit_down,
        "limit_up": summary.limit_up,
        "warning": summary.warning,
        "labels": summary.labels,
        "ratio": round(summary.ratio, 2),
        "published": summary.published,
        "seeding": [torrent.seeding_limits.ratio, torrent.seeding_limits.idle],
        "folder": str(torrent.folder),
    }


def _brief(seconds: float | None) -> int | None:
    """To two digits or so."""
    if seconds is None:
        return None
    step = 1 if seconds < 90 else 10 if seconds < 900 else 60
    return round(seconds / step) * step


def node_facts(node: Node) -> Facts:
    """The node in a line."""
    status = node.status()
    dhts = [dht for dht in (status.dht, status.dht6) if dht is not None]
    sizes = [dht.network_size for dht in dhts if dht.network_size is not None]
    other = node.speed.alternative
    return {
        "version": status.version,
        "down": round(status.down_rate),
        "up": round(status.up_rate),
        "torrents": status.torrents,
        "connections": status.connections,
        "reachable": status.reachable,
        "reachable_why": status.reachable_why,
        "limit_down": status.limit_down,
        "limit_up": status.limit_up,
        "warnings": status.warnings,
        "contacts": sum(dht.good for dht in dhts),
        "network_size": round(max(sizes), -1) if sizes else None,
        "listen": status.listen,
        "download_dir": str(node.config.download_dir),
        "usual_down": node.limits[1],
        "usual_up": node.limits[0],
        "alternative": other.on,
        "alternative_down": other.down,
        "alternative_up": other.up,
        "hours": str(other.hours) if other.by_clock else None,
        "seed_ratio": node.rules.seed_ratio,
        "seed_idle": node.rules.seed_idle,
        "after_seeding": node.rules.after_seeding,
    }


def node_totals(node: Node) -> Facts:
    """Bytes that the node has received and sent, in this run and in all. Counts all torrents."""
    run, ever = node.statistics()
    return {
        "run_down": run.downloaded,
        "run_up": run.uploaded,
        "ever_down": ever.downloaded,
        "ever_up": ever.uploaded,
    }


# --- one torrent ---------------------------------------------------------------------------------


def torrent_closely(torrent: Torrent) -> Json:
    """Its parts, each of which is told again when it has changed."""
    files = torrent.files()
    summary, history, metainfo = torrent.summary(), torrent.history, torrent.metainfo
    return {
        "facts": {
            "magnet": summary.magnet,
            "path": summary.path,
            "wasted": summary.wasted,
            "reused": summary.reused,
            "sequential": torrent.sequential,
            "completed_at": history.completed_at,
            "seconds_downloading": round(history.seconds_downloading, -1),
            "seconds_seeding": round(history.seconds_seeding, -1),
            "shared_enough": history.shared_enough,
            "not_published": summary.not_published,
            "files": len(files),
            "single": metainfo is not None and metainfo.single,
        },
        "files": [
            [file.index, file.path, file.size, round(file.progress, 4), file.selected,
             file.priority, *file.pieces, is_played(file.path)]
            for file in files[:MAX_FILES]
        ],
        "peers": [
            {
                "address": peer.address,
                "client": peer.client,
                "source": peer.source,
                "incoming": peer.incoming,
                "progress": round(peer.progress, 3),
                "down": round(peer.down_rate),
                "up": round(peer.up_rate),
                "flags": peer.flags,
                "encryption": peer.encryption,
                "transport": peer.transport,
            }
            for peer in torrent.peers()[:MAX_PEERS]
        ],
        "pieces": pieces(torrent),
    }  # fmt: skip


def pieces(torrent: Torrent) -> Json:
    """The map of its pieces: for each cell its state, how much of it is here (0 to 255) and how
    many peers have it (255 at most), in base64."""
    states = torrent.piece_states()
    width = max(1, -(-len(states) // MAX_CELLS))
    availability = bytes([min(255, count) for count in torrent.availability()])
    if width == 1:
        share = b""
    else:
        cells = [states[at : at + width] for at in range(0, len(states), width)]
        share = bytes([255 * cell.count(PieceState.HERE) // len(cell) for cell in cells])
        states = bytes(map(_of_several, cells))
        availability = bytes(
            [min(availability[at : at + width]) for at in range(0, len(availability), width)]
        )
    metainfo = torrent.metainfo
    return {
        "count": metainfo.geometry.piece_count if metainfo is not None else 0,
        "length": metainfo.geometry.piece_length if metainfo is not None else 0,
        "width": width,
        "states": _base64(states),
        "share": _base64(share),
        "availability": _base64(availability),
    }


def _of_several(states: bytes) -> int:
    """The state of a cell: what is still to come of it, if anything is."""
    for state in (PieceState.BEGUN, PieceState.MISSING, PieceState.HERE):
        if state in states:
            return state
    return PieceState.UNWANTED


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


# --- the DHT -------------------------------------------------------------------------------------


def dht_closely(node: Node) -> Json:
    """Each of our DHT nodes: where it is, whom it knows, what it does."""
    return {("ipv6" if dht.address.is_ipv6 else "ipv4"): _of_dht(dht) for dht in node.dht}


def _of_dht(dht: Dht) -> Json:
    status = dht.status()
    return {
        "id": dht.node_id.hex(),
        "address": str(status.address),
        "external_ip": status.external_ip,
        "good": status.good,
        "doubtful": status.questionable,
        "bad": status.bad,
        "buckets": status.buckets,
        "network_size": status.network_size,
        "queries_in": status.queries_in,
        "queries_out": status.queries_out,
        "stored": [status.stored_torrents, status.stored_peers, status.stored_items],
        "down": status.down,
        "contacts": [
            [
                view.id.hex(),
                str(view.address),
                2 if view.good else 0 if view.fails > 1 else 1,
                round(view.seconds, -1),
                view.compliant,
            ]
            for view in dht.contacts()
        ],
        "lookups": [
            {
                "number": one.number,
                "purpose": one.purpose,
                "target": one.target,
                "running": one.running,
                "seconds": round(one.seconds, 2),
                "asked": one.asked,
                "replies": one.replies,
                "hops": one.hops,
                "steps": [
                    [step.id, step.address, step.hops, round(step.at, 2), step.outcome,
                     step.referrer]
                    for step in one.steps[:MAX_STEPS]
                ],
            }
            for one in dht.lookups()
        ],
    }  # fmt: skip
