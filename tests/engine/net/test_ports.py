"""A node listens where it was told to, or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

import pytest
from trio.testing import MockClock

from dht_torrent import Config
from dht_torrent.engine.net.protocols import Listener
from dht_torrent.errors import InputError
from dht_torrent.ids import Address
from tests.helpers.engine import PORT, World


async def test_where_there_is_no_ipv6_the_default_is_ipv4(autojump_clock: MockClock) -> None:
    world = World()
    async with world.node("10.0.0.1", listen=Config().listen) as node:
        assert node.addresses == (Address("0.0.0.0", PORT),)


@pytest.mark.parametrize("code", [errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EPERM])
async def test_a_system_that_refuses_ipv6_is_a_machine_without_it(
    code: int, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    host = world.net.host("10.0.0.1")
    listen = host.listen

    async def refuses_ipv6(bind: Address) -> Listener:
        if bind.is_ipv6:
            raise OSError(code, os.strerror(code))
        return await listen(bind)

    monkeypatch.setattr(host, "listen", refuses_ipv6)
    async with world.node("10.0.0.1", listen=Config().listen) as node:
        assert node.addresses == (Address("0.0.0.0", PORT),)


@pytest.mark.parametrize(
    ("listen", "why"),
    [
        (("10.0.0.1:1", "10.0.0.1:2"), "one IPv4 and one IPv6"),
        (("[fd00::1]:1", "[::]:1"), "one IPv4 and one IPv6"),
        ((), "at least one address to listen on"),
        (("10.0.0.1:1", "[fd00::9]:1"), "cannot listen on"),
        ("[::]:1", "cannot listen on"),
        (("10.0.0.1:1", "there:1"), "expected an IP address"),
    ],
)
async def test_what_cannot_be_listened_on_is_refused_and_leaves_nothing(
    listen: str | Sequence[str], why: str, autojump_clock: MockClock
) -> None:
    world = World()
    with pytest.raises(InputError, match=why):
        async with world.node("10.0.0.1", listen=listen):
            raise AssertionError("it runs")
    async with world.node("10.0.0.1", listen=("10.0.0.1:1", "[::]:1")) as node:
        assert len(node.addresses) == 1


async def test_the_ports_for_tls_are_left_out_where_there_is_no_ipv6(
    autojump_clock: MockClock,
) -> None:
    world = World()
    wanted = ("0.0.0.0:7", "[::]:7")
    async with world.node("10.0.0.1", listen=Config().listen, tls_listen=wanted) as node:
        assert node.tls_addresses == (Address("0.0.0.0", 7),)


@pytest.mark.parametrize(
    ("listen", "why"),
    [
        (("10.0.0.1:1", "10.0.0.1:2"), "one IPv4 and one IPv6"),
        (("10.0.0.1:1", "[fd00::9]:1"), r"cannot listen on \[fd00::9\]:1"),
        ("[::]:1", r"cannot listen on \[::\]:1"),
        ("10.0.0.1:5", "cannot listen on 10.0.0.1:5"),
        ("there:1", "expected an IP address"),
    ],
)
async def test_a_port_for_tls_that_cannot_be_had_is_refused_and_leaves_nothing(
    listen: str | Sequence[str], why: str, autojump_clock: MockClock
) -> None:
    world = World()
    with pytest.raises(InputError, match=why):
        async with world.node("10.0.0.1", listen="10.0.0.1:5", tls_listen=listen):
            raise AssertionError("it runs")
    async with world.node("10.0.0.1", listen="10.0.0.1:5", tls_listen="10.0.0.1:1") as node:
        assert node.tls_addresses == (Address("10.0.0.1", 1),)
