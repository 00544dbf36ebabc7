"""What Prowlarr and its like ask of the search, and what they are told."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import httpx
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from trio.testing import MockClock

from dht_torrent.daemon.tokens import WebTokens
from dht_torrent.daemon.torznab.api import MAX_SEARCHES, PATH, Torznab
from dht_torrent.daemon.torznab.asking import MAX_OFFSET, SEARCHES, WrongParameter, asked
from dht_torrent.daemon.torznab.categories import chosen, guessed
from dht_torrent.daemon.torznab.feed import TORZNAB, listing
from dht_torrent.errors import StorageError
from tests.helpers.fake_node import FakeNode, result

TOKENS = WebTokens(b"t" * 32)
NOW = 1_790_000_000.0
ATTR = f"{{{TORZNAB}}}attr"


async def asks(node: FakeNode, **params: Any) -> httpx.Response:
    app = Starlette(routes=Torznab(node, TOKENS, clock=lambda: NOW).routes())  # type: ignore[arg-type]
    params = {"apikey": TOKENS.token("torznab")} | params
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://node:80"
    ) as client:
        return await client.get(PATH, params=params)


def attributes(item: ElementTree.Element) -> dict[str, str]:
    return {one.get("name", ""): one.get("value", "") for one in item.iter(ATTR)}


async def items(node: FakeNode, **params: Any) -> list[ElementTree.Element]:
    answer = await asks(node, **params)
    assert answer.status_code == 200, answer.text
    return list(ElementTree.fromstring(answer.content).iter("item"))


# -- requests -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "text", "prefix"),
    [
        ({"t": "search", "q": "ubuntu server"}, "ubuntu server", False),
        ({"t": "tvsearch", "q": "Some Show", "season": "1", "ep": "2"}, "Some Show s01e02", False),
        ({"t": "tvsearch", "q": "Some Show", "season": "S11"}, "Some Show s11", True),
        (
            {"t": "tvsearch", "q": "News", "season": "2026", "ep": "5/3"},
            "News 2026 05 03",
            False,
        ),
        ({"t": "tvsearch", "q": "News", "season": "2026"}, "News 2026", False),
        ({"t": "movie", "q": "A Film", "year": "1999", "imdbid": "tt1"}, "A Film 1999", False),
        ({"t": "music", "artist": "Band", "album": "First"}, "Band First", False),
        ({"t": "book", "author": "Who", "title": "What"}, "Who What", False),
    ],
)
def test_a_request_is_a_search_by_words(params: dict[str, str], text: str, prefix: bool) -> None:
    query = asked(params, NOW).query
    assert (query.text, query.prefix, query.since) == (text, prefix, None)


def test_who_asks_for_nothing_is_shown_what_is_new() -> None:
    query = asked({"t": "search"}, NOW).query
    assert query.text == ""
    assert query.since == NOW - 14 * 86400


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": "x"},
        {"offset": "-1"},
        {"cat": "5000,tv"},
        {"t": "tvsearch", "season": "one"},
        {"t": "tvsearch", "season": "1", "ep": "1-2"},
        {"limit": "1" * 400},
    ],
)
async def test_what_makes_no_sense_is_named(wrong: dict[str, str]) -> None:
    node = FakeNode()
    answer = await asks(node, **{"t": "search", "q": "x", **wrong})
    assert answer.status_code == 400
    error = ElementTree.fromstring(answer.content)
    assert (error.tag, error.get("code")) == ("error", "201")
    assert error.get("description", "").count("(") == 1
    assert not node.searches


@given(
    st.dictionaries(
        st.sampled_from(["q", "season", "ep", "cat", "offset", "limit", "year", "artist"]),
        st.text(max_size=30) | st.integers(0, 10**12).map(str),
    ),
    st.sampled_from(sorted(SEARCHES)),
)
def test_any_request_is_a_bounded_search_or_refused(params: dict[str, str], kind: str) -> None:
    try:
        wanted = asked({**params, "t": kind}, NOW)
    except WrongParameter:
        return
    assert 1 <= wanted.limit <= 100
    assert 0 <= wanted.offset <= MAX_OFFSET
    assert 1 <= wanted.query.limit <= 1000


# -- answers --------------------------------------------------------------------------------------


async def test_a_result_is_all_that_a_client_needs_to_fetch_it(autojump_clock: MockClock) -> None:
    node = FakeNode()
    node.found = [result(1, name="Some.Show.S01E02.1080p"), 0.5, result(2, size=None, seeds=None)]
    first, second = await items(node, t="search", q="show")
    found = result(1)
    assert first.findtext("title") == "Some.Show.S01E02.1080p"
    assert first.findtext("guid") == found.id
    assert first.findtext("link") == found.magnet
    assert first.findtext("pubDate") == "Tue, 14 Nov 2023 22:13:20 GMT"
    enclosure = first.find("enclosure")
    assert enclosure is not None
    assert enclosure.attrib == {
        "url": found.magnet,
        "length": str(found.size),
        "type": "application/x-bittorrent",
    }
    told = attributes(first)
    assert told["infohash"] == found.id
    assert told["magneturl"] == found.magnet
    assert told["category"] == "5000"
    assert (told["seeders"], told["peers"], told["leechers"]) == ("3", "7", "4")
    assert attributes(second)["seeders"] == "7", "nobody takes what has none"
    assert second.findtext("size") == "0"


async def test_of_whom_nobody_has_seen_peers_none_are_told(autojump_clock: MockClock) -> None:
    node = FakeNode()
    node.found = [result(1, peers=None, seeds=None)]
    (item,) = await items(node, t="search", q="thing")
    assert not {"seeders", "peers", "leechers"} & attributes(item).keys()


async def test_pages_follow_each_other(autojump_clock: MockClock) -> None:
    node = FakeNode()
    node.found = [result(number, score=1 - number / 100) for number in range(30)]
    pages = [
        await items(node, t="search", q="thing", offset=offset, limit=10) for offset in (0, 10, 20)
    ]
    ids = [item.findtext("guid") for page in pages for item in page]
    assert ids == [f"{number:040x}" for number in range(30)]


async def test_only_the_categories_that_were_asked_for_are_told(autojump_clock: MockClock) -> None:
    node = FakeNode()
    names = ["A Show S02E03 720p", "A Film 2019 1080p BluRay", "A Band FLAC", "what is it"]
    node.found = [result(number, name=name) for number, name in enumerate(names)]
    titles = {item.findtext("title") for item in await items(node, t="search", q="a", cat="5040")}
    assert titles == {"A Show S02E03 720p", "what is it"}
    everything = await items(node, t="search", q="a")
    told = [attributes(item)["category"] for item in everything]
    assert sorted(told) == ["2000", "3000", "5000", "8000"]


@pytest.mark.parametrize(
    ("name", "category"),
    [
        ("The.Show.S01E02.mkv", 5000),
        ("The Show 2x05", 5000),
        ("The Show Season 3 Complete", 5000),
        ("Daily.News.2026.05.03.720p", 5000),
        ("A Film (1999) [1080p]", 2000),
        ("A_Film_1999_BDRip_x264", 2000),
        ("ubuntu-24.04.2-live-server-amd64.iso", 4000),
        ("Band - Album (1999) [FLAC]", 3000),
        ("Author - Title (2020).epub", 7000),
        ("A Game PS4", 1000),
        ("holiday pictures", None),
    ],
)
def test_names_say_what_a_torrent_is(name: str, category: int | None) -> None:
    assert guessed(name) == category


@given(st.text(max_size=200), st.frozensets(st.integers(0, 200_000), max_size=5))
def test_what_is_listed_is_in_a_category_that_was_asked_for(
    name: str, categories: frozenset[int]
) -> None:
    category = chosen(name, categories)
    tops = {number - number % 1000 for number in categories}
    assert category is None or not categories or category in tops | {8000}


@given(st.text(max_size=100))
def test_any_name_is_text_in_well_formed_xml(name: str) -> None:
    data = listing([(result(1, name=name), 8000)], offset=0, total=1, link="http://node/")
    (item,) = ElementTree.fromstring(data).iter("item")
    told = item.findtext("title")
    assert told is not None
    kept = "".join(c for c in name if c in "\t\n" or "\x20" <= c < "\ud800")
    assert set(kept) <= set(told) | {"\r"}
    assert len(list(item)) == len(list(next(ElementTree.fromstring(data).iter("item"))))


async def test_what_it_can_do_is_told() -> None:
    answer = await asks(FakeNode(), t="caps")
    caps = ElementTree.fromstring(answer.content)
    assert caps.tag == "caps"
    searches = {one.tag: one.get("supportedParams") for one in caps.iterfind("searching/*")}
    assert searches["tv-search"] == "q,season,ep"
    assert searches["search"] == "q"
    numbers = [one.get("id") for one in caps.iterfind("categories/category")]
    assert {"2000", "5000", "8000"} <= set(numbers)


# -- who may ask ----------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["", "0" * 32, TOKENS.token("metrics")])
async def test_a_wrong_key_is_refused_before_anything_is_done(key: str) -> None:
    node = FakeNode()
    answer = await asks(node, t="search", q="x", apikey=key)
    assert answer.status_code == 401
    assert ElementTree.fromstring(answer.content).get("code") == "100"
    assert not node.searches


@pytest.mark.parametrize(("t", "code"), [("register", "202"), ("", "202")])
async def test_what_nobody_can_ask_is_refused(t: str, code: str) -> None:
    answer = await asks(FakeNode(), t=t)
    assert ElementTree.fromstring(answer.content).get("code") == code


async def test_a_search_that_fails_says_why(autojump_clock: MockClock) -> None:
    node = FakeNode()
    node.found = [result(1), StorageError("the catalogue is broken")]
    answer = await asks(node, t="search", q="x")
    error = ElementTree.fromstring(answer.content)
    assert (error.get("code"), error.get("description")) == ("900", "the catalogue is broken")


async def test_only_so_many_search_at_a_time(autojump_clock: MockClock) -> None:
    node = FakeNode()
    node.found = [5.0, result(1)]
    app = Starlette(routes=Torznab(node, TOKENS, clock=lambda: NOW).routes())  # type: ignore[arg-type]
    statuses = []

    async def ask() -> None:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://node"
        ) as client:
            key = TOKENS.token("torznab")
            answer = await client.get(PATH, params={"t": "search", "q": "x", "apikey": key})
            statuses.append(answer.status_code)

    for _ in range(2):
        statuses.clear()
        async with trio.open_nursery() as nursery:
            for _ in range(MAX_SEARCHES + 1):
                nursery.start_soon(ask)
        assert sorted(statuses) == [200] * MAX_SEARCHES + [429]
