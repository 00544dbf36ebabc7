"""Host names, asked of the system's name servers through a socket of our own network: the system's
resolver goes whichever way it likes. Where only a resolver of this machine is named (127.0.0.53),
names are not resolved: it would ask for us through any interface.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import trio

from dht_torrent.engine.net.protocols import Network
from dht_torrent.ids import Address, HostPort

RESOLV_CONF = Path("/etc/resolv.conf")
PATIENCE: Final = 3.0
"""Seconds for one server to respond (resolv.conf(5): five, but we have others to ask)."""
TRIES: Final = 2
"""Rounds through the servers (resolv.conf(5))."""
MAX_SERVERS: Final = 3
"""resolv.conf(5)."""
MAX_FOUND: Final = 32
"""Addresses taken of one name."""
_MAX_FILE: Final = 64 * 1024
_PORT: Final = 53


async def name_servers() -> list[Address]:
    """Those of the system that can be asked from an interface."""
    return servers_in(await _read())


async def resolve(network: Network, servers: Sequence[Address], point: HostPort) -> list[Address]:
    """Its addresses, those of IPv4 first; empty when there are none, or no server responds."""
    for server in [*servers] * TRIES:
        with suppress(OSError):
            found = await _ask(network, server, point)
            if found is not None:
                return found
    return []


def servers_in(text: str) -> list[Address]:
    """The name servers that can be asked from an interface: not those on this machine, nor those
    that can only be named together with an interface."""
    found: list[Address] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            with suppress(ValueError):
                ip = ipaddress.ip_address(words[1])
                if not (ip.is_loopback or ip.is_unspecified or ip.is_link_local):
                    found.append(Address(str(ip), _PORT))
    return list(dict.fromkeys(found))[:MAX_SERVERS]


async def _read() -> str:
    try:
        async with await trio.open_file(RESOLV_CONF, encoding="utf-8", errors="replace") as file:
            return await file.read(_MAX_FILE)
    except OSError:
        return ""


async def _ask(network: Network, server: Address, point: HostPort) -> list[Address] | None:
    """None: it did not respond."""
    import dns.exception
    import dns.message
    import dns.name
    import dns.rdatatype

    try:
        name = dns.name.from_text(point.host)
    except (dns.exception.DNSException, UnicodeError):
        return []
    # One after the other: each response is told by its query.
    queries = [dns.message.make_query(name, kind) for kind in ("A", "AAAA")]
    answers: dict[int, list[Address]] = {}
    wildcard = Address("::" if server.is_ipv6 else "0.0.0.0", 0)  # noqa: S104 - for any way there
    with closing(await network.open_udp(wildcard)) as socket:
        for query in queries:
            socket.send(query.to_wire(), server)
        with trio.move_on_after(PATIENCE):
            while len(answers) < len(queries):
                for data, source in await socket.receive():
                    if source != server:
                        continue
                    try:
                        response = dns.message.from_wire(data, ignore_trailing=True)
                        query = next(one for one in queries if one.is_response(response))
                        if not isinstance(response, dns.message.QueryMessage):
                            continue
                        found = response.resolve_chaining().answer
                    except (dns.exception.DNSException, StopIteration, ValueError):
                        continue
                    answers[query.id] = [
                        Address(str(ipaddress.ip_address(row.address)), point.port)
                        for row in found or ()
                    ][:MAX_FOUND]
    if not answers:
        return None
    return [address for query in queries for address in answers.get(query.id, [])]
