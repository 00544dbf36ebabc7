"""The body of a request: a JSON object whose every value can be used. The rule: what comes out of
here can be encoded, printed and kept; what cannot is refused in one line, before it is used.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from dht_torrent.bounds import MAX_MAGNET, MAX_TORRENT
from dht_torrent.daemon.places import check_place
from dht_torrent.errors import InputError

if TYPE_CHECKING:
    from starlette.requests import Request

MAX_BODY: Final = MAX_TORRENT * 4 // 3 + 2 * MAX_MAGNET
"""Bytes: the largest .torrent in base64, with room for the options."""
MAX_VALUES: Final = 50_000
"""Values in a body, and separators inside its strings: a few bytes of JSON make a large object."""
MAX_PATH: Final = 4096
"""Bytes of a path (Linux's PATH_MAX)."""
_EXACT: Final = 1 << 53
RAW_BYTES: Final = frozenset({"share", "output", "value", "path", "folder"})
"""Keys of what may be any bytes: those that are not UTF-8 come as `os.fsdecode` has them."""


async def read_bytes(request: Request, limit: int) -> bytearray:
    """All that is sent. Raises InputError, HTTPException(413)."""
    body = bytearray()
    try:
        async with contextlib.aclosing(request.stream()) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > limit:
                    raise HTTPException(413, f"at most {limit} bytes")
    except ClientDisconnect:
        raise InputError("the body ended early") from None
    return body


async def read_body(request: Request) -> dict[str, Any]:
    """The JSON object sent, at most MAX_BODY bytes of it. Raises InputError, HTTPException(413)."""
    body = await read_bytes(request, MAX_BODY)
    if sum(map(body.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise InputError(f"the body has more than {MAX_VALUES} values")
    try:
        value = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise InputError("the body is not JSON") from None
    if not isinstance(value, dict):
        raise InputError("the body must be a JSON object")
    for key, item in value.items():
        _check(key, item)
    return value


def absolute_path(value: str, key: str) -> None:
    """Raises InputError unless `value` can be a path from the root, and is one that who asks may
    use."""
    try:
        raw = value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raw = b""
    if not raw.startswith(b"/") or b"\0" in raw or len(raw) > MAX_PATH:
        raise InputError(f"{key} must be an absolute path")
    check_place(value, key)


def check_types(values: Mapping[str, object], allowed: Mapping[str, type]) -> dict[str, Any]:
    """The values that are not null, each of the type `allowed` says; a whole number is a float too,
    if it is one exactly. Raises InputError."""
    unknown = sorted(values.keys() - allowed.keys())
    if unknown:
        raise InputError(f"unknown option {unknown[0][:40]!r}")
    given = {key: value for key, value in values.items() if value is not None}
    for key, value in given.items():
        if allowed[key] is float and type(value) is int and abs(value) <= _EXACT:
            given[key] = float(value)
        elif type(value) is not allowed[key]:
            raise InputError(f"{key} must be of type {allowed[key].__name__}")
    return given


def _check(key: str, value: object) -> None:
    """What is nested is of a wrong type anyway, which is said by those who know the right one."""
    if isinstance(value, str):
        try:
            value.encode("utf-8", "surrogateescape" if key in RAW_BYTES else "strict")
        except UnicodeEncodeError:
            raise InputError(f"{key[:40]!r} holds half a character (a lone surrogate)") from None


def _no_constant(name: str) -> None:
    raise ValueError(name)
