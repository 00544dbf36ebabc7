"""What do hostile bytes do to the codecs and to a DHT node that answers, or to a running node?

    python scripts/fuzz.py [--codec dht] [--count 200000] [--seed 1]
    python scripts/fuzz.py --wire [--minutes 10] [--seed 1]
    python scripts/fuzz.py --costs

With --json what it found is one JSON object on stdout.

Valid messages are cut, spliced, flipped and stretched, and given to the codecs. Nothing but the
codecs' own errors may come out; what has a faster way must come out as by the general one; no input
may take longer than LIMIT, and memory must not grow with their number. --codec, which may be
repeated, names one of them; without it each gets --count inputs, one after the other:

    dht  bencode, KRPC and, what comes through, an Answerer, from many sources: ten million take
         half an hour or so
    mse  the handshake of the encryption of peer connections, both sides of it, cut anywhere
    pex  peer exchange, and what is believed of it
    lsd  the announces of the local network, and what is remembered of them
    socks  what a SOCKS5 proxy answers and hands on
    utp  a table of uTP connections, among honest ends and strangers
    pcp, natpmp  what a router answers, and what is believed of it
    holepunch  what relays tell of peers behind routers, and to whom we send for it

With --wire a whole node is met on 127.0.0.1 by connections whose bytes are a valid handshake and
then any messages in any order, some of them spoilt, cut anywhere; a share of them goes through MSE,
encrypted by RC4 or not. It must live, count no fault, log
no traceback, keep its torrents in their states, answer the DHT in time, part with everybody at the
end, and not grow. Says what it found, and exits 1 if that was anything.

With --costs each kind of message is heard by itself, without the pace at which peers are heard, and
what it costs is told, for a megabyte and for each of the thousand a second that a peer may send.
Exits 1 if one is so dear that this rate would not do.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import trio

from dht_torrent import bencode
from dht_torrent.bencode import Value
from dht_torrent.config import DhtConfig
from dht_torrent.dht import krpc
from dht_torrent.dht.answer import Answerer
from dht_torrent.dht.items import SigningKey, parse_reply, sign
from dht_torrent.dht.krpc import BadQuery, Query, Reply
from dht_torrent.dht.shortcut import Shortcut
from dht_torrent.dht.store import PeerStore
from dht_torrent.dht.table import Table
from dht_torrent.dht.tokens import Tokens
from dht_torrent.errors import BencodeError, KrpcError
from dht_torrent.ids import Address, NodeId
from dht_torrent.lab.run import run
from dht_torrent.lab.studies.codec_fuzz import Findings, FuzzedCodec, Input, feed, mutated
from dht_torrent.lab.studies.holepunch_fuzz import HolepunchCodec
from dht_torrent.lab.studies.lsd_fuzz import LsdCodec
from dht_torrent.lab.studies.mse_fuzz import MseCodec
from dht_torrent.lab.studies.pex_fuzz import PexCodec
from dht_torrent.lab.studies.portmap_fuzz import NatPmpCodec, PcpCodec
from dht_torrent.lab.studies.socks_fuzz import SocksCodec
from dht_torrent.lab.studies.study import exit_code, positive
from dht_torrent.lab.studies.utp_fuzz import UtpCodec
from dht_torrent.lab.studies.wire_costs import DEAR, FLOODS, Flood, cost
from dht_torrent.lab.studies.wire_fuzz import WireFindings, wire

FLAT = 150_000
"""Objects there may be more at the end of a run than in its middle: what a node stores for others
is bounded (20,000 peers, 1400 items, 10,000 sources), and grows that long."""
SOURCES = 5000

ID = b"abcdefghij0123456789"
TARGET = b"mnopqrstuvwxyz123456"


def corpus() -> list[bytes]:
    """Valid messages of every kind."""
    item = sign(SigningKey(b"\x01" * 32), [b"v", {b"a": 1}], 5, b"salt")
    asked: list[tuple[bytes, dict[bytes, Value]]] = [
        (b"ping", {}),
        (b"find_node", {b"target": TARGET}),
        (b"find_node", {b"target": TARGET, b"want": [b"n4", b"n6"]}),
        (b"get_peers", {b"info_hash": TARGET}),
        (b"get_peers", {b"info_hash": TARGET, b"scrape": 1, b"noseed": 1}),
        (b"announce_peer", {b"info_hash": TARGET, b"port": 6881, b"token": b"aoeusnth"}),
        (b"announce_peer", {b"info_hash": TARGET, b"implied_port": 1, b"token": b"t", b"seed": 1}),
        (b"get", {b"target": TARGET, b"seq": 4}),
        (b"put", {**item.fields(), b"token": b"aoeusnth", b"salt": b"salt", b"cas": 4}),
        (b"put", {b"v": b"Hello World!", b"token": b"aoeusnth"}),
        (b"sample_infohashes", {b"target": TARGET}),
        (b"vote", {b"target": TARGET}),
    ]
    made = [krpc.encode(Query(b"aa", method, {b"id": ID, **args})) for method, args in asked]
    bodies: list[dict[bytes, Value]] = [
        {},
        {b"nodes": bytes(range(208)), b"nodes6": bytes(76)},
        {b"token": b"aoeusnth", b"values": [b"axje.u", b"idhtnm", bytes(18)]},
        {**item.fields(), b"token": b"t"},
        {b"BFsd": bytes(256), b"BFpe": bytes(256)},
        {b"samples": bytes(400), b"interval": 21600, b"num": 1000},
    ]
    made += [krpc.encode(Reply(b"aa", {b"id": ID, **body})) for body in bodies]
    made += [b"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee"]
    return made


class Target(NamedTuple):
    """Who is asked: a node, in the long way and in the short one."""

    answerer: Answerer
    shortcut: Shortcut
    rng: random.Random
    """The dice of both."""


def _node(rng: random.Random) -> Target:
    config = DhtConfig()
    table, sibling = Table(NodeId(TARGET), config, 0), Table(NodeId(TARGET), config, 0, ipv6=True)
    for number in range(40):
        table.replied(NodeId(rng.randbytes(20)), Address(f"127.0.1.{number}", 6881), 0)
        sibling.replied(NodeId(rng.randbytes(20)), Address(f"fd00::{number + 1:x}", 6881), 0)
    node = Answerer(table, PeerStore(config), Tokens(rng, 300, 0), config, rng)
    node.other_table = sibling
    return Target(node, Shortcut(node, config, rng), rng)


def _feed(node: Target, data: bytes, source: Address, now: float, found: Findings) -> None:
    for decoder in (bencode.decode, bencode.decode_prefix, bencode.decode_tolerant):
        with contextlib.suppress(BencodeError):
            decoder(data, max_depth=krpc.MAX_DEPTH, max_tokens=krpc.MAX_TOKENS, max_size=4096)
    try:
        message = krpc.decode(data)
    except KrpcError:
        return
    found.decoded += 1
    if message != krpc.decode_any(data):
        found.faults.append(f"read in two ways: {data!r}")
    if isinstance(message, Query | BadQuery):
        dice = node.rng.getstate()
        usual = krpc.usual(data)
        short = node.shortcut.answer(usual, source, now) if usual is not None else None
        if short is not None:
            node.rng.setstate(dice)
        said = node.answerer.answer(message, source, now)
        answer = krpc.encode(said)
        found.answered += 1
        if short not in (None, answer):
            found.faults.append(f"an answer written in two ways to {data!r}")
        if len(answer) > DhtConfig().max_reply:
            found.faults.append(f"an answer of {len(answer)} bytes to {data!r}")
    elif isinstance(message, Reply):
        message.nodes()
        message.nodes(ipv6=True)
        message.values()
        with contextlib.suppress(KrpcError):
            parse_reply(message.body, TARGET)


class DhtCodec:
    """Bencode, KRPC, and a node that answers."""

    flat = FLAT

    def __init__(self, seed: int) -> None:
        self._seeds = corpus()
        self._node = _node(random.Random(seed))

    def input(self, number: int, rng: random.Random) -> Input:
        """A packet, and from where."""
        data = mutated(self._seeds, rng)
        place = rng.randrange(SOURCES)
        source = Address(f"11.{place >> 8}.{place & 255}.7", 1 + rng.randrange(65535))
        now = number * 0.001
        if rng.random() < 0.2:
            data = _with_token(self._node, data, source, now)
        return Input(data, lambda found: _feed(self._node, data, source, now, found))


CODECS: Mapping[str, Callable[[int], FuzzedCodec]] = {
    "dht": DhtCodec,
    "mse": MseCodec,
    "pex": PexCodec,
    "lsd": LsdCodec,
    "socks": SocksCodec,
    "utp": UtpCodec,
    "pcp": PcpCodec,
    "natpmp": NatPmpCodec,
    "holepunch": HolepunchCodec,
}


def fuzz(count: int, seed: int, name: str = "dht") -> Findings:
    """Feed `count` inputs to the codec of this name. The same seed gives the same inputs."""
    return feed(CODECS[name](seed), count, seed)


def _with_token(node: Target, data: bytes, source: Address, now: float) -> bytes:
    """With the right token for TARGET, so that what comes after the token is reached as well."""
    return data.replace(b"aoeusnth", node.answerer.tokens.make(source, TARGET, now))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--codec", action="append", choices=CODECS, help="which one; may be repeated (default: all)"
    )
    parser.add_argument("--count", type=positive, default=200_000, help="inputs for each codec")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--wire", action="store_true", help="talk to a running node")
    parser.add_argument("--minutes", type=minutes, default=10.0, help="of --wire")
    parser.add_argument("--costs", action="store_true", help="what each kind of message costs")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    if options.costs:
        return _costs(FLOODS, as_json=options.json)
    if options.wire:
        return _wire(options.minutes, options.seed, as_json=options.json)
    names = [name for name in CODECS if name in (options.codec or CODECS)]
    return _codecs(names, options.count, options.seed, as_json=options.json)


def minutes(text: str) -> float:
    """For argparse: a time above 0."""
    number = float(text)
    if not 0 < number <= 1440:
        raise argparse.ArgumentTypeError("must be above 0, and a day at most")
    return number


def _wire(length: float, seed: int, *, as_json: bool = False) -> int:
    began, told = time.monotonic(), 0.0

    def progress(found: WireFindings) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= 10:
            told = now
            print(f"{now - began:6.0f} s  {found.connections} connections", file=sys.stderr)

    with tempfile.TemporaryDirectory() as folder:
        found = trio.run(wire, Path(folder), 60 * length, seed, progress)
    if as_json:
        return _tell_json({**asdict(found), "seconds": time.monotonic() - began}, found.faults)
    print(
        f"{found.connections} connections ({found.refused} refused, {found.encrypted} with MSE), "
        f"{found.sent >> 20} MB in {time.monotonic() - began:.0f} s; "
        f"at most {1000 * found.latest:.0f} ms late, memory "
        f"{found.memory[0] >> 20} -> {found.memory[1] >> 20} MB, {len(found.faults)} faults"
    )
    return _tell(found.faults)


def _costs(floods: Sequence[Flood], *, as_json: bool = False) -> int:
    """A line for each kind: what it costs, by itself, for a megabyte and for a message."""
    dear, costs = [], []
    for flood in floods:
        found = run(cost, flood, seed=1)
        megabyte = found.seconds / found.heard * 1e6
        each = found.seconds / max(1, found.messages)
        if each > DEAR:
            dear.append(f"{found.name}: {1e6 * each:.0f} us a message")
        costs.append(asdict(found))
        if as_json:
            continue
        print(
            f"{found.name:36} {megabyte:6.2f} CPU-s/MB {1e6 * each:6.1f} us a message"
            f"{'; closed: ' if found.ended else ''}{found.ended}",
            flush=True,
        )
    return _tell_json({"costs": costs, "faults": dear}, dear) if as_json else _tell(dear)


def _tell(faults: list[str]) -> int:
    for fault in faults:
        print(fault[:1000])
    return 1 if faults else 0


def _tell_json(found: Mapping[str, object], faults: Sequence[str]) -> int:
    print(json.dumps(found))
    return 1 if faults else 0


def _codecs(names: Sequence[str], count: int, seed: int, *, as_json: bool = False) -> int:
    """A line for each codec, and then what is wrong."""
    faults: list[str] = []
    told = []
    for name in names:
        began = time.monotonic()
        found = fuzz(count, seed, name)
        seconds = time.monotonic() - began
        faults += [f"{name}: {fault}" for fault in found.faults]
        told.append({"codec": name, **asdict(found), "seconds": seconds})
        if as_json:
            continue
        print(
            f"{name}: {found.inputs} inputs in {seconds:.1f} s: {found.decoded} were valid still, "
            f"{found.answered} were answered or believed; slowest {1000 * found.slowest:.2f} ms, "
            f"{found.grown} objects grown, {len(found.faults)} faults",
            flush=True,
        )
    return _tell_json({"codecs": told, "faults": faults}, faults) if as_json else _tell(faults)


if __name__ == "__main__":
    sys.exit(exit_code(main))
