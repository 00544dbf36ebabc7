"""The house has four floors, and imports go only downward. This file is that rule.

Whoever adds a module says here what it may import.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "dht_torrent"

# Floor 1: each may import those before it.
VALUES = [
    *("relief", "errors", "remembering", "syscalls"),
    *("ids", "bounds", "bencode", "filenames", "geometry"),
    *("magnet", "metainfo", "given", "rates", "checksum", "ip_filter", "config", "trace"),
]
# Floor 2: they may import floor 1, and not each other.
DECIDERS = ["dht", "peer", "torrent", "storage", "search", "catalogue", "utp", "socks", "portmap"]
# Floors 3 and 4.
UPPER = {
    "engine": [*VALUES, *DECIDERS],
    "daemon": [*VALUES, "engine"],
    "lab": [
        *(*VALUES, "engine", "dht", "peer", "storage", "search", "catalogue", "socks", "portmap"),
        "utp",
    ],
    "cli": [*VALUES, "engine", "daemon"],
    "__main__": ["cli"],
}
# Rooms of the engine that must not know each other, save through the seams that are named.
APART = {
    "engine.net": ["engine.dht", "engine.torrent", "engine.node", "engine.opening"],
    "engine.dht": ["engine.torrent", "engine.node", "engine.opening"],
    "engine.torrent": ["engine.dht", "engine.node", "engine.opening"],
}
SEAMS = ["engine.dht.dual_stack"]
"""How torrents reach the DHT."""
MAY_IMPORT = (
    {name: VALUES[:place] for place, name in enumerate(VALUES)}
    | dict.fromkeys(DECIDERS, VALUES)
    | UPPER
)
WAITING = ["trio", "asyncio", "anyio", "sniffio"]
# A decider is told the time, handed the dice, and speaks through what it returns.
HIDDEN = [
    *("time", "datetime.datetime.now", "random", "secrets", "os.urandom", "uuid", "logging"),
]
HARMLESS = ["random.Random"]
LEAKING = ["trio.fail_after", "trio.fail_at"]
"""What leaves frames on a cycle when time is up: `engine.time_limit` is for that."""


def uses(tree: ast.AST) -> Iterator[str]:
    """Dotted names of what is imported, and of attributes reached through an import."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                names[alias.asname or top] = alias.name if alias.asname else top
                if alias.name != "random":  # which is judged by what is used of it
                    yield alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                yield "." * node.level + f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (dotted := ast.unparse(node)):
            first, _, rest = dotted.partition(".")
            if first in names:
                yield f"{names[first]}.{rest}"


def is_under(name: str, parents: list[str]) -> bool:
    return any(name == parent or name.startswith(parent + ".") for parent in parents)


def violations(module: str, source: str) -> list[str]:
    """What in the source of `dht_torrent.<module>` breaks the rule."""
    part = module.partition(".")[0]
    if part not in MAY_IMPORT:
        return [f"{module} has no floor yet: add it to tests/test_layers.py"]
    banned = []
    if part in VALUES or part in DECIDERS:
        banned += WAITING
    if part in DECIDERS:
        banned += HIDDEN
    if part == "engine":
        banned += LEAKING
    found = []
    for name in dict.fromkeys(uses(ast.parse(source))):
        top, _, ours = name.partition(".")
        if top == "dht_torrent":
            if ours not in ("", "__version__") and not is_under(ours, [part, *MAY_IMPORT[part]]):
                found.append(f"{module} must not import {name}")
            apart = [
                other
                for room, others in APART.items()
                if is_under(module, [room])
                for other in others
            ]
            if is_under(ours, apart) and not is_under(ours, SEAMS):
                found.append(f"{module} must not import {name}")
        elif name.startswith("."):
            found.append(f"{module} must import by full name, not {name}")
        elif is_under(name, banned) and not is_under(name, HARMLESS):
            found.append(f"{module} must not use {name}")
    return found


def modules() -> list[str]:
    paths = [path.relative_to(ROOT).with_suffix("") for path in sorted(ROOT.rglob("*.py"))]
    dotted = [".".join(path.parts).removesuffix(".__init__") for path in paths]
    return [name for name in dotted if name != "__init__"]  # which only re-exports, on first use


@pytest.mark.parametrize("module", modules())
def test_imports_go_only_downward(module: str) -> None:
    path = ROOT.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    assert violations(module, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("errors", "import dht_torrent.ids"),
        ("ids", "from dht_torrent.metainfo import Magnet"),
        ("bencode", "import trio"),
        ("ids", "from dht_torrent import config"),
        ("dht.table", "import trio.lowlevel"),
        ("dht.table", "from dht_torrent.engine.net.sockets import Network"),
        ("dht.table", "from dht_torrent import engine"),
        ("dht.table", "def late():\n    from dht_torrent.peer import messages"),
        ("torrent.picker", "from dht_torrent import storage"),
        ("storage", "from dht_torrent.torrent.pieces import Pieces"),
        ("engine.net.sockets", "from dht_torrent.daemon import app"),
        ("engine.net.sockets", "from dht_torrent.engine.node import Node"),
        ("engine.dht.node", "from dht_torrent.engine.torrent.torrent import Torrent"),
        ("engine.torrent.discovery", "from dht_torrent.engine.dht.node import Dht"),
        ("daemon.app", "from dht_torrent.torrent.pieces import Pieces"),
        ("lab.net.link", "from dht_torrent.daemon import app"),
        ("cli.main", "from dht_torrent.lab import net"),
        ("cli.main", "from dht_torrent.storage.making import make"),
        ("dht.table", "import dht_torrent\nx = dht_torrent.engine"),
        ("dht.krpc", "from . import table"),
        ("dht.table", "import time\nnow = time.time()"),
        ("dht.table", "from time import monotonic"),
        ("dht.table", "import random\nx = random.random()"),
        ("dht.table", "import random as dice\nx = dice.choice([1])"),
        ("dht.table", "from random import shuffle"),
        ("dht.tokens", "import os\nx = os.urandom(8)"),
        ("dht.tokens", "from os import urandom"),
        ("dht.tokens", "import secrets"),
        ("peer.connection", "import logging"),
        ("peer.connection", "from datetime import datetime\nx = datetime.now()"),
        ("engine.net.sockets", "import trio\nwith trio.fail_after(1):\n    pass"),
        ("newcomer", ""),
    ],
)
def test_a_breach_is_found(module: str, source: str) -> None:
    assert len(violations(module, source)) >= 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("dht.table", "import random\ndef f(rng: random.Random) -> None: ..."),
        ("dht.table", "from random import Random\nfrom dht_torrent.dht import krpc"),
        ("dht.table", "from dht_torrent import __version__, ids"),
        ("storage", "import os\nx = os.preadv"),
        ("metainfo", "from dht_torrent.bencode import decode"),
        ("engine.dht.node", "import trio\nimport time\nfrom dht_torrent.dht.table import Table"),
        ("engine.torrent.stages", "from dht_torrent.engine.dht.dual_stack import DualStack"),
        ("engine.node", "import dht_torrent\nx = dht_torrent.__version__"),
        ("cli.main", "from dht_torrent.daemon.client import Client"),
    ],
)
def test_what_is_allowed_passes(module: str, source: str) -> None:
    assert violations(module, source) == []


def imported(path: Path, known: set[str]) -> set[str]:
    """Our modules that one of ours imports, wherever in it: also late, and for types alone."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found.update(name if name in known else str(node.module) for name in names)
    return found & known


def circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """What is left when modules that import none of the others are taken away, again and again."""
    left = {name: set(targets) for name, targets in imports.items()}
    while done := [name for name, targets in left.items() if not targets & left.keys()]:
        for name in done:
            del left[name]
    while done := [n for n in left if not any(n in left[other] for other in left)]:
        for name in done:
            del left[name]
    return [[name, *sorted(targets & left.keys())] for name, targets in sorted(left.items())]


def test_no_modules_import_each_other_in_a_circle() -> None:
    # The package itself only re-exports, on first use; it may be imported for its version.
    names = {f"dht_torrent.{name}" for name in modules()}
    imports = {}
    for name in names:
        path = ROOT.parent.joinpath(*name.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        imports[name] = imported(path, names) - {name}
    assert sum(map(len, imports.values())) > 500  # they were found
    assert circles(imports) == []


def test_a_circle_is_found() -> None:
    ring = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "above": {"a"}, "below": set[str]()}
    assert [where for where, *_ in circles(ring)] == ["a", "b", "c"]


def public_classes() -> dict[str, list[str]]:
    """The modules that define each public class, by its name."""
    found: dict[str, list[str]] = {}
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    return found


def test_no_two_public_classes_have_one_name() -> None:
    classes = public_classes()
    assert len(classes) > 200  # they were found
    assert {name: homes for name, homes in classes.items() if len(homes) > 1} == {}
