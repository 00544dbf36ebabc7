"""Questions to the DHT as the control API and the command line ask them: a name and JSON in, JSON
out. The rule: whatever comes in is checked here, and what goes out names bytes in hex.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import trio

from dht_torrent import bencode
from dht_torrent.bencode import Value
from dht_torrent.daemon.body import check_types
from dht_torrent.engine.dht.dual_stack import DualStack, NodeInfo
from dht_torrent.engine.dht.items import Item, MutableItem, SigningKey, mutable_target
from dht_torrent.engine.dht.node import Dht
from dht_torrent.engine.dht.surveys import Stored
from dht_torrent.errors import BencodeError, InputError
from dht_torrent.ids import InfoHash, parse_address

Json = dict[str, Any]

SIZE_LOOKUPS = 12
"""Random lookups that make an estimate of the network's size fit to be told."""


async def ask(dht: DualStack, action: str, arguments: Mapping[str, Any]) -> Json:
    """Do `action`. Raises InputError for arguments that cannot be used or an action there is not,
    and NoReply when a node that was named does not answer."""
    found = ACTIONS.get(action)
    if found is None:
        raise InputError(f"no such DHT action: {action[:40]!r}")
    run, allowed = found
    given = check_types(arguments, allowed)
    return await run(dht, given)


async def _ping(dht: DualStack, given: Json) -> Json:
    address = parse_address(_needed(given, "address"))
    began = trio.current_time()
    node_id = await dht.ping(address)
    took = trio.current_time() - began
    return {"address": str(address), "id": node_id.hex(), "milliseconds": round(1000 * took, 2)}


async def _lookup(dht: DualStack, given: Json) -> Json:
    target = _hex(_needed(given, "target"), 20, "target")
    return {"target": target.hex(), "nodes": [_node(n) for n in await dht.find_node(target)]}


async def _peers(dht: DualStack, given: Json) -> Json:
    info_hash = InfoHash(_hex(_needed(given, "info_hash"), 20, "info_hash"))
    found = await dht.find_peers(info_hash, on_peers=lambda peers: None)
    return {
        "info_hash": info_hash.hex(),
        "peers": [str(peer) for peer in found.peers],
        "asked": found.asked,
        "answered": found.answered,
    }


async def _get(dht: DualStack, given: Json) -> Json:
    salt = _hex(given.get("salt", ""), None, "salt")
    if "key" in given:
        target = mutable_target(_hex(given["key"], 32, "key"), salt)
    else:
        target = _hex(_needed(given, "target"), 20, "target")
    if given.get("all", False):
        survey = await dht.get_all(target, salt=salt)
        return {
            "target": target.hex(),
            "items": [_item(item) for item in survey.variants()],
            "nodes": [
                {
                    **_node(holder.contact),
                    "seq": holder.seq,
                    "has": holder.item is not None,
                }
                for holder in survey.holders
            ],
        }
    item = await dht.get(target, salt=salt, seq=given.get("seq"))
    return {"target": target.hex(), "item": _item(item) if item is not None else None}


async def _put(dht: DualStack, given: Json) -> Json:
    value: Value
    if "bencoded" in given:
        try:
            value = bencode.decode(_hex(given["bencoded"], None, "bencoded"))
        except BencodeError as error:
            raise InputError(f"not bencode: {error}") from None
    else:
        try:
            value = _needed(given, "value").encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise InputError("value is not text") from None
    if "seed" not in given:
        return _stored(await dht.put_immutable(value))
    key = SigningKey(_hex(given["seed"], 32, "seed"))
    salt = _hex(given.get("salt", ""), None, "salt")
    stored = await dht.put_mutable(key, salt, value, given.get("seq"), given.get("cas"))
    return {**_stored(stored), "key": key.public.hex(), "salt": salt.hex()}


async def _scrape(dht: DualStack, given: Json) -> Json:
    info_hash = InfoHash(_hex(_needed(given, "info_hash"), 20, "info_hash"))
    scrape = await dht.scrape(info_hash)
    return {"info_hash": info_hash.hex(), **dataclasses.asdict(scrape)}


async def _sample(dht: DualStack, given: Json) -> Json:
    target = _hex(given["target"], 20, "target") if "target" in given else None
    sample = await dht.sample(parse_address(_needed(given, "address")), target)
    return {
        "address": str(sample.address),
        "interval": sample.interval,
        "num": sample.num,
        "samples": [info_hash.hex() for info_hash in sample.samples],
        "nodes": [_node(node) for node in sample.nodes],
    }


async def _table(dht: DualStack, given: Json) -> Json:
    await trio.lowlevel.checkpoint()
    return {
        "id": dht.node_id.hex(),
        "ids": [one.node_id.hex() for one in dht],
        "contacts": [
            {**dataclasses.asdict(view), "id": view.id.hex(), "address": str(view.address)}
            for view in dht.contacts()
        ],
    }


async def _lookups(dht: DualStack, given: Json) -> Json:
    """Of each network; see `Dht.lookups`."""
    await trio.lowlevel.checkpoint()
    return {
        "ipv6" if one.address.is_ipv6 else "ipv4": [dataclasses.asdict(v) for v in one.lookups()]
        for one in dht
    }


async def _size(dht: DualStack, given: Json) -> Json:
    """Of the larger network; and of each, when we are in two."""
    sizes = {
        "ipv6" if one.address.is_ipv6 else "ipv4": await _size_of(one, given.get("quick", False))
        for one in dht
    }
    largest = max(sizes.values(), key=lambda one: (one["contacts"] > 0, one["size"]))
    in_both = len(sizes) > 1 and all(one["contacts"] for one in sizes.values())
    return {**largest, **sizes} if in_both else largest


async def _size_of(dht: Dht, quick: bool) -> Json:
    if dht.status().network_size is None or not quick:
        for _ in range(SIZE_LOOKUPS):
            await dht.find_node(dht.random_id())
    status = dht.status()
    contacts = status.good + status.questionable
    # Fewer nodes than a lookup wants are counted, not estimated.
    size = status.network_size if status.network_size is not None else float(contacts + 1)
    return {"size": round(size), "contacts": contacts, "estimated": status.network_size is not None}


_Action = Callable[[DualStack, Json], Awaitable[Json]]
ACTIONS: Mapping[str, tuple[_Action, Mapping[str, type]]] = {
    "ping": (_ping, {"address": str}),
    "lookup": (_lookup, {"target": str}),
    "peers": (_peers, {"info_hash": str}),
    "get": (_get, {"target": str, "key": str, "salt": str, "seq": int, "all": bool}),
    "put": (
        _put,
        {"value": str, "bencoded": str, "seed": str, "salt": str, "seq": int, "cas": int},
    ),
    "scrape": (_scrape, {"info_hash": str}),
    "sample": (_sample, {"address": str, "target": str}),
    "table": (_table, {}),
    "lookups": (_lookups, {}),
    "size": (_size, {"quick": bool}),
}


def _needed(given: Json, key: str) -> str:
    if key not in given:
        raise InputError(f"{key} is needed")
    return str(given[key])


def _hex(text: str, size: int | None, name: str) -> bytes:
    digits = text.strip()
    try:
        raw = bytes.fromhex(digits) if " " not in digits else b"?"
    except ValueError:
        raw = b"?"
    if raw.hex() != digits.lower() or (size is not None and len(raw) != size):
        wanted = "hex digits" if size is None else f"{2 * size} hex digits"
        raise InputError(f"{name} must be {wanted}, not {text[:80]!r}")
    return raw


def _node(info: NodeInfo) -> Json:
    return {"id": info.id.hex(), "address": str(info.address)}


def _item(item: Item) -> Json:
    facts: Json = {
        "value": _text(item.value),
        "bencoded": item.encoded.hex(),
        "mutable": isinstance(item, MutableItem),
    }
    if isinstance(item, MutableItem):
        facts |= {
            "seq": item.seq,
            "key": item.key.hex(),
            "salt": item.salt.hex(),
            "signature": item.signature.hex(),
        }
    return facts


def _stored(stored: Stored) -> Json:
    return {
        "target": stored.target.hex(),
        "stored": [_node(info) for info in stored.stored],
        "refused": [{**_node(info), "code": code} for info, code in stored.refused.items()],
        "silent": stored.silent,
    }


def _text(value: Value) -> object:
    """For people: text where it is text, else hex. `bencoded` is the exact value."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.hex()
    if isinstance(value, list):
        return [_text(item) for item in value]
    if isinstance(value, dict):
        return {str(_text(key)): _text(item) for key, item in value.items()}
    return value
