"""Who may use the page: whoever has the secret link, of which the node tells its owner alone. A
browser gets a cookie for it, a program may give the secret itself: `Authorization: Bearer SECRET`.

The secret has 256 random bits and is as old as the run of the node. Nobody guesses it, so nobody
who tries is made to wait, or could make its owner wait.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from dht_torrent.daemon.control import HEADER

if TYPE_CHECKING:
    from starlette.requests import Request

Endpoint = Callable[["Request"], Awaitable[Response]]

ENTRY: Final = "/enter"
MAX_SESSIONS: Final = 64
"""Browsers that are in; the one that was here longest ago gives way."""
SESSION_TIME: Final = 30 * 86400.0
"""Seconds after which a browser that does not come back must show the link again."""
MAX_SECRET: Final = 256
"""Characters of what somebody says is one."""


class Door:
    """Of one server."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        port: int = 0,
        secure: bool = False,
        read_only: bool = False,
    ) -> None:
        """`port` keeps the cookies of several nodes on one machine apart; `secure` ones are sent
        over TLS alone."""
        self.secret: Final = secrets.token_urlsafe(32)
        self.read_only: Final = read_only
        self._clock = clock
        self._cookie = f"dhtnode-{port}"
        self._secure = secure
        self._sessions: OrderedDict[bytes, float] = OrderedDict()

    async def enter(self, request: Request) -> Response:
        """The secret link: whoever has it gets a cookie, and goes on to the page."""
        if not _same(request.query_params.get("key", ""), self.secret):
            raise HTTPException(403, "this link is not valid (any more): `dhtnode web` shows it")
        cookie = secrets.token_urlsafe(32)
        self._sessions[_digest(cookie)] = self._clock() + SESSION_TIME
        while len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        answer = RedirectResponse("/", status_code=303)
        answer.set_cookie(
            self._cookie,
            cookie,
            max_age=int(SESSION_TIME),
            httponly=True,
            samesite="strict",
            secure=self._secure,
        )
        return answer

    async def leave(self, request: Request) -> Response:
        """The browser is let in no more."""
        self._sessions.pop(_digest(request.cookies.get(self._cookie, "")), None)
        answer = Response(status_code=204)
        answer.delete_cookie(self._cookie, httponly=True, samesite="strict", secure=self._secure)
        return answer

    def admits(self, request: Request) -> bool:
        """Whether it comes from somebody who is in."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _same(token.strip(), self.secret):
            return True
        given = request.cookies.get(self._cookie, "")
        if not given or len(given) > MAX_SECRET:
            return False
        digest, now = _digest(given), self._clock()
        # Digests are compared, so the time that takes tells nothing of what was right.
        until = self._sessions.get(digest)
        if until is None:
            return False
        if now >= until:
            del self._sessions[digest]
            return False
        self._sessions[digest] = now + SESSION_TIME
        self._sessions.move_to_end(digest)
        return True

    def behind(self, endpoint: Endpoint, *, looks_only: bool = False) -> Endpoint:
        """The same for those who are in. What changes something needs a header that no page of
        another origin can send, and a node that is not read-only; unless it only looks."""

        async def guarded(request: Request) -> Response:
            if not self.admits(request):
                raise HTTPException(401, "not logged in: open the link that `dhtnode web` shows")
            if request.method not in ("GET", "HEAD"):
                if not _asked_on_purpose(request):
                    raise HTTPException(
                        403, f"needs content type application/json, or a {HEADER} header"
                    )
                if self.read_only and not looks_only:
                    raise HTTPException(403, "this page is for looking only (--web-read-only)")
            return await endpoint(request)

        return guarded


def _asked_on_purpose(request: Request) -> bool:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return media_type == "application/json" or HEADER in request.headers


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _same(given: str, secret: str) -> bool:
    return len(given) <= MAX_SECRET and secrets.compare_digest(_digest(given), _digest(secret))
