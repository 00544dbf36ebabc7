"""Two ways to the same peer side by side, as RFC 8305 ("happy eyeballs") has it for two families:
whichever connects first is taken, and the other one dropped before it says anything.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import trio

from dht_torrent.engine.net.protocols import Stream
from dht_torrent.engine.torrent.context import NodeContext
from dht_torrent.ids import Address, Transport
from dht_torrent.torrent.ways import Race

ResultT = TypeVar("ResultT")
ErrorT = TypeVar("ErrorT", bound=Exception)


async def first_of(
    ways: Sequence[Callable[[], Awaitable[ResultT]]],
    head_start: float,
    close: Callable[[ResultT], None],
    expected: type[ErrorT],
) -> ResultT | list[ErrorT]:
    """What one of them gives, or why all failed, in their order. Each begins `head_start` seconds
    after the one before, or as soon as that failed. Those that are too late are cancelled, and what
    they gave all the same is closed, as is everything when this is cancelled."""
    winners: list[ResultT] = []
    errors: dict[int, ErrorT] = {}

    async def attempt(number: int, failed: trio.Event) -> None:
        try:
            result = await ways[number]()
        except expected as error:
            errors[number] = error
            failed.set()
            return
        if winners:
            close(result)
        else:
            winners.append(result)
            nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            for number in range(len(ways)):
                failed = trio.Event()
                nursery.start_soon(attempt, number, failed)
                with trio.move_on_after(head_start):
                    await failed.wait()
    except BaseException:
        for winner in winners:
            close(winner)
        raise
    return winners[0] if winners else [error for _, error in sorted(errors.items())]


async def connect(node: NodeContext, address: Address, plan: Race) -> Stream:
    """Raises OSError: why the way failed that would have been taken before others, TCP if it was
    tried. The caller sets the time limit; nothing leaks when cancelled."""
    node.filtering.check_dial(address)
    if len(plan.order) == 1:
        return await _connect(node, address, plan.order[0], plan)
    ways = [partial(_connect, node, address, transport, plan) for transport in plan.order]
    found = await first_of(ways, plan.head_start, lambda stream: stream.close(), OSError)
    if isinstance(found, list):
        raise dict(zip(plan.order, found, strict=True)).get(Transport.TCP) or found[0]
    return found


async def _connect(node: NodeContext, address: Address, transport: Transport, plan: Race) -> Stream:
    if transport is Transport.TCP:
        return await node.network.connect(address)
    if node.proxy is not None:
        node.proxy.check_udp(address)
    with trio.move_on_after(plan.utp_patience):
        return await node.utp.connect(address)
    raise TimeoutError(errno.ETIMEDOUT, f"{address} did not answer in time")
