"""What is asked of a UPnP gateway, and when: it keeps our mappings until it is cancelled or the
gateway does not do it any more.

A gateway that restarts does not say so: it is asked again and again whether it still has them. No
mapping of another machine is taken over, though gateways would allow it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from dht_torrent.config import PortMapConfig
from dht_torrent.ids import Address
from dht_torrent.portmap.ports import LocalPort, MappingBy, PortMap

_CONFLICT: Final = "ConflictInMappingEntry"
"""miniupnpc's text for error 718: another machine has that port."""
_NO_LEASES: Final = ("OnlyPermanentLeasesSupported", "Invalid Args")
"""Of those that know no lifetimes: 725, and what older ones say."""
_FOREVER: Final = 0
_HIGH: Final = range(1024, 65536)


class UpnpError(Exception):
    """The gateway did not do what was asked. The text says why, in a line."""


class UpnpGateway(Protocol):
    """A gateway that speaks UPnP, or the wish for one. All raise UpnpError."""

    async def find(self, local: str) -> None:
        """Find one that connects our address `local`."""

    async def address(self) -> str:
        """Its public address."""

    async def holder(self, port: LocalPort, external: int) -> Address | None:
        """To where this external port is mapped."""

    async def map(self, port: LocalPort, external: int, lifetime: int) -> None:
        """Map it to our port, for so many seconds; 0: for good."""

    async def unmap(self, port: LocalPort, external: int) -> None:
        """Take it away."""


@dataclass(slots=True)
class _Held:
    external: int
    renew_at: float
    expires: float


class UpnpMapping:
    """The mappings of one gateway."""

    def __init__(
        self,
        upnp: UpnpGateway,
        config: PortMapConfig,
        local: str,
        ports: Callable[[], Iterable[LocalPort]],
        tell: Callable[[Mapping[LocalPort, PortMap], Mapping[LocalPort, str]], None],
        *,
        rng: random.Random,
        suggested: Mapping[LocalPort, Address],
    ) -> None:
        """`tell` hears what is mapped, and why the rest is not, whenever that may have changed."""
        self._upnp = upnp
        self._config = config
        self._local = local
        self._ports = ports
        self._tell = tell
        self._rng = rng
        self._suggested = suggested
        self._held: dict[LocalPort, _Held] = {}
        self._troubles: dict[LocalPort, str] = {}
        self._knows_lifetimes = True
        self._public = ""

    async def run(self) -> None:
        """Until cancelled, and then take the mappings away. Raises UpnpError when the gateway does
        not do it."""
        await self._upnp.find(self._local)
        is_new = True
        try:
            while True:
                try:
                    await self._look_after_all()
                    is_new = False
                except UpnpError:
                    if is_new:
                        raise
                    # It may have started again, and be found elsewhere.
                    await self._upnp.find(self._local)
                    is_new = True
                    continue
                await self._rest()
        finally:
            await self._say_goodbye()

    async def _rest(self) -> None:
        """Until it is time to look again, or there are other ports."""
        before = set(self._ports())
        until = trio.current_time() + self._config.check_interval
        while trio.current_time() < until and set(self._ports()) == before:  # noqa: ASYNC110
            await trio.sleep(min(self._config.look_interval, self._config.check_interval))

    async def _look_after_all(self) -> None:
        self._public = await self._upnp.address()
        wanted = list(dict.fromkeys(self._ports()))
        for port in [one for one in self._held if one not in wanted]:
            with suppress(UpnpError):
                await self._upnp.unmap(port, self._held.pop(port).external)
        errors: list[UpnpError] = []
        for port in wanted:
            try:
                await self._look_after(port)
                self._troubles.pop(port, None)
            except UpnpError as error:
                self._held.pop(port, None)
                self._troubles[port] = str(error)
                errors.append(error)
        self._tell(
            {
                port: PortMap(
                    port, Address(self._public, held.external), held.expires, MappingBy.UPNP
                )
                for port, held in self._held.items()
            },
            dict(self._troubles),
        )
        if errors and not self._held:
            raise errors[0]

    async def _look_after(self, port: LocalPort) -> None:
        """It is mapped to us when this returns."""
        held = self._held.get(port)
        now = trio.current_time()
        if held is not None:
            holder = await self._upnp.holder(port, held.external)
            if holder == Address(self._local, port.port):
                if now < held.renew_at:
                    return
            elif holder is not None:
                held = None
        candidates = [held.external] if held is not None else self._candidates(port)
        for external in candidates:
            if held is None:
                holder = await self._upnp.holder(port, external)
                if holder is not None and holder != Address(self._local, port.port):
                    continue
            try:
                lifetime = await self._map(port, external)
            except UpnpError as error:
                if str(error) == _CONFLICT:
                    continue
                raise
            expires = now + lifetime if lifetime else float("inf")
            renew_at = now + lifetime / 2 if lifetime else float("inf")
            self._held[port] = _Held(external, renew_at, expires)
            return
        raise UpnpError("other machines have the external ports")

    async def _map(self, port: LocalPort, external: int) -> int:
        """The lifetime that it got."""
        if self._knows_lifetimes:
            try:
                await self._upnp.map(port, external, self._config.lifetime)
            except UpnpError as error:
                if str(error) not in _NO_LEASES:
                    raise
            else:
                return self._config.lifetime
        await self._upnp.map(port, external, _FOREVER)
        self._knows_lifetimes = False
        return _FOREVER

    def _candidates(self, port: LocalPort) -> list[int]:
        """External ports to try: the one we had, our own, that of the same port's other protocol,
        and any."""
        first = [self._suggested[port].port] if port in self._suggested else []
        first += [held.external for other, held in self._held.items() if other.port == port.port]
        first.append(port.port)
        some = [self._rng.choice(_HIGH) for _ in range(self._config.upnp_tries)]
        return list(dict.fromkeys([*first, *some]))[: self._config.upnp_tries]

    async def _say_goodbye(self) -> None:
        held, self._held = self._held, {}
        with trio.CancelScope(shield=True, deadline=trio.current_time() + self._config.goodbye):
            for port, one in held.items():
                with suppress(UpnpError):
                    await self._upnp.unmap(port, one.external)
