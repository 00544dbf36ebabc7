"""The catalogue from Trio: who waits for whom, and that no call waits for long."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Iterable
from contextlib import aclosing
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.catalogue import (
    CatalogueQuery,
    Entry,
    KnownPublisher,
    OutboxEntry,
    PublisherTrust,
    PutResult,
    Source,
    SwarmHealth,
)
from dht_torrent.catalogue.lines import ImportSummary
from dht_torrent.catalogue.sqlite import SqliteCatalogue
from dht_torrent.config import CatalogueConfig
from dht_torrent.engine.search.catalogue import LocalCatalogue, open_catalogue
from dht_torrent.errors import StorageError
from tests.helpers.catalogues import ALICE, claim, entry, infohash

TITLE = CatalogueQuery(words=("title",), limit=1000)


@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize(
    "name", ["catalogue.sqlite", None, pytest.param("a server", marks=pytest.mark.postgresql)]
)
async def test_it_does_all_that_a_catalogue_does(
    inline: bool, name: str | None, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = None if name is None else tmp_path / name
    url = request.getfixturevalue("database").url if name == "a server" else None
    async with open_catalogue(path, CatalogueConfig(url=url, inline=inline)) as local:
        assert local.trouble is None
        await local.keep_up()
        one = entry(1, claims=(claim(ALICE),))
        assert await local.put([one, entry(2, sources=Source.OWN)], 5) == PutResult(added=2)
        await local.set_health({infohash(1): SwarmHealth(1, 2, 3, "bep33")})
        found = await local.get(infohash(1))
        assert found is not None
        assert found.health == SwarmHealth(1, 2, 3, "bep33")
        assert len(await local.search(TITLE)) == 2
        page, _ = await local.page(0, 10, Source.OWN)
        assert [entry.infohash for entry in page] == [infohash(2)]
        assert (await local.summary()).torrents == 2
        assert await local.claimed([ALICE], 0) == {ALICE: 1}
        assert await local.set_trust(ALICE, PublisherTrust.BLOCKED, 6, "Alice") == 1
        blocked = KnownPublisher(ALICE, PublisherTrust.BLOCKED, "Alice", 6)
        assert await local.publishers() == [blocked]
        assert await local.trust([ALICE]) == {ALICE: PublisherTrust.BLOCKED}
        due = OutboxEntry(infohash(2), "w", b"title", 10)
        await local.put_outbox([due])
        assert await local.due(10) == await local.outbox(infohash(2)) == [due]
        await local.remove_outbox(infohash(2))
        assert await local.due(10) == []
        await local.remember_counts({b"title": 9}, 7)
        assert await local.counts([b"title"], 7) == {b"title": 9}
        assert await local.forget([infohash(2)], Source.OWN) == 1
    with pytest.raises(StorageError, match="closed"):
        await local.summary()


async def test_many_entries_are_stored_in_batches() -> None:
    async with open_catalogue(None, CatalogueConfig(inline=True)) as local:
        entries = (entry(number) for number in range(11_000))
        assert await local.put(entries, 1) == PutResult(added=11_000)
        assert await local.put([], 1) == PutResult()


async def test_lines_are_imported_and_exported_with_others_between_them(tmp_path: Path) -> None:
    lines = b"".join(
        b'{"id": "%s", "name": "Title %d"}\n' % (infohash(number).hex().encode(), number)
        for number in range(11_000)
    )
    seen: list[int] = []

    def progress(summary: ImportSummary) -> None:
        seen.append(summary.added)

    async with open_catalogue(tmp_path / "catalogue.sqlite", CatalogueConfig()) as local:
        summary = await local.import_lines(
            io.BytesIO(lines + b"nonsense\n"), lambda text: text.lower().split(), 1, progress
        )
        assert str(summary) == (
            "11,001 lines: 11,000 added, 0 known already,"
            " 1 skipped: 1 not JSON (first in line 11,001)"
        )
        assert seen == [5000, 10_000, 11_000]
        async with aclosing(local.export_lines(Source.IMPORT)) as parts:
            exported = [part async for part in parts]
        assert len(exported) == 22
        assert b"".join(exported).count(b"\n") == 11_000


class Gated(SqliteCatalogue):
    """Counts who is in it, and lets no call out before the gate is open."""

    def __init__(self) -> None:
        super().__init__(None)
        self.gate = threading.Event()
        self.inside: list[str] = []

    def _pass(self, name: str) -> None:
        self.inside.append(name)
        assert self.gate.wait(20)

    def search(self, query: CatalogueQuery) -> list[Entry]:
        self._pass("search")
        return []

    def forget(self, infohashes: Iterable[bytes], source: Source) -> int:
        self._pass("forget")
        return 0


async def test_one_writes_and_four_read_at_a_time() -> None:
    store = Gated()
    local = LocalCatalogue(store, CatalogueConfig())
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(local.forget, [], Source.OWN)
        for _ in range(6):
            nursery.start_soon(local.search, TITLE)
        with trio.move_on_after(20):
            while len(store.inside) < 5:
                await trio.sleep(0.001)
        for _ in range(20):  # a further call has had the time to come in
            await trio.sleep(0.001)
        assert sorted(store.inside) == ["forget", *["search"] * 4]
        store.gate.set()
    assert len(store.inside) == 9
    await local.aclose()


async def test_a_call_that_is_cancelled_ends_with_its_thread() -> None:
    store = Gated()
    local = LocalCatalogue(store, CatalogueConfig())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(local.search, TITLE)
        while not store.inside:
            await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
        store.gate.set()
    store.close()  # no call is in it
    assert store.inside == ["search"]


async def test_virtual_time_stands_still_for_an_inline_catalogue(
    autojump_clock: MockClock,
) -> None:
    async with open_catalogue(None, CatalogueConfig(inline=True)) as local:
        before = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 3600)
            await local.put([entry(number) for number in range(500)], 1)
            assert len(await local.search(TITLE)) == 500
            assert trio.current_time() == before
            nursery.cancel_scope.cancel()


async def test_what_a_user_should_know_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "catalogue.sqlite"
    path.write_bytes(b"not a database" * 1000)
    with caplog.at_level(logging.WARNING):
        async with open_catalogue(path, CatalogueConfig()) as local:
            assert (await local.summary()).torrents == 0
    assert "set aside as catalogue.sqlite.bad" in caplog.text


async def test_a_catalogue_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file"):
        async with open_catalogue(tmp_path / "missing" / "catalogue.sqlite", CatalogueConfig()):
            raise AssertionError
