"""Publishing and searching by commands, between real nodes on this machine."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dht_torrent.metainfo import Magnet
from tests.cli.test_main import PATIENCE, Process, daemon, ls, run


@dataclass
class World:
    """A DHT of two nodes that run."""

    entry: str
    first: Path
    second: Path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(tmp_path_factory.mktemp("world")) as world:
        yield world


@contextmanager
def running(folder: Path) -> Iterator[World]:
    first, second = folder / "first" / "state", folder / "second" / "state"
    # As long as all tests of this module take on a busy machine.
    long = 10 * PATIENCE
    with (
        daemon(first, patience=long) as (_, ready),
        daemon(second, "--bootstrap", ready[1], patience=long),
    ):
        while not status(second)["dht"]["good"] or not status(first)["dht"]["good"]:
            pass  # each look takes its time
        yield World(ready[1], first, second)


def status(state: Path) -> Any:
    return json.loads(run("status", "--json", "--state-dir", state).stdout)


def content(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_bytes(name.encode() * 1000)
    return path


def share(state: Path, path: Path, *args: object) -> tuple[str, str]:
    """Its id, and what was said."""
    done = run("share", path, *args, "--state-dir", state)
    assert done.exit_code == 0, done.output
    return Magnet.parse(done.stdout).info_hash.hex(), done.stderr


def search(state: Path, *args: object) -> list[Any]:
    done = run("search", *args, "--json", "--state-dir", state)
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def until_found(state: Path, *args: object) -> Any:
    """What is found, once it is: publishing takes its time."""
    end = time.monotonic() + PATIENCE
    while not (found := search(state, *args)):
        assert time.monotonic() < end, args
    (only,) = found
    return only


@pytest.fixture
def own_world(tmp_path: Path) -> Iterator[World]:
    """Where nobody else publishes."""
    with running(tmp_path / "world") as world:
        yield world


def test_what_one_node_shares_another_finds_by_word_beginning_size_and_date(
    own_world: World, tmp_path: Path
) -> None:
    world = own_world
    torrent_id, said = share(world.second, content(tmp_path, "zebrafish"), "--tags", "aquarium")
    assert said.startswith("published: everybody can now find zebrafish by the words of its name")
    assert f"`dhtnode unpublish {torrent_id[:8]}`" in said
    assert "--no-publish" in said
    assert status(world.second)["search"]["published"] == 1
    found = until_found(world.first, "aquarium", "zebrafish")
    assert found["id"] == torrent_id
    assert found["verified"] is True
    assert found["publisher"] == status(world.second)["search"]["publisher"]
    assert (found["size"], found["files"]) == (9000, 1)
    alone = tmp_path / "alone"
    node = ("--bootstrap", world.entry, "--listen", "127.0.0.1:0", "--state-dir", alone)
    done = Process(*node, "search", "zebrafish")
    code, out, err = done.end()
    assert (code, err) == (0, "")
    (line,) = out.splitlines()
    cells = line.split("\t")
    assert (cells[0], cells[5], cells[8]) == (torrent_id, "verified", "zebrafish")
    # It has been seen, so it is known from now on, whoever is there.
    nobody = ("--bootstrap", "none", "--listen", "127.0.0.1:0", "--state-dir", alone)
    code, out, err = Process(*nobody, "search", "zebrafish", "--local", "--json").end()
    assert (code, err) == (0, "")
    assert json.loads(out)["source"] == "local"
    # Somebody who has not seen it yet finds it in each tree of the index.
    for number, limits in enumerate([("zebra", "--prefix"), ("--size", "9000"), ("--since", "1d")]):
        new = ("--bootstrap", world.entry, "--listen", "127.0.0.1:0")
        only = until_found(tmp_path / f"new{number}", *limits, *new)
        assert (only["id"], only["source"]) == (torrent_id, "network")
    assert search(world.first, "zebrafish", "--size", "1M..") == []
    exported = run("catalogue", "export", "-", "--state-dir", alone)
    assert json.loads(exported.stdout)["id"] == torrent_id


def test_a_blocked_publisher_is_not_shown_any_more(world: World, tmp_path: Path) -> None:
    share(world.second, content(tmp_path, "axolotl"))
    state = tmp_path / "state"
    with daemon(state, "--bootstrap", world.entry):
        found = until_found(state, "axolotl")
        assert run("block", found["publisher"][:8], "--state-dir", state).exit_code == 0
        assert search(state, "axolotl") == []
        assert "blocked" in run("publishers", "--state-dir", state).stdout
    # And it stays so: the next commands have no node to ask but one of their own.
    own = ("--listen", "127.0.0.1:0", "--state-dir", state)
    listed = run("publishers", "--json", *own)
    assert [(one["key"], one["trust"]) for one in json.loads(listed.stdout)] == [
        (found["publisher"], "blocked")
    ]
    assert run("unblock", found["publisher"], *own).exit_code == 0
    assert json.loads(run("publishers", "--json", *own).stdout) == []


def test_publishing_ends_with_unpublish_and_with_rm(world: World, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with daemon(state, "--bootstrap", world.entry):
        one, _ = share(state, content(tmp_path, "pangolin"))
        two, _ = share(state, content(tmp_path, "platypus"))
        assert status(state)["search"]["published"] == 2
        assert run("unpublish", one, "--state-dir", state).output == ""
        assert [torrent["published"] for torrent in ls(state)] == [False, True]
        again = run("unpublish", one, "--state-dir", state)
        assert again.stderr == f"dhtnode: {one[:8]} was not published\n"
        assert run("rm", two, "--state-dir", state).exit_code == 0
        assert status(state)["search"]["published"] == 0
        assert run("publish", one, "--state-dir", state).exit_code == 0
        assert status(state)["search"]["published"] == 1
    with daemon(state, "--bootstrap", world.entry):
        assert status(state)["search"]["published"] == 1
        _, said = share(state, tmp_path / "pangolin", "--no-publish")
        assert said == ""
        assert status(state)["search"]["published"] == 0


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--no-publish",), ""),
        (("--private",), ""),
        (
            ("--private", "--tags", "a"),
            "dhtnode: not published: a private torrent is not published\n",
        ),
    ],
)
def test_what_is_not_to_be_published_is_not(
    world: World, tmp_path: Path, args: tuple[str, ...], said: str
) -> None:
    path = content(tmp_path, "quokka" + "".join(args))
    torrent_id, told = share(world.first, path, *args)
    assert told == said
    (torrent,) = [torrent for torrent in ls(world.first) if torrent["id"] == torrent_id]
    assert not torrent["published"]


def test_a_name_without_words_is_shared_and_why_it_is_not_published_is_told(
    world: World, tmp_path: Path
) -> None:
    torrent_id, said = share(world.first, content(tmp_path, "---"))
    assert said.startswith("dhtnode: not published: ")
    assert len(said.splitlines()) == 1
    assert torrent_id in [torrent["id"] for torrent in ls(world.first)]


def test_what_was_fetched_is_not_published(world: World, tmp_path: Path) -> None:
    torrent_id, _ = share(world.second, content(tmp_path, "wombat"))
    magnet = f"magnet:?xt=urn:btih:{torrent_id}&x.pe={status(world.second)['listen']}"
    got = run("get", magnet, "--output", tmp_path / "got", "--state-dir", world.first)
    assert got.exit_code == 0, got.output
    (torrent,) = [torrent for torrent in ls(world.first) if torrent["id"] == torrent_id]
    assert not torrent["published"]
    refused = run("publish", torrent_id, "--state-dir", world.first)
    assert refused.exit_code == 2
    assert "what was fetched is not published" in refused.stderr


def test_tags_of_no_use_are_refused_before_anything_is_shared(world: World, tmp_path: Path) -> None:
    before = {torrent["id"] for torrent in ls(world.first)}
    done = run(
        "share", content(tmp_path, "dingo"), "--tags", "fine,!!!", "--state-dir", world.first
    )
    assert done.exit_code == 2
    assert done.stderr == "dhtnode: nothing can be found by this tag: '!!!'\n"
    assert {torrent["id"] for torrent in ls(world.first)} == before


def test_tags_without_publishing_are_refused(tmp_path: Path) -> None:
    done = run("share", tmp_path, "--no-publish", "--tags", "a", "--state-dir", tmp_path / "state")
    assert done.exit_code == 2
    assert "--no-publish" in done.stderr


def test_a_node_that_shares_alone_publishes_too(world: World, tmp_path: Path) -> None:
    own = ("--bootstrap", world.entry, "--listen", "127.0.0.1:0", "--state-dir", tmp_path / "own")
    with Process("share", content(tmp_path, "capybara"), *own) as sharing:
        magnet = sharing.line()
        assert sharing.error_line().startswith("published: everybody can now find capybara")
        found = until_found(world.first, "capybara")
        assert found["id"] == Magnet.parse(magnet).info_hash.hex()
