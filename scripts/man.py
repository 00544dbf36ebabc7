"""Writes the manual page from the commands and their options.

python scripts/man.py                       # scripts/dhtnode.1; man -l scripts/dhtnode.1
python scripts/man.py --out -               # to stdout
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from dht_torrent.cli.main import cli
from dht_torrent.cli.options import NodeOption

PAGE = Path(__file__).resolve().parent / "dhtnode.1"

HEAD = r"""
.\" Written by scripts/man.py from the commands: do not edit.
.TH DHTNODE 1 "" dhtnode "User Commands"
.SH NAME
dhtnode \- trackerless BitTorrent node
.SH SYNOPSIS
.B dhtnode
.RI [ options ]
.br
.B dhtnode
.RI [ options ]
.I command
.RI [ arguments ]
.SH DESCRIPTION
Without a command it runs a node until it is interrupted, and prints one line when that is ready.
The commands ask that node, which they find by its state directory; some can do without one, and
run a node of their own meanwhile. What is printed on stdout is for programs; people are told on
stderr.
"""

TAIL = r"""
.SH ENVIRONMENT
Each option of a node is also heard as
.BR DHTNODE_ \fIOPTION\fR,
such as
.B DHTNODE_LIMIT_UP
for
.BR \-\-limit\-up ;
switches as true or false. The command line goes before the environment, and that before the
configuration file.
.TP
.B NOTIFY_SOCKET\fR, \fPWATCHDOG_USEC
Where a service manager hears that the node is ready and lives, see
.BR sd_notify (3).
.SH FILES
.TP
.I ~/.config/dhtnode/config.toml
The configuration (in
.I ~/Library/Application Support/dhtnode
on macOS), if there is one: TOML, with one key for each option of a node, such as
.BR "limit\-up = \(dq500K\(dq" .
.B dhtnode config
shows what is in force and who says so,
.B dhtnode config \-\-init
writes an example.
.TP
.I ~/.local/state/dhtnode
The state directory: what the node remembers of its torrents and of the DHT, its keys, its catalogue
and its control socket.
.SH SIGNALS
.TP
.B SIGINT\fR, \fPSIGTERM
End the node in order; a second one ends the process at once.
.TP
.B SIGHUP
Of a process without a terminal, as a service: read the configuration again, as
.B dhtnode reload
does. Otherwise as SIGTERM.
.SH EXIT STATUS
.TP
.B 0
It was done.
.TP
.B 1
It failed while running.
.TP
.B 2
The input was bad.
.TP
.B 128+\fIn
Signal
.I n
ended it before it was done.
"""


def roff(text: str) -> str:
    """Text that means nothing to troff."""
    text = " ".join(text.split()).replace("\\", r"\e").replace("-", r"\-")
    return r"\&" + text if text[:1] in (".", "'") else text


def text_of(help_text: str) -> Iterator[str]:
    """Paragraphs of a docstring."""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(help_text.replace("\b", ""))):
        yield from (".PP", roff(paragraph))


def option_lines(option: click.Option) -> Iterator[str]:
    names = ", ".join(rf"\fB{roff(name)}\fR" for name in (*option.opts, *option.secondary_opts))
    value = ""
    if not option.is_flag:
        value = rf" \fI{roff(option.metavar or _choices(option))}\fR"
    yield ".TP"
    yield names + value
    yield roff(option.help or "")


def _choices(option: click.Option) -> str:
    if isinstance(option.type, click.Choice):
        return "|".join(map(str, option.type.choices))
    return option.type.name.upper()


def options_of(command: click.Command, *, of_node: bool) -> list[click.Option]:
    found = [one for one in command.params if isinstance(one, click.Option)]
    found = [one for one in found if isinstance(one, NodeOption) == of_node and not one.hidden]
    return sorted(found, key=lambda one: one.opts[0])


def command_lines(command: click.Command, name: str) -> Iterator[str]:
    """A command and those below it."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            if found is not None and not found.hidden:
                yield from command_lines(found, f"{name} {below}".strip())
        return
    arguments = [one for one in command.params if isinstance(one, click.Argument)]
    usage = " ".join(one.metavar or str(one.name).upper() for one in arguments)
    yield f".SS {roff(name)} {roff(usage)}".rstrip()
    yield from text_of(command.help or "")
    for option in options_of(command, of_node=False):
        yield from option_lines(option)
    if options_of(command, of_node=True):
        of_all = any(one.name == "listen" for one in command.params)
        which = "Takes the options of a node." if of_all else "Takes the options that find a node."
        yield from (".PP", which)


def page() -> str:
    lines = [HEAD.strip(), ".SH OPTIONS OF A NODE"]
    for option in options_of(cli, of_node=True):
        lines += option_lines(option)
    lines += [
        ".SH COMMANDS",
        r"The options that find a node are \fB\-\-state\-dir\fR, \fB\-\-control\fR and",
        r"\fB\-\-config\fR. Options of a node may stand before the command or after it.",
    ]
    lines += command_lines(cli, "")
    lines.append(TAIL.strip())
    return "\n".join(line for line in lines if line) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", default=str(PAGE), help="the file, or - for stdout")
    given = parser.parse_args(arguments)
    if given.out == "-":
        sys.stdout.write(page())
    else:
        Path(given.out).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
