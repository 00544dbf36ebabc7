from __future__ import annotations

import random

from dht_torrent.engine.search.tree import Trees
from tests.helpers.entries import *
from tests.helpers.slots import MemorySlots


async def test_smoke() -> None:
    slots = MemorySlots()
    trees = Trees(slots, random.Random(3))
    for n in range(300):
        assert await trees.insert(WORD, [posting(n)])
    print(len(slots.gets) / 300, len(slots.writes) / 300, len(slots.labels))
    got = []

    async def emit(e):
        got.extend(e)
        return False

    print(await trees.walk(WORD, emit, gets=1000))
    assert sorted(got) == sorted(posting(n) for n in range(300))
    print(max(l.depth for l in slots.labels))
