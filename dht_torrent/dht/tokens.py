"""Write tokens (BEP 5). The rule: a token proves that its bearer received our reply at that IP,
for that target, at most ten minutes ago; it is worth nothing for another IP or target.
"""

from __future__ import annotations

import hmac
import random
from hashlib import blake2b

from dht_torrent.dht.origins import facts
from dht_torrent.ids import Address

TOKEN_SIZE = 8
"""Bytes: at 64 bits, guessing for ten minutes at five tries a second succeeds with p = 3e-16."""


class Tokens:
    """Makes and checks tokens. Secrets turn by themselves as `now` passes.

    `rng` must be well seeded and used for nothing else: numbers drawn from the same generator
    that others can see would let them work out the secrets.
    """

    def __init__(self, rng: random.Random, rotation: float, now: float) -> None:
        self._rng = rng
        self._rotation = rotation
        self._current = self._previous = self._fresh()
        self._turns_at = now + rotation

    def make(self, address: Address, target: bytes, now: float) -> bytes:
        """The token for a node that asks about `target` from `address`. Its port does not
        matter."""
        return self.make_for(facts(address).host, target, now)

    def make_for(self, host: bytes, target: bytes, now: float) -> bytes:
        """As `make`, for an IP in its compact form."""
        if now >= self._turns_at:
            self._turn(now)
        return _token(self._current, host, target)

    def accepts(self, token: bytes, address: Address, target: bytes, now: float) -> bool:
        """Whether we gave this token for this IP and target five to ten minutes ago at most."""
        return self.accepts_from(token, facts(address).host, target, now)

    def accepts_from(self, token: bytes, host: bytes, target: bytes, now: float) -> bool:
        """As `accepts`, for an IP in its compact form."""
        if now >= self._turns_at:
            self._turn(now)
        # BEP 5: tokens up to ten minutes old are accepted, so this secret's and the one before's.
        # Both are compared, in constant time each: silence must not tell which one nearly fit.
        current = hmac.compare_digest(token, _token(self._current, host, target))
        previous = hmac.compare_digest(token, _token(self._previous, host, target))
        return current or previous

    def _turn(self, now: float) -> None:
        fresh = self._fresh()
        asleep = now >= self._turns_at + self._rotation  # then the current one is too old as well
        self._previous = self._fresh() if asleep else self._current
        self._current = fresh
        self._turns_at = now + self._rotation if asleep else self._turns_at + self._rotation

    def _fresh(self) -> blake2b:
        """A new secret. Keyed BLAKE2 (RFC 7693) is a MAC by itself; with the key already taken in,
        a token costs a fifth of HMAC-SHA1's time."""
        return blake2b(digest_size=TOKEN_SIZE, key=self._rng.randbytes(20))


def _token(secret: blake2b, host: bytes, target: bytes) -> bytes:
    mac = secret.copy()
    mac.update(host + target)
    return mac.digest()
