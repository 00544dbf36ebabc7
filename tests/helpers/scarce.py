"""A process that has run out of descriptors."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def few_left(count: int) -> Iterator[None]:
    """Only `count` descriptors can be opened inside the block, by anybody in this process."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)]
    # The numbers below the highest that are free count as well: fill them up.
    highest = max(int(entry.name) for entry in Path("/dev/fd").iterdir())
    while taken[-1] < highest:
        taken.append(os.dup(taken[0]))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for fd in taken:
            os.close(fd)
