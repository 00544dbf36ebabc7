"""A node in the foreground: open it, serve its control socket, do a job, and end on the first of a
signal, a client's stop, or the job's end. A second signal ends the process at once.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from dht_torrent.daemon.control import Control
from dht_torrent.daemon.notify import Notify
from dht_torrent.daemon.server import serve
from dht_torrent.engine.opening import open_node
from dht_torrent.engine.wakeup import AutoResetEvent
from dht_torrent.errors import DhtTorrentError, InputError
from dht_torrent.relief import raise_descriptor_limit

if TYPE_CHECKING:
    from dht_torrent.config import Config
    from dht_torrent.daemon.reload import Reload
    from dht_torrent.daemon.web_app import WebOptions
    from dht_torrent.engine.node import Node
    from dht_torrent.ids import Address

logger = logging.getLogger(__name__)

CLOSING_TIME = 4.0
"""Seconds the node gets to save and say goodbye after a signal. Service managers and people expect
an answer to SIGTERM in about five."""


async def run(
    config: Config,
    control: str | None,
    job: Callable[[Node, Control], Awaitable[None]],
    web: WebOptions | None = None,
    reload: Reload | None = None,
) -> signal.Signals | None:
    """Run a node with `config` and its control socket while `job` runs; and with what it answers to
    other programs. `reload` is called when a client asks for it, and at SIGHUP if no terminal could
    have sent that. Needs `config.state_dir`.

    Returns the signal that ended it, or None when the job ended or a client said stop.
    """
    if config.state_dir is None:
        raise InputError("a node with a control socket needs a state directory")
    state_dir = Path(config.state_dir)
    raise_descriptor_limit()  # the process is ours
    notify = Notify()
    ending = _Ending(reloads=reload is not None and not has_terminal())
    async with trio.open_nursery() as signals:
        await signals.start(ending.watch)
        with ending.limit:
            async with open_node(config) as node, trio.open_nursery() as nursery:

                async def serving(*, task_status: trio.TaskStatus[Control]) -> None:
                    await serve(node, control, state_dir, reload=reload, task_status=task_status)
                    nursery.cancel_scope.cancel()  # a client said stop

                async def serving_web(*, task_status: trio.TaskStatus[Address]) -> None:
                    from dht_torrent.daemon.web_server import serve_web

                    assert web is not None
                    await serve_web(node, web, state_dir, reload=reload, task_status=task_status)
                    nursery.cancel_scope.cancel()  # a client said stop

                if web is not None:
                    await nursery.start(serving_web)
                where = await nursery.start(serving)
                ending.opened = nursery.cancel_scope
                if reload is not None:
                    nursery.start_soon(ending.reload, node, reload, notify)
                nursery.start_soon(notify.watch)
                notify.send("READY=1", f"STATUS=listening on {node.address}")
                try:
                    await job(node, where)
                finally:
                    notify.send("STOPPING=1")
                nursery.cancel_scope.cancel()
        signals.cancel_scope.cancel()
    return ending.signal


class _Ending:
    """What a signal does: before the node is open, give up; afterwards, leave its work and close it
    in order, but not for longer than CLOSING_TIME. SIGHUP may mean something else."""

    def __init__(self, *, reloads: bool = False) -> None:
        """`reloads`: whether SIGHUP asks to read the configuration again."""
        self.limit = trio.CancelScope()
        self.opened: trio.CancelScope | None = None
        self.signal: signal.Signals | None = None
        self.hung_up = AutoResetEvent()
        self._reloads = reloads

    async def watch(self, *, task_status: trio.TaskStatus[None]) -> None:
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup leaves it
            numbers.append(signal.SIGHUP)
        with trio.open_signal_receiver(*numbers) as received:
            task_status.started()
            async for number in received:
                if number != signal.SIGHUP or not self._reloads:
                    self.signal = signal.Signals(number)
                    break
                self.hung_up.set()
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
        if self.opened is None:
            self.limit.cancel()
        else:
            self.limit.deadline = trio.current_time() + CLOSING_TIME
            self.opened.cancel()

    async def reload(self, node: Node, reload: Reload, notify: Notify) -> None:
        """A service: what service managers mean by SIGHUP."""
        while True:
            await self.hung_up.wait()
            try:
                with notify.reloading():
                    await reload(node)
            except DhtTorrentError as error:
                logger.error("the configuration stays as it was: %s", error)  # noqa: TRY400


def has_terminal() -> bool:
    """Whether this process has a terminal, which may hang up."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
