"""The API reference and the guide that are made from docstrings."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

import dht_torrent
from dht_torrent import engine
from tests.helpers.scripts import run


def test_the_reference_is_made_without_a_warning(tmp_path: Path) -> None:
    done = run("docs.py", "--out", str(tmp_path), patience=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{tmp_path / 'index.html'}\n"
    page = (tmp_path / "dht_torrent.html").read_text()
    for name in dht_torrent.__all__:
        assert f'id="{name}"' in page
    guide = page[page.index('<h2 id="to-change-something">') :]
    assert guide.index("<table>") < 100
    for place in ("engine/torrent/torrent", "storage/files", "dht/krpc", "cli/main", "trace"):
        assert (tmp_path / "dht_torrent" / f"{place}.html").exists()
    assert not (tmp_path / "dht_torrent" / "__main__.html").exists()


def mentioned(docstring: str | None) -> set[str]:
    """What looks like one of our modules in a docstring."""
    parts = ("catalogue|cli|daemon|dht|engine|lab|peer|search|storage|torrent", r"(?:\.\w+)+")
    dotted = re.findall(rf"(?<![\w./])(?:{parts[0]}){parts[1]}\b(?!\()", docstring or "")
    return {name for name in dotted if not name.endswith((".py", ".torrent"))}


@pytest.mark.parametrize("page", [dht_torrent, engine])
def test_every_module_the_guide_names_exists(page: object) -> None:
    names = mentioned(page.__doc__)
    assert len(names) > 15
    assert [n for n in sorted(names) if importlib.util.find_spec(f"dht_torrent.{n}") is None] == []
