from __future__ import annotations

import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import trio

from dht_torrent.config import Config
from dht_torrent.daemon.client import connect
from dht_torrent.daemon.control import Control
from dht_torrent.daemon.run import run
from dht_torrent.engine.node import Node
from dht_torrent.errors import ControlError, InputError


def config(tmp_path: Path) -> Config:
    return Config(
        bootstrap=(), listen="127.0.0.1:0", state_dir=tmp_path / "state", download_dir=tmp_path
    )


async def test_a_node_ends_with_its_job(tmp_path: Path) -> None:
    seen: list[str] = []

    async def job(node: Node, control: Control) -> None:
        seen.append(str(control))
        assert control.path is not None
        assert control.path.is_socket()

    with trio.fail_after(20):
        assert await run(config(tmp_path), None, job) is None
    assert seen == [f"unix:{tmp_path}/state/control.sock"]
    assert not (tmp_path / "state" / "control").exists()


async def test_a_client_may_end_the_job(tmp_path: Path) -> None:
    def ask() -> None:
        with connect(tmp_path / "state") as client:
            client.stop()

    async def job(node: Node, control: Control) -> None:
        async with trio.open_nursery() as nursery:
            # Abandoned: it waits for the end that waits for it.
            nursery.start_soon(partial(trio.to_thread.run_sync, ask, abandon_on_cancel=True))
            await trio.sleep_forever()

    with trio.fail_after(20):
        assert await run(config(tmp_path), None, job) is None


async def test_a_signal_closes_the_node_in_order_and_is_told(tmp_path: Path) -> None:
    closed: list[bool] = []

    async def job(node: Node, control: Control) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
            await trio.sleep_forever()
        finally:
            closed.append(True)

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    try:
        with trio.fail_after(20):
            assert await run(config(tmp_path), None, job) is signal.SIGTERM
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])
    assert closed == [True]


async def test_a_bug_in_a_command_is_a_refusal_and_the_next_one_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask() -> None:
        with connect(tmp_path / "state") as client:
            with monkeypatch.context() as patch:
                patch.setattr(Node, "status", lambda node: 1 / 0)
                with pytest.raises(ControlError, match="internal error"):
                    client.status()
            status = client.status()
            assert status["faults"] == 1
            assert "the request GET /api/v1/status: ZeroDivisionError" in status["last_fault"]

    async def job(node: Node, control: Control) -> None:
        await trio.to_thread.run_sync(ask)

    with trio.fail_after(20):
        await run(replace(config(tmp_path), fail_fast=False), None, job)


async def test_with_fail_fast_a_bug_in_a_command_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Node, "status", lambda node: 1 / 0)

    def ask() -> None:
        with connect(tmp_path / "state") as client, suppress(ControlError):
            client.status()

    async def job(node: Node, control: Control) -> None:
        await trio.to_thread.run_sync(ask)
        await trio.sleep_forever()

    with trio.fail_after(20), pytest.raises(ExceptionGroup) as raised:
        await run(replace(config(tmp_path), fail_fast=True), None, job)
    assert raised.value.split(ZeroDivisionError)[0] is not None


async def test_a_node_without_a_state_dir_cannot_be_steered(tmp_path: Path) -> None:
    async def job(node: Node, control: Control) -> None:
        raise AssertionError("not reached")

    with pytest.raises(InputError, match="state directory"):
        await run(Config(bootstrap=(), listen="127.0.0.1:0"), None, job)


STUBBORN = """
import trio
from dht_torrent.daemon.run import _Ending

async def main():
    ending = _Ending()
    async with trio.open_nursery() as nursery:
        await nursery.start(ending.watch)
        print("ready", flush=True)
        with ending.limit:
            try:
                await trio.sleep_forever()
            finally:
                print("closing", flush=True)
                with trio.CancelScope(shield=True):
                    await trio.sleep_forever()

trio.run(main)
"""


def test_a_second_signal_ends_the_process_at_once() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, text=True
    ) as process:
        watchdog = threading.Timer(20, process.kill)
        watchdog.start()
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "closing\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait() == -signal.SIGTERM
        watchdog.cancel()
