"""A publisher's catalogue, from its own shares to the searches of who subscribes."""

from __future__ import annotations

import contextlib
import re
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dht_torrent import MutableLink, Node
from dht_torrent.catalogue import Entry, Source
from dht_torrent.catalogue.segments import pack
from dht_torrent.config import FollowConfig, SearchConfig, SubscribeConfig
from dht_torrent.engine.search.views import SubscriptionView
from dht_torrent.errors import InputError
from tests.engine.following.test_following import Town
from tests.helpers.catalogues import entry

MINUTE = 60.0
FAST: dict[str, Any] = {
    "search": SearchConfig(publish_rate=50.0, publish_burst=50.0),
    "follow": FollowConfig(retry_interval=10.0),
}


@pytest.fixture
async def town(tmp_path: Path, autojump_clock: MockClock) -> AsyncIterator[Town]:
    town = Town(tmp_path)
    async with contextlib.AsyncExitStack() as stack:
        for number in (9, 8, 7):
            await stack.enter_async_context(town.node(number, state_dir=None))
        yield town


def file(folder: Path, name: str) -> Path:
    path = folder / "own" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(name.encode() * 50)
    return path


async def names(node: Node, text: str) -> list[str]:
    return sorted([one.name async for one in node.search(text, network=False)])


async def merged(node: Node, count: int, minutes: float = 40) -> SubscriptionView:
    """Until the first subscription has so many torrents."""
    with trio.fail_after(minutes * MINUTE):
        while True:
            (view,) = node.subscriptions.listed()
            if view.version is not None and view.torrents == count:
                return view
            await trio.sleep(5)


async def foreign(node: Node, folder: Path, segments: dict[str, bytes]) -> MutableLink:
    """A link to a catalogue written by hand."""
    place = folder / "foreign" / "catalogue"
    place.mkdir(parents=True, exist_ok=True)
    for old in place.iterdir():
        old.unlink()
    for name, data in segments.items():
        (place / name).write_bytes(data)
    return await node.publish_link(place, "foreign")


def rows(count: int, first: int = 0, title: str = "Listed") -> list[Entry]:
    return [entry(number, f"{title} {number}") for number in range(first, first + count)]


async def test_what_a_publisher_lists_is_found_by_who_subscribes(
    town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with town.node(1, **FAST) as publisher, town.node(2, **FAST) as reader:
        await publisher.share(file(tmp_path, "Red film.mkv"), publish=True, tags=["movie"])
        await publisher.share(file(tmp_path, "Blue film.mkv"), publish=True)
        await publisher.share(file(tmp_path, "Secret film.mkv"))
        await publisher.share(file(tmp_path, "Private film.mkv"), private=True)
        link = await publisher.subscriptions.feeds.publish("films")
        told = await reader.subscriptions.subscribe(str(link))
        assert (told.title, told.torrents, told.version) == ("films", 0, None)
        view = await merged(reader, 2)
        assert view.publisher == link.key.hex()
        assert (view.error, view.skipped, view.refused) == (None, 0, 0)
        assert await names(reader, "film") == ["Blue film.mkv", "Red film.mkv"]
        (red,) = [one async for one in reader.search("red", network=False)]
        assert red.trust == "verified"
        assert red.publisher == link.key.hex()
        assert [one.name async for one in reader.search("movie", network=False)] == ["Red film.mkv"]

        # It follows what is published, in both directions.
        await publisher.share(file(tmp_path, "Green film.mkv"), publish=True)
        await merged(reader, 3)
        blue = publisher.find((await _find(publisher, "blue")).id)
        await publisher.unpublish(blue)
        await merged(reader, 2)
        assert await names(reader, "film") == ["Green film.mkv", "Red film.mkv"]

        # And it ends.
        ended = await reader.subscriptions.unsubscribe("films")
        assert ended.torrents == 2
        assert reader.subscriptions.listed() == []
        assert await names(reader, "film") == []
        assert reader.followed == []
        assert not reader.torrents


async def _find(node: Node, text: str) -> Any:
    (found,) = [one async for one in node.search(text, network=False)]
    return found


async def test_a_thousand_titles_cost_one_item_of_the_dht(
    town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with town.node(1, **FAST) as publisher, town.node(2, **FAST) as reader:
        before = sum(dht.status().stored_items for dht in publisher.dht)
        link = await foreign(publisher, tmp_path, dict(pack(rows(1000))))
        await reader.subscriptions.subscribe(link)
        await merged(reader, 1000)
        assert sum(dht.status().stored_items for dht in publisher.dht) == before + 1
        assert (await reader.catalogue_status()).torrents >= 1000  # and the list itself, by now
        assert await names(reader, "listed 77") == ["Listed 77"]


async def test_a_subscription_survives_a_restart_and_a_lost_catalogue(
    town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with town.node(1, **FAST) as publisher:
        link = await foreign(publisher, tmp_path, dict(pack(rows(5))))
        async with town.node(2, **FAST) as reader:
            await reader.subscriptions.subscribe(link)
            await merged(reader, 5)
        async with town.node(2, **FAST) as reader:
            await trio.sleep(5)
            (view,) = reader.subscriptions.listed()
            assert (view.torrents, view.link) == (5, str(link))
            assert len(await names(reader, "listed")) == 5
            await foreign(publisher, tmp_path, dict(pack(rows(7))))
            await merged(reader, 7)
        for path in town.state(2).glob("catalogue.sqlite*"):
            path.unlink()
        async with town.node(2, **FAST) as reader:
            await trio.sleep(60)
            assert len(await names(reader, "listed")) == 7
            await reader.subscriptions.unsubscribe(str(link))
        async with town.node(2, **FAST) as reader:
            await trio.sleep(60)
            assert reader.subscriptions.listed() == []
            assert await names(reader, "listed") == []


async def test_what_came_from_elsewhere_too_stays(
    town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with town.node(1, **FAST) as publisher, town.node(2, **FAST) as reader:
        own = await reader.share(file(tmp_path, "Listed own.mkv"))
        listed = [*rows(3), Entry(infohash=own.info_hash, title="Listed lie", words="listed lie")]
        link = await foreign(publisher, tmp_path, dict(pack(listed)))
        lines = b'{"id": "%s", "name": "Listed import"}\n' % rows(1)[0].infohash.hex().encode()
        await reader.import_catalogue(lines)
        await reader.subscriptions.subscribe(link)
        await merged(reader, 4)
        assert "Listed own.mkv" in await names(reader, "listed")
        assert "Listed lie" not in await names(reader, "listed")
        await reader.subscriptions.unsubscribe(str(link))
        # The better proof has given the import its name.
        assert await names(reader, "listed") == ["Listed 0", "Listed own.mkv"]
        assert not any(
            entry_.sources & Source.FEED
            for entry_ in (await (await reader._search.local()).page())[0]
        )


async def test_two_catalogues_share_what_both_list(
    town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with (
        town.node(1, **FAST) as one,
        town.node(3, **FAST) as other,
        town.node(2, **FAST) as reader,
    ):
        first = await foreign(one, tmp_path / "a", dict(pack(rows(4))))
        second = await foreign(other, tmp_path / "b", dict(pack(rows(4, first=2))))
        await reader.subscriptions.subscribe(first)
        await reader.subscriptions.subscribe(second)
        with trio.fail_after(40 * MINUTE):
            while [view.torrents for view in reader.subscriptions.listed()] != [4, 4]:
                await trio.sleep(5)
        await reader.subscriptions.unsubscribe(str(first))
        assert await names(reader, "listed") == [f"Listed {number}" for number in (2, 3, 4, 5)]
        with pytest.raises(InputError, match="no such subscription"):
            await reader.subscriptions.unsubscribe(str(first))


async def test_a_catalogue_keeps_within_its_rows(
    town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    limits = SubscribeConfig(max_rows=10, max_rows_of_all=15)
    async with (
        town.node(1, **FAST) as one,
        town.node(3, **FAST) as other,
        town.node(2, subscribe=limits, **FAST) as reader,
    ):
        for number, node in enumerate((one, other)):
            some = dict(pack(rows(30, first=100 * number)))
            link = await foreign(node, tmp_path / str(number), some)
            await reader.subscriptions.subscribe(link)
            with trio.fail_after(40 * MINUTE):
                while any(view.version is None for view in reader.subscriptions.listed()):
                    await trio.sleep(5)
        views = reader.subscriptions.listed()
        assert [view.torrents for view in views] == [10, 5]
        assert [view.skipped for view in views] == [20, 25]
        assert len(await names(reader, "listed")) == 15


@pytest.mark.parametrize(
    ("segments", "why"),
    [
        ({"readme.txt": b"hello"}, "no segment"),
        ({"0000.rows": b"junk"}, "cannot be unpacked"),
        ({**pack(rows(3)), "0001.rows": zlib.compress(b'{"catalogue": 9}\n')}, "newer"),
        ({"0000.rows": zlib.compress(b'{"catalogue": 1}\n' + b"\n" * 60_000)}, "rows"),
        ({**pack(rows(3)), "0001.rows": bytes(200_000)}, "too large|not fetched"),
    ],
    ids=["none", "junk", "newer", "too many", "too large"],
)
async def test_what_is_not_a_catalogue_is_told_and_the_last_one_stays(
    segments: dict[str, bytes], why: str, town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    limits = SubscribeConfig(max_bytes=100_000)
    async with (
        town.node(1, **FAST) as publisher,
        town.node(2, subscribe=limits, **FAST) as reader,
    ):
        link = await foreign(publisher, tmp_path, dict(pack(rows(2))))
        await reader.subscriptions.subscribe(link)
        await merged(reader, 2)
        await foreign(publisher, tmp_path, segments)
        with trio.fail_after(60 * MINUTE):
            while (view := reader.subscriptions.listed()[0]).error is None:
                await trio.sleep(5)
        assert re.search(why, view.error)
        assert len(await names(reader, "listed")) == 2
        # A good one mends it.
        await foreign(publisher, tmp_path, dict(pack(rows(4))))
        view = await merged(reader, 4, 120)
        assert view.error is None


async def test_denied_and_blocked_rows_are_left_out(
    town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    deny = tmp_path / "deny.txt"
    deny.write_text("forbidden\n")
    async with (
        town.node(1, **FAST) as publisher,
        town.node(2, deny_list=deny, **FAST) as reader,
    ):
        listed = [*rows(2), *rows(3, first=50, title="Forbidden listed")]
        link = await foreign(publisher, tmp_path, dict(pack(listed)))
        await reader.subscriptions.subscribe(link)
        view = await merged(reader, 5)
        assert view.refused == 3
        assert await names(reader, "listed") == ["Listed 0", "Listed 1"]
        await reader.block(link.key.hex())
        await foreign(publisher, tmp_path, dict(pack(rows(9))))
        view = await merged(reader, 9)
        assert view.refused == 9
        assert await names(reader, "listed") == []


async def test_without_a_state_directory_no_catalogue_is_published(
    town: Town, autojump_clock: MockClock
) -> None:
    async with town.node(1, state_dir=None) as node:
        with pytest.raises(InputError, match="state directory"):
            await node.subscriptions.feeds.publish("films")


async def test_a_link_that_is_none_is_refused(town: Town, autojump_clock: MockClock) -> None:
    async with town.node(1) as node:
        with pytest.raises(InputError):
            await node.subscriptions.subscribe("magnet:?xt=urn:btih:" + "ab" * 20)
        limits = SubscribeConfig(max_subscriptions=0)
        async with town.node(2, subscribe=limits) as full:
            with pytest.raises(InputError, match="at most 0"):
                await full.subscriptions.subscribe(MutableLink(bytes(32)))
