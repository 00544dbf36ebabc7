"""Publishers' catalogues over the control API of a node that runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from dht_torrent import MutableLink, open_node
from dht_torrent.config import SubscribeConfig
from dht_torrent.daemon.client import Client
from dht_torrent.daemon.link_calls import LinkCalls
from dht_torrent.engine.keys import KeyStore
from dht_torrent.errors import InputError
from tests.daemon.test_following_api import LINK, through
from tests.daemon.test_server import serving
from tests.helpers.nodes import local_config


def unsubscribe(which: str) -> Callable[[Client], Any]:
    return lambda client: client.links.unsubscribe(which)


async def test_what_is_asked_is_done_and_told(tmp_path: Path) -> None:
    state = tmp_path / "state"
    config = local_config(tmp_path / "node", state_dir=state)
    async with open_node(config) as node, serving(node, None, state):
        told = await through(state, lambda client: client.links.subscribe(str(LINK)))
        (view,) = node.subscriptions.listed()
        assert set(told) == set(asdict(view))
        assert (told["link"], told["title"], told["torrents"]) == (str(LINK), "news", 0)
        assert (told["version"], told["state"], told["error"]) == (None, "looking", None)
        assert told["publisher"] == LINK.key.hex()
        # Asked twice, it is one.
        again = await through(state, lambda client: client.links.subscribe(str(LINK)))
        assert again["id"] == told["id"] == node.followed[0].id
        (listed,) = await through(state, lambda client: client.links.subscriptions())
        assert listed["id"] == told["id"]
        for name in ("news", str(LINK), told["id"][:8]):
            gone = await through(state, unsubscribe(name))
            assert gone["id"] == told["id"]
            assert not node.subscriptions.listed()
            assert not node.followed
            await through(state, lambda client: client.links.subscribe(str(LINK)))

        films = await through(state, lambda client: client.links.publish_catalogue("films"))
        KeyStore(state).make("other", bytes(32))
        other = await through(
            state, lambda client: client.links.publish_catalogue("films", key="other")
        )
        assert [view.link for view in node.published_links()] == [films["link"], other["link"]]
        assert [MutableLink.parse(one["link"]).title for one in (films, other)] == ["films"] * 2
        assert [view.key_name for view in node.published_links()] == ["default", "other"]


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (lambda links: links.subscribe("magnet:?"), "no public key"),
        (lambda links: links.subscribe("news"), "magnet"),
        (lambda links: links.subscribe("magnet:?xt=urn:btih:" + "00" * 20), "no public key"),
        (lambda links: links.subscribe(str(MutableLink(bytes(32)))), "at most 0 catalogues"),
        (lambda links: links.unsubscribe(str(LINK)), "no such link"),
        (lambda links: links.unsubscribe(""), "no such link"),
        (lambda links: links.unsubscribe("news"), "no such link"),
        (lambda links: links.publish_catalogue(""), "name"),
        (lambda links: links.publish_catalogue("\x1b[31m"), "name"),
        (lambda links: links.publish_catalogue("n" * 65), "at most 64 bytes"),
        (lambda links: links.publish_catalogue("n", key="../k"), "a key's name"),
        (lambda links: links._ask("POST", "subscriptions", {}), "link is missing"),
        (lambda links: links._ask("POST", "subscriptions/remove", {"link": 5}), "link"),
        (lambda links: links._ask("POST", "catalogue/publish", {}), "name is missing"),
        (lambda links: links._ask("POST", "catalogue/publish", {"names": "x"}), "names"),
    ],
)
async def test_what_cannot_be_done_is_said_in_a_line(
    command: Callable[[LinkCalls], Any], says: str, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    limits = SubscribeConfig(max_subscriptions=0)
    config = local_config(tmp_path / "node", state_dir=state, subscribe=limits)
    async with open_node(config) as node, serving(node, None, state):
        with pytest.raises(InputError, match=says) as error:
            await through(state, lambda client: command(client.links))
        assert str(error.value).isprintable()
        assert not node.subscriptions.listed()
        assert not node.followed
        assert node.published_links() == []


async def test_without_a_state_directory_a_list_cannot_be_published(tmp_path: Path) -> None:
    state = tmp_path / "state"
    config = local_config(tmp_path / "node", state_dir=None)
    async with open_node(config) as node, serving(node, None, state):
        with pytest.raises(InputError, match="state directory"):
            await through(state, lambda client: client.links.publish_catalogue("films"))
