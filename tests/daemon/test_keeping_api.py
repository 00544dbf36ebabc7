"""Files, labels, limits of seeding and the queue over the control API, on a fake network."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from trio.testing import MockClock

from dht_torrent import Node
from dht_torrent.config.alternative import AlternativeLimits, WeeklyHours
from dht_torrent.config.seeding import SeedingLimits
from dht_torrent.daemon.app import make_app
from dht_torrent.daemon.control import HEADER
from tests.helpers.engine import KIB, LEECH, Sample, World
from tests.helpers.storages import hashed

IDS = [f"{number:040x}" for number in (1, 2, 3)]


@pytest.fixture
async def node(autojump_clock: MockClock) -> AsyncIterator[Node]:
    async with World().node(LEECH) as node:
        yield node


@contextlib.asynccontextmanager
async def client_of(node: Node) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=make_app(node, stop=lambda: None))
    url = "http://localhost/api/v1/torrents"
    async with httpx.AsyncClient(transport=transport, base_url=url, headers={HEADER: "1"}) as one:
        yield one


def four_files() -> Sample:
    data = bytes(256 * KIB)
    return Sample(data, 32 * KIB, hashed(data, [64 * KIB] * 4, 32 * KIB).info)


async def test_files_are_wanted_skipped_and_given_a_priority(
    node: Node, autojump_clock: MockClock
) -> None:
    torrent = await node.get(four_files().metainfo)
    async with client_of(node) as client:

        async def said(**body: str) -> list[tuple[bool, int]]:
            answer = await client.post(f"/{torrent.id}/files", json=body)
            assert answer.status_code == 200
            found = (await client.get(f"/{torrent.id}/files")).json()
            return [(file["selected"], file["priority"]) for file in found]

        assert await said(skip="0,2-3", high="1") == [
            (False, 0),
            (True, 1),
            (False, 0),
            (False, 0),
        ]
        assert await said(want="3", low="3", normal="1") == [
            (False, 0),
            (True, 0),
            (False, 0),
            (True, -1),
        ]
        for wrong in ({"want": "4"}, {"high": "x"}, {"more": "1"}, {"want": 1}):
            answer = await client.post(f"/{torrent.id}/files", json=wrong)
            assert answer.status_code == 400, wrong
        assert torrent.select == ((1, 1), (3, 3))
        unknown = await node.get(IDS[0])
        answer = await client.post(f"/{unknown.id}/files", json={"want": "0"})
        assert (answer.status_code, "not known yet" in answer.text) == (400, True)


async def test_labels_limits_and_places_are_set(node: Node, autojump_clock: MockClock) -> None:
    for one in IDS:
        await node.get(one)
    torrent = node.find(IDS[2])
    async with client_of(node) as client:

        async def say(action: str, **body: Any) -> int:
            return (await client.post(f"/{torrent.id}/{action}", json=body)).status_code

        assert await say("labels", labels=["a", "b"]) == 200
        assert (await client.get(f"/{torrent.id}")).json()["labels"] == ["a", "b"]
        assert await say("seeding", ratio=1.5, idle="none") == 200
        assert torrent.seeding_limits == SeedingLimits(1.5, "none")
        assert await say("seeding", ratio="node") == 200
        assert torrent.seeding_limits == SeedingLimits("node", "none")
        places = []
        for to in ("top", "down", "bottom", "up", 0, 99):
            assert await say("queue", to=to) == 200
            places.append(node.queue_positions()[torrent.info_hash])
        assert places == [0, 1, 2, 1, 0, 2]
        assert await say("announce") == 200
        for action, body in (
            ("labels", {"labels": "a"}),
            ("labels", {"labels": [1]}),
            ("labels", {"labels": ["a,b"]}),
            ("seeding", {"ratio": -1}),
            ("seeding", {"ratio": "much"}),
            ("seeding", {"rate": 1}),
            ("queue", {"to": "front"}),
            ("queue", {"to": True}),
            ("queue", {"to": -1}),
            ("queue", {}),
            ("announce", {"now": True}),
        ):
            assert await say(action, **body) == 400, (action, body)
        assert await say("nonsense") == 404


async def test_content_is_moved_and_renamed(
    node: Node, tmp_path: Path, autojump_clock: MockClock
) -> None:
    torrent = await node.get(IDS[0], paused=True)
    async with client_of(node) as client:

        async def say(action: str, **body: Any) -> tuple[int, str]:
            answer = await client.post(f"/{torrent.id}/{action}", content=json.dumps(body))
            return answer.status_code, answer.text

        assert (await say("move", folder=str(tmp_path / "new")))[0] == 200
        assert torrent.folder == tmp_path / "new"
        assert (await say("move", folder=str(tmp_path / "a\udcff"), data=False, wait=False))[
            0
        ] == 200
        assert torrent.folder == tmp_path / "a\udcff"
        for wrong in (
            {},
            {"folder": "new"},
            {"folder": 1},
            {"folder": "/a\0b"},
            {"folder": "/x", "data": 1},
            {"folder": "/x", "to": "y"},
        ):
            assert (await say("move", **wrong))[0] == 400, wrong
        assert torrent.folder == tmp_path / "a\udcff"
        known = await node.get(four_files().metainfo, paused=True)
        answer = await client.post(f"/{known.id}/rename", json={"path": "album", "name": "mine"})
        assert (answer.status_code, "cannot be moved" in answer.text) == (409, True)
        for wrong in ({}, {"path": "album"}, {"name": "x"}, {"path": "album", "name": 1}):
            assert (await say("rename", **wrong))[0] == 400, wrong
        status, text = await say("rename", path="album", name="mine")
        assert (status, "not known yet" in text) == (400, True)


async def test_the_limits_of_the_node_and_the_alternative_ones_are_set(
    node: Node, autojump_clock: MockClock
) -> None:
    async with client_of(node) as client:

        async def say(**body: Any) -> int:
            url = "http://localhost/api/v1/limits"
            return (await client.post(url, json=body)).status_code

        assert await say(up=5, alternative_up=3, alternative_down=None, alternative=True) == 200
        assert (node.limits, node.status().limit_up) == ((5, None), 3)
        assert node.status().limit_down is None
        assert await say(hours="fri 22:00-06:00", alternative=False) == 200
        hours = WeeklyHours(22 * 60, 6 * 60, 32)
        assert node.speed.alternative == AlternativeLimits(3, None, by_clock=True, hours=hours)
        assert await say(hours=None) == 200
        assert node.speed.alternative == AlternativeLimits(3, None, hours=hours)
        for wrong in (
            {"hours": "x"},
            {"hours": 1},
            {"alternative": 1},
            {"alternative_up": "x"},
            {"alternative_up": -1},
            {"up": -1},
            {"up": True},
            {"more": 1},
        ):
            assert await say(**{"down": 9, "alternative_down": 9, **wrong}) == 400, wrong
        assert node.limits == (5, None)
        assert node.speed.alternative.down is None
