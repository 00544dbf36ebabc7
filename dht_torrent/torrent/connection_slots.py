"""Which connection yields when a torrent, or the node, has as many as it may and another one comes.

The rule: who gives or takes blocks stays, who is new has time to show what it is good for, and the
better half always stays, so that no newcomers can make us drop all at once. Of the rest the least
useful yields, the newest first: who has waited long for its turn at a busy seed keeps its place in
line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from dht_torrent.config import TorrentConfig
from dht_torrent.ids import PeerKey

NEVER = float("-inf")


class Use(IntEnum):
    """What a connection is good for; the least comes first."""

    NONE = 0
    """Both sides have everything."""
    STALLS = 1
    """It lets us ask and does not answer, or asked for its turn and takes nothing."""
    SILENT = 2
    """Neither side has what the other wants, as far as they have said."""
    WANTS = 3
    """It wants what we have, and has nothing for us, while we need others to give."""
    WAITS = 4
    """It has what we need, and does not let us have it."""
    GAVE = 5
    """It gave us something once."""
    QUEUES = 6
    """We have everything, and it waits for its turn. Not its fault: it yields to no newcomer,
    only to those a starving download of the same node must dial."""
    TRADES = 7
    """It gives or takes blocks now. It never yields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionView:
    """What is to be known of a connection here."""

    key: PeerKey
    place: str
    """Its host, or the /64 of an IPv6 one."""
    crowded: bool = False
    """A place that may have several connections: this machine or its network."""
    dialled: bool = False
    connected_at: float
    gave_at: float = NEVER
    """When it last sent us a block, or a part of the metadata."""
    took_at: float = NEVER
    """When we last sent it a block."""
    interesting: bool = False
    """It has what we lack: pieces, or the metadata."""
    stalls: bool = False
    """It unchokes us, was asked, and does not answer."""
    wants: bool = False
    """It is interested in what we have."""
    served_since: float | None = None
    """Since when we unchoke it; None while we do not."""
    parting: bool = False
    """Both sides have everything."""


class ConnectionSlots:
    """The slots of one torrent. Remembers when a connection last yielded."""

    def __init__(self, config: TorrentConfig) -> None:
        self._config = config
        self._yielded_at = NEVER

    def kept(self, views: Iterable[ConnectionView], most: int) -> int:
        """Slots of `most` that only those we dial may take."""
        dialled = sum(view.dialled for view in views)
        return max(0, int(most * self._config.dialled_share) - dialled)

    def yielding(
        self,
        views: Sequence[ConnectionView],
        now: float,
        *,
        most: int,
        needy: bool,
        place: str | None = None,
        patience: float = 0.0,
        pressed: bool = False,
    ) -> list[tuple[Use, PeerKey]]:
        """The keys of connections that may yield now, each with its use, the least useful first.

        `needy`: we lack something of the torrent. `place`: where the one lives that wants the slot.
        `patience`: seconds more for each peer to show a block, under a limit on rates. `pressed`:
        the slot is for a download that starves, elsewhere in the node."""
        config = self._config
        window = config.use_window + patience
        uses = {view.key: _use(view, now, window, needy) for view in views}
        ranked = sorted(views, key=lambda view: (uses[view.key], -view.connected_at))
        starving = needy and all(
            now - view.gave_at > config.newcomer_grace + patience for view in views
        )
        paced = not starving and now - self._yielded_at < config.yield_interval
        found: list[tuple[Use, PeerKey]] = []
        slow = 0
        for view in ranked[: len(views) - len(views) // 2]:
            use = uses[view.key]
            is_new = now - view.connected_at < config.newcomer_grace + patience
            if use is Use.NONE:
                found.append((use, view.key))
            elif use is Use.TRADES or is_new or (use is Use.QUEUES and not pressed):
                continue
            elif use <= Use.SILENT or starving or pressed:
                found.append((use, view.key))
            elif not paced and not slow:
                # It may be worth something yet, and others give: one at a time.
                slow += 1
                found.append((use, view.key))
        if not found and place is not None:
            found = self._too_many_of_one_place(ranked, uses, most, place)
        return found

    def yielded(self, use: Use, now: float) -> None:
        """One of them was closed."""
        if use > Use.SILENT:
            self._yielded_at = now

    def _too_many_of_one_place(
        self,
        ranked: Sequence[ConnectionView],
        uses: dict[PeerKey, Use],
        most: int,
        place: str,
    ) -> list[tuple[Use, PeerKey]]:
        """On one machine or network a host may have several connections, but not keep all others
        out: beyond its share it yields to another one, however new it is, unless it trades."""
        share = max(1, int(most * self._config.place_share))
        counts = Counter(view.place for view in ranked if view.crowded)
        return [
            (uses[view.key], view.key)
            for view in ranked
            if view.crowded
            and view.place != place
            and counts[view.place] > share
            and uses[view.key] is not Use.TRADES
        ]


def _use(view: ConnectionView, now: float, window: float, needy: bool) -> Use:
    if view.parting:
        return Use.NONE
    if now - max(view.gave_at, view.took_at) <= window:
        return Use.TRADES
    if needy:
        if view.stalls:
            return Use.STALLS
        if view.gave_at > NEVER:
            return Use.GAVE
        if view.interesting:
            return Use.WAITS
        return Use.WANTS if view.wants else Use.SILENT
    if not view.wants:
        return Use.SILENT
    if view.served_since is not None and now - view.served_since > window:
        return Use.STALLS  # its turn goes by, and it takes nothing
    return Use.QUEUES
