"""No source of addresses can flush another's: each has its share, and pays for its own excess.

Where to find peers of one torrent: addresses heard of, tried, failed and banned, and which to dial
next.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence

from dht_torrent.config import TorrentConfig
from dht_torrent.ids import Address, Transport
from dht_torrent.torrent.bans import Bans
from dht_torrent.torrent.candidate import PEX, Candidate
from dht_torrent.torrent.outlook import Outlook, Trouble
from dht_torrent.torrent.priority import priority
from dht_torrent.torrent.referrers import Referrers
from dht_torrent.torrent.ways import Ways

TRUST = ("user", "magnet", "resume", "incoming", "lsd", "dht", "pex")
"""Sources by the first word of their name, most trusted first; others come last."""
LASTING = ("user", "magnet", "resume")
"""Sources whose addresses are retried for ever: another source may never name them again."""
SHARE = 0.5
"""Of `max_candidates`, for one source."""
PEX_SHARE = 50
"""Addresses kept from one of them ..."""
ALL_PEX_SHARE = 0.3
"""... and of `max_candidates`, for all of them together."""
PEX_DIALS = 0.5
"""Of `max_dialing`, for what they named: an address without a peer takes 15 s to find out."""
LSD_SHARE = 100
"""Addresses kept from the local network: any host in it can invent all of its addresses."""
USELESS_PAUSE = 15 * 60.0
"""Before a seed dials another seed again: by then it may be a new program. And the longest pause
before an address that was reached, and was of no use."""
MAX_BACK_OFF = 10
"""The pause before an unreachable address doubles with each failure, up to this many times."""


class Candidates:
    """Addresses of one torrent. At most `max_candidates`, in memory and in what `dump` gives."""

    def __init__(self, config: TorrentConfig, rng: random.Random) -> None:
        self._config = config
        self._rng = rng
        self._known: dict[Address, Candidate] = {}
        self._counts: Counter[str] = Counter()
        self.bans = Bans(config)
        # Public places that failed us, and until when they rest.
        self._quiet: dict[str, float] = {}
        self._here: Counter[str] = Counter()  # public places we are connected with
        self._by_priority = True  # the next time, between equals
        self._hearsay = 0  # candidates that only peers named
        self._referrers = Referrers()

    def __len__(self) -> int:
        return len(self._known)

    def source(self, address: Address) -> str | None:
        """Who named the address first; None if it is not known."""
        candidate = self._known.get(address)
        return candidate.source if candidate else None

    def ways(self, address: Address) -> Ways:
        """What is known of how it is reached."""
        candidate = self._known.get(address)
        return candidate.ways if candidate else Ways()

    def answered(self, address: Address, *, encrypted: bool, over: Transport) -> None:
        """It was dialled so, and spoke to us: next time this way is the first."""
        candidate = self._known.get(address)
        if candidate is not None:
            speaks_utp = candidate.ways.speaks_utp or over is Transport.UTP
            candidate.ways = Ways(encrypted, over, speaks_utp)

    def speaks_utp(self, address: Address) -> None:
        """It came by uTP, or somebody says that it speaks it."""
        candidate = self._known.get(address)
        if candidate is not None:
            candidate.ways = candidate.ways._replace(speaks_utp=True)

    def add(self, address: Address, source: str, now: float) -> bool:
        """An address was named. Returns True if it is new and kept.

        A known one that failed too often gets another chance when its pause is over, and one that
        only a peer named is believed more from then on. When the source, or the whole, is full, the
        worst candidate of that, or of the largest source, goes; what peers name pushes out nothing
        but what peers named.
        """
        if not address.is_usable or self.is_banned(address, now):
            return False
        known = self._known.get(address)
        if known is not None:
            if known.claimed:
                known.claimed = False  # another source that names it may mean another peer
            if known.fails >= self._config.max_dial_fails and known.not_before <= now:
                known.fails = self._config.max_dial_fails - 1
            if known.is_hearsay and known.source != source:
                self._believe(known, source, now)
            return False
        if not self._make_room(source):
            return False
        self._keep(Candidate(address, source))
        return True

    def withdraw(self, address: Address, source: str) -> None:
        """Its referrer says that it has gone. It is not dialled for that any more; what was
        reached once, or is named by others, stays."""
        candidate = self._known.get(address)
        if (
            candidate is not None
            and candidate.source == source
            and not candidate.connected
            and not candidate.worked
        ):
            self._forget(candidate)

    def take(self, now: float, ours: Sequence[Address] = ()) -> Address | None:
        """The best address to dial now, marked as being dialled; None if there is none.

        Fewest failures first, then the most trusted source, and of peers that named some the one
        with the least in vain. Between equals decides the priority that they have with the one of
        `ours` in their family (BEP 40), and every second time chance alone: any peer can invent
        addresses of a high priority. Say `connected` or `failed` next. O(candidates).
        """
        best: Candidate | None = None
        best_rank: tuple[int, int, int, float] | None = None
        by_family = {one.is_ipv6: one for one in ours} if self._by_priority else {}
        for candidate, not_before in self._ready():
            if not_before <= now:
                own = by_family.get(candidate.address.is_ipv6) if by_family else None
                chance = self._rng.random()
                order = chance if own is None else 1.0 - _priority(candidate, own) / (1 << 32)
                debt = self._referrers.debt(candidate.source) if candidate.is_hearsay else 0
                rank = (candidate.fails, _rank(candidate.source), debt, order)
                if best_rank is None or rank < best_rank:
                    best, best_rank = candidate, rank
        self._by_priority = not self._by_priority
        if best is None:
            return None
        best.connected = True
        best.tried_at = now
        if best.is_hearsay:
            best.referrer = best.source
            self._referrers.dialled(best.source)
        return best.address

    def next_time(self, now: float) -> float | None:
        """When `take` may have something (`now` or later); None: not before something changes."""
        times = [not_before for _, not_before in self._ready()]
        return max(min(times), now) if times else None

    def claimed(self, address: Address, now: float) -> None:
        """A peer that came to us says that it listens here. Any program of its host can say that,
        so it is worth what a new name is: nothing, if the address is known. While no other source
        names it, it is not dialled; say `released` when the peer leaves."""
        if address not in self._known and self.add(address, "incoming", now):
            self._known[address].claimed = True

    def released(
        self, address: Address, now: float, *, parted: bool = False, useful: bool = False
    ) -> None:
        """The peer that claimed this address left. Changes nothing if another source named it."""
        candidate = self._known.get(address)
        if candidate is not None and candidate.claimed:
            candidate.claimed = False
            candidate.parted = parted
            candidate.useless = 0 if useful else candidate.useless + 1
            candidate.not_before = now + self._pause(candidate, USELESS_PAUSE)
            if parted:
                candidate.not_before = now + USELESS_PAUSE

    def confirmed(self, address: Address, now: float) -> None:
        """The peer that claimed this address does listen there, and is connected: as if we had
        dialled it."""
        candidate = self._known.get(address)
        if candidate is not None and not candidate.connected:
            candidate.claimed = False
            self.connected(address, now)

    def arrived(self, address: Address) -> None:
        """A connection was seen to come from, or to lead to, this address."""
        if not address.is_local:
            self._here[address.place] += 1

    def departed(self, address: Address) -> None:
        """It ended."""
        if not address.is_local:
            self._here[address.place] -= 1
            if self._here[address.place] <= 0:
                del self._here[address.place]

    def connected(self, address: Address, now: float) -> None:
        """We dialled it, and a connection exists. An unknown address is
        ignored."""
        candidate = self._known.get(address)
        if candidate is not None:
            self._settle(candidate, now, worked=True)
            candidate.connected = candidate.worked = True
            candidate.useless = max(0, candidate.useless - candidate.fails)
            candidate.fails = 0
            candidate.trouble = None
            self._quiet.pop(address.place, None)

    def disconnected(self, address: Address, now: float, *, useful: bool = False) -> None:
        """That connection ended; it may be dialled again after a pause, which doubles each time
        unless the connection was `useful`."""
        candidate = self._known.get(address)
        if candidate is not None:
            self._settle(candidate, now)
            candidate.connected = False
            candidate.useless = 0 if useful else candidate.useless + 1
            candidate.not_before = now + self._pause(candidate, USELESS_PAUSE)

    def interrupted(self, address: Address) -> None:
        """It is we who stopped: it is dialled at once when we go on."""
        candidate = self._known.get(address)
        if candidate is not None:
            self._settle(candidate, float("-inf"))
            candidate.connected = False
            candidate.not_before = float("-inf")

    def lost(self, address: Address, now: float) -> None:
        """The connection of a peer that claims to listen there was lost: no use to wait with a dial
        since it is connected."""
        candidate = self._known.get(address)
        if candidate is not None and not candidate.connected and not candidate.fails:
            candidate.not_before = min(candidate.not_before, now)

    def missed(self, address: Address, now: float) -> None:
        """The peer that listens there, or says so, was giving us what we still lack, and left:
        after a short pause it is dialled again."""
        candidate = self._known.get(address)
        if candidate is not None and not candidate.connected and not candidate.fails:
            soon = now + min(self._base(address), self._config.missed_reconnect_delay)
            candidate.not_before = min(candidate.not_before, soon)

    def parted(self, address: Address, now: float) -> None:
        """That connection ended since both sides have everything, or it was the least useful one:
        no use to dial it soon."""
        candidate = self._known.get(address)
        if candidate is not None:
            candidate.connected = False
            candidate.parted = True
            candidate.useless += 1
            candidate.not_before = now + USELESS_PAUSE

    def is_another(self, address: Address, now: float) -> None:
        """It leads to a peer that is connected already: no use to dial it while that stays."""
        candidate = self._known.get(address)
        if candidate is not None:
            self._settle(candidate, now, worked=True)
            candidate.connected = False
            candidate.useless += 1
            candidate.not_before = now + USELESS_PAUSE

    def is_ourselves(self, address: Address) -> None:
        """It leads to us: as if it had never been named. Those who add must know, from now on."""
        candidate = self._known.get(address)
        if candidate is not None:
            self._forget(candidate)

    def outlook(self) -> Outlook:
        """How it went so far, for people."""
        known = self._known.values()
        idle = [c for c in known if not c.connected]
        return Outlook(
            known=len(known),
            dialling=sum(c.connected and c.trouble is None and not c.worked for c in known),
            untried=sum(c.tried_at == float("-inf") and not c.worked for c in idle),
            left=sum(c.worked and c.trouble is None for c in idle),
            troubles=dict(Counter(c.trouble for c in known if c.trouble is not None)),
        )

    def forgive(self, now: float, *, worked: bool = False) -> None:
        """It was our network that failed, not they: those that wait may be dialled now, and those
        that were given up have one more chance. `worked`: only those who were reached once."""
        for candidate in self._known.values():
            if candidate.connected or candidate.parted or (worked and not candidate.worked):
                continue
            candidate.not_before = min(candidate.not_before, now)
            most = 0 if candidate.worked else self._config.max_dial_fails - 1
            candidate.fails = min(candidate.fails, most)
            candidate.useless = min(candidate.useless, 1)
        self._quiet.clear()

    def need_seeds(self, now: float) -> None:
        """We lack something again: those we parted from may be dialled now."""
        for candidate in self._known.values():
            if candidate.parted:
                candidate.parted = False
                candidate.not_before = now

    def failed(
        self,
        address: Address,
        now: float,
        trouble: Trouble = Trouble.UNREACHABLE,
        over: Transport | None = None,
    ) -> None:
        """Dialling failed, or the handshake on a connection `over` this. After `max_dial_fails` of
        them in a row the address is not tried again until a source names it anew, unless its own is
        LASTING."""
        candidate = self._known.get(address)
        if candidate is not None:
            self._settle(candidate, now, worked=False)
            candidate.connected = False
            candidate.fails += 1
            candidate.useless += 1
            candidate.trouble = trouble
            if over is not None:
                candidate.ways = candidate.ways.disappointed(over)
            most = USELESS_PAUSE if trouble.was_reached else self._base(address) * MAX_BACK_OFF
            pause = self._pause(candidate, most)
            if trouble.may_pass and candidate.fails == candidate.useless == 1:
                pause = min(pause, self._config.first_reconnect_delay)
            candidate.not_before = now + pause
            if not address.is_local:
                self._quiet.pop(address.place, None)
                self._quiet[address.place] = candidate.not_before
                if len(self._quiet) > self._config.max_candidates:
                    del self._quiet[next(iter(self._quiet))]

    def held_up(self, address: Address, until: float, trouble: Trouble) -> None:
        """It was not dialled, for a reason that is not its own: it is then, as if nothing had
        happened."""
        candidate = self._known.get(address)
        if candidate is not None:
            self._settle(candidate, float("-inf"))
            candidate.connected = False
            candidate.trouble = trouble
            candidate.not_before = until

    def ban(self, address: Address, now: float) -> None:
        """Keep away from this address for `ban_time`, and be careful with its host."""
        self.bans.convict(address, now)
        self.convicted(address, now)

    def convicted(self, address: Address, now: float) -> None:
        """It was banned: it is not a candidate any more. Others of its host that were turned away
        for it may be dialled as soon as the parole of their host allows."""
        candidate = self._known.get(address)
        if candidate is not None:
            self._forget(candidate)
        place = address.place
        for other in self._known.values():
            if other.address.place == place and not other.fails:
                other.parted = False
                other.not_before = min(other.not_before, now)

    def is_banned(self, address: Address, now: float) -> bool:
        return self.bans.is_banned(address, now)

    def is_resting(self, address: Address, now: float, *, incoming: bool) -> bool:
        """Is it too early to meet a peer of this public host, which sent bad data? Those who come
        to us wait twice as long: the ones we dial come by ports they can be banned at."""
        if address.is_local or not self.bans.on_parole(address, now):
            return False
        extra = self.bans.delay(address) if incoming else 0.0
        return now < self.bans.resumes(address) + extra

    def dump(self, now: float) -> tuple[list[Address], list[Address]]:
        """What to remember over a restart: addresses, those that worked first, and banned ones. Not
        those that only a peer named: what is remembered is tried for ever."""
        most = self._config.max_dial_fails
        known = sorted(
            (c for c in self._known.values() if c.worked or (c.fails < most and not c.is_hearsay)),
            key=lambda c: (not c.worked, c.fails, _rank(c.source)),
        )
        return [candidate.address for candidate in known], self.bans.dump(now)

    def _ready(self) -> Iterator[tuple[Candidate, float]]:
        """Candidates that may be dialled, each with the end of its pause.

        A public host is dialled at one port at a time, and after a failure rests as a whole: a
        source that names thousands of its ports has us dial it once in a while, not flood it. Not
        so where the user named the peer."""
        most = self._config.max_dial_fails
        known = self._known.values()
        hearsay = self._referrers.under_way < max(1, int(self._config.max_dialing * PEX_DIALS))
        busy = {c.address.place for c in known if c.connected and not c.address.is_local}
        busy.update(self._here)
        for candidate in known:
            if candidate.connected or candidate.claimed:
                continue
            rests = float("-inf")
            if not candidate.address.is_local:
                rests = self.bans.resumes(candidate.address)
            if candidate.source in LASTING:
                yield candidate, max(candidate.not_before, rests)
            elif candidate.fails < most and candidate.address.place not in busy:
                if candidate.is_hearsay and not candidate.worked:
                    referrer = self._referrers.not_before(candidate.source) if hearsay else None
                    if referrer is None:
                        continue  # until a dial is over
                    rests = max(rests, referrer)
                quiet = self._quiet.get(candidate.address.place, candidate.not_before)
                yield candidate, max(candidate.not_before, quiet, rests)

    def _pause(self, candidate: Candidate, most: float) -> float:
        base = self._base(candidate.address)
        return max(base, min(base * 2.0 ** min(candidate.useless - 1, 30), most))

    def _base(self, address: Address) -> float:
        config = self._config
        return config.local_reconnect_delay if address.is_local else config.reconnect_delay

    def _share(self, source: str) -> int:
        share = max(1, int(self._config.max_candidates * SHARE))
        if source == "lsd":
            return min(share, LSD_SHARE)
        return min(share, PEX_SHARE) if source.startswith(PEX) else share

    def _make_room(self, source: str) -> bool:
        """For one candidate more of this source. False if there is none."""
        most, hearsay = self._config.max_candidates, source.startswith(PEX)
        if self._counts[source] >= self._share(source):
            return self._forget_one(source)
        if hearsay and self._hearsay >= max(1, int(most * ALL_PEX_SHARE)):
            return self._forget_hearsay()
        if len(self._known) < most or self._forget_hearsay():
            return True
        return not hearsay and self._forget_one(
            max(self._counts, key=lambda name: (not name.startswith(PEX), self._counts[name]))
        )

    def _forget_hearsay(self) -> bool:
        """One of the peer that named most."""
        names = [name for name in self._counts if name.startswith(PEX)]
        return bool(names) and self._forget_one(max(names, key=self._counts.__getitem__))

    def _believe(self, candidate: Candidate, source: str, now: float) -> None:
        """What only a peer named is named by `source` too. It is counted for that from now on, if
        that is worth more: a source cannot make little of an address by naming it first."""
        if source.startswith(PEX):
            better = self._referrers.debt(source) < self._referrers.debt(candidate.source)
        else:
            better = _rank(source) < _rank(candidate.source)
        if better and self._counts[source] < self._share(source):
            self._drop(candidate)
            candidate.source = source
            self._keep(candidate)

    def _settle(self, candidate: Candidate, now: float, *, worked: bool | None = None) -> None:
        """A dial that a referrer led to is over, if there was one."""
        if candidate.referrer is not None:
            if candidate.worked or candidate.fails:
                worked = None  # it has been counted
            rest = self._base(candidate.address)
            self._referrers.settled(candidate.referrer, now, worked, rest)
            candidate.referrer = None

    def _forget_one(self, source: str) -> bool:
        """Most failures first, then never worked, then tried longest ago. False if all are in use.

        Never tried counts as tried just now, or a flood of new names would push out each other
        before any was tried, but every one of them after what failed."""
        idle = [c for c in self._known.values() if c.source == source and not c.connected]
        if not idle:
            return False
        self._forget(
            min(idle, key=lambda c: (-c.fails, c.worked, c.tried_at == float("-inf"), c.tried_at))
        )
        return True

    def _forget(self, candidate: Candidate) -> None:
        self._settle(candidate, float("-inf"))
        self._drop(candidate)

    def _keep(self, candidate: Candidate) -> None:
        self._known[candidate.address] = candidate
        self._counts[candidate.source] += 1
        self._hearsay += candidate.is_hearsay

    def _drop(self, candidate: Candidate) -> None:
        del self._known[candidate.address]
        self._hearsay -= candidate.is_hearsay
        self._counts[candidate.source] -= 1
        if not self._counts[candidate.source]:
            del self._counts[candidate.source]


def _priority(candidate: Candidate, own: Address) -> int:
    """Worked out once: it takes several microseconds, and is asked for at each look at all."""
    known = candidate.priority
    if known is None or known[0] != own:
        known = candidate.priority = own, priority(own, candidate.address)
    return known[1]


def _rank(source: str) -> int:
    word = source.split(" ", 1)[0]
    return TRUST.index(word) if word in TRUST else len(TRUST)
