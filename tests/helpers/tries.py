"""Whole trees, made at once, to compare with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dht_torrent.search.label import Label
from dht_torrent.search.node import Entry, TrieNode, digits_of, made_of
from dht_torrent.search.trie import Locate, parts


def grown(top: Label, entries: Iterable[Entry], room: int) -> dict[Label, TrieNode]:
    """The nodes of a tree whose leaves have room for so many entries."""
    nodes: dict[Label, TrieNode] = {}

    def grow(label: Label, leaf: TrieNode) -> None:
        if len(leaf.packed) <= room or label.is_deepest:
            nodes[label] = leaf
            return
        below = parts(label, leaf.packed)
        nodes[label] = TrieNode({d: len(part.packed).bit_length() for d, part in below.items()})
        for digit, part in below.items():
            grow(label.child(digit), part)

    grow(top, made_of(entries))
    return nodes


def linear(nodes: Mapping[Label, TrieNode], top: Label, key: bytes) -> Label:
    """Where a key belongs, found level by level from the root."""
    label = top
    while (node := nodes.get(label)) is not None and node.children and label.depth < len(key):
        label = label.child(key[label.depth])
    return label


def located(nodes: Mapping[Label, TrieNode | None], search: Locate) -> tuple[Label, int, int]:
    """Where the search ends, and how many rounds and reads it took."""
    rounds = reads = 0
    while labels := search.take():
        rounds += 1
        reads += len(labels)
        assert len(set(labels)) == len(labels)
        for label in labels:
            search.saw(label, nodes.get(label))
    return search.place, rounds, reads


def key_of(top: Label, entry: Entry) -> bytes:
    ((key, rest),) = made_of([entry]).packed.items()
    return digits_of(top.index, key, rest)
