"""A state directory that is full or read-only: what was asked is done and the loss is told; it is
tried again; and what is to be removed is removed, or stays.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from dht_torrent import Node, StorageError, open_node
from dht_torrent.cli.view import warn
from dht_torrent.config import TorrentConfig
from dht_torrent.daemon.lines import plain
from dht_torrent.engine import state
from dht_torrent.storage.making import make
from tests.helpers.nodes import local_config

MAGNET = "magnet:?xt=urn:btih:" + "a" * 40
SOON = TorrentConfig(resume_interval=0.05)


class Trouble:
    """What the state directory answers from now on: an errno, or None for nothing unusual."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.failed = 0

    def meet(self, path: Path) -> None:
        if self.number is not None:
            self.failed += 1
            raise OSError(self.number, os.strerror(self.number), str(path))


@pytest.fixture
def trouble(monkeypatch: pytest.MonkeyPatch) -> Iterator[Trouble]:
    trouble = Trouble()
    write, unlink = state._write, Path.unlink

    def failing_write(path: Path, *args: Any) -> None:
        trouble.meet(path)
        write(path, *args)

    def failing_unlink(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".resume" and trouble.number == errno.EROFS:
            trouble.meet(path)
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(state, "_write", failing_write)
    monkeypatch.setattr(Path, "unlink", failing_unlink)
    yield trouble
    trouble.number = None


def records(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "torrents").glob("*.resume"))


async def add(node: Node, how: str, folder: Path) -> Any:
    if how == "get":
        return await node.get(MAGNET)
    if how == "paused":
        return await node.get(MAGNET, paused=True)
    (folder / "film.bin").write_bytes(b"x" * 1000)
    return await node.share(folder / "film.bin")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("how", ["get", "paused", "share"])
async def test_the_loss_is_told_tried_again_and_over(
    tmp_path: Path, trouble: Trouble, how: str, number: int
) -> None:
    config = local_config(tmp_path / "node", state_dir=tmp_path / "state", torrent=SOON)
    async with open_node(config) as node:
        trouble.number = number
        torrent = await add(node, how, tmp_path)
        told = torrent.summary().warning
        assert told is not None
        assert "would be lost at a restart" in told
        assert os.strerror(number) in told
        assert plain(torrent.summary())["warning"] == told  # type: ignore[index]
        (warning,) = node.status().warnings
        assert torrent.name in warning
        assert os.strerror(number) in warning
        failed = trouble.failed
        with trio.fail_after(20):
            while trouble.failed < failed + 2:
                await trio.sleep(0.02)
        trouble.number = None
        with trio.fail_after(20):
            while torrent.warning is not None:
                await trio.sleep(0.02)
        assert node.status().warnings == ()
        assert records(tmp_path / "state") == [f"{torrent.id}.resume"]
    async with open_node(config) as node:
        assert [torrent.id for torrent in node.torrents.values()] == [torrent.id]


async def test_what_is_changed_and_cannot_be_kept_is_told_at_once(
    tmp_path: Path, trouble: Trouble
) -> None:
    config = local_config(tmp_path / "node", state_dir=tmp_path / "state")
    async with open_node(config) as node:
        torrent = await node.get(MAGNET)
        assert torrent.warning is None
        for change in (torrent.pause, torrent.resume):
            trouble.number = errno.ENOSPC
            await change()
            assert torrent.warning is not None
            trouble.number = None
            await torrent.save()
            assert torrent.warning is None
        trouble.number = errno.ENOSPC
        torrent.set_limits(up=5000)
        await torrent.save()
        assert torrent.warning is not None


@pytest.mark.parametrize("how", ["get", "share"])
async def test_what_is_new_about_a_torrent_that_is_here_is_recorded_before_the_answer(
    how: str, tmp_path: Path, trouble: Trouble
) -> None:
    config = local_config(tmp_path / "node", state_dir=tmp_path / "state")
    (tmp_path / "film.bin").write_bytes(b"x" * 1000)
    metainfo = make(tmp_path / "film.bin")
    async with open_node(config) as node:
        torrent = await node.get(metainfo)
        trouble.number = errno.ENOSPC
        if how == "get":
            await node.get(metainfo, sequential=True)
        else:
            await node.share(tmp_path / "film.bin")
        assert torrent.warning is not None


async def test_many_torrents_that_cannot_be_kept_take_two_lines(
    tmp_path: Path, trouble: Trouble
) -> None:
    config = local_config(tmp_path / "node", state_dir=tmp_path / "state")
    async with open_node(config) as node:
        trouble.number = errno.ENOSPC
        for letter in "abcde":
            await node.get("magnet:?xt=urn:btih:" + letter * 40)
        assert len(node.status().warnings) == 2
        assert "4 more" in node.status().warnings[1]
        await node._saving.save()
        assert "DHT" in node.status().warnings[2]
        trouble.number = None
        await node._saving.save()
        assert len(node.status().warnings) == 2


async def test_a_record_that_cannot_be_removed_keeps_its_torrent(
    tmp_path: Path, trouble: Trouble
) -> None:
    config = local_config(tmp_path / "node", state_dir=tmp_path / "state", torrent=SOON)
    (tmp_path / "node" / "film.bin").write_bytes(b"x" * 1000)
    async with open_node(config) as node:
        torrent = await node.share(tmp_path / "node" / "film.bin")
        await node.get(torrent.metainfo or MAGNET)
        trouble.number = errno.EROFS
        with pytest.raises(StorageError, match=r"cannot remove .*Read-only file system"):
            await node.remove(torrent, delete_data=True)
        assert node.torrents[torrent.info_hash] is torrent
        assert (tmp_path / "node" / "film.bin").exists()
        assert records(tmp_path / "state") == [f"{torrent.id}.resume"]
        await torrent.pause()  # it lives
        assert torrent.warning is not None
        trouble.number = None
        with trio.fail_after(20):  # and is remembered again
            while torrent.warning is not None:
                await trio.sleep(0.02)
        await node.remove(torrent)
        assert not node.torrents
        assert records(tmp_path / "state") == []
        await trio.sleep(0.2)
        assert records(tmp_path / "state") == []
    async with open_node(config) as node:
        assert not node.torrents


async def test_on_a_full_disk_a_torrent_can_be_removed(tmp_path: Path, trouble: Trouble) -> None:
    config = local_config(tmp_path / "node", state_dir=tmp_path / "state")
    async with open_node(config) as node:
        kept = await node.get(MAGNET)
        trouble.number = errno.ENOSPC
        lost = await node.get("magnet:?xt=urn:btih:" + "b" * 40)
        await node.remove(kept)
        await node.remove(lost)
        assert records(tmp_path / "state") == []
        assert node.status().warnings == ()


def test_the_command_line_tells_it_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    warn({"name": "a\x1b[2Jb", "warning": "cannot be saved\n"})
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("dhtnode: warning: a")
    assert err.count("\n") == 1
    assert "\x1b" not in err
    warn({"name": "x", "warning": None})
    warn({"name": "x"})
    assert capsys.readouterr() == ("", "")
