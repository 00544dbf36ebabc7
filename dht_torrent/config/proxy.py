"""The SOCKS5 proxy through which a node may have to go."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote

from dht_torrent.errors import InputError
from dht_torrent.ids import HostPort, parse_host_port

SOCKS_PORT: Final = 1080
"""Where none is given (IANA)."""
_SCHEMES: Final = (
    "socks5",
    "socks5h",
)  # as in curl; the names of hosts are the proxy's affair anyway


@dataclass(frozen=True, slots=True)
class ProxyServer:
    """A SOCKS5 proxy."""

    address: HostPort
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """Without user name and password: it is shown and logged."""
        return f"socks5://{self.address}"


def parse_proxy(url: str) -> ProxyServer:
    """Reads `socks5://[user:password@]host[:port]`; user name and password may have percent
    escapes. Raises InputError, which does not repeat the password."""
    scheme, mark, rest = url.strip().partition("://")
    if not mark or scheme.lower() not in _SCHEMES:
        known = scheme.lower() if mark and scheme.isalnum() else "without a scheme"
        raise InputError(
            f"a proxy {known} is not supported; expected socks5://[USER:PASSWORD@]HOST:PORT"
        )
    credentials, at, place = rest.rstrip("/").rpartition("@")
    user = password = None
    if at:
        user, colon, password = credentials.partition(":")
        user, password = unquote(user), unquote(password)
        # python-socks encodes them as ASCII; and RFC 1929 has one byte for each length.
        for text in (user, password):
            if not (colon and text.isascii() and 0 < len(text) < 256):
                raise InputError(
                    "the proxy's user name and password are USER:PASSWORD, each of 1 to 255 "
                    "characters of ASCII"
                )
    bracketed = place.endswith("]") if place.startswith("[") else ":" not in place
    found = parse_host_port(f"{place}:{SOCKS_PORT}" if bracketed else place)
    if found.port == 0:
        raise InputError("the proxy's port must be a number from 1 to 65535")
    return ProxyServer(found, user, password)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyConfig:
    """How a node deals with its proxy."""

    connect_timeout: float = 10.0
    """Seconds to connect to the proxy itself, and again to be given a UDP association. Less than
    `PeerConfig.connect_timeout`, so that it is not the peer who is taken to be silent."""
    first_retry: float = 1.0
    """Seconds after an association ended, or could not be had, until the next try; so long the
    proxy is not asked for connections either, when it failed. Doubles, for associations ..."""
    max_retry: float = 60.0
    """... up to this, as the DHT's own bootstrap does; an association that lasted so long begins
    with the shortest again."""
    silence: float = 90.0
    """Seconds after which an association through which nothing comes, although we send, is given
    up for a new one: a proxy that was started again, or a NAT that forgot it, cannot say so."""
    silent_sends: int = 8
    """Datagrams sent in that time without an answer, at least, before it is."""
    held_up: float = 5.0
    """Seconds until a peer is dialled again that was not, as the proxy could not be reached."""
