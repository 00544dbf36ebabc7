"""The pieces that are being assembled: who works on each, and who is asked for which of its blocks.

A piece is in exactly one of five states: missing, open, pending, have, or held.

    missing --begin--> open --all blocks came--> pending --verified--> have --lost--> missing
       ^---- close -----'-----------failed-----------'
    missing --hold--> held --found--> have
       ^--let_go-------'

*Open*: being assembled, some blocks requested. *Pending*: assembled, at the disk. What open and
pending pieces take of the memory is bounded (`memory`): a slow disk slows the asking. *Held*: no
peer is asked for it, as it may be on this disk already.

`Picker` chooses; here it is written down, so that these agree: the state of each piece, its blocks,
what each peer was asked for, who works on what, and the memory. A request or a block is O(1).
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import and_

from dht_torrent.geometry import BLOCK, Geometry
from dht_torrent.ids import PeerKey
from dht_torrent.torrent.holdings import Holdings
from dht_torrent.torrent.memory import TorrentMemory
from dht_torrent.torrent.missing import Missing
from dht_torrent.torrent.peer_pieces import PeerPieces
from dht_torrent.torrent.piece_states import HAVE, MISSING, OPEN, PENDING, Received
from dht_torrent.torrent.pieces import RECEIVED, Bitfield, Block, Chunk, OpenPiece, Place, Requests

_IS_MISSING = bytes(number == MISSING for number in range(256))
_DUPLICATE = Received("duplicate")
_UNWANTED = Received("unwanted")


class Assembly:
    """Of one torrent. Its owner, the picker, reads all of it, and changes it by the methods."""

    def __init__(
        self,
        geometry: Geometry,
        have: Bitfield,
        holdings: Holdings,
        missing: Missing,
        memory: TorrentMemory,
    ) -> None:
        self.geometry = geometry
        self.holdings = holdings
        self.peers: Mapping[PeerKey, PeerPieces] = holdings.peers
        self.missing = missing
        self.memory = memory
        self.state = have.flags.translate(bytes.maketrans(b"\x00\x01", bytes((MISSING, HAVE))))
        """The number of the state of each piece."""
        self.open: dict[int, OpenPiece] = {}
        self.pending: dict[int, OpenPiece] = {}
        self.partial: dict[int, OpenPiece] = {}
        """Open, with free blocks; the one opened first comes first."""
        self.released: dict[int, OpenPiece] = {}
        """Those of them that no peer works on."""
        self.solo: dict[int, OpenPiece] = {}
        """Open, and for one peer alone."""
        self.sort_missing()

    def fits(self, index: int) -> bool:
        """Is there memory to begin this piece?"""
        return self.memory.fits(self.geometry.piece_size(index))

    def begin_next(self, source: PeerPieces, now: float) -> OpenPiece | None:
        """A new piece for this peer, as `missing` chooses; None if there is none that fits."""
        index = self.missing.choose(source, now)
        if index is None or not self.fits(index):
            return None
        return self.begin(source, index, now)

    def begin(self, source: PeerPieces, index: int, now: float) -> OpenPiece:
        """Opens a piece that is missing and fits; this peer works on it from now on."""
        piece = self.memory.open(index, self.geometry.piece_size(index))
        piece.opened_at = now
        self.state[index] = OPEN
        piece.avoid = self.missing.remove(index)
        if piece.avoid is not None:
            piece.solo = source.key
            self.solo[index] = piece
        self.open[index] = self.partial[index] = piece
        self.own(source, piece)
        return piece

    def own(self, source: PeerPieces, piece: OpenPiece) -> None:
        """This peer works on a piece that nobody works on."""
        if source.current is not None:
            self.let_off(source.current)
        self.released.pop(piece.index, None)
        piece.owner = source.key
        source.current = piece

    def let_off(self, piece: OpenPiece) -> None:
        """Its worker, if any, works on it no more: it is released if it has free blocks."""
        if piece.owner is not None:
            self.peers[piece.owner].current = None
            piece.owner = None
        if piece.free:
            self.released[piece.index] = piece

    def take(
        self, source: PeerPieces, piece: OpenPiece, room: int, now: float, found: list[Block]
    ) -> int:
        """Requests free blocks of `piece` until `found` has `room` of them. Returns how many; none
        if there is no memory for them."""
        blocks = piece.blocks
        count = min(room - len(found), piece.free)
        if piece.spill is not None:
            count = self.memory.grant(piece.spill, count)
            if not count:
                return 0
        first = blocks.find(0)
        if first == len(blocks) - piece.free:
            # The free blocks are the tail, as with every piece of one worker.
            blocks[first : first + count] = b"\x01" * count
            taken = piece.requests(first, count)
        else:
            taken = []
            for _ in range(count):  # a piece may have thousands of blocks, and few of them free
                blocks[first] = 1
                taken += piece.requests(first, 1)
                first = blocks.find(0, first + 1)
        source.outstanding.update(dict.fromkeys(taken, now))
        found += taken
        piece.free -= count
        if not piece.free:
            self._all_taken(piece)
        return count

    def _all_taken(self, piece: OpenPiece) -> None:
        self.partial.pop(piece.index, None)
        self.released.pop(piece.index, None)
        if piece.owner is not None:
            self.peers[piece.owner].current = None
            piece.owner = None

    def give_back(self, source: PeerPieces, blocks: list[Place]) -> int:
        """These requests of the peer are free for others. Returns how many."""
        touched: dict[int, OpenPiece] = {}
        for block in blocks:
            del source.outstanding[block]
            piece = touched[block[0]] = self.open[block[0]]
            self._put_back(source, piece, block)
        for piece in touched.values():
            self._close_if_empty(piece)
        return len(blocks)

    def _put_back(self, source: PeerPieces, piece: OpenPiece, block: Place) -> None:
        """A request that left `source.outstanding` unanswered: one asker less."""
        source.remember_late(block)
        number = block[1] // BLOCK
        piece.blocks[number] -= 1
        if piece.blocks[number] == 0:
            if piece.spill is not None:
                self.memory.waive(piece.spill)
            piece.free += 1
            if piece.free == 1:
                self.partial[piece.index] = self.released[piece.index] = piece

    def unanswered(self, source: PeerPieces, block: Place) -> None:
        """The peer does not answer this request, which left its `outstanding`."""
        piece = self.open[block[0]]
        self._put_back(source, piece, block)
        if source.current is piece:
            self.let_off(piece)
        self._close_if_empty(piece)

    def withdraw(self, piece: OpenPiece) -> Requests:
        """Gives back every request for `piece`, of all peers."""
        withdrawn = []
        for source in self.peers.values():
            for block in [b for b in source.outstanding if b[0] == piece.index]:
                del source.outstanding[block]
                self._put_back(source, piece, block)
                withdrawn.append((source.key, Block._make(block)))
        return withdrawn

    def _close_if_empty(self, piece: OpenPiece) -> None:
        if piece.free == len(piece.blocks):
            self.close(piece)

    def close(self, piece: OpenPiece) -> None:
        """Gives up an open piece that no peer is asked for."""
        assert piece.free == piece.left
        self._all_taken(piece)
        del self.open[piece.index]
        self.missing_again(piece)

    def make_way_for(self, source: PeerPieces, now: float) -> bool:
        """For a peer with nothing to do because released pieces fill the memory: give one up."""
        if self.pending or self.memory.settling or not self.released:
            return False
        index = self.missing.choose(source, now)
        if index is None or self.fits(index):
            return False
        if not (idle := [one for one in self.released.values() if one.free == one.left]):
            return False
        copies = self.holdings.availability
        self.close(max(idle, key=lambda piece: (not copies(piece.index), piece.left)))
        return True

    def missing_again(self, piece: OpenPiece) -> None:
        """A piece that was open or pending."""
        index = piece.index
        self.state[index] = MISSING
        self.unreserve(piece)
        self.memory.close(piece)
        if piece.avoid is not None and self.holdings.wanted.flags[index]:
            self.missing.add_broken(index, piece.avoid)
        else:
            self.now_missing(index)

    def now_missing(self, index: int) -> None:
        """Its state is missing from now on: it may be chosen, if it is wanted."""
        if self.holdings.wanted.flags[index]:
            for source in self.peers.values():
                source.exhausted = False
            self.missing.add(index)

    def reserve(self, source: PeerPieces, piece: OpenPiece) -> None:
        """This peer alone may send any of the piece, and gets no other before."""
        piece.solo = source.key
        self.solo[piece.index] = piece
        source.alone = piece.index

    def unreserve(self, piece: OpenPiece) -> None:
        """Its one peer need not finish it any more: it has, or may not."""
        if piece.solo is not None:
            self.solo.pop(piece.index, None)
            source = self.peers.get(piece.solo)
            if source is not None and source.alone == piece.index:
                source.alone = None

    def not_outstanding(
        self, source: PeerPieces, index: int, begin: int, data: bytes | memoryview
    ) -> Received | None:
        """A block that answers no open request: late, a duplicate, of a wrong length, or a lie."""
        block = (index, begin, len(data))
        if block in source.late:
            del source.late[block]
            piece, number = self.open.get(index), begin // BLOCK
            if piece is None or piece.solo not in (None, source.key):
                return _DUPLICATE
            copies, chunk = piece.blocks[number], None
            if copies == RECEIVED:
                return _DUPLICATE
            if piece.spill is None:
                piece.buffer[begin : begin + len(data)] = data
            elif not copies and not self.memory.grant(piece.spill, 1):
                return _DUPLICATE  # there is no memory for it
            else:
                chunk = self.memory.put(piece.spill, begin, data)
            piece.blocks[number] = RECEIVED
            piece.senders[number] = source.key
            piece.left -= 1
            if not copies:
                piece.free -= 1
                if not piece.free:
                    self._all_taken(piece)
            return self.settled(piece, Block._make(block), copies > 0, chunk)
        for asked in source.outstanding:
            if asked[0] == index and asked[1] == begin:
                # The right place, a wrong length: the request is as good as refused.
                piece = self.open[index]
                del source.outstanding[asked]
                self._put_back(source, piece, asked)
                self._close_if_empty(piece)
                break
        return _UNWANTED

    def settled(
        self, piece: OpenPiece, block: Block, asked_elsewhere: bool, chunk: Chunk | None
    ) -> Received | None:
        """A block was accepted that others were asked for too, or that completed something."""
        cancels = []
        if asked_elsewhere:
            for other in self.peers.values():
                if other.outstanding.pop(block, None) is not None:
                    other.remember_late(block)
                    cancels.append((other.key, block))
        if piece.left:
            if chunk is None and not cancels:
                return None
            return Received("accepted", piece if chunk else None, tuple(cancels), chunk)
        del self.open[piece.index]
        self.solo.pop(piece.index, None)
        self.state[piece.index] = PENDING
        self.pending[piece.index] = piece
        if piece.spill is not None and chunk is None:
            chunk = self.memory.flush(piece.spill)
        return Received("accepted", piece, tuple(cancels), chunk)

    def sort_missing(self) -> None:
        """After the selection changed. O(pieces)."""
        missing = self.state.translate(_IS_MISSING)
        self.missing.reset(bytes(map(and_, missing, self.holdings.wanted.flags)))
        for source in self.peers.values():
            source.exhausted = False
