"""What is logged on stderr, for people and for programs."""

from __future__ import annotations

import json
import logging
import signal
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.cli.logs import MAX_FIELDS, MAX_MESSAGE, JsonFormatter, TextFormatter
from tests.cli.test_main import ALONE, Process


def record(message: object, *args: object, **extra: Any) -> logging.LogRecord:
    made = logging.getLogger().makeRecord("a.b", logging.WARNING, "f", 1, message, args, None)
    vars(made).update(extra)
    return made


def of_json(made: logging.LogRecord) -> dict[str, Any]:
    line = JsonFormatter().format(made)
    assert line.isascii()
    assert line.isprintable()
    assert len(line) < 12 * (MAX_MESSAGE * (MAX_FIELDS + 10))
    told: dict[str, Any] = json.loads(line, parse_constant=lambda name: pytest.fail(name))
    return told


def test_an_object_has_the_time_the_level_the_logger_and_the_message() -> None:
    told = of_json(record("%s: %d", "x", 5, torrent="ab", peers=3, ratio=1.5, on=True, why=None))
    assert datetime.fromisoformat(told.pop("time")).utcoffset() is not None
    assert told == {
        "level": "warning",
        "logger": "a.b",
        "message": "x: 5",
        "torrent": "ab",
        "peers": 3,
        "ratio": 1.5,
        "on": True,
        "why": None,
    }


def test_an_exception_is_told_with_its_traceback() -> None:
    nothing: dict[str, int] = {}
    try:
        nothing["x" * 100_000 + "end"]
    except KeyError:
        told = of_json(record("failed", exc_info=sys.exc_info()))
    assert told["message"] == "failed"
    assert told["exception"].endswith("end'")
    assert len(told["exception"]) <= 16_384


def test_a_traceback_for_people_is_bounded_and_does_not_move_the_cursor() -> None:
    error = OSError("\x1b[2J\r" + "x" * 100_000 + "\x1bend")
    text = TextFormatter().format(record("failed", exc_info=(OSError, error, None)))
    assert text.endswith("x\\x1bend")
    assert "\x1b" not in text
    assert len(text) < 40_000


@given(st.text(), st.text(), st.integers() | st.floats() | st.binary() | st.text())
def test_no_name_breaks_the_line(name: str, key: str, value: object) -> None:
    made = record("the torrent %s", name)
    vars(made).setdefault(key, value)
    of_json(made)
    line = TextFormatter().format(record("the torrent %s", name))
    assert len(line.splitlines()) == 1
    assert "\x1b" not in line


def test_halves_of_characters_are_not_passed_on() -> None:
    told = of_json(record("%s", "a\ud800b", **{"k\udcff": "\udc00"}))
    assert told["message"] == "a?b"
    assert told["k?"] == "?"


def test_what_is_long_is_cut() -> None:
    told = of_json(record("x" * 10**6, **{f"k{i}": "y" * 10**6 for i in range(1000)}))
    assert max(map(len, map(str, told.values()))) <= 16_384
    assert len(told) == 4 + MAX_FIELDS
    assert len(TextFormatter().format(record("x" * 10**6))) < MAX_MESSAGE + 100


def test_what_cannot_be_formatted_is_told_all_the_same() -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError

    assert of_json(record("%d", "x"))["message"] == "%d"
    assert of_json(record("m", value=Broken(), big=10**5000))["value"] == "Broken"
    assert of_json(record("m", level="x", time="z"))["level"] == "warning"


def test_a_node_logs_in_json_where_that_is_wanted(tmp_path: Path) -> None:
    options = ("--log-format", "json", "--dht-unlimited", "--state-dir", tmp_path / "state")
    with Process(*ALONE, *options) as node:
        assert node.line().startswith("ready ")
        code, out, err = node.end(signal.SIGTERM)
    assert (code, out) == (0, "")
    told = [json.loads(line) for line in err.splitlines()]
    assert [one["level"] for one in told] == ["warning"]
    assert "rate limits are lifted" in told[0]["message"]
