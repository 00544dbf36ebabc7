"""What an operator reads when connections cannot be accepted for lack of descriptors or memory. The
rule: one line a minute for the whole process, whoever accepts. The connections wait in the system's
queue meanwhile, and are accepted as soon as others have closed.
"""

from __future__ import annotations

import errno
import logging
import math
from typing import Final

import trio

logger = logging.getLogger(__name__)

# accept(2): errors already pending on the new connection; "treat them like EAGAIN by retrying".
LOST_BEFORE_ACCEPT: Final = frozenset(
    {
        errno.ECONNABORTED,
        errno.ECONNRESET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
        errno.EPERM,
        errno.EPROTO,
        errno.ETIMEDOUT,
    }
)

OUT_OF_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
SAY_AGAIN: Final = 60.0
"""Seconds until it is said once more."""

_said_at = trio.lowlevel.RunVar("said that connections cannot be accepted", -math.inf)


def say_exhausted(error: OSError) -> None:
    """Log why connections are not accepted, unless that was done less than a minute ago."""
    now = trio.current_time()
    if now >= _said_at.get() + SAY_AGAIN:
        _said_at.set(now)
        logger.warning(
            "new connections have to wait: %s; more are accepted when others close (`ulimit -n`)",
            (error.strerror or str(error)).lower(),
        )


class AcceptFilter(logging.Filter):
    """For the logger of `trio.serve_listeners`, which logs a traceback ten times a second."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, OSError) or error.errno not in OUT_OF_RESOURCES:
            return True
        say_exhausted(error)
        return False
