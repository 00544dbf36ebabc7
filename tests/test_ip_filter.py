"""What the files of IP filters mean, and which addresses they forbid."""

from __future__ import annotations

import bz2
import gzip
import io
import ipaddress
import lzma
import zipfile

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dht_torrent import ip_filter
from dht_torrent.errors import InputError
from dht_torrent.ip_filter import MAX_LINE, IpFilter, parse_ip_filter

RANGE4 = ("1.2.3.4", "1.2.3.9")
RANGE6 = ("2001:db8::4", "2001:db8::1:0")


def inside(*hosts: str) -> list[tuple[int, int]]:
    """One range of each pair of addresses."""
    numbers = [int(ipaddress.ip_address(host)) for host in hosts]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


@pytest.mark.parametrize(
    "line",
    [
        "Some Org:1.2.3.4-1.2.3.9",
        "Some: Org, of 5.5.5.5-6.6.6.6 : 1.2.3.4 - 1.2.3.9",
        "1.2.3.4-1.2.3.9",
        "1.2.3.4 - 1.2.3.9",
        "\t1.2.3.4 - 1.2.3.9  # an org",
        "1.2.3.4-1.2.3.9;org",
        "1.2.3.4-1.2.3.9 // org",
        "001.002.003.004 - 001.002.003.009 , 000 , Some Org",
        "001.002.003.004 - 001.002.003.009 , 127 , Some: Org, 9.9.9.9-9.9.9.10",
        "001.002.003.004 - 001.002.003.009,100,",
        "001.002.003.004-001.002.003.009,0",
        "::ffff:1.2.3.4-::ffff:1.2.3.9",
        "Org:::ffff:1.2.3.4-::ffff:1.2.3.9",
    ],
)
def test_a_range_of_ipv4_may_be_written_so(line: str) -> None:
    parsed = parse_ip_filter(line.encode())
    assert (len(parsed.filter), parsed.bad_lines, parsed.first_bad) == (1, 0, None)
    hosts = ["1.2.3.3", "1.2.3.4", "1.2.3.7", "1.2.3.9", "1.2.3.10", "9.9.9.9", "5.5.5.5"]
    expected = [False, True, True, True, False, False, False]
    assert [parsed.filter.forbids(host) for host in hosts] == expected
    assert [parsed.filter.forbids(f"::ffff:{host}") for host in hosts] == expected


@pytest.mark.parametrize(
    "line",
    [
        "2001:db8::4-2001:db8::1:0",
        "2001:DB8::4 - 2001:db8:0:0:0:0:1:0",
        "2001:db8::4 - 2001:db8::1:0 # org",
        "2001:db8::4 - 2001:db8::1:0 , 000 , org",
        "Some Org:2001:db8::4-2001:db8::1:0",
        "Some-Org: of: 2001:db8::4 - 2001:db8::1:0",
        # The longest that is an address begins above the end: so it is part of the name.
        "Org:f00d:2001:db8::4-2001:db8::1:0",
        "x" * 500 + ":2001:db8::4-2001:db8::1:0",
    ],
)
def test_a_range_of_ipv6_may_be_written_so(line: str) -> None:
    parsed = parse_ip_filter(line.encode())
    assert (len(parsed.filter), parsed.bad_lines) == (1, 0)
    hosts = ["2001:db8::3", "2001:db8::4", "2001:db8::5", "2001:db8::1:0", "2001:db8::1:1"]
    assert [parsed.filter.forbids(host) for host in hosts] == [False, True, True, True, False]


@pytest.mark.parametrize(
    ("line", "first", "last"),
    [
        ("1.2.3.0/24", "1.2.3.0", "1.2.3.255"),
        ("1.2.3.77/24", "1.2.3.0", "1.2.3.255"),
        ("1.2.3.4", "1.2.3.4", "1.2.3.4"),
        ("1.2.3.4/32", "1.2.3.4", "1.2.3.4"),
        ("0.0.0.0/0", "0.0.0.0", "255.255.255.255"),
        ("010.1.0.0/16 ; SBL1", "10.1.0.0", "10.1.255.255"),
        ("2001:db8::/32", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2001:db8::7", "2001:db8::7", "2001:db8::7"),
        ("::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("::ffff:1.2.3.0/120", "1.2.3.0", "1.2.3.255"),
    ],
)
def test_a_network_or_one_address_may_be_written_so(line: str, first: str, last: str) -> None:
    found = parse_ip_filter(line.encode()).filter
    low, high = ipaddress.ip_address(first), ipaddress.ip_address(last)
    assert len(found) == 1
    assert found.forbids(first)
    assert found.forbids(last)
    for outside in (int(low) - 1, int(high) + 1):
        if 0 <= outside < 1 << low.max_prefixlen:
            assert not found.forbids(str(type(low)(outside)))


@pytest.mark.parametrize("level", [128, 200, 255, 999])
@pytest.mark.parametrize("ends", [RANGE4, RANGE6])
def test_a_dat_line_above_127_forbids_nothing(level: int, ends: tuple[str, str]) -> None:
    first, last = ends
    parsed = parse_ip_filter(f"{first} - {last} , {level} , friends".encode())
    assert (len(parsed.filter), parsed.bad_lines) == (0, 0)
    assert not parsed.filter.forbids(first)


@pytest.mark.parametrize(
    "line",
    [
        "hello",
        "1.2.3.256",
        "1.2.3.4-1.2.3.300",
        "1.2.3.9-1.2.3.4",
        "1.2.3.4/33",
        "2001:db8::/129",
        "2001:db8::9-2001:db8::4",
        "1.2.3.4-2001:db8::4",
        "org:1.2.3.4-2001:db8::4",
        "1.2.3",
        "1.2.3.4.5",
        "1.2.3.4-",
        "-1.2.3.4",
        "1.2.3.4-1.2.3.9-1.2.3.10",
        "1.2.3.4 - 1.2.3.9 , high , org",
        "org 1.2.3.4-1.2.3.9",
        "fe80::1%eth0",
        "x" * MAX_LINE + ":1.2.3.4-1.2.3.9",
        ":" * 900,
        "<html>",
    ],
)
def test_a_line_that_means_nothing_is_counted_and_the_first_is_named(line: str) -> None:
    parsed = parse_ip_filter(f"# ours\n9.9.9.9\n{line}\nbad too\n8.8.8.8".encode())
    assert len(parsed.filter) == 2
    assert parsed.bad_lines == 2
    assert parsed.first_bad is not None
    assert parsed.first_bad.startswith(f"line 3: '{line[:20]}")
    assert len(parsed.first_bad) < 100


def test_what_is_for_people_means_nothing() -> None:
    text = "# list\n; of\n// ours\n\n   \n#1.2.3.4\n5.6.7.8\n"
    parsed = parse_ip_filter(text.encode())
    assert (len(parsed.filter), parsed.bad_lines) == (1, 0)
    assert not parsed.filter.forbids("1.2.3.4")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("begin", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_ends_of_lines_marks_and_packing_do_not_matter(end: str, begin: bytes, pack: type) -> None:
    text = end.join(["1.2.3.4", "", "Org \xfc:5.6.7.8-5.6.7.9", ""])
    parsed = parse_ip_filter(pack(begin + text.encode("latin-1")))
    assert (len(parsed.filter), parsed.bad_lines) == (2, 0)
    assert parsed.filter.forbids("1.2.3.4")
    assert parsed.filter.forbids("5.6.7.9")


def test_a_file_packed_in_two_parts_is_read_whole() -> None:
    packed = gzip.compress(b"1.2.3.4\n") + gzip.compress(b"5.6.7.8\n")
    assert len(parse_ip_filter(packed).filter) == 2


def _zipped(data: bytes) -> bytes:
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("list.p2p", data)
        return file.getvalue()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no range"),
        (b"\n\n", "no range"),
        (b"<html>404</html>", "line 1: '<html>404</html>'"),
        (b"# not a list\nhello", "line 2: 'hello'"),
        ("1.2.3.4\n".encode("utf-16"), "UTF-16"),
        (_zipped(b"1.2.3.4\n"), "zip archive: unpack"),
        (bz2.compress(b"1.2.3.4\n"), "bzip2: unpack"),
        (lzma.compress(b"1.2.3.4\n"), "xz: unpack"),
        (gzip.compress(bz2.compress(b"1.2.3.4\n"), mtime=0), "bzip2: unpack"),
        (b"\xff\xff\xff\xffP2B\x02name\0\1\2\3\4\1\2\3\5", "P2B"),
        (gzip.compress(b"1.2.3.4\n" * 100, mtime=0)[:-9], "cannot be unpacked"),
        (b"\x1f\x8bnonsense", "cannot be unpacked"),
    ],
)
def test_a_file_without_any_range_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(InputError, match=why):
        parse_ip_filter(data)


def test_a_file_of_remarks_forbids_nothing() -> None:
    assert len(parse_ip_filter(b"# nothing for now").filter) == 0


def test_what_is_unpacked_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ip_filter, "MAX_BYTES", 1000)
    line = b"1.2.3.4\n"
    assert parse_ip_filter(gzip.compress(line * 125)).bad_lines == 0
    for pack in (bytes, gzip.compress):
        with pytest.raises(InputError, match="more than"):
            parse_ip_filter(pack(line * 126))


@pytest.mark.parametrize("line", ["1.2.3.4-1.2.3.5\n", "1.2.3.4\n", "::1\n"])
def test_the_number_of_ranges_is_bounded(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ip_filter, "MAX_RANGES", 10)
    parse_ip_filter((line * 10).encode())
    with pytest.raises(InputError, match="more than 10 ranges"):
        parse_ip_filter((line * 11).encode())


numbers = st.integers(0, 40)
ranges = st.lists(st.tuples(numbers, numbers).map(sorted).map(tuple), max_size=8)


@given(ranges, st.sampled_from([0, 10 << 24, (1 << 32) - 41]))
@example([(0, 40)], (1 << 32) - 41)
@example([(1, 2), (3, 4), (0, 9), (9, 9)], 0)
def test_it_forbids_what_is_in_any_of_the_ranges(given: list[tuple[int, int]], base: int) -> None:
    shifted = [(base + first, base + last) for first, last in given]
    found4 = IpFilter(ipv4=shifted)
    found6 = IpFilter(ipv6=shifted)
    for number in range(41):
        expected = any(first <= number <= last for first, last in given)
        assert found4.forbids(str(ipaddress.IPv4Address(base + number))) is expected
        host = str(ipaddress.IPv6Address(base + number))
        assert found6.forbids(host) is expected
        assert not found4.forbids(host)
        assert not found6.forbids(str(ipaddress.IPv4Address(base + number)))
    covered = {number for first, last in given for number in range(first, last + 1)}
    assert len(found4) == sum(number - 1 not in covered for number in covered)


@given(st.text(max_size=50))
@example("1.2.3.4%")
@example("\0")
@example(":\ud800")
def test_what_is_not_an_address_is_not_forbidden(host: str) -> None:
    everything = parse_ip_filter(b"0.0.0.0/0\n::/0").filter
    try:
        ipaddress.ip_address(host)
    except ValueError:
        assert not everything.forbids(host)


pieces = st.sampled_from(
    [*"0123456789abcf", ".", ":", "-", "/", ",", "#", " ", "\n", "\r", "1.2.3.4", "::", "\xff", "~"]
)


@given(st.lists(pieces, max_size=60).map("".join))
def test_any_bytes_make_a_filter_or_are_refused(text: str) -> None:
    try:
        parsed = parse_ip_filter(text.encode("latin-1"))
    except InputError:
        return
    assert (parsed.first_bad is None) is (parsed.bad_lines == 0)
