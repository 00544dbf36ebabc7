"""How versions get into the DHT: no number is used twice, whatever happens."""

from __future__ import annotations

import random
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.config import FollowConfig
from dht_torrent.dht.items import MAX_SEQ, MutableItem, SigningKey, mutable_target, sign
from dht_torrent.dht.versions import named_by, version_value
from dht_torrent.engine.following.writing import LinkWriter
from dht_torrent.errors import InputError, NoReply
from dht_torrent.ids import InfoHash
from dht_torrent.magnet import MutableLink
from tests.helpers.links import FewNodes

KEY = SigningKey(bytes(32))
LINK = MutableLink(KEY.public, b"news")


def ih(number: int) -> InfoHash:
    return InfoHash(bytes([number]) * 20)


def version(seq: int, number: int) -> MutableItem:
    return sign(KEY, version_value(ih(number)), seq, LINK.salt)


class Writing:
    """A writer, and what it had written down when."""

    def __init__(self, nodes: FewNodes, now: float = 0.0) -> None:
        self.nodes = nodes
        self.noted: list[MutableItem] = []
        self.writer = LinkWriter(
            nodes, LINK, FollowConfig(), rng=random.Random(1), clock=lambda: now
        )

    async def write(self, number: int, seq: int = 0) -> Any:
        async def note(item: MutableItem) -> None:
            await trio.lowlevel.checkpoint()
            assert item not in [put for put, _ in self.nodes.puts]  # nobody has seen it
            self.noted.append(item)

        return await self.writer.write(KEY, ih(number), seq, note)

    @property
    def seqs(self) -> list[int]:
        return [item.seq for item in self.noted]


async def test_the_first_version_has_the_time_as_its_number(autojump_clock: MockClock) -> None:
    writing = Writing(FewNodes(), now=1_800_000_000.5)
    stored = await writing.write(7)
    assert writing.seqs == [1_800_000_000]
    assert len(stored.stored) == 8
    assert writing.nodes.held == writing.noted * 8
    assert writing.nodes.kept == writing.noted[0]
    assert named_by(writing.noted[0]) == ih(7)
    assert writing.writer.target == mutable_target(LINK.key, LINK.salt)
    writing.writer.stop()
    assert writing.nodes.kept is None


async def test_a_new_number_follows_what_is_there_and_what_was_recorded(
    autojump_clock: MockClock,
) -> None:
    nodes = FewNodes()
    nodes.held[3] = version(41, 1)  # one node is enough to know
    writing = Writing(nodes)
    await writing.write(2, 5)
    await writing.write(3, 99)
    assert writing.seqs == [42, 100]
    assert nodes.puts[0][1] == 41  # and nobody may have come before


async def test_without_an_answer_and_a_record_nothing_is_signed(
    autojump_clock: MockClock,
) -> None:
    nodes = FewNodes()
    nodes.answers = False
    writing = Writing(nodes, now=1_800_000_000.0)
    with pytest.raises(NoReply, match="no node"):
        await writing.write(1)
    assert (writing.noted, nodes.puts) == ([], [])
    await writing.write(1, 7)  # whoever knows the number may go on
    assert writing.seqs == [1_800_000_000]


async def test_after_the_highest_number_there_is_none(autojump_clock: MockClock) -> None:
    nodes = FewNodes()
    nodes.held[0] = version(MAX_SEQ, 1)
    writing = Writing(nodes)
    with pytest.raises(InputError, match="highest"):
        await writing.write(2)
    assert (writing.noted, nodes.puts) == ([], [])


async def test_who_is_overtaken_takes_the_next_number(autojump_clock: MockClock) -> None:
    nodes = FewNodes()
    nodes.held = [version(1, 1)] * 8
    quicker = [version(2, 9), version(3, 8)]

    def before_put() -> None:
        if quicker:
            nodes.held = [quicker.pop(0)] * 8

    nodes.before_put = before_put
    writing = Writing(nodes)
    stored = await writing.write(5)
    assert writing.seqs == [2, 3, 4]
    assert len(stored.stored) == 8
    assert nodes.held == [version(4, 5)] * 8


@pytest.mark.parametrize("other", [1, 9])
async def test_of_two_values_with_one_number_neither_stays(
    other: int, autojump_clock: MockClock
) -> None:
    nodes = FewNodes()
    quicker = [[version(1, other)] * 6 + [None] * 2]

    def before_put() -> None:
        if quicker:
            nodes.held = list(quicker.pop())

    nodes.before_put = before_put
    writing = Writing(nodes)
    await writing.write(5)
    assert writing.seqs == [1, 2]
    assert nodes.held == [version(2, 5)] * 8


async def test_a_few_nodes_with_something_else_do_not_matter_and_take_it_too(
    autojump_clock: MockClock,
) -> None:
    nodes = FewNodes()
    nodes.held = [*[version(3, 3)] * 6, *[version(2, 2)] * 2]
    writing = Writing(nodes)
    await writing.write(4)
    assert writing.seqs == [4]
    assert nodes.held == [version(4, 4)] * 8
    assert [cas for _, cas in nodes.puts] == [3, None]


async def test_where_most_have_something_older_the_number_is_used_once(
    autojump_clock: MockClock,
) -> None:
    nodes = FewNodes()
    nodes.held = [*[version(3, 3)] * 2, *[version(2, 2)] * 6]
    writing = Writing(nodes)
    await writing.write(4)
    assert writing.seqs == [4]
    assert nodes.held == [version(4, 4)] * 8


async def test_who_is_always_overtaken_gives_up_asking_first(autojump_clock: MockClock) -> None:
    nodes = FewNodes()
    nodes.held = [version(1, 1)] * 8

    def before_put() -> None:
        held = nodes.held[0]
        assert held is not None
        nodes.held = [version(held.seq + 1, 1)] * 8

    nodes.before_put = before_put
    writing = Writing(nodes)
    await writing.write(5)
    assert len(nodes.puts) == FollowConfig().write_retries + 1
    assert writing.seqs == sorted(set(writing.seqs))
    assert [cas is None for _, cas in nodes.puts] == [False] * 5 + [True]


async def test_an_older_item_is_known_to_be_replaced(autojump_clock: MockClock) -> None:
    nodes = FewNodes()
    writer = Writing(nodes).writer
    assert await writer.is_newest(version(3, 3))
    nodes.held[0] = version(3, 3)
    assert await writer.is_newest(version(3, 3))
    assert not await writer.is_newest(version(2, 3))
    assert await writer.is_newest(version(3, 2))  # of two with one number, the smaller value
    assert not await writer.is_newest(version(3, 4))
    await writer.keep(version(5, 5))
    assert nodes.puts == [(version(5, 5), None)]
    assert nodes.kept == version(5, 5)
