"""Interfaces: what is right behind them. That the real ones are found is tests/interop's."""

from __future__ import annotations

import ctypes
import ipaddress

import pytest

from dht_torrent.engine.net import interfaces
from dht_torrent.engine.net.interfaces import Interface

LAN = Interface(
    "lan",
    1,
    False,
    (ipaddress.IPv4Interface("192.168.1.5/24"), ipaddress.IPv4Interface("8.8.8.2/29")),
)
LAN6 = Interface(
    "lan",
    1,
    True,
    (ipaddress.IPv6Interface("2001:db8::5/64"), ipaddress.IPv6Interface("fe80::1/64")),
)


@pytest.mark.parametrize(
    ("interface", "host", "reached"),
    [
        (LAN, "192.168.1.255", True),
        (LAN, "192.168.2.1", False),
        (LAN, "8.8.8.7", True),
        (LAN, "8.8.8.8", False),
        (LAN, "127.0.0.1", False),
        (LAN, "2001:db8::5", False),
        (LAN, "::ffff:192.168.1.7", False),
        (LAN, "localhost", False),
        (LAN6, "2001:db8::ffff", True),
        (LAN6, "2001:db8:0:1::1", False),
        (LAN6, "fe80::2", False),
        (LAN6, "192.168.1.7", False),
    ],
)
def test_only_its_own_networks_are_behind_an_interface(
    interface: Interface, host: str, reached: bool
) -> None:
    assert interface.reaches(host) == reached


def test_no_loopback_is_among_them_and_none_is_twice() -> None:
    found = interfaces.interfaces()
    assert not any(one.has("127.0.0.1") or one.has("::1") for one in found)
    assert len({(one.name, one.ipv6) for one in found}) == len(found)


def test_a_system_that_does_not_tell_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Libc:
        @staticmethod
        def getifaddrs(first: object) -> int:
            ctypes.set_errno(1)
            return -1

        class freeifaddrs:  # noqa: N801 - its name there
            argtypes = None

    monkeypatch.setattr(ctypes, "CDLL", lambda *args, **options: Libc)
    assert interfaces.interfaces() == []
    monkeypatch.setattr(ctypes, "CDLL", lambda *args, **options: object())
    assert interfaces.interfaces() == []
