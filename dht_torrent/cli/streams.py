"""Standard streams as the world leaves them: closed, a pipe without a reader, a terminal that hung
up, an encoding that lacks half the letters. The rule: output without a reader is dropped, and what
cannot be shown is shown some other way; neither is a reason to end, or to say more than a line.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_GONE = frozenset({errno.EPIPE, errno.EIO, errno.EBADF})


class _Output(io.FileIO):
    """A descriptor whose reader may leave: from then on it leads nowhere."""

    unread = False

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            self.unread = True
            _lead_nowhere(self.fileno())
            return memoryview(data).nbytes


def mend() -> None:
    """Make `sys.stdout` and `sys.stderr` fit to be written to. Call first in a process."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # Or the next file opened would be what people, and libraries, print into.
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = _writer(1, sys.stdout)
    sys.stderr = _writer(2, sys.stderr)


def is_unread(stream: object) -> bool:
    """Whether what is written to a stream that was mended goes nowhere: its reader has left."""
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return isinstance(raw, _Output) and raw.unread


def finish(*, failed: bool) -> int:
    """Write what is still to be written. Returns 1 if it cannot be, after a line on stderr unless
    the command has `failed` and said why."""
    code = 0
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError) as error:
            code = 1
            with contextlib.suppress(OSError, ValueError):
                _lead_nowhere(stream.fileno())
                stream.flush()
                if not failed:
                    sys.stderr.write(f"dhtnode: {getattr(error, 'strerror', error)}\n".lower())
    return code


def _writer(number: int, before: Any) -> io.TextIOWrapper:
    encoding = getattr(before, "encoding", None) or "utf-8"
    raw = _Output(number, "wb", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=number == 2 or raw.isatty(),
    )


def _lead_nowhere(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)
