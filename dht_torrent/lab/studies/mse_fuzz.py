"""Mutated handshakes of MSE, for both sides of it. The rule: a valid handshake succeeds; for any
other, a responder refuses it no sooner than after LONGEST bytes and no later, having said no more
than its key, and an initiator waits for no more than the longest answer.

Most mutations break what is encrypted at its first bytes. So that what lies behind these is reached
as well, handshakes are also mutated before they are encrypted.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from struct import pack
from typing import Final, NamedTuple

from cryptography.hazmat.decrepit.ciphers.algorithms import ARC4
from cryptography.hazmat.primitives.ciphers import Cipher

from dht_torrent.errors import HandshakeError
from dht_torrent.lab.studies.codec_fuzz import HELD, Findings, Input, mutated
from dht_torrent.peer import mse
from dht_torrent.peer.mse import Method, MseInitiator, MseResponder

_HERE: Final = b"\xaa" * 20
_HELLO: Final = b"\x13BitTorrent protocol" + bytes(8) + _HERE + b"-HW0001-aaaaaaaaaaaa"
_BOTH: Final = Method.PLAIN | Method.RC4
_AGREED: Final = ((Method.PLAIN, _BOTH), (Method.RC4, _BOTH), (_BOTH, _BOTH), (_BOTH, Method.RC4))
"""What is offered, and what is allowed."""
_FIND: Final = {mse.request_hash(_HERE): _HERE}.get
_STREAM: Final = 8192
"""Bytes of a key stream that are kept."""
_LONGEST_ANSWER: Final = mse.KEY_LENGTH + 2 * mse.MAX_PAD + 14
"""Bytes of the longest handshake of a responder."""
_ODD_KEYS: Final = tuple(
    number.to_bytes(mse.KEY_LENGTH, "big")
    for number in (0, 1, 2, mse.PRIME - 2, mse.PRIME - 1, mse.PRIME, (1 << 768) - 1)
)


_KEY_BITS: Final = 160
_SHORT_KEY_BITS: Final = 16


class _Dice(random.Random):
    """Draws short private keys. Nothing that is read depends on their length, and with long ones
    three quarters of the time would go into powers."""

    def getrandbits(self, k: int, /) -> int:
        return super().getrandbits(_SHORT_KEY_BITS if k == _KEY_BITS else k)


class _Scene(NamedTuple):
    """A handshake as it went between two sides of ours, which draw what they draw from these
    seeds. Each may be met again with what the other said."""

    dice: tuple[int, int]
    """Of the initiator, and of the responder."""
    offered: Method
    allowed: Method
    initial: bytes
    said: tuple[bytes, bytes]
    """All that each of them sent, and behind it some payload."""
    streams: tuple[bytes, bytes]
    """The RC4 key streams of what each of them sends."""
    open_length: tuple[int, int]
    """Bytes of `said` in front of what is encrypted."""
    closed_length: tuple[int, int]
    """Bytes of `said` that belong to the handshake and are encrypted."""
    payload: bytes

    @property
    def method(self) -> Method:
        both = self.offered & self.allowed
        return Method.PLAIN if both & Method.PLAIN else Method.RC4

    def initiator(self) -> MseInitiator:
        return MseInitiator(_HERE, self.initial, _Dice(self.dice[0]), offered=self.offered)

    def responder(self) -> MseResponder:
        return MseResponder(_FIND, _Dice(self.dice[1]), allowed=self.allowed)


def _scene(seed: int, number: int) -> _Scene:
    rng = random.Random(f"{seed} {number}")
    offered, allowed = _AGREED[number % len(_AGREED)]
    initial = rng.choice((b"", _HELLO, _HELLO, _HELLO[: rng.randrange(len(_HELLO))]))
    payload = rng.randbytes(rng.choice((0, 1, 300)))
    nothing = (0, 0)
    scene = _Scene(
        (2 * number, 2 * number + 1),
        *(offered, allowed, initial, (b"", b""), (b"", b""), nothing, nothing, payload),
    )
    dialled, answering = scene.initiator(), scene.responder()
    key = dialled.begin()
    answer = answering.receive(key)
    rest = dialled.receive(answer)
    last = answering.receive(rest)
    dialled.receive(last)
    # An initiator's private key is the first it draws.
    private = _Dice(scene.dice[0]).getrandbits(_KEY_BITS)
    theirs = int.from_bytes(answer[: mse.KEY_LENGTH], "big")
    secret = pow(theirs, private, mse.PRIME).to_bytes(mse.KEY_LENGTH, "big")
    streams = (_key_stream(b"keyA", secret), _key_stream(b"keyB", secret))
    said = []
    for side, (first, second, hashes) in enumerate(((key, rest, 40), (answer, last, 0))):
        behind = payload
        if scene.method is Method.RC4:
            behind = _xor(payload, streams[side][len(second) - hashes :])
        said.append(first + second + behind)
    return scene._replace(
        said=(said[0], said[1]),
        streams=streams,
        open_length=(len(key) + 40, len(answer)),
        closed_length=(len(rest) - 40, len(last)),
    )


def _key_stream(name: bytes, secret: bytes) -> bytes:
    key = hashlib.sha1(name + secret + _HERE).digest()
    return Cipher(ARC4(key), mode=None).encryptor().update(bytes(1024 + _STREAM))[1024:]


def _xor(data: bytes, stream: bytes) -> bytes:
    size = min(len(data), len(stream))
    both = int.from_bytes(data[:size], "big") ^ int.from_bytes(stream[:size], "big")
    return both.to_bytes(size, "big")


class MseCodec:
    """Both sides of MSE, each met with what was a valid handshake of the other."""

    flat = HELD

    def __init__(self, seed: int) -> None:
        self._scenes = [_scene(seed, number) for number in range(24)]

    def input(self, number: int, rng: random.Random) -> Input:
        """A handshake for the responder or for the initiator, and where it is cut."""
        scene = rng.choice(self._scenes)
        speaker = rng.randrange(2)
        data = self._spoilt(scene, speaker, rng)
        cuts = _cuts(data, rng)
        valid = data == scene.said[speaker]
        who = ("an initiator", "a responder")[speaker]
        feed_it = (_to_responder, _to_initiator)[speaker]
        return Input(
            (who, scene.dice, data.hex(), list(map(len, cuts))),
            lambda found: feed_it(scene, cuts, found, valid=valid),
        )

    def _spoilt(self, scene: _Scene, speaker: int, rng: random.Random) -> bytes:
        said = scene.said[speaker]
        opened, closed = scene.open_length[speaker], scene.closed_length[speaker]
        way = rng.random()
        if way < 0.05:
            return said
        if way < 0.1:
            return rng.choice(_ODD_KEYS) + said[mse.KEY_LENGTH :]
        if way < 0.45:
            return mutated([said], rng)
        if way < 0.55:  # another padding before the mark
            pad = rng.randbytes(rng.choice((0, mse.MAX_PAD, mse.MAX_PAD + 1, 3000)))
            mark = opened - (40 if speaker == 0 else 0)
            return said[: mse.KEY_LENGTH] + pad + said[mark:]
        hidden = bytearray(_xor(said[opened : opened + closed], scene.streams[speaker]))
        if way < 0.75:  # the numbers that say how much follows, and how
            offer = rng.choice((0, 1, 2, 3, 4, 1 << 31, rng.getrandbits(32)))
            pad_size = rng.choice((0, 1, mse.MAX_PAD, mse.MAX_PAD + 1, 65535))
            size = rng.choice((0, 1, len(_HELLO), len(_HELLO) + 1, 65535))
            hidden[8:] = pack(">IH", offer, pad_size) + rng.randbytes(min(pad_size, 600))
            if speaker == 0:
                hidden += pack(">H", size) + rng.randbytes(min(size, 600))
        else:
            hidden[:] = mutated([bytes(hidden)], rng)
        return said[:opened] + _xor(bytes(hidden), scene.streams[speaker]) + said[opened + closed :]


def _cuts(data: bytes, rng: random.Random) -> list[bytes]:
    """`data` as it may arrive: whole, in some pieces, or byte by byte."""
    way = rng.random()
    if way < 0.3:
        return [data]
    if way < 0.35:
        return [data[at : at + 1] for at in range(len(data))]
    places = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(1, 9)))
    return [data[at:to] for at, to in zip([0, *places], [*places, len(data)], strict=True)]


def _to_responder(scene: _Scene, cuts: Sequence[bytes], found: Findings, *, valid: bool) -> None:
    """Whatever it is, it is accepted, or refused once as many bytes came as the longest has."""
    side = scene.responder()
    came = said = 0
    refused = False
    for data in (*cuts, bytes(mse.LONGEST)):
        came += len(data)
        try:
            said += len(side.receive(data))
        except HandshakeError:
            refused = True
            if came < mse.LONGEST:
                found.faults.append(f"refused after {came} bytes: {cuts!r}")
            break
        if side.secured is not None:
            break
    found.answered += bool(said)
    if side.secured is None:
        if not refused:
            found.faults.append(f"waits for more than {mse.LONGEST} bytes: {cuts!r}")
        if said > mse.KEY_LENGTH + mse.MAX_PAD:
            found.faults.append(f"said {said} bytes to a stranger: {cuts!r}")
    _judge(side.secured, scene, came, scene.initial, cuts, found, valid=valid)


def _to_initiator(scene: _Scene, cuts: Sequence[bytes], found: Findings, *, valid: bool) -> None:
    """Whatever it is, it is accepted or refused before more bytes came than the longest has."""
    side = scene.initiator()
    side.begin()
    came = said = 0
    refused = False
    for data in (*cuts, bytes(_LONGEST_ANSWER)):
        came += len(data)
        try:
            said += len(side.receive(data))
        except HandshakeError:
            refused = True
            break
        if side.secured is not None:
            break
    found.answered += bool(said)
    if side.secured is None and not refused:
        found.faults.append(f"waits for more than {_LONGEST_ANSWER} bytes: {cuts!r}")
    _judge(side.secured, scene, came, b"", cuts, found, valid=valid)


def _judge(
    secured: mse.Secured | None,
    scene: _Scene,
    came: int,
    initial: bytes,
    cuts: Sequence[bytes],
    found: Findings,
    *,
    valid: bool,
) -> None:
    if secured is None:
        if valid:
            found.faults.append(f"a valid handshake was refused: {cuts!r}")
        return
    found.decoded += 1
    if len(secured.received) > came:
        found.faults.append(f"{len(secured.received)} bytes received of {came}: {cuts!r}")
    if not valid:
        return
    if (secured.ciphers is None) != (scene.method is Method.PLAIN):
        found.faults.append(f"another method than was agreed on: {cuts!r}")
    if not (initial + scene.payload).startswith(secured.received):
        found.faults.append(f"another payload than was sent: {cuts!r}")
