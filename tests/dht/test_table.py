"""Who gets into the routing table, who stays, and who has to go."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dht_torrent.config import DhtConfig
from dht_torrent.dht.buckets import HEALTHY_FAILS, Contact
from dht_torrent.dht.identity import make_id
from dht_torrent.dht.krpc import NodeInfo, compact_nodes
from dht_torrent.dht.origins import home, neighbourhood
from dht_torrent.dht.table import Table
from dht_torrent.ids import Address, NodeId, distance
from tests.helpers.examples import examples
from tests.helpers.times import seconds

CONFIG = DhtConfig(secure_ids=False)  # ids here are invented, not made from the IPs
OWN = NodeId(bytes(20))
MINUTE = 60.0
OUTSIDER = Address("12.0.0.1", 6881)


def node_id(number: int) -> NodeId:
    """Ids in the half away from ours: they share one bucket that never splits."""
    return NodeId((2**159 + number).to_bytes(20, "big"))


def public(number: int) -> Address:
    """Each in a /24 of its own."""
    return Address(f"11.{number >> 8 & 255}.{number & 255}.1", 6881)


def local(number: int) -> Address:
    return Address("127.0.0.1", 1000 + number)


def filled(now: float = 0.0) -> Table:
    """A table whose far bucket is full of eight good contacts."""
    table = Table(OWN, CONFIG, now)
    for number in range(8):
        assert table.replied(node_id(number), public(number), now) == []
    table.replied(NodeId(b"\0" * 19 + b"\1"), public(999), now)  # our half: it makes us split
    return table


def ids(table: Table) -> set[bytes]:
    return {contact.id for contact in table}


def test_a_node_that_answered_is_in_and_one_that_only_asked_is_not() -> None:
    table = Table(OWN, CONFIG, 0)
    assert table.queried(node_id(1), public(1), 0)
    assert len(table) == 0
    table.replied(node_id(1), public(1), 1)
    assert ids(table) == {node_id(1)}
    assert not table.queried(node_id(1), public(1), 2)


def test_ten_thousand_unsolicited_queries_leave_the_live_table_unchanged() -> None:
    table = filled()
    before = [(contact.id, contact.address) for contact in table]
    rng = random.Random(5)
    for number in range(10_000):
        table.queried(NodeId(rng.randbytes(20)), public(number + 2000), 1)
    assert [(contact.id, contact.address) for contact in table] == before


def test_a_full_bucket_of_good_contacts_takes_no_node() -> None:
    table = filled()
    assert table.replied(node_id(100), public(100), MINUTE) == []
    assert node_id(100) not in ids(table)
    assert len(table.buckets) == 2


def test_a_node_that_answers_keeps_its_place_against_a_neighbour() -> None:
    table = Table(OWN, CONFIG, 0)
    first, neighbour = Address("11.5.5.1", 6881), Address("11.5.5.2", 6881)
    table.replied(node_id(1), first, 0)
    (asked,) = table.replied(node_id(2), neighbour, 1)
    assert (asked.address, ids(table)) == (first, {node_id(1)})
    table.replied(NodeId(b"\0" * 19 + b"\1"), public(999), 5)  # our link works
    table.failed(first, 2, 6)
    assert table.replied(node_id(2), neighbour, 7) == []
    assert node_id(1) not in ids(table)
    assert node_id(2) in ids(table)


def test_a_stranger_of_the_other_family_is_not_worth_a_ping() -> None:
    six = Address("2a00:1:2:3::1", 6881)
    for ipv6, ours, theirs in ((False, public(1), six), (True, six, public(1))):
        table = Table(OWN, CONFIG, 0, ipv6=ipv6)
        assert table.queried(node_id(1), ours, 0)
        assert not table.queried(node_id(1), theirs, 0)
        assert table.replied(node_id(1), theirs, 0) == []
        assert len(table) == 0
        table.replied(node_id(1), ours, 0)
        assert len(table) == 1


def test_a_stranger_who_would_find_no_place_is_not_worth_a_ping() -> None:
    table = filled()
    assert not table.queried(node_id(100), public(100), MINUTE)
    assert table.queried(node_id(100), public(100), 16 * MINUTE)  # now somebody may have to go


def test_in_our_own_bucket_a_stranger_is_worth_a_ping_if_a_split_makes_room() -> None:
    near = [NodeId(bytes([number]) * 20) for number in range(8)]
    table = Table(NodeId(b"\x7f" * 20), CONFIG, 0)
    for number, one in enumerate(near):
        table.replied(one, public(number), 0)
    assert len(table.buckets) == 1
    assert not table.queried(NodeId(b"\x30" * 20), public(100), MINUTE)  # all on one side
    assert table.queried(NodeId(b"\x90" * 20), public(100), MINUTE)


def test_only_so_many_wait_for_a_place_and_the_oldest_may_come_again() -> None:
    table = filled()
    (bucket,) = [bucket for bucket in table.buckets if len(bucket) == 8]
    most = bucket.max_replacement_nodes
    for number in range(100, 100 + most + 1):
        table.replied(node_id(number), public(number), MINUTE)
    assert len(bucket.replacement_nodes) == most
    assert node_id(100) not in bucket.replacement_nodes
    assert table.at(public(100)) is None
    table.replied(node_id(100), public(100), 2 * MINUTE)
    assert node_id(100) in bucket.replacement_nodes
    assert len(bucket.replacement_nodes) == most


def test_a_questionable_contact_is_pinged_and_replaced_when_it_stays_silent() -> None:
    table = filled()
    for number in range(1, 8):
        table.replied(node_id(number), public(number), 10 * MINUTE)
    (doubtful,) = table.replied(node_id(100), public(100), 16 * MINUTE)
    assert doubtful.id == node_id(0)
    now = 16 * MINUTE
    for _ in range(CONFIG.max_fails):
        assert node_id(0) in ids(table)
        table.replied(node_id(1), public(1), now + 1)  # our link works
        table.failed(public(0), now, now + 15)
        now += 15
    assert node_id(0) not in ids(table)
    assert node_id(100) in ids(table)


def test_a_questionable_contact_that_answers_keeps_its_place() -> None:
    table = filled()
    (doubtful, *_) = table.replied(node_id(100), public(100), 16 * MINUTE)
    table.replied(doubtful.id, doubtful.address, 16 * MINUTE + 1)
    assert doubtful.id in ids(table)
    assert node_id(100) not in ids(table)
    assert table.is_good(doubtful, 31 * MINUTE)


def test_a_contact_that_asks_us_stays_good() -> None:
    table = filled()
    contact = table.at(public(3))
    assert contact is not None
    assert not table.is_good(contact, 16 * MINUTE)
    table.queried(node_id(3), public(3), 14 * MINUTE)
    assert table.is_good(contact, 16 * MINUTE)
    assert table.counts(16 * MINUTE) == (1, 8, 0)


def test_with_no_spare_a_contact_survives_many_failures_but_not_for_ever() -> None:
    table = filled()
    survived = 0
    while table.at(public(0)) is not None:
        table.replied(node_id(1), public(1), survived)
        table.failed(public(0), survived, survived)
        survived += 1
    assert survived == CONFIG.max_fails_alone


def test_a_dead_link_does_not_empty_the_table() -> None:
    table = filled()
    before = ids(table)
    for second in range(600):
        for number in range(8):
            table.failed(public(number), 1 + second, 16 + second)
    assert ids(table) == before
    assert table.counts(10 * MINUTE) == (9, 0, 0)


def test_a_bad_contact_makes_way_at_once() -> None:
    table = filled()
    for second in range(CONFIG.max_fails):
        table.replied(node_id(1), public(1), second)
        table.failed(public(0), second, second)
    assert table.counts(9)[2] == 1
    table.replied(node_id(100), public(100), 10)
    assert node_id(100) in ids(table)
    assert node_id(0) not in ids(table)


def test_an_id_that_changes_at_one_address_is_evicted() -> None:
    table = filled()
    suspects = table.replied(node_id(200), public(0), 6 * MINUTE)
    assert node_id(0) not in ids(table)
    assert {contact.id for contact in suspects} == {node_id(n) for n in range(1, 8)}


def test_a_newcomer_claiming_a_known_id_is_ignored_while_the_owner_answers() -> None:
    table = filled()
    (owner,) = table.replied(node_id(0), public(50), 1)
    assert owner.address == public(0)
    assert table.at(public(50)) is None
    table.replied(node_id(1), public(1), 2)
    table.failed(public(0), 2, 17)  # the owner was asked and is gone: it has moved
    table.replied(node_id(0), public(50), 18)
    assert table.at(public(0)) is None
    moved = table.at(public(50))
    assert moved is not None
    assert moved.id == node_id(0)


def test_one_contact_per_public_ip_and_per_subnet_in_a_bucket() -> None:
    table = Table(OWN, CONFIG, 0)
    rng = random.Random(1)
    for number in range(256):
        table.replied(NodeId(rng.randbytes(20)), Address(f"11.22.33.{number}", 6881), 0)
        table.replied(NodeId(rng.randbytes(20)), Address("44.55.66.77", 1 + number), 0)
    for bucket in table.buckets:
        places = [neighbourhood(contact.address) for contact in bucket]
        assert len(places) == len(set(places))
    assert sum(contact.ip == "44.55.66.77" for contact in table) == 1


def test_local_contacts_may_share_an_ip() -> None:
    table = Table(OWN, CONFIG, 0)
    for number in range(8):
        table.replied(node_id(number), local(number), 0)
    assert len(table) == 8


def test_our_own_id_and_unusable_addresses_are_ignored() -> None:
    table = Table(OWN, CONFIG, 0)
    table.replied(OWN, public(1), 0)
    table.replied(node_id(1), Address("11.0.0.1", 0), 0)
    table.replied(node_id(2), Address("224.0.0.1", 5), 0)
    table.replied(node_id(3), Address("2a00::1", 5), 0)
    assert len(table) == 0


def test_ids_crafted_close_to_ours_do_not_split_without_end() -> None:
    table = filled()
    rng = random.Random(2)
    for number in range(5000):
        crafted = NodeId(bytes(12) + b"\x80" + rng.randbytes(7))
        table.replied(crafted, public(1000 + number), 1)
    assert len(table.buckets) <= 5
    assert sum(1 for bucket in table.buckets for _ in bucket) < 150


def test_the_number_of_buckets_has_a_hard_bound() -> None:
    table = Table(OWN, replace(CONFIG, k=1, max_buckets=7), 0)
    for bit in range(159, -1, -1):
        table.replied(NodeId((1 << bit).to_bytes(20, "big")), public(bit), 0)
    assert len(table.buckets) == 7


def test_buckets_divide_the_space_exactly_in_halves() -> None:
    """The library's own split of (0, 2**160) would put the id 2**159 into the wrong half."""
    table = filled()
    low, high = table.buckets
    assert low.range == (0, 2**159 - 1)
    assert high.range == (2**159, 2**160 - 1)
    assert {contact.id for contact in high} >= {node_id(0)}


def test_closest_is_what_sorting_everyone_gives() -> None:
    rng = random.Random(3)
    table = Table(NodeId(rng.randbytes(20)), CONFIG, 0)
    for number in range(3000):
        table.replied(NodeId(rng.randbytes(20)), public(number), 0)
    everyone = list(table)
    assert len(everyone) > 50
    own = int.from_bytes(table.own_id, "big")
    for shared in range(100):  # bits with our own id, at least
        target = (own ^ rng.getrandbits(160 - shared // 3)).to_bytes(20, "big")
        by_distance = sorted(everyone, key=lambda contact: distance(contact.id, target))
        assert table.closest(target, 8) == by_distance[:8]
        assert table.closest(target, 30) == by_distance[:30]
    assert table.closest(bytes(20), 10_000)[0] in everyone


def test_contacts_that_stopped_answering_are_not_recommended() -> None:
    table = filled()
    for second in range(2):
        table.replied(node_id(1), public(1), second)
        table.failed(public(0), second, second)
    assert node_id(0) not in {contact.id for contact in table.healthy(node_id(0), 20)}
    closest = table.closest(node_id(0), 20)
    assert closest[-1].id == node_id(0)  # for ourselves it is a last resort
    assert len(closest) == 9


def test_a_node_that_answers_again_is_recommended_again() -> None:
    table = filled()
    for second in range(2):
        table.replied(node_id(1), public(1), second)
        table.failed(public(0), second, second)
    table.replied(node_id(0), public(0), 3)
    assert node_id(0) in {contact.id for contact in table.healthy(node_id(0), 20)}


def test_a_lookup_begins_with_doubtful_contacts_only_when_there_are_no_others() -> None:
    table = filled()
    for second in range(2):
        table.last_reply = second
        for contact in list(table):
            table.failed(contact.address, second, second)
    assert table.healthy(node_id(0), 20) == []
    assert len(table.closest(node_id(0), 20)) == len(table) > 0


def test_an_unchanged_bucket_is_refreshed_every_fifteen_minutes() -> None:
    table = filled()
    rng = random.Random(4)
    table.replied(NodeId(b"\0" * 19 + b"\1"), public(999), 10 * MINUTE)
    (target,) = table.refresh_targets(15 * MINUTE, rng)
    assert int.from_bytes(target, "big") >= 2**159
    assert table.refresh_targets(16 * MINUTE, rng) == []
    assert len(table.refresh_targets(31 * MINUTE, rng)) == 2


def test_the_doubtful_contact_asked_longest_ago_is_named_and_then_left_in_peace() -> None:
    table = filled()
    assert table.doubtful(14 * MINUTE) is None
    now = 16 * MINUTE
    named = []
    while (contact := table.doubtful(now)) is not None:
        named.append(contact.id)
        table.asked(contact.address, now)
        assert len(named) < 20
    assert len(named) == len(set(named)) == 9
    assert table.doubtful(now + 61) is not None


def test_those_who_are_unwanted_are_forgotten_also_those_who_wait() -> None:
    table = filled()
    for number in range(100, 104):  # they wait for a place
        table.replied(node_id(number), public(number), 1)
    unwanted = {public(number) for number in (0, 3, 999, 100, 102)}
    table.forget(unwanted.__contains__, 2)
    assert all(table.at(address) is None for address in unwanted)
    assert ids(table) == {node_id(number) for number in (1, 2, 4, 5, 6, 7, 101, 103)}
    table.forget(lambda address: True, 3)
    assert len(table) == 0


class TableMachine(RuleBasedStateMachine):
    """Whatever happens, in whatever order, the table keeps its rules."""

    def __init__(self) -> None:
        super().__init__()
        self.config = DhtConfig(k=3, max_buckets=6)
        self.table = Table(NodeId(bytes(20)), self.config, 0)
        self.now = 0.0
        self.answered: set[tuple[bytes, Address]] = set()

    addresses = st.sampled_from(
        [
            Address(f"11.0.{net}.{host}", port)
            for net in range(6)
            for host in (1, 2)
            for port in (7,)
        ]
        + [Address("11.0.0.1", 8)]
        + [Address("127.0.0.1", port) for port in range(1, 12)]
    )
    node_ids = st.builds(
        lambda shift, low: NodeId(((1 << shift) + low).to_bytes(20, "big")),
        st.sampled_from([1, 60, 100, 140, 157, 158, 159]),
        st.integers(0, 3),
    )

    @rule(wait=seconds(0, 1200))
    def time_passes(self, wait: float) -> None:
        self.now += wait

    @rule(node=node_ids, address=addresses)
    def somebody_answers(self, node: NodeId, address: Address) -> None:
        before = self.table.additions
        live = {contact.id for contact in self.table}
        doubtful = self.table.replied(node, address, self.now)
        self.answered.add((node, address))
        assert all(self.table.at(contact.address) is contact for contact in doubtful)
        if node in {contact.id for contact in self.table} - live:
            assert self.table.additions > before

    @rule(node=node_ids, address=addresses)
    def somebody_asks(self, node: NodeId, address: Address) -> None:
        live = list(self.table)
        self.table.queried(node, address, self.now)
        assert list(self.table) == live

    @rule(address=addresses, age=seconds(0, 20))
    def silence(self, address: Address, age: float) -> None:
        self.table.failed(address, self.now - age, self.now)

    @rule(seed=st.integers(0, 9))
    def upkeep(self, seed: int) -> None:
        contact = self.table.doubtful(self.now)
        if contact is not None:
            self.table.asked(contact.address, self.now)
        for target in self.table.refresh_targets(self.now, random.Random(seed)):
            assert len(target) == 20

    @rule(node=node_ids)
    def our_id_changes(self, node: NodeId) -> None:
        self.table.rename(node, self.now)
        assert self.table.own_id == node

    @invariant()
    def only_those_who_answered_are_in(self) -> None:
        assert {(c.id, c.address) for b in self.table.buckets for c in b} <= self.answered

    @invariant()
    def buckets_are_sorted_bounded_and_hold_their_own(self) -> None:
        buckets = self.table.buckets
        assert 1 <= len(buckets) <= 6
        lower, upper = self.table._by_prefix[-1].range
        assert lower <= int.from_bytes(self.table.own_id, "big") <= upper
        edge = 0
        for bucket in buckets:
            assert bucket.range[0] == edge
            edge = bucket.range[1] + 1
            assert len(bucket) <= 3
            assert len(bucket.replacement_nodes) <= bucket.max_replacement_nodes
            assert not (bucket.nodes.keys() & bucket.replacement_nodes.keys())
            if bucket.replacement_nodes:
                assert len(bucket) == 3  # nobody waits beside a free place
            for contact in bucket:
                assert bucket.range[0] <= contact.long_id <= bucket.range[1]
            places = [neighbourhood(contact.address) for contact in bucket]
            assert len(places) == len(set(places))
        assert edge == 2**160

    @invariant()
    def the_index_of_addresses_is_exact(self) -> None:
        everyone: list[Contact] = [contact for bucket in self.table.buckets for contact in bucket]
        assert len({home(contact.address) for contact in everyone}) == len(everyone)
        assert all(self.table.at(contact.address) is contact for contact in everyone)
        assert len(self.table._at) == len(everyone)  # who is not in may come in again

    @invariant()
    def what_a_bucket_remembers_is_true(self) -> None:
        for bucket in self.table.buckets:
            fit = [c for c in bucket.nodes.values() if c.fails < HEALTHY_FAILS]
            assert bucket.fit() == {contact.long_id: contact for contact in fit}
            compact, count, public = bucket.told()
            parts = [compact[at : at + 26] for at in range(0, len(compact), 26)]
            assert sorted(parts) == sorted(contact.info.compact() for contact in fit)
            assert (count, public) == (len(fit), all(contact.is_public for contact in fit))
            assert bucket.is_all_good(self.now, self.config) == all(
                self.table.is_good(contact, self.now) for contact in bucket.nodes.values()
            )

    @invariant()
    def what_is_told_is_what_a_search_through_all_contacts_finds(self) -> None:
        contacts = [c for c in self.table if c.fails < HEALTHY_FAILS]
        for asker in [OUTSIDER, local(0), *(contact.address for contact in self.table)][:20]:
            for target in (OWN, NodeId(b"\xff" * 20), node_id(3)):
                nearest = sorted(contacts, key=lambda one: distance(one.id, target))[:9]
                wanted = [
                    one.info.compact()
                    for one in nearest
                    if one.address != asker and (asker.is_local or one.is_public)
                ]
                compact = self.table.told(target, asker, 8)
                parts = [compact[at : at + 26] for at in range(0, len(compact), 26)]
                assert sorted(parts) == sorted(wanted[:8])

    @invariant()
    def counts_add_up(self) -> None:
        assert sum(self.table.counts(self.now)) == len(self.table)


TestTable = TableMachine.TestCase
TestTable.settings = settings(max_examples=examples(25), stateful_step_count=30, deadline=None)


# --- ids that fit their IPs (BEP 42) -------------------------------------------------------------


def secure(number: int, half: int) -> tuple[NodeId, Address]:
    """A node whose id fits its public IP, in the lower (0) or upper (1) half of the space."""
    address = Address(f"{20 + number // 200}.{number % 200}.7.1", 6881)
    for seed in range(1000):
        made = make_id(address.host, random.Random(seed))
        if made[0] >> 7 == half:
            return made, address
    raise AssertionError("no such id for this IP")


def test_in_a_full_bucket_an_id_that_fits_has_the_place_of_one_that_does_not() -> None:
    table = Table(OWN, DhtConfig(), 0)
    for number in range(8):
        table.replied(node_id(number), public(number), 0)
    assert len(table) == 8
    fitting = [secure(number, 1) for number in range(8)]
    for count, (made, address) in enumerate(fitting, 1):
        table.replied(made, address, 1)
        assert len(table) == 8
        assert sum(contact.is_compliant for contact in table) == count
    table.replied(node_id(99), public(99), 2)
    assert ids(table) == {made for made, _ in fitting}


def test_ids_that_do_not_fit_never_split_a_bucket() -> None:
    table = Table(OWN, DhtConfig(), 0)
    rng = random.Random(5)
    for number in range(1000):
        table.replied(NodeId(rng.randbytes(20)), public(number), 0)
    assert (len(table.buckets), len(table)) == (1, 8)
    for number in range(40):
        table.replied(*secure(number, number % 2), 1)
    assert len(table.buckets) > 1
    assert sum(contact.is_compliant for contact in table) >= 14


def test_any_id_at_a_local_address_counts_as_fitting() -> None:
    table = Table(OWN, DhtConfig(), 0)
    rng = random.Random(5)
    for number in range(100):
        table.replied(NodeId(rng.randbytes(20)), local(number), 0)
    assert len(table.buckets) > 2


def test_under_a_new_id_the_table_keeps_its_contacts_in_the_right_places() -> None:
    table = Table(OWN, CONFIG, 0)
    rng = random.Random(6)
    for number in range(200):
        table.replied(NodeId(rng.randbytes(20)), public(number), number)
    known = {contact.id for bucket in table.buckets for contact in bucket}
    renamed = NodeId(b"\xff" * 20)
    table.rename(renamed, 300)
    assert table.own_id == renamed
    assert ids(table) <= known
    assert len(table) >= 16
    for bucket in table.buckets:
        assert all(bucket.range[0] <= contact.long_id <= bucket.range[1] for contact in bucket)
    own = int.from_bytes(renamed, "big")
    assert table.buckets[-1].range[0] <= own <= table.buckets[-1].range[1]
    for contact in table:
        assert table.at(contact.address) is contact


# -- what is told of ------------------------------------------------------------------------------


def told(table: Table, asker: Address = OUTSIDER) -> set[bytes]:
    """The ids that are recommended to an asker, near the full bucket of `filled`. Both ways to
    find them agree."""
    target = node_id(0)
    compact = table.told(target, asker, 8)
    found = {compact[at : at + 20] for at in range(0, len(compact), 26)}
    assert found == {contact.id for contact in table.healthy(target, 8)}
    return found


def test_a_node_that_recovers_is_told_of_again() -> None:
    table = filled()
    everybody = {node_id(number) for number in range(8)}
    assert told(table) == everybody
    for turn in range(HEALTHY_FAILS):
        now = 15.0 * (turn + 1)
        table.replied(node_id(1), public(1), now)  # our link works
        table.failed(public(0), now - 1, now)
    assert told(table) == everybody - {node_id(0)} | {NodeId(b"\0" * 19 + b"\1")}
    table.replied(node_id(0), public(0), now + 1)
    assert told(table) == everybody


def test_a_node_that_is_removed_is_told_of_no_more() -> None:
    table = filled()
    everybody = {node_id(number) for number in range(8)}
    assert told(table) == everybody
    table.replied(NodeId(b"\0" * 19 + b"\2"), public(0), 1)  # the first has another id now
    assert node_id(0) not in ids(table)
    assert node_id(0) not in told(table)
    assert everybody - {node_id(0)} <= told(table)


# -- what a silence, a recovery or a removal changes -----------------------------------------------


def test_a_contact_is_good_for_exactly_fifteen_minutes_and_while_it_answers() -> None:
    table = filled()
    contact = table.at(public(0))
    assert contact is not None
    assert table.is_good(contact, CONFIG.good_for)
    assert not table.is_good(contact, CONFIG.good_for + 1)
    for second in range(CONFIG.max_fails):
        assert table.is_good(contact, second)
        table.replied(node_id(1), public(1), second)
        table.failed(public(0), second, second)
    assert not table.is_good(contact, CONFIG.max_fails)
    assert table.counts(CONFIG.max_fails) == (8, 0, 1)


def test_a_waiting_contact_that_does_not_answer_is_forgotten_at_once() -> None:
    table = filled()
    table.replied(node_id(100), public(100), 1)
    assert table.at(public(100)) is not None
    table.replied(node_id(1), public(1), 3)
    assert table.failed(public(100), 2, 17) is None
    assert table.at(public(100)) is None
    assert len(table) == 9


def test_a_silent_contact_is_pinged_again_only_if_another_waits_for_its_place() -> None:
    table = filled()
    table.replied(node_id(1), public(1), 1)
    assert table.failed(public(0), 1, 2) is None
    table.replied(node_id(100), public(100), 3)
    table.replied(node_id(1), public(1), 4)
    assert table.failed(public(0), 4, 5) is table.at(public(0))


def test_of_several_doubtful_contacts_the_one_asked_longest_ago_comes_first() -> None:
    table = filled()
    for number, asked in ((3, 50.0), (5, 40.0), (7, 45.0)):
        table.asked(public(number), asked)
    for number in (0, 1, 2, 4, 6):
        table.asked(public(number), 60.0)
    table.asked(public(999), 60.0)
    named = []
    now = 16 * MINUTE
    while (contact := table.doubtful(now)) is not None:
        named.append(contact.address)
        table.asked(contact.address, now)
    assert named[:3] == [public(5), public(7), public(3)]


def test_a_contact_that_asked_us_lately_is_not_doubtful_and_a_failing_one_is() -> None:
    table = filled()
    for number in range(1, 8):
        table.queried(node_id(number), public(number), 14 * MINUTE)
    table.replied(NodeId(b"\0" * 19 + b"\1"), public(999), 14 * MINUTE)
    doubtful = table.doubtful(16 * MINUTE)
    assert doubtful is not None
    assert doubtful.id == node_id(0)
    table.replied(node_id(0), public(0), 16 * MINUTE)
    assert table.doubtful(16 * MINUTE) is None
    table.replied(node_id(1), public(1), 16 * MINUTE + 1)
    table.failed(public(0), 16 * MINUTE, 16 * MINUTE + 2)
    failing = table.doubtful(16 * MINUTE + 3)
    assert failing is not None
    assert failing.id == node_id(0)


def test_the_next_refresh_is_due_when_the_bucket_unchanged_longest_is() -> None:
    table = filled()
    assert table.refresh_at() == CONFIG.refresh_interval
    table.replied(NodeId(b"\0" * 19 + b"\1"), public(999), 10 * MINUTE)
    assert table.refresh_at() == CONFIG.refresh_interval
    table.replied(node_id(0), public(0), 11 * MINUTE)
    assert table.refresh_at() == 10 * MINUTE + CONFIG.refresh_interval


def test_the_clock_of_a_table_begins_when_it_is_known() -> None:
    table = Table(OWN, CONFIG, 0)
    table.begin(1000.0)
    assert table.refresh_at() == 1000.0 + CONFIG.refresh_interval


def test_refreshing_looks_up_ids_of_the_whole_range_of_a_bucket_and_of_no_other() -> None:
    table = Table(OWN, replace(CONFIG, k=1, max_buckets=160), 0)
    for bit in range(159, -1, -1):
        table.replied(NodeId((1 << bit).to_bytes(20, "big")), public(bit), 0)
    seen: dict[tuple[int, int], set[int]] = {bucket.range: set() for bucket in table.buckets}
    rng = random.Random(4)
    for turn in range(1, 60):
        for target in table.refresh_targets(turn * CONFIG.refresh_interval, rng):
            number = int.from_bytes(target, "big")
            (hit,) = [low_high for low_high in seen if low_high[0] <= number <= low_high[1]]
            seen[hit].add(number)
    for (low, high), numbers in seen.items():
        assert len(numbers) >= min(high - low + 1, 4)  # also the last id of a small bucket


def test_a_removal_and_an_arrival_count_as_changes_of_their_bucket() -> None:
    table = filled()
    (far,) = [bucket for bucket in table.buckets if len(bucket) == 8]
    table.replied(node_id(100), public(100), 1)  # waits
    before = table.additions
    table.replied(NodeId(b"\0" * 19 + b"\2"), public(0), 5 * MINUTE)  # node 0 has another id now
    assert node_id(100) in far.nodes
    assert far.changed == 5 * MINUTE
    assert table.additions == before + 2  # the one that waited, and the new id
    empty = Table(OWN, CONFIG, 0)
    empty.replied(node_id(1), public(1), 7.0)
    assert empty.buckets[0].changed == 7.0
    assert empty.additions == 1


def test_a_removal_that_no_node_can_replace_adds_no_node() -> None:
    table = filled()
    before = table.additions
    table.replied(NodeId(b"\0" * 19 + b"\2"), public(0), 1)
    assert len(table) == 9
    assert table.additions == before + 1  # the new id alone


def test_an_id_that_changes_puts_only_those_in_doubt_who_have_not_answered_for_minutes() -> None:
    table = filled()
    for number in range(1, 5):
        table.replied(node_id(number), public(number), 2 * MINUTE)
    suspects = table.replied(node_id(200), public(0), 6 * MINUTE)
    assert {contact.id for contact in suspects} == {node_id(n) for n in range(5, 8)}


def test_the_contact_unheard_of_longest_is_pinged_for_a_newcomer() -> None:
    table = filled()
    for number in range(8):
        if number != 4:
            table.replied(node_id(number), public(number), MINUTE + number)
    (doubtful,) = table.replied(node_id(100), public(100), 30 * MINUTE)
    assert doubtful.id == node_id(4)


def test_of_those_that_wait_the_one_heard_from_last_gets_the_place() -> None:
    table = filled()
    table.replied(node_id(100), public(100), 1)
    table.replied(node_id(101), public(101), 2)
    table.replied(node_id(100), public(100), 3)
    table.replied(NodeId(b"\0" * 19 + b"\2"), public(0), 4)
    assert node_id(100) in ids(table)
    assert node_id(101) not in ids(table)


def test_few_contacts_are_known_until_there_are_sixteen() -> None:
    table = Table(OWN, CONFIG, 0)
    for number in range(15):
        table.replied(NodeId((1 << 159 - number).to_bytes(20, "big")), public(number), 0)
    assert table.knows_few
    assert len(table) == 15
    table.replied(NodeId(b"\0" * 19 + b"\1"), public(999), 0)
    assert not table.knows_few


def test_an_asker_is_not_told_of_itself_nor_an_outsider_of_our_own_network() -> None:
    table = filled()
    everybody = {node_id(number) for number in range(8)}
    assert told_to(table, public(0)) == everybody - {node_id(0)} | {NodeId(b"\0" * 19 + b"\1")}
    mixed = Table(OWN, CONFIG, 0)
    for number in range(8):
        mixed.replied(node_id(number), local(number) if number % 2 else public(number), 0)
    odd = {node_id(number) for number in range(1, 8, 2)}
    assert told_to(mixed, OUTSIDER) == {node_id(n) for n in range(8)} - odd
    assert told_to(mixed, Address("127.0.0.1", 77)) == {node_id(n) for n in range(8)}
    assert told_to(mixed, local(1)) == {node_id(n) for n in range(8)} - {node_id(1)}


def told_to(table: Table, asker: Address) -> set[bytes]:
    compact = table.told(node_id(0), asker, 8)
    assert len(compact) <= 8 * 26
    return {compact[at : at + 20] for at in range(0, len(compact), 26)}


def test_an_asker_whose_bytes_are_elsewhere_in_a_reply_too_is_left_out_and_nothing_else_is() -> (
    None
):
    """Ids can be chosen so that the asker's node info begins in that of another node."""
    asker, first, second = public(1), public(2), public(3)
    own = NodeId(first.compact() + bytes(14))
    crafted = NodeId(
        (own + asker.compact())[6:]
    )  # the first one's address, then this, is the asker
    table = Table(NodeId(b"\xff" * 20), CONFIG, 0)
    for node, address in ((node_id(2), first), (crafted, second), (own, asker)):
        table.replied(node, address, 0)
    nodes = [NodeInfo(node_id(2), first), NodeInfo(crafted, second)]
    assert own + asker.compact() in compact_nodes(nodes)
    assert table.told(OWN, OUTSIDER, 8) == compact_nodes([*nodes, NodeInfo(own, asker)])
    assert table.told(OWN, asker, 8) == compact_nodes(nodes)


def test_a_known_address_that_asks_under_a_new_id_is_worth_a_ping() -> None:
    table = filled()
    assert not table.queried(node_id(0), public(0), MINUTE)
    assert table.queried(node_id(500), public(0), MINUTE)
    assert not table.queried(node_id(500), Address(public(0).host, 7777), MINUTE)


def test_whether_a_node_we_ask_is_known() -> None:
    table = filled()
    assert table.asked(public(0), MINUTE)
    assert not table.asked(public(77), MINUTE)
