"""What Prometheus reads at `/metrics`: the node in numbers. Names follow its rules: the unit is in
the name, a total only grows while the process runs, and what is added up over a label makes sense.

The numbers of single torrents come only when asked for, `/metrics?torrents`: a label for each of
thousands costs whoever stores them.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar, get_args

import trio
from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from dht_torrent.daemon import lateness
from dht_torrent.engine.views import NodeStatus, State, Summary

if TYPE_CHECKING:
    from prometheus_client.core import Metric
    from starlette.requests import Request

    from dht_torrent.daemon.tokens import WebTokens
    from dht_torrent.engine.dht.views import DhtStatus
    from dht_torrent.engine.node import Node
    from dht_torrent.engine.search.views import SearchStatus
    from dht_torrent.engine.torrent.statistics import Statistics

PATH: Final = "/metrics"
PREFIX: Final = "dhtnode_"
BATCH: Final = 50
"""Torrents that are looked at before others have their turn."""
LATE: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
"""Seconds: the upper ends of the classes of lateness."""
_OPEN: Final = "application/openmetrics-text"

Values = Mapping[str, float]
"""By the value of a label."""
Family = TypeVar("Family", GaugeMetricFamily, CounterMetricFamily)


class Metrics:
    """Of one node, from when it began to be watched."""

    def __init__(self, node: Node, tokens: WebTokens) -> None:
        self._node = node
        self._tokens = tokens
        self._own = CollectorRegistry()  # what is counted here
        ProcessCollector(registry=self._own)
        self._late = Histogram(
            PREFIX + "loop_lateness_seconds",
            "How late what waits for a moment goes on.",
            buckets=LATE,
            registry=self._own,
        )

    def routes(self) -> list[Route]:
        return [Route(PATH, self.answer, methods=["GET"])]

    async def watch(self) -> None:
        """Measure what must be measured all the time, until cancelled."""
        await lateness.watch(self._late.observe)

    async def answer(self, request: Request) -> Response:
        """All there is, in the format that is asked for."""
        if not self._tokens.admits(request, "metrics"):
            raise HTTPException(401, "a token is needed: `dhtnode web --tokens` shows it")
        torrents = []
        for number, torrent in enumerate(list(self._node.torrents.values()), 1):
            torrents.append(torrent.summary())
            if number % BATCH == 0:
                await trio.lowlevel.checkpoint()
        metrics = [
            *_of_node(self._node.status()),
            *_of_statistics(*self._node.statistics()),
            *_of_torrents(torrents),
            *_of_disk(Path(self._node.config.download_dir)),
            *(_of_each(torrents) if "torrents" in request.query_params else ()),
        ]
        accepted = request.headers.get("accept", "")
        encode, media_type = choose_encoder(_OPEN if _OPEN in accepted else "")
        data = encode(_Everything(metrics, self._own))
        return Response(data, headers={"Content-Type": media_type})


class _Everything(Collector):
    def __init__(self, metrics: Sequence[Metric], more: CollectorRegistry) -> None:
        self._metrics, self._more = metrics, more

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics
        yield from self._more.collect()


def _of_node(status: NodeStatus) -> Iterator[Metric]:
    yield _gauge("info", "What runs here.", {status.version: 1}, "version")
    yield _gauge("uptime_seconds", "Since the node was opened.", status.uptime)
    yield _gauge("download_bytes_per_second", "Payload that comes.", status.down_rate)
    yield _gauge("upload_bytes_per_second", "Payload that goes.", status.up_rate)
    yield _gauge("connections", "To peers.", status.connections)
    yield _gauge("peers", "By how we learned of them.", status.peers_by_source, "source")
    yield _gauge(
        "peers_by_transport", "By what carries them.", status.peers_by_transport, "transport"
    )
    yield _gauge("peers_encrypted", "By what hides them.", status.peers_by_encryption, "by")
    if status.reachable is not None:
        yield _gauge("reachable", "Whether others can connect to us.", status.reachable)
    yield _total("faults", "Bugs that ended something, see the log.", status.faults)
    yield _gauge("warnings", "That `dhtnode status` shows.", len(status.warnings))
    dhts = [dht for dht in (status.dht, status.dht6) if dht is not None]
    yield from _of_dht({"IPv6" if dht.address.is_ipv6 else "IPv4": dht for dht in dhts})
    if status.search is not None:
        yield from _of_search(status.search)
    if status.ip_filter is not None:
        yield _total("filtered", "What the IP filter blocked.", status.ip_filter.blocked, "what")


def _of_statistics(now: Statistics, ever: Statistics) -> Iterator[Metric]:
    """Those of this run are counters. Those of all runs are not: what was counted last is lost
    when a process is killed, and a counter that falls is taken for one that began anew."""
    yield _total("downloaded_bytes", "Payload that came, in this run.", now.downloaded)
    yield _total("uploaded_bytes", "Payload that went, in this run.", now.uploaded)
    yield _total("torrents_added", "In this run.", now.torrents_added)
    yield _gauge("lifetime_downloaded_bytes", "Payload that came, in all runs.", ever.downloaded)
    yield _gauge("lifetime_uploaded_bytes", "Payload that went, in all runs.", ever.uploaded)
    yield _gauge("lifetime_seconds", "In which the node ran, in all runs.", ever.seconds)
    yield _gauge("lifetime_runs", "Of the node, this one too.", ever.runs)


def _of_dht(dhts: Mapping[str, DhtStatus]) -> Iterator[Metric]:
    """By the family of addresses."""

    def gauge(name: str, text: str, values: Values) -> Metric:
        return _gauge("dht_" + name, text, values, "family")

    def total(name: str, text: str, values: Values) -> Metric:
        return _total("dht_" + name, text, values, "family")

    contacts = GaugeMetricFamily(
        PREFIX + "dht_contacts", "In the routing table.", labels=["family", "state"]
    )
    dropped = CounterMetricFamily(
        PREFIX + "dht_dropped", "Datagrams that were ignored.", labels=["family", "why"]
    )
    for family, dht in dhts.items():
        for state in ("good", "questionable", "bad"):
            contacts.add_metric([family, state], getattr(dht, state))
        for why, count in dht.dropped.items():
            dropped.add_metric([family, why], count)
    yield contacts
    yield dropped
    yield gauge("buckets", "Of the table.", {f: dht.buckets for f, dht in dhts.items()})
    yield total("queries_received", "From others.", {f: dht.queries_in for f, dht in dhts.items()})
    yield total("queries_sent", "To others.", {f: dht.queries_out for f, dht in dhts.items()})
    yield total("replies_received", "To ours.", {f: dht.replies_in for f, dht in dhts.items()})
    yield gauge(
        "stored_torrents", "We know peers of.", {f: dht.stored_torrents for f, dht in dhts.items()}
    )
    yield gauge("stored_peers", "Of these.", {f: dht.stored_peers for f, dht in dhts.items()})
    yield gauge("stored_items", "BEP 44.", {f: dht.stored_items for f, dht in dhts.items()})
    sizes = {f: dht.network_size for f, dht in dhts.items() if dht.network_size is not None}
    yield gauge("network_nodes", "About how many nodes there are.", sizes)


def _of_search(search: SearchStatus) -> Iterator[Metric]:
    yield _gauge("published_torrents", "In the index.", search.published)
    yield _gauge("published_entries", "Of these.", search.entries)
    yield _gauge("published_entries_due", "To be written by now.", search.due)
    yield _total("search_refused", "Slots that held what makes no sense.", search.refused)


def _of_torrents(torrents: Sequence[Summary]) -> Iterator[Metric]:
    states = Counter(torrent.state for torrent in torrents)
    yield _gauge("torrents", "By their state.", {s: states[s] for s in get_args(State)}, "state")
    stuck = sum(torrent.why is not None for torrent in torrents)
    yield _gauge("torrents_stuck", "In which nothing moves.", stuck)
    yield _gauge("content_bytes", "That are wanted.", sum(one.size for one in torrents))


def _of_disk(folder: Path) -> Iterator[Metric]:
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return
    yield _gauge("disk_free_bytes", "Where downloads go.", usage.free)
    yield _gauge("disk_size_bytes", "Of that file system.", usage.total)


def _of_each(torrents: Sequence[Summary]) -> Iterator[Metric]:
    labels = ["id", "name"]
    families: list[tuple[str, GaugeMetricFamily | CounterMetricFamily]] = [
        (attribute, kind(f"{PREFIX}torrent_{name}", text, labels=labels))
        for kind, name, attribute, text in (
            (GaugeMetricFamily, "progress_ratio", "progress", "Verified, of what is wanted."),
            (GaugeMetricFamily, "size_bytes", "size", "What is wanted."),
            (GaugeMetricFamily, "peers", "peers", "Connected."),
            (GaugeMetricFamily, "download_bytes_per_second", "down_rate", "Payload that comes."),
            (GaugeMetricFamily, "upload_bytes_per_second", "up_rate", "Payload that goes."),
            (CounterMetricFamily, "downloaded_bytes", "downloaded", "Payload, good or not."),
            (CounterMetricFamily, "uploaded_bytes", "uploaded", "Payload."),
            (CounterMetricFamily, "wasted_bytes", "wasted", "Payload that was of no use."),
        )
    ]
    for torrent in torrents:
        for attribute, family in families:
            family.add_metric([torrent.id, torrent.name], getattr(torrent, attribute))
    for _, family in families:
        yield family


def _gauge(name: str, text: str, value: float | Values, label: str = "") -> GaugeMetricFamily:
    return _filled(GaugeMetricFamily(PREFIX + name, text, labels=_labels(label)), value)


def _total(name: str, text: str, value: float | Values, label: str = "") -> CounterMetricFamily:
    """It is shown as `name_total`."""
    return _filled(CounterMetricFamily(PREFIX + name, text, labels=_labels(label)), value)


def _labels(label: str) -> list[str]:
    return [label] if label else []


def _filled(family: Family, value: float | Values) -> Family:
    if isinstance(value, Mapping):
        for key, number in value.items():
            family.add_metric([key], number)
    else:
        family.add_metric([], value)
    return family
