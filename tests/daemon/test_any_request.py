"""Nothing in a request ends the node, and nothing in it is our bug: whatever comes gets an answer
below 500, in one line, and the node goes on.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
import trio

from dht_torrent import open_node
from dht_torrent.daemon.app import make_app
from dht_torrent.daemon.body import MAX_VALUES
from dht_torrent.daemon.control import HEADER
from dht_torrent.engine.node import Node
from dht_torrent.storage.making import make
from tests.helpers.nodes import local_config

LONE = ["\ud800", "a\udfff", "\udc80\ud83d", "x\udbffy"]
"""Half characters that stand for no byte either."""
ODD = [
    *("", " ", "\0", "a\0b", "\n", "\u202e", "🙂", "..", "/", "//", "~", "%00", "&amp;", "None"),
    *("0", "-1", "1" * 5000, "9" * 20, "0-1,2", "5-1", "a" * 5000, "magnet:", "magnet:?", "::1"),
    *("magnet:?xs=urn:btpk:" + "c" * 64, "magnet:?xs=urn:btpk:" + "c" * 64 + "&s=6e"),
    *("magnet:?xt=urn:btih:" + "a" * 40, "a" * 40, "a" * 32, "127.0.0.1:1", "[::1]:1", "1.2.3.4"),
    *("magnet:?xt=urn:btih:" + "b" * 40 + "&so=0-99999&x.pe=127.0.0.1:9&dn=%ED%A0%80", "\udcff"),
    *LONE,
]
NUMBERS = [0, 1, -1, 2**31, 2**63, -(2**63), 10**30, 10**4000, 1e308, 0.5, 1024, 16384]
KEYS = {
    "torrents": [
        *("source", "torrent", "share", "output", "select", "sequential", "paused"),
        *("piece_length", "private", "publish", "tags"),
    ],
    "publishers": ["key", "trust"],
    "catalogue/import": ["id", "name", "size", "files", "published", "tags", "list", "publishers"],
    "limits": ["up", "down"],
    "followed": ["link", "output", "keep"],
    "followed/remove": ["link", "data"],
    "published": ["path", "name", "name", "key"],
    "published/remove": ["link"],
    "subscriptions": ["link"],
    "subscriptions/remove": ["link"],
    "catalogue/publish": ["name", "key"],
    "dht/put": ["value", "bencoded", "seed", "salt", "seq", "cas"],
    "dht/get": ["target", "key", "salt", "seq", "all"],
    "dht/ping": ["address"],
    "dht/lookup": ["target"],
    "dht/peers": ["info_hash"],
    "dht/scrape": ["info_hash"],
    "dht/sample": ["address", "target"],
    "dht/table": [],
    "dht/size": ["quick"],
}
RAW = [
    *(
        b"",
        b"{",
        b"{}",
        b"[]",
        b"null",
        b"NaN",
        b'{"up": NaN}',
        b'{"up": Infinity}',
        b'{"up": 1e999}',
    ),
    *(
        b'{"up": -Infinity}',
        b"\xff\xfe",
        b'{"output": "\xff"}',
        b'{"a": "\xed\xa0\x80"}',
        b"\0" * 64,
    ),
    *(b"[" * 100_000, b'{"up":' + b"[" * 50_000 + b"]" * 50_000 + b"}", b'{"up":' * 3000),
    *(b'{"up": 1' + b"0" * 5000 + b"}", b'{"\\ud800": 1}', b'{"up": 1, "up": 2}'),
    *(b'{"a": [' + b"[]," * MAX_VALUES + b"[]]}", '{"up": 1}'.encode("utf-16"), b"\xef\xbb\xbf{}"),
]


def any_value(rng: random.Random, inside: Path, depth: int = 0) -> Any:
    kind = rng.randrange(9 if depth < 3 else 7)
    if kind < 3:
        return rng.choice(ODD)
    if kind == 3:
        return rng.choice(NUMBERS)
    if kind == 4:
        return rng.choice([None, True, False])
    if kind < 7:
        return f"{inside}/{rng.choice([*ODD, 'film.bin', 'file/below'])}"
    items = [any_value(rng, inside, depth + 1) for _ in range(rng.randrange(3))]
    return items if kind == 7 else {rng.choice(ODD): item for item in items}


def any_body(rng: random.Random, inside: Path, keys: list[str]) -> bytes:
    if rng.random() < 0.15:
        return rng.choice(RAW)
    count = rng.choice([0, 1, 1, 2, 2, 3, 5])
    chosen = [rng.choice([*keys, *keys, "other", "\ud800"]) for _ in range(count)]
    body = {key: any_value(rng, inside) for key in chosen}
    for key in ("share", "path"):
        if str(body.get(key)) in {"/", "//"}:
            del body[key]  # not all of this machine
    text = json.dumps(body, allow_nan=True)
    return text.encode()


MORE = ["/publish", "/unpublish"]
SEARCH = ["q", "prefix", "min_size", "max_size", "since", "limit", "patience", "network", "other"]


def any_search(rng: random.Random) -> str:
    values = [*ODD, *map(str, NUMBERS[:7]), "1", "0", "ubuntu", "nan", "inf", "1e5"]
    given = [
        (rng.choice(SEARCH), rng.choice(values).encode("utf-8", "surrogatepass"))
        for _ in range(rng.randrange(4))
    ]
    return f"search?{urlencode(given)}{rng.choice(['', '&q=a&patience=0.1', '&q=%ff%00&q', '&='])}"


def any_path(rng: random.Random, ids: list[str]) -> tuple[str, str, list[str]]:
    """Method, path and the keys that mean something there."""
    if rng.random() < 0.15:
        places = [any_search(rng), any_search(rng), "publishers", "catalogue", "catalogue/export"]
        return rng.choice(["GET", "GET", "HEAD"]), rng.choice(places), []
    if rng.random() < 0.6:
        path = rng.choice(list(KEYS))
        return "POST", path, KEYS[path]
    part = rng.choice(
        [*ids, "0" * 40, "%ff%fe", "%00", "..", "%2e%2e", "a", "\u00e9", "x" * 5000, ""]
    )
    tail = rng.choice(
        ["", "/pause", "/resume", "/recheck", "/limits", "/peers", "/files", "/torrent", *MORE]
    )
    query = rng.choice(["", "", "?data=1", "?data=2", "?data=%ff", "?data=0&data=1"])
    method = rng.choice(["GET", "POST", "DELETE", "PUT", "HEAD"])
    keys = ["tags"] if tail == "/publish" else ["up", "down"]
    return method, f"torrents/{part}{tail}{query}", keys


def client_of(node: Node) -> httpx.AsyncClient:
    # What the app raises, this raises: a bug of ours ends the test at once.
    transport = httpx.ASGITransport(app=make_app(node, stop=lambda: None))
    headers = {HEADER: "1", "content-type": "application/json"}
    return httpx.AsyncClient(
        transport=transport, base_url="http://localhost/api/v1", headers=headers, timeout=None
    )


@pytest.mark.parametrize("seed", range(4))
async def test_any_request_gets_an_answer_and_the_node_goes_on(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    inside = tmp_path / "content"
    inside.mkdir()
    (inside / "film.bin").write_bytes(b"x" * 50_000)
    (inside / "file").write_bytes(b"y")
    (inside / os.fsdecode(b"\xff")).write_bytes(b"z")
    config = local_config(tmp_path / "node", state_dir=tmp_path / "state")
    with trio.fail_after(120):
        async with open_node(config) as node, client_of(node) as client:
            await node.get(make(inside / "film.bin"))
            for _ in range(250):
                method, path, keys = any_path(rng, [t.id for t in node.torrents.values()])
                if path.startswith("dht/") and rng.random() < 0.7:
                    continue  # a lookup takes its time
                content = any_body(rng, inside, keys)
                with trio.move_on_after(2):  # a question to nobody is still being asked
                    answer = await client.request(method, path, content=content)
                    assert answer.status_code < 500, (method, path, content[:300], answer.text)
                    if answer.status_code >= 400 and method != "HEAD":
                        said = answer.json()["error"]
                        assert said
                        assert "\n" not in said
                assert (await client.get("status")).status_code == 200
    # and all that was taken can be read again
    async with open_node(config) as node:
        assert not [warning for warning in node.warnings if "set aside" in warning]


@pytest.mark.parametrize("text", LONE)
@pytest.mark.parametrize("key", ["source", "output", "share", "select", "torrent"])
async def test_half_a_character_is_refused_wherever_it_stands(
    tmp_path: Path, key: str, text: str
) -> None:
    async with open_node(local_config(tmp_path)) as node, client_of(node) as client:
        body = {"source": "magnet:?xt=urn:btih:" + "a" * 40} if key in ("output", "select") else {}
        answer = await client.post("torrents", content=json.dumps({**body, key: f"/{text}"}))
        assert answer.status_code == 400
        assert key in answer.json()["error"]
        assert not node.torrents


async def test_a_path_that_is_not_utf_8_is_taken_as_the_bytes_it_is(tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    odd.write_bytes(b"x" * 1000)
    async with open_node(local_config(tmp_path / "node")) as node, client_of(node) as client:
        answer = await client.post("torrents", content=json.dumps({"share": str(odd)}))
        assert answer.status_code == 201
        assert os.fsencode(answer.json()["path"]) == os.fsencode(odd)
