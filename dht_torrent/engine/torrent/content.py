"""What of one torrent is on disk, and what may be believed of it.

The rule: a piece is had only if it was hashed and nothing about its files has changed since
(`changes`). Nothing is written before it is settled whose each file is (`ownership`); and what was
verified once and is gone is waited for, never fetched again unasked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from dht_torrent.engine.resume import Resume
from dht_torrent.engine.torrent.changes import FileChanges, Stamps
from dht_torrent.engine.torrent.disk import Disk, TorrentDisk
from dht_torrent.engine.torrent.ownership import Ownership, files_with
from dht_torrent.engine.torrent.sharing import Hashed
from dht_torrent.engine.trust import UNSETTLED, Belief, remembered, trusted
from dht_torrent.engine.views import Left, Removal
from dht_torrent.errors import StorageError
from dht_torrent.metainfo import Metainfo
from dht_torrent.storage import FileStamp, Storage
from dht_torrent.storage.moving import Layout
from dht_torrent.storage.owners import FILL, KEEP, OWN, Owners
from dht_torrent.storage.protocol import ContentSurvey
from dht_torrent.torrent.memory import SLOTS
from dht_torrent.torrent.pieces import Bitfield

_SHOWN = 3
"""Files named in an error; how many more there are is said."""
_LISTED = 1000
"""Files named in what is said of a removal."""


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
        self._scratch = min(SLOTS * metainfo.geometry.piece_length, metainfo.geometry.total)
        if metainfo.geometry.piece_length <= max_piece_in_memory:
            self._scratch = 0
        self._pool = disk
        self._storage = storage
        self._metainfo = metainfo
        self._geometry = metainfo.geometry
        self._shared = shared
        self._resume = resume
        self._hashed = hashed
        self._insists = False
        """What is gone is not waited for: the user asked for a recheck."""
        self._before_doubt: Belief | None = None
        """What was believed until it was doubted: whose a file is does not depend on that."""
        self._carried: Belief | None = None
        """What was believed when the content lay elsewhere."""
        self._mount = resume.mount if resume else None
        self._missing: Sequence[int] = ()
        """Files that were found to be gone."""
        self._changes = FileChanges(disk, storage, metainfo.geometry)
        self._ownership = Ownership(
            disk,
            storage,
            metainfo,
            owners,
            self._changes,
            shared=shared,
            resume=resume,
            overwrite=overwrite,
        )

    @property
    def overwrite(self) -> bool:
        """Does the next `claim` take hold of files that hold something else, too?"""
        return self._ownership.overwrite

    @overwrite.setter
    def overwrite(self, overwrite: bool) -> None:
        self._ownership.overwrite = overwrite

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

    @property
    def expected(self) -> float:
        """The same, also of what is doubted now."""
        belief = self._before_doubt or self._belief()
        return belief.have.count(1) / self._geometry.piece_count

    # -- what is here ---------------------------------------------------------------------------

    async def establish(
        self, progress: Callable[[int, int], None], *, superseded: bool = False
    ) -> Bitfield:
        """Find out which pieces are here, hashing only what cannot be believed.

        `progress(pieces_done, pieces_total)`. Raises StorageError: with `missing` if what was
        verified or made is gone, else if shared content has changed. With `superseded`, shared
        content may have: what is left of it is here."""
        survey = await self._pool.run(self._storage.survey)
        self._ownership.located(survey)
        belief = self._belief()
        if not superseded:
            self._expect(survey, belief)
        trust = trusted(belief, survey.stamps, self._geometry, time.time_ns())
        have = Bitfield(self._geometry.piece_count, trust.trusted)
        if trust.recheck:
            for index in await self.disk.check(sorted(trust.recheck), progress=progress):
                have.add(index)
        if self._shared and not have.complete and not superseded:
            missing = self._geometry.piece_count - have.count
            self.doubt()
            raise StorageError(
                f"{self.path}: {missing} of {self._geometry.piece_count} pieces no longer match; "
                "share it again to share it as it is now"
            )
        if not self._shared:
            # Who wrote it may have been killed before it was flushed, and only the system knows it.
            self._storage.note_unflushed(trust.changed)
        known = files_with(belief.have, self._geometry).difference(belief.unflushed())
        self._ownership.found(survey, known, trust.changed)
        self._changes.begin(survey.stamps)
        self._mount = survey.mount
        self._resume = self._hashed = self._carried = None
        self._insists = False
        self._before_doubt = None
        self.have = have
        return have

    def take_over(self, other: Content) -> None:
        """It is the same content, which lay elsewhere: what was believed of it is."""
        self._carried = other._belief()
        self._before_doubt = other._before_doubt
        self._insists = other._insists

    def _belief(self) -> Belief:
        count = self._geometry.piece_count
        if self._hashed is not None:
            return Belief(b"\x01" * count, self._hashed.stamps, self._hashed.at_ns)
        if self.have is not None:
            stamps = tuple(
                FileStamp(stamp.size, UNSETTLED)
                if stamp and number in self._changes.spoilt
                else stamp
                for number, stamp in enumerate(self._changes.seen)
            )
            return Belief(self.have.flags, stamps, None)
        if self._carried is not None:
            return self._carried
        if self._resume is not None:
            return remembered(self._resume, self._geometry)
        return Belief(bytes(count), None, None)

    def _expect(self, survey: ContentSurvey, belief: Belief) -> None:
        """Raises StorageError if something that must be there is not."""
        if self._insists:
            return
        due = files_with(belief.have, self._geometry)
        if self._shared:
            due = files_with(b"\x01" * self._geometry.piece_count, self._geometry)
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
        self._resume = self._hashed = self._carried = None

    # -- whose it is ----------------------------------------------------------------------------

    def locate(self) -> None:
        """Blocking. Find out where the content lies, for `hold`. Raises StorageError."""
        self._ownership.locate()

    def hold(self) -> None:
        """Take hold of what the record says is ours, before anybody else does; after `locate`."""
        self._ownership.hold()

    def let_go(self) -> None:
        """Nothing here is this torrent's any more."""
        self._ownership.let_go()

    async def claim(self, pieces: Collection[int], empty: Collection[int] = ()) -> bool:
        """As `Ownership.claim`, after `establish`."""
        assert self.have is not None
        return await self._ownership.claim(self.have, pieces, empty)

    def conclude(self) -> None:
        """Between two sessions nothing is written: what was not made is nobody's."""
        self._ownership.conclude()

    async def prepare(self, needed: int) -> None:
        """Make folders and empty files for a download of `needed` bytes. Raises StorageError."""
        if self._shared:
            return
        await self._pool.run(self._storage.create, needed + min(needed, self._scratch))
        await self._changes.note_empty()

    # -- another place --------------------------------------------------------------------------

    @property
    def layout(self) -> Layout:
        """Raises StorageError if it is not in files."""
        layout = self._storage.layout
        if layout is None:
            raise StorageError("content that is not in files cannot be moved")
        return layout

    def held(self) -> list[int]:
        """The files that it may write to, or has adopted, there or not."""
        return [n for n, code in enumerate(self._storage.access) if code in (OWN, FILL, KEEP)]

    def other_within(self, path: Path) -> str | None:
        """Another torrent that has its place at this path, or below. Blocking."""
        return self._ownership.other_within(path)

    @property
    def in_files(self) -> bool:
        """It is on a disk, and not in memory."""
        return self._storage.layout is not None

    async def movable(self) -> list[int]:
        """The files that go when this content goes elsewhere. Raises StorageError: with `missing`
        if what should be here is not, else where others have some of them, too."""
        await self._pool.run(self._storage.close)
        survey = await self._pool.run(self._storage.survey)
        self._expect(survey, self._before_doubt or self._belief())
        others = self._ownership.others(survey)
        found = [number for number in self.held() if survey.stamps[number]]
        for number in found:
            if number in others:
                what = f"{self.path}: {self._names([number])}"
                raise StorageError(f"{what}: torrent {others[number]} has it as well")
        return found

    # -- changes --------------------------------------------------------------------------------

    def writing(self, indices: Sequence[int]) -> AbstractContextManager[None]:
        """See `FileChanges.writing`."""
        return self._changes.writing(indices)

    async def rest(self) -> None:
        """Between two sessions: remember the files as our own writes left them."""
        await self._changes.rest()

    async def look(self) -> StorageError | None:
        """What is wrong, if files changed or vanished behind our back since the last look."""
        changed, gone = await self._changes.look(self._must_be_there)
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
        """What a resume record may claim. What anybody will believe without a look is on the
        disk before. Raises StorageError."""
        ownership = Vouched(
            made=self._ownership.made_bits(),
            begun=self._ownership.begun_bits(),
            filled=self._ownership.filled_bits(),
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
        stamps, at_ns, final = await self._changes.vouch(self._must_be_there)
        # A file whose stamp proves nothing is hashed again, whatever a power cut leaves of it. What
        # is written from here on changes the stamps.
        believed = [n for n, stamp in enumerate(stamps) if stamp and stamp.mtime_ns != UNSETTLED]
        await self.flush(believed)
        return replace(ownership, have=have, stamps=stamps, stamped_at=at_ns, final=final)

    async def flush(self, files: Collection[int] | None = None) -> None:
        """Push to the disk what was written to these files; None is all. Raises StorageError."""
        try:
            await self._pool.run(self._storage.sync, files)
        except StorageError as error:
            if error.unflushed is not None:
                # The system says so once. What it could not keep it may give up, or take for kept.
                self._changes.spoilt.add(error.unflushed)
            raise

    async def delete(self) -> Removal:
        """Remove the files this torrent made, and the folders that leaves empty. What is not its
        own stays, and is told."""
        if self._shared:
            return Removal(left=(Left(str(self.path), "shared where it is"),), left_files=1)
        survey = await self._pool.run(self._storage.survey)
        others = self._ownership.others(survey)
        belief = self._before_doubt or self._belief()
        mine = [
            number
            for number, stamp in enumerate(survey.stamps)
            if stamp and number not in others and self._ownership.made(number, self.have)
        ]
        altered = await self._altered(mine, survey.stamps, belief)
        mine = [number for number in mine if number not in altered]
        left = []
        for number, stamp in enumerate(survey.stamps):
            if (stamp or number in survey.odd) and number not in mine:
                why = "this torrent did not make it"
                if number in altered:
                    why = "it changed since this torrent wrote it"
                elif number in others and self._ownership.made(number, self.have):
                    why = f"torrent {others[number]} has it as well"
                parts = () if self._metainfo.single else self._geometry.files[number].path
                left.append(Left(str(self.path.joinpath(*parts)), why))
        await self._pool.run(self._storage.delete, mine)
        return Removal(deleted=len(mine), left=tuple(left[:_LISTED]), left_files=len(left))

    async def _altered(self, numbers: Sequence[int], now: Stamps, belief: Belief) -> set[int]:
        """Which of these files somebody else has changed since we wrote them. Where the stamps do
        not tell, all that was had must still verify."""
        before, ours = belief.stamps, self._changes.ours()
        doubtful = [
            number
            for number in numbers
            if self._geometry.files[number].length
            and (before is None or before[number] != now[number] or number in self._changes.spoilt)
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
