"""What every catalogue does: who may replace what, who is believed, and what is never lost."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from dht_torrent.catalogue import (
    Catalogue,
    CatalogueQuery,
    Entry,
    KnownPublisher,
    ListedFile,
    OutboxEntry,
    Proof,
    PublisherTrust,
    PutResult,
    SketchEntry,
    Source,
    SwarmHealth,
)
from dht_torrent.errors import StorageError
from tests.helpers.catalogues import ALICE, BOB, CAROL, claim, entry, infohash


def got(catalogue: Catalogue, number: int) -> Entry:
    found = catalogue.get(infohash(number))
    assert found is not None
    return found


def titles(catalogue: Catalogue, *words: str) -> list[str]:
    return sorted(found.title for found in catalogue.search(CatalogueQuery(words=words)))


def test_what_is_put_in_comes_out_again(catalogue: Catalogue) -> None:
    given = entry(
        1,
        "Ubuntu 24.04 Desktop",
        words="ubuntu 24 04 desktop",
        more="iso readme linux",
        size=6_000_000_000,
        files=2,
        published=1_700_000_000,
        proof=Proof.VERIFIED,
        tags=("linux", "iso"),
        listed=(ListedFile("ubuntu.iso", 5_999_999_000), ListedFile("doc/readme", 1000)),
        claims=(claim(ALICE), claim(BOB, "Ubuntu", 7, verified=False)),
    )
    assert catalogue.put([given], now=1000) == PutResult(added=1)
    assert got(catalogue, 1) == replace(given, first_seen=1000, seen=1000)
    assert catalogue.get(infohash(2)) is None


def test_what_is_known_is_counted_apart_and_seen_again(catalogue: Catalogue) -> None:
    catalogue.put([entry(1)], now=1000)
    assert catalogue.put([entry(1), entry(2), entry(2)], now=2000) == PutResult(added=1, known=2)
    assert (got(catalogue, 1).first_seen, got(catalogue, 1).seen) == (1000, 2000)
    catalogue.put([entry(1)], now=1500)  # a clock that was set back
    assert got(catalogue, 1).seen == 2000


@pytest.mark.parametrize("first", list(Proof))
@pytest.mark.parametrize("second", list(Proof))
def test_only_a_better_proof_replaces(catalogue: Catalogue, first: Proof, second: Proof) -> None:
    catalogue.put(
        [entry(1, "First", size=1, files=1, published=1, tags=("one",), more="one", proof=first)],
        now=1,
    )
    catalogue.put(
        [entry(1, "Second", size=2, files=2, published=2, tags=("two",), more="two", proof=second)],
        now=1,
    )
    found = got(catalogue, 1)
    replaced = second > first
    assert found.title == ("Second" if replaced else "First")
    assert (found.size, found.files, found.published) == ((2, 2, 2) if replaced else (1, 1, 1))
    assert (found.tags, found.more) == ((("two",), "two") if replaced else (("one",), "one"))
    assert found.proof == max(first, second)
    for words in ("first", "one"):
        assert titles(catalogue, words) == ([] if replaced else ["First"])
    for words in ("second", "two"):
        assert titles(catalogue, words) == (["Second"] if replaced else [])


def test_what_is_lacking_is_completed_by_a_proof_as_good_only(catalogue: Catalogue) -> None:
    full = entry(1, size=2, files=2, published=2, tags=("two",), more="two")
    catalogue.put([entry(1, proof=Proof.VERIFIED)], now=1)
    catalogue.put([full], now=1)
    found = got(catalogue, 1)
    assert (found.size, found.files, found.published, found.tags) == (None, None, None, ())
    assert titles(catalogue, "two") == []
    catalogue.put([replace(full, proof=Proof.VERIFIED)], now=1)
    found = got(catalogue, 1)
    assert (found.size, found.files, found.published, found.tags) == (2, 2, 2, ("two",))
    assert titles(catalogue, "two") == ["Some title"]


def test_only_we_change_what_is_ours(catalogue: Catalogue) -> None:
    ours = entry(1, "Ours", sources=Source.OWN, proof=Proof.STRONG, listed=(ListedFile("a", 1),))
    theirs = entry(1, "Theirs", size=9, proof=Proof.STRONG, listed=(ListedFile("b", 2),))
    catalogue.put([theirs], now=1)
    catalogue.put([ours], now=1)
    catalogue.put([theirs], now=1)
    found = got(catalogue, 1)
    assert (found.title, found.size, found.listed) == ("Ours", None, ours.listed)
    assert found.sources == Source.OWN | Source.NETWORK
    catalogue.put([replace(ours, title="Renamed", words="renamed", listed=())], now=1)
    assert got(catalogue, 1).title == "Renamed"
    assert titles(catalogue, "ours") == []


def test_a_list_of_files_follows_the_same_rule(catalogue: Catalogue) -> None:
    def put(name: str, proof: Proof) -> str:
        catalogue.put([entry(1, proof=proof, listed=(ListedFile(name, 1),))], now=1)
        return got(catalogue, 1).listed[0].path

    assert put("first", Proof.UNVERIFIED) == "first"
    assert put("second", Proof.UNVERIFIED) == "first"
    assert put("third", Proof.STRONG) == "third"
    assert put("fourth", Proof.VERIFIED) == "third"
    assert put("fifth", Proof.STRONG) == "third"
    catalogue.put([entry(2, proof=Proof.VERIFIED)], now=1)
    catalogue.put([entry(2, listed=(ListedFile("x", 1),))], now=1)
    assert got(catalogue, 2).listed == ()


def test_a_batch_that_fails_leaves_nothing(catalogue: Catalogue) -> None:
    with pytest.raises(ValueError, match="20 bytes"):
        catalogue.put([entry(1), replace(entry(2), infohash=b"short")], now=1)
    with pytest.raises(ValueError, match="32 bytes"):
        catalogue.put([entry(1), entry(2, claims=(claim(b"short"),))], now=1)
    assert catalogue.summary().torrents == 0


def test_what_comes_from_nowhere_any_more_is_forgotten(catalogue: Catalogue) -> None:
    both = Source.OWN | Source.NETWORK
    catalogue.put([entry(1, sources=Source.OWN), entry(2, sources=both), entry(3)], now=1)
    hashes = [infohash(number) for number in (1, 2, 3, 4)]
    assert catalogue.forget(hashes, Source.OWN) == 1
    assert catalogue.get(infohash(1)) is None
    assert got(catalogue, 2).sources == Source.NETWORK
    assert titles(catalogue, "title") == ["Some title"] * 2
    assert catalogue.forget(hashes, Source.NETWORK) == 2
    assert titles(catalogue, "title") == []


def test_a_publishers_list_is_merged_and_forgotten_again(catalogue: Catalogue) -> None:
    """As `engine.search.subscriptions` does it."""

    def listed(number: int, title: str, seq: int) -> Entry:
        claims = (claim(ALICE, title, seq),)
        return entry(number, title, sources=Source.FEED, proof=Proof.VERIFIED, claims=claims)

    catalogue.put([entry(1, "Ours", sources=Source.OWN), entry(2, "Heard of")], now=1)
    first = [listed(number, f"Listed {number}", 7) for number in (1, 2, 3, 4)]
    assert catalogue.put(first, now=2) == PutResult(added=2, known=2, refused=0)
    assert titles(catalogue, "listed") == ["Listed 2", "Listed 3", "Listed 4"]
    # The next version says something else of 3, and nothing of 4.
    assert catalogue.forget([infohash(3), infohash(4)], Source.FEED) == 2
    catalogue.put([*first[:2], listed(3, "Listed anew", 8)], now=3)
    assert titles(catalogue, "listed") == ["Listed 2", "Listed anew"]
    assert got(catalogue, 3).claims == (claim(ALICE, "Listed anew", 8),)
    assert [one.infohash for one in catalogue.page(source=Source.FEED)[0]] == [
        infohash(number) for number in (1, 2, 3)
    ]
    # Nothing is left of the list but what came from elsewhere, too.
    catalogue.withdraw([infohash(1), infohash(2), infohash(99)], ALICE)
    assert [got(catalogue, number).claims for number in (1, 2)] == [(), ()]
    assert got(catalogue, 3).claims == (claim(ALICE, "Listed anew", 8),)
    assert catalogue.forget([infohash(number) for number in (1, 2, 3)], Source.FEED) == 1
    assert catalogue.page(source=Source.FEED)[0] == []
    assert got(catalogue, 1).title == "Ours"
    assert got(catalogue, 2).sources == Source.NETWORK
    catalogue.set_trust(ALICE, PublisherTrust.BLOCKED, now=4)
    assert catalogue.put(first, now=5) == PutResult(added=0, known=0, refused=4)


def test_pages_go_through_all_once_even_while_some_come_and_go(catalogue: Catalogue) -> None:
    catalogue.put([entry(number, listed=(ListedFile("a", 1),)) for number in range(25)], now=1)
    seen: list[bytes] = []
    after = 0
    while True:
        found, after = catalogue.page(after, 7)
        if not found:
            break
        assert all(one.listed for one in found)
        seen += [one.infohash for one in found]
        catalogue.forget(seen[-7:], Source.NETWORK)
        if len(seen) == 7:
            catalogue.put([entry(99, listed=(ListedFile("a", 1),))], now=2)
    assert len(seen) == len(set(seen)) == 26


@pytest.mark.parametrize("source", [Source.OWN, Source.IMPORT])
def test_pages_of_one_source(catalogue: Catalogue, source: Source) -> None:
    catalogue.put(
        [entry(1), entry(2, sources=source), entry(3, sources=source | Source.NETWORK)], now=1
    )
    found, _ = catalogue.page(source=source)
    assert [one.infohash for one in found] == [infohash(2), infohash(3)]


def test_health_is_what_was_found_last(catalogue: Catalogue) -> None:
    catalogue.put([entry(1)], now=1)
    catalogue.set_health(
        {infohash(1): SwarmHealth(1, 2, 3, "bep33"), infohash(2): SwarmHealth(1, 2, 3, "")}
    )
    catalogue.set_health({infohash(1): SwarmHealth(None, 7, 9, "get_peers")})
    assert got(catalogue, 1).health == SwarmHealth(None, 7, 9, "get_peers")
    assert catalogue.search(CatalogueQuery(words=("title",)))[0].health == SwarmHealth(
        None, 7, 9, "get_peers"
    )
    catalogue.set_health({infohash(1): SwarmHealth(-1, 2**70, 9, "x" * 99)})
    assert got(catalogue, 1).health == SwarmHealth(None, 0, 9, "x" * 16)


# -- publishers ---------------------------------------------------------------------------------


def test_a_claim_is_replaced_by_a_later_or_a_verified_one(catalogue: Catalogue) -> None:
    def put(title: str, seq: int, verified: bool) -> str:
        catalogue.put([entry(1, claims=(claim(ALICE, title, seq, verified),))], now=1)
        (found,) = got(catalogue, 1).claims
        return found.title

    assert put("a", 5, False) == "a"
    assert put("b", 4, False) == "a"
    assert put("c", 5, False) == "c"
    assert put("d", 1, True) == "d"
    assert put("e", 9, False) == "d"  # a forger's, perhaps
    assert put("f", 0, True) == "d"
    assert put("g", 2, True) == "g"
    (found,) = got(catalogue, 1).claims
    assert found.verified


def test_claims_of_one_torrent_are_bounded_and_those_trusted_stay(catalogue: Catalogue) -> None:
    catalogue.set_trust(ALICE, PublisherTrust.TRUSTED, now=1)
    catalogue.put([entry(1, claims=(claim(ALICE, verified=False), claim(BOB)))], now=1)
    for number in range(40):
        key = bytes([100 + number]) * 32
        catalogue.put([entry(1, claims=(claim(key, verified=number % 2 == 0),))], now=2 + number)
    claims = got(catalogue, 1).claims
    assert len(claims) == 16
    assert claims[0].publisher == ALICE
    assert claims[0].trust is PublisherTrust.TRUSTED
    assert all(one.verified for one in claims[1:])
    assert claims[1].publisher == bytes([138]) * 32


def test_trust_is_kept_and_told(catalogue: Catalogue) -> None:
    catalogue.set_trust(BOB, PublisherTrust.BLOCKED, now=1)
    catalogue.set_trust(ALICE, PublisherTrust.TRUSTED, now=2, name="Alice\x1b[31m" + "x" * 500)
    catalogue.set_trust(CAROL, PublisherTrust.TRUSTED, now=3)
    catalogue.set_trust(CAROL, PublisherTrust.NEUTRAL, now=4)
    alice = KnownPublisher(ALICE, PublisherTrust.TRUSTED, ("Alice[31m" + "x" * 500)[:159], 2)
    assert catalogue.publishers() == [KnownPublisher(BOB, PublisherTrust.BLOCKED, "", 1), alice]
    assert catalogue.trust([ALICE, BOB, CAROL]) == {
        ALICE: PublisherTrust.TRUSTED,
        BOB: PublisherTrust.BLOCKED,
    }
    assert catalogue.trust([]) == {}
    with pytest.raises(ValueError, match="32 bytes"):
        catalogue.set_trust(b"", PublisherTrust.BLOCKED, now=1)


def test_what_only_a_blocked_publisher_vouches_for_goes_and_stays_away(
    catalogue: Catalogue,
) -> None:
    by_bob = entry(1, "By Bob", claims=(claim(BOB),))
    by_both = entry(2, "By both", claims=(claim(BOB), claim(ALICE)))
    ours = entry(3, "Ours by Bob", sources=Source.OWN, claims=(claim(BOB),))
    by_nobody = entry(4, "By nobody")
    everything = [by_bob, by_both, ours, by_nobody]
    catalogue.put(everything, now=1)
    assert catalogue.set_trust(BOB, PublisherTrust.BLOCKED, now=2) == 1
    for _ in range(2):
        assert titles(catalogue, "by") == ["By both", "By nobody", "Ours by Bob"]
        assert [one.publisher for one in got(catalogue, 2).claims] == [ALICE]
        assert got(catalogue, 3).claims == ()
        assert catalogue.put(everything, now=3) == PutResult(known=3, refused=1)
    catalogue.set_trust(BOB, PublisherTrust.NEUTRAL, now=4)
    assert catalogue.put(everything, now=5) == PutResult(added=1, known=3)


def test_a_publisher_of_very_many_titles_can_be_blocked(catalogue: Catalogue) -> None:
    catalogue.put([entry(number, claims=(claim(BOB),)) for number in range(11_000)], now=1)
    assert catalogue.set_trust(BOB, PublisherTrust.BLOCKED, now=2) == 11_000
    assert catalogue.summary().torrents == 0


def test_how_much_each_publisher_claimed_lately(catalogue: Catalogue) -> None:
    catalogue.put([entry(n, claims=(claim(ALICE), claim(BOB))) for n in range(3)], now=10)
    catalogue.put([entry(n, claims=(claim(BOB),)) for n in range(2, 5)], now=20)
    everybody = [ALICE, BOB, CAROL]
    assert catalogue.claimed(everybody, since=10) == {ALICE: 3, BOB: 5}
    assert catalogue.claimed(everybody, since=20) == {BOB: 3}
    many = [number.to_bytes(32, "big") for number in range(5000)]
    assert catalogue.claimed([*many, ALICE], since=0) == {ALICE: 3}


# -- the outbox ---------------------------------------------------------------------------------


def test_the_outbox_tells_what_is_due_longest_overdue_first(catalogue: Catalogue) -> None:
    word = OutboxEntry(infohash(1), "w", b"ubuntu", due=50, depth=3)
    record = OutboxEntry(infohash(1), "record", b"", due=40, failures=2)
    other = OutboxEntry(infohash(2), "w", b"ubuntu", due=60)
    catalogue.put_outbox([word, record, other])
    assert catalogue.due(39) == []
    assert catalogue.due(59) == [record, word]
    assert catalogue.due(99, limit=1) == [record]
    catalogue.put_outbox([record._replace(due=100, failures=0)])
    assert catalogue.due(99) == [word, other]
    assert catalogue.outbox(infohash(1)) == [record._replace(due=100, failures=0), word]
    assert catalogue.summary().outbox == 3


def test_what_was_removed_from_the_outbox_does_not_come_back(catalogue: Catalogue) -> None:
    words = [OutboxEntry(infohash(1), "w", word, due=1) for word in (b"a", b"b")]
    kin = [OutboxEntry(infohash(1), "p", b"a", due=1), OutboxEntry(infohash(2), "w", b"a", due=1)]
    catalogue.put_outbox([*words, *kin])
    catalogue.remove_outbox(infohash(1), keep=[("w", b"a"), ("p", b"a")])
    later = [row._replace(due=9, depth=2, failures=3) for row in words]
    catalogue.renew_outbox(later)
    assert catalogue.due(1) == kin
    assert catalogue.outbox(infohash(1)) == [kin[0], later[0]]


def test_the_outbox_is_emptied_by_torrent(catalogue: Catalogue) -> None:
    words = [OutboxEntry(infohash(1), "w", word, due=1) for word in (b"a", b"b", b"c")]
    other = OutboxEntry(infohash(2), "w", b"a", due=1)
    catalogue.put_outbox([*words, other])
    catalogue.remove_outbox(infohash(1), keep=[("w", b"b"), ("d", b"a")])
    assert catalogue.due(1) == [words[1], other]
    catalogue.remove_outbox(infohash(1))
    assert catalogue.due(1) == [other]
    with pytest.raises(ValueError, match="at most 64"):
        catalogue.put_outbox([OutboxEntry(infohash(1), "w", b"x" * 65, due=1)])


# -- how common words are -----------------------------------------------------------------------


def test_sketches_are_found_by_keys_that_are_near(catalogue: Catalogue) -> None:
    hashes = [infohash(n) for n in range(40)]
    catalogue.put([entry(n) for n in range(40)], 1)
    catalogue.put_sketches(
        SketchEntry(one, b"s%d" % n, (("c0", bytes([n, 0])), ("r", b"same"))[: 1 + (n < 3)])
        for n, one in enumerate(hashes)
    )
    catalogue.put_sketches([SketchEntry(b"x" * 20, b"not here", (("c0", b"a"),))])
    assert catalogue.sketches([hashes[3], hashes[7], b"x" * 20]) == {
        hashes[3]: b"s3",
        hashes[7]: b"s7",
    }
    near = catalogue.alike([("c0", bytes([20, 1]))], each=2)
    assert set(near) == set(hashes[19:23])
    assert near[0] == hashes[21]
    assert set(catalogue.alike([("c0", bytes([5, 0]))], each=1)) == {hashes[4], hashes[5]}
    assert set(catalogue.alike([("r", b"same")])) == set(hashes[:3])
    assert catalogue.alike([("c1", b"")]) == catalogue.alike([]) == []
    both = catalogue.alike([("r", b"same"), ("c0", bytes([0, 0]))], each=4)
    assert len(both) == len(set(both)) == 4


def test_a_sketch_is_replaced_and_goes_with_its_torrent(catalogue: Catalogue) -> None:
    one = infohash(1)
    catalogue.put([entry(1)], 1)
    used = catalogue.summary().bytes
    catalogue.put_sketches([SketchEntry(one, b"old", (("c0", b"old"), ("c0", b"old")))])
    catalogue.put_sketches([SketchEntry(one, b"new", (("c1", b"new"),))])
    assert catalogue.sketches([one]) == {one: b"new"}
    assert catalogue.alike([("c0", b"old")]) == []
    assert catalogue.alike([("c1", b"")]) == [one]
    catalogue.forget([one], ~Source.NONE)
    assert catalogue.get(one) is None
    assert catalogue.sketches([one]) == {}
    assert catalogue.alike([("c1", b"new")]) == []
    catalogue.put([entry(1)], 1)
    assert catalogue.sketches([one]) == {}
    assert catalogue.summary().bytes <= used + 8192


@pytest.mark.parametrize(
    "large",
    [
        SketchEntry(b"1" * 20, bytes(1001), ()),
        SketchEntry(b"1" * 20, b"", (("c", b""),) * 33),
        SketchEntry(b"1" * 20, b"", (("c" * 17, b""),)),
        SketchEntry(b"1" * 20, b"", (("c", bytes(65)),)),
    ],
)
def test_a_sketch_that_is_too_large_is_a_bug(catalogue: Catalogue, large: SketchEntry) -> None:
    with pytest.raises(ValueError, match="at most"):
        catalogue.put_sketches([large])


def test_counts_of_words_are_remembered_for_as_long_as_is_asked(catalogue: Catalogue) -> None:
    catalogue.remember_counts({b"linux": 5, b"x" * 65: 1, b"much": 2**80, b"less": -1}, now=10)
    catalogue.remember_counts({b"ubuntu": 7}, now=20)
    words = [b"linux", b"ubuntu", b"x" * 65, b"other"]
    assert catalogue.counts(words, since=10) == {b"linux": 5, b"ubuntu": 7}
    assert catalogue.counts(words, since=11) == {b"ubuntu": 7}
    catalogue.remember_counts({b"linux": 6}, now=30)
    assert catalogue.counts(words, since=30) == {b"linux": 6}
    assert catalogue.counts([b"much", b"less"], since=0) == {b"much": 2**31 - 1, b"less": 0}


def test_the_words_remembered_are_bounded(catalogue: Catalogue) -> None:
    first = {b"first %d" % number: number for number in range(6000)}
    second = {b"second %d" % number: number for number in range(6000)}
    catalogue.remember_counts(first, now=1)
    catalogue.remember_counts(second, now=2)
    assert len(catalogue.counts(second, since=0)) == 6000
    assert len(catalogue.counts(first, since=0)) == 4000


# -- threads, and the end -----------------------------------------------------------------------


def test_threads_may_do_everything_at_once(catalogue: Catalogue) -> None:
    start = threading.Barrier(6)

    def write(part: int) -> None:
        start.wait()
        for number in range(20):
            catalogue.put([entry(100 * part + number)], now=number)

    def read(part: int) -> None:
        start.wait()
        before = 0
        for _ in range(40):
            found = len(catalogue.search(CatalogueQuery(words=("title",))))
            assert found >= before
            before = found

    with ThreadPoolExecutor(6) as pool:
        jobs = [*(pool.submit(write, n) for n in (1, 2)), *(pool.submit(read, n) for n in range(4))]
        for job in jobs:
            job.result()
    assert len(catalogue.search(CatalogueQuery(words=("title",)))) == 40


def test_a_closed_catalogue_says_so(catalogue: Catalogue) -> None:
    catalogue.search(CatalogueQuery(words=("a",)))
    catalogue.close()
    catalogue.close()
    with pytest.raises(StorageError, match="is closed"):
        catalogue.search(CatalogueQuery(words=("a",)))
    with pytest.raises(StorageError, match="is closed"):
        catalogue.put([entry(1)], now=1)
