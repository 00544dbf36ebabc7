"""Who may call, and what happens to those who may not: HTTP around the RPC."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest
from trio.testing import MockClock

from dht_torrent.daemon.body import MAX_BODY
from dht_torrent.daemon.credentials import FREE_TRIES, MAX_HOSTS, Credentials, Throttle
from dht_torrent.daemon.rpc import endpoint
from dht_torrent.daemon.rpc.endpoint import SESSION_ID, VERSION
from dht_torrent.daemon.web_app import RPC_PATH, parse_web
from dht_torrent.errors import InputError
from dht_torrent.ids import Address
from tests.daemon.rpc.rpc_client import PASSWORD, USER, Rpc, web_client, web_options
from tests.helpers.engine import LEECH, World

CALL = {"method": "session-get"}


async def asked(client: httpx.AsyncClient, **headers: str) -> int:
    return (await client.post(RPC_PATH, json=CALL, headers=headers)).status_code


async def test_without_the_session_id_nothing_is_carried_out(autojump_clock: MockClock) -> None:
    async with World().node(LEECH) as node, web_client(node) as client:
        add = {"method": "torrent-add", "arguments": {"filename": "ab" * 20}}
        first = await client.post(RPC_PATH, json=add)
        assert first.status_code == 409
        assert first.headers[VERSION] == "6.0.0"
        assert VERSION in first.headers["Access-Control-Expose-Headers"]
        assert not node.torrents
        wrong = await client.post(RPC_PATH, json=add, headers={SESSION_ID: "wrong"})
        assert wrong.status_code == 409
        got = await client.get(RPC_PATH + "/")  # as some fetch it
        assert got.status_code == 409
        session = got.headers[SESSION_ID]
        assert session == first.headers[SESSION_ID]
        assert await asked(client, **{SESSION_ID: session}) == 200
        # Not by GET, whatever it carries.
        again = await client.get(RPC_PATH, headers={SESSION_ID: session})
        assert again.status_code == 409


async def test_credentials_are_needed_and_without_any_the_rpc_is_off(
    autojump_clock: MockClock,
) -> None:
    async with World().node(LEECH) as node:
        async with web_client(node) as client:
            client.auth = httpx.Auth()
            answer = await client.post(RPC_PATH, json=CALL)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"].startswith("Basic ")
            assert SESSION_ID not in answer.headers
            for wrong in (
                "Basic",
                "Basic !!!",
                "Bearer " + PASSWORD,
                "Basic " + base64.b64encode(b"\xff:x").decode(),
                "Basic " + base64.b64encode(f"{USER}:{PASSWORD}x".encode()).decode(),
                "Basic " + base64.b64encode(f"{USER}x:{PASSWORD}".encode()).decode(),
            ):
                found = await client.post(RPC_PATH, json=CALL, headers={"Authorization": wrong})
                assert found.status_code in (401, 429)
        async with web_client(node, credentials=None) as client:
            assert (await client.post(RPC_PATH, json=CALL)).status_code == 404
            assert (await client.get("/healthz")).json() == {"status": "ok"}


async def test_who_guesses_must_wait_longer_and_longer(autojump_clock: MockClock) -> None:
    async with World().node(LEECH) as node, web_client(node) as client:
        client.auth = (USER, "guess")
        codes = [await asked(client) for _ in range(FREE_TRIES + 2)]
        assert codes == [401] * FREE_TRIES + [429] * 2
        client.auth = (USER, PASSWORD)
        assert await asked(client) == 429  # also the right one, or it could be found meanwhile
        autojump_clock.jump(1.1)
        assert await asked(client) == 409
        client.auth = (USER, "guess")
        assert await asked(client) == 401  # the count began anew


def test_each_host_waits_for_itself_and_not_all_of_them_are_remembered() -> None:
    now = 0.0
    throttle = Throttle(lambda: now)
    for _ in range(FREE_TRIES + 3):
        throttle.failed("a")
    assert throttle.wait("a") == 8.0
    assert throttle.wait("b") == 0.0
    for _ in range(100):
        throttle.failed("a")
    assert throttle.wait("a") == 900.0
    for number in range(MAX_HOSTS):
        throttle.failed(str(number))
    assert throttle.wait("a") == 0.0


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"host": "evil.example"}, 421),
        ({"host": "evil.example:9091"}, 421),
        ({"host": "127.0.0.1.evil.example"}, 421),
        ({"host": "[::1].evil.example"}, 421),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "https://127.0.0.1:9091"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": "http://127.0.0.1:9091"}, 409),
        ({"host": "localhost:9091"}, 409),
        ({"host": "[::1]:9091"}, 409),
        ({"host": "192.0.2.7"}, 409),
        ({"host": "NAS:9091"}, 409),
    ],
)
async def test_pages_of_other_origins_and_names_that_are_not_ours_are_refused(
    headers: dict[str, str], code: int, autojump_clock: MockClock
) -> None:
    async with World().node(LEECH) as node, web_client(node, hosts=("nas",)) as client:
        answer = await client.post(RPC_PATH, json=CALL, headers=headers)
        assert answer.status_code == code
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_a_request_has_bounds(autojump_clock: MockClock) -> None:
    async with World().node(LEECH) as node, web_client(node) as client:
        rpc = Rpc(client)
        await rpc("session-get")
        headers = {SESSION_ID: (await client.get(RPC_PATH)).headers[SESSION_ID]}
        many = await client.post(RPC_PATH, content=b"[" * 60_000, headers=headers)
        assert many.json()["error"]["data"]["error_string"].startswith("a request has at most")
        none = await client.post(RPC_PATH, content=b"\xff\xfe", headers=headers)
        assert none.json()["error"]["code"] == -32700
        notify = {"jsonrpc": "2.0", "method": "session_get"}
        silent = await client.post(RPC_PATH, content=json.dumps(notify), headers=headers)
        assert (silent.status_code, silent.content) == (204, b"")
        many_calls = [{**notify, "id": number} for number in range(3)]
        batch = await client.post(RPC_PATH, content=json.dumps(many_calls), headers=headers)
        assert [one["id"] for one in batch.json()] == [0, 1, 2]


async def test_a_body_is_not_read_beyond_its_bound(autojump_clock: MockClock) -> None:
    read = 0
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        nonlocal read
        read += 1 << 20
        return {"type": "http.request", "body": b" " * (1 << 20), "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    token = base64.b64encode(f"{USER}:{PASSWORD}".encode())
    async with World().node(LEECH) as node, web_client(node) as client:
        session = (await client.get(RPC_PATH)).headers[SESSION_ID]
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": RPC_PATH,
            "raw_path": RPC_PATH.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [
                (b"host", b"localhost"),
                (b"authorization", b"Basic " + token),
                (SESSION_ID.lower().encode(), session.encode()),
            ],
        }
        transport = client._transport
        assert isinstance(transport, httpx.ASGITransport)
        await transport.app(scope, receive, send)
    assert sent[0]["status"] == 413
    assert read <= MAX_BODY + (2 << 20)


# -- options --------------------------------------------------------------------------------------


def test_a_file_of_credentials_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "auth"
    file.write_text("me:pass:word\r\nmore\n")
    file.chmod(0o600)
    read = Credentials.read(file)
    assert read.are("me", "pass:word")
    assert not read.are("me", "pass")
    assert "pass" not in repr(read)
    file.chmod(0o640)
    with pytest.raises(InputError, match="others can read"):
        Credentials.read(file)
    file.chmod(0o600)
    for text in ("", "me", "me:", ":word", "me:" + "x" * 2000, os.fsdecode(b"a:\xff")):
        file.write_bytes(os.fsencode(text))
        with pytest.raises(InputError) as caught:
            Credentials.read(file)
        assert "must hold USER:PASSWORD" in str(caught.value)
    with pytest.raises(InputError, match="No such file"):
        Credentials.read(tmp_path / "none")


def test_an_address_of_the_network_needs_encryption_or_insistence() -> None:
    for host in ("0.0.0.0", "192.0.2.1", "::"):
        with pytest.raises(InputError, match="could read along"):
            web_options(address=Address(host, 9091))
        web_options(address=Address(host, 9091), insecure=True)
        web_options(address=Address(host, 9091), tls=(Path("a"), Path("b")))
    web_options(address=Address("::1", 9091))
    assert parse_web("[::1]:0") == Address("::1", 0)
    with pytest.raises(InputError, match=r"^--web: "):
        parse_web("9091")


async def test_the_answers_to_a_batch_have_a_bound(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    monkeypatch.setattr(endpoint, "MAX_ANSWERS", 2_000)
    async with World().node(LEECH) as node, web_client(node) as client:
        call = {"jsonrpc": "2.0", "method": "session_get"}
        told = (await Rpc(client).post([{**call, "id": number} for number in range(5)])).json()
        assert [one["id"] for one in told] == list(range(5))
        assert [("error" in one) for one in told] == [False, *[index > 1 for index in range(1, 5)]]
        assert told[-1]["error"]["data"]["error_string"] == endpoint.TOO_LONG
