"""A liar's metadata wedges nobody else's: one assembly for each claimed size, then for each peer.

Fetching the info dict from peers (BEP 9, ut_metadata). Nothing is trusted before the SHA-1 of the
whole is the infohash; sizes are bounded before anything is kept, and memory grows only with what
really came.
"""

from __future__ import annotations

import hashlib

from dht_torrent.config import PeerConfig
from dht_torrent.geometry import BLOCK
from dht_torrent.ids import InfoHash

MAX_OUTSTANDING = 2
"""Metadata requests in flight to one peer (libtorrent)."""
ASK_AGAIN = 3.0
"""Seconds after which an unanswered piece is asked again, of others too (libtorrent)."""
PAUSE = 20.0
"""Seconds a peer is left alone after a reject or a useless answer."""
MAX_HELD = 32 << 20
"""Bytes held unverified. Beyond it, the assembly that got nothing for longest is dropped."""


def metadata_block(info: bytes, piece: int) -> bytes | None:
    """The block of `info` a peer asks for; None (reject it) if there is no such piece."""
    if not 0 <= piece * BLOCK < len(info):
        return None
    return info[piece * BLOCK : (piece + 1) * BLOCK]


class _Assembly:
    """What came so far: for a claimed size, from all who claim it or from one of them."""

    def __init__(self, size: int, now: float) -> None:
        self.count = -(-size // BLOCK)
        self.blocks: dict[int, bytes] = {}
        self.senders: set[int] = set()
        self.asked: dict[int, float] = {}  # piece -> when last
        self.grew_at = now
        self.held = 0


class _Peer:
    def __init__(self, size: int) -> None:
        self.size = size
        self.outstanding: dict[int, float] = {}  # piece -> asked at
        self.late: set[int] = set()  # asked too long ago, but welcome if it comes
        self.silences = 0  # times in a row it did not answer in time
        self.not_before = float("-inf")

    def expects(self, piece: int) -> bool:
        return piece in self.outstanding or piece in self.late

    def forget(self, piece: int) -> None:
        self.outstanding.pop(piece, None)
        self.late.discard(piece)


class MetadataFetch:
    """The info dict of one infohash, asked of many peers at once.

    Those who claim one size share the work. When what they made fails its hash, everybody who
    claims that size makes its own from then on, side by side, and a liar spoils only that. A set
    that came from one peer alone proves it a liar.
    """

    def __init__(self, info_hash: InfoHash, config: PeerConfig) -> None:
        self.info: bytes | None = None
        """The verified info dict, once it is complete."""
        self._info_hash = info_hash
        self._max_size = config.max_metadata
        self._peers: dict[int, _Peer] = {}
        self._assemblies: dict[tuple[int, int | None], _Assembly] = {}  # by size, and peer if alone
        self._alone: set[int] = set()  # sizes that failed once
        self._liars: list[int] = []

    def peer_joined(self, peer: int, size: int, now: float) -> None:
        """A peer whose extension handshake said `metadata_size`. With an impossible size it is not
        asked. A repeated handshake may change the size; what was asked before is then forgotten."""
        known = self._peers.get(peer)
        if known is not None and known.size == size:
            return
        self.peer_left(peer)
        if 0 < size <= self._max_size:
            self._peers[peer] = _Peer(size)

    def peer_left(self, peer: int) -> None:
        state = self._peers.pop(peer, None)
        if state is None:
            return
        shared = self._assemblies.get((state.size, None))
        if shared is not None:
            for piece in state.outstanding:
                shared.asked.pop(piece, None)
        self._assemblies.pop((state.size, peer), None)
        if not any(other.size == state.size for other in self._peers.values()):
            self._assemblies.pop((state.size, None), None)
            self._alone.discard(state.size)

    def want(self, peer: int, now: float) -> int | None:
        """The piece to request from this peer now, counted as requested; None if there is none.

        Call it until None: for a peer that joined, for all after every answer, and every second.
        """
        state = self._peers.get(peer)
        if state is None or self.info is not None or now < state.not_before:
            return None
        waiting = state.outstanding
        late = [piece for piece, asked in waiting.items() if now - asked >= ASK_AGAIN]
        if late:
            for piece in late:
                del waiting[piece]
                state.late.add(piece)
            # Others first, and longer each time: else a few silent peers, taking turns, would be
            # asked for the same pieces again for ever.
            state.not_before = now + min(ASK_AGAIN * 2**state.silences, PAUSE)
            state.silences = min(state.silences + 1, 3)
            return None
        if len(waiting) >= MAX_OUTSTANDING:
            return None
        assembly = self._assembly_of(peer, state, now)
        missing = (
            piece
            for piece in range(assembly.count)
            if piece not in assembly.blocks
            and now - assembly.asked.get(piece, float("-inf")) >= ASK_AGAIN
        )
        # Never asked before asked long ago; min is stable, so in order otherwise.
        best = min(
            missing, key=lambda piece: assembly.asked.get(piece, float("-inf")), default=None
        )
        if best is not None:
            waiting[best] = assembly.asked[best] = now
        return best

    def received(
        self, peer: int, piece: int, total_size: int, data: bytes | memoryview, now: float
    ) -> bytes | None:
        """A data message. Returns the info dict when this completes it and its SHA-1 is right.

        Ignored unless asked of this peer, for the size it claimed, and of exactly the right length.
        After a set that failed, `liars` names who is to be dropped.
        """
        state = self._peers.get(peer)
        if state is None or self.info is not None or not state.expects(piece):
            return None
        length = min(BLOCK, state.size - piece * BLOCK)
        if total_size != state.size or len(data) != length:
            self.rejected(peer, piece, now)
            return None
        state.forget(piece)
        state.silences = 0
        assembly = self._assembly_of(peer, state, now)
        if piece in assembly.blocks:
            return None
        assembly.blocks[piece] = bytes(data)
        assembly.senders.add(peer)
        assembly.held += length
        assembly.grew_at = now
        if len(assembly.blocks) == assembly.count:
            return self._completed(peer, state, assembly)
        self._bound()
        return None

    def expects(self, peer: int, piece: int) -> bool:
        """Whether this peer was asked for this piece, and has not answered yet."""
        state = self._peers.get(peer)
        return state is not None and state.expects(piece)

    def rejected(self, peer: int, piece: int, now: float) -> None:
        """The peer will not give this piece (msg_type 2). It is left alone for PAUSE."""
        state = self._peers.get(peer)
        if state is None or not state.expects(piece):
            return
        state.forget(piece)
        state.not_before = now + PAUSE
        self._assembly_of(peer, state, now).asked.pop(piece, None)

    def liars(self) -> list[int]:
        """Peers to drop, each named once: they alone sent a set with a wrong hash."""
        liars, self._liars = self._liars, []
        return liars

    def _assembly_of(self, peer: int, state: _Peer, now: float) -> _Assembly:
        key = (state.size, peer if state.size in self._alone else None)
        assembly = self._assemblies.get(key)
        if assembly is None:
            assembly = self._assemblies[key] = _Assembly(state.size, now)
        return assembly

    def _completed(self, peer: int, state: _Peer, assembly: _Assembly) -> bytes | None:
        info = b"".join(assembly.blocks[piece] for piece in range(assembly.count))
        if hashlib.sha1(info).digest() == self._info_hash:
            self.info = info
            self._assemblies.clear()
            return info
        self._alone.add(state.size)
        self._assemblies = {k: a for k, a in self._assemblies.items() if a is not assembly}
        if assembly.senders == {peer}:
            self._liars.append(peer)
            self.peer_left(peer)
        return None

    def _bound(self) -> None:
        while sum(assembly.held for assembly in self._assemblies.values()) > MAX_HELD:
            holding = [key for key, assembly in self._assemblies.items() if assembly.held]
            del self._assemblies[min(holding, key=lambda key: self._assemblies[key].grew_at)]
