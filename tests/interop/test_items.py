"""Items (BEP 44) put by libtorrent and got by us, and the other way round, on loopback."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import libtorrent as lt
import pytest
import trio

from dht_torrent.config import DhtConfig
from dht_torrent.dht.items import MutableItem, SigningKey, immutable, mutable_target, sign
from dht_torrent.engine.dht.node import Dht
from dht_torrent.engine.net.sockets import RealNetwork
from dht_torrent.ids import Address, HostPort
from tests.helpers.libtorrent_peer import LibtorrentPeer, open_libtorrent

SEED = b"\x05" * 32
CONFIG = DhtConfig(soft_timeout=0.3)


@asynccontextmanager
async def our_nodes(count: int) -> AsyncIterator[list[Dht]]:
    network = RealNetwork()
    nodes: list[Dht] = []
    async with trio.open_nursery() as nursery:
        for number in range(count):
            points = [HostPort(*dht.address) for dht in nodes[:1]]
            rng = random.Random(number)
            dht = Dht(network, Address("127.0.0.1", 0), CONFIG, rng=rng, bootstrap=points)
            await nursery.start(dht.run)
            nodes.append(dht)
        for dht in nodes:
            await dht.bootstrapped()
        yield nodes
        nursery.cancel_scope.cancel()


class Items:
    """libtorrent's items: what its alerts have said."""

    def __init__(self, peer: LibtorrentPeer) -> None:
        self.peer = peer
        self.session: Any = peer.session
        self.immutable: list[Any] = []
        self.mutable: list[tuple[int, Any]] = []
        self.puts: list[int] = []
        peer.on_alert = self._alert

    def _alert(self, alert: Any) -> None:
        if isinstance(alert, lt.dht_immutable_item_alert):
            self.immutable.append(alert.item)
        elif isinstance(alert, lt.dht_mutable_item_alert):
            self.mutable.append((alert.seq, alert.item))
        elif isinstance(alert, lt.dht_put_alert):
            self.puts.append(alert.num_success)

    async def stored(self) -> int:
        """On how many nodes its last put was stored."""
        await self.peer.until(lambda: self.puts, "its put is done")
        return self.puts.pop()

    async def put(self, value: bytes, salt: bytes = b"") -> int:
        """Put a mutable item; the sequence number is one more than what it finds."""
        self.session.dht_put_mutable_item(EXPANDED, KEY.public, value, salt)
        return await self.stored()

    async def got(self, seq: int, salt: bytes = b"") -> Any:
        """The mutable item of that sequence number."""
        self.mutable.clear()
        self.session.dht_get_mutable_item(KEY.public, salt)
        await self.peer.until(lambda: seq in dict(self.mutable), f"it has got seq {seq}")
        return dict(self.mutable)[seq]


def expanded(seed: bytes) -> bytes:
    """What libtorrent calls a secret key: the scalar and the nonce prefix (RFC 8032, 5.1.5)."""
    digest = bytearray(hashlib.sha512(seed).digest())
    digest[0] &= 248
    digest[31] &= 63
    digest[31] |= 64
    return bytes(digest)


KEY = SigningKey(SEED)
EXPANDED = expanded(SEED)


async def test_libtorrent_gets_the_immutable_item_we_put() -> None:
    with trio.fail_after(20):
        async with our_nodes(3) as nodes, open_libtorrent([nodes[0].address]) as peer:
            theirs = Items(peer)
            stored = await nodes[1].items.put_immutable([b"some", {b"value": 5}])
            assert stored.stored
            theirs.session.dht_get_immutable_item(lt.sha1_hash(stored.target))
            await peer.until(lambda: theirs.immutable, "it has got the item")
            assert theirs.immutable == [[b"some", {b"value": 5}]]


async def test_we_get_the_immutable_item_libtorrent_put() -> None:
    with trio.fail_after(20):
        async with our_nodes(3) as nodes, open_libtorrent([nodes[0].address]) as peer:
            theirs = Items(peer)
            target = theirs.session.dht_put_immutable_item([b"some", {b"value": 5}]).to_bytes()
            assert await theirs.stored() >= 3
            assert target == immutable([b"some", {b"value": 5}]).target
            for dht in nodes:
                item = await dht.items.get(target)
                assert item is not None
                assert item.value == [b"some", {b"value": 5}]


@pytest.mark.parametrize("salt", [b"", b"foobar"])
async def test_a_mutable_item_goes_to_and_fro_and_the_newer_seq_wins(salt: bytes) -> None:
    target = mutable_target(KEY.public, salt)
    with trio.fail_after(25):
        async with our_nodes(3) as nodes, open_libtorrent([nodes[0].address]) as peer:
            theirs = Items(peer)
            stored = await nodes[1].items.put_mutable(KEY, salt, b"ours", 1)
            assert stored.stored
            assert await theirs.got(1, salt) == b"ours"
            assert await theirs.put(b"theirs", salt) >= 3
            for dht in nodes:
                item = await dht.items.get(target, salt=salt)
                assert isinstance(item, MutableItem)
                assert (item.seq, item.value) == (2, b"theirs")
            # The older one is refused by all who have it (libtorrent puts nothing on itself).
            refused = await nodes[2].items.put_mutable(KEY, salt, b"ours again", 1)
            assert set(refused.refused.values()) == {302}
            assert len(refused.refused) >= 2
            await nodes[2].items.put_mutable(KEY, salt, b"ours again")
            assert await theirs.got(3, salt) == b"ours again"


async def test_libtorrent_refuses_as_we_do() -> None:
    """cas and a bad signature, put to libtorrent by hand."""
    item = sign(KEY, b"v", 5)
    with trio.fail_after(20):
        async with our_nodes(1) as nodes, open_libtorrent([nodes[0].address]) as peer:
            dht = nodes[0]
            while not dht.status().good:
                await trio.sleep(0.02)  # libtorrent has bootstrapped; our ping to it is on its way
            await dht.items.put(item, keep=False)
            survey = await dht.items.get_all(item.target)
            (holder,) = survey.targets()
            assert holder.seq == 5
            newer = sign(KEY, b"w", 6)
            wrong = await dht.items.put_to([holder], newer, cas={holder.contact.id: 4})
            assert set(wrong.refused.values()) == {301}
            forged = replace(newer, signature=bytes(64))
            assert set((await dht.items.put_to([holder], forged)).refused.values()) == {206}
            older = sign(KEY, b"u", 4)
            assert set((await dht.items.put_to([holder], older)).refused.values()) == {302}
            right = await dht.items.put_to([holder], newer, cas={holder.contact.id: 5})
            assert len(right.stored) == 1
            assert peer.address == holder.contact.address
