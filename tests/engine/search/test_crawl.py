"""Nodes that look through the DHT for torrents, and what is kept out of what they find."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dht_torrent import CatalogueImport, CrawlConfig, CrawlStatus, Node, open_node
from dht_torrent.bencode import Value
from dht_torrent.catalogue import Proof, Source
from dht_torrent.config import Config
from dht_torrent.dht import krpc
from dht_torrent.errors import InputError
from tests.engine.search.test_service import Town, names

CRAWL = CrawlConfig(enabled=True, rate=20.0, seen_bytes=1 << 16, resting_bytes=1 << 16)


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path)


def crawl_of(node: Node) -> CrawlStatus:
    status = node.status().search
    assert status is not None
    assert status.crawl is not None
    return status.crawl


async def test_what_others_share_is_found_and_only_known(
    town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with town.nodes(5) as nodes:
        shared = [await nodes[n].share(town.file(f"Shared film {n}.mkv")) for n in (1, 2, 3)]
        await trio.sleep(60)
        async with town.node(7, crawl=CRAWL) as crawler:
            await trio.sleep(300)
            found = sorted(await names(crawler, "shared film", network=False))
            assert found == [f"Shared film {n}.mkv" for n in (1, 2, 3)]
            entry = await crawler._search._catalogue.get(shared[0].info_hash)  # type: ignore[union-attr]
            assert entry is not None
            assert (entry.sources, entry.proof, entry.size) == (Source.CRAWL, Proof.STRONG, 1000)
            assert entry.health is not None
            assert entry.health.peers == 1
            assert not crawler.torrents
            assert not [p for p in (tmp_path / "7").rglob("*") if p.is_file()]
            status = crawl_of(crawler)
            assert status.found == status.found_hour == 3
            assert status.nodes_told >= 1
            assert status.outcomes == {"found": 3}
            assert 0 < status.queries_hour <= status.nodes + 3 * 8
            assert status.fetches_hour == 3
            assert status.bytes_hour > 3 * 80
            assert status.why is None
            # Six hours later the nodes are asked again, and tell what is known.
            await trio.sleep(6.2 * 3600)
            again = crawl_of(crawler)
            assert again.nodes > status.nodes
            assert again.found == 3
            assert again.why == "all that the nodes named was looked at before"


async def test_without_being_asked_to_nothing_is_crawled(
    town: Town, autojump_clock: MockClock
) -> None:
    async with town.nodes(3) as nodes:
        await nodes[1].share(town.file("Shared film.mkv"))
        await trio.sleep(600)
        status = nodes[2].status().search
        assert status is not None
        assert status.crawl is None
        assert await names(nodes[2], "shared film", network=False) == []


async def test_private_torrents_are_never_found(town: Town, autojump_clock: MockClock) -> None:
    async with town.nodes(4) as nodes:
        private = await nodes[1].share(town.file("Private film.mkv"), private=True)
        # Somebody who should not has told the DHT of it.
        args: dict[bytes, Value] = {b"info_hash": private.info_hash}
        reply = await nodes[1].dht.query(nodes[2].address, krpc.GET_PEERS, args)
        assert reply.token is not None
        args |= {b"token": reply.token, b"port": 6881}
        await nodes[1].dht.query(nodes[2].address, krpc.ANNOUNCE_PEER, args)
        async with town.node(7, crawl=CRAWL) as crawler:
            await trio.sleep(300)
            assert crawl_of(crawler).outcomes == {"private": 1}
            assert await names(crawler, "film", network=False) == []
            why = crawl_of(crawler).why
            assert why is not None
            assert "1 private" in why


async def test_one_that_finds_nothing_says_why(town: Town, autojump_clock: MockClock) -> None:
    async with town.node(1, crawl=CRAWL, bootstrap=[]) as alone:
        await trio.sleep(60)
        assert crawl_of(alone).why == "no node is known yet that could be asked"
    async with town.nodes(3), town.node(7, crawl=CRAWL) as crawler:
        await trio.sleep(60)
        assert crawl_of(crawler).why == "3 nodes answered, and none has a torrent"


async def test_an_infohash_without_a_peer_is_told_as_such(
    town: Town, autojump_clock: MockClock
) -> None:
    async with town.nodes(4) as nodes:
        gone = await nodes[1].share(town.file("Gone film.mkv"))
        await trio.sleep(30)
        await nodes[1].remove(gone)
        async with town.node(7, crawl=CRAWL) as crawler:
            await trio.sleep(600)
            status = crawl_of(crawler)
            assert status.found == 0
            assert set(status.outcomes) <= {"no_metadata", "unreachable"}
            assert status.why is not None
            assert "peers" in status.why


async def test_the_hours_budget_is_kept(town: Town, autojump_clock: MockClock) -> None:
    config = CrawlConfig(
        enabled=True, rate=20.0, max_queries_per_hour=5, seen_bytes=1 << 16, resting_bytes=1 << 16
    )
    async with town.nodes(6) as nodes:
        await nodes[1].share(town.file("Shared film.mkv"))
        async with town.node(7, crawl=config) as crawler:
            for _ in range(50):
                await trio.sleep(60)
                assert crawl_of(crawler).queries_hour <= 5
            assert crawl_of(crawler).queries_hour == 5
            assert crawl_of(crawler).queries_hour_most == 5


# -- what is denied ---------------------------------------------------------------------------


async def test_what_is_denied_is_not_kept_whichever_way_it_came(
    town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with town.nodes(5) as nodes:
        await nodes[1].share(town.file("Some forbidden film.mkv"), publish=True)
        await nodes[2].share(town.file("Some good film.mkv"), publish=True)
        hashed = await nodes[3].share(town.file("Some other film.mkv"), publish=True)
        await trio.sleep(120)
        deny = tmp_path / "deny.txt"
        deny.write_text(f"Forbidden\n{hashed.id}\n")
        async with town.node(7, crawl=CRAWL, deny_list=deny) as crawler:
            # By the index ...
            assert await names(crawler, "some film") == ["Some good film.mkv"]
            # ... by the crawl ...
            await trio.sleep(300)
            assert crawl_of(crawler).outcomes == {"found": 1, "denied": 2}
            assert await names(crawler, "film", network=False) == ["Some good film.mkv"]
            # ... and by import; it is not exported either.
            lines = b'{"id": "%s", "name": "FORBIDDEN"}\n{"id": "%s", "name": "fine"}\n' % (
                b"ab" * 20,
                b"cd" * 20,
            )
            imported = await crawler.import_catalogue(lines)
            assert imported == CatalogueImport(
                lines=2,
                added=1,
                known=0,
                refused=0,
                skipped={"on the deny-list": 1},
                first_skipped={"on the deny-list": 1},
            )
            status = crawler.status().search
            assert status is not None
            assert status.denied == 2


async def test_a_list_that_changes_takes_effect_on_what_was_stored_and_published(
    town: Town, tmp_path: Path, autojump_clock: MockClock
) -> None:
    deny = tmp_path / "deny.txt"
    deny.write_text("nothing here\n")
    async with town.nodes(4) as nodes, town.node(7, deny_list=deny) as node:
        torrent = await node.share(town.file("Bad film.mkv"), publish=True, tags=["movie"])
        await node.import_catalogue(b'{"id": "%s", "name": "Bad song"}\n' % (b"ab" * 20))
        await node.import_catalogue(b'{"id": "%s", "name": "Good song"}\n' % (b"cd" * 20))
        await trio.sleep(120)
        assert await names(nodes[1], "bad film") == ["Bad film.mkv"]
        assert len(await names(node, "song", network=False)) == 2

        deny.write_text("# changed\nbad\n")
        await trio.sleep(20)
        assert (await node.catalogue_status()).torrents == 1
        assert await names(node, "song", network=False) == ["Good song"]
        assert b"bad" not in b"".join([part async for part in node.export_catalogue()]).lower()
        assert torrent.not_published == "it is on this node's deny-list, and is not published"
        status = node.status().search
        assert status is not None
        assert (status.published, status.denied) == (0, 1)
        puts = status.puts_hour
        await trio.sleep(2 * 3600)
        assert node.status().search.puts_hour == 0 < puts  # type: ignore[union-attr]
        with pytest.raises(InputError, match="deny-list"):
            await node.publish(torrent)

        # A list that is broken, or gone, changes nothing, and is told.
        for broken in (lambda: deny.write_bytes(b"\xff"), deny.unlink):
            broken()
            await trio.sleep(20)
            status = node.status().search
            assert status is not None
            assert status.denied == 1
            assert status.trouble is not None
            assert "stays as it was" in status.trouble

        deny.write_text("movie\n")  # a tag of it
        await trio.sleep(20)
        assert torrent.not_published is not None
        deny.write_text("")
        await trio.sleep(120)
        assert torrent.not_published is None
        assert await names(nodes[1], "bad film") == ["Bad film.mkv"]
        status = node.status().search
        assert status is not None
        assert status.trouble is None


@pytest.mark.parametrize("content", [None, b"\xff"])
async def test_a_node_whose_list_cannot_be_read_does_not_start(
    content: bytes | None, tmp_path: Path, autojump_clock: MockClock
) -> None:
    deny = tmp_path / "deny.txt"
    if content is not None:
        deny.write_bytes(content)
    config: Any = Config(listen="127.0.0.1:0", bootstrap=[], deny_list=deny)
    with pytest.raises(InputError, match=r"deny\.txt"):
        async with open_node(config):
            pass
