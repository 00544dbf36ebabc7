"""What clients have set that outlasts the node, as Transmission's settings.json does: limits of the
node, its queue, when torrents have been shared enough, where downloads go; and the numbers of
limits that are switched off, which the node does not know.

The rule of precedence: the command line and the environment go before it, and so does a
configuration that says something else than it did when the client set it; else what a client has
set last holds. What torrents themselves have (limits in force, labels, files, their place in the
queue) is in their own records.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

from dht_torrent.config import Config
from dht_torrent.config.alternative import AlternativeLimits, WeeklyHours
from dht_torrent.errors import InputError, StorageError
from dht_torrent.ids import InfoHash

FOLDER, NAME, SUFFIX = "rpc", "session", ".settings"
MAX_OWN: Final = 50_000
"""Torrents whose numbers are remembered: the first of more."""
_MAX_NUMBER: Final = float(1 << 53)

Value = Any
"""What JSON can hold."""


@dataclass(slots=True)
class Remembered:
    """By names of `Config` and of Transmission's fields."""

    fields: dict[str, tuple[Value, Value]] = field(default_factory=dict)
    """Of the configuration: what it said when a client set it, and to what."""
    starts_added: bool = True
    numbers: dict[str, float] = field(default_factory=dict)
    """Of the node's limits, in force or not."""
    own: dict[InfoHash, Mapping[str, float]] = field(default_factory=dict)
    """The same of torrents."""

    def holds(self, name: str, config: Config) -> bool:
        """Is what a client has set there what holds, unless somebody goes before it?"""
        return name in self.fields and self.fields[name][0] == plain(getattr(config, name))

    def note(self, name: str, config: Config, now: Value) -> None:
        """A client has set it, and so it is now."""
        base = plain(getattr(config, name))
        self.fields.pop(name, None)
        if now != base:
            self.fields[name] = (base, now)

    def encode(self) -> bytes:
        """`decode` is the inverse."""
        return json.dumps(
            {
                "fields": self.fields,
                "starts_added": self.starts_added,
                "numbers": self.numbers,
                "torrents": {
                    one.hex(): dict(own) for one, own in islice(self.own.items(), MAX_OWN)
                },
            }
        ).encode()


def decode(payload: bytes) -> Remembered:
    """Raises StorageError saying what is wrong."""
    try:
        read = json.loads(payload)
        if not isinstance(read, dict) or len(read["torrents"]) > MAX_OWN:
            raise ValueError("not one of these")  # noqa: TRY301 - all that is wrong is one error
        return Remembered(
            {name: _pair(name, pair) for name, pair in read["fields"].items() if name in READ},
            _boolean(read["starts_added"]),
            _numbers(read["numbers"]),
            {InfoHash(_hash(one)): _numbers(own) for one, own in read["torrents"].items()},
        )
    except (InputError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
        raise StorageError(f"not settings of the RPC: {str(exc) or type(exc).__name__}") from exc


def plain(value: Any) -> Value:
    """A value of the configuration, as JSON has it."""
    if isinstance(value, AlternativeLimits):
        return asdict(value)
    return str(value) if isinstance(value, Path) else value


def _pair(name: str, pair: Value) -> tuple[Value, Value]:
    base, value = pair
    READ[name](value)
    return base, value


def alternative(value: Value) -> AlternativeLimits:
    """Of what `plain` made. Raises ValueError, TypeError, KeyError, InputError."""
    rates = {way: _maybe(_whole)(value[way]) for way in ("up", "down")}
    switches = {name: _boolean(value[name]) for name in ("on", "by_clock")}
    hours = {name: _whole(value["hours"][name]) for name in ("begin", "end", "days")}
    return AlternativeLimits(**rates, **switches, hours=WeeklyHours(**hours))


def _whole(value: Value) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_NUMBER:
        raise ValueError("not a whole number")
    return value


def _number(value: Value) -> float:
    if type(value) not in (int, float) or not 0 <= value <= _MAX_NUMBER:
        raise ValueError("not a number")
    return float(value)


def _boolean(value: Value) -> bool:
    if type(value) is not bool:
        raise ValueError("not a boolean")
    return value


def _folder(value: Value) -> str:
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise ValueError("not a folder")
    return value


def _numbers(value: Value) -> dict[str, float]:
    if not isinstance(value, dict) or len(value) > 100:
        raise ValueError("not numbers by their names")
    return {str(name): _number(one) for name, one in value.items()}


def _hash(text: str) -> bytes:
    if len(text) != 40:
        raise ValueError("not an infohash")
    return bytes.fromhex(text)


def _maybe(read: Callable[[Value], Any]) -> Callable[[Value], Any]:
    return lambda value: None if value is None else read(value)


READ: Final[dict[str, Callable[[Value], Any]]] = {
    "limit_up": _maybe(_whole),
    "limit_down": _maybe(_whole),
    "alternative_limits": alternative,
    "active_downloads": _maybe(_whole),
    "active_seeds": _maybe(_whole),
    "seed_ratio": _maybe(_number),
    "seed_idle": _maybe(_number),
    "download_dir": _folder,
}
"""What clients can set of the configuration."""
