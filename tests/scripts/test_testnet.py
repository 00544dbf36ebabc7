"""The script tells where to join, answers there, and ends quietly."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dht_torrent.ids import parse_address

SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "testnet.py"
PING = b"d1:ad2:id20:" + b"a" * 20 + b"e1:q4:ping1:t2:aa1:y1:qe"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_stopped(how: signal.Signals) -> None:
    command = [sys.executable, str(SCRIPT), "--nodes", "5", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            said = json.loads(process.stdout.readline())
            assert said["nodes"] == len(said["bootstrap"]) == 5
            for text in said["bootstrap"]:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
                    asker.settimeout(10)
                    asker.sendto(PING, parse_address(text))
                    assert asker.recv(2048).endswith(b"1:y1:re")
            process.send_signal(how)
            assert process.wait(10) == 0
            assert process.stdout.read() == b""
            assert b"Traceback" not in process.stderr.read()
        finally:
            process.kill()


def test_it_ends_without_a_word_when_its_output_is_closed() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, str(SCRIPT), "--nodes", "3"]
    with os.fdopen(writer, "w") as gone:
        done = subprocess.run(command, stdout=gone, stderr=subprocess.PIPE, timeout=30)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_wrong_flag_is_one_line_and_code_2() -> None:
    command = [sys.executable, str(SCRIPT), "--host", "8.8.8.8"]
    done = subprocess.run(command, capture_output=True, timeout=30)
    assert done.returncode == 2
    assert done.stdout == b""
    assert len(done.stderr.splitlines()) == 1
