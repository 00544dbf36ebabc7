"""How fast do we exchange with aria2 and Transmission, and how fast does libtorrent?

    python scripts/bench/clients.py --size 200000000 --piece 1MiB --rounds 5
    python scripts/bench/clients.py --encryption required

One seed, one leech; one of them is the client, the other ours or libtorrent, which take turns. A
run lasts from the go, when ours or libtorrent is told the client's address and dials it, until the
leech has everything, choking and all. Loopback TCP, no DHT, no encryption; libtorrent and the
clients start from the .torrent, ours fetches from a magnet link. Every copy is compared byte for
byte. Needs aria2c and transmission-daemon; one that is not there is left out.

With --encryption required it asks how much time encryption costs us, with each of them and with
libtorrent: ours is always at one end, and transfers in which both sides require RC4 take turns with
the same without MSE.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from peers import (
    DEADLINE,
    NAME,
    Peer,
    WorkerError,
    differences,
    empty,
    libtorrent_create,
    make_content,
    parse_size,
    settle,
    worker,
)
from table import table
from transfer import magnet_of

SIDES = ("ours", "libtorrent")
MODES = ("rc4", "off")
"""What ours is told of encryption, where that is the question."""
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Run:
    """One copy of the content."""

    client: str
    side: str
    """Who was at the other end: ours, or libtorrent."""
    client_seeds: bool
    encryption: str
    """Of both: `none` as ours likes it, `off` without MSE, `rc4` with all payload encrypted."""
    seconds: float


@dataclass(frozen=True)
class Bench:
    """What all the copies of one invocation share."""

    content: Path
    torrent: Path
    magnet: str
    size: int
    piece_length: int
    folder: Path

    def run(self, client: str, side: str, client_seeds: bool, encryption: str = "none") -> Run:
        """Raises SystemExit when the copy is wrong."""
        download, state = self.folder / "download", self.folder / "state"
        empty(download)
        empty(state)
        settle()
        folder = self.content.parent if client_seeds else download
        role = ("our" if side == "ours" else "lt") + ("-leech" if client_seeds else "-seed")
        with (
            CLIENTS[client](
                Place(self.torrent, folder, state, self.size), client_seeds, encryption == "rc4"
            ) as (address, complete),
            worker(role, **self._options(side, client_seeds, download, encryption)) as other,
        ):
            other.expect("ready")
            began = time.monotonic()
            other.go([address])
            if client_seeds:
                seconds = float(other.expect("done")["seconds"])
            else:
                complete()
                seconds = time.monotonic() - began
            other.stop()
        if wrong := differences(self.content, download / NAME):
            raise SystemExit(f"{client} and {side}: the copy is wrong: {wrong[:5]}")
        return Run(client, side, client_seeds, encryption, seconds)

    def _options(
        self, side: str, client_seeds: bool, download: Path, encryption: str
    ) -> dict[str, Any]:
        if side == "ours":
            return {
                "path": str(self.content),
                "piece_length": self.piece_length,
                "folder": str(download),
                "magnet": self.magnet,
                "encryption": encryption,
            }
        folder = download if client_seeds else self.content.parent
        return {"torrent": str(self.torrent), "folder": str(folder), "preset": "default"}


# --- the clients -----------------------------------------------------------------------------


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


Started = tuple[Peer, Callable[[], object]]
"""Where a client listens, and what waits until it has everything."""


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

    with running(command, place.state / "log"):
        size = place.size if seeds else 0
        _until(lambda: have() == size and listens(peer_port), "aria2 is ready")
        yield (HOST, peer_port), lambda: _until(lambda: have() == place.size, "aria2 has all")


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

    with running(["transmission-daemon", "-f", "-g", str(place.state)], place.state / "log"):
        _until(lambda: listens(rpc_port), "Transmission is ready")
        call("torrent-add", filename=str(place.torrent))
        size = place.size if seeds else 0
        _until(lambda: have() == size and listens(peer_port), "Transmission has looked")
        yield (
            (HOST, peer_port),
            lambda: _until(lambda: have() == place.size, "Transmission has all"),
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
        yield (HOST, port), lambda: client.expect("done")


CLIENTS = {"aria2": aria2, "transmission": transmission, "libtorrent": libtorrent}
PROGRAMS = {"aria2": "aria2c", "transmission": "transmission-daemon"}


@contextlib.contextmanager
def running(command: Sequence[str], log: Path) -> Iterator[None]:
    """The program, surely gone at the end of the block."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield
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


# --- what came out ---------------------------------------------------------------------------


def report(runs: list[Run], size: int) -> str:
    """The medians, and ours over libtorrent's."""
    rows = []
    for name, mine in grouped(runs):
        rates = {
            side: sorted(size / run.seconds / 1e6 for run in mine if run.side == side)
            for side in SIDES
        }
        ours, theirs = (statistics.median(rates[side]) for side in SIDES)
        spread = [f"{rate[0]:.0f}..{rate[-1]:.0f}" for rate in rates.values()]
        rows.append(
            [name, f"{ours:.1f}", spread[0], f"{theirs:.1f}", spread[1], f"{ours / theirs:.2f}"]
        )
    head = ["", "ours MB/s", "min..max", "libtorrent MB/s", "min..max", "ratio"]
    return table(head, rows)


def report_encryption(runs: list[Run]) -> str:
    """The medians, and the time with RC4 over that without."""
    rows = []
    for name, mine in grouped(runs):
        times = {
            mode: sorted(run.seconds for run in mine if run.encryption == mode) for mode in MODES
        }
        rc4, plain = (statistics.median(times[mode]) for mode in MODES)
        spread = [f"{one[0]:.2f}..{one[-1]:.2f}" for one in times.values()]
        rows.append(
            [name, f"{rc4:.2f}", spread[0], f"{plain:.2f}", spread[1], f"{rc4 / plain:.2f}"]
        )
    return table(["", "RC4 s", "min..max", "plain s", "min..max", "ratio"], rows)


def grouped(runs: list[Run]) -> Iterator[tuple[str, list[Run]]]:
    """Those of each client in each direction."""
    for client, client_seeds in dict.fromkeys((run.client, run.client_seeds) for run in runs):
        mine = [run for run in runs if (run.client, run.client_seeds) == (client, client_seeds)]
        yield f"from {client}" if client_seeds else f"to {client}", mine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=parse_size, default=200_000_000)
    parser.add_argument("--piece", type=parse_size, default=parse_size("1MiB"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help="`from` or `to` a client, as: from aria2")
    parser.add_argument(
        "--encryption", choices=("any", "required"), default="any", help="what to ask; default any"
    )
    parser.add_argument("--dir", type=Path, help="where to put the data, as /dev/shm")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    args = parser.parse_args()
    encrypts = args.encryption == "required"
    turns = [
        (client, client_seeds)
        for client in CLIENTS
        for client_seeds in (True, False)
        if (args.only or "") in f"{'from' if client_seeds else 'to'} {client}"
        and (shutil.which(PROGRAMS[client]) if client in PROGRAMS else encrypts)
    ]
    if not turns:
        parser.error("nothing to measure: no client is installed, or --only matches none")

    with tempfile.TemporaryDirectory(prefix="bench-", dir=args.dir) as name:
        folder = Path(name)
        (folder / "seed").mkdir()
        content = make_content(folder / "seed", args.size, 1)
        torrent = folder / "content.torrent"
        torrent.write_bytes(libtorrent_create(content, args.piece))
        bench = Bench(content, torrent, magnet_of(torrent), args.size, args.piece, folder)
        runs = [
            bench.run(client, side, client_seeds, encryption)
            for client, client_seeds in turns
            for _ in range(args.rounds)
            for side, encryption in (
                [("ours", mode) for mode in MODES]
                if encrypts
                else [(side, "none") for side in SIDES]
            )
        ]
    if args.json:
        asked = {key: str(value) for key, value in vars(args).items()}
        print(json.dumps({"asked": asked, "runs": [asdict(run) for run in runs]}))
    else:
        print(f"{args.size / 1e6:.0f} MB in one file, pieces of {args.piece >> 10} KiB,")
        print(f"median of {args.rounds} rounds, every copy compared byte for byte")
        print(report_encryption(runs) if encrypts else report(runs, args.size))


if __name__ == "__main__":
    main()
