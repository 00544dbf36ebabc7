"""What clients of Transmission do with a node, in both dialects, on a fake network."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dht_torrent import Node, Torrent
from dht_torrent.config import DiskConfig
from dht_torrent.config.alternative import AlternativeLimits, WeeklyHours
from dht_torrent.config.seeding import SeedingLimits
from dht_torrent.daemon.rpc.names import to_legacy
from dht_torrent.daemon.rpc.torrent_fields import FIELDS
from dht_torrent.daemon.rpc.torrent_methods import ROWS_AT_ONCE
from dht_torrent.ids import HostPort
from dht_torrent.metainfo import Metainfo
from dht_torrent.storage import FileStorage, Storage
from tests.daemon.rpc.rpc_client import STOPPED, Rpc, web_client
from tests.helpers.engine import KIB, LEECH, PORT, SEED, Sample, World, sample
from tests.helpers.storages import hashed

HASH = "ab" * 20
DOUBLES = {"uploadRatio", "percentDone", "percentComplete", "recheckProgress", "seedRatioLimit"}
DOUBLES |= {"metadataPercentComplete"}


@pytest.fixture
async def world(autojump_clock: MockClock) -> World:
    return World()


@pytest.fixture
async def node(world: World, tmp_path: Path) -> AsyncIterator[Node]:
    async with world.node(LEECH, download_dir=tmp_path) as node:
        yield node


@pytest.fixture
async def rpc(node: Node) -> AsyncIterator[Rpc]:
    async with web_client(node) as client:
        yield Rpc(client)


def four_files() -> Sample:
    data = bytes(range(256)) * 1024
    return Sample(data, 32 * KIB, hashed(data, [64 * KIB] * 4, 32 * KIB).info)


def base64_of(one: Sample) -> str:
    return base64.b64encode(one.metainfo.to_torrent()).decode()


# -- adding and removing --------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["magnet", "hash", "metainfo"])
async def test_a_torrent_is_added_once_and_the_second_time_is_no_failure(
    what: str, node: Node, rpc: Rpc, autojump_clock: MockClock
) -> None:
    one = sample()
    given: dict[str, Any] = {
        "magnet": {"filename": str(one.metainfo.magnet())},
        "hash": {"filename": one.metainfo.info_hash.hex().upper()},
        "metainfo": {"metainfo": base64_of(one)},
    }[what]
    told = await rpc("torrent-add", **given, labels=["a", "b"], paused=True)
    added = told["torrent-added"]
    assert added["hashString"] == one.metainfo.info_hash.hex()
    assert node.find(added["hashString"]).labels == ("a", "b")
    assert node.find(added["hashString"]).paused
    again = (await rpc("torrent-add", **given))["torrent-duplicate"]
    assert again == {**added, "name": again["name"]}


async def test_a_selection_is_given_with_the_torrent(
    node: Node, rpc: Rpc, autojump_clock: MockClock
) -> None:
    one = four_files()
    await rpc("torrent-add", metainfo=base64_of(one), **{"files-unwanted": [0, 2]})
    [torrent] = node.torrents.values()
    assert [file.selected for file in torrent.files()] == [False, True, False, True]
    error = await rpc("torrent-add", metainfo=base64_of(sample()), **{"files-unwanted": [9]})
    assert error == "file index out of range"


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({}, "no filename or metainfo specified"),
        ({"filename": "http://127.0.0.1/a.torrent"}, "this node fetches from no web server"),
        ({"filename": "/etc/passwd"}, "files of this machine are not read"),
        ({"filename": "nonsense"}, "unrecognized info"),
        ({"filename": 3}, "filename must be a string"),
        ({"metainfo": "!"}, "metainfo is not base64"),
        ({"metainfo": base64.b64encode(b"d4:infodee").decode()}, "invalid or corrupt torrent"),
        ({"filename": HASH, "download-dir": "relative"}, "download directory path is not abs"),
        ({"filename": HASH, "download-dir": "/etc"}, "not below a folder that clients may use"),
        ({"filename": HASH, "labels": "a"}, "labels must be a list of strings"),
        ({"filename": HASH, "paused": "yes"}, "paused must be true or false"),
    ],
)
async def test_what_cannot_be_added_is_refused_in_a_line(
    params: dict[str, Any], error: str, node: Node, rpc: Rpc, autojump_clock: MockClock
) -> None:
    assert (await rpc("torrent-add", **params)).startswith(error)
    assert not node.torrents


async def test_content_stays_below_the_folders_that_are_allowed(
    node: Node, rpc: Rpc, tmp_path: Path, autojump_clock: MockClock
) -> None:
    (tmp_path / "out").symlink_to("/")
    for outside in (f"{tmp_path}/out/etc", f"{tmp_path}/../x", f"{tmp_path}x"):
        error = await rpc("torrent-add", filename=HASH, **{"download-dir": outside})
        assert error.startswith("not below a folder"), outside
    inside = str(tmp_path / "films" / "new")
    await rpc("torrent-add", filename=HASH, **{"download-dir": inside})
    [told] = await rpc.torrents("downloadDir")
    assert told == {"downloadDir": inside}
    assert (await rpc("free-space", path=str(tmp_path)))["size-bytes"] > 0
    assert (await rpc("free-space", path="/")).startswith("not below")


async def test_numbers_are_stable_and_what_was_removed_is_told_for_a_minute(
    node: Node, rpc: Rpc, autojump_clock: MockClock
) -> None:
    for number in range(3):
        await rpc("torrent-add", filename=f"{number:040x}")
    assert [one["id"] for one in await rpc.torrents("id")] == [1, 2, 3]
    await rpc("torrent-remove", ids=[2])
    assert [one["id"] for one in await rpc.torrents("id")] == [1, 3]
    await rpc("torrent-add", filename=f"{9:040x}")
    assert [one["id"] for one in await rpc.torrents("id")] == [1, 3, 4]
    told = await rpc("torrent-get", fields=["id"], ids="recently-active")
    assert told["removed"] == [2]
    await trio.sleep(61)
    told = await rpc("torrent-get", fields=["id"], ids="recently-active")
    assert (told["removed"], told["torrents"]) == ([], [])


@pytest.mark.parametrize(
    ("ids", "found"),
    [
        (..., [1, 2]),
        (None, []),
        ([], []),
        (1, [1]),
        (1.0, [1]),
        ([2, 1, 2], [1, 2]),
        (f"{1:040X}", [2]),
        ([f"{1:040x}", 1, 77, "ab"], [1, 2]),
        (77, []),
    ],
)
async def test_torrents_are_named_by_number_or_hash(
    ids: Any, found: list[int], node: Node, rpc: Rpc, autojump_clock: MockClock
) -> None:
    for number in range(2):
        await rpc("torrent-add", filename=f"{number:040x}")
    params = {} if ids is ... else {"ids": ids}
    assert sorted(one["id"] for one in await rpc.torrents("id", **params)) == found
    assert await rpc("torrent-get", fields=["id"], ids=[1.5]) == "ids are numbers and hashes"


async def test_nothing_is_removed_by_who_names_nothing(
    node: Node, rpc: Rpc, autojump_clock: MockClock
) -> None:
    await rpc("torrent-add", filename=HASH)
    for ids in ([], None, "", ["nope"]):
        assert await rpc("torrent-remove", ids=ids, **{"delete-local-data": True}) == {}
    odd: list[Any] = [{}, True, [[1]], [None]]
    for wrong in odd:
        assert await rpc("torrent-remove", ids=wrong) == "ids are numbers and hashes"
    assert list(node.torrents) == [node.find(HASH).info_hash]


# -- what is told ---------------------------------------------------------------------------------


async def test_every_field_is_told_of_every_kind_of_torrent(
    world: World, node: Node, autojump_clock: MockClock
) -> None:
    one = sample()
    async with world.seed(one), web_client(node) as client:
        complete = await node.get(one.metainfo)
        complete.add_peers([HostPort(SEED, PORT)])
        await complete.completed()
        await node.get(four_files().metainfo)
        await node.get(HASH)
        for legacy in (True, False):
            rpc = Rpc(client, legacy=legacy)
            names = [to_legacy(name) for name in FIELDS] if legacy else list(FIELDS)
            told = await rpc.torrents(*names, "no such field")
            assert len(told) == 3
            for row in told:
                assert sorted(row) == sorted(names)
                for name, value in row.items():
                    if isinstance(value, float):
                        assert to_legacy(name) in DOUBLES, name
            assert json.dumps(told)


async def test_a_download_is_told_as_it_is(
    world: World, node: Node, rpc: Rpc, autojump_clock: MockClock
) -> None:
    one = sample()
    async with world.seed(one):
        torrent = await node.get(one.metainfo)
        torrent.set_limits(down=len(one.data) // 8)
        torrent.add_peers([HostPort(SEED, PORT)])
        await trio.sleep(4)
        [told] = await rpc.torrents(
            *("status", "percentDone", "leftUntilDone", "haveValid", "sizeWhenDone", "eta"),
            *("rateDownload", "peers", "peersConnected", "peersSendingToUs", "peersFrom"),
            *("pieces", "pieceCount", "desiredAvailable", "isFinished", "files", "totalSize"),
        )
        assert told["status"] == 4
        assert 0.1 < told["percentDone"] < 0.9
        assert told["leftUntilDone"] + told["haveValid"] == told["sizeWhenDone"] == len(one.data)
        assert told["desiredAvailable"] == told["leftUntilDone"]
        assert told["eta"] > 0
        assert told["rateDownload"] > 0
        assert told["peersConnected"] == told["peersSendingToUs"] == told["peersFrom"]["fromLtep"]
        [peer] = told["peers"]
        assert peer["address"] == SEED
        assert peer["isDownloadingFrom"]
        assert "D" in peer["flagStr"]
        bits = base64.b64decode(told["pieces"])
        assert bits == torrent.pieces()
        assert len(bits) == -(-told["pieceCount"] // 8)
        [file] = told["files"]
        assert file["bytesCompleted"] == told["haveValid"]
        torrent.set_limits(down=None)
        await torrent.completed()
        [told] = await rpc.torrents("status", "percentDone", "eta", "doneDate", "leftUntilDone")
        assert told == {**told, "status": 6, "percentDone": 1.0, "eta": -1, "leftUntilDone": 0}
        assert told["doneDate"] > 0


async def test_rows_may_come_as_a_table(node: Node, rpc: Rpc, autojump_clock: MockClock) -> None:
    await rpc("torrent-add", filename=HASH)
    table = await rpc.torrents("id", "hashString", "none", format="table")
    assert table == [["id", "hashString"], [1, HASH]]
    assert await rpc("torrent-get") == "no fields specified"


async def test_a_long_list_leaves_out_what_is_removed_while_it_is_made(
    node: Node, rpc: Rpc, autojump_clock: MockClock
) -> None:
    hashes = [f"{number:040x}" for number in range(3 * ROWS_AT_ONCE)]
    for one in hashes:
        await node.get(one, paused=True)
    told = await rpc.torrents("hashString")
    assert [row["hashString"] for row in told] == hashes
    async with trio.open_nursery() as nursery:
        found: list[str] = []

        async def look() -> None:
            found.extend(row["hashString"] for row in await rpc.torrents("id", "hashString"))

        async def remove() -> None:
            await node.remove(node.find(hashes[-1]))
            await rpc("torrent-get", fields=["id"], ids=[1])  # its number is forgotten

        nursery.start_soon(look)
        nursery.start_soon(remove)
    assert set(hashes) - set(found) <= {hashes[-1]}


async def test_the_session_is_told_in_both_dialects(
    node: Node, rpc: Rpc, autojump_clock: MockClock
) -> None:
    told = await rpc("session-get")
    assert told["version"].startswith("4.1.0 (")
    assert told["download-dir"] == str(node.config.download_dir)
    assert told["rpc-version-semver"] == "6.0.0"
    assert told["cache-size-mb"] == 96
    assert told["encryption"] == "tolerated"
    assert told["units"]["speed-units"][1] == "kB/s"
    few = await rpc("session-get", fields=["dht-enabled", "peer-port", "nonsense"])
    assert few == {"dht-enabled": True, "peer-port": PORT}
    new = await Rpc(rpc.client, legacy=False)("session-get")
    assert new["encryption"] == "allowed"
    assert {to_legacy(name) for name in new} ^ told.keys() == {"download-dir", "downloadDir"}


# -- steering -------------------------------------------------------------------------------------


async def test_torrents_are_stopped_started_verified_and_announced(
    world: World, node: Node, rpc: Rpc, autojump_clock: MockClock
) -> None:
    one = sample()
    async with world.seed(one):
        torrent = await node.get(one.metainfo)
        torrent.add_peers([HostPort(SEED, PORT)])
        await torrent.completed()
        assert await rpc("torrent-stop", ids=1) == {}
        assert (await rpc.torrents("status")) == [{"status": 0}]
        for method in ("torrent-start", "torrent-stop", "torrent-start-now"):
            assert await rpc(method, ids=[1]) == {}
        await trio.sleep(1)
        assert (await rpc.torrents("status")) == [{"status": 6}]
        assert await rpc("torrent-verify") == {}
        await torrent.completed()
        assert await rpc("torrent-reannounce") == {}


async def test_limits_have_a_number_and_a_switch(
    node: Node, rpc: Rpc, autojump_clock: MockClock
) -> None:
    torrent = await node.get(HASH)

    async def limit() -> tuple[int, bool]:
        [told] = await rpc.torrents("downloadLimit", "downloadLimited")
        return told["downloadLimit"], told["downloadLimited"]

    assert await limit() == (100, False)
    await rpc("torrent-set", ids=1, downloadLimit=70)
    assert await limit() == (70, False)
    await rpc("torrent-set", ids=1, downloadLimited=True)
    assert await limit() == (70, True)
    assert torrent.summary().limit_down == 70_000
    await rpc("torrent-set", ids=1, downloadLimit=80)
    assert torrent.summary().limit_down == 80_000
    await rpc("torrent-set", ids=1, downloadLimited=False)
    assert await limit() == (80, False)
    assert torrent.summary().limit_down is None
    assert torrent.summary().limit_up is None


async def test_seeding_limits_are_the_nodes_its_own_or_none(
    node: Node, rpc: Rpc, autojump_clock: MockClock
) -> None:
    torrent = await node.get(HASH)
    await rpc("torrent-set", ids=1, seedRatioLimit=1.5, seedRatioMode=1, seedIdleLimit=20)
    assert torrent.seeding_limits == SeedingLimits(1.5, "node")
    await rpc("torrent-set", ids=1, seedIdleMode=1)
    assert torrent.seeding_limits == SeedingLimits(1.5, 1200.0)
    await rpc("torrent-set", ids=1, seedRatioMode=2, seedIdleMode=0)
    assert torrent.seeding_limits == SeedingLimits("none", "node")
    [told] = await rpc.torrents("seedRatioLimit", "seedRatioMode", "seedIdleLimit", "seedIdleMode")
    assert told == {
        "seedRatioLimit": 1.5,
        "seedRatioMode": 2,
        "seedIdleLimit": 20,
        "seedIdleMode": 0,
    }
    await rpc("torrent-set", ids=1, seedRatioMode=1)
    assert torrent.seeding_limits == SeedingLimits(1.5, "node")
    assert await rpc("torrent-set", ids=1, seedRatioMode=3) == "seed_ratio_mode is 0, 1 or 2"


async def test_files_are_wanted_and_important(
    node: Node, rpc: Rpc, autojump_clock: MockClock
) -> None:
    await node.get(four_files().metainfo)

    async def files() -> tuple[list[int], list[int]]:
        [told] = await rpc.torrents("wanted", "priorities")
        return told["wanted"], told["priorities"]

    await rpc("torrent-set", ids=1, **{"files-unwanted": [0, 3], "priority-high": [1]})
    assert await files() == ([0, 1, 1, 0], [0, 1, 0, 0])
    await rpc("torrent-set", ids=1, **{"files-wanted": [], "priority-low": []})
    assert await files() == ([1, 1, 1, 1], [-1, -1, -1, -1])
    await rpc("torrent-set", ids=1, **{"priority-normal": [2]})
    assert await files() == ([1, 1, 1, 1], [-1, -1, 0, -1])
    error = await rpc("torrent-set", ids=1, **{"files-wanted": [4]})
    assert error == "file index out of range"
    assert (await Rpc(rpc.client, legacy=False).torrents("wanted"))[0]["wanted"] == [True] * 4


async def test_the_queue_is_moved_as_transmission_moves_it(
    node: Node, rpc: Rpc, autojump_clock: MockClock
) -> None:
    for number in range(5):
        await rpc("torrent-add", filename=f"{number:040x}")

    async def order() -> list[int]:
        told = await rpc.torrents("id", "queuePosition")
        return [one["id"] for one in sorted(told, key=lambda one: one["queuePosition"])]

    await rpc("queue-move-top", ids=[3, 4])
    assert await order() == [3, 4, 1, 2, 5]
    await rpc("queue-move-bottom", ids=[3, 1])
    assert await order() == [4, 2, 5, 3, 1]
    await rpc("queue-move-up", ids=[5, 3])
    assert await order() == [4, 5, 3, 2, 1]
    await rpc("queue-move-down", ids=[4, 5])
    assert await order() == [3, 4, 5, 2, 1]
    await rpc("torrent-set", ids=1, queuePosition=0)
    assert await order() == [1, 3, 4, 5, 2]


async def test_the_session_is_set_and_what_cannot_be_is_refused_whole(
    node: Node, rpc: Rpc, tmp_path: Path, autojump_clock: MockClock
) -> None:
    await rpc(
        "session-set",
        **{
            "speed-limit-down": 500,
            "speed-limit-down-enabled": True,
            "speed-limit-up": 30.0,
            "seedRatioLimit": 3,
            "seedRatioLimited": True,
            "idle-seeding-limit": 10,
            "idle-seeding-limit-enabled": True,
            "download-queue-size": 2,
            "download-queue-enabled": True,
            "download-dir": str(tmp_path / "new"),
            "start-added-torrents": False,
            "a-setting-of-the-future": 1,
        },
    )
    assert node.status().limit_down == 500_000
    rules = node.rules
    assert (rules.seed_ratio, rules.seed_idle, rules.active_downloads) == (3.0, 600.0, 2)
    await rpc("session-set", **{"speed-limit-up-enabled": True, "seedRatioLimited": False})
    assert node.status().limit_up == 30_000
    told = await rpc("session-get")
    assert (told["seedRatioLimit"], told["seedRatioLimited"]) == (3, False)
    assert (told["idle-seeding-limit"], told["download-queue-size"]) == (10, 2)
    await rpc("torrent-add", filename=HASH)
    assert node.find(HASH).paused
    assert node.find(HASH).folder == tmp_path / "new"
    for refused in (
        {"version": "5"},
        {"script-torrent-done-filename": "/bin/sh"},
        {"download-dir": "/etc"},
        {"seedRatioLimit": -1},
    ):
        error = await rpc("session-set", **{"speed-limit-down": 9, **refused})
        assert isinstance(error, str), refused
    assert node.limits == (30_000, 500_000)


async def test_the_alternative_limits_are_set_as_clients_know_them(
    node: Node, rpc: Rpc, autojump_clock: MockClock
) -> None:
    told = await rpc("session-get")
    assert {key: told[key] for key in sorted(told) if key.startswith("alt-")} == {
        "alt-speed-down": 50,
        "alt-speed-enabled": False,
        "alt-speed-time-begin": 540,
        "alt-speed-time-day": 127,
        "alt-speed-time-enabled": False,
        "alt-speed-time-end": 1020,
        "alt-speed-up": 50,
    }
    wanted = {"alt-speed-up": 20, "alt-speed-down": 30, "alt-speed-enabled": True}
    assert await rpc("session-set", **wanted) == {}
    assert (node.status().limit_up, node.status().limit_down) == (20_000, 30_000)
    times = {"alt-speed-time-begin": 60, "alt-speed-time-end": 0, "alt-speed-time-day": 62}
    assert await rpc("session-set", **times) == {}
    assert node.speed.alternative == AlternativeLimits(
        20_000, 30_000, on=True, hours=WeeklyHours(60, 0, 62)
    )
    told = await rpc("session-get")
    assert told.items() >= {**wanted, **times}.items()
    for wrong in (
        {"alt-speed-time-begin": 1440},
        {"alt-speed-time-day": 128},
        {"alt-speed-up": "x"},
    ):
        assert isinstance(
            await rpc("session-set", **{"alt-speed-down": 99, "speed-limit-up": 99, **wrong}), str
        )
    assert node.speed.alternative.down == 30_000
    assert await rpc("session-set", **{"alt-speed-enabled": False}) == {}
    assert node.status().limit_up is None


async def test_all_methods_are_known(node: Node, rpc: Rpc, autojump_clock: MockClock) -> None:
    stats = await rpc("session-stats")
    assert (stats["torrentCount"], stats["activeTorrentCount"]) == (0, 0)
    assert stats["current-stats"]["uploadedBytes"] == 0
    assert await rpc("group-get") == {"group": []}
    assert await rpc("port-test") == {"port-is-open": False}
    assert "--ip-filter" in await rpc("blocklist-update")
    assert "no groups" in await rpc("group-set", name="x")
    assert "no trackers" in await _set_tracker(node, rpc)
    assert await rpc("no-such-method") == "no method name"
    assert await Rpc(rpc.client, legacy=False)("no-such-method") == "Method not found"
    before = len(STOPPED)
    assert await rpc("session-close") == {}
    assert STOPPED[before:] == [node]


async def _set_tracker(node: Node, rpc: Rpc) -> Any:
    torrent: Torrent = await node.get(HASH)
    assert torrent.id == HASH
    return await rpc("torrent-set", ids=1, trackerAdd=["udp://x"])


async def test_one_failure_does_not_keep_the_others_from_it(
    node: Node, rpc: Rpc, autojump_clock: MockClock
) -> None:
    await node.get(HASH)
    await node.get(four_files().metainfo)
    error = await rpc("torrent-set", **{"files-unwanted": [0]})
    assert error == "the files of this torrent are not known yet"
    error = await rpc("torrent-set", labels=["x" * 300])
    assert error.startswith("a label has")


async def test_content_is_moved_and_renamed_below_the_folders_that_are_allowed(
    world: World, tmp_path: Path, autojump_clock: MockClock
) -> None:
    def in_files(metainfo: Metainfo, path: Path, shared: bool) -> Storage:
        return FileStorage(path, metainfo, DiskConfig(inline=True))

    got, other = tmp_path / "got", tmp_path / "other"
    one = four_files()
    async with (
        world.node(LEECH, download_dir=got, open_storage=in_files) as node,
        web_client(node) as client,
    ):
        rpc, new = Rpc(client), Rpc(client, legacy=False)
        make_file_of(got / "album", one)
        torrent = await node.get(one.metainfo)
        await torrent.completed()

        async def paths() -> list[str]:
            [row] = await rpc.torrents("files")
            return [file["name"] for file in row["files"]]

        renamed = await rpc("torrent-rename-path", ids=[1], path="album/1", name="one")
        assert renamed == {"path": "album/1", "name": "one", "id": 1}
        renamed = await new("torrent_rename_path", ids=1, path="album", name="Mine")
        assert renamed == {"path": "album", "name": "Mine", "id": 1}
        assert await paths() == ["Mine/0", "Mine/one", "Mine/2", "Mine/3"]
        assert (got / "Mine" / "one").exists()
        for wrong in ("..", "a/b", "0"):
            assert isinstance(
                await rpc("torrent-rename-path", ids=1, path="Mine/2", name=wrong), str
            )
        await node.get(HASH)
        error = await rpc("torrent-rename-path", path="Mine/2", name="y")
        assert error == "torrent-rename-path requires 1 torrent"
        await node.remove(node.find(HASH))
        assert await rpc("torrent-rename-path", ids=1, name="y") == "path and name are missing"

        moved = await rpc("torrent-set-location", ids=[1], location=str(got / "new"), move=True)
        assert moved == {}
        await torrent.completed()
        [row] = await rpc.torrents("downloadDir", "name", "error", "status")
        assert row["downloadDir"] == str(got / "new")
        assert (row["name"], row["error"]) == ("Mine", 0)
        assert (got / "new" / "Mine" / "one").exists()
        (got / "Mine").mkdir()
        for move in (True, False):
            error = await rpc("torrent-set-location", ids=1, location=str(other), move=move)
            assert error.startswith("not below a folder that clients may use")
            error = await rpc("torrent-set-location", ids=1, location="new", move=move)
            assert error == "new location path is not absolute"
        error = await rpc("torrent-set-location", ids=1, location=str(got), move=True)
        assert error.endswith("something is there already")

        (got / "new" / "Mine").rename(got / "by hand")
        (got / "found").mkdir()
        (got / "by hand").rename(got / "found" / "Mine")
        assert await new("torrent_set_location", ids=[1], location=str(got / "found")) == {}
        await torrent.completed()
        assert torrent.folder == got / "found"

        await torrent.move(other)  # by its user
        error = await rpc("torrent-set-location", ids=1, location=str(got), move=True)
        assert error.startswith("not below a folder that clients may use")
        error = await rpc("torrent-rename-path", ids=1, path="Mine", name="Yours")
        assert error.startswith("not below a folder that clients may use")
        assert torrent.path == other / "Mine"


def make_file_of(root: Path, one: Sample) -> None:
    for file in one.metainfo.files:
        path = root.joinpath(*file.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(one.data[file.offset : file.offset + file.length])


async def test_what_went_wrong_with_a_move_is_told_as_a_warning(
    node: Node, rpc: Rpc, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, autojump_clock: MockClock
) -> None:
    torrent = await node.get(four_files().metainfo)
    assert "cannot be moved" in await rpc(
        "torrent-set-location", ids=1, location=str(tmp_path / "new"), move=True
    )
    torrent._core.place.trouble = "not moved: the disk is full"
    [row] = await rpc.torrents("error", "errorString", "status")
    assert (row["error"], row["errorString"]) == (1, "not moved: the disk is full")
