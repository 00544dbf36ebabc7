"""The script that takes the README's pictures: it still finds what it shows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tests.helpers.scripts import run

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.xdist_group("page")


def test_each_picture_is_taken_and_shows_something(browser: Browser, tmp_path: Path) -> None:
    """`browser`: where there is none, there are no pictures."""
    done = run("screenshots.py", "--quick", "--out", str(tmp_path), patience=120)
    assert (done.returncode, done.stderr) == (0, "")
    taken = {path.stem: path for path in tmp_path.iterdir()}
    desktop = {
        f"{name}{kind}"
        for name in ("torrents", "torrent", "search", "dht")
        for kind in ("", "-dark")
    }
    assert taken.keys() == desktop | {"torrents-phone", "dht-phone"}
    for name, path in taken.items():
        with Image.open(path) as image:
            assert image.size == ((780, 1688) if name.endswith("-phone") else (1280, 800))
            assert len(image.convert("RGB").getcolors(1 << 24) or ()) > 500, name
