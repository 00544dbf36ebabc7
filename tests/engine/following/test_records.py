"""The records of links."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dht_torrent import bencode
from dht_torrent.dht.items import MAX_SEQ, MutableItem
from dht_torrent.engine.following.records import (
    FollowRecord,
    PublishRecord,
    SeenVersion,
    decode_follow,
    decode_publish,
)
from dht_torrent.errors import StorageError
from dht_torrent.ids import InfoHash
from dht_torrent.magnet import MutableLink
from tests.helpers.examples import examples

hashes = st.binary(min_size=20, max_size=20).map(InfoHash)
seqs = st.integers(0, MAX_SEQ)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), max_size=20)
paths = texts.map(lambda text: Path("/", text))
links = st.builds(
    MutableLink,
    key=st.binary(min_size=32, max_size=32),
    salt=st.binary(max_size=64),
    name=st.none() | texts,
)
versions = st.lists(
    st.builds(SeenVersion, hashes, seqs, st.booleans(), st.booleans()), max_size=5
).map(tuple)


@st.composite
def follows(draw: st.DrawFn) -> FollowRecord:
    link = draw(links)
    item = MutableItem(b"d1:xi1ee", link.key, link.salt, draw(seqs), draw(st.binary(max_size=64)))
    return FollowRecord(
        link=link,
        output=draw(paths),
        keep=draw(st.integers(0, 100)),
        seq=draw(seqs),
        item=draw(st.sampled_from([None, item])),
        versions=draw(versions),
        current=draw(st.none() | hashes),
    )


@st.composite
def publications(draw: st.DrawFn) -> PublishRecord:
    link = draw(links)
    item = MutableItem(b"i7e", link.key, link.salt, draw(seqs), draw(st.binary(max_size=64)))
    return PublishRecord(
        link=link,
        key_name=draw(texts),
        path=draw(paths),
        seq=draw(seqs),
        item=draw(st.sampled_from([None, item])),
        versions=draw(versions),
    )


@given(follows(), publications())
def test_a_record_decodes_to_what_was_encoded(
    followed: FollowRecord, published: PublishRecord
) -> None:
    assert decode_follow(followed.encode()) == followed
    assert decode_publish(published.encode()) == published


@settings(max_examples=examples(60))
@given(follows(), publications(), st.data())
def test_a_hostile_payload_is_a_record_or_one_error(
    followed: FollowRecord, published: PublishRecord, data: st.DataObject
) -> None:
    for record, decode in ((followed, decode_follow), (published, decode_publish)):
        payload = bytearray(record.encode())
        for _ in range(data.draw(st.integers(1, 3))):
            payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
        try:
            back = decode(bytes(payload))
        except StorageError:
            continue
        assert decode(back.encode()) == back


RECORD = FollowRecord(link=MutableLink(bytes(32)), output=Path("/out"), keep=1)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"key", bytes(31)),
        (b"key", 5),
        (b"salt", bytes(65)),
        (b"name", b"\xff"),
        (b"output", b"out"),
        (b"output", b"/a\0b"),
        (b"output", b"/" + b"x" * 4096),
        (b"keep", -1),
        (b"seq", MAX_SEQ + 1),
        (b"seq", b"1"),
        (b"current", bytes(19)),
        (b"versions", {}),
        (b"versions", [5]),
        (b"versions", [{b"ih": bytes(20), b"seq": 1, b"ours": 1}]),
        (b"versions", [{b"ih": bytes(20), b"seq": 1, b"ours": 1, b"complete": 1}] * 201),
        (b"item", b"x"),
        (b"item", {b"v": b"not bencode", b"seq": 1, b"sig": bytes(64)}),
        (b"item", {b"v": b"5:", b"seq": 1, b"sig": bytes(64)}),
        (b"item", {b"v": b"le" * 600, b"seq": 1, b"sig": bytes(64)}),
        (b"item", {b"v": b"le", b"seq": -1, b"sig": bytes(64)}),
        (b"item", {b"v": b"le", b"seq": 1, b"sig": bytes(65)}),
    ],
)
def test_a_wrong_field_is_refused(key: bytes, value: bencode.Value) -> None:
    fields = bencode.decode(RECORD.encode())
    assert isinstance(fields, dict)
    assert decode_follow(bencode.encode({**fields, b"unknown": 5})) == RECORD
    with pytest.raises(StorageError, match="not a record of a link"):
        decode_follow(bencode.encode({**fields, key: value}))


@pytest.mark.parametrize("payload", [b"", b"le", b"i5e", b"de", b"x" * 1000, b"l" * 10_000])
def test_what_is_not_a_record_is_refused(payload: bytes) -> None:
    for decode in (decode_follow, decode_publish):
        with pytest.raises(StorageError, match="not a record of a link"):
            decode(payload)
