"""`trio.fail_after` without the reference cycle that it leaves when time is up.

A generator is behind that one, and as of Python 3.12 contextlib's frame around it keeps the
Cancelled, whose traceback leads to that frame again, and to all that waited: connections and their
buffers would stay until the garbage collector comes. Here no frame keeps it.
"""

from __future__ import annotations

from types import TracebackType

import trio


class TimeLimit:
    """A context manager that raises `trio.TooSlowError` when its block takes too long."""

    __slots__ = ("_scope",)

    def __init__(self, seconds: float) -> None:
        """The time begins now."""
        self._scope = trio.CancelScope(deadline=trio.current_time() + seconds)

    def __enter__(self) -> None:
        self._scope.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._scope.__exit__(kind, error, traceback)
        del error, traceback
        if self._scope.cancelled_caught:
            raise trio.TooSlowError from None
