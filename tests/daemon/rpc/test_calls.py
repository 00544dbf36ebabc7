"""Requests and answers of both dialects; what is none is refused and never an exception."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht_torrent.daemon.rpc.calls import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    MAX_BATCH,
    NO_METHOD,
    PARSE_ERROR,
    Call,
    Encoded,
    RefusedCallError,
    RpcError,
    answer,
    dump,
    failure,
    parse,
)


def one(value: Any) -> Call | RpcError:
    calls, many = parse(json.dumps(value).encode())
    assert not many
    [call] = calls
    return call


OLD = {"method": "torrent-get", "arguments": {"fields": ["id"], "peer-limit": 3}, "tag": 7}
NEW = {"jsonrpc": "2.0", "method": "torrent_get", "params": {"peer_limit": 3}, "id": "x"}


def test_both_dialects_say_the_same() -> None:
    old, new = one(OLD), one(NEW)
    assert isinstance(old, Call)
    assert isinstance(new, Call)
    assert (old.method, old.legacy, old.tag) == ("torrent_get", True, 7)
    assert (new.method, new.legacy, new.tag) == ("torrent_get", False, "x")
    assert old.params["peer_limit"] == new.params["peer_limit"] == 3


def test_answers_are_as_the_dialect_has_them() -> None:
    old, new = one(OLD), one(NEW)
    assert isinstance(old, Call)
    assert isinstance(new, Call)
    assert answer(old, {"a": 1}) == {"result": "success", "arguments": {"a": 1}, "tag": 7}
    assert answer(new, {"a": 1}) == {"jsonrpc": "2.0", "result": {"a": 1}, "id": "x"}
    wrong = RpcError(5, "no room")
    assert failure(old, wrong) == {"result": "no room", "arguments": {}, "tag": 7}
    assert failure(new, wrong) == {
        "jsonrpc": "2.0",
        "error": {"code": 5, "message": "system error", "data": {"error_string": "no room"}},
        "id": "x",
    }
    unknown = RpcError(NO_METHOD, "Method not found")
    assert failure(old, unknown)["result"] == "no method name"
    assert failure(new, unknown)["error"]["code"] == NO_METHOD


def test_no_tag_is_given_back_where_none_came() -> None:
    call = one({"method": "session-get"})
    assert isinstance(call, Call)
    assert answer(call, {}) == {"result": "success", "arguments": {}}


def test_a_notification_is_not_answered_and_a_batch_is_many_calls() -> None:
    call = one({"jsonrpc": "2.0", "method": "torrent_stop"})
    assert isinstance(call, Call)
    assert not call.answered
    calls, many = parse(json.dumps([NEW, {"jsonrpc": "2.0"}, 3, OLD]).encode())
    assert many
    assert [isinstance(call, Call) for call in calls] == [True, False, False, False]


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ([], INVALID_REQUEST),
        ([NEW] * (MAX_BATCH + 1), INVALID_REQUEST),
    ],
)
def test_a_batch_has_a_bound(value: Any, code: int) -> None:
    with pytest.raises(RpcError) as caught:
        parse(json.dumps(value).encode())
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (3, INVALID_REQUEST),
        ({}, INVALID_REQUEST),
        ({"method": 3}, INVALID_REQUEST),
        ({"jsonrpc": "1.0", "method": "a"}, INVALID_REQUEST),
        ({"jsonrpc": "2.0", "method": "a", "params": [1]}, INVALID_PARAMS),
        ({"jsonrpc": "2.0", "method": "a", "id": [1]}, INVALID_REQUEST),
        ({"jsonrpc": "2.0", "method": "a", "id": True}, INVALID_REQUEST),
        ({"jsonrpc": "2.0", "method": "a", "id": {}}, INVALID_REQUEST),
        ({"method": "a", "arguments": "b"}, INVALID_PARAMS),
    ],
)
def test_what_is_no_call_is_refused(value: Any, code: int) -> None:
    found = one(value)
    assert isinstance(found, RpcError)
    assert found.code == code


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"a": NaN}', b"[-Infinity]"]
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(RpcError) as caught:
        parse(body)
    assert caught.value.code == PARSE_ERROR


def test_an_id_that_no_answer_can_hold_is_refused() -> None:
    [call], _ = parse(b'{"jsonrpc": "2.0", "method": "session_get", "id": 1e999}')
    assert isinstance(call, RefusedCallError)
    assert json.loads(dump(failure(call.call, call)))["id"] is None


@pytest.mark.parametrize("wrong", [{}, {"method": 3}, {"method": "a", "arguments": "b"}])
def test_who_speaks_the_old_dialect_is_refused_in_it(wrong: dict[str, Any]) -> None:
    call = one({**wrong, "tag": 4})
    assert isinstance(call, RefusedCallError)
    told = failure(call.call, call)
    assert (told["arguments"], told["tag"]) == ({}, 4)
    assert told["result"] in ("no method name", "parameters are given by their names")


def test_what_is_refused_in_the_new_dialect_has_its_id() -> None:
    call = one({"jsonrpc": "2.0", "method": 3, "id": "x"})
    assert isinstance(call, RefusedCallError)
    assert failure(call.call, call)["id"] == "x"


def test_php_writes_no_arguments_as_an_empty_list() -> None:
    call = one({"method": "session-get", "arguments": []})
    assert isinstance(call, Call)
    assert call.params == {}


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
)


@given(values)
def test_any_json_is_a_call_or_refused(value: Any) -> None:
    try:
        calls, _ = parse(json.dumps(value).encode())
    except RpcError:
        return
    assert all(isinstance(call, (Call, RpcError)) for call in calls)


@given(st.lists(st.text() | st.integers() | st.dictionaries(st.text(), st.text())))
def test_a_list_that_is_json_already_is_sent_as_if_it_were_not(whole: list[Any]) -> None:
    told = Encoded()
    for one in whole:
        told.add(json.dumps(one))
    sent = dump([{"result": {"torrents": told, "removed": [1]}, "tag": 3}, {"a": Encoded()}, told])
    removed = {"torrents": whole, "removed": [1]}
    assert json.loads(sent) == [{"result": removed, "tag": 3}, {"a": []}, whole]


def test_what_is_no_json_is_a_bug_of_ours() -> None:
    with pytest.raises(TypeError, match="set has no place in JSON"):
        dump({"a": {1}})
