"""What the node logs, on stderr: lines for people, or an object of JSON a line.

The rule: a message is one line of bounded length, whatever names of strangers are in it; only
tracebacks of ours have more.
"""

from __future__ import annotations

import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, Final

MAX_MESSAGE: Final = 4096
"""Characters of a message ..."""
MAX_TRACEBACK: Final = 16_384
"""... of a traceback, of which the end tells more ..."""
MAX_FIELDS: Final = 32
"""... and the fields besides, each as long as a message."""

_UNSAFE: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
_OF_ALL: Final = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}


def log_to_stderr(level: str, style: str, *, again: bool = False) -> None:
    """Begin to, unless the process has begun to log somewhere else; or change how, `again`. `style`
    is text or json."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=again)
    logging.getLogger("hypercorn").setLevel(logging.WARNING)


class TextFormatter(logging.Formatter):
    """For people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        record.message = _UNSAFE.sub(_escaped, _cut(record.message))
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        lines = super().formatException(ei)[-MAX_TRACEBACK:].split("\n")
        return "\n".join(_UNSAFE.sub(_escaped, line) for line in lines)


class JsonFormatter(logging.Formatter):
    """For programs: `time` (RFC 3339, UTC), `level`, `logger`, `message`, `exception` if there is
    one, and what was given as `extra`. It is ASCII, and never raises."""

    def format(self, record: logging.LogRecord) -> str:
        import json

        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - of arguments that do not fit; to lose a message is worse
            message = str(record.msg)
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _text(message),
        }
        if record.exc_info and record.exc_info[0] is not None:
            told["exception"] = _text(self.formatException(record.exc_info)[-MAX_TRACEBACK:])
        extras = [name for name in vars(record) if name not in _OF_ALL and name not in told]
        told |= {_text(name): _value(getattr(record, name)) for name in extras[:MAX_FIELDS]}
        return json.dumps(told, allow_nan=False)


def _value(value: object) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) < 2**63:
        return value
    if isinstance(value, float) and abs(value) <= sys.float_info.max:  # neither is nan
        return value
    try:
        return _text(_cut(str(value)))
    except Exception:  # noqa: BLE001 - of a value's own making
        return type(value).__name__


def _text(text: str) -> str:
    """Without halves of characters, which parsers of JSON may refuse."""
    return _cut(text, MAX_TRACEBACK).encode("utf-8", "replace").decode()


def _cut(text: str, most: int = MAX_MESSAGE) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()
