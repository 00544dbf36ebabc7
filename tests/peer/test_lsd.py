"""Announces in the local network (BEP 14): what they say, when they are due, whom to believe."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.config import LsdConfig
from dht_torrent.errors import PeerProtocolError
from dht_torrent.ids import Address, InfoHash
from dht_torrent.peer.lsd import (
    GROUPS,
    MAX_COOKIE,
    MAX_HASHES,
    MAX_SIZE,
    Announce,
    Hearing,
    Schedule,
    decode,
    encode,
)
from tests.helpers.times import seconds

CONFIG = LsdConfig()
ONE, TWO = (InfoHash(bytes([number]) * 20) for number in (0xAA, 0x0B))
HEX = ONE.hex().encode()
COOKIE = b"0123456789abcdef"
FROM = Address("192.168.1.7", 6771)


def some(count: int, first: int = 0) -> list[InfoHash]:
    return [InfoHash(number.to_bytes(20, "big")) for number in range(first, first + count)]


def datagram(*info_hashes: InfoHash, port: int = 6881, cookie: bytes | None = None) -> bytes:
    return encode(Announce(port, info_hashes, cookie), GROUPS[0])


# -- the codec ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "host"),
    [(GROUPS[0], b"239.192.152.143:6771"), (GROUPS[1], b"[ff15::efc0:988f]:6771")],
)
def test_what_bep_14_shows(group: Address, host: bytes) -> None:
    wire = (
        b"BT-SEARCH * HTTP/1.1\r\n"
        b"Host: " + host + b"\r\n"
        b"Port: 6881\r\n"
        b"Infohash: " + HEX + b"\r\n"
        b"Infohash: " + TWO.hex().encode() + b"\r\n"
        b"cookie: 1234\r\n"
        b"\r\n"
        b"\r\n"
    )
    announce = Announce(6881, (ONE, TWO), b"1234")
    assert encode(announce, group) == wire
    assert decode(wire) == announce


@pytest.mark.parametrize(
    "data",
    [
        # libtorrent, uTorrent and Transmission
        b"BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 80\r\nInfohash: "
        + HEX
        + b"\r\ncookie: 7b\r\n\r\n\r\n",
        b"BT-SEARCH * HTTP/1.1\r\nhost:239.192.152.143:6771\r\nport:80\r\nINFOHASH:"
        + HEX.upper()
        + b"\r\ncookie:7b\r\n\r\n",
        b"BT-SEARCH * HTTP/1.1\r\nX-New: \xff\x00\r\nPort: \t00080 \r\ncookie: 7b\r\nInfohash: "
        + HEX
        + b"\r\nInfohash: "
        + HEX
        + b"\r\n\r\n",
    ],
)
def test_what_others_may_write(data: bytes) -> None:
    assert decode(data) == Announce(80, (ONE,), b"7b")


GOOD = b"BT-SEARCH * HTTP/1.1\r\nPort: 80\r\nInfohash: " + HEX + b"\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        GOOD[:-1],
        GOOD[:-2],
        GOOD + b"x",
        GOOD + b"\r",
        GOOD + b"\r\n" * MAX_SIZE,
        GOOD.replace(b"BT-SEARCH", b"M-SEARCH"),
        GOOD.replace(b"1.1", b"2.0"),
        GOOD.replace(b"Port: 80\r\n", b""),
        GOOD.replace(b"80", b"0"),
        GOOD.replace(b"80", b"65536"),
        GOOD.replace(b"80", b"-1"),
        GOOD.replace(b"80", b"8_0"),
        GOOD.replace(b"80", b"0x50"),
        GOOD.replace(b"80", b""),
        GOOD.replace(b"80", b"9" * 1000),
        GOOD.replace(b"80", "٨٠".encode()),
        GOOD.replace(b"Port: 80\r\n", b"Port: 80\r\nport: 81\r\n"),
        GOOD.replace(b"Port: 80", b"Port: 80\r\nHost: a\r\nHost: a"),
        GOOD.replace(b"Port: 80", b"Port: 80\r\ncookie: a\r\ncookie: a"),
        GOOD.replace(b"Port: 80", b"Port: 80\r\nno header"),
        GOOD.replace(b"Port: 80", b"Port: 80\r\n: nameless"),
        GOOD.replace(b"Port: 80", b"Port : 80"),
        GOOD.replace(b"Infohash: " + HEX + b"\r\n", b""),
        GOOD.replace(HEX, HEX[:-1]),
        GOOD.replace(HEX, HEX + b"a"),
        GOOD.replace(HEX, HEX[:-1] + b"g"),
        GOOD.replace(HEX, HEX[:-1] + b" a"),
        GOOD.replace(b"\r\n", b"\n"),
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(PeerProtocolError):
        decode(data)


def test_the_largest_announce_fits_and_no_larger_one_is_made() -> None:
    for group in GROUPS:
        most = Announce(65535, tuple(some(MAX_HASHES)), b"c" * MAX_COOKIE)
        assert MAX_SIZE - 52 < len(encode(most, group)) <= MAX_SIZE
        assert decode(encode(most, group)) == most
    for wrong in (
        Announce(1, ()),
        Announce(1, tuple(some(MAX_HASHES + 1))),
        Announce(1, (ONE,), b"c" * (MAX_COOKIE + 1)),
    ):
        with pytest.raises(ValueError, match="too much"):
            encode(wrong, GROUPS[0])


def test_an_announce_of_the_most_bytes_is_read_and_not_of_one_more() -> None:
    padding = MAX_SIZE - len(GOOD) - len(b"X: \r\n")
    longest = GOOD.replace(b"Port", b"X: " + b"x" * padding + b"\r\nPort")
    assert len(longest) == MAX_SIZE
    assert decode(longest).port == 80
    with pytest.raises(PeerProtocolError, match="1401 bytes"):
        decode(longest.replace(b"X: ", b"X: x"))


announces = st.builds(
    Announce,
    st.integers(1, 65535),
    st.lists(
        st.binary(min_size=20, max_size=20).map(InfoHash),
        min_size=1,
        max_size=MAX_HASHES,
        unique=True,
    ).map(tuple),
    st.none() | st.text("0123456789abcdef", max_size=MAX_COOKIE).map(str.encode),
)


@given(announces, st.sampled_from(GROUPS))
def test_what_is_encoded_is_decoded(announce: Announce, group: Address) -> None:
    wire = encode(announce, group)
    assert len(wire) <= MAX_SIZE
    assert decode(wire) == announce


@given(announces, st.lists(st.tuples(st.integers(0, 1400), st.binary(max_size=5)), max_size=4))
def test_mutated_announces_are_read_or_refused(
    announce: Announce, changes: list[tuple[int, bytes]]
) -> None:
    data = encode(announce, GROUPS[0])
    for place, inserted in changes:
        data = data[:place] + inserted + data[place + 2 :]
    _refused_or_sound(data)


@given(st.binary(max_size=2000))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    _refused_or_sound(data)
    _refused_or_sound(b"BT-SEARCH * HTTP/1.1\r\n" + data + b"\r\n\r\n")


def _refused_or_sound(data: bytes) -> None:
    try:
        found = decode(data)
    except PeerProtocolError:
        return
    assert 0 < found.port < 65536
    assert 0 < len(set(found.info_hashes)) == len(found.info_hashes)
    assert all(len(info_hash) == 20 for info_hash in found.info_hashes)


# -- what is announced when -----------------------------------------------------------------------


def test_a_torrent_is_announced_soon_once_more_and_then_every_five_minutes() -> None:
    subject = Schedule(CONFIG, [], 100.0)
    assert subject.next_time() is None
    assert subject.take(100.0) == []
    subject.add(ONE, 100.0)
    times = []
    for _ in range(5):
        due = subject.next_time()
        assert due is not None
        assert subject.take(due - 0.1) == []
        assert subject.take(due) == [ONE]
        times.append(due)
    assert times == [101.0, 161.0, 461.0, 761.0, 1061.0]
    subject.remove(ONE)
    assert subject.next_time() is None
    assert subject.take(1e9) == []


def test_those_that_are_added_together_are_announced_together() -> None:
    subject = Schedule(CONFIG, some(3), 0.0)
    subject.add(TWO, 0.5)
    subject.add(TWO, 0.9)  # already
    assert subject.take(1.5) == [*some(3), TWO]
    assert subject.next_time() == 61.5


def test_never_two_datagrams_within_a_minute() -> None:
    subject = Schedule(CONFIG, [ONE], 0.0)
    assert subject.take(1.0) == [ONE]
    subject.add(TWO, 2.0)
    assert subject.next_time() == 61.0
    assert subject.take(60.9) == []
    assert subject.take(61.0) == [TWO, ONE]


def test_what_could_not_be_sent_is_tried_again_soon() -> None:
    subject = Schedule(CONFIG, [ONE, TWO], 0.0)
    taken = subject.take(1.0)
    subject.remove(TWO)
    subject.unsent(taken, 1.0)
    assert subject.next_time() == 1.0 + CONFIG.retry
    assert subject.take(1.0 + CONFIG.retry) == [ONE]
    assert subject.next_time() == 66.0


def test_an_interface_that_comes_back_is_not_announced_on_within_a_minute() -> None:
    before = Schedule(CONFIG, [ONE], 0.0)
    assert before.take(1.0) == [ONE]
    subject = Schedule(CONFIG, [ONE], 5.0, before.free_at)
    assert subject.next_time() == 61.0
    assert subject.take(60.0) == []


def test_of_many_torrents_the_new_come_first_and_each_has_its_turn() -> None:
    many = some(200)
    subject = Schedule(CONFIG, many, 0.0)
    said: dict[InfoHash, list[float]] = {info_hash: [] for info_hash in many}
    now = 1.0
    for turn in range(40):
        if turn == 20:
            subject.add(ONE, now)
            now += 1.0
        taken = subject.take(now)
        assert len(taken) == MAX_HASHES
        if turn <= 20:
            assert (taken[0] == ONE) == (turn == 20)
        for info_hash in taken:
            said.setdefault(info_hash, []).append(now)
        due = subject.next_time()
        assert due == now + CONFIG.least
        now = due
    new = said.pop(ONE)
    assert new[:1] == [1202.0]
    assert len(new) >= 2
    assert {len(times) for times in said.values()} <= {4, 5, 6}


@given(st.lists(st.tuples(st.integers(0, 60), seconds(0, 200)), max_size=60))
def test_whatever_comes_and_goes_the_rates_are_kept(steps: list[tuple[int, float]]) -> None:
    subject, now, last = Schedule(CONFIG, [], 0.0), 0.0, -1e9
    known: dict[InfoHash, float] = {}
    for number, pause in steps:
        info_hash = some(1, number)[0]
        if info_hash in known and number % 3 == 0:
            subject.remove(info_hash)
            del known[info_hash]
        else:
            subject.add(info_hash, now)
            known.setdefault(info_hash, -1e9)
        now += pause
        due = subject.next_time()
        taken = subject.take(now)
        assert bool(taken) == (due is not None and due <= now)
        if taken:
            assert now - last >= CONFIG.least
            assert len(taken) <= MAX_HASHES
            assert set(taken) <= known.keys()
            last = now


# -- what is heard --------------------------------------------------------------------------------


def test_a_peer_is_where_its_datagram_came_from_at_the_port_it_says() -> None:
    subject = Hearing(CONFIG, COOKIE)
    heard = subject.datagram(datagram(ONE, TWO, port=80), FROM, 0.0)
    assert heard == (Address("192.168.1.7", 80), [ONE, TWO])
    other = Address("fd00::7", 6771)
    assert subject.datagram(datagram(ONE), other, 0.0) == (Address("fd00::7", 6881), [ONE])


def test_what_was_said_just_before_is_not_told_again() -> None:
    subject = Hearing(CONFIG, COOKIE)
    told = [
        subject.datagram(datagram(*info_hashes, port=port), FROM, now)
        for now, port, info_hashes in [
            (0.0, 80, [ONE]),
            (2.0, 80, [ONE, TWO]),
            (4.0, 81, [ONE]),
            (29.0, 80, [ONE]),
            (30.0, 80, [ONE, TWO]),
            (59.0, 80, [ONE]),
            (60.0, 80, [ONE]),
        ]
    ]
    assert [one and one[1] for one in told] == [[ONE], [TWO], [ONE], [], [ONE], [], [ONE]]


def test_our_own_announce_is_dropped() -> None:
    subject = Hearing(CONFIG, COOKIE)
    assert subject.datagram(datagram(ONE, cookie=COOKIE), FROM, 0.0) is None
    assert subject.peers(ONE, 0.0) == []
    assert subject.datagram(datagram(ONE, cookie=COOKIE[:-1]), FROM, 0.0) is not None
    assert subject.datagram(datagram(TWO), FROM, 0.0) is not None


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0", "224.0.0.1", "ff02::1"])
def test_no_peer_is_at_an_address_like_this(host: str) -> None:
    with pytest.raises(PeerProtocolError, match="where nobody"):
        Hearing(CONFIG, COOKIE).datagram(datagram(ONE), Address(host, 6771), 0.0)


def test_a_host_that_sends_too_much_is_not_heard_for_a_while() -> None:
    subject = Hearing(LsdConfig(host_rate=2.0, host_burst=10), COOKIE)
    heard = [subject.datagram(datagram(ONE), FROM, 0.0) for _ in range(20)]
    assert [one is not None for one in heard] == [True] * 10 + [False] * 10
    other = FROM._replace(host="192.168.1.8")
    assert subject.datagram(datagram(ONE), other, 0.0) is not None
    assert subject.datagram(datagram(ONE), FROM, 0.4) is None
    assert subject.datagram(datagram(ONE), FROM, 0.6) is not None
    later = [subject.datagram(datagram(ONE), FROM, 1e6) for _ in range(11)]
    assert [one is not None for one in later] == [True] * 10 + [False]


def test_malformed_announces_count_as_well() -> None:
    subject = Hearing(LsdConfig(host_rate=1.0, host_burst=3), COOKIE)
    for _ in range(3):
        with pytest.raises(PeerProtocolError):
            subject.datagram(b"?", FROM, 0.0)
    assert subject.datagram(b"?", FROM, 0.0) is None


def test_all_hosts_together_are_bounded() -> None:
    subject = Hearing(LsdConfig(rate=1.0, burst=30, max_hosts=5), COOKIE)
    heard = 0
    for number in range(100):
        source = FROM._replace(host=f"192.168.2.{number}")
        heard += subject.datagram(datagram(ONE), source, 0.0) is not None
        assert len(subject._hosts) <= 5
    assert heard == 30
    assert subject.datagram(datagram(ONE), FROM, 1.0) is not None


def test_what_was_heard_is_remembered_for_torrents_that_are_added_later() -> None:
    subject = Hearing(CONFIG, COOKIE)
    subject.datagram(datagram(ONE), FROM, 0.0)
    subject.datagram(datagram(ONE, TWO), FROM._replace(host="192.168.1.8"), 600.0)
    first, second = Address("192.168.1.7", 6881), Address("192.168.1.8", 6881)
    assert subject.peers(ONE, 899.0) == [first, second]
    assert subject.peers(TWO, 899.0) == [second]
    subject.datagram(datagram(ONE), FROM, 899.5)  # once more
    assert subject.peers(ONE, 1000.0) == [second, first]
    assert subject.peers(ONE, 1500.0) == [first]
    assert subject.peers(ONE, 1800.0) == []


def test_what_is_remembered_is_bounded_for_each_host_and_in_all() -> None:
    config = LsdConfig(max_heard=10, max_heard_of_host=4)
    subject = Hearing(config, COOKIE)
    subject.datagram(datagram(*some(9)), FROM, 0.0)
    kept = [bool(subject.peers(info_hash, 0.0)) for info_hash in some(9)]
    assert kept == [True] * 4 + [False] * 5
    for number in range(20, 24):
        subject.datagram(datagram(*some(4)), FROM._replace(host=f"192.168.1.{number}"), 1.0)
    assert sum(len(subject.peers(info_hash, 1.0)) for info_hash in some(9)) == 10
    assert FROM.host not in {peer.host for peer in subject.peers(some(1)[0], 1.0)}
    subject.datagram(datagram(TWO), FROM, 2.0)  # its place is free again
    assert subject.peers(TWO, 2.0) == [Address(FROM.host, 6881)]
    assert subject.peers(TWO, 1e6) == []
    assert not subject._kept


def test_when_the_network_is_back_all_is_announced_as_if_it_were_new() -> None:
    subject = Schedule(CONFIG, [ONE, TWO], 0.0)
    assert subject.take(CONFIG.gather) == [ONE, TWO]
    again = CONFIG.gather + CONFIG.least
    assert subject.take(again) == [ONE, TWO]
    later = again + CONFIG.least
    assert subject.take(later) == []
    subject.begin_again(later)
    assert subject.next_time() == later + CONFIG.gather
    assert subject.take(later + CONFIG.gather) == [ONE, TWO]
    subject.begin_again(later + 10)  # but never more often than that
    assert subject.next_time() == later + CONFIG.gather + CONFIG.least
