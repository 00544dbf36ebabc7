"""Where the bytes of a batch of writes go, and of one read into many buffers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from dht_torrent.geometry import Geometry, Span
from dht_torrent.storage.protocol import Data
from dht_torrent.syscalls import read_many_at

_CALL_BUFFERS = 1024
"""Systems take no more in a call (IOV_MAX)."""


class Write(NamedTuple):
    """Bytes of a batch that go to one file."""

    part: int
    """Number of the part of the batch that they are of."""
    span: Span
    data: memoryview


def cut(geometry: Geometry, parts: Iterable[tuple[int, Data]]) -> Iterator[Write]:
    """What of the parts, given as (offset, data), goes where, in order. Pads are left out."""
    for number, (offset, data) in enumerate(parts):
        view, at = memoryview(data), 0
        for span in geometry.spans(offset, len(view)):
            if not geometry.files[span.file].pad:
                yield Write(number, span, view[at : at + span.length])
            at += span.length


def scatter(
    geometry: Geometry, offset: int, buffers: Sequence[memoryview]
) -> Iterator[tuple[Span, list[memoryview]]]:
    """What goes from where into which of the buffers, one after the other; no more of them at a
    time than a call takes."""
    waiting = [buffer for buffer in reversed(buffers) if len(buffer)]
    for span in geometry.spans(offset, sum(map(len, buffers))):
        at, stop = span.offset, span.offset + span.length
        while at < stop:
            start = at
            views: list[memoryview] = []
            while at < stop and len(views) < _CALL_BUFFERS:
                view = waiting.pop()
                if len(view) > stop - at:
                    waiting.append(view[stop - at :])
                    view = view[: stop - at]
                views.append(view)
                at += len(view)
            yield Span(span.file, start, at - start), views


def read_all(fd: int, offset: int, views: Sequence[memoryview]) -> bool:
    """False if the file ends before they are full. Raises OSError."""
    rest = list(reversed(views))
    while rest:
        count = read_many_at(fd, rest[::-1], offset)
        if not count:
            return False
        offset += count
        while rest and count >= len(rest[-1]):
            count -= len(rest.pop())
        if count:
            rest[-1] = rest[-1][count:]
    return True


def write_all(fd: int, offset: int, data: memoryview) -> None:
    """Raises OSError; a part may then be written."""
    done = os.pwrite(fd, data, offset)
    while done < len(data):
        done += os.pwrite(fd, data[done:], offset + done)
