"""Peers as processes of their own, so that CPU seconds and memory belong to exactly one side.

    python scripts/bench/peers.py ROLE '{"json": "options"}'

A worker says one JSON line when it is `ready` (its port is open), waits for one line on stdin that
names the peers to connect to, says one line when it is `done` (everything is verified and on disk),
keeps serving until stdin closes, and says a last line, `stopped`, with what it used since the go.

Roles: lt-seed and lt-leech (libtorrent), our-seed and our-leech (this package), floor-seed and
floor-leech (sendfile to recv_into, SHA-1 and pwrite: what any protocol on this machine must beat).
"""

from __future__ import annotations

import contextlib
import filecmp
import gc
import hashlib
import json
import os
import queue
import random
import resource
import selectors
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout, installed or not

Line = dict[str, Any]
Peer = tuple[str, int]

NAME = "content"
"""What the shared file or folder is called, on both sides."""
_STEP = 4 << 20
_AHEAD = 64 << 20
DEADLINE = 300.0
"""Seconds a worker may be silent before the run is given up."""


class WorkerError(Exception):
    """A worker died, was silent too long, or said something else than expected."""


class Worker:
    """The parent's end of a worker process."""

    def __init__(
        self, role: str, *, script: str = __file__, inside: Sequence[str] = (), **options: Any
    ) -> None:
        self.role = role
        self._process = subprocess.Popen(
            [*inside, sys.executable, script, role, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._buffer = b""

    def expect(self, event: str, deadline: float = DEADLINE) -> Line:
        """The worker's next line, which must be `event`. Raises WorkerError."""
        stdout = self._process.stdout
        assert stdout is not None
        until = time.monotonic() + deadline
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(until - time.monotonic()):
                    raise WorkerError(f"{self.role}: no {event!r} in {deadline:.0f} s")
                if not (data := os.read(stdout.fileno(), 65536)):
                    raise WorkerError(f"{self.role} ended before {event!r}")
                self._buffer += data
        text, _, self._buffer = self._buffer.partition(b"\n")
        line: Line = json.loads(text)
        if line.get("event") != event:
            raise WorkerError(f"{self.role}: expected {event!r}, got {line}")
        return line

    def go(self, peers: Sequence[Peer] = ()) -> None:
        """Start: the worker's clock and its count of CPU seconds begin now."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"peers": peers}).encode() + b"\n")
        self._process.stdin.flush()

    def ask(self) -> Line:
        """What it has used so far, and what else it tells; it goes on. Not every role answers."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # if it is dead, `expect` says so
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()
        return self.expect("usage", 60.0)

    def stop(self) -> Line:
        """Let the worker end in good order, and hear what it used."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        line = self.expect("stopped", 60.0)
        self._process.wait(30.0)
        return line

    def kill(self) -> None:
        """Make sure it is gone. Harmless when it is already."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


@contextlib.contextmanager
def worker(
    role: str, *, script: str = __file__, inside: Sequence[str] = (), **options: Any
) -> Iterator[Worker]:
    """A worker that is surely gone at the end of the block. `script` knows what its roles do;
    `inside` is a command that runs another, as in a network namespace."""
    made = Worker(role, script=script, inside=inside, **options)
    try:
        yield made
    finally:
        made.kill()


def peak_rss() -> int:
    """Bytes this process has held at most."""
    # VmHWM where there is one: Linux's ru_maxrss remembers the parent's over fork and exec.
    if peak := _memory("VmHWM:"):
        return peak
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def resident() -> Line:
    """Bytes held now: all, and what is not mapped from files. The peak where /proc is not."""
    peak = peak_rss()
    return {"now": _memory("VmRSS:") or peak, "anonymous": _memory("RssAnon:") or peak}


def _memory(field: str) -> int | None:
    with contextlib.suppress(OSError), Path("/proc/self/status").open() as status:
        for line in status:
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    return None


def cpu_seconds() -> float:
    """User and system time of this process, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def allow_many_files() -> None:
    """As many descriptors as the system lets this process have, up to what any bench needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def make_content(root: Path, size: int, files: int, seed: int = 1) -> Path:
    """A file of `size` random bytes, or a folder of `files` files of together `size` bytes."""
    path = root / NAME
    rng = random.Random(seed)
    if files == 1:
        _write_random(path, size, rng)
        return path
    each, rest = divmod(size, files)
    for i in range(files):
        folder = path / f"{i // 100:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        _write_random(folder / f"{i:06d}.bin", each + (1 if i < rest else 0), rng)
    return path


def make_sparse(root: Path, size: int) -> Path:
    """A file of `size` zeros, none of them on the disk."""
    path = root / NAME
    with path.open("wb") as file:
        file.truncate(size)
    return path


def _write_random(path: Path, size: int, rng: random.Random) -> None:
    with path.open("wb") as file:
        while size:
            chunk = rng.randbytes(min(size, 1 << 20))
            file.write(chunk)
            size -= len(chunk)


def list_files(path: Path) -> list[Path]:
    """The files under `path` (or `path` itself), in the order of their paths."""
    return [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())


def differences(ours: Path, theirs: Path) -> list[str]:
    """What is not the same, byte for byte; empty when all is well."""
    left = {p.relative_to(ours): p for p in list_files(ours)}
    right = {p.relative_to(theirs): p for p in list_files(theirs)} if theirs.exists() else {}
    wrong = [f"only on one side: {name}" for name in sorted(left.keys() ^ right.keys())]
    return wrong + [
        f"differs: {name}"
        for name in sorted(left.keys() & right.keys())
        if not filecmp.cmp(left[name], right[name], shallow=False)
    ]


def parse_size(text: str) -> int:
    """`256KiB`, `1GiB`, `64MiB`, or plain bytes."""
    for unit, factor in (("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)):
        if text.endswith(unit):
            return int(text.removesuffix(unit)) * factor
    return int(text)


def settle() -> None:
    """Flush what the last run left dirty, so that it is not charged to the next one."""
    os.sync()


def drop_pages(path: Path) -> None:
    """Let the system forget what it holds of the files under `path`, which are on disk already.
    Only where it can be asked to (not on macOS)."""
    advise: Any = getattr(os, "posix_fadvise", None)
    if advise is None:
        return
    for file in list_files(path):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            advise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextlib.contextmanager
def warm(folder: Path, size: int) -> Iterator[None]:
    """In the block, who writes up to `size` bytes under `folder` gets memory that was just in use.

    A virtual machine gives free memory back to its host, some within the second. To touch it again
    costs up to ten times what copying into it does, and that would be charged to whoever writes at
    an unlucky moment. So a reserve of page cache is filled before, and let go as it is needed.
    """
    reserve = folder / "reserve"
    reserve.mkdir()
    names = [reserve / str(number) for number in range(-(-(size + _AHEAD) // _STEP))]
    block = bytes(_STEP)
    for name in names:
        name.write_bytes(block)
    start = _free(folder)
    over = threading.Event()

    def release() -> None:
        for name in names:
            while _free(folder) - start >= _AHEAD:
                if over.wait(0.002):
                    return
            name.unlink()

    thread = threading.Thread(target=release)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        shutil.rmtree(reserve)


def _free(folder: Path) -> int:
    """Bytes free on its file system, what is still to be written there counted as written."""
    found = os.statvfs(folder)
    return found.f_bfree * found.f_frsize


def empty(folder: Path) -> None:
    """Remove and make `folder` again."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


# --- inside a worker -------------------------------------------------------------------------


class Usage:
    """CPU seconds and wall time since the go."""

    def __init__(self) -> None:
        self._cpu = cpu_seconds()
        self._began = time.monotonic()

    def line(self, event: str, **more: Any) -> Line:
        return {
            "event": event,
            "seconds": time.monotonic() - self._began,
            "cpu": cpu_seconds() - self._cpu,
            "rss": peak_rss(),
            **more,
        }


def say(line: Line) -> None:
    print(json.dumps(line), flush=True)


def wait_for_go() -> list[Peer]:
    line = b""
    while not line.endswith(b"\n"):
        # One by one: what follows must stay in the pipe, where a selector sees it.
        if not (byte := os.read(sys.stdin.fileno(), 1)):
            raise SystemExit(1)  # the parent is gone
        line += byte
    return [(host, port) for host, port in json.loads(line)["peers"]]


def wait_for_end() -> None:
    while sys.stdin.readline():
        pass


# --- libtorrent ------------------------------------------------------------------------------


def libtorrent_settings(preset: str, encryption: str = "none", transport: str = "tcp") -> Any:
    """`default` or `high_performance_seed`; on top, only what makes the comparison a fair one.

    `encryption`: `none`, or `rc4`, which encrypts every connection and all of its payload.
    `transport`: `tcp` or `utp`, and nothing else."""
    import libtorrent as lt

    policies = lt.enc_policy
    policy = int(policies.pe_forced if encryption == "rc4" else policies.pe_disabled)
    settings: dict[str, Any] = {}
    if encryption == "rc4":
        settings.update(allowed_enc_level=int(lt.enc_level.pe_rc4), prefer_rc4=True)
    if preset == "high_performance_seed":
        settings.update(lt.high_performance_seed())
    settings.update(
        listen_interfaces="127.0.0.1:0",
        enable_dht=False,
        enable_lsd=False,
        enable_upnp=False,
        enable_natpmp=False,
        # One transport and alike on both sides: the comparison is about moving blocks.
        enable_outgoing_tcp=transport == "tcp",
        enable_incoming_tcp=transport == "tcp",
        enable_outgoing_utp=transport == "utp",
        enable_incoming_utp=transport == "utp",
        out_enc_policy=policy,
        in_enc_policy=policy,
        allow_multiple_connections_per_ip=True,
        stop_tracker_timeout=0,
        alert_mask=lt.alert.category_t.status_notification | lt.alert.category_t.error_notification,
    )
    return settings


def libtorrent_create(path: Path, piece_length: int) -> bytes:
    """A v1 .torrent of `path`, by libtorrent."""
    import libtorrent as lt

    # It lists a folder in the order of the file system; the order is part of the infohash.
    files = sorted(lt.list_files(str(path)), key=lambda file: file.filename)
    made = lt.create_torrent(files, piece_length, lt.create_torrent.v1_only)
    lt.set_piece_hashes(made, str(path.parent))
    return bytes(lt.bencode(made.generate()))


def run_libtorrent(
    torrent: str,
    folder: str,
    preset: str,
    leech: bool,
    encryption: str = "none",
    transport: str = "tcp",
) -> None:
    """Seed or fetch with libtorrent, from a .torrent file (its metadata costs it nothing)."""
    import libtorrent as lt

    session = lt.session(libtorrent_settings(preset, encryption, transport))
    params = lt.load_torrent_file(torrent)
    params.save_path = folder
    params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    # A seed checks its content and a leech finds its folder empty, both before the clock runs.
    torrent_handle = session.add_torrent(params)
    ready = "downloading" if leech else "seeding"
    libtorrent_until(session, torrent_handle, {ready})
    say({"event": "ready", "port": session.listen_port()})
    peers = wait_for_go()
    usage = Usage()
    for peer in peers:
        torrent_handle.connect_peer(peer)
    if leech:
        libtorrent_until(session, torrent_handle, {"finished", "seeding"})
        say(usage.line("done"))
    wait_for_end()
    status = torrent_handle.status()
    last = usage.line(
        "stopped", uploaded=status.total_payload_upload, downloaded=status.total_payload_download
    )
    del torrent_handle, session  # the destructor flushes what is still in memory
    say(last)


def libtorrent_until(session: Any, torrent: Any, states: set[str]) -> None:
    """Wait for one of these states. Raises WorkerError."""
    until = time.monotonic() + DEADLINE
    while str(torrent.status().state) not in states:
        if time.monotonic() > until:
            raise WorkerError("libtorrent took too long")
        session.wait_for_alert(20)
        for alert in session.pop_alerts():
            if "error" in type(alert).__name__:
                print(alert.message(), file=sys.stderr)


# --- ours ------------------------------------------------------------------------------------


def run_ours(
    path: str,
    piece_length: int,
    folder: str,
    magnet: str,
    leech: bool,
    encryption: str = "none",
    sources: Sequence[str] = (),
    shared: str | None = None,
    limit_up: int | None = None,
    transport: str = "tcp",
    ip_filter: str | None = None,
) -> None:
    """Seed `path` in place, or fetch `magnet` into `folder` from the peers the go names, reusing
    what is in `sources`, or in another torrent `shared` from there. `limit_up` is in bytes per
    second.

    `encryption`: `none` leaves the payload in the clear, as is the default; `rc4` insists on it;
    `off` does without MSE. `transport`: as for libtorrent."""
    import trio

    trio.run(
        _ours,
        Path(path),
        piece_length,
        Path(folder),
        magnet,
        leech,
        encryption,
        sources,
        Path(shared) if shared is not None else None,
        limit_up,
        transport,
        ip_filter,
    )


async def _ours(
    path: Path,
    piece_length: int,
    folder: Path,
    magnet: str,
    leech: bool,
    encryption: str,
    sources: Sequence[str],
    shared: Path | None,
    limit_up: int | None,
    transport: str,
    ip_filter: str | None,
) -> None:
    import trio

    from dht_torrent import Config, UtpConfig, open_node

    config = Config(
        bootstrap=[],
        listen="127.0.0.1:0",
        tcp=transport == "tcp",
        utp=UtpConfig(enabled=transport == "utp"),
        state_dir=None,
        download_dir=folder,
        limit_up=limit_up,
        ip_filter=ip_filter,
    )
    if encryption == "rc4":
        config = replace(config, encryption="require")
    elif encryption == "off":
        config = replace(config, encryption="off")
    async with open_node(config) as node:
        gc.freeze()  # as `dhtnode` does: what is imported by now stays
        if leech:
            if shared is not None:
                await node.share(shared, piece_length=piece_length)
            say({"event": "ready", "port": node.address.port})
            peers = await trio.to_thread.run_sync(wait_for_go)
            usage = Usage()
            torrent = await node.get(magnet + _points(peers), sources=sources)
            await torrent.completed()
            say(usage.line("done"))
        else:
            torrent = await node.share(path, piece_length=piece_length)
            await torrent.completed()
            say({"event": "ready", "port": node.address.port, "id": torrent.id})
            peers = await trio.to_thread.run_sync(wait_for_go)
            usage = Usage()
            if peers:  # who cannot be told of us is dialled
                await node.get(magnet + _points(peers))
        await trio.to_thread.run_sync(wait_for_end)
        summary = torrent.summary()
        last = usage.line("stopped", uploaded=summary.uploaded, downloaded=summary.downloaded)
    say(last)


def _points(peers: Sequence[Peer]) -> str:
    return "".join(f"&x.pe={host}:{port}" for host, port in peers)


# --- the floor -------------------------------------------------------------------------------


def run_floor_seed(path: str) -> None:
    """One connection, every file in order, by sendfile."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        say({"event": "ready", "port": server.getsockname()[1]})
        wait_for_go()
        usage = Usage()
        connection, _ = server.accept()
        with connection:
            for name in list_files(Path(path)):
                with name.open("rb") as file:
                    connection.sendfile(file)
        wait_for_end()
        say(usage.line("stopped"))


def run_floor_leech(folder: str, layout: list[tuple[str, int]], piece_length: int) -> None:
    """Pieces by recv_into; their SHA-1 and their write in two threads. No protocol, no waiting."""
    target = Path(folder)
    buffers: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
    full: queue.SimpleQueue[tuple[bytearray, int, int, int] | None] = queue.SimpleQueue()
    for _ in range(max(4, (8 << 20) // piece_length)):
        buffers.put(bytearray(piece_length))
    digests: list[bytes] = []

    def hash_and_write() -> None:
        while (piece := full.get()) is not None:
            buffer, fd, offset, length = piece
            view = memoryview(buffer)[:length]
            digests.append(hashlib.sha1(view).digest())
            os.pwrite(fd, view, offset)
            buffers.put(buffer)

    say({"event": "ready", "port": 0})
    ((host, port),) = wait_for_go()
    usage = Usage()
    threads = [threading.Thread(target=hash_and_write) for _ in range(2)]
    for thread in threads:
        thread.start()
    fds: list[int] = []
    with socket.create_connection((host, port)) as connection:
        for name, size in layout:
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
            fds.append(fd)
            for offset in range(0, size, piece_length):
                length = min(piece_length, size - offset)
                buffer = buffers.get()
                _fill(connection, memoryview(buffer)[:length])
                full.put((buffer, fd, offset, length))
    for _ in threads:
        full.put(None)
    for thread in threads:
        thread.join()
    for fd in fds:
        os.close(fd)
    say(usage.line("done"))
    wait_for_end()
    say(usage.line("stopped"))


def _fill(connection: socket.socket, view: memoryview) -> None:
    while view:
        if not (received := connection.recv_into(view)):
            raise WorkerError("the floor's seed hung up")
        view = view[received:]


def main() -> None:
    role, options = sys.argv[1], json.loads(sys.argv[2])
    match role:
        case "lt-seed" | "lt-leech":
            run_libtorrent(leech=role == "lt-leech", **options)
        case "our-seed" | "our-leech":
            run_ours(leech=role == "our-leech", **options)
        case "floor-seed":
            run_floor_seed(**options)
        case "floor-leech":
            run_floor_leech(**options)
        case _:
            raise SystemExit(f"no such role: {role}")


if __name__ == "__main__":
    main()
