"""What pages are told as it happens: server-sent events, one stream for each page. The rule: a look
at the node is taken when a page is there to see it, once for all pages, and nothing is queued: a
page that reads slowly, or sleeps, is told later how things are then.

A stream is told `hello` (by which the page can say what it looks at closely), `all` or `news` (the
node, and its torrents, in lines), and of what is looked at closely `torrent` and `dht`. `silence`
says that there is no news: a page cannot see otherwise that its connection is dead.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

import trio
from starlette.exceptions import HTTPException
from starlette.responses import Response

from dht_torrent.daemon.body import check_types, read_body
from dht_torrent.daemon.lines import LinesResponse, plain
from dht_torrent.daemon.web import sights
from dht_torrent.daemon.web.board import Board

if TYPE_CHECKING:
    from starlette.requests import Request

    from dht_torrent.engine.node import Node
    from dht_torrent.engine.torrent.torrent import Torrent
    from dht_torrent.ids import InfoHash

MAX_PAGES: Final = 32
"""Pages that are open at a time."""
LOOK_EVERY: Final = 1.0
"""Seconds between two looks at the node; to a page that shows the DHT, in which much happens within
one, half as many."""
CALM: Final = 5
"""Looks, of which a torrent that nothing is expected of is in one, as are the totals."""
CLOSELY: Final = 1.0
"""Seconds between two close looks at one torrent; each takes time for all its pieces ..."""
MOST_OF_TIME: Final = 0.02
"""... but never more than this share of all time."""
SILENCE: Final = 15.0
"""Seconds after which something is said in any case: both sides see that the other is there."""
EVENTS: Final = "text/event-stream"


class Pages:
    """Those that are open."""

    def __init__(self, node: Node, stopping: trio.Event, *, read_only: bool) -> None:
        self._node = node
        self._stopping = stopping
        self._read_only = read_only
        self._board = Board()
        self._looked_at = float("-inf")
        self._positions: dict[InfoHash, int] = {}
        self._pages: dict[str, _Page] = {}

    async def respond(self, request: Request) -> Response:
        """`GET /events`. Raises HTTPException(429) where too many pages are open."""
        if request.method == "HEAD":
            return Response(media_type=EVENTS)
        if len(self._pages) >= MAX_PAGES:
            raise HTTPException(429, f"{MAX_PAGES} pages are open already: close one")
        page = _Page(secrets.token_hex(16))
        answer = LinesResponse(_Stream(self, page, self._stopping), self._open(page))
        answer.headers["content-type"] = EVENTS
        return answer

    async def focus(self, request: Request) -> Response:
        """`POST /events/PAGE`: what this page looks at closely from now on."""
        page = self._pages.get(request.path_params["page"])
        if page is None:
            raise HTTPException(404, "no such page")
        given = check_types(await read_body(request), {"torrent": str, "dht": bool})
        page.torrent, page.dht = given.get("torrent"), given.get("dht", False)
        page.told.clear()
        page.closely_at = float("-inf")
        page.woken.set()
        return Response(status_code=204)

    @asynccontextmanager
    async def _open(self, page: _Page) -> AsyncIterator[None]:
        self._pages[page.name] = page
        try:
            yield
        finally:
            del self._pages[page.name]

    def news(self, page: _Page, now: float) -> list[bytes]:
        """What is to be told to a page."""
        events = []
        if page.seen == 0:
            events.append(_event("hello", {"page": page.name, "read_only": self._read_only}))
        self._look(now)
        news = self._board.since(page.seen)
        page.seen = news.number
        if news:
            told = {"rows": news.rows} if news.all else {"rows": news.rows, "gone": news.gone}
            events.append(_event("all" if news.all else "news", told))
        events += self._closely(page, now)
        return events

    def _look(self, now: float) -> None:
        """At the node, unless that was done just now for another page."""
        if now - self._looked_at < LOOK_EVERY / 2:
            return
        self._looked_at = now
        board, torrents = self._board, self._node.torrents
        board.look()
        board.note("", sights.node_facts(self._node))
        if board.number % CALM == 1:
            board.note("", sights.node_totals(self._node))
        ids: dict[str, None] = {"": None}
        for place, (info_hash, torrent) in enumerate(list(torrents.items())):
            name = info_hash.hex()
            ids[name] = None
            if name not in board:
                added_at = torrent.history.added_at
                board.note(name, {**sights.torrent_facts(torrent), "added_at": added_at})
            elif (place + board.number) % CALM == 0 or self._is_lively(name, torrent):
                board.note(name, sights.torrent_facts(torrent))
        board.keep(ids)
        self._look_at_queue()

    def _look_at_queue(self) -> None:
        """A move of one changes the places of many that are calm otherwise."""
        positions = self._node.queue_positions()
        if positions != self._positions:
            self._positions = positions
            for info_hash, place in positions.items():
                self._board.note(info_hash.hex(), {"queue": place})

    def _is_lively(self, name: str, torrent: Torrent) -> bool:
        """Whether it may have changed since it was noted."""
        value = self._board.value
        if torrent.state != value(name, "state"):
            return True
        if torrent.state in ("metadata", "checking", "downloading"):
            return True
        return bool(value(name, "peers") or value(name, "up") or value(name, "down"))

    def _closely(self, page: _Page, now: float) -> list[bytes]:
        """What is new in what a page looks at closely, part for part."""
        events = []
        if page.torrent is not None and now >= page.closely_at:
            began = trio.current_time()
            torrent = next((t for t in self._node.torrents.values() if t.id == page.torrent), None)
            if torrent is not None:
                parts = page.unheard(sights.torrent_closely(torrent))
                if parts:
                    events.append(_event("torrent", {"id": torrent.id, **parts}))
            took = trio.current_time() - began
            page.closely_at = now + max(CLOSELY, took / MOST_OF_TIME) - 0.05
        if page.dht:
            for family, facts in sights.dht_closely(self._node).items():
                parts = page.unheard(facts, family)
                if parts:
                    events.append(_event("dht", {"family": family, **parts}))
        return events


@dataclass(slots=True)
class _Page:
    """One that is open, and what it knows."""

    name: str
    torrent: str | None = None
    """What it looks at closely ..."""
    dht: bool = False
    """... and whether at the DHT."""
    seen: int = 0
    """The look whose news it was told last."""
    closely_at: float = float("-inf")
    """When the torrent is to be looked at again."""
    told: dict[str, int] = field(default_factory=dict)
    """Digests of the parts it was told."""
    woken: trio.Event = field(default_factory=trio.Event)

    def unheard(self, parts: sights.Json, of: str = "") -> sights.Json:
        """Those that it was not told as they are."""
        new = {}
        for key, value in parts.items():
            value = plain(value)
            digest = hash(json.dumps(value))
            if self.told.get(of + key) != digest:
                self.told[of + key] = digest
                new[key] = value
        return new

    @property
    def pause(self) -> float:
        """Seconds until there may be news."""
        return LOOK_EVERY / 2 if self.dht else LOOK_EVERY


class _Stream:
    """The events of one page, until the node is told to stop. The next is looked for when those
    before it were sent."""

    def __init__(self, pages: Pages, page: _Page, stopping: trio.Event) -> None:
        self._pages = pages
        self._page = page
        self._stopping = stopping
        self._next = float("-inf")

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        page, silent_until = self._page, trio.current_time() + SILENCE
        while True:
            await self._wait()
            if self._stopping.is_set():
                raise StopAsyncIteration
            now = trio.current_time()
            self._next = now + page.pause
            if events := self._pages.news(page, now):
                return b"".join(events)
            if now >= silent_until:
                return _event("silence", None)

    async def _wait(self) -> None:
        """Until it is time to look, the page looks at something else, or the node stops."""
        page = self._page
        page.woken = trio.Event()
        async with trio.open_nursery() as nursery:

            async def cut(event: trio.Event) -> None:
                await event.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(cut, self._stopping)
            nursery.start_soon(cut, page.woken)
            await trio.sleep_until(self._next)
            nursery.cancel_scope.cancel()


def _event(kind: str, value: object) -> bytes:
    """In ASCII, and so in one line: names may hold anything."""
    text = json.dumps(plain(value), ensure_ascii=True, separators=(",", ":"))
    return f"event: {kind}\ndata: {text}\n\n".encode("ascii")
