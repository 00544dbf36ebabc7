"""A torrent as users see it: what it is, how it is getting on, and what may be asked of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import trio

from dht_torrent.config.seeding import SeedingLimits
from dht_torrent.engine.torrent import inventory
from dht_torrent.engine.torrent.facts import Clock, Facts, clock_of, facts_of, warning_of
from dht_torrent.engine.torrent.rate_limits import NewRate
from dht_torrent.engine.torrent.readers import Reader
from dht_torrent.engine.torrent.stages import Active, Checking, Failed, Moving, state_of, why_stuck
from dht_torrent.engine.torrent.supervisor import Supervisor
from dht_torrent.engine.torrent.watch import Watch
from dht_torrent.engine.user_files import absolute
from dht_torrent.engine.views import FileInfo, History, PeerInfo, Removal, State, Summary
from dht_torrent.errors import InputError, StorageError
from dht_torrent.ids import HostPort, InfoHash
from dht_torrent.metainfo import Magnet, Metainfo
from dht_torrent.torrent.selection import Selection, is_selected, wanted_size


class Torrent:
    """A torrent of a running node. Made by `Node.share` and `Node.get`."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._core = supervisor.core
        self._record = supervisor.record
        self._commands = supervisor.commands

    # -- what users see -------------------------------------------------------------------------

    @property
    def info_hash(self) -> InfoHash:
        """What the torrent is known by: the SHA-1 of its info dict, 20 bytes."""
        return self._core.context.info_hash

    @property
    def id(self) -> str:
        """The infohash in hex."""
        return self.info_hash.hex()

    @property
    def select(self) -> Selection | None:
        """Inclusive ranges of wanted files; None is all."""
        return self._core.select

    @property
    def sequential(self) -> bool:
        """Pieces are asked for from the first to the last."""
        return self._core.sequential

    @property
    def warning(self) -> str | None:
        """What is wrong although the torrent works: its record cannot be written, say."""
        return warning_of(self._core, self._record)

    @property
    def superseded(self) -> bool:
        """Another version lies where it was shared from: see `supersede`."""
        return self._core.superseded

    @property
    def published(self) -> bool:
        """It is in the index that everybody searches, or on its way there: `Node.publish`."""
        return self._core.is_published

    @property
    def not_published(self) -> str | None:
        """Why it is not, although that was asked for, in a line; None when all is as it should
        be."""
        return self._core.not_published

    @property
    def magnet(self) -> Magnet:
        """The link that others fetch it by; `str` gives its text."""
        return self._core.context.magnet

    @property
    def metainfo(self) -> Metainfo | None:
        """None until it is known."""
        return self._core.context.metainfo

    @property
    def name(self) -> str:
        """What its user calls it (`rename`), or else its name, or while that is not known what the
        magnet link calls it, or its id."""
        return self._core.name

    @property
    def path(self) -> Path | None:
        """Where the content is, or None while its name is not known."""
        return self._core.place.path(self.metainfo)

    @property
    def state(self) -> State:
        """What it does now."""
        return state_of(self._core.stage)

    @property
    def error(self) -> str | None:
        """Why it has stopped, in a line; None unless `state` is `error`."""
        return str(self._core.stage.error) if isinstance(self._core.stage, Failed) else None

    @property
    def progress(self) -> float:
        """Verified share (0..1) of the wanted bytes; while checking, the share looked at, and while
        moving, the share that is there."""
        size = self.size
        if isinstance(self._core.stage, Checking | Moving):
            return inventory.looked_at(self._core)
        if not size:
            return 0.0
        return 1 - inventory.bytes_left(self._core, size) / size

    @property
    def size(self) -> int:
        """Bytes wanted; 0 while the metadata is not known."""
        if self.metainfo is None:
            return 0
        return wanted_size(self.select, self.metainfo.geometry)

    @property
    def downloaded(self) -> int:
        """Payload bytes received, good or not, also in earlier runs."""
        return self._core.totals.downloaded

    @property
    def uploaded(self) -> int:
        """Payload bytes sent, also in earlier runs."""
        return self._core.totals.uploaded

    @property
    def wasted(self) -> int:
        """Payload bytes that were of no use, also in earlier runs."""
        return self._core.wasted

    @property
    def reused(self) -> int:
        """Bytes that were not received, as they were on this disk already; in earlier runs too."""
        return self._core.totals.reused

    @property
    def ratio(self) -> float:
        """Bytes sent for each byte received, or for each that was here from the beginning."""
        return self._core.ratio

    @property
    def labels(self) -> tuple[str, ...]:
        """What its user calls it; see `set_labels`."""
        return self._core.keeping.labels

    @property
    def limits(self) -> tuple[int | None, int | None]:
        """Up and down, bytes per second; None is no limit. See `set_limits`."""
        return self._core.connections.limits.rates

    @property
    def rates(self) -> tuple[float, float]:
        """Up and down, bytes per second, now."""
        peers = self._core.connections.peers.values()
        if not peers:
            return 0.0, 0.0
        now = trio.current_time()
        return sum(peer.up.value(now) for peer in peers), sum(
            peer.down.value(now) for peer in peers
        )

    @property
    def seeding_limits(self) -> SeedingLimits:
        """When it has been shared enough; see `set_seeding_limits`."""
        return self._core.keeping.limits

    @property
    def history(self) -> History:
        """Since when it is here, and what it has been doing."""
        keeping = self._core.keeping
        return History(
            added_at=keeping.added_at,
            started_at=keeping.started_at,
            completed_at=keeping.completed_at,
            active_at=keeping.times.active_at,
            seconds_downloading=keeping.times.downloading,
            seconds_seeding=keeping.times.seeding,
            shared_enough=keeping.retired,
        )

    @property
    def sources(self) -> tuple[Path, ...]:
        """Files and folders in which it was to look for what it lacks."""
        return self._core.sources

    @property
    def why(self) -> str | None:
        """Why nothing moves, in one line; None when all is well."""
        core = self._core
        if isinstance(core.stage, Active) and core.reusing is not None and core.reusing.busy:
            return None
        return why_stuck(core.stage, core.connections, core.dht, core.discovery.note)

    async def completed(self) -> Path:
        """Wait until all wanted pieces are verified on disk; returns where they are.

        Raises StorageError or MetainfoError if the torrent stops with an error first, or is
        removed."""
        core = self._core
        while not core.finished.is_set():
            if isinstance(core.stage, Failed):
                raise core.stage.raised()
            if core.gone:
                raise StorageError(f"{self.name} was removed before it was complete")
            await core.changed.wait()
        path = self.path
        assert path is not None
        return path

    def summary(self) -> Summary:
        """The torrent in one line."""
        now, stage, limits = trio.current_time(), self._core.stage, self._core.connections.limits
        peers = self._core.connections.peers.values()
        down = sum(peer.down.value(now) for peer in peers)
        left = stage.swarm.picker.holdings.bytes_left if isinstance(stage, Active) else 0
        hiding = stage.swarm.hiding if isinstance(stage, Active) else None
        return Summary(
            id=self.id,
            name=self.name,
            state=self.state,
            progress=self.progress,
            size=self.size,
            downloaded=self.downloaded,
            uploaded=self.uploaded,
            wasted=self.wasted,
            down_rate=down,
            up_rate=sum(peer.up.value(now) for peer in peers),
            peers=len(peers),
            error=self.error,
            why=self.why,
            magnet=str(self.magnet),
            path=str(self.path) if self.path else None,
            eta=left / down if left and down > 1 else None,
            limit_up=limits.up.rate,
            limit_down=limits.down.rate,
            warning=self.warning,
            super_seed=self._core.super_seed,
            spread=hiding.spread if hiding is not None else None,
            published=self.published,
            superseded=self.superseded,
            not_published=self.not_published,
            reused=self.reused,
            labels=self.labels,
            ratio=self.ratio,
        )

    def watch(self, *, per_second: float = 2.0, repeat_after: float | None = None) -> Watch:
        """Summaries as they change, for `async for`: one at once, then one whenever something is
        different, at most `per_second` of them; and the same one again when nothing has changed for
        `repeat_after` seconds, unless that is None. Ends when the torrent is gone: removed, or its
        node closed.

        Nothing is queued: a slow reader gets the newest summary, not those it missed. The loop may
        be left or cancelled at any time, with nothing to close. Raises ValueError unless both
        numbers are positive."""
        for number in (per_second, repeat_after):
            if number is not None and not number > 0:
                raise ValueError(f"expected a positive number, got {number}")
        core = self._core
        return Watch(
            self.summary,
            core.changed.wait,
            lambda: core.gone,
            interval=1 / per_second,
            repeat_after=repeat_after,
        )

    def peers(self) -> list[PeerInfo]:
        """The connections of this torrent."""
        now = trio.current_time()
        pieces = self.metainfo.geometry.piece_count if self.metainfo else 0
        return [peer.info(pieces, now) for peer in self._core.connections.peers.values()]

    def files(self) -> list[FileInfo]:
        """The files of this torrent, pad files left out; empty while the metadata is not known."""
        core, metainfo = self._core, self.metainfo
        named = core.place.named(metainfo) if metainfo is not None else None
        return inventory.files(named, inventory.have_of(core), core.select, core.priorities)

    def pieces(self) -> bytes:
        """A bit for each piece, 1 where it is verified, the first one the highest (BEP 3); empty
        while that is not known."""
        have = inventory.have_of(self._core)
        return have.to_wire() if have is not None else b""

    def piece_states(self) -> bytes:
        """A byte for each piece, one of `PieceState`; empty while that is not known."""
        return inventory.piece_states(self._core)

    def availability(self) -> list[int]:
        """For each piece, how many of those who are connected have it."""
        return inventory.availability(self._core)

    @property
    def paused(self) -> bool:
        """It is to stand still, as its user said, or as it was shared enough; `state` follows as
        soon as its connections are closed."""
        return self._core.paused

    @property
    def folder(self) -> Path:
        """Where its content lies, or will lie: what it is called is in there."""
        place = self._core.place
        return place.root.parent if place.shared else place.root

    @property
    def stalled(self) -> bool:
        """It is at work, and nothing has moved for long (`Config.stalled_after`)."""
        return self._core.keeping.still >= self._core.node.config.stalled_after

    @property
    def verified(self) -> int:
        """Verified bytes, wanted or not."""
        return inventory.verified_bytes(self.metainfo, inventory.have_of(self._core))

    @property
    def left(self) -> int:
        """Wanted bytes that are not verified."""
        return inventory.bytes_left(self._core, self.size)

    @property
    def unchecked(self) -> int:
        """While it is checked, the bytes that were verified before and are not looked at yet."""
        return inventory.unchecked_bytes(self._core)

    @property
    def obtainable(self) -> int:
        """Of these, the bytes that somebody who is connected has."""
        return inventory.obtainable_bytes(self._core, self.left)

    # -- what users ask -------------------------------------------------------------------------

    async def pause(self) -> None:
        """Close all connections and stop; survives a restart."""
        await self._commands.pause()

    async def resume(self) -> None:
        """Go on after a pause or an error."""
        await self._commands.resume()

    async def supersede(self) -> None:
        """Another version lies by now where this torrent is shared from: serve what is left of it,
        and want nothing. Ends when it is shared again. Raises InputError unless it is shared."""
        await self._commands.supersede()

    async def set_super_seed(self, on: bool) -> None:
        """Show pieces one by one until all were seen at other peers, as `Node.share` tells; or all
        at once, from now on. Turned on, it closes all connections: they know what is here."""
        await self._commands.super_seed(on)

    async def remove(self, *, delete_data: bool = False) -> Removal:
        """Stop and be forgotten; see `Node.remove`."""
        return await self._core.node.remove(self.info_hash, delete_data)

    async def recheck(self) -> None:
        """Hash everything on disk again, whatever was believed of it; what is gone is fetched
        again.

        Raises InputError while the metadata is not known."""
        await self._commands.recheck()

    async def move(self, folder: Path | str, *, wait: bool = True) -> None:
        """Have its content in this folder from now on, also where that is on another disk. While
        that is done it is held, in the state `moving`: others see all of it at the old place, and
        then all of it at the new one. It goes on after a restart, or a crash. Files that are not
        this torrent's stay, and nothing is replaced.

        Returns when it is done or, without `wait`, when it has begun. Raises InputError or
        StorageError, and then the content is where it was; without `wait`, `warning` says later
        what went wrong. To move it again, or back, gives up what is not done."""
        await self._commands.carry(absolute(folder), wait=wait)

    async def rename(self, path: str, name: str) -> None:
        """Give a file or folder of it another name on this disk: `path` is what it is called now,
        from the torrent's name on, as `Album/cd1/01.flac`. What others know of the torrent does
        not change. Raises InputError or StorageError; then nothing has changed."""
        await self._commands.rename(path, name)

    async def look_in(self, folder: Path | str) -> None:
        """Its content lies in this folder, and is checked there; what is at the old place stays,
        and is nobody's. Raises InputError."""
        await self._commands.look_in(absolute(folder))

    def add_peers(self, peers: Sequence[HostPort]) -> None:
        """Peers to connect to, as those a magnet link names. Host names are not resolved: a link
        must not make us ask somebody's DNS."""
        self._core.add_peers(peers)

    def set_limits(self, *, up: NewRate = ..., down: NewRate = ...) -> None:
        """Bytes per second all connections of this torrent may send and receive from now on, and
        after a restart: None is no limit, `...` leaves it as it is. The node's limits hold as well.
        Raises InputError."""
        self._commands.set_limits(up, down)

    async def set_labels(self, labels: Sequence[str]) -> None:
        """Words to find and sort it by; they stay on this node. Raises InputError."""
        await self._commands.label(labels)

    async def set_seeding_limits(self, limits: SeedingLimits) -> None:
        """When it has been shared enough: of its own, or as the node has it."""
        await self._commands.limit_seeding(limits)

    async def set_files(
        self, select: Selection | None, priorities: Mapping[int, int] | None = None
    ) -> None:
        """Want the files of these inclusive ranges of indices and no others; None is all. Of what
        is not wanted any more nothing is asked for, and what is here of it stays.

        `priorities` of files are 1 (pieces of it are asked for before all others), 0, or -1 (after
        all others), and 0 for those not named; None leaves them as they are. Raises InputError,
        also while the files are not known, and StorageError where a file that is wanted now is
        somebody else's; then nothing has changed."""
        await self._commands.set_files(select, priorities)

    async def open(self, file: int) -> Reader:
        """Read a file, also while it loads: `with await torrent.open(0) as reader`. What it needs
        is asked for before all else, and at once, wherever it goes. A file that was not wanted is
        from now on. Raises InputError, also while the files are not known, and as `set_files`."""
        metainfo = self.metainfo
        if metainfo is None:
            raise InputError(f"the files of {self.name} are not known yet")
        if not 0 <= file < len(metainfo.files) or metainfo.files[file].pad:
            raise InputError(f"there is no file {file} in {self.name}")
        if not is_selected(self.select, file):
            await self.set_files([*(self.select or ()), (file, file)])
        return self._supervisor.readers.open(file, metainfo.geometry)

    def set_sequential(self, on: bool) -> None:
        """Ask for pieces from the first to the last, and not for the rarest."""
        self._commands.set_sequential(on)

    def announce(self) -> None:
        """Look for peers and be announced now, not only when it is time for that."""
        self._core.discovery.hurry()

    async def save(self) -> None:
        """Write down what changed, now, and not only within half a minute. `warning` says how that
        went."""
        await self._record.save()


def behind(torrent: Torrent) -> Supervisor:
    """What runs it. For the node, the lab and tests; no part of the interface."""
    return torrent._supervisor


def facts(torrent: Torrent) -> Facts:
    """All of it but for what its connections and time change: what was made of equal ones is the
    same. Cheap, as `clock` is: thousands may be compared for each question. For those who tell of
    all torrents of a node; no part of the interface."""
    return facts_of(torrent._core, torrent._record)


def clock(torrent: Torrent) -> Clock:
    """What time changes of it."""
    return clock_of(torrent._core)
