"""`dhtnode catalogue`: files of any size through a node, part by part."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.cli import catalogue
from dht_torrent.cli.catalogue import MAX_LINE, parts
from dht_torrent.daemon.search_api import MAX_IMPORT
from dht_torrent.errors import StorageError
from tests.cli.test_search import run
from tests.helpers.fake_node import FakeNode

LINES = [b'{"id": "%040x", "name": "b\xc3\xbccher \xe2\x80\xa8"}\n' % number for number in range(9)]


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


async def test_figures_are_shown(node: FakeNode, tmp_path: Path) -> None:
    done = await run(node, tmp_path, "catalogue", "status")
    assert done.stdout == (
        "torrents: 12,345, of which this node shares 3\nsize:     1.0 MiB of at most 1.0 GiB\n"
    )
    done = await run(node, tmp_path, "catalogue", "status", "--json")
    assert json.loads(done.stdout)["bytes_most"] == 2**30


async def test_an_export_is_the_nodes_lines_byte_for_byte(node: FakeNode, tmp_path: Path) -> None:
    node.exported = [b"".join(LINES[:5]), b"".join(LINES[5:])]
    target = tmp_path / "out.jsonl"
    done = await run(node, tmp_path, "catalogue", "export", target)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "exported 9 torrents\n")
    assert target.read_bytes() == b"".join(LINES)
    done = await run(node, tmp_path, "catalogue", "export", "-")
    assert done.stdout_bytes == b"".join(LINES)


async def test_an_export_that_fails_leaves_no_file_and_what_was_there(
    node: FakeNode, tmp_path: Path
) -> None:
    node.exported = [LINES[0], StorageError("the disk is gone")]
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "old").write_bytes(b"old")
    for name in "old", "new":
        done = await run(node, tmp_path, "catalogue", "export", folder / name)
        assert (done.exit_code, done.stderr) == (1, "dhtnode: the disk is gone\n")
    assert [path.name for path in folder.iterdir()] == ["old"]
    assert (folder / "old").read_bytes() == b"old"
    done = await run(node, tmp_path, "catalogue", "export", tmp_path / "no" / "such")
    assert done.exit_code == 2
    assert "no such file" in done.stderr


async def test_an_import_is_sent_in_parts_and_summed_up(
    node: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "PART", 3 * len(LINES[0]))
    source = tmp_path / "in.jsonl"
    source.write_bytes(b"".join([*LINES[:4], b"x\n", *LINES[4:], b"x"]))
    done = await run(node, tmp_path, "catalogue", "import", source)
    assert done.exit_code == 0, done.output
    assert done.stdout == (
        "11 lines: 9 added, 0 known already, 2 skipped: not JSON (first in line 5)\n"
    )
    assert len(node.imported) == 4
    assert b"".join(node.imported) == source.read_bytes() + b"\n"
    node.imported.clear()
    done = await run(node, tmp_path, "catalogue", "import", "-", "--json", input=LINES[0])
    assert json.loads(done.stdout) == {
        "lines": 1,
        "added": 1,
        "known": 0,
        "refused": 0,
        "skipped": {},
        "first_skipped": {},
    }
    assert node.imported == [LINES[0]]


async def test_a_file_that_cannot_be_read_is_told(node: FakeNode, tmp_path: Path) -> None:
    for source, why in (tmp_path / "none", "no such file"), (tmp_path, "is a directory"):
        done = await run(node, tmp_path, "catalogue", "import", source)
        (line,) = done.stderr.splitlines()
        assert (done.exit_code, done.stdout) == (2, "")
        assert why in line


@pytest.mark.parametrize("more", [(), ("--json",)])
async def test_a_file_of_something_else_is_refused(
    node: FakeNode, tmp_path: Path, more: tuple[str, ...]
) -> None:
    source = tmp_path / "film.mkv"
    source.write_bytes(b"x\nx\n")
    done = await run(node, tmp_path, "catalogue", "import", source, *more)
    (line,) = done.stderr.splitlines()
    assert (done.exit_code, done.stdout) == (2, "")
    assert line == (
        f"dhtnode: {source}: nothing in it is of use: 2 skipped: not JSON (first in line 1)"
    )


def test_a_long_line_is_cut_and_stays_too_long() -> None:
    long = b"a" * (5 * MAX_LINE)
    (part,) = parts(io.BytesIO(b"1\n" + long + b"\n2\n" + long))
    one, cut, two, last = part.split(b"\n")[:-1]
    assert (one, two) == (b"1", b"2")
    assert cut == last == b"a" * (MAX_LINE + 1)
    exact = b"a" * MAX_LINE + b"\n"
    assert list(parts(io.BytesIO(exact * 2))) == [exact * 2]


def test_no_part_is_larger_than_a_node_takes() -> None:
    file = io.BytesIO(b"a" * (30 * 2**20) + b"\n" + (b"b" * MAX_LINE + b"\n") * 200)
    assert max(map(len, parts(file))) <= MAX_IMPORT


@given(st.lists(st.binary(max_size=5).map(lambda line: line.replace(b"\n", b""))))
def test_parts_have_all_lines_in_order(lines: list[bytes]) -> None:
    whole = b"".join(line + b"\n" for line in lines)
    assert b"".join(parts(io.BytesIO(whole))) == whole
    assert b"".join(parts(io.BytesIO(whole + b"x"))) == whole + b"x\n"
