"""Similar torrents over the control API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dht_torrent.engine.search.views import SimilarFound
from dht_torrent.errors import StorageError
from dht_torrent.magnet import Magnet
from tests.daemon.test_app import ID, MAGNET, unix
from tests.helpers.fake_node import similar_result


async def test_what_is_similar_is_told_as_json(node: Any) -> None:
    node.similar_to = SimilarFound(
        asked="film", compared="names", warning="no NumPy", results=(similar_result(7),)
    )
    async with unix(node) as client:
        told = (await client.post("similar", json={"path": "/a/b\u00fc", "limit": 3})).json()
    assert node.calls[-1] == ("similar", Path("/a/b\u00fc"), {"limit": 3})
    assert (told["asked"], told["compared"], told["warning"]) == ("film", "names", "no NumPy")
    assert (told["results"][0]["id"], told["results"][0]["kinship"]) == (
        f"{7:040x}",
        "near duplicate",
    )


async def test_a_source_is_a_link_an_infohash_or_a_torrent_here(node: Any) -> None:
    node.add(MAGNET)
    async with unix(node) as client:
        for source in (MAGNET, ID, ID[:8]):
            answer = await client.post("similar", json={"source": f" {source} ", "patience": 2.5})
            assert answer.status_code == 200, answer.text
            _, asked, options = node.calls[-1]
            assert isinstance(asked, Magnet)
            assert asked.info_hash.hex() == ID
            assert options == {"patience": 2.5}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({}, "either source or path"),
        ({"source": ID, "path": "/a"}, "either source or path"),
        ({"path": "a/b"}, "absolute"),
        ({"path": "/a\0b"}, "absolute"),
        ({"path": 5}, "type str"),
        ({"source": "etc/passwd"}, "no such torrent"),
        ({"source": "magnet:?"}, "magnet"),
        ({"source": ID, "limit": "3"}, "type int"),
        ({"source": ID, "network": 1}, "type bool"),
        ({"source": ID, "words": "x"}, "unknown option"),
    ],
)
async def test_what_cannot_be_asked_is_refused(node: Any, body: dict[str, Any], why: str) -> None:
    async with unix(node) as client:
        answer = await client.post("similar", json=body)
    assert answer.status_code == 400
    assert why in answer.json()["error"]
    assert not node.calls


async def test_a_catalogue_that_cannot_be_used_is_told(node: Any) -> None:
    node.similar_to = StorageError("the disk is gone")
    async with unix(node) as client:
        answer = await client.post("similar", json={"source": ID})
    assert answer.json()["error"] == "the disk is gone"
    assert answer.status_code >= 400
