"""Searches for similar torrents, on a DHT of modelled holders."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from dht_torrent.catalogue import PublisherTrust
from dht_torrent.config import SearchConfig
from dht_torrent.engine.search.checking import sketch_entry
from dht_torrent.engine.search.similar import SimilarSearch
from dht_torrent.engine.search.tree import Trees
from dht_torrent.engine.search.views import SimilarResult
from dht_torrent.search.chunks import BINS
from dht_torrent.search.codes import hash_digits
from dht_torrent.search.label import Index, Label, tree_root
from dht_torrent.search.node import (
    Entry,
    Posting,
    TrieNode,
    digits_of,
    fits,
    made_of,
    pack,
    with_key,
)
from dht_torrent.search.similar import FILE_ID, Traits, file_id
from dht_torrent.search.sketch import content_sketch, minima_of, title_sketch, tree_keys
from tests.engine.search.world import Person, Titled, World, clock, people, posting
from tests.helpers.entries import posting as timely
from tests.helpers.examples import examples
from tests.helpers.slots import MemorySlots

CONTENT = Label(Index.CONTENT, tree_root(0))


def elements(seed: int, count: int = 400) -> list[int]:
    rng = random.Random(f"elements {seed}")
    return [rng.getrandbits(64) for _ in range(count)]


def traits(title: str, content: Sequence[int] = (), **rest: object) -> Traits:
    """Of a torrent whose content has these elements."""
    made = Traits(
        title=title,
        size=1 << 20,
        files=1,
        content=content_sketch(minima_of(content, BINS)) if content else None,
        named=title_sketch(title),
    )
    return replace(made, **rest)  # type: ignore[arg-type]


async def publish(by: Person, *many: Traits) -> None:
    for one in many:
        torrent = Titled(one.title)
        await by.publish(torrent)
        sketch = sketch_entry(torrent.infohash, one)
        assert sketch is not None
        await by.catalogue.put_sketches([sketch])
        await by.publisher.add(torrent.infohash, anew=True)


def search_of(by: Person, asked: Traits, infohash: bytes | None = None) -> SimilarSearch:
    return SimilarSearch(
        asked,
        infohash,
        catalogue=by.catalogue,
        trees=by.trees,
        records=by.records,
        config=SearchConfig(),
        clock=clock,
    )


async def similar(by: Person, asked: Traits, *, network: bool = True) -> list[SimilarResult]:
    return await search_of(by, asked).run(20, 60.0, network=network)


async def test_what_is_similar_is_found_and_called_what_it_is(autojump_clock: MockClock) -> None:
    whole = elements(1)
    async with people(World(), 2) as (publisher, reader):
        await publish(
            publisher,
            traits("An edited copy", whole[:380] + elements(2, 20)),
            traits("Half of it", whole[:200] + elements(3, 50)),
            traits("A pack", elements(4), files=70, file_ids=(b"a" * FILE_ID, b"b" * FILE_ID)),
            traits("The thing 1.1", elements(5)),
            *(traits(f"Number {n} of others", elements(100 + n)) for n in range(40)),
        )
        await publisher.settle(1200)
        asked = traits("The thing 1.2", whole, file_ids=(b"b" * FILE_ID,))
        found = await similar(reader, asked)
        assert {one.name: one.kinship for one in found} == {
            "An edited copy": "near duplicate",
            "Half of it": "related",
            "A pack": "same file",
            "The thing 1.1": "similar name",
        }
        assert found[-1].name == "The thing 1.1"
        assert {one.trust for one in found} == {"verified"}
        assert {one.publisher for one in found} == {publisher.key.public.hex()}
        assert found[0].magnet.startswith("magnet:?xt=urn:btih:" + found[0].id)
        assert all(one.source == "network" for one in found)
        # From now on this one knows.
        again = await similar(reader, asked, network=False)
        assert [one.name for one in again] == [one.name for one in found]
        assert {one.source for one in again} == {"local"}


async def test_the_torrent_itself_is_not_similar_to_itself(autojump_clock: MockClock) -> None:
    one = traits("The thing", elements(1))
    async with people(World(), 2) as (publisher, reader):
        await publish(publisher, one)
        await publisher.settle()
        for by in (publisher, reader):
            asked = search_of(by, one, Titled("The thing").infohash)
            assert await asked.run(9, 60.0, network=True) == []
        assert len(await similar(reader, one)) == 1


async def test_entries_without_a_record_and_forged_ones_are_not_shown(
    autojump_clock: MockClock,
) -> None:
    asked = traits("The thing", elements(1))
    async with people(World(), 2) as (publisher, reader):
        await publish(publisher, traits("Something else", elements(2)))
        await publisher.settle()
        other = Titled("Something else").infohash
        key = tree_keys(asked.content, None, None)[0][2]
        forged = [with_key(posting(n), key) for n in range(5)]
        # Our own record stands behind this one, but says nothing of that content.
        real = await reader.trees.read(Label(Index.SIZES, b""))
        assert real is not None
        (entry,) = (one for one in real.entries if isinstance(one, Posting))
        assert entry.infohash == other
        await reader.trees.insert(CONTENT, [*forged, with_key(entry, key)])
        search = search_of(reader, asked)
        assert await search.run(9, 60.0, network=True) == []
        assert search.records == 6


async def test_what_only_a_blocked_publisher_says_is_not_looked_up(
    autojump_clock: MockClock,
) -> None:
    one = traits("The thing", elements(1))
    async with people(World(), 2) as (publisher, reader):
        await publish(publisher, one)
        await publisher.settle()
        key = publisher.key.public
        await reader.catalogue.set_trust(key, PublisherTrust.BLOCKED, 1)
        search = search_of(reader, one)
        assert await search.run(9, 60.0, network=True) == []
        assert search.records == 0


async def test_a_search_reads_no_more_than_it_may(autojump_clock: MockClock) -> None:
    whole = elements(1)
    async with people(World(), 2) as (publisher, reader):
        await publish(
            publisher, *(traits(f"Copy {n}", [*whole, *elements(10 + n, 4)]) for n in range(80))
        )
        await publisher.settle(3000)
        search = search_of(reader, traits("Something", whole))
        found = await search.run(100, 60.0, network=True)
        config = SearchConfig()
        assert search.records == config.similar_records == len(found)
        assert search.gets <= 12 * config.similar_gets + 24
        search = search_of(reader, traits("Something", whole))
        assert len(await search.run(3, 60.0, network=False)) == 3


async def test_patience_ends_a_search_with_what_was_found(autojump_clock: MockClock) -> None:
    one = traits("The thing", elements(1))
    async with people(World(), 2) as (publisher, reader):
        await publish(publisher, one)
        await publisher.settle()
        began = trio.current_time()
        assert await search_of(reader, one).run(9, 0.1, network=True) == []
        assert trio.current_time() - began < 1.5


async def test_a_sketch_that_changed_is_published_at_its_new_place(
    autojump_clock: MockClock,
) -> None:
    async with people(World(), 2) as (publisher, reader):
        await publish(publisher, traits("The thing", elements(1)))
        await publisher.settle()
        await publish(publisher, traits("The thing", elements(2)))
        await publisher.settle(4 * 3600)
        (found,) = await similar(reader, traits("Nothing like it", elements(2)))
        assert found.kinship == "near duplicate"
        # It is not known any more what it is like.
        infohash = Titled("The thing").infohash
        await publisher.catalogue.put_sketches(
            [entry for entry in [sketch_entry(infohash, traits("The thing"))] if entry is not None]
        )
        await publisher.publisher.add(infohash, anew=True)
        trees = {row.tree for row in await publisher.catalogue.outbox(infohash)}
        assert "c" not in trees
        assert "n" in trees


async def test_a_title_without_a_sketch_is_in_no_tree_of_sketches(
    autojump_clock: MockClock,
) -> None:
    async with people(World(), 1) as (publisher,):
        await publisher.publish("The thing")
        await publisher.settle()
        rows = await publisher.catalogue.outbox(Titled("The thing").infohash)
        assert not {row.tree for row in rows} & {"c", "n", "r"}
        await publish(publisher, traits("The thing", elements(1), file_ids=(file_id(1, []),)))
        rows = await publisher.catalogue.outbox(Titled("The thing").infohash)
        assert sorted(row.tree for row in rows if row.tree in "cnr") == ["c"] * 8 + ["n"] * 2 + [
            "r"
        ]


# The trees.

KEYS = st.binary(min_size=4, max_size=4) | st.integers(0, 40).map(lambda n: bytes([0, 0, 0, n]))


def at(number: int, key: bytes) -> Entry:
    return with_key(timely(number), key)


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(KEYS, min_size=1, max_size=60), st.data())
def test_the_nearest_are_all_that_share_a_leaf(keys: list[bytes], data: st.DataObject) -> None:
    trio.run(_check_nearest, keys, data.draw(st.integers(0, len(keys) - 1)))


async def _check_nearest(keys: list[bytes], number: int) -> None:
    trees = Trees(MemorySlots(), random.Random(1), SearchConfig())
    entries = [at(n, key) for n, key in enumerate(keys)]
    assert await trees.insert(CONTENT, entries)
    key = hash_digits(keys[number], 4)
    found: set[tuple[bytes, bytes]] = set()

    async def take(some: Sequence[Entry]) -> bool:
        found.update(map(pack, some))
        return False

    walked = await trees.nearest(CONTENT, key, take, gets=1000, enough=10)
    packed = made_of(entries).packed
    # All with the digits of the leaf; unless there are more than a node holds of one key.
    shared = [
        {one for one in packed.items() if digits_of(Index.CONTENT, *one)[:depth] == key[:depth]}
        for depth in range(9)
    ]
    depth = next((n for n in range(9) if fits(TrieNode(packed=dict(shared[n])))), 9)
    if depth < 9:
        assert shared[depth] <= found
    assert len(found) >= min(10, len(packed), len(shared[max(depth - 1, 0)]))
    assert walked.gets >= 1


@pytest.mark.parametrize("gets", [1, 3])
async def test_the_nearest_cost_no_more_than_they_may(gets: int, autojump_clock: MockClock) -> None:
    trees = Trees(MemorySlots(), random.Random(1), SearchConfig())
    rng = random.Random(2)
    await trees.insert(CONTENT, [at(n, rng.randbytes(4)) for n in range(60)])
    trees = Trees(MemorySlots(), random.Random(1), SearchConfig())

    async def take(some: Sequence[Entry]) -> bool:
        return False

    walked = await trees.nearest(CONTENT, bytes(8), take, gets=gets, enough=1000)
    assert walked.gets <= gets + 1


async def test_a_long_title_that_may_be_cut_ends_in_an_ellipsis(autojump_clock: MockClock) -> None:
    whole = elements(1)
    title = "A title " * 30
    async with people(World(), 2) as (publisher, reader):
        await publish(publisher, traits(title, whole))
        await publisher.settle()
        for network in (True, False):
            (found,) = await similar(reader, traits("The same", whole[:390]), network=network)
            assert found.name == title[:160].rstrip() + "\u2026"
            assert "&dn=" not in found.magnet
