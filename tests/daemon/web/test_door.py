"""Who may use the page, and what they may do."""

from __future__ import annotations

from http.cookies import SimpleCookie
from pathlib import Path

import httpx
import pytest
import trio
from trio.testing import MockClock

import dht_torrent.daemon
from dht_torrent.daemon.app import api_routes
from dht_torrent.daemon.body import absolute_path
from dht_torrent.daemon.web.door import MAX_SECRET, MAX_SESSIONS, SESSION_TIME, Door
from tests.daemon.web.web_page import JSON, PORT, browser
from tests.helpers.engine import LEECH, World
from tests.helpers.fake_node import FakeNode

ADD = {"source": "ab" * 20}
FOLLOWED = f"magnet:?xs=urn:btpk:{'ab' * 32}"


async def test_without_the_link_there_is_only_a_page_that_says_so(
    autojump_clock: MockClock,
) -> None:
    async with World().node(LEECH) as node, browser(node, enters=False) as client:
        page = await client.get("/")
        assert page.status_code == 401
        assert "dhtnode web" in page.text
        assert page.headers["content-type"].startswith("text/html")
        for path in ("/events", "/api/v1/status", "/api/v1/torrents", "/api/v1/search?q=x"):
            assert (await client.get(path)).status_code == 401
        for path in ("/api/v1/torrents", "/api/v1/stop", "/events/x", "/leave"):
            assert (await client.post(path, json=ADD)).status_code == 401
        assert not node.torrents
        assert not client.cookies


async def test_every_route_of_the_api_is_behind_the_door(autojump_clock: MockClock) -> None:
    fake = FakeNode()
    routes = api_routes(fake, stopping=trio.Event(), stop=lambda: None)  # type: ignore[arg-type]
    async with World().node(LEECH) as node, browser(node, enters=False) as client:
        for route in routes:
            path = route.path.replace("{id}", "ab" * 20).replace("{action}", "pause")
            for method in route.methods or ():
                answer = await client.request(method, path, headers=JSON)
                assert answer.status_code == 401, (method, path)


async def test_the_link_gives_a_cookie_that_no_script_and_no_other_site_gets(
    autojump_clock: MockClock,
) -> None:
    door = Door(trio.current_time, port=PORT)
    async with World().node(LEECH) as node, browser(node, door=door, enters=False) as client:
        answer = await client.get("/enter", params={"key": door.secret})
        cookie = SimpleCookie(answer.headers["set-cookie"])[f"dhtnode-{PORT}"]
        assert cookie["httponly"]
        assert cookie["samesite"] == "strict"
        assert cookie["path"] == "/"
        assert not cookie["domain"]
        assert not cookie["secure"]
        assert door.secret not in answer.headers["set-cookie"]
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert (await client.get("/")).status_code == 200
        status = await client.get("/api/v1/status")
        assert status.json()["listen"] == str(node.address)


async def test_over_tls_the_cookie_is_sent_nowhere_else(autojump_clock: MockClock) -> None:
    door = Door(trio.current_time, port=PORT, secure=True)
    async with World().node(LEECH) as node, browser(node, door=door, enters=False) as client:
        answer = await client.get("/enter", params={"key": door.secret})
        assert SimpleCookie(answer.headers["set-cookie"])[f"dhtnode-{PORT}"]["secure"]


@pytest.mark.parametrize("wrong", ["", "x", "é", "\ud800", "x" * (MAX_SECRET + 1)])
async def test_a_wrong_link_or_cookie_or_token_lets_nobody_in(
    autojump_clock: MockClock, wrong: str
) -> None:
    door = Door(trio.current_time, port=PORT)
    wrong_bytes = wrong.encode("utf-8", "surrogatepass")
    async with World().node(LEECH) as node, browser(node, door=door, enters=False) as client:
        url = httpx.URL("/enter", query=b"key=" + wrong_bytes.hex().encode())
        assert (await client.get(url)).status_code == 403
        assert (await client.get("/enter")).status_code == 403
        for name, value in (
            (b"cookie", b"dhtnode-%d=%s" % (PORT, wrong_bytes)),
            (b"authorization", b"Bearer " + wrong_bytes),
            (b"authorization", b"Basic " + door.secret.encode()),
        ):
            answer = await client.get("/api/v1/status", headers=[(name, value)])
            assert answer.status_code == 401
        # And nobody who tries keeps its owner out.
        for _ in range(100):
            await client.get("/enter", params={"key": "guess"})
        token = {"Authorization": f"Bearer {door.secret}"}
        assert (await client.get("/api/v1/status", headers=token)).status_code == 200


async def test_sessions_end_with_time_by_leaving_and_when_there_are_too_many(
    autojump_clock: MockClock,
) -> None:
    door = Door(trio.current_time, port=PORT)
    async with World().node(LEECH) as node, browser(node, door=door) as client:

        async def is_in() -> bool:
            return (await client.get("/api/v1/limits")).status_code == 405 and (
                await client.get("/")
            ).status_code == 200

        assert await is_in()
        autojump_clock.jump(SESSION_TIME - 1)
        assert await is_in()  # each visit counts
        autojump_clock.jump(SESSION_TIME - 1)
        assert await is_in()
        autojump_clock.jump(SESSION_TIME + 1)
        assert not await is_in()
        await client.get("/enter", params={"key": door.secret})
        assert await is_in()
        jar = dict(client.cookies)
        assert (await client.post("/leave", headers=JSON)).status_code == 204
        client.cookies.update(jar)
        assert not await is_in()
        client.cookies.clear()
        await client.get("/enter", params={"key": door.secret})
        ours = dict(client.cookies)
        for _ in range(MAX_SESSIONS):
            assert len(ours) == 1
            client.cookies.clear()
            await client.get("/enter", params={"key": door.secret})
        assert await is_in()
        client.cookies.clear()
        client.cookies.update(ours)
        assert not await is_in()


async def test_what_changes_something_needs_a_header_that_no_other_page_can_send(
    autojump_clock: MockClock,
) -> None:
    async with World().node(LEECH) as node, browser(node) as client:
        body = b'{"source": "' + b"ab" * 20 + b'"}'
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            answer = await client.post(
                "/api/v1/torrents", content=body, headers={"content-type": kind}
            )
            assert answer.status_code == 403
            assert (await client.post("/leave", headers={"content-type": kind})).status_code == 403
        assert not node.torrents
        for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            answer = await client.post("/api/v1/torrents", json=ADD, headers=headers)
            assert answer.status_code == 403
        assert not node.torrents
        ours = {"Origin": f"http://127.0.0.1:{PORT}", "Sec-Fetch-Site": "same-origin"}
        assert (await client.post("/api/v1/torrents", json=ADD, headers=ours)).status_code == 201
        assert len(node.torrents) == 1


async def test_a_page_for_looking_only_changes_nothing(autojump_clock: MockClock) -> None:
    door = Door(trio.current_time, port=PORT, read_only=True)
    async with World().node(LEECH) as node, browser(node, door=door) as client:
        torrent = await node.get("ab" * 20)
        answer = await client.post("/api/v1/torrents", json=ADD)
        assert answer.status_code == 403
        assert "--web-read-only" in answer.json()["error"]
        for path in (f"/api/v1/torrents/{torrent.id}/pause", "/api/v1/stop", "/api/v1/limits"):
            assert (await client.post(path, json={})).status_code == 403
        gone = await client.delete(f"/api/v1/torrents/{torrent.id}", headers=JSON)
        assert gone.status_code == 403
        assert list(node.torrents.values()) == [torrent]
        assert (await client.get("/api/v1/torrents")).json()[0]["id"] == torrent.id
        assert (await client.post("/events/none", json={})).status_code == 404  # it may look


async def test_clients_have_their_content_below_the_roots_alone(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    ours, other = tmp_path / "ours", tmp_path / "other"
    ours.mkdir()
    other.mkdir()
    (ours / "out").symlink_to(other)
    async with (
        World().node(LEECH, download_dir=tmp_path / "downloads") as node,
        browser(node, roots=(ours,)) as client,
    ):
        for place in (other, ours / ".." / "other", ours / "out" / "x", "/etc/passwd", "/"):
            for body in (
                {"source": "ab" * 20, "output": str(place)},
                {"share": str(place)},
                {"source": "ab" * 20, "sources": [str(place)]},
                {"source": "ab" * 20, "tls_cert": str(place), "tls_key": str(place)},
            ):
                answer = await client.post("/api/v1/torrents", json=body)
                assert answer.status_code == 400
                assert "--web-dir" in answer.json()["error"]
            for path, body in (
                ("similar", {"path": str(place)}),
                ("published", {"path": str(place), "name": "x"}),
                ("followed", {"link": FOLLOWED, "output": str(place)}),
            ):
                answer = await client.post(f"/api/v1/{path}", json=body)
                assert "--web-dir" in answer.json()["error"]
        assert not node.torrents
        bad = await client.post("/api/v1/torrents", json={"share": "/a\0b"})
        assert bad.status_code == 400
        for place in (ours / "new", tmp_path / "downloads" / "x"):
            fine = {"source": "cd" * 20, "output": str(place)}
            assert (await client.post("/api/v1/torrents", json=fine)).status_code == 201
        (torrent,) = node.torrents.values()
        for data in (True, False):
            there = {"folder": str(other), "data": data}
            answer = await client.post(f"/api/v1/torrents/{torrent.id}/move", json=there)
            assert "--web-dir" in answer.json()["error"]
        here = {"folder": str(ours), "data": False}
        answer = await client.post(f"/api/v1/torrents/{torrent.id}/move", json=here)
        assert answer.status_code == 200
        # Nobody else is bound by that: the owner's own socket takes any place.
        absolute_path(str(other), "output")


def test_every_place_that_a_request_may_name_is_checked() -> None:
    """What makes a path of something in a body is where that body was checked before."""
    daemon = Path(dht_torrent.daemon.__file__).parent
    for module in (daemon / "app.py", *daemon.glob("*_api.py")):
        source = module.read_text(encoding="utf-8")
        if "Path(" in source or '"folder"' in source:
            assert "absolute_path(" in source, module.name
