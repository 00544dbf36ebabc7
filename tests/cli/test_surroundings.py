"""Odd surroundings: whatever they are, a command says a line at most, and no record is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from dht_torrent.daemon.client import connect
from dht_torrent.engine.state import StateDir
from dht_torrent.storage.making import make

PATIENCE = 60.0
ID = "a" * 40
HOMELESS = "import pwd; pwd.getpwuid = lambda uid: {}[uid]\n"
MAIN = "from dht_torrent.cli.main import main; main()"
NAME = os.fsdecode(b"na\xc3\xafve caf\xe9 \xe2\x80\xae\x1b[2J.bin")
ALONE = ["--bootstrap", "none", "--listen", "127.0.0.1:0"]

Arrange = Callable[[], None]


def closed(*numbers: int) -> Arrange:
    def arrange() -> None:
        for number in numbers:
            os.close(number)

    return arrange


def unread(*numbers: int) -> Arrange:
    """As before `| head -0`: a pipe whose other end is closed."""

    def arrange() -> None:
        for number in numbers:
            read, write = os.pipe()
            os.close(read)
            os.dup2(write, number)
            os.close(write)

    return arrange


def nowhere() -> None:
    folder = f"/tmp/dhtnode-gone-{os.getpid()}"
    os.mkdir(folder)  # noqa: PTH102
    os.chdir(folder)
    os.rmdir(folder)  # noqa: PTH106


SURROUNDINGS: Mapping[str, tuple[Arrange | None, str, dict[str, str | None]]] = {
    "nothing odd": (None, "", {}),
    "stdout closed": (closed(1), "", {}),
    "stderr closed": (closed(2), "", {}),
    "all closed": (closed(0, 1, 2), "", {}),
    "stdout unread": (unread(1), "", {}),
    "both unread": (unread(1, 2), "", {}),
    "an ASCII locale": (None, "", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    "an ASCII encoding": (None, "", {"PYTHONIOENCODING": "ascii"}),
    "a Latin encoding": (None, "", {"PYTHONIOENCODING": "latin-1:strict"}),
    "no home": (None, HOMELESS, {"HOME": None}),
    "no working directory": (nowhere, "", {}),
}


def start(surrounding: str, *args: object) -> subprocess.Popen[bytes]:
    arrange, prelude, changes = SURROUNDINGS[surrounding]

    def prepare() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever started the tests may ignore it
        if arrange is not None:
            arrange()

    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent), **changes}
    return subprocess.Popen(
        [sys.executable, "-P", "-c", prelude + MAIN, *map(os.fspath, map(str, args))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env={key: value for key, value in environment.items() if value is not None},
        preexec_fn=prepare,
    )


def end(process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    try:
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    return process.returncode, out, err


def files(folder: Path) -> tuple[Path, Path, str]:
    """A file to share, its .torrent, and the torrent's id."""
    content = folder / NAME
    content.write_bytes(os.urandom(40_000))  # each test's node has a torrent of its own
    made = make(content)
    torrent = folder / "x.torrent"
    torrent.write_bytes(made.to_torrent())
    return content, torrent, made.info_hash.hex()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The state directory of a node that runs."""
    state = tmp_path_factory.mktemp("node") / "state"
    process = start("nothing odd", *ALONE, "--state-dir", state, "--download-dir", state.parent)
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"ready ")
    yield state
    process.terminate()
    assert end(process)[0] in (0, 143)


@pytest.mark.parametrize("surrounding", SURROUNDINGS)
def test_no_command_ends_with_a_traceback(surrounding: str, node: Path, tmp_path: Path) -> None:
    content, torrent, torrent_id = files(tmp_path)
    with connect(node) as client:
        client.get(torrent.read_bytes())
    here = ["--state-dir", node]
    commands: list[list[object]] = [
        ["--help"],
        ["--version"],
        ["show", torrent],
        ["show", f"magnet:?xt=urn:btih:{ID}&dn=na%C3%AFve"],
        ["create", content, "-o", tmp_path / "made.torrent"],
        ["share", content, *here],
        ["get", torrent, "--no-wait", *here],
        *([command, *here] for command in ("ls", "status", "limit")),
        *([command, torrent_id, *here] for command in ("peers", "files", "pause", "resume")),
        ["ls", "--json", *here],
        ["dht", "table", *here],
        ["rm", "beef", *here],
        ["nonsense\udcff"],
        ["ls", "--state-dir", tmp_path / "nobody"],
    ]
    fails = 3
    running = [start(surrounding, *command) for command in commands]
    for number, (process, command) in enumerate(zip(running, commands, strict=True)):
        code, out, err = end(process)
        assert b"Traceback" not in err + out, (command, err)
        assert b"Exception" not in err, (command, err)
        assert code == (2 if number >= len(commands) - fails else 0), (command, code, err)
        assert b"\x1b" not in out + err
    assert (tmp_path / "made.torrent").exists()
    with connect(node) as client:
        assert torrent_id in [one["id"] for one in client.torrents()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("surrounding", ["nothing odd", "all closed", "both unread"])
def test_a_signal_ends_a_node_in_order(
    surrounding: str, number: signal.Signals, tmp_path: Path
) -> None:
    content, _, torrent_id = files(tmp_path)
    state = tmp_path / "state"
    process = start(surrounding, "share", content, "--no-publish", *ALONE, "--state-dir", state)
    until = time.monotonic() + PATIENCE
    while not list((state / "torrents").glob("*.resume")) or not (state / "control").exists():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(number)
    code, _, err = end(process)
    assert code in (0, 128 + number)
    assert err == b""
    assert not (state / "control").exists()
    assert not (state / "control.sock").exists()
    with StateDir(state) as left:
        records, warnings = left.load_all()
        assert [record.info_hash.hex() for record in records] == [torrent_id]
        assert warnings == []


def test_a_node_started_with_nohup_outlives_the_terminal(tmp_path: Path) -> None:
    state = tmp_path / "state"
    process = subprocess.Popen(
        [sys.executable, "-m", "dht_torrent", *ALONE, "--state-dir", str(state)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)},
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"ready ")
    process.send_signal(signal.SIGHUP)
    with connect(state) as client:
        assert client.status()["torrents"] == 0
    process.terminate()
    assert end(process)[2] == b""


def test_output_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    content, _, _ = files(tmp_path)
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "dht_torrent", "create", content, "-o", tmp_path / "t.torrent"],
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=PATIENCE,
            check=False,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)},
        )
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert b"no space left" in done.stderr


@pytest.mark.parametrize("args", [["ls"], ["--listen", "127.0.0.1:0"], ["get", ID]])
def test_without_a_home_one_is_asked_for_a_state_directory(args: list[str]) -> None:
    code, out, err = end(start("no home", *args))
    assert (code, out) == (2, b"")
    assert b"--state-dir" in err
    assert err.count(b"\n") == 1
