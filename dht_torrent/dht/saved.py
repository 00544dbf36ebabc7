"""What a DHT node keeps over a restart: its id, and where good contacts were. The rule: anything
may be in a saved state; what can be used of it is used, and nothing of it is an error.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from dht_torrent import bencode
from dht_torrent.bencode import Value
from dht_torrent.errors import BencodeError
from dht_torrent.ids import Address, NodeId, address_from_compact, parse_node_id

MAX_STATE: Final = 64 * 1024
"""Bytes of saved state we care to read; 300 contacts take 8 KB."""


class SavedState(NamedTuple):
    """What can be used of a saved state."""

    node_id: NodeId | None
    contacts: list[Address]
    damaged: bool = False
    """Whether part of it could not be used."""


def encode_state(node_id: NodeId, contacts: Iterable[Address]) -> bytes:
    """The state to save; `decode_state` is the inverse."""
    compact: list[Value] = [address.compact() for address in contacts]
    return bencode.encode({b"id": node_id, b"nodes": compact})


def decode_state(state: bytes) -> SavedState:
    """Raises nothing, whatever `state` holds."""
    try:
        saved = bencode.decode(state, max_depth=3, max_tokens=2000, max_size=MAX_STATE)
    except BencodeError:
        return SavedState(None, [], damaged=True)
    if not isinstance(saved, dict):
        return SavedState(None, [], damaged=True)
    node_id: NodeId | None = None
    contacts: list[Address] = []
    damaged = False
    try:
        node_id = parse_node_id(saved.get(b"id"))
        nodes = saved.get(b"nodes")
        raws = nodes if isinstance(nodes, list) else []
        contacts = [address_from_compact(raw) for raw in raws if isinstance(raw, bytes)]
    except ValueError:
        damaged = True
    return SavedState(node_id, [one for one in contacts if one.is_usable], damaged)
