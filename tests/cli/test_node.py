"""The options that say what the node is like."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from dht_torrent.cli.node import Options, node_options


@click.group()
@node_options
def group(ctx: click.Context) -> None:
    pass


@group.command()
@node_options
def show(ctx: click.Context) -> None:
    click.echo(Options.of(ctx).config().encryption)


def shown(*arguments: str, env: dict[str, str] | None = None) -> str:
    result = CliRunner().invoke(group, arguments, env=env)
    return result.output.strip().splitlines()[-1]


ENV = {"DHTNODE_ENCRYPTION": "require"}


@pytest.mark.parametrize(
    ("arguments", "env", "encryption"),
    [
        (["show"], {}, "prefer"),
        (["show", "--encryption", "allow"], {}, "allow"),
        (["--encryption", "off", "show"], {}, "off"),
        (["--encryption", "off", "show", "--encryption", "allow"], {}, "allow"),
        (["show"], ENV, "require"),
        (["--encryption", "off", "show"], ENV, "off"),
        (["show", "--encryption", "off"], ENV, "off"),
    ],
)
def test_encryption_comes_from_the_nearest_place(
    arguments: list[str], env: dict[str, str], encryption: str
) -> None:
    assert shown(*arguments, env=env) == encryption


def test_another_word_is_refused_in_one_line() -> None:
    result = CliRunner().invoke(group, ["show", "--encryption", "yes"])
    assert result.exit_code == 2
    assert "'prefer', 'require', 'allow', 'off'" in result.output
