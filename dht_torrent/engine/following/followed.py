"""A link that is followed, as users see it."""

from __future__ import annotations

from pathlib import Path

from dht_torrent.engine.following.follower import Follower
from dht_torrent.engine.following.records import SeenVersion
from dht_torrent.engine.following.views import FollowView
from dht_torrent.errors import StorageError
from dht_torrent.ids import InfoHash
from dht_torrent.magnet import MutableLink


class Followed:
    """A link that this node follows. Made by `Node.follow`."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower

    @property
    def link(self) -> MutableLink:
        """As it was given."""
        return self._follower.link

    @property
    def id(self) -> str:
        """Its place in the DHT, 40 hex digits."""
        return self._follower.id

    @property
    def output(self) -> Path:
        """The folder in which its versions are."""
        return self._follower.output

    @property
    def current(self) -> InfoHash | None:
        """The version that users find, all of it; None until there is one."""
        return self._follower.current

    @property
    def path(self) -> Path | None:
        """Where users find it, be it a file or a folder: a path that stays as long as versions have
        one name."""
        return self._follower.path

    @property
    def versions(self) -> tuple[SeenVersion, ...]:
        """Those that are here, or on their way; the newest last."""
        return self._follower.versions

    @property
    def is_followed(self) -> bool:
        """Until `Node.unfollow`."""
        return not self._follower.gone

    def view(self) -> FollowView:
        """A snapshot for people."""
        return self._follower.view()

    def hurry(self) -> None:
        """Look for a new version at once, and try again what went wrong."""
        self._follower.hurry()

    async def switched(self, before: InfoHash | None = None) -> InfoHash:
        """Wait until users find another version than `before`, and return which. Raises
        StorageError when the link is not followed any more."""
        follower = self._follower
        while follower.current is None or follower.current == before:
            if follower.gone:
                raise StorageError(f"{self.link.title} is not followed any more")
            await follower.changed.wait()
        return follower.current

    async def changed(self) -> None:
        """Wait until `view` shows something else; progress and times do not count. Returns at once
        when it is not followed any more."""
        if not self._follower.gone:
            await self._follower.changed.wait()
