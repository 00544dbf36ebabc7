"""What the parts of a torrent share: what is known of it, what is wanted, where it lies, who is
connected, and the stage it is in.

The rule: the stage changes here and nowhere else, and every change is told to those who wait.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import trio

from dht_torrent.engine.dht.dual_stack import DualStack
from dht_torrent.engine.torrent.connections import Connections
from dht_torrent.engine.torrent.content import Content
from dht_torrent.engine.torrent.context import TorrentContext
from dht_torrent.engine.torrent.discovery import Discovery
from dht_torrent.engine.torrent.extensions import Extensions
from dht_torrent.engine.torrent.keeping import Keeping
from dht_torrent.engine.torrent.metadata import MetadataFetch
from dht_torrent.engine.torrent.place import ContentPlace
from dht_torrent.engine.torrent.reusing import Reusing
from dht_torrent.engine.torrent.stages import Active, Checking, Failed, FetchingInfo, Stage
from dht_torrent.engine.torrent.totals import Totals
from dht_torrent.engine.wakeup import AutoResetEvent
from dht_torrent.errors import MetainfoError, OurFault, StorageError
from dht_torrent.ids import Address, HostPort
from dht_torrent.metainfo import Metainfo
from dht_torrent.torrent.pieces import Bitfield
from dht_torrent.torrent.selection import Selection, piece_ranks

logger = logging.getLogger(__name__)


class TorrentCore:
    """The state of a torrent. Lives from its adding to its removal, over all sessions."""

    def __init__(
        self,
        context: TorrentContext,
        place: ContentPlace,
        *,
        select: Selection | None,
        sequential: bool,
        super_seed: bool = False,
        paused: bool,
        keeping: Keeping,
    ) -> None:
        self.context = context
        self.keeping = keeping
        self.node = context.node
        self.place = place
        self.connections = Connections(context)
        self.extensions = Extensions(context, self.connections)
        self.discovery = Discovery(context, self.connections)
        self.totals = Totals(self.connections)
        self.select = tuple(select) if select is not None else None
        """Inclusive ranges of wanted files; None is all."""
        self.priorities: Mapping[int, int] = {}
        """Of files that are not as important as most: 1 is more, -1 is less."""
        self.sequential = sequential
        self.super_seed = super_seed
        """Pieces are to be shown one by one, until all were seen elsewhere."""
        self.published: tuple[str, ...] | None = None
        """Its user wants it in the index, with these tags; None: not there."""
        self.not_published: str | None = None
        """Why it is not there although that was asked for, in a line."""
        self.superseded = False
        """Shared where it lies, and another version lies there by now: whatever is left of this one
        is served, and nothing of it is wanted."""
        self.paused = paused
        """By its user, or as it was shared enough."""
        self.queued = False
        """It waits for its turn."""
        self.no_room: str | None = None
        """Why it stands still until there is more room on its disk, in a line."""
        self.sources: tuple[Path, ...] = ()
        """Files and folders of the user that may hold some of what is missing."""
        self.looked_around = False
        """All of this disk was looked through for what is missing."""
        self.news = AutoResetEvent()
        """Set when more is here, and at each change of stage, for those who read while it loads."""
        self.look_again = False
        """There is more to look for on this disk, or there are more places."""
        self.on_look_again: Callable[[], None] | None = None
        """Hears of that, in a session."""
        self.reusing: Reusing | None = None
        """What is being looked for there."""
        self.reuse_trouble: str | None = None
        """What was wrong with a source, in a line."""
        self.fault: Failed | None = None
        """What it stops with, or has stopped with."""
        self.stage: Stage = self.fetching()
        self.changed = AutoResetEvent()
        """Set at each change of stage, and at the end."""
        self.finished = trio.Event()
        """All that is wanted is here; there is a new one when that is so no longer."""
        self.learned: Metainfo | None = None
        """Metadata that the next session begins with: see `learn`."""
        self.gone = False
        self.attempt = trio.CancelScope()
        """Around what runs now, a session or a rest: cancelled to decide anew what comes next."""
        self.learning = trio.CancelScope()
        """Ends the wait for metadata from peers."""

    @property
    def name(self) -> str:
        """What it is called here."""
        return self.place.names.get((), self.context.name)

    @property
    def metainfo(self) -> Metainfo | None:
        return self.context.metainfo

    @property
    def content(self) -> Content | None:
        return self.place.content

    @property
    def is_published(self) -> bool:
        """It is in the index, or on its way there."""
        return self.published is not None and self.not_published is None

    @property
    def dht(self) -> DualStack | None:
        """Where its peers are looked up; None: nowhere, as it is private."""
        return None if self.context.is_private else self.node.dht

    @property
    def is_complete(self) -> bool:
        return isinstance(self.stage, Active) and self.stage.complete

    @property
    def is_all_here(self) -> bool:
        """All that is wanted was here when it was last looked at, running or not."""
        return self.keeping.completed_at is not None or self.is_complete

    @property
    def ratio(self) -> float:
        """Bytes sent for each that was received; for each that is here, if none was."""
        have = self.content.have if self.content is not None else None
        return ratio_of(self.totals.uploaded, self.totals.downloaded, have, self.metainfo)

    @property
    def wasted(self) -> int:
        """Payload bytes that were of no use, also in earlier runs."""
        live = self.stage.swarm.wasted if isinstance(self.stage, Active) else 0
        return self.totals.wasted_before + live

    def ranks(self) -> bytes | None:
        """How important each piece is: see `selection.piece_ranks`."""
        if self.metainfo is None or not self.priorities:
            return None
        return piece_ranks(self.select, self.priorities, self.metainfo.geometry)

    # -- stages ---------------------------------------------------------------------------------

    def fetching(self) -> FetchingInfo:
        """The stage in which the metadata is asked of peers, from its beginning."""
        return FetchingInfo(MetadataFetch(self.context, self.connections), self.extensions)

    def enter(self, stage: Stage) -> None:
        """The torrent is in this stage from now on."""
        self.stage = stage
        if isinstance(stage, FetchingInfo | Checking | Active):
            self.connections.handler = stage
        self.tell()

    def tell(self) -> None:
        """Wake those who wait for a change."""
        self.changed.set()
        self.news.set()

    def leave_exchange(self) -> None:
        """No pieces are exchanged any more; what that was like is counted."""
        if isinstance(self.stage, Active):
            self.totals.wasted_before += self.stage.swarm.wasted
            self.stage = Checking(self.extensions)

    def fail(self, error: StorageError | MetainfoError | OurFault) -> None:
        """Stop with `error`. What may pass by itself, as a full disk, is tried again after a
        while."""
        retry_at = None
        if isinstance(error, StorageError) and error.passing:
            retry_at = trio.current_time() + self.node.config.torrent.disk_retry
        self.fault = Failed(error, retry_at)
        self.finished = trio.Event()
        logger.info("%s: stopped: %s", self.name, error)
        self.attempt.cancel()

    def forgive(self) -> None:
        """The error is history from now on, not only when it is decided what comes next."""
        self.fault = None
        if isinstance(self.stage, Failed):
            self.enter(Checking(self.extensions))

    def unfinished(self) -> None:
        """Something that is wanted is missing, or may be."""
        self.finished = trio.Event()

    # -- what comes from elsewhere --------------------------------------------------------------

    def learn(self, metainfo: Metainfo) -> None:
        """The metadata is known now.

        If it is an SSL torrent's, the present session ends: its connections are with who knows
        whom, as their certificates could not be verified. The next one knows the metadata from its
        beginning, and no stranger is ever told of it."""
        if self.context.metainfo is not None:
            return
        if metainfo.ssl_cert is not None or self.context.is_ssl:
            self.learned = metainfo
            self.attempt.cancel()
            return
        self.context.metainfo = metainfo
        self.discovery.enter()
        if isinstance(self.stage, FetchingInfo):
            self.learning.cancel()

    def adopt(self) -> bool:
        """What was learned since the last session is known from now on. False: nothing was."""
        learned, self.learned = self.learned, None
        if learned is None or self.context.metainfo is not None:
            return False
        self.context.metainfo = learned
        return True

    def look_around_again(self) -> None:
        """More may be found on this disk than there was, or more is missing."""
        self.looked_around = False
        self.look_again = True
        if self.on_look_again is not None:
            self.on_look_again()

    def add_peers(self, peers: Sequence[HostPort]) -> None:
        """Peers named by the user. Names are not resolved: a link must not make us ask somebody's
        DNS."""
        self.connections.found([Address(*p) for p in peers if Address(*p).is_usable], "magnet")

    async def look(self) -> None:
        """Compare the files with what they were when last looked at. Stops with an error if any
        changed or vanished."""
        content = self.content
        if content is None or not isinstance(self.stage, Active):
            return
        try:
            error = await content.look()
        except StorageError as trouble:
            self.fail(trouble)
            return
        if error is not None and isinstance(self.stage, Active):
            if self.superseded:  # less of it is left: the next session finds out what
                self.attempt.cancel()
                self.leave_exchange()
                return
            self.fail(error)
            self.leave_exchange()  # at once: a waiter for completion must not be told of it
            assert self.fault is not None
            self.enter(self.fault)

    def confined(self, *, ends: Callable[[str], None] | None) -> AbstractContextManager[None]:
        """Around what is this torrent's and no single connection's: a bug of ours there stops it,
        for its user to see and to resume, and the others go on."""
        name = f"torrent {self.context.info_hash.hex()[:8]} {self.name!r}"
        return self.node.faults.confined(name, ends=ends)


def ratio_of(
    uploaded: int, downloaded: int, have: Bitfield | None, metainfo: Metainfo | None
) -> float:
    """See `TorrentCore.ratio`."""
    here = 0
    if have is not None and metainfo is not None and not downloaded:
        here = min(have.count * metainfo.geometry.piece_length, metainfo.geometry.total)
    return uploaded / (downloaded or here or 1)
