"""Our `dataclass` makes what the library's makes, whatever is asked of a class."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import itertools
import pickle
import typing
from collections.abc import Callable, Sequence
from dataclasses import FrozenInstanceError, field
from functools import partial
from typing import Any, ClassVar, cast

import pytest

from dht_torrent import values

Maker = Callable[..., Any]

SHAPES = [
    {"frozen": frozen, "slots": slots, "eq": eq, "kw_only": kw_only}
    for frozen, slots, eq, kw_only in itertools.product((False, True), repeat=4)
]


def shapes(test: Any) -> Any:
    return pytest.mark.parametrize("shape", SHAPES, ids=str)(test)


def point(make: Maker, shape: dict[str, bool]) -> Any:
    class Point:
        """With a field of each kind."""

        kind: ClassVar[str] = "point"
        x: int
        y: int = 2
        names: list[str] = field(default_factory=list, hash=False)
        seen: int = field(default=0, compare=False, repr=False, kw_only=True)
        made: list[int] = field(default_factory=lambda: [7], init=False, hash=False)
        fixed: int = field(default=5, init=False)

        @property
        def twice(self) -> int:
            return self.x * 2

    return make(**shape)(Point)


def both(shape: dict[str, bool]) -> tuple[Any, Any]:
    return point(values.dataclass, shape), point(dataclasses.dataclass, shape)


def shown(cls: Any, given: Sequence[Any]) -> str:
    return repr(cls(*given))


def outcome(work: Callable[[], object]) -> object:
    """What it returns, or what kind of error with which words."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - compared
        return type(error), str(error)


@shapes
def test_it_is_made_shown_and_called_alike(shape: dict[str, bool]) -> None:
    ours, theirs = both(shape)
    for one in (ours, theirs):
        assert one(x=1).names is not one(x=1).names
    assert repr(ours(x=1, names=["a"])) == repr(theirs(x=1, names=["a"]))
    assert inspect.signature(ours).parameters.keys() == inspect.signature(theirs).parameters.keys()
    assert [p.kind for p in inspect.signature(ours).parameters.values()] == [
        p.kind for p in inspect.signature(theirs).parameters.values()
    ]
    assert typing.get_type_hints(ours.__init__) == typing.get_type_hints(theirs.__init__)
    arguments: list[tuple[Any, ...]] = [(), (1,), (1, 3), (1, 3, []), (1, 3, [], 4)]
    for given in arguments:
        mine = outcome(partial(shown, ours, given))
        assert mine == outcome(partial(shown, theirs, given))
    assert ours.__match_args__ == theirs.__match_args__
    assert ours.__doc__ == theirs.__doc__


@shapes
def test_it_compares_and_hashes_alike(shape: dict[str, bool]) -> None:
    ours, theirs = both(shape)

    def facts(cls: Any) -> list[object]:
        one, same, other = cls(x=1, seen=1), cls(x=1, seen=2), cls(x=3)
        return [
            one == same,
            one == other,
            one != other,
            one == (1, 2),
            outcome(lambda: hash(one) == hash(same)),
            outcome(lambda: hash(one) == hash(one)),
        ]

    assert facts(ours) == facts(theirs)


@shapes
def test_it_is_protected_alike(shape: dict[str, bool]) -> None:
    ours, theirs = both(shape)

    def facts(cls: Any) -> list[object]:
        one = cls(x=1)
        return [
            outcome(lambda: setattr(one, "x", 2)),
            one.x,
            outcome(lambda: delattr(one, "y")),
            outcome(lambda: setattr(one, "stranger", 2)) is None,
            hasattr(one, "__dict__"),
        ]

    assert facts(ours) == facts(theirs)
    if shape["frozen"]:
        with pytest.raises(FrozenInstanceError):
            ours(x=1).x = 2


@shapes
def test_the_library_works_on_it_alike(shape: dict[str, bool]) -> None:
    ours, theirs = both(shape)
    mine, its = ours(x=1, names=["a"]), theirs(x=1, names=["a"])
    assert dataclasses.is_dataclass(ours)
    assert dataclasses.asdict(mine) == dataclasses.asdict(its)
    assert dataclasses.astuple(mine) == dataclasses.astuple(its)
    assert repr(dataclasses.replace(mine, x=9)) == repr(dataclasses.replace(its, x=9))
    assert repr(copy.copy(mine)) == repr(copy.copy(its)) == repr(mine)
    assert repr(copy.deepcopy(mine)) == repr(mine)


@values.dataclass(frozen=True, slots=True)
class Pickled:
    """At the top of a module, as pickles demand."""

    x: int
    names: tuple[str, ...] = ()


def test_it_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(Pickled(1, ("a",)))) == Pickled(1, ("a",))


@pytest.mark.parametrize("make", [values.dataclass, dataclasses.dataclass])
def test_a_classs_own_methods_stay_and_its_heirs_add_to_it(make: Maker) -> None:
    @make(frozen=True, slots=True)
    class Named:
        name: str

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Named) and self.name.lower() == other.name.lower()

        def __hash__(self) -> int:
            return hash(self.name.lower())

        def __repr__(self) -> str:
            return f"<{self.name}>"

    @make(frozen=True, slots=True)
    class Aged(Named):
        age: int = 0

        def __post_init__(self) -> None:
            object.__setattr__(self, "age", self.age + 1)

    @make
    class Bare:
        pass

    named, aged = cast("Any", Named), cast("Any", Aged)
    assert named("A") == named("a")
    assert {named("A"), named("a")} == {named("A")}
    assert repr(named("A")) == "<A>"
    assert aged("A", 3).age == 4
    assert aged("A") == aged("A") != aged("a")
    assert "Aged(name='A', age=1)" in repr(aged("A"))
    with pytest.raises(FrozenInstanceError):
        aged("A").name = "B"
    assert Bare() == Bare()


def test_one_that_holds_itself_can_be_shown() -> None:
    @values.dataclass
    class Loop:
        inner: Any = None

    loop = Loop()
    loop.inner = loop
    assert repr(loop).endswith("Loop(inner=...)")
