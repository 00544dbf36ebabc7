"""TLS streams; what they share with all streams is in tests/lab/test_contract.py."""

from __future__ import annotations

import random
import ssl
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.bounds import MAX_CERTIFICATE
from dht_torrent.engine.net.protocols import Encryption, Stream
from dht_torrent.engine.net.tls import (
    Identity,
    TlsStream,
    check_files,
    join,
    read_root,
    receive_hello,
)
from dht_torrent.errors import HandshakeError, InputError
from dht_torrent.ids import Address
from dht_torrent.lab.net.network import FakeNetwork
from tests.helpers.members import Swarm, stranger, swarm

KIB = 1024


@pytest.fixture
def one(tmp_path: Path) -> Swarm:
    return swarm(tmp_path)


async def plain_pair() -> tuple[Stream, Stream]:
    net = FakeNetwork(random.Random(1))
    listener = await net.host("10.0.0.2").listen(Address("10.0.0.2", 0))
    ours = await net.host("10.0.0.1").connect(listener.address)
    return ours, await listener.accept()


async def secured(one: Swarm, ours: Stream, theirs: Stream) -> tuple[TlsStream, TlsStream]:
    metainfo = one.metainfo
    member = join(one.member("m"), metainfo.info_hash, metainfo.ssl_cert, metainfo.name)
    ends: list[TlsStream] = []

    async def dial() -> None:
        ends.insert(0, await member.dial(ours))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        _, hello = await receive_hello(theirs)
        ends.append(await member.answer(theirs, hello))
    return ends[0], ends[1]


async def received(stream: Stream, size: int, room: int) -> bytes:
    got, buffer = b"", memoryview(bytearray(room))
    with trio.fail_after(5):
        while len(got) < size:
            taken = await stream.receive_into(buffer)
            assert 0 < taken <= room
            got += buffer[:taken]
    return got


async def test_nothing_of_what_is_sent_is_on_the_wire(
    one: Swarm, autojump_clock: MockClock
) -> None:
    ours, theirs = await plain_pair()
    here, there = await secured(one, ours, theirs)
    assert here.encryption is there.encryption is Encryption.TLS
    assert (here.local, here.remote) == (there.remote, there.local)
    secret = b"a secret of some length"
    await here.send(secret)
    wire = memoryview(bytearray(KIB))
    assert secret not in bytes(wire[: await theirs.receive_into(wire)])


@pytest.mark.parametrize("room", [1, 68, 16 * KIB, 1024 * KIB])
async def test_any_buffer_takes_all_in_order(
    one: Swarm, room: int, autojump_clock: MockClock
) -> None:
    here, there = await secured(one, *await plain_pair())
    sent = random.Random(2).randbytes(3000 if room == 1 else 100 * KIB)
    await here.send(sent[:5], memoryview(sent)[5:900], b"", sent[900:])
    assert await received(there, len(sent), room) == sent


async def test_more_than_is_encrypted_at_once_arrives_as_it_was(
    one: Swarm, autojump_clock: MockClock
) -> None:
    here, there = await secured(one, *await plain_pair())
    sent = random.Random(3).randbytes(600 * KIB)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(here.send, sent[:1], sent[1 : 128 * KIB], sent[128 * KIB :])
        assert await received(there, len(sent), 64 * KIB) == sent


async def test_a_send_that_is_cancelled_at_once_has_sent_nothing(
    one: Swarm, autojump_clock: MockClock
) -> None:
    here, there = await secured(one, *await plain_pair())
    with trio.CancelScope() as scope:
        scope.cancel()
        await here.send(b"never")
    await here.send(b"then")
    assert await received(there, 4, KIB) == b"then"


async def test_what_comes_right_behind_the_handshake_is_not_lost(
    one: Swarm, autojump_clock: MockClock
) -> None:
    """As from a client that does not wait for the server's verdict."""
    ours, theirs = await plain_pair()
    metainfo = one.metainfo
    member = join(one.member("m"), metainfo.info_hash, metainfo.ssl_cert, metainfo.name)

    async def dial() -> None:
        await (await member.dial(ours)).send(b"early")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        _, hello = await receive_hello(theirs)
        await trio.testing.wait_all_tasks_blocked()
        there = await member.answer(theirs, hello)
    assert await received(there, 5, KIB) == b"early"


async def test_a_forged_record_breaks_the_connection(one: Swarm, autojump_clock: MockClock) -> None:
    ours, theirs = await plain_pair()
    _, there = await secured(one, ours, theirs)
    await ours.send(b"\x17\x03\x03\0\x40" + bytes(64))
    with pytest.raises(OSError, match=r"(?i)bad.record.mac|decryption"):
        await there.receive_into(memoryview(bytearray(KIB)))


async def test_an_end_without_a_word_is_an_end(one: Swarm, autojump_clock: MockClock) -> None:
    ours, theirs = await plain_pair()
    here, there = await secured(one, ours, theirs)
    await here.send(b"last")
    ours.close()
    assert await received(there, 4, KIB) == b"last"
    assert await there.receive_into(memoryview(bytearray(KIB))) == 0


async def test_what_was_not_read_is_not_given_after_closing(
    one: Swarm, autojump_clock: MockClock
) -> None:
    here, there = await secured(one, *await plain_pair())
    await here.send(b"two words")
    assert await received(there, 1, 1) == b"t"
    there.close()
    with pytest.raises(trio.ClosedResourceError):
        await there.receive_into(memoryview(bytearray(KIB)))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_no_ticket_is_given_to_resume_a_session_with(
    one: Swarm, version: ssl.TLSVersion, autojump_clock: MockClock
) -> None:
    """Or a certificate that expired meanwhile would not be looked at again."""
    ours, theirs = await plain_pair()
    metainfo = one.metainfo
    member = join(one.member("m"), metainfo.info_hash, metainfo.ssl_cert, metainfo.name)
    member._dialling.options &= ~ssl.OP_NO_TICKET  # one that would take it
    member._dialling.maximum_version = version
    here: list[TlsStream] = []

    async def dial() -> None:
        here.append(await member.dial(ours))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        _, hello = await receive_hello(theirs)
        there = await member.answer(theirs, hello)
    await there.send(b"first")
    assert await received(here[0], 5, KIB) == b"first"
    session = here[0]._tls.session
    assert session is None or not session.has_ticket


async def test_an_alert_says_why_a_handshake_failed(one: Swarm, autojump_clock: MockClock) -> None:
    ours, theirs = await plain_pair()
    metainfo = one.metainfo
    member = join(one.member("m"), metainfo.info_hash, metainfo.ssl_cert, metainfo.name)
    other = join(stranger(one.folder), metainfo.info_hash, None, None)

    async with trio.open_nursery() as nursery:

        async def dial() -> None:
            tls = await other.dial(ours)  # which believes anybody
            with pytest.raises(OSError, match="ALERT_UNKNOWN_CA"):
                await tls.receive_into(memoryview(bytearray(KIB)))

        nursery.start_soon(dial)
        _, hello = await receive_hello(theirs)
        with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
            await member.answer(theirs, hello)


async def test_a_client_that_cannot_be_verified_is_not_answered(
    one: Swarm, autojump_clock: MockClock
) -> None:
    _, theirs = await plain_pair()
    member = join(one.member("m"), one.metainfo.info_hash, None, None)
    with pytest.raises(HandshakeError):
        await member.answer(theirs, b"")


# -- files ----------------------------------------------------------------------------------------


def refusal(identity: Identity, root: bytes | None, name: str | None = "film.bin") -> str:
    with pytest.raises(InputError) as raised:
        check_files(identity, root, name)
    return str(raised.value)


def test_each_wrong_file_is_named(one: Swarm, tmp_path: Path) -> None:
    root, good = one.authority.certificate, one.member("good")
    check_files(good, root, "film.bin")
    assert refusal(one.member("late", days=1, age=3), root).startswith(
        f"{tmp_path}/late.pem expired"
    )
    assert f"{tmp_path}/no.key: no such file" in refusal(
        Identity(good.certificate, tmp_path / "no.key"), root
    )
    assert f"cannot read {tmp_path}: is a directory" in refusal(Identity(tmp_path, good.key), root)
    assert refusal(Identity(good.certificate, good.certificate), root).startswith(
        f"{tmp_path}/good.pem is not a private key"
    )
    assert "was not signed by" in refusal(stranger(tmp_path), root)
    assert "is for 'x', 'x', not for 'film.bin' or '*'" in refusal(
        one.member("o", torrent="x"), root
    )


def test_no_file_is_read_beyond_its_bound(one: Swarm, tmp_path: Path) -> None:
    large = tmp_path / "large.pem"
    large.write_bytes(one.authority.certificate.ljust(MAX_CERTIFICATE, b"\n"))
    assert read_root(large).startswith(one.authority.certificate)
    large.write_bytes(one.authority.certificate.ljust(MAX_CERTIFICATE + 1, b"\n"))
    with pytest.raises(InputError, match=f"large.pem has more than {MAX_CERTIFICATE} bytes"):
        read_root(large)
    with pytest.raises(InputError, match=r"zero is|/dev/zero has more"):
        read_root(Path("/dev/zero"))


def test_of_several_roots_only_the_first_counts(one: Swarm, tmp_path: Path) -> None:
    """As in libtorrent: others would let in whom its peers turn away."""
    other = swarm(tmp_path)
    both = one.authority.certificate + other.authority.certificate
    member = join(one.member("m"), one.metainfo.info_hash, both, None)
    assert len(member._dialling.get_ca_certs()) == 1
    with pytest.raises(InputError, match="was not signed"):
        join(other.member("n"), one.metainfo.info_hash, both, None)
