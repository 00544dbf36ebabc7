"""The options that say what the node is like."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from dht_torrent.cli.declared import node_options
from dht_torrent.cli.node import Options


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


@group.command()
@node_options
def where(ctx: click.Context) -> None:
    config = Options.of(ctx).config()
    click.echo(f"{config.interface} {config.listen_addresses()[0].host}")


def test_the_interface_is_taken_and_checked() -> None:
    assert shown("where") == "None 0.0.0.0"
    assert shown("where", "--interface", "tun0") == "tun0 0.0.0.0"
    assert shown("--interface", "10.8.0.2", "where") == "10.8.0.2 10.8.0.2"
    result = CliRunner().invoke(group, ["where", "--interface", "tun 0"])
    assert "'tun 0' is neither the name nor an address" in str(result.exception)
