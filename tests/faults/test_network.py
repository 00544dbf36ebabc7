"""A port that is taken, a DHT that loses half of its nodes, a crowd, and a clean end."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from pathlib import Path

import pytest
import trio

from dht_torrent import InputError, open_node
from tests.helpers.content import KIB, MIB, differences, make_file
from tests.helpers.nodes import all_completed, announced, has_contacts, local_config, local_nodes
from tests.helpers.waiting import until


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["TCP", "UDP"])
async def test_a_taken_port_is_one_clear_error(tmp_path: Path, kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            other.listen()
        host, port = other.getsockname()
        config = local_config(tmp_path, listen=f"{host}:{port}")
        with trio.fail_after(20), pytest.raises(InputError, match=str(port)):
            async with open_node(config):
                raise AssertionError("a node runs on a port that is somebody else's")


async def test_a_file_is_still_found_when_half_of_the_dht_is_gone(tmp_path: Path) -> None:
    content = make_file(tmp_path / "seed" / "film.bin", 1 * MIB)
    with trio.fail_after(40):
        async with local_nodes(1, tmp_path / "first") as (router,), trio.open_nursery() as nursery:
            mortal: list[trio.CancelScope] = []

            async def live(folder: Path, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
                with trio.CancelScope() as scope:
                    async with open_node(local_config(folder, [router])) as node:
                        await until(lambda: has_contacts(node), "it has joined")
                        task_status.started(scope)
                        await trio.sleep_forever()

            async def start(number: int) -> None:
                mortal.append(await nursery.start(live, tmp_path / f"mortal{number}"))

            async with trio.open_nursery() as starting:
                for i in range(10):
                    starting.start_soon(start, i)
            async with local_nodes(9, tmp_path / "stay", [router]) as staying:
                shared = await staying[0].share(content, piece_length=64 * KIB)
                await announced([router, *staying])
                for scope in mortal:
                    scope.cancel()
                async with open_node(local_config(tmp_path / "late", [router])) as late:
                    got = await late.get(shared.id)
                    assert differences(content, await got.completed()) == []
            nursery.cancel_scope.cancel()


async def test_nineteen_leeches_fetch_mostly_from_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = make_file(tmp_path / "seed" / "film.bin", 32 * MIB)
    with trio.fail_after(90):
        async with local_nodes(20, tmp_path / "nodes") as nodes:
            shared = await nodes[0].share(content, piece_length=256 * KIB)
            await announced(nodes)
            torrents = [await node.get(shared.id) for node in nodes[1:]]
            await all_completed(torrents)
            for got in torrents:
                assert got.path is not None
                assert differences(content, got.path) == []
            share = shared.summary().uploaded / sum(t.summary().downloaded for t in torrents)
    with capsys.disabled():
        print(f"\nthe seed sent {share:.0%} of what 19 leeches received")  # noqa: T201 - a figure worth seeing
    assert share < 0.5


async def test_nothing_is_left_when_a_node_ends(tmp_path: Path) -> None:
    content = make_file(tmp_path / "seed" / "film.bin", 4 * MIB)
    sockets, threads, tasks = open_sockets(), busy_threads(), task_count()
    with trio.fail_after(20):
        async with local_nodes(3, tmp_path / "nodes") as nodes:
            shared = await nodes[0].share(content, piece_length=64 * KIB)
            await announced(nodes)
            finished = await nodes[1].get(shared.id)
            await finished.completed()
            cut_short = await nodes[2].get(shared.id)
            await until(lambda: cut_short.peers() or cut_short.progress, "it has begun")
        assert open_sockets() <= sockets
        assert task_count() <= tasks
        # Trio keeps idle workers for a while; none of them may still be at work.
        await until(lambda: busy_threads() <= threads, "no thread is at work any more")
        files = {path.name for path in (tmp_path / "nodes").rglob("*") if path.is_file()}
        assert files <= {"film.bin"}


def open_sockets() -> set[str]:
    """The sockets and files this process has open."""
    found = set()
    for fd in os.listdir("/dev/fd"):  # noqa: PTH208 - the names are all we want
        with contextlib.suppress(OSError):
            found.add(f"{fd} {os.readlink(f'/dev/fd/{fd}')}")  # noqa: PTH115 - "socket:[123]"
    return {name for name in found if "/fd" not in name}


def busy_threads() -> set[str]:
    return {
        thread.name for thread in threading.enumerate() if not thread.name.startswith("Trio thread")
    }


def task_count() -> int:
    """All tasks of this run."""
    count = 0
    waiting = [trio.lowlevel.current_root_task()]
    while waiting:
        task = waiting.pop()
        if task is not None:
            count += 1
            waiting += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return count
