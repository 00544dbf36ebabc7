"""Keeps our ports mapped at the default gateway: asks it by PCP, then NAT-PMP, then UPnP, stays
with what works, and begins anew when nothing does, or when there is another gateway.

The rule: a gateway can only ever cost us its mappings. Whatever it does, the node runs on, and ends
in time.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Final, NamedTuple

import trio

from dht_torrent.config import PortMapConfig
from dht_torrent.engine.net.gateways import Gateway
from dht_torrent.engine.net.protocols import DatagramSocket, Network
from dht_torrent.engine.portmap.upnp import UpnpError, UpnpGateway, UpnpMapping
from dht_torrent.engine.views import MappedPort, PortMappingStatus
from dht_torrent.engine.wakeup import AutoResetEvent
from dht_torrent.errors import PortMapError
from dht_torrent.ids import Address
from dht_torrent.portmap import natpmp, pcp
from dht_torrent.portmap.client import GatewayClient
from dht_torrent.portmap.ports import IpProtocol, LocalPort, PortMap

logger = logging.getLogger(__name__)

_WILDCARD: Final = "0.0.0.0"  # noqa: S104 - a value to compare with
_GROUP: Final = Address(natpmp.ANNOUNCED_TO, natpmp.ANNOUNCED_PORT)
_SECRET: Final = 32

Listening = Callable[[], Iterable[tuple[IpProtocol, Address]]]
"""Where we listen now."""


class _Route(NamedTuple):
    """The way out."""

    gateway: Gateway
    local: str
    """Our address towards it."""


class PortMapping:
    """The port mappings of one node, of IPv4."""

    def __init__(
        self,
        network: Network,
        config: PortMapConfig,
        listening: Listening,
        *,
        rng: random.Random,
        upnp: UpnpGateway | None,
    ) -> None:
        """`upnp`: None where it must not be used."""
        self._network = network
        self._config = config
        self._listening = listening
        self._rng = rng
        self._upnp = upnp
        self._secret = rng.randbytes(_SECRET)
        self._route: _Route | None = None
        self._mapped: dict[LocalPort, PortMap] = {}
        self._troubles: dict[LocalPort, str] = {}
        self._suggested: dict[LocalPort, Address] = {}
        """What was granted before."""
        self._told: dict[LocalPort, int] = {}
        """External ports that are not as ours."""
        self._trouble: str | None = "looking for a router"
        self._news = AutoResetEvent()
        self._asking = trio.CancelScope()
        self._renewed = False
        self.changed: Callable[[], None] = lambda: None
        """Called when the world reaches a TCP port of ours at another port than before."""

    # -- what users see -------------------------------------------------------------------------

    def external(self, protocol: IpProtocol, port: int) -> Address | None:
        """Where the world reaches this port of ours; None: it is not mapped."""
        found = self._mapped.get(LocalPort(protocol, port))
        return found.external if found is not None and self._lives(found) else None

    def status(self) -> PortMappingStatus:
        """For people."""
        now, route = trio.current_time(), self._route
        mapped = [one for one in self._mapped.values() if self._lives(one)]
        return PortMappingStatus(
            gateway=route.gateway.host if route is not None else None,
            mapped=tuple(
                MappedPort(
                    protocol=one.local.protocol.name.lower(),
                    port=one.local.port,
                    external=str(one.external),
                    by=one.by.value,
                    expires_in=one.expires - now if one.expires < float("inf") else None,
                )
                for one in mapped
            ),
            trouble=self._trouble if not mapped else None,
            refused={str(port): why for port, why in self._troubles.items()},
        )

    def _lives(self, mapped: PortMap) -> bool:
        return trio.current_time() < mapped.expires

    # -- the service ----------------------------------------------------------------------------

    def renew(self) -> None:
        """The network is back, or another one: ask for our mappings again, now."""
        self._renewed = True
        self._asking.cancel()

    async def run(self) -> None:
        """A service. When it is cancelled, it takes the mappings away."""
        pause = self._config.retry
        while True:
            self._renewed = False
            self._route = route = self._find_route()
            if route is None:
                self._trouble = "no router was found: there is no default route of IPv4"
                await trio.sleep(self._config.look_interval)
                continue
            async with trio.open_nursery() as nursery:
                self._asking = nursery.cancel_scope
                nursery.start_soon(self._watch, route, nursery.cancel_scope)
                if await self._map_through(route):
                    pause = self._config.retry
                await trio.sleep(pause)
                pause = min(2 * pause, self._config.max_retry)
                nursery.cancel_scope.cancel()
            if self._renewed or self._find_route() != route:
                pause = self._config.retry

    def _find_route(self) -> _Route | None:
        """The first way out on which we can be reached."""
        hosts = [address.host for _, address in self._listening() if not address.is_ipv6]
        interfaces = [one for one in self._network.interfaces() if not one.ipv6]
        for gateway in self._network.gateways():
            for interface in interfaces:
                if interface.name != gateway.interface:
                    continue
                for network in interface.networks:
                    if interface.reaches(gateway.host) and (
                        str(network.ip) in hosts or _WILDCARD in hosts
                    ):
                        return _Route(gateway, str(network.ip))
        return None

    async def _watch(self, route: _Route, scope: trio.CancelScope) -> None:
        while self._find_route() == route:  # noqa: ASYNC110 - the system does not tell
            await trio.sleep(self._config.look_interval)
        scope.cancel()

    def _ports(self, local: str) -> list[LocalPort]:
        """Those that who comes to our address `local` can reach."""
        return [
            LocalPort(protocol, address.port)
            for protocol, address in self._listening()
            if address.host in (local, _WILDCARD)
        ]

    async def _map_through(self, route: _Route) -> bool:
        """Do what works until it does not. False: nothing did."""
        self._trouble = f"asking the router {route.gateway.host}"
        worked, troubles = False, []
        try:
            try:
                client = self._client(route)
                worked = await self._speak(client, route)
                troubles.append(client.failed or "")
            except OSError as error:
                troubles.append(f"no socket to ask it: {error.strerror or error}")
            if self._upnp is None:
                troubles.append("UPnP is not used here")
            else:
                try:
                    await self._by_upnp(self._upnp, route)
                except UpnpError as error:
                    worked = worked or bool(self._mapped)
                    troubles.append(f"UPnP: {error}")
        finally:
            self._mapped, self._troubles = {}, {}
        self._trouble = f"the router {route.gateway.host} maps no port: {'; '.join(troubles)}"
        logger.info("%s", self._trouble)
        return worked

    def _tell(self, mapped: Mapping[LocalPort, PortMap], troubles: Mapping[LocalPort, str]) -> None:
        for port, one in mapped.items():
            before = self._mapped.get(port)
            if before is None or before.external != one.external:
                logger.info("%s is mapped to %s by %s", port, one.external, one.by)
            self._suggested[port] = one.external
        self._mapped, self._troubles = dict(mapped), dict(troubles)
        told = {
            port: one.external.port
            for port, one in mapped.items()
            if port.protocol is IpProtocol.TCP and one.external.port != port.port
        }
        if told != self._told:
            self._told = told
            self.changed()

    # -- PCP and NAT-PMP ------------------------------------------------------------------------

    def _client(self, route: _Route) -> GatewayClient:
        return GatewayClient(
            self._config,
            route.gateway.host,
            route.local,
            self._ports(route.local),
            secret=self._secret,
            rng=self._rng,
            now=trio.current_time(),
            suggested=self._suggested,
        )

    async def _speak(self, client: GatewayClient, route: _Route) -> bool:
        """Until it fails. Whether anything was mapped. Raises OSError."""
        to, worked = Address(route.gateway.host, pcp.PORT), False
        with closing(await self._network.open_udp(Address(route.local, 0))) as socket:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(socket.serve, partial(self._take, client))
                    nursery.start_soon(self._hear_group, client, route)
                    while client.failed is None:
                        now = trio.current_time()
                        client.set_ports(self._ports(route.local), now)
                        for data in client.take(now):
                            socket.send(data, to)
                        self._tell({one.local: one for one in client.mappings}, client.troubles)
                        worked = worked or bool(self._mapped)
                        with trio.CancelScope() as patience:
                            patience.deadline = min(
                                client.next_time(), now + self._config.look_interval
                            )
                            await self._news.wait()
                    nursery.cancel_scope.cancel()
            finally:
                self._mapped = {}
                await self._say_goodbye(client, socket, to)
        return worked

    async def _hear_group(self, client: GatewayClient, route: _Route) -> None:
        """Gateways tell a group when they start."""
        for interface in self._network.interfaces():
            if interface.name == route.gateway.interface and not interface.ipv6:
                try:
                    socket = await self._network.open_multicast(_GROUP, interface)
                except OSError as error:
                    logger.debug("gateways cannot tell us that they start: %s", error)
                    return
                with closing(socket):
                    await socket.serve(partial(self._take, client))

    def _take(self, client: GatewayClient, datagrams: Sequence[tuple[bytes, Address]]) -> None:
        now = trio.current_time()
        for data, source in datagrams[: self._config.max_datagrams]:
            try:
                client.datagram(data, source, now)
            except PortMapError as error:
                logger.debug("a datagram to the port mapping: %s", error)
        self._news.set()

    async def _say_goodbye(
        self, client: GatewayClient, socket: DatagramSocket, to: Address
    ) -> None:
        """Take the mappings away, if the gateway is there to hear it."""
        client.close(trio.current_time())
        with trio.CancelScope(shield=True) as patience:
            patience.deadline = trio.current_time() + self._config.goodbye
            async with trio.open_nursery() as nursery:
                nursery.start_soon(socket.serve, partial(self._take, client))
                while not client.is_closed:
                    sent = [socket.send(data, to) for data in client.take(trio.current_time())]
                    if not all(sent):
                        break
                    with trio.CancelScope(deadline=client.next_time()):
                        await self._news.wait()
                nursery.cancel_scope.cancel()

    # -- UPnP -----------------------------------------------------------------------------------

    async def _by_upnp(self, upnp: UpnpGateway, route: _Route) -> None:
        """Until it does not work. Raises UpnpError."""
        mapping = UpnpMapping(
            upnp,
            self._config,
            route.local,
            lambda: self._ports(route.local),
            self._tell,
            rng=self._rng,
            suggested=self._suggested,
        )
        await mapping.run()
