"""What strangers of the web try: other sites, names that are not ours, paths that lead elsewhere,
bodies that never end. Each is refused or harmless."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock

from dht_torrent.daemon.body import MAX_BODY
from dht_torrent.daemon.web import assets
from dht_torrent.daemon.web.door import Door
from tests.daemon.web.web_page import JSON, PORT, browser
from tests.helpers.engine import LEECH, World

ROUTES = ("/", "/style.css", "/app.js", "/events", "/enter", "/leave", "/api/v1/torrents", "/none")
NAMES = (
    "evil.example",
    f"evil.example:{PORT}",
    "127.0.0.1.evil.example",
    f"localhost.evil.example:{PORT}",
    f"127.0.0.1@evil.example:{PORT}",
    "[::1",
    "",
)


@pytest.mark.parametrize("name", NAMES)
async def test_a_name_that_is_not_ours_is_answered_nowhere(
    autojump_clock: MockClock, name: str
) -> None:
    door = Door(trio.current_time, port=PORT)
    async with World().node(LEECH) as node, browser(node, door=door) as client:
        for path in (*ROUTES, f"/enter?key={door.secret}"):
            for method in ("GET", "POST"):
                answer = await client.request(method, path, headers={**JSON, "Host": name})
                assert answer.status_code == 421, path
                assert "set-cookie" not in answer.headers


async def test_two_names_or_none_are_answered_nowhere(autojump_clock: MockClock) -> None:
    async with World().node(LEECH) as node, browser(node) as client:
        names = [("Host", f"127.0.0.1:{PORT}"), ("Host", "evil.example")]
        assert (await client.get("/", headers=names)).status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": f"https://127.0.0.1:{PORT}"},
        {"Origin": f"http://127.0.0.1:{PORT + 1}"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_what_another_site_sends_is_refused_and_it_reads_nothing(
    autojump_clock: MockClock, headers: dict[str, str]
) -> None:
    async with World().node(LEECH) as node, browser(node) as client:
        for path in ROUTES:
            for method in ("GET", "POST", "DELETE", "OPTIONS"):
                answer = await client.request(method, path, headers={**JSON, **headers})
                assert answer.status_code == 403, (method, path)
                assert not [name for name in answer.headers if name.startswith("access-control")]
        assert not node.torrents


async def test_every_answer_says_how_little_may_be_made_of_it(autojump_clock: MockClock) -> None:
    async with World().node(LEECH) as node, browser(node) as client:
        for path in (*(route for route in ROUTES if route != "/events"), "/healthz"):
            for headers in ({}, {"Host": "evil.example"}, {"Origin": "http://evil.example"}):
                answer = await client.get(path, headers=headers)
                policy = answer.headers.get_list("content-security-policy")
                assert len(policy) == 1
                assert policy[0].startswith("default-src 'none'")
                assert "frame-ancestors 'none'" in policy[0]
                assert "unsafe" not in policy[0]
                assert answer.headers["x-content-type-options"] == "nosniff"
                assert answer.headers["referrer-policy"] == "no-referrer"
                assert answer.headers["x-frame-options"] == "DENY"
        page = await client.get("/")
        policy = page.headers.get_list("content-security-policy")
        for said in ("script-src 'self'", "connect-src 'self'", "require-trusted-types-for"):
            assert said in policy[0]


TRAVERSALS = [
    prefix + step * depth + name
    for prefix in ("/", "/page/", "/style.css/")
    for step, depth in (
        *(("../", 6), ("..%2f", 6), ("%2e%2e/", 6), ("%2e%2e%2f", 6), ("..\\", 6), ("..%5c", 6)),
        *(("%252e%252e%252f", 4), ("....//", 4), ("..;/", 4), ("%c0%ae%c0%ae/", 4), (".%00./", 4)),
    )
    for name in ("etc/passwd", "web_app.py")
]


async def test_no_path_leads_out_of_the_page(autojump_clock: MockClock) -> None:
    ours = {asset.data for asset in assets.load().values()}
    async with World().node(LEECH) as node, browser(node) as client:
        for path in (*TRAVERSALS, "/index.html", "/locked.html", "//etc/passwd", "/style.css%00"):
            answer = await client.get(httpx.URL(raw_path=path.encode(), scheme="http", host="::1"))
            assert answer.status_code in (400, 404), path
            assert answer.content not in ours
        for name in ("../../x", "%2e%2e", "..%2f..%2fstatus", "%00"):
            answer = await client.get(f"/api/v1/torrents/{name}/files")
            assert answer.status_code == 404


async def test_the_page_is_what_is_in_the_package_and_known_by_its_tag(
    autojump_clock: MockClock,
) -> None:
    async with World().node(LEECH) as node, browser(node) as client:
        for name, asset in assets.load().items():
            if name.endswith(".html"):
                continue
            answer = await client.get(f"/{name}")
            assert answer.content == asset.data == (assets.FOLDER / name).read_bytes()
            assert answer.headers["content-type"].startswith(asset.media_type)
            known = {"If-None-Match": answer.headers["etag"]}
            again = await client.get(f"/{name}", headers=known)
            assert (again.status_code, again.content) == (304, b"")
            other = await client.get(f"/{name}", headers={"If-None-Match": '"other"'})
            assert other.status_code == 200
            assert (await client.post(f"/{name}", headers=JSON)).status_code == 405
        known = {"If-None-Match": (await client.get("/")).headers["etag"]}
        client.cookies.clear()
        assert (await client.get("/", headers=known)).status_code == 401


def test_the_page_asks_nothing_of_any_other_host_and_has_nothing_inline() -> None:
    for name, asset in assets.load().items():
        text = asset.data.decode()
        for outside in ("https:", "http:", "//cdn", "@import", "url("):
            found = text.replace("http://www.w3.org/2000/svg", "").count(outside)
            assert found == 0, f"{name} has {outside}"
        if name.endswith(".html"):
            for inline in (" style=", " onclick=", "<style", "<script>"):
                assert inline not in text
        if name.endswith(".js"):
            for dangerous in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write"):
                assert dangerous not in text
            for dangerous in ("eval(", "Function(", "setAttribute('style'", "DOMParser"):
                assert dangerous not in text


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[" * 40_000, 400),
        (b'{"source":' * 30_000, 400),
        (b'{"a":' + b"1" * 100_000 + b"}", 400),
        (b'{"source": NaN}', 400),
        (b'{"source": "\\ud800"}', 400),
        (b'{"source": "x", "source": 1e999}', 400),
        (b"[]", 400),
        (b"\xff", 400),
        (b"", 400),
        (b'{"a":[' + b"0," * 50_001 + b"0]}", 400),
    ],
)
async def test_a_body_that_makes_no_sense_is_refused_in_a_line(
    autojump_clock: MockClock, body: bytes, status: int
) -> None:
    async with World().node(LEECH) as node, browser(node) as client:
        headers = {"content-type": "application/json"}
        answer = await client.post("/api/v1/torrents", content=body, headers=headers)
        assert answer.status_code == status
        assert len(answer.json()["error"]) < 300
        assert (await client.get("/api/v1/status")).status_code == 200
        assert not node.torrents


class Endless(httpx.AsyncByteStream):
    """A body that goes on, and knows how much of it was read."""

    def __init__(self) -> None:
        self.read = 0

    def __aiter__(self) -> Endless:
        return self

    async def __anext__(self) -> bytes:
        self.read += 1 << 20
        assert self.read < 2 * MAX_BODY
        return b" " * (1 << 20)


@pytest.mark.parametrize("path", ["/api/v1/torrents", "/events/none", "/api/v1/dht/ping"])
async def test_a_body_that_goes_on_is_read_as_far_as_one_may_go(
    autojump_clock: MockClock, path: str
) -> None:
    headers = {"content-type": "application/json"}
    async with World().node(LEECH) as node, browser(node) as client:
        request = client.build_request("POST", path, headers=headers)
        request.stream = body = Endless()
        answer = await client.send(request)
        assert answer.status_code == (404 if "events" in path else 413)
        assert body.read <= MAX_BODY + (2 << 20)
        client.cookies.clear()
        request = client.build_request("POST", path, headers=headers)
        request.stream = body = Endless()
        answer = await client.send(request)
        assert (answer.status_code, body.read) == (401, 0)  # of a stranger's nothing


async def test_what_names_hold_is_escaped_wherever_it_is_told(autojump_clock: MockClock) -> None:
    name = "</script><img src=x onerror=alert(1)>é\"'"
    async with World().node(LEECH) as node, browser(node) as client:
        told: dict[str, Any] = {"source": f"magnet:?xt=urn:btih:{'ab' * 20}"}
        answer = await client.post("/api/v1/torrents", json=told)
        torrent = node.find("ab" * 20)
        await torrent.set_labels([name])
        answer = await client.get("/api/v1/torrents")
        assert answer.headers["content-type"] == "application/json"
        assert answer.content.isascii()
        assert json.loads(answer.content)[0]["labels"] == [name]
