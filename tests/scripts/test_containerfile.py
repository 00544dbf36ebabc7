"""The container, as far as that can be told without building it."""

from __future__ import annotations

import re

import click

from dht_torrent.cli.main import cli
from dht_torrent.cli.options import declared
from tests.helpers.scripts import SCRIPTS

TEXT = (SCRIPTS / "Containerfile").read_text(encoding="utf-8")


def test_what_is_copied_is_there() -> None:
    copied = [line.split()[1:-1] for line in TEXT.splitlines() if line.startswith("COPY ")]
    here = [name for names in copied if "--from=build" not in names for name in names]
    assert {"pyproject.toml", "dht_torrent", "scripts/dhtnode.1"} <= set(here)
    assert [name for name in here if not (SCRIPTS.parent / name).exists()] == []


def test_its_variables_are_options_of_a_node() -> None:
    known = {option.envvar for option in declared(click.Context(cli)).values()}
    named = set(re.findall(r"DHTNODE_[A-Z_]+", TEXT))
    assert {"DHTNODE_STATE_DIR", "DHTNODE_DOWNLOAD_DIR"} <= named <= known


def test_it_runs_without_privileges_and_writes_to_its_volumes_only() -> None:
    last = TEXT.split("\nFROM ")[-1]
    assert "\nUSER 10001:10001\n" in last
    assert "\nVOLUME /state /downloads\n" in last
    assert "--read-only --cap-drop all --security-opt no-new-privileges" in TEXT
