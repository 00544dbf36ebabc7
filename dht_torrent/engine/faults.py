"""Faults of ours: bugs. The rule: each has a smallest owner (a connection, else a torrent, else one
piece of the DHT's work or one request to the control API) and ends that and nothing else.

Such a boundary does not hide a bug: each fault is counted and shown in `status`, and logged
with its traceback the first time something goes wrong at that place in the code. With `fail_fast`,
as in tests and in the lab, the first one ends the run.

The boundaries are `Faults.confined` around a connection (`torrent.connections`, `node`) and around
a torrent (`torrent`); `Faults.keep` and `Faults.take` in the DHT (`dht`, `discovery`) and for the
node's own services (`node`); `Faults.report` in the control API (`daemon.app`).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import Final

import trio

logger = logging.getLogger(__name__)

FIRST_PAUSE: Final = 1.0
"""Seconds before a service begins anew; doubles ..."""
MAX_PAUSE: Final = 60.0
"""... up to this, and is the first again once the service has run for as long."""
MAX_TEXT: Final = 200
"""Characters of an error's own text that are kept."""
MAX_PLACES: Final = 1000
"""Places in the code that are remembered as logged."""

_NEVER_OURS: Final = (MemoryError, trio.TrioInternalError)
"""Exceptions that are about the whole process."""


class Faults:
    """The faults of one node."""

    def __init__(self, *, fail_fast: bool) -> None:
        self.count = 0
        """Since the start."""
        self.last: str | None = None
        """The last one in a line: what it ended, what it was and where."""
        self.fail_fast = fail_fast
        self._logged: set[tuple[str, int, type]] = set()
        self._fatal: Exception | None = None
        self._ended = trio.Event()

    @contextmanager
    def confined(self, what: str, *, ends: Callable[[str], object] | None = None) -> Iterator[None]:
        """A fault of ours inside the block ends the block, and is then told to `ends` in a line.

        Cancellation, KeyboardInterrupt, MemoryError and the like go on outwards, out of a group of
        exceptions too: then it is only what was left of the group."""
        text: str | None = None
        try:
            yield
        except BaseExceptionGroup as group:
            text = self._take_group(group, what)
            others = None if text is None else group.split(_is_ours)[1]
            try:
                if text is None:
                    raise
                if others is not None:
                    raise others from None
            finally:
                del others  # its frames, of which this is one, would keep it and all they hold
        except Exception as error:  # noqa: BLE001 - this is the boundary
            text = self.take(error, what)
        finally:
            if text is not None and ends is not None:
                ends(text)

    def _take_group(self, group: BaseExceptionGroup[BaseException], what: str) -> str | None:
        """Take the faults of ours in the group; None when there are none, or none is confined."""
        bugs = group.split(_is_ours)[0]
        if bugs is None or self.fail_fast:
            return None
        first, *_ = [self.take(bug, what) for bug in _leaves(bugs)]
        return first

    def take(self, error: Exception, what: str) -> str:
        """Count and log a fault that ended `what`; call it in the `except` clause itself where
        `confined` would cost too much. Returns the fault in a line. Raises it again where it may
        not be confined."""
        if self.fail_fast or not _is_ours(error):
            raise error
        text = describe(error)
        self.count += 1
        self.last = f"{what}: {text}"
        filename, line = _place(error)
        place = (filename, line, type(error))
        if place in self._logged or len(self._logged) >= MAX_PLACES:
            logger.debug("another fault in dht_torrent ended %s: %s", what, text)
        else:
            self._logged.add(place)
            logger.error("a fault in dht_torrent ended %s; please report it", what, exc_info=error)
        return text

    def report(self, error: Exception, what: str) -> None:
        """As `take`, for callers in a library that would swallow it: `watch` raises it then."""
        if self.fail_fast or not _is_ours(error):
            self._fatal = error
            self._ended.set()
        else:
            self.take(error, what)

    async def watch(self) -> None:
        """A service: ends the run by what was reported and may not be confined."""
        await self._ended.wait()
        assert self._fatal is not None
        raise self._fatal

    async def keep(self, what: str, service: Callable[[], Awaitable[None]]) -> None:
        """Run a service that must not end by a fault of ours: it begins anew after a pause."""
        pause = FIRST_PAUSE
        while True:
            began = trio.current_time()
            with self.confined(what):
                await service()
                return
            if trio.current_time() - began >= MAX_PAUSE:
                pause = FIRST_PAUSE
            await trio.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE)


def describe(error: BaseException) -> str:
    """What it was and where, in a line."""
    text = " ".join(str(error).split())[:MAX_TEXT]
    filename, line = _place(error)
    return f"{type(error).__name__}{f': {text}' if text else ''} ({PurePath(filename).name}:{line})"


def _is_ours(error: BaseException) -> bool:
    """Whether an exception (not a group) nobody expected is a bug, which has a smallest owner."""
    return (
        isinstance(error, Exception)
        and not isinstance(error, _NEVER_OURS)
        and not isinstance(error, BaseExceptionGroup)
    )


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[Exception]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        elif isinstance(error, Exception):
            yield error


def _place(error: BaseException) -> tuple[str, int]:
    """Where it was raised: file and line."""
    place, frame = ("unknown", 0), error.__traceback__
    while frame is not None:
        place, frame = (frame.tb_frame.f_code.co_filename, frame.tb_lineno), frame.tb_next
    return place
