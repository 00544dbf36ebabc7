"""A torrent that is here is given once more: what is new takes effect, or is refused in words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dht_torrent import Node
from dht_torrent.config import DiskConfig
from dht_torrent.engine.torrent.content import Content
from dht_torrent.engine.torrent.stages import Active
from dht_torrent.engine.torrent.torrent import Torrent, behind
from dht_torrent.errors import InputError, MetainfoError, StorageError
from dht_torrent.ids import HostPort
from dht_torrent.metainfo import Metainfo
from dht_torrent.storage import FileStorage, Storage
from tests.helpers.content import read_tree
from tests.helpers.engine import (
    HAND,
    KIB,
    LEECH,
    PORT,
    HandSeed,
    Sample,
    World,
    entered,
    listening,
    sample,
)
from tests.helpers.storages import hashed

FOUR = 4 * 64 * KIB


def album() -> Sample:
    """Four files of two pieces each."""
    data = sample(FOUR).data
    return Sample(data, 32 * KIB, hashed(data, [64 * KIB] * 4, 32 * KIB).info)


@dataclass
class Case:
    """A node, one of its torrents, and a peer that has all of it."""

    node: Node
    torrent: Torrent
    one: Sample
    folder: Path
    seed: HandSeed
    peer: str = f"{HAND}:{PORT}"
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def link(self) -> str:
        return f"{self.one.magnet()}&x.pe={self.peer}"

    async def again(self, source: Any = None, **options: Any) -> None:
        assert await self.node.get(self.link if source is None else source, **options) is (
            self.torrent
        )

    async def completes(self) -> None:
        with trio.fail_after(200):
            await self.torrent.completed()


async def to_metadata(case: Case) -> None:
    await entered(case.torrent, "metadata")


async def to_paused(case: Case) -> None:
    await case.torrent.pause()
    await entered(case.torrent, "paused")


async def to_downloading(case: Case) -> None:
    case.seed.pause = 0.5
    await case.again()
    await entered(case.torrent, "downloading")
    while not case.torrent.progress:
        await trio.sleep(0.1)


async def to_stalled(case: Case) -> None:
    """Downloading, and nothing has come yet."""
    await case.again(case.one.metainfo)
    await entered(case.torrent, "downloading")


async def to_seeding(case: Case) -> None:
    await case.again()
    await case.completes()


async def to_a_part(case: Case) -> None:
    await case.again(case.link + "&so=0")
    await case.completes()


async def to_error(case: Case) -> None:
    (case.folder / "got" / "album").mkdir(parents=True)
    (case.folder / "got" / "album" / "1").write_bytes(b"mine")
    await case.again(case.one.metainfo)
    await entered(case.torrent, "error")


async def to_wrong_selection(case: Case) -> None:
    case.torrent.add_peers([HostPort(HAND, PORT)])  # `get` would select anew
    await entered(case.torrent, "error")
    assert "there is no file 99" in str(case.torrent.error)


async def to_shared(case: Case) -> None:
    await case.torrent.remove()
    lay_out(case, case.folder / "mine" / "album")
    case.torrent = await case.node.share(case.folder / "mine" / "album", piece_length=32 * KIB)
    await entered(case.torrent, "seeding")


def lay_out(case: Case, folder: Path) -> Path:
    folder.mkdir(parents=True)
    for number in range(4):
        part = case.one.data[number * 64 * KIB : (number + 1) * 64 * KIB]
        (folder / str(number)).write_bytes(part)
    return folder


# -- what is given, and what must come of it -------------------------------------------------------


async def metadata_then_peer(case: Case) -> None:
    await case.again(case.one.metainfo)
    await entered(case.torrent, "downloading", 5)
    await case.again()
    await case.completes()


async def a_torrent_file(case: Case) -> None:
    file = case.folder / "a.torrent"
    file.write_bytes(case.one.metainfo.to_torrent())
    await case.again(file)
    await case.again()
    await case.completes()


async def a_peer(case: Case) -> None:
    await case.again()
    await case.completes()


async def a_name_and_a_tracker(case: Case) -> None:
    await case.again(case.one.magnet() + "&dn=film&tr=http%3A%2F%2Ft.example%2F")
    assert "dn=" in case.torrent.summary().magnet
    assert "t.example" in case.torrent.summary().magnet


async def another_folder(case: Case) -> None:
    elsewhere = case.folder / "elsewhere"
    await case.again(output=elsewhere)
    await case.completes()
    assert b"".join(read_tree(elsewhere).values()) == case.one.data
    assert case.torrent.path == elsewhere / "album"
    left = read_tree(case.folder / "got") if (case.folder / "got").exists() else {}
    assert set(left.values()) <= {b"mine"}


async def another_folder_is_refused(case: Case) -> None:
    with pytest.raises(InputError, match="is here already, at"):
        await case.again(output=case.folder / "elsewhere")
    assert not (case.folder / "elsewhere").exists()


async def the_same_folder(case: Case) -> None:
    path = case.torrent.path
    assert path is not None
    await case.again(output=path.parent / ".." / path.parent.name)
    await case.completes()
    assert case.torrent.path == path


async def a_selection(case: Case) -> None:
    await case.again(select=[(2, 2)])
    await case.completes()
    assert [file.selected for file in case.torrent.files()] == case.more["selected"]


async def a_wrong_selection_is_refused(case: Case) -> None:
    before, selected = case.torrent.state, case.torrent.select
    with pytest.raises(MetainfoError, match="there is no file 99"):
        await case.again(select=[(99, 99)])
    assert (case.torrent.state, case.torrent.select) == (before, selected)


async def an_order(case: Case) -> None:
    await case.again(sequential=True)
    assert case.torrent.sequential
    stage = behind(case.torrent).core.stage
    if isinstance(stage, Active):
        assert stage.swarm.picker.sequential
    case.seed.pause = 0.0
    await case.completes()


async def a_pause(case: Case) -> None:
    await case.again(paused=True)
    await entered(case.torrent, "paused", 5)
    await trio.sleep(100)
    assert case.torrent.state == "paused"
    await case.again()
    await case.completes()


async def nothing_new(case: Case) -> None:
    await case.again()
    await case.completes()


async def nothing_new_where_somebody_is_in_the_way(case: Case) -> None:
    await case.again()
    with pytest.raises(StorageError, match="something else"):
        await case.completes()


async def to_overwrite(case: Case) -> None:
    await case.again(overwrite=True)
    await case.completes()
    assert b"".join(read_tree(case.folder / "got").values()) == case.one.data


async def to_overwrite_is_refused(case: Case) -> None:
    with pytest.raises(InputError, match="never written to"):
        await case.again(overwrite=True)
    assert case.torrent.state == "seeding"


async def its_content_elsewhere(case: Case) -> None:
    """`share PATH` of what it is."""
    path = lay_out(case, case.folder / "mine" / "album")
    before = case.torrent.downloaded
    assert await case.node.share(path, piece_length=32 * KIB) is case.torrent
    await case.completes()
    await entered(case.torrent, "seeding", 5)
    assert case.torrent.path == path
    assert case.torrent.downloaded - before < FOUR
    removal = await case.torrent.remove(delete_data=True)
    assert removal.deleted == 0
    assert b"".join(read_tree(path).values()) == case.one.data


async def its_content_elsewhere_is_refused(case: Case) -> None:
    path = lay_out(case, case.folder / "again" / "album")
    before = case.torrent.path
    with pytest.raises(InputError, match="is here already, at"):
        await case.node.share(path, piece_length=32 * KIB)
    assert case.torrent.path == before
    assert case.torrent.state == "seeding"


async def its_content_where_it_is(case: Case) -> None:
    path = case.torrent.path
    assert path is not None
    assert await case.node.share(path, piece_length=32 * KIB) is case.torrent
    await case.completes()
    await entered(case.torrent, "seeding", 5)


async def what_is_being_written_is_refused(case: Case) -> None:
    path = case.torrent.path
    assert path is not None
    for shared in (path, path.parent):
        with pytest.raises(InputError, match="is being downloaded, as album"):
            await case.node.share(shared, piece_length=16 * KIB)


Act = Callable[[Case], Awaitable[None]]
ALL = [True] * 4
TABLE: list[tuple[Act, Act, dict[str, Any]]] = [
    (to_metadata, metadata_then_peer, {}),
    (to_metadata, a_torrent_file, {}),
    (to_metadata, a_peer, {}),
    (to_metadata, a_name_and_a_tracker, {}),
    (to_metadata, another_folder, {}),
    (to_metadata, a_selection, {"magnet": "&so=0", "selected": [True, False, True, False]}),
    (to_metadata, a_selection, {"selected": ALL}),  # all was wanted: one can only add
    (to_metadata, an_order, {}),
    (to_metadata, a_pause, {}),
    (to_metadata, nothing_new, {}),
    (to_metadata, to_overwrite, {}),
    (to_metadata, its_content_elsewhere, {}),
    (to_paused, metadata_then_peer, {}),
    (to_paused, a_peer, {}),
    (to_paused, another_folder, {}),
    (to_paused, a_pause, {}),
    (to_paused, its_content_elsewhere, {}),
    (to_stalled, a_peer, {}),
    (to_stalled, a_name_and_a_tracker, {}),
    (to_stalled, another_folder, {}),
    (to_stalled, the_same_folder, {}),
    (to_stalled, a_wrong_selection_is_refused, {}),
    (to_stalled, an_order, {}),
    (to_stalled, a_pause, {}),
    (to_stalled, its_content_elsewhere, {}),
    (to_downloading, another_folder_is_refused, {}),
    (to_downloading, the_same_folder, {}),
    (to_downloading, a_wrong_selection_is_refused, {}),
    (to_downloading, an_order, {}),
    (to_downloading, a_pause, {}),
    (to_downloading, to_overwrite, {}),
    (to_downloading, its_content_elsewhere, {}),
    (to_downloading, what_is_being_written_is_refused, {}),
    (to_a_part, a_selection, {"magnet": "&so=0", "selected": [True, False, True, False]}),
    (to_a_part, a_wrong_selection_is_refused, {"magnet": "&so=0"}),
    (to_a_part, nothing_new, {"magnet": "&so=0"}),
    (to_seeding, another_folder_is_refused, {}),
    (to_seeding, the_same_folder, {}),
    (to_seeding, a_wrong_selection_is_refused, {}),
    (to_seeding, a_name_and_a_tracker, {}),
    (to_seeding, a_pause, {}),
    (to_seeding, nothing_new, {}),
    (to_seeding, its_content_elsewhere_is_refused, {}),
    (to_seeding, its_content_where_it_is, {}),
    (to_error, another_folder, {}),
    (to_error, nothing_new_where_somebody_is_in_the_way, {}),
    (to_error, to_overwrite, {}),
    (to_error, a_wrong_selection_is_refused, {}),
    (to_error, its_content_elsewhere, {}),
    (
        to_wrong_selection,
        a_selection,
        {"magnet": "&so=99", "selected": [False, False, True, False]},
    ),
    (to_wrong_selection, nothing_new, {"magnet": "&so=99"}),
    (to_wrong_selection, a_wrong_selection_is_refused, {"magnet": "&so=99"}),
    (to_wrong_selection, its_content_elsewhere, {"magnet": "&so=99"}),
    (to_shared, another_folder_is_refused, {}),
    (to_shared, the_same_folder, {}),
    (to_shared, a_wrong_selection_is_refused, {}),
    (to_shared, a_pause, {}),
    (to_shared, nothing_new, {}),
    (to_shared, to_overwrite_is_refused, {}),
    (to_shared, its_content_elsewhere_is_refused, {}),
    (to_shared, its_content_where_it_is, {}),
]


@pytest.mark.parametrize(
    ("stage", "given", "more"),
    TABLE,
    ids=[f"{stage.__name__[3:]}-{given.__name__}" for stage, given, _ in TABLE],
)
async def test_what_is_new_takes_effect_or_is_refused_in_words(
    stage: Act, given: Act, more: dict[str, Any], tmp_path: Path, autojump_clock: MockClock
) -> None:
    def in_files(metainfo: Metainfo, path: Path, shared: bool) -> Storage:
        config = DiskConfig(inline=True)
        if shared:
            return FileStorage(path.parent, metainfo, config, content=path, writable=False)
        return FileStorage(path, metainfo, config)

    world, one = World(), album()
    seed = HandSeed(one)
    options: dict[str, Any] = {"download_dir": tmp_path / "got", "state_dir": tmp_path / "state"}
    async with (
        listening(world, HAND, seed),
        world.node(LEECH, open_storage=in_files, **options) as node,
    ):
        torrent = await node.get(one.magnet() + more.get("magnet", ""))
        case = Case(node, torrent, one, tmp_path, seed, more=more)
        await stage(case)
        await given(case)
        known, path, select = case.torrent.id, case.torrent.path, case.torrent.select
        there = case.torrent in node.torrents.values()
    if not there:
        return
    async with world.node(LEECH, open_storage=in_files, **options) as node:
        torrent = node.find(known)  # and is remembered
        assert (torrent.path, torrent.select) == (path, select)


async def test_a_caller_that_waits_for_a_torrent_hears_that_it_was_removed(
    autojump_clock: MockClock,
) -> None:
    async with World().node(LEECH) as node:
        torrent = await node.get(sample().magnet())
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                with pytest.raises(StorageError, match="was removed before it was complete"):
                    await torrent.completed()

            nursery.start_soon(wait)
            await trio.sleep(1)
            await torrent.remove()


async def test_a_move_asked_for_while_another_is_made_is_made_too(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was forgotten once, and its caller waited for ever."""
    close = Content.close

    async def slowly(content: Content) -> None:
        await trio.sleep(1)
        await close(content)

    monkeypatch.setattr(Content, "close", slowly)
    film = sample().metainfo
    async with World().node(LEECH) as node:
        torrent = await node.get(film, output="/first")
        await entered(torrent, "downloading")
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(node.get, film, output="/second"))
                await trio.sleep(0.5)
                nursery.start_soon(partial(node.get, film, output="/third"))
        await entered(torrent, "downloading")
        assert torrent.path == Path("/third/film.bin")
