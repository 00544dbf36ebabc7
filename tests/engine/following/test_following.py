"""A link from its publisher's disk to its followers', on a network in memory and real files."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dht_torrent import Config, Followed, MutableLink, Node, open_node
from dht_torrent.config import DhtConfig, DiskConfig, FollowConfig
from dht_torrent.dht.items import MutableItem, SigningKey, mutable_target, sign
from dht_torrent.dht.versions import version_value
from dht_torrent.engine.keys import KeyStore
from dht_torrent.errors import InputError, StorageError
from dht_torrent.ids import HostPort, InfoHash
from dht_torrent.lab.net.network import FakeNetwork
from tests.helpers.content import differences, make_file, make_tree

KIB = 1024
MINUTE, HOUR = 60.0, 3600.0
PUBLISHER, FOLLOWER = 1, 2
BEGAN = 1_800_000_000.0


class Town:
    """Some nodes that only are there, and one for each number that a test opens."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.net = FakeNetwork(random.Random(3), latency=0.01)
        self.skew = 0.0

    def clock(self) -> float:
        return BEGAN + trio.current_time() + self.skew

    @contextlib.asynccontextmanager
    async def node(self, number: int, **changes: Any) -> AsyncIterator[Node]:
        ip = f"10.0.0.{number}"
        config = Config(
            bootstrap=[HostPort("10.0.0.9", 6881)] if number != 9 else (),
            listen=f"{ip}:6881",
            state_dir=self.state(number),
            download_dir=self.folder / f"got{number}",
            disk=DiskConfig(inline=True),
            dht=DhtConfig(unlimited=True),
        )
        async with open_node(
            replace(config, **changes),
            network=self.net.host(ip),
            rng=random.Random(number),
            clock=self.clock,
        ) as node:
            if number != 9:
                await node.dht.bootstrapped()
            yield node

    def state(self, number: int) -> Path:
        return self.folder / f"state{number}"


@pytest.fixture
async def town(tmp_path: Path, autojump_clock: MockClock) -> AsyncIterator[Town]:
    town = Town(tmp_path)
    async with contextlib.AsyncExitStack() as stack:
        for number in (9, 8, 7):
            await stack.enter_async_context(town.node(number, state_dir=None))
        yield town


def content(folder: Path, seed: int = 1) -> Path:
    """A version: one file stays, one differs."""
    make_file(folder / "news" / "stays.bin", 400 * KIB, seed=77)
    return make_tree(folder / "news", {"page.bin": 100 * KIB}, seed=seed)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def switched(followed: Followed, before: InfoHash | None = None) -> InfoHash:
    with trio.fail_after(30 * MINUTE):
        return await followed.switched(before)


async def put(node: Node, item: MutableItem) -> None:
    await node.dht.put(item, keep=False)


def by_hand(town: Town, number: int, info_hash: InfoHash, seq: int) -> MutableItem:
    """A version as the publisher would sign it, at whatever sequence number."""
    path = KeyStore(town.state(number)).path("default")
    key = SigningKey(bytes.fromhex(path.read_text()))
    return sign(key, version_value(info_hash), seq, b"news")


async def test_a_link_that_is_published_is_followed(
    town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    news = content(tmp_path)
    async with town.node(PUBLISHER) as publisher, town.node(FOLLOWER) as follower:
        link = await publisher.publish_link(news, "news")
        assert str(link) == f"magnet:?xs=urn:btpk:{link.key.hex()}&s={b'news'.hex()}"
        followed = await follower.follow(str(link), output=tmp_path / "out")
        first = await switched(followed)
        assert trio.current_time() < 3 * MINUTE
        assert followed.path == tmp_path / "out" / "current" / "news"
        assert differences(news, followed.path) == []
        view = followed.view()
        assert (view.state, view.progress, view.error) == ("current", 1.0, None)
        assert json.loads(json.dumps(asdict(view)))["current_id"] == first.hex()
        (told,) = publisher.published_links()
        assert (told.torrent, told.seq, told.error) == (first.hex(), view.seq, None)
        assert told.nodes
        assert not told.replaced


async def test_what_changed_in_place_is_a_new_version_and_reaches_followers(
    town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    news = content(tmp_path)
    async with town.node(PUBLISHER) as publisher, town.node(FOLLOWER) as follower:
        link = await publisher.publish_link(news, "news")
        followed = await follower.follow(link, output=tmp_path / "out")
        first = await switched(followed)
        old = publisher.torrents[first]
        for seed in (2, 3, 4):
            before = followed.current
            content(tmp_path, seed)
            began = trio.current_time()
            assert await publisher.publish_link(news, "news") == link
            now = await switched(followed, before)
            assert trio.current_time() - began < 3 * MINUTE
            assert followed.path == tmp_path / "out" / "current" / "news"
            assert differences(news, followed.path) == []
            await trio.sleep(1)  # older ones go
            assert [one.complete for one in followed.versions] == [True, True]
            assert followed.versions[-1].info_hash == now
        # One old version stays, at either: elsewhere it is complete, here what is left of it is.
        assert len(follower.torrents) == len(publisher.torrents) == 2
        assert names(tmp_path / "out" / "versions") == sorted(
            one.info_hash.hex() for one in followed.versions
        )
        assert first not in publisher.torrents
        left = publisher.torrents[followed.versions[0].info_hash]
        assert left is not old
        assert (left.state, left.superseded) == ("seeding", True)
        assert 0.4 < left.progress < 0.6
        seqs = [one.seq for one in followed.versions]
        assert seqs == sorted(set(seqs))


@pytest.mark.parametrize("forgotten", [False, True])
async def test_what_an_older_version_has_is_not_fetched_again(
    forgotten: bool, town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    news = content(tmp_path)
    async with town.node(PUBLISHER) as publisher, town.node(FOLLOWER) as follower:
        link = await publisher.publish_link(news, "news")
        followed = await follower.follow(link)
        first = await switched(followed)
        if forgotten:  # its torrent is not here any more, but its files are
            await follower.remove(follower.torrents[first])
        content(tmp_path, 2)
        (tmp_path / "news").rename(tmp_path / "other name")
        await publisher.publish_link(tmp_path / "other name", "news")
        second = follower.torrents[await switched(followed, first)]
        assert second.size == 500 * KIB
        assert second.reused == 244 * KIB  # the whole pieces of the file that stayed
        assert second.downloaded == second.size - second.reused
        assert second.wasted == 0


async def test_publishing_the_same_again_is_no_new_version(
    town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    news = content(tmp_path)
    async with town.node(PUBLISHER) as publisher, town.node(FOLLOWER) as follower:
        link = await publisher.publish_link(news, "news")
        followed = await follower.follow(link)
        first = await switched(followed)
        before = publisher.published_links()[0].seq
        assert await publisher.publish_link(news, "news") == link
        await trio.sleep(5 * MINUTE)
        assert publisher.published_links()[0].seq == before
        assert followed.current == first
        assert len(publisher.torrents) == 1
        # What was there before comes back: a version like any other.
        content(tmp_path, 2)
        await publisher.publish_link(news, "news")
        second = await switched(followed, first)
        content(tmp_path, 1)
        await publisher.publish_link(news, "news")
        assert await switched(followed, second) == first
        assert differences(news, followed.path or tmp_path) == []
        assert [one.info_hash for one in followed.versions] == [second, first]


async def test_a_single_file_is_found_under_its_name(
    town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    film = make_file(tmp_path / "film.bin", 100 * KIB)
    async with town.node(PUBLISHER) as publisher, town.node(FOLLOWER) as follower:
        link = await publisher.publish_link(film, "news")
        followed = await follower.follow(link)
        await switched(followed)
        assert followed.path == followed.output / "current" / "film.bin"
        assert followed.output.parent == tmp_path / f"got{FOLLOWER}"
        assert differences(film, followed.path) == []


@pytest.mark.parametrize("keep", [0, 2])
async def test_so_many_old_versions_stay_and_foreign_files_always(
    keep: int, town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    news = content(tmp_path)
    out = tmp_path / "out"
    async with town.node(PUBLISHER) as publisher, town.node(FOLLOWER) as follower:
        link = await publisher.publish_link(news, "news")
        followed = await follower.follow(link, output=out, keep=keep)
        first = await switched(followed)
        foreign = out / "versions" / first.hex() / "news" / "notes.txt"
        foreign.write_text("mine")
        for seed in (2, 3, 4):
            before = followed.current
            content(tmp_path, seed)
            await publisher.publish_link(news, "news")
            await switched(followed, before)
        await trio.sleep(1)
        complete = [
            path for path in (out / "versions").iterdir() if len(list(path.rglob("*.bin"))) == 2
        ]
        assert len(complete) == keep + 1
        assert foreign.read_text() == "mine"
        assert list(foreign.parent.iterdir()) == [foreign]
        with pytest.raises(InputError, match="0 to 100"):
            await follower.follow(link, keep=101)
        await follower.follow(link, keep=0)
        await trio.sleep(1)
        assert len(follower.torrents) == 1


async def test_an_old_item_that_is_replayed_changes_nothing_not_even_after_restarts(
    town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    news = content(tmp_path)
    async with contextlib.AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(town.node(PUBLISHER))
        async with town.node(FOLLOWER) as follower:
            link = await publisher.publish_link(news, "news")
            followed = await follower.follow(link, output=tmp_path / "out")
            first = await switched(followed)
            old = await publisher.dht.get(mutable_target(link.key, link.salt), salt=link.salt)
            assert isinstance(old, MutableItem)
            content(tmp_path, 2)
            await publisher.publish_link(news, "news")
            second = await switched(followed, first)
        await stack.aclose()  # nobody repairs what comes now
        for node in range(20, 24):  # nodes that know only what is old
            await stack.enter_async_context(town.node(node, state_dir=None))
        async with town.node(30, state_dir=None) as attacker:
            await trio.sleep(3 * HOUR)  # what the DHT had has expired
            await put(attacker, old)
            async with town.node(FOLLOWER) as follower:
                (followed,) = follower.followed
                await trio.sleep(30 * MINUTE)
                view = followed.view()
                assert (followed.current, view.newest_id) == (second, second.hex())
                assert view.stale > 0
                assert view.state == "current"
                # And the follower, who knows better, sees to it that others do.
                await trio.sleep(2 * HOUR)
                found = await attacker.dht.get(old.target, salt=link.salt)
                assert isinstance(found, MutableItem)
                assert found.seq > old.seq


async def test_a_publisher_who_lost_its_records_and_clock_uses_no_number_twice(
    town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    news = content(tmp_path)
    async with town.node(FOLLOWER) as follower:
        async with town.node(PUBLISHER) as publisher:
            link = await publisher.publish_link(news, "news")
            followed = await follower.follow(link)
            first = await switched(followed)
            seq = followed.view().seq
        for record in (town.state(PUBLISHER) / "links").iterdir():
            record.unlink()
        town.skew = -BEGAN
        content(tmp_path, 2)
        async with town.node(PUBLISHER) as publisher:
            assert await publisher.publish_link(news, "news") == link
            await switched(followed, first)
            assert followed.view().seq == seq + 1


async def test_without_anybody_to_ask_a_publisher_without_records_waits(
    town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    news = content(tmp_path)
    async with town.node(PUBLISHER) as publisher:
        town.net.host("10.0.0.1").go_down()
        link = await publisher.publish_link(news, "news")  # the link is known at once
        await trio.sleep(10 * MINUTE)
        (told,) = publisher.published_links()
        assert told.seq == 0
        assert "no node" in (told.error or "")
        assert told.link == str(link)


async def test_of_two_writers_the_higher_number_wins_and_the_other_is_told(
    town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    news, other = content(tmp_path), make_file(tmp_path / "other.bin", 50 * KIB)
    async with town.node(PUBLISHER) as one, town.node(3) as two, town.node(FOLLOWER) as follower:
        link = await one.publish_link(news, "news")
        followed = await follower.follow(link)
        first = await switched(followed)
        seed = bytes.fromhex(KeyStore(town.state(PUBLISHER)).path("default").read_text())
        KeyStore(town.state(3)).make("default", seed)
        assert await two.publish_link(other, "news") == link
        second = await switched(followed, first)
        assert followed.path is not None
        assert followed.path.name == "other.bin"
        await trio.sleep(2 * HOUR)
        assert [node.published_links()[0].replaced for node in (one, two)] == [True, False]
        assert followed.current == second  # and the first one does not come back by itself
        content(tmp_path, 2)
        await one.publish_link(news, "news")
        await switched(followed, second)
        assert followed.path.name == "news"


async def test_two_who_write_at_the_same_time_both_get_a_number(
    town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    seed = bytes(range(32))
    async with town.node(PUBLISHER) as one, town.node(3) as two, town.node(FOLLOWER) as follower:
        for number in (PUBLISHER, 3):
            KeyStore(town.state(number)).make("default", seed)
        content(tmp_path / "1", 1)
        content(tmp_path / "2", 2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.publish_link, tmp_path / "1" / "news", "news")
            nursery.start_soon(two.publish_link, tmp_path / "2" / "news", "news")
        link = MutableLink(SigningKey(seed).public, b"news")
        followed = await follower.follow(link)
        await switched(followed)
        await trio.sleep(2 * HOUR)
        told = [node.published_links()[0] for node in (one, two)]
        winner = max(told, key=lambda view: (view.seq, view.torrent))
        if told[0].seq == told[1].seq:
            winner = min(told, key=lambda view: view.torrent)
        assert [view.replaced for view in told] == [view is not winner for view in told]
        assert followed.view().current_id == winner.torrent


async def test_links_go_on_after_restarts(
    town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    news = content(tmp_path)
    async with town.node(PUBLISHER) as publisher, town.node(FOLLOWER) as follower:
        link = await publisher.publish_link(news, "news")
        followed = await follower.follow(link, output=tmp_path / "out", keep=3)
        first = await switched(followed)
        seq = followed.view().seq
    await trio.sleep(3 * HOUR)  # the DHT has forgotten it
    async with town.node(PUBLISHER) as publisher, town.node(FOLLOWER) as follower:
        (followed,) = follower.followed
        assert (followed.current, followed.link) == (first, link)
        assert (followed.view().seq, followed.view().keep) == (seq, 3)
        await trio.sleep(MINUTE)
        (told,) = publisher.published_links()
        assert (told.seq, told.link) == (seq, str(link))
        assert told.nodes
        content(tmp_path, 2)
        await publisher.publish_link(news, "news")
        await switched(followed, first)
        assert differences(news, followed.path or tmp_path) == []


async def test_a_version_half_fetched_is_completed_after_a_restart(
    town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    news = content(tmp_path)
    async with town.node(PUBLISHER) as publisher:
        link = await publisher.publish_link(news, "news")
        await trio.sleep(MINUTE)
        async with town.node(FOLLOWER, limit_down=1000) as follower:
            followed = await follower.follow(link, output=tmp_path / "out")
            while followed.view().state != "fetching":
                await followed.changed()
            await trio.sleep(20)
            assert not (tmp_path / "out" / "current").exists()
            assert followed.path is None
        async with town.node(FOLLOWER) as follower:
            (followed,) = follower.followed
            await switched(followed)
            assert differences(news, followed.path or tmp_path) == []


async def test_a_newer_version_ends_the_fetching_of_an_older(
    town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    news = content(tmp_path)
    async with town.node(PUBLISHER) as publisher, town.node(FOLLOWER) as follower:
        link = await publisher.publish_link(news, "news")
        await trio.sleep(MINUTE)
        follower.set_limits(down=1000)
        followed = await follower.follow(link, output=tmp_path / "out", keep=5)
        while not followed.versions:
            await followed.changed()
        old = followed.versions[0].info_hash
        content(tmp_path, 2)
        await publisher.publish_link(news, "news")
        while len(followed.versions) < 2:
            await trio.sleep(1)
        await trio.sleep(1)
        assert follower.torrents[old].state == "paused"
        follower.set_limits(down=None)
        new = await switched(followed)
        assert new != old
        await trio.sleep(1)
        assert list(follower.torrents) == [new]  # what is not complete is of no use to keep
        assert names(tmp_path / "out" / "versions") == [new.hex()]


async def test_unfollowed_content_stays_or_goes_as_wanted(
    town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    news, out = content(tmp_path), tmp_path / "out"
    async with town.node(PUBLISHER) as publisher, town.node(FOLLOWER) as follower:
        link = await publisher.publish_link(news, "news")
        followed = await follower.follow(link, output=out)
        first = await switched(followed)
        told = await follower.unfollow(str(link))
        assert told.id == followed.id
        assert follower.followed == []
        assert not list((town.state(FOLLOWER) / "links").iterdir())
        assert differences(news, out / "current" / "news") == []
        assert list(follower.torrents) == [first]
        with pytest.raises(InputError, match="no such link"):
            await follower.unfollow(str(link))
        with pytest.raises(StorageError, match="not followed any more"):
            await followed.switched(first)
        # Followed once more it is there at once; this time all goes.
        again = await follower.follow(link, output=out)
        await switched(again)
        (out / "mine").write_text("mine")
        await follower.unfollow("news", delete_data=True)
        assert names(out) == ["mine"]
        assert not follower.torrents


async def test_a_torrent_that_is_here_already_is_shown_where_it_lies(
    town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    news, out = content(tmp_path), tmp_path / "out"
    async with town.node(PUBLISHER) as publisher, town.node(FOLLOWER) as follower:
        link = await publisher.publish_link(news, "news")
        (told,) = publisher.published_links()
        mine = await follower.get(told.torrent, output=tmp_path / "mine")
        await mine.completed()
        followed = await follower.follow(link, output=out)
        await switched(followed)
        assert (out / "current" / "news").resolve() == tmp_path / "mine" / "news"
        await follower.unfollow(followed.id[:8], delete_data=True)
        assert differences(news, tmp_path / "mine" / "news") == []
        assert list(follower.torrents.values()) == [mine]
        assert names(out) == []


async def test_a_version_that_another_link_has_too_stays_when_one_goes_on_or_ends(
    town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    news = content(tmp_path)
    async with town.node(PUBLISHER) as publisher, town.node(FOLLOWER) as follower:
        link = await publisher.publish_link(news, "news")
        mirror = await publisher.publish_link(news, "mirror")
        followed = await follower.follow(link, output=tmp_path / "out", keep=0)
        first = await switched(followed)
        other = await follower.follow(mirror, output=tmp_path / "other", keep=0)
        assert await switched(other) == first
        # One of them goes on to what is new; in the other it is what users find.
        before = content(tmp_path / "before")
        content(tmp_path, 2)
        await publisher.publish_link(news, "news")
        second = await switched(followed, first)
        await trio.sleep(MINUTE)
        assert set(follower.torrents) == {first, second}
        assert differences(before, other.path or tmp_path) == []
        # And one of them ends.
        await publisher.publish_link(news, "mirror")
        assert await switched(other, first) == second
        await trio.sleep(MINUTE)
        await follower.unfollow("news", delete_data=True)
        assert second in follower.torrents
        assert differences(news, other.path or tmp_path) == []
        await follower.unfollow("mirror", delete_data=True)


async def test_a_publisher_keeps_the_version_that_another_link_of_his_still_has(
    town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    news = content(tmp_path)
    async with town.node(PUBLISHER) as publisher:
        for name in ("news", "mirror"):
            await publisher.publish_link(news, name)
        (first,) = publisher.torrents
        made = []
        for seed in (2, 3, 4):
            content(tmp_path, seed)
            await publisher.publish_link(news, "news")
            made.append(InfoHash(bytes.fromhex(publisher.published_links()[0].torrent)))
        # Of its own it keeps one old version, as it is told.
        assert set(publisher.torrents) == {first, *made[1:]}
        (told,) = (one for one in publisher.published_links() if one.name == "mirror")
        assert told.torrent == first.hex()


async def test_what_the_user_shared_before_he_published_it_stays_his(
    town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    news = content(tmp_path)
    async with town.node(PUBLISHER) as publisher:
        shared = await publisher.share(news)
        await publisher.publish_link(news, "news")
        assert list(publisher.torrents) == [shared.info_hash]
        for seed in (2, 3, 4):
            content(tmp_path, seed)
            await publisher.publish_link(news, "news")
        old, new = publisher.published_links()[0].versions
        assert set(publisher.torrents) == {
            shared.info_hash,
            *(InfoHash(bytes.fromhex(one.id)) for one in (old, new)),
        }
        await publisher.unpublish_link("news")
        assert set(publisher.torrents) == {shared.info_hash, InfoHash(bytes.fromhex(new.id))}


async def test_what_is_in_the_way_is_said_before_anything_is_made(
    town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    link = MutableLink(bytes(range(32)), b"x")
    out = tmp_path / "out"
    (out / "current").mkdir(parents=True)
    (tmp_path / "file").touch()
    async with town.node(FOLLOWER) as follower:
        for folder in (out, tmp_path / "file"):
            with pytest.raises(InputError, match="choose another --output"):
                await follower.follow(link, output=folder)
        (out / "current").rmdir()
        (out / "current").symlink_to("elsewhere")
        with pytest.raises(InputError, match="did not make it"):
            await follower.follow(link, output=out)
        assert names(out) == ["current"]
        assert follower.followed == []
        followed = await follower.follow(link, output=tmp_path / "free")
        with pytest.raises(InputError, match="choose another"):
            await follower.follow(MutableLink(link.key, b"y"), output=tmp_path / "free")
        with pytest.raises(InputError, match="followed already"):
            await follower.follow(link, output=tmp_path / "other")
        assert (await follower.follow(link)).id == followed.id
        assert followed.view().state == "looking"


async def test_unpublished_it_is_shared_on_and_dies_out_in_the_dht(
    town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    news = content(tmp_path)
    async with town.node(PUBLISHER) as publisher, town.node(8000 // 100) as reader:
        link = await publisher.publish_link(news, "news")
        content(tmp_path, 2)
        await publisher.publish_link(news, "news")
        await trio.sleep(MINUTE)
        told = await publisher.unpublish_link("news")
        assert publisher.published_links() == []
        assert [torrent.id for torrent in publisher.torrents.values()] == [told.torrent]
        await trio.sleep(3 * HOUR)
        target = mutable_target(link.key, link.salt)
        assert await reader.dht.get(target, salt=link.salt) is None


@pytest.mark.parametrize("name", ["", "a\nb", "ä" * 33, "\udc80"])
async def test_a_name_that_cannot_be_one_is_refused(
    name: str, town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with town.node(PUBLISHER) as publisher:
        with pytest.raises(InputError, match="name"):
            await publisher.publish_link(content(tmp_path), name)
        assert not publisher.torrents


async def test_a_node_has_only_so_many_links(
    town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    few = FollowConfig(max_links=1)
    async with town.node(PUBLISHER, follow=few) as node:
        await node.follow(MutableLink(bytes(32), b"1"))
        with pytest.raises(InputError, match="at most 1"):
            await node.follow(MutableLink(bytes(32), b"2"))
        await node.publish_link(content(tmp_path), "1")
        with pytest.raises(InputError, match="at most 1"):
            await node.publish_link(content(tmp_path), "2")
