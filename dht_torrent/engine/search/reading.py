"""What one search reads of the index. The rule: whatever strangers have written there, it reads at
most `max_gets` slots, fewer when it has found something (`choice.most_reads`), and stops when there
is enough.

The root of the word that is probably the rarest is read first; where it is not rare, those of the
others, side by side; where all are common, the trees of pairs of them; then the smallest of these
trees to its end. The beginning of a word is looked up in the dictionary first. Without a word, the
trees of the days or of the size are read. See `search.choice` for the words.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import trio

from dht_torrent.config import SearchConfig
from dht_torrent.engine.search.fits import Fits
from dht_torrent.engine.search.tree import Trees
from dht_torrent.errors import NoReply
from dht_torrent.search.choice import (
    Key,
    first_keys,
    more_keys,
    most_reads,
    pair,
    pair_keys,
    reading_order,
    root_of,
)
from dht_torrent.search.codes import size_digits, word_digits
from dht_torrent.search.label import Index, Label, day_root
from dht_torrent.search.node import EPOCH_2026, Entry, Posting, TrieNode, WordEntry

DAY: Final = 86_400

Take = Callable[[Sequence[Posting]], Awaitable[bool]]
"""Takes entries that were found, when there is room for them. True: there is enough."""


@dataclass(slots=True)
class SearchCost:
    """What a search took."""

    gets: int = 0
    """Lookups for slots, or for what had been read a short while ago."""
    rounds: int = 0
    """The longest chain of reads of which each had to wait for the one before."""
    records: int = 0
    """Publishers' records that were looked up."""


class IndexReader:
    """Reads the index for one search."""

    def __init__(
        self,
        trees: Trees,
        fits: Fits,
        config: SearchConfig,
        take: Take,
        cost: SearchCost,
        *,
        counts: Mapping[Key, int],
        now: float,
    ) -> None:
        """`counts`: how common words and pairs are, as far as that is known (`keys_of`); `now` is
        Unix time."""
        self.counted: dict[Key, int] = {}
        """How common they were found to be."""
        self._trees = trees
        self._fits = fits
        self._config = config
        self._take = take
        self._cost = cost
        self._counts = dict(counts)
        self._now = now
        self._nodes: dict[Key, TrieNode] = {}
        self._fitting: set[bytes] = set()
        """The torrents whose entries fit ..."""
        self._with_entries = 0
        """... and in how many nodes they were."""
        self._is_enough = False
        self._most = config.max_gets
        """Lookups at most, all in all."""

    async def run(self) -> None:
        """Hand all that fits to `take`, until there is enough or nothing more to read."""
        fits = self._fits
        if fits.words:
            await self._read_words(fits.words)
        elif fits.start is not None:
            await self._read_dictionary(fits.start)
        elif self._prefers_days():
            await self._read_days()
        elif fits.codes:
            start, end = size_digits(fits.codes[0]), size_digits(fits.codes[-1])
            gets = self._config.max_gets
            await self._scan(Label(Index.SIZES, b""), start, end, self._found, gets)

    async def _read_words(self, words: Sequence[str]) -> None:
        counts = self._counts
        await self._read_roots(first_keys(words, counts))
        if not self._is_enough and (more := more_keys(words, counts, len(self._fitting))):
            await self._read_roots(more)
        if not self._is_enough and (pairs := pair_keys(words, counts)):
            await self._read_roots(pairs)
        for key in reading_order(words, counts):
            if key not in self.counted:
                await self._read_roots([key])
            await self._walk_key(key)

    async def _read_dictionary(self, start: str) -> None:
        words: dict[str, int] = {}

        async def note(entries: Sequence[Entry]) -> bool:
            words.update(
                (entry.word, entry.frequency) for entry in entries if isinstance(entry, WordEntry)
            )
            return False

        try:
            digits = word_digits(start)
        except ValueError:
            return  # nothing is published that begins so
        config = self._config
        self._most = min(config.max_gets, config.prefix_gets + config.prefix_words)
        top = Label(Index.DICTIONARY, b"")
        await self._scan(top, digits, digits, note, config.prefix_gets)
        # The word itself, then those that most titles have. That is what publishers say, and the
        # roots show whether it is true.
        order = sorted(words, key=lambda word: (word != start, -words[word], word))
        keys: list[Key] = [(word,) for word in order[: config.prefix_words]] or [(start,)]
        await self._read_roots(keys)
        for key in sorted(keys, key=lambda key: (self.counted.get(key, 0), key)):
            await self._walk_key(key)

    def _prefers_days(self) -> bool:
        """Whether the trees of days are the shorter way. Sizes have one large tree, days many."""
        since = self._fits.query.since
        if since is None:
            return False
        return not self._fits.codes or self._now - since <= self._config.gets_at_once * DAY

    async def _read_days(self) -> None:
        """Those since then, the newest first."""
        since = self._fits.query.since
        assert since is not None
        last = int(self._now) // DAY
        oldest = last - self._config.day_entries
        first = max(int(min(max(since, EPOCH_2026), self._now)) // DAY, oldest)
        days = [Label(Index.DAYS, day_root(day * DAY)) for day in range(last, first - 1, -1)]
        at_once = self._config.gets_at_once
        while days and not self._is_enough:
            some, days = days[:at_once], days[at_once:]
            for label, node in (await self._read(some)).items():
                await self._walk(label, node)

    # -- reading --------------------------------------------------------------------------------

    async def _read_roots(self, keys: Sequence[Key]) -> None:
        labels = {label_of(key): key for key in keys}
        nodes = await self._read(list(labels))
        for label, key in labels.items():
            node = nodes.get(label)
            if node is not None:
                self._nodes[key] = node
            self._counts[key] = self.counted[key] = node.count if node is not None else 0

    async def _read(self, labels: Sequence[Label]) -> dict[Label, TrieNode]:
        """Roots, side by side; their entries are taken as they come."""
        left = self._most - self._cost.gets
        nodes: dict[Label, TrieNode] = {}

        async def read(label: Label) -> None:
            try:
                node = await self._trees.read(label, first=True)
            except NoReply:
                return
            if node is not None:
                nodes[label] = node
                await self._found(node.entries)

        async with trio.open_nursery() as nursery:
            for label in labels:
                left -= (price := self._trees.lookups(label))
                if left < 0:
                    break
                self._cost.gets += price
                nursery.start_soon(read, label)
        self._cost.rounds += 1
        return {label: nodes[label] for label in labels if label in nodes}

    async def _walk_key(self, key: Key) -> None:
        node = self._nodes.get(key)
        if node is not None:
            await self._walk(label_of(key), node)

    async def _walk(self, label: Label, root: TrieNode) -> None:
        """All that is below a root that was read; as far as it is worth it."""
        before, done = self._cost.gets, 0
        rounds = 0
        while not root.is_leaf and not self._is_enough:
            left = min(self._most, most_reads(len(self._fitting))) - before
            if left <= done:
                break
            # What it has read before is at hand now, and costs nothing.
            walked = await self._trees.walk(
                label, self._found, gets=left, known=root, first=True, useful=self._useful_reads
            )
            has_read_more = walked.gets > done  # or the next one takes more than what is left
            done, rounds = walked.gets, walked.rounds
            if walked.is_whole or not has_read_more:
                break
        self._cost.gets += done
        self._cost.rounds += rounds

    def _useful_reads(self) -> int:
        """How many nodes to read side by side: no more than it probably takes to find what is
        missing, if the next ones have as much as those before."""
        missing = self._fits.query.limit - len(self._fitting)
        if missing <= 0 or not self._fitting:
            return self._config.gets_at_once  # some of it was not true; or nobody knows
        return -(-missing * self._with_entries // len(self._fitting))

    async def _scan(
        self,
        top: Label,
        start: bytes,
        end: bytes,
        emit: Callable[[Sequence[Entry]], Awaitable[bool]],
        gets: int,
    ) -> None:
        try:
            walked = await self._trees.scan(top, start, end, emit, gets=gets, first=True)
        except NoReply:
            return
        self._cost.gets += walked.gets
        self._cost.rounds += walked.rounds

    async def _found(self, entries: Sequence[Entry]) -> bool:
        fitting = [one for one in entries if isinstance(one, Posting) and self._fits.may_be(one)]
        self._with_entries += 1
        self._fitting.update(one.infohash for one in fitting)
        self._is_enough = await self._take(fitting)
        return self._is_enough


def keys_of(words: Sequence[str]) -> list[Key]:
    """The words, and all pairs of them."""
    singles: list[Key] = [(word,) for word in words]
    return [*singles, *(pair(one, other) for one, other in combinations(words, 2))]


def label_of(key: Key) -> Label:
    """The root of the tree of a word, or of a pair."""
    return Label(Index.PAIRS if len(key) > 1 else Index.WORDS, root_of(key))
