"""What each option of a node is and who says so: the command line, the environment, the
configuration file (TOML, one key for each option, named as on the command line) or nobody.

The rule: a file that has an unknown key, a wrong type or a value of no use is refused as a whole,
in a line that names it, the line and the key.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import click

from dht_torrent.cli.options import (
    NUMBER,
    RATE,
    Given,
    Location,
    NodeOption,
    anchor_path,
    declared,
)
from dht_torrent.errors import InputError

MAX_FILE: Final = 256 * 1024
"""Bytes of a configuration file."""
NAME: Final = "config.toml"
_EMPTY: Final = "is empty, which says less than it seems to: name one, or leave it out"
_AT: Final = r" ?\(at (?:line (\d+), column (\d+)|end of document)\)"

Source = Literal["command line", "environment", "client", "file", "default"]


class Setting(NamedTuple):
    """An option's value."""

    value: Any
    """None: as if there were no such option."""
    source: Source
    where: str = ""
    """The option, the variable, or the file and its line."""


class ConfigFile:
    """One that was read. Raises InputError if it cannot be, or is not TOML."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._text, self._mode = _read(path)
        self.values: dict[str, Any] = {}
        if self._text.strip():
            self.values = _parse(path, self._text)

    def where(self, key: str) -> str:
        """The file and, if it is plain, the line."""
        begins = re.compile(rf"[ \t]*([\"']?){re.escape(key)}\1[ \t]*=|[ \t]*\[{re.escape(key)}\]")
        found = [n for n, line in enumerate(self._text.split("\n"), 1) if begins.match(line)]
        return f"{self.path}:{found[0]}" if len(found) == 1 else str(self.path)

    def check_keys(self, options: dict[str, NodeOption]) -> None:
        """Raises InputError for a key that is not an option."""
        known = {one.key for one in options.values() if one.in_file}
        for key in self.values:
            if key in known:
                continue
            import difflib

            close = difflib.get_close_matches(key.replace("_", "-")[:80], sorted(known), 1)
            hint = f"; do you mean {close[0]}?" if close else ""
            raise InputError(f"{self.where(key)}: {key[:80]!r} is not an option{hint}")

    def value(self, option: NodeOption) -> Any:
        """What it says of an option, as the command line would have it. Raises InputError."""
        where = f"{self.where(option.key)}: {option.key}"
        try:
            value = _as_given(option, self.values[option.key], self.path.parent)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        if option.shown(value) != value and self._mode & 0o077:
            raise InputError(f"{where}: others can read the password in this file: chmod 600 it")
        return value


def default_path() -> Path | None:
    """Where the file is looked for; None where there is no home directory."""
    import platformdirs

    folder = at_home(lambda: platformdirs.user_config_path("dhtnode"))
    return folder / NAME if folder is not None else None


def at_home(find: Callable[[], Path]) -> Path | None:
    """A folder below the user's home, or None where there is no home."""
    try:
        folder = find()
    except (RuntimeError, KeyError):  # newer versions of platformdirs; older ones leave the "~"
        return None
    return folder if folder.is_absolute() else None


def file_of(given: Given) -> ConfigFile | None:
    """The configuration file; None: there is none. It is read once. Raises InputError."""
    named = given.values.get("config")
    path = Path(named).absolute() if named else default_path()
    if path is None:
        return None
    if path not in given.files:
        try:
            given.files[path] = ConfigFile(path)
        except FileNotFoundError:
            if named:
                raise InputError(f"{path}: no such file") from None
            given.files[path] = None
    found: ConfigFile | None = given.files[path]
    return found


def settings(ctx: click.Context) -> dict[str, Setting]:
    """All of them, by the names of the parameters. Raises InputError."""
    given = ctx.ensure_object(Given)
    return settle(given, declared(ctx), file_of(given))


def settle(
    given: Given, options: dict[str, NodeOption], file: ConfigFile | None
) -> dict[str, Setting]:
    """All settings, of what was given and what that file says. Raises InputError."""
    if file is not None:
        file.check_keys(options)
    return {name: setting_of(given, option, file) for name, option in options.items()}


def setting_of(given: Given, option: NodeOption, file: ConfigFile | None) -> Setting:
    """One of them. What the file says is checked even if it does not count. Raises InputError."""
    setting = Setting(None, "default")
    if file is not None and option.in_file and option.key in file.values:
        setting = Setting(file.value(option), "file", file.where(option.key))
    name = str(option.name)
    if option.guards and name not in given.values and os.environ.get(str(option.envvar)) == "":
        raise InputError(f"{option.envvar}: {_EMPTY}")
    if name in given.values:
        value = _without_empty(given.values[name])
        if value is None and option.guards:
            raise InputError(f"{option.opts[0]}: {_EMPTY}")
        if name in given.by_environment:
            setting = Setting(value, "environment", str(option.envvar))
        else:
            setting = Setting(value, "command line", option.opts[0])
        if value is not None and option.check is not None:
            try:
                option.check(value)
            except InputError as error:
                raise InputError(f"{setting.where}: {error}") from None
    return setting


def _without_empty(value: Any) -> Any:
    return None if value in ("", ("",)) else value


# --- reading -------------------------------------------------------------------------------------


def _read(path: Path) -> tuple[str, int]:
    """The text and the mode of a file. Raises InputError, FileNotFoundError."""
    data = b""
    try:
        facts = path.stat()
        is_file = stat.S_ISREG(facts.st_mode) or stat.S_ISCHR(facts.st_mode)  # /dev/null
        if is_file:
            with path.open("rb") as file:
                data = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        raise  # which may be as it should be
    except OSError as error:
        raise InputError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    if not is_file:
        raise InputError(f"{path}: not a file")
    if len(data) > MAX_FILE:
        raise InputError(f"{path}: more than {MAX_FILE // 1024} KiB")
    try:
        return data.decode("utf-8-sig"), stat.S_IMODE(facts.st_mode)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{line}: not UTF-8") from None


def _parse(path: Path, text: str) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason, at = str(error), re.search(_AT, str(error))
        line = at[1] if at is not None and at[1] else len(text.splitlines())
        column = f" (column {at[2]})" if at is not None and at[2] else ""
        reason = re.sub(_AT, "", reason)[:200] + column
        raise InputError(f"{path}:{line}: {reason[:1].lower()}{reason[1:]}") from None
    except (RecursionError, ValueError):  # of a number with thousands of digits
        raise InputError(f"{path}: not a configuration") from None


def _as_given(option: NodeOption, raw: Any, folder: Path) -> Any:
    """A value of the file, as the command line would give it. Raises InputError."""
    if option.is_many:
        texts = [raw] if isinstance(raw, str) and option.multiple else raw
        if not isinstance(texts, list) or not all(isinstance(one, str) for one in texts):
            raise InputError(f"must be a list of strings, not {_type(raw)}")
        wanted = len(texts) == option.nargs if option.nargs != 1 else bool(texts)
        if not wanted:
            count = option.nargs if option.nargs != 1 else "at least one"
            raise InputError(f"must be a list of {count}, not of {len(texts)}")
        value: Any = _without_empty(tuple(_text(option, one, folder) for one in texts))
    elif option.is_flag:
        if not isinstance(raw, bool):
            raise InputError(f"must be true or false, not {_type(raw)}")
        return raw
    else:
        value = _single(option, raw, folder)
    if value is None and option.guards:
        raise InputError(_EMPTY)
    if value is not None and option.check is not None:
        option.check(value)
    return value


def _single(option: NodeOption, raw: Any, folder: Path) -> Any:
    is_number = type(raw) is int or type(raw) is float
    if option.type is click.FLOAT:
        if not is_number:
            raise InputError(f"must be a number, not {_type(raw)}")
        return float(raw)
    if option.type in (RATE, NUMBER) and is_number:
        raw = str(raw)
    if not isinstance(raw, str):
        raise InputError(f"must be a string, not {_type(raw)}")
    if raw == "":
        return None
    if isinstance(option.type, click.Choice) and raw not in option.type.choices:
        raise InputError(f"must be one of {', '.join(option.type.choices)}, not {raw[:40]!r}")
    return _text(option, raw, folder)


def _text(option: NodeOption, text: str, folder: Path) -> str:
    if "\0" in text:
        raise InputError("must not have a NUL character")
    if option.anchor is not None:
        return option.anchor(text, folder)
    return anchor_path(text, folder) if isinstance(option.type, Location) and text else text


def _type(raw: Any) -> str:
    names = {bool: "a boolean", str: "a string", int: "a number", float: "a number"}
    return {**names, list: "a list", dict: "a table"}.get(type(raw), "a date or time")
