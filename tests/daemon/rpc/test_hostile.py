"""Whatever stands where a value is expected, in each method and each dialect: it is done or refused
in a line, as JSON, and is no bug of ours."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from trio.testing import MockClock

from dht_torrent import Node
from dht_torrent.daemon.rpc.calls import MESSAGES
from dht_torrent.daemon.rpc.methods import METHODS
from dht_torrent.daemon.rpc.names import to_legacy
from dht_torrent.daemon.rpc.torrent_fields import FIELDS
from tests.daemon.rpc.rpc_client import Rpc, web_client
from tests.helpers.engine import LEECH, World, sample

HASH = "ab" * 20
ARGUMENTS: Final = (
    *("ids", "fields", "format", "filename", "metainfo", "download_dir", "paused", "labels"),
    *("files_wanted", "files_unwanted", "priority_high", "priority_low", "priority_normal"),
    *("sequential_download", "delete_local_data", "location", "move", "path", "name"),
    *("download_limit", "download_limited", "upload_limit", "upload_limited", "queue_position"),
    *("seed_ratio_limit", "seed_ratio_mode", "seed_idle_limit", "seed_idle_mode", "tracker_add"),
    *("speed_limit_up", "speed_limit_up_enabled", "speed_limit_down", "speed_limit_down_enabled"),
    *("seed_ratio_limited", "idle_seeding_limit", "idle_seeding_limit_enabled", "encryption"),
    *("download_queue_size", "download_queue_enabled", "seed_queue_size", "seed_queue_enabled"),
    *("alt_speed_up", "alt_speed_down", "alt_speed_enabled", "alt_speed_time_begin", "version"),
    *("alt_speed_time_end", "alt_speed_time_day", "alt_speed_time_enabled", "group", "unknown"),
    *("start_added_torrents", "peer_port", "script_torrent_done_filename", "cookies"),
)
QUIET: Final = frozenset({"session_close"})
"""Methods that end the node."""
ODD: Final = (
    *("null", "true", "false", "-1", "0", "1", "2", "1.0", "1.5", "-0.0", "1e999", "-1e999"),
    *("1e308", "9" * 4000, "9" * 30, str(2**53), str(2**63), '""', '"x"', '"' + "x" * 9000 + '"'),
    *('"\\ud800"', '"\\u0000"', '"/\\u0000"', '"/etc"', '"/../.."', "[]", "{}", "[[]]", "[null]"),
    *("[true]", '["x", 1]', "[1.5]", "[-1]", "[99999]", '["\\ud800"]', '{"a": 1}', "[0]", "[1]"),
    *(f'"{HASH}"', '"recently-active"', "[" * 900 + "]" * 900, "[" + "1," * 500 + "1]"),
    *('["name"]', '["files", "files"]', '"magnet:?xt=urn:btih:zz"', '"ZGU="', "1e-320"),
)


@pytest.fixture
async def node(tmp_path: Path, autojump_clock: MockClock) -> AsyncIterator[Node]:
    async with World().node(LEECH, download_dir=tmp_path, fail_fast=False) as node:
        yield node


async def ask(rpc: Rpc, method: str, params: str) -> dict[str, Any]:
    """With parameters that are JSON already; the answer, which keeps the form of its dialect."""
    if rpc.legacy:
        body = f'{{"method": "{method.replace("_", "-")}", "arguments": {params}, "tag": 3}}'
    else:
        body = f'{{"jsonrpc": "2.0", "method": "{method}", "params": {params}, "id": 3}}'
    answer = await rpc.raw(body.encode())
    assert answer.status_code == 200
    told: dict[str, Any] = json.loads(answer.content, parse_constant=pytest.fail)
    if rpc.legacy:
        assert told.keys() == {"result", "arguments", "tag"}
        assert isinstance(told["result"], str)
        assert isinstance(told["arguments"], dict)
        error = None if told["result"] == "success" else told["result"]
    else:
        assert told.keys() in ({"jsonrpc", "id", "result"}, {"jsonrpc", "id", "error"})
        error = told["error"]["data"]["error_string"] if "error" in told else None
        assert "error" not in told or told["error"]["message"] in (*MESSAGES.values(), error)
    if error is not None:
        assert error
        assert "internal error" not in error, (method, params[:200])
        assert "\n" not in error
        assert len(error) < 20_000
    return told


async def fill(node: Node) -> None:
    await node.get(sample().metainfo, paused=True)
    await node.get("cd" * 20, paused=True)
    await trio.sleep(1)


@pytest.mark.parametrize("legacy", [True, False])
async def test_no_odd_value_of_any_argument_is_a_bug_of_ours(
    node: Node, legacy: bool, autojump_clock: MockClock
) -> None:
    await fill(node)
    async with web_client(node) as client:
        rpc = Rpc(client, legacy=legacy)
        for method in sorted(METHODS.keys() - QUIET):
            for argument in ARGUMENTS:
                name = json.dumps(to_legacy(argument) if legacy else argument)
                for odd in ODD if argument in _OF.get(method, ARGUMENTS[:1]) else ODD[:3]:
                    await ask(rpc, method, f"{{{name}: {odd}}}")
            if not node.torrents:
                await fill(node)
        told = await rpc("torrent-get", fields=[to_legacy(one) for one in FIELDS])
        assert isinstance(told, dict)
    assert node.faults.count == 0


_OF: Final = {
    "torrent_get": {"ids", "fields", "format"},
    "torrent_set": set(ARGUMENTS),
    "torrent_add": set(ARGUMENTS),
    "torrent_remove": {"ids", "delete_local_data"},
    "torrent_set_location": {"ids", "location", "move"},
    "torrent_rename_path": {"ids", "path", "name"},
    "session_set": set(ARGUMENTS),
    "session_get": {"fields"},
    "free_space": {"path"},
    "group_set": {"name", "group"},
    "group_get": {"group"},
}

odd = st.sampled_from(ODD)
calls = st.lists(
    st.tuples(
        st.sampled_from(sorted(METHODS.keys() - QUIET)),
        st.dictionaries(st.sampled_from(ARGUMENTS), odd, max_size=6),
        st.booleans(),
    ),
    max_size=8,
)


@hypothesis_settings(deadline=None, max_examples=40)
@given(calls)
def test_nor_are_several_together(calls: list[tuple[str, dict[str, str], bool]]) -> None:
    async def main() -> None:
        async with World().node(LEECH, fail_fast=False) as node:
            await fill(node)
            async with web_client(node) as client:
                for method, params, legacy in calls:
                    inside = ", ".join(f"{json.dumps(one)}: {params[one]}" for one in params)
                    await ask(Rpc(client, legacy=legacy), method, f"{{{inside}}}")
            assert node.faults.count == 0

    trio.run(main, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"3",
        b'"x"',
        b"null",
        b"[]",
        b"[3, null, [], {}]",
        b"{}",
        b'{"method": null}',
        b'{"jsonrpc": "2.0"}',
        b'{"jsonrpc": null, "method": "session_get"}',
        b'{"jsonrpc": "2.0", "method": "session_get", "id": NaN}',
        b'{"jsonrpc": "2.0", "method": "session_get", "id": 1e999}',
        b'{"jsonrpc": "2.0", "method": "session_get", "id": ' + b"9" * 4000 + b"}",
        b'{"jsonrpc": "2.0", "method": "session_get", "id": ' + b"9" * 5000 + b"}",
        b'{"jsonrpc": "2.0", "method": "session_get", "id": "' + b"x" * 100_000 + b'"}',
        b'{"jsonrpc": "2.0", "method": "\\ud800", "id": "\\ud800"}',
        b'{"jsonrpc": "2.0", "method": "' + b"x" * 100_000 + b'", "id": 1}',
        b'{"method": "session-get", "tag": ' + b"9" * 4000 + b"}",
        b'{"method": "torrent-get", "arguments": ' + b"[" * 100_000 + b"}",
        b"\xff\xfe{",
    ],
    ids=lambda body: str(len(body)),
)
async def test_any_body_is_answered_in_json(
    body: bytes, node: Node, autojump_clock: MockClock
) -> None:
    async with web_client(node) as client:
        answer = await Rpc(client).raw(body)
        assert answer.status_code in (200, 204)
        if answer.status_code == 200:
            json.loads(answer.content.replace(b"9" * 4000, b"9"), parse_constant=pytest.fail)
    assert node.faults.count == 0
