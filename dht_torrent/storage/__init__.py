"""Where content lies. A torrent is one long run of bytes; a storage maps it to files.

Everything here blocks, on purpose. Calls may come from several threads at once; two concurrent
writes must not overlap.

- `protocol`: what the engine asks of a storage; `files`: content in real files; `memory`: content
  in memory, for the lab
- `folder`: the only way to a file: no link followed on it; `descriptors`: the files that all
  torrents of a node have open; `owners`: which torrent has which file
- `moving`: content goes to another folder, or gets another name
- `scratch`: room for what is not verified yet; `unflushed`: what need not be on the disk yet
- `hashing`: the pieces of a file or folder to share; `making`: .torrent files
"""

from dht_torrent.storage.descriptors import Descriptors
from dht_torrent.storage.files import FileStorage
from dht_torrent.storage.memory import MemoryStorage
from dht_torrent.storage.protocol import FileStamp, Storage

__all__ = ["Descriptors", "FileStamp", "FileStorage", "MemoryStorage", "Storage"]
