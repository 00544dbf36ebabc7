"""A home behind a router, and a machine outside: three network namespaces. The router is Debian's
miniupnpd, which speaks PCP, NAT-PMP and UPnP, over nftables: it hides the home behind its own
address and lets in what was mapped, and nothing else.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Final

from dht_torrent.ids import Address
from dht_torrent.portmap import pcp
from dht_torrent.portmap.ports import LocalPort
from tests.helpers.clients import program, running
from tests.interop.namespaces import Space, cable, spaces

HOME: Final = "192.168.1.2"
NEIGHBOUR: Final = "192.168.1.3"
"""Another machine of the home; it is where `HOME` is."""
INNER: Final = "192.168.1.1"
"""The router, in the home ..."""
OUTER: Final = "11.0.0.1"
"""... and outside: an address of the kind that miniupnpd takes for a public one."""
OUTSIDE: Final = "11.0.0.2"
_NFT: Final = """
table inet filter {
  chain miniupnpd { }
  chain prerouting_miniupnpd { }
  chain postrouting_miniupnpd { }
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    iifname "inner" accept
    jump miniupnpd
  }
  chain input {
    type filter hook input priority 0; policy accept;
    %s
    iifname "outer" ct state new drop
  }
  chain prerouting {
    type nat hook prerouting priority -100;
    jump prerouting_miniupnpd
  }
  chain postrouting {
    type nat hook postrouting priority 100;
    oifname "outer" jump postrouting_miniupnpd
    oifname "outer" masquerade
  }
}
"""
_NO_PCP: Final = f"udp dport {pcp.PORT} @th,64,8 {pcp.VERSION} drop"
_CONF: Final = """
ext_ifname=outer
listening_ip=inner
http_port=0
ipv6_disable=yes
secure_mode=yes
min_lifetime=4
max_lifetime=86400
system_uptime=no
notify_interval=30
uuid=7322e6e3-5d3f-4849-9b8e-ef76a849448b
upnp_table_name=filter
upnp_nat_table_name=filter
upnp_forward_chain=miniupnpd
upnp_nat_chain=prerouting_miniupnpd
upnp_nat_postrouting_chain=postrouting_miniupnpd
allow 1024-65535 192.168.1.0/24 1-65535
deny 0-65535 0.0.0.0/0 0-65535
"""


class Router:
    """Made by `home`."""

    def __init__(self, home: Space, space: Space, outside: Space, folder: Path) -> None:
        self.home, self.space, self.outside = home, space, outside
        self._folder = folder

    @contextlib.asynccontextmanager
    async def on(
        self, *, speaks: Sequence[str] = ("PCP", "NAT-PMP", "UPnP")
    ) -> AsyncIterator[None]:
        """Switched on, as if for the first time; killed at the end."""
        self._nft("flush", "ruleset")
        rules = _NFT % ("" if "PCP" in speaks else _NO_PCP)
        self._nft("-f", "-", stdin=rules)
        conf = self._folder / "miniupnpd.conf"
        yes = {True: "yes", False: "no"}
        conf.write_text(
            f"enable_natpmp={yes['NAT-PMP' in speaks]}\nenable_upnp={yes['UPnP' in speaks]}\n"
            + _CONF
        )
        command = [program("miniupnpd"), "-d", "-f", str(conf), "-P", str(self._folder / "pid")]
        async with running(self.space.command(command), self._folder / "miniupnpd.log"):
            yield

    def lets_in(self) -> list[str]:
        """Its rules for the home."""
        listed = self._nft("list", "chain", "inet", "filter", "prerouting_miniupnpd")
        return [line.strip() for line in listed.splitlines() if HOME in line]

    def _nft(self, *words: str, stdin: str | None = None) -> str:
        command = self.space.command([program("nft"), *words])
        done = subprocess.run(command, input=stdin, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def occupies(self, port: LocalPort) -> bool:
        """The neighbour asks for this external port, and has it now. False: no answer."""
        asked = pcp.encode_map(NEIGHBOUR, bytes(12), port, 3600, Address("0.0.0.0", port.port))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((NEIGHBOUR, 0))
            sock.settimeout(0.5)
            sock.sendto(asked, (INNER, pcp.PORT))
            try:
                answer = pcp.decode(sock.recv(1100))
            except OSError:
                return False
        assert answer.mapping is not None
        assert answer.mapping.external.port == port.port
        return True

    @contextlib.contextmanager
    def dial(self) -> Iterator[socket.socket]:
        """A TCP socket of the machine outside."""
        with self.outside.inside():
            sock = socket.socket()
        with sock:
            yield sock


@contextlib.contextmanager
def home(folder: Path) -> Iterator[Router]:
    """This thread, and what it starts, is at home."""
    with spaces(3) as (inside, router, outside):
        cable(
            [(inside, "lan", [f"{HOME}/24", f"{NEIGHBOUR}/24"]), (router, "inner", [f"{INNER}/24"])]
        )
        cable([(outside, "net", [f"{OUTSIDE}/24"]), (router, "outer", [f"{OUTER}/24"])])
        inside.ip("route", "add", "default", "via", INNER)
        forward = "echo 1 > /proc/sys/net/ipv4/ip_forward"
        subprocess.run(router.command(["/bin/sh", "-c", forward]), check=True)
        yield Router(inside, router, outside, folder)
