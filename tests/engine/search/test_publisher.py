"""What a publisher writes, when it writes it again, and what does not stop it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.dht.items import MutableItem, mutable_target
from dht_torrent.engine.search.publisher import posting_of, record_of
from dht_torrent.errors import NoReply, StorageError
from dht_torrent.search.choice import COMMON, pair, root_of, stage
from dht_torrent.search.label import Index, Label, day_root
from dht_torrent.search.node import Entry, Posting, TrieNode, fit, made_of
from dht_torrent.search.record import parse_record, record_salt
from dht_torrent.search.titles import preview_of
from dht_torrent.search.trie import is_shown
from tests.engine.search.world import CONFIG, Person, Titled, World, clock, people, posting, titles

SERVER = "Ubuntu 22.04 LTS server"
HOUR = 3600.0


def word(text: str) -> Label:
    return Label(Index.WORDS, text.encode())


async def rows(person: Person, title: str = SERVER) -> set[tuple[str, bytes]]:
    return {(row.tree, row.root) for row in await person.catalogue.outbox(Titled(title).infohash)}


async def test_a_title_is_under_its_words_its_day_its_size_and_in_the_dictionary(
    autojump_clock: MockClock,
) -> None:
    async with people(World(), 2) as (alice, bob):
        await alice.publish(SERVER)
        await alice.settle()
        for label in (
            word("ubuntu"),
            word("server"),
            Label(Index.DAYS, day_root(clock())),
            Label(Index.SIZES, b""),
        ):
            assert titles(await bob.trees.read(label)) == {preview_of(SERVER)}, label
        dictionary = await bob.trees.read(Label(Index.DICTIONARY, b""))
        assert dictionary is not None
        assert {b"ubuntu", b"server", b"lts"} <= dictionary.packed.keys()
        salt = record_salt(Titled(SERVER).infohash)
        item = await bob.records.get(mutable_target(alice.key.public, salt), salt)
        assert isinstance(item, MutableItem)
        assert parse_record(item.value).title == SERVER
        assert alice.publisher.trouble is None
        assert (alice.publisher.due, alice.publisher.entries) == (0, len(await rows(alice)))


async def test_all_of_what_is_new_is_written_within_seconds(autojump_clock: MockClock) -> None:
    async with people(World(), 2) as (alice, bob):
        await alice.publish("Ubuntu")
        with trio.move_on_after(10):
            await alice.publisher.run()
        dictionary = await bob.trees.read(Label(Index.DICTIONARY, b""))
        assert dictionary is not None
        assert dictionary.packed.keys() == {b"ubuntu"}
        assert all(
            row.due > clock() + 60
            for row in await alice.catalogue.outbox(Titled("Ubuntu").infohash)
        )


async def test_it_stays_for_days_while_its_publisher_runs_and_no_longer(
    autojump_clock: MockClock,
) -> None:
    async with people(World(), 3) as (alice, bob, carol):
        await alice.publish(SERVER)
        for _ in range(10):
            await alice.settle(5 * HOUR)
            bob.slots.cache.__init__(CONFIG)  # type: ignore[misc]
            assert [one.trust for one in await bob.search("ubuntu")] == ["local" and "verified"]
            node = await carol.trees.read(word("ubuntu"), first=True)
            assert titles(node) == {preview_of(SERVER)}
        await trio.sleep(3 * HOUR)
        assert await carol.trees.read(word("ubuntu"), first=True) is None


async def test_in_an_hour_without_change_each_slot_is_put_once(autojump_clock: MockClock) -> None:
    async with people(World(), 1) as (alice,):
        await alice.publish(SERVER)
        await alice.settle(HOUR / 2)
        written = len(await rows(alice))
        alice.items.puts = 0
        await alice.settle(4 * HOUR)
        assert alice.items.puts <= 4.8 * written


async def test_what_a_killed_publisher_had_to_do_its_next_run_does(
    autojump_clock: MockClock,
) -> None:
    async with people(World(), 2) as (alice, bob):
        await alice.publish(SERVER)
        with trio.move_on_after(0.5):  # in the middle of the first entries
            await alice.publisher.run()
        again = Person(World(), alice.catalogue, 0, CONFIG)  # whose DHT is another: that is gone
        again.items.holders = alice.items.holders
        await again.settle()
        assert await bob.names("server lts") == [SERVER]


async def test_what_is_not_published_any_more_ends(autojump_clock: MockClock) -> None:
    async with people(World(), 2) as (alice, bob):
        await alice.publish(SERVER, "Debian netinst")
        await alice.settle()
        await alice.publisher.remove(Titled(SERVER).infohash)
        assert await rows(alice) == set()
        await alice.settle(26 * HOUR)
        assert await bob.names("ubuntu") == []
        assert await bob.names("debian") == ["Debian netinst"]
        assert alice.publisher.trouble is None
        await alice.publish(SERVER)
        await alice.settle()
        assert await bob.names("ubuntu") == [SERVER]


async def test_what_ends_while_it_is_being_written_does_not_come_back(
    autojump_clock: MockClock,
) -> None:
    async with people(World(seconds=2.0), 1) as (alice,):
        await alice.publish(SERVER)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(alice.publisher.run)
            await trio.sleep(1.0)
            await alice.publisher.remove(Titled(SERVER).infohash)
            await trio.sleep(300)
            nursery.cancel_scope.cancel()
        assert await rows(alice) == set()
        alice.items.puts = 0
        await alice.settle(3 * HOUR)
        assert alice.items.puts == 0


async def test_a_word_that_becomes_common_gets_pairs(autojump_clock: MockClock) -> None:
    async with people(World(), 2) as (alice, bob):
        await alice.publish("common green apple")
        await alice.settle()
        assert not [tree for tree, _ in await rows(alice, "common green apple") if tree == "p"]
        await bob.publish(*[f"common green part{n:03}" for n in range(2 * COMMON)])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bob.settle, 2.5 * HOUR)
            nursery.start_soon(alice.settle, 2.5 * HOUR)
        root = root_of(pair("common", "green"))
        assert ("p", root) in await rows(alice, "common green apple")
        # Found although each of the words alone has more than a search reads.
        assert "common green apple" in await bob.names("green apple common")


async def test_a_root_that_was_lost_is_put_by_the_first_who_finds_out(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with people(world, 3) as (alice, bob, carol):
        await alice.publish("common title")
        await bob.publish(*[f"common part{n:03}" for n in range(COMMON)])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(alice.settle, 1.5 * HOUR)
            nursery.start_soon(bob.settle, 1.5 * HOUR)
        assert not world.nodes(word("common"))[0].is_leaf
        (known,) = (await alice.catalogue.counts([b"common"], 0)).values()
        world.lose(word("common"))
        await alice.settle(1.2 * HOUR)
        node = await carol.trees.read(word("common"))
        entry = await alice.catalogue.get(Titled("common title").infohash)
        assert entry is not None
        row = posting_of(record_of(entry, clock()), alice.key.public, clock())
        assert is_shown(word("common"), node, [row])
        # That a root is lost does not mean that its word is rare.
        assert list((await alice.catalogue.counts([b"common"], 0)).values()) == [known]


async def test_many_titles_under_one_word_cost_little_more_than_one(
    autojump_clock: MockClock,
) -> None:
    async with people(World(), 2) as (alice, bob):
        await alice.publish(*[f"common part{n:03}" for n in range(10)])
        await alice.settle(HOUR / 2)
        assert len(titles(await bob.trees.read(word("common")))) == 10
        assert len(titles(await bob.trees.read(word("part")))) == 10


async def test_the_day_is_published_for_a_month_and_the_title_for_ever(
    autojump_clock: MockClock,
) -> None:
    async with people(World(), 1) as (alice,):
        now = clock()
        old, new = Titled("old log", published=now - 31 * 86_400), Titled("new log", published=now)
        await alice.publish(old, new)
        assert ("y", day_root(now)) in await rows(alice, "new log")
        assert not [tree for tree, _ in await rows(alice, "old log") if tree == "y"]
        await alice.settle()
        await trio.sleep(31 * 86_400)
        await alice.settle()
        assert not [tree for tree, _ in await rows(alice, "new log") if tree == "y"]
        assert ("w", b"log") in await rows(alice, "new log")


async def test_what_could_not_be_written_is_tried_again_ever_more_seldom_and_told(
    autojump_clock: MockClock,
) -> None:
    async with people(World(), 1) as (alice,):
        times: list[float] = []

        async def nobody(
            top: Label, entries: Iterable[Entry], *, age: int = 0, anew: bool = False
        ) -> bool:
            if top.root == b"ubuntu":
                times.append(trio.current_time())
                raise NoReply("nobody answers")
            return True

        alice.trees.renew = nobody  # type: ignore[method-assign]
        await alice.publish(SERVER)
        await alice.settle(5 * HOUR)
        assert alice.publisher.trouble is not None
        assert "1 entry could not be written" in alice.publisher.trouble
        assert "nobody answers" in alice.publisher.trouble
        pauses = [after - before for before, after in pairwise(times)]
        assert pauses[0] == pytest.approx(300, rel=0.3)
        assert pauses[1] == pytest.approx(600, rel=0.3)
        assert max(pauses) <= 1.2 * HOUR
        del alice.trees.renew
        await alice.settle(2 * HOUR)
        assert alice.publisher.trouble is None


async def test_a_bug_ends_one_entry_and_nothing_else(autojump_clock: MockClock) -> None:
    async with people(World(), 2) as (alice, bob):
        alice.faults.fail_fast = False
        renew = alice.trees.renew

        async def buggy(
            top: Label, entries: Iterable[Entry], *, age: int = 0, anew: bool = False
        ) -> bool:
            if top.root == b"ubuntu":
                raise KeyError("a bug")
            return await renew(top, entries, age=age)

        alice.trees.renew = buggy  # type: ignore[method-assign]
        await alice.publish(SERVER)
        await alice.settle()
        assert await bob.names("server") == [SERVER]
        assert alice.faults.count >= 1
        assert alice.publisher.trouble is not None


async def test_a_catalogue_that_fails_for_a_while_stops_publishing_for_a_while(
    autojump_clock: MockClock,
) -> None:
    async with people(World(), 2) as (alice, bob):
        await alice.publish(SERVER)
        due = alice.catalogue.due

        async def broken(now: int, limit: int = 100) -> list[object]:
            raise StorageError("disk full")

        alice.catalogue.due = broken  # type: ignore[method-assign, assignment]
        await alice.settle(60)
        assert alice.publisher.trouble is not None
        assert "disk full" in alice.publisher.trouble
        alice.catalogue.due = due  # type: ignore[method-assign]
        await alice.settle()
        assert alice.publisher.trouble is None
        assert await bob.names("server") == [SERVER]


async def test_publishing_keeps_to_its_rate(autojump_clock: MockClock) -> None:
    config = replace(CONFIG, publish_rate=2.0, publish_burst=2.0, max_puts_per_hour=300)
    async with people(World(), 1, config=config) as (alice,):
        await alice.publish(*[f"title{n:03} words{n:03}" for n in range(100)])
        begun = trio.current_time()
        await alice.settle(HOUR)
        spent = alice.meter.gets.within(trio.current_time()) + alice.items.puts
        assert spent <= 2 * (trio.current_time() - begun) + 4
        assert alice.items.puts <= 300


async def test_the_entry_of_a_title_says_what_fits_and_hides_the_rest() -> None:
    long = "The collected lectures on experimental physics of the winter term with exercises"

    async def one() -> Posting:
        async with people(World(), 1) as (alice,):
            await alice.publish(Titled(long, size=5_000_000_000))
            entry = await alice.catalogue.get(Titled(long).infohash)
            assert entry is not None
            record = record_of(entry, clock())
            return posting_of(record, alice.key.public, clock())

    posting = await one()
    assert long.startswith(posting.preview)
    assert posting.preview == preview_of(long) == "The collected le"
    assert 8 <= len(posting.hidden) <= 12


async def test_a_title_gets_pairs_though_another_of_ours_saw_first_how_common_a_word_is(
    autojump_clock: MockClock,
) -> None:
    one, other = "common green apple", "common pear"
    async with people(World(), 1) as (alice,):
        await alice.publish(one)
        await alice.settle()
        counts = {b"common": 3 * COMMON, b"green": 3 * COMMON}
        # As if another of ours had been looked at since.
        await alice.catalogue.remember_counts(counts, int(clock()))
        await alice.publish(other)
        for label in (word("common"), word("green")):
            read = await alice.slots.read(label)
            assert read.node is not None
            packed = made_of([posting(n) for n in range(8)]).packed
            wide = TrieNode({0: 7, 1: 6}, {**read.node.packed, **packed})
            assert stage(wide.count) == stage(3 * COMMON)
            await alice.slots.write(read, fit(wide))
        now = int(clock())
        rest = [
            row for row in await alice.catalogue.outbox(Titled(one).infohash) if row.tree == "w"
        ]
        assert not [row for row in await rows(alice, one) if row[0] == "p"]
        await alice.catalogue.put_outbox([row._replace(due=now) for row in rest])
        await alice.settle(60)
        assert ("p", root_of(pair("common", "green"))) in await rows(alice, one)


async def test_a_title_leaves_out_a_word_that_is_known_to_be_very_common(
    autojump_clock: MockClock,
) -> None:
    async with people(World(), 1) as (alice,):
        await alice.publish(*[f"common part{n:03}" for n in range(20)])
        await alice.catalogue.remember_counts({b"common": 1_000_000}, int(clock()))
        await alice.settle()
        left = [await rows(alice, f"common part{n:03}") for n in range(20)]
        assert not any({("w", b"common"), ("d", b"common")} & one for one in left)
        assert all(("w", b"part") in one for one in left)
        # It was not written either.
        assert await alice.trees.read(word("common"), first=True) is None
