"""aria2 and Transmission as the other end, in a network of their own.

They must reach nobody on the Internet, and find their peers at addresses that are not loopback. So
the test enters a network namespace that has a loopback device with some private addresses, and
nothing else. That needs Linux, the right to make one, and the clients; without, tests are skipped,
but fail where CI=true.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import trio

from dht_torrent.ids import Address

OURS: Final = "10.77.0.1"
THEIRS: Final = "10.77.0.2"
_NEW_NETWORK: Final = 0x40000000  # CLONE_NEWNET
PEER_PORT: Final = 51413
_RPC_PORT: Final = 9091
_libc: Final = ctypes.CDLL(None, use_errno=True)


def missing(what: str) -> None:
    """Skips the test; where CI=true, fails it."""
    if os.environ.get("CI") == "true":
        pytest.fail(what, pytrace=False)
    pytest.skip(what)


def program(name: str) -> str:
    """Where it is installed."""
    path = shutil.which(name)
    if path is None:
        missing(f"{name} is not installed")
    assert path is not None
    return path


@contextlib.contextmanager
def own_network() -> Iterator[None]:
    """This thread, and what it starts, in a network of its own with `OURS` and `THEIRS`."""
    if sys.platform != "linux":
        missing("network namespaces are Linux's")
    ip = program("ip")
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        new_network()
        inside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _move_idle_threads(inside)
            subprocess.run([ip, "link", "set", "lo", "up"], check=True)
            for address in (OURS, THEIRS):
                subprocess.run([ip, "address", "add", f"{address}/24", "dev", "lo"], check=True)
            yield
        finally:
            os.close(inside)
            enter(before)
            _move_idle_threads(before)
    finally:
        os.close(before)


def new_network() -> None:
    """This thread in a network namespace that has nothing in it."""
    if _libc.unshare(_NEW_NETWORK):
        missing(f"no network namespace can be made: {os.strerror(ctypes.get_errno())}")


def enter(network: int) -> None:
    if _libc.setns(network, _NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "a thread is lost in a network namespace")


def _move_idle_threads(network: int) -> None:
    """Trio starts processes from threads, which it keeps for a while: they must come along.

    A thread is in the network that the thread was in which made it. Else a client would be started
    in the network of an earlier test.
    """
    count = threading.active_count()  # as many as can be idle
    together = threading.Barrier(count + 1)  # nobody may take two of the turns

    def move() -> None:
        enter(network)
        together.wait(10)

    for _ in range(count):
        trio.lowlevel.start_thread_soon(move, lambda outcome: outcome.unwrap())
    together.wait(10)


@contextlib.asynccontextmanager
async def running(command: Sequence[str], log: Path) -> AsyncIterator[trio.Process]:
    """The program, until the end of the block; what it says goes to `log`."""
    with log.open("wb") as output:
        process = await trio.lowlevel.open_process(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        try:
            yield process
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()


def aria2(
    folder: Path, what: str, entry: Address, *, seed: bool, more: Sequence[str] = ()
) -> list[str]:
    """The command that seeds the .torrent `what` from `folder`, or fetches the magnet into it."""
    folder.mkdir(parents=True, exist_ok=True)
    state = folder.parent / f"{folder.name}-aria2"
    state.mkdir(exist_ok=True)
    return [
        program("aria2c"),
        "--no-conf=true",
        f"--dir={folder}",
        f"--interface={THEIRS}",
        f"--listen-port={PEER_PORT}",
        f"--dht-listen-port={PEER_PORT}",
        f"--dht-entry-point={entry}",
        f"--dht-file-path={state / 'dht.dat'}",
        "--enable-dht=true",
        "--enable-dht6=false",
        "--bt-enable-lpd=false",
        "--enable-peer-exchange=false",
        "--file-allocation=none",
        "--console-log-level=warn",
        "--summary-interval=0",
        f"--log={state / 'log'}",
        "--log-level=info",
        *(["--seed-ratio=0.0", "--check-integrity=true"] if seed else ["--seed-time=0"]),
        *more,
        what,
    ]


class Transmission:
    """A running daemon, spoken to by its RPC. Made by `open_transmission`."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._session = ""

    async def call(self, method: str, **arguments: Any) -> Any:
        body = {"method": method, "arguments": arguments}
        while True:
            try:
                answer = await self._client.post(
                    "/transmission/rpc",
                    json=body,
                    headers={"X-Transmission-Session-Id": self._session},
                )
            except httpx.ConnectError:  # it has not opened the port yet
                await trio.sleep(0.1)
                continue
            if answer.status_code == 409:
                self._session = answer.headers["X-Transmission-Session-Id"]
                continue
            said = answer.json()
            assert said["result"] == "success", said
            return said["arguments"]

    async def add(self, what: str | Path, folder: Path) -> None:
        """A magnet, or a .torrent; what is in `folder` already is checked."""
        await self.call("torrent-add", **{"filename": str(what), "download-dir": str(folder)})

    async def torrent(self) -> dict[str, Any]:
        """What it says of its only torrent."""
        fields = ["percentDone", "status", "rateDownload", "rateUpload", "peersConnected", "error"]
        (said,) = (await self.call("torrent-get", fields=fields))["torrents"]
        return dict(said)

    async def until(self, progress: float) -> None:
        """Returns when its torrent has come that far."""
        while (await self.torrent())["percentDone"] < progress:
            await trio.sleep(0.1)


def transmission(folder: Path, nodes: Sequence[Address], **changes: Any) -> list[str]:
    """The command of a daemon with its state in `folder`, where the DHT `nodes` are known."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "bind-address-ipv4": THEIRS,
        "blocklist-enabled": False,
        "dht-enabled": True,
        "download-dir": str(folder),
        "encryption": 0,
        "incomplete-dir-enabled": False,
        "lpd-enabled": False,
        "peer-port": PEER_PORT,
        "peer-port-random-on-start": False,
        "pex-enabled": False,
        "port-forwarding-enabled": False,
        "preallocation": 0,
        "rpc-bind-address": "127.0.0.1",
        "rpc-host-whitelist-enabled": False,
        "rpc-port": _RPC_PORT,
        "rpc-whitelist-enabled": False,
        "utp-enabled": False,
        **changes,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    compact = b"".join(node.compact() for node in nodes)
    (folder / "dht.dat").write_bytes(
        b"d2:id20:%b5:nodes%d:%be" % (os.urandom(20), len(compact), compact)
    )
    return [program("transmission-daemon"), "-f", "--config-dir", str(folder)]


@contextlib.asynccontextmanager
async def open_transmission(
    command: Sequence[str], log: Path, host: str = "127.0.0.1"
) -> AsyncIterator[Transmission]:
    """The daemon of that command, until the end of the block; `host` is where it is asked."""
    url = f"http://{host}:{_RPC_PORT}"
    async with running(command, log), httpx.AsyncClient(base_url=url, trust_env=False) as client:
        yield Transmission(client)
