"""The short ways say to the byte what the long ways say, and remember the same."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from dht_torrent.bencode import Value
from dht_torrent.config import DhtConfig
from dht_torrent.dht import krpc
from dht_torrent.dht.answer import Answerer
from dht_torrent.dht.krpc import Query
from dht_torrent.dht.shortcut import Shortcut
from dht_torrent.dht.store import PeerStore
from dht_torrent.dht.table import Table
from dht_torrent.dht.tokens import Tokens
from dht_torrent.errors import KrpcError
from dht_torrent.ids import Address, InfoHash, NodeId
from tests.helpers.examples import examples

CONFIG = DhtConfig(max_torrents=3, max_peers_per_torrent=70, max_torrents_per_host=2)
HASHES = [bytes([value]) * 20 for value in (0, 1, 7, 128, 255)]
HOSTS4 = ["127.0.0.1", "10.1.2.3", "8.8.8.8", "8.8.8.9", "9.9.9.9"]
HOSTS6 = ["::1", "fd00::1", "2a00::1", "2a00::2", "2a01::1"]

ids = st.sampled_from(HASHES) | st.binary(min_size=20, max_size=20)
ports = st.sampled_from([1, 80, 6881, 65535, 65536, 99999])
tids = st.binary(min_size=1, max_size=12)
versions = st.none() | st.binary(min_size=4, max_size=4) | st.binary(max_size=6)


class Side:
    """An answerer and what belongs to it. All sides of one seed are alike."""

    def __init__(self, seed: int, ipv6: bool) -> None:
        rng = random.Random(seed)
        self.table = Table(NodeId(rng.randbytes(20)), CONFIG, 0.0, ipv6=ipv6)
        self.store = PeerStore(CONFIG)
        self.dice = random.Random(seed)
        tokens = Tokens(random.Random(seed), CONFIG.token_rotation, 0.0)
        self.answerer = Answerer(self.table, self.store, tokens, CONFIG, self.dice)
        hosts = HOSTS6 if ipv6 else HOSTS4
        for number in range(rng.choice([0, 3, 30, 120])):
            inside = number % 2 or seed % 3 == 0
            spot = f"2a02:{number:x}::1" if ipv6 else f"20.{number}.1.1"
            host = rng.choice(hosts[:2]) if inside else spot
            address = Address(host, 7000 + number)
            self.table.replied(NodeId(rng.randbytes(20)), address, 0.0)
            if rng.random() < 0.1:
                for _ in range(3):
                    self.table.failed(address, 0.0, 1.0)
        for number in range(rng.choice([0, 5, 80])):
            host = rng.choice(hosts)
            info_hash = InfoHash(rng.choice(HASHES[:3]))
            self.store.add(info_hash, Address(host, 100 + number), 0.0, seed=number % 4 == 0)


@st.composite
def queries(draw: st.DrawFn, ours: Side, source: Address) -> bytes:
    """A query, most of them such as a shortcut takes, some with right tokens."""
    args: dict[bytes, Value] = {b"id": draw(ids)}
    method = draw(st.sampled_from([b"ping", b"find_node", b"get_peers", b"announce_peer"]))
    if method == b"find_node":
        args[b"target"] = draw(ids)
    elif method != b"ping":
        info_hash = args[b"info_hash"] = draw(ids)
        if method == b"announce_peer":
            right = ours.answerer.tokens.make(source, info_hash, 10.0)
            args[b"token"] = draw(st.sampled_from([right, right, right, b"bad token", b"8 bytes!"]))
            args[b"port"] = draw(ports)
    for name in draw(st.lists(st.sampled_from([b"noseed", b"seed", b"scrape"]), max_size=1)):
        args[name] = 1
    query = Query(draw(tids), method, args, draw(versions), draw(st.integers(0, 9)) == 0)
    return krpc.encode(query)


def long_way(side: Side, data: bytes, source: Address, now: float) -> bytes:
    query = krpc.decode_any(data)
    assert isinstance(query, Query | krpc.BadQuery)
    return krpc.encode(side.answerer.answer(query, source, now))


@settings(max_examples=examples(120), deadline=None)
@given(st.data(), st.integers(0, 50), st.booleans())
def test_the_shortcut_answers_as_the_long_way_does(
    data: st.DataObject, seed: int, ipv6: bool
) -> None:
    ours, theirs = Side(seed, ipv6), Side(seed, ipv6)
    shortcut = Shortcut(ours.answerer, CONFIG, ours.dice)
    for _ in range(4):
        contacts = [contact.address for contact in ours.table]
        strangers = [Address(host, 7001) for host in (HOSTS6 if ipv6 else HOSTS4)]
        source = data.draw(st.sampled_from(strangers + contacts))
        datagram = data.draw(queries(ours, source))
        parts = krpc.usual(datagram)
        answer = None if parts is None else shortcut.answer(parts, source, 10.0)
        if answer is None:
            answer = long_way(ours, datagram, source, 10.0)
        assert answer == long_way(theirs, datagram, source, 10.0)
        assert ours.dice.getstate() == theirs.dice.getstate()
        for info_hash in map(InfoHash, HASHES):
            mine, yours = (
                side.store.compact_peers(info_hash, 10.0, random.Random(1), 500)
                for side in (ours, theirs)
            )
            assert mine == yours


@settings(max_examples=examples(120), deadline=None)
@given(st.data(), st.integers(0, 5))
def test_a_usual_query_is_decoded_as_any_other(data: st.DataObject, seed: int) -> None:
    side = Side(seed, ipv6=False)
    datagram = data.draw(queries(side, Address("8.8.8.8", 7001)))
    at = data.draw(st.integers(0, len(datagram)))
    changed = datagram[:at] + data.draw(st.binary(max_size=3)) + datagram[at + 1 :]
    for one in (datagram, changed):
        assert _decoded(krpc.decode, one) == _decoded(krpc.decode_any, one)


def _decoded(decode: object, data: bytes) -> object:
    try:
        return decode(data)  # type: ignore[operator]
    except KrpcError:
        return None


def test_the_usual_queries_of_every_client_are_taken() -> None:
    head = b"d1:ad2:id20:" + b"i" * 20
    info_hash = b"9:info_hash20:" + b"h" * 20
    for middle in (
        b"e1:q4:ping",
        b"6:target20:" + b"t" * 20 + b"e1:q9:find_node",
        info_hash + b"e1:q9:get_peers",
        info_hash + b"4:porti6881e5:token8:12345678e1:q13:announce_peer",
    ):
        for tail in (b"1:t2:aa1:y1:qe", b"1:t4:aaaa1:v4:LT\x01\x021:y1:qe"):
            assert krpc.usual(head + middle + tail) is not None


def test_an_announce_with_a_wrong_token_goes_the_long_way_and_stores_nothing() -> None:
    side = Side(1, ipv6=False)
    shortcut = Shortcut(side.answerer, CONFIG, side.dice)
    source, info_hash = Address("8.8.4.4", 7001), InfoHash(b"n" * 20)
    right = side.answerer.tokens.make(source, info_hash, 10.0)
    for token, stored in ((b"8 bytes!", []), (right, [Address(source.host, 6881)])):
        args: dict[bytes, Value] = {b"id": b"i" * 20, b"info_hash": info_hash, b"port": 6881}
        query = Query(b"aa", b"announce_peer", {**args, b"token": token})
        parts = krpc.usual(krpc.encode(query))
        assert parts is not None
        answer = shortcut.answer(parts, source, 10.0)
        assert (answer is None) == (stored == [])
        assert side.store.peers(info_hash, 10.0, random.Random(1), 50) == stored
