"""Links as a node has them: those it follows and those it publishes, their records and their tasks.

The rule: a link is a task of its own, and ends no other. A record that cannot be read is set aside
and told; the link can be given anew.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import trio

from dht_torrent.dht.items import KEY_SIZE, MAX_SALT, SigningKey
from dht_torrent.engine.following.followed import Followed
from dht_torrent.engine.following.follower import FOLLOWED, Follower
from dht_torrent.engine.following.host import FOLDER, LinkContext, LinkHost
from dht_torrent.engine.following.place import LinkPlace
from dht_torrent.engine.following.publication import PUBLISHED, Publication
from dht_torrent.engine.following.records import (
    FollowRecord,
    PublishRecord,
    decode_follow,
    decode_publish,
    target_of,
)
from dht_torrent.engine.keys import DEFAULT, KeyStore
from dht_torrent.engine.torrent.context import NodeContext
from dht_torrent.engine.torrent.torrent import Torrent
from dht_torrent.errors import InputError
from dht_torrent.filenames import printable, sanitise
from dht_torrent.ids import InfoHash
from dht_torrent.magnet import MutableLink

logger = logging.getLogger(__name__)


class HasLink(Protocol):
    """What belongs to a link."""

    @property
    def link(self) -> MutableLink: ...


_Link = TypeVar("_Link", bound=HasLink)

MIN_PREFIX = 4
"""Hex digits that name a link."""


@dataclass(slots=True)
class _Task:
    """What runs a link."""

    scope: trio.CancelScope
    ended: trio.Event


class LinkService:
    """The links of a node. `run` is its task."""

    def __init__(
        self, context: NodeContext, *, keys: random.Random, clock: Callable[[], float]
    ) -> None:
        """`keys` makes secrets, and `clock` gives Unix time."""
        self.warnings: list[str] = []
        """Of records that could not be restored, a line each."""
        self._node = context
        self._config = context.config.follow
        self._dice = keys
        self._context = LinkContext(
            dht=context.dht,
            disk=context.disk,
            state=context.state,
            config=self._config,
            rng=context.rng,
            clock=clock,
            turns=trio.Semaphore(self._config.at_once),
            adding=trio.Lock(),
            wanted_elsewhere=self._wanted_elsewhere,
        )
        self._followed: dict[str, Follower] = {}
        self._published: dict[str, Publication] = {}
        self._keys: dict[str, SigningKey] = {}  # where there is no state directory
        self._tasks: dict[Follower | Publication, _Task] = {}
        self._host: LinkHost | None = None
        self._nursery: trio.Nursery | None = None
        self._ready = trio.Event()
        self._adding = trio.Lock()

    async def run(self) -> None:
        """A service, after `load`: runs the links of an earlier run, and those that are given."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                spread = min(self._config.start_spread, float(len(self._followed)))
                for followed in self._followed.values():
                    first = self._node.rng.uniform(0, spread)
                    self._start(followed, partial(followed.run, first=first))
                for published in self._published.values():
                    self._start(published, published.run)
                self._ready.set()
                await trio.sleep_forever()
        finally:
            self._nursery = None
            self._ready = trio.Event()

    # -- following ------------------------------------------------------------------------------

    @property
    def torrents(self) -> Mapping[InfoHash, Torrent]:
        """Those of the node."""
        return self._host.torrents if self._host is not None else {}

    @property
    def followed(self) -> list[Followed]:
        """Those that are followed."""
        return [Followed(one) for one in self._followed.values()]

    async def follow(
        self, link: MutableLink, output: Path | None, keep: int | None, default: Path
    ) -> Followed:
        """See `Node.follow`. `default` is where folders of links go."""
        if keep is not None and not 0 <= keep <= self._config.max_kept:
            raise InputError(f"a link keeps 0 to {self._config.max_kept} old versions")
        host = await self._running()
        async with self._adding:
            present = self._followed.get(target_of(link).hex())
            if present is not None:
                if output is not None and output != present.output:
                    raise InputError(f"{link.title} is followed already, in {present.output}")
                if keep is not None:
                    await present.keep_more(keep)
                present.hurry()
                return Followed(present)
            if len(self._followed) >= self._config.max_links:
                raise InputError(f"one node follows at most {self._config.max_links:,} links")
            root = output if output is not None else default / folder_name(link)
            for other in self._followed.values():
                if other.output == root:
                    raise InputError(f"{root} is where {other.link.title} is; choose another")
            await self._context.disk.run(LinkPlace(root).check)
            record = FollowRecord(
                link=link, output=root, keep=self._config.kept if keep is None else keep
            )
            follower = Follower(record, self._context, host)
            await follower.save()
            self._followed[follower.id] = follower
            self._start(follower, follower.run)
            return Followed(follower)

    async def unfollow(self, which: str, *, delete_data: bool = False) -> Followed:
        """See `Node.unfollow`."""
        await self._running()
        follower = find_link(which, self._followed)
        await self._stop(follower)
        try:
            await follower.end(delete_data=delete_data)
        finally:
            if follower.gone:
                self._followed.pop(follower.id, None)
            else:
                self._start(follower, follower.run)
        return Followed(follower)

    # -- publishing -----------------------------------------------------------------------------

    @property
    def published(self) -> list[Publication]:
        """Those that are published."""
        return list(self._published.values())

    async def publish(self, path: Path, name: str, key_name: str = DEFAULT) -> MutableLink:
        """See `Node.publish_link`."""
        salt = salt_of(name)
        host = await self._running()
        seed = self._dice.randbytes(KEY_SIZE)
        async with self._adding:
            key = await self._read_key(key_name) or await self._make_key(key_name, seed)
            link = MutableLink(key.public, salt)
            published = self._published.get(target_of(link).hex())
            if published is None and len(self._published) >= self._config.max_links:
                raise InputError(f"one node publishes at most {self._config.max_links:,} links")
        if published is None:
            record = PublishRecord(link=link, key_name=key_name, path=path)
            made = Publication(record, self._context, host, self._read_key)
            await made.renew(path)
            # Somebody may have published the same meanwhile.
            published = self._published.setdefault(made.id, made)
            if published is made:
                self._start(made, made.run)
                return link
        await published.renew(path)
        return link

    async def unpublish(self, which: str) -> Publication:
        """See `Node.unpublish_link`."""
        await self._running()
        published = find_link(which, self._published)
        await self._stop(published)
        try:
            await published.end()
        except BaseException:
            self._start(published, published.run)
            raise
        self._published.pop(published.id, None)
        return published

    async def _read_key(self, name: str) -> SigningKey | None:
        state = self._node.state
        if state is None:
            return self._keys.get(name)
        return await self._context.disk.run(KeyStore(state.path).read, name)

    async def _make_key(self, name: str, seed: bytes) -> SigningKey:
        """A name that is mistyped must not give another link than the one that is followed."""
        state = self._node.state
        if state is None:
            return self._keys.setdefault(name, SigningKey(seed))
        if name != DEFAULT:
            raise InputError(f"there is no key {name}; `dhtnode key new {name}` makes one")
        return await self._context.disk.run(KeyStore(state.path).read_or_make, name, seed)

    # -- within ---------------------------------------------------------------------------------

    async def load(self, host: LinkHost) -> None:
        """Read the records of an earlier run. `host` has the torrents."""
        self._host = host
        state = self._node.state
        if state is None:
            return
        run, load = self._context.disk.run, state.load_folder
        followed, more = await run(lambda: load(FOLDER, FOLLOWED, decode_follow))
        published, others = await run(lambda: load(FOLDER, PUBLISHED, decode_publish))
        self.warnings += [*more, *others]
        for stem, record in followed.items():
            if record.name == stem:
                self._followed[stem] = Follower(record, self._context, host)
        for stem, one in published.items():
            if one.name == stem:
                self._published[stem] = Publication(one, self._context, host, self._read_key)

    async def _running(self) -> LinkHost:
        await self._ready.wait()
        assert self._host is not None
        return self._host

    def _start(self, one: Follower | Publication, run: Callable[[], Awaitable[None]]) -> None:
        assert self._nursery is not None
        task = self._tasks[one] = _Task(trio.CancelScope(), trio.Event())
        what = f"the link {one.link.title}"

        async def own() -> None:
            try:
                with task.scope:
                    await self._node.faults.keep(what, run)
            finally:
                task.ended.set()

        self._nursery.start_soon(own, name=what)

    async def _stop(self, one: Follower | Publication) -> None:
        task = self._tasks.pop(one, None)
        if task is not None:
            task.scope.cancel()
            await task.ended.wait()

    def _wanted_elsewhere(self, info_hash: InfoHash, by: object) -> bool:
        links: list[Follower | Publication] = [*self._followed.values(), *self._published.values()]
        return any(
            version.info_hash == info_hash
            for one in links
            if one is not by
            for version in one.versions
        )


def salt_of(name: str) -> bytes:
    """What tells the links of one key apart, of the name a user gives. Raises InputError."""
    try:
        salt = name.encode()
    except UnicodeEncodeError:
        raise InputError("the name holds half a character (a lone surrogate)") from None
    if not name or name != printable(name):
        raise InputError("a link's name has at least one character, and none that is invisible")
    if len(salt) > MAX_SALT:
        raise InputError(f"a link's name has at most {MAX_SALT} bytes, not {len(salt)}")
    return salt


def folder_name(link: MutableLink) -> str:
    """What the folder of a link is called where none is named: no two links have the same."""
    return f"{sanitise(link.title.encode())[:60]}-{target_of(link).hex()[:8]}"


def find_link(which: str, links: Mapping[str, _Link]) -> _Link:
    """The one of `links`, by their ids, that is meant: by the link itself, the start of its id, or
    its title. Raises InputError if none or many are."""
    text = which.strip()
    if text[:7].lower() == "magnet:":
        text = target_of(MutableLink.parse(text)).hex()
    found = [one for one in links.values() if one.link.title == text]
    if len(text) >= MIN_PREFIX:
        found += [one for key, one in links.items() if key.startswith(text.lower())]
    found = list(dict.fromkeys(found))
    if not found:
        raise InputError(f"no such link here: {which[:200]}")
    if len(found) > 1:
        raise InputError(f"{which[:200]} could mean {len(found)} links; give the link itself")
    return found[0]
