"""Filling buckets that have room: whom to ask for what, how often, and who would find a place."""

from __future__ import annotations

import random
from itertools import pairwise

from dht_torrent.config import DhtConfig
from dht_torrent.dht.buckets import SEEK_AGAIN, Contact
from dht_torrent.dht.krpc import NodeInfo
from dht_torrent.dht.table import Table
from dht_torrent.ids import Address, NodeId

CONFIG = DhtConfig(secure_ids=False)  # ids here are invented, not made from the IPs
OWN = NodeId(bytes(20))
HALF = 1 << 159


def address(number: int) -> Address:
    """Each in a /24 of its own."""
    return Address(f"11.{number >> 8 & 255}.{number & 255}.1", 6881)


def info(number: int, where: int) -> NodeInfo:
    return NodeInfo(NodeId(number.to_bytes(20, "big")), address(where))


def table_of(*numbers: int) -> Table:
    """A table of id 0 that knows these ids."""
    table = Table(OWN, CONFIG, 0)
    for place, number in enumerate(numbers):
        known = info(number, place)
        table.replied(known.id, known.address, 0)
    return table


def questions(table: Table, until: float) -> list[tuple[float, Contact, int]]:
    """When it would ask whom for which id, looked at every second."""
    rng, asked = random.Random(1), []
    for second in range(int(until)):
        sparse = table.sparse(second, rng)
        if sparse is not None:
            asked.append((float(second), sparse[0], int.from_bytes(sparse[1], "big")))
    return asked


def test_a_bucket_with_room_is_asked_about_among_its_own_contacts() -> None:
    far = [HALF + number for number in range(1, 4)]
    near = [HALF - number for number in range(1, 10)]
    table = table_of(*far, *near)
    assert len(table.buckets) > 1
    for _, contact, number in questions(table, 60):
        assert (contact.long_id in far) == (number >= HALF)


def test_a_node_without_contacts_asks_no_node() -> None:
    assert questions(table_of(), 60) == []


def test_a_full_far_bucket_is_left_alone() -> None:
    # The bucket with our own id holds nobody, so it cannot be asked about either.
    full = table_of(*[HALF + number for number in range(8)], 1)
    for number in range(8, 20):
        full.replied(*info(HALF + number, 100 + number), 0)
    assert len(full.buckets) == 2
    assert all(number < HALF for _, _, number in questions(full, 3600))


def test_what_does_not_grow_is_asked_about_ever_more_rarely() -> None:
    table = table_of(HALF + 1, HALF + 2)
    times = [when for when, _, _ in questions(table, 7200)]
    pauses = [after - before for before, after in pairwise(times)]
    assert times[0] == 0
    assert pauses[0] <= 2 * SEEK_AGAIN
    assert pauses == sorted(pauses)
    assert pauses[-1] == CONFIG.refresh_interval
    assert len(times) < 20


def test_what_grows_is_asked_about_again_soon() -> None:
    table = table_of(HALF + 1)
    rng, when = random.Random(1), 0.0
    for number in range(2, 9):
        assert table.sparse(when, rng) is not None
        assert table.sparse(when + SEEK_AGAIN - 0.1, rng) is None
        table.replied(*info(HALF + number, number), when)
        when += SEEK_AGAIN


def test_a_silent_contact_is_not_the_one_that_is_asked() -> None:
    table = table_of(HALF + 1, HALF + 2)
    table.replied(*info(HALF + 2, 1), 5)  # so that the silence of the other is its own fault
    table.failed(address(0), 1, 16)
    assert {contact.long_id for _, contact, _ in questions(table, 3600)} == {HALF + 2}


def test_where_all_contacts_stand_on_one_side_the_other_is_asked_about() -> None:
    table = table_of(*[1 + number for number in range(8)])
    assert len(table.buckets) == 1  # full, and nobody to split it for
    asked = questions(table, 60)
    assert asked
    assert all(number >= HALF for _, _, number in asked)
    found = info(HALF + 5, 50)
    assert table.has_room(found, 0)
    assert not table.has_room(info(20, 51), 0)
    table.replied(found.id, found.address, 0)
    assert len(table.buckets) > 1


def test_only_a_node_that_would_come_in_at_once_has_room() -> None:
    table = table_of(*[HALF + number for number in range(8)], 1)
    assert not table.has_room(info(HALF + 99, 50), 0)  # a full bucket, which never splits
    assert table.has_room(info(7, 50), 0)
    assert not table.has_room(info(1, 50), 0)  # is in it
    assert not table.has_room(info(7, 0), 0)  # somebody else is there
    assert not table.has_room(info(0, 50), 0)  # our own id
    assert not table.has_room(NodeInfo(NodeId(b"\1" * 20), Address("11.1.1.1", 0)), 0)
    assert not table.has_room(NodeInfo(NodeId(b"\1" * 20), Address("2001:db8::1", 6881)), 0)


def test_a_node_that_has_room_comes_in() -> None:
    rng = random.Random(3)
    table = Table(NodeId(rng.randbytes(20)), CONFIG, 0)
    for place in range(400):
        newcomer = NodeInfo(NodeId(rng.randbytes(20)), address(place))
        had_room, before = table.has_room(newcomer, 0), len(table)
        table.replied(newcomer.id, newcomer.address, 0)
        assert (table.at(newcomer.address) in list(table)) == had_room
        assert (len(table) > before) == had_room


def test_a_refresh_is_due_no_earlier_than_it_is_said() -> None:
    table = table_of(HALF + 1, 1, 2, 3, 4, 5, 6, 7, 8)
    rng = random.Random(1)
    due = table.refresh_at()
    assert due == CONFIG.refresh_interval
    assert table.refresh_targets(due - 0.1, rng) == []
    assert len(table.refresh_targets(due, rng)) == len(table.buckets)
    assert table.refresh_at() == due + CONFIG.refresh_interval


def test_a_node_that_waited_while_all_stood_on_one_side_comes_in_with_the_split() -> None:
    near = [(HALF >> 1) - 1 - number for number in range(8)]
    waiting = [(HALF >> 1) + number for number in range(3)]  # same half, another quarter
    table = table_of(*near, *waiting)
    assert (len(table), len(table.buckets), table.additions) == (8, 1, 8)
    table.replied(*info(HALF, 50), 1)
    assert {contact.long_id for contact in table} == {HALF, *near, *waiting}
    assert table.additions == len(table) == 12
    for bucket in table.buckets:
        assert all(bucket.range[0] <= contact.long_id <= bucket.range[1] for contact in bucket)


def test_ids_crafted_to_share_a_prefix_split_nothing_though_they_wait() -> None:
    table = table_of(*range(1, 30))  # the first 155 bits are ours
    assert len(table.buckets) == 1
    table.replied(*info(HALF, 50), 1)
    assert len(table.buckets) == 2


def test_a_table_is_as_deep_as_the_network_allows() -> None:
    rng = random.Random(8)
    for _ in range(20):
        own, others = rng.getrandbits(160), [rng.getrandbits(160) for _ in range(400)]
        table = Table(NodeId(own.to_bytes(20, "big")), CONFIG, 0)
        for place, number in enumerate(others):
            table.replied(*info(number, place), 0)
        shared = [160 - (other ^ own).bit_length() for other in others]
        depth = len(table.buckets) - 1
        assert sum(one >= depth for one in shared) <= CONFIG.k
        assert len(table) >= 5 * CONFIG.k


def test_what_is_asked_for_lies_in_the_half_that_would_split_the_bucket() -> None:
    """All eight are on one side: only ids of the other side would find a place."""
    low = Table(NodeId(b"\x7f" * 20), CONFIG, 0)
    for place, number in enumerate(range(1, 9)):
        known = info(number, place)
        low.replied(known.id, known.address, 0)
    assert len(low.buckets) == 1
    assert {number >= HALF for _, _, number in questions(low, 7200)} == {True}
    high = Table(NodeId(b"\x7f" * 20), CONFIG, 0)
    for place, number in enumerate(range(1, 9)):
        known = info(HALF + number, place)
        high.replied(known.id, known.address, 0)
    assert {number < HALF for _, _, number in questions(high, 7200)} == {True}


def test_nothing_is_asked_for_when_there_may_be_no_more_buckets() -> None:
    table = Table(OWN, DhtConfig(secure_ids=False, k=2, max_buckets=1), 0)
    for place, number in enumerate((1, HALF + 1)):
        known = info(number, place)
        table.replied(known.id, known.address, 0)
    assert len(table.buckets) == 1
    assert questions(table, 3600) == []
