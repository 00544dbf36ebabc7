"""How an option of a node is declared: once, with all that the command line, the environment
(`DHTNODE_<OPTION>`), the configuration file and `dhtnode config` need to know of it.

The rule: what is nearer to the user wins. The command line goes before the environment, that before
the file, and the file before the default. An empty value means the default, or is refused where
that would let in what the option shuts out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from click.core import ParameterSource

from dht_torrent.errors import InputError

Command = TypeVar("Command", bound=Callable[..., Any])

ENVIRONMENT: Final = "DHTNODE_"
_MASKED: Final = r"(?s)(://[^/@:]*:).*(@)|([?&]\w*password=)[^&]*()"
"""In a URL."""


class Location(click.Path):
    """A file or a folder. Whether it is there and can be read is found out when it is opened."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value)


class GivenPath(Location):
    """A file or a folder that a command is about. The empty path would be the working directory,
    which whoever wrote `share "$FILE"` did not mean to share."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value == "":
            name = _called(param) if param is not None else "PATH"
            raise InputError(f"{name} is empty; the working directory is '.'")
        return str(value)


def _called(param: click.Parameter) -> str:
    return param.opts[0] if isinstance(param, click.Option) else param.human_readable_name


class Rate(click.types.StringParamType):
    """Bytes per second, as `dht_torrent.rates` reads them. In a file, a number too."""

    name = "rate"


class Number(click.types.StringParamType):
    """A number or `none`. In a file, a number too."""

    name = "number"


FILE: Final = Location(dir_okay=False)
FOLDER: Final = Location(file_okay=False)
PLACE: Final = GivenPath()
RATE: Final = Rate()
NUMBER: Final = Number()


class NodeOption(click.Option):
    """An option of a node."""

    def __init__(
        self,
        *names: Any,
        standard: Any = None,
        check: Callable[[Any], object] | None = None,
        mask: Callable[[str], str] | None = None,
        anchor: Callable[[str, Path], str] | None = None,
        in_file: bool = True,
        guards: bool = False,
        **attributes: Any,
    ) -> None:
        """`standard`: the default as one would write it, or what gives it; None if there is none.
        `check` raises InputError for a value of no use. `mask` hides what is secret in a value.
        `anchor` makes a value of a file independent of the working directory, given its folder.
        `in_file`: whether the file may have it. `guards`: an empty value does not mean the
        default: it is refused, since a variable that is not set must not leave a node without its
        interface or proxy, or open it to everybody."""
        super().__init__(*names, expose_value=False, callback=remember, **attributes)
        self.standard = standard
        self.check = check
        self.mask = mask
        self.anchor = anchor
        self.in_file = in_file
        self.guards = guards
        self.envvar = ENVIRONMENT + str(self.name).upper()

    @property
    def key(self) -> str:
        """Its name in the file."""
        return str(self.name).replace("_", "-")

    @property
    def is_many(self) -> bool:
        return self.multiple or self.nargs != 1

    def default_value(self) -> Any:
        """The default as one would write it."""
        return self.standard() if callable(self.standard) else self.standard

    def shown(self, value: Any) -> Any:
        """A value without what is secret in it."""
        return self.mask(value) if self.mask is not None and isinstance(value, str) else value


class Given:
    """What the options were given, by the names of their parameters."""

    def __init__(
        self, values: Mapping[str, Any] | None = None, by_environment: Iterable[str] = ()
    ) -> None:
        self.values: dict[str, Any] = dict(values or {})
        self.by_environment: set[str] = set(by_environment)
        """Those of them that the environment gave."""
        self.files: dict[Path, Any] = {}
        """What was read already (`cli.settings`)."""


def remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Keep what an option was given."""
    if value is None or value == ():
        return
    assert isinstance(param, NodeOption)
    name = str(param.name)
    given = ctx.ensure_object(Given)
    # Before the command and after it: the environment is heard twice, and goes before neither.
    if ctx.get_parameter_source(name) is ParameterSource.ENVIRONMENT:
        if name not in given.values:
            given.values[name] = value
            given.by_environment.add(name)
        return
    given.values[name] = value
    given.by_environment.discard(name)
    if param.shown(value) != value:
        click.echo(
            f"dhtnode: everybody on this machine can read the password in --{param.key}; give it"
            f" in {param.envvar}, or in a file (see `dhtnode config`)",
            err=True,
        )


def option(*names: str, **attributes: Any) -> Callable[[Command], Command]:
    """One that is remembered for `Options.of`. All commands that have it have the same object: to
    make a few hundred takes longer than all else at the start."""
    made = NodeOption(names, **attributes)

    def same(names: Any, **attributes: Any) -> NodeOption:
        return made

    return click.option(*names, cls=same)  # type: ignore[arg-type]  # any callable does


def declared(ctx: click.Context) -> dict[str, NodeOption]:
    """All options of a node, by the names of their parameters."""
    params = ctx.find_root().command.params
    return {str(one.name): one for one in params if isinstance(one, NodeOption)}


# --- what makes a value one of use ---------------------------------------------------------------


def mask_url(url: str) -> str:
    """A URL without its password."""
    return re.sub(_MASKED, lambda match: f"{match[1] or match[3]}***{match[2] or ''}", url)


def mask_user(text: str) -> str:
    """USER:PASSWORD without the password."""
    return text.partition(":")[0] + ":***"


def check_rate(text: str) -> None:
    from dht_torrent.rates import parse_rate

    parse_rate(text)


def check_addresses(texts: Iterable[str]) -> None:
    from dht_torrent.ids import parse_address

    for text in texts:
        parse_address(text)


def none_or(check: Callable[[Iterable[str]], None]) -> Callable[[tuple[str, ...]], None]:
    """`none` alone, or what passes that check."""

    def checked(texts: tuple[str, ...]) -> None:
        if texts != ("none",):
            check(texts)

    return checked


def check_points(texts: Iterable[str]) -> None:
    from dht_torrent.ids import parse_host_port

    for text in texts:
        parse_host_port(text)


def check_web(text: str) -> None:
    check_addresses([text])


def check_control(text: str) -> None:
    from dht_torrent.daemon.control import parse_control

    parse_control(text)


def anchor_control(text: str, folder: Path) -> str:
    path = text.removeprefix("unix:")
    return f"unix:{anchor_path(path, folder)}" if path != text and path else text


def anchor_path(text: str, folder: Path) -> str:
    """Below the user's home where it begins with `~`, else below `folder` unless it is absolute."""
    try:
        return str(folder / Path(text).expanduser())
    except RuntimeError:
        raise InputError(f"there is no home directory for {text!r}") from None


def parse_command(text: str) -> list[str]:
    """A command and its arguments, quoted as for a shell. Raises InputError."""
    import shlex
    import shutil

    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InputError(f"cannot be read as a command: {error}") from None
    if not words or "\0" in text:
        raise InputError("is no command")
    if shutil.which(words[0]) is None:
        raise InputError(f"there is no program {words[0]!r}")
    return words


def parse_count(text: str) -> int | None:
    """A whole number from 0, or `none`. Raises InputError."""
    if text == "none":
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise InputError(f"must be a whole number from 0, or 'none', not {text[:40]!r}")
    return int(text)


def parse_number(text: str, most: float) -> float | None:
    """A number from 0 to `most`, or `none`. Raises InputError."""
    if text == "none":
        return None
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= most:  # neither is nan
        raise InputError(f"must be a number from 0 to {most:.0f}, or 'none', not {text[:40]!r}")
    return number
