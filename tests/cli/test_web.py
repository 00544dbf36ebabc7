"""`dhtnode web`, and what `--web` says."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import httpx

from tests.cli.test_main import daemon, run

WEB = ("--bootstrap", "none", "--web", "127.0.0.1:0")


def test_the_secret_link_is_told_at_the_start_and_by_a_command(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with daemon(state, *WEB, "--web-read-only") as (node, _):
        told = re.fullmatch(r"dhtnode: the page is at (http://127\.\S+)", node.error_line())
        assert told is not None
        shown = run("web", "--state-dir", state)
        assert (shown.exit_code, shown.stdout) == (0, f"{told[1]}\n")
        with httpx.Client(follow_redirects=True) as client:
            page = client.get(told[1])
            assert page.status_code == 200
            stop = client.post(str(page.url.join("/api/v1/stop")), json={})
            assert stop.status_code == 403  # it is for looking only
        code, out, err = node.end(signal.SIGTERM)
        assert (code, out) == (0, "")
        assert "key=" not in err
    gone = run("web", "--state-dir", state)
    assert gone.exit_code == 2
    assert "--web" in gone.stderr


def test_the_link_of_a_node_that_was_killed_is_not_shown(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with daemon(state, *WEB) as (node, _):
        node.error_line()
        node.end(signal.SIGKILL)
    assert (state / "web").exists()
    assert run("web", "--state-dir", state).exit_code == 2
