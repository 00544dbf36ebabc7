"""Payload bytes that came and went, in this run and in those before."""

from __future__ import annotations

from dht_torrent.engine.resume import Resume
from dht_torrent.engine.torrent.connections import Connections


class Totals:
    """What a torrent has received and sent since it was added."""

    def __init__(self, connections: Connections) -> None:
        self.wasted_before = 0
        """In sessions that have ended."""
        self.reused = 0
        """Bytes that were not received, as they were on this disk already; in earlier runs too."""
        self._connections = connections
        self._downloaded_before = 0
        self._uploaded_before = 0

    def restore(self, resume: Resume) -> None:
        """What was counted in earlier runs."""
        self._downloaded_before = resume.downloaded
        self._uploaded_before = resume.uploaded
        self.wasted_before = resume.wasted
        self.reused = resume.reused

    @property
    def downloaded(self) -> int:
        connections = self._connections
        before = self._downloaded_before + connections.downloaded
        if not connections.peers:  # of thousands of torrents at rest this is asked often
            return before
        return before + sum(peer.downloaded for peer in connections.peers.values())

    @property
    def uploaded(self) -> int:
        connections = self._connections
        before = self._uploaded_before + connections.uploaded
        if not connections.peers:
            return before
        return before + sum(peer.uploaded for peer in connections.peers.values())
