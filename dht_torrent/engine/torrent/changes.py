"""What of a torrent's files changed, and who did it.

The rule: what we write we know of; all else is somebody else's doing, as far as sizes and times
tell. A change that nobody has noticed yet is not vouched for.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import trio

from dht_torrent.engine.torrent.disk import Disk
from dht_torrent.engine.trust import UNSETTLED, settled
from dht_torrent.geometry import Geometry
from dht_torrent.storage import FileStamp, Storage

Stamps = tuple[FileStamp | None, ...]


class FileChanges:
    """Watches the files of one torrent, when asked to look."""

    def __init__(self, disk: Disk, storage: Storage, geometry: Geometry) -> None:
        self.seen: Stamps = ()
        """The files when they were last looked at."""
        self.spoilt: set[int] = set()
        """Files that somebody else changed since they were hashed."""
        self._pool = disk
        self._storage = storage
        self._geometry = geometry
        self._looking = trio.Lock()
        self._written: set[int] = set()
        """Files we wrote to since `seen`."""
        self._writing: Counter[int] = Counter()
        """Files we are writing to, and in how many places."""

    def begin(self, stamps: Stamps) -> None:
        """So the files are, and all that is believed of them was looked at."""
        self.seen = stamps
        self._written.clear()
        self.spoilt.clear()

    async def stamps(self) -> Stamps:
        """The files as they are now."""
        return await self._pool.run(self._storage.stamps)

    def ours(self) -> set[int]:
        """Files in which a change since `seen` may be our own."""
        return self._written | self._writing.keys()

    async def note_empty(self) -> None:
        """Empty files were made."""
        now = await self.stamps()
        self.seen = tuple(
            old if file.length else new
            for file, old, new in zip(self._geometry.files, self.seen, now, strict=True)
        )

    @contextmanager
    def writing(self, indices: Sequence[int]) -> Iterator[None]:
        """Around our own writes of these pieces: whatever changes in their files is expected,
        however many looks at them fall in between."""
        geometry = self._geometry
        files = {number for index in indices for number in geometry.piece_files(index)}
        self._writing.update(files)
        try:
            yield
        finally:
            self._writing -= Counter(files)
            self._written |= files

    async def rest(self) -> None:
        """Between two sessions: remember the files as our own writes left them."""
        now, ours = await self.stamps(), self.ours()
        self.seen = tuple(
            new if number in ours and new else old
            for number, (old, new) in enumerate(zip(self.seen, now, strict=True))
        )
        self._written.clear()

    async def look(self, must_be_there: Callable[[int], bool]) -> tuple[list[int], list[int]]:
        """Files that changed behind our back since the last look, and files that are gone of those
        that must be there."""
        async with self._looking:  # a look takes over what was written since the one before
            before, ours = self.seen, self.ours()
            self._written.clear()
            now = await self.stamps()
            ours |= self.ours()  # a write that fell between the two is ours, whichever saw it
            numbers = range(len(now))
            # Our own writes do not excuse the absence of what must be there. One that was made
            # while we looked is there at the second look.
            gone = [n for n in numbers if now[n] is None and must_be_there(n)]
            if gone:
                now = await self.stamps()
                gone = [n for n in gone if now[n] is None]
                ours |= self.ours()
            changed = [n for n in numbers if before[n] != now[n] and n not in ours and now[n]]
            changed += [n for n in numbers if before[n] and not now[n] and n not in {*gone, *ours}]
            # What is missing is remembered as it was: it may come back so.
            absent = set(gone)
            self.seen = tuple(before[n] if n in absent else now[n] for n in numbers)
            self.spoilt.update(changed)
            return changed, gone

    async def vouch(self, must_be_there: Callable[[int], bool]) -> tuple[Stamps, int, bool]:
        """What a record may say of the files: their stamps, when they were taken, and whether these
        are all they could be."""
        seen, now = self.seen, await self.stamps()
        ours = self.ours()
        at_ns = time.time_ns()
        there = tuple(
            old if new is None and must_be_there(number) else new
            for number, (old, new) in enumerate(zip(seen, now, strict=True))
        )
        # A file that somebody else changed, which nobody has noticed yet, is not vouched for.
        stamps = tuple(
            FileStamp(stamp.size, UNSETTLED)
            if stamp and ((stamp != old and number not in ours) or number in self.spoilt)
            else calm
            for number, (stamp, old, calm) in enumerate(
                zip(there, seen, settled(there, at_ns), strict=True)
            )
        )
        return stamps, at_ns, stamps == there
