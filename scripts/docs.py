"""Makes the API reference, and the guide for those who come to change the code, from the
docstrings.

    python scripts/docs.py                      # into build/docs; open build/docs/index.html
    python scripts/docs.py --out elsewhere

Any warning is an error: a docstring that cannot be rendered, an annotation that cannot be resolved.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def modules() -> list[str]:
    """What pdoc is to be given. It finds modules by itself, but none in a package that says what
    its public names are: those are named here."""
    names = ["dht_torrent"]
    for module in pkgutil.walk_packages([str(ROOT / "dht_torrent")], "dht_torrent."):
        if module.name == "dht_torrent.__main__":
            continue  # it runs the command line
        importlib.import_module(module.name)
        if hasattr(sys.modules[module.name.rpartition(".")[0]], "__all__"):
            names.append(module.name)
    return names


def place_named_tuples() -> None:
    """Say where the constructors of named tuples come from: Python names a module that does not
    exist, and pdoc looks there for the types."""
    for module in [module for name, module in sys.modules.items() if is_ours(name)]:
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, tuple) and hasattr(value, "_fields"):
                value.__new__.__module__ = value.__module__


def is_ours(name: str) -> bool:
    """Whether this is a module of the package."""
    return name.partition(".")[0] == "dht_torrent"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "docs", help="the folder")
    out: Path = parser.parse_args(arguments).out
    sys.path.insert(0, str(ROOT))
    try:
        import pdoc
        import pdoc.render
    except ImportError:
        sys.exit("docs.py: pdoc is not installed; pip install --editable '.[test]' brings it")
    given = modules()
    place_named_tuples()
    warnings.simplefilter("error")
    sys.setrecursionlimit(10_000)  # pdoc reads its search index, a tree of letters, by recursion
    pdoc.render.configure(docformat="markdown", show_source=False, footer_text="dht_torrent")
    try:
        pdoc.pdoc(*given, output_directory=out)
    except Warning as warning:
        sys.exit(f"docs.py: {warning}")
    sys.stdout.write(f"{out / 'index.html'}\n")


if __name__ == "__main__":
    main()
