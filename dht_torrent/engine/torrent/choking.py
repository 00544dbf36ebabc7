"""Whom a torrent uploads to: rounds of the choker, and free slots in between."""

from __future__ import annotations

import random
from collections.abc import Mapping

import trio

from dht_torrent.config import TorrentConfig
from dht_torrent.engine.chores import Chores
from dht_torrent.engine.torrent.peer import Peer
from dht_torrent.ids import PeerKey
from dht_torrent.metainfo import Metainfo
from dht_torrent.torrent.choker import Choker, PeerView
from dht_torrent.torrent.picker import Picker

FILL_PAUSE = 0.05
"""Seconds between two looks at free slots, at least: a look costs as much as there are peers."""


class Choking:
    """Does what `torrent.choker` decides, at its time."""

    def __init__(
        self,
        peers: Mapping[PeerKey, Peer],
        picker: Picker,
        metainfo: Metainfo,
        config: TorrentConfig,
        rng: random.Random,
        chores: Chores,
    ) -> None:
        """Whether we seed is the picker's to say."""
        self._choker = Choker(config)
        self._peers = peers
        self._picker = picker
        self._interval = config.unchoke_interval
        self._rng = rng
        self._metainfo = metainfo
        self._chores = chores
        self._round_at = trio.current_time()
        """When the last round was."""

    def begin(self) -> None:
        """Choose among those who want something already, and go on with that."""
        self.rechoke(trio.current_time())
        self._chores.call(self._run_rounds)

    def wanted(self) -> None:
        """A peer wants something now that did not before."""
        self._chores.call(self._run_rounds)
        self._chores.call(self._fill_slots)

    def slot_freed(self) -> None:
        """A slot may have come free."""
        self._chores.call(self._fill_slots)

    async def _run_rounds(self) -> None:
        """A round each `unchoke_interval`, while anybody wants something."""
        while any(peer.interested or not peer.am_choking for peer in self._peers.values()):
            await trio.sleep_until(self._round_at + self._interval)
            self._round_at = trio.current_time()
            self.rechoke(self._round_at)

    async def _fill_slots(self) -> None:
        """A newcomer need not wait for the next round; but peers that change their mind all the
        time cost no more than a look now and then."""
        self.rechoke(trio.current_time(), only_free_slots=True)
        await trio.sleep(FILL_PAUSE)

    def rechoke(self, now: float, *, only_free_slots: bool = False) -> None:
        """Choose whom to unchoke. `only_free_slots` keeps the optimistic peer and takes no slot
        away from a peer that still wants it: a newcomer need not wait for the next round."""
        views = [self._view(peer, now) for peer in self._peers.values() if not peer.is_dropped]
        choices = self._choker.round(
            views, now, self._rng, seeding=self._picker.done, only_free_slots=only_free_slots
        )
        for peer in list(self._peers.values()):
            peer.hold_optimistic_slot(peer.key == choices.optimistic)
            unchoke = peer.key in choices.unchoke
            if unchoke and peer.am_choking:
                peer.unchoke(now)
            elif not unchoke and not peer.am_choking:
                peer.choke(now)

    def _view(self, peer: Peer, now: float) -> PeerView:
        rate_up = peer.up.value(now)
        return PeerView(
            key=peer.key,
            interested=peer.interested,
            unchoked=not peer.am_choking,
            rate_down=peer.down.value(now),
            rate_up=rate_up,
            pieces_sent=peer.uploaded_since_unchoke / self._metainfo.geometry.piece_length,
            unchoked_since=peer.unchoked_at,
            choked_since=peer.choked_at,
            connected_at=peer.connected_at,
            idle=not peer.asked and not rate_up,
            snubs_us=peer.snubs_us,
        )
