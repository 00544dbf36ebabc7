"""A transfer in a sandbox that refuses everything a node can do without. Run by test_sandbox.py.

    python sandboxed_process.py ERRNO FOLDER CALL...

Exits 0 when all that was sent arrived. What was logged is on stdout.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import trio

from dht_torrent.engine.net.sockets import RealNetwork
from dht_torrent.ids import Address
from tests.helpers.content import KIB, MIB, differences, make_file
from tests.helpers.nodes import announced, local_nodes
from tests.helpers.seccomp import refuse
from tests.helpers.waiting import until


async def main(folder: Path) -> None:
    with trio.fail_after(30):
        for host in ("127.0.0.1", "::1"):
            await exchange_bursts(host)
        content = make_file(folder / "film.bin", 4 * MIB)
        # Made for a state directory each, so that locks, records and syncs are needed too.
        async with (
            local_nodes(2, folder / "nodes") as nodes,
            local_nodes(1, folder / "got", nodes, state_dir=folder / "state") as (leech,),
        ):
            shared = await nodes[1].share(content, piece_length=64 * KIB)
            await announced(nodes)
            got = await leech.get(str(shared.magnet))
            await got.completed()
            assert got.path is not None
            assert differences(content, got.path) == []
            await until(lambda: list((folder / "state").rglob("*.resume")) != [], "it is saved")


async def exchange_bursts(host: str) -> None:
    net = RealNetwork()
    try:
        one, two = [await net.open_udp(Address(host, 0)) for _ in range(2)]
    except OSError:
        assert host == "::1"  # not every machine has it
        return
    for _ in range(3):
        datagrams = [(b"%d" % n, two.address) for n in range(100)]
        assert one.send_all(datagrams) == 0
        got: list[tuple[bytes, Address]] = []
        while len(got) < len(datagrams):
            got += await two.receive()
        assert got == [(data, one.address) for data, _ in datagrams]
    assert one.errors == two.errors == 0
    one.close()
    two.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    refuse(sys.argv[3:], int(sys.argv[1]))
    trio.run(main, Path(sys.argv[2]))
