"""Other BitTorrent programs, and libtorrent, driven alike: started, told a torrent, waited for.

aria2 and Transmission cannot be told of a peer, so the other end has to dial them. They are told of
nobody to call: no DHT, LSD, PEX, tracker or port mapping.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peers import DEADLINE, Line, Peer, WorkerError, worker

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Place:
    """Where a client finds things."""

    torrent: Path
    folder: Path
    """Of the content."""
    state: Path
    """Of its own."""
    size: int
    """Bytes of the content."""


@dataclass(frozen=True)
class Started:
    """A client that is ready."""

    address: Peer
    """Where it listens."""
    complete: Callable[[], object]
    """Waits until it has everything."""
    pid: int | None = None
    """Of its process, where it is not a worker that tells by itself what it has used."""


@contextlib.contextmanager
def aria2(place: Place, seeds: bool, encrypted: bool) -> Iterator[Started]:
    """It takes nothing but RC4 if `encrypted`, else anything."""
    peer_port, rpc_port = free_port(), free_port()
    command = [
        "aria2c",
        "--no-conf=true",
        f"--dir={place.folder}",
        f"--bt-force-encryption={str(encrypted).lower()}",
        f"--listen-port={peer_port}",
        "--enable-rpc=true",
        f"--rpc-listen-port={rpc_port}",
        "--enable-dht=false",
        "--enable-dht6=false",
        "--bt-enable-lpd=false",
        "--enable-peer-exchange=false",
        "--file-allocation=none",
        "--summary-interval=0",
        "--seed-ratio=0.0",
        "--check-integrity=true",
        str(place.torrent),
    ]

    def have() -> int:
        asked = {"jsonrpc": "2.0", "id": "", "method": "aria2.tellActive"}
        answer, _ = post(rpc_port, "/jsonrpc", asked, {})
        (told,) = answer["result"] or [{"completedLength": 0}]
        return int(told["completedLength"])

    with running(command, place.state / "log") as pid:
        size = place.size if seeds else 0
        _until(lambda: have() == size and listens(peer_port), "aria2 is ready")
        yield Started(
            (HOST, peer_port), lambda: _until(lambda: have() == place.size, "aria2 has all"), pid
        )


@contextlib.contextmanager
def transmission(place: Place, seeds: bool, encrypted: bool) -> Iterator[Started]:
    """It requires encryption if `encrypted`, else prefers to do without."""
    peer_port, rpc_port = free_port(), free_port()
    settings = {
        "bind-address-ipv4": HOST,
        "dht-enabled": False,
        "download-dir": str(place.folder),
        "encryption": 2 if encrypted else 0,
        "lpd-enabled": False,
        "peer-port": peer_port,
        "pex-enabled": False,
        "port-forwarding-enabled": False,
        "preallocation": 0,
        "rpc-bind-address": HOST,
        "rpc-port": rpc_port,
        "utp-enabled": False,
    }
    (place.state / "settings.json").write_text(json.dumps(settings))
    session: dict[str, str] = {}

    def call(method: str, **arguments: Any) -> Any:
        path = "/transmission/rpc"
        asked = {"method": method, "arguments": arguments}
        answer, told = post(rpc_port, path, asked, session)
        if answer is None:  # it wants to hear its own token
            session["X-Transmission-Session-Id"] = told["X-Transmission-Session-Id"]
            answer, _ = post(rpc_port, path, asked, session)
        return answer["arguments"]

    def have() -> int:
        (told,) = call("torrent-get", fields=["haveValid", "leftUntilDone", "status"])["torrents"]
        return int(told["haveValid"]) if told["status"] in (4, 6) else -1  # -1: it checks

    command = ["transmission-daemon", "-f", "-g", str(place.state)]
    with running(command, place.state / "log") as pid:
        _until(lambda: listens(rpc_port), "Transmission is ready")
        call("torrent-add", filename=str(place.torrent))
        size = place.size if seeds else 0
        _until(lambda: have() == size and listens(peer_port), "Transmission has looked")
        yield Started(
            (HOST, peer_port),
            lambda: _until(lambda: have() == place.size, "Transmission has all"),
            pid,
        )


@contextlib.contextmanager
def libtorrent(place: Place, seeds: bool, encrypted: bool) -> Iterator[Started]:
    """It takes nothing but RC4 if `encrypted`, else no encryption."""
    options = {
        "torrent": str(place.torrent),
        "folder": str(place.folder),
        "preset": "default",
        "encryption": "rc4" if encrypted else "none",
    }
    with worker("lt-seed" if seeds else "lt-leech", **options) as client:
        port = int(client.expect("ready")["port"])
        client.go([])
        yield Started((HOST, port), lambda: client.expect("done"))


CLIENTS = {"aria2": aria2, "transmission": transmission, "libtorrent": libtorrent}
PROGRAMS = {"aria2": "aria2c", "transmission": "transmission-daemon"}


def is_installed(client: str) -> bool:
    """Whether it can be started here. What is not a program of its own is a Python package."""
    return client not in PROGRAMS or shutil.which(PROGRAMS[client]) is not None


class Driven:
    """A program in the place of a worker (see peers.py): the same words, said for it."""

    def __init__(self, started: Started) -> None:
        assert started.pid is not None
        self._started = started
        self._pid = started.pid
        self._began = self._cpu = 0.0

    def expect(self, event: str) -> Line:
        """`ready`, which it is, or `done`, which it is waited for."""
        if event == "ready":
            return {"event": event, "port": self._started.address[1]}
        self._started.complete()
        return self._line(event)

    def go(self, peers: Sequence[Peer] = ()) -> None:
        """Its clock and its count of CPU seconds begin now. It must be dialled."""
        if peers:
            raise WorkerError("this program cannot be told of peers")
        self._began, (self._cpu, _) = time.monotonic(), used_by(self._pid)

    def stop(self) -> Line:
        """What it has used; the end of the block ends it."""
        return self._line("stopped")

    def _line(self, event: str) -> Line:
        cpu, rss = used_by(self._pid)
        seconds = time.monotonic() - self._began
        return {"event": event, "seconds": seconds, "cpu": cpu - self._cpu, "rss": rss}


def used_by(pid: int, proc: Path = Path("/proc")) -> tuple[float, int]:
    """CPU seconds, and bytes held at most, of another process. Not known (0) without /proc."""
    try:
        stat = (proc / str(pid) / "stat").read_text()
        status = (proc / str(pid) / "status").read_text()
    except OSError:
        return 0.0, 0
    # The name in brackets may hold anything; user and system time are the 14th and 15th field.
    fields = stat.rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    _, _, peak = status.partition("VmHWM:")
    return ticks / os.sysconf("SC_CLK_TCK"), int(peak.split()[0]) * 1024 if peak else 0


@contextlib.contextmanager
def running(command: Sequence[str], log: Path) -> Iterator[int]:
    """The program, surely gone at the end of the block; its process id."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield process.pid
        finally:
            process.kill()
            process.wait()


def post(port: int, path: str, asked: Any, headers: dict[str, str]) -> tuple[Any, Any]:
    """The answer to a question in JSON, or None to one that is refused; and its headers."""
    with contextlib.closing(http.client.HTTPConnection(HOST, port, timeout=10)) as connection:
        connection.request("POST", path, json.dumps(asked).encode(), headers)
        answer = connection.getresponse()
        body = answer.read()
        return json.loads(body) if answer.status == 200 else None, answer.headers


def free_port() -> int:
    with socket.create_server((HOST, 0)) as server:
        return int(server.getsockname()[1])


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1):
        return True
    return False


def _until(condition: Callable[[], bool], what: str) -> None:
    """Look every 20 ms. Raises WorkerError naming `what` when it takes too long."""
    until = time.monotonic() + DEADLINE
    while time.monotonic() < until:
        with contextlib.suppress(ConnectionError):  # it has not opened its port yet
            if condition():
                return
        time.sleep(0.02)
    raise WorkerError(f"not in {DEADLINE:.0f} s: {what}")
