"""The configuration of a running node, read again."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import click

from dht_torrent.cli.logs import log_to_stderr
from dht_torrent.cli.node import Options
from dht_torrent.cli.options import Given, NodeOption, declared
from dht_torrent.cli.settings import Setting, file_of, settings, settle

if TYPE_CHECKING:
    from dht_torrent.daemon.reload import Reloaded
    from dht_torrent.engine.node import Node

logger = logging.getLogger(__name__)

_OTHER_NAMES: Final = {
    "deny_list": ("deny",),
    "alternative_limits": ("alt_limit_up", "alt_limit_down", "alt_hours"),
}
"""Options by the fields of the configuration that are not named as they are."""
_LOGGING: Final = frozenset({"log_level", "log_format"})


class Reloader:
    """What the command line and the environment said at the start counts as before; what the file
    says is read again."""

    def __init__(self, ctx: click.Context) -> None:
        """Raises InputError."""
        given = ctx.ensure_object(Given)
        self._values, self._by_environment = dict(given.values), set(given.by_environment)
        self._options: dict[str, NodeOption] = declared(ctx)
        self._now = settings(ctx)

    async def reload(self, node: Node) -> Reloaded:
        """Have the node take what can be taken while it runs. Raises InputError."""
        import trio

        from dht_torrent.daemon.reload import Reloaded

        found = await trio.to_thread.run_sync(self._read)
        config = await trio.to_thread.run_sync(Options.from_settings(found).config)
        changed = [name for name, now in self._now.items() if self._differ(name, now, found[name])]
        fields = await node.reload(config)
        taken = {name for field in fields for name in _OTHER_NAMES.get(field, (field,))}
        if _LOGGING & set(changed):
            options = Options.from_settings(found)
            log_to_stderr(options.log_level, options.log_format, again=True)
            taken |= _LOGGING
        applied = [name for name in changed if name in taken]
        # What is not in force is told each time.
        self._now |= {name: found[name] for name in applied}
        told = Reloaded(
            tuple(self._options[name].key for name in applied),
            tuple(self._options[name].key for name in changed if name not in taken),
        )
        logger.info("the configuration was read again; new: %s", ", ".join(told.applied) or "none")
        if told.needs_restart:
            logger.warning("a restart is needed for %s", ", ".join(told.needs_restart))
        return told

    def _read(self) -> dict[str, Setting]:
        given = Given(self._values, self._by_environment)
        return settle(given, self._options, file_of(given))

    def _differ(self, name: str, now: Setting, then: Setting) -> bool:
        if now.value is not None and then.value is not None:
            return bool(now.value != then.value)
        standard = self._options[name].standard
        values = [standard if one.value is None else one.value for one in (now, then)]
        return bool(values[0] != values[1])
