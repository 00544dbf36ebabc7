"""Encrypted connections with libtorrent, aria2 and Transmission: they insist, or refuse; we fetch
and serve, by an infohash alone."""

from __future__ import annotations

import filecmp
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from dht_torrent.config import EncryptionPolicy
from dht_torrent.engine.torrent.torrent import Torrent
from tests.helpers.clients import (
    OURS,
    aria2,
    open_transmission,
    own_network,
    running,
    transmission,
)
from tests.helpers.content import KIB, MIB, differences, make_file
from tests.helpers.libtorrent_peer import create, magnet_of, open_libtorrent
from tests.helpers.nodes import announced, local_nodes

SIZE = 50_000_000
NODES = 12
"""Transmission looks for nobody before it knows nine of them, and four have answered."""

FORCED, ENABLED, DISABLED = 0, 1, 2  # libtorrent's enc_policy
PLAINTEXT, RC4, BOTH = 1, 2, 3  # and its enc_level


def policy(policy: int, level: int = BOTH) -> dict[str, Any]:
    """The settings of libtorrent."""
    return {"out_enc_policy": policy, "in_enc_policy": policy, "allowed_enc_level": level}


ANYHOW = policy(ENABLED)
LIBTORRENT = [
    ("prefer", policy(FORCED, RC4), "rc4"),
    ("prefer", policy(FORCED, PLAINTEXT), "mse"),
    ("prefer", policy(FORCED), "mse"),
    ("prefer", {**policy(FORCED), "prefer_rc4": True}, None),  # each may choose
    ("prefer", ANYHOW, "mse"),
    ("prefer", policy(DISABLED), ""),
    ("require", policy(FORCED), "rc4"),
    ("require", ANYHOW, "rc4"),
    ("allow", policy(DISABLED), ""),
    ("off", policy(DISABLED), ""),
    ("off", ANYHOW, ""),
]


SLOW: dict[str, Any] = {"limit_up": 5_000_000, "limit_down": 5_000_000}
"""Else a whole transfer could pass between two looks at who is connected."""


class Seen:
    """How the connections of a torrent were encrypted, as long as it was watched."""

    def __init__(self) -> None:
        self.ways: set[str] = set()

    async def watch(self, torrent: Torrent) -> None:
        while True:
            self.ways.update(peer.encryption or "" for peer in torrent.peers())
            await trio.sleep(0.01)

    def assert_only(self, way: str | None) -> None:
        """`way` and nothing else; None: encrypted anyhow."""
        assert self.ways
        assert self.ways == {way} if way is not None else self.ways <= {"mse", "rc4"}


@pytest.mark.parametrize(("ours", "theirs", "way"), LIBTORRENT)
async def test_we_fetch_from_libtorrent(
    tmp_path: Path, ours: EncryptionPolicy, theirs: dict[str, Any], way: str | None
) -> None:
    content = make_file(tmp_path / "seed" / "film.bin", 3_000_001)
    torrent = create(content, 64 * KIB)
    seen = Seen()
    with trio.fail_after(20):
        async with (
            local_nodes(3, tmp_path / "nodes", encryption=ours, **SLOW) as nodes,
            open_libtorrent([nodes[0].address], **theirs) as seed,
            trio.open_nursery() as nursery,
        ):
            await seed.seed(torrent, content.parent)
            await announced(nodes)
            got = await nodes[2].get(magnet_of(torrent))
            nursery.start_soon(seen.watch, got)
            path = await got.completed()
            assert differences(content, path) == []
            assert got.summary().wasted == 0
            nursery.cancel_scope.cancel()
    seen.assert_only(way)


@pytest.mark.parametrize(
    ("ours", "theirs", "way"),
    [
        # Where it may do without, it dials without at first.
        (ours, theirs, "" if (ours, way) == ("prefer", "mse") and theirs == ANYHOW else way)
        for ours, theirs, way in LIBTORRENT
    ],
)
async def test_libtorrent_fetches_from_us(
    tmp_path: Path, ours: EncryptionPolicy, theirs: dict[str, Any], way: str | None
) -> None:
    content = make_file(tmp_path / "seed" / "film.bin", 3_000_001)
    seen = Seen()
    with trio.fail_after(20):
        async with (
            local_nodes(3, tmp_path / "nodes", encryption=ours, **SLOW) as nodes,
            trio.open_nursery() as nursery,
        ):
            shared = await nodes[1].share(content, piece_length=64 * KIB)
            nursery.start_soon(seen.watch, shared)
            await announced(nodes)
            async with open_libtorrent([nodes[0].address], **theirs) as leech:
                handle = leech.add_magnet(f"magnet:?xt=urn:btih:{shared.id}", tmp_path / "got")
                await leech.completed(handle)
            nursery.cancel_scope.cancel()
    assert differences(content, tmp_path / "got" / "film.bin") == []
    seen.assert_only(way)


# -- whole clients ---------------------------------------------------------------------------------


@pytest.fixture
def network() -> Iterator[None]:
    with own_network():
        yield


@pytest.fixture
def content(tmp_path: Path) -> Path:
    return make_file(tmp_path / "seed" / "film.bin", SIZE)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """For Transmission, which needs seconds for it: the speed is the matter of other tests."""
    return make_file(tmp_path / "seed" / "film.bin", SIZE // 8)


ARIA2 = [
    ([], "mse"),  # as it is without any option: it tries encryption first
    (["--bt-require-crypto=true"], "mse"),
    (["--bt-force-encryption=true"], "rc4"),  # required, and RC4 at least
]


@pytest.mark.parametrize(("options", "way"), ARIA2)
async def test_aria2_fetches_from_us(
    network: None, content: Path, tmp_path: Path, options: list[str], way: str
) -> None:
    seen = Seen()
    async with (
        local_nodes(NODES, tmp_path / "nodes", listen=f"{OURS}:0") as nodes,
        trio.open_nursery() as nursery,
    ):
        shared = await nodes[1].share(content, piece_length=MIB)
        nursery.start_soon(seen.watch, shared)
        await announced(nodes)
        command = aria2(
            tmp_path / "got",
            f"magnet:?xt=urn:btih:{shared.id}",
            nodes[0].address,
            seed=False,
            more=options,
        )
        async with running(command, tmp_path / "aria2") as process:
            with trio.fail_after(90):
                assert await process.wait() == 0
        assert filecmp.cmp(content, tmp_path / "got" / "film.bin", shallow=False)
        seen.assert_only(way)
        # The first connection served: no second one without encryption.
        assert "legacy" not in (tmp_path / "got-aria2" / "log").read_text(errors="replace")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("options", "way"), ARIA2)
async def test_we_fetch_from_aria2(
    network: None, content: Path, tmp_path: Path, options: list[str], way: str
) -> None:
    torrent, seen = tmp_path / "film.torrent", Seen()
    torrent.write_bytes(create(content, MIB))
    async with (
        local_nodes(NODES, tmp_path / "nodes", listen=f"{OURS}:0") as nodes,
        trio.open_nursery() as nursery,
    ):
        command = aria2(content.parent, str(torrent), nodes[0].address, seed=True, more=options)
        async with running(command, tmp_path / "aria2"):
            with trio.fail_after(90):
                await announced(nodes)
                got = await nodes[2].get(magnet_of(torrent.read_bytes()))
                nursery.start_soon(seen.watch, got)
                path = await got.completed()
        assert filecmp.cmp(content, path, shallow=False)
        seen.assert_only(way)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("ours", ["prefer", "require"])
async def test_transmission_fetches_from_us(
    network: None, small: Path, tmp_path: Path, ours: EncryptionPolicy
) -> None:
    seen = Seen()
    async with (
        local_nodes(NODES, tmp_path / "nodes", listen=f"{OURS}:0", encryption=ours) as nodes,
        trio.open_nursery() as nursery,
    ):
        shared = await nodes[1].share(small, piece_length=MIB)
        nursery.start_soon(seen.watch, shared)
        await announced(nodes)
        entries = [node.address for node in nodes]
        command = transmission(tmp_path / "state", entries, encryption=2)
        async with open_transmission(command, tmp_path / "transmission") as daemon:
            with trio.fail_after(90):
                await daemon.add(f"magnet:?xt=urn:btih:{shared.id}", tmp_path / "got")
                await daemon.until(1.0)
        assert filecmp.cmp(small, tmp_path / "got" / "film.bin", shallow=False)
        seen.assert_only("rc4")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("ours", ["prefer", "require"])
async def test_we_fetch_from_transmission(
    network: None, small: Path, tmp_path: Path, ours: EncryptionPolicy
) -> None:
    torrent, seen = tmp_path / "film.torrent", Seen()
    torrent.write_bytes(create(small, MIB))
    async with (
        local_nodes(NODES, tmp_path / "nodes", listen=f"{OURS}:0", encryption=ours) as nodes,
        trio.open_nursery() as nursery,
    ):
        entries = [node.address for node in nodes]
        command = transmission(tmp_path / "state", entries, encryption=2)
        async with open_transmission(command, tmp_path / "transmission") as daemon:
            with trio.fail_after(90):
                got = await nodes[2].get(magnet_of(torrent.read_bytes()))
                nursery.start_soon(seen.watch, got)
                await announced(nodes)  # its own announce comes 5 to 15 s after it has found ours
                await daemon.add(torrent, small.parent)
                path = await got.completed()
        assert filecmp.cmp(small, path, shallow=False)
        seen.assert_only("rc4")
        nursery.cancel_scope.cancel()
