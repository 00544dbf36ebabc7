"""A request, understood: which search of ours it is. Whatever else it says is left out, as clients
send much that only some indexers know."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dht_torrent.engine.search.views import MAX_RESULTS, MAX_TEXT, SearchQuery
from dht_torrent.errors import InputError

MAX_LISTED: Final = 100
"""Results in one answer."""
MAX_OFFSET: Final = MAX_RESULTS - MAX_LISTED
"""Where the last page may begin."""
MAX_CATEGORIES: Final = 50
PATIENCE: Final = 6.0
"""Seconds that the network gets. Who asks waits for the whole answer."""
RECENT: Final = 14 * 86400.0
"""Seconds: what is listed to who asks for nothing, to see what is new."""

SEARCHES: Final[Mapping[str, tuple[str, ...]]] = {
    "search": ("q",),
    "tvsearch": ("q", "season", "ep"),
    "movie": ("q", "year"),
    "music": ("q", "artist", "album", "year"),
    "book": ("q", "author", "title"),
}
"""What can be asked, and what each of them may say."""

_NUMBER: Final = re.compile(r"\d{1,9}", re.ASCII)
_DAY: Final = re.compile(r"(\d{1,2})/(\d{1,2})", re.ASCII)


class WrongParameter(InputError):  # noqa: N818 - Torznab's name for it
    """A parameter makes no sense."""


@dataclass(frozen=True, slots=True)
class TorznabRequest:
    """What somebody wants to see."""

    query: SearchQuery
    categories: frozenset[int]
    offset: int
    limit: int


def asked(params: Mapping[str, str], now: float) -> TorznabRequest:
    """Of `t=search` and the like; `now` in Unix time. Raises WrongParameter."""
    kind = params["t"]
    offset = min(_number(params, "offset", 0), MAX_OFFSET)
    limit = min(_number(params, "limit", MAX_LISTED), MAX_LISTED) or MAX_LISTED
    words = [
        params[name].strip()
        for name in SEARCHES[kind]
        if name not in ("season", "ep") and params.get(name)
    ]
    prefix = False
    if kind == "tvsearch":
        episode, prefix = _episode(params.get("season", "").strip(), params.get("ep", "").strip())
        words += episode
    text = " ".join(words)[:MAX_TEXT]
    return TorznabRequest(
        SearchQuery(
            text=text,
            prefix=prefix,
            since=None if text else now - RECENT,
            limit=offset + limit,
            patience=PATIENCE,
        ),
        _categories(params.get("cat", "")),
        offset,
        limit,
    )


def _episode(season: str, episode: str) -> tuple[list[str], bool]:
    """The words that names have for it, and whether the last may go on."""
    season = season.lower().removeprefix("s")
    if not season:
        return [], False
    if not _NUMBER.fullmatch(season):
        raise WrongParameter("season")
    if day := _DAY.fullmatch(episode):
        return [season, day[1].zfill(2), day[2].zfill(2)], False
    episode = episode.lower().removeprefix("e")
    if len(season) == 4:
        return [season], False
    if not episode:
        return [f"s{season.zfill(2)}"], True
    if not _NUMBER.fullmatch(episode):
        raise WrongParameter("ep")
    return [f"s{season.zfill(2)}e{episode.zfill(2)}"], False


def _number(params: Mapping[str, str], name: str, default: int) -> int:
    text = params.get(name, "").strip()
    if not text:
        return default
    if not _NUMBER.fullmatch(text):
        raise WrongParameter(name)
    return int(text)


def _categories(text: str) -> frozenset[int]:
    numbers = [part.strip() for part in text.split(",", MAX_CATEGORIES)[:MAX_CATEGORIES]]
    if any(number and not _NUMBER.fullmatch(number) for number in numbers):
        raise WrongParameter("cat")
    return frozenset(int(number) for number in numbers if number)
