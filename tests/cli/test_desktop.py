"""Magnet links on a user's desktop, and completion in shells."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.cli.desktop import NAME, desktop_entry, quoted
from dht_torrent.cli.main import cli
from dht_torrent.errors import InputError

PATIENCE = 60.0
FAKE = """#!/bin/sh
echo "$@" >>"$HOME/asked"
if [ "$1" = query ]; then cat "$HOME/default"; exit 4; fi
echo "$2" >"$HOME/default"
mkdir -p "$XDG_CONFIG_HOME"
list="$XDG_CONFIG_HOME/mimeapps.list"
[ -e "$list" ] || echo "[Default Applications]" >"$list"
sed -i '/^x-scheme-handler.magnet=/d' "$list"
echo "$3=$2;" >>"$list"
"""


class Home:
    """Of a user with a desktop."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.entry = folder / "data" / "applications" / NAME
        self.defaults = folder / "config" / "mimeapps.list"
        self.programs = folder / "bin"
        self.programs.mkdir()
        monkeypatch.setenv("HOME", str(folder))
        monkeypatch.setenv("XDG_DATA_HOME", str(folder / "data"))
        monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        monkeypatch.delenv("DHTNODE_CONFIG")

    def program(self, name: str, text: str) -> Path:
        path = self.programs / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def run(self, *args: object) -> Result:
        arguments = ["install-handler", *map(str, args)]
        return CliRunner().invoke(cli, arguments, prog_name="dhtnode")

    def files(self) -> set[str]:
        found = (path for path in self.folder.rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder)) for path in found}

    def exec_line(self) -> str:
        (line,) = [x for x in self.entry.read_text().splitlines() if x.startswith("Exec=")]
        return line


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    (tmp_path / "me").mkdir()
    made = Home(tmp_path / "me", monkeypatch)
    monkeypatch.setenv("PATH", f"{made.programs}:/usr/bin:/bin")
    return made


@pytest.fixture
def fake(home: Home) -> Home:
    """With a program that does what xdg-mime does."""
    home.program("xdg-mime", FAKE)
    home.program("update-desktop-database", "#!/bin/sh\n")
    (home.folder / "default").write_text("other.desktop\n")
    return home


def test_magnet_links_are_taken_and_given_back(fake: Home) -> None:
    before = fake.files()
    dhtnode = fake.program("dhtnode", "#!/bin/sh\n")
    result = fake.run("--state-dir", "/a b/$x")
    assert (result.exit_code, result.stdout) == (0, f"{fake.entry}\n")
    assert fake.exec_line() == f'Exec="{dhtnode}" "--state-dir" "/a b/\\\\$x" "get" "--" %u'
    assert "MimeType=x-scheme-handler/magnet;\n" in fake.entry.read_text()
    assert (fake.folder / "default").read_text() == f"{NAME}\n"
    assert fake.run().exit_code == 0  # again: who had them before is not forgotten
    assert "X-Dhtnode-Before=other.desktop\n" in fake.entry.read_text()

    result = fake.run("--remove")
    assert (result.exit_code, result.output) == (0, "")
    assert (fake.folder / "default").read_text() == "other.desktop\n"
    assert NAME not in fake.defaults.read_text()
    new = fake.files() - before - {"asked", "bin/dhtnode", "config/mimeapps.list"}
    assert new == set()
    assert fake.run("--remove").exit_code == 2


def test_nobody_takes_them_where_nobody_did_before(fake: Home) -> None:
    (fake.folder / "default").write_text("")
    fake.run()
    fake.defaults.write_text(
        f"[Default Applications]\ntext/html=a.desktop\nx-scheme-handler/magnet={NAME};\n"
        f"[Added Associations]\nx-scheme-handler/magnet=b.desktop;{NAME};\n"
    )
    link = fake.folder / "elsewhere"
    fake.defaults.rename(link)
    fake.defaults.symlink_to(link)
    assert fake.run("--remove").exit_code == 0
    assert fake.defaults.is_symlink()
    assert link.read_text() == (
        "[Default Applications]\ntext/html=a.desktop\n"
        "[Added Associations]\nx-scheme-handler/magnet=b.desktop;\n"
    )


@pytest.mark.parametrize("before", ["../../x.desktop", "x", "a\x1b.desktop", NAME])
def test_what_is_not_an_entry_is_not_put_back(before: str, fake: Home) -> None:
    (fake.folder / "default").write_text(before)
    fake.run()
    assert "X-Dhtnode-Before=\n" in fake.entry.read_text()
    fake.entry.write_text(desktop_entry(["x"], before))
    (fake.folder / "asked").unlink()
    assert fake.run("--remove").exit_code == 0
    assert not (fake.folder / "asked").exists()


def test_without_xdg_mime_that_is_said_in_a_line(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(home.programs))
    result = home.run()
    assert result.exit_code == 1
    assert "there is no xdg-mime" in result.stderr
    assert home.files() == set()


def test_a_desktop_that_refuses_is_told_in_a_line(fake: Home) -> None:
    fake.program("xdg-mime", "#!/bin/sh\n[ $1 = query ] && exit\necho no >&2; exit 3\n")
    result = fake.run()
    assert (result.exit_code, result.stderr) == (1, "dhtnode: xdg-mime: no\n")


@given(st.text())
def test_each_argument_stays_one(text: str) -> None:
    if not text.isprintable():
        with pytest.raises(InputError):
            quoted(text)
        return
    # As the specification reads it: escapes of strings, quotes as in a shell, field codes.
    value = quoted(text).replace("\\\\", "\\").replace("%%", "%")
    inner = re.fullmatch(r'"((?:[^"`$\\]|\\["`$\\])*)"', value)
    assert inner is not None
    assert re.sub(r'\\(["`$\\])', r"\1", inner[1]) == text


def test_the_real_desktop_agrees(home: Home) -> None:
    if shutil.which("xdg-mime") is None:
        pytest.skip("there is no xdg-mime")
    home.program("dhtnode", "#!/bin/sh\n")
    query = ["xdg-mime", "query", "default", "x-scheme-handler/magnet"]

    def asked() -> str:
        run = subprocess.run(query, capture_output=True, text=True, check=False, timeout=PATIENCE)
        return run.stdout.strip()

    before = asked()
    assert home.run().exit_code == 0
    assert asked() == NAME
    if shutil.which("desktop-file-validate") is not None:
        line = ["desktop-file-validate", str(home.entry)]
        run = subprocess.run(line, capture_output=True, text=True, check=False, timeout=PATIENCE)
        assert (run.returncode, run.stdout) == (0, "")
    assert home.run("--remove").exit_code == 0
    assert asked() == before


# --- completion ----------------------------------------------------------------------------------

SHELLS = {
    "bash": (
        "source <(dhtnode completion bash); COMP_WORDS=(dhtnode lim); COMP_CWORD=1; "
        '_dhtnode_completion dhtnode; echo "${COMPREPLY[@]}"'
    ),
    "fish": "dhtnode completion fish | source; complete -C 'dhtnode lim'",
    # compadd cannot be called outside of a completion; what it would be given is.
    "zsh": (
        "compdef() { :; }; source <(dhtnode completion zsh); compadd() { :; };"
        "words=(dhtnode lim); CURRENT=2; _describe() { print -l ${(P)3} };"
        "_dhtnode_completion"
    ),
}


def answered(line: list[str], env: Mapping[str, str]) -> str:
    run = subprocess.run(
        line, capture_output=True, text=True, check=False, timeout=PATIENCE, env=env
    )
    assert run.stderr == ""
    return run.stdout


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """With `dhtnode` in the path."""
    program = tmp_path / "dhtnode"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m dht_torrent "$@"\n')
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes_commands(shell: str, env: dict[str, str]) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    flags = {"bash": ["--norc"], "fish": ["--no-config"], "zsh": ["-f"]}[shell]
    found = answered([shell, *flags, "-c", SHELLS[shell]], env)
    assert found.replace(":", " ").split()[0] == "limit"


@pytest.mark.parametrize("shell", SHELLS)
def test_options_and_their_values_are_completed(shell: str, env: dict[str, str]) -> None:
    def completed(*words: str) -> str:
        asked = {
            "_DHTNODE_COMPLETE": f"{shell}_complete",
            "COMP_WORDS": " ".join(["dhtnode", *words]),
            "COMP_CWORD": words[-1] if shell == "fish" else str(len(words)),
        }
        return answered(["dhtnode"], {**env, **asked})

    assert "--limit-up" in completed("--limit")
    assert "require" in completed("--encryption", "r")
    assert "export" in completed("catalogue", "e")


def test_another_shell_is_refused() -> None:
    assert CliRunner().invoke(cli, ["completion", "tcsh"]).exit_code == 2
