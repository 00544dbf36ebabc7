"""`dhtnode similar`, through a running node that knows what to find, and alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from dht_torrent.cli import similar
from dht_torrent.cli.main import cli
from dht_torrent.engine.search.views import SimilarFound
from dht_torrent.errors import InputError
from dht_torrent.magnet import Magnet
from tests.cli.test_search import HOSTILE, run
from tests.helpers.fake_node import KEY, FakeNode, similar_result

ID = f"{1:040x}"
OPTIONS = {"limit": 20, "patience": 10.0, "network": True}


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


def found(*results: object, **changes: object) -> SimilarFound:
    made = {"asked": "film.mkv", "compared": "content", "warning": None, "results": results}
    return SimilarFound(**made | changes)  # type: ignore[arg-type]


async def test_what_is_asked_about_reaches_the_node(node: FakeNode, tmp_path: Path) -> None:
    (tmp_path / "film").write_bytes(b"x")
    await run(node, tmp_path, "similar", tmp_path / "film", "--limit", 3, "--wait", 1, "--local")
    await run(node, tmp_path, "similar", f"magnet:?xt=urn:btih:{ID}&dn=film")
    torrent = node.add(f"magnet:?xt=urn:btih:{'ab' * 20}")
    await run(node, tmp_path, "similar", "abab")
    asked = [call[1:] for call in node.calls if call[0] == "similar"]
    assert asked == [
        (tmp_path / "film", {"limit": 3, "patience": 1.0, "network": False}),
        (Magnet.parse(f"magnet:?xt=urn:btih:{ID}&dn=film"), OPTIONS),
        (Magnet(torrent.info_hash), OPTIONS),
    ]


async def test_elsewhere_than_on_a_terminal_it_is_a_line_each(
    node: FakeNode, tmp_path: Path
) -> None:
    node.similar_to = found(
        similar_result(1, kinship="same file", content=1.0),
        similar_result(2, name=HOSTILE, content=None, size=None, files=None, publisher=None),
    )
    done = await run(node, tmp_path, "similar", ID)
    one, other = (line.split("\t") for line in done.stdout.splitlines())
    assert one[:7] == [ID, "same file", "100", "1.0 GiB", "1 file", "verified", KEY[:16]]
    assert other[1:7] == ["near duplicate", "-", "-", "-", "verified", "-"]
    assert one[7:] == [f"magnet:?xt=urn:btih:{ID}", "film 1.mkv"]
    assert "\x1b" not in done.stdout
    assert "\u202e" not in done.stdout
    assert done.exit_code == 0


async def test_as_json_it_is_an_object_each(node: FakeNode, tmp_path: Path) -> None:
    node.similar_to = found(similar_result(1), similar_result(2, content=None))
    done = await run(node, tmp_path, "similar", ID, "--json")
    one, other = map(json.loads, done.stdout.splitlines())
    assert (one["id"], one["kinship"], one["content"], one["score"]) == (
        ID,
        "near duplicate",
        0.9,
        0.8,
    )
    assert other["content"] is None


async def test_that_nothing_is_similar_is_told_and_the_exit_code(
    node: FakeNode, tmp_path: Path
) -> None:
    node.similar_to = found(asked="a\x1b[2J", warning="no NumPy", compared="names")
    done = await run(node, tmp_path, "similar", ID)
    assert done.exit_code == 1
    assert done.stdout == ""
    assert "dhtnode: no NumPy\n" in done.stderr
    assert "nothing similar to a" in done.stderr
    assert "\x1b" not in done.stderr
    assert (await run(node, tmp_path, "similar", ID, "--json")).exit_code == 0


async def test_what_nothing_is_known_of_is_one_clear_line(node: FakeNode, tmp_path: Path) -> None:
    node.similar_to = InputError("nothing is known of it")
    done = await run(node, tmp_path, "similar", ID)
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert "nothing is known of it" in done.stderr


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (("no such file",), "no such file or folder"),
        (("/nowhere/at/all",), "no such file or folder"),
        (("x",), "not the ID of a torrent"),
        ((ID, "--limit", "0"), "results"),
        ((ID, "--wait", "0"), "network gets"),
        ((), "Missing argument"),
    ],
)
async def test_what_cannot_be_asked_is_refused(
    node: FakeNode, tmp_path: Path, args: tuple[str, ...], why: str
) -> None:
    done = await run(node, tmp_path, "similar", *args)
    assert done.exit_code == 2
    assert why in done.stderr


def test_without_a_node_it_asks_by_itself(tmp_path: Path) -> None:
    (tmp_path / "film").write_bytes(bytes(5000))
    args = ["similar", str(tmp_path / "film"), "--local", "--state-dir", str(tmp_path / "state")]
    done = CliRunner().invoke(cli, [*args, "--bootstrap", "none", "--listen", "127.0.0.1:0"])
    assert done.exit_code == 1, done.output
    assert "nothing similar to film found" in done.stderr


def test_on_a_terminal_it_is_a_block_that_says_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    def shown(**changes: object) -> str:
        import dataclasses

        return similar.block(dataclasses.asdict(similar_result(1, **changes)))

    assert shown() == (
        "film 1.mkv\n"
        "    near duplicate (90 % of the content), 1.0 GiB, 1 file, verified, "
        f"published by {KEY[:16]}\n"
        f"    magnet:?xt=urn:btih:{ID}"
    )
    assert "    3 files are the same (20 %" in shown(kinship="same file", content=0.2, same_files=3)
    assert "    similar name, 1.0 GiB" in shown(kinship="similar name", content=0.1)
    assert "UNVERIFIED" in shown(trust="unverified", publisher=None)
