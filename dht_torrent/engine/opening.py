"""Opening a node, from its sockets and its state dir to the tasks it runs, and closing it again."""

from __future__ import annotations

import logging
import mmap
import random
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import trio

import dht_torrent
from dht_torrent.config import Config
from dht_torrent.engine.access import open_access
from dht_torrent.engine.budget import divide
from dht_torrent.engine.dht.dual_stack import DualStack
from dht_torrent.engine.dht.node import Dht
from dht_torrent.engine.faults import Faults
from dht_torrent.engine.filtering import FilterFile
from dht_torrent.engine.following.service import LinkService
from dht_torrent.engine.incoming import Incoming
from dht_torrent.engine.lsd import LocalDiscovery
from dht_torrent.engine.net.encrypted import Mse
from dht_torrent.engine.net.ports import listen, listen_tcp
from dht_torrent.engine.net.protocols import DatagramSocket, Listener, Network
from dht_torrent.engine.net.utp import SECRET, UtpPort, UtpPorts
from dht_torrent.engine.node import Node
from dht_torrent.engine.on_complete import OnComplete
from dht_torrent.engine.portmap.making import port_mapping
from dht_torrent.engine.registry import Registry
from dht_torrent.engine.reloading import Reloading
from dht_torrent.engine.renewal import Renewal
from dht_torrent.engine.resume import Resume
from dht_torrent.engine.search.catalogue import check_url
from dht_torrent.engine.search.denying import Denied, DenyFile
from dht_torrent.engine.search.feeds import CatalogueFeeds
from dht_torrent.engine.search.service import SearchService
from dht_torrent.engine.search.subscriptions import Subscriptions
from dht_torrent.engine.speed import SpeedLimits
from dht_torrent.engine.state import StateDir
from dht_torrent.engine.tls_listening import TlsListening
from dht_torrent.engine.torrent.context import NodeContext, OpenStorage
from dht_torrent.engine.torrent.disk import Disk
from dht_torrent.engine.torrent.housekeeping import Housekeeping
from dht_torrent.engine.torrent.rate_limits import Limits
from dht_torrent.engine.upkeep import DhtSaving, keep_descriptors, trim_buffers
from dht_torrent.engine.user_files import absolute
from dht_torrent.engine.watch_folder import WatchFolder
from dht_torrent.metainfo import Metainfo
from dht_torrent.relief import descriptors_left
from dht_torrent.storage import Descriptors, FileStorage, Storage
from dht_torrent.torrent.memory import PieceMemory
from dht_torrent.torrent.metadata import MetadataMemory
from dht_torrent.torrent.pieces import BufferPool
from dht_torrent.trace import Trace, nothing

logger = logging.getLogger(__name__)

SPARE_SEND_BUFFERS = 4 << 20
"""Bytes of send buffers kept for the next batch."""


SAVE_PATIENCE = 5.0
"""Seconds that saving the DHT's contacts gets when the node ends."""


@asynccontextmanager
async def open_node(
    config: Config | None = None,
    *,
    network: Network | None = None,
    open_storage: OpenStorage | None = None,
    rng: random.Random | None = None,
    clock: Callable[[], float] = time.time,
    trace: Trace = nothing,
) -> AsyncIterator[Node]:
    """Run a node for the length of the block.

    `network`, `open_storage`, `rng` and `clock` (Unix time, for the index) are the seams for
    virtual networks and repeatable runs.
    What the process may open (RLIMIT_NOFILE) bounds connections and open files. The limit itself is
    left alone: it belongs to the program around us, whose children inherit it, and which may still
    use select(); `relief.raise_descriptor_limit` raises it, as `dhtnode` does. Raises InputError
    when the configuration, the address or the state dir cannot be used."""
    config = config if config is not None else Config()
    keys = rng if rng is not None else random.SystemRandom()
    rng = rng if rng is not None else random.Random(secrets.randbits(128))
    encryption = config.encryption_policy()
    bootstrap = config.bootstrap_points()
    limits = Limits()
    speed = SpeedLimits(limits.set, config, clock)
    config.wanted_interface()
    config.check_transports()
    wanted = config.listen_addresses()
    config.proxy_server()
    secured = config.tls_addresses()
    check_url(config.catalogue.url)
    disk = Disk(config.disk)
    faults = Faults(fail_fast=config.fail_fast)
    state: StateDir | None = None
    records: list[Resume] = []
    warnings: list[str] = []
    if network is None:  # others need no descriptors, or have a bound of their own
        left = descriptors_left()
        budget = divide(left, config, disk.threads)
        warnings += filter(None, [budget.warning(config, left)])
        config = budget.applied(config)
    descriptors = Descriptors(config.disk.open_files)
    way = await open_access(config, network, disk, rng=rng, relief=descriptors.relieve)
    network, inside, proxy, filtering = way.network, way.inside, way.proxy, way.filtering
    saved: dict[bool, bytes | None] = {}
    body: Exception | None = None
    denied = Denied()
    if config.deny_list is not None:
        denied = DenyFile(absolute(config.deny_list), disk, config.deny_check_interval)
        await denied.load()
    with ExitStack() as opened:
        if inside is not None:
            opened.callback(inside.close)
        if config.state_dir is not None:
            state = await disk.run(StateDir, absolute(config.state_dir), descriptors.relieve)
            opened.callback(state.close)
            records, more = await disk.run(state.load_all)
            warnings += more
            for bind in wanted:
                saved[bind.is_ipv6], more = await disk.run(state.load_dht, bind.is_ipv6)
                warnings += more
        pairs = await listen(network, wanted, opened, tcp=config.tcp)
        listeners: list[Listener] = [one for one, _ in pairs if one is not None]
        sockets: list[DatagramSocket] = [socket for _, socket in pairs]
        ports: list[UtpPort] = []
        if config.utp.enabled:
            ports = [
                UtpPort(socket, config.utp, keys.randbytes(SECRET), rng, faults)
                for socket in sockets
            ]
            for port in ports:
                opened.callback(port.close)
            sockets = [port.dht for port in ports]
        early: list[Listener] = []
        if config.tls_listen is not None and config.tcp:
            early = await listen_tcp(network, secured, opened)
        dhts = [
            Dht(
                network,
                socket,
                config.dht,
                rng=rng,
                bootstrap=bootstrap,
                state=saved.get(socket.address.is_ipv6),
                trace=trace,
                faults=faults,
                forbids=filtering.forbids,
                send_to_name=None if proxy is None else proxy.sender_to_names(socket.address),
                trouble=None if proxy is None else proxy.trouble_at(socket.address),
            )
            for socket in sockets
        ]
        context = NodeContext(
            config=config,
            network=network,
            dht=DualStack(dhts),
            disk=disk,
            state=state,
            rng=rng,
            trace=trace,
            client=f"dht_torrent {dht_torrent.__version__}",
            open_storage=open_storage or _file_storage(config, descriptors),
            # Of a map only what was ever written to takes memory, which is seldom all of it.
            buffer=memoryview(mmap.mmap(-1, config.peer.receive_buffer)),
            piece_memory=PieceMemory(config.piece_memory, spare=config.torrent.max_open_bytes),
            send_buffers=BufferPool(SPARE_SEND_BUFFERS),
            descriptors=descriptors,
            metadata=MetadataMemory(config.peer.max_metadata_held),
            limits=limits,
            faults=faults,
            mse=Mse(encryption, keys),
            proxy=proxy,
            filtering=filtering,
            clock=clock,
            inside=inside,
            utp=UtpPorts(ports),
        )
        listens = [socket.address for socket in sockets if not socket.address.is_loopback]
        if config.lsd and listens and not config.is_behind_proxy:
            context.lsd = LocalDiscovery(
                network, config.lsd_limits, listens, rng=rng, faults=faults
            )
        context.port_mapping = port_mapping(
            config,
            way.unfiltered,
            [dht.address for dht in dhts],
            context.tls_addresses,
            rng=rng,
            may_open_sockets=way.is_plain,
        )
        async with trio.open_nursery() as nursery:
            registry = Registry(context, nursery)
            housekeeping = Housekeeping(context, registry.supervisors, speed)
            incoming = Incoming(context, registry, nursery)
            tls = TlsListening(context, incoming, nursery, opened)
            context.open_tls = tls.open
            saving = DhtSaving(context)
            search = SearchService(
                context,
                registry.torrents,
                registry.supervisors,
                nursery.start_soon,
                denied,
                keys=keys,
                clock=clock,
            )
            context.removed = search.removed
            links = LinkService(context, keys=keys, clock=clock)
            feeds = CatalogueFeeds(context, links, search, denied, registry.torrents)
            subscriptions = Subscriptions(context, links, search, feeds, clock=clock)
            node = Node(
                context,
                registry,
                incoming,
                saving,
                search,
                links,
                warnings,
                subscriptions,
                housekeeping,
                Reloading(context, housekeeping, denied),
            )
            if inside is not None:
                nursery.start_soon(faults.keep, "keeping to the interface", inside.run)
            if config.dht.unlimited:
                logger.warning("the DHT's rate limits are lifted, which is for labs only")
            if proxy is not None:
                proxy.on_renewed = context.dht.renew_at
                nursery.start_soon(faults.keep, "the proxy", proxy.run)
            for port in ports:
                nursery.start_soon(faults.keep, "uTP", port.run)
            for dht in dhts:
                await nursery.start(dht.run)
            for listener in (*listeners, *ports):
                nursery.start_soon(faults.keep, "listening", partial(incoming.accept, listener))
            if context.lsd is not None:
                nursery.start_soon(faults.keep, "local discovery", context.lsd.run)
            nursery.start_soon(faults.keep, "saving the DHT's contacts", saving.run)
            nursery.start_soon(
                faults.keep, "the pool of open files", partial(keep_descriptors, context)
            )
            nursery.start_soon(faults.keep, "trimming buffers", partial(trim_buffers, context))
            nursery.start_soon(faults.keep, "the limits", limits.run)
            nursery.start_soon(faults.keep, "keeping house", housekeeping.run)
            renewal = Renewal(context, registry.supervisors, incoming.network_changed)
            nursery.start_soon(faults.keep, "watching the network", renewal.run)
            nursery.start_soon(faults.watch)
            if config.tls_listen is not None:
                tls.accept(early)
            if (mapping := context.port_mapping) is not None:
                mapping.changed = partial(announce_again, registry)
                for dht in dhts:
                    dht.has_router(partial(context.mapped_udp, dht.address))
                nursery.start_soon(faults.keep, "port mapping", mapping.run)
            if isinstance(filtering, FilterFile):
                watch = partial(filtering.watch, partial(enforce, context.dht, registry))
                nursery.start_soon(faults.keep, "the IP filter", watch)
            if config.on_complete:
                commands = OnComplete(
                    config.on_complete,
                    registry.supervisors,
                    at_once=config.on_complete_at_once,
                    timeout=config.on_complete_timeout,
                    clock=clock,
                )
                context.completed = commands.completed
                nursery.start_soon(faults.keep, "the command on completion", commands.run)
            await registry.restore(records)
            await housekeeping.restore()
            nursery.start_soon(faults.keep, "search", search.run)
            with faults.confined("restoring links", ends=links.warnings.append):
                await links.load(node)
            with faults.confined("restoring subscriptions", ends=subscriptions.warnings.append):
                await subscriptions.load()
            if config.watch_folder is not None:
                watched = WatchFolder(
                    absolute(config.watch_folder),
                    node.get,
                    disk,
                    interval=config.watch_interval,
                    clock=clock,
                )
                nursery.start_soon(faults.keep, "the watch folder", watched.run)
            nursery.start_soon(faults.keep, "links", links.run)
            nursery.start_soon(faults.keep, "subscriptions", subscriptions.run)
            nursery.start_soon(faults.keep, "catalogues of ours", feeds.run)
            try:
                yield node
            except Exception as error:  # noqa: BLE001 - raised again below, outside the nursery
                body = error
            finally:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + SAVE_PATIENCE):
                    await saving.save()
                    await housekeeping.save()
                nursery.cancel_scope.cancel()
        if body is not None:
            raise body  # as it was: a nursery would have wrapped it in a group


def announce_again(registry: Registry) -> None:
    """The world reaches us at another port than before."""
    for supervisor in registry.supervisors.values():
        supervisor.core.discovery.hurry()


def enforce(dht: DualStack, registry: Registry) -> None:
    """The IP filter has changed: nothing more of whom it forbids now."""
    for one in dht:
        one.enforce()
    for supervisor in registry.supervisors.values():
        supervisor.core.connections.enforce()


def _file_storage(config: Config, descriptors: Descriptors) -> OpenStorage:
    def open_one(metainfo: Metainfo, path: Path, shared: bool) -> Storage:
        return FileStorage(
            path.parent if shared else path,
            metainfo,
            config.disk,
            content=path if shared else None,
            writable=not shared,
            descriptors=descriptors,
        )

    return open_one
