from __future__ import annotations

import hashlib
import re
import time
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import libtorrent as lt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dht_torrent.bencode import Value, encode
from dht_torrent.bounds import MAX_CERTIFICATE, MAX_INFO, MAX_TORRENT, MAX_TOTAL
from dht_torrent.errors import MetainfoError
from dht_torrent.ids import HostPort, InfoHash
from dht_torrent.metainfo import LocalHints, Metainfo, from_info, parse_torrent
from dht_torrent.storage.making import choose_piece_length, make
from tests.helpers.examples import examples

Dict = dict[bytes, Any]
PIECE = 16 * 1024


def single(**changes: object) -> Dict:
    """A valid info dict of one file; `None` removes a key, `_` in a name means a space."""
    info: Dict = {
        b"length": 40_000,
        b"name": b"movie.mkv",
        b"piece length": PIECE,
        b"pieces": bytes(60),
    }
    return changed(info, changes)


def multi(files: Sequence[Any] | None = None, **changes: object) -> Dict:
    if files is None:
        files = [entry(30_000, b"a"), entry(0, b"empty"), entry(10_000, b"sub", b"b")]
    total = sum(item.get(b"length", 0) for item in files if isinstance(item, dict))
    info: Dict = {
        b"files": files,
        b"name": b"folder",
        b"piece length": PIECE,
        b"pieces": bytes(20 * min(-(-total // PIECE), 10_000)),
    }
    return changed(info, changes)


def changed(info: Dict, changes: dict[str, object]) -> Dict:
    for name, value in changes.items():
        key = name.replace("_", " ").encode()
        info.pop(key, None)
        if value is not None:
            info[key] = value
    return info


def entry(length: int, *path: bytes, **more: bytes) -> Dict:
    return {b"length": length, b"path": list(path), **{k.encode(): v for k, v in more.items()}}


def read(info: Value) -> Metainfo:
    """Through a .torrent file and through a magnet's info dict, which must agree."""
    try:
        parsed = parse_torrent(encode({b"info": info}))
    except MetainfoError:
        with pytest.raises(MetainfoError):
            from_info(encode(info))
        raise
    assert from_info(encode(info), info_hash=parsed.info_hash) == parsed
    return parsed


def paths(meta: Metainfo) -> list[tuple[str, ...]]:
    return [item.path for item in meta.files]


def test_a_single_file() -> None:
    meta = read(single())
    assert meta.single
    assert meta.name == "movie.mkv"
    assert paths(meta) == [("movie.mkv",)]
    assert meta.geometry.total == 40_000
    assert meta.geometry.piece_count == 3
    assert meta.info_hash == hashlib.sha1(encode(single())).digest()
    assert not meta.private


def test_a_folder_with_an_empty_file() -> None:
    meta = read(multi())
    assert not meta.single
    assert [(f.path, f.offset, f.length) for f in meta.files] == [
        (("a",), 0, 30_000),
        (("empty",), 30_000, 0),
        (("sub", "b"), 30_000, 10_000),
    ]


def test_piece_hashes_are_in_order() -> None:
    meta = read(single(pieces=b"a" * 20 + b"b" * 20 + b"c" * 20))
    assert [meta.piece_hash(i) for i in range(3)] == [b"a" * 20, b"b" * 20, b"c" * 20]


def test_private_is_exactly_1() -> None:
    assert read(single(private=1)).private
    for value in (0, 2, b"1", [1]):
        assert not read(single(private=value)).private


def test_the_root_certificate_of_an_ssl_torrent_is_kept_as_written() -> None:
    assert read(single()).ssl_cert is None
    info = single() | {b"ssl-cert": b"-----BEGIN"}
    assert read(info).ssl_cert == b"-----BEGIN"
    assert read(info | {b"ssl-cert": bytes(MAX_CERTIFICATE)}).ssl_cert == bytes(MAX_CERTIFICATE)


@pytest.mark.parametrize("value", [b"", bytes(MAX_CERTIFICATE + 1), 1, [b"x"], {}])
def test_a_torrent_for_members_never_passes_for_a_public_one(value: Value) -> None:
    with pytest.raises(MetainfoError, match="ssl-cert"):
        read(single() | {b"ssl-cert": value})


def test_the_infohash_is_of_the_bytes_as_written_even_when_unsorted() -> None:
    info = b"d4:name1:x12:piece lengthi16384e6:pieces20:" + bytes(20) + b"6:lengthi5ee"
    meta = parse_torrent(b"d4:info" + info + b"7:comment2:hie")
    assert meta.info == info
    assert meta.info_hash == hashlib.sha1(info).digest()
    assert meta.comment == "hi"
    assert parse_torrent(meta.to_torrent()).info_hash == meta.info_hash


def test_a_torrent_written_and_read_is_the_same() -> None:
    top: Dict = {
        b"comment": "ü".encode(),
        b"created by": b"someone",
        b"creation date": 1_700_000_000,
        b"info": multi(private=1),
        b"nodes": [[b"router.example", 6881], [b"::1", 1]],
    }
    meta = parse_torrent(encode(top))
    assert meta.nodes == (HostPort("router.example", 6881), HostPort("::1", 1))
    assert meta.to_torrent() == encode(top)
    assert parse_torrent(meta.to_torrent()) == meta


def test_the_magnet_names_the_torrent_and_its_peers() -> None:
    meta = read(multi())
    link = str(meta.magnet([HostPort("10.0.0.1", 5)]))
    assert link == f"magnet:?xt=urn:btih:{meta.info_hash.hex()}&dn=folder&x.pe=10.0.0.1:5"


@pytest.mark.parametrize(
    "nodes",
    [1, b"x", {}, [1], [[]], [[b"h"]], [[b"h", 0]], [[b"h", 65536]], [[1, b"h"]], [[b"", 1]]],
)
def test_malformed_nodes_are_passed_over(nodes: Value) -> None:
    assert parse_torrent(encode({b"info": single(), b"nodes": nodes})).nodes == ()


def test_malformed_comments_and_dates_are_passed_over() -> None:
    meta = parse_torrent(
        encode({b"info": single(), b"comment": 1, b"created by": [], b"creation date": b"x"})
    )
    assert (meta.comment, meta.created_by, meta.creation_date) == (None, None, None)


def test_utf_8_names_are_preferred() -> None:
    files = [{**entry(5, b"caf\xe9"), b"path.utf-8": ["café".encode()]}]
    meta = read(multi(files) | {b"name": b"\xe9", b"name.utf-8": "é".encode()})
    assert meta.name == "é"
    assert paths(meta) == [("café",)]


def test_pads_are_marked_and_take_no_name() -> None:
    meta = read(
        multi(
            [
                entry(10_000, b"a", attr=b"x"),
                entry(6384, b".pad", b"6384", attr=b"p"),
                entry(10_000, b"b", attr=b"hz"),
                entry(6384, b".pad", b"6384", attr=b"p"),
                entry(1, b".pad", b"6384"),
            ]
        )
    )
    assert [item.pad for item in meta.files] == [False, True, False, True, False]
    assert [item.attributes for item in meta.files] == ["x", "p", "h", "p", ""]
    assert paths(meta)[1] == paths(meta)[3] == paths(meta)[4] == (".pad", "6384")


def test_symbolic_links_are_never_on_disk() -> None:
    link = {b"attr": b"l", b"path": [b"link"], b"symlink path": [b"..", b"secret"]}
    meta = read(multi([entry(5, b"a"), link, {**link, b"length": 0}]))
    assert [item.pad for item in meta.files] == [False, True, True]
    assert [item.length for item in meta.files] == [5, 0, 0]
    with pytest.raises(MetainfoError, match="link with content"):
        read(multi([entry(5, b"a"), {**link, b"length": 5}]))


def test_a_hybrid_is_read_through_its_v1_part(tmp_path: Path) -> None:
    root = tmp_path / "hybrid"
    root.mkdir()
    for name, size in [("a", 20_000), ("b", 5)]:
        (root / name).write_bytes(b"x" * size)
    maker = lt.create_torrent(lt.list_files(str(root)))
    lt.set_piece_hashes(maker, str(tmp_path))
    raw = lt.bencode(maker.generate())
    assert b"9:file tree" in raw
    meta = parse_torrent(raw)
    assert meta.info_hash == lt.torrent_info(raw).info_hashes().v1.to_bytes()
    assert [item.path for item in meta.files if not item.pad] == [("a",), ("b",)]
    assert meta.geometry.files[1].pad


def test_a_v2_only_torrent_is_refused_by_name() -> None:
    info: Dict = {b"file tree": {}, b"meta version": 2, b"name": b"x", b"piece length": 16384}
    with pytest.raises(MetainfoError, match="v2-only"):
        read(info)


TRAVERSALS = [b"..", b".", b"", b"/", b"/etc", b"a/b", b"a\\b", b"C:", b"a\0b", b"../x", b"\0"]


@pytest.mark.parametrize("name", TRAVERSALS)
def test_paths_that_lead_out_stay_inside_wherever_they_stand(name: bytes) -> None:
    infos = [
        single(name=name),
        multi(name=name),
        single() | {b"name.utf-8": name},
        multi([entry(5, name)]),
        multi([entry(5, b"a"), entry(5, b"sub", name, b"x")]),
        multi([{**entry(5, b"fine"), b"path.utf-8": [name]}]),
        multi([entry(5, b"a"), entry(5, b"sub", name, attr=b"p")]),
    ]
    for info in infos:
        assert_safe(read(info))
        if b"/" in name or b"\0" in name or name in {b"", b".", b".."}:
            with pytest.raises(MetainfoError):
                from_info(encode(info), as_written=True)


def assert_safe(meta: Metainfo) -> None:
    """Each file lies in the folder, and in a place of its own on any file system."""
    for parts in [(meta.name,), *paths(meta)]:
        for part in parts:
            assert part not in {"", ".", ".."}
            assert not set(part) & set('/\\\0<>:"|?*')
            assert not any(unicodedata.category(c) in {"Cc", "Cf", "Cs"} for c in part)
            assert len(part.encode()) <= 255
            assert not part.endswith((".", " "))
            assert not re.match(r"(con|prn|aux|nul|com\d|lpt\d) *(\.|$)", part, re.IGNORECASE)
        assert Path("root", *parts).resolve().is_relative_to(Path("root").resolve())
    real = ["/".join(file.path) for file in meta.files if not file.pad]
    folded = [unicodedata.normalize("NFC", path.casefold()) for path in real]
    assert len(set(folded)) == len(folded)
    folders = {path.rsplit("/", n)[0] for path in folded for n in range(1, path.count("/") + 1)}
    assert not folders & set(folded)


HOSTILE = st.one_of(
    st.sampled_from(
        [*TRAVERSALS, b"con", b"NUL.txt", b"com1 .x", b"C:\\x", b"...", b" ", b"a.", b"a "]
    ),
    st.sampled_from(["é", "e\u0301", "É", "ß", "SS", "a\u202eb", "\u200b", "\ufeff."]).map(
        str.encode
    ),
    st.sampled_from([b"a", b"A", b"a\0", b"\xff", b"\xfe", b"a" * 240, b"a" * 300 + b".txt"]),
    st.text(max_size=6).map(lambda text: text.encode("utf-8", "replace")),
    st.binary(max_size=6),
)


@given(HOSTILE, st.lists(st.lists(HOSTILE, min_size=1, max_size=3), min_size=1, max_size=8))
@settings(max_examples=examples(300))
def test_hostile_names_never_escape_nor_meet(name: bytes, files: list[list[bytes]]) -> None:
    info = multi([entry(5, *path) for path in files], name=name)
    meta = read(info)
    assert_safe(meta)
    assert meta == read(info)
    assert meta.info == encode(info)
    assert [len(path) for path in paths(meta)] == [len(path) for path in files]
    theirs = lt.torrent_info(encode({b"info": info}))
    assert theirs.info_hashes().v1.to_bytes() == meta.info_hash
    sizes = [theirs.layout().file_size(i) for i in range(theirs.layout().num_files())]
    assert sizes == [file.length for file in meta.files]


def top(info: bytes, before: bytes = b"", after: bytes = b"") -> bytes:
    return b"d" + before + b"4:info" + info + after + b"e"


def one_file(extra: bytes = b"", length: bytes = b"i5e", name: bytes = b"1:x") -> bytes:
    return (
        b"d" + extra + b"6:length" + length + b"4:name" + name
        + b"12:piece lengthi16384e6:pieces20:" + bytes(20) + b"e"
    )  # fmt: skip


LENIENT = {
    "a newline after the dict": top(one_file()) + b"\n",
    "a NUL after the dict": top(one_file()) + b"\0",
    "anything after the dict": top(one_file()) + b"i1e<html>" * 50,
    "a key twice at the top": top(one_file(), b"7:comment1:a7:comment1:b"),
    "info twice": top(one_file(), after=b"4:info" + one_file(name=b"1:y")),
    "a key twice in info": top(one_file(b"1:xi1e1:xi2e")),
    "name twice in info": top(one_file(name=b"1:x4:name1:y")),
    "unsorted keys": top(one_file(), b"1:zi1e1:ai2e"),
    "leading zeros in a date": top(one_file(), b"13:creation datei01700000000e"),
    "leading zeros in a length": top(one_file(length=b"i0005e")),
    "leading zeros in the length of a string": top(one_file(name=b"001:x")),
    "minus zero": top(one_file(), b"13:creation datei-0e"),
    "an integer beyond 64 bits at the top": top(one_file(), b"1:ai" + b"9" * 20 + b"e"),
    "an integer beyond 64 bits in info": top(one_file(b"1:ai-" + b"9" * 20 + b"e")),
    "a date in nanoseconds": top(one_file(), b"13:creation datei1460000000000000000e"),
    "both length and files": encode({b"info": multi() | {b"length": 5}}),
    "a piece length of one": encode({b"info": single(piece_length=1, pieces=bytes(20 * 40_000))}),
    "a piece length of 1000": encode({b"info": single(piece_length=1000, pieces=bytes(20 * 40))}),
    "a piece length of 20001": encode({b"info": single(piece_length=20_001, pieces=bytes(40))}),
    "a piece length of 256 MiB": encode({b"info": single(piece_length=1 << 28, pieces=bytes(20))}),
}


@pytest.mark.parametrize("raw", LENIENT.values(), ids=LENIENT.keys())
def test_what_libtorrent_opens_is_read_as_libtorrent_reads_it(raw: bytes) -> None:
    theirs = lt.torrent_info(raw)
    meta = parse_torrent(raw)
    assert meta.info_hash == theirs.info_hashes().v1.to_bytes()
    assert meta.name == theirs.name()
    assert (meta.comment or "") == theirs.comment()
    assert meta.geometry.piece_length == theirs.piece_length()
    sizes = [theirs.layout().file_size(i) for i in range(theirs.layout().num_files())]
    assert sizes == [file.length for file in meta.files]
    assert from_info(meta.info, info_hash=meta.info_hash).files == meta.files
    again = parse_torrent(meta.to_torrent())
    assert (again.info, again.info_hash) == (meta.info, meta.info_hash)


@pytest.mark.parametrize("digits", [b"9" * 30, b"9" * 5000, b"-" + b"9" * 5000, b"0" * 5000 + b"7"])
def test_integers_of_any_length_are_read_where_they_are_not_needed(digits: bytes) -> None:
    number = b"i" + digits + b"e"
    meta = parse_torrent(top(one_file(b"1:a" + number), b"13:creation date" + number))
    assert meta.creation_date == (7 if digits.endswith(b"7") else None)
    if not digits.endswith(b"7"):
        with pytest.raises(MetainfoError):
            parse_torrent(top(one_file(length=number)))


@pytest.mark.parametrize("date", [-1, 253_402_300_800, 2**63 - 1, -(2**63)])
def test_dates_outside_the_calendar_are_left_out(date: int) -> None:
    meta = parse_torrent(encode({b"creation date": date, b"info": single()}))
    assert meta.creation_date is None


@pytest.mark.parametrize("wrong", [1, [], {}, [b"x"], [1], [b"x", 1], {b"x": b"y"}])
def test_utf_8_keys_of_a_wrong_type_are_ignored(wrong: Value) -> None:
    assert read(single() | {b"name.utf-8": wrong}).name == "movie.mkv"
    if wrong != [b"x"]:
        assert paths(read(multi([{**entry(5, b"a"), b"path.utf-8": wrong}]))) == [("a",)]
    raw = encode({b"comment": b"c", b"comment.utf-8": wrong, b"info": single()})
    assert parse_torrent(raw).comment == "c"


def test_awkward_names_are_replaced_on_disk_and_kept_in_the_info_dict() -> None:
    files = [entry(1, b"con", b"a."), entry(1, b"x"), entry(1, b"X"), entry(1, b"x", b"y")]
    meta = read(multi(files, name="a\u202eb".encode()))
    assert meta.name == "ab"
    assert paths(meta) == [("_con", "a_"), ("x",), ("X .1",), ("x .2", "y")]
    assert meta.info == encode(multi(files, name="a\u202eb".encode()))


def test_files_that_are_here_already_keep_their_names() -> None:
    files = [entry(1, b"con", b"a."), entry(1, b"x"), entry(1, b"X")]
    meta = from_info(encode(multi(files, name=b"What?")), as_written=True)
    assert meta.name == "What?"
    assert paths(meta) == [("con", "a."), ("x",), ("X",)]


LIES: list[Value] = [
    [],
    b"info",
    1,
    {},
    single(name=None),
    single(name=1),
    single(length=None),
    single(length=-1),
    single(length=0, pieces=b""),
    single(length=b"1"),
    single(length=2**53 + 1),
    single(length=2**63 - 1),
    single(piece_length=None),
    single(piece_length=b"16384"),
    single(piece_length=0),
    single(piece_length=-16384),
    single(piece_length=(1 << 30) + 1, pieces=bytes(20)),
    single(piece_length=2**31, pieces=bytes(20)),
    single(piece_length=2**62, pieces=bytes(20)),
    single(pieces=None),
    single(pieces=[]),
    single(pieces=b""),
    single(pieces=bytes(59)),
    single(pieces=bytes(61)),
    single(pieces=bytes(40)),
    single(pieces=bytes(80)),
    multi([]),
    multi([entry(0, b"a")]),
    multi() | {b"files": 1},
    multi([b"a"], pieces=bytes(20)),
    multi([{b"length": 5}]),
    multi([{b"path": [b"a"]}]),
    multi([entry(5)]),
    multi([{b"length": 5, b"path": b"a"}]),
    multi([{b"length": 5, b"path": [1]}]),
    multi([{b"length": 5, b"path": [[b"a"]]}]),
    multi([entry(5, b"a")]) | {b"files": [{b"length": b"5", b"path": [b"a"]}]},
    multi([entry(-5, b"a"), entry(10, b"b")]),
    multi([entry(2**53, b"a"), entry(1, b"b")], pieces=bytes(20)),
    multi([entry(5, *[b"a"] * 101)]),
    multi([entry(5, *[b"a" * 200] * 30)]),
]


@pytest.mark.parametrize("info", LIES)
def test_lies_are_refused_in_one_line(info: Value) -> None:
    with pytest.raises(MetainfoError) as caught:
        read(info)
    assert "\n" not in str(caught.value)


def test_the_bounds_themselves_are_allowed() -> None:
    assert read(single(length=40, piece_length=1, pieces=bytes(20 * 40))).geometry.piece_count == 40
    assert read(single(piece_length=1 << 30, pieces=bytes(20))).geometry.piece_count == 1
    assert read(single(piece_length=20_001, pieces=bytes(40))).geometry.piece_count == 2


def test_the_number_of_pieces_is_bounded() -> None:
    with pytest.raises(MetainfoError, match="pieces"):
        read(single(length=(0x200000 + 1) * 1024, piece_length=1024, pieces=bytes(20)))


def test_a_hundred_thousand_files_are_read_in_time_and_one_more_is_refused() -> None:
    def info(count: int) -> bytes:
        one = b"d6:lengthi1e4:pathl3:%03d6:%06dee"
        files = b"".join(one % (i % 300, i) for i in range(count))
        tail = b"e4:name1:x12:piece lengthi65536e6:pieces40:" + bytes(40) + b"e"
        return b"d5:filesl" + files + tail

    started = time.process_time()
    assert len(from_info(info(100_000)).files) == 100_000
    assert time.process_time() - started < 10
    with pytest.raises(MetainfoError, match="files"):
        from_info(info(100_001))


@pytest.mark.parametrize(
    "raw", [b"", b"x", b"le", b"d4:infoi1ee", b"de", b"i1e", b"d4:infod", b"l" * 100_000, b"<html>"]
)
def test_what_is_not_a_torrent_is_refused(raw: bytes) -> None:
    for reader in (parse_torrent, from_info):
        with pytest.raises(MetainfoError):
            reader(raw)


def test_a_torrent_file_is_bounded() -> None:
    with pytest.raises(MetainfoError, match="31 MiB"):
        parse_torrent(bytes(MAX_TORRENT + 1))
    with pytest.raises(MetainfoError, match="31457280"):
        parse_torrent(encode({b"info": single() | {b"z": bytes(MAX_INFO)}}))


def test_an_info_dict_that_was_not_asked_for_is_refused() -> None:
    with pytest.raises(MetainfoError, match="does not match"):
        from_info(encode(single()), info_hash=InfoHash(bytes(20)))


VALUES: st.SearchStrategy[Value] = st.recursive(
    st.binary(max_size=8) | st.integers(-5, 50_000),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.binary(max_size=6), inner),
    max_leaves=6,
)
KEYS = st.sampled_from(
    [b"name", b"piece length", b"pieces", b"length", b"files", b"attr", b"name.utf-8", b"private"]
)


@given(st.booleans(), st.dictionaries(KEYS, VALUES, max_size=3))
@settings(max_examples=examples(150))
def test_any_change_to_an_info_dict_is_accepted_or_refused(
    folder: bool, changes: dict[bytes, Value]
) -> None:
    try:
        meta = read((multi() if folder else single()) | changes)
    except MetainfoError:
        return
    assert len(meta.pieces) == 20 * meta.geometry.piece_count
    assert parse_torrent(meta.to_torrent()) == meta


@given(st.integers(0, len(encode({b"info": multi()})) - 1), st.integers(0, 255))
def test_one_byte_changed_is_accepted_or_refused(at: int, byte: int) -> None:
    raw = bytearray(encode({b"info": multi()}))
    raw[at] = byte
    try:
        meta = parse_torrent(bytes(raw))
    except MetainfoError:
        return
    assert meta.info in raw


@pytest.mark.parametrize(
    ("total", "length"),
    [
        (1, 256 << 10),
        (500 << 20, 256 << 10),
        (501 << 20, 512 << 10),
        (1 << 30, 1 << 20),
        (10 << 30, 8 << 20),
        (100 << 30, 16 << 20),
        (MAX_TOTAL, 16 << 20),
    ],
)
def test_piece_lengths_grow_with_the_content(total: int, length: int) -> None:
    assert choose_piece_length(total) == length


@given(st.integers(500 << 20, 32_000 << 20))
def test_content_of_ordinary_size_has_one_to_two_thousand_pieces(total: int) -> None:
    assert 1000 <= -(-total // choose_piece_length(total)) <= 2000


def test_what_is_made_reads_back_the_same(tmp_path: Path) -> None:
    (tmp_path / "What?.txt").write_bytes(b"x" * 40_000)
    meta = make(
        tmp_path / "What?.txt",
        piece_length=PIECE,
        private=True,
        nodes=[HostPort("127.0.0.1", 5)],
        comment="hello",
        created_by="me",
        creation_date=7,
    )
    assert meta.name == "What?.txt"
    assert paths(meta) == [("What?.txt",)]
    assert meta.pieces[:20] == hashlib.sha1(b"x" * PIECE).digest()
    assert from_info(meta.info, as_written=True).geometry == meta.geometry
    again = parse_torrent(meta.to_torrent())
    assert again.name == "What_.txt"
    assert again.info_hash == meta.info_hash
    assert (again.private, again.comment, again.created_by) == (True, "hello", "me")
    assert (again.creation_date, again.nodes) == (7, meta.nodes)


def test_libtorrent_reads_what_is_made(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x" * 40_000)
    meta = make(tmp_path / "x", comment="ü")
    theirs = lt.torrent_info(meta.to_torrent())
    assert theirs.info_hashes().v1.to_bytes() == meta.info_hash
    assert theirs.comment() == "ü"


@pytest.mark.parametrize("length", [0, -1, 1023, (64 << 20) + 1])
def test_a_piece_length_no_client_would_accept_is_not_made(tmp_path: Path, length: int) -> None:
    (tmp_path / "x").write_bytes(b"x")
    with pytest.raises(MetainfoError, match="piece length"):
        make(tmp_path / "x", piece_length=length)


# -- hints of files in common (BEP 38) ----------------------------------------------------------


def test_hints_are_read_inside_and_outside_the_info_dict_and_written_back() -> None:
    one, other = bytes([1]) * 20, bytes([2]) * 20
    info = single(similar=[one, b"short", 7], collections=[b"set", b"", b"x" * 256, 7])
    top: Dict = {
        b"collections": [b"set", "m\u00fcnchen".encode()],
        b"info": info,
        b"similar": [other, one],
    }
    meta = parse_torrent(encode(top))
    assert meta.similar == (one, other)
    assert meta.collections == ("set", "m\u00fcnchen")
    assert meta.to_torrent() == encode(top)
    assert from_info(encode(info)).similar == (one,)


@pytest.mark.parametrize("odd", [b"", 7, {b"a": b"b"}, [[b"x"]], [{}]])
def test_hints_that_are_no_hints_are_passed_over(odd: Value) -> None:
    meta = read(single(similar=odd, collections=odd))
    assert (meta.similar, meta.collections) == ((), ())


def test_hints_beyond_a_hundred_are_passed_over() -> None:
    hashes = [number.to_bytes(20, "big") for number in range(101)]
    meta = read(single(similar=hashes, collections=[b"%d" % n for n in range(101)]))
    assert meta.similar == tuple(hashes[:100])
    assert meta.collections == tuple(map(str, range(100)))


def test_any_of_two_torrents_may_say_that_they_share_files() -> None:
    plain = read(single())
    naming = read(single(similar=[plain.info_hash]))
    assert naming.may_share_files(plain)
    assert plain.may_share_files(naming)
    assert not plain.may_share_files(plain)
    in_set = read(single(collections=[b"a", b"b"]))
    assert in_set.may_share_files(read(single(collections=[b"b", b"c"])))
    assert not in_set.may_share_files(read(single(collections=[b"c"])))


def test_hints_are_made_as_libtorrent_makes_them(tmp_path: Path) -> None:
    file = tmp_path / "content"
    file.write_bytes(bytes(40_000))
    theirs = lt.create_torrent(lt.list_files(str(file)), PIECE, lt.create_torrent.v1_only)
    theirs.add_similar_torrent(lt.sha1_hash(b"s" * 20))
    theirs.add_collection("set one")
    lt.set_piece_hashes(theirs, str(tmp_path))
    hints = LocalHints((InfoHash(b"s" * 20),), ("set one",))
    ours = make(file, piece_length=PIECE, hints=hints)
    assert ours.info == encode(theirs.generate()[b"info"])
    read_back = lt.load_torrent_buffer(ours.to_torrent()).ti
    assert read_back is not None
    assert [one.to_bytes() for one in read_back.similar_torrents()] == [b"s" * 20]
    assert read_back.collections() == ["set one"]


@pytest.mark.parametrize(
    "hints",
    [
        LocalHints(collections=("",)),
        LocalHints(collections=("x" * 256,)),
        LocalHints(collections=("\ud800",)),
        LocalHints(collections=tuple(map(str, range(101)))),
        LocalHints((InfoHash(b"s" * 20),) * 101),
    ],
)
def test_hints_that_nobody_would_read_are_not_made(tmp_path: Path, hints: LocalHints) -> None:
    file = tmp_path / "content"
    file.write_bytes(bytes(40_000))
    with pytest.raises(MetainfoError):
        make(file, hints=hints)
