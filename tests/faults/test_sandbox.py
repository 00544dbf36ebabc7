"""Where the kernel refuses whatever is only faster or safer, all goes on and arrives whole."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import seccomp

SCRIPT = Path(__file__).with_name("sandboxed_process.py")

pytestmark = pytest.mark.skipif(not seccomp.is_possible(), reason="no seccomp filters here")


def run(folder: Path, code: int, calls: list[str]) -> list[str]:
    """What a transfer logs when each of `calls` fails with errno `code`."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(code), str(folder), *calls],
        env={**os.environ, "PYTHONPATH": str(SCRIPT.parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EPERM])
def test_a_node_works_where_every_optional_call_is_refused(tmp_path: Path, code: int) -> None:
    lines = run(tmp_path, code, seccomp.CALLS)
    told = [line for line in lines if os.strerror(code) in line]
    assert [line.split(" (")[0] for line in told] == [
        "no recvmmsg and sendmmsg here",
        f"cannot lock the state folder {tmp_path}/state",
    ]


@pytest.mark.parametrize("call", ["recvmmsg", "sendmmsg"])
def test_one_of_the_two_batch_calls_alone_may_be_missing(tmp_path: Path, call: str) -> None:
    assert sum("no recvmmsg" in line for line in run(tmp_path, errno.ENOSYS, [call])) == 1
