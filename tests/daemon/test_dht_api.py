"""Questions to the DHT in JSON, and what is refused before anybody is asked."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.daemon import dht_api
from dht_torrent.engine.dht.dual_stack import DualStack
from dht_torrent.engine.dht.node import Dht
from dht_torrent.errors import InputError, NoReply
from dht_torrent.ids import InfoHash
from tests.helpers.dht_lab import HASH, Found, Lab

SEED = "01" * 32


async def ask(dht: Dht, action: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return await dht_api.ask(DualStack([dht]), action, arguments)


@pytest.fixture
def lab(nursery: trio.Nursery) -> Lab:
    return Lab(nursery)


async def two(lab: Lab) -> tuple[Dht, Dht]:
    one = await lab.node("10.0.0.1")
    other = await lab.node("10.0.0.2", one)
    await other.bootstrapped()
    await trio.sleep(1)
    return one, other


async def test_each_question_has_its_answer(lab: Lab, autojump_clock: MockClock) -> None:
    one, other = await two(lab)
    address = str(other.address)
    ping = await ask(one, "ping", {"address": address})
    assert ping == {"address": address, "id": other.node_id.hex(), "milliseconds": 20.0}
    found = await ask(one, "lookup", {"target": "00" * 20})
    assert found["nodes"] == [{"id": other.node_id.hex(), "address": address}]
    await other.announces.find_peers(HASH, announce_port=5000, seed=True, on_peers=Found())
    peers = await ask(one, "peers", {"info_hash": HASH.hex()})
    assert peers["peers"] == ["10.0.0.2:5000"]
    scrape = await ask(other, "scrape", {"info_hash": HASH.hex()})
    assert (round(scrape["seeds"]), scrape["downloaders"], scrape["answered"]) == (1, 0.0, 1)
    sample = await ask(other, "sample", {"address": str(one.address)})
    assert (sample["num"], sample["samples"]) == (1, [HASH.hex()])
    assert await ask(one, "lookups", {}) == {"ipv4": []}
    await one.find_node(b"\x42" * 20)
    (lookup,) = (await ask(one, "lookups", {}))["ipv4"]
    assert (lookup["target"], lookup["running"], lookup["asked"]) == ("42" * 20, False, 1)
    assert lookup["steps"][0]["address"] == address
    assert lookup["steps"][0]["outcome"] == "answered"
    table = await ask(one, "table", {})
    assert table["id"] == one.node_id.hex()
    assert [(c["id"], c["good"]) for c in table["contacts"]] == [(other.node_id.hex(), True)]
    size = await ask(one, "size", {})
    assert size == {"size": 2, "contacts": 1, "estimated": False}


async def test_the_size_of_a_larger_network_is_estimated(
    lab: Lab, autojump_clock: MockClock
) -> None:
    nodes = await lab.nodes(60)
    size = await ask(nodes[3], "size", {})
    assert size["estimated"]
    assert 35 < size["size"] < 100


async def test_items_go_in_and_come_out(lab: Lab, autojump_clock: MockClock) -> None:
    one, other = await two(lab)
    put = await ask(one, "put", {"value": "h\u00e9llo"})
    assert [node["id"] for node in put["stored"]] == [other.node_id.hex()]
    got = await ask(other, "get", {"target": put["target"]})
    assert got["item"] == {
        "value": "h\u00e9llo",
        "bencoded": b"6:h\xc3\xa9llo".hex(),
        "mutable": False,
    }
    raw = await ask(one, "put", {"bencoded": b"d1:al1:\xff1:xi5eee".hex()})
    got = await ask(other, "get", {"target": raw["target"]})
    assert got["item"]["value"] == {"a": ["ff", "x", 5]}
    first = await ask(one, "put", {"value": "one", "seed": SEED, "salt": "ff"})
    await ask(other, "put", {"value": "two", "seed": SEED, "salt": "ff"})
    got = await ask(one, "get", {"key": first["key"], "salt": "ff"})
    assert (got["item"]["value"], got["item"]["seq"]) == ("two", 2)
    assert (await ask(one, "get", {"key": first["key"], "salt": "ff", "seq": 2}))["item"] is None
    survey = await ask(one, "get", {"key": first["key"], "salt": "ff", "all": True})
    assert [item["value"] for item in survey["items"]] == ["two"]
    assert [(node["seq"], node["has"]) for node in survey["nodes"]] == [(2, True)]
    late = await ask(other, "put", {"value": "x", "seed": SEED, "salt": "ff", "seq": 1})
    assert [node["code"] for node in late["refused"]] == [302]
    assert (await ask(one, "get", {"target": "00" * 20}))["item"] is None


@pytest.mark.parametrize(
    ("action", "arguments", "why"),
    [
        ("fly", {}, "no such DHT action"),
        ("ping", {}, "address is needed"),
        ("ping", {"address": "example.com:1"}, "expected an IP address"),
        ("ping", {"address": 5}, "must be of type str"),
        ("ping", {"address": "1.2.3.4:5", "x": 1}, "unknown option 'x'"),
        ("lookup", {"target": "00"}, "must be 40 hex digits"),
        ("lookup", {"target": "zz" * 20}, "must be 40 hex digits"),
        ("lookup", {"target": "00 " * 20}, "must be 40 hex digits"),
        ("get", {}, "target is needed"),
        ("get", {"key": "00" * 31}, "must be 64 hex digits"),
        ("get", {"target": "00" * 20, "seq": True}, "must be of type int"),
        ("get", {"target": "00" * 20, "seq": 2**63}, "sequence number"),
        ("get", {"target": "00" * 20, "seq": -1}, "sequence number"),
        ("put", {}, "value is needed"),
        ("put", {"value": "\ud800"}, "not text"),
        ("put", {"value": "x" * 1000}, "at most 1000 bytes"),
        ("put", {"bencoded": "00"}, "not bencode"),
        ("put", {"bencoded": "0"}, "must be hex digits"),
        ("put", {"value": "x", "seed": "00"}, "must be 64 hex digits"),
        ("put", {"value": "x", "seed": SEED, "seq": 2**63}, "sequence number"),
        ("put", {"value": "x", "seed": SEED, "seq": -1}, "sequence number"),
        ("put", {"value": "x", "seed": SEED, "salt": "00" * 65}, "at most 64"),
    ],
)
async def test_what_cannot_be_used_is_refused(
    lab: Lab, autojump_clock: MockClock, action: str, arguments: dict[str, Any], why: str
) -> None:
    dht, _ = await two(lab)
    with pytest.raises(InputError, match=why):
        await ask(dht, action, arguments)


async def test_silence_is_told(lab: Lab, autojump_clock: MockClock) -> None:
    dht = await lab.node("10.0.0.1")
    with pytest.raises(NoReply):
        await ask(dht, "ping", {"address": "10.0.0.99:1"})
    nobody = await ask(dht, "peers", {"info_hash": InfoHash(bytes(20)).hex()})
    assert nobody["peers"] == []
