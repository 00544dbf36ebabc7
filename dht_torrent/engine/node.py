"""A running node: a DHT and a listening port for each address family, any number of torrents, one
nursery over all.

A peer's, a contact's or a disk's fault never gets here, nor a bug of ours that has a smaller owner
(see `faults`); what does get here ends the nursery as a whole.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

import trio

from dht_torrent.bounds import MAX_SOURCES
from dht_torrent.config import Config
from dht_torrent.engine.dht.dual_stack import DualStack
from dht_torrent.engine.following.followed import Followed
from dht_torrent.engine.following.service import LinkService
from dht_torrent.engine.following.views import FollowView, PublishedView
from dht_torrent.engine.incoming import Incoming
from dht_torrent.engine.keys import DEFAULT
from dht_torrent.engine.net.tls import check_files, read_root
from dht_torrent.engine.records import StateRecords
from dht_torrent.engine.registry import Registry
from dht_torrent.engine.reloading import Reloading
from dht_torrent.engine.search.own import check_tags
from dht_torrent.engine.search.results import SearchResults
from dht_torrent.engine.search.service import SearchService
from dht_torrent.engine.search.sketching import sketching
from dht_torrent.engine.search.subscriptions import Subscriptions
from dht_torrent.engine.search.views import (
    CatalogueImport,
    CatalogueStatus,
    PublisherView,
    SearchOptions,
    SearchQuery,
    SimilarFound,
    SimilarQuery,
)
from dht_torrent.engine.status import node_status
from dht_torrent.engine.torrent.context import NodeContext
from dht_torrent.engine.torrent.housekeeping import Housekeeping
from dht_torrent.engine.torrent.joining import check_identity, join_torrent
from dht_torrent.engine.torrent.rate_limits import NewRate
from dht_torrent.engine.torrent.reusing import check_sources
from dht_torrent.engine.torrent.sharing import hash_content
from dht_torrent.engine.torrent.statistics import Statistics
from dht_torrent.engine.torrent.supervisor import Supervisor
from dht_torrent.engine.torrent.torrent import Torrent
from dht_torrent.engine.upkeep import DhtSaving
from dht_torrent.engine.user_files import absolute, tls_identity, understand
from dht_torrent.engine.views import NodeStatus, Removal
from dht_torrent.errors import InputError
from dht_torrent.ids import Address, InfoHash, NodeId
from dht_torrent.magnet import MutableLink
from dht_torrent.metainfo import Magnet, Metainfo
from dht_torrent.torrent.selection import check_selection


class Node:
    """A DHT node and peer-wire engine. Made by `open_node`."""

    def __init__(
        self,
        context: NodeContext,
        registry: Registry,
        incoming: Incoming,
        saving: DhtSaving,
        search: SearchService,
        links: LinkService,
        warnings: Sequence[str],
        subscriptions: Subscriptions,
        housekeeping: Housekeeping,
        reloading: Reloading,
    ) -> None:
        self.config = context.config
        self.addresses = tuple(dht.address for dht in context.dht)
        """Where the node listens, TCP and UDP alike: one address, or one of IPv4 and one of IPv6.
        """
        self.faults = context.faults
        """Bugs of ours so far."""
        self.subscriptions = subscriptions
        """Publishers' catalogues that are kept in ours; `feeds` are our own."""
        self.rules = housekeeping.rules
        """What holds for all torrents: turns, and when one has been shared enough. What is changed
        here holds from the next look on, and until a restart."""
        self.speed = housekeeping.speed
        """The limits of all torrents together, and those that hold instead at times."""
        self.records = StateRecords(context.state, context.disk)
        self._housekeeping = housekeeping
        self._reloading = reloading
        self._context = context
        self._dht = context.dht
        self._registry = registry
        self._incoming = incoming
        self._saving = saving
        self._search = search
        self._links = links
        self._warnings = list(warnings)
        self._started = trio.current_time()

    @property
    def warnings(self) -> list[str]:
        """What could not be used of configuration and records at the start, a line each."""
        return [
            *self._warnings,
            *self._registry.warnings,
            *self._housekeeping.warnings,
            *self._search.warnings,
            *self.subscriptions.warnings,
            *self._links.warnings,
            *filter(None, [self._context.filtering.trouble]),
            *(self._context.inside.warnings() if self._context.inside is not None else ()),
        ]

    @property
    def address(self) -> Address:
        """The first of `addresses`."""
        return self.addresses[0]

    @property
    def tls_addresses(self) -> Sequence[Address]:
        """Where it listens for the peers of SSL torrents: nowhere, as long as there are none and
        the configuration names no port."""
        return tuple(self._context.tls_addresses)

    @property
    def node_id(self) -> NodeId:
        """Our id in the DHT of `address`."""
        return self._dht.node_id

    @property
    def dht(self) -> DualStack:
        """The DHT nodes, for lookups of one's own; those of both families answer as one."""
        return self._dht

    @property
    def torrents(self) -> Mapping[InfoHash, Torrent]:
        """All torrents, by infohash, in the order they were added."""
        return self._registry.torrents

    # -- torrents -------------------------------------------------------------------------------

    async def share(
        self,
        path: Path | str,
        *,
        piece_length: int | None = None,
        private: bool = False,
        super_seed: bool | None = None,
        tls_ca: Path | str | None = None,
        tls_cert: Path | str | None = None,
        tls_key: Path | str | None = None,
        publish: bool = False,
        tags: Sequence[str] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> Torrent:
        """Hash a file or folder and seed it where it is. `progress(bytes_done, bytes_total)` may be
        called from a worker thread.

        `publish` puts it into the index that everybody searches, as `Node.publish` does. What
        cannot be there, because it is private, say, or nothing in its name is a word, is shared
        without: `Torrent.published` tells, and `Torrent.not_published` why. `tags` of no use are
        refused before anything is done.

        `super_seed` is for the first seed of something new (BEP 16): pieces are shown one by one,
        so that each leaves us about once, until all of them were seen at other peers. False ends it
        for a torrent that is shared already; None leaves that as it is.

        With `tls_ca`, a root certificate (PEM), it is an SSL torrent: exchanged in TLS, with those
        who have a certificate that this one signed. `tls_cert` and `tls_key` are ours, read again
        whenever the torrent starts. Raises InputError when anything cannot be read, or is of no
        use."""
        check_tags(tags)
        content = absolute(path)
        identity, ssl_cert = tls_identity(tls_cert, tls_key), None
        if (tls_ca is None) is not (identity is None):
            raise InputError("an SSL torrent needs all three: tls_ca, tls_cert and tls_key")
        if tls_ca is not None and identity is not None:
            ssl_cert = await self._context.disk.run(read_root, absolute(tls_ca))
            # Before hours of hashing; most names are what the torrent's will be.
            name = content.name if content.name not in ("", "..") else None
            await self._context.disk.run(check_files, identity, ssl_cert, name)
        sampler = sketching() if not private and ssl_cert is None else None
        metainfo, hashed = await hash_content(
            self._context.disk,
            self._context.open_storage,
            content,
            piece_length=piece_length,
            private=private,
            ssl_cert=ssl_cert,
            progress=progress,
            relief=self._context.descriptors.relieve,
            sampler=sampler,
        )
        if identity is not None:
            await self._context.disk.run(check_files, identity, ssl_cert, metainfo.name)
        if sampler is not None:
            await self._search.likes.hashed(metainfo.info_hash, sampler)
        await self._registry.refuse_unfinished(content, metainfo.info_hash)
        present = self.torrents.get(metainfo.info_hash)
        if present is not None:
            commands = self._registry.supervisors[metainfo.info_hash].commands
            await commands.share_from(content, metainfo, hashed, identity, super_seed=super_seed)
            torrent = present
        else:
            torrent = await self._registry.add(
                Supervisor(
                    self._context,
                    metainfo.magnet(),
                    content,
                    metainfo=metainfo,
                    shared=True,
                    hashed=hashed,
                    identity=identity,
                    super_seed=bool(super_seed),
                )
            )
        supervisor = self._registry.supervisors.get(torrent.info_hash)
        if publish and supervisor is not None:
            await self._search.publish_shared(supervisor, tags)
        return torrent

    async def get(
        self,
        source: str | Magnet | Metainfo | Path,
        *,
        output: Path | str | None = None,
        select: Sequence[tuple[int, int]] | None = None,
        sequential: bool = False,
        paused: bool = False,
        overwrite: bool = False,
        tls_cert: Path | str | None = None,
        tls_key: Path | str | None = None,
        sources: Sequence[Path | str] = (),
    ) -> Torrent:
        """Fetch a torrent, given a magnet link, an infohash, or a .torrent file (see `given`).

        `select` are inclusive ranges of file indices; None takes the magnet's own choice, or all.
        A file that lies where the download belongs is adopted if its pieces verify, and continued
        if the rest of it is holes or zeros; anything else stops the torrent with an error, unless
        `overwrite` insists. Of a torrent that is here already, whatever is new takes effect, or is
        refused.

        `sources` are files and folders of this disk that may hold some of it, such as an older
        version: what is right there is copied, and only the rest is fetched. The other torrents of
        this node are looked into without being named.

        An SSL torrent needs our certificate and its private key (PEM files, read again whenever the
        torrent starts), a magnet link of one too: who has it speaks to nobody without.

        Returns at once; `await torrent.completed()` waits. Raises InputError (MagnetError,
        MetainfoError) when `source` cannot be used."""
        magnet, metainfo = await understand(self._context.disk, source)
        select = select if select is not None else magnet.select
        folder = absolute(output if output is not None else self.config.download_dir)
        if metainfo is not None:
            check_selection(select, metainfo)
        identity = tls_identity(tls_cert, tls_key)
        present = self.torrents.get(magnet.info_hash)
        places = await self._checked(sources, present, metainfo, folder)
        if present is None:
            check_identity(metainfo, identity)
        if identity is not None:
            known = metainfo or (present.metainfo if present is not None else None)
            await self._context.disk.run(join_torrent, identity, magnet.info_hash, known)
        if present is not None:
            await self._registry.supervisors[magnet.info_hash].commands.renew(
                magnet,
                metainfo,
                folder if output is not None else None,
                select,
                sequential=sequential,
                paused=paused,
                overwrite=overwrite,
                identity=identity,
                sources=places,
            )
            return present
        supervisor = Supervisor(
            self._context,
            magnet,
            folder,
            metainfo=metainfo,
            select=select,
            sequential=sequential,
            paused=paused,
            overwrite=overwrite,
            identity=identity,
            sources=places,
        )
        return await self._registry.add(supervisor)

    async def _checked(
        self,
        sources: Sequence[Path | str],
        present: Torrent | None,
        metainfo: Metainfo | None,
        folder: Path,
    ) -> list[Path]:
        """Where to look for content, made absolute. Raises InputError for what is of no use."""
        places = list(dict.fromkeys(map(absolute, sources)))
        if len(places) > MAX_SOURCES:
            raise InputError(f"at most {MAX_SOURCES} sources, not {len(places)}")
        if places:
            known = present is None and metainfo is not None
            target = folder / metainfo.name if known and metainfo is not None else None
            await self._context.disk.run(check_sources, places, target)
        return places

    def find(self, prefix: str) -> Torrent:
        """The torrent whose hex id begins with `prefix`. Raises InputError if none or many do."""
        return self._registry.find(prefix)

    async def remove(self, torrent: Torrent, *, delete_data: bool = False) -> Removal:
        """Stop and forget a torrent; with `delete_data` the files it made go too.

        What was there before, was changed since, or is another torrent's as well is never deleted;
        what was left is told. Raises InputError for a torrent that is not here any more, and
        StorageError when its record cannot be removed: then it stays, and goes on."""
        if self.torrents.get(torrent.info_hash) is not torrent:
            raise InputError(f"no such torrent: {torrent.id}")
        return await self._registry.remove(torrent.info_hash, delete_data)

    @property
    def limits(self) -> tuple[int | None, int | None]:
        """What `set_limits` set: bytes per second up and down."""
        return self.speed.up, self.speed.down

    def statistics(self) -> tuple[Statistics, Statistics]:
        """What was done in this run of the node, and in all of them."""
        self._housekeeping.count()
        return self._housekeeping.counting.now, self._housekeeping.counting.ever

    def queue_positions(self) -> dict[InfoHash, int]:
        """The place of each torrent in the order in which they get their turns, from 0."""
        return self._housekeeping.positions()

    async def move_in_queue(self, torrent: Torrent, position: int) -> None:
        """Put it there in that order, from 0; others make room. Survives a restart. Raises
        InputError."""
        await self._housekeeping.move(self._supervisor(torrent).core.context.info_hash, position)

    def set_limits(self, *, up: NewRate = ..., down: NewRate = ...) -> None:
        """Bytes per second all torrents together may send and receive from now on: None is no
        limit, `...` leaves it as it is. What counts is payload and headers of messages. A restart
        begins with the configuration's again. Raises InputError."""
        self.speed.set(up, down)

    async def reload(self, config: Config) -> frozenset[str]:
        """Take what can be taken while running of another configuration (see `engine.reloading`).
        Returns the names of the fields that were. Raises InputError, and then nothing was."""
        self.config, taken = await self._reloading.reload(self.config, config)
        return taken

    # -- links whose content changes (BEP 46) ---------------------------------------------------

    async def publish_link(self, path: Path | str, name: str, *, key: str = DEFAULT) -> MutableLink:
        """Share a file or folder, and give it a link that stays: whoever follows it hears of what
        is shared under this name, now and later. Given the same name again, this is the new
        version, also when the content changed where it was; the old one is served as far as it is
        still there.

        `key` is the name of a key in the state directory; `default` is made when it is not there.
        Returns when the link is noted; the DHT hears of it within a minute or so. Raises
        InputError, StorageError."""
        return await self._links.publish(absolute(path), name, key)

    async def unpublish_link(self, link: str) -> PublishedView:
        """Name no version of it any more: `link` is the link, its name or the start of its id. Its
        content is shared on; what nodes have of it expires within two hours, unless followers keep
        it alive. Returns what it was. Raises InputError, StorageError."""
        return (await self._links.unpublish(link)).view()

    def published_links(self) -> list[PublishedView]:
        """What `publish_link` has published."""
        return [one.view() for one in self._links.published]

    async def follow(
        self,
        link: MutableLink | str,
        *,
        output: Path | str | None = None,
        keep: int | None = None,
    ) -> Followed:
        """Fetch what a link names today, and each new version, until `unfollow`, restarts included.

        In the folder `output` (by default one below the download directory) `current` is the
        version of today: a symbolic link to `versions/ID`, replaced in one step when all of a new
        one is here. `keep` old versions stay (one); files that this node did not make are never
        removed. Of a link that is followed already, the new `keep` counts, and it is looked at
        once. Raises InputError."""
        wanted = link if isinstance(link, MutableLink) else MutableLink.parse(link)
        folder = absolute(output) if output is not None else None
        return await self._links.follow(wanted, folder, keep, absolute(self.config.download_dir))

    async def unfollow(self, link: str, *, delete_data: bool = False) -> FollowView:
        """Follow it no more: `link` is the link, its title or the start of its id. What is here
        stays, with its torrents; or goes with `delete_data`, as with `remove`. Returns what it was.
        Raises InputError, StorageError."""
        return (await self._links.unfollow(link, delete_data=delete_data)).view()

    @property
    def followed(self) -> list[Followed]:
        """The links that are followed."""
        return self._links.followed

    # -- search ---------------------------------------------------------------------------------

    def search(self, query: SearchQuery | str, **options: Unpack[SearchOptions]) -> SearchResults:
        """Search for torrents by words of their titles, size and date: what this node knows comes
        at once, what the DHT's index has as it is found and checked. `options` are fields of
        `SearchQuery`. For `async for`, which may be left at any time. Raises InputError."""
        if isinstance(query, SearchQuery):
            return self._search.search(replace(query, **options))
        return self._search.search(SearchQuery(text=query, **options))

    async def similar(
        self,
        source: str | Path | Magnet | Metainfo,
        *,
        limit: int = 20,
        patience: float = 10.0,
        network: bool = True,
    ) -> SimilarFound:
        """Which torrents have the same file, much of the same content or a similar name: of a file
        or folder on this disk, a .torrent file, a magnet link, an infohash, or the first digits of
        a torrent's that is here. Of a large file a sixteenth is read.

        What is known here counts, and within `patience` seconds what publishers say in the index
        that everybody searches; nobody is asked about a private or an SSL torrent. Raises
        InputError for something that nothing is known of."""
        return await self._search.similar(
            SimilarQuery(source=source, limit=limit, patience=patience, network=network)
        )

    async def publish(self, torrent: Torrent, tags: Sequence[str] = ()) -> None:
        """Put a torrent that is shared here into the index that everybody searches, under its name
        and `tags`, and keep it there until `unpublish` or its removal, restarts included. Returns
        when that is noted; the DHT hears of it within minutes.

        All that one node publishes is signed with one key (`SearchStatus.publisher`), so that
        everybody can tell that it comes from one node. Raises InputError for what is not to be
        published: a private or SSL torrent, and what was fetched from others."""
        await self._search.publish(self._supervisor(torrent), tags)

    async def unpublish(self, torrent: Torrent) -> bool:
        """Publish it no more. What other nodes hold of it expires within a day. False: it was not
        published."""
        return await self._search.unpublish(self._supervisor(torrent))

    async def trust(self, publisher: str, on: bool = True) -> None:
        """Rank what this key (64 hex digits) has published above the rest; `on` False takes that
        back. Who was blocked is not any more. Raises InputError."""
        await self._search.judge(publisher, trusted=on)

    async def block(self, publisher: str, on: bool = True) -> None:
        """Never show what only this key (64 hex digits) has published; `on` False takes that back.
        Who was trusted is not any more. Raises InputError."""
        await self._search.judge(publisher, blocked=on)

    async def publishers(self) -> list[PublisherView]:
        """Whom the user trusts or has blocked."""
        return await self._search.publishers()

    async def catalogue_status(self) -> CatalogueStatus:
        """How much this node knows of what there is. Raises StorageError."""
        return await self._search.catalogue_status()

    def export_catalogue(self) -> AsyncGenerator[bytes, None]:
        """All that the catalogue knows, as JSON lines: some whole lines at a time. Raises
        StorageError."""
        return self._search.export_catalogue()

    async def import_catalogue(self, lines: bytes) -> CatalogueImport:
        """Add what some JSON lines tell, such as `export_catalogue` gave; none of it counts as
        verified. Raises StorageError."""
        return await self._search.import_catalogue(lines)

    def _supervisor(self, torrent: Torrent) -> Supervisor:
        if self.torrents.get(torrent.info_hash) is not torrent:
            raise InputError(f"no such torrent: {torrent.id}")
        return self._registry.supervisors[torrent.info_hash]

    # -- what users see -------------------------------------------------------------------------

    def status(self) -> NodeStatus:
        """A snapshot for people."""
        return node_status(
            self._context,
            self._registry,
            self._incoming,
            search=self._search.status(),
            warnings=(*self.warnings, *self._registry.unsaved(), *self._saving.unsaved()),
            uptime=trio.current_time() - self._started,
            alternative=self.speed.alternative.on,
        )
