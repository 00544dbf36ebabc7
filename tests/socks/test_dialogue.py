"""What is said until there is a UDP association, and what liars get."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dht_torrent.errors import SocksError
from dht_torrent.ids import Address, HostPort
from dht_torrent.socks.dialogue import MAX_REPLY, REASONS, Dialogue

REQUEST = bytes.fromhex("05 03 00 01 00000000 0000")
"""RFC 1928: version, UDP ASSOCIATE, reserved, and from where: not known."""
DONE = bytes.fromhex("05 00 00 01 0a000001 1f90")


def test_without_a_password_two_messages_are_enough() -> None:
    subject = Dialogue()
    assert subject.begin() == bytes.fromhex("05 01 00")
    assert subject.receive(bytes.fromhex("05 00")) == REQUEST
    assert subject.relay is None
    assert subject.receive(DONE) == b""
    assert subject.relay == Address("10.0.0.1", 8080)


def test_user_name_and_password_are_said_as_rfc_1929_has_them() -> None:
    subject = Dialogue("me", "sécret")
    assert subject.begin() == bytes.fromhex("05 02 00 02")
    said = subject.receive(bytes.fromhex("05 02"))
    assert said == b"\x01\x02me\x07s\xc3\xa9cret"
    assert subject.receive(bytes.fromhex("01 00")) == REQUEST
    subject.receive(DONE)
    assert subject.relay == Address("10.0.0.1", 8080)


def test_a_proxy_may_do_without_the_password_that_we_have() -> None:
    subject = Dialogue("me", "secret")
    assert subject.receive(bytes.fromhex("05 00")) == REQUEST


@pytest.mark.parametrize(
    ("reply", "relay"),
    [
        ("05 00 00 04 20010db8000000000000000000000007 0050", Address("2001:db8::7", 80)),
        ("05 00 00 03 03 612e62 0050", HostPort("a.b", 80)),
        ("05 00 00 01 00000000 0050", Address("0.0.0.0", 80)),
    ],
)
def test_the_relay_may_be_any_kind_of_address(reply: str, relay: object) -> None:
    subject = Dialogue()
    subject.receive(bytes.fromhex("05 00"))
    subject.receive(bytes.fromhex(reply))
    assert subject.relay == relay


@pytest.mark.parametrize(
    ("credentials", "answers", "why"),
    [
        ((), ["05 ff"], "wants a user name and a password"),
        ((), ["05 02"], "another authentication"),
        ((), ["05 01"], "another authentication"),
        (("me", "x"), ["05 ff"], "another authentication"),
        (("me", "x"), ["05 01"], "another authentication"),
        (("me", "x"), ["05 02", "01 01"], "refuses our user name and password"),
        (("me", "x"), ["05 02", "01 ff"], "refuses our user name and password"),
        (("me", "x"), ["05 02", "05 00"], "not a SOCKS5 proxy"),
        ((), ["04 00"], "not a SOCKS5 proxy"),
        ((), ["48 54 54 50"], "not a SOCKS5 proxy"),
        ((), ["05 00", "04 00"], "not a SOCKS5 proxy"),
        ((), ["05 00", "05 00 01"], "not a SOCKS5 proxy"),
        ((), ["05 00", "05 00 00 02 00"], "type of an address"),
        ((), ["05 00", "05 00 00 03 00"], "no length"),
    ],
)
def test_another_answer_ends_it_with_one_line(
    credentials: tuple[str, ...], answers: list[str], why: str
) -> None:
    subject = Dialogue(*credentials)
    *before, last = answers
    for answer in before:
        subject.receive(bytes.fromhex(answer))
    with pytest.raises(SocksError, match=why) as caught:
        subject.receive(bytes.fromhex(last))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("code", [*REASONS, 9, 255])
def test_a_refusal_says_its_reason(code: int) -> None:
    subject = Dialogue()
    subject.receive(bytes.fromhex("05 00"))
    with pytest.raises(SocksError) as caught:
        subject.receive(bytes([5, code]))  # as some proxies hang up after that
    assert str(caught.value) == f"the proxy refuses UDP: {REASONS.get(code, f'error {code}')}"


@pytest.mark.parametrize(
    ("user", "password"), [("", "x"), ("x", ""), ("x" * 256, "x"), ("x", "é" * 128)]
)
def test_names_and_passwords_have_a_length_of_one_byte(user: str, password: str) -> None:
    with pytest.raises(ValueError, match="255 bytes"):
        Dialogue(user, password)


@given(st.lists(st.integers(1, 9), max_size=20), st.booleans())
def test_answers_may_be_cut_anywhere(cuts: list[int], secured: bool) -> None:
    answers = bytes.fromhex("05 02 01 00" if secured else "05 00") + DONE
    whole, sliced = Dialogue("me", "x"), Dialogue("me", "x")
    expected = whole.receive(answers)
    said, at = b"", 0
    for cut in [*cuts, len(answers)]:
        said += sliced.receive(answers[at : at + cut])
        at += cut
    assert said == expected
    assert said.endswith(REQUEST)
    assert sliced.relay == whole.relay == Address("10.0.0.1", 8080)


def test_what_comes_after_the_reply_changes_nothing_and_is_not_kept() -> None:
    subject = Dialogue()
    subject.receive(bytes.fromhex("05 00"))
    assert subject.receive(DONE + b"more") == b""
    for _ in range(100):
        assert subject.receive(b"\x05\x05" * 1000) == b""
    assert subject.relay == Address("10.0.0.1", 8080)
    assert subject.pending == b""


@given(st.lists(st.binary(max_size=MAX_REPLY), max_size=6), st.booleans())
@example([bytes.fromhex("05 00"), b"\x05\0\0\x03\xff" + b"a" * 256], False)
def test_any_answers_end_it_or_are_understood(answers: list[bytes], secured: bool) -> None:
    subject = Dialogue("me", "x") if secured else Dialogue()
    try:
        for answer in answers:
            subject.receive(answer)
            assert len(subject.pending) <= MAX_REPLY
    except SocksError:
        assert subject.relay is None
