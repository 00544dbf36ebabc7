"""Makes .torrent files with no node running: what `dhtnode create` does. Blocking."""

from __future__ import annotations

from dht_torrent.storage.making import make

__all__ = ["make"]
