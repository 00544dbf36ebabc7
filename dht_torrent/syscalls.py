"""System calls that not every kernel, sandbox or file system has, and what is done instead. The
rule: a call that is only faster or safer is never a reason to fail.

A container's seccomp filter, Lustre without locks, a FUSE or CIFS mount: each refuses something
else. A refusal that a plainer call meets too is a true error, and is raised.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Final, cast

UNSUPPORTED: Final = frozenset(
    {errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}
)
"""What a call that is not there fails with: ENOSYS from an old kernel, EPERM from a sandbox, the
others from a file system."""

_RENAME_NOREPLACE: Final = 1  # linux/fs.h
_HERE: Final = -100  # AT_FDCWD of fcntl.h

# As PostgreSQL has it: some systems do not let folders be opened, or synced, at all.
_NO_FOLDER_SYNC: Final = UNSUPPORTED | {errno.EBADF, errno.EACCES, errno.EISDIR}

_preadv = getattr(os, "preadv", None)  # macOS has it since version 11
_fdatasync = getattr(os, "fdatasync", os.fsync)  # macOS does not have it
_advise = getattr(os, "posix_fadvise", None)  # nor this


def read_at(fd: int, buffer: memoryview, offset: int) -> int:
    """Fill `buffer` with what is at `offset`, as far as one call does. 0 at the end of the file."""
    return read_many_at(fd, (buffer,), offset)


def read_many_at(fd: int, buffers: Sequence[memoryview], offset: int) -> int:
    """As `read_at`, one after the other; there may be 1024 of them (IOV_MAX)."""
    if _preadv is not None:
        try:
            count: int = _preadv(fd, buffers, offset)
        except OSError as exc:
            if exc.errno not in UNSUPPORTED:
                raise
        else:
            return count
    data = os.pread(fd, sum(map(len, buffers)), offset)
    rest = data
    for buffer in buffers:
        part, rest = rest[: len(buffer)], rest[len(buffer) :]
        buffer[: len(part)] = part
    return len(data)


def is_in_memory(device: int) -> bool:
    """Is this (`st_dev`) a file system that no disk is behind? False where nobody tells."""
    number = b"%d:%d" % (os.major(device), os.minor(device))
    try:
        mounts = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return False
    for line in mounts:  # proc(5): id parent major:minor root point options [more ...] - type ...
        mount, _, kind = line.partition(b" - ")
        if mount.split(b" ")[2:3] == [number]:
            return kind.split(b" ")[0] in (b"tmpfs", b"ramfs")
    return False


def flush(fd: int) -> None:
    """What was written to the file survives a power cut, where the file system can promise it. If
    it fails, the file is read from the disk from then on: what is held in memory is not there."""
    for sync in (_fdatasync, os.fsync):
        try:
            sync(fd)
        except OSError as exc:
            if exc.errno not in UNSUPPORTED:
                if _advise is not None:
                    with contextlib.suppress(OSError):
                        _advise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                raise
        else:
            return


def flush_folder(path: Path) -> None:
    """So that a rename or removal itself survives a power cut, where that can be promised."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as exc:
        if exc.errno not in _NO_FOLDER_SYNC:
            raise


def rename_new(source: str | Path, target: str | Path) -> None:
    """Give `source` another name, in one step, and never in place of something that is there: then
    it raises FileExistsError. Where the system has no such call, a look comes before."""
    call = _renameat2()
    if call is not None:
        code = call(_HERE, os.fsencode(source), _HERE, os.fsencode(target), _RENAME_NOREPLACE)
        if not code:
            return
        if code not in UNSUPPORTED:
            raise OSError(code, os.strerror(code), str(source), None, str(target))
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    os.rename(source, target)  # noqa: PTH104 - paths of either kind


@cache
def _renameat2() -> Callable[[int, bytes, int, bytes, int], int] | None:
    """Linux has it, and Python does not. Returns the number of the error, or 0."""
    if sys.platform != "linux":
        return None
    import ctypes

    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return None
    call.argtypes = (
        *(ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p),
        ctypes.c_uint,
    )

    def rename(*arguments: int | bytes) -> int:
        return ctypes.get_errno() if call(*arguments) else 0

    return cast("Callable[[int, bytes, int, bytes, int], int]", rename)


def free_space(folder: Path) -> int | None:
    """Bytes that may still be written there; None where the file system does not tell."""
    try:
        space = os.statvfs(folder)
    except OSError as exc:
        if exc.errno not in UNSUPPORTED:
            raise
        return None
    # Many a FUSE file system has no such thing as a size, and says that all is 0.
    return space.f_bavail * space.f_frsize if space.f_blocks else None


def cores() -> int:
    """How many this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # macOS does not have it
        return os.cpu_count() or 1
