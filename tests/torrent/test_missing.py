"""Which piece is opened next for a peer."""

from __future__ import annotations

import random

from dht_torrent.config import TorrentConfig
from dht_torrent.ids import PeerKey
from dht_torrent.torrent.availability import Rarity
from dht_torrent.torrent.missing import Missing
from dht_torrent.torrent.peer_pieces import PeerPieces
from dht_torrent.torrent.pieces import Bitfield

P1, P2, P3, P4, P5 = map(PeerKey, (1, 2, 3, 4, 5))

COUNT = 20


def everything(seed: int = 1, *, have: int = 0, first: int = 0) -> tuple[Missing, Rarity]:
    """All pieces but the first `have` are missing."""
    rarity = Rarity(COUNT)
    config = TorrentConfig(random_first_pieces=first)
    missing = Missing(rarity, Bitfield(COUNT, range(have)), config, random.Random(seed))
    missing.reset(bytes(index >= have for index in range(COUNT)))
    return missing, rarity


def source(key: PeerKey, *pieces: int) -> PeerPieces:
    """With all pieces, if none is named."""
    made = PeerPieces(key, Bitfield(COUNT, pieces))
    made.all = not pieces
    return made


def choose(missing: Missing, one: PeerPieces, *, sequential: bool = False) -> int | None:
    missing.sequential = sequential
    return missing.choose(one, 0.0)


def test_until_a_few_are_here_any_piece_may_be_the_next() -> None:
    for have, varied in ((0, True), (1, False)):
        chosen = set()
        for seed in range(20):
            missing, rarity = everything(seed, have=have, first=1)
            rarity.peer_came(Bitfield(COUNT, range(COUNT - 1)).flags)  # the last is the rarest
            chosen.add(choose(missing, source(P1)))
        assert (len(chosen) > 5) == varied
        assert COUNT - 1 in chosen or varied


def test_equals_are_chosen_at_random() -> None:
    assert len({choose(everything(seed)[0], source(P1)) for seed in range(20)}) > 5


def test_in_sequence_the_first_missing_piece_comes_next_also_after_it_was_lost() -> None:
    missing, _ = everything()
    for index in range(5):
        assert choose(missing, source(P1), sequential=True) == index
        missing.remove(index)
    assert choose(missing, source(P2, 3, 9), sequential=True) == 9
    missing.add(3)
    assert choose(missing, source(P1), sequential=True) == 3


def test_a_broken_piece_comes_first_for_the_proved_and_last_for_others() -> None:
    missing, _ = everything(have=COUNT - 2)
    suspects = frozenset({P1, P2})
    assert missing.remove(18) is None
    missing.add_broken(18, suspects)
    proved = source(P1)
    proved.proved = True
    assert choose(missing, proved) == 18
    assert choose(missing, source(P1)) == 19
    assert choose(missing, source(P3)) == 19
    missing.remove(19)
    assert choose(missing, source(P1)) is None
    assert choose(missing, source(P3)) == 18
    missing.add(19)
    assert missing.remove(18) == suspects
    assert choose(missing, source(P3)) == 19


def test_a_broken_piece_that_is_wanted_no_more_is_forgotten() -> None:
    missing, _ = everything(have=COUNT - 1)
    missing.remove(19)
    missing.add_broken(19, frozenset({P1}))
    missing.reset(bytes(COUNT))
    missing.reset(bytes(COUNT - 1) + b"\x01")
    assert choose(missing, source(P1)) == 19


def test_a_peer_without_a_missing_piece_is_looked_at_once() -> None:
    missing, _ = everything(have=5)
    poor = source(P1, 0, 1)
    assert choose(missing, poor) is None
    assert poor.exhausted
    assert choose(missing, source(P2, 0, 7), sequential=True) == 7


def test_pieces_no_peer_has_are_out_of_reach() -> None:
    missing, rarity = everything(have=COUNT - 2)
    assert missing.out_of_reach()
    rarity.one_more(19)
    assert not missing.out_of_reach()
    missing.remove(19)
    assert missing.out_of_reach()
    missing.add_broken(19, frozenset())
    assert not missing.out_of_reach()
    missing.remove(19)
    rarity.seeds += 1
    assert not missing.out_of_reach()


def test_a_peer_is_asked_for_any_of_the_rarest_pieces_that_it_has() -> None:
    seen = set()
    for seed in range(60):
        missing, rarity = everything(seed)
        for others in (range(20), range(12), range(6)):  # 12 and above are the rarest
            rarity.peer_came(Bitfield(COUNT, others).flags)
        assert choose(missing, source(P1)) in range(12, 20)
        seen.add(choose(missing, source(P2, 1, 4, *range(7, 11))))
        assert choose(missing, source(P3, 0, 5)) in (0, 5)
        assert choose(missing, source(P4, 17)) == 17
        assert choose(missing, source(P5, *range(12), 17)) == 17
    assert seen == set(range(7, 11))


def test_in_sequence_a_peer_is_asked_for_whichever_piece_it_has() -> None:
    for index in range(COUNT):
        missing, _ = everything()
        assert choose(missing, source(P1, index), sequential=True) == index


def test_a_piece_stays_broken_when_the_selection_changes() -> None:
    missing, _ = everything(have=COUNT - 1)
    missing.remove(19)
    missing.add_broken(19, frozenset({P1}))
    missing.reset(bytes(COUNT - 1) + b"\x01")
    assert choose(missing, source(P1)) is None
    assert choose(missing, source(P2)) == 19


def test_in_sequence_what_is_wanted_again_comes_first_again() -> None:
    missing, _ = everything(have=5)
    assert choose(missing, source(P1), sequential=True) == 5
    missing.reset(bytes([1] * COUNT))
    assert choose(missing, source(P1), sequential=True) == 0


def test_a_seed_is_asked_for_no_piece_it_refuses_for_the_moment() -> None:
    missing, _ = everything(have=COUNT - 2)
    seed = source(P1)
    seed.refuse(18)
    seed.pause_refused(0.0)
    for _ in range(20):
        assert choose(missing, seed) == 19
    missing.remove(19)
    assert choose(missing, seed) is None
    assert not seed.exhausted  # it will not refuse for ever


def test_what_was_added_to_the_selection_is_found_by_the_rarest_too() -> None:
    missing, _ = everything(have=COUNT - 1)
    assert choose(missing, source(P1)) == 19
    missing.reset(b"\x01" + bytes(COUNT - 1))
    assert choose(missing, source(P1)) == 0
