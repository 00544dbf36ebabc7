"""What is said to one gateway, by PCP or by NAT-PMP where it does not speak that.

Every mapping is asked for until it is granted, renewed at half of its lifetime, and asked for again
when the gateway says, or its count of seconds shows, that it has forgotten. The rule: what the
gateway says is believed only if it comes from the gateway, is an answer to us (by PCP's nonce, or
to what we asked by NAT-PMP), and makes sense; however it answers, it is sent to at a bounded rate.

`take` gives what is to be sent now, `next_time` when to ask again, `datagram` takes what came.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from dht_torrent.config.portmap import PortMapConfig
from dht_torrent.errors import PortMapError
from dht_torrent.ids import Address
from dht_torrent.portmap import natpmp, pcp
from dht_torrent.portmap.epoch import Epoch
from dht_torrent.portmap.natpmp import NatPmpAnswer, NatPmpResult
from dht_torrent.portmap.pcp import PcpAnswer, PcpMapping, PcpResult
from dht_torrent.portmap.ports import LocalPort, MappingBy, PortMap

_JITTER: Final = 0.1
"""RFC 6887 section 8.1.1: RAND."""
_ANY: Final = "0.0.0.0"  # noqa: S104 - a value of the protocol: no address in particular
_NEVER: Final = math.inf
_MAX_CHANGES: Final = 4
"""Times that a gateway may change the protocol it speaks."""
NO_ANSWER: Final = "no answer"


@dataclass(slots=True)
class _Question:
    """Something that is asked until it is answered."""

    due: float
    wait: float | None = None
    """Since it was sent last; None: it is not under way."""

    def sent(self, now: float, first: float, most: float, rand: float) -> None:
        """Sent just now: due again after twice the last wait."""
        spread = 1 + _JITTER * (2 * rand - 1)
        self.wait = spread * (first if self.wait is None else min(2 * self.wait, most))
        self.due = now + self.wait

    def answered(self, due: float) -> None:
        """There is an answer; it is asked again then."""
        self.wait, self.due = None, due


@dataclass(slots=True)
class _Lease:
    """One port, and what the gateway has granted for it."""

    nonce: bytes
    suggested: Address
    question: _Question
    held: PortMap | None = None
    trouble: str | None = None
    """Why it was refused."""
    was_asked: bool = False
    """The gateway may know of it."""
    by: set[MappingBy] = field(default_factory=set)


class GatewayClient:
    """The conversation with one gateway."""

    def __init__(
        self,
        config: PortMapConfig,
        gateway: str,
        local: str,
        ports: Iterable[LocalPort],
        *,
        secret: bytes,
        rng: random.Random,
        now: float,
        suggested: Mapping[LocalPort, Address] | None = None,
    ) -> None:
        """`local`: our own address towards the gateway. `secret`: what nonces are made of; the same
        as before lets us renew what we had mapped there. `suggested`: what to ask for."""
        self.by = MappingBy.PCP
        self.failed: str | None = None
        """Why neither way works; set once and for all."""
        self._config = config
        self._gateway = gateway
        self._local = local
        self._secret = secret
        self._rng = rng
        self._leases: dict[LocalPort, _Lease] = {}
        self._suggested = dict(suggested or {})
        self._check = _Question(_NEVER)  # a mapping is asked for first
        self._epoch = Epoch()
        self._address: str | None = None  # the public one, by NAT-PMP
        self._reasons: dict[MappingBy, str] = {}
        self._heard_at: float | None = None  # in the present protocol
        self._began = now
        self._recover_after = -math.inf
        self._changes = 0
        self._outbox: list[bytes] = []  # deletions of ports that are not ours any more
        self._is_closing = False
        self.set_ports(ports, now)

    # -- what users see -------------------------------------------------------------------------

    @property
    def mappings(self) -> list[PortMap]:
        """Those that are granted."""
        return [lease.held for lease in self._leases.values() if lease.held is not None]

    @property
    def troubles(self) -> dict[LocalPort, str]:
        """Why the others are not, where the gateway said why."""
        return {
            port: lease.trouble
            for port, lease in self._leases.items()
            if lease.held is None and lease.trouble is not None
        }

    @property
    def is_closed(self) -> bool:
        """After `close`: all mappings are known to be gone."""
        return not self._outbox and not self._leases

    # -- what is wanted -------------------------------------------------------------------------

    def set_ports(self, ports: Iterable[LocalPort], now: float) -> None:
        """What is to be mapped from now on."""
        wanted = dict.fromkeys(ports)
        for port in [one for one in self._leases if one not in wanted]:
            lease = self._leases.pop(port)
            if lease.was_asked:
                self._outbox.append(self._deletion(port, lease))
        for port in wanted:
            if port not in self._leases:
                suggested = self._suggested.get(port, Address(_ANY, port.port))
                due = now if self._may_map() else _NEVER
                self._leases[port] = _Lease(self._nonce(port), suggested, _Question(due))

    def close(self, now: float) -> None:
        """Take all mappings away: `take` gives what says so, until `is_closed`. A gateway that has
        never answered is told once."""
        self._is_closing = True
        self._check.due = _NEVER
        if self.failed is not None:
            self._leases.clear()
        elif self._heard_at is None:
            self.set_ports((), now)
        for port in [one for one, lease in self._leases.items() if not lease.was_asked]:
            del self._leases[port]
        for lease in self._leases.values():
            lease.question.answered(now)

    # -- sending --------------------------------------------------------------------------------

    def next_time(self) -> float:
        """When `take` has something, or has to see that time is up."""
        if self.failed is not None:
            return _NEVER
        if self._outbox:
            return -math.inf
        times = [lease.question.due for lease in self._leases.values()]
        times += [lease.held.expires for lease in self._leases.values() if lease.held is not None]
        times.append(self._check.due)
        if not self._is_closing:
            times.append(self._patience_ends())
        return min(times)

    def take(self, now: float) -> Sequence[bytes]:
        """Datagrams for the gateway's port."""
        if self.failed is None and not self._is_closing and now >= self._patience_ends():
            self._out_of_patience(now)
        if self.failed is not None:
            return ()
        taken, self._outbox = self._outbox, []
        for port, lease in self._leases.items():
            if lease.held is not None and lease.held.expires <= now:
                lease.held = None
                if lease.trouble is None:
                    lease.trouble = "it was not renewed in time"
            if lease.question.due <= now:
                taken.append(self._request(port, lease))
                self._sent(lease, now)
        if self._check.due <= now:
            is_pcp = self.by is MappingBy.PCP
            taken.append(pcp.encode_announce(self._local) if is_pcp else natpmp.encode_address())
            self._check.sent(now, *self._waits(), self._rng.random())
        return taken

    def _request(self, port: LocalPort, lease: _Lease) -> bytes:
        lease.was_asked = True
        lease.by.add(self.by)
        if self._is_closing:
            return self._deletion(port, lease)
        if self.by is MappingBy.PCP:
            lifetime, suggested = self._config.lifetime, lease.suggested
            return pcp.encode_map(self._local, lease.nonce, port, lifetime, suggested)
        return natpmp.encode_map(port, self._config.lifetime, lease.suggested.port)

    def _deletion(self, port: LocalPort, lease: _Lease) -> bytes:
        if self.by is MappingBy.PCP:
            return pcp.encode_map(self._local, lease.nonce, port, 0, Address(_ANY, 0))
        return natpmp.encode_map(port, 0, 0)

    def _sent(self, lease: _Lease, now: float) -> None:
        held = lease.held
        if held is None or self._is_closing:
            lease.question.sent(now, *self._waits(), self._rng.random())
        else:  # a renewal: half of what is left, and so on
            lease.question.answered(self._renewal(held.expires, now))

    def _renewal(self, expires: float, now: float) -> float:
        """RFC 6887 section 11.2.1: between 1/2 and 5/8 of what is left."""
        left = (expires - now) * (1 / 2 + self._rng.random() / 8)
        return now + max(left, self._config.min_renewal)

    def _waits(self) -> tuple[float, float]:
        config = self._config
        if self.by is MappingBy.PCP and not self._is_closing:
            return config.pcp_first_wait, config.pcp_most_wait
        return config.natpmp_first_wait, config.natpmp_most_wait

    def _may_map(self) -> bool:
        """By NAT-PMP the public address comes first."""
        return self.by is MappingBy.PCP or self._address is not None

    # -- giving up ------------------------------------------------------------------------------

    def _patience_ends(self) -> float:
        config = self._config
        if self._heard_at is not None:
            return self._heard_at + config.max_silence
        is_pcp = self.by is MappingBy.PCP
        return self._began + (config.pcp_patience if is_pcp else config.natpmp_patience)

    def _out_of_patience(self, now: float) -> None:
        if self._heard_at is None:
            self._does_not_do(NO_ANSWER, now)
        else:
            self._fail(f"no answer for {self._config.max_silence:.0f} seconds")

    def _does_not_do(self, why: str, now: float) -> None:
        """The present protocol does not work here."""
        self._reasons[self.by] = why
        if self.by is MappingBy.PCP:
            self._change_to(MappingBy.NAT_PMP, now)
        else:
            self._fail(why)

    def _fail(self, why: str) -> None:
        self._reasons[self.by] = why
        for lease in self._leases.values():
            lease.held = None
        self.failed = "; ".join(f"{by}: {reason}" for by, reason in self._reasons.items())

    def _change_to(self, by: MappingBy, now: float) -> None:
        self._changes += 1
        if self._changes > _MAX_CHANGES:
            self._fail("it speaks now this, now that")
            return
        self.by, self._began, self._heard_at = by, now, None
        self._epoch, self._address = Epoch(), None
        self._check = _Question(now if by is MappingBy.NAT_PMP else _NEVER)
        for lease in self._leases.values():
            lease.held = lease.trouble = None
            lease.question = _Question(now if self._may_map() else _NEVER)

    # -- receiving ------------------------------------------------------------------------------

    def datagram(self, data: bytes, source: Address, now: float) -> None:
        """Something came, to our own port or to the group where gateways tell of themselves.
        Raises PortMapError for what is not from the gateway, is malformed, or answers nothing that
        we asked."""
        if source.host != self._gateway:
            raise PortMapError(f"from {source}, which is not the gateway")
        if data[:1] == bytes((natpmp.VERSION,)):
            answer = natpmp.decode(data)
            if self.failed is None:
                self._on_natpmp(answer, now)
        else:
            pcp_answer = pcp.decode(data)
            if self.failed is None:
                self._on_pcp(pcp_answer, now)

    def _on_pcp(self, answer: PcpAnswer, now: float) -> None:
        said = answer.mapping
        port, lease = self._find(said) if said is not None else (None, None)
        if self.by is MappingBy.NAT_PMP:  # it was late
            if lease is None or answer.result != PcpResult.SUCCESS or self.mappings:
                return
            self._change_to(MappingBy.PCP, now)
            if self.failed is not None:
                return
        if answer.result == PcpResult.UNSUPP_VERSION:
            self._does_not_do(pcp.meaning(answer.result), now)
        elif answer.opcode == pcp.ANNOUNCE:
            self._heard(answer.epoch, now, answers=self._check)
        elif port is None or lease is None or said is None:
            raise PortMapError("a PCP answer to nothing we asked")
        else:
            self._heard(answer.epoch, now, answers=lease.question)
            if self._is_closing:
                del self._leases[port]
            elif answer.result != PcpResult.SUCCESS:
                self._refused(lease, pcp.meaning(answer.result), answer.lifetime, now)
            else:
                self._granted(port, lease, said.external, answer.lifetime, now)

    def _find(self, said: PcpMapping) -> tuple[LocalPort, _Lease] | tuple[None, None]:
        for port, lease in self._leases.items():
            if (said.nonce, said.protocol, said.internal_port) == (lease.nonce, *port):
                return (port, lease) if lease.was_asked else (None, None)
        return None, None

    def _on_natpmp(self, answer: NatPmpAnswer, now: float) -> None:
        if answer.result == NatPmpResult.UNSUPPORTED_VERSION:
            if self.by is MappingBy.PCP:  # else it answers what we sent by PCP before
                self._does_not_do(natpmp.meaning(answer.result), now)
        elif self.by is MappingBy.PCP:
            pass  # it tells the group of its address
        elif answer.opcode == natpmp.ADDRESS:
            self._heard(answer.epoch, now, answers=self._check)
            if answer.result == NatPmpResult.SUCCESS and answer.address is not None:
                self._has_address(answer.address, now)
            elif self._address is None:
                self._does_not_do(natpmp.meaning(answer.result), now)
        else:
            said = answer.mapping
            lease = self._leases.get(said.local) if said is not None else None
            if said is None or lease is None or MappingBy.NAT_PMP not in lease.by:
                raise PortMapError("a NAT-PMP answer to nothing we asked")
            self._heard(answer.epoch, now, answers=lease.question)
            if self._is_closing:
                del self._leases[said.local]
            elif answer.result != NatPmpResult.SUCCESS:
                self._refused(lease, natpmp.meaning(answer.result), 0, now)
            else:
                external = Address(self._address or _ANY, said.external_port)
                self._granted(said.local, lease, external, said.lifetime, now)

    def _has_address(self, host: str, now: float) -> None:
        if not Address(host, 1).is_usable:
            if self._address is None:
                self._does_not_do(f"it says that its address is {host}", now)
            return
        is_first, self._address = self._address is None, host
        for lease in self._leases.values():
            if is_first:
                lease.question = _Question(now)
            if lease.held is not None:
                external = lease.held.external._replace(host=host)
                lease.held = replace(lease.held, external=external)

    def _heard(self, epoch: int, now: float, *, answers: _Question) -> None:
        """The gateway lives. Has it forgotten us?

        What it tells everybody does not show that it answers us: it may drop what we ask."""
        was_asked = answers.wait is not None or answers is not self._check
        if was_asked:
            self._heard_at = now
            if not self._is_closing:
                self._check.answered(now + self._config.check_interval)
        is_pcp = self.by is MappingBy.PCP
        if not self._epoch.is_lost(epoch, now, both_ways=is_pcp) or self._is_closing:
            return
        at = max(now, self._recover_after)
        if at == now:
            self._recover_after = now + self._config.recovery_interval
            if not was_asked:  # it tells everybody at once, and not all may answer at once
                at += self._config.recovery_spread * self._rng.random()
        for lease in self._leases.values():
            if lease.was_asked:
                lease.held, lease.question = None, _Question(at)

    def _granted(
        self, port: LocalPort, lease: _Lease, external: Address, lifetime: int, now: float
    ) -> None:
        if not external.is_usable or external.is_ipv6 or not lifetime:
            told = f"it grants {external} for {lifetime} seconds"
            self._refused(lease, told, 0, now)
            return
        expires = now + min(lifetime, self._config.max_lifetime)
        lease.held, lease.trouble = PortMap(port, external, expires, self.by), None
        lease.suggested = external
        lease.question.answered(self._renewal(expires, now))

    def _refused(self, lease: _Lease, why: str, lifetime: int, now: float) -> None:
        config = self._config
        pause = min(max(lifetime, config.min_refusal), config.max_refusal)
        lease.trouble = why
        lease.question.answered(now + pause)
        if all(one.trouble is not None and one.held is None for one in self._leases.values()):
            self._does_not_do(why, now)

    def _nonce(self, port: LocalPort) -> bytes:
        """RFC 6887 section 11.2: nobody off the path can guess it, and a mapping keeps it."""
        about = f"{self._gateway} {self._local} {port}".encode()
        return hashlib.blake2b(about, key=self._secret, digest_size=pcp.NONCE_SIZE).digest()
