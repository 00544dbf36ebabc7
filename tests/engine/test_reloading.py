"""A node that takes another configuration while it runs."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from dht_torrent import Config, Node
from dht_torrent.config.alternative import AlternativeLimits
from dht_torrent.engine.torrent.housekeeping import NodeRules
from dht_torrent.errors import InputError
from tests.helpers.engine import SEED, World

FORBIDDEN, OTHER = "5.5.5.5", "6.6.6.6"

LIVE: dict[str, Any] = {
    "limit_up": 1000,
    "limit_down": 2000,
    "active_downloads": 3,
    "active_seeds": 4,
    "seed_ratio": 1.5,
    "seed_idle": 60.0,
    "after_seeding": "remove",
    "min_free": 5,
    "alternative_limits": AlternativeLimits(up=7),
}


async def test_what_can_change_while_running_does_and_the_rest_does_not(
    autojump_clock: MockClock,
) -> None:
    async with World().node(SEED) as node:
        before = node.config
        taken = await node.reload(changed(before, **LIVE, pex=False, max_connections=7))
        assert taken == set(LIVE)
        assert (node.limits, node.rules) == ((1000, 2000), NodeRules(3, 4, 1.5, 60.0, "remove", 5))
        assert node.config == changed(before, **LIVE)
        assert await node.reload(before) == set(LIVE)
        limits, rules = node.limits, node.rules
        assert (limits, rules) == (
            (None, None),
            NodeRules(None, None, None, None, "pause", before.min_free),
        )


async def test_each_rule_of_the_node_is_a_field_of_its_configuration() -> None:
    assert {rule.name for rule in fields(NodeRules)} <= {field.name for field in fields(Config)}


async def test_what_was_set_by_hand_stays_unless_the_configuration_changed(
    autojump_clock: MockClock,
) -> None:
    async with World().node(SEED, limit_up=1000, active_seeds=1) as node:
        node.set_limits(up=5)
        node.rules.active_seeds = 9
        assert await node.reload(changed(node.config, limit_down=7)) == {"limit_down"}
        assert node.limits == (5, 7)
        assert node.rules.active_seeds == 9


async def test_torrents_get_their_turns_at_once(autojump_clock: MockClock) -> None:
    async with World().node(SEED, keeping_interval=3600.0) as node:
        torrents = [await node.get(digit * 40) for digit in "ab"]
        await node.reload(changed(node.config, active_downloads=1))
        await trio.sleep(1)
        assert [torrent.state for torrent in torrents] == ["metadata", "queued"]


def changed(config: Config, **values: Any) -> Config:
    return replace(config, **values)


def denied(node: Node) -> int:
    search = node.status().search
    assert search is not None
    return search.denied


def ranges(node: Node) -> int:
    status = node.status().ip_filter
    assert status is not None
    return status.ranges


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


async def test_the_files_are_read_again_also_from_another_place(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    path = written(tmp_path / "a", FORBIDDEN)
    async with World().node(SEED, ip_filter=path, ip_filter_check_interval=3600.0) as node:
        assert node.status().ip_filter is not None
        written(path, f"{FORBIDDEN}\n{OTHER}\n7.7.7.7")
        assert await node.reload(node.config) == set()
        await trio.sleep(1)
        assert ranges(node) == 3
        other = written(tmp_path / "b", OTHER)
        assert await node.reload(changed(node.config, ip_filter=other)) == {"ip_filter"}
        await trio.sleep(1)
        assert ranges(node) == 1
        await trio.sleep(3600)
        assert ranges(node) == 1


async def test_what_is_denied_is_read_again(tmp_path: Path, autojump_clock: MockClock) -> None:
    path = written(tmp_path / "a", "word\n")
    async with World().node(SEED, deny_list=path, deny_check_interval=3600.0) as node:
        await node.catalogue_status()
        other = written(tmp_path / "b", "word\nother\n")
        assert await node.reload(changed(node.config, deny_list=other)) == {"deny_list"}
        await trio.sleep(1)
        assert denied(node) == 2


@pytest.mark.parametrize("field", ["ip_filter", "deny_list"])
async def test_a_file_that_cannot_be_read_changes_nothing(
    field: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    path = written(tmp_path / "a", FORBIDDEN)
    given: dict[str, Any] = {field: path}
    async with World().node(SEED, **given) as node:
        await node.catalogue_status()
        before = node.config
        with pytest.raises(InputError, match="none: No such file"):
            await node.reload(changed(before, **LIVE, **{field: tmp_path / "none"}))
        assert node.config == before
        assert node.limits == (None, None)
        assert node.rules.seed_ratio is None
        written(path, f"{FORBIDDEN}\n{OTHER}")
        await trio.sleep(11)  # it is followed as before
        assert (ranges(node) if field == "ip_filter" else denied(node)) == 2


@pytest.mark.parametrize("field", ["ip_filter", "deny_list"])
async def test_a_first_file_and_none_any_more_need_a_restart(
    field: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    given: dict[str, Any] = {field: written(tmp_path / "a", FORBIDDEN)}
    async with World().node(SEED) as node:
        assert await node.reload(changed(node.config, **given)) == set()
    async with World().node(SEED, **given) as node:
        assert await node.reload(changed(node.config, **{field: None})) == set()


@pytest.mark.parametrize("alternative", [5, -1])
async def test_a_limit_of_no_use_changes_nothing(
    alternative: int, autojump_clock: MockClock
) -> None:
    async with World().node(SEED) as node:
        before = node.speed.alternative
        given: dict[str, Any] = {
            "limit_down": 1 - alternative,
            "limit_up": -alternative,
            "seed_ratio": 1.0,
            "alternative_limits": AlternativeLimits(up=alternative),
        }
        with pytest.raises(InputError):
            await node.reload(changed(node.config, **given))
        assert (node.limits, node.rules.seed_ratio) == ((None, None), None)
        assert node.speed.alternative == before
