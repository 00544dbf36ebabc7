"""The file: what happens to it when it is damaged, killed, full, another program's or too old; and
that it never outgrows its bound.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dht_torrent.catalogue import (
    CatalogueQuery,
    OutboxEntry,
    Proof,
    PublisherTrust,
    Source,
    database,
    schema,
)
from dht_torrent.catalogue.sqlite import SqliteCatalogue
from dht_torrent.config import CatalogueConfig
from dht_torrent.errors import StorageError
from tests.catalogue.writing_process import BATCH
from tests.helpers.catalogues import ALICE, BOB, claim, entry, infohash

TITLE = CatalogueQuery(words=("title",), limit=1000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalogue.sqlite"


@contextlib.contextmanager
def opened(path: Path, **config: int | float) -> Iterator[SqliteCatalogue]:
    with contextlib.closing(SqliteCatalogue(path, CatalogueConfig(**config))) as catalogue:  # type: ignore[arg-type]
        yield catalogue


def fill(path: Path, count: int = 2000) -> None:
    with opened(path) as catalogue:
        catalogue.put([entry(number) for number in range(count)], now=1)
    assert not Path(f"{path}-wal").exists()


def names(path: Path) -> list[str]:
    return sorted(found.name for found in path.parent.iterdir())


def check_whole(path: Path) -> None:
    """The database, its references, and its index compared with its rows."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        db.execute("INSERT INTO fts(fts, rank) VALUES('integrity-check', 1)")


def test_what_was_stored_is_there_the_next_time(path: Path) -> None:
    fill(path)
    with opened(path) as catalogue:
        assert catalogue.summary().torrents == 2000
        assert len(catalogue.search(TITLE)) == 1000
        assert catalogue.warnings() == []
    assert names(path) == ["catalogue.sqlite"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    check_whole(path)


def test_only_we_can_read_any_of_its_files(path: Path) -> None:
    with opened(path) as catalogue:
        catalogue.put([entry(1)], now=1)
        assert names(path) == ["catalogue.sqlite", "catalogue.sqlite-shm", "catalogue.sqlite-wal"]
        for found in path.parent.iterdir():
            assert stat.S_IMODE(found.stat().st_mode) == 0o600


def test_a_strange_name_of_the_folder_is_only_a_name(tmp_path: Path) -> None:
    folder = tmp_path / "a?mode=memory&b#c%41 \udcff"
    folder.mkdir()
    fill(folder / "catalogue.sqlite", 1)
    assert [found.name for found in folder.iterdir()] == ["catalogue.sqlite"]


def test_rows_are_removed_from_the_index_too(path: Path) -> None:
    rng = random.Random(3)
    with opened(path) as catalogue:
        for step in range(60):
            catalogue.put(
                [
                    entry(
                        *(rng.randrange(300), f"Title {rng.randrange(50)} word{rng.randrange(9)}"),
                        proof=Proof(rng.randrange(3)),
                        more=f"more{rng.randrange(9)}",
                    )
                    for _ in range(50)
                ],
                now=step,
            )
            catalogue.forget([infohash(rng.randrange(300)) for _ in range(40)], Source.NETWORK)
        held, _ = catalogue.page(0, 1000)
        for word in ("word3", "more4", "7"):
            want = sum(word in f"{one.words} {one.more}".split(" ") for one in held)
            assert len(catalogue.search(CatalogueQuery(words=(word,), limit=1000))) == want
    check_whole(path)


# -- whose it is --------------------------------------------------------------------------------


def test_a_python_without_fts5_is_refused_clearly(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "has_fts5", lambda: False)
    with pytest.raises(StorageError, match="built without FTS5"):
        SqliteCatalogue(path)
    with pytest.raises(StorageError, match="built without FTS5"):
        SqliteCatalogue(None)
    assert names(path) == []


def test_whether_there_is_fts5_is_found_by_trying(monkeypatch: pytest.MonkeyPatch) -> None:
    assert database.has_fts5()

    class Without(sqlite3.Connection):
        def execute(self, sql: str, *args: object) -> sqlite3.Cursor:  #
            return super().execute(sql.replace("fts5", "fts_missing"), *args)  # type: ignore[arg-type]

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args: connect(*args, factory=Without))
    assert not database.has_fts5()


@pytest.mark.parametrize("what", ["CREATE TABLE torrent(a)", "PRAGMA user_version = 1"])
def test_another_programs_database_is_left_alone(path: Path, what: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute(what)
        db.commit()
    before = path.read_bytes()
    with pytest.raises(StorageError, match="another program's database"):
        SqliteCatalogue(path)
    assert path.read_bytes() == before
    assert names(path) == ["catalogue.sqlite"]


def test_a_newer_version_is_left_alone(path: Path) -> None:
    fill(path, 1)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(StorageError, match=r"newer version of dht_torrent \(its schema is 99"):
        SqliteCatalogue(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_what_is_not_a_file_is_not_touched(path: Path, suffix: str) -> None:
    other = path.parent / "other"
    other.write_bytes(b"precious")
    Path(f"{path}{suffix}").symlink_to(other)
    with pytest.raises(StorageError, match="not a regular file"):
        SqliteCatalogue(path)
    assert other.read_bytes() == b"precious"


def test_a_folder_in_its_place_is_an_error(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StorageError, match="not a regular file"):
        SqliteCatalogue(path)


# -- versions -----------------------------------------------------------------------------------


def test_an_older_database_is_brought_up_to_date(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(path, 3)
    later = [
        ["CREATE TABLE later(a)", "INSERT INTO later VALUES(1)"],
        ["ALTER TABLE later ADD COLUMN b", "UPDATE later SET b = (SELECT count(*) FROM torrent)"],
    ]
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, *later))
    for _ in range(2):  # once, however often it is opened
        with opened(path) as catalogue:
            assert len(catalogue.search(TITLE)) == 3
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT a, b FROM later").fetchall() == [(1, 3)]
        assert schema.version(db) == len(schema.MIGRATIONS)


def test_a_migration_that_fails_changes_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(path, 3)
    later = [["CREATE TABLE later(a)"], ["CREATE TABLE more(a)", "nonsense"]]
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, *later))
        with pytest.raises(StorageError, match="nonsense"):
            SqliteCatalogue(path)
    with opened(path) as catalogue:
        assert len(catalogue.search(TITLE)) == 3
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT name FROM sqlite_master WHERE name = 'later'").fetchall() == []


def test_the_schema_stays_as_it_was_released(path: Path) -> None:
    """An edited migration would leave databases of two kinds with one number."""
    fill(path, 1)
    with contextlib.closing(sqlite3.connect(path)) as db:
        tables = {
            name: [column for _, column, *_ in db.execute(f"PRAGMA table_info({name})")]
            for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if not name.startswith(("fts_", "sqlite_"))
        }
    assert tables == {
        "torrent": [
            *("id", "infohash", "title", "words", "more", "tags", "size", "files", "published"),
            *("first_seen", "seen", "sources", "proof"),
        ],
        "file": ["torrent", "place", "path", "size"],
        "claim": ["torrent", "publisher", "title", "seq", "verified", "seen"],
        "health": ["torrent", "seeds", "peers", "checked", "how"],
        "publisher": ["key", "trust", "name", "since"],
        "outbox": ["infohash", "tree", "root", "due", "depth", "failures"],
        "word": ["word", "count", "seen"],
        "fts": ["words", "more"],
        # Since the second.
        "sketch": ["torrent", "sketch"],
        "sketch_key": ["tree", "key", "torrent"],
    }


# -- damage -------------------------------------------------------------------------------------


def nonsense(path: Path) -> None:
    path.write_bytes(b"This is not a database. " * 1000)


def broken_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\0" * 100)


def cut_short(path: Path) -> None:
    os.truncate(path, 8192)


def broken_tables(path: Path) -> None:
    """The page that says which tables there are."""
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 3000)


@pytest.mark.parametrize("damage", [nonsense, broken_header, cut_short, broken_tables])
def test_a_damaged_file_is_set_aside_and_another_begun(
    path: Path, damage: Callable[[Path], None]
) -> None:
    fill(path)
    damage(path)
    before = path.read_bytes()
    with opened(path) as catalogue:
        (warning,) = catalogue.warnings()
        assert warning.startswith(f"the catalogue {path} is damaged (")
        assert warning.endswith("it was set aside as catalogue.sqlite.bad, and an empty one begun")
        assert catalogue.warnings() == []
        assert catalogue.search(TITLE) == []
        assert catalogue.put([entry(1)], now=1).added == 1
    assert path.with_name("catalogue.sqlite.bad").read_bytes() == before
    assert names(path) == ["catalogue.sqlite", "catalogue.sqlite.bad"]
    check_whole(path)


def test_what_was_set_aside_before_is_never_written_over(path: Path) -> None:
    for number in range(3):
        path.write_bytes(b"%d: not a database. " % number * 1000)
        with opened(path):
            pass
        path.unlink()
    assert names(path) == [f"catalogue.sqlite.bad{number}" for number in ("", "2", "3")]
    assert [file.read_bytes()[:1] for file in sorted(path.parent.iterdir())] == [b"0", b"1", b"2"]
    for number in range(4, 101):
        path.with_name(f"catalogue.sqlite.bad{number}").write_bytes(b"")
    path.write_bytes(b"not a database either" * 1000)
    with pytest.raises(StorageError, match="100 before it"):
        SqliteCatalogue(path)


def scribble(path: Path, from_page: int = 3) -> None:
    """Over all pages but the first ones, as a failing disk may."""
    with path.open("r+b") as file:
        for at in range(from_page * 4096, path.stat().st_size, 4096):
            file.seek(at)
            file.write(b"\xa5" * 4000)


@pytest.mark.parametrize(
    "use",
    [
        lambda catalogue: catalogue.search(TITLE),
        lambda catalogue: catalogue.page(),
        lambda catalogue: catalogue.put([entry(number) for number in range(3000)], now=2),
        lambda catalogue: catalogue.forget([infohash(1)], Source.NETWORK),
    ],
    ids=["search", "page", "put", "forget"],
)
def test_damage_that_shows_later_is_an_error_once(
    path: Path, use: Callable[[SqliteCatalogue], object]
) -> None:
    fill(path)
    with opened(path, cache_bytes=0) as catalogue:
        catalogue.search(CatalogueQuery(words=("nothing",)))  # a connection that reads is there
        scribble(path)
        with pytest.raises(StorageError, match=r"is damaged .* an empty one begun"):
            use(catalogue)
        assert "set aside as catalogue.sqlite.bad" in catalogue.warnings()[0]
        use(catalogue)
        catalogue.put([entry(1)], now=1)
        assert len(catalogue.search(TITLE)) >= 1
        assert "catalogue.sqlite.bad" in names(path)
    check_whole(path)


def test_a_damaged_file_that_another_process_uses_is_left_until_that_ends(path: Path) -> None:
    fill(path)
    script = (
        "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('PRAGMA user_version')"
        ".fetchall(); print(1, flush=True); sys.stdin.read()"
    )
    with opened(path, cache_bytes=0) as catalogue:
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        scribble(path)
        with pytest.raises(StorageError, match="is damaged"):
            catalogue.page()
        for use in (catalogue.page, lambda: catalogue.put([entry(1)], now=1)):
            with pytest.raises(StorageError, match="another process uses it"):
                use()
        assert "catalogue.sqlite.bad" not in names(path)
        process.communicate(b"", timeout=60)
        catalogue.put([entry(1)], now=1)
        assert len(catalogue.search(TITLE)) == 1
        assert "catalogue.sqlite.bad" in names(path)
    check_whole(path)


def test_a_database_is_not_renamed_while_it_is_read(path: Path) -> None:
    """SQLite would remove the log of its successor when the last connection closes."""
    fill(path)
    with opened(path, cache_bytes=0, busy_time=0.1) as catalogue:
        with catalogue._db.read() as db:
            scribble(path)
            done: list[str] = []

            def use() -> None:
                for _ in range(2):
                    with pytest.raises(StorageError) as caught:
                        catalogue.page()
                    done.append(str(caught.value))

            thread = threading.Thread(target=use)
            thread.start()
            thread.join()
            assert "is damaged (" in done[0]
            assert done[1].endswith("is damaged, and still being read")
            assert "catalogue.sqlite.bad" not in names(path)
            db.execute("SELECT 1").fetchall()
        assert catalogue.search(TITLE) == []
        assert "catalogue.sqlite.bad" in names(path)


def test_a_damaged_file_that_cannot_be_renamed_is_an_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nonsense(path)

    def refuse(self: Path, target: object) -> Path:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        with pytest.raises(StorageError, match="cannot be set aside: Permission denied"):
            SqliteCatalogue(path)
    assert names(path) == ["catalogue.sqlite"]


def test_readers_in_other_threads_outlive_damage(path: Path) -> None:
    fill(path)
    with opened(path, cache_bytes=0) as catalogue:
        scribble(path)
        start = threading.Barrier(8)
        failed: list[StorageError] = []

        def use(number: int) -> None:
            start.wait()
            for step in range(20):
                try:
                    if number % 2:
                        catalogue.page()
                    else:
                        catalogue.put([entry(step)], now=step)
                except StorageError as error:
                    failed.append(error)

        threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert 1 <= len(failed) <= 8
        assert catalogue.summary().torrents == 20
        assert len(catalogue.warnings()) == 1
    assert {"catalogue.sqlite", "catalogue.sqlite.bad"} <= set(names(path))
    assert "catalogue.sqlite.bad2" not in names(path)
    check_whole(path)


# -- others, and the system ---------------------------------------------------------------------


def test_two_may_use_one_file_in_turns(path: Path) -> None:
    with opened(path) as first, opened(path) as second:
        first.put([entry(1)], now=1)
        second.put([entry(2)], now=1)
        assert len(first.search(TITLE)) == len(second.search(TITLE)) == 2
    check_whole(path)


def test_who_waits_too_long_for_another_writer_is_told(path: Path) -> None:
    fill(path, 1)
    with (
        contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other,
        opened(path, busy_time=0.1) as catalogue,
    ):
        other.execute("BEGIN IMMEDIATE")
        before = time.monotonic()
        with pytest.raises(StorageError, match="busy: another process is writing") as caught:
            catalogue.put([entry(2)], now=1)
        assert time.monotonic() - before < 5
        assert caught.value.passing
        assert len(catalogue.search(TITLE)) == 1  # reading does not wait
        with pytest.raises(StorageError, match="busy"):
            catalogue.set_trust(ALICE, PublisherTrust.TRUSTED, now=1)
        other.execute("ROLLBACK")
        assert catalogue.put([entry(2)], now=1).added == 1


def test_a_full_database_is_told_and_goes_on_when_there_is_room(path: Path) -> None:
    with opened(path) as catalogue:
        catalogue.put([entry(1)], now=1)
        with catalogue._db.write() as db:
            pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(StorageError, match="full") as caught:
            catalogue.put([entry(number) for number in range(5000)], now=1)
        assert caught.value.disk_full
        assert len(catalogue.search(TITLE)) == 1
        db.execute("PRAGMA max_page_count = 100000")
        assert catalogue.put([entry(number) for number in range(5000)], now=1).added == 4999
    check_whole(path)


def test_a_disk_that_fills_up_or_is_read_only_is_told(tmp_path: Path) -> None:
    script = Path(__file__).with_name("small_disk_process.py")
    folder = tmp_path / "disk"
    folder.mkdir()
    alone = ["unshare", "--map-root-user", "--mount"] if os.getuid() else ["unshare", "--mount"]
    try:
        possible = subprocess.run(
            [*alone, "mount", "-t", "tmpfs", "none", str(folder)], capture_output=True, timeout=60
        )
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    if possible.returncode:
        pytest.skip(f"cannot mount: {possible.stderr.decode()}")
    done = subprocess.run(
        [*alone, sys.executable, str(script), str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    full, kept, again, read_only, whole = done.stdout.splitlines()
    assert full.startswith("True the catalogue")
    assert "full" in full
    assert kept == "True True"
    assert again == "1"
    assert read_only.startswith("False the catalogue")
    assert whole == "True []"


def test_errors_of_our_own_making_are_not_taken_for_the_systems(path: Path) -> None:
    with opened(path) as catalogue:
        with pytest.raises(sqlite3.OperationalError, match="no such table"), catalogue._db.write():
            catalogue._db._writer().execute("SELECT * FROM missing")
        with pytest.raises(sqlite3.IntegrityError), catalogue._db.write() as db:
            db.execute("INSERT INTO word VALUES(x'00', NULL, 1)")
        assert catalogue.put([entry(1)], now=1).added == 1


def test_a_reader_cannot_write(path: Path) -> None:
    with (
        opened(path) as catalogue,
        pytest.raises(StorageError, match="readonly"),
        catalogue._db.read() as db,
    ):
        db.execute("DELETE FROM torrent")


def test_connections_are_used_again_and_are_few(path: Path) -> None:
    fill(path, 1)
    made: list[sqlite3.Connection] = []
    with opened(path, readers=2) as catalogue:
        inside = threading.Barrier(2)

        def read() -> None:
            for _ in range(10):
                with catalogue._db.read() as db:
                    made.append(db)
                    with contextlib.suppress(threading.BrokenBarrierError):
                        inside.wait(0.05)

        threads = [threading.Thread(target=read) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(made) == 50
    assert 1 <= len(set(map(id, made))) <= 2


# -- kill -9 ------------------------------------------------------------------------------------


def test_what_was_stored_survives_being_killed_again_and_again(path: Path) -> None:
    rng = random.Random(5)
    script = Path(__file__).with_name("writing_process.py")
    stored = -1
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, str(script), str(path), str(stored + 1)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for line in range(rng.randrange(5, 25)):
            stored = int(process.stdout.readline())
            assert line >= 0
        time.sleep(rng.random() * 0.01)  # anywhere in the next batch
        process.send_signal(signal.SIGKILL)
        stored = max([stored, *map(int, process.stdout.read().split())])
        process.stdout.close()
        process.wait()
        with opened(path) as catalogue:
            assert catalogue.warnings() == []
            ours = {one.infohash for one in catalogue.page(0, 1000, Source.OWN)[0]}
            assert {infohash(number * BATCH) for number in range(stored + 1)} <= ours
            # The batch at the end may have been stored before it could say so, and then wholly.
            last = stored + 1
            found = [
                catalogue.get(infohash(row)) is not None
                for row in range(last * BATCH, (last + 1) * BATCH)
            ]
            assert len(set(found)) == 1
            due = {one.infohash for one in catalogue.due(10**9, 10_000)}
            assert {infohash(number * BATCH) for number in range(stored + 1)} <= due
        check_whole(path)
    assert names(path) == ["catalogue.sqlite"]


# -- its size -----------------------------------------------------------------------------------


def test_what_is_ours_is_never_evicted_and_the_unproved_goes_first(path: Path) -> None:
    with opened(path, max_bytes=1024 * 1024) as catalogue:
        catalogue.set_trust(BOB, PublisherTrust.BLOCKED, now=1)
        catalogue.set_trust(ALICE, PublisherTrust.TRUSTED, now=1)
        ours = [entry(number, f"Ours {number}", sources=Source.OWN) for number in range(200)]
        catalogue.put(ours, now=1)
        catalogue.put_outbox([OutboxEntry(one.infohash, "w", b"ours", due=5) for one in ours])
        catalogue.put(
            [entry(1000 + n, f"Proved {n}", proof=Proof.VERIFIED) for n in range(500)], now=2
        )
        sizes, counts = [], []
        for step in range(60):
            catalogue.put(
                [
                    entry(10_000 + 500 * step + n, f"Title {n} step{step}", claims=(claim(ALICE),))
                    for n in range(500)
                ],
                now=10 + step,
            )
            summary = catalogue.summary()
            sizes.append(summary.bytes)
            counts.append(summary.torrents)
        assert len(catalogue.page(0, 1000, Source.OWN)[0]) == 200
        assert len(catalogue.due(5, 1000)) == 200
        assert {one.key for one in catalogue.publishers()} == {ALICE, BOB}
        proved = CatalogueQuery(words=("proved",), limit=1000)
        assert len(catalogue.search(proved)) == 500
        for step, found in ((0, 0), (30, 0), (58, 500), (59, 500)):
            words = CatalogueQuery(words=(f"step{step}",), limit=1000)
            assert len(catalogue.search(words)) == found
        assert max(sizes) < 1.3 * 1024 * 1024
        # It is kept full, not emptied.
        assert min(counts[20:]) > 2000
    assert path.stat().st_size < 1.5 * 1024 * 1024
    check_whole(path)


def test_a_smaller_bound_is_reached_soon_and_the_file_shrinks(path: Path) -> None:
    with opened(path) as catalogue:
        for step in range(10):
            catalogue.put([entry(2000 * step + n, f"Title {n}") for n in range(2000)], now=step)
    before = path.stat().st_size
    with opened(path, max_bytes=before // 4) as catalogue:
        for step in range(120):
            catalogue.put([entry(100_000 + step)], now=100 + step)
        assert catalogue.summary().bytes <= before // 4
        assert catalogue.summary().torrents > 3000  # of 20,000
    assert path.stat().st_size < before / 2
    check_whole(path)


def test_what_is_ours_may_exceed_the_bound(path: Path) -> None:
    with opened(path, max_bytes=100_000) as catalogue:
        ours = [entry(number, sources=Source.OWN) for number in range(3000)]
        assert catalogue.put(ours, now=1).added == 3000
        catalogue.put([entry(5000)], now=1)
        assert catalogue.summary().torrents == 3000
        assert catalogue.summary().own == 3000
