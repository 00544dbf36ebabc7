"""Search over the control API: lines as they come, and no search without somebody who reads it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock, wait_all_tasks_blocked

from dht_torrent.daemon import sending
from dht_torrent.daemon.app import make_app
from dht_torrent.daemon.client import Client, connect
from dht_torrent.daemon.control import HEADER
from dht_torrent.daemon.lines import LINES
from dht_torrent.daemon.search_api import MAX_IMPORT, MAX_SEARCHES, MAX_TAG, MAX_TAGS
from dht_torrent.daemon.server import serve
from dht_torrent.engine.search.views import SearchQuery
from dht_torrent.errors import ControlError, InputError, StorageError
from tests.daemon.test_app import ID, MAGNET, unix
from tests.daemon.test_server import serving
from tests.daemon.test_watch import Watching
from tests.helpers.fake_node import KEY, result

OTHER = "ac" * 32


class Asking(Watching):
    """A request whose answer is lines, on virtual time."""

    def __init__(self, app: Any, path: str, query: dict[str, Any], method: str = "GET") -> None:
        super().__init__(app, f"/api/v1/{path}", method)
        self.scope["query_string"] = urlencode(query).encode()

    @property
    def status(self) -> int:
        return int(self.sent[0][1]["status"])

    @property
    def times(self) -> list[float]:
        return [at for at, message in self.sent if message.get("body")]


def search(node: Any, nursery: trio.Nursery, app: Any = None, **query: Any) -> Asking:
    asking = Asking(app or make_app(node, stop=lambda: None), "search", query)
    nursery.start_soon(asking.run)
    return asking


# --- results -------------------------------------------------------------------------------------


async def test_each_result_is_a_line_as_soon_as_it_is_found(
    node: Any, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    node.found = [result(1), 0.5, result(2, trust="unverified", publisher=None), 1.0]
    began = trio.current_time()
    asking = search(node, nursery, q="thing")
    await trio.sleep(3)
    assert [at - began for at in asking.times] == [0.0, 0.5]
    one, two = asking.lines
    assert one == {
        "id": f"{1:040x}",
        "name": "thing 1",
        "size": 3 * 2**30,
        "files": 2,
        "published": 1_700_000_000.0,
        "trust": "verified",
        "verified": True,
        "publisher": KEY,
        "publishers": 1,
        "peers": 7,
        "seeds": 3,
        "peers_how": "bep33",
        "peers_at": 1_700_000_000.0,
        "source": "network",
        "magnet": f"magnet:?xt=urn:btih:{1:040x}",
        "trusted": False,
        "name_is_cut": False,
        "score": 0.0,
    }
    assert (two["verified"], two["publisher"]) == (False, None)
    assert asking.sent[-1][1]["more_body"] is False
    assert dict(asking.sent[0][1]["headers"])[b"content-type"].startswith(LINES.encode())
    assert node.searches[0][1].closed.is_set()


async def test_all_that_can_be_asked_is_passed_on(node: Any, nursery: trio.Nursery) -> None:
    search(
        node,
        nursery,
        q="b\u00fccher  s01e02",
        prefix=1,
        min_size=1,
        max_size=2**53,
        since=1_700_000_000.5,
        limit=7,
        patience="0.5",
        network=0,
    )
    search(node, nursery, since=5)
    await wait_all_tasks_blocked()
    assert sorted((query for query, _ in node.searches), key=lambda query: query.limit) == [
        SearchQuery(
            text="b\u00fccher  s01e02",
            prefix=True,
            min_size=1,
            max_size=2**53,
            since=1_700_000_000.5,
            limit=7,
            patience=0.5,
            network=False,
        ),
        SearchQuery(since=5.0),
    ]


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("q=a&word=b", "unknown option 'word'"),
        ("q=a&q=b", "q is given twice"),
        ("q=a&prefix=yes", "prefix must be 0 or 1"),
        ("q=a&network=", "network must be 0 or 1"),
        ("q=a&min_size=1e3", "min_size must be a whole number"),
        ("q=a&max_size=-1", "max_size must be a whole number"),
        ("q=a&max_size=" + "9" * 17, "max_size must be a whole number"),
        ("q=a&min_size=%D9%A1", "min_size must be a whole number"),
        ("q=a&min_size=2&max_size=1", "least size is above"),
        ("q=a&limit=0", "from 1 to"),
        ("q=a&limit=1001", "from 1 to"),
        ("q=a&since=nan", "since must be seconds"),
        ("q=a&since=1e9", "since must be seconds"),
        ("q=a&patience=0", "the network gets"),
        ("q=a&patience=601", "the network gets"),
        ("q=a&patience=inf", "patience must be seconds"),
        ("q=" + "a" * 1001, "at most 1000 characters"),
    ],
)
async def test_a_query_that_cannot_be_used_is_refused_in_one_line(
    node: Any, query: str, why: str
) -> None:
    async with unix(node) as client:
        answer = await client.get(f"search?{query}")
    assert answer.status_code == 400
    assert why in answer.json()["error"]
    assert "\n" not in answer.json()["error"]
    assert not node.searches


async def test_what_ends_a_search_early_is_its_last_line(
    node: Any, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    node.found = [result(1), StorageError("the catalogue is damaged"), result(2)]
    failing = search(node, nursery, q="a")
    await trio.sleep(1)
    assert [line.get("error", line.get("id")) for line in failing.lines] == [
        f"{1:040x}",
        "the catalogue is damaged",
    ]
    assert failing.lines[-1]["status"] == 409
    assert failing.sent[-1][1]["more_body"] is False
    node.found = [InputError("no words in that")]
    asked = search(node, nursery, q="?")
    await trio.sleep(1)
    assert asked.lines == [{"error": "no words in that", "status": 400}]


async def test_a_client_that_hangs_up_ends_its_search(
    node: Any, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    node.found = [result(1), 500.0]
    with trio.fail_after(10):
        async with trio.open_nursery() as own:
            asking = search(node, own, q="a")
            await trio.sleep(1)
            assert len(asking.lines) == 1
            asking.hung_up.set()
    assert node.searches[0][1].closed.is_set()


async def test_a_slow_reader_holds_back_its_own_search_only(
    node: Any, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    node.found = [result(number) for number in range(50)]
    app = make_app(node, stop=lambda: None)
    slow = search(node, nursery, app, q="slow")
    await trio.lowlevel.checkpoint()
    slow.may_send = trio.Event()
    quick = search(node, nursery, app, q="quick")
    await trio.sleep(15)
    assert len(quick.lines) == 50
    assert node.searches[0][1].taken <= 2
    slow.may_send.set()
    await trio.sleep(1)
    assert len(slow.lines) == 50


async def test_searches_at_a_time_are_bounded_and_there_is_room_again(
    node: Any, autojump_clock: MockClock
) -> None:
    node.found = [100.0]
    app = make_app(node, stop=lambda: None)
    async with trio.open_nursery() as own:
        going_on = [search(node, own, app, q="a") for _ in range(MAX_SEARCHES)]
        await trio.sleep(1)
        refused = search(node, own, app, q="a")
        await trio.sleep(1)
        assert refused.status == 429
        assert f"{MAX_SEARCHES} searches" in refused.lines[0]["error"]
        going_on[0].hung_up.set()
        await trio.sleep(1)
        again = search(node, own, app, q="a")
    assert [asking.status for asking in [*going_on, again]] == [200] * (MAX_SEARCHES + 1)


async def test_a_node_told_to_stop_ends_its_searches(node: Any, autojump_clock: MockClock) -> None:
    node.found = [result(1), 500.0]
    app = make_app(node, stop=lambda: None)
    with trio.fail_after(10):
        async with trio.open_nursery() as own:
            asking = search(node, own, app, q="a")
            await trio.sleep(1)
            stop = Asking(app, "stop", {}, "POST")
            own.start_soon(stop.run)
    assert len(asking.lines) == 1
    assert node.searches[0][1].closed.is_set()


async def test_head_of_a_search_searches_nothing(node: Any) -> None:
    async with unix(node) as client:
        answer = await client.head("search?q=a")
    assert answer.headers["content-type"].startswith(LINES)
    assert [results.taken for _, results in node.searches] in ([], [0])


# --- publishing ----------------------------------------------------------------------------------


async def test_a_share_is_published_when_it_is_asked_for(node: Any, tmp_path: Path) -> None:
    body: dict[str, Any] = {"share": str(tmp_path)}
    async with unix(node) as client:
        assert not (await client.post("torrents", json=body)).json()["published"]
        body |= {"publish": True, "tags": ["holiday", "2026"]}
        assert (await client.post("torrents", json=body)).json()["published"]
    assert dict(node.calls[0][4:]) == {}
    assert dict(node.calls[1][4:]) == {"publish": True, "tags": ["holiday", "2026"]}


async def test_a_share_that_cannot_be_published_says_why(node: Any, tmp_path: Path) -> None:
    body = {"share": str(tmp_path), "private": True, "publish": True}
    async with unix(node) as client:
        told = (await client.post("torrents", json=body)).json()
    assert (told["published"], told["not_published"]) == (
        False,
        "a private torrent is not published",
    )


async def test_publishing_begins_and_ends_on_request(node: Any) -> None:
    node.add(MAGNET)
    async with unix(node) as client:
        answer = await client.post(f"torrents/{ID[:8]}/publish", json={"tags": ["b\u00fccher"]})
        assert answer.json()["published"]
        assert node.calls == [("publish", ID, ["b\u00fccher"])]
        for was in True, False:
            answer = await client.post(f"torrents/{ID}/unpublish")
            assert answer.json() == {"id": ID, "unpublished": was}
        node.torrents[next(iter(node.torrents))].why_not = "a private torrent is not published"
        refused = await client.post(f"torrents/{ID}/publish", json={})
        assert (refused.status_code, refused.json()["error"]) == (
            400,
            "a private torrent is not published",
        )


@pytest.mark.parametrize(
    "tags",
    [
        "holiday",
        [5],
        [""],
        ["a"] * (MAX_TAGS + 1),
        ["a" * (MAX_TAG + 1)],
        ["\u00fc" * (MAX_TAG // 2 + 1)],
        ["\ud800"],
        [["a"]],
        {"a": 1},
    ],
)
async def test_tags_are_bounded_texts(node: Any, tags: object) -> None:
    node.add(MAGNET)
    async with unix(node) as client:
        for path, body in ((f"torrents/{ID}/publish", {}), ("torrents", {"share": "/"})):
            content = json.dumps({**body, "tags": tags})
            answer = await client.post(path, content=content)
            assert answer.status_code == 400
            assert "\n" not in answer.json()["error"]
        most = ["a" * MAX_TAG] * MAX_TAGS
        assert (await client.post(f"torrents/{ID}/publish", json={"tags": most})).is_success


async def test_what_is_fetched_is_never_published_along(node: Any) -> None:
    async with unix(node) as client:
        for more in {"publish": True}, {"publish": False}, {"tags": ["a"]}:
            answer = await client.post("torrents", json={"source": ID, **more})
            assert answer.status_code == 400
            assert "share only" in answer.json()["error"]


# --- publishers ----------------------------------------------------------------------------------


async def test_publishers_are_trusted_blocked_and_neither(node: Any) -> None:
    async with unix(node) as client:
        for verdict, listed in (
            ("trusted", [(KEY, "trusted")]),
            ("blocked", [(KEY, "blocked")]),
            ("none", []),
        ):
            answer = await client.post("publishers", json={"key": KEY.upper(), "trust": verdict})
            assert answer.json() == {"key": KEY, "trust": verdict}
            found = (await client.get("publishers")).json()
            assert [(one["key"], one["trust"]) for one in found] == listed


async def test_a_few_digits_name_a_publisher_that_was_shown_or_judged(
    node: Any, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async def judge(key: str, trust: str = "trusted") -> Any:
        return (await client.post("publishers", json={"key": key, "trust": trust})).json()

    app_client = unix(node)
    async with app_client as client:
        assert "no publisher seen lately begins with abababab" in (await judge("abababab"))["error"]
        node.found = [result(1), result(2), result(3, publisher=None)]
        assert len((await client.get("search?q=a")).text.splitlines()) == 3
        assert await judge("ABABABAB ") == {"key": KEY, "trust": "trusted"}
        twin = KEY[:32] + "cd" * 16
        assert await judge(twin, "blocked") == {"key": twin, "trust": "blocked"}
        assert "2 publishers begin with abababab" in (await judge("abababab"))["error"]
        assert await judge(twin[:34], "none") == {"key": twin, "trust": "none"}
        assert await judge("abababab", "none") == {"key": KEY, "trust": "none"}
    assert node.verdicts == {}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"key": KEY},
        {"trust": "trusted"},
        {"key": KEY, "trust": "maybe"},
        {"key": KEY[:7], "trust": "trusted"},
        {"key": KEY + "00", "trust": "trusted"},
        {"key": "xy" * 32, "trust": "trusted"},
        {"key": "\u0661" * 64, "trust": "trusted"},
        {"key": "", "trust": "none"},
        {"key": 5, "trust": "none"},
        {"key": KEY, "trust": "none", "name": "x"},
    ],
)
async def test_a_verdict_needs_a_key_and_a_word(node: Any, body: dict[str, Any]) -> None:
    async with unix(node) as client:
        answer = await client.post("publishers", json=body)
    assert answer.status_code == 400
    assert "\n" not in answer.json()["error"]
    assert node.verdicts == {}


# --- the catalogue -------------------------------------------------------------------------------


async def test_the_catalogue_is_told_of_exported_and_imported(node: Any) -> None:
    node.exported = [b'{"id": 1}\n{"id": 2}\n', b'{"id": 3}\n']
    async with unix(node) as client:
        assert (await client.get("catalogue")).json() == {
            "torrents": 12345,
            "own": 3,
            "bytes": 2**20,
            "bytes_most": 2**30,
        }
        exported = (await client.get("catalogue/export")).content
        assert exported == b"".join(node.exported)
        answer = await client.post("catalogue/import", content=exported + b"x\n")
        assert answer.json() == {
            "lines": 4,
            "added": 3,
            "known": 0,
            "refused": 0,
            "skipped": {"not JSON": 1},
            "first_skipped": {"not JSON": 4},
        }
        assert node.imported == [exported + b"x\n"]


async def test_an_import_is_not_read_beyond_its_bound(node: Any) -> None:
    read = 0

    async def receive() -> dict[str, Any]:
        nonlocal read
        read += 1 << 20
        return {"type": "http.request", "body": b"{" * (1 << 20), "more_body": True}

    asking = Asking(make_app(node, stop=lambda: None), "catalogue/import", {}, "POST")
    await asking.app(asking.scope, receive, asking._send)
    assert asking.status == 413
    assert read <= MAX_IMPORT + 2 * (1 << 20)
    assert node.imported == []


async def test_an_export_that_is_not_whole_says_so(
    node: Any, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    node.exported = [b'{"id": 1}\n', StorageError("the disk is gone")]
    app = make_app(node, stop=lambda: None)
    failing = Asking(app, "catalogue/export", {})
    nursery.start_soon(failing.run)
    await trio.sleep(1)
    assert failing.lines == [{"id": 1}, {"error": "the disk is gone", "status": 409}]
    node.exported = [b'{"id": 1}\n', 1.0, b'{"id": 2}\n', 1.0, b'{"id": 3}\n']
    stopped = Asking(app, "catalogue/export", {})
    nursery.start_soon(stopped.run)
    await trio.sleep(0.5)
    await Asking(app, "stop", {}, "POST").run()
    await trio.sleep(5)
    assert stopped.lines[-1] == {"error": "the node was stopped", "status": 409}
    assert len(stopped.lines) < 4


# --- the client ----------------------------------------------------------------------------------


async def through(node: Any, state: Path, ask: Callable[[Client], Any]) -> Any:
    """What a client in another thread gets of a node that runs here."""

    def run() -> Any:
        with connect(state) as client:
            return ask(client)

    async with serving(node, None, state):
        return await trio.to_thread.run_sync(run)


async def test_the_client_yields_each_result_when_it_is_found(node: Any, tmp_path: Path) -> None:
    node.found = [result(1), result(2), result(3)]

    def ask(client: Client) -> list[str]:
        found = client.search(
            "b\u00fccher", prefix=True, min_size=5, since=7.5, limit=2, patience=1.5, network=False
        )
        return [one["name"] for one in found]

    assert await through(node, tmp_path, ask) == ["thing 1", "thing 2"]
    assert node.searches[0][0] == SearchQuery(
        text="b\u00fccher",
        prefix=True,
        min_size=5,
        since=7.5,
        limit=2,
        patience=1.5,
        network=False,
    )


async def test_a_search_that_is_left_ends_in_the_node(node: Any, tmp_path: Path) -> None:
    node.found = [result(1), 100.0]

    def leave() -> None:
        with connect(tmp_path) as client, closing(client.search("a")) as found:
            assert next(found)["name"] == "thing 1"

    async with serving(node, None, tmp_path):
        await trio.to_thread.run_sync(leave)
        with trio.fail_after(20):
            await node.searches[0][1].closed.wait()


@contextlib.asynccontextmanager
async def stuck(node: Any, where: Any) -> AsyncIterator[trio.SocketStream]:
    """A client that has asked for more than the system holds for it, and does not read it."""
    node.found = [result(number, name="x" * 50_000) for number in range(1000)]
    async with await trio.open_unix_socket(str(where.path)) as stream:
        line = b"GET /api/v1/search?q=a&limit=1000 HTTP/1.1"
        await stream.send_all(line + b"\r\nhost: localhost\r\n%s: 1\r\n\r\n" % HEADER.encode())
        assert await stream.receive_some(1)
        yield stream


async def test_a_client_that_does_not_read_is_given_up(
    node: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "READING_TIME", 0.1)
    async with serving(node, None, tmp_path) as where, stuck(node, where) as stream:
        with trio.fail_after(20):
            await node.searches[0][1].closed.wait()
            while await stream.receive_some(2**20):
                pass
    assert node.searches[0][1].taken < 1000


@pytest.mark.parametrize("how", ["a client says so", "it is cancelled"])
async def test_a_client_that_does_not_read_cannot_keep_the_node_from_ending(
    node: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(sending, "LAST_READING_TIME", 0.1)
    ended = trio.Event()

    async def run(*, task_status: trio.TaskStatus[Any]) -> None:
        with scope:
            await serve(node, None, tmp_path, task_status=task_status)
        ended.set()

    scope = trio.CancelScope()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            where = await nursery.start(run)
            async with stuck(node, where):
                if how == "it is cancelled":
                    scope.cancel()
                else:
                    with await trio.to_thread.run_sync(connect, tmp_path) as client:
                        await trio.to_thread.run_sync(client.stop)
                await ended.wait()


async def test_the_client_raises_what_ended_a_search(node: Any, tmp_path: Path) -> None:
    def fails(kind: type[Exception], why: str, text: str = "a") -> Callable[[Client], None]:
        def ask(client: Client) -> None:
            with pytest.raises(kind, match=why):
                list(client.search(text))

        return ask

    node.found = [result(1), StorageError("damaged")]
    await through(node, tmp_path, fails(ControlError, "damaged"))
    node.found = [InputError("no words")]
    await through(node, tmp_path, fails(InputError, "no words"))
    await through(node, tmp_path, fails(InputError, "at most 1000", "a" * 1001))
    await through(node, tmp_path, fails(InputError, "half a character", "\ud800"))


async def test_the_client_publishes_judges_and_moves_catalogues(node: Any, tmp_path: Path) -> None:
    node.add(MAGNET)
    node.exported = [b'{"id": 1}\n{"id"', b': 2, "name": "\xe2\x80\xa8"}\n', b'{"id": 3}\n']

    def ask(client: Client) -> None:
        assert client.publish(ID[:6], ["a"])["published"]
        assert client.unpublish(ID[:6]) == {"id": ID, "unpublished": True}
        assert client.trust(KEY)["trust"] == "trusted"
        assert client.publishers()[0]["key"] == KEY
        assert client.block(KEY[:8]) == {"key": KEY, "trust": "blocked"}
        assert client.block(KEY[:8], False)["trust"] == "none"
        assert client.catalogue_status()["own"] == 3
        parts = list(client.export_catalogue())
        assert all(part.endswith(b"\n") for part in parts)
        assert b"".join(parts) == b"".join(node.exported)
        assert client.import_catalogue(b"{}\n")["added"] == 1

    await through(node, tmp_path, ask)
    assert node.calls == [("publish", ID, ["a"])]
    node.exported = [b'{"id": 1}\n', StorageError("damaged")]

    def export(client: Client) -> None:
        with pytest.raises(ControlError, match="damaged"):
            list(client.export_catalogue())

    await through(node, tmp_path, export)
