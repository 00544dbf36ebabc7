"""Clients of Transmission steer our node as they steer a Transmission: transmission-remote of
Debian, transmission-rpc of PyPI, and a daemon of Transmission beside ours, asked the same.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import transmission_rpc

from dht_torrent.storage.making import make
from tests.helpers.clients import program
from tests.helpers.content import make_tree

FILES = {"a.bin": 200_000, "sub/b.bin": 70_000, "c.bin": 5}
USER, PASSWORD = "owner", "secret"
PATIENCE = 30.0


@contextlib.contextmanager
def our_daemon(folder: Path, *, ends_by: signal.Signals = signal.SIGTERM) -> Iterator[int]:
    """Running, without a network; the port of its RPC."""
    (folder / "auth").write_text(f"{USER}:{PASSWORD}\n")
    (folder / "auth").chmod(0o600)
    command = [
        *(sys.executable, "-m", "dht_torrent", "--bootstrap", "none", "--listen", "127.0.0.1:0"),
        *("--state-dir", str(folder / "state"), "--download-dir", str(folder / "got")),
        *("--web", "127.0.0.1:0", "--rpc-auth-file", str(folder / "auth")),
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as one:
        try:
            assert one.stdout is not None
            assert one.stderr is not None
            assert one.stdout.readline().startswith("ready ")
            told = [one.stderr.readline(), one.stderr.readline()]  # of the page, and of the RPC
            found = re.search(r"http://127\.0\.0\.1:(\d+)/transmission/rpc", "".join(told))
            assert found is not None
            yield int(found[1])
        finally:
            one.send_signal(ends_by)
            one.communicate(timeout=PATIENCE)


@contextlib.contextmanager
def their_daemon(folder: Path) -> Iterator[str]:
    """A Transmission without a network; where its RPC is."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder.mkdir()
    settings = {
        "bind-address-ipv4": "127.0.0.1",
        "dht-enabled": False,
        "download-dir": str(folder),
        "lpd-enabled": False,
        "peer-port": 0,
        "port-forwarding-enabled": False,
        "rpc-bind-address": "127.0.0.1",
        "rpc-port": port,
        "rpc-whitelist-enabled": False,
        "utp-enabled": False,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    command = [program("transmission-daemon"), "-f", "--config-dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as one:
        try:
            yield f"http://127.0.0.1:{port}/transmission/rpc"
        finally:
            one.kill()


def until(what: Any) -> Any:
    """The first answer that is one."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(httpx.TransportError):
            if found := what():
                return found
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def prepared(folder: Path) -> Path:
    """A .torrent; its content lies where our node downloads to."""
    content = make_tree(folder / "got" / "album", FILES)
    torrent = folder / "album.torrent"
    torrent.write_bytes(make(content, piece_length=32 * 1024, comment="words").to_torrent())
    return torrent


# -- Debian's transmission-remote -----------------------------------------------------------------


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[Any]:
    with our_daemon(tmp_path) as port:
        yield caller(port)


def caller(port: int) -> Any:
    """Runs transmission-remote."""
    command = program("transmission-remote")

    def call(*arguments: str) -> str:
        done = subprocess.run(
            [command, f"127.0.0.1:{port}", "-n", f"{USER}:{PASSWORD}", *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env={**os.environ, "TZ": "UTC", "LC_ALL": "C.UTF-8"},
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        return said

    return call


def test_what_transmission_remote_has_set_is_there_after_a_crash(tmp_path: Path) -> None:
    torrent = prepared(tmp_path)
    with our_daemon(tmp_path, ends_by=signal.SIGKILL) as port:
        remote = caller(port)
        remote("-a", str(torrent))
        remote("-d", "500", "-u", "400", "-as", "-asd", "33", "-gsr", "2.5")
        remote("-t", "1", "-d", "77", "-L", "one,two", "-sr", "1.5")
        session, info = remote("-si"), remote("-t", "1", "-i")
    with our_daemon(tmp_path) as port:
        remote = caller(port)
        until(lambda: "100%" in remote("-l"))
        limits = session.index("LIMITS")
        assert remote("-si")[limits:] == session[limits:]
        assert "Enabled limit: 500 kB/s; Enabled turtle limit: 33 kB/s" in session
        for line in ("Download Limit: 77 kB/s", "Labels: one, two", "Ratio Limit: 1.5"):
            assert line in info
            assert line in remote("-t", "1", "-i")


def test_transmission_remote_steers_it(tmp_path: Path, remote: Any) -> None:
    torrent = prepared(tmp_path)
    assert "success" in remote("-a", str(torrent))
    until(lambda: "Seeding" in remote("-l") or "Idle" in remote("-l"))
    until(lambda: "100%" in remote("-l"))
    info = remote("-t", "1", "-i")
    assert "Name: album" in info
    assert "Comment: words" in info
    assert "Total size: 270.0 kB" in info
    files = remote("-t", "1", "-f")
    assert "album (3 files):" in files
    assert "album/sub/b.bin" in files
    remote("-t", "1", "-ip")
    assert re.search(r"^\s*1{8} 1 *$", remote("-t", "1", "-ic"), re.MULTILINE)
    remote("-t", "1", "-d", "77", "-u", "66")
    assert "Download Limit: 77 kB/s" in remote("-t", "1", "-i")
    remote("-t", "1", "-D", "-U")
    assert "Download Limit: Unlimited" in remote("-t", "1", "-i")
    remote("-t", "1", "-sr", "1.5")
    assert "Ratio Limit: 1.5" in remote("-t", "1", "-i")
    remote("-t", "1", "-L", "one,two")
    assert "Labels: one, two" in remote("-t", "1", "-i")
    remote("-t", "1", "-G", "1", "-ph", "0")
    chosen = remote("-t", "1", "-f").splitlines()
    assert any("High" in line and "a.bin" in line for line in chosen), chosen
    assert any(" No " in line and "c.bin" in line for line in chosen)
    remote("-t", "1", "-S")
    assert "Stopped" in remote("-l")
    remote("-t", "1", "-s")
    until(lambda: "Stopped" not in remote("-l"))
    remote("-t", "1", "-v")
    remote("-t", "1", "--reannounce")
    until(lambda: "100%" in remote("-l"))
    remote("-d", "500", "-u", "400")
    session = remote("-si")
    assert "Download speed limit: 500 kB/s (Enabled" in session
    assert "Daemon version: 4.1.0" in session
    assert "Started 1 times" in remote("-st")
    moved = tmp_path / "got" / "moved"
    remote("-t", "1", "--move", str(moved))
    until(lambda: f"Location: {moved}" in remote("-t", "1", "-i"))
    until((moved / "album" / "a.bin").exists)
    assert not (tmp_path / "got" / "album").exists()
    (moved / "album").rename(tmp_path / "got" / "album")
    remote("-t", "1", "--find", str(tmp_path / "got"))
    until(lambda: f"Location: {tmp_path / 'got'}\n" in remote("-t", "1", "-i"))
    until(lambda: "100%" in remote("-l"))
    remote("-t", "1", "-r")
    assert "album" not in remote("-l")
    assert (tmp_path / "got" / "album" / "sub" / "b.bin").exists()


# -- PyPI's transmission-rpc ----------------------------------------------------------------------


def test_transmission_rpc_of_python_steers_it(tmp_path: Path) -> None:
    torrent = prepared(tmp_path)
    with our_daemon(tmp_path) as port:
        client = transmission_rpc.Client(
            host="127.0.0.1", port=port, username=USER, password=PASSWORD
        )
        assert client.get_session().version.startswith("4.1.0")
        added = client.add_torrent(torrent, labels=["films"])
        assert client.add_torrent(torrent).hash_string == added.hash_string
        one = until(
            lambda: found if (found := client.get_torrent(added.id)).percent_done == 1 else None
        )
        assert (one.name, one.total_size, one.labels) == ("album", 270_005, ["films"])
        assert [file.name for file in one.get_files()] == [
            "album/a.bin",
            "album/c.bin",
            "album/sub/b.bin",
        ]
        assert len(client.get_torrents()) == 1
        assert client.get_recently_active_torrents()[1] == []
        client.change_torrent(
            added.id,
            download_limit=50,
            download_limited=True,
            seed_ratio_limit=2.5,
            seed_ratio_mode=1,
            files_unwanted=[1],
            priority_high=[0],
        )
        one = client.get_torrent(added.id)
        assert (one.download_limit, one.seed_ratio_limit) == (50, 2.5)
        assert [file.selected for file in one.get_files()] == [True, False, True]
        for act in (client.stop_torrent, client.start_torrent, client.verify_torrent):
            act(added.id)
        client.reannounce_torrent(added.hash_string)
        for move in (client.queue_top, client.queue_bottom, client.queue_up, client.queue_down):
            move(added.id)
        client.set_session(speed_limit_down=900, speed_limit_down_enabled=True)
        assert client.get_session().speed_limit_down == 900
        assert client.session_stats().torrent_count == 1
        assert (client.free_space(tmp_path / "got") or 0) > 0
        assert client.port_test() is False
        moved = tmp_path / "got" / "moved"
        client.move_torrent_data(added.id, moved)
        until(lambda: client.get_torrent(added.id).download_dir == str(moved))
        assert client.rename_torrent_path(added.id, "album", "Mine") == ("album", "Mine")
        one = client.get_torrent(added.id)
        assert (one.name, one.get_files()[0].name) == ("Mine", "Mine/a.bin")
        (tmp_path / "got" / "back").mkdir()
        (moved / "Mine").rename(tmp_path / "got" / "back" / "Mine")
        client.move_torrent_data(added.id, tmp_path / "got" / "back", move=False)
        until(lambda: client.get_torrent(added.id).percent_done == 1)
        with pytest.raises(transmission_rpc.TransmissionError, match="not below a folder"):
            client.move_torrent_data(added.id, tmp_path / "elsewhere")
        client.remove_torrent(added.id, delete_data=True)
        assert client.get_torrents() == []
        with pytest.raises(transmission_rpc.TransmissionAuthError):
            transmission_rpc.Client(host="127.0.0.1", port=port, username=USER, password="no")


# -- beside a Transmission ------------------------------------------------------------------------

THEIR_OWN = {
    # Of its time and place.
    *(
        "addedDate",
        "activityDate",
        "startDate",
        "doneDate",
        "editDate",
        "downloadDir",
        "torrentFile",
    ),
    *("secondsSeeding", "secondsDownloading", "isStalled", "manualAnnounceTime", "queuePosition"),
    # Settings whose defaults differ.
    *("maxConnectedPeers", "peer-limit", "etaIdle", "bandwidthPriority", "seedRatioLimit"),
    *("seedIdleLimit", "downloadLimit", "uploadLimit"),
    # It counts what it found on the disk as nothing, and a ratio of nothing as -1.
    "uploadRatio",
    # Their magnet links quote other characters.
    "magnetLink",
    # 3.00 says 0.
    "file-count",
}
"""Fields of a torrent whose values may differ."""


def call(client: httpx.Client, url: str, method: str, **arguments: Any) -> Any:
    """A call in the older dialect."""
    body = {"method": method, "arguments": arguments}
    answer = client.post(url, json=body)
    if answer.status_code == 409:
        name = "X-Transmission-Session-Id"
        client.headers[name] = answer.headers[name]
        answer = client.post(url, json=body)
    said = answer.json()
    assert said["result"] == "success", said
    return said["arguments"]


def test_a_torrent_is_told_as_transmission_tells_it(tmp_path: Path) -> None:
    torrent = prepared(tmp_path)
    make_tree(tmp_path / "theirs-got" / "album", FILES)
    fields = [
        *("activityDate", "addedDate", "bandwidthPriority", "comment", "corruptEver", "creator"),
        *("dateCreated", "desiredAvailable", "doneDate", "downloadDir", "downloadedEver"),
        *("downloadLimit", "downloadLimited", "editDate", "error", "errorString", "eta", "etaIdle"),
        *("file-count", "files", "fileStats", "hashString", "haveUnchecked", "haveValid"),
        *("honorsSessionLimits", "id", "isFinished", "isPrivate", "isStalled", "labels"),
        *("leftUntilDone", "magnetLink", "manualAnnounceTime", "maxConnectedPeers"),
        *("metadataPercentComplete", "name", "peer-limit", "peers", "peersConnected", "peersFrom"),
        *("peersGettingFromUs", "peersSendingToUs", "percentDone", "pieces", "pieceCount"),
        *("pieceSize", "priorities", "queuePosition", "rateDownload", "rateUpload"),
        *("recheckProgress", "secondsDownloading", "secondsSeeding", "seedIdleLimit"),
        *("seedIdleMode", "seedRatioLimit", "seedRatioMode", "sizeWhenDone", "startDate", "status"),
        *("torrentFile", "totalSize", "trackers", "trackerStats", "uploadedEver", "uploadLimit"),
        *("uploadLimited", "uploadRatio", "wanted", "webseeds", "webseedsSendingToUs"),
    ]
    with (
        our_daemon(tmp_path) as port,
        their_daemon(tmp_path / "transmission") as theirs,
        httpx.Client(auth=(USER, PASSWORD), trust_env=False) as us,
        httpx.Client(trust_env=False) as them,
    ):
        ours = f"http://127.0.0.1:{port}/transmission/rpc"
        data = base64.b64encode(torrent.read_bytes()).decode()
        call(us, ours, "torrent-add", metainfo=data)
        place = str(tmp_path / "theirs-got")
        until(lambda: call(them, theirs, "torrent-add", metainfo=data, **{"download-dir": place}))

        def told(client: httpx.Client, url: str) -> Any:
            [row] = call(client, url, "torrent-get", fields=fields)["torrents"]
            return row if row["status"] == 6 and row["percentDone"] == 1 else None

        mine = until(lambda: told(us, ours))
        other = until(lambda: told(them, theirs))
        assert mine.keys() >= other.keys()
        for file in mine["files"]:  # which 3.00 does not tell
            del file["begin_piece"], file["end_piece"]
        for name, value in other.items():
            assert type(mine[name]) is type(value) or {type(mine[name]), type(value)} == {
                int,
                float,
            }, name
        assert {name: mine[name] for name in other if name not in THEIR_OWN} == {
            name: value for name, value in other.items() if name not in THEIR_OWN
        }
