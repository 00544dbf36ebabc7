"""Publishers' catalogues by commands, between real nodes on this machine."""

from __future__ import annotations

import json
import signal
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dht_torrent.magnet import MutableLink
from tests.cli.test_following import good, until_told
from tests.cli.test_main import PATIENCE, Process, daemon, run
from tests.cli.test_search_nodes import World, content, search, share, world  # noqa: F401


def subscriptions(state: Path) -> list[Any]:
    done = good("subscribe", "--list", "--json", "--state-dir", state)
    listed: list[Any] = json.loads(done.stdout)
    return listed


def until(state: Path, link: str, holds: Callable[[Any], bool]) -> Any:
    """The only subscription, once this holds of it; asked again, it looks at once."""
    end = time.monotonic() + PATIENCE
    while True:
        (one,) = subscriptions(state)
        if holds(one):
            return one
        assert time.monotonic() < end, one
        good("subscribe", link, "--state-dir", state)
        time.sleep(0.3)


def found(state: Path, *words: str) -> list[str]:
    return sorted(one["name"] for one in search(state, *words, "--local"))


def test_a_list_is_published_subscribed_to_found_followed_and_forgotten(
    world: World,  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    for name in ("red film", "blue film"):
        share(world.first, content(tmp_path, name))
    done = good("catalogue", "publish", "--as", "films", "--state-dir", world.first)
    link = done.stdout.strip()
    assert done.stdout == f"{MutableLink.parse(link)}\n"  # alone
    until_told(world.first)
    done = good("subscribe", link, "--state-dir", world.second)
    assert done.stdout.endswith(" films\n")
    assert done.stderr == (
        "dhtnode: it is being fetched; see `dhtnode subscribe --list`\n"
        if done.stderr
        else ""  # it has been fetched already
    )
    one = until(world.second, link, lambda one: one["torrents"] == 2)
    assert (one["error"], one["skipped"], one["refused"]) == (None, 0, 0)
    rows = search(world.second, "film", "--local")
    assert sorted(row["name"] for row in rows) == ["blue film", "red film"]
    publisher = MutableLink.parse(link).key.hex()
    assert {(row["verified"], row["publisher"]) for row in rows} == {(True, publisher)}
    head, line = good("subscribe", "--list", "--state-dir", world.second).stdout.splitlines()
    assert head.split() == ["ID", "NAME", "TORRENTS", "STATE", "PUBLISHER"]
    assert line.split() == [one["id"][:8], "films", "2", "current", publisher[:8]]

    share(world.first, content(tmp_path, "green film"))
    again = good("catalogue", "publish", "--as", "films", "--json", "--state-dir", world.first)
    assert json.loads(again.stdout) == {"link": link}
    until(world.second, link, lambda one: one["torrents"] == 3)
    assert found(world.second, "film") == ["blue film", "green film", "red film"]

    gone = good("unsubscribe", "films", "--json", "--state-dir", world.second)
    assert json.loads(gone.stdout)["torrents"] == 3
    assert found(world.second, "film") == []
    assert subscriptions(world.second) == []
    good("unpublish", "--as", "films", "--state-dir", world.first)


def test_without_a_running_node_it_is_noted_for_the_next(tmp_path: Path) -> None:
    with daemon(tmp_path / "entry") as (_, ready):
        own = ("--bootstrap", ready[1], "--listen", "127.0.0.1:0", "--state-dir")
        reader = (*own, tmp_path / "two")
        words = ("catalogue", "publish", "--as", "films", *own, tmp_path / "one")
        with Process(*words) as publisher:
            link = publisher.line()
            assert MutableLink.parse(link).title == "films"
            done = good("subscribe", link, *reader)
            assert done.stdout.endswith(" films\n")
            assert done.stderr == (
                "dhtnode: the next node fetches it; see `dhtnode subscribe --list`\n"
            )
            (one,) = json.loads(good("subscribe", "--list", "--json", *reader).stdout)
            assert one["link"] == link
            done = good("unsubscribe", link, *reader)
            assert done.stdout.endswith(" films\n")
            assert json.loads(good("subscribe", "--list", "--json", *reader).stdout) == []
            assert publisher.end(signal.SIGINT) == (0, "", "")


def test_a_hostile_list_is_within_bounds_told_and_harmless(
    world: World,  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    folder = tmp_path / "hostile"
    folder.mkdir()

    def publish(*lines: bytes) -> str:
        rows = b"".join(line + b"\n" for line in (b'{"catalogue": 1}', *lines))
        (folder / "0000.rows").write_bytes(zlib.compress(rows))
        name = "films\u202egpj"
        # The name as a publisher of another program could choose it is not ours to publish.
        assert run("publish", folder, "--as", name, "--state-dir", world.first).exit_code == 2
        done = good("publish", folder, "--as", "films", "--state-dir", world.first)
        return done.stdout.strip()

    def row(number: int, name: str, **more: object) -> bytes:
        return json.dumps({"id": f"{number:040x}", "name": name, **more}).encode()

    link = publish(
        row(1, "good film"),
        row(2, "evil\x1b]0;owned\x07\x1b[2J film"),
        row(3, "turned \u202eflim\r\nnewline"),
        b"junk",
        b"[" * 60_000,
        row(4, "huge film", size=2**80),
        row(5, "", size=1),
        b'{"id": "x", "name": "film"}',
        row(1, "good film again"),
        row(6, "claimed film", publishers=["00" * 32], verified=True),
    )
    until_told(world.first)
    good("subscribe", link, "--state-dir", world.second)
    # Another test may have published under that name: it may find that version first.
    one = until(world.second, link, lambda one: one["skipped"] > 0)
    assert (one["torrents"], one["skipped"], one["error"]) == (4, 6, None)
    shown = good("search", "film", "--local", "--state-dir", world.second).stdout
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert len(shown.splitlines()) == 3
    assert "good film" in shown
    # Who a line says has signed it has not: the holder of the link's key has.
    rows = search(world.second, "claimed", "--local")
    assert [row["publisher"] for row in rows] == [one["publisher"]]

    # A list that is too long is not taken, and the last one stays.
    publish(*[b"{}"] * 50_001)
    one = until(world.second, link, lambda one: one["error"] is not None)
    assert "a segment of more than 50,000 rows" in one["error"]
    listed = good("subscribe", "--list", "--state-dir", world.second)
    assert listed.stderr == f"dhtnode: warning: films: {one['error']}\n"
    assert len(found(world.second, "film")) == 3
    good("unsubscribe", "films", "--state-dir", world.second)
    good("unpublish", "--as", "films", "--state-dir", world.first)


LINK = "magnet:?xs=urn:btpk:" + "00" * 32


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("subscribe",), "give either"),
        (("subscribe", LINK, "--list"), "give either"),
        (("subscribe", LINK[:-1]), "64 hex digits"),
        (("subscribe", "films"), "magnet"),
        (("subscribe", "magnet:?xt=urn:btih:" + "0" * 40), "no public key"),
        (("unsubscribe", "films"), "no such link"),
        (("unsubscribe", LINK), "no such link"),
        (("unsubscribe", "\x1b[31mfilms"), "no such link"),
        (("catalogue", "publish", "--as", ""), "name"),
        (("catalogue", "publish", "--as", "\x1b[31m"), "name"),
        (("catalogue", "publish", "--as", "n", "--key", "../k"), "key's name"),
        (("catalogue", "publish"), "--as"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    done = run(*words, "--state-dir", tmp_path / "state", "--listen", "127.0.0.1:0")
    assert done.exit_code == 2
    assert says in done.stderr
    assert "\x1b" not in done.stderr
    assert done.stderr.count("\n") == (1 if "Usage" not in done.stderr else 4)
    assert done.stdout == ""
