"""What can be done with torrents on the page, and what becomes of it when its node goes away."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import struct
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dht_torrent.daemon.client import connect
from tests.cli.test_main import daemon
from tests.page.pages import DESKTOP, NODE, Opens, Running, becomes, go, row, streams

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

with contextlib.suppress(ModuleNotFoundError):
    from playwright.sync_api import expect

pytestmark = pytest.mark.xdist_group("page")
NAMES = ("Alpha", "Beta", "Gamma", "Delta")


@pytest.fixture
def ids(running: Running) -> Iterator[dict[str, str]]:
    """Torrents of these names, in the queue in this order."""
    ids = {}
    for name in NAMES:
        path = running.folder / "ours" / f"{name} {os.urandom(3).hex()}"
        path.write_bytes(os.urandom(50_000))
        ids[name] = running.client.share(path)["id"]
    yield ids
    for one in running.client.torrents():
        running.client.remove(one["id"], data=True)


def shown(page: Page) -> list[str]:
    """The names in the list, from the top."""
    return [text.split()[0] for text in page.locator(".item .name").all_text_contents()]


def item(page: Page, name: str) -> Locator:
    return page.get_by_role("listitem").filter(has_text=name)


def offers(page: Page, name: str) -> None:
    item(page, name).get_by_role("button", name="More for").click()


def is_shown(page: Page, *names: str) -> None:
    """In this order, sooner or later."""
    expect(page.locator(".item .name")).to_have_text([re.compile(name) for name in names])


def test_torrents_are_moved_in_the_queue_alone_and_together(
    ids: dict[str, str], opens: Opens
) -> None:
    page = opens()
    page.get_by_label("Order").select_option("queue")
    is_shown(page, "Alpha", "Beta", "Gamma", "Delta")
    offers(page, "Delta")
    page.get_by_role("menuitem", name="To the top of the queue").click()
    is_shown(page, "Delta", "Alpha", "Beta", "Gamma")
    page.get_by_role("menuitem", name="Down in the queue").click()  # the menu is still there
    is_shown(page, "Alpha", "Delta", "Beta", "Gamma")
    page.keyboard.press("Escape")
    item(page, "Alpha").focus()
    page.keyboard.press(" ")
    item(page, "Beta").get_by_role("checkbox").check(force=True)
    page.get_by_role("toolbar", name="Selected").get_by_role("button", name="More").click()
    page.get_by_role("menuitem", name="Up in the queue").click()
    is_shown(page, "Alpha", "Beta", "Delta", "Gamma")  # who is at the top stays there
    page.get_by_role("menuitem", name="To the bottom of the queue").click()
    is_shown(page, "Delta", "Gamma", "Alpha", "Beta")
    page.keyboard.press("Escape")
    item(page, "Alpha").focus()
    page.keyboard.press("+")
    is_shown(page, "Delta", "Alpha", "Beta", "Gamma")


def test_several_are_labelled_each_keeping_what_it_has_besides(
    running: Running, ids: dict[str, str], opens: Opens
) -> None:
    page = opens()
    is_shown(page, "Delta", "Gamma", "Beta", "Alpha")
    running.client.keep(ids["Alpha"], "labels", labels=["old", "mine"])
    running.client.keep(ids["Beta"], "labels", labels=["old"])
    expect(item(page, "Beta")).to_contain_text("old")
    expect(item(page, "Alpha")).to_contain_text("mine")
    item(page, "Alpha").get_by_role("checkbox").check(force=True)
    item(page, "Beta").get_by_role("checkbox").check(force=True)
    page.get_by_role("toolbar", name="Selected").get_by_role("button", name="More").click()
    page.get_by_role("menuitem", name="Labels").click()
    expect(page.get_by_label("Words to find it by")).to_have_value("old")
    page.get_by_label("Words to find it by").fill("new")
    page.get_by_role("button", name="Set").click()
    becomes(page, lambda: running.client.torrent(ids["Alpha"])["labels"], ["mine", "new"])
    becomes(page, lambda: running.client.torrent(ids["Beta"])["labels"], ["new"])
    page.get_by_label("Label", exact=True).select_option("new")
    is_shown(page, "Beta", "Alpha")
    page.keyboard.press("Escape")
    item(page, "Alpha").focus()
    page.keyboard.press("Control+a")
    expect(page.get_by_role("toolbar", name="Selected")).to_contain_text("2 selected")


def test_a_torrent_is_renamed_limited_by_ratio_and_saved(
    running: Running, ids: dict[str, str], opens: Opens
) -> None:
    page = opens("#/torrent/" + ids["Alpha"])
    expect(page.get_by_role("heading", level=1)).to_contain_text("Alpha")
    page.get_by_role("button", name="More").click()
    with page.expect_download() as saved:
        page.get_by_role("menuitem", name="Save .torrent").click()
    assert saved.value.path().read_bytes() == running.client.torrent_file(ids["Alpha"])
    page.get_by_role("button", name="More").click()
    page.get_by_role("menuitem", name="Rename").click()
    page.get_by_label("What others know").fill("Omega.bin")
    page.get_by_role("button", name="Rename", exact=True).last.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Omega.bin")
    page.get_by_role("button", name="More").click()
    page.get_by_role("menuitem", name="Shared enough").click()
    page.get_by_label("Ratio: bytes").select_option("own")
    page.get_by_label("Its own ratio").fill("1.5")
    page.get_by_role("button", name="Set").click()
    expect(page.get_by_text("at ratio 1.5 it is paused")).to_be_visible()
    page.get_by_role("button", name="More").click()
    page.get_by_role("menuitem", name="Recheck").click()
    expect(page.locator(".torrent-head .state")).to_have_text("Seeding")


def test_the_alternative_limits_are_set_and_switched(running: Running, opens: Opens) -> None:
    page = opens()
    page.get_by_role("button", name="No limit").click()
    page.get_by_label("Send, KiB/s").fill("20")
    page.get_by_label("By the clock").fill("never 09:00-17:00")
    page.get_by_role("button", name="Set").click()
    slow = page.get_by_role("button", name="Slow mode")
    slow.click()
    expect(slow).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("button", name="↑ 20.0 KiB/s")).to_be_visible()
    status = running.client.status()
    assert (status["alternative"], status["limit_up"]) == (True, 20 * 1024)
    assert status["limit_down"] == 50_000  # not what its whole KiB would make of it
    slow.click()
    expect(page.get_by_role("button", name="No limit")).to_be_visible()


def test_the_priorities_of_several_files_are_set_at_once_and_one_is_renamed(
    running: Running, opens: Opens
) -> None:
    folder = running.folder / "ours" / "Album"
    folder.mkdir()
    for number in range(8):
        (folder / f"{number}.flac").write_bytes(os.urandom(20_000))
    torrent = running.client.share(folder)["id"]
    page = opens("#/torrent/" + torrent)
    box = page.get_by_label("Select 1.flac")
    box.check()
    page.get_by_label("Select 4.flac").click(modifiers=["Shift"])
    page.get_by_label("Select 6.flac").check()
    tools = page.get_by_role("toolbar", name="Priority")
    expect(tools).to_contain_text("5 files selected")
    tools.get_by_role("button", name="High").click()

    def priorities() -> list[int]:
        return [file["priority"] for file in running.client.files(torrent)]

    becomes(page, priorities, [0, 1, 1, 1, 1, 0, 1, 0])
    expect(page.get_by_label("Priority of 2.flac")).to_have_value("high")
    page.get_by_label("Select all files").check()
    tools.get_by_role("button", name="Skip").click()

    def wanted() -> set[bool]:
        return {file["selected"] for file in running.client.files(torrent)}

    becomes(page, wanted, {False})
    page.get_by_label("Rename 3.flac").click()
    page.get_by_label("What others know").fill("three.flac")
    page.get_by_role("button", name="Rename", exact=True).last.click()
    expect(page.get_by_role("row").filter(has_text="three.flac")).to_be_visible()
    assert (folder / "three.flac").exists()
    running.client.remove(torrent, data=True)


def test_a_file_is_played_and_saved_in_the_browser(running: Running, opens: Opens) -> None:
    path = running.folder / "ours" / "tone.wav"
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(b"".join(struct.pack("<h", 300 * (n % 40)) for n in range(80_000)))
    torrent = running.client.share(path)["id"]
    page = opens("#/torrent/" + torrent)
    with page.expect_download() as saved:
        page.get_by_label("Save tone.wav").click()
    assert saved.value.suggested_filename == "tone.wav"
    assert saved.value.path().read_bytes() == path.read_bytes()
    with page.context.expect_page() as opened:
        page.get_by_label("Play tone.wav").click()
    player = opened.value
    becomes(player, "document.querySelector('video, audio')?.readyState", 4)
    assert player.evaluate("document.querySelector('video, audio').duration") == 10
    player.close()
    running.client.remove(torrent, data=True)


def test_what_only_waits_for_its_turn_is_not_stuck(opens: Opens) -> None:
    page = opens()
    whys = {"queued": "its turn", "moving": "is being moved", "downloading": "no peers"}
    rows = {
        f"{number:040x}": row(number, state=state, why=why)
        for number, (state, why) in enumerate(whys.items())
    }
    streams(page, {"": NODE} | rows)
    page.get_by_role("button", name=re.compile("^Stuck")).click()
    is_shown(page, "Torrent 0002")


def test_a_page_that_hears_nothing_for_long_connects_again(opens: Opens) -> None:
    """As after a sleep of the computer: the browser itself would wait for ever."""
    page = opens()
    page.clock.install()
    streams(page, {"": NODE, "ab" * 20: row(1)})
    page.clock.run_for(1000)
    expect(page.get_by_role("listitem")).to_have_count(1)
    page.evaluate("window.before = window.tellAll")
    page.clock.run_for(39_000)
    assert page.evaluate("before === tellAll")  # so long it may be silent
    page.clock.run_for(5_000)
    assert page.evaluate("before !== tellAll")
    expect(page.get_by_role("status").filter(has_text="does not answer")).to_have_count(0)


def test_a_page_that_was_hidden_for_long_is_up_to_date_when_it_is_seen(
    running: Running, ids: dict[str, str], opens: Opens
) -> None:
    page = opens()
    is_shown(page, "Delta", "Gamma", "Beta", "Alpha")
    page.clock.install()
    page.reload()
    page.clock.resume()
    is_shown(page, "Delta", "Gamma", "Beta", "Alpha")
    see = """hidden => {
      Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});
      document.dispatchEvent(new Event('visibilitychange'));
    }"""
    page.evaluate(see, True)
    page.clock.run_for(120_000)
    running.client.remove(ids["Beta"])
    page.evaluate(see, False)
    page.clock.resume()
    is_shown(page, "Delta", "Gamma", "Alpha")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_page_whose_node_goes_away_says_so_and_what_to_do_when_it_is_back(
    how: signal.Signals, browser: Browser, tmp_path: Path
) -> None:
    state, web = tmp_path / "state", ("--bootstrap", "none", "--web")
    (tmp_path / "film.mkv").write_bytes(bytes(1000))
    context = browser.new_context(viewport=DESKTOP)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    with daemon(state, *web, "127.0.0.1:0", patience=120) as (process, _):
        link = _link(process.error_line())
        with connect(state) as client:
            client.share(tmp_path / "film.mkv")
        page.goto(link)
        expect(page.get_by_role("listitem")).to_have_count(1)
        loaded = "performance.getEntriesByType('resource').some(one => /dht.js$/.test(one.name))"
        becomes(page, loaded, True)
        process.end(how)
        notice = page.get_by_role("status").filter(has_text="The node does not answer")
        expect(notice).to_be_visible()
        expect(page.get_by_role("listitem")).to_have_count(1)  # as it was
        go(page, "#/search/%")
        go(page, "#/dht")
        expect(notice).to_be_visible()
        go(page, "#/")
    address = link.partition("//")[2].partition("/")[0]
    with daemon(state, *web, address, patience=120) as (process, _):
        expect(page.get_by_text("dhtnode web")).to_be_visible()  # its secret is another one
        page.goto(_link(process.error_line()))
        expect(page.get_by_role("listitem")).to_have_count(1)
        expect(notice).to_be_hidden()
    context.close()
    assert errors == []


def _link(line: str) -> str:
    told = re.search(r"the page is at (\S+)", line)
    assert told is not None
    return told[1]
