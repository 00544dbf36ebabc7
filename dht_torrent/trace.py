"""Frozen records of what happened, for experiments and tests. Free when nothing listens.

A `Trace` is any callable taking a record; `nothing` is the default. Records say what a reader of
results wants to count; logging says what an operator would act on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dht_torrent.ids import Address, InfoHash


@dataclass(frozen=True, slots=True)
class Record:
    """The root of all records."""


@dataclass(frozen=True, slots=True)
class LookupDone(Record):
    """An iterative DHT lookup ended."""

    target: bytes
    asked: int
    answered: int
    hops: int
    seconds: float
    closest: tuple[Address, ...] = ()
    """Who answered, nearest first, and would be stored on."""
    eclipse_suspected: bool = False
    """Whether the target's surroundings were too dense to be believed, so that all around were
    asked as well."""


@dataclass(frozen=True, slots=True)
class PeerConnected(Record):
    """Both handshakes are done."""

    info_hash: InfoHash
    address: Address
    incoming: bool


@dataclass(frozen=True, slots=True)
class PeerDropped(Record):
    """A connection ended, and why."""

    info_hash: InfoHash
    address: Address
    why: str


@dataclass(frozen=True, slots=True)
class PieceDone(Record):
    """A piece was verified and is on disk."""

    info_hash: InfoHash
    index: int


@dataclass(frozen=True, slots=True)
class PieceFailed(Record):
    """A piece did not match its hash."""

    info_hash: InfoHash
    index: int
    senders: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class PeerBanned(Record):
    """A peer was shown to have sent bad data."""

    info_hash: InfoHash
    address: Address


Trace = Callable[[Record], None]


def nothing(record: Record) -> None:
    """The trace of someone who does not want to know."""
