"""Lookups as others see them on their way."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from dht_torrent.engine.dht.walks import LOOKED_ON, MAX_ENDED
from tests.helpers.dht_lab import Lab


async def test_a_lookup_is_seen_on_its_way_hop_by_hop_and_for_a_while_after_its_end(
    lab: Lab, autojump_clock: MockClock
) -> None:
    first = await lab.node("10.0.0.1")
    nodes = [first, *[await lab.node(f"10.0.{n}.1", first) for n in range(1, 12)]]
    walker = nodes[-1]
    with trio.fail_after(60):
        for node in nodes[1:]:
            await node.bootstrapped()
    await trio.sleep(1)
    assert walker.lookups() == []  # nobody looked on when it entered
    target = nodes[3].node_id
    async with trio.open_nursery() as nursery:
        nursery.start_soon(walker.find_node, target)
        await trio.sleep(0.01)
        (view,) = walker.lookups()
        assert view.running
        assert (view.purpose, view.target) == ("find_node", target.hex())
        assert {step.outcome for step in view.steps} == {"waiting"}
        assert {(step.hops, step.referrer) for step in view.steps} == {(1, None)}
    (view,) = walker.lookups()
    assert not view.running
    assert view.asked == len(view.steps) >= 3
    assert view.replies == sum(step.outcome == "answered" for step in view.steps)
    times = [step.at for step in view.steps]
    assert times == sorted(times)
    assert 0 < view.seconds <= view.ago
    names = {step.id for step in view.steps}
    assert all(step.referrer is None or step.referrer in names for step in view.steps)
    await trio.sleep(LOOKED_ON)
    assert walker.lookups() == []  # and is forgotten when nobody looks on


async def test_only_the_last_lookups_are_remembered_and_none_while_nobody_looks(
    lab: Lab, autojump_clock: MockClock
) -> None:
    first = await lab.node("10.0.0.1")
    second = await lab.node("10.0.0.2", first)
    await second.bootstrapped()
    await second.find_node(bytes(20))
    assert second.lookups() == []
    for number in range(MAX_ENDED + 3):
        await second.find_node(bytes([number]) * 20)
        second.lookups()
    shown = second.lookups()
    assert [view.target[:2] for view in shown] == [
        f"{number:02x}" for number in reversed(range(3, MAX_ENDED + 3))
    ]
    assert [view.number for view in shown] == sorted((v.number for v in shown), reverse=True)


async def test_of_several_paths_each_node_is_shown_once(
    lab: Lab, autojump_clock: MockClock
) -> None:
    first = await lab.node("10.0.0.1")
    nodes = [await lab.node(f"10.0.{n}.1", first) for n in range(1, 30)]
    for node in nodes:
        await node.bootstrapped()
    await trio.sleep(120)
    walker = nodes[0]
    walker.lookups()
    await walker.items.get(b"\x42" * 20)
    views = [one for one in walker.lookups() if one.purpose == "get"]
    assert views
    for view in views:
        names = [step.id for step in view.steps]
        assert len(names) == len(set(names)) >= 8
        assert view.asked >= len(names)
