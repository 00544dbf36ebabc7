"""Modelled holders do what real ones do, and the closest to a target are the closest there are."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from dht_torrent.config import DhtConfig
from dht_torrent.dht.items import (
    MAX_SEQ,
    Item,
    ItemStore,
    MutableItem,
    Put,
    SigningKey,
    immutable,
    sign,
)
from dht_torrent.ids import Address, NodeId
from dht_torrent.lab.population.holders import Holders, ModelItems
from dht_torrent.lab.run import run
from tests.helpers.examples import examples

KEY = SigningKey(bytes(32))
CONFIG = DhtConfig(unlimited=True)


def item(seq: int, text: bytes = b"text") -> MutableItem:
    return sign(KEY, text, seq, b"salt")


def network(size: int = 300, loss: float = 0.0, seed: int = 1) -> Holders:
    return Holders(size, random.Random(seed), config=CONFIG, loss=loss)


PUTS = st.lists(
    st.tuples(
        st.integers(0, 4),  # seq
        st.sampled_from([b"one", b"two"]),
        st.none() | st.integers(0, 4),  # cas
        st.integers(0, 5000),  # seconds since the one before
    ),
    max_size=12,
)


@given(PUTS)
def test_a_holder_refuses_and_gives_what_an_item_store_would(
    puts: Sequence[tuple[int, bytes, int | None, int]],
) -> None:
    model, store = network(2), ItemStore(CONFIG)
    holder, now = model.prefixes[0], 0.0
    for seq, text, cas, later in puts:
        now += later
        mine = item(seq, text)
        said = store.put(
            Put(mine, cas), Address("10.0.0.1", 1), NodeId(bytes(20)), now, trusted=True
        )
        assert model.put(holder, mine, cas, now) == (said.code if said else None)
        for moment in (now, now + 7199, now + 7200):
            assert model.get(mine.target, holder, moment) == store.get(mine.target, moment)


@pytest.mark.parametrize("seq", [1, 2])
def test_what_is_too_long_is_refused(seq: int) -> None:
    model, store = network(2), ItemStore(CONFIG)
    long = MutableItem(b"1001:" + bytes(1001), KEY.public, b"", seq, bytes(64))
    salty = MutableItem(b"0:", KEY.public, bytes(65), seq, bytes(64))
    for one in (long, salty):
        said = store.put(Put(one, None), Address("10.0.0.1", 1), NodeId(bytes(20)), 0, trusted=True)
        assert said is not None
        assert model.put(model.prefixes[0], one, None, 0) == said.code


@settings(max_examples=examples(50))
@given(st.binary(min_size=20, max_size=20), st.integers(2, 400), st.integers(0, 9))
def test_the_closest_are_the_closest(target: bytes, size: int, seed: int) -> None:
    model = network(size, seed=seed)
    model.kill(0.3)
    wanted = int.from_bytes(target[:8], "big")
    assert list(model.closest(target)) == sorted(model.prefixes, key=wanted.__xor__)[:16]


def test_ids_are_the_longer_ones_of_the_prefixes() -> None:
    model = network()
    infos = [model.info(prefix) for prefix in model.prefixes]
    assert len({info.address for info in infos}) == len(model)
    assert [int.from_bytes(info.id[:8], "big") for info in infos] == list(model.prefixes)


def test_what_one_participant_puts_another_gets() -> None:
    async def main(rng: random.Random) -> tuple[Item | None, ...]:
        model = Holders(300, rng, config=CONFIG)
        one, other = ModelItems(model), ModelItems(model)
        stored = await one.put(item(7))
        assert len(stored.stored) == 8
        await one.put(immutable(b"hello"))
        return (
            await other.get(item(7).target, salt=b"salt"),
            await other.get(item(7).target, salt=b"salt", seq=7),
            await other.get(item(7).target, salt=b"other"),
            await other.get(immutable(b"hello").target),
        )

    assert run(main) == (item(7), None, None, immutable(b"hello"))


def test_each_holder_is_asked_its_own_cas() -> None:
    async def main(rng: random.Random) -> tuple[int, int]:
        model = Holders(300, rng, config=CONFIG)
        one = ModelItems(model)
        survey = await one.get_all(item(1).target, salt=b"salt")
        behind, ahead = survey.holders[:3], survey.holders[3:]
        await one.put_to(behind, item(1))
        await one.put_to(ahead, item(5))
        survey = await one.get_all(item(1).target, salt=b"salt")
        assert [holder.seq for holder in survey.holders] == [1] * 3 + [5] * 5
        assert survey.variants() == [item(5), item(1)]
        cas = {holder.contact.id: 1 for holder in survey.holders}
        stored = await one.put_to(survey.targets(), item(6), cas=cas)
        return len(stored.stored), list(stored.refused.values()).count(301)

    assert run(main) == (3, 5)


def test_a_get_ends_with_the_first_that_is_enough() -> None:
    async def main(rng: random.Random) -> None:
        model = Holders(300, rng, config=CONFIG)
        one = ModelItems(model)
        survey = await one.get_all(item(1).target, salt=b"salt")
        await one.put_to(survey.holders[:4], item(1))
        await one.put_to(survey.holders[4:], item(2))

        async def seen(least: int) -> list[int | None]:
            survey = await one.get_all(
                item(1).target,
                salt=b"salt",
                enough=lambda item: isinstance(item, MutableItem) and item.seq >= least,
            )
            return [holder.seq for holder in survey.holders]

        assert {tuple(await seen(1)) for _ in range(50)} == {(1,), (2,)}
        counts = {len(await seen(2)) for _ in range(1000)}
        assert counts == {1, 2, 3, 4, 5}
        assert await seen(3) == [1] * 4 + [2] * 4

    run(main)


def test_a_put_with_the_wrong_cas_is_not_tried() -> None:
    async def main(rng: random.Random) -> tuple[int, int]:
        one = ModelItems(Holders(300, rng, config=CONFIG))
        await one.put(item(4))
        stored = await one.put(item(5), cas=3)
        return len(stored.stored), len(stored.refused)

    assert run(main) == (0, 8)


def test_the_dead_hold_nothing_and_others_take_their_places() -> None:
    async def main(rng: random.Random) -> tuple[int, ...]:
        model = Holders(2000, rng, config=CONFIG)
        one = ModelItems(model)
        before = await one.get_all(item(1).target, salt=b"salt")
        await one.put(item(1))
        model.kill(0.5)
        assert len(model) == 1000
        held = await one.get_all(item(1).target, salt=b"salt")
        left = sum(holder.item is not None for holder in held.holders)
        late = await one.put_to(before.holders, item(2))
        assert len(late.stored) == left == 8 - late.silent
        await one.republish()
        again = await one.get_all(item(1).target, salt=b"salt")
        return left, sum(holder.item is not None for holder in again.holders)

    left, after = run(main)
    assert 0 < left < 8
    assert after == 8


def test_queries_are_lost_as_often_as_asked_for() -> None:
    async def main(rng: random.Random) -> tuple[float, float, float]:
        model = Holders(300, rng, config=CONFIG, loss=0.2)
        one = ModelItems(model)
        silent = held = missed = 0
        for number in range(300):
            mine = sign(KEY, b"text", 1, b"%d" % number)
            survey = await one.get_all(mine.target, salt=mine.salt)
            assert len(survey.holders) == 8
            nearest = {model.info(prefix).id for prefix in model.closest(mine.target)[:8]}
            missed += sum(holder.contact.id not in nearest for holder in survey.holders)
            silent += (await one.put_to(survey.targets(), mine)).silent
            held += sum(model.get(mine.target, prefix, 0) is not None for prefix in model.prefixes)
        return silent / 2400, held / 2400, missed / 2400

    silent, held, missed = run(main)
    assert 0.15 < silent < 0.25
    assert 0.87 < held < 0.93
    assert 0.15 < missed < 0.25


def test_what_has_expired_is_forgotten() -> None:
    model = network()
    for prefix in model.prefixes[:3]:
        model.put(prefix, item(1), None, float(prefix == model.prefixes[0]))
    model.expire(7200)
    assert model.targets() == [item(1).target]
    assert model.get(item(1).target, model.prefixes[0], 7200) == item(1)
    model.expire(7201)
    assert model.targets() == []


def test_who_has_the_key_can_overwrite_an_item_for_good() -> None:
    async def main(rng: random.Random) -> None:
        model = Holders(300, rng, config=CONFIG)
        one = ModelItems(model)
        assert model.overwrite(item(1).target, b"4:junk", MAX_SEQ, 0) == 0
        await one.put(item(1))
        await one.put(immutable(b"hello"))
        assert model.salts() == {item(1).target: b"salt"}
        assert model.overwrite(item(1).target, b"4:junk", MAX_SEQ, 0) == 8
        found = await one.get(item(1).target, salt=b"salt")
        assert isinstance(found, MutableItem)
        assert (found.seq, found.value) == (MAX_SEQ, b"junk")
        stored = await one.put(item(5))
        assert list(stored.refused.values()) == [302] * 8

    run(main)


def test_a_get_takes_as_long_as_it_is_told_to() -> None:
    async def main(rng: random.Random) -> tuple[float, int, int, dict[bytes, int]]:
        one = ModelItems(Holders(300, rng, config=CONFIG), get_seconds=2, put_seconds=0.5)
        await one.put(item(1))
        await one.get(item(1).target, salt=b"salt")
        return trio.current_time(), one.gets, one.finds, dict(one.puts_of)

    assert run(main) == (4.5, 1, 1, {b"salt": 1})


def test_what_takes_time_ends_at_a_multiple_of_the_grain() -> None:
    async def main(rng: random.Random) -> list[float]:
        model, moments = Holders(300, rng, config=CONFIG), list[float]()
        one = ModelItems(model, get_seconds=1, put_seconds=0.25, grain=0.25)
        at_once = ModelItems(model, grain=0.25)
        for pause in (0.0, 0.1, 0.3):
            await trio.sleep(pause)
            await at_once.get(item(1).target, salt=b"salt")
            moments.append(trio.current_time())
            await one.put(item(1))
            moments.append(trio.current_time())
        with trio.move_on_after(0.5) as scope:
            await one.get(item(1).target, salt=b"salt")
        assert scope.cancelled_caught
        moments.append(trio.current_time())
        await trio.sleep(5)  # nobody wakes who waits no more
        return moments

    assert run(main) == [0.0, 1.25, 1.35, 2.75, 3.05, 4.5, 5.0]
