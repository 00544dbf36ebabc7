"""DHT nodes as processes of their own, and what stands around them while they are measured.

    python scripts/bench/dht_nodes.py ROLE '{"json": "options"}'

Workers as those of peers.py: one JSON line when `ready` (with the port), one for each empty line on
stdin, with what was used so far, and a last one once stdin has closed.

Roles: ours and lt (libtorrent), each with its rate limits lifted and its table warmed, unless it is
to know nobody; village
(light nodes to know, each on a port of its own), net (many nodes of ours in one process that find
each other's peers) and load (the generator where there is no C compiler; it ends by itself).
"""

from __future__ import annotations

import hashlib
import heapq
import json
import random
import secrets
import selectors
import socket
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from light import asked, watch
from peers import Usage, allow_many_files, cpu_seconds, resident, say

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout, installed or not

MANY: Final = 1_000_000
"""For caps that are to be lifted."""
LOOKUPS: Final = 40
"""To warm a table."""
PATIENCE: Final = 1.0
"""Seconds the generator waits for an answer."""
KINDS: Final = ("ping", "find_node", "get_peers", "announce_peer")


def run_ours(bootstrap: str) -> None:
    import trio

    trio.run(_ours, bootstrap)


async def _ours(bootstrap: str) -> None:
    import trio

    from dht_torrent.config import Config, DhtConfig
    from dht_torrent.engine.opening import open_node

    dht = replace(
        DhtConfig(unlimited=True),
        max_torrents=MANY,
        max_peers_per_torrent=MANY,
        max_peers_total=MANY,
    )
    points = [bootstrap] if bootstrap else []
    config = Config(bootstrap=points, listen="127.0.0.1:0", state_dir=None, dht=dht)
    async with open_node(config) as node:
        if points:
            await node.dht.bootstrapped()
            for _ in range(LOOKUPS):
                await node.dht.find_node(secrets.token_bytes(20))
        say({"event": "ready", "port": node.address.port, "contacts": len(node.dht.contacts())})
        usage = Usage()
        while True:
            await trio.lowlevel.wait_readable(sys.stdin)
            if not asked(usage):
                break
    say(usage.line("stopped"))


def run_libtorrent(bootstrap: str) -> None:
    import libtorrent as lt

    settings: Any = {
        "listen_interfaces": "127.0.0.1:0",
        "enable_dht": True,
        "dht_bootstrap_nodes": bootstrap,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "dht_restrict_routing_ips": False,
        "dht_restrict_search_ips": False,
        "dht_ignore_dark_internet": False,
        "dht_prefer_verified_node_ids": False,
        "dht_enforce_node_id": False,
        # The rate limits, and the caps of the store.
        "dht_block_ratelimit": MANY,
        "dht_upload_rate_limit": 1 << 30,
        "dht_max_torrents": MANY,
        "dht_max_peers": MANY,
        "alert_mask": 0,  # statistics come all the same
    }
    session = lt.session(settings)
    until = time.monotonic() + 30.0
    contacts = answered = 0
    while bootstrap and answered < LOOKUPS:
        if time.monotonic() > until:
            raise SystemExit("libtorrent found no way into the DHT")
        # One at a time: it answers at once while it knows nobody.
        session.dht_get_peers(lt.sha1_hash(secrets.token_bytes(20)))
        session.post_session_stats()
        session.wait_for_alert(500)
        time.sleep(0.02)
        for alert in session.pop_alerts():
            if isinstance(alert, lt.session_stats_alert):
                contacts = alert.values["dht.dht_nodes"]
                answered += contacts > 0
    say({"event": "ready", "port": session.listen_port(), "contacts": contacts})
    usage = Usage()
    while asked(usage):  # its own thread does the work
        session.pop_alerts()
    say(usage.line("stopped"))


# --- many in one process ---------------------------------------------------------------------


def run_net(nodes: int, lookups: int) -> None:
    """Starts so many nodes; then, for each lookup, one of them announces and another one looks."""
    import trio

    trio.run(_net, nodes, lookups)


async def _net(count: int, lookups: int) -> None:
    import trio

    from dht_torrent.ids import Address, InfoHash
    from dht_torrent.lab.population.testnet import open_testnet

    rng = random.Random(1)
    memory = resident()["now"]
    began, cpu = time.monotonic(), cpu_seconds()
    async with open_testnet(count, rng=rng) as nodes:
        started, cpu = time.monotonic() - began, cpu_seconds() - cpu
        memory = resident()["now"] - memory
        first: list[float] = []
        for number in range(lookups):
            info_hash = InfoHash(rng.randbytes(20))
            announcer, searcher = rng.sample(nodes, 2)
            await announcer.announces.find_peers(
                info_hash, announce_port=1000 + number, on_peers=_ignore
            )
            announcer.announces.withdraw(info_hash)
            found: list[float] = []
            asked_at = time.monotonic()

            def hear(peers: Sequence[Address], found: list[float] = found) -> None:
                if peers:
                    found.append(time.monotonic())

            await searcher.announces.find_peers(info_hash, on_peers=hear)
            if found:
                first.append(found[0] - asked_at)
        say(
            {
                "event": "ready",
                "nodes": count,
                "started": started,
                "start_cpu": cpu,
                "bytes": memory,
                "found": len(first),
                "first": first,
            }
        )
        usage = Usage()
        while True:
            await trio.lowlevel.wait_readable(sys.stdin)
            if not asked(usage):
                break
    say(usage.line("stopped"))


def _ignore(peers: object) -> None:
    """For an announcer, who looks for nobody."""


# --- around them -----------------------------------------------------------------------------


def run_village(nodes: int) -> None:
    """So many light nodes: they answer pings and lookups truthfully, and store nothing."""
    from dht_torrent.bencode import decode, encode
    from dht_torrent.errors import BencodeError

    selector = watch()
    homes: list[tuple[int, bytes]] = []  # id as a number; compact node info
    for number in range(nodes):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        udp.setblocking(False)
        name = hashlib.sha1(str(number).encode()).digest()
        port = udp.getsockname()[1]
        homes.append((int.from_bytes(name, "big"), name + b"\x7f\0\0\1" + port.to_bytes(2, "big")))
        selector.register(udp, selectors.EVENT_READ, (udp, name))
    say({"event": "ready", "port": int.from_bytes(homes[0][1][-2:], "big")})
    usage = Usage()
    while True:
        for key, _ in selector.select():
            if key.data is None:
                if not asked(usage):
                    say(usage.line("stopped"))
                    return
                continue
            udp, name = key.data
            try:
                data, source = udp.recvfrom(4096)
                message: Any = decode(data)
                args = message[b"a"] if message[b"y"] == b"q" else None
            except (OSError, BencodeError, KeyError, TypeError):
                continue
            if not isinstance(args, dict):
                continue
            body: dict[bytes, Any] = {b"id": name, b"token": b"village"}
            wanted = args.get(b"target", args.get(b"info_hash"))
            if isinstance(wanted, bytes):
                target = int.from_bytes(wanted, "big")
                near = heapq.nsmallest(8, homes, key=lambda home: home[0] ^ target)
                body[b"nodes"] = b"".join(compact for _, compact in near)
            udp.sendto(encode({b"t": message[b"t"], b"y": b"r", b"r": body}), source)


# --- the generator, without a compiler -------------------------------------------------------


def run_load(
    port: int,
    filling: bool,
    amount: int,
    outstanding: int,
    pairs: int,
    hashes: int,
    sources: int,
    seed: int,
    weights: list[int],
) -> None:
    """What dht_load.c does, from the one address 127.0.0.1. Says what came back, and `latencies`
    in microseconds with how often each was seen."""
    rng = random.Random(seed)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(("127.0.0.1", port))
    selector = selectors.DefaultSelector()
    selector.register(sock, selectors.EVENT_READ)
    names = [hashlib.sha1(b"source %d" % number).digest() for number in range(sources)]
    targets = [hashlib.sha1(b"hash %d" % number).digest() for number in range(hashes)]
    tokens: list[tuple[int, bytes] | None] = [None] * outstanding
    pending: dict[bytes, tuple[int, str, int, float]] = {}
    counts = Counter[str]()
    latencies = Counter[int]()
    turns = first = seed % hashes

    def ask(slot: int) -> None:
        nonlocal turns
        if filling:
            kind = "announce_peer" if tokens[slot] else "get_peers"
            turns += kind == "get_peers"
            pair = turns - first
        else:
            (kind,) = rng.choices(KINDS, weights)
            pair = rng.randrange(pairs)
        held = tokens[slot]
        if kind == "announce_peer" and held is None:
            kind = "get_peers"
        if kind == "announce_peer" and held is not None:
            pair, token = held
            tail = b"4:porti%ue5:token%d:%b" % (1024 + pair % 50000, len(token), token)
        else:
            tail = b""
        number = (pair + first) % hashes
        head = b"d1:ad2:id20:" + names[(pair // hashes + 7 * number) % sources]
        if kind == "find_node":
            head += b"6:target20:" + rng.randbytes(20)
        elif kind != "ping":
            head += b"9:info_hash20:" + targets[number]
        counts["sent"] += 1
        tid = bytes([slot]) + (counts["sent"] & 0xFFFF).to_bytes(2, "big")
        method = b"e1:q%d:%b" % (len(kind), kind.encode())
        pending[tid] = (slot, kind, pair, time.monotonic())
        sock.send(head + tail + method + b"1:t3:" + tid + b"1:y1:qe")

    def take(data: bytes) -> None:
        at = data.rfind(b"1:t3:")
        asked_for = pending.pop(data[at + 5 : at + 8], None)
        if asked_for is None:
            counts["strange"] += 1
            return
        slot, kind, pair, sent_at = asked_for
        if kind == "announce_peer" and filling:
            tokens[slot] = None
        if b"1:y1:r" not in data[at:]:
            counts["refused"] += 1
            tokens[slot] = None
        else:
            if kind == "get_peers":
                token, _, rest = data[data.find(b"5:token") + 7 :].partition(b":")
                tokens[slot] = (pair, rest[: int(token)])
                counts["with_values"] += b"6:valuesl" in data
            counts[kind] += 1
            counts["answered"] += 1
            latencies[int((time.monotonic() - sent_at) * 1e6)] += 1
        ask(slot)

    usage = Usage()
    began = now = time.monotonic()
    until = began + (120.0 if filling else amount / 1e3)
    for slot in range(outstanding):
        ask(slot)
    while now < until and not (filling and counts["announce_peer"] >= amount):
        if selector.select(0.05):
            try:
                take(sock.recv(4096))
            except ConnectionRefusedError:
                counts["strange"] += 1
        now = time.monotonic()
        while pending and (oldest := next(iter(pending.items())))[1][3] < now - PATIENCE:
            del pending[oldest[0]]
            counts["lost"] += 1
            tokens[oldest[1][0]] = None
            ask(oldest[1][0])
    say(usage.line("done", **counts, latencies=sorted(latencies.items())))


def main() -> None:
    role, options = sys.argv[1], json.loads(sys.argv[2])
    allow_many_files()
    match role:
        case "ours":
            run_ours(**options)
        case "lt":
            run_libtorrent(**options)
        case "village":
            run_village(**options)
        case "net":
            run_net(**options)
        case "load":
            run_load(**options)
        case _:
            raise SystemExit(f"no such role: {role}")


if __name__ == "__main__":
    main()
