"""UPnP gateways (IGD), which `miniupnpc` speaks to. That is C that blocks: each question goes to a
thread and has its time; a thread that takes longer is left behind, and until it ends there is no
other. The rule: what comes back is checked here, for it came from the network.

miniupnpc opens sockets of its own, which go where the routes lead: not for a node that has to stay
on one interface, or behind a proxy.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any, Final, TypeVar

import trio

from dht_torrent.config import PortMapConfig
from dht_torrent.engine.portmap.upnp import UpnpError
from dht_torrent.ids import Address
from dht_torrent.portmap.ports import LocalPort

_DESCRIPTION: Final = "dht_torrent"
_MAX_TEXT: Final = 100
"""Characters of an error that are shown."""

Result = TypeVar("Result")


class MiniUpnp:
    """A `UpnpGateway`, by miniupnpc."""

    def __init__(self, config: PortMapConfig, make: Callable[..., Any] | None = None) -> None:
        """`make`: `miniupnpc.UPnP`."""
        self._config = config
        self._make = make if make is not None else _miniupnpc
        self._igd: Any = None
        self._local = ""
        self._one = trio.CapacityLimiter(1)

    async def find(self, local: str) -> None:
        self._igd = None

        def ask() -> tuple[Any, str]:
            delay = int(1000 * self._config.upnp_discovery)
            igd = self._make(multicastif=local, discoverdelay=delay)
            if not igd.discover():
                raise UpnpError("no gateway answers")
            igd.selectigd()
            return igd, str(igd.lanaddr)

        igd, seen = await self._ask(ask, self._config.upnp_discovery)
        if seen != local:
            raise UpnpError("the gateway that answers is not ours")
        self._igd, self._local = igd, local

    async def address(self) -> str:
        igd = self._found()
        public = await self._ask(lambda: str(igd.externalipaddress()))
        if not _is_ipv4(public) or not Address(public, 1).is_usable:
            raise UpnpError(f"the gateway says that its address is {public[:_MAX_TEXT]!r}")
        return public

    async def holder(self, port: LocalPort, external: int) -> Address | None:
        igd = self._found()
        name = port.protocol.name
        found = await self._ask(lambda: igd.getspecificportmapping(external, name))
        try:
            host, internal = str(found[0]), int(found[1])
            return Address(host, internal) if _is_ipv4(host) and 0 < internal < 65536 else None
        except (TypeError, ValueError, LookupError):
            return None

    async def map(self, port: LocalPort, external: int, lifetime: int) -> None:
        igd, local = self._found(), self._local
        name = port.protocol.name
        await self._ask(
            lambda: igd.addportmapping(external, name, local, port.port, _DESCRIPTION, "", lifetime)
        )

    async def unmap(self, port: LocalPort, external: int) -> None:
        igd = self._found()
        await self._ask(lambda: igd.deleteportmapping(external, port.protocol.name))

    def _found(self) -> Any:
        if self._igd is None:
            raise UpnpError("no gateway was found")
        return self._igd

    async def _ask(self, ask: Callable[[], Result], more: float = 0.0) -> Result:
        def inside() -> Result:
            try:
                return ask()
            except Exception as error:
                # Its own are plain ones; texts of the gateway's need not be UTF-8. Others are bugs.
                if type(error) not in (Exception, UnicodeDecodeError):
                    raise
                text = " ".join(str(error).split())[:_MAX_TEXT]
                raise UpnpError(text or type(error).__name__) from None

        with trio.move_on_after(self._config.upnp_patience + more):
            return await trio.to_thread.run_sync(inside, abandon_on_cancel=True, limiter=self._one)
        raise UpnpError("the gateway takes too long")


def _miniupnpc(**options: Any) -> Any:
    try:
        import miniupnpc  # it is needed by nodes that map ports alone
    except ImportError:
        raise UpnpError("miniupnpc is not installed") from None
    return miniupnpc.UPnP(**options)


def _is_ipv4(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 4
    except ValueError:
        return False
