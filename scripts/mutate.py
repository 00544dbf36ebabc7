#!/usr/bin/env python3
"""Which faults would no test notice? Puts small ones into functions and runs the tests there.

    scripts/mutate.py dht_torrent/dht/table.py --tests tests/dht
    scripts/mutate.py dht_torrent/peer/*.py --tests tests/peer --share 0.2 --seed 7

A mutant is one change: `<` for `<=`, `and` for `or`, a number one larger, a statement or a result
left out ... Each runs in a process of its own, forked from one in which everything is imported
already; there only the tests that reach the changed line are run, until one fails. Prints each
mutant that no test killed. Some of those are not a fault (a bound that is never met exactly, a mere
optimization): that is for people to judge. What is outside of functions is left as it is.
"""

from __future__ import annotations

import argparse
import ast
import copy
import gc
import os
import pickle
import random
import resource
import select
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
OTHER_NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}
REMOVABLE = (ast.Expr, ast.Assign, ast.AugAssign, ast.Delete, ast.Raise, ast.Continue, ast.Break)
MINUTE = 60.0


@dataclass(frozen=True)
class Mutant:
    """One change to one function: in the `node`th node of its tree, at `at` of its field."""

    path: str
    function: int
    """Place among the functions of the module."""
    node: int
    what: str
    """Field of the node."""
    at: int | None
    line: int
    end: int


@dataclass
class Module:
    path: str
    tree: ast.Module
    functions: list[ast.FunctionDef | ast.AsyncFunctionDef]
    mutants: list[Mutant] = field(default_factory=list)


def load(path: str) -> Module:
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    module = Module(path, tree, list(functions(tree)))
    for number, function in enumerate(module.functions):
        if function.name not in ("__repr__", "__str__"):
            module.mutants += mutants(path, number, function)
    return module


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Those of a module and its classes; what is inside of one belongs to it."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
        elif isinstance(node, ast.ClassDef | ast.If):
            yield from functions(node)


def mutants(path: str, number: int, function: ast.AST) -> Iterator[Mutant]:
    quiet = silent(function)
    for index, node in enumerate(ast.walk(function)):
        for what, at, where in changes(node):
            if id(node) not in quiet and id(where) not in quiet:
                yield Mutant(path, number, index, what, at, where.lineno, where.end_lineno)


def silent(function: Any) -> set[int]:
    """Nodes whose change is not a fault: annotations, defaults, assertions, texts, logs."""
    found: set[int] = set()
    for node in ast.walk(function):
        parts: list[ast.AST | None] = []
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            parts = [*node.decorator_list, node.returns, node.args]
        elif isinstance(node, ast.AnnAssign):
            parts = [node.annotation]
        elif isinstance(node, ast.Assert | ast.JoinedStr):
            parts = [node]
        elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            parts = [*node.exc.args]
        elif isinstance(node, ast.Expr):
            text = ast.unparse(node)
            if isinstance(node.value, ast.Constant) or text.startswith("logger."):
                parts = [node]
        for part in parts:
            found |= {id(inner) for inner in ast.walk(part)} if part is not None else set()
    return found


def changes(node: ast.AST) -> Iterator[tuple[str, int | None, Any]]:
    """What can be changed here: a field, a place in it, and the node whose lines count."""
    if isinstance(node, ast.Compare):
        yield from (("ops", at, node) for at, op in enumerate(node.ops) if type(op) in SWAPS)
    elif isinstance(node, ast.BoolOp | ast.BinOp | ast.AugAssign):
        if type(node.op) in SWAPS:
            yield "op", None, node
    elif isinstance(node, ast.UnaryOp):
        if isinstance(node.op, ast.Not):
            yield "operand", None, node
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, int | float):
            yield "value", None, node
    elif isinstance(node, ast.Name):
        if node.id in OTHER_NAMES and isinstance(node.ctx, ast.Load):
            yield "id", None, node
    elif isinstance(node, ast.Return):
        if node.value is not None and not isinstance(node.value, ast.Constant):
            yield "value", None, node
    elif isinstance(node, ast.If | ast.IfExp):
        yield "test", None, node.test
    for name in ("body", "orelse", "finalbody"):
        block = getattr(node, name, None)
        if isinstance(block, list):
            for at, statement in enumerate(block):
                if isinstance(statement, REMOVABLE):
                    yield name, at, statement


def mutated(module: Module, mutant: Mutant) -> tuple[ast.Module, str]:
    """The module with the change, and the change in words."""
    tree = copy.deepcopy(module.tree)
    function = list(functions(tree))[mutant.function]
    node: Any = list(ast.walk(function))[mutant.node]
    what, at = mutant.what, mutant.at
    shown = getattr(node, what)[at] if what in ("body", "orelse", "finalbody") else node
    before = ast.unparse(shown).splitlines()[0]
    if what == "ops":
        node.ops[at] = SWAPS[type(node.ops[at])]()
    elif what == "op":
        node.op = SWAPS[type(node.op)]()
    elif what == "operand":
        node.operand = ast.UnaryOp(ast.Not(), node.operand)
    elif what == "id":
        node.id = OTHER_NAMES[node.id]
    elif what == "test":
        node.test = ast.UnaryOp(ast.Not(), node.test)
    elif what == "value" and isinstance(node, ast.Constant):
        was: Any = node.value
        node.value = not was if isinstance(was, bool) else was + 1
    elif what == "value":
        node.value = ast.Constant(None)
    else:
        getattr(node, what)[at] = shown = ast.Pass()
    ast.fix_missing_locations(tree)
    return tree, f"{before}  ->  {ast.unparse(shown).splitlines()[0]}"


def code_of(code: CodeType, name: str, line: int) -> CodeType | None:
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            if inner.co_name == name and inner.co_firstlineno == line:
                return inner
            if (found := code_of(inner, name, line)) is not None:
                return found
    return None


def put_in(module: Module, tree: ast.Module, mutant: Mutant) -> None:
    """Every function object of the mutated function gets the other code."""
    function = module.functions[mutant.function]
    first = min([function.lineno, *(one.lineno for one in function.decorator_list)])
    file = str(ROOT / module.path)
    code = code_of(compile(tree, file, "exec"), function.name, first)
    assert code is not None
    for thing in gc.get_objects():
        if isinstance(thing, FunctionType):
            old = thing.__code__
            if (old.co_filename, old.co_firstlineno, old.co_name) == (file, first, function.name):
                thing.__code__ = code


class Mutation:
    """The pytest plugin: its test loop is the whole run."""

    def __init__(self, modules: Sequence[Module], args: argparse.Namespace) -> None:
        self._modules = {module.path: module for module in modules}
        self._args = args
        self._items: list[pytest.Item] = []
        self._reach: dict[int, set[tuple[str, int]]] = {}  # by item: the lines it runs
        self._seconds: dict[int, float] = {}
        self.counts: Counter[str] = Counter()
        self._report: Any = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        from hypothesis import Phase, settings  # not before pytest has looked at its plugins

        # A failure is enough; how small it can be made does not matter here.
        phases = [Phase.explicit, Phase.generate]
        settings.register_profile(
            "mutate", deadline=None, database=None, derandomize=True, phases=phases
        )
        settings.load_profile("mutate")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self._report is not None:
            self._report(report)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            raise session.Interrupted("the tests cannot be collected")
        self._items = session.items
        if not self._args.verbose:
            session.config.pluginmanager.unregister(name="terminalreporter")
        status, data = self._fork(self._survey, 20 * MINUTE)
        if status != "survived":
            raise session.Interrupted("the tests fail as it is")
        self._reach, self._seconds = pickle.loads(data)  # noqa: S301 - our own child
        every = [one for module in self._modules.values() for one in module.mutants]
        rng = random.Random(self._args.seed)
        chosen = sorted(rng.sample(range(len(every)), round(self._args.share * len(every))))
        say(f"{len(every)} mutants, {len(chosen)} chosen; {len(self._items)} tests")
        end = time.monotonic() + self._args.minutes * MINUTE
        rng.shuffle(chosen)
        for number in chosen:
            if time.monotonic() > end:
                say("time is up")
                break
            self._try(every[number])
        return True

    def _try(self, mutant: Mutant) -> None:
        module = self._modules[mutant.path]
        tree, words = mutated(module, mutant)
        lines = {(mutant.path, line) for line in range(mutant.line, mutant.end + 1)}
        tests = [n for n in range(len(self._items)) if self._reach[n] & lines]
        status = "unreached"
        if tests:
            tests.sort(key=self._seconds.__getitem__)
            usual = sum(self._seconds[n] for n in tests)

            def run() -> bytes:
                most = round(self._args.patience + 2 * usual)  # of the processor's, not the clock's
                resource.setrlimit(resource.RLIMIT_CPU, (most, most))
                put_in(module, tree, mutant)
                self._report = lambda report: os._exit(1) if report.failed else None
                self._run(tests)
                return b""

            status, _ = self._fork(run, MINUTE + 20 * usual)
        self.counts[status] += 1
        if status not in ("killed", "too slow"):
            say(f"{status}: {mutant.path}:{mutant.line}: {words}")

    def _survey(self) -> bytes:
        """Which lines each test runs, and how long it takes."""
        reach: dict[int, set[tuple[str, int]]] = {}
        seconds: dict[int, float] = {}
        files = {str(ROOT / path): path for path in self._modules}
        lines: set[tuple[str, int]] = set()

        def at_line(frame: FrameType, event: str, _: object) -> Any:
            lines.add((files[frame.f_code.co_filename], frame.f_lineno))
            return at_line

        def at_call(frame: FrameType, event: str, _: object) -> Any:
            return at_line if frame.f_code.co_filename in files else None

        def failed(report: pytest.TestReport) -> None:
            if report.failed:
                say(f"{report.nodeid}\n{report.longreprtext}")
                os._exit(1)

        self._report = failed
        for number in range(len(self._items)):
            lines = reach[number] = set()
            start = time.process_time()
            threading.settrace(at_call)
            sys.settrace(at_call)
            self._run([number])
            sys.settrace(None)
            seconds[number] = time.process_time() - start
        return pickle.dumps((reach, seconds))

    def _run(self, tests: Sequence[int]) -> None:
        items = [self._items[n] for n in tests]
        for item, after in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)

    def _fork(self, work: Any, patience: float) -> tuple[str, bytes]:
        """How `work` ended in a process of its own, and what it returned."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            os.setsid()
            if not self._args.verbose:
                quiet = os.open(os.devnull, os.O_RDWR)
                for fd in (1, 2):
                    os.dup2(quiet, fd)
            code = 1
            try:
                with os.fdopen(writing, "wb") as pipe:
                    pipe.write(work())
                code = 0
            finally:
                os._exit(code)
        os.close(writing)
        data, end = b"", time.monotonic() + patience
        with os.fdopen(reading, "rb", buffering=0) as pipe:
            while ready := select.select([pipe], [], [], max(0.0, end - time.monotonic()))[0]:
                if not (part := pipe.read(1 << 20)):
                    break
                data += part
        if not ready:
            os.killpg(child, signal.SIGKILL)
        code = os.waitpid(child, 0)[1]
        slow = not ready or os.WIFSIGNALED(code)
        return ("too slow" if slow else "killed" if code else "survived"), data


def say(text: str) -> None:
    os.write(OUT, text.encode() + b"\n")


OUT = os.dup(1)


def main() -> int:
    parser = argparse.ArgumentParser(description="Run tests against small faults.")
    parser.add_argument("modules", nargs="+", help="files of the package")
    parser.add_argument("--tests", nargs="+", required=True, help="files and folders of tests")
    parser.add_argument("--share", type=float, default=1.0, help="of the mutants (default 1)")
    parser.add_argument("--seed", type=int, default=1, help="which ones those are (default 1)")
    parser.add_argument("--minutes", type=float, default=1e6, help="stop after so many")
    parser.add_argument("--patience", type=float, default=3.0, help="seconds besides the usual")
    parser.add_argument("--verbose", action="store_true", help="what the tests print")
    args = parser.parse_args()
    os.chdir(ROOT)
    modules = [load(os.path.relpath(path, ROOT)) for path in args.modules]
    plugin = Mutation(modules, args)
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "faulthandler_timeout=0"]
    code = pytest.main([*options, *args.tests], plugins=[plugin])
    tried = sum(plugin.counts.values())
    say(f"{tried} tried: " + ", ".join(f"{n} {what}" for what, n in plugin.counts.most_common()))
    return int(code) if not tried else 0


if __name__ == "__main__":
    sys.exit(main())
