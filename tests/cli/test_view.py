from __future__ import annotations

import os
import pty
import sys
from contextlib import suppress
from typing import Any

import pytest

from dht_torrent.cli import bars
from dht_torrent.cli import view as cli_view

TORRENT: dict[str, Any] = {
    "id": "12" * 20,
    "name": "thing",
    "state": "downloading",
    "progress": 0.9999,
    "size": 3 * 1024 * 1024,
    "down_rate": 2048.0,
    "up_rate": 0.0,
    "peers": 2,
    "eta": 61.0,
    "error": None,
    "why": None,
}
STATUS: dict[str, Any] = {
    "id": "00" * 20,
    "version": "1",
    "uptime": 90000.0,
    "listen": "127.0.0.1:1",
    "reachable": None,
    "dht": {
        "good": 12,
        "questionable": 3,
        "replies_per_minute": 40.0,
        "bootstrap_answered": 1,
        "bootstrap_total": 3,
    },
    "last_announce": 30.0,
    "limit_up": 512_000,
    "limit_down": None,
    "connections": 4,
    "peers_by_source": {"dht": 3, "incoming": 1},
    "encryption": "prefer",
    "peers_by_encryption": {"mse": 2, "rc4": 1},
    "down_rate": 0.0,
    "up_rate": 0.0,
    "torrents": 1,
    "warnings": [],
}


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (5 * 1024**5, "5.0 PiB")],
)
def test_sizes_have_three_digits_or_so(count: int, text: str) -> None:
    assert cli_view.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.4, "0 s"), (61, "1 min 1 s"), (3700, "1 h 1 min"), (90000, "1 d 1 h")],
)
def test_durations_have_two_units(seconds: float | None, text: str) -> None:
    assert cli_view.duration(seconds) == text


def test_nothing_is_100_percent_before_all_of_it_is_there() -> None:
    assert cli_view.percent(0.99999) == "99.9%"
    assert cli_view.percent(1.0) == "100.0%"


def test_names_cannot_steer_the_terminal() -> None:
    hostile = {**TORRENT, "name": "x\x1b[2J\r\n\u202e[bold]", "error": "e\x07", "why": "w\x1b"}
    for text in (cli_view.torrents_table([hostile]), cli_view.status_text(STATUS, [hostile])):
        assert all(line.isprintable() for line in text.splitlines())
    assert bars.progress_line(hostile).isprintable()


def test_the_list_of_torrents_is_aligned() -> None:
    head, row = cli_view.torrents_table([TORRENT]).splitlines()
    assert head.index("STATE") == row.index("downloading")
    assert head.index("NAME") == row.index("thing")
    assert "99.9%" in row
    assert "1 min 1 s" in row


def test_the_list_of_peers_says_who_is_encrypted_and_how() -> None:
    peer = {
        **dict.fromkeys(("down_rate", "up_rate", "downloaded", "uploaded"), 0),
        "address": "127.0.0.1:1",
        "client": "",
        "incoming": False,
        "source": "dht",
        "flags": "F",
        "progress": 1.0,
    }
    head, *rows = cli_view.peers_table(
        [{**peer, "encryption": "tls"}, {**peer, "encryption": None}]
    ).splitlines()
    column = head.split().index("CRYPT")
    assert [row.split()[column] for row in rows] == ["tls", "-"]


def test_the_list_of_peers_says_what_carries_each_connection() -> None:
    peer = {
        **dict.fromkeys(("down_rate", "up_rate", "downloaded", "uploaded"), 0),
        "address": "127.0.0.1:1",
        "client": "",
        "incoming": False,
        "source": "dht",
        "flags": "F",
        "progress": 1.0,
    }
    head, *rows = cli_view.peers_table([{**peer, "transport": "utp"}, peer]).splitlines()
    column = head.split().index("VIA")
    assert [row.split()[column] for row in rows] == ["utp", "tcp"]


def test_status_says_how_many_connections_are_over_what() -> None:
    text = cli_view.status_text({**STATUS, "peers_by_transport": {"utp": 3, "tcp": 1}}, [])
    assert "over:      1 TCP, 3 uTP" in text
    assert "over:" not in cli_view.status_text(STATUS, [])


def test_status_says_what_a_worried_user_needs() -> None:
    stuck = {**TORRENT, "why": "no peer has the metadata"}
    text = cli_view.status_text(STATUS, [stuck])
    for words in (
        "12 good contacts, 3 questionable",
        "40 responses a minute",
        "1/3 entry points",
        "30 s ago",
        "4 connected (3 dht, 1 incoming)",
        "prefer: 2 handshake only, 1 RC4",
        "not known yet",
        "thing (downloading): no peer has the metadata",
    ):
        assert words in text


def test_status_tells_of_bugs_of_ours_only_if_there_were_any() -> None:
    last = "torrent 0a1cc962: ZeroDivisionError: \x1b[2J (swarm.py:12)"
    for count, words in ((1, "1 bug of dht_torrent"), (3, "3 bugs of dht_torrent")):
        text = cli_view.status_text({**STATUS, "faults": count, "last_fault": last}, [])
        assert words in text
        assert "last: torrent 0a1cc962: ZeroDivisionError" in text
        assert "\x1b" not in text
    calm = cli_view.status_text({**STATUS, "faults": 0, "last_fault": None}, [])
    assert "bug" not in calm


def test_progress_without_a_terminal_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with bars.progress() as shown:
        for _ in range(100):
            shown.update(TORRENT)
        shown.update({**TORRENT, "state": "seeding"})
    first, second = capsys.readouterr().err.splitlines()
    assert first == "thing: downloading 99.9% of 3.0 MiB, 2.0 KiB/s down, 2 peers, 1 min 1 s left"
    assert second.startswith("thing: seeding")


def test_progress_on_a_terminal_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    drawn = b""
    with os.fdopen(ours, "rb", buffering=0) as screen:
        with os.fdopen(theirs, "w") as terminal:
            monkeypatch.setattr(sys, "stderr", terminal)
            with bars.progress() as shown:
                shown.update({**TORRENT, "name": "[bold]x"})
            with bars.hashing("folder") as hashed:
                hashed(1, 2)
        with suppress(OSError):  # how Linux says that the other side is closed
            while chunk := screen.read(65536):
                drawn += chunk
    assert b"[bold]x" in drawn
    assert b"hashing folder" in drawn


def test_what_a_removal_left_is_named_as_far_as_it_fits() -> None:
    left = [{"path": f"/d/{number}\x1b", "why": "it is yours"} for number in range(1000)]
    lines = cli_view.removal_text({"deleted": 1, "left": left, "left_files": 5000}).splitlines()
    assert lines[:2] == ["deleted 1 file", "left /d/0\N{REPLACEMENT CHARACTER}: it is yours"]
    assert lines[-1] == "left 4980 more files; --json names them"
    assert len(lines) == 22
    assert cli_view.removal_text({"deleted": 0, "left": [], "left_files": 0}) == "deleted 0 files"


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 peers"), (1, "1 peer"), (2, "2 peers"), (11, "11 peers")]
)
def test_things_are_counted_in_their_plural_form(number: int, text: str) -> None:
    assert cli_view.counted(number, "peer") == text
    line = bars.progress_line(
        {
            "name": "n",
            "state": "downloading",
            "progress": 0.5,
            "size": 10,
            "down_rate": 0,
            "peers": number,
            "eta": None,
            "why": None,
        }
    )
    assert f", {text}" in line


def test_what_is_reused_is_shown_while_it_lasts_and_in_the_status() -> None:
    line = bars.progress_line({**TORRENT, "reused": 3 << 20})
    assert ", 3.0 MiB of it reused, " in line
    assert "reused" not in bars.progress_line({**TORRENT, "reused": 0})
    assert "reused:    3.0 MiB" in cli_view.status_text({**STATUS, "reused": 3 << 20}, [])
    assert "reused" not in cli_view.status_text({**STATUS, "reused": 0}, [])


def test_a_super_seed_tells_how_far_its_pieces_have_spread() -> None:
    seeding = {**TORRENT, "state": "seeding", "super_seed": True, "spread": 0.25}
    assert "super-seeding 25.0%" in cli_view.torrents_table([seeding])
    told = cli_view.status_text(STATUS, [seeding]).splitlines()[-1]
    assert told.endswith("(super-seeding): 25.0% of its pieces were seen at other peers")
    over = {**seeding, "super_seed": False, "spread": None}
    assert "super" not in cli_view.torrents_table([over]) + cli_view.status_text(STATUS, [over])


SEARCH: dict[str, Any] = {
    "publisher": "ab" * 32,
    "published": 1,
    "entries": 17,
    "due": 2,
    "gets_hour": 40,
    "puts_hour": 12,
    "puts_hour_most": 3600,
    "refused": 0,
    "trouble": "too few nodes\x1b[2J stored it",
}


def test_the_status_tells_what_publishing_takes_of_its_budget() -> None:
    shown = cli_view.status_text({**STATUS, "search": SEARCH}, [])
    lines = dict(line.split(":", 1) for line in shown.splitlines())
    assert lines["published"].strip() == (
        "1 torrent, 12 of at most 3600 puts in the last hour, 17 entries, 2 of them due"
    )
    assert lines["publisher"].strip() == "ab" * 32
    assert lines["search"].strip() == "40 lookups in the last hour"
    vandals = cli_view.status_text({**STATUS, "search": {**SEARCH, "refused": 3}}, [])
    assert "40 lookups in the last hour, 3 slots held what nobody can use\n" in vandals
    assert "too few nodes" in lines["trouble"]
    assert "\x1b" not in shown


def test_the_status_is_short_where_nothing_was_published_or_searched() -> None:
    nothing = dict.fromkeys(SEARCH, 0) | {"publisher": None, "puts_hour_most": 3600}
    shown = cli_view.status_text({**STATUS, "search": nothing | {"trouble": None}}, [])
    assert "published: 0 torrents, 0 of at most 3600 puts in the last hour\n" in shown + "\n"
    for name in "publisher:", "search:", "trouble:":
        assert name not in shown
    assert "published" not in cli_view.status_text({**STATUS, "search": None}, [])


def test_what_was_here_already_is_told_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    before = {"name": "a\x1bb", "warning": "old news", "reused": 0, "downloaded": 0}
    cli_view.tell_reused(before, before=before)
    assert capsys.readouterr().err == ""
    cli_view.tell_reused({**before, "reused": 3 << 20, "downloaded": 1 << 10}, before=before)
    assert (
        capsys.readouterr().err
        == "a\N{REPLACEMENT CHARACTER}b: 3.0 MiB were here already, 1.0 KiB fetched\n"
    )
    cli_view.tell_reused({**before, "warning": "a source\nis gone"}, before=before)
    (line,) = capsys.readouterr().err.splitlines()
    assert "warning" in line


CRAWL = {
    "nodes": 1200,
    "nodes_told": 700,
    "nodes_known": 30,
    "named": 9000,
    "waiting": 12,
    "found": 1,
    "found_hour": 0,
    "outcomes": {"found": 1, "no_peers": 1500, "denied": 2},
    "queries_hour": 20_000,
    "queries_hour_most": 36_000,
    "fetches_hour": 40,
    "fetches_hour_most": 3600,
    "bytes_hour": 1024,
    "bytes_hour_most": 1024**3,
    "why": None,
}


def test_the_status_says_what_a_crawl_found_what_it_took_and_why_not_more() -> None:
    search = {**SEARCH, "crawl": CRAWL, "denied": 1234}
    lines = dict(
        line.split(":", 1)
        for line in cli_view.status_text({**STATUS, "search": search}, []).splitlines()
    )
    assert lines["crawl"].strip() == (
        "1 torrent found, 0 in the last hour; 700 of 1200 nodes named some; 12 wait to be looked at"
    )
    assert lines["budget"].strip() == (
        "20,000 of 36,000 queries, 40 of 3,600 fetches and 1.0 KiB of 1.0 GiB in the last hour"
    )
    assert lines["others"].strip() == "1,500 no peers, 2 denied"
    assert lines["denied"].strip() == "1,234 words and infohashes in the deny-list"
    assert "no finds" not in lines
    why = {**search, "crawl": {**CRAWL, "why": "none of 20 nodes answered"}}
    shown = cli_view.status_text({**STATUS, "search": why}, [])
    assert "no finds:  none of 20 nodes answered" in shown


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"ranges": 1, "bad_lines": 0, "first_bad": None, "blocked": {}},
            "1 range; blocked so far: nothing",
        ),
        (
            {
                "ranges": 2,
                "bad_lines": 1,
                "first_bad": "line 3: 'x'",
                "blocked": {"incoming": 1, "dials": 2, "datagrams": 3, "closed": 1},
            },
            (
                "2 ranges; blocked so far: 1 incoming connection, 2 dials, 3 datagrams, 1 earlier"
                " connection; 1 line not understood, the first is line 3: 'x'"
            ),
        ),
    ],
)
def test_what_the_ip_filter_did_is_shown(given: dict[str, object], told: str) -> None:
    lines = cli_view.status_text({**STATUS, "ip_filter": given}, []).splitlines()
    assert f"ip filter: {told}" in lines
    assert "ip filter" not in cli_view.status_text(STATUS, [])


def test_what_the_router_maps_is_shown_or_why_it_does_not() -> None:
    def rows(**changes: object) -> list[str]:
        mapping: dict[str, object] = {
            "gateway": "192.168.1.1",
            "mapped": [],
            "trouble": None,
            "refused": {},
        }
        shown = cli_view.status_text({**STATUS, "port_mapping": {**mapping, **changes}}, [])
        return [line for line in shown.splitlines() if line.startswith("mapped:")]

    tcp = {"protocol": "tcp", "port": 1, "external": "8.7.6.5:2", "by": "PCP", "expires_in": 7000.0}
    udp = {**tcp, "protocol": "udp", "by": "UPnP", "expires_in": None}
    assert rows(mapped=[tcp, udp]) == [
        "mapped:    TCP 8.7.6.5:2 by PCP, for 1 h 56 min",
        "mapped:    UDP 8.7.6.5:2 by UPnP, for good",
    ]
    assert rows(mapped=[tcp], refused={"UDP 1": "it has no room"})[1:] == [
        "mapped:    UDP 1 is not: it has no room"
    ]
    assert rows(trouble="looking for a router") == ["mapped:    nothing: looking for a router"]
    assert "mapped:" not in cli_view.status_text(STATUS, [])


def test_what_came_of_holepunching_is_shown_or_why_it_cannot_work() -> None:
    def rows(**changes: object) -> list[str]:
        punches = {"tried": 0, "reached": 0, "introduced": 0, "trouble": None, **changes}
        shown = cli_view.status_text({**STATUS, "holepunch": punches}, [])
        return [line for line in shown.splitlines() if line.startswith("holepunch:")]

    assert rows() == rows(tried=2) == []
    assert rows(reached=1, introduced=2) == [
        "holepunch: 1 peer behind routers reached, 2 pairs of others introduced"
    ]
    assert rows(trouble="a symmetric NAT") == ["holepunch: a symmetric NAT"]
    assert "holepunch:" not in cli_view.status_text(STATUS, [])


def test_the_interface_is_shown_where_one_is_kept_to() -> None:
    assert "interface:" not in cli_view.status_text(STATUS, [])
    shown = cli_view.status_text({**STATUS, "interface": "tun0 (10.8.0.2)"}, [])
    assert "\ninterface: tun0 (10.8.0.2)\n" in shown


@pytest.mark.parametrize(
    ("trouble", "udp", "proxy", "dht"),
    [
        (None, None, "socks5://h:1080", "good contact"),
        (None, "it refuses UDP", "socks5://h:1080", "down: it refuses UDP"),
        ("no answer", "no answer", "socks5://h:1080: down: no answer", "down: no answer"),
    ],
)
def test_what_goes_through_a_proxy_is_shown(
    trouble: str | None, udp: str | None, proxy: str, dht: str
) -> None:
    given = {"server": "socks5://h:1080", "trouble": trouble, "udp_trouble": udp}
    status = {**STATUS, "proxy": given, "reachable": False, "reachable_why": "for a reason"}
    shown = cli_view.status_text({**status, "dht": {**STATUS["dht"], "down": udp}}, [])
    lines = dict(line.split(": ", 1) for line in shown.splitlines() if ": " in line)
    assert lines["proxy"].strip() == proxy
    assert lines["listening"].strip() == "nowhere: everything goes through the proxy"
    assert lines["reachable"].strip() == "no, for a reason"
    assert dht in lines["dht"]
    assert STATUS["listen"] not in shown
