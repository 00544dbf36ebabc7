"""What clients of the RPC have set, among the options: it goes before the file, and after the
command line and the environment (`daemon.rpc.remembered`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dht_torrent.errors import StorageError

if TYPE_CHECKING:
    from dht_torrent.cli.settings import Setting
    from dht_torrent.config import Config

OPTIONS: Final[dict[str, tuple[str, ...]]] = {
    "limit_up": ("limit_up",),
    "limit_down": ("limit_down",),
    "alternative_limits": ("alt_limit_up", "alt_limit_down", "alt_hours"),
    "active_downloads": ("active_downloads",),
    "active_seeds": ("active_seeds",),
    "seed_ratio": ("seed_ratio",),
    "seed_idle": ("seed_idle",),
    "download_dir": ("download_dir",),
}
"""By the fields of the configuration."""


def said_first(found: Mapping[str, Setting]) -> frozenset[str]:
    """The fields that the command line or the environment has said."""
    return frozenset(
        name
        for name, options in OPTIONS.items()
        if any(found[one].source in ("command line", "environment") for one in options)
    )


def set_by_clients(
    state_dir: Path, config: Config, fixed: Collection[str]
) -> tuple[dict[str, Any], Path]:
    """What a node that has the RPC would take of what clients have set, by the names of the options
    and as one would write it; and the file it is in. `fixed` as `said_first` gives them."""
    from dht_torrent.daemon.rpc import remembered as rpc
    from dht_torrent.engine.state import read_record

    path = state_dir / rpc.FOLDER / f"{rpc.NAME}{rpc.SUFFIX}"
    try:
        found = read_record(path, rpc.decode)
    except (OSError, StorageError):  # the node says so when it sets it aside
        return {}, path
    told: dict[str, Any] = {}
    for name, (_, value) in found.fields.items():
        if name not in fixed and found.holds(name, config):
            told |= _WRITTEN.get(name, lambda value, name=name: {name: _text(value)})(value)
    return told, path


def _text(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _alternative(value: Any) -> dict[str, Any]:
    from dht_torrent.daemon.rpc.remembered import alternative

    limits = alternative(value)
    told = {"alt_limit_up": _text(limits.up), "alt_limit_down": _text(limits.down)}
    return told | ({"alt_hours": str(limits.hours)} if limits.by_clock else {})


_WRITTEN: Final[dict[str, Callable[[Any], dict[str, Any]]]] = {
    "alternative_limits": _alternative,
    "seed_idle": lambda value: {"seed_idle": _text(None if value is None else value / 60)},
}
