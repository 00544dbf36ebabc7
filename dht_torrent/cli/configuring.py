"""`dhtnode config`: what each option is and who says so; and a configuration file to begin with."""

from __future__ import annotations

import json
import os
import textwrap
from pathlib import Path
from typing import Any

import click

from dht_torrent.cli import view
from dht_torrent.cli.declared import node_options, which_node
from dht_torrent.cli.node import Options, json_option, running_node
from dht_torrent.cli.options import ENVIRONMENT, Given, NodeOption, declared
from dht_torrent.cli.remembered import set_by_clients
from dht_torrent.cli.settings import Setting, default_path, file_of, settings
from dht_torrent.cli.web import web_options
from dht_torrent.errors import InputError

_WIDTH = 96
_HEAD = """\
# The configuration of a node: one key for each option of `dhtnode`, by the same name. What stands
# here is the default, or an example. The command line and the environment (DHTNODE_LIMIT_UP for
# limit-up) go before this file; `dhtnode config` shows what is in force, `dhtnode reload` has a
# running node read it again. Paths are below the folder of this file unless they are absolute.
"""


@click.command()
@click.option("--init", is_flag=True, help="Write a commented example, where there is no file yet.")
@json_option
@web_options
@node_options
def config(ctx: click.Context, init: bool, as_json: bool) -> None:
    """Show each option's value and where it comes from: the command line, the environment
    (DHTNODE_LIMIT_UP, say), what a client of the RPC has set, the configuration file or the
    default. Passwords are not shown."""
    if init:
        path = _init(ctx)
        view.show({"file": str(path)}, as_json, lambda: str(path))
        return
    found = settings(ctx)
    node = Options.from_settings(found)
    wanted = node.config()  # what does not go together is told
    file = file_of(ctx.ensure_object(Given))
    options = declared(ctx)
    if node.has_rpc:
        known, record = set_by_clients(node.state_dir, wanted, node.fixed)
        found |= {one: Setting(value, "client", str(record)) for one, value in known.items()}
    rows = [_row(options[name], setting) for name, setting in found.items()]
    name = str(file.path) if file is not None else None
    view.show({"file": name, "options": rows}, as_json, lambda: _text(name, rows))
    variables = {one.envvar for one in options.values()}
    for variable in sorted(one for one in os.environ if one.startswith(ENVIRONMENT)):
        if variable not in variables:
            click.echo(f"dhtnode: {view.clean(variable)} is not an option's", err=True)


@click.command()
@json_option
@which_node
def reload(ctx: click.Context, as_json: bool) -> None:
    """Have the running node read its configuration file again. Limits, the queue, when a torrent
    has been shared enough, the IP filter, the deny-list and the log level change at once; what
    needs a restart is told. If something in the file is wrong nothing changes."""
    with running_node(ctx) as client:
        told = client.reload()
    view.show(told, as_json, lambda: _reloaded_text(told))


def _reloaded_text(told: dict[str, Any]) -> str:
    lines = []
    if told["applied"]:
        lines.append(f"changed: {', '.join(told['applied'])}")
    if told["needs_restart"]:
        lines.append(f"needs a restart: {', '.join(told['needs_restart'])}")
    return "\n".join(lines) or "nothing has changed"


def _row(option: NodeOption, setting: Setting) -> dict[str, Any]:
    value = setting.value if setting.value is not None else option.default_value()
    if isinstance(value, tuple):
        value = [option.shown(one) for one in value]
    value = os.fspath(value) if isinstance(value, Path) else option.shown(value)
    row = {"option": option.key, "value": value, "from": setting.source, "where": setting.where}
    return row | {"environment": option.envvar}


def _text(file: str | None, rows: list[dict[str, Any]]) -> str:
    def shown(value: Any) -> str:
        if isinstance(value, list):
            return " ".join(map(str, value))
        return {None: "", True: "true", False: "false"}.get(value) or str(value or "")

    table = view.table(
        ["option", "value", "from"],
        [[row["option"], shown(row["value"]), row["where"] or row["from"]] for row in rows],
    )
    return f"{table}\n{file or 'There is no configuration file; write one with --init.'}"


# --- an example ----------------------------------------------------------------------------------


def _init(ctx: click.Context) -> Path:
    """Write the example. Raises InputError if there is a file."""
    named = ctx.ensure_object(Given).values.get("config")
    path = Path(named).absolute() if named else default_path()
    if path is None:
        raise InputError("there is no home directory; name a file with --config")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise InputError(f"{path}: there is a configuration already") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(example(declared(ctx).values()))
    return path


def example(options: Any) -> str:
    """A file in which each option is explained, and none is set."""
    parts = [_HEAD]
    for option in options:
        if option.in_file:
            lines = textwrap.wrap(str(option.help), _WIDTH)
            parts.append("".join(f"# {line}\n" for line in lines) + f"#{toml_line(option)}\n")
    return "\n".join(parts)


def toml_line(option: NodeOption) -> str:
    """The option with its default, or with an example of a value."""
    value = option.standard
    if callable(value) or value is None:
        value = option.metavar or ""
        value = (
            tuple(value.split()) if option.nargs != 1 else (value,) if option.multiple else value
        )
    # Strings of JSON are strings of TOML.
    text = json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
    return f"{option.key} = {text}"
