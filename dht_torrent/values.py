"""`dataclass` as the standard library's, in a third of the time.

The library writes the text of up to six methods for each class and compiles it: of the 180 classes
of a node that was a third of its start. Here only `__init__` is compiled; what compares, hashes,
shows and protects is the same for all classes, and asks for the fields by `attrgetter`.

The rule: a class behaves as the library would have it, `fields`, `replace`, `asdict` and
`isinstance` of its errors included. What nobody here asks for (`order`, `InitVar`) is not known.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, fields
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(cls=None, /, *, frozen=False, eq=True, kw_only=False, slots=False):
        """As `dataclasses.dataclass`."""

        def made(cls: type) -> type:
            given = dict(vars(cls))
            cls = dataclasses.dataclass(
                init=False, repr=False, eq=False, kw_only=kw_only, slots=slots
            )(cls)
            shown = fields(cls)
            _add(cls, given, "__init__", _init(cls, shown, frozen=frozen))
            _add(cls, given, "__repr__", _repr(shown))
            if eq:
                _compare(cls, given, shown, frozen=frozen)
            if frozen:
                _protect(cls, given, shown, slots=slots)
            return cls

        return made if cls is None else made(cls)


def _add(cls: type, given: dict[str, Any], name: str, method: Any) -> None:
    """Unless the class has its own."""
    if name not in given:
        method.__qualname__ = f"{cls.__qualname__}.{name}"
        setattr(cls, name, method)


def _init(cls: type, fields: tuple[Field[Any], ...], *, frozen: bool) -> Callable[..., None]:
    """Compiled, as a class is made with its fields' names for the arguments."""
    known: dict[str, Any] = {"_set": object.__setattr__, "_missing": MISSING}
    plain, named, body = ["self"], ["*"], []
    for field in fields:
        name, value = field.name, field.name
        if field.default is not MISSING:
            known[f"_default_{name}"] = field.default
            argument = f"{name}=_default_{name}"
        elif field.default_factory is not MISSING:
            known[f"_make_{name}"] = field.default_factory
            argument = f"{name}=_missing"
            value = f"_make_{name}() if {name} is _missing else {name}"
        else:
            argument = name
        if not field.init:
            if argument == name:
                continue  # `__post_init__` gives it its value
            value = f"_make_{name}()" if argument.endswith("_missing") else f"_default_{name}"
        else:
            (named if field.kw_only else plain).append(argument)
        body.append(f"_set(self, {name!r}, {value})" if frozen else f"self.{name} = {value}")
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    arguments = ", ".join(plain + (named if len(named) > 1 else []))
    text = f"def make({', '.join(known)}):\n def __init__({arguments}):\n"
    text += "".join(f"  {line}\n" for line in body or ["pass"]) + " return __init__"
    space: dict[str, Any] = {}
    exec(text, vars(sys.modules[cls.__module__]), space)  # noqa: S102 - names of fields only
    method: Callable[..., None] = space["make"](**known)
    method.__annotations__ = {field.name: field.type for field in fields if field.init}
    method.__annotations__["return"] = None
    return method


def _repr(fields: tuple[Field[Any], ...]) -> Callable[[Any], str]:
    names = [field.name for field in fields if field.repr]

    @recursive_repr()
    def __repr__(self: Any) -> str:  # noqa: N807 - a method in the making
        told = ", ".join([f"{name}={getattr(self, name)!r}" for name in names])
        return f"{type(self).__qualname__}({told})"

    return __repr__


def _compare(
    cls: type, given: dict[str, Any], fields: tuple[Field[Any], ...], *, frozen: bool
) -> None:
    values = _values([field.name for field in fields if field.compare])

    def __eq__(self: Any, other: object) -> Any:  # noqa: N807
        return values(self) == values(other) if type(other) is type(self) else NotImplemented

    _add(cls, given, "__eq__", __eq__)
    hashed = [f.name for f in fields if (f.compare if f.hash is None else f.hash)]
    hashed_values = _values(hashed)

    def __hash__(self: Any) -> int:  # noqa: N807
        return hash(hashed_values(self))

    if given.get("__hash__") is None:
        if frozen:
            __hash__.__qualname__ = f"{cls.__qualname__}.__hash__"
            cls.__hash__ = __hash__  # type: ignore[method-assign, assignment]
        else:
            cls.__hash__ = None  # type: ignore[method-assign, assignment]


def _values(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    """What gives the values of these attributes."""
    if len(names) > 1:
        return attrgetter(*names)
    if not names:
        return lambda self: ()
    get = attrgetter(*names)
    return lambda self: (get(self),)


def _protect(
    cls: Any, given: dict[str, Any], fields: tuple[Field[Any], ...], *, slots: bool
) -> None:
    names = frozenset(field.name for field in fields)

    def __setattr__(self: Any, name: str, value: object) -> None:  # noqa: N807
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot assign to field {name!r}")
        super(cls, self).__setattr__(name, value)

    def __delattr__(self: Any, name: str) -> None:  # noqa: N807
        if type(self) is cls or name in names:
            raise FrozenInstanceError(f"cannot delete field {name!r}")
        super(cls, self).__delattr__(name)

    def __getstate__(self: Any) -> list[Any]:  # noqa: N807
        return [getattr(self, name) for name in order]

    def __setstate__(self: Any, state: list[Any]) -> None:  # noqa: N807
        for name, value in zip(order, state, strict=True):
            object.__setattr__(self, name, value)

    order = [field.name for field in fields]
    kept = (__getstate__, __setstate__) if slots else ()
    for method in (__setattr__, __delattr__, *kept):
        _add(cls, given, method.__name__, method)
