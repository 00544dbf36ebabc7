"""A batch of writes, cut to where its bytes go."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from dht_torrent.geometry import Geometry, Span
from dht_torrent.storage.protocol import Data


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


def write_all(fd: int, offset: int, data: memoryview) -> None:
    """Raises OSError; a part may then be written."""
    done = os.pwrite(fd, data, offset)
    while done < len(data):
        done += os.pwrite(fd, data[done:], offset + done)
