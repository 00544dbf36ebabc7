"""A connection lets legal messages through, however the stream is cut, and nothing else."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dht_torrent.config import PeerConfig
from dht_torrent.errors import HandshakeError, LocalProtocolError, PeerProtocolError
from dht_torrent.geometry import BLOCK
from dht_torrent.ids import parse_info_hash, parse_peer_id
from dht_torrent.peer import connection as connection_module
from dht_torrent.peer import runs as runs_module
from dht_torrent.peer.connection import Connection, Event, HandshakeReceived, Sendable
from dht_torrent.peer.extensions import (
    DontHave,
    ExtensionHandshake,
    MetadataData,
    MetadataReject,
    MetadataRequest,
    UploadOnly,
)
from dht_torrent.peer.messages import (
    AllowedFast,
    BitfieldMessage,
    Cancel,
    Choke,
    Extended,
    Have,
    HaveAll,
    HaveNone,
    Haves,
    Interested,
    KeepAlive,
    Message,
    NotInterested,
    Piece,
    PieceRun,
    Port,
    Reject,
    Request,
    RequestRun,
    Suggest,
    Unchoke,
    encode,
    encode_requests,
)
from tests.helpers.examples import examples

INFO_HASH = parse_info_hash(bytes(range(100, 120)))
PEER_ID = parse_peer_id(b"-XX0000-us us us us ")
THEIR_ID = parse_peer_id(b"-YY0000-them them th")
PIECES = 20
"""Pieces of the torrent in these tests: three bytes of bitfield, four bits spare."""
BITS = b"\x80\x00\x10"

FAST, EXTENDED, DHT = "fast", "extended", "dht"
ALL = frozenset({FAST, EXTENDED, DHT})


def their_handshake(*, speaks: frozenset[str] = ALL, info_hash: bytes = INFO_HASH) -> bytes:
    """A handshake written by hand."""
    reserved = bytearray(8)
    reserved[5] |= 0x10 if EXTENDED in speaks else 0
    reserved[7] |= 0x04 if FAST in speaks else 0
    reserved[7] |= 0x01 if DHT in speaks else 0
    return b"\x13BitTorrent protocol" + reserved + info_hash + THEIR_ID


def connected(
    *, speaks: frozenset[str] = ALL, pieces: int | None = PIECES, config: PeerConfig | None = None
) -> Connection:
    """A connection with both handshakes done; the peer speaks `speaks`, we speak everything."""
    connection = Connection(config or PeerConfig(), dht=True)
    connection.send_handshake(INFO_HASH, PEER_ID)
    assert len(connection.receive(their_handshake(speaks=speaks))) == 1
    if pieces is not None:
        assert connection.set_piece_count(pieces) == []
    return connection


def frozen(event: Event) -> tuple[type[Event], Event]:
    """An event that outlives the buffer, and is not equal to one of another type."""
    if isinstance(event, Piece):
        event = event._replace(data=bytes(event.data))
    return type(event), event


def receive_all(connection: Connection, slices: Sequence[bytes]) -> list[tuple[type[Event], Event]]:
    """All events, when each slice comes in the same buffer, as in the engine."""
    buffer = bytearray(max(map(len, slices), default=0))
    events = []
    for part in slices:
        buffer[: len(part)] = part
        for event in connection.receive(memoryview(buffer)[: len(part)]):
            events += [frozen(e) for e in singles(event)]
    return events


def singles(event: Event) -> Sequence[Event]:
    """What it stands for, if it is many messages in a row."""
    if isinstance(event, RequestRun):
        return event.requests()
    if isinstance(event, PieceRun):
        return event.pieces()
    return [Have(index) for index in event.indices] if isinstance(event, Haves) else [event]


def cut(stream: bytes, places: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[a:b] for a, b in pairwise(edges)]


@contextmanager
def allocating_less_than(most: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most


def message_of(kind: int, payload: bytes) -> bytes:
    return (1 + len(payload)).to_bytes(4) + bytes([kind]) + payload


# -- the handshake ----------------------------------------------------------------------------


def test_our_handshake_has_the_bits_of_beps_5_6_and_10() -> None:
    sent = Connection(PeerConfig(), dht=True).send_handshake(INFO_HASH, PEER_ID)
    assert sent == b"\x13BitTorrent protocol" + bytes.fromhex("0000000000100005") + (
        INFO_HASH + PEER_ID
    )
    plain = Connection(PeerConfig(), dht=False, fast=False, extended=False)
    assert plain.send_handshake(INFO_HASH, PEER_ID)[20:28] == bytes(8)


@pytest.mark.parametrize(
    "speaks",
    [ALL, frozenset(), {FAST}, {EXTENDED}, {DHT}],
    ids=lambda speaks: "+".join(sorted(speaks)) or "none",
)
def test_both_must_speak_an_extension(speaks: frozenset[str]) -> None:
    theirs = their_handshake(speaks=frozenset(speaks))
    for ours in (True, False):
        connection = Connection(PeerConfig(), dht=ours, fast=ours, extended=ours)
        [event] = connection.receive(theirs)
        both = [ours and name in speaks for name in (FAST, EXTENDED, DHT)]
        assert event == HandshakeReceived(INFO_HASH, THEIR_ID, *both)
        assert [connection.fast, connection.extended, connection.dht] == both


def test_a_dialler_learns_of_another_torrent_before_the_peer_id() -> None:
    connection = Connection(PeerConfig(), dht=True)
    connection.send_handshake(INFO_HASH, PEER_ID)
    with pytest.raises(HandshakeError, match="another torrent"):
        connection.receive(their_handshake(info_hash=b"i" * 19 + b"j")[:48])


def test_the_dialled_side_answers_for_what_was_asked() -> None:
    connection = Connection(PeerConfig(), dht=True)
    assert connection.receive(their_handshake()[:48]) == []
    assert connection.mid_message
    assert len(connection.receive(their_handshake()[48:])) == 1
    assert not connection.mid_message
    assert not connection.established
    with pytest.raises(LocalProtocolError):
        connection.send_handshake(parse_info_hash(b"j" * 20), PEER_ID)
    connection.send_handshake(INFO_HASH, PEER_ID)
    assert connection.established
    with pytest.raises(LocalProtocolError):
        connection.send_handshake(INFO_HASH, PEER_ID)


@given(st.integers(0, 19), st.integers(1, 255))
def test_another_protocol_is_refused_at_its_first_wrong_byte(place: int, change: int) -> None:
    wrong = bytearray(their_handshake())
    wrong[place] ^= change
    connection = Connection(PeerConfig(), dht=True)
    assert connection.receive(wrong[:place]) == []
    with pytest.raises(HandshakeError):
        connection.receive(wrong[place : place + 1])


# -- the stream -------------------------------------------------------------------------------

AVAILABILITIES: list[Message] = [HaveAll(), HaveNone(), BitfieldMessage(BITS)]

indexes = st.integers(0, PIECES - 1)
offsets = st.integers(0, 2**32 - 1)
blocks = st.tuples(indexes, offsets, offsets)
extension_handshakes = st.builds(
    ExtensionHandshake,
    extensions=st.just({"ut_metadata": 9}),
    request_queue=st.integers(1, 2000),
    port=st.none() | st.integers(1, 65535),
)
anything_later: st.SearchStrategy[Sendable] = st.one_of(
    st.sampled_from([KeepAlive(), Choke(), Unchoke(), Interested(), NotInterested()]),
    indexes.map(Have),
    indexes.map(Suggest),
    indexes.map(AllowedFast),
    blocks.map(lambda block: Request(*block)),
    blocks.map(lambda block: Cancel(*block)),
    blocks.map(lambda block: Reject(*block)),
    st.builds(Piece, indexes, offsets, st.binary(max_size=100)),
    st.integers(1, 65535).map(Port),
    st.integers(0, 300).map(MetadataRequest),
    st.integers(0, 300).map(MetadataReject),
    st.binary(min_size=1, max_size=100).map(lambda data: MetadataData(0, len(data), data)),
    st.booleans().map(UploadOnly),
)


def conversation(
    small_talk: list[Sendable], first: Message, rest: list[Sendable]
) -> list[Sendable]:
    return [*small_talk, first, *rest]


conversations = st.builds(
    conversation,
    st.lists(st.one_of(st.just(KeepAlive()), extension_handshakes), max_size=3),
    st.sampled_from(AVAILABILITIES),
    st.lists(anything_later, max_size=30),
)


@settings(max_examples=examples(150))
@given(conversations, st.lists(st.integers(0, 10_000), max_size=8))
def test_a_stream_may_arrive_in_any_slices(sent: list[Sendable], places: list[int]) -> None:
    speaker = connected()
    speaker.receive(message_of(20, b"\0d1:md11:ut_metadatai2e11:upload_onlyi3eee"))
    stream = b"".join(map(speaker.send, sent))
    expected = [frozen(event) for event in sent]
    assert receive_all(connected(), cut(stream, places)) == expected


def test_a_stream_may_arrive_byte_by_byte() -> None:
    sent: list[Message] = [HaveNone(), Unchoke(), KeepAlive(), Piece(1, 0, b"xyz"), Have(3)]
    stream = their_handshake() + b"".join(map(encode, sent))
    connection = Connection(PeerConfig(), dht=True)
    [handshake] = connection.receive(stream[:68])
    assert isinstance(handshake, HandshakeReceived)
    connection.set_piece_count(PIECES)
    events = receive_all(connection, [stream[i : i + 1] for i in range(68, len(stream))])
    assert events == [frozen(event) for event in sent]
    assert not connection.mid_message


def test_a_conversation_written_by_hand() -> None:
    stream = (
        b"\x00\x00\x00\x1a\x14\x00d1:md11:ut_metadatai7eee"
        b"\x00\x00\x00\x04\x05\x80\x00\x10"
        b"\x00\x00\x00\x00"
        b"\x00\x00\x00\x01\x01"
        b"\x00\x00\x00\x05\x04\x00\x00\x00\x13"
        b"\x00\x00\x00\x0d\x06\x00\x00\x00\x01\x00\x00\x40\x00\x00\x00\x40\x00"
        b"\x00\x00\x00\x0d\x06\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x40\x00"
        b"\x00\x00\x00\x0c\x07\x00\x00\x00\x02\x00\x00\x40\x00abc"
        b"\x00\x00\x00\x03\x09\x1a\xe1"
    )
    assert [event for _, event in receive_all(connected(), [stream])] == [
        ExtensionHandshake(extensions={"ut_metadata": 7}),
        BitfieldMessage(b"\x80\x00\x10"),
        KeepAlive(),
        Unchoke(),
        Have(19),
        Request(1, 16384, 16384),
        Request(2, 0, 16384),
        Piece(2, 16384, b"abc"),
        Port(6881),
    ]


# -- requests in a row ------------------------------------------------------------------------

MANY = 0x20000
"""Pieces of the torrent where requests come in a row."""
full_runs = st.builds(
    lambda index, begin, blocks: RequestRun(index, begin, blocks).requests(),
    st.sampled_from([0, 1, 2, 0x0100, 0x0101, 0x10002, MANY - 1] * 5 + [MANY]),
    st.integers(0, 2100).map(lambda number: number * BLOCK),
    st.integers(1, 40),
)
odd_requests = st.lists(
    st.builds(
        Request,
        st.sampled_from([0, 1, 0x0100, MANY - 1, MANY]),
        st.integers(0, 3).map(lambda number: number * BLOCK) | st.just(1) | st.just(2**32 - BLOCK),
        st.sampled_from([BLOCK, BLOCK, BLOCK, BLOCK - 1, 0, 2**32 - 1]),
    ),
    max_size=5,
)
other_messages = st.sampled_from(
    [[KeepAlive()], [Have(0)], [Cancel(0, BLOCK, BLOCK)], [Choke()], [Piece(0, 0, b"\0" * 50)]]
)
request_streams = st.lists(full_runs | full_runs | odd_requests | other_messages, max_size=8)


def heard(
    slices: Sequence[bytes | bytearray], *, by_runs: bool
) -> tuple[list[tuple[type[Event], Event]], int, str]:
    """The events, with runs in single requests; the messages they count as; and what was wrong."""
    connection = connected(pieces=MANY)
    events: list[tuple[type[Event], Event]] = []
    messages, wrong = 0, ""
    with pytest.MonkeyPatch.context() as patch:
        if not by_runs:
            patch.setattr(runs_module, "SPAN", 1)  # then no run is longer
            patch.setattr(connection_module, "count_pieces", lambda *_: 1)
        for part in slices:
            before = connection.unheard
            try:
                got = connection.receive(part)
            except PeerProtocolError as error:
                wrong = str(error)
                break
            messages += len(got) + connection.unheard - before
            for event in got:
                assert by_runs or not isinstance(event, RequestRun | PieceRun)
                events += [frozen(e) for e in singles(event)]
    return events, messages, wrong


@settings(max_examples=examples(300))
@given(request_streams, st.lists(st.integers(0, 50_000), max_size=6))
def test_runs_of_requests_are_what_the_single_requests_would_be(
    sent: list[list[Message]], places: list[int]
) -> None:
    stream = b"".join(encode(message) for some in sent for message in some)
    slices = cut(stream, places)
    expected = heard(slices, by_runs=False)
    assert heard(slices, by_runs=True) == expected
    if any(isinstance(m, Request) and m.index >= MANY for some in sent for m in some):
        assert expected[2] == f"asks for piece {MANY}, of {MANY}"
    else:
        assert not expected[2]
        assert expected[0] == [frozen(message) for some in sent for message in some]
        assert expected[1] == len(expected[0])


@settings(max_examples=examples(300))
@given(full_runs, st.integers(0, 17 * 40), st.integers(1, 255))
def test_a_wrong_byte_in_a_run_of_requests_is_noticed(
    sent: list[Request], place: int, change: int
) -> None:
    stream = bytearray(encode_requests(sent))
    stream[place % len(stream)] ^= change
    assert heard([stream], by_runs=True) == heard([stream], by_runs=False)


@pytest.mark.parametrize("index", [0, 1, 0x0100, 0x1FFFF])
@pytest.mark.parametrize("first", [0, 5, 1023, 1024])
@pytest.mark.parametrize("blocks", [1, 2, 16, 1000])
def test_full_blocks_in_a_row_come_as_few_runs(index: int, first: int, blocks: int) -> None:
    run = RequestRun(index, first * BLOCK, blocks)
    asked = encode_requests(run.requests())
    behind = encode_requests([(index ^ 1, 0, BLOCK), (index ^ 1, BLOCK, BLOCK)])
    *events, last = connected(pieces=MANY).receive(asked + behind)
    assert last == RequestRun(index ^ 1, 0, 2)
    if first < 1024 < first + blocks:  # it is cut at 16 MiB
        head, tail = run.requests()[: 1024 - first], run.requests()[1024 - first :]
        parts = [RequestRun(index, some[0].begin, len(some)) for some in (head, tail)]
        assert events == [part if part.blocks > 1 else part.requests()[0] for part in parts]
    else:
        assert events == ([run] if blocks > 1 else run.requests())


# -- blocks in a row --------------------------------------------------------------------------

block_runs = st.builds(
    lambda index, begin, blocks, length: [
        Piece(index, begin + number * BLOCK, bytes([number]) * length) for number in range(blocks)
    ],
    st.sampled_from([0, 1, 0x0100, MANY - 1] * 5 + [MANY]),
    st.sampled_from([0, BLOCK, 7 * BLOCK, 1, 2**32 - 2 * BLOCK, 2**32 - BLOCK]),
    st.integers(1, 20),
    st.sampled_from([BLOCK] * 6 + [BLOCK - 1, 0]),
).map(lambda pieces: [piece for piece in pieces if piece.begin < 2**32])
block_streams = st.lists(block_runs | block_runs | other_messages | odd_requests, max_size=6)


@settings(max_examples=examples(150))
@given(block_streams, st.lists(st.integers(0, 500_000), max_size=5))
def test_runs_of_blocks_are_what_the_single_blocks_would_be(
    sent: list[list[Message]], places: list[int]
) -> None:
    slices = cut(b"".join(encode(message) for some in sent for message in some), places)
    expected = heard(slices, by_runs=False)
    assert heard(slices, by_runs=True) == expected
    assert expected[1] == len(expected[0])


@settings(max_examples=examples(150))
@given(block_runs, st.integers(0, 5), st.integers(0, 12), st.integers(1, 255))
def test_a_wrong_byte_in_a_header_of_a_run_of_blocks_is_noticed(
    sent: list[Piece], number: int, place: int, change: int
) -> None:
    stream = bytearray(b"".join(map(encode, sent)))
    at = number % len(sent) * (len(stream) // len(sent)) + place
    stream[at] ^= change
    assert heard([stream], by_runs=True) == heard([stream], by_runs=False)


def test_full_blocks_in_a_row_come_as_one_event() -> None:
    def blocks(index: int, begin: int, count: int) -> list[Piece]:
        return [Piece(index, begin + n * BLOCK, bytes([index + n]) * BLOCK) for n in range(count)]

    def event(index: int, begin: int, count: int) -> PieceRun:
        messages = b"".join(map(encode, blocks(index, begin, count)))
        return PieceRun(index, begin, count, memoryview(messages))

    parts = [(1, 0, 3), (1, 4 * BLOCK, 2), (2, 5, 2), (3, 0, 2), (2, 2**32 - 2 * BLOCK, 2)]
    stream = b"".join(encode(piece) for part in parts for piece in blocks(*part))
    more = encode(Have(0)) + b"".join(map(encode, blocks(5, 0, 2)))
    got = connected().receive(stream + more + encode(blocks(5, 2 * BLOCK, 1)[0])[:-1])
    assert got == [*(event(*part) for part in parts), Have(0), event(5, 0, 2)]
    first = got[0]
    assert isinstance(first, PieceRun)
    assert first.pieces() == blocks(1, 0, 3)
    assert first.payloads() == [piece.data for piece in blocks(1, 0, 3)]


have_streams = st.lists(
    st.lists(st.sampled_from([0, 7, 0x0100, MANY - 1] * 5 + [MANY, 2**32 - 1]).map(Have))
    | other_messages,
    max_size=6,
)


@settings(max_examples=examples(200))
@given(have_streams, st.lists(st.integers(0, 400), max_size=6))
def test_haves_in_a_row_are_what_the_single_haves_would_be(
    sent: list[list[Message]], places: list[int]
) -> None:
    messages = [message for some in sent for message in some]
    raw = [encode(message) for message in messages]
    alone = heard(raw, by_runs=True)
    in_a_row = heard(cut(b"".join(raw), places), by_runs=True)
    assert in_a_row[2] == alone[2]
    if not alone[2]:  # else events that came together are lost with the error
        assert in_a_row == alone
        assert alone[0] == [frozen(message) for message in messages]
        assert alone[1] == len(messages)
    assert bool(alone[2]) == any(isinstance(m, Have) and m.index >= MANY for m in messages)


def test_haves_in_a_row_come_as_one() -> None:
    connection = connected(pieces=MANY)
    sent: list[Message] = [Have(3), Have(1), Have(3), Unchoke(), Have(5), Have(6)]
    raw = b"".join(map(encode, sent))
    assert connection.receive(raw[:-2]) == [Haves((3, 1, 3)), Unchoke(), Have(5)]
    assert connection.unheard == 2
    assert connection.receive(raw[-2:]) == [Have(6)]


@given(st.lists(st.integers(0, PIECES - 1), min_size=1))
def test_haves_are_sent_as_the_single_haves_would_be(indices: list[int]) -> None:
    connection = connected(speaks=frozenset())
    assert connection.send(Haves(tuple(indices))) == b"".join(encode(Have(i)) for i in indices)


def test_haves_are_judged_as_single_haves_are_before_they_are_sent() -> None:
    with pytest.raises(LocalProtocolError, match="first comes a bitfield"):
        connected().send(Haves((0, 1)))
    connection = connected(speaks=frozenset())
    with pytest.raises(LocalProtocolError, match=f"piece {PIECES} of {PIECES}"):
        connection.send(Haves((0, PIECES, 1)))
    with pytest.raises(LocalProtocolError, match="out of range"):
        connection.send(Haves((0, -1)))


def test_a_block_that_came_whole_is_not_copied() -> None:
    buffer = bytearray(encode(Piece(0, 0, b"abc")) * 2 + encode(Piece(1, 0, b"abc"))[:15])
    first, second = connected().receive(buffer)
    buffer[13:16] = b"xyz"
    assert isinstance(first, Piece)
    assert isinstance(second, Piece)
    assert bytes(first.data) == b"xyz"
    assert bytes(second.data) == b"abc"


def test_a_message_that_began_is_noticed_until_it_ends() -> None:
    connection = connected()
    raw = encode(Piece(0, 0, bytes(16384)))
    for part in (raw[:2], raw[2:4], raw[4:5], raw[5:100]):
        assert connection.receive(part) == []
        assert connection.mid_message
    assert len(connection.receive(raw[100:] + b"\0\0")) == 1
    assert connection.mid_message
    assert connection.receive(b"\0\0") == [KeepAlive()]
    assert not connection.mid_message


def test_what_follows_the_handshake_in_the_same_bytes_is_heard() -> None:
    behind = encode(HaveAll()) + encode(Unchoke()) + encode(Have(1))[:5]
    for pieces in (PIECES, None):
        connection = Connection(PeerConfig(), dht=True)
        [handshake] = connection.receive(their_handshake() + behind)
        assert isinstance(handshake, HandshakeReceived)
        assert connection.mid_message
        if pieces is not None:
            assert connection.set_piece_count(pieces) == []
            assert connection.receive(b"") == [HaveAll(), Unchoke()]
        else:
            assert connection.receive(b"") == [Unchoke()]
            assert connection.set_piece_count(PIECES) == [HaveAll()]
        assert connection.receive(encode(Have(1))[5:]) == [Have(1)]


# -- bounds -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "start",
    [
        b"\xff\xff\xff\xff",
        b"\x80\x00\x00\x00",
        ((1 << 20) + 1).to_bytes(4),
        (10 + 16384).to_bytes(4) + b"\x07",
        (8).to_bytes(4) + b"\x07",
        (5).to_bytes(4) + b"\x05",
        (3).to_bytes(4) + b"\x05",
        (64 * 1024 + 1).to_bytes(4) + b"\x14",
        (1).to_bytes(4) + b"\x14",
        (2).to_bytes(4) + b"\x00",
        (14).to_bytes(4) + b"\x06",
        (1).to_bytes(4) + b"\x15",
        (1).to_bytes(4) + b"\xff",
    ],
    ids=bytes.hex,
)
def test_a_length_that_cannot_be_is_refused_when_only_it_and_the_id_are_here(start: bytes) -> None:
    for slices in ([start], [start[i : i + 1] for i in range(len(start))]):
        connection = connected()
        with allocating_less_than(100_000), pytest.raises(PeerProtocolError):
            receive_all(connection, slices)


def test_what_is_kept_grows_only_with_what_came() -> None:
    connection = connected(pieces=None)
    with allocating_less_than(20_000):
        connection.receive((1 + 256 * 1024).to_bytes(4) + b"\x05")
        connection.receive(bytes(100))
    assert connection.mid_message


def test_a_bitfield_before_the_metadata_is_bounded() -> None:
    with pytest.raises(PeerProtocolError):
        connected(pieces=None).receive((2 + 256 * 1024).to_bytes(4) + b"\x05")


def test_each_id_with_each_length_is_heard_or_refused() -> None:
    lengths: dict[int, Sequence[int]] = {
        **dict.fromkeys((0, 1, 2, 3, 14, 15), (1,)),
        **dict.fromkeys((4, 13, 17), (5,)),
        **dict.fromkeys((6, 8, 16), (13,)),
        5: (4,),
        7: range(9, 21),
        9: (3,),
        20: range(2, 21),
    }
    for kind in range(256):
        for length in range(1, 21):
            # Extension id 200 is one we never gave: such messages are ignored whatever they hold.
            payload = (b"\xc8" if kind == 20 else b"\0") * (length - 1)
            connection = connected()
            if length in lengths.get(kind, ()):
                connection.receive(message_of(kind, payload))
                assert not connection.mid_message
            else:
                with pytest.raises(PeerProtocolError):
                    connection.receive(message_of(kind, payload))


@pytest.mark.parametrize("index", [PIECES, PIECES + 1, 2**31 - 1, 2**31, 2**32 - 1])
def test_an_index_beyond_the_last_piece_is_refused(index: int) -> None:
    wrong: list[Message] = [
        Have(index),
        Request(index, 0, 16384),
        Cancel(index, 0, 16384),
        Reject(index, 0, 16384),
        Piece(index, 0, b"abc"),
    ]
    for message in wrong:
        with pytest.raises(PeerProtocolError):
            connected().receive(encode(message))
    with pytest.raises(PeerProtocolError):
        connected().receive(encode_requests([(0, 0, 1), (index, 0, 1)]))


def test_hints_about_pieces_that_do_not_exist_are_lost() -> None:
    assert connected().receive(encode(Suggest(PIECES)) + encode(AllowedFast(PIECES))) == []


# -- order ------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", AVAILABILITIES, ids=repr)
@pytest.mark.parametrize(
    "before", [*AVAILABILITIES, Have(1), Unchoke(), Interested(), Request(0, 0, 1)], ids=repr
)
def test_a_bitfield_may_come_at_any_time(before: Message, late: Message) -> None:
    connection = connected()
    heard = connection.receive(encode(before) * 2 + encode(late))
    assert [single for event in heard for single in singles(event)] == [before, before, late]


def test_bitfields_before_the_metadata_are_added_up() -> None:
    magnet = connected(pieces=None)
    for message in (BitfieldMessage(BITS), Have(1), BitfieldMessage(b"\x01\0\0"), HaveNone()):
        assert magnet.receive(encode(message)) == []
    assert magnet.set_piece_count(PIECES) == [BitfieldMessage(b"\xc1\x00\x10")]
    whole = connected(pieces=None)
    whole.receive(encode(HaveAll()) + encode(HaveNone()))
    assert whole.set_piece_count(PIECES) == [HaveAll()]
    with pytest.raises(PeerProtocolError):
        connected(pieces=None).receive(
            encode(BitfieldMessage(BITS)) + encode(BitfieldMessage(b"\0"))
        )


@pytest.mark.parametrize("bits", [b"\xff\xff", b"\xff\xff\xf0\x00", b"\x00\x00\x01"])
def test_a_late_bitfield_is_checked_as_an_early_one(bits: bytes) -> None:
    for pieces in (PIECES, None):
        connection = connected(pieces=pieces)
        connection.receive(encode(BitfieldMessage(BITS)) + encode(Unchoke()))
        refused = False
        try:
            connection.receive(encode(BitfieldMessage(bits)))
            if pieces is None:
                connection.set_piece_count(PIECES)
        except PeerProtocolError:
            refused = True
        assert refused


def test_messages_without_an_event_are_counted() -> None:
    connection = connected()
    connection.receive(encode(Suggest(PIECES)) + encode(Port(0)) + encode(Extended(200, b"x")))
    assert connection.unheard == 3
    magnet = connected(pieces=None)
    magnet.receive(encode(Have(1)) * 7 + encode(Unchoke()))
    assert magnet.unheard == 7


@pytest.mark.parametrize("first", AVAILABILITIES, ids=repr)
def test_small_talk_may_come_before_the_bitfield(first: Message) -> None:
    talk = encode(KeepAlive()) + encode(Port(1)) + encode(Extended(0, b"de"))
    assert connected().receive(talk + encode(first))[3:] == [first]


@pytest.mark.parametrize("bits", [b"\xff\xff", b"\xff\xff\xf0\x00", b"\x00\x00\x01", b"\xff" * 3])
def test_a_bitfield_of_another_torrent_is_refused(bits: bytes) -> None:
    with pytest.raises(PeerProtocolError):
        connected().receive(encode(BitfieldMessage(bits)))
    magnet = connected(pieces=None)
    assert magnet.receive(encode(BitfieldMessage(bits))) == []
    with pytest.raises(PeerProtocolError):
        magnet.set_piece_count(PIECES)


@pytest.mark.parametrize("message", [HaveAll(), HaveNone(), Suggest(0), AllowedFast(0)], ids=repr)
def test_fast_messages_need_the_fast_bit_of_both(message: Message) -> None:
    slow = connected(speaks=ALL - {FAST})
    with pytest.raises(PeerProtocolError):
        slow.receive(encode(message))
    with pytest.raises(LocalProtocolError):
        slow.send(message)


def test_extension_messages_need_the_bit_of_both() -> None:
    plain = connected(speaks=ALL - {EXTENDED})
    with pytest.raises(PeerProtocolError):
        plain.receive(encode(Extended(0, b"de")))
    with pytest.raises(LocalProtocolError):
        plain.send(ExtensionHandshake())


def test_a_port_is_heard_only_by_a_node_with_a_dht() -> None:
    assert connected(speaks=ALL - {DHT}).receive(encode(Port(7))) == [Port(7)]
    assert connected().receive(encode(Port(0))) == []
    alone = Connection(PeerConfig(), dht=False)
    alone.receive(their_handshake())
    assert alone.receive(encode(Port(7))) == []


# -- before the metadata is known -------------------------------------------------------------


def test_what_a_peer_has_is_told_when_the_metadata_is_known() -> None:
    magnet = connected(pieces=None)
    heard: list[Message] = [BitfieldMessage(BITS), Have(1), Have(19), Have(1), Unchoke()]
    assert magnet.receive(b"".join(map(encode, heard))) == [Unchoke()]
    assert magnet.set_piece_count(PIECES) == [BitfieldMessage(b"\xc0\x00\x10")]
    assert magnet.receive(encode(Have(2))) == [Have(2)]


@pytest.mark.parametrize("first", [HaveAll(), HaveNone(), None], ids=repr)
def test_haves_before_the_metadata_are_added_up(first: Message | None) -> None:
    magnet = connected(pieces=None)
    if first is not None:
        magnet.receive(encode(first))
    magnet.receive(encode(Have(8)) + encode(AllowedFast(3)) + encode(AllowedFast(PIECES)))
    told = [BitfieldMessage(b"\x00\x80\x00"), *([first] if first == HaveAll() else [])]
    assert magnet.set_piece_count(PIECES) == [*told, AllowedFast(3)]


def test_a_silent_peer_has_told_nothing_and_may_still_tell() -> None:
    magnet = connected(pieces=None)
    assert magnet.set_piece_count(PIECES) == []
    assert magnet.receive(encode(BitfieldMessage(BITS))) == [BitfieldMessage(BITS)]
    with pytest.raises(LocalProtocolError):
        magnet.set_piece_count(PIECES)


@pytest.mark.parametrize("index", [PIECES, PIECES + 3, PIECES + 4, 100, 0x200000 - 1])
def test_a_have_that_turns_out_to_be_beyond_the_last_piece_is_refused(index: int) -> None:
    magnet = connected(pieces=None)
    magnet.receive(encode(Have(index)))
    with pytest.raises(PeerProtocolError):
        magnet.set_piece_count(PIECES)


def test_the_first_piece_is_not_known_before_the_metadata_either() -> None:
    connection = connected(pieces=None)
    # Many at once, as they come to the short way for known pieces.
    assert connection.receive(encode(Have(0)) * 5 + encode(Request(0, 0, 16384)) * 2) == []
    assert connection.set_piece_count(PIECES) == [
        BitfieldMessage(b"\x80\0\0"),
        Request(0, 0, 16384),
        Request(0, 0, 16384),
    ]


@pytest.mark.parametrize("pieces", [1, 7, 8, 9, 15, 16, 17, 24])
def test_a_bitfield_has_a_bit_for_each_piece_and_not_a_byte_more(pieces: int) -> None:
    size = -(-pieces // 8)
    whole = ((1 << 8 * size) - (1 << 8 * size - pieces)).to_bytes(size, "big")
    told = BitfieldMessage(whole)
    assert connected(pieces=pieces).receive(encode(told)) == [told]
    connection = connected(pieces=None)
    assert connection.receive(encode(told)) == []
    assert connection.set_piece_count(pieces) == [told]
    connection = connected(pieces=None)
    for index in range(pieces):
        assert connection.receive(encode(Have(index))) == []
    assert connection.set_piece_count(pieces) == [told]
    for wrong in (whole + b"\0", whole[:-1]):
        with pytest.raises(PeerProtocolError, match="bitfield"):
            connected(pieces=pieces).receive(encode(BitfieldMessage(wrong)))
        if wrong:  # an empty one is refused at once
            connection = connected(pieces=None)
            assert connection.receive(encode(BitfieldMessage(wrong))) == []
            with pytest.raises(PeerProtocolError, match="bitfield"):
                connection.set_piece_count(pieces)


def test_haves_before_the_metadata_are_bounded() -> None:
    magnet = connected(pieces=None)
    with allocating_less_than(1_000_000):
        magnet.receive(encode(Have(0x200000 - 1)) * 1000)
    with pytest.raises(PeerProtocolError):
        magnet.receive(encode(Have(0x200000)))


def test_a_peer_cannot_answer_what_could_not_be_asked() -> None:
    for message in (Piece(0, 0, b"abc"), Reject(0, 0, 3)):
        with pytest.raises(PeerProtocolError):
            connected(pieces=None).receive(encode(message))


def test_requests_before_the_metadata_wait_for_it_and_are_checked_then() -> None:
    heard: list[Message] = [Request(7, 0, 16384), Cancel(7, 0, 16384), Request(PIECES - 1, 0, 9)]
    magnet = connected(pieces=None)
    assert magnet.receive(b"".join(map(encode, heard))) == []
    assert magnet.set_piece_count(PIECES) == heard
    for message in (Request(PIECES, 0, 16384), Cancel(PIECES, 0, 16384)):
        magnet = connected(pieces=None)
        assert magnet.receive(encode(message)) == []
        with pytest.raises(PeerProtocolError):
            magnet.set_piece_count(PIECES)


def test_requests_before_the_metadata_are_bounded() -> None:
    for message in (Request(0x200000 - 1, 0, 1), Cancel(0x200000 - 1, 0, 1)):
        magnet = connected(pieces=None)
        assert magnet.receive(encode(message) * 300) == []
        with pytest.raises(PeerProtocolError):
            magnet.receive(encode(message))
    for message in (Request(0x200000, 0, 1), Cancel(0x200000, 0, 1)):
        with pytest.raises(PeerProtocolError):
            connected(pieces=None).receive(encode(message))


def test_hints_before_the_metadata_are_bounded() -> None:
    magnet = connected(pieces=None)
    stream = b"".join(encode(AllowedFast(index)) for index in range(1000))
    with allocating_less_than(500_000):
        assert magnet.receive(stream * 10 + encode(Suggest(1)) * 10_000) == []
    assert magnet.set_piece_count(PIECES) == [AllowedFast(index) for index in range(PIECES)]


def gist(connection: Connection, events: Sequence[tuple[type[Event], Event]]) -> dict[str, object]:
    """What events come down to: order counts within each part, not between them."""
    have: set[int] = set()
    talk, allowed, requests = [], set(), []
    for kind, event in events:
        match event:
            case BitfieldMessage(bits):
                have |= {i for i in range(PIECES) if bits[i // 8] & 0x80 >> i % 8}
            case HaveAll():
                have |= set(range(PIECES))
            case Have(index):
                have.add(index)
            case AllowedFast(index):
                allowed.add(index)
            case Request() | Cancel():
                requests.append((kind, event))
            case HaveNone() | Suggest():
                pass  # nothing follows from them
            case _:
                talk.append((kind, event))
    return {
        "has": have,
        "allowed": allowed,
        "requests": requests,
        "talk": talk,
        "began": connection.mid_message,
        "speaks": connection.supports("ut_metadata"),
    }


beyond = st.one_of(indexes, indexes, indexes, st.sampled_from([PIECES, PIECES + 1, 24, 2**32 - 1]))
about_pieces: st.SearchStrategy[Message] = st.one_of(
    st.sampled_from([HaveAll(), HaveNone(), BitfieldMessage(BITS), BitfieldMessage(b"\0\0")]),
    st.builds(BitfieldMessage, st.binary(min_size=3, max_size=3)),
    beyond.map(Have),
    beyond.map(Suggest),
    beyond.map(AllowedFast),
    st.builds(Request, beyond, offsets, offsets),
    st.builds(Cancel, beyond, offsets, offsets),
    st.sampled_from([Choke(), Unchoke(), Interested(), KeepAlive(), Extended(0, b"de"), Port(1)]),
)
answers: st.SearchStrategy[Message] = st.one_of(
    st.builds(Piece, beyond, offsets, st.binary(max_size=40)),
    st.builds(Reject, beyond, offsets, offsets),
)


@settings(max_examples=examples(400))
@given(st.data())
def test_when_the_piece_count_comes_makes_no_difference(data: st.DataObject) -> None:
    """Cut anywhere, the count known from the start or learned at any point: the same events, or the
    peer's fault. Save that answers which come before anything could be asked are always that."""
    early = b"".join(map(encode, data.draw(st.lists(about_pieces, max_size=12))))
    late = b"".join(map(encode, data.draw(st.lists(st.one_of(about_pieces, answers), max_size=6))))
    # The count comes somewhere in the first part: after part of a message, as likely as not.
    told_at = data.draw(st.integers(0, len(early)))
    places = data.draw(st.lists(st.integers(0, 10_000), max_size=6))
    with_handshake = data.draw(st.booleans())
    outcomes: list[dict[str, object] | None] = []
    for at in (0, told_at):
        connection = Connection(PeerConfig(), dht=True)
        connection.send_handshake(INFO_HASH, PEER_ID)
        before, after = cut(early[:at], places), cut(early[at:] + late, places)
        events = []
        try:
            first = their_handshake() + (before.pop(0) if with_handshake else b"")
            assert len(connection.receive(first)) == 1
            events += receive_all(connection, before)
            events += [frozen(event) for event in connection.set_piece_count(PIECES)]
            events += receive_all(connection, after)
        except PeerProtocolError:
            outcomes.append(None)
        else:
            outcomes.append(gist(connection, events))
    assert outcomes[0] == outcomes[1]


# -- extensions -------------------------------------------------------------------------------


def test_the_ids_to_send_with_are_theirs_and_those_to_receive_with_ours() -> None:
    connection = connected()
    assert not connection.supports("ut_metadata")
    with pytest.raises(LocalProtocolError):
        connection.send(MetadataRequest(0))
    connection.receive(message_of(20, b"\0d1:md11:ut_metadatai77eee"))
    assert connection.supports("ut_metadata")
    assert connection.send(MetadataRequest(0)) == message_of(20, b"Md8:msg_typei0e5:piecei0ee")
    assert connection.receive(message_of(20, b"\2d8:msg_typei0e5:piecei5ee")) == [
        MetadataRequest(5)
    ]
    assert connection.receive(message_of(20, b"Md8:msg_typei0e5:piecei5ee")) == []


def test_handshakes_add_to_each_other_and_id_0_takes_back() -> None:
    connection = connected()
    connection.receive(message_of(20, b"\0d1:md11:ut_metadatai7eee"))
    connection.receive(message_of(20, b"\0d1:md11:upload_onlyi8eee"))
    assert connection.supports("ut_metadata")
    assert connection.supports("upload_only")
    connection.receive(message_of(20, b"\0d1:md11:ut_metadatai0eee"))
    assert not connection.supports("ut_metadata")
    assert connection.supports("upload_only")


def test_extension_handshakes_without_end_are_refused() -> None:
    connection = connected(config=PeerConfig(max_extension_handshakes=10))
    for _ in range(10):
        connection.receive(encode(Extended(0, b"de")))
    with pytest.raises(PeerProtocolError):
        connection.receive(encode(Extended(0, b"de")))


def test_our_extension_handshake_tells_our_ids() -> None:
    assert connected().send(ExtensionHandshake(request_queue=500)) == message_of(
        20,
        b"\0d1:md11:lt_donthavei7e11:upload_onlyi3e12:ut_holepunchi4e11:ut_metadatai2e6:ut_pexi1ee"
        b"4:reqqi500ee",
    )


# -- what we may send -------------------------------------------------------------------------


def test_nothing_is_sent_before_both_handshakes() -> None:
    connection = Connection(PeerConfig(), dht=True)
    connection.receive(their_handshake())
    with pytest.raises(LocalProtocolError):
        connection.send(KeepAlive())


def test_we_send_a_bitfield_first_or_not_at_all() -> None:
    fast = connected()
    fast.send(ExtensionHandshake())
    fast.send(Port(1))
    with pytest.raises(LocalProtocolError):
        fast.send(Interested())
    fast.send(HaveNone())
    fast.send(Interested())
    for late in AVAILABILITIES:
        with pytest.raises(LocalProtocolError):
            fast.send(late)
    slow = connected(speaks=frozenset())
    slow.send(Interested())
    with pytest.raises(LocalProtocolError):
        slow.send(BitfieldMessage(BITS))


@pytest.mark.parametrize(
    "message", [Have(PIECES), Request(PIECES, 0, 1), AllowedFast(PIECES), BitfieldMessage(b"1")]
)
def test_we_do_not_speak_of_pieces_that_do_not_exist(message: Message) -> None:
    connection = connected()
    if not isinstance(message, BitfieldMessage):
        connection.send(HaveAll())
    with pytest.raises(LocalProtocolError):
        connection.send(message)


def test_a_port_is_sent_only_to_a_peer_with_a_dht() -> None:
    with pytest.raises(LocalProtocolError):
        connected(speaks=ALL - {DHT}).send(Port(1))


# -- anything ---------------------------------------------------------------------------------

lengths = st.one_of(st.integers(0, 20), st.integers(0, 2**32 - 1))
chunks = st.one_of(
    st.binary(max_size=60),
    st.builds(message_of, st.integers(0, 22), st.binary(max_size=30)),
    st.builds(lambda length, rest: length.to_bytes(4) + rest, lengths, st.binary(max_size=30)),
    st.builds(
        lambda kind, rest: message_of(20, bytes([kind]) + rest), st.integers(0, 4), st.binary()
    ),
    anything_later.filter(lambda m: hasattr(m, "_fields")).map(encode),  # type: ignore[arg-type]
)


@settings(max_examples=examples(300))
@given(st.lists(chunks, max_size=12), st.sampled_from([PIECES, None]), st.booleans())
def test_any_bytes_are_events_or_the_peers_fault(
    parts: list[bytes], pieces: int | None, fast: bool
) -> None:
    connection = connected(pieces=pieces, speaks=ALL if fast else ALL - {FAST})
    try:
        receive_all(connection, parts)
        if pieces is None:
            connection.set_piece_count(PIECES)
    except PeerProtocolError:
        return
    assert connection.established


@settings(max_examples=examples(150))
@given(st.lists(chunks, max_size=12), st.lists(st.integers(0, 1000), max_size=6))
def test_a_fault_is_found_however_the_stream_is_cut(parts: list[bytes], places: list[int]) -> None:
    stream = b"".join(parts)
    outcomes: list[list[tuple[type[Event], Event]] | None] = []
    for slices in ([stream], cut(stream, places)):
        try:
            outcomes.append(receive_all(connected(), slices))
        except PeerProtocolError:
            outcomes.append(None)
    assert outcomes[0] == outcomes[1]


@given(st.binary(max_size=100))
def test_any_first_bytes_are_a_handshake_or_a_handshake_error(raw: bytes) -> None:
    connection = Connection(PeerConfig(), dht=True)
    if b"\x13BitTorrent protocol".startswith(raw[:20]):
        assert connection.receive(raw) == []
    else:
        with pytest.raises(HandshakeError):
            connection.receive(raw)


def test_a_long_bitfield_counts_as_many_messages() -> None:
    connection = connected(pieces=8 * 6400)
    bits = encode(BitfieldMessage(b"\x80" + bytes(6399)))
    assert len(connection.receive(bits * 2)) == 2
    assert connection.unheard == 200
    small = connected()
    assert len(small.receive(encode(BitfieldMessage(BITS)))) == 1
    assert small.unheard == 0


@given(st.integers(0, 68))
def test_a_handshake_may_be_cut_anywhere_and_have_messages_behind_it(cut: int) -> None:
    theirs = their_handshake() + encode(HaveAll()) + encode(Unchoke())
    connection = Connection(PeerConfig(), dht=True)
    events = connection.receive(theirs[:cut])
    events += connection.receive(theirs[cut:])
    if cut == 68:  # what came next came by itself
        events += connection.set_piece_count(PIECES)
        assert events[1:] == [Unchoke(), HaveAll()]
        return
    assert events == [HandshakeReceived(INFO_HASH, THEIR_ID, True, True, True)]
    assert connection.set_piece_count(PIECES) == []
    assert connection.receive(b"") == [HaveAll(), Unchoke()]


def test_before_their_handshake_they_speak_nothing() -> None:
    connection = Connection(PeerConfig(), dht=True)
    assert [connection.fast, connection.extended, connection.dht] == [False] * 3


@pytest.mark.parametrize(("pieces", "size"), [(7, 1), (8, 1), (9, 2), (16, 2), (17, 3)])
def test_our_bitfield_has_a_bit_for_each_piece(pieces: int, size: int) -> None:
    for wrong in (size - 1, size + 1):
        with pytest.raises(LocalProtocolError):
            connected(pieces=pieces).send(BitfieldMessage(bytes(wrong)))
    connected(pieces=pieces).send(BitfieldMessage(bytes(size)))


def test_the_longest_message_is_heard_and_no_longer_one() -> None:
    bits = bytes(2000)
    for most, heard in ((2001, True), (2000, False)):
        connection = connected(pieces=16_000, config=PeerConfig(max_message=most))
        if heard:
            assert connection.receive(encode(BitfieldMessage(bits))) == [BitfieldMessage(bits)]
        else:
            with pytest.raises(PeerProtocolError):
                connection.receive(encode(BitfieldMessage(bits)))


@pytest.mark.parametrize("bits", [bytes(2), bytes(4)])
@pytest.mark.parametrize("index", [0, 16, 19])
def test_no_have_makes_up_for_an_early_bitfield_of_another_torrent(bits: bytes, index: int) -> None:
    connection = connected(pieces=None)
    assert receive_all(connection, [encode(BitfieldMessage(bits)), encode(Have(index))]) == []
    with pytest.raises(PeerProtocolError):
        connection.set_piece_count(PIECES)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 63, 64, 65, 1000])
def test_an_early_bitfield_and_the_haves_after_it_are_one(count: int) -> None:
    connection = connected(pieces=None)
    bits = bytearray((count + 7) // 8)
    bits[0] = 0x80
    early = [encode(BitfieldMessage(bytes(bits))), encode(Have(count - 1))]
    assert receive_all(connection, early) == []
    bits[(count - 1) // 8] |= 0x80 >> (count - 1) % 8
    assert connection.set_piece_count(count) == [BitfieldMessage(bytes(bits))]


# -- lost pieces (BEP 54) ---------------------------------------------------------------------


def lost(index: int) -> bytes:
    return message_of(20, b"\x07" + index.to_bytes(4, "big"))


def test_a_lost_piece_is_told_and_one_the_torrent_has_not_is_a_fault() -> None:
    assert connected().receive(lost(PIECES - 1)) == [DontHave(PIECES - 1)]
    with pytest.raises(PeerProtocolError, match="has lost piece"):
        connected().receive(lost(PIECES))
    with pytest.raises(PeerProtocolError, match="has 3 bytes"):
        connected().receive(message_of(20, b"\x07\0\0\0"))


def test_what_was_lost_before_the_number_of_pieces_was_known_comes_after_what_was_had() -> None:
    connection = connected(pieces=None)
    assert connection.receive(message_of(14, b"") + lost(1) + lost(2)) == []
    connection.receive(message_of(4, (2).to_bytes(4, "big")))
    events = connection.set_piece_count(PIECES)
    assert events[-1] == DontHave(1)
    assert DontHave(2) not in events
    connection = connected(pieces=None)
    connection.receive(lost(PIECES))
    with pytest.raises(PeerProtocolError, match="has lost piece"):
        connection.set_piece_count(PIECES)
    connection = connected(pieces=None)
    connection.receive(lost(1) + message_of(14, b""))
    assert DontHave(1) not in connection.set_piece_count(PIECES)
    with pytest.raises(PeerProtocolError, match="without end"):
        connected(pieces=None).receive(b"".join(map(lost, range(2000))))
