"""The system tells when its interfaces change."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import closing
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.engine.net.notices import Notices


class Told:
    """A socket on which the system says so many things, the first of them that there were more."""

    def __init__(self, ours: socket.socket, errors: list[int]) -> None:
        self._ours = ours
        self._errors = errors

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ours, name)

    def bind(self, where: object) -> None:
        if self._errors and self._errors[0] == errno.EPERM:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    def recv(self, size: int) -> bytes:
        data = self._ours.recv(size)
        if self._errors:
            code = self._errors.pop()
            raise OSError(code, os.strerror(code))
        return data


def told(monkeypatch: pytest.MonkeyPatch, *errors: int) -> socket.socket:
    """Where the system speaks from now on."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    fake = Told(ours, list(errors))
    monkeypatch.setattr(socket, "socket", lambda *_: fake)
    return theirs


@pytest.mark.parametrize("errors", [(), (errno.ENOBUFS,)])
async def test_a_notice_ends_the_wait(
    errors: tuple[int, ...], monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    with told(monkeypatch, *errors) as system, closing(Notices()) as notices:
        system.send(b"one")
        await notices.wait(1000)
        assert trio.current_time() < 1
        began = trio.current_time()
        await notices.wait(1000)
        assert trio.current_time() - began == 1000


async def test_what_comes_right_behind_belongs_to_it(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    with told(monkeypatch) as system, closing(Notices()) as notices:
        for _ in range(5):
            system.send(b"one of some")
        await notices.wait(1000)
        began = trio.current_time()
        await notices.wait(1000)
        assert trio.current_time() - began == 1000


async def test_without_notices_there_is_a_look_now_and_then(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    with told(monkeypatch, errno.EPERM), closing(Notices()) as notices:
        await notices.wait(7)
        assert trio.current_time() == 7


async def test_of_this_machine_there_are_notices_without_a_privilege(
    autojump_clock: MockClock,
) -> None:
    with closing(Notices()) as notices:
        await notices.wait(0.0)
    notices.close()
