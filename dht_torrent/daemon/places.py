"""Where on this disk clients may have their content: below the download directory, and below what
the user has named besides. Whoever steers a node from elsewhere has no business in other folders.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from dht_torrent.errors import InputError


class Places:
    """The folders that clients may use, their roots."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = [Path(os.path.realpath(root)) for root in roots]

    def hold(self, text: str) -> bool:
        """Whether this path, wherever links on it lead, is one of the roots or below one. Raises
        InputError for what cannot be a path."""
        try:
            real = Path(os.path.realpath(text))
        except (OSError, ValueError, UnicodeError):
            raise InputError("this path cannot be used") from None
        return any(real.is_relative_to(root) for root in self._roots)

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Whatever absolute path a request names meanwhile, in this task, must be in them."""
        before = _in_force.set(self)
        try:
            yield
        finally:
            _in_force.reset(before)


_in_force: ContextVar[Places | None] = ContextVar("places_in_force", default=None)
"""None: whoever asks may use all that the user may, as the owner at the control socket."""


def check_place(text: str, key: str) -> None:
    """Raises InputError unless who asks may have content at this absolute path, of this key."""
    places = _in_force.get()
    if places is not None and not places.hold(text):
        raise InputError(f"{key} is not below a folder that clients may use (see --web-dir)")
