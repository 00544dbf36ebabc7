"""A node, and a browser that has nothing to complain about."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from dht_torrent.daemon.client import connect
from tests.cli.test_main import daemon
from tests.helpers.clients import missing
from tests.page.pages import DESKTOP, PATIENCE, Opens, Running, go

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("page")
    (folder / "seed").mkdir()
    content = folder / "seed" / "A film for everybody"
    content.mkdir()
    (content / "film.mkv").write_bytes(os.urandom(3_000_000))
    (content / "notes.txt").write_bytes(b"text")
    ours, theirs = folder / "ours" / "state", folder / "theirs" / "state"
    web = ("--bootstrap", "none", "--web", "127.0.0.1:0")
    with (
        daemon(ours, *web, patience=240) as (process, _),
        daemon(theirs, patience=240) as (_, ready),
    ):
        told = re.search(r"the page is at (\S+)", process.error_line())
        assert told is not None
        with connect(ours) as client, connect(theirs) as seed:
            shared = seed.share(content)
            yield Running(told[1], client, seed, f"{shared['magnet']}&x.pe={ready[1]}", folder)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        from playwright.sync_api import expect, sync_playwright
    except ModuleNotFoundError:
        missing("Playwright is not installed: pip install '.[browser]'")
    path = shutil.which("chromium")
    if path is None:
        missing("chromium is not installed")
    with sync_playwright() as playwright:
        expect.set_options(timeout=PATIENCE)
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opens(running: Running, browser: Browser) -> Iterator[Opens]:
    """Opens the page in a browser of its own, which must have nothing to complain about, save that
    the node refused what it should."""
    complaints: list[str] = []
    contexts = []

    def heard(said: ConsoleMessage) -> None:
        if said.type in ("error", "warning") and "status of 400" not in said.text:
            complaints.append(said.text)

    def open_page(where: str = "#/", **options: Any) -> Page:
        options.setdefault("viewport", DESKTOP)
        context = browser.new_context(**options)
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("console", heard)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda shown: complaints.append(shown.message))
        page.goto(running.link)
        go(page, where)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
