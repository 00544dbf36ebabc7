"""A sandbox as a container has it: from `refuse` on, the kernel refuses some system calls."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Iterable

NUMBERS = {
    "x86_64": {
        "fdatasync": 75,
        "flock": 73,
        "fstatfs": 138,
        "fsync": 74,
        "preadv": 295,
        "preadv2": 327,
        "recvmmsg": 299,
        "sched_getaffinity": 204,
        "sendmmsg": 307,
        "statfs": 137,
    },
    "aarch64": {
        "fdatasync": 83,
        "flock": 32,
        "fstatfs": 44,
        "fsync": 82,
        "preadv": 69,
        "preadv2": 286,
        "recvmmsg": 243,
        "sched_getaffinity": 123,
        "sendmmsg": 269,
        "statfs": 43,
    },
}
"""Numbers of system calls, by machine."""
CALLS = sorted(NUMBERS["x86_64"])

_NO_NEW_PRIVS, _SECCOMP, _FILTER = 38, 22, 2  # prctl(2)
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06  # classic BPF
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


def is_possible() -> bool:
    """Whether there is such a thing here. Tried in a child, since it cannot be taken back."""
    if platform.system() != "Linux" or platform.machine() not in NUMBERS:
        return False
    child = os.fork()
    if child == 0:
        try:
            refuse(["flock"], 1)
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def refuse(calls: Iterable[str], code: int) -> None:
    """This thread, and those it starts, get errno `code` for each of `calls`. Raises OSError."""
    numbers = [NUMBERS[platform.machine()][call] for call in calls]
    program = [
        _instruction(_LOAD, 0),  # the call's number is the first field
        # To the last instruction if it is one of these, else on.
        *(_instruction(_EQUAL, n, if_true=len(numbers) - at) for at, n in enumerate(numbers)),
        _instruction(_RETURN, _ALLOW),
        _instruction(_RETURN, _ERRNO | code),
    ]
    code_bytes = ctypes.create_string_buffer(b"".join(program))
    pointer = struct.pack("HxxxxxxP", len(program), ctypes.addressof(code_bytes))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((_NO_NEW_PRIVS, 1, 0, 0, 0), (_SECCOMP, _FILTER, pointer, 0, 0)):
        if libc.prctl(*arguments) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def _instruction(code: int, value: int, *, if_true: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, 0, value)
