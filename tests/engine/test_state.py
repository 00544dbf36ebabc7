"""A record comes back exactly as saved or not at all, and no piece is claimed without proof."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import os
import random
import stat
import struct
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from dht_torrent import bencode
from dht_torrent.config import DiskConfig
from dht_torrent.config.seeding import SeedingLimit, SeedingLimits
from dht_torrent.engine.net.tls import Identity
from dht_torrent.engine.resume import Resume, decode_resume
from dht_torrent.engine.shift import Shift
from dht_torrent.engine.state import StateDir
from dht_torrent.engine.torrent.disk import Disk, TorrentDisk
from dht_torrent.engine.trust import UNSETTLED, bits_of, flags_of, remembered, settled, trusted
from dht_torrent.errors import InputError, StorageError
from dht_torrent.ids import Address, InfoHash, address_from_compact
from dht_torrent.metainfo import Metainfo
from dht_torrent.storage import FileStamp, FileStorage
from dht_torrent.storage.owners import NEW
from dht_torrent.syscalls import UNSUPPORTED
from tests.helpers.examples import examples
from tests.helpers.storages import PIECE, hashed

HASH = InfoHash(bytes(range(20)))
SECOND = 1_000_000_000


def minimal(info_hash: InfoHash = HASH) -> Resume:
    return Resume(
        info_hash=info_hash, magnet="magnet:?xt=urn:btih:x", added_at=1, content=Path("/d")
    )


addresses = (st.binary(min_size=6, max_size=6) | st.binary(min_size=18, max_size=18)).map(
    address_from_compact
)
numbers = st.integers(0, 2**63 - 1)
times = st.floats(0, 1e11)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=50)


own: list[SeedingLimit] = ["node", "none"]
choices = st.sampled_from(own) | st.floats(0, 1e6)


_parts = texts.filter(lambda text: text not in ("", ".", "..") and "/" not in text)
_names = st.dictionaries(st.lists(_parts, max_size=3).map(tuple), _parts, max_size=3)
_paths = st.none() | st.lists(_parts, max_size=3).map(tuple)
_inodes = st.none() | numbers


@st.composite
def resumes(draw: st.DrawFn) -> Resume:
    info = draw(st.none() | st.binary(max_size=50))
    first = st.integers(0, 1000)
    return Resume(
        info_hash=InfoHash(hashlib.sha1(info).digest() if info is not None else draw(_twenty)),
        magnet=draw(texts),
        added_at=draw(times),
        content=Path(draw(texts)),
        shared=draw(st.booleans()),
        info=info,
        have=draw(st.binary(max_size=20)),
        stamps=draw(st.none() | st.lists(_stamps, max_size=5).map(tuple)),
        select=draw(
            st.none()
            | st.lists(st.tuples(first, first).map(lambda pair: (min(pair), max(pair)))).map(tuple)
        ),
        priorities=draw(st.dictionaries(st.integers(0, 99), st.sampled_from([-1, 1]))),
        sequential=draw(st.booleans()),
        paused=draw(st.booleans()),
        downloaded=draw(numbers),
        uploaded=draw(numbers),
        wasted=draw(numbers),
        completed_at=draw(st.none() | times),
        peers=draw(st.lists(addresses, max_size=4).map(tuple)),
        banned=draw(st.lists(addresses, max_size=4).map(tuple)),
        limit_up=draw(st.none() | numbers),
        limit_down=draw(st.none() | numbers),
        stamped_at=draw(st.none() | numbers),
        made=draw(st.none() | st.binary(max_size=9)),
        begun=draw(st.binary(max_size=9)),
        filled=draw(st.binary(max_size=9)),
        mount=draw(st.none() | texts),
        overwrite=draw(st.booleans()),
        super_seed=draw(st.booleans()),
        superseded=draw(st.booleans()),
        published=draw(st.none() | st.lists(st.text(max_size=8), max_size=16).map(tuple)),
        not_published=draw(st.none() | texts),
        sources=draw(st.lists(texts.map(Path), max_size=3).map(tuple)),
        looked_around=draw(st.booleans()),
        reused=draw(numbers),
        labels=draw(st.lists(texts, max_size=3).map(tuple)),
        seeding=draw(st.builds(SeedingLimits, choices, choices)),
        retired=draw(st.sampled_from([None, "ratio", "idle"])),
        rank=draw(st.none() | times),
        names=draw(_names),
        shift=draw(st.none() | st.builds(Shift, texts.map(Path), _names, _paths, _inodes)),
        identity=draw(st.none() | st.builds(Identity, texts.map(Path), texts.map(Path))),
    )


_twenty = st.binary(min_size=20, max_size=20)
_stamps = st.none() | st.builds(FileStamp, numbers, st.integers(-(2**63), 2**63 - 1))


@settings(max_examples=examples(60))
@given(resumes())
def test_a_record_decodes_to_what_was_encoded(resume: Resume) -> None:
    assert decode_resume(resume.encode()) == resume


@settings(max_examples=examples(100))
@given(resumes(), st.data())
def test_a_hostile_payload_is_a_record_or_one_error(resume: Resume, data: st.DataObject) -> None:
    payload = bytearray(resume.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(StorageError):
        back = decode_resume(bytes(payload))
        assert decode_resume(back.encode()) == back


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"info_hash", b"short"),
        (b"info_hash", 5),
        (b"info", b"another torrent's"),
        (b"magnet", b"\xff"),
        (b"magnet", b"m" * 70_000),
        (b"content", b"a\0b"),
        (b"content", b"r" * 5000),
        (b"added_at", bytes(7)),
        (b"completed_at", bytes(9)),
        (b"have", 7),
        (b"have", bytes(300_000)),
        (b"downloaded", -1),
        (b"downloaded", b"1"),
        (b"stamps", bytes(17)),
        (b"select", [[3, 2]]),
        (b"select", [[0, 1, 2]]),
        (b"select", b"0-3"),
        (b"peers", [b"12345"]),
        (b"peers", [bytes(6)] * 201),
        (b"peers", [1]),
        (b"banned", [b"example.org"]),
        (b"banned", [b"example.org:80"]),
        (b"banned", [b"10.0.0.2:99999"]),
        (b"banned", [b"\xff"]),
        (b"sources", b"/old"),
        (b"sources", [b"/old", 1]),
        (b"sources", [b"a\0b"]),
        (b"sources", [b"r" * 5000]),
        (b"sources", [b"/old"] * 33),
        (b"reused", -1),
        (b"names", b"x"),
        (b"names", [[]]),
        (b"names", [[b"a", b".."]]),
        (b"names", [[b"a", b"b/c"]]),
        (b"names", [[b"a\0"]]),
        (b"names", [[b""]]),
        (b"names", [[1]]),
        (b"names", [[b"x"] * 200]),
        (b"names", [[b"x"]] * 10_001),
        (b"shift", b"x"),
        (b"shift", {b"root": b"/x"}),
        (b"shift", {b"root": b"a\0b", b"names": []}),
        (b"shift", {b"root": b"r" * 5000, b"names": []}),
        (b"shift", {b"root": b"/x", b"names": [[b".."]]}),
        (b"shift", {b"root": b"/x", b"names": [], b"number": -1}),
        (b"shift", {b"root": b"/x", b"names": [], b"number": b"1"}),
        (b"shift", {b"root": b"/x", b"names": [], b"path": b"x"}),
        (b"shift", {b"root": b"/x", b"names": [], b"path": [b".."]}),
        (b"looked_around", b"1"),
    ],
)
def test_a_wrong_field_is_refused(key: bytes, value: bencode.Value) -> None:
    fields = bencode.decode(minimal().encode())
    assert isinstance(fields, dict)
    with pytest.raises(StorageError):
        decode_resume(bencode.encode({**fields, key: value}))
    if key in fields:
        del fields[key]
        with pytest.raises(StorageError):
            decode_resume(bencode.encode(fields))


@pytest.mark.parametrize("time", [-1.0, 1e12, float("inf"), float("-inf"), float("nan")])
def test_times_outside_the_calendar_are_left_out(time: float) -> None:
    wrong = dataclasses.replace(minimal(), added_at=time, completed_at=time)
    assert decode_resume(wrong.encode()) == dataclasses.replace(minimal(), added_at=0.0)
    fields = bencode.decode(minimal().encode())
    assert isinstance(fields, dict)
    raw = struct.pack(">d", time)
    record = bencode.encode({**fields, b"added_at": raw, b"completed_at": raw})
    assert decode_resume(record) == dataclasses.replace(minimal(), added_at=0.0)


@pytest.mark.parametrize("payload", [b"", b"i1e", b"le", b"d", b"l" * 1000 + b"e" * 1000])
def test_what_is_not_a_dict_is_refused(payload: bytes) -> None:
    with pytest.raises(StorageError):
        decode_resume(payload)


def test_a_path_of_any_bytes_survives() -> None:
    resume = dataclasses.replace(minimal(), content=Path(os.fsdecode(b"/caf\xe9")))
    assert decode_resume(resume.encode()) == resume


def test_only_so_many_peers_are_kept() -> None:
    many = tuple(Address("10.0.0.1", port) for port in range(1, 1000))
    resume = dataclasses.replace(minimal(), peers=many, banned=(Address("10.0.0.2", 5),) * 2000)
    back = decode_resume(resume.encode())
    assert back.peers == many[:200]
    assert len(back.banned) == 1000


def test_hosts_banned_by_older_versions_are_met_with_care() -> None:
    fields = bencode.decode(minimal().encode())
    assert isinstance(fields, dict)
    old = bencode.encode({**fields, b"banned": [b"8.8.8.8", b"2001:db8::1"]})
    assert decode_resume(old).banned == (Address("8.8.8.8", 0), Address("2001:db8::1", 0))


# -- the folder ----------------------------------------------------------------------------------


def test_records_come_back_oldest_first_until_removed(tmp_path: Path) -> None:
    one = dataclasses.replace(minimal(InfoHash(b"z" * 20)), added_at=5)
    two = dataclasses.replace(minimal(), added_at=9, have=b"\xf0")
    with StateDir(tmp_path / "state") as state:
        state.save(two)
        state.save(one)
        state.save(one)
        assert state.load_all() == ([one, two], [])
        state.remove(one.info_hash)
        state.remove(one.info_hash)
        state.save_dht(b"contacts")
    with StateDir(tmp_path / "state") as state:
        assert state.load_all() == ([two], [])
        assert state.load_dht() == (b"contacts", [])


def test_a_fresh_folder_is_private_and_empty(tmp_path: Path) -> None:
    with StateDir(tmp_path / "a" / "state") as state:
        assert stat.S_IMODE(state.path.stat().st_mode) == 0o700
        assert state.load_all() == ([], [])
        assert state.load_dht() == (None, [])
        state.save(minimal())
        for file in state.path.rglob("*.resume"):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_second_node_is_told_and_the_first_unharmed(tmp_path: Path) -> None:
    first = StateDir(tmp_path)
    with pytest.raises(InputError, match="another node"):
        StateDir(tmp_path)
    first.save(minimal())
    assert first.load_all() == ([minimal()], [])
    first.close()
    first.close()
    StateDir(tmp_path).close()


def test_a_folder_that_cannot_be_made_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot use"):
        StateDir(tmp_path / "file")


def damaged(tmp_path: Path, data: bytes) -> tuple[list[Resume], list[str]]:
    path = tmp_path / "torrents" / f"{HASH.hex()}.resume"
    with StateDir(tmp_path) as state:
        path.write_bytes(data)
        return state.load_all()


def test_a_damaged_record_is_set_aside_at_every_byte_and_length(tmp_path: Path) -> None:
    with StateDir(tmp_path) as state:
        state.save(minimal())
    path = tmp_path / "torrents" / f"{HASH.hex()}.resume"
    whole = path.read_bytes()
    versions = [whole[:length] for length in range(len(whole))]
    versions += [
        whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :]
        for at in range(len(whole))
        for flip in (1, 0x80)
    ]
    versions += [whole + b"x", b"dht_torrent state 2\n" + whole[20:], b"\0" * len(whole)]
    for data in versions:
        found, warnings = damaged(tmp_path, data)
        assert found == []
        assert len(warnings) == 1
        assert "set aside" in warnings[0]
        assert not path.exists()
        assert path.with_name(path.name + ".bad").read_bytes() == data
    assert damaged(tmp_path, whole) == ([minimal()], [])


def test_a_record_under_another_torrents_name_is_set_aside(tmp_path: Path) -> None:
    with StateDir(tmp_path) as state:
        state.save(minimal())
        path = tmp_path / "torrents" / f"{HASH.hex()}.resume"
        path.rename(path.with_name("a" * 40 + ".resume"))
        found, warnings = state.load_all()
    assert found == []
    assert "another torrent" in warnings[0]


def test_one_bad_record_does_not_hide_the_others(tmp_path: Path) -> None:
    with StateDir(tmp_path) as state:
        state.save(minimal())
        torrents = tmp_path / "torrents"
        (torrents / ("b" * 40 + ".resume")).write_bytes(b"junk")
        (torrents / ("c" * 40 + ".resume")).mkdir()
        os.mkfifo(torrents / ("d" * 40 + ".resume"))
        (torrents / "readme.txt").write_text("not ours")
        (torrents / "half.resume.tmp").write_bytes(b"left behind")
        found, warnings = state.load_all()
        assert found == [minimal()]
        assert len(warnings) == 3
        assert not (torrents / "half.resume.tmp").exists()
        assert (torrents / "readme.txt").exists()


def test_a_damaged_dht_state_is_set_aside(tmp_path: Path) -> None:
    with StateDir(tmp_path) as state:
        (tmp_path / "dht.state").write_bytes(b"junk")
        found, warnings = state.load_dht()
        assert found is None
        assert len(warnings) == 1
        state.save_dht(b"")
        assert state.load_dht() == (b"", [])


def test_a_save_that_fails_leaves_the_record_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    with StateDir(tmp_path) as state:
        state.save(minimal())
        with monkeypatch.context() as patch:
            patch.setattr("dht_torrent.syscalls._fdatasync", full)
            with pytest.raises(StorageError, match="No space") as caught:
                state.save(dataclasses.replace(minimal(), paused=True))
        assert caught.value.disk_full
        assert state.load_all() == ([minimal()], [])
        assert not list(tmp_path.rglob("*.tmp"))


# -- trust ---------------------------------------------------------------------------------------

# Pieces 0-1 are in file 0, 1-3 in file 1 (piece 1 in both), 3-4 in file 2.
SIZES = (PIECE + 100, 2 * PIECE, PIECE + 50)
META = hashed(random.Random(5).randbytes(sum(SIZES)), SIZES)
STAMPS = tuple(FileStamp(size, 10 * SECOND) for size in SIZES)


def claiming(have: int, stamps: tuple[FileStamp | None, ...] | None = STAMPS) -> Resume:
    return dataclasses.replace(minimal(), have=bytes([have]), stamps=stamps)


def judged(
    resume: Resume, now: tuple[FileStamp | None, ...], at: int = 100
) -> tuple[set[int], set[int]]:
    """What is trusted, and what is to be checked, `at` so many seconds."""
    found = trusted(remembered(resume, META.geometry), now, META.geometry, at * SECOND)
    return found.trusted, found.recheck


def test_unchanged_files_need_no_hashing() -> None:
    assert judged(claiming(0b10110_000), STAMPS) == ({0, 2, 3}, set())


def test_in_a_changed_file_every_piece_is_checked_claimed_or_not() -> None:
    now = (STAMPS[0], FileStamp(SIZES[1], 11 * SECOND), STAMPS[2])
    assert judged(claiming(0b11110_000), now) == ({0}, {1, 2, 3})


def test_pieces_of_an_absent_file_are_missing_without_a_look() -> None:
    now = (None, *STAMPS[1:])
    assert judged(claiming(0b11111_000), now) == ({2, 3, 4}, set())


def test_a_file_that_appeared_is_checked() -> None:
    before = (None, *STAMPS[1:])
    assert judged(claiming(0b00111_000, before), STAMPS) == ({2, 3, 4}, {0, 1})


@pytest.mark.parametrize(
    "resume",
    [
        claiming(0xFF, None),
        claiming(0xFF, STAMPS[:2]),
        dataclasses.replace(claiming(0xFF), have=b""),
        dataclasses.replace(claiming(0xFF), have=b"\xff\xff"),
        claiming(0xFF, settled(STAMPS, 10 * SECOND)),
    ],
)
def test_a_record_that_proves_nothing_is_not_believed(resume: Resume) -> None:
    assert judged(resume, STAMPS) == (set(), {0, 1, 2, 3, 4})


def test_a_stamp_is_unsettled_while_its_file_could_change_unseen() -> None:
    stamps = (FileStamp(5, 9 * SECOND), None, FileStamp(6, 7 * SECOND), FileStamp(7, 11 * SECOND))
    assert settled(stamps, 10 * SECOND) == (
        FileStamp(5, UNSETTLED),
        None,
        FileStamp(6, 7 * SECOND),
        FileStamp(7, UNSETTLED),
    )
    assert settled(stamps, 10 * SECOND, settle=0.5)[0] == stamps[0]
    # What was modified since the reading began may have been read before or after.
    since = settled(
        (FileStamp(6, 7 * SECOND), FileStamp(6, 6 * SECOND)), 10 * SECOND, since=6 * SECOND
    )
    assert since == (FileStamp(6, UNSETTLED), FileStamp(6, 6 * SECOND))


def test_a_file_dated_in_the_future_is_settled_and_trusted_until_that_time() -> None:
    later = tuple(FileStamp(size, 1000 * SECOND) for size in SIZES)
    assert settled(later, 10 * SECOND) == later
    resume = dataclasses.replace(claiming(0xFF, later), stamped_at=10 * SECOND)
    assert judged(resume, later, 900) == ({0, 1, 2, 3, 4}, set())
    # Once the clock has come there, a write may have left the very time that is recorded.
    for at in (998, 1000, 5000):
        assert judged(resume, later, at) == (set(), {0, 1, 2, 3, 4})
    # A record made since then proves as much as any other.
    resume = dataclasses.replace(resume, stamped_at=1003 * SECOND)
    assert judged(resume, later, 5000) == ({0, 1, 2, 3, 4}, set())


@settings(max_examples=examples(300))
@given(st.data())
def test_no_write_goes_unnoticed_whatever_the_time_of_the_file(data: st.DataObject) -> None:
    """The clock is a file's stamp when it is written, rounded as the file system does it, and the
    file's date may be anything before. If it was written after its stamp was recorded, it is never
    trusted."""
    step = data.draw(st.sampled_from([1, SECOND // 100, SECOND, 2 * SECOND]))
    dated = data.draw(st.integers(0, 40 * SECOND)) // step * step
    recorded, written, looked = sorted(data.draw(st.integers(0, 40 * SECOND)) for _ in range(3))
    size = SIZES[0]
    then = settled((FileStamp(size, dated), *STAMPS[1:]), recorded)
    resume = dataclasses.replace(claiming(0xFF, then), stamped_at=recorded)
    now = (FileStamp(size, written // step * step), *STAMPS[1:])
    # STAMPS are of second 10: look at the first file only.
    belief = remembered(resume, META.geometry)
    assert 0 in trusted(belief, now, META.geometry, looked).changed


def test_a_file_whose_time_was_set_to_zero_is_as_good_as_any() -> None:
    stamps = tuple(FileStamp(size, 0) for size in SIZES)
    resume = dataclasses.replace(claiming(0xFF, stamps), stamped_at=10 * SECOND)
    assert judged(resume, stamps) == ({0, 1, 2, 3, 4}, set())
    # In records of older versions 0 is what proves nothing.
    assert judged(claiming(0xFF, stamps), stamps) == (set(), {0, 1, 2, 3, 4})


@given(st.lists(st.booleans(), max_size=40))
def test_flags_are_kept_as_bits(flags: list[bool]) -> None:
    bits = bits_of(bytearray(flags))
    assert len(bits) == -(-len(flags) // 8)
    assert flags_of(bits, len(flags)) == bytearray(flags)
    assert flags_of(b"", len(flags)) == bytearray(len(flags))


@settings(max_examples=examples(60))
@given(
    st.integers(0, 31),
    st.lists(st.sampled_from(["same", "changed", "gone", "unsettled"]), min_size=3, max_size=3),
)
def test_a_piece_is_trusted_only_if_all_its_files_are_unchanged(
    have: int, fates: list[str]
) -> None:
    then = tuple(
        stamp._replace(mtime_ns=UNSETTLED) if fate == "unsettled" else stamp
        for stamp, fate in zip(STAMPS, fates, strict=True)
    )
    now = tuple(
        {"gone": None, "changed": stamp._replace(size=1)}.get(fate, stamp)
        for stamp, fate in zip(STAMPS, fates, strict=True)
    )
    belief = remembered(claiming(have << 3, then), META.geometry)
    result = trusted(belief, now, META.geometry, 100 * SECOND)
    for index in range(5):
        touched = [fates[number] for number in META.geometry.piece_files(index)]
        claimed = bool(have & (16 >> index))
        assert (index in result.trusted) == (claimed and set(touched) == {"same"})
        may_be_there = "gone" not in touched and set(touched) != {"same"}
        assert (index in result.recheck) == may_be_there


# -- kill -9 -------------------------------------------------------------------------------------

_KILL_PIECES = 64
_KILL_CONTENT = random.Random(11).randbytes(_KILL_PIECES * PIECE)
_KILL_SIZES = tuple([3 * PIECE + 7] * 21 + [PIECE - 147])


_OLD_PIECES = 9
"""Downloaded long ago. Files 0 and 1 are all theirs, so pieces 0 to 5 are always trusted."""


def download_until_killed(folder: Path) -> None:
    """What a node does: save pieces and keep the record, over and over. A line says it did."""
    meta = hashed(_KILL_CONTENT, _KILL_SIZES)
    config = DiskConfig(inline=True)
    storage = FileStorage(folder / "downloads", meta, config)
    disk = TorrentDisk(Disk(config), storage, meta.geometry, meta.pieces)
    rng = random.Random(os.getpid())
    storage.create()

    async def save(index: int) -> None:
        at = index * PIECE
        result = await disk.save([(index, _KILL_CONTENT[at : at + PIECE])])
        assert result.saved == [index]

    async def main(state: StateDir) -> None:
        for index in range(_OLD_PIECES):
            await save(index)
        for number in (0, 1):
            os.utime(storage.path / str(number), (1e9, 1e9))
        while True:
            have = set(range(_OLD_PIECES))
            for index in rng.sample(range(_OLD_PIECES, _KILL_PIECES), _KILL_PIECES - _OLD_PIECES):
                await save(index)
                have.add(index)
                if rng.random() < 0.3:
                    storage.sync()
                    # Shorter than a careful node's, so that recent pieces are trusted, too.
                    stamps = settled(storage.stamps(), time.time_ns(), settle=0.01)
                    state.save(record_of(meta, folder, have, stamps))
                    sys.stdout.write("saved\n")
                    sys.stdout.flush()
            for number in range(3, len(_KILL_SIZES)):
                (storage.path / str(number)).unlink()
                storage.access[number] = NEW
            storage.stamps()  # so that no descriptor of a deleted file is left

    with StateDir(folder / "state") as state:
        trio.run(main, state)


def record_of(
    meta: Metainfo, folder: Path, have: set[int], stamps: tuple[FileStamp | None, ...]
) -> Resume:
    bits = sum(1 << (_KILL_PIECES - 1 - index) for index in have)
    return Resume(
        info_hash=meta.info_hash,
        magnet=str(meta.magnet()),
        added_at=0,
        content=folder,
        info=meta.info,
        have=bits.to_bytes(_KILL_PIECES // 8, "big"),
        stamps=stamps,
    )


def test_after_kill_9_every_trusted_piece_is_whole_and_none_is_lost(tmp_path: Path) -> None:
    meta = hashed(_KILL_CONTENT, _KILL_SIZES)
    code = (
        "import sys, pathlib, importlib.util as u;"
        "s = u.spec_from_file_location('t', sys.argv[1]); m = u.module_from_spec(s);"
        "sys.modules['t'] = m; s.loader.exec_module(m);"
        "m.download_until_killed(pathlib.Path(sys.argv[2]))"
    )
    for attempt, records in enumerate((1, 7, 25)):
        folder = tmp_path / str(attempt)
        with subprocess.Popen(
            [sys.executable, "-c", code, __file__, str(folder)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            for _ in range(records):
                assert process.stdout.readline() == b"saved\n"
            process.kill()  # wherever it may be by now
        with StateDir(folder / "state") as state:  # the lock died with the process
            resumes, warnings = state.load_all()
        assert warnings == []
        assert len(resumes) == 1
        trio.run(check_after_kill, folder, meta, resumes[0])


async def check_after_kill(folder: Path, meta: Metainfo, resume: Resume) -> None:
    storage = FileStorage(folder / "downloads", meta, DiskConfig())
    disk = TorrentDisk(Disk(DiskConfig()), storage, meta.geometry, meta.pieces)
    belief = remembered(resume, meta.geometry)
    result = trusted(belief, storage.stamps(), meta.geometry, time.time_ns())
    assert result.trusted >= set(range(6))
    assert await disk.check(result.trusted) == result.trusted
    assert await disk.check() == result.trusted | await disk.check(result.recheck)
    storage.close()


# -- what a file system may not have -------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.ENOLCK, *sorted(UNSUPPORTED)])
def test_a_file_system_without_locks_is_used_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    def fails(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", fails)
    with StateDir(tmp_path / "state") as state:
        state.save(minimal())
        assert state.load_all() == ([minimal()], [])
    (record,) = caplog.records
    assert record.getMessage() == (
        f"cannot lock the state folder {tmp_path}/state ({os.strerror(code)}): make sure that "
        "only one node uses it"
    )


def test_a_lock_that_fails_for_another_reason_stops_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", fails)
    with pytest.raises(InputError, match=r"cannot lock the state folder .*: Input/output error"):
        StateDir(tmp_path)


@pytest.mark.parametrize("code", sorted(UNSUPPORTED))
def test_a_record_is_kept_where_nothing_can_be_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fails(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("dht_torrent.syscalls._fdatasync", fails)
    monkeypatch.setattr(os, "fsync", fails)
    with StateDir(tmp_path) as state:
        state.save(minimal())
        assert state.load_all() == ([minimal()], [])
        state.remove(HASH)
        assert state.load_all() == ([], [])


def test_a_long_reason_is_remembered_up_to_a_bound_at_the_end_of_a_character() -> None:
    resume = replace(minimal(), not_published="\u00fc" * 501 + "x\ud800")
    assert decode_resume(resume.encode()).not_published == "\u00fc" * 500
    resume = replace(minimal(), not_published="x" + "\u00fc" * 501)
    assert decode_resume(resume.encode()).not_published == "x" + "\u00fc" * 499
