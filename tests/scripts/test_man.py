"""The manual page."""

from __future__ import annotations

import shutil
import subprocess

import click
import pytest

from dht_torrent.cli.main import cli
from dht_torrent.cli.options import declared
from tests.helpers.scripts import load

man = load("man.py")


def test_the_page_says_what_the_commands_do() -> None:
    written = man.PAGE.read_text(encoding="utf-8")
    assert man.page() == written, "it is out of date: python scripts/man.py"


def test_each_option_and_each_command_is_in_it() -> None:
    text = man.page()
    context = click.Context(cli)
    for option in declared(context).values():
        assert f"\\fB{option.opts[0]}\\fR".replace("-", "\\-") in text
    for name in cli.list_commands(context):
        assert f"\n.SS {name}".replace("-", "\\-") in text


def test_nothing_in_a_text_is_a_request_of_troff() -> None:
    assert man.roff(".so /etc/passwd") == r"\&.so /etc/passwd"
    assert man.roff("'x") == r"\&'x"
    assert man.roff("a\n.b \\fC --d") == r"a .b \efC \-\-d"


def test_troff_has_nothing_to_say() -> None:
    if shutil.which("groff") is None:
        pytest.skip("there is no groff")
    line = ["groff", "-man", "-Tutf8", "-ww", "-z", str(man.PAGE)]
    run = subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)
    assert (run.returncode, run.stderr) == (0, "")
