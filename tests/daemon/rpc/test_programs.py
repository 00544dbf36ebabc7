"""What Sonarr, Radarr and Flood send to Transmission, request by request, and what they read of the
answers. They are typed programs: a number where text is expected, or null for a list, is a failure
there.

Sources: NzbDrone.Core/Download/Clients/Transmission/TransmissionProxy.cs (the same in Radarr), and
server/services/Transmission of Flood.
"""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock

from dht_torrent import Node
from dht_torrent.config import DiskConfig
from dht_torrent.config.seeding import SeedingLimits
from dht_torrent.daemon.rpc.endpoint import SESSION_ID
from dht_torrent.daemon.web_app import RPC_PATH
from dht_torrent.ids import HostPort
from dht_torrent.metainfo import Metainfo
from dht_torrent.storage import FileStorage, Storage
from tests.daemon.rpc.rpc_client import web_client
from tests.helpers.engine import LEECH, PORT, SEED, World, sample

HASH = "ab" * 20
Kinds = Mapping[str, tuple[type, ...]]
NUMBER = (int, float)


@pytest.fixture
async def world(autojump_clock: MockClock) -> World:
    return World()


@pytest.fixture
async def node(world: World, tmp_path: Path) -> AsyncIterator[Node]:
    def in_files(metainfo: Metainfo, path: Path, shared: bool) -> Storage:
        return FileStorage(path, metainfo, DiskConfig(inline=True))

    async with world.node(LEECH, download_dir=tmp_path, open_storage=in_files) as node:
        yield node


@pytest.fixture
async def program(node: Node) -> AsyncIterator[Program]:
    async with web_client(node) as client:
        yield Program(client)


class Program:
    """It fetches the session id by GET and keeps it, and sends no tag."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.session = ""

    async def log_in(self) -> None:
        answer = await self._client.get(RPC_PATH, headers={"Accept": "application/json"})
        assert answer.status_code == 409
        self.session = answer.headers[SESSION_ID]

    async def post(self, method: str, arguments: Mapping[str, Any] | None) -> httpx.Response:
        body = {"method": method} | ({} if arguments is None else {"arguments": arguments})
        headers = {SESSION_ID: self.session, "Accept": "application/json"}
        return await self._client.post(RPC_PATH, json=body, headers=headers)

    async def call(self, method: str, arguments: Mapping[str, Any] | None = None) -> Any:
        answer = await self.post(method, arguments)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        told = answer.json()
        assert told.keys() == {"result", "arguments"}
        assert told["result"] == "success"
        return told["arguments"]


def check(told: Mapping[str, Any], kinds: Kinds) -> None:
    """Each is there, and of one of these types: true is no number, and 1.0 no whole one."""
    for name, allowed in kinds.items():
        assert type(told[name]) in allowed, (name, told[name])


# -- Sonarr and Radarr ----------------------------------------------------------------------------

ARR_CONFIG: Kinds = {
    "rpc-version": (int,),
    "version": (str,),
    "download-dir": (str,),
    "seedRatioLimit": NUMBER,
    "seedRatioLimited": (bool,),
    "idle-seeding-limit": (int,),
    "idle-seeding-limit-enabled": (bool,),
}
ARR_TORRENT: Kinds = {
    "id": (int,),
    "hashString": (str,),
    "name": (str,),
    "downloadDir": (str,),
    "totalSize": (int,),
    "leftUntilDone": (int,),
    "isFinished": (bool,),
    "eta": (int,),
    "status": (int,),
    "secondsDownloading": (int,),
    "secondsSeeding": (int,),
    "errorString": (str,),
    "uploadedEver": (int,),
    "downloadedEver": (int,),
    "seedRatioLimit": NUMBER,
    "seedRatioMode": (int,),
    "seedIdleLimit": (int,),
    "seedIdleMode": (int,),
    "file-count": (int,),
    "labels": (list,),
}
ARR_FIELDS = [*list(ARR_TORRENT)[:-2], "fileCount", "file-count", "labels"]
"""`fileCount` is Vuze's: who does not know it leaves it out."""


async def arr_torrents(program: Program) -> list[dict[str, Any]]:
    told = await program.call("torrent-get", {"fields": ARR_FIELDS})
    for row in told["torrents"]:
        check(row, ARR_TORRENT)
        assert re.fullmatch("[0-9a-f]{40}", row["hashString"])
        assert all(type(label) is str for label in row["labels"])
    return list(told["torrents"])


def files_below(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file()]


async def test_sonarr_finds_a_version_that_has_labels_and_its_folder(
    node: Node, program: Program, autojump_clock: MockClock
) -> None:
    await program.log_in()
    told = await program.call("session-get")
    check(told, ARR_CONFIG)
    found = re.search(r"[\d.]+", told["version"])
    assert found is not None
    assert tuple(map(int, found[0].split(".")[:2])) >= (4, 0)
    assert told["download-dir"] == str(node.config.download_dir)


async def test_sonarr_adds_watches_limits_and_removes_a_release(
    world: World, node: Node, program: Program, tmp_path: Path, autojump_clock: MockClock
) -> None:
    one = sample()
    info_hash = one.metainfo.info_hash.hex()
    folder = str(tmp_path / "tv-sonarr")
    await program.log_in()
    assert await arr_torrents(program) == []
    async with world.seed(one):
        added = await program.call(
            "torrent-add",
            {
                "metainfo": base64.b64encode(one.metainfo.to_torrent()).decode(),
                "paused": False,
                "download-dir": folder,
                "labels": ["tv-sonarr"],
            },
        )
        check(added["torrent-added"], {"id": (int,), "name": (str,), "hashString": (str,)})
        await program.call(
            "torrent-set",
            {
                "ids": [info_hash],
                "seedRatioLimit": 1.5,
                "seedRatioMode": 1,
                "seedIdleLimit": 90,
                "seedIdleMode": 1,
            },
        )
        await program.call("queue-move-top", {"ids": [info_hash]})
        await trio.sleep(1)  # it is checked
        [row] = await arr_torrents(program)
        assert row["labels"] == ["tv-sonarr"]
        assert (row["downloadDir"], row["name"]) == (folder, one.metainfo.name)
        assert (row["totalSize"], row["leftUntilDone"]) == (len(one.data), len(one.data))
        assert (row["status"], row["errorString"], row["file-count"]) == (4, "", 1)
        assert (row["seedRatioLimit"], row["seedRatioMode"]) == (1.5, 1)
        assert (row["seedIdleLimit"], row["seedIdleMode"]) == (90, 1)
        torrent = node.find(info_hash)
        assert torrent.seeding_limits == SeedingLimits(1.5, 5400.0)
        torrent.add_peers([HostPort(SEED, PORT)])
        await torrent.completed()
    [row] = await arr_torrents(program)
    assert (row["leftUntilDone"], row["status"], row["isFinished"]) == (0, 6, False)
    assert row["downloadedEver"] >= len(one.data)
    # Imported: from now on it has another label, and then it goes with its data.
    await program.call("torrent-set", {"ids": [info_hash], "labels": ["imported"]})
    assert (await arr_torrents(program))[0]["labels"] == ["imported"]
    assert files_below(tmp_path) == [one.metainfo.name]
    await program.call("torrent-remove", {"ids": [info_hash], "delete-local-data": True})
    assert await arr_torrents(program) == []
    assert files_below(tmp_path) == []


async def test_sonarr_sees_of_a_magnet_link_that_nothing_is_known_yet_and_adds_it_twice(
    node: Node, program: Program, tmp_path: Path, autojump_clock: MockClock
) -> None:
    await program.log_in()
    given = {
        "filename": f"magnet:?xt=urn:btih:{HASH}&dn=Some.Show.S01E01",
        "paused": False,
        "download-dir": str(tmp_path),
    }
    first = await program.call("torrent-add", given)
    assert first["torrent-added"]["hashString"] == HASH
    second = await program.call("torrent-add", given)  # that is no failure
    assert second["torrent-duplicate"] == first["torrent-added"]
    [row] = await arr_torrents(program)
    assert (row["totalSize"], row["file-count"]) == (0, 0)
    assert (row["status"], row["isFinished"]) == (4, False)
    assert row["eta"] < 0
    assert row["name"] == "Some.Show.S01E01"
    await program.call("torrent-remove", {"ids": [HASH], "delete-local-data": False})
    assert not node.torrents


async def test_sonarr_knows_a_release_that_has_reached_its_ratio(
    world: World, node: Node, program: Program, autojump_clock: MockClock
) -> None:
    one = sample()
    await program.log_in()
    await program.call(
        "torrent-add", {"metainfo": base64.b64encode(one.metainfo.to_torrent()).decode()}
    )
    torrent = node.find(one.metainfo.info_hash.hex())
    async with world.seed(one):
        torrent.add_peers([HostPort(SEED, PORT)])
        await torrent.completed()
    limits = {"seedRatioLimit": 0.0, "seedRatioMode": 1}
    await program.call("torrent-set", {"ids": [torrent.id], **limits})
    await trio.sleep(60)
    [row] = await arr_torrents(program)
    assert (row["status"], row["isFinished"], row["leftUntilDone"]) == (0, True, 0)


async def test_a_session_that_the_program_kept_too_long_is_renewed(
    program: Program, autojump_clock: MockClock
) -> None:
    program.session = "of another run"
    answer = await program.post("session-get", None)
    assert answer.status_code == 409
    program.session = answer.headers[SESSION_ID]
    assert (await program.post("session-get", None)).json()["result"] == "success"


# -- Flood ----------------------------------------------------------------------------------------

FLOOD_SESSION: Kinds = {
    "dht-enabled": (bool,),
    "peer-port": (int,),
    "download-dir": (str,),
    "peer-port-random-on-start": (bool,),
    "pex-enabled": (bool,),
    "speed-limit-down": (int,),
    "speed-limit-down-enabled": (bool,),
    "speed-limit-up": (int,),
    "speed-limit-up-enabled": (bool,),
    "peer-limit-global": (int,),
    "peer-limit-per-torrent": (int,),
    "seed-queue-enabled": (bool,),
    "seed-queue-size": (int,),
}
FLOOD_TORRENT: Kinds = {
    "hashString": (str,),
    "downloadDir": (str,),
    "name": (str,),
    "comment": (str,),
    "haveValid": (int,),
    "addedDate": (int,),
    "dateCreated": (int,),
    "doneDate": (int,),
    "rateDownload": (int,),
    "rateUpload": (int,),
    "downloadedEver": (int,),
    "uploadedEver": (int,),
    "eta": (int,),
    "isPrivate": (bool,),
    "error": (int,),
    "errorString": (str,),
    "peersGettingFromUs": (int,),
    "peersSendingToUs": (int,),
    "status": (int,),
    "totalSize": (int,),
    "sizeWhenDone": (int,),
    "trackers": (list,),
    "labels": (list,),
    "activityDate": (int,),
}
FLOOD_PEER: Kinds = {
    "address": (str,),
    "clientName": (str,),
    "progress": NUMBER,
    "rateToClient": (int,),
    "rateToPeer": (int,),
    "isEncrypted": (bool,),
    "isIncoming": (bool,),
    "isDownloadingFrom": (bool,),
    "isUploadingTo": (bool,),
}
FLOOD_FILE: Kinds = {"bytesCompleted": (int,), "length": (int,), "name": (str,)}
FLOOD_FILE_STATS: Kinds = {"bytesCompleted": (int,), "wanted": (bool,), "priority": (int,)}


async def flood_torrent(program: Program, *fields: str, ids: Any = None) -> Any:
    """Of the one that is there."""
    arguments = {"fields": list(fields)} | ({} if ids is None else {"ids": ids})
    [row] = (await program.call("torrent-get", arguments))["torrents"]
    return row


async def test_flood_connects_and_polls(program: Program, autojump_clock: MockClock) -> None:
    await program.log_in()
    told = await program.call("session-get", {"fields": list(FLOOD_SESSION)})
    assert told.keys() == FLOOD_SESSION.keys()
    check(told, FLOOD_SESSION)
    check(await program.call("session-get", {"fields": ["config-dir"]}), {"config-dir": (str,)})
    told = await program.call("session-stats")
    check(told, {"downloadSpeed": (int,), "uploadSpeed": (int,), "current-stats": (dict,)})
    check(told["current-stats"], {"downloadedBytes": (int,), "uploadedBytes": (int,)})
    assert await program.call("torrent-get", {"fields": list(FLOOD_TORRENT)}) == {"torrents": []}


async def test_flood_shows_a_torrent_with_its_files_and_peers(
    world: World, node: Node, program: Program, tmp_path: Path, autojump_clock: MockClock
) -> None:
    one = sample()
    await program.log_in()
    async with world.seed(one):
        metainfo = base64.b64encode(one.metainfo.to_torrent()).decode()
        given = {"metainfo": metainfo, "download-dir": str(tmp_path), "paused": True}
        added = (await program.call("torrent-add", given))["torrent-added"]
        info_hash = added["hashString"]
        await program.call("torrent-set", {"ids": info_hash, "labels": ["film", "4k"]})
        await program.call("torrent-start-now", {"ids": [info_hash]})
        torrent = node.find(info_hash)
        torrent.set_limits(down=len(one.data) // 8)
        torrent.add_peers([HostPort(SEED, PORT)])
        row = await flood_torrent(program, *FLOOD_TORRENT)
        with trio.fail_after(60):  # the peer chooses whom it sends to
            while not (row["peersSendingToUs"] and row["haveValid"]):
                await trio.sleep(0.2)
                row = await flood_torrent(program, *FLOOD_TORRENT)
        assert row.keys() == FLOOD_TORRENT.keys()
        check(row, FLOOD_TORRENT)
        assert (row["trackers"], row["labels"]) == ([], ["film", "4k"])
        assert (row["status"], row["peersSendingToUs"], row["doneDate"]) == (4, 1, 0)
        assert 0 < row["haveValid"] < row["sizeWhenDone"] == row["totalSize"] == len(one.data)
        row = await flood_torrent(program, "peers", ids=info_hash)  # a hash that is in no list
        [peer] = row["peers"]
        check(peer, FLOOD_PEER)
        assert (peer["address"], peer["isDownloadingFrom"]) == (SEED, True)
        row = await flood_torrent(program, "files", "fileStats", ids=info_hash)
        [file], [stats] = row["files"], row["fileStats"]
        check(file, FLOOD_FILE)
        check(stats, FLOOD_FILE_STATS)
        assert (stats["wanted"], stats["priority"]) == (True, 0)
        for field in ("trackerStats", "trackers"):
            assert await flood_torrent(program, field, ids=info_hash) == {field: []}
        torrent.set_limits(down=None)
        await torrent.completed()
    row = await flood_torrent(program, *FLOOD_TORRENT)
    check(row, FLOOD_TORRENT)
    assert row["haveValid"] == row["totalSize"]
    assert row["doneDate"] > 0


async def test_flood_steers_a_torrent(
    world: World, node: Node, program: Program, tmp_path: Path, autojump_clock: MockClock
) -> None:
    one = sample()
    await program.log_in()
    async with world.seed(one):
        torrent = await node.get(one.metainfo)
        torrent.add_peers([HostPort(SEED, PORT)])
        await torrent.completed()
    ids = [torrent.id]
    for method, status in (
        ("torrent-stop", 0),
        ("torrent-start-now", 6),
        ("torrent-reannounce", 6),
        ("torrent-verify", 6),
    ):
        await program.call(method, {"ids": ids})
        await trio.sleep(1)
        assert await flood_torrent(program, "status") == {"status": status}, method
    for change in (
        {"bandwidthPriority": 1},
        {"files-unwanted": [0]},
        {"files-wanted": [0]},
        {"priority-high": [0]},
    ):
        await program.call("torrent-set", {"ids": ids, **change})
    assert [(file.selected, file.priority) for file in torrent.files()] == [(True, 1)]
    there = str(tmp_path / "elsewhere")
    await program.call("torrent-set-location", {"ids": ids, "location": there, "move": True})
    await trio.sleep(5)
    assert await flood_torrent(program, "downloadDir") == {"downloadDir": there}
    assert (tmp_path / "elsewhere" / one.metainfo.name).read_bytes() == one.data
    await program.call("torrent-remove", {"ids": ids, "delete-local-data": True})
    assert not node.torrents


async def test_flood_sees_a_magnet_link_without_metadata(
    program: Program, autojump_clock: MockClock
) -> None:
    await program.log_in()
    await program.call("torrent-add", {"filename": HASH})
    row = await flood_torrent(program, *FLOOD_TORRENT)
    check(row, FLOOD_TORRENT)
    assert (row["name"], row["totalSize"], row["haveValid"]) == (HASH, 0, 0)
    assert (row["comment"], row["dateCreated"], row["isPrivate"]) == ("", 0, False)
    assert await flood_torrent(program, "files", "fileStats") == {"files": [], "fileStats": []}


async def test_flood_sets_the_session(
    node: Node, program: Program, autojump_clock: MockClock
) -> None:
    await program.log_in()
    await program.call(
        "session-set",
        {
            "dht-enabled": True,
            "download-dir": str(node.config.download_dir),
            "peer-port": node.address.port,
            "pex-enabled": True,
            "speed-limit-down": 2000,
            "speed-limit-down-enabled": True,
            "speed-limit-up": 0,
            "speed-limit-up-enabled": False,
            "seed-queue-enabled": True,
            "seed-queue-size": 3,
        },
    )
    assert node.limits == (None, 2_000_000)
    told = await program.call("session-get", {"fields": list(FLOOD_SESSION)})
    check(told, FLOOD_SESSION)
    assert (told["speed-limit-down"], told["seed-queue-size"]) == (2000, 3)
