"""The notebooks run from end to end on whatever the studies write today; what is kept of them is
what a reader is shown."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from dht_torrent.lab.studies.results import Results

ROOT = Path(__file__).resolve().parent.parent.parent
NOTEBOOKS = ROOT / "notebooks"
BOOKS = [
    "alike_and_followed",
    "churn_and_attack",
    "how_a_swarm_spreads",
    "lookups_and_scale",
    "search",
]


def cells(book: Path, kind: str) -> list[str]:
    return [
        "".join(cell["source"])
        for cell in json.loads(book.read_text())["cells"]
        if cell["cell_type"] == kind
    ]


def outputs(book: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for cell in json.loads(book.read_text())["cells"]:
        found += cell.get("outputs", [])
    return found


def drawn(book: Path) -> list[str]:
    """The names of the figures it draws."""
    names = re.findall(r'^show\(\w+, "(\w+)"\)', "\n".join(cells(book, "code")), re.MULTILINE)
    return [str(name) for name in names]


def shown(book: Path, kind: str) -> list[str]:
    """What it shows: figures (image/svg+xml), or what it prints (text)."""
    found = []
    for output in outputs(book):
        data = output.get("data")
        text = output.get("text") if kind == "text" else None
        if isinstance(data, dict):
            text = data.get(kind)
        if isinstance(text, list):
            found.append("".join(text))
    return found


def notebooks(home: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run the script that makes them, with nobody's settings."""
    environment = {**os.environ, "HOME": str(home)}
    for name in ("LAB_RESULTS", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR"):
        environment.pop(name, None)
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts/notebooks.py"), *flags],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_all_notebooks_run_on_a_small_network(tmp_path: Path) -> None:
    to = tmp_path / "drawn"
    done = notebooks(tmp_path, "--small", "--jobs", "2", "--to", str(to))
    assert done.returncode == 0, done.stderr
    for name in BOOKS:
        book = to / f"{name}.ipynb"
        assert drawn(book), "a notebook without figures"
        for figure in drawn(book):
            root = ET.parse(to / "figures" / f"{figure}.svg").getroot()
            assert root.tag.endswith("svg")
            assert sum(1 for _ in root.iter("{http://www.w3.org/2000/svg}path")) > 10
        assert not [output for output in outputs(book) if output.get("name") == "stderr"]
        assert str(tmp_path) not in book.read_text()


@pytest.mark.parametrize("flags", [["--small"], ["--only", "everything"], ["--jobs", "0"]])
def test_flags_that_make_no_sense_are_refused_at_once(tmp_path: Path, flags: list[str]) -> None:
    done = notebooks(tmp_path, *flags)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("notebooks.py: error: ")


def test_the_list_of_notebooks_is_complete() -> None:
    assert sorted(BOOKS) == sorted(book.stem for book in NOTEBOOKS.glob("*.ipynb"))


@pytest.mark.parametrize("name", BOOKS)
def test_what_is_kept_was_drawn_from_the_results_that_are_kept(name: str) -> None:
    book = NOTEBOOKS / f"{name}.ipynb"
    printed = "".join(shown(book, "text"))
    results = Results(NOTEBOOKS / "results")
    named = re.findall(r'results\.commands\("(\w+)"\)', "\n".join(cells(book, "code")))
    assert named
    for result in named:
        assert results.commands(result) in printed


@pytest.mark.parametrize("name", BOOKS)
def test_the_figures_beside_a_notebook_are_those_in_it(name: str) -> None:
    book = NOTEBOOKS / f"{name}.ipynb"
    beside = [(NOTEBOOKS / "figures" / f"{figure}.svg").read_text() for figure in drawn(book)]
    within = shown(book, "image/svg+xml")
    assert [ET.canonicalize(svg) for svg in within] == [ET.canonicalize(svg) for svg in beside]


@pytest.mark.parametrize("name", BOOKS)
def test_no_notebook_tells_where_it_ran(name: str) -> None:
    text = (NOTEBOOKS / f"{name}.ipynb").read_text()
    assert str(ROOT) not in text
    assert not re.search(r"/(home|root|Users|tmp|work)/", text)


def test_what_is_kept_is_small() -> None:
    for path in (NOTEBOOKS / "results").glob("*.csv"):
        assert path.stat().st_size < 200_000, path.name


def test_the_readme_shows_figures_that_exist_and_says_what_they_show() -> None:
    readme = (ROOT / "README.md").read_text()
    images = re.findall(r"!\[(.*?)\]\((notebooks/.*?)\)", readme, re.DOTALL)
    assert [path.endswith(".svg") for _, path in images].count(True) == 3
    for words, path in images:
        assert len(words) > 30
        assert (ROOT / path).is_file()
