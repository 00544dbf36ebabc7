"""uTP ports, and a network whose connections all go over them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from dht_torrent.config import UtpConfig
from dht_torrent.engine.faults import Faults
from dht_torrent.engine.net.protocols import DatagramSocket, Network
from dht_torrent.engine.net.utp import SECRET, UtpPort
from dht_torrent.ids import Address


def utp_port(socket: DatagramSocket, *, seed: int = 1, **config: Any) -> UtpPort:
    """One that is not served yet."""
    rng = random.Random(f"{seed} {socket.address}")
    faults = Faults(fail_fast=True)
    return UtpPort(socket, UtpConfig(**config), rng.randbytes(SECRET), rng, faults)


@asynccontextmanager
async def running(
    network: Network, bind: Address, *, seed: int = 1, **config: Any
) -> AsyncIterator[UtpPort]:
    """One that is, for the length of the block."""
    port = utp_port(await network.open_udp(bind), seed=seed, **config)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(port.run)
            yield port
            nursery.cancel_scope.cancel()
    finally:
        port.close()
