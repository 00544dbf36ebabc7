"""`--catalogue`: where it is heard, and that no password in it is seen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import CliRunner

from dht_torrent.cli.main import cli
from tests.cli.test_node_options import config_of
from tests.helpers.databases import Database
from tests.helpers.postgres import KEYED, PASSWORD

URL = "postgresql://h/db"
SECRET = "postgresql://u:hunter2@h/db"
ROOT = Path(__file__).parents[2]


def test_the_option_goes_before_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert config_of([], tmp_path, monkeypatch).catalogue.url is None
    assert config_of(["--catalogue", URL], tmp_path, monkeypatch).catalogue.url == URL
    monkeypatch.setenv("DHTNODE_CATALOGUE", SECRET)
    assert config_of([], tmp_path, monkeypatch).catalogue.url == SECRET
    assert config_of(["--catalogue", URL], tmp_path, monkeypatch).catalogue.url == URL
    assert "hunter2" not in repr(config_of([], tmp_path, monkeypatch))


@pytest.mark.parametrize(
    ("arguments", "env", "warned"),
    [
        (["--catalogue", SECRET], {}, True),
        (["--catalogue", "postgresql://h/db?password=hunter2"], {}, True),
        (["--catalogue", "postgresql://u@h:5432/db"], {}, False),
        ([], {"DHTNODE_CATALOGUE": SECRET}, False),
    ],
)
def test_who_gives_a_password_where_all_can_read_it_is_warned(
    arguments: list[str], env: dict[str, str], warned: bool, tmp_path: Path
) -> None:
    asked = ["--state-dir", str(tmp_path), "--listen", "nonsense"]
    done = CliRunner().invoke(cli, [*asked, *arguments], env=env)
    assert done.exit_code == 2
    assert ("DHTNODE_CATALOGUE" in done.stderr) == warned
    assert "hunter2" not in done.output


def test_a_url_that_makes_no_sense_ends_in_one_line_without_it(tmp_path: Path) -> None:
    done = command(tmp_path, "catalogue", "status", url="postgresql://u:hunter2/x@h/db")
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert line.startswith("dhtnode: the catalogue's URL must be postgresql://")
    assert "hunter2" not in line


def command(state: Path, *arguments: object, url: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "DHTNODE_CATALOGUE": url}
    given = ["--state-dir", state, "--listen", "127.0.0.1:0", *arguments]
    return subprocess.run(
        [sys.executable, "-m", "dht_torrent", *map(str, given)],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.postgresql
def test_lines_go_into_the_database_by_one_node_and_out_by_another(
    tmp_path: Path, database: Database
) -> None:
    database.wipe()
    with database.admin() as db:
        db.execute(f"GRANT CREATE ON DATABASE {database.name} TO {KEYED}")
    url = database.url_of(f"{KEYED}:{quote(PASSWORD, safe='')}")
    lines = "".join(f'{{"id":"{number:040x}","name":"Title {number}"}}\n' for number in range(50))
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(lines)
    try:
        first = command(tmp_path / "1", "catalogue", "import", source, url=url)
        assert (first.returncode, first.stderr) == (0, "")
        assert first.stdout == "50 lines: 50 added, 0 known already\n"
        second = command(tmp_path / "2", "catalogue", "export", target, url=url)
        assert (second.returncode, second.stderr) == (0, "exported 50 torrents\n")
        assert target.read_text() == lines
        wrong = command(tmp_path / "1", "catalogue", "status", url=url.replace(":p%40", ":x"))
        assert wrong.returncode == 1
        assert "password authentication failed" in wrong.stderr
        assert PASSWORD[2:] not in wrong.stderr
        assert quote(PASSWORD, safe="")[5:] not in wrong.stderr
    finally:
        with database.admin() as db:
            db.execute(f"REVOKE CREATE ON DATABASE {database.name} FROM {KEYED}")
            db.execute(f"DROP OWNED BY {KEYED}")
        database.wipe()
