"""What makes `dhtnode` at home on a desktop and in a shell: it takes `magnet:` links, and is
completed. Only files of the user's are written, and `--remove` takes them away again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import click

from dht_torrent.cli.declared import which_node
from dht_torrent.cli.options import Given
from dht_torrent.errors import ControlError, InputError

NAME: Final = "dhtnode-magnet.desktop"
_SCHEME: Final = "x-scheme-handler/magnet"
_BEFORE: Final = "X-Dhtnode-Before="
_PATIENCE: Final = 30.0
"""Seconds a program of the desktop's may take."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what completes `dhtnode` in a shell.

    For bash, in ~/.bashrc: source <(dhtnode completion bash). For zsh, in ~/.zshrc: source
    <(dhtnode completion zsh). For fish: dhtnode completion fish >
    ~/.config/fish/completions/dhtnode.fish"""
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    assert made is not None
    root = ctx.find_root().command
    click.echo(made(root, {}, "dhtnode", "_DHTNODE_COMPLETE").source())


@click.command("install-handler")
@click.option("--remove", is_flag=True, help="Take it back; who took them before does so again.")
@which_node
def install_handler(ctx: click.Context, remove: bool) -> None:
    """Have browsers and file managers of this user's desktop open magnet: links with `dhtnode get`
    in a terminal: in the running node if there is one. --state-dir, --control and --config go with
    it. Needs xdg-mime, as desktops of Linux and BSD have it."""
    folder = _data_home() / "applications"
    path = folder / NAME
    if remove:
        if not path.exists():
            raise InputError(f"it is not installed: there is no {path}")
        before = _before(path)
        path.unlink()
        _forget_default()
        if before:
            _xdg_mime("default", before, _SCHEME)
        _update(folder)
        return
    if shutil.which("xdg-mime") is None:
        raise ControlError("there is no xdg-mime (of xdg-utils), which tells desktops of it")
    before = _before(path) if path.exists() else _xdg_mime("query", "default", _SCHEME)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    temporary.write_text(desktop_entry(_command(ctx), before), encoding="utf-8")
    temporary.replace(path)
    _xdg_mime("default", NAME, _SCHEME)
    _update(folder)
    click.echo(str(path))


def _command(ctx: click.Context) -> list[str]:
    program = shutil.which(sys.argv[0]) if Path(sys.argv[0]).name == "dhtnode" else None
    program = program or shutil.which("dhtnode")
    line = [os.path.abspath(program)] if program else [sys.executable, "-m", "dht_torrent"]  # noqa: PTH100 - a symlink stays one
    given = ctx.ensure_object(Given).values
    for name in ("state_dir", "control", "config"):
        if value := given.get(name):
            is_path = name != "control"
            line += [
                f"--{name.replace('_', '-')}",
                str(Path(value).absolute()) if is_path else value,
            ]
    return [*line, "get", "--"]


def desktop_entry(command: list[str], before: str) -> str:
    """Of the freedesktop.org specification. `before` is the entry that took the links until now."""
    return (
        "[Desktop Entry]\n"
        "Type=Application\n"
        "Name=dhtnode\n"
        "Comment=Download what a magnet link names\n"
        f"Exec={' '.join(map(quoted, command))} %u\n"
        "Terminal=true\n"
        "NoDisplay=true\n"
        f"MimeType={_SCHEME};\n"
        f"{_BEFORE}{before}\n"
    )


def quoted(argument: str) -> str:
    """An argument in the line of `Exec`, where `%` is special, and in quotes four more; the value
    as a whole is a string, in which a backslash is written twice. Raises InputError."""
    if not argument.isprintable():
        raise InputError(f"cannot be in a .desktop file: {argument!r}")
    for special in ("\\", '"', "`", "$"):
        argument = argument.replace(special, f"\\{special}")
    return '"' + argument.replace("\\", "\\\\").replace("%", "%%") + '"'


def _before(path: Path) -> str:
    """Who took the links before, as the entry says."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    found = [line.removeprefix(_BEFORE) for line in lines if line.startswith(_BEFORE)]
    return found[0] if found and _is_entry(found[0]) else ""


def _is_entry(name: str) -> bool:
    return name.endswith(".desktop") and "/" not in name and name.isprintable() and name != NAME


def _xdg_mime(*arguments: str) -> str:
    """What it says, an entry's name if it is asked. Raises ControlError."""
    try:
        run = subprocess.run(  # noqa: S603
            ["xdg-mime", *arguments],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ControlError(f"xdg-mime: {error}") from None
    if run.returncode and arguments[0] != "query":
        raise ControlError(f"xdg-mime: {run.stderr.strip() or run.returncode}")
    name = run.stdout.strip()
    return name if _is_entry(name) else ""


def _update(folder: Path) -> None:
    """Desktops that keep an index of the entries hear of the change."""
    program = shutil.which("update-desktop-database")
    if program is not None:
        subprocess.run(  # noqa: S603
            [program, "--quiet", str(folder)], check=False, timeout=_PATIENCE, capture_output=True
        )


def _forget_default() -> None:
    """xdg-mime cannot take a default back."""
    for path in (_config_home() / "mimeapps.list", _data_home() / "applications/mimeapps.list"):
        try:
            text = path.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            continue
        kept = "".join(filter(None, map(_without_us, text.splitlines(keepends=True))))
        if kept != text:
            real = path.resolve()
            temporary = real.with_name(f".{real.name}.dhtnode")
            temporary.write_text(kept, encoding="utf-8", errors="surrogateescape")
            temporary.replace(real)


def _without_us(line: str) -> str:
    key, equals, names = line.rstrip("\r\n").partition("=")
    if key.strip() != _SCHEME or not equals:
        return line
    others = [name for name in names.split(";") if name.strip() not in ("", NAME)]
    return f"{key}={';'.join(others)};\n" if others else ""


def _data_home() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share").absolute()


def _config_home() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config").absolute()
