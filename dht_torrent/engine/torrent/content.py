"""What of one torrent is on disk, what may be believed of it, and what may be written there.

The rule: a piece is had only if it was hashed and nothing about its files has changed since, as far
as their sizes and times tell. What we write we know of; all else is somebody else's doing. Nothing
is written before `storage.owners` has said of each file whose it is; and what was verified once and
is gone is waited for, never fetched again unasked.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import trio

from dht_torrent.engine.resume import (
    UNSETTLED,
    Belief,
    Resume,
    bits_of,
    flags_of,
    remembered,
    settled,
    trusted,
)
from dht_torrent.engine.torrent.context import OpenStorage
from dht_torrent.engine.torrent.disk import Disk, TorrentDisk
from dht_torrent.engine.views import Left, Removal
from dht_torrent.errors import DhtTorrentError, StorageError
from dht_torrent.geometry import Geometry
from dht_torrent.metainfo import Metainfo
from dht_torrent.relief import Relief, no_relief
from dht_torrent.storage import FileStamp, Storage
from dht_torrent.storage.making import make
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
from dht_torrent.torrent.memory import SLOTS
from dht_torrent.torrent.pieces import Bitfield

Stamps = tuple[FileStamp | None, ...]

_SHOWN = 3
"""Files named in an error; how many more there are is said."""
_LISTED = 1000
"""Files named in what is said of a removal."""


@dataclass(frozen=True, slots=True)
class Hashed:
    """All of it was hashed and found right."""

    stamps: Stamps
    """The files then, from `settled`."""
    at_ns: int
    """When that began, in Unix nanoseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vouched:
    """What a resume record may claim of the content; names as there."""

    have: bytes = b""
    stamps: Stamps | None = None
    stamped_at: int | None = None
    made: bytes | None = b""
    begun: bytes = b""
    filled: bytes = b""
    mount: str | None = None
    overwrite: bool = False
    final: bool = True
    """False when it will be worth more a little later, though nothing changes."""


class Content:
    """The files of a torrent whose metadata is known."""

    def __init__(
        self,
        disk: Disk,
        storage: Storage,
        metainfo: Metainfo,
        owners: Owners,
        *,
        shared: bool,
        resume: Resume | None = None,
        hashed: Hashed | None = None,
        overwrite: bool = False,
        max_piece_in_memory: int,
    ) -> None:
        """`shared` content is the user's own and is never written. With `overwrite` the next
        `claim` takes hold of files that hold something else, too. A piece larger than
        `max_piece_in_memory` needs room on the disk twice, for a while."""
        self.disk = TorrentDisk(disk, storage, metainfo.geometry, metainfo.pieces)
        self.have: Bitfield | None = None
        """Pieces verified on disk; None until `establish`, and after doubt."""
        self.overwrite = overwrite
        self._scratch = min(SLOTS * metainfo.geometry.piece_length, metainfo.geometry.total)
        if metainfo.geometry.piece_length <= max_piece_in_memory:
            self._scratch = 0
        self._pool = disk
        self._storage = storage
        self._metainfo = metainfo
        self._geometry = metainfo.geometry
        self._owners = owners
        self._shared = shared
        self._resume = resume
        self._hashed = hashed
        self._insists = False
        """What is gone is not waited for: the user asked for a recheck."""
        self._before_doubt: Belief | None = None
        """What was believed until it was doubted: whose a file is does not depend on that."""
        self._place: Place | None = None
        self._survey: ContentSurvey | None = None
        """What `establish` found, for the `claim` that follows."""
        self._mount = resume.mount if resume else None
        self._missing: Sequence[int] = ()
        """Files that were found to be gone."""
        self._begun = bytearray(len(self._geometry.files))
        """1 for each file that was absent when we began, and may have been made by us since."""
        self._filled = bytearray(len(self._geometry.files))
        """1 for each file that was there before, incomplete, and that we wrote to."""
        self._granted: set[int] = set()
        """Files that were judged, and are held, since `establish`."""
        self._known: frozenset[int] = frozenset()
        """Files of which pieces were believed to be here, before that was looked at ..."""
        self._changed: set[int] = set()
        """... and those that were not as they were believed to be."""
        self._seen: Stamps = ()
        self._spoilt: set[int] = set()
        """Files that somebody else changed since they were hashed."""
        self._looking = trio.Lock()
        self._claiming = trio.Lock()
        self._written: set[int] = set()
        """Files we wrote to since `_seen`."""
        self._writing: Counter[int] = Counter()
        """Files we are writing to, and in how many places."""
        self._recall()

    def _recall(self) -> None:
        """How each file may be written, as far as the record says: nothing else is known yet."""
        files, access, resume = self._geometry.files, self._storage.access, self._resume
        access[:] = bytes([KEEP if self._shared else CLOSED]) * len(files)
        if resume is None or self._shared:
            return
        known = _files_with(remembered(resume, self._geometry).have, self._geometry)
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

    @property
    def path(self) -> Path:
        return self._storage.path

    @property
    def untouched(self) -> bool:
        """Nothing of this torrent is here, and nothing was made: it might as well go elsewhere."""
        return OWN not in self._storage.access and not any(self._belief().have)

    @property
    def remembered(self) -> float:
        """Which share of the pieces (0..1) is believed to be here."""
        return self._belief().have.count(1) / self._geometry.piece_count

    # -- what is here ---------------------------------------------------------------------------

    async def establish(self, progress: Callable[[int, int], None]) -> Bitfield:
        """Find out which pieces are here, hashing only what cannot be believed.

        `progress(pieces_done, pieces_total)`. Raises StorageError: with `missing` if what was
        verified or made is gone, else if shared content has changed."""
        survey = await self._pool.run(self._storage.survey)
        self._place = survey.place
        belief = self._belief()
        self._expect(survey, belief)
        trust = trusted(belief, survey.stamps, self._geometry, time.time_ns())
        have = Bitfield(self._geometry.piece_count, trust.trusted)
        if trust.recheck:
            for index in await self.disk.check(sorted(trust.recheck), progress=progress):
                have.add(index)
        if self._shared and not have.complete:
            missing = self._geometry.piece_count - have.count
            self.doubt()
            raise StorageError(
                f"{self.path}: {missing} of {self._geometry.piece_count} pieces no longer match; "
                "share it again to share it as it is now"
            )
        self._survey = survey
        self._known = _files_with(belief.have, self._geometry)
        self._changed = trust.changed
        self._seen = survey.stamps
        self._mount = survey.mount
        self._written.clear()
        self._spoilt.clear()
        self._granted.clear()
        self._resume = self._hashed = None
        self._insists = False
        self._before_doubt = None
        self.have = have
        return have

    def _belief(self) -> Belief:
        count = self._geometry.piece_count
        if self._hashed is not None:
            return Belief(b"\x01" * count, self._hashed.stamps, self._hashed.at_ns)
        if self.have is not None:
            stamps = tuple(
                FileStamp(stamp.size, UNSETTLED) if stamp and number in self._spoilt else stamp
                for number, stamp in enumerate(self._seen)
            )
            return Belief(self.have.flags, stamps, None)
        if self._resume is not None:
            return remembered(self._resume, self._geometry)
        return Belief(bytes(count), None, None)

    def _expect(self, survey: ContentSurvey, belief: Belief) -> None:
        """Raises StorageError if something that must be there is not."""
        if self._insists:
            return
        due = _files_with(belief.have, self._geometry)
        if self._shared:
            due = _files_with(b"\x01" * self._geometry.piece_count, self._geometry)
        gone = [
            number
            for number, stamp in enumerate(survey.stamps)
            if stamp is None
            and number not in survey.odd
            and (number in due or self._storage.access[number] == OWN)
        ]
        if gone:
            raise self.lost(gone)
        if self._mount not in (None, survey.mount) and not any(survey.stamps):
            self._missing = ()
            raise StorageError(
                f"{self.path}: nothing is mounted at {self._mount}; goes on when it is back, "
                "recheck to download to that folder as it is",
                missing=True,
            )

    def lost(self, gone: Sequence[int]) -> StorageError:
        """What to say when these files are gone; `back` asks after them."""
        self._missing = gone
        what = str(self.path)
        if not self._metainfo.single:
            what += f": {self._names(gone)}"
        one = len(gone) == 1
        return StorageError(
            f"missing: {what}; goes on by itself when {'it is' if one else 'they are'} back, "
            + ("share to name another place" if self._shared else "recheck to fetch it again"),
            missing=True,
        )

    def _names(self, numbers: Sequence[int]) -> str:
        shown = ", ".join(
            "/".join(self._geometry.files[number].path) for number in numbers[:_SHOWN]
        )
        more = len(numbers) - _SHOWN
        return f"{shown} and {more} more" if more > 0 else shown

    async def back(self) -> bool:
        """Is what was missing there again? Cheap enough to be asked every few seconds."""
        if self._missing:
            return await self._pool.run(self._storage.present, self._missing)
        return self._mount in (None, await self._pool.run(self._storage.mounted_at))

    def insist(self) -> None:
        """The user wants all of it looked at, and what is gone to be fetched again."""
        self._insists = not self._shared
        self.doubt()

    def doubt(self) -> None:
        """Believe nothing any more: the next `establish` hashes everything."""
        self._before_doubt = self._before_doubt or self._belief()
        self.have = None
        self._resume = self._hashed = None

    # -- whose it is ----------------------------------------------------------------------------

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

    async def claim(self, pieces: Collection[int], empty: Collection[int] = ()) -> bool:
        """Take hold of the files these pieces lie in, and of those empty ones, so that they may be
        written. Call after `establish`, and again when more is wanted. True if the record has to
        know of it before anything is written. Raises StorageError when one of them is somebody
        else's; what was held before is still held then."""
        if self._shared:
            self.hold()
            return False
        async with self._claiming:
            wanted = _files_of(pieces, self._geometry) | set(empty)
            numbers = sorted(wanted - self._granted)
            noted = bool(numbers) and await self._take(numbers)
            self.overwrite = False
            return noted

    async def _take(self, numbers: Sequence[int]) -> bool:
        assert self.have is not None
        flags = bytes(self.have.flags)
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
                self._disown(foreign)
            self.hold()
            raise self._refusal(refused)
        for number in replaced:
            access[number] = OWN
        self._granted.update(numbers)
        if linked:
            for number in linked:
                for index in self._geometry.file_pieces(number):
                    self.have.discard(index)
            await self._pool.run(self._storage.delete, sorted(linked))
        return bool(replaced) or any(access[number] == NEW for number in numbers)

    def _disown(self, foreign: Sequence[int]) -> None:
        """These hold something else: nothing of them is believed. Before anything is exchanged."""
        assert self.have is not None
        for number in foreign:
            self._storage.access[number] = CLOSED
            self._spoilt.add(number)
            for index in self._geometry.file_pieces(number):
                self.have.discard(index)

    def _refusal(self, refused: dict[int, str]) -> StorageError:
        first = min(refused)
        path = self.path
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

    async def prepare(self, needed: int) -> None:
        """Make folders and empty files for a download of `needed` bytes. Raises StorageError."""
        if self._shared:
            return
        await self._pool.run(self._storage.create, needed + min(needed, self._scratch))
        now = await self._stamps()
        self._seen = tuple(
            old if file.length else new
            for file, old, new in zip(self._geometry.files, self._seen, now, strict=True)
        )

    def conclude(self) -> None:
        """Between two sessions nothing is written: what was not made is nobody's."""
        access = self._storage.access
        for number in self._granted:
            if access[number] == NEW:
                access[number] = CLOSED
        self._granted.clear()

    # -- changes --------------------------------------------------------------------------------

    @contextmanager
    def writing(self, indices: Sequence[int]) -> Iterator[None]:
        """Around our own writes of these pieces: whatever changes in their files is no surprise,
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
        now, ours = await self._stamps(), self._ours()
        self._seen = tuple(
            new if number in ours and new else old
            for number, (old, new) in enumerate(zip(self._seen, now, strict=True))
        )
        self._written.clear()

    async def look(self) -> StorageError | None:
        """What is wrong, if files changed or vanished behind our back since the last look."""
        async with self._looking:  # a look takes over what was written since the one before
            return await self._look()

    async def _look(self) -> StorageError | None:
        before, ours = self._seen, self._ours()
        self._written.clear()
        now = await self._stamps()
        ours |= self._ours()  # a write that fell between the two is ours, whichever saw it
        numbers = range(len(now))
        # Our own writes are no excuse for the absence of what must be there.
        gone = [n for n in numbers if now[n] is None and self._must_be_there(n)]
        changed = [n for n in numbers if before[n] != now[n] and n not in ours and now[n]]
        changed += [n for n in numbers if before[n] and not now[n] and n not in {*gone, *ours}]
        # What is missing is remembered as it was: it may come back so.
        absent = set(gone)
        self._seen = tuple(before[n] if n in absent else now[n] for n in numbers)
        self._spoilt.update(changed)
        if changed:
            return StorageError(
                f"changed on disk: {self._names(sorted(changed))}; recheck to go on"
            )
        return self.lost(gone) if gone else None

    def _must_be_there(self, number: int) -> bool:
        """Did we make it, or is anything of it had?"""
        file, have = self._geometry.files[number], self.have
        if file.pad or have is None:
            return False
        if self._storage.access[number] == OWN:
            return True
        return any(index in have for index in self._geometry.file_pieces(number))

    async def vouch(self) -> Vouched:
        """What a resume record may claim. The data is on the disk before anybody says so. Raises
        StorageError."""
        access = self._storage.access
        ownership = Vouched(
            made=bits_of(access.translate(_IS_OWN)),
            begun=bits_of(
                bytearray(
                    code == NEW or (code == FILL and begun)
                    for code, begun in zip(access, self._begun, strict=True)
                )
            ),
            filled=bits_of(
                bytearray(
                    code == FILL and not begun
                    for code, begun in zip(access, self._begun, strict=True)
                )
            ),
            mount=self._mount,
            overwrite=self.overwrite,
        )
        if self.have is None:
            old = self._resume
            if old is None:
                return ownership
            return replace(
                ownership,
                have=old.have,
                stamps=old.stamps,
                stamped_at=old.stamped_at,
                made=None if old.made is None else ownership.made,
            )
        have = self.have.to_wire()
        await self._pool.run(self._storage.sync)
        seen, now = self._seen, await self._stamps()
        ours = self._ours()
        at_ns = time.time_ns()
        there = tuple(
            old if new is None and self._must_be_there(number) else new
            for number, (old, new) in enumerate(zip(seen, now, strict=True))
        )
        # A file that somebody else changed, which nobody has noticed yet, is not vouched for.
        stamps = tuple(
            FileStamp(stamp.size, UNSETTLED)
            if stamp and ((stamp != old and number not in ours) or number in self._spoilt)
            else calm
            for number, (stamp, old, calm) in enumerate(
                zip(there, seen, settled(there, at_ns), strict=True)
            )
        )
        return replace(ownership, have=have, stamps=stamps, stamped_at=at_ns, final=stamps == there)

    async def delete(self) -> Removal:
        """Remove the files this torrent made, and the folders that leaves empty. What is not its
        own stays, and is told."""
        if self._shared:
            return Removal(left=(Left(str(self.path), "shared where it is"),), left_files=1)
        survey = await self._pool.run(self._storage.survey)
        if survey.place is None:
            others = {}
        else:
            others = self._owners.others(self._id, survey.place, self._storage.access)
        belief = self._before_doubt or self._belief()
        mine = [
            number
            for number, stamp in enumerate(survey.stamps)
            if stamp and number not in others and self._made(number)
        ]
        altered = await self._altered(mine, survey.stamps, belief)
        mine = [number for number in mine if number not in altered]
        left = []
        for number, stamp in enumerate(survey.stamps):
            if (stamp or number in survey.odd) and number not in mine:
                why = "this torrent did not make it"
                if number in altered:
                    why = "it changed since this torrent wrote it"
                elif number in others and self._made(number):
                    why = f"torrent {others[number]} has it as well"
                parts = () if self._metainfo.single else self._geometry.files[number].path
                left.append(Left(str(self.path.joinpath(*parts)), why))
        await self._pool.run(self._storage.delete, mine)
        return Removal(deleted=len(mine), left=tuple(left[:_LISTED]), left_files=len(left))

    def _made(self, number: int) -> bool:
        if self._storage.access[number] == OWN:
            return True
        # It was absent before, and all of it verifies: who else would have made it?
        have, pieces = self.have, self._geometry.file_pieces(number)
        return bool(self._begun[number] and have and pieces) and all(
            have is not None and index in have for index in pieces
        )

    async def _altered(self, numbers: Sequence[int], now: Stamps, belief: Belief) -> set[int]:
        """Which of these files somebody else has changed since we wrote them. Where the stamps do
        not tell, all that was had must still verify."""
        before, ours = belief.stamps, self._ours()
        doubtful = [
            number
            for number in numbers
            if self._geometry.files[number].length
            and (before is None or before[number] != now[number] or number in self._spoilt)
        ]
        due = {
            number: [i for i in self._geometry.file_pieces(number) if belief.have[i]]
            for number in doubtful
        }
        good = await self.disk.check({index for pieces in due.values() for index in pieces})
        altered = set()
        for number, pieces in due.items():
            old = before[number] if before else None
            same_size = old is not None and old._replace(mtime_ns=0) == (
                FileStamp(stamp.size, 0) if (stamp := now[number]) else None
            )
            unsure = old is not None and old.mtime_ns == UNSETTLED and same_size
            if not (good.issuperset(pieces) if pieces else unsure or number in ours):
                altered.add(number)
        return altered

    async def close(self) -> None:
        await self._pool.run(self._storage.close)

    def _ours(self) -> set[int]:
        """Files in which a change since `_seen` may be our own."""
        return self._written | self._writing.keys()

    async def _stamps(self) -> Stamps:
        return await self._pool.run(self._storage.stamps)


_IS_OWN = bytes(code == OWN for code in range(256))


def _files_of(pieces: Collection[int], geometry: Geometry) -> set[int]:
    """Files that have bytes on the disk in any of these pieces."""
    wanted = bytearray(geometry.piece_count)
    for index in pieces:
        wanted[index] = 1
    return set(_files_with(wanted, geometry))


def _files_with(pieces: bytes | bytearray, geometry: Geometry) -> frozenset[int]:
    """The same, of a byte for each piece, which is 1 for those that are meant."""
    found = []
    for number, file in enumerate(geometry.files):
        if file.length and not file.pad:
            lies_in = geometry.file_pieces(number)
            if pieces.find(1, lies_in.start, lies_in.stop) >= 0:
                found.append(number)
    return frozenset(found)


async def hash_content(
    disk: Disk,
    open_storage: OpenStorage,
    content: Path,
    *,
    piece_length: int | None = None,
    private: bool = False,
    progress: Callable[[int, int], None] | None = None,
    relief: Relief = no_relief,
) -> tuple[Metainfo, Hashed]:
    """Hash the user's own file or folder. Returns what it is as a torrent, and the files' stamps
    from before; cancelled, it ends between two pieces. `progress(bytes_done, bytes_total)` may be
    called from a worker thread; so is `relief`, when there is no descriptor to open a file with.
    Raises InputError when it cannot be read or is empty."""
    cancelled = False

    def hash_all() -> tuple[Metainfo, Hashed]:
        started = time.time_ns()
        metainfo = make(
            content,
            piece_length=piece_length,
            private=private,
            progress=progress,
            cancelled=lambda: cancelled,
            relief=relief,
        )
        # A file modified after the hashing began gets a stamp that never matches, so it will be
        # hashed again: what was read of it may have been either version.
        stamps = open_storage(metainfo, content, True).stamps()
        return metainfo, Hashed(settled(stamps, time.time_ns(), since=started), started)

    async def watch_for_cancel() -> None:
        nonlocal cancelled
        try:
            await trio.sleep_forever()
        finally:
            cancelled = True  # the thread looks at it between two pieces

    hashing: tuple[Metainfo, Hashed] | DhtTorrentError
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_for_cancel)
        try:
            hashing = await disk.run(hash_all)
        except DhtTorrentError as error:
            hashing = error  # raised outside, or the nursery would wrap it in a group
        nursery.cancel_scope.cancel()
    if isinstance(hashing, DhtTorrentError):
        raise hashing
    return hashing
