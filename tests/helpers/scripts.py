"""The scripts, run as people run them: each in a process of its own."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"
PATIENCE = 60.0
"""Seconds after which a script is killed."""


def start(name: str, *flags: str, **environment: str) -> subprocess.Popen[str]:
    """To be waited for, or killed, by who started it."""
    return subprocess.Popen(
        [sys.executable, str(SCRIPTS / name), *flags],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(
    name: str, *flags: str, hash_seed: str = "0", patience: float = PATIENCE
) -> subprocess.CompletedProcess[str]:
    with start(name, *flags, PYTHONHASHSEED=hash_seed) as process:
        try:
            said, complaints = process.communicate(timeout=patience)
        finally:
            process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, said, complaints)


def study(name: str, out: Path, *flags: str, hash_seed: str = "0") -> Any:
    """What a study that writes its rows to `out` says with --json."""
    done = run(name, "--out", str(out), "--json", *flags, hash_seed=hash_seed)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def load(name: str) -> ModuleType:
    """What a script defines, without a run of it."""
    module_name = f"{name.removesuffix('.py')}_script"
    spec = importlib.util.spec_from_file_location(module_name, SCRIPTS / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # where its dataclasses look for themselves
    spec.loader.exec_module(module)
    return module
