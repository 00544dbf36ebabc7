"""What a script gives when a variable is not set: an empty path. It is not the folder we are in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from dht_torrent.cli.main import cli
from dht_torrent.cli.options import NodeOption
from tests.cli.test_main import run

PLACES = re.compile(r"\b(path|file|dir|folder|output|pem)\b", re.IGNORECASE)
"""In what the help calls a parameter that is a file or folder of this machine."""
NOT_HERE = {("rename", "PATH")}
"""Not of this machine: of the content."""


def commands(
    one: click.Command = cli, names: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(one, click.Group):
        yield names, one
        return
    ctx = click.Context(one)
    for name in one.list_commands(ctx):
        command = one.get_command(ctx, name)
        assert command is not None
        yield from commands(command, (*names, name))


def parameters() -> Iterator[tuple[tuple[str, ...], str, tuple[str, ...]]]:
    """Each command, what the parameter is called, and the arguments that make it empty."""
    for names, command in commands():
        arguments = [one for one in command.params if isinstance(one, click.Argument)]
        for param in command.params:
            called = param.human_readable_name if param in arguments else param.metavar or ""
            if isinstance(param, NodeOption) or not PLACES.search(called):
                continue
            if (names[-1], called) in NOT_HERE:
                continue
            if isinstance(param, click.Option):
                needed = ["given"] * len(arguments)
                for other in command.params:
                    if isinstance(other, click.Option) and other.required and other is not param:
                        needed += [other.opts[0], "given"]
                yield names, param.opts[0], (*needed, param.opts[0], "")
            else:
                yield names, called, tuple("" if one is param else "given" for one in arguments)


def test_the_parameters_are_found() -> None:
    found = {(*names, called) for names, called, _ in parameters()}
    assert {("share", "PATH"), ("get", "--from"), ("key", "export", "FILE|-")} <= found
    assert len(found) >= 20


@pytest.mark.parametrize(("names", "called", "words"), list(parameters()))
def test_an_empty_path_is_refused_before_anything_is_done(
    names: tuple[str, ...],
    called: str,
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    done = run(*names, *words)
    assert (done.exit_code, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert re.search("empty|not a magnet link|no such torrent|''", line), line
    assert list(folder.iterdir()) == []
