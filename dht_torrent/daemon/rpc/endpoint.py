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
MAX_ANSWERS: Final = 64 << 20
"""Bytes of answers after which what else is in a batch is not done: a small request could ask for
a hundred long lists."""
TOO_LONG: Final = "not done: the answers to the calls before it in the batch are too long already"
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
        return Response(told, headers=headers, media_type="application/json")

    async def _answer(self, body: bytes) -> bytes | None:
        if sum(map(body.count, (b",", b"[", b"{"))) > MAX_VALUES:
            too_many = f"a request has at most {MAX_VALUES} values"
            return dump(failure(None, RpcError(INVALID_REQUEST, too_many)))
        try:
            calls, many = await _in_a_thread_if(len(body) > LARGE, parse, body)
        except RpcError as error:
            return dump(failure(None, error))
        answers: list[bytes] = []
        for call in calls:
            told = await self._answer_one(call, sum(map(len, answers)))
            if told is not None:
                answers.append(dump(told))
        if many and answers:
            return b"[%b]" % b",".join(answers)
        return answers[0] if answers else None

    async def _answer_one(self, call: Call | RpcError, before: int) -> dict[str, Any] | None:
        """After answers of so many bytes in all."""
        if isinstance(call, RefusedCallError):
            return failure(call.call, call)
        if isinstance(call, RpcError):
            return failure(None, call)
        if before > MAX_ANSWERS and call.answered:
            return failure(call, RpcError(INVALID_REQUEST, TOO_LONG))
        return await carry_out(self._settings, call, self._on_bug)


async def _in_a_thread_if(large: bool, work: Callable[[Any], Any], value: Any) -> Any:
    return await trio.to_thread.run_sync(work, value) if large else work(value)
