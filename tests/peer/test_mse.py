"""MSE: both sides against each other, against one written by hand, and against those who lie."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dht_torrent.errors import HandshakeError, LocalProtocolError
from dht_torrent.peer import mse
from dht_torrent.peer.mse import LONGEST, PRIME, Method, MseInitiator, MseResponder, request_hash
from tests.helpers.raw_mse import Arc4, Dialler, public, secret_of, sha1, xor

SKEY, OTHER = b"\xaa" * 20, b"\xbb" * 20
XA, XB = (int.from_bytes(bytes([byte]) * 20, "big") for byte in (0x11, 0x22))
BOTH = Method.PLAIN | Method.RC4
HELLO = b"\x13BitTorrent protocol" + bytes(8) + SKEY + b"-HW0001-aaaaaaaaaaaa"

YA = bytes.fromhex(
    "3476dc8d123697fcc69e9121618a08514ffa536506df209ce956ad3cf819f76f3fcebc46f4e8be364ec8f1445b9d"
    "bf8a9528ca7bfbc89ad13f28137640a2cfd1055d55d5cc6676d18b410e086631309e95fa7b0dae2b8379186b17ad"
    "3472c755"
)
YB = bytes.fromhex(
    "0816092aa9b6a0bfdd7b86a6bac830dea6c71c4008a1fb53b69dc1c4acd99f8f3cf79d9d9ac411e18b59c0b58146"
    "912e51d0e508d20064b8633a85e20061823d9284b907b2dd0612884e61e9ebb8c9b462eda2f227491a6082bc58d6"
    "a1315c39"
)
S = bytes.fromhex(
    "ef037082d79ae7baeddb00b3ba4f24ec8a79c06c927258e89e01c46f8249187e672c919b9ff29abeb97fd230f630"
    "2fb121a5bad27c4c34e48722446a121d5e213b13e9eeb6dd23716be80c8a1cf31af29589c5245e74b3b8713d6b22"
    "9ce05731"
)
REQ1 = bytes.fromhex("32dd7e3b16e8d7a1b444ea3f4167e202514f9feb")
REQ2_3 = bytes.fromhex("f770bd1f0311a36eeb8902bcf57d003c1963a435")
KEY_A = bytes.fromhex("3411779bcae875baabf87b62334fff54ab21c4e8")
KEY_B = bytes.fromhex("50f5843b479431a8676922fe10f1270ede38746d")
VC_A, VC_B = bytes.fromhex("9c4d2fe499f8f0af"), bytes.fromhex("f27fd82f8ee22362")


class Fixed(random.Random):
    """Draws this private key, and paddings of these lengths, one after the other."""

    def __init__(self, private: int, *pads: int) -> None:
        super().__init__(1)
        self.private = private
        self.pads = list(pads)

    def getrandbits(self, k: int, /) -> int:
        return self.private if k == 160 else super().getrandbits(k)

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        assert (start, stop) == (513, None)
        return self.pads.pop(0)


def initiator(
    *pads: int, skey: bytes = SKEY, initial: bytes = b"", offered: Method = BOTH
) -> MseInitiator:
    return MseInitiator(skey, initial, Fixed(XA, *pads), offered=offered)


def responder(*pads: int, allowed: Method = BOTH, here: Sequence[bytes] = (SKEY,)) -> MseResponder:
    known = {request_hash(one): one for one in here}
    return MseResponder(known.get, Fixed(XB, *pads), allowed=allowed)


def cut(data: bytes, cuts: Iterator[int]) -> Iterator[bytes]:
    """`data` in slices of so many bytes."""
    while data:
        size = next(cuts)
        yield data[:size]
        data = data[size:]


def converse(
    ours: MseInitiator, theirs: MseResponder, cuts: Iterator[int], *, behind: tuple[bytes, bytes]
) -> tuple[bytes, bytes]:
    """Run the handshake, and send payload both ways as soon as may be: `behind` in the same bytes
    as the last of the handshake, where there can be any. What each side received."""
    to_theirs, to_ours = ours.begin(), b""
    got: list[bytes | None] = [None, None]
    while to_theirs or to_ours:
        sent, to_theirs = to_theirs, b""
        for slice_ in cut(sent, cuts):
            if theirs.secured is None:
                to_ours += theirs.receive(slice_)
                if theirs.secured is not None:
                    got[1] = theirs.secured.received
                    ciphers = theirs.secured.ciphers
                    to_ours += ciphers.outgoing.update(behind[1]) if ciphers else behind[1]
            else:
                ciphers = theirs.secured.ciphers
                assert got[1] is not None
                got[1] += ciphers.incoming.update(slice_) if ciphers else slice_
        sent, to_ours = to_ours, b""
        for slice_ in cut(sent, cuts):
            if ours.secured is None:
                to_theirs += ours.receive(slice_)
                if ours.secured is not None:
                    got[0] = ours.secured.received
                    ciphers = ours.secured.ciphers
                    to_theirs += ciphers.outgoing.update(behind[0]) if ciphers else behind[0]
            else:
                ciphers = ours.secured.ciphers
                assert got[0] is not None
                got[0] += ciphers.incoming.update(slice_) if ciphers else slice_
    assert got[0] is not None
    assert got[1] is not None
    return got[0], got[1]


def forever(numbers: Sequence[int]) -> Iterator[int]:
    while True:
        yield from numbers


def method_of(side: MseInitiator | MseResponder) -> Method:
    assert side.secured is not None
    return Method.RC4 if side.secured.ciphers else Method.PLAIN


def swallowed(subject: MseResponder, data: bytes, cuts: Iterator[int]) -> tuple[int, bytes]:
    """Bytes that it takes, of `data` and then of zeros, before it raises; and what it said."""
    taken, said = 0, b""
    for slice_ in cut(data + bytes(3 * LONGEST), cuts):
        taken += len(slice_)
        try:
            said += subject.receive(slice_)
        except HandshakeError:
            return taken, said
    raise AssertionError("it never raised")


# -- the vectors -----------------------------------------------------------------------------------


def test_keys_and_hashes_are_those_of_the_vector() -> None:
    ours = initiator(0, 0)
    assert ours.begin() == YA
    sent = ours.receive(YB)
    assert sent[:20] == REQ1 == sha1(b"req1", S)
    assert sent[20:40] == REQ2_3
    assert sent[40:48] == VC_A
    assert public(XB) == YB  # and the other implementation agrees
    assert secret_of(XA, YB) == secret_of(XB, YA) == S
    assert sha1(b"keyA", S, SKEY) == KEY_A
    assert sha1(b"keyB", S, SKEY) == KEY_B
    assert Arc4(KEY_A)(bytes(8)) == VC_A
    assert Arc4(b"Key", discard=0)(b"Plaintext").hex() == "bbf316e8d940af0ad3"


def test_the_responder_says_the_bytes_of_the_vector() -> None:
    theirs = responder(0, 0)
    assert theirs.receive(YA) == YB
    hidden = bytes(8) + struct.pack(">IHH", 3, 0, 0)
    answer = theirs.receive(REQ1 + REQ2_3 + Arc4(KEY_A)(hidden))
    assert answer[:8] == VC_B
    assert Arc4(KEY_B)(answer) == bytes(8) + struct.pack(">IH", 1, 0)


def test_keys_are_padded_with_zeros_on_the_left() -> None:
    ours = MseInitiator(SKEY, b"", Fixed(1, 0), offered=BOTH)  # its public key is 2
    assert ours.begin() == bytes(95) + b"\x02"
    # A secret with a leading zero, which is a number of 95 bytes.
    private = next(x for x in range(2, 2000) if not secret_of(x, YB)[0])
    ours = MseInitiator(SKEY, b"", Fixed(private, 0, 0), offered=BOTH)
    ours.begin()
    assert ours.receive(YB)[:20] == sha1(b"req1", secret_of(private, YB))


@given(st.integers(0, 2**160 - 1))
def test_powers_of_two_are_right(exponent: int) -> None:
    assert mse._power_of_two(exponent) == pow(2, exponent, PRIME)


# -- both sides ------------------------------------------------------------------------------------

pads = st.one_of(st.sampled_from([0, 1, 511, 512]), st.integers(0, 512))
sizes = st.lists(st.one_of(st.just(1), st.integers(1, 40), st.integers(1, 2000)), min_size=1)


@settings(deadline=None)
@given(
    st.tuples(pads, pads, pads, pads),
    sizes,
    st.integers(0, 68),
    st.tuples(st.binary(max_size=200), st.binary(max_size=200)),
    st.sampled_from([Method.PLAIN, Method.RC4, BOTH]),
    st.integers(0, 3),
)
def test_the_bytes_may_be_cut_anywhere(
    lengths: tuple[int, int, int, int],
    cuts: list[int],
    initial: int,
    behind: tuple[bytes, bytes],
    offered: Method,
    entropy: int,
) -> None:
    pad_a, pad_b, pad_c, pad_d = lengths
    ours = initiator(pad_a, pad_c, initial=HELLO[:initial], offered=offered)
    theirs = responder(pad_b, pad_d, here=[OTHER, SKEY])
    got = converse(ours, theirs, forever(cuts), behind=behind)
    assert got == (behind[1], HELLO[:initial] + behind[0])
    assert theirs.skey == SKEY
    assert method_of(ours) == method_of(theirs)
    assert method_of(ours) == (Method.RC4 if offered == Method.RC4 else Method.PLAIN)


@pytest.mark.parametrize("which", range(4))
def test_every_length_of_padding_is_taken(which: int) -> None:
    for length in range(513):
        lengths = [0, 0, 0, 0]
        lengths[which] = length
        pad_a, pad_b, pad_c, pad_d = lengths
        ours, theirs = initiator(pad_a, pad_c, initial=HELLO), responder(pad_b, pad_d)
        assert converse(ours, theirs, forever([5000]), behind=(b"", b"x")) == (b"x", HELLO)


@pytest.mark.parametrize(
    ("offered", "allowed", "chosen"),
    [
        (BOTH, BOTH, Method.PLAIN),
        (Method.RC4, BOTH, Method.RC4),
        (BOTH, Method.RC4, Method.RC4),
        (Method.PLAIN, BOTH, Method.PLAIN),
        (Method.PLAIN, Method.RC4, None),
    ],
)
def test_plain_payload_is_chosen_unless_one_side_insists(
    offered: Method, allowed: Method, chosen: Method | None
) -> None:
    ours = initiator(0, 0, offered=offered)
    theirs = responder(0, 0, allowed=allowed)
    if chosen is None:
        theirs.receive(ours.begin())
        assert swallowed(theirs, ours.receive(YB), forever([1]))[1] == b""
    else:
        converse(ours, theirs, forever([5000]), behind=(b"", b""))
        assert method_of(ours) == method_of(theirs) == chosen


def test_two_handshakes_of_one_node_have_nothing_in_common() -> None:
    rng = random.Random(5)
    one, two = (MseInitiator(SKEY, HELLO, rng, offered=BOTH).begin() for _ in range(2))
    assert one[:96] != two[:96]
    assert len(one) != len(two)
    rest = {len(MseInitiator(SKEY, HELLO, rng, offered=BOTH).begin()) - 96 for _ in range(300)}
    assert min(rest) < 20 < 490 < max(rest) <= 512


# -- those who do it wrong -------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1, PRIME - 1, PRIME, PRIME + 1, 2**768 - 1])
def test_a_public_key_out_of_range_is_refused(number: int) -> None:
    key = number.to_bytes(96, "big")
    ours = initiator(0, 0)
    ours.begin()
    with pytest.raises(HandshakeError, match="out of range"):
        ours.receive(key)
    assert swallowed(responder(0), key, forever([1])) == (LONGEST, b"")


@pytest.mark.parametrize("number", [2, PRIME - 2])
def test_the_outermost_keys_in_range_are_taken(number: int) -> None:
    key = number.to_bytes(96, "big")
    ours = initiator(0, 0)
    ours.begin()
    assert len(ours.receive(key)) == 40 + 16
    assert responder(0).receive(key) == YB


def wrong(secret: bytes, what: str) -> bytes:
    """What an initiator sends after the keys, with one thing wrong."""
    skey = OTHER if what == "torrent" else SKEY
    cipher = Arc4(sha1(b"keyA", secret, SKEY))
    offered = {"no method": 0, "unknown method": 4}.get(what, 3)
    pad = 513 if what == "long padding" else 0
    initial = 69 if what == "long initial payload" else 0
    vc = b"\x00" * 7 + b"\x01" if what == "verification" else bytes(8)
    hidden = vc + struct.pack(">IH", offered, pad) + bytes(pad)
    hidden += struct.pack(">H", initial) + bytes(initial)
    mark = sha1(b"req1", bytes(96)) if what == "secret" else sha1(b"req1", secret)
    return mark + xor(sha1(b"req2", skey), sha1(b"req3", secret)) + cipher(hidden)


WRONG = [
    *("torrent", "secret", "verification", "no method", "unknown method", "long padding"),
    *("long initial payload",),
]


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("size", [1, 7, 96, 1000])
def test_whatever_is_wrong_the_responder_behaves_the_same(what: str, size: int) -> None:
    subject = responder(33)
    said = subject.receive(YA)
    assert said[:96] == YB
    assert len(said) == 96 + 33
    taken, more = swallowed(subject, wrong(S, what), forever([size]))
    assert more == b""
    whole = -(-(LONGEST - 96) // size) * size
    assert taken == whole
    assert subject.secured is None


def test_the_hand_written_steps_are_right_but_for_what_is_wrong() -> None:
    subject = responder(0, 0)
    subject.receive(YA)
    assert subject.receive(wrong(S, "nothing"))
    assert subject.secured is not None


def test_padding_beyond_the_limit_is_not_searched() -> None:
    for pad, is_found in ((512, True), (513, False)):
        subject = responder(0, 0)
        subject.receive(YA + b"\xff" * pad)
        subject.receive(wrong(S, "nothing"))
        assert (subject.secured is not None) == is_found
        ours = initiator(0, 0)
        ours.begin()
        ours.receive(YB)
        answer = Arc4(KEY_B)(bytes(8) + struct.pack(">IH", 1, 0))
        if is_found:
            ours.receive(b"\xff" * pad + answer)
            assert ours.secured is not None
        else:
            with pytest.raises(HandshakeError, match="wrong key"):
                ours.receive(b"\xff" * pad + answer)


def test_the_initiator_gives_up_after_616_bytes() -> None:
    ours = initiator(0, 0)
    ours.begin()
    ours.receive(YB)
    for _ in range(519):
        ours.receive(b"\xff")
    with pytest.raises(HandshakeError, match="wrong key"):
        ours.receive(b"\xff")


@pytest.mark.parametrize(
    ("selected", "pad"), [(0, 0), (3, 0), (4, 0), (2, 513), (1, 0x8000), (0x80000002, 0)]
)
def test_an_answer_that_may_not_be_is_refused(selected: int, pad: int) -> None:
    ours = initiator(0, 0)
    ours.begin()
    ours.receive(YB)
    answer = Arc4(KEY_B)(bytes(8) + struct.pack(">IH", selected, pad))
    with pytest.raises(HandshakeError):
        ours.receive(answer)


def test_a_method_that_was_not_offered_is_refused() -> None:
    for offered, selected in ((Method.RC4, 1), (Method.PLAIN, 2)):
        ours = initiator(0, 0, offered=offered)
        ours.begin()
        ours.receive(YB)
        with pytest.raises(HandshakeError, match="selected"):
            ours.receive(Arc4(KEY_B)(bytes(8) + struct.pack(">IH", selected, 0)))


def test_a_peer_that_answers_in_plain_is_known_after_twenty_bytes() -> None:
    ours = initiator(0, 0)
    ours.begin()
    assert ours.receive(HELLO[:19]) == b""
    with pytest.raises(HandshakeError, match="does not speak"):
        ours.receive(HELLO[19:20])


def test_more_initial_payload_than_a_handshake_is_never_sent() -> None:
    with pytest.raises(LocalProtocolError):
        MseInitiator(SKEY, HELLO + b"x", random.Random(1), offered=BOTH)


@settings(deadline=None)
@given(st.binary(max_size=3000), sizes, st.booleans())
def test_any_bytes_raise_nothing_but_a_handshake_error(
    data: bytes, cuts: list[int], after_a_key: bool
) -> None:
    theirs, ours = responder(0, 0), initiator(0, 0)
    ours.begin()
    start = (YA, YB) if after_a_key else (b"", b"")
    for side, key in ((theirs, start[0]), (ours, start[1])):
        try:
            for slice_ in cut(key + data, forever(cuts)):
                side.receive(slice_)
        except HandshakeError:
            pass
        assert side.secured is None
        assert len(side._buffer) <= 2000 + 628  # what came at once, and what is searched


@settings(deadline=None)
@given(pads, pads, st.integers(0, 68), st.sampled_from([1, 2, 3]))
def test_a_dialler_written_by_hand_is_understood(
    pad_a: int, pad_c: int, initial: int, offers: int
) -> None:
    hand = Dialler(SKEY, XA, offers, b"a" * pad_a, b"c" * pad_c, HELLO[:initial])
    subject = responder(7, 9)
    first = subject.receive(hand.first())
    answer = subject.receive(hand.second(first[:96]) + (hand.out(b"more") if offers == 2 else b""))
    assert subject.secured is not None
    more = b"more" if offers == 2 else b""
    assert subject.secured.received == HELLO[:initial] + more
    assert hand.back(answer) == bytes(8) + struct.pack(">IH", min(offers, 2 - offers % 2), 9) + (
        bytes(9)
    )
