from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from dht_torrent.daemon.app import make_app
from dht_torrent.daemon.body import MAX_BODY
from dht_torrent.daemon.control import HEADER
from dht_torrent.metainfo import Magnet, Metainfo
from dht_torrent.storage.making import make

TOKEN = "a" * 64
PORT = 4242
ID = "1234" * 10
MAGNET = f"magnet:?xt=urn:btih:{ID}&dn=thing"
OURS = {HEADER: "1"}


class Stopped:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


def unix(node: Any, stop: Callable[[], None] = lambda: None) -> httpx.AsyncClient:
    """A client as on a Unix socket: the file system has let it in."""
    transport = httpx.ASGITransport(app=make_app(node, stop=stop), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost/api/v1", headers=OURS)


def tcp(node: Any) -> httpx.AsyncClient:
    """A client as on TCP, which has to prove itself with each request."""
    app = make_app(node, stop=lambda: None, token=TOKEN, port=PORT)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url=f"http://127.0.0.1:{PORT}/api/v1")


BEARER = {"authorization": f"Bearer {TOKEN}"}


# --- what is answered ----------------------------------------------------------------------------


async def test_status_is_the_nodes_own(node: Any) -> None:
    async with unix(node) as client:
        answer = (await client.get("status")).json()
    assert answer["listen"] == "127.0.0.1:6881"
    assert answer["reachable"] is None
    assert answer["dht"] == {
        "good": 3,
        "questionable": 0,
        "dropped": {"late": 1},
        "node_id": "00" * 20,
    }


async def test_torrents_are_listed_with_the_fields_scripts_rely_on(node: Any) -> None:
    node.add(MAGNET)
    async with unix(node) as client:
        (torrent,) = (await client.get("torrents")).json()
        assert (await client.get(f"torrents/{ID[:4]}")).json() == torrent
        assert (await client.get(f"torrents/{ID}/peers")).json()[0]["address"] == "127.0.0.1:5"
        assert (await client.get(f"torrents/{ID}/files")).json()[0]["selected"] is True
        pieces = (await client.get(f"torrents/{ID}/pieces")).json()
        assert pieces == {"states": [3, 2, 1, 0], "availability": [5, 0, 1, 2]}
    wanted = "id name state progress size downloaded uploaded wasted down_rate up_rate peers error"
    assert set(wanted.split()) <= set(torrent)
    assert torrent["id"] == ID


@pytest.mark.parametrize("source", [MAGNET, ID, ID.upper()])
async def test_a_download_is_added_by_magnet_or_infohash(node: Any, source: str) -> None:
    async with unix(node) as client:
        answer = await client.post(
            "torrents",
            json={
                "source": source,
                "output": "/o",
                "select": "0,2-3",
                "sequential": True,
                "overwrite": True,
                "sources": ["/old", "/older"],
            },
        )
    assert answer.status_code == 201
    assert answer.json()["id"] == ID
    ((_, given, options),) = node.calls
    assert isinstance(given, Magnet)
    assert options["output"] == "/o"
    assert [tuple(span) for span in options["select"]] == [(0, 0), (2, 3)]
    assert options["sequential"] is True
    assert options["overwrite"] is True
    assert options["sources"] == ["/old", "/older"]


@pytest.mark.parametrize("sources", ["/old", ["old"], [7], ["/a\0"], ["/\ud800"], [["/a"]], {}])
async def test_sources_must_be_absolute_paths(node: Any, sources: object) -> None:
    async with unix(node) as client:
        body = json.dumps({"source": MAGNET, "sources": sources})  # httpx writes no half characters
        kind = {"content-type": "application/json"}
        answer = await client.post("torrents", content=body, headers=kind)
        assert answer.status_code == 400
        assert "sources" in answer.json()["error"]
        answer = await client.post("torrents", json={"share": "/a", "sources": ["/old"]})
        assert answer.status_code == 400
    assert not node.calls


async def test_a_torrent_file_is_added_and_can_be_had_back(node: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 50_000)
    data = make(tmp_path / "file").to_torrent()
    async with unix(node) as client:
        body = {"torrent": base64.b64encode(data).decode(), "paused": True}
        torrent = (await client.post("torrents", json=body)).json()
        assert torrent["state"] == "paused"
        assert (await client.get(f"torrents/{torrent['id']}/torrent")).content == data
    assert isinstance(node.calls[0][1], Metainfo)


async def test_a_path_is_shared(node: Any, tmp_path: Path) -> None:
    async with unix(node) as client:
        body = {"share": str(tmp_path), "piece_length": 32768, "private": True}
        assert (await client.post("torrents", json=body)).status_code == 201
        body |= {"super_seed": False}
        assert (await client.post("torrents", json=body)).status_code == 201
        answer = await client.post("torrents", json=body | {"super_seed": "yes"})
        assert answer.status_code == 400
    plain = ("share", tmp_path, 32768, True)
    assert node.calls == [plain, (*plain, ("super_seed", False))]


async def test_the_files_of_an_ssl_torrent_are_passed_on(node: Any, tmp_path: Path) -> None:
    member = {"tls_cert": "/c.pem", "tls_key": "/c.key"}
    async with unix(node) as client:
        body = {"share": str(tmp_path), "tls_ca": "/ca.pem", **member}
        assert (await client.post("torrents", json=body)).status_code == 201
        assert (await client.post("torrents", json={"source": ID, **member})).status_code == 201
        for wrong in ({"tls_cert": "c.pem"}, {"tls_key": 5}, {"tls_ca": "/ca.pem"}):
            answer = await client.post("torrents", json={"source": ID, **member, **wrong})
            assert answer.status_code == 400
    (shared, got) = node.calls
    assert dict(shared[4:]) == {"tls_ca": "/ca.pem", **member}
    assert {key: got[2][key] for key in member} == member


async def test_a_source_is_never_a_path_on_the_nodes_side(node: Any, tmp_path: Path) -> None:
    (tmp_path / "x.torrent").write_bytes(b"de")
    async with unix(node) as client:
        answer = await client.post("torrents", json={"source": str(tmp_path / "x.torrent")})
    assert answer.status_code == 400
    assert node.calls == []


async def test_torrents_are_paused_resumed_rechecked_and_removed(node: Any) -> None:
    torrent = node.add(MAGNET)
    async with unix(node) as client:
        assert (await client.post(f"torrents/{ID}/pause")).json()["state"] == "paused"
        assert (await client.post(f"torrents/{ID}/resume")).json()["state"] == "downloading"
        assert (await client.post(f"torrents/{ID}/recheck")).status_code == 200
        assert (await client.post(f"torrents/{ID}/explode")).status_code == 404
        assert (await client.delete(f"torrents/{ID}?data=1")).json() == {
            "removed": ID,
            "deleted": 1,
            "left": [{"path": "/d/notes.txt", "why": "this torrent did not make it"}],
            "left_files": 1,
        }
        assert (await client.delete(f"torrents/{ID}")).status_code == 404
    assert torrent.calls == ["pause", "resume", "recheck"]
    assert node.calls == [("remove", ID, True)]


async def test_removing_keeps_the_data_unless_told_otherwise(node: Any) -> None:
    node.add(MAGNET)
    async with unix(node) as client:
        assert (await client.delete(f"torrents/{ID}?data=yes")).status_code == 400
        await client.delete(f"torrents/{ID}")
    assert node.calls == [("remove", ID, False)]


async def test_limits_are_set_for_the_node_and_for_a_torrent(node: Any) -> None:
    node.add(MAGNET)
    async with unix(node) as client:
        answer = (await client.post("limits", json={"up": 5000, "down": 9000})).json()
        assert (answer["limit_up"], answer["limit_down"]) == (5000, 9000)
        answer = (await client.post("limits", json={"down": None})).json()
        assert (answer["limit_up"], answer["limit_down"]) == (5000, None)
        answer = (await client.post(f"torrents/{ID}/limits", json={"up": 7})).json()
        assert (answer["limit_up"], answer["limit_down"]) == (7, None)
        assert (await client.get("limits")).status_code in (404, 405)


@pytest.mark.parametrize(
    "body",
    [{"up": "5K"}, {"up": 1.5}, {"up": True}, {"up": -1}, {"sideways": 5}, {"up": [1]}],
)
@pytest.mark.parametrize("path", ["limits", f"torrents/{ID}/limits"])
async def test_limits_that_are_none_are_refused(
    node: Any, path: str, body: dict[str, object]
) -> None:
    node.add(MAGNET)
    async with unix(node) as client:
        answer = await client.post(path, json=body)
    assert answer.status_code == 400
    assert node.limits == {}
    assert "\n" not in answer.json()["error"]


async def test_stop_is_passed_on(node: Any) -> None:
    stopped = Stopped()
    async with unix(node, stopped) as client:
        assert (await client.get("stop")).status_code == 405
        assert stopped.count == 0
        assert (await client.post("stop")).json() == {"stopping": True}
    assert stopped.count == 1


# --- what cannot be used -------------------------------------------------------------------------

BAD_ORDERS: list[dict[str, object]] = [
    {},
    {"source": ID, "share": "/"},
    {"source": "magnet:?dn=nothing"},
    {"source": "hello"},
    {"source": ""},
    {"source": 5},
    {"torrent": "not base64!"},
    {"torrent": base64.b64encode(b"d4:infode").decode()},
    {"share": "relative/path"},
    {"share": "/nowhere\0"},
    {"share": "/no/such/path"},
    {"source": ID, "output": "relative"},
    {"source": ID, "select": "3-"},
    {"source": ID, "select": [1]},
    {"source": ID, "sequential": "yes"},
    {"share": "/", "piece_length": True},
    {"source": ID, "run": "rm -rf /"},
]


@pytest.mark.parametrize("order", BAD_ORDERS)
async def test_a_bad_order_is_refused_in_one_line(node: Any, order: dict[str, object]) -> None:
    async with unix(node) as client:
        answer = await client.post("torrents", json=order)
    assert answer.status_code == 400
    assert "\n" not in answer.json()["error"]
    assert not node.torrents


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"nul",
        b"\xff\xfe",
        b'{"source": NaN}',
        b'{"piece_length": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
)
async def test_a_body_that_is_not_a_json_object_is_refused(node: Any, body: bytes) -> None:
    async with unix(node) as client:
        answer = await client.post("torrents", content=body)
    assert answer.status_code == 400


async def test_a_body_is_not_read_beyond_its_bound(node: Any) -> None:
    read = 0
    sent: list[Mapping[str, Any]] = []

    async def receive() -> dict[str, Any]:
        nonlocal read
        read += 1 << 20
        return {"type": "http.request", "body": b" " * (1 << 20), "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": "/api/v1/torrents",
        "raw_path": b"/api/v1/torrents",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"content-type", b"application/json")],
    }
    await make_app(node, stop=lambda: None)(scope, receive, send)
    assert sent[0]["status"] == 413
    assert read <= MAX_BODY + 2 * (1 << 20)


async def test_an_unknown_torrent_or_place_is_404(node: Any) -> None:
    async with unix(node) as client:
        for path in (
            "torrents/abcd",
            "torrents/12",
            "nothing",
            "../../etc/passwd",
            "torrents/%2e%2e",
        ):
            answer = await client.get(path)
            assert answer.status_code == 404, path
            assert "error" in answer.json()


async def test_what_the_disk_refuses_is_a_conflict(node: Any) -> None:
    async with unix(node) as client:
        answer = await client.post("torrents", json={"source": ID, "output": "/full"})
    assert answer.status_code == 409
    assert answer.json() == {"error": "no space left on device"}


async def test_a_torrent_file_is_not_to_be_had_before_the_metadata(node: Any) -> None:
    node.add(MAGNET)
    async with unix(node) as client:
        assert (await client.get(f"torrents/{ID}/torrent")).status_code == 409


async def test_a_bug_is_a_500_that_tells_a_stranger_nothing(node: Any) -> None:
    node.broken = RuntimeError("secret detail")
    async with unix(node) as client:
        answer = await client.get("status")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "\n" not in answer.json()["error"]
    assert node.faults.count == 1
    assert node.faults.last.startswith(
        "the request GET /api/v1/status: RuntimeError: secret detail"
    )


async def test_any_name_survives_json(node: Any) -> None:
    torrent = node.add(MAGNET)
    torrent.id = '<img onerror=x>\udcff\x1b[2J"'
    async with unix(node) as client:
        answer = await client.get("torrents")
    assert json.loads(answer.text)[0]["id"] == torrent.id
    assert answer.text.isascii()
    assert "\x1b" not in answer.text


# --- who may ask ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", [f"127.0.0.1:{PORT}", f"localhost:{PORT}", f"[::1]:{PORT}", f"LOCALHOST:{PORT}"]
)
async def test_the_loopback_names_with_the_right_port_are_served(node: Any, host: str) -> None:
    async with tcp(node) as client:
        assert (await client.get("status", headers={"host": host, **BEARER})).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.com",
        f"evil.com:{PORT}",
        f"127.0.0.1.evil.com:{PORT}",
        f"localhost.evil.com:{PORT}",
        "127.0.0.1",
        "localhost",
        "localhost:1",
        f"localhost:{PORT}0",
        f"127.0.0.1:{PORT}:{PORT}",
        f"user@127.0.0.1:{PORT}",
        f"::1:{PORT}",
        f"0.0.0.0:{PORT}",
        f"localhost:{PORT} evil.com",
        f"localhost:0{PORT}",
        "",
        ":",
        f":{PORT}",
    ],
)
async def test_another_host_name_is_misdirected_even_with_the_token(node: Any, host: str) -> None:
    async with tcp(node) as client:
        answer = await client.get("status", headers={"host": host, **BEARER})
    assert answer.status_code == 421


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}b",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer é",
    ],
)
async def test_tcp_needs_the_token(node: Any, given: str | None) -> None:
    headers = {} if given is None else {"authorization": given.encode("utf-8")}
    async with tcp(node) as client:
        for method, path in (("GET", "status"), ("POST", "stop"), ("GET", "nothing")):
            answer = await client.request(method, path, headers={**OURS, **headers})  # type: ignore[arg-type]
            assert answer.status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data; boundary=x"},
        {HEADER: "1", "origin": "null"},
        {HEADER: "1", "origin": "http://evil.com"},
        {HEADER: "1", "origin": f"https://127.0.0.1:{PORT}"},
        {HEADER: "1", "origin": "http://127.0.0.1:80"},
        {HEADER: "1", "sec-fetch-site": "cross-site"},
        {HEADER: "1", "sec-fetch-site": "same-site"},
    ],
)
async def test_a_web_page_cannot_change_anything(node: Any, headers: dict[str, str]) -> None:
    torrent = node.add(MAGNET)
    async with tcp(node) as client:
        for path in (f"torrents/{ID}/pause", "torrents", "stop"):
            answer = await client.post(
                path, headers={**BEARER, **headers}, content=b'{"source":"x"}'
            )
            assert answer.status_code == 403
        answer = await client.delete(f"torrents/{ID}", headers={**BEARER, **headers})
        assert answer.status_code == 403
    assert torrent.calls == []
    assert node.calls == []


async def test_our_own_page_and_json_may(node: Any) -> None:
    node.add(MAGNET)
    async with tcp(node) as client:
        own = {"origin": f"http://127.0.0.1:{PORT}", "sec-fetch-site": "same-origin", **OURS}
        json_type = {"content-type": "application/json; charset=utf-8"}
        for headers in (own, json_type):
            answer = await client.post(f"torrents/{ID}/pause", headers={**BEARER, **headers})
            assert answer.status_code == 200


async def test_no_answer_lets_other_origins_in(node: Any) -> None:
    async with tcp(node) as client:
        answers = [
            await client.options("status", headers={"origin": "http://evil.com", **BEARER}),
            await client.get("status", headers=BEARER),
            await client.get("status"),
            await client.get("nothing", headers=BEARER),
            await client.get("status", headers={"host": "evil.com"}),
        ]
    for answer in answers:
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answers[0].status_code == 403


async def told(app: Any, kind: str, scope: dict[str, Any]) -> list[Mapping[str, Any]]:
    """What the app sends when it is given `scope`, and hears a message of that kind."""
    sent: list[Mapping[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": kind}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


async def test_an_absolute_uri_is_not_served(node: Any) -> None:
    scope = {
        "type": "http",
        "method": "GET",
        "path": "http://evil.com/api/v1/status",
        "query_string": b"",
        "headers": [
            (b"host", f"127.0.0.1:{PORT}".encode()),
            (b"authorization", f"Bearer {TOKEN}".encode()),
        ],
    }
    app = make_app(node, stop=lambda: None, token=TOKEN, port=PORT)
    assert (await told(app, "http.disconnect", scope))[0]["status"] == 400


async def test_two_hosts_are_none(node: Any) -> None:
    async with tcp(node) as client:
        headers = [("host", f"127.0.0.1:{PORT}"), ("host", "evil.com"), *BEARER.items()]
        assert (await client.get("status", headers=headers)).status_code == 421


async def test_a_websocket_is_closed(node: Any) -> None:
    scope = {"type": "websocket", "path": "/api/v1/status", "headers": [], "query_string": b""}
    app = make_app(node, stop=lambda: None)
    sent = await told(app, "websocket.connect", scope)
    assert [message["type"] for message in sent] == ["websocket.close"]
