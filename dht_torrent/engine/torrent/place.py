"""Where the content of a torrent lies or will lie, and the content once it was opened there."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import trio

from dht_torrent.engine.resume import Resume
from dht_torrent.engine.shift import Shift
from dht_torrent.engine.torrent.content import Content
from dht_torrent.engine.torrent.context import NodeContext
from dht_torrent.engine.torrent.sharing import Hashed
from dht_torrent.errors import StorageError
from dht_torrent.metainfo import Metainfo
from dht_torrent.torrent.naming import Names, renamed


@dataclass(frozen=True, slots=True)
class Move:
    """To another place. It is made between two sessions, when nobody reads or writes."""

    root: Path
    shared: bool
    hashed: Hashed | None = None
    stays: bool = False
    """The content is there already, and what lies at the old place is nobody's."""
    done: trio.Event = field(default_factory=trio.Event)


class ContentPlace:
    """A place and its content. The content is opened once the metadata is known."""

    def __init__(
        self,
        node: NodeContext,
        root: Path,
        *,
        shared: bool = False,
        hashed: Hashed | None = None,
        resume: Resume | None = None,
        overwrite: bool = False,
    ) -> None:
        """`root` is the folder the download goes into or, when `shared`, the user's own file or
        folder itself, which is never written. With `overwrite`, files that lie where the download
        belongs and hold something else are replaced."""
        self.root = root
        self.shared = shared
        self.content: Content | None = None
        self.overwrite = overwrite
        """Kept for the content that is yet to be opened."""
        self.names: Names = resume.names if resume else {}
        """What things are called here, where that is not what the torrent calls them."""
        self.shift: Shift | None = resume.shift if resume else None
        """Where it is to go, or goes."""
        self.trouble: str | None = None
        """Why it is not where it was to go, in a line."""
        self._named: tuple[Names, Metainfo] | None = None
        self._node = node
        self._hashed = hashed
        self._resume = resume

    def path(self, metainfo: Metainfo | None) -> Path | None:
        """Where the content is, or None while its name is not known."""
        if self.shared:
            return self.root
        return self.root / self.names.get((), metainfo.name) if metainfo else None

    def named(self, metainfo: Metainfo) -> Metainfo:
        """The torrent with the paths that it has here."""
        if self._named is None or self._named[0] is not self.names:
            self._named = self.names, renamed(metainfo, self.names)
        return self._named[1]

    def open(self, metainfo: Metainfo) -> Content:
        """The content. Raises StorageError when it cannot be opened."""
        if self.content is None:
            self.content = Content(
                self._node.disk,
                self._node.open_storage(self.named(metainfo), self.root, self.shared),
                self.named(metainfo),
                self._node.owners,
                shared=self.shared,
                resume=self._resume,
                hashed=self._hashed,
                max_piece_in_memory=self._node.config.torrent.max_piece_in_memory,
            )
            self._resume = self._hashed = None
        self.content.overwrite = self.content.overwrite or self.overwrite
        self.overwrite = False
        return self.content

    def locate(self, metainfo: Metainfo | None) -> None:
        """Blocking; for `hold`, when the node starts."""
        if metainfo is not None:
            with contextlib.suppress(StorageError):  # it stops with that when it runs
                self.open(metainfo).locate()

    def hold(self) -> None:
        """Take hold of the files that are this torrent's, before it runs. Call after `locate`."""
        if self.content is not None:
            self.content.hold()

    def insist(self) -> None:
        """Overwrite what is in the way of the files that are wanted from now on."""
        if self.content is None:
            self.overwrite = True
        else:
            self.content.overwrite = True

    async def move(self, move: Move) -> StorageError | None:
        """Returns why what lay at the old place could not be cleared away; the move is made all the
        same."""
        trouble: StorageError | None = None
        content, self.content = self.content, None
        try:
            if content is not None:
                if not (move.shared or move.stays or content.untouched):
                    await content.delete()  # written while we were asked to go elsewhere
                content.let_go()
                await content.close()
        except StorageError as error:
            trouble = error
        self.overwrite = self.overwrite or (content is not None and content.overwrite)
        self.root, self.shared, self._hashed = move.root, move.shared, move.hashed
        self._resume = None
        if not move.stays:
            self.names = {}
        return trouble

    async def land(self, metainfo: Metainfo, shift: Shift, resume: Resume) -> None:
        """The content lies elsewhere now; `resume` is what was known of it. From the first moment
        on, whatever comes of the rest."""
        old, self.content = self.content, None
        self.root, self.names, self.shift = shift.root, shift.names, None
        self.overwrite = resume.overwrite
        self._resume = replace(resume, mount=None)
        if old is not None:
            old.let_go()
        with contextlib.suppress(StorageError):  # the next session stops with that
            new = self.open(metainfo)
            if old is not None:
                new.take_over(old)
                await old.close()
            await self._node.disk.run(new.locate)
            new.hold()
