"""JSON lines: what is written is read, and nothing in a file is believed or too much."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.catalogue import (
    Catalogue,
    CatalogueQuery,
    ListedFile,
    Proof,
    PublisherTrust,
    Source,
)
from dht_torrent.catalogue.lines import (
    MAX_LINE,
    ImportSummary,
    LineError,
    LineImport,
    export_lines,
    import_lines,
    parse_line,
    write_line,
)
from dht_torrent.catalogue.sqlite import SqliteCatalogue
from tests.helpers.catalogues import ALICE, BOB, claim, entry, infohash

ID = infohash(1).hex()


def words(text: str) -> Iterable[str]:
    return text.lower().split()


def read(catalogue: Catalogue, *lines: object) -> ImportSummary:
    file = io.BytesIO(
        b"".join(
            line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines
        )
    )
    return import_lines(catalogue, file, words, now=1)


def test_an_export_is_imported_without_its_proofs(catalogue: Catalogue) -> None:
    full = entry(
        1,
        "Ubuntu\u00e9 24.04",
        size=10,
        files=2,
        published=99,
        sources=Source.OWN,
        proof=Proof.STRONG,
        tags=("linux",),
        listed=(ListedFile("cd/one.iso", 6), ListedFile("two", 4)),
        claims=(claim(ALICE), claim(BOB)),
    )
    catalogue.put([full, entry(2, "Bare")], now=1)
    exported = b"".join(export_lines(catalogue))
    assert exported.count(b"\n") == 2
    other = SqliteCatalogue(None)
    summary = import_lines(other, io.BytesIO(exported), words, now=5)
    assert str(summary) == "2 lines: 2 added, 0 known already"
    found = other.get(infohash(1))
    assert found is not None
    assert (found.title, found.size, found.files, found.published, found.tags, found.listed) == (
        *(full.title, full.size, full.files, full.published, full.tags, full.listed),
    )
    assert (found.sources, found.proof) == (Source.IMPORT, Proof.UNVERIFIED)
    assert {(one.publisher, one.verified) for one in found.claims} == {(ALICE, False), (BOB, False)}
    for query in ("ubuntu\u00e9", "linux", "cd/one.iso"):
        assert [one.title for one in other.search(CatalogueQuery(words=(query,)))] == [full.title]
    other.close()


def test_one_source_alone_can_be_exported(catalogue: Catalogue) -> None:
    catalogue.put([entry(1, sources=Source.OWN), entry(2)], now=1)
    (line,) = b"".join(export_lines(catalogue, Source.OWN)).splitlines()
    assert json.loads(line) == {"id": ID, "name": "Some title"}


def test_an_export_of_many_is_written_a_part_at_a_time(catalogue: Catalogue) -> None:
    catalogue.put([entry(number) for number in range(1200)], now=1)
    parts = list(export_lines(catalogue))
    assert len(parts) == 3
    ids = [json.loads(line)["id"] for line in b"".join(parts).splitlines()]
    assert ids == [infohash(number).hex() for number in range(1200)]


def test_what_a_search_prints_can_be_imported(catalogue: Catalogue) -> None:
    printed = {"id": ID, "name": "A", "verified": True, "publisher": ALICE.hex(), "magnet": "x"}
    read(catalogue, printed, printed | {"id": "1" * 40, "publisher": None})
    found = catalogue.get(infohash(1))
    assert found is not None
    assert found.proof is Proof.UNVERIFIED
    assert [(one.publisher, one.verified) for one in found.claims] == [(ALICE, False)]


def test_an_import_replaces_nothing_that_was_proved_or_is_ours(catalogue: Catalogue) -> None:
    proved, ours = entry(1, proof=Proof.VERIFIED), entry(2, sources=Source.OWN)
    catalogue.put([proved, ours], now=1)
    forged = [{"id": infohash(n).hex(), "name": "Forged", "size": 1} for n in (1, 2)]
    assert str(read(catalogue, *forged)) == "2 lines: 0 added, 2 known already"
    for number in (1, 2):
        found = catalogue.get(infohash(number))
        assert found is not None
        assert (found.title, found.size) == ("Some title", None)


HOSTILE: dict[bytes, str] = {
    b"{": "not JSON",
    b"\xff\xfe{}": "not JSON",
    b"[" * 60_000: "not JSON",
    b'{"id": "%s", "name": "a", "size": NaN}' % ID.encode(): "not JSON",
    b'{"id": "%s", "name": "a", "size": %s}' % (ID.encode(), b"9" * 5000): "not JSON",
    b"[]": "not an object",
    b"7": "not an object",
    b"{}": "without an infohash as id",
    b'{"id": 7, "name": "a"}': "without an infohash as id",
    b'{"id": "%s", "name": "a"}' % (b"z" * 40): "without an infohash as id",
    b'{"id": "%s ", "name": "a"}' % ID.encode(): "without an infohash as id",
    b'{"id": "%s"}' % ID.encode(): "without a name",
    b'{"id": "%s", "name": ["a"]}' % ID.encode(): "without a name",
    b'{"id": "%s", "name": " \\u202e\\u0007"}' % ID.encode(): "without a name",
    b'{"id": "%s", "name": "\\ud800"}' % ID.encode(): "without a name",
    b'{"id": "%s", "name": "a", "size": -1}' % ID.encode(): "with a number that is not one",
    b'{"id": "%s", "name": "a", "size": 1.5}' % ID.encode(): "with a number that is not one",
    b'{"id": "%s", "name": "a", "size": true}' % ID.encode(): "with a number that is not one",
    b'{"id": "%s", "name": "a", "files": "3"}' % ID.encode(): "with a number that is not one",
    b'{"id": "%s", "name": "a", "published": 1e400}' % ID.encode(): "with a number that is not one",
    b'{"id": "%s", "name": "a", "size": 1%s}' % (ID.encode(), b"0" * 40): (
        "with a number that is not one"
    ),
    b'{"id": "%s", "name": "a", "tags": [1]}' % ID.encode(): "with a list that is not one",
    b'{"id": "%s", "name": "a", "list": {}}' % ID.encode(): "with a list that is not one",
    b'{"id": "%s", "name": "a", "list": ["x"]}' % ID.encode(): "with a list that is not one",
    b'{"id": "%s", "name": "a", "list": [[1, 2]]}' % ID.encode(): "with a list that is not one",
    b'{"id": "%s", "name": "a", "list": [["x", "y"]]}' % ID.encode(): (
        "with a number that is not one"
    ),
    b'{"id": "%s", "name": "a", "publisher": "00"}' % ID.encode(): (
        "with a publisher that is not a key"
    ),
    b'{"id": "%s", "name": "%s"}' % (ID.encode(), b"a" * MAX_LINE): "longer than 65,536 bytes",
    b"x" * (3 * MAX_LINE): "longer than 65,536 bytes",
}


@pytest.mark.parametrize(("line", "why"), HOSTILE.items(), ids=range(len(HOSTILE)))
def test_a_hostile_line_is_skipped_and_those_around_it_are_not(line: bytes, why: str) -> None:
    catalogue = SqliteCatalogue(None)
    good = [{"id": infohash(number).hex(), "name": "Good"} for number in (7, 8)]
    summary = read(catalogue, good[0], line + b"\n", b"\n", good[1], line)
    assert summary.skipped == {why: 2}
    assert str(summary) == (
        f"5 lines: 2 added, 0 known already, 2 skipped: 2 {why} (first in line 2)"
    )
    assert len(catalogue.search(CatalogueQuery(words=("good",)))) == 2
    catalogue.close()


def test_an_empty_file_has_no_lines(catalogue: Catalogue) -> None:
    assert str(read(catalogue)) == "0 lines: 0 added, 0 known already"
    assert str(read(catalogue, b'\xef\xbb\xbf{"id": "%s", "name": "a"}' % ID.encode())) == (
        "1 line: 1 added, 0 known already"  # the last has no end, the first a byte order mark
    )


def test_titles_of_blocked_publishers_are_left_out(catalogue: Catalogue) -> None:
    catalogue.set_trust(BOB, PublisherTrust.BLOCKED, now=1)
    summary = read(catalogue, {"id": ID, "name": "a", "publishers": [BOB.hex()]})
    assert str(summary) == ("1 line: 0 added, 0 known already, 1 of blocked publishers left out")
    assert catalogue.summary().torrents == 0


def test_everything_in_a_line_is_bounded(catalogue: Catalogue) -> None:
    line = {
        "id": ID.upper(),
        "name": "\x1b[31m\u202eevil " + "\u00e9" * 500,
        "size": 2**62,
        "files": 10**9,
        "published": 10**15,
        "tags": [f"t{number}" for number in range(100)],
        "list": [["\u2067" + "p" * 300, 2**60]] * 150,
        "publishers": [bytes([number]).hex() * 32 for number in range(30)],
    }
    assert read(catalogue, line).skipped == {}
    found = catalogue.get(infohash(1))
    assert found is not None
    assert found.title == "[31mevil " + "\u00e9" * 75
    assert (found.size, found.files, found.published) == (None, None, None)
    assert (len(found.tags), len(found.listed), len(found.claims)) == (16, 100, 16)
    assert found.listed[0] == ListedFile("p" * 239, 0)
    assert len(found.more.encode()) <= 4096
    assert len(write_line(found)) <= MAX_LINE


def test_the_longest_line_that_is_written_is_read(catalogue: Catalogue) -> None:
    worst = entry(
        1,
        '"' * 160,
        size=2**53,
        files=100_000,
        published=253_402_300_799,
        tags=tuple('"' * 30 + f"{number:02}" for number in range(16)),
        listed=tuple(ListedFile('"' * 240, 2**53) for _ in range(100)),
        claims=tuple(claim(bytes([number]) * 32) for number in range(16)),
    )
    catalogue.put([worst], now=1)
    exported = b"".join(export_lines(catalogue))
    assert len(exported) <= MAX_LINE
    assert read(catalogue, exported).known == 1


def test_memory_is_bounded_however_long_a_line_is(catalogue: Catalogue) -> None:
    class Endless(io.RawIOBase):
        left = 96 * 1024 * 1024

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: object) -> int:
            assert isinstance(buffer, memoryview | bytearray)
            size = min(len(buffer), self.left)
            buffer[:size] = b"x" * size
            self.left -= size
            return size

    tracemalloc.start()
    try:
        job = LineImport(catalogue, io.BufferedReader(Endless()), words, now=1)
        steps = 1
        while job.step():
            steps += 1
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert steps > 20  # each of which ends soon
    assert peak < 8 * 1024 * 1024
    assert job.summary.skipped == {"longer than 65,536 bytes": 1}


def test_a_step_ends_soon_whatever_is_in_it(catalogue: Catalogue) -> None:
    job = LineImport(catalogue, io.BytesIO(b"\n" * 1_000_000), words, now=1)
    assert job.step()
    assert job.summary.lines < 100_000


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=50),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
keys = st.sampled_from(["size", "files", "published", "tags", "list", "publishers", "publisher"])


@given(name=st.text(max_size=300), fields=st.dictionaries(keys, json_values))
def test_any_object_is_either_stored_and_exported_or_refused(
    name: str, fields: dict[str, object]
) -> None:
    catalogue = SqliteCatalogue(None)
    line = json.dumps({"id": ID, "name": name} | fields).encode()
    try:
        parse_line(line, words)
    except LineError:
        assert read(catalogue, line).skipped.values()
        return
    finally:
        stored = read(catalogue, line)
        catalogue.close() if stored.skipped else None
    (written,) = export_lines(catalogue)
    assert parse_line(written, words).title == json.loads(written)["name"]
    assert read(catalogue, written).known == 1
    catalogue.close()


@given(st.binary(max_size=200))
def test_any_bytes_are_a_line_or_refused(line: bytes) -> None:
    try:
        parse_line(line, words)
    except LineError as error:
        assert str(error)  # noqa: PT017 - what else could be said of it
