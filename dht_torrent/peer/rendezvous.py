"""Who is asked for an introduction, who is introduced, and to whom we send for a relay's word (BEP
55).

The rule: whatever peers tell, each of them, each target and all together have us send only so much;
and who relays for us is a peer that has named the target to us itself.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from typing import Final, Generic, NamedTuple, TypeVar

from dht_torrent.config.holepunch import HolepunchConfig
from dht_torrent.ids import Address, PeerKey
from dht_torrent.peer.holepunch import HolepunchFailure

KeyT = TypeVar("KeyT", bound=Hashable)

_TRACKED_PEERS: Final = 1000
"""Peers whose allowance is remembered: more than are connected."""


class Allowances(Generic[KeyT]):
    """So many at once, and one more each `interval` seconds, for each of `most` names; the one that
    was heard of longest ago is forgotten."""

    def __init__(self, burst: int, interval: float, most: int) -> None:
        self._saved = (burst - 1) * interval
        self._interval = interval
        self._most = most
        self._full_at: OrderedDict[KeyT, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, name: KeyT, now: float) -> bool:
        """Count one of this name; False, and nothing is counted, when it is too much."""
        full_at = max(self._full_at.get(name, now), now)
        if full_at - now > self._saved:
            return False
        self._full_at[name] = full_at + self._interval
        self._full_at.move_to_end(name)
        if len(self._full_at) > self._most:
            self._full_at.popitem(last=False)
        return True


class Introducers:
    """The peers of one torrent that relay, and whom each can introduce us to, as it says."""

    def __init__(self, config: HolepunchConfig) -> None:
        self._most = config.remembered
        self._named: dict[PeerKey, OrderedDict[Address, None]] = {}

    def speaks(self, peer: PeerKey) -> None:
        """It relays. Nobody else is heard."""
        self._named.setdefault(peer, OrderedDict())

    def named(self, peer: PeerKey, addresses: Iterable[Address]) -> None:
        """It is connected with peers at these addresses, which speak ut_holepunch as well."""
        known = self._named.get(peer)
        if known is None:
            return
        for address in addresses:
            known[address] = None
            known.move_to_end(address)
            if len(known) > self._most:
                known.popitem(last=False)

    def withdrew(self, peer: PeerKey, addresses: Iterable[Address]) -> None:
        """It is connected with them no longer."""
        known = self._named.get(peer)
        if known is not None:
            for address in addresses:
                known.pop(address, None)

    def gone(self, peer: PeerKey) -> None:
        """Its connection has ended."""
        self._named.pop(peer, None)

    def of(self, address: Address) -> list[PeerKey]:
        """Who can introduce us to this address."""
        return [peer for peer, known in self._named.items() if address in known]


class Party(NamedTuple):
    """One of two that are to be introduced to each other, as the relay knows it."""

    key: PeerKey
    address: Address | None
    """Where it sends and receives uTP, as far as is known."""
    speaks: bool
    """Whether it speaks ut_holepunch."""


class Relaying:
    """What we do as a relay, in one torrent."""

    def __init__(self, config: HolepunchConfig) -> None:
        self._askers = Allowances[PeerKey](
            config.relay_burst, config.relay_interval, _TRACKED_PEERS
        )
        self._targets = Allowances[PeerKey](
            config.target_burst, config.target_interval, _TRACKED_PEERS
        )
        self._pairs = Allowances[frozenset[PeerKey]](1, config.pair_interval, _TRACKED_PEERS)

    def hears(self, asker: PeerKey, now: float) -> bool:
        """It wants to be introduced. False: it wants that too often, and is not heard."""
        return self._askers.take(asker, now)

    def introduces(self, asker: PeerKey, target: PeerKey, now: float) -> bool:
        """Whether these two may be told of each other again."""
        return self._pairs.take(frozenset((asker, target)), now) and self._targets.take(target, now)


def refusal(
    asker: Party, wanted: Address, target: Party | None, *, is_ours: bool
) -> HolepunchFailure:
    """Why `asker` is not introduced to the peer at `wanted`; NONE if it is. `target`: who is
    connected from there; `is_ours`: the address is the relay's own."""
    if not wanted.is_usable:
        return HolepunchFailure.NO_SUCH_PEER
    if is_ours or (target is not None and target.key == asker.key):
        return HolepunchFailure.NO_SELF
    if target is None:
        return HolepunchFailure.NOT_CONNECTED
    here, there = asker.address, target.address
    if not (asker.speaks and target.speaks) or here is None or there is None:
        return HolepunchFailure.NO_SUPPORT
    # A host of our own network is none of a stranger's business.
    if here.is_ipv6 != there.is_ipv6 or not (here.may_name(there) and there.may_name(here)):
        return HolepunchFailure.NOT_CONNECTED
    return HolepunchFailure.NONE


class TrustInRelays:
    """To whom a whole node sends for the word of relays, which may name anybody."""

    def __init__(self, config: HolepunchConfig) -> None:
        self._relays = Allowances[PeerKey](
            config.relay_burst, config.relay_interval, _TRACKED_PEERS
        )
        self._hosts = Allowances[str](config.host_burst, config.host_interval, config.tracked_hosts)
        self._node = Allowances[None](config.node_burst, config.node_interval, 1)

    def allows(self, relay: PeerKey, speaker: Address, target: Address, now: float) -> bool:
        """Whether to send to `target`, as a relay says that is at `speaker`; it is counted."""
        return (
            speaker.may_name(target)
            and self._relays.take(relay, now)
            and self._hosts.take(target.place, now)
            and self._node.take(None, now)
        )
