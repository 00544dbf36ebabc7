"""What a service manager is told, and when."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.daemon.notify import Notify
from tests.cli.test_main import ALONE, PATIENCE, Process

SERVICE = Path(__file__).parent.parent.parent / "scripts" / "dhtnode.service"


class Manager:
    """Hears what it is told."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(PATIENCE)
        self._socket.bind("\0" + path[1:] if path.startswith("@") else path)

    def hear(self) -> list[str]:
        return self._socket.recv(4096).decode().split("\n")

    def waits(self) -> int:
        """How many messages have come."""
        count = 0
        self._socket.setblocking(False)
        try:
            while self._socket.recv(4096):
                count += 1
        except BlockingIOError:
            pass
        self._socket.settimeout(PATIENCE)
        return count

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager() -> Iterator[Manager]:
    with tempfile.TemporaryDirectory(prefix="notify-") as folder:  # a socket's path is short
        made = Manager(f"{folder}/s")
        yield made
        made.close()


def test_a_service_says_when_it_is_ready_reads_again_and_stops(
    manager: Manager, tmp_path: Path
) -> None:
    env = os.environ | {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "600000000"}
    config = tmp_path / "config.toml"
    config.write_text("")
    options = (*ALONE, "--state-dir", tmp_path / "state", "--config", config)
    with Process(*options, session=True, env=env) as node:
        listen = node.line().split()[1].removeprefix("listen=")
        told = sorted([manager.hear(), manager.hear()])
        assert told == [["READY=1", f"STATUS=listening on {listen}"], ["WATCHDOG=1"]]
        node.send(signal.SIGHUP)
        reloading, since = manager.hear()
        assert reloading == "RELOADING=1"
        assert int(since.removeprefix("MONOTONIC_USEC=")) > 0
        assert manager.hear() == ["READY=1"]
        config.write_text("=")
        node.send(signal.SIGHUP)  # it goes on, and is ready again
        assert manager.hear()[0] == "RELOADING=1"
        assert manager.hear() == ["READY=1"]
        node.send(signal.SIGTERM)
        assert manager.hear() == ["STOPPING=1"]
        assert node.end()[0] == 0


async def test_a_sign_of_life_comes_twice_as_often_as_one_must(
    manager: Manager, autojump_clock: MockClock
) -> None:
    given = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "30000000"}
    for pid, count in ((str(os.getpid()), 4), (str(os.getpid() + 1), 0), (None, 4)):
        notify = Notify(given | ({"WATCHDOG_PID": pid} if pid is not None else {}))
        with trio.move_on_after(15 * 3 + 1):
            await notify.watch()
        assert manager.waits() == count


@pytest.mark.parametrize("patience", ["", "x", "-5", "0" * 40, "٣", "1e6"])
def test_a_watchdog_of_no_sense_is_none(patience: str) -> None:
    assert Notify({"WATCHDOG_USEC": patience}).interval is None


def test_a_watchdog_of_no_patience_does_not_take_the_processor() -> None:
    assert Notify({"WATCHDOG_USEC": "1"}).interval == 0.1


@pytest.mark.skipif(sys.platform != "linux", reason="these sockets are Linux's")
def test_an_abstract_socket_is_reached() -> None:
    manager = Manager(f"@dhtnode-test-{os.getpid()}")
    Notify({"NOTIFY_SOCKET": manager.path}).send("READY=1")
    assert manager.hear() == ["READY=1"]
    manager.close()


@pytest.mark.parametrize("where", ["", "relative", "/nowhere/at/all", "@", "vsock:2:1"])
def test_a_manager_that_is_not_there_is_no_error(where: str) -> None:
    Notify({"NOTIFY_SOCKET": where}).send("READY=1")
    Notify({}).send("READY=1")


def test_a_manager_that_does_not_read_holds_nothing_up(manager: Manager) -> None:
    notify = Notify({"NOTIFY_SOCKET": manager.path})
    for _ in range(5000):
        notify.send("WATCHDOG=1")
    assert 0 < manager.waits() < 5000


# --- the unit ------------------------------------------------------------------------------------


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, of a program that is installed."""
    path = tmp_path / "dhtnode.service"
    program = str(Path(sys.executable).resolve())
    text = SERVICE.read_text()
    for key in ("ExecStart", "ExecReload"):
        assert f"\n{key}=dhtnode" in text
        text = text.replace(f"\n{key}=dhtnode", f"\n{key}={program}")
    path.write_text(text)
    return path


def analyze(*args: str) -> subprocess.CompletedProcess[str]:
    line = ["systemd-analyze", *args]
    try:
        return subprocess.run(line, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except FileNotFoundError:
        pytest.skip("there is no systemd-analyze")


def test_the_unit_is_one_that_systemd_takes(unit: Path) -> None:
    run = analyze("verify", "--man=no", str(unit))
    assert (run.returncode, run.stderr) == (0, "")


def test_the_service_is_exposed_to_little(unit: Path) -> None:
    run = analyze("security", "--offline=true", "--threshold=15", str(unit))
    if "unrecognized option" in run.stderr:
        pytest.skip("this systemd cannot tell")
    assert run.returncode == 0, run.stdout


def test_the_unit_knows_the_exit_code_of_bad_input_and_the_variables() -> None:
    text = SERVICE.read_text()
    assert "RestartPreventExitStatus=2\n" in text
    (line,) = [line for line in text.splitlines() if line.startswith("Environment=")]
    names = {one.partition("=")[0] for one in line.removeprefix("Environment=").split()}
    assert names == {"XDG_CONFIG_HOME", "DHTNODE_STATE_DIR", "DHTNODE_DOWNLOAD_DIR"}
