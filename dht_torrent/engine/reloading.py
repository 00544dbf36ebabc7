"""What a running node takes from a new configuration: how much it may send and receive, whose turn
it is and when a torrent has been shared enough, the IP filter and the deny-list.

The rule: all of it or, if something in it cannot be used, none. What did not change in the
configuration is left as it is, also if it was set by hand since.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, Final

from dht_torrent.config import Config
from dht_torrent.engine.filtering import FilterFile
from dht_torrent.engine.search.denying import Denied, DenyFile
from dht_torrent.engine.torrent.context import NodeContext
from dht_torrent.engine.torrent.housekeeping import Housekeeping, NodeRules
from dht_torrent.engine.torrent.rate_limits import checked_rate
from dht_torrent.engine.user_files import absolute
from dht_torrent.engine.watched_file import WatchedFile

_LIMITS: Final = ("limit_up", "limit_down")
_ALTERNATIVE: Final = "alternative_limits"
_RULES: Final = tuple(rule.name for rule in fields(NodeRules))


class Reloading:
    """Of one node."""

    def __init__(self, context: NodeContext, housekeeping: Housekeeping, denied: Denied) -> None:
        self._context = context
        self._housekeeping = housekeeping
        self._files: dict[str, WatchedFile[Any]] = {}
        """By the names of their fields."""
        if isinstance(context.filtering, FilterFile):
            self._files["ip_filter"] = context.filtering.file
        if isinstance(denied, DenyFile):
            self._files["deny_list"] = denied.file

    async def reload(self, old: Config, new: Config) -> tuple[Config, frozenset[str]]:
        """`old` with what was taken of `new`, and the names of the fields that were. The files are
        read again in any case. Raises InputError if one of them, or a limit, is of no use."""
        names = [field.name for field in fields(Config)]
        changed = {name for name in names if getattr(new, name) != getattr(old, name)}
        paths = {name: getattr(new, name) for name in self._files}
        followed = {name: absolute(path) for name, path in paths.items() if path is not None}
        for name, path in followed.items():
            await self._files[name].check(path)
        rates = {name: getattr(new, name) for name in _LIMITS if name in changed}
        speed = self._housekeeping.speed
        for rate in rates.values():
            checked_rate(rate)
        if _ALTERNATIVE in changed:
            speed.set_alternative(new.alternative_limits)
        speed.set(rates.get("limit_up", ...), rates.get("limit_down", ...))
        for name, path in followed.items():
            self._files[name].follow(path)
        for name in changed & set(_RULES):
            setattr(self._housekeeping.rules, name, getattr(new, name))
        self._housekeeping.look_soon()
        taken = frozenset(changed & {*_LIMITS, _ALTERNATIVE, *_RULES, *followed})
        return replace(old, **{name: getattr(new, name) for name in taken}), taken
