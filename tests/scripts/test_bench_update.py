"""The benchmark of updates measures what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench" / "update.py"


def test_an_update_fetches_little_more_than_what_changed() -> None:
    done = subprocess.run(
        [
            *(sys.executable, str(SCRIPT), "--size", "8MiB", "--piece", "16KiB", "--files", "30"),
            *("--rounds", "1", "--only", "shared", "--only", "floor", "--json"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        env={"PYTHONPATH": str(SCRIPT.parents[2]), "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    update, floor = found["runs"]
    assert update["contestant"] == "shared"
    assert 0.05 < update["fetched"] / found["size"] < 0.12  # pieces are large here, for so little
    assert floor["fetched"] == 0
    assert min(update["seconds"], update["cpu"], floor["seconds"]) > 0
