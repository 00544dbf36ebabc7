"""A command starts in the time, and takes the memory, that its imports take. So each is held to a
list of what it may import; what else it may need one day is imported when it is needed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

import trio

from dht_torrent import Config, open_node
from tests.cli.test_main import ALONE, daemon

COMMANDS = {"dht_torrent", "click"}
"""What a command may import that asks a running node, besides the standard library."""
NODES = {
    *COMMANDS,
    *("trio", "attr", "attrs", "outcome", "sniffio", "sortedcontainers", "idna"),  # Trio's own
    *("bencode2", "kademlia", "platformdirs"),
}
"""What a node may import that downloads from a peer which does not insist on MSE."""
ENCRYPTING = {*NODES, "cryptography"}
"""The same, if it does."""
LARGE = {
    *("sqlite3", "http", "email", "multiprocessing", "xml", "unittest", "tkinter"),
    *("dht_torrent.daemon.answering", "dht_torrent.daemon.app", "dht_torrent.daemon.http_client"),
    *("dht_torrent.catalogue.sqlite", "dht_torrent.catalogue.postgres"),
    "dht_torrent.peer.certificates",
}
"""Parts of the standard library, and of ours, for which there must be a reason."""
PROGRAM = (
    "import sys, dht_torrent.cli.main as main;"
    "main.cli(sys.argv[1:], standalone_mode=False);"
    "print('imported', *sys.modules)"
)


def imported(program: str, *args: object) -> set[str]:
    """What is in `sys.modules` at the end of a program that says so in its last line."""
    line = [sys.executable, "-c", program, *map(str, args)]
    run = subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 0, run.stderr
    _, *names = run.stdout.splitlines()[-1].split()
    return set(names)


def others(names: set[str]) -> set[str]:
    """The packages of them that are not the standard library's, nor in every process here."""
    always = imported("import sys; print('imported', *sys.modules)")
    tops = {name.partition(".")[0] for name in names - always}
    return {top for top in tops - sys.stdlib_module_names if not top.startswith("_")}


async def of_a_download(folder: Path, encryption: Literal["off", "require"]) -> set[str]:
    """What `dhtnode get` imports until all is there, from one peer with that policy."""
    (folder / "content").write_bytes(os.urandom(100_000))
    seeding = Config(listen="127.0.0.1:0", bootstrap=(), lsd=False, encryption=encryption)
    async with open_node(seeding) as seed:
        shared = await seed.share(folder / "content")
        link = f"{shared.magnet}&x.pe={seed.address}"
        options = ("--output", folder / "out", "--state-dir", folder / "state", "--no-lsd")
        with trio.fail_after(60):
            names = await trio.to_thread.run_sync(imported, PROGRAM, "get", link, *options, *ALONE)
    assert (folder / "out" / "content").read_bytes() == (folder / "content").read_bytes()
    return names


async def test_a_download_imports_only_what_it_needs(tmp_path: Path) -> None:
    names = await of_a_download(tmp_path, "off")
    assert others(names) - NODES == set()
    assert names & LARGE == set()
    assert "asyncio" not in names  # which the library with the buckets would import
    assert "trio" in names  # they were found


async def test_a_download_from_a_peer_that_insists_on_encryption_imports_it(tmp_path: Path) -> None:
    names = await of_a_download(tmp_path, "require")
    assert others(names) - ENCRYPTING == set()
    assert names & LARGE == set()
    assert "cryptography" in names


def test_what_asks_a_running_node_imports_no_node(tmp_path: Path) -> None:
    with daemon(tmp_path):
        names = imported(PROGRAM, "status", "--state-dir", tmp_path)
    assert others(names) - COMMANDS == set()
    assert names & (LARGE - {"http", "email", "dht_torrent.daemon.http_client"}) == set()
    assert not {"asyncio", "dht_torrent.engine", "dht_torrent.config"} & names
    assert "dht_torrent.daemon.client" in names


COLLECTOR = """
import gc, dht_torrent.cli.node as node
with node._staying():
    assert not gc.isenabled()
assert gc.isenabled()
assert gc.get_freeze_count() > 1000
try:
    with node._staying():
        raise KeyboardInterrupt
except KeyboardInterrupt:
    assert gc.isenabled()
gc.disable()
with node._staying():
    pass
print("imported", *([] if gc.isenabled() else ["gc"]))
"""


def test_the_collector_leaves_what_was_loaded_alone_and_goes_on() -> None:
    assert imported(COLLECTOR) == {"gc"}
