"""What a scraper reads, on a fake network."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_plain
from trio.testing import MockClock

from dht_torrent import Node
from dht_torrent.daemon.metrics import PATH, Metrics
from dht_torrent.daemon.tokens import WebTokens
from dht_torrent.ids import HostPort
from tests.helpers.engine import LEECH, PORT, SEED, World, sample

TOKENS = WebTokens(b"s" * 32)
TOKEN = TOKENS.token("metrics")
HOSTILE = 'a"} 1\nevil{x="\\'


@pytest.fixture
async def node(autojump_clock: MockClock, tmp_path: Path) -> AsyncIterator[Node]:
    async with World().node(LEECH, download_dir=tmp_path) as node:
        yield node


def scraper(node: Node) -> httpx.AsyncClient:
    from starlette.applications import Starlette

    app = Starlette(routes=Metrics(node, TOKENS).routes())
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app),
        base_url="http://127.0.0.1",
        headers={"Authorization": f"Bearer {TOKEN}"},
    )


async def scraped(node: Node, path: str = PATH, **headers: str) -> dict[str, float]:
    """All samples, by name and labels as they are written."""
    async with scraper(node) as client:
        answer = await client.get(path, headers=headers)
    assert answer.status_code == 200, answer.text
    parse: Any = parse_open if "openmetrics" in answer.headers["content-type"] else parse_plain
    return dict(_samples(parse(answer.text)))


def _samples(families: Any) -> Iterator[tuple[str, float]]:
    for family in families:
        for sample_ in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample_.labels.items()))
            yield (f"{sample_.name}{{{labels}}}" if labels else sample_.name), sample_.value


async def test_the_node_is_told_in_numbers(node: Node, autojump_clock: MockClock) -> None:
    one = sample()
    await node.get(one.metainfo)
    paused = await node.get(sample(seed=2).metainfo)
    await paused.pause()
    await trio.sleep(30)
    told = await scraped(node)
    assert told["dhtnode_torrents{state=downloading}"] == 1
    assert told["dhtnode_torrents{state=paused}"] == 1
    assert told["dhtnode_torrents{state=seeding}"] == 0
    assert told["dhtnode_torrents_stuck"] == 1
    assert told["dhtnode_uptime_seconds"] == pytest.approx(30, abs=1)
    assert told["dhtnode_content_bytes"] == sum(t.summary().size for t in node.torrents.values())
    assert told["dhtnode_dht_contacts{family=IPv4,state=good}"] == node.status().dht.good
    assert told["dhtnode_disk_free_bytes"] > 0
    assert told["process_resident_memory_bytes"] > 0


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text;version=x;;,*/*"])
async def test_single_torrents_are_told_of_when_asked_for_and_their_names_are_only_names(
    node: Node, accept: str, autojump_clock: MockClock
) -> None:
    torrent = await node.get(f"magnet:?xt=urn:btih:{'ab' * 20}&dn={HOSTILE}")
    assert not any("torrent_" in name for name in await scraped(node, accept=accept))
    told = await scraped(node, PATH + "?torrents", accept=accept)
    name = torrent.summary().name
    assert told[f"dhtnode_torrent_progress_ratio{{id={torrent.id},name={name}}}"] == 0
    assert told[f"dhtnode_torrent_downloaded_bytes_total{{id={torrent.id},name={name}}}"] == 0
    assert not any(key.startswith("evil") for key in told)


async def test_bytes_are_counted_in_this_run_and_told_of_all_runs(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    one = sample()
    world = World()
    where: dict[str, Any] = {"state_dir": tmp_path / "state", "download_dir": tmp_path / "files"}
    async with world.seed(one):
        for run in (1, 2):
            async with world.node(LEECH, **where) as node:
                torrent = await node.get(one.metainfo)
                torrent.add_peers([HostPort(SEED, PORT)])
                with trio.fail_after(60):
                    await torrent.completed()
                told = await scraped(node)
            came = one.metainfo.geometry.total if run == 1 else 0
            assert told["dhtnode_downloaded_bytes_total"] == came
            assert told["dhtnode_uploaded_bytes_total"] == 0
            assert told["dhtnode_torrents_added_total"] == (1 if run == 1 else 0)
            assert told["dhtnode_lifetime_downloaded_bytes"] == one.metainfo.geometry.total
            assert told["dhtnode_lifetime_runs"] == run


UNITS = re.compile(  # what Prometheus has a base unit in place of, as promtool's linter knows them
    r"(milli|micro|nano|kilo|mega|giga|kibi|mebi|gibi)|"
    r"_(minutes|hours|days|weeks|bits|percent|celsius|ms|us|kb|mb|gb)(_|$)"
)


async def test_what_is_told_keeps_the_rules_of_prometheus(
    node: Node, autojump_clock: MockClock
) -> None:
    await node.get(sample().metainfo)
    await trio.sleep(30)
    async with scraper(node) as client:
        text = (await client.get(PATH + "?torrents")).text
    families = list(parse_plain(text))
    assert len({family.name for family in families}) == len(families) > 40
    for family in families:
        name = family.name
        assert family.documentation, name
        assert re.fullmatch(r"(dhtnode|process)_[a-z]+(_[a-z]+)*", name)
        assert not UNITS.search(name), name
        assert not re.search(r"_(gauge|counter|histogram|bucket|sum|count|total)(_|$)", name)
        for one in family.samples:
            assert (family.type == "counter") == one.name.endswith("_total"), one.name
            assert set(one.labels).isdisjoint({"instance", "job", "quantile"})
            assert "le" not in one.labels or family.type == "histogram"
            assert family.type != "counter" or one.value >= 0


async def test_lateness_is_counted_in_classes(node: Node, autojump_clock: MockClock) -> None:
    metrics = Metrics(node, TOKENS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(metrics.watch)
        await trio.testing.wait_all_tasks_blocked()
        autojump_clock.autojump_threshold = float("inf")
        autojump_clock.jump(1.03)  # as if something had kept the thread busy
        autojump_clock.autojump_threshold = 0
        await trio.sleep(10.5)
        nursery.cancel_scope.cancel()
    told = dict(_samples(metrics._own.collect()))
    assert told["dhtnode_loop_lateness_seconds_bucket{le=0.025}"] == 10
    assert told["dhtnode_loop_lateness_seconds_bucket{le=0.05}"] == 11


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        (PATH, {"Authorization": ""}),
        (PATH, {"Authorization": "Bearer " + "0" * 32}),
        (PATH, {"Authorization": "Bearer " + TOKENS.token("stream")}),
        (PATH, {"Authorization": "Basic " + TOKEN}),
        (PATH + "?token=", {"Authorization": ""}),
        (PATH + "?token=%ff%00", {"Authorization": ""}),
    ],
)
async def test_without_the_token_nothing_is_told(
    node: Node, path: str, headers: dict[str, str], autojump_clock: MockClock
) -> None:
    async with scraper(node) as client:
        answer = await client.get(path, headers=headers)
    assert answer.status_code == 401
    assert "dhtnode_" not in answer.text


async def test_who_can_send_no_header_puts_the_token_into_the_query(
    node: Node, autojump_clock: MockClock
) -> None:
    async with scraper(node) as client:
        answer = await client.get(f"{PATH}?token={TOKEN}", headers={"Authorization": ""})
    assert answer.status_code == 200


def test_tokens_stay_the_same_and_differ_by_purpose(tmp_path: Path) -> None:
    first, second = WebTokens.of(tmp_path), WebTokens.of(tmp_path)
    assert first.token("stream") == second.token("stream")
    assert len({first.token("metrics"), first.token("stream"), first.token("torznab")}) == 3
    assert (tmp_path / "web.key").stat().st_mode & 0o077 == 0
    assert WebTokens.of(tmp_path / ".." / tmp_path.name).token("stream") == first.token("stream")


async def test_the_dashboard_draws_nothing_that_is_not_told(
    node: Node, autojump_clock: MockClock
) -> None:
    await trio.sleep(30)
    told = set(await scraped(node))
    dashboard = (Path(__file__).parents[2] / "scripts" / "grafana-dashboard.json").read_text()
    exprs = [
        target["expr"] for panel in json.loads(dashboard)["panels"] for target in panel["targets"]
    ]
    drawn = set(re.findall(r"\b(?:dhtnode|process)_\w+", " ".join(exprs)))
    names = {name.partition("{")[0] for name in told}
    # Nobody was asked yet, so there is nothing to tell of these.
    unseen = {"dhtnode_peers", "dhtnode_peers_by_transport", "dhtnode_peers_encrypted"}
    unseen |= {"dhtnode_dht_dropped_total", "dhtnode_dht_network_nodes"}
    assert drawn - names <= unseen
