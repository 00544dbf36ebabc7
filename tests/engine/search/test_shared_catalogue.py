"""Whole nodes whose catalogue is a PostgreSQL database: they share it, and go on without it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.config import CatalogueConfig, Config
from dht_torrent.engine.opening import open_node
from dht_torrent.errors import InputError, StorageError
from tests.engine.search.test_service import Town, names, town
from tests.helpers.databases import Database, Door

__all__ = ["town"]
pytestmark = pytest.mark.postgresql


async def test_two_nodes_publish_of_one_database_what_each_of_them_shares(
    town: Town, autojump_clock: MockClock, database: Database
) -> None:
    catalogue = CatalogueConfig(url=database.url)
    async with (
        town.nodes(4) as nodes,
        town.node(8, state=True, catalogue=catalogue) as first,
        town.node(9, state=True, catalogue=catalogue) as second,
    ):
        await first.share(town.file("first words.iso"), publish=True)
        await second.share(town.file("second words.iso"), publish=True)
        await trio.sleep(120)
        assert sorted(await names(nodes[2], "words")) == ["first words.iso", "second words.iso"]
        for node in (first, second):
            status = node.status().search
            assert status is not None
            assert (status.published, status.due, status.trouble) == (1, 0, None)
            found = await names(node, "words", network=False)
            assert sorted(found) == ["first words.iso", "second words.iso"]
            facts = await node.catalogue_status()
            assert (facts.torrents, facts.own) == (2, 1)
            assert facts.bytes_most == catalogue.server_bytes


async def test_a_node_is_known_again_after_a_restart_unless_it_has_no_folder(
    town: Town, autojump_clock: MockClock, database: Database
) -> None:
    catalogue = CatalogueConfig(url=database.url)

    def nodes_known() -> list[bytes]:
        with database.admin() as db:
            return [key for (key,) in db.execute("SELECT key FROM dht_torrent.node").fetchall()]

    async with town.node(1, state=True, catalogue=catalogue) as node:
        await node.share(town.file("some words.iso"))
        await node.catalogue_status()
    known = nodes_known()
    async with town.node(1, state=True, catalogue=catalogue) as node:
        assert (await node.catalogue_status()).own == 1
        assert node.warnings == []
        assert nodes_known() == known
        async with town.node(2, catalogue=catalogue) as other:
            await other.share(town.file("other words.iso"))
            assert (await other.catalogue_status()).own == 1
            assert len(nodes_known()) == 2
    assert nodes_known() == known
    with database.admin() as db:
        assert db.execute("SELECT title FROM dht_torrent.torrent").fetchall() == [
            ("some words.iso",)
        ]


async def test_a_node_goes_on_without_its_catalogue_and_has_it_when_it_is_back(
    town: Town, autojump_clock: MockClock, door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    catalogue = CatalogueConfig(url=door.url, retry_time=0)
    door.close()
    with caplog.at_level(logging.WARNING):
        async with (
            town.nodes(4) as nodes,
            town.node(9, state=True, catalogue=catalogue) as node,
        ):
            await nodes[1].share(town.file("theirs words.iso"), publish=True)
            await node.share(town.file("ours words.iso"))
            await trio.sleep(200)
            assert await names(node, "words") == ["theirs words.iso"]
            with pytest.raises(StorageError, match="cannot be reached"):
                await names(node, "words", network=False)
            with pytest.raises(StorageError, match="cannot be reached"):
                await node.catalogue_status()
            status = node.status().search
            assert status is not None
            assert "cannot be reached" in str(status.trouble)
            lines = [one.getMessage() for one in caplog.records]
            assert len([one for one in lines if "catalogue" in one]) == 1
            door.open()
            await trio.sleep(40)
            status = node.status().search
            assert status is not None
            assert status.trouble is None
            assert await names(node, "ours", network=False) == ["ours words.iso"]
            lines = [one.getMessage() for one in caplog.records]
            assert [one.endswith(" is back") for one in lines if "catalogue" in one] == [
                False,
                True,
            ]
            door.close()
            await trio.sleep(40)
            assert await names(node, "theirs") == ["theirs words.iso"]
            door.open()


async def test_whom_the_user_blocks_is_remembered_while_the_catalogue_is_away(
    town: Town, autojump_clock: MockClock, door: Door
) -> None:
    catalogue = CatalogueConfig(url=door.url, retry_time=0)
    async with (
        town.nodes(4) as nodes,
        town.node(9, state=True, catalogue=catalogue) as node,
    ):
        await nodes[1].share(town.file("bad words.iso"), publish=True)
        await trio.sleep(120)
        (result,) = [one async for one in node.search("words")]
        assert result.publisher is not None
        await node.block(result.publisher)
        assert await names(node, "words") == []
        door.close()
        assert await names(node, "words") == []
        door.open()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("catalogue.sqlite", "begins with postgresql://"),
        ("postgresql://u:hunter2@hunter2@h/db", "special characters as %XX"),
        ("postgresql://u:hunter2@h", "lacks the database"),
    ],
)
async def test_a_url_that_cannot_be_one_is_refused_before_anything_begins(
    url: str, why: str, tmp_path: Path
) -> None:
    config = Config(catalogue=CatalogueConfig(url=url), state_dir=tmp_path / "state")
    assert "hunter2" not in repr(config)
    with pytest.raises(InputError, match=why) as caught:
        async with open_node(config):
            raise AssertionError
    assert "hunter2" not in str(caught.value)
    assert not (tmp_path / "state").exists()
