"""Lookups on a network that is only a dictionary: right, quick, and not to be led astray."""

from __future__ import annotations

import random

import pytest

from dht_torrent.config import DhtConfig
from dht_torrent.dht.identity import make_id
from dht_torrent.dht.krpc import NodeInfo
from dht_torrent.dht.lookup import POINTS, Lookup
from dht_torrent.dht.paths import Paths, search
from dht_torrent.ids import Address, NodeId, distance
from tests.helpers.dht_world import CONFIG, OWN, World, address, finish, run_lookup


@pytest.fixture(scope="module")
def world() -> World:
    return World(300, seed=1)


def test_it_finds_the_true_closest(world: World) -> None:
    for _ in range(40):
        target = world.rng.randbytes(20)
        lookup, seconds = run_lookup(world.answer, target, world.some(8))
        assert lookup.closest() == world.closest(target)
        assert lookup.asked <= 60
        assert 1 <= lookup.hops <= 5
        assert seconds < 1.5


def test_with_half_of_the_contacts_dead_it_still_finds_them_within_six_seconds() -> None:
    world = World(300, seed=2, dead=0.5)
    times, overlap = [], 0
    for turn in range(60):
        world.rng.seed(turn)  # so that how one lookup went does not change the others
        target = world.rng.randbytes(20)
        lookup, seconds = run_lookup(world.answer, target, world.some(16))
        found, best = lookup.closest(), world.closest(target)
        assert len(found) == 8
        assert found[0] == best[0]
        overlap += len(set(found) & set(best))
        times.append(seconds)
    assert sorted(times)[int(0.95 * len(times))] <= 6
    assert overlap / len(times) >= 7  # nobody has repaired its table yet


def test_those_who_answer_late_on_purpose_hold_it_up_little() -> None:
    world = World(300, seed=3)
    lorises = {node.id for node in world.nodes if world.rng.random() < 0.3}

    def answer(node: NodeInfo, target: bytes) -> tuple[float, list[NodeInfo]] | None:
        came = world.answer(node, target)
        return (14.9, came[1]) if came is not None and node.id in lorises else came

    for _ in range(30):
        lookup, seconds = run_lookup(answer, world.rng.randbytes(20), world.some(16))
        assert len(lookup.closest()) == 8
        assert seconds < 8


def test_a_liar_with_ever_closer_inventions_changes_nothing() -> None:
    world = World(300, seed=4)
    liar = NodeInfo(NodeId(b"\x01" * 20), address(60_000))

    def answer(node: NodeInfo, target: bytes) -> tuple[float, list[NodeInfo]] | None:
        if node == liar:
            number = int.from_bytes(target, "big")
            fakes = [
                NodeInfo(
                    NodeId((number ^ (n + 1)).to_bytes(20, "big")),
                    Address(f"66.{n}.{world.rng.randrange(256)}.9", 6881),
                )
                for n in range(77)
            ]
            return 0.01, fakes
        return world.answer(node, target)

    for _ in range(20):
        target = world.rng.randbytes(20)
        lookup, seconds = run_lookup(answer, target, [liar, *world.some(7)])
        honest = [node for node in lookup.closest() if node != liar]
        assert honest == world.closest(target)[: len(honest)]
        assert len(honest) >= 7
        assert lookup.asked <= CONFIG.lookup_queries
        assert seconds < 10


def inventions(target: bytes, count: int, seed: int) -> list[NodeInfo]:
    """Nodes that do not exist, nearer to the target than any that does."""
    rng = random.Random(seed)
    number = int.from_bytes(target, "big")
    return [
        NodeInfo(
            NodeId((number ^ rng.randrange(1, 1 << 80)).to_bytes(20, "big")),
            Address(f"66.{rng.randrange(256)}.{rng.randrange(256)}.9", 6881),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("agree", [False, True])
def test_a_node_that_tells_of_the_dead_is_not_believed_for_long(agree: bool) -> None:
    """Also when all liars tell of the same dead: for each there must be somebody with credit."""
    world = World(300, seed=4)
    for turn in range(20):
        target = world.rng.randbytes(20)
        liars = world.some(3)
        asked: list[NodeInfo] = []

        def answer(
            node: NodeInfo,
            target: bytes,
            liars: list[NodeInfo] = liars,
            asked: list[NodeInfo] = asked,
            turn: int = turn,
        ) -> tuple[float, list[NodeInfo]] | None:
            asked.append(node)
            if node in liars:
                return 0.05, inventions(target, 16, 0 if agree else turn * 3 + liars.index(node))
            return world.answer(node, target)

        lookup, seconds = run_lookup(answer, target, [*liars, *world.some(7)])
        assert lookup.closest() == world.closest(target)
        answering = sum(liar in asked for liar in liars)
        assert sum(node not in world.nodes for node in asked) <= CONFIG.alpha * answering
        assert seconds < 4


def test_as_many_as_alpha_are_waited_for_at_any_time() -> None:
    """No more, for that would be a flood; and no fewer, while there is somebody to ask."""
    nodes = [NodeInfo(NodeId(bytes([n + 1]) * 20), address(n)) for n in range(60)]
    config = DhtConfig(secure_ids=False, alpha=4, k=40, lookup_queries=60)
    lookup = Lookup(bytes(20), OWN, config, 0)
    lookup.add(nodes)
    rng = random.Random(3)
    waiting: list[NodeInfo] = []
    now = 0.0
    for _ in range(30):
        waiting += lookup.take(now)
        assert len(waiting) == config.alpha
        assert lookup.take(now) == []
        now += 0.01
        for _ in range(rng.randint(1, 3)):
            one = waiting.pop(rng.randrange(len(waiting)))
            if rng.random() < 0.5:
                lookup.failed(one)
            else:
                lookup.answered(one, [], now)
        if lookup.asked > 45:
            break


def test_of_those_that_do_not_count_no_more_than_k_are_asked() -> None:
    """Whose id does not fit its IP may know closer ones, but a store goes to nobody of them."""
    config = DhtConfig(alpha=20, k=4)
    lookup = Lookup(bytes(20), OWN, config, 0, stores=True)
    lookup.add([NodeInfo(NodeId(bytes([n + 1]) * 20), address(n)) for n in range(12)])
    fitting = NodeInfo(make_id(address(50).host, random.Random(1)), address(50))
    lookup.add([fitting])
    taken = lookup.take(0)
    assert fitting in taken
    assert len(taken) == 1 + config.k


def test_the_silent_count_no_longer_as_waited_for() -> None:
    lookup = Lookup(bytes(20), OWN, CONFIG, 0)
    lookup.add([NodeInfo(NodeId(bytes([n + 1]) * 20), address(n)) for n in range(60)])
    assert len(lookup.take(0)) == CONFIG.alpha
    assert lookup.take(CONFIG.soft_timeout - 0.01) == []
    assert len(lookup.take(CONFIG.soft_timeout)) == CONFIG.alpha


def test_a_node_that_a_liar_tells_of_is_asked_if_another_node_tells_of_it_too() -> None:
    target = bytes(20)
    liar, honest, real = (NodeInfo(NodeId(bytes([n]) * 20), address(n)) for n in (9, 8, 7))
    lookup = Lookup(target, OWN, CONFIG, 0)
    lookup.add([liar, honest])
    lookup.take(0)
    lookup.answered(liar, [*inventions(target, 15, 1), real], 0.1)
    now = 0.1
    while taken := lookup.take(now):
        assert real not in taken
        for fake in taken:
            lookup.failed(fake)
    lookup.answered(honest, [real], 0.2)
    assert lookup.take(0.2) == [real]


def test_a_node_told_of_at_a_false_address_is_found_at_its_true_one() -> None:
    world = World(300, seed=6)
    for _ in range(20):
        target = world.rng.randbytes(20)
        liar, *others = world.some(8)

        def answer(
            node: NodeInfo, target: bytes, liar: NodeInfo = liar
        ) -> tuple[float, list[NodeInfo]] | None:
            if node == liar:
                true = sorted(world.nodes, key=lambda one: distance(one.id, target))[:16]
                return 0.01, [
                    NodeInfo(one.id, Address(f"66.{n}.1.9", 6881)) for n, one in enumerate(true)
                ]
            return world.answer(node, target) if node in world.nodes else None

        lookup, seconds = run_lookup(answer, target, [liar, *others])
        assert lookup.closest() == world.closest(target)
        assert seconds < 4


@pytest.mark.parametrize("alpha", [2, 5])
def test_each_node_that_answers_gives_its_referrer_credit_for_one_more(alpha: int) -> None:
    teller = NodeInfo(NodeId(b"\x70" * 20), address(1))
    told = [NodeInfo(NodeId(bytes([n]) * 20), address(n)) for n in range(2, 18)]
    lookup = Lookup(bytes(20), OWN, DhtConfig(secure_ids=False, alpha=alpha, k=16), 0)
    lookup.add([teller])
    lookup.take(0)
    lookup.answered(teller, told, 0)
    silent, now, credit = 0, 0.0, max(CONFIG.lookup_credit, alpha)
    for turn in range(16):
        taken = lookup.take(now)
        if not taken:
            break
        for node in taken:
            if turn == 0 and node == taken[0]:
                lookup.answered(node, [], now)
            else:
                silent += 1
        now += CONFIG.soft_timeout
    assert lookup.replies == 2
    assert silent == credit + 1


def test_the_inventions_of_a_liar_found_out_make_room_for_others() -> None:
    target = bytes(20)
    config = DhtConfig(secure_ids=False, lookup_candidates=17)
    liar, honest = (NodeInfo(NodeId(bytes([n]) * 20), address(n)) for n in (9, 8))
    lookup = Lookup(target, OWN, config, 0)
    lookup.add([liar, honest])
    lookup.take(0)
    lookup.answered(liar, inventions(target, 16, 1), 0)
    while taken := lookup.take(0):
        for fake in taken:
            lookup.failed(fake)
    far = [NodeInfo(NodeId(bytes([n]) * 20), address(n)) for n in range(10, 18)]
    lookup.answered(honest, far, 0)
    asked: list[NodeInfo] = []
    while taken := lookup.take(0):
        asked += taken
        for real in taken:
            lookup.answered(real, [], 0)
    assert asked == far[:6]  # with the two from our table, eight have answered


def test_a_hundred_invented_ids_in_one_subnet_are_one_candidate() -> None:
    lookup = Lookup(bytes(20), OWN, CONFIG, 0)
    lookup.add(
        NodeInfo(NodeId(bytes(19) + bytes([n])), Address(f"66.6.6.{n}", 6881)) for n in range(100)
    )
    assert len(lookup.take(0)) == 1


def test_local_nodes_may_share_an_ip() -> None:
    lookup = Lookup(bytes(20), OWN, CONFIG, 0)
    lookup.add(
        NodeInfo(NodeId(bytes(19) + bytes([n])), Address("127.0.0.1", 1 + n)) for n in range(9)
    )
    assert len(lookup.take(0)) == CONFIG.alpha


def test_an_endless_chase_ends_at_the_bound_on_questions() -> None:
    """Inventions that even answer, each naming sixteen closer ones, in subnets of their own."""
    count = 0

    def answer(node: NodeInfo, target: bytes) -> tuple[float, list[NodeInfo]] | None:
        nonlocal count
        nodes = []
        for _ in range(16):
            count += 1
            nearness = max(0, 2**159 - count * 2**140)
            nodes.append(NodeInfo(NodeId(nearness.to_bytes(20, "big")), address(count)))
        return 0.01, nodes

    start = [NodeInfo(NodeId(b"\xff" * 20), address(0))]
    lookup, seconds = run_lookup(answer, bytes(20), start)
    assert lookup.asked == CONFIG.lookup_queries
    assert seconds < CONFIG.lookup_timeout


def test_a_lookup_ends_after_a_minute_whatever_is_promised() -> None:
    config = DhtConfig(lookup_queries=10**9)
    count = 0

    def answer(node: NodeInfo, target: bytes) -> tuple[float, list[NodeInfo]] | None:
        nonlocal count
        count += 1
        nearness = NodeId((2**159 - count).to_bytes(20, "big"))
        return 0.9, [NodeInfo(nearness, address(count))]

    _, seconds = run_lookup(answer, bytes(20), [NodeInfo(NodeId(b"\xff" * 20), address(0))], config)
    assert seconds == config.lookup_timeout


def test_it_does_not_wait_for_a_dead_contact_when_the_living_have_answered() -> None:
    world = World(5, seed=5, rtt=0.001)
    world.dead = {world.nodes[0].id}
    lookup, seconds = run_lookup(world.answer, bytes(20), world.nodes)
    assert len(lookup.closest()) == 4
    assert seconds < CONFIG.soft_timeout


def test_it_waits_for_the_only_contact_as_long_as_it_may_take() -> None:
    node = NodeInfo(NodeId(b"\xff" * 20), address(0))
    lookup, seconds = run_lookup(lambda *_: (9.0, []), bytes(20), [node])
    assert lookup.closest() == [node]
    assert seconds == 9
    lookup, seconds = run_lookup(lambda *_: None, bytes(20), [node])
    assert lookup.closest() == []
    assert seconds == CONFIG.hard_timeout


def test_with_no_node_to_ask_it_is_done_at_once() -> None:
    lookup = Lookup(bytes(20), OWN, CONFIG, 0)
    assert lookup.done(0)
    assert lookup.take(0) == []
    assert lookup.hops == 0


def test_useless_addresses_and_our_own_id_are_not_asked() -> None:
    public = NodeInfo(NodeId(b"\x01" * 20), address(1))
    lookup = Lookup(bytes(20), OWN, CONFIG, 0)
    lookup.add([public])
    assert lookup.take(0) == [public]
    told = [
        NodeInfo(OWN, address(2)),
        NodeInfo(NodeId(b"\x02" * 20), Address("11.0.0.9", 0)),
        NodeInfo(NodeId(b"\x03" * 20), Address("239.0.0.9", 5)),
        NodeInfo(NodeId(b"\x04" * 20), Address("127.0.0.1", 5)),  # local, from a public source
        NodeInfo(NodeId(b"\x05" * 20), Address("192.168.0.1", 5)),
        NodeInfo(NodeId(b"\x06" * 20), Address("2a00::1", 5)),  # the other family
        NodeInfo(NodeId(b"\x07" * 20), address(7)),
    ]
    lookup.answered(public, told, 0.1)
    assert lookup.take(0.1) == [told[-1]]


def test_a_local_node_may_tell_of_local_nodes() -> None:
    one = NodeInfo(NodeId(b"\x01" * 20), Address("127.0.0.1", 1))
    two = NodeInfo(NodeId(b"\x02" * 20), Address("127.0.0.1", 2))
    lookup = Lookup(bytes(20), OWN, CONFIG, 0)
    lookup.add([one])
    lookup.take(0)
    lookup.answered(one, [two], 0)
    assert lookup.take(0) == [two]


def test_candidates_are_bounded_and_the_closest_are_kept() -> None:
    lookup = Lookup(bytes(20), OWN, DhtConfig(alpha=1000, lookup_candidates=10, k=50), 0)
    far_first = range(200, 0, -1)
    lookup.add(NodeInfo(NodeId(n.to_bytes(20, "big")), address(n)) for n in far_first)
    taken = lookup.take(0)
    assert [int.from_bytes(node.id, "big") for node in taken] == list(range(1, 11))
    assert len(lookup._known) == len(lookup._places) == 10


def test_a_node_that_was_not_asked_cannot_answer() -> None:
    lookup = Lookup(bytes(20), OWN, CONFIG, 0)
    lookup.answered(NodeInfo(NodeId(b"\x01" * 20), address(1)), [], 0)
    assert lookup.closest() == []
    assert lookup.replies == 0


def test_a_node_that_may_not_be_stored_on_is_asked_and_does_not_count() -> None:
    """BEP 42: eight beside the target, whose ids do not fit their IPs, are only on the way."""
    config = DhtConfig()
    rng = random.Random(8)
    target = rng.randbytes(20)
    number = int.from_bytes(target, "big")
    fakes = [
        NodeInfo(NodeId((number ^ (n + 1)).to_bytes(20, "big")), Address(f"66.{n}.1.9", 6881))
        for n in range(30)
    ]
    honest = [NodeInfo(make_id(f"11.{n}.1.1", rng), Address(f"11.{n}.1.1", 6881)) for n in range(9)]

    def answer(node: NodeInfo, target: bytes) -> tuple[float, list[NodeInfo]]:
        return 0.1, fakes[:16] if node in fakes else honest

    for stores in (False, True):
        lookup = Lookup(target, OWN, config, 0, stores=stores)
        lookup.add(fakes[:4])
        lookup.add(honest[:4])
        finish(lookup, answer, config)
        best = sorted(honest, key=lambda node: distance(node.id, target))[:8]
        assert lookup.closest() == (best if stores else fakes[:8])


@pytest.mark.parametrize("paths", [1, 4])
@pytest.mark.parametrize("fitting", [0, 1, 5, 8, 12])
def test_where_few_ids_fit_others_fill_up(fitting: int, paths: int) -> None:
    """Else nothing could be announced among clients that do not know BEP 42."""
    config, rng = DhtConfig(k=8), random.Random(fitting)
    target = rng.randbytes(20)
    others = [NodeInfo(NodeId(rng.randbytes(20)), Address(f"66.{n}.1.9", 6881)) for n in range(16)]
    honest = [
        NodeInfo(make_id(f"11.{n}.1.1", rng), Address(f"11.{n}.1.1", 6881)) for n in range(fitting)
    ]

    def near(nodes: list[NodeInfo], count: int) -> list[NodeInfo]:
        return sorted(nodes, key=lambda node: distance(node.id, target))[: max(count, 0)]

    lookup = search(target, OWN, config, 0, others, paths=paths, stores=True)
    assert isinstance(lookup, Paths) is (paths > 1)
    finish(lookup, lambda node, target: (0.1, near(honest, 8) + near(others, 8)), config)
    found = lookup.closest()
    assert [node for node in found if node in honest] == near(honest, 8)
    assert len(found) == 8
    assert found == near(found, 8)
    if paths == 1:
        assert [node for node in found if node in others] == near(others, 8 - fitting)


@pytest.mark.parametrize("count", [20, 40])
def test_widened_it_asks_all_nodes_within_the_radius(world: World, count: int) -> None:
    found, questions = [], 0
    for _ in range(20):
        target = world.rng.randbytes(20)
        true = sorted(world.nodes, key=lambda node: distance(node.id, target))[:count]
        lookup, now = run_lookup(world.answer, target, world.some(8))
        assert lookup.done(now)
        questions -= lookup.asked
        lookup.widen(distance(true[-1].id, target), CONFIG.lookup_widest)
        finish(lookup, world.answer, now=now)
        questions += lookup.asked
        assert lookup.asked <= CONFIG.lookup_queries
        found.append(len(set(lookup.closest()) & set(true)) / count)
    assert sum(found) / 20 >= 0.95
    assert sorted(found)[1] >= 0.9
    assert questions <= 20 * (count + len(POINTS))


def test_a_liar_asked_about_a_point_is_believed_no_more_than_at_first(world: World) -> None:
    target = world.rng.randbytes(20)
    lookup, now = run_lookup(world.answer, target, world.some(8))
    lookup.widen(2**150, CONFIG.lookup_widest)
    asked = lookup.around(now)
    assert len({contact for contact, _ in asked}) == len({point for _, point in asked}) == 8
    assert {len(point) for _, point in asked} == {20}
    invented = [
        NodeInfo(NodeId(world.rng.randbytes(20)), Address(f"66.0.{n}.1", 1)) for n in range(77)
    ]
    known = len(lookup._known)
    lookup.told(asked[0][0], invented)
    assert len(lookup._known) == known + 2 * CONFIG.k
    lookup.told(asked[0][0], invented)  # once is enough
    lookup.told(NodeInfo(NodeId(bytes(20)), address(1)), invented)  # who was not asked
    assert len(lookup._known) == known + 2 * CONFIG.k


def test_what_is_told_about_a_point_counts_as_a_reply(world: World) -> None:
    lookup, now = run_lookup(world.answer, world.rng.randbytes(20), world.some(8))
    lookup.widen(2**150, CONFIG.lookup_widest)
    replies = lookup.replies
    first, second, *_ = [contact for contact, _ in lookup.around(now)]
    lookup.told(first, [])
    assert lookup.replies == replies + 1
    lookup.told(second, None)
    lookup.told(first, [])  # once is enough
    assert lookup.replies == replies + 1


def test_widened_it_ends_when_all_nodes_asked_about_a_point_have_responded(world: World) -> None:
    lookup, now = run_lookup(world.answer, world.rng.randbytes(20), world.some(8))
    lookup.widen(0, CONFIG.lookup_widest)
    asked = lookup.around(now)
    for contact, _ in asked:
        assert not lookup.done(now)
        lookup.told(contact, [])
    assert lookup.done(now)


def test_a_node_that_is_skipped_costs_its_referrer_no_credit() -> None:
    """Another path has asked it: that says nothing against who told of it."""
    teller = NodeInfo(NodeId(b"\x70" * 20), address(1))
    told = [NodeInfo(NodeId(bytes([n]) * 20), address(n)) for n in range(2, 18)]
    lookup = Lookup(bytes(20), OWN, CONFIG, 0)
    lookup.add([teller])
    lookup.take(0)
    lookup.answered(teller, told, 0)
    first = lookup.take(0)
    assert first == told[: CONFIG.alpha]
    for node in first:
        lookup.skip(node)
    assert lookup.asked == 1
    assert lookup.take(0) == told[CONFIG.alpha : 2 * CONFIG.alpha]
    assert lookup.take(CONFIG.soft_timeout) == []  # nobody of them responded


def test_a_contact_of_our_own_table_may_be_skipped_too() -> None:
    nodes = [NodeInfo(NodeId(bytes([n]) * 20), address(n)) for n in (1, 2)]
    lookup = Lookup(bytes(20), OWN, CONFIG, 0)
    lookup.add(nodes)
    assert lookup.take(0) == nodes
    for node in nodes:
        lookup.skip(node)
    assert lookup.asked == 0
    assert lookup.done(0)


def test_a_node_that_is_asked_makes_no_room_and_the_next_farthest_does() -> None:
    asked, far, near, new = (
        NodeInfo(NodeId(bytes([n]) * 20), address(n)) for n in (0x80, 0x70, 0x60, 0x50)
    )
    lookup = Lookup(bytes(20), OWN, DhtConfig(secure_ids=False, lookup_candidates=3), 0)
    lookup.add([asked])
    assert lookup.take(0) == [asked]
    lookup.add([far, near, new])
    assert lookup.take(0) == [new, near]


@pytest.mark.parametrize(
    ("usual", "patience"), [(0.01, 0.5), (0.08, 0.8), (0.2, 1.0), (0.7, 1.4), (2.0, 3.0)]
)
def test_the_silent_hold_up_the_end_by_how_long_answers_usually_take(
    usual: float, patience: float
) -> None:
    nodes = [NodeInfo(NodeId(bytes([n]) * 20), address(n)) for n in (1, 2, 3)]
    lookup = Lookup(bytes(20), OWN, CONFIG, 0)
    lookup.add(nodes)
    assert lookup.take(0) == nodes
    lookup.answered(nodes[0], [], 0.75 * usual)
    lookup.answered(nodes[1], [], 1.25 * usual)
    assert not lookup.done(patience - 0.001)
    assert lookup.wake_at(patience - 0.001) == pytest.approx(patience)
    assert lookup.done(patience + 0.001)


@pytest.mark.parametrize(("usual", "soft"), [(0.01, 0.25), (0.1, 0.4), (2.0, 1.0)])
def test_the_next_are_asked_sooner_where_answers_come_quickly(usual: float, soft: float) -> None:
    nodes = [NodeInfo(NodeId(bytes([n]) * 20), address(n)) for n in range(1, 20)]
    lookup = Lookup(bytes(20), OWN, DhtConfig(secure_ids=False, k=16, alpha=5), 0)
    lookup.add(nodes)
    lookup.answered(lookup.take(0)[0], [], usual)
    now = max(usual, soft - 0.001)
    if usual < soft:
        assert lookup.take(now) == nodes[5:6]  # in place of the one that answered
        assert lookup.take(soft - 0.001) == []
        assert lookup.take(soft + 0.001) == nodes[6:10]
    else:
        assert len(lookup.take(now)) == 5


def test_when_one_of_a_subnet_failed_another_of_it_may_be_asked() -> None:
    one, other = (NodeInfo(NodeId(bytes([n]) * 20), Address("66.6.6.6", n)) for n in (1, 2))
    lookup = Lookup(bytes(20), OWN, CONFIG, 0)
    lookup.add([one, other])
    assert lookup.take(0) == [one]
    lookup.failed(one)
    lookup.add([other])
    assert lookup.take(0) == [other]


def test_when_all_questions_are_spent_their_answers_are_still_waited_for() -> None:
    nodes = [NodeInfo(NodeId(bytes([n]) * 20), address(n)) for n in range(1, 6)]
    lookup = Lookup(bytes(20), OWN, DhtConfig(secure_ids=False, lookup_queries=2), 0)
    lookup.add(nodes)
    one, other = lookup.take(0)
    lookup.answered(one, [], 0)
    assert lookup.take(0) == []
    assert not lookup.done(0)
    lookup.answered(other, [], 0)
    assert lookup.done(0)


def test_an_answer_after_the_failure_changes_nothing() -> None:
    nodes = [NodeInfo(NodeId(bytes([n]) * 20), address(n)) for n in range(1, 4)]
    lookup = Lookup(bytes(20), OWN, CONFIG, 0)
    lookup.add(nodes[:1])
    assert lookup.take(0) == nodes[:1]
    lookup.failed(nodes[0])
    lookup.failed(nodes[0])
    lookup.answered(nodes[0], nodes[1:], 0)
    assert (lookup.replies, lookup.closest(), lookup.take(0)) == (0, [], [])


def test_a_node_that_was_dropped_for_nearer_ones_keeps_no_node_of_its_subnet_out() -> None:
    far, near = (NodeInfo(NodeId(bytes([n]) * 20), address(n)) for n in (9, 5))
    beside = NodeInfo(NodeId(b"\x01" * 20), far.address._replace(port=1))
    lookup = Lookup(bytes(20), OWN, DhtConfig(secure_ids=False, lookup_candidates=1), 0)
    lookup.add([far, near, beside])
    assert lookup.take(0) == [beside]


def test_while_all_candidates_are_asked_there_is_no_room_for_another() -> None:
    nodes = [NodeInfo(NodeId(bytes([n]) * 20), address(n)) for n in (3, 2, 1)]
    lookup = Lookup(bytes(20), OWN, DhtConfig(secure_ids=False, lookup_candidates=2), 0)
    lookup.add(nodes[:2])
    assert set(lookup.take(0)) == set(nodes[:2])
    lookup.add(nodes[2:])
    assert lookup.take(0) == []
    assert len(lookup._known) == 2


def test_around_the_target_no_more_is_asked_than_a_lookup_may(world: World) -> None:
    config = DhtConfig(secure_ids=False, lookup_queries=60)
    lookup, now = run_lookup(world.answer, world.rng.randbytes(20), world.some(8), config)
    lookup.widen(0, config.lookup_widest)
    lookup.asked = 57
    assert len(lookup.around(now)) == 3
    assert lookup.asked == 60
