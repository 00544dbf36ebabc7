"""A peer's state is changed in one place: only `engine.torrent.peer` sets fields of a `Peer`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ENGINE = Path(__file__).parents[3] / "dht_torrent" / "engine"
HOME = ENGINE / "torrent" / "peer.py"
CHANGING = {
    *("add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popleft"),
    *("remove", "setdefault", "update"),
}
"""Methods that change a list, a set or a dict."""
OTHERS = {"self", "cls"}


def fields() -> dict[str, bool]:
    """The fields of `Peer`, and whether each is a container."""
    (made,) = [
        node
        for peer in ast.parse(HOME.read_text(encoding="utf-8")).body
        if isinstance(peer, ast.ClassDef) and peer.name == "Peer"
        for node in peer.body
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    ]
    return {
        target.attr: isinstance(node, ast.AnnAssign)
        and ast.unparse(node.annotation).partition("[")[0] in ("dict", "set", "list", "deque")
        for node in made.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Attribute)
    }


def changes(source: str) -> Iterator[str]:
    """Where the fields of a peer are set, deleted or, if they are containers, changed."""
    known = fields()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=owner, attr=name, ctx=ast.Store() | ast.Del()):
                found = name in known
            case ast.Subscript(
                value=ast.Attribute(value=owner, attr=name), ctx=ast.Store() | ast.Del()
            ):
                found = known.get(name, False)
            case ast.Call(func=ast.Attribute(value=ast.Attribute(value=owner, attr=name), attr=to)):
                found = known.get(name, False) and to in CHANGING
            case _:
                continue
        if found and ast.unparse(owner) not in OTHERS:
            yield f"line {node.lineno}: {ast.unparse(node)}"


def modules() -> list[Path]:
    """Those that may hold a peer."""
    return [
        path
        for path in sorted(ENGINE.rglob("*.py"))
        if path != HOME and path.relative_to(ENGINE).parts[0] not in ("dht", "net", "search")
    ]


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.stem)
def test_only_the_peer_changes_its_state(path: Path) -> None:
    assert list(changes(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "line",
    [
        "peer.optimistic = True",
        "self._peers[key].optimistic = True",
        "peer.uploaded += 1",
        "cancels, peer.cancels = peer.cancels, []",
        "del peer.fast_blocks_served[3]",
        "peer.fast_blocks_served[3] = 1",
        "peer.allowed_to_us.add(3)",
        "for peer.why in reasons: pass",
        "peer.asked = RequestQueue()",
    ],
)
def test_a_change_from_outside_is_found(line: str) -> None:
    assert len(list(changes(line))) == 1


@pytest.mark.parametrize(
    "line",
    [
        "self.optimistic = True",
        "peer.asked.add(*block)",
        "peer.liveness.answered()",
        "peer.hold_optimistic_slot(True)",
        "count = peer.fast_blocks_served[3]",
        "task.deadline = 3",
    ],
)
def test_what_is_allowed_passes(line: str) -> None:
    assert list(changes(line)) == []
