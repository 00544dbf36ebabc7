"""What a node shows of itself as a whole, put together from its parts."""

from __future__ import annotations

from collections import Counter

import trio

import dht_torrent
from dht_torrent.engine.incoming import Incoming
from dht_torrent.engine.reachability import punching_trouble, reachability
from dht_torrent.engine.registry import Registry
from dht_torrent.engine.search.views import SearchStatus
from dht_torrent.engine.torrent.context import NodeContext
from dht_torrent.engine.views import HolepunchStatus, NodeStatus, counted


def node_status(
    context: NodeContext,
    registry: Registry,
    incoming: Incoming,
    *,
    search: SearchStatus | None,
    warnings: tuple[str, ...],
    uptime: float,
    alternative: bool,
) -> NodeStatus:
    """A snapshot for people."""
    now = trio.current_time()
    supervisors = registry.supervisors.values()
    peers = [peer for one in supervisors for peer in one.core.connections.peers.values()]
    by_source = Counter(peer.source for peer in peers)
    encrypted = Counter(
        peer.stream.encryption.value for peer in peers if peer.stream.encryption is not None
    )
    last = context.dht.last_announce
    listen, *listen6 = [dht.address for dht in context.dht]
    dht, *dht6 = context.dht.status()
    mapping = context.port_mapping.status() if context.port_mapping is not None else None
    addresses = [dht.address for dht in context.dht]
    reachable, why = reachability(
        incoming.heard_from_outside,
        addresses,
        mapping,
        is_behind_proxy=context.config.is_behind_proxy,
        is_away=context.inside is not None and context.inside.binding is None,
    )
    return NodeStatus(
        id=context.dht.node_id.hex(),
        listen=str(listen),
        version=dht_torrent.__version__,
        uptime=uptime,
        dht=dht,
        torrents=len(supervisors),
        connections=len(peers),
        peers_by_source=dict(by_source),
        reachable=reachable,
        reachable_why=why,
        port_mapping=mapping,
        down_rate=sum(peer.down.value(now) for peer in peers),
        up_rate=sum(peer.up.value(now) for peer in peers),
        last_announce=now - last if last is not None else None,
        warnings=(*warnings, *_no_network(context)),
        limit_up=context.limits.up.rate,
        limit_down=context.limits.down.rate,
        alternative=alternative,
        listen6=str(listen6[0]) if listen6 else None,
        dht6=dht6[0] if dht6 else None,
        encryption=context.config.encryption,
        peers_by_encryption=dict(encrypted),
        peers_by_transport=dict(Counter(peer.stream.transport.value for peer in peers)),
        faults=context.faults.count,
        last_fault=context.faults.last,
        tls_listen=tuple(map(str, context.tls_addresses)),
        reused=sum(one.core.totals.reused for one in supervisors),
        search=search,
        proxy=context.proxy.status() if context.proxy is not None else None,
        ip_filter=context.filtering.status(),
        holepunch=_holepunch(context, is_symmetric=dht.symmetric_nat),
        interface=context.inside.text() if context.inside is not None else None,
    )


def _holepunch(context: NodeContext, *, is_symmetric: bool | None) -> HolepunchStatus | None:
    config, counts = context.config, context.punches
    if not (config.holepunch.enabled and config.utp.enabled):
        return None
    trouble = punching_trouble(counts.tried, counts.reached, is_symmetric=is_symmetric)
    return HolepunchStatus(counts.tried, counts.reached, counts.introduced, trouble)


def _no_network(context: NodeContext) -> list[str]:
    if context.deaf_since is None:
        return []
    minutes = max(1, round((trio.current_time() - context.deaf_since) / 60))
    return [f"no DHT node has responded for {counted(minutes, 'minute')}: is there a network?"]
