"""A network of real nodes comes up, works, and is gone without a trace."""

from __future__ import annotations

import random
import socket
from collections.abc import Sequence

import pytest
import trio

from dht_torrent.errors import InputError
from dht_torrent.ids import Address, InfoHash
from dht_torrent.lab.population.testnet import HOSTS_A_NET, MAX_NODES, open_testnet, plan

HASH = InfoHash(b"h" * 20)


async def test_its_nodes_know_each_other_and_find_what_one_announced() -> None:
    seen: list[int] = []
    with trio.fail_after(20):
        async with open_testnet(30, rng=random.Random(1), progress=seen.append) as nodes:
            assert len(nodes) == len({node.address for node in nodes}) == 30
            assert all(node.is_bootstrapped for node in nodes)
            assert min(len(node.contacts()) for node in nodes) >= 8
            found: list[Address] = []

            def hear(peers: Sequence[Address]) -> None:
                found.extend(peers)

            await nodes[3].announces.find_peers(
                HASH, announce_port=4711, on_peers=lambda peers: None
            )
            await nodes[-1].announces.find_peers(HASH, on_peers=hear)
            assert Address("127.0.0.1", 4711) in found
    assert seen[-1] == 30
    assert seen == sorted(seen)


async def test_after_the_block_every_port_is_free_again() -> None:
    with trio.fail_after(20):
        async with open_testnet(5, rng=random.Random(1)) as nodes:
            addresses = [node.address for node in nodes]
    for address in addresses:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(address)


async def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=f"127.0.0.1:{port}"):
            async with open_testnet(1, rng=random.Random(1), port_base=port):
                pass


def test_spread_nodes_have_a_host_each() -> None:
    count = 3 * HOSTS_A_NET
    addresses = plan(count, host="127.0.0.1", port_base=6881, spread=True)
    assert len({address.host for address in addresses}) == count
    assert all(address.is_local and address.is_usable for address in addresses)
    assert addresses[0] == Address("127.1.0.1", 6881)


def test_nodes_on_one_host_have_a_port_each() -> None:
    addresses = plan(3, host="::1", port_base=6881, spread=False)
    assert addresses == [Address("::1", port) for port in (6881, 6882, 6883)]
    assert {port for _, port in plan(3, host="127.0.0.1", port_base=0, spread=False)} == {0}


@pytest.mark.parametrize(
    ("count", "host", "port_base", "spread"),
    [
        (0, "127.0.0.1", 0, False),
        (MAX_NODES + 1, "127.0.0.1", 0, False),
        (1, "localhost", 0, False),
        (1, "8.8.8.8", 0, False),
        (1, "0.0.0.0", 0, False),
        (2, "127.0.0.1", 65535, False),
        (1, "127.0.0.1", 65536, False),
        (1, "127.0.0.1", -1, False),
        (1, "::1", 0, True),
    ],
)
def test_what_cannot_be_is_refused(count: int, host: str, port_base: int, spread: bool) -> None:
    with pytest.raises(InputError):
        plan(count, host=host, port_base=port_base, spread=spread)
