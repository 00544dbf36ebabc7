"""Metadata from peers of whom some, or nearly all, lie."""

from __future__ import annotations

import hashlib
import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dht_torrent.bounds import MAX_INFO
from dht_torrent.config import PeerConfig
from dht_torrent.geometry import BLOCK
from dht_torrent.ids import PeerKey, parse_info_hash
from dht_torrent.torrent.metadata import (
    ASK_AGAIN,
    PAUSE,
    MetadataAssembly,
    MetadataMemory,
    metadata_block,
)
from tests.helpers.examples import examples

P1, P2, P3, P9 = map(PeerKey, (1, 2, 3, 9))

INFO = random.Random(3).randbytes(4 * BLOCK + 100)
NOWHERE = parse_info_hash(bytes(20))
JUNK = random.Random(4).randbytes(4 * BLOCK + 100)


def fetch(info: bytes = INFO) -> MetadataAssembly:
    return MetadataAssembly(parse_info_hash(hashlib.sha1(info).digest()), PeerConfig())


def wants(subject: MetadataAssembly, peer: PeerKey, now: float = 0.0) -> list[int]:
    found = []
    while (piece := subject.want(peer, now)) is not None:
        found.append(piece)
    return found


def answer(
    subject: MetadataAssembly, peer: PeerKey, piece: int, info: bytes = INFO, now: float = 0.0
) -> bytes | None:
    data = metadata_block(info, piece)
    assert data is not None
    return subject.received(peer, piece, len(info), data, now)


def test_the_info_dict_is_served_in_blocks() -> None:
    blocks = [metadata_block(INFO, piece) for piece in range(-1, 6)]
    assert blocks[0] is blocks[6] is None
    assert b"".join(block for block in blocks if block) == INFO
    assert metadata_block(b"", 0) is None


@pytest.mark.parametrize("size", [1, 100, BLOCK, BLOCK + 1, 10 * BLOCK])
def test_one_honest_peer_gives_all_of_it(size: int) -> None:
    info = bytes(size)
    subject = fetch(info)
    subject.peer_joined(P1, size, 0.0)
    got = None
    while got is None:
        asked = wants(subject, P1)
        assert 1 <= len(asked) <= 2
        for piece in asked:
            got = answer(subject, P1, piece, info)
    assert got == info == subject.info
    assert wants(subject, P1) == []


def test_several_peers_share_the_work() -> None:
    subject = fetch()
    for peer in map(PeerKey, (1, 2, 3)):
        subject.peer_joined(peer, len(INFO), 0.0)
    assert [wants(subject, peer) for peer in map(PeerKey, (1, 2, 3))] == [[0, 1], [2, 3], [4]]


def test_an_unanswered_piece_is_asked_of_another_after_three_seconds() -> None:
    subject = fetch(INFO[:BLOCK])
    subject.peer_joined(P1, BLOCK, 0.0)
    subject.peer_joined(P2, BLOCK, 0.0)
    assert wants(subject, P1) == [0]
    assert wants(subject, P2, ASK_AGAIN - 0.1) == []
    assert wants(subject, P2, ASK_AGAIN) == [0]
    assert answer(subject, P2, 0, INFO[:BLOCK], ASK_AGAIN) == INFO[:BLOCK]


def test_a_slow_peer_is_heard_after_its_time_too() -> None:
    subject = fetch(INFO[:BLOCK])
    subject.peer_joined(P1, BLOCK, 0.0)
    assert wants(subject, P1) == [0]
    assert wants(subject, P1, ASK_AGAIN) == []  # others would have their turn
    assert answer(subject, P1, 0, INFO[:BLOCK], ASK_AGAIN + 1) == INFO[:BLOCK]


def test_what_a_leaving_peer_was_asked_for_is_free_at_once() -> None:
    subject = fetch()
    for peer in map(PeerKey, (1, 2)):
        subject.peer_joined(peer, len(INFO), 0.0)
    wants(subject, P1)
    subject.peer_left(P1)
    assert wants(subject, P2) == [0, 1]
    subject.peer_left(P1)
    assert wants(subject, P1) == []


def test_what_a_leaving_peer_gave_is_kept_while_a_peer_claims_the_same_size() -> None:
    memory = MetadataMemory(1 << 20)
    info_hash = parse_info_hash(hashlib.sha1(INFO).digest())
    subject = MetadataAssembly(info_hash, PeerConfig(), memory)
    for peer in map(PeerKey, (1, 2)):
        subject.peer_joined(peer, len(INFO), 0.0)
    subject.peer_joined(P3, len(INFO) + 1, 0.0)
    assert wants(subject, P1) == [0, 1]
    answer(subject, P1, 0)
    subject.peer_left(P1)
    asked = wants(subject, P2)
    assert 0 not in asked
    for piece in asked:
        answer(subject, P2, piece)
    assert memory.held > 0
    subject.peer_left(P2)
    assert memory.held == 0


def test_a_peer_that_rejects_is_left_alone_for_a_while() -> None:
    subject = fetch()
    for peer in map(PeerKey, (1, 2)):
        subject.peer_joined(peer, len(INFO), 0.0)
    wants(subject, P1)
    for piece in (0, 1, 77):
        subject.rejected(P1, piece, 0.0)
    assert wants(subject, P1, PAUSE - 1) == []
    assert wants(subject, P2) == [0, 1]
    assert wants(subject, P1, PAUSE) != []


@pytest.mark.parametrize("size", [0, -1, MAX_INFO + 1, 2**40])
def test_a_peer_with_an_impossible_size_is_not_asked(size: int) -> None:
    subject = fetch()
    subject.peer_joined(P1, size, 0.0)
    assert wants(subject, P1) == []


def test_a_claimed_size_alone_costs_no_memory() -> None:
    tracemalloc.start()
    subject = fetch()
    for peer in map(PeerKey, range(50)):
        subject.peer_joined(peer, 4 * 1024 * 1024 - peer, 0.0)
        wants(subject, peer)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 100_000


@pytest.mark.parametrize(
    ("piece", "total", "length"),
    [
        (1, len(INFO), BLOCK),  # not asked for (only 0 was)
        (-1, len(INFO), BLOCK),
        (9, len(INFO), BLOCK),
        (0, len(INFO), BLOCK - 1),
        (0, len(INFO), BLOCK + 1),
        (0, len(INFO), 0),
        (0, len(INFO) + 1, BLOCK),
        (0, -1, BLOCK),
    ],
)
def test_an_answer_that_is_not_exactly_what_was_asked_is_ignored(
    piece: int, total: int, length: int
) -> None:
    subject = fetch()
    subject.peer_joined(P1, len(INFO), 0.0)
    assert subject.want(P1, 0.0) == 0
    assert subject.received(P1, piece, total, bytes(length), 0.0) is None
    assert subject._assemblies[len(INFO), None].blocks == {}


def test_a_stranger_is_ignored() -> None:
    assert answer(fetch(), P1, 0) is None


def test_a_peer_that_alone_sent_a_wrong_set_is_named_once() -> None:
    subject = fetch()
    subject.peer_joined(P1, len(JUNK), 0.0)
    for _ in range(3):
        for piece in wants(subject, P1):
            answer(subject, P1, piece, JUNK)
    assert subject.liars() == [1]
    assert subject.liars() == []
    assert wants(subject, P1) == []


def test_liars_about_the_size_do_not_hold_up_the_honest() -> None:
    subject = fetch()
    for peer in map(PeerKey, range(9)):
        subject.peer_joined(peer, 1000 + peer * BLOCK, 0.0)
        wants(subject, peer)
    subject.peer_joined(P9, len(INFO), 0.0)
    for _ in range(3):
        for piece in wants(subject, P9):
            answer(subject, P9, piece)
    assert subject.info == INFO


def swarm(answers: dict[int, bytes | None]) -> tuple[MetadataAssembly, int]:
    """Thirty seconds with peers that all claim the true size; None never answers. Returns how often
    an honest one was blamed as well."""
    subject, honest_blamed = fetch(), 0
    for peer in map(PeerKey, answers):
        subject.peer_joined(peer, len(INFO), 0.0)
    for now in range(30):
        for _ in range(3):
            for number, info in answers.items():
                peer = PeerKey(number)
                for piece in wants(subject, peer, float(now)):
                    if info is not None:
                        answer(subject, peer, piece, info, float(now))
                for liar in subject.liars():
                    honest_blamed += answers[liar] == INFO
                    subject.peer_left(liar)
        if subject.info is not None:
            break
    return subject, honest_blamed


@given(st.permutations(["honest", *["liar"] * 5, *["silent"] * 4]))
@settings(max_examples=examples(40))
def test_one_honest_peer_among_nine_is_enough(kinds: list[str]) -> None:
    gives = {"honest": INFO, "liar": JUNK, "silent": None}
    subject, honest_blamed = swarm({peer: gives[kind] for peer, kind in enumerate(kinds)})
    assert subject.info == INFO
    assert honest_blamed == 0


def feed(subject: MetadataAssembly, peer: PeerKey, size: int, blocks: int, now: float) -> None:
    """`peer`, which claims `size` bytes, gives the next few blocks, if it is asked."""
    subject.peer_joined(peer, size, now)
    while blocks > 0 and (asked := wants(subject, peer, now)):
        for piece in asked:
            length = min(BLOCK, size - piece * BLOCK)
            subject.received(peer, piece, size, bytes(length), now)
            blocks -= 1


def held(subject: MetadataAssembly) -> int:
    return sum(assembly.held for assembly in subject._assemblies.values())


def test_what_is_held_unverified_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dht_torrent.torrent.metadata.MAX_HELD", 8 << 20)
    memory = MetadataMemory(100 << 20)
    subject = MetadataAssembly(NOWHERE, PeerConfig(), memory)
    size = 2 << 20
    for peer in map(
        PeerKey, range(12)
    ):  # each stalls after 60 blocks, and the next comes long after
        feed(subject, peer, size - peer, 60, 100.0 * peer)
        assert held(subject) == memory.held <= 8 << 20
    assert held(subject) > 4 << 20
    assert (size - 11, None) in subject._assemblies
    assert (size - 0, None) not in subject._assemblies  # what got nothing for longest went
    subject.close()
    assert memory.held == 0


def test_all_torrents_together_hold_no_more_than_the_node_allows() -> None:
    memory = MetadataMemory(1 << 20)
    many = [MetadataAssembly(NOWHERE, PeerConfig(), memory) for _ in range(20)]
    for number, subject in enumerate(many):
        feed(subject, P1, 30 << 20, 10, float(number))
        assert memory.held <= 1 << 20
    assert sum(map(held, many)) == memory.held > 1 << 19
    for subject in many:
        subject.peer_left(P1)
    assert memory.held == 0


def test_when_memory_is_full_what_began_first_comes_to_its_end() -> None:
    info = random.Random(5).randbytes(60 * BLOCK)
    memory = MetadataMemory(64 * BLOCK)
    first = MetadataAssembly(parse_info_hash(hashlib.sha1(info).digest()), PeerConfig(), memory)
    later = MetadataAssembly(NOWHERE, PeerConfig(), memory)
    first.peer_joined(P1, len(info), 0.0)
    later.peer_joined(P1, 30 << 20, 0.5)
    now = 0.0
    while first.info is None:
        now += 0.1
        assert now < 60
        for piece in wants(first, P1, now):
            answer(first, P1, piece, info, now)
        for piece in wants(later, P1, now):
            later.received(P1, piece, 30 << 20, bytes(BLOCK), now)
        assert memory.held <= 64 * BLOCK


def test_a_peer_that_drip_feeds_when_memory_is_full_makes_room() -> None:
    info = random.Random(5).randbytes(60 * BLOCK)
    memory = MetadataMemory(64 * BLOCK)
    dripping = MetadataAssembly(NOWHERE, PeerConfig(), memory)
    feed(dripping, P1, 30 << 20, 40, 0.0)
    for second in range(0, 120, 10):
        feed(dripping, P1, 30 << 20, 1, float(second))
    honest = MetadataAssembly(parse_info_hash(hashlib.sha1(info).digest()), PeerConfig(), memory)
    honest.peer_joined(P1, len(info), 110.0)
    while honest.info is None:
        asked = wants(honest, P1, 110.0)
        assert asked
        for piece in asked:
            answer(honest, P1, piece, info, 110.0)
    assert held(dripping) == memory.held == 0


def test_metadata_that_is_too_large_is_told_of() -> None:
    subject = fetch()
    assert subject.trouble() is None
    subject.peer_joined(P1, PeerConfig().max_metadata + 1, 0.0)
    assert wants(subject, P1) == []
    trouble = subject.trouble()
    assert trouble is not None
    assert "31457281 bytes" in trouble
    assert "31457280 (30 MiB)" in trouble
    subject.peer_joined(P2, len(INFO), 0.0)  # somebody says otherwise
    assert subject.trouble() is None
    subject.peer_left(P2)
    assert subject.trouble() is not None
    subject.peer_left(P1)
    assert subject.trouble() is None


def test_a_repeated_handshake_may_correct_the_size() -> None:
    subject = fetch()
    subject.peer_joined(P1, 5, 0.0)
    wants(subject, P1)
    subject.peer_joined(P1, len(INFO), 0.0)
    assert wants(subject, P1) == [0, 1]
    subject.peer_joined(P1, len(INFO), 0.0)
    assert wants(subject, P1) == []


def test_a_peer_is_expected_to_send_what_it_was_asked_for_and_nothing_else() -> None:
    subject = fetch()
    assert not subject.expects(P1, 0)
    subject.peer_joined(P1, len(INFO), 0.0)
    assert not subject.expects(P1, 0)
    assert wants(subject, P1) == [0, 1]
    assert [piece for piece in range(5) if subject.expects(P1, piece)] == [0, 1]
    wants(subject, P1, ASK_AGAIN)  # both are late now, and still welcome
    assert [piece for piece in range(5) if subject.expects(P1, piece)] == [0, 1]
    answer(subject, P1, 0, now=ASK_AGAIN)
    subject.rejected(P1, 1, ASK_AGAIN)
    assert not any(subject.expects(P1, piece) for piece in range(5))
    assert answer(subject, P1, 1, now=ASK_AGAIN) is None


def test_a_silent_peer_is_asked_ever_later_and_soon_again_once_it_answers() -> None:
    subject = fetch(INFO[: 2 * BLOCK])
    subject.peer_joined(P1, 2 * BLOCK, 0.0)
    now, pauses = 0.0, []
    for _ in range(5):
        assert wants(subject, P1, now) == [0, 1]
        now += ASK_AGAIN
        assert wants(subject, P1, now) == []
        since = now
        while subject.want(P1, now) is None:
            now += 0.5
        pauses.append(now - since)
        subject.peer_left(PeerKey(77))  # of no consequence
        for piece in (0, 1):  # take back what this look has asked for
            subject._peers[P1].outstanding.pop(piece, None)
            subject._assemblies[2 * BLOCK, None].asked.clear()
    assert pauses == [3.0, 6.0, 12.0, PAUSE, PAUSE]
    assert wants(subject, P1, now) == [0, 1]
    answer(subject, P1, 0, INFO[: 2 * BLOCK], now)
    now += ASK_AGAIN
    assert wants(subject, P1, now) == []
    assert wants(subject, P1, now + ASK_AGAIN) == [1]  # the count began anew


def test_a_useless_answer_is_as_good_as_a_reject() -> None:
    subject = fetch()
    for peer in (P1, P2):
        subject.peer_joined(peer, len(INFO), 0.0)
    assert wants(subject, P1) == [0, 1]
    subject.received(P1, 0, len(INFO), b"short", 0.0)
    assert not subject.expects(P1, 0)
    assert subject.want(P1, PAUSE - 1) is None
    assert wants(subject, P2)[0] == 0  # free at once


def test_a_peer_that_joins_again_with_another_size_gives_back_what_it_was_asked_for() -> None:
    subject = fetch()
    for peer in (P1, P2):
        subject.peer_joined(peer, len(INFO), 0.0)
    assert wants(subject, P1) == [0, 1]
    subject.peer_joined(P1, len(INFO) + 1, 0.0)
    assert wants(subject, P2) == [0, 1]


def test_pieces_never_asked_for_come_first_then_those_asked_longest_ago() -> None:
    subject = fetch()
    subject.peer_joined(P1, len(INFO), 0.0)
    subject.peer_joined(P2, len(INFO), 0.0)
    subject.peer_joined(P3, len(INFO), 0.0)
    assert wants(subject, P1, 0.0) == [0, 1]
    assert wants(subject, P2, 1.0) == [2, 3]
    assert wants(subject, P3, ASK_AGAIN + 1) == [4, 0]
    subject.peer_left(P3)
    subject.peer_joined(P9, len(INFO), ASK_AGAIN + 1)
    assert wants(subject, P9, ASK_AGAIN + 1) == [0, 4]


def spoil(subject: MetadataAssembly, info: bytes) -> None:
    """The first two peers together make a set that fails its hash."""
    for peer, pieces in ((P1, [0, 1]), (P2, [2, 3]), (P1, [4])):
        assert wants(subject, peer) == pieces
        for piece in pieces:
            answer(subject, peer, piece, info)


def test_a_size_that_failed_is_shared_again_once_all_who_claimed_it_have_gone() -> None:
    subject = fetch()
    for peer in (P1, P2):
        subject.peer_joined(peer, len(INFO), 0.0)
    spoil(subject, JUNK)
    assert subject.liars() == []  # two took part: neither is convicted
    assert wants(subject, P1) == [0, 1]
    assert wants(subject, P2) == [0, 1]  # each makes its own
    subject.peer_left(P1)
    subject.peer_left(P2)
    for peer in (P3, P9):
        subject.peer_joined(peer, len(INFO), 0.0)
    assert wants(subject, P3) == [0, 1]
    assert wants(subject, P9) == [2, 3]


def test_memory_of_a_failed_set_and_of_one_who_left_is_given_back() -> None:
    memory = MetadataMemory(1 << 20)
    subject = MetadataAssembly(NOWHERE, PeerConfig(), memory)
    for peer in (P1, P2):
        subject.peer_joined(peer, len(INFO), 0.0)
    spoil(subject, INFO)
    assert memory.held == 0
    for peer in (P1, P2):
        for piece in wants(subject, peer):
            answer(subject, peer, piece)
    assert memory.held == 4 * BLOCK
    subject.peer_left(P1)
    assert memory.held == 2 * BLOCK
    assert held(subject) == 2 * BLOCK


def test_those_whose_blocks_were_dropped_for_lack_of_memory_are_left_alone() -> None:
    memory = MetadataMemory(3 * BLOCK)
    first, second = (MetadataAssembly(NOWHERE, PeerConfig(), memory) for _ in range(2))
    for subject, peer, now in ((first, P1, 0.0), (second, P2, 1.0)):
        subject.peer_joined(peer, 10 * BLOCK, now)
        for piece in wants(subject, peer, now):
            subject.received(peer, piece, 10 * BLOCK, bytes(BLOCK), now)
    # The one that began last gave way, and what it had.
    assert (held(first), held(second)) == (2 * BLOCK, 0)
    assert wants(second, P2, PAUSE) == []
    assert wants(second, P2, 1.0 + PAUSE) == [0, 1]
    assert wants(first, P1, 1.0) == [2, 3]


def test_memory_holds_exactly_what_it_may() -> None:
    memory = MetadataMemory(4 * BLOCK)
    subject = MetadataAssembly(NOWHERE, PeerConfig(), memory)
    feed(subject, P1, 30 << 20, 4, 0.0)
    assert memory.held == 4 * BLOCK
    for piece in wants(subject, P1, 0.0)[:1]:
        subject.received(P1, piece, 30 << 20, bytes(BLOCK), 0.0)
    assert memory.held == 0
