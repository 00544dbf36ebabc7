"""What a resume record is worth today. The rule: a piece is believed to be on disk without hashing
it only if no file it lies in can have changed since it was verified.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import NamedTuple

from dht_torrent.engine.resume import Resume
from dht_torrent.geometry import Geometry, bitfield_size
from dht_torrent.storage import FileStamp

UNSETTLED = -(2**63)
"""The time of a stamp that proves nothing, in nanoseconds. No file has it."""


def settled(
    stamps: Sequence[FileStamp | None],
    now_ns: int,
    settle: float = 2.0,
    *,
    since: int | None = None,
) -> tuple[FileStamp | None, ...]:
    """`stamps` fit to be recorded at `now_ns` (Unix time in nanoseconds).

    A file modified less than `settle` seconds ago could change again without its time changing
    (FAT counts in two seconds), as git knows of its index. Such a stamp gets the time `UNSETTLED`,
    and never matches again: the file's pieces will be hashed. The same holds of files that were
    modified after `since`, if given. A time in the future does not count: whatever writes to the
    file now gives it the present one, and when the clock comes there, `trusted` knows.
    """
    step = round(settle * 1e9)
    oldest = now_ns - step if since is None else since
    return tuple(
        FileStamp(stamp.size, UNSETTLED)
        if stamp is not None and oldest < stamp.mtime_ns <= now_ns + step
        else stamp
        for stamp in stamps
    )


class Trust(NamedTuple):
    """What a record is worth today. A piece in neither set is known to be missing."""

    trusted: set[int]
    recheck: set[int]
    changed: set[int]
    """Files that may not be what they were."""


class Belief(NamedTuple):
    """What was true of some content, and when."""

    have: bytes | bytearray
    """A byte for each piece, 1 if it was verified."""
    stamps: Sequence[FileStamp | None] | None
    """The files then; None if that is not known."""
    stamped_at: int | None
    """Unix nanoseconds; None where it is not known, and no time was in the future then."""

    def unflushed(self) -> set[int]:
        """The files of which, if this is a record, a power cut may have left anything: they were
        being written, and nobody waited for the disk."""
        if self.stamps is None or self.stamped_at is None:
            return set()
        stamps = enumerate(self.stamps)
        return {number for number, stamp in stamps if stamp and stamp.mtime_ns == UNSETTLED}


def remembered(resume: Resume, geometry: Geometry) -> Belief:
    """What a record says; nothing if it does not fit the torrent."""
    count, bits, stamps = geometry.piece_count, resume.have, resume.stamps
    if stamps is None or len(stamps) != len(geometry.files) or len(bits) != bitfield_size(count):
        return Belief(bytes(count), None, None)
    if resume.stamped_at is None:  # older versions wrote 0 where we write UNSETTLED
        stamps = tuple(
            FileStamp(stamp.size, UNSETTLED) if stamp and not stamp.mtime_ns else stamp
            for stamp in stamps
        )
    return Belief(flags_of(bits, count), stamps, resume.stamped_at)


def flags_of(bits: bytes, count: int) -> bytearray:
    """A byte for each of `count` bits, the first one the highest; what is not there is 0."""
    # A leading 1 keeps the zeros in front when the number is written in binary.
    digits = bin(int.from_bytes(bits, "big") | 1 << 8 * len(bits))[3:]
    return bytearray(digits[:count].ljust(count, "0"), "ascii").translate(_FLAGS_OF_DIGITS)


def bits_of(flags: bytes | bytearray) -> bytes:
    """The inverse of `flags_of`, for flags of 0 and 1."""
    if not flags:
        return b""
    digits = flags.translate(_DIGITS) + b"0" * (-len(flags) % 8)
    return int(digits, 2).to_bytes(len(digits) // 8, "big")


_DIGITS = bytes.maketrans(b"\x00\x01", b"01")


_FLAGS_OF_DIGITS = bytes.maketrans(b"01", b"\x00\x01")


def trusted(
    belief: Belief,
    stamps_now: Sequence[FileStamp | None],
    geometry: Geometry,
    now_ns: int,
    settle: float = 2.0,
) -> Trust:
    """Compare the files with what is believed, at the time `now_ns`.

    A piece is trusted if it is claimed and no file it lies in differs. In a file that differs every
    piece is to be checked, claimed or not: it may have been written after the record was.
    """
    files = geometry.files
    count = geometry.piece_count
    absent: set[int] = set()
    for index, (file, now) in enumerate(zip(files, stamps_now, strict=True)):
        if now is None and file.length and not file.pad:
            absent.update(geometry.file_pieces(index))
    before, taken = belief.stamps, belief.stamped_at
    if before is None:
        return Trust(set(), set(range(count)) - absent, set(range(len(files))))
    step = round(settle * 1e9)
    recheck: set[int] = set()
    changed: set[int] = set()
    for index, (file, old, now) in enumerate(zip(files, before, stamps_now, strict=True)):
        if (
            old == now
            and (now is None or now.mtime_ns != UNSETTLED)
            # A time that was in the future then and is not now: a write in that very moment left
            # no trace. Any other one did.
            and not (now and taken is not None and taken < now.mtime_ns <= now_ns + step)
        ):
            continue
        changed.add(index)
        if now is not None and file.length:
            recheck.update(geometry.file_pieces(index))
    claimed = set(compress(range(count), belief.have))
    return Trust(claimed - recheck - absent, recheck - absent, changed)
