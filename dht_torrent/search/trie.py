"""Prefix hash trees: what to read next, and how a node is split. The rule: whatever nodes say, and
whichever are missing, a lookup ends after a bounded number of reads.

The algorithms are those of the prefix hash tree (Ramabhadran et al., 2004) with these changes. A
digit has two bits. A tree of hashes is shallow and is entered at its root, whose hints say how deep
it is; a tree of words has long chains and is searched by depth, three reads side by side. Interior
nodes hold entries, too. Nodes get lost, as those who hold them leave: a child that its parent knows
of and nobody has is looked for further down.

On the way to a key, nodes are interior down to some depth; there is a leaf, or nothing; and below
there is nothing.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from dht_torrent.search.label import Index, Label
from dht_torrent.search.node import Entry, Packed, TrieNode, digits_of, made_of, minutes_of

PROBES: Final = 3
"""Reads side by side in a search by depth: each round leaves a quarter."""
FURTHER: Final = 2
"""Levels below a lost node that are looked at."""
MAX_LOST: Final = 2
"""Missing nodes below which a walk looks on. A vandal can claim any number of children."""
RENEWAL: Final = 8 * 60
"""Minutes after which an entry is written again: three times in its life."""
_CAREFUL: Final = 3
"""Rounds that follow hints, before a lookup distrusts them and searches by depth."""
_SHORT: Final = 24
"""Digits of a short key: a lookup of it begins with a look at its end, as there may be more below.
For a longer one that could cost a round."""
_FULL: Final = 12
"""Postings of which there are hardly so many in one leaf."""


class Hints:
    """Which nodes were met lately, so that the next lookup in their tree begins where it will
    probably end. What is here may be wrong, and costs a read then.

    It remembers `most` nodes. When there are more, the tree that was not used for the longest time
    is forgotten."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0
        self._trees: OrderedDict[tuple[Index, bytes], dict[bytes, bool]] = OrderedDict()
        """By tree and digits: whether it was a leaf."""

    def __len__(self) -> int:
        return self._count

    def saw(self, label: Label, node: TrieNode | None) -> None:
        """A label was read or written."""
        name = (label.index, label.root)
        tree = self._trees.get(name)
        if node is None or (node.is_leaf and not label.digits and label.index.is_hashed):
            # A root that is a leaf is where a lookup of a hash begins without hints.
            if tree is not None and tree.pop(label.digits, None) is not None:
                self._count -= 1
            return
        if tree is None:
            tree = self._trees[name] = {}
        self._trees.move_to_end(name)
        self._count += label.digits not in tree
        tree[label.digits] = node.is_leaf
        while self._count > self._most:
            _, forgotten = self._trees.popitem(last=False)
            self._count -= len(forgotten)

    def forget(self, top: Label) -> None:
        """Nothing is known of a tree."""
        self._count -= len(self._trees.pop((top.index, top.root), ()))

    def depth(self, top: Label, key: bytes) -> int | None:
        """Where the leaf of the key probably is, in the tree with this root."""
        tree = self._trees.get((top.index, top.root))
        if tree is None:
            return None
        for depth in range(len(key), -1, -1):
            is_leaf = tree.get(key[:depth])
            if is_leaf is not None:
                return depth if is_leaf else min(depth + 1, len(key))
        return None


class Locate:
    """Finds where a key belongs: the leaf, or where one would be.

    Read what `take` returns, side by side, tell `saw` of each, and so on until `take` returns
    nothing. `place` is the answer then. Of a key that is cut, it may be an interior node with all
    of the key's digits."""

    def __init__(
        self, top: Label, key: bytes, hint: int | None = None, *, writes: bool = False
    ) -> None:
        """`hint`: the depth at which to begin. `writes`: the place is to be written to, so it must
        have been read even when its parent says that nothing is there."""
        self._top = top
        self._key = key
        self._hint = hint if hint is None else min(hint, len(key))
        self._writes = writes
        self._rounds = 0
        self._depth = 0
        self._known: dict[int, TrieNode | None] = {}

    @property
    def place(self) -> Label:
        return self._at(self._depth)

    def take(self) -> list[Label]:
        """The labels to read now; none when the place is known."""
        depths = [depth for depth in self._next() if depth not in self._known]
        self._rounds += 1
        return [self._at(depth) for depth in depths]

    def saw(self, label: Label, node: TrieNode | None) -> None:
        """What was at a label: None for nothing."""
        self._known[label.depth] = node

    def _at(self, depth: int) -> Label:
        return self._top.at(self._key[:depth])

    def _next(self) -> list[int]:
        known, end = self._known, len(self._key)
        leaves = [depth for depth, node in known.items() if node is not None and node.is_leaf]
        if leaves:
            # Were there two, the higher one hides the other from those who come from the root.
            self._depth = min(leaves)
            return []
        # The place is from `low` to `high`. What is missing above an interior node was lost.
        low = 1 + max((depth for depth, node in known.items() if node is not None), default=-1)
        high = min((depth for depth in known if depth >= low), default=end + 1) - 1
        if low > end:
            self._depth = end
            return []
        self._depth = low
        above = known.get(low - 1)
        if above is not None and self._key[low - 1] not in above.children:
            return [low] if self._writes else []
        if low > high:
            return list(range(low + 1, min(low + FURTHER if low else 1, end) + 1))
        return self._probes(low, high)

    def _probes(self, low: int, high: int) -> list[int]:
        above = self._known.get(low - 1)
        is_hashed = self._top.index.is_hashed
        if not self._known:
            if self._hint is not None:
                return [self._hint]
            if is_hashed:
                return [0]
            if high <= _SHORT and high < self._top.index.levels:
                return sorted({high // 3, 2 * high // 3, high})
        elif self._rounds < _CAREFUL and (is_hashed or self._hint is not None):
            if above is None:
                return [high]  # the hint was too deep: probably by one
            if not is_hashed:
                return [depth for depth in (low, low + 1, low + 3) if depth <= high]
            return [
                min(low + _levels_below(above, self._key[low - 1], self._top.index.width), high)
            ]
        count = high - low + 1
        if count <= PROBES:
            return list(range(low, high + 1))
        return [low + (count + 1) * part // (PROBES + 1) - 1 for part in range(1, PROBES + 1)]


def _levels_below(node: TrieNode, digit: int, width: int) -> int:
    """How deep the tree under this child of a node probably is: 0 for a leaf."""
    entries, levels = 3 << node.children[digit] >> 2, 0
    while entries > _FULL:
        entries, levels = entries >> width, levels + 1
    return levels


class Walk:
    """Reads a part of a tree, breadth-first: all that is below a label and between two keys.

    Read what `take` returns, one by one or several side by side, and tell `saw` of each; until
    `is_done`."""

    def __init__(
        self,
        start: Label,
        *,
        first: bytes = b"",
        last: bytes = b"",
        most: int = 24,
        price: Callable[[Label], int] = lambda label: 1,
    ) -> None:
        """`first` and `last`: digits of keys, or their beginnings; what begins with them is
        included. The labels that `take` returns cost `most` lookups, at most; each its `price`."""
        self._first = first
        self._last = last
        self._left = most
        self._price = price
        self._queue = deque([start])
        self._reading = 0
        self._lost: deque[Label] = deque()
        """Children of what is missing. They are tried last: the parent may have lied."""
        self._trying: set[Label] = set()
        self._may_be_lost = MAX_LOST
        self._given: set[bytes] = set()
        self._failed = False

    @property
    def is_done(self) -> bool:
        queue = self._queue or self._lost
        waits = queue and self._may_pay(queue[0])
        return not (waits or self._reading or self._trying)

    @property
    def is_whole(self) -> bool:
        """Nothing that is known of was left out."""
        return not (self._queue or self._reading or self._failed)

    def take(self) -> Label | None:
        """The next label to read; None for now, or when it is done."""
        queue = self._queue or (self._lost if not self._reading else None)
        if not queue or not self._may_pay(queue[0]):
            return None  # and no other is read in its place: that would leave a hole
        label = queue.popleft()
        self._left -= self._price(label)
        if queue is self._queue:
            self._reading += 1
        else:
            self._trying.add(label)
        return label

    def saw(self, label: Label, node: TrieNode | None) -> list[Packed]:
        """What a label has; None for nothing. Returns the entries that are new."""
        was_tried = self._ends(label)
        if node is None:
            if not was_tried and not label.is_deepest and self._may_be_lost > 0:
                self._may_be_lost -= 1
                # Its parent knows of it, or it is where all begins: the tree may go on below.
                children = map(label.child, range(label.index.arity))
                self._lost.extend(child for child in children if self._meets(child))
            return []
        for digit in sorted(node.children):
            if self._meets(child := label.child(digit)):
                self._queue.append(child)
        new = []
        for key, rest in node.packed.items():
            if key not in self._given and self._is_between(label.index, key, rest):
                self._given.add(key)
                new.append((key, rest))
        return new

    def failed(self, label: Label) -> None:
        """A label could not be read."""
        if not self._ends(label):
            self._failed = True

    def _may_pay(self, label: Label) -> bool:
        """Whether it may still be read."""
        return 0 < self._left >= self._price(label)

    def _ends(self, label: Label) -> bool:
        """A label is no longer being read. Returns whether it was one of the children of what is
        missing."""
        if label in self._trying:
            self._trying.discard(label)
            return True
        self._reading -= 1
        return False

    def _meets(self, label: Label) -> bool:
        """Whether keys below the label can be in the range."""
        digits, first, last = label.digits, self._first, self._last
        return (
            first[: len(digits)] <= digits[: len(first)]
            and digits[: len(last)] <= last[: len(digits)]
        )

    def _is_between(self, index: Index, key: bytes, rest: bytes) -> bool:
        first, last = self._first, self._last
        if not first and not last:
            return True
        digits = digits_of(index, key, rest)
        return first <= digits[: len(first)] and digits[: len(last)] <= last


def common(first: bytes, last: bytes) -> bytes:
    """The digits that all keys between two begin with."""
    length = 0
    for one, other in zip(first, last, strict=False):
        if one != other:
            break
        length += 1
    return first[:length]


def parts(label: Label, entries: Mapping[bytes, bytes]) -> dict[int, TrieNode]:
    """The entries of a node by its children, as leaves."""
    leaves: dict[int, dict[bytes, bytes]] = {}
    for key, rest in entries.items():
        digit = digits_of(label.index, key, rest)[label.depth]
        leaves.setdefault(digit, {})[key] = rest
    return {digit: TrieNode(packed=leaves[digit]) for digit in sorted(leaves)}


def later(entries: Mapping[bytes, bytes], than: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Those entries that the others have not, or only an earlier version of."""
    return {key: rest for key, rest in entries.items() if than.get(key, b"") < rest}


def due(
    entries: Mapping[bytes, bytes], node: TrieNode | None, age: int = RENEWAL
) -> dict[bytes, bytes]:
    """Those entries, as they would be now, that are missing in a leaf or old there. `age`: in
    minutes."""
    if node is None:
        return dict(entries)
    there = node.packed
    return {
        key: rest
        for key, rest in entries.items()
        if key not in there or minutes_of(rest) - minutes_of(there[key]) >= age
    }


def is_shown(top: Label, root: TrieNode | None, entries: Iterable[Entry]) -> bool:
    """Whether the root of a tree has all of these, or leads on towards them."""
    if root is None:
        return False
    return all(
        key in root.packed or digits_of(top.index, key, rest)[0] in root.children
        for key, rest in made_of(entries).packed.items()
    )


def below(
    label: Label, entries: Mapping[bytes, bytes]
) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
    """The entries whose keys are below the label, and the others."""
    inside: dict[bytes, bytes] = {}
    outside: dict[bytes, bytes] = {}
    for key, rest in entries.items():
        is_inside = digits_of(label.index, key, rest).startswith(label.digits)
        (inside if is_inside else outside)[key] = rest
    return inside, outside
