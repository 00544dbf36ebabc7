"""The control API does as its own description says: requests are made from it, good and bad."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
import trio
from hypothesis import HealthCheck, Phase, given, settings
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.routing import Match
from trio.testing import MockClock

from dht_torrent import Node
from dht_torrent.daemon.app import api_routes, make_app
from dht_torrent.daemon.control import HEADER
from dht_torrent.daemon.openapi import API, OPERATIONS, document, schema_of
from dht_torrent.engine.views import NodeStatus, Summary
from tests.helpers.engine import LEECH, World, sample

EXAMPLES = 3
"""Requests of each kind for each operation."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
PATHS = ("share", "output", "folder", "path", "tls_ca", "tls_cert", "tls_key")


async def ask(node: Node, method: str, path: str, **more: Any) -> httpx.Response:
    app = make_app(node, stop=lambda: None)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://node") as client:
        return await client.request(method, path, **more)


# -- the document ---------------------------------------------------------------------------------


async def test_every_route_is_described_and_nothing_else(autojump_clock: MockClock) -> None:
    async with World().node(LEECH) as node:
        routes = api_routes(node, stopping=trio.Event(), stop=lambda: None)
        matched = []
        for one in OPERATIONS:
            path = f"{API}/{one.path.replace('{id}', 'ab')}"
            scope = {"type": "http", "method": one.method.upper(), "path": path}
            found = [route for route in routes if route.matches(scope)[0] is Match.FULL]
            assert found, one
            matched.append(found[0])
        assert [route.path for route in routes if route not in matched] == ["/api/openapi.json"]


async def test_the_document_is_had_of_the_node_and_is_openapi(autojump_clock: MockClock) -> None:
    async with World().node(LEECH) as node:
        answer = await ask(node, "GET", "/api/openapi.json")
        assert answer.status_code == 200
        told = answer.json()
    assert told == json.loads(json.dumps(document()))
    schemathesis.openapi.from_dict(told).validate()
    for schema in told["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    names = [one["operationId"] for path in told["paths"].values() for one in path.values()]
    assert len(set(names)) == len(names) == len(OPERATIONS)


def test_a_view_is_described_with_all_its_fields() -> None:
    parts: dict[str, Any] = {}
    assert schema_of(list[Summary], parts)["items"] == {"$ref": "#/components/schemas/Summary"}
    summary = parts["Summary"]
    assert summary["required"] == [field.name for field in dataclasses.fields(Summary)]
    assert summary["properties"]["limit_up"] == {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    assert "paused" in summary["properties"]["state"]["enum"]
    schema_of(NodeStatus, parts)
    assert parts["NodeStatus"]["properties"]["dht"] == {"$ref": "#/components/schemas/DhtStatus"}
    assert parts["DhtStatus"]["properties"]["address"] == {"type": "string"}
    with pytest.raises(TypeError, match="no place in JSON"):
        schema_of(set[int], parts)


async def test_what_is_sent_is_as_described(autojump_clock: MockClock, tmp_path: Path) -> None:
    """Of a node that has a torrent: all that can be looked at."""
    told = document()
    one = sample()
    async with World().node(LEECH, download_dir=tmp_path) as node:
        await node.get(one.metainfo, paused=True)
        for operation in OPERATIONS:
            if operation.method != "get" or operation.media != "application/json":
                continue
            path = f"{API}/{operation.path.replace('{id}', one.metainfo.info_hash.hex())}"
            answer = await ask(node, "GET", path)
            assert answer.status_code == 200, path
            where = told["paths"][f"{API}/{operation.path}"]["get"]["responses"]["200"]
            schema = where["content"]["application/json"]["schema"]
            whole = {**schema, "components": told["components"]}
            Draft202012Validator(whole).validate(answer.json())


# -- requests made from it ------------------------------------------------------------------------


def requests(mode: GenerationMode) -> list[Case[Any]]:
    """Some for each operation; the same ones each time."""
    made: list[Case[Any]] = []
    whole = schemathesis.openapi.from_dict(document())
    schema = whole.exclude(path=f"{API}/catalogue/import")  # it takes lines
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        if mode is GenerationMode.NEGATIVE and not (operation.body or operation.query):
            continue  # there is nothing that could be wrong of it

        @settings(
            max_examples=EXAMPLES,
            database=None,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def make(case: Case[Any]) -> None:
            made.append(case)

        make()
    return made


def kept_inside(value: Any, folder: Path) -> Any:
    """No path of this machine, whatever was made up."""
    if not isinstance(value, dict):
        return value
    return {
        key: str(folder / "film.bin") if key in PATHS and str(item).startswith("/") else item
        for key, item in value.items()
    }


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
async def test_any_request_that_the_description_allows_or_not_is_answered_as_it_says(
    mode: GenerationMode, autojump_clock: MockClock, tmp_path: Path
) -> None:
    (tmp_path / "film.bin").write_bytes(b"x" * 1000)
    one = sample()
    cases = requests(mode)
    assert len(cases) >= EXAMPLES * len([one for one in OPERATIONS if one.query or one.takes])
    async with World().node(LEECH, download_dir=tmp_path) as node:
        for number, case in enumerate(cases):
            info_hash = one.metainfo.info_hash
            if info_hash not in node.torrents:
                await node.get(one.metainfo, paused=True)
            if number % 2 and "watch" not in case.path and "id" in (case.path_parameters or {}):
                case.path_parameters["id"] = info_hash.hex()
            case.body = kept_inside(case.body, tmp_path)
            told = case.as_transport_kwargs(base_url="http://node", headers={HEADER: "1"})
            sent = {
                key: told[key]
                for key in ("params", "headers", "json", "content", "data")
                if told.get(key) is not None
            }
            if isinstance(sent.get("data"), bytes | str):
                sent["content"] = sent.pop("data")
            answer = await ask(node, told["method"], told["url"], **sent)
            case.validate_response(answer, checks=CHECKS)
        assert node.status().faults == 0


@pytest.mark.parametrize("given", [3, 3.0])
async def test_a_whole_number_is_a_number_too(given: float, autojump_clock: MockClock) -> None:
    one = sample()
    async with World().node(LEECH) as node:
        await node.get(one.metainfo, paused=True)
        body = {"source": one.metainfo.info_hash.hex(), "patience": given, "network": False}
        answer = await ask(node, "POST", f"{API}/similar", json=body)
        assert "type" not in answer.text
        huge = await ask(node, "POST", f"{API}/similar", json={**body, "patience": 10**400})
        assert huge.json() == {"error": "patience must be of type float"}
