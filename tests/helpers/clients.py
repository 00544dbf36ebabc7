"""aria2 as the other end, in a network of its own.

It must reach nobody on the Internet, and find its peers at addresses that are not loopback. So the
test enters a network namespace that has a loopback device with some private addresses, and nothing
else. That needs Linux, the right to make one, and aria2; without, tests are skipped, but fail where
CI=true.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest
import trio

from dht_torrent.ids import Address

OURS: Final = "10.77.0.1"
THEIRS: Final = "10.77.0.2"
_NEW_NETWORK: Final = 0x40000000  # CLONE_NEWNET
PEER_PORT: Final = 51413


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
    libc = ctypes.CDLL(None, use_errno=True)
    ip = program("ip")
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(_NEW_NETWORK):
            missing(f"no network namespace can be made: {os.strerror(ctypes.get_errno())}")
        try:
            subprocess.run([ip, "link", "set", "lo", "up"], check=True)
            for address in (OURS, THEIRS):
                subprocess.run([ip, "address", "add", f"{address}/24", "dev", "lo"], check=True)
            yield
        finally:
            if libc.setns(before, _NEW_NETWORK):
                raise OSError(ctypes.get_errno(), "the test's thread is lost in its namespace")
    finally:
        os.close(before)


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
