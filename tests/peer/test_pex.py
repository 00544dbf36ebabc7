"""Peer exchange: what is told, what is heard, and how often."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent import bencode
from dht_torrent.errors import PeerProtocolError
from dht_torrent.ids import Address
from dht_torrent.peer.extension import ExtensionMessage
from dht_torrent.peer.extensions import OUR_IDS, decode_message
from dht_torrent.peer.pex import (
    BURST,
    INTERVAL,
    MAX_ENTRIES,
    PexFlags,
    PexHearing,
    PexMessage,
    PexTelling,
)

NONE = PexFlags(0)
STRANGER = Address("9.9.9.9", 6881)
NEIGHBOUR = Address("192.168.1.9", 6881)
SAME_MACHINE = Address("127.0.0.1", 5000)


def far(number: int) -> Address:
    return Address(f"8.{number >> 16}.{number >> 8 & 255}.{number & 255}", 6881)


def six(number: int) -> Address:
    return Address(f"2a00:{number + 1:x}::1", 6881)


def decode(payload: bytes) -> PexMessage:
    message = decode_message(OUR_IDS["ut_pex"], payload, max_metadata=1)
    assert isinstance(message, PexMessage)
    return message


def message(*added: Address, dropped: tuple[Address, ...] = ()) -> PexMessage:
    return PexMessage(dict.fromkeys(added, NONE), dropped)


usable = (
    st.one_of(st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(lambda ip: ip.compressed))
    .flatmap(lambda host: st.builds(Address, st.just(host), st.integers(1, 65535)))
    .filter(lambda address: address.is_usable)
)


# -- bytes ----------------------------------------------------------------------------------------


def test_the_lists_are_those_of_bep_11() -> None:
    said = PexMessage(
        {
            Address("1.2.3.4", 0x1AE1): PexFlags.SEED | PexFlags.REACHABLE,
            Address("5.6.7.8", 80): NONE,
            Address("2001:db8::1", 0x1AE1): PexFlags.UTP,
        },
        (Address("9.8.7.6", 1), Address("2001:db8::2", 2)),
    )
    payload = (
        b"d5:added12:\x01\x02\x03\x04\x1a\xe1\x05\x06\x07\x08\x00\x507:added.f2:\x12\x00"
        b"6:added618:\x20\x01\x0d\xb8" + bytes(11) + b"\x01\x1a\xe18:added6.f1:\x04"
        b"7:dropped6:\x09\x08\x07\x06\x00\x01"
        b"8:dropped618:\x20\x01\x0d\xb8" + bytes(11) + b"\x02\x00\x02e"
    )
    assert said.payload() == payload
    assert decode(payload) == said
    assert said.extension == "ut_pex"


@given(
    st.dictionaries(usable, st.builds(PexFlags, st.integers(0, 255)), max_size=MAX_ENTRIES),
    st.lists(usable, unique=True, max_size=MAX_ENTRIES),
)
def test_what_is_told_is_what_is_heard(
    added: dict[Address, PexFlags], dropped: list[Address]
) -> None:
    dropped = [address for address in dropped if address not in added]
    heard = decode(PexMessage(added, tuple(dropped)).payload())
    assert heard.added == added
    assert set(heard.dropped) == set(dropped)


@given(st.binary(max_size=400))
def test_any_bytes_are_a_message_or_the_senders_fault(payload: bytes) -> None:
    try:
        heard: ExtensionMessage | None = decode_message(1, payload, max_metadata=1)
    except PeerProtocolError:
        return
    assert isinstance(heard, PexMessage)


lists = st.binary(max_size=120) | st.integers() | st.just([b"x"])


@given(
    st.dictionaries(
        st.sampled_from([b"added", b"added.f", b"added6", b"added6.f", b"dropped", b"dropped6"]),
        lists,
    )
)
def test_any_lists_are_a_message_or_the_senders_fault(entries: dict[bytes, bencode.Value]) -> None:
    try:
        heard = decode(bencode.encode(entries))
    except PeerProtocolError:
        return
    assert len(heard.added) <= MAX_ENTRIES
    assert len(heard.dropped) <= MAX_ENTRIES
    assert all(address.is_usable for address in (*heard.added, *heard.dropped))
    assert not set(heard.added) & set(heard.dropped)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"le",
        b"d5:added5:12345e",
        b"d5:addedi6ee",
        b"d6:added66:123456e",
        b"d7:dropped7:1234567e",
        b"d8:dropped617:12345678901234567e",
        b"d5:added6:1234567:added.f2:\0\0e",
        b"d5:added12:1234567890127:added.f1:\0e",
        b"d5:added6:1234567:added.fi0ee",
        b"d5:added0:7:added.f1:\0e",
        b"d6:added618:1234567890123456788:added6.f2:\0\0e",
        b"d5:added" + b"l" * 200 + b"e" * 200 + b"e",
        b"d5:added6:123456e5:extra",
    ],
)
def test_a_malformed_message_is_the_senders_fault(payload: bytes) -> None:
    with pytest.raises(PeerProtocolError):
        decode(payload)


def test_flags_may_be_left_out_and_keys_come_in_any_order() -> None:
    assert decode(b"d5:added6:\x01\x02\x03\x04\0\x05e").added == {Address("1.2.3.4", 5): NONE}
    heard = decode(b"d7:added.f1:\x025:added6:\x01\x02\x03\x04\0\x053:newi7ee")
    assert heard.added == {Address("1.2.3.4", 5): PexFlags.SEED}


def test_an_empty_message_is_heard_and_tells_nothing() -> None:
    assert decode(b"de") == PexMessage({}, ())


def test_addresses_that_no_peer_can_have_are_passed_over() -> None:
    raw = b"".join(
        [
            Address("0.1.2.3", 5).compact(),
            Address("224.0.0.1", 5).compact(),
            Address("1.2.3.4", 0).compact(),
            far(1).compact(),
        ]
    )
    mapped = bytes(10) + b"\xff\xff\x01\x02\x03\x04\0\x05"
    entries = {b"added": raw, b"dropped": raw, b"added6": mapped, b"dropped6": mapped}
    heard = decode(bencode.encode(dict[bytes, bencode.Value](entries)))
    assert heard == PexMessage({far(1): NONE}, ())


@pytest.mark.parametrize(
    ("fours", "sixes", "heard"),
    [(60, 0, (50, 0)), (0, 60, (0, 50)), (60, 60, (25, 25)), (60, 5, (45, 5)), (5, 60, (5, 45))],
)
def test_fifty_addresses_are_read_of_both_families(
    fours: int, sixes: int, heard: tuple[int, int]
) -> None:
    told = [*map(far, range(fours)), *map(six, range(sixes))]
    added = decode(message(*told).payload()).added
    dropped = decode(message(dropped=tuple(told)).payload()).dropped
    for found in (list(added), list(dropped)):
        assert found == [*map(far, range(heard[0])), *map(six, range(heard[1]))]


# -- hearing --------------------------------------------------------------------------------------


def test_a_message_a_minute_is_heard_for_ever() -> None:
    subject = PexHearing(STRANGER)
    for number in range(1000):
        assert subject.hear(message(far(number)), number * INTERVAL) == message(far(number))


def test_a_message_that_comes_a_little_early_is_heard() -> None:
    subject = PexHearing(STRANGER)
    assert subject.hear(message(far(1)), 7.0)
    assert subject.hear(message(far(2)), 57.0)
    assert subject.hear(message(far(3)), 127.0)


def test_of_messages_that_come_together_one_is_heard() -> None:
    subject = PexHearing(STRANGER)
    assert subject.hear(message(far(1)), 0.0)
    assert [subject.hear(message(far(2)), 0.0) for _ in range(BURST - 1)] == [None] * (BURST - 1)
    with pytest.raises(PeerProtocolError, match="too often"):
        subject.hear(message(far(3)), 0.0)


def messages_until_closed(every: float) -> int:
    subject = PexHearing(STRANGER)
    for number in range(100):
        try:
            subject.hear(PexMessage(), number * every)
        except PeerProtocolError:
            return number + 1
    raise AssertionError("never")


def test_a_message_a_second_ends_the_connection() -> None:
    assert messages_until_closed(every=1.0) == BURST + 1


def test_two_messages_a_minute_end_the_connection_in_the_end() -> None:
    assert messages_until_closed(every=INTERVAL / 2) == 6


LOOPBACK = [Address("127.0.0.1", 80), Address("127.1.2.3", 80), Address("::1", 80)]
PRIVATE = [
    Address(host, 80)
    for host in (
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",
        "fd00::1",
        "fe80::1",
        "fec0::1",
        "64:ff9b::192.168.1.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::1",
        "2002:c0a8:101::1",
    )
]


@pytest.mark.parametrize("speaker", [STRANGER, Address("2a00::1", 1)])
@pytest.mark.parametrize("named", [*LOOPBACK, *PRIVATE])
def test_a_stranger_names_no_host_of_our_network(speaker: Address, named: Address) -> None:
    heard = PexHearing(speaker).hear(message(named, far(1), dropped=(named, far(2))), 0.0)
    assert heard is not None
    assert list(heard.added) == [far(1)]
    assert heard.dropped == (far(2),)


@pytest.mark.parametrize("named", [*PRIVATE, far(1)])
@pytest.mark.parametrize("speaker", [NEIGHBOUR, SAME_MACHINE])
def test_a_neighbour_names_others_of_our_network(speaker: Address, named: Address) -> None:
    heard = PexHearing(speaker).hear(message(named), 0.0)
    assert heard is not None
    assert list(heard.added) == [named]


@pytest.mark.parametrize("named", LOOPBACK)
def test_only_this_machine_names_this_machine(named: Address) -> None:
    for speaker, expected in ((NEIGHBOUR, []), (SAME_MACHINE, [named])):
        heard = PexHearing(speaker).hear(message(named), 0.0)
        assert heard is not None
        assert list(heard.added) == expected


# -- telling --------------------------------------------------------------------------------------


def test_only_news_is_told() -> None:
    subject = PexTelling(STRANGER)
    connected = {far(1): PexFlags.SEED, six(2): NONE}
    assert subject.next(connected, 0.0) == PexMessage(connected, ())
    assert subject.next(connected, 60.0) is None
    connected[far(3)] = NONE
    del connected[far(1)]
    assert subject.next(connected, 60.0) == PexMessage({far(3): NONE}, (far(1),))
    assert subject.next(connected, 120.0) is None
    assert subject.next({}, 120.0) == PexMessage({}, (six(2), far(3)))


def test_nothing_is_told_more_often_than_once_a_minute() -> None:
    subject = PexTelling(STRANGER)
    assert subject.is_due(0.0)
    assert subject.next({}, 0.0) is None  # an empty message is never sent
    assert subject.next({far(1): NONE}, 1.0) is not None
    assert not subject.is_due(60.9)
    assert subject.next({far(2): NONE}, 60.9) is None
    assert subject.is_due(61.0)
    assert subject.next({far(2): NONE}, 61.0) == PexMessage({far(2): NONE}, (far(1),))


def test_fifty_are_told_at_a_time_and_the_others_later() -> None:
    subject = PexTelling(STRANGER)
    connected = {far(number): NONE for number in range(120)}
    told = [subject.next(connected, minute * 60.0) for minute in range(4)]
    assert [len(one.added) if one else 0 for one in told] == [50, 50, 20, 0]
    assert {address for one in told if one for address in one.added} == set(connected)
    gone = [subject.next({}, minute * 60.0) for minute in range(4, 8)]
    assert [len(one.dropped) if one else 0 for one in gone] == [50, 50, 20, 0]


def test_a_peer_is_not_told_of_itself() -> None:
    subject = PexTelling(STRANGER)
    connected = {far(1): NONE, far(2): NONE}
    assert subject.next(connected, 0.0, but=[far(1)]) == PexMessage({far(2): NONE}, ())
    assert subject.next({far(1): NONE}, 60.0, but=[far(1)]) == PexMessage({}, (far(2),))


def test_a_stranger_is_not_told_of_our_network() -> None:
    connected = dict.fromkeys([*LOOPBACK, *PRIVATE, far(1)], NONE)
    assert PexTelling(STRANGER).next(connected, 0.0) == PexMessage({far(1): NONE}, ())
    told = PexTelling(NEIGHBOUR).next(connected, 0.0)
    assert told is not None
    assert set(told.added) == {*PRIVATE, far(1)}
    told = PexTelling(SAME_MACHINE).next(connected, 0.0)
    assert told is not None
    assert set(told.added) == set(connected)


@given(st.integers(0, 2**32))
def test_a_peer_that_reads_all_messages_knows_our_connections(seed: int) -> None:
    rng = random.Random(seed)
    telling, hearing = PexTelling(STRANGER), PexHearing(STRANGER)
    connected: dict[Address, PexFlags] = {}
    known: dict[Address, None] = {}
    now = 0.0
    for _ in range(40):
        now += rng.choice([10.0, 60.0, 90.0])
        for address in rng.sample(list(connected), rng.randint(0, len(connected)) // 2):
            del connected[address]
        for _ in range(rng.randint(0, 30)):
            connected[far(rng.randint(0, 99))] = NONE
        said = telling.next(connected, now)
        if said is None:
            continue
        assert said.added or said.dropped
        assert not set(said.added) & set(said.dropped)
        assert len(said.added) <= MAX_ENTRIES
        assert len(said.dropped) <= MAX_ENTRIES
        heard = hearing.hear(decode(said.payload()), now)
        assert heard is not None
        known |= dict.fromkeys(heard.added)
        for address in heard.dropped:
            del known[address]
    for _ in range(4):
        now += 60.0
        said = telling.next(connected, now)
        if said is not None:
            known |= dict.fromkeys(said.added)
            for address in said.dropped:
                del known[address]
    assert set(known) == set(connected)
