"""What pages are told as it happens."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import trio
from starlette.applications import Starlette
from starlette.routing import Route
from trio.testing import MockClock

from dht_torrent import Node, Torrent
from dht_torrent.daemon.web import events, sights
from dht_torrent.daemon.web.board import Facts
from dht_torrent.daemon.web.events import (
    CALM,
    LOOK_EVERY,
    MAX_PAGES,
    MOST_OF_TIME,
    SILENCE,
    Pages,
)
from dht_torrent.engine.views import PieceState
from tests.helpers.engine import HAND, LEECH, SEED, Sample, World, sample
from tests.helpers.storages import hashed

Told = list[tuple[str, Any]]


class Reader:
    """One page, which reads its stream when it likes."""

    def __init__(self, pages: Pages) -> None:
        self.pages = pages
        self.name = ""
        self.ended = trio.Event()
        self._chunks: trio.MemoryReceiveChannel[bytes] | None = None

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """The stream, until cancelled. The channel holds nothing: what is not read, waits."""
        send, self._chunks = trio.open_memory_channel[bytes](0)
        app = Starlette(routes=[Route("/events", self.pages.respond)])
        scope = {
            "type": "http", "method": "GET", "path": "/events", "query_string": b"",
            "headers": [], "http_version": "1.1", "asgi": {"spec_version": "2.4"},
        }  # fmt: skip

        async def receive() -> dict[str, Any]:
            await trio.sleep_forever()
            return {}

        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                kinds = dict(message["headers"])
                assert kinds[b"content-type"].startswith(b"text/event-stream")
                task_status.started()
            elif message["body"]:
                await send.send(message["body"])

        await app(scope, receive, sent)
        self.ended.set()

    async def read(self) -> Told:
        """The next events that come together."""
        assert self._chunks is not None
        text = (await self._chunks.receive()).decode("ascii")
        told: Told = []
        for event in text.removesuffix("\n\n").split("\n\n"):
            kind, data = event.split("\n")
            told.append((kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
        for kind, value in told:
            if kind == "hello":
                self.name = value["page"]
        return told

    async def focus(self, **what: Any) -> int:
        app = Starlette(routes=[Route("/events/{page}", self.pages.focus, methods=["POST"])])
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return (await client.post(f"/events/{self.name}", json=what)).status_code


@contextlib.asynccontextmanager
async def reading(pages: Pages) -> AsyncIterator[Reader]:
    reader = Reader(pages)
    async with trio.open_nursery() as nursery:
        await nursery.start(reader.run)
        yield reader
        nursery.cancel_scope.cancel()


def pages_of(node: Node) -> Pages:
    return Pages(node, trio.Event(), read_only=False)


async def test_a_page_is_told_all_and_then_what_changes(autojump_clock: MockClock) -> None:
    async with World().node(LEECH) as node:
        torrent = await node.get("ab" * 20)
        async with reading(pages_of(node)) as page:
            (hello, greeting), (kind, everything) = await page.read()
            assert (hello, kind) == ("hello", "all")
            assert greeting["read_only"] is False
            rows = everything["rows"]
            assert rows[""]["torrents"] == 1
            assert (rows[""]["run_down"], rows[""]["ever_up"]) == (0, 0)
            assert rows[torrent.id]["state"] == "metadata"
            assert rows[torrent.id]["added_at"] == torrent.history.added_at
            await torrent.pause()
            second = await node.get("cd" * 20)
            told = dict(await page.read())
            assert told["news"]["rows"][torrent.id]["state"] == "paused"
            assert "name" not in told["news"]["rows"][torrent.id]
            assert "name" in told["news"]["rows"][second.id]
            assert [told["news"]["rows"][second.id]["queue"], rows[torrent.id]["queue"]] == [1, 0]
            await node.move_in_queue(second, 0)
            told = dict(await page.read())
            moved = {name: facts.get("queue") for name, facts in told["news"]["rows"].items()}
            assert moved.items() >= {torrent.id: 1, second.id: 0}.items()
            await node.remove(second)
            told = dict(await page.read())
            assert told["news"]["gone"] == [second.id]
            assert told["news"]["rows"][torrent.id]["queue"] == 0


async def test_a_calm_node_says_little_and_is_hardly_looked_at(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Torrent] = []
    facts = sights.torrent_facts

    def looks(torrent: Torrent) -> Facts:
        looked.append(torrent)
        return facts(torrent)

    monkeypatch.setattr(sights, "torrent_facts", looks)
    async with World().node(LEECH) as node:
        for number in range(10):
            await node.get(f"{number:040x}", paused=True)
        await trio.sleep(1)
        async with reading(pages_of(node)) as page:
            await page.read()
            assert len(looked) == 10
            began = trio.current_time()
            told: Told = []
            while told != [("silence", None)]:
                told = await page.read()
                assert trio.current_time() - began < 3 * SILENCE
            times = len(looked) - 10
            assert times <= 1.2 * 10 / CALM * (trio.current_time() - began) / LOOK_EVERY
        looked.clear()
        await trio.sleep(60)
        assert not looked  # and never while no page is open


async def test_a_page_that_sleeps_is_told_how_things_are_when_it_wakes(
    autojump_clock: MockClock,
) -> None:
    async with World().node(LEECH) as node:
        torrent = await node.get("ab" * 20)
        async with reading(pages_of(node)) as page:
            await page.read()
            for _ in range(50):
                await torrent.pause()
                await trio.sleep(LOOK_EVERY)
                await torrent.resume()
                await trio.sleep(LOOK_EVERY)
            second = await node.get("cd" * 20)
            (kind, waited) = (await page.read())[0]  # all the time, and nothing behind it
            assert (kind, set(waited["rows"])) == ("news", {torrent.id})
            told = dict(await page.read())
            assert told["news"]["rows"][second.id]["state"] == second.state


async def test_there_are_at_most_so_many_pages_and_each_that_goes_makes_room(
    autojump_clock: MockClock,
) -> None:
    async with World().node(LEECH) as node:
        pages = pages_of(node)
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(MAX_PAGES):
                await stack.enter_async_context(reading(pages))
            app = Starlette(routes=[Route("/events", pages.respond)])
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
                assert (await client.get("/events")).status_code == 429
        async with reading(pages) as page:
            assert await page.read()


async def test_a_torrent_that_is_looked_at_closely_is_told_part_for_part(
    autojump_clock: MockClock,
) -> None:
    world, content = World(), sample()
    async with world.seed(content), world.node(LEECH) as node:
        torrent = await node.get(content.magnet(SEED))
        with trio.fail_after(60):
            await torrent.completed()
        async with reading(pages_of(node)) as page:
            await page.read()
            assert await page.focus(torrent=torrent.id) == 204
            told = dict(await page.read())["torrent"]
            assert told["id"] == torrent.id
            assert told["facts"]["magnet"] == str(torrent.magnet)
            assert told["files"] == [[0, "film.bin", len(content.data), 1.0, True, 0, 0, 8, False]]
            assert told["peers"][0]["address"].startswith(SEED)
            assert base64.b64decode(told["pieces"]["states"]) == bytes([PieceState.HERE] * 8)
            assert told["pieces"]["count"] == 8
            assert told["pieces"]["width"] == 1
            await torrent.pause()
            while "torrent" not in (told := dict(await page.read())):
                pass
            assert "files" not in told["torrent"]  # which did not change
            assert told["torrent"]["peers"] == []
            assert await page.focus(torrent="no such", dht=False) == 204
            page.name = "wrong"
            assert await page.focus() == 404


async def test_the_dht_that_is_looked_at_closely_shows_lookups_and_contacts(
    autojump_clock: MockClock,
) -> None:
    world = World()
    async with world.node(SEED) as seed, world.node(LEECH, bootstrap=[SEED]) as node:
        with trio.fail_after(30):
            await node.dht.bootstrapped()
        async with reading(pages_of(node)) as page:
            await page.read()
            assert await page.focus(dht=True) == 204
            told = dict(await page.read())["dht"]
            assert told["family"] == "ipv4"
            assert told["id"] == node.dht.node_id.hex()
            (contact,) = told["contacts"]
            assert contact[:3] == [seed.dht.node_id.hex(), str(seed.address), 2]
            await node.dht.find_node(bytes(20))
            while "dht" not in (told := dict(await page.read())) or not told["dht"].get("lookups"):
                pass
            (lookup,) = told["dht"]["lookups"]
            assert lookup["target"] == "00" * 20
            assert lookup["steps"][0][0] == seed.dht.node_id.hex()


async def test_the_streams_end_when_the_node_is_told_to_stop(autojump_clock: MockClock) -> None:
    async with World().node(LEECH) as node:
        stopping = trio.Event()
        page = Reader(Pages(node, stopping, read_only=True))
        async with trio.open_nursery() as nursery:
            await nursery.start(page.run)
            ((_, greeting), _) = await page.read()
            assert greeting["read_only"] is True
            stopping.set()
            with trio.fail_after(LOOK_EVERY / 2):  # at once, and not at the next look
                await page.ended.wait()


async def test_several_pages_cost_one_look_and_each_is_told_what_it_does_not_know(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    facts = sights.node_facts

    def counting(node: Node) -> Facts:
        nonlocal looks
        looks += 1
        return facts(node)

    monkeypatch.setattr(sights, "node_facts", counting)
    async with World().node(LEECH) as node:
        torrent = await node.get("ab" * 20)
        pages = pages_of(node)
        async with reading(pages) as one, reading(pages) as other:
            assert torrent.id in dict(await one.read())["all"]["rows"]
            assert torrent.id in dict(await other.read())["all"]["rows"]
            assert looks == 1
            await torrent.pause()
            for page in (one, other):
                assert dict(await page.read())["news"]["rows"][torrent.id]["state"] == "paused"
            assert looks == 2


async def test_a_torrent_with_more_files_and_peers_than_are_shown_says_how_many(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytes(64 * 1024)
    one = Sample(data, 32 * 1024, hashed(data, [16 * 1024] * 4, 32 * 1024).info)
    monkeypatch.setattr(sights, "MAX_FILES", 3)
    monkeypatch.setattr(sights, "MAX_PEERS", 1)
    world = World()
    async with (
        world.seed(one),
        world.seed(one, HAND),
        world.node(LEECH) as node,
    ):
        torrent = await node.get(one.magnet(SEED, HAND), paused=False)
        with trio.fail_after(60):
            await torrent.completed()
            while len(torrent.peers()) < 2:
                await trio.sleep(0.1)
        told = sights.torrent_closely(torrent)
        assert (len(told["files"]), told["facts"]["files"]) == (3, 4)
        assert len(told["peers"]) == 1


async def test_a_close_look_that_takes_long_is_taken_less_often(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []

    def slow(torrent: Torrent) -> dict[str, Any]:
        looked.append(trio.current_time())
        autojump_clock.jump(0.1)
        return {"facts": {"look": len(looked)}}

    monkeypatch.setattr(sights, "torrent_closely", slow)
    async with World().node(LEECH) as node:
        torrent = await node.get("ab" * 20)
        async with reading(pages_of(node)) as page:
            await page.read()
            await page.focus(torrent=torrent.id)
            while len(looked) < 4:
                await page.read()
    pauses = [later - sooner for sooner, later in itertools.pairwise(looked)]
    assert min(pauses) >= 0.1 / MOST_OF_TIME - 0.1
    assert max(pauses) <= 0.1 / MOST_OF_TIME + 2 * LOOK_EVERY


class Pieces:
    """Of which only the pieces are looked at."""

    metainfo = None

    def __init__(self, states: bytes, availability: list[int]) -> None:
        self.states, self.counts = states, availability

    def piece_states(self) -> bytes:
        return self.states

    def availability(self) -> list[int]:
        return self.counts


def test_a_cell_of_several_pieces_says_what_is_still_to_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sights, "MAX_CELLS", 3)
    states = bytes([3, 3, 3, 2, 1, 0, 0, 0])  # three cells of three, the last one smaller
    told = sights.pieces(Pieces(states, [1, 2, 3, 300, 400, 500, 9, 0]))  # type: ignore[arg-type]
    assert told["width"] == 3
    assert list(base64.b64decode(told["states"])) == [3, 2, 0]
    assert list(base64.b64decode(told["share"])) == [255, 0, 0]
    assert list(base64.b64decode(told["availability"])) == [1, 255, 0]


@pytest.mark.parametrize(
    ("seconds", "shown"), [(None, None), (1.4, 1), (89.4, 89), (94, 90), (904, 900), (950, 960)]
)
def test_a_time_to_come_loses_the_digits_that_nobody_reads(
    seconds: float | None, shown: int | None
) -> None:
    assert sights._brief(seconds) == shown


def test_the_events_of_hostile_names_stay_events() -> None:
    name = 'x\n\nevent: all\ndata: {"rows": {}}\r\n\u2028\udcff<script>'
    text = events._event("news", {"name": name}).decode("ascii")
    assert text.count("\n") == 3
    assert json.loads(text.splitlines()[1].removeprefix("data: ")) == {"name": name}
