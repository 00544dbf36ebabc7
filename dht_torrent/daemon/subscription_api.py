"""Publishers' catalogues in the control API: those that are subscribed to, and our own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dht_torrent.daemon.body import check_types
from dht_torrent.engine.search.views import SubscriptionView
from dht_torrent.errors import InputError

if TYPE_CHECKING:
    from dht_torrent.engine.node import Node

Json = dict[str, Any]

LINK: Mapping[str, type] = {"link": str}
PUBLISH: Mapping[str, type] = {"name": str, "key": str}


async def subscribe(node: Node, body: Json) -> SubscriptionView:
    """The answer to `POST subscriptions`. Raises InputError, StorageError."""
    return await node.subscriptions.subscribe(_needed(check_types(body, LINK), "link"))


async def unsubscribe(node: Node, body: Json) -> SubscriptionView:
    """The answer to `POST subscriptions/remove`. Raises InputError, StorageError."""
    return await node.subscriptions.unsubscribe(_needed(check_types(body, LINK), "link"))


async def publish_catalogue(node: Node, body: Json) -> Json:
    """The answer to `POST catalogue/publish`. Raises InputError, StorageError."""
    given = check_types(body, PUBLISH)
    key = {"key": given["key"]} if "key" in given else {}
    return {"link": str(await node.subscriptions.feeds.publish(_needed(given, "name"), **key))}


def _needed(given: Mapping[str, Any], name: str) -> str:
    if name not in given:
        raise InputError(f"{name} is missing")
    return str(given[name])
