"""Peer exchange (BEP 11): peers tell each other whom they are connected with.

The rule: we tell only of those we reached ourselves, and only what is new to the listener; what we
hear is somebody's word, and is bounded in how much and how often.

A message holds addresses in four lists, IPv4 and IPv6 apart, and a byte of flags for each of those
that were added. An empty message is never sent: uTorrent takes it for a fault.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntFlag
from itertools import islice
from typing import ClassVar

from dht_torrent import bencode
from dht_torrent.errors import BencodeError, PeerProtocolError
from dht_torrent.ids import Address, address_from_compact
from dht_torrent.peer.extension import ExtensionMessage

UT_PEX = "ut_pex"

MAX_ENTRIES = 50
"""Addresses added, and as many dropped, of both families together, in one message (BEP 11). What is
told beyond that is not read."""
INTERVAL = 60.0
"""Seconds between two messages, at least (BEP 11)."""
EARLY = 10.0
"""Seconds a message may come sooner than that and still be heard: the one before was late."""
BURST = 3
"""Messages that may come at once, as after a stall of the connection; of these one is heard. With
one more their sender keeps to no interval."""


class PexFlags(IntFlag):
    """What the sender of a message knows of a peer. Other bits may be set, and mean nothing."""

    PREFERS_ENCRYPTION = 0x01
    SEED = 0x02
    """Or it wants nothing more (upload_only)."""
    UTP = 0x04
    HOLEPUNCH = 0x08
    REACHABLE = 0x10
    """The sender dialled it."""


@dataclass(frozen=True, slots=True)
class PexMessage(ExtensionMessage):
    """Whom its sender is connected with since its last message, and with whom no longer.

    A decoded one has at most MAX_ENTRIES of each, no address twice, and none nobody can listen on.
    """

    extension: ClassVar[str] = UT_PEX
    added: Mapping[Address, PexFlags] = field(default_factory=dict)
    dropped: tuple[Address, ...] = ()

    def payload(self) -> bytes:
        added = {False: b"", True: b""}
        flags = {False: b"", True: b""}
        dropped = {False: b"", True: b""}
        for address, flag in self.added.items():
            added[address.is_ipv6] += address.compact()
            flags[address.is_ipv6] += bytes([flag])
        for address in self.dropped:
            dropped[address.is_ipv6] += address.compact()
        entries: dict[bytes, bencode.Value] = {
            b"added": added[False],
            b"added.f": flags[False],
            b"dropped": dropped[False],
        }
        # A family without news is left out, save that clients look for "added".
        if added[True]:
            entries |= {b"added6": added[True], b"added6.f": flags[True]}
        if dropped[True]:
            entries[b"dropped6"] = dropped[True]
        return bencode.encode(entries)


def decode_pex(payload: bytes, max_metadata: int) -> PexMessage:
    """Reads the payload of a ut_pex message. Raises PeerProtocolError for a list that is cut
    within an address, or whose flags are not one for each."""
    try:
        # Six lists are all there is; a few keys more may come one day.
        entries = bencode.decode_tolerant(payload, max_depth=3, max_tokens=100)
    except BencodeError as error:
        raise PeerProtocolError(f"malformed ut_pex message: {error}") from error
    if not isinstance(entries, dict):
        raise PeerProtocolError("a ut_pex message is not a dict")
    four, six = _addresses(entries, b"added", 6), _addresses(entries, b"added6", 18)
    of_six = _share(len(six), len(four))
    added: dict[Address, PexFlags] = {}
    for raw, flags in (
        *islice(_flagged(entries, b"added.f", four), MAX_ENTRIES - of_six),
        *islice(_flagged(entries, b"added6.f", six), of_six),
    ):
        address = address_from_compact(raw)
        if address.is_usable:
            added.setdefault(address, flags)
    four, six = _addresses(entries, b"dropped", 6), _addresses(entries, b"dropped6", 18)
    of_six = _share(len(six), len(four))
    gone = map(address_from_compact, [*four[: MAX_ENTRIES - of_six], *six[:of_six]])
    dropped = {address: None for address in gone if address.is_usable and address not in added}
    return PexMessage(added, tuple(dropped))


def _share(six: int, four: int) -> int:
    """How many of so many IPv6 addresses are read: one family does not push the other out."""
    return min(six, max(MAX_ENTRIES // 2, MAX_ENTRIES - four))


def _addresses(entries: Mapping[bytes, bencode.Value], key: bytes, size: int) -> list[bytes]:
    raw = entries.get(key, b"")
    if not isinstance(raw, bytes) or len(raw) % size:
        raise PeerProtocolError(f"{key.decode()} of a ut_pex message does not hold addresses")
    return [raw[at : at + size] for at in range(0, len(raw), size)]


def _flagged(
    entries: Mapping[bytes, bencode.Value], key: bytes, addresses: Sequence[bytes]
) -> Iterator[tuple[bytes, PexFlags]]:
    """Each with its flags, of which there are none if the sender leaves all of them out."""
    raw = entries.get(key, bytes(len(addresses)))
    if not isinstance(raw, bytes) or len(raw) != len(addresses):
        raise PeerProtocolError(f"{key.decode()} of a ut_pex message is not a byte for each peer")
    return zip(addresses, map(PexFlags, raw), strict=True)


class PexHearing:
    """What one peer tells us of others."""

    def __init__(self, speaker: Address) -> None:
        """`speaker`: where its connection comes from or leads to."""
        self._speaker = speaker
        self._due = float("-inf")
        """When the next message would come if all kept to the interval."""
        self._heard_at = float("-inf")

    def hear(self, message: PexMessage, now: float) -> PexMessage | None:
        """What of a message is to be believed so far that one may try: not a host in our own
        network that a stranger names. None: it came too soon, and is not heard. Raises
        PeerProtocolError if its sender goes on sending more than one in a minute."""
        self._due = max(self._due, now) + INTERVAL
        if self._due - now > BURST * INTERVAL:
            raise PeerProtocolError("exchanges peers too often")
        if now - self._heard_at < INTERVAL - EARLY:
            return None
        self._heard_at = now
        may_name = self._speaker.may_name
        added = {address: flags for address, flags in message.added.items() if may_name(address)}
        return PexMessage(added, tuple(filter(may_name, message.dropped)))


class PexTelling:
    """What one peer was told of others."""

    def __init__(self, listener: Address) -> None:
        """`listener`: where its connection comes from or leads to."""
        self._listener = listener
        self._told: dict[Address, None] = {}
        self._due = float("-inf")

    def is_due(self, now: float) -> bool:
        """May it be told something now?"""
        return now >= self._due

    def next(
        self, connected: Mapping[Address, PexFlags], now: float, *, but: Collection[Address] = ()
    ) -> PexMessage | None:
        """What to send now; None if it is not time, or there is no news.

        `connected`: those we reached and are connected with; `but`: the listener itself. A host
        of our own network is none of a stranger's business."""
        if not self.is_due(now):
            return None
        may_name = self._listener.may_name
        new = (
            address
            for address in connected
            if address not in self._told and address not in but and may_name(address)
        )
        added = {address: connected[address] for address in islice(new, MAX_ENTRIES)}
        gone = (address for address in self._told if address not in connected)
        dropped = tuple(islice(gone, MAX_ENTRIES))
        if not added and not dropped:
            return None
        self._told.update(dict.fromkeys(added))
        for address in dropped:
            del self._told[address]
        self._due = now + INTERVAL
        return PexMessage(added, dropped)
