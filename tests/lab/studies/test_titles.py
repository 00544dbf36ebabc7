"""What a search should find is known without any index."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from dht_torrent.errors import InputError
from dht_torrent.lab.studies.titles import Corpus, precision, read_titles, recall
from dht_torrent.search.words import query_words

TEXTS = ["Ubuntu2204 server iso", "ubuntu desktop", "a server of ours", "2204 servers"]


@pytest.fixture
def corpus() -> Corpus:
    return Corpus(TEXTS, random.Random(1))


@pytest.mark.parametrize(
    ("text", "prefix", "numbers"),
    [
        ("ubuntu", False, {0, 1}),
        ("Server Ubuntu", False, {0}),
        ("ubuntu2204", False, {0}),
        ("2204", False, {0, 3}),
        ("serv", False, set()),
        ("serv", True, {0, 2, 3}),
        ("2204 serv", True, {0, 3}),
        ("nothing", False, set()),
        ("nothing", True, set()),
        ("...", True, set()),
    ],
)
def test_the_truth_is_every_title_with_all_words(
    corpus: Corpus, text: str, prefix: bool, numbers: set[int]
) -> None:
    assert corpus.truth(text, prefix=prefix) == numbers


def test_queries_find_the_title_that_they_were_drawn_from(corpus: Corpus) -> None:
    queries = corpus.queries(200, random.Random(2))
    assert queries == corpus.queries(200, random.Random(2))
    assert queries != corpus.queries(200, random.Random(3))
    assert all(corpus.truth(query) for query in queries)
    assert {len(query.split()) for query in queries} == {1, 2, 3}
    assert {word for query in queries for word in query_words(query)} <= set(corpus.vocabulary)


def test_each_title_is_a_torrent_of_its_own() -> None:
    corpus = Corpus(["same"] * 3, random.Random(1))
    assert [corpus.number(title.info_hash) for title in corpus.titles] == [0, 1, 2]
    assert corpus.number(bytes(20)) is None
    assert corpus.frequency("same") == 3
    assert corpus.frequency("other") == 0
    assert all(2**20 <= title.size < 2**34 for title in corpus.titles)


def test_a_title_is_what_a_record_can_hold_of_it() -> None:
    corpus = Corpus(["long " * 31 + "words\x1b[0m beyond"], random.Random(1))
    assert corpus.titles[0].text == "long " * 31 + "words"
    assert corpus.truth("words") == {0}
    assert corpus.truth("beyond") == set()


def test_titles_are_read_from_plain_and_compressed_files(tmp_path: Path) -> None:
    text = "name\tsummary of it\n\nüber\tb\r\n"
    plain, packed = tmp_path / "titles.tsv", tmp_path / "titles.tsv.gz"
    plain.write_text(text, newline="")
    packed.write_bytes(gzip.compress(text.encode()))
    assert read_titles(plain) == read_titles(packed) == ["name summary of it", "über b"]
    assert read_titles(packed, 1) == ["name summary of it"]


@pytest.mark.parametrize(
    ("name", "raw", "reason"),
    [
        ("a.tsv", b"\xff\n", "line 1 is not UTF-8"),
        ("a.tsv", b"\n \n", "no titles"),
        ("a.tsv", b"ok\n" + b"x" * 1001 + b"\n", "line 2 is too long"),
        ("a.tsv.gz", b"plain", "not a gzip file"),
        ("a.tsv.gz", gzip.compress(b"name\n" * 999, mtime=0)[:-20], "not a gzip file, or cut"),
        ("a.tsv.gz", gzip.compress(b"name", mtime=0)[:10] + b"\xff" * 20, "not a gzip file"),
    ],
)
def test_what_holds_no_titles_is_refused(
    tmp_path: Path, name: str, raw: bytes, reason: str
) -> None:
    path = tmp_path / name
    path.write_bytes(raw)
    with pytest.raises(InputError, match=reason):
        read_titles(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_titles(tmp_path / "none.tsv")


def test_recall_counts_no_more_than_was_asked_for() -> None:
    assert recall(range(50), set(range(1000))) == 1.0
    assert recall(range(25), set(range(1000))) == 0.5
    assert recall([1, 1, 2, 9], {1, 2, 3, 4}) == 0.5
    assert recall([], set()) == 1.0
    assert recall([1, 2], {1, 2, 3}, most=2) == 1.0


def test_precision_is_of_the_first_results() -> None:
    assert precision([1, 2, 9, 8], {1, 2}) == 0.5
    assert precision([*range(10), 99], set(range(10))) == 1.0
    assert precision([], {1}) == 1.0
