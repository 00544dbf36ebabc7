"""Publishing and searching on modelled holders, small; and the model against full nodes."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import cast

import pytest
import trio

from dht_torrent.config import SearchConfig
from dht_torrent.lab.population.holders import Holders
from dht_torrent.lab.run import run
from dht_torrent.lab.studies import search_participants
from dht_torrent.lab.studies.search_nets import compare, first_results
from dht_torrent.lab.studies.search_participants import UNMETERED, Participant, published
from dht_torrent.lab.studies.searching import QueryOutcome, SearchPlan, SearchStudy, write_at_once
from dht_torrent.lab.studies.titles import Corpus

NOUNS = ["apple", "pear", "plum", "cherry", "lemon", "melon", "grape", "peach", "olive", "walnut"]
KINDS = ["red", "green", "yellow", "ripe", "sweet", "sour", "small", "large", "fresh", "dried"]
TEXTS = [f"{kind} {noun} of the garden" for kind in KINDS for noun in NOUNS]
PLAN = SearchPlan(publishers=5, holders=100)


def ignore(count: int) -> None:
    pass


def mean_recall(asked: list[QueryOutcome]) -> float:
    return sum(one.recall for one in asked) / len(asked)


async def world(rng: random.Random, texts: list[str], plan: SearchPlan = PLAN) -> SearchStudy:
    study = SearchStudy(plan, Corpus(texts, rng), rng)
    await study.publish()
    return study


def test_what_is_published_is_found_and_all_of_it_is_right() -> None:
    async def main(rng: random.Random) -> None:
        study = await world(rng, TEXTS)
        asked = await study.ask(["sweet", "sweet plum", "garden pear", "kiwi"], ignore)
        assert [one.truth for one in asked] == [10, 1, 10, 0]
        assert [one.found for one in asked] == [10, 1, 10, 0]
        assert [one.recall for one in asked] == [1.0] * 4
        assert [one.precision for one in asked] == [1.0] * 4
        assert [one.verified for one in asked] == [one.results for one in asked] == [10, 1, 10, 0]
        assert [one.forged for one in asked] == [0] * 4
        assert all(1 <= one.gets <= 14 and one.rounds >= 1 for one in asked)
        entries = await study.entries()
        assert 7 * len(TEXTS) < entries < 13 * len(TEXTS)
        assert 0.3 < study.writes() / entries < 1.6

    run(main)


def test_who_remembers_what_was_read_reads_less() -> None:
    async def main(rng: random.Random) -> None:
        study = await world(rng, TEXTS[:30])
        queries = ["red", "red plum"] * 3
        cold = await study.ask(queries, ignore)
        warm = await study.ask(queries, ignore, by=study.newcomer())
        assert mean_recall(cold) == mean_recall(warm) == 1
        assert sum(one.gets for one in warm) < sum(one.gets for one in cold)

    run(main)


def test_searchers_remember_how_common_words_were_and_no_slots() -> None:
    async def main(rng: random.Random) -> None:
        study = await world(rng, TEXTS[:60])
        began = trio.current_time()
        queries = ["garden plum", "garden pear", "garden plum"]
        alone = await study.ask_in_turn(queries, ignore, 1)
        apart = await study.ask_in_turn(queries, ignore, 3)
        cold = await study.ask(queries, ignore)
        warm = await study.ask(queries, ignore, by=study.newcomer())
        assert [one.gets for one in apart] == [one.gets for one in cold]
        assert alone[0].gets == warm[0].gets == cold[0].gets
        # Who knows that gardens are common asks for pears alone; and for plums, anew.
        assert alone[1].gets < cold[1].gets
        assert 0 == warm[2].gets < alone[2].gets < cold[2].gets
        assert mean_recall(alone) == mean_recall(apart) == 1
        assert trio.current_time() == began

    run(main)


def test_prefixes_and_ranges_are_whole() -> None:
    async def main(rng: random.Random) -> None:
        study = await world(rng, TEXTS)
        cold, warm = await study.type_prefix("cherry")
        assert (cold.query, warm.query) == ("cher", "cherr")
        assert cold.truth == cold.found == warm.found == 10
        assert cold.gets <= 14
        assert warm.gets == 0
        sizes = sorted(title.size for title in study.corpus.titles)
        ranged = await study.ask_sizes(sizes[10], sizes[29], study.newcomer())
        assert ranged.truth == ranged.found == 20
        words = study.corpus.vocabulary
        assert await study.words_between(words[2], words[9], 24) == set(words[2:10])

    run(main)


def test_dead_holders_are_replaced_within_a_period() -> None:
    async def main(rng: random.Random) -> None:
        study = await world(rng, TEXTS[:40])
        queries = study.corpus.queries(40, random.Random(1))
        study.holders.kill(0.5)
        assert mean_recall(await study.ask(queries, ignore)) >= 0.93
        copies = [len(held) for held in study.holders._held.values()]
        await study.period()
        again = [len(held) for held in study.holders._held.values()]
        assert sum(again) > 1.5 * sum(copies)
        assert mean_recall(await study.ask(queries, ignore)) == 1

    run(main)


def test_a_vandal_hides_some_and_forges_nothing_until_the_epoch_ends() -> None:
    async def main(rng: random.Random) -> None:
        study = await world(rng, TEXTS[:60])
        queries = study.corpus.queries(60, random.Random(1))
        assert study.burn(0.3) >= 20
        await study.forge(["red", "green", "plum"])
        await study.period()  # nor can publishers mend it
        burned = await study.ask(queries, ignore)
        assert 0.4 < mean_recall(burned) < 0.99
        assert sum(one.forged for one in burned) == 0
        await study.next_epoch()
        after = await study.ask(queries, ignore)
        assert mean_recall(after) >= 0.97
        assert sum(one.forged for one in after) == 0

    run(main)


def test_twenty_nodes_at_their_own_rate_put_fifty_entries_each_into_one_word_at_once() -> None:
    """Each waits for its turn before it reads what others write, and not after: else a quarter of
    the entries would be missing until the next period."""
    own = SearchConfig()
    config = replace(UNMETERED, publish_rate=own.publish_rate, publish_burst=own.publish_burst)

    async def main(rng: random.Random) -> tuple[int, int]:
        return await write_at_once(Holders(1000, rng), 20, 50, rng, config)

    lost, left = run(main)
    assert lost <= 20
    assert left == 0


def test_no_entry_of_many_writers_at_once_is_lost_for_longer_than_a_period() -> None:
    async def main(rng: random.Random) -> tuple[int, int]:
        return await write_at_once(Holders(100, rng), 8, 20, rng)

    lost, left = run(main)
    assert 0 <= lost < 80
    assert left == 0


def test_queries_that_are_lost_cost_little() -> None:
    async def main(rng: random.Random) -> None:
        plan = SearchPlan(publishers=5, holders=100, loss=0.1)
        study = await world(rng, TEXTS[:40], plan)
        queries = study.corpus.queries(40, random.Random(1))
        assert mean_recall(await study.ask(queries, ignore)) >= 0.95

    run(main)


def test_the_model_tells_what_full_nodes_do() -> None:
    async def main(rng: random.Random) -> None:
        corpus = Corpus(TEXTS[:30], rng)
        plan = SearchPlan(publishers=3, holders=30)
        queries = corpus.queries(40, random.Random(1))
        full, modelled = await compare(rng, corpus, plan, queries, ignore)
        assert abs(mean_recall(full) - mean_recall(modelled)) <= 0.02
        gets = [sum(one.gets for one in asked) for asked in (full, modelled)]
        assert 0.9 < gets[0] / gets[1] < 1.1
        assert sum(one.forged for one in full) == 0

    run(main)


def test_first_results_come_within_the_patience_of_a_search() -> None:
    async def main(rng: random.Random) -> None:
        began = trio.current_time()
        found = await first_results(rng, 30, ignore)
        assert trio.current_time() > began
        assert len(found) == 100
        assert all(one is not None and 0 < one < 3 for one in found)

    run(main)


INTERVAL = UNMETERED.check_interval


@dataclass
class Busy:
    """A participant who needs so many seconds for what is new. When the first of that comes round
    again he has so much of it that there is always some."""

    seconds: float
    trouble: str | None = None
    ran: float = 0.0
    config: SearchConfig = UNMETERED

    @property
    def publisher(self) -> Busy:
        return self

    async def run(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self.ran = trio.current_time()

    async def is_busy(self, until: float) -> bool:
        now = trio.current_time()
        return now < self.seconds or INTERVAL * (1 - UNMETERED.check_spread) <= now < until


def ran(crowd: list[Busy], seconds: float | None = None) -> list[float]:
    """How long each of them was there for others to publish."""

    async def main(rng: random.Random) -> None:
        with trio.fail_after(10 * INTERVAL):
            await published(cast("list[Participant]", crowd), seconds)

    run(main)
    return [one.ran for one in crowd]


def test_who_has_published_all_goes_on_until_the_slowest_has() -> None:
    assert ran([Busy(100), Busy(0)]) == [120, 120]
    assert ran([Busy(100), Busy(5000), Busy(0)]) == [5010] * 3


def test_what_failed_is_tried_again_a_little_later() -> None:
    crowd = [Busy(100, trouble="nobody stored it"), Busy(0)]
    assert ran(crowd) == [120 + 2 * UNMETERED.retry_interval] * 2


def test_a_period_ends_though_there_is_always_something_due() -> None:
    assert ran([Busy(100), Busy(0)], 5000) == [5000] * 2
    assert ran([Busy(100), Busy(6000), Busy(0)], 5000) == [6020] * 3


def test_a_period_is_no_longer_than_one_for_publishers_who_always_have_something_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """When it lasted until each had nothing to do, those who had were away until the last was as
    lucky: what they had put expired."""
    monkeypatch.setattr(search_participants, "GET_SECONDS", 8.0)
    texts = [" ".join(f"{noun}{number}" for noun in NOUNS[:8]) for number in range(60)]

    async def main(rng: random.Random) -> None:
        study = await world(rng, texts, SearchPlan(publishers=2, holders=100))
        for _ in range(2):
            began = trio.current_time()
            with trio.fail_after(2 * INTERVAL):
                await study.period()
            assert trio.current_time() - began >= INTERVAL * (1 + UNMETERED.check_spread)
            asked = await study.ask([f"{noun}7" for noun in NOUNS[:8]], ignore)
            assert [(one.found, one.verified) for one in asked] == [(1, 1)] * 8

    run(main)


def test_a_name_that_was_cut_is_not_taken_for_a_forged_one() -> None:
    texts = [("word of a very long title " * 9)[: size - 1] + "x" for size in (155, 157, 160)]

    async def main(rng: random.Random) -> None:
        study = await world(rng, texts)
        (asked,) = await study.ask(["title"], ignore)
        assert (asked.found, asked.verified, asked.forged) == (3, 3, 0)

    run(main)
