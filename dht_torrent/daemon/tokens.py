"""What programs show that ask without a browser: a scraper, a media player, another search. Each
purpose has a token of its own, so that who is told one can do nothing else with it.

All tokens come from one secret of the state directory, and stay the same from run to run.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from dht_torrent.engine.keys import read_seed, write_seed
from dht_torrent.errors import InputError

if TYPE_CHECKING:
    from starlette.requests import Request

Purpose = Literal["metrics", "stream", "torznab"]

FILE: Final = "web.key"
TOKEN_LENGTH: Final = 32
"""Hex digits."""


class WebTokens:
    """Those of one node."""

    PATHS: Final[Mapping[Purpose, str]] = {
        "metrics": "/metrics",
        "stream": "/stream",
        "torznab": "/torznab/api",
    }
    """Where each of them is shown."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @classmethod
    def of(cls, state_dir: Path) -> WebTokens:
        """With the secret in `state_dir`, which is made when there is none. Raises InputError and
        StorageError."""
        path = state_dir / FILE
        secret = read_seed(path)
        if secret is None:
            with contextlib.suppress(InputError):  # another process of this user was faster
                write_seed(path, secrets.token_bytes(32))
            secret = read_seed(path)
            assert secret is not None
        return cls(secret)

    def token(self, purpose: Purpose) -> str:
        """What opens the door for that."""
        digest = hmac.new(self._secret, purpose.encode(), hashlib.sha256)
        return digest.hexdigest()[:TOKEN_LENGTH]

    def admits(self, request: Request, purpose: Purpose) -> bool:
        """Whether the request has the token: `Authorization: Bearer TOKEN`, or as `token` or
        `apikey` in its query, for who can send no header."""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            query = request.query_params
            given = query.get("token") or query.get("apikey") or ""
        right = self.token(purpose)
        return hmac.compare_digest(given.strip().encode(), right.encode())
