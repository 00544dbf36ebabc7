"""What `dht_torrent` itself offers: every type that its signatures name can be imported from it."""

from __future__ import annotations

import ast
import builtins
import functools
import importlib
import inspect
import subprocess
import sys
import typing
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

import pytest

import dht_torrent
from dht_torrent import errors, trace

OPENED_BY_THE_NODE = {"Reader", "Dht", "DualStack", "Followed", "Node", "SearchResults", "Torrent"}
"""Classes that only the node makes: what their `__init__` takes is the engine's affair."""


@functools.cache
def tree_of(module: ModuleType) -> ast.Module:
    return ast.parse(inspect.getsource(module))


@functools.cache
def origin(module: ModuleType, name: str) -> tuple[str, str] | None:
    """The module of ours that defines what `name` means in `module`, and its name there. None for
    what is not ours."""
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    if not (node.module or "").startswith("dht_torrent"):
                        return None
                    assert node.module is not None
                    return origin(importlib.import_module(node.module), alias.name)
        elif isinstance(node, ast.Import) and name in [
            alias.asname or alias.name.partition(".")[0] for alias in node.names
        ]:
            return None
    return None if hasattr(builtins, name) else (module.__name__, name)


def names_in(annotation: object) -> Iterator[str]:
    """The names in one annotation, which is text as all of ours are (or a reference to it)."""
    text = getattr(annotation, "__forward_arg__", annotation)
    assert isinstance(text, str)
    for node in ast.walk(ast.parse(text, mode="eval")):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from names_in(node.value)


def is_written_by_hand(function: FunctionType) -> bool:
    """Not by `dataclass` or `NamedTuple`."""
    return function.__code__.co_filename.endswith(".py")


def signatures(exported: str) -> Iterator[tuple[str, Any]]:
    """Everything with annotations that comes with an exported name: itself, its methods."""
    value = getattr(dht_torrent, exported)
    if inspect.isfunction(value):
        yield exported, value
    elif inspect.isclass(value):
        for one in value.__mro__:
            if not one.__module__.startswith("dht_torrent"):
                continue
            yield exported, one
            for name, member in vars(one).items():
                if name.startswith("_") and not (
                    name == "__init__" and exported not in OPENED_BY_THE_NODE
                ):
                    continue
                function = getattr(member, "fget", None) or getattr(member, "__func__", member)
                if inspect.isfunction(function) and is_written_by_hand(function):
                    yield f"{exported}.{name}", function


def named(exported: str) -> Iterator[tuple[str, str, str]]:
    """Where an exported name's signatures name a type of ours, its module and its name there."""
    for where, thing in signatures(exported):
        module = sys.modules[thing.__module__]
        for field, annotation in inspect.get_annotations(thing).items():
            if inspect.isclass(thing) and field.startswith("_"):
                continue
            for name in names_in(annotation):
                if (home := origin(module, name)) is not None:
                    yield f"{where}: {field}", *home


@pytest.mark.parametrize("exported", dht_torrent.__all__)
def test_every_type_a_signature_names_is_exported(exported: str) -> None:
    missing = [
        f"{where} names {module}.{name}"
        for where, module, name in named(exported)
        if getattr(sys.modules[module], name) is not getattr(dht_torrent, name, None)
    ]
    assert missing == []


@pytest.mark.parametrize("exported", dht_torrent.__all__)
def test_every_annotation_resolves_at_run_time(exported: str) -> None:
    for _, thing in signatures(exported):
        typing.get_type_hints(thing)


@pytest.mark.parametrize("exported", dht_torrent.__all__)
def test_every_class_and_every_public_member_has_a_docstring(exported: str) -> None:
    thing = getattr(dht_torrent, exported)
    if not isinstance(thing, type):
        return
    made_up = f"{exported}("  # what a dataclass says of itself where nothing is said
    assert thing.__doc__
    assert not thing.__doc__.startswith(made_up)
    members = {name: value for name, value in vars(thing).items() if not name.startswith("_")}
    bare = [
        name
        for name, value in members.items()
        if (isinstance(value, property) or inspect.isroutine(value)) and not value.__doc__
    ]
    assert bare == []


def test_names_are_listed_once_and_come_from_where_the_type_checker_finds_them() -> None:
    checked: dict[str, str] = {}
    for node in ast.walk(tree_of(dht_torrent)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dht_torrent."):
            assert node.module is not None
            checked |= {alias.name: node.module for alias in node.names}
    listed = [name for names in dht_torrent._HOME.values() for name in names.split()]
    assert sorted(listed) == sorted(dht_torrent.__all__) == sorted(checked)
    assert {name: f"dht_torrent.{dht_torrent._MODULE_OF[name]}" for name in listed} == checked
    for name, module in checked.items():
        assert origin(importlib.import_module(module), name) == (module, name)


def test_every_error_and_every_record_is_exported() -> None:
    errors_ours_alone = {"LocalProtocolError"}  # a bug: nobody catches it
    assert set(errors.__all__) - errors_ours_alone <= set(dht_torrent.__all__)
    records = {record.__name__ for record in trace.Record.__subclasses__()}
    assert records <= set(dht_torrent.__all__)


def test_importing_the_package_imports_neither_trio_nor_a_dependency() -> None:
    code = "import dht_torrent, sys; dir(dht_torrent); print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True, timeout=60).split()
    assert not {"trio", "httpx", "bencode2", "cryptography"} & set(loaded)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Tracker'"):
        dht_torrent.Tracker  # type: ignore[attr-defined]  # noqa: B018
