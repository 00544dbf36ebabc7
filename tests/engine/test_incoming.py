"""Who comes to us: encrypted or not, and what a stranger can learn or cost."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from dht_torrent.config import EncryptionPolicy, PeerConfig
from dht_torrent.engine.torrent.torrent import Torrent
from dht_torrent.ids import Address
from dht_torrent.peer.mse import LONGEST, MseResponder
from tests.helpers.engine import (
    EXTENDED,
    HAND,
    HAVE_ALL,
    LEECH,
    PORT,
    SEED,
    Hand,
    World,
    dial,
    greeted,
    sample,
)
from tests.helpers.raw_mse import PLAIN, RC4, Arc4, Dialler, Sealed, public, sha1, xor

OTHER = b"\xbb" * 20
PATIENCE = PeerConfig().handshake_timeout


async def came(world: World, side: Dialler, ip: str = HAND) -> Hand:
    """A connection to the seed, after an MSE handshake made by hand."""
    hand = await dial(world, SEED, ip)
    sealed = Sealed(hand.stream)
    with trio.fail_after(5):
        await sealed.shake_hands(side)
    hand.stream = sealed
    return hand


def info_hash() -> bytes:
    return sample().metainfo.info_hash


def hello(wanted: bytes) -> bytes:
    return b"\x13BitTorrent protocol" + bytes(7) + b"\x04" + wanted + b"-HW0001-".ljust(20, b"x")


@pytest.mark.parametrize(
    ("policy", "offers", "selected"),
    [
        ("prefer", PLAIN | RC4, PLAIN),
        ("prefer", RC4, RC4),
        ("allow", PLAIN, PLAIN),
        ("require", PLAIN | RC4, RC4),
        ("require", RC4, RC4),
    ],
)
@pytest.mark.parametrize("initial", [0, 19, 67, 68])
async def test_a_dialler_written_by_hand_is_answered(
    policy: EncryptionPolicy, offers: int, selected: int, initial: int, autojump_clock: MockClock
) -> None:
    world = World()
    async with world.seed(sample(), encryption=policy) as torrent:
        said = hello(info_hash())
        side = Dialler(
            info_hash(), offers=offers, pad_a=b"a" * 99, pad_c=bytes(31), initial=said[:initial]
        )
        hand = await came(world, side)
        assert side.selected == selected
        if initial < 68:
            await hand.raw(said[initial:])
        with trio.fail_after(5):
            assert (await hand._exactly(68))[28:48] == info_hash()
            await hand.expect(HAVE_ALL)
        (info,) = torrent.peers()
        assert info.encryption == ("rc4" if selected == RC4 else "mse")
        assert info.incoming


@pytest.mark.parametrize("offers", [PLAIN, RC4])
async def test_messages_may_come_right_behind_the_handshake(
    offers: int, autojump_clock: MockClock
) -> None:
    """In one segment with it, longer than what is read at once before there is a torrent."""
    world = World()
    async with world.seed(sample(), encryption="prefer") as torrent:
        hand = await came(world, Dialler(info_hash(), offers=offers))
        haves = b"".join(struct.pack(">IBI", 5, 4, number % 8) for number in range(1000))
        await hand.raw(hello(info_hash()) + b"\0\0\0\x01\x0f" + haves)
        await trio.sleep(0.1)
        (info,) = torrent.peers()
        assert info.progress == 1.0


@pytest.mark.parametrize("policy", ["prefer", "allow", "off"])
async def test_a_plain_handshake_may_come_byte_by_byte(
    policy: EncryptionPolicy, autojump_clock: MockClock
) -> None:
    world = World()
    async with world.seed(sample(), encryption=policy) as torrent:
        hand = await dial(world, SEED)
        for byte in hello(info_hash()):
            await hand.raw(bytes([byte]))
            await trio.sleep(0.01)
        assert (await hand._exactly(68))[28:48] == info_hash()
        (info,) = torrent.peers()
        assert info.encryption is None


async def test_an_mse_key_may_begin_like_a_plain_handshake(autojump_clock: MockClock) -> None:
    world = World()
    async with world.seed(sample(), encryption="prefer"):
        side = Dialler(info_hash())
        side.private = next(x for x in range(1, 10000) if public(x)[0] == 0x13)
        hand = await dial(world, SEED)
        await hand.raw(public(side.private)[:1])
        await trio.sleep(0.1)
        await hand.raw(public(side.private)[1:])
        theirs = await hand._exactly(96)
        await hand.raw(side.second(theirs))
        with trio.fail_after(1):
            await hand._exactly(14)


async def test_where_encryption_is_required_a_plain_handshake_is_refused_at_once(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with world.seed(sample(), encryption="require") as torrent:
        hand = await dial(world, SEED)
        await hand.raw(hello(info_hash())[:20])
        with trio.fail_after(0.1):
            assert await hand.heard(1) == []
        assert torrent.peers() == []


async def test_where_encryption_is_off_it_is_refused_at_once(autojump_clock: MockClock) -> None:
    world = World()
    async with world.seed(sample(), encryption="off"):
        hand = await dial(world, SEED)
        await hand.raw(Dialler(info_hash()).first()[:1])
        with trio.fail_after(0.1):
            await hand.closed()


async def test_a_client_that_names_one_torrent_and_asks_for_another_is_refused(
    autojump_clock: MockClock,
) -> None:
    world, other = World(), sample(seed=2)
    async with world.seed(sample(), encryption="prefer") as torrent, contextlib.AsyncExitStack():
        for wanted in (other.metainfo.info_hash, OTHER):
            hand = await came(world, Dialler(info_hash(), initial=hello(wanted)))
            with trio.fail_after(0.1), pytest.raises(EOFError):
                await hand._exactly(1)
        assert torrent.peers() == []


# -- what a stranger learns ------------------------------------------------------------------------


def unknown(side: Dialler, theirs: bytes) -> bytes:
    side.skey = OTHER
    return side.second(theirs)


def wrong_key(side: Dialler, theirs: bytes) -> bytes:
    """The torrent is named as it should be, and the rest is encrypted with something else."""
    right = side.second(theirs)
    return right[:40] + Arc4(b"something else")(bytes(len(right) - 40))


def noise(side: Dialler, theirs: bytes) -> bytes:
    return b"\xee" * len(side.second(theirs))


def wrong_verification(side: Dialler, theirs: bytes) -> bytes:
    right = side.second(theirs)
    return right[:40] + bytes([right[40] ^ 1]) + right[41:]


def right(side: Dialler, theirs: bytes) -> bytes:
    return side.second(theirs)


Second = Callable[[Dialler, bytes], bytes]


async def heard_after(world: World, second: Second, more: int) -> tuple[int, float]:
    """What comes back for the second step, and `more` bytes: how much, and after which time the
    connection is closed."""
    hand = await dial(world, SEED)
    began = trio.current_time()
    side = Dialler(info_hash())
    await hand.raw(side.first())
    theirs = await hand._exactly(96)
    await hand.raw(second(side, theirs))
    await trio.sleep(0.5)
    with contextlib.suppress(OSError):
        for _ in range(more):
            await hand.raw(b"\xdd")
            await trio.sleep(0.001)
    heard = len(hand._buffer)
    buffer = memoryview(bytearray(4096))
    with contextlib.suppress(OSError):
        while size := await hand.stream.receive_into(buffer):
            heard += size
    hand.stream.close()
    return heard, round(trio.current_time() - began, 3)


@pytest.mark.parametrize("more", [0, 100, 3000])
@pytest.mark.parametrize("policy", ["prefer", "require"])
async def test_an_unknown_torrent_cannot_be_told_from_a_wrong_key(
    policy: EncryptionPolicy, more: int, autojump_clock: MockClock
) -> None:
    seen = {}
    for second in (unknown, wrong_key, wrong_verification, noise):
        world = World()  # the same dice each time
        async with world.seed(sample(), encryption=policy):
            seen[second.__name__] = await heard_after(world, second, more)
    assert len(set(seen.values())) == 1, seen
    heard, seconds = seen["unknown"]
    assert heard <= 512  # padding
    if more < LONGEST - 96 - 56:
        assert seconds == pytest.approx(PATIENCE, abs=0.01)
    else:
        assert seconds < PATIENCE / 2


@pytest.mark.parametrize("how", ["paused", "removed"])
async def test_a_torrent_that_takes_no_peers_is_as_unknown_as_any(
    how: str, autojump_clock: MockClock
) -> None:
    results = []
    for second in (right, unknown):
        world, one = World(), sample()
        world.storage(SEED, one.metainfo).write(0, one.data)
        async with world.node(SEED, encryption="prefer") as node:
            torrent = await node.get(one.metainfo)
            await torrent.completed()
            if how == "paused":
                await torrent.pause()
                await trio.sleep(1)
            else:
                await node.remove(torrent)
            results.append(await heard_after(world, second, 0))
    assert results[0] == results[1]


async def test_a_torrent_that_is_here_answers_at_once(autojump_clock: MockClock) -> None:
    """Or the tests above would show nothing."""
    world = World()
    async with world.seed(sample(), encryption="prefer"):
        hand = await dial(world, SEED)
        side = Dialler(info_hash())
        await hand.raw(side.first())
        await hand.raw(right(side, await hand._exactly(96)))
        with trio.fail_after(0.1):
            await hand._exactly(14)


async def test_a_torrent_added_later_is_found(autojump_clock: MockClock) -> None:
    world, one, other = World(), sample(), sample(seed=2)
    async with world.node(SEED, encryption="prefer") as node:
        for each in (one, other):
            world.storage(SEED, each.metainfo).write(0, each.data)
            torrent = await node.get(each.metainfo)
            await torrent.completed()
            await came(world, Dialler(each.metainfo.info_hash))
        await node.remove(torrent)
        await node.get(other.metainfo)
        await trio.sleep(1)
        await came(world, Dialler(other.metainfo.info_hash))


# -- what a stranger costs -------------------------------------------------------------------------


async def test_a_flood_of_half_open_handshakes_leaves_room_for_others(
    autojump_clock: MockClock,
) -> None:
    world = World(latency=0.001)
    async with world.seed(sample(), encryption="prefer", max_pending_per_host=20) as torrent:
        hands = []
        for number in range(200):
            hand = await dial(world, SEED, HAND)
            hands.append(hand)
            # Some stop after their key, some fail and are being swallowed, some send a byte only.
            await hand.raw(Dialler(info_hash()).first()[: [96, 1, 96][number % 3]])
            if number % 3 == 2:
                await hand.raw(b"\xee" * 700)
        await trio.sleep(0.1)
        assert len(world.net.host(SEED).streams) == 20
        with trio.fail_after(1):
            friend = await came(world, Dialler(info_hash(), initial=hello(info_hash())), LEECH)
            assert (await friend._exactly(68))[28:48] == info_hash()
        assert len(torrent.peers()) == 1
        await trio.sleep(PATIENCE + 1)
        assert len(world.net.host(SEED).streams) == 1
        for hand in hands:
            hand.stream.close()


async def test_handshakes_take_turns_at_what_is_dear(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood of connections at once must not stop the node."""
    turns, done = 0, []
    shared = MseResponder._shared

    def counted(self: MseResponder, key: bytes) -> bytes:
        done.append(turns)
        return shared(self, key)

    monkeypatch.setattr(MseResponder, "_shared", counted)

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    world = World()
    async with world.seed(sample(), encryption="prefer"), trio.open_nursery() as nursery:
        hands = [await dial(world, SEED) for _ in range(40)]
        nursery.start_soon(others)
        for hand in hands:
            await hand.raw(Dialler(info_hash()).first())
        for hand in hands:
            await hand._exactly(96)
        nursery.cancel_scope.cancel()
        assert len(done) == 40
        # One in each round of the scheduler: at its end, or at the beginning of the next.
        assert done[-1] - done[0] >= 38


async def test_a_dialler_that_is_slow_has_the_time_of_a_handshake(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with world.seed(sample(), encryption="prefer"):
        hand = await dial(world, SEED)
        began = trio.current_time()
        with contextlib.suppress(OSError):
            for byte in Dialler(info_hash()).first():
                await hand.raw(bytes([byte]))
                await trio.sleep(1)
        assert trio.current_time() - began == pytest.approx(PATIENCE, abs=1.1)


async def test_a_magnet_is_fetched_from_a_client_that_comes_encrypted(
    autojump_clock: MockClock,
) -> None:
    """Whoever comes to a torrent without metadata is heard as well."""
    world = World()
    async with world.node(SEED, encryption="prefer") as node:
        torrent: Torrent = await node.get(sample().magnet())
        await trio.sleep(0.1)
        hand = await came(world, Dialler(info_hash(), offers=RC4))
        await hand.hello(info_hash(), extended=True)
        await hand.expect(EXTENDED)
        (info,) = torrent.peers()
        assert info.encryption == "rc4"


async def test_plain_connections_are_as_they_were(autojump_clock: MockClock) -> None:
    world = World()
    async with world.seed(sample(), encryption="prefer") as torrent:
        hand = await greeted(world, torrent)
        await hand.expect(HAVE_ALL)
        assert hand.stream.remote == Address(SEED, PORT)
        assert torrent.peers()[0].encryption is None


def test_the_steps_by_hand_name_the_torrent_as_they_should() -> None:
    side = Dialler(OTHER)
    named = side.second(public(5))[20:40]
    assert xor(named, sha1(b"req3", side.secret)) == sha1(b"req2", OTHER)
