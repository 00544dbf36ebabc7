"""Whole nodes that publish and search, on a fake network and virtual time."""

from __future__ import annotations

import gc
import random
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dht_torrent import Config, Node, SearchQuery, open_node
from dht_torrent.config import DhtConfig, DiskConfig, SearchConfig
from dht_torrent.engine.search.catalogue import LocalCatalogue
from dht_torrent.engine.state import StateDir
from dht_torrent.errors import InputError, StorageError
from dht_torrent.ids import HostPort
from dht_torrent.lab.net.network import FakeNetwork
from dht_torrent.search.chunks import Chunker
from tests.engine.search.world import clock
from tests.helpers.engine import World, sample

HOSTS = [f"10.0.0.{number}" for number in range(1, 8)]
KEY = "ab" * 32
FAST = SearchConfig(publish_rate=50.0, publish_burst=50.0)


class Town:
    """Some nodes of the DHT, the first of which is everybody's entry point."""

    def __init__(self, tmp_path: Path, seed: int = 1) -> None:
        self.net = FakeNetwork(random.Random(seed), latency=0.02)
        self.tmp_path = tmp_path

    @asynccontextmanager
    async def node(
        self, number: int, *, state: bool = False, **changes: Any
    ) -> AsyncIterator[Node]:
        ip = f"10.0.0.{number}"
        folder = self.tmp_path / str(number)
        folder.mkdir(exist_ok=True)
        config = Config(
            bootstrap=[HostPort("10.0.0.1", 6881)] if number > 1 else [],
            listen=f"{ip}:6881",
            state_dir=folder / "state" if state else None,
            download_dir=folder,
            disk=DiskConfig(inline=True),
            dht=DhtConfig(unlimited=True),
            search=FAST,
            fail_fast=True,
        )
        async with open_node(
            replace(config, **changes),
            network=self.net.host(ip),
            rng=random.Random(number),
            clock=clock,
        ) as node:
            with trio.move_on_after(10):  # it may be alone
                await node.dht.bootstrapped()
            yield node

    @asynccontextmanager
    async def nodes(self, count: int) -> AsyncIterator[list[Node]]:
        nodes: list[Node] = []
        async with trio.open_nursery() as nursery:
            closing = trio.Event()

            async def run(number: int, task_status: trio.TaskStatus[Node]) -> None:
                async with self.node(number) as node:
                    task_status.started(node)
                    await closing.wait()

            nodes += [await nursery.start(run, number) for number in range(1, count + 1)]
            await trio.sleep(5)
            yield nodes
            closing.set()

    def file(self, name: str, size: int = 1000) -> Path:
        path = self.tmp_path / "content" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(random.Random(name).randbytes(size))
        return path

    def folder_of(self, number: int) -> Path:
        return self.tmp_path / str(number) / "state"


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path)


async def names(node: Node, text: str, **options: Any) -> list[str]:
    return [result.name async for result in node.search(text, **options)]


async def test_a_third_node_finds_what_was_shared_and_published(
    town: Town, autojump_clock: MockClock
) -> None:
    async with town.nodes(7) as nodes:
        torrent = await nodes[2].share(
            town.file("Ubuntu 22.04 server.iso"), publish=True, tags=["linux"]
        )
        assert torrent.published
        assert torrent.summary().published
        await trio.sleep(120)
        results = [one async for one in nodes[5].search("ubuntu server")]
        (result,) = results
        assert result.name == "Ubuntu 22.04 server.iso"
        assert result.trust == "verified"
        assert result.id == torrent.id
        assert result.size == 1000
        status = nodes[2].status().search
        assert status is not None
        assert (status.publisher, status.published) == (result.publisher, 1)
        assert status.entries >= 8
        assert status.due == 0
        assert 8 <= status.puts_hour <= 2 * status.entries
        assert status.trouble is None
        # We saw who has it, ourselves.
        assert (result.peers, result.seeds, result.peers_how) == (1, 1, "bep33")
        # And its info dict makes it stronger.
        got = await nodes[5].get(result.magnet)
        await got.completed()
        (again,) = [one async for one in nodes[5].search("ubuntu server")]
        assert again.trust == "strong"
        assert nodes[5].status().search.publisher is None  # type: ignore[union-attr]


async def test_nothing_is_published_unless_it_was_asked_for(
    town: Town, autojump_clock: MockClock
) -> None:
    async with town.nodes(4) as nodes:
        shared = await nodes[2].share(town.file("some words.iso"))
        assert not shared.published
        await trio.sleep(600)
        status = nodes[2].status().search
        assert status is not None
        assert (status.publisher, status.published, status.puts_hour) == (None, 0, 0)
        assert await names(nodes[3], "words") == []
        await nodes[2].publish(shared, ["tag"])
        await trio.sleep(120)
        assert await names(nodes[3], "words tag") == ["some words.iso"]


async def test_private_and_fetched_torrents_are_never_published(
    town: Town, autojump_clock: MockClock
) -> None:
    async with town.nodes(3) as nodes:
        private = await nodes[1].share(town.file("private.iso"), private=True, publish=True)
        assert not private.published
        assert private.not_published == "a private torrent is not published"
        with pytest.raises(InputError, match="private"):
            await nodes[1].publish(private)
        shared = await nodes[1].share(town.file("fetched.iso"))
        fetched = await nodes[2].get(str(shared.magnet))
        await fetched.completed()
        with pytest.raises(InputError, match="fetched"):
            await nodes[2].publish(fetched)
        assert fetched.path is not None
        again = await nodes[2].share(fetched.path, publish=True)
        assert not again.published
        assert "fetched" in str(again.summary().not_published)
        await trio.sleep(300)
        # A private torrent is not even in the catalogue, which people export.
        assert await names(nodes[1], "private", network=False) == []
        exported = [part async for part in nodes[1].export_catalogue()]
        assert b"fetched.iso" in b"".join(exported)
        assert b"private" not in b"".join(exported)
        for node in nodes:
            assert node.status().search.puts_hour == 0  # type: ignore[union-attr]


async def test_what_cannot_be_found_by_anybody_is_not_published(
    town: Town, autojump_clock: MockClock
) -> None:
    async with town.node(1) as node:
        torrent = await node.share(town.file("---"))
        with pytest.raises(InputError, match="found"):
            await node.publish(torrent)
        assert not torrent.published
        ok = await node.share(town.file("good name"))
        with pytest.raises(InputError, match="a tag has at most"):
            await node.publish(ok, ["x" * 200])
        with pytest.raises(InputError, match="16 tags"):
            await node.publish(ok, ["tag"] * 17)
        assert not ok.published


async def test_what_cannot_be_published_is_shared_and_says_why(
    town: Town, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with town.node(1, search=replace(FAST, max_published=1)) as node:
        torrent = await node.share(town.file("---"), publish=True)
        assert list(node.torrents.values()) == [torrent]
        assert not torrent.published
        assert torrent.not_published == "nothing can be found by this title: '---'"
        assert torrent.summary().not_published == torrent.not_published
        status = node.status().search
        assert status is not None
        assert status.published == 0
        first = await node.share(town.file("first words.iso"), publish=True)
        assert (first.published, first.not_published) == (True, None)
        second = await node.share(town.file("second words.iso"), publish=True)
        assert second.not_published == "one node publishes at most 1 torrents"
        assert not second.published
        assert await node.unpublish(first)
        await node.publish(second)
        told = second.summary()
        assert (told.published, told.not_published) == (True, None)


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        (["!!!"], "nothing can be found by this tag"),
        (["tag"] * 17, "16 tags"),
        (["\u00fc" * 17], "32 bytes"),
        (["x" * 30] * 4, "all tags together"),
        (["\ud800 half"], "half a character"),
    ],
)
async def test_tags_of_no_use_are_refused_before_anything_is_shared(
    town: Town, autojump_clock: MockClock, tags: list[str], why: str
) -> None:
    async with town.node(1) as node:
        path = town.file("good name")
        with pytest.raises(InputError, match=why):
            await node.share(path, publish=True, tags=tags)
        assert node.torrents == {}
        torrent = await node.share(path)
        with pytest.raises(InputError, match=why):
            await node.publish(torrent, tags)
        assert not torrent.published
        await node.publish(torrent, ["\u00fc" * 16])


async def test_a_catalogue_that_fails_leaves_nothing_half_published(
    town: Town, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with town.nodes(4) as nodes:
        node = nodes[2]
        shared = await node.share(town.file("earlier words.iso"))
        await trio.sleep(60)

        async def fails(*given: object) -> None:
            raise StorageError("the disk is full")

        with monkeypatch.context() as broken:
            broken.setattr(LocalCatalogue, "put_outbox", fails)
            with pytest.raises(StorageError, match="full"):
                await node.publish(shared)
            assert not shared.published
            later = await node.share(town.file("later words.iso"), publish=True)
            assert (later.published, later.not_published) == (False, "the disk is full")
        await trio.sleep(60)
        status = node.status().search
        assert status is not None
        assert (status.published, status.entries) == (0, 0)
        await node.publish(shared)
        await node.publish(later)
        await trio.sleep(120)
        assert len(await names(nodes[3], "words")) == 2


async def test_a_record_whose_tags_are_of_no_use_does_not_end_search_at_the_next_start(
    town: Town, autojump_clock: MockClock
) -> None:
    async with town.node(9, state=True) as node:
        torrent = await node.share(town.file("lasting words.iso"), publish=True, tags=["!tag!"])
        await node.share(town.file("other words.iso"), publish=True)
    with StateDir(town.folder_of(9)) as state:
        (written,) = [one for one in state.load_all()[0] if one.info_hash == torrent.info_hash]
        assert written.published == ("!tag!",)
        state.save(replace(written, published=("!!!!!",)))
    async with town.node(9, state=True) as node:
        await trio.sleep(60)
        assert sorted(await names(node, "words", network=False)) == [
            "lasting words.iso",
            "other words.iso",
        ]
        again = node.torrents[torrent.info_hash]
        assert not again.published
        assert again.not_published == "nothing can be found by this tag: '!!!!!'"
        status = node.status().search
        assert status is not None
        assert status.published == 1


async def test_unpublish_and_removal_end_it(town: Town, autojump_clock: MockClock) -> None:
    async with town.nodes(5) as nodes:
        one = await nodes[2].share(town.file("first words.iso"), publish=True)
        two = await nodes[2].share(town.file("second words.iso"), publish=True)
        await trio.sleep(120)
        assert sorted(await names(nodes[4], "words")) == ["first words.iso", "second words.iso"]
        assert await nodes[2].unpublish(one)
        assert not await nodes[2].unpublish(one)
        assert not one.published
        await nodes[2].remove(two)
        await trio.sleep(60)
        status = nodes[2].status().search
        assert status is not None
        assert (status.published, status.entries) == (0, 0)
        assert await names(nodes[2], "words", network=False) == ["first words.iso"]
        before = status.puts_hour
        await trio.sleep(600)
        assert nodes[2].status().search.puts_hour == before  # type: ignore[union-attr]


async def test_what_is_published_is_so_after_a_restart_under_the_same_key(
    town: Town, autojump_clock: MockClock
) -> None:
    async with town.nodes(4) as nodes:
        async with town.node(9, state=True) as node:
            torrent = await node.share(town.file("lasting words.iso"), publish=True, tags=["tag"])
            other = await node.share(town.file("other words.iso"))
            key = node.status().search.publisher  # type: ignore[union-attr]
            assert key is not None
        path = town.folder_of(9) / "publisher.key"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        await trio.sleep(7500)  # until all nodes have forgotten it
        async with town.node(9, state=True) as node:
            again = node.torrents[torrent.info_hash]
            assert again.published
            assert not node.torrents[other.info_hash].published
            await trio.sleep(120)
            (result,) = [one async for one in nodes[3].search("lasting tag")]
            assert (result.name, result.publisher) == ("lasting words.iso", key)
            assert await names(nodes[3], "other") == []


async def test_a_lost_catalogue_comes_back_from_the_torrents_records(
    town: Town, autojump_clock: MockClock
) -> None:
    async with town.nodes(4) as nodes:
        async with town.node(9, state=True) as node:
            await node.share(town.file("lasting words.iso"), publish=True, tags=["tag"])
            await trio.sleep(60)
        for path in town.folder_of(9).glob("catalogue.sqlite*"):
            path.unlink()
        await trio.sleep(7500)  # until all nodes have forgotten it
        async with town.node(9, state=True):
            await trio.sleep(120)
            assert await names(nodes[3], "lasting tag") == ["lasting words.iso"]


async def test_what_was_removed_while_the_catalogue_was_not_open_goes_at_the_next_start(
    town: Town, autojump_clock: MockClock
) -> None:
    async with town.nodes(3) as nodes:
        async with town.node(9, state=True) as node:
            torrent = await node.share(town.file("lasting words.iso"), publish=True)
            await node.share(town.file("second words.iso"))
            await trio.sleep(60)
        (town.folder_of(9) / "torrents" / f"{torrent.id}.resume").unlink()
        async with town.node(9, state=True) as node:
            await trio.sleep(120)
            status = node.status().search
            assert status is not None
            assert (status.published, status.entries) == (0, 0)
            assert await names(node, "words", network=False) == ["second words.iso"]
        assert nodes


async def test_a_key_that_cannot_be_used_is_told_and_left_alone(
    town: Town, autojump_clock: MockClock
) -> None:
    async with town.node(9, state=True) as node:
        await node.share(town.file("lasting words.iso"), publish=True)
    path = town.folder_of(9) / "publisher.key"
    path.write_text("nonsense")
    async with town.node(9, state=True) as node:
        await trio.sleep(60)
        assert any("publisher.key" in line for line in node.warnings)
        (before,) = node.torrents.values()
        assert not before.published
        assert "64 hex digits" in str(before.not_published)
        torrent = await node.share(town.file("more words.iso"))
        with pytest.raises(InputError, match="64 hex digits"):
            await node.publish(torrent)
        assert not torrent.published
        assert await names(node, "words", network=False) != []
    assert path.read_text() == "nonsense"


async def test_a_catalogue_that_cannot_be_opened_is_replaced_by_one_in_memory(
    town: Town, autojump_clock: MockClock
) -> None:
    folder = town.folder_of(9)
    (folder / "catalogue.sqlite").mkdir(parents=True)
    async with town.node(9, state=True) as node:
        await node.share(town.file("some words.iso"), publish=True)
        await trio.sleep(60)
        assert await names(node, "words", network=False) == ["some words.iso"]
        assert any("catalogue" in line for line in node.warnings)


async def test_a_loop_over_results_that_is_left_early_leaves_nothing_behind(
    town: Town, autojump_clock: MockClock
) -> None:
    async with town.nodes(5) as nodes:
        for number in range(4):
            await nodes[2].share(town.file(f"common words {number}.iso"), publish=True)
        await trio.sleep(300)
        count = trio.lowlevel.current_statistics().tasks_living
        async for _ in nodes[4].search("common", patience=60.0):
            break
        await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(1.5)
        assert trio.lowlevel.current_statistics().tasks_living <= count + 1  # its catalogue's


async def test_whom_the_user_trusts_and_blocks_is_kept(
    town: Town, autojump_clock: MockClock
) -> None:
    async with town.node(9, state=True) as node:
        await node.trust(KEY)
        await node.block("cd" * 32)
        await node.trust("ef" * 32)
        await node.trust("ef" * 32, on=False)
        for bad in ("", "xyz", "ab" * 31, "zz" * 32, " " + "ab" * 31 + "a"):
            with pytest.raises(InputError, match="64 hex digits"):
                await node.block(bad)
    async with town.node(9, state=True) as node:
        told = {one.key: one.trust for one in await node.publishers()}
        assert told == {KEY: "trusted", "cd" * 32: "blocked"}
        await node.block(KEY)
        assert {one.key: one.trust for one in await node.publishers()}[KEY] == "blocked"


async def test_a_search_for_nothing_is_refused(town: Town, autojump_clock: MockClock) -> None:
    async with town.node(1) as node:
        for text in ("", "  ", "!!!"):
            with pytest.raises(InputError, match="words to search for"):
                node.search(text)
        assert [one async for one in node.search("", min_size=5, network=False)] == []
        assert [one async for one in node.search(SearchQuery(text="x"), network=False)] == []
        with pytest.raises(InputError):
            node.search("word", limit=0)


async def test_the_catalogue_is_exported_imported_and_counted(
    town: Town, autojump_clock: MockClock
) -> None:
    async with town.node(1) as node, town.node(2) as other:
        await node.share(town.file("Exported Words.iso", 2000))
        assert (await names(node, "exported", network=False)) == ["Exported Words.iso"]
        lines = b"".join([part async for part in node.export_catalogue()])
        assert lines.count(b"\n") == 1
        done = await other.import_catalogue(lines + b"nonsense\n")
        assert (done.lines, done.added, sum(done.skipped.values())) == (2, 1, 1)
        found = [one async for one in other.search("words exported", network=False)]
        assert [(one.name, one.trust, one.size) for one in found] == [
            ("Exported Words.iso", "unverified", 2000)
        ]
        status = await other.catalogue_status()
        assert (status.torrents, status.own) == (1, 0)
        assert (await node.catalogue_status()).own == 1
        assert 0 < status.bytes < status.bytes_most


async def test_a_fetched_torrent_is_found_locally_once_its_metadata_is_known(
    autojump_clock: MockClock,
) -> None:
    world, one = World(), sample()
    async with world.seed(one), world.node("10.0.0.2") as node:
        await node.get(one.magnet("10.0.0.1"))
        await names(node, "film", network=False)
        await trio.sleep(60)
        found = [result async for result in node.search("film", network=False)]
        assert [(one.name, one.trust) for one in found] == [("film.bin", "strong")]


async def test_a_removed_torrent_is_not_found_any_more(
    town: Town, autojump_clock: MockClock
) -> None:
    async with town.node(1) as node:
        torrent = await node.share(town.file("some words.iso"))
        assert await names(node, "words", network=False) == ["some words.iso"]
        await torrent.remove()
        assert await names(node, "words", network=False) == []
        with pytest.raises(InputError, match="no such torrent"):
            await node.publish(torrent)


async def test_tags_given_while_the_torrent_is_noted_and_tags_given_later_are_published(
    town: Town, autojump_clock: MockClock
) -> None:
    async with town.nodes(4) as nodes:
        torrent = await nodes[2].share(town.file("some words.iso"))
        await nodes[2].publish(torrent, ["early"])
        await trio.sleep(60)
        assert await names(nodes[3], "words early") == ["some words.iso"]
        await nodes[2].publish(torrent, ["late"])
        await trio.sleep(60)
        assert await names(nodes[1], "words late") == ["some words.iso"]
        assert await names(nodes[1], "early") == []


def changed(path: Path, name: str, cut: int = 2000) -> Path:
    """A copy with a few bytes more near its start."""
    data = path.read_bytes()
    copy = path.with_name(name)
    copy.write_bytes(data[:cut] + b"something else" + data[cut:])
    return copy


async def test_a_node_finds_what_is_similar_to_a_file_of_its_own(
    town: Town, autojump_clock: MockClock
) -> None:
    pytest.importorskip("numpy")
    async with town.nodes(5) as nodes:
        whole = town.file("Holiday film.mkv", 300_000)
        edited = await nodes[1].share(changed(whole, "Another title.mkv"), publish=True)
        same = await nodes[2].share(whole, publish=True)
        await nodes[2].share(town.file("Holiday pictures.zip", 200_000), publish=True)
        await trio.sleep(200)
        found = await nodes[3].similar(whole)
        assert (found.asked, found.compared, found.warning) == ("Holiday film.mkv", "content", None)
        told = [(one.id, one.kinship, one.trust) for one in found.results]
        assert told[0] == (same.id, "same file", "verified")
        assert (edited.id, "near duplicate", "verified") in told
        assert all(one.score <= 1 for one in found.results)
        # By its magnet link alone: its publisher says what it is like.
        by_link = await nodes[4].similar(same.magnet)
        assert [(one.id, one.kinship) for one in by_link.results][:1] == [
            (edited.id, "near duplicate")
        ]
        assert by_link.compared == "content"
        # By the first digits of a torrent that is here.
        by_id = await nodes[1].similar(edited.id[:8])
        assert by_id.results[0].id == same.id
        # Nobody is asked, and nothing is known yet.
        assert (await nodes[0].similar(whole, network=False)).results == ()


async def test_what_was_shared_before_is_sketched_when_it_is_published(
    town: Town, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("numpy")
    async with town.nodes(3) as nodes:
        whole = town.file("Holiday film.mkv", 300_000)
        monkeypatch.setattr("dht_torrent.engine.node.sketching", lambda: None)
        same = await nodes[1].share(whole)
        await nodes[1].publish(same)
        await trio.sleep(200)
        found = await nodes[2].similar(changed(whole, "Another title.mkv"))
        assert [(one.id, one.kinship) for one in found.results] == [(same.id, "near duplicate")]


@pytest.mark.parametrize("publish", [True, False])
async def test_a_path_that_is_shared_is_the_same_file_and_a_torrent_is_not_its_own_duplicate(
    town: Town, autojump_clock: MockClock, publish: bool
) -> None:
    """Be it a file, a folder, or a file of a folder, of one's own or of somebody else."""
    pytest.importorskip("numpy")
    album = town.tmp_path / "Holiday album"
    album.mkdir()
    track = town.file("Holiday film.mkv", 300_000).rename(album / "track.mkv")
    (album / "other.mkv").write_bytes(random.Random(5).randbytes(90_000))
    film = town.file("Another film.mkv", 250_000)
    async with town.nodes(4) as nodes:
        shared = [await nodes[1].share(path, publish=publish) for path in (album, film)]
        await trio.sleep(200)
        asked = [(album, shared[0]), (track, shared[0]), (film, shared[1])]
        askers = (nodes[1], nodes[2]) if publish else (nodes[1],)
        for node in askers:
            for path, torrent in asked:
                found = (await node.similar(path)).results
                assert (found[0].id, found[0].kinship) == (torrent.id, "same file"), path
                assert found[0].trust == ("strong" if node is nodes[1] else "verified")
            for torrent in shared:
                for source in (torrent.magnet, torrent.id):
                    if node is nodes[1] or source == torrent.magnet:
                        assert torrent.id not in [
                            one.id for one in (await node.similar(source)).results
                        ]
        assert nodes[1].status().search is not None


async def test_a_path_that_is_in_a_private_torrent_is_found_there_and_nobody_is_asked(
    town: Town, autojump_clock: MockClock
) -> None:
    async with town.nodes(3) as nodes:
        film = town.file("Holiday film.mkv", 300_000)
        private = await nodes[1].share(film, private=True)
        await trio.sleep(100)
        before = nodes[1].status().search.gets_hour  # type: ignore[union-attr]
        found = (await nodes[1].similar(film)).results
        assert [(one.id, one.kinship) for one in found] == [(private.id, "same file")]
        assert nodes[1].status().search.gets_hour == before  # type: ignore[union-attr]
        assert (await nodes[1].catalogue_status()).torrents == 0
        # Another one of the same size is not the same.
        other = town.file("Other film.mkv", 300_000)
        other.write_bytes(film.read_bytes()[::-1])
        assert (await nodes[1].similar(other)).results == ()
        assert nodes[1].status().search.gets_hour > before  # type: ignore[union-attr]


async def test_nobody_is_asked_about_a_private_torrent(
    town: Town, autojump_clock: MockClock
) -> None:
    async with town.nodes(3) as nodes:
        private = await nodes[1].share(town.file("Holiday film.mkv", 300_000), private=True)
        await nodes[2].share(town.file("Holiday films.mkv", 300_000), publish=True)
        await trio.sleep(200)
        before = nodes[1].status().search.gets_hour  # type: ignore[union-attr]
        assert (await nodes[1].similar(private.id)).results == ()
        assert nodes[1].status().search.gets_hour == before  # type: ignore[union-attr]
        # Nor is it in the catalogue, and of its link alone only the name is known.
        found = await nodes[2].similar(private.magnet, network=False)
        assert [one.kinship for one in found.results] == ["similar name"]
        assert found.compared == "names"


async def test_a_torrent_file_is_compared_by_its_names(
    town: Town, autojump_clock: MockClock
) -> None:
    async with town.nodes(3) as nodes:
        film = await nodes[1].share(town.file("Holiday film 1.mkv", 30_000), publish=True)
        other = await nodes[0].share(town.file("Holiday film 2.mkv", 30_000))
        assert other.metainfo is not None
        path = town.tmp_path / "some.torrent"
        path.write_bytes(other.metainfo.to_torrent())
        await trio.sleep(200)
        found = await nodes[2].similar(path)
        assert [(one.id, one.kinship) for one in found.results] == [(film.id, "similar name")]
        assert (found.asked, found.compared) == ("Holiday film 2.mkv", "names")


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("no such file", "neither a file or folder here"),
        ("ab" * 20, "nothing is known of abab"),
        ("magnet:?xt=urn:btih:" + "ab" * 20, "magnet link"),
        ("magnet:?", "magnet"),
        ("", "."),
    ],
)
async def test_what_nothing_is_known_of_is_refused(
    town: Town, autojump_clock: MockClock, source: str, why: str
) -> None:
    (town.tmp_path / "empty").mkdir()
    async with town.node(1) as node:
        with pytest.raises(InputError, match=why):
            await node.similar(source or town.tmp_path / "empty" / "x", network=False)
        with pytest.raises(InputError, match="results"):
            await node.similar("x", limit=0)
        with pytest.raises(InputError, match="network gets"):
            await node.similar("x", patience=0)


async def test_without_numpy_names_and_ids_are_compared_and_it_is_told(
    town: Town, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dht_torrent.search.chunks.is_available", lambda: False)
    async with town.nodes(3) as nodes:
        whole = town.file("Holiday film.mkv", 300_000)
        same = await nodes[1].share(whole, publish=True)
        await trio.sleep(200)
        found = await nodes[2].similar(whole)
        assert [(one.id, one.kinship) for one in found.results] == [(same.id, "same file")]
        assert found.compared == "names"
        assert "pip install" in str(found.warning)


async def test_why_a_share_is_not_published_is_told_after_a_restart_too(
    town: Town, autojump_clock: MockClock
) -> None:
    why = "nothing can be found by this title: '---'"
    async with town.node(9, state=True) as node:
        torrent = await node.share(town.file("---"), publish=True)
        await trio.sleep(300)
        assert (torrent.published, torrent.not_published) == (False, why)
    async with town.node(9, state=True) as node:
        (again,) = node.torrents.values()
        assert again.not_published == why
        await trio.sleep(300)
        assert (again.published, again.not_published) == (False, why)
        await node.unpublish(again)
        assert again.not_published is None
    async with town.node(9, state=True) as node:
        (later,) = node.torrents.values()
        assert later.not_published is None


@pytest.mark.parametrize("publish", [False, True])
async def test_what_looked_at_content_while_it_was_hashed_goes_with_the_hashing(
    publish: bool, town: Town, autojump_clock: MockClock
) -> None:
    """It is half a megabyte for each torrent."""
    async with town.nodes(2) as nodes:
        for number in range(3):
            await nodes[1].share(town.file(f"Holiday {number}.zip", 50_000), publish=publish)
        gc.collect()
        assert not [one for one in gc.get_objects() if isinstance(one, Chunker)]
