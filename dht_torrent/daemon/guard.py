"""What stands before an application: who is refused is answered here, and every answer carries the
headers that keep browsers from making more of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

Headers = Mapping[bytes, list[bytes]]
"""Of a request, by their names in lower case."""

# Of what an answer does not say itself.
SECURITY_HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)


class BaseGuard(ABC):
    """ASGI middleware. Web sockets are refused, as nothing here speaks them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    @abstractmethod
    def refuse(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        """Status and text for who may not ask that; None: the application answers."""

    @abstractmethod
    def answer(self, status: int, text: str) -> ASGIApp:
        """What who is refused is told."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                said = list(message.get("headers", ()))
                names = {name.lower() for name, _ in said}
                message["headers"] = said + [one for one in SECURITY_HEADERS if one[0] not in names]
            await send(message)

        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value)
        refusal = self.refuse(scope, headers)
        app = self._app if refusal is None else self.answer(*refusal)
        await app(scope, receive, send_with_headers)


def only(headers: Headers, name: bytes) -> str | None:
    """The value of a header that came once."""
    values = headers.get(name, [])
    return values[0].decode("latin-1") if len(values) == 1 else None


def from_elsewhere(headers: Headers, origin: str) -> tuple[int, str] | None:
    """The refusal of what a page of another origin than ours sent behind its reader's back."""
    if b"origin" in headers and only(headers, b"origin") != origin:
        return 403, "not from another origin"
    if only(headers, b"sec-fetch-site") not in (None, "same-origin", "none"):
        return 403, "not from another site"
    return None
