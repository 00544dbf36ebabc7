"""Which results come first. The rule: nothing counts that somebody else only claims. How healthy a
torrent is, is what we counted; who vouches for a title, is what was checked; and one key can fill a
page only by pushing its own entries down.

All of it is functions of plain values, so that the order can be found again as results come in:
`merge_hits` what is known of one torrent, `ranked` what is known of all.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from dht_torrent.search.record import TitleTrust
from dht_torrent.search.words import query_words, title_runs

POINTS: Final = 10.0
"""Of a publisher's key; its entries seen in `WINDOW` share them (eMule's Kad)."""
WINDOW: Final = 24 * 3600.0
"""Seconds."""
HALF_HEALTHY: Final = 10
"""Networks with peers that make a torrent half as healthy as one can be."""
UNKNOWN_HEALTH: Final = 1
"""Networks that a torrent counts as having until somebody looks: more than one without peers."""
MONTH: Final = 30.0
"""Days after which a torrent is half as fresh."""
MAX_VOUCHING: Final = 100
"""Keys that are remembered as vouching for one torrent."""

# The rank of a title, as Tribler has it.
_MISSED = 10.0
_POSITION = 5.0
_REMAINDER = 10.0
_NORMAL = 10.0

_TRUST = {
    TitleTrust.DIFFERS: 0.0,
    TitleTrust.UNVERIFIED: 0.0,
    TitleTrust.VERIFIED: 0.4,
    TitleTrust.STRONG: 0.7,
}
_ORDER = list(_TRUST)


@dataclass(frozen=True, slots=True)
class Hit:
    """What is known of one torrent that was found."""

    infohash: bytes
    title: str
    size: int | None = None
    published: float | None = None
    """Unix seconds, as its publisher has it."""
    trust: TitleTrust = TitleTrust.UNVERIFIED
    publisher: bytes | None = None
    """The key that vouches for this title; None while none was checked."""
    publishers: frozenset[bytes] = frozenset()
    """All keys that vouch for a title of it."""
    networks: int | None = None
    """Networks (/24, /48) with peers, as we counted them; None: nobody looked."""


@dataclass(frozen=True, slots=True)
class Ranked:
    hit: Hit
    score: float
    """0 to 1."""
    last: bool
    """It comes after all others: its publisher's points are spent, or its title is not its own."""
    alike: tuple[bytes, ...]
    """Infohashes of others with the same title and size under the same key."""


def merge_hits(one: Hit, other: Hit) -> Hit:
    """What is known of one torrent from two sources: the title that is vouched for best, all who
    vouch, and the most networks. In any order, and any number of times, the same.

    Raises ValueError for two torrents.
    """
    if one.infohash != other.infohash:
        raise ValueError("two torrents")
    best = max(one, other, key=_worth)
    everybody = sorted(one.publishers | other.publishers)[:MAX_VOUCHING]
    networks = [hit.networks for hit in (one, other) if hit.networks is not None]
    return replace(
        best, publishers=frozenset(everybody), networks=max(networks) if networks else None
    )


def ranked(
    query: str,
    hits: Iterable[Hit],
    *,
    now: float,
    points: Callable[[bytes], float],
    trusted: frozenset[bytes] = frozenset(),
    blocked: frozenset[bytes] = frozenset(),
) -> list[Ranked]:
    """All hits in order, the best first; of those which are alike only the best.

    `now` is in Unix seconds. `points` gives those of a key's entries (`SeenEntries.points`);
    `trusted` and `blocked` are keys that the user named.
    """
    words = query_words(query)
    best: dict[object, Ranked] = {}
    for hit in hits:
        if hit.publisher in blocked:
            continue
        share = 1.0
        is_trusted = hit.publisher in trusted
        if hit.publisher is not None and not is_trusted:
            share = min(points(hit.publisher), 1.0)
        score = combined(
            text=title_rank(words, title_runs(hit.title)),
            health=health(hit.networks),
            trust=title_trust(hit.trust, share, is_trusted=is_trusted),
            fresh=freshness(hit.published, now),
        )
        last = share < 1 or hit.trust is TitleTrust.DIFFERS
        new = Ranked(hit, score, last, ())
        key = _alike(hit)
        known = best.setdefault(key, new)
        if known is not new:
            first, second = sorted([known, new], key=_place)
            others = {*first.alike, *second.alike, second.hit.infohash} - {first.hit.infohash}
            best[key] = replace(first, alike=tuple(sorted(others)))
    return sorted(best.values(), key=_place)


def combined(*, text: float, health: float, trust: float, fresh: float) -> float:
    """One score of four, each from 0 to 1. The text decides most."""
    return text * (0.7 + 0.3 * health) * (0.85 + 0.15 * trust) * (0.95 + 0.05 * fresh)


def title_rank(query: Sequence[str], runs: Sequence[Sequence[str]]) -> float:
    """How well a title, given as its `title_runs`, has the words of a query in their order: 1 when
    it has nothing else.

    As Tribler does it: words of the title that are skipped count against it, more for the first
    words of the query than for the last; a missed word counts as ten; what is left over, little.
    """
    if not query:
        return 1.0
    left = list(range(len(runs)))
    at = 0
    last: int | None = None
    error = 0.0
    for place, word in enumerate(query):
        weight = _POSITION / (_POSITION + place)
        if last is not None and word in runs[last]:
            continue  # another part of the same run
        turned = left[at:] + left[:at]
        skipped = next((n for n, run in enumerate(turned) if word in runs[run]), None)
        if skipped is None:
            error += _MISSED * weight
            continue
        error += skipped * weight
        last = turned[skipped]
        at = left.index(last)
        left.remove(last)
    error += len(left) / (_REMAINDER + len(query))
    return _NORMAL / (_NORMAL + error)


def health(networks: int | None) -> float:
    """0 to 1 of the networks that have peers."""
    count = UNKNOWN_HEALTH if networks is None else networks
    return count / (count + HALF_HEALTHY)


def freshness(published: float | None, now: float) -> float:
    """0 to 1 of a date in Unix seconds. What is not said, or lies ahead, is not fresh: a date is a
    publisher's claim, and must not pay when it is absurd."""
    if published is None or published > now + WINDOW:
        return 0.0
    return 1 / (1 + max(now - published, 0.0) / 86400 / MONTH)


def title_trust(trust: TitleTrust, share: float, *, is_trusted: bool) -> float:
    """0 to 1 of who vouches for a title, and the points of its key. A key that the user trusts
    counts as whole when it was checked."""
    if is_trusted and trust in (TitleTrust.VERIFIED, TitleTrust.STRONG):
        return 1.0
    return _TRUST[trust] * min(max(share, 0.0), 1.0)


class SeenEntries:
    """How many torrents each publisher's key was seen with lately. A key with more than ten has
    less than a point for each, and its entries come last; new keys are free, so that this keeps
    down only who does not bother.

    Full, it forgets the key that was seen longest ago.
    """

    MAX_KEYS: Final = 2000
    MAX_ENTRIES: Final = 50
    """Of one key: beyond this, its points do not get less."""

    def __init__(self) -> None:
        self._keys: OrderedDict[bytes, OrderedDict[bytes, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._keys)

    def note(self, publisher: bytes, infohash: bytes, now: float) -> None:
        """An entry of this key was found, and checked."""
        entries = self._keys.setdefault(publisher, OrderedDict())
        self._keys.move_to_end(publisher)
        if len(self._keys) > self.MAX_KEYS:
            self._keys.popitem(last=False)
        entries[infohash] = now
        entries.move_to_end(infohash)
        if len(entries) > self.MAX_ENTRIES:
            entries.popitem(last=False)

    def points(self, publisher: bytes, now: float) -> float:
        """Points for each of its entries."""
        entries = self._keys.get(publisher)
        while entries and next(iter(entries.values())) <= now - WINDOW:
            entries.popitem(last=False)
        return POINTS / max(len(entries or ()), 1)


def _worth(hit: Hit) -> tuple[object, ...]:
    """Total, so that the best of many does not depend on the order they come in."""
    return (
        _ORDER.index(hit.trust),
        hit.publisher or b"",
        hit.title,
        -1 if hit.size is None else hit.size,
        -1 if hit.published is None else hit.published,
    )


def _alike(hit: Hit) -> object:
    """Equal for what is one line: only a key that was checked can be held to its titles."""
    if hit.publisher is None or hit.size is None:
        return hit.infohash
    return hit.publisher, query_words(hit.title), hit.size


def _place(result: Ranked) -> tuple[bool, float, bytes]:
    return result.last, -result.score, result.hit.infohash
