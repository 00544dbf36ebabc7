"""Which catalogue a node has: a database that it shares with others, or a file in its state
directory, or one in memory where there is none or where it cannot be used there.
"""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from dht_torrent.engine.search.catalogue import KEY_BYTES, LocalCatalogue, open_catalogue
from dht_torrent.engine.search.denying import Denied
from dht_torrent.engine.torrent.context import NodeContext
from dht_torrent.errors import StorageError

logger = logging.getLogger(__name__)

CATALOGUE: Final = "catalogue.sqlite"
"""In the state directory."""


@dataclass(slots=True)
class Placed:
    """A catalogue, or why there is none."""

    catalogue: LocalCatalogue | None = None
    why_none: StorageError | None = None
    warnings: list[str] = field(default_factory=list)
    """What cannot be used, a line each."""


@asynccontextmanager
async def placed(
    context: NodeContext, denied: Denied, dice: random.Random
) -> AsyncIterator[Placed]:
    """The catalogue of a node, for the length of the block. `dice` makes secrets."""
    found = Placed()
    state, config = context.state, context.config
    settings = config.catalogue
    if config.disk.inline:
        settings = replace(settings, inline=True)
    paths: list[Path | None] = [None]
    node = None
    if settings.url is not None:
        node = await _known_as(context, dice, found.warnings)
    elif state is not None:
        paths.insert(0, state.path / CATALOGUE)
    async with AsyncExitStack() as stack:
        for path in paths:
            try:
                found.catalogue = await stack.enter_async_context(
                    open_catalogue(path, settings, denied, node=node)
                )
                break
            except StorageError as error:
                found.why_none = error
                found.warnings.append(f"search works without what it knew: {error}")
                logger.warning("the catalogue cannot be opened: %s", error)
        yield found


async def _known_as(context: NodeContext, dice: random.Random, warnings: list[str]) -> bytes | None:
    """By what key a catalogue that is shared knows this node; None: by none that lasts."""
    state, disk = context.state, context.disk
    if state is None:
        return None
    key, told = await disk.run(state.load_catalogue_key)
    if key is None and not told:
        key = dice.randbytes(KEY_BYTES)
        try:
            await disk.run(state.save_catalogue_key, key)
        except StorageError as error:
            key, told = None, [str(error)]
    warnings += [f"the catalogue takes this node for a new one: {line}" for line in told]
    return key
