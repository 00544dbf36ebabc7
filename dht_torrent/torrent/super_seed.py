"""Super seeding (BEP 16): pretend to have nothing, offer each peer a piece or two, and the next one
only when another peer shows one of those. So each piece leaves the first seed about once.

The rule: what a peer claims never earns anything for that peer. A piece counts as *spread* only
when we have sent all of it to one peer, and then another one, at another host, which was not
offered it, says that it has it now. No peer starves for want of such a witness: where there can be
none, it is enough that the piece was sent; where witnesses could be and say nothing, patience ends.

What is offered: of the pieces that are *fresh* (no peer is being given them, nor has been), the
rarest; else, to a peer that has waited, whatever it lacks.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Protocol

from dht_torrent.config import TorrentConfig
from dht_torrent.geometry import BLOCK, Geometry
from dht_torrent.ids import PeerKey
from dht_torrent.torrent.pieces import Bitfield

AT_ONCE = 2
"""Pieces a peer is offered at a time (libtorrent): it has one from us while another peer has the
one before from it. With one alone, eight leeches took a third longer."""
WINDOW = 1024
"""Fresh pieces, in random order, of which the rarest is taken: bounds the cost of an offer."""
RESERVED = 10.0
"""Seconds a piece waits for the one peer it was offered to: a choking round. Or those who ask for
nothing could keep all pieces from others."""
MAX_WIDTH = 16
"""Pieces a peer may be offered at once that has no use for those of before: of a torrent of which
it wants one file, say."""
STALLED = 3
"""Times `super_seed_patience` without a witness, after which peers are taken not to reach each
other at all: then no peer waits for witnesses."""

Offer = tuple[PeerKey, int]
"""A peer, and the piece to reveal to it."""


class Shown(Protocol):
    """What peers say that they have."""

    def peer_has_piece(self, peer: PeerKey, index: int) -> bool: ...

    def availability(self, index: int) -> int:
        """Connected peers that have the piece."""
        ...


@dataclass(slots=True)
class _Offered:
    """A piece that one peer was told of, until it is settled."""

    told_at: float
    at: float
    """When it was told of it, sent some of it, or last waited for its turn."""
    began_at: float | None = None
    """When it was sent the first of it ..."""
    sent_at: float | None = None
    """... and the last."""
    blocks: set[int] = field(default_factory=set)
    """Those it was sent."""
    reserved: bool = True
    """Not offered to others as well."""


@dataclass(slots=True)
class _Leech:
    host: str
    got: set[int]
    """Pieces we have sent to its host, from the first to the last block."""
    revealed: Bitfield
    idle_since: float
    """When it was last offered nothing for want of a fresh piece."""
    offers: dict[int, _Offered] = field(default_factory=dict)
    width: int = AT_ONCE
    """Pieces it is offered at once; more than AT_ONCE while it takes none of them."""
    tried: int = -1
    try_at: float = 0.0
    """Not to be looked at before, unless there is news since."""


class SuperSeed:
    """Which piece is revealed to which peer."""

    def __init__(
        self, geometry: Geometry, shown: Shown, config: TorrentConfig, rng: random.Random
    ) -> None:
        count = geometry.piece_count
        order = list(range(count))
        rng.shuffle(order)
        self._fresh = dict.fromkeys(order)
        self._spread = Bitfield(count)
        self._peers: dict[PeerKey, _Leech] = {}
        self._holders: dict[int, set[PeerKey]] = {}  # piece -> peers it is offered to
        self._news = 0  # times a piece became fresh, or a peer left
        self._witnessed_at: float | None = None
        self._handed_over = False
        self._geometry = geometry
        self._shown = shown
        self._patience = config.super_seed_patience
        self._rng = rng

    @property
    def done(self) -> bool:
        """Nothing need be hidden any more: every piece was seen elsewhere, or one host was sent all
        that was not."""
        return self._handed_over or self._spread.count == self._spread.size

    @property
    def spread(self) -> float:
        """The share of pieces that were seen elsewhere."""
        return self._spread.count / self._spread.size if self._spread.size else 1.0

    def revealed(self, peer: PeerKey) -> Bitfield:
        """What this peer has been told of, and may ask for. Not to be changed."""
        return self._peers[peer].revealed

    def joined(self, peer: PeerKey, host: str, now: float) -> None:
        """A connection. It is offered something when it has said what it has (`told`), or at the
        next `tick`."""
        if not self._peers and self._witnessed_at is not None:
            self._witnessed_at = now  # those who come now may be some who share
        # Peers of one host do not witness for each other, so they are one to us: else two that
        # share what they get would never have all of it from us, and it would never end.
        of_host = (other.got for other in self._peers.values() if other.host == host)
        got = next(of_host, set[int]())
        self._peers[peer] = _Leech(host, got, Bitfield(self._geometry.piece_count), now)

    def left(self, peer: PeerKey) -> None:
        """Its pieces are fresh again, unless another peer has shown them. What that changes for
        others is told by the next `tick`."""
        leech = self._peers.pop(peer, None)
        if leech is not None:
            self._news += 1
            for index in list(leech.offers):
                self._withdraw(peer, leech, index)

    def told(self, peer: PeerKey, now: float) -> list[Offer]:
        """It has said what it has, all at once. That does not make it a witness: it may have had it
        before we were here."""
        leech = self._peers[peer]
        for index, offered in list(leech.offers.items()):
            if offered.sent_at is None and self._shown.peer_has_piece(peer, index):
                self._withdraw(peer, leech, index)
        return self._next(peer, leech, now)

    def shows(self, peer: PeerKey, index: int, now: float) -> list[Offer]:
        """It has just said, for the first time, that it has this piece. Returns what to reveal, to
        those whose waiting that ends."""
        witness, earned = self._peers[peer], []
        offered = witness.offers.get(index)
        if offered is not None and offered.sent_at is None:  # it has it from another peer
            self._withdraw(peer, witness, index)
            earned += self._next(peer, witness, now)
        if witness.revealed.flags[index]:
            return earned
        for giver, leech in self._peers.items():
            if index in leech.got and leech.host != witness.host:
                self._spread.add(index)
                self._fresh.pop(index, None)
                self._witnessed_at = now
                if index in leech.offers:
                    self._settle(giver, leech, index, now)
                    earned += self._next(giver, leech, now)
        return earned

    def sent(
        self, peer: PeerKey, blocks: Iterable[tuple[int, int, int]], now: float
    ) -> list[Offer]:
        """These blocks (index, begin, length) go to this peer now."""
        leech = self._peers.get(peer)
        if leech is None:
            return []
        earned = []
        for index, begin, length in blocks:
            offered = leech.offers.get(index)
            if offered is None and index not in leech.got and not self._spread.flags[index]:
                offered = self._offer(peer, leech, index, now)  # it asks late for what it knows of
            if offered is None or offered.sent_at is not None:
                continue
            leech.width = AT_ONCE
            offered.at = now
            if offered.began_at is None:
                offered.began_at, offered.reserved = now, True
                self._fresh.pop(index, None)
            size = self._geometry.piece_size(index)
            if begin % BLOCK == 0 and length == min(BLOCK, size - begin):
                offered.blocks.add(begin // BLOCK)
            if len(offered.blocks) == self._geometry.block_count(index):
                offered.sent_at = now
                leech.got.add(index)
                if self._witnessed_at is None:
                    self._witnessed_at = now
                if self._is_over(peer, leech, index, offered, now):
                    self._settle(peer, leech, index, now)
                    earned += self._next(peer, leech, now)
        return earned

    def tick(self, now: float, queued: Collection[PeerKey]) -> list[Offer]:
        """Who has waited long enough? `queued` are those who want something and wait for us to
        unchoke them. Call every second or so."""
        earned = []
        for peer, leech in self._peers.items():
            for index, offered in list(leech.offers.items()):
                if offered.sent_at is not None:
                    if self._is_over(peer, leech, index, offered, now):
                        self._settle(peer, leech, index, now)
                    continue
                waited = now - offered.told_at >= RESERVED
                if waited and offered.reserved and offered.began_at is None:
                    offered.reserved = False
                    self._freshen(index)
                if peer in queued:
                    offered.at = now
                elif now - offered.at >= self._patience:
                    # It may still have it, and so may others.
                    self._withdraw(peer, leech, index)
                    if not leech.offers:
                        leech.width = min(2 * leech.width, MAX_WIDTH)
            earned += self._next(peer, leech, now)
        return earned

    # -- which peer waits for which
    # ---------------------------------------------------------------------

    def _is_over(
        self, peer: PeerKey, leech: _Leech, index: int, offered: _Offered, now: float
    ) -> bool:
        """All of it was sent: need no witness be waited for any longer?"""
        sent_at, began_at = offered.sent_at, offered.began_at
        assert sent_at is not None
        assert began_at is not None
        assert self._witnessed_at is not None
        if now - self._witnessed_at >= STALLED * self._patience:
            return True
        # A peer that takes it from there will hardly be faster than we were.
        if now - sent_at >= max(self._patience, sent_at - began_at):
            return True
        return not any(
            not other.revealed.flags[index] and not self._shown.peer_has_piece(key, index)
            for key, other in self._others(leech)
        )

    def _others(self, leech: _Leech) -> Iterator[tuple[PeerKey, _Leech]]:
        """Those who might take from it what it was given."""
        return (
            (key, other)
            for key, other in self._peers.items()
            if other.host != leech.host and other.width == AT_ONCE
        )

    def _settle(self, peer: PeerKey, leech: _Leech, index: int, now: float) -> None:
        """It had all of the piece, and need not wait for it any more."""
        del leech.offers[index]
        self._let_go(peer, index)
        leech.idle_since, leech.tried = now, -1
        spread, count = self._spread, self._spread.size
        if len(leech.got) + spread.count >= count:
            self._handed_over = self._handed_over or all(
                spread.flags[index] or index in leech.got for index in range(count)
            )

    def _withdraw(self, peer: PeerKey, leech: _Leech, index: int) -> None:
        """It is not to have the piece from us, or has not passed it on."""
        del leech.offers[index]
        self._let_go(peer, index)
        leech.tried = -1
        if index not in self._holders:
            self._freshen(index)

    def _freshen(self, index: int) -> None:
        if self._spread.flags[index] or index in self._fresh:
            return
        if not any(index in leech.got for leech in self._peers.values()):
            self._fresh[index] = None
            self._news += 1

    def _let_go(self, peer: PeerKey, index: int) -> None:
        holders = self._holders[index]
        holders.discard(peer)
        if not holders:
            del self._holders[index]

    # -- what is offered ------------------------------------------------------------------------

    def _next(self, peer: PeerKey, leech: _Leech, now: float) -> list[Offer]:
        offers: list[Offer] = []
        if leech.tried == self._news and now < leech.try_at:
            return offers
        while len(leech.offers) < leech.width:
            index = self._choose(peer, leech, now)
            if index is None:
                leech.tried = self._news
                due = leech.idle_since + self._patience
                leech.try_at = due if due > now else now + self._patience
                break
            self._offer(peer, leech, index, now)
            offers.append((peer, index))
        return offers

    def _offer(self, peer: PeerKey, leech: _Leech, index: int, now: float) -> _Offered:
        # Of one that takes nothing, others are not to be kept waiting.
        reserved = leech.width == AT_ONCE
        if reserved:
            self._fresh.pop(index, None)
        self._holders.setdefault(index, set()).add(peer)
        leech.revealed.add(index)
        leech.tried = -1
        leech.offers[index] = offered = _Offered(now, now, reserved=reserved)
        return offered

    def _choose(self, peer: PeerKey, leech: _Leech, now: float) -> int | None:
        shown, revealed = self._shown, leech.revealed.flags
        lacks = (
            index
            for index in self._fresh
            if not revealed[index] and not shown.peer_has_piece(peer, index)
        )
        best = min(islice(lacks, WINDOW), key=shown.availability, default=None)
        if best is not None or (leech.offers and leech.width == AT_ONCE):
            return best
        found = min(self._lacking(peer, leech), key=self._copies, default=None)
        if found is not None and (
            not self._copies(found) or now - leech.idle_since >= self._patience
        ):
            return found
        return None

    def _lacking(self, peer: PeerKey, leech: _Leech) -> Iterator[int]:
        """What has not been revealed to it, and it does not show; beginning anywhere."""
        shown, revealed = self._shown, leech.revealed.flags
        count = self._geometry.piece_count
        start = int(self._rng.random() * count)
        return (
            index
            for index in chain(range(start, count), range(start))
            if not revealed[index] and not shown.peer_has_piece(peer, index)
        )

    def _copies(self, index: int) -> int:
        return self._shown.availability(index) + len(self._holders.get(index, ()))
