"""A bound on real time is there to end a test that hangs, and says nothing of how fast things are:
the machine may be busy with others. What is to be fast is measured in CPU time, or on a mock clock.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
LEAST = 20
"""Seconds."""
CLOCKS = {"autojump_clock", "mock_clock"}


def bounds(source: str) -> Iterator[tuple[str, int, float]]:
    """The bounds on real time, of tests that wait themselves: test, line and seconds."""
    for test in ast.walk(ast.parse(source)):
        if not isinstance(test, ast.AsyncFunctionDef) or not test.name.startswith("test_"):
            continue
        if CLOCKS & {one.arg for one in test.args.args}:
            continue
        for call in ast.walk(test):
            match call:
                case ast.Call(
                    func=ast.Attribute(attr="fail_after"),
                    args=[ast.Constant(value=int() | float() as seconds)],
                ):
                    yield test.name, call.lineno, seconds


def test_bounds_are_found() -> None:
    real = "async def test_a():\n with trio.fail_after(1):\n  pass\n"
    assert list(bounds(real)) == [("test_a", 2, 1)]
    assert list(bounds(real.replace("()", "(autojump_clock)", 1))) == []


def test_no_test_fails_because_the_machine_is_busy() -> None:
    hasty = {
        f"{path.relative_to(TESTS)}:{line} {name}": seconds
        for path in sorted(TESTS.rglob("test_*.py"))
        for name, line, seconds in bounds(path.read_text(encoding="utf-8"))
        if seconds < LEAST
    }
    assert hasty == {}
