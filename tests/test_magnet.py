from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dht_torrent.bounds import MAX_FILES, MAX_MAGNET
from dht_torrent.errors import MagnetError
from dht_torrent.filenames import printable
from dht_torrent.ids import HostPort, InfoHash
from dht_torrent.magnet import Magnet, MutableLink, format_ranges, parse_ranges
from tests.helpers.examples import examples

HASH = InfoHash(bytes(range(20)))
HEX = HASH.hex()
LINK = f"magnet:?xt=urn:btih:{HEX}"

TEXT = st.text(max_size=40).map(printable)
HOSTS = st.ip_addresses().map(str) | st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True)
PEERS = st.builds(HostPort, HOSTS, st.integers(1, 65535))
RANGES = st.lists(
    st.tuples(st.integers(0, MAX_FILES - 1), st.integers(0, MAX_FILES - 1)), min_size=1, max_size=8
).map(lambda pairs: parse_ranges(",".join(f"{min(p)}-{max(p)}" for p in pairs)))
MAGNETS = st.builds(
    Magnet,
    info_hash=st.binary(min_size=20, max_size=20).map(InfoHash),
    name=TEXT.map(lambda text: text or None),
    peers=st.lists(PEERS, max_size=4, unique=True).map(tuple),
    select=st.none() | RANGES,
    trackers=st.lists(st.text(min_size=1, max_size=30), max_size=3, unique=True)
    .filter(lambda texts: all(text.isprintable() for text in texts))
    .map(tuple),
)


@given(MAGNETS)
def test_a_printed_magnet_reads_back_the_same(magnet: Magnet) -> None:
    assert Magnet.parse(str(magnet)) == magnet


@given(MAGNETS)
def test_a_printed_magnet_needs_no_quoting_anywhere(magnet: Magnet) -> None:
    text = str(magnet)
    assert text.isascii()
    assert not set(text) & set(" \"'<>\\\n\t")


@given(st.text(max_size=80) | st.text(max_size=80).map(lambda text: LINK + "&" + text))
def test_any_text_gives_a_magnet_or_a_magnet_error(text: str) -> None:
    try:
        magnet = Magnet.parse(text)
    except MagnetError:
        return
    assert Magnet.parse(str(magnet)) == magnet


def test_the_canonical_form() -> None:
    magnet = Magnet(
        HASH,
        "My file & more.iso",
        (HostPort("127.0.0.1", 6881), HostPort("::1", 1), HostPort("seed.example", 80)),
        ((0, 0), (2, 2), (6, 8)),
        ("http://tracker.example/announce?a=b",),
    )
    assert str(magnet) == (
        f"{LINK}&dn=My%20file%20%26%20more.iso"
        "&tr=http%3A%2F%2Ftracker.example%2Fannounce%3Fa%3Db"
        "&x.pe=127.0.0.1:6881&x.pe=[::1]:1&x.pe=seed.example:80&so=0,2,6-8"
    )


@pytest.mark.parametrize(
    "topic",
    [
        f"urn:btih:{HEX}",
        f"urn:btih:{HEX.upper()}",
        f"URN:BTIH:{HEX}",
        f"urn%3Abtih%3A{HEX}",
        f"urn:btih:{base64.b32encode(HASH).decode()}",
        f"urn:btih:{base64.b32encode(HASH).decode().lower()}",
    ],
)
@pytest.mark.parametrize("prefix", ["magnet:?", "MAGNET:?", "  magnet:?"])
def test_the_infohash_is_hex_or_base32_in_any_case(prefix: str, topic: str) -> None:
    assert Magnet.parse(f"{prefix}xt={topic}").info_hash == HASH


def test_the_same_infohash_twice_is_one_torrent() -> None:
    base32 = base64.b32encode(HASH).decode()
    assert Magnet.parse(f"{LINK}&xt=urn:btih:{base32}").info_hash == HASH
    assert Magnet.parse(f"magnet:?xt.1=urn:btih:{HEX}").info_hash == HASH


def test_a_hybrid_link_is_read_by_its_v1_hash() -> None:
    assert Magnet.parse(f"magnet:?xt=urn:btmh:1220{'ab' * 32}&xt=urn:btih:{HEX}").info_hash == HASH


@pytest.mark.parametrize(
    ("link", "says"),
    [
        ("", "starts with"),
        (HEX, "starts with"),
        ("http://example.org/", "starts with"),
        ("magnet:", "starts with"),
        ("magnet:?", "no infohash"),
        ("magnet:?dn=x", "no infohash"),
        ("magnet:?xt=urn:sha1:ABC", "no infohash"),
        (f"magnet:?xt={HEX}", "no infohash"),
        (f"magnet:?xt=urn:btih:{HEX[:-1]}", "40 hex or 32 base32"),
        (f"magnet:?xt=urn:btih:{HEX}0", "40 hex or 32 base32"),
        (f"magnet:?xt=urn:btih:{'g' * 40}", "40 hex or 32 base32"),
        (f"magnet:?xt=urn:btih:{'1' * 32}", "40 hex or 32 base32"),
        (f"magnet:?xt=urn:btih:{'é' * 32}", "40 hex or 32 base32"),
        (f"{LINK}&xt=urn:btih:{'0' * 40}", "two different"),
        (f"magnet:?xt=urn:btmh:1220{'ab' * 32}", "v2-only"),
        (f"{LINK}&so=3-1", "backwards"),
        (f"{LINK}&so=0-99999999999999999999", "below"),
        (f"{LINK}&so=x", "file indexes"),
        (LINK + "&dn=" + "a" * 70_000, "longer than"),
        (LINK + "&so=" + ",".join(map(str, range(0, 4000, 2))), "ranges"),
    ],
)
def test_what_is_wrong_is_said(link: str, says: str) -> None:
    with pytest.raises(MagnetError, match=says) as caught:
        Magnet.parse(link)
    assert "\n" not in str(caught.value)


def test_peers_that_are_none_are_dropped() -> None:
    bad = ["1.2.3.4", "1.2.3.4:0", "1.2.3.4:65536", ":1", "::1:80", "[x]:1", "a%20b:1", "a%00b:1"]
    good = ["1.2.3.4:5", "%5B2001:db8::1%5D:6", "host.example:7", "1.2.3.4:5"]
    magnet = Magnet.parse(LINK + "".join(f"&x.pe={peer}" for peer in bad + good))
    assert magnet.peers == (
        HostPort("1.2.3.4", 5),
        HostPort("2001:db8::1", 6),
        HostPort("host.example", 7),
    )


def test_hints_are_bounded() -> None:
    peers = "".join(f"&x.pe=10.0.0.1:{port}" for port in range(1, 2000))
    assert len(Magnet.parse(LINK + peers).peers) == 100


def test_trackers_are_kept_in_order_and_once() -> None:
    magnet = Magnet.parse(f"{LINK}&tr.1=udp%3A%2F%2Fa&tr=udp%3A%2F%2Fb&tr=udp%3A%2F%2Fa&tr=")
    assert magnet.trackers == ("udp://a", "udp://b")


def test_a_name_cannot_write_to_the_terminal_or_turn_its_reader_around() -> None:
    name = Magnet.parse(f"{LINK}&dn=%1B%5B2Jphoto%E2%80%AEgpj.exe%FF+x").name
    assert name == "[2Jphotogpj.exe\ufffd x"


def test_unknown_keys_are_ignored() -> None:
    assert Magnet.parse(f"{LINK}&ws=http%3A%2F%2Fx&kt=a+b&xl=10&&=&novalue") == Magnet(HASH)


# BEP 53's example.
def test_bep_53_ranges() -> None:
    assert parse_ranges("0,2,4,6-8") == ((0, 0), (2, 2), (4, 4), (6, 8))
    assert Magnet.parse(f"{LINK}&so=0,2,4,6-8").select == ((0, 0), (2, 2), (4, 4), (6, 8))
    assert Magnet.parse(f"{LINK}&so=").select is None


def test_ranges_come_out_ascending_and_apart() -> None:
    assert parse_ranges("8,1-3,2-5,6, 20 ,0") == ((0, 6), (8, 8), (20, 20))


@pytest.mark.parametrize(
    "text", ["", ",", "1,", "-", "1-", "-1", "2-1", "1-2-3", "a", "1.0", "٣", "+1", "100000", "1e3"]
)
def test_malformed_ranges_are_refused(text: str) -> None:
    with pytest.raises(MagnetError):
        parse_ranges(text)


@given(RANGES)
def test_ranges_survive_being_printed(ranges: tuple[tuple[int, int], ...]) -> None:
    assert parse_ranges(format_ranges(ranges)) == ranges


@pytest.mark.parametrize("space", [" ", "\n", "\r\n", "\t ", "\u00a0"])
def test_blanks_around_a_link_and_escaped_ampersands_are_read(space: str) -> None:
    magnet = Magnet(HASH, "a & b", (HostPort("127.0.0.1", 1),), ((1, 2),))
    assert Magnet.parse(space + str(magnet) + space) == magnet
    assert Magnet.parse(str(magnet).replace("&", "&amp;")) == magnet


LONG = st.builds(
    Magnet,
    info_hash=st.just(HASH),
    name=st.none() | st.text(max_size=400),
    peers=st.lists(
        st.builds(HostPort, st.sampled_from(["h" * 250, "\u00fc" * 80, "::1"]), st.integers(1, 99)),
        max_size=150,
    ).map(tuple),
    select=st.none() | st.integers(1, 1000).map(lambda n: tuple((3 * i, 3 * i) for i in range(n))),
    trackers=st.lists(st.text(max_size=20).map(lambda text: text * 500), max_size=200).map(tuple),
)


@given(LONG)
@settings(max_examples=examples(60))
def test_whatever_is_written_is_read(magnet: Magnet) -> None:
    link = str(magnet)
    assert len(link) <= MAX_MAGNET
    again = Magnet.parse(link)
    assert (again.info_hash, again.name, again.select) == (HASH, magnet.name, magnet.select)
    assert again.trackers == magnet.trackers
    assert Magnet.parse(str(again)) == again


def test_a_link_that_would_grow_when_it_is_written_loses_hints_and_nothing_else() -> None:
    link = LINK + "&dn=x&so=1" + "".join(f"&tr={'ü' * 500}{i}" for i in range(60))
    assert len(link) < MAX_MAGNET < len(link) * 3
    magnet = Magnet.parse(link)
    assert 0 < len(magnet.trackers) < 60
    assert Magnet.parse(str(magnet)) == magnet


@pytest.mark.parametrize(
    "select",
    [(), ((3, 1),), ((-1, 0),), ((0, MAX_FILES),), tuple((3 * i, 3 * i) for i in range(1001))],
)
def test_a_selection_that_no_link_can_hold_is_refused(select: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(MagnetError):
        Magnet(HASH, select=select)


# --- links whose content changes (BEP 46) --------------------------------------------------------

KEY_HEX = "8543d3e6115f0f98c944077a4493dcd543e49c739fd998550a1f614ab36ed63e"
KEY = bytes.fromhex(KEY_HEX)
STAYING = f"magnet:?xs=urn:btpk:{KEY_HEX}"
LINKS = st.builds(
    MutableLink,
    key=st.binary(min_size=32, max_size=32),
    salt=st.binary(max_size=64),
    name=TEXT.map(lambda text: text or None),
)


def test_the_links_of_bep_46() -> None:
    assert str(MutableLink(KEY)) == STAYING
    assert str(MutableLink(KEY, b"n")) == STAYING + "&s=6e"
    assert MutableLink.parse(STAYING) == MutableLink(KEY)
    assert MutableLink.parse(STAYING + "&s=6e") == MutableLink(KEY, b"n")


@given(LINKS)
def test_a_printed_link_reads_back_the_same(link: MutableLink) -> None:
    text = str(link)
    assert MutableLink.parse(text) == link
    assert text.isascii()
    assert not set(text) & set(" \"'<>\\\n\t")


@given(st.text(max_size=80) | st.text(max_size=80).map(lambda text: f"{STAYING}&{text}"))
def test_any_text_gives_a_link_or_a_magnet_error(text: str) -> None:
    try:
        link = MutableLink.parse(text)
    except MagnetError:
        return
    assert MutableLink.parse(str(link)) == link


@pytest.mark.parametrize(
    "text",
    [
        f"  {STAYING.upper().replace('MAGNET', 'magnet')}&amp;S=6E\n",
        f"{STAYING}&s=6e&s=6E&xs={STAYING[11:]}",
        f"magnet:?s=6e&xt=urn:btpk:{KEY_HEX}",
        f"magnet:?xt=urn:btih:{HEX}&s=6e&xs=http%3A%2F%2Fa.example&xs=urn%3Abtpk%3A{KEY_HEX}",
    ],
)
def test_a_link_is_read_however_it_is_written(text: str) -> None:
    assert MutableLink.parse(text) == MutableLink(KEY, b"n")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (LINK, "no public key"),
        ("urn:btpk:" + KEY_HEX, "starts with"),
        (STAYING[:-1], "64 hex digits"),
        (STAYING[:-2], "32 bytes"),
        (STAYING + "00", "32 bytes"),
        (STAYING[:-1] + "x", "64 hex digits"),
        (STAYING + "&s=6", "hex digits"),
        (STAYING + "&s=news", "hex digits"),
        (STAYING + "&s=" + "00" * 65, "64 bytes"),
        (STAYING + "&s=6e&s=6f", "two different"),
        (STAYING + "&s=6e&s=", "two different"),
        (STAYING + "&xs=urn:btpk:" + "00" * 32, "two different"),
        ("magnet:?" + "x" * MAX_MAGNET, "longer"),
    ],
)
def test_what_is_not_a_link_is_refused_in_a_line(text: str, says: str) -> None:
    with pytest.raises(MagnetError, match=says):
        MutableLink.parse(text)


def test_a_link_has_a_title() -> None:
    assert MutableLink(KEY, b"news", "The News").title == "The News"
    assert MutableLink(KEY, "bücher".encode()).title == "bücher"
    for salt in (b"", b"\xff", b"a\x1b[0m"):
        assert MutableLink(KEY, salt).title == KEY_HEX[:16]


def test_a_link_whose_content_changes_is_not_fetched_but_followed() -> None:
    with pytest.raises(MagnetError, match="followed"):
        Magnet.parse(STAYING)
    assert Magnet.parse(f"{LINK}&xs=urn:btpk:{KEY_HEX}").info_hash == HASH
