"""Two ways to the same peer side by side, as RFC 8305 ("happy eyeballs") has it for two families:
whichever connects first is taken, and the other one dropped before it says anything.
"""

from __future__ import annotations

import errno

import trio

from dht_torrent.engine.net.protocols import Stream
from dht_torrent.engine.torrent.context import NodeContext
from dht_torrent.ids import Address, Transport
from dht_torrent.torrent.ways import Race


async def connect(node: NodeContext, address: Address, plan: Race) -> Stream:
    """Raises OSError: why the way failed that would have been taken before others, TCP if it was
    tried. The caller sets the time limit; nothing leaks when cancelled."""
    node.filtering.check_dial(address)
    if len(plan.order) == 1:
        return await _connect(node, address, plan.order[0], plan)
    winner: Stream | None = None
    errors: dict[Transport, OSError] = {}

    async def attempt(transport: Transport, failed: trio.Event) -> None:
        nonlocal winner
        try:
            stream = await _connect(node, address, transport, plan)
        except OSError as error:
            errors[transport] = error
            failed.set()
            return
        if winner is None:
            winner = stream
            nursery.cancel_scope.cancel()
        else:
            stream.close()

    try:
        async with trio.open_nursery() as nursery:
            for transport in plan.order:
                failed = trio.Event()
                nursery.start_soon(attempt, transport, failed)
                with trio.move_on_after(plan.head_start):
                    await failed.wait()
    except BaseException:
        if winner is not None:
            winner.close()
        raise
    if winner is not None:
        return winner
    raise errors.get(Transport.TCP) or next(iter(errors.values()))


async def _connect(node: NodeContext, address: Address, transport: Transport, plan: Race) -> Stream:
    if transport is Transport.TCP:
        return await node.network.connect(address)
    if node.proxy is not None:
        node.proxy.check_udp(address)
    with trio.move_on_after(plan.utp_patience):
        return await node.utp.connect(address)
    raise TimeoutError(errno.ETIMEDOUT, f"{address} did not answer in time")
