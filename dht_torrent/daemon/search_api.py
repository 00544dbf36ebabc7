"""Search in the control API: what is asked is checked here, and what is found goes out a line at a
time. The rule: a request that is gone, or whose client does not read, costs nothing any more: its
search ends with it.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

from starlette.exceptions import HTTPException

from dht_torrent.daemon.body import check_types
from dht_torrent.daemon.lines import Lines, LinesResponse, failure_of, line_of, plain
from dht_torrent.engine.search.views import SearchQuery, SearchResult
from dht_torrent.errors import ControlError, DhtTorrentError, InputError

if TYPE_CHECKING:
    import trio
    from starlette.datastructures import QueryParams

    from dht_torrent.engine.node import Node
    from dht_torrent.engine.search.results import SearchResults

Json = dict[str, Any]

MAX_SEARCHES = 32
"""Searches at a time. Each may hold a thousand results and has lookups of its own under way."""
MAX_TAGS = 16
MAX_TAG = 32
"""Bytes of UTF-8."""
MAX_REMEMBERED = 10_000
"""Publishers of results shown, so that a user can name them by a few digits."""
MAX_IMPORT = 8 * 1024 * 1024
"""Bytes of JSON lines in one request: what is larger is sent in parts."""
MIN_PREFIX = 8
"""Hex digits of a publisher's key."""

JUDGE: Mapping[str, type] = {"key": str, "trust": str}

_NUMBER = re.compile(r"\d{1,16}", re.ASCII)
_SECONDS = re.compile(r"\d{1,11}(\.\d{1,9})?", re.ASCII)
_KEY = re.compile(r"[0-9a-f]{1,64}", re.ASCII)


class Searches:
    """Those of one control server that are going on, and the publishers they have shown."""

    def __init__(self, node: Node, stopping: trio.Event) -> None:
        self._node = node
        self._stopping = stopping
        self._room = MAX_SEARCHES
        self._publishers: OrderedDict[str, None] = OrderedDict()

    def respond(self, params: QueryParams) -> LinesResponse:
        """The response to `GET search`. Raises InputError; HTTPException(429) when there are too
        many searches already."""
        if not self._room:
            raise HTTPException(429, f"{MAX_SEARCHES} searches are going on already; try again")
        results = self._node.search(query_of(params))
        return LinesResponse(Lines(_Told(self, results), self._stopping), self._going_on(results))

    @asynccontextmanager
    async def _going_on(self, results: SearchResults) -> AsyncIterator[None]:
        self._room -= 1
        try:
            async with results:
                yield
        finally:
            self._room += 1

    def shown(self, publisher: str | None) -> None:
        """A client was told of it."""
        if publisher is not None:
            self._publishers[publisher] = None
            self._publishers.move_to_end(publisher)
            if len(self._publishers) > MAX_REMEMBERED:
                self._publishers.popitem(last=False)

    async def judge(self, given: Json) -> Json:
        """The body of `POST publishers`. Raises InputError."""
        given = check_types(given, JUDGE)
        judge = {"trusted": self._node.trust, "blocked": self._node.block}
        verdict = given.get("trust")
        if verdict not in (*judge, "none"):
            raise InputError("trust must be trusted, blocked or none")
        key = await self._key(given.get("key", ""))
        if verdict == "none":
            await self._node.trust(key, False)
        else:
            await judge[verdict](key)
        return {"key": key, "trust": verdict}

    async def _key(self, text: str) -> str:
        """All of a key, of which the first digits may be given: of one that a result has shown, or
        that is trusted or blocked."""
        digits = text.strip().lower()
        if not _KEY.fullmatch(digits) or len(digits) < MIN_PREFIX:
            raise InputError(f"not a publisher's key, which has 64 hex digits: {text[:80]!r}")
        if len(digits) == 64:
            return digits
        judged = [one.key for one in await self._node.publishers()]
        found = {key for key in (*self._publishers, *judged) if key.startswith(digits)}
        if len(found) > 1:
            raise InputError(f"{len(found)} publishers begin with {digits}; give more digits")
        if not found:
            raise InputError(
                f"no publisher seen lately begins with {digits}; give all 64 hex digits, as "
                "`dhtnode search --json` shows them"
            )
        key: str = found.pop()
        return key


class _Told:
    """The results as JSON has them; what ends the search early is the last line."""

    def __init__(self, searches: Searches, results: SearchResults) -> None:
        self._searches = searches
        self._results = results
        self._failed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> object:
        if self._failed:
            raise StopAsyncIteration
        try:
            result = await anext(self._results)
        except DhtTorrentError as error:
            self._failed = True
            return failure_of(error)
        self._searches.shown(result.publisher)
        return result_facts(result)


def export(node: Node, stopping: trio.Event) -> LinesResponse:
    """The response to `GET catalogue/export`."""
    parts = node.export_catalogue()
    return LinesResponse(_Exported(parts, stopping), aclosing(parts))


class _Exported:
    """Lines of the catalogue. If the last one tells of an error, they are not all."""

    def __init__(self, parts: AsyncGenerator[bytes, None], stopping: trio.Event) -> None:
        self._parts = parts
        self._stopping = stopping
        self._failed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._failed:
            raise StopAsyncIteration
        try:
            if self._stopping.is_set():
                raise ControlError("the node was stopped")
            return await anext(self._parts)
        except DhtTorrentError as error:
            self._failed = True
            return line_of(failure_of(error))


def result_facts(result: SearchResult) -> Json:
    """A result, ready for JSON."""
    facts = plain(result)
    assert isinstance(facts, dict)
    return {**facts, "verified": result.verified}


def query_of(params: QueryParams) -> SearchQuery:
    """What `GET search?q=...` asks. Raises InputError."""
    given: Json = {}
    for name, text in params.multi_items():
        if name not in _PARAMETERS:
            raise InputError(f"unknown option {name[:40]!r}")
        if name in given:
            raise InputError(f"{name} is given twice")
        given[name] = text
    options: Json = {}
    for name, (field, read) in _PARAMETERS.items():
        if name in given:
            options[field] = read(given[name], name)
    return SearchQuery(**options)


def _flag(text: str, name: str) -> bool:
    if text not in ("0", "1"):
        raise InputError(f"{name} must be 0 or 1")
    return text == "1"


def _number(text: str, name: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise InputError(f"{name} must be a whole number, not {text[:40]!r}")
    return int(text)


def _seconds(text: str, name: str) -> float:
    if not _SECONDS.fullmatch(text):
        raise InputError(f"{name} must be seconds, not {text[:40]!r}")
    return float(text)


_PARAMETERS: Mapping[str, tuple[str, Any]] = {
    "q": ("text", lambda text, name: text),
    "prefix": ("prefix", _flag),
    "min_size": ("min_size", _number),
    "max_size": ("max_size", _number),
    "since": ("since", _seconds),
    "limit": ("limit", _number),
    "patience": ("patience", _seconds),
    "network": ("network", _flag),
}


def tags_of(given: Json) -> list[str]:
    """The `tags` in a body: at most MAX_TAGS, each a short text. Raises InputError."""
    tags = given.get("tags") or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise InputError("tags must be a list of texts")
    if len(tags) > MAX_TAGS:
        raise InputError(f"a torrent has at most {MAX_TAGS} tags")
    for tag in tags:
        try:
            size = len(tag.encode())
        except UnicodeEncodeError:
            raise InputError("a tag holds half a character (a lone surrogate)") from None
        if not 1 <= size <= MAX_TAG:
            raise InputError(f"a tag has 1 to {MAX_TAG} bytes, which {tag[:40]!r} has not")
    return tags
