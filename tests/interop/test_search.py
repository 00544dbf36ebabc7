"""The index in a DHT of which most nodes, and in the end all holders, are libtorrent's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import libtorrent as lt
import trio

from dht_torrent import Config, Node, open_node
from dht_torrent.config import DhtConfig, SearchConfig
from dht_torrent.ids import Address, HostPort
from dht_torrent.search.record import decode_record, record_salt, record_target
from tests.helpers.libtorrent_peer import open_libtorrent

FAST = SearchConfig(publish_rate=100.0, publish_burst=100.0)


@asynccontextmanager
async def our_node(folder: Path, entry: Sequence[Address]) -> AsyncIterator[Node]:
    await trio.Path(folder).mkdir()
    config = Config(
        bootstrap=[HostPort(*address) for address in entry],
        listen="127.0.0.1:0",
        state_dir=None,
        download_dir=folder,
        dht=DhtConfig(soft_timeout=0.3),
        search=FAST,
    )
    async with open_node(config) as node:
        if entry:
            await node.dht.bootstrapped()
        yield node


async def all_is_written(node: Node, places: int) -> str:
    """Waits until what it publishes is in so many slots. Returns the key it is signed with."""
    while True:
        status = node.status().search
        if status is not None and status.puts_hour >= places and not status.due:
            assert status.publisher is not None
            return status.publisher
        await trio.sleep(0.05)


async def found(node: Node, text: str, **options: Any) -> list[tuple[str, str, str | None]]:
    results = [result async for result in node.search(text, **options)]
    return [(result.name, result.trust, result.publisher) for result in results]


async def test_we_publish_on_libtorrent_nodes_and_search_what_they_hold(tmp_path: Path) -> None:
    content = tmp_path / "Slow trains across the Alps"
    await trio.Path(content).mkdir()
    await trio.Path(content / "film.bin").write_bytes(b"x" * 100_000)
    with trio.fail_after(60):
        async with AsyncExitStack() as theirs, AsyncExitStack() as ours:
            entry = await ours.enter_async_context(our_node(tmp_path / "entry", []))
            sessions = [
                await theirs.enter_async_context(open_libtorrent([entry.address])) for _ in range(5)
            ]
            addresses = [session.address for session in sessions]
            publisher = await ours.enter_async_context(
                our_node(tmp_path / "publisher", [entry.address, *addresses])
            )
            torrent = await publisher.share(content, publish=True, tags=["mountains"])
            # Its record, five words and a tag, its day, its size, and at last the dictionary.
            key = await all_is_written(publisher, 1 + 6 + 1 + 1 + 1)

            salt = record_salt(torrent.info_hash)
            target = record_target(bytes.fromhex(key), torrent.info_hash)
            survey = await entry.dht.get_all(target, salt=salt)
            holders = {one.contact.address for one in survey.holders if one.item is not None}
            assert holders >= set(addresses)
            newest = survey.newest
            assert newest is not None
            assert decode_record(newest.encoded).title == content.name

            got: list[bytes] = []

            def note(alert: Any) -> None:
                if isinstance(alert, lt.dht_mutable_item_alert) and alert.salt == salt:
                    value: Any = alert.item
                    got.append(lt.bencode(value))

            sessions[0].on_alert = note
            sessions[0].session.dht_get_mutable_item(bytes.fromhex(key), salt)
            await sessions[0].until(lambda: newest.encoded in got, "it reads our record")

            await ours.aclose()  # from here on, only libtorrent has any of it
            async with our_node(tmp_path / "searcher", addresses) as searcher:
                expected = [(content.name, "verified", key)]
                assert await found(searcher, "trains alps", patience=10.0) == expected
                assert await found(searcher, "mountains", patience=10.0, limit=1) == expected
                assert await found(searcher, "acro", prefix=True, patience=10.0) == expected
                assert await found(searcher, "trains buses", patience=10.0) == []
