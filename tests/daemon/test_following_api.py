"""Links whose content changes, over the control API of a node that runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dht_torrent import MutableLink, Node, open_node
from dht_torrent.daemon.app import make_app
from dht_torrent.daemon.client import Client, connect
from dht_torrent.daemon.following_api import REPEAT_AFTER
from dht_torrent.engine.keys import KeyStore
from dht_torrent.errors import InputError
from tests.daemon.test_server import serving
from tests.daemon.test_watch import Watching
from tests.helpers.content import make_file
from tests.helpers.engine import LEECH, World
from tests.helpers.nodes import local_config

LINK = MutableLink(bytes(range(32)), b"news")


async def through(state: Path, command: Callable[[Client], Any]) -> Any:
    def in_thread() -> Any:
        with connect(state) as client:
            return command(client)

    return await trio.to_thread.run_sync(in_thread)


async def test_what_is_asked_is_done_and_told(tmp_path: Path) -> None:
    state = tmp_path / "state"
    film = make_file(tmp_path / "film.bin", 1000)
    config = local_config(tmp_path / "node", state_dir=state)
    async with open_node(config) as node, serving(node, None, state):
        out = tmp_path / "out"
        told = await through(
            state, lambda client: client.links.follow(str(LINK), output=out, keep=3)
        )
        (followed,) = node.followed
        assert (followed.link, followed.output, followed.view().keep) == (LINK, out, 3)
        assert told["id"] == followed.id
        assert (told["state"], told["output"], told["link"]) == ("looking", str(out), str(LINK))
        assert set(told) == set(asdict(followed.view()))
        assert (await through(state, lambda client: client.links.followed()))[0]["id"] == told["id"]

        def first_line(client: Client) -> Any:
            with closing(client.links.watch(told["id"])) as lines:
                return next(lines)

        assert (await through(state, first_line))["id"] == told["id"]
        await through(state, lambda client: client.links.unfollow(told["id"][:8]))
        assert node.followed == []

        with pytest.raises(InputError, match="no key other; `dhtnode key new other`"):
            await through(state, lambda client: client.links.publish(film, "film", key="other"))
        KeyStore(state).make("other", bytes(32))
        published = await through(
            state, lambda client: client.links.publish(film, "film", key="other")
        )
        (view,) = node.published_links()
        assert published["link"] == view.link
        assert (view.key_name, view.path, view.name) == ("other", str(film), "film")
        (listed,) = await through(state, lambda client: client.links.published())
        assert listed["torrent"] == next(iter(node.torrents.values())).id
        await through(state, lambda client: client.links.unpublish("film"))
        assert node.published_links() == []


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (lambda links: links.follow("magnet:?"), "no public key"),
        (lambda links: links.follow(str(LINK), output=Path("relative")), "absolute"),
        (lambda links: links.follow(str(LINK), keep=-1), "0 to 100"),
        (lambda links: links.unfollow(str(LINK)), "no such link"),
        (lambda links: next(links.watch("00" * 20)), "no such link"),
        (lambda links: links.publish(Path("relative"), "x"), "absolute"),
        (lambda links: links.publish(Path("/nowhere/at/all"), "x"), "nowhere"),
        (lambda links: links.publish(Path("/nowhere/at/all"), ""), "name"),
        (lambda links: links.publish(Path("/nowhere/at/all"), "x", key="../k"), "a key's name"),
        (lambda links: links.unpublish("x"), "no such link"),
    ],
)
async def test_what_cannot_be_done_is_said(
    command: Callable[[Any], Any], says: str, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    config = local_config(tmp_path / "node", state_dir=state)
    async with open_node(config) as node, serving(node, None, state):
        with pytest.raises(InputError, match=says):
            await through(state, lambda client: command(client.links))
        assert node.followed == []
        assert node.published_links() == []


def watching(node: Node, nursery: trio.Nursery, link_id: str, method: str = "GET") -> Watching:
    app = make_app(node, stop=lambda: None)
    one = Watching(app, f"/api/v1/followed/{link_id}/watch", method)
    nursery.start_soon(one.run)
    return one


async def test_a_watch_repeats_itself_and_ends_with_the_following(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async with World().node(LEECH) as node:
        followed = await node.follow(LINK)
        watch = watching(node, nursery, followed.id)
        head = watching(node, nursery, followed.id, "HEAD")
        await trio.sleep(2.5 * REPEAT_AFTER)
        assert [line["state"] for line in watch.lines] == ["looking"] * 3
        assert json.loads(json.dumps(watch.lines[0]))["link"] == str(LINK)
        assert head.lines == []
        await node.unfollow(str(LINK))
        await trio.sleep(1)
        assert watch.sent[-1][1]["more_body"] is False
