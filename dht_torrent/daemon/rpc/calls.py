"""A request and its answer, in both dialects.

{"method": "torrent-get", "arguments": {...}, "tag": 7}             until 4.0, and still most
{"jsonrpc": "2.0", "method": "torrent_get", "params": {...}, "id": 7}     from 4.1
"""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from dht_torrent.daemon.rpc.names import to_snake

MAX_BATCH: Final = 100
"""Calls in one request."""

Json = Any

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
NO_METHOD: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL: Final = -32603
PATH_NOT_ABSOLUTE: Final = 3
UNRECOGNIZED_INFO: Final = 4
SYSTEM_ERROR: Final = 5
NO_SUCH_FILE: Final = 6
HTTP_ERROR: Final = 8
CORRUPT_TORRENT: Final = 9


class RpcError(Exception):
    """A call that was not carried out."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


MESSAGES: Final = {
    PARSE_ERROR: "Parse error",
    INVALID_REQUEST: "Invalid Request",
    NO_METHOD: "Method not found",
    INVALID_PARAMS: "Invalid params",
    INTERNAL: "Internal error",
    PATH_NOT_ABSOLUTE: "path is not absolute",
    UNRECOGNIZED_INFO: "unrecognized info",
    SYSTEM_ERROR: "system error",
    NO_SUCH_FILE: "file index out of range",
    HTTP_ERROR: "HTTP error from backend service",
    CORRUPT_TORRENT: "invalid or corrupt torrent file",
}
"""What Transmission calls them in JSON-RPC; `error_string` says more."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call. Its method and the names of its parameters are in snake_case."""

    method: str
    params: dict[str, Json]
    legacy: bool
    tag: Json = None
    """`tag` or `id`, given back with the answer."""
    answered: bool = True
    """False: a notification, to which nothing is said."""


class RefusedCallError(RpcError):
    """One of which so much could be read that its dialect and its tag are known."""

    def __init__(self, code: int, message: str, call: Call) -> None:
        super().__init__(code, message)
        self.call = call


def parse(body: bytes | bytearray) -> tuple[list[Call | RpcError], bool]:
    """The calls in a request, those that are none as errors; and whether there were many at once.
    Raises RpcError for what is no request at all."""
    try:
        value = json.loads(body, parse_constant=_not_json)
    except (ValueError, RecursionError):
        raise RpcError(PARSE_ERROR, "not JSON") from None
    if isinstance(value, list):
        if not value or len(value) > MAX_BATCH:
            raise RpcError(INVALID_REQUEST, f"a batch has 1 to {MAX_BATCH} calls")
        return [_call(one, batch=True) for one in value], True
    return [_call(value, batch=False)], False


def _not_json(constant: str) -> None:
    """NaN and its kind, which Python's own reader takes."""
    raise ValueError(constant)


def _call(value: Json, *, batch: bool) -> Call | RpcError:
    if not isinstance(value, dict):
        return RpcError(INVALID_REQUEST, "a call is an object")
    legacy = "jsonrpc" not in value
    tag = value.get("tag" if legacy else "id")
    is_tag = type(tag) is int if legacy else tag is None or _is_id(tag)
    call = Call("", {}, legacy, tag if is_tag else None)

    def refused(code: int, why: str) -> RefusedCallError:
        return RefusedCallError(code, why, call)

    if not legacy and value["jsonrpc"] != "2.0":
        return refused(INVALID_REQUEST, "jsonrpc must be '2.0'")
    if legacy and batch:
        return RpcError(INVALID_REQUEST, "a batch has calls of JSON-RPC 2.0 only")
    method = value.get("method")
    params = value.get("arguments" if legacy else "params")
    if not isinstance(method, str):
        return refused(INVALID_REQUEST, "no method name")
    if params is None or (legacy and params == []):  # so PHP writes an object without members
        params = {}
    if not isinstance(params, dict):
        return refused(INVALID_PARAMS, "parameters are given by their names")
    if not legacy and not is_tag:
        return refused(INVALID_REQUEST, "an id is a number or a string")
    return replace(
        call,
        method=to_snake(method),
        params={to_snake(key): item for key, item in params.items()},
        answered=legacy or "id" in value,
    )


def _is_id(tag: Json) -> bool:
    return type(tag) in (int, str) or (type(tag) is float and math.isfinite(tag))


def answer(call: Call, result: Mapping[str, Json]) -> dict[str, Json]:
    """What was asked for; the names in `result` are those of the call's dialect already."""
    if call.legacy:
        return _tagged({"result": "success", "arguments": result}, call)
    return {"jsonrpc": "2.0", "result": result, "id": call.tag}


def failure(call: Call | None, error: RpcError) -> dict[str, Json]:
    """Why it was not done. Without a call, as in JSON-RPC."""
    if call is not None and call.legacy:
        text = "no method name" if error.code == NO_METHOD else error.message
        return _tagged({"result": text, "arguments": {}}, call)
    message = MESSAGES.get(error.code, error.message)
    told = {"code": error.code, "message": message, "data": {"error_string": error.message}}
    return {"jsonrpc": "2.0", "error": told, "id": call.tag if call is not None else None}


def _tagged(value: dict[str, Json], call: Call) -> dict[str, Json]:
    return value if call.tag is None else {**value, "tag": call.tag}


# --- as bytes ------------------------------------------------------------------------------------

_PLACE: Final = secrets.token_hex(16)


class Encoded:
    """A list whose items are JSON already: thousands of objects that live until an answer is whole
    would make the interpreter look through all that it has."""

    def __init__(self) -> None:
        self._items: list[str] = []

    def add(self, item: str) -> None:
        self._items.append(item)

    def __str__(self) -> str:
        return f"[{','.join(self._items)}]"


def dump(value: Json) -> bytes:
    """An answer, or several, for the wire."""
    lists: list[Encoded] = []

    def place(one: object) -> str:
        if not isinstance(one, Encoded):
            raise TypeError(f"{type(one).__name__} has no place in JSON")
        lists.append(one)
        return _PLACE

    # No client knows what stands in the place of a list, so none can have put it anywhere else.
    text, *rest = _to_json(value, place).split(f'"{_PLACE}"')
    parts = [text]
    for one, after in zip(lists, rest, strict=True):
        parts += str(one), after
    return "".join(parts).encode("ascii")


def _to_json(value: Json, default: Callable[[object], str] | None = None) -> str:
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"), default=default)
