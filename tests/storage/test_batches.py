"""Where the bytes of many buffers come from and go to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent import syscalls
from dht_torrent.geometry import BLOCK
from dht_torrent.storage.batches import cut, read_all, scatter, write_all
from tests.helpers.storages import torrent

META = torrent(("a", 10), ("p", 6), ("b", 30), ("c", 1), ("d", 53), pads=[1]).geometry


@given(
    sizes=st.lists(st.integers(0, 30), max_size=12).filter(lambda sizes: sum(sizes) <= 100),
    offset=st.integers(0, 100),
)
def test_buffers_are_cut_where_files_end(sizes: list[int], offset: int) -> None:
    offset = min(offset, META.total - sum(sizes))
    content = bytes(range(100))
    buffers = [memoryview(bytearray(size)) for size in sizes]
    spans = []
    for span, views in scatter(META, offset, buffers):
        spans.append(span)
        assert sum(map(len, views)) == span.length
        at = META.files[span.file].offset + span.offset
        for view in views:
            view[:] = content[at : at + len(view)]
            at += len(view)
    assert spans == META.spans(offset, sum(sizes))
    assert b"".join(buffers) == content[offset : offset + sum(sizes)]


def test_no_call_gets_more_buffers_than_systems_take() -> None:
    meta = torrent(("a", 3000), ("b", 10)).geometry
    buffers = [memoryview(bytearray(1)) for _ in range(3010)]
    parts = [(span, len(views)) for span, views in scatter(meta, 0, buffers)]
    assert [count for _, count in parts] == [1024, 1024, 952, 10]
    assert [tuple(span) for span, _ in parts] == [
        *((0, 0, 1024), (0, 1024, 1024), (0, 2048, 952)),
        (1, 0, 10),
    ]


def test_writes_are_cut_where_files_end_and_pads_are_left_out() -> None:
    parts = [(5, bytes(range(20))), (40, b""), (45, b"xyz")]
    assert [(w.part, tuple(w.span), bytes(w.data)) for w in cut(META, parts)] == [
        (0, (0, 5, 5), bytes(range(5))),
        (0, (2, 0, 9), bytes(range(11, 20))),
        (2, (2, 29, 1), b"x"),
        (2, (3, 0, 1), b"y"),
        (2, (4, 0, 1), b"z"),
    ]


@pytest.mark.parametrize("most", [1, 2, 3, 7, 100])
def test_short_reads_and_writes_go_on_where_they_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    preadv, pwrite = os.preadv, os.pwrite

    def short(fd: int, buffers: Sequence[memoryview], offset: int) -> int:
        room, some = most, []
        for buffer in buffers:
            some.append(buffer[:room])
            room -= len(some[-1])
        return preadv(fd, some, offset)

    monkeypatch.setattr(syscalls, "_preadv", short)
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, data[:most], offset))
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    try:
        write_all(fd, 3, memoryview(b"0123456789"))
        buffers = [bytearray(size) for size in (1, 4, 2, 3)]
        assert read_all(fd, 3, [memoryview(buffer) for buffer in buffers])
        assert buffers == [b"0", b"1234", b"56", b"789"]
        assert not read_all(fd, 4, [memoryview(buffer) for buffer in buffers])
    finally:
        os.close(fd)


def test_a_long_run_of_blocks_is_one_call() -> None:
    meta = torrent(("a", 64 * BLOCK), ("b", 1)).geometry
    buffers = [memoryview(bytearray(BLOCK)) for _ in range(64)]
    ((span, views),) = scatter(meta, 0, buffers)
    assert (tuple(span), views) == ((0, 0, 64 * BLOCK), buffers)
