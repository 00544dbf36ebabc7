"""MSE around a stream. That it is a `Stream` in all else is shown in tests/lab/test_contract.py."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.config import EncryptionPolicy
from dht_torrent.engine.net.encrypted import ClosedEarlyError, Mse, MseError, Rc4Stream
from dht_torrent.engine.net.protocols import Encryption, Stream
from dht_torrent.errors import HandshakeError
from dht_torrent.ids import Address
from dht_torrent.lab.net.network import FakeNetwork
from dht_torrent.peer.mse import request_hash
from tests.helpers.raw_mse import PLAIN, RC4, Answerer, Sealed

SKEY = b"\xaa" * 20
FIND = {request_hash(SKEY): SKEY}.get
HELLO = b"\x13BitTorrent protocol".ljust(68, b"h")
MIB = 1 << 20


def mse(policy: EncryptionPolicy = "prefer", seed: int = 1) -> Mse:
    return Mse(policy, random.Random(seed))


async def pair(**network: object) -> tuple[Stream, Stream]:
    """Both ends of a plain connection."""
    net = FakeNetwork(random.Random(1), **network)  # type: ignore[arg-type]
    listener = await net.host("10.0.0.2").listen(Address("10.0.0.2", 1))
    ours = await net.host("10.0.0.1").connect(listener.address)
    return ours, await listener.accept()


async def test_what_is_encrypted_gathers_as_well(autojump_clock: MockClock) -> None:
    stream, _ = await encrypted()
    asked: list[int] = []

    class Noting:
        async def readable(self, gather: int = 0) -> None:
            asked.append(gather)

        def receive_now(self, buffers: Sequence[memoryview]) -> int | None:
            return None

    assert isinstance(stream, Rc4Stream)
    stream._plain = Noting  # type: ignore[method-assign]
    assert stream.scattered is stream
    await stream.readable(1 << 18)
    assert asked == [1 << 18]


async def encrypted(policy: EncryptionPolicy = "require", initial: bytes = b"") -> list[Stream]:
    """Both ends after the handshake."""
    ends = list(await pair())

    async def dial() -> None:
        ends[0] = await mse(policy).initiate(ends[0], SKEY, initial, 5)

    async def answer() -> None:
        ends[1], named = await mse("prefer", 2).respond(ends[1], b"", FIND)
        assert named == SKEY

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        nursery.start_soon(answer)
    return ends


async def exactly(stream: Stream, size: int) -> bytes:
    got, buffer = bytearray(), memoryview(bytearray(65536))
    with trio.fail_after(5):
        while len(got) < size:
            taken = await stream.receive_into(buffer)
            assert taken
            got += buffer[:taken]
    return bytes(got)


@pytest.mark.parametrize("selects", [PLAIN, RC4])
async def test_an_answerer_written_by_hand_hears_what_we_send(
    selects: int, autojump_clock: MockClock
) -> None:
    ours, theirs = await pair(latency=0.01)
    hand = Sealed(theirs)
    ends: list[Stream] = []

    async def dial() -> None:
        ends.append(await mse().initiate(ours, SKEY, HELLO, 5))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        await hand.shake_hands(Answerer(SKEY, selects=selects, pad_b=b"b" * 300, pad_d=bytes(99)))
    (stream,) = ends
    assert stream.encryption is (Encryption.RC4 if selects == RC4 else Encryption.MSE)
    await stream.send(b"one", memoryview(bytearray(b"two")), b"", memoryview(bytearray(b"three")))
    await hand.send(b"back")
    buffer = memoryview(bytearray(100))
    assert bytes(buffer[: await hand.receive_into(buffer)]) == HELLO
    assert bytes(buffer[: await hand.receive_into(buffer)]) == b"onetwothree"
    assert await exactly(stream, 4) == b"back"


async def test_what_can_be_written_to_is_encrypted_where_it_lies() -> None:
    ours, theirs = await encrypted()
    constant, block = b"stays as it is", bytearray(random.Random(3).randbytes(100_000))
    before = bytes(block)
    await ours.send(constant, memoryview(block)[10:])
    assert constant == b"stays as it is"
    assert bytes(block[:10]) == before[:10]
    assert bytes(block[10:]) != before[10:]
    assert await exactly(theirs, len(constant) + 99_990) == constant + before[10:]


async def test_payload_after_a_plain_choice_is_not_touched() -> None:
    ours, theirs = await encrypted("prefer")
    assert ours.encryption is theirs.encryption is Encryption.MSE
    block = bytearray(b"block")
    await ours.send(memoryview(block))
    assert block == b"block"
    assert await exactly(theirs, 5) == b"block"


async def test_no_second_copy_of_payload_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, _ = await encrypted()
    seen: list[memoryview] = []

    async def send(*buffers: bytes | memoryview) -> None:
        seen.extend(map(memoryview, buffers))

    block = memoryview(bytearray(8 * MIB))

    async def receive_into(buffer: memoryview) -> int:
        return len(buffer)

    inner = ours._stream  # type: ignore[attr-defined]
    monkeypatch.setattr(inner, "send", send)
    monkeypatch.setattr(inner, "receive_into", receive_into)
    await ours.send(block[:1])  # what is made once
    tracemalloc.start()
    await ours.send(b"header", block)
    await ours.receive_into(block)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MIB
    assert seen[-1].obj is block.obj


async def test_a_send_cancelled_before_it_began_costs_no_key_stream() -> None:
    ours, theirs = await encrypted()
    with trio.CancelScope() as scope:
        scope.cancel()
        await ours.send(b"never sent")
    assert scope.cancelled_caught
    await ours.send(b"sent")
    assert await exactly(theirs, 4) == b"sent"


@pytest.mark.parametrize("policy", ["prefer", "require"])
async def test_what_came_with_the_handshake_is_read_first(policy: EncryptionPolicy) -> None:
    ours, theirs = await encrypted(policy, HELLO)
    await ours.send(b"more")
    small = memoryview(bytearray(50))
    assert await theirs.receive_into(small) == 50
    assert bytes(small) == HELLO[:50]
    assert await theirs.receive_into(small) == 18
    assert bytes(small[:18]) == HELLO[50:]
    assert await theirs.receive_into(small) == 4
    assert bytes(small[:4]) == b"more"
    with pytest.raises(ValueError):
        await theirs.receive_into(small[:0])


@pytest.mark.parametrize("policy", ["prefer", "require"])
async def test_nothing_is_read_after_closing(policy: EncryptionPolicy) -> None:
    _, theirs = await encrypted(policy, HELLO)
    theirs.close()
    with pytest.raises(trio.ClosedResourceError):
        await theirs.receive_into(memoryview(bytearray(10)))


async def test_an_end_before_the_handshake_is_told_as_such() -> None:
    ours, theirs = await pair()
    ours.close()
    with pytest.raises(ClosedEarlyError):
        await mse().respond(theirs, b"", FIND)
    ours, theirs = await pair()
    theirs.close()
    with pytest.raises(MseError) as failed:
        await mse().initiate(ours, SKEY, b"", 5)
    assert isinstance(failed.value.__cause__, ClosedEarlyError | OSError)


async def test_silence_ends_after_the_limit(autojump_clock: MockClock) -> None:
    ours, _ = await pair()
    with pytest.raises(MseError, match="no answer in time"):
        await mse().initiate(ours, SKEY, b"", 3.0)
    assert trio.current_time() == pytest.approx(3.0)


async def test_what_came_before_the_first_read_counts() -> None:
    """The first bytes were read to see whether the handshake is a plain one."""
    ours, theirs = await pair()
    ends: list[Stream] = []

    async def dial() -> None:
        ends.append(await mse("require").initiate(ours, SKEY, HELLO, 5))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        first = await exactly(theirs, 1)
        answered, _ = await mse("prefer", 2).respond(theirs, first, FIND)
    assert await exactly(answered, 68) == HELLO


async def test_a_client_that_floods_is_refused_in_the_end() -> None:
    ours, theirs = await pair()
    await ours.send(bytes([7]) * 4000)
    with pytest.raises(HandshakeError):
        await mse().respond(theirs, b"", FIND)


@pytest.mark.parametrize(
    ("policy", "spoke", "ways"),
    [
        ("prefer", None, (True, False)),
        ("prefer", True, (True, False)),
        ("prefer", False, (False, True)),
        ("require", False, (True,)),
        ("allow", True, (False,)),
        ("off", True, (False,)),
    ],
)
def test_ways_to_dial(policy: EncryptionPolicy, spoke: bool | None, ways: tuple[bool, ...]) -> None:
    assert mse(policy).ways(spoke) == ways
