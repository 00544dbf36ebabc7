"""`scripts/try`: what the README promises is seen to work, and the machine is not left."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

TRY = Path(__file__).resolve().parents[2] / "scripts" / "try"
# In this interpreter, as `scripts/try` would be in its own .venv; and whoever sends a datagram to
# another machine, or asks for one's address, gets an error, which ends the node.
PROGRAM = """
import runpy, socket, sys
from pathlib import Path

def watch(event, args):
    if event in ("socket.sendto", "socket.sendmsg", "socket.connect"):
        address = args[1]
        if isinstance(address, tuple) and not address[0].startswith("127."):
            sys.stderr.write(f"{event} {address}\\n")
    if event == "socket.getaddrinfo" and not str(args[0]).startswith("127."):
        sys.stderr.write(f"{event} {args[0]}\\n")

sys.addaudithook(watch)
path = Path(sys.argv[2]) if len(sys.argv) > 2 else None
sys.exit(runpy.run_path(sys.argv[1], run_name="tried")["demonstrate"](path, 2 << 20))
"""


def tried(*path: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, str(TRY), *map(str, path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


def test_what_is_shared_is_fetched_and_found_by_two_words() -> None:
    shown = tried()
    assert re.findall(r"^  (\d)  ", shown, re.MULTILINE) == ["1", "2", "3", "4", "5"]
    assert "3 files, 2.0 MiB: identical" in shown
    assert '"cycling Danube"' in shown
    found = "Two weeks of cycling along the Danube, 2.0 MiB, 3 files, verified: found in the DHT"
    assert found in shown
    links = re.findall(r"magnet:\?xt=urn:btih:(\w{40})", shown)
    assert len(links) == 2
    assert len(set(links)) == 1


def test_a_file_of_ones_own_is_found_by_its_name(tmp_path: Path) -> None:
    mine = tmp_path / "my_letter-to.Zo\u00eb.txt"
    mine.write_text("Dear Zo\u00eb")
    shown = tried(mine)
    assert '"my letter"' in shown or '"letter Zo\u00eb"' in shown
    assert f"{mine.name}, 9 bytes, 1 file, verified: found in the DHT" in shown


def test_what_nobody_can_search_for_is_not_searched_for(tmp_path: Path) -> None:
    mine = tmp_path / "---"
    mine.write_bytes(b"x")
    shown = tried(mine)
    assert "1 file, 1 bytes: identical" in shown
    assert "It works." in shown


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Two weeks of cycling along the Danube", "cycling Danube"),
        ("ubuntu-24.04_server.iso", "ubuntu server"),
        ("film", "film"),
        ("a b c", "a b"),
        ("_-.", None),
        ("", None),
    ],
)
def test_the_two_longest_words_are_taken(name: str, words: str | None) -> None:
    assert runpy.run_path(str(TRY), run_name="tried")["two_words"](name) == words
