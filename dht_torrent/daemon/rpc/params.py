"""Reading what a client gave: each value checked, with an error that names it."""

from __future__ import annotations

from typing import Any, Final

from dht_torrent.daemon.rpc.calls import INVALID_PARAMS, RpcError

MAX_LIST: Final = 100_000
"""Elements of a list."""
_MAX_NUMBER: Final = 1 << 53


def integer(params: dict[str, Any], name: str, least: int = 0) -> int | None:
    """A whole number from `least` on, or None if it was not given. 100.0 is one, since typed
    clients send that. Raises RpcError."""
    value = params.get(name)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or not least <= value <= _MAX_NUMBER:
        raise RpcError(INVALID_PARAMS, f"{name} must be a whole number from {least} on")
    return value


def number(params: dict[str, Any], name: str) -> float | None:
    """Not negative. Raises RpcError."""
    value = params.get(name)
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value <= _MAX_NUMBER:
        raise RpcError(INVALID_PARAMS, f"{name} must be a number, and not negative")
    return float(value)


def boolean(params: dict[str, Any], name: str) -> bool | None:
    """0 and 1 are booleans too. Raises RpcError."""
    value = params.get(name)
    if value is None or isinstance(value, bool):
        return value
    if value in (0, 1):
        return bool(value)
    raise RpcError(INVALID_PARAMS, f"{name} must be true or false")


def text(params: dict[str, Any], name: str) -> str | None:
    """Raises RpcError."""
    value = params.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise RpcError(INVALID_PARAMS, f"{name} must be a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RpcError(INVALID_PARAMS, f"{name} holds half a character") from None
    return value


def texts(params: dict[str, Any], name: str) -> list[str] | None:
    """Raises RpcError."""
    value = params.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or len(value) > MAX_LIST:
        raise RpcError(INVALID_PARAMS, f"{name} must be a list of strings")
    return [one for item in value if (one := text({name: item}, name)) is not None]


def integers(params: dict[str, Any], name: str) -> list[int] | None:
    """Raises RpcError."""
    value = params.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or len(value) > MAX_LIST:
        raise RpcError(INVALID_PARAMS, f"{name} must be a list of numbers")
    return [one for item in value if (one := integer({name: item}, name)) is not None]
