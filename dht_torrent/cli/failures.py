"""What went wrong, in one line and an exit code. The rule: a fault of the user's, of the network's
or of the disk's is told; a bug of ours is not, and shows its traceback.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

import click

from dht_torrent.cli import view
from dht_torrent.errors import DhtTorrentError, InputError


class Failure(click.ClickException):
    """One line on stderr and an exit code."""

    def __init__(self, line: str, code: int) -> None:
        super().__init__(line)
        self.exit_code = code  # type: ignore[misc]  # as Click's own subclasses and users do

    def show(self, file: Any = None) -> None:
        click.echo(f"dhtnode: {view.clean(self.message)}", file=file or sys.stderr)


def explain(error: BaseException) -> click.ClickException | click.exceptions.Exit | None:
    """What to tell the user; None for a bug of ours, which shows its traceback."""
    if isinstance(error, BaseExceptionGroup):
        told = [explain(inner) for inner in error.exceptions]
        return None if None in told else told[0]
    if isinstance(error, KeyboardInterrupt):
        return click.exceptions.Exit(130)
    if isinstance(error, DhtTorrentError):
        return Failure(str(error), 2 if isinstance(error, InputError) else 1)
    if not isinstance(error, OSError) or error.errno in (None, errno.EPIPE):
        return None
    reason = (error.strerror or str(error)).lower()
    if error.errno in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
        return Failure(f"cannot listen: {reason}", 1)
    if isinstance(error, FileNotFoundError) and error.filename is None:
        return Failure("the working directory is gone; change to another, or give full paths", 2)
    if error.filename is None:
        return Failure(reason, 1)
    return Failure(
        f"{os.fsdecode(error.filename)}: {reason}", 1 if error.errno == errno.ENOSPC else 2
    )
