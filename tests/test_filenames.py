from __future__ import annotations

import os
import re
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.errors import MetainfoError
from dht_torrent.filenames import check_path, printable, sanitise, sanitise_path, unique

RAW = st.binary(max_size=300) | st.text(max_size=100).map(
    lambda text: text.encode("utf-8", "replace")
)
AWKWARD = st.text(st.sampled_from("aA.é\u0301 \u202econ:/\\\0_-1"), max_size=6).map(str.encode)


@given(RAW | AWKWARD)
def test_any_name_becomes_one_safe_component(raw: bytes) -> None:
    name = sanitise(raw)
    assert name not in {"", ".", ".."}
    assert not set(name) & set('/\\\0<>:"|?*')
    assert all(unicodedata.category(c) not in {"Cc", "Cs"} for c in name)
    assert len(name.encode()) <= 240
    assert not name.endswith((".", " "))
    assert sanitise(name.encode()) == name
    assert Path("root", name).parts == ("root", name)


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b"", "_"),
        (b".", "_"),
        (b"..", "__"),
        (b"/", "_"),
        (b"\\", "_"),
        (b"/etc/passwd", "_etc_passwd"),
        (b"a/b", "a_b"),
        (b"a\\b", "a_b"),
        (b"../x", ".._x"),
        (b"..\\x", ".._x"),
        (b"x/..", "x___"),
        (b"\\\\server\\share", "__server_share"),
        (b"C:\\x", "C__x"),
        (b"C:/x", "C__x"),
        (b"c:", "c_"),
        (b"a\0", "a"),
        (b"\0", "_"),
        (b"a\0/../b", "a_.._b"),
        (b".\0.", "__"),
        (b".\xe2\x80\x8b./", ".._"),
    ],
)
def test_what_leads_out_leads_nowhere(raw: bytes, name: str) -> None:
    assert sanitise(raw) == name
    assert sanitise_path([b"fine", raw, b"fine"]) == ("fine", name, "fine")


@pytest.mark.parametrize("raw", [b"", b".", b"..", b"/", b"a/b", b"/etc", b"a\0", b"\0"])
def test_files_here_cannot_have_such_names(raw: bytes) -> None:
    with pytest.raises(MetainfoError):
        check_path([b"fine", raw])


@given(RAW | AWKWARD)
def test_files_here_keep_any_name_that_a_file_can_have(raw: bytes) -> None:
    raw = raw.replace(b"/", b"").replace(b"\0", b"").strip(b".") or b"x"
    assert os.fsencode(check_path([raw])[0]) == raw


RESERVED = ["con", "prn", "aux", "nul", *(f"{p}{n}" for p in ("com", "lpt") for n in range(1, 10))]


@pytest.mark.parametrize("name", RESERVED)
@pytest.mark.parametrize("tail", ["", ".txt", ".tar.gz", " .txt"])
def test_device_names_are_replaced(name: str, tail: str) -> None:
    assert sanitise((name + tail).encode()) == "_" + name + tail
    assert sanitise((name + tail).upper().encode()) == "_" + (name + tail).upper()


@pytest.mark.parametrize("name", ["console", "com", "com10", "icon.txt", "nullable", "a.con", "lp"])
def test_names_that_only_resemble_devices_are_left_alone(name: str) -> None:
    assert sanitise(name.encode()) == name


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("a.", "a_"),
        ("a ", "a_"),
        ("a. .", "a___"),
        ("...", "___"),
        (" a", " a"),
        (".hidden", ".hidden"),
        ("a:b", "a_b"),
        ('<>:"|?*', "_______"),
        ("photo\u202egpj.exe", "photogpj.exe"),
        ("a\u200bb\ufeffc\u2066d\u061ce", "abcde"),
        ("a\tb\nc\x7fd\x9be", "abcde"),
        ("\u200b", "_"),
        (".\u200b.", "__"),
        ("co\u200bn", "_con"),
        ("日本語.txt", "日本語.txt"),
        ("e\u0301", "e\u0301"),
    ],
)
def test_what_is_awkward_is_replaced(raw: str, name: str) -> None:
    assert sanitise(raw.encode()) == name


def test_bytes_that_are_not_utf_8_become_visible() -> None:
    assert sanitise(b"caf\xe9.txt") == "caf\ufffd.txt"
    assert sanitise(b"\xff") == "\ufffd"


@pytest.mark.parametrize("size", [241, 255, 256, 1000])
@pytest.mark.parametrize("letter", ["a", "é", "日", "🙂"])
def test_a_long_name_is_cut_between_characters_and_keeps_its_extension(
    size: int, letter: str
) -> None:
    name = sanitise((letter * size + ".torrent").encode())
    assert name == letter * ((240 - 8) // len(letter.encode())) + ".torrent"
    assert len(sanitise((letter * size).encode()).encode()) in range(237, 241)


@pytest.mark.parametrize("raw", [b"a" * 240, b"a" * 241, b"a b.c", b"a.b ", b".a", b"-", b"1.2)"])
def test_plain_names_take_a_shortcut_to_the_same_result(
    raw: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = sanitise(raw)
    monkeypatch.setattr("dht_torrent.filenames._plain", re.compile(b"(?!)"))
    assert sanitise(raw) == quick


def test_a_long_suffix_is_not_an_extension() -> None:
    assert sanitise(("a." + "b" * 300).encode()) == "a." + "b" * 238


def test_depth_and_length_of_paths_are_bounded() -> None:
    assert len(sanitise_path([b"a"] * 100)) == 100
    assert len(sanitise_path([b"a" * 200] * 20)) == 20
    for components in ([], [b"a"] * 101, [b"a" * 200] * 21):
        with pytest.raises(MetainfoError):
            sanitise_path(components)


def test_files_here_keep_their_awkward_names() -> None:
    assert check_path([b"con", b"What?: a story. "]) == ("con", "What?: a story. ")


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ([("a",), ("a",), ("a",)], [("a",), ("a .1",), ("a .2",)]),
        ([("a.txt",), ("A.TXT",)], [("a.txt",), ("A .1.TXT",)]),
        ([("é",), ("e\u0301",), ("É",)], [("é",), ("e\u0301 .1",), ("É .2",)]),
        ([("ß",), ("SS",)], [("ß",), ("SS .1",)]),
        ([("A", "x"), ("a", "y"), ("a", "X")], [("A", "x"), ("A", "y"), ("A", "X .1")]),
        ([("x",), ("x", "y"), ("X", "z")], [("x",), ("x .1", "y"), ("x .1", "z")]),
        ([("x", "y"), ("x",)], [("x", "y"), ("x .1",)]),
        ([("x",), ("x .1",), ("x",)], [("x",), ("x .1",), ("x .2",)]),
        ([("x",), ("x", "y"), ("x .1", "y")], [("x",), ("x .1", "y"), ("x  .1.1", "y")]),
        ([("d", "a"), ("e", "a")], [("d", "a"), ("e", "a")]),
    ],
)
def test_a_name_that_is_taken_gets_a_number(
    paths: list[tuple[str, ...]], expected: list[tuple[str, ...]]
) -> None:
    assert list(unique(paths)) == expected


PARTS = st.sampled_from(["a", "A", "a .1", "é", "e\u0301", "b.c", "B.c", "b .1.c"])


@given(st.lists(st.lists(PARTS, min_size=1, max_size=3).map(tuple), max_size=25))
def test_no_two_files_share_a_place_on_any_file_system(paths: list[tuple[str, ...]]) -> None:
    def fold(path: tuple[str, ...]) -> str:
        return unicodedata.normalize("NFC", "/".join(path)).casefold()

    final = list(unique(paths))
    assert len(final) == len(paths)
    assert [len(path) for path in final] == [len(path) for path in paths]
    files = [fold(path) for path in final]
    assert len(set(files)) == len(files)
    folders = {fold(path[:depth]) for path in final for depth in range(1, len(path))}
    assert not folders & set(files)


def test_renaming_is_bounded_and_a_numbered_name_still_fits() -> None:
    long = "a" * 240
    final = list(unique([(long,)] * 501))
    assert len(set(final)) == 501
    assert max(len(path[0].encode()) for path in final) == 240
    with pytest.raises(MetainfoError):
        list(unique([(long,)] * 502))


def test_folders_are_bounded() -> None:
    with pytest.raises(MetainfoError):
        list(unique((*(f"{i}.{j}" for j in range(99)), "x") for i in range(1100)))


@given(st.text(max_size=400))
def test_printable_text_is_one_line_of_plain_text(text: str) -> None:
    shown = printable(text)
    assert len(shown) <= 255
    assert len(shown.splitlines()) <= 1
    assert shown.encode().decode() == shown
    assert printable(shown) == shown


def test_every_sanitised_name_can_be_a_file(tmp_path: Path) -> None:
    raws = [bytes([c]) * 3 for c in range(256) if bytes([c]) not in b"\0/\\."]
    names = {sanitise(raw) for raw in raws}
    for path in unique([(name,) for name in sorted(names)]):
        (tmp_path / path[0]).write_bytes(b"")
    assert len(os.listdir(tmp_path)) == len(names)  # noqa: PTH208 - names, not paths


def test_no_format_character_is_left_in_a_name_nor_shown() -> None:
    hidden = [chr(i) for i in range(sys.maxunicode + 1) if unicodedata.category(chr(i)) == "Cf"]
    assert len(hidden) > 100
    for character in hidden:
        assert sanitise(f"a{character}b".encode()) == "ab"
        assert printable(f"a{character}b") == "ab"
