"""libtorrent as the other end: a session on loopback, told to behave on a network of one IP."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import libtorrent as lt
import trio

from dht_torrent.ids import Address

_RUNNING = lt.torrent_flags.auto_managed | lt.torrent_flags.paused


class LibtorrentPeer:
    """A running session. Made by `open_libtorrent`."""

    def __init__(self, bootstrap: Sequence[tuple[str, int]], dht: bool, changes: dict[str, Any]):
        self._wake, notify = socket.socketpair()
        self._wake.setblocking(False)
        self._notify = notify
        self.seen: list[type] = []
        """The kinds of all alerts so far. (An alert itself dies with the next batch.)"""
        self.found: list[Address] = []
        """The peers its DHT was told of, for all torrents."""
        self.on_alert: Callable[[Any], None] | None = None
        """Called with each alert, while that is alive."""
        settings: Any = {
            "listen_interfaces": "127.0.0.1:0",
            "enable_dht": dht,
            "dht_bootstrap_nodes": ",".join(f"{host}:{port}" for host, port in bootstrap),
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            # Everybody here is 127.0.0.1, which libtorrent would take for one attacker.
            "dht_restrict_routing_ips": False,
            "dht_restrict_search_ips": False,
            "dht_ignore_dark_internet": False,
            "dht_prefer_verified_node_ids": False,
            "dht_enforce_node_id": False,
            "dht_block_ratelimit": 1000,
            "allow_multiple_connections_per_ip": True,
            "stop_tracker_timeout": 0,
            "min_reconnect_time": 1,
            "enable_outgoing_utp": False,
            "enable_incoming_utp": False,
            "alert_mask": lt.alert.category_t.status_notification
            | lt.alert.category_t.error_notification
            | lt.alert.category_t.dht_notification
            | lt.alert.category_t.dht_operation_notification
            | lt.alert.category_t.storage_notification
            | lt.alert.category_t.connect_notification,
            **changes,
        }
        self.session = lt.session(settings)
        self.session.set_alert_fd(notify.fileno())

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", self.session.listen_port())

    async def until(self, true: Callable[[], object], what: str, seconds: float = 30.0) -> None:
        """Return when `true()`; it is asked again after every batch of alerts.

        Raises AssertionError with the last alerts when it takes longer than `seconds`.
        """
        deadline = trio.current_time() + seconds
        while True:
            with contextlib.suppress(BlockingIOError):
                self._wake.recv(4096)
            for alert in self.session.pop_alerts():
                self.seen.append(type(alert))
                if self.on_alert is not None:
                    self.on_alert(alert)
                if isinstance(alert, lt.dht_get_peers_reply_alert):
                    self.found += [Address(*peer) for peer in alert.peers()]
            if true():
                return
            if trio.current_time() > deadline:
                said = " ".join(kind.__name__ for kind in self.seen[-30:])
                raise AssertionError(f"libtorrent, not in {seconds:g} s: {what}\n{said}")
            with trio.move_on_after(0.05):  # some states change without an alert
                await trio.lowlevel.wait_readable(self._wake)

    async def bootstrapped(self) -> None:
        await self.until(lambda: lt.dht_bootstrap_alert in self.seen, "its DHT has bootstrapped")

    async def seed(self, torrent: bytes, folder: Path) -> Any:
        """Share what lies in `folder` under the torrent's name; returns when it is checked."""
        handle = self.add(torrent, folder)
        await self.until(lambda: state(handle) == "seeding", "it has checked what it seeds")
        return handle

    def add(self, torrent: bytes, folder: Path) -> Any:
        """Add a .torrent; what is in `folder` already is checked first."""
        params = lt.load_torrent_buffer(torrent)
        return self._add(params, folder)

    def add_magnet(self, magnet: str, folder: Path) -> Any:
        return self._add(lt.parse_magnet_uri(magnet), folder)

    def _add(self, params: Any, folder: Path) -> Any:
        folder.mkdir(parents=True, exist_ok=True)
        params.save_path = str(folder)
        params.flags &= ~_RUNNING
        return self.session.add_torrent(params)

    async def completed(self, handle: Any, seconds: float = 30.0) -> None:
        """Wait until `handle` is complete and its files are flushed."""
        await self.until(
            lambda: state(handle) in {"finished", "seeding"}, "the download is complete", seconds
        )
        before = len(self.seen)
        handle.flush_cache()
        await self.until(
            lambda: lt.cache_flushed_alert in self.seen[before:], "its files are flushed"
        )

    async def peers_of(self, info_hash: bytes) -> list[Address]:
        """Ask its DHT for the peers of a torrent."""
        asked_at = float("-inf")
        self.found.clear()

        def answered() -> object:
            nonlocal asked_at
            if not self.found and trio.current_time() > asked_at + 0.5:
                # Again and again: an announce may still be on its way to those it asks.
                self.session.dht_get_peers(lt.sha1_hash(info_hash))
                asked_at = trio.current_time()
            return self.found

        await self.until(answered, "its DHT finds peers")
        return self.found

    def close(self) -> None:
        self.session.set_alert_fd(-1)
        del self.session  # joins libtorrent's threads
        self._wake.close()
        self._notify.close()


def state(handle: Any) -> str:
    """libtorrent's word: checking_files, downloading_metadata, downloading, finished, seeding."""
    return str(handle.status().state)


def create(path: Path, piece_length: int = 0) -> bytes:
    """A v1 .torrent of `path`, made by libtorrent. Piece length 0: it chooses."""
    # It lists a folder in the order of the file system; the order is part of the infohash.
    files = sorted(lt.list_files(str(path)), key=lambda file: file.filename)
    made = lt.create_torrent(files, piece_length, lt.create_torrent.v1_only)
    lt.set_piece_hashes(made, str(path.parent))
    return bytes(lt.bencode(made.generate()))


def info_hash_of(torrent: bytes) -> bytes:
    return bytes(lt.load_torrent_buffer(torrent).info_hashes.v1.to_bytes())


def magnet_of(torrent: bytes) -> str:
    """The bare link: an infohash and nothing else."""
    return f"magnet:?xt=urn:btih:{info_hash_of(torrent).hex()}"


@contextlib.asynccontextmanager
async def open_libtorrent(
    bootstrap: Sequence[tuple[str, int]] = (),
    *,
    dht: bool = True,
    where: contextlib.AbstractContextManager[None] | None = None,
    **settings: Any,
) -> AsyncIterator[LibtorrentPeer]:
    """A session that listens (and, given entry points, has bootstrapped) and is gone at the end.
    Its threads are started within `where`."""
    with where or contextlib.nullcontext():
        peer = LibtorrentPeer(bootstrap, dht, settings)
    try:
        await peer.until(lambda: peer.session.listen_port(), "it listens")
        if bootstrap and dht:
            await peer.bootstrapped()  # a torrent added before that is announced minutes later
        yield peer
    finally:
        peer.close()
