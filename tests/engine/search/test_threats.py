"""What strangers may write into an index that everybody may write to, and what comes of it."""

from __future__ import annotations

import random
import unicodedata

import trio
from trio.testing import MockClock

from dht_torrent import bencode
from dht_torrent.bencode import Value
from dht_torrent.dht.items import MAX_SEQ, SigningKey, sign
from dht_torrent.engine.search.tree import Seen
from dht_torrent.engine.search.views import SearchResult
from dht_torrent.search.codes import size_code
from dht_torrent.search.label import EPOCH, Index, Label, epochs_of
from dht_torrent.search.node import Posting, TrieNode, encode, minutes_at
from dht_torrent.search.record import make_record, record_salt, record_target, record_value
from tests.engine.search.world import CONFIG, Titled, World, clock, people

SERVER = "Ubuntu 22.04 LTS server"
MALLORY = SigningKey(b"\x66" * 32)
UBUNTU = Label(Index.WORDS, b"ubuntu")


def entry(title: str, infohash: bytes, record: bytes, *, age: float = 0.0) -> Posting:
    return Posting(infohash, record, minutes_at(clock() - age), size_code(1 << 20), 0, title)


def value_of(node: TrieNode) -> bytes:
    """What an item of it holds."""
    value = bencode.decode(encode(node))
    assert isinstance(value, bytes)
    return value


def record_fields(infohash: bytes, title: str) -> dict[bytes, Value]:
    return record_value(make_record(infohash, title, size=1 << 20, files=1, published=int(clock())))


async def put_record(world: World, target_of: bytes, value: Value) -> bytes:
    """What Mallory signs under her key, at the place of this infohash; the target."""
    item = sign(MALLORY, value, int(clock() * 1000), record_salt(target_of))
    for prefix in world.holders.closest(item.target)[:8]:
        world.force(prefix, item)
    return item.target


def verified(results: list[SearchResult]) -> dict[str, str | None]:
    return {one.name: one.publisher for one in results if one.verified}


async def test_a_forged_record_is_never_verified(autojump_clock: MockClock) -> None:
    world = World()
    async with people(world, 3) as (alice, mallory, bob):
        await alice.publish(SERVER)
        await alice.settle()
        victim = Titled(SERVER).infohash
        other = b"\x01" * 20
        entries = [
            # Another title than the record has.
            entry("Ubuntu gold", other, await put_record(world, other, record_fields(other, "x"))),
            # A record of another torrent.
            entry(
                "Ubuntu swap",
                b"\x02" * 20,
                await put_record(world, b"\x02" * 20, record_fields(other, "Ubuntu swap")),
            ),
            # Somebody else's record, as if it were of one's own torrent.
            entry(SERVER, b"\x03" * 20, record_target(alice.key.public, victim)),
            # What is not a record.
            entry("Ubuntu junk", b"\x04" * 20, await put_record(world, b"\x04" * 20, [1, 2])),
            # A record that nobody has.
            entry("Ubuntu none", b"\x05" * 20, b"\x55" * 20),
        ]
        assert await mallory.trees.insert(UBUNTU, entries)
        found = await bob.search("ubuntu", patience=10.0)
        assert verified(found) == {SERVER: alice.key.public.hex()}
        assert {one.name: one.publisher for one in found if not one.verified} == {
            SERVER + "\u2026": None,  # under its own infohash: its record cannot be had
            "Ubuntu none": None,
        }
        assert [one.verified for one in found] == [True, False, False]
        here = await bob.search("ubuntu", network=False)
        assert [one.id for one in here] == [victim.hex()]


async def test_entries_without_records_take_no_room_from_others(
    autojump_clock: MockClock,
) -> None:
    async with people(World(), 3) as (alice, mallory, bob):
        await alice.publish(*[f"ubuntu part{n:02}" for n in range(6)])
        await alice.settle()
        rng = random.Random(1)
        spam = [
            entry(f"ubuntu spam {n}", rng.randbytes(20), rng.randbytes(20), age=-60)
            for n in range(60)
        ]
        assert await mallory.trees.insert(UBUNTU, spam)
        found = await bob.search("ubuntu", limit=6, patience=30.0)
        assert sorted(one.name for one in found) == [f"ubuntu part{n:02}" for n in range(6)]
        assert all(one.verified for one in found)
        assert bob.cost.gets <= CONFIG.max_gets


async def test_who_fills_a_word_with_signed_spam_ranks_below_others(
    autojump_clock: MockClock,
) -> None:
    async with people(World(), 3) as (alice, mallory, bob):
        await mallory.publish(*[f"ubuntu spam{n:02}" for n in range(40)])
        await mallory.settle(3600)
        await alice.publish("ubuntu part01")
        await alice.settle()
        await bob.search("ubuntu", limit=100, patience=30.0)
        found = await bob.search("ubuntu", limit=100, network=False)
        best = max(found, key=lambda one: one.score)
        assert best.name == "ubuntu part01"
        assert len(found) > 10


async def test_fake_interior_nodes_cost_a_bounded_number_of_reads_and_hide_nothing_for_long(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with people(world, 3) as (alice, bob, carol):
        await alice.publish(SERVER)
        await alice.settle()
        # All that was there is gone, and four children that do not exist are said to be full.
        fake = TrieNode(children=dict.fromkeys(range(4), 15))
        world.overwrite(UBUNTU, value_of(fake), int(clock() * 1000) + 5)
        bob.items.gets = 0
        await bob.search("ubuntu", patience=60.0)
        assert bob.cost.gets <= CONFIG.max_gets
        assert bob.items.gets <= CONFIG.max_gets + bob.cost.records
        assert await bob.names("server") == [SERVER]  # by its other words
        await alice.settle(2 * 3600)
        assert await carol.names("ubuntu", patience=60.0) == [SERVER]


async def test_a_tree_of_fakes_does_not_lead_a_reader_round(autojump_clock: MockClock) -> None:
    world = World()
    async with people(world, 1) as (bob,):
        fake = value_of(TrieNode(children=dict.fromkeys(range(4), 15)))
        labels = [UBUNTU]
        for depth in range(3):
            labels += [
                one.child(digit) for one in labels if one.depth == depth for digit in range(4)
            ]
        for label in labels:
            world.overwrite(label, fake, int(clock() * 1000))
        begun = trio.current_time()
        read: list[Label] = []
        look = bob.slots.read

        async def noted(label: Label, *, first: bool = False, since: float | None = None) -> Seen:
            read.append(label)
            return await look(label, first=first, since=since)

        bob.slots.read = noted  # type: ignore[method-assign]
        assert await bob.search("ubuntu", patience=20.0) == []
        assert len(read) <= CONFIG.max_gets
        # In the overlap of two epochs a slot takes two lookups.
        assert bob.items.gets == sum(len(epochs_of(label, clock())) for label in read)
        assert trio.current_time() - begun <= 20.0


async def test_a_burned_word_is_back_after_its_epoch_and_others_work_meanwhile(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with people(world, 4) as (alice, bob, carol, dave):
        world.overwrite(UBUNTU, b"burned", MAX_SEQ)
        await alice.publish(SERVER)
        await alice.settle()
        assert alice.publisher.trouble is not None
        assert await bob.names("ubuntu", patience=10.0) == []
        assert await carol.names("server lts") == [SERVER]
        # The vandal puts it again every hour, for as long as the label has this slot.
        burned = world.copies(UBUNTU)[0]
        for _ in range(EPOCH // 3600):
            for prefix in world.holders.closest(burned.target)[:8]:
                world.holders.put(prefix, burned, None, trio.current_time())
            await alice.settle(3600)
        await alice.settle(3600)
        assert alice.publisher.trouble is None
        assert await dave.names("ubuntu") == [SERVER]


async def test_hostile_titles_are_fit_to_be_shown(autojump_clock: MockClock) -> None:
    hostile = "ubuntu \x1b[31m\u202egpj.exe\u2066 \x00\x07\r\n\u200b" + "a" + "\u0301" * 30
    world = World()
    async with people(world, 2) as (mallory, bob):
        plain, wild = b"\x07" * 20, b"\x08" * 20
        fields = record_fields(wild, "ubuntu") | {b"n": hostile.encode()}
        target = await put_record(world, wild, fields)
        await mallory.trees.insert(
            UBUNTU,
            [
                entry(hostile.encode()[:48].decode("utf-8", "ignore"), wild, target),
                entry("ubuntu \x1b]0;title\x07\u202e\x9b2J", plain, b"\x77" * 20),
            ],
        )
        found = await bob.search("ubuntu", patience=10.0)
        assert {one.trust for one in found} == {"verified", "unverified"}
        for one in found:
            assert one.name.startswith("ubuntu")
            for text in (one.name, one.magnet):
                kinds = {unicodedata.category(char) for char in text}
                assert not kinds & {"Cc", "Cf", "Cs", "Zl", "Zp"}, text
            assert sum(unicodedata.combining(char) > 0 for char in one.name) <= 4
        for one in await bob.search("ubuntu", network=False):
            assert one.name.isprintable()


async def test_one_who_publishes_thousands_of_titles_costs_readers_no_more(
    autojump_clock: MockClock,
) -> None:
    async with people(World(), 3) as (alice, mallory, bob):
        rng = random.Random(2)
        flood = [
            entry(f"ubuntu flood {n}", rng.randbytes(20), rng.randbytes(20)) for n in range(1000)
        ]
        for start in range(0, len(flood), 100):
            await mallory.trees.insert(UBUNTU, flood[start : start + 100])
        await alice.publish(SERVER)
        await alice.settle()
        await bob.search("ubuntu", limit=50, patience=30.0)
        assert bob.cost.gets <= CONFIG.max_gets
        assert await bob.names("ubuntu server") == [SERVER]
