"""A node of ours in another network namespace, as a process."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from tests.helpers.clients import running
from tests.helpers.content import make_file
from tests.helpers.waiting import until
from tests.interop.namespaces import Space

PORT = 6881
"""Where it listens, in both families."""
_PROCESS = Path(__file__).with_name("friend_process.py")


@contextlib.asynccontextmanager
async def friend(
    where: Space, folder: Path, sizes: list[int], *magnets: str, lsd: bool = True
) -> AsyncIterator[tuple[list[str], Path]]:
    """It shares files of these sizes, and fetches the magnets. Yields the magnets of what it
    shares, and the file in which it says what it does."""
    for number, size in enumerate(sizes):
        make_file(folder / "share" / f"file{number}", size, seed=number)
    (folder / "share").mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(_PROCESS), str(folder), f"0.0.0.0:{PORT},[::]:{PORT}"]
    command += ["lsd" if lsd else "no", "none", *magnets]
    log = folder / "log"
    async with running(where.command(command), log):
        await until(lambda: "ready" in log.read_text(), "the friend runs")
        yield log.read_text().split()[: len(sizes)], log
