"""Transmission's RPC over HTTP: who may call, and the session id that keeps web pages from calling.

Without the right `X-Transmission-Session-Id` a request is answered with 409 and that header, and
nothing of it is carried out: a page of another origin can send a request, but cannot read the id.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import trio
from starlette.responses import Response

from dht_torrent.daemon.body import MAX_BODY, MAX_VALUES, read_bytes
from dht_torrent.daemon.rpc.calls import (
    INVALID_REQUEST,
    Call,
    RefusedCallError,
    RpcError,
    dump,
    failure,
    parse,
)
from dht_torrent.daemon.rpc.methods import carry_out
from dht_torrent.daemon.rpc.session_fields import SEMVER

if TYPE_CHECKING:
    from starlette.requests import Request

    from dht_torrent.daemon.credentials import LogIn
    from dht_torrent.daemon.rpc.settings import Settings

SESSION_ID: Final = "X-Transmission-Session-Id"
VERSION: Final = "X-Transmission-Rpc-Version"
LARGE: Final = 256 * 1024
"""Bytes of a request from which it is read in a thread."""


class Endpoint:
    """Answers calls for one node."""

    def __init__(
        self, settings: Settings, log_in: LogIn, on_bug: Callable[[Exception, str], None]
    ) -> None:
        self._settings = settings
        self._log_in = log_in
        self._on_bug = on_bug
        self._session_id = secrets.token_urlsafe(36)

    async def answer(self, request: Request) -> Response:
        """GET is answered with the session id only, as some clients fetch it so."""
        refused = self._log_in.refuse(request)
        if refused is not None:
            return refused
        headers = {
            SESSION_ID: self._session_id,
            VERSION: SEMVER,
            "Access-Control-Expose-Headers": f"{SESSION_ID}, {VERSION}",
        }
        given = request.headers.get(SESSION_ID, "")
        if request.method != "POST" or not secrets.compare_digest(
            given.encode("utf-8", "replace"), self._session_id.encode()
        ):
            return Response(
                f"409: Conflict. Your request had no valid {SESSION_ID}: send it again with this"
                " one.",
                status_code=409,
                headers=headers,
                media_type="text/plain",
            )
        body = await read_bytes(request, MAX_BODY)
        told = await self._answer(bytes(body))
        if told is None:
            return Response(status_code=204, headers=headers)
        return Response(
            dump(told),
            headers=headers,
            media_type="application/json",
        )

    async def _answer(self, body: bytes) -> Any:
        if sum(map(body.count, (b",", b"[", b"{"))) > MAX_VALUES:
            too_many = f"a request has at most {MAX_VALUES} values"
            return failure(None, RpcError(INVALID_REQUEST, too_many))
        try:
            calls, many = await _in_a_thread_if(len(body) > LARGE, parse, body)
        except RpcError as error:
            return failure(None, error)
        answers = []
        for call in calls:
            if isinstance(call, Call):
                told = await carry_out(self._settings, call, self._on_bug)
            else:
                told = failure(call.call if isinstance(call, RefusedCallError) else None, call)
            if told is not None:
                answers.append(told)
        if many:
            return answers or None
        return answers[0] if answers else None


async def _in_a_thread_if(large: bool, work: Callable[[Any], Any], value: Any) -> Any:
    return await trio.to_thread.run_sync(work, value) if large else work(value)
