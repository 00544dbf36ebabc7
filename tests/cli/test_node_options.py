"""What the options of a node make of its configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

import dht_torrent.cli.node as node_of_the_cli
from dht_torrent import Config
from dht_torrent.cli.main import cli


@pytest.mark.parametrize(("given", "lsd"), [([], True), (["--no-lsd"], False)])
def test_the_local_network_is_told_unless_no_lsd_is_given(
    given: list[str], lsd: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs: list[Config] = []
    monkeypatch.setattr(node_of_the_cli, "log_to_stderr", lambda level: None)

    async def run(config: Config, *more: object) -> None:
        configs.append(config)

    monkeypatch.setattr("dht_torrent.daemon.run.run", run)
    CliRunner().invoke(cli, ["--state-dir", str(tmp_path), *given])
    assert [config.lsd for config in configs] == [lsd]
    assert not Config().lsd
