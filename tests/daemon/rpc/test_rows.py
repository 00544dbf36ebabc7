"""A row that was kept is what it would be if it were made now, whatever happened meanwhile."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import hypothesis
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from dht_torrent import Node, Torrent
from dht_torrent.config import DiskConfig
from dht_torrent.config.seeding import SeedingLimits
from dht_torrent.daemon.rpc import rows
from dht_torrent.daemon.rpc.calls import dump
from dht_torrent.daemon.rpc.names import Names
from dht_torrent.daemon.rpc.rows import MAX_PLANS, Plan, Rows
from dht_torrent.daemon.rpc.settings import Settings
from dht_torrent.daemon.rpc.torrent_fields import FIELDS
from dht_torrent.daemon.rpc.torrent_methods import of_torrents, torrent_get, torrent_set
from dht_torrent.engine.torrent.stages import Checking
from dht_torrent.engine.torrent.torrent import behind
from dht_torrent.errors import DhtTorrentError
from dht_torrent.ids import HostPort
from dht_torrent.metainfo import Metainfo
from dht_torrent.storage import FileStorage, Storage
from tests.helpers.engine import KIB, LEECH, PORT, SEED, Sample, World, sample
from tests.helpers.storages import hashed

LEGACY, SNAKE = of_torrents(Names(legacy=True)), of_torrents(Names(legacy=False))
FEW: Final = ("name", "rate_download", "labels", "seconds_seeding", "status")
QUESTIONS: Final = (
    (FIELDS, LEGACY, True),
    (FIELDS, SNAKE, False),
    (FEW, LEGACY, False),
    (FEW, SNAKE, True),
)


def four_files() -> Sample:
    data = bytes(range(256)) * 1024
    return Sample(data, 32 * KIB, hashed(data, [64 * KIB] * 4, 32 * KIB).info)


@dataclass
class Scene:
    """A node with torrents of three kinds: here already, fetched, and known by its hash only."""

    node: Node
    settings: Settings
    folder: Path
    album: Torrent
    film: Torrent
    link: Torrent
    late: Metainfo
    """Of a torrent that is not here by more than its hash."""
    count: int = 0

    def fresh(self) -> int:
        self.count += 1
        return self.count

    async def set(self, torrent: Torrent, **params: Any) -> None:
        await torrent_set(self.settings, {"ids": [torrent.id], **params}, LEGACY)

    def check(self) -> None:
        """Ask for everything, in each way: of what was kept, and of one who has kept nothing."""
        torrents = self.node.torrents
        self.settings.begin()
        positions = self.node.queue_positions()
        for fields, names, as_objects in QUESTIONS:
            plan = self.settings.rows.plan(fields, names, as_objects=as_objects)
            fresh = Rows(torrents, trio.current_time, self.node.config.max_connections)
            for info_hash, torrent in torrents.items():
                kept = self.settings.look(info_hash, torrent)
                told, _ = self.settings.row(plan, kept)
                new = fresh.look(torrent, kept.look.own, self.settings.ids.of(info_hash))
                made = fresh.row(plan, new, positions[info_hash] if plan.needs_position else 0)
                assert told == made[0]
                assert not made[1]


async def wait(scene: Scene) -> None:
    await trio.sleep(7)


async def little(scene: Scene) -> None:
    await trio.sleep(0.3)


async def lose(scene: Scene) -> None:
    """A file is changed by somebody else, and looked at again."""
    for path in scene.folder.glob("got/album/1"):
        path.write_bytes(bytes([scene.fresh() % 256]) * 64 * KIB)
        await scene.album.recheck()


async def fail(scene: Scene) -> None:
    for path in scene.folder.glob("got/album/2"):
        path.unlink()
        await behind(scene.album).core.look()


async def trouble(scene: Scene) -> None:
    behind(scene.film).core.place.trouble = f"trouble {scene.fresh()}"


async def again(scene: Scene) -> None:
    """It is removed, and given once more."""
    await scene.link.remove()
    scene.link = await scene.node.get(f"{1:040x}", paused=True)


async def meet(scene: Scene) -> None:
    scene.film.add_peers([HostPort(SEED, PORT)])


async def part(scene: Scene) -> None:
    await scene.film.pause()
    await scene.film.resume()


async def metadata(scene: Scene) -> None:
    """Of what was known by its hash only."""
    await scene.node.get(scene.late)


async def hint(scene: Scene) -> None:
    """The link that others fetch it by has one more peer."""
    link = f"magnet:?xt=urn:btih:{scene.film.id}&x.pe=10.0.0.9:{1000 + scene.fresh()}"
    await scene.node.get(link)


def limit(**params: Any) -> Callable[[Scene], Awaitable[object]]:
    return lambda scene: scene.set(scene.film, **params)


ACTIONS: Final[dict[str, Callable[[Scene], Awaitable[object]]]] = {
    "time passes": wait,
    "little time passes": little,
    "labels": lambda scene: scene.album.set_labels([f"label {scene.fresh()}"]),
    "a limit": limit(download_limit=70, download_limited=True),
    "another limit": limit(download_limit=9, download_limited=True),
    "no limit": limit(download_limited=False),
    "a limit of sending": limit(upload_limit=50, upload_limited=True),
    "the number of a limit": lambda scene: scene.set(scene.link, upload_limit=scene.fresh()),
    "seeding limits": lambda scene: scene.album.set_seeding_limits(SeedingLimits(2.5, "none")),
    "the number of a ratio": lambda scene: scene.set(scene.link, seed_ratio_limit=scene.fresh()),
    "important files": lambda scene: scene.album.set_files(None, {1: 1}),
    "fewer files": lambda scene: scene.album.set_files([(0, 1)], {1: 1}),
    "all files": lambda scene: scene.album.set_files(None, {}),
    "in order": limit(sequential_download=True),
    "peers": meet,
    "no peers": part,
    "the queue": lambda scene: scene.node.move_in_queue(scene.link, scene.fresh() % 3),
    "trouble": trouble,
    "hint": hint,
    "pause": lambda scene: scene.album.pause(),
    "resume": lambda scene: scene.album.resume(),
    "rename": lambda scene: scene.album.rename(f"{scene.album.name}/0", f"name {scene.fresh()}"),
    "rename all": lambda scene: scene.album.rename(scene.album.name, f"root {scene.fresh()}"),
    "move": lambda scene: scene.album.move(scene.folder / f"moved {scene.fresh()}"),
    "super-seed": lambda scene: scene.album.set_super_seed(True),
    "enough": lambda scene: scene.album.set_seeding_limits(SeedingLimits("node", 0.0)),
    "recheck": lambda scene: scene.album.recheck(),
    "metadata": metadata,
    "lose": lose,
    "fail": fail,
    "again": again,
}


async def play(folder: Path, actions: list[str]) -> None:
    def in_files(metainfo: Metainfo, path: Path, shared: bool) -> Storage:
        return FileStorage(path, metainfo, DiskConfig(inline=True))

    world, film, album, late = World(), sample(), four_files(), sample(seed=2)
    for file in album.metainfo.files:
        path = folder.joinpath("got", "album", *file.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(album.data[file.offset : file.offset + file.length])
    async with (
        world.seed(film),
        world.node(LEECH, download_dir=folder / "got", open_storage=in_files) as node,
    ):
        scene = Scene(
            node,
            Settings(node, [folder], folder, lambda: None, trio.current_time),
            folder,
            await node.get(album.metainfo),
            await node.get(film.metainfo),
            await node.get(f"{1:040x}"),
            late.metainfo,
        )
        await node.get(late.metainfo.info_hash.hex())
        scene.check()
        for action in actions:
            try:
                with trio.move_on_after(20):
                    await ACTIONS[action](scene)
            except DhtTorrentError:
                pass  # it cannot be done now: that must not show either
            scene.check()
            await trio.lowlevel.checkpoint()
            scene.check()


def run(actions: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        trio.run(play, Path(folder), actions, clock=MockClock(autojump_threshold=0))


@hypothesis.settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(sorted(ACTIONS)), max_size=15))
def test_a_kept_row_is_what_it_would_be_if_it_were_made_now(actions: list[str]) -> None:
    run(actions)


def test_the_same_holds_after_each_single_thing_that_can_happen() -> None:
    run([*itertools.chain.from_iterable((one, "time passes") for one in ACTIONS)])
    run(["enough", "time passes", "rename", "lose", "time passes", "resume", "fail", "again"])


async def two_torrents(node: Node) -> Settings:
    for number in range(2):
        await node.get(f"{number:040x}", paused=True)
    await trio.sleep(1)
    return Settings(node, [], Path("/state"), lambda: None, trio.current_time)


async def test_of_a_torrent_at_rest_nothing_is_made_anew(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async with World().node(LEECH) as node:
        settings = await two_torrents(node)
        ask = {"fields": list(FIELDS)}
        first = dump(await torrent_get(settings, ask, LEGACY))

        def anew(*_: object) -> list[str]:
            raise AssertionError

        monkeypatch.setattr(Plan, "make", anew)
        monkeypatch.setattr(Plan, "renew", anew)
        assert dump(await torrent_get(settings, ask, LEGACY)) == first


async def test_what_is_kept_is_bounded(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async with World().node(LEECH) as node:
        settings = await two_torrents(node)
        told = json.loads(dump(await torrent_get(settings, {"fields": list(FIELDS)}, SNAKE)))
        one = settings.rows.size // 2
        for most, longest in ((3 * one, one), (one + one // 2, 2 * one), (10 * one, one // 2)):
            monkeypatch.setattr(rows, "MAX_KEPT", most)
            monkeypatch.setattr(rows, "MAX_ROW", longest)
            for number in range(3 * MAX_PLANS):
                fields = [*FIELDS[number:], *FIELDS[:number]]
                row = json.loads(dump(await torrent_get(settings, {"fields": fields}, SNAKE)))
                assert row == told
                assert settings.rows.size <= most


async def test_what_is_worked_at_is_recently_active_though_nothing_shows(
    autojump_clock: MockClock,
) -> None:
    async with World().node(LEECH) as node:
        torrent = await node.get(four_files().metainfo)
        settings = Settings(node, [], Path("/state"), lambda: None, trio.current_time)

        async def count() -> int:
            ask = {"fields": ["id"], "ids": "recently-active"}
            return len(json.loads(dump(await torrent_get(settings, ask, LEGACY)))["torrents"])

        await trio.sleep(1)
        assert await count() == 1
        await trio.sleep(61)
        assert await count() == 0
        core = behind(torrent).core
        core.enter(Checking(core.extensions))
        assert await count() == 1
        await trio.sleep(61)
        assert await count() == 1
