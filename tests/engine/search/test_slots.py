"""Slots on items of the DHT: many copies, many writers, some of them vandals."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.dht.items import MAX_SEQ, MutableItem, SigningKey, mutable_target
from dht_torrent.engine.search.slots import SlotKeys
from dht_torrent.errors import NoReply
from dht_torrent.search.label import EPOCH, OVERLAP, Index, Label, epochs_of
from dht_torrent.search.node import encode, join, made_of
from tests.engine.search.world import CONFIG, START, WORD, World, clock, node_of, posting, titles


async def test_what_one_writes_another_reads(autojump_clock: MockClock) -> None:
    world = World()
    writer, reader = world.slots(), world.slots()
    empty = await writer.read(WORD)
    assert empty.node is None
    seen, stored = await writer.write(empty, node_of(1, 2))
    assert stored
    assert titles(seen.node) == {"title 1", "title 2"}
    assert len(world.copies(WORD)) == 8
    for first in (False, True):
        assert titles((await reader.read(WORD, first=first)).node) == {"title 1", "title 2"}


async def test_a_sequence_number_is_the_time_and_never_used_twice(
    autojump_clock: MockClock,
) -> None:
    world = World()
    slots = world.slots(world.items(seconds=0))  # all within one millisecond
    seen = await slots.read(WORD)
    seqs = []
    for number in range(4):
        seen, stored = await slots.write(seen, node_of(*range(number + 1)))
        assert stored
        assert len({item.seq for item in world.copies(WORD)}) == 1
        seqs.append(world.copies(WORD)[0].seq)
    first = int(START * 1000)
    assert seqs == [first, first + 1, first + 2, first + 3]


async def test_two_who_write_at_once_lose_nothing(autojump_clock: MockClock) -> None:
    world = World()
    writers = [world.slots() for _ in range(3)]

    async def add(number: int) -> None:
        slots = writers[number]
        seen = await slots.read(WORD)
        await trio.sleep(0.01 * number)
        seen, stored = await slots.write(seen, node_of(number))
        assert stored
        assert f"title {number}" in titles(seen.node)

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(add, number)
    seen = await world.slots().read(WORD)
    assert titles(seen.node) == {"title 0", "title 1", "title 2"}
    assert all(titles(node) == titles(seen.node) for node in world.nodes(WORD))


async def test_a_writer_never_overwrites_what_it_has_not_read(autojump_clock: MockClock) -> None:
    world = World()
    slots, other = world.slots(config=replace(CONFIG, write_retries=0)), world.slots()
    nothing = await slots.read(WORD)
    await other.write(await other.read(WORD), node_of(7))
    _, stored = await slots.write(nothing, node_of(1))
    assert not stored  # although there was no number to compare with when it read
    stale = await slots.read(WORD)
    await other.write(await other.read(WORD), node_of(7, 8))
    _, stored = await slots.write(stale, node_of(7, 1))
    assert not stored
    assert titles((await world.slots().read(WORD)).node) == {"title 7", "title 8"}


async def test_a_write_that_met_more_than_fits_stores_nothing_and_says_what_it_met(
    autojump_clock: MockClock,
) -> None:
    world = World()
    slots, other = world.slots(), world.slots()
    seen, _ = await slots.write(await slots.read(WORD), node_of(0))
    theirs = node_of(0, *range(10, 22))
    await other.write(await other.read(WORD), theirs)
    after, stored = await slots.write(seen, node_of(0, *range(30, 42)))
    assert not stored
    assert titles(after.node) == {f"title {n}" for n in (0, *range(10, 22), *range(30, 42))}
    assert titles((await other.read(WORD)).node) == titles(theirs)
    assert not (await slots.write(after, join(theirs, node_of(*range(30, 44)))))[1]


async def test_what_was_read_in_haste_is_read_again_before_a_write(
    autojump_clock: MockClock,
) -> None:
    world = World()
    slots = world.slots()
    await slots.write(await slots.read(WORD), node_of(1))
    hasty = await world.slots().read(WORD, first=True)
    other = world.slots()
    await other.write(await other.read(WORD), node_of(1, 2))
    seen, stored = await world.slots().write(hasty, node_of(1, 3))
    assert stored
    assert titles(seen.node) == {"title 1", "title 2", "title 3"}


async def test_a_search_is_not_content_with_a_copy_that_may_be_old(
    autojump_clock: MockClock,
) -> None:
    world = World()
    writer = world.slots()
    old = await writer.read(WORD)
    old, _ = await writer.write(old, node_of(1))
    (stale, *_) = world.copies(WORD)
    await writer.write(old, node_of(1, 2))
    closest = world.holders.closest(stale.target)
    for prefix in closest[:2]:  # these two were not found by the last writer
        world.holders.lose(stale.target, prefix)
        world.force(prefix, stale)
    for _ in range(20):
        seen = await world.slots().read(WORD, first=True)
        assert titles(seen.node) == {"title 1", "title 2"}


async def test_copies_that_are_malformed_or_from_the_future_are_not_believed(
    autojump_clock: MockClock,
) -> None:
    world = World()
    slots = world.slots()
    await slots.write(await slots.read(WORD), node_of(1))
    late = int((clock() + 3600) * 1000)
    world.overwrite(WORD, encode(node_of(66)).partition(b":")[2], late, nodes=[0, 1])
    world.overwrite(WORD, b"junk", int(clock() * 1000) + 5, nodes=[2])
    world.overwrite(WORD, b"more junk", MAX_SEQ, nodes=[3])
    reader = world.slots()
    for first in (False, True):
        assert titles((await reader.read(WORD, first=first)).node) == {"title 1"}
    assert reader.refused >= 3


async def test_a_writer_goes_around_what_a_vandal_has_burned(autojump_clock: MockClock) -> None:
    world = World()
    world.overwrite(WORD, b"burned", MAX_SEQ, nodes=[0, 1, 2])
    slots = world.slots()
    _, stored = await slots.write(await slots.read(WORD), node_of(1))
    assert stored
    assert len([item for item in world.copies(WORD) if item.seq < MAX_SEQ]) == 5
    # Junk that is not from the future is simply replaced.
    world.overwrite(WORD, b"junk", int(clock() * 1000) + 60_000, nodes=[3, 4, 5, 6, 7])
    _, stored = await slots.write(await slots.read(WORD), node_of(1))
    assert stored
    assert titles((await world.slots().read(WORD)).node) == {"title 1"}


async def test_a_slot_burned_on_all_nodes_is_lost_until_its_epoch_ends(
    autojump_clock: MockClock,
) -> None:
    world = World()
    slots = world.slots()
    world.overwrite(WORD, b"burned", MAX_SEQ)
    _, stored = await slots.write(await slots.read(WORD), node_of(1))
    assert not stored
    assert (await slots.read(WORD, first=True)).node is None
    await trio.sleep(EPOCH)
    _, stored = await slots.write(await slots.read(WORD), node_of(1))
    assert stored


async def test_at_the_start_of_an_epoch_the_one_before_is_read_too(
    autojump_clock: MockClock,
) -> None:
    world = World()
    turn = next(s for s in range(EPOCH) if len(epochs_of(WORD, START + s)) == 2)
    turn = turn or EPOCH  # it may be now
    await trio.sleep(turn - 600)
    slots = world.slots()
    await slots.write(await slots.read(WORD), node_of(1))
    await trio.sleep(1200)
    for first in (False, True):
        assert titles((await world.slots().read(WORD, first=first)).node) == {"title 1"}
    await trio.sleep(OVERLAP)
    items = world.items()
    assert (await world.slots(items).read(WORD)).node is None  # forgotten after two hours
    assert items.gets == 1


async def test_entries_that_are_too_old_are_dropped_by_readers(autojump_clock: MockClock) -> None:
    world = World()
    slots = world.slots()
    old = made_of([posting(1), posting(2, age=86_400 + 120)])
    await slots.write(await slots.read(WORD), old)
    for first in (False, True):
        assert titles((await world.slots().read(WORD, first=first)).node) == {"title 1"}


async def test_a_search_reads_a_slot_once_in_ten_minutes_a_publisher_always(
    autojump_clock: MockClock,
) -> None:
    world = World()
    items = world.items()
    slots = world.slots(items)
    await slots.write(await slots.read(WORD), node_of(1))
    items.gets = 0
    for _ in range(5):
        assert (await slots.read(WORD, first=True)).node is not None
    assert items.gets == 0
    await slots.read(WORD)
    assert items.gets == 1
    await trio.sleep(CONFIG.slot_cache_time + 1)
    await slots.read(WORD, first=True)
    assert items.gets == 2


async def test_what_was_read_before_a_moment_does_not_count_after_it(
    autojump_clock: MockClock,
) -> None:
    world = World()
    items = world.items()
    slots = world.slots(items)
    await slots.write(await slots.read(WORD), node_of(1))
    await trio.sleep(10)
    items.gets = 0
    newer = slots.since(trio.current_time() - 9)
    await slots.since(trio.current_time() - 11).read(WORD, first=True)
    assert items.gets == 0
    for _ in range(2):  # once: what it has read itself counts
        await newer.read(WORD, first=True)
        assert items.gets == 1
    await newer.since(trio.current_time()).read(WORD, first=True)
    assert items.gets == 2


async def test_a_write_that_fails_makes_the_next_search_look_again(
    autojump_clock: MockClock,
) -> None:
    world = World()
    items = world.items()
    slots, other = world.slots(items, config=replace(CONFIG, write_retries=0)), world.slots()
    await slots.write(await slots.read(WORD), node_of(1))
    seen = await slots.read(WORD)
    assert (await other.write(await other.read(WORD), node_of(1, 2)))[1]
    assert not (await slots.write(seen, node_of(3)))[1]
    assert titles((await slots.read(WORD, first=True)).node) == {"title 1", "title 2"}


async def test_that_nothing_was_there_is_not_remembered(autojump_clock: MockClock) -> None:
    world = World()
    reader, writer = world.slots(), world.slots()
    assert (await reader.read(WORD, first=True)).node is None
    await writer.write(await writer.read(WORD), node_of(1))
    assert (await reader.read(WORD, first=True)).node is not None


async def test_the_cache_is_bounded_and_forgets_what_was_read_longest_ago(
    autojump_clock: MockClock,
) -> None:
    world = World()
    slots = world.slots(config=replace(CONFIG, slot_cache=3))
    labels = [Label(Index.WORDS, b"word%d" % number) for number in range(5)]
    for label in labels:
        await slots.write(await slots.read(label), node_of(1))
    assert len(slots.cache) == 3
    assert [slots.cache.get(label, float("-inf")) is not None for label in labels] == [
        False,
        False,
        True,
        True,
        True,
    ]


async def test_a_publishers_read_puts_again_what_nodes_would_forget_and_only_then(
    autojump_clock: MockClock,
) -> None:
    world = World()
    items = world.items()
    slots = world.slots(items)
    await slots.write(await slots.read(WORD), node_of(1))
    items.puts = 0
    await slots.read(WORD)
    assert items.puts == 0  # that was a moment ago
    for _ in range(4):
        await trio.sleep(3600)
        await world.slots().read(WORD, first=True)
        await slots.read(WORD)
        await world.slots(items).read(WORD)  # another publisher sees that it need not
    assert items.puts == 4
    assert titles((await world.slots().read(WORD)).node) == {"title 1"}


async def test_a_publishers_read_repairs_a_slot_that_too_few_nodes_have(
    autojump_clock: MockClock,
) -> None:
    world = World()
    slots = world.slots()
    await slots.write(await slots.read(WORD), node_of(1))
    world.holders.kill(0.6)
    assert len(world.copies(WORD)) < 5
    seen = await world.slots().read(WORD)
    assert len(world.copies(WORD)) == 8
    _, stored = await world.slots().write(seen, node_of(1, 2))
    assert stored


async def test_a_publishers_read_takes_a_slot_over_into_the_new_epoch(
    autojump_clock: MockClock,
) -> None:
    world = World()
    turn = next(s for s in range(60, EPOCH + 60, 60) if len(epochs_of(WORD, START + s)) == 2)
    while len(epochs_of(WORD, START + turn)) == 2:
        turn += 60  # the end of an overlap
    await trio.sleep(turn + EPOCH - OVERLAP - 600)
    slots = world.slots()
    await slots.write(await slots.read(WORD), node_of(1))
    await trio.sleep(1200)
    await slots.read(WORD)
    assert [titles(node) for node in world.nodes(WORD)] == [{"title 1"}] * 8


async def test_who_can_ask_nobody_says_so(autojump_clock: MockClock) -> None:
    world = World(8, loss=1.0)
    with pytest.raises(NoReply):
        await world.slots().read(WORD)


async def test_loss_does_not_keep_a_write_from_succeeding(autojump_clock: MockClock) -> None:
    world = World(loss=0.1)
    done = 0
    for number in range(20):
        label = Label(Index.WORDS, b"word%d" % number)
        slots = world.slots()
        _, stored = await slots.write(await slots.read(label), node_of(number))
        done += stored
        found = (await world.slots().read(label)).node
        assert titles(found) == {f"title {number}"}
    assert done >= 18


async def test_a_record_is_kept_alive_and_put_no_more_often_than_needed(
    autojump_clock: MockClock,
) -> None:
    world = World()
    items = world.items()
    records = world.records(items)
    key = SigningKey(b"\x07" * 32)
    assert await records.put(key, b"rsalt", {b"n": b"title"})
    assert items.puts == 1
    assert await records.put(key, b"rsalt", {b"n": b"title"})
    assert items.puts == 1
    await trio.sleep(3600)
    assert await records.put(key, b"rsalt", {b"n": b"title"})
    assert items.puts == 2
    assert await records.put(key, b"rsalt", {b"n": b"another"})
    assert items.puts == 3
    found = await world.records().get(mutable_target(key.public, b"rsalt"), b"rsalt")
    assert isinstance(found, MutableItem)
    assert found.value == {b"n": b"another"}
    assert await world.records().get(bytes(20), b"rsalt") is None


async def test_a_slot_whose_entries_are_all_too_old_is_left_to_expire(
    autojump_clock: MockClock,
) -> None:
    world = World()
    items = world.items()
    slots = world.slots(items)
    old = made_of([posting(2, age=86_400 + 120)])
    await slots.write(await slots.read(WORD), old)
    await trio.sleep(3600)
    items.puts = 0
    assert titles((await slots.read(WORD)).node) == set()
    assert items.puts == 0


async def test_key_pairs_may_be_shared_and_sequence_numbers_are_not(
    autojump_clock: MockClock,
) -> None:
    world, keys = World(), SlotKeys(2)
    one, other = world.slots(keys=keys), world.slots(keys=keys)
    assert one._keys is other._keys is keys  # an empty one, too
    for number, slots in enumerate((one, other)):
        seen = await slots.read(WORD)
        assert (await slots.write(seen, node_of(*range(number + 1))))[1]
        assert len(keys) == 1
    assert titles((await one.read(WORD)).node) == {"title 0", "title 1"}
    first = keys.slot(WORD, 1)
    assert keys.slot(WORD, 1) is first
    keys.slot(WORD, 2)
    keys.slot(WORD, 3)
    assert len(keys) == 2
    assert keys.slot(WORD, 1) is not first
    assert keys.slot(WORD, 1).target == first.target
