"""How a gateway is asked to let the world in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PortMapConfig:
    """PCP, NAT-PMP and UPnP. Times are seconds."""

    lifetime: int = 7200
    """How long a mapping is asked for (RFC 6886 section 3.3 recommends it)."""
    max_lifetime: int = 86_400
    """A mapping is not believed to last longer than this without being renewed (RFC 6887 section
    11.2: a client should not ask for more)."""
    min_renewal: float = 4.0
    """The least pause between two requests for one mapping once there was an answer, however short
    its lifetime is (RFC 6887 section 11.2.1)."""
    pcp_first_wait: float = 3.0
    """Before a PCP request is sent again; doubles (RFC 6887 section 8.1.1: IRT) ..."""
    pcp_most_wait: float = 1024.0
    """... up to this (MRT)."""
    pcp_patience: float = 5.0
    """How long a gateway that has never answered is asked by PCP before NAT-PMP is tried: it is a
    hop away, and answers in milliseconds. All is tried again later."""
    natpmp_first_wait: float = 0.25
    """Before a NAT-PMP request is sent again; doubles (RFC 6886 section 3.1) ..."""
    natpmp_most_wait: float = 64.0
    """... up to this."""
    natpmp_patience: float = 4.0
    """How long a gateway that has never answered is asked by NAT-PMP before UPnP is tried."""
    check_interval: float = 60.0
    """Pause between two questions whether a gateway still knows its mappings. One that restarts
    may also say so itself."""
    max_silence: float = 300.0
    """A gateway that has not answered for so long is another one, or none: all is tried anew."""
    recovery_interval: float = 30.0
    """The least pause between two times that all mappings are made again because the gateway seems
    to have restarted."""
    recovery_spread: float = 5.0
    """Within this time, at random, when the gateway told everybody (RFC 6887 section 14.1.3)."""
    min_refusal: float = 30.0
    """A refused mapping is not asked for again any sooner, whatever the gateway says ..."""
    max_refusal: float = 1800.0
    """... and no later (RFC 6887 section 7.4: 30 minutes for a lasting error)."""
    max_datagrams: int = 64
    """Datagrams heard at once; others are dropped. A gateway sends a few a minute."""
    look_interval: float = 5.0
    """Pause between two looks at which gateway there is and which ports we listen on."""
    retry: float = 60.0
    """Pause after nothing has worked; doubles ..."""
    max_retry: float = 3600.0
    """... up to this."""
    upnp_discovery: float = 2.0
    """How long UPnP devices have to answer (libtorrent and Transmission: 2)."""
    upnp_patience: float = 10.0
    """What one question to a UPnP gateway may take. A thread that takes longer is left behind."""
    upnp_tries: int = 5
    """External ports that are tried when others have the first ones."""
    goodbye: float = 2.0
    """What taking the mappings away may delay the end of a node by."""
