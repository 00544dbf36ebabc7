"""A DHT of real nodes on real sockets of this machine, for any client to join. The rule: the block
ends with every socket closed, and nothing leaves the loopback interface.

Rules about public addresses do not bind here (`Address.is_local`): a node is told from another by
its port as well, so all may share one host. Foreign clients that allow one node per IP only are
better served by `spread`, which gives each node a host of its own in 127.0.0.0/8.
"""

from __future__ import annotations

import ipaddress
import random
import resource
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio

from dht_torrent.config import DhtConfig
from dht_torrent.engine.dht.node import Dht
from dht_torrent.engine.net.protocols import Network
from dht_torrent.engine.net.sockets import RealNetwork
from dht_torrent.errors import InputError
from dht_torrent.ids import Address, HostPort
from dht_torrent.lab.run import collecting_rarely

AT_ONCE: Final = 20
"""Nodes started together: more would all ask their few entry points at the same moment."""
ENTRY_POINTS: Final = 3
"""Nodes that were there before, which a new one is told of."""
PATIENCE: Final = 30.0
"""Seconds nodes started together may take to find their neighbours."""
MAX_NODES: Final = 20_000
"""More would need more ports than there are, and a machine of its own."""
SPARE_FILES: Final = 64
"""Descriptors beside the sockets."""

HOSTS_A_NET: Final = 250
"""Hosts used of each /24: without .0 and the last ones."""


@asynccontextmanager
async def open_testnet(
    count: int,
    *,
    rng: random.Random,
    host: str = "127.0.0.1",
    port_base: int = 0,
    spread: bool = False,
    config: DhtConfig | None = None,
    network: Network | None = None,
    progress: Callable[[int], None] = lambda started: None,
) -> AsyncIterator[list[Dht]]:
    """Run `count` nodes that know each other, for the length of the block (and have the process
    collect garbage more rarely so long).

    Node n listens on port `port_base` + n (with `spread`: all on `port_base`), or on any if that is
    0. Limits on rates are lifted unless `config` says otherwise. `progress` hears how many are
    ready.

    Raises InputError when there cannot be so many, or not there."""
    addresses = plan(count, host=host, port_base=port_base, spread=spread)
    _allow_files(count + SPARE_FILES)
    config = config or DhtConfig(unlimited=True)
    network = network or RealNetwork()
    nodes: list[Dht] = []
    failure: InputError | None = None  # raised outside of the nursery, which would wrap it
    with collecting_rarely():
        async with trio.open_nursery() as nursery:
            while len(nodes) < count and failure is None:
                fresh: list[Dht] = []
                for address in addresses[len(nodes) :][: min(AT_ONCE, max(1, len(nodes)))]:
                    entry_points = rng.sample(nodes, min(ENTRY_POINTS, len(nodes)))
                    dht = Dht(
                        network,
                        address,
                        config,
                        rng=random.Random(rng.getrandbits(128)),
                        bootstrap=[HostPort(*entry.address) for entry in entry_points],
                    )
                    try:
                        await nursery.start(dht.run)
                    except OSError as error:
                        failure = InputError(f"cannot listen on {address}: {error.strerror}")
                        break
                    fresh.append(dht)
                if failure is None and not await _found_each_other(fresh):
                    failure = InputError(f"nodes did not find each other within {PATIENCE:.0f} s")
                nodes += fresh
                progress(len(nodes))
            if failure is None:
                yield nodes
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _found_each_other(nodes: list[Dht]) -> bool:
    with trio.move_on_after(PATIENCE):
        for dht in nodes:
            await dht.bootstrapped()
        return True
    return False


def plan(count: int, *, host: str, port_base: int, spread: bool) -> list[Address]:
    """Where the nodes are to listen. Raises InputError."""
    if not 1 <= count <= MAX_NODES:
        raise InputError(f"from 1 to {MAX_NODES} nodes, not {count}")
    try:
        first = ipaddress.ip_address(host)
    except ValueError:
        raise InputError(f"not an IP address: {host[:60]!r}") from None
    if not first.is_loopback:
        raise InputError(f"a test network stays on the loopback interface: {host} is not there")
    if spread and first.version != 4:
        raise InputError("only 127.0.0.0/8 has a host for every node")
    if port_base and not 0 < port_base <= 65536 - (1 if spread else count):
        raise InputError(f"no {count} ports from {port_base} on")
    if not spread:
        return [Address(str(first), port_base + n if port_base else 0) for n in range(count)]
    return [Address(_host(n), port_base) for n in range(count)]


def _host(number: int) -> str:
    net, last = divmod(number, HOSTS_A_NET)
    return f"127.{1 + net // 256}.{net % 256}.{1 + last}"


def _allow_files(wanted: int) -> None:
    """Let this process open so many files. Raises InputError where the system does not allow it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise InputError(f"this system allows {hard} open files, and {wanted} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
