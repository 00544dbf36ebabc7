"""`dhtnode key`: what is secret is shown by `export` alone."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dht_torrent.cli.main import cli
from dht_torrent.dht.items import SigningKey

SEED = bytes(range(32))
PUBLIC = SigningKey(SEED).public.hex()


def run(state: Path, *args: object, stdin: str | None = None) -> Result:
    words = ["key", *map(str, args), "--state-dir", str(state)]
    return CliRunner().invoke(cli, words, input=stdin)


def test_a_new_key_is_told_by_its_public_half(tmp_path: Path) -> None:
    done = run(tmp_path / "state", "new")
    path = tmp_path / "state" / "keys" / "default.key"
    public = SigningKey(bytes.fromhex(path.read_text())).public.hex()
    assert (done.exit_code, done.stdout, done.stderr) == (0, public + "\n", "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert run(tmp_path / "state", "show").stdout == public + "\n"
    again = run(tmp_path / "state", "new")
    assert (again.exit_code, again.stdout) == (2, "")
    assert "already" in again.stderr
    other = run(tmp_path / "state", "new", "work", "--json")
    assert json.loads(other.stdout)["name"] == "work"
    assert json.loads(other.stdout)["public"] != public


def test_a_key_moves_by_export_and_import(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    (tmp_path / "put.key").write_text(SEED.hex() + "\n")  # as `dht put --key` made it
    done = run(here, "import", "news", tmp_path / "put.key")
    assert (done.exit_code, done.stdout) == (0, PUBLIC + "\n")
    target = tmp_path / "out.key"
    done = run(here, "export", "news", target)
    assert (done.exit_code, done.output) == (0, "")
    assert target.read_text() == SEED.hex() + "\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert run(here, "export", "news", target).exit_code == 2  # it is not replaced
    text = run(here, "export", "news", "-").stdout
    assert text == SEED.hex() + "\n"
    assert run(there, "import", "default", "-", stdin=text).stdout == PUBLIC + "\n"
    assert run(there, "show").stdout == PUBLIC + "\n"
    assert run(here, "import", "news", target).exit_code == 2


def test_nothing_but_an_export_shows_what_is_secret(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "default.key").write_text(SEED.hex() + "\n")
    (tmp_path / "keys" / "default.key").chmod(0o644)
    commands = [("show",), ("show", "--json"), ("ls",), ("ls", "--json"), ("new",)]
    for words in [*commands, ("import", "default", tmp_path / "keys" / "default.key")]:
        done = run(tmp_path, *words)
        assert SEED.hex() not in done.output
        assert SEED.hex()[:16] not in done.output
    listed = run(tmp_path, "ls")
    assert PUBLIC in listed.stdout
    assert "chmod 600" in listed.stderr
    keys = json.loads(run(tmp_path, "ls", "--json").stdout)
    assert [(one["name"], one["public"]) for one in keys] == [("default", PUBLIC)]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("show", "nobody"), "no key nobody"),
        (("export", "nobody", "x.key"), "no key nobody"),
        (("export", "../x", "-"), "a key's name"),
        (("import", "a", "-"), "64 hex digits"),
        (("import", "a", "/nowhere/at/all"), "no such file"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    done = run(tmp_path / "state", *words, stdin="rubbish \xff")
    assert done.exit_code == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
