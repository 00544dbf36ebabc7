"""Pairs of contents among others on modelled holders, small."""

from __future__ import annotations

import random

import pytest

from dht_torrent.lab.run import run
from dht_torrent.lab.studies.similarity import ELEMENTS, SimilarityStudy, make_pair
from dht_torrent.search.similar import SURE
from dht_torrent.search.sketch import similarity


@pytest.mark.parametrize("jaccard", [0.0, 0.5, 1.0])
def test_a_pair_has_in_common_what_was_asked_for(jaccard: float) -> None:
    rng = random.Random(f"pair {jaccard}")
    pairs = [make_pair(jaccard, rng) for _ in range(20)]
    assert {pair.jaccard for pair in pairs} == {jaccard}
    estimates = [similarity(pair.published, pair.asked) or 0.0 for pair in pairs]
    assert sum(estimates) / len(pairs) == pytest.approx(jaccard, abs=0.04)
    assert make_pair(0.3337, rng).jaccard * ELEMENTS == pytest.approx(round(0.3337 * ELEMENTS))


def test_what_has_much_in_common_is_found_among_others_and_called_so() -> None:
    async def main(rng: random.Random) -> None:
        lab = SimilarityStudy(rng, holders=200)
        pairs = [make_pair(jaccard, rng) for jaccard in (1.0, 0.95, 0.6, 0.02)]
        trees: list[int] = []
        await lab.publish(pairs, 300, trees.append)
        assert trees == [1, 2, 3, 4, 5, 6, 7, 8]
        same, near, related, other = [await lab.ask(pair) for pair in pairs]
        assert (same.place, same.kinship, same.estimate) == (1, "near duplicate", 1.0)
        assert (near.place, near.kinship) == (1, "near duplicate")
        assert near.estimate is not None
        assert near.estimate >= SURE
        assert (related.place, related.kinship) == (1, "related")
        assert (other.place, other.kinship) == (None, None)
        for one in (same, near, related, other):
            assert one.wrong == 0
            assert 8 <= one.gets <= 8 * 12
            assert one.records <= 20

    run(main)
