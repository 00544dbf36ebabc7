"""Files with known random content, and comparing two trees byte for byte."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

KIB = 1024
MIB = 1024 * 1024


def make_file(path: Path, size: int, seed: int = 1) -> Path:
    """A file of `size` random bytes; the same seed gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(random.Random(seed).randbytes(size))
    return path


def make_tree(root: Path, files: Mapping[str, int], seed: int = 1) -> Path:
    """A folder with `files` (relative path: size) of random bytes."""
    for i, (name, size) in enumerate(files.items()):
        make_file(root / name, size, seed * 1000 + i)
    return root


def read_tree(path: Path) -> dict[str, bytes]:
    """Relative path to content, of a folder or of one file (whose relative path is its name)."""
    if path.is_file():
        return {path.name: path.read_bytes()}
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def differences(left: Path, right: Path) -> list[str]:
    """What is not the same in two trees; empty when all is well."""
    a, b = read_tree(left), read_tree(right)
    wrong = [f"missing: {name}" for name in sorted(a.keys() - b.keys())]
    wrong += [f"extra: {name}" for name in sorted(b.keys() - a.keys())]
    wrong += [f"differs: {name}" for name in sorted(a.keys() & b.keys()) if a[name] != b[name]]
    return wrong
