"""Who may steer the node from outside: a user's name and password, given by a file or the
environment; and what stops those who guess.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
import stat
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from dht_torrent.errors import InputError

if TYPE_CHECKING:
    from starlette.requests import Request

MAX_CREDENTIALS: Final = 1024
"""Bytes of USER:PASSWORD."""
FREE_TRIES: Final = 5
"""Failed log-ins of a host in a row that cost it nothing; from then on each doubles the wait ..."""
FIRST_WAIT: Final = 1.0
MAX_WAIT: Final = 15 * 60.0
"""... in seconds, until it is tried no more often than that."""
MAX_HOSTS: Final = 4096
"""Hosts whose failures are remembered."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """One user, and a digest of the password."""

    user: str
    digest: bytes

    @classmethod
    def parse(cls, text: str) -> Credentials:
        """Of USER:PASSWORD. Raises InputError, which does not repeat it."""
        user, colon, password = text.partition(":")
        if not (user and colon and password) or len(text.encode()) > MAX_CREDENTIALS:
            raise InputError("credentials are USER:PASSWORD, neither of them empty")
        return cls(user, _digest(password))

    @classmethod
    def read(cls, path: Path) -> Credentials:
        """From the first line of a file that only its owner can read. Raises InputError."""
        try:
            with path.open("rb") as file:
                mode = stat.S_IMODE(path.stat().st_mode)
                line = file.readline(MAX_CREDENTIALS + 2)
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from None
        if mode & 0o077:
            raise InputError(f"others can read {path}: chmod 600 it")
        try:
            return cls.parse(line.decode().rstrip("\r\n"))
        except (UnicodeDecodeError, InputError):
            raise InputError(f"{path} must hold USER:PASSWORD in its first line") from None

    def are(self, user: str, password: str) -> bool:
        """In a time that does not tell how much of it was right."""
        same_user = secrets.compare_digest(_digest(user), _digest(self.user))
        return secrets.compare_digest(_digest(password), self.digest) and same_user


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class Throttle:
    """Whoever fails again and again must wait longer and longer."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failed: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait(self, host: str) -> float:
        """Seconds until this host may try again."""
        _, until = self._failed.get(host, (0, 0.0))
        return max(0.0, until - self._clock())

    def failed(self, host: str) -> None:
        count, _ = self._failed.pop(host, (0, 0.0))
        count += 1
        over = count - FREE_TRIES
        pause = min(MAX_WAIT, FIRST_WAIT * 2.0 ** min(over, 30)) if over >= 0 else 0.0
        self._failed[host] = (count, self._clock() + pause)
        while len(self._failed) > MAX_HOSTS:
            self._failed.popitem(last=False)

    def succeeded(self, host: str) -> None:
        self._failed.pop(host, None)


class LogIn:
    """HTTP's Basic authentication."""

    def __init__(self, credentials: Credentials, clock: Callable[[], float]) -> None:
        self._credentials = credentials
        self._throttle = Throttle(clock)

    def refuse(self, request: Request) -> Response | None:
        """The answer to a request that may not be carried out; None: it may."""
        host = request.client.host if request.client is not None else ""
        wait = self._throttle.wait(host)
        if wait > 0:
            return Response(
                "429: too many failed log-ins",
                status_code=429,
                headers={"Retry-After": str(int(wait) + 1)},
                media_type="text/plain",
            )
        given = request.headers.get("authorization")
        if given is not None and self._is_right(given):
            self._throttle.succeeded(host)
            return None
        if given is not None:
            self._throttle.failed(host)
        return Response(
            "401: a user's name and password are needed",
            status_code=401,
            headers={"WWW-Authenticate": 'Basic realm="dhtnode", charset="UTF-8"'},
            media_type="text/plain",
        )

    def _is_right(self, given: str) -> bool:
        scheme, _, encoded = given.partition(" ")
        if scheme.lower() != "basic" or len(encoded) > 2 * MAX_CREDENTIALS:
            return False
        try:
            text = base64.b64decode(encoded.strip(), validate=True).decode()
        except (binascii.Error, ValueError):
            return False
        user, _, password = text.partition(":")
        return self._credentials.are(user, password)
