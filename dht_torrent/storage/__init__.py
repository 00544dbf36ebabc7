"""Where content lies. A torrent is one long run of bytes; a storage maps it to files.

Everything here blocks, on purpose. Calls may come from several threads at once; two concurrent
writes must not overlap.

protocol     what the engine asks of a storage        memory   content in memory, for the lab
files        content in real files
scratch      room for what is not verified yet
folder       the only way to a file: no link followed on it
descriptors  the files that all torrents of a node have open: few at once
"""

from dht_torrent.storage.descriptors import Descriptors
from dht_torrent.storage.files import FileStorage
from dht_torrent.storage.memory import MemoryStorage
from dht_torrent.storage.protocol import FileStamp, Storage

__all__ = ["Descriptors", "FileStamp", "FileStorage", "MemoryStorage", "Storage"]
