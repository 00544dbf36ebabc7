"""Does a daemon that runs for long keep within bounds, whatever is done to it?

    python scripts/soak.py --minutes 30 [--seed 1] [--torrents 200] [--json]

A daemon in a process of its own, with its control socket, holds many torrents while peers come,
go, stall, lie and poison, and torrents are added, paused, limited, checked again, robbed of their
files, given them back, and removed. A watcher takes its memory, descriptors, tasks and threads.
After the first five minutes (or a third of the time, if that is less) none of them may grow; when
all torrents are removed and all peers are gone, nothing may be left: no task, socket, thread,
descriptor or file. Says what it saw, a line for each thing that is wrong, and exits 1 if there was
any. Needs /proc.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import random
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import trio

from dht_torrent import Config, Node, open_node
from dht_torrent.config import DiskConfig, TorrentConfig
from dht_torrent.daemon.client import Client, connect
from dht_torrent.daemon.control import Control
from dht_torrent.daemon.presence import NoNode
from dht_torrent.daemon.run import run
from dht_torrent.errors import ControlError, DhtTorrentError, InputError
from dht_torrent.lab.studies.study import exit_code, positive

SETTLING: Final = 300.0
"""Seconds until which anything may grow."""
ALLOWED: Final = {"rss": 10 << 20, "descriptors": 40, "tasks": 150, "threads": 4}
"""What the median of the last third may be above that of the first: connections come and go."""
CALM: Final = 40.0
"""Seconds in which all must be gone after the end. Threads and idle files stay for a few."""
SLOWEST: Final = 10.0
"""Seconds in which `status` must be answered."""
HOSTILE: Final = 40
"""Raw peers at once, each of which comes, does one thing, and goes."""
HELPERS: Final = 3
"""Nodes of ours that share what the daemon fetches, and fetch what it shares."""
FETCHES: Final = 3
"""Downloads at once of each of them."""
BLOCK: Final = 16 * 1024
_QUICK: Final = TorrentConfig(
    file_check_interval=5.0, disk_retry=2.0, resume_interval=5.0, local_reconnect_delay=1.0
)


@dataclass(frozen=True, slots=True)
class Sample:
    """The daemon at one moment."""

    seconds: float
    rss: int
    descriptors: int
    sockets: int
    threads: int
    tasks: int
    torrents: int = 0
    connections: int = 0
    answered: float = 0.0
    """Seconds that `status` took."""


@dataclass(slots=True)
class Findings:
    """What a run has shown."""

    samples: list[Sample] = field(default_factory=list)
    before: Sample | None = None
    after: Sample | None = None
    done: Counter[str] = field(default_factory=Counter)
    """How often what was done to the daemon."""
    faults: list[str] = field(default_factory=list)


# -- the daemon ----------------------------------------------------------------------------------


async def daemon(folder: Path) -> None:
    """Runs until told to stop, and says how many tasks there are whenever a line comes in."""
    config = Config(
        bootstrap=[],
        listen="127.0.0.1:0",
        state_dir=folder / "state",
        download_dir=folder / "got",
        torrent=_QUICK,
        disk=DiskConfig(idle_file_time=5.0),
    )

    async def answer(node: Node, control: Control) -> None:
        questions = trio.lowlevel.FdStream(os.dup(0))
        async with questions:
            while await questions.receive_some(4096):
                sys.stdout.write(json.dumps(_tasks()) + "\n")
                sys.stdout.flush()

    await run(config, None, answer)


def _tasks() -> dict[str, int]:
    """How many tasks there are of each name."""
    root = trio.lowlevel.current_root_task()
    todo, names = [root] if root is not None else [], Counter[str]()
    while todo:
        task = todo.pop()
        names[task.name.rpartition(".")[2]] += 1
        todo += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return names


class Daemon:
    """The process, seen from outside."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, __file__, "--daemon", str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self._began = time.monotonic()
        self.tasks: Counter[str] = Counter()
        """By name, at the last sample."""

    def connected(self) -> Client:
        """Raises ControlError when it does not come up."""
        while True:
            try:
                return connect(self.state)
            except NoNode:
                if self._process.poll() is not None or time.monotonic() - self._began > 30:
                    raise ControlError(f"the daemon did not start: {self.complaints()}") from None
                time.sleep(0.05)

    def sample(self, **more: Any) -> Sample:
        proc = Path(f"/proc/{self._process.pid}")
        status = dict(
            line.split(":", 1) for line in (proc / "status").read_text().splitlines() if ":" in line
        )
        targets = []
        for entry in (proc / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                targets.append(str(entry.readlink()))
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        self.tasks = Counter(json.loads(self._process.stdout.readline() or b"{}"))
        return Sample(
            seconds=time.monotonic() - self._began,
            rss=int(status["VmRSS"].split()[0]) * 1024,
            descriptors=len(targets),
            sockets=sum(target.startswith("socket:") for target in targets),
            threads=int(status["Threads"]),
            tasks=self.tasks.total(),
            **more,
        )

    def ended(self) -> int | None:
        """Its exit code, as soon as it has one."""
        try:
            return self._process.wait(20)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def complaints(self) -> str:
        return self.log.read_text(errors="replace")


# -- what is done to it --------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Held:
    """A torrent the daemon should have."""

    id: str
    shared: Path | None
    """The file or folder it shares; None for a download."""
    harmed: bytes | None = None
    """What was in a file that was changed or deleted."""


class Soak:
    """A daemon and all that is done to it."""

    def __init__(self, folder: Path, torrents: int, seed: int) -> None:
        self.found = Findings()
        self._folder = folder
        self._wanted = torrents
        self._rng = random.Random(seed)
        self._daemon = Daemon(folder)
        self._held: list[Held] = []
        self._offers: list[str] = []  # magnets of what the helpers share
        self._helpers: list[Node] = []
        self._poisoner = 0
        self._made = 0
        self._port = 0
        self._every = 2.0
        self._tasks_before: Counter[str] = Counter()

    async def run(self, seconds: float) -> None:
        """Raises DhtTorrentError when the daemon cannot be steered any more."""
        try:
            client = await trio.to_thread.run_sync(self._daemon.connected)
            # Two: one may be in the middle of something in a thread. Both stay for the whole run,
            # for the server keeps a connection some seconds longer than its client.
            with client, await trio.to_thread.run_sync(self._daemon.connected) as watching:
                self._port = int(client.status()["listen"].rpartition(":")[2])
                await trio.sleep(1)
                self.found.before = await self._sample(watching)
                self._tasks_before = self._daemon.tasks
                self._every = min(2.0, seconds / 20)
                with trio.move_on_after(seconds):
                    await self._disturb(client, watching)
                await self._clear(client)
                await self._wait_for_calm(watching)
                await trio.to_thread.run_sync(client.stop)
            self._look_at_the_end(await trio.to_thread.run_sync(self._daemon.ended))
        finally:
            self._daemon.kill()

    async def _disturb(self, client: Client, watching: Client) -> None:
        async with contextlib.AsyncExitStack() as stack:
            for number in range(HELPERS):
                config = Config(
                    bootstrap=[],
                    listen="127.0.0.1:0",
                    download_dir=self._folder / f"helper-{number}",
                    torrent=replace(_QUICK, resume_interval=60.0),
                )
                self._helpers.append(await stack.enter_async_context(open_node(config)))
            async with trio.open_nursery() as nursery:
                listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
                self._poisoner = listeners[0].socket.getsockname()[1]
                nursery.start_soon(trio.serve_listeners, self._poison, listeners)
                for node in self._helpers:
                    for _ in range(max(2, self._wanted // (4 * HELPERS))):
                        torrent = await node.share(self._make())
                        port = node.address.port
                        self._offers.append(f"{torrent.magnet}&x.pe=127.0.0.1:{port}")
                nursery.start_soon(self._watch, watching)
                for _ in range(HOSTILE):
                    nursery.start_soon(self._visit)
                for node in self._helpers * FETCHES:
                    nursery.start_soon(self._fetch, node)
                while True:
                    full = len(self._held) >= self._wanted
                    await trio.sleep(self._rng.uniform(0.01, 0.1) if full else 0)
                    await self._act(client)

    async def _watch(self, client: Client) -> None:
        while True:
            self.found.samples.append(await self._sample(client))
            slow = self.found.samples[-1].answered
            if slow > SLOWEST:
                self.found.faults.append(f"status took {slow:.1f} s")
            await trio.sleep(self._every)

    async def _sample(self, client: Client) -> Sample:
        def take() -> Sample:
            began = time.monotonic()
            status = client.status()
            return self._daemon.sample(
                torrents=status["torrents"],
                connections=status["connections"],
                answered=time.monotonic() - began,
            )

        return await trio.to_thread.run_sync(take)

    async def _act(self, client: Client) -> None:
        """One thing to one torrent."""
        if len(self._held) < self._wanted:
            name = self._rng.choice(("share", "share", "share", "get"))
        else:
            name = self._rng.choice(
                (
                    *("pause", "resume", "resume", "resume", "limit", "recheck"),
                    *("harm", "heal", "heal", "heal", "heal", "remove"),
                )
            )
        held = self._rng.choice(self._held) if self._held else None
        actions: dict[str, Callable[[], Any]] = {
            "share": lambda: self._share(client),
            "get": lambda: self._get(client),
        }
        if held is not None:
            actions |= {
                "pause": lambda: client.pause(held.id),
                "resume": lambda: client.resume(held.id),
                "limit": lambda: client.limit(held.id, up=self._rng.choice((None, 100_000))),
                "recheck": lambda: client.recheck(held.id),
                "harm": lambda: self._harm(held),
                "heal": lambda: self._heal(client, held),
                "remove": lambda: self._remove(client, held),
            }
        self.found.done[name] += 1
        try:
            await trio.to_thread.run_sync(actions[name])
        except NoNode:
            raise
        except (InputError, ControlError) as error:
            if "internal" in str(error).lower():
                self.found.faults.append(f"{name}: {error}")
            self.found.done[f"{name} refused"] += 1

    def _share(self, client: Client) -> None:
        path = self._make()
        self._held.append(Held(client.share(path)["id"], path))

    def _get(self, client: Client) -> None:
        offer = self._rng.choice(self._offers)
        if self._rng.random() < 0.5:
            offer += f"&x.pe=127.0.0.1:{self._poisoner}"
        torrent = client.get(offer)
        if all(held.id != torrent["id"] for held in self._held):
            self._held.append(Held(torrent["id"], None))

    def _remove(self, client: Client, held: Held) -> None:
        self._note_left(client.remove(held.id, data=held.shared is None), held.shared is None)
        self._held.remove(held)
        if held.shared is not None and held.shared.is_dir():
            shutil.rmtree(held.shared)
        elif held.shared is not None:
            held.shared.unlink(missing_ok=True)

    def _note_left(self, removal: dict[str, Any], data: bool) -> None:
        """All that was fetched here is the daemon's own: nothing of it may be left."""
        for left in removal["left"] if data else ():
            self.found.faults.append(f"rm --data left {left['path']}: {left['why']}")

    def _harm(self, held: Held) -> None:
        """Change or delete a file that is shared."""
        if held.shared is None or held.harmed is not None:
            return
        file = _first_file(held.shared)
        held.harmed = file.read_bytes()
        if self._rng.random() < 0.5:
            file.unlink()
        else:
            file.write_bytes(held.harmed[: len(held.harmed) // 2])

    def _heal(self, client: Client, held: Held) -> None:
        if held.shared is None or held.harmed is None:
            return
        file, data = _first_file(held.shared), held.harmed
        file.write_bytes(data)
        held.harmed = None
        client.recheck(held.id)

    def _make(self) -> Path:
        """A file, or a folder of some files."""
        self._made += 1
        path = self._folder / "content" / f"{self._made}"
        files = [path]
        if self._made % 3:
            path.mkdir(parents=True)
            files = [path / f"{number}.bin" for number in range(self._rng.randint(1, 8))]
        path.parent.mkdir(exist_ok=True)
        for file in files:
            file.write_bytes(
                self._rng.randbytes(self._rng.choice((500, 40_000, 300_000, 1_500_000)))
            )
        return path

    # -- peers -----------------------------------------------------------------------------------

    async def _fetch(self, node: Node) -> None:
        """Fetch what the daemon shares, and forget it, again and again."""
        while True:
            await trio.sleep(self._rng.uniform(0, 0.5))
            shared = [held for held in self._held if held.shared is not None]
            if not shared:
                continue
            held = self._rng.choice(shared)
            torrent = await node.get(f"magnet:?xt=urn:btih:{held.id}&x.pe=127.0.0.1:{self._port}")
            with trio.move_on_after(self._rng.uniform(0.2, 5)):
                with contextlib.suppress(DhtTorrentError):
                    await torrent.completed()
                    self.found.done["fetched from it"] += 1
            with contextlib.suppress(DhtTorrentError):
                await torrent.remove(delete_data=True)

    async def _visit(self) -> None:
        """A raw peer: comes, behaves in one of many ways, and goes."""
        ways: Sequence[Callable[[trio.SocketStream], Awaitable[None]]] = (
            self._silent,
            self._noisy,
            self._stalling,
            self._lying,
        )
        while True:
            await trio.sleep(self._rng.uniform(0, 0.5))
            with contextlib.suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                stream = await trio.open_tcp_stream("127.0.0.1", self._port)
                async with stream:
                    way = self._rng.choice(ways)
                    self.found.done[f"peer {way.__name__.strip('_')}"] += 1
                    with trio.move_on_after(self._rng.uniform(0.1, 6)):
                        await way(stream)

    async def _hello(self, stream: trio.SocketStream) -> None:
        await stream.send_all(_handshake(self._any_id(), self._rng))

    async def _silent(self, stream: trio.SocketStream) -> None:
        if self._rng.random() < 0.5:
            await self._hello(stream)
        await trio.sleep_forever()

    async def _noisy(self, stream: trio.SocketStream) -> None:
        """Nonsense behind a handshake, or instead of one."""
        if self._rng.random() < 0.8:
            await self._hello(stream)
        while True:
            await stream.send_all(self._rng.randbytes(self._rng.randrange(1, 2000)))
            await trio.sleep(0.01)

    async def _stalling(self, stream: trio.SocketStream) -> None:
        """Asks for much and reads nothing."""
        await self._hello(stream)
        await stream.send_all(_message(15) + _message(2))
        while True:
            asked = [_message(6, 0, BLOCK * n, BLOCK) for n in range(20)]
            await stream.send_all(b"".join(asked))
            await trio.sleep(0.2)

    async def _lying(self, stream: trio.SocketStream) -> None:
        """Says it has everything, unchokes, answers nothing, and changes its mind."""
        await self._hello(stream)
        await stream.send_all(_message(14) + _message(1))
        while True:
            await stream.send_all(_message(self._rng.choice((0, 1, 2, 3))))
            await stream.send_all(_message(4, 0))
            await trio.sleep(0.05)

    async def _poison(self, stream: trio.SocketStream) -> None:
        """Says it has everything, and sends what nobody shares."""
        with contextlib.suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            async with stream:
                buffer = bytearray()
                async for data in stream:
                    buffer += data
                    if len(buffer) >= 68:
                        break
                info_hash = bytes(buffer[28:48])
                del buffer[:68]
                await stream.send_all(_handshake(info_hash, self._rng) + _message(14) + _message(1))
                async for data in stream:
                    buffer += data
                    while len(buffer) >= 4:
                        (length,) = struct.unpack_from(">I", buffer)
                        if len(buffer) < 4 + length:
                            break
                        message = bytes(buffer[4 : 4 + length])
                        del buffer[: 4 + length]
                        if message[:1] == b"\x06" and length == 13:
                            index, begin, size = struct.unpack(">III", message[1:])
                            garbage = self._rng.randbytes(min(size, BLOCK))
                            await stream.send_all(_message(7, index, begin, data=garbage))

    def _any_id(self) -> bytes:
        if self._held and self._rng.random() < 0.95:
            return bytes.fromhex(self._rng.choice(self._held).id)
        return self._rng.randbytes(20)

    # -- the end ---------------------------------------------------------------------------------

    async def _clear(self, client: Client) -> None:
        """Remove all."""
        for torrent in await trio.to_thread.run_sync(client.torrents):
            shared = any(held.id == torrent["id"] and held.shared for held in self._held)

            def remove(torrent_id: str = torrent["id"], data: bool = not shared) -> None:
                self._note_left(client.remove(torrent_id, data=data), data)

            await trio.to_thread.run_sync(remove)

    async def _wait_for_calm(self, client: Client) -> None:
        before = self.found.before
        assert before is not None
        deadline = time.monotonic() + CALM
        while True:
            self.found.after = await self._sample(client)
            left = left_over(before, self.found.after)
            if not left:
                return
            if time.monotonic() > deadline:
                more = self._daemon.tasks - self._tasks_before
                self.found.faults += left
                self.found.faults += [f"task left over: {name} x {n}" for name, n in more.items()]
                return
            await trio.sleep(1)

    def _look_at_the_end(self, code: int | None) -> None:
        faults = self.found.faults
        if code != 0:
            faults.append(f"the daemon ended with {code}")
        for line in self._daemon.complaints().splitlines():
            if "Traceback" in line or " ERROR " in line or " CRITICAL " in line:
                faults.append(f"the daemon said: {line}")
        state = self._daemon.state
        known = {"lock", "torrents", "times", "dht", "dht6", "dht.state", "dht6.state"}
        for path in sorted([*state.iterdir(), *(state / "torrents").iterdir()]):
            if path.name not in known:
                faults.append(f"left behind: {path.relative_to(state.parent)}")
        got = self._folder / "got"
        for path in sorted(got.rglob("*")) if got.exists() else []:
            faults.append(f"left behind: {path.relative_to(self._folder)}")


def _first_file(path: Path) -> Path:
    return path / "0.bin" if path.is_dir() else path


def _handshake(info_hash: bytes, rng: random.Random) -> bytes:
    reserved = bytes(5) + b"\x10\x00\x05"
    return b"\x13BitTorrent protocol" + reserved + info_hash + b"-SK0001-" + rng.randbytes(12)


def _message(kind: int, *numbers: int, data: bytes = b"") -> bytes:
    payload = struct.pack(f">{len(numbers)}I", *numbers) + data
    return struct.pack(">IB", 1 + len(payload), kind) + payload


# -- what it comes to ----------------------------------------------------------------------------


def growth(samples: Sequence[Sample], settling: float) -> list[str]:
    """What has grown since it should have settled, a line for each."""
    settled = [sample for sample in samples if sample.seconds >= settling]
    third = len(settled) // 3
    if not third:
        return ["too few samples to tell whether anything grew"]
    faults = []
    for name, allowed in ALLOWED.items():
        first, last = (
            statistics.median(getattr(sample, name) for sample in part)
            for part in (settled[:third], settled[-third:])
        )
        if last - first > allowed:
            faults.append(f"{name} grew from {first:.0f} to {last:.0f}")
    return faults


def left_over(before: Sample, after: Sample) -> list[str]:
    """What is there at the end and was not before, a line for each. Memory: see `growth`."""
    return [
        f"{getattr(after, name) - getattr(before, name)} {name} left over"
        for name in ("torrents", "connections", "tasks", "sockets", "descriptors", "threads")
        if getattr(after, name) > getattr(before, name)
    ]


async def soak(seconds: float, torrents: int, seed: int) -> Findings:
    """A run of so many seconds, and what it showed."""
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        work = Soak(Path(folder), torrents, seed)
        try:
            await work.run(seconds)
        except* ControlError as group:
            error: BaseException = group
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            work.found.faults.append(str(error))
            work.found.faults += work._daemon.complaints().splitlines()[-20:]
        found = work.found
    start = found.samples[0].seconds if found.samples else 0.0
    found.faults += growth(found.samples, start + min(SETTLING, seconds / 3))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--torrents", type=positive, default=200)
    parser.add_argument("--seed", type=int, default=1, help="decides what is done, not when")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--daemon", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.daemon is not None:
        logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        trio.run(daemon, options.daemon)
        return 0
    if not 0.1 <= options.minutes <= 1e5:
        parser.error("--minutes must be 0.1 or more")
    if not Path("/proc/self/fd").is_dir():
        parser.error("this needs /proc")
    logging.disable(logging.CRITICAL)  # of the helpers, to whom we do bad things as well
    found = trio.run(soak, 60 * options.minutes, options.torrents, options.seed)
    if options.json:
        print(
            json.dumps(
                {
                    "samples": [asdict(sample) for sample in found.samples],
                    "before": asdict(found.before) if found.before else None,
                    "after": asdict(found.after) if found.after else None,
                    "done": dict(found.done),
                    "faults": found.faults,
                }
            )
        )
    else:
        step = max(1, len(found.samples) // 20)
        shown = [found.before, *found.samples[::step], found.after]
        for sample in filter(None, shown):
            print(
                f"{sample.seconds:6.0f} s  {sample.rss / 1e6:5.0f} MB  "
                f"{sample.descriptors:4} descriptors  {sample.tasks:5} tasks  "
                f"{sample.threads:3} threads  {sample.torrents:4} torrents  "
                f"{sample.connections:4} connections  {sample.answered * 1e3:5.0f} ms"
            )
        print(", ".join(f"{name} {count}" for name, count in sorted(found.done.items())))
        for fault in found.faults:
            print(fault[:500])
        print(f"{len(found.faults)} faults")
    return 1 if found.faults else 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
