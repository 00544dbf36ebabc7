"""What was not flushed is lost when the power goes. None of it is believed without a look, and the
download goes on."""

from __future__ import annotations

import time
from collections.abc import Collection

import pytest
from trio.testing import MockClock

from dht_torrent.engine.torrent.content import Content, Vouched
from dht_torrent.errors import StorageError
from dht_torrent.metainfo import Metainfo
from dht_torrent.storage import FileStamp
from dht_torrent.storage.owners import FILL, OWN
from tests.engine.torrent.test_content import Place, Watched, nothing, record
from tests.helpers.engine import sample


class Forgetful(Watched):
    """One file on a disk that gets what is written when it is flushed; its size and its time get
    there by themselves, as where only metadata has a journal."""

    def __init__(self, metainfo: Metainfo) -> None:
        super().__init__(metainfo)
        self.on_disk = bytes(len(self._data))
        self.unflushed = False
        self.written_at = time.time_ns() - 60 * 10**9

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        super().write(offset, data)
        self.unflushed = True

    def note_unflushed(self, files: Collection[int]) -> None:
        self.unflushed = self.unflushed or 0 in files

    def sync(self, files: Collection[int] | None = None) -> None:
        if self.unflushed and (files is None or 0 in files):
            self.on_disk = bytes(self._data)
            self.unflushed = False

    def stamps(self) -> tuple[FileStamp | None, ...]:
        (change,), (size,) = self._changes, self._sizes
        return (FileStamp(size, self.written_at + change) if size is not None else None,)


class Cut(Place):
    """A download on such a disk, of which half is written and nothing flushed."""

    def __init__(self) -> None:
        super().__init__(sample(), filled=False)
        self.storage = self.disk = Forgetful(self.one.metainfo)

    async def begun(self) -> Content:
        content = self.content()
        await content.establish(nothing)
        await content.claim(range(self.one.count))
        self.disk.write(0, self.one.data[: len(self.one.data) // 2])
        with content.writing([0]):
            assert content.have is not None
            for index in range(self.one.count // 2):
                content.have.add(index)
        return content

    def again(self, vouched: Vouched) -> Content:
        """In another process, which has not written anything yet."""
        self.disk.unflushed = False
        return self.content(resume=record(self.one, vouched))

    def lose_power(self, kept: bytes = b"") -> None:
        """`kept` got to the disk by chance."""
        self.disk._data[:] = kept + self.disk.on_disk[len(kept) :]

    def right(self) -> set[int]:
        """The pieces that are on the disk."""
        one, data = self.one, self.disk._data
        starts = range(0, len(one.data), one.piece_length)
        return {
            number
            for number, at in enumerate(starts)
            if data[at : at + one.piece_length] == one.data[at : at + one.piece_length]
        }


async def test_what_is_believed_is_on_the_disk(autojump_clock: MockClock) -> None:
    cut = Cut()
    vouched = await (await cut.begun()).vouch()
    assert vouched.final
    cut.lose_power()
    again = await cut.again(vouched).establish(nothing)
    assert set(again) == cut.right() == set(range(cut.one.count // 2))


async def test_what_was_written_before_a_crash_is_on_the_disk_before_it_is_believed(
    autojump_clock: MockClock,
) -> None:
    """The next process finds it in the system's memory, and all of it verifies."""
    cut = Cut()
    await cut.begun()
    second = cut.again(Vouched(begun=b"\x80"))  # killed before it could record more
    assert (await second.establish(nothing)).count == cut.one.count // 2
    vouched = await second.vouch()
    assert vouched.final
    cut.lose_power()
    assert set(await cut.again(vouched).establish(nothing)) == cut.right() != set()


@pytest.mark.parametrize("settled", [False, True])
async def test_a_file_that_was_lost_halfway_is_continued_and_one_that_was_replaced_is_not(
    settled: bool, autojump_clock: MockClock
) -> None:
    """What had been flushed cannot have been lost: it was somebody else."""
    cut = Cut()
    content = await cut.begun()
    if not settled:
        cut.disk.written_at = time.time_ns()
    vouched = await content.vouch()
    assert vouched.final is settled
    cut.lose_power(kept=cut.one.data[:100])  # no piece of it is whole
    if settled:
        cut.disk.on_disk = bytes(len(cut.one.data))
        cut.lose_power(kept=cut.one.data[:100])
    cut.disk.written_at += 1
    again = cut.again(vouched)
    assert not (await again.establish(nothing)).count
    if settled:
        with pytest.raises(StorageError, match="was replaced by something else"):
            await again.claim(range(cut.one.count))
        return
    await again.claim(range(cut.one.count))
    assert cut.disk.access[0] == FILL
    cut.disk.write(0, cut.one.data)
    # Once more, before that was recorded: it is still known whose the file is.
    third = cut.again(await again.vouch())
    assert (await third.establish(nothing)).complete
    await third.claim(range(cut.one.count))
    assert cut.disk.access[0] == OWN
