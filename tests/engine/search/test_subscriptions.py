"""A publisher's catalogue, from its own shares to the searches of who subscribes."""

from __future__ import annotations

import contextlib
import os
import re
import zlib
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dht_torrent import MutableLink, Node
from dht_torrent.catalogue import Entry, Source
from dht_torrent.catalogue.segments import pack
from dht_torrent.config import CatalogueConfig, FollowConfig, SearchConfig, SubscribeConfig
from dht_torrent.dht.items import MutableItem
from dht_torrent.engine.following.records import target_of
from dht_torrent.engine.search.subscriptions import Subscriptions, _segments_in
from dht_torrent.engine.search.views import SubscriptionView
from dht_torrent.errors import InputError, SearchFormatError
from tests.engine.following.test_following import Town
from tests.helpers.catalogues import entry
from tests.helpers.databases import Database

MINUTE, HOUR = 60.0, 3600.0
PUT = Subscriptions._put
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


@pytest.fixture(params=["file", pytest.param("database", marks=pytest.mark.postgresql)])
def store(request: pytest.FixtureRequest) -> dict[str, Any]:
    """How a reader is opened: with either kind of catalogue."""
    if request.param == "file":
        return FAST
    database: Database = request.getfixturevalue("database")
    return {**FAST, "catalogue": CatalogueConfig(url=database.url)}


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
    town: Town, tmp_path: Path, autojump_clock: MockClock, store: dict[str, Any]
) -> None:
    async with town.node(1, **FAST) as publisher, town.node(2, **store) as reader:
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
        left, _ = await (await reader._search.local()).page()
        assert not any(one.sources & Source.FEED or one.claims for one in left)
        assert not list((town.state(2) / "subscriptions").iterdir())


async def test_two_catalogues_share_what_both_list(
    town: Town, tmp_path: Path, autojump_clock: MockClock, store: dict[str, Any]
) -> None:
    async with (
        town.node(1, **FAST) as one,
        town.node(3, **FAST) as other,
        town.node(2, **store) as reader,
    ):
        first = await foreign(one, tmp_path / "a", dict(pack(rows(4))))
        second = await foreign(other, tmp_path / "b", dict(pack(rows(4, first=2))))
        await reader.subscriptions.subscribe(first)
        await reader.subscriptions.subscribe(second)
        with trio.fail_after(40 * MINUTE):
            while [view.torrents for view in reader.subscriptions.listed()] != [4, 4]:
                await trio.sleep(5)
        both = await (await reader._search.local()).get(rows(3)[2].infohash)
        assert both is not None
        assert {one.publisher for one in both.claims} == {first.key, second.key}
        await reader.subscriptions.unsubscribe(str(first))
        assert await names(reader, "listed") == [f"Listed {number}" for number in (2, 3, 4, 5)]
        both = await (await reader._search.local()).get(both.infohash)
        assert both is not None
        assert [one.publisher for one in both.claims] == [second.key]
        with pytest.raises(InputError, match="no such link here"):
            await reader.subscriptions.unsubscribe(str(first))


async def test_of_two_lists_with_one_key_the_other_still_vouches(
    town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with town.node(1, **FAST) as publisher, town.node(2, **FAST) as reader:
        first = await foreign(publisher, tmp_path / "a", dict(pack(rows(4))))
        place = tmp_path / "b"
        place.mkdir()
        for name, data in pack(rows(4, first=2)).items():
            (place / name).write_bytes(data)
        for link in (first, await publisher.publish_link(place, "another")):
            await reader.subscriptions.subscribe(link)
        with trio.fail_after(40 * MINUTE):
            while [view.torrents for view in reader.subscriptions.listed()] != [4, 4]:
                await trio.sleep(5)
        await reader.subscriptions.unsubscribe("foreign")
        left, _ = await (await reader._search.local()).page(source=Source.FEED)
        assert {one.infohash for one in left} == {one.infohash for one in rows(4, first=2)}
        assert all(one.claims[0].publisher == first.key for one in left)


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
        # What it has itself takes nothing from the room of its next version.
        await foreign(other, tmp_path / "1", dict(pack(rows(40, first=100))))
        with trio.fail_after(40 * MINUTE):
            while reader.subscriptions.listed()[1].version == views[1].version:
                await trio.sleep(5)
        assert [view.torrents for view in reader.subscriptions.listed()] == [10, 5]
        assert reader.subscriptions.listed()[1].skipped == 35


@pytest.mark.parametrize(
    ("segments", "why"),
    [
        ({"readme.txt": b"hello"}, "no segment"),
        ({"0000.rows": b"junk"}, "cannot be unpacked"),
        ({**pack(rows(3)), "0001.rows": zlib.compress(b'{"catalogue": 9}\n')}, "newer"),
        ({"0000.rows": zlib.compress(b'{"catalogue": 1}\n' + b"\n" * 60_000)}, "rows"),
        ({**pack(rows(3)), "0001.rows": bytes(8_000_000)}, "and is not fetched"),
    ],
    ids=["none", "junk", "newer", "too many", "too large"],
)
async def test_what_is_not_a_catalogue_is_told_and_the_last_one_stays(
    segments: dict[str, bytes], why: str, town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    limits = SubscribeConfig(max_bytes=100_000)
    async with (
        town.node(1, **FAST) as publisher,
        town.node(2, subscribe=limits, limit_down=500_000, **FAST) as reader,
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


@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_what_is_called_a_segment_and_is_no_regular_file_is_never_opened(
    kind: str, tmp_path: Path
) -> None:
    for name, data in pack(rows(3)).items():
        (tmp_path / name).write_bytes(data)
    assert _segments_in(tmp_path, 100_000) == [tmp_path / "0000.rows"]
    odd = tmp_path / "0001.rows"
    if kind == "folder":
        odd.mkdir()
    elif kind == "pipe":
        os.mkfifo(odd)
    else:
        odd.symlink_to(tmp_path / "0000.rows")
    with pytest.raises(SearchFormatError, match=r"0001\.rows is too large, or not a file"):
        _segments_in(tmp_path, 100_000)


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
        view = await merged(reader, 2)
        assert view.refused == 3
        assert await names(reader, "listed") == ["Listed 0", "Listed 1"]
        await reader.block(link.key.hex())
        await foreign(publisher, tmp_path, dict(pack(rows(9))))
        with trio.fail_after(40 * MINUTE):
            while reader.subscriptions.listed()[0].refused != 9:
                await trio.sleep(5)
        assert reader.subscriptions.listed()[0].torrents == 0
        assert await names(reader, "listed") == []


async def test_what_is_blocked_or_denied_no_more_is_back_at_once(
    town: Town, tmp_path: Path, autojump_clock: MockClock, store: dict[str, Any]
) -> None:
    deny = tmp_path / "deny.txt"
    deny.write_text("")
    async with (
        town.node(1, **FAST) as publisher,
        town.node(2, deny_list=deny, **store) as reader,
    ):
        link = await foreign(publisher, tmp_path, dict(pack(rows(4))))
        await reader.subscriptions.subscribe(link)
        await merged(reader, 4)
        key = link.key.hex()
        for change, count in (
            (partial(reader.block, key), 0),
            (partial(reader.block, key, False), 4),
            (partial(reader.block, key), 0),
            (partial(reader.trust, key), 4),
        ):
            await change()
            await trio.sleep(1)
            (view,) = reader.subscriptions.listed()
            assert (view.torrents, view.refused) == (count, 4 - count)
            assert len(await names(reader, "listed")) == count
        for text, count in (("listed 3\n", 3), ("# nothing\n", 4)):
            deny.write_text(text)
            await trio.sleep(60)
            (view,) = reader.subscriptions.listed()
            assert (view.torrents, view.refused) == (count, 4 - count)
            assert len(await names(reader, "listed")) == count


async def test_who_was_blocked_while_its_list_was_put_in_is_left_out_of_it(
    town: Town, tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with town.node(1, **FAST) as publisher, town.node(2, **FAST) as reader:
        link = await foreign(publisher, tmp_path, dict(pack(rows(4))))

        async def put_and_block(self: Subscriptions, *args: Any) -> int:
            refused = await PUT(self, *args)
            await reader.block(link.key.hex())
            return refused

        monkeypatch.setattr(Subscriptions, "_put", put_and_block)
        await reader.subscriptions.subscribe(link)
        with trio.fail_after(40 * MINUTE):
            while reader.subscriptions.listed()[0].refused != 4:
                await trio.sleep(5)
        assert await names(reader, "listed") == []


async def test_a_subscription_whose_link_cannot_be_followed_waits_and_says_why(
    town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    link = MutableLink(bytes(32), b"films")
    async with town.node(2, **FAST) as reader:
        await reader.subscriptions.subscribe(link)
    for record in town.state(2).rglob("*.followed"):
        record.unlink()
    none = {**FAST, "follow": FollowConfig(max_links=0)}
    async with town.node(2, **none) as reader:
        await trio.sleep(60)
        (view,) = reader.subscriptions.listed()
        assert view.error is not None
        assert "at most 0 links" in view.error


async def test_what_a_list_says_otherwise_now_is_found_so(
    town: Town, tmp_path: Path, autojump_clock: MockClock, store: dict[str, Any]
) -> None:
    async with town.node(1, **FAST) as publisher, town.node(2, **store) as reader:
        link = await foreign(publisher, tmp_path, dict(pack(rows(3))))
        await reader.subscriptions.subscribe(link)
        first = (await merged(reader, 3)).version
        again = [*rows(2), entry(2, "Listed anew")]
        await foreign(publisher, tmp_path, dict(pack(again)))
        with trio.fail_after(40 * MINUTE):
            while reader.subscriptions.listed()[0].version == first:
                await trio.sleep(5)
        assert await names(reader, "listed") == ["Listed 0", "Listed 1", "Listed anew"]
        (one,) = [one async for one in reader.search("anew", network=False)]
        (before,) = [one async for one in reader.search("listed 1", network=False)]
        assert one.publisher == before.publisher == link.key.hex()


async def test_what_a_merge_that_was_cut_short_put_in_is_forgotten_too(
    town: Town, tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Subscriptions, "_put", put_and_stop)
    async with town.node(1, **FAST) as publisher:
        link = await foreign(publisher, tmp_path, dict(pack(rows(4))))
        async with town.node(2, **FAST) as reader:
            await reader.subscriptions.subscribe(link)
            with trio.fail_after(40 * MINUTE):
                while not await names(reader, "listed"):
                    await trio.sleep(5)
        async with town.node(2, **FAST) as reader:
            assert len(await names(reader, "listed")) == 4
            await reader.subscriptions.unsubscribe("foreign")
            assert await names(reader, "listed") == []


async def put_and_stop(self: Subscriptions, *args: Any) -> int:
    await PUT(self, *args)
    await trio.sleep_forever()
    raise AssertionError


async def test_rows_that_others_removed_from_a_catalogue_are_put_back_within_the_hour(
    town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with town.node(1, **FAST) as publisher, town.node(2, **FAST) as reader:
        link = await foreign(publisher, tmp_path, dict(pack(rows(4))))
        await reader.subscriptions.subscribe(link)
        await merged(reader, 4)
        catalogue = await reader._search.local()
        assert await catalogue.forget([row.infohash for row in rows(4)], Source.FEED) == 4
        await trio.sleep(3700)
        assert len(await names(reader, "listed")) == 4


async def test_an_older_list_that_is_replayed_and_a_forged_one_change_nothing(
    town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with town.node(1, **FAST) as publisher, town.node(2, **FAST) as reader:
        link = await foreign(publisher, tmp_path, dict(pack(rows(4))))
        await reader.subscriptions.subscribe(link)
        await merged(reader, 4)
        old = await publisher.dht.get(target_of(link), salt=link.salt)
        assert isinstance(old, MutableItem)
        await foreign(publisher, tmp_path, dict(pack(rows(2))))
        await merged(reader, 2)
    async with town.node(30, state_dir=None) as attacker:
        await trio.sleep(3 * HOUR)  # what the DHT had has expired
        await attacker.dht.put(old, keep=False)
        forged = await attacker.dht.put(replace(old, seq=old.seq + 1_000_000), keep=False)
        assert not forged.stored
        async with town.node(2, **FAST) as reader:
            await trio.sleep(30 * MINUTE)
            (followed,) = reader.followed
            assert followed.view().stale > 0
            (view,) = reader.subscriptions.listed()
            assert view.torrents == 2
            assert await names(reader, "listed") == ["Listed 0", "Listed 1"]


async def test_a_link_that_cannot_be_followed_leaves_no_subscription(
    town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    link = MutableLink(bytes(32), b"films")
    async with town.node(2) as reader:
        await reader.follow(link, output=tmp_path / "out")
        with pytest.raises(InputError, match="followed already"):
            await reader.subscriptions.subscribe(link)
        assert reader.subscriptions.listed() == []
        assert [one.output for one in reader.followed] == [tmp_path / "out"]
    async with town.node(2) as reader:
        assert reader.subscriptions.listed() == []


async def test_all_links_to_the_list_name_what_is_published_now(
    town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """One list, one torrent, one place: whatever links there are, were or will be."""
    async with town.node(1, **FAST) as publisher, town.node(2, **FAST) as reader:
        feeds = publisher.subscriptions.feeds
        await publisher.share(file(tmp_path, "Red film.mkv"), publish=True)
        links = [await feeds.publish(name) for name in ("films", "more", "a/b", "films")]
        assert len(set(links)) == 3
        await publisher.share(file(tmp_path, "Blue film.mkv"), publish=True)
        await trio.sleep(2 * SubscribeConfig().publish_interval)
        assert len({one.torrent for one in publisher.published_links()}) == 1
        for link in set(links):
            await reader.subscriptions.subscribe(link)
        with trio.fail_after(40 * MINUTE):
            while [one.torrents for one in reader.subscriptions.listed()] != [2, 2, 2]:
                await trio.sleep(5)
        for number in range(3):
            await publisher.share(file(tmp_path, f"Film {number}.mkv"), publish=True)
            with trio.fail_after(40 * MINUTE):
                while {one.torrents for one in reader.subscriptions.listed()} != {3 + number}:
                    await trio.sleep(5)
            assert [one.error for one in reader.subscriptions.listed()] == [None] * 3
        for name in ("films", "more", "a/b"):
            await publisher.unpublish_link(name)
        await publisher.share(file(tmp_path, "Green film.mkv"), publish=True)
        again = await feeds.publish("another")
        assert again not in links
        await publisher.unpublish_link("another")
        await feeds.publish("last")  # nothing was published in between: it is the same torrent


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
