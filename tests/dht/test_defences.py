"""The defences that no other file tests; and README.md, the list of all, is kept honest here."""

from __future__ import annotations

import gc
import random
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import bencode2
import pytest

from dht_torrent.bencode import Value
from dht_torrent.config import DhtConfig
from dht_torrent.dht import krpc
from dht_torrent.dht.answer import Answerer
from dht_torrent.dht.krpc import NodeInfo, Query, Reply
from dht_torrent.dht.lookup import Lookup
from dht_torrent.dht.rate_limits import SendBudget
from dht_torrent.dht.store import PeerStore
from dht_torrent.dht.table import Table
from dht_torrent.dht.tokens import Tokens
from dht_torrent.errors import KrpcError
from dht_torrent.ids import Address, InfoHash, NodeId

LIST = Path(__file__).with_name("README.md")
TESTS = Path(__file__).parent.parent
CONFIG = DhtConfig(secure_ids=False)  # ids here are invented, not made from the IPs
OWN = NodeId(b"o" * 20)
HASH = InfoHash(b"h" * 20)
COLLIDE = (1 << 61) - 1
"""Python's hash of an int is the remainder by this: multiples of it all have the same."""


def public(number: int) -> Address:
    return Address(f"{12 + (number >> 16)}.{number >> 8 & 255}.{number & 255}.1", 6881)


def answerer() -> Answerer:
    table = Table(OWN, CONFIG, 0)
    return Answerer(
        table, PeerStore(CONFIG), Tokens(random.Random(1), 300, 0), CONFIG, random.Random(2)
    )


# -- the list -------------------------------------------------------------------------------------


def rows() -> list[list[str]]:
    """Attack, what meets it, proof: of each line in a table."""
    cells = [
        line.strip("|").split(" | ") for line in LIST.read_text().splitlines() if line[:1] == "|"
    ]
    return [
        [cell.strip(" |") for cell in row]
        for row in cells
        if row[0].strip() != "attack" and "---" not in row[0]
    ]


def test_every_test_in_the_list_exists() -> None:
    written: set[str] = set()
    for path in TESTS.rglob("test_*.py"):
        written.update(re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE))
    named = {name for row in rows() for name in re.findall(r"`(test_\w+)`", row[-1])}
    assert len(named) > 80
    assert sorted(named - written) == []


def test_every_attack_in_the_list_has_a_test_or_a_reason() -> None:
    assert len(rows()) > 55
    for row in rows():
        reason = len(row) > 1 and row[1].startswith("not: ")
        assert reason != bool(re.search(r"`test_\w+`", row[-1])), row


# -- bytes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("opener", [b"l", b"d1:a", b"ld1:al"])
def test_a_datagram_that_is_all_nesting_is_refused_before_it_is_decoded(
    opener: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decoder takes milliseconds to find its way out of a thousand levels."""

    def never(raw: bytes) -> Value:
        raise AssertionError("decoded")

    monkeypatch.setattr(bencode2, "bdecode", never)
    for size in (100, 1000, 2048):
        with pytest.raises(KrpcError):
            krpc.decode((b"d1:a" + opener * size)[:size])


def keys(root: object, seen: set[int]) -> Iterator[object]:
    """All keys of dictionaries and members of sets that belong to `root`."""
    if id(root) in seen or isinstance(root, type | ModuleType):
        return
    seen.add(id(root))
    if isinstance(root, dict | set | frozenset):
        yield from root
    for part in gc.get_referents(root):
        if not callable(part):
            yield from keys(part, seen)


def test_no_dictionary_is_keyed_by_numbers_that_others_choose() -> None:
    """An id of twenty bytes, as a number, is a key of any hash its owner likes: thousands of them
    would make each access a search. The hash of bytes is keyed and cannot be foreseen."""
    chosen = [NodeId((n * COLLIDE).to_bytes(20, "big")) for n in range(1, 400)]
    assert len({hash(int.from_bytes(node_id, "big")) for node_id in chosen}) == 1
    assert list(keys([{1 << 60: 0}], set())) == [1 << 60]
    it, lookup = answerer(), Lookup(HASH, OWN, CONFIG, 0)
    for number, node_id in enumerate(chosen):
        it.table.replied(node_id, public(number), 0)
        it.store.add(InfoHash(node_id), public(number), 0)
        it.answer(Query(b"tt", b"ping", {b"id": node_id}), public(number), 0)
    lookup.add(NodeInfo(node_id, public(number)) for number, node_id in enumerate(chosen))
    found = [key for thing in (it, lookup) for key in keys(thing, set())]
    assert any(key in chosen for key in found)
    assert [key for key in found if isinstance(key, int) and key > 1 << 32] == []


def test_a_long_want_costs_no_more_than_a_short_one(monkeypatch: pytest.MonkeyPatch) -> None:
    it, sibling = answerer(), Table(OWN, CONFIG, 0, ipv6=True)
    it.other_table = sibling
    it.table.replied(NodeId(b"4" * 20), public(1), 0)
    sibling.replied(NodeId(b"6" * 20), Address("2600::1", 6881), 0)
    searched: list[bytes] = []

    def counting(table: Table) -> None:
        told = table.told

        def count(target: bytes, asker: Address, many: int) -> bytes:
            searched.append(target)
            return told(target, asker, many)

        monkeypatch.setattr(table, "told", count)

    counting(it.table)
    counting(sibling)
    want: list[Value] = [b"n4", b"n6"] * 200
    asked = krpc.encode(
        Query(b"tt", b"find_node", {b"id": bytes(20), b"target": HASH, b"want": want})
    )
    message = krpc.decode(asked)
    assert isinstance(message, Query)
    reply = it.answer(message, public(9), 0)
    assert isinstance(reply, Reply)
    assert searched == [HASH, HASH]  # once in each family
    assert len(reply.nodes()) == len(reply.nodes(ipv6=True)) == 1


# -- who is announced -----------------------------------------------------------------------------


def test_an_announce_is_about_its_sender_whatever_it_says() -> None:
    it, sender = answerer(), public(5)
    args: dict[bytes, Value] = {b"id": OWN, b"info_hash": HASH, b"port": 7000}
    args[b"token"] = it.tokens.make(sender, HASH, 0)
    for key in (b"ip", b"ip4", b"host", b"address"):
        args[key] = b"66.66.66.66"
    reply = it.answer(Query(b"tt", b"announce_peer", args), sender, 0)
    assert isinstance(reply, Reply)
    assert it.store.peers(HASH, 0, random.Random(1), 50) == [Address(sender.host, 7000)]


# -- floods ---------------------------------------------------------------------------------------


def test_after_a_refusal_nothing_is_answered_until_a_largest_answer_is_saved_up() -> None:
    local = Address("10.0.0.1", 1)
    budget = SendBudget(CONFIG, 0)
    while budget.allows(300, public(1), 0):
        assert not budget.is_spent(public(1), 0)
    assert budget.is_spent(public(1), 0)
    assert budget.is_spent(public(1), 0.1)  # 800 bytes
    assert not budget.is_spent(local, 0.1)
    assert not budget.is_spent(public(1), 0.2)
    assert budget.allows(1400, public(1), 0.2)
    unlimited = SendBudget(DhtConfig(unlimited=True), 0)
    assert all(unlimited.allows(1400, public(1), 0) for _ in range(1000))
    assert not unlimited.is_spent(public(1), 0)
