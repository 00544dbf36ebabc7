"""A liar's metadata does not hold up the others': one assembly for each claimed size, then for each
peer.

Fetching the info dict from peers (BEP 9, ut_metadata). Nothing is trusted before the SHA-1 of the
whole is the infohash; sizes are bounded before anything is kept, and memory grows only with what
really came.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from dht_torrent.bounds import MAX_INFO
from dht_torrent.config import PeerConfig
from dht_torrent.geometry import BLOCK
from dht_torrent.ids import InfoHash, PeerKey

MAX_OUTSTANDING = 2
"""Metadata requests in flight to one peer (libtorrent)."""
ASK_AGAIN = 3.0
"""Seconds after which an unanswered piece is asked again, of others too (libtorrent)."""
PAUSE = 20.0
"""Seconds a peer is left alone after a reject or a useless answer."""
MAX_HELD = 2 * MAX_INFO + (4 << 20)
"""Bytes one torrent holds unverified: room for the true dict beside as large a lie. Beyond it, and
beyond what the node's MetadataMemory has, an assembly is dropped."""
STALLED = 20.0
"""Seconds without a block after which an assembly is dropped before others, when memory is full."""
LEAST_RATE = 16 * 1024
"""Bytes per second below which it is, too: a liar may drip-feed to keep what it holds."""


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
        self.senders: set[PeerKey] = set()
        self.asked: dict[int, float] = {}  # piece -> when last
        self.began_at = self.grew_at = now
        self.held = 0

    def worth(self, now: float) -> tuple[bool, float]:
        """Less for what is dropped first when memory is full: what stalls, and of those the one
        that does so for longest; then what began last, so that those before it can end."""
        age = now - self.began_at
        if now - self.grew_at > STALLED or (age > STALLED and self.held < LEAST_RATE * age):
            return False, self.grew_at
        return True, -self.began_at


class MetadataMemory:
    """What all fetches of a node hold unverified: liars who claim sizes get no more than this."""

    def __init__(self, limit: int) -> None:
        self.held = 0
        self._limit = limit
        self._fetches: dict[MetadataAssembly, None] = {}  # those that hold anything

    def grew(self, fetch: MetadataAssembly, size: int, now: float) -> None:
        """`fetch` holds `size` bytes more: it, or another, may have to drop something."""
        self.held += size
        self._fetches[fetch] = None
        while self.held > self._limit:
            victim = min(self._fetches, key=lambda one: one.least_worth(now))
            victim.drop_least(now)

    def shrank(self, fetch: MetadataAssembly, size: int, *, empty: bool) -> None:
        self.held -= size
        if empty:
            self._fetches.pop(fetch, None)


_Key = tuple[int, PeerKey | None]
"""Of an assembly: the size claimed, and the peer it comes from if it comes from one alone."""


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


class MetadataAssembly:
    """The info dict of one infohash, asked of many peers at once.

    Those who claim one size share the work. When what they made fails its hash, each peer that
    claims that size makes its own from then on, side by side, and a liar spoils only that. A set
    that came from one peer alone proves it a liar.
    """

    def __init__(
        self,
        info_hash: InfoHash,
        config: PeerConfig,
        memory: MetadataMemory | None = None,
        *,
        max_size: int | None = None,
    ) -> None:
        """`max_size`: bytes, where it is to be less than the config's `max_metadata`."""
        self.info: bytes | None = None
        """The verified info dict, once it is complete."""
        self._info_hash = info_hash
        self._max_size = config.max_metadata
        if max_size is not None:
            self._max_size = min(max_size, self._max_size)
        self._memory = memory or MetadataMemory(config.max_metadata_held)
        self._too_large: dict[PeerKey, int] = {}  # peer -> bytes it says the dict has
        self._peers: dict[PeerKey, _Peer] = {}
        self._assemblies: dict[_Key, _Assembly] = {}
        self._alone: set[int] = set()  # sizes that failed once
        self._liars: list[PeerKey] = []

    def peer_joined(self, peer: PeerKey, size: int, now: float) -> None:
        """A peer whose extension handshake said `metadata_size`. With an impossible size it is not
        asked. A repeated handshake may change the size; what was asked before is then forgotten."""
        known = self._peers.get(peer)
        if known is not None and known.size == size:
            return
        self.peer_left(peer)
        if 0 < size <= self._max_size:
            self._peers[peer] = _Peer(size)
        elif size > 0:
            self._too_large[peer] = size

    def peer_left(self, peer: PeerKey) -> None:
        self._too_large.pop(peer, None)
        state = self._peers.pop(peer, None)
        if state is None:
            return
        shared = self._assemblies.get((state.size, None))
        if shared is not None:
            for piece in state.outstanding:
                shared.asked.pop(piece, None)
        self._drop((state.size, peer))
        if not any(other.size == state.size for other in self._peers.values()):
            self._drop((state.size, None))
            self._alone.discard(state.size)

    def close(self) -> None:
        """Give back all memory but the verified dict."""
        for key in list(self._assemblies):
            self._drop(key)

    def trouble(self) -> str | None:
        """What people should know of: peers have metadata that is more than we take."""
        if self._peers or not self._too_large:
            return None
        size, most = min(self._too_large.values()), self._max_size
        return (
            f"the metadata has {size} bytes according to its peers, "
            f"but at most {most} ({most / (1 << 20):.4g} MiB) are accepted"
        )

    def want(self, peer: PeerKey, now: float) -> int | None:
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
        self, peer: PeerKey, piece: int, total_size: int, data: bytes | memoryview, now: float
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
        self._memory.grew(self, length, now)
        if len(assembly.blocks) == assembly.count:
            return self._completed(peer, state, assembly)
        while self._held() > MAX_HELD:
            self.drop_least(now)
        return None

    def expects(self, peer: PeerKey, piece: int) -> bool:
        """Whether this peer was asked for this piece, and has not answered yet."""
        state = self._peers.get(peer)
        return state is not None and state.expects(piece)

    def rejected(self, peer: PeerKey, piece: int, now: float) -> None:
        """The peer will not give this piece (msg_type 2). It is left alone for PAUSE."""
        state = self._peers.get(peer)
        if state is None or not state.expects(piece):
            return
        state.forget(piece)
        state.not_before = now + PAUSE
        self._assembly_of(peer, state, now).asked.pop(piece, None)

    def liars(self) -> list[PeerKey]:
        """Peers to drop, each named once: they alone sent a set with a wrong hash."""
        liars, self._liars = self._liars, []
        return liars

    def _assembly_of(self, peer: PeerKey, state: _Peer, now: float) -> _Assembly:
        key = (state.size, peer if state.size in self._alone else None)
        assembly = self._assemblies.get(key)
        if assembly is None:
            assembly = self._assemblies[key] = _Assembly(state.size, now)
        return assembly

    def _completed(self, peer: PeerKey, state: _Peer, assembly: _Assembly) -> bytes | None:
        info = b"".join(assembly.blocks[piece] for piece in range(assembly.count))
        if hashlib.sha1(info).digest() == self._info_hash:
            self.info = info
            self.close()
            return info
        self._alone.add(state.size)
        for key in [key for key, one in self._assemblies.items() if one is assembly]:
            self._drop(key)
        if assembly.senders == {peer}:
            self._liars.append(peer)
            self.peer_left(peer)
        return None

    # -- memory ---------------------------------------------------------------------------------

    def _held(self) -> int:
        return sum(assembly.held for assembly in self._assemblies.values())

    def _holding(self) -> Iterator[tuple[_Key, _Assembly]]:
        return (item for item in self._assemblies.items() if item[1].held)

    def least_worth(self, now: float) -> tuple[bool, float]:
        """Of what is held, the worth of that which is dropped first."""
        return min(assembly.worth(now) for _, assembly in self._holding())

    def drop_least(self, now: float) -> None:
        """Drop that. Those it was to come from are left alone for PAUSE, or it would be back."""
        key, assembly = min(self._holding(), key=lambda item: item[1].worth(now))
        for peer in assembly.senders:
            if (state := self._peers.get(peer)) is not None and state.size == key[0]:
                state.not_before = now + PAUSE
        self._drop(key)

    def _drop(self, key: _Key) -> None:
        assembly = self._assemblies.pop(key, None)
        if assembly is not None and assembly.held:
            empty = not any(one.held for one in self._assemblies.values())
            self._memory.shrank(self, assembly.held, empty=empty)
