"""What may be believed of the files: our own writes are no surprise, everybody else's are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from trio.testing import MockClock

from dht_torrent.config import DiskConfig
from dht_torrent.engine.content import Content
from dht_torrent.engine.disk import Disk
from dht_torrent.engine.state import Resume
from dht_torrent.errors import StorageError
from dht_torrent.metainfo import Metainfo
from dht_torrent.storage import FileStamp, MemoryStorage
from tests.helpers.engine import Sample, sample

LONG_AGO = 10**9  # MemoryStorage counts changes where files have a time


class Watched(MemoryStorage):
    """Lets a test act in the middle of a look at the files, and counts what is read."""

    def __init__(self, metainfo: Metainfo) -> None:
        super().__init__(metainfo.geometry)
        self.before_stamps: Callable[[], None] | None = None
        self.reads = 0

    def stamps(self) -> tuple[FileStamp | None, ...]:
        if self.before_stamps is not None:
            act, self.before_stamps = self.before_stamps, None
            act()
        return tuple(
            stamp and FileStamp(stamp.size, LONG_AGO + stamp.mtime_ns) for stamp in super().stamps()
        )

    def read(self, offset: int, length: int) -> bytes:
        self.reads += 1
        return super().read(offset, length)


def nothing(done: int, total: int) -> None:
    """Progress is of no interest."""


class Place:
    def __init__(self, one: Sample, *, filled: bool = True) -> None:
        self.one = one
        self.storage = Watched(one.metainfo)
        if filled:
            self.storage.write(0, one.data)

    def content(
        self, *, shared: bool = False, resume: Resume | None = None, hashed: bool = False
    ) -> Content:
        return Content(
            Disk(DiskConfig(inline=True)),
            self.storage,
            self.one.metainfo,
            shared=shared,
            resume=resume,
            hashed=self.storage.stamps() if hashed else None,
        )


def record(one: Sample, have: bytes, stamps: tuple[FileStamp | None, ...] | None) -> Resume:
    metainfo = one.metainfo
    return Resume(
        info_hash=metainfo.info_hash,
        magnet=str(metainfo.magnet()),
        added_at=0.0,
        content=Path("memory"),
        shared=False,
        info=one.info,
        have=have,
        stamps=stamps,
        select=None,
        sequential=False,
        paused=False,
        downloaded=0,
        uploaded=0,
        wasted=0,
        completed_at=None,
        peers=(),
        banned=(),
    )


async def test_without_a_record_everything_is_hashed(autojump_clock: MockClock) -> None:
    place = Place(sample())
    content = place.content()
    have = await content.establish(nothing)
    assert have.complete
    assert place.storage.reads > 0


async def test_what_was_just_hashed_is_not_hashed_again(autojump_clock: MockClock) -> None:
    place = Place(sample())
    assert (await place.content(hashed=True).establish(nothing)).complete
    assert place.storage.reads == 0


async def test_a_record_whose_stamps_still_hold_is_believed(autojump_clock: MockClock) -> None:
    place = Place(sample())
    content = place.content()
    await content.establish(nothing)
    have, stamps, final = await content.vouch()
    assert (have, final) == (b"\xff", True)
    place.storage.reads = 0
    assert (await place.content(resume=record(place.one, have, stamps)).establish(nothing)).complete
    assert place.storage.reads == 0
    place.storage.write(3, b"?")
    again = await place.content(resume=record(place.one, have, stamps)).establish(nothing)
    assert list(again) == list(range(1, place.one.count))


async def test_a_change_that_nobody_has_noticed_yet_is_not_vouched_for(
    autojump_clock: MockClock,
) -> None:
    """The node stops between the change and its next look at the files: the record must not say
    that the changed file is the one that was verified."""
    place = Place(sample())
    content = place.content()
    await content.establish(nothing)
    place.storage.write(3, b"?")
    have, stamps, final = await content.vouch()
    assert not final
    again = await place.content(resume=record(place.one, have, stamps)).establish(nothing)
    assert 0 not in again
    assert again.count == place.one.count - 1


async def test_our_own_writes_are_vouched_for(autojump_clock: MockClock) -> None:
    place = Place(sample(), filled=False)
    content = place.content()
    have = await content.establish(nothing)
    await content.prepare(len(place.one.data))
    with content.writing([0]):
        place.storage.write(0, place.one.block(0, 0, place.one.piece_length))
    have.add(0)
    bits, stamps, final = await content.vouch()
    assert (bits, final) == (b"\x80", True)
    assert stamps == place.storage.stamps()


async def test_a_write_that_is_under_way_during_a_look_is_no_surprise(
    autojump_clock: MockClock,
) -> None:
    place = Place(sample(), filled=False)
    content = place.content()
    await content.establish(nothing)
    piece = place.one.block(2, 0, place.one.piece_length)
    half = len(piece) // 2
    with content.writing([2]):
        assert await content.changed_files() == []
        place.storage.before_stamps = lambda: place.storage.write(2 * len(piece), piece[:half])
        assert await content.changed_files() == []
        place.storage.write(2 * len(piece) + half, piece[half:])
        assert await content.changed_files() == []
        place.storage.write(2 * len(piece), piece)
    assert await content.changed_files() == []
    place.storage.write(0, b"?")
    assert await content.changed_files() == ["film.bin"]


async def test_somebody_elses_write_is_noticed_once_and_by_name(
    autojump_clock: MockClock,
) -> None:
    place = Place(sample())
    content = place.content()
    await content.establish(nothing)
    assert await content.changed_files() == []
    place.storage.write(0, b"?")
    assert await content.changed_files() == ["film.bin"]
    place.storage.delete()
    assert await content.changed_files() == ["film.bin"]


async def test_after_a_rest_only_what_changed_meanwhile_is_hashed(
    autojump_clock: MockClock,
) -> None:
    place = Place(sample())
    content = place.content()
    await content.establish(nothing)
    await content.rest()
    place.storage.reads = 0
    assert (await content.establish(nothing)).complete
    assert place.storage.reads == 0
    await content.rest()
    place.storage.write(0, b"?")
    assert not (await content.establish(nothing)).complete


async def test_shared_content_that_no_longer_matches_is_an_error(
    autojump_clock: MockClock,
) -> None:
    place = Place(sample())
    content = place.content(shared=True)
    await content.establish(nothing)
    content.doubt()
    place.storage.write(0, b"?")
    with pytest.raises(StorageError, match="1 of 8 pieces no longer match"):
        await content.establish(nothing)
    assert content.have is None
    place.storage.write(0, place.one.data[:1])
    assert (await content.establish(nothing)).complete


async def test_shared_content_is_never_deleted(autojump_clock: MockClock) -> None:
    place = Place(sample())
    content = place.content(shared=True)
    await content.establish(nothing)
    await content.delete()
    assert place.storage.read(0, len(place.one.data)) == place.one.data
