from __future__ import annotations

import hashlib
import os
import random
import socket
from pathlib import Path

import libtorrent as lt
import pytest

from dht_torrent import bencode
from dht_torrent.bounds import MAX_MADE_PIECE, MIN_MADE_PIECE
from dht_torrent.errors import InputError
from dht_torrent.metainfo import Magnet, Metainfo, from_info, parse_torrent
from dht_torrent.storage.making import choose_piece_length, make

PIECE = 16 * 1024
NESTED = {
    "Zed": 10,
    "alpha": 50_000,
    "Alpha": 3,
    "sub/x": 5,
    "sub/B/y": 0,
    "sub/a.txt": 70_000,
    "Sub2/q": 1,
    "a/1": 33_000,
    "a/é": 2,
    "a.b": 16_384,
    "a-c": 2,
    "a": None,
    ".hidden": 4,
    "trailing ": 1,
    "con.txt": 4,
    "empty": 0,
}


def plant(root: Path, files: dict[str, int | None], rng: random.Random) -> Path:
    for name, size in files.items():
        if size is not None:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(rng.randbytes(size))
    return root


def libtorrents_infohash(root: Path, *, private: bool = False, piece_length: int = PIECE) -> bytes:
    """Of its v1 torrent, given the files in the order of its own canonical layout."""
    files = sorted(lt.list_files(str(root)), key=lambda entry: entry.filename.encode())
    maker = lt.create_torrent(files, piece_length, lt.create_torrent.v1_only)
    maker.set_priv(private)
    lt.set_piece_hashes(maker, str(root.parent))
    infohash: bytes = lt.torrent_info(maker.generate()).info_hashes().v1.to_bytes()
    return infohash


def names(meta: Metainfo) -> list[str]:
    return ["/".join(item.path) for item in meta.files]


@pytest.mark.parametrize("private", [False, True])
def test_a_folder_has_libtorrents_infohash(tmp_path: Path, private: bool) -> None:
    root = plant(tmp_path / "Root", NESTED, random.Random(1))
    (root / "Zed").chmod(0o755)
    (root / "alpha").chmod(0o674)  # executable for the group alone does not count
    meta = make(root, piece_length=PIECE, private=private)
    assert meta.info_hash == libtorrents_infohash(root, private=private)
    assert {f.path[0] for f in meta.files if f.attributes == "x"} == {"Zed"}


def test_the_order_is_libtorrents_canonical_one(tmp_path: Path) -> None:
    root = plant(tmp_path / "Root", NESTED, random.Random(1))
    hybrid = lt.create_torrent(lt.list_files(str(root)), PIECE)
    lt.set_piece_hashes(hybrid, str(tmp_path))
    raw = bencode.encode(hybrid.generate())
    theirs = from_info(bencode.raw_slice(raw, b"info"), as_written=True)
    real = [item.path for item in theirs.files if not item.pad]
    assert [item.path for item in make(root).files] == real


@pytest.mark.parametrize("size", [1, PIECE - 1, PIECE, PIECE + 1, 200_000, 3_000_000])
@pytest.mark.parametrize("mode", [0o644, 0o755])
def test_a_single_file_has_libtorrents_infohash(tmp_path: Path, size: int, mode: int) -> None:
    path = tmp_path / "single.bin"
    path.write_bytes(random.Random(size).randbytes(size))
    path.chmod(mode)
    assert make(path, piece_length=PIECE).info_hash == libtorrents_infohash(path)


def test_pieces_longer_than_the_read_buffer(tmp_path: Path) -> None:
    path = tmp_path / "big"
    data = random.Random(2).randbytes(5_000_000)
    path.write_bytes(data)
    meta = make(path, piece_length=4 << 20)
    assert meta.pieces == b"".join(
        hashlib.sha1(data[i : i + (4 << 20)]).digest() for i in (0, 4 << 20)
    )


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_the_number_of_threads_changes_nothing(tmp_path: Path, threads: int) -> None:
    root = plant(tmp_path / "r", NESTED | {"big": 6_000_000}, random.Random(3))
    assert make(root, piece_length=1024, threads=threads) == make(root, piece_length=1024)


def test_progress_rises_to_the_whole(tmp_path: Path) -> None:
    root = plant(tmp_path / "r", {"a": 5_000_000, "b": 7_000_001}, random.Random(4))
    seen: list[tuple[int, int]] = []
    make(root, piece_length=PIECE, progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert len(seen) > 1
    assert seen[-1] == (12_000_001, 12_000_001)


@pytest.mark.parametrize("threads", [1, 2])
def test_it_can_be_cancelled(tmp_path: Path, threads: int) -> None:
    root = plant(tmp_path / "r", {"a": 12_000_000}, random.Random(4))
    done: list[int] = []
    with pytest.raises(InputError, match="cancelled"):
        make(
            root,
            piece_length=PIECE,
            threads=threads,
            progress=lambda so_far, _: done.append(so_far),
            cancelled=lambda: bool(done),
        )
    assert done[-1] < 12_000_000


@pytest.mark.parametrize("change", ["shorter", "longer", "gone", "touched"])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, change: str) -> None:
    root = plant(tmp_path / "r", {"a": 6_000_000, "z": 6_000_000}, random.Random(5))
    victim = root / "z"

    def meddle(done: int, total: int) -> None:
        match change:
            case "shorter":
                os.truncate(victim, 1000)
            case "longer":
                os.truncate(victim, 7_000_000)
            case "gone":
                victim.unlink(missing_ok=True)
            case "touched":
                os.utime(victim, ns=(1, 1))

    with pytest.raises(InputError, match="/z "):
        make(root, piece_length=PIECE, threads=1, progress=meddle)


def test_nothing_to_share_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    for path in (tmp_path / "empty", tmp_path / "folder"):
        with pytest.raises(InputError, match="no data"):
            make(path)
    with pytest.raises(InputError, match=r"nothing cannot be read: No such file"):
        make(tmp_path / "nothing")


def test_a_link_to_a_file_inside_is_shared_as_that_file(tmp_path: Path) -> None:
    root = plant(tmp_path / "r", {"sub/a": 10}, random.Random(6))
    (root / "link").symlink_to("sub/a")
    meta = make(root)
    assert [(item.path, item.length, item.pad) for item in meta.files] == [
        (("link",), 10, False),
        (("sub", "a"), 10, False),
    ]


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("../outside", "outside the folder"),
        ("../r2/x", "outside the folder"),
        ("sub", "link to a folder"),
        ("..", "outside the folder"),
        ("nowhere", "No such file"),
        ("link", "leads to itself|Too many levels"),
    ],
)
def test_other_links_are_refused(tmp_path: Path, target: str, says: str) -> None:
    plant(tmp_path, {"outside": 5, "r2/x": 5, "r/sub/a": 10}, random.Random(6))
    (tmp_path / "r" / "link").symlink_to(target)
    with pytest.raises(InputError, match=says) as caught:
        make(tmp_path / "r")
    assert "link" in str(caught.value)


def test_a_shared_path_that_is_itself_a_link_is_followed(tmp_path: Path) -> None:
    plant(tmp_path, {"r/sub/a": 10}, random.Random(6))
    (tmp_path / "alias").symlink_to("r")
    meta = make(tmp_path / "alias")
    assert (meta.name, names(meta)) == ("alias", ["sub/a"])


def test_pipes_and_sockets_are_refused_without_opening_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = plant(tmp_path / "r", {"a": 10}, random.Random(6))
    os.mkfifo(root / "pipe")
    with pytest.raises(InputError, match="pipe is not a regular file"):
        make(root)
    (root / "pipe").unlink()
    monkeypatch.chdir(root)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("door")
        with pytest.raises(InputError, match="door is not a regular file"):
            make(root)
        with pytest.raises(InputError, match="door is not a regular file"):
            make(root / "door")


@pytest.mark.parametrize("name", [b"caf\xe9", b"\xff", b"left\\right", b"C:", b"con", b"a\nb"])
def test_any_name_a_file_can_have_is_shared_as_it_is(tmp_path: Path, name: bytes) -> None:
    file = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    file.write_bytes(b"x")
    alone = make(file)
    assert os.fsencode(alone.name) == name
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/folder " + name))
    root.mkdir()
    (root / file.name).write_bytes(b"x")
    folder = make(root)
    assert [os.fsencode(part) for item in folder.files for part in item.path] == [name]
    for made in (alone, folder):
        assert made.info in made.to_torrent()
        again = from_info(made.info, as_written=True)  # from our own record
        assert (again.name, again.files) == (made.name, made.files)
        read = parse_torrent(made.to_torrent())  # by others
        assert read.info_hash == made.info_hash
        assert Magnet.parse(str(made.magnet())).info_hash == made.info_hash


def test_what_would_be_refused_is_found_before_hashing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hash_nothing(*args: object, **kwargs: object) -> bytes:
        raise AssertionError("hashing began")

    monkeypatch.setattr("dht_torrent.storage.making.hash_pieces", hash_nothing)
    deep = tmp_path / "deep"
    (deep / Path(*["d"] * 101)).mkdir(parents=True)
    (deep / Path(*["d"] * 101) / "x").write_bytes(b"x")
    with pytest.raises(InputError, match="components"):
        make(deep)
    many = plant(tmp_path / "many", {str(i): 1 for i in range(20)}, random.Random(6))
    monkeypatch.setattr("dht_torrent.metainfo.MAX_INFO", 500)
    with pytest.raises(InputError, match=r"20 files.*share fewer files"):
        make(many)
    large = plant(tmp_path, {"large": 100_000}, random.Random(6)) / "large"
    with pytest.raises(InputError, match=r"98 pieces.*share longer pieces"):
        make(large, piece_length=1024)
    monkeypatch.setattr("dht_torrent.metainfo.MAX_FILES", 19)
    with pytest.raises(InputError, match="files"):
        make(many)


def test_a_file_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = plant(tmp_path / "r", {"a": 10, "secret": 10}, random.Random(6))
    # The superuser may read everything, so the system's answer is given in its place.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "secret")
    with pytest.raises(InputError, match="secret cannot be read"):
        make(root)


def test_the_current_folder_can_be_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = plant(tmp_path / "here" / "sub", {"a": 10}, random.Random(6)).parent
    monkeypatch.chdir(root / "sub")
    assert make(Path()).name == "sub"
    assert make(Path("..")).name == "here"


@pytest.mark.parametrize(
    ("total", "length"),
    [
        (1, 256 * 1024),
        (2000 * 256 * 1024, 256 * 1024),
        (2000 * 256 * 1024 + 1, 512 * 1024),
        (2000 * 8 * 1024 * 1024 + 1, 16 * 1024 * 1024),
        (10**15, 16 * 1024 * 1024),
    ],
)
def test_content_is_cut_into_two_thousand_pieces_at_most_while_they_are_short_enough(
    total: int, length: int
) -> None:
    assert choose_piece_length(total) == length


@pytest.mark.parametrize("length", [MIN_MADE_PIECE // 2, MAX_MADE_PIECE * 2])
def test_a_piece_length_out_of_bounds_is_refused_and_the_bounds_are_not(
    tmp_path: Path, length: int
) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100)
    with pytest.raises(InputError, match="the piece length must be"):
        make(tmp_path / "file", piece_length=length)
    for bound in (MIN_MADE_PIECE, MAX_MADE_PIECE):
        assert make(tmp_path / "file", piece_length=bound).geometry.piece_length == bound


def test_a_root_certificate_goes_into_the_info_dict(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100)
    plain, secured = make(tmp_path / "file"), make(tmp_path / "file", ssl_cert=b"PEM")
    assert b"8:ssl-cert3:PEM" in secured.info
    assert b"ssl-cert" not in plain.info
