"""Mutated messages for a codec. The rule: nothing but the codec's own error comes out, no input
takes longer than LIMIT, and memory does not grow with their number.
"""

from __future__ import annotations

import contextlib
import gc
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

LIMIT: Final = 0.01
"""Seconds of processor time one input may take."""
LOOK_AGAIN: Final = LIMIT / 10
"""Seconds by the clock after which an input is fed once more and its processor time is taken: the
clock costs little to read, but runs on while the processor is with others, or with a collection of
garbage."""
HELD: Final = 5000
"""Objects a codec that keeps nothing may leave: what Python itself caches."""


@dataclass(slots=True)
class Findings:
    """What a run has shown."""

    inputs: int = 0
    decoded: int = 0
    """Inputs that were messages still, or handshakes that came to their end."""
    answered: int = 0
    """Those that were answered, or believed."""
    slowest: float = 0.0
    """Seconds that one took at most, of processor time if that is above LOOK_AGAIN."""
    grown: int = 0
    """Objects more at the end of the run than in its middle."""
    faults: list[str] = field(default_factory=list)


class Input(NamedTuple):
    """One hostile input, and how it reaches the codec."""

    data: object
    """What a fault shows of it."""
    feed: Callable[[Findings], None]
    """Raises only if there is a bug. May be called twice."""


class FuzzedCodec(Protocol):
    """What is fed."""

    flat: int
    """Objects there may be more at the end of a run than in its middle."""

    def input(self, number: int, rng: random.Random) -> Input:
        """The input of this number."""


def feed(codec: FuzzedCodec, count: int, seed: int) -> Findings:
    """Feed `count` inputs. The same seed gives the same inputs."""
    rng = random.Random(seed)
    found = Findings()
    middle = 0
    for number in range(count):
        if number == count // 2:
            middle = _objects()
        data, feed_one = codec.input(number, rng)
        began = time.perf_counter()
        try:
            feed_one(found)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what we look for
            found.faults.append(f"{type(error).__name__}: {error} from {data!r}")
        took = time.perf_counter() - began
        if took > max(found.slowest, LOOK_AGAIN):
            began = time.thread_time()
            with contextlib.suppress(Exception):  # it is noted already
                feed_one(Findings())
            took = min(took, time.thread_time() - began)
            if took > LIMIT:
                found.faults.append(f"{took:.3f} s for {data!r}")
        found.slowest = max(found.slowest, took)
        found.inputs += 1
        if len(found.faults) >= 20:
            break
    found.grown = _objects() - middle if middle else 0
    if found.grown > codec.flat:
        found.faults.append(f"{found.grown} objects more at the end than in the middle")
    return found


def _objects() -> int:
    gc.collect()
    return sys.getallocatedblocks()


# -- mutations -----------------------------------------------------------------------------------


def _flip(data: bytearray, rng: random.Random) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _byte(data: bytearray, rng: random.Random) -> None:
    data[rng.randrange(len(data))] = rng.choice(b"0123456789:ilde-\x00\xff")


def _cut(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.randrange(1, 20)]


def _repeat(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    piece = data[at : at + rng.randrange(1, 12)]
    data[at:at] = piece * rng.randrange(1, 60)


def _insert(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data))
    data[at:at] = rng.choice(
        (
            b"l" * rng.randrange(1, 200),
            b"d" * rng.randrange(1, 200),
            b"0:" * rng.randrange(1, 600),
            b"i" + b"9" * rng.randrange(1, 900) + b"e",
            b"i-0e",
            b"i1_0e",
            b"99999999999999999999:",
            b"2147483647:",
            b"le",
            b"de",
            b"i0e",
            rng.randbytes(rng.randrange(1, 40)),
        )
    )


_MUTATIONS: Final[tuple[Callable[[bytearray, random.Random], None], ...]] = (
    _flip,
    _byte,
    _cut,
    _repeat,
    _insert,
)


def mutated(seeds: Sequence[bytes], rng: random.Random) -> bytes:
    """One hostile input; now and then a valid one."""
    data = bytearray(rng.choice(seeds))
    if rng.random() < 0.1:  # the head of one, the tail of another
        other = rng.choice(seeds)
        data[rng.randrange(len(data)) :] = other[rng.randrange(len(other)) :]
    for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3, 6))):
        if data:
            rng.choice(_MUTATIONS)(data, rng)
    return bytes(data[: rng.choice((2048, 2048, 2048, 4096))])
