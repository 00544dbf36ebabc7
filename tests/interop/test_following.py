"""Links that stay (BEP 46), with libtorrent as reader, as the node that keeps the item, as seed,
and as another holder of the key. (Its Python binding puts text only, so what names a version is
signed here, and given to its node, which verifies it.)"""

from __future__ import annotations

from pathlib import Path

import trio

from dht_torrent import HostPort, InfoHash, MutableItem, MutableLink
from dht_torrent.dht.items import mutable_target, sign
from dht_torrent.dht.versions import version_value
from dht_torrent.engine.keys import KeyStore
from dht_torrent.engine.opening import open_node
from tests.helpers.content import differences, make_file
from tests.helpers.libtorrent_peer import create, info_hash_of, open_libtorrent
from tests.helpers.nodes import has_contacts, local_config, local_nodes
from tests.helpers.waiting import until
from tests.interop.test_items import KEY, SEED, Items

SALT = b"news"
LINK = MutableLink(KEY.public, SALT)
TARGET = mutable_target(KEY.public, SALT)


async def test_what_libtorrent_keeps_of_a_link_and_seeds_is_followed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with trio.fail_after(60):
        async with (
            local_nodes(1, tmp_path) as (node,),
            open_libtorrent([node.address]) as peer,
        ):
            theirs = Items(peer)
            await until(lambda: has_contacts(node), "we know libtorrent's node")
            followed = await node.follow(LINK, output=out)
            for seq in (1, 2):
                folder = tmp_path / f"theirs{seq}"
                page = make_file(folder / "page.bin", 100_000, seed=seq)
                torrent = create(page)
                await peer.seed(torrent, folder)
                wanted = InfoHash(info_hash_of(torrent))
                survey = await node.dht.get_all(TARGET, salt=SALT)
                stored = await node.dht.put_to(
                    survey.targets(), sign(KEY, version_value(wanted), seq, SALT)
                )
                assert [info.address for info in stored.stored] == [peer.address]
                followed.hurry()
                while wanted not in node.torrents:
                    await followed.changed()
                node.torrents[wanted].add_peers([HostPort(*peer.address)])
                while followed.current != wanted:
                    await followed.changed()
                assert differences(page, out / "current" / "page.bin") == []
            view = followed.view()
            assert (view.seq, view.malformed, view.stale, view.foreign) == (2, 0, 0, 0)
            # Libtorrent, which does not look into its own store, uses a number again: of no effect.
            assert await theirs.put(b"no version", SALT)
            followed.hurry()
            await trio.sleep(0.5)
            assert (followed.view().seq, followed.current) == (2, wanted)
            # It knows the newest now, and goes on; but what it puts names no torrent.
            await node.dht.put(sign(KEY, version_value(wanted), 2, SALT), keep=False)
            assert await theirs.put(b"no version", SALT)
            while not (view := followed.view()).malformed:
                followed.hurry()
                await trio.sleep(0.1)
            assert (view.malformed, view.seq, view.state) == (1, 3, "current")
            assert followed.current == wanted


async def test_what_we_publish_libtorrent_reads_and_fetches(tmp_path: Path) -> None:
    state = tmp_path / "state"
    page = make_file(tmp_path / "page.bin", 100_000)
    KeyStore(state).make("default", SEED)
    with trio.fail_after(60):
        async with (
            local_nodes(1, tmp_path) as (other,),
            open_node(local_config(tmp_path / "own", [other], state_dir=state)) as publisher,
            open_libtorrent([other.address]) as peer,
        ):
            theirs = Items(peer)
            assert await publisher.publish_link(page, "news") == LINK
            await until(lambda: publisher.published_links()[0].nodes, "it is published")
            for number in (1, 2):
                (told,) = publisher.published_links()
                value = await theirs.got(told.seq, SALT)
                assert value == {b"ih": bytes.fromhex(told.torrent)}
                folder = tmp_path / f"theirs{number}"
                handle = peer.add_magnet(f"magnet:?xt=urn:btih:{value[b'ih'].hex()}", folder)
                handle.connect_peer(tuple(publisher.address))
                await peer.completed(handle, 20)
                assert differences(page, folder / "page.bin") == []
                if number == 1:
                    # Libtorrent's own write is the newest: ours comes after it.
                    assert await theirs.put(b"theirs", SALT)
                    make_file(page, 100_000, seed=9)
                    await publisher.publish_link(page, "news")
                    found: object = None
                    while not isinstance(found, MutableItem) or found.seq < told.seq + 2:
                        found = await other.dht.get(TARGET, salt=SALT)
                        await trio.sleep(0.1)
