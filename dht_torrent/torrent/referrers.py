"""Who names peers answers for them: the more of them are there, the more of its others are tried.

Any peer of a swarm may name thousands of addresses (BEP 11). Each is worth a dial only as far as
the word of its referrer is worth something: a few are tried on credit, one by one until one of them
was there, and two more for each that was. Beyond that one is tried now and then, ever more seldom
while no peer is there.
"""

from __future__ import annotations

from collections import OrderedDict

CREDIT = 5
"""Addresses of one referrer that may be in vain, or under way, before any was not."""
UNPROVEN = 1
"""Under way at a time until one has worked: a few liars must not occupy all dials."""
REWARD = 2
"""As many more for each that worked: of what honest peers name, more than half may have left."""
LONGEST_REST = 15 * 60.0
"""Seconds between two dials for a referrer all of whose addresses are in vain."""
MAX_REFERRERS = 256
"""Remembered; the one that was heard of longest ago is forgotten."""


class _Referrer:
    __slots__ = ("doubts", "failed", "rests_until", "under_way", "worked")

    def __init__(self) -> None:
        self.worked = 0
        self.failed = 0
        self.under_way = 0
        self.doubts = 0  # failures in a row beyond its credit
        self.rests_until = float("-inf")

    @property
    def debt(self) -> int:
        return self.failed + self.under_way - REWARD * self.worked


class Referrers:
    """Those of one torrent, each by a name of the caller's."""

    def __init__(self) -> None:
        self._referrers: OrderedDict[str, _Referrer] = OrderedDict()
        self.under_way = 0
        """Dials of all of them."""

    def __len__(self) -> int:
        return len(self._referrers)

    def debt(self, name: str) -> int:
        """How much was tried in vain on its word, less what was not: who has least comes first."""
        referrer = self._referrers.get(name)
        return referrer.debt if referrer is not None else 0

    def not_before(self, name: str) -> float | None:
        """When one of its addresses may be dialled; None: not until another one is settled."""
        referrer = self._referrers.get(name)
        if referrer is None:
            return float("-inf")
        if not referrer.worked and referrer.under_way >= UNPROVEN:
            return None
        if referrer.debt < CREDIT:
            return float("-inf")
        return None if referrer.under_way else referrer.rests_until

    def dialled(self, name: str) -> None:
        """One of its addresses is being dialled. Say `settled` for each."""
        referrer = self._referrers.get(name)
        if referrer is None:
            referrer = self._referrers[name] = _Referrer()
        self._referrers.move_to_end(name)
        if len(self._referrers) > MAX_REFERRERS:
            self._referrers.popitem(last=False)
        referrer.under_way += 1
        self.under_way += 1

    def settled(self, name: str, now: float, worked: bool | None, rest: float) -> None:
        """That dial is over. `worked`: did a peer answer; None tells nothing. `rest`: seconds
        before the next one when its credit is used up; doubles with each further failure."""
        self.under_way -= 1
        referrer = self._referrers.get(name)
        if referrer is None or not referrer.under_way:
            return  # it was forgotten meanwhile
        referrer.under_way -= 1
        if worked:
            referrer.worked += 1
            referrer.doubts = 0
            referrer.rests_until = float("-inf")
        elif worked is not None:
            referrer.failed += 1
            if referrer.failed - REWARD * referrer.worked >= CREDIT:
                pause = min(rest * 2.0 ** min(referrer.doubts, 30), LONGEST_REST)
                referrer.doubts += 1
                referrer.rests_until = now + pause
