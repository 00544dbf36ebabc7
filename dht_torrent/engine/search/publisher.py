"""Keeps what we publish in the index: each torrent's signed record, and its entries in the trees of
its words, of pairs of them, of all words, of its day and its size; and where its sketch is known,
in the trees of what it is like.

The rule: what is to be where, and when somebody looks next, is in the catalogue's outbox, so it
survives a restart; and one entry's trouble is that of no other. Entries come in the order in which
they are due, at the rate the meter allows; each is looked at every hour, because nodes forget what
was not put for two, and is renewed three times in its life of a day.

How common a word is shows when its tree is read. What has become common gets pairs with other
words, and what is more than full is left to others (`search.choice`).
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import trio

from dht_torrent.catalogue import Entry, OutboxEntry
from dht_torrent.config import SearchConfig
from dht_torrent.dht.items import SigningKey
from dht_torrent.engine.faults import Faults
from dht_torrent.engine.search.catalogue import LocalCatalogue
from dht_torrent.engine.search.records import Records
from dht_torrent.engine.search.tree import Trees
from dht_torrent.engine.wakeup import AutoResetEvent
from dht_torrent.errors import DhtTorrentError, InputError, StorageError
from dht_torrent.search.choice import (
    Key,
    is_drawn,
    is_listed,
    key_of,
    keys_of_title,
    root_of,
    stage,
)
from dht_torrent.search.codes import size_code
from dht_torrent.search.label import Index, Label, day_root, tree_root
from dht_torrent.search.node import (
    MAX_HIDDEN,
    Posting,
    WordEntry,
    hidden_word,
    minutes_at,
    with_key,
)
from dht_torrent.search.node import Entry as IndexEntry
from dht_torrent.search.record import (
    PublisherRecord,
    decode_sketches,
    make_record,
    record_salt,
    record_target,
    record_value,
)
from dht_torrent.search.similar import Traits
from dht_torrent.search.sketch import tree_keys
from dht_torrent.search.titles import preview_of
from dht_torrent.search.trie import is_shown
from dht_torrent.search.words import title_words

logger = logging.getLogger(__name__)

RECORD: Final = "record"
"""In the outbox, the tree of what is in none: the publisher's record."""
DAY: Final = 86_400
BATCH: Final = 64
"""Entries taken from the outbox at a time."""
COUNTED: Final = 1000
"""Entries that are due are counted up to this."""
TOGETHER: Final = 50
"""Entries of one tree that are written by one task, one after the other."""
IDLE: Final = 30.0
"""Seconds between two looks whether something is due ..."""
SOON: Final = 1.0
"""... and as long as there is something new, which is due within seconds (`_LATER`)."""
_INDEXES: Final = {index.code.decode(): index for index in Index}
# What is found by more people comes first: in seconds after the record.
_LATER: Final = {"w": 0, "p": 1, "y": 2, "z": 2, "d": 3, "r": 4, "c": 4, "n": 4}
MAX_FAILING: Final = 100_000


class Publisher:
    """Publishes under one key. `run` does the work."""

    def __init__(
        self,
        catalogue: LocalCatalogue,
        trees: Trees,
        records: Records,
        key: SigningKey,
        config: SearchConfig,
        *,
        rng: random.Random,
        clock: Callable[[], float],
        faults: Faults,
    ) -> None:
        """`trees` are over slots to be written to; `clock` gives Unix time."""
        self._catalogue = catalogue
        self._trees = trees
        self._records = records
        self._key = key
        self._config = config
        self._rng = rng
        self._clock = clock
        self._faults = faults
        self._news = AutoResetEvent()
        self._ended: set[bytes] = set()
        """Torrents that are not published any more, while their entries may be under way."""
        self._failing: dict[OutboxEntry, str] = {}
        self._made: dict[bytes, tuple[PublisherRecord, Posting]] = {}
        """What is said of the torrents of a batch: each has many entries in it."""
        self._stages: dict[bytes, bytes] = {}
        """Of each torrent, how common its words were when it was last planned: a byte for each of
        `PublisherRecord.words`, see `search.choice.stage`."""
        self._planned = float("-inf")
        """When something new was put into the outbox, in Unix time."""
        self.trouble: str | None = None
        """Why it does not go well, in a line."""
        self.entries = 0
        """In the outbox ..."""
        self.due = 0
        """... and so many of them to be written by now, as of the last look; at most `COUNTED`."""

    async def add(self, infohash: bytes, *, anew: bool = False) -> None:
        """Publish a torrent whose entry in the catalogue says what it is, or see that all of it is
        in the outbox. `anew`: its record may have changed, and is put again at once. Raises
        StorageError."""
        self._ended.discard(infohash)
        self._made.pop(infohash, None)
        entry = await self._catalogue.get(infohash)
        if entry is not None:
            await self._plan(record_of(entry, self._clock(), await self._traits(entry)))
            if anew:
                now = self._planned = self._clock()
                await self._catalogue.put_outbox([OutboxEntry(infohash, RECORD, b"", int(now))])
            self._news.set()

    async def remove(self, infohash: bytes) -> None:
        """Publish it no more; what others hold of it expires. Raises StorageError."""
        self._ended.add(infohash)
        self._stages.pop(infohash, None)
        await self._catalogue.remove_outbox(infohash)
        self._failing = {row: why for row, why in self._failing.items() if row.infohash != infohash}
        self._tell()

    async def run(self) -> None:
        """A service: writes what is due."""
        while True:
            rows: list[OutboxEntry] = []
            self._made.clear()
            try:
                rows = await self._catalogue.due(int(self._clock()), COUNTED)
                self.due = len(rows)
                self.entries = (await self._catalogue.summary()).outbox
                await self._write(rows[:BATCH])
            except StorageError as error:
                self.trouble = f"the catalogue cannot be used: {error}"
                logger.warning("publishing waits: %s", self.trouble)
                await trio.sleep(self._config.retry_interval)
                continue
            if not rows:
                is_new = self._clock() < self._planned + max(_LATER.values()) + SOON
                with trio.move_on_after(SOON if is_new else IDLE):
                    await self._news.wait()

    # -- what is to be where --------------------------------------------------------------------

    async def _plan(self, record: PublisherRecord) -> None:
        """Bring the outbox in line with what the title is to be published under."""
        now = self._clock()
        infohash = record.infohash
        wanted = {(RECORD, b"")} | {(tree, root) for tree, root in await self._places(record, now)}
        there = {(row.tree, row.root) for row in await self._catalogue.outbox(infohash)}
        if infohash in self._ended:
            self._stages.pop(infohash, None)
            return
        if there - wanted:
            await self._catalogue.remove_outbox(infohash, sorted(wanted))
        if new := sorted(wanted - there):
            self._planned = now
            await self._catalogue.put_outbox(
                OutboxEntry(infohash, tree, root, int(now) + _LATER.get(tree, 0))
                for tree, root in new
            )

    async def _places(self, record: PublisherRecord, now: float) -> list[tuple[str, bytes]]:
        words, infohash = record.words, record.infohash
        counts = await self._counts((word,) for word in words)
        self._stages[infohash] = bytes([stage(counts.get((word,), 0)) for word in words])
        pairs = [key for key in keys_of_title(infohash, words, counts) if len(key) > 1]
        keys = keys_of_title(infohash, words, counts | await self._counts(pairs))
        places = [("p" if len(key) > 1 else "w", root_of(key)) for key in keys]
        places += [("d", word.encode()) for word in words if is_listed(infohash, word, counts)]
        if now - record.published < self._config.day_entries * DAY:
            places.append(("y", day_root(record.published)))
        alike = record.content, record.named, record.listed
        places += [(code, tree_root(tree)) for code, tree, _ in tree_keys(*alike)]
        places += [("r", file_id) for file_id in record.file_ids]
        return [*places, ("z", b"")]

    async def _counts(self, keys: Iterable[Key]) -> dict[Key, int]:
        roots = {root_of(key): key for key in keys}
        known = await self._catalogue.counts(list(roots), int(self._clock()) - DAY)
        return {roots[root]: count for root, count in known.items()}

    # -- writing --------------------------------------------------------------------------------

    async def _write(self, rows: Sequence[OutboxEntry]) -> None:
        """Side by side, but one tree in one task: else we would compete with ourselves."""
        groups: dict[tuple[str, bytes], list[OutboxEntry]] = {}
        for row in rows:
            name = (row.tree, row.infohash if row.tree == RECORD else _root(row))
            groups.setdefault(name, []).append(row)
        limit = trio.Semaphore(self._config.lookups_at_once)
        failed: list[StorageError] = []

        async def one(group: Sequence[OutboxEntry]) -> None:
            async with limit:
                try:
                    await self._write_group(group)
                except StorageError as error:
                    failed.append(error)  # raised outside, or the nursery would wrap it

        async with trio.open_nursery() as nursery:
            for group in groups.values():
                for start in range(0, len(group), TOGETHER):
                    nursery.start_soon(one, group[start : start + TOGETHER])
        if failed:
            raise failed[0]

    async def _write_group(self, group: Sequence[OutboxEntry]) -> None:
        made = {row: await self._make(row.infohash) for row in group}
        records = {row: one for row, one in made.items() if one is not None}
        if not records:
            return
        stored, why = False, "a bug in dht_torrent"
        with self._faults.confined(f"publishing in tree {group[0].tree!r}"):
            stored, why = await self._try(group[0].tree, records)
        await self._note(list(records), stored, why)

    async def _make(self, infohash: bytes) -> tuple[PublisherRecord, Posting] | None:
        """What we say of a torrent, in its record and in its entries. None for one that is not to
        be published any more: nothing of it is in the outbox then. Raises StorageError."""
        made = self._made.get(infohash)
        if made is None or infohash in self._ended:
            entry = await self._catalogue.get(infohash)
            if entry is None or infohash in self._ended:
                await self._catalogue.remove_outbox(infohash)
                return None
            now = self._clock()
            try:
                record = record_of(entry, now, await self._traits(entry))
            except InputError as error:
                logger.warning("%s is not published: %s", entry.title, error)
                await self._catalogue.remove_outbox(infohash)
                return None
            made = record, posting_of(record, self._key.public, now)
            self._made[infohash] = made
        return made

    async def _traits(self, entry: Entry) -> Traits | None:
        """What it is like, if that is known. Raises StorageError."""
        raw = (await self._catalogue.sketches([entry.infohash])).get(entry.infohash)
        return decode_sketches(raw, entry.title, entry.size, entry.files) if raw else None

    async def _try(
        self, tree: str, records: Mapping[OutboxEntry, tuple[PublisherRecord, Posting]]
    ) -> tuple[bool, str]:
        """Whether enough nodes have it; and if not, why."""
        try:
            if tree == RECORD:
                ((record, _),) = records.values()
                stored = await self._put_record(record)
            else:
                stored = await self._renew(records)
        except DhtTorrentError as error:
            return False, str(error)
        return stored, "too few nodes stored it"

    async def _put_record(self, record: PublisherRecord) -> bool:
        salt = record_salt(record.infohash)
        stored = await self._records.put(self._key, salt, record_value(record))
        await self._plan(record)
        return stored

    async def _renew(self, records: Mapping[OutboxEntry, tuple[PublisherRecord, Posting]]) -> bool:
        row = next(iter(records))
        index, root = _INDEXES[row.tree], _root(row)
        top = Label(index, root)
        now = self._clock()
        asked = [each.root for each in records] if index is Index.DICTIONARY else [root]
        counts = await self._catalogue.counts(asked, int(now) - DAY)
        known = counts.get(root, 0)
        entries: list[IndexEntry] = []
        for each, (record, posting) in records.items():
            if index in (Index.WORDS, Index.PAIRS):
                key = key_of(root)
                if not is_drawn(record.infohash, key, {key: known}):
                    await self._plan(record)  # it has become common since
                    continue
            if index is Index.DICTIONARY:
                word = each.root.decode()
                if not is_listed(record.infohash, word, {(word,): counts.get(each.root, 0)}):
                    await self._plan(record)
                    continue
                frequency = max(counts.get(each.root, 1), 1).bit_length()
                entries.append(WordEntry(each.root.decode(), frequency, minutes_at(now)))
            elif index.has_sketches:
                key_there = _tree_key(record, row)
                if key_there is None:
                    await self._plan(record)  # its sketch is not what it was
                    continue
                entries.append(with_key(posting._replace(minutes=minutes_at(now)), key_there))
            else:
                entries.append(posting._replace(minutes=minutes_at(now)))
        age = int(self._config.renew_interval) // 60
        if not entries:
            return True
        stored = await self._trees.renew(top, entries, age=age)
        if index in (Index.WORDS, Index.PAIRS):
            node = await self._trees.read(top, first=True)
            if not is_shown(top, node, entries):
                stored &= await self._trees.renew(top, entries, age=age, anew=True)
            if node is None:
                return stored  # how common it is cannot be seen
            count = node.count
            await self._catalogue.remember_counts({root: count}, int(now))
            for record, _ in records.values():
                if self._is_outdated(record, root, known, count):
                    await self._plan(record)
        return stored

    def _is_outdated(self, record: PublisherRecord, root: bytes, known: int, count: int) -> bool:
        """Whether the tree with this root has so many postings now that a title is to be planned
        again. `known`: how many it had when one of ours was last looked at."""
        key = key_of(root)
        stages = self._stages.get(record.infohash)
        if len(key) > 1 or stages is None or key[0] not in record.words:
            return stage(count) != stage(known)
        # Not when another of our titles was: that one may have been planned since, this was not.
        return stages[record.words.index(key[0])] != stage(count)

    async def _note(self, rows: Sequence[OutboxEntry], stored: bool, why: str) -> None:
        """When to look at them again."""
        now, config = self._clock(), self._config
        noted: list[OutboxEntry] = []
        for row in rows:
            failures = 0 if stored else row.failures + 1
            pause = config.check_interval
            if not stored:
                pause = min(config.retry_interval * 2 ** min(row.failures, 20), pause)
            spread = self._rng.uniform(1 - config.check_spread, 1 + config.check_spread)
            due = int(now + pause * spread)
            name = row._replace(due=0, failures=0, depth=0)
            if row.infohash in self._ended:
                continue
            if stored:
                self._failing.pop(name, None)
            elif len(self._failing) < MAX_FAILING:
                self._failing[name] = why
            noted.append(row._replace(due=due, failures=failures))
        if noted:
            # What was taken out of the outbox meanwhile, by a new plan say, does not come back.
            await self._catalogue.renew_outbox(noted)
        self._tell()

    def _tell(self) -> None:
        if not self._failing:
            self.trouble = None
            return
        why = next(reversed(self._failing.values()))
        count = len(self._failing)
        noun = "entry" if count == 1 else "entries"
        self.trouble = f"{count} {noun} could not be written at the last attempt: {why}"


def record_of(entry: Entry, now: float, alike: Traits | None = None) -> PublisherRecord:
    """What we say of a torrent of ours, and of what it is like. Raises InputError for a title that
    cannot be published."""
    return make_record(
        entry.infohash,
        entry.title,
        size=entry.size or 0,
        files=entry.files or 0,
        published=entry.published if entry.published is not None else int(now),
        tags=entry.tags,
        alike=alike,
    )


def posting_of(record: PublisherRecord, publisher: bytes, now: float) -> Posting:
    """The entry of a torrent in the trees of its words, its day and its size."""
    preview = preview_of(record.title)
    shown = set(title_words(preview))
    hidden = [hidden_word(word) for word in record.words if word not in shown]
    return Posting(
        record.infohash,
        record_target(publisher, record.infohash),
        minutes_at(now),
        size_code(record.size),
        0,
        preview,
        tuple(hidden[:MAX_HIDDEN]),
    )


def _tree_key(record: PublisherRecord, row: OutboxEntry) -> bytes | None:
    """Where a torrent is in a tree of sketches; None: it is not."""
    for code, tree, key in tree_keys(record.content, record.named, record.listed):
        if (code, tree_root(tree)) == (row.tree, row.root):
            return key
    return None


def _root(row: OutboxEntry) -> bytes:
    """Of the tree that the entry is in: there is one dictionary for all words."""
    return b"" if row.tree in ("d", "z") else row.root
