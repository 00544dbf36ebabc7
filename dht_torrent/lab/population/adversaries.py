"""Hostile DHT nodes. The rule: an adversary does nothing an attacker with its addresses could not
do. It answers what reaches its own sockets, and lies in the answers.

A coalition knows all its members and all honest nodes (crawling a DHT is cheap), and has all
its members behave in one way. None of them is a full node: a socket, an id, and a lie.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import trio

from dht_torrent.bencode import Value
from dht_torrent.dht import krpc
from dht_torrent.dht.identity import make_id, prefix
from dht_torrent.dht.krpc import NodeInfo, Query, Reply
from dht_torrent.engine.net.protocols import DatagramSocket
from dht_torrent.errors import KrpcError
from dht_torrent.ids import Address, NodeId, distance
from dht_torrent.lab.net.network import FakeNetwork

TOLD: Final = 16
"""Contacts named in an answer: as many as a lookup believes (BEP 5 has 8)."""
FALSE_PEERS: Final = 180
"""Peers invented for an answer: with the contacts, about what a datagram holds that is read."""
MAX_LATE: Final = 200
"""Answers one member holds back at the same time. Further questions get none."""
GREETED_NEAR: Final = 16
"""Honest nodes closest to it that a newcomer says hello to ..."""
GREETED_FAR: Final = 40
"""... and others at random: about as many as an honest newcomer meets."""

_TOKEN: Final = b"welcome!"


class Answer(NamedTuple):
    """What to say, and after how many seconds."""

    body: dict[bytes, Value]
    delay: float = 0.0


class Behaviour:
    """How a coalition treats a querier. This one seems honest, but knows no node and stores
    nothing; it takes announces and puts, and forgets them. Pings are answered by all kinds, for
    only who answers gets into tables."""

    def answer(self, us: Coalition, me: NodeInfo, query: Query) -> Answer | None:
        """The response of `me` to a query other than ping; None is silence."""
        if query.target is None or query.method == krpc.ANNOUNCE_PEER:
            return Answer({})
        body: dict[bytes, Value] = {b"nodes": krpc.compact_nodes(self.contacts(us, query.target))}
        if query.method in (krpc.GET_PEERS, krpc.GET):
            body[b"token"] = _TOKEN
        return Answer(body)

    def contacts(self, us: Coalition, target: bytes) -> list[NodeInfo]:
        """The nodes to name to a querier that looks for `target`."""
        return []


class Colluding(Behaviour):
    """Sybils: each names the members closest to the target, and none has any value."""

    def contacts(self, us: Coalition, target: bytes) -> list[NodeInfo]:
        return us.closest(target, TOLD)


class BlackHole(Behaviour):
    """Silent, whatever is asked."""

    def answer(self, us: Coalition, me: NodeInfo, query: Query) -> Answer | None:
        return None


class Liar(Colluding):
    """Names the dead, itself under ids it does not have, and accomplices, all beside the target;
    gives false values and invented peers."""

    def answer(self, us: Coalition, me: NodeInfo, query: Query) -> Answer | None:
        answer = super().answer(us, me, query)
        if answer is not None and query.method == krpc.GET_PEERS:
            peers = [us.dead().compact() for _ in range(FALSE_PEERS)]
            answer.body[b"values"] = list[Value](peers)
        if answer is not None and query.method == krpc.GET:
            answer.body[b"v"] = us.rng.randbytes(40)
        return answer

    def contacts(self, us: Coalition, target: bytes) -> list[NodeInfo]:
        known = us.closest(target, TOLD // 4)
        false = [NodeInfo(beside(target, us.rng), us.some().address) for _ in range(TOLD // 4)]
        dead = [NodeInfo(beside(target, us.rng), us.dead()) for _ in range(TOLD // 2)]
        return [*dead, *false, *known]


class Late(Colluding):
    """Colluding, and slow: half of them answer when a lookup has already asked the next one, half
    when the question has been given up."""

    def __init__(self, soft: tuple[float, float] = (1.5, 14.0), hard: float = 16.0) -> None:
        self._soft = soft
        self._hard = hard

    def answer(self, us: Coalition, me: NodeInfo, query: Query) -> Answer | None:
        answer = super().answer(us, me, query)
        if answer is None:
            return None
        delay = us.rng.uniform(*self._soft) if me.id[-1] % 2 else self._hard
        return answer._replace(delay=delay)


class Reflector(Behaviour):
    """Names a victim, under many ids beside the target, and one accomplice who does the same."""

    def __init__(self, victims: Sequence[Address]) -> None:
        self._victims = victims

    def contacts(self, us: Coalition, target: bytes) -> list[NodeInfo]:
        named = [
            NodeInfo(beside(target, us.rng), us.rng.choice(self._victims)) for _ in range(TOLD - 1)
        ]
        return [*named, *us.closest(target, 1)]


class Coalition:
    """Adversaries who act together. Made by `coalition`."""

    def __init__(
        self,
        net: FakeNetwork,
        nursery: trio.Nursery,
        rng: random.Random,
        behaviour: Behaviour,
        dead: Callable[[], Address],
    ) -> None:
        self.rng = rng
        self.members: dict[Address, NodeInfo] = {}
        self.dead = dead
        """Gives an address where no node is."""
        self._net = net
        self._nursery = nursery
        self._behaviour = behaviour
        self._numbers: list[tuple[int, NodeInfo]] = []
        self._sockets: dict[Address, DatagramSocket] = {}
        self._late: dict[Address, int] = {}

    async def join(self, info: NodeInfo, honest: Sequence[NodeInfo]) -> None:
        """One more member. It says hello to some of the `honest`, who then will ask whether it is
        there, and finds its way into their tables."""
        socket = await self._net.host(info.address.host).open_udp(info.address)
        self.members[info.address] = info
        self._numbers.append((int.from_bytes(info.id, "big"), info))
        self._sockets[info.address] = socket
        self._nursery.start_soon(self._serve, info, socket)
        near = heapq.nsmallest(GREETED_NEAR, honest, key=lambda one: distance(one.id, info.id))
        far = self.rng.sample(honest, min(GREETED_FAR, len(honest)))
        for one in dict.fromkeys([*near, *far]):
            self.greet(info, one.address)

    def greet(self, member: NodeInfo, honest: Address) -> None:
        """Ask something, to be noticed."""
        args: dict[bytes, Value] = {b"id": member.id, b"target": member.id}
        query = Query(self.rng.randbytes(4), krpc.FIND_NODE, args)
        self._sockets[member.address].send(krpc.encode(query), honest)

    def closest(self, target: bytes, count: int) -> list[NodeInfo]:
        """The members closest to `target`, nearest first."""
        number = int.from_bytes(target, "big")
        nearest = heapq.nsmallest(count, self._numbers, key=lambda pair: pair[0] ^ number)
        return [info for _, info in nearest]

    def some(self) -> NodeInfo:
        """A member, drawn at random."""
        return self.rng.choice(self._numbers)[1]

    async def _serve(self, me: NodeInfo, socket: DatagramSocket) -> None:
        try:
            while True:
                for data, source in await socket.receive():
                    self._heard(me, socket, data, source)
        finally:
            socket.close()

    def _heard(self, me: NodeInfo, socket: DatagramSocket, data: bytes, source: Address) -> None:
        try:
            query = krpc.decode(data)
        except KrpcError:
            return
        if not isinstance(query, Query):
            return
        if query.method == krpc.PING:
            answer: Answer | None = Answer({})
        else:
            answer = self._behaviour.answer(self, me, query)
        if answer is None:
            return
        reply = krpc.encode(Reply(query.tid, {b"id": me.id, **answer.body}))
        if not answer.delay:
            socket.send(reply, source)
        elif self._late.get(me.address, 0) < MAX_LATE:
            self._late[me.address] = self._late.get(me.address, 0) + 1
            self._nursery.start_soon(self._later, me, socket, reply, source, answer.delay)

    async def _later(
        self, me: NodeInfo, socket: DatagramSocket, reply: bytes, to: Address, delay: float
    ) -> None:
        await trio.sleep(delay)
        self._late[me.address] -= 1
        socket.send(reply, to)


@asynccontextmanager
async def coalition(
    net: FakeNetwork,
    rng: random.Random,
    behaviour: Behaviour,
    *,
    dead: Callable[[], Address],
) -> AsyncIterator[Coalition]:
    """A coalition without members yet. At the end all of them vanish."""
    async with trio.open_nursery() as nursery:
        yield Coalition(net, nursery, rng, behaviour, dead)
        nursery.cancel_scope.cancel()


def beside(target: bytes, rng: random.Random) -> NodeId:
    """An id nearer to `target` than any other."""
    return NodeId((int.from_bytes(target, "big") ^ rng.randrange(1, 1 << 80)).to_bytes(20, "big"))


def mined(target: bytes, within: int, rng: random.Random) -> NodeId:
    """An id at a distance of less than `within`: what trying many of them at random gives."""
    nearness = rng.randrange(1, max(2, within))
    return NodeId((int.from_bytes(target, "big") ^ nearness).to_bytes(20, "big"))


def random_id(address: Address, rng: random.Random) -> NodeId:
    """An id that fits the address (BEP 42), where that matters."""
    return NodeId(rng.randbytes(20)) if address.is_local else make_id(address.host, rng)


def mined_beside(target: bytes, hosts: Sequence[str], rng: random.Random) -> tuple[str, NodeId]:
    """Of the ids that fit one of the `hosts` (BEP 42: 8 beginnings of 21 bits each) one as close to
    `target` as can be, and its host. The other bits are drawn."""
    number = int.from_bytes(target, "big")
    beginnings = [(prefix(host, rand) >> 11, rand, host) for host in hosts for rand in range(8)]
    start, rand, host = min(beginnings, key=lambda one: (one[0] ^ number >> 139, one))
    rest = rng.getrandbits(139) & ~7 | rand
    return host, NodeId((start << 139 | rest).to_bytes(20, "big"))
