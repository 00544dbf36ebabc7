"""How large a torrent may be, wherever it comes from and wherever it goes: read from a file, taken
from peers, made here, put into a link or a record. One set of numbers, so that what one part writes
no other part refuses to read.
"""

from __future__ import annotations

from typing import Final

MAX_INFO: Final = 30 * 1024 * 1024
"""Bytes of an info dict, by magnet as by file (libtorrent's default `max_metadata_size`)."""
MAX_AROUND_INFO: Final = 1024 * 1024
"""Bytes of a .torrent outside its info dict: comments, nodes, trackers."""
MAX_TORRENT: Final = MAX_INFO + MAX_AROUND_INFO
"""Bytes of a .torrent file."""
MAX_COMMENT: Final = 64 * 1024
"""Bytes kept, and written, of a comment, and of who created it."""
MAX_NODES: Final = 100
"""DHT nodes read from, and written to, one .torrent."""
MAX_LOCAL_HINTS: Final = 100
"""Torrents, and collections, that one torrent says it has files in common with (BEP 38)."""
MAX_COLLECTION: Final = 255
"""Bytes of the name of a collection."""
MAX_CERTIFICATE: Final = 64 * 1024
"""Bytes of a certificate with its chain, as PEM, in an info dict or a file; and of a private key.
"""

MAX_FILES: Final = 100_000
"""Files in one torrent, and so the bound of an index in `so=`."""
MAX_PIECES: Final = 0x200000
"""Pieces in one torrent (libtorrent)."""
MAX_TOTAL: Final = 2**53
"""Bytes of content: exact in JSON's and JavaScript's numbers, too."""
MAX_PIECE_LENGTH: Final = 1024 * 1024 * 1024
"""Bytes of a piece in a torrent that is read. Others made pieces up to 512 MiB (libtorrent)."""
MIN_MADE_PIECE: Final = 1024
MAX_MADE_PIECE: Final = 64 * 1024 * 1024
"""Bytes of a piece in a torrent that is made here: every client bears these."""

MAX_SOURCES: Final = 32
"""Files and folders that one download is to look into before peers are asked."""

MAX_MAGNET: Final = 64 * 1024
"""Longest magnet link, in characters."""
MAX_RANGES: Final = 1000
"""Ranges in one selection of files."""
MAX_HINTS: Final = 100
"""Peers, and trackers, kept from one link; the rest is dropped."""

FIRST_DATE: Final = 0
LAST_DATE: Final = 253_402_300_799
"""Seconds since 1970 of the calendar's ends as everybody knows it: 9999-12-31 23:59:59."""


def in_calendar(seconds: float) -> bool:
    """Whether this is a date that can be shown. False for NaN."""
    return FIRST_DATE <= seconds <= LAST_DATE
