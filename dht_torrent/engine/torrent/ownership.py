"""Which of the files a torrent may write to, and how: the books of `storage.owners` for one
torrent.

The rule: nothing is written before it was said of each file whose it is. A file is judged once for
a session, from what was found there; what was not made when that ends is nobody's again.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import trio

from dht_torrent.engine.resume import Resume
from dht_torrent.engine.torrent.changes import FileChanges
from dht_torrent.engine.torrent.disk import Disk
from dht_torrent.engine.trust import bits_of, flags_of, remembered
from dht_torrent.errors import StorageError
from dht_torrent.geometry import Geometry
from dht_torrent.metainfo import Metainfo
from dht_torrent.storage import Storage
from dht_torrent.storage.owners import (
    CLOSED,
    FILL,
    KEEP,
    NEW,
    OWN,
    FoundFile,
    Owners,
    Place,
    decide,
)
from dht_torrent.storage.protocol import ContentSurvey
from dht_torrent.torrent.pieces import Bitfield


class Ownership:
    """The files of one torrent, of which it makes some, adopts some, and leaves others alone."""

    def __init__(
        self,
        disk: Disk,
        storage: Storage,
        metainfo: Metainfo,
        owners: Owners,
        changes: FileChanges,
        *,
        shared: bool,
        resume: Resume | None,
        overwrite: bool,
    ) -> None:
        self.overwrite = overwrite
        """The next `claim` takes hold of files that hold something else, too."""
        self._pool = disk
        self._storage = storage
        self._metainfo = metainfo
        self._geometry = metainfo.geometry
        self._owners = owners
        self._changes = changes
        self._shared = shared
        self._place: Place | None = None
        self._survey: ContentSurvey | None = None
        """What was found, for the first `claim` that follows."""
        self._begun = bytearray(len(self._geometry.files))
        """1 for each file that was absent when we began, and may have been made by us since."""
        self._filled = bytearray(len(self._geometry.files))
        """1 for each file that was there before, incomplete, and that we wrote to."""
        self._granted: set[int] = set()
        """Files that were judged, and are held, since `found`."""
        self._known: frozenset[int] = frozenset()
        """Files of which pieces were believed to be here, before that was looked at ..."""
        self._changed: set[int] = set()
        """... and those that were not as they were believed to be."""
        self._claiming = trio.Lock()
        self._recall(resume)

    def _recall(self, resume: Resume | None) -> None:
        """How each file may be written, as far as the record says: nothing else is known yet."""
        files, access = self._geometry.files, self._storage.access
        access[:] = bytes([KEEP if self._shared else CLOSED]) * len(files)
        if resume is None or self._shared:
            return
        known = files_with(remembered(resume, self._geometry).have, self._geometry)
        made = flags_of(resume.made or b"", len(files))
        self._begun = flags_of(resume.begun, len(files))
        self._filled = flags_of(resume.filled, len(files))
        if resume.made is None:
            # Older versions did not note what they made. They may have written to all they had
            # pieces of, and all of these may have been there before: so the download goes on, and
            # nothing is deleted.
            self._filled = bytearray(number in known for number in range(len(files)))
        for number in range(len(files)):
            if made[number]:
                access[number] = OWN
            elif self._begun[number] or self._filled[number]:
                access[number] = FILL
            elif number in known:
                access[number] = KEEP

    def located(self, survey: ContentSurvey) -> None:
        """The content was looked at: that is where it lies."""
        self._place = survey.place

    def found(self, survey: ContentSurvey, known: frozenset[int], changed: set[int]) -> None:
        """This is there. Pieces of the files `known` were believed to be; of these, those in
        `changed` are not as they were. Every file is to be judged anew."""
        self._survey = survey
        self._known = known
        self._changed = changed
        self._granted.clear()

    def locate(self) -> None:
        """Blocking. Find out where the content lies, for `hold`. Raises StorageError."""
        self._place = self._storage.place()

    def hold(self) -> None:
        """Take hold of what the record says is ours, before anybody else does; after `locate`."""
        if self._place is not None:
            self._owners.claim(self._id, self._who, self._place, self._storage.access)

    def let_go(self) -> None:
        """Nothing here is this torrent's any more."""
        self._owners.release(self._id, self._storage.access)

    @property
    def _id(self) -> bytes:
        return self._metainfo.info_hash

    @property
    def _who(self) -> str:
        return f"{self._metainfo.name} ({self._id.hex()[:8]})"

    async def claim(
        self, have: Bitfield, pieces: Collection[int], empty: Collection[int] = ()
    ) -> bool:
        """Take hold of the files these pieces lie in, and of those empty ones, so that they may be
        written. Call after `found`, and again when more is wanted. Of files that hold something
        else nothing stays in `have`. True if the record has to
        know of it before anything is written. Raises StorageError when one of them is somebody
        else's; what was held before is still held then."""
        if self._shared:
            self.hold()
            return False
        async with self._claiming:
            wanted = files_of(pieces, self._geometry) | set(empty)
            numbers = sorted(wanted - self._granted)
            noted = bool(numbers) and await self._take(have, numbers)
            self.overwrite = False
            return noted

    async def _take(self, have: Bitfield, numbers: Sequence[int]) -> bool:
        flags = bytes(have.flags)
        first, survey, self._survey = not self._granted, self._survey, None
        if survey is None:
            survey = await self._pool.run(self._storage.survey)
        self._place = survey.place
        verdicts = await self._pool.run(self._judge, numbers, survey, flags)
        # From here to the claim nothing is awaited: two torrents cannot both be first.
        access = self._storage.access
        others: dict[int, str] = {}
        if survey.place is not None:
            asked = bytearray(access)
            for number in numbers:
                asked[number] = NEW
            others = self._owners.others(self._id, survey.place, asked)
        replaced = {n for n, verdict in verdicts.items() if isinstance(verdict, str)}
        # A file of several names is not written into: the other name may be precious. It is made
        # anew; but not under peers who were told what it holds.
        links = survey.place.links.values() if survey.place is not None else ()
        linked = replaced & set(links)
        refused = {
            number: f"belongs to another torrent, {others[number]}; choose another --output"
            if number in others
            else str(verdicts[number])
            for number in replaced
            if not self.overwrite
            or number in others
            or number in survey.odd
            or (number in linked and not first)
        }
        before = bytes(access)
        if not refused:
            for number in numbers:
                # What is to be replaced must be nobody's, as if it were to be made.
                verdict = verdicts[number]
                access[number] = verdict if isinstance(verdict, int) else NEW
            if survey.place is not None:
                taken = self._owners.claim(self._id, self._who, survey.place, access)
                refused = {
                    conflict.number: f"belongs to another torrent, {conflict.other}; choose "
                    "another --output"
                    for conflict in taken
                }
        if refused:
            access[:] = before
            foreign = [number for number in refused if isinstance(verdicts[number], str)]
            if first:
                self._refuse_files(have, foreign)
            self.hold()
            raise self._refusal(refused)
        for number in replaced:
            access[number] = OWN
        for number in numbers:
            if before[number] == OWN and access[number] == FILL:
                self._begun[number] = 1  # once all of it verifies it is ours again
        self._granted.update(numbers)
        if linked:
            for number in linked:
                for index in self._geometry.file_pieces(number):
                    have.discard(index)
            await self._pool.run(self._storage.delete, sorted(linked))
        return bool(replaced) or any(access[number] == NEW for number in numbers)

    def _refuse_files(self, have: Bitfield, foreign: Sequence[int]) -> None:
        """These hold something else: nothing of them is believed. Before anything is exchanged."""
        self._changes.spoilt.update(foreign)
        for number in foreign:
            self._storage.access[number] = CLOSED
            for index in self._geometry.file_pieces(number):
                have.discard(index)

    def _refusal(self, refused: dict[int, str]) -> StorageError:
        first = min(refused)
        path = self._storage.path
        if not self._metainfo.single:
            path = path.joinpath(*self._geometry.files[first].path)
        more = len(refused) - 1
        also = f" ({more} more file{'s' if more > 1 else ''} likewise)" if more else ""
        return StorageError(f"{path} {refused[first]}{also}")

    def _judge(
        self, numbers: Sequence[int], survey: ContentSurvey, have: bytes
    ) -> dict[int, int | str]:
        """For each file how it may be written, or why not. Blocking."""
        verdicts: dict[int, int | str] = {}
        for number in numbers:
            pieces = self._geometry.file_pieces(number)
            stamp = survey.stamps[number]
            found = FoundFile(
                length=self._geometry.files[number].length,
                size=stamp.size if stamp else None,
                odd=number in survey.odd,
                made=self._storage.access[number] == OWN,
                begun=self._begun[number] == 1,
                filled=self._filled[number] == 1,
                known=number in self._known,
                changed=number in self._changed,
                pieces=len(pieces),
                verified=have.count(1, pieces.start, pieces.stop),
            )
            verdicts[number] = decide(found, partial(self._blank, number, have))
        return verdicts

    def _blank(self, number: int, have: bytes, edges: bool) -> bool:
        """Is all of the file that does not verify holes or zeros? Pieces that lie in other files
        too count with `edges` only."""
        file, length = self._geometry.files[number], self._geometry.piece_length
        for index in self._geometry.file_pieces(number):
            if have[index] or not (edges or self._lies_in_alone(number, index)):
                continue
            start = max(0, index * length - file.offset)
            stop = min(file.length, (index + 1) * length - file.offset)
            if not self._storage.blank(number, start, stop):
                return False
        return True

    def _lies_in_alone(self, number: int, index: int) -> bool:
        files = self._geometry.files
        return all(
            other == number or files[other].pad or not files[other].length
            for other in self._geometry.piece_files(index)
        )

    def conclude(self) -> None:
        """Between two sessions nothing is written: what was not made is nobody's."""
        access = self._storage.access
        for number in self._granted:
            if access[number] == NEW:
                access[number] = CLOSED
        self._granted.clear()

    def made(self, number: int, have: Bitfield | None) -> bool:
        """Is it this torrent's own, of whose pieces we have these?"""
        if self._storage.access[number] == OWN:
            return True
        # It was absent before, and all of it verifies: who else would have made it?
        pieces = self._geometry.file_pieces(number)
        return bool(self._begun[number] and have and pieces) and all(
            have is not None and index in have for index in pieces
        )

    def others(self, survey: ContentSurvey) -> Mapping[int, str]:
        """Files that other torrents have as well, and which these are."""
        if survey.place is None:
            return {}
        return self._owners.others(self._id, survey.place, self._storage.access)

    def other_within(self, path: Path) -> str | None:
        """Another torrent that has its place at this path, or below. Blocking."""
        place = self._place or self._storage.place()
        if place is None:
            return None
        return self._owners.within(self._id, replace(place, root=os.path.realpath(path)))

    def made_bits(self) -> bytes:
        """For the record: the files made by this torrent."""
        return bits_of(self._storage.access.translate(_IS_OWN))

    def begun_bits(self) -> bytes:
        """For the record: those that were absent when it began."""
        return bits_of(
            bytearray(
                code == NEW or (code == FILL and begun)
                for code, begun in zip(self._storage.access, self._begun, strict=True)
            )
        )

    def filled_bits(self) -> bytes:
        """For the record: those that were there, and are filled."""
        return bits_of(
            bytearray(
                code == FILL and not begun
                for code, begun in zip(self._storage.access, self._begun, strict=True)
            )
        )


_IS_OWN = bytes(code == OWN for code in range(256))


def files_of(pieces: Collection[int], geometry: Geometry) -> set[int]:
    """Files that have bytes on the disk in any of these pieces."""
    wanted = bytearray(geometry.piece_count)
    for index in pieces:
        wanted[index] = 1
    return set(files_with(wanted, geometry))


def files_with(pieces: bytes | bytearray, geometry: Geometry) -> frozenset[int]:
    """The same, of a byte for each piece, which is 1 for those that are meant."""
    found = []
    for number, file in enumerate(geometry.files):
        if file.length and not file.pad:
            lies_in = geometry.file_pieces(number)
            if pieces.find(1, lies_in.start, lies_in.stop) >= 0:
                found.append(number)
    return frozenset(found)
