"""Links that stay, by commands, between real nodes on this machine."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from dht_torrent.magnet import MutableLink
from tests.cli.test_main import PATIENCE, Process, daemon, run
from tests.cli.test_search_nodes import World, own_world, status  # noqa: F401 - a fixture
from tests.helpers.content import differences, make_file


def good(*args: object) -> Result:
    done = run(*args)
    assert done.exit_code == 0, done.output
    return done


def published(state: Path) -> list[Any]:
    listed: list[Any] = json.loads(good("publish", "--list", "--json", "--state-dir", state).stdout)
    return listed


def until_told(state: Path, torrent: str | None = None) -> str:
    """Wait until the DHT knows the newest version; its torrent."""
    end = time.monotonic() + PATIENCE
    while True:
        (one,) = published(state)
        if one["seq"] and one["torrent"] != torrent:
            return str(one["torrent"])
        assert time.monotonic() < end, one


def test_a_link_is_published_followed_changed_in_place_and_followed_on(
    own_world: World,  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    world = own_world
    page = make_file(tmp_path / "site" / "page.bin", 30_000)
    done = good("publish", page.parent, "--as", "site", "--state-dir", world.first)
    link = done.stdout.strip()
    assert done.stdout == f"{MutableLink.parse(link)}\n"  # alone
    key = good("key", "show", "--state-dir", world.first).stdout.strip()
    assert link == f"magnet:?xs=urn:btpk:{key}&s={b'site'.hex()}"
    first = until_told(world.first)
    out = tmp_path / "out"
    done = good("follow", link, "--output", out, "--keep", 0, "--state-dir", world.second)
    assert done.stdout == f"{out / 'current' / 'site'}\n"
    assert differences(page.parent, out / "current" / "site") == []
    # It changes where it is, which is no error but a new version of the same link.
    make_file(page, 30_000, seed=2)
    again = good("publish", page.parent, "--as", "site", "--state-dir", world.first)
    assert (again.stdout, again.stderr) == (f"{link}\n", "")
    assert until_told(world.first, first) != first
    # Asked again, it looks at once.
    deadline = time.monotonic() + PATIENCE
    while differences(page.parent, out / "current" / "site"):
        assert time.monotonic() < deadline
        good("follow", link, "--no-wait", "--state-dir", world.second)
        time.sleep(0.2)
    listed = json.loads(good("follow", "--list", "--json", "--state-dir", world.second).stdout)
    assert [(one["title"], one["state"], one["error"]) for one in listed] == [
        ("site", "current", None)
    ]
    shown = good("follow", "--list", "--state-dir", world.second).stdout.splitlines()
    assert shown[0].split() == ["NAME", "VERSION", "STATE", "KEPT", "PATH", "LINK"]
    assert shown[1].split()[-2:] == [str(out / "current" / "site"), link]
    assert link in good("publish", "--list", "--state-dir", world.first).stdout
    good("unfollow", "site", "--data", "--state-dir", world.second)
    assert list(out.iterdir()) == []
    assert json.loads(good("follow", "--list", "--json", "--state-dir", world.second).stdout) == []
    good("unpublish", "--as", link, "--state-dir", world.first)
    assert published(world.first) == []


def test_without_a_running_node_one_of_our_own_does_it_until_it_is_interrupted(
    tmp_path: Path,
) -> None:
    film = make_file(tmp_path / "film.bin", 20_000)
    entry = tmp_path / "entry"
    with daemon(entry) as (_, ready):
        own = ("--bootstrap", ready[1], "--listen", "127.0.0.1:0", "--state-dir")
        with Process("publish", film, "--as", "film", *own, tmp_path / "one") as publisher:
            link = publisher.line()
            assert MutableLink.parse(link).title == "film"
            until_told(tmp_path / "one")
            words = ("follow", link, "--output", tmp_path / "out", *own, tmp_path / "two")
            with Process(*words) as follower:
                path = tmp_path / "out" / "current" / "film.bin"
                assert follower.line() == str(path)
                assert differences(film, path) == []
                for process in (follower, publisher):
                    assert process.end(signal.SIGINT) == (0, "", "")
        # The node of either state directory goes on with it.
        with daemon(tmp_path / "two", "--bootstrap", ready[1]):
            (one,) = json.loads(
                good("follow", "--list", "--json", "--state-dir", tmp_path / "two").stdout
            )
            assert (one["link"], one["state"]) == (link, "current")
        # And without one, what is known is told.
        (told,) = json.loads(
            good(
                *("publish", "--list", "--json", "--listen", "127.0.0.1:0"),
                *("--state-dir", tmp_path / "one"),
            ).stdout
        )
        assert told["link"] == link


LINK = "magnet:?xs=urn:btpk:" + "00" * 32


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("publish",), "give a PATH"),
        (("publish", "x", "--as", "n", "--tags", "t"), "--tags"),
        (("publish", "abcd", "--key", "k"), "--as NAME"),
        (("publish", "x", "--list"), "stands alone"),
        (("publish", "/nowhere/at/all", "--as", "n"), "no such file"),
        (("unpublish",), "either"),
        (("unpublish", "abcd", "--as", "n"), "either"),
        (("follow",), "give a link"),
        (("follow", LINK, "--list"), "stands alone"),
        (("follow", LINK[:-1]), "64 hex digits"),
        (("follow", "magnet:?xt=urn:btih:" + "0" * 40), "no public key"),
        (("follow", LINK, "--no-wait"), "--no-wait needs a running node"),
        (("get", LINK), "followed"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    done = run(*words, "--state-dir", tmp_path / "state")
    assert done.exit_code == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
