"""Asking a node to read its configuration again. Only whoever runs it knows where that is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dht_torrent.engine.node import Node


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What came of it, in names of options."""

    applied: tuple[str, ...]
    needs_restart: tuple[str, ...]
    """What has changed since the start and is not in force."""


Reload = Callable[["Node"], Awaitable[Reloaded]]
"""Raises InputError, and then nothing was applied."""
