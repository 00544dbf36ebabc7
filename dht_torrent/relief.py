"""What to do when the process (EMFILE) or the system (ENFILE) has no descriptors left: a file that
can wait is closed, and the call is made again.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")

NO_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE})
_ENOUGH: Final = 1 << 20
"""Where there is no limit, or none that the system tells: as many as anybody asks for."""
_USED: Final = 32
"""Descriptors taken to be open where the system does not list them."""

Relief = Callable[[], bool]
"""Closes what is needed least. False when there is nothing to close."""


def no_relief() -> bool:
    """Nobody has anything to close."""
    return False


def relieved(relief: Relief, call: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """`call(*args)`, again and again while descriptors are lacking and `relief` finds some.
    Repeating the call must do no harm."""
    while True:
        try:
            return call(*args, **kwargs)
        except OSError as error:
            if error.errno not in NO_DESCRIPTORS or not relief():
                raise


def descriptors_left() -> int:
    """How many more this process may open now (RLIMIT_NOFILE)."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return _ENOUGH
    try:
        used = len(os.listdir("/dev/fd")) - 1  # noqa: PTH208 - no paths are wanted
    except OSError:
        used = _USED
    return max(0, limit - used)


def raise_descriptor_limit() -> None:
    """Allow this process as many descriptors as the system lets it have. For programs of their own:
    the limit belongs to the whole process and its children."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS calls the hard limit infinite, and refuses more than OPEN_MAX, 10240.
    for wanted in (hard, 10240):
        if soft == resource.RLIM_INFINITY or (wanted != resource.RLIM_INFINITY and soft >= wanted):
            return
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            continue
        return
