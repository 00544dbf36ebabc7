"""What the options of a node make of its configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from dht_torrent import Config
from dht_torrent.cli.main import cli


def config_of(given: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Of the node that runs with these options."""
    configs: list[Config] = []
    monkeypatch.setattr("dht_torrent.cli.logs.log_to_stderr", lambda *given: None)

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


@pytest.mark.parametrize(("given", "maps"), [([], True), (["--no-port-mapping"], False)])
def test_the_router_is_asked_to_let_peers_in_unless_no_port_mapping_is_given(
    given: list[str], maps: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert config_of(given, tmp_path, monkeypatch).port_mapping == maps
    assert not Config().port_mapping


@pytest.mark.parametrize(("given", "pex"), [([], True), (["--no-pex"], False)])
def test_peers_are_told_of_others_unless_no_pex_is_given(
    given: list[str], pex: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert config_of(given, tmp_path, monkeypatch).pex == pex
    assert Config().pex


@pytest.mark.parametrize(
    ("given", "enabled", "rate"),
    [
        ([], False, 10.0),
        (["--crawl"], True, 10.0),
        (["--crawl", "--crawl-rate", "20"], True, 20.0),
        (["--crawl-rate", "0.5", "--crawl"], True, 0.5),
    ],
)
def test_the_dht_is_crawled_only_where_that_is_asked_for(
    given: list[str], enabled: bool, rate: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crawl = config_of(given, tmp_path, monkeypatch).crawl
    assert (crawl.enabled, crawl.rate) == (enabled, rate)
    assert not Config().crawl.enabled


@pytest.mark.parametrize(
    "given", ["--crawl --crawl-rate 21", "--crawl --crawl-rate 0", "--crawl-rate 5"]
)
def test_a_crawl_faster_than_is_polite_is_refused(given: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["--state-dir", str(tmp_path), *given.split()])
    assert result.exit_code == 2
    assert "--crawl-rate" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_deny_list_is_named_by_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert config_of([], tmp_path, monkeypatch).deny_list is None
    deny = config_of(["--deny", "words.txt"], tmp_path, monkeypatch).deny_list
    assert deny == Path("words.txt").absolute()


def test_an_ip_filter_is_named_by_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert config_of([], tmp_path, monkeypatch).ip_filter is None
    given = config_of(["--ip-filter", "list.p2p"], tmp_path, monkeypatch).ip_filter
    assert given == Path("list.p2p").absolute()


def test_an_ip_filter_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    options = ["--state-dir", str(tmp_path), "--ip-filter", str(tmp_path / "none.dat")]
    result = CliRunner().invoke(cli, options)
    assert result.exit_code == 2
    assert result.stderr == f"dhtnode: {tmp_path}/none.dat: No such file or directory\n"


def test_a_proxy_is_given_as_an_option_or_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert config_of([], tmp_path, monkeypatch).proxy is None
    monkeypatch.setenv("DHTNODE_PROXY", "socks5://me:x@h")
    assert config_of([], tmp_path, monkeypatch).proxy == "socks5://me:x@h"
    assert config_of(["--proxy", "socks5://i"], tmp_path, monkeypatch).proxy == "socks5://i"


@pytest.mark.parametrize("url", ["http://h:1", "socks5://h:0"])
def test_a_proxy_of_another_kind_is_refused_in_a_line(url: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["--state-dir", str(tmp_path), "--proxy", url])
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1


def test_a_password_that_all_can_read_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = ["--state-dir", str(tmp_path), "--listen", "nowhere"]
    result = CliRunner().invoke(cli, [*bad, "--proxy", "socks5://me:secret@h"])
    assert "give it in DHTNODE_PROXY" in result.stderr
    assert "secret" not in result.stderr
    assert "DHTNODE_PROXY" not in CliRunner().invoke(cli, [*bad, "--proxy", "socks5://h"]).stderr
    monkeypatch.setenv("DHTNODE_PROXY", "socks5://me:secret@h")
    assert "DHTNODE_PROXY" not in CliRunner().invoke(cli, bad).stderr


@pytest.mark.parametrize(
    ("given", "tcp", "utp"),
    [([], True, True), (["--no-utp"], True, False), (["--no-tcp"], False, True)],
)
def test_peers_are_reached_over_both_tcp_and_utp_unless_one_is_off(
    given: list[str], tcp: bool, utp: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(given, tmp_path, monkeypatch)
    assert (config.tcp, config.utp.enabled) == (tcp, utp)


def test_a_node_that_could_reach_nobody_is_refused_in_one_line(tmp_path: Path) -> None:
    given = ["--state-dir", str(tmp_path), "--no-tcp", "--no-utp"]
    result = CliRunner().invoke(cli, given)
    assert result.exit_code == 2
    assert "TCP and uTP are both off" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_node_that_a_command_runs_for_itself_goes_through_the_proxy_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DHTNODE_PROXY", "socks5://h")
    assert config_of(["publishers"], tmp_path, monkeypatch).proxy == "socks5://h"
