"""Content on the disk: in its own files, whole or not believed."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, NoReturn

import pytest

from dht_torrent.config import DiskConfig
from dht_torrent.errors import StorageError
from dht_torrent.storage import FileStorage, files
from dht_torrent.storage.descriptors import Descriptors, Files, OpenFile
from dht_torrent.storage.owners import KEEP, NEW, OWN
from dht_torrent.syscalls import UNSUPPORTED
from tests.helpers.content import read_tree
from tests.helpers.storages import ALBUM, CONTENT, opened, quickly, single


def test_files_hold_exactly_their_part(tmp_path: Path) -> None:
    storage = opened(tmp_path, ALBUM)
    storage.create()
    storage.write(0, CONTENT)
    storage.sync()
    storage.close()
    assert storage.path == tmp_path / "album"
    assert read_tree(tmp_path) == {
        "album/a": CONTENT[:10],
        "album/b/c": CONTENT[10:20010],
        "album/b/empty": b"",
        "album/b/d/e": CONTENT[20010:20015],
        "album/f": CONTENT[20015:],
    }


def test_a_single_file_lies_in_the_root_under_its_name(tmp_path: Path) -> None:
    storage = opened(tmp_path / "new" / "folder", single(100))
    storage.create()
    storage.write(0, b"x" * 100)
    storage.close()
    assert read_tree(tmp_path) == {"new/folder/film.bin": b"x" * 100}


def test_content_can_be_used_where_it_is_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "holiday.mp4").write_bytes(b"y" * 100)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "holiday.mp4")
    for path in (tmp_path / "real" / "holiday.mp4", tmp_path / "link"):
        storage = FileStorage(tmp_path, single(100), DiskConfig(), content=path, writable=False)
        assert storage.read(0, 100) == b"y" * 100
        assert storage.path == tmp_path / "real" / "holiday.mp4"
        storage.close()


def test_a_shared_folder_is_never_written_to(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    storage = FileStorage(tmp_path, ALBUM, DiskConfig(), content=tmp_path / "mine", writable=False)
    with pytest.raises(StorageError, match="never written"):
        storage.write(0, b"x")
    with pytest.raises(StorageError, match="never written"):
        storage.create()
    assert read_tree(tmp_path) == {}


def test_a_file_that_is_too_long_does_not_give_its_end_until_that_is_written(
    tmp_path: Path,
) -> None:
    (tmp_path / "film.bin").write_bytes(b"x" * 120)
    storage = opened(tmp_path, single(100))
    storage.access[0] = OWN
    assert storage.read(0, 99) == b"x" * 99
    with pytest.raises(StorageError, match="longer"):
        storage.read(50, 50)
    assert quickly(storage, 50, 50) is None
    storage.write(50, b"y" * 50)
    assert read_tree(tmp_path) == {"film.bin": b"x" * 50 + b"y" * 50}
    storage.close()


# -- trouble -------------------------------------------------------------------------------------


def test_content_that_cannot_fit_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 10 * 4096
    fields = (4096, 4096, 90, 10, 10, 0, 0, 0, 0, 255)
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(fields))
    storage = opened(tmp_path, ALBUM)
    with pytest.raises(StorageError, match=f"60015 bytes are needed and {free} are free") as caught:
        storage.create()
    assert caught.value.disk_full
    assert list(tmp_path.iterdir()) == []
    storage.create(needed=1000)
    storage.write(20015, CONTENT[20015:])
    storage.create()  # what is there already needs no more space
    storage.close()


def test_content_is_begun_where_free_space_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = (512, 0, 0, 0, 0, 0, 0, 0, 0, 255)  # what FUSE says for a file system that does not
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(fields))
    storage = opened(tmp_path, ALBUM)
    storage.create()
    assert (tmp_path / "album").is_dir()
    storage.close()


@pytest.mark.parametrize(
    ("code", "full"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EIO, False)]
)
def test_a_failing_write_names_the_file_and_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, full: bool
) -> None:
    def fails(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "pwrite", fails)
    storage = opened(tmp_path, ALBUM)
    with pytest.raises(StorageError) as caught:
        storage.write(15, b"x")
    assert str(caught.value) == f"{tmp_path}/album/b/c: {os.strerror(code)}"
    assert caught.value.disk_full is full
    storage.close()


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: whole(fd, data[:7], at))
    storage = opened(tmp_path, single(100))
    storage.write(0, CONTENT[:100])
    assert storage.read(0, 100) == CONTENT[:100]
    storage.close()


def test_a_write_to_a_deleted_file_is_not_believed(tmp_path: Path) -> None:
    storage = opened(tmp_path, single(100))
    storage.write(0, b"x" * 50)
    (tmp_path / "film.bin").unlink()
    with pytest.raises(StorageError, match="deleted"):
        storage.write(50, b"x" * 50)
    with pytest.raises(StorageError, match="missing") as caught:
        storage.write(50, b"x" * 50)  # it is not made anew behind the owner's back
    assert caught.value.missing
    storage.access[0] = NEW  # now it is
    storage.write(0, b"x" * 100)
    assert storage.read(0, 100) == b"x" * 100
    storage.close()


def test_a_failed_sync_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = opened(tmp_path, single(100))
    storage.write(0, b"x" * 100)
    synced: list[int] = []

    def fails_once(fd: int) -> None:
        synced.append(fd)
        if len(synced) == 1:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("dht_torrent.syscalls._fdatasync", fails_once)
    with pytest.raises(StorageError, match="Input/output"):
        storage.sync()
    storage.sync()
    storage.sync()
    assert len(synced) == 2
    storage.close()


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system cannot be asked to")
def test_what_could_not_be_synced_is_read_from_the_disk_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = opened(tmp_path, single(100))
    storage.write(0, b"x" * 100)
    advised: list[tuple[int, int, int]] = []
    monkeypatch.setattr("dht_torrent.syscalls._fdatasync", refusing(errno.EIO, []))
    monkeypatch.setattr("dht_torrent.syscalls._advise", lambda fd, *rest: advised.append(rest))
    with pytest.raises(StorageError) as failed:
        storage.sync()
    assert failed.value.unflushed == 0
    assert advised == [(0, 0, os.POSIX_FADV_DONTNEED)]
    monkeypatch.setattr("dht_torrent.syscalls._advise", refusing(errno.EINVAL, []))
    with pytest.raises(StorageError, match="Input/output"):
        storage.sync()
    storage.close()


def test_a_file_that_cannot_be_opened_to_be_synced_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = opened(tmp_path, single(100))
    storage.write(0, b"x" * 100)
    monkeypatch.setattr("dht_torrent.syscalls._fdatasync", refusing(errno.EMFILE, []))
    with pytest.raises(StorageError) as failed:
        storage.sync()
    assert failed.value.unflushed is None
    storage.close()


def test_what_was_not_to_be_synced_is_when_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = opened(tmp_path, ALBUM)
    storage.write(0, CONTENT)
    synced: list[int] = []
    monkeypatch.setattr(
        "dht_torrent.syscalls._fdatasync", lambda fd: synced.append(os.fstat(fd).st_ino)
    )
    stamps = storage.stamps()
    numbers = [n for n, stamp in enumerate(stamps) if stamp and stamp.size]
    assert len(numbers) > 1
    for wanted, count in [((), 0), (numbers[1:2], 1), (numbers[1:2], 1), (None, len(numbers))]:
        storage.sync(wanted)
        assert len(set(synced)) == len(synced) == count
    storage.note_unflushed(numbers[1:2])  # by another process, say
    storage.sync()
    assert len(synced) == count + 1
    assert synced.count(synced[0]) == 2
    storage.close()


def test_a_deleted_file_does_not_stop_the_others_from_syncing(tmp_path: Path) -> None:
    storage = opened(tmp_path, ALBUM)
    storage.write(0, CONTENT)
    (tmp_path / "album" / "a").unlink()
    storage.stamps()
    storage.sync()
    assert storage.stamps()[0] is None
    storage.close()


# -- what a system may not have ------------------------------------------------------------------


def refusing(code: int, calls: list[int]) -> Any:
    def fails(*_: object) -> NoReturn:
        calls.append(code)
        raise OSError(code, os.strerror(code)) if code else NotImplementedError

    return fails


@pytest.mark.parametrize("code", [0, *sorted(UNSUPPORTED)])
def test_reads_that_must_not_wait_are_given_up_where_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    storage = opened(tmp_path, single(100))
    storage.write(0, CONTENT[:100])
    calls: list[int] = []
    monkeypatch.setattr(os, "preadv", refusing(code, calls))
    monkeypatch.setattr(files, "is_in_memory", lambda device: False)
    for _ in range(3):
        assert quickly(storage, 0, 100) is None
    assert calls == [code]
    storage.close()


@pytest.mark.parametrize("plain", [True, False])
def test_where_files_are_in_memory_reads_need_no_flag_in_order_not_to_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: bool
) -> None:
    flag = 8
    monkeypatch.setattr(files, "_NOWAIT", flag)
    storage = opened(tmp_path, ALBUM)
    storage.write(0, CONTENT)
    asked: list[int] = []
    devices: list[int] = []
    preadv = os.preadv

    def like_tmpfs(fd: int, buffers: Any, offset: int, flags: int = 0) -> int:
        asked.append(flags)
        if flags or not plain:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return preadv(fd, buffers, offset)

    def in_memory(device: int) -> bool:
        devices.append(device)
        return True

    monkeypatch.setattr(os, "preadv", like_tmpfs)
    monkeypatch.setattr(files, "is_in_memory", in_memory)
    expected = [None, CONTENT[10:110], CONTENT[10:110]] if plain else [None] * 3
    assert [quickly(storage, 10, 100) for _ in range(3)] == expected
    assert asked == ([flag, 0, 0] if plain else [flag, 0])
    if plain:
        assert [quickly(storage, 20015, 9) for _ in range(2)] == [None, CONTENT[20015:20024]]
        assert asked[3:] == [flag, 0]
    assert devices == [tmp_path.stat().st_dev]  # looked up once
    storage.close()


def test_a_read_that_would_wait_is_tried_again_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = opened(tmp_path, single(100))
    storage.write(0, CONTENT[:100])
    calls: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", refusing(errno.EAGAIN, calls))
        assert [quickly(storage, 0, 100) for _ in range(2)] == [None, None]
    assert calls == [errno.EAGAIN] * 2
    # Whether a temporary folder's file system can, is not for us to say.
    assert quickly(storage, 0, 100) in (None, CONTENT[:100])
    storage.close()


@pytest.mark.parametrize("refused", [(3,), (4,), (3, 4)])  # SEEK_DATA, SEEK_HOLE
@pytest.mark.parametrize("code", sorted(UNSUPPORTED))
def test_where_holes_cannot_be_seen_a_file_is_all_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: tuple[int, ...], code: int
) -> None:
    seek = os.lseek

    def may_seek(fd: int, position: int, how: int) -> int:
        if how in refused:
            raise OSError(code, os.strerror(code))
        return seek(fd, position, how)

    length = 8 << 20
    storage = opened(tmp_path, single(length))
    storage.write(4 << 20, b"x" * 4096)
    monkeypatch.setattr(os, "lseek", may_seek)
    start, end = storage.next_data(0, length)
    assert start in (0, 4 << 20)
    assert end == length
    assert storage.next_data(5 << 20, length) == (
        (length, length) if refused == (4,) else (5 << 20, length)
    )
    storage.close()


@pytest.mark.parametrize("code", sorted(UNSUPPORTED))
def test_a_file_system_without_sync_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    calls: list[int] = []
    monkeypatch.setattr("dht_torrent.syscalls._fdatasync", refusing(code, calls))
    monkeypatch.setattr(os, "fsync", refusing(code, calls))
    storage = opened(tmp_path, single(100))
    storage.write(0, b"x" * 100)
    storage.sync()
    assert calls == [code] * 2
    storage.close()


# -- stamps, delete ------------------------------------------------------------------------------


def test_stamps_tell_of_changes_behind_our_back(tmp_path: Path) -> None:
    storage = opened(tmp_path, ALBUM)
    assert storage.stamps() == (None,) * 5
    storage.create()
    storage.write(0, CONTENT)
    before = storage.stamps()
    assert [stamp and stamp.size for stamp in before] == [10, 20000, 0, 5, 40000]
    (tmp_path / "album" / "a").unlink()
    os.truncate(tmp_path / "album" / "b" / "c", 100)
    os.utime(tmp_path / "album" / "f", ns=(1, 1))
    after = storage.stamps()
    assert [old == new for old, new in zip(before, after, strict=True)] == [
        False,
        False,
        True,
        True,
        False,
    ]
    with pytest.raises(StorageError):  # stamps() found the descriptor stale, and dropped it
        storage.read(0, 10)
    storage.close()


def test_delete_takes_our_files_and_empty_folders_only(tmp_path: Path) -> None:
    storage = opened(tmp_path, ALBUM)
    storage.create()
    storage.write(0, CONTENT)
    (tmp_path / "album" / "b" / "notes.txt").write_text("mine")
    (tmp_path / "other").mkdir()
    storage.delete(range(len(storage.access)))
    assert read_tree(tmp_path) == {"album/b/notes.txt": b"mine"}
    assert not (tmp_path / "album" / "b" / "d").exists()
    (tmp_path / "album" / "b" / "notes.txt").unlink()
    storage.delete(range(len(storage.access)))
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_folders_made_for_files_that_never_came_are_deleted_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "album").mkdir()  # the user's, though empty
    storage = opened(tmp_path, ALBUM)
    folder = storage._folder
    os.close(folder.open_folder(("album", "b", "d"), create=True))
    storage.delete([])
    assert list(tmp_path.rglob("*")) == [tmp_path / "album"]


def test_a_batch_opens_and_looks_at_each_file_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    looks: list[int] = []
    fstat = os.fstat

    class Counting(Descriptors):
        def take(self, owner: Files, index: int, *, write: bool) -> OpenFile | None:
            taken.append(index)
            return super().take(owner, index, write=write)

    storage = FileStorage(tmp_path, ALBUM, DiskConfig(), descriptors=Counting(4))
    storage.write(0, CONTENT)

    def look(fd: int) -> os.stat_result:
        looks.append(fd)
        return fstat(fd)

    monkeypatch.setattr(os, "fstat", look)
    taken.clear()
    step = 5000
    starts = range(0, len(CONTENT), step)
    count, error = storage.write_many([(at, CONTENT[at : at + step]) for at in starts])
    assert (count, error) == (len(starts), None)
    assert taken == [0, 1, 3, 4]
    assert len(looks) == 4
    storage.close()


@pytest.mark.parametrize("gone", ["a", "b/c", "f"])
def test_a_batch_does_not_count_what_went_to_a_deleted_file(tmp_path: Path, gone: str) -> None:
    storage = opened(tmp_path, ALBUM)
    storage.write(0, CONTENT)
    (tmp_path / "album" / gone).unlink()
    parts = [(0, CONTENT[:10]), (10, b"x" * 90), (100, b"y" * 100), (20015, b"z"), (20016, b"z")]
    count, error = storage.write_many(parts)
    assert count == {"a": 0, "b/c": 1, "f": 3}[gone]
    assert error is not None
    assert "deleted while in use" in str(error)
    assert gone in str(error)
    # What is deleted is not made again unasked; and what is there holds what was counted.
    with pytest.raises(StorageError, match="missing"):
        storage.write(*parts[count])
    if gone == "f":
        assert storage.read(0, 200) == CONTENT[:10] + b"x" * 90 + b"y" * 100
    storage.close()


def test_a_batch_whose_write_fails_halfway_counts_and_syncs_what_was_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = opened(tmp_path, single(100))
    pwrite = os.pwrite
    flushed: list[int] = []

    def full(fd: int, data: Any, offset: int) -> int:
        if offset >= 60:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(fd, data[:7], offset)  # short, as the last before a full disk may be

    monkeypatch.setattr(os, "pwrite", full)
    monkeypatch.setattr("dht_torrent.storage.files.flush", flushed.append)
    parts = [(0, b"a" * 30), (30, b"b" * 20), (50, b"c" * 20), (70, b"d" * 10)]
    count, error = storage.write_many(parts)
    assert count == 2
    assert error is not None
    assert error.disk_full
    assert "film.bin" in str(error)
    assert storage.read(0, 50) == b"a" * 30 + b"b" * 20
    storage.sync()
    assert len(flushed) == 1
    storage.close()


def test_a_batch_brings_a_file_that_grew_back_to_its_length(tmp_path: Path) -> None:
    storage = opened(tmp_path, ALBUM)
    storage.write(0, CONTENT)
    for name in ("b/c", "f"):
        with (tmp_path / "album" / name).open("ab") as file:
            file.write(b"more")
    # The end of one file, and then its start; of the other no more than the start.
    parts = [(19000, CONTENT[19000:20010]), (10, CONTENT[10:20]), (20015, CONTENT[20015:20020])]
    assert storage.write_many(parts) == (3, None)
    storage.close()
    assert read_tree(tmp_path)["album/b/c"] == CONTENT[10:20010]
    assert read_tree(tmp_path)["album/f"] == CONTENT[20015:] + b"more"


@pytest.mark.parametrize("deleted", [False, True])
def test_a_write_that_fails_does_not_hide_what_is_wrong_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deleted: bool
) -> None:
    storage = opened(tmp_path, single(100))
    storage.write(0, b"x" * 100)
    if deleted:
        (tmp_path / "film.bin").unlink()
    else:
        with (tmp_path / "film.bin").open("ab") as file:
            file.write(b"more")
    pwrite = os.pwrite

    def full(fd: int, data: Any, offset: int) -> int:
        if offset == 50:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    count, error = storage.write_many([(0, b"a" * 50), (50, b"b" * 50)])
    assert error is not None
    if deleted:
        assert count == 0
        assert "deleted while in use" in str(error)
    else:  # it is brought back to its length by what is written to its end, and only by that
        assert count == 1
        assert error.disk_full
        assert (tmp_path / "film.bin").read_bytes() == b"a" * 50 + b"x" * 50 + b"more"
    storage.close()


def test_a_file_that_is_kept_is_not_opened_to_be_written(tmp_path: Path) -> None:
    asked: list[bool] = []

    class Noting(Descriptors):
        def take(self, owner: Files, index: int, *, write: bool) -> OpenFile | None:
            asked.append(write)
            return super().take(owner, index, write=write)

    storage = FileStorage(tmp_path, single(100), DiskConfig(), descriptors=Noting(4))
    storage.write(0, b"x" * 100)
    storage.access[0] = KEEP
    assert storage.write_many([(0, b"x" * 50), (50, b"x" * 50)]) == (2, None)
    assert asked == [True, False]
    storage.close()
