"""The user's own command, run when a download is complete.

The rule: the command comes from this machine's configuration and from nowhere else; no shell reads
it, and nothing of a torrent becomes part of it. What it may want to know is in its environment,
under the names that Transmission gave to this:

    TR_APP_VERSION                the version of this program
    TR_TIME_LOCALTIME             the local time, as `Mon Jun  1 09:00:00 2026`
    TR_TORRENT_BYTES_DOWNLOADED   payload bytes received
    TR_TORRENT_DIR                the folder that its content lies in
    TR_TORRENT_HASH               its id, 40 hex digits
    TR_TORRENT_LABELS             its labels, with commas between them
    TR_TORRENT_NAME               what its file or folder is called there

It gets the environment of the node besides, without what configures the node (`DHTNODE_*`), no
input, and a time limit; what it writes goes to the log.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import trio

import dht_torrent
from dht_torrent.engine.torrent.supervisor import Supervisor
from dht_torrent.filenames import printable
from dht_torrent.ids import InfoHash

logger = logging.getLogger(__name__)

WAITING: Final = 1000
"""Completions that wait for their turn; more are dropped, and logged."""
MAX_OUTPUT: Final = 64 << 10
"""Bytes of its output that are logged; it may write more."""
LINGER: Final = 1.0
"""Seconds for the last of its output, when it has ended and something it left behind has not."""
_OURS: Final = "DHTNODE_"


class OnComplete:
    """Runs the command for one torrent after the other, a few at a time."""

    def __init__(
        self,
        command: Sequence[str],
        supervisors: Mapping[InfoHash, Supervisor],
        *,
        at_once: int,
        timeout: float,
        clock: Callable[[], float],
    ) -> None:
        """`clock` gives Unix time."""
        self._command = list(command)
        self._supervisors = supervisors
        self._at_once = at_once
        self._timeout = timeout
        self._clock = clock
        self._send, self._receive = trio.open_memory_channel[tuple[str, dict[str, str]]](WAITING)

    def completed(self, info_hash: InfoHash) -> None:
        """This torrent is complete."""
        supervisor = self._supervisors.get(info_hash)
        if supervisor is None:
            return
        name = supervisor.core.name
        try:
            self._send.send_nowait((name, self._about(supervisor)))
        except trio.WouldBlock:
            logger.warning("%s: too many completions wait for the command; not run", name)

    async def run(self) -> None:
        """Until cancelled, which ends what runs."""
        async with trio.open_nursery() as nursery:
            for _ in range(self._at_once):
                nursery.start_soon(self._work)

    async def _work(self) -> None:
        async for name, environment in self._receive:
            await self._run(name, environment)

    def _about(self, supervisor: Supervisor) -> dict[str, str]:
        core = supervisor.core
        path = core.place.path(core.metainfo)
        assert path is not None
        return {
            "TR_APP_VERSION": dht_torrent.__version__,
            "TR_TIME_LOCALTIME": time.asctime(time.localtime(self._clock())),
            "TR_TORRENT_BYTES_DOWNLOADED": str(core.totals.downloaded),
            "TR_TORRENT_DIR": str(path.parent.absolute()),
            "TR_TORRENT_HASH": core.context.info_hash.hex(),
            "TR_TORRENT_LABELS": ",".join(core.keeping.labels),
            "TR_TORRENT_NAME": path.name,
        }

    async def _run(self, name: str, environment: Mapping[str, str]) -> None:
        own = {key: value for key, value in os.environ.items() if not key.startswith(_OURS)}
        try:
            process = await trio.lowlevel.open_process(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**own, **environment},
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            logger.warning("%s: the command could not be run: %s", name, error)
            return
        output = process.stdout
        assert output is not None
        try:
            with trio.move_on_after(self._timeout) as scope:
                async with output, trio.open_nursery() as nursery:
                    nursery.start_soon(_log, name, output)
                    await process.wait()
                    nursery.cancel_scope.deadline = trio.current_time() + LINGER
            if scope.cancelled_caught:
                logger.warning("%s: the command took too long, and was ended", name)
            elif process.returncode:
                logger.warning("%s: the command failed: %s", name, _why(process.returncode))
        finally:
            if process.returncode is None:
                _kill(process)
                with trio.CancelScope(shield=True):  # killed as it is, it ends at once
                    await process.wait()


def _kill(process: trio.Process) -> None:
    """With all it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()


def _why(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"


async def _log(name: str, output: trio.abc.ReceiveStream) -> None:
    """All of it is read, lest the command wait for us, and some of it is logged."""
    logged, line = 0, b""
    async for chunk in output:
        if logged >= MAX_OUTPUT:
            continue
        logged += len(chunk)
        *lines, line = (line + chunk).split(b"\n")
        for one in lines:
            logger.info("%s: %s", name, printable(one.decode("utf-8", "replace")))
    if line:
        logger.info("%s: %s", name, printable(line.decode("utf-8", "replace")))
