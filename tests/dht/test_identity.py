"""BEP 42: its own examples word for word, and who may tell us where we are."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.checksum import crc32c
from dht_torrent.config import DhtConfig
from dht_torrent.dht.identity import SeenPorts, Votes, is_compliant, make_id, prefix
from dht_torrent.ids import Address, NodeId

CONFIG = DhtConfig()
OURS = "99.1.2.3"


def voter(number: int) -> Address:
    """Each in a network of its own."""
    return Address(f"11.{number >> 8}.{number & 255}.1", 6881)


@pytest.mark.parametrize(
    ("ip", "rand", "start", "masked", "crc"),
    [
        ("124.31.75.21", 1, "5fbfbf", "200f0b15", "5fbfbdb2"),
        ("21.75.31.124", 86, "5a3ce9", "c10b1f7c", "5a3ce9b0"),
        ("65.23.51.170", 22, "a5d432", "c10733aa", "a5d4344a"),
        ("84.124.73.14", 65, "1b0321", "200c090e", "1b03217b"),
        ("43.213.53.83", 90, "e56f6c", "43053553", "e56f6972"),
        ("2001:db8:100:0:d5c8:db3f:995e:c0f7", 1, "accc06", "2001050801000000", "accc069c"),
        ("2a02:8071:1234:5678::1", 86, "415903", "c002000112345678", "415903ad"),
    ],
)
def test_the_examples(ip: str, rand: int, start: str, masked: str, crc: str) -> None:
    assert crc32c(bytes.fromhex(masked)) == int(crc, 16)
    assert prefix(ip, rand) == int(crc, 16)
    node_id = NodeId(bytes.fromhex(start) + bytes(16) + bytes([rand]))
    assert is_compliant(node_id, Address(ip, 1))
    assert not is_compliant(node_id[:19] + bytes([rand ^ 1]), Address(ip, 1))
    assert not is_compliant(bytes([node_id[0] ^ 1]) + node_id[1:], Address(ip, 1))
    # Of the third byte the five high bits count, and no others.
    assert is_compliant(node_id[:2] + bytes([node_id[2] ^ 7]) + node_id[3:], Address(ip, 1))
    assert not is_compliant(node_id[:2] + bytes([node_id[2] ^ 8]) + node_id[3:], Address(ip, 1))


@given(st.ip_addresses(), st.integers())
def test_an_id_made_for_an_ip_fits_it(ip: object, seed: int) -> None:
    made = make_id(str(ip), random.Random(seed))
    assert len(made) == 20
    assert is_compliant(made, Address(str(ip), 1))


@pytest.mark.parametrize(
    "host", ["10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.1.1", "127.0.0.1", "::1", "fe80::1"]
)
def test_any_id_fits_a_local_address(host: str) -> None:
    assert is_compliant(b"x" * 20, Address(host, 1))


def test_two_million_random_ids_would_be_needed() -> None:
    rng = random.Random(1)
    fitting = sum(is_compliant(rng.randbytes(20), Address(OURS, 1)) for _ in range(2000))
    assert fitting == 0


def test_fifty_votes_elect() -> None:
    votes = Votes(CONFIG)
    results = [votes.vote(OURS, voter(n), 1) for n in range(50)]
    assert results == [None] * 49 + [OURS]
    assert votes.elected == OURS


def test_after_five_minutes_fewer_are_enough() -> None:
    votes = Votes(CONFIG)
    assert votes.vote(OURS, voter(1), 0) is None
    assert votes.vote(OURS, voter(1), 299) is None
    assert votes.vote(OURS, voter(1), 300) == OURS  # who has voted already may open the urn


def test_a_voter_votes_once_however_many_ports_and_neighbours_it_has() -> None:
    votes = Votes(CONFIG)
    for number in range(1000):
        assert votes.vote(OURS, Address(f"11.1.1.{number % 250}", 1 + number), 1) is None


def test_a_third_of_liars_changes_nothing() -> None:
    votes = Votes(CONFIG)
    rng = random.Random(4)
    changes = []
    for number in range(5000):
        host = "66.6.6.6" if rng.random() < 0.3 else OURS
        changes.append(votes.vote(host, voter(number), number * 0.1))
    assert [change for change in changes if change is not None] == [OURS]


def test_half_against_half_elects_no_address() -> None:
    votes = Votes(CONFIG)
    for number in range(1000):
        votes.vote(("66.6.6.6", OURS)[number % 2], voter(number), 1)
    assert votes.elected is None


def test_a_new_address_is_believed_soon() -> None:
    votes = Votes(CONFIG)
    for number in range(50):
        votes.vote(OURS, voter(number), 1)
    assert [votes.vote("99.9.9.9", voter(n), 2) for n in range(50)][-1] == "99.9.9.9"


def test_forty_inventions_at_most_are_counted() -> None:
    votes = Votes(CONFIG)
    for number in range(45):
        votes.vote(f"66.6.6.{number}", voter(number), 1)
    assert len(votes._votes) == 40


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "0.0.0.0", "224.0.0.1", "::"])
def test_an_address_no_node_can_have_gets_no_vote(host: str) -> None:
    votes = Votes(CONFIG)
    for number in range(100):
        assert votes.vote(host, voter(number), number * 100) is None


def test_local_nodes_have_no_vote() -> None:
    votes = Votes(CONFIG)
    for number in range(100):
        assert votes.vote(OURS, Address("127.0.0.1", 1 + number), number * 100) is None


@pytest.mark.parametrize(("ours", "rival", "elected"), [(30, 20, None), (31, 19, OURS)])
def test_the_winner_needs_more_than_half_as_many_votes_again(
    ours: int, rival: int, elected: str | None
) -> None:
    votes = Votes(CONFIG)
    ballots = [OURS] * ours + ["66.6.6.6"] * rival
    results = [votes.vote(host, voter(number), 1) for number, host in enumerate(ballots)]
    assert results[-1] == elected


def test_the_rival_of_the_winner_is_the_second_and_not_the_third() -> None:
    votes = Votes(CONFIG)
    ballots = [OURS] * 26 + ["66.6.6.6"] * 20 + ["66.6.6.7"] * 4
    for number, host in enumerate(ballots):
        votes.vote(host, voter(number), 1)
    assert votes.elected is None


def test_every_last_byte_and_every_free_bit_of_an_id_occurs() -> None:
    made = [make_id(OURS, random.Random(seed)) for seed in range(4000)]
    assert {one[19] for one in made} == set(range(256))
    assert len({one[2] & 7 for one in made}) == 8


def test_at_another_address_an_election_begins_anew_and_the_old_result_stays_until_then() -> None:
    votes = Votes(CONFIG)
    for number in range(50):
        votes.vote(OURS, voter(number), 0.0)
    for number in range(49):
        votes.vote(OURS, voter(number), 1.0)
    votes.begin_again()
    assert votes.elected == OURS
    results = [votes.vote("99.4.5.6", voter(number), 400.0) for number in range(50)]
    assert results == [None] * 49 + ["99.4.5.6"]


def test_a_port_that_all_see_alike_is_that_of_a_cone_and_else_of_a_symmetric_nat() -> None:
    cone, symmetric, mixed = SeenPorts(), SeenPorts(), SeenPorts()
    for number in range(20):
        assert cone.are_many is (None if number < 4 else False)
        assert symmetric.are_many is (None if number < 4 else True)
        cone.saw(6881, voter(number))
        symmetric.saw(20_000 + number, voter(number))
        mixed.saw(6881 if number % 3 else 9000 + number, voter(number))
    assert mixed.are_many is False  # some lie


def test_a_port_is_what_each_place_said_last_and_local_ones_have_no_say() -> None:
    ports = SeenPorts()
    for number in range(40):
        ports.saw(20_000 + number, voter(1))
        ports.saw(30_000 + number, Address(f"10.{number}.0.1", 1))
        ports.saw(0, voter(number))
    assert ports.are_many is None
    for number in range(16):
        ports.saw(20_000 + number, voter(number))
    assert ports.are_many is True
    for number in range(16, 32):
        ports.saw(6881, voter(number))
    assert ports.are_many is False
    ports.begin_again()
    assert ports.are_many is None
