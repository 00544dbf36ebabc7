"""Blocks received where they belong are as good as blocks parsed and copied: after the same bytes,
cut at the same places, both ways have made the same decisions and hold the same bytes."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dht_torrent.config import PeerConfig, TorrentConfig
from dht_torrent.errors import PeerProtocolError
from dht_torrent.geometry import BLOCK, Geometry
from dht_torrent.ids import PeerKey, parse_info_hash, parse_peer_id
from dht_torrent.peer.answers import FEW, Answers
from dht_torrent.peer.connection import PROTOCOL, Connection, Event
from dht_torrent.peer.messages import (
    BITFIELD,
    BlocksInPlace,
    Choke,
    Extended,
    Have,
    Haves,
    KeepAlive,
    Message,
    Piece,
    PieceRun,
    Reject,
    Request,
    Unchoke,
    encode,
    encode_haves,
)
from dht_torrent.torrent.memory import PieceMemory
from dht_torrent.torrent.picker import Picker
from dht_torrent.torrent.piece_states import Received
from dht_torrent.torrent.pieces import RECEIVED, Bitfield, Block, Chunk, OpenPiece
from tests.helpers.examples import examples
from tests.helpers.times import seconds

MESSAGE = 13 + BLOCK
INFO_HASH = parse_info_hash(bytes(20))
HANDSHAKE = PROTOCOL + bytes(5) + b"\x10\x00\x04" + INFO_HASH + bytes(20)


def content_of(geometry: Geometry) -> bytes:
    return random.Random(1).randbytes(geometry.total)


@dataclass
class Side:
    """A leech without a network."""

    geometry: Geometry
    in_place: bool
    memory: int = 1 << 30
    config: TorrentConfig = field(default_factory=TorrentConfig)

    def __post_init__(self) -> None:
        count = self.geometry.piece_count
        self.content = content_of(self.geometry)
        self.picker = Picker(
            self.geometry,
            Bitfield(count),
            self.config,
            random.Random(1),
            memory=PieceMemory(self.memory, spare=self.memory),
        )
        self.buffer = memoryview(bytearray(1 << 20))
        self.connections: dict[PeerKey, Connection] = {}
        self.answers: dict[PeerKey, Answers] = {}
        self.decisions: list[Any] = []
        self.messages = 0
        self.pending: dict[int, OpenPiece] = {}
        self.chunks: list[tuple[OpenPiece, Chunk]] = []
        self.blocks_in_place = 0
        self.blocks_in_runs = 0

    def join(self, peer: PeerKey) -> None:
        connection = Connection(PeerConfig(), dht=False)
        connection.send_handshake(INFO_HASH, parse_peer_id(bytes(20)))
        connection.receive(HANDSHAKE)
        connection.receive(b"")
        connection.set_piece_count(self.geometry.piece_count)
        self.connections[peer] = connection
        self.answers[peer] = Answers(connection, self.buffer)
        self.picker.peer_joined(peer)
        self.picker.holdings.peer_has_all(peer)

    def leave(self, peer: PeerKey) -> None:
        del self.connections[peer], self.answers[peer]
        self.picker.peer_left(peer)

    def outstanding(self, peer: PeerKey) -> list[Block]:
        return [Block._make(block) for block in self.picker._peers[peer].outstanding]

    def land(self, peer: PeerKey, data: bytes, room: int, in_place: int) -> int:
        """What there is of `data` comes where it is planned. Returns how much that is."""
        came = 0
        for buffer in self.answers[peer].plan(partial(self.picker.expected, peer), room, in_place):
            part = data[came : came + len(buffer)]
            buffer[: len(part)] = part
            came += len(part)
        return came

    def receive(self, peer: PeerKey, data: bytes) -> None:
        """Parse and copy it."""
        self.buffer[: len(data)] = data
        self.take(peer, self.connections[peer].receive(self.buffer[: len(data)]))

    def take(self, peer: PeerKey, events: list[Event]) -> None:
        picker, connection = self.picker, self.connections[peer]
        self.messages += len(events) + connection.unheard
        connection.unheard = 0
        for event in events:
            if isinstance(event, Piece):
                self.take_piece(peer, event)
            elif isinstance(event, PieceRun):
                self.take_run(peer, event)
            elif isinstance(event, BlocksInPlace):
                index, first, count = event
                self.blocks_in_place += count
                outcome = picker.received_run(peer, index, first, count)
                for number in range(first, first + count):
                    last = number == first + count - 1
                    self.note(Block(index, number * BLOCK, BLOCK), outcome if last else None)
            else:
                self.decisions.append((peer, event))
                if isinstance(event, Choke):
                    picker.choked(peer)
                elif isinstance(event, Reject):
                    picker.rejected(peer, (event.index, event.begin, event.length))

    def take_piece(self, peer: PeerKey, piece: Piece) -> None:
        index, begin, data = piece
        outcome = self.picker.received(peer, index, begin, data)
        self.note(Block(index, begin, len(data)), outcome)

    def take_run(self, peer: PeerKey, run: PieceRun) -> None:
        index, begin, count, _ = run
        places = self.picker.places(peer, index, begin, count) if self.in_place else None
        if places is None:
            for piece in run.pieces():
                self.take_piece(peer, piece)
            return
        self.blocks_in_runs += count
        for place, data in zip(places, run.payloads(), strict=True):
            place[:] = data
        outcome = self.picker.received_run(peer, index, begin // BLOCK, count)
        for number in range(count):
            last = number == count - 1
            self.note(Block(index, begin + number * BLOCK, BLOCK), outcome if last else None)

    def note(self, block: Block, outcome: Received | None) -> None:
        if outcome is None:
            self.decisions.append((block, "accepted"))
            return
        piece, chunk = outcome.piece, outcome.chunk
        self.decisions.append((block, outcome.kind, outcome.cancels, piece and piece.index))
        if piece is not None and chunk is not None:
            self.chunks.append((piece, chunk))
            self.decisions.append([(begin, bytes(data)) for begin, data in chunk.parts()])
        elif piece is not None:
            self.pending[piece.index] = piece

    def store(self) -> None:
        piece, chunk = self.chunks.pop()
        if self.picker.stored(piece, chunk):
            self.pending[piece.index] = piece

    def settle(self) -> None:
        """The disk looks at a piece; what is broken is blamed on who sent of it."""
        index, piece = self.pending.popitem()
        start = index * self.geometry.piece_length
        if piece.spill is not None or piece.buffer == self.content[start : start + piece.size]:
            self.decisions.append(("verified", index))
            self.picker.verified(index)
        else:
            self.decisions.append(("blamed", index, list(piece.senders)))
            self.picker.failed(index, set(piece.senders))

    def state(self) -> Iterator[Any]:
        """All that both ways must agree on."""
        picker, books = self.picker, self.picker._assembly
        yield bytes(books.state), list(books.released), list(books.partial)
        for pieces in (books.open, books.pending):
            for piece in pieces.values():
                yield piece.index, bytes(piece.blocks), list(piece.senders)
                yield piece.left, piece.free, piece.owner, piece.solo, piece.avoid
                if piece.spill is None:
                    for number, state in enumerate(piece.blocks):
                        if state == RECEIVED:
                            yield bytes(piece.buffer[number * BLOCK : (number + 1) * BLOCK])
        for peer, source in picker._peers.items():
            yield peer, list(source.outstanding.items()), list(source.late), source.refused
            yield bytes(self.connections[peer].begun), self.connections[peer].mid_message
        yield self.messages, picker.open_bytes, self.decisions


peers = st.integers(0, 3)
fractions = st.floats(0, 1, exclude_max=True)
cuts = st.one_of(
    st.integers(1, 7 * MESSAGE),
    st.builds(lambda n, more: n * MESSAGE + more, st.integers(1, 6), st.integers(-15, 15)),
)
rooms = st.one_of(st.integers(1, 100), st.integers(MESSAGE - 20, 4 * MESSAGE), st.just(1 << 20))
answers = st.tuples(
    st.sampled_from(
        [
            *["next"] * 6,
            *["others"] * 3,
            *["other", "lie", "short", "long", "misplaced", "other piece", "late", "again"],
            *["reject", "choke", "unchoke", "have", "keep-alive", "other id", "nonsense"],
            *["haves", "request", "extended"],
        ]
    ),
    st.integers(1, 4),
    fractions,
)


class BothWays(RuleBasedStateMachine):
    """Peers that answer in order, mostly."""

    piece_length: ClassVar[int] = 3 * BLOCK
    pieces: ClassVar[int] = 6
    memory: ClassVar[int] = 1 << 30
    config: ClassVar[dict[str, int]] = {}

    def __init__(self) -> None:
        super().__init__()
        total = self.pieces * self.piece_length - BLOCK - 7
        geometry = Geometry.of(self.piece_length, [(("content",), total)])
        config = TorrentConfig(random_first_pieces=2, **self.config)
        self.lane = Side(geometry, True, self.memory, config)
        self.plain = Side(geometry, False, self.memory, config)
        self.sides = (self.lane, self.plain)
        self.key = 0
        self.now = 0.0
        self.sockets: dict[PeerKey, bytes] = {}
        self.owed: dict[PeerKey, list[Block]] = {}
        """Asked for and not answered yet, as the peer sees it."""
        self.gone: dict[PeerKey, list[Block]] = {}
        """Given back: late if they come."""

    def peer(self, number: int) -> PeerKey:
        return list(self.sockets)[number % len(self.sockets)]

    @initialize(room=st.integers(4, 20))
    def begin(self, room: int) -> None:
        self.join()
        self.ask(0, room)

    @precondition(lambda self: len(self.sockets) < 4)
    @rule()
    def join(self) -> None:
        self.key += 1
        peer = PeerKey(self.key)
        for side in self.sides:
            side.join(peer)
        self.sockets[peer] = b""
        self.owed[peer], self.gone[peer] = [], []

    @precondition(lambda self: self.sockets)
    @rule(number=peers, room=st.integers(1, 20))
    def ask(self, number: int, room: int) -> None:
        peer = self.peer(number)
        found = [side.picker.next_requests(peer, room, self.now) for side in self.sides]
        assert found[0] == found[1]
        self.owed[peer] += found[0]

    @precondition(lambda self: self.sockets)
    @rule(number=peers, said=st.lists(answers, min_size=1, max_size=4))
    def say(self, number: int, said: list[tuple[str, int, float]]) -> None:
        peer = self.peer(number)
        for kind, times, which in said:
            for _ in range(times):
                self.sockets[peer] += self.message(peer, kind, which)
                if kind not in ("next", "others"):
                    break

    def message(self, peer: PeerKey, kind: str, which: float) -> bytes:
        simple: dict[str, Message | Haves] = {
            "choke": Choke(),
            "unchoke": Unchoke(),
            "have": Have(int(which * self.pieces)),
            "haves": Haves((0, int(which * self.pieces))),
            "request": Request(int(which * self.pieces), 0, BLOCK),
            "extended": Extended(77, bytes(int(which * 3 * BLOCK))),
            "keep-alive": KeepAlive(),
        }
        if kind in simple:
            return self.encoded(simple[kind])
        if kind == "nonsense":
            return bytes([0, 0, 0, 9, 7, 0, 0, 0, 0, 0, 0, 0, int(which * 256)])
        if kind == "late":
            gone = self.gone[peer]
            return self.block(gone.pop(int(which * len(gone)))) if gone else b""
        owed = self.owed[peer]
        if not owed:
            return b""
        at = int(which * len(owed)) if kind in ("other", "others", "reject") else 0
        block = owed[at] if kind == "again" else owed.pop(at)
        index, begin, length = block
        if kind == "reject":
            return encode(Reject(*block))
        data = bytearray(self.block(block))
        if kind == "lie":
            data[13 + int(which * length)] ^= 1
        elif kind == "short":
            return encode(Piece(index, begin, bytes(data[13:-1])))
        elif kind == "long" and length < BLOCK:
            return encode(Piece(index, begin, bytes(data[13:]) + b"x"))
        elif kind == "misplaced":
            data[9 + int(which * 4)] ^= 1
        elif kind == "other piece":
            data[8] ^= 1
        elif kind == "other id":
            data[4] = 16  # a Reject of that length is an offence
        return bytes(data)

    def encoded(self, message: Message | Haves) -> bytes:
        return encode_haves(message.indices) if isinstance(message, Haves) else encode(message)

    def block(self, block: Block) -> bytes:
        start = block.index * self.piece_length + block.begin
        return encode(
            Piece(block.index, block.begin, self.lane.content[start : start + block.length])
        )

    @precondition(lambda self: any(self.sockets.values()))
    @rule(number=peers, cut=st.lists(cuts, min_size=1, max_size=6), room=rooms, in_place=rooms)
    def receive(self, number: int, cut: list[int], room: int, in_place: int) -> None:
        peer = self.peer(number)
        for size in cut:
            data = self.sockets[peer][:size]
            if data and not self.turn(peer, data, room, in_place):
                return
        # A peer learns what is not wanted of it any more.
        for peer, owed in self.owed.items():
            asked = set(self.plain.outstanding(peer))
            self.gone[peer] += [block for block in owed if block not in asked]
            self.owed[peer] = [block for block in owed if block in asked]

    def turn(self, peer: PeerKey, data: bytes, room: int, in_place: int) -> bool:
        """Receive something of `data`, both ways. False: the peer broke a rule."""
        answers = self.lane.answers[peer]
        came = self.lane.land(peer, data, room, in_place)
        assert 0 < came <= len(data)
        self.sockets[peer] = self.sockets[peer][came:]
        data = data[:came]
        receive = partial(answers.took, came, room)
        while True:
            try:
                size, events = receive()
            except PeerProtocolError:
                with pytest.raises(PeerProtocolError):
                    self.plain.receive(peer, data)
                self.leave_for_good(peer)
                return False
            self.plain.receive(peer, data[:size])
            self.lane.take(peer, events)
            assert list(self.lane.state()) == list(self.plain.state())
            data = data[size:]
            assert answers.left == bool(data)
            if not data:
                return True
            assert size <= room + FEW * MESSAGE or self.lane.blocks_in_place
            receive = partial(answers.rest, room)

    def leave_for_good(self, peer: PeerKey) -> None:
        for side in self.sides:
            side.leave(peer)
        del self.sockets[peer], self.owed[peer], self.gone[peer]

    @precondition(lambda self: self.sockets)
    @rule(number=peers)
    def leave(self, number: int) -> None:
        self.leave_for_good(self.peer(number))

    @rule(passed=seconds(0, 30))
    def wait(self, passed: float) -> None:
        self.now += passed
        expired = [side.picker.expire(self.now - 20.0) for side in self.sides]
        assert expired[0] == expired[1]

    @precondition(lambda self: self.sockets)
    @rule(number=peers, keep=st.integers(0, 2))
    def snub(self, number: int, keep: int) -> None:
        peer = self.peer(number)
        back = [side.picker.give_back(peer, keep=keep) for side in self.sides]
        assert back[0] == back[1]

    @rule(unwanted=st.sets(st.integers(0, 4), max_size=2))
    def select(self, unwanted: set[int]) -> None:
        wanted = set(range(self.lane.geometry.piece_count)) - unwanted
        cancels = [side.picker.select(wanted) for side in self.sides]
        assert cancels[0] == cancels[1]

    @precondition(lambda self: self.lane.pending)
    @rule()
    def settle(self) -> None:
        for side in self.sides:
            side.settle()

    @precondition(lambda self: self.lane.chunks)
    @rule()
    def store(self) -> None:
        for side in self.sides:
            side.store()

    @invariant()
    def both_ways_come_to_the_same(self) -> None:
        assert list(self.lane.state()) == list(self.plain.state())

    def teardown(self) -> None:
        assert self.plain.blocks_in_place == self.plain.blocks_in_runs == 0


class BothWaysWithOddPieces(BothWays):
    """Of no whole number of blocks."""

    piece_length = 2 * BLOCK + 1000


class BothWaysWithLongPieces(BothWays):
    """A run may be longer than what is asked for at once."""

    piece_length = 8 * BLOCK
    pieces = 3


class BothWaysWithPiecesOfOneBlock(BothWays):
    piece_length = BLOCK


class BothWaysOnTheDisk(BothWays):
    """Some pieces are spilled."""

    config: ClassVar[dict[str, int]] = {"max_open_bytes": 4 * BLOCK, "spill_batch": 2 * BLOCK}
    memory = 5 * BLOCK


class BothWaysShortOfMemory(BothWays):
    """The buffer of a piece that is done with is soon another's."""

    memory = 7 * BLOCK


class BothWaysOnTheDiskAlone(BothWays):
    """Every piece is spilled."""

    config: ClassVar[dict[str, int]] = {"max_open_bytes": 9 * BLOCK, "max_piece_in_memory": BLOCK}


MACHINES = [
    BothWays,
    BothWaysWithOddPieces,
    BothWaysWithPiecesOfOneBlock,
    BothWaysOnTheDisk,
    BothWaysOnTheDiskAlone,
    BothWaysShortOfMemory,
]

BothWays.TestCase.settings = settings(stateful_step_count=40)
TestBothWays = BothWays.TestCase
TestBothWaysWithOddPieces = BothWaysWithOddPieces.TestCase
TestBothWaysWithLongPieces = BothWaysWithLongPieces.TestCase
TestBothWaysWithPiecesOfOneBlock = BothWaysWithPiecesOfOneBlock.TestCase
TestBothWaysOnTheDisk = BothWaysOnTheDisk.TestCase
TestBothWaysShortOfMemory = BothWaysShortOfMemory.TestCase
TestBothWaysOnTheDiskAlone = BothWaysOnTheDiskAlone.TestCase


@pytest.mark.parametrize("kind", MACHINES)
@settings(max_examples=examples(60))
@given(
    said=st.lists(answers, min_size=1, max_size=8),
    turns=st.lists(st.tuples(cuts, rooms, rooms), min_size=1, max_size=8),
)
def test_one_peer_says_much_and_it_is_cut_anywhere(
    kind: type[BothWays],
    said: list[tuple[str, int, float]],
    turns: list[tuple[int, int, int]],
) -> None:
    both = kind()
    both.begin(20)
    both.say(0, said)
    for cut, room, in_place in itertools.chain(turns, itertools.repeat((1 << 20,) * 3)):
        if not any(both.sockets.values()):
            break
        both.receive(0, [cut], room, in_place)
        while both.lane.chunks:
            both.store()


# -- the ordinary course ------------------------------------------------------------------------


def seeded(pieces: int = 4, blocks: int = 4, *, short: int = 0, peers: int = 1) -> Side:
    geometry = Geometry.of(blocks * BLOCK, [(("content",), pieces * blocks * BLOCK - short)])
    side = Side(geometry, True)
    for number in range(peers):
        side.join(PeerKey(number))
    return side


def wire(side: Side, blocks: list[Block]) -> bytes:
    length = side.geometry.piece_length
    return b"".join(
        encode(Piece(index, begin, side.content[index * length + begin :][:size]))
        for index, begin, size in blocks
    )


def take(side: Side, data: bytes, room: int = 1 << 20) -> None:
    """Peer 0 sends it, in one go."""
    while data:
        came = side.land(PeerKey(0), data, room, room)
        size, events = side.answers[PeerKey(0)].took(came, room)
        assert size == came
        side.take(PeerKey(0), events)
        data = data[came:]


@pytest.mark.parametrize("cut", [13, 14, 1000, MESSAGE, 3 * MESSAGE, 5 * MESSAGE + 13, 1 << 20])
def test_what_comes_as_expected_is_received_in_its_place(cut: int) -> None:
    """But for the short block at the end, and blocks whose header came in two parts."""
    pieces = 2 if cut < 1000 else 300
    side = seeded(pieces, 4, short=5)
    while blocks := side.picker.next_requests(PeerKey(0), 16, 0.0):
        data = wire(side, blocks)
        for at in range(0, len(data), cut):
            take(side, data[at : at + cut])
        while side.pending:
            side.settle()
    assert side.picker.done
    assert ("verified", pieces - 1) in side.decisions
    assert not any("blamed" in decision for decision in side.decisions)
    if cut >= 13:
        assert side.blocks_in_place >= (4 * pieces - 1) * 0.9
    if cut % MESSAGE == 0 or cut == 1 << 20:
        assert side.blocks_in_place >= 4 * pieces - 16  # the short one takes those behind along


def test_after_something_odd_the_rest_is_received_in_its_place_again() -> None:
    side = seeded()
    blocks = side.picker.next_requests(PeerKey(0), 16, 0.0)
    take(side, wire(side, blocks[:3]) + encode(Have(1)) + wire(side, blocks[3:6]))
    assert side.blocks_in_place == 3
    take(side, wire(side, blocks[6:]))
    assert side.blocks_in_place == 13


def test_blocks_behind_a_small_message_are_taken_run_by_run() -> None:
    """Before, within and behind what is expected in its place."""
    side = seeded(2, 16)
    blocks = side.picker.next_requests(PeerKey(0), 32, 0.0)
    small = encode(Have(1)) + encode(Request(0, 0, BLOCK)) + encode(KeepAlive())
    take(side, small + wire(side, blocks[:5]) + small + wire(side, blocks[5:9]) + small)
    assert (side.blocks_in_place, side.blocks_in_runs) == (0, 9)
    take(side, wire(side, blocks[9:12]) + small + wire(side, blocks[12:29]) + small)
    assert (side.blocks_in_place, side.blocks_in_runs) == (3, 26)
    take(side, wire(side, blocks[29:]))
    assert (side.blocks_in_place, side.blocks_in_runs) == (6, 26)
    while side.pending:
        side.settle()
    assert side.picker.done
    assert not any("blamed" in decision for decision in side.decisions)


@pytest.mark.parametrize(
    "odd", ["choked", "endgame", "one was answered", "given up", "spilled", "misplaced", "not full"]
)
def test_a_run_that_is_not_as_asked_for_is_taken_block_by_block(odd: str) -> None:
    config = TorrentConfig(max_piece_in_memory=BLOCK if odd == "spilled" else 1 << 24)
    short = 5 if odd == "not full" else 0
    geometry = Geometry.of(4 * BLOCK, [(("content",), 4 * BLOCK - short)])
    side = Side(geometry, True, config=config)
    side.join(PeerKey(0))
    side.join(PeerKey(1))
    blocks = side.picker.next_requests(PeerKey(0), 4, 0.0)
    begin = blocks[0].begin
    places = partial(side.picker.places, PeerKey(0), 0)
    if odd == "choked":
        side.picker.choked(PeerKey(0))
    elif odd == "endgame":
        assert side.picker.next_requests(PeerKey(1), 1, 0.0) == blocks[:1]
    elif odd == "one was answered":
        side.receive(PeerKey(0), wire(side, blocks[2:3]))
    elif odd == "given up":
        side.picker.give_back(PeerKey(0))
        assert places(begin, 1) is None
    elif odd == "misplaced":
        begin += 1
    elif odd == "not full":
        assert places(begin, 3) is not None
    assert places(begin, 4) is None
    assert places(begin + BLOCK, 4) is None
    assert side.picker.places(PeerKey(1), 0, 0, 4) is None
    assert side.picker.places(PeerKey(0), 1 << 31, 0, 1) is None


def test_a_run_goes_where_its_blocks_belong() -> None:
    side = seeded(1, 4)
    side.picker.next_requests(PeerKey(0), 4, 0.0)
    piece = side.picker._assembly.open[0]
    places = side.picker.places(PeerKey(0), 0, BLOCK, 2)
    assert places is not None
    for number, place in enumerate(places, start=1):
        place[:] = bytes([number]) * BLOCK
    found = [bytes(piece.buffer[at : at + BLOCK]) for at in range(0, piece.size, BLOCK)]
    assert found[1:3] == [b"\1" * BLOCK, b"\2" * BLOCK]
    assert found[0] == found[3] == bytes(BLOCK)


def test_blocks_out_of_turn_are_taken_and_those_behind_them_expected() -> None:
    side = seeded()
    blocks = side.picker.next_requests(PeerKey(0), 16, 0.0)
    take(side, wire(side, [blocks[2], blocks[0]]))
    assert [(run.index, run.first, run.blocks) for run in side.picker.expected(PeerKey(0), 3)] == [
        (blocks[1].index, 1, 1),
        (blocks[1].index, 3, 1),
        (blocks[4].index, 0, 1),
    ]


@pytest.mark.parametrize(
    "cut", [1000, MESSAGE, 5 * MESSAGE + 12, 5 * MESSAGE + 13, 20 * MESSAGE + 9000]
)
@pytest.mark.parametrize("ahead", [2, 7, 40])
def test_what_comes_in_any_order_is_put_into_its_place(ahead: int, cut: int) -> None:
    """Whatever the peer has begun with when the turn ends, but for a header that came in parts."""
    side, rng = seeded(24, 8), random.Random(ahead)
    owed: list[Block] = []
    data = b""
    while True:
        owed += side.picker.next_requests(PeerKey(0), 40 - len(owed), 0.0)
        if not owed:
            break
        for _ in range(min(20, len(owed))):
            data += wire(side, [owed.pop(rng.randrange(min(ahead, len(owed))))])
        while len(data) >= cut or (data and not owed):
            take(side, data[:cut])
            data = data[cut:]
    while side.pending:
        side.settle()
    assert side.picker.done
    assert not any("blamed" in decision for decision in side.decisions)
    header_in_parts = cut % MESSAGE == 12
    assert side.blocks_in_place >= 192 - 5 * header_in_parts


def test_blocks_out_of_turn_are_told_as_they_came() -> None:
    side = seeded(2, 8)
    blocks = side.picker.next_requests(PeerKey(0), 16, 0.0)
    first, second = blocks[0].index, blocks[8].index
    order = [0, 1, 4, 5, 6, 2, 9, 10, 3, 7, 8]
    data = wire(side, [blocks[at] for at in order])
    assert side.land(PeerKey(0), data, 1 << 18, 1 << 20) == len(data)
    size, events = side.answers[PeerKey(0)].took(len(data), 1 << 18)
    assert size == len(data)
    assert events == [
        BlocksInPlace(first, 0, 2),
        BlocksInPlace(first, 4, 3),
        BlocksInPlace(first, 2, 1),
        BlocksInPlace(second, 1, 2),
        BlocksInPlace(first, 3, 1),
        BlocksInPlace(first, 7, 1),
        BlocksInPlace(second, 0, 1),
    ]
    assert side.connections[PeerKey(0)].unheard == len(order) - len(events)
    side.take(PeerKey(0), events)
    side.settle()
    assert side.decisions[-1] == ("verified", first)


@pytest.mark.parametrize("number", range(6))
def test_a_block_that_has_begun_is_received_in_its_place_if_it_was_asked_for(number: int) -> None:
    side = seeded(1, 6)
    assert len(side.picker.next_requests(PeerKey(0), 5, 0.0)) == 5
    side.receive(PeerKey(0), wire(side, [Block(0, number * BLOCK, BLOCK)])[:9000])
    expect = partial(side.picker.expected, PeerKey(0))
    first, *others = side.answers[PeerKey(0)].plan(expect, 1000, 1 << 18)
    assert len(first) == (MESSAGE - 9000 if number < 5 else 1000)
    assert len(others) == (8 if number < 5 else 0)


def test_a_block_that_comes_twice_or_was_not_asked_for_ends_what_is_put_into_its_place() -> None:
    side = seeded(1, 8)
    blocks = side.picker.next_requests(PeerKey(0), 6, 0.0)
    not_asked = Block(0, 7 * BLOCK, BLOCK)
    for odd in (blocks[1], not_asked):
        side = seeded(1, 8)
        side.picker.next_requests(PeerKey(0), 6, 0.0)
        take(side, wire(side, [blocks[0], blocks[2], blocks[1], odd, blocks[4], blocks[3]]))
        assert side.blocks_in_place == 3
        assert side.decisions[3] == (odd, "unwanted", (), None)
        take(side, wire(side, blocks[5:]))
        assert side.blocks_in_place == 4


def test_runs_are_no_longer_than_what_is_asked_for() -> None:
    side = seeded()
    blocks = side.picker.next_requests(PeerKey(0), 6, 0.0)
    lengths = [[run.blocks for run in side.picker.expected(PeerKey(0), n)] for n in range(9)]
    assert lengths == [[], [1], [2], [3], [4], [4, 1], [4, 2], [4, 2], [4, 2]]
    assert blocks[4].index != blocks[0].index


def test_what_another_peer_is_asked_for_too_ends_what_is_expected() -> None:
    side = seeded(1, 4, peers=2)
    blocks = side.picker.next_requests(PeerKey(0), 4, 0.0)
    (run,) = side.picker.expected(PeerKey(0), 4)
    assert run.blocks == 4
    assert side.picker.next_requests(PeerKey(1), 2, 0.0) == blocks[:2]  # the endgame
    assert side.picker.expected(PeerKey(0), 4) == []
    assert side.picker.expected(PeerKey(1), 4) == []
    side.receive(PeerKey(1), wire(side, blocks[:2]))
    (run,) = side.picker.expected(PeerKey(0), 4)
    assert (run.first, run.blocks) == (2, 2)


def test_a_spilled_piece_and_a_short_block_are_not_received_in_place() -> None:
    side = seeded(2, 2, short=5)
    blocks = side.picker.next_requests(PeerKey(0), 4, 0.0)
    runs = side.picker.expected(PeerKey(0), 4)
    assert sum(run.blocks for run in runs) == (3 if blocks[-1].length < BLOCK else 1)
    geometry = Geometry.of(2 * BLOCK, [(("content",), 4 * BLOCK)])
    side = Side(geometry, True, config=TorrentConfig(max_piece_in_memory=BLOCK))
    side.join(PeerKey(0))
    assert side.picker.next_requests(PeerKey(0), 4, 0.0)
    assert side.picker.expected(PeerKey(0), 4) == []


def test_a_block_that_has_begun_is_not_lost_with_the_buffer_of_its_piece() -> None:
    """It was given up between two turns, and its buffer is another piece's by now."""
    side = seeded(2, 2, peers=2)
    blocks = side.picker.next_requests(PeerKey(0), 2, 0.0)
    data = wire(side, blocks)
    take(side, data[:9000])
    side.picker.give_back(PeerKey(0))
    other = side.picker.next_requests(PeerKey(1), 1, 0.0)
    assert other
    side.receive(PeerKey(1), wire(side, other))
    take(side, data[9000:])
    assert side.blocks_in_place == 0
    rest = side.picker.next_requests(PeerKey(1), 9, 0.0)
    side.receive(PeerKey(1), wire(side, rest))
    while side.pending:
        side.settle()
    assert not any("blamed" in decision for decision in side.decisions)


def test_a_piece_that_is_given_up_can_be_reached_no_more() -> None:
    side = seeded(1, 2)
    assert side.picker.next_requests(PeerKey(0), 2, 0.0)
    piece = side.picker._assembly.open[0]
    (run,) = side.picker.expected(PeerKey(0), 2)
    assert run.buffers[1].obj is piece.storage
    side.picker.give_back(PeerKey(0))
    assert not any(piece.landing[1][1::2])


def test_a_plan_is_forgotten_once_it_is_carried_out() -> None:
    side = seeded(1, 2)
    take(side, wire(side, side.picker.next_requests(PeerKey(0), 2, 0.0)))
    answers = side.answers[PeerKey(0)]
    assert not answers._buffers
    assert not answers._runs


def test_a_broken_piece_is_blamed_on_who_sent_it() -> None:
    side = seeded(1, 2)
    data = bytearray(wire(side, side.picker.next_requests(PeerKey(0), 2, 0.0)))
    data[-1] ^= 1
    take(side, bytes(data))
    side.settle()
    assert side.blocks_in_place == 2
    assert side.decisions[-1] == ("blamed", 0, [PeerKey(0)] * 2)


def test_of_what_is_not_expected_no_more_is_taken_in_a_turn_than_there_is_room_for() -> None:
    side = seeded()
    blocks = side.picker.next_requests(PeerKey(0), 16, 0.0)
    flood = encode(Have(1)) * 20_000
    data = wire(side, blocks[:2]) + flood
    came = side.land(PeerKey(0), data, 4096, 1 << 20)
    answers = side.answers[PeerKey(0)]
    size, events = answers.took(came, 4096)
    assert size == 2 * MESSAGE + 4096
    assert events == [BlocksInPlace(0, 0, 2), Haves((1,) * (4096 // 9))]
    turns = []
    while answers.left:
        turns.append(answers.rest(4096)[0])
    assert sum(turns) + size == came == len(data)
    assert set(turns[:-1]) == {4096}


def test_blocks_are_taken_beyond_the_room_there_is_for_other_messages() -> None:
    """A few of them: there may be many that are short."""
    side = seeded(1, 40)
    blocks = side.picker.next_requests(PeerKey(0), 40, 0.0)
    data = encode(Have(0)) + wire(side, blocks[:30]) + encode(Have(0)) * 1000
    came = side.land(PeerKey(0), data, 4096, 1 << 20)
    size, events = side.answers[PeerKey(0)].took(came, 4096)
    assert size == 30 * MESSAGE + (FEW - 30) * 9
    assert len(events) == 3
    assert side.answers[PeerKey(0)].rest(4096)[0] == 4096
    side.answers[PeerKey(0)].rest(1 << 20)
    assert came == len(data)
    tiny = memoryview(encode(Piece(0, 0, b"x")) * 10_000)
    assert seeded().answers[PeerKey(0)]._turn(tiny, 100) == FEW * 14


@pytest.mark.parametrize("begun", [1, 3, 4, 5, 12, 13, 9000])
def test_the_rest_of_what_has_begun_is_taken_along(begun: int) -> None:
    side = seeded(1, 4)
    answers = side.answers[PeerKey(0)]
    block = encode(Piece(0, 0, bytes(BLOCK)))
    bits = block[:4] + bytes([BITFIELD]) + block[5:]
    for message, is_block in ((block, True), (bits, False)):
        side.connections[PeerKey(0)].took_elsewhere(0, 0)
        side.connections[PeerKey(0)].begun.extend(message[:begun])
        data = memoryview(message[begun:] + encode(Have(0)) * 100)
        most = 90 + (len(message) - begun if is_block and begun > 4 else 0)
        assert answers._turn(data, 90) == most


def test_the_turn_is_filled_up_with_whatever_comes_behind_what_is_expected() -> None:
    side = seeded()
    blocks = side.picker.next_requests(PeerKey(0), 2, 0.0)
    data = wire(side, blocks) + encode(Have(1)) * 4
    assert side.land(PeerKey(0), data, 1 << 18, 1 << 20) == len(data)
    size, events = side.answers[PeerKey(0)].took(len(data), 1 << 18)
    assert size == len(data)
    assert events == [BlocksInPlace(blocks[0].index, 0, 2), Haves((1,) * 4)]
    buffers = side.answers[PeerKey(0)].plan(partial(side.picker.expected, PeerKey(0)), 5000, 1)
    assert [len(buffer) for buffer in buffers] == [5000]


def test_a_turn_has_as_much_room_as_it_may_whatever_has_begun() -> None:
    side = seeded()
    blocks = side.picker.next_requests(PeerKey(0), 2, 0.0)
    expect = partial(side.picker.expected, PeerKey(0))
    data = wire(side, blocks)
    for begun in (0, 5, 13, 9000):
        side.answers[PeerKey(0)] = Answers(side.connections[PeerKey(0)], side.buffer)
        take(side, data[:begun])
        buffers = side.answers[PeerKey(0)].plan(expect, 100_000, 1 << 20)
        assert sum(map(len, buffers)) == 100_000
        side.connections[PeerKey(0)].took_elsewhere(0, 0)


@pytest.mark.parametrize("begun", [MESSAGE - 1, MESSAGE, MESSAGE + 1, 3 * BLOCK])
@pytest.mark.parametrize("room", [1024, 1 << 18])
def test_there_is_room_behind_a_message_longer_than_a_block(begun: int, room: int) -> None:
    """Without any, nothing that came would look like the end of the stream."""
    side = seeded()
    (block,) = side.picker.next_requests(PeerKey(0), 1, 0.0)
    message = encode(Extended(77, bytes(3 * BLOCK)))
    take(side, message[:begun])
    buffers = side.answers[PeerKey(0)].plan(partial(side.picker.expected, PeerKey(0)), room, room)
    assert sum(map(len, buffers)) == room
    take(side, message[begun:], room)
    assert side.messages == 1
    take(side, wire(side, [block]))
    assert side.blocks_in_place == 1


def test_what_is_cut_off_behind_many_blocks_goes_to_the_front_of_the_buffer() -> None:
    """What was ever touched of it stays in memory."""
    side = seeded(16, 4)
    data = wire(side, side.picker.next_requests(PeerKey(0), 64, 0.0))
    came = side.land(PeerKey(0), data[: 40 * MESSAGE + 9000], 1 << 16, 1 << 20)
    assert came == 40 * MESSAGE + 9000
    size, events = side.answers[PeerKey(0)].took(came, 1 << 16)
    side.take(PeerKey(0), events)
    assert (size, side.blocks_in_place) == (came, 40)
    assert not any(side.buffer[9000:])
    take(side, data[came:], 1 << 16)
    assert side.blocks_in_place == 64
    assert side.picker._assembly.pending.keys() == set(range(16))


def test_what_comes_behind_what_is_expected_is_not_copied_again() -> None:
    side = seeded()
    blocks = side.picker.next_requests(PeerKey(0), 2, 0.0)
    late = Piece(0, 0, b"x" * 100)
    data = wire(side, blocks) + encode(late)
    side.land(PeerKey(0), data, 1 << 18, 1 << 20)
    _, events = side.answers[PeerKey(0)].took(len(data), 1 << 18)
    assert events == [BlocksInPlace(blocks[0].index, 0, 2), late]
    last = events[1]
    assert isinstance(last, Piece)
    assert isinstance(last.data, memoryview)
    assert last.data.obj is side.buffer.obj
