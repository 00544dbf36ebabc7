"""Two homes, each behind a router that only hides it, and a machine outside that both can reach:
five network namespaces, and NAT by nftables.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from typing import Final, NamedTuple

from tests.helpers.clients import program
from tests.interop.namespaces import Space, cable, spaces

OURS: Final = "11.1.0.1"
"""What the world sees of our home ..."""
THEIRS: Final = "11.2.0.1"
"""... and of the other one."""
RELAY: Final = "11.0.0.1"
_NFT: Final = """
table inet router {
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    iifname "inner" accept
  }
  chain input {
    type filter hook input priority 0; policy accept;
    iifname "outer" ct state new drop
  }
}
table ip nat {
  chain postrouting {
    type nat hook postrouting priority 100;
    oifname "outer" masquerade %s
  }
}
"""
CONE: Final = ""
"""Linux keeps a port as it is as long as nobody else has it there, and lets in who was sent to: a
port-restricted cone."""
SYMMETRIC: Final = "fully-random"


class TwoHomes(NamedTuple):
    """Made by `two_homes`. This thread, and what it starts, is at ours."""

    ours: Space
    theirs: Space
    relay: Space


@contextlib.contextmanager
def two_homes(our_nat: str = CONE, their_nat: str = CONE) -> Iterator[TwoHomes]:
    with spaces(5) as (ours, theirs, relay, our_router, their_router):
        sides = ((1, ours, our_router, our_nat), (2, theirs, their_router, their_nat))
        for number, home, router, nat in sides:
            lan, net = f"192.168.{number}", f"11.{number}.0"
            cable([(home, "lan", [f"{lan}.2/24"]), (router, "inner", [f"{lan}.1/24"])])
            cable([(relay, f"net{number}", [f"{net}.2/24"]), (router, "outer", [f"{net}.1/24"])])
            home.ip("route", "add", "default", "via", f"{lan}.1")
            router.ip("route", "add", "default", "via", f"{net}.2")
            _run(router, program("nft"), "-f", "-", stdin=_NFT % nat)
        relay.ip("address", "add", f"{RELAY}/32", "dev", "lo")
        for space in (our_router, their_router, relay):
            _run(space, "/bin/sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        yield TwoHomes(ours, theirs, relay)


def _run(space: Space, *words: str, stdin: str | None = None) -> None:
    command = space.command(list(words))
    done = subprocess.run(command, input=stdin, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
