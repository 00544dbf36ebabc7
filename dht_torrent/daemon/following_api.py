"""Links whose content changes in the control API: those that are followed, and those published."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from dht_torrent.daemon.body import absolute_path, check_types
from dht_torrent.engine.following.views import FollowView, PublishedView
from dht_torrent.errors import InputError

if TYPE_CHECKING:
    from dht_torrent.engine.following.followed import Followed
    from dht_torrent.engine.node import Node

Json = dict[str, Any]

REPEAT_AFTER = 10.0
"""Seconds after which a watch sends the same again: its client sees that we are alive ..."""
PROGRESS_EVERY = 1.0
"""... and between two looks at how far a version has come."""

FOLLOW: Mapping[str, type] = {"link": str, "output": str, "keep": int}
UNFOLLOW: Mapping[str, type] = {"link": str, "data": bool}
PUBLISH: Mapping[str, type] = {"path": str, "name": str, "key": str}
UNPUBLISH: Mapping[str, type] = {"link": str}


async def follow(node: Node, body: Json) -> FollowView:
    """The answer to `POST followed`. Raises InputError, StorageError."""
    given = check_types(body, FOLLOW)
    if "output" in given:
        absolute_path(given["output"], "output")
    followed = await node.follow(
        _needed(given, "link"), output=given.get("output"), keep=given.get("keep")
    )
    return followed.view()


async def unfollow(node: Node, body: Json) -> FollowView:
    """The answer to `POST followed/remove`. Raises InputError, StorageError."""
    given = check_types(body, UNFOLLOW)
    return await node.unfollow(_needed(given, "link"), delete_data=given.get("data", False))


async def publish(node: Node, body: Json) -> PublishedView:
    """The answer to `POST published`, once what is at the path was hashed. Raises InputError,
    StorageError."""
    given = check_types(body, PUBLISH)
    path = _needed(given, "path")
    absolute_path(path, "path")
    key = {"key": given["key"]} if "key" in given else {}
    link = str(await node.publish_link(Path(path), _needed(given, "name"), **key))
    (published,) = [one for one in node.published_links() if one.link == link]
    return published


async def unpublish(node: Node, body: Json) -> PublishedView:
    """The answer to `POST published/remove`. Raises InputError, StorageError."""
    return await node.unpublish_link(_needed(check_types(body, UNPUBLISH), "link"))


def find(node: Node, link_id: str) -> Followed:
    """Raises InputError."""
    for followed in node.followed:
        if followed.id == link_id:
            return followed
    raise InputError(f"no such link here: {link_id[:80]}")


async def watch(followed: Followed) -> AsyncGenerator[FollowView, None]:
    """What is shown of a link now, and whenever that changes; ends when it is followed no more."""
    while followed.is_followed:
        view = followed.view()
        yield view
        pause = PROGRESS_EVERY if view.state == "fetching" else REPEAT_AFTER
        with trio.move_on_after(pause):
            await followed.changed()


def _needed(given: Json, key: str) -> str:
    if key not in given:
        raise InputError(f"{key} is needed")
    return str(given[key])
