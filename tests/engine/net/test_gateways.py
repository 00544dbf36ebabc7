"""The default gateways, as /proc/net/route has them."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from dht_torrent.engine.net.gateways import Gateway, gateways

HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
UP, UP_GATEWAY, REJECT = "0001", "0003", "0203"


def number(host: str) -> str:
    """An address as the file has it: in hex, as the machine keeps it in memory."""
    return f"{int.from_bytes(socket.inet_aton(host), sys.byteorder):08X}"


def line(
    interface: str,
    gateway: str,
    *,
    to: str = "0.0.0.0",
    mask: str = "0.0.0.0",
    flags: str = UP_GATEWAY,
    metric: int = 0,
) -> str:
    fields = (interface, number(to), number(gateway), flags, "0", "0", metric, number(mask))
    return "\t".join(map(str, (*fields, "0", "0", "0"))) + "  \n"


def told(tmp_path: Path, *lines: str) -> list[Gateway]:
    file = tmp_path / "route"
    file.write_text(HEAD + "".join(lines), encoding="latin-1")
    return gateways(str(file))


def test_the_file_of_linux_is_read_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "route"
    file.write_text(
        HEAD + "eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0            \n"
        "eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0            \n"
    )
    if sys.byteorder == "little":
        assert gateways(str(file)) == [Gateway("192.168.1.1", "eth0")]


def test_the_route_of_least_metric_comes_first_and_equals_as_they_are(tmp_path: Path) -> None:
    found = told(
        tmp_path,
        line("wlan0", "10.0.0.1", metric=600),
        line("eth0", "192.168.1.1", metric=100),
        line("eth1", "192.168.2.1", metric=100),
    )
    assert found == [
        Gateway("192.168.1.1", "eth0"),
        Gateway("192.168.2.1", "eth1"),
        Gateway("10.0.0.1", "wlan0"),
    ]


@pytest.mark.parametrize(
    "other",
    [
        line("eth0", "0.0.0.0", to="192.168.1.0", mask="255.255.255.0", flags=UP),
        line("eth0", "192.168.1.7", to="10.0.0.0", mask="255.0.0.0"),
        line("tun0", "0.0.0.0", mask="128.0.0.0"),
        line("tun0", "0.0.0.0", flags=UP),
        line("eth0", "192.168.1.1", flags="0002"),
        "eth0\t00000000\t0101A8C0\n",
        "eth0\tzz\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n",
        "eth0\t00000000\t-1\t0003\t0\t0\t0\t00000000\t0\t0\t0\n",
        "eth0\t00000000\tFFFFFFFFFF\t0003\t0\t0\t0\t00000000\t0\t0\t0\n",
        "eth0\t00000000\t0101A8C0\t0003\t0\t0\tx\t00000000\t0\t0\t0\n",
        "\n",
        "\xff\xfe\n",
    ],
)
def test_what_is_not_a_way_out_is_passed_over(other: str, tmp_path: Path) -> None:
    assert told(tmp_path, other) == []
    assert told(tmp_path, other, line("eth0", "192.168.1.1"), other) == [
        Gateway("192.168.1.1", "eth0")
    ]


def test_a_system_without_the_file_tells_of_none(tmp_path: Path) -> None:
    assert gateways(str(tmp_path / "nothing")) == []
    assert gateways(str(tmp_path)) == []
    assert told(tmp_path) == []
    (tmp_path / "empty").touch()
    assert gateways(str(tmp_path / "empty")) == []


def test_a_file_without_end_is_read_as_far_as_is_sensible(tmp_path: Path) -> None:
    lines = (line("eth0", "192.168.1.7", to="10.0.0.0", mask="255.0.0.0") for _ in range(30_000))
    assert told(tmp_path, line("eth0", "192.168.1.1"), *lines, line("eth1", "10.0.0.1")) == [
        Gateway("192.168.1.1", "eth0")
    ]
