"""Content in memory, for the lab: no disk, no waiting, and faults on demand."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from dht_torrent.errors import StorageError
from dht_torrent.geometry import Geometry
from dht_torrent.storage.owners import CLOSED, NEW, OWN, may_write
from dht_torrent.storage.protocol import ContentSurvey, Data, FileStamp, Scratch


class MemoryStorage:
    """As with files, a file is as long as the furthest byte written to it."""

    def __init__(
        self,
        geometry: Geometry,
        *,
        path: Path = Path("memory"),
        space: int | None = None,
        fail_at: int | None = None,
    ) -> None:
        self.path = path
        self.space = space
        """Bytes that can still be written; None is endless. Whole, a write fits or stops short."""
        self.access = bytearray(len(geometry.files))
        self.fail_at = fail_at
        """The call to read, write or sync that fails, 1 being the next; None is none."""
        self._geometry = geometry
        self._data = bytearray(geometry.total)
        self._sizes: list[int | None] = [None] * len(geometry.files)
        self._changes = [0] * len(geometry.files)

    @property
    def layout(self) -> None:
        return None

    def read(self, offset: int, length: int) -> bytes:
        self.step("read")
        for span in self._geometry.spans(offset, length):
            file = self._geometry.files[span.file]
            if not file.pad and span.offset + span.length > (self._sizes[span.file] or 0):
                raise StorageError(f"{'/'.join(file.path)}: shorter than it should be")
        return bytes(memoryview(self._data)[offset : offset + length])

    def read_into(self, offset: int, *buffers: memoryview) -> None:
        data = memoryview(self.read(offset, sum(map(len, buffers))))
        for buffer in buffers:
            buffer[:] = data[: len(buffer)]
            data = data[len(buffer) :]

    def try_read_into(self, offset: int, *buffers: memoryview) -> bool:
        try:
            self.read_into(offset, *buffers)
        except StorageError:
            return False
        return True

    def write_many(self, parts: Sequence[tuple[int, Data]]) -> tuple[int, StorageError | None]:
        for number, (offset, data) in enumerate(parts):
            try:
                self.write(offset, data)
            except StorageError as error:
                return number, error
        return len(parts), None

    def write(self, offset: int, data: Data) -> None:
        self.step("write")
        view = memoryview(data)
        written = 0
        for span in self._geometry.spans(offset, len(view)):
            part = view[written : written + span.length]
            at = offset + written
            written += span.length
            if self._geometry.files[span.file].pad:
                continue
            size = self._sizes[span.file]
            access = self.access[span.file]
            if access == NEW:
                self.access[span.file] = OWN  # no other program can have made it
            else:
                name = "/".join(self._geometry.files[span.file].path)
                held = max(0, min((size or 0) - span.offset, span.length))
                old = b"" if access == CLOSED else self._data[at : at + held]
                if not may_write(access, name, old, bytes(part)):
                    continue
            fits = span.length if self.space is None else min(span.length, self.space)
            self._data[at : at + fits] = part[:fits]
            if fits or not span.length:
                self._sizes[span.file] = max(self._sizes[span.file] or 0, span.offset + fits)
                self._changes[span.file] += 1
            if self.space is not None:
                self.space -= fits
            if fits < span.length:
                raise StorageError("no space left in memory", disk_full=True)

    def note_unflushed(self, files: Collection[int]) -> None:
        """Nothing here is ever on a disk."""

    def sync(self, files: Collection[int] | None = None) -> None:
        self.step("sync")

    def stamps(self) -> tuple[FileStamp | None, ...]:
        return tuple(
            None if size is None else FileStamp(size, change)
            for size, change in zip(self._sizes, self._changes, strict=True)
        )

    def survey(self) -> ContentSurvey:
        return ContentSurvey(self.stamps())

    def place(self) -> None:
        """No one else can get there."""

    def present(self, numbers: Sequence[int]) -> bool:
        return all(self._sizes[number] is not None for number in numbers)

    def mounted_at(self) -> str | None:
        return None

    def blank(self, number: int, start: int, stop: int) -> bool:
        at = self._geometry.files[number].offset
        return not any(self._data[at + start : at + min(stop, self._sizes[number] or 0)])

    def next_data(self, offset: int, end: int) -> tuple[int, int]:
        end = min(end, self._geometry.total)
        for file, size in zip(self._geometry.files, self._sizes, strict=True):
            start, stop = max(offset, file.offset), min(file.offset + (size or 0), end)
            if start < stop:
                return start, stop
        return end, end

    def create(self, needed: int | None = None) -> None:
        for index, file in enumerate(self._geometry.files):
            if file.length == 0 and not file.pad and self.access[index] == NEW:
                self._sizes[index] = 0
                self.access[index] = OWN
        wanted = self._geometry.total if needed is None else needed
        if self.space is not None and wanted > self.space:
            raise StorageError(
                f"{wanted} bytes are needed and {self.space} are free", disk_full=True
            )

    def scratch(self) -> Scratch:
        return _MemoryScratch(self)

    def delete(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            file = self._geometry.files[number]
            self._data[file.offset : file.offset + file.length] = bytes(file.length)
            self._sizes[number] = None
            self.access[number] = NEW

    def close(self) -> None:
        """Nothing to give back."""

    def step(self, what: str) -> None:
        """A call that may fail."""
        if self.fail_at is not None:
            self.fail_at -= 1
            if self.fail_at == 0:
                self.fail_at = None
                raise StorageError(f"injected: this {what} fails")


class _MemoryScratch:
    """Takes its space, and its faults, from the content's memory."""

    def __init__(self, content: MemoryStorage) -> None:
        self._content = content
        self._data = bytearray()

    def write(self, offset: int, data: memoryview) -> None:
        content = self._content
        content.step("write")
        more = max(0, offset + len(data) - len(self._data))
        if content.space is not None:
            if more > content.space:
                raise StorageError("no space left in memory", disk_full=True)
            content.space -= more
        self._data += bytes(more)
        self._data[offset : offset + len(data)] = data

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self._content.step("read")
        if offset + len(buffer) > len(self._data):
            raise StorageError("a piece has lost its end")
        buffer[:] = self._data[offset : offset + len(buffer)]

    def close(self) -> None:
        if self._content.space is not None:
            self._content.space += len(self._data)
        self._data = bytearray()
