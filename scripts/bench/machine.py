"""What a figure depends on besides the programs: the interpreter's build and the machine's load."""

from __future__ import annotations

import os
import platform
import sysconfig


def machine(load_before: float) -> str:
    """A line about this machine and this interpreter. `load_before`: `load` when the run began."""
    build = build_of(str(sysconfig.get_config_var("CONFIG_ARGS") or ""))
    return (
        f"Python {platform.python_version()} ({build}), {cores()} cores,"
        f" load {load_before:.1f} before and {load():.1f} after"
    )


def build_of(config_args: str) -> str:
    """How an interpreter was built, from the arguments of its `configure`. Some distributions train
    theirs without saying so there."""
    optimized = "--enable-optimizations" in config_args
    lto = "--with-lto" in config_args
    said = "with PGO" if optimized else "PGO not said" if config_args else "build unknown"
    return f"{said}, LTO" if lto else said


def load() -> float:
    """Processes that wanted to run in the last minute, on average; NaN where it is not told."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return float("nan")


def cores() -> int:
    """Those that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1
