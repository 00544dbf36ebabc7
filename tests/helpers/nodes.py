"""Nodes of ours on loopback, isolated from the world and from each other's files."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import trio

from dht_torrent import Config, Node, open_node
from dht_torrent.ids import HostPort
from dht_torrent.trace import Record
from tests.helpers.waiting import until

RecordT = TypeVar("RecordT", bound=Record)


class Records:
    """A trace that remembers."""

    def __init__(self) -> None:
        self.all: list[Record] = []

    def __call__(self, record: Record) -> None:
        self.all.append(record)

    def of(self, kind: type[RecordT]) -> list[RecordT]:
        return [record for record in self.all if isinstance(record, kind)]


def local_config(folder: Path, bootstrap: Sequence[Node] = (), **changes: Any) -> Config:
    """Loopback, any port, nothing kept on disk but content, and only `bootstrap` to start from."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = Config(
        bootstrap=[HostPort(*node.address) for node in bootstrap],
        listen="127.0.0.1:0",
        state_dir=None,
        download_dir=folder,
        fail_fast=True,
    )
    return replace(plain, **changes)


@contextlib.asynccontextmanager
async def local_nodes(
    count: int, folder: Path, bootstrap: Sequence[Node] = (), **changes: Any
) -> AsyncIterator[list[Node]]:
    """`count` nodes that know each other through the first of them (or through `bootstrap`)."""
    nodes: list[Node] = []
    async with contextlib.AsyncExitStack() as stack:
        for i in range(count):
            config = local_config(folder / f"node{i}", bootstrap or nodes[:1], **changes)
            nodes.append(await stack.enter_async_context(open_node(config)))
        await until(
            lambda: all(has_contacts(node) for node in nodes) or count == 1,
            "every node has a contact",
        )
        yield nodes


def has_contacts(node: Node) -> bool:
    """It has heard an answer from somebody in the DHT."""
    return node.status().dht.good > 0


async def announced(nodes: Sequence[Node], seconds: float = 30) -> None:
    """Wait until a peer of some torrent is in the store of one of `nodes`."""
    await until(
        lambda: any(node.status().dht.stored_peers for node in nodes),
        "an announce is stored",
        seconds=seconds,
    )


async def all_completed(torrents: Sequence[Any]) -> None:
    """Wait for many downloads side by side."""
    async with trio.open_nursery() as nursery:
        for torrent in torrents:
            nursery.start_soon(torrent.completed)


async def announce_by_hand(
    nodes: Sequence[Node], info_hash: bytes, address: tuple[str, int]
) -> None:
    """Tell the DHT of `nodes` that the peer at `address` has a torrent, in hand-written KRPC.

    A DHT believes only the sender's own IP, so this is for peers on the same host.
    """
    own_id = b"announced by hand..."
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as socket:
        await socket.bind(("127.0.0.1", 0))

        async def ask(node: Node, query: bytes, tid: bytes) -> bytes:
            await socket.sendto(query + b"1:t2:%b1:y1:qe" % tid, tuple(node.address))
            while True:  # the node may ping us meanwhile
                reply = await socket.recv(2048)
                if b"1:t2:" + tid in reply and reply.endswith((b"1:y1:re", b"1:y1:ee")):
                    assert reply.endswith(b"1:y1:re"), reply
                    return reply

        for node in nodes:
            query = b"d1:ad2:id20:%b9:info_hash20:%be1:q9:get_peers" % (own_id, info_hash)
            reply = await ask(node, query, b"aa")
            length, _, rest = reply.partition(b"5:token")[2].partition(b":")
            token = rest[: int(length)]
            query = b"d1:ad2:id20:%b9:info_hash20:%b4:porti%de5:token%d:%be1:q13:announce_peer" % (
                own_id,
                info_hash,
                address[1],
                len(token),
                token,
            )
            await ask(node, query, b"ab")
