"""BEP 44: its own examples word for word, and all that a store must refuse."""

from __future__ import annotations

import contextlib
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent import bencode
from dht_torrent.bencode import Value
from dht_torrent.config import DhtConfig
from dht_torrent.dht.items import (
    ImmutableItem,
    ItemStore,
    MutableItem,
    Put,
    Refusal,
    SigningKey,
    immutable,
    is_genuine,
    mutable_target,
    parse_put,
    parse_reply,
    sign,
    signed_buffer,
    verify,
)
from dht_torrent.errors import InputError, KrpcError
from dht_torrent.ids import Address, NodeId

CONFIG = DhtConfig()
OWN = NodeId(bytes(20))
SOURCE = Address("11.1.1.1", 6881)
LOCAL = Address("127.0.0.1", 6881)
KEY = SigningKey(b"\x01" * 32)
OTHER_KEY = SigningKey(b"\x02" * 32)

HELLO = b"12:Hello World!"
BEP_KEY = bytes.fromhex("77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548")
BEP_SIGNATURE = bytes.fromhex(
    "305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff"
    "1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01"
)
BEP_SALTED = bytes.fromhex(
    "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17d"
    "df9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08"
)


def store(**changes: float) -> ItemStore:
    return ItemStore(replace(CONFIG, **changes))  # type: ignore[arg-type]


def put(
    it: ItemStore,
    item: ImmutableItem | MutableItem,
    source: Address = SOURCE,
    now: float = 0,
    cas: int | None = None,
) -> int | None:
    """The code of the refusal; None when it was stored."""
    refusal = it.put(Put(item, cas), source, OWN, now)
    return refusal.code if refusal is not None else None


# --- the BEP's examples --------------------------------------------------------------------------


def test_the_first_example_mutable() -> None:
    assert signed_buffer(HELLO, 1) == b"3:seqi1e1:v12:Hello World!"
    assert mutable_target(BEP_KEY).hex() == "4a533d47ec9c7d95b1ad75f576cffc641853b750"
    assert verify(BEP_KEY, BEP_SIGNATURE, signed_buffer(HELLO, 1))


def test_the_second_example_mutable_with_salt() -> None:
    assert signed_buffer(HELLO, 1, b"foobar") == b"4:salt6:foobar3:seqi1e1:v12:Hello World!"
    assert mutable_target(BEP_KEY, b"foobar").hex() == "411eba73b6f087ca51a3795d9c8c938d365e32c1"
    assert verify(BEP_KEY, BEP_SALTED, signed_buffer(HELLO, 1, b"foobar"))


def test_the_third_example_immutable() -> None:
    item = immutable(b"Hello World!")
    assert item.encoded == HELLO
    assert item.target.hex() == "e5f96f6f38320f0f33959cb4d3d656452117aadb"


def test_the_examples_can_be_stored_and_got() -> None:
    it = store()
    for item in (
        MutableItem(HELLO, BEP_KEY, b"", 1, BEP_SIGNATURE),
        MutableItem(HELLO, BEP_KEY, b"foobar", 1, BEP_SALTED),
        immutable(b"Hello World!"),
    ):
        assert put(it, item) is None
        assert it.get(item.target, 1) == item
    assert len(it) == 3


# --- signatures ----------------------------------------------------------------------------------


@given(st.binary(max_size=200), st.integers(0, 2**63 - 1), st.binary(max_size=64))
def test_what_we_sign_is_genuine(value: bytes, seq: int, salt: bytes) -> None:
    item = sign(KEY, value, seq, salt)
    assert is_genuine(item)
    assert item.value == value
    assert item.target == mutable_target(KEY.public, salt)


@given(st.integers(0, 8 * 64 - 1))
def test_no_bit_of_a_signature_can_be_changed(bit: int) -> None:
    flipped = bytearray(BEP_SIGNATURE)
    flipped[bit // 8] ^= 1 << bit % 8
    assert not verify(BEP_KEY, bytes(flipped), signed_buffer(HELLO, 1))


def test_a_signature_fits_one_seq_salt_value_and_key_only() -> None:
    item = sign(KEY, b"value", 5, b"salt")
    assert is_genuine(item)
    assert not is_genuine(replace(item, seq=6))
    assert not is_genuine(replace(item, salt=b"Salt"))
    assert not is_genuine(replace(item, encoded=b"5:Value"))
    assert not is_genuine(replace(item, key=OTHER_KEY.public))


def test_a_signature_with_s_not_reduced_is_refused() -> None:
    order = 2**252 + 27742317777372353535851937790883648493
    s = int.from_bytes(BEP_SIGNATURE[32:], "little") + order
    altered = BEP_SIGNATURE[:32] + s.to_bytes(32, "little")
    assert not verify(BEP_KEY, altered, signed_buffer(HELLO, 1))


PRIME = 2**255 - 19


@pytest.mark.parametrize("sign_bit", [0, 1 << 255])
@pytest.mark.parametrize(
    "y",
    [
        0,
        1,
        PRIME - 1,
        PRIME,
        PRIME + 1,
        int.from_bytes(
            bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
            "little",
        ),
        int.from_bytes(
            bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
            "little",
        ),
    ],
)
def test_a_key_of_small_order_signs_nothing(y: int, sign_bit: int) -> None:
    """Under the neutral element as a key, R = B*s with s = 0 would fit every message."""
    key = (y | sign_bit).to_bytes(32, "little")
    for first in (key, (1).to_bytes(32, "little")):
        assert not verify(key, first + bytes(32), b"anything")


@pytest.mark.parametrize("key", [b"", b"x" * 31, b"x" * 33, b"\xff" * 32])
def test_a_malformed_key_is_not_an_error(key: bytes) -> None:
    assert not verify(key, BEP_SIGNATURE, b"anything")
    assert not verify(BEP_KEY, BEP_SIGNATURE[:63], signed_buffer(HELLO, 1))


def test_a_seed_has_32_bytes() -> None:
    with pytest.raises(InputError, match="32 bytes"):
        SigningKey(bytes(64))


# --- sizes and bounds ----------------------------------------------------------------------------


def test_a_value_has_a_thousand_bytes_at_most() -> None:
    it = store()
    assert len(immutable(b"x" * 996).encoded) == 1000
    assert put(it, immutable(b"x" * 996)) is None
    assert put(it, ImmutableItem(bencode.encode(b"x" * 997))) == 205
    with pytest.raises(InputError, match="1000"):
        immutable(b"x" * 997)
    assert len(it) == 1


def test_a_salt_has_64_bytes_at_most() -> None:
    it = store()
    assert put(it, sign(KEY, b"v", 1, b"s" * 64)) is None
    long = MutableItem(
        b"1:v", KEY.public, b"s" * 65, 1, KEY.sign(signed_buffer(b"1:v", 1, b"s" * 65))
    )
    assert put(it, long) == 207
    with pytest.raises(InputError, match="64"):
        sign(KEY, b"v", 1, b"s" * 65)


@pytest.mark.parametrize("seq", [-1, 2**63])
def test_a_seq_out_of_bounds_is_not_signed(seq: int) -> None:
    with pytest.raises(InputError, match="sequence number"):
        sign(KEY, b"v", seq)


def test_the_highest_seq_is_stored() -> None:
    it = store()
    assert put(it, sign(KEY, b"v", 2**63 - 1)) is None
    assert put(it, sign(KEY, b"w", 2**63 - 2)) == 302


def test_a_value_too_deep_for_a_datagram_is_not_made() -> None:
    deep: Value = b"x"
    for _ in range(8):
        deep = [deep]
    immutable(deep)
    with pytest.raises(InputError, match="nested"):
        immutable([deep])


def arguments(**changes: Value | None) -> dict[bytes, Value]:
    item = sign(KEY, b"v", 7, b"salt")
    fields: dict[bytes, Value] = {**item.fields(), b"salt": b"salt", b"token": b"t", b"id": OWN}
    for name, value in changes.items():
        if value is None:
            del fields[name.encode()]
        else:
            fields[name.encode()] = value
    return fields


def test_a_put_is_read() -> None:
    got = parse_put(arguments(cas=6))
    assert isinstance(got, Put)
    assert got.item == sign(KEY, b"v", 7, b"salt")
    assert got.cas == 6
    simple = parse_put({b"v": b"v", b"token": b"t"})
    assert simple == Put(immutable(b"v"), None)


@pytest.mark.parametrize(
    "changes",
    [
        {"v": None},
        {"k": None},
        {"sig": None},
        {"seq": None},
        {"k": b"x" * 31},
        {"k": 5},
        {"sig": b"x" * 65},
        {"sig": []},
        {"seq": b"7"},
        {"seq": -1},
        {"seq": -(2**63)},
        {"salt": 5},
        {"salt": []},
        {"cas": b"6"},
        {"cas": {}},
    ],
)
def test_a_malformed_put_gets_203(changes: dict[str, Value | None]) -> None:
    refusal = parse_put(arguments(**changes))
    assert isinstance(refusal, Refusal)
    assert refusal.code == 203


# --- what replaces what --------------------------------------------------------------------------


def test_a_bad_signature_gets_206() -> None:
    it = store()
    item = sign(KEY, b"v", 1)
    assert put(it, replace(item, signature=bytes(64))) == 206
    assert put(it, item) is None
    # Also when what is stored differs in nothing else.
    assert put(it, replace(item, signature=bytes(64))) == 206
    assert it.get(item.target, 0) == item


def test_a_higher_seq_replaces_and_a_lower_gets_302() -> None:
    it = store()
    first, second = sign(KEY, b"first", 1), sign(KEY, b"second", 5)
    assert put(it, first) is None
    assert put(it, second) is None
    assert put(it, first) == 302
    assert it.get(first.target, 0) == second


def test_the_same_seq_with_another_value_gets_302_and_the_first_stays() -> None:
    it = store()
    first, second = sign(KEY, b"first", 1), sign(KEY, b"other", 1)
    assert put(it, first) is None
    assert put(it, second) == 302
    assert it.get(first.target, 0) == first


def test_the_same_item_again_refreshes_it() -> None:
    it = store()
    for item in (sign(KEY, b"v", 1), immutable(b"v")):
        assert put(it, item) is None
        assert put(it, item, now=7000) is None
        assert it.get(item.target, 14_000) == item
        assert it.get(item.target, 14_201) is None


def test_an_item_is_forgotten_after_two_hours() -> None:
    it = store()
    item = immutable(b"v")
    put(it, item)
    assert it.get(item.target, 7199) == item
    assert it.get(item.target, 7201) is None
    it.expire(7201)
    assert len(it) == 0


def test_cas_must_name_the_seq_that_is_there() -> None:
    it = store()
    assert put(it, sign(KEY, b"first", 4), cas=99) is None  # nothing stored: it means nothing
    assert put(it, sign(KEY, b"second", 5), cas=3) == 301
    assert put(it, sign(KEY, b"second", 5), cas=4) is None
    assert put(it, sign(KEY, b"third", 6), cas=4) == 301


def test_of_two_writers_with_cas_one_wins() -> None:
    it = store()
    put(it, sign(KEY, b"start", 1))
    codes = [put(it, sign(KEY, value, 2), cas=1) for value in (b"one", b"two")]
    assert codes == [None, 301]
    assert it.get(mutable_target(KEY.public), 0) == sign(KEY, b"one", 2)


def test_items_of_other_salts_are_other_items() -> None:
    it = store()
    items = [sign(KEY, b"v%d" % n, 1, b"salt%d" % n) for n in range(5)]
    assert [put(it, item) for item in items] == [None] * 5
    assert [it.get(item.target, 0) for item in items] == items


# --- floods --------------------------------------------------------------------------------------


def test_one_public_ip_may_store_ten_new_items_in_ten_minutes() -> None:
    it = store()
    codes = [put(it, immutable(n), Address("11.1.1.1", 1000 + n)) for n in range(1000)]
    assert codes[:10] == [None] * 10
    assert set(codes[10:]) == {202}
    assert put(it, immutable(3)) is None  # what it has already may be refreshed
    assert put(it, immutable(10), Address("11.1.1.2", 5)) is None
    assert put(it, immutable(11), now=601) is None


def test_local_hosts_have_no_quota() -> None:
    it = store()
    assert {put(it, immutable(n), LOCAL) for n in range(300)} == {None}


def test_a_full_store_keeps_what_is_near_and_what_many_put() -> None:
    it = store(max_items=50)
    rng = random.Random(3)
    seen = [immutable(rng.randbytes(10)) for _ in range(2000)]
    near_ones = sorted(seen, key=lambda item: item.target)[:10]
    popular = max(seen, key=lambda item: item.target)
    for number in range(200):
        put(it, popular, Address(f"13.0.{number}.1", 5))
    for number, item in enumerate(seen):
        put(it, item, Address(f"12.{number >> 8}.{number & 255}.1", 5))
    assert len(it) == 50
    assert it.get(popular.target, 0) == popular
    assert all(it.get(item.target, 0) == item for item in near_ones)
    far = max((s for s in seen if s is not popular), key=lambda item: item.target)
    assert put(it, far, Address("14.1.1.1", 5)) == 202


def test_signatures_are_verified_at_a_bounded_rate() -> None:
    it = store(item_verify_rate=5.0)
    forged = [replace(sign(KEY, b"v", n), signature=bytes(64)) for n in range(20)]
    codes = [put(it, item) for item in forged]
    assert codes == [206] * 5 + [202] * 15
    assert put(it, forged[0], now=1) == 206
    # What is here already needs no verifying.
    good = sign(KEY, b"v", 1)
    assert put(it, good, now=1) is None
    assert [put(it, good, now=1) for _ in range(20)] == [None] * 20


def test_nothing_is_capped_in_a_lab_without_limits() -> None:
    it = ItemStore(replace(CONFIG, unlimited=True))
    assert {put(it, sign(KEY, b"v", 1, b"%d" % n)) for n in range(100)} == {None}


# --- what a get brings ---------------------------------------------------------------------------


def test_a_reply_gives_the_item_it_holds() -> None:
    fixed, moving = immutable([b"a", 1]), sign(KEY, {b"a": 1}, 3, b"s")
    assert parse_reply(fixed.fields(), fixed.target) == fixed
    assert parse_reply(moving.fields(), moving.target, b"s") == moving
    assert parse_reply({b"seq": 3}, moving.target, b"s") is None


@pytest.mark.parametrize(
    "changes",
    [
        {"v": b"other"},
        {"k": OTHER_KEY.public},
        {"k": 1},
        {"sig": bytes(64)},
        {"sig": b""},
        {"seq": 8},
        {"seq": -1},
        {"seq": b"7"},
        {"k": None},
        {"seq": None},
    ],
)
def test_a_reply_that_lies_raises(changes: dict[str, Value | None]) -> None:
    target = mutable_target(KEY.public, b"salt")
    assert parse_reply(arguments(), target, b"salt") == sign(KEY, b"v", 7, b"salt")
    with pytest.raises(KrpcError):
        parse_reply(arguments(**changes), target, b"salt")


def test_a_genuine_item_of_another_salt_raises() -> None:
    with pytest.raises(KrpcError, match="another target"):
        parse_reply(arguments(), mutable_target(KEY.public, b"salt"), b"pepper")


def test_a_reply_longer_than_a_put_may_be_raises() -> None:
    big = ImmutableItem(bencode.encode(b"x" * 1100))
    with pytest.raises(KrpcError, match="thousand"):
        parse_reply(big.fields(), big.target)


VALUES: st.SearchStrategy[Value] = st.recursive(
    st.binary(max_size=40) | st.integers(-(2**63), 2**63 - 1),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.binary(max_size=8), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([b"v", b"k", b"sig", b"seq", b"salt", b"cas"]), VALUES))
def test_no_arguments_make_a_put_fail_but_by_refusal(args: dict[bytes, Value]) -> None:
    got = parse_put(args)
    if isinstance(got, Put):
        store().put(got, SOURCE, OWN, 0)


@given(st.dictionaries(st.sampled_from([b"v", b"k", b"sig", b"seq"]), VALUES))
def test_no_reply_fails_but_by_its_own_error(body: dict[bytes, Value]) -> None:
    with contextlib.suppress(KrpcError):
        assert parse_reply(body, bytes(20)) is None


# -- edges ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seq", [0, 2**63 - 1])
def test_the_lowest_and_the_highest_seq_are_put_stored_and_got(seq: int) -> None:
    item = sign(KEY, b"v", seq)
    parsed = parse_put({**item.fields(), b"token": b"t"})
    assert isinstance(parsed, Put)
    assert parsed.target == item.target
    it = store()
    assert put(it, item) is None
    assert parse_reply(item.fields(), item.target) == item


def test_a_reply_with_a_value_of_exactly_a_thousand_bytes_is_taken() -> None:
    longest = immutable(b"x" * 996)
    assert len(longest.encoded) == 1000
    assert parse_reply(longest.fields(), longest.target) == longest


def test_a_key_or_a_signature_of_another_length_verifies_nothing() -> None:
    good = KEY.sign(b"message")
    assert verify(KEY.public, good, b"message")
    assert not verify(KEY.public[:31], good, b"message")
    assert not verify(KEY.public + b"\0", good, b"message")
    assert not verify(KEY.public, good[:63], b"message")
    assert not verify(KEY.public, good + b"\0", b"message")


def test_what_was_put_again_outlives_what_was_put_between() -> None:
    it = store()
    first, second = immutable(b"first"), immutable(b"second")
    put(it, first, now=0)
    put(it, second, now=10)
    put(it, first, now=20)
    it.expire(CONFIG.item_ttl + 15)
    assert len(it) == 1
    assert it.get(first.target, CONFIG.item_ttl + 15) == first
    assert it.get(first.target, CONFIG.item_ttl + 20) is None


def test_expired_items_make_room_for_new_ones() -> None:
    it = store(max_items=3)
    near = sorted((immutable(b"%d" % n) for n in range(300)), key=lambda item: item.target)
    for item in near[:3]:
        assert put(it, item, LOCAL) is None
    far = near[-1]
    assert put(it, far, LOCAL, now=1) == 202
    assert put(it, far, LOCAL, now=CONFIG.item_ttl) is None


def test_an_item_put_by_many_hosts_outlasts_a_nearer_one_put_by_one() -> None:
    """Each host counts once, however often it puts."""
    rng = random.Random(8)
    items = sorted((immutable(rng.randbytes(8)) for _ in range(100)), key=lambda item: item.target)
    near, far = items[0], items[-1]
    for hosts, stays in ((1, False), (400, True)):
        it = store(max_items=1)
        for turn in range(400):
            put(it, far, Address(f"13.{turn % hosts >> 8}.{turn % hosts & 255}.1", 5))
        assert put(it, near, Address("14.1.1.1", 5)) == (202 if stays else None)


def test_the_right_to_verify_grows_back_with_time_and_no_further_than_a_second() -> None:
    it = store(item_verify_rate=5.0)
    forged = [replace(sign(KEY, b"v", n), signature=bytes(64)) for n in range(40)]
    assert [put(it, item) for item in forged[:6]] == [206] * 5 + [202]
    assert [put(it, item, now=0.5) for item in forged[:3]] == [206, 206, 202]
    assert [put(it, item, now=0.75) for item in forged[:2]] == [206, 202]
    assert [put(it, item, now=100.0) for item in forged[:6]] == [206] * 5 + [202]
