"""The routing table (BEP 5). The rule: a contact is in it only because it answered a query of
ours, at that address, under that id. A referral alone puts no node in.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator

from dht_torrent.config import DhtConfig
from dht_torrent.dht.buckets import HEALTHY_FAILS, NEVER, SEEK_AGAIN, Bucket, Contact
from dht_torrent.dht.krpc import NodeInfo
from dht_torrent.dht.origins import Home, Origin, facts
from dht_torrent.ids import Address, NodeId

SUSPECT_AGE = 300.0
"""Seconds since they answered, after which an id flip next to them makes contacts worth a ping."""


PING_AGAIN = 60.0
"""Seconds between two pings of one doubtful contact."""


class Table:
    """K-buckets for one address family; only the bucket that holds our own id splits."""

    def __init__(
        self, own_id: NodeId, config: DhtConfig, now: float, *, ipv6: bool = False
    ) -> None:
        self.own_id = own_id
        self.ipv6 = ipv6
        self.buckets = [Bucket(0, 2**160 - 1, config.k, now)]
        # The same, by how many bits their ids share with ours; the last is the one with our own.
        self._by_prefix = self.buckets.copy()
        self.additions = 0
        """How many contacts ever came into the live table: grows exactly when it does."""
        self.last_reply = NEVER
        """When a node last answered us."""
        self._config = config
        self._own = int.from_bytes(own_id, "big")
        self._at: dict[Home, Contact] = {}  # everyone in buckets, waiting ones included

    def begin(self, now: float) -> None:
        """Call once, when the clock is known."""
        self.buckets[0].changed = now

    def rename(self, own_id: NodeId, now: float) -> None:
        """Take another id: all contacts find a place around it, those heard from last first."""
        contacts = [contact for bucket in self.buckets for contact in bucket]
        self.own_id = own_id
        self._own = int.from_bytes(own_id, "big")
        self.buckets = [Bucket(0, 2**160 - 1, self._config.k, now)]
        self._by_prefix = self.buckets.copy()
        self._at = {}
        for contact in sorted(contacts, key=lambda contact: -contact.last_heard):
            if contact.id != own_id:
                self._insert(contact, now)

    def __len__(self) -> int:
        return sum(len(bucket) for bucket in self.buckets)

    @property
    def knows_few(self) -> bool:
        """Whether more contacts are worth asking for, wherever they are."""
        return len(self) < 2 * self._config.k

    def __iter__(self) -> Iterator[Contact]:
        """The live contacts, bucket by bucket."""
        for bucket in self.buckets:
            yield from bucket.nodes.values()

    def at(self, address: Address) -> Contact | None:
        """Who has answered us from exactly this address, live or waiting."""
        contact = self._at.get(facts(address).home)
        return contact if contact is not None and contact.address == address else None

    def is_good(self, contact: Contact, now: float) -> bool:
        """BEP 5: answered within 15 minutes, or has ever answered and asked us within 15."""
        recent = now - contact.last_heard <= self._config.good_for
        return recent and contact.fails < self._config.max_fails

    def is_bad(self, contact: Contact) -> bool:
        return contact.fails >= self._config.max_fails

    def counts(self, now: float) -> tuple[int, int, int]:
        """How many live contacts are good, questionable and bad."""
        good = sum(self.is_good(contact, now) for contact in self)
        bad = sum(self.is_bad(contact) for contact in self)
        return good, len(self) - good - bad, bad

    def closest(self, target: bytes, count: int) -> list[Contact]:
        """Up to `count` live contacts nearest to `target`, nearest first; those who answer
        reliably come before those who have stopped to."""
        healthy = self.healthy(target, count)
        if len(healthy) < count:
            number = int.from_bytes(target, "big")
            doubtful = [contact for contact in self if contact.fails >= HEALTHY_FAILS]
            healthy += heapq.nsmallest(
                count - len(healthy), doubtful, key=lambda contact: contact.long_id ^ number
            )
        return healthy

    def healthy(self, target: bytes, count: int) -> list[Contact]:
        """As `closest`, but only contacts fit to be recommended to others."""
        number = int.from_bytes(target, "big")
        distance = number.__xor__
        found: list[Contact] = []
        # Seen from the target, buckets are disjoint intervals of distance, so the nearest bucket
        # holds the nearest contacts, and we may stop at the one that makes the number full.
        for bucket in self._outwards(number):
            fit = bucket.fit()
            found += [fit[one] for one in sorted(fit, key=distance)]
            if len(found) >= count:
                break
        return found[:count]

    def _outwards(self, number: int) -> Iterator[Bucket]:
        """All buckets, the nearest to `number` first."""
        buckets, differs = self._by_prefix, number ^ self._own
        last = len(buckets) - 1
        shared = min(160 - differs.bit_length(), last)
        yield buckets[shared]
        if shared < last:
            # All of these are as near by their first bits. The next one decides on which side.
            farther = []
            for depth in range(shared + 1, last):
                if differs >> 159 - depth & 1:
                    yield buckets[depth]
                else:
                    farther.append(buckets[depth])
            yield buckets[last]
            yield from reversed(farther)
        yield from reversed(buckets[:shared])

    def told(
        self, target: bytes, asker: Address, count: int, origin: Origin | None = None
    ) -> bytes:
        """Compact node info of those nearest to `target` that are fit to be recommended: not of
        `asker` itself, and to those outside nothing of our own network. In no order. `origin`: the
        asker's `facts`, where they are known."""
        _, inside, _, home, _, _, _, _ = origin or facts(asker)
        is_all = len(self.buckets) == 1
        bucket = self.buckets[0] if is_all else self._bucket(int.from_bytes(target, "big"))
        nodes, fit, public = bucket.told()
        # The bucket nearest to a target holds the contacts nearest to it, and the only one all.
        if (fit == count or is_all) and (inside or public):
            contact = self._at.get(home)
            if contact is None or contact.id not in bucket.nodes:
                if fit <= count:
                    return nodes
            elif is_all and fit <= count + 1 and contact.address == asker:
                return _without(nodes, contact)
        contacts = [
            contact
            for contact in self.healthy(target, count + 1)
            if contact.address != asker and (inside or contact.is_public)
        ]
        return b"".join([contact.compact for contact in contacts[:count]])

    def replied(
        self, node_id: NodeId, address: Address, now: float, origin: Origin | None = None
    ) -> list[Contact]:
        """Note that `node_id` answered our query from `address`. Call for no other reason.
        `origin`: the `facts` about the address, where they are known.

        Returns contacts it would be good to ping now: a questionable one in whose place the
        answerer could come, or those a suspicious answer puts in doubt.
        """
        self.last_reply = now
        usable, _, compact, place, _, _, _, _ = origin or facts(address)
        if node_id == self.own_id or not usable or (len(compact) == 18) != self.ipv6:
            return []
        suspects: list[Contact] = []
        known = self._at.get(place)
        if known is not None and known.address == address:
            if known.id == node_id:
                self._refresh(known, now)
                return []
            suspects = self._changed_id(known, now)
            known = None
        number = int.from_bytes(node_id, "big")
        namesake = self._find(node_id, number)
        for rival in (known, namesake):
            if rival is None or self._at.get(rival.home) is not rival:
                continue  # the other one of the two may just have been removed
            if rival.fails == 0:  # first come stays, as long as it answers
                return [*suspects, rival]
            self._remove(rival, now)
        found = suspects + self._insert(Contact(node_id, address, now), now)
        # The newcomer may just have taken the place of one of the suspects.
        return [contact for contact in found if self.at(contact.address) is contact]

    def queried(
        self, node_id: NodeId, address: Address, now: float, origin: Origin | None = None
    ) -> bool:
        """Note that `node_id` queried us. True if it is unknown and worth a ping: if it
        could have a place now, or soon that of a contact that is not good. `origin`: the `facts`
        about the address, where they are known."""
        usable, _, compact, home, _, _, _, _ = origin or facts(address)
        contact = self._at.get(home)
        if contact is not None:
            if contact.address != address:
                return False
            if contact.id == node_id:
                contact.last_queried = now
                return False
            return node_id != self.own_id  # it may have restarted under a new id
        if node_id == self.own_id or not usable or (len(compact) == 18) != self.ipv6:
            return False
        config = self._config
        bucket = self._bucket(int.from_bytes(node_id, "big"))
        if len(bucket.nodes) < config.k or not bucket.is_all_good(now, config):
            return True
        own = bucket is self._by_prefix[-1]
        return own and self._may_split(bucket, Contact(node_id, address, now))

    def asked(self, address: Address, now: float) -> bool:
        """Note that a query goes out to `address`; whether a node there has answered us."""
        contact = self.at(address)
        if contact is None:
            return False
        contact.last_asked = now
        return True

    def failed(self, address: Address, sent_at: float, now: float) -> Contact | None:
        """Note that a query sent at `sent_at` was not answered.

        Returns the contact if another ping should decide soon whether a spare takes its place.
        """
        contact = self.at(address)
        # If no node has answered since we sent it, our own link is the likelier culprit; a dead
        # link must not empty the table. A reply after the query means others are reachable.
        if contact is None or contact.last_replied > sent_at or self.last_reply < sent_at:
            return None
        contact.fails += 1
        bucket = self._bucket(contact.long_id)
        bucket.shift()
        if contact.id not in bucket.nodes:
            self._remove(contact, now)
            return None
        spares = bool(bucket.replacement_nodes)
        if contact.fails >= (self._config.max_fails if spares else self._config.max_fails_alone):
            self._remove(contact, now)
            return None
        return contact if spares else None

    def forget(self, unwanted: Callable[[Address], bool], now: float) -> None:
        """Nothing is to be had of those at these addresses any more, live or waiting."""
        for contact in [one for one in self._at.values() if unwanted(one.address)]:
            self._remove(contact, now)

    def doubtful(self, now: float) -> Contact | None:
        """The live contact most in need of a ping, if any: questionable or failing, and the
        one asked longest ago. Call every few seconds."""
        # Spelled out: an idle node does little else.
        asked, heard = now - PING_AGAIN, now - self._config.good_for
        waiting = [
            contact
            for bucket in self.buckets
            for contact in bucket.nodes.values()
            if contact.last_asked <= asked
            and (contact.fails or (contact.last_replied < heard and contact.last_queried < heard))
        ]
        return min(waiting, key=lambda contact: contact.last_asked, default=None)

    def sparse(self, now: float, rng: random.Random) -> tuple[Contact, NodeId] | None:
        """A query that may fill a bucket with room: ask the contact, which is in it and so knows
        its part of the network best, for nodes near the id. Call every few seconds.

        Kademlia (2.3) looks up an id in every bucket when a node joins; one query and a few pings
        do as much. A node that knows only its own neighbourhood needs more hops, and is cut off
        when that dies."""
        for bucket in self.buckets:
            gap = self._gap(bucket) if now >= bucket.seek_at else None
            if gap is None:
                continue
            able = [contact for contact in bucket.nodes.values() if not contact.fails]
            if not able:
                continue
            grown = len(bucket) > bucket.seek_size
            pause = SEEK_AGAIN if grown else 2 * bucket.seek_pause
            bucket.seek_pause = min(pause, self._config.refresh_interval)
            bucket.seek_at = now + bucket.seek_pause
            bucket.seek_size = len(bucket)
            number = rng.randrange(gap[0], gap[1] + 1)
            return rng.choice(able), NodeId(number.to_bytes(20, "big"))
        return None

    def _gap(self, bucket: Bucket) -> tuple[int, int] | None:
        """The ids that would find a place in a bucket; None if there are none."""
        if len(bucket) < self._config.k:
            return bucket.range
        if bucket is not self._by_prefix[-1] or len(self.buckets) >= self._config.max_buckets:
            return None
        # It splits for a newcomer, but only when there are contacts on either side.
        lower, upper = bucket.range
        middle = (lower + upper) // 2
        above = sum(contact.long_id > middle for contact in bucket.nodes.values())
        return (lower, middle if above == len(bucket) else upper) if above else (middle + 1, upper)

    def has_room(self, info: NodeInfo, now: float) -> bool:
        """Whether a node, if it exists, would come into the table at once."""
        if info.id == self.own_id or info.address.is_ipv6 != self.ipv6:
            return False
        if not info.address.is_usable or facts(info.address).home in self._at:
            return False
        number = int.from_bytes(info.id, "big")
        bucket = self._bucket(number)
        if info.id in bucket.nodes:
            return False
        return len(bucket) < self._config.k or self._may_split(
            bucket, Contact(info.id, info.address, now)
        )

    def refresh_at(self) -> float:
        """When `refresh_targets` may name some; it can only become later."""
        return min(bucket.changed for bucket in self.buckets) + self._config.refresh_interval

    def refresh_targets(self, now: float, rng: random.Random) -> list[NodeId]:
        """A random id in each bucket unchanged for too long (BEP 5): look these up, now.
        Such a bucket is not named again before the interval has passed once more."""
        targets = []
        for bucket in self.buckets:
            if now - bucket.changed >= self._config.refresh_interval:
                bucket.changed = now
                number = rng.randrange(bucket.range[0], bucket.range[1] + 1)
                targets.append(NodeId(number.to_bytes(20, "big")))
        return targets

    def _bucket(self, number: int) -> Bucket:
        """The one whose range `number` is in."""
        shared = 160 - (number ^ self._own).bit_length()
        buckets = self._by_prefix
        return buckets[shared] if shared < len(buckets) else buckets[-1]

    def _find(self, node_id: NodeId, number: int) -> Contact | None:
        bucket = self._bucket(number)
        return bucket.nodes.get(node_id) or bucket.replacement_nodes.get(node_id)

    def _is_own(self, bucket: Bucket) -> bool:
        return bucket.range[0] <= self._own <= bucket.range[1]

    def _refresh(self, contact: Contact, now: float) -> None:
        contact.last_replied = now
        bucket = self._bucket(contact.long_id)
        if contact.fails:
            contact.fails = 0
            bucket.shift()
        if contact.id in bucket.nodes:
            bucket.changed = now
            bucket.nodes.move_to_end(contact.id)  # BEP 5: ordered by when they were last seen
        else:
            bucket.replacement_nodes.move_to_end(contact.id)

    def _changed_id(self, contact: Contact, now: float) -> list[Contact]:
        """Evicts it. A node that changes its id may have company, so old bucket mates are
        returned."""
        bucket = self._bucket(contact.long_id)
        self._remove(contact, now)
        return [c for c in bucket.nodes.values() if now - c.last_replied > SUSPECT_AGE]

    def _remove(self, contact: Contact, now: float) -> None:
        bucket = self._bucket(contact.long_id)
        was_live = contact.id in bucket.nodes
        before = len(bucket)
        bucket.remove_node(contact)  # the newest replacement takes its place
        bucket.shift()
        del self._at[contact.home]
        if was_live:
            bucket.changed = now
            if len(bucket) == before:
                self.additions += 1

    def _insert(self, contact: Contact, now: float) -> list[Contact]:
        while True:
            bucket = self._bucket(contact.long_id)
            if len(bucket) < self._config.k or not self._may_split(bucket, contact):
                break
            self._split(bucket, now)
        if contact.is_public:  # a local one's neighbourhood is its own address, which is new here
            for other in list(bucket):
                if other.neighbourhood == contact.neighbourhood:
                    if other.fails == 0:
                        return [other]
                    self._remove(other, now)
        if len(bucket) >= self._config.k:
            bad = next((c for c in bucket.nodes.values() if self.is_bad(c)), None)
            if bad is None and self._is_secure(contact):
                # BEP 42: whose id fits its IP has the place of one whose id does not.
                bad = next((c for c in bucket.nodes.values() if not self._is_secure(c)), None)
            if bad is not None:
                self._remove(bad, now)
        if len(bucket) < self._config.k:
            bucket.add_node(contact)
            bucket.shift()
            bucket.changed = now
            self.additions += 1
            self._at[contact.home] = contact
            return []
        if len(bucket.replacement_nodes) >= bucket.max_replacement_nodes:
            _, oldest = bucket.replacement_nodes.popitem(last=False)
            del self._at[oldest.home]
        bucket.add_node(contact)
        self._at[contact.home] = contact
        questionable = [c for c in bucket.nodes.values() if not self.is_good(c, now)]
        if not questionable:
            return []
        return [min(questionable, key=lambda c: c.last_heard)]

    def _split(self, own: Bucket, now: float) -> None:
        low, high = own.halves(now)
        index = self.buckets.index(own)
        self.buckets[index : index + 1] = low, high
        self._by_prefix[-1:] = (high, low) if self._own <= low.range[1] else (low, high)
        self.additions += len(low) + len(high) - len(own)
        # Who had to wait for a place because all were on one side may stand on either side now.
        deepest = self._by_prefix[-1]
        if any(self._may_split(deepest, one) for one in deepest.replacement_nodes.values()):
            self._split(deepest, now)

    def _is_secure(self, contact: Contact) -> bool:
        return not self._config.secure_ids or contact.is_compliant

    def _may_split(self, bucket: Bucket, newcomer: Contact) -> bool:
        if not self._is_own(bucket) or len(self.buckets) >= self._config.max_buckets:
            return False
        # BEP 42: only the others are worth a split, since ids made to be near ours cost nothing.
        if not self._is_secure(newcomer):
            return False
        # If all were on one side, splitting would gain nothing: that is how ids crafted to share
        # a long prefix with ours would drive us down, bucket by bucket.
        middle = (bucket.range[0] + bucket.range[1]) // 2
        above = newcomer.long_id > middle
        return any((contact.long_id > middle) != above for contact in bucket.nodes.values())


def _without(nodes: bytes, contact: Contact) -> bytes:
    """The compact node infos but that of the contact."""
    own = contact.compact
    width, at = len(own), nodes.find(own)
    while at > 0 and at % width:  # the same bytes across the border of two others
        at = nodes.find(own, at + 1)
    return nodes if at < 0 else nodes[:at] + nodes[at + width :]
