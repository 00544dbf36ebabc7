"""Large pages for the memory of a simulation. The rule: it is advice, which changes no result; a
system that cannot take it is left alone.

Thousands of nodes are gigabytes of small objects, and each datagram wakes up another node. With
pages of 4 KiB the processor spends a sixth of the run on looking up where they are.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from pathlib import Path
from typing import Final

_MAPS: Final = Path("/proc/self/maps")
_SIZE: Final = 2 * 1024 * 1024
"""Bytes of a large page (x86-64, and aarch64 with small pages of 4 KiB)."""
_COLLAPSE: Final = 25
"""MADV_COLLAPSE (Linux 6.1): at once, not when the kernel comes by."""


def use_large_pages() -> int:
    """Ask the kernel to put what this process has allocated so far on large pages; call it again
    when there is much more. How many bytes it did so for; 0 where it cannot."""
    if not sys.platform.startswith("linux") or not hasattr(mmap, "MADV_HUGEPAGE"):
        return 0
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    done = 0
    for begin, end in _regions():
        size = end - begin
        if madvise(begin, size, mmap.MADV_HUGEPAGE) == 0 and madvise(begin, size, _COLLAPSE) == 0:
            done += size
    return done


def _regions() -> list[tuple[int, int]]:
    """Where private memory is that whole large pages fit into, by proc(5)."""
    found = []
    try:
        lines = [line.split() for line in _MAPS.read_text().splitlines()]
    except OSError:
        return []
    for where, mode, _offset, _device, inode, *name in lines:
        if mode == "rw-p" and inode == "0" and name in ([], ["[heap]"]):
            begin, end = (int(address, 16) for address in where.split("-"))
            begin, end = -(-begin // _SIZE) * _SIZE, end // _SIZE * _SIZE
            if begin < end:
                found.append((begin, end))
    return found
