"""How long does the list of thousands of torrents take over Transmission's RPC?

    python scripts/bench/rpc.py --torrents 2000 --rounds 9 [--finished] [--json]

Our daemon and Debian's transmission-daemon have the same torrents, paused, or with --finished all
there and verified (files of zeros, which take no room on the disk), and no network. They take
turns: `torrent-get` of all torrents with all fields of Transmission 3.00, with those that Sonarr
asks for, and what was active in the last minute, each over a connection made before, until the
answer is here. CPU is that of the daemon, for one answer. Without transmission-daemon, ours is
measured alone.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import http.client
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from command import compiling
from machine import load, machine
from peers import DEADLINE
from programs import HOST, free_port, is_installed, listens, running, used_by
from table import table

from dht_torrent import bencode

SESSION: Final = "X-Transmission-Session-Id"
PATH: Final = "/transmission/rpc"
LOG_IN: Final = "bench:bench"
PIECE: Final = 16 * 1024
FILES: Final = 3
PIECES_OF_A_FILE: Final = 32
SETTLED: Final = 90.0
"""Seconds after which at the latest nothing is recently active any more: a minute, and some."""
ALL: Final = (
    *("activityDate", "addedDate", "bandwidthPriority", "comment", "corruptEver", "creator"),
    *("dateCreated", "desiredAvailable", "doneDate", "downloadDir", "downloadedEver"),
    *("downloadLimit", "downloadLimited", "editDate", "error", "errorString", "eta", "etaIdle"),
    *("files", "fileStats", "hashString", "haveUnchecked", "haveValid", "honorsSessionLimits"),
    *("id", "isFinished", "isPrivate", "isStalled", "labels", "leftUntilDone", "magnetLink"),
    *("manualAnnounceTime", "maxConnectedPeers", "metadataPercentComplete", "name"),
    *("peer-limit", "peers", "peersConnected", "peersFrom", "peersGettingFromUs"),
    *("peersSendingToUs", "percentDone", "pieces", "pieceCount", "pieceSize", "priorities"),
    *("queuePosition", "rateDownload", "rateUpload", "recheckProgress", "secondsDownloading"),
    *("secondsSeeding", "seedIdleLimit", "seedIdleMode", "seedRatioLimit", "seedRatioMode"),
    *("sizeWhenDone", "startDate", "status", "torrentFile", "totalSize", "trackers"),
    *("trackerStats", "uploadedEver", "uploadLimit", "uploadLimited", "uploadRatio", "wanted"),
    *("webseeds", "webseedsSendingToUs"),
)
"""Of a torrent in Transmission 3.00."""
SONARR: Final = (
    *("id", "hashString", "name", "downloadDir", "totalSize", "leftUntilDone", "isFinished"),
    *("eta", "status", "secondsDownloading", "secondsSeeding", "errorString", "uploadedEver"),
    *("downloadedEver", "seedRatioLimit", "seedRatioMode", "seedIdleLimit", "seedIdleMode"),
    *("fileCount", "labels"),
)
ASKED: Final[dict[str, dict[str, Any]]] = {
    "all fields": {"fields": ALL},
    "Sonarr's fields": {"fields": SONARR},
    "recently active": {"fields": ALL, "ids": "recently-active"},
}


@dataclass(frozen=True)
class Run:
    """One answer."""

    asked: str
    daemon: str
    seconds: float
    size: int
    """Bytes of the answer."""
    torrents: int
    """In it."""


class Rpc:
    """One connection to a daemon."""

    def __init__(self, port: int, pid: int, log: Path) -> None:
        self.pid = pid
        self._log = log
        self._connection = http.client.HTTPConnection(HOST, port, timeout=DEADLINE)
        password = base64.b64encode(LOG_IN.encode()).decode()
        self._headers = {
            "Authorization": f"Basic {password}",
            "Content-Type": "application/json",
            SESSION: "",
        }

    def post(self, method: str, arguments: dict[str, Any]) -> tuple[bytes, float]:
        """The body of the answer, and the seconds it took. Raises SystemExit when there is none."""
        try:
            return self._post(method, arguments)
        except (OSError, http.client.HTTPException) as error:
            raise SystemExit(
                f"{method} was not answered: {error!r}; process {self.pid} {_state(self.pid)}, and"
                f" said last: {_end(self._log)}"
            ) from None

    def _post(self, method: str, arguments: dict[str, Any]) -> tuple[bytes, float]:
        body = json.dumps({"method": method, "arguments": arguments})
        for _ in range(2):
            self._connection.close()  # an idle one may have been closed by the other side
            self._connection.connect()
            began = time.perf_counter()
            self._connection.request("POST", PATH, body, self._headers)
            answer = self._connection.getresponse()
            told = answer.read()
            took = time.perf_counter() - began
            if answer.status != 409:
                break
            self._headers[SESSION] = str(answer.headers[SESSION])
        if answer.status != 200:
            raise SystemExit(f"{method} was answered with {answer.status}: {told[:200]!r}")
        return told, took

    def call(self, method: str, **arguments: Any) -> Any:
        told = json.loads(self.post(method, arguments)[0])
        if told["result"] != "success":
            raise SystemExit(f"{method} failed: {told['result']}")
        return told["arguments"]

    def cpu(self) -> float:
        return used_by(self.pid)[0]


def make_torrents(folder: Path, count: int, *, on_disk: bool) -> list[bytes]:
    """.torrent files of folders of zeros; `on_disk` makes these in `folder`, with holes."""
    size = PIECES_OF_A_FILE * PIECE
    pieces = hashlib.sha1(bytes(PIECE)).digest() * (FILES * PIECES_OF_A_FILE)
    made = []
    for number in range(count):
        name = f"torrent {number:05d}"
        names = [f"part {index}.bin" for index in range(FILES)]
        info: dict[bytes, bencode.Value] = {
            b"name": name.encode(),
            b"piece length": PIECE,
            b"pieces": pieces,
            b"files": [{b"length": size, b"path": [one.encode()]} for one in names],
        }
        made.append(bencode.encode({b"info": info}))
        if on_disk:
            (folder / name).mkdir(parents=True)
            for one in names:
                with (folder / name / one).open("wb") as file:
                    file.truncate(size)
    return made


@contextlib.contextmanager
def ours(folder: Path, content: Path, environment: dict[str, str]) -> Iterator[Rpc]:
    """Our daemon."""
    auth, log = folder / "auth", folder / "log"
    auth.write_text(LOG_IN + "\n")
    auth.chmod(0o600)
    port = free_port()
    command = [
        *("env", *(f"{key}={environment[key]}" for key in ("PYTHONPATH", "PYTHONPYCACHEPREFIX"))),
        *(sys.executable, "-m", "dht_torrent", "--bootstrap", "none", "--listen", f"{HOST}:0"),
        *("--no-lsd", "--state-dir", str(folder / "state"), "--download-dir", str(content)),
        *("--web", f"{HOST}:{port}", "--rpc-auth-file", str(auth)),
    ]
    with running(command, log) as pid:
        yield _ready(port, pid, log)


@contextlib.contextmanager
def transmission(folder: Path, content: Path, environment: dict[str, str]) -> Iterator[Rpc]:
    """Debian's."""
    port, log = free_port(), folder / "log"
    user, _, password = LOG_IN.partition(":")
    settings = {
        "bind-address-ipv4": HOST,
        "dht-enabled": False,
        "download-dir": str(content),
        "download-queue-enabled": False,
        "lpd-enabled": False,
        "peer-port": free_port(),
        "pex-enabled": False,
        "port-forwarding-enabled": False,
        "rpc-authentication-required": True,
        "rpc-bind-address": HOST,
        "rpc-password": password,
        "rpc-port": port,
        "rpc-username": user,
        "utp-enabled": False,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    with running(["transmission-daemon", "-f", "-g", str(folder)], log) as pid:
        yield _ready(port, pid, log)


def _ready(port: int, pid: int, log: Path) -> Rpc:
    deadline = time.monotonic() + DEADLINE
    while not listens(port):
        if time.monotonic() > deadline:
            raise SystemExit(f"it does not listen: process {_state(pid)}, and said: {_end(log)}")
        time.sleep(0.1)
    return Rpc(port, pid, log)


def _state(pid: int) -> str:
    """Whether the process is there; one that has ended waits for us to look (Z)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "has gone"
    return "has ended" if state in "ZX" else "is there"


def _end(log: Path) -> str:
    return log.read_text(errors="replace")[-500:].strip() or "nothing"


DAEMONS: Final = {"ours": ours, "transmission": transmission}


def fill(rpc: Rpc, torrents: Sequence[bytes], *, finished: bool) -> None:
    """Give it the torrents, and wait until it has looked at what is there."""
    for torrent in torrents:
        told = base64.b64encode(torrent).decode()
        rpc.call("torrent-add", metainfo=told, paused=not finished)
    deadline = time.monotonic() + DEADLINE
    while True:
        rows = rpc.call("torrent-get", fields=["status"])["torrents"]
        if len(rows) == len(torrents) and {row["status"] for row in rows} <= {0, 6}:
            return
        if time.monotonic() > deadline:
            raise SystemExit("the torrents do not come to rest")
        time.sleep(1)


def settle(rpc: Rpc) -> None:
    """Wait until nothing of it was active in the last minute."""
    deadline = time.monotonic() + SETTLED
    while time.monotonic() < deadline:
        if not rpc.call("torrent-get", fields=["id"], ids="recently-active")["torrents"]:
            return
        time.sleep(2)


def measure(daemons: dict[str, Rpc], rounds: int) -> tuple[list[Run], dict[tuple[str, str], float]]:
    """Each question `rounds` times to each, in turns; and CPU seconds of a daemon for an answer."""
    runs: list[Run] = []
    used: dict[tuple[str, str], float] = {}
    for asked, arguments in ASKED.items():
        for rpc in daemons.values():
            rpc.post("torrent-get", arguments)
        for _ in range(rounds):
            for name, rpc in daemons.items():
                before = rpc.cpu()
                told, seconds = rpc.post("torrent-get", arguments)
                used[asked, name] = used.get((asked, name), 0.0) + rpc.cpu() - before
                torrents = len(json.loads(told)["arguments"]["torrents"])
                runs.append(Run(asked, name, seconds, len(told), torrents))
    return runs, {key: seconds / rounds for key, seconds in used.items()}


def report(runs: Sequence[Run], used: dict[tuple[str, str], float]) -> str:
    """The medians, and ours over Transmission's."""
    rows, ratios = [], []
    for asked in ASKED:
        medians = {}
        for name in dict.fromkeys(run.daemon for run in runs):
            mine = [run for run in runs if (run.asked, run.daemon) == (asked, name)]
            times = sorted(1000 * run.seconds for run in mine)
            medians[name] = statistics.median(times)
            rows.append(
                [
                    f"{asked}, {name}",
                    f"{medians[name]:.1f}",
                    f"{times[0]:.1f}..{times[-1]:.1f}",
                    f"{1000 * used[asked, name]:.1f}",
                    str(mine[-1].torrents),
                    f"{mine[-1].size / 1e6:.2f}",
                ]
            )
        if len(medians) == 2:
            ratios.append(f"{asked}: {medians['ours'] / medians['transmission']:.2f}")
    told = table(["", "ms", "min..max", "CPU ms", "torrents", "MB"], rows)
    return told + (f"\nours over transmission: {', '.join(ratios)}" if ratios else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torrents", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--finished", action="store_true", help="all there, and seeding")
    parser.add_argument("--alone", action="store_true", help="ours only")
    parser.add_argument("--no-settle", action="store_true", help="do not wait for a minute first")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    args = parser.parse_args()
    if args.torrents < 1 or args.rounds < 1:
        parser.error("at least one torrent and one round")
    names = ["ours"]
    if not args.alone and is_installed("transmission"):
        names.append("transmission")
    before = load()
    with tempfile.TemporaryDirectory(prefix="bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        content = folder / "content"
        content.mkdir()
        torrents = make_torrents(content, args.torrents, on_disk=args.finished)
        environment = compiling(folder / "bytecode")
        daemons: dict[str, Rpc] = {}
        for one in names:
            (folder / one).mkdir()
            daemons[one] = stack.enter_context(DAEMONS[one](folder / one, content, environment))
            fill(daemons[one], torrents, finished=args.finished)
        if not args.no_settle:
            for rpc in daemons.values():
                settle(rpc)
        runs, used = measure(daemons, args.rounds)
    if args.json:
        facts = {"machine": machine(before), "runs": [asdict(run) for run in runs]}
        cpu = [{"asked": key[0], "daemon": key[1], "cpu": used[key]} for key in used]
        print(json.dumps({**facts, "cpu": cpu}))
        return
    how = "finished" if args.finished else "paused"
    pieces = FILES * PIECES_OF_A_FILE
    print(f"{args.torrents} torrents, {how}, of {FILES} files and {pieces} pieces;", end=" ")
    print(f"median of {args.rounds} rounds\n{machine(before)}")
    print(report(runs, used))


if __name__ == "__main__":
    main()
