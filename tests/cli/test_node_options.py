"""What the options of a node make of its configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

import dht_torrent.cli.node as node_of_the_cli
from dht_torrent import Config
from dht_torrent.cli.main import cli


def config_of(given: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Of the node that runs with these options."""
    configs: list[Config] = []
    monkeypatch.setattr(node_of_the_cli, "log_to_stderr", lambda level: None)

    async def run(config: Config, *more: object) -> None:
        configs.append(config)

    monkeypatch.setattr("dht_torrent.daemon.run.run", run)
    CliRunner().invoke(cli, ["--state-dir", str(folder), *given])
    (config,) = configs
    return config


@pytest.mark.parametrize(("given", "lsd"), [([], True), (["--no-lsd"], False)])
def test_the_local_network_is_told_unless_no_lsd_is_given(
    given: list[str], lsd: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert config_of(given, tmp_path, monkeypatch).lsd == lsd
    assert not Config().lsd


@pytest.mark.parametrize(("given", "pex"), [([], True), (["--no-pex"], False)])
def test_peers_are_told_of_others_unless_no_pex_is_given(
    given: list[str], pex: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert config_of(given, tmp_path, monkeypatch).pex == pex
    assert Config().pex
