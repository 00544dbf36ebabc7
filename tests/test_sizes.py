"""A module is small enough to hold in the head."""

from __future__ import annotations

from pathlib import Path
from statistics import median

ROOT = Path(__file__).parent.parent / "dht_torrent"
MEDIAN = 200
LONGEST = 500


def lines() -> dict[str, int]:
    return {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in sorted(ROOT.rglob("*.py"))
    }


def test_half_of_the_modules_have_less_than_two_hundred_lines() -> None:
    assert median(lines().values()) < MEDIAN


def test_no_module_is_longer_than_five_hundred_lines() -> None:
    sizes = lines()
    assert len(sizes) > 200  # they were found
    assert {name: size for name, size in sizes.items() if size > LONGEST} == {}
