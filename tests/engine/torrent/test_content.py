"""What may be believed of the files: our own writes are no surprise, everybody else's are."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from pathlib import Path

import pytest
from trio.testing import MockClock

from dht_torrent.config import DiskConfig
from dht_torrent.engine.resume import Resume
from dht_torrent.engine.torrent.content import Content, Vouched
from dht_torrent.engine.torrent.disk import Disk
from dht_torrent.engine.torrent.sharing import Hashed
from dht_torrent.errors import StorageError
from dht_torrent.metainfo import Metainfo
from dht_torrent.storage import FileStamp, MemoryStorage
from dht_torrent.storage.owners import OWN, Owners
from tests.helpers.engine import Sample, sample

LONG_AGO = 10**9  # MemoryStorage counts changes where files have a time


class Watched(MemoryStorage):
    """Lets a test act in the middle of a look at the files, and counts what is read."""

    def __init__(self, metainfo: Metainfo) -> None:
        super().__init__(metainfo.geometry)
        self.before_stamps: Callable[[], None] | None = None
        self.after_stamps: Callable[[], None] | None = None
        self.reads = 0
        self.unplugged = False
        """As if the disk it lies on were taken out."""

    def stamps(self) -> tuple[FileStamp | None, ...]:
        if self.before_stamps is not None:
            act, self.before_stamps = self.before_stamps, None
            act()
        if self.unplugged:
            return (None,) * len(self.access)
        found = super().stamps()
        if self.after_stamps is not None:
            act, self.after_stamps = self.after_stamps, None
            act()
        return tuple(stamp and FileStamp(stamp.size, LONG_AGO + stamp.mtime_ns) for stamp in found)

    def scribble(self, offset: int, data: bytes) -> None:
        """Somebody else writes there."""
        access = bytes(self.access)
        self.access[:] = bytes([OWN]) * len(access)
        self.write(offset, data)
        self.access[:] = access

    def read(self, offset: int, length: int) -> bytes:
        self.reads += 1
        return super().read(offset, length)


def nothing(done: int, total: int) -> None:
    """Progress is of no interest."""


class Place:
    def __init__(self, one: Sample, *, filled: bool = True) -> None:
        self.one = one
        self.owners = Owners()
        self.storage = Watched(one.metainfo)
        if filled:
            self.storage.write(0, one.data)

    max_piece_in_memory = 1 << 30

    def content(
        self, *, shared: bool = False, resume: Resume | None = None, hashed: bool = False
    ) -> Content:
        return Content(
            Disk(DiskConfig(inline=True)),
            self.storage,
            self.one.metainfo,
            self.owners,
            shared=shared,
            resume=resume,
            hashed=Hashed(self.storage.stamps(), 2 * LONG_AGO) if hashed else None,
            max_piece_in_memory=self.max_piece_in_memory,
        )


def record(one: Sample, vouched: Vouched) -> Resume:
    metainfo = one.metainfo
    return Resume(
        info_hash=metainfo.info_hash,
        magnet=str(metainfo.magnet()),
        added_at=0.0,
        content=Path("memory"),
        shared=False,
        info=one.info,
        have=vouched.have,
        stamps=vouched.stamps,
        stamped_at=vouched.stamped_at,
        made=vouched.made,
        begun=vouched.begun,
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
    vouched = await content.vouch()
    assert (vouched.have, vouched.final) == (b"\xff", True)
    place.storage.reads = 0
    assert (await place.content(resume=record(place.one, vouched)).establish(nothing)).complete
    assert place.storage.reads == 0
    place.storage.scribble(3, b"?")
    again = await place.content(resume=record(place.one, vouched)).establish(nothing)
    assert list(again) == list(range(1, place.one.count))


async def test_a_change_not_noticed_yet_is_not_vouched_for(
    autojump_clock: MockClock,
) -> None:
    """The node stops between the change and its next look at the files: the record must not say
    that the changed file is the one that was verified."""
    place = Place(sample())
    content = place.content()
    await content.establish(nothing)
    place.storage.scribble(3, b"?")
    vouched = await content.vouch()
    assert not vouched.final
    again = await place.content(resume=record(place.one, vouched)).establish(nothing)
    assert 0 not in again
    assert again.count == place.one.count - 1


async def test_our_own_writes_are_vouched_for(autojump_clock: MockClock) -> None:
    place = Place(sample(), filled=False)
    content = place.content()
    have = await content.establish(nothing)
    await content.claim(range(place.one.count))
    await content.prepare(len(place.one.data))
    with content.writing([0]):
        place.storage.write(0, place.one.block(0, 0, place.one.piece_length))
    have.add(0)
    vouched = await content.vouch()
    assert (vouched.have, vouched.final) == (b"\x80", True)
    assert vouched.stamps == place.storage.stamps()


async def test_what_a_record_relies_on_is_on_the_disk_and_nothing_else_waits_for_it(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, synced = Place(sample()), list[list[int]]()
    content = place.content()
    await content.establish(nothing)
    stamp, now = place.storage.stamps()[0], time.time_ns()
    assert stamp is not None
    monkeypatch.setattr(place.storage, "sync", lambda files: synced.append([*files]))
    for age, believed in [(0, []), (1_900_000_000, []), (60_000_000_000, [0])]:
        with content.writing([0]):  # so that nobody else's change is seen in it
            stamps = (stamp._replace(mtime_ns=now - age),)
            monkeypatch.setattr(place.storage, "stamps", lambda stamps=stamps: stamps)
        vouched = await content.vouch()
        assert synced.pop() == believed
        assert not synced
        assert vouched.final is bool(believed)
        assert (vouched.stamps == stamps) is bool(believed)


@pytest.mark.parametrize("moves", [False, True])
async def test_what_the_disk_could_not_keep_is_not_believed_without_a_look(
    moves: bool, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system says so once: the next flush succeeds, whatever became of the bytes."""
    one = sample()
    place = Place(one)
    content = place.content()
    await content.establish(nothing)
    with monkeypatch.context() as patch:
        patch.setattr(place.storage, "sync", failing_sync)
        with pytest.raises(StorageError, match="I/O"):
            await (content.flush() if moves else content.vouch())
    place.storage._data[0] ^= 1  # it is as if it had not been written, and no stamp shows that
    later = place.content(resume=record(one, await content.vouch()))
    assert 0 not in await later.establish(nothing)
    assert 0 not in await content.establish(nothing)
    vouched = await content.vouch()
    assert vouched.have[0] & 0x80 == 0
    assert vouched.final


def failing_sync(files: Collection[int] | None) -> None:
    error = StorageError("I/O")
    error.unflushed = 0
    raise error


async def test_a_write_that_is_under_way_during_a_look_is_not_a_surprise(
    autojump_clock: MockClock,
) -> None:
    place = Place(sample(), filled=False)
    content = place.content()
    await content.establish(nothing)
    await content.claim(range(place.one.count))
    piece = place.one.block(2, 0, place.one.piece_length)
    half = len(piece) // 2
    with content.writing([2]):
        assert await content.look() is None
        place.storage.before_stamps = lambda: place.storage.write(2 * len(piece), piece[:half])
        assert await content.look() is None
        place.storage.write(2 * len(piece) + half, piece[half:])
        assert await content.look() is None
        place.storage.write(2 * len(piece), piece)
    assert await content.look() is None
    place.storage.scribble(0, b"?")
    assert str(await content.look()) == "changed on disk: film.bin; recheck to go on"


async def test_a_file_that_is_made_during_a_look_is_not_missed(autojump_clock: MockClock) -> None:
    place = Place(sample(), filled=False)
    content = place.content()
    await content.establish(nothing)
    await content.claim(range(place.one.count))
    piece = place.one.block(2, 0, place.one.piece_length)
    with content.writing([2]):
        place.storage.after_stamps = lambda: place.storage.write(2 * len(piece), piece)
        assert await content.look() is None
    assert place.storage.access[0] == OWN
    assert await content.look() is None
    place.storage.unplugged = True
    error = await content.look()
    assert error is not None
    assert error.missing


async def test_another_torrents_write_is_noticed_once_and_by_name(
    autojump_clock: MockClock,
) -> None:
    place = Place(sample())
    content = place.content()
    await content.establish(nothing)
    assert await content.look() is None
    place.storage.scribble(0, b"?")
    assert str(await content.look()) == "changed on disk: film.bin; recheck to go on"
    assert await content.look() is None
    place.storage.delete([0])
    error = await content.look()
    assert error is not None
    assert error.missing
    assert str(error).startswith("missing: memory; goes on by itself")


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
    place.storage.scribble(0, b"?")
    assert not (await content.establish(nothing)).complete


async def test_a_change_just_before_a_rest_is_not_taken_for_ours(
    autojump_clock: MockClock,
) -> None:
    place = Place(sample())
    content = place.content()
    await content.establish(nothing)
    place.storage.scribble(0, b"?")
    await content.rest()
    assert 0 not in await content.establish(nothing)


async def test_what_comes_back_as_it_was_need_not_be_hashed_even_after_a_restart(
    autojump_clock: MockClock,
) -> None:
    place = Place(sample())
    content = place.content()
    await content.establish(nothing)
    place.storage.unplugged = True
    error = await content.look()
    assert error is not None
    assert error.missing
    vouched = await content.vouch()
    assert vouched.final
    again = place.content(resume=record(place.one, vouched))
    with pytest.raises(StorageError, match="missing"):
        await again.establish(nothing)
    vouched = await again.vouch()  # what was never looked at is remembered as it was
    place.storage.unplugged = False
    place.storage.reads = 0
    for one in (content, again, place.content(resume=record(place.one, vouched))):
        assert (await one.establish(nothing)).complete
    assert place.storage.reads == 0


async def test_shared_content_that_no_longer_matches_is_an_error(
    autojump_clock: MockClock,
) -> None:
    place = Place(sample())
    content = place.content(shared=True)
    await content.establish(nothing)
    content.doubt()
    place.storage.scribble(0, b"?")
    with pytest.raises(StorageError, match="1 of 8 pieces no longer match"):
        await content.establish(nothing)
    assert content.have is None
    place.storage.scribble(0, place.one.data[:1])
    assert (await content.establish(nothing)).complete


async def test_shared_content_is_never_deleted(autojump_clock: MockClock) -> None:
    place = Place(sample())
    content = place.content(shared=True)
    await content.establish(nothing)
    await content.delete()
    assert place.storage.read(0, len(place.one.data)) == place.one.data
