"""How the command line shows things. Names come from strangers, so nothing reaches a terminal
before its control characters are gone; machine output (--json) is escaped by JSON itself.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    pass

Json = Mapping[str, Any]

LEFT_SHOWN = 20
"""Files named that a removal left."""
_TRANSPORTS = {"tcp": "TCP", "utp": "uTP"}
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def show(value: object, as_json: bool, text: Callable[[], str] | None = None) -> None:
    """On stdout, as JSON or for people, who are told nothing where there is no `text`."""
    if as_json:
        click.echo(json.dumps(value, indent=2))
    elif text is not None:
        click.echo(text())


def warn(torrent: Json) -> None:
    """On stderr, what is wrong although the command did its work."""
    if torrent.get("warning"):
        name = torrent.get("name", "")
        click.echo(f"dhtnode: warning: {clean(name)}: {clean(torrent['warning'])}", err=True)


def tell_reused(torrent: Json, *, before: Json) -> None:
    """On stderr, at the end of a download: what of it was here already, and what was wrong with
    that since `before`."""
    if torrent.get("warning") != before.get("warning"):
        warn(torrent)
    if torrent.get("reused"):
        told = f"{size(torrent['reused'])} were here already, {size(torrent['downloaded'])} fetched"
        click.echo(f"{clean(torrent['name'])}: {told}", err=True)


def clean(text: object) -> str:
    """`text` without what could move a cursor or colour a screen."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))


def size(count: float) -> str:
    """Bytes, in three digits or so."""
    for unit in _UNITS[:-1]:
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} {_UNITS[-1]}"


def counted(number: int, noun: str) -> str:
    """`1 peer`, `2 peers`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def rate(per_second: float) -> str:
    return f"{size(per_second)}/s"


def limits_text(limited: Json) -> str:
    """The limits of a node or torrent."""
    up, down = (
        "no limit" if limited[key] is None else rate(limited[key])
        for key in ("limit_up", "limit_down")
    )
    text = f"{down} down, {up} up"
    return f"{text} (the alternative limits)" if limited.get("alternative") else text


def removal_text(removal: Json) -> str:
    """What `rm --data` deleted, and what it left."""
    count, left, more = removal["deleted"], removal["left"], removal["left_files"]
    lines = [f"deleted {counted(count, 'file')}"]
    lines += [clean(f"left {one['path']}: {one['why']}") for one in left[:LEFT_SHOWN]]
    more -= len(left[:LEFT_SHOWN])
    if more:
        lines.append(f"left {counted(more, 'more file')}; --json names them")
    return "\n".join(lines)


def duration(seconds: float | None) -> str:
    """In its two largest units; `-` when not known."""
    if seconds is None:
        return "-"
    whole = int(seconds)
    for width, unit, inner, inner_unit in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= width:
            return f"{whole // width} {unit} {whole % width // inner} {inner_unit}"
    return f"{whole} s"


def percent(share: float) -> str:
    # Rounded down: 100 % means all of it.
    return f"{int(share * 1000) / 10:.1f}%"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Columns as wide as they need to be; those in `right` are aligned to the right."""
    lines = [tuple(head), *(tuple(map(clean, row)) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def state_text(torrent: Json) -> str:
    """The state in a word, and how far the pieces of a super seed have spread."""
    if torrent["state"] != "seeding" or torrent.get("spread") is None:
        return str(torrent["state"])
    return f"super-seeding {percent(torrent['spread'])}"


def torrents_table(torrents: Sequence[Json]) -> str:
    rows = [
        (
            t["id"][:8],
            state_text(t),
            percent(t["progress"]),
            size(t["size"]),
            rate(t["down_rate"]),
            rate(t["up_rate"]),
            str(t["peers"]),
            duration(t["eta"]),
            t["name"],
        )
        for t in torrents
    ]
    head = ("ID", "STATE", "DONE", "SIZE", "DOWN", "UP", "PEERS", "ETA", "NAME")
    lines = [table(head, rows, right=(2, 3, 4, 5, 6, 7))]
    lines += [f"{t['id'][:8]}: {clean(t['error'])}" for t in torrents if t["error"]]
    return "\n".join(lines)


def peers_table(peers: Sequence[Json]) -> str:
    rows = [
        (
            p["address"],
            p["client"] or "-",
            "in" if p["incoming"] else "out",
            p["source"],
            p["flags"] or "-",
            p.get("transport", "tcp") + (" punched" if p.get("punched") else ""),
            p.get("encryption") or "-",
            percent(p["progress"]),
            rate(p["down_rate"]),
            rate(p["up_rate"]),
            size(p["downloaded"]),
            size(p["uploaded"]),
        )
        for p in peers
    ]
    head = (
        "ADDRESS",
        "CLIENT",
        "DIR",
        "SOURCE",
        "FLAGS",
        "VIA",
        "CRYPT",
        "HAS",
        "DOWN",
        "UP",
        "GOT",
        "GAVE",
    )
    return table(head, rows, right=(7, 8, 9, 10, 11))


_PRIORITIES = {1: ", first", 0: "", -1: ", last"}


def files_table(files: Sequence[Json]) -> str:
    rows = [
        (
            str(f["index"]),
            size(f["size"]),
            percent(f["progress"]),
            ("yes" if f["selected"] else "no") + _PRIORITIES[f.get("priority", 0)],
            f["path"],
        )
        for f in files
    ]
    return table(("INDEX", "SIZE", "DONE", "WANTED", "PATH"), rows, right=(0, 1, 2))


def _listening_rows(status: Json) -> list[tuple[str, str]]:
    proxy = status.get("proxy")
    if proxy:
        told = proxy["server"]
        if proxy["trouble"]:
            told += f": down: {proxy['trouble']}"
        rows = [("proxy", told), ("listening", "nowhere: everything goes through the proxy")]
    else:
        listening = [status["listen"], status.get("listen6")]
        rows = [("listening", " and ".join(filter(None, listening)))]
    if status.get("interface"):
        rows.append(("interface", status["interface"]))
    if status.get("tls_listen") and not proxy:
        rows.append(("tls", " and ".join(status["tls_listen"])))
    return rows


def _dht_line(dht: Json) -> str:
    if dht.get("down"):
        return f"down: {dht['down']}"
    return ", ".join(
        (
            counted(dht["good"], "good contact"),
            f"{dht['questionable']} questionable",
            counted(round(dht["replies_per_minute"]), "response") + " a minute",
            f"{dht['bootstrap_answered']}/{dht['bootstrap_total']} entry points answered",
        )
    )


def _encryption_line(status: Json) -> str:
    """Who is encrypted and how."""
    parts = [
        f"{count} {'handshake only' if how == 'mse' else how.upper()}"
        for how, count in sorted(status["peers_by_encryption"].items())
    ]
    return f"{status['encryption']}{': ' if parts else ''}{', '.join(parts)}"


def _transport_rows(status: Json) -> list[tuple[str, str]]:
    """What carries the connections; nothing where there is none."""
    counts = sorted(status.get("peers_by_transport", {}).items())
    text = ", ".join(f"{count} {_TRANSPORTS.get(name, name)}" for name, count in counts)
    return [("over", text)] if text else []


def _published_line(search: Json) -> str:
    """What we publish, and what that takes of what it may take."""
    told = (
        f"{counted(search['published'], 'torrent')}, {search['puts_hour']} of at most "
        f"{counted(search['puts_hour_most'], 'put')} in the last hour"
    )
    if search["entries"]:
        told += f", {search['entries']} entries, {search['due']} of them due"
    return told


def _filter_line(given: Json) -> str:
    """What the IP filter has, what it has blocked so far, and what of it was not understood."""
    nouns = {
        "incoming": "incoming connection",
        "dials": "dial",
        "datagrams": "datagram",
        "closed": "earlier connection",
    }
    blocked = [
        counted(given["blocked"][kind], noun)
        for kind, noun in nouns.items()
        if given["blocked"].get(kind)
    ]
    told = f"{counted(given['ranges'], 'range')}; blocked so far: {', '.join(blocked) or 'nothing'}"
    if given["bad_lines"]:
        told += (
            f"; {counted(given['bad_lines'], 'line')} not understood, the first is"
            f" {given['first_bad']}"
        )
    return told


def _faults_line(status: Json) -> str:
    bugs = counted(status["faults"], "bug")
    return f"{bugs} of dht_torrent, please report (see the log); last: {status['last_fault']}"


def status_text(status: Json, torrents: Sequence[Json]) -> str:
    """What a worried user needs, and for each unfinished torrent why nothing moves."""
    networks = [("dht", status["dht"])]
    if status.get("dht6"):
        networks.append(("dht IPv6", status["dht6"]))
    sources = ", ".join(f"{count} {name}" for name, count in status["peers_by_source"].items())
    announced = status["last_announce"]
    answer = {True: "yes", False: "no", None: "not known yet"}[status["reachable"]]
    why = status.get("reachable_why")
    reachable = f"{answer}, {why}" if why else answer
    rows = [
        ("node", f"{status['id']}  (version {status['version']}, up {duration(status['uptime'])})"),
        *_listening_rows(status),
        ("reachable", reachable),
        *_port_mapping_rows(status.get("port_mapping")),
        *_holepunch_rows(status.get("holepunch")),
        *((name, _dht_line(dht)) for name, dht in networks),
        ("announced", "not yet" if announced is None else f"{duration(announced)} ago"),
        ("peers", f"{status['connections']} connected" + (f" ({sources})" if sources else "")),
        *_transport_rows(status),
        ("encrypted", _encryption_line(status)),
        ("rates", f"{rate(status['down_rate'])} down, {rate(status['up_rate'])} up"),
        ("limits", limits_text(status)),
        ("torrents", str(status["torrents"])),
        *([("reused", size(status["reused"]))] if status.get("reused") else []),
        *_search_rows(status.get("search")),
        *([("ip filter", _filter_line(status["ip_filter"]))] if status.get("ip_filter") else []),
        *(("warning", warning) for warning in status["warnings"]),
        *([("faults", _faults_line(status))] if status.get("faults") else []),
    ]
    lines = [f"{name + ':':<11}{clean(text)}" for name, text in rows]
    for torrent in torrents:
        reason = torrent["error"] or torrent["why"]
        if reason and torrent["state"] != "seeding":
            lines.append(
                clean(f"{torrent['id'][:8]} {torrent['name']} ({torrent['state']}): {reason}")
            )
        elif torrent["state"] == "seeding" and torrent.get("spread") is not None:
            share = percent(torrent["spread"])
            lines.append(
                clean(
                    f"{torrent['id'][:8]} {torrent['name']} (super-seeding): "
                    f"{share} of its pieces were seen at other peers"
                )
            )
    return "\n".join(lines)


def _port_mapping_rows(mapping: Json | None) -> list[tuple[str, str]]:
    """Where the router lets the world in, or why it does not."""
    if not mapping:
        return []
    rows = []
    for one in mapping["mapped"]:
        until = one["expires_in"]
        told = "for good" if until is None else f"for {duration(until)}"
        rows.append(
            ("mapped", f"{one['protocol'].upper()} {one['external']} by {one['by']}, {told}")
        )
    rows += [("mapped", f"{port} is not: {why}") for port, why in mapping["refused"].items()]
    return rows or [("mapped", f"nothing: {mapping['trouble']}")]


def _holepunch_rows(punches: Json | None) -> list[tuple[str, str]]:
    """What came of holepunching, where there was any, or why nothing can."""
    if not punches:
        return []
    told = []
    if punches["reached"]:
        told.append(f"{counted(punches['reached'], 'peer')} behind routers reached")
    if punches["introduced"]:
        told.append(f"{counted(punches['introduced'], 'pair')} of others introduced")
    if punches["trouble"]:
        told.append(punches["trouble"])
    return [("holepunch", ", ".join(told))] if told else []


def _search_rows(search: Json | None) -> list[tuple[str, str]]:
    if not search:
        return []
    rows = [("published", _published_line(search))]
    if search["publisher"]:
        rows.append(("publisher", search["publisher"]))
    if search["gets_hour"]:
        told = f"{counted(search['gets_hour'], 'lookup')} in the last hour"
        if search["refused"]:
            told += f", {counted(search['refused'], 'slot')} held what nobody can use"
        rows.append(("search", told))
    if search.get("denied"):
        rows.append(("denied", f"{search['denied']:,} words and infohashes in the deny-list"))
    if search.get("crawl"):
        rows += _crawl_rows(search["crawl"])
    if search["trouble"]:
        rows.append(("trouble", search["trouble"]))
    return rows


def _crawl_rows(crawl: Json) -> list[tuple[str, str]]:
    """What it found, what that takes of what it may take, and why it finds nothing."""
    told = (
        f"{counted(crawl['found'], 'torrent')} found, {crawl['found_hour']:,} in the last hour;"
        f" {crawl['nodes_told']:,} of {counted(crawl['nodes'], 'node')} named some;"
        f" {crawl['waiting']:,} wait to be looked at"
    )
    budget = (
        f"{crawl['queries_hour']:,} of {crawl['queries_hour_most']:,} queries,"
        f" {crawl['fetches_hour']:,} of {crawl['fetches_hour_most']:,} fetches and"
        f" {size(crawl['bytes_hour'])} of {size(crawl['bytes_hour_most'])} in the last hour"
    )
    rows = [("crawl", told), ("budget", budget)]
    others = [
        f"{count:,} {name.replace('_', ' ')}"
        for name, count in crawl["outcomes"].items()
        if name != "found"
    ]
    if others:
        rows.append(("others", ", ".join(others)))
    if crawl["why"]:
        rows.append(("no finds", crawl["why"]))
    return rows


def facts_text(facts: Json) -> str:
    """What a .torrent or magnet link holds."""
    lines = []
    for name, value in facts.items():
        if name == "files" or value in (None, [], ()):
            continue
        if name in ("size", "piece_length"):
            value = f"{value} bytes ({size(value)})"
        elif name == "creation_date":
            value = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(value))
        elif name == "select":
            value = ",".join(str(a) if a == b else f"{a}-{b}" for a, b in value)
        elif isinstance(value, (list, tuple)):
            value = ", ".join(map(str, value))
        elif isinstance(value, bool):
            value = "yes" if value else "no"
        lines.append(f"{name.replace('_', ' ') + ':':<14}{clean(value)}")
    if "files" in facts:
        rows = [(str(f["index"]), size(f["size"]), f["path"]) for f in facts["files"]]
        lines.append(table(("INDEX", "SIZE", "PATH"), rows, right=(0, 1)))
    return "\n".join(lines)
